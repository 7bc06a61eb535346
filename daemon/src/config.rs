//! Command line, environment and configuration file: the only place that reads any of them.
//!
//! `hello` is the command line of a hello store that is a server of its own.

mod hello;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Parser;
use directories::{ProjectDirs, UserDirs};
use kith_proto::guest::hello::StoreUrl;
use kith_proto::pin::{NotAPin, Pin};
use kith_proto::{limits, text};
use serde::{Deserialize, Serialize};

pub use hello::{HelloArgs, HelloError, HelloSettings, Shown, StoreAddress};

/// The name of the vault's key among the credentials of the service manager.
const VAULT_KEY: &str = "kith-vault-key";

/// Command line of `kithd`.
#[derive(Debug, Parser)]
#[command(
    name = "kithd",
    version,
    about = "Lets this device know the others on the LAN: pairing, discovery, transfers. Needs no configuration.",
    after_help = "Example:\n  kithd                    run with everything in its usual place\n  kithd --home /tmp/a      keep configuration, data, socket and received files under one directory"
)]
pub struct Args {
    /// Keep configuration, data, socket and received files under this directory
    #[arg(long, env = "KITH_HOME", value_name = "DIR")]
    pub home: Option<PathBuf>,
    /// Read this configuration file instead of the usual one
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Listen for kithctl on this socket instead of the usual one
    #[arg(long, value_name = "PATH")]
    pub socket: Option<PathBuf>,
    /// error, warn, info, debug or trace
    #[arg(long, value_name = "LEVEL")]
    pub log: Option<LogLevel>,
    /// Check the configuration, say what it is, and end
    #[arg(long)]
    pub check_config: bool,
    /// Make a new identity where the old key is lost; every peer must pair again
    #[arg(long)]
    pub new_identity: bool,
    /// Something else than the daemon.
    #[command(subcommand)]
    pub command: Option<Command>,
}

/// What else `kithd` is.
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// A hello store for many: keeps what sharing codes stand for, and sees neither code nor content
    #[command(
        after_help = "Example:\n  kithd hello --store sqlite:/var/lib/kith-hello/hello.db\n  KITH_HELLO_STORE=redis://:PASSWORD@db kithd hello --cert chain.pem --key key.pem"
    )]
    Hello(HelloArgs),
}

/// `config.toml`. Every key has a default; an unknown key is an error that names it.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// The name that other devices show; the host's name when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// What is logged, and how.
    pub log: LogConfig,
    /// The door for paired devices.
    pub peer: PeerConfig,
    /// How devices find each other.
    pub discovery: DiscoveryConfig,
    /// What becomes of received files.
    pub receive: ReceiveConfig,
    /// What waits for peers that are offline.
    pub outbox: OutboxConfig,
    /// The door for devices that are not paired.
    pub guest: GuestConfig,
    /// Codes under which credentials are handed over.
    pub share: ShareConfig,
    /// Where sharing codes are looked up.
    pub hello: HelloConfig,
    /// Where secrets are kept.
    pub vault: VaultConfig,
}

/// `[log]`
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LogConfig {
    /// How much is logged.
    pub level: LogLevel,
    /// In which form.
    pub format: LogFormat,
}

/// How much is logged.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum LogLevel {
    /// Only what went wrong here.
    Error,
    /// And what may need attention.
    Warn,
    /// And the milestones.
    #[default]
    Info,
    /// And the steps between them.
    Debug,
    /// Everything.
    Trace,
}

/// The form of the log.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// The journal when stderr is connected to it, text otherwise.
    #[default]
    Auto,
    /// Lines for people.
    Text,
    /// One JSON object a line.
    Json,
}

/// `[peer]`
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PeerConfig {
    /// The port of the peer door; 0 takes the one that follows from the device id, or the next free one.
    pub port: u16,
}

/// `[discovery]`
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DiscoveryConfig {
    /// Announce this device and look for others by mDNS.
    pub enabled: bool,
    /// Also on the loopback interface: for several daemons on one machine.
    pub loopback: bool,
    /// Only on these interfaces; on every real one when empty.
    pub interfaces: Vec<String>,
}

impl Default for DiscoveryConfig {
    fn default() -> Self {
        Self { enabled: true, loopback: false, interfaces: Vec::new() }
    }
}

/// `[receive]`
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ReceiveConfig {
    /// Where files go that no policy or answer sends elsewhere; `Kith` in the download directory when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dir: Option<PathBuf>,
    /// A program that is run after each finished receive: argv, never a shell line. Details are in KITH_* variables.
    pub hook: Vec<String>,
}

/// `[outbox]`
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct OutboxConfig {
    /// Days that a transfer waits for its peer, and an offer for its answer.
    pub days: u16,
}

