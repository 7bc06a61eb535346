//! Commands that concern devices that are not paired: the door that `receive` opens, and `send` to somebody else's.

use std::fs::File;
use std::io::Write as _;

use serde_json::{Value, json};

use crate::fake::Say::{self, Error, Event, Lagged, Result};
use crate::fake::{Fake, snapshot, transfer, updated};

const HASH: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
const QR: &str =
    r#"{"ip_address":["192.168.1.7"],"port":53317,"certificate_hash":"01","pin":"123456","protocol_version":2}"#;

fn opened() -> Value {
    json!({
        "window": "w1", "pin": "314159", "port": 53317, "addresses": ["192.168.1.7", "fe80::1"],
        "certificate_hash": HASH, "qr": QR, "expires": "soon",
    })
}

fn window(changes: &Value) -> Say {
    let mut window =
        json!({"window": "w1", "state": "open", "port": 53317, "certificate_hash": HASH, "attempts_left": 3});
    for (key, value) in changes.as_object().unwrap() {
        window[key] = value.clone();
    }
    Event("window:updated", window)
}

fn closed() -> Say {
    window(&json!({"state": "closed"}))
}

fn question(id: &str, changes: &Value) -> Value {
    let mut question = json!({
        "question": id, "kind": "connect", "state": "open", "address": format!("10.0.0.{id}"), "expires": "e",
    });
    for (key, value) in changes.as_object().unwrap() {
        question[key] = value.clone();
    }
    question
}

fn asked(id: &str, changes: &Value) -> Say {
    Event("question:updated", question(id, changes))
}

/// What a guest sends.
fn from_guest(state: &str) -> Value {
    transfer(&json!({
        "direction": "in", "peer": {"name": "10.0.0.2", "address": "10.0.0.2"}, "state": state, "dir": "/in",
        "title": "a\u{1b}[2J",
    }))
}

/// What is sent to a guest.
fn to_guest(state: &str) -> Value {
    transfer(&json!({"peer": {"name": "192.168.1.7", "address": "192.168.1.7:53317"}, "state": state}))
}

/// A daemon that opens a window, then says `first`; `answers` says what follows to anything else.
fn receiving(
    first: impl Fn() -> Vec<Say> + Send + 'static,
    mut answers: impl FnMut(&str, &Value) -> Vec<Say> + Send + 'static,
) -> Fake {
    Fake::new(move |method, params| match method {
        "events.subscribe" => vec![snapshot()],
        "guest.open" => {
            let mut said = vec![Result(opened()), window(&json!({}))];
            said.extend(first());
            said
        }
        _ => answers(method, params),
    })
}

fn unknown(_: &str, _: &Value) -> Vec<Say> {
    vec![Error(-32601, "unknown_method")]
}

#[test]
fn a_script_reads_the_window_first_then_what_happens() {
    let fake = receiving(
        || {
            vec![
                asked("2", &json!({})),
                asked("2", &json!({"state": "yes"})),
                asked("3", &json!({"kind": "confirm", "transfer": "t9"})),
                window(&json!({"pinged_by": "10.0.0.2"})),
                updated(from_guest("offered")),
                updated(from_guest("active")),
                updated(from_guest("done")),
            ]
        },
        unknown,
    );
    let ran = fake.run("receive --json --yes --once --to in --on-conflict skip --for 2m");
    assert_eq!((ran.exit, ran.stderr.as_str()), (Some(0), ""));
    let lines = ran.lines();
    assert_eq!(lines[0], json!({"window": opened()}));
    assert_eq!(lines[1], json!({"question": question("2", &json!({}))}));
    assert_eq!(lines[2..], ["offered", "active", "done"].map(from_guest));
    let dir = std::env::current_dir().unwrap().join("in");
    let wanted = json!({"dir": dir, "on_conflict": "skip", "accept": true, "seconds": 120, "detach": false});
    assert_eq!(fake.asked("guest.open"), [wanted]);
}

