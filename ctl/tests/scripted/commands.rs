//! Commands that concern this device and those it is paired with.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use data_encoding::BASE64;
use kith_proto::limits::FEED_CHUNK;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::fake::Say::{self, Error, Event, Lagged, Nothing, Raw, Result};
use crate::fake::{Fake, Ran, first_line, interrupt, snapshot, state, transfer, updated};

#[test]
fn a_result_is_printed_as_it_came() {
    let peers = json!({"peers": [{
        "id": "9a4f0b2c00000000", "name": "nas", "state": "of-tomorrow", "online": true, "addresses": ["a:1"], "newer": {}
    }]});
    let result = peers.clone();
    let fake = Fake::new(move |_, _| vec![Result(result.clone())]);
    let ran = fake.run("peers --json");
    assert_eq!((ran.exit, ran.lines(), ran.stderr.as_str()), (Some(0), vec![peers], ""));
    let ran = fake.run("peers");
    assert!(ran.stdout.contains("nas   9a4f0b2c00000000  unknown"), "{ran:?}");
    assert_eq!(fake.run("call peers.list {}").exit, Some(0));
    assert_eq!(fake.asked("daemon.hello").len(), 3);
}

#[test]
fn every_kind_of_error_has_its_exit_code() {
    for (rpc, exit) in
        [(-32602, 2), (1001, 4), (1002, 5), (1003, 6), (1004, 7), (1005, 1), (1006, 1), (-32603, 1), (9, 1)]
    {
        let fake = Fake::new(move |_, _| vec![Error(rpc, "some_code")]);
        let ran = fake.run("trust show nas --json");
        assert_eq!((ran.exit, ran.error_code().as_str(), ran.stdout.as_str()), (Some(exit), "some_code", ""), "{rpc}");
        let ran = fake.run("trust show nas");
        assert_eq!((ran.exit, ran.stderr.as_str()), (Some(exit), "kithctl: no\n  do\n"), "{rpc}");
    }
}

#[test]
fn whatever_keeps_the_daemon_from_answering_is_exit_3() {
    let silent = Fake::new(|_, _| vec![Nothing]);
    assert!(silent.run("status --timeout 1").stderr.contains("within 1 s"));
    let web = Fake::new(|_, _| vec![Raw("HTTP/1.1 400 Bad Request\r")]);
    assert!(web.run("status").stderr.contains("is not kithd"));
    for fake in [silent, web] {
        assert_eq!(fake.run("status --timeout 1").exit, Some(3));
    }
    let dead = TempDir::new().unwrap();
    drop(UnixListener::bind(dead.path().join("control.sock")).unwrap());
    let run = |home: PathBuf| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_kithctl"));
        Ran::from(command.env_remove("KITH_SOCKET").env("KITH_HOME", home).args(["status", "--json"]).output().unwrap())
    };
    for (home, words) in [(dead.path().join("none"), "there is no socket"), (dead.path().to_owned(), "nobody listens")]
    {
        let ran = run(home);
        assert_eq!((ran.exit, ran.error_code().as_str()), (Some(3), "daemon_unreachable"));
        assert!(ran.stderr.contains(words) && ran.stderr.contains("KITH_HOME"), "{ran:?}");
    }
}

#[test]
fn a_caller_who_is_turned_away_hears_why() {
    let fake = Fake::new(|_, _| {
        vec![Raw(
            r#"{"jsonrpc":"2.0","id":null,"error":{"code":1001,"message":"not you","data":{"code":"access_denied"}}}"#,
        )]
    });
    let ran = fake.run("status --json");
    assert_eq!((ran.exit, ran.error_code().as_str()), (Some(4), "access_denied"));
}

#[test]
fn another_protocol_is_told_once() {
    let fake = Fake::speaking(2, |_, _| vec![Result(json!({"peers": []}))]);
    let ran = fake.run("peers");
    assert_eq!((ran.exit, ran.stderr.matches("protocol 2").count()), (Some(0), 1), "{ran:?}");
}

