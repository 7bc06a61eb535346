//! Joining by a code over a network: what people do, and what may come between.

use kith_proto::guest::hello::Lookup;
use kith_proto::peer::join::SharingCode;
use kith_tests::host::Host;
use kith_tests::lab::authority;
use kith_tests::process::{Output, Running};
use kith_tests::{PATIENCE, wait};
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::journals::{base64, entries_of};
use crate::journals_trust::{Tap, holds};
use crate::net::{LONG, network, network_and_one};

pub const NOTES: &str = "notes";

/// Makes the journal, with an entry in it.
#[track_caller]
pub fn begin_notes(host: &Host) {
    host.ctl(&["journals", "create", NOTES]).ok();
    write(host, &format!("of {}", host.name()));
}

#[track_caller]
fn write(host: &Host, id: &str) {
    host.door().call("entries.put", json!({"journal": NOTES, "id": id, "body": base64(b"text")}));
}

/// `kithctl codes issue`, with further words; the whole answer.
#[track_caller]
pub fn issue(host: &Host, words: &[&str]) -> Value {
    host.ctl_json(&[&["codes", "issue", "--journal", NOTES, "--auto"], words].concat())
}

/// A text in an answer.
#[track_caller]
pub fn text(value: &Value) -> &str {
    value.as_str().expect("a text")
}

/// `kithctl join`, without questions: its last line, and its exit code.
#[track_caller]
pub fn join(host: &Host, code: &str, words: &[&str]) -> (Value, i32) {
    ended(&host.ctl(&[&["join", code, "--yes", "--json"], words].concat()))
}

#[track_caller]
fn ended(output: &Output) -> (Value, i32) {
    let last = output.stdout.lines().last().unwrap_or_else(|| panic!("no line: {}", output.stderr));
    (serde_json::from_str(last).expect("JSON"), output.status)
}

/// Waits until a device has all these entries.
#[track_caller]
pub fn wait_entries(host: &Host, ids: &[&str]) {
    wait::until_true("entries to arrive", LONG, || {
        let names = host.door().call("journals.list", json!({}));
        let there = names["journals"].as_array().is_some_and(|all| all.iter().any(|it| it["name"] == NOTES));
        there && ids.iter().all(|id| entries_of(host, NOTES).contains_key(*id))
    });
}

/// The one code that `host` issued.
#[track_caller]
pub fn code_of(host: &Host, id: &str) -> Value {
    host.door().call("codes.show", json!({ "code": id }))
}

/// Waits until a pending join is over, and returns it.
#[track_caller]
pub fn wait_join(host: &Host, state: &str) -> Value {
    let mut last = Value::Null;
    let found = wait::attempt(LONG, || {
        last = host.door().call("joins.list", json!({}));
        last["joins"].as_array().and_then(|all| all.iter().find(|join| join["state"] == state)).cloned()
    });
    found.unwrap_or_else(|| panic!("no join was ever {state}: {last}"))
}

#[test]
fn a_code_is_all_it_takes() {
    let Some((_lab, [anna, bert, cleo])) = network(["anna", "bert", "cleo"]) else { return };
    begin_notes(&anna);
    let issued = anna.ctl_json(&["codes", "issue", "--journal", NOTES]);
    for key in ["id", "code", "uri", "expires", "uses"] {
        assert!(!issued[key].is_null(), "{key}: {issued}");
    }
    let (joined, status) = join(&bert, text(&issued["code"]), &[]);
    assert_eq!((&joined["result"], status), (&json!("ok"), 0), "{joined}");
    assert_eq!(joined["resource"]["name"], NOTES);
    wait_entries(&bert, &["of anna"]);
    write(&bert, "of bert");
    wait_entries(&anna, &["of anna", "of bert"]);
    let code = code_of(&anna, text(&issued["id"]));
    assert_eq!((&code["used"], &code["state"]), (&json!(1), &json!("used_up")));
    assert_eq!(code["joined"][0]["name"], "bert");
    // Nothing else comes with it: neither is the other one's own.
    for (host, other) in [(&anna, &bert), (&bert, &anna)] {
        let peer = host.wait_peer(&other.id(), |peer| peer["state"] == "trusted");
        assert_eq!(peer["relation"], "guest");
        assert!(!entries_of(host, "default").contains_key("x"));
    }
    // Again costs nothing; somebody else hears why not, and who was faster.
    let (again, status) = join(&bert, text(&issued["code"]), &[]);
    assert_eq!((&again["result"], status), (&json!("already_member"), 0), "{again}");
    let (late, status) = join(&cleo, text(&issued["code"]), &[]);
    assert_eq!((&late["result"], status), (&json!("used_up"), 6), "{late}");
    assert!(text(&late["reason"]["message"]).contains("by bert"), "{late}");
}

