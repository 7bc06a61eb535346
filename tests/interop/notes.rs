//! The app of the README (`notes.py`), on two devices.
//!
//! Needs `python3`; `KITH_REQUIRE=python` turns a skip into a failure.

use std::process::Command;

use kith_tests::binaries::workspace;
use kith_tests::host::{self, Host};
use kith_tests::process::{Running, run};
use kith_tests::{PATIENCE, require, wait};

/// `notes.py` before the daemon of `host`, in its home.
fn notes(host: &Host, arguments: &[&str]) -> Command {
    let mut command = Command::new(require::program("python3").expect("it was looked for"));
    command.current_dir(host.home()).env("PYTHONDONTWRITEBYTECODE", "1");
    command.arg(workspace().join("tests/interop/notes.py")).arg(host.socket()).args(arguments);
    command
}

#[track_caller]
fn done(host: &Host, arguments: &[&str]) -> String {
    run(&mut notes(host, arguments), PATIENCE).ok().stdout
}

/// The next line that `watch` shows.
#[track_caller]
fn shown(watch: &mut Running) -> String {
    watch.line(2 * PATIENCE).expect("it goes on")
}

fn is_missing() -> bool {
    let missing = require::program("python3").is_none();
    if missing {
        require::skip("python", "python3 is not installed");
    }
    missing
}

#[test]
fn notes_are_the_same_on_two_devices() {
    if is_missing() {
        return;
    }
    let (anna, bert) = (Host::running("anna"), Host::running("bert"));
    host::pair(&bert, &anna);
    let mut watch = Running::spawn(&mut notes(&bert, &["watch"]));
    let id = done(&anna, &["add", "buy milk"]).trim().to_owned();
    assert_eq!(shown(&mut watch), format!("{id} buy milk"));
    assert_eq!(done(&bert, &["list"]), format!("{id} buy milk\n"));
    // Entries of other apps are none of its business.
    anna.ctl(&["entries", "put", "default", "other", "--file", "/dev/null"]).ok();
    done(&bert, &["edit", &id, "{} and bread"]);
    assert_eq!(shown(&mut watch), format!("{id} buy milk and bread"));
    wait::until_true("the edit to arrive", 2 * PATIENCE, || done(&anna, &["list"]).contains("bread"));

    // It goes on where it stopped, also after a restart of the daemon.
    drop(watch);
    let mut bert = bert;
    let second = done(&anna, &["add", "call carl"]).trim().to_owned();
    wait::until_true("it to arrive", 2 * PATIENCE, || done(&bert, &["list"]).contains("carl"));
    bert.restart();
    let mut watch = Running::spawn(&mut notes(&bert, &["watch"]));
    let mut next = shown(&mut watch);
    if next.ends_with("and bread") {
        // It was ended between a line and its place: that comes once more, rather than not at all.
        next = shown(&mut watch);
    }
    assert_eq!(next, format!("{second} call carl"));
    done(&anna, &["rm", &second]);
    assert_eq!(shown(&mut watch), format!("{second} (deleted)"));
    let refused = run(&mut notes(&bert, &["edit", &second, "x"]), PATIENCE).expect(1);
    assert_eq!(refused.stderr.trim(), "notes: entry_not_found");
}

#[test]
fn edits_at_the_same_time_are_all_there() {
    if is_missing() {
        return;
    }
    let host = Host::running("anna");
    let id = done(&host, &["add", "0"]).trim().to_owned();
    // Each adds to what is there: whoever wrote over another one would lose a word.
    let edits: Vec<Running> =
        (1..=8).map(|i| Running::spawn(&mut notes(&host, &["edit", &id, &format!("{{}} {i}")]))).collect();
    edits.into_iter().for_each(|edit| drop(edit.finish(PATIENCE).ok()));
    let list = done(&host, &["list"]);
    let mut words: Vec<&str> = list.trim().split(' ').skip(1).collect();
    words.sort_unstable();
    assert_eq!(words, ["0", "1", "2", "3", "4", "5", "6", "7", "8"]);
}

#[test]
fn what_the_readme_shows_of_it_is_what_it_says() {
    let read = |path: &str| std::fs::read_to_string(workspace().join(path)).expect("it is there");
    let (readme, app) = (read("README.md"), read("tests/interop/notes.py"));
    let blocks: Vec<&str> = readme.split("```python\n").skip(1).filter_map(|rest| rest.split("```").next()).collect();
    assert_eq!(blocks.len(), 1, "the README has one piece of it");
    assert!(app.contains(blocks[0]), "the README says otherwise than the app:\n{}", blocks[0]);
}
