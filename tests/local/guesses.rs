//! PINs and QRs in the hands of those who guess, tamper and read along.

use kith_tests::host::Host;
use kith_tests::process::{Output, Running};
use kith_tests::{PATIENCE, wait};
use serde_json::{Value, json};

use crate::pairing::{code, local_qr, pin, trusted, type_pin, window, wrong};

#[test]
fn d31_three_wrong_pins_burn_it_but_not_the_qr() {
    let (anna, bert) = (Host::running("anna"), Host::running("bert"));
    let (mut shows, shown) = window(&anna);
    for n in 0..3 {
        let output = type_pin(&bert, &anna, &wrong(&shown, n)).expect(1);
        assert_eq!(code(&output), "wrong_pin");
    }
    let output = type_pin(&bert, &anna, pin(&shown));
    assert_eq!((code(&output).as_str(), output.status), ("pairing_expired", 7));
    assert!(trusted(&anna).is_empty() && trusted(&bert).is_empty());
    assert!(shows.is_running(), "the QR is still good");
    let output = bert.ctl(&["pair", &local_qr(&shown), "--json"]).ok();
    assert_eq!(output.json()["paired"]["id"], anna.id());
    shows.finish(PATIENCE).ok();
    assert_eq!(trusted(&anna), [bert.id()]);
}

#[test]
fn d31_a_wrong_pin_or_two_are_forgiven() {
    let (anna, bert) = (Host::running("anna"), Host::running("bert"));
    let mut door = anna.door();
    door.call("events.subscribe", json!({"kinds": ["pairing:updated"]}));
    let (shows, shown) = window(&anna);
    for (n, left) in [(0, 2), (1, 1)] {
        type_pin(&bert, &anna, &wrong(&shown, n)).expect(1);
        door.event(|event| event["data"]["attempts_left"] == left);
    }
    type_pin(&bert, &anna, pin(&shown)).ok();
    shows.finish(PATIENCE).ok();
}

#[test]
fn d31_attempts_count_over_devices_and_at_once() {
    let anna = Host::running("anna");
    let guessers = [Host::running("bert"), Host::running("carl")];
    let (shows, shown) = window(&anna);
    let address = anna.address();
    let tries: Vec<Running> = (0..6)
        .map(|n| {
            let guess = wrong(&shown, n);
            guessers[n as usize % 2].ctl_spawn(&["pair", &address, "--pin", &guess, "--json"])
        })
        .collect();
    let outputs: Vec<Output> = tries.into_iter().map(|guess| guess.finish(PATIENCE)).collect();
    assert!(outputs.iter().all(|output| output.status != 0));
    let wrong = outputs.iter().filter(|output| code(output) == "wrong_pin").count();
    assert!(wrong <= 3, "{wrong} guesses were judged");
    let output = type_pin(&guessers[0], &anna, pin(&shown));
    assert_eq!(code(&output), "pairing_expired");
    assert!(trusted(&anna).is_empty());
    drop(shows);
}

#[test]
fn one_use_of_a_pin_also_for_two_at_once() {
    let anna = Host::running("anna");
    let others = [Host::running("bert"), Host::running("carl")];
    let (shows, shown) = window(&anna);
    let address = anna.address();
    let tries = others.each_ref().map(|other| other.ctl_spawn(&["pair", &address, "--pin", pin(&shown), "--json"]));
    let outputs = tries.map(|running| running.finish(PATIENCE));
    let paired = outputs.iter().filter(|output| output.status == 0).count();
    assert_eq!(paired, 1, "{outputs:?}");
    shows.finish(PATIENCE).ok();
    assert_eq!(trusted(&anna).len(), 1);
    // Nobody is left half paired.
    assert_eq!(others.iter().map(|other| trusted(other).len()).sum::<usize>(), 1);
    let late = type_pin(&others[0], &anna, pin(&shown));
    assert_eq!((code(&late).as_str(), late.status), ("pairing_expired", 7));
}

