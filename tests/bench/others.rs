//! The contestants: Kith, the baseline, and what else is installed here that brings files from one process to another.
//! Each is set up once, as a daemon is; what counts is the time from the user's command to the last byte in its file.

use std::fs;
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use kith_tests::host::{Host, pair};
use kith_tests::process::{Running, run};
use kith_tests::{PATIENCE, require, wait};
use tempfile::TempDir;

use crate::baseline;

/// The end of patience for one transfer.
pub const LIMIT: Duration = Duration::from_secs(600);

/// Brings `source` into the directory `target`, which is empty, and says how long that took.
pub trait Contestant {
    /// What the table calls it.
    fn name(&self) -> &'static str;
    /// One transfer.
    fn carry(&mut self, source: &Path, target: &Path) -> Duration;
}

/// Everyone who can run here.
pub fn all(dir: &Path) -> Vec<Box<dyn Contestant>> {
    let mut all: Vec<Box<dyn Contestant>> = vec![Box::new(Kith::new(dir)), Box::new(PLAIN), Box::new(SYNCED)];
    match Rsync::new(dir) {
        Ok(rsync) => all.push(Box::new(rsync)),
        Err(why) => eprintln!("without rsync: {why}"),
    }
    match Scp::new(dir) {
        Ok(scp) => all.push(Box::new(scp)),
        Err(why) => eprintln!("without scp: {why}"),
    }
    match TarNc::new() {
        Ok(tar) => all.push(Box::new(tar)),
        Err(why) => eprintln!("without tar | nc: {why}"),
    }
    all
}

/// Two paired daemons.
pub struct Kith {
    sender: Host,
    receiver: Host,
    sender_id: String,
    receiver_id: String,
}

impl Kith {
    fn new(dir: &Path) -> Self {
        let (mut sender, mut receiver) = (Host::under(dir, "sender"), Host::under(dir, "receiver"));
        sender.start();
        receiver.start();
        pair(&receiver, &sender);
        let (sender_id, receiver_id) = (sender.id(), receiver.id());
        Self { sender, receiver, sender_id, receiver_id }
    }
}

impl Contestant for Kith {
    fn name(&self) -> &'static str {
        "kith"
    }

    fn carry(&mut self, source: &Path, target: &Path) -> Duration {
        let policy = ["trust", "policy", &self.sender_id, "--offers", "auto", "--dir", &text(target)];
        self.receiver.ctl(&policy).ok();
        let arguments = ["send", &text(source), "--to", &self.receiver_id];
        timed(|| drop(run(&mut self.sender.ctl_command(&arguments), LIMIT).ok()))
    }
}

/// Plain rustls → hash → file.
pub struct Baseline {
    /// What the table calls it.
    name: &'static str,
    hash: &'static str,
    /// Each file is on the disk before it counts, as Kith promises.
    sync: bool,
}

const PLAIN: Baseline = Baseline { name: "rustls → hash → file", hash: "blake3", sync: false };
const SYNCED: Baseline = Baseline { name: "rustls → hash → file, fsync", hash: "blake3", sync: true };
/// Against uploads of guests, which are hashed otherwise.
pub const SHA256: Baseline = Baseline { name: "rustls → SHA-256 → file, fsync", hash: "sha256", sync: true };

impl Contestant for Baseline {
    fn name(&self) -> &'static str {
        self.name
    }

    fn carry(&mut self, source: &Path, target: &Path) -> Duration {
        let myself = std::env::current_exe().expect("a program knows where it lies");
        let how = if self.sync { "sync" } else { "plain" };
        let mut receiver =
            Running::spawn(Command::new(&myself).arg(baseline::RECEIVE).arg(target).args([how, self.hash]));
        let line = receiver.line(PATIENCE).expect("the receiver says where it listens");
        let (port, certificate) = line.split_once(' ').expect("a port and a file");
        let mut sender = Command::new(&myself);
        sender.arg(baseline::SEND).arg(source).args([port, certificate]);
        timed(|| {
            run(&mut sender, LIMIT).ok();
            receiver.finish(LIMIT).ok();
        })
    }
}

/// The rsync daemon, without encryption.
struct Rsync {
    _daemon: Running,
    port: u16,
    home: TempDir,
}

impl Rsync {
    fn new(dir: &Path) -> Result<Self, String> {
        installed("rsync")?;
        let home = tempfile::tempdir_in(dir).map_err(|error| error.to_string())?;
        let (port, root) = (free_port(), home.path().join("module"));
        let config = format!(
            "use chroot = no\nreverse lookup = no\nuid = {}\ngid = {}\n[to]\npath = {}\nread only = no\n",
            rustix::process::geteuid().as_raw(),
            rustix::process::getegid().as_raw(),
            root.display()
        );
        let file = home.path().join("rsyncd.conf");
        fs::write(&file, config).map_err(|error| error.to_string())?;
        let mut command = program("rsync");
        command.args(["--daemon", "--no-detach", "--address=127.0.0.1", &format!("--port={port}")]);
        command.arg(format!("--config={}", file.display()));
        let daemon = Running::spawn(&mut command);
        wait_listening(port)?;
        Ok(Self { _daemon: daemon, port, home })
    }
}

impl Contestant for Rsync {
    fn name(&self) -> &'static str {
        "rsync daemon, not encrypted"
    }

    fn carry(&mut self, source: &Path, target: &Path) -> Duration {
        let module = self.home.path().join("module");
        drop(fs::remove_file(&module));
        std::os::unix::fs::symlink(target, &module).expect("the directory is ours");
        let mut command = program("rsync");
        command.arg("-a").arg(source).arg(format!("rsync://127.0.0.1:{}/to/", self.port));
        timed(|| drop(run(&mut command, LIMIT).ok()))
    }
}

