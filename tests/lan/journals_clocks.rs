//! G50 and G67: clocks that jump, clocks that are wrong for good, and a device that was away for 200 days.

use std::collections::BTreeSet;
use std::time::{SystemTime, UNIX_EPOCH};

use kith_tests::clock::Clock;
use kith_tests::host::Host;
use kith_tests::lab::Lab;
use kith_tests::{PATIENCE, wait};

use crate::journals::{
    DEFAULT, Ear, count, delete, entries, ids, join, live, put, put_all, recovered, settle, sync_with, wait_equal,
    wait_text,
};
use crate::net::LONG;

const HOUR: i64 = 3600;
const DAY: i64 = 24 * HOUR;

/// A lab with started devices whose clocks can be set.
fn network<const N: usize>(names: [&str; N]) -> Option<(Lab, [Host; N], Vec<Clock>)> {
    let lab = Lab::new(N)?;
    let mut at = 0;
    let mut hosts = names.map(|name| {
        at += 1;
        Host::on(&lab, at, name)
    });
    let clocks = hosts.iter_mut().map(Clock::of).collect::<Option<Vec<_>>>()?;
    hosts.iter_mut().for_each(Host::launch);
    hosts.iter_mut().for_each(Host::wait_ready);
    Some((lab, hosts, clocks))
}

/// Each goes on where the other one was: the last word is the last one, whatever the clocks say.
#[track_caller]
fn converse(ahead: &Host, behind: &Host, topic: &str) {
    put(ahead, "note", &format!("{topic}, first"));
    wait_text(behind, "note", &format!("{topic}, first"));
    put(behind, "note", &format!("{topic}, second"));
    put(behind, "again", topic);
    wait_text(ahead, "note", &format!("{topic}, second"));
    put(ahead, "note", &format!("{topic}, third"));
    put(ahead, "gone", topic);
    wait_text(behind, "note", &format!("{topic}, third"));
    wait_text(behind, "gone", topic);
    delete(behind, "gone");
    wait::until_true("a deletion to arrive", LONG, || entries(ahead)["gone"]["deleted"] == true);
    wait_equal(&[ahead, behind]);
}

/// What the daemon logs, and `kithctl sync status` remarks, about the clock of a device that is so far ahead.
#[track_caller]
fn assert_skew(host: &Host, peer: &Host, ahead: i64, logged: usize) {
    let (id, mut last) = (peer.id(), None);
    let seen = wait::attempt(PATIENCE, || {
        last = sync_with(host, &id)["skew_ms"].as_i64();
        // What a message takes on a busy machine.
        last.filter(|skew| (skew - ahead * 1000).abs() < 10_000)
    });
    assert!(seen.is_some(), "{} takes {} to be {last:?} ms ahead, not {ahead} s", host.name(), peer.name());
    let remarks = host.ctl(&["sync", "status"]).ok().stderr;
    let log = host.log()[logged..].to_owned();
    let way = if ahead < 0 { "behind" } else { "ahead" };
    let (a_word, a_loud_one) = (ahead.abs() > 300, ahead.abs() > DAY);
    assert_eq!(remarks.contains("its clock is") && remarks.contains(way), a_word, "{remarks}");
    assert_eq!(remarks.contains("WARNING"), a_loud_one, "{remarks}");
    // The log may be a moment behind.
    let told =
        |word: &str| wait::attempt(PATIENCE / 10, || host.log()[logged..].contains(word).then_some(())).is_some();
    if a_word {
        let word = if a_loud_one { "DIFFER BY MORE THAN A DAY" } else { "the clocks of the two devices differ" };
        assert!(told(word), "{word:?} is not in the log: {log}");
    } else {
        assert!(!log.to_lowercase().contains("the clocks of"), "{log}");
    }
}

#[test]
fn g50_clocks_that_jump() {
    let Some((_lab, mut hosts, clocks)) = network(["anna", "bert"]) else { return };
    join(&hosts[0], &hosts[1]);
    let ears = [Ear::at(&hosts[0]), Ear::at(&hosts[1])];
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("it is later").as_secs();
    let to_1970 = DAY - i64::try_from(now).expect("a time");
    for (round, ahead) in [365 * DAY, 0, to_1970, 0, 20, -20, 400, -400, -HOUR, HOUR].into_iter().enumerate() {
        let [anna, bert] = &hosts;
        settle(anna, bert);
        let logged = [anna.log().len(), bert.log().len()];
        clocks[0].set(ahead);
        let (first, second) = if ahead < 0 { (bert, anna) } else { (anna, bert) };
        converse(first, second, &format!("round {round}, {ahead} s ahead"));
        assert_skew(bert, anna, ahead, logged[1]);
        assert_skew(anna, bert, -ahead, logged[0]);
    }
    assert!(ears.iter().all(|ear| ear.told("entry:conflict").is_empty() && ear.told("sync:error").is_empty()));
    // For good: the last hour stays, through restarts, and the other one may be wrong, too.
    clocks[1].set(-HOUR);
    for host in &mut hosts {
        host.restart();
    }
    let [anna, bert] = &hosts;
    settle(anna, bert);
    converse(anna, bert, "for good");
    converse(bert, anna, "for good, the other way round");
    assert_eq!([count(anna, "history"), count(bert, "history")], [0, 0], "nothing was taken for a conflict");
    assert_eq!(live(anna), BTreeSet::from(["again", "note"].map(str::to_owned)));
}

