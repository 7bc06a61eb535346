//! Disks that are full when guests come, and directories that go away. A small file system of its own has to be mounted
//! for that, which is for root.

use std::fs;
use std::path::Path;

use kith_tests::guest::{File, Window};
use kith_tests::host::Host;
use kith_tests::random::Random;
use kith_tests::{PATIENCE, require, wait};
use serde_json::json;

use crate::space::Small;
use crate::support::{dir, is_root, names};

fn bytes(mebibytes: usize) -> Vec<u8> {
    Random::seeded(mebibytes as u64).bytes(mebibytes << 20)
}

#[test]
fn c23_an_offer_that_has_no_room_is_refused_and_nothing_is_written() {
    let host = Host::running("anna");
    let into = dir(&host, "small");
    // Some room is always left to others: both files would fit without that.
    let Some(small) = Small::at(into.clone(), "34M") else { return };
    let window = Window::with(&host, &json!({ "accept": true, "dir": into }));
    for version in [1, 2] {
        let guest = window.guest(version);
        let session = guest.session(&window.pin);
        let files = [File::new("one.bin", &bytes(9)), File::new("two.bin", &bytes(10))];
        guest.prepare(&session, &files).expect(507);
        assert_eq!(names(&into), [] as [&str; 0]);
        // What has room is taken in the same session, and the rest when there is room.
        let transmission = guest.prepared(&session, &files[..1]).remove(0);
        guest.upload(&session, &files[0], &transmission).expect(200);
        let session = guest.session(&window.pin);
        guest.prepare(&session, &files).expect(507);
        small.resize("64M");
        let transmissions = guest.prepared(&session, &files[1..]);
        guest.upload(&session, &files[1], &transmissions[0]).expect(200);
        guest.close(&session).expect(200);
        assert!(window.read("one.bin") == files[0].content && window.read("two.bin") == files[1].content);
        names(&into).iter().for_each(|name| fs::remove_file(into.join(name)).expect("it is ours"));
        small.resize("34M");
    }
}

#[test]
fn c23_a_disk_that_fills_up_at_byte_n_costs_one_file_and_recovers() {
    let host = Host::running("anna");
    let into = dir(&host, "small");
    let Some(_small) = Small::at(into.clone(), "48M") else { return };
    for (version, chunked) in [(1, false), (2, true)] {
        let window = Window::with(&host, &json!({ "accept": true, "dir": into }));
        let guest = window.guest(version);
        let session = guest.session(&window.pin);
        let files = [File::new("large.bin", &bytes(12)), File::new("letter.txt", b"Dear Anna")];
        let transmissions = guest.prepared(&session, &files);
        // Somebody else takes the room away after it was promised.
        fs::write(into.join("hog"), bytes(40)).expect("there is room");
        let request = if chunked {
            let path = guest.upload_path(&session, &files[0].id, &transmissions[0]);
            let head = format!("PUT {path} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n");
            let length = files[0].content.len();
            [head.as_bytes(), format!("{length:x}\r\n").as_bytes(), &files[0].content, b"\r\n0\r\n\r\n"].concat()
        } else {
            guest.uploading(&session, &files[0], &transmissions[0])
        };
        let answer = guest.caller.ask(&request);
        assert_eq!(answer.status, 507, "{answer:?}");
        assert_eq!(answer.json(), json!({ "error": "Insufficient storage space" }));
        wait::until_true("the traces to go", PATIENCE, || names(&into) == ["hog"]);
        // The small one has room, and the large one when there is room.
        guest.upload(&session, &files[1], &transmissions[1]).expect(200);
        guest.upload(&session, &files[0], &transmissions[0]).expect(507);
        fs::remove_file(into.join("hog")).expect("it is ours");
        guest.upload(&session, &files[0], &transmissions[0]).expect(200);
        assert!(window.read("large.bin") == files[0].content);
        guest.close(&session).expect(200);
        assert_eq!(names(&into), ["large.bin", "letter.txt"]);
        names(&into).iter().for_each(|name| fs::remove_file(into.join(name)).expect("it is ours"));
        window.close();
    }
}

#[test]
fn c23_a_directory_that_goes_away_or_may_not_be_written_is_told_and_told_apart() {
    let host = Host::running("anna");
    let into = dir(&host, "guests");
    let window = Window::with(&host, &json!({ "accept": true, "dir": into }));
    let guest = window.guest(1);
    let session = guest.session(&window.pin);
    let files = [File::new("one.txt", b"one"), File::new("two.txt", b"two")];
    let transmissions = guest.prepared(&session, &files);
    guest.upload(&session, &files[0], &transmissions[0]).expect(200);
    // Gone in the middle: an error, or a new directory; never a file elsewhere.
    fs::rename(&into, host.path("moved")).expect("the home is ours");
    let status = guest.upload(&session, &files[1], &transmissions[1]).status;
    assert!([200, 500].contains(&status), "{status}");
    let found = [names(&into), names(&host.path("moved"))].concat();
    assert_eq!(found.iter().filter(|name| *name == "two.txt").count(), usize::from(status == 200), "{found:?}");
    guest.close(&session);
    window.close();
    // One that cannot be made any more: no guest is told where it is.
    let into = dir(&host, "other");
    let window = Window::with(&host, &json!({ "accept": true, "dir": into }));
    fs::remove_dir(&into).expect("it is empty");
    fs::write(&into, "mine").expect("the home is ours");
    let guest = window.guest(2);
    let session = guest.session(&window.pin);
    let answer = guest.prepare(&session, &files).expect(500);
    assert_eq!(answer.json(), json!({ "error": "Server error" }));
    let failed = host.door().call("transfer.list", json!({ "all": true }))["transfers"][0].clone();
    assert_eq!((&failed["state"], &failed["reason"]["code"]), (&json!("failed"), &json!("invalid_param")));
}

#[test]
fn c23_a_read_only_file_system_is_an_error_of_one_offer() {
    if !is_root() {
        return require::skip("mount", "only root may mount");
    }
    let host = Host::running("anna");
    let into = dir(&host, "small");
    let Some(small) = Small::at(into.clone(), "48M") else { return };
    let window = Window::with(&host, &json!({ "accept": true, "dir": into }));
    small.resize("48M,ro");
    let guest = window.guest(1);
    let session = guest.session(&window.pin);
    let files = [File::new("one.txt", b"one")];
    let prepared = guest.prepare(&session, &files);
    if prepared.status == 200 {
        let transmission = prepared.json()["files"][0]["transmissionId"].as_str().expect("an id").to_owned();
        guest.upload(&session, &files[0], &transmission).expect(500);
    } else {
        prepared.expect(500);
    }
    assert_eq!(names(Path::new(&into)), [] as [&str; 0]);
    window.close();
    Window::open(&host).guest(1).register("000000").expect(401);
}
