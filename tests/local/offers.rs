//! The inbox, and what becomes of offers without asking.

use std::fs;

use kith_tests::wait;
use kith_tests::{PATIENCE, host::Host};
use serde_json::{Value, json};

use crate::support::{dir, file, friends, giver_and_taker, names, offer, parts, reason, send_later, text};

/// Anna sends `path`; how it ends for her. Bert answers by his policy alone.
#[track_caller]
fn verdict(anna: &Host, path: &std::path::Path) -> (String, String) {
    let last = anna.ctl(&["send", text(path), "--to", "bert", "--json"]).json();
    (last["state"].as_str().expect("a state").to_owned(), reason(&last).to_owned())
}

fn said(state: &str, code: &str) -> (String, String) {
    (state.to_owned(), code.to_owned())
}

#[test]
fn an_offer_waits_until_it_is_answered_and_writes_nothing_before() {
    let (anna, mut bert) = friends();
    let letter = file(&anna, "letter.txt", 2 << 20);
    let id = send_later(&anna, &letter, "bert");
    let offered = offer(&bert);
    assert_eq!((&offered["id"], &offered["bytes"]), (&json!(id), &json!(2 << 20)));
    assert_eq!(anna.transfer(&id).expect("it is known")["state"], "offered");
    assert!(!bert.received().exists(), "nothing is written before the answer");
    // It waits across a restart of either side.
    bert.restart();
    assert_eq!(offer(&bert)["id"], id.as_str());
    let mut anna = anna;
    anna.kill9();
    anna.start();
    bert.ctl(&["inbox", "accept", &id]).ok();
    anna.wait_transfer(&id, "done");
    assert_eq!(names(&bert.received()), ["letter.txt"]);
}

#[test]
fn an_answer_given_while_the_sender_is_away_is_kept() {
    let (mut anna, bert) = friends();
    let (one, two) = (file(&anna, "one", 10), file(&anna, "two", 10));
    let (yes, no) = (send_later(&anna, &one, "bert"), send_later(&anna, &two, "bert"));
    wait::until_true("both offers", PATIENCE, || bert.status()["inbox"] == 2);
    anna.kill9();
    let here = dir(&bert, "here");
    bert.ctl(&["inbox", "accept", &yes, "--to", text(&here)]).ok();
    bert.ctl(&["inbox", "reject", &no]).ok();
    anna.start();
    anna.wait_transfer(&yes, "done");
    assert_eq!(reason(&anna.wait_transfer(&no, "rejected")), "rejected");
    assert_eq!(names(&here), ["one"]);
}

#[test]
fn e38_a_rejected_offer_writes_zero_bytes() {
    let (anna, bert) = friends();
    let letter = file(&anna, "letter.txt", 3 << 20);
    let id = send_later(&anna, &letter, "bert");
    offer(&bert);
    let rejected = bert.ctl_json(&["inbox", "reject", &id]);
    assert_eq!(rejected["state"], "rejected");
    let sent = anna.wait_transfer(&id, "rejected");
    assert_eq!((reason(&sent), &sent["bytes_done"]), ("rejected", &json!(0)));
    bert.ctl(&["trust", "policy", "anna", "--offers", "never"]).ok();
    assert_eq!(verdict(&anna, &letter), said("rejected", "rejected"));
    assert!(!bert.received().exists());
    assert_eq!(bert.status()["inbox"], 0);
    assert!(names(&bert.path("data/parts")).is_empty());
}

