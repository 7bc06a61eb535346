//! Sending between hosts, and revoking in the middle of it.

use std::fs;

use kith_tests::host::Host;
use kith_tests::process::Running;
use kith_tests::{PATIENCE, tree, wait};

use crate::net::{LONG, assert_same_file, befriend, begin, file, id_of, inbox, leave, network, text, wait_middle};

#[test]
fn a_file_a_tree_a_stream_and_a_text() {
    let Some((_lab, [anna, bert])) = network(["anna", "bert"]) else { return };
    befriend(&anna, &bert);
    let here = inbox(&bert, "anna");

    let letter = file(&anna, "letter.bin", (3 << 20) + 17, 1);
    let trip = anna.path("trip");
    tree::sample(&trip, 2).expect("the home is ours");
    let done = anna.ctl_json(&["send", text(&letter), text(&trip), "--to", "bert"]);
    assert_eq!((&done["state"], &done["problem_count"]), (&"done".into(), &0.into()), "{done}");
    assert_same_file(&letter, &here.join("letter.bin"));
    tree::assert_same(&trip, &here.join("trip"));
    assert_eq!(done["bytes"], done["bytes_done"], "{done}");

    let stream = file(&anna, "stream.bin", (5 << 20) + 1, 3);
    let mut command = anna.ctl_command(&["--json", "send", "-", "--name", "from stdin.bin", "--to", &bert.id()[..8]]);
    let mut sending = Running::spawn_fed(&mut command);
    for piece in fs::read(&stream).expect("a file of ours").chunks(100_000) {
        assert!(sending.feed(piece), "kithctl hung up");
    }
    let streamed = sending.finish(LONG).ok().json();
    assert_eq!(streamed["state"], "done", "{streamed}");
    assert_same_file(&stream, &here.join("from stdin.bin"));

    let said = "Grüße\n\twith \u{1b}[31mcolour\u{1b}[0m and 😀";
    let spoken = anna.ctl_json(&["send", "--text", said, "--to", "bert"]);
    let heard = bert.wait_transfer(spoken["id"].as_str().expect("an id"), "done");
    assert_eq!(heard["text"], said, "a text arrives as it was sent");
    // B14: and is harmless where it is shown.
    let shown = bert.ctl(&["transfers", "show", spoken["id"].as_str().expect("an id")]).ok();
    assert!(!shown.stdout.contains('\u{1b}'), "{:?}", shown.stdout);

    let mut entries: Vec<_> =
        fs::read_dir(&here).expect("the directory is there").map(|it| it.expect("an entry").file_name()).collect();
    entries.sort();
    assert_eq!(entries, ["from stdin.bin", "letter.bin", "trip"], "nothing else was left there");
}

/// Everybody sends to everybody at the same time.
#[test]
fn three_hosts_at_once() {
    let Some((_lab, [anna, bert, cleo])) = network(["anna", "bert", "cleo"]) else { return };
    let pairs = [(&anna, &bert), (&bert, &cleo), (&cleo, &anna)];
    for (one, other) in pairs {
        befriend(one, other);
    }
    let everybody = [&anna, &bert, &cleo];
    for (seed, host) in everybody.into_iter().enumerate() {
        let tree = host.path(&format!("tree-{}", host.name()));
        tree::sample(&tree, seed as u64).expect("the home is ours");
        tree::many(&tree.join("many"), 300, 4096, 7 + seed as u64).expect("the home is ours");
        file(host, &format!("tree-{}/large.bin", host.name()), 20 << 20, 70 + seed as u64);
    }
    let ways: Vec<_> = pairs.into_iter().flat_map(|(one, other)| [(one, other), (other, one)]).collect();
    let sending: Vec<_> =
        ways.iter().map(|(from, to)| begin(from, &from.path(&format!("tree-{}", from.name())), to.name())).collect();
    for (sending, (from, to)) in sending.into_iter().zip(&ways) {
        assert_eq!(sending.finish(LONG).ok().json()["state"], "done");
        let name = format!("tree-{}", from.name());
        tree::assert_same(&from.path(&name), &inbox(to, from.name()).join(&name));
    }
}