#[test]
fn d33_a_qr_that_was_tampered_with_is_refused_and_burns_nothing() {
    let (anna, bert, carl) = (Host::running("anna"), Host::running("bert"), Host::running("carl"));
    let (shows, shown) = window(&anna);
    let qr = local_qr(&shown);
    let value = |key: &str| qr.split(['?', '&']).find_map(|part| part.strip_prefix(key)).expect("a part").to_owned();
    let (token, hash, id) = (value("t="), value("k="), value("d="));
    let key_of_carl = {
        let (_shows, shown) = window(&carl);
        local_qr(&shown).split(['?', '&']).find_map(|part| part.strip_prefix("k=")).expect("a part").to_owned()
    };
    let flipped: String = token.chars().rev().collect();
    for (what, bad) in [
        ("another scheme", qr.replace("kith://", "http://")),
        ("another token", qr.replace(&token, &flipped)),
        ("another key", qr.replace(&hash, &key_of_carl)),
        ("another id", qr.replace(&id, "0123456789abcdef")),
        ("no token", qr.replace(&format!("&t={token}"), "")),
        ("no key", qr.replace(&format!("&k={hash}"), "")),
        ("huge", format!("{qr}&x={}", "x".repeat(5000))),
        ("empty", "kith://pair?".to_owned()),
        ("another path", qr.replace("//pair", "//join")),
        ("a PIN of letters", qr.replace(&format!("n={}", pin(&shown)), "n=abcdef")),
    ] {
        let output = bert.ctl(&["pair", &bad, "--json"]);
        assert_ne!(output.status, 0, "{what}");
        assert!(!code(&output).is_empty(), "{what}");
    }
    assert!(trusted(&anna).is_empty() && trusted(&bert).is_empty());
    // The PIN has lost nothing.
    type_pin(&bert, &anna, &wrong(&shown, 0)).expect(1);
    type_pin(&bert, &anna, &wrong(&shown, 1)).expect(1);
    type_pin(&bert, &anna, pin(&shown)).ok();
    shows.finish(PATIENCE).ok();
}

#[test]
fn ten_pins_an_hour_with_nobody_at_the_keyboard() {
    let mut anna = Host::running("anna");
    let open = |host: &Host, interactive: bool| {
        let mut door = host.door();
        let opened = door.try_call("pairing.open", json!({"interactive": interactive}));
        if let Ok(opened) = &opened {
            door.call("pairing.cancel", json!({"pairing": opened["pairing"]}));
        }
        opened
    };
    let mut made = 0;
    let refused = loop {
        match open(&anna, false) {
            Ok(_) => made += 1,
            // The window that was called off is still closing.
            Err(error) if error["data"]["code"] == "pairing_active" => wait::nap(std::time::Duration::from_millis(5)),
            Err(error) => break error,
        }
        assert!(made <= 10, "no bound on PINs");
        if made == 5 {
            anna.restart();
        }
    };
    assert_eq!((made, &refused["data"]["code"]), (10, &json!("too_many_attempts")));
    assert_eq!(anna.ctl_refused(&["pair"]), ("too_many_attempts".to_owned(), 1));
    anna.kill9();
    anna.start();
    assert!(open(&anna, false).is_err(), "a restart makes no difference");
    assert!(open(&anna, true).is_ok(), "somebody at the keyboard may");
}

#[test]
fn d31_no_secret_of_a_pairing_is_left_in_a_log_or_on_the_disk() {
    let (mut anna, mut bert) = (Host::new("anna"), Host::new("bert"));
    for host in [&mut anna, &mut bert] {
        host.configure("[discovery]\nenabled = false\n[log]\nlevel = \"trace\"\n");
        host.start();
    }
    let mut secrets = Vec::new();
    let mut keep = |shown: &Value| {
        let qr = shown["qr"].as_str().expect("a QR");
        let token = qr.split_once("t=").expect("a token").1.to_owned();
        secrets.extend([pin(shown).to_owned(), token]);
    };
    let (shows, shown) = window(&anna);
    keep(&shown);
    type_pin(&bert, &anna, &wrong(&shown, 0)).expect(1);
    type_pin(&bert, &anna, pin(&shown)).ok();
    shows.finish(PATIENCE).ok();
    let (shows, shown) = window(&anna);
    keep(&shown);
    bert.ctl(&["pair", &local_qr(&shown), "--json"]).ok();
    shows.finish(PATIENCE).ok();
    for host in [&mut anna, &mut bert] {
        assert_eq!(host.stop(), 0);
        assert!(host.log().contains("paired"), "{}", host.log());
        for path in ["kithd.log", "data/kith.db", "data/device.json", "data/kith.db-wal"] {
            let bytes = std::fs::read(host.path(path)).unwrap_or_default();
            for secret in &secrets {
                let found = bytes.windows(secret.len()).any(|window| window == secret.as_bytes());
                // Six digits may turn up in a time by chance; a whole word of them does not.
                assert!(!found || secret.len() == 6 && !is_word(&bytes, secret), "{secret} is in {path}");
            }
        }
    }
}

/// Whether `word` stands alone in `bytes`, no letter, digit or fraction beside it.
fn is_word(bytes: &[u8], word: &str) -> bool {
    let part = |byte: Option<&u8>| byte.is_some_and(|byte| byte.is_ascii_alphanumeric() || *byte == b'.');
    bytes.windows(word.len()).enumerate().any(|(at, window)| {
        let before = at.checked_sub(1).and_then(|before| bytes.get(before));
        window == word.as_bytes() && !part(before) && !part(bytes.get(at + word.len()))
    })
}
