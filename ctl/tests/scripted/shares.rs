//! Handing secrets and databases over: the side that sends, and the inbox.

use std::process::Stdio;

use serde_json::{Value, json};

use crate::fake::Say::{self, Error, Event, Lagged, Result};
use crate::fake::{Fake, first_line, interrupt, snapshot};

pub const EVIL: &str = "x\u{1b}[2J\u{202e}";

pub fn share(changes: &Value) -> Value {
    let mut share = json!({
        "share": "s1", "direction": "out", "kind": "database", "name": "photos", "state": "waiting",
        "attempts_left": 3, "compat": false, "created": "c", "expires": "soon", "newer": [1],
    });
    for (key, value) in changes.as_object().unwrap() {
        share[key] = value.clone();
    }
    share
}

pub fn updated(changes: &Value) -> Say {
    Event("share:updated", share(changes))
}

pub fn reason(rpc: i64, code: &str) -> Value {
    json!({"rpc": rpc, "code": code, "message": "no", "hint": "do"})
}

fn guest() -> Value {
    json!({"name": "10.0.0.2", "address": "10.0.0.2"})
}

pub fn nas() -> Value {
    json!({"id": "9a4f0b2c00000000", "name": "nas"})
}

fn begun() -> Value {
    let mut begun = share(&json!({}));
    begun["code"] = json!("0821");
    begun
}

fn photos() -> Value {
    json!({
        "name": "photos", "description": "ours", "path": "s3:bucket/photos", "s3": "photos-s3",
        "encryption": "photos-key", "created": "c", "updated": "u",
    })
}

/// A daemon with two secrets and a database, which begins to send and then says `then`.
fn sending(then: impl Fn() -> Vec<Say> + Send + 'static) -> Fake {
    Fake::new(move |method, params| match method {
        "events.subscribe" => vec![snapshot()],
        "secrets.list" => {
            let secret = |name| json!({"name": name, "type": "plain", "created": "c", "updated": "u"});
            vec![Result(json!({"secrets": [secret("photos-s3"), secret("photos-key")]}))]
        }
        "databases.list" => vec![Result(json!({"databases": [photos()]}))],
        "databases.view" => vec![Result(photos())],
        "shares.send" => {
            let mut answer = begun();
            answer["kind"] = params["kind"].clone();
            if params.get("to").is_some() {
                answer = share(&json!({"peer": nas(), "attempts_left": null, "expires": null}));
            }
            let mut said = vec![Result(answer)];
            said.extend(then());
            said
        }
        "shares.cancel" => vec![Result(share(&json!({"state": "canceled"})))],
        _ => vec![Error(-32601, "unknown_method")],
    })
}

fn saved() -> Vec<Say> {
    vec![
        updated(&json!({"share": "of another", "state": "failed"})),
        updated(&json!({"attempts_left": 2})),
        updated(&json!({"attempts_left": 2})),
        updated(&json!({"state": "of-tomorrow", "attempts_left": 2})),
        updated(&json!({"state": "review", "peer": guest()})),
        updated(&json!({"state": "saved", "peer": guest()})),
    ]
}

