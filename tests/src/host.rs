//! A device: a home of its own, its daemon, its kithctl. On this machine, or on a host of a lab.

use std::fs::{self, File};
use std::net::{IpAddr, Ipv4Addr};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::process::Signal;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::door::Door;
use crate::lab::{Lab, authority, prefixed};
use crate::process::{self, Output, Running, run};
use crate::terminal::Person;
use crate::{PATIENCE, binaries, require, wait};

/// A device and everything that belongs to it. Dropped: the daemon is killed and the home removed.
pub struct Host {
    name: String,
    home: TempDir,
    prefix: Vec<String>,
    ip: IpAddr,
    daemon: Option<Child>,
    notices: UnixDatagram,
    environment: Vec<(String, String)>,
}

impl Host {
    /// A device on this machine, not started. Its discovery is off, so that tests do not meet each other's devices;
    /// [`Host::configure`] changes that.
    pub fn new(name: &str) -> Self {
        Self::under(&std::env::temp_dir(), name)
    }

    /// As [`Host::new`], its home below `parent`.
    pub fn under(parent: &Path, name: &str) -> Self {
        let host = Self::at(parent, name, Vec::new(), Ipv4Addr::LOCALHOST.into());
        host.configure("[discovery]\nenabled = false\n");
        host
    }

    /// A device on this machine, started.
    #[track_caller]
    pub fn running(name: &str) -> Self {
        let mut host = Self::new(name);
        host.start();
        host
    }

    /// A device on host `i` of `lab`, not started.
    pub fn on(lab: &Lab, i: usize, name: &str) -> Self {
        let host = Self::at(&std::env::temp_dir(), name, lab.prefix(i), lab.ip(i).into());
        host.configure("");
        host
    }

    /// A device on host `i` of `lab`, started.
    #[track_caller]
    pub fn running_on(lab: &Lab, i: usize, name: &str) -> Self {
        let mut host = Self::on(lab, i, name);
        host.start();
        host
    }

    fn at(parent: &Path, name: &str, prefix: Vec<String>, ip: IpAddr) -> Self {
        let home = tempfile::Builder::new().prefix("kith-").tempdir_in(parent).expect("a temporary directory");
        let notices = UnixDatagram::bind(home.path().join("notify.sock")).expect("a socket in the home");
        notices.set_read_timeout(Some(Duration::from_millis(20))).expect("a timeout can be set");
        Self { name: name.to_owned(), home, prefix, ip, daemon: None, notices, environment: Vec::new() }
    }

    /// Replaces the configuration: the name, and `toml` below it.
    pub fn configure(&self, toml: &str) {
        fs::write(self.path("config.toml"), format!("name = \"{}\"\n\n{toml}", self.name)).expect("the home is ours");
    }

    /// Adds a variable to the environment of the daemon, which is empty otherwise.
    pub fn set_env(&mut self, key: &str, value: &str) {
        self.environment.push((key.to_owned(), value.to_owned()));
    }

    /// The name that it announces.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The directory that holds everything of this device.
    pub fn home(&self) -> &Path {
        self.home.path()
    }

    /// A path below the home.
    pub fn path(&self, below: &str) -> PathBuf {
        self.home.path().join(below)
    }

    /// Where files go that no policy sends elsewhere.
    pub fn received(&self) -> PathBuf {
        self.path("received")
    }

    /// The control socket.
    pub fn socket(&self) -> PathBuf {
        self.path("control.sock")
    }

    /// The address that other devices reach it at.
    pub fn ip(&self) -> IpAddr {
        self.ip
    }

    // ---- the daemon

    /// Starts the daemon and waits until it is ready.
    #[track_caller]
    pub fn start(&mut self) {
        self.launch();
        self.wait_ready();
    }

    /// Starts the daemon without waiting for it.
    #[track_caller]
    pub fn launch(&mut self) {
        assert!(self.daemon.is_none(), "{} runs already", self.name);
        while self.notice().is_some() {}
        let log = File::options().create(true).append(true).open(self.path("kithd.log")).expect("the home is ours");
        let mut command = self.kithd_command();
        command.stdin(Stdio::null()).stdout(log.try_clone().expect("a file can be shared")).stderr(log);
        self.daemon = Some(command.spawn().expect("kithd can be run"));
    }

