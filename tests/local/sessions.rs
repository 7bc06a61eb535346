//! Several connections and several peers: what one of them does is no business of another's.

use std::collections::BTreeSet;
use std::fs;

use kith_tests::fault::Weather;
use kith_tests::host::{self, Host};
use kith_tests::{PATIENCE, wait};
use serde_json::{Value, json};

use crate::raw::{Key, Wire};
use crate::stage::{CHUNK, Stage, digest, item};
use crate::support::{assert_same_file, friends, large, names, parts, relayed, send_later, slow, text, wait_bytes};

#[test]
fn e36_an_answer_to_one_offer_is_none_to_another() {
    let mut stage = Stage::new();
    stage.bert.ctl(&["trust", "policy", "anna", "--offers", "ask"]).ok();
    let (wire, id) = stage.offer(&[item(0, "harmless.txt", 3)]);
    wait::until_true("the offer", PATIENCE, || stage.bert.transfer(&id).is_some_and(|it| it["state"] == "offered"));
    drop(wire);
    stage.bert.ctl(&["inbox", "accept", &id, "--to", text(&stage.into)]).ok();
    for items in [
        vec![item(0, "evil.sh", 3)],
        vec![item(0, "harmless.txt", 3), item(1, ".bashrc", 3)],
        vec![json!({"index": 0, "path": "harmless.txt", "kind": "symlink", "target": "x"})],
    ] {
        let mut wire = stage.offer_as(&id, &items);
        wire.say(&json!({"type": "file", "index": 0, "offset": 0}));
        wire.data(b"abc");
        wire.say(&json!({"type": "end", "digest": digest(&[b"abc"]), "size": 3}));
        wire.say(&json!({"type": "done"}));
        let (heard, _) = wire.rest();
        assert!(heard.iter().all(|it| it["type"] == "reject"), "{items:?}: {heard:?}");
        stage.assert_nothing("another offer");
    }
    // The one that was answered is still good, also when the file has grown meanwhile.
    let mut wire = stage.offer_as(&id, &[item(0, "harmless.txt", 4)]);
    assert_eq!(wire.answer().expect("an answer")["type"], "accept");
    wire.say(&json!({"type": "file", "index": 0, "offset": 0}));
    wire.data(b"abcd");
    wire.say(&json!({"type": "end", "digest": digest(&[b"abcd"]), "size": 4}));
    wire.say(&json!({"type": "done"}));
    assert_eq!(wire.rest().0.last().map(|it| it["type"].clone()), Some(json!("done")));
    assert_eq!(names(&stage.into), ["harmless.txt"]);
}

#[test]
fn g46_killed_while_the_manifest_comes_it_takes_the_offer_again() {
    let mut stage = Stage::new();
    let id = stage.id();
    let offer = json!({"type": "offer", "v": 1, "transfer": id, "title": "t", "files": 2, "bytes": 2});
    let mut wire = Wire::send(&stage.bert, &stage.key);
    wire.say(&offer);
    wire.say(&json!({"type": "manifest", "items": [item(0, "a", 1)]}));
    wait::until_true("the first page", PATIENCE, || stage.bert.transfer(&id).is_some());
    stage.bert.kill9();
    stage.bert.start();
    let mut wire = stage.offer_as(&id, &[item(0, "a", 1), item(1, "b", 1)]);
    assert_eq!(wire.answer().expect("an answer")["type"], "accept");
}

#[test]
fn e39_only_its_own_sender_may_call_a_transfer_off() {
    let (anna, bert, into, relay) = relayed();
    let mut carl = Host::running("carl");
    host::pair(&bert, &carl);
    carl.stop();
    let key = Key::taken_from(&carl);
    let film = large(&anna, "film.bin", 60);
    relay.set(slow());
    let id = send_later(&anna, &film, "bert");
    wait_bytes(&bert, &id, 0);
    let mut wire = Wire::send(&bert, &key);
    wire.say(&json!({"type": "cancel", "transfer": id}));
    wire.rest();
    relay.set(Weather::default());
    anna.wait_transfer(&id, "done");
    assert_same_file(&film, &into.join("film.bin"));
}

#[test]
fn e41_the_part_of_another_peer_is_not_touched() {
    let (mut anna, bert, into, relay) = relayed();
    let mut carl = Host::running("carl");
    host::pair(&bert, &carl);
    bert.ctl(&["trust", "policy", "carl", "--offers", "auto", "--dir", text(&into)]).ok();
    carl.stop();
    let key = Key::taken_from(&carl);
    const SIZE: usize = 60 << 20;
    let film = large(&anna, "film.bin", 60);
    relay.set(slow());
    let id = send_later(&anna, &film, "bert");
    wait_bytes(&bert, &id, 4 << 20);
    anna.kill9();
    relay.set(Weather::default());
    wait::until_true("the session to end", PATIENCE, || bert.transfer(&id).is_some_and(|it| it["state"] == "queued"));
    // Carl knows the id, the name and the place; and sends other bytes under them.
    let mut wire = Wire::send(&bert, &key);
    wire.say(&json!({"type": "offer", "v": 1, "transfer": id, "title": "t", "files": 1, "bytes": SIZE}));
    wire.say(&json!({"type": "manifest", "items": [item(0, "film.bin", SIZE)]}));
    assert_eq!(wire.answer().expect("an answer")["have"], Value::Null, "nothing of Anna's is Carl's");
    wire.say(&json!({"type": "file", "index": 0, "offset": 0}));
    for _ in 0..16 {
        wire.data(&vec![6; CHUNK]);
    }
    drop(wire);
    anna.start();
    anna.wait_transfer(&id, "done");
    assert_same_file(&film, &into.join("film.bin"));
}

