//! Credentials between hosts that do not know each other, under a short code: `kithctl secrets` and `kithctl dbs` with
//! real broadcast.

use kith_tests::host::Host;
use kith_tests::lab::Lab;
use kith_tests::process::{Output, Running};
use kith_tests::{PATIENCE, wait};
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::net::{network, network_and_one};

/// An Ed25519 key of no use (RFC 8410 §10.3).
const PEM: &str = "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEINTuctv5E1hK1bbY8fdp+K06/nwoy/HU++CXqI9EdVhC\n\
    -----END PRIVATE KEY-----\n";

/// Puts a secret into the vault of `host`.
#[track_caller]
pub fn plant(host: &Host, name: &str, kind: &str, value: &str) {
    host.door().call("secrets.add", json!({ "name": name, "type": kind, "value": value }));
}

/// A database with its three secrets, whose values all hold `mark`.
#[track_caller]
pub fn photos(host: &Host, mark: &str) {
    let s3 = json!({ "region": "eu", "accessKeyId": "AK", "secretAccessKey": mark }).to_string();
    plant(host, "bucket", "s3-credentials", &s3);
    plant(host, "key", "encryption-key", PEM);
    plant(host, "geo", "api-key", mark);
    let links = ["--s3", "bucket", "--encryption", "key", "--geocoding", "geo"];
    host.ctl(&[&["dbs", "add", "--name", "Photos", "--path", "s3:b/photos"], &links[..]].concat()).ok();
}

/// Begins to send, and the code that is shown.
#[track_caller]
pub fn send(host: &Host, words: &[&str]) -> (Running, String) {
    let mut sending = host.ctl_spawn(&[words, &["--json"]].concat());
    let shown = sending.json_line(PATIENCE);
    let code = shown["code"].as_str().unwrap_or_else(|| panic!("no code: {shown}")).to_owned();
    assert!(shown["expires"].is_string(), "{shown}");
    (sending, code)
}

/// Receives under a code.
#[track_caller]
pub fn receive(host: &Host, what: &str, code: &str) -> Running {
    host.ctl_spawn(&[what, "receive", "--code", code, "--yes", "--json"])
}

/// The state in which a share ended, as `kithctl … --json` says last.
#[track_caller]
fn state(output: &Output) -> String {
    output.json()["state"].as_str().unwrap_or_default().to_owned()
}

/// Another code than this one.
pub fn wrong(code: &str) -> String {
    let number: u32 = code.parse().expect("digits");
    format!("{:04}", (number + 1) % 10_000)
}

/// The newest share of a device.
#[track_caller]
pub fn share(host: &Host) -> Value {
    host.door().call("shares.list", json!({}))["shares"][0].clone()
}

#[track_caller]
pub fn wait_state(host: &Host, state: &str) -> Value {
    wait::until(state, 2 * PATIENCE, || Some(share(host)).filter(|share| share["state"] == state))
}

#[test]
fn a_new_machine_gets_a_database_with_its_secrets_by_four_digits() {
    const MARK: &str = "MARKEDSECRETVALUE";
    let Some((lab, [old, new])) = network_and_one(["old", "new"]) else { return };
    photos(&old, MARK);
    // A third host hears everything that is said.
    lab.hub();
    let mut command = lab.command(3, env!("CARGO_BIN_EXE_probe"));
    let mut tap = Running::spawn(command.arg("tap"));
    assert_eq!(tap.line(PATIENCE).as_deref(), Some("ready"));

    let (sending, code) = send(&old, &["dbs", "send", "photos"]);
    assert_eq!(code.len(), 4);
    let saved = receive(&new, "dbs", &code).finish(2 * PATIENCE).ok().json();
    assert_eq!(saved["databases"][0]["action"], "saved");
    assert_eq!(saved["secrets"].as_array().map(Vec::len), Some(3));
    assert_eq!(state(&sending.finish(PATIENCE).ok()), "saved");

    for name in ["bucket", "key", "geo"] {
        let [here, there] = [&old, &new].map(|host| host.door().call("secrets.view", json!({ "name": name })));
        assert_eq!((&here["value"], &here["type"]), (&there["value"], &there["type"]));
    }
    let database = new.door().call("databases.view", json!({ "name": "Photos" }));
    assert_eq!(
        (&database["s3"], &database["encryption"], &database["geocoding"]),
        (&json!("bucket"), &json!("key"), &json!("geo"))
    );
    for host in [&old, &new] {
        assert!(!host.log().contains(MARK) && !host.log().contains(&code), "neither values nor codes are logged");
    }
    let heard = tap.said();
    let hex = |text: &str| text.bytes().map(|byte| format!("{byte:02x}")).collect::<String>();
    assert!(heard.contains(&hex("KITH_RECV:1:")), "the tap hears what is said");
    assert!(!heard.contains(&hex(MARK)) && !heard.contains(&hex("bucket")), "nothing of it is on the wire");
}

