//! Links that break in the middle of a transfer, and heal: it goes on by itself, and what arrives is what was sent.

use kith_tests::tree;
use kith_tests::wait::nap;
use rustix::process::Signal;
use std::time::Duration;

use crate::net::{LONG, assert_same_file, befriend, begin, file, id_of, inbox, network, wait_middle};

/// Longer than a link may be silent before a connection is given up.
const TOO_LONG: Duration = Duration::from_secs(24);

/// Three receivers suffer at the same time: to one nothing passes any more and nobody is told; the cable of the next is
/// pulled; the daemon of the third stands still.
#[test]
fn silence_a_pulled_cable_and_a_stopped_daemon() {
    let names = ["anna", "blocked", "cut", "stopped"];
    let Some((lab, [anna, blocked, cut, stopped])) = network(names) else { return };
    let receivers = [&blocked, &cut, &stopped];
    for receiver in receivers {
        befriend(&anna, receiver);
    }
    let large = file(&anna, "large.bin", 60 << 20, 1);
    lab.rate(1, 24);
    let mut sending = receivers.map(|receiver| begin(&anna, &large, receiver.name()));
    let ids = [0, 1, 2].map(|at: usize| id_of(&mut sending[at]));
    for (receiver, id) in receivers.iter().zip(&ids) {
        wait_middle(receiver, id);
    }

    lab.block(2);
    lab.cut(3);
    stopped.signal(Signal::STOP);
    // The connections are given up: the transfers wait, none has failed.
    for id in &ids[..2] {
        anna.wait_transfer(id, "queued");
    }
    nap(TOO_LONG);
    lab.heal(2);
    lab.heal(3);
    stopped.signal(Signal::CONT);
    lab.rate(1, 0);

    for ((sending, receiver), id) in sending.into_iter().zip(receivers).zip(&ids) {
        assert_eq!(sending.finish(LONG).ok().json()["state"], "done", "{}", receiver.name());
        receiver.wait_transfer(id, "done");
        assert_same_file(&large, &inbox(receiver, "anna").join("large.bin"));
    }
}

/// A short cut is no reason to begin anew: the connection bears it.
#[test]
fn a_cable_that_is_pulled_for_a_moment() {
    let Some((lab, [anna, bert])) = network(["anna", "bert"]) else { return };
    befriend(&anna, &bert);
    let trip = anna.path("trip");
    tree::sample(&trip, 5).expect("the home is ours");
    tree::many(&trip.join("many"), 1000, 16 << 10, 6).expect("the home is ours");
    lab.rate(1, 8);
    let mut sending = begin(&anna, &trip, "bert");
    let id = id_of(&mut sending);
    wait_middle(&bert, &id);
    for _ in 0..3 {
        lab.cut(2);
        nap(Duration::from_millis(300));
        lab.heal(2);
        nap(Duration::from_millis(300));
    }
    lab.rate(1, 0);
    assert_eq!(sending.finish(LONG).ok().json()["state"], "done");
    tree::assert_same(&trip, &inbox(&bert, "anna").join("trip"));
}

/// First the receiver, then the sender gets another address, and has none of the old ones any more.
#[test]
fn other_addresses_in_the_middle() {
    let Some((lab, [anna, bert])) = network(["anna", "bert"]) else { return };
    befriend(&anna, &bert);
    let large = file(&anna, "large.bin", 100 << 20, 1);
    lab.rate(1, 20);
    let mut sending = begin(&anna, &large, "bert");
    let id = id_of(&mut sending);
    for (host, cidr) in [(2, "10.77.0.50/24"), (1, "10.77.0.60/24")] {
        wait_middle(&bert, &id);
        let before = bert.transfer(&id).expect("it is known")["bytes_done"].as_u64().expect("bytes");
        let no_ipv6 = "echo 1 > /proc/sys/net/ipv6/conf/eth0/disable_ipv6";
        lab.exec(host, &["sh", "-c", no_ipv6]).ok();
        lab.addr(host, cidr);
        kith_tests::wait::until_true("the transfer to go on", LONG, || {
            let now = bert.transfer(&id).expect("it is known");
            now["state"] == "active" && now["bytes_done"].as_u64() > Some(before + (8 << 20)) || now["state"] == "done"
        });
    }
    lab.rate(1, 0);
    assert_eq!(sending.finish(LONG).ok().json()["state"], "done");
    assert_same_file(&large, &inbox(&bert, "anna").join("large.bin"));
}
