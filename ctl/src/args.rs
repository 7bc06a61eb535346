//! The command line, and where the daemon's socket is.

pub mod codes;
pub mod credentials;
pub mod diary;
pub mod journals;
pub mod share;
pub mod sync;

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::builder::{OsStringValueParser, TypedValueParser as _};
use clap::{Args, Parser, Subcommand};
use clap_complete::Shell;
use kith_proto::control::event::Fact;
use kith_proto::control::types::{Conflict, Offers};

use self::codes::{Codes, Join, Joins};
use self::credentials::{Dbs, Secrets, Vault};
use self::diary::Diary;
use self::journals::{Entries, Journals};
use self::sync::{SyncAction, SyncWith};
use crate::transport::{Endpoint, Origin};
use crate::values::{certificate_hash, pin, size, window_time, word};

/// Where the system service listens.
const SYSTEM_SOCKET: &str = "/run/kith/control.sock";
const CONFLICTS: [&str; 4] = ["rename", "skip", "overwrite", "newer"];

/// Your devices, on speaking terms: pair them once, then send files between them.
#[derive(Debug, Parser)]
#[command(
    name = "kithctl",
    version,
    after_help = "Examples:\n  kithctl pair                      on one device: shows a PIN and a QR code\n  \
        kithctl pair nas                  on the other: asks for that PIN\n  \
        kithctl send photo.jpg --to nas\n  \
        kithctl receive                   from apps and devices that are not paired, too\n\n\
        Exit codes: 0 done, 1 failed, 2 usage, 3 daemon not reachable, 4 denied, 5 not found, 6 wrong state,\n\
        7 not possible now, 130 interrupted"
)]
pub struct Cli {
    /// What every command takes.
    #[command(flatten)]
    pub global: Global,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What every command takes.
#[derive(Debug, Args)]
pub struct Global {
    /// Print results as JSON, one object a line; errors as JSON on stderr
    #[arg(long, global = true)]
    pub json: bool,
    /// The daemon's control socket [env: KITH_SOCKET]
    #[arg(long, global = true, value_name = "PATH")]
    pub socket: Option<PathBuf>,
    /// The directory that the daemon was started with --home for [env: KITH_HOME]
    #[arg(long, global = true, value_name = "DIR")]
    pub home: Option<PathBuf>,
    /// How long the daemon may take to answer one call
    #[arg(long, global = true, value_name = "SECONDS", default_value = "10", value_parser = clap::value_parser!(u32).range(1..))]
    pub timeout: u32,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// How the daemon is, and where it can be reached
    #[command(after_help = "Example: kithctl status --json")]
    Status,
    /// Who this device is
    #[command(after_help = "Example: kithctl id --qr")]
    Id {
        /// Show id and public key as a QR code too
        #[arg(long)]
        qr: bool,
    },
    /// Check the daemon's surroundings: doors, interfaces, directories
    #[command(after_help = "Example: kithctl doctor")]
    Doctor,
    /// Show the state of everything, then what happens
    #[command(after_help = "Example: kithctl events --kind transfer:updated --json")]
    Events(Events),
    /// Call any method of the daemon, and print its result as JSON
    #[command(after_help = "Example: kithctl call peers.list\n         kithctl call trust.show '{\"peer\":\"nas\"}'")]
    Call(Call),
    /// The daemon's configuration
    #[command(subcommand, after_help = "Example: kithctl config show")]
    Config(Config),
    /// Print a completion script for a shell
    #[command(after_help = "Example: kithctl completions bash > ~/.local/share/bash-completion/completions/kithctl")]
    Completions {
        /// Which shell
        shell: Shell,
    },
    /// Print the manual, every command in it
    #[command(after_help = "Example: kithctl man | man -l -")]
    Man,
    /// Nearby and trusted devices
    #[command(after_help = "Example: kithctl peers --watch")]
    Peers {
        /// Keep showing them as they come and go; with --json the list first, then one event a line
        #[arg(long)]
        watch: bool,
    },
    /// Pair with another device: show a PIN here, or type the one shown there
    #[command(after_help = "Examples:\n  kithctl pair                 show a PIN and a QR code, and wait\n  \
        kithctl pair nas             type the PIN that nas shows\n  \
        kithctl pair 192.168.1.7 --pin 123456\n  \
        kithctl pair 'kith://pair?…'")]
    Pair(Pair),
    /// The devices that this one trusts
    #[command(subcommand, after_help = "Example: kithctl trust policy nas --offers auto --dir ~/From-nas")]
    Trust(Trust),
    /// Send files, directories, standard input or a text to a paired device, or files to another
    ///
    /// A device that is not paired runs a Tella app or `kithctl receive`. It shows a PIN and a certificate hash, or a QR
    /// code that holds both. Without --pin and --hash they are asked for and compared on the terminal. It gets files
    /// only: directories are taken apart.
    #[command(after_help = "Examples:\n  kithctl send photo.jpg Documents --to nas\n  \
        tar c . | kithctl send - --name backup.tar --to nas\n  \
        kithctl send --text 'the door code is 4711' --to phone\n  \
        kithctl send photo.jpg --to 192.168.1.7      not paired: asks for the PIN shown there\n  \
        kithctl send photo.jpg --qr - < qr.json")]
    Send(Send),
    /// Offers of files, secrets and databases, and requests to join, that wait for an answer
    #[command(after_help = "Example: kithctl inbox accept 0192 --to ~/Pictures")]
    Inbox {
        /// List them if absent.
        #[command(subcommand)]
        action: Option<Inbox>,
    },
    /// What is being sent and received
    #[command(args_conflicts_with_subcommands = true, after_help = "Example: kithctl transfers list --all")]
    Transfers {
        /// List them if absent.
        #[command(subcommand)]
        action: Option<Transfers>,
        /// Which, if no action is named.
        #[command(flatten)]
        list: TransferList,
    },
    /// Let apps and devices in that are not paired, wait for offers, and answer them
    ///
    /// Shows a PIN, a certificate hash and a QR code for Tella apps and for `kithctl send`, and waits for offers of
    /// paired devices too. The door closes with this command, or after its time.
    #[command(after_help = "Examples:\n  kithctl receive                     ask about each\n  \
        kithctl receive --to ~/Pictures --once --yes\n  \
        kithctl receive --paired            offers of paired devices only")]
    Receive(Receive),
    /// Sets of entries that devices keep the same
    #[command(after_help = "Examples:\n  kithctl journals create notes\n  kithctl journals share notes nas")]
    Journals {
        /// List them if absent.
        #[command(subcommand)]
        action: Option<Journals>,
    },
    /// What is in a journal
    #[command(subcommand, after_help = "Example: echo 'buy milk' | kithctl entries put notes")]
    Entries(Entries),
    /// Texts in a journal, encrypted with a passphrase that no other device learns
    #[command(subcommand, after_help = "Example: kithctl journal write default")]
    Journal(Diary),
    /// Codes by which devices join a journal of this one, with nobody at the keyboard
    #[command(after_help = "Examples:\n  kithctl codes issue --journal trip\n  kithctl codes revoke 0a1b")]
    Codes {
        /// List them if absent.
        #[command(subcommand)]
        action: Option<Codes>,
    },
    /// Join a journal of another device by its code
    ///
    /// Shows whose code it is and what it is for, and asks. If the issuer is away, or somebody has to say yes there, the
    /// daemon goes on in the background until a day after the code's time is over: see `kithctl joins`.
    #[command(after_help = "Examples:\n  kithctl join                     asks for the code\n  \
        kithctl join 23A0-AJAR-58JG-K4EJ-190Y-XXVW-B80D\n  \
        kithctl join - --yes < code.txt  a code or a ticket, with nobody at the keyboard")]
    Join(Join),
    /// What this device joins by codes of others
    #[command(after_help = "Example: kithctl joins cancel 0a1b")]
    Joins {
        /// List them if absent.
        #[command(subcommand)]
        action: Option<Joins>,
    },
    /// Keep journals the same now, and wait until they are
    #[command(
        args_conflicts_with_subcommands = true,
        after_help = "Examples:\n  kithctl sync nas\n  kithctl sync status"
    )]
    Sync {
        /// Sync if absent.
        #[command(subcommand)]
        action: Option<SyncAction>,
        /// With whom.
        #[command(flatten)]
        sync: SyncWith,
    },
    /// Where secrets are kept, and whether it is open
    #[command(after_help = "Examples:\n  kithctl vault\n  kithctl vault passphrase")]
    Vault {
        /// Its status if absent.
        #[command(subcommand)]
        action: Option<Vault>,
    },
    /// Keys and credentials, kept encrypted
    #[command(after_help = "Examples:\n  kithctl secrets add\n  kithctl secrets import vault.json databases.toml")]
    Secrets {
        /// List them if absent.
        #[command(subcommand)]
        action: Option<Secrets>,
    },
    /// Databases, and the secrets that they need
    #[command(after_help = "Example: kithctl dbs add --name Photos --path s3:bucket/photos --s3 bucket")]
    Dbs {
        /// List them if absent.
        #[command(subcommand)]
        action: Option<Dbs>,
    },
}

