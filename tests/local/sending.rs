//! Trees, streams and texts, from one device to the other.

use std::fs::{self, File};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::path::Path;

use kith_tests::random::Random;
use kith_tests::{PATIENCE, tree, wait};
use serde_json::json;

use crate::support::{
    assert_same_file, dir, file, friends, giver_and_taker, names, offer, parts, problems, send, text,
};

#[test]
fn a_tree_arrives_as_it_is() {
    let (anna, bert, into) = giver_and_taker();
    let trip = anna.path("trip");
    tree::sample(&trip, 11).expect("the home is ours");
    let sent = send(&anna, &trip, &bert);
    tree::assert_same(&trip, &into.join("trip"));
    assert_eq!(problems(&sent), [] as [&str; 0]);
    assert_eq!((&sent["entries"], &sent["bytes"]), (&sent["entries_done"], &sent["bytes_done"]));
    assert!(parts(&into).is_empty());
    // Directories keep their times, too.
    let modified = |path: &Path| fs::metadata(path).expect("it is there").modified().expect("a time");
    for below in ["", "empty", "photos/2024"] {
        assert_eq!(modified(&into.join("trip").join(below)), modified(&trip.join(below)), "{below}");
    }
    let received = bert.transfer(sent["id"].as_str().expect("an id")).expect("it is known");
    assert_eq!(received["placed"], json!(["trip"]));
}

#[test]
fn several_paths_keep_their_names_and_twins_are_refused() {
    let (anna, _bert, into) = giver_and_taker();
    let one = file(&anna, "a/one.txt", 100);
    let two = file(&anna, "b/two.txt", 200);
    let album = dir(&anna, "album");
    file(&anna, "album/x", 3);
    anna.ctl(&["send", text(&one), text(&two), text(&album), "--to", "bert", "--json"]).ok();
    assert_eq!(names(&into), ["album", "one.txt", "two.txt"]);
    let twin = file(&anna, "c/one.txt", 300);
    let refused = anna.ctl_refused(&["send", text(&one), text(&twin), "--to", "bert"]);
    assert_eq!(refused, ("invalid_param".to_owned(), 2));
    assert_eq!(names(&into), ["album", "one.txt", "two.txt"]);
}

#[test]
fn a10_what_cannot_be_carried_is_listed_and_the_rest_arrives() {
    let (anna, _bert, into) = giver_and_taker();
    let trip = dir(&anna, "trip");
    file(&anna, "trip/good.txt", 100);
    let _socket = UnixListener::bind(trip.join("socket")).expect("the home is ours");
    rustix::fs::mknodat(rustix::fs::CWD, trip.join("fifo"), rustix::fs::FileType::Fifo, 0o600.into(), 0)
        .expect("the home is ours");
    for (link, target) in [
        ("outside", "/etc/passwd"),
        ("above", "../other"),
        ("far-above", "../../../../../../etc/passwd"),
        ("up-and-down", "sub/../../x"),
        ("fine", "good.txt"),
        ("dangling", "not-there"),
    ] {
        symlink(target, trip.join(link)).expect("the home is ours");
    }
    file(&anna, "trip/with\nnewline", 5);
    file(&anna, "trip/with\x1bescape", 5);
    file(&anna, "trip/back\\slash", 5);
    file(&anna, "trip/colon:stream", 5);
    file(&anna, "trip/CON", 5);
    file(&anna, "trip/trailing.", 5);
    fs::write(trip.join(std::ffi::OsStr::from_bytes(b"latin-\xe9")), "x").expect("the home is ours");
    let setuid = file(&anna, "trip/setuid", 10);
    fs::set_permissions(&setuid, fs::Permissions::from_mode(0o6755)).expect("it is ours");

    let output = anna.ctl(&["send", text(&trip), "--to", "bert", "--json"]);
    let sent = output.json();
    assert_eq!(sent["state"], "done", "{sent}");
    assert_eq!(names(&into.join("trip")), ["dangling", "fine", "good.txt", "setuid"]);
    assert_eq!(fs::metadata(into.join("trip/setuid")).expect("it is there").mode() & 0o7777 & !0o055, 0o700);
    let expected = [
        "trip/CON: name_reserved",
        "trip/above: link_outside",
        "trip/back\\slash: name_backslash",
        "trip/colon:stream: name_colon",
        "trip/far-above: link_outside",
        "trip/fifo: special",
        "trip/latin-\u{fffd}: not_utf8",
        "trip/outside: link_outside",
        "trip/socket: special",
        "trip/trailing.: name_trailing_dot",
        "trip/up-and-down: link_outside",
        "trip/with\nnewline: name_control_character",
        "trip/with\u{1b}escape: name_control_character",
    ];
    assert_eq!(problems(&sent), expected);
    assert_eq!(sent["problem_count"], expected.len());
    // It was not all delivered, and a script learns that.
    assert_eq!(output.status, 1);
    assert_eq!(output.error()["error"]["code"], "incomplete");
    // It is still known after a restart.
    let id = sent["id"].as_str().expect("an id").to_owned();
    let mut anna = anna;
    anna.restart();
    assert_eq!(problems(&anna.transfer(&id).expect("it is remembered")), expected);
}

