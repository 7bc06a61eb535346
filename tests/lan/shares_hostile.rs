//! Somebody on the same LAN while credentials are handed over: he steals nothing, plants nothing, stops nothing for longer
//! than his own tries, and nothing falls over.

use kith_tests::PATIENCE;
use kith_tests::host::Host;
use kith_tests::lab::Lab;
use kith_tests::process::Running;
use rustix::process::Signal;
use serde_json::json;

use crate::net::network_and_one;
use crate::shares::{plant, receive, send, share, wait_state, wrong};

/// Somebody with bad intentions on the third host, begun.
#[track_caller]
fn rogue(lab: &Lab, words: &[&str]) -> Running {
    let mut command = lab.command(3, env!("CARGO_BIN_EXE_rogue"));
    let mut rogue = Running::spawn(command.args(words));
    assert_eq!(rogue.line(PATIENCE).as_deref(), Some("ready"));
    rogue
}

#[track_caller]
fn ends(rogue: Running) -> String {
    rogue.signal(Signal::KILL);
    let said = rogue.finish(PATIENCE).stdout;
    assert!(!said.contains("WON"), "{said}");
    said
}

/// The honest share goes through, whatever else is said on the network.
#[track_caller]
fn goes_through(old: &Host, new: &Host, name: &str) {
    plant(old, name, "api-key", "GK");
    let (sending, code) = send(old, &["secrets", "send", name]);
    receive(new, "secrets", &code).finish(2 * PATIENCE).ok();
    assert_eq!(sending.finish(PATIENCE).ok().json()["state"], "saved");
    assert_eq!(new.door().call("secrets.view", json!({ "name": name }))["value"], "GK");
}

#[test]
fn false_receivers_that_come_first_get_nothing_and_stop_nothing() {
    let Some((lab, [old, new])) = network_and_one(["old", "new"]) else { return };
    let ip = lab.ip(3).to_string();
    for (at, mode) in ["mute", "silent", "garbage"].into_iter().enumerate() {
        let false_one = rogue(&lab, &["wait", &ip, mode]);
        goes_through(&old, &new, &format!("secret {at}"));
        ends(false_one);
    }
    // One that guesses has one try: it is asked once, like everybody.
    let false_one = rogue(&lab, &["wait", &ip, "guess:0000"]);
    plant(&old, "guessed at", "api-key", "GK");
    let (sending, code) = send(&old, &["secrets", "send", "guessed at"]);
    if code != "0000" {
        receive(&new, "secrets", &code).finish(2 * PATIENCE).ok();
        assert_eq!(sending.finish(PATIENCE).ok().json()["state"], "saved");
        ends(false_one);
    }
}

#[test]
fn c19_a_crowd_of_false_announcements_takes_nobodys_turn() {
    let Some((lab, [old, new])) = network_and_one(["old", "new"]) else { return };
    let ip = lab.ip(3).to_string();
    // Ports where nobody answers, and one where somebody never shakes hands.
    let mut held = lab.command(3, "python3");
    let script =
        "import socket,time\ns=socket.create_server(('',7777),backlog=500)\nprint('ready',flush=True)\ntime.sleep(1e6)";
    let mut mute = Running::spawn(held.args(["-c", script]));
    assert_eq!(mute.line(PATIENCE).as_deref(), Some("ready"));
    for (at, port) in ["7776", "7777"].into_iter().enumerate() {
        let crowd = rogue(&lab, &["crowd", &ip, "500", port]);
        goes_through(&old, &new, &format!("secret {at}"));
        ends(crowd);
    }
    mute.signal(Signal::KILL);
}

#[test]
fn d32_a_relay_in_between_learns_nothing_even_with_the_right_code() {
    let Some((lab, [old, new])) = network_and_one(["old", "new"]) else { return };
    plant(&old, "geo", "api-key", "GK");
    // The sender meets the relay alone: the real receiver is heard by the relay only.
    lab.split(1, 2);
    let relay = rogue(&lab, &["wait", &lab.ip(3).to_string(), "relay"]);
    let mut door = new.door();
    let (sending, code) = send(&old, &["secrets", "send", "geo"]);
    door.call("shares.receive", json!({ "kind": "secret", "code": code }));
    kith_tests::wait::until_true("the relay to have been seen through", 2 * PATIENCE, || {
        share(&old)["attempts_left"] == 2 && share(&new)["attempts_left"] == 2
    });
    ends(relay);
    // Nothing is lost: with the relay gone, the same code does what it is for.
    lab.heal(1);
    wait_state(&new, "review");
    sending.signal(Signal::INT);
    sending.finish(PATIENCE);
}

#[test]
fn false_senders_plant_nothing_and_stop_nothing() {
    let Some((lab, [old, new])) = network_and_one(["old", "new"]) else { return };
    for (at, mode) in ["inject", "null", "huge", "slow", "hold"].into_iter().enumerate() {
        let false_one = rogue(&lab, &["call", mode]);
        goes_through(&old, &new, &format!("secret {at}"));
        let said = ends(false_one);
        assert!(said.contains("visits") || said.contains("holds"), "{mode} came to nothing: {said}");
    }
    assert!(!new.has_planted());
}

#[test]
fn d31_a_false_sender_has_three_guesses_and_the_code_is_burnt() {
    let Some((lab, [old, new])) = network_and_one(["old", "new"]) else { return };
    plant(&old, "geo", "api-key", "GK");
    let (sending, code) = send(&old, &["secrets", "send", "geo"]);
    // The real sender does not hear the receiver: only the guesser comes.
    lab.split(1, 2);
    let false_one = rogue(&lab, &["call", &format!("guess:{}", wrong(&code))]);
    let received = receive(&new, "secrets", &code).finish(2 * PATIENCE).expect(1);
    assert_eq!(received.error()["error"]["code"], "too_many_attempts");
    let said = ends(false_one);
    assert!(said.contains("another code"), "{said}");
    assert_eq!(share(&old)["attempts_left"], 3, "nothing of this reaches the real sender's count");
    sending.signal(Signal::INT);
    sending.finish(PATIENCE);
}

trait Planted {
    fn has_planted(&self) -> bool;
}

impl Planted for Host {
    fn has_planted(&self) -> bool {
        let secrets = self.door().call("secrets.list", json!({}));
        secrets["secrets"].as_array().expect("a list").iter().any(|secret| secret["name"] == "planted")
    }
}
