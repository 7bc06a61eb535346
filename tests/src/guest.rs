//! Guests: a receive window of a device, and those who send to it as Tella's apps do, in both versions of the protocol.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};

use kith_proto::guest::CertificateHash;
use serde_json::{Value, json};

use crate::door::Door;
use crate::host::Host;
use crate::https::{Answer, Caller, Identity};
use crate::{PATIENCE, wait};

/// An open receive window. It ends with this value.
pub struct Window {
    door: Door,
    /// Names it.
    pub name: String,
    /// What a guest types.
    pub pin: String,
    /// Where the guest door listens.
    pub port: u16,
    /// What people compare.
    pub hash: String,
    /// What apps scan.
    pub qr: Value,
    /// Where files go.
    pub dir: PathBuf,
}

impl Window {
    /// Opens one in which whoever knows the PIN is let in.
    #[track_caller]
    pub fn open(host: &Host) -> Self {
        Self::with(host, &json!({ "accept": true }))
    }

    /// Opens one in which somebody is asked.
    #[track_caller]
    pub fn asking(host: &Host) -> Self {
        Self::with(host, &json!({ "accept": false }))
    }

    /// Opens one with these parameters, whose files go below the home unless they say otherwise.
    #[track_caller]
    pub fn with(host: &Host, params: &Value) -> Self {
        let mut params = params.clone();
        if params["dir"].is_null() {
            let dir = host.path("guests");
            std::fs::create_dir_all(&dir).expect("the home is ours");
            params["dir"] = json!(dir);
        }
        let dir = params["dir"].as_str().expect("a path").into();
        let mut door = host.door();
        let shown = door.call("guest.open", params);
        Self::of(door, &shown, dir)
    }

    /// The window that the configuration keeps open. It does not end with this value.
    #[track_caller]
    pub fn standing(host: &Host) -> Self {
        let mut door = host.door();
        let shown = wait::until("the door", PATIENCE, || door.try_call("guest.show", json!({})).ok());
        Self::of(door, &shown, host.received())
    }

    #[track_caller]
    fn of(door: Door, shown: &Value, dir: PathBuf) -> Self {
        let text = |key: &str| shown[key].as_str().unwrap_or_else(|| panic!("{key} in {shown}")).to_owned();
        let qr = serde_json::from_str(&text("qr")).expect("a QR is JSON");
        let port = shown["port"].as_u64().and_then(|port| u16::try_from(port).ok()).expect("a port");
        let (name, pin, hash) = (text("window"), text("pin"), text("certificate_hash"));
        Self { door, name, pin, port, hash, qr, dir }
    }

    /// Ends it now, and waits until it is over.
    #[track_caller]
    pub fn close(mut self) {
        self.door.call("guest.close", json!({ "window": self.name }));
    }

    /// Somebody who calls it from this machine, without a certificate.
    pub fn caller(&self) -> Caller {
        Caller::new(SocketAddr::from(([127, 0, 0, 1], self.port)))
    }

    /// A guest that speaks `version` of the protocol, in the second with a certificate.
    pub fn guest(&self, version: u32) -> Guest {
        let caller = self.caller();
        Guest { caller: if version == 2 { caller.showing(&Identity::new()) } else { caller }, version }
    }

    /// A PIN that is not this one.
    pub fn wrong_pin(&self) -> String {
        let pin: u32 = self.pin.parse().expect("six digits");
        format!("{:06}", (pin + 1) % 1_000_000)
    }

