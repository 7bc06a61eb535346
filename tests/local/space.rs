//! Disks that are full. A small file system of its own has to be mounted for that, which is for root.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use kith_tests::fault::Weather;
use kith_tests::host::Host;
use kith_tests::process::{Running, run};
use kith_tests::{PATIENCE, require, tree};
use serde_json::json;

use crate::support::{
    assert_same_file, dir, friends, is_root, large, names, offer, parts, reason, relayed, send_later, slow, text,
    wait_bytes,
};

/// A file system of its own, in memory.
pub struct Small(PathBuf);

impl Small {
    /// Mounts `size` at `place`; nothing where that is not allowed.
    pub fn at(place: PathBuf, size: &str) -> Option<Self> {
        if !is_root() {
            require::skip("mount", "only root may mount");
            return None;
        }
        let options = format!("size={size},mode=0700");
        let output =
            run(Command::new("mount").args(["-t", "tmpfs", "-o", &options, "kith-test"]).arg(&place), PATIENCE);
        if output.status != 0 {
            require::skip("mount", &output.stderr);
            return None;
        }
        Some(Self(place))
    }

    /// Gives it another size.
    pub fn resize(&self, size: &str) {
        run(Command::new("mount").args(["-o", &format!("remount,size={size}")]).arg(&self.0), PATIENCE).ok();
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        // Lazily: a daemon may still have it open, and the home below it is removed next.
        drop(Command::new("umount").arg("--lazy").arg(&self.0).status());
    }
}

fn target(bert: &Host, anna: &Host) -> PathBuf {
    let into = dir(bert, "small");
    bert.ctl(&["trust", "policy", &anna.id(), "--offers", "auto", "--dir", text(&into)]).ok();
    into
}

/// What is there apart from parts of transfers.
fn whole(dir: &Path) -> Vec<String> {
    names(dir).into_iter().filter(|name| !name.starts_with(".kith-")).collect()
}

#[test]
fn c23_what_has_no_room_is_refused_before_the_first_byte() {
    let (anna, bert) = friends();
    let into = target(&bert, &anna);
    let Some(_small) = Small::at(into.clone(), "24M") else { return };
    let path = large(&anna, "large.bin", 40);
    let output = anna.ctl(&["send", text(&path), "--to", "bert", "--json"]).expect(1);
    let last = output.json();
    assert_eq!((last["state"].as_str(), reason(&last)), (Some("rejected"), "no_space"));
    assert_eq!(output.error()["error"]["code"], "no_space");
    assert_eq!((names(&into), &last["bytes_done"]), (vec![], &json!(0)));
    // Somebody who is asked is told when he says yes, and may choose another place.
    bert.ctl(&["trust", "policy", "anna", "--offers", "ask"]).ok();
    let id = send_later(&anna, &path, "bert");
    offer(&bert);
    assert_eq!(bert.ctl_refused(&["inbox", "accept", &id]), ("no_space".to_owned(), 1));
    let elsewhere = dir(&bert, "elsewhere");
    bert.ctl(&["inbox", "accept", &id, "--to", text(&elsewhere)]).ok();
    anna.wait_transfer(&id, "done");
    assert_same_file(&path, &elsewhere.join("large.bin"));
    assert_eq!(names(&into), [] as [&str; 0]);
}

#[test]
fn c23_a_stream_that_fills_the_disk_fails_and_goes_on_when_there_is_room() {
    let (anna, bert) = friends();
    let into = target(&bert, &anna);
    let Some(small) = Small::at(into.clone(), "24M") else { return };
    fs::write(into.join("precious"), "mine").expect("there is room");
    let content = large(&anna, "content", 32);
    let bytes = fs::read(&content).expect("it is ours");
    bert.ctl(&["trust", "policy", "anna", "--offers", "ask"]).ok();
    let mut sending = Running::spawn_fed(&mut anna.ctl_command(&[
        "send",
        "-",
        "--name",
        "stream",
        "--to",
        "bert",
        "--no-wait",
        "--json",
    ]));
    assert!(sending.feed(&bytes));
    assert_eq!(offer(&bert)["bytes"], serde_json::Value::Null, "offered before its length is known");
    let id = sending.finish(PATIENCE).ok().json()["id"].as_str().expect("an id").to_owned();
    bert.ctl(&["inbox", "accept", &id]).ok();
    let failed = anna.wait_transfer(&id, "failed");
    assert_eq!(reason(&failed), "no_space", "{failed}");
    assert_eq!(reason(&bert.wait_transfer(&id, "failed")), "no_space");
    assert_eq!(whole(&into), ["precious"]);
    assert_eq!(fs::read_to_string(into.join("precious")).expect("it is there"), "mine");
    assert_eq!(parts(&into).len(), 1, "what arrived is kept for later");
    small.resize("80M");
    anna.ctl(&["transfers", "retry", &id]).ok();
    anna.wait_transfer(&id, "done");
    assert_same_file(&content, &into.join("stream"));
    assert!(parts(&into).is_empty());
}

