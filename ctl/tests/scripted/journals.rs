//! Journals and what is in them.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Write as _};
use std::process::Stdio;
use std::sync::{Arc, Mutex};

use data_encoding::BASE64;
use kith_proto::limits::{ENTRY_BODY, FEED_CHUNK};
use serde_json::{Value, json};

use crate::fake::Say::{Change, Error, Event, Result};
use crate::fake::{Fake, Ran, interrupt, snapshot};
use crate::shelf::{JOURNAL, Row, Shelf, journal, keeping};

const EVIL: &str = "x\n\u{1b}]0;t\u{7}\r\u{202e}";
const SHOWN: &str = "x\\u{a}\\u{1b}]0;t\\u{7}\\u{d}\\u{202e}";

fn input(fake: &Fake, name: &str, bytes: &[u8]) -> String {
    let path = fake.home.path().join(name);
    File::create(&path).unwrap().write_all(bytes).unwrap();
    path.to_str().unwrap().to_owned()
}

fn run_with(fake: &Fake, line: &str, bytes: &[u8]) -> Ran {
    let path = input(fake, "stdin", bytes);
    fake.run_with_input(line, File::open(path).unwrap().into())
}

fn bytes(count: usize) -> Vec<u8> {
    (0..count).map(|n| (n % 251) as u8).collect()
}

#[test]
fn journals_in_a_table_with_the_next_step() {
    let member = |id: &str, current| json!({"id": id, "name": "nas", "may_share": false, "current": current});
    let journals = json!({"journals": [
        journal(&json!({"name": "default", "members": [member("0000000000000002", true), member("0000000000000003", false)],
            "known_by": 1, "history": 5, "recovered": 2})),
        journal(&json!({"name": "our notes", "state": "offered"})),
        journal(&json!({"name": "old", "state": "of-tomorrow"})),
    ]});
    let result = journals.clone();
    let fake = Fake::new(move |_, _| vec![Result(result.clone())]);
    let ran = fake.run("journals list --json");
    assert_eq!((ran.exit, ran.lines(), ran.stderr.as_str()), (Some(0), vec![journals], ""));
    let ran = fake.run("journals");
    for words in [
        "1 of 2 have everything  2 recovered: kithctl entries recovered default; 5 in history: kithctl entries history",
        "our notes  offered  12       only here               take it: kithctl journals accept 'our notes'",
        "old        unknown",
    ] {
        assert!(ran.stdout.contains(words), "{words:?} is not in {}", ran.stdout);
    }
    assert_eq!(fake.asked("journals.list").len(), 2);
}

#[test]
fn what_is_done_to_a_journal() {
    let fake = Fake::new(|method, _| match method {
        "journals.remove" => vec![Result(json!({}))],
        _ => vec![Result(journal(&json!({"members": [
            {"id": "9a4f0b2c00000000", "name": "nas", "may_share": true, "current": true, "last_sync": "then"}
        ], "known_by": 1})))],
    });
    for (line, method, params) in [
        ("show notes", "journals.show", json!({"journal": "notes"})),
        ("create notes", "journals.create", json!({"name": "notes"})),
        ("share notes nas", "journals.share", json!({"journal": "notes", "peer": "nas"})),
        ("unshare notes nas", "journals.unshare", json!({"journal": "notes", "peer": "nas"})),
        ("accept notes", "journals.accept", json!({"journal": "notes"})),
        ("remove notes", "journals.remove", json!({"journal": "notes"})),
        ("remove notes --yes", "journals.remove", json!({"journal": "notes"})),
    ] {
        let before = fake.asked(method).len();
        let ran = fake.run(&format!("journals {line}"));
        assert_eq!((ran.exit, ran.stderr.as_str(), ran.stdout.is_empty()), (Some(0), "", false), "{line}: {ran:?}");
        assert_eq!(fake.asked(method)[before..], [params], "{line}");
        assert_eq!(fake.run(&format!("journals {line} --json")).lines().len(), 1, "{line}");
    }
    let ran = fake.run("journals show notes");
    assert!(ran.stdout.contains("nas (9a4f0b2c00000000)  has everything, last sync then, may share"), "{ran:?}");
    let ran = fake.run("journals share notes nas");
    assert_eq!(ran.stdout, format!("notes ({JOURNAL})  active, 12 entries, 1 of 1 have everything\n"));
}

