//! The hello store: the table of its statuses, cell by cell, and what stays after a restart and a kill.

use kith_proto::guest::hello::{EXPIRES, OWNER, PATH};
use kith_proto::limits;
use kith_tests::clock::Clock;
use kith_tests::guest::{Window, request};
use kith_tests::hello::{SERVE, Store, after, bearer, name, owner, path};
use kith_tests::host::Host;
use kith_tests::https::Answer;

/// A device that is a hello store for everybody.
fn serving() -> (Host, Store) {
    let mut host = Host::new("anna");
    host.configure(SERVE);
    host.start();
    let store = Store::of(&host);
    (host, store)
}

#[track_caller]
fn error(answer: &Answer) -> String {
    let json = answer.json();
    assert_eq!(json.as_object().map(serde_json::Map::len), Some(1), "{json}");
    json["error"].as_str().expect("a text").to_owned()
}

#[test]
fn g74_what_is_put_there_is_found_until_it_is_withdrawn() {
    let (_host, store) = serving();
    let name = name();
    let nothing = store.get(&name).expect(404);
    let until = after(7_200);
    let put = |owner: &str, until: &str, blob: &[u8]| {
        store.ask("PUT", &path(&name), &[(OWNER, owner), (EXPIRES, until)], blob)
    };
    let created = put(&owner(1), &until, b"sealed").expect(201);
    assert!(created.body.is_empty());
    let found = store.get(&name).expect(200);
    assert_eq!(found.body, b"sealed");
    assert_eq!(found.header(EXPIRES), Some(until.as_str()));
    assert_eq!(found.header("content-type"), Some("application/octet-stream"));
    assert_eq!(found.header("cache-control"), Some("no-store"));

    // The same bytes again: for its owner they stay longer, never shorter; for others nothing changes.
    let later = after(9_000);
    put(&owner(1), &later, b"sealed").expect(200);
    put(&owner(1), &after(60), b"sealed").expect(200);
    put(&owner(2), &after(20_000), b"sealed").expect(200);
    assert_eq!(store.get(&name).expect(200).header(EXPIRES), Some(later.as_str()));
    error(&put(&owner(1), &until, b"other").expect(409));
    error(&put(&owner(2), &until, b"other").expect(409));
    assert_eq!(store.get(&name).expect(200).body, b"sealed");

    // Not the owner, not there, no token: one answer for all of them.
    let authorization = |value: &str, name: &str| {
        let headers: &[_] = if value.is_empty() { &[] } else { &[("Authorization", value)] };
        store.ask("DELETE", &path(name), headers, b"").expect(404)
    };
    let unknown = kith_tests::hello::name();
    for (value, name) in [
        (bearer(2).as_str(), &name),
        (bearer(1).as_str(), &unknown),
        ("", &name),
        ("Bearer", &name),
        ("Bearer short", &name),
        (&bearer(1).replace("Bearer", "Basic"), &name),
    ] {
        let refused = authorization(value, name);
        assert_eq!(refused.body, nothing.body, "{value}");
        let names = |answer: &Answer| answer.headers.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>();
        assert_eq!(names(&refused), names(&nothing), "{value}");
    }
    let gone = store.withdraw(&name).expect(204);
    assert!(gone.body.is_empty());
    assert_eq!(error(&store.get(&name).expect(410)), "withdrawn");
    store.withdraw(&name).expect(404);
    put(&owner(1), &until, b"sealed").expect(409);
}

#[test]
fn c17_what_is_malformed_is_refused_each_for_its_reason() {
    let (_host, store) = serving();
    let name = name();
    let (owner, until) = (owner(1), after(3_600));
    let good = [(OWNER, owner.as_str()), (EXPIRES, until.as_str())];
    let most = vec![7; limits::HELLO_BLOB];
    store.ask("PUT", &path(&kith_tests::hello::name()), &good, &most).expect(201);
    error(&store.ask("PUT", &path(&name), &good, &vec![7; limits::HELLO_BLOB + 1]).expect(413));
    error(&store.ask("PUT", &path(&name), &good, b"").expect(422));
    // No expiry is a week.
    let week = kith_tests::hello::name();
    store.ask("PUT", &path(&week), &good[..1], b"x").expect(201);
    let expires: u64 = store.get(&week).expect(200).header(EXPIRES).expect("a time").parse().expect("a number");
    let around: u64 = after(limits::HELLO_SECONDS_USUAL).parse().expect("a number");
    assert!(expires.abs_diff(around) < 120, "{expires} {around}");

    let (soon, late) = (after(5), after(limits::HELLO_SECONDS.end() + 600));
    for (what, headers) in [
        ("no owner", vec![good[1]]),
        ("a short owner", vec![(OWNER, "abcd"), good[1]]),
        ("an owner that is no hex", vec![(OWNER, &*"x".repeat(64)), good[1]]),
        ("two owners", vec![good[0], good[0], good[1]]),
        ("two expiries", vec![good[0], good[1], good[1]]),
        ("an empty expiry", vec![good[0], (EXPIRES, "")]),
        ("a date", vec![good[0], (EXPIRES, "Sun, 06 Nov 1994 08:49:37 GMT")]),
        ("a negative expiry", vec![good[0], (EXPIRES, "-1")]),
        ("2^64", vec![good[0], (EXPIRES, "18446744073709551616")]),
        ("too soon", vec![good[0], (EXPIRES, &soon)]),
        ("too late", vec![good[0], (EXPIRES, &late)]),
    ] {
        let headers: Vec<(&str, &str)> = headers.into_iter().collect();
        let answer = store.ask("PUT", &path(&name), &headers, b"x");
        assert_eq!(answer.status, 422, "{what}: {answer:?}");
        error(&answer);
    }
    store.get(&name).expect(404);

    // A body of no declared length is as good; one without end is refused where it becomes too long.
    let chunk = |length: usize| format!("{length:x}\r\n{}\r\n", "x".repeat(length));
    let head = |name: &str| {
        let path = path(name);
        format!("PUT {path} HTTP/1.1\r\nHost: x\r\n{OWNER}: {owner}\r\nTransfer-Encoding: chunked\r\n\r\n")
    };
    store.caller.ask(format!("{}{}0\r\n\r\n", head(&name), chunk(512)).as_bytes()).expect(201);
    let endless = kith_tests::hello::name();
    let mut connection = store.caller.connect().expect("a handshake");
    connection.write(format!("{}{}", head(&endless), chunk(4_000)).as_bytes());
    connection.write(chunk(100).as_bytes());
    assert_eq!(connection.answer().expect("an answer, without its end").status, 413);
    // One that is said to be too long is refused before any of it is there.
    let mut connection = store.caller.connect().expect("a handshake");
    let huge = path(&endless);
    connection.write(
        format!("PUT {huge} HTTP/1.1\r\nHost: x\r\n{OWNER}: {owner}\r\nContent-Length: 99999999999\r\n\r\n").as_bytes(),
    );
    assert_eq!(connection.answer().expect("an answer, without its content").status, 413);
    store.get(&endless).expect(404);
}

