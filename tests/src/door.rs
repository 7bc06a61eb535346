//! The control socket by hand: for tests of the door itself, and for what kithctl would never say.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::Path;

use serde_json::{Value, json};

use crate::PATIENCE;

/// A connection to the local door.
pub struct Door {
    stream: BufReader<UnixStream>,
    asked: u64,
}

impl Door {
    /// Connects to the socket at `path`.
    #[track_caller]
    pub fn connect(path: &Path) -> Self {
        match UnixStream::connect(path) {
            Ok(stream) => Self::over(stream),
            Err(error) => panic!("cannot connect to {}: {error}", path.display()),
        }
    }

    /// Speaks over `stream`. No wait is endless.
    pub fn over(stream: UnixStream) -> Self {
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout can be set");
        stream.set_write_timeout(Some(PATIENCE)).expect("a timeout can be set");
        Self { stream: BufReader::new(stream), asked: 0 }
    }

    /// Sends bytes as they are. Says whether the daemon took them: it may have hung up.
    pub fn write(&mut self, bytes: &[u8]) -> bool {
        self.stream.get_mut().write_all(bytes).is_ok()
    }

    /// Sends one request and returns its id, without waiting.
    #[track_caller]
    pub fn ask(&mut self, method: &str, params: Value) -> u64 {
        self.asked += 1;
        let mut request = json!({"jsonrpc": "2.0", "id": self.asked, "method": method});
        request["params"] = params;
        assert!(self.write(format!("{request}\n").as_bytes()), "the daemon hung up before {method}");
        self.asked
    }

    /// The result of `method`, or its `error`. Notifications that come before it are passed over.
    #[track_caller]
    pub fn try_call(&mut self, method: &str, params: Value) -> Result<Value, Value> {
        let id = self.ask(method, params);
        loop {
            let mut message = self.read().unwrap_or_else(|| panic!("the daemon hung up instead of answering {method}"));
            if message["id"] == id {
                return match message["error"].take() {
                    Value::Null => Ok(message["result"].take()),
                    error => Err(error),
                };
            }
        }
    }

    /// The result of `method`, which succeeds.
    #[track_caller]
    pub fn call(&mut self, method: &str, params: Value) -> Value {
        match self.try_call(method, params) {
            Ok(result) => result,
            Err(error) => panic!("{method}: {error}"),
        }
    }

    /// The stable code with which `method` fails.
    #[track_caller]
    pub fn refused(&mut self, method: &str, params: Value) -> String {
        match self.try_call(method, params) {
            Ok(result) => panic!("{method} was to fail and returned {result}"),
            Err(error) => error["data"]["code"].as_str().unwrap_or_default().to_owned(),
        }
    }

    /// The next message; `None` when the daemon has hung up. Panics when it says nothing for longer than patience.
    #[track_caller]
    pub fn read(&mut self) -> Option<Value> {
        let mut line = Vec::new();
        match self.stream.read_until(b'\n', &mut line) {
            Ok(0) => None,
            Ok(_) => match serde_json::from_slice(&line) {
                Ok(message) => Some(message),
                Err(error) => panic!("not a line of JSON ({error}): {}", String::from_utf8_lossy(&line)),
            },
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => None,
            Err(error) => panic!("the daemon says nothing: {error}"),
        }
    }

    /// The next notification that `wanted` accepts, within the events that come.
    #[track_caller]
    pub fn event(&mut self, mut wanted: impl FnMut(&Value) -> bool) -> Value {
        loop {
            let mut message = self.read().expect("the daemon goes on with its events");
            if message["method"] == "event" && wanted(&message["params"]) {
                return message["params"].take();
            }
        }
    }

    /// Everything until the daemon hangs up.
    pub fn rest(&mut self) -> Vec<u8> {
        let mut rest = Vec::new();
        match self.stream.read_to_end(&mut rest) {
            Ok(_) => rest,
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => rest,
            Err(error) => panic!("the daemon does not hang up: {error}"),
        }
    }

    /// Shuts our side for writing: no more requests will come.
    pub fn half_close(&self) {
        self.stream.get_ref().shutdown(Shutdown::Write).expect("an open socket can be shut");
    }
}