#[test]
fn removing_is_asked_about_at_a_terminal() {
    for (answer, exit, removed) in [("n", 1, 0), ("", 1, 0), ("y", 0, 1)] {
        let fake = Fake::new(|_, _| vec![Result(json!({}))]);
        let mut person = fake.at_terminal("journals remove notes");
        person.sees("Delete what is here of notes? Other devices keep theirs. [y/N] ");
        person.types(answer);
        let (ended, shown) = person.leaves();
        assert_eq!((ended, fake.asked("journals.remove").len()), (Some(exit), removed), "{answer:?}: {shown}");
    }
    let fake = Fake::new(|_, _| vec![Result(json!({}))]);
    assert_eq!(fake.at_terminal("journals remove notes --yes").leaves().0, Some(0));
}

#[test]
fn the_daemons_errors_are_the_exit_codes() {
    let hash = "0".repeat(64);
    for line in [
        "journals",
        "journals show notes",
        "journals create notes",
        "journals remove notes",
        "entries put notes",
        "entries get notes a",
        "entries get notes a --raw",
        "entries rm notes a",
        "entries list notes",
        "entries history notes",
        "entries recovered notes",
        &format!("entries recover notes a {hash}"),
        "entries watch notes",
        "entries export notes",
        "journal read notes",
        "sync status",
    ] {
        for (rpc, code, exit) in [(1001, "access_denied", 4), (1002, "journal_not_found", 5), (1003, "wrong_state", 6)]
        {
            let fake = Fake::new(move |_, _| vec![Error(rpc, code)]);
            let ran = fake.run(line);
            assert_eq!(
                (ran.exit, ran.stdout.as_str(), ran.stderr.as_str()),
                (Some(exit), "", "kithctl: no\n  do\n"),
                "{line}"
            );
        }
    }
}

#[test]
fn a_body_comes_from_standard_input_or_a_file() {
    let (fake, shelf) = keeping(Shelf::default());
    let ran = run_with(&fake, "entries put notes", b"milk\0\n");
    assert_eq!((ran.exit, ran.stdout.as_str(), ran.stderr.as_str()), (Some(0), "made-up\n", ""));
    assert_eq!(
        fake.asked("entries.put"),
        [json!({"journal": "notes", "meta": {}, "body": BASE64.encode(b"milk\0\n")})]
    );

    let path = input(&fake, "cover", b"jpg");
    let ran = fake.run(&format!("entries put notes cover --file {path} --meta {{\"a\":[1]}} --expected none --json"));
    let row = shelf.lock().unwrap().row("cover").unwrap().clone();
    let mut entry = row.entry();
    entry.as_object_mut().unwrap().remove("newer");
    assert_eq!((ran.exit, ran.lines()), (Some(0), vec![entry]), "{ran:?}");
    assert_eq!((row.body.as_slice(), &row.meta), (&b"jpg"[..], &json!({"a": [1]})));

    let ran = run_with(&fake, "entries put notes cover --expected none --json", b"other");
    assert_eq!((ran.exit, ran.error_code().as_str()), (Some(6), "version_mismatch"));
    let ran = run_with(&fake, &format!("entries put notes cover --expected {}", row.hash()), b"other");
    assert_eq!(ran.exit, Some(0), "{ran:?}");
    assert_eq!(shelf.lock().unwrap().row("cover").unwrap().body, b"other");
    assert_eq!(fake.run("entries put notes --file /nonexistent/file --json").error_code(), "input");
}

#[test]
fn long_bodies_go_in_pieces_both_ways() {
    let (fake, shelf) = keeping(Shelf::default());
    for (size, pieces) in [(FEED_CHUNK, 0), (FEED_CHUNK + 1, 2), (ENTRY_BODY, ENTRY_BODY / FEED_CHUNK)] {
        let body = bytes(size);
        let before = fake.asked("entries.stage").len();
        let ran = run_with(&fake, "entries put notes big", &body);
        assert_eq!((ran.exit, ran.stdout.as_str()), (Some(0), "big\n"), "{ran:?}");
        assert_eq!(fake.asked("entries.stage").len() - before, pieces, "{size}");
        assert!(shelf.lock().unwrap().row("big").unwrap().body == body, "{size}");

        let raw = fake.command("entries get notes big --raw").output().unwrap();
        assert!(raw.status.success() && raw.stdout == body, "{size}");
        let line: Value = serde_json::from_str(&fake.run("entries get notes big --json").stdout).unwrap();
        assert!(line["body"] == BASE64.encode(&body) && line["id"] == "big" && line["size"] == size, "{size}");
    }
    let asked = fake.asked("entries.put").len() + fake.asked("entries.stage").len();
    let ran = run_with(&fake, "entries put notes big --json", &bytes(ENTRY_BODY + 1));
    assert_eq!((ran.exit, ran.error_code().as_str()), (Some(1), "too_large"));
    assert_eq!(fake.asked("entries.put").len() + fake.asked("entries.stage").len(), asked, "nothing was sent");
}

