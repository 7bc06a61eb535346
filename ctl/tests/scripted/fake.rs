//! The daemon that only says what a test wrote down, and what is made of what it says.

use std::fs::{File, Permissions};
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;

use serde_json::{Value, json};
use tempfile::TempDir;

/// What the daemon says to one request.
pub enum Say {
    Result(Value),
    Error(i64, &'static str),
    Event(&'static str, Value),
    Change(Value),
    Lagged,
    Raw(&'static str),
    Nothing,
}

use Say::{Change, Error, Event, Lagged, Nothing, Raw, Result};

type Script = dyn FnMut(&str, &Value) -> Vec<Say> + Send;

/// A daemon in a home of its own.
pub struct Fake {
    pub home: TempDir,
    asked: Arc<Mutex<Vec<(String, Value)>>>,
}

impl Fake {
    pub fn new(script: impl FnMut(&str, &Value) -> Vec<Say> + Send + 'static) -> Self {
        Self::speaking(1, script)
    }

    pub fn speaking(protocol: u32, script: impl FnMut(&str, &Value) -> Vec<Say> + Send + 'static) -> Self {
        let home = TempDir::new().unwrap();
        let listener = UnixListener::bind(home.path().join("control.sock")).unwrap();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let script: Arc<Mutex<Script>> = Arc::new(Mutex::new(script));
        let log = asked.clone();
        thread::spawn(move || {
            for stream in listener.incoming() {
                let (script, log) = (script.clone(), log.clone());
                thread::spawn(move || serve(&stream.unwrap(), protocol, &script, &log));
            }
        });
        Self { home, asked }
    }

    pub fn command(&self, line: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_kithctl"));
        command.arg("--home").arg(self.home.path()).args(line.split(' ')).stdin(Stdio::null());
        command
    }

    pub fn run(&self, line: &str) -> Ran {
        Ran::from(self.command(line).output().unwrap())
    }

    pub fn run_with_input(&self, line: &str, input: Stdio) -> Ran {
        Ran::from(self.command(line).stdin(input).output().unwrap())
    }

    /// Runs a command with this on its standard input.
    pub fn run_fed(&self, line: &str, input: &[u8]) -> Ran {
        let path = self.file("input", input);
        self.run_with_input(line, File::open(path).unwrap().into())
    }

    /// A file in the daemon's home that nobody else can read, by its path.
    pub fn file(&self, name: &str, content: &[u8]) -> String {
        let path = self.home.path().join(name);
        let mut file = File::create(&path).unwrap();
        file.set_permissions(Permissions::from_mode(0o600)).unwrap();
        file.write_all(content).unwrap();
        path.to_str().unwrap().to_owned()
    }

    pub fn asked(&self, method: &str) -> Vec<Value> {
        self.asked
            .lock()
            .unwrap()
            .iter()
            .filter(|(asked, _)| asked == method)
            .map(|(_, params)| params.clone())
            .collect()
    }
}

fn serve(stream: &UnixStream, protocol: u32, script: &Mutex<Script>, log: &Mutex<Vec<(String, Value)>>) {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    while reader.read_line(&mut line).is_ok_and(|read| read > 0) {
        let request: Value = serde_json::from_str(&line).unwrap();
        line.clear();
        let (id, method, params) = (&request["id"], request["method"].as_str().unwrap(), &request["params"]);
        assert_eq!(request["jsonrpc"], "2.0");
        log.lock().unwrap().push((method.to_owned(), params.clone()));
        let said = match method {
            "daemon.hello" => vec![Result(json!({
                "server": "fake 1", "protocol": protocol, "min_protocol": protocol.min(1), "boot_id": "b", "methods": [], "newer": 1,
            }))],
            _ => script.lock().unwrap()(method, params),
        };
        for say in said {
            let line = match say {
                Result(result) => json!({"jsonrpc": "2.0", "id": id, "result": result}).to_string(),
                Error(rpc, code) => {
                    json!({"jsonrpc": "2.0", "id": id, "error": {"code": rpc, "message": "no", "data": {"code": code, "hint": "do"}}})
                        .to_string()
                }
                Event(kind, data) => event(&json!({"seq": 1, "time": "t", "kind": kind, "data": data, "newer": [1]})),
                Change(data) => event(&json!({"kind": "entry:changed", "data": data, "newer": [1]})),
                Lagged => event(&json!({"kind": "lagged", "data": {"missed": 3}})),
                Raw(text) => text.to_owned(),
                Nothing => continue,
            };
            if writeln!(&*stream, "{line}").is_err() {
                return;
            }
        }
    }
}

fn event(params: &Value) -> String {
    json!({"jsonrpc": "2.0", "method": "event", "params": params}).to_string()
}

/// How a run ended.
#[derive(Debug)]
pub struct Ran {
    pub exit: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl From<Output> for Ran {
    fn from(output: Output) -> Self {
        Self {
            exit: output.status.code(),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }
}

impl Ran {
    pub fn lines(&self) -> Vec<Value> {
        self.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    pub fn error_code(&self) -> String {
        let error: Value = serde_json::from_str(&self.stderr).unwrap_or_else(|_| panic!("not one error: {self:?}"));
        error["error"]["code"].as_str().unwrap().to_owned()
    }
}

pub fn snapshot() -> Say {
    Result(
        json!({"cursor": 0, "boot_id": "b", "snapshot": {"peers": [], "pairings": [], "transfers": [], "questions": []}}),
    )
}

pub fn transfer(changes: &Value) -> Value {
    let mut transfer = json!({
        "id": "t1", "direction": "out", "peer": {"id": "9a4f0b2c00000000", "name": "nas"}, "state": "done", "title": "x",
        "entries": 1, "entries_done": 1, "bytes": 5, "bytes_done": 5, "preview": [{"path": "x", "kind": "file"}],
        "problem_count": 0,
        "created": "c", "updated": "u",
    });
    for (key, value) in changes.as_object().unwrap() {
        transfer[key] = value.clone();
    }
    transfer
}

pub fn state(state: &str) -> Value {
    transfer(&json!({"state": state}))
}

pub fn updated(transfer: Value) -> Say {
    Event("transfer:updated", transfer)
}

/// Reads one line, and closes the pipe.
pub fn first_line(child: &mut Child) {
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert!(line.ends_with('\n'));
}

pub fn interrupt(child: &Child) {
    let pid = rustix::process::Pid::from_child(child);
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
}