#[test]
fn people_read_what_to_type_at_the_other_device() {
    let told = || {
        vec![
            window(&json!({"attempts_left": 2})),
            window(&json!({"attempts_left": 2, "pinged_by": "10.0.0.2\u{1b}[2J"})),
            window(&json!({"attempts_left": 0, "pinged_by": "10.0.0.2\u{1b}[2J"})),
            window(&json!({"window": "of somebody else", "state": "closed"})),
            closed(),
        ]
    };
    let ran = receiving(told, unknown).run("receive --yes");
    assert_eq!(ran.exit, Some(0), "{ran:?}");
    let group = "    0123 4567 89ab cdef\n".repeat(4);
    for line in
        ["    314 159\n", "    192.168.1.7:53317\n", "    [fe80::1]:53317\n", "--to 192.168.1.7:53317\n", &group]
    {
        assert!(ran.stdout.contains(line), "{line:?} is not in {ran:?}");
    }
    for line in [
        "attempts left: 2\n",
        "10.0.0.2\\u{1b}[2J compares",
        &group,
        "the PIN is used up",
        "nobody can connect any more\n",
    ] {
        assert_eq!(ran.stderr.matches(line).count(), 1, "{line:?} in {ran:?}");
    }
    assert!(!ran.stderr.contains("314159") && !ran.stderr.contains("314 159"), "{ran:?}");
}

#[test]
fn a_guest_whose_files_still_come_is_not_left_when_the_window_closes() {
    let placed = |state: &str, names: &[&str]| {
        let mut transfer = from_guest(state);
        transfer["placed"] = json!(names);
        updated(transfer)
    };
    let fake = receiving(
        move || {
            vec![
                placed("active", &[]),
                closed(),
                placed("active", &["a\u{1b}[2J"]),
                placed("active", &["a\u{1b}[2J"]),
                placed("done", &["a\u{1b}[2J", "b"]),
            ]
        },
        unknown,
    );
    let ran = fake.run("receive --yes");
    assert_eq!(ran.exit, Some(0), "{ran:?}");
    assert!(ran.stdout.contains("received 1 file, 5 B from 10.0.0.2 in "), "{ran:?}");
    assert!(ran.stderr.contains("\n  a\\u{1b}[2J\n  b\nthe door is closed"), "{ran:?}");
}

#[test]
fn who_waits_for_one_hears_that_none_came() {
    let ran = receiving(|| vec![closed()], unknown).run("receive --yes --once");
    assert_eq!(ran.exit, Some(7), "{ran:?}");
    assert!(ran.stderr.contains("nobody sent anything in time"), "{ran:?}");
}

#[test]
fn a_window_that_was_missed_closing_is_closed() {
    let fake = receiving(|| vec![Lagged], unknown);
    assert_eq!(fake.run("receive --yes").exit, Some(0));
    assert_eq!(fake.asked("events.subscribe").len(), 2);
}

#[test]
fn only_one_window_is_open() {
    let fake = Fake::new(|method, _| match method {
        "events.subscribe" => vec![snapshot()],
        _ => vec![Error(1003, "window_active")],
    });
    let ran = fake.run("receive --yes --json");
    assert_eq!((ran.exit, ran.error_code().as_str(), ran.stdout.as_str()), (Some(6), "window_active", ""));
}

#[test]
fn with_paired_no_door_is_opened_and_no_guest_answered() {
    let from_peer = |state: &str| transfer(&json!({"direction": "in", "state": state}));
    let fake = Fake::new(move |method, _| match method {
        "events.subscribe" => vec![
            snapshot(),
            closed(),
            asked("2", &json!({})),
            updated(from_guest("offered")),
            updated(from_guest("done")),
            updated(from_peer("offered")),
        ],
        "inbox.accept" => vec![Result(from_peer("active")), updated(from_peer("done"))],
        _ => vec![Error(-32601, "unknown_method")],
    });
    let ran = fake.run("receive --paired --yes --once --json");
    assert_eq!((ran.exit, ran.stderr.as_str()), (Some(0), ""));
    assert_eq!(ran.lines(), ["offered", "done"].map(from_peer));
}

#[test]
fn b14_an_answer_goes_to_the_question_that_was_shown() {
    let hostile = json!({"address": "10.0.0.2\u{1b}[2J", "certificate_hash": HASH});
    let first = move || vec![asked("2", &hostile), asked("2", &json!({"state": "gone"})), asked("3", &json!({}))];
    let fake = receiving(first, |_, params| match params["question"].as_str().unwrap() {
        "2" => vec![Error(1002, "question_not_found")],
        // Of what is said before the answer, the next question is over already, and the one behind it is not.
        "3" => vec![
            asked("4", &json!({})),
            asked("5", &json!({"kind": "compare", "certificate_hash": HASH})),
            asked("4", &json!({"state": "gone"})),
            Result(question("3", &json!({"state": "no"}))),
        ],
        _ => vec![Result(question("5", &json!({"state": "yes"}))), closed()],
    });
    let mut person = fake.at_terminal("receive");
    let shown = person.sees("Let it connect? [y/N] ");
    assert!(shown.contains("A device at 10.0.0.2\\u{1b}[2J typed the PIN. It must show"), "{shown}");
    assert_eq!(shown.matches("0123 4567 89ab cdef").count(), 8, "the window's and the other device's: {shown}");
    // The second line was typed before the next question was seen.
    person.types("y\ny");
    let shown = person.sees("Let it connect? [y/N] ");
    assert!(shown.contains("too late") && shown.contains("10.0.0.3 typed the PIN."), "{shown}");
    person.types("");
    let shown = person.sees("Does it? [y/N] ");
    assert!(!shown.contains("10.0.0.4") && shown.contains("10.0.0.5 compares"), "{shown}");
    person.types("yes");
    let (exit, shown) = person.leaves();
    assert_eq!(exit, Some(0), "{shown}");
    assert_eq!(
        fake.asked("guest.answer"),
        [("2", true), ("3", false), ("5", true)].map(|(id, accept)| json!({"question": id, "accept": accept}))
    );
}