/// A daemon whose entry is another one after each of the first `changes` pieces.
fn restless(changes: u64) -> Fake {
    let mut asked = 0;
    Fake::new(move |_, params| {
        let version = asked.min(changes);
        asked += 1;
        let fill = u8::try_from(version).unwrap();
        let row = Row { id: "a".into(), seq: 1, meta: json!({}), body: vec![fill; FEED_CHUNK + 1], deleted: false };
        let from = params["offset"].as_u64().unwrap() as usize;
        let piece = &row.body[from..row.body.len().min(from + FEED_CHUNK)];
        let mut result = json!({"entry": row.entry(), "body": BASE64.encode(piece)});
        if from == 0 {
            result["next"] = json!(FEED_CHUNK);
        }
        vec![Result(result)]
    })
}

#[test]
fn parts_of_two_versions_are_never_mixed() {
    let raw = restless(3).command("entries get notes a --raw").output().unwrap();
    assert!(raw.status.success() && raw.stdout == vec![3; FEED_CHUNK + 1], "{:?}", raw.status);
    let ran = restless(250).run("entries get notes a --raw");
    assert_eq!((ran.exit, ran.stdout.as_str()), (Some(7), ""), "{ran:?}");
    assert!(ran.stderr.contains("changes faster than it can be read"), "{ran:?}");
}

#[test]
fn what_a_daemon_may_not_say_of_a_body_is_not_believed() {
    let row = Row { id: "a".into(), seq: 1, meta: json!({}), body: b"body".to_vec(), deleted: false };
    for (body, next) in [
        ("Ym9keQ==", Some(5)),
        ("Ym9keQ==", Some(0)),
        ("", Some(0)),
        ("Ym9k", None),
        ("Ym9keQ", None),
        ("Ym9keTEyMw==", None),
    ] {
        let mut result = json!({"entry": row.entry(), "body": body});
        if let Some(next) = next {
            result["next"] = json!(next);
        }
        let fake = Fake::new(move |_, _| vec![Result(result.clone())]);
        let ran = fake.run("entries get notes a --raw");
        assert_eq!(
            (ran.exit, ran.stdout.as_str(), fake.asked("entries.get").len()),
            (Some(1), "", 1),
            "{body} {next:?}"
        );
    }
}

