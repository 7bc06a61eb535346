//! What scripts rely on: the shapes of `--json`, to the letter.

use std::collections::BTreeSet;

use kith_tests::PATIENCE;
use kith_tests::host::Host;
use kith_tests::process::run;
use serde_json::{Value, json};

use crate::support::{file, friends, giver_and_taker, offer, text};

/// The keys of an object, without those that debug builds add.
fn keys(object: &Value) -> BTreeSet<&str> {
    let object = object.as_object().unwrap_or_else(|| panic!("an object: {object}"));
    object.keys().map(String::as_str).filter(|key| *key != "x_unknown").collect()
}

fn set<'a>(keys: &[&'a str]) -> BTreeSet<&'a str> {
    keys.iter().copied().collect()
}

#[test]
fn pair_shows_one_object_and_ends_with_another() {
    let (anna, bert) = (Host::running("anna"), Host::running("bert"));
    let mut window = anna.ctl_spawn(&["pair", "--json"]);
    let shown = window.json_line(PATIENCE);
    assert_eq!(keys(&shown), set(&["pairing", "pin", "port", "addresses", "qr", "expires"]));
    let pin = shown["pin"].as_str().expect("a PIN");
    assert!(pin.len() == 6 && pin.bytes().all(|byte| byte.is_ascii_digit()), "{pin}");
    assert_eq!(shown["port"], anna.status()["peer_port"]);
    assert!(shown["addresses"].as_array().is_some_and(|list| list.iter().all(Value::is_string)));
    assert!(shown["qr"].as_str().is_some_and(|qr| qr.starts_with("kith://pair?")));
    assert!(shown["expires"].as_str().is_some_and(|time| time.ends_with('Z')));

    let typed = bert.ctl(&["pair", &anna.address(), "--pin", pin, "--json"]).ok();
    assert_eq!(typed.objects(), [json!({"paired": {"id": anna.id(), "name": "anna"}})]);
    let rest = window.finish(PATIENCE).ok();
    assert_eq!(rest.objects()[1..], [json!({"paired": {"id": bert.id(), "name": "bert"}})]);
    assert!(rest.stderr.is_empty(), "{}", rest.stderr);
}

#[test]
fn pair_that_fails_has_its_error_on_stderr() {
    let (anna, bert) = (Host::running("anna"), Host::running("bert"));
    let mut window = anna.ctl_spawn(&["pair", "--json"]);
    let shown = window.json_line(PATIENCE);
    let wrong = if shown["pin"] == "000000" { "000001" } else { "000000" };
    let output = bert.ctl(&["pair", &anna.address(), "--pin", wrong, "--json"]).expect(1);
    assert!(output.stdout.is_empty());
    assert_eq!(output.error()["error"]["code"], "wrong_pin");
    assert_eq!(keys(&output.error()), set(&["error"]));
}

#[test]
fn peers_have_their_promised_fields() {
    let (anna, bert) = friends();
    let result = anna.ctl_json(&["peers"]);
    assert_eq!(keys(&result), set(&["peers"]));
    let peer = &result["peers"][0];
    assert_eq!((&peer["id"], &peer["name"]), (&json!(bert.id()), &json!("bert")));
    assert_eq!(peer["state"], "trusted");
    assert!(peer["online"].is_boolean());
    assert!(peer["addresses"].as_array().is_some_and(|list| list.iter().all(Value::is_string)));
    anna.ctl(&["trust", "revoke", "bert", "--yes"]).ok();
    let revoked = anna.ctl_json(&["trust", "show", "bert"]);
    assert_eq!(revoked["state"], "revoked");
    assert!(revoked["revoked_at"].is_string());
}