#[test]
fn accepting_goes_where_it_is_told() {
    let (anna, bert) = friends();
    let letter = file(&anna, "letter.txt", 100);
    let deep = bert.path("new/and/deeper");
    for (arguments, place) in [
        (vec!["--to", text(&deep)], deep.clone()),
        (vec![], bert.received()),
        (vec!["--on-conflict", "overwrite"], bert.received()),
    ] {
        let id = send_later(&anna, &letter, "bert");
        offer(&bert);
        bert.ctl(&[&["inbox", "accept", &id], arguments.as_slice()].concat()).ok();
        anna.wait_transfer(&id, "done");
        assert_eq!(names(&place), ["letter.txt"]);
    }
    // A directory that cannot be had is an error for the one who answers; the offer stays.
    let id = send_later(&anna, &letter, "bert");
    offer(&bert);
    let file_there = file(&bert, "a-file", 3);
    for place in [text(&file_there), text(&file_there.join("below")), "/proc/nowhere"] {
        let output = bert.ctl(&["inbox", "accept", &id, "--to", place, "--json"]);
        assert_ne!(output.status, 0, "{place}");
        assert!(output.error()["error"]["code"].is_string(), "{place}");
    }
    assert_eq!(bert.door().refused("inbox.accept", json!({"transfer": id, "dir": "relative"})), "invalid_param");
    bert.ctl(&["inbox", "accept", &id, "--to", text(&deep)]).ok();
    anna.wait_transfer(&id, "done");
    assert_eq!(names(&deep), ["letter.txt"], "the same content is there already");
}

#[test]
fn the_largest_file_is_bounded() {
    let (anna, bert, into) = giver_and_taker();
    bert.ctl(&["trust", "policy", "anna", "--max-file", "1000"]).ok();
    let (fits, large) = (file(&anna, "fits", 1000), file(&anna, "large", 1001));
    assert_eq!(verdict(&anna, &large), said("rejected", "too_large"));
    assert_eq!(verdict(&anna, &fits), said("done", ""));
    // A stream says its length only at the end: it is stopped where it grows too large.
    let mut sending = kith_tests::process::Running::spawn_fed(
        &mut anna.ctl_command(&["send", "-", "--name", "grown", "--to", "bert", "--json"]),
    );
    sending.feed(&[7; 5000]);
    let output = sending.finish(PATIENCE);
    assert_eq!(output.status, 1, "{}{}", output.stdout, output.stderr);
    let last = output.json();
    // Its length may be known before it is offered.
    assert!(last["state"] == "failed" || last["state"] == "rejected", "{last}");
    assert_eq!(reason(&last), "too_large");
    assert_eq!(names(&into).iter().filter(|name| !name.starts_with(".kith-")).collect::<Vec<_>>(), ["fits"]);
}

#[test]
fn bytes_a_day_are_bounded_and_a_stream_cannot_grow_past_them() {
    let (anna, bert, into) = giver_and_taker();
    bert.ctl(&["trust", "policy", "anna", "--max-day", "5M"]).ok();
    let large = anna.path("three");
    kith_tests::tree::large(&large, 3 << 20, 1).expect("there is room");
    assert_eq!(verdict(&anna, &large), said("done", ""));
    assert_eq!(verdict(&anna, &large), said("rejected", "quota"));
    let mut sending = kith_tests::process::Running::spawn_fed(
        &mut anna.ctl_command(&["send", "-", "--name", "grown", "--to", "bert", "--json"]),
    );
    // It is offered and accepted before anybody knows how long it will be.
    let id = sending.json_line(PATIENCE)["id"].as_str().expect("an id").to_owned();
    bert.wait_transfer(&id, "active");
    for _ in 0..40 {
        if !sending.feed(&vec![7; 100 << 10]) {
            break;
        }
    }
    let output = sending.finish(PATIENCE);
    let last = output.json();
    assert_eq!((last["state"].as_str(), reason(&last)), (Some("failed"), "quota"), "{}", output.stderr);
    assert_eq!(names(&into).iter().filter(|name| !name.starts_with(".kith-")).collect::<Vec<_>>(), ["three"]);
    // More room tomorrow, or by decision: it goes on.
    bert.ctl(&["trust", "policy", "anna", "--max-day", "0"]).ok();
    assert_eq!(verdict(&anna, &large), said("done", ""));
}