/// `events`
#[derive(Debug, Args)]
pub struct Events {
    /// Only facts of these kinds; all if there are none.
    #[arg(long = "kind", value_name = "KIND", help = format!("Only this kind, may be repeated: {}", Fact::KINDS.join(", ")))]
    pub kinds: Vec<String>,
    /// Go on behind this sequence number
    #[arg(long, value_name = "SEQ")]
    pub since: Option<u64>,
}

/// `call`
#[derive(Debug, Args)]
pub struct Call {
    /// The method's name
    pub method: String,
    /// Its parameters, a JSON object; `-` reads it from standard input
    #[arg(value_name = "JSON")]
    pub params: Option<String>,
}

/// `config`
#[derive(Debug, Clone, Copy, Subcommand)]
pub enum Config {
    /// The configuration in force, as TOML
    Show,
    /// Which file it comes from, and how to check a changed one
    Check,
}

/// `pair`
#[derive(Debug, Args)]
pub struct Pair {
    /// The device that shows a PIN: its name, id, HOST or HOST:PORT, or the text of its QR code. Without it, the PIN is shown here
    #[arg(value_name = "PEER|HOST[:PORT]|kith://pair?…")]
    pub target: Option<String>,
    /// The six digits shown there
    #[arg(long, requires = "target", value_parser = pin)]
    pub pin: Option<String>,
    /// It is somebody else's device: nothing is shared with it by itself, and its offers always ask
    #[arg(long, conflicts_with = "own")]
    pub guest: bool,
    /// It is one of your own devices (the default; nothing is asked)
    #[arg(long)]
    pub own: bool,
}

