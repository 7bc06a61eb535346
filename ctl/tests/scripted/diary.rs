//! Texts in a journal that only a passphrase opens.

use std::fs::{File, Permissions};
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;

use kith_proto::limits::ENTRY_BODY;
use serde_json::{Value, json};

use crate::fake::Say::Result;
use crate::fake::{Fake, Ran};
use crate::shelf::{JOURNAL, Shelf, journal, keeping};

const SECRET: &str = "correct horse";

/// A file in the daemon's home that nobody else can read.
fn file(fake: &Fake, name: &str, content: &[u8]) -> String {
    let path = fake.home.path().join(name);
    let mut file = File::create(&path).unwrap();
    file.set_permissions(Permissions::from_mode(0o600)).unwrap();
    file.write_all(content).unwrap();
    path.to_str().unwrap().to_owned()
}

/// Runs `journal …` with a passphrase from a file, and a text from standard input.
fn run(fake: &Fake, line: &str, passphrase: &str, text: &str) -> Ran {
    let secret = file(fake, "passphrase", format!("{passphrase}\nmore\n").as_bytes());
    let input = File::open(file(fake, "text", text.as_bytes())).unwrap();
    fake.run_with_input(&format!("journal {line} --passphrase-file {secret}"), input.into())
}

#[test]
fn what_is_written_is_read_and_the_daemon_learns_nothing() {
    let (fake, shelf) = keeping(Shelf::default());
    let ran = run(&fake, "write notes --meta {\"mood\":\"good\"}", SECRET, "first \u{1b}[2J\nline two\n");
    assert_eq!((ran.exit, ran.stderr.as_str()), (Some(0), ""));
    let first = ran.stdout.trim().to_owned();
    assert!(first.len() == 36 && &first[14..15] == "7", "a UUID, version 7: {first}");
    let ran = run(&fake, "write notes day-2 --json", SECRET, "second");
    assert_eq!((ran.exit, &ran.lines()[0]["id"]), (Some(0), &json!("day-2")), "{ran:?}");
    shelf.lock().unwrap().add("plain", json!({}), &[b'x'; 200]);

    for put in fake.asked("entries.put") {
        assert_eq!((&put["journal"], &put["expected"]), (&json!(JOURNAL), &json!("none")), "{put}");
    }
    let rows = shelf.lock().unwrap().rows.clone();
    let bodies: Vec<Value> = rows[..2].iter().map(|row| serde_json::from_slice(&row.body).unwrap()).collect();
    assert_eq!(bodies[0].as_object().unwrap().keys().collect::<Vec<_>>(), ["data", "iv", "salt"]);
    assert_eq!((bodies[0]["salt"] == bodies[1]["salt"], bodies[0]["iv"] == bodies[1]["iv"]), (true, false));
    assert_eq!(rows[0].meta, json!({"mood": "good"}));
    let told = format!("{rows:?}");
    assert!(!told.contains(SECRET) && !told.contains("line two"), "{told}");

    let ran = run(&fake, "read notes", SECRET, "");
    let wanted = format!(
        "2026-01-01T00:00:01Z  {first}\n> first \\u{{1b}}[2J\n> line two\n\n2026-01-01T00:00:02Z  day-2\n> second\n"
    );
    assert_eq!((ran.exit, ran.stdout), (Some(0), wanted));
    assert_eq!(ran.stderr, "not encrypted with a passphrase, and not shown: 1\n");
    let ran = run(&fake, "read notes --json", SECRET, "");
    let wanted = json!({"id": first, "updated_at": "2026-01-01T00:00:01Z", "meta": {"mood": "good"},
        "text": "first \u{1b}[2J\nline two\n"});
    assert_eq!((ran.lines().len(), &ran.lines()[0], ran.stderr.as_str()), (2, &wanted, ""));
    assert_eq!(run(&fake, "read notes day-2", SECRET, "").stdout, "second\n");
    assert_eq!(run(&fake, &format!("read notes {first} --json"), SECRET, "").lines(), [wanted]);
    let ran = run(&fake, "read notes plain --json", SECRET, "");
    assert_eq!((ran.exit, ran.error_code().as_str()), (Some(1), "not_encrypted"));
    assert_eq!(run(&fake, "read notes none --json", SECRET, "").exit, Some(5));
}