#[test]
fn a1_roots_that_cannot_be_sent_are_refused_at_once() {
    let (anna, bert) = friends();
    let fifo = anna.path("fifo");
    rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, 0o600.into(), 0).expect("the home is ours");
    let reserved = file(&anna, "aux.txt", 1);
    // Where the machine is too busy to look within half a second, it tells of a transfer first, which then fails.
    let mut late = 0;
    for (path, code) in [
        (text(&fifo), "invalid_param"),
        (text(&reserved), "invalid_param"),
        ("/dev/null", "invalid_param"),
        ("/", "invalid_param"),
        ("/no/such", "file_not_found"),
    ] {
        let output = anna.ctl(&["send", path, "--to", "bert", "--json"]);
        assert_eq!(output.error()["error"]["code"], code, "{path}");
        late += output.objects().len().min(1);
    }
    let mut door = anna.door();
    for paths in [json!(["relative"]), json!([]), json!([""])] {
        let error = wait::until("a refusal", PATIENCE, || {
            let answer = door.try_call("transfer.send", json!({"peer": "bert", "paths": paths}));
            late += usize::from(answer.is_ok());
            answer.err()
        });
        assert_eq!(error["data"]["code"], "invalid_param", "{paths}");
    }
    for params in [
        json!({"peer": "bert", "paths": ["/etc/hosts"], "text": "both"}),
        json!({"peer": "bert", "stream": "x", "text": "both"}),
        json!({"peer": "bert", "text": "x".repeat((64 << 10) + 1)}),
    ] {
        let code = door.refused("transfer.send", params);
        assert!(["invalid_param", "too_large"].contains(&code.as_str()), "{code}");
    }
    assert_eq!(bert.status()["inbox"], 0);
    let left = door.call("transfer.list", json!({"all": true}))["transfers"].clone();
    assert_eq!(left.as_array().map(Vec::len), Some(late), "nothing is left of them: {left}");
}

#[test]
fn a4_names_of_every_kind_and_levels_of_every_depth() {
    let (anna, bert, into) = giver_and_taker();
    let trip = dir(&anna, "trip");
    let long = "x".repeat(255);
    for name in [
        "with space",
        " leading",
        "😀 emoji 👩‍👩‍👧",
        "résumé",
        "日本語",
        "%s%n",
        "$(touch pwned)",
        "; rm -rf x",
        "-rf",
        "--to",
        "a'b\"c",
        "<b>html",
        "exe.\u{202e}gpj",
        "zero\u{200b}width",
        ".hidden",
        "...dots",
        &long,
        "*?",
        "~",
        "#x",
    ] {
        fs::write(trip.join(name), name).expect("the home is ours");
    }
    // 120 levels are carried; 300 are not, and are told.
    let deep = (0..120).map(|n| format!("d{n}")).collect::<Vec<_>>().join("/");
    fs::create_dir_all(trip.join(&deep)).expect("the home is ours");
    fs::write(trip.join(&deep).join("bottom"), "here").expect("the home is ours");
    send(&anna, &trip, &bert);
    tree::assert_same(&trip, &into.join("trip"));

    let abyss = dir(&anna, "abyss");
    file(&anna, "abyss/top", 10);
    fs::create_dir_all(abyss.join("d/".repeat(300))).expect("the home is ours");
    let output = anna.ctl(&["send", text(&abyss), "--to", "bert", "--json"]).expect(1);
    let sent = output.json();
    assert_eq!((&sent["state"], &sent["problem_count"]), (&json!("done"), &json!(1)));
    assert!(problems(&sent)[0].ends_with(": path_too_deep"), "{sent}");
    assert_same_file(&abyss.join("top"), &into.join("abyss/top"));
}

