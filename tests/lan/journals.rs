//! What the tests of journals have in common: writing many entries, looking at them, and hearing how they are synced.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use kith_tests::door::Door;
use kith_tests::host::{Host, pair};
use kith_tests::process::Running;
use kith_tests::{PATIENCE, wait};
use serde_json::{Value, json};

use crate::net::LONG;

/// The journal that all own devices have.
pub const DEFAULT: &str = "default";

/// Bytes in base64.
pub fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for three in bytes.chunks(3) {
        let number = three.iter().fold(0, |number, byte| number << 8 | usize::from(*byte)) << (8 * (3 - three.len()));
        let digits = [18, 12, 6, 0].map(|shift| char::from(DIGITS[number >> shift & 63]));
        text.extend(&digits[..=three.len()]);
        text.extend(std::iter::repeat_n('=', 3 - three.len()));
    }
    text
}

/// Writes an entry, and returns it.
#[track_caller]
pub fn put(host: &Host, id: &str, text: &str) -> Value {
    host.door().call("entries.put", json!({"journal": DEFAULT, "id": id, "body": base64(text.as_bytes())}))
}

/// Writes many entries with one body; all of them are acknowledged.
#[track_caller]
pub fn put_all(host: &Host, ids: impl IntoIterator<Item = String>, body: &[u8]) {
    let (ids, body): (Vec<_>, _) = (ids.into_iter().collect(), base64(body));
    let params = |id: &str| json!({"journal": DEFAULT, "id": id, "body": body});
    // Several connections share the wait for the disk.
    std::thread::scope(|scope| {
        for some in ids.chunks(ids.len().div_ceil(8).max(1)) {
            scope.spawn(|| ask_all(&mut host.door(), "entries.put", some, params));
        }
    });
}

/// Deletes an entry.
#[track_caller]
pub fn delete(host: &Host, id: &str) {
    host.door().call("entries.delete", json!({"journal": DEFAULT, "id": id}));
}

/// Calls `method` for each of `ids`, some of them under way at the same time.
#[track_caller]
fn ask_all(door: &mut Door, method: &str, ids: &[String], params: impl Fn(&str) -> Value) {
    let answer = |door: &mut Door| {
        let message = door.read().expect("the daemon answers");
        assert!(message["error"].is_null(), "{method}: {message}");
    };
    let mut open = 0;
    for id in ids {
        door.ask(method, params(id));
        open += 1;
        if open == 8 {
            answer(door);
            open -= 1;
        }
    }
    (0..open).for_each(|_| answer(door));
}

/// The ids `PREFIX-0` to `PREFIX-(count - 1)`.
pub fn ids(prefix: &str, count: usize) -> impl Iterator<Item = String> {
    let prefix = prefix.to_owned();
    (0..count).map(move |number| format!("{prefix}-{number}"))
}

/// All pages of a list.
#[track_caller]
fn pages(host: &Host, method: &str, key: &str, mut params: Value) -> Vec<Value> {
    let (mut door, mut all) = (host.door(), Vec::new());
    loop {
        let mut page = door.call(method, params.clone());
        all.append(page[key].as_array_mut().expect("a list"));
        match page["next"].take() {
            Value::Null => return all,
            next => params["after"] = next,
        }
    }
}

/// Every entry with all that devices agree on, deletions included.
#[track_caller]
pub fn entries_of(host: &Host, journal: &str) -> BTreeMap<String, Value> {
    let listed = pages(host, "entries.list", "entries", json!({"journal": journal, "deleted": true}));
    let keyed = listed.into_iter().map(|mut entry| {
        // Each device counts for itself.
        entry.as_object_mut().expect("an object").remove("seq");
        (entry["id"].as_str().expect("an id").to_owned(), entry)
    });
    keyed.collect()
}

/// The entries of the default journal.
#[track_caller]
pub fn entries(host: &Host) -> BTreeMap<String, Value> {
    entries_of(host, DEFAULT)
}

/// The ids of the entries that are not deleted.
#[track_caller]
pub fn live(host: &Host) -> BTreeSet<String> {
    entries(host).into_iter().filter(|(_, entry)| entry["deleted"] == false).map(|(id, _)| id).collect()
}

/// Versions that lost a conflict and are kept here.
#[track_caller]
pub fn history(host: &Host) -> Vec<Value> {
    pages(host, "entries.history", "versions", json!({"journal": DEFAULT}))
}

/// Versions that came back from before the horizon.
#[track_caller]
pub fn recovered(host: &Host) -> Vec<Value> {
    pages(host, "entries.recovered", "versions", json!({"journal": DEFAULT}))
}

/// The content of an entry, of the version with this hash if one is given.
#[track_caller]
pub fn text_of(host: &Host, id: &str, version: Option<&str>) -> String {
    let mut words = vec!["entries", "get", DEFAULT, id, "--raw"];
    words.extend(version.iter().flat_map(|hash| ["--version", hash]));
    host.ctl(&words).ok().stdout
}

/// The default journal, as the daemon shows it.
#[track_caller]
pub fn journal(host: &Host) -> Value {
    host.door().call("journals.show", json!({"journal": DEFAULT}))
}

/// A number of it.
#[track_caller]
pub fn count(host: &Host, key: &str) -> u64 {
    journal(host)[key].as_u64().expect("a number")
}

