//! Joining by a sharing code: what is found, a yes, and what becomes of it.

use std::process::Stdio;
use std::sync::mpsc::sync_channel;

use serde_json::{Value, json};

use crate::codes::{CODE, SHOWN, holds_no_code};
use crate::fake::Say::{self, Error, Event, Lagged, Result};
use crate::fake::{Fake, Ran, first_line, interrupt, snapshot};
use crate::person::PATIENCE;
use crate::shares::{EVIL, reason};

const QUESTION: &str = "Join? [y/N] ";
/// An answer to the second call of a connection, which is `joins.begin`.
const TYPO: &str = r#"{"jsonrpc":"2.0","id":2,"error":{"code":-32602,"message":"there is a typing error in this code","data":{"code":"invalid_param"}}}"#;

fn looking() -> Value {
    json!({"join": "5e6f", "state": "looking", "created": "c", "newer": [1]})
}

fn join(state: &str, changes: &Value) -> Value {
    let mut join = json!({
        "join": "5e6f", "state": state, "created": "c", "expires": "soon", "seems_expired": false,
        "issuer": {"id": "9a4f0b2c00000000", "name": "nas", "public_key": "k", "trusted": false},
        "resource": {"id": "j1", "kind": "journal", "name": "our trip", "label": "Holiday", "permission": "read-write",
            "approval": "auto", "here": false},
    });
    for (key, value) in changes.as_object().unwrap() {
        join[key] = value.clone();
    }
    join
}

fn updated(state: &str, changes: &Value) -> Say {
    Event("join:updated", join(state, changes))
}

fn found() -> Say {
    updated("found", &json!({}))
}

/// A daemon that finds what a code is for, and says `then` after the yes.
fn finding(found: impl Fn() -> Vec<Say> + Send + 'static, then: impl Fn() -> Vec<Say> + Send + 'static) -> Fake {
    Fake::new(move |method, _| match method {
        "events.subscribe" => vec![snapshot()],
        "joins.begin" => [vec![Result(looking())], found()].into_iter().flatten().collect(),
        "joins.confirm" => [vec![Result(join("joining", &json!({})))], then()].into_iter().flatten().collect(),
        "joins.cancel" => vec![Result(join("canceled", &json!({})))],
        _ => vec![Error(-32601, "unknown_method")],
    })
}

fn joining(then: impl Fn() -> Vec<Say> + Send + 'static) -> Fake {
    finding(|| vec![found()], then)
}

fn joined() -> Vec<Say> {
    vec![updated("joined", &json!({"result": "ok"}))]
}

fn pending() -> Say {
    updated(
        "pending",
        &json!({"result": "approval_pending", "reason": reason(1004, "approval_pending"), "retry_at": "r"}),
    )
}

#[test]
fn joining_tells_each_step() {
    let fake = joining(joined);
    let ran = fake.run(&format!("join {CODE} --yes --json"));
    assert_eq!((ran.exit, ran.stderr.as_str()), (Some(0), ""), "{ran:?}");
    let states: Vec<_> = ran.lines().iter().map(|line| line["state"].as_str().unwrap().to_owned()).collect();
    assert_eq!(states, ["looking", "found", "joining", "joined"]);
    let last = &ran.lines()[3];
    assert_eq!((&last["result"], &last["resource"]["name"]), (&json!("ok"), &json!("our trip")));
    assert_eq!(fake.asked("joins.begin"), [json!({"code": CODE})]);
    assert_eq!(fake.asked("joins.confirm"), [json!({"join": "5e6f"})]);
    assert_eq!(fake.asked("events.subscribe")[0]["kinds"], json!(["join:updated"]));
    assert!(fake.asked("joins.cancel").is_empty());

    let ran = fake.run(&format!("join {CODE} -y"));
    let said = "joined the journal our trip of nas (9a4f0b2c00000000)\n    kithctl entries list 'our trip'\n";
    assert_eq!((ran.exit, ran.stdout.as_str()), (Some(0), said), "{ran:?}");
    for words in
        ["nas (9a4f0b2c00000000), new here", "the journal our trip (read-write)", "Holiday", "nobody\n", "soon"]
    {
        assert!(ran.stderr.contains(words), "{words:?} is not in {ran:?}");
    }
    holds_no_code(&(ran.stdout + &ran.stderr));

    // Somebody who takes part already is told so; whoever was let in while it waited has joined.
    let member = || vec![updated("joined", &json!({"result": "already_member"}))];
    for (here, said) in
        [(true, "this device takes part in the journal our trip already"), (false, "joined the journal")]
    {
        let found = move || {
            let mut found = join("found", &json!({}));
            found["resource"]["here"] = json!(here);
            vec![Event("join:updated", found)]
        };
        let fake = finding(found, member);
        let ran = fake.run(&format!("join {CODE} -y"));
        assert_eq!((ran.exit, ran.stdout.starts_with(said)), (Some(0), true), "{ran:?}");
        let ran = fake.run(&format!("join {CODE} -y --json"));
        assert_eq!((ran.exit, &ran.lines()[3]["result"]), (Some(0), &json!("already_member")), "{ran:?}");
    }
}