#[test]
fn two_networks_and_no_way_out() {
    let Some(lab) = Lab::new(2) else { return };
    // A second network between the two, on interfaces of their own; the first one is gone. Nobody has a default route.
    for i in 1..=2 {
        let other = 3 - i;
        let words = format!(
            "ip link add vx0 type vxlan id 7 remote {} local {} dstport 4789 dev eth0 && \
             ip addr add 10.99.0.{i}/24 brd + dev vx0 && ip link set vx0 up",
            lab.ip(other),
            lab.ip(i)
        );
        if lab.exec(i, &["sh", "-ec", &words]).status != 0 {
            // Not every kernel has it; a dummy does for a second interface.
            lab.exec(
                i,
                &[
                    "sh",
                    "-ec",
                    "ip link add dm0 type dummy && ip addr add 10.98.0.1/24 brd + dev dm0 && ip link set dm0 up",
                ],
            )
            .ok();
        }
        lab.exec(i, &["ip", "route", "del", "default"]).ok();
    }
    let [old, new] = [(1, "old"), (2, "new")].map(|(i, name)| Host::running_on(&lab, i, name));
    plant(&old, "geo", "api-key", "GK");
    let (sending, code) = send(&old, &["secrets", "send", "geo"]);
    receive(&new, "secrets", &code).finish(2 * PATIENCE).ok();
    assert_eq!(state(&sending.finish(PATIENCE).ok()), "saved");
}

#[test]
fn two_shares_at_once_do_not_disturb_each_other() {
    let Some((_lab, [a, b, c, d])) = network(["a", "b", "c", "d"]) else { return };
    plant(&a, "from-a", "api-key", "A");
    plant(&c, "from-c", "api-key", "C");
    let (one, code1) = send(&a, &["secrets", "send", "from-a"]);
    let (two, code2) = send(&c, &["secrets", "send", "from-c"]);
    let (into_b, into_d) = (receive(&b, "secrets", &code1), receive(&d, "secrets", &code2));
    for (sending, receiving, host, name) in [(one, into_b, &b, "from-a"), (two, into_d, &d, "from-c")] {
        receiving.finish(2 * PATIENCE).ok();
        assert_eq!(state(&sending.finish(PATIENCE).ok()), "saved");
        assert_eq!(host.door().call("secrets.list", json!({}))["secrets"][0]["name"], name);
    }
}

#[test]
fn of_several_receivers_the_one_with_the_code_gets_it() {
    let Some((_lab, [old, new, other, another])) = network(["old", "new", "other", "another"]) else { return };
    plant(&old, "geo", "api-key", "GK");
    let (sending, code) = send(&old, &["secrets", "send", "geo"]);
    let strangers = [receive(&other, "secrets", &wrong(&code)), receive(&another, "secrets", &wrong(&wrong(&code)))];
    receive(&new, "secrets", &code).finish(2 * PATIENCE).ok();
    assert_eq!(state(&sending.finish(PATIENCE).ok()), "saved");
    for (stranger, host) in strangers.into_iter().zip([&other, &another]) {
        stranger.signal(Signal::INT);
        assert_eq!(stranger.finish(PATIENCE).status, 130);
        assert_eq!(host.door().call("secrets.list", json!({}))["secrets"], json!([]));
    }
}

#[test]
fn d31_a_code_survives_two_wrong_ones_and_not_three() {
    let Some((_lab, [old, new])) = network(["old", "new"]) else { return };
    plant(&old, "geo", "api-key", "GK");
    for wrongs in [2, 3] {
        let (sending, code) = send(&old, &["secrets", "send", "geo"]);
        for left in (3 - wrongs..3).rev() {
            let guess = receive(&new, "secrets", &wrong(&code));
            wait::until_true("a guess to be counted", 2 * PATIENCE, || {
                let share = share(&old);
                share["attempts_left"] == left || share["state"] == "failed"
            });
            guess.signal(Signal::INT);
            assert_eq!(guess.finish(PATIENCE).status, 130);
        }
        if wrongs == 2 {
            receive(&new, "secrets", &code).finish(2 * PATIENCE).ok();
            assert_eq!(state(&sending.finish(PATIENCE).ok()), "saved");
        } else {
            let burnt = sending.finish(PATIENCE).expect(1);
            assert_eq!(burnt.error()["error"]["code"], "too_many_attempts");
        }
    }
}

