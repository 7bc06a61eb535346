//! Pairing between hosts: every way to say with whom, and what goes wrong.

use kith_tests::PATIENCE;
use kith_tests::host::{Host, pair};
use kith_tests::process::{Output, Running};
use serde_json::Value;

use crate::net::{self, network};

/// Opens a pairing window, and returns what it shows.
#[track_caller]
fn window(host: &Host) -> (Running, Value) {
    let mut window = host.ctl_spawn(&["pair", "--json"]);
    let shown = window.json_line(PATIENCE);
    (window, shown)
}

/// Types a PIN.
#[track_caller]
fn types(host: &Host, target: &str, pin: &str) -> Output {
    host.ctl(&["pair", target, "--pin", pin, "--json"])
}

/// Another PIN than the one shown.
fn wrong(pin: &str) -> String {
    let number: u32 = pin.parse().expect("six digits");
    format!("{:06}", (number + 1) % 1_000_000)
}

/// Both ends say that they are paired, with whom, and trust each other. Then they part again.
#[track_caller]
fn check(shows: &Host, types: &Host, window: Running, typed: Output) {
    for (output, here, there) in [(window.finish(PATIENCE).ok(), shows, types), (typed.ok(), types, shows)] {
        let last = output.json();
        assert_eq!((&last["paired"]["id"], &last["paired"]["name"]), (&there.id().into(), &there.name().into()));
        here.wait_peer(&there.id(), |peer| peer["state"] == "trusted" && peer["online"] == true);
        assert!(!here.log().contains("\"pin\""), "a PIN is never logged");
    }
    for (here, there) in [(shows, types), (types, shows)] {
        here.ctl(&["trust", "revoke", &there.id(), "--yes"]).ok();
    }
    types.wait_peer(&shows.id(), |peer| peer["state"] != "trusted");
}

#[test]
fn every_way_to_say_with_whom() {
    let Some((lab, [anna, bert])) = network(["anna", "bert"]) else { return };
    bert.wait_peer("anna", |_| true);
    let id = anna.id();
    let (ip, ip6) = (lab.ip(1).to_string(), lab.ip6(1).to_string());
    for target in ["anna", "ANNA", &id[..6], &id, &anna.address(), &ip, &ip6] {
        let (window, shown) = window(&anna);
        assert_eq!(shown["pin"].as_str().map(str::len), Some(6));
        let typed = types(&bert, target, shown["pin"].as_str().expect("a PIN"));
        check(&anna, &bert, window, typed);
    }
    let (window, shown) = window(&anna);
    let link = shown["qr"].as_str().expect("the text of a QR code");
    assert!(link.starts_with("kith://pair?"), "{link}");
    let scanned = bert.ctl(&["pair", link, "--json"]);
    check(&anna, &bert, window, scanned);
}

#[test]
fn d31_three_wrong_pins_burn_it() {
    let Some((_lab, [anna, bert])) = network(["anna", "bert"]) else { return };
    bert.wait_peer("anna", |_| true);
    let (window, shown) = window(&anna);
    let pin = shown["pin"].as_str().expect("a PIN");
    for _ in 0..3 {
        let (code, exit) = bert.ctl_refused(&["pair", "anna", "--pin", &wrong(pin)]);
        assert_eq!((code.as_str(), exit), ("wrong_pin", 1));
    }
    // The right one comes too late.
    let late = types(&bert, "anna", pin);
    assert_ne!(late.status, 0, "a burnt PIN was taken: {}", late.stdout);
    for host in [&anna, &bert] {
        assert_eq!(host.ctl_json(&["trust", "list"])["peers"], serde_json::json!([]));
    }
    // The QR has a secret of its own, which nobody guesses.
    let link = shown["qr"].as_str().expect("the text of a QR code");
    let scanned = bert.ctl(&["pair", link, "--json"]);
    check(&anna, &bert, window, scanned);
    pair(&anna, &bert);
}

#[test]
fn one_wrong_pin_is_a_slip() {
    let Some((_lab, [anna, bert])) = network(["anna", "bert"]) else { return };
    bert.wait_peer("anna", |_| true);
    let (window, shown) = window(&anna);
    let pin = shown["pin"].as_str().expect("a PIN");
    let slip = types(&bert, "anna", &wrong(pin)).expect(1);
    assert!(slip.stderr.contains("wrong PIN"), "{}", slip.stderr);
    let typed = types(&bert, "anna", pin);
    check(&anna, &bert, window, typed);
    // Nobody shows a PIN any more.
    let (code, exit) = bert.ctl_refused(&["pair", "anna", "--pin", pin]);
    assert_eq!((code.as_str(), exit), ("pairing_expired", 7));
}

#[test]
fn one_name_for_two_devices_is_ambiguous() {
    let Some((_lab, [anna, one, other])) = network(["anna", "nas", "nas"]) else { return };
    for id in [one.id(), other.id()] {
        anna.wait_peer(&id, |_| true);
    }
    let listed = |output: &Output| [one.id(), other.id()].iter().all(|id| output.stderr.contains(id.as_str()));
    let asked = types(&anna, "nas", "123456").expect(6);
    assert_eq!(asked.error()["error"]["code"], "peer_ambiguous", "{}", asked.stderr);
    assert!(listed(&asked), "the candidates are listed: {}", asked.stderr);

    pair(&one, &anna);
    // The one that is trusted is meant where only trusted ones can be.
    anna.ctl(&["send", "--text", "for the paired one", "--to", "nas", "--no-wait"]).ok();
    // Pairing with the second one tells of the first, and replaces nothing.
    let (window, shown) = window(&other);
    let typed = types(&anna, &other.address(), shown["pin"].as_str().expect("a PIN"));
    window.finish(PATIENCE).ok();
    assert_eq!(typed.json()["paired"]["id"].as_str(), Some(other.id().as_str()), "{}", typed.stdout);
    let trusted = anna.ctl_json(&["trust", "list"]);
    assert_eq!(trusted["peers"].as_array().map(Vec::len), Some(2), "{trusted}");
    let sent = anna.ctl(&["send", "--text", "which one?", "--to", "nas"]).expect(6);
    assert!(listed(&sent), "{}", sent.stderr);
    anna.ctl(&["send", "--text", "this one", "--to", &other.id()[..8], "--no-wait"]).ok();
    assert!(net::peer(&anna, &one.id()).is_some());
}
