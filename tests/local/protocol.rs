//! A paired device that does not keep to the protocol: nothing is written where it does not belong, nobody else is
//! delayed, and it is told or hung up on.

use std::fs;

use kith_tests::{PATIENCE, wait};
use serde_json::json;

use crate::raw::Wire;
use crate::stage::{CHUNK, Stage, digest, item};
use crate::support::names;

#[test]
fn one_who_keeps_to_it_is_served() {
    let mut stage = Stage::new();
    let (first, second) = (vec![1; CHUNK], vec![2; 77]);
    let (mut wire, id) = stage.accepted("a.bin", CHUNK + 77);
    // Fields that it does not know are passed over.
    wire.say(&json!({"type": "file", "index": 0, "offset": 0, "x_new": {"deep": [1]}}));
    wire.data(&first);
    wire.data(&second);
    wire.say(&json!({"type": "end", "digest": digest(&[&first, &second]), "size": CHUNK + 77}));
    wire.say(&json!({"type": "done"}));
    let (heard, _) = wire.rest();
    assert!(heard.iter().any(|it| it["type"] == "results" && it["items"] == json!([{"index": 0}])), "{heard:?}");
    assert_eq!(heard.last().map(|it| it["type"].clone()), Some(json!("done")));
    assert_eq!(fs::read(stage.into.join("a.bin")).expect("it is there"), [first, second].concat());
    // Offered again, it is known to be done, and nothing changes.
    let mut wire = stage.offer_as(&id, &[item(0, "a.bin", CHUNK + 77)]);
    let answer = wire.answer().expect("an answer");
    assert_eq!((&answer["type"], &answer["skip"]), (&json!("accept"), &json!([0])));
    assert_eq!(stage.bert.transfer(&id).expect("it is known")["state"], "done");
    assert_eq!(names(&stage.into), ["a.bin"]);
}

#[test]
fn e36_content_before_the_answer_is_refused_and_not_written() {
    let mut stage = Stage::new();
    stage.bert.ctl(&["trust", "policy", "anna", "--offers", "ask"]).ok();
    let (mut wire, id) = stage.offer(&[item(0, "a", 3)]);
    wire.say(&json!({"type": "file", "index": 0, "offset": 0}));
    wire.data(b"abc");
    wire.say(&json!({"type": "end", "digest": digest(&[b"abc"]), "size": 3}));
    let (heard, _) = wire.rest();
    assert_eq!(heard.last().map(|it| it["type"].clone()), Some(json!("reject")), "{heard:?}");
    stage.assert_nothing("impatience");
    assert!(!stage.bert.received().exists());
    // Nor for an offer that was rejected, or called off.
    for answer in ["reject", "cancel"] {
        let (_wire, id) = stage.offer(&[item(0, "a", 3)]);
        wait::until_true("the offer", PATIENCE, || stage.bert.transfer(&id).is_some_and(|it| it["state"] == "offered"));
        match answer {
            "reject" => stage.bert.ctl(&["inbox", "reject", &id]).ok(),
            _ => stage.bert.ctl(&["transfers", "cancel", &id]).ok(),
        };
        let mut wire = stage.offer_as(&id, &[item(0, "a", 3)]);
        wire.say(&json!({"type": "file", "index": 0, "offset": 0}));
        wire.data(b"abc");
        let (heard, _) = wire.rest();
        assert!(heard.iter().all(|it| it["type"] == "reject" || it["type"] == "cancel"), "{answer}: {heard:?}");
        stage.assert_nothing(answer);
    }
    drop(id);
}

