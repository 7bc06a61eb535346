//! A receiver as the apps are: strict about heads, one request a connection, with the oddities that a test asks for.

use std::collections::{BTreeMap, HashSet};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use kith_proto::guest::CertificateHash;
use rustls::ServerConfig;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;

use crate::task::Tasks;
use crate::tls::guest::{Certificate, shown};

pub const PIN: &str = "123456";
/// Opaque, so it needs to be encoded in a query.
const SESSION: &str = "s/1+ä&x=";
const PATIENCE: Duration = Duration::from_secs(20);

/// A request.
#[derive(Clone, Debug)]
pub struct Seen {
    pub method: String,
    /// Without the query.
    pub path: String,
    pub query: BTreeMap<String, String>,
    /// `None`: the head alone has come.
    pub body: Option<Vec<u8>>,
    pub certificate: Option<CertificateHash>,
    /// How many requests to the same path came before.
    pub nth: usize,
}

impl Seen {
    /// The last part of the path.
    pub fn step(&self) -> &str {
        self.path.rsplit('/').next().unwrap()
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(self.body.as_deref().unwrap_or_default()).unwrap_or_default()
    }
}

/// What becomes of a request.
pub enum Reply {
    /// An answer.
    Say(u16, String),
    /// An answer as it is written.
    Raw(String),
    /// The same, when it is time.
    Wait(Arc<Notify>, u16, String),
    /// An answer, and then nobody is there for a moment.
    Restart(u16, String),
    /// The connection is cut.
    Cut,
}

type Odd = Box<dyn Fn(&Seen) -> Option<Reply> + Send + Sync>;

/// The receiver.
pub struct App {
    pub address: SocketAddr,
    state: Arc<State>,
}

struct State {
    /// Which requests are answered otherwise. Asked before and after the body is read.
    odd: Odd,
    seen: Mutex<Vec<Seen>>,
    wrong: Mutex<Vec<String>>,
    nonces: Mutex<HashSet<String>>,
    /// Transmissions that were begun.
    begun: Mutex<HashSet<String>>,
    offered: Mutex<BTreeMap<String, Value>>,
    arrived: Mutex<Vec<(String, Vec<u8>)>>,
    tls: Mutex<(Arc<ServerConfig>, CertificateHash)>,
    restart: Notify,
}

fn certificate() -> (Arc<ServerConfig>, CertificateHash) {
    let certificate = Certificate::new(&[Ipv4Addr::LOCALHOST.into()]).unwrap();
    let hash = certificate.hash;
    (certificate.server().unwrap(), hash)
}

impl App {
    pub async fn start(tasks: &Tasks, odd: impl Fn(&Seen) -> Option<Reply> + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(State {
            odd: Box::new(odd),
            seen: Mutex::default(),
            wrong: Mutex::default(),
            nonces: Mutex::default(),
            begun: Mutex::default(),
            offered: Mutex::default(),
            arrived: Mutex::default(),
            tls: Mutex::new(certificate()),
            restart: Notify::new(),
        });
        let (serving, stop, spawner) = (state.clone(), tasks.stopping().clone(), tasks.clone());
        tasks.spawn("app", async move {
            stop.run_until_cancelled(serve(serving, listener, spawner)).await;
        });
        Self { address, state }
    }

    pub fn hash(&self) -> CertificateHash {
        self.state.tls.lock().unwrap().1
    }

    /// From now on, somebody else answers.
    pub fn change_certificate(&self) {
        *self.state.tls.lock().unwrap() = certificate();
    }

    /// Every request so far, as `METHOD step`.
    pub fn steps(&self) -> Vec<String> {
        self.seen().iter().map(|it| format!("{} {}", it.method, it.path.trim_start_matches("/api/"))).collect()
    }

    pub fn seen(&self) -> Vec<Seen> {
        self.state.seen.lock().unwrap().clone()
    }

    /// What arrived whole.
    pub fn arrived(&self) -> Vec<(String, Vec<u8>)> {
        self.state.arrived.lock().unwrap().clone()
    }