/// `trust`
#[derive(Debug, Subcommand)]
pub enum Trust {
    /// Devices that are or were trusted
    List,
    /// All about one
    Show {
        /// Name, id, or the beginning of the id
        peer: String,
    },
    /// Give it a name of your own
    Rename {
        /// Name, id, or the beginning of the id
        peer: String,
        /// The new name
        name: String,
    },
    /// What becomes of its offers; what is not named stays as it is
    #[command(
        after_help = "Example: kithctl trust policy nas --offers auto --dir ~/From-nas --max-file 2GiB --types jpg,pdf"
    )]
    Policy(Policy),
    /// End the trust: its sessions end now, and it must be paired anew
    Revoke {
        /// Name, id, or the beginning of the id
        peer: String,
        /// Do not ask
        #[arg(long, short)]
        yes: bool,
    },
}

/// `trust policy`
#[derive(Debug, Args)]
pub struct Policy {
    /// Name, id, or the beginning of the id
    pub peer: String,
    /// Ask for each offer, accept by itself, or reject
    #[arg(long, value_name = "WHAT", value_parser = word::<Offers>(["ask", "auto", "never"]))]
    pub offers: Option<Offers>,
    /// Where its files go; '' for the daemon's download directory
    #[arg(long, value_parser = OsStringValueParser::new().map(PathBuf::from))]
    pub dir: Option<PathBuf>,
    /// What to do when a name exists already
    #[arg(long, value_name = "WHAT", value_parser = word::<Conflict>(CONFLICTS))]
    pub on_conflict: Option<Conflict>,
    /// The largest file accepted without asking, as 10M or 2GiB; 0 for any
    #[arg(long, value_name = "SIZE", value_parser = size)]
    pub max_file: Option<u64>,
    /// How much is accepted in 24 hours without asking; 0 for any
    #[arg(long, value_name = "SIZE", value_parser = size)]
    pub max_day: Option<u64>,
    /// File name extensions accepted without asking; '' for all
    #[arg(long, value_name = "EXT,…", value_delimiter = ',')]
    pub types: Option<Vec<String>>,
    /// Accept names that begin with a dot without asking
    #[arg(long, conflicts_with = "no_dotfiles")]
    pub dotfiles: bool,
    /// Ask about names that begin with a dot
    #[arg(long)]
    pub no_dotfiles: bool,
    /// It is one of your own devices
    #[arg(long, conflicts_with = "guest")]
    pub own: bool,
    /// It is somebody else's device
    #[arg(long)]
    pub guest: bool,
}

