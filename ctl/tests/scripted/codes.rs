//! Sharing codes where they are issued: a new one, those that there are, and requests to join.

use serde_json::{Value, json};

use crate::fake::Fake;
use crate::fake::Say::{Error, Result};
use crate::shares::{EVIL, nas, reason, share};

pub const CODE: &str = "23A0-AJAR-58JG-K4EJ-190Y-XXVW-B80D";
const URI: &str = "kith:join/23A0-AJAR-58JG-K4EJ-190Y-XXVW-B80D";
/// What a person sees of [`EVIL`].
pub const SHOWN: &str = "x\\u{1b}[2J\\u{202e}";

/// What a code may look like in an output by mistake.
#[track_caller]
pub fn holds_no_code(text: &str) {
    let plain: String = text.to_ascii_uppercase().chars().filter(|c| c.is_ascii_alphanumeric()).collect();
    assert!(!plain.contains("AJAR58JG") && !plain.contains("XXVWB80D"), "a code, in {text:?}");
}

fn issued(changes: &Value) -> Value {
    let mut issued = json!({
        "id": "0a1b2c3d", "label": "Holiday", "kind": "journal", "resource": "j1", "name": "trip",
        "permission": "read-write", "approval": "auto", "state": "active", "created": "c", "expires": "soon",
        "uses": 1, "used": 0, "waiting": 0, "publications": [], "newer": [1],
    });
    for (key, value) in changes.as_object().unwrap() {
        issued[key] = value.clone();
    }
    issued
}

/// A daemon that issues a code; `payload` letters make up the rest of its ticket.
fn issuing(changes: Value, payload: usize) -> Fake {
    Fake::new(move |method, _| match method {
        "codes.issue" => {
            let mut result = issued(&changes);
            result["code"] = json!(CODE);
            result["uri"] = json!(URI);
            result["ticket"] = json!(format!("{URI}?{}", "p".repeat(payload)));
            vec![Result(result)]
        }
        _ => vec![Error(-32601, "unknown_method")],
    })
}

#[test]
fn a_new_code_is_shown_once_with_what_it_lets_one_do() {
    let fake = issuing(json!({}), 700);
    let ran = fake.run("codes issue --journal trip");
    assert_eq!((ran.exit, ran.stderr.as_str()), (Some(0), ""), "{ran:?}");
    for words in [
        &format!("\n    {CODE}\n\n"),
        "shown once",
        &format!("    kithctl join {CODE}\n"),
        "lets one device join the journal trip (read-write) until soon\n",
        "nobody is asked",
        "called Holiday (0a1b2c3d); to end it: kithctl codes revoke 0a1b2c3d\n",
    ] {
        assert!(ran.stdout.contains(words), "{words:?} is not in {ran:?}");
    }
    assert_eq!((ran.stdout.contains("?p"), ran.stdout.contains('█')), (false, false), "{ran:?}");

    let (exit, shown) = fake.at_terminal("codes issue --journal trip").leaves();
    assert_eq!((exit, shown.contains('█'), shown.contains(&format!("    {CODE}\r\n"))), (Some(0), true, true));

    let fake = issuing(json!({"uses": null, "approval": "ask", "label": EVIL, "name": EVIL, "permission": EVIL}), 700);
    let ran = fake.run("codes issue --journal trip");
    for words in [
        &format!("any number of devices join the journal {SHOWN} ({SHOWN})"),
        "you are asked about each device: kithctl inbox",
        &format!("called {SHOWN} (0a1b2c3d)"),
    ] {
        assert!(ran.stdout.contains(words), "{words:?} is not in {ran:?}");
    }
    assert!(issuing(json!({"uses": 5}), 9).run("codes issue --journal trip").stdout.contains("lets 5 devices join"));
}

