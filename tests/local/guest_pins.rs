//! The PIN of a receive window: three guesses, whoever makes them, however many make them at once; and nowhere to be
//! read but where it is shown.

use std::io::Write;

use kith_proto::limits;
use kith_tests::guest::{File, Guest, Window, fresh, registering, text};
use kith_tests::host::Host;
use kith_tests::https::{Answer, Identity};
use kith_tests::{PATIENCE, wait};
use serde_json::json;

const GUESSES: usize = limits::PIN_ATTEMPTS as usize;

/// The same guest from three addresses of this machine.
fn everywhere(guest: &Guest) -> [Guest; 3] {
    [guest.clone(), guest.calling(|caller| caller.from("127.0.0.2")), guest.calling(|caller| caller.to("::1"))]
}

#[test]
fn d31_three_guesses_whatever_the_nonce_the_address_and_the_version() {
    let host = Host::running("anna");
    let window = Window::open(&host);
    let [here, beside, six] = everywhere(&window.guest(1));
    let second = window.guest(2);
    let same = json!({ "pin": window.wrong_pin(), "nonce": fresh() }).to_string();
    let statuses = [
        here.post("register", same.as_bytes()).status,
        beside.post("register", same.as_bytes()).status,
        six.register(&window.wrong_pin()).status,
        second.register(&window.wrong_pin()).status,
    ];
    assert_eq!(statuses, [401, 401, 401, 429]);
    for guest in [&here, &beside, &six, &second] {
        let answer = guest.register(&window.pin).expect(429);
        assert_eq!(answer.json(), json!({ "error": "Too many requests" }));
    }
    // What is no guess is told so, and everybody else is told nothing.
    here.post("register", b"{}").expect(400);
    let shown = host.door().call("events.subscribe", json!({ "kinds": [] }));
    assert_eq!(shown["snapshot"]["window"]["attempts_left"], 0);
    // A new window has a new PIN, and three guesses again.
    let (burnt, hash) = (window.pin.clone(), window.hash.clone());
    window.close();
    let window = Window::open(&host);
    assert!(window.pin != burnt && window.hash != hash, "a new window shows new secrets");
    window.guest(1).register(&burnt).expect(401);
    window.guest(1).send(&window.pin, &[File::new("letter.txt", b"Dear Anna")]);
    assert_eq!(window.names(), ["letter.txt"]);
}

#[test]
fn d31_three_guesses_however_many_guess_at_once() {
    let host = Host::running("anna");
    let window = Window::open(&host);
    let wrong = window.wrong_pin();
    // No more from one address than are let in at once.
    let guests: Vec<Guest> = everywhere(&window.guest(1)).into_iter().cycle().take(21).collect();
    let answers: Vec<Answer> = std::thread::scope(|scope| {
        let guesses: Vec<_> = guests.iter().map(|guest| scope.spawn(|| guest.register(&wrong))).collect();
        guesses.into_iter().map(|guess| guess.join().expect("an answer")).collect()
    });
    let with = |status| answers.iter().filter(|answer| answer.status == status).count();
    assert_eq!((with(401), with(429)), (GUESSES, guests.len() - GUESSES));
    window.guest(1).register(&window.pin).expect(429);
}

#[test]
fn d31_several_guesses_on_one_connection_are_several() {
    let host = Host::running("anna");
    let window = Window::open(&host);
    let guest = window.guest(1);
    let mut connection = guest.caller.connect().expect("a handshake");
    let mut statuses = Vec::new();
    let body = registering(&window.wrong_pin());
    let request = kith_tests::guest::request("POST", &guest.path("register"), &[], &body);
    // All of them before the first answer.
    assert!(connection.write(&request.repeat(5)));
    while let Ok(answer) = connection.answer() {
        statuses.push(answer.status);
        if statuses.len() == 5 {
            break;
        }
    }
    assert_eq!(statuses, [401, 401, 401, 429, 429]);
}

#[test]
fn d31_guessing_does_not_disturb_who_is_being_served() {
    for version in [1, 2] {
        let host = Host::running("anna");
        let window = Window::open(&host);
        let guest = window.guest(version);
        let session = guest.session(&window.pin);
        let stranger = Guest { version, ..window.guest(version).calling(|caller| caller.from("127.0.0.2")) };
        for status in [401, 401, 401, 429] {
            stranger.register(&window.wrong_pin()).expect(status);
        }
        let file = File::new("letter.txt", b"Dear Anna");
        let transmission = guest.prepared(&session, std::slice::from_ref(&file)).remove(0);
        guest.upload(&session, &file, &transmission).expect(200);
        guest.close(&session).expect(200);
        assert_eq!(window.read("letter.txt"), b"Dear Anna");
    }
}

