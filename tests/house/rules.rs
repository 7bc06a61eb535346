//! The invariants of the architecture, as far as text shows them. What clippy can hold by itself (.clippy.toml, the
//! workspace's lints) is held there; here is what it cannot see, and that nobody takes its lints away.

use kith_tests::binaries::workspace;
use serde_json::Value;

use crate::hold;
use crate::source::{Source, is_within, sources, text};

const PACKAGES: [&str; 4] = ["proto", "daemon", "ctl", "tests"];

/// Offences of all `sources` that name a path within one of `banned`, unless `allowed` holds for the file.
fn forbid(sources: &[Source], banned: &[(&str, &str)], allowed: impl Fn(&str) -> bool) -> Vec<String> {
    let sources = sources.iter().filter(|source| !allowed(&source.path));
    sources
        .flat_map(|source| {
            source.names().into_iter().filter_map(|named| {
                let (ban, instead) = banned.iter().find(|(ban, _)| is_within(&named.path, ban))?;
                Some(source.at(named.line, &format!("{ban}: {instead}")))
            })
        })
        .collect()
}

/// Every file of the product.
fn product() -> Vec<Source> {
    ["proto/src", "daemon/src", "ctl/src"].into_iter().flat_map(sources).collect()
}

// Invariant 1: proto does no I/O, reads no clock, has no async.
#[test]
fn proto_is_pure() {
    let banned = [
        ("std::fs", "files belong to the daemon"),
        ("std::net::TcpStream", "sockets belong to the daemon"),
        ("std::net::TcpListener", "sockets belong to the daemon"),
        ("std::net::UdpSocket", "sockets belong to the daemon"),
        ("std::net::ToSocketAddrs", "names are looked up by the daemon"),
        ("std::os", "proto knows no platform"),
        ("std::env", "config.rs reads the environment"),
        ("std::process", "proto starts nothing"),
        ("std::thread", "proto has no threads"),
        ("std::time::SystemTime", "`now` is an argument"),
        ("std::time::Instant", "`now` is an argument"),
        ("getrandom", "random bytes are an argument"),
        ("tokio", "proto has no async"),
        ("rusqlite", "the database belongs to store"),
    ];
    let sources = sources("proto/src");
    let mut offences = forbid(&sources, &banned, |_| false);
    for source in &sources {
        offences.extend(source.lines_with("async").map(|line| source.at(line, "proto has no async")));
    }
    let metadata = metadata();
    for dependency in dependencies(&metadata, "kith-proto") {
        if ["tokio", "rusqlite", "getrandom", "mio", "socket2", "rand", "rustls"].contains(&dependency.0.as_str()) {
            offences.push(format!("proto/Cargo.toml: depends on {}", dependency.0));
        }
    }
    hold("proto is pure: no I/O, no clock, no randomness, no async.", &offences);
}

// kithctl stays small: of our own crates it knows proto's local door only.
#[test]
fn ctl_knows_the_local_door_only() {
    let metadata = metadata();
    let found = dependencies(&metadata, "kithctl");
    let mut offences: Vec<String> = found
        .iter()
        .filter(|(name, _)| ["kithd", "tokio", "rusqlite", "rustls"].contains(&name.as_str()))
        .map(|(name, _)| format!("ctl/Cargo.toml: depends on {name}"))
        .collect();
    let proto = found.iter().find(|(name, _)| name == "kith-proto").expect("ctl speaks the local door");
    if proto.1 != ["control"] {
        offences.push(format!("ctl/Cargo.toml: kith-proto with features {:?} instead of control alone", proto.1));
    }
    offences.extend(forbid(&sources("ctl/src"), &[("kith_proto::peer", "ctl speaks with its daemon only")], |_| false));
    hold("kithctl depends on proto's local door and on no other part.", &offences);
}

// Invariant 2: no route sees another door's caller.
#[test]
fn a_local_caller_and_a_peer_identity_never_meet() {
    let mut offences = Vec::new();
    for source in sources("daemon/src") {
        let (callers, identities): (Vec<_>, Vec<_>) =
            (source.lines_with("Caller").collect(), source.lines_with("PeerIdentity").collect());
        let local = source.path.starts_with("daemon/src/doors/local");
        let strange =
            ["daemon/src/doors/peer", "daemon/src/doors/guest"].iter().any(|door| source.path.starts_with(door));
        if strange {
            offences.extend(callers.iter().map(|&line| source.at(line, "a stranger's route sees a local Caller")));
        }
        if local {
            offences.extend(identities.iter().map(|&line| source.at(line, "a control method sees a PeerIdentity")));
        }
        if let (Some(&line), false) = (callers.first(), identities.is_empty()) {
            offences.push(source.at(line, "one file holds both a Caller and a PeerIdentity"));
        }
    }
    hold("A local Caller and a PeerIdentity never meet.", &offences);
}