#[test]
fn a_code_comes_in_any_writing() {
    let fake = joining(joined);
    let ticket = format!("kith:join/{CODE}?{}", "p".repeat(5500));
    for (line, input, code) in [
        (format!("join --yes kith:join/{CODE}"), "", format!("kith:join/{CODE}")),
        (format!("join --yes {ticket}"), "", ticket.clone()),
        ("join --yes 23a0 ajar 58jg".to_owned(), "", "23a0 ajar 58jg ".to_owned()),
        ("join - --yes".to_owned(), &*format!(" {CODE}\n\n"), CODE.to_owned()),
        ("join --yes -".to_owned(), &*ticket, ticket.clone()),
    ] {
        let ran = fake.run_fed(&line, input.as_bytes());
        assert_eq!(ran.exit, Some(0), "{ran:?}");
        assert_eq!(fake.asked("joins.begin").last(), Some(&json!({"code": code})));
    }
    let begun = fake.asked("joins.begin").len();
    let long = "x".repeat(7000);
    for (line, input) in [
        ("join - --yes", &b""[..]),
        ("join - --yes", b" \n"),
        ("join - --yes", b"\xff\xfe"),
        ("join - --yes", long.as_bytes()),
        // Nobody is there to be asked for the code, or whether to join.
        ("join --yes", CODE.as_bytes()),
        ("join --yes --json", CODE.as_bytes()),
        ("join -", CODE.as_bytes()),
        ("join - --json", CODE.as_bytes()),
    ] {
        let ran = fake.run_fed(line, input);
        assert_eq!((ran.exit, ran.stdout.as_str()), (Some(2), ""), "{line}: {ran:?}");
        holds_no_code(&ran.stderr);
    }
    assert_eq!(fake.asked("joins.begin").len(), begun);
}