/// Waits until all have the same entries, deletions included; and returns them.
#[track_caller]
pub fn wait_equal(hosts: &[&Host]) -> BTreeMap<String, Value> {
    let mut last = Vec::new();
    let equal = wait::attempt(LONG, || {
        let counts: BTreeSet<_> =
            hosts.iter().map(|host| (count(host, "entries"), count(host, "tombstones"))).collect();
        if counts.len() > 1 {
            last = counts.into_iter().map(|counts| format!("{counts:?}")).collect();
            return None;
        }
        let all: Vec<_> = hosts.iter().map(|host| entries(host)).collect();
        let first = &all[0];
        last = all[1..].iter().flat_map(|other| difference(first, other)).take(10).collect();
        last.is_empty().then(|| first.clone())
    });
    equal.unwrap_or_else(|| panic!("the journals never became equal: {last:#?}"))
}

fn difference(one: &BTreeMap<String, Value>, other: &BTreeMap<String, Value>) -> Vec<String> {
    let ids: BTreeSet<_> = one.keys().chain(other.keys()).collect();
    let differ = ids.into_iter().filter(|id| one.get(*id) != other.get(*id));
    differ.map(|id| format!("{id}: {:?} | {:?}", one.get(id), other.get(id))).collect()
}

/// Waits until the live entry `id` is on `host` with this content.
#[track_caller]
pub fn wait_text(host: &Host, id: &str, text: &str) {
    let mut door = host.door();
    let (mut last, wanted) = (String::new(), base64(text.as_bytes()));
    let found = wait::attempt(LONG, || {
        let got = door.try_call("entries.get", json!({"journal": DEFAULT, "id": id}));
        last = format!("{got:?}");
        got.is_ok_and(|got| got["body"] == wanted).then_some(())
    });
    assert!(found.is_some(), "{} never had {id} with {text:?}; last: {last}", host.name());
}

/// Pairs two devices, and waits until each knows that the other one has all that is in the default journal.
#[track_caller]
pub fn join(one: &Host, other: &Host) {
    pair(one, other);
    settle(one, other);
}

/// Waits until two devices have nothing to tell each other.
#[track_caller]
pub fn settle(one: &Host, other: &Host) {
    for (here, there) in [(one, other), (other, one)] {
        let id = there.id();
        here.wait_peer(&id, |peer| peer["online"] == true);
        wait::until_true("nothing to be left to tell", LONG, || {
            let sync = sync_with(here, &id);
            sync["state"] == "idle" && sync["last_sync"].is_string() && sync["journals"][0]["lag"] == 0
        });
    }
}

/// How syncing with a device is.
#[track_caller]
pub fn sync_with(host: &Host, id: &str) -> Value {
    let all = host.door().call("sync.status", json!({}));
    let all = all["peers"].as_array().expect("a list");
    all.iter().find(|sync| sync["peer"]["id"] == id).cloned().unwrap_or_default()
}

/// Hears all that the daemon tells of syncing, from now until it ends.
pub struct Ear(Running);

impl Ear {
    /// At this host.
    #[track_caller]
    pub fn at(host: &Host) -> Self {
        let kinds = ["sync:started", "sync:complete", "sync:error", "entry:conflict", "entry:recovered"];
        let words: Vec<_> =
            ["events", "--json"].into_iter().chain(kinds.iter().flat_map(|kind| ["--kind", kind])).collect();
        let mut running = host.ctl_spawn(&words);
        running.json_line(PATIENCE);
        Self(running)
    }

    /// What it told so far.
    #[track_caller]
    pub fn heard(&self) -> Vec<Value> {
        let said = self.0.said();
        // The last line may be on its way.
        let whole = said.rfind('\n').map_or("", |end| &said[..end]);
        let lines = whole.lines().skip(1).map(|line| serde_json::from_str(line).expect("a line of JSON"));
        let lines: Vec<Value> = lines.collect();
        assert!(lines.iter().all(|line| line["kind"].is_string()), "nothing is missed: {lines:?}");
        lines
    }

    /// What it told of this kind.
    #[track_caller]
    pub fn told(&self, kind: &str) -> Vec<Value> {
        self.heard().into_iter().filter(|event| event["kind"] == kind).map(|mut event| event["data"].take()).collect()
    }

    /// The sessions that ended, well or not, in which this device took or gave something.
    #[track_caller]
    pub fn moved(&self) -> Vec<Value> {
        let ended = [self.told("sync:complete"), self.told("sync:error")].concat();
        ended.into_iter().filter(|session| number(session, "sent") + number(session, "received") > 0).collect()
    }

    /// Waits until something that it told is as wanted.
    #[track_caller]
    pub fn wait(&self, what: &str, kind: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let mut last = Vec::new();
        let found = wait::attempt(LONG, || {
            last = self.told(kind);
            last.iter().find(|told| wanted(told)).cloned()
        });
        found.unwrap_or_else(|| panic!("waited in vain for {what}; {kind} told: {last:#?}"))
    }
}

/// A number in an object.
#[track_caller]
pub fn number(object: &Value, key: &str) -> u64 {
    object[key].as_u64().unwrap_or_else(|| panic!("{key} is a number: {object}"))
}

/// Rounds of a test that does one thing again and again: so many, and with `KITH_LONG=1` more of them.
pub fn rounds(few: usize, many: usize) -> usize {
    if std::env::var_os("KITH_LONG").is_some_and(|long| long == "1") { many } else { few }
}

/// Time that has to pass for two writes to have an order that no clock disputes.
pub fn tick() {
    wait::nap(Duration::from_millis(5));
}
