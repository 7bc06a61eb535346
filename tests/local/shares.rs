//! Credentials between paired devices: no code, TLS proves both ends, and what comes waits in the inbox, sealed on the
//! disk, until somebody looks through it. Codes are tried in `lan`, where tests do not hear each other.

use kith_tests::host::{Host, pair};
use kith_tests::{PATIENCE, wait};
use serde_json::{Value, json};

const VALUE: &str = "VALUEOFTHEPAIRED";

fn friends() -> [Host; 2] {
    let [here, there] = ["here", "there"].map(Host::running);
    pair(&there, &here);
    here.door().call("secrets.add", json!({ "name": "geo", "type": "api-key", "value": VALUE }));
    [here, there]
}

/// Sends to the paired device, and what `kithctl` says last.
#[track_caller]
fn hand_over(here: &Host) -> Value {
    here.ctl_json(&["secrets", "send", "geo", "--to", "there"])
}

#[track_caller]
fn waiting(host: &Host) -> Vec<Value> {
    let shares = host.door().call("shares.list", json!({}));
    let mut shares = shares["shares"].as_array().expect("a list").clone();
    shares.retain(|share| share["state"] == "review");
    shares
}

fn names(host: &Host) -> Vec<String> {
    let secrets = host.door().call("secrets.list", json!({}));
    secrets["secrets"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|it| it["name"].as_str().expect("a name").to_owned())
        .collect()
}

#[test]
fn h80_what_comes_waits_sealed_for_a_review_also_through_a_restart() {
    let [here, mut there] = friends();
    let mut events = there.door();
    events.call("events.subscribe", json!({ "kinds": ["share:updated"] }));
    let sent = hand_over(&here);
    assert_eq!((&sent["state"], &sent["peer"]["name"]), (&json!("delivered"), &json!("there")));
    assert!(sent.get("code").is_none(), "no code between paired devices: {sent}");
    let told = events.event(|event| event["data"]["state"] == "review");
    assert_eq!((&told["data"]["name"], &told["data"]["peer"]["name"]), (&json!("geo"), &json!("here")));
    assert!(!told.to_string().contains(VALUE));

    let inbox = there.ctl(&["inbox"]).ok().stdout;
    assert!(inbox.contains("geo") && inbox.contains("here") && !inbox.contains(VALUE), "{inbox}");
    assert_eq!(there.status()["inbox"], 1);
    there.kill9();
    for file in ["kith.db", "kith.db-wal", "kithd.log"] {
        let bytes = std::fs::read(there.path(file)).unwrap_or_default();
        assert!(!bytes.windows(VALUE.len()).any(|window| window == VALUE.as_bytes()), "the value is in {file}");
    }
    there.start();

    let id = waiting(&there)[0]["share"].as_str().expect("an id").to_owned();
    let review = there.door().call("shares.review", json!({ "share": &id[..8] }));
    assert_eq!((&review["secrets"][0]["name"], &review["secrets"][0]["meets"]), (&json!("geo"), &json!("nothing")));
    assert!(!review.to_string().contains(VALUE), "a review shows no value");
    let saved = there.ctl_json(&["secrets", "receive", "--inbox", &id, "--yes", "--name", "maps"]);
    assert_eq!((&saved["secrets"][0]["name"], &saved["secrets"][0]["action"]), (&json!("maps"), &json!("renamed")));
    assert_eq!(there.door().call("secrets.view", json!({ "name": "maps" }))["value"], VALUE);
    assert_eq!(there.status()["inbox"], 0);
    assert_eq!(there.door().refused("shares.save", json!({ "share": id })), "wrong_state");
    there.restart();
    assert_eq!(waiting(&there), Vec::<Value>::new(), "what was saved does not come back");
}

#[test]
fn what_is_not_wanted_goes() {
    let [here, mut there] = friends();
    for way in ["inbox", "method"] {
        hand_over(&here);
        let id = waiting(&there)[0]["share"].as_str().expect("an id").to_owned();
        match way {
            "inbox" => drop(there.ctl(&["inbox", "reject", &id]).ok()),
            _ => drop(there.door().call("shares.decline", json!({ "share": id }))),
        }
        assert_eq!(waiting(&there), Vec::<Value>::new());
    }
    there.restart();
    assert_eq!((waiting(&there), names(&there)), (Vec::new(), Vec::new()));
}

#[test]
fn names_that_are_taken_are_asked_about() {
    let [here, there] = friends();
    there.door().call("secrets.add", json!({ "name": "Geo", "type": "api-key", "value": "another" }));
    hand_over(&here);
    let id = waiting(&there)[0]["share"].clone();
    let mut door = there.door();
    let review = door.call("shares.review", json!({ "share": id }));
    assert_eq!(review["secrets"][0]["meets"], "another");
    assert_eq!(door.refused("shares.save", json!({ "share": id })), "name_taken");
    assert_eq!(door.call("secrets.view", json!({ "name": "geo" }))["value"], "another");
    let saved = door.call("shares.save", json!({ "share": id, "on_conflict": "rename" }));
    assert_eq!(saved["secrets"][0]["name"], "geo (2)");
    hand_over(&here);
    let id = waiting(&there)[0]["share"].clone();
    door.call("shares.save", json!({ "share": id, "on_conflict": "replace" }));
    assert_eq!(door.call("secrets.view", json!({ "name": "GEO" }))["value"], VALUE);
    hand_over(&here);
    let id = waiting(&there)[0]["share"].clone();
    assert_eq!(door.call("shares.review", json!({ "share": id }))["secrets"][0]["meets"], "equal");
    assert_eq!(door.call("shares.save", json!({ "share": id }))["secrets"][0]["action"], "equal");
}