#[test]
fn a_typing_error_is_asked_again_where_somebody_is() {
    let script = || {
        Fake::new(move |method, params| match method {
            "events.subscribe" => vec![snapshot()],
            "joins.begin" if params["code"] != CODE => vec![Say::Raw(TYPO)],
            "joins.begin" => vec![Result(join("found", &json!({})))],
            "joins.confirm" => vec![Result(join("joined", &json!({"result": "ok"})))],
            _ => vec![Error(-32601, "unknown_method")],
        })
    };
    let wrong = CODE.replace("23A0", "23A1");
    let ran = script().run(&format!("join {wrong} --yes"));
    assert_eq!((ran.exit, ran.stderr.as_str()), (Some(2), "kithctl: there is a typing error in this code\n"));
    let ran = script().run_fed("join - --yes --json", wrong.as_bytes());
    assert_eq!((ran.exit, ran.error_code().as_str(), ran.stdout.as_str()), (Some(2), "invalid_param", ""));

    let fake = Fake::new(move |method, params| match method {
        "events.subscribe" => vec![snapshot()],
        "joins.begin" if params["code"] != CODE => vec![Error(-32602, "invalid_param")],
        "joins.begin" => vec![Result(join("found", &json!({})))],
        "joins.confirm" => vec![Result(join("joined", &json!({"result": "ok"})))],
        _ => vec![Error(-32601, "unknown_method")],
    });
    let mut person = fake.at_terminal("join");
    person.sees("The code, or its link: ");
    assert!(person.echoes(), "people see what they type");
    person.types(&wrong);
    let shown = person.sees("The code, or its link: ");
    assert!(shown.contains("kithctl: no\r\n"), "{shown:?}");
    person.types(CODE);
    person.sees(QUESTION);
    person.types("y");
    let (exit, shown) = person.leaves();
    assert_eq!((exit, shown.contains("joined the journal")), (Some(0), true), "{shown:?}");
    assert_eq!(fake.asked("joins.begin"), [json!({"code": wrong}), json!({"code": CODE})]);

    // Other errors are the end of it; so is the end of the input.
    let fake = Fake::new(|method, _| match method {
        "events.subscribe" => vec![snapshot()],
        _ => vec![Error(1006, "too_many_attempts")],
    });
    let mut person = fake.at_terminal("join");
    person.sees("The code, or its link: ");
    person.types(CODE);
    assert_eq!(person.leaves().0, Some(1));
    let mut person = fake.at_terminal("join");
    person.sees("The code, or its link: ");
    person.ends();
    assert_eq!(person.leaves().0, Some(1));
    // What was given is not asked for again.
    let fake = script();
    let (exit, shown) = fake.at_terminal(&format!("join {wrong}")).leaves();
    assert_eq!((exit, shown.contains("The code")), (Some(2), false), "{shown:?}");
}

#[test]
fn b14_whoever_is_there_sees_what_it_is_and_decides() {
    let evil = || {
        vec![updated(
            "found",
            &json!({
                "issuer": {"id": "9a4f0b2c00000000", "name": EVIL, "public_key": "k", "trusted": true},
                "resource": {"id": "j1", "kind": EVIL, "name": EVIL, "label": EVIL, "permission": EVIL,
                    "approval": "ask", "here": true},
                "expires": EVIL, "seems_expired": true,
            }),
        )]
    };
    let fake = finding(evil, joined);
    for answer in ["", "n", "no"] {
        let mut person = fake.at_terminal(&format!("join {CODE}"));
        let shown = person.sees(QUESTION);
        for words in [
            &*format!("{SHOWN} (9a4f0b2c00000000), a device that this one trusts\r\n"),
            &format!("the {SHOWN} {SHOWN} ({SHOWN})\r\n"),
            "somebody has to say yes there first",
            "takes part in it",
            "its time is over",
        ] {
            assert!(shown.contains(words), "{words:?} is not in {shown:?}");
        }
        assert!(!shown.contains(EVIL), "{shown:?}");
        person.types(answer);
        let (exit, shown) = person.leaves();
        assert_eq!((exit, shown.contains("nothing was joined")), (Some(1), true), "{shown:?}");
    }
    assert_eq!((fake.asked("joins.confirm").len(), fake.asked("joins.cancel").len()), (0, 3));
    let mut person = fake.at_terminal(&format!("join {CODE}"));
    person.sees(QUESTION);
    person.ends();
    assert_eq!((person.leaves().0, fake.asked("joins.cancel").len()), (Some(1), 4));

    let fake = joining(joined);
    let mut person = fake.at_terminal(&format!("join {CODE}"));
    let shown = person.sees(QUESTION);
    assert!(!shown.contains("WARNING") && !shown.contains("here already"), "{shown:?}");
    assert!(fake.asked("joins.confirm").is_empty());
    person.types("y");
    assert_eq!(person.leaves().0, Some(0));
    let (exit, shown) = fake.at_terminal(&format!("join {CODE} --yes")).leaves();
    assert_eq!((exit, shown.contains("[y/N]")), (Some(0), false), "{shown:?}");
}

