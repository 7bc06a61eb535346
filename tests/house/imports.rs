//! Who may import whom. Commands go down, facts go up, nothing goes round: a room imports what lies below it, and beside
//! it only where an arrow is drawn here. Every room of the daemon has a row.

use crate::hold;
use crate::source::{Source, sources};

const GROUND: &[&str] = &["platform", "config", "event", "task", "clock", "crowd"];
const STATE: &[&str] = &["store", "identity", "files"];
const PROOF: &[&str] = &["trust", "tls", "vault", "hello_store"];
const REACH: &[&str] = &["discovery", "dial"];
/// What a door may know besides the ground: engines by their handles, snapshots, and what carries bytes.
const OF_DOORS: &[&str] = &[
    "pairing",
    "transfer",
    "guest",
    "sync",
    "credentials",
    "codes",
    "vault",
    "hello_store",
    "trust",
    "discovery",
    "identity",
    "tls",
];

/// A room, and what it may import besides `kith-proto` and itself.
const ROOMS: &[(&str, &[&[&str]])] = &[
    // 1 ground
    ("platform", &[]),
    ("config", &[]),
    ("event", &[&["clock"]]),
    ("task", &[]),
    ("clock", &[]),
    ("crowd", &[]),
    // a program of the user's
    ("hook", &[GROUND]),
    // 2
    ("store", &[GROUND]),
    ("files", &[GROUND]),
    ("identity", &[GROUND, &["files"]]),
    // 3: trust keeps a witness of its age beside the database
    ("trust", &[GROUND, STATE]),
    // the verifier reads the trust snapshot.
    ("tls", &[GROUND, STATE, &["trust"]]),
    ("vault", &[GROUND, STATE]),
    ("hello_store", &[GROUND, STATE]),
    // 4 reach
    ("discovery", &[GROUND, &["store", "identity", "trust"]]),
    ("dial", &[GROUND, &["identity", "discovery", "trust", "tls", "hello_store"]]),
    // 5 engines
    ("pairing", &[GROUND, STATE, PROOF, REACH]),
    ("transfer", &[GROUND, STATE, PROOF, REACH, &["hook"]]),
    ("guest", &[GROUND, STATE, PROOF, REACH, &["hook"]]),
    ("sync", &[GROUND, STATE, PROOF, REACH]),
    ("credentials", &[GROUND, STATE, PROOF, REACH, &["pairing"]]),
    ("codes", &[GROUND, STATE, PROOF, REACH, &["sync"]]),
    // 6 doors, never each other
    ("doors::local", &[GROUND, OF_DOORS]),
    ("doors::peer", &[GROUND, OF_DOORS]),
    ("doors::guest", &[GROUND, OF_DOORS]),
];

/// 7: these know everyone.
const TOP: &[&str] = &["", "main", "daemon", "hello_server", "hello_server::metrics", "hello_server::pem"];

#[test]
fn rooms_import_what_lies_below_them() {
    let offences: Vec<String> = sources("daemon/src").iter().flat_map(check).collect();
    hold("A room imports what lies below it: tests/house/imports.rs has the table.", &offences);
}

fn check(source: &Source) -> Vec<String> {
    let module = module(&source.path);
    if TOP.contains(&module.as_str()) || module == "doors" {
        return Vec::new();
    }
    let Some((room, may)) = room(&module) else {
        return vec![source.at(1, &format!("{module} is no room of the table"))];
    };
    let offence = |line, path: &str| {
        let target = absolute(&module, path)?;
        match self::room(&target) {
            Some((other, _)) if other == room || may.iter().any(|rooms| rooms.contains(&other)) => None,
            Some((other, _)) => Some(source.at(line, &format!("{room} may not import {other}"))),
            None => Some(source.at(line, &format!("{room} imports {target}, which is no room of the table"))),
        }
    };
    source.names().iter().filter_map(|named| offence(named.line, &named.path)).collect()
}

/// The row that `module` belongs to.
fn room(module: &str) -> Option<(&'static str, &'static [&'static [&'static str]])> {
    ROOMS.iter().copied().find(|(room, _)| crate::source::is_within(module, room))
}

/// `daemon/src/doors/local/mod.rs` → `doors::local`
fn module(path: &str) -> String {
    let inside = path.trim_start_matches("daemon/src/").trim_end_matches(".rs");
    let inside = if inside == "lib" { "" } else { inside };
    inside.trim_end_matches("/mod").replace('/', "::")
}

/// The path within the crate, if it is one: `crate::x` and `super::x` as seen from `module`.
fn absolute(module: &str, path: &str) -> Option<String> {
    if let Some(inside) = path.strip_prefix("crate::") {
        return Some(inside.to_owned());
    }
    let mut base: Vec<&str> = module.split("::").collect();
    let mut rest = path.strip_prefix("self::").unwrap_or(path);
    if rest == path && !path.starts_with("super::") {
        return None;
    }
    while let Some(shorter) = rest.strip_prefix("super::") {
        base.pop();
        rest = shorter;
    }
    base.extend(rest.split("::"));
    Some(base.join("::"))
}

#[test]
fn the_check_sees_what_it_should() {
    let offences = |path: &str, code: &str| check(&Source { path: path.into(), code: code.into() });
    for (path, code, count) in [
        ("daemon/src/store/mod.rs", "use crate::{clock::Clock, task};", 0),
        ("daemon/src/store/mod.rs", "use crate::{clock::Clock, trust};", 1),
        ("daemon/src/transfer/send.rs", "use super::inbox; fn x() { crate::files::y(); crate::pairing::z() }", 1),
        ("daemon/src/doors/local/mod.rs", "use super::peer::X;", 1),
        ("daemon/src/doors/peer/accept.rs", "use super::x; use super::super::local::Caller;", 1),
        ("daemon/src/doors/peer/accept.rs", "use crate::transfer::Transfers; use crate::store::Store;", 1),
        ("daemon/src/doors/local/methods/x.rs", "use crate::{clock, config::Settings, files, trust::Trust};", 1),
        ("daemon/src/pairing.rs", "use crate::transfer::Transfers;", 1),
        ("daemon/src/identity.rs", "use crate::files; use crate::tls::Tls;", 1),
        ("daemon/src/tls/verify.rs", "use crate::trust::Snapshot; use crate::discovery::Discovery;", 1),
        ("daemon/src/shed.rs", "", 1),
        ("daemon/src/trust.rs", "use crate::Everything;", 1),
        ("daemon/src/daemon.rs", "use crate::doors::local;", 0),
    ] {
        let found = offences(path, code);
        assert_eq!(found.len(), count, "{path}: {code}: {found:?}");
    }
}