#[test]
fn a5_names_that_differ_only_by_case_or_form_all_arrive() {
    let (anna, bert, into) = giver_and_taker();
    let trip = dir(&anna, "trip");
    for name in ["Readme", "README", "readme", "caf\u{e9}", "cafe\u{301}", "\u{212a}", "K", "k"] {
        fs::write(trip.join(name), format!("I am {name}")).expect("the home is ours");
    }
    send(&anna, &trip, &bert);
    tree::assert_same(&trip, &into.join("trip"));
    // Overwriting is for what was there before, not for a twin in the same offer.
    bert.ctl(&["trust", "policy", "anna", "--on-conflict", "overwrite"]).ok();
    send(&anna, &trip, &bert);
    let contents = |dir: &Path| {
        let mut all: Vec<String> =
            names(dir).iter().map(|name| fs::read_to_string(dir.join(name)).expect("text")).collect();
        all.sort();
        all.dedup();
        all
    };
    assert_eq!(contents(&into.join("trip")), contents(&trip), "no twin has replaced another");
}

#[test]
fn several_transfers_at_once_both_ways() {
    let (anna, bert, into) = giver_and_taker();
    let back = anna.accept_all_from(&bert);
    let mut sent = Vec::new();
    for n in 0..6 {
        for (from, to, dir) in [(&anna, &bert, &into), (&bert, &anna, &back)] {
            let path = from.path(&format!("out/{n}.bin"));
            fs::create_dir_all(path.parent().expect("a directory")).expect("the home is ours");
            tree::large(&path, (n + 1) << 20, n).expect("there is room");
            let id = crate::support::send_later(from, &path, &to.id());
            sent.push((from, id, path, dir.join(format!("{n}.bin"))));
        }
    }
    for (from, id, path, placed) in &sent {
        from.wait_transfer(id, "done");
        assert_same_file(path, placed);
    }
}

#[test]
fn g62_a_file_that_changed_since_it_was_offered_arrives_as_it_is_now() {
    let (anna, bert) = friends();
    let book = dir(&anna, "book");
    let (grows, shrinks, goes) =
        (file(&anna, "book/grows", 3 << 20), file(&anna, "book/shrinks", 3 << 20), file(&anna, "book/goes", 100));
    let id = crate::support::send_later(&anna, &book, "bert");
    offer(&bert);
    fs::write(&grows, Random::seeded(9).bytes((4 << 20) + 5)).expect("it is ours");
    File::options().write(true).open(&shrinks).expect("it is ours").set_len(1000).expect("it is ours");
    fs::remove_file(&goes).expect("it is ours");
    let into = dir(&bert, "in");
    bert.ctl(&["inbox", "accept", &id, "--to", text(&into)]).ok();
    let sent = anna.wait_transfer(&id, "done");
    assert_same_file(&grows, &into.join("book/grows"));
    assert_same_file(&shrinks, &into.join("book/shrinks"));
    assert_eq!(problems(&sent), ["book/goes: not_found"]);
    assert_eq!(names(&into.join("book")), ["grows", "shrinks"]);
    assert_eq!(problems(&bert.wait_transfer(&id, "done")), ["book/goes: not_found"]);
}
