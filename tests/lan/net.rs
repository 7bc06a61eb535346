//! What the tests of this target have in common: hosts of a lab with a daemon each, friends among them, transfers.

use std::path::Path;
use std::time::Duration;

use kith_tests::host::{Host, pair};
use kith_tests::lab::Lab;
use kith_tests::process::Running;
use kith_tests::{PATIENCE, tree, wait};
use serde_json::{Value, json};

/// A lab with a started device on each host, named as given. `None` where there are no labs.
#[track_caller]
pub fn network<const N: usize>(names: [&str; N]) -> Option<(Lab, [Host; N])> {
    started(Lab::new(N)?, names)
}

/// The same, with one more host behind the others, where somebody else may do as he likes.
#[track_caller]
pub fn network_and_one<const N: usize>(names: [&str; N]) -> Option<(Lab, [Host; N])> {
    started(Lab::new(N + 1)?, names)
}

#[track_caller]
fn started<const N: usize>(lab: Lab, names: [&str; N]) -> Option<(Lab, [Host; N])> {
    let mut at = 0;
    let mut hosts = names.map(|name| {
        at += 1;
        let mut host = Host::on(&lab, at, name);
        host.launch();
        host
    });
    hosts.iter_mut().for_each(Host::wait_ready);
    Some((lab, hosts))
}

/// Pairs two devices, each of which takes what the other offers, and waits until each has reached the other.
#[track_caller]
pub fn befriend(one: &Host, other: &Host) {
    pair(one, other);
    one.accept_all_from(other);
    other.accept_all_from(one);
    one.wait_peer(&other.id(), |peer| peer["online"] == true);
    other.wait_peer(&one.id(), |peer| peer["online"] == true);
}

/// Where the files of `peer` go on `host`, once they are friends.
pub fn inbox(host: &Host, peer: &str) -> std::path::PathBuf {
    host.path(&format!("from-{peer}"))
}

/// Leaves a file or directory to the daemon for `peer`, and returns the transfer's id.
#[track_caller]
pub fn leave(from: &Host, path: &Path, peer: &str) -> String {
    let sent = from.ctl_json(&["send", text(path), "--to", peer, "--no-wait"]);
    sent["id"].as_str().expect("an id").to_owned()
}

/// Begins to send beside the test; the command ends when the transfer does.
#[track_caller]
pub fn begin(from: &Host, path: &Path, peer: &str) -> Running {
    from.ctl_spawn(&["--json", "send", text(path), "--to", peer])
}

/// The id of a transfer whose command runs beside the test.
#[track_caller]
pub fn id_of(sending: &mut Running) -> String {
    sending.json_line(PATIENCE)["id"].as_str().expect("an id").to_owned()
}

/// Waits until a transfer is in its middle here: some of it has moved.
#[track_caller]
pub fn wait_middle(host: &Host, id: &str) {
    let moved = |it: &Value| it["state"] == "active" && it["bytes_done"].as_u64() > Some(1 << 20);
    wait::until_true("the middle of a transfer", PATIENCE, || host.transfer(id).as_ref().is_some_and(moved));
    let left = host.transfer(id).expect("it is known");
    assert_ne!(left["state"], "done", "there was no middle: {left}");
}

/// The daemon's word on a device of this id or name, if it knows one.
#[track_caller]
pub fn peer(host: &Host, wanted: &str) -> Option<Value> {
    let list = host.ctl_json(&["peers"]);
    let peers = list["peers"].as_array().expect("a list of peers");
    peers.iter().find(|it| it["id"] == wanted || it["name"] == wanted).cloned()
}

/// A connection that hears of peers from now on.
#[track_caller]
pub fn listen(host: &Host) -> kith_tests::door::Door {
    let mut door = host.door();
    door.call("events.subscribe", json!({"kinds": ["peer:discovered", "peer:updated", "peer:lost"]}));
    door
}

/// Whether a notification says `kind` of the device `id`.
pub fn says(kind: &str, id: &str) -> impl Fn(&Value) -> bool {
    move |event| event["kind"] == kind && event["data"]["id"] == id
}

/// A file of so many bytes in the home of `host`.
#[track_caller]
pub fn file(host: &Host, name: &str, size: u64, seed: u64) -> std::path::PathBuf {
    let path = host.path(name);
    tree::large(&path, size, seed).expect("the home is ours");
    path
}

/// Panics unless two files have the same content.
#[track_caller]
pub fn assert_same_file(expected: &Path, found: &Path) {
    let hash = |path: &Path| match std::fs::File::open(path) {
        Ok(file) => {
            let mut hasher = blake3::Hasher::new();
            hasher.update_reader(file).expect("a file of ours can be read");
            hasher.finalize()
        }
        Err(error) => panic!("{}: {error}", path.display()),
    };
    assert_eq!(hash(expected), hash(found), "{} is not {}", found.display(), expected.display());
}

/// A path as an argument.
pub fn text(path: &Path) -> &str {
    path.to_str().expect("a path in UTF-8")
}

/// The end of patience with what waits for a link to be given up, or for the pause between two tries.
pub const LONG: Duration = Duration::from_secs(180);
