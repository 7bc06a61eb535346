//! Keeping journals the same.

use serde_json::{Value, json};

use crate::fake::Fake;
use crate::fake::Say::{self, Error, Event, Lagged, Result};

const NAS: &str = "9a4f0b2c00000000";
const PHONE: &str = "0000000000000002";

fn peer(id: &str, name: &str) -> Value {
    json!({"id": id, "name": name})
}

fn running(id: &str, name: &str) -> Value {
    json!({"peer": peer(id, name), "state": "running", "journals": [], "newer": 1})
}

fn session(id: &str, name: &str, changes: &Value) -> Value {
    let mut session = json!({
        "peer": peer(id, name), "dialled": true, "trigger": "asked", "sent": 3, "received": 2, "conflicts": 1,
        "refused": 0, "bytes": 100, "ms": 7,
    });
    for (key, value) in changes.as_object().unwrap() {
        session[key] = value.clone();
    }
    session
}

fn complete(id: &str, name: &str) -> Say {
    Event("sync:complete", session(id, name, &json!({})))
}

fn failed(id: &str, name: &str, rpc: i64, code: &str) -> Say {
    let reason = json!({"rpc": rpc, "code": code, "message": "gone", "hint": "look"});
    Event("sync:error", session(id, name, &json!({"reason": reason})))
}

fn subscribed(syncs: &Value) -> Say {
    Result(json!({"cursor": 0, "boot_id": "b", "snapshot": {
        "peers": [], "pairings": [], "transfers": [], "syncs": syncs
    }}))
}

/// A daemon that says `before`, names the devices, and says `then`.
fn syncing(peers: Vec<Value>, before: fn() -> Vec<Say>, then: fn() -> Vec<Say>) -> Fake {
    let mut asked = 0;
    Fake::new(move |method, _| match method {
        "events.subscribe" => {
            asked += 1;
            let error = json!({"rpc": 1004, "code": "peer_offline", "message": "gone"});
            let (mut nas, mut phone) = (running(NAS, "nas"), running(PHONE, "phone"));
            nas["state"] = json!(if asked % 2 == 0 { "idle" } else { "running" });
            phone["state"] = json!(if asked % 2 == 0 { "waiting" } else { "running" });
            phone["error"] = error;
            vec![subscribed(&json!([nas, phone]))]
        }
        "sync.start" => {
            let mut said = before();
            said.push(Result(json!({"peers": peers})));
            said.extend(then());
            said
        }
        _ => vec![Error(-32601, "unknown_method")],
    })
}

#[test]
fn it_waits_for_each_device() {
    let peers = vec![running(NAS, "nas"), running(PHONE, "phone")];
    let then: fn() -> Vec<Say> = || {
        vec![
            complete("0000000000000009", "of no concern"),
            Event("sync:started", session(PHONE, "phone", &json!({}))),
            complete(NAS, "nas\u{1b}[2J"),
            complete(NAS, "nas"),
            complete(PHONE, "phone"),
        ]
    };
    let fake = syncing(peers.clone(), Vec::new, then);
    let ran = fake.run("sync");
    let wanted = "nas\\u{1b}[2J (9a4f0b2c00000000): sent 3, received 2, conflicts 1\n\
                  phone (0000000000000002): sent 3, received 2, conflicts 1\n";
    assert_eq!((ran.exit, ran.stdout.as_str(), ran.stderr.as_str()), (Some(0), wanted, ""));
    let kinds = fake.asked("events.subscribe")[0]["kinds"].clone();
    assert_eq!((kinds, fake.asked("sync.start")), (json!(["sync:complete", "sync:error"]), vec![json!({})]));

    let ran = fake.run("sync nas --json");
    let devices: Vec<_> = ran.lines().iter().map(|line| line["data"]["peer"]["name"].clone()).collect();
    assert_eq!((ran.exit, devices), (Some(0), vec![json!("nas\u{1b}[2J"), json!("phone")]), "{ran:?}");
    assert_eq!(fake.asked("sync.start")[1], json!({"peer": "nas"}));

    // A session that was under way ends before the answer.
    let before: fn() -> Vec<Say> = || vec![complete(NAS, "nas"), complete(PHONE, "phone")];
    assert_eq!(syncing(peers.clone(), before, Vec::new).run("sync").exit, Some(0));

    let fake = syncing(peers, Vec::new, Vec::new);
    let ran = fake.run("sync --no-wait");
    assert_eq!(ran.stdout, "syncing with nas (9a4f0b2c00000000)\nsyncing with phone (0000000000000002)\n");
    assert_eq!(fake.run("sync --no-wait --json").lines()[0]["peers"][0], running(NAS, "nas"));
}

