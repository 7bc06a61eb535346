//! Syncing: when it happens, what is told of it, and what becomes of edits that did not know each other.

use kith_proto::limits;
use kith_tests::host::{self, Host};
use kith_tests::random::Random;
use kith_tests::{PATIENCE, wait};
use serde_json::{Value, json};

use crate::journals::{App, DEFAULT, apart, export, sync, three, wait_same};
use crate::support::friends;

/// How `host` sees syncing with `peer`.
#[track_caller]
fn status(host: &Host, peer: &Host) -> Value {
    let status = host.door().call("sync.status", json!({}));
    let found = status["peers"].as_array().expect("a list").iter().find(|it| it["peer"]["id"] == peer.id());
    found.unwrap_or_else(|| panic!("{} is in {status}", peer.name())).clone()
}

#[track_caller]
fn wait_status(host: &Host, peer: &str, wanted: impl Fn(&Value) -> bool) -> Value {
    let mut last = Value::Null;
    let found = wait::attempt(2 * PATIENCE, || {
        last = host.door().call("sync.status", json!({}));
        last["peers"].as_array().expect("a list").iter().find(|it| it["peer"]["name"] == peer && wanted(it)).cloned()
    });
    found.unwrap_or_else(|| panic!("{} never saw syncing with {peer} so; last: {last}", host.name()))
}

#[test]
fn what_was_there_before_the_pairing_is_there_after_it() {
    let (anna, bert) = (Host::running("anna"), Host::running("bert"));
    App::of(&anna, DEFAULT).put_with("one", b"from anna", json!({"meta": {"mood": "gut"}}));
    App::of(&bert, DEFAULT).put("two", "from bert");
    let gone = App::of(&bert, DEFAULT).put("three", "x");
    App::of(&bert, DEFAULT).delete(gone["id"].as_str().expect("an id"));
    host::pair(&bert, &anna);
    let state = wait_same(&[&anna, &bert], DEFAULT, 2);
    assert_eq!((&state["one"]["meta"], &state["one"]["device"]), (&json!({"mood": "gut"}), &json!(anna.id())));
    assert_eq!(state["three"]["deleted"], true, "deletions travel");
    assert_eq!(App::of(&bert, DEFAULT).text("one").as_deref(), Some("from anna"));
    assert_eq!(export(&anna, DEFAULT), export(&bert, DEFAULT));
}

#[test]
fn changes_travel_by_themselves_also_through_a_device_in_between() {
    let (anna, bert, carl) = three(false);
    let mut app = App::of(&anna, DEFAULT);
    for round in 0..3 {
        app.put("it", format!("round {round}"));
        App::of(&bert, DEFAULT).wait_text("it", &format!("round {round}"));
        App::of(&bert, DEFAULT).put("back", format!("round {round}"));
        // Bert and Carl do not know each other: Anna hands it on.
        App::of(&carl, DEFAULT).wait_text("back", &format!("round {round}"));
    }
    App::of(&carl, DEFAULT).delete("it");
    App::of(&bert, DEFAULT).wait_deleted("it");
    let state = wait_same(&[&anna, &bert, &carl], DEFAULT, 1);
    assert_eq!(state["back"]["device"], bert.id(), "whoever hands on does not write");
}

#[test]
fn a_change_made_while_the_other_is_away_arrives_when_it_is_back() {
    let (mut anna, mut bert) = friends();
    wait_status(&anna, "bert", |it| it["last_sync"].is_string());
    bert.stop();
    App::of(&anna, DEFAULT).put("one", "x");
    let away = wait_status(&anna, "bert", |it| it["state"] == "offline");
    assert_eq!(away["journals"][0]["lag"], 1);
    let (code, exit) = anna.ctl_refused(&["sync", "bert"]);
    assert_eq!((code.as_str(), exit), ("peer_offline", 7));
    assert_eq!(anna.ctl_refused(&["sync"]), ("peer_offline".to_owned(), 7));
    let failed = wait_status(&anna, "bert", |it| it["error"].is_object());
    assert_eq!(failed["error"]["code"], "peer_offline");
    // Nor does it get lost with a restart here.
    anna.restart();
    let kept = wait_status(&anna, "bert", |it| it["state"] == "offline");
    assert_eq!(kept["journals"][0]["lag"], 1);
    bert.start();
    App::of(&bert, DEFAULT).wait_text("one", "x");
    let done = wait_status(&anna, "bert", |it| it["journals"][0]["lag"] == 0 && it["state"] == "idle");
    assert_eq!(done["error"], Value::Null, "{done}");
}