#[test]
fn send_streams_transfer_objects_and_ends_with_the_last_state() {
    let (anna, bert, dir) = giver_and_taker();
    let letter = file(&anna, "letter.txt", 70_000);
    let output = anna.ctl(&["send", text(&letter), "--to", "bert", "--json"]).ok();
    let objects = output.objects();
    let states: Vec<&str> = objects.iter().filter_map(|it| it["state"].as_str()).collect();
    assert_eq!(states.len(), objects.len(), "nothing but transfer objects");
    assert_eq!(states.last(), Some(&"done"));
    for object in &objects {
        assert_eq!(object["id"], objects[0]["id"]);
        assert_eq!(object["direction"], "out");
        assert_eq!(keys(&object["peer"]), set(&["id", "name"]));
        for field in ["title", "entries", "entries_done", "bytes_done", "created", "updated"] {
            assert!(!object[field].is_null(), "{field} of {object}");
        }
    }
    let last = objects.last().expect("the last");
    assert_eq!((&last["bytes"], &last["bytes_done"]), (&json!(70_000), &json!(70_000)));
    assert_eq!((&last["entries"], &last["entries_done"]), (&json!(1), &json!(1)));
    assert!(output.stderr.is_empty(), "{}", output.stderr);
    crate::support::assert_same_file(&letter, &dir.join("letter.txt"));

    // Without --json, not on a terminal: one line.
    let output = anna.ctl(&["send", text(&letter), "--to", "bert"]).ok();
    assert_eq!(output.stdout.lines().count(), 1, "{}", output.stdout);
    assert!(output.stdout.starts_with("sent 1 file, "), "{}", output.stdout);

    // The other side remembers it under the same id.
    let received = bert.transfer(last["id"].as_str().expect("an id")).expect("it is known");
    assert_eq!((&received["direction"], &received["state"]), (&json!("in"), &json!("done")));
    assert_eq!(received["placed"], json!(["letter.txt"]));
    assert_eq!(received["dir"], text(&dir));
}

#[test]
fn send_that_is_rejected_says_so_in_its_last_object_and_on_stderr() {
    let (anna, bert) = friends();
    let letter = file(&anna, "letter.txt", 100);
    bert.ctl(&["trust", "policy", "anna", "--offers", "never"]).ok();
    let output = anna.ctl(&["send", text(&letter), "--to", "bert", "--json"]).expect(1);
    let last = output.json();
    assert_eq!(last["state"], "rejected");
    assert_eq!(last["reason"]["code"], "rejected");
    assert_eq!(output.error()["error"]["code"], "rejected");
}

#[test]
fn no_wait_returns_the_id() {
    let (anna, bert, dir) = giver_and_taker();
    let letter = file(&anna, "letter.txt", 100);
    let output = anna.ctl(&["send", text(&letter), "--to", "bert", "--no-wait"]).ok();
    let id = output.stdout.trim().to_owned();
    assert_eq!(output.stdout.lines().count(), 1);
    anna.wait_transfer(&id, "done");
    assert!(dir.join("letter.txt").exists());
    let object = anna.ctl_json(&["send", text(&letter), "--to", "bert", "--no-wait"]);
    bert.wait_transfer(object["id"].as_str().expect("an id"), "done");
}

#[test]
fn inbox_accept_and_reject_name_the_transfer() {
    let (anna, bert) = friends();
    let letter = file(&anna, "letter.txt", 100);
    crate::support::send_later(&anna, &letter, "bert");
    let offered = offer(&bert);
    let inbox = bert.ctl_json(&["inbox"]);
    assert_eq!(keys(&inbox), set(&["transfers"]));
    assert_eq!(inbox["transfers"][0]["id"], offered["id"]);
    assert_eq!(inbox["transfers"][0]["state"], "offered");
    assert_eq!(inbox["transfers"][0]["preview"], json!([{"path": "letter.txt", "kind": "file", "size": 100}]));
    assert_eq!(inbox["transfers"], bert.ctl_json(&["inbox", "list"])["transfers"]);
    let id = offered["id"].as_str().expect("an id");
    let to = crate::support::dir(&bert, "here");
    let accepted = bert.ctl_json(&["inbox", "accept", &id[..id.len() - 2], "--to", text(&to)]);
    assert_eq!(accepted["id"], id);
    assert_eq!(accepted["dir"], text(&to));
    anna.wait_transfer(id, "done");
    assert!(to.join("letter.txt").exists());
    assert_eq!(bert.ctl_refused(&["inbox", "accept", id]), ("wrong_state".to_owned(), 6));
    assert_eq!(bert.ctl_refused(&["inbox", "reject", id]), ("wrong_state".to_owned(), 6));
    assert_eq!(bert.ctl_json(&["inbox"])["transfers"], json!([]));
}

