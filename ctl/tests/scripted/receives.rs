//! Taking secrets and databases over where nobody is asked: the code, the wait, and what is saved.

use std::io::Write as _;
use std::process::Stdio;

use serde_json::{Value, json};

use crate::fake::Say::{self, Error, Event, Lagged, Result};
use crate::fake::{Fake, Ran, snapshot};
use crate::shares::{EVIL, nas, reason, share};

pub fn incoming(changes: &Value) -> Value {
    let mut incoming = share(&json!({"direction": "in", "name": null}));
    for (key, value) in changes.as_object().unwrap() {
        incoming[key] = value.clone();
    }
    incoming
}

pub fn arrived() -> Say {
    let guest = json!({"name": "10.0.0.2", "address": "10.0.0.2"});
    Event("share:updated", incoming(&json!({"state": "review", "name": "photos", "peer": guest})))
}

fn secret(slot: Option<&str>, name: &str, kind: &str, meets: &str) -> Value {
    json!({"slot": slot, "name": name, "type": kind, "meets": meets, "newer": 1})
}

/// A database whose name and S3 credentials meet something else here, as told.
pub fn database(meets: &str, s3: &str) -> Value {
    let mut review = incoming(&json!({
        "state": "review", "name": "photos", "peer": {"name": "10.0.0.2", "address": "10.0.0.2"},
    }));
    review["database"] = json!({
        "name": "photos", "description": "ours", "path": "s3:bucket/photos", "origin": EVIL, "meets": meets,
    });
    review["secrets"] = json!([
        secret(Some("s3"), "photos-s3", "s3-credentials", s3),
        secret(Some("encryption"), "photos-key", "encryption-key", "equal"),
    ]);
    review
}

/// A secret that meets something else here, as told.
pub fn one(meets: &str) -> Value {
    let mut review = incoming(&json!({"kind": "secret", "state": "review", "name": "key", "peer": nas()}));
    review["secrets"] = json!([secret(None, "key", "api-key", meets)]);
    review
}

pub fn saved() -> Value {
    json!({
        "databases": [{"name": "photos", "action": "saved"}],
        "secrets": [
            {"name": "photos-s3", "type": "s3-credentials", "action": "reused"},
            {"name": "photos-key", "type": "encryption-key", "action": "equal"},
            {"name": "x (2)", "type": "plain", "action": "renamed"}, {"name": "y", "type": "plain", "action": "replaced"},
            {"name": EVIL, "type": "of-tomorrow", "action": "of-tomorrow"},
        ],
        "newer": 1,
    })
}

/// A daemon with which something arrives at once; each review is the next of `reviews`, or else the last one, and
/// `save` answers each attempt to save.
pub fn receiving(reviews: Vec<Value>, save: impl Fn(usize) -> Say + Send + 'static) -> Fake {
    let (mut reviewed, mut saves) = (0, 0);
    Fake::new(move |method, _| match method {
        "events.subscribe" => vec![snapshot()],
        "shares.receive" => vec![Result(incoming(&json!({}))), arrived()],
        "shares.review" => {
            reviewed += 1;
            vec![Result(reviews[reviewed.min(reviews.len()) - 1].clone())]
        }
        "shares.save" => {
            saves += 1;
            vec![save(saves)]
        }
        "shares.decline" => vec![Result(incoming(&json!({"state": "declined"})))],
        "shares.cancel" => vec![Result(incoming(&json!({"state": "canceled"})))],
        _ => vec![Error(-32601, "unknown_method")],
    })
}

pub fn fine(review: Value) -> Fake {
    receiving(vec![review], |_| Result(saved()))
}

fn with_input(fake: &Fake, line: &str, input: &str) -> Ran {
    let mut child = fake.command(line);
    let mut child = child.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // It may have ended before it read anything.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    Ran::from(child.wait_with_output().unwrap())
}

#[test]
fn a_script_gets_what_was_saved() {
    let fake = fine(database("nothing", "another"));
    let ran = fake.run("dbs receive --yes --json --code 0821");
    assert_eq!((ran.exit, ran.stderr.as_str(), ran.lines().len()), (Some(0), "", 1), "{ran:?}");
    let line = &ran.lines()[0];
    assert_eq!((&line["share"], &line["name"]), (&json!("s1"), &json!("photos")));
    assert_eq!((&line["databases"], &line["secrets"][0]), (&saved()["databases"], &saved()["secrets"][0]));
    let wanted = json!({"kind": "database", "code": "0821", "compat": false, "detach": false});
    assert_eq!(fake.asked("shares.receive"), [wanted]);
    assert_eq!(fake.asked("shares.save"), [json!({"share": "s1", "on_conflict": "reuse"})]);
    assert!(fake.asked("shares.decline").is_empty() && fake.asked("shares.cancel").is_empty());

    let ran =
        fake.run("dbs receive --yes --code 0821 --on-conflict rename --name a --description b --path c --secrets s3");
    assert_eq!((ran.exit, ran.stdout.lines().count()), (Some(0), 6), "{ran:?}");
    for line in [
        "database photos: saved\n",
        "secret photos-s3: what was here already is used\n",
        "secret x\\u{1b}[2J\\u{202e}: done\n",
    ] {
        assert!(ran.stdout.contains(line), "{line:?} is not in {ran:?}");
    }
    let wanted = json!({
        "share": "s1", "name": "a", "description": "b", "path": "c", "on_conflict": "rename",
        "secrets": [{"slot": "encryption", "include": false}],
    });
    assert_eq!(fake.asked("shares.save")[1], wanted);
}