#[test]
fn send_streams_states_to_the_last() {
    let fake = Fake::new(|method, _| match method {
        "events.subscribe" => vec![snapshot()],
        "transfer.send" => vec![
            updated(transfer(&json!({"id": "another", "state": "failed"}))),
            Result(state("preparing")),
            Event("transfer:invented", json!({"x": 1})),
            updated(state("queued")),
            updated(state("active")),
            updated(state("done")),
        ],
        _ => vec![Error(-32601, "unknown_method")],
    });
    let ran = fake.run("send Cargo.toml --to nas --json");
    let states: Vec<_> = ran.lines().iter().map(|line| line["state"].as_str().unwrap().to_owned()).collect();
    assert_eq!((ran.exit, ran.stderr.as_str()), (Some(0), ""));
    assert_eq!(states, ["preparing", "queued", "active", "done"]);
    let path = std::env::current_dir().unwrap().join("Cargo.toml");
    assert_eq!(fake.asked("transfer.send"), [json!({"peer": "nas", "paths": [path]})]);

    let ran = fake.run("send Cargo.toml --to nas");
    assert!(ran.stdout.starts_with("sent 1 file, 5 B to nas in ") && ran.stdout.lines().count() == 1, "{ran:?}");
    assert_eq!(ran.stderr.matches("outbox").count(), 1, "{ran:?}");

    let ran = fake.run("send Cargo.toml --to nas --no-wait");
    assert_eq!((ran.exit, ran.stdout.as_str()), (Some(0), "t1\n"));
}

#[test]
fn the_end_of_a_transfer_is_the_exit_code() {
    let reason = json!({"rpc": 1004, "code": "peer_offline", "message": "gone"});
    for (last, exit, code) in [
        (json!({"state": "canceled"}), 1, "canceled"),
        (json!({"state": "rejected"}), 1, "rejected"),
        (json!({"state": "failed", "reason": reason}), 7, "peer_offline"),
        (json!({"problem_count": 1, "problems": [{"path": "x", "reason": "unreadable"}]}), 1, "incomplete"),
    ] {
        let fake = Fake::new(move |method, _| match method {
            "events.subscribe" => vec![snapshot()],
            _ => vec![Result(transfer(&last))],
        });
        let ran = fake.run("send --text hi --to nas --json");
        assert_eq!((ran.exit, ran.error_code().as_str(), ran.lines().len()), (Some(exit), code, 1));
    }
}

#[test]
fn missed_facts_are_asked_for() {
    let fake = Fake::new(|method, _| match method {
        "events.subscribe" => vec![snapshot()],
        "transfer.send" => vec![Result(state("active")), Lagged],
        _ => vec![Result(state("done"))],
    });
    assert_eq!(fake.run("send --text hi --to nas").exit, Some(0));
    assert_eq!((fake.asked("events.subscribe").len(), fake.asked("transfer.show").len()), (2, 1));
}

#[test]
fn standard_input_arrives_whole() {
    for size in [0, 1, FEED_CHUNK, 2 * FEED_CHUNK + 7] {
        for (flag, stdout) in [("--json", None), ("--no-wait", Some("t1\n"))] {
            let fake = Fake::new(|method, params| match method {
                "events.subscribe" => vec![snapshot()],
                "transfer.send" => vec![Result(state("active"))],
                _ if params["end"] == true => vec![Result(json!({"bytes": 1})), updated(state("done"))],
                _ => vec![Result(json!({"bytes": 1}))],
            });
            let bytes: Vec<u8> = (0..size).map(|n| (n % 251) as u8).collect();
            let file = fake.home.path().join("input");
            std::fs::File::create(&file).unwrap().write_all(&bytes).unwrap();
            let input = std::fs::File::open(&file).unwrap();
            let ran = fake.run_with_input(&format!("send - --name x.bin --to nas {flag}"), input.into());
            assert_eq!((ran.exit, ran.stderr.as_str()), (Some(0), ""));
            assert!(stdout.is_none_or(|stdout| stdout == ran.stdout), "{ran:?}");
            let pieces = fake.asked("transfer.feed");
            let fed: Vec<u8> = pieces
                .iter()
                .flat_map(|piece| BASE64.decode(piece["data"].as_str().unwrap().as_bytes()).unwrap())
                .collect();
            assert!(fed == bytes, "{size} bytes");
            let ends = pieces.iter().filter(|piece| piece["end"] == true).count();
            assert_eq!((ends, &pieces[pieces.len() - 1]["end"]), (1, &json!(true)));
        }
    }
}

