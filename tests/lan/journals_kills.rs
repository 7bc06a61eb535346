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

/// Rows of one frame.
const FRAME: u64 = kith_proto::limits::SYNC_ROWS as u64;

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

/// What a device took in all sessions that it told of; none is under way any more.
#[track_caller]
fn taken(host: &Host, peer: &str, ear: &Ear) -> u64 {
    let ended = || {
        let heard = ear.heard();
        let ended: Vec<_> = heard.into_iter().filter(|it| it["kind"] != "sync:started").collect();
        (sync_with(host, peer)["state"] != "running" && ear.told("sync:started").len() <= ended.len()).then_some(ended)
    };
    let ended = wait::until("a session to end", LONG, ended);
    ended.iter().filter(|it| it["kind"] != "entry:conflict").map(|it| number(&it["data"], "received")).sum()
}

/// Anna gives, Bert takes; one of them is killed. Nothing that either of them acknowledged is lost, and nothing that was
/// taken is taken a second time but what was in one frame.
#[test]
fn g46_killed_while_ten_thousand_entries_are_synced() {
    const ENTRIES: usize = 10_000;
    let mut random = Random::printed("ten thousand entries");
    let Some((lab, mut hosts)) = network(["anna", "bert"]) else { return };
    join(&hosts[0], &hosts[1]);
    let (anna_id, bert_id) = (hosts[0].id(), hosts[1].id());
    let mut acknowledged = BTreeSet::new();
    let (mut written, mut twice, mut kills) = (0, 0, [0, 0]);
    let last = rounds(20, 200);
    let mut round = 0;
    while round < last {
        // Written while nobody can see it: there is a session that has to bring it.
        lab.block(2);
        hosts[0].wait_peer_gone(&bert_id);
        hosts[1].wait_peer_gone(&anna_id);
        let batch: Vec<_> = ids(&format!("batch-{written}"), ENTRIES).collect();
        put_all(&hosts[0], batch.iter().cloned(), &random.bytes(300));
        acknowledged.extend(batch);
        written += ENTRIES;
        lab.rate(1, 4);
        let mut ear = Ear::at(&hosts[1]);
        let mut known = count(&hosts[1], "entries");
        let mut told = 0;
        lab.heal(2);
        while round < last {
            let whole = count(&hosts[0], "entries");
            let begun = attempt(LONG, || match count(&hosts[1], "entries") {
                now if now == whole => Some(false),
                now => (now > known).then_some(true),
            });
            assert!(begun.is_some(), "nothing arrives: {}", sync_with(&hosts[1], &anna_id));
            if begun == Some(false) {
                break;
            }
            round += 1;
            let victim = random.within(0..2) as usize;
            let writing = write_until_killed(&hosts[victim], round);
            nap(Duration::from_millis(random.within(10..500)));
            hosts[victim].kill9();
            kills[victim] += 1;
            acknowledged.extend(writing.join().expect("the writer saw what it expected"));
            if victim == 0 {
                // Bert tells of every session that Anna did not survive.
                let (taken, now) = (taken(&hosts[1], &anna_id, &ear), count(&hosts[1], "entries"));
                let again = (taken - told).checked_sub(now - known).expect("what is there was taken");
                assert!(again <= FRAME, "{again} entries came twice");
                eprintln!("round {round}: anna is killed, bert has {now} of {whole}, {again} came twice");
                twice += again;
                (known, told) = (now, taken);
            } else {
                lab.block(2);
                hosts[1].start();
                (known, told) = (count(&hosts[1], "entries"), 0);
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
    eprintln!("anna was killed {} times, bert {}; {twice} of {} came twice", kills[0], kills[1], now.len());
    assert!(twice <= FRAME, "{twice} entries came twice");
    // What is kept of the entries is what they are.
    for host in &hosts {
        let doctor = host.ctl(&["doctor", "--json"]);
        assert!(!doctor.stdout.contains("\"fail"), "{}", doctor.stdout);
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
        let sessions: Vec<_> =
            ears.iter().zip(&before).map(|(ear, seen)| ear.told("sync:complete").len() - seen).collect();
        assert!(sessions.iter().all(|sessions| *sessions > 0), "round {round}: {sessions:?}");
        both += usize::from(sessions == [1, 1]);
    }
    eprintln!("in {both} rounds one session was enough for both");
    for ear in &ears {
        assert!(ear.told("sync:error").is_empty(), "{:#?}", ear.told("sync:error"));
    }
    assert_eq!(live(&anna).len(), 2);
    assert_eq!([count(&anna, "history"), count(&bert, "history")], [0, 0]);
}
