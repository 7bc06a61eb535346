//! Pairing on one machine: PIN, QR, windows, and what a secret leaves behind.

use kith_tests::PATIENCE;
use kith_tests::host::{self, Host};
use kith_tests::process::{Output, Running};
use kith_tests::wait;
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::support::{friends, reason};

/// A window on `host`, and what it shows.
#[track_caller]
pub fn window(host: &Host) -> (Running, Value) {
    let mut window = host.ctl_spawn(&["pair", "--json"]);
    let shown = window.json_line(PATIENCE);
    (window, shown)
}

pub fn pin(shown: &Value) -> &str {
    shown["pin"].as_str().expect("a PIN")
}

/// Another PIN than the one shown, the `n`th.
pub fn wrong(shown: &Value, n: u32) -> String {
    let right: u32 = pin(shown).parse().expect("digits");
    format!("{:06}", (right + 1 + n) % 1_000_000)
}

#[track_caller]
pub fn type_pin(host: &Host, at: &Host, pin: &str) -> Output {
    host.ctl(&["pair", &at.address(), "--pin", pin, "--json"])
}

#[track_caller]
pub fn code(output: &Output) -> String {
    output.error()["error"]["code"].as_str().expect("a code").to_owned()
}

pub fn trusted(host: &Host) -> Vec<String> {
    let list = host.door().call("trust.list", json!({}));
    let peers = list["peers"].as_array().expect("peers").iter();
    peers.filter(|peer| peer["state"] == "trusted").map(|peer| peer["id"].as_str().expect("an id").to_owned()).collect()
}

/// The text of the QR with an address at which this machine can be dialled.
pub fn local_qr(shown: &Value) -> String {
    let qr = shown["qr"].as_str().expect("a QR");
    let rest = qr.split_once('&').expect("parts").1;
    format!("kith://pair?h=127.0.0.1&{rest}")
}

#[test]
fn a_pin_makes_both_trust_each_other_until_after_a_restart() {
    let (mut anna, mut bert) = (Host::running("anna"), Host::running("bert"));
    host::pair(&anna, &bert);
    for _ in 0..2 {
        assert_eq!(trusted(&anna), [bert.id()]);
        assert_eq!(trusted(&bert), [anna.id()]);
        anna.restart();
        bert.kill9();
        bert.start();
    }
    let peer = anna.door().call("trust.show", json!({"peer": "bert"}));
    assert_eq!(peer["public_key"], bert.door().call("daemon.identity", json!({}))["public_key"]);
    assert_eq!((&peer["relation"], &peer["policy"]["offers"]), (&json!("own"), &json!("ask")));
    assert!(peer["paired_at"].is_string());
}

#[test]
fn both_find_each_other_after_pairing_whoever_typed() {
    let (anna, bert) = (Host::running("anna"), Host::running("bert"));
    host::pair(&anna, &bert);
    for (from, to) in [(&bert, &anna), (&anna, &bert)] {
        let letter = crate::support::file(from, "letter", 10);
        crate::support::send_later(from, &letter, &to.id());
        crate::support::offer(to);
    }
}

#[test]
fn events_tell_both_sides_and_never_the_pin() {
    let (anna, bert) = (Host::running("anna"), Host::running("bert"));
    let (mut at_anna, mut at_bert) = (anna.door(), bert.door());
    for door in [&mut at_anna, &mut at_bert] {
        door.call("events.subscribe", json!({}));
    }
    let (shows, shown) = window(&anna);
    type_pin(&bert, &anna, pin(&shown)).ok();
    shows.finish(PATIENCE).ok();
    for (door, other) in [(&mut at_anna, &bert), (&mut at_bert, &anna)] {
        let mut seen = Vec::new();
        door.event(|event| {
            assert!(!event.to_string().contains(pin(&shown)), "{event}");
            seen.push(event["kind"].as_str().expect("a kind").to_owned());
            event["kind"] == "pairing:updated" && event["data"]["state"] == "paired"
        });
        if !seen.contains(&"peer:paired".to_owned()) {
            let event = door.event(|event| event["kind"] == "peer:paired");
            assert_eq!(event["data"]["id"], other.id());
        }
    }
}

#[test]
fn an_interrupt_ends_the_window() {
    let (anna, bert) = (Host::running("anna"), Host::running("bert"));
    for signal in [Signal::INT, Signal::KILL] {
        let (shows, shown) = window(&anna);
        shows.signal(signal);
        let status = shows.finish(PATIENCE).status;
        assert_eq!(status, if signal == Signal::INT { 130 } else { 128 + 9 });
        let closed = |state: &Value| {
            state["pairings"].as_array().is_some_and(|all| all.iter().all(|it| it["state"] != "waiting"))
        };
        wait::until_true("the window to close", PATIENCE, || {
            closed(&anna.door().call("events.subscribe", json!({}))["snapshot"])
        });
        let output = type_pin(&bert, &anna, pin(&shown));
        assert_eq!((code(&output).as_str(), output.status), ("pairing_expired", 7), "{}", output.stderr);
    }
    assert!(trusted(&anna).is_empty());
}

#[test]
fn a_window_outlives_its_connection_only_where_that_was_asked() {
    let (anna, bert) = (Host::running("anna"), Host::running("bert"));
    let shown = anna.door().call("pairing.open", json!({"detach": true}));
    type_pin(&bert, &anna, pin(&shown)).ok();
    wait::until_true("the trust", PATIENCE, || trusted(&anna) == [bert.id()]);
}