#[test]
fn a_device_that_is_a_member_uses_nothing_up() {
    let Some((_lab, [anna, bert])) = network(["anna", "bert"]) else { return };
    begin_notes(&anna);
    let first = issue(&anna, &[]);
    assert_eq!(join(&bert, text(&first["code"]), &[]).1, 0);
    wait_entries(&bert, &["of anna"]);
    let second = issue(&anna, &["--uses", "3"]);
    let (again, status) = join(&bert, text(&second["uri"]), &[]);
    assert_eq!((&again["result"], status), (&json!("already_member"), 0), "{again}");
    assert_eq!(code_of(&anna, text(&second["id"]))["used"], 0);
    assert!(entries_of(&bert, NOTES).contains_key("of anna"), "what was here stays");
    // Also one that was left comes back by a new code.
    bert.ctl(&["journals", "remove", NOTES, "--yes"]).ok();
    anna.door().call("journals.unshare", json!({"journal": NOTES, "peer": bert.id()}));
    let (back, status) = join(&bert, text(&second["code"]), &[]);
    assert_eq!(status, 0, "{back}");
    wait_entries(&bert, &["of anna"]);
}

#[test]
fn g75_each_refusal_is_a_sentence() {
    let Some((_lab, [anna, bert])) = network(["anna", "bert"]) else { return };
    begin_notes(&anna);
    let [revoked, asked, gone] =
        [&["--label", "first"][..], &["--uses", "2", "--ask"], &["--uses", "2"]].map(|words| {
            let words = [&["codes", "issue", "--journal", NOTES], words].concat();
            anna.ctl_json(&words)
        });
    let refused = |code: &str, result: &str, status: i32, word: &str| {
        let (said, code) = join(&bert, code, &[]);
        assert_eq!((&said["result"], code), (&json!(result), status), "{said}");
        let sentence = text(&said["reason"]["message"]);
        assert!(sentence.contains(word) && sentence.contains(' '), "{sentence}");
    };
    anna.ctl(&["codes", "revoke", "first"]).ok();
    refused(text(&revoked["code"]), "revoked", 6, "withdrawn");
    // Somebody has to say yes; meanwhile it is pending, and asked again until there is an answer.
    let (pending, status) = join(&bert, text(&asked["code"]), &[]);
    assert_eq!((&pending["result"], status), (&json!("approval_pending"), 7), "{pending}");
    let inbox = anna.ctl(&["inbox"]).ok().stdout;
    assert!(inbox.contains("bert") && inbox.contains(NOTES), "{inbox}");
    let requests = anna.door().call("codes.requests", json!({}));
    let request = text(&requests["requests"][0]["request"]).to_owned();
    anna.ctl(&["inbox", "reject", &request]).ok();
    wait::until_true("the no to arrive", LONG, || {
        let joins = bert.door().call("joins.list", json!({}));
        joins["joins"].as_array().is_some_and(|all| all.iter().any(|it| it["result"] == "denied"))
    });
    // The thing itself is gone.
    anna.ctl(&["journals", "remove", NOTES, "--yes"]).ok();
    refused(text(&gone["code"]), "resource_gone", 6, "gone");
    // Typing errors never leave the device; codes that nobody knows are told from those.
    let typo = text(&gone["code"]).replace('-', "").chars().rev().collect::<String>();
    let output = bert.ctl(&["join", &typo, "--yes", "--json"]);
    assert_eq!(output.status, 2, "{output:?}");
    refused("0000-0000-0000-0000-0000-0000-0000", "not_found", 5, "code");
}