impl Default for OutboxConfig {
    fn default() -> Self {
        Self { days: 7 }
    }
}

/// `[guest]`
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct GuestConfig {
    /// The port of the guest door; 0 takes 53317, 53320, or any that is free.
    pub port: u16,
    /// Keep the guest door open, with nobody at the keyboard; otherwise it is open while `kithctl receive` runs.
    pub always_open: bool,
    /// The PIN of a door that is always open; absent: another one each day, which `kithctl receive` shows.
    #[serde(skip_serializing)]
    pub pin: Option<FixedPin>,
    /// At a door that is always open: let in whoever knows the PIN, and accept what it offers, without asking.
    pub accept: bool,
    /// Files in one offer.
    pub max_files: usize,
    /// The largest file, in bytes.
    pub max_file: u64,
    /// Extensions that are taken, lower case, without the dot; all when empty.
    pub types: Vec<String>,
}

impl Default for GuestConfig {
    fn default() -> Self {
        Self {
            port: 0,
            always_open: false,
            pin: None,
            accept: true,
            max_files: limits::GUEST_FILES,
            max_file: limits::GUEST_FILE_SIZE,
            types: Vec::new(),
        }
    }
}

/// `[share]`
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ShareConfig {
    /// Digits of the codes under which credentials are handed over.
    pub digits: usize,
}

impl Default for ShareConfig {
    fn default() -> Self {
        Self { digits: *limits::SHORT_CODE.start() }
    }
}

/// `[hello]`
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct HelloConfig {
    /// Be a hello store for everybody on the LAN, always; otherwise this device gives out what its own codes need,
    /// while it has any.
    pub serve: bool,
    /// The port on which it is one; 0 takes 53318, or any that is free.
    pub port: u16,
    /// The hello stores that this device uses: `https://HOST[:PORT][#CERTIFICATE-HASH]`.
    pub stores: Vec<String>,
}

impl HelloConfig {
    /// The stores that this device uses.
    pub fn stores(&self) -> Vec<StoreUrl> {
        self.stores.iter().filter_map(|text| StoreUrl::parse(text).ok()).collect()
    }
}

/// A PIN in the configuration: read, never shown.
#[derive(Debug, Clone, Deserialize)]
#[serde(try_from = "String")]
pub struct FixedPin(Arc<Pin>);

impl FixedPin {
    /// A copy for a window.
    pub fn pin(&self) -> Pin {
        self.0.duplicate()
    }
}

impl TryFrom<String> for FixedPin {
    type Error = NotAPin;

    fn try_from(text: String) -> Result<Self, NotAPin> {
        Pin::parse(&text).map(|pin| Self(Arc::new(pin)))
    }
}

/// `[vault]`
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct VaultConfig {
    /// Minutes without use after which a vault with a passphrase locks itself; 0: never.
    pub idle_minutes: u32,
}

impl Default for VaultConfig {
    fn default() -> Self {
        Self { idle_minutes: 15 }
    }
}

/// Where everything lies.
#[derive(Debug, Clone)]
pub struct Paths {
    /// The configuration file, whether it exists or not.
    pub config: PathBuf,
    /// Keys and database.
    pub data: PathBuf,
    /// The control socket.
    pub socket: PathBuf,
    /// Received files.
    pub downloads: PathBuf,
}

/// The configuration in force.
#[derive(Debug, Clone)]
pub struct Settings {
    /// What the file and the command line say.
    pub config: Config,
    /// Where everything lies.
    pub paths: Paths,
    /// The device's name, cleaned and cut to size.
    pub name: String,
    /// Whether a lost key may be replaced.
    pub new_identity: bool,
    /// Whether members of the daemon's group may use the local door: a system service, which the service manager gave
    /// a runtime directory of its own.
    pub shared: bool,
    /// The key of the vault, if the service manager provides it.
    pub vault_credential: Option<PathBuf>,
    /// Whether the service manager connected stderr to its journal.
    pub stderr_is_journal: bool,
}

/// A configuration that cannot be used. The daemon exits with 78 (`EX_CONFIG`).
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file cannot be read.
    #[error("cannot read the configuration {path}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file is not what it should be; the message names key and line.
    #[error("the configuration {path} is wrong: {message}")]
    Parse {
        /// The file.
        path: PathBuf,
        /// Key, line and reason.
        message: String,
    },
    /// A value outside its range.
    #[error("the configuration {path} is wrong: {key} {problem}")]
    Value {
        /// The file.
        path: PathBuf,
        /// The key.
        key: &'static str,
        /// What is wrong with its value.
        problem: String,
    },
    /// No home directory to put anything in.
    #[error("cannot find this user's home directory; say where to keep data with --home DIR")]
    NoHome,
}