#[test]
fn a_rejected_stream_stops_without_waiting_for_its_input() {
    let fake = Fake::new(|method, _| match method {
        "events.subscribe" => vec![snapshot()],
        "transfer.send" => vec![Result(state("offered"))],
        "transfer.feed" => vec![Error(1003, "wrong_state")],
        _ => vec![Result(state("rejected"))],
    });
    // A pipe that stays open: nothing comes after the first piece.
    let mut child = fake
        .command("send - --to nas --json")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(&vec![0; FEED_CHUNK]).unwrap();
    let ran = Ran::from(child.wait_with_output().unwrap());
    drop(stdin);
    assert_eq!((ran.exit, ran.error_code().as_str()), (Some(1), "rejected"));
    assert_eq!(ran.lines().last().unwrap()["state"], "rejected");
}

#[test]
fn ctrl_c_calls_the_transfer_off() {
    let (tell, told) = std::sync::mpsc::sync_channel(1);
    let fake = Fake::new(move |method, _| match method {
        "events.subscribe" => vec![snapshot()],
        "transfer.send" => vec![Result(state("active"))],
        "transfer.cancel" => {
            tell.send(()).unwrap();
            vec![Result(state("canceled"))]
        }
        _ => vec![Error(-32601, "unknown_method")],
    });
    let mut child = fake.command("send --text hi --to nas --json").stdout(Stdio::piped()).spawn().unwrap();
    first_line(&mut child);
    interrupt(&child);
    assert_eq!(child.wait().unwrap().code(), Some(130));
    // It may have been said a moment before it is heard.
    told.recv_timeout(Duration::from_secs(60)).unwrap();
}

#[test]
fn ctrl_c_ends_a_pairing() {
    let fake = Fake::new(pairing(Nothing));
    let mut child = fake.command("pair --json").stdout(Stdio::piped()).spawn().unwrap();
    first_line(&mut child);
    interrupt(&child);
    assert_eq!(child.wait().unwrap().code(), Some(130));
}

#[test]
fn pairing_prints_what_was_promised() {
    let peer = json!({"id": "9a4f0b2c00000000", "name": "nas"});
    let paired = json!({"pairing": "p1", "state": "paired", "peer": peer, "newer": 1});
    let fake = Fake::new(pairing(Event("pairing:updated", paired.clone())));
    let ran = fake.run("pair --json");
    assert_eq!((ran.exit, ran.stderr.as_str()), (Some(0), ""));
    assert_eq!(ran.lines()[0]["pin"], "123456");
    assert_eq!(ran.lines()[1], json!({"paired": peer}));
    assert_eq!(fake.asked("pairing.open"), [json!({"guest": false, "interactive": false, "detach": false})]);

    let ran = fake.run("pair nas --pin 123456 --json");
    assert_eq!((ran.exit, ran.lines()), (Some(0), vec![json!({"paired": peer})]));
    let ran = fake.run("pair kith://pair?h=1 --guest");
    assert_eq!((ran.exit, ran.stdout.as_str()), (Some(0), "paired with nas (9a4f0b2c00000000)\n"));
    assert_eq!(
        fake.asked("pairing.join"),
        [json!({"target": "nas", "pin": "123456", "guest": false}), json!({"uri": "kith://pair?h=1", "guest": true})]
    );

    let ran = fake.run("pair");
    assert!(ran.stdout.contains("    123 456\n") && ran.stdout.contains("kithctl pair laptop\n"), "{ran:?}");
    assert_eq!(fake.run("pair nas --json").exit, Some(2));
}