/// `send`
#[derive(Debug, Args)]
pub struct Send {
    /// Files and directories; `-` for standard input
    #[arg(value_name = "PATH", required_unless_present = "text", conflicts_with = "text")]
    pub paths: Vec<PathBuf>,
    /// The device: its name, id, or the beginning of the id; HOST or HOST:PORT of one that is not paired
    #[arg(long, value_name = "PEER|HOST[:PORT]", required_unless_present = "qr")]
    pub to: Option<String>,
    /// The device is not paired and shows these six digits. Whoever looks at this machine's processes sees them too; without --pin they are asked for
    #[arg(long, conflicts_with = "text", value_parser = pin)]
    pub pin: Option<String>,
    /// The device is not paired and shows this certificate hash; without --hash you are asked to compare
    #[arg(long, value_name = "HEX", conflicts_with = "text", value_parser = certificate_hash)]
    pub hash: Option<String>,
    /// The device is not paired and shows a QR code with this text; instead of --to, --pin and --hash. It holds the PIN, and whoever looks at this machine's processes sees it; `-` reads it from standard input
    #[arg(long, value_name = "PAYLOAD", conflicts_with_all = ["to", "pin", "hash", "text"])]
    pub qr: Option<String>,
    /// What the file made from standard input is called
    #[arg(long, value_name = "FILE", default_value = "stdin")]
    pub name: String,
    /// Send this text instead of files; `-` reads it from standard input
    #[arg(long)]
    pub text: Option<String>,
    /// What to call it on the other side
    #[arg(long)]
    pub title: Option<String>,
    /// Print the transfer's id and leave the rest to the daemon
    #[arg(long)]
    pub no_wait: bool,
}

/// `inbox`
#[derive(Debug, Subcommand)]
pub enum Inbox {
    /// Offers and requests that wait
    List,
    /// Accept an offer of files, let a device join, or look through a secret or a database
    Accept {
        /// The id of the offer or request, or the beginning of it
        id: String,
        /// How.
        #[command(flatten)]
        place: Place,
    },
    /// Reject an offer or a request
    Reject {
        /// The id of the offer or request, or the beginning of it
        id: String,
    },
}

/// Where accepted files go.
#[derive(Debug, Clone, Args)]
pub struct Place {
    /// The directory; what the device's policy says if absent
    #[arg(long = "to", value_name = "DIR")]
    pub dir: Option<PathBuf>,
    /// What to do when a name exists already
    #[arg(long, value_name = "WHAT", value_parser = word::<Conflict>(CONFLICTS))]
    pub on_conflict: Option<Conflict>,
}

/// `transfers`
#[derive(Debug, Subcommand)]
pub enum Transfers {
    /// Transfers that are not over
    List(TransferList),
    /// All about one
    Show {
        /// The transfer's id, or the beginning of it
        id: String,
    },
    /// Call it off; only what it made itself is removed
    Cancel {
        /// The transfer's id, or the beginning of it
        id: String,
    },
    /// Try it again
    Retry {
        /// The transfer's id, or the beginning of it
        id: String,
    },
}

/// `transfers list`
#[derive(Debug, Clone, Copy, Args)]
pub struct TransferList {
    /// Also those that are over
    #[arg(long)]
    pub all: bool,
}

/// `receive`
#[derive(Debug, Args)]
pub struct Receive {
    /// Where to, and how.
    #[command(flatten)]
    pub place: Place,
    /// End after one transfer; the exit code says how it went, 7 if none came
    #[arg(long)]
    pub once: bool,
    /// Let everybody in who knows the PIN, and accept every offer
    #[arg(long, short)]
    pub yes: bool,
    /// How long the door stays open, as 30s, 10m or 2h; 10 minutes if absent
    #[arg(long = "for", value_name = "TIME", value_parser = window_time)]
    pub seconds: Option<u64>,
    /// Open no door: wait for offers of paired devices only
    #[arg(long, conflicts_with = "seconds")]
    pub paired: bool,
}

impl Global {
    /// Where the daemon is: what the command line names, else the environment, else the places where it usually is.
    pub fn endpoint(&self) -> Endpoint {
        resolve(self, variable, |path| path.exists(), data_dir)
    }

    /// How long one call may take.
    pub fn timeout(&self) -> Duration {
        Duration::from_secs(self.timeout.into())
    }
}

