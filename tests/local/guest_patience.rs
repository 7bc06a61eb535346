//! What the guest door waits for, and for how long. All of it waits at the same time: most of this test is sleep.

use std::io::{Read, Write};
use std::thread::Scope;
use std::time::Duration;

use kith_tests::guest::{File, Guest, Window, answer, during, request};
use kith_tests::host::Host;
use kith_tests::https::Connection;
use kith_tests::{PATIENCE, wait};
use serde_json::{Value, json};

use crate::support::reason;

/// Long enough for the slowest of them, on a machine that is busy besides.
const LONG: Duration = PATIENCE.saturating_mul(3);

/// Sends `bytes` one by one, now and then, until the daemon has had enough. Says what it answered, if anything.
fn drip(mut connection: Connection, bytes: &[u8], pause: Duration) -> Option<u16> {
    let mut bytes = bytes.iter();
    let ended = wait::attempt(LONG, || {
        wait::nap(pause);
        let byte = bytes.next().copied().unwrap_or(b'x');
        (!connection.write(&[byte])).then_some(())
    });
    assert!(ended.is_some(), "it may take as long as it likes");
    connection.answer().ok().map(|answer| answer.status)
}

/// The daemon hangs up, whatever it says before.
#[track_caller]
fn hung_up_on(mut connection: Connection) {
    while connection.answer().is_ok() {}
    assert!(connection.is_hung_up());
}

/// A request but for its last byte, and what it is answered.
#[track_caller]
fn stalled(guest: &Guest, bytes: &[u8]) -> u16 {
    let mut connection = guest.caller.connect().expect("a handshake");
    connection.write(&bytes[..bytes.len() - 1]);
    connection.answer().expect("an answer").status
}

fn spawn<'scope>(scope: &'scope Scope<'scope, '_>, work: impl FnOnce() + Send + 'scope) {
    scope.spawn(work);
}

#[test]
fn c21_c22_whoever_is_slow_or_silent_is_let_go_of_and_delays_nobody() {
    let [anna, bert, carl, dora] = ["anna", "bert", "carl", "dora"].map(Host::running);
    let window = Window::open(&anna);
    // Each from an address of its own: nobody takes another's place.
    let from = |i: u8| window.caller().from(&format!("127.0.4.{i}"));
    let of = |i: u8| window.guest(1).calling(|caller| caller.from(&format!("127.0.4.{i}")));
    std::thread::scope(|scope| {
        spawn(scope, || {
            let mut silent = from(1).dial().expect("somebody listens");
            assert_eq!(silent.read(&mut [0; 1]).expect("hung up on"), 0, "silence before the handshake");
        });
        spawn(scope, || {
            let mut slow = from(2).dial().expect("somebody listens");
            let hello = from(2).hello();
            let mut bytes = hello.iter().cycle();
            let ended = wait::attempt(LONG, || {
                wait::nap(Duration::from_millis(500));
                slow.write_all(&[*bytes.next()?]).is_err().then_some(())
            });
            assert!(ended.is_some(), "a hello may take as long as it likes");
        });
        spawn(scope, || hung_up_on(from(3).connect().expect("a handshake")));
        spawn(scope, || {
            let head = b"POST /api/v1/ping HTTP/1.1\r\nHost: x\r\nX-Padding: ";
            drip(from(4).connect().expect("a handshake"), head, Duration::from_millis(300));
        });
        spawn(scope, || {
            let mut idle = from(5).connect().expect("a handshake");
            idle.write(&request("POST", "/api/v1/ping", &[], b""));
            idle.answer().expect("an answer").expect(200);
            hung_up_on(idle);
        });
        spawn(scope, || {
            let register = of(6).posting("register", br#"{"pin":"000000","nonce":"n"}"#);
            assert_eq!(stalled(&of(6), &register), 408, "half a register");
        });
        spawn(scope, || {
            let offer = of(7).posting("prepare-upload", &[b' '; 2000]);
            assert_eq!(stalled(&of(7), &offer), 408, "half an offer");
        });
        // A guest whose upload stops, and one whose upload drips: each is told, and the file may be tried again.
        spawn(scope, || uploads_that_stop(&window));
        spawn(scope, || a_session_that_is_left_halfway(&bert));
        spawn(scope, || a_session_that_is_left_at_once(&dora));
        spawn(scope, || questions_that_nobody_answers(&carl));
    });
}

#[track_caller]
fn uploads_that_stop(window: &Window) {
    let guest = window.guest(2);
    let session = guest.session(&window.pin);
    let files = [File::new("stop.bin", &[7; 100_000]), File::new("drip.bin", &[7; 100_000])];
    let transmissions = guest.prepared(&session, &files);
    let upload = guest.uploading(&session, &files[0], &transmissions[0]);
    let drips = guest.uploading(&session, &files[1], &transmissions[1]);
    let stop = || assert_eq!(stalled(&guest, &upload), 408);
    let dripped = || {
        let mut connection = guest.caller.connect().expect("a handshake");
        let head = drips.len() - files[1].content.len();
        connection.write(&drips[..head]);
        drip(connection, &files[1].content, Duration::from_secs(1))
    };
    assert!(during(dripped, stop).is_none_or(|status| status == 408));
    for (file, transmission) in files.iter().zip(&transmissions) {
        guest.upload(&session, file, transmission).expect(200);
    }
    assert_eq!(window.names(), ["drip.bin", "stop.bin"]);
}

#[track_caller]
fn a_session_that_is_left_halfway(host: &Host) {
    let window = Window::open(host);
    let (first, second) = (window.guest(1), window.guest(2));
    let session = first.session(&window.pin);
    let files = [File::new("one.txt", b"one"), File::new("two.txt", b"two")];
    let transmissions = first.prepared(&session, &files);
    first.upload(&session, &files[0], &transmissions[0]).expect(200);
    // Nothing more comes: the next one gets the place, and what arrived stays.
    second.register(&window.pin).expect(409);
    wait::until_true("the place", LONG, || second.register(&window.pin).status == 200);
    first.upload(&session, &files[1], &transmissions[1]).expect(401);
    let left = last_transfer(host);
    assert_eq!((&left["state"], &left["entries_done"]), (&json!("done"), &json!(1)), "{left}");
    assert_eq!(left["problems"][0]["reason"], "not_sent");
    assert_eq!(window.names(), ["one.txt"]);
}

#[track_caller]
fn a_session_that_is_left_at_once(host: &Host) {
    let window = Window::open(host);
    let guest = window.guest(2);
    let session = guest.session(&window.pin);
    guest.prepared(&session, &[File::new("one.txt", b"one")]);
    wait::until_true("its end", LONG, || last_transfer(host)["state"] == "failed");
    assert_eq!(reason(&last_transfer(host)), "timed_out");
    assert_eq!(window.names(), [] as [&str; 0]);
    guest.session(&window.pin);
}

fn last_transfer(host: &Host) -> Value {
    host.door().call("transfer.list", json!({ "all": true }))["transfers"][0].clone()
}

/// Who gets no answer is denied before the apps give up.
#[track_caller]
fn questions_that_nobody_answers(host: &Host) {
    let window = Window::asking(host);
    let guest = window.guest(2);
    guest.register(&window.pin).expect(403);
    let let_in = || answer(host, "connect", true);
    let session = during(|| guest.session(&window.pin), let_in);
    guest.prepare(&session, &[File::new("letter.txt", b"Dear Anna")]).expect(403);
    let rejected = last_transfer(host);
    assert_eq!((rejected["state"].as_str(), reason(&rejected)), (Some("rejected"), "timed_out"));
    assert_eq!(window.names(), [] as [&str; 0]);
}
