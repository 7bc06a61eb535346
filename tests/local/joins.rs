//! Joining by codes: what one device issues, another one enters; and what becomes of it when either is killed.

use kith_tests::host::Host;
use kith_tests::{PATIENCE, wait};
use serde_json::{Value, json};

use crate::journals::{App, journal};
use crate::support::free_port;

/// A device that finds others on this machine, and is found.
fn in_sight(name: &str) -> Host {
    let mut host = Host::new(name);
    host.configure("[discovery]\nloopback = true\ninterfaces = [\"lo\"]\n");
    host.start();
    host
}

/// The hub has a journal; its door is at a port that stays.
fn hub() -> Host {
    let mut hub = Host::new("hub");
    hub.configure(&format!("[discovery]\nenabled = false\n[peer]\nport = {}\n", free_port()));
    hub.start();
    hub.ctl(&["journals", "create", "notes"]).ok();
    hub
}

fn issue(hub: &Host, more: Value) -> Value {
    let mut params = json!({"kind": "journal", "resource": "notes"});
    params.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
    hub.door().call("codes.issue", params)
}

/// Its id, and a ticket that needs nobody to look it up. Nobody is asked for a yes unless `more` says so.
fn ticket(hub: &Host, more: Value) -> (String, String) {
    let mut params = json!({"approval": "auto"});
    params.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
    let issued = issue(hub, params);
    let text = |field: &str| issued[field].as_str().expect("a text").to_owned();
    (text("id"), text("ticket"))
}

fn join(host: &Host, id: &str) -> Value {
    let joins = host.door().call("joins.list", json!({}));
    let found = joins["joins"].as_array().expect("a list").iter().find(|it| it["join"] == id).cloned();
    found.unwrap_or_else(|| panic!("{id} is not in {joins}"))
}

#[track_caller]
fn wait_join(host: &Host, id: &str, wanted: impl Fn(&Value) -> bool) -> Value {
    let mut last = Value::Null;
    let found = wait::attempt(PATIENCE, || {
        last = join(host, id);
        wanted(&last).then(|| last.clone())
    });
    found.unwrap_or_else(|| panic!("{}: {last}; its log:\n{}", host.name(), host.log()))
}

#[track_caller]
fn wait_state(host: &Host, id: &str, state: &str) -> Value {
    wait_join(host, id, |it| it["state"] == state)
}

/// Begins, waits until it is found, and says yes.
#[track_caller]
fn enter(host: &Host, code: &str) -> String {
    let mut door = host.door();
    let begun = door.call("joins.begin", json!({"code": code}));
    assert_eq!(begun["state"], "looking");
    let id = begun["join"].as_str().expect("an id").to_owned();
    wait_state(host, &id, "found");
    door.call("joins.confirm", json!({"join": id}));
    id
}

#[test]
fn a_code_typed_on_the_same_network_brings_the_journal() {
    let (hub, joiner) = (in_sight("hub"), in_sight("joiner"));
    hub.ctl(&["journals", "create", "notes"]).ok();
    App::of(&hub, "notes").put("one", "from hub");
    let issued = issue(&hub, json!({"approval": "auto"}));
    // As people write it.
    let code = issued["code"].as_str().expect("a code").replace('-', " ").to_lowercase();
    let mut events = joiner.door();
    events.call("events.subscribe", json!({"kinds": ["join:updated", "peer:paired"]}));
    let id = enter(&joiner, &code);
    let joined = wait_state(&joiner, &id, "joined");
    assert_eq!((&joined["result"], &joined["resource"]["here"]), (&json!("ok"), &json!(true)));
    assert_eq!((&joined["issuer"]["id"], &joined["issuer"]["trusted"]), (&json!(hub.id()), &json!(true)));
    App::of(&joiner, "notes").wait_text("one", "from hub");
    let (mut states, mut paired) = (Vec::new(), Value::Null);
    while states.last().is_none_or(|it| it != "joined") || paired.is_null() {
        let told = events.event(|_| true);
        match told["kind"].as_str() {
            Some("join:updated") => states.push(told["data"]["state"].as_str().expect("a state").to_owned()),
            _ => paired = told["data"]["id"].clone(),
        }
    }
    states.dedup();
    assert_eq!(states, ["looking", "found", "joining", "joined"]);
    assert_eq!(paired, json!(hub.id()));
    // The code is in no log.
    let bare = issued["code"].as_str().expect("a code");
    assert!(!joiner.log().contains(bare) && !joiner.log().to_lowercase().contains(&code));
}

