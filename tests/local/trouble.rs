//! Transfers that do not go their way: called off, tried again, offline, revoked.

use std::fs;
use std::path::Path;

use kith_tests::fault::Weather;
use kith_tests::host::{self, Host};
use kith_tests::{PATIENCE, wait};
use rustix::process::Signal;
use serde_json::json;

use crate::support::{
    assert_same_file, dir, file, friends, large, names, offer, parts, reason, relayed, send_later, slow, text,
    wait_bytes,
};

/// A transfer of one large file from Anna to Bert that is under way, into a directory with something precious in it.
#[track_caller]
fn under_way(anna: &Host, bert: &Host, into: &Path) -> String {
    fs::create_dir_all(into.join("album/kept")).expect("the home is ours");
    fs::write(into.join("album/precious"), "mine").expect("the home is ours");
    let album = dir(anna, "album");
    fs::create_dir_all(album.join("new/deeper")).expect("the home is ours");
    large(anna, "album/new/deeper/film.bin", 60);
    let id = send_later(anna, &album, "bert");
    wait_bytes(bert, &id, 0);
    id
}

/// Only what was there before is there.
#[track_caller]
fn assert_clean(bert: &Host, into: &Path) {
    wait::until_true("the traces to go", PATIENCE, || {
        parts(into).is_empty() && names(&into.join("album")) == ["kept", "precious"]
    });
    assert_eq!(fs::read_to_string(into.join("album/precious")).expect("it is there"), "mine");
    wait::until_true("the journals to go", PATIENCE, || names(&bert.path("data/parts")).is_empty());
}

#[test]
fn a13_called_off_by_the_sender_nothing_but_its_own_is_removed() {
    let (anna, bert, into, relay) = relayed();
    relay.set(slow());
    let id = under_way(&anna, &bert, &into);
    let state = anna.ctl_json(&["transfers", "cancel", &id])["state"].clone();
    assert_eq!(state, "canceled");
    bert.wait_transfer(&id, "canceled");
    assert_clean(&bert, &into);
    assert_eq!(anna.ctl_json(&["transfers", "cancel", &id])["state"], "canceled", "twice is as good as once");
}

#[test]
fn a13_called_off_by_the_receiver_nothing_but_its_own_is_removed() {
    let (anna, bert, into, relay) = relayed();
    relay.set(slow());
    let id = under_way(&anna, &bert, &into);
    bert.ctl(&["transfers", "cancel", &id]).ok();
    anna.wait_transfer(&id, "canceled");
    assert_clean(&bert, &into);
}

#[test]
fn a13_ctrl_c_calls_it_off_and_is_130() {
    let (anna, bert, into, relay) = relayed();
    relay.set(slow());
    let film = large(&anna, "film.bin", 60);
    let mut sending = anna.ctl_spawn(&["send", text(&film), "--to", "bert", "--json"]);
    let id = sending.json_line(PATIENCE)["id"].as_str().expect("an id").to_owned();
    wait_bytes(&bert, &id, 0);
    sending.signal(Signal::INT);
    assert_eq!(sending.finish(PATIENCE).status, 130);
    anna.wait_transfer(&id, "canceled");
    bert.wait_transfer(&id, "canceled");
    wait::until_true("the traces to go", PATIENCE, || names(&into).is_empty());
}

#[test]
fn whole_files_stay_when_the_rest_is_called_off() {
    let (anna, bert, into, relay) = relayed();
    relay.set(slow());
    let album = dir(&anna, "album");
    let small = file(&anna, "album/a-small", 1000);
    large(&anna, "album/b-film.bin", 60);
    let id = send_later(&anna, &album, "bert");
    wait_bytes(&bert, &id, 0);
    wait::until_true("the small one", PATIENCE, || into.join("album/a-small").exists());
    bert.ctl(&["transfers", "cancel", &id]).ok();
    anna.wait_transfer(&id, "canceled");
    wait::until_true("the traces to go", PATIENCE, || names(&into.join("album")) == ["a-small"]);
    assert_same_file(&small, &into.join("album/a-small"));
}

