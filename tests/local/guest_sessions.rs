//! Who is served, and in which order: one guest at a time, asked about before anything is written, disturbed by nobody.

use std::net::TcpStream;

use kith_tests::guest::{File, Guest, Window, answer, decide, during, fresh, preparing, question, registering};
use kith_tests::host::Host;
use kith_tests::{PATIENCE, wait};
use serde_json::{Value, json};

use crate::support::reason;

fn letter() -> File {
    File::new("letter.txt", b"Dear Anna")
}

/// The last transfer with a guest.
#[track_caller]
fn transfer(host: &Host) -> Value {
    host.door().call("transfer.list", json!({ "all": true }))["transfers"][0].clone()
}

#[test]
fn e38_nothing_is_written_before_somebody_said_yes_twice() {
    for version in [1, 2] {
        let host = Host::running("anna");
        let window = Window::asking(&host);
        let guest = window.guest(version);
        let files = [letter(), File::new("photo.jpg", &[7; 20_000])];
        let decide_twice = || {
            let asked = question(&host, "connect");
            assert_eq!((asked["address"].as_str(), asked["state"].as_str()), (Some("127.0.0.1"), Some("open")));
            assert_eq!(asked["certificate_hash"].is_string(), version == 2, "the sender's hash, where there is one");
            assert_eq!(window.names(), [] as [&str; 0]);
            answer(&host, "connect", true);
            let offer = decide(&host, true);
            // What is decided on is what was offered.
            assert_eq!(
                (&offer["title"], &offer["entries"], &offer["bytes"]),
                (&json!("Report"), &json!(2), &json!(20_009))
            );
            let shown: Vec<&Value> =
                offer["preview"].as_array().expect("files").iter().map(|file| &file["path"]).collect();
            assert_eq!(shown, ["letter.txt", "photo.jpg"]);
            assert_eq!(offer["peer"]["address"], "127.0.0.1");
        };
        during(|| guest.send(&window.pin, &files), decide_twice);
        assert_eq!(window.names(), ["letter.txt", "photo.jpg"]);
        let done = host.wait_transfer(transfer(&host)["id"].as_str().expect("an id"), "done");
        assert_eq!((&done["entries_done"], &done["bytes_done"]), (&json!(2), &json!(20_009)));
    }
}

#[test]
fn e38_what_is_refused_leaves_nothing_and_a_free_place() {
    let host = Host::running("anna");
    let window = Window::asking(&host);
    for version in [1, 2] {
        let guest = window.guest(version);
        during(|| guest.register(&window.pin), || answer(&host, "connect", false)).expect(403);
        // The place is free at once, and a no to one offer is no end of the session.
        let session = during(|| guest.session(&window.pin), || answer(&host, "connect", true));
        let files = [letter()];
        during(|| guest.prepare(&session, &files), || drop(decide(&host, false))).expect(403);
        assert_eq!(transfer(&host)["state"], "rejected");
        guest.upload(&session, &files[0], &fresh()).expect(403);
        let transmission = during(|| guest.prepared(&session, &files), || drop(decide(&host, true))).remove(0);
        assert_eq!(window.names().len(), version as usize - 1);
        guest.upload(&session, &files[0], &transmission).expect(200);
    }
    assert_eq!(window.names(), ["letter (1).txt", "letter.txt"]);
}

#[test]
fn a_guest_that_gives_up_while_it_is_asked_about_frees_its_place() {
    let host = Host::running("anna");
    let window = Window::asking(&host);
    let (impatient, patient) = (window.guest(1), window.guest(2));
    let body = registering(&window.pin);
    let mut connection = impatient.caller.connect().expect("a handshake");
    connection.write(&impatient.posting("register", &body));
    let asked = question(&host, "connect");
    drop(connection);
    let mut door = host.door();
    wait::until_true("the question to be withdrawn", PATIENCE, || {
        let state = door.call("events.subscribe", json!({ "kinds": [] }));
        state["snapshot"]["questions"].as_array().is_some_and(Vec::is_empty)
    });
    let late = door.refused("guest.answer", json!({ "question": asked["question"], "accept": true }));
    assert_eq!(late, "question_not_found");
    // Phones send the same nonce again: that alone is no reason to refuse.
    during(|| impatient.post("register", &body), || answer(&host, "connect", true)).expect(200);
    patient.register(&window.pin).expect(409);
}

#[test]
fn a_guest_that_gives_up_while_its_offer_waits_may_offer_again() {
    let host = Host::running("anna");
    let window = Window::asking(&host);
    let guest = window.guest(2);
    let session = during(|| guest.session(&window.pin), || answer(&host, "connect", true));
    let files = [letter()];
    let mut connection = guest.caller.connect().expect("a handshake");
    connection.write(&guest.posting("prepare-upload", &preparing(&session, &files)));
    wait::until_true("an offer", PATIENCE, || host.status()["inbox"] == 1);
    // A second offer while the first is being decided on.
    guest.prepare(&session, &files).expect(409);
    drop(connection);
    wait::until_true("the offer to be withdrawn", PATIENCE, || host.status()["inbox"] == 0);
    let transmission = during(|| guest.prepared(&session, &files), || drop(decide(&host, true))).remove(0);
    guest.upload(&session, &files[0], &transmission).expect(200);
    assert_eq!(window.read("letter.txt"), b"Dear Anna");
}