#[test]
fn a_ticket_needs_nobody_to_look_it_up() {
    let (hub, joiner) = (hub(), Host::running("joiner"));
    let (_, ticket) = ticket(&hub, json!({}));
    let id = enter(&joiner, &ticket);
    wait_state(&joiner, &id, "joined");
    let named = journal(&joiner, "notes").expect("it is here");
    assert_eq!((&named["state"], &named["creator"]["id"]), (&json!("active"), &json!(hub.id())));
    // Who is in already is told so, and nothing is counted twice.
    let again = enter(&joiner, &ticket);
    assert_eq!(wait_state(&joiner, &again, "joined")["result"], "already_member");
    assert_eq!(hub.door().call("codes.list", json!({}))["codes"][0]["used"], 1);
}

#[test]
fn what_is_no_code_is_told_before_anybody_is_asked() {
    let joiner = Host::running("joiner");
    let mut door = joiner.door();
    for (typed, says) in [
        ("23A0-AJAR-58JG-K4EJ-190Y-XXVW-B80E", "typing error"),
        ("23A0-AJAR-58JG-K4EJ-190Y-XXWV-B80D", "typing error"),
        ("23A0-AJAR-58JG-K4EJ-190Y-XXVW", "28 letters"),
        ("23A0-AJAR-58JG-K4EJ-190Y-XXVW-B8*D", "no such character"),
        ("kith:join/23A0-AJAR-58JG-K4EJ-190Y-XXVW-B80D?*", "ticket is damaged"),
    ] {
        let error = door.try_call("joins.begin", json!({"code": typed})).expect_err("it is none");
        assert_eq!(error["data"]["code"], "invalid_param");
        assert!(error["message"].as_str().expect("a sentence").contains(says), "{typed}: {error}");
    }
    assert_eq!(door.call("joins.list", json!({}))["joins"], json!([]));
    // One that nobody has: here nobody is asked at all.
    let begun = door.call("joins.begin", json!({"code": "23A0-AJAR-58JG-K4EJ-190Y-XXVW-B80D"}));
    let id = begun["join"].as_str().expect("an id");
    let failed = wait_state(&joiner, id, "failed");
    assert_eq!((&failed["result"], &failed["reason"]["rpc"]), (&json!("store_unreachable"), &json!(1004)));
    assert_eq!(door.refused("joins.confirm", json!({"join": id})), "wrong_state");
    assert_eq!(door.refused("joins.cancel", json!({"join": "ffffffff"})), "join_not_found");
}

#[test]
fn a_join_that_nobody_confirmed_ends_with_its_connection() {
    let (hub, joiner) = (hub(), Host::running("joiner"));
    let (_, ticket) = ticket(&hub, json!({}));
    let mut door = joiner.door();
    let begun = door.call("joins.begin", json!({"code": ticket}));
    let id = begun["join"].as_str().expect("an id");
    wait_state(&joiner, id, "found");
    drop(door);
    assert_eq!(wait_state(&joiner, id, "canceled")["result"], "canceled");
    assert!(journal(&joiner, "notes").is_none());
}

#[test]
fn a_pending_join_survives_kill_9_of_either_and_ends_when_both_are_there() {
    let (mut hub, mut joiner) = (hub(), Host::running("joiner"));
    let (_, ticket) = ticket(&hub, json!({}));
    hub.kill9();
    let id = enter(&joiner, &ticket);
    let pending = wait_state(&joiner, &id, "pending");
    assert_eq!(
        (&pending["result"], &pending["reason"]["code"]),
        (&json!("issuer_unreachable"), &json!("peer_offline"))
    );
    assert!(pending["retry_at"].is_string(), "{pending}");
    joiner.kill9();
    joiner.start();
    let kept = wait_join(&joiner, &id, |it| it["retry_at"].is_string());
    assert_eq!(
        (&kept["state"], &kept["issuer"], &kept["resource"]),
        (&json!("pending"), &pending["issuer"], &pending["resource"])
    );
    hub.start();
    wait_state(&joiner, &id, "joined");
    joiner.kill9();
    joiner.start();
    let kept = join(&joiner, &id);
    assert_eq!((&kept["state"], &kept["result"]), (&json!("joined"), &json!("ok")));
    assert!(journal(&joiner, "notes").is_some());
    assert_eq!(hub.door().call("codes.list", json!({}))["codes"][0]["used"], 1);
}

