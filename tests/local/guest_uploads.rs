//! Content on its way in: more, less or other than declared, twice at once, broken off, and where it ends up.

use std::collections::BTreeSet;
use std::fs;

use kith_tests::guest::{File, Guest, Window, offering, request, sha256};
use kith_tests::host::Host;
use kith_tests::random::Random;
use kith_tests::{PATIENCE, wait};
use serde_json::json;

use crate::support::{parts, problems};

const MEBIBYTE: usize = 1 << 20;

/// Somebody who was let in, and may upload `files`.
#[track_caller]
fn offered(window: &Window, version: u32, files: &[File]) -> (Guest, String, Vec<String>) {
    let guest = window.guest(version);
    let session = guest.session(&window.pin);
    let transmissions = guest.prepared(&session, files);
    (guest, session, transmissions)
}

fn large(name: &str, mebibytes: usize) -> File {
    File::new(name, &Random::seeded(mebibytes as u64).bytes(mebibytes * MEBIBYTE))
}

#[test]
fn what_is_declared_arrives_whole_and_under_its_name() {
    let host = Host::running("anna");
    let window = Window::open(&host);
    for version in [1, 2] {
        let mut files = vec![large("one.bin", 9), File::new("empty.txt", b""), File::new("letter.txt", b"Dear Anna")];
        files.extend((0..30).map(|i| File::new(&format!("{version}-{i}.txt"), &[i; 3000])));
        window.guest(version).send(&window.pin, &files);
        for file in &files[3..] {
            assert!(window.read(&file.name) == file.content, "{}", file.name);
        }
        let one = if version == 1 { "one.bin" } else { "one (1).bin" };
        assert!(window.read(one) == files[0].content);
    }
    assert_eq!(window.names().len(), 2 * 33);
    assert!(parts(&window.dir).is_empty());
}

#[test]
fn c17_a_failed_upload_leaves_nothing_and_may_be_tried_again() {
    let host = Host::running("anna");
    let window = Window::open(&host);
    for version in [1, 2] {
        let name = format!("{version}.bin");
        let file = large(&name, 2);
        let (guest, session, transmissions) = offered(&window, version, std::slice::from_ref(&file));
        let changed = |change: fn(&mut Vec<u8>)| {
            let mut file = file.clone();
            change(&mut file.content);
            file
        };
        for (what, file, status) in [
            ("longer", changed(|content| content.push(1)), 413),
            ("much longer", changed(|content| content.extend_from_within(..)), 413),
            ("shorter", changed(|content| content.truncate(content.len() - 1)), 400),
            ("nothing", changed(Vec::clear), 400),
            ("another bit", changed(|content| content[MEBIBYTE] ^= 1), 406),
            ("itself", file.clone(), 200),
        ] {
            let answer = guest.upload(&session, &file, &transmissions[0]);
            assert_eq!(answer.status, status, "{what}: {answer:?}");
            if status != 200 {
                wait::until_true("the traces to go", PATIENCE, || !window.names().iter().any(|it| it.contains("part")));
                assert!(!window.dir.join(&name).exists(), "{what}");
            }
        }
        assert!(window.read(&name) == file.content);
    }
}

#[test]
fn c17_a_body_in_chunks_is_counted_and_one_without_end_is_cut_off() {
    let host = Host::running("anna");
    let window = Window::open(&host);
    let file = large("chunks.bin", 1);
    let (guest, session, transmissions) = offered(&window, 1, std::slice::from_ref(&file));
    let head = || {
        let path = guest.upload_path(&session, &file.id, &transmissions[0]);
        format!("PUT {path} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n").into_bytes()
    };
    let chunk = |content: &[u8]| [format!("{:x}\r\n", content.len()).as_bytes(), content, b"\r\n"].concat();
    // Without end: refused when it is more than was declared, not when it is over.
    let mut connection = guest.caller.connect().expect("a handshake");
    connection.write(&head());
    let piece = chunk(&[0; 60_000]);
    for _ in 0..30 {
        if !connection.write(&piece) {
            break;
        }
    }
    assert_eq!(connection.answer().expect("an answer").status, 413);
    // With an end that comes too early.
    let short = [head(), chunk(&file.content[..1000]), b"0\r\n\r\n".to_vec()].concat();
    guest.caller.ask(&short).expect(400);
    // With a chunk that is none.
    let broken = [head(), b"zz\r\n".to_vec()].concat();
    assert!(guest.caller.try_ask(&broken).map_or(400, |answer| answer.status) == 400);
    // Whole.
    let mut whole = head();
    file.content.chunks(70_001).for_each(|piece| whole.extend(chunk(piece)));
    whole.extend(b"0\r\n\r\n");
    guest.caller.ask(&whole).expect(200);
    assert!(window.read("chunks.bin") == file.content);
}