#[test]
fn a_script_reads_the_code_first_and_the_end_last() {
    let fake = sending(saved);
    let ran = fake.run("dbs send photos --json");
    assert_eq!((ran.exit, ran.stderr.as_str()), (Some(0), ""));
    assert_eq!(ran.stdout.lines().next(), Some(r#"{"code":"0821","expires":"soon","share":"s1"}"#));
    let states: Vec<_> = ran.lines()[1..].iter().map(|line| line["state"].as_str().unwrap().to_owned()).collect();
    assert_eq!(states, ["waiting", "unknown", "review", "saved"]);
    let wanted = json!({"kind": "database", "name": "photos", "compat": false, "detach": false});
    assert_eq!(fake.asked("shares.send"), [wanted]);
    assert_eq!(fake.asked("events.subscribe")[0]["kinds"], json!(["share:updated"]));

    let fake = sending(|| vec![updated(&json!({"peer": nas(), "state": "delivered"}))]);
    let ran = fake.run("secrets send photos-s3 --to nas --name theirs --json");
    assert_eq!((ran.exit, ran.stdout.lines().next()), (Some(0), Some(r#"{"share":"s1"}"#)), "{ran:?}");
    assert_eq!(ran.lines()[1]["state"], "delivered");
    let wanted = json!({
        "kind": "secret", "name": "photos-s3", "to": "nas", "rename": "theirs", "compat": false, "detach": false,
    });
    assert_eq!(fake.asked("shares.send"), [wanted]);
}

#[test]
fn sent_means_that_it_is_saved_there() {
    let fake = sending(saved);
    let ran = fake.run("dbs send photos --description d --path p --secrets s3,geocoding");
    assert_eq!(ran.exit, Some(0), "{ran:?}");
    assert!(ran.stdout.contains("\n    Type this code on the other device: 0821\n\n"), "{ran:?}");
    assert!(ran.stdout.ends_with("sent photos to 10.0.0.2 (not paired): it is saved there\n"), "{ran:?}");
    assert_eq!(ran.stderr.matches("attempts left: 2").count(), 1, "{ran:?}");
    assert_eq!(ran.stderr.matches("waiting for the other device").count(), 1, "{ran:?}");
    for words in [
        "the values of its secrets",
        "nothing takes it back",
        "typed wrong there? Then kithctl dbs receive there again: the code is the same\n",
        "10.0.0.2 (not paired) has it; it is looked through there, for 10 minutes at most\n",
    ] {
        assert!(ran.stderr.contains(words), "{words:?} is not in {ran:?}");
    }
    assert!(!ran.stderr.contains("photosphere"), "{ran:?}");
    let wanted = json!({
        "kind": "database", "name": "photos", "description": "d", "path": "p", "secrets": ["s3", "geocoding"],
        "compat": false, "detach": false,
    });
    assert_eq!(fake.asked("shares.send"), [wanted]);

    for (line, changes, last) in [
        ("dbs send photos --to nas", json!({"peer": nas()}), "delivered photos; it waits in nas's inbox for a review"),
        (
            "dbs send photos --compat photosphere",
            json!({"peer": guest(), "compat": true}),
            "delivered photos to 10.0.0.2 (not paired); that app does not say what becomes of it",
        ),
    ] {
        let fake = sending(move || {
            let mut changes = changes.clone();
            changes["state"] = json!("delivered");
            vec![updated(&changes)]
        });
        let ran = fake.run(line);
        assert_eq!((ran.exit, ran.stdout.lines().last()), (Some(0), Some(last)), "{ran:?}");
        assert_eq!(ran.stdout.contains("Type this code"), line.contains("compat"), "{ran:?}");
        assert_eq!(ran.stderr.contains("Any device on this network"), line.contains("compat"), "{ran:?}");
        assert!(!ran.stdout.contains("sent "), "{ran:?}");
    }
}

#[test]
fn how_a_share_ends_is_the_exit_code() {
    for (last, exit, code) in [
        (json!({"state": "declined"}), 1, "rejected"),
        (json!({"state": "declined", "reason": reason(1005, "rejected")}), 1, "rejected"),
        (json!({"state": "failed", "reason": reason(1003, "name_taken")}), 6, "name_taken"),
        (json!({"state": "failed", "reason": reason(1004, "timed_out")}), 7, "timed_out"),
        (json!({"state": "failed", "reason": reason(1006, "too_many_attempts")}), 1, "too_many_attempts"),
        (json!({"state": "failed"}), 1, "failed"),
        (json!({"state": "canceled"}), 1, "canceled"),
    ] {
        let said = last.clone();
        let fake = sending(move || vec![updated(&said)]);
        let ran = fake.run("secrets send key --json");
        assert_eq!((ran.exit, ran.error_code().as_str(), ran.lines().len()), (Some(exit), code, 2), "{last}");
        let ran = fake.run("secrets send key");
        assert_eq!((ran.exit, ran.stdout.contains("sent ")), (Some(exit), false), "{last}");
    }
    let fake = Fake::new(|method, _| match method {
        "events.subscribe" => vec![snapshot()],
        _ => vec![Error(1003, "vault_locked")],
    });
    let ran = fake.run("secrets send key --json");
    assert_eq!((ran.exit, ran.error_code().as_str(), ran.stdout.as_str()), (Some(6), "vault_locked", ""));
}

#[test]
fn an_end_that_was_missed_is_asked_for() {
    for (state, exit) in [(Some("saved"), 0), (Some("declined"), 1), (None, 5)] {
        let fake = Fake::new(move |method, _| match method {
            "events.subscribe" => vec![snapshot()],
            "shares.send" => vec![Result(begun()), Lagged],
            _ => vec![Result(json!({"shares": state.map(|state| share(&json!({"state": state}))).as_slice()}))],
        });
        assert_eq!(fake.run("dbs send photos --json").exit, Some(exit), "{state:?}");
        assert_eq!(fake.asked("events.subscribe").len(), 2);
    }
}

#[test]
fn what_cannot_be_asked_must_be_said() {
    let fake = sending(saved);
    for line in [
        "secrets send",
        "dbs send --yes",
        "secrets send --json",
        "dbs send photos --secrets s3,all",
        "dbs send photos --compat other",
        "dbs send photos --compat photosphere --to nas",
        "secrets send key --path p",
        "secrets send key --name \u{202e}",
        "dbs send photos --path \u{202e}",
    ] {
        assert_eq!(fake.run(line).exit, Some(2), "{line}");
    }
    assert!(fake.asked("shares.send").is_empty());
}

#[test]
fn somebody_chooses_edits_and_agrees() {
    let fake = sending(saved);
    let mut person = fake.at_terminal("dbs send");
    person.sees("Which database [1]: ");
    person.types("1");
    person.sees("Name [photos]: ");
    person.types("albums");
    person.sees("Description (- for none) [ours]: ");
    person.types("");
    person.sees("Path [s3:bucket/photos]: ");
    person.types(EVIL);
    // All of it is asked again, and what was typed is not shown as it is.
    let shown = person.sees("Name [photos]: ");
    assert!(shown.contains("path: has control"), "{shown:?}");
    person.types("albums");
    person.sees("Description (- for none) [ours]: ");
    person.types("");
    person.sees("Path [s3:bucket/photos]: ");
    person.types("/there");
    person.sees("Send its S3 credentials, photos-s3, along? [Y/n] ");
    person.types("n");
    person.sees("Send its encryption key, photos-key, along? [Y/n] ");
    person.types("");
    let shown = person.sees("Send it? [y/N] ");
    assert!(shown.contains("hands over the database photos and the values of photos-key.\r\n"), "{shown:?}");
    assert!(fake.asked("shares.send").is_empty());
    person.types("y");
    person.sees("Type this code on the other device: 0821");
    assert_eq!(person.leaves().0, Some(0));
    let wanted = json!({
        "kind": "database", "name": "photos", "rename": "albums", "path": "/there", "secrets": ["encryption"],
        "compat": false, "detach": false,
    });
    assert_eq!(fake.asked("shares.send"), [wanted]);

    let fake = sending(saved);
    let mut person = fake.at_terminal("secrets send --compat photosphere");
    let shown = person.sees("Which secret: ");
    assert!(shown.contains("1  photos-s3") && shown.contains("2  photos-key"), "{shown:?}");
    person.types("photos-key");
    let shown = person.sees("Send it? [y/N] ");
    assert!(shown.contains("the secret photos-key (plain)") && shown.contains("proves nothing"), "{shown:?}");
    person.types("");
    let (exit, shown) = person.leaves();
    assert_eq!((exit, shown.contains("nothing was sent")), (Some(1), true), "{shown:?}");
    let (exit, shown) = fake.at_terminal("secrets send nothing-of-the-kind").leaves();
    assert_eq!((exit, shown.contains("WARNING")), (Some(5), false), "{shown:?}");
    assert!(fake.asked("shares.send").is_empty());
}

#[test]
fn yes_asks_nothing_but_warns() {
    let fake = sending(saved);
    for line in ["dbs send photos --yes", "secrets send key -y"] {
        let (exit, shown) = fake.at_terminal(line).leaves();
        assert_eq!((exit, shown.contains("WARNING"), shown.contains("[y/N]")), (Some(0), true, false), "{shown:?}");
    }
    let given = "dbs send photos --name a --description b --path c --secrets none";
    let mut person = fake.at_terminal(given);
    let shown = person.sees("Send it? [y/N] ");
    assert!(shown.contains("and no secret") && !shown.contains("Name ["), "{shown:?}");
    person.types("yes");
    assert_eq!(person.leaves().0, Some(0));
    assert_eq!(fake.asked("shares.send")[2]["secrets"], json!([]));
}

#[test]
fn ctrl_c_calls_it_off() {
    let fake = sending(Vec::new);
    for question in ["Which database [1]: ", "Name [photos]: ", "Send its S3", "Send it? [y/N] "] {
        let mut person = fake.at_terminal("dbs send");
        for (asked, answer) in [
            ("Which database [1]: ", "1"),
            ("Name [photos]: ", ""),
            ("Description (- for none) [ours]: ", ""),
            ("Path [s3:bucket/photos]: ", ""),
            ("Send its S3", ""),
            ("Send its encryption", ""),
            ("Send it? [y/N] ", ""),
        ] {
            person.sees(asked);
            if asked == question {
                break;
            }
            person.types(answer);
        }
        person.interrupts();
        assert_eq!(person.leaves().0, Some(130), "{question}");
    }
    assert!(fake.asked("shares.send").is_empty() && fake.asked("shares.cancel").is_empty());

    let mut person = fake.at_terminal("secrets send key --yes");
    person.sees("waiting for the other device");
    person.interrupts();
    assert_eq!(person.leaves().0, Some(130));
    assert_eq!(fake.asked("shares.cancel"), [json!({"share": "s1"})]);

    // A daemon that does not answer holds nobody up for long.
    let silent = Fake::new(|method, _| match method {
        "events.subscribe" => vec![snapshot()],
        "shares.send" => vec![Result(begun())],
        _ => vec![Say::Nothing],
    });
    let mut child = silent.command("secrets send key --json").stdout(Stdio::piped()).spawn().unwrap();
    first_line(&mut child);
    interrupt(&child);
    assert_eq!(child.wait().unwrap().code(), Some(130));
    assert_eq!(silent.asked("shares.cancel"), [json!({"share": "s1"})]);
}

#[test]
fn a_reader_that_went_away_ends_it_quietly() {
    let fake = sending(|| (0..10_000).map(|left| updated(&json!({"attempts_left": left % 2}))).collect());
    let mut child =
        fake.command("dbs send photos --json").stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    first_line(&mut child);
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), output.stderr.len()), (Some(0), 0));
}

/// What waits: two shares of a paired device, and an offer of files.
fn inbox() -> Fake {
    let waiting = |id: &str, kind: &str| {
        share(&json!({
            "share": id, "direction": "in", "kind": kind, "state": "review", "peer": {"id": "9a4f0b2c00000000", "name": EVIL},
            "name": EVIL, "attempts_left": null, "expires": null,
        }))
    };
    Fake::new(move |method, params| match method {
        "inbox.list" => vec![Result(json!({"transfers": [crate::fake::state("offered")]}))],
        "shares.list" => vec![Result(json!({"shares": [
            waiting("ab1", "database"), waiting("ab2", "secret"), waiting("t1b", "secret"),
            share(&json!({"share": "out", "state": "review"})), share(&json!({"share": "over", "direction": "in", "state": "saved"})),
        ]}))],
        "shares.decline" => {
            let mut declined = waiting(params["share"].as_str().unwrap(), "secret");
            declined["state"] = json!("declined");
            vec![Result(declined)]
        }
        "inbox.accept" | "inbox.reject" => vec![Result(crate::fake::state("active"))],
        _ => vec![Error(-32601, "unknown_method")],
    })
}

#[test]
fn the_inbox_shows_what_waits_beside_files() {
    let fake = inbox();
    let ran = fake.run("inbox");
    assert_eq!((ran.exit, ran.stderr.as_str(), ran.stdout.lines().count()), (Some(0), "", 6), "{ran:?}");
    let shown = "x\\u{1b}[2J\\u{202e}";
    let row = format!("ab1  {shown} (9a4f0b2c00000000)  database  {shown}  c\n");
    assert!(ran.stdout.contains(&row) && !ran.stdout.contains("over"), "{ran:?}");
    let shares = Fake::new(|method, _| match method {
        "inbox.list" => vec![Result(json!({"transfers": []}))],
        "codes.requests" => vec![Result(json!({"requests": []}))],
        _ => vec![Result(json!({"shares": [share(&json!({"direction": "in", "state": "review"}))]}))],
    });
    assert!(shares.run("inbox").stdout.starts_with("ID  FROM"), "no empty table above another");
    let ran = fake.run("inbox list --json");
    let lines = ran.lines();
    assert_eq!((ran.exit, lines.len()), (Some(0), 4), "{ran:?}");
    assert_eq!((&lines[0]["transfers"][0]["id"], &lines[1]["share"]["share"]), (&json!("t1"), &json!("ab1")));

    // Whoever may not see them sees the files.
    for code in ["access_denied", "unknown_method"] {
        let fake = Fake::new(move |method, _| match method {
            "inbox.list" => vec![Result(json!({"transfers": []}))],
            "inbox.accept" => vec![Result(crate::fake::state("active"))],
            _ => vec![Error(1001, code)],
        });
        assert_eq!((fake.run("inbox").exit, fake.run("inbox accept t").exit), (Some(0), Some(0)));
    }
    let fake = Fake::new(move |method, _| match method {
        "inbox.list" => vec![Result(json!({"transfers": []}))],
        _ => vec![Error(-32603, "internal")],
    });
    assert_eq!(fake.run("inbox").exit, Some(1));
}

#[test]
fn an_id_means_one_thing() {
    let fake = inbox();
    let ran = fake.run("inbox reject ab2 --json");
    assert_eq!((ran.exit, &ran.lines()[0]["state"]), (Some(0), &json!("declined")), "{ran:?}");
    let ran = fake.run("inbox reject t1b");
    assert_eq!(
        (ran.exit, ran.stdout.as_str()),
        (Some(0), "declined the secret x\\u{1b}[2J\\u{202e} of x\\u{1b}[2J\\u{202e} (9a4f0b2c00000000)\n"),
    );
    assert_eq!(fake.asked("shares.decline"), [json!({"share": "ab2"}), json!({"share": "t1b"})]);
    for line in ["inbox reject ab", "inbox accept ab", "inbox reject t", "inbox accept t1"] {
        let ran = fake.run(line);
        assert_eq!((ran.exit, ran.stderr.contains("may be each of")), (Some(2), true), "{line}: {ran:?}");
    }
    for (line, words) in [
        ("inbox accept ab1", "  kithctl dbs receive --inbox ab1 --yes\n"),
        ("inbox accept ab2", "  kithctl secrets receive --inbox ab2 --yes\n"),
        ("inbox accept ab2 --to /in", "are for files"),
        ("inbox accept ab2 --on-conflict skip", "are for files"),
    ] {
        let ran = fake.run(line);
        assert_eq!((ran.exit, ran.stderr.contains(words)), (Some(2), true), "{line}: {ran:?}");
    }
    assert_eq!((fake.asked("shares.decline").len(), fake.asked("inbox.accept").len()), (2, 0));
    assert_eq!((fake.run("inbox accept x").exit, fake.run("inbox reject x").exit), (Some(0), Some(0)));
    assert_eq!((fake.asked("inbox.accept").len(), fake.asked("inbox.reject").len()), (1, 1));
}