#[test]
fn policy_takes_what_the_contract_names() {
    let (anna, bert) = friends();
    let to = text(&crate::support::dir(&anna, "in")).to_owned();
    let peer = anna.ctl_json(&["trust", "policy", &bert.id(), "--offers", "auto", "--dir", &to]);
    assert_eq!((&peer["policy"]["offers"], &peer["policy"]["dir"]), (&json!("auto"), &json!(to)));
    let peer = anna.ctl_json(&[
        "trust",
        "policy",
        "bert",
        "--max-file",
        "10M",
        "--max-day",
        "1GiB",
        "--types",
        ".JPG,pdf",
        "--dotfiles",
        "--on-conflict",
        "newer",
    ]);
    let policy = &peer["policy"];
    assert_eq!(policy["offers"], "auto", "what is not named stays");
    assert_eq!((&policy["max_file"], &policy["max_day"]), (&json!(10 << 20), &json!(1 << 30)));
    assert_eq!((&policy["types"], &policy["dotfiles"]), (&json!(["jpg", "pdf"]), &json!(true)));
    assert_eq!(policy["on_conflict"], "newer");
    let peer =
        anna.ctl_json(&["trust", "policy", "bert", "--max-file", "0", "--types", "", "--dir", "", "--no-dotfiles"]);
    assert_eq!(keys(&peer["policy"]), set(&["offers", "on_conflict", "max_day", "dotfiles"]));
    assert_eq!(peer["policy"]["dotfiles"], false);
}

#[test]
fn receive_once_yes_takes_one_and_ends_with_it() {
    let (anna, bert) = friends();
    let letter = file(&anna, "letter.txt", 100);
    let to = crate::support::dir(&bert, "here");
    let waiting = bert.ctl_spawn(&["receive", "--to", text(&to), "--once", "--yes", "--json"]);
    let sent = crate::support::send(&anna, &letter, &bert);
    let output = waiting.finish(PATIENCE).ok();
    let last = output.json();
    assert_eq!((&last["id"], &last["state"]), (&sent["id"], &json!("done")));
    assert!(to.join("letter.txt").exists());
    // Nobody to ask and nothing to go by.
    assert_eq!(bert.ctl(&["receive", "--json"]).expect(2).error()["error"]["code"], "usage");
}

#[test]
fn home_and_its_variable_find_the_daemon() {
    let host = Host::running("anna");
    let mut command = std::process::Command::new(kith_tests::binaries::kithctl());
    command.env_clear().env("KITH_HOME", host.home()).args(["id", "--json"]);
    let id = run(&mut command, PATIENCE).ok().json();
    assert_eq!(id["id"], host.id());
    assert_eq!(id["name"], "anna");
    for field in ["public_key", "fingerprint", "created"] {
        assert!(id[field].is_string(), "{field}");
    }
    let qr = host.ctl(&["id", "--qr"]).ok().stdout;
    assert!(qr.contains(id["fingerprint"].as_str().expect("hex")) && qr.contains('█'), "{qr}");
}

#[test]
fn events_begin_with_the_state_and_carry_whole_objects() {
    let (anna, _bert, _) = giver_and_taker();
    let letter = file(&anna, "letter.txt", 100);
    let mut events = anna.ctl_spawn(&["events", "--kind", "transfer:updated", "--json"]);
    let state = events.json_line(PATIENCE);
    assert!(state["cursor"].is_u64() && state["boot_id"].is_string(), "{state}");
    for list in ["peers", "pairings", "transfers"] {
        assert!(state["snapshot"][list].is_array(), "{list}");
    }
    anna.ctl(&["send", text(&letter), "--to", "bert"]).ok();
    let mut last = state["cursor"].as_u64().expect("a number");
    loop {
        let event = events.json_line(PATIENCE);
        assert_eq!(event["kind"], "transfer:updated");
        let seq = event["seq"].as_u64().expect("a number");
        assert!(seq > last);
        last = seq;
        assert!(event["time"].is_string() && event["data"]["peer"]["name"] == "bert");
        if event["data"]["state"] == "done" {
            break;
        }
    }
    assert_eq!(anna.ctl_refused(&["events", "--kind", "no:such"]), ("invalid_param".to_owned(), 2));
}

#[test]
fn call_is_the_door_itself() {
    let host = Host::running("anna");
    assert_eq!(host.ctl(&["call", "daemon.identity"]).ok().json()["id"], host.id());
    let mut fed = kith_tests::process::Running::spawn_fed(&mut host.ctl_command(&["call", "trust.show", "-"]));
    assert!(fed.feed(br#"{"peer":"nobody"}"#));
    let output = fed.finish(PATIENCE).expect(5);
    assert_eq!(output.error()["error"]["code"], "peer_not_found");
    assert_eq!(host.ctl(&["config", "show"]).ok().stdout.lines().next(), Some("name = \"anna\""));
    assert!(host.ctl(&["config", "check"]).ok().stdout.contains("config.toml"));
}