#[test]
fn b14_an_entry_as_people_read_it() {
    let mut shelf = Shelf::default();
    shelf.add("text", json!({"mood": EVIL}), b"one\n\x1b[2J\xc3\xa9\n");
    shelf.add("picture", json!({}), b"\xff\xd8\0");
    shelf.add("zero", json!({}), b"a\0b");
    shelf.add(EVIL, json!({}), b"");
    shelf.delete("gone");
    let (fake, _) = keeping(shelf);
    let ran = fake.run("entries get notes text");
    assert!(ran.stdout.ends_with("size     11 B\n> one\n> \\u{1b}[2Jé\n"), "{ran:?}");
    assert!(ran.stdout.contains(r#"meta     {"mood":"x\n\u001b]0;t\u0007\r\u{202e}"}"#), "{ran:?}");
    for id in ["picture", "zero"] {
        let ran = fake.run(&format!("entries get notes {id}"));
        assert!(ran.stderr.contains("is not text") && !ran.stdout.contains('>'), "{ran:?}");
    }
    let ran = fake.run("entries list notes");
    assert!(ran.stdout.contains(SHOWN), "{ran:?}");
    let ran = fake.run("entries list notes --json");
    assert!(!ran.stdout.contains('\u{202e}') && ran.stdout.contains("\\u202e"), "{ran:?}");
    assert!(ran.lines().iter().any(|page| page["entries"][1]["id"] == EVIL), "{ran:?}");

    let ran = fake.run("entries get notes gone");
    assert_eq!((ran.exit, ran.stdout.contains("deleted  2026")), (Some(0), true), "{ran:?}");
    assert_eq!(fake.run("entries get notes gone --json").lines()[0]["deleted"], true);
    let ran = fake.run("entries get notes gone --raw");
    assert_eq!((ran.exit, ran.stdout.as_str(), ran.stderr.contains("was deleted")), (Some(5), "", true), "{ran:?}");
    assert_eq!(fake.run("entries get notes text --raw --json").error_code(), "usage");
}

#[test]
fn members_that_are_not_named_are_counted() {
    let member = json!({"id": "9a4f0b2c00000000", "name": "nas", "may_share": true, "current": true});
    for (count, members, more) in
        [(Some(4), "3 of 4", Some("and 3 more")), (Some(1), "3 of 1", None), (None, "3 of 1", None)]
    {
        let mut shown = journal(&json!({"members": [member], "known_by": 3}));
        if let Some(count) = count {
            shown["member_count"] = json!(count);
        }
        let fake = Fake::new(move |_, _| vec![Result(shown.clone())]);
        let ran = fake.run("journals show notes");
        assert!(ran.stdout.contains(&format!("{members} have everything\n")), "{ran:?}");
        assert_eq!(ran.stdout.contains(" more\n"), more.is_some(), "{ran:?}");
        assert!(more.is_none_or(|more| ran.stdout.contains(more)), "{ran:?}");
    }
}

#[test]
fn b14_hostile_names_stay_in_their_rows() {
    let evil = journal(&json!({"name": EVIL, "creator": {"id": "0000000000000001", "name": EVIL}, "members": [
        {"id": "9a4f0b2c00000000", "name": EVIL, "may_share": false, "current": true, "last_sync": EVIL}]}));
    let row = Row { id: EVIL.into(), seq: 1, meta: json!({EVIL: EVIL}), body: Vec::new(), deleted: false };
    let conflict = json!({"journal": JOURNAL, "name": EVIL, "winner": row.entry(), "loser": row.entry()});
    let fake = Fake::new(move |method, _| match method {
        "journals.list" => vec![Result(json!({"journals": [evil]}))],
        "journals.show" => vec![Result(evil.clone())],
        "entries.list" => vec![Result(json!({"entries": [row.entry()], "cursor": "1"}))],
        "entries.history" | "entries.recovered" => vec![Result(json!({"versions": [row.entry()]}))],
        "entries.delete" | "entries.put" => vec![Result(row.entry())],
        "events.subscribe" => vec![
            snapshot(),
            Event("journal:updated", evil.clone()),
            Event("entry:conflict", conflict.clone()),
            Event("entry:recovered", json!({"journal": JOURNAL, "name": EVIL, "entry": row.entry()})),
            crate::fake::Say::Raw("the end"),
        ],
        _ => vec![Error(-32601, "unknown_method")],
    });
    for (line, lines) in [
        ("journals", 2),
        ("journals show notes", 10),
        ("entries list notes", 2),
        ("entries history notes", 2),
        ("entries recovered notes", 2),
        ("entries rm notes a", 1),
        ("entries put notes", 1),
        ("events", 4 + 3),
    ] {
        let ran = fake.run(line);
        assert_eq!(ran.stdout.lines().count(), lines, "{line}: {}", ran.stdout);
        let acts = |c: char| c != '\n' && kith_proto::text::is_hostile(c);
        assert!(!ran.stdout.contains(acts) && !ran.stderr.contains(acts), "{line}: {ran:?}");
        assert!(ran.stdout.contains("\\u{202e}"), "{line}: {ran:?}");
    }
}

#[test]
fn lists_go_on_to_the_last_page() {
    let mut shelf = Shelf::default();
    for id in ["a", "b", "c", "d", "e"] {
        shelf.add(id, json!({"is": id}), id.as_bytes());
    }
    shelf.delete("b");
    let (fake, _) = keeping(shelf);
    let ids = |ran: &Ran| -> Vec<String> {
        let rows = ran.stdout.lines().skip(1);
        rows.map(|line| line.split_whitespace().next().unwrap().to_owned()).collect()
    };
    let ran = fake.run("entries list notes");
    assert_eq!(
        (ran.exit, ids(&ran), ran.stderr.as_str()),
        (Some(0), ["a", "c", "d", "e"].map(String::from).into(), "")
    );
    assert_eq!(ran.stdout.matches("UPDATED").count(), 1);
    let ran = fake.run("entries list notes --deleted");
    assert_eq!(ids(&ran), ["a", "c", "d", "e", "b"]);
    assert!(ran.stdout.lines().last().unwrap().contains("deleted"), "{ran:?}");
    let ran = fake.run("entries list notes --limit 3");
    assert_eq!(
        (ids(&ran), ran.stderr.as_str()),
        (["a", "c", "d"].map(String::from).into(), "there are more: --after 4\n")
    );
    let ran = fake.run("entries list notes --after 4 --json");
    assert_eq!((ran.lines().len(), &ran.lines()[0]["cursor"]), (1, &json!("5")));

    let before = fake.asked("entries.list").len();
    fake.run("entries list notes --from 2026-01-01T00:00:00Z --until 2027-01-01T00:00:00Z --limit 5000");
    let asked = &fake.asked("entries.list")[before];
    assert_eq!(
        (&asked["by"], &asked["from"], &asked["limit"]),
        (&json!("time"), &json!("2026-01-01T00:00:00Z"), &json!(1000))
    );
    assert_eq!(fake.run("entries list notes --by seq --until 2027-01-01T00:00:00Z").exit, Some(2));
}

#[test]
fn versions_that_are_not_current() {
    let row = |id: &str| Row { id: id.into(), seq: 0, meta: json!({}), body: b"old".to_vec(), deleted: false };
    let hash = row("a").hash();
    let fake = Fake::new(move |method, params| match (method, params.get("after")) {
        ("entries.recover", _) => vec![Result(json!({}))],
        (_, None) => vec![Result(json!({"versions": [row("a").entry()], "next": "n"}))],
        _ => vec![Result(json!({"versions": [row("b").entry()]}))],
    });
    for (line, method, asked) in [
        ("history notes", "entries.history", json!({"journal": "notes"})),
        ("history notes a", "entries.history", json!({"journal": "notes", "id": "a"})),
        ("recovered notes", "entries.recovered", json!({"journal": "notes"})),
    ] {
        let before = fake.asked(method).len();
        let ran = fake.run(&format!("entries {line}"));
        assert_eq!(
            (ran.exit, ran.stdout.lines().count(), ran.stdout.matches(&hash).count()),
            (Some(0), 3, 2),
            "{ran:?}"
        );
        assert_eq!(fake.asked(method)[before], asked);
        assert_eq!(fake.run(&format!("entries {line} --json")).lines().len(), 2);
    }
    let ran = fake.run(&format!("entries recover notes a {hash} --discard"));
    assert_eq!((ran.exit, ran.stdout), (Some(0), format!("forgot {hash} of a\n")));
    fake.run(&format!("entries recover notes a {hash}"));
    let asked = |discard| json!({"journal": "notes", "id": "a", "version": hash, "discard": discard});
    assert_eq!(fake.asked("entries.recover"), [asked(true), asked(false)]);
}

#[test]
fn an_entry_is_deleted_if_it_is_the_expected_one() {
    let row = Row { id: "a".into(), seq: 1, meta: json!({}), body: Vec::new(), deleted: true };
    let hash = row.hash();
    let fake = Fake::new(move |_, _| vec![Result(row.entry())]);
    assert_eq!(fake.run("entries rm notes a").stdout, "deleted a\n");
    fake.run(&format!("entries rm notes a --expected {hash}"));
    let asked = [json!({"journal": "notes", "id": "a"}), json!({"journal": "notes", "id": "a", "expected": hash})];
    assert_eq!(fake.asked("entries.delete"), asked);
}

#[test]
fn changes_are_shown_until_ctrl_c() {
    let change = |id: &str, deleted| {
        let row = Row { id: id.into(), seq: 1, meta: json!({}), body: Vec::new(), deleted };
        json!({"journal": JOURNAL, "entry": row.entry(), "cursor": format!("c-{id}"), "newer": 1})
    };
    let fake = Fake::new(move |_, _| {
        let mut said = vec![Change(change("early", false)), Result(json!({"cursor": "c", "reset": true}))];
        said.extend([Event("entry:changed", json!(1)), Change(json!({})), Change(change(EVIL, true))]);
        said
    });
    for (flag, lines) in [("--json", 3), ("", 2)] {
        let line = format!("entries watch notes --since c {flag}");
        let mut child = fake.command(line.trim()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let shown: Vec<String> =
            BufReader::new(child.stdout.take().unwrap()).lines().take(lines).map(std::result::Result::unwrap).collect();
        interrupt(&child);
        let ran = Ran::from(child.wait_with_output().unwrap());
        assert_eq!(ran.exit, Some(130));
        if flag.is_empty() {
            assert!(shown[0].ends_with("early  0 B") && shown[1].ends_with(&format!("{SHOWN}  deleted")), "{shown:?}");
            assert!(ran.stderr.contains("follows anew"), "{ran:?}");
        } else {
            let objects: Vec<Value> = shown.iter().map(|line| serde_json::from_str(line).unwrap()).collect();
            assert_eq!(objects, [json!({"cursor": "c", "reset": true}), change("early", false), change(EVIL, true)]);
        }
    }
    assert_eq!(fake.asked("entries.subscribe")[0], json!({"journal": "notes", "cursor": "c"}));
    assert_eq!(fake.asked("events.subscribe").len(), 0);
}

fn filled() -> (Fake, Arc<Mutex<Shelf>>) {
    let mut shelf = Shelf::default();
    shelf.add("text", json!({"mood": EVIL, "n": [1, null]}), "é\u{202e}\n".as_bytes());
    shelf.add("empty", json!({}), b"");
    shelf.add(EVIL, json!({}), b"\0\xff");
    shelf.add("big", json!({}), &bytes(FEED_CHUNK + 5));
    shelf.delete("gone");
    keeping(shelf)
}

/// What is on a shelf, whatever its order.
fn content(shelf: &Mutex<Shelf>) -> Vec<(String, Value, Vec<u8>, String)> {
    let rows = shelf.lock().unwrap().rows.clone();
    let live = rows.into_iter().filter(|row| !row.deleted);
    let mut content: Vec<_> =
        live.map(|row| (row.id.clone(), row.meta.clone(), row.body.clone(), row.hash())).collect();
    content.sort_by(|a, b| a.0.cmp(&b.0));
    content
}

#[test]
fn what_is_exported_can_be_imported_elsewhere() {
    let (from, full) = filled();
    let ran = from.run("entries export notes");
    assert_eq!((ran.exit, ran.stderr.as_str()), (Some(0), "exported 4 entries\n"));
    let lines = ran.lines();
    assert_eq!(lines.len(), 4);
    let text = full.lock().unwrap().row("text").unwrap().clone();
    let wanted = json!({"id": "text", "meta": text.meta, "body": BASE64.encode(&text.body), "hash": text.hash(),
        "updated_at": "2026-01-01T00:00:01Z", "deleted": false});
    assert_eq!(lines[0], wanted);

    let (to, empty) = keeping(Shelf::default());
    let file = to.home.path().join("it.ndjson");
    let exported = from.run(&format!("entries export notes --file {} --json", file.display()));
    assert_eq!((exported.exit, exported.lines()), (Some(0), vec![json!({"exported": 4})]), "{exported:?}");
    assert_eq!(std::fs::read_to_string(&file).unwrap(), ran.stdout);

    let import = format!("entries import notes --file {}", file.display());
    let ran = to.run(&format!("{import} --json"));
    assert_eq!((ran.exit, ran.lines()), (Some(0), vec![json!({"imported": 4, "same": 0, "skipped": 0})]), "{ran:?}");
    assert!(content(&empty) == content(&full));
    let ran = to.run_with_input("entries import notes --json", File::open(&file).unwrap().into());
    assert_eq!(ran.lines(), [json!({"imported": 0, "same": 4, "skipped": 0})]);

    empty.lock().unwrap().add("text", json!({}), b"mine");
    empty.lock().unwrap().delete("empty");
    let ran = to.run(&import);
    assert_eq!((ran.exit, ran.stdout.as_str()), (Some(0), "1 imported, 2 the same already, 1 skipped\n"), "{ran:?}");
    assert!(ran.stderr.contains("--on-conflict replace"), "{ran:?}");
    assert_eq!(empty.lock().unwrap().row("text").unwrap().body, b"mine");
    let ran = to.run(&format!("{import} --on-conflict replace --json"));
    assert_eq!(ran.lines(), [json!({"imported": 1, "same": 3, "skipped": 0})]);
    assert!(content(&empty) == content(&full));
}

#[test]
fn an_export_that_fails_leaves_the_file_as_it_was() {
    let fake = Fake::new(|_, _| vec![Error(1004, "busy")]);
    let file = input(&fake, "it.ndjson", b"before");
    assert_eq!(fake.run(&format!("entries export notes --file {file}")).exit, Some(7));
    assert_eq!(std::fs::read(&file).unwrap(), b"before");
    let left: Vec<_> = fake.home.path().read_dir().unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left.len(), 2, "the file and the socket: {left:?}");
}

#[test]
fn an_entry_that_changes_during_an_export_is_in_it_once() {
    let mut shelf = Shelf::default();
    for id in ["a", "b", "c"] {
        shelf.add(id, json!({}), b"old");
    }
    let mut moving = vec!["c", "b"];
    let fake = Fake::new(move |method, params| {
        // One on the first page and one on the last are written just before they are read.
        if method == "entries.get" && moving.last().is_some_and(|id| params["id"] == *id) {
            shelf.add(moving.pop().unwrap(), json!({}), b"new");
            shelf.delete("a");
        }
        shelf.answer(method, params)
    });
    let lines = fake.run("entries export notes").lines();
    let ids: Vec<_> = lines.iter().map(|line| (line["id"].clone(), line["body"].clone())).collect();
    let [old, new] = [b"old", b"new"].map(|body| json!(BASE64.encode(body)));
    assert_eq!(ids, [(json!("a"), old), (json!("b"), new.clone()), (json!("c"), new)]);
}

#[test]
fn a_line_that_is_no_entry_stops_an_import() {
    let good = r#"{"id":"a","body":"aGk="}"#;
    for (bad, words) in [
        ("{", "not an entry"),
        (r#"{"id":"b"}"#, "missing field `body`"),
        (r#"{"id":"b","body":"?"}"#, "not base64"),
        (r#"{"id":"b","meta":1,"body":""}"#, "not an entry"),
    ] {
        let (fake, shelf) = keeping(Shelf::default());
        let ran = run_with(&fake, "entries import notes", format!("{good}\n\n{bad}\n{good}").as_bytes());
        assert_eq!((ran.exit, ran.stdout.as_str()), (Some(1), ""), "{ran:?}");
        for words in ["line 3:", "1 imported", words] {
            assert!(ran.stderr.contains(words), "{words:?} is not in {ran:?}");
        }
        assert_eq!(shelf.lock().unwrap().rows.len(), 1);
    }
    let fake = Fake::new(|_, _| vec![Error(-32602, "invalid_param")]);
    let ran = run_with(&fake, "entries import notes --json", good.as_bytes());
    assert_eq!((ran.exit, ran.error_code().as_str()), (Some(2), "invalid_param"));
    assert!(ran.stderr.contains("line 1: no"), "{ran:?}");
}

#[test]
fn an_import_replaces_what_it_saw_and_nothing_else() {
    let mut shelf = Shelf::default();
    shelf.add("a", json!({}), b"first");
    let mut writes = 0;
    let fake = Fake::new(move |method, params| {
        let said = shelf.answer(method, params);
        // Somebody else writes between looking and replacing, twice.
        if method == "entries.get" && writes < 2 {
            writes += 1;
            shelf.add("a", json!({}), format!("other {writes}").as_bytes());
        }
        said
    });
    let ran = run_with(&fake, "entries import notes --on-conflict replace --json", br#"{"id":"a","body":"aGk="}"#);
    assert_eq!((ran.exit, ran.lines()), (Some(0), vec![json!({"imported": 1, "same": 0, "skipped": 0})]), "{ran:?}");
    let expected: Vec<_> = fake.asked("entries.put").iter().map(|put| put["expected"].clone()).collect();
    assert_eq!((expected.len(), &expected[0]), (4, &json!("none")));
    assert!(expected[1] != expected[2] && expected[2] != expected[3], "{expected:?}");
}