#[test]
fn a_session_is_told_of_from_its_beginning_to_its_end() {
    let (anna, bert) = friends();
    wait_status(&anna, "bert", |it| it["last_sync"].is_string() && it["state"] == "idle");
    let mut events = anna.door();
    events.call("events.subscribe", json!({"kinds": ["sync:started", "sync:complete", "sync:error"]}));
    let mut app = App::of(&anna, DEFAULT);
    (0..3).for_each(|i| drop(app.put(&format!("e{i}"), "x")));
    // The three may go in one session or in several.
    let (mut sent, mut started) = (0, None);
    while sent < 3 {
        let told = events.event(|_| true);
        assert_eq!(told["data"]["peer"], json!({"id": bert.id(), "name": "bert"}));
        if told["kind"] == "sync:started" {
            started = Some(told);
            continue;
        }
        let (complete, started) = (told, started.take().expect("it began before it ended"));
        assert_eq!(complete["kind"], "sync:complete", "{complete}");
        assert!(complete["seq"].as_u64() > started["seq"].as_u64());
        let data = &complete["data"];
        for key in ["sent", "received", "conflicts", "refused", "bytes", "ms"] {
            assert!(data[key].is_u64() && started["data"][key].is_u64(), "{key}: {data}");
        }
        assert!(data["dialled"].is_boolean() && data["bytes"].as_u64() > Some(0) && data["reason"].is_null(), "{data}");
        let triggers = ["discovered", "paired", "changed", "timer", "asked", "called"];
        assert!(triggers.contains(&data["trigger"].as_str().expect("a word")), "{data}");
        assert_eq!((&data["received"], &data["conflicts"], &data["refused"]), (&json!(0), &json!(0), &json!(0)));
        sent += data["sent"].as_u64().expect("a number");
    }
    assert_eq!(sent, 3, "each once");

    let output = anna.ctl(&["sync", "bert", "--json"]).ok();
    let told = output.objects();
    let last = told.last().expect("one event");
    assert_eq!((&last["kind"], &last["data"]["sent"]), (&json!("sync:complete"), &json!(0)));
    assert!(last["data"]["bytes"].as_u64() < Some(2048), "nothing to do costs next to nothing: {last}");
    assert!(anna.ctl(&["sync"]).ok().stdout.contains("sent 0, received 0, conflicts 0"));

    let mut bert = bert;
    bert.stop();
    assert_eq!(anna.ctl(&["sync", "bert"]).status, 7);
    let error = events.event(|params| params["kind"] == "sync:error");
    assert_eq!((&error["data"]["peer"]["name"], &error["data"]["dialled"]), (&json!("bert"), &json!(true)));
    assert_eq!(
        (&error["data"]["reason"]["code"], &error["data"]["trigger"]),
        (&json!("peer_offline"), &json!("asked"))
    );
}

