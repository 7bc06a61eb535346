//! kithctl and journals: export and import, texts that only a passphrase opens, the shapes of --json.

use std::collections::BTreeSet;
use std::fs;

use kith_tests::PATIENCE;
use kith_tests::host::Host;
use kith_tests::process::{Output, Running};
use kith_tests::random::Random;
use serde_json::{Value, json};

use crate::journals::{App, DEFAULT, export, wait_same, wait_state};
use crate::support::{friends, text};

/// The keys of an object, without those that debug builds add.
fn keys(object: &Value) -> BTreeSet<&str> {
    let object = object.as_object().unwrap_or_else(|| panic!("an object: {object}"));
    object.keys().map(String::as_str).filter(|key| *key != "x_unknown").collect()
}

fn set<'a>(keys: &[&'a str]) -> BTreeSet<&'a str> {
    keys.iter().copied().collect()
}

#[track_caller]
fn fed(host: &Host, arguments: &[&str], input: &[u8]) -> Output {
    let mut running = Running::spawn_fed(&mut host.ctl_command(arguments));
    assert!(running.feed(input));
    running.finish(PATIENCE)
}

#[test]
fn what_was_exported_is_imported_elsewhere() {
    let (anna, bert) = (Host::running("anna"), Host::running("bert"));
    let mut app = App::of(&anna, DEFAULT);
    let mut random = Random::seeded(5);
    app.put_with("Grüße", &random.bytes(2_000_000), json!({"meta": {"deep": {"list": [1, "\u{2028}"]}}}));
    app.put("empty", "");
    app.put("../..", "x");
    app.put("gone", "x");
    app.delete("gone");
    let file = anna.path("notes.ndjson");
    let done = anna.ctl_json(&["entries", "export", DEFAULT, "--file", text(&file)]);
    assert_eq!(done, json!({"exported": 3}));
    let import = |host: &Host, more: &[&str]| {
        host.ctl_json(&[&["entries", "import", DEFAULT, "--file", text(&file)], more].concat())
    };
    App::of(&bert, DEFAULT).put("empty", "not empty");
    assert_eq!(import(&bert, &[]), json!({"imported": 2, "same": 0, "skipped": 1}));
    assert_eq!(App::of(&bert, DEFAULT).text("empty").as_deref(), Some("not empty"));
    assert_eq!(import(&bert, &["--on-conflict", "replace"]), json!({"imported": 1, "same": 2, "skipped": 0}));
    assert_eq!(import(&bert, &[]), json!({"imported": 0, "same": 3, "skipped": 0}));
    // What was deleted meanwhile is there again: somebody wants it.
    App::of(&bert, DEFAULT).delete("../..");
    assert_eq!(import(&bert, &[]), json!({"imported": 1, "same": 2, "skipped": 0}));
    let content = |line: &String| {
        let line: Value = serde_json::from_str(line).expect("JSON");
        [line["id"].clone(), line["meta"].clone(), line["body"].clone(), line["hash"].clone()]
    };
    let all = |host: &Host| export(host, DEFAULT).iter().map(content).collect::<Vec<_>>();
    assert_eq!(all(&anna), all(&bert));

    // A line that is none: what is before it stays, the line is named.
    let bad = fed(&bert, &["entries", "import", DEFAULT, "--json"], b"{\"id\":\"ok\",\"body\":\"\"}\nwhat is this\n");
    let error = bad.expect(1).error();
    assert_eq!(error["error"]["code"], "malformed");
    assert!(error.to_string().contains("line 2"), "{error}");
    assert!(App::of(&bert, DEFAULT).get("ok").is_some());
    // A file is there whole or as it was.
    let before = fs::read(&file).expect("it is there");
    assert_eq!(anna.ctl(&["entries", "export", "nothing", "--file", text(&file)]).status, 5);
    assert!(fs::read(&file).expect("it is there") == before);
}