/// Files of the daemon's own, in its data directory: how far parts are, and streams that wait for their receiver.
const OWN_FILES: [&str; 2] = ["daemon/src/transfer/parts.rs", "daemon/src/transfer/spool.rs"];

// Invariant 4: the user's files are touched only through `files`. An open file may be handed on: `std::fs::File` as a
// type is no offence, a path turned into one is.
#[test]
fn user_files_go_through_files() {
    let strangers = ["doors", "pairing", "transfer", "sync", "credentials", "codes", "discovery", "dial"];
    let banned = [
        ("std::fs", "the user's files are touched through `files`"),
        ("tokio::fs", "the user's files are touched through `files`"),
        ("rustix::fs", "the user's files are touched through `files`"),
    ];
    let allowed = |path: &str| {
        let room = path.trim_start_matches("daemon/src/").split(['/', '.']).next().unwrap_or_default();
        !strangers.contains(&room) || OWN_FILES.contains(&path)
    };
    let offences = sources("daemon/src").into_iter().filter(|source| !allowed(&source.path)).flat_map(|source| {
        let paths = source.names().into_iter().filter(|named| named.path != "std::fs::File");
        let found = paths.filter_map(|named| {
            let (ban, instead) = banned.iter().find(|(ban, _)| is_within(&named.path, ban))?;
            Some(source.at(named.line, &format!("{ban}: {instead}")))
        });
        found.collect::<Vec<_>>()
    });
    hold("The user's files are touched only through `files`.", &offences.collect::<Vec<_>>());
}

// Invariant 5: tasks are spawned only in task.rs; no unbounded channels.
#[test]
fn tasks_have_owners_and_channels_have_bounds() {
    let spawns = "Tasks::spawn gives every task a name, an owner and an end";
    let unbounded = "a full mailbox must be an error that the caller sees";
    let sources = product();
    let mut offences = forbid(
        &sources,
        &[
            ("tokio::spawn", spawns),
            ("tokio::task::spawn", spawns),
            ("tokio::task::spawn_local", spawns),
            ("tokio::task::JoinSet", spawns),
            ("tokio_util::task::TaskTracker", spawns),
        ],
        |path| path == "daemon/src/task.rs",
    );
    offences.extend(forbid(
        &sources,
        &[
            ("tokio::sync::mpsc::unbounded_channel", unbounded),
            ("tokio::sync::mpsc::UnboundedSender", unbounded),
            ("std::sync::mpsc::channel", unbounded),
            ("flume::unbounded", unbounded),
        ],
        |_| false,
    ));
    hold("Tasks are spawned in task.rs only, and channels are bounded.", &offences);
}

// Invariant 6: an event asks for nothing.
#[test]
fn an_event_asks_for_nothing() {
    let answers = "a fact that waits for an answer is a command";
    let banned = [("tokio::sync::oneshot", answers), ("tokio::sync::mpsc", "commands go down, through handles")];
    let is_event = |path: &str| path == "daemon/src/event.rs" || path.starts_with("daemon/src/event/");
    hold("An event asks for nothing.", &forbid(&sources("daemon/src"), &banned, |path| !is_event(path)));
}

// Invariant 7 and others are clippy's: they hold as long as nobody switches them off.
#[test]
fn lints_are_in_force_everywhere() {
    let mut offences = Vec::new();
    let workspace_manifest = text("Cargo.toml");
    for lint in [
        "unsafe_code = \"forbid\"",
        "await_holding_lock = \"warn\"",
        "disallowed_methods = \"warn\"",
        "unwrap_used = \"warn\"",
    ] {
        if !workspace_manifest.contains(lint) {
            offences.push(format!("Cargo.toml: {lint} is missing from the workspace's lints"));
        }
    }
    let whole = text("proto/src/lib.rs");
    for lint in ["clippy::unwrap_used", "clippy::expect_used", "clippy::indexing_slicing", "clippy::panic"] {
        let denied = whole.lines().any(|line| line.starts_with("#![deny(") && line.contains(lint));
        if !denied {
            offences.push(format!("proto/src/lib.rs: {lint} is not denied"));
        }
    }
    for package in PACKAGES {
        if !text(&format!("{package}/Cargo.toml")).contains("[lints]\nworkspace = true") {
            offences.push(format!("{package}/Cargo.toml: does not take the workspace's lints"));
        }
    }
    for source in PACKAGES.into_iter().flat_map(sources) {
        for (at, _) in source.code.match_indices("#[allow(").chain(source.code.match_indices("#![allow(")) {
            let line = source.code[..at].matches('\n').count() + 1;
            let attribute = source.code[at..].split(']').next().unwrap_or_default();
            if !attribute.contains("reason") {
                offences.push(source.at(line, "a lint is switched off without a reason"));
            }
            for never in ["await_holding_lock", "dead_code", "clippy::all", "disallowed_macros"] {
                if attribute.contains(never) {
                    offences.push(source.at(line, &format!("{never} stays on")));
                }
            }
        }
    }
    hold("The workspace's lints are in force everywhere.", &offences);
}