#[test]
fn a_refusal_reaches_whoever_sends_everything_before_listening() {
    let host = Host::running("anna");
    let window = Window::open(&host);
    for version in [1, 2] {
        let file = File::new("letter.txt", b"Dear Anna");
        let (guest, session, transmissions) = offered(&window, version, std::slice::from_ref(&file));
        let much = File { content: vec![7; 20 * MEBIBYTE], ..file.clone() };
        // Too large by its length, by another permission, by another session.
        guest.upload(&session, &much, &transmissions[0]).expect(413);
        guest.upload(&session, &much, "another").expect(403);
        guest.upload("another", &much, &transmissions[0]).expect(401);
        let answer = guest.post("register", &vec![b' '; 5 * MEBIBYTE]);
        assert_eq!(answer.status, 413);
        guest.upload(&session, &file, &transmissions[0]).expect(200);
    }
    assert_eq!(window.names(), ["letter (1).txt", "letter.txt"]);
}

#[test]
fn of_two_uploads_of_one_file_at_once_one_is_taken() {
    let host = Host::running("anna");
    let window = Window::open(&host);
    for version in [1, 2] {
        let file = large(&format!("{version}.bin"), 1);
        let (guest, session, transmissions) = offered(&window, version, std::slice::from_ref(&file));
        let slow = guest.uploading(&session, &file, &transmissions[0]);
        let mut first = guest.caller.connect().expect("a handshake");
        first.write(&slow[..slow.len() / 2]);
        wait::until_true("a part", PATIENCE, || parts(&window.dir).len() == 1);
        guest.upload(&session, &file, &transmissions[0]).expect(409);
        guest.prepare(&session, &[large("other.bin", 1)]).expect(409);
        first.write(&slow[slow.len() / 2..]);
        assert_eq!(first.answer().expect("an answer").status, 200);
        // Several that begin at the same moment.
        let file = large(&format!("{version}-race.bin"), 2);
        let (guest, session, transmissions) = offered(&window, version, std::slice::from_ref(&file));
        let mut statuses: Vec<u16> = std::thread::scope(|scope| {
            let upload = || guest.upload(&session, &file, &transmissions[0]).status;
            let racers: Vec<_> = (0..6).map(|_| scope.spawn(upload)).collect();
            racers.into_iter().map(|racer| racer.join().expect("an answer")).collect()
        });
        statuses.sort_unstable();
        assert_eq!(statuses, [200, 409, 409, 409, 409, 409]);
        assert!(window.read(&file.name) == file.content);
    }
    assert_eq!(window.names(), ["1-race.bin", "1.bin", "2-race.bin", "2.bin"]);
}

#[test]
fn several_files_arrive_at_once_over_as_many_connections() {
    let host = Host::running("anna");
    let window = Window::open(&host);
    // All of one name: none overwrites another.
    let files: Vec<File> = (1..=6).map(|mebibytes| large("same.bin", mebibytes)).collect();
    let (guest, session, transmissions) = offered(&window, 2, &files);
    std::thread::scope(|scope| {
        for (file, transmission) in files.iter().zip(&transmissions) {
            let (guest, session) = (&guest, &session);
            scope.spawn(move || guest.upload(session, file, transmission).expect(200));
        }
    });
    let names: BTreeSet<String> = window.names().into_iter().collect();
    let wanted = (1..6).map(|i| format!("same ({i}).bin")).chain(["same.bin".to_owned()]).collect();
    assert_eq!(names, wanted);
    let found: BTreeSet<String> = names.iter().map(|name| sha256(&window.read(name))).collect();
    assert_eq!(found, files.iter().map(|file| sha256(&file.content)).collect());
}

#[test]
fn an_upload_that_breaks_off_is_forgotten_and_the_others_go_on() {
    let host = Host::running("anna");
    let window = Window::open(&host);
    let files = [large("one.bin", 3), File::new("two.txt", b"two")];
    let (guest, session, transmissions) = offered(&window, 1, &files);
    for half_close in [false, true] {
        let upload = guest.uploading(&session, &files[0], &transmissions[0]);
        let mut connection = guest.caller.connect().expect("a handshake");
        connection.write(&upload[..MEBIBYTE]);
        wait::until_true("a part", PATIENCE, || parts(&window.dir).len() == 1);
        if half_close {
            // The sender listens still, and is told.
            connection.half_close();
            assert_eq!(connection.answer().expect("an answer").status, 400);
        } else {
            drop(connection);
        }
        wait::until_true("the traces to go", PATIENCE, || window.names().iter().all(|name| name == "two.txt"));
        if !half_close {
            guest.upload(&session, &files[1], &transmissions[1]).expect(200);
        }
    }
    wait::until_true("its place to be free", PATIENCE, || {
        guest.upload(&session, &files[0], &transmissions[0]).status == 200
    });
    assert!(window.read("one.bin") == files[0].content);
    assert_eq!(window.names(), ["one.bin", "two.txt"]);
}