#[test]
fn e41_content_that_is_not_what_was_said_gets_no_name() {
    let mut stage = Stage::new();
    let chunk = vec![7; CHUNK];
    let file = |offset: u64| json!({"type": "file", "index": 0, "offset": offset});
    let end = |digest: String, size: usize| json!({"type": "end", "digest": digest, "size": size});
    type Talk<'a> = &'a dyn Fn(&mut Wire);
    let talks: [(&str, Talk<'_>); 14] = [
        ("content without a file", &|wire| wire.data(b"abc")),
        ("the end of no file", &|wire| wire.say(&end(digest(&[b"abc"]), 3))),
        ("a file that was not offered", &|wire| wire.say(&json!({"type": "file", "index": 7, "offset": 0}))),
        ("a wrong offset", &|wire| wire.say(&file(CHUNK as u64))),
        ("an offset within a chunk", &|wire| wire.say(&file(1))),
        ("an offset beyond the size", &|wire| wire.say(&file(1 << 40))),
        ("a damaged chunk", &|wire| {
            wire.say(&file(0));
            wire.frame(&[&[0], [9; 32].as_slice(), b"abc"].concat());
        }),
        ("more than there is", &|wire| {
            wire.say(&file(0));
            wire.data(&chunk);
            wire.data(&chunk);
            wire.data(&chunk);
        }),
        ("a short chunk before the end", &|wire| {
            wire.say(&file(0));
            wire.data(b"abc");
            wire.data(&chunk);
        }),
        ("an early end", &|wire| {
            wire.say(&file(0));
            wire.data(b"abc");
            wire.say(&end(digest(&[b"abc"]), 3));
        }),
        ("a chunk that is none", &|wire| {
            wire.say(&file(0));
            wire.frame(&[0; 20]);
        }),
        ("an empty frame", &|wire| {
            wire.say(&file(0));
            wire.frame(b"");
        }),
        ("a chunk that is too large", &|wire| {
            wire.say(&file(0));
            wire.data(&vec![1; CHUNK + 1]);
        }),
        ("an unknown message", &|wire| wire.say(&json!({"type": "teleport"}))),
    ];
    for (what, talk) in talks {
        let (mut wire, id) = stage.accepted("a.bin", 2 * CHUNK);
        talk(&mut wire);
        let (heard, _) = wire.rest();
        assert!(heard.iter().all(|it| it["type"] != "done" && it["type"] != "results"), "{what}: {heard:?}");
        stage.assert_nothing(what);
        stage.bert.ctl(&["transfers", "cancel", &id]).ok();
        wait::until_true("the traces to go", PATIENCE, || names(&stage.into).is_empty());
    }
    // All chunks are right, their chain is not: told as a problem of that file.
    let (mut wire, id) = stage.accepted("a.bin", 3);
    wire.say(&file(0));
    wire.data(b"abc");
    wire.say(&end(digest(&[b"abd"]), 3));
    wire.say(&json!({"type": "done"}));
    let (heard, _) = wire.rest();
    assert!(heard.iter().any(|it| it["items"] == json!([{"index": 0, "reason": "integrity"}])), "{heard:?}");
    assert_eq!(crate::support::problems(&stage.bert.wait_transfer(&id, "done")), ["a.bin: integrity"]);
    stage.assert_nothing("integrity");
    assert!(names(&stage.into).is_empty());
}

#[test]
fn a_sender_that_says_done_and_has_sent_nothing_has_delivered_nothing() {
    let mut stage = Stage::new();
    let (mut wire, id) = stage.accepted("a.bin", 2 * CHUNK);
    wire.say(&json!({"type": "done"}));
    let (heard, _) = wire.rest();
    stage.assert_nothing("done");
    let transfer = stage.bert.transfer(&id).expect("it is known");
    assert_eq!(crate::support::problems(&transfer), ["a.bin: not_sent"], "{transfer}");
    assert!(heard.iter().any(|it| it["items"] == json!([{"index": 0, "reason": "not_sent"}])), "{heard:?}");
}

#[test]
fn a_file_that_grows_beyond_the_policy_after_the_answer_is_stopped() {
    let mut stage = Stage::new();
    stage.bert.ctl(&["trust", "policy", "anna", "--max-file", "1000"]).ok();
    let (wire, id) = stage.accepted("a.bin", 10);
    drop(wire);
    let mut wire = stage.offer_as(&id, &[item(0, "a.bin", 5000)]);
    wire.say(&json!({"type": "file", "index": 0, "offset": 0}));
    wire.data(&[7; 5000]);
    wire.say(&json!({"type": "end", "digest": digest(&[&[7; 5000]]), "size": 5000}));
    wire.say(&json!({"type": "done"}));
    let (heard, _) = wire.rest();
    assert!(heard.iter().any(|it| it["reason"] == "too_large"), "{heard:?}");
    stage.assert_nothing("too large");
}
