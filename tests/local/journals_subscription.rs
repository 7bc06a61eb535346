//! Following a journal: an app that comes and goes misses nothing, and asks for nothing twice.

use std::collections::BTreeMap;
use std::fs;

use kith_tests::PATIENCE;
use kith_tests::door::Door;
use kith_tests::host::Host;
use serde_json::{Value, json};

use crate::journals::{App, DEFAULT};
use crate::support::friends;

/// Somebody who follows a journal, and what it knows by that.
struct Follower {
    door: Door,
    cursor: Value,
    reset: bool,
    known: BTreeMap<String, Value>,
    told: Vec<String>,
}

impl Follower {
    /// Follows from `cursor` on; from now on where it is null.
    #[track_caller]
    fn new(host: &Host, journal: &str, cursor: Value) -> Self {
        let mut follower =
            Self { door: host.door(), cursor: Value::Null, reset: false, known: BTreeMap::new(), told: Vec::new() };
        let mut params = json!({ "journal": journal });
        if !cursor.is_null() {
            params["cursor"] = cursor;
        }
        // What follows may come before the answer.
        let id = follower.door.ask("entries.subscribe", params);
        let mut early = Vec::new();
        loop {
            let mut message = follower.door.read().expect("the daemon answers");
            if message["id"] == id {
                assert!(message["error"].is_null(), "{message}");
                follower.cursor = message["result"]["cursor"].take();
                follower.reset = message["result"]["reset"] == true;
                break;
            }
            early.push(message["params"].take());
        }
        early.into_iter().for_each(|notice| follower.take(notice));
        follower
    }

    #[track_caller]
    fn take(&mut self, mut notice: Value) {
        assert_eq!(notice["kind"], "entry:changed", "{notice}");
        let entry = notice["data"]["entry"].take();
        let id = entry["id"].as_str().expect("an id").to_owned();
        self.cursor = notice["data"]["cursor"].take();
        self.told.push(id.clone());
        self.known.insert(id, entry);
    }

    #[track_caller]
    fn next(&mut self) {
        let notice = self.door.event(|params| params["kind"] == "entry:changed");
        self.take(notice);
    }

    /// Reads until what it knows is what is there.
    #[track_caller]
    fn wait_for(&mut self, expected: &BTreeMap<String, Value>) {
        while self.known != *expected {
            assert!(self.told.len() < 10_000, "there is no end of it");
            self.next();
        }
    }
}

/// What is there.
#[track_caller]
fn all(app: &mut App) -> BTreeMap<String, Value> {
    let entries = app.list(json!({"deleted": true}));
    entries.into_iter().map(|it| (it["id"].as_str().expect("an id").to_owned(), it)).collect()
}

#[test]
fn whoever_follows_is_told_of_every_change() {
    let host = Host::running("anna");
    let mut app = App::of(&host, DEFAULT);
    app.put("old", "x");
    let mut now = Follower::new(&host, DEFAULT, Value::Null);
    let mut from_start = Follower::new(&host, DEFAULT, json!(""));
    assert!(!now.reset && !from_start.reset);
    app.put("new", "x");
    app.put("old", "y");
    app.delete("new");
    now.wait_for(&all(&mut app));
    from_start.wait_for(&all(&mut app));
    assert!(!now.told.is_empty() && from_start.told[0] == "old");
    // Where it is now is where the journal is: nothing is told twice from there.
    let mut after = Follower::new(&host, DEFAULT, now.cursor.clone());
    app.put("last", "x");
    after.next();
    assert_eq!(after.told, ["last"]);
}

#[test]
fn a_cursor_goes_on_without_a_gap_and_ends_at_the_newest() {
    let mut host = Host::running("anna");
    let mut app = App::of(&host, DEFAULT);
    for i in 0..20 {
        app.put(&format!("e{i}"), "first");
    }
    let mut follower = Follower::new(&host, DEFAULT, json!(""));
    // It stops somewhere in the middle, and much happens meanwhile.
    (0..7).for_each(|_| follower.next());
    let (cursor, mut known) = (follower.cursor.clone(), follower.known.clone());
    drop(follower);
    app.put("e3", "second");
    app.put("e19", "second");
    app.delete("e12");
    app.put("e20", "first");
    drop(app);
    host.restart();
    let mut app = App::of(&host, DEFAULT);
    let mut follower = Follower::new(&host, DEFAULT, cursor);
    assert!(!follower.reset, "the same database");
    follower.known.append(&mut known);
    follower.wait_for(&all(&mut app));
    assert!(!follower.told.contains(&"e0".to_owned()), "what was told and did not change is not told again");
    let told = &follower.told;
    assert_eq!(told.iter().filter(|id| *id == "e3").count(), 1, "each once: {told:?}");
}

