//! The peer door, and who knocks there: whoever has not proven who he is gets nothing and delays nobody.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use kith_proto::limits;
use kith_proto::peer::Alpn;
use kith_tests::fault::Weather;
use kith_tests::host::{self, Host};
use kith_tests::random::Random;
use kith_tests::wait;
use rustls::AlertDescription;
use serde_json::json;

use crate::raw::{Hello, Key, Wire, alert, dial};
use crate::support::{
    assert_same_file, file, free_port, friends, giver_and_taker, large, relayed, send, send_later, slow,
};

/// Everything until the daemon hangs up; it does so long before patience ends.
#[track_caller]
fn until_end(stream: &mut TcpStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    match stream.read_to_end(&mut bytes) {
        Ok(_) => bytes,
        Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => bytes,
        Err(error) => panic!("the daemon does not hang up: {error}"),
    }
}

#[test]
fn c21_what_is_not_tls_is_hung_up_on_and_learns_nothing() {
    let host = Host::running("anna");
    let mut random = Random::printed("garbage at the peer door");
    let garbage = random.bytes(100_000);
    for bytes in [
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n".as_slice(),
        b"{\"type\":\"ping\"}\n",
        b"\x00\x00\x00\x0f{\"type\":\"ping\"}",
        b"SSH-2.0-OpenSSH_9.0\r\n",
        &garbage,
        // A record of 16 KiB that never comes, a hello of SSL 2.
        b"\x16\x03\x01\x40\x00",
        b"\x80\x2e\x01\x00\x02",
    ] {
        let mut stream = dial(&host);
        drop(stream.write_all(bytes));
        let said = until_end(&mut stream);
        // A TLS alert at most; never a word of the daemon.
        assert!(said.is_empty() || said[0] == 21 && said.len() <= 7, "{said:?}");
    }
    assert!(host.status()["id"].is_string());
}

#[test]
fn c21_silence_and_a_hello_byte_by_byte_end_in_seconds() {
    let host = Host::running("anna");
    let mut silent = dial(&host);
    let mut slow = dial(&host);
    let dripping = std::thread::spawn(move || {
        let mut hello = vec![0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3];
        hello.resize(517, 7);
        // One byte now and then, until the daemon has had enough.
        let ended = wait::attempt(kith_tests::PATIENCE, || {
            let byte = hello.pop().unwrap_or(7);
            wait::nap(Duration::from_millis(100));
            slow.write_all(&[byte]).is_err().then_some(())
        });
        assert!(ended.is_some(), "a hello may take as long as it likes");
    });
    assert!(until_end(&mut silent).is_empty());
    dripping.join().expect("it ended");
    assert!(host.status()["id"].is_string());
}

#[test]
fn c21_many_connections_of_one_address_take_few_places_and_give_them_back() {
    let (anna, bert, dir) = giver_and_taker();
    let letter = file(&anna, "letter.txt", 10_000);
    let open = |host: &Host| std::fs::read_dir(format!("/proc/{}/fd", host.pid())).expect("it runs").count();
    let before = open(&bert);
    let mut held: Vec<TcpStream> = (0..200).map(|_| dial(&bert)).collect();
    // All but a few are hung up on at once: they cost no descriptor.
    wait::until_true("the others to be hung up on", kith_tests::PATIENCE, || {
        open(&bert) <= before + limits::PEER_HALF_OPEN_PER_ADDRESS
    });
    assert!(bert.status()["id"].is_string(), "the local door does not notice");
    for stream in &mut held {
        until_end(stream);
    }
    drop(held);
    send(&anna, &letter, &bert);
    assert_same_file(&letter, &dir.join("letter.txt"));
}

#[test]
fn c21_a_transfer_goes_on_while_strangers_knock() {
    let (anna, bert, into, relay) = relayed();
    relay.set(slow());
    let film = large(&anna, "film.bin", 60);
    let id = send_later(&anna, &film, "bert");
    let mut knocks = 0;
    while anna.transfer(&id).expect("it is known")["state"] != "done" {
        drop(dial(&bert));
        let mut stream = dial(&bert);
        drop(stream.write_all(b"\x16\x03\x01\x02\x00\x01"));
        knocks += 1;
        if knocks == 50 {
            // Now as fast as it goes.
            relay.set(Weather::default());
        }
    }
    assert!(knocks >= 50, "only {knocks} knocks while 60 MiB moved");
    assert_same_file(&film, &into.join("film.bin"));
}

#[test]
fn an_unknown_key_is_told_that_it_is_not_trusted() {
    let (_anna, bert) = friends();
    let stranger = Key::new();
    let mut wire = Wire::send(&bert, &stranger);
    wire.say(&json!({"type": "ping"}));
    let (heard, error) = wire.rest();
    assert!(heard.is_empty(), "{heard:?}");
    assert_eq!(alert(&error), Some(AlertDescription::AccessDenied), "{error}");
    assert_eq!(bert.door().call("trust.list", json!({}))["peers"].as_array().map(Vec::len), Some(1));
}