#[test]
fn what_is_said_about_a_code_goes_to_the_daemon() {
    let fake = issuing(json!({}), 9);
    for (line, params) in [
        ("", json!({"kind": "journal", "resource": "trip"})),
        ("--uses 5 --valid 1d --auto", json!({"uses": 5, "seconds": 86_400, "approval": "auto"})),
        ("--uses unlimited --valid 30d --ask", json!({"uses": 0, "seconds": 30 * 86_400, "approval": "ask"})),
        ("--valid 10m --label Holiday", json!({"seconds": 600, "label": "Holiday"})),
    ] {
        assert_eq!(fake.run(format!("codes issue --journal trip {line}").trim_end()).exit, Some(0), "{line}");
        let mut wanted = json!({"kind": "journal", "resource": "trip"});
        params.as_object().unwrap().iter().for_each(|(key, value)| wanted[key] = value.clone());
        assert_eq!(fake.asked("codes.issue").last(), Some(&wanted), "{line}");
    }
    let count = fake.asked("codes.issue").len();
    for line in ["codes issue", "codes issue --journal trip --uses 0", "codes issue --journal trip --valid 31d"] {
        assert_eq!(fake.run(line).exit, Some(2), "{line}");
    }
    assert_eq!(fake.asked("codes.issue").len(), count);
}

#[test]
fn programs_get_one_object() {
    let fake = issuing(json!({"uses": null}), 700);
    let ran = fake.run("codes issue --journal trip --uses unlimited --json");
    assert_eq!((ran.exit, ran.lines().len(), ran.stderr.as_str()), (Some(0), 1, ""), "{ran:?}");
    let line = &ran.lines()[0];
    assert_eq!(
        (&line["id"], &line["code"], &line["uri"], &line["expires"], &line["uses"], line.get("ticket")),
        (&json!("0a1b2c3d"), &json!(CODE), &json!(URI), &json!("soon"), &Value::Null, None),
    );
    assert!(line.as_object().unwrap().contains_key("uses"));
    let ran = fake.run("codes issue --journal trip --offline --json");
    let line = &ran.lines()[0];
    assert_eq!((&line["code"], line["ticket"].as_str().unwrap().len()), (&json!(CODE), URI.len() + 701));
}

#[test]
fn a_ticket_is_shown_in_place_of_the_code() {
    for (payload, fits) in [(700, true), (2700, true), (5500, false)] {
        let fake = issuing(json!({}), payload);
        let ran = fake.run("codes issue --journal trip --offline");
        let ticket = format!("{URI}?{}", "p".repeat(payload));
        assert_eq!((ran.exit, ran.stdout.lines().next()), (Some(0), Some(ticket.as_str())), "{ran:?}");
        assert_eq!(ran.stdout.matches(CODE).count(), 1, "{ran:?}");
        assert!(ran.stdout.contains("    kithctl join - < FILE\n") && ran.stdout.contains("shown once"), "{ran:?}");
        let (exit, shown) = fake.at_terminal("codes issue --journal trip --offline").leaves();
        assert_eq!((exit, shown.contains('█'), shown.contains("too large")), (Some(0), fits, !fits), "{payload}");
        assert!(shown.contains(&ticket));
    }
}

