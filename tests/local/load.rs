//! The control socket under load: whoever does not read delays nobody else.

use std::collections::BTreeSet;
use std::io::Write;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;

use kith_tests::door::Door;
use kith_tests::fault::Weather;
use kith_tests::host::Host;
use kith_tests::{PATIENCE, wait};
use serde_json::{Value, json};

use crate::support::{friends, large, relayed, send_later, slow, wait_bytes};

/// Writes `count` requests in a thread of its own.
fn pipeline(stream: UnixStream, count: u64, close: bool) -> std::thread::JoinHandle<()> {
    std::thread::spawn(move || {
        let mut stream = std::io::BufWriter::new(stream);
        for id in 1..=count {
            let method = if id % 2 == 0 { "daemon.status" } else { "peers.list" };
            // An error is the reader's to find: fewer answers than requests.
            drop(writeln!(stream, r#"{{"jsonrpc":"2.0","id":{id},"method":"{method}"}}"#));
        }
        drop(stream.flush());
        if close {
            let stream = stream.into_inner().expect("everything is flushed");
            stream.shutdown(std::net::Shutdown::Write).expect("an open socket can be shut");
        }
    })
}

fn connect(host: &Host) -> (UnixStream, Door) {
    let stream = UnixStream::connect(host.socket()).expect("the daemon listens");
    (stream.try_clone().expect("a socket can be shared"), Door::over(stream))
}

#[test]
fn f44_ten_thousand_requests_in_one_go_are_all_answered_before_the_end() {
    let host = Host::running("anna");
    let (stream, mut door) = connect(&host);
    let writer = pipeline(stream, 10_000, true);
    let mut seen = BTreeSet::new();
    while let Some(answer) = door.read() {
        assert!(answer["result"].is_object(), "{answer}");
        assert!(seen.insert(answer["id"].as_u64().expect("a number")), "answered twice");
    }
    assert_eq!(seen.len(), 10_000);
    writer.join().expect("the writer ends");
}

#[test]
fn f44_half_close_answers_everything_that_was_asked() {
    let host = Host::running("anna");
    for count in [1, 2, 63, 64, 65, 200] {
        let (stream, mut door) = connect(&host);
        let writer = pipeline(stream, count, true);
        let answers = std::iter::from_fn(|| door.read()).count() as u64;
        assert_eq!(answers, count);
        writer.join().expect("the writer ends");
    }
}

#[test]
fn f44_half_close_ends_a_subscription_in_order() {
    let host = Host::running("anna");
    let mut door = host.door();
    door.ask("events.subscribe", json!({}));
    door.half_close();
    assert!(door.read().expect("the answer")["result"]["cursor"].is_u64());
    assert!(door.rest().is_empty());
}

/// Makes `count` facts: a pairing that is called off makes three or so.
fn make_facts(host: &Host, count: u64) {
    let mut door = host.door();
    let cursor =
        |door: &mut Door| door.call("events.subscribe", json!({"kinds": []}))["cursor"].as_u64().expect("a number");
    let start = cursor(&mut door);
    while cursor(&mut door) < start + count {
        for _ in 0..50 {
            door.call("pairing.join", json!({"target": "127.0.0.1:1", "pin": "000000"}));
        }
    }
}

#[test]
fn f44_a_subscriber_that_never_reads_delays_nobody_and_learns_what_it_missed() {
    let host = Host::running("anna");
    let mut deaf = host.door();
    deaf.ask("events.subscribe", json!({}));
    let mut quick = host.door();
    quick.call("events.subscribe", json!({"kinds": ["pairing:updated"]}));
    // More than the ring and every buffer in between hold.
    make_facts(&host, 8000);
    assert!(host.status()["id"].is_string(), "others are answered");
    quick.event(|event| event["kind"] == "pairing:updated");

    let mut missed = 0;
    let mut last = 0;
    while missed == 0 {
        let message = deaf.read().expect("the stream goes on");
        if message["method"] != "event" {
            continue;
        }
        let params = &message["params"];
        if params["kind"] == "lagged" {
            missed = params["data"]["missed"].as_u64().expect("a number");
            assert!(missed > 0);
            assert_eq!(params["seq"], Value::Null);
        } else {
            let seq = params["seq"].as_u64().expect("a number");
            assert!(last == 0 || seq == last + 1, "a gap without a word: {last}, {seq}");
            last = seq;
        }
    }
    let next = deaf.event(|_| true);
    assert_eq!(next["seq"].as_u64(), Some(last + missed + 1), "exactly as many as were missed");
}

#[test]
fn f44_a_caller_that_never_reads_its_answers_delays_nobody() {
    let host = Host::running("anna");
    let deaf: Vec<UnixStream> = (0..4)
        .map(|_| {
            let stream = UnixStream::connect(host.socket()).expect("the daemon listens");
            stream.set_nonblocking(true).expect("a socket can be set so");
            let mut writer = &stream;
            let request = b"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"daemon.doctor\"}\n".repeat(64);
            // Until the daemon stops reading: it holds a bounded number of answers.
            let full = wait::attempt(PATIENCE, || match writer.write(&request) {
                Ok(_) => None,
                Err(error) => Some(error.kind()),
            });
            assert!(full.is_some(), "the daemon takes requests without end while nobody reads the answers");
            stream
        })
        .collect();
    for _ in 0..100 {
        assert!(host.status()["id"].is_string());
    }
    let mut host = host;
    assert_eq!(host.stop(), 0, "it does not wait for them either");
    drop(deaf);
}

#[test]
fn connections_beyond_the_bound_are_told_so_and_places_come_back() {
    let host = Host::running("anna");
    let mut held: Vec<Door> = (0..kith_proto::limits::CONTROL_CONNECTIONS).map(|_| host.door()).collect();
    for door in &mut held {
        assert!(door.call("daemon.status", json!({}))["id"].is_string());
    }
    let mut late = host.door();
    let answer = late.read().expect("a word");
    assert_eq!(answer["error"]["data"]["code"], "busy");
    assert!(late.read().is_none());
    let (code, exit) = host.ctl_refused(&["status"]);
    assert_eq!((code.as_str(), exit), ("busy", 7));
    held.truncate(10);
    wait::until_true("a place", PATIENCE, || host.ctl(&["status"]).status == 0);
}

#[test]
fn events_go_on_behind_a_cursor_of_the_same_boot() {
    let host = Host::running("anna");
    let mut door = host.door();
    let cursor = door.call("events.subscribe", json!({"kinds": ["pairing:updated"]}))["cursor"].clone();
    door.call("pairing.join", json!({"target": "127.0.0.1:1", "pin": "000000"}));
    let first = door.event(|event| event["data"]["state"] == "failed");
    // Another connection asks for what was since: the same facts, with the same numbers.
    let mut later = host.door();
    later.call("events.subscribe", json!({"since": cursor}));
    let again = later.event(|event| event["data"]["state"] == "failed");
    assert_eq!(again, first);
    for field in ["seq", "time", "kind", "data"] {
        assert!(!first[field].is_null(), "{field}");
    }
    // A cursor from the future can only be of another boot.
    let mut lost = host.door();
    lost.call("events.subscribe", json!({"since": u64::MAX}));
    lost.call("pairing.join", json!({"target": "127.0.0.1:1", "pin": "000000"}));
    lost.event(|event| event["kind"] == "pairing:updated");
}

#[test]
fn a_cursor_that_is_too_old_is_told_how_much_is_gone() {
    let host = Host::running("anna");
    make_facts(&host, 1500);
    let mut door = host.door();
    door.call("events.subscribe", json!({"since": 1}));
    let (mut last, mut facts, mut gaps) = (1, 0, 0);
    while facts < 100 {
        let notice = door.event(|_| true);
        if notice["kind"] == "lagged" {
            last += notice["data"]["missed"].as_u64().expect("a number");
            gaps += 1;
        } else {
            last += 1;
            facts += 1;
            assert_eq!(notice["seq"], last, "a gap without a word");
        }
    }
    assert!(gaps > 0, "more facts than the ring holds, and nothing missed");
}

#[test]
fn the_snapshot_holds_the_state_of_everything() {
    let (anna, bert) = friends();
    let missing: PathBuf = anna.path("missing");
    std::fs::write(&missing, "x").expect("the home is ours");
    let id = send_later(&anna, &missing, "bert");
    crate::support::offer(&bert);
    let answer = bert.door().call("events.subscribe", json!({}));
    let snapshot = &answer["snapshot"];
    assert_eq!(snapshot["peers"][0]["name"], "anna");
    assert_eq!(snapshot["transfers"][0]["id"], id.as_str());
    assert_eq!(snapshot["pairings"][0]["state"], "paired");
    assert!(answer["cursor"].is_u64() && answer["boot_id"].is_string());
}

#[test]
fn a_control_call_is_answered_while_a_large_file_moves() {
    let (anna, bert, _, relay) = relayed();
    relay.set(slow());
    let film = large(&anna, "film.bin", 150);
    let id = send_later(&anna, &film, "bert");
    wait_bytes(&bert, &id, 0);
    let mut door = anna.door();
    let mut calls = 0;
    while anna.transfer(&id).expect("it is known")["state"] != "done" {
        assert!(door.call("daemon.status", json!({}))["id"].is_string());
        calls += 1;
        if calls == 10 {
            // Now as fast as it goes.
            relay.set(Weather::default());
        }
    }
    assert!(calls >= 10, "only {calls} calls while 150 MiB moved");
}