// Invariant 8: a secret does not print, copy or serialize itself.
#[test]
fn a_secret_keeps_itself() {
    let secret =
        sources("proto/src").into_iter().find(|source| source.path == "proto/src/secret.rs").expect("secret.rs");
    let mut offences = Vec::new();
    for banned in ["Serialize", "Deserialize", "Display", "Clone", "Copy", "Deref", "PartialEq", "AsRef"] {
        offences.extend(secret.lines_with(banned).map(|line| secret.at(line, &format!("Secret<T> and {banned}"))));
    }
    if let Some(at) = secret.code.find("derive(") {
        let line = secret.code[..at].matches('\n').count() + 1;
        let derived = secret.code[at..].split(')').next().unwrap_or_default();
        if derived.contains("Debug") {
            offences.push(secret.at(line, "a derived Debug prints the value"));
        }
    }
    hold("A secret is not printed, copied by accident or serialized.", &offences);
}

// Invariant 9: every bound is in limits.rs and is used; every parser has a fuzz target.
#[test]
fn every_limit_is_used() {
    let users: Vec<Source> = product().into_iter().filter(|source| source.path != "proto/src/limits.rs").collect();
    let limits = text("proto/src/limits.rs");
    let mut offences = Vec::new();
    for (index, line) in limits.lines().enumerate() {
        let Some(name) = line.strip_prefix("pub const ").and_then(|rest| rest.split(':').next()) else { continue };
        let used_here = limits.lines().any(|other| other != line && !other.starts_with("///") && has(other, name));
        if !used_here && !users.iter().any(|source| source.lines_with(name).next().is_some()) {
            offences.push(format!("proto/src/limits.rs:{}: {name} bounds nothing", index + 1));
        }
    }
    hold("A bound that nothing refers to bounds nothing.", &offences);
}

fn has(line: &str, word: &str) -> bool {
    Source { path: String::new(), code: line.to_owned() }.lines_with(word).next().is_some()
}

/// What parses bytes from outside, and the fuzz target that throws bytes at it.
const PARSERS: &[(&str, &str)] = &[
    ("control::Request", "control_request"),
    ("control::Response", "control_answer"),
    ("event::Notice", "control_answer"),
    ("guest::Accepted", "guest_answer"),
    ("guest::CertificateHash", "certificate_hash"),
    ("guest::Close", "guest_close"),
    ("guest::ErrorBody", "guest_answer"),
    ("guest::Pong", "guest_answer"),
    ("guest::Prepare", "guest_prepare"),
    ("guest::Qr", "guest_qr"),
    ("guest::Register", "guest_register"),
    ("guest::Registered", "guest_answer"),
    ("guest::Upload", "guest_upload"),
    ("guest::file_name", "guest_name"),
    ("guest::psi::Desk", "photosphere"),
    ("guest::psi::is_same_code", "photosphere"),
    ("guest::hello::Lookup", "hello_request"),
    ("guest::hello::OwnerHash", "hello_request"),
    ("guest::hello::OwnerToken", "hello_request"),
    ("guest::hello::StoreUrl", "hello_request"),
    ("guest::hello::expires_ms", "hello_request"),
    ("id::DeviceId", "id"),
    ("id::PublicKey", "id"),
    ("code::SharingCode", "sharing_code"),
    ("import::databases", "import_toml"),
    ("import::json", "import_json"),
    ("import::name_of", "import_json"),
    ("import::secret", "import_json"),
    ("method::Method::Params", "control_params"),
    ("offer::Message", "offer_message"),
    ("offer::split_data", "data_frame"),
    ("pairing::PairUri", "pair_uri"),
    ("pairing::Pin", "id"),
    ("pairing::Window", "pairing_message"),
    ("pairing::Initiator", "pairing_message"),
    ("pairing::message::Message", "pairing_message"),
    ("path::WirePath", "wire_path"),
    ("path::link_lands_at", "link_target"),
    ("join::message::Join", "join_message"),
    ("join::message::JoinResult", "join_message"),
    ("join::payload", "sharing_code"),
    ("join::payload::Payload", "join_payload"),
    ("journal::session::Session", "sync_session"),
    ("journal::wire::Frame", "sync_frame"),
    ("reconcile::Initiator", "reconcile_message"),
    ("reconcile::respond", "reconcile_message"),
    ("share::announcement::Announcement", "share_announcement"),
    ("payload::Payload", "share_payload"),
    ("share::Receiver", "share_message"),
    ("share::Sender", "share_message"),
    ("share::message::Message", "share_message"),
    ("short_code::ShortCode", "id"),
    ("text::device_name", "text"),
    ("text::printable", "text"),
];