#[test]
fn b14_the_reason_is_the_exit_code() {
    for (result, rpc, code, exit) in [
        ("denied", 1001, "join_denied", 4),
        ("not_found", 1002, "code_not_found", 5),
        ("unknown_code", 1002, "code_not_found", 5),
        ("expired", 1003, "code_expired", 6),
        ("used_up", 1003, "code_used_up", 6),
        ("revoked", 1003, "code_revoked", 6),
        ("resource_gone", 1003, "resource_gone", 6),
        ("store_unreachable", 1004, "store_unreachable", 7),
        ("issuer_changed", 1005, "wrong_key", 1),
        ("unreadable", 1005, "integrity", 1),
        ("version_unsupported", 1007, "protocol_version", 1),
        ("unsupported", 1007, "protocol_version", 1),
    ] {
        let ended = move || {
            let mut reason = reason(rpc, code);
            reason["message"] = json!(format!("already used by {EVIL}"));
            vec![updated("failed", &json!({"result": result, "reason": reason}))]
        };
        // Before the yes, and after it.
        for (fake, lines) in [(finding(ended, Vec::new), 2), (joining(ended), 4)] {
            let ran = fake.run(&format!("join {CODE} --yes --json"));
            assert_eq!((ran.exit, ran.error_code().as_str(), ran.lines().len()), (Some(exit), code, lines), "{result}");
            assert_eq!(ran.lines()[lines - 1]["result"], result);
            let ran = fake.run(&format!("join {CODE} --yes"));
            assert_eq!((ran.exit, ran.stdout.as_str()), (Some(exit), ""), "{result}: {ran:?}");
            assert!(ran.stderr.ends_with(&format!("kithctl: already used by {SHOWN}\n  do\n")), "{ran:?}");
            holds_no_code(&ran.stderr);
        }
    }
    for (state, changes, exit, code) in [
        ("failed", json!({}), 1, "failed"),
        ("failed", json!({"result": "of_tomorrow"}), 1, "of_tomorrow"),
        ("canceled", json!({"result": "canceled"}), 1, "canceled"),
        ("canceled", json!({"reason": reason(1004, "shutting_down")}), 7, "shutting_down"),
    ] {
        let fake = joining(move || vec![updated(state, &changes)]);
        let ran = fake.run(&format!("join {CODE} --yes --json"));
        assert_eq!((ran.exit, ran.error_code().as_str()), (Some(exit), code), "{ran:?}");
    }
    // What cannot be confirmed is not left behind.
    let fake = Fake::new(|method, _| match method {
        "events.subscribe" => vec![snapshot()],
        "joins.begin" => vec![Result(join("found", &json!({})))],
        "joins.confirm" => vec![Error(1003, "wrong_state")],
        _ => vec![updated("canceled", &json!({})), Result(join("canceled", &json!({})))],
    });
    assert_eq!((fake.run("join x --yes").exit, fake.asked("joins.cancel").len()), (Some(6), 1));
    // What ended while somebody thought about it says why.
    let fake = Fake::new(|method, _| match method {
        "events.subscribe" => vec![snapshot()],
        "joins.begin" => vec![Result(join("found", &json!({})))],
        "joins.confirm" => vec![
            updated("canceled", &json!({"reason": reason(1004, "timed_out"), "result": "canceled"})),
            Error(1003, "wrong_state"),
        ],
        _ => vec![Error(1003, "wrong_state")],
    });
    let ran = fake.run("join x --yes --json");
    assert_eq!((ran.exit, ran.error_code().as_str()), (Some(7), "timed_out"), "{ran:?}");
}