#[test]
fn g52_edits_that_did_not_know_each_other_have_one_winner_and_both_are_kept() {
    let (mut anna, mut bert) = friends();
    App::of(&anna, DEFAULT).put("it", "before");
    wait_same(&[&anna, &bert], DEFAULT, 1);
    apart(
        &mut anna,
        &mut bert,
        |anna| {
            App::of(anna, DEFAULT).put("it", "by anna");
            App::of(anna, DEFAULT).put("same", "equal");
        },
        |bert| {
            App::of(bert, DEFAULT).put("it", "by bert");
            App::of(bert, DEFAULT).put("same", "equal");
        },
    );
    let state = wait_same(&[&anna, &bert], DEFAULT, 2);
    assert_eq!(state["it"]["device"], bert.id(), "the later one");
    for host in [&anna, &bert] {
        let mut app = App::of(host, DEFAULT);
        assert_eq!(app.text("it").as_deref(), Some("by bert"));
        // What was replaced knowingly is no conflict, and the same twice is none either.
        assert_eq!(app.history("it"), ["by anna"], "{}", host.name());
        assert_eq!(app.history("same"), [] as [&str; 0], "g54: {}", host.name());
        let kept = app.call("entries.history", json!({}));
        assert_eq!(kept["versions"].as_array().map(Vec::len), Some(1));
        assert_eq!((&kept["versions"][0]["seq"], &kept["versions"][0]["device"]), (&json!(0), &json!(anna.id())));
    }
    // Both were told, at some time since they were started.
    for host in [&anna, &bert] {
        let mut events = host.door();
        events.ask("events.subscribe", json!({"kinds": ["entry:conflict"], "since": 0}));
        let told = events.event(|params| params["kind"] == "entry:conflict");
        assert_eq!((&told["data"]["name"], &told["data"]["winner"]["id"]), (&json!(DEFAULT), &json!("it")));
        assert_eq!(told["data"]["winner"]["hash"], state["it"]["hash"]);
        assert_eq!(told["data"]["loser"]["device"], anna.id());
    }
    let counted = wait_status(&bert, "anna", |it| it["journals"][0]["conflicts"] == 1);
    assert_eq!(counted["journals"][0]["refused"], Value::Null);

    // Somebody prefers the other one: it is current again, everywhere, and no conflict.
    let mut app = App::of(&anna, DEFAULT);
    let hash = app.call("entries.history", json!({"id": "it"}))["versions"][0]["hash"].clone();
    app.call("entries.recover", json!({"id": "it", "version": hash}));
    App::of(&bert, DEFAULT).wait_text("it", "by anna");
    assert_eq!(app.history("it"), [] as [&str; 0], "it is current now");
    // Forgetting a version is each device's own affair.
    let mut app = App::of(&bert, DEFAULT);
    app.put("it", "later");
    assert_eq!(app.history("it"), ["by anna"]);
    app.call("entries.recover", json!({"id": "it", "version": hash, "discard": true}));
    assert_eq!((app.history("it"), app.text("it").as_deref()), (Vec::new(), Some("later")));
    assert_eq!(app.refused("entries.recover", json!({"id": "it", "version": hash})), "entry_not_found");
}

#[test]
fn g53_an_edit_and_a_deletion_that_did_not_know_each_other() {
    let (mut anna, mut bert) = friends();
    for id in ["edited last", "deleted last"] {
        App::of(&anna, DEFAULT).put(id, "before");
    }
    wait_same(&[&anna, &bert], DEFAULT, 2);
    apart(
        &mut anna,
        &mut bert,
        |anna| {
            App::of(anna, DEFAULT).delete("edited last");
            App::of(anna, DEFAULT).put("deleted last", "by anna");
        },
        |bert| {
            App::of(bert, DEFAULT).put("edited last", "by bert");
            App::of(bert, DEFAULT).delete("deleted last");
        },
    );
    let state = wait_same(&[&anna, &bert], DEFAULT, 1);
    assert_eq!(state["deleted last"]["deleted"], true);
    for host in [&anna, &bert] {
        let mut app = App::of(host, DEFAULT);
        assert_eq!(app.text("edited last").as_deref(), Some("by bert"));
        assert_eq!(app.history("deleted last"), ["by anna"], "{}: an edit is never lost", host.name());
    }
    // It can be had back.
    let mut app = App::of(&bert, DEFAULT);
    let hash = app.call("entries.history", json!({"id": "deleted last"}))["versions"][0]["hash"].clone();
    app.call("entries.recover", json!({"id": "deleted last", "version": hash}));
    App::of(&anna, DEFAULT).wait_text("deleted last", "by anna");
}

