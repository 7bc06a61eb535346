//! Devices that are not paired: each opens its guest door for the other.

use kith_tests::host::Host;
use kith_tests::process::Running;
use kith_tests::{PATIENCE, tree, wait};
use kith_tests::{guest, lab};
use serde_json::{Value, json};

use crate::net::{LONG, assert_same_file, file, network, text};

/// A receive window of `host`, opened with `kithctl receive`, and what is shown there.
fn receiving(host: &Host, options: &[&str]) -> (Running, Value) {
    let to = host.path("in");
    let words = [&["receive", "--json", "--to", text(&to)], options].concat();
    let mut receiving = host.ctl_spawn(&words);
    let window = receiving.json_line(PATIENCE)["window"].clone();
    (receiving, window)
}

fn shown(window: &Value, key: &str) -> String {
    window[key].as_str().expect("a text").to_owned()
}

/// Says yes or no to the next question of this kind, and returns it.
fn answer(host: &Host, kind: &str, accept: bool) -> Value {
    let asked = guest::question(host, kind);
    host.door().call("guest.answer", json!({ "question": asked["question"], "accept": accept }));
    asked
}

#[test]
fn two_that_are_not_paired_scan_a_code() {
    let Some((_lab, [anna, bert])) = network(["anna", "bert"]) else { return };
    let (receiving, window) = receiving(&bert, &["--yes", "--once"]);
    let addresses = window["addresses"].as_array().expect("a list");
    assert!(addresses.contains(&json!(bert.ip().to_string())), "{addresses:?}");
    let trip = anna.path("trip");
    tree::sample(&trip, 2).expect("the home is ours");
    let film = file(&anna, "film.bin", 30 << 20, 1);
    // Directories are flattened, and what the protocol cannot carry is told.
    let sent = anna.ctl(&["send", text(&film), text(&trip), "--qr", &shown(&window, "qr"), "--json"]).expect(1);
    assert_eq!(sent.error()["error"]["code"], "incomplete");
    let received = receiving.finish(LONG).ok().json();
    assert_eq!((&received["state"], &received["problem_count"]), (&json!("done"), &json!(0)), "{received}");
    assert_same_file(&film, &bert.path("in/film.bin"));
    let names = received["placed"].as_array().expect("a list");
    assert!(names.len() > 3 && names.iter().all(|name| !name.as_str().expect("a text").contains('/')), "{names:?}");
    // Nothing listens any more, and nobody is trusted.
    let closed = anna.ctl(&["send", text(&film), "--qr", &shown(&window, "qr"), "--json"]).expect(7);
    assert_eq!(closed.error()["error"]["code"], "peer_offline");
    assert!(anna.ctl_json(&["trust", "list"])["peers"].as_array().expect("a list").is_empty());
}

#[test]
fn people_compare_and_agree() {
    let Some((_lab, [anna, bert])) = network(["anna", "bert"]) else { return };
    let mut desk = bert.door();
    let window = desk.call("guest.open", json!({"dir": text(&bert.path("in"))}));
    let letter = file(&anna, "letter.bin", 1 << 20, 2);
    let target = lab::authority(bert.ip(), window["port"].as_u64().expect("a port"));
    let sending = anna.door().call(
        "guest.send",
        json!({"target": target, "pin": window["pin"], "paths": [text(&letter)], "title": "A letter"}),
    );
    let id = shown(&sending, "id");

    let compared = answer(&anna, "confirm", true);
    assert_eq!((&compared["certificate_hash"], &compared["transfer"]), (&window["certificate_hash"], &sending["id"]));
    assert_eq!(answer(&bert, "compare", true)["certificate_hash"], window["certificate_hash"]);
    // What bert is asked to compare is what anna shows.
    let known_by = answer(&bert, "connect", true)["certificate_hash"].clone();
    assert_eq!(anna.transfer(&id).expect("it is under way")["certificate_hash"], known_by);

    let offer = wait::until("the offer", PATIENCE, || bert.ctl_json(&["inbox"])["transfers"].get(0).cloned());
    assert_eq!((&offer["title"], &offer["bytes"]), (&json!("A letter"), &json!(1 << 20)), "{offer}");
    assert!(!bert.path("in/letter.bin").exists(), "E38");
    bert.ctl(&["inbox", "accept", &shown(&offer, "id"), "--to", text(&bert.path("elsewhere"))]).ok();
    let ends = [anna.wait_transfer(&id, "done"), bert.wait_transfer(&shown(&offer, "id"), "done")];
    assert_eq!(ends.map(|end| end["peer"]["protocol"].clone()), [json!(2), json!(2)]);
    assert_same_file(&letter, &bert.path("elsewhere/letter.bin"));
}

#[test]
fn d32_whoever_stands_in_between_gets_no_pin() {
    let Some((_lab, [anna, bert, mallory])) = network(["anna", "bert", "mallory"]) else { return };
    let (mut berts, mut mallorys) = (bert.door(), mallory.door());
    let real = berts.call("guest.open", json!({"accept": true}));
    let fake = mallorys.call("guest.open", json!({"accept": true}));
    let letter = file(&anna, "letter.bin", 1000, 3);
    let there = lab::authority(mallory.ip(), fake["port"].as_u64().expect("a port"));
    let (pin, hash) = (shown(&real, "pin"), shown(&real, "certificate_hash"));
    let known = anna.ctl(&["send", text(&letter), "--to", &there, "--pin", &pin, "--hash", &hash, "--json"]).expect(1);
    assert_eq!(known.error()["error"]["code"], "wrong_key");
    // The same where somebody looks: the hash is another one, and the answer is no.
    let sending = anna.door().call("guest.send", json!({"target": there, "pin": pin, "paths": [text(&letter)]}));
    assert_eq!(answer(&anna, "confirm", false)["certificate_hash"], fake["certificate_hash"]);
    anna.wait_transfer(&shown(&sending, "id"), "failed");
    // Mallory would have heard a wrong PIN.
    let heard = mallorys.call("events.subscribe", json!({}))["snapshot"]["window"].clone();
    assert_eq!(heard["attempts_left"], 3, "{heard}");
    assert!(!mallory.received().exists() && !bert.received().exists());
}