#[test]
fn of_several_that_register_at_once_one_is_let_in() {
    let host = Host::running("anna");
    for round in 0..5 {
        let window = Window::open(&host);
        let guests: Vec<Guest> = [1, 2].into_iter().cycle().take(8).map(|version| window.guest(version)).collect();
        let mut statuses: Vec<u16> = std::thread::scope(|scope| {
            let waiting: Vec<_> =
                guests.iter().map(|guest| scope.spawn(|| guest.register(&window.pin).status)).collect();
            waiting.into_iter().map(|answer| answer.join().expect("an answer")).collect()
        });
        statuses.sort_unstable();
        assert_eq!(statuses, [200, 409, 409, 409, 409, 409, 409, 409], "round {round}");
        window.close();
    }
}

#[test]
fn the_place_is_free_when_the_session_ends_by_itself_or_by_goodbye() {
    let host = Host::running("anna");
    let window = Window::open(&host);
    for version in [1, 2] {
        let (first, second) = (window.guest(version), window.guest(3 - version));
        let session = first.session(&window.pin);
        second.register(&window.pin).expect(409);
        let file = letter();
        let transmission = first.prepared(&session, std::slice::from_ref(&file)).remove(0);
        first.upload(&session, &file, &transmission).expect(200);
        // All has arrived: the next one comes in, and the first may still say goodbye, once, and is heard by nobody else.
        let next = second.session(&window.pin);
        second.close(&session).expect(401);
        first.close(&session).expect(200);
        first.close(&session).expect(403);
        first.prepare(&session, &[letter()]).expect(401);
        let transmission = second.prepared(&next, std::slice::from_ref(&file)).remove(0);
        second.upload(&next, &file, &transmission).expect(200);
        second.close(&next).expect(200);
        let left = first.session(&window.pin);
        first.close(&left).expect(200);
    }
}

#[test]
fn e39_a_stranger_ends_nobodys_session() {
    for version in [1, 2] {
        let host = Host::running("anna");
        let window = Window::open(&host);
        let guest = window.guest(version);
        let session = guest.session(&window.pin);
        let file = letter();
        let transmission = guest.prepared(&session, std::slice::from_ref(&file)).remove(0);
        let stranger = window.guest(version).calling(|caller| caller.from("127.0.0.2"));
        for _ in 0..20 {
            assert!(stranger.close(&session).status >= 401);
            assert!(stranger.close(&fresh()).status >= 401);
            assert!(stranger.prepare(&session, &[letter()]).status >= 401);
            assert!(stranger.upload(&session, &file, &transmission).status >= 401);
            stranger.register(&window.pin).expect(409);
            stranger.post("prepare-upload", b"{").expect(400);
        }
        guest.upload(&session, &file, &transmission).expect(200);
        assert_eq!(window.names(), ["letter.txt"]);
    }
}

#[test]
fn probes_and_handshakes_without_a_request_count_against_nobody() {
    let host = Host::running("anna");
    let window = Window::open(&host);
    for _ in 0..50 {
        drop(window.caller().dial().expect("somebody listens"));
        let connection = window.caller().connect().expect("a handshake");
        assert_eq!(connection.certificate_hash(), window.hash);
    }
    // Half a handshake, TLS without a word, and plain HTTP.
    let mut held: Vec<TcpStream> = Vec::new();
    for bytes in [b"".as_slice(), b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", &window.caller().hello()[..50]] {
        let mut stream = window.caller().dial().expect("somebody listens");
        drop(std::io::Write::write_all(&mut stream, bytes));
        held.push(stream);
    }
    let shown = host.door().call("events.subscribe", json!({ "kinds": [] }));
    assert_eq!(shown["snapshot"]["window"]["attempts_left"], kith_proto::limits::PIN_ATTEMPTS);
    window.guest(1).send(&window.pin, &[letter()]);
}

#[test]
fn a_window_that_is_over_has_no_door() {
    let host = Host::running("anna");
    let mut held = Vec::new();
    for version in [1, 2] {
        for how in ["closed", "left alone", "short"] {
            let seconds = if how == "short" { 1 } else { 600 };
            let window = Window::with(&host, &json!({ "accept": true, "seconds": seconds }));
            let (guest, caller) = (window.guest(version), window.caller());
            if how != "short" {
                let session = guest.session(&window.pin);
                guest.prepared(&session, &[letter()]);
            }
            held.push(caller.connect());
            match how {
                "closed" => window.close(),
                "left alone" => drop(window),
                _ => wait::until_true("its time", PATIENCE, || {
                    host.door().call("events.subscribe", json!({ "kinds": [] }))["snapshot"]["window"].is_null()
                }),
            }
            wait::until_true("nobody to listen", PATIENCE, || caller.dial().is_err());
            if how != "short" {
                assert_eq!(transfer(&host)["state"], "canceled");
            }
        }
    }
    assert_eq!(host.door().refused("guest.show", json!({})), "window_not_found");
}

