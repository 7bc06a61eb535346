//! The hello store and those who ask too much of it, who are slow, who guess, who read its log.

use kith_proto::guest::hello::OWNER;
use kith_proto::limits;
use kith_tests::guest::{during, request};
use kith_tests::hello::{SERVE, Store, name, owner, path};
use kith_tests::host::Host;
use kith_tests::https::Answer;
use kith_tests::{PATIENCE, wait};

fn serving(more: &str) -> (Host, Store) {
    let mut host = Host::new("anna");
    host.configure(&format!("{SERVE}{more}"));
    host.start();
    let store = Store::of(&host);
    (host, store)
}

/// How long to wait, in seconds.
#[track_caller]
fn retry_after(answer: &Answer) -> u64 {
    answer.header("retry-after").and_then(|text| text.parse().ok()).unwrap_or_else(|| panic!("no time: {answer:?}"))
}

#[test]
fn g74_whoever_guesses_names_has_to_rest_and_nobody_else() {
    let (_host, store) = serving("");
    let known = name();
    store.put(&known, b"sealed").expect(201);
    let guesser = store.from("127.0.5.1");
    for _ in 0..limits::HELLO_MISSES {
        guesser.get(&name()).expect(404);
    }
    let refused = guesser.get(&known).expect(429);
    let seconds = retry_after(&refused);
    assert!((1..=limits::HELLO_REST_SECONDS).contains(&seconds), "{seconds}");
    refused.json();
    guesser.put(&name(), b"x").expect(429);
    guesser.withdraw(&known).expect(429);
    // What a proxy would say makes nobody somebody else, in either direction.
    for header in ["X-Forwarded-For", "Forwarded", "X-Real-IP", "CF-Connecting-IP"] {
        let value = if header == "Forwarded" { "for=127.0.5.9" } else { "127.0.5.9" };
        guesser.ask("GET", &path(&known), &[(header, value)], b"").expect(429);
        store.from("127.0.5.2").ask("GET", &path(&known), &[(header, "127.0.5.1")], b"").expect(200);
    }
    assert_eq!(store.get(&known).expect(200).body, b"sealed");
}

#[test]
fn one_source_has_so_many_puts_and_lookups_an_hour() {
    let (_host, store) = serving("");
    let busy = store.from("127.0.6.1");
    let names: Vec<String> = (0..limits::HELLO_PUTS_PER_HOUR).map(|_| name()).collect();
    for name in &names {
        busy.put(name, b"sealed").expect(201);
    }
    let refused = busy.put(&name(), b"sealed").expect(429);
    assert!((1..=3_600).contains(&retry_after(&refused)));
    // Who brings again what is there asks for no room: issuers do so every hour.
    for name in &names {
        busy.put(name, b"sealed").expect(200);
    }
    store.from("127.0.6.2").put(&name(), b"sealed").expect(201);
    for _ in limits::HELLO_PUTS_PER_HOUR..limits::HELLO_GETS_PER_HOUR {
        busy.get(&names[0]).expect(200);
    }
    retry_after(&busy.get(&names[0]).expect(429));
    store.from("127.0.6.2").get(&names[0]).expect(200);
}

#[test]
fn c21_c22_the_slow_and_the_silent_delay_nobody() {
    let (_host, store) = serving("");
    let known = name();
    store.put(&known, b"sealed").expect(201);
    let slow = |n: u8| store.from(&format!("127.0.7.{n}"));
    // All places of some addresses: silent, in the middle of a head, of a body.
    let mut held = Vec::new();
    let mut dialled = Vec::new();
    for n in 1..=4 {
        dialled.extend((0..limits::GUEST_CONNECTIONS_PER_ADDRESS).filter_map(|_| slow(n).caller.dial().ok()));
    }
    let put = request("PUT", &path(&name()), &[(OWNER, &owner(1))], b"sealed");
    for n in 5..=6 {
        for bytes in [&put[..20], &put[..put.len() - 1]] {
            for _ in 0..limits::GUEST_CONNECTIONS_PER_ADDRESS / 2 {
                let mut connection = slow(n).caller.connect().expect("a handshake");
                connection.write(bytes);
                held.push(connection);
            }
        }
    }
    for _ in 0..30 {
        assert_eq!(store.get(&known).expect(200).body, b"sealed");
    }
    store.put(&name(), b"sealed").expect(201);
    // And they are let go of.
    let mut first = held.remove(0);
    let body = held.get_mut(limits::GUEST_CONNECTIONS_PER_ADDRESS / 2).expect("one with half a body");
    during(
        || assert!(first.is_hung_up() || first.answer().is_err(), "half a head"),
        || assert_eq!(body.answer().expect("an answer").status, 408, "half a body"),
    );
    wait::until_true("a place", PATIENCE, || slow(1).caller.connect().is_ok());
}

#[test]
fn d31_names_and_tokens_are_in_no_log() {
    let (host, store) = serving("[log]\nlevel = \"trace\"\n");
    let names: Vec<String> = (0..4).map(|_| name()).collect();
    store.put(&names[0], b"sealed").expect(201);
    store.get(&names[0]).expect(200);
    store.put(&names[0], b"other").expect(409);
    store.get(&names[1]).expect(404);
    store.ask("PUT", &path(&names[2]), &[], b"x").expect(422);
    store.ask("POST", &path(&names[3]), &[], b"x").expect(405);
    store.withdraw(&names[0]).expect(204);
    store.caller.ask(&request("GET", &path(&format!("{}.", names[3])), &[], b"")).expect(404);
    let mut broken = store.caller.connect().expect("a handshake");
    broken.write(format!("GET {} HTTP/1.1\r\nHost\r\n\r\n", path(&names[1])).as_bytes());
    drop(broken.answer());
    let log = host.log();
    assert!(log.contains(&store.hash), "the log says where: {log}");
    for name in names {
        for part in [&name[..], &name[1..12]] {
            assert!(!log.contains(part), "{part}");
        }
    }
    assert!(!log.contains(&kith_tests::hello::bearer(1)[7..]) && !log.contains(&owner(1)));
}
