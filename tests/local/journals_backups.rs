//! Databases that come back from the past, or not at all.

use std::fs;
use std::path::Path;

use kith_tests::host::{self, Host};
use serde_json::json;

use crate::journals::{App, DEFAULT, apart, export, journal, sync, wait_same};
use crate::support::friends;

const DATABASE: [&str; 3] = ["kith.db", "kith.db-wal", "kith.db-shm"];
const WITNESS: &str = "journals.witness";

fn copy(from: &Path, to: &Path, files: &[&str]) {
    fs::create_dir_all(to).expect("the home is ours");
    for file in files {
        drop(fs::remove_file(to.join(file)));
        if from.join(file).exists() {
            fs::copy(from.join(file), to.join(file)).expect("the home is ours");
        }
    }
}

/// Bert's database is put back to where it was before he and others went on writing.
#[track_caller]
fn restored(files: &[&str], noticed: bool) {
    let (mut anna, mut bert) = friends();
    let (data, backup) = (bert.path("data"), bert.path("backup"));
    for host in [&anna, &bert] {
        let mut app = App::of(host, DEFAULT);
        (0..10).for_each(|i| drop(app.put(&format!("{} {i}", host.name()), "old")));
    }
    wait_same(&[&anna, &bert], DEFAULT, 20);
    sync(&bert, &anna);
    bert.stop();
    copy(&data, &backup, files);
    bert.start();
    for host in [&anna, &bert] {
        let mut app = App::of(host, DEFAULT);
        (5..15).for_each(|i| drop(app.put(&format!("{} {i}", host.name()), "new")));
        app.delete(&format!("{} 0", host.name()));
    }
    let whole = wait_same(&[&anna, &bert], DEFAULT, 28);
    sync(&bert, &anna);
    bert.stop();
    copy(&backup, &data, &DATABASE);
    if files.contains(&WITNESS) {
        copy(&backup, &data, &[WITNESS]);
    }
    let logged = bert.log().len();
    bert.start();
    assert_eq!(bert.log()[logged..].contains("went back in time"), noticed, "{}", &bert.log()[logged..]);
    // He writes at once, with numbers that he has used before.
    let mut app = App::of(&bert, DEFAULT);
    (0..12).for_each(|i| drop(app.put(&format!("after {i}"), "after")));
    app.put("bert 14", "after");
    let same = wait_same(&[&anna, &bert], DEFAULT, 40);
    for (id, entry) in &whole {
        assert!(id == "bert 14" || same[id] == *entry, "{id}: what others have comes back");
    }
    assert_eq!(app.text("bert 14").as_deref(), Some("after"));
    assert_eq!(export(&anna, DEFAULT), export(&bert, DEFAULT));
    // And on it goes, in both directions.
    App::of(&anna, DEFAULT).put("last", "by anna");
    app.wait_text("last", "by anna");
    app.put("last", "by bert");
    App::of(&anna, DEFAULT).wait_text("last", "by bert");
    anna.restart();
    bert.restart();
    wait_same(&[&anna, &bert], DEFAULT, 41);
}

#[test]
fn g65_a_restored_database_is_noticed_and_loses_nothing_that_others_have() {
    restored(&DATABASE, true);
}

#[test]
fn g65_a_restored_database_heals_where_nobody_notices() {
    restored(&[DATABASE[0], DATABASE[1], DATABASE[2], WITNESS], false);
}

#[test]
fn g65_a_lost_witness_costs_nothing() {
    let (anna, mut bert) = friends();
    App::of(&bert, DEFAULT).put("one", "x");
    wait_same(&[&anna, &bert], DEFAULT, 1);
    bert.stop();
    fs::remove_file(bert.path("data").join(WITNESS)).expect("it is there");
    bert.start();
    App::of(&bert, DEFAULT).put("two", "x");
    App::of(&anna, DEFAULT).put("three", "x");
    wait_same(&[&anna, &bert], DEFAULT, 3);
    assert!(bert.path("data").join(WITNESS).exists());
}

#[test]
fn a_database_that_is_gone_comes_back_from_others_after_pairing_anew() {
    let (anna, mut bert) = friends();
    let id = bert.id();
    anna.ctl(&["journals", "create", "notes"]).ok();
    anna.ctl(&["journals", "share", "notes", "bert"]).ok();
    crate::journals::wait_state(&bert, "notes", "active");
    for journal in ["notes", DEFAULT] {
        App::of(&bert, journal).put("one", "x");
        wait_same(&[&anna, &bert], journal, 1);
    }
    bert.stop();
    for file in DATABASE {
        drop(fs::remove_file(bert.path("data").join(file)));
    }
    bert.start();
    assert_eq!(bert.id(), id, "the key is what a device is");
    assert_eq!(journal(&bert, "notes"), None);
    App::of(&bert, DEFAULT).put("two", "x");
    // Whom it trusted it does not know any more.
    anna.ctl(&["trust", "revoke", "bert", "--yes"]).ok();
    host::pair(&bert, &anna);
    let state = wait_same(&[&anna, &bert], DEFAULT, 2);
    assert_eq!(state["two"]["device"], id);
    // A member it still is: the journal comes by itself.
    crate::journals::wait_state(&bert, "notes", "active");
    App::of(&bert, "notes").wait_text("one", "x");
}

#[test]
fn both_restored_to_different_days_agree_again() {
    let (mut anna, mut bert) = friends();
    let hosts = |anna: &Host, bert: &Host| [anna.path("data"), bert.path("data")];
    let mut app = App::of(&anna, DEFAULT);
    app.put("first", "x");
    wait_same(&[&anna, &bert], DEFAULT, 1);
    sync(&anna, &bert);
    drop(app);
    anna.stop();
    let [hers, _] = hosts(&anna, &bert);
    copy(&hers, &anna.path("backup"), &DATABASE);
    anna.start();
    App::of(&anna, DEFAULT).put("second", "x");
    wait_same(&[&anna, &bert], DEFAULT, 2);
    sync(&anna, &bert);
    bert.stop();
    let [_, his] = hosts(&anna, &bert);
    copy(&his, &bert.path("backup"), &DATABASE);
    bert.start();
    App::of(&bert, DEFAULT).put("third", "x");
    wait_same(&[&anna, &bert], DEFAULT, 3);
    sync(&anna, &bert);
    anna.stop();
    bert.stop();
    copy(&anna.path("backup"), &hers, &DATABASE);
    copy(&bert.path("backup"), &his, &DATABASE);
    bert.start();
    anna.start();
    apart(
        &mut anna,
        &mut bert,
        |anna| drop(App::of(anna, DEFAULT).put("third", "by anna")),
        |bert| drop(App::of(bert, DEFAULT).put("third", "by bert")),
    );
    wait_same(&[&anna, &bert], DEFAULT, 3);
    for host in [&anna, &bert] {
        let mut app = App::of(host, DEFAULT);
        assert_eq!(app.text("third").as_deref(), Some("by bert"));
        assert_eq!(app.history("third"), ["by anna"], "{}", host.name());
        assert_eq!(app.call("entries.history", json!({}))["versions"].as_array().map(Vec::len), Some(1));
    }
}