/// A daemon that issued four codes.
fn having() -> Fake {
    let publication = |state: &str, why: &str| {
        let mut reason = reason(1004, "store_unreachable");
        reason["message"] = json!(why);
        json!({"store": format!("https://{EVIL}"), "state": state, "reason": reason, "since": "s"})
    };
    let long = "no route to any of the hosts that this name stands for, sorry";
    let codes = vec![
        issued(&json!({})),
        issued(&json!({"id": "1b", "label": EVIL, "name": EVIL, "uses": 5, "used": 2, "waiting": 3, "approval": "ask",
            "publications": [publication("published", EVIL)]})),
        issued(&json!({"id": "2c", "state": "used_up", "uses": null, "publications": [publication("failed", long)]})),
        issued(&json!({"id": "3d", "state": "of-tomorrow", "expires": EVIL})),
    ];
    let joined = json!([
        {"id": "9a4f0b2c00000000", "name": EVIL, "at": "monday", "expelled": false},
        {"id": "9a4f0b2c00000001", "name": "old", "at": "sunday", "expelled": true},
    ]);
    Fake::new(move |method, params| match method {
        "codes.list" => vec![Result(json!({ "codes": codes }))],
        "codes.show" if params["code"] == "crowd" => {
            let device = |n: u32| json!({"id": format!("{n:016x}"), "name": "d".repeat(64), "at": "t".repeat(30), "expelled": false});
            let mut shown = issued(&json!({"uses": null}));
            shown["joined"] = (0..10_000).map(device).collect();
            vec![Result(shown)]
        }
        "codes.show" => {
            let mut shown = codes[if params["code"] == "2c" { 2 } else { 1 }].clone();
            shown["joined"] = joined.clone();
            vec![Result(shown)]
        }
        "codes.revoke" if params["code"] == "none" => vec![Error(1002, "code_not_found")],
        "codes.revoke" => vec![Result(issued(&json!({"state": "revoked"})))],
        _ => vec![Error(-32601, "unknown_method")],
    })
}