#[test]
fn who_cannot_take_it_says_why() {
    let [here, mut there] = friends();
    // Its vault is locked.
    let mut door = there.door();
    door.call("vault.passphrase", json!({ "new": "correct horse" }));
    door.call("vault.lock", json!({}));
    let (code, exit) = here.ctl_refused(&["secrets", "send", "geo", "--to", "there"]);
    assert_eq!((code.as_str(), exit), ("rejected", 1));
    door.call("vault.unlock", json!({ "passphrase": "correct horse" }));
    // Nor does it begin to wait for a code that it could not use.
    door.call("vault.lock", json!({}));
    assert_eq!(door.refused("shares.receive", json!({ "kind": "secret", "code": "0000" })), "vault_locked");
    door.call("vault.unlock", json!({ "passphrase": "correct horse" }));
    // It takes no offers of this device.
    there.ctl(&["trust", "policy", "here", "--offers", "never"]).ok();
    assert_eq!(here.ctl_refused(&["secrets", "send", "geo", "--to", "there"]).0, "rejected");
    there.ctl(&["trust", "policy", "here", "--offers", "ask"]).ok();
    // Too much waits there.
    for _ in 0..kith_proto::limits::SHARES_WAITING {
        hand_over(&here);
    }
    assert_eq!(here.ctl_refused(&["secrets", "send", "geo", "--to", "there"]).0, "quota");
    assert_eq!(waiting(&there).len(), kith_proto::limits::SHARES_WAITING);
    // It is not there.
    there.stop();
    let (code, exit) = here.ctl_refused(&["secrets", "send", "geo", "--to", "there"]);
    assert_eq!((code.as_str(), exit), ("peer_offline", 7));
    there.start();
    // It does not trust this device any more; and the other way round.
    there.ctl(&["trust", "revoke", "here", "--yes"]).ok();
    assert_eq!(here.ctl_refused(&["secrets", "send", "geo", "--to", "there"]).0, "not_trusted");
    here.ctl(&["trust", "revoke", "there", "--yes"]).ok();
    assert_eq!(here.ctl_refused(&["secrets", "send", "geo", "--to", "there"]).0, "not_paired");
    assert_eq!(here.ctl_refused(&["secrets", "send", "geo", "--to", "nobody"]).0, "peer_not_found");
}

#[test]
fn d35_a_revoked_device_hands_nothing_over() {
    let [here, there] = friends();
    there.ctl(&["trust", "revoke", "here", "--yes"]).ok();
    assert_eq!(here.ctl_refused(&["secrets", "send", "geo", "--to", "there"]).0, "not_trusted");
    assert_eq!(waiting(&there), Vec::<Value>::new());
}

#[test]
fn f44_what_cannot_be_is_refused_by_name() {
    let host = Host::running("host");
    let mut door = host.door();
    door.call("secrets.add", json!({ "name": "geo", "type": "api-key", "value": "x" }));
    for (method, params, code) in [
        ("shares.send", json!({ "kind": "secret", "name": "none" }), "secret_not_found"),
        ("shares.send", json!({ "kind": "database", "name": "geo" }), "database_not_found"),
        ("shares.send", json!({ "kind": "key", "name": "geo" }), "invalid_param"),
        ("shares.send", json!({ "kind": "secret", "name": "geo", "rename": "a\nb" }), "invalid_param"),
        ("shares.send", json!({ "kind": "secret", "name": "geo", "to": "nobody" }), "peer_not_found"),
        ("shares.send", json!({ "kind": "secret", "name": "geo", "code": "1234" }), "unknown_param"),
        ("shares.receive", json!({ "kind": "secret", "code": "12" }), "invalid_param"),
        ("shares.receive", json!({ "kind": "secret", "code": "12345678901" }), "invalid_param"),
        ("shares.receive", json!({ "kind": "secret", "code": "abcd" }), "invalid_param"),
        ("shares.receive", json!({ "kind": "secret" }), "invalid_param"),
        ("shares.review", json!({ "share": "none" }), "share_not_found"),
        ("shares.save", json!({ "share": "" }), "share_not_found"),
        ("shares.cancel", json!({ "share": "none" }), "share_not_found"),
    ] {
        assert_eq!(door.refused(method, params.clone()), code, "{method} {params}");
    }
    // Sixteen at once are enough; each ends with the connection that began it.
    let begin = json!({ "kind": "secret", "code": "0000" });
    for _ in 0..kith_proto::limits::SHARES {
        door.call("shares.receive", begin.clone());
    }
    assert_eq!(door.refused("shares.receive", begin.clone()), "busy");
    let id = door.call("shares.list", json!({}))["shares"][0]["share"].clone();
    assert_eq!(door.refused("shares.review", json!({ "share": id })), "wrong_state", "nothing arrived yet");
    drop(door);
    wait::until_true("the shares to end", PATIENCE, || {
        let shares = host.door().call("shares.list", json!({}));
        shares["shares"].as_array().expect("a list").iter().all(|share| share["state"] == "canceled")
    });
    let kept = host.door().call("shares.receive", json!({ "kind": "secret", "code": "0000", "detach": true }));
    let id = kept["share"].clone();
    let state = |host: &Host| host.door().call("shares.list", json!({}))["shares"][0]["state"].clone();
    assert_eq!(state(&host), "waiting", "it outlives the connection that began it");
    host.door().call("shares.cancel", json!({ "share": id }));
    assert_eq!(state(&host), "canceled");
}