    /// Waits for the daemon's `READY=1`. Panics, with its log, if it ends instead.
    #[track_caller]
    pub fn wait_ready(&mut self) {
        let ready = wait::attempt(PATIENCE, || match self.notice() {
            Some(text) if text.lines().any(|line| line == "READY=1") => Some(true),
            Some(_) => None,
            None => self.has_ended().then_some(false),
        });
        assert_eq!(ready, Some(true), "kithd of {} did not become ready; its log:\n{}", self.name, self.log());
    }

    /// Waits for another notification that has `line` in it.
    #[track_caller]
    pub fn wait_notice(&self, line: &str) {
        wait::until_true(line, PATIENCE, || self.notice().is_some_and(|text| text.lines().any(|have| have == line)));
    }

    /// Ends the daemon as a service manager does, and returns its exit code.
    #[track_caller]
    pub fn stop(&mut self) -> i32 {
        self.signal(Signal::TERM);
        self.wait_exit()
    }

    /// Kills the daemon at whatever instruction it is.
    #[track_caller]
    pub fn kill9(&mut self) {
        self.signal(Signal::KILL);
        self.wait_exit();
    }

    /// Ends the daemon in order and starts it again.
    #[track_caller]
    pub fn restart(&mut self) {
        assert_eq!(self.stop(), 0, "exit code of kithd of {}; its log:\n{}", self.name, self.log());
        self.start();
    }

    /// Sends the daemon a signal.
    #[track_caller]
    pub fn signal(&self, signal: Signal) {
        process::send(self.pid(), signal);
    }

    /// Waits for the daemon to end by itself, and returns its exit code.
    #[track_caller]
    pub fn wait_exit(&mut self) -> i32 {
        let mut daemon = self.daemon.take().expect("a daemon that was started");
        match process::wait_for_exit(&mut daemon, PATIENCE) {
            Some(status) => process::code(status),
            None => {
                process::reap(&mut daemon);
                panic!("kithd of {} does not end; its log:\n{}", self.name, self.log());
            }
        }
    }

    /// The daemon's process id.
    #[track_caller]
    pub fn pid(&self) -> u32 {
        self.daemon.as_ref().expect("a daemon that was started").id()
    }

    /// Whether the daemon has ended.
    pub fn has_ended(&mut self) -> bool {
        self.daemon.as_mut().is_none_or(|daemon| !matches!(daemon.try_wait(), Ok(None)))
    }

    /// What the daemon has logged so far.
    pub fn log(&self) -> String {
        fs::read(self.path("kithd.log")).map(|log| String::from_utf8_lossy(&log).into_owned()).unwrap_or_default()
    }

    /// Runs kithd with more arguments, to its end: for what it refuses.
    #[track_caller]
    pub fn kithd(&self, arguments: &[&str]) -> Output {
        run(self.kithd_command().args(arguments), PATIENCE)
    }

    /// kithd for this home, in an environment of its own.
    pub fn kithd_command(&self) -> Command {
        let mut command = self.command(&binaries::kithd());
        command.arg("--home").arg(self.home()).env("NOTIFY_SOCKET", self.path("notify.sock"));
        command.envs(self.environment.iter().map(|(key, value)| (key, value)));
        command
    }

    fn notice(&self) -> Option<String> {
        let mut bytes = [0; 4096];
        let len = self.notices.recv(&mut bytes).ok()?;
        Some(String::from_utf8_lossy(&bytes[..len]).into_owned())
    }

    // ---- the client

    /// `kithctl --home HOME …`, not run. It waits for an answer as long as a test does.
    pub fn ctl_command(&self, arguments: &[&str]) -> Command {
        let mut command = self.command(&binaries::kithctl());
        command.arg("--home").arg(self.home()).args(["--timeout", &PATIENCE.as_secs().to_string()]).args(arguments);
        command
    }

    /// Runs `kithctl …` to its end, whatever that is.
    #[track_caller]
    pub fn ctl(&self, arguments: &[&str]) -> Output {
        run(&mut self.ctl_command(arguments), PATIENCE)
    }

    /// What `kithctl … --json` prints last; it succeeds.
    #[track_caller]
    pub fn ctl_json(&self, arguments: &[&str]) -> Value {
        self.ctl(&[&["--json"], arguments].concat()).ok().json()
    }

    /// The stable code with which `kithctl … --json` fails, and its exit code.
    #[track_caller]
    pub fn ctl_refused(&self, arguments: &[&str]) -> (String, i32) {
        let output = self.ctl(&[&["--json"], arguments].concat());
        let error = output.error();
        let code = ["/error/data/code", "/data/code", "/error/code", "/code"]
            .iter()
            .find_map(|place| error.pointer(place).and_then(Value::as_str));
        (code.unwrap_or_else(|| panic!("an error without a code: {error}")).to_owned(), output.status)
    }