#[test]
fn types_are_bounded() {
    let (anna, bert, into) = giver_and_taker();
    bert.ctl(&["trust", "policy", "anna", "--types", "jpg,pdf"]).ok();
    for (name, state, code) in [
        ("a.jpg", "done", ""),
        ("b.PDF", "done", ""),
        ("c.exe", "rejected", "rejected"),
        ("d", "rejected", "rejected"),
        ("e.jpg.exe", "rejected", "rejected"),
    ] {
        assert_eq!(verdict(&anna, &file(&anna, name, 10)), said(state, code), "{name}");
    }
    let mixed = dir(&anna, "mixed");
    file(&anna, "mixed/x.jpg", 10);
    file(&anna, "mixed/deep/y.sh", 10);
    assert_eq!(verdict(&anna, &mixed), said("rejected", "rejected"));
    assert_eq!(names(&into), ["a.jpg", "b.PDF"]);
}

#[test]
fn a12_dotfiles_at_the_top_are_refused_unless_allowed() {
    let (anna, bert, into) = giver_and_taker();
    let ssh = dir(&anna, ".ssh");
    file(&anna, ".ssh/authorized_keys", 10);
    let autostart = dir(&anna, ".config");
    file(&anna, ".config/autostart/evil.desktop", 10);
    let bashrc = file(&anna, ".bashrc", 10);
    let project = dir(&anna, "project");
    file(&anna, "project/.gitignore", 10);
    for path in [&ssh, &autostart, &bashrc] {
        assert_eq!(verdict(&anna, path), said("rejected", "rejected"), "{}", path.display());
    }
    let mut stream = kith_tests::process::Running::spawn_fed(
        &mut anna.ctl_command(&["send", "-", "--name", ".profile", "--to", "bert", "--json"]),
    );
    stream.feed(b"evil");
    assert_eq!(stream.finish(PATIENCE).json()["state"], "rejected");
    assert_eq!(names(&into), [] as [&str; 0]);
    assert_eq!(verdict(&anna, &project), said("done", ""), "below the top they are usual");
    bert.ctl(&["trust", "policy", "anna", "--dotfiles"]).ok();
    assert_eq!(verdict(&anna, &bashrc), said("done", ""));
    assert_eq!(names(&into), [".bashrc", "project"]);
    // Somebody who is asked sees the name.
    bert.ctl(&["trust", "policy", "anna", "--offers", "ask", "--no-dotfiles"]).ok();
    send_later(&anna, &ssh, "bert");
    assert_eq!(offer(&bert)["preview"][0]["path"], ".ssh");
}

#[test]
fn auto_without_a_usable_directory_is_refused_and_tells_why() {
    let (anna, bert, _) = giver_and_taker();
    let blocked = file(&bert, "blocked", 1);
    bert.ctl(&["trust", "policy", "anna", "--dir", text(&blocked)]).ok();
    let (state, _) = verdict(&anna, &file(&anna, "letter", 10));
    assert_eq!(state, "rejected");
    assert_eq!(fs::read(&blocked).expect("it is there").len(), 1);
}

#[test]
fn c22_waiting_offers_are_bounded_and_others_still_get_through() {
    let (anna, bert) = friends();
    let carl = Host::running("carl");
    kith_tests::host::pair(&bert, &carl);
    let mut door = anna.door();
    let texts: Vec<Value> =
        (0..70).map(|n| door.call("transfer.send", json!({"peer": "bert", "text": n.to_string()}))).collect();
    // As many as one device has connections for; the others wait in its outbox.
    wait::until_true("the inbox to fill", 2 * PATIENCE, || bert.status()["inbox"] == 64);
    // Another device is not kept waiting by that.
    let letter = file(&carl, "letter", 10);
    let id = send_later(&carl, &letter, "bert");
    wait::until_true("the offer of another", PATIENCE, || bert.status()["inbox"] == 65);
    let here = dir(&bert, "here");
    bert.ctl(&["inbox", "accept", &id, "--to", text(&here)]).ok();
    carl.wait_transfer(&id, "done");
    // Nor is what is to be taken from the same one; and when it is, the next comes.
    for text in &texts {
        let id = text["id"].as_str().expect("an id");
        wait::until_true("its turn", PATIENCE, || bert.transfer(id).is_some_and(|it| it["state"] == "offered"));
        bert.door().call("inbox.accept", json!({ "transfer": id }));
        anna.wait_transfer(id, "done");
    }
    assert!(parts(&here).is_empty());
}