#[test]
fn c23_what_failed_for_want_of_room_can_be_called_off_and_leaves_nothing() {
    for by in ["anna", "bert"] {
        let (anna, bert) = friends();
        let into = target(&bert, &anna);
        let Some(_small) = Small::at(into.clone(), "24M") else { return };
        bert.ctl(&["trust", "policy", "anna", "--offers", "ask"]).ok();
        let mut sending =
            Running::spawn_fed(&mut anna.ctl_command(&["send", "-", "--to", "bert", "--no-wait", "--json"]));
        assert!(sending.feed(&vec![7; 30 << 20]));
        // Before its end: an offer of a known length would be refused for want of room.
        offer(&bert);
        let id = sending.finish(PATIENCE).ok().json()["id"].as_str().expect("an id").to_owned();
        bert.ctl(&["inbox", "accept", &id]).ok();
        anna.wait_transfer(&id, "failed");
        bert.wait_transfer(&id, "failed");
        assert_eq!(parts(&into).len(), 1);
        if by == "anna" { &anna } else { &bert }.ctl(&["transfers", "cancel", &id]).ok();
        bert.wait_transfer(&id, "canceled");
        kith_tests::wait::until_true("the traces to go", PATIENCE, || names(&into).is_empty());
    }
}

#[test]
fn c23_a_stream_that_is_still_coming_ends_where_the_disk_is_full() {
    let (anna, bert) = friends();
    let into = target(&bert, &anna);
    let Some(_small) = Small::at(into.clone(), "24M") else { return };
    let mut sending =
        Running::spawn_fed(&mut anna.ctl_command(&["send", "-", "--name", "stream", "--to", "bert", "--json"]));
    // Until nobody takes it any more: a stream of any length ends.
    let mebibyte = vec![7; 1 << 20];
    assert!((0..2000).any(|_| !sending.feed(&mebibyte)), "2 GB went into 24 MB");
    let output = sending.finish(PATIENCE).expect(1);
    assert_eq!(reason(&output.json()), "no_space");
    assert_eq!(output.error()["error"]["code"], "no_space");
    // Half of a stream is nobody's file, and cannot go on.
    kith_tests::wait::until_true("the traces to go", PATIENCE, || names(&into).is_empty());
    assert_eq!(names(&anna.path("data/spool")), [] as [&str; 0]);
}

#[test]
fn c23_a_disk_that_fills_up_meanwhile_stops_a_tree_whole_files_stay() {
    let (anna, bert) = friends();
    let into = target(&bert, &anna);
    let Some(small) = Small::at(into.clone(), "60M") else { return };
    let trip = anna.path("trip");
    tree::many(&trip, 400, 50_000, 4).expect("there is room");
    bert.ctl(&["trust", "policy", "anna", "--offers", "ask"]).ok();
    let id = send_later(&anna, &trip, "bert");
    offer(&bert);
    bert.ctl(&["inbox", "accept", &id]).ok();
    // Somebody else takes the room away.
    drop(large_at(&into.join("hog"), 50 << 20));
    let outcome = kith_tests::wait::until("an end", 2 * PATIENCE, || {
        let state = anna.transfer(&id)?["state"].as_str()?.to_owned();
        ["done", "failed"].contains(&state.as_str()).then_some(state)
    });
    // Bert may still be at it.
    let entries = kith_tests::wait::until("a look without a gap", PATIENCE, || tree::list(&into).ok());
    for (path, entry) in entries {
        // Nothing has its final name before it is whole.
        let is_part = path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(".kith-"));
        if let (tree::Entry::File { size, .. }, Ok(below), false) = (entry, path.strip_prefix("trip"), is_part) {
            assert_eq!(size, 50_000, "{}", below.display());
        }
    }
    fs::remove_file(into.join("hog")).expect("it is ours");
    small.resize("120M");
    if outcome == "failed" {
        anna.ctl(&["transfers", "retry", &id]).ok();
        anna.wait_transfer(&id, "done");
    }
    tree::assert_same(&trip, &into.join("trip"));
}

fn large_at(path: &Path, bytes: u64) -> std::io::Result<()> {
    tree::large(path, bytes, 1)
}

#[test]
fn c23_a_directory_that_goes_away_meanwhile_is_an_error_and_nothing_else() {
    let (anna, bert, into, relay) = relayed();
    relay.set(slow());
    let path = large(&anna, "large.bin", 60);
    let id = send_later(&anna, &path, "bert");
    wait_bytes(&bert, &id, 0);
    fs::remove_dir_all(&into).expect("it is ours");
    relay.set(Weather::default());
    kith_tests::wait::until_true("an end", 2 * PATIENCE, || {
        let state = anna.transfer(&id).expect("it is known")["state"].clone();
        state == "done" || state == "failed" || state == "queued"
    });
    assert!(bert.status()["id"].is_string() && anna.status()["id"].is_string());
    // The next one is taken as if nothing had been.
    let next = large(&anna, "next.bin", 2);
    fs::create_dir_all(&into).expect("the home is ours");
    let sent = anna.ctl_json(&["send", text(&next), "--to", "bert"]);
    assert_eq!(sent["state"], "done");
    assert_same_file(&next, &into.join("next.bin"));
}