#[test]
fn a_wrong_passphrase_says_so_and_writes_nothing() {
    let (fake, shelf) = keeping(Shelf::default());
    run(&fake, "write notes a", SECRET, "one");
    shelf.lock().unwrap().add("plain", json!({}), &[b'x'; 200]);
    for line in ["write notes", "write notes a", "write notes b", "read notes", "read notes a"] {
        let ran = run(&fake, &format!("{line} --json"), "correct hors", "two");
        assert_eq!(
            (ran.exit, ran.error_code().as_str(), ran.stdout.as_str()),
            (Some(1), "wrong_passphrase", ""),
            "{line}"
        );
        assert!(!ran.stderr.contains("hors"), "{ran:?}");
    }
    assert_eq!((fake.asked("entries.put").len(), shelf.lock().unwrap().rows.len()), (1, 2));
    assert!(run(&fake, "write notes", "other", "two").stderr.contains("--new-passphrase"));

    let ran = run(&fake, "write notes b --new-passphrase", "other", "two");
    assert_eq!((ran.exit, ran.stdout.as_str()), (Some(0), "b\n"), "{ran:?}");
    let ran = run(&fake, "read notes", SECRET, "");
    assert_eq!((ran.exit, ran.stdout.as_str()), (Some(0), "2026-01-01T00:00:01Z  a\n> one\n"));
    assert!(ran.stderr.contains("not opened by this passphrase: 1\n"), "{ran:?}");
    // The newest one decides from now on.
    assert_eq!(run(&fake, "write notes c --json", SECRET, "three").error_code(), "wrong_passphrase");
    assert_eq!(run(&fake, "write notes c", "other", "three").exit, Some(0));
}

#[test]
fn what_is_there_is_replaced_only_as_it_was_seen() {
    let (fake, shelf) = keeping(Shelf::default());
    run(&fake, "write notes a --meta {\"mood\":\"good\"}", SECRET, "one");
    let before = shelf.lock().unwrap().row("a").unwrap().hash();
    assert_eq!(run(&fake, "write notes a", SECRET, "two").exit, Some(0));
    let put = fake.asked("entries.put")[1].clone();
    assert_eq!((&put["expected"], &put["meta"]), (&json!(before), &json!({"mood": "good"})));
    assert_eq!(run(&fake, "write notes a --meta {}", SECRET, "two").exit, Some(0));
    assert_eq!(fake.asked("entries.put")[2]["meta"], json!({}));
    assert_eq!(run(&fake, "read notes a", SECRET, "").stdout, "two\n");
    shelf.lock().unwrap().delete("a");
    assert_eq!(run(&fake, "read notes a", SECRET, "").exit, Some(5));
    assert_eq!(run(&fake, "write notes a", SECRET, "three").exit, Some(0));
}

#[test]
fn a_text_moved_elsewhere_does_not_open() {
    let (fake, shelf) = keeping(Shelf::default());
    run(&fake, "write notes a", SECRET, "one");
    let body = shelf.lock().unwrap().row("a").unwrap().body.clone();
    shelf.lock().unwrap().add("b", json!({}), &body);
    assert_eq!(run(&fake, "read notes a", SECRET, "").stdout, "one\n");
    assert_eq!(run(&fake, "read notes b --json", SECRET, "").error_code(), "wrong_passphrase");

    let mut copy = Shelf::default();
    copy.add("a", json!({}), &body);
    let other = "f".repeat(32);
    let elsewhere = Fake::new(move |method, params| match method {
        "journals.show" => vec![Result(journal(&json!({"id": other})))],
        _ => copy.answer(method, params),
    });
    assert_eq!(run(&elsewhere, "read notes a --json", SECRET, "").error_code(), "wrong_passphrase");
}