#[test]
fn a_text_that_only_its_passphrase_opens_travels() {
    const TEXT: &str = "Dear diary,\nnobody else reads this.\n";
    let (anna, bert) = friends();
    let secret = |host: &Host, name: &str, passphrase: &str| {
        let path = host.path(name);
        fs::write(&path, format!("{passphrase}\n")).expect("the home is ours");
        path
    };
    let (right, wrong) = (secret(&anna, "right", "correct horse"), secret(&anna, "wrong", "wrong horse"));
    let write = |host: &Host, more: &[&str], input: &str| {
        fed(host, &[&["journal", "write", DEFAULT, "--json"], more].concat(), input.as_bytes())
    };
    let file = ["--passphrase-file", text(&right)];
    let written = write(&anna, &[&file[..], &["--meta", r#"{"mood":"gut"}"#]].concat(), TEXT).ok().json();
    let id = written["id"].as_str().expect("an id").to_owned();
    assert_eq!(written["meta"], json!({"mood": "gut"}));
    wait_same(&[&anna, &bert], DEFAULT, 1);
    let (_, body) = App::of(&bert, DEFAULT).get(&id).expect("it is there");
    let sealed: Value = serde_json::from_slice(&body).expect("JSON");
    assert!(keys(&sealed).is_superset(&set(&["iv", "data", "salt"])), "{sealed}");
    assert!(!String::from_utf8_lossy(&body).contains("diary"));

    let read = |host: &Host, more: &[&str]| host.ctl(&[&["journal", "read", DEFAULT], more].concat());
    let opened = read(&bert, &[&[&*id, "--json"], &file[..]].concat()).ok().json();
    assert_eq!((&opened["text"], &opened["id"]), (&json!(TEXT), &json!(id)));
    assert!(read(&bert, &file).ok().stdout.contains("nobody else reads this."));

    // Another passphrase opens nothing and changes nothing.
    let before = export(&bert, DEFAULT);
    let other = ["--passphrase-file", text(&wrong)];
    for output in [
        read(&bert, &[&[&*id, "--json"], &other[..]].concat()),
        read(&bert, &[&["--json"], &other[..]].concat()),
        write(&bert, &other, "mine"),
        write(&bert, &[&[&*id], &other[..]].concat(), "mine"),
    ] {
        assert_eq!(output.expect(1).error()["error"]["code"], "wrong_passphrase");
    }
    assert_eq!(export(&bert, DEFAULT), before);
    // The right one replaces it, and what is in clear stays.
    let changed = write(&bert, &[&[&*id], &file[..]].concat(), "changed").ok().json();
    assert_eq!((&changed["id"], &changed["meta"]), (&json!(id), &json!({"mood": "gut"})));
    wait_same(&[&anna, &bert], DEFAULT, 1);
    assert_eq!(read(&anna, &[&[&*id, "--json"], &file[..]].concat()).ok().json()["text"], "changed");
    // A deleted one is not there, and can be written anew.
    App::of(&anna, DEFAULT).delete(&id);
    let gone = read(&anna, &[&[&*id, "--json"], &file[..]].concat()).expect(5).error();
    assert_eq!(gone["error"]["code"], "entry_not_found");
    write(&anna, &[&[&*id], &file[..]].concat(), "anew").ok();
    assert_eq!(read(&anna, &[&[&*id, "--json"], &file[..]].concat()).ok().json()["text"], "anew");
    assert_eq!(read(&anna, &["--json", "--passphrase-file", "/nowhere"]).status, 1);
}

#[test]
fn json_has_its_promised_shapes() {
    let (anna, bert) = friends();
    let created = anna.ctl_json(&["journals", "create", "notes"]);
    let journal = [
        "id",
        "name",
        "state",
        "creator",
        "may_share",
        "entries",
        "tombstones",
        "history",
        "recovered",
        "members",
        "member_count",
        "known_by",
        "since",
        "cursor",
    ];
    assert_eq!(keys(&created), set(&journal));
    assert_eq!(keys(&anna.ctl_json(&["journals", "share", "notes", "bert"])), set(&journal));
    wait_state(&bert, "notes", "active");
    assert_eq!(keys(&anna.ctl_json(&["journals"])), set(&["journals"]));
    assert_eq!(anna.ctl_json(&["journals", "list"])["journals"].as_array().map(Vec::len), Some(2));

    let entry = ["id", "seq", "hash", "stamp", "updated_at", "device", "deleted", "meta", "size"];
    let put = fed(&anna, &["entries", "put", "notes", "one", "--meta", r#"{"k":1}"#, "--json"], b"hello").ok().json();
    assert_eq!(keys(&put), set(&entry));
    assert_eq!((&put["size"], &put["meta"]), (&json!(5), &json!({"k": 1})));
    let get = anna.ctl_json(&["entries", "get", "notes", "one"]);
    assert_eq!((&get["body"], &get["hash"]), (&json!("aGVsbG8="), &put["hash"]));
    assert_eq!(anna.ctl(&["entries", "get", "notes", "one", "--raw"]).ok().stdout, "hello");
    let list = anna.ctl_json(&["entries", "list", "notes"]);
    assert_eq!((keys(&list), keys(&list["entries"][0])), (set(&["entries", "cursor"]), set(&entry)));
    assert_eq!(keys(&anna.ctl_json(&["entries", "history", "notes"])), set(&["versions"]));
    assert_eq!(keys(&anna.ctl_json(&["entries", "recovered", "notes"])), set(&["versions"]));

    let members = crate::journals::wait_journal(&anna, "notes", |it| it["known_by"] == 1)["members"].clone();
    assert_eq!(keys(&members[0]), set(&["id", "name", "may_share", "current", "last_sync"]));
    let status = anna.ctl_json(&["sync", "status"]);
    assert_eq!(keys(&status), set(&["peers"]));
    let peer = &status["peers"][0];
    assert_eq!(keys(peer), set(&["peer", "state", "last_sync", "skew_ms", "journals"]));
    assert_eq!(keys(&peer["journals"][0]), set(&["journal", "name", "last_sync", "lag", "conflicts"]));
    let told = anna.ctl_json(&["sync", "bert"]);
    assert_eq!(told["kind"], "sync:complete");

    let mut watch = bert.ctl_spawn(&["entries", "watch", "notes", "--json"]);
    let begun = watch.json_line(PATIENCE);
    assert_eq!((keys(&begun), &begun["reset"]), (set(&["cursor", "reset"]), &json!(false)));
    let gone = anna.ctl_json(&["entries", "rm", "notes", "one"]);
    assert_eq!((keys(&gone), &gone["deleted"]), (set(&entry), &json!(true)));
    let change = watch.json_line(PATIENCE);
    assert_eq!(keys(&change), set(&["journal", "entry", "cursor"]));
    assert_eq!((&change["entry"]["id"], &change["journal"]), (&json!("one"), &created["id"]));
    let cursor = change["cursor"].as_str().expect("a place");
    let mut again = bert.ctl_spawn(&["entries", "watch", "notes", "--since", cursor, "--json"]);
    assert_eq!(again.json_line(PATIENCE)["cursor"], cursor);

    // For people: the id alone, so that it can be used.
    let put = fed(&anna, &["entries", "put", "notes"], b"text").ok().stdout;
    assert_eq!(anna.ctl(&["entries", "get", "notes", put.trim(), "--raw"]).ok().stdout, "text");
    assert_eq!(anna.ctl_refused(&["entries", "get", "notes", "nothing"]), ("entry_not_found".to_owned(), 5));
    assert_eq!(anna.ctl_refused(&["journals", "show", "nothing"]), ("journal_not_found".to_owned(), 5));
    assert_eq!(anna.ctl_refused(&["journals", "create", "notes"]), ("name_taken".to_owned(), 6));
    let stale = ["entries", "rm", "notes", put.trim(), "--expected", &"0".repeat(64)];
    assert_eq!(anna.ctl_refused(&stale), ("version_mismatch".to_owned(), 6));
}

#[test]
fn b14_what_others_wrote_does_not_reach_the_terminal_as_it_is() {
    let host = Host::running("anna");
    let mut app = App::of(&host, DEFAULT);
    let evil = "\u{1b}]52;c;ZXZpbA==\u{7}\u{202e}x\r\n\u{9b}31m";
    app.put_with("\u{202e}evil", evil.as_bytes(), json!({"meta": {evil: evil}}));
    for arguments in [
        &["entries", "list", DEFAULT][..],
        &["entries", "get", DEFAULT, "\u{202e}evil"],
        &["entries", "export", DEFAULT],
    ] {
        let output = host.ctl(arguments).ok();
        for what in ["\u{1b}", "\u{7}", "\u{9b}", "\r"] {
            assert!(!output.stdout.contains(what) && !output.stderr.contains(what), "{arguments:?}: {what:?}");
        }
        let is_data = arguments[1] == "export";
        assert!(is_data || !output.stdout.contains('\u{202e}'), "{arguments:?}: {}", output.stdout);
    }
    assert_eq!(host.ctl(&["entries", "get", DEFAULT, "\u{202e}evil", "--raw"]).ok().stdout, evil);
}