#[test]
fn nobody_comes_and_both_sides_say_so() {
    let Some((_lab, [old, new])) = network(["old", "new"]) else { return };
    plant(&old, "geo", "api-key", "GK");
    // Each waits for somebody else; the receiver meets one with another code.
    let (sending, code) = send(&old, &["secrets", "send", "geo"]);
    let receiving = receive(&new, "secrets", &wrong(&code));
    let (sent, received) = (sending.finish(3 * PATIENCE), receiving.finish(3 * PATIENCE));
    assert_eq!((sent.status, sent.error()["error"]["code"].as_str()), (7, Some("timed_out")));
    assert_eq!((received.status, received.error()["error"]["code"].as_str()), (1, Some("wrong_pin")));
}

#[test]
fn calling_off_works_in_every_step() {
    let Some((_lab, [old, new])) = network(["old", "new"]) else { return };
    plant(&old, "geo", "api-key", "GK");
    // While nobody is there.
    let (sending, code) = send(&old, &["secrets", "send", "geo"]);
    sending.signal(Signal::INT);
    assert_eq!(sending.finish(PATIENCE).status, 130);
    assert_eq!(share(&old)["state"], "canceled");
    let receiving = receive(&new, "secrets", &code);
    wait_state(&new, "waiting");
    receiving.signal(Signal::INT);
    assert_eq!(receiving.finish(PATIENCE).status, 130);
    assert_eq!(share(&new)["state"], "canceled");

    // While the receiver looks through it: by the sender, by the receiver, by a receiver that goes away, and by a
    // daemon that ends.
    for way in ["sender", "receiver", "connection", "decline", "stop"] {
        let (sending, code) = send(&old, &["secrets", "send", "geo"]);
        let mut door = new.door();
        let id = door.call("shares.receive", json!({ "kind": "secret", "code": code }))["share"].clone();
        wait_state(&new, "review");
        wait_state(&old, "review");
        match way {
            "sender" => sending.signal(Signal::INT),
            "receiver" => drop(door.call("shares.cancel", json!({ "share": id }))),
            "connection" => drop(door),
            "decline" => drop(door.call("shares.decline", json!({ "share": id }))),
            _ => new.signal(Signal::TERM),
        }
        let sent = sending.finish(PATIENCE);
        let (status, state) = match way {
            "sender" => (130, "canceled"),
            "decline" => (1, "declined"),
            _ => (1, "canceled"),
        };
        assert_eq!((sent.status, share(&old)["state"].as_str()), (status, Some(state)), "{way}: {}", sent.stderr);
        if way != "stop" {
            wait_state(&new, state);
            let refused = new.door().refused("shares.save", json!({ "share": id }));
            assert_eq!(refused, "wrong_state", "{way}");
            assert_eq!(new.door().call("secrets.list", json!({}))["secrets"], json!([]), "{way}");
        }
    }
}

#[test]
fn g46_a_daemon_that_is_killed_saves_nothing_and_is_not_waited_for() {
    let Some((_lab, [mut old, mut new])) = network(["old", "new"]) else { return };
    plant(&old, "geo", "api-key", "GK");
    let mut door = new.door();
    let (sending, code) = send(&old, &["secrets", "send", "geo"]);
    door.call("shares.receive", json!({ "kind": "secret", "code": code }));
    wait_state(&old, "review");
    new.kill9();
    let sent = sending.finish(PATIENCE).expect(7);
    assert_eq!(sent.error()["error"]["code"], "peer_offline");
    new.start();
    assert_eq!(new.door().call("secrets.list", json!({}))["secrets"], json!([]));

    let (sending, code) = send(&old, &["secrets", "send", "geo"]);
    let mut door = new.door();
    let id = door.call("shares.receive", json!({ "kind": "secret", "code": code }))["share"].clone();
    wait_state(&new, "review");
    old.kill9();
    sending.finish(PATIENCE).expect(3);
    wait_state(&new, "canceled");
    assert_eq!(door.refused("shares.save", json!({ "share": id })), "wrong_state");
}

#[test]
fn what_is_not_expected_is_refused_and_both_sides_are_told() {
    let Some((_lab, [old, new])) = network(["old", "new"]) else { return };
    photos(&old, "GK");
    let (sending, code) = send(&old, &["dbs", "send", "photos"]);
    let received = receive(&new, "secrets", &code).finish(2 * PATIENCE).expect(1);
    assert_eq!(received.error()["error"]["code"], "wrong_kind");
    assert_eq!(sending.finish(PATIENCE).expect(1).error()["error"]["code"], "wrong_kind");

    plant(&new, "geo", "api-key", "another");
    let (sending, code) = send(&old, &["secrets", "send", "geo"]);
    let words = ["secrets", "receive", "--code", &code, "--yes", "--on-conflict", "fail", "--json"];
    let received = new.ctl_spawn(&words).finish(2 * PATIENCE).expect(6);
    assert_eq!(received.error()["error"]["code"], "name_taken");
    assert_eq!(sending.finish(PATIENCE).expect(6).error()["error"]["code"], "name_taken");
    assert_eq!(new.door().call("secrets.view", json!({ "name": "geo" }))["value"], "another");
}