#[test]
fn a_pairing_that_fails_says_why() {
    let reason = json!({"rpc": 1005, "code": "wrong_pin", "message": "wrong PIN, or another device is interfering"});
    let fake =
        Fake::new(pairing(Event("pairing:updated", json!({"pairing": "p1", "state": "failed", "reason": reason}))));
    for line in ["pair nas --pin 000000 --json", "pair --json"] {
        let ran = fake.run(line);
        assert_eq!((ran.exit, ran.error_code().as_str()), (Some(1), "wrong_pin"), "{line}");
    }
}

#[test]
fn receive_accepts_shows_and_ends() {
    let incoming =
        |state: &str| transfer(&json!({"direction": "in", "state": state, "text": "hi\n\u{1b}[2J", "bytes": 0}));
    let fake = Fake::new(move |method, _| match method {
        "events.subscribe" => vec![Result(json!({
            "cursor": 0, "boot_id": "b", "snapshot": {"peers": [], "pairings": [],
            "transfers": [state("active"), incoming("offered")], "questions": []}
        }))],
        "inbox.accept" => vec![Result(incoming("active")), updated(incoming("offered")), updated(incoming("done"))],
        _ => vec![Error(-32601, "unknown_method")],
    });
    let ran = fake.run("receive --paired --once --yes --to in --on-conflict skip");
    assert_eq!(ran.exit, Some(0), "{ran:?}");
    assert!(ran.stdout.starts_with("received a text from nas in "), "{ran:?}");
    assert!(ran.stdout.ends_with("> hi\n> \\u{1b}[2J\n"), "{ran:?}");
    let dir = std::env::current_dir().unwrap().join("in");
    assert_eq!(fake.asked("inbox.accept"), [json!({"transfer": "t1", "dir": dir, "on_conflict": "skip"})]);

    let ran = fake.run("receive --paired --once --yes --json");
    assert_eq!((ran.exit, ran.lines().last().unwrap()["state"].as_str()), (Some(0), Some("done")), "{ran:?}");
    assert_eq!(fake.run("receive --json").exit, Some(2));
}

#[test]
fn a_reader_that_went_away_ends_it_quietly() {
    let fake = Fake::new(|_, _| {
        let mut said = vec![snapshot()];
        said.extend((0..10_000).map(|_| updated(state("active"))));
        said
    });
    for line in ["events --json", "events"] {
        let mut child = fake.command(line).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        first_line(&mut child);
        let mut stderr = String::new();
        child.stderr.take().unwrap().read_to_string(&mut stderr).unwrap();
        assert_eq!((child.wait().unwrap().code(), stderr.as_str()), (Some(0), ""), "{line}");
    }
}

#[test]
fn a_usage_error_is_json_where_that_was_asked_for() {
    let fake = Fake::new(|_, _| vec![Nothing]);
    let ran = fake.run("send --json");
    assert_eq!((ran.exit, ran.error_code().as_str(), ran.stdout.as_str()), (Some(2), "usage", ""));
    assert_eq!(fake.run("help").exit, Some(0));
    assert_eq!(fake.run("--version").exit, Some(0));
}

fn pairing(then: Say) -> impl FnMut(&str, &Value) -> Vec<Say> + Send + 'static {
    let fact = move || match &then {
        Event(kind, data) => Event(kind, data.clone()),
        _ => Nothing,
    };
    move |method, _| match method {
        "events.subscribe" => vec![snapshot()],
        "daemon.identity" => vec![Result(json!({
            "id": "0000000000000000", "name": "laptop", "public_key": "k", "fingerprint": "f", "created": "c"
        }))],
        "pairing.open" => vec![
            Result(
                json!({"pairing": "p1", "pin": "123456", "port": 44123, "addresses": ["::1"], "qr": "kith://pair?x", "expires": "e"}),
            ),
            fact(),
        ],
        "pairing.join" => vec![Result(json!({"pairing": "p1", "state": "waiting"})), fact()],
        _ => vec![Error(-32601, "unknown_method")],
    }
}