#[test]
fn there_is_no_list_and_no_other_path() {
    let (_host, store) = serving();
    let name = name();
    store.put(&name, b"sealed").expect(201);
    let escaped = format!("%{:02X}{}", name.as_bytes()[0], &name[1..]);
    for target in [
        "/".to_owned(),
        "/v1/hello".to_owned(),
        PATH.to_owned(),
        format!("{PATH}?x"),
        path(&name[1..]),
        path(&format!("{name}A")),
        path(&format!("{name}=")),
        path(&format!("{name}/")),
        path(&escaped),
        path(&format!("../hello/{name}")),
        format!("/v1//hello/{name}"),
        format!("/v2/hello/{name}"),
        "/api/v2/ping".to_owned(),
    ] {
        for method in ["GET", "PUT", "DELETE", "POST"] {
            let answer = store.ask(method, &target, &[(OWNER, &owner(1))], b"x");
            assert_eq!(answer.status, 404, "{method} {target}");
            error(&answer);
        }
    }
    for method in ["POST", "PATCH", "OPTIONS", "TRACE", "PROPFIND"] {
        let answer = store.ask(method, &path(&name), &[], b"").expect(405);
        assert_eq!(answer.header("allow"), Some("GET, PUT, DELETE"), "{method}");
        error(&answer);
    }
    // None of that was a lookup: there are as many left as before.
    store.get(&name).expect(200);
}

#[test]
fn a_blob_expires_and_only_its_owner_may_follow_it() {
    let mut host = Host::new("anna");
    host.configure(SERVE);
    let Some(clock) = Clock::of(&mut host) else { return };
    host.start();
    let store = Store::of(&host);
    let name = name();
    store.put(&name, b"sealed").expect(201);
    clock.set(3_700);
    assert_eq!(error(&store.get(&name).expect(410)), "expired");
    let until = after(3_700 + 3_600);
    let put = |n: u8| store.ask("PUT", &path(&name), &[(OWNER, &owner(n)), (EXPIRES, &until)], b"another");
    put(2).expect(409);
    put(1).expect(201);
    assert_eq!(store.get(&name).expect(200).body, b"another");
    // A day after it is over nothing is known of it.
    clock.set(3_700 + 3_600 + 86_400 + 60);
    store.get(&name).expect(404);
}

#[test]
fn a_restart_and_a_kill_keep_blobs_and_the_certificate() {
    let (mut host, store) = serving();
    let [kept, withdrawn, last] = [name(), name(), name()];
    store.put(&kept, b"kept").expect(201);
    store.put(&withdrawn, b"withdrawn").expect(201);
    store.withdraw(&withdrawn).expect(204);
    assert_eq!(store.caller.connect().expect("a handshake").certificate_hash(), store.hash);
    host.restart();
    let again = Store::of(&host);
    assert_eq!(again.hash, store.hash, "who pinned it still knows it");
    again.put(&last, b"last").expect(201);
    // What was answered is there, however it ends.
    host.kill9();
    host.start();
    let store = Store::of(&host);
    assert_eq!(store.get(&kept).expect(200).body, b"kept");
    assert_eq!(store.get(&last).expect(200).body, b"last");
    assert_eq!(error(&store.get(&withdrawn).expect(410)), "withdrawn");
    assert_eq!(store.hash, again.hash);
}

#[test]
fn a_receive_window_gives_out_what_the_store_has_and_nothing_without_it() {
    let (host, store) = serving();
    let name = name();
    store.put(&name, b"sealed").expect(201);
    let window = Window::open(&host);
    let lookup = request("GET", &path(&name), &[], b"");
    assert_eq!(window.caller().ask(&lookup).expect(200).body, b"sealed");
    window.guest(2).ping().expect(200);
    // A device that has no code and was not told to be a store is none.
    let other = Host::running("bert");
    assert!(other.status()["hello_port"].is_null());
    let window = Window::open(&other);
    window.caller().ask(&lookup).expect(404);
    window.caller().ask(&request("PUT", &path(&name), &[(OWNER, &owner(1))], b"x")).expect(404);
}