#[test]
fn the_passphrase_is_asked_for_and_never_shown() {
    let (fake, shelf) = keeping(Shelf::default());
    let text = file(&fake, "text", b"one");
    let mut shown = String::new();
    let mut person = fake.at_terminal(&format!("journal write notes a --file {text}"));
    for (question, answer) in [
        ("New passphrase: ", ""),
        ("New passphrase: ", SECRET),
        ("The same again: ", "correct hors"),
        ("New passphrase: ", SECRET),
        ("The same again: ", SECRET),
    ] {
        shown += &person.sees(question);
        assert!(!person.echoes());
        person.types(answer);
    }
    let (exit, rest) = person.leaves();
    shown += &rest;
    assert_eq!(
        (exit, shown.contains("not empty"), shown.contains("was not the same")),
        (Some(0), true, true),
        "{shown}"
    );
    assert!(shown.contains("forgets") && !shown.contains("hors"), "{shown}");

    // Once is enough now; then the text is typed.
    let mut person = fake.at_terminal("journal write notes b");
    person.sees("Passphrase: ");
    person.types(SECRET);
    let shown = person.sees("write; a line with Ctrl+D alone ends it");
    assert!(!shown.contains("hors") && person.echoes(), "{shown}");
    // The end of a line, then the end of the input.
    person.types("two\n\u{4}");
    assert_eq!(person.leaves().0, Some(0));
    assert_eq!(run(&fake, "read notes b", SECRET, "").stdout, "two\n");

    let mut person = fake.at_terminal("journal read notes a");
    person.sees("Passphrase: ");
    person.types("wrong");
    let (exit, shown) = person.leaves();
    assert_eq!(
        (exit, shown.contains("does not open a"), shown.contains("wrong\r\n")),
        (Some(1), true, false),
        "{shown}"
    );
    assert_eq!(shelf.lock().unwrap().rows.len(), 2);
}

#[test]
fn ctrl_c_at_the_question_gives_the_terminal_back() {
    let (fake, _) = keeping(Shelf::default());
    let mut person = fake.at_terminal("journal write notes a");
    person.sees("New passphrase: ");
    assert!(!person.echoes());
    person.interrupts();
    let terminal = person.terminal();
    assert_eq!(person.leaves().0, Some(130));
    assert!(terminal.echoes(), "what is typed next is shown again");
    assert!(fake.asked("entries.put").is_empty());
}

#[test]
fn nobody_is_asked_where_that_makes_no_sense() {
    let (fake, _) = keeping(Shelf::default());
    let ran = fake.run("journal read notes");
    assert_eq!((ran.exit, ran.stdout.as_str()), (Some(0), ""));
    assert!(ran.stderr.contains("nothing in this journal is encrypted"), "{ran:?}");
    run(&fake, "write notes a", SECRET, "one");
    for line in ["journal read notes --json", "journal read notes a --json", "journal write notes --json"] {
        let ran = fake.run(line);
        assert_eq!((ran.exit, ran.error_code().as_str()), (Some(2), "usage"), "{line}");
        assert!(ran.stderr.contains("--passphrase-file"), "{ran:?}");
    }
    assert_eq!(fake.asked("entries.put").len(), 1);
}

#[test]
fn texts_and_passphrases_that_are_none() {
    let (fake, _) = keeping(Shelf::default());
    assert_eq!(run(&fake, "write notes --json", "", "one").error_code(), "input");
    assert_eq!(run(&fake, "write notes --json --file /nonexistent/file", SECRET, "").error_code(), "input");
    let binary = file(&fake, "binary", b"\xff\xfe");
    assert_eq!(run(&fake, &format!("write notes --json --file {binary}"), SECRET, "").error_code(), "input");
    // In base64 it is longer than an entry can be.
    let ran = run(&fake, "write notes --json", SECRET, &"x".repeat(ENTRY_BODY - 1));
    assert_eq!((ran.exit, ran.error_code().as_str()), (Some(1), "too_large"));
    assert_eq!((fake.asked("entries.put").len(), fake.asked("entries.stage").len()), (0, 0));

    let open = file(&fake, "open", SECRET.as_bytes());
    File::open(&open).unwrap().set_permissions(Permissions::from_mode(0o640)).unwrap();
    let ran = fake.run(&format!("journal write notes a --passphrase-file {open}"));
    assert_eq!((ran.exit, ran.stderr.contains("chmod 600")), (Some(0), true), "{ran:?}");
    assert_eq!(run(&fake, "read notes a", SECRET, "").stdout, "");
}
