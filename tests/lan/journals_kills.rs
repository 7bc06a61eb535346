//! G46 and G64: sessions that are killed at a random moment, and such that begin on both sides at once.

use std::collections::BTreeSet;
use std::thread;
use std::time::Duration;

use kith_tests::PATIENCE;
use kith_tests::host::Host;
use kith_tests::random::Random;
use kith_tests::wait::{self, attempt, nap};
use serde_json::json;

use crate::journals::{
    DEFAULT, Ear, base64, count, ids, join, live, number, put, put_all, rounds, settle, sync_with, wait_equal,
};
use crate::net::{LONG, network};

/// A body's length.
const BODY: u64 = 2048;
/// What a version takes in a frame beside its body, and each session beside them, is less than this for each of them.
const AROUND: u64 = 256;
/// One frame that came a second time, and one that came and was not taken any more.
const AGAIN: u64 = 2 * kith_proto::limits::FRAME_SYNC as u64;

/// Writes entries, one after the other, until the daemon is gone; those that were acknowledged.
fn write_until_killed(host: &Host, round: usize) -> thread::JoinHandle<Vec<String>> {
    let (mut door, name) = (host.door(), host.name().to_owned());
    thread::spawn(move || {
        let mut written = Vec::new();
        for number in 0.. {
            let id = format!("{name}-{round}-{number}");
            let params = json!({"journal": DEFAULT, "id": id, "body": base64(b"acknowledged")});
            let request = json!({"jsonrpc": "2.0", "id": number, "method": "entries.put", "params": params});
            if !door.write(format!("{request}\n").as_bytes()) {
                break;
            }
            match door.read() {
                Some(answer) => assert!(answer["error"].is_null(), "{answer}"),
                None => break,
            }
            written.push(id);
            nap(Duration::from_millis(2));
        }
        written
    })
}

/// How many entries a device has now that its peer is gone; and how many it took, and in how many bytes, in all sessions
/// that it told of. When it had `had` entries it had told of `told`.
#[track_caller]
fn taken(host: &Host, peer: &str, ear: &Ear, had: u64, told: u64) -> (u64, [u64; 2]) {
    wait::until_true("a session to end", LONG, || sync_with(host, peer)["state"] != "running");
    let now = count(host, "entries");
    let sums = || {
        let ended = [ear.told("sync:complete"), ear.told("sync:error")].concat();
        let sums = ["received", "bytes"].map(|key| ended.iter().map(|session| number(session, key)).sum::<u64>());
        (ear.told("sync:started").len() <= ended.len() && sums[0] >= told + now - had).then_some(sums)
    };
    (now, wait::until("the sessions that brought them", LONG, sums))
}

