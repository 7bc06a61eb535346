//! Names and texts of a hostile peer: in tables, JSON, logs, and what the hook is given.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use kith_tests::host::{self, Host};
use kith_tests::process::Running;
use kith_tests::{PATIENCE, wait};
use serde_json::{Value, json};

use crate::raw::{Key, Wire};
use crate::support::{dir, file, friends, names, offer, send_later, text};

/// Clears the screen, sets the title, writes the clipboard, links, returns, colours, hides and reverses.
pub const EVIL: &str =
    "a\x1b[2J\x1b]0;t\x07\x1b]52;c;eA==\x07\x1b]8;;http://x\x07\r\n\u{9b}31m\u{202e}gpj.\u{200b}\u{7f}%s%n<b>";

/// Whether a terminal that shows `text` would do anything but show it.
pub fn acts(text: &str) -> bool {
    text.chars().any(|c| {
        c.is_control() && c != '\n' && c != '\t'
            || matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    })
}

/// Runs every command that shows something, in both forms; nothing that it says acts on a terminal.
#[track_caller]
pub fn check_shown(host: &Host, id: &str, peer: &str) {
    for arguments in [
        vec!["transfers", "list", "--all"],
        vec!["transfers", "show", id],
        vec!["inbox"],
        vec!["peers"],
        vec!["trust", "list"],
        vec!["trust", "show", peer],
        vec!["status"],
        vec!["call", "transfer.list", r#"{"all":true}"#],
        vec!["trust", "show", EVIL],
        vec!["transfers", "show", EVIL],
        vec!["call", EVIL],
    ] {
        for json in [true, false] {
            let output = host.ctl(&[if json { vec!["--json"] } else { vec![] }, arguments.clone()].concat());
            for said in [&output.stdout, &output.stderr] {
                assert!(!acts(said), "{arguments:?} json={json}: {said:?}");
            }
        }
    }
    assert!(!acts(&host.log()), "{:?}", host.log());
}

#[test]
fn b14_a_title_and_a_text_act_on_no_terminal() {
    let (anna, bert) = friends();
    let letter = file(&anna, "letter", 10);
    let mut events = bert.ctl_spawn(&["events"]);
    let mut raw = bert.ctl_spawn(&["events", "--json"]);
    raw.json_line(PATIENCE);
    let mut door = anna.door();
    let sent = door.call("transfer.send", json!({"peer": "bert", "paths": [letter], "title": EVIL}));
    let id = sent["id"].as_str().expect("an id").to_owned();
    let offered = offer(&bert);
    assert_eq!(offered["title"], EVIL, "it arrives as it is, and is made harmless where it is shown");
    check_shown(&bert, &id, "anna");
    let waiting = Running::spawn(&mut bert.ctl_command(&["receive", "--once", "--yes"]));
    let said = waiting.finish(PATIENCE);
    assert!(!acts(&said.stdout) && !acts(&said.stderr), "{said:?}");
    let listening = bert.ctl_spawn(&["receive", "--once", "--yes"]);
    wait::until_true("somebody who listens", PATIENCE, || !names(&bert.received()).is_empty());
    let words = door.call("transfer.send", json!({"peer": "bert", "text": EVIL}));
    let said = listening.finish(PATIENCE).ok();
    assert!(!acts(&said.stdout) && said.stdout.contains("gpj"), "{said:?}");
    check_shown(&bert, words["id"].as_str().expect("an id"), "anna");
    check_shown(&anna, &id, "bert");
    loop {
        let line = raw.line(PATIENCE).expect("more");
        assert!(!acts(&line), "{line:?}");
        if line.contains("\"done\"") && line.contains("\"text\"") {
            break;
        }
    }
    while let Some(line) = events.line(PATIENCE) {
        assert!(!acts(&line), "{line:?}");
        if line.contains("done") && line.contains("Text") {
            break;
        }
    }
}

#[test]
fn b14_file_names_act_on_no_terminal() {
    let (anna, bert) = friends();
    let trip = dir(&anna, "trip");
    for name in ["exe.\u{202e}gpj", "zero\u{200b}width", "%s%n<b>", "with\x1b[31mescape", "with\nnewline"] {
        fs::write(trip.join(name), "x").expect("the home is ours");
    }
    let id = send_later(&anna, &trip, "bert");
    offer(&bert);
    check_shown(&bert, &id, "anna");
    let into = dir(&bert, "in");
    bert.ctl(&["inbox", "accept", &id, "--to", text(&into)]).ok();
    anna.wait_transfer(&id, "done");
    check_shown(&bert, &id, "anna");
    // The skipped ones are named to the sender, who could have been given them by anybody.
    check_shown(&anna, &id, "bert");
    let output = anna.ctl(&["send", text(&trip.join("with\x1b[31mescape")), "--to", "bert"]);
    assert!(output.status != 0 && !acts(&output.stderr), "{output:?}");
}

#[test]
fn b14_the_name_of_a_device_is_one_harmless_line() {
    let bert = Host::running("bert");
    let mut anna = Host::new("anna");
    let quoted = serde_json::to_string(&EVIL.replace('\u{7f}', "")).expect("a string");
    fs::write(anna.path("config.toml"), format!("name = {quoted}\n[discovery]\nenabled = false\n")).expect("ours");
    anna.start();
    host::pair(&bert, &anna);
    let name = bert.ctl_json(&["trust", "show", &anna.id()])["name"].as_str().expect("a name").to_owned();
    assert!(!acts(&name) && !name.contains('\n') && name.len() <= 48, "{name:?}");
    check_shown(&bert, "none", &anna.id());
    // A device that says another name each time it is asked, and does not clean it.
    let id = anna.id();
    anna.stop();
    let mut wire = Wire::send(&bert, &Key::taken_from(&anna));
    wire.say(&json!({"type": "offer", "v": 1, "transfer": "0192aaaa-0000-7000-8000-000000000001", "title": EVIL, "files": 0, "text": EVIL}));
    assert_eq!(wire.hear().expect("an answer")["type"], "waiting");
    check_shown(&bert, "0192aaaa", &id);
}

#[test]
fn b14_a_name_of_our_own_is_made_harmless_too() {
    let (anna, bert) = friends();
    drop(anna.ctl(&["trust", "rename", "bert", EVIL]));
    check_shown(&anna, "none", &bert.id());
}

/// A hook that writes down its arguments and what it finds in its environment, each NUL-terminated.
fn hook(host: &Host) -> std::path::PathBuf {
    let script = host.path("hook.sh");
    let out = host.path("hook.out");
    let text = format!(
        "#!/bin/sh\n{{ for a in \"$0\" \"$@\"; do printf '%s\\0' \"$a\"; done; printf 'END\\0'; env -0 | grep -z '^KITH_'; }} > {0}.tmp\nmv {0}.tmp {0}\n",
        text(&out)
    );
    fs::write(&script, text).expect("the home is ours");
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).expect("it is ours");
    out
}

