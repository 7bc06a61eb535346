//! Journals become equal by themselves: after a pairing, a cable that was pulled, a restart, a change.

use std::time::Instant;

use kith_tests::PATIENCE;
use kith_tests::host::{Host, pair};
use kith_tests::wait::{attempt, until_true};

use crate::journals::{Ear, count, entries, join, journal, number, put, settle, wait_equal, wait_text};
use crate::net::network;

/// That one of the two began a session for this reason, and it ended well.
#[track_caller]
fn assert_because(ears: &[Ear], trigger: &str) {
    let told = || ears.iter().flat_map(|ear| ear.told("sync:complete")).collect::<Vec<_>>();
    let found = attempt(PATIENCE, || told().iter().any(|session| session["trigger"] == trigger).then_some(()));
    assert!(found.is_some(), "nothing was {trigger}: {:#?}", told());
}

#[test]
fn equal_again_without_a_command() {
    let Some((lab, [mut anna, mut bert])) = network(["anna", "bert"]) else { return };
    put(&anna, "annas", "before they met");
    put(&bert, "berts", "before they met");
    let ears = [Ear::at(&anna), Ear::at(&bert)];
    pair(&anna, &bert);
    assert_eq!(wait_equal(&[&anna, &bert]).len(), 2);
    settle(&anna, &bert);
    assert_because(&ears, "paired");
    for (host, other) in [(&anna, &bert), (&bert, &anna)] {
        let shown = journal(host);
        assert_eq!((&shown["known_by"], &shown["members"][0]["name"]), (&1.into(), &other.name().into()), "{shown}");
    }

    // Twice: the devices notice that they cannot see each other, or they write at once.
    for noticed in [true, false] {
        let ears = [Ear::at(&anna), Ear::at(&bert)];
        let ids = [anna.id(), bert.id()];
        lab.cut(2);
        if noticed {
            anna.wait_peer_gone(&ids[1]);
            bert.wait_peer_gone(&ids[0]);
        }
        let round = format!("noticed: {noticed}");
        put(&anna, &format!("anna-{noticed}"), &round);
        put(&bert, &format!("bert-{noticed}"), &round);
        put(&anna, "annas", &round);
        assert_eq!(entries(&bert).get("annas").map(|it| it["hash"] == entries(&anna)["annas"]["hash"]), Some(false));
        lab.heal(2);
        wait_equal(&[&anna, &bert]);
        if noticed {
            assert_because(&ears, "discovered");
        }
    }
    assert_eq!(count(&bert, "entries"), 6);

    missed(&mut anna, &bert);
    missed(&mut bert, &anna);
    wait_equal(&[&anna, &bert]);
}

/// One is not running while the other one writes.
#[track_caller]
fn missed(away: &mut Host, here: &Host) {
    assert_eq!(away.stop(), 0);
    let id = format!("{} was away", away.name());
    put(here, &id, "news");
    away.start();
    wait_text(away, &id, "news");
}

#[test]
fn a_change_is_brought_by_one_session() {
    let Some((_lab, [anna, bert])) = network(["anna", "bert"]) else { return };
    join(&anna, &bert);
    // A pairing may be followed by more than one session, and the last of them may bring this.
    put(&anna, "first", "news");
    wait_text(&bert, "first", "news");
    settle(&anna, &bert);
    let hosts = [&anna, &bert];
    let ears = [Ear::at(&anna), Ear::at(&bert)];
    for round in 0..6 {
        let (from, to) = (round % 2, 1 - round % 2);
        let done = |of: usize| ears[of].moved().len();
        let text = format!("round {round}");
        let written = Instant::now();
        put(hosts[from], "news", &text);
        wait_text(hosts[to], "news", &text);
        eprintln!("{text}: from put to arrival {:?}", written.elapsed());
        until_true("both to tell of it", PATIENCE, || done(0) > round && done(1) > round);
        settle(&anna, &bert);
        let sessions = [from, to].map(|of| {
            let moved = ears[of].moved();
            assert_eq!(moved.len(), round + 1, "one session a change: {moved:#?}");
            moved[round].clone()
        });
        assert_eq!((&sessions[0]["trigger"], &sessions[1]["trigger"]), (&"changed".into(), &"called".into()));
        assert_eq!((number(&sessions[0], "sent"), number(&sessions[0], "received")), (1, 0), "{sessions:#?}");
        assert_eq!((number(&sessions[1], "sent"), number(&sessions[1], "received")), (0, 1), "{sessions:#?}");
        for ear in &ears {
            assert!(ear.told("sync:error").is_empty() && ear.told("entry:conflict").is_empty(), "{:#?}", ear.heard());
        }
    }
}

/// Two devices never meet; the one in between carries what they write.
#[test]
fn what_two_never_tell_each_other_the_third_one_carries() {
    let Some((lab, [mut anna, bert, mut cleo])) = network(["anna", "bert", "cleo"]) else { return };
    for (one, other) in [(&anna, &bert), (&bert, &cleo), (&anna, &cleo)] {
        join(one, other);
    }
    lab.split(1, 3);
    let ids = [anna.id(), cleo.id()];
    anna.wait_peer_gone(&ids[1]);
    cleo.wait_peer_gone(&ids[0]);
    // All at the same time.
    put(&anna, "of-anna", "through bert");
    wait_text(&cleo, "of-anna", "through bert");
    put(&cleo, "of-cleo", "through bert");
    wait_text(&anna, "of-cleo", "through bert");
    wait_equal(&[&anna, &bert, &cleo]);

    // Never two of them.
    assert_eq!(cleo.stop(), 0);
    put(&anna, "of-anna-2", "one after the other");
    wait_text(&bert, "of-anna-2", "one after the other");
    assert_eq!(anna.stop(), 0);
    cleo.start();
    wait_text(&cleo, "of-anna-2", "one after the other");
    put(&cleo, "of-cleo-2", "one after the other");
    wait_text(&bert, "of-cleo-2", "one after the other");
    assert_eq!(cleo.stop(), 0);
    anna.start();
    wait_text(&anna, "of-cleo-2", "one after the other");
    cleo.start();
    assert_eq!(wait_equal(&[&anna, &bert, &cleo]).len(), 4);
    assert!([&anna, &bert, &cleo].iter().all(|host| count(host, "history") == 0));
}
