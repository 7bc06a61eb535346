//! The outbox: peers that are away or stand still, and trying again.

use kith_tests::host::{self, Host};
use kith_tests::process::Running;
use kith_tests::{PATIENCE, wait};
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::support::{assert_same_file, dir, file, friends, giver_and_taker, large, names, offer, send_later, text};

#[test]
fn retry_offers_again_what_was_called_off_or_rejected() {
    let (anna, bert) = friends();
    let letter = file(&anna, "letter", 1000);
    let here = dir(&bert, "here");
    for answer in ["cancel", "reject"] {
        let id = send_later(&anna, &letter, "bert");
        offer(&bert);
        match answer {
            "cancel" => anna.ctl(&["transfers", "cancel", &id]).ok(),
            _ => bert.ctl(&["inbox", "reject", &id]).ok(),
        };
        anna.wait_transfer(&id, if answer == "cancel" { "canceled" } else { "rejected" });
        wait::until_true("the inbox to empty", PATIENCE, || bert.status()["inbox"] == 0);
        let again = anna.ctl_json(&["transfers", "retry", &id])["id"].as_str().expect("an id").to_owned();
        assert_ne!(again, id, "a new offer");
        offer(&bert);
        bert.ctl(&["inbox", "accept", &again, "--to", text(&here)]).ok();
        anna.wait_transfer(&again, "done");
        assert_same_file(&letter, &here.join("letter"));
    }
    let done = anna.ctl_json(&["transfers", "list", "--all"])["transfers"][0]["id"].as_str().expect("an id").to_owned();
    assert_eq!(anna.ctl_refused(&["transfers", "retry", &done]), ("wrong_state".to_owned(), 6));
    assert_eq!(bert.ctl_refused(&["transfers", "retry", &done]), ("wrong_state".to_owned(), 6));
    assert_eq!(anna.ctl_refused(&["transfers", "cancel", &done]), ("wrong_state".to_owned(), 6));
}

#[test]
fn a_peer_that_is_away_gets_it_when_it_comes_back() {
    let (anna, mut bert, into) = giver_and_taker();
    bert.stop();
    let letter = file(&anna, "letter", 100_000);
    let mut waiting = anna.ctl_spawn(&["send", text(&letter), "--to", "bert", "--json"]);
    loop {
        if waiting.json_line(PATIENCE)["state"] == "queued" {
            break;
        }
    }
    let id = send_later(&anna, &letter, "bert");
    assert!(anna.wait_transfer(&id, "queued")["expires"].is_string());
    // The outbox outlives the daemon.
    let list = anna.ctl_json(&["transfers"]);
    assert_eq!(list["transfers"].as_array().map(Vec::len), Some(2), "{list}");
    bert.start();
    waiting.finish(2 * PATIENCE).ok();
    anna.wait_transfer(&id, "done");
    assert_eq!(names(&into)[0], "letter");
}

#[test]
fn the_outbox_outlives_both_daemons() {
    let (mut anna, mut bert, into) = giver_and_taker();
    bert.stop();
    let letter = file(&anna, "letter", 100_000);
    let id = send_later(&anna, &letter, "bert");
    anna.wait_transfer(&id, "queued");
    anna.kill9();
    anna.start();
    assert_eq!(anna.transfer(&id).expect("it is known")["state"], "queued");
    bert.start();
    anna.wait_transfer(&id, "done");
    assert_same_file(&letter, &into.join("letter"));
}

#[test]
fn what_waits_for_a_peer_that_is_away_can_be_called_off() {
    let (anna, mut bert, into) = giver_and_taker();
    bert.stop();
    let letter = file(&anna, "letter", 10);
    let id = send_later(&anna, &letter, "bert");
    anna.wait_transfer(&id, "queued");
    anna.ctl(&["transfers", "cancel", &id]).ok();
    bert.start();
    let after = file(&anna, "after", 10);
    anna.ctl(&["send", text(&after), "--to", "bert"]).ok();
    assert_eq!(names(&into), ["after"]);
}

#[test]
fn g77_a_receiver_that_stands_still_delays_no_other() {
    let (anna, bert, _) = giver_and_taker();
    let carl = Host::running("carl");
    host::pair(&carl, &anna);
    let desk = carl.accept_all_from(&anna);
    let film = large(&anna, "film.bin", 60);
    bert.signal(Signal::STOP);
    let stuck = send_later(&anna, &film, "bert");
    let letter = file(&anna, "letter", 2_000_000);
    for _ in 0..5 {
        assert_eq!(anna.ctl_json(&["send", text(&letter), "--to", "carl"])["state"], "done");
    }
    assert_same_file(&letter, &desk.join("letter"));
    bert.signal(Signal::CONT);
    anna.wait_transfer(&stuck, "done");
}

#[test]
fn transfers_are_listed_newest_first_and_remembered() {
    let (mut anna, bert, _) = giver_and_taker();
    let letter = file(&anna, "letter", 10);
    let ids: Vec<Value> = (0..3).map(|_| crate::support::send(&anna, &letter, &bert)["id"].clone()).collect();
    for _ in 0..2 {
        let list = anna.ctl_json(&["transfers", "list", "--all"]);
        let listed: Vec<Value> =
            list["transfers"].as_array().expect("a list").iter().map(|it| it["id"].clone()).rev().collect();
        assert_eq!(listed, ids);
        assert_eq!(anna.ctl_json(&["transfers"])["transfers"], json!([]), "they are over");
        anna.restart();
    }
    let all = text(&letter).to_owned();
    let mut shown = Running::spawn(&mut anna.ctl_command(&["transfers", "show", ids[0].as_str().expect("an id")]));
    assert!(shown.line(PATIENCE).is_some_and(|line| line.contains(ids[0].as_str().expect("an id"))), "{all}");
}