#[test]
fn what_guests_offer_is_answered_like_what_others_offer() {
    for (answer, method, last) in [("y", "inbox.accept", "done"), ("n", "inbox.reject", "rejected")] {
        let first = || vec![updated(from_guest("offered"))];
        let fake =
            receiving(first, move |_, _| vec![Result(from_guest("active")), updated(from_guest(last)), closed()]);
        let mut person = fake.at_terminal("receive");
        let shown = person.sees("Accept it? [y]es, [n]o, [d]irectory: ");
        assert!(shown.contains("10.0.0.2 (not paired) offers \"a\\u{1b}[2J\": 1 file, 5 B"), "{shown}");
        person.types(answer);
        let (exit, shown) = person.leaves();
        assert_eq!((exit, shown.contains("received 1 file")), (Some(0), last == "done"), "{shown}");
        assert_eq!(fake.asked(method).len(), 1);
    }
}

#[test]
fn an_offer_that_is_over_is_not_asked_about() {
    let first = || vec![asked("2", &json!({}))];
    let fake = receiving(first, |_, _| {
        vec![
            updated(from_guest("offered")),
            updated(from_guest("canceled")),
            Result(question("2", &json!({"state": "yes"}))),
            closed(),
        ]
    });
    let mut person = fake.at_terminal("receive");
    person.sees("Let it connect? [y/N] ");
    person.types("y");
    let (exit, shown) = person.leaves();
    assert_eq!((exit, shown.contains("Accept it?")), (Some(0), false), "{shown}");
}

/// A daemon that begins to send, then says `then`.
fn sending(then: impl Fn() -> Vec<Say> + Send + 'static) -> Fake {
    Fake::new(move |method, params| match method {
        "events.subscribe" => vec![snapshot()],
        "transfer.send" => vec![Error(1002, "peer_not_found")],
        "guest.send" => {
            let mut said = vec![Result(to_guest("offered"))];
            said.extend(then());
            said
        }
        "guest.answer" if params["accept"] == true => {
            vec![Result(question("7", &json!({"state": "yes"}))), updated(to_guest("done"))]
        }
        "guest.answer" => vec![Result(question("7", &json!({"state": "no"}))), updated(to_guest("canceled"))],
        _ => vec![Error(-32601, "unknown_method")],
    })
}

#[test]
fn send_needs_no_terminal_where_pin_and_hash_are_given() {
    let fake = sending(|| vec![updated(to_guest("active")), updated(to_guest("done"))]);
    let hash = HASH.to_uppercase();
    let ran = fake.run(&format!("send Cargo.toml src --to 192.168.1.7 --pin 123-456 --hash {hash} --title t --json"));
    assert_eq!((ran.exit, ran.stderr.as_str()), (Some(0), ""));
    assert_eq!(ran.lines(), ["offered", "active", "done"].map(to_guest));
    let paths = ["Cargo.toml", "src"].map(|path| std::env::current_dir().unwrap().join(path));
    assert_eq!(
        fake.asked("guest.send"),
        [json!({"target": "192.168.1.7", "pin": "123456", "certificate_hash": HASH, "paths": paths, "title": "t"})]
    );
    assert!(fake.asked("transfer.send").is_empty());

    let ran = fake.run(&format!("send src --to h --pin 123456 --hash {HASH}"));
    assert_eq!((ran.exit, ran.stderr.matches("without their directories").count()), (Some(0), 1), "{ran:?}");
    assert!(ran.stdout.starts_with("sent 1 file, 5 B to 192.168.1.7 in "), "{ran:?}");
    assert!(!ran.stderr.contains("123456"), "{ran:?}");
    let ran = fake.run(&format!("send Cargo.toml --to h --pin 123456 --hash {HASH} --no-wait"));
    assert_eq!((ran.exit, ran.stdout.as_str(), ran.stderr.as_str()), (Some(0), "t1\n", ""));
}