#[test]
fn every_parser_has_a_fuzz_target() {
    let manifest = text("tests/fuzz/Cargo.toml");
    let targets = sources("tests/fuzz/fuzz_targets");
    let mut offences = Vec::new();
    for (parser, target) in PARSERS {
        let path = format!("tests/fuzz/fuzz_targets/{target}.rs");
        let calls = targets.iter().any(|source| source.path == path && refers_to(source, parser));
        if !calls || !manifest.contains(&format!("name = \"{target}\"\npath = \"fuzz_targets/{target}.rs\"")) {
            offences.push(format!("{path}: no fuzz target for {parser}"));
        }
        let seeds = workspace().join("tests/golden/fuzz").join(target);
        if !std::fs::read_dir(&seeds).is_ok_and(|mut seeds| seeds.next().is_some()) {
            offences.push(format!("tests/golden/fuzz/{target}: nothing to begin with"));
        }
    }
    for source in &targets {
        let target = source.path.trim_start_matches("tests/fuzz/fuzz_targets/").trim_end_matches(".rs");
        if !PARSERS.iter().any(|(_, known)| *known == target) {
            offences.push(source.at(1, "tests/house/rules.rs does not know what this is for"));
        }
    }
    // A type that is read from text parses something.
    let known = |name: &str| PARSERS.iter().any(|it| it.0.ends_with(&format!("::{name}")));
    for source in sources("proto/src") {
        for (index, line) in source.code.lines().enumerate() {
            let name = line.strip_prefix("impl FromStr for ").map(|rest| rest.trim_end_matches([' ', '{', '}']));
            if let Some(name) = name.filter(|name| !known(name)) {
                offences.push(source.at(index + 1, &format!("{name} has no fuzz target in tests/house/rules.rs")));
            }
        }
    }
    // Every method has its parameters thrown at.
    let params = targets.iter().find(|source| source.path.ends_with("/control_params.rs"));
    for (index, line) in text("proto/src/control/method/mod.rs").lines().enumerate() {
        let Some((name, _)) = line.trim().split_once(" = \"").filter(|_| line.contains(" => ")) else { continue };
        let thrown = params.is_some_and(|source| source.lines_with(name).next().is_some());
        if !thrown {
            let what = format!("the parameters of {name} are missing from tests/fuzz/fuzz_targets/control_params.rs");
            offences.push(format!("proto/src/control/method/mod.rs:{}: {what}", index + 1));
        }
    }
    hold("Whatever parses bytes from outside has a fuzz target.", &offences);
}

/// Whether `source` uses what `parser` ends with, and names the module that it is in.
fn refers_to(source: &Source, parser: &str) -> bool {
    parser.split("::").all(|word| source.lines_with(word).next().is_some())
}

#[test]
fn files_stay_small() {
    let offences: Vec<String> = PACKAGES
        .into_iter()
        .flat_map(sources)
        .filter(|source| source.code.lines().count() > 600)
        .map(|source| source.at(601, "a file of more than 600 lines has two subjects"))
        .collect();
    hold("A file has at most 600 lines, its tests not counted.", &offences);
}

#[test]
fn no_test_is_switched_off() {
    let mut offences = Vec::new();
    let marks = ["#[ignore", "todo!(", "unimplemented!("];
    for source in PACKAGES.into_iter().flat_map(sources) {
        for (index, line) in text(&source.path).lines().enumerate() {
            let bare = crate::source::code(line);
            if let Some(mark) = marks.iter().find(|mark| bare.contains(*mark)) {
                offences.push(source.at(index + 1, mark));
            }
        }
    }
    hold("A test that does not run, or code that is not written, is a defect.", &offences);
}

/// What Cargo knows of the workspace.
fn metadata() -> Value {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = std::process::Command::new(cargo);
    command.current_dir(workspace()).args(["metadata", "--no-deps", "--format-version", "1", "--offline"]);
    kith_tests::process::run(&mut command, kith_tests::PATIENCE).ok().json()
}

/// The normal dependencies of `package`, each with its features.
fn dependencies(metadata: &Value, package: &str) -> Vec<(String, Vec<String>)> {
    let packages = metadata["packages"].as_array().expect("packages");
    let package = packages.iter().find(|it| it["name"] == package).expect("a package of the workspace");
    let words = |value: &Value| {
        let words = value.as_array().into_iter().flatten();
        words.filter_map(Value::as_str).map(str::to_owned).collect()
    };
    let dependencies = package["dependencies"].as_array().expect("dependencies").iter();
    dependencies
        .filter(|it| it["kind"].is_null())
        .map(|it| (it["name"].as_str().unwrap_or_default().to_owned(), words(&it["features"])))
        .collect()
}