/// Stops the daemons, sets their clocks, and starts them again.
#[track_caller]
fn travel(hosts: &mut [Host], clocks: &[Clock], ahead: i64) {
    for (host, clock) in hosts.iter_mut().zip(clocks) {
        if !host.has_ended() {
            assert_eq!(host.stop(), 0);
        }
        clock.set(ahead);
    }
    for host in hosts {
        host.start();
    }
}

/// Waits for the housekeeping to forget all deletions.
#[track_caller]
fn wait_forgotten(hosts: &[Host]) {
    for host in hosts {
        wait::until_true("the deletions to be forgotten", LONG, || count(host, "tombstones") == 0);
    }
}

#[test]
fn g67_a_device_that_was_away_for_200_days() {
    let Some((lab, mut hosts, clocks)) = network(["anna", "bert", "cleo"]) else { return };
    for (one, other) in [(0, 1), (1, 2), (0, 2)] {
        join(&hosts[one], &hosts[other]);
    }
    put_all(&hosts[0], ["kept".to_owned(), "old".to_owned()], b"as it was");
    put_all(&hosts[0], ids("doomed", 20), b"as it was");
    wait_equal(&[&hosts[0], &hosts[1], &hosts[2]]);
    delete(&hosts[1], "old");
    wait_equal(&[&hosts[0], &hosts[1], &hosts[2]]);
    // Everybody knows it and it is old: it is forgotten. And everybody has looked at who takes part.
    travel(&mut hosts, &clocks, 40 * DAY);
    wait_forgotten(&hosts);
    assert!(hosts.iter().all(|host| entries(host).len() == 21));

    // Cleo leaves, and writes something where nobody sees it.
    lab.cut(3);
    put(&hosts[2], "of cleo", "written on the way");
    put(&hosts[2], "doomed-0", "written on the way");
    assert_eq!(hosts[2].stop(), 0);
    ids("doomed", 20).for_each(|id| delete(&hosts[0], &id));
    wait_equal(&[&hosts[0], &hosts[1]]);
    travel(&mut hosts[..2], &clocks, 240 * DAY);
    wait_forgotten(&hosts[..2]);
    assert!(hosts[..2].iter().all(|host| entries(host).len() == 1));

    let ears = [Ear::at(&hosts[0]), Ear::at(&hosts[1])];
    clocks[2].set(240 * DAY);
    hosts[2].start();
    lab.heal(3);
    let [anna, bert, cleo] = &hosts;
    wait_text(anna, "of cleo", "written on the way");
    let all = [anna, bert, cleo];
    wait_equal(&all);
    for host in all {
        let expected = ["kept", "of cleo", "doomed-0"].map(str::to_owned);
        assert_eq!(live(host), BTreeSet::from(expected), "{}", host.name());
        wait_text(host, "doomed-0", "written on the way");
    }
    // What was deleted waits for somebody to decide, and is told of.
    let ids_of = |host: &Host| -> BTreeSet<String> {
        recovered(host).iter().map(|version| version["id"].as_str().expect("an id").to_owned()).collect()
    };
    let waiting: BTreeSet<_> = all.into_iter().flat_map(ids_of).collect();
    let doomed: BTreeSet<_> = ids("doomed", 20).skip(1).collect();
    assert_eq!(waiting, doomed);
    for (host, ear) in [anna, bert].into_iter().zip(&ears) {
        let told = || ear.told("entry:recovered").len();
        wait::attempt(PATIENCE, || (told() >= ids_of(host).len()).then_some(()));
        assert_eq!(told(), ids_of(host).len(), "{}", host.name());
    }
    let keeper = all.into_iter().find(|host| ids_of(host).contains("doomed-7")).expect("somebody has it");
    let version = recovered(keeper).into_iter().find(|it| it["id"] == "doomed-7").expect("it is listed");
    let hash = version["hash"].as_str().expect("a hash");
    keeper.ctl(&["entries", "recover", DEFAULT, "doomed-7", hash]).ok();
    for host in all {
        wait_text(host, "doomed-7", "as it was");
    }
    wait_equal(&all);
    assert_eq!(live(cleo).len(), 4);
}