#[test]
fn what_is_pending_goes_on_in_the_background() {
    for (result, code) in
        [("approval_pending", "approval_pending"), ("issuer_unreachable", "peer_offline"), ("busy", "busy")]
    {
        let fake = joining(move || {
            vec![updated("pending", &json!({"result": result, "reason": reason(1004, code), "retry_at": "r"}))]
        });
        let ran = fake.run(&format!("join {CODE} --yes --json"));
        assert_eq!((ran.exit, ran.error_code().as_str(), ran.lines().len()), (Some(7), code, 4), "{ran:?}");
        assert_eq!((&ran.lines()[3]["state"], &ran.lines()[3]["result"]), (&json!("pending"), &json!(result)));
        let ran = fake.run(&format!("join {CODE} --yes"));
        assert_eq!((ran.exit, ran.stdout.as_str()), (Some(7), ""), "{ran:?}");
        let said = "it goes on in the background until a day after soon; how it is: kithctl joins\nkithctl: no\n  do\n";
        assert!(ran.stderr.ends_with(said), "{ran:?}");
        assert!(fake.asked("joins.cancel").is_empty());
    }
    let fake = joining(|| vec![updated("pending", &json!({"expires": null}))]);
    let ran = fake.run("join x --yes");
    assert_eq!(
        (ran.exit, ran.stderr.contains("nas (9a4f0b2c00000000) has not let this device in yet")),
        (Some(7), true)
    );

    let fake = joining(|| {
        vec![
            pending(),
            pending(),
            updated("pending", &json!({})),
            updated("of-tomorrow", &json!({})),
            updated("joined", &json!({})),
        ]
    });
    let ran = fake.run(&format!("join {CODE} --yes --wait"));
    assert_eq!((ran.exit, ran.stdout.contains("joined the journal")), (Some(0), true), "{ran:?}");
    assert_eq!(
        ran.stderr.matches("no; asked again at r; Ctrl+C leaves that to the background\n").count(),
        1,
        "{ran:?}"
    );
    assert_eq!(ran.stderr.matches("asking nas (9a4f0b2c00000000) again\n").count(), 1, "{ran:?}");
    let ran = fake.run(&format!("join {CODE} --yes --wait --json"));
    assert_eq!((ran.exit, ran.lines().len(), ran.stderr.as_str()), (Some(0), 7, ""), "{ran:?}");

    // The same code once more, while its join is pending or over: nobody is asked again.
    for (state, exit) in [("pending", 7), ("joined", 0)] {
        let fake = Fake::new(move |method, _| match method {
            "events.subscribe" => vec![snapshot()],
            "joins.begin" => vec![Result(join(state, &json!({})))],
            _ => vec![Error(-32603, "internal")],
        });
        assert_eq!(fake.at_terminal(&format!("join {CODE}")).leaves().0, Some(exit), "{state}");
        assert!(fake.asked("joins.confirm").is_empty() && fake.asked("joins.cancel").is_empty());
    }
}

#[test]
fn ctrl_c_calls_off_what_nobody_agreed_to_and_leaves_the_rest() {
    let fake = finding(Vec::new, Vec::new);
    let mut person = fake.at_terminal(&format!("join {CODE}"));
    person.sees("looking for what this code is for");
    person.interrupts();
    assert_eq!(person.leaves().0, Some(130));
    let fake_found = joining(Vec::new);
    let mut person = fake_found.at_terminal(&format!("join {CODE}"));
    person.sees(QUESTION);
    person.interrupts();
    assert_eq!(person.leaves().0, Some(130));
    for fake in [fake, fake_found] {
        assert_eq!(fake.asked("joins.cancel"), [json!({"join": "5e6f"})]);
        assert!(fake.asked("joins.confirm").is_empty());
    }

    let fake = joining(|| vec![pending()]);
    let mut person = fake.at_terminal(&format!("join {CODE} --wait"));
    person.sees(QUESTION);
    person.types("y");
    person.sees("Ctrl+C leaves that to the background");
    person.interrupts();
    let (exit, shown) = person.leaves();
    assert_eq!((exit, shown.contains("it goes on in the background: kithctl joins")), (Some(130), true), "{shown:?}");
    let mut child = fake.command("join x --yes --wait --json").stdout(Stdio::piped()).spawn().unwrap();
    first_line(&mut child);
    interrupt(&child);
    assert_eq!(child.wait().unwrap().code(), Some(130));

    // The yes was said, and not heard yet.
    let (tell, told) = sync_channel(1);
    let fake = Fake::new(move |method, _| match method {
        "events.subscribe" => vec![snapshot()],
        "joins.begin" => vec![Result(join("found", &json!({})))],
        "joins.confirm" => {
            tell.send(()).unwrap();
            vec![Say::Nothing]
        }
        _ => vec![Result(join("canceled", &json!({})))],
    });
    let child = fake.command("join x --yes").stderr(Stdio::piped()).spawn().unwrap();
    told.recv_timeout(PATIENCE).unwrap();
    interrupt(&child);
    assert_eq!(Ran::from(child.wait_with_output().unwrap()).exit, Some(130));
    assert!(fake.asked("joins.cancel").is_empty());

    let fake = finding(Vec::new, Vec::new);
    let mut person = fake.at_terminal("join");
    person.sees("The code, or its link: ");
    person.interrupts();
    assert_eq!((person.leaves().0, fake.asked("joins.begin").len()), (Some(130), 0));
}