#[test]
fn b14_codes_are_listed_with_what_is_left_of_them() {
    let fake = having();
    for line in ["codes", "codes list"] {
        let ran = fake.run(line);
        assert_eq!((ran.exit, ran.stderr.as_str(), ran.stdout.lines().count()), (Some(0), "", 5), "{ran:?}");
        let rows: Vec<_> = ran.stdout.lines().map(|row| row.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
        assert_eq!(rows[1], "0a1b2c3d Holiday journal trip active 1 of 1 soon this device only");
        assert_eq!(rows[2], format!("1b {SHOWN} journal {SHOWN} active 3 of 5 3 soon published"));
        assert_eq!(
            rows[3],
            "2c Holiday journal trip used up unlimited soon failed: no route to any of the hosts that this name stan…"
        );
        assert_eq!(rows[4], format!("3d Holiday journal trip unknown 1 of 1 {SHOWN} -"));
        holds_no_code(&ran.stdout);
    }
    let ran = fake.run("codes --json");
    assert_eq!((ran.exit, ran.lines()[0]["codes"].as_array().unwrap().len()), (Some(0), 4), "{ran:?}");
}

#[test]
fn b14_one_code_tells_who_joined_and_where_it_waits() {
    let fake = having();
    let ran = fake.run("codes show 1b");
    assert_eq!((ran.exit, ran.stderr.as_str()), (Some(0), ""), "{ran:?}");
    for words in [
        format!("{SHOWN} (9a4f0b2c00000000)  monday\n"),
        "old (9a4f0b2c00000001)  sunday, removed again\n".to_owned(),
        format!("https://{SHOWN}  published, s: {SHOWN} (store_unreachable); do\n"),
        "3: kithctl inbox\n".to_owned(),
        format!("the journal {SHOWN} (read-write)\n"),
    ] {
        assert!(ran.stdout.contains(&words), "{words:?} is not in {ran:?}");
    }
    assert!(fake.run("codes show 2c").stdout.contains("that this name stands for, sorry (store_unreachable); do"));
    assert_eq!(fake.asked("codes.show"), [json!({"code": "1b"}), json!({"code": "2c"})]);
    let ran = fake.run("codes show 1b --json");
    assert_eq!((ran.exit, &ran.lines()[0]["joined"][0]["at"]), (Some(0), &json!("monday")), "{ran:?}");
    // More than a request may have.
    let ran = fake.run("codes show crowd");
    assert_eq!((ran.exit, ran.stdout.matches("joined ").count()), (Some(0), 10_000));
}

#[test]
fn the_code_itself_names_none_and_is_not_repeated() {
    let fake = having();
    for code in [CODE, URI, "23a0ajar58jgk4ej190yxxvwb80d", "23AO-AJAR-58JG-K4EJ-I90Y-XXVW-B80D"] {
        for line in ["codes show", "codes revoke", "codes revoke --expel --yes"] {
            for json in ["", " --json"] {
                let ran = fake.run(&format!("{line}{json} {code}"));
                assert_eq!((ran.exit, ran.stdout.as_str()), (Some(2), ""), "{ran:?}");
                assert!(ran.stderr.contains("its id or its label"), "{ran:?}");
                holds_no_code(&ran.stderr);
            }
        }
    }
    assert!(fake.asked("codes.show").is_empty() && fake.asked("codes.revoke").is_empty());
}

#[test]
fn a_code_is_ended() {
    let fake = having();
    let ran = fake.run("codes revoke 0a1b");
    assert_eq!((ran.exit, ran.stdout.as_str()), (Some(0), "revoked Holiday (0a1b2c3d); who came by it stays\n"));
    let ran = fake.run("codes revoke Holiday --expel");
    assert_eq!((ran.exit, ran.stdout.contains("and removed who came by it")), (Some(0), true), "{ran:?}");
    let ran = fake.run("codes revoke 0a1b --expel --json");
    assert_eq!((ran.exit, &ran.lines()[0]["state"]), (Some(0), &json!("revoked")), "{ran:?}");
    let wanted = [("0a1b", false), ("Holiday", true), ("0a1b", true)];
    assert_eq!(fake.asked("codes.revoke"), wanted.map(|(code, expel)| json!({"code": code, "expel": expel})));
    let ran = fake.run("codes revoke none --json");
    assert_eq!((ran.exit, ran.error_code().as_str()), (Some(5), "code_not_found"), "{ran:?}");

    // Somebody is asked before devices are removed, and not before a code ends.
    let fake = having();
    assert_eq!(fake.at_terminal("codes revoke 0a1b").leaves().0, Some(0));
    assert_eq!(fake.at_terminal("codes revoke 0a1b --expel --yes").leaves().0, Some(0));
    for (answer, exit, asked) in [("", 1, 2), ("n", 1, 2), ("y", 0, 3)] {
        let mut person = fake.at_terminal("codes revoke 1b --expel");
        let shown = person.sees("[y/N] ");
        let question =
            format!("End the code {SHOWN}, and remove the one device that came by it from the journal {SHOWN}?");
        assert!(shown.contains(&question), "{shown:?}");
        person.types(answer);
        assert_eq!((person.leaves().0, fake.asked("codes.revoke").len()), (Some(exit), asked), "{answer:?}");
    }
}

/// What waits: an offer of files, a secret, and two requests to join.
fn inbox() -> Fake {
    let request = |id: &str, state: &str| {
        json!({
            "request": id, "device": {"id": "9a4f0b2c00000000", "name": EVIL}, "code": "0a1b2c3d", "label": EVIL,
            "kind": "journal", "name": EVIL, "state": state, "address": "10.0.0.2", "created": "c", "newer": 1,
        })
    };
    Fake::new(move |method, params| match method {
        "inbox.list" => vec![Result(json!({"transfers": [crate::fake::state("offered")]}))],
        "shares.list" => vec![Result(json!({"shares": [share(&json!({
            "share": "ab1", "direction": "in", "kind": "secret", "state": "review", "peer": nas(), "name": "key",
        }))]}))],
        "codes.requests" => vec![Result(json!({"requests": [request("ab2", "waiting"), request("t1b", "waiting")]}))],
        "codes.answer" => {
            let state = if params["accept"] == true { "accepted" } else { "denied" };
            vec![Result(request(params["request"].as_str().unwrap(), state))]
        }
        "inbox.accept" | "inbox.reject" => vec![Result(crate::fake::state("active"))],
        _ => vec![Error(-32601, "unknown_method")],
    })
}

#[test]
fn b14_requests_to_join_wait_beside_all_else() {
    let fake = inbox();
    let ran = fake.run("inbox");
    assert_eq!((ran.exit, ran.stderr.as_str(), ran.stdout.lines().count()), (Some(0), "", 7), "{ran:?}");
    let row = format!("ab2  {SHOWN} (9a4f0b2c00000000)  journal {SHOWN}  {SHOWN}");
    assert!(ran.stdout.contains(&row), "{row:?} is not in {ran:?}");
    let ran = fake.run("inbox list --json");
    let lines = ran.lines();
    assert_eq!((ran.exit, lines.len()), (Some(0), 4), "{ran:?}");
    assert_eq!((&lines[0]["transfers"][0]["id"], &lines[1]["share"]["share"]), (&json!("t1"), &json!("ab1")));
    assert_eq!((&lines[2]["request"]["request"], &lines[3]["request"]["name"]), (&json!("ab2"), &json!(EVIL)));

    // A daemon that knows of none.
    let fake = Fake::new(|method, _| match method {
        "inbox.list" => vec![Result(json!({"transfers": []}))],
        _ => vec![Error(-32601, "unknown_method")],
    });
    assert_eq!(fake.run("inbox").exit, Some(0));
    let fake = Fake::new(|method, _| match method {
        "inbox.list" => vec![Result(json!({"transfers": []}))],
        "shares.list" => vec![Result(json!({"shares": []}))],
        _ => vec![Error(-32603, "internal")],
    });
    assert_eq!(fake.run("inbox").exit, Some(1));
}

#[test]
fn an_id_means_one_thing_of_three_kinds() {
    let fake = inbox();
    let ran = fake.run("inbox accept ab2");
    let said = format!("{SHOWN} (9a4f0b2c00000000) takes part in the journal {SHOWN} now\n");
    assert_eq!((ran.exit, ran.stdout), (Some(0), said));
    let ran = fake.run("inbox reject t1b");
    assert_eq!((ran.exit, ran.stdout.contains("turned down: ")), (Some(0), true), "{ran:?}");
    let ran = fake.run("inbox accept t1b --json");
    assert_eq!((ran.exit, &ran.lines()[0]["state"]), (Some(0), &json!("accepted")), "{ran:?}");
    let wanted = [("ab2", true), ("t1b", false), ("t1b", true)];
    assert_eq!(fake.asked("codes.answer"), wanted.map(|(id, accept)| json!({"request": id, "accept": accept})));

    for line in ["inbox accept ab", "inbox reject ab", "inbox accept t", "inbox reject t1"] {
        let ran = fake.run(line);
        assert_eq!((ran.exit, ran.stderr.contains("may be each of")), (Some(2), true), "{line}: {ran:?}");
    }
    for line in ["inbox accept ab2 --to /in", "inbox accept ab2 --on-conflict skip"] {
        let ran = fake.run(line);
        assert_eq!((ran.exit, ran.stderr.contains("are for files")), (Some(2), true), "{line}: {ran:?}");
    }
    assert_eq!((fake.asked("codes.answer").len(), fake.asked("inbox.accept").len()), (3, 0));
    assert_eq!((fake.run("inbox accept x").exit, fake.run("inbox reject x").exit), (Some(0), Some(0)));
}

#[test]
fn status_says_where_payloads_are_given_out() {
    for (port, shown) in [(Some(53318), true), (None, false)] {
        let fake = Fake::new(move |_, _| {
            let mut status = json!({
                "version": "1", "id": "9a4f0b2c00000000", "name": "nas", "pid": 7, "started": "s", "peer_port": 44001,
                "addresses": [], "socket": "/s", "download_dir": "/d", "trusted": 0, "online": 0, "inbox": 0,
                "transfers": 0, "home": null,
            });
            if let Some(port) = port {
                status["hello_port"] = json!(port);
            }
            vec![Result(status)]
        });
        let ran = fake.run("status");
        assert_eq!((ran.exit, ran.stdout.contains("53318, for sharing codes")), (Some(0), shown), "{ran:?}");
    }
}
