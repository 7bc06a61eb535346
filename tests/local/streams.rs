//! Standard input and texts.

use std::fs;

use kith_tests::PATIENCE;
use kith_tests::host::Host;
use kith_tests::process::{Output, Running};
use kith_tests::random::Random;
use serde_json::{Value, json};

use crate::support::{friends, giver_and_taker, names, offer, parts};

/// Sends what `feed` gives to standard input.
#[track_caller]
fn stream(anna: &Host, arguments: &[&str], feed: impl FnOnce(&mut Running)) -> Output {
    let mut sending = Running::spawn_fed(&mut anna.ctl_command(&[&["send", "-", "--to", "bert"], arguments].concat()));
    feed(&mut sending);
    sending.finish(2 * PATIENCE)
}

#[test]
fn standard_input_of_any_length_becomes_a_file() {
    let (anna, _bert, into) = giver_and_taker();
    let mut random = Random::seeded(1);
    for size in [0, 1, (512 << 10) - 1, 512 << 10, 1 << 20, (1 << 20) + 1, 3 << 20] {
        let bytes = random.bytes(size);
        let name = format!("stream-{size}");
        let output = stream(&anna, &["--name", &name, "--json"], |sending| assert!(sending.feed(&bytes))).ok();
        let last = output.json();
        assert_eq!((&last["state"], &last["bytes"], &last["bytes_done"]), (&json!("done"), &json!(size), &json!(size)));
        assert!(fs::read(into.join(&name)).expect("it arrived") == bytes, "{size}");
    }
    stream(&anna, &[], |_| {}).ok();
    assert_eq!(fs::read(into.join("stdin")).expect("the usual name"), b"");
    assert!(parts(&into).is_empty());
    assert_eq!(names(&anna.path("data/spool")), [] as [&str; 0], "no copy stays behind");
}

#[test]
fn a_slow_stream_moves_while_it_is_fed() {
    let (anna, bert, into) = giver_and_taker();
    let mut random = Random::seeded(2);
    let pieces: Vec<Vec<u8>> = (0..4).map(|_| random.bytes(1 << 20)).collect();
    let output = stream(&anna, &["--name", "slow", "--json"], |sending| {
        let id = sending.json_line(PATIENCE)["id"].as_str().expect("an id").to_owned();
        for (n, piece) in pieces.iter().enumerate() {
            assert!(sending.feed(piece));
            // All but the last chunk, which may still grow.
            kith_tests::wait::until_true("the bytes at the other side", PATIENCE, || {
                bert.transfer(&id).is_some_and(|it| it["bytes_done"].as_u64() >= Some((n as u64) << 20))
            });
            assert!(!into.join("slow").exists(), "no name before it is whole");
        }
    });
    output.ok();
    assert!(fs::read(into.join("slow")).expect("it arrived") == pieces.concat());
}

#[test]
fn a_stream_that_breaks_off_is_nobodys_file() {
    let (anna, bert, into) = giver_and_taker();
    let mut sending =
        Running::spawn_fed(&mut anna.ctl_command(&["send", "-", "--name", "half", "--to", "bert", "--json"]));
    let id = sending.json_line(PATIENCE)["id"].as_str().expect("an id").to_owned();
    assert!(sending.feed(&vec![7; 3 << 20]));
    bert.wait_transfer(&id, "active");
    sending.signal(rustix::process::Signal::KILL);
    drop(sending);
    assert_eq!(anna.wait_transfer(&id, "canceled")["state"], "canceled");
    bert.wait_transfer(&id, "canceled");
    kith_tests::wait::until_true("nothing to be left", PATIENCE, || names(&into).is_empty() && parts(&into).is_empty());
}

#[test]
fn a_stream_may_be_left_to_the_daemon_once_it_is_fed() {
    let (anna, mut bert, into) = giver_and_taker();
    bert.stop();
    let output = stream(&anna, &["--name", "later", "--no-wait"], |sending| assert!(sending.feed(b"for later"))).ok();
    let id = output.stdout.trim().to_owned();
    bert.start();
    anna.wait_transfer(&id, "done");
    assert_eq!(fs::read(into.join("later")).expect("it arrived"), b"for later");
}

#[test]
fn a_text_is_itself() {
    let (anna, bert) = friends();
    let words = "two\nlines, \"quotes\", \u{202e}bidi, \x1b[31mred, 日本語, and a \\";
    let sending = anna.ctl_spawn(&["send", "--text", words, "--to", "bert", "--json"]);
    let offered = offer(&bert);
    assert_eq!((&offered["text"], &offered["entries"]), (&json!(words), &json!(0)));
    bert.ctl(&["inbox", "accept", offered["id"].as_str().expect("an id")]).ok();
    let last: Value = sending.finish(PATIENCE).ok().json();
    assert_eq!(last["state"], "done");
    bert.accept_all_from(&anna);
    let mut piped = Running::spawn_fed(&mut anna.ctl_command(&["send", "--text", "-", "--to", "bert", "--json"]));
    assert!(piped.feed("from a pipe\n".as_bytes()));
    let id = piped.finish(PATIENCE).ok().json()["id"].clone();
    assert_eq!(bert.transfer(id.as_str().expect("an id")).expect("it is known")["text"], "from a pipe\n");
    let longest = "é".repeat(32 << 10);
    let mut door = anna.door();
    let sent = door.call("transfer.send", json!({"peer": "bert", "text": longest}));
    let received = bert.wait_transfer(sent["id"].as_str().expect("an id"), "done");
    assert_eq!(received["text"], longest);
    assert!(!bert.received().exists(), "a text makes no file");
}