#[test]
fn a_state_that_was_missed_is_asked_for_and_none_goes_back() {
    for (listed, exit) in [(Some("joined"), 0), (Some("failed"), 1), (None, 5)] {
        let fake = Fake::new(move |method, _| match method {
            "events.subscribe" => vec![snapshot()],
            // What was said before the answer.
            "joins.begin" => vec![Event("join:updated", looking()), found(), Result(join("found", &json!({})))],
            "joins.confirm" => vec![
                Result(join("joining", &json!({}))),
                found(),
                Event("join:updated", json!({"join": "another", "state": "failed", "created": "c"})),
                Event("join:updated", json!({"nothing": "known"})),
                Lagged,
            ],
            _ => vec![Result(json!({"joins": listed.map(|state| join(state, &json!({}))).as_slice()}))],
        });
        let ran = fake.run(&format!("join {CODE} --yes --json"));
        assert_eq!(ran.exit, Some(exit), "{listed:?}: {ran:?}");
        let states: Vec<_> = ran.lines().iter().map(|line| line["state"].as_str().unwrap().to_owned()).collect();
        let wanted: Vec<_> = ["found", "joining"].into_iter().chain(listed).collect();
        assert_eq!(states, wanted);
        assert_eq!(fake.asked("events.subscribe").len(), 2);
    }
}

#[test]
fn a_folder_has_a_place_and_a_journal_has_none() {
    let folder = || {
        vec![updated(
            "found",
            &json!({"resource": {"id": "f1", "kind": "folder", "name": "photos", "label": "l", "permission": "read-write",
                "approval": "auto", "here": false}}),
        )]
    };
    let fake = finding(folder, joined);
    let home = fake.home.path().to_str().unwrap().to_owned();
    let ran = fake.run("join x --yes --path some/where");
    assert_eq!(ran.exit, Some(0), "{ran:?}");
    let there = std::env::current_dir().unwrap().join("some/where");
    assert_eq!(fake.asked("joins.confirm"), [json!({"join": "5e6f", "path": there})]);
    assert_eq!(fake.run(&format!("join x --yes --path {home}")).exit, Some(0));
    let file = fake.file("file", b"");
    let ran = fake.run(&format!("join x --yes --path {file}"));
    assert_eq!((ran.exit, ran.stderr.contains("is no directory")), (Some(2), true), "{ran:?}");
    assert_eq!(fake.asked("joins.begin").len(), 2);

    for (answers, exit) in [(&["n"][..], 1), (&["y", "n"], 1), (&["y", "y"], 0)] {
        let mut person = fake.at_terminal(&format!("join x --path {home}"));
        for (question, answer) in
            [format!("{home} is not empty. Use it all the same? [y/N] "), QUESTION.to_owned()].iter().zip(answers)
        {
            person.sees(question);
            person.types(answer);
        }
        assert_eq!(person.leaves().0, Some(exit), "{answers:?}");
    }
    assert_eq!((fake.asked("joins.confirm").len(), fake.asked("joins.cancel").len()), (3, 2));

    let fake = joining(joined);
    let ran = fake.run("join x --yes --path some/where");
    assert_eq!((ran.exit, ran.stderr.contains("leave --path away")), (Some(2), true), "{ran:?}");
    assert_eq!((fake.asked("joins.confirm").len(), fake.asked("joins.cancel").len()), (0, 1));
}