    /// The names of what arrived, sorted; what is unfinished counts too.
    pub fn names(&self) -> Vec<String> {
        let entries = std::fs::read_dir(&self.dir).into_iter().flatten().flatten();
        let mut names: Vec<String> = entries.map(|it| it.file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }

    /// The content of a file that arrived.
    #[track_caller]
    pub fn read(&self, name: &str) -> Vec<u8> {
        std::fs::read(self.dir.join(name))
            .unwrap_or_else(|error| panic!("{name}: {error}; there are {:?}", self.names()))
    }
}

/// Somebody who sends as the apps do, one request a connection.
#[derive(Clone)]
pub struct Guest {
    /// How it calls.
    pub caller: Caller,
    /// What it speaks: 1 or 2.
    pub version: u32,
}

impl Guest {
    /// The same guest, calling in another way.
    #[must_use]
    pub fn calling(&self, change: impl FnOnce(Caller) -> Caller) -> Self {
        Self { caller: change(self.caller.clone()), version: self.version }
    }

    /// The path of a request.
    pub fn path(&self, what: &str) -> String {
        format!("/api/v{}/{what}", self.version)
    }

    /// Posts a body as it is, as JSON.
    #[track_caller]
    pub fn post(&self, what: &str, body: &[u8]) -> Answer {
        self.caller.ask(&self.posting(what, body))
    }

    /// The request that posts a body.
    pub fn posting(&self, what: &str, body: &[u8]) -> Vec<u8> {
        request("POST", &self.path(what), &[("Content-Type", "application/json"), ("Connection", "close")], body)
    }

    /// `ping`
    #[track_caller]
    pub fn ping(&self) -> Answer {
        self.post("ping", b"")
    }

    /// `register`
    #[track_caller]
    pub fn register(&self, pin: &str) -> Answer {
        self.post("register", &registering(pin))
    }

    /// `register`, which succeeds: the session.
    #[track_caller]
    pub fn session(&self, pin: &str) -> String {
        let answer = self.register(pin).expect(200).json();
        text(&answer, "sessionId")
    }

    /// `prepare-upload`
    #[track_caller]
    pub fn prepare(&self, session: &str, files: &[File]) -> Answer {
        self.post("prepare-upload", &preparing(session, files))
    }

    /// `prepare-upload`, which succeeds: what permits to upload each of the files, in their order.
    #[track_caller]
    pub fn prepared(&self, session: &str, files: &[File]) -> Vec<String> {
        let answer = self.prepare(session, files).expect(200).json();
        let accepted = answer["files"].as_array().expect("files");
        assert_eq!(accepted.len(), files.len(), "{answer}");
        let one = |file: &File| accepted.iter().find(|it| it["id"] == file.id.as_str()).expect("every file");
        files.iter().map(|file| text(one(file), "transmissionId")).collect()
    }

    /// `upload`
    #[track_caller]
    pub fn upload(&self, session: &str, file: &File, transmission: &str) -> Answer {
        self.caller.ask(&self.uploading(session, file, transmission))
    }

    /// The request that uploads a file.
    pub fn uploading(&self, session: &str, file: &File, transmission: &str) -> Vec<u8> {
        request("PUT", &self.upload_path(session, &file.id, transmission), &[("Connection", "close")], &file.content)
    }

    /// The target of an upload.
    pub fn upload_path(&self, session: &str, file: &str, transmission: &str) -> String {
        let nonce = fresh();
        let query = format!("sessionId={session}&fileId={file}&transmissionId={transmission}&nonce={nonce}");
        self.path(&format!("upload?{query}"))
    }

    /// `close-connection`
    #[track_caller]
    pub fn close(&self, session: &str) -> Answer {
        self.post("close-connection", json!({ "sessionId": session }).to_string().as_bytes())
    }

    /// Registers, offers, uploads and closes; every step succeeds.
    #[track_caller]
    pub fn send(&self, pin: &str, files: &[File]) {
        let session = self.session(pin);
        let transmissions = self.prepared(&session, files);
        for (file, transmission) in files.iter().zip(&transmissions) {
            self.upload(&session, file, transmission).expect(200);
        }
        self.close(&session).expect(200);
    }
}

/// A file to send.
#[derive(Debug, Clone)]
pub struct File {
    /// How it is named in the session.
    pub id: String,
    /// Its label.
    pub name: String,
    /// Its media type.
    pub media_type: String,
    /// What it holds.
    pub content: Vec<u8>,
}

impl File {
    /// A file with a new id.
    pub fn new(name: &str, content: &[u8]) -> Self {
        let media_type = "application/octet-stream".to_owned();
        Self { id: fresh(), name: name.to_owned(), media_type, content: content.to_vec() }
    }

