//! Names that exist already.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use kith_tests::host::Host;
use kith_tests::tree;
use serde_json::{Value, json};

use crate::support::{assert_same_file, file, giver_and_taker, names, problems, send, set_modified, text};

/// Anna and Bert, who takes what she offers and does `what` where a name exists.
#[track_caller]
fn with(what: &str) -> (Host, Host, PathBuf) {
    let (anna, bert, into) = giver_and_taker();
    bert.ctl(&["trust", "policy", "anna", "--on-conflict", what]).ok();
    (anna, bert, into)
}

fn put(path: &Path, content: &str, modified: u64) {
    fs::write(path, content).expect("the home is ours");
    set_modified(path, modified);
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).expect("text")
}

#[test]
fn a11_rename_keeps_both() {
    let (anna, bert, into) = giver_and_taker();
    put(&into.join("a.txt"), "old", 1_600_000_000);
    let letter = anna.path("a.txt");
    for n in 1..4 {
        put(&letter, &format!("new {n}"), 1_600_000_000 + n);
        let sent = send(&anna, &letter, &bert);
        let received = bert.transfer(sent["id"].as_str().expect("an id")).expect("it is known");
        assert_eq!(received["placed"], json!([format!("a ({n}).txt")]));
    }
    assert_eq!(names(&into), ["a (1).txt", "a (2).txt", "a (3).txt", "a.txt"]);
    assert_eq!(read(&into.join("a.txt")), "old");
    assert_eq!(read(&into.join("a (2).txt")), "new 2");
}

#[test]
fn the_same_content_under_the_same_name_is_not_sent_again() {
    for what in ["rename", "overwrite"] {
        let (anna, bert, into) = with(what);
        let trip = anna.path("trip");
        tree::sample(&trip, 3).expect("the home is ours");
        send(&anna, &trip, &bert);
        let before = list(&into);
        let sent = send(&anna, &trip, &bert);
        assert_eq!(list(&into), before, "{what}: nothing is added, nothing is touched");
        assert_eq!((&sent["state"], &sent["problem_count"]), (&json!("done"), &json!(0)));
        tree::assert_same(&trip, &into.join("trip"));
    }
}

/// Every path below `root` with its inode: what was replaced has another.
fn list(root: &Path) -> Vec<(PathBuf, u64)> {
    use std::os::unix::fs::MetadataExt;
    let paths = tree::list(root).expect("it can be read").into_keys();
    paths.map(|path| (path.clone(), fs::symlink_metadata(root.join(path)).expect("it is there").ino())).collect()
}

#[test]
fn skip_keeps_the_old_and_says_so() {
    let (anna, bert, into) = with("skip");
    put(&into.join("a.txt"), "old", 1_600_000_000);
    put(&anna.path("a.txt"), "new", 1_700_000_000);
    let output = anna.ctl(&["send", text(&anna.path("a.txt")), "--to", "bert", "--json"]);
    let sent = output.json();
    assert_eq!(sent["state"], "done");
    let received = bert.wait_transfer(sent["id"].as_str().expect("an id"), "done");
    assert_eq!(problems(&received), ["a.txt: exists"]);
    assert_eq!((names(&into), read(&into.join("a.txt")).as_str()), (vec!["a.txt".to_owned()], "old"));
    put(&anna.path("b.txt"), "new", 1_700_000_000);
    send(&anna, &anna.path("b.txt"), &bert);
    assert_eq!(read(&into.join("b.txt")), "new");
}

#[test]
fn overwrite_replaces_in_one_step() {
    let (anna, bert, into) = with("overwrite");
    put(&into.join("a.txt"), "an older and longer text", 1_800_000_000);
    put(&anna.path("a.txt"), "new", 1_600_000_000);
    send(&anna, &anna.path("a.txt"), &bert);
    assert_eq!((names(&into), read(&into.join("a.txt")).as_str()), (vec!["a.txt".to_owned()], "new"));
}