#[test]
fn d26_only_one_ed25519_certificate_will_do() {
    let (mut anna, bert) = friends();
    anna.stop();
    let key = Key::taken_from(&anna);
    for (what, key) in [
        ("without a certificate", None),
        ("another kind of key", Some(Key::of_another_kind())),
        ("a chain", Some(Key::taken_from(&anna).with_chain(2))),
        ("a long chain", Some(Key::taken_from(&anna).with_chain(100))),
    ] {
        let hello = Hello { key: key.as_ref(), alpn: &[Alpn::Send.as_bytes()] };
        let pong = Wire::shake(&bert, &hello).and_then(|mut wire| {
            wire.say(&json!({"type": "ping"}));
            wire.answer()
        });
        assert!(pong.is_err(), "{what}: {pong:?}");
    }
    // The control: the same by the right key.
    let mut wire = Wire::send(&bert, &key);
    wire.say(&json!({"type": "ping"}));
    assert_eq!(wire.answer().expect("an answer")["type"], "pong");
}

#[test]
fn without_the_right_protocol_nothing_is_spoken() {
    let (mut anna, bert) = friends();
    anna.stop();
    let key = Key::taken_from(&anna);
    for alpn in [&[b"h2".as_slice(), b"http/1.1"], [b"kith-send/2".as_slice(), b"kith-send/"].as_slice(), &[]] {
        let pong = Wire::shake(&bert, &Hello { key: Some(&key), alpn }).and_then(|mut wire| {
            wire.say(&json!({"type": "ping"}));
            wire.answer()
        });
        assert!(pong.is_err(), "{alpn:?}: {pong:?}");
    }
    // No window is open: nobody pairs.
    let hello = Hello { key: Some(&key), alpn: &[Alpn::Pair.as_bytes()] };
    let refused = Wire::shake(&bert, &hello).and_then(|mut wire| wire.hear());
    assert!(refused.is_err(), "{refused:?}");
    // The first that both speak is taken.
    let both = Hello { key: Some(&key), alpn: &[b"h2", Alpn::Send.as_bytes()] };
    let mut wire = Wire::shake(&bert, &both).expect("a handshake");
    wire.say(&json!({"type": "ping"}));
    assert_eq!(wire.answer().expect("an answer")["name"], "bert");
}

#[test]
fn a_pairing_window_hears_no_large_frames_and_no_nonsense() {
    let host = Host::running("anna");
    let mut window = host.ctl_spawn(&["pair", "--json"]);
    let shown = window.json_line(kith_tests::PATIENCE);
    let key = Key::new();
    let hello = Hello { key: Some(&key), alpn: &[Alpn::Pair.as_bytes()] };
    let huge = u32::MAX.to_be_bytes();
    let medium = (limits::FRAME_UNAUTHENTICATED as u32 + 1).to_be_bytes();
    for bytes in [huge.as_slice(), &medium, b"\x00\x00\x00\x02{}", b"\x00\x00\x00\x00", b"\x00\x00\x00\x04null"] {
        let mut wire = Wire::shake(&host, &hello).expect("a window is open");
        wire.bytes(bytes);
        let (heard, _) = wire.rest();
        assert!(heard.iter().all(|message| message["type"] == "pair_fail"), "{heard:?}");
    }
    // Nobody who sent nonsense has burnt the PIN.
    let bert = Host::running("bert");
    bert.ctl(&["pair", &host.address(), "--pin", shown["pin"].as_str().expect("a PIN"), "--json"]).ok();
    window.finish(kith_tests::PATIENCE).ok();
}

#[test]
fn d29_a_stranger_at_the_address_of_a_peer_changes_no_trust() {
    let (anna, mut bert) = (Host::running("anna"), Host::new("bert"));
    // Not the port that follows from his id: a device of another test may come to the same one while he is away.
    let port = free_port();
    bert.configure(&format!("[discovery]\nenabled = false\n[peer]\nport = {port}\n"));
    bert.start();
    host::pair(&bert, &anna);
    let id = bert.id();
    bert.stop();
    // Somebody else takes the place: another key answers there.
    let thief = Host::new("bert");
    thief.configure(&format!("[discovery]\nenabled = false\n[peer]\nport = {port}\n"));
    let mut thief = thief;
    thief.start();
    let letter = file(&anna, "letter.txt", 10);
    let transfer = send_later(&anna, &letter, &id);
    anna.wait_transfer(&transfer, "queued");
    assert_eq!(anna.ctl_json(&["trust", "show", &id])["state"], "trusted");
    assert_eq!(thief.status()["inbox"], 0);
    // And one that refuses to talk: the same.
    thief.stop();
    bert.start();
    host::pair(&bert, &thief_restarted(thief));
    anna.wait_transfer(&transfer, "offered");
    assert_eq!(anna.ctl_json(&["trust", "show", &id])["state"], "trusted");
}

fn thief_restarted(mut thief: Host) -> Host {
    thief.configure("[discovery]\nenabled = false\n");
    thief.start();
    thief
}