    /// What is said about it when it is offered.
    pub fn offer(&self) -> Value {
        json!({
            "id": self.id,
            "fileName": self.name,
            "size": self.content.len(),
            "fileType": self.media_type,
            "sha256": sha256(&self.content),
        })
    }
}

/// The body of `register`.
pub fn registering(pin: &str) -> Vec<u8> {
    json!({ "pin": pin, "nonce": fresh() }).to_string().into_bytes()
}

/// The body of `prepare-upload`.
pub fn preparing(session: &str, files: &[File]) -> Vec<u8> {
    let files: Vec<Value> = files.iter().map(File::offer).collect();
    offering(session, &Value::from(files))
}

/// The body of `prepare-upload`, whatever the files are.
pub fn offering(session: &str, files: &Value) -> Vec<u8> {
    json!({ "title": "Report", "sessionId": session, "nonce": fresh(), "files": files }).to_string().into_bytes()
}

/// A request with its length, and with these headers besides.
pub fn request(method: &str, target: &str, headers: &[(&str, &str)], body: &[u8]) -> Vec<u8> {
    let mut head = format!("{method} {target} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {}\r\n", body.len());
    for (name, value) in headers {
        head = format!("{head}{name}: {value}\r\n");
    }
    [head.as_bytes(), b"\r\n", body].concat()
}

/// SHA-256 in lower-case hex digits.
pub fn sha256(bytes: &[u8]) -> String {
    // A certificate hash is nothing else.
    CertificateHash::of(bytes).to_string()
}

/// Another UUID each time, upper case as iOS writes them.
pub fn fresh() -> String {
    static LAST: AtomicU64 = AtomicU64::new(0);
    let number = LAST.fetch_add(1, Ordering::Relaxed);
    format!("6F9619FF-8B86-4011-B42D-{number:012X}")
}

/// A text in an object, which is there.
#[track_caller]
pub fn text(object: &Value, key: &str) -> String {
    object[key].as_str().unwrap_or_else(|| panic!("{key} in {object}")).to_owned()
}

/// Waits until somebody is asked a question of this kind.
#[track_caller]
pub fn question(host: &Host, kind: &str) -> Value {
    let mut door = host.door();
    wait::until(&format!("a question to {kind}"), PATIENCE, || {
        let state = door.call("events.subscribe", json!({ "kinds": [] }));
        let questions = state["snapshot"]["questions"].as_array()?.clone();
        questions.into_iter().find(|it| it["kind"] == kind)
    })
}

/// Answers the next question of this kind.
#[track_caller]
pub fn answer(host: &Host, kind: &str, accept: bool) {
    let question = question(host, kind);
    host.door().call("guest.answer", json!({ "question": question["question"], "accept": accept }));
}

/// Waits for the next offer, and answers it.
#[track_caller]
pub fn decide(host: &Host, accept: bool) -> Value {
    let mut door = host.door();
    let offer = wait::until("an offer", PATIENCE, || {
        let inbox = door.call("inbox.list", json!({}));
        inbox["transfers"].get(0).cloned()
    });
    let method = if accept { "inbox.accept" } else { "inbox.reject" };
    door.call(method, json!({ "transfer": offer["id"] }));
    offer
}

/// Does `work`, which has to wait for somebody, and what that somebody does `meanwhile`.
#[track_caller]
pub fn during<T: Send>(work: impl FnOnce() -> T + Send, meanwhile: impl FnOnce()) -> T {
    std::thread::scope(|scope| {
        let waiting = scope.spawn(work);
        meanwhile();
        match waiting.join() {
            Ok(outcome) => outcome,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })
}