fn resolve(
    global: &Global,
    variable: impl Fn(&str) -> Option<OsString>,
    exists: impl Fn(&PathBuf) -> bool,
    data_dir: impl Fn() -> Option<PathBuf>,
) -> Endpoint {
    let variable = |name| variable(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let in_home = |home: PathBuf, origin: fn(PathBuf) -> Origin| (home.join("control.sock"), origin(home));
    let named = None
        .or_else(|| Some((global.socket.clone()?, Origin::SocketFlag)))
        .or_else(|| Some(in_home(global.home.clone()?, Origin::HomeFlag)))
        .or_else(|| Some((variable("KITH_SOCKET")?, Origin::SocketVariable)))
        .or_else(|| Some(in_home(variable("KITH_HOME")?, Origin::HomeVariable)));
    let (path, origin) = named.unwrap_or_else(|| {
        let system = PathBuf::from(SYSTEM_SOCKET);
        let own = match variable("XDG_RUNTIME_DIR").filter(|dir| dir.is_absolute()) {
            Some(dir) => Some((dir.join("kith/control.sock"), Origin::RuntimeDir)),
            None => data_dir().map(|dir| (dir.join("control.sock"), Origin::DataDir)),
        };
        match own {
            Some(own) if exists(&own.0) || !exists(&system) => own,
            _ => (system, Origin::System),
        }
    });
    Endpoint { path, origin }
}

#[expect(clippy::disallowed_methods, reason = "the one place where this program reads its environment")]
fn variable(name: &str) -> Option<OsString> {
    std::env::var_os(name)
}

fn data_dir() -> Option<PathBuf> {
    Some(directories::ProjectDirs::from("", "", "kith")?.data_local_dir().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn the_nearest_name_of_the_socket_wins() {
        const RUNTIME: (&str, &str) = ("XDG_RUNTIME_DIR", "/run/user/7");
        let check = |args: &[&str], environment: &[(&str, &str)], there: &[&str], path: &str, origin: Origin| {
            let line = ["kithctl", "status"].iter().chain(args);
            let global = Cli::try_parse_from(line).unwrap().global;
            let variable = |name: &str| environment.iter().find(|(key, _)| *key == name).map(|(_, v)| v.into());
            let exists = |path: &PathBuf| there.iter().any(|there| path.as_os_str() == *there);
            let endpoint = resolve(&global, variable, exists, || Some("/data/kith".into()));
            assert_eq!(endpoint, Endpoint { path: path.into(), origin });
        };
        let both = [("KITH_SOCKET", "/e.sock"), ("KITH_HOME", "/eh"), RUNTIME];
        check(&["--socket", "a.sock", "--home", "/h"], &both, &[], "a.sock", Origin::SocketFlag);
        check(&["--home", "/h"], &both, &[], "/h/control.sock", Origin::HomeFlag("/h".into()));
        check(&[], &both, &[], "/e.sock", Origin::SocketVariable);
        check(&[], &both[1..], &[], "/eh/control.sock", Origin::HomeVariable("/eh".into()));
        check(&[], &[("KITH_HOME", ""), RUNTIME], &[], "/run/user/7/kith/control.sock", Origin::RuntimeDir);
        check(&[], &[RUNTIME], &[SYSTEM_SOCKET], SYSTEM_SOCKET, Origin::System);
        let own = "/run/user/7/kith/control.sock";
        check(&[], &[RUNTIME], &[SYSTEM_SOCKET, own], own, Origin::RuntimeDir);
        check(&[], &[], &[], "/data/kith/control.sock", Origin::DataDir);
        check(&[], &[("XDG_RUNTIME_DIR", "relative")], &[], "/data/kith/control.sock", Origin::DataDir);
        check(&[], &[], &[SYSTEM_SOCKET], SYSTEM_SOCKET, Origin::System);
    }

    #[test]
    fn command_lines_that_say_nothing_sensible() {
        for line in [
            "send --to nas",
            "send a --to nas --text b",
            "send a",
            "send a --to nas --pin 12345",
            "send a --to nas --hash 0123",
            "send a --pin 123456",
            "send --text b --to nas --pin 123456",
            "send --text b --qr {}",
            "send a --qr {} --to nas",
            "send a --qr {} --pin 123456",
            "receive --for 0",
            "receive --for 2d",
            "receive --for 10m --paired",
            "pair --pin 123456",
            "pair nas --pin 12345",
            "pair --own --guest",
            "trust policy nas --offers perhaps",
            "trust policy nas --max-file 1.5G",
            "trust policy nas --dotfiles --no-dotfiles",
            "inbox accept",
            "transfers --all list",
            "status --timeout 0",
        ] {
            let parsed = Cli::try_parse_from(["kithctl"].into_iter().chain(line.split(' ')));
            assert_eq!(parsed.map(|_| ()).map_err(|error| error.exit_code()), Err(2), "{line}");
        }
    }

    #[test]
    fn global_flags_may_stand_anywhere() {
        for line in ["--json --home /h peers", "peers --json --home /h"] {
            let cli = Cli::try_parse_from(["kithctl"].into_iter().chain(line.split(' '))).unwrap();
            assert!(cli.global.json && cli.global.home.is_some(), "{line}");
        }
    }
}
