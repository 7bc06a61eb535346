//! `kithd hello`: a hello store as a server of its own.

use std::fs::File;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::process::Signal;

use crate::https::Caller;
use crate::{PATIENCE, binaries, process, require, wait};

/// A server that runs. Dropped: it is killed.
pub struct HelloServer {
    child: Child,
    log: PathBuf,
    place: SocketAddr,
    metrics: SocketAddr,
}

/// `kithd hello` with `store` in its environment, which is empty otherwise, on ports that are free unless `options` name
/// others; not run.
pub fn command(home: &Path, store: &str, options: &[&str]) -> Command {
    let mut command = Command::new(binaries::kithd());
    command.env_clear().env("PATH", require::search_path()).env("HOME", home).env("RUST_BACKTRACE", "1");
    command.env("KITH_HELLO_STORE", store).current_dir(home);
    command.arg("hello").args(options);
    for place in ["--listen", "--metrics"] {
        if !options.contains(&place) {
            command.args([place, "127.0.0.1:0"]);
        }
    }
    command
}

impl HelloServer {
    /// Starts one that keeps its certificate and its log in `home`, and waits until it says that it is ready.
    #[track_caller]
    pub fn start(home: &Path, store: &str, options: &[&str]) -> Self {
        Self::run(home, command(home, store, options))
    }

    /// Starts this one.
    #[track_caller]
    pub fn run(home: &Path, mut command: Command) -> Self {
        let log = tempfile::Builder::new().prefix("log-").tempfile_in(home).expect("the home is ours");
        let (file, log) = log.keep().expect("a file can be kept");
        let notify = log.with_extension("notify");
        let notices = UnixDatagram::bind(&notify).expect("a socket in the home");
        notices.set_read_timeout(Some(Duration::from_millis(20))).expect("a timeout can be set");
        command.env("NOTIFY_SOCKET", &notify).stdin(Stdio::null()).stdout(Stdio::null()).stderr(file);
        let mut child = command.spawn().expect("kithd can be run");
        let ready = wait::attempt(PATIENCE, || {
            let mut bytes = [0; 4096];
            match notices.recv(&mut bytes) {
                Ok(len) => bytes[..len].starts_with(b"READY=1").then_some(true),
                Err(_) => (!matches!(child.try_wait(), Ok(None))).then_some(false),
            }
        });
        let said = read(&log);
        if ready != Some(true) {
            process::reap(&mut child);
            panic!("kithd hello did not become ready; its log:\n{said}");
        }
        let at = |name: &str| {
            let (_, rest) = said.split_once(&format!(" {name}=")).expect("it says where it listens");
            let address = rest.split_whitespace().next().unwrap_or_default();
            address.parse().unwrap_or_else(|_| panic!("{address:?} is no address"))
        };
        let (place, metrics) = (at("place"), at("metrics"));
        Self { child, log, place, metrics }
    }

    /// Where it serves HTTPS.
    pub fn place(&self) -> SocketAddr {
        self.place
    }

    /// Where it tells how it fares.
    pub fn metrics(&self) -> SocketAddr {
        self.metrics
    }

    /// Somebody who calls it.
    pub fn caller(&self) -> Caller {
        Caller::new(self.place)
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it has logged so far.
    pub fn log(&self) -> String {
        read(&self.log)
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        process::send(self.child.id(), signal);
    }

    /// Ends it as a service manager does, and returns its exit code.
    #[track_caller]
    pub fn stop(mut self) -> i32 {
        self.signal(Signal::TERM);
        let status = process::wait_for_exit(&mut self.child, PATIENCE);
        process::code(status.unwrap_or_else(|| panic!("kithd hello does not end; its log:\n{}", self.log())))
    }

    /// What it tells of itself under `path`: status and body.
    #[track_caller]
    pub fn tells(&self, path: &str) -> (u16, String) {
        let mut stream = TcpStream::connect_timeout(&self.metrics, PATIENCE).expect("it listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout can be set");
        let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).expect("it reads");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("it answers");
        let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
        (status.unwrap_or_else(|| panic!("no status: {head}")), body.to_owned())
    }

    /// The value of a metric, with its labels as they are written.
    #[track_caller]
    pub fn metric(&self, name: &str) -> f64 {
        let (_, text) = self.tells("/metrics");
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.and_then(|value| value.parse().ok()).unwrap_or_else(|| panic!("no {name} in:\n{text}"))
    }
}

impl Drop for HelloServer {
    fn drop(&mut self) {
        process::reap(&mut self.child);
        if std::thread::panicking() {
            eprintln!("---- log of kithd hello ----\n{}", self.log());
        }
    }
}

fn read(log: &Path) -> String {
    let mut text = Vec::new();
    if let Ok(mut file) = File::open(log) {
        drop(file.read_to_end(&mut text));
    }
    String::from_utf8_lossy(&text).into_owned()
}

/// A blob under a name, as its owner puts it there.
#[derive(Clone)]
pub struct Blob {
    /// The last segment of its path.
    pub name: String,
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// Who has it may take it away.
    pub token: String,
}

impl Blob {
    /// One of its own for each number.
    pub fn new(number: u64, bytes: &[u8]) -> Self {
        let name = kith_proto::guest::hello::Lookup(*blake3::hash(&number.to_be_bytes()).as_bytes()).to_text();
        Self { name, bytes: bytes.to_vec(), token: format!("the-token-of-owner-{number}") }
    }

    /// `PUT`
    pub fn put(&self) -> Vec<u8> {
        use sha2::{Digest, Sha256};
        let owner = data_encoding::HEXLOWER.encode(&Sha256::digest(&self.token));
        request("PUT", &self.name, &format!("Hello-Owner: {owner}\r\n"), &self.bytes)
    }

    /// `GET`
    pub fn get(&self) -> Vec<u8> {
        request("GET", &self.name, "", b"")
    }

    /// `DELETE`
    pub fn delete(&self) -> Vec<u8> {
        request("DELETE", &self.name, &format!("Authorization: Bearer {}\r\n", self.token), b"")
    }
}

/// A request for a name, with more lines in its head.
pub fn request(method: &str, name: &str, lines: &str, body: &[u8]) -> Vec<u8> {
    let length = body.len();
    let head = format!("{method} /v1/hello/{name} HTTP/1.1\r\nHost: hello\r\n{lines}Content-Length: {length}\r\n\r\n");
    [head.as_bytes(), body].concat()
}
