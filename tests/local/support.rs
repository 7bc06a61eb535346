//! What several tests need.

use std::fs::{self, File};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime};

use kith_tests::fault::{Relay, Weather};
use kith_tests::host::{self, Host};
use kith_tests::process::run;
use kith_tests::random::Random;
use kith_tests::{PATIENCE, binaries, wait};
use serde_json::{Value, json};

/// Anna and Bert, started and paired: Anna has typed Bert's PIN.
#[track_caller]
pub fn friends() -> (Host, Host) {
    let (anna, bert) = (Host::running("anna"), Host::running("bert"));
    host::pair(&bert, &anna);
    (anna, bert)
}

/// Anna and Bert; whatever Anna offers, Bert takes into the directory that is returned.
#[track_caller]
pub fn giver_and_taker() -> (Host, Host, PathBuf) {
    let (anna, bert) = friends();
    let dir = bert.accept_all_from(&anna);
    (anna, bert, dir)
}

/// As [`giver_and_taker`], with a relay between Anna and Bert's peer door, which nothing of Anna's goes past.
#[track_caller]
pub fn relayed() -> (Host, Host, PathBuf, Relay) {
    let (mut anna, mut bert) = (Host::new("anna"), Host::new("bert"));
    let at_port = |port| format!("[discovery]\nenabled = false\n[peer]\nport = {port}\n");
    // Not the port that follows from his id, which Anna could guess.
    bert.configure(&at_port(free_port()));
    bert.start();
    // Nor may he call on Anna, for he would tell her his port: where her door will be he finds himself, and so leaves
    // that address alone as long as he runs.
    let mirror = Relay::to(bert.address().parse().expect("an address"));
    let (code, _) = bert.ctl_refused(&["pair", &mirror.address().to_string(), "--pin", "000000"]);
    assert_eq!(code, "is_self");
    anna.configure(&at_port(mirror.address().port()));
    drop(mirror);
    anna.start();
    let relay = Relay::to(bert.address().parse().expect("an address"));
    let mut window = bert.ctl_spawn(&["pair", "--json"]);
    let shown = window.json_line(PATIENCE);
    let pin = shown["pin"].as_str().expect("a PIN");
    anna.ctl(&["pair", &relay.address().to_string(), "--pin", pin, "--json"]).ok();
    window.finish(PATIENCE).ok();
    let into = bert.accept_all_from(&anna);
    (anna, bert, into, relay)
}

/// A port that nobody listens on.
#[track_caller]
pub fn free_port() -> u16 {
    let address = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
    address.expect("a free port").port()
}

/// Two megabytes a second: sixty of them are under way for half a minute, however long a busy machine takes to get in
/// between.
pub fn slow() -> Weather {
    Weather { rate: Some(2 << 20), ..Weather::default() }
}

/// Waits until more than `bytes` of `id` have arrived at `host`.
#[track_caller]
pub fn wait_bytes(host: &Host, id: &str, bytes: u64) {
    let mut door = host.door();
    wait::until_true("bytes to arrive", PATIENCE, || {
        let show = door.try_call("transfer.show", json!({ "transfer": id }));
        show.is_ok_and(|it| it["bytes_done"].as_u64() > Some(bytes))
    });
}

/// A copy of `kithctl` in the home of `host` that everybody may run. Another process makes it: a file that is open for
/// writing here is open in whatever another test starts at that moment, too, and cannot be run while that lasts.
#[track_caller]
pub fn public_kithctl(host: &Host) -> PathBuf {
    let copy = host.path("kithctl");
    let mut install = Command::new("install");
    install.arg("--mode=755").arg(binaries::kithctl()).arg(&copy);
    run(&mut install, PATIENCE).ok();
    copy
}

/// `path` in UTF-8.
#[track_caller]
pub fn text(path: &Path) -> &str {
    path.to_str().expect("a path in UTF-8")
}

/// Makes a file below the home of `host`, of bytes that do not compress.
#[track_caller]
pub fn file(host: &Host, name: &str, size: usize) -> PathBuf {
    let path = host.path(name);
    fs::create_dir_all(path.parent().expect("a file lies in a directory")).expect("the home is ours");
    fs::write(&path, Random::seeded(size as u64 ^ 0x5eed).bytes(size)).expect("the home is ours");
    path
}

/// Makes a file of so many mebibytes below the home of `host`.
#[track_caller]
pub fn large(host: &Host, name: &str, mebibytes: u64) -> PathBuf {
    let path = host.path(name);
    kith_tests::tree::large(&path, mebibytes << 20, mebibytes).expect("there is room");
    path
}

/// Makes a directory below the home of `host`.
#[track_caller]
pub fn dir(host: &Host, name: &str) -> PathBuf {
    let path = host.path(name);
    fs::create_dir_all(&path).expect("the home is ours");
    path
}

/// Says that a file was changed so many seconds after 1970.
#[track_caller]
pub fn set_modified(path: &Path, seconds: u64) {
    let file = File::options().write(true).open(path).expect("a file that is there");
    file.set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)).expect("a time can be set");
}

/// Sends `path` to `peer` and waits for the end, which is a success. The last transfer object.
#[track_caller]
pub fn send(from: &Host, path: &Path, peer: &Host) -> Value {
    from.ctl_json(&["send", text(path), "--to", &peer.id()])
}

/// Begins to send `path` to `peer`; the transfer's id.
#[track_caller]
pub fn send_later(from: &Host, path: &Path, peer: &str) -> String {
    let transfer = from.door().call("transfer.send", json!({ "peer": peer, "paths": [path] }));
    transfer["id"].as_str().expect("an id").to_owned()
}

/// Waits for an offer in the inbox; the transfer object.
#[track_caller]
pub fn offer(host: &Host) -> Value {
    wait::until("an offer in the inbox", PATIENCE, || {
        let inbox = host.door().call("inbox.list", json!({}));
        inbox["transfers"].get(0).cloned()
    })
}

/// The names in a directory, sorted; none if it is not there.
pub fn names(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).into_iter().flatten();
    let mut names: Vec<String> =
        entries.map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

/// The parts of transfers below `dir`.
pub fn parts(dir: &Path) -> Vec<PathBuf> {
    // What goes away while one looks is looked for again.
    let entries = wait::until("a look without a gap", PATIENCE, || kith_tests::tree::list(dir).ok());
    entries.into_keys().filter(|path| path.extension().is_some_and(|extension| extension == "part")).collect()
}

/// The code of a failure that a transfer or a pairing carries.
pub fn reason(object: &Value) -> &str {
    object["reason"]["code"].as_str().unwrap_or_default()
}

/// Whether this is root: some faults can only be made by it.
pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// The problems of a transfer, as `path: reason`, sorted.
pub fn problems(transfer: &Value) -> Vec<String> {
    let list = transfer["problems"].as_array().into_iter().flatten();
    let word = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let mut list: Vec<String> = list.map(|it| format!("{}: {}", word(&it["path"]), word(&it["reason"]))).collect();
    list.sort();
    list
}

/// Panics unless two files have the same content.
#[track_caller]
pub fn assert_same_file(expected: &Path, found: &Path) {
    let read = |path: &Path| fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let (expected, found) = (read(expected), read(found));
    assert_eq!((found.len(), blake3::hash(&found)), (expected.len(), blake3::hash(&expected)));
}