    /// Nothing about the requests was wrong.
    #[track_caller]
    pub fn was_content(&self) {
        let wrong = self.state.wrong.lock().unwrap().clone();
        assert!(wrong.is_empty(), "{wrong:#?}\n{:#?}", self.steps());
    }
}

async fn serve(state: Arc<State>, mut listener: TcpListener, tasks: Tasks) {
    let address = listener.local_addr().unwrap();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = state.restart.notified() => {
                drop(listener);
                sleep(Duration::from_millis(700)).await;
                listener = TcpListener::bind(address).await.unwrap();
                continue;
            }
        };
        let Ok((tcp, _)) = accepted else { continue };
        let (state, stop) = (state.clone(), tasks.stopping().clone());
        tasks.spawn("app connection", async move {
            stop.run_until_cancelled(timeout(PATIENCE, state.connection(tcp, address))).await;
        });
    }
}

impl State {
    fn complain(&self, what: impl Into<String>) {
        self.wrong.lock().unwrap().push(what.into());
    }

    async fn connection(&self, tcp: TcpStream, address: SocketAddr) {
        let acceptor = TlsAcceptor::from(self.tls.lock().unwrap().0.clone());
        let Ok(mut stream) = acceptor.accept(tcp).await else { return };
        let certificate = shown(stream.get_ref().1);
        // Once: an app that looks at what came with the first read is the reason for this test.
        let mut buffer = vec![0; 64 << 10];
        let read = stream.read(&mut buffer).await.unwrap_or_default();
        if read == 0 {
            return;
        }
        let Some(end) = buffer[..read].windows(4).position(|four| four == b"\r\n\r\n") else {
            return self.complain("a head in pieces");
        };
        let head = String::from_utf8(buffer[..end].to_vec()).unwrap();
        let (mut seen, length) = self.head(&head, address, certificate);
        let mut reply = (self.odd)(&seen);
        if reply.is_none() {
            let mut body = buffer[end + 4..read].to_vec();
            while body.len() < length {
                match stream.read(&mut buffer).await {
                    Ok(read) if read > 0 => body.extend_from_slice(&buffer[..read]),
                    _ => break,
                }
            }
            let whole = body.len() == length;
            seen.body = Some(body);
            reply = if whole { (self.odd)(&seen) } else { Some(Reply::Cut) };
        }
        self.seen.lock().unwrap().push(seen.clone());
        let (answer, restart) = match reply {
            None => (plain(self.answer(&seen)), false),
            Some(Reply::Say(status, body)) => (plain((status, body)), false),
            Some(Reply::Raw(raw)) => (raw, false),
            Some(Reply::Restart(status, body)) => (plain((status, body)), true),
            Some(Reply::Cut) => return,
            Some(Reply::Wait(until, status, body)) => {
                until.notified().await;
                (plain((status, body)), false)
            }
        };
        if restart {
            self.restart.notify_one();
        }
        let _ = stream.write_all(answer.as_bytes()).await;
        let _ = stream.flush().await;
        if seen.body.is_some() {
            let _ = stream.shutdown().await;
            if stream.read(&mut buffer).await.is_ok_and(|read| read > 0) {
                self.complain("a second request on one connection");
            }
        }
        // Otherwise what was not read resets the connection, as it does in the apps.
    }

    fn head(&self, head: &str, address: SocketAddr, certificate: Option<CertificateHash>) -> (Seen, usize) {
        let mut lines = head.split("\r\n");
        let first: Vec<&str> = lines.next().unwrap().split(' ').collect();
        let mut headers = BTreeMap::new();
        for line in lines {
            let (name, value) = line.split_once(": ").unwrap();
            let title = name.split('-').all(|word| {
                word.starts_with(|c: char| c.is_ascii_uppercase()) && !word[1..].contains(|c: char| c.is_uppercase())
            });
            if !title || headers.insert(name.to_owned(), value.to_owned()).is_some() {
                self.complain(format!("a header: {name}"));
            }
        }
        let (path, query) = first[1].split_once('?').unwrap_or((first[1], ""));
        let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
        let query: BTreeMap<_, _> = pairs.map(|(key, value)| (key.to_owned(), decoded(value))).collect();
        let is = |name: &str, value: &str| headers.get(name).is_some_and(|it| it == value);
        let length = headers.get("Content-Length").and_then(|it| it.parse().ok());
        let is_json = ["register", "prepare-upload", "close-connection"].iter().any(|step| path.ends_with(step));
        if first[2] != "HTTP/1.1"
            || !is("Host", &address.to_string())
            || !is("Connection", "close")
            || length.is_none()
            || headers.contains_key("Expect")
            || headers.contains_key("Transfer-Encoding")
            || (is_json && !is("Content-Type", "application/json"))
            || certificate.is_none()
        {
            self.complain(format!("a head: {head}"));
        }
        let nth = self.seen.lock().unwrap().iter().filter(|it| it.path == path).count();
        let seen = Seen { method: first[0].into(), path: path.into(), query, body: None, certificate, nth };
        (seen, length.unwrap_or_default())
    }