/// What the hook was given: arguments, and variables.
#[track_caller]
fn given(out: &Path) -> (Vec<String>, Value) {
    wait::until_true("the hook", PATIENCE, || out.exists());
    let bytes = fs::read(out).expect("it is there");
    fs::remove_file(out).expect("it is ours");
    let words: Vec<String> = bytes.split(|b| *b == 0).map(|word| String::from_utf8_lossy(word).into_owned()).collect();
    let end = words.iter().position(|word| word == "END").expect("an end");
    let variables = words[end + 1..].iter().filter_map(|word| word.split_once('='));
    (words[..end].to_vec(), variables.map(|(key, value)| (key.to_owned(), json!(value))).collect())
}

#[test]
fn b15_the_hook_gets_argv_and_environment_and_no_shell_sees_a_name() {
    let (anna, mut bert) = friends();
    bert.stop();
    let out = hook(&bert);
    let script = bert.path("hook.sh");
    bert.configure(&format!(
        "[discovery]\nenabled = false\n[receive]\nhook = [{:?}, \"fixed $(touch pwned) argument\", \"-x\"]\n",
        text(&script)
    ));
    bert.start();
    let into = bert.accept_all_from(&anna);
    let trap = anna.path("pwned");
    for evil in ["$(touch pwned)", ";touch pwned", "-rf", "--help", "`touch pwned`", "a\nb", "* ? ~ \\ ' \"", EVIL] {
        let name = evil.replace(|c: char| c.is_control() || "/\\:".contains(c), "_");
        let path = anna.path("x").join(name);
        fs::create_dir_all(path.parent().expect("a directory")).expect("the home is ours");
        fs::write(&path, "x").expect("the home is ours");
        let sent = anna.door().call("transfer.send", json!({"peer": "bert", "paths": [path], "title": evil}));
        let (arguments, variables) = given(&out);
        assert_eq!(arguments, [text(&script), "fixed $(touch pwned) argument", "-x"], "{evil:?}");
        assert_eq!(variables["KITH_TITLE"], evil);
        assert_eq!(variables["KITH_TRANSFER"], sent["id"]);
        assert_eq!((&variables["KITH_DIR"], &variables["KITH_PEER_NAME"]), (&json!(text(&into)), &json!("anna")));
        assert_eq!(variables["KITH_PEER_ID"], anna.id());
    }
    let words = "a \0 NUL and $(touch pwned)";
    anna.door().call("transfer.send", json!({"peer": "bert", "text": words}));
    assert_eq!(given(&out).1["KITH_TEXT"], words.replace('\0', ""));
    for place in [&trap, &bert.path("pwned"), &into.join("pwned"), Path::new("pwned")] {
        assert!(!place.exists(), "{}", place.display());
    }
    // A hook that fails or is not there harms no transfer.
    bert.stop();
    bert.configure("[discovery]\nenabled = false\n[receive]\nhook = [\"/no/such/program\"]\n");
    bert.start();
    let letter = file(&anna, "letter", 10);
    assert_eq!(crate::support::send(&anna, &letter, &bert)["state"], "done");
    assert!(names(&into).contains(&"letter".to_owned()));
}
