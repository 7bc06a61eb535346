//! Crowds at the guest door, and those who hold a place for nothing: nobody who is served notices, memory and descriptors
//! stay bounded, and whoever comes next gets through.

use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering};

use kith_proto::limits;
use kith_tests::guest::{File, Guest, Window, answer, decide, during, question};
use kith_tests::host::Host;
use kith_tests::random::Random;
use kith_tests::{PATIENCE, wait};
use rustix::process::{Pid, Resource, Rlimit};
use serde_json::json;

fn descriptors(host: &Host) -> usize {
    std::fs::read_dir(format!("/proc/{}/fd", host.pid())).expect("it runs").count()
}

/// The most memory that the daemon ever had, in bytes.
fn peak(host: &Host) -> usize {
    let status = std::fs::read_to_string(format!("/proc/{}/status", host.pid())).expect("it runs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("a line for the peak");
    line.trim().trim_end_matches(" kB").parse::<usize>().expect("a number") << 10
}

/// A letter goes from register to goodbye, through whatever it meets, without being tried twice.
#[track_caller]
fn serve(window: &Window, guest: &Guest, name: &str) {
    guest.send(&window.pin, &[File::new(name, b"Dear Anna")]);
    assert_eq!(window.read(name), b"Dear Anna");
}

#[test]
fn c21_five_thousand_connections_of_one_address_disturb_nobody_else() {
    let host = Host::running("anna");
    let window = Window::open(&host);
    let stranger = window.caller().from("127.0.0.2");
    serve(&window, &window.guest(2), "before.txt");
    let (before, memory) = (descriptors(&host), peak(&host));
    let over = AtomicBool::new(false);
    let mut most = 0;
    let letters = during(
        || {
            let mut letters = 0;
            while !over.load(Ordering::Relaxed) {
                serve(&window, &window.guest(letters % 2 + 1), &format!("{letters}.txt"));
                letters += 1;
            }
            letters
        },
        || {
            for _ in 0..20 {
                let held: Vec<TcpStream> = (0..250).filter_map(|_| stranger.dial().ok()).collect();
                assert!(held.len() > 200, "the kernel takes them, whatever the daemon does");
                most = most.max(descriptors(&host));
            }
            over.store(true, Ordering::Relaxed);
        },
    );
    assert!(letters > 0, "nobody was served meanwhile");
    // The places of one address, the guest's own connections, and its files.
    let bound = before + limits::GUEST_CONNECTIONS_PER_ADDRESS + 16;
    assert!(most <= bound, "{most} descriptors, {before} before");
    let grown = peak(&host).saturating_sub(memory);
    assert!(grown < 16 << 20, "{grown} bytes for strangers");
}

#[test]
fn c21_a_full_house_goes_on_serving_and_empties_itself() {
    let host = Host::running("anna");
    let window = Window::open(&host);
    let guest = window.guest(2);
    let session = guest.session(&window.pin);
    let file = File::new("large.bin", &Random::seeded(3).bytes(3 << 20));
    let transmission = guest.prepared(&session, std::slice::from_ref(&file)).remove(0);
    let upload = guest.uploading(&session, &file, &transmission);
    let mut connection = guest.caller.connect().expect("a handshake");
    connection.write(&upload[..1 << 20]);
    // Half of them say nothing at all, the others shake hands and then say nothing.
    let strangers: Vec<_> = (2..14).map(|i| window.caller().from(&format!("127.0.1.{i}"))).collect();
    let mut silent = Vec::new();
    let mut shaken = Vec::new();
    for stranger in &strangers {
        silent.extend((0..5).filter_map(|_| stranger.dial().ok()));
        shaken.extend((0..3).filter_map(|_| stranger.connect().ok()));
    }
    assert!(shaken.len() > 10, "they are let in as long as there is room");
    assert!(window.caller().from("127.0.1.99").connect().is_err(), "there is no place left");
    // Who is being served does not notice.
    connection.write(&upload[1 << 20..]);
    assert_eq!(connection.answer().expect("an answer").status, 200);
    assert!(window.read("large.bin") == file.content);
    assert!(host.status()["id"].is_string(), "the local door does not notice");
    // Whoever comes next gets through as soon as those who say nothing are hung up on.
    let next = window.guest(1).calling(|caller| caller.from("127.0.1.99"));
    wait::until_true("a place", PATIENCE, || next.caller.connect().is_ok());
    // A place that was just used is given back a moment later: a letter needs a few.
    wait::until_true("places for a letter", PATIENCE, || {
        let places: Vec<_> = (0..limits::GUEST_CONNECTIONS_PER_ADDRESS).map(|_| next.caller.connect()).collect();
        places.iter().all(Result::is_ok)
    });
    wait::until_true("a free place", PATIENCE, || {
        next.caller.try_ask(&next.posting("ping", b"")).is_ok_and(|answer| answer.status == 200)
    });
    serve(&window, &next, "letter.txt");
    drop((silent, shaken));
}

#[test]
fn c21_with_sixty_four_descriptors_the_door_survives_its_crowd() {
    let host = Host::running("anna");
    let window = Window::open(&host);
    let pid = Pid::from_raw(i32::try_from(host.pid()).expect("a process id"));
    let before = descriptors(&host);
    let few = Rlimit { current: Some(64), maximum: Some(64) };
    rustix::process::prlimit(pid, Resource::Nofile, few).expect("its limit can be lowered");
    let strangers: Vec<_> = (2..12).map(|i| window.caller().from(&format!("127.0.1.{i}"))).collect();
    let mut held: Vec<TcpStream> = Vec::new();
    wait::until_true("no descriptor to be left", PATIENCE, || {
        held.extend(strangers.iter().filter_map(|stranger| stranger.dial().ok()));
        descriptors(&host) >= 64
    });
    drop(held);
    // They are gone: everybody is served as before.
    wait::until_true("descriptors", PATIENCE, || descriptors(&host) <= before + 8);
    assert!(host.status()["id"].is_string());
    for version in [1, 2] {
        serve(&window, &window.guest(version), &format!("{version}.txt"));
    }
}

#[test]
fn c18_strangers_with_long_offers_get_no_memory() {
    let host = Host::running("anna");
    let window = Window::open(&host);
    let guest = window.guest(1);
    let session = guest.session(&window.pin);
    let file = File::new("letter.txt", b"Dear Anna");
    // The guest's own list may be long.
    let mut offer = file.offer();
    offer["thumbnail"] = json!("A".repeat(6 << 20));
    let body = kith_tests::guest::offering(&session, &json!([offer]));
    let accepted = guest.post("prepare-upload", &body).expect(200).json();
    let before = peak(&host);
    let stranger_body = vec![b' '; 6 << 20];
    std::thread::scope(|scope| {
        for i in 0..16 {
            let (stranger, body) = (window.guest(i % 2 + 1), &stranger_body);
            let stranger = stranger.calling(|caller| caller.from(&format!("127.0.2.{}", i + 1)));
            scope.spawn(move || {
                let answer = stranger.post("prepare-upload", body);
                assert!([401, 403, 413].contains(&answer.status), "{answer:?}");
            });
        }
        // Nor do they keep the guest from a long list of its own.
        let again = kith_tests::guest::offering(&session, &json!([offer]));
        guest.post("prepare-upload", &again).expect(200);
    });
    let grown = peak(&host).saturating_sub(before);
    assert!(grown < 40 << 20, "{grown} bytes for strangers");
    assert_eq!(accepted["files"].as_array().map(Vec::len), Some(1));
}

#[test]
fn c24_a_large_file_passes_through_little_memory() {
    let host = Host::running("anna");
    let window = Window::open(&host);
    serve(&window, &window.guest(2), "before.txt");
    let before = peak(&host);
    let file = File::new("large.bin", &Random::seeded(9).bytes(96 << 20));
    window.guest(2).send(&window.pin, std::slice::from_ref(&file));
    let grown = peak(&host).saturating_sub(before);
    assert!(grown < 24 << 20, "{grown} bytes for 96 MiB that pass through");
    assert!(window.read("large.bin") == file.content);
}

#[test]
fn c22_many_who_want_something_compared_do_not_keep_a_guest_out() {
    let host = Host::running("anna");
    let window = Window::asking(&host);
    let mut pings = Vec::new();
    for i in 0..limits::GUEST_QUESTIONS + 8 {
        let stranger = window.guest(2).calling(|caller| caller.from(&format!("127.0.3.{}", i + 1)));
        let mut connection = stranger.caller.connect().expect("a handshake");
        connection.write(&stranger.posting("ping", b""));
        pings.push(connection);
    }
    question(&host, "compare");
    let count = || {
        let state = host.door().call("events.subscribe", json!({ "kinds": [] }));
        state["snapshot"]["questions"].as_array().map_or(0, Vec::len)
    };
    wait::until_true("as many questions as there may be", PATIENCE, || count() >= limits::GUEST_QUESTIONS / 2);
    assert!(count() <= limits::GUEST_QUESTIONS);
    // Somebody who knows the PIN is asked about, and served.
    let guest = window.guest(1);
    let session = during(|| guest.session(&window.pin), || answer(&host, "connect", true));
    let file = File::new("letter.txt", b"Dear Anna");
    let files = [file.clone()];
    let transmission = during(|| guest.prepared(&session, &files), || drop(decide(&host, true))).remove(0);
    guest.upload(&session, &file, &transmission).expect(200);
    // Questions end with those who asked.
    drop(pings);
    wait::until_true("no question to be left", PATIENCE, || count() == 0);
}