#[test]
fn a_failure_is_the_exit_code_and_the_others_are_waited_for() {
    let peers = vec![running(NAS, "nas"), running(PHONE, "phone")];
    let fake =
        syncing(peers.clone(), Vec::new, || vec![failed(NAS, "nas", 1004, "peer_offline"), complete(PHONE, "phone")]);
    let ran = fake.run("sync");
    assert_eq!((ran.exit, ran.stdout.lines().count()), (Some(7), 1), "{ran:?}");
    assert_eq!(ran.stderr, "kithctl: nas (9a4f0b2c00000000): gone\n  look\n");
    let ran = fake.run("sync --json");
    assert_eq!((ran.exit, ran.error_code().as_str(), ran.lines().len()), (Some(7), "peer_offline", 2), "{ran:?}");

    let both: fn() -> Vec<Say> =
        || vec![failed(NAS, "nas", 1005, "not_trusted"), failed(PHONE, "phone", 1004, "peer_offline")];
    let ran = syncing(peers.clone(), Vec::new, both).run("sync");
    assert_eq!((ran.exit, ran.stdout.as_str()), (Some(1), ""));
    assert!(ran.stderr.contains("phone (0000000000000002): gone\nkithctl: nas"), "{ran:?}");

    let silent: fn() -> Vec<Say> = || vec![Event("sync:error", session(NAS, "nas", &json!({})))];
    assert_eq!(syncing(vec![running(NAS, "nas")], Vec::new, silent).run("sync").exit, Some(1));

    let ran = syncing(Vec::new(), Vec::new, Vec::new).run("sync --json");
    assert_eq!((ran.exit, ran.error_code().as_str()), (Some(7), "peer_offline"));
}

#[test]
fn ends_that_were_missed_show_in_the_state() {
    let fake = syncing(vec![running(NAS, "nas"), running(PHONE, "phone")], Vec::new, || vec![Lagged]);
    let ran = fake.run("sync");
    assert_eq!((ran.exit, ran.stdout.as_str()), (Some(7), "nas (9a4f0b2c00000000): done\n"), "{ran:?}");
    assert_eq!(ran.stderr, "kithctl: phone (0000000000000002): gone\n");
    assert_eq!(fake.asked("events.subscribe").len(), 2);
}

#[test]
fn a_session_that_still_runs_is_waited_for_and_one_of_nobody_is_not() {
    for (syncs, last, exit) in [
        (json!([running(NAS, "nas")]), complete(NAS, "nas"), 0),
        (json!([running(NAS, "nas")]), failed(NAS, "nas", 1004, "peer_offline"), 7),
        (json!([running(PHONE, "phone")]), complete(PHONE, "phone"), 6),
    ] {
        let (mut asked, mut last) = (0, Some(last));
        let fake = Fake::new(move |method, _| match method {
            "events.subscribe" => {
                asked += 1;
                let mut said = vec![subscribed(&syncs)];
                said.extend(last.take_if(|_| asked == 2));
                said
            }
            _ => vec![Result(json!({"peers": [running(NAS, "nas")]})), Lagged],
        });
        let ran = fake.run("sync");
        assert_eq!((ran.exit, ran.stdout.lines().count()), (Some(exit), usize::from(exit == 0)), "{ran:?}");
    }
}

#[test]
fn b14_the_state_of_syncing() {
    const EVIL: &str = "x\n\u{1b}[2J\u{202e}";
    let result = json!({"peers": [
        {"peer": peer(NAS, "nas"), "state": "idle", "last_sync": "then", "skew_ms": 200_000_000, "journals": [
            {"journal": "0", "name": "default", "last_sync": "then", "lag": 4, "conflicts": 5},
            {"journal": "1", "name": EVIL, "lag": 0, "conflicts": 0, "refused": [{"id": EVIL, "reason": "bad_meta"}]},
        ]},
        {"peer": peer(PHONE, EVIL), "state": "of-tomorrow", "skew_ms": -600_000, "journals": [],
            "error": {"rpc": 1004, "code": "peer_offline", "message": "gone", "hint": "look"}},
    ]});
    let said = result.clone();
    let fake = Fake::new(move |_, _| vec![Result(said.clone())]);
    let ran = fake.run("sync status --json");
    assert_eq!((ran.exit, ran.lines(), ran.stderr.as_str()), (Some(0), vec![result], ""));
    let ran = fake.run("sync status");
    assert_eq!((ran.exit, ran.stdout.lines().count()), (Some(0), 4), "{ran:?}");
    let shown = "x\\u{a}\\u{1b}[2J\\u{202e}";
    for words in [format!("  idle     default{}  then       4    5", " ".repeat(shown.len() - 7)), format!("{shown} (")]
    {
        assert!(ran.stdout.contains(&words), "{words:?} is not in {}", ran.stdout);
    }
    for words in [
        "nas (9a4f0b2c00000000): WARNING: its clock is 55 h ahead",
        &format!("nas (9a4f0b2c00000000): {shown}: {shown} was not taken: bad_meta"),
        &format!("{shown} (0000000000000002): gone (peer_offline); look"),
        &format!("{shown} (0000000000000002): its clock is 10 min behind"),
    ] {
        assert_eq!(ran.stderr.matches(words).count(), 1, "{words:?} in {}", ran.stderr);
    }
}