#[test]
fn newer_replaces_only_what_is_older() {
    let (anna, bert, into) = with("newer");
    for (name, there, coming, wins) in [
        ("older", 1_600_000_000, 1_700_000_000, "new"),
        ("newer", 1_700_000_000, 1_600_000_000, "old"),
        ("equal", 5, 5, "old"),
    ] {
        put(&into.join(name), "old", there);
        put(&anna.path(name), "new", coming);
        let output = anna.ctl(&["send", text(&anna.path(name)), "--to", "bert", "--json"]);
        assert_eq!(output.json()["state"], "done");
        assert_eq!(read(&into.join(name)), wins, "{name}");
    }
    assert_eq!(names(&into), ["equal", "newer", "older"]);
    drop(bert);
}

#[test]
fn the_choice_for_one_offer_goes_before_the_policy() {
    let (anna, bert, into) = with("rename");
    bert.ctl(&["trust", "policy", "anna", "--offers", "ask"]).ok();
    put(&into.join("a.txt"), "old", 1_600_000_000);
    put(&anna.path("a.txt"), "new", 1_700_000_000);
    let id = crate::support::send_later(&anna, &anna.path("a.txt"), "bert");
    crate::support::offer(&bert);
    bert.ctl(&["inbox", "accept", &id, "--on-conflict", "overwrite"]).ok();
    anna.wait_transfer(&id, "done");
    assert_eq!((names(&into), read(&into.join("a.txt")).as_str()), (vec!["a.txt".to_owned()], "new"));
}

#[test]
fn a8_a_file_where_a_directory_is_and_the_reverse() {
    for what in ["rename", "overwrite", "newer", "skip"] {
        let (anna, bert, into) = with(what);
        fs::create_dir(into.join("thing")).expect("the home is ours");
        put(&into.join("thing/precious"), "mine", 1_000);
        put(&into.join("other"), "a file", 1_000);
        put(&anna.path("thing"), "a file", 1_700_000_000);
        let other = anna.path("other");
        fs::create_dir(&other).expect("the home is ours");
        put(&other.join("inside"), "new", 1_700_000_000);
        for path in [anna.path("thing"), other] {
            let last: Value = anna.ctl(&["send", text(&path), "--to", "bert", "--json"]).json();
            assert!(last["state"] == "done" || last["state"] == "failed", "{what}: {last}");
        }
        assert_eq!(read(&into.join("thing/precious")), "mine", "{what}");
        assert_eq!(read(&into.join("other")), "a file", "{what}");
        drop(bert);
    }
}

#[test]
fn a7_a_link_in_the_place_of_a_name_is_never_followed() {
    for what in ["rename", "overwrite", "newer", "skip"] {
        let (anna, bert, into) = with(what);
        let outside = bert.path("outside");
        fs::create_dir(&outside).expect("the home is ours");
        put(&outside.join("victim"), "mine", 1_000);
        symlink(outside.join("victim"), into.join("to-file")).expect("the home is ours");
        symlink(&outside, into.join("to-dir")).expect("the home is ours");
        symlink("/nowhere/at/all", into.join("dangling")).expect("the home is ours");
        let trip = anna.path("to-dir");
        fs::create_dir(&trip).expect("the home is ours");
        for path in [anna.path("to-file"), trip.join("victim"), anna.path("dangling")] {
            put(&path, "theirs", 1_700_000_000);
        }
        for path in [anna.path("to-file"), trip, anna.path("dangling")] {
            anna.ctl(&["send", text(&path), "--to", "bert", "--json"]);
        }
        assert_eq!(read(&outside.join("victim")), "mine", "{what}");
        assert_eq!(names(&outside), ["victim"], "{what}");
        assert!(!Path::new("/nowhere").exists());
    }
}

#[test]
fn a11_the_same_name_from_several_at_once_gives_several_files() {
    let (anna, bert, into) = giver_and_taker();
    let mut sent = Vec::new();
    for n in 0..6 {
        let path = file(&anna, &format!("{n}/same.bin"), 300_000 + n);
        sent.push((crate::support::send_later(&anna, &path, "bert"), path));
    }
    for (id, _) in &sent {
        anna.wait_transfer(id, "done");
    }
    assert_eq!(names(&into).len(), 6, "{:?}", names(&into));
    for (id, path) in &sent {
        let placed = bert.transfer(id).expect("it is known")["placed"][0].as_str().expect("a name").to_owned();
        assert_same_file(path, &into.join(placed));
    }
}