/// scp through an sshd of our own, with keys of its own.
struct Scp {
    _sshd: Running,
    port: u16,
    home: TempDir,
}

impl Scp {
    fn new(dir: &Path) -> Result<Self, String> {
        installed("scp")?;
        let sshd = installed("sshd")?;
        let home = tempfile::tempdir_in(dir).map_err(|error| error.to_string())?;
        let at = |name: &str| text(&home.path().join(name));
        for key in ["host", "user"] {
            run(program("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f", &at(key)]), PATIENCE).ok();
        }
        let port = free_port();
        let config = format!(
            "ListenAddress 127.0.0.1:{port}\nHostKey {}\nAuthorizedKeysFile {}\nStrictModes no\nUsePAM no\n\
             PidFile none\nPermitRootLogin prohibit-password\nUseDNS no\nSubsystem sftp internal-sftp\n",
            at("host"),
            at("user.pub")
        );
        fs::write(at("sshd.conf"), config).map_err(|error| error.to_string())?;
        let start = format!("exec {} -D -e -f {}", sshd.display(), at("sshd.conf"));
        // As root, sshd wants its directory in /run; where there is none, it gets a /run of its own.
        let command = if rustix::process::geteuid().is_root() && !Path::new("/run/sshd").exists() {
            let mut command = program("unshare");
            command.args(["--mount", "sh", "-ec", &format!("mount -t tmpfs run /run; mkdir /run/sshd; {start}")]);
            command
        } else {
            let mut command = program("sh");
            command.args(["-c", &start]);
            command
        };
        let mut command = command;
        let sshd = Running::spawn(&mut command);
        wait_listening(port)?;
        let mut scp = Self { _sshd: sshd, port, home };
        // The system may have its own ideas about who may log in.
        let probe = run(&mut scp.command(&scp.home.path().join("user.pub"), &scp.home.path().join("copy")), PATIENCE);
        if probe.status == 0 { Ok(scp) } else { Err(probe.stderr.trim().to_owned()) }
    }

    fn command(&mut self, source: &Path, target: &Path) -> Command {
        let mut command = program("scp");
        command.args(["-q", "-r", "-P", &self.port.to_string(), "-i", &text(&self.home.path().join("user"))]);
        command.args(["-F", "none", "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null"]);
        command.args(["-o", "BatchMode=yes", "-o", "LogLevel=ERROR"]);
        command.arg(source).arg(format!("127.0.0.1:{}", target.display()));
        command
    }
}

impl Contestant for Scp {
    fn name(&self) -> &'static str {
        "scp"
    }

    fn carry(&mut self, source: &Path, target: &Path) -> Duration {
        let mut command = self.command(source, target);
        timed(|| drop(run(&mut command, LIMIT).ok()))
    }
}

/// `tar | nc`, without encryption and without a check.
struct TarNc {
    /// How this netcat listens, and how it ends after its input.
    listen: &'static str,
    send: &'static str,
}

impl TarNc {
    fn new() -> Result<Self, String> {
        installed("tar")?;
        installed("nc")?;
        let help = run(program("nc").arg("-h"), PATIENCE);
        let help = help.stdout + &help.stderr;
        if help.contains("OpenBSD") {
            Ok(Self { listen: "nc -l 127.0.0.1", send: "nc -N" })
        } else if help.contains("-q secs") {
            Ok(Self { listen: "nc -l -s 127.0.0.1 -p", send: "nc -q 0" })
        } else {
            Err("an unknown netcat".to_owned())
        }
    }
}

impl Contestant for TarNc {
    fn name(&self) -> &'static str {
        "tar | nc, not encrypted"
    }

    fn carry(&mut self, source: &Path, target: &Path) -> Duration {
        let port = free_port();
        let receive = format!("{} {port} | tar -C '{}' -xf -", self.listen, target.display());
        let receiver = Running::spawn(program("sh").args(["-c", &receive]));
        wait_listening(port).expect("netcat listens");
        let (parent, name) = (source.parent().expect("a source"), source.file_name().expect("a source"));
        let send = format!("tar -C '{}' -cf - '{}' | {} 127.0.0.1 {port}", parent.display(), name.display(), self.send);
        timed(|| {
            run(program("sh").args(["-c", &send]), LIMIT).ok();
            receiver.finish(LIMIT).ok();
        })
    }
}

/// How long `work` takes.
pub fn timed(work: impl FnOnce()) -> Duration {
    let started = Instant::now();
    work();
    started.elapsed()
}

/// `name`, also when it is one of the administrator's programs.
pub fn program(name: &str) -> Command {
    let mut command = Command::new(name);
    command.env("PATH", require::search_path());
    command
}

/// Where `name` lies, or that it does not.
pub fn installed(name: &str) -> Result<PathBuf, String> {
    require::program(name).ok_or_else(|| format!("{name} is not installed"))
}

/// A port where nobody listens.
pub fn free_port() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    listener.local_addr().expect("a bound socket has an address").port()
}

/// Waits until somebody listens at `port`, without connecting: the next connection may be the only one it takes.
pub fn wait_listening(port: u16) -> Result<(), String> {
    let (port, listens) = (format!(":{port:04X}"), "0A");
    let found = wait::attempt(PATIENCE, || {
        let sockets = fs::read_to_string("/proc/net/tcp").ok()?;
        let mut fields = sockets.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
        fields.find(|it| it.len() > 3 && it[1].ends_with(&port) && it[3] == listens).map(drop)
    });
    found.ok_or_else(|| "it does not listen".to_owned())
}

/// A path as text.
pub fn text(path: &Path) -> String {
    path.to_str().expect("a path in UTF-8").to_owned()
}