#[test]
fn a_thousand_devices_by_one_code_are_counted_exactly() {
    let Some((lab, [anna])) = network_and_one(["anna"]) else { return };
    begin_notes(&anna);
    let issued = issue(&anna, &["--uses", "1000"]);
    let key = anna.door().call("daemon.identity", json!({}))["public_key"].clone();
    let address = authority(anna.ip(), anna.status()["peer_port"].as_u64().expect("a port"));
    let mut command = lab.command(2, env!("CARGO_BIN_EXE_applicants"));
    command.args(["join", &address, text(&key), text(&issued["resource"]), "1010"]);
    let mut applicants = Running::spawn_fed(&mut command);
    applicants.feed(format!("{}\n", text(&issued["code"])).as_bytes());
    let heard = applicants.finish(2 * LONG).ok().json();
    assert_eq!(heard, json!({"ok": 1000, "used_up": 10}));
    let code = code_of(&anna, text(&issued["id"]));
    assert_eq!((&code["used"], code["joined"].as_array().map(Vec::len)), (&json!(1000), Some(1000)));
    let journal = anna.door().call("journals.show", json!({"journal": NOTES}));
    assert_eq!(journal["member_count"], 1000);
    // With all of them, everything that people look at still works.
    for words in [&["journals"][..], &["peers"], &["sync", "status"], &["codes"], &["status"]] {
        anna.ctl(words).ok();
    }
}

#[test]
fn whoever_stands_where_the_issuer_was_hears_nothing() {
    let Some((lab, [mut anna, bert])) = network_and_one(["anna", "bert"]) else { return };
    begin_notes(&anna);
    let ticket = anna.ctl_json(&["codes", "issue", "--journal", NOTES, "--auto", "--offline"]);
    let port = anna.status()["peer_port"].to_string();
    anna.stop();
    lab.block(1);
    lab.addr(3, &format!("{}/24", lab.ip(1)));
    let mut stand_in = Running::spawn(lab.command(3, env!("CARGO_BIN_EXE_applicants")).args(["stand-in", &port]));
    assert_eq!(stand_in.line(PATIENCE).as_deref(), Some("ready"));
    let (pending, status) = join(&bert, text(&ticket["ticket"]), &[]);
    // At its other addresses nobody answers: so it is not said to be another one for good.
    assert_eq!((&pending["result"], status), (&json!("issuer_unreachable"), 7), "{pending}");
    assert!(text(&pending["reason"]["message"]).contains("another device answers there"), "{pending}");
    assert_eq!(stand_in.line(PATIENCE).map(|line| line.starts_with("heard 0 bytes")), Some(true));
    stand_in.signal(Signal::KILL);
    drop(stand_in);
    // The right one is back: so is the join.
    lab.addr(3, "10.77.0.3/24");
    lab.heal(1);
    anna.start();
    wait_join(&bert, "joined");
    wait_entries(&bert, &["of anna"]);
}

#[test]
fn a_captured_network_tells_nothing_of_code_or_names() {
    let Some((lab, [anna, bert])) = network_and_one(["anna", "bert"]) else { return };
    begin_notes(&anna);
    lab.hub();
    let tap = Tap::new(&lab, 3);
    let issued = issue(&anna, &["--label", "our holiday"]);
    assert_eq!(join(&bert, text(&issued["code"]), &[]).1, 0);
    wait_entries(&bert, &["of anna"]);
    wait::until_true("the tap to hear it", PATIENCE, || tap.frames().iter().any(|it| holds(it, b"kith-join/1")));
    let frames = tap.frames();
    let lookup = SharingCode::parse(text(&issued["code"])).expect("a code").keys().lookup;
    let lookup = Lookup(lookup).to_text();
    for word in ["our holiday", NOTES, &text(&issued["code"]).replace('-', ""), text(&issued["code"]), &lookup] {
        assert!(!frames.iter().any(|frame| holds(frame, word.as_bytes())), "{word} was on the wire");
    }
}
