//! Devices come into sight and leave it.

use kith_tests::host::{Host, pair};
use kith_tests::lab::Lab;
use kith_tests::wait;

use crate::net::{self, LONG, befriend, listen, network, says};

#[test]
fn devices_see_each_other_come_and_go() {
    let Some(lab) = Lab::new(3) else { return };
    let anna = Host::running_on(&lab, 1, "anna");
    let mut ear = listen(&anna);
    let bert = Host::running_on(&lab, 2, "bert");
    let seen = ear.event(says("peer:discovered", &bert.id()));
    assert_eq!((&seen["data"]["name"], &seen["data"]["state"]), (&"bert".into(), &"discovered".into()));

    let mut cleo = Host::running_on(&lab, 3, "cleo");
    let everybody = [&anna, &bert, &cleo];
    for host in everybody {
        for other in everybody.iter().filter(|other| other.name() != host.name()) {
            let (id, address) = (other.id(), other.address());
            host.wait_peer(&id, |peer| {
                let addresses = peer["addresses"].as_array().expect("addresses");
                peer["online"] == true && addresses.iter().any(|it| *it == address.as_str())
            });
            let shown = net::peer(host, &id).expect("kithctl shows it too");
            assert_eq!(shown["name"], other.name());
            assert!(shown["public_key"].is_null(), "nothing is known of a stranger's key: {shown}");
        }
        assert!(net::peer(host, &host.id()).is_none(), "nobody is a peer of itself");
    }
    // IPv6 is announced too.
    let port = cleo.address().rsplit(':').next().expect("a port").to_owned();
    anna.wait_peer("cleo", |peer| peer["addresses"].to_string().contains(&format!("[fd77::3]:{port}")));

    let id = cleo.id();
    assert_eq!(cleo.stop(), 0);
    ear.event(says("peer:lost", &id));
    assert_eq!(net::peer(&anna, &id), None);
    bert.wait_peer_gone(&id);
    cleo.start();
    ear.event(says("peer:discovered", &id));
    assert_eq!(cleo.id(), id, "a device stays who it is");
}

/// A trusted device that is killed, or whose cable is pulled, cannot say goodbye: it is lost when it does not answer any
/// more, and found again without anybody's help.
#[test]
fn what_vanishes_is_lost_and_comes_back() {
    let Some((lab, [anna, mut bert, cleo])) = network(["anna", "bert", "cleo"]) else { return };
    befriend(&anna, &bert);
    befriend(&anna, &cleo);
    let (bert_id, cleo_id) = (bert.id(), cleo.id());
    let kinds = ["events", "--json", "--kind", "peer:lost", "--kind", "peer:discovered"];
    let mut events = anna.ctl_spawn(&kinds);
    events.line(LONG).expect("the snapshot");

    bert.kill9();
    lab.cut(3);
    anna.wait_peer_gone(&bert_id);
    anna.wait_peer_gone(&cleo_id);
    let mut lost = [events.json_line(LONG), events.json_line(LONG)].map(|event| {
        assert_eq!((&event["kind"], &event["data"]["state"]), (&"peer:lost".into(), &"trusted".into()));
        event["data"]["id"].as_str().expect("an id").to_owned()
    });
    let mut expected = [bert_id.clone(), cleo_id.clone()];
    lost.sort();
    expected.sort();
    assert_eq!(lost, expected);
    let shown = net::peer(&anna, &bert_id).expect("a trusted device is listed when it is away, too");
    assert_eq!((&shown["state"], &shown["online"]), (&"trusted".into(), &false.into()));

    bert.start();
    lab.heal(3);
    anna.wait_peer(&bert_id, |peer| peer["online"] == true);
    anna.wait_peer(&cleo_id, |peer| peer["online"] == true);
    bert.ctl(&["send", "--text", "back again", "--to", "anna"]).ok();
    anna.ctl(&["send", "--text", "welcome", "--to", "cleo"]).ok();
}

/// Access points that drop multicast are common: who is paired finds the other where it was last.
#[test]
fn without_multicast_a_paired_device_is_found_at_its_last_address() {
    let Some((lab, [mut anna, mut bert])) = network(["anna", "bert"]) else { return };
    befriend(&anna, &bert);
    let (anna_id, bert_id) = (anna.id(), bert.id());
    assert_eq!((anna.stop(), bert.stop()), (0, 0));
    lab.mdrop(2);
    bert.start();
    anna.start();
    anna.wait_peer(&bert_id, |peer| peer["online"] == true);
    bert.wait_peer(&anna_id, |peer| peer["online"] == true);
    anna.ctl(&["send", "--text", "no multicast needed", "--to", "bert"]).ok();
    bert.ctl(&["send", "--text", "neither here", "--to", "anna"]).ok();
    assert_eq!(bert.stop(), 0);
    // Its goodbye does not get through either.
    anna.wait_peer_gone(&bert_id);
}

#[test]
fn another_address_is_seen_and_used() {
    let Some((lab, [anna, bert])) = network(["anna", "bert"]) else { return };
    anna.wait_peer("bert", |_| true);
    let port = bert.address().rsplit(':').next().expect("a port").to_owned();
    let mut ear = listen(&anna);
    lab.addr(2, "10.77.0.50/24");
    let moved = format!("10.77.0.50:{port}");
    let new = |peer: &serde_json::Value| {
        let addresses = peer["addresses"].as_array().expect("addresses");
        addresses.iter().any(|address| *address == moved.as_str())
    };
    let seen = anna.wait_peer("bert", new);
    ear.event(|event| event["kind"] == "peer:updated" && new(&event["data"]));
    let addresses = seen["addresses"].as_array().expect("addresses");
    let old = format!("10.77.0.2:{port}");
    let place = |wanted: &str| addresses.iter().position(|address| *address == wanted);
    assert!(place(&old).is_none_or(|old| place(&moved).is_some_and(|new| new < old)), "the newest first: {seen}");

    // By name, and so at the new address.
    lab.exec(2, &["ip", "-6", "addr", "flush", "dev", "eth0"]).ok();
    let mut window = bert.ctl_spawn(&["pair", "--json"]);
    let shown = window.json_line(LONG);
    anna.ctl(&["pair", "bert", "--pin", shown["pin"].as_str().expect("a PIN"), "--json"]).ok();
    window.finish(LONG).ok();
    let reached = || net::peer(&anna, "bert").is_some_and(|peer| peer["addresses"][0] == moved.as_str());
    wait::until_true("the new address to be the first", LONG, reached);
    pair(&anna, &bert);
}