#[test]
fn g52_three_devices_edit_one_entry() {
    let (mut anna, mut bert, mut carl) = three(true);
    App::of(&anna, DEFAULT).put("it", "before");
    wait_same(&[&anna, &bert, &carl], DEFAULT, 1);
    let mut hosts = [&mut anna, &mut bert, &mut carl];
    hosts.iter_mut().for_each(|host| assert_eq!(host.stop(), 0));
    for host in &mut hosts {
        host.start();
        let name = host.name().to_owned();
        App::of(host, DEFAULT).put("it", format!("by {name}"));
        host.stop();
    }
    hosts.iter_mut().for_each(|host| host.start());
    wait_same(&[&anna, &bert, &carl], DEFAULT, 1);
    for host in [&anna, &bert, &carl] {
        let mut app = App::of(host, DEFAULT);
        assert_eq!(app.text("it").as_deref(), Some("by carl"));
    }
    // Two losers, and whoever met them kept them.
    let mut kept: Vec<String> =
        [&anna, &bert, &carl].iter().flat_map(|host| App::of(host, DEFAULT).history("it")).collect();
    kept.sort();
    kept.dedup();
    assert_eq!(kept, ["by anna", "by bert"]);
}

#[test]
fn bodies_of_every_length_travel() {
    let (anna, bert) = friends();
    let mut random = Random::printed("bodies that travel");
    let lengths = [0, 1, limits::ENTRY_INLINE, limits::ENTRY_INLINE + 1, (1 << 20) + 1, limits::ENTRY_BODY];
    let mut app = App::of(&anna, DEFAULT);
    let bodies: Vec<Vec<u8>> = lengths.iter().map(|len| random.bytes(*len)).collect();
    for (i, body) in bodies.iter().enumerate() {
        app.put(&format!("e{i}"), body);
    }
    wait_same(&[&anna, &bert], DEFAULT, bodies.len());
    let mut app = App::of(&bert, DEFAULT);
    for (i, body) in bodies.iter().enumerate() {
        assert!(app.get(&format!("e{i}")).expect("it is there").1 == *body, "{} bytes changed", body.len());
    }
    // The greatest one again, changed in one byte, from the other side.
    let mut last = bodies.last().expect("several").clone();
    last[7] ^= 1;
    app.put("e5", &last);
    wait_same(&[&anna, &bert], DEFAULT, bodies.len());
    assert!(App::of(&anna, DEFAULT).get("e5").expect("it is there").1 == last);
}

#[test]
fn thousands_of_entries_go_both_ways() {
    const EACH: usize = 5_000;
    let (anna, bert) = (Host::running("anna"), Host::running("bert"));
    for host in [&anna, &bert] {
        let lines = (0..EACH).map(|i| format!("{{\"id\":\"{}-{i}\",\"body\":\"eA==\"}}\n", host.name()));
        let path = host.path("entries.ndjson");
        std::fs::write(&path, lines.collect::<String>()).expect("the home is ours");
        let path = path.to_str().expect("UTF-8").to_owned();
        let done = run_long(host, &["entries", "import", DEFAULT, "--file", &path, "--json"]);
        assert_eq!(done["imported"], EACH);
    }
    host::pair(&bert, &anna);
    wait_same(&[&anna, &bert], DEFAULT, 2 * EACH);
    // A few more, and only those cross.
    let mut app = App::of(&anna, DEFAULT);
    app.put("anna-7", "changed");
    app.delete("bert-7");
    wait_same(&[&anna, &bert], DEFAULT, 2 * EACH - 1);
    sync(&anna, &bert);
    assert_eq!(status(&anna, &bert)["journals"][0]["lag"], 0);
    let doctor = anna.ctl(&["doctor"]);
    let line = doctor.stdout.lines().find(|line| line.contains("journals"));
    assert!(line.is_some_and(|line| line.starts_with("ok") && line.contains("counted")), "{}", doctor.stdout);
}

/// As [`Host::ctl_json`], with the patience for thousands of writes.
#[track_caller]
fn run_long(host: &Host, arguments: &[&str]) -> Value {
    kith_tests::process::run(&mut host.ctl_command(arguments), 5 * PATIENCE).ok().json()
}
