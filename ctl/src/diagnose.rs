//! "The daemon is not running": why exactly, where this program looked, and the next command.

use std::io;
use std::path::Path;
use std::time::Duration;

use kith_proto::control::method::HelloResult;
use kith_proto::control::{ApiError, Code};
use kith_proto::{CONTROL_PROTOCOL, CONTROL_PROTOCOL_MIN};

use crate::error::{Error, UNREACHABLE};
use crate::transport::{Endpoint, Origin, ownership};
use crate::values::shell_word;

/// What to do when the two programs do not understand each other.
pub const SAME_VERSION: &str = "install kithd and kithctl of the same version, and restart kithd";

/// What went wrong between this program and the daemon.
#[derive(Debug)]
pub enum Cause {
    /// No connection.
    Connect(io::Error),
    /// A connection, and no answer in this time.
    Silent(Duration),
    /// The connection ended.
    Closed,
    /// Whatever answered does not speak as the daemon does.
    Foreign,
    /// The daemon speaks no protocol that this program speaks.
    Protocol(HelloResult),
}

/// The error that tells what went wrong and what to do now.
pub fn explain(endpoint: &Endpoint, cause: Cause) -> Error {
    let place = format!("{} ({})", endpoint.path.display(), endpoint.origin);
    let unreachable = |message: String| Error::new(UNREACHABLE, "daemon_unreachable", message);
    match cause {
        Cause::Connect(error) => match error.kind() {
            io::ErrorKind::NotFound => {
                unreachable(format!("kithd is not running: there is no socket at {place}")).hint(start(endpoint))
            }
            io::ErrorKind::ConnectionRefused => {
                unreachable(format!("kithd is not running any more: nobody listens at {place}")).hint(start(endpoint))
            }
            io::ErrorKind::PermissionDenied => {
                unreachable(format!("this user may not use the socket {place}")).hint(denied(&endpoint.path))
            }
            _ => unreachable(format!("cannot connect to {place}: {error}"))
                .hint("name the right socket with --socket PATH or --home DIR"),
        },
        Cause::Silent(waited) => unreachable(format!("kithd at {place} did not answer within {} s", waited.as_secs()))
            .hint(format!("look into its log; then: {}", service("restart").unwrap_or("restart kithd"))),
        Cause::Closed => unreachable(format!("kithd at {place} closed the connection"))
            .hint(format!("if it was stopped, {}; what it had begun goes on then", start(endpoint))),
        Cause::Foreign => unreachable(format!("what answers at {place} is not kithd"))
            .hint("name the right socket with --socket PATH or --home DIR"),
        Cause::Protocol(hello) => ApiError::new(
            Code::ProtocolVersion,
            format!(
                "{} speaks protocols {} to {}, this kithctl {CONTROL_PROTOCOL_MIN} to {CONTROL_PROTOCOL}",
                hello.server, hello.min_protocol, hello.protocol
            ),
        )
        .hint(SAME_VERSION)
        .into(),
    }
}

/// The command that starts the daemon this endpoint belongs to.
fn start(endpoint: &Endpoint) -> String {
    let command = match &endpoint.origin {
        Origin::HomeFlag(home) | Origin::HomeVariable(home) => {
            format!("kithd --home {} &", shell_word(&home.to_string_lossy()))
        }
        Origin::SocketFlag | Origin::SocketVariable => {
            format!("kithd --socket {} &", shell_word(&endpoint.path.to_string_lossy()))
        }
        Origin::System => "sudo systemctl start kithd".to_owned(),
        Origin::RuntimeDir | Origin::DataDir => service("start").unwrap_or("kithd &").to_owned(),
    };
    format!("start it: {command}")
}

/// How this platform's service manager starts or restarts the user's daemon, where it is installed as a service.
fn service(verb: &str) -> Option<&'static str> {
    const UNITS: [&str; 3] = [
        "/etc/systemd/user/kithd.service",
        "/usr/lib/systemd/user/kithd.service",
        "/usr/local/lib/systemd/user/kithd.service",
    ];
    let own = directories::BaseDirs::new().map(|dirs| dirs.config_dir().join("systemd/user/kithd.service"));
    if cfg!(target_os = "macos") {
        Some(if verb == "start" {
            "launchctl start org.kith.kithd"
        } else {
            "launchctl kickstart -k gui/$UID/org.kith.kithd"
        })
    } else if own.is_some_and(|unit| unit.exists()) || UNITS.iter().any(|unit| Path::new(unit).exists()) {
        Some(if verb == "start" { "systemctl --user start kithd" } else { "systemctl --user restart kithd" })
    } else {
        None
    }
}

fn denied(socket: &Path) -> String {
    match ownership(socket) {
        Some((seen, owner, me)) if owner != me => format!(
            "{} belongs to user {owner}, and you are user {me}: run kithctl as that user, or join the group of a system \
             service (kith)",
            seen.display()
        ),
        _ => "check the permissions of the socket and of the directories above it".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(origin: Origin, cause: Cause) -> (u8, String) {
        let endpoint = Endpoint { path: "/x/control.sock".into(), origin };
        let Error::Told { exit, message, hint, .. } = explain(&endpoint, cause) else { panic!("always told") };
        (exit, format!("{message}\n{}", hint.expect("always a next step")))
    }

    #[test]
    fn every_cause_says_where_why_and_what_now() {
        let io = |kind: io::ErrorKind| Cause::Connect(kind.into());
        for (origin, cause, words) in [
            (
                Origin::HomeFlag("/x".into()),
                io(io::ErrorKind::NotFound),
                ["from --home", "no socket", "kithd --home /x &"],
            ),
            (
                Origin::HomeVariable("/x".into()),
                io(io::ErrorKind::ConnectionRefused),
                ["KITH_HOME", "nobody listens", "kithd --home /x &"],
            ),
            (
                Origin::SocketFlag,
                io(io::ErrorKind::NotFound),
                ["from --socket", "/x/control.sock", "kithd --socket /x/control.sock &"],
            ),
            (Origin::SocketVariable, io(io::ErrorKind::PermissionDenied), ["KITH_SOCKET", "may not use", "user"]),
            (Origin::System, io(io::ErrorKind::ConnectionRefused), ["system service", "not running", "sudo systemctl"]),
            (Origin::DataDir, Cause::Silent(Duration::from_secs(3)), ["not set", "within 3 s", "restart"]),
            (Origin::RuntimeDir, Cause::Foreign, ["XDG_RUNTIME_DIR", "not kithd", "--socket"]),
            (Origin::RuntimeDir, Cause::Closed, ["/x/control.sock", "closed", "start it"]),
        ] {
            let (exit, text) = said(origin, cause);
            assert_eq!(exit, UNREACHABLE);
            for word in words {
                assert!(text.contains(word), "{word:?} is not in {text:?}");
            }
        }
    }

    #[test]
    fn a_daemon_of_another_time_is_incompatible() {
        let hello = HelloResult {
            server: "kithd 9.0".into(),
            protocol: 9,
            min_protocol: 8,
            boot_id: String::new(),
            methods: Vec::new(),
        };
        let (exit, text) = said(Origin::RuntimeDir, Cause::Protocol(hello));
        assert_eq!(exit, 1);
        assert!(text.contains("8 to 9"), "{text}");
    }
}