#[test]
fn the_sender_shows_its_own_hash_and_the_version_once() {
    let shows = |state: &str| {
        let mut transfer = to_guest(state);
        transfer["certificate_hash"] = json!(HASH);
        transfer["peer"]["protocol"] = json!(2);
        updated(transfer)
    };
    let ran = sending(move || ["offered", "active", "done"].map(shows).into())
        .run(&format!("send Cargo.toml --to h --pin 123456 --hash {HASH}"));
    assert_eq!((ran.exit, ran.stderr.matches("0123 4567 89ab cdef").count()), (Some(0), 4), "{ran:?}");
    assert_eq!(ran.stderr.matches("version 2 of Tella's protocol").count(), 1, "{ran:?}");
}

#[test]
fn the_text_of_a_qr_code_comes_from_the_command_line_or_from_standard_input() {
    let fake = sending(|| vec![updated(to_guest("done"))]);
    let file = fake.home.path().join("qr.json");
    writeln!(File::create(&file).unwrap(), "{QR}").unwrap();
    let paths = [std::env::current_dir().unwrap().join("Cargo.toml")];
    assert_eq!(fake.run(&format!("send Cargo.toml --qr {QR}")).exit, Some(0));
    let ran = fake.run_with_input("send Cargo.toml --qr -", File::open(&file).unwrap().into());
    assert_eq!(ran.exit, Some(0), "{ran:?}");
    assert_eq!(fake.asked("guest.send"), [0, 1].map(|_| json!({"qr": QR, "paths": paths})));
}

#[test]
fn the_hash_of_the_receiver_is_compared() {
    for (answer, accept, exit) in [("y", true, 0), ("n", false, 1)] {
        let fake = sending(|| {
            let confirm = |transfer: &str| json!({"kind": "confirm", "transfer": transfer, "certificate_hash": HASH});
            vec![asked("6", &confirm("another")), asked("7", &confirm("t1"))]
        });
        let mut person = fake.at_terminal("send Cargo.toml --to 192.168.1.7:53317");
        // Nobody paired is called so.
        person.sees("The six digits that 192.168.1.7:53317 shows: ");
        person.types("123 45");
        person.sees("a PIN is six digits");
        person.sees("shows: ");
        person.types("123 456");
        let shown = person.sees("Does it? [y/N] ");
        assert!(shown.contains("receiver at 10.0.0.7 must") && !shown.contains("10.0.0.6"), "{shown}");
        assert_eq!(shown.matches("0123 4567 89ab cdef").count(), 4, "{shown}");
        person.types(answer);
        let (ended, shown) = person.leaves();
        assert_eq!(ended, Some(exit), "{shown}");
        let sent = &fake.asked("guest.send")[0];
        assert_eq!((&sent["target"], &sent["pin"]), (&json!("192.168.1.7:53317"), &json!("123456")));
        assert_eq!(fake.asked("guest.answer"), [json!({"question": "7", "accept": accept})]);
    }
}

#[test]
fn a_guest_is_meant_only_where_that_can_be() {
    let fake = sending(Vec::new);
    for (line, exit, hint) in [
        ("send Cargo.toml --to 192.168.1.7", 5, "--pin"),
        ("send Cargo.toml --to phone.lan", 5, "--pin"),
        ("send Cargo.toml --to h:1", 5, "--pin"),
        // A name of no peer, and what no guest takes.
        ("send Cargo.toml --to phone", 5, "do"),
        ("send --text hi --to 192.168.1.7", 5, "do"),
        // Nobody there to be asked.
        ("send Cargo.toml --to h --pin 123456", 2, "--hash"),
        (&format!("send Cargo.toml --to h --hash {HASH}"), 2, "--pin"),
        ("send - --to h --pin 123456", 2, "file"),
        ("send - --qr {}", 2, "file"),
    ] {
        let ran = fake.run(&format!("{line} --json"));
        assert_eq!((ran.exit, ran.stdout.as_str()), (Some(exit), ""), "{line}");
        let error: Value = serde_json::from_str(&ran.stderr).unwrap();
        assert!(error["error"]["hint"].as_str().unwrap().contains(hint), "{line}: {error}");
    }
    let mut person = fake.at_terminal("send Cargo.toml --to 192.168.1.7 --no-wait");
    person.sees("nobody would be there to compare");
    assert_eq!(person.leaves().0, Some(2));
    assert!(fake.asked("guest.send").is_empty());
}