#[test]
fn c22_offers_that_wait_are_bounded() {
    let (mut anna, bert) = friends();
    anna.stop();
    let key = Key::taken_from(&anna);
    let bound = kith_proto::limits::OFFERS_WAITING;
    for n in 0..bound + 3 {
        let mut wire = Wire::send(&bert, &key);
        let id = format!("0192cccc-0000-7000-8000-{n:012x}");
        wire.say(&json!({"type": "offer", "v": 1, "transfer": id, "title": "t", "files": 0, "text": "x"}));
        let heard = wire.hear().expect("an answer");
        if n < bound {
            assert_eq!(heard["type"], "waiting", "{n}");
        } else {
            assert_eq!((&heard["type"], &heard["reason"]), (&json!("reject"), &json!("busy")), "{n}");
        }
    }
    assert_eq!(bert.status()["inbox"], bound);
}

#[test]
fn c22_one_who_offers_and_vanishes_holds_up_nobody() {
    let (mut anna, bert) = friends();
    let carl = Host::running("carl");
    host::pair(&bert, &carl);
    let into = bert.accept_all_from(&carl);
    anna.stop();
    let key = Key::taken_from(&anna);
    // Half a frame, half a manifest, an offer that is not answered, an offer that is accepted and never comes.
    let mut held = Vec::new();
    for n in 0..20 {
        let mut wire = Wire::send(&bert, &key);
        let id = format!("0192bbbb-0000-7000-8000-{n:012x}");
        let offer = json!({"type": "offer", "v": 1, "transfer": id, "title": "t", "files": 2, "bytes": 2});
        match n % 4 {
            0 => wire.bytes(&[0, 0, 1]),
            1 => wire.say(&offer),
            2 => {
                wire.say(&offer);
                wire.say(&json!({"type": "manifest", "items": [item(0, "a", 1)]}));
            }
            _ => {
                wire.say(&offer);
                wire.say(&json!({"type": "manifest", "items": [item(0, "a", 1), item(1, "b", 1)]}));
            }
        }
        held.push(wire);
    }
    let letter = crate::support::file(&carl, "letter", 300_000);
    for _ in 0..3 {
        crate::support::send(&carl, &letter, &bert);
    }
    assert_same_file(&letter, &into.join("letter"));
    assert!(bert.status()["id"].is_string());
    drop(held);
}

#[test]
fn e36_a_second_connection_for_a_transfer_waits_until_the_first_has_let_go() {
    let mut stage = Stage::new();
    let files: Vec<Value> = (0..150).map(|n| item(n, &format!("album/{n:03}"), 3000)).collect();
    let content = |n: u64| vec![n as u8; 3000];
    let send = |wire: &mut Wire, n: u64| {
        let content = content(n);
        wire.say(&json!({"type": "file", "index": n, "offset": 0}));
        wire.data(&content);
        wire.say(&json!({"type": "end", "digest": digest(&[&content]), "size": 3000}));
    };
    for round in 0..12 {
        let (mut first, id) = stage.offer(&files);
        assert_eq!(first.answer().expect("an answer")["type"], "accept");
        (0..150).for_each(|n| send(&mut first, n));
        // The same device again, as after a lost link, while the first connection is still being worked on.
        // Where the disk takes its time, it is sent away and comes again.
        let (mut second, mut answer) = wait::until("an answer", PATIENCE, || {
            let mut second = stage.offer_as(&id, &files);
            second.answer().ok().map(|answer| (second, answer))
        });
        let mut there = BTreeSet::new();
        loop {
            let skip = answer["skip"].as_array().into_iter().flatten().filter_map(Value::as_u64);
            let same = answer["same"].as_array().into_iter().flatten().filter_map(|same| same["index"].as_u64());
            there.extend(skip.chain(same));
            if answer["more"] == false {
                break;
            }
            answer = second.answer().expect("the rest of the answer");
        }
        (0..150).filter(|n| !there.contains(n)).for_each(|n| send(&mut second, n));
        for n in there {
            // What is there under its name is whole from the first moment on.
            let found = fs::read(stage.into.join(format!("album/{n:03}"))).expect("it is there");
            assert!(found == content(n), "round {round}: {n} is torn");
        }
        drop((first, second));
        stage.bert.ctl(&["transfers", "cancel", &id]);
        wait::until_true("the writers to end", PATIENCE, || parts(&stage.into).is_empty());
        for name in names(&stage.into.join("album")) {
            let found = fs::read(stage.into.join("album").join(&name)).expect("it is there");
            let n: u64 = name.parse().expect("one of ours, and no twin");
            assert!(found == content(n), "round {round}: {name} is torn");
        }
        drop(fs::remove_dir_all(stage.into.join("album")));
    }
}