    fn fresh(&self, nonce: Option<&str>) {
        let fresh = nonce.is_some_and(|it| it.len() == 36 && self.nonces.lock().unwrap().insert(it.to_owned()));
        if !fresh {
            self.complain(format!("a nonce: {nonce:?}"));
        }
    }

    /// What an app answers when nothing is odd.
    fn answer(&self, seen: &Seen) -> (u16, String) {
        let body = seen.json();
        if seen.step() != "ping" && seen.step() != "upload" && seen.step() != "close-connection" {
            self.fresh(body["nonce"].as_str());
        }
        let known = |session: Option<&str>| session == Some(SESSION);
        match seen.step() {
            "ping" => (200, "{}".into()),
            "register" if body["pin"] == PIN => (200, json!({ "sessionId": SESSION, "more": [1] }).to_string()),
            "register" | "prepare-upload" | "close-connection" if !known(body["sessionId"].as_str()) => {
                (401, String::new())
            }
            "prepare-upload" => {
                let files = body["files"].as_array().unwrap();
                let mut offered = self.offered.lock().unwrap();
                let accepted = files.iter().map(|file| {
                    let transmission = format!("t+{}/{}", file["id"].as_str().unwrap(), seen.nth);
                    offered.insert(transmission.clone(), file.clone());
                    json!({ "transmissionId": transmission, "id": file["id"], "x": 1 })
                });
                (200, json!({ "files": accepted.collect::<Vec<_>>(), "y": {} }).to_string())
            }
            "upload" => self.upload(seen),
            "close-connection" => (200, "not JSON".into()),
            _ => (404, String::new()),
        }
    }

    fn upload(&self, seen: &Seen) -> (u16, String) {
        let value = |key: &str| seen.query.get(key).map(String::as_str);
        self.fresh(value("nonce"));
        if value("sessionId") != Some(SESSION) {
            return (401, String::new());
        }
        let transmission = value("transmissionId").unwrap_or_default().to_owned();
        let offered = self.offered.lock().unwrap().get(&transmission).cloned();
        let Some(file) = offered.filter(|file| file["id"].as_str() == value("fileId")) else {
            return (403, String::new());
        };
        if !self.begun.lock().unwrap().insert(transmission) {
            self.complain("a transmission id was used again");
            return (409, String::new());
        }
        let body = seen.body.clone().unwrap_or_default();
        let digest = data_encoding::HEXLOWER.encode(&Sha256::digest(&body));
        if file["sha256"] != digest.as_str() || file["size"] != body.len() {
            return (406, String::new());
        }
        self.arrived.lock().unwrap().push((file["fileName"].as_str().unwrap().to_owned(), body));
        (201, String::new())
    }
}

fn plain((status, body): (u16, String)) -> String {
    format!("HTTP/1.1 {status} X\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}", body.len())
}

fn decoded(value: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = value.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'%' => {
                u8::from_str_radix(&format!("{}{}", rest.next().unwrap() as char, rest.next().unwrap() as char), 16)
                    .unwrap()
            }
            byte => byte,
        });
    }
    String::from_utf8(bytes).unwrap()
}

/// An address where nobody listens.
pub async fn nobody() -> SocketAddr {
    TcpListener::bind((IpAddr::from(Ipv4Addr::LOCALHOST), 0)).await.unwrap().local_addr().unwrap()
}