/// D35: sessions end at once on both ends, the other side is told plainly, and what it tells changes nothing there.
#[test]
fn d35_revoked_while_receiving() {
    let Some((lab, [anna, bert])) = network(["anna", "bert"]) else { return };
    befriend(&anna, &bert);
    lab.rate(1, 40);
    let large = file(&anna, "large.bin", 200 << 20, 1);
    let mut sending = begin(&anna, &large, "bert");
    let id = id_of(&mut sending);
    wait_middle(&bert, &id);

    bert.ctl(&["trust", "revoke", "anna", "--yes"]).ok();
    let ended = sending.finish(PATIENCE);
    assert_ne!(ended.status, 0);
    assert_eq!(ended.error()["error"]["code"], "not_trusted", "{}", ended.stderr);
    assert!(ended.stderr.contains("does not trust this one"), "told plainly: {}", ended.stderr);
    assert_eq!(bert.wait_transfer(&id, "failed")["reason"]["code"], "not_trusted");
    assert!(!inbox(&bert, "anna").join("large.bin").exists(), "what is not whole has no name");

    lab.rate(1, 0);
    let again = anna.ctl(&["send", "--text", "hello?", "--to", "bert", "--json"]).expect(1);
    assert_eq!(again.error()["error"]["code"], "not_trusted", "{}", again.stderr);
    // D29: a refusal is anybody's word.
    let known = anna.ctl_json(&["trust", "show", "bert"]);
    assert_eq!(known["state"], "trusted", "{known}");
    let (code, exit) = bert.ctl_refused(&["send", "--text", "never mind", "--to", "anna"]);
    assert_eq!((code.as_str(), exit), ("not_paired", 6));
}

/// The sender thinks better of it.
#[test]
fn d35_revoked_while_sending() {
    let Some((lab, [anna, bert])) = network(["anna", "bert"]) else { return };
    befriend(&anna, &bert);
    lab.rate(1, 40);
    let large = file(&anna, "large.bin", 200 << 20, 1);
    let id = leave(&anna, &large, "bert");
    wait_middle(&bert, &id);
    anna.ctl(&["trust", "revoke", "bert", "--yes"]).ok();
    assert_eq!(anna.wait_transfer(&id, "failed")["reason"]["code"], "not_trusted");
    // The receiver's session is over too: nothing is active there, nothing has a name.
    bert.wait_transfer(&id, "queued");
    assert!(!inbox(&bert, "anna").join("large.bin").exists());
    let (code, exit) = anna.ctl_refused(&["send", "--text", "x", "--to", "bert"]);
    assert_eq!((code.as_str(), exit), ("not_paired", 6));
    let refused = bert.ctl(&["send", "--text", "are you there?", "--to", "anna", "--json"]).expect(1);
    assert_eq!(refused.error()["error"]["code"], "not_trusted", "{}", refused.stderr);
}

/// What cannot be delivered now stays in the outbox, through a restart of the sender, and leaves it by itself.
#[test]
fn an_offline_peer_gets_it_when_it_appears() {
    let Some((_lab, [mut anna, mut bert])) = network(["anna", "bert"]) else { return };
    befriend(&anna, &bert);
    let letter = file(&anna, "letter.bin", 2 << 20, 1);
    assert_eq!(bert.stop(), 0);
    let id = leave(&anna, &letter, "bert");
    anna.wait_transfer(&id, "queued");
    anna.restart();
    bert.start();
    anna.wait_transfer(&id, "done");
    assert_same_file(&letter, &inbox(&bert, "anna").join("letter.bin"));
    check_over(&anna, &bert);
}

/// Nothing waits on either side any more.
#[track_caller]
fn check_over(anna: &Host, bert: &Host) {
    for host in [anna, bert] {
        wait::until_true("every transfer to be over", PATIENCE, || {
            host.ctl_json(&["transfers", "list"])["transfers"] == serde_json::json!([])
        });
    }
}