#[test]
fn d31_the_guesses_at_a_pin_that_stays_are_counted_over_a_restart() {
    let mut host = Host::new("anna");
    host.configure("[discovery]\nenabled = false\n[guest]\nalways_open = true\npin = \"482913\"\n");
    host.start();
    let window = Window::standing(&host);
    assert_eq!((window.pin.as_str(), window.qr["pin"].as_str()), ("482913", Some("482913")));
    window.guest(1).register("482914").expect(401);
    window.guest(2).register("482914").expect(401);
    host.restart();
    let window = Window::standing(&host);
    window.guest(1).register("482914").expect(401);
    window.guest(1).register("482913").expect(429);
    host.kill9();
    host.start();
    Window::standing(&host).guest(2).register("482913").expect(429);
    // The one who owns the device gets past it: nobody guesses there.
    assert_eq!(host.status()["name"], "anna");
}

#[test]
fn d31_a_pin_has_six_digits_and_no_leading_zero() {
    let host = Host::running("anna");
    let mut pins = std::collections::BTreeSet::new();
    for _ in 0..40 {
        let window = Window::open(&host);
        let number: u32 = window.pin.parse().expect("digits");
        assert!((100_000..=999_999).contains(&number) && window.pin.len() == 6, "{}", window.pin);
        pins.insert(window.pin.clone());
        window.close();
    }
    // Two of forty may be the same by chance, once in a thousand runs; ten are not.
    assert!(pins.len() > 30, "{pins:?}");
}

#[test]
fn d31_no_secret_is_ever_logged() {
    let mut host = Host::new("anna");
    host.configure("[discovery]\nenabled = false\n[log]\nlevel = \"trace\"\nformat = \"json\"\n");
    host.start();
    let mut secrets = Vec::new();
    for version in [1, 2] {
        let window = Window::open(&host);
        let guest = window.guest(version);
        guest.ping().expect(200);
        let wrong = window.wrong_pin();
        guest.register(&wrong).expect(401);
        let session = guest.session(&window.pin);
        let (one, two) = (File::new("one.txt", b"one"), File::new("two.txt", b"two"));
        let nonce = fresh();
        let offer = json!({ "sessionId": session, "nonce": nonce, "files": [one.offer(), two.offer()] }).to_string();
        let accepted = guest.post("prepare-upload", offer.as_bytes()).expect(200).json();
        guest.post("prepare-upload", offer.as_bytes()).expect(409);
        let transmissions: Vec<String> =
            accepted["files"].as_array().expect("files").iter().map(|file| text(file, "transmissionId")).collect();
        let upload = |file: &File, transmission: &str| {
            let query = format!("sessionId={session}&fileId={}&transmissionId={transmission}&nonce={nonce}-u", file.id);
            let path = guest.path(&format!("upload?{query}"));
            guest.caller.ask(&kith_tests::guest::request("PUT", &path, &[], b"one")).status
        };
        assert_eq!([upload(&one, &transmissions[0]), upload(&two, &transmissions[1])], [200, 409]);
        guest.calling(|caller| caller.from("127.0.0.2").showing(&Identity::new())).close(&session);
        guest.post("close-connection", format!("{{\"sessionId\":\"{session}\",").as_bytes()).expect(400);
        guest.close(&session).expect(200);
        // Something that is told in detail.
        assert!(window.caller().dial().and_then(|mut stream| stream.write_all(b"GET / HTTP/1.1\r\n\r\n")).is_ok());
        secrets.extend([window.pin.clone(), wrong, session, nonce]);
        secrets.extend(transmissions);
        window.close();
    }
    let detailed = || host.log().contains("\"DEBUG\"");
    wait::until_true("details in the log", PATIENCE, detailed);
    host.stop();
    let log = host.log();
    let lines: Vec<serde_json::Value> =
        log.lines().map(|line| serde_json::from_str(line).expect("a line of JSON")).collect();
    for mut line in lines {
        // A time has six digits behind its seconds.
        line["timestamp"].take();
        let line = line.to_string();
        for secret in &secrets {
            assert!(!line.to_lowercase().contains(&secret.to_lowercase()), "{secret} in {line}");
        }
    }
}