#[test]
fn g46_what_a_kill_breaks_off_is_gone_after_the_next_start() {
    let mut host = Host::running("anna");
    let window = Window::open(&host);
    fs::write(window.dir.join("mine"), "mine").expect("the home is ours");
    let files = [large("one.bin", 3), File::new("two.txt", b"two")];
    let (guest, session, transmissions) = offered(&window, 2, &files);
    guest.upload(&session, &files[1], &transmissions[1]).expect(200);
    let upload = guest.uploading(&session, &files[0], &transmissions[0]);
    let mut connection = guest.caller.connect().expect("a handshake");
    connection.write(&upload[..2 * MEBIBYTE]);
    wait::until_true("a part", PATIENCE, || parts(&window.dir).len() == 1);
    host.kill9();
    assert_eq!(parts(&window.dir).len(), 1, "a kill cleans nothing up");
    host.start();
    wait::until_true("the part to go", PATIENCE, || parts(&window.dir).is_empty());
    assert_eq!(window.names(), ["mine", "two.txt"]);
}

#[test]
fn a_mismatch_costs_one_file_only_and_is_told_to_both_sides() {
    let host = Host::running("anna");
    let window = Window::open(&host);
    let files = [File::new("one.txt", b"one"), File::new("two.txt", b"two"), File::new("three.txt", b"three")];
    let guest = window.guest(2);
    let session = guest.session(&window.pin);
    let mut offers: Vec<_> = files.iter().map(File::offer).collect();
    offers[1]["sha256"] = json!(sha256(b"another"));
    offers[2]["sha256"] = json!(sha256(b"three").to_uppercase());
    let accepted = guest.post("prepare-upload", &offering(&session, &json!(offers))).expect(200).json();
    let statuses: Vec<u16> = accepted["files"]
        .as_array()
        .expect("files")
        .iter()
        .map(|it| {
            let file = files.iter().find(|file| it["id"] == file.id.as_str()).expect("an offered file");
            guest.upload(&session, file, it["transmissionId"].as_str().expect("an id")).status
        })
        .collect();
    assert_eq!(statuses, [200, 406, 200]);
    guest.close(&session).expect(200);
    assert_eq!(window.names(), ["one.txt", "three.txt"]);
    let list = host.door().call("transfer.list", json!({ "all": true }));
    let transfer = &list["transfers"][0];
    assert_eq!((&transfer["state"], &transfer["entries_done"]), (&json!("done"), &json!(2)));
    assert_eq!(problems(transfer), ["two.txt: not_sent"]);
}

#[test]
fn a_second_version_guest_may_come_from_another_address_with_its_certificate() {
    let host = Host::running("anna");
    let window = Window::open(&host);
    let file = File::new("letter.txt", b"Dear Anna");
    let (guest, session, transmissions) = offered(&window, 2, std::slice::from_ref(&file));
    let moved = guest.calling(|caller| caller.to("::1"));
    moved.upload(&session, &file, &transmissions[0]).expect(200);
    moved.close(&session).expect(200);
    assert_eq!(window.names(), ["letter.txt"]);
}

#[test]
fn c18_a_thousand_files_with_thumbnails_are_taken_and_one_more_is_not() {
    let host = Host::running("anna");
    let window = Window::open(&host);
    let guest = window.guest(1);
    let session = guest.session(&window.pin);
    let files: Vec<File> = (0..1001).map(|i| File::new(&format!("{i}.txt"), b"")).collect();
    guest.prepare(&session, &files).expect(413);
    let thumbnail = "A".repeat(20_000);
    let offers: Vec<_> = files[..1000]
        .iter()
        .map(|file| {
            let mut offer = file.offer();
            offer["thumbnail"] = json!(thumbnail);
            offer
        })
        .collect();
    // Twenty megabytes of thumbnails.
    let accepted = guest.post("prepare-upload", &offering(&session, &json!(offers))).expect(200).json();
    assert_eq!(accepted["files"].as_array().map(Vec::len), Some(1000));
    // More than any offer needs: refused as it comes, while the guest is listened to.
    let mut connection = guest.caller.connect().expect("a handshake");
    let body = vec![b' '; 40 * MEBIBYTE];
    connection.write(&request("POST", &guest.path("prepare-upload"), &[], &body));
    assert_eq!(connection.answer().expect("an answer").status, 413);
    let deep = format!("{{\"sessionId\":\"{session}\",\"files\":{}", "[".repeat(MEBIBYTE));
    guest.post("prepare-upload", deep.as_bytes()).expect(400);
    assert_eq!(fs::read_dir(&window.dir).map_or(0, Iterator::count), 0);
}