#[test]
fn a_window_whose_time_is_over_serves_its_guest_to_the_end_and_nobody_else() {
    let host = Host::running("anna");
    let window = Window::with(&host, &json!({ "accept": true, "seconds": 2 }));
    let guest = window.guest(2);
    let session = guest.session(&window.pin);
    let file = File::new("letter.txt", &b"Dear Anna".repeat(1000));
    let transmission = guest.prepared(&session, std::slice::from_ref(&file)).remove(0);
    let mut connection = guest.caller.connect().expect("a handshake");
    let upload = guest.uploading(&session, &file, &transmission);
    let (one, two) = upload.split_at(upload.len() - 100);
    connection.write(one);
    let other = window.guest(2);
    wait::until_true("its time", PATIENCE, || {
        let status = other.register(&window.pin).status;
        assert!([401, 409].contains(&status), "{status}");
        status == 401
    });
    connection.write(two);
    assert_eq!(connection.answer().expect("an answer").status, 200);
    guest.close(&session).expect(200);
    assert_eq!(window.read("letter.txt"), file.content);
    wait::until_true("nobody to listen", PATIENCE, || window.caller().dial().is_err());
}

#[test]
fn a_transfer_that_is_called_off_here_ends_for_the_guest() {
    let host = Host::running("anna");
    let window = Window::open(&host);
    for version in [1, 2] {
        let guest = window.guest(version);
        let session = guest.session(&window.pin);
        let file = File::new("letter.txt", &[7; 500_000]);
        let transmission = guest.prepared(&session, std::slice::from_ref(&file)).remove(0);
        let mut connection = guest.caller.connect().expect("a handshake");
        let upload = guest.uploading(&session, &file, &transmission);
        connection.write(&upload[..upload.len() / 2]);
        wait::until_true("bytes", PATIENCE, || transfer(&host)["bytes_done"].as_u64() > Some(0));
        let id = transfer(&host)["id"].as_str().expect("an id").to_owned();
        host.door().call("transfer.cancel", json!({ "transfer": id }));
        connection.write(&upload[upload.len() / 2..]);
        assert_eq!(connection.answer().expect("an answer").status, 401);
        let over = host.wait_transfer(&id, "canceled");
        assert_eq!(reason(&over), "");
        wait::until_true("the traces to go", PATIENCE, || window.names().is_empty());
        assert!(guest.prepare(&session, &[letter()]).status >= 401);
    }
}

#[test]
fn one_window_at_a_time_and_what_it_says_of_itself() {
    let host = Host::running("anna");
    let window = Window::open(&host);
    assert_eq!(host.door().refused("guest.open", json!({})), "window_active");
    assert_eq!(host.door().refused("guest.close", json!({ "window": "another" })), "window_not_found");
    let shown = host.door().call("guest.show", json!({}));
    assert_eq!((&shown["pin"], &shown["port"]), (&json!(window.pin), &json!(window.port)));
    let (qr, addresses) = (&window.qr, shown["addresses"].as_array().expect("addresses"));
    // iOS reads nothing but an array; loopback is nobody's way here.
    assert_eq!(&qr["ip_address"], &shown["addresses"]);
    let loopback = |address: &Value| address.as_str().is_some_and(|it| it.starts_with("127.") || it == "::1");
    assert!(!addresses.iter().any(loopback), "{addresses:?}");
    assert_eq!((&qr["port"], &qr["pin"]), (&json!(window.port), &json!(window.pin)));
    assert_eq!((&qr["certificate_hash"], &qr["protocol_version"]), (&json!(window.hash), &json!(2)));
    assert!(window.hash.len() == 64 && window.hash.bytes().all(|c| c.is_ascii_digit() || (b'a'..=b'f').contains(&c)));
    // Whoever pings is shown at the window, without a secret.
    window.guest(1).ping().expect(200);
    let state = host.door().call("events.subscribe", json!({ "kinds": [] }))["snapshot"]["window"].clone();
    assert_eq!((&state["pinged_by"], &state["state"]), (&json!("127.0.0.1"), &json!("open")));
    assert!(!state.to_string().contains(&window.pin));
    for seconds in [0, 86_401] {
        assert_eq!(host.door().refused("guest.open", json!({ "seconds": seconds })), "invalid_param");
    }
    assert_eq!(host.door().refused("guest.open", json!({ "dir": "here" })), "invalid_param");
}