impl Settings {
    /// Reads environment and file. `args` win over the file.
    pub fn load(args: &Args) -> Result<Self, Error> {
        let mut paths = Paths::find(args)?;
        let mut config = Config::read(&paths.config, args.config.is_some())?;
        if let Some(level) = args.log {
            config.log.level = level;
        }
        if let Some(dir) = &config.receive.dir {
            paths.downloads = dir.clone();
        }
        let host = rustix::system::uname();
        let raw = config.name.clone().unwrap_or_else(|| host.nodename().to_string_lossy().into_owned());
        Ok(Self {
            name: text::device_name(&raw, limits::DEVICE_NAME),
            config,
            paths,
            new_identity: args.new_identity,
            shared: environment("RUNTIME_DIRECTORY").is_some(),
            vault_credential: environment("CREDENTIALS_DIRECTORY")
                .map(|dir| dir.join(VAULT_KEY))
                .filter(|it| it.exists()),
            stderr_is_journal: stderr_is_journal(),
        })
    }
}

impl Config {
    fn read(path: &Path, must_exist: bool) -> Result<Self, Error> {
        let text = match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound && !must_exist => return Ok(Self::default()),
            Err(source) => return Err(Error::Read { path: path.to_owned(), source }),
        };
        Self::parse(&text, path)
    }

    fn parse(text: &str, path: &Path) -> Result<Self, Error> {
        let config: Self = toml::from_str(text)
            .map_err(|error| Error::Parse { path: path.to_owned(), message: explain(text, &error) })?;
        config.check(path)?;
        Ok(config)
    }

    fn check(&self, path: &Path) -> Result<(), Error> {
        let wrong = |key, problem: &str| Err(Error::Value { path: path.to_owned(), key, problem: problem.to_owned() });
        if self.receive.dir.as_ref().is_some_and(|dir| !dir.is_absolute()) {
            return wrong("receive.dir", "must be an absolute path");
        }
        if self.receive.hook.first().is_some_and(|program| !Path::new(program).is_absolute()) {
            return wrong("receive.hook", "must begin with the absolute path of a program");
        }
        if self.outbox.days == 0 || self.outbox.days > 365 {
            return wrong("outbox.days", "must be between 1 and 365");
        }
        if self.peer.port != 0 && self.peer.port < 1024 {
            return wrong("peer.port", "must be 0 or at least 1024");
        }
        if self.guest.port != 0 && self.guest.port < 1024 {
            return wrong("guest.port", "must be 0 or at least 1024");
        }
        if self.guest.max_files == 0 || self.guest.max_files > limits::GUEST_FILES_MAX {
            return wrong("guest.max_files", "must be between 1 and 100000");
        }
        if !limits::SHORT_CODE.contains(&self.share.digits) {
            return wrong("share.digits", "must be between 4 and 9");
        }
        if self.hello.port != 0 && self.hello.port < 1024 {
            return wrong("hello.port", "must be 0 or at least 1024");
        }
        if self.hello.stores.len() > limits::HELLO_STORES {
            return wrong("hello.stores", &format!("must be at most {}", limits::HELLO_STORES));
        }
        for text in &self.hello.stores {
            if let Err(error) = StoreUrl::parse(text) {
                return wrong("hello.stores", &format!("has {text:?}: {error}"));
            }
        }
        if self.guest.types.iter().any(|it| it.is_empty() || it.starts_with('.') || *it != it.to_lowercase()) {
            return wrong("guest.types", "must be extensions in lower case, without the dot");
        }
        Ok(())
    }
}

/// Line, key and reason; not the line itself, which may hold a PIN.
fn explain(text: &str, error: &toml::de::Error) -> String {
    let before = error.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
    let line = before.matches('\n').count();
    let key = text.lines().nth(line).and_then(|line| line.split_once('=')).map(|(key, _)| key.trim());
    let key = key.map(|key| format!("{key}: ")).unwrap_or_default();
    format!("line {}: {key}{}", line + 1, error.message())
}

impl Paths {
    fn find(args: &Args) -> Result<Self, Error> {
        let mut paths = match &args.home {
            Some(home) => Self::under(&std::path::absolute(home).map_err(|_| Error::NoHome)?),
            None => Self::usual()?,
        };
        if let Some(config) = &args.config {
            paths.config.clone_from(config);
        }
        if let Some(socket) = &args.socket {
            paths.socket = std::path::absolute(socket).map_err(|_| Error::NoHome)?;
        }
        Ok(paths)
    }