/// Anna gives, Bert takes; one of them is killed. Nothing that either of them acknowledged is lost, nothing is taken a
/// second time, and no more than a frame is sent a second time.
#[test]
fn g46_killed_while_ten_thousand_entries_are_synced() {
    const ENTRIES: usize = 10_000;
    let mut random = Random::printed("ten thousand entries");
    let Some((lab, mut hosts)) = network(["anna", "bert"]) else { return };
    join(&hosts[0], &hosts[1]);
    let anna_id = hosts[0].id();
    let mut acknowledged = BTreeSet::new();
    let (mut written, mut most, mut kills) = (0, 0, [0, 0]);
    let last = rounds(20, 200);
    let mut round = 0;
    while round < last {
        // Written while nobody can see it: there is a session that has to bring it.
        lab.block(2);
        let batch: Vec<_> = ids(&format!("batch-{written}"), ENTRIES).collect();
        let begun = std::time::Instant::now();
        put_all(&hosts[0], batch.iter().cloned(), &random.bytes(BODY as usize));
        eprintln!("{ENTRIES} entries are written after {:?}", begun.elapsed());
        acknowledged.extend(batch);
        written += ENTRIES;
        lab.rate(1, 20);
        let mut ear = Ear::at(&hosts[1]);
        let mut known = count(&hosts[1], "entries");
        let mut told = [0, 0];
        lab.heal(2);
        while round < last {
            // Every other time the kill comes before anything has moved.
            let moving = random.within(0..2) > 0;
            let counts = || [&hosts[0], &hosts[1]].map(|host| count(host, "entries"));
            let begun = attempt(LONG, || match counts() {
                [whole, now] if now == whole => Some(None),
                [whole, now] => (now > known || !moving).then_some(Some(whole)),
            });
            let Some(begun) = begun else { panic!("nothing arrives: {}", sync_with(&hosts[1], &anna_id)) };
            let Some(whole) = begun else { break };
            round += 1;
            let victim = random.within(0..2) as usize;
            let writing = write_until_killed(&hosts[victim], round);
            nap(Duration::from_millis(random.within(10..500)));
            hosts[victim].kill9();
            kills[victim] += 1;
            acknowledged.extend(writing.join().expect("the writer saw what it expected"));
            if victim == 0 {
                // Bert tells of every session that Anna did not survive.
                let (now, taken) = taken(&hosts[1], &anna_id, &ear, known, told[0]);
                let ([received, bytes], news) = ([0, 1].map(|at| taken[at] - told[at]), now - known);
                assert_eq!(received, news, "each is taken once");
                let extra = bytes.saturating_sub(news * (BODY + AROUND));
                eprintln!("round {round}: anna is killed, bert has {now} of {whole}; {extra} bytes for nothing");
                assert!(extra <= AGAIN, "{bytes} bytes for {news} entries: more than a frame came twice");
                most = most.max(extra);
                (known, told) = (now, taken);
            } else {
                lab.block(2);
                hosts[1].start();
                (known, told) = (count(&hosts[1], "entries"), [0, 0]);
                eprintln!("round {round}: bert is killed and has {known} of {whole}");
                ear = Ear::at(&hosts[1]);
                lab.heal(2);
                continue;
            }
            hosts[victim].start();
        }
        lab.rate(1, 0);
        wait_equal(&[&hosts[0], &hosts[1]]);
    }
    let now = live(&hosts[1]);
    let lost: Vec<_> = acknowledged.difference(&now).collect();
    assert!(lost.is_empty(), "{} acknowledged entries are lost: {:?}", lost.len(), &lost[..lost.len().min(10)]);
    eprintln!("anna was killed {} times, bert {}; at most {most} bytes for nothing", kills[0], kills[1]);
    // What is kept of the entries is what they are.
    for host in &hosts {
        let doctor = host.door().call("daemon.doctor", json!({}));
        let checks = doctor["checks"].as_array().expect("checks");
        let found = checks.iter().find(|check| check["name"] == "journals").expect("a check of the journals");
        assert_eq!(found["ok"], true, "{found}");
    }
    settle(&hosts[0], &hosts[1]);
}

#[test]
fn g64_both_begin_at_once() {
    let Some((_lab, [anna, bert])) = network(["anna", "bert"]) else { return };
    join(&anna, &bert);
    settle(&anna, &bert);
    let hosts = [&anna, &bert];
    let ears = hosts.map(Ear::at);
    let mut both = 0;
    for round in 0..rounds(100, 1000) {
        for host in hosts {
            put(host, host.name(), &format!("round {round}"));
        }
        let before = ears.iter().map(|ear| ear.told("sync:complete").len()).collect::<Vec<_>>();
        let asked = [anna.ctl_spawn(&["sync", "bert", "--json"]), bert.ctl_spawn(&["sync", "anna", "--json"])];
        for asked in asked {
            asked.finish(PATIENCE).ok();
        }
        wait_equal(&hosts);
        let sessions = || {
            let told = ears.iter().map(|ear| ear.told("sync:complete").len());
            told.zip(&before).map(|(now, before)| now - before).collect::<Vec<_>>()
        };
        let told = attempt(PATIENCE, || sessions().iter().all(|sessions| *sessions > 0).then_some(()));
        assert!(told.is_some(), "round {round}: {:?}", sessions());
        let sessions = sessions();
        both += usize::from(sessions == [1, 1]);
    }
    eprintln!("in {both} rounds one session was enough for both");
    for ear in &ears {
        assert!(ear.told("sync:error").is_empty(), "{:#?}", ear.told("sync:error"));
    }
    assert_eq!(live(&anna).len(), 2);
    assert_eq!([count(&anna, "history"), count(&bert, "history")], [0, 0]);
}