#[test]
fn the_code_comes_from_where_it_was_put() {
    for (line, input) in [("--code -", "0821\nmore\n"), ("", "0821"), ("", " 0821 \r\n")] {
        let fake = fine(one("nothing"));
        let ran = with_input(&fake, ["secrets receive --yes --json", line].join(" ").trim_end(), input);
        assert_eq!(ran.exit, Some(0), "{line} {input:?}: {ran:?}");
        assert_eq!(fake.asked("shares.receive")[0]["code"], "0821");
    }
    let fake = fine(one("nothing"));
    for (line, input) in [
        ("secrets receive --yes", ""),
        ("secrets receive --yes", "\n"),
        ("secrets receive --yes", "12x45\n"),
        ("secrets receive --yes --code -", "12345678901234567890"),
        ("secrets receive --yes --code 12x45", ""),
    ] {
        let ran = with_input(&fake, line, input);
        assert_eq!((ran.exit, ran.stderr.contains("12x45")), (Some(2), false), "{line} {input:?}: {ran:?}");
    }
    assert!(fake.asked("shares.receive").is_empty());
}

#[test]
fn whoever_cannot_look_must_say_yes() {
    let fake = fine(one("nothing"));
    for line in [
        "secrets receive --code 0821",
        "secrets receive --code 0821 --json",
        "dbs receive --inbox s1",
        "dbs receive --code 0821 --compat photosphere",
        "dbs receive --code 0821 --compat photosphere --yes",
        "dbs receive --code 0821 --inbox s1 --yes",
        "dbs receive --inbox s1 --compat photosphere",
        "dbs receive --code 0821 --yes --on-conflict skip",
        "secrets receive --code 0821 --yes --path p",
        "secrets receive --code 0821 --yes --name \u{202e}",
    ] {
        let ran = fake.run(line);
        assert_eq!((ran.exit, ran.stdout.as_str()), (Some(2), ""), "{line}: {ran:?}");
    }
    assert!(fake.asked("shares.receive").is_empty() && fake.asked("shares.review").is_empty());
}

#[test]
fn why_nothing_came_is_the_exit_code() {
    for (said, exit, code) in [
        (vec![json!({"state": "failed", "reason": reason(1004, "timed_out")})], 7, "timed_out"),
        (
            vec![json!({"attempts_left": 2}), json!({"state": "failed", "reason": reason(1006, "too_many_attempts")})],
            1,
            "too_many_attempts",
        ),
        (vec![json!({"state": "failed", "reason": reason(1005, "wrong_kind")})], 1, "wrong_kind"),
        (vec![json!({"state": "canceled"})], 1, "canceled"),
        (vec![json!({"state": "saved"})], 1, "wrong_state"),
    ] {
        let states = said.clone();
        let fake = Fake::new(move |method, _| match method {
            "events.subscribe" => vec![snapshot()],
            "shares.receive" => {
                let mut told = vec![Result(incoming(&json!({})))];
                told.extend(states.iter().map(|changes| Event("share:updated", incoming(changes))));
                told
            }
            _ => vec![Error(-32601, "unknown_method")],
        });
        let ran = fake.run("dbs receive --yes --json --code 0821");
        assert_eq!((ran.exit, ran.error_code().as_str(), ran.stdout.as_str()), (Some(exit), code, ""), "{said:?}");
        let ran = fake.run("dbs receive --yes --code 0821");
        assert_eq!((ran.exit, ran.stderr.contains("attempts left: 2")), (Some(exit), said.len() > 1), "{ran:?}");
    }
    // What was missed is asked for.
    let fake = Fake::new(move |method, _| match method {
        "events.subscribe" => vec![snapshot()],
        "shares.receive" => vec![Result(incoming(&json!({}))), Lagged],
        "shares.list" => vec![Result(json!({"shares": [incoming(&json!({"state": "review"}))]}))],
        "shares.review" => vec![Result(one("nothing"))],
        _ => vec![Result(saved())],
    });
    assert_eq!(fake.run("secrets receive --yes --code 0821").exit, Some(0));
}

#[test]
fn a_name_that_is_taken_ends_it_where_nobody_is_asked() {
    let taken = || receiving(vec![database("another", "nothing")], |_| Error(1003, "name_taken"));
    let fake = taken();
    let ran = fake.run("dbs receive --yes --json --code 0821");
    assert_eq!((ran.exit, ran.error_code().as_str(), ran.stdout.as_str()), (Some(6), "name_taken", ""));
    assert_eq!(fake.asked("shares.decline"), [json!({"share": "s1"})], "the sender hears of it");
    let ran = taken().run("dbs receive --yes --code 0821");
    assert!(ran.stderr.contains("--on-conflict replace, --on-conflict rename or --name settles it"), "{ran:?}");

    // In the inbox it waits on.
    let fake = taken();
    let ran = fake.run("dbs receive --yes --json --inbox s");
    assert_eq!((ran.exit, ran.error_code().as_str()), (Some(6), "name_taken"));
    assert!(fake.asked("shares.decline").is_empty() && fake.asked("shares.receive").is_empty());
    assert_eq!(fake.asked("shares.review")[0], json!({"share": "s"}));

    let ran = taken().run("secrets receive --yes --inbox s");
    assert_eq!((ran.exit, ran.stderr.contains("kithctl dbs receive --inbox s1")), (Some(2), true), "{ran:?}");
    let empty = Fake::new(|method, _| match method {
        "events.subscribe" => vec![snapshot()],
        _ => vec![Error(1002, "share_not_found")],
    });
    let ran = empty.run("secrets receive --yes --inbox s");
    assert_eq!((ran.exit, ran.stderr.contains("kithctl inbox shows what waits")), (Some(5), true), "{ran:?}");
}
