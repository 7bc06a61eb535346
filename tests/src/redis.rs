//! A Redis server of one's own: Debian's `redis-server`, on a free port of this machine, in a directory of its own.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;

use rustix::process::Signal;
use tempfile::TempDir;

use crate::process::Running;
use crate::{PATIENCE, require, wait};

/// A server. Dropped: it is killed, and what it kept removed.
pub struct Redis {
    running: Option<Running>,
    port: u16,
    options: Vec<String>,
    home: TempDir,
}

impl Redis {
    /// A server in memory alone, with more `options` (`--maxmemory 4mb`); `None`, and a word, where there is none.
    pub fn start(options: &[&str]) -> Option<Self> {
        Self::under(&std::env::temp_dir(), options)
    }

    /// As [`Redis::start`], its directory below `parent`.
    pub fn under(parent: &Path, options: &[&str]) -> Option<Self> {
        if require::program("redis-server").is_none() {
            require::skip("redis", "redis-server is missing (Debian: redis-server)");
            return None;
        }
        let home = tempfile::Builder::new().prefix("kith-redis-").tempdir_in(parent).expect("a temporary directory");
        let options = options.iter().map(|&option| option.to_owned()).collect();
        let mut redis = Self { running: None, port: 0, options, home };
        // Somebody else may take the port between its choice and its use.
        for _ in 0..8 {
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
            redis.port = listener.local_addr().expect("a bound socket has an address").port();
            drop(listener);
            if redis.launch() {
                return Some(redis);
            }
        }
        panic!("redis-server does not start");
    }

    /// Where it is, without a password.
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// What it listens on.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Ends it at whatever instruction it is. What it kept in memory is lost.
    #[track_caller]
    pub fn kill(&mut self) {
        drop(self.running.take().expect("it runs"));
    }

    /// Starts it again, on the same port.
    #[track_caller]
    pub fn revive(&mut self) {
        assert!(self.running.is_none(), "it runs");
        assert!(self.launch(), "redis-server does not start again");
    }

    /// Stops it where it is: it neither answers nor ends.
    pub fn freeze(&self) {
        self.running.as_ref().expect("it runs").signal(Signal::STOP);
    }

    /// Lets it go on.
    pub fn thaw(&self) {
        self.running.as_ref().expect("it runs").signal(Signal::CONT);
    }

    /// What it answers to a command in one line (`INFO memory`), as it crosses the wire: one short answer.
    #[track_caller]
    pub fn ask(&self, command: &str) -> String {
        self.try_ask(command).unwrap_or_else(|error| panic!("{command}: {error}"))
    }

    fn try_ask(&self, command: &str) -> std::io::Result<String> {
        let mut stream = TcpStream::connect_timeout(&SocketAddr::from((Ipv4Addr::LOCALHOST, self.port)), PATIENCE)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.write_all(format!("{command}\r\nQUIT\r\n").as_bytes())?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    }

    /// Whether it came up.
    fn launch(&mut self) -> bool {
        let program = require::program("redis-server").expect("it was there a moment ago");
        let mut command = Command::new(program);
        command.env_clear().current_dir(self.home.path());
        command.args(["--port", &self.port.to_string(), "--bind", "127.0.0.1", "--daemonize", "no"]);
        command.args(["--save", "", "--appendonly", "no"]).args(&self.options);
        let mut running = Running::spawn(&mut command);
        let up = wait::attempt(PATIENCE, || {
            if !running.is_running() {
                return Some(false);
            }
            // One with a password says so instead.
            let answer = self.try_ask("PING").ok()?;
            (answer.starts_with("+PONG") || answer.starts_with("-NOAUTH")).then_some(true)
        });
        self.running = Some(running);
        up == Some(true)
    }
}