#[test]
fn what_other_devices_write_is_told_too() {
    let (anna, bert) = friends();
    let mut follower = Follower::new(&bert, DEFAULT, Value::Null);
    let mut app = App::of(&anna, DEFAULT);
    let put = app.put_with("one", b"hi", json!({"meta": {"k": 1}}));
    follower.next();
    let told = &follower.known["one"];
    for key in ["id", "hash", "stamp", "device", "meta", "size", "updated_at"] {
        assert_eq!(told[key], put[key], "{key}");
    }
    app.delete("one");
    follower.next();
    assert_eq!(follower.known["one"]["deleted"], true);
}

#[test]
fn f44_who_follows_and_never_reads_hurts_nobody() {
    let host = Host::running("anna");
    let mut app = App::of(&host, DEFAULT);
    let meta = json!({"k": "m".repeat(15_000)});
    let mut silent: Vec<Door> = (0..3).map(|_| host.door()).collect();
    for door in &mut silent {
        for journal in [DEFAULT; 3] {
            door.ask("entries.subscribe", json!({"journal": journal, "cursor": ""}));
        }
    }
    let mut follower = Follower::new(&host, DEFAULT, json!(""));
    // Far more than any buffer between them holds.
    for i in 0..300 {
        app.call("entries.put", json!({"id": format!("e{i}"), "meta": meta}));
    }
    follower.wait_for(&all(&mut app));
    assert_eq!(app.ids().len(), 300);
    // Whoever reads at last gets everything, too.
    let mut late = std::collections::BTreeSet::new();
    while late.len() < 300 {
        let notice = silent[0].event(|params| params["kind"] == "entry:changed");
        late.insert(notice["data"]["entry"]["id"].as_str().expect("an id").to_owned());
    }
}

#[test]
fn several_who_follow_each_get_their_own_journal() {
    let host = Host::running("anna");
    let mut app = App::of(&host, DEFAULT);
    let ids: Vec<Value> =
        ["a", "b"].iter().map(|name| app.door.call("journals.create", json!({"name": name}))["id"].clone()).collect();
    let mut both = host.door();
    for name in ["a", "b"] {
        both.call("entries.subscribe", json!({ "journal": name }));
    }
    let mut only = Follower::new(&host, "b", Value::Null);
    for (journal, id) in [("a", "in a"), ("b", "in b"), (DEFAULT, "in neither"), ("b", "last")] {
        app.door.call("entries.put", json!({"journal": journal, "id": id}));
    }
    let mut told = Vec::new();
    while told.len() < 3 {
        let notice = both.event(|params| params["kind"] == "entry:changed");
        let data = &notice["data"];
        let name = if data["journal"] == ids[0] { "a" } else { "b" };
        told.push(format!("{name}: {}", data["entry"]["id"].as_str().expect("an id")));
    }
    told.sort();
    assert_eq!(told, ["a: in a", "b: in b", "b: last"]);
    only.next();
    only.next();
    assert_eq!(only.told, ["in b", "last"]);
}

#[test]
fn a_database_that_is_another_one_begins_anew() {
    let mut host = Host::running("anna");
    let mut app = App::of(&host, DEFAULT);
    (0..5).for_each(|i| drop(app.put(&format!("old{i}"), "x")));
    let cursor = app.call("journals.show", json!({}))["cursor"].clone();
    drop(app);
    host.stop();
    for file in ["kith.db", "kith.db-wal", "kith.db-shm"] {
        drop(fs::remove_file(host.path("data").join(file)));
    }
    host.start();
    let mut app = App::of(&host, DEFAULT);
    app.put("new", "x");
    let mut follower = Follower::new(&host, DEFAULT, cursor.clone());
    assert!(follower.reset, "that place is of a database that is no more");
    follower.wait_for(&all(&mut app));
    assert_eq!(follower.told, ["new"]);
    // The place that it has now holds.
    let again = Follower::new(&host, DEFAULT, follower.cursor.clone());
    assert!(!again.reset);

    let mut watch =
        host.ctl_spawn(&["entries", "watch", DEFAULT, "--since", cursor.as_str().expect("a place"), "--json"]);
    assert_eq!(watch.json_line(PATIENCE)["reset"], true);
    assert_eq!(watch.json_line(PATIENCE)["entry"]["id"], "new");
}

#[test]
fn whoever_follows_a_journal_that_goes_away_is_not_told_of_another() {
    let host = Host::running("anna");
    let mut app = App::of(&host, DEFAULT);
    app.door.call("journals.create", json!({"name": "notes"}));
    let mut follower = Follower::new(&host, "notes", json!(""));
    app.door.call("entries.put", json!({"journal": "notes", "id": "one"}));
    follower.next();
    app.door.call("journals.remove", json!({"journal": "notes"}));
    app.door.call("journals.create", json!({"name": "notes"}));
    app.door.call("entries.put", json!({"journal": "notes", "id": "two"}));
    let mut other = Follower::new(&host, "notes", json!(""));
    other.next();
    assert_eq!(other.told, ["two"]);
    // Its connection lives, and has said nothing of the other journal.
    follower.door.ask("daemon.status", json!({}));
    let message = follower.door.read().expect("an answer");
    assert!(message["result"]["id"].is_string(), "{message}");
}