    fn under(home: &Path) -> Self {
        Self {
            config: home.join("config.toml"),
            data: home.join("data"),
            socket: home.join("control.sock"),
            downloads: home.join("received"),
        }
    }

    fn usual() -> Result<Self, Error> {
        let dirs = ProjectDirs::from("", "", "kith").ok_or(Error::NoHome)?;
        let user = UserDirs::new().ok_or(Error::NoHome)?;
        let downloads = user.download_dir().map_or_else(|| user.home_dir().join("Downloads"), Path::to_owned);
        let runtime = environment("RUNTIME_DIRECTORY")
            .or_else(|| environment("XDG_RUNTIME_DIR").map(|dir| dir.join("kith")))
            .unwrap_or_else(|| dirs.data_local_dir().to_owned());
        Ok(Self {
            config: dirs.config_dir().join("config.toml"),
            data: environment("STATE_DIRECTORY").unwrap_or_else(|| dirs.data_dir().to_owned()),
            socket: runtime.join("control.sock"),
            downloads: downloads.join("Kith"),
        })
    }
}

/// An absolute path from the environment; anything else there is as good as nothing.
fn environment(name: &str) -> Option<PathBuf> {
    #[expect(clippy::disallowed_methods, reason = "this is where the environment is read")]
    std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute())
}

/// systemd says in `JOURNAL_STREAM` which device and inode its journal's pipe has.
fn stderr_is_journal() -> bool {
    #[expect(clippy::disallowed_methods, reason = "this is where the environment is read")]
    let Ok(stream) = std::env::var("JOURNAL_STREAM") else { return false };
    rustix::fs::fstat(std::io::stderr()).is_ok_and(|stat| stream == format!("{}:{}", stat.st_dev, stat.st_ino))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str) -> Result<Config, String> {
        Config::parse(text, Path::new("config.toml")).map_err(|error| error.to_string())
    }

    #[test]
    fn unknown_keys_and_bad_values_are_named() {
        assert_eq!(check("").unwrap().outbox.days, 7);
        assert_eq!(check("name = \"nas\"\n[peer]\nport = 44001").unwrap().peer.port, 44_001);
        for (text, named) in [
            ("nmae = \"nas\"", "nmae"),
            ("[peer]\nprot = 1", "prot"),
            ("[peer]\nport = 70000", "port"),
            ("[peer]\nport = 80", "peer.port"),
            ("[log]\nlevel = \"loud\"", "loud"),
            ("[receive]\ndir = \"here\"", "receive.dir"),
            ("[receive]\nhook = [\"notify\"]", "receive.hook"),
            ("[outbox]\ndays = 0", "outbox.days"),
            ("[guest]\nport = 80", "guest.port"),
            ("[vault]\nidle_minutes = -1", "idle_minutes"),
            ("[guest]\npin = \"12345\"", "six digits"),
            ("[guest]\nmax_files = 0", "guest.max_files"),
            ("[share]\ndigits = 3", "share.digits"),
            ("[guest]\ntypes = [\".JPG\"]", "guest.types"),
            ("[hello]\nport = 443", "hello.port"),
            ("[hello]\nserve = 1", "serve"),
            ("[hello]\nstores = [\"https://a\", \"http://b\"]", "http://b"),
            (
                "[hello]\nstores = [\"https://a\", \"https://b\", \"https://c\", \"https://d\", \"https://e\"]",
                "hello.stores",
            ),
        ] {
            let error = check(text).unwrap_err();
            assert!(error.contains(named), "{text:?}: {error}");
        }
    }

    #[test]
    fn hello_stores_are_read() {
        let hello = check("[hello]\nserve = true\nstores = [\"https://hello.example\"]").unwrap().hello;
        assert!(hello.serve);
        assert_eq!((hello.stores()[0].host.as_str(), hello.stores()[0].port), ("hello.example", 443));
        assert!(!check("").unwrap().hello.serve);
    }

    #[test]
    fn d31_a_pin_is_read_and_never_shown() {
        let config = check("[guest]\npin = \"482913\"").unwrap();
        assert_eq!(config.guest.pin.as_ref().unwrap().pin().expose(), "482913");
        let shown = format!("{config:?} {}", toml::to_string(&config).unwrap());
        assert!(!shown.contains("482913"), "{shown}");
        let error = check("[guest]\npin = \"48291\"").unwrap_err();
        assert!(!error.contains("48291"), "{error}");
    }

    #[test]
    fn a_home_holds_everything() {
        let paths = Paths::under(Path::new("/tmp/a"));
        for path in [&paths.config, &paths.data, &paths.socket, &paths.downloads] {
            assert!(path.starts_with("/tmp/a"));
        }
    }
}