    /// Starts `kithctl …` beside the test.
    #[track_caller]
    pub fn ctl_spawn(&self, arguments: &[&str]) -> Running {
        Running::spawn(&mut self.ctl_command(arguments))
    }

    /// Starts `kithctl …` at a terminal.
    #[track_caller]
    pub fn at_terminal(&self, arguments: &[&str]) -> Person {
        Person::at(self.ctl_command(arguments))
    }

    /// A connection to the control socket.
    #[track_caller]
    pub fn door(&self) -> Door {
        Door::connect(&self.socket())
    }

    /// The daemon's status.
    #[track_caller]
    pub fn status(&self) -> Value {
        self.door().call("daemon.status", json!({}))
    }

    /// The device's id.
    #[track_caller]
    pub fn id(&self) -> String {
        self.status()["id"].as_str().expect("an id").to_owned()
    }

    /// `IP:PORT` of the peer door.
    #[track_caller]
    pub fn address(&self) -> String {
        authority(self.ip, self.status()["peer_port"].as_u64().expect("a port"))
    }

    /// Accepts whatever `peer` offers, into a directory that is returned.
    #[track_caller]
    pub fn accept_all_from(&self, peer: &Host) -> PathBuf {
        let dir = self.path(&format!("from-{}", peer.name));
        fs::create_dir_all(&dir).expect("the home is ours");
        let dir_text = dir.to_str().expect("a path in UTF-8");
        self.ctl(&["trust", "policy", &peer.id(), "--offers", "auto", "--dir", dir_text]).ok();
        dir
    }

    /// The transfer `id` as this device sees it, if it knows it.
    #[track_caller]
    pub fn transfer(&self, id: &str) -> Option<Value> {
        self.door().try_call("transfer.show", json!({ "transfer": id })).ok()
    }

    /// Waits until the transfer `id` is in `state` here.
    #[track_caller]
    pub fn wait_transfer(&self, id: &str, state: &str) -> Value {
        let mut last = Value::Null;
        let found = wait::attempt(2 * PATIENCE, || {
            last = self.transfer(id)?;
            (last["state"] == state).then(|| last.clone())
        });
        found.unwrap_or_else(|| panic!("{}: transfer {id} never became {state}; last: {last}", self.name))
    }

    /// Waits until `peer` is in the list of peers and `wanted` holds for it.
    #[track_caller]
    pub fn wait_peer(&self, peer: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let mut door = self.door();
        let mut last = Value::Null;
        let found = wait::attempt(3 * PATIENCE, || {
            last = door.call("peers.list", json!({}));
            let peers = last["peers"].as_array().expect("a list of peers");
            peers.iter().find(|it| (it["id"] == peer || it["name"] == peer) && wanted(it)).cloned()
        });
        found.unwrap_or_else(|| panic!("{} never saw {peer} so; its peers: {last}", self.name))
    }

    /// Waits until `peer` is not in the list of peers, or offline.
    #[track_caller]
    pub fn wait_peer_gone(&self, peer: &str) {
        let mut door = self.door();
        wait::until_true("a peer to be gone", 3 * PATIENCE, || {
            let list = door.call("peers.list", json!({}));
            let mut peers = list["peers"].as_array().expect("a list of peers").iter();
            !peers.any(|it| it["id"] == peer && it["online"] == true)
        });
    }

    /// A program on this device, with nothing of the machine's environment.
    fn command(&self, program: &Path) -> Command {
        let mut command = prefixed(&self.prefix, program.to_str().expect("a path in UTF-8"));
        command.env_clear().env("PATH", require::search_path()).env("HOME", self.home()).env("RUST_BACKTRACE", "1");
        command
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        if let Some(mut daemon) = self.daemon.take() {
            process::reap(&mut daemon);
        }
        if std::thread::panicking() {
            eprintln!("---- log of kithd of {} ----\n{}", self.name, self.log());
        }
    }
}

/// Pairs two devices by PIN: `shows` shows it, `types` types it.
#[track_caller]
pub fn pair(shows: &Host, types: &Host) {
    let mut window = shows.ctl_spawn(&["pair", "--json"]);
    let shown = window.json_line(PATIENCE);
    let pin = shown["pin"].as_str().expect("a PIN");
    let target = authority(shows.ip, shown["port"].as_u64().expect("a port"));
    types.ctl(&["pair", &target, "--pin", pin, "--json"]).ok();
    window.finish(PATIENCE).ok();
}