#[test]
fn g75_what_happens_to_a_code_while_a_join_is_pending_is_told_exactly() {
    let mut hub = hub();
    let expelled = Host::running("second");
    // Each has a code and waits; the hub is away meanwhile.
    let joiner = Host::running("joiner");
    let mut waiting = Vec::new();
    let issued: Vec<_> = (0..3).map(|_| ticket(&hub, json!({}))).collect();
    hub.kill9();
    for (_, ticket) in &issued {
        let id = enter(&joiner, ticket);
        wait_state(&joiner, &id, "pending");
        waiting.push(id);
    }
    // The first is withdrawn, the second used by somebody else, the third called off by the joiner.
    let canceled = joiner.door().call("joins.cancel", json!({"join": waiting[2]}));
    assert_eq!((&canceled["state"], &canceled["reason"]["code"]), (&json!("canceled"), &json!("canceled")));
    joiner.signal(rustix::process::Signal::STOP);
    hub.start();
    hub.door().call("codes.revoke", json!({"code": issued[0].0}));
    let used = enter(&expelled, &issued[1].1);
    wait_state(&expelled, &used, "joined");
    joiner.signal(rustix::process::Signal::CONT);
    let revoked = wait_state(&joiner, &waiting[0], "failed");
    assert_eq!((&revoked["result"], &revoked["reason"]["code"]), (&json!("revoked"), &json!("code_revoked")));
    let used_up = wait_state(&joiner, &waiting[1], "failed");
    assert_eq!((&used_up["result"], &used_up["reason"]["code"]), (&json!("used_up"), &json!("code_used_up")));
    let sentence = used_up["reason"]["message"].as_str().expect("a sentence");
    assert!(sentence.contains("already used on ") && sentence.ends_with(" by second"), "{sentence}");
    assert_eq!(join(&joiner, &waiting[2])["state"], "canceled");
    assert!(journal(&joiner, "notes").is_none());
    assert_eq!(joiner.door().call("trust.list", json!({}))["peers"], json!([]));
}

#[test]
fn g75_somebody_who_is_asked_says_yes_or_no_or_has_nothing_any_more() {
    let (hub, joiner) = (hub(), Host::running("joiner"));
    let answer = |accept: bool| {
        let waits =
            || hub.door().call("codes.requests", json!({}))["requests"][0]["request"].as_str().map(str::to_owned);
        let request = wait::attempt(PATIENCE, waits).expect("a request");
        hub.door().call("codes.answer", json!({"request": request, "accept": accept}));
    };
    let ask = json!({"approval": "ask"});
    let id = enter(&joiner, &ticket(&hub, ask.clone()).1);
    let pending = wait_state(&joiner, &id, "pending");
    assert_eq!((&pending["result"], &pending["reason"]["rpc"]), (&json!("approval_pending"), &json!(1004)));
    answer(false);
    let denied = wait_state(&joiner, &id, "failed");
    assert_eq!((&denied["result"], &denied["reason"]["code"]), (&json!("denied"), &json!("join_denied")));
    // The same journal with another code; the same code while it is pending goes on as it is.
    let ticket_again = ticket(&hub, ask).1;
    let id = enter(&joiner, &ticket_again);
    wait_state(&joiner, &id, "pending");
    assert_eq!(joiner.door().call("joins.begin", json!({"code": ticket_again}))["join"], json!(id));
    answer(true);
    wait_state(&joiner, &id, "joined");

    let other = Host::running("other");
    let (_, gone) = ticket(&hub, json!({}));
    hub.ctl(&["journals", "remove", "notes", "--yes"]).ok();
    let id = enter(&other, &gone);
    let failed = wait_state(&other, &id, "failed");
    assert_eq!((&failed["result"], &failed["reason"]["code"]), (&json!("resource_gone"), &json!("resource_gone")));
    assert!(journal(&other, "notes").is_none());
}