#[test]
fn b14_events_say_what_happened_to_codes_requests_and_joins() {
    let code = json!({
        "id": "1b", "label": EVIL, "kind": "journal", "resource": "j1", "name": EVIL, "permission": "read-write",
        "approval": "auto", "state": "active", "created": "c", "expires": "e", "uses": 5, "used": 2, "waiting": 0,
        "publications": [],
    });
    let request = json!({
        "request": "ab2", "device": {"id": "9a4f0b2c00000000", "name": EVIL}, "code": "1b", "label": EVIL,
        "kind": "journal", "name": EVIL, "state": "waiting", "address": "10.0.0.2", "created": "c",
    });
    let fake = Fake::new(move |_, _| {
        vec![
            snapshot(),
            Event("code:updated", code.clone()),
            Event("request:updated", request.clone()),
            pending(),
            Say::Raw("the end"),
        ]
    });
    let ran = fake.run("events");
    let last: Vec<_> =
        ran.stdout.lines().rev().take(3).map(|line| line.split("  ").skip(2).collect::<Vec<_>>().join(" ")).collect();
    assert!(last[2].contains(&format!("{SHOWN} (1b) journal {SHOWN}, active, left: 3 of 5")), "{ran:?}");
    let wants = format!("{SHOWN} (9a4f0b2c00000000) wants to join the journal {SHOWN}: kithctl inbox accept ab2");
    assert!(last[1].contains(&wants), "{ran:?}");
    assert!(last[0].contains("5e6f journal our trip pending: no"), "{ran:?}");
}

#[test]
fn b14_joins_are_listed_and_called_off() {
    let fake = Fake::new(|method, params| match method {
        "joins.list" => {
            let evil = json!({"issuer": {"id": "9a4f0b2c00000000", "name": EVIL, "public_key": "k", "trusted": true}, "created": EVIL});
            let why = json!({"reason": reason(1004, "peer_offline"), "retry_at": "r"});
            vec![Result(
                json!({"joins": [join("pending", &why), join("joined", &evil), looking(), join("of-tomorrow", &json!({}))]}),
            )]
        }
        "joins.cancel" if params["join"] == "none" => vec![Error(1002, "join_not_found")],
        "joins.cancel" => vec![Result(join("canceled", &json!({})))],
        _ => vec![Error(-32601, "unknown_method")],
    });
    for line in ["joins", "joins list"] {
        let ran = fake.run(line);
        assert_eq!((ran.exit, ran.stderr.as_str(), ran.stdout.lines().count()), (Some(0), "", 5), "{ran:?}");
        let rows: Vec<_> = ran.stdout.lines().map(|row| row.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
        assert_eq!(rows[1], "5e6f journal our trip nas (9a4f0b2c00000000) pending c r no");
        assert_eq!(rows[2], format!("5e6f journal our trip {SHOWN} (9a4f0b2c00000000) joined {SHOWN}"));
        assert_eq!(rows[3], "5e6f not known yet looking for it c");
        assert!(rows[4].contains("unknown"), "{rows:?}");
    }
    assert_eq!(fake.run("joins --json").lines()[0]["joins"].as_array().unwrap().len(), 4);
    let ran = fake.run("joins cancel 5e");
    assert_eq!((ran.exit, ran.stdout.as_str()), (Some(0), "5e6f  journal our trip  canceled\n"));
    assert_eq!(fake.run("joins cancel 5e --json").lines()[0]["state"], "canceled");
    let ran = fake.run("joins cancel none --json");
    assert_eq!((ran.exit, ran.error_code().as_str()), (Some(5), "join_not_found"), "{ran:?}");
}