#[test]
fn an_offer_that_is_called_off_leaves_the_inbox() {
    let (anna, bert) = friends();
    let letter = file(&anna, "letter", 10);
    let id = send_later(&anna, &letter, "bert");
    offer(&bert);
    anna.ctl(&["transfers", "cancel", &id]).ok();
    wait::until_true("the inbox to empty", PATIENCE, || bert.status()["inbox"] == 0);
    assert_eq!(bert.ctl_refused(&["inbox", "accept", &id]), ("wrong_state".to_owned(), 6));
    // Called off by the receiver: the sender is told.
    let id = send_later(&anna, &letter, "bert");
    offer(&bert);
    bert.ctl(&["transfers", "cancel", &id]).ok();
    anna.wait_transfer(&id, "canceled");
    assert!(!bert.received().exists());
}

#[test]
fn what_was_called_off_while_the_other_was_away_is_told_later() {
    let (anna, mut bert, into, relay) = relayed();
    relay.set(slow());
    let id = under_way(&anna, &bert, &into);
    bert.kill9();
    anna.ctl(&["transfers", "cancel", &id]).ok();
    bert.start();
    bert.wait_transfer(&id, "canceled");
    assert_clean(&bert, &into);
}

#[test]
fn d35_revoked_while_it_is_offered_ends_it_on_both_sides() {
    for revoker in ["bert", "anna"] {
        let (anna, bert) = friends();
        let letter = file(&anna, "letter", 10);
        let id = send_later(&anna, &letter, "bert");
        offer(&bert);
        let (by, other) = if revoker == "bert" { (&bert, "anna") } else { (&anna, "bert") };
        by.ctl(&["trust", "revoke", other, "--yes"]).ok();
        let failed = anna.wait_transfer(&id, "failed");
        assert_eq!(reason(&failed), "not_trusted", "{failed}");
        if revoker == "bert" {
            // The session ends first, and with it the sender may know before the inbox does.
            wait::until_true("the inbox to empty", PATIENCE, || bert.status()["inbox"] == 0);
            assert_ne!(bert.ctl(&["inbox", "accept", &id]).status, 0);
        }
        assert!(!bert.received().exists());
    }
}

#[test]
fn d35_revoked_while_it_is_sent_stops_at_once() {
    for revoker in ["bert", "anna"] {
        let (anna, bert, into, relay) = relayed();
        relay.set(slow());
        let film = large(&anna, "film.bin", 60);
        let id = send_later(&anna, &film, "bert");
        wait_bytes(&bert, &id, 0);
        let (by, other) = if revoker == "bert" { (&bert, "anna") } else { (&anna, "bert") };
        by.ctl(&["trust", "revoke", other, "--yes"]).ok();
        let failed = anna.wait_transfer(&id, "failed");
        assert_eq!(reason(&failed), "not_trusted", "{failed}");
        assert!(!into.join("film.bin").exists());
        relay.set(Weather::default());
        // What was offered before goes on after a new pairing, if that is wanted.
        host::pair(&bert, &anna);
        anna.ctl(&["transfers", "retry", &id]).ok();
        bert.ctl(&["trust", "policy", "anna", "--offers", "auto", "--dir", text(&into)]).ok();
        let done = wait::attempt(2 * PATIENCE, || {
            if let Some(waiting) = bert.door().call("inbox.list", json!({}))["transfers"].get(0) {
                drop(bert.ctl(&["inbox", "accept", waiting["id"].as_str()?]));
            }
            (anna.transfer(&id)?["state"] == "done").then_some(())
        });
        assert!(done.is_some(), "{revoker}: {:?}, {:?}", anna.transfer(&id), bert.transfer(&id));
        assert_same_file(&film, &into.join("film.bin"));
    }
}