#[test]
fn one_window_at_a_time() {
    let anna = Host::running("anna");
    let (shows, _) = window(&anna);
    assert_eq!(anna.ctl_refused(&["pair"]), ("pairing_active".to_owned(), 6));
    drop(shows);
    wait::until_true("the place of the first", PATIENCE, || anna.door().try_call("pairing.open", json!({})).is_ok());
}

#[test]
fn a_window_can_be_called_off_and_then_is_over() {
    let anna = Host::running("anna");
    let mut door = anna.door();
    let opened = door.call("pairing.open", json!({}));
    let pairing = json!({"pairing": opened["pairing"]});
    door.call("pairing.cancel", pairing.clone());
    assert_eq!(door.refused("pairing.cancel", pairing), "wrong_state");
    wait::until_true("the place", PATIENCE, || door.try_call("pairing.open", json!({})).is_ok());
}

#[test]
fn pairing_again_with_the_same_key_is_harmless() {
    let (anna, bert) = friends();
    let dir = crate::support::dir(&anna, "in");
    let policy = ["trust", "policy", "bert", "--offers", "auto", "--dir", crate::support::text(&dir)];
    anna.ctl(&policy).ok();
    anna.ctl(&["trust", "rename", "bert", "bertie"]).ok();
    host::pair(&anna, &bert);
    let list = anna.door().call("trust.list", json!({}));
    assert_eq!(list["peers"].as_array().map(Vec::len), Some(1));
    let peer = &list["peers"][0];
    assert_eq!((&peer["name"], &peer["policy"]["offers"]), (&json!("bertie"), &json!("auto")));
}

#[test]
fn d28_pairing_with_oneself_is_told() {
    let anna = Host::running("anna");
    let (shows, shown) = window(&anna);
    let output = type_pin(&anna, &anna, pin(&shown));
    assert_eq!((code(&output).as_str(), output.status), ("is_self", 6));
    assert!(trusted(&anna).is_empty());
    drop(shows);
    wait::until_true("no window", PATIENCE, || {
        let output = type_pin(&anna, &anna, "123456");
        assert_ne!(output.status, 0);
        code(&output) == "is_self"
    });
}

#[test]
fn a_guests_offers_always_ask() {
    let (anna, bert) = (Host::running("anna"), Host::running("bert"));
    let mut shows = anna.ctl_spawn(&["pair", "--guest", "--json"]);
    let shown = shows.json_line(PATIENCE);
    type_pin(&bert, &anna, pin(&shown)).ok();
    shows.finish(PATIENCE).ok();
    assert_eq!(anna.ctl_json(&["trust", "show", "bert"])["relation"], "guest");
    assert_eq!(bert.ctl_json(&["trust", "show", "anna"])["relation"], "own", "each side says it for itself");
    assert_eq!(anna.ctl_refused(&["trust", "policy", "bert", "--offers", "auto"]), ("invalid_param".to_owned(), 2));
    let peer = anna.ctl_json(&["trust", "policy", "bert", "--own", "--offers", "auto"]);
    assert_eq!((&peer["relation"], &peer["policy"]["offers"]), (&json!("own"), &json!("auto")));
    // A guest again: what was automatic asks again.
    anna.ctl(&["trust", "policy", "bert", "--guest"]).ok();
    let letter = crate::support::file(&bert, "letter", 10);
    crate::support::send_later(&bert, &letter, "anna");
    crate::support::offer(&anna);
}

#[test]
fn d35_after_a_revocation_only_a_new_pairing_helps() {
    let (anna, bert) = friends();
    bert.ctl(&["trust", "revoke", "anna", "--yes"]).ok();
    assert_eq!(bert.ctl_refused(&["trust", "revoke", "anna"]), ("wrong_state".to_owned(), 6));
    let letter = crate::support::file(&anna, "letter", 10);
    let output = anna.ctl(&["send", crate::support::text(&letter), "--to", "bert", "--json"]).expect(1);
    assert_eq!(reason(&output.json()), "not_trusted");
    assert_eq!(trusted(&anna), [bert.id()], "a refusal deletes no trust");
    assert_eq!(bert.ctl_refused(&["send", "/etc/hosts", "--to", "anna"]), ("not_paired".to_owned(), 6));
    host::pair(&bert, &anna);
    crate::support::send_later(&anna, &letter, "bert");
    crate::support::offer(&bert);
}

#[test]
fn the_same_name_with_another_key_is_told_and_replaces_nothing() {
    let (anna, bert) = friends();
    let other = Host::running("bert");
    let (shows, shown) = window(&anna);
    type_pin(&other, &anna, pin(&shown)).ok();
    shows.finish(PATIENCE).ok();
    let state = anna.door().call("events.subscribe", json!({}))["snapshot"]["pairings"].clone();
    let last = state.as_array().and_then(|all| all.last().cloned()).expect("a pairing");
    assert_eq!((&last["peer"]["id"], &last["same_name"]["id"]), (&json!(other.id()), &json!(bert.id())));
    let mut both = trusted(&anna);
    both.sort();
    let mut expected = [bert.id(), other.id()];
    expected.sort();
    assert_eq!(both, expected);
}
