//! Who has a journal: own devices, guests, those who may share, those who left, those who were removed.

use kith_tests::host::{self, Host};
use kith_tests::{PATIENCE, wait};
use serde_json::{Value, json};

use crate::journals::{App, DEFAULT, journal, sync, three, wait_journal, wait_same, wait_state};
use crate::support::friends;

#[track_caller]
fn create(host: &Host, name: &str) -> String {
    host.ctl_json(&["journals", "create", name])["id"].as_str().expect("an id").to_owned()
}

#[track_caller]
fn share(host: &Host, name: &str, with: &Host) {
    host.ctl(&["journals", "share", name, with.name()]).ok();
}

#[track_caller]
fn unshare(host: &Host, name: &str, with: &Host) {
    host.ctl(&["journals", "unshare", name, with.name()]).ok();
}

/// The names of a journal's members, as `host` knows them.
fn members(host: &Host, name: &str) -> Vec<String> {
    let journal = journal(host, name).expect("it is listed");
    let members = journal["members"].as_array().expect("a list").iter();
    members.map(|it| it["name"].as_str().expect("a name").to_owned()).collect()
}

/// Anna and Bert, who are not one person: Anna has typed Bert's PIN.
#[track_caller]
fn acquaintances() -> (Host, Host) {
    let (anna, bert) = friends();
    anna.ctl(&["trust", "policy", "bert", "--guest"]).ok();
    bert.ctl(&["trust", "policy", "anna", "--guest"]).ok();
    (anna, bert)
}

#[test]
fn a_journal_that_is_shared_with_an_own_device_appears_there_by_itself() {
    let (anna, bert) = friends();
    let id = create(&anna, "notes");
    let shown = journal(&anna, "notes").expect("it was made");
    assert_eq!((&shown["state"], &shown["members"], &shown["may_share"]), (&json!("active"), &json!([]), &json!(true)));
    assert_eq!(shown["creator"], json!({"id": anna.id(), "name": "anna"}));
    App::of(&anna, "notes").put("one", "from anna");
    let mut events = bert.door();
    events.call("events.subscribe", json!({"kinds": ["journal:updated"]}));
    share(&anna, "notes", &bert);
    let told = events.event(|params| params["data"]["name"] == "notes");
    assert_eq!((&told["data"]["id"], &told["data"]["state"]), (&json!(id), &json!("active")));
    assert_eq!(told["data"]["creator"]["name"], "anna");

    let mut app = App::of(&bert, "notes");
    app.wait_text("one", "from anna");
    app.put("two", "from bert");
    wait_same(&[&anna, &bert], "notes", 2);
    assert_eq!((members(&anna, "notes"), members(&bert, "notes")), (vec!["bert".to_owned()], vec!["anna".to_owned()]));
    // What is known by all is shown as that.
    for host in [&anna, &bert] {
        let shown = wait_journal(host, "notes", |it| it["known_by"] == 1);
        assert_eq!(shown["members"][0]["current"], true);
        assert!(shown["members"][0]["last_sync"].is_string(), "{shown}");
    }
    assert!(App::of(&anna, DEFAULT).ids().is_empty(), "another journal has none of this");
}

#[test]
fn who_is_removed_keeps_what_it_has_and_gets_nothing_more() {
    let (anna, bert) = friends();
    create(&anna, "notes");
    App::of(&anna, "notes").put("one", "kept");
    share(&anna, "notes", &bert);
    wait_state(&bert, "notes", "active");
    wait_same(&[&anna, &bert], "notes", 1);
    unshare(&anna, "notes", &bert);
    assert!(members(&anna, "notes").is_empty());
    wait_state(&bert, "notes", "removed");
    let mut app = App::of(&bert, "notes");
    assert_eq!(app.text("one").as_deref(), Some("kept"));
    assert_eq!(app.refused("entries.put", json!({"id": "two"})), "wrong_state");
    assert_eq!(app.refused("entries.delete", json!({"id": "one"})), "wrong_state");
    assert_eq!(bert.ctl_refused(&["journals", "share", "notes", "anna"]).0, "wrong_state");
    assert_eq!(bert.ctl_refused(&["journals", "accept", "notes"]), ("wrong_state".to_owned(), 6));
    // What is written now goes elsewhere with the next session, and not there.
    App::of(&anna, "notes").put("two", "for others");
    App::of(&anna, DEFAULT).put("mark", "x");
    App::of(&bert, DEFAULT).wait_text("mark", "x");
    sync(&anna, &bert);
    assert_eq!((app.get("two"), app.ids()), (None, vec!["one".to_owned()]));
    assert!(anna.ctl_json(&["sync", "status"])["peers"][0]["journals"].to_string().find("notes").is_none());

    share(&anna, "notes", &bert);
    wait_state(&bert, "notes", "active");
    app.wait_text("two", "for others");
    app.put("three", "from bert");
    wait_same(&[&anna, &bert], "notes", 3);
}

#[test]
fn who_leaves_stays_away_until_it_is_invited_anew() {
    let (anna, bert) = friends();
    create(&anna, "notes");
    App::of(&anna, "notes").put("one", "x");
    share(&anna, "notes", &bert);
    wait_state(&bert, "notes", "active");
    wait_same(&[&anna, &bert], "notes", 1);
    bert.ctl(&["journals", "remove", "notes", "--yes"]).ok();
    assert_eq!(journal(&bert, "notes"), None);
    assert_eq!(bert.ctl_refused(&["entries", "list", "notes"]), ("journal_not_found".to_owned(), 5));
    wait_journal(&anna, "notes", |it| it["members"] == json!([]));
    assert_eq!(App::of(&anna, "notes").ids(), ["one"], "others keep theirs");
    // It does not come back by itself, whatever happens there.
    App::of(&anna, "notes").put("two", "x");
    for host in [&anna, &bert] {
        sync(host, if host.name() == "anna" { &bert } else { &anna });
        assert_eq!(journal(&bert, "notes"), None);
    }
    // Its name is free.
    create(&bert, "notes");
    share(&anna, "notes", &bert);
    wait_state(&bert, "notes (anna)", "active");
    App::of(&bert, "notes (anna)").wait_text("two", "x");
    assert!(App::of(&bert, "notes").ids().is_empty());
}

#[test]
fn a_guest_is_asked_and_has_nothing_before_it_accepts() {
    let (anna, bert) = acquaintances();
    create(&anna, "notes");
    App::of(&anna, "notes").put("secret", "not before");
    share(&anna, "notes", &bert);
    let offered = wait_state(&bert, "notes", "offered");
    assert_eq!((&offered["entries"], &offered["creator"]["name"]), (&json!(0), &json!("anna")));
    let mut app = App::of(&bert, "notes");
    App::of(&anna, "notes").put("more", "not before");
    sync(&anna, &bert);
    sync(&bert, &anna);
    assert_eq!(app.list(json!({"deleted": true})), [] as [Value; 0]);
    assert_eq!(app.get("secret"), None);
    assert_eq!(app.refused("entries.put", json!({"id": "mine"})), "wrong_state");
    assert!(!std::fs::read(bert.path("data/kith.db")).is_ok_and(|db| contains(&db, b"not before")));
    assert!(!std::fs::read(bert.path("data/kith.db-wal")).is_ok_and(|db| contains(&db, b"not before")));

    let accepted = bert.ctl_json(&["journals", "accept", "notes"]);
    assert_eq!((&accepted["state"], &accepted["may_share"]), (&json!("active"), &json!(false)));
    app.wait_text("secret", "not before");
    app.put("mine", "from the guest");
    wait_same(&[&anna, &bert], "notes", 3);
    // A guest may not share.
    assert_eq!(bert.ctl_refused(&["journals", "share", "notes", "anna"]), ("access_denied".to_owned(), 4));
    assert_eq!(bert.ctl_refused(&["journals", "unshare", "notes", "anna"]), ("access_denied".to_owned(), 4));
    // And one that was offered can be refused for good.
    create(&anna, "more");
    share(&anna, "more", &bert);
    wait_state(&bert, "more", "offered");
    bert.ctl(&["journals", "remove", "more", "--yes"]).ok();
    wait_journal(&anna, "more", |it| it["members"] == json!([]));
    sync(&anna, &bert);
    assert_eq!(journal(&bert, "more"), None);
}

fn contains(text: &[u8], word: &[u8]) -> bool {
    text.windows(word.len()).any(|window| window == word)
}

#[test]
fn the_default_journal_goes_to_own_devices_and_to_nobody_else() {
    let (anna, bert, carl) = three(false);
    anna.ctl(&["trust", "policy", "carl", "--guest"]).ok();
    let mut app = App::of(&anna, DEFAULT);
    app.put("one", "for my own");
    wait_same(&[&anna, &bert], DEFAULT, 1);
    assert_eq!(members(&anna, DEFAULT), ["bert"]);
    // Carl takes Anna for his own, which does not make him hers.
    sync(&carl, &anna);
    sync(&anna, &carl);
    assert_eq!(App::of(&carl, DEFAULT).list(json!({"deleted": true})), [] as [Value; 0]);
    App::of(&carl, DEFAULT).put("his", "x");
    sync(&carl, &anna);
    assert_eq!(app.ids(), ["one"]);

    anna.ctl(&["trust", "policy", "bert", "--guest"]).ok();
    app.put("two", "not any more");
    sync(&anna, &bert);
    sync(&bert, &anna);
    assert_eq!(App::of(&bert, DEFAULT).ids(), ["one"], "what it has it keeps");
    anna.ctl(&["trust", "policy", "bert", "--own"]).ok();
    App::of(&bert, DEFAULT).wait_text("two", "not any more");
    anna.ctl(&["trust", "policy", "carl", "--own"]).ok();
    wait_same(&[&anna, &bert, &carl], DEFAULT, 3);
}

#[test]
fn the_default_journal_stays_and_is_nobody_s_to_share() {
    let (anna, _bert) = friends();
    for arguments in [
        &["journals", "remove", DEFAULT, "--yes"][..],
        &["journals", "share", DEFAULT, "bert"],
        &["journals", "unshare", DEFAULT, "bert"],
        &["journals", "accept", DEFAULT],
    ] {
        assert_eq!(anna.ctl_refused(arguments), ("wrong_state".to_owned(), 6), "{arguments:?}");
    }
    assert_eq!(anna.ctl_refused(&["journals", "create", DEFAULT]), ("name_taken".to_owned(), 6));
    let shown = journal(&anna, DEFAULT).expect("it stays");
    assert_eq!((&shown["state"], &shown["creator"]), (&json!("active"), &Value::Null));
    let first = anna.ctl_json(&["journals"])["journals"][0]["name"].clone();
    assert_eq!(first, DEFAULT);
}

#[test]
fn an_own_device_shares_with_a_third_and_only_the_creator_removes_it() {
    let (anna, bert, carl) = three(true);
    create(&anna, "notes");
    App::of(&anna, "notes").put("one", "x");
    share(&anna, "notes", &bert);
    let shown = wait_state(&bert, "notes", "active");
    assert_eq!(shown["may_share"], true);
    share(&bert, "notes", &carl);
    wait_state(&carl, "notes", "active");
    App::of(&carl, "notes").put("two", "from carl");
    wait_same(&[&anna, &bert, &carl], "notes", 2);
    wait_journal(&anna, "notes", |it| it["members"].as_array().is_some_and(|list| list.len() == 2));
    assert_eq!(members(&anna, "notes"), ["bert", "carl"]);
    // Whom Bert admitted may not admit; nobody but Anna removes Bert, nobody at all removes her.
    assert_eq!(journal(&carl, "notes").expect("it is there")["may_share"], false);
    assert_eq!(carl.ctl_refused(&["journals", "unshare", "notes", "bert"]), ("access_denied".to_owned(), 4));
    assert_eq!(bert.ctl_refused(&["journals", "unshare", "notes", "anna"]), ("access_denied".to_owned(), 4));
    // She removes him; what he let in stays.
    unshare(&anna, "notes", &bert);
    wait_state(&bert, "notes", "removed");
    App::of(&anna, "notes").put("three", "x");
    wait_same(&[&anna, &carl], "notes", 3);
    assert_eq!(App::of(&bert, "notes").ids(), ["one", "two"]);
    wait_journal(&carl, "notes", |it| it["members"].as_array().is_some_and(|list| list.len() == 1));
    assert_eq!(members(&carl, "notes"), ["anna"]);
}

#[test]
fn a_journal_comes_under_a_name_that_is_free() {
    let (anna, bert, carl) = three(true);
    for host in [&anna, &bert, &carl] {
        create(host, "notes");
        App::of(host, "notes").put("whose", host.name());
    }
    share(&bert, "notes", &anna);
    share(&carl, "notes", &anna);
    for (name, whose) in [("notes (bert)", "bert"), ("notes (carl)", "carl")] {
        wait_state(&anna, name, "active");
        App::of(&anna, name).wait_text("whose", whose);
    }
    assert_eq!(App::of(&anna, "notes").text("whose").as_deref(), Some("anna"));
    // Another one of Bert's with the same name; and one called like an id.
    let id = create(&carl, "0123456789abcdef0123456789abcdef");
    share(&carl, &id, &anna);
    wait_journal(&anna, &id, |it| it["state"] == "active" && it["name"] != "0123456789abcdef0123456789abcdef");
    bert.ctl(&["journals", "remove", "notes", "--yes"]).ok();
    create(&bert, "notes");
    share(&bert, "notes", &anna);
    wait_state(&anna, "notes (bert 2)", "active");
    let names: Vec<String> = anna.ctl_json(&["journals"])["journals"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|it| it["name"].as_str().expect("a name").to_owned())
        .collect();
    let distinct: std::collections::BTreeSet<&String> = names.iter().collect();
    assert_eq!(distinct.len(), names.len(), "{names:?}");
}

#[test]
fn names_that_name_nothing_or_too_much() {
    let (anna, bert) = friends();
    let other = Host::running("bert");
    host::pair(&other, &anna);
    create(&anna, "notes");
    assert_eq!(anna.ctl_refused(&["journals", "share", "notes", "bert"]), ("peer_ambiguous".to_owned(), 6));
    assert_eq!(anna.ctl_refused(&["journals", "share", "notes", "nobody"]), ("peer_not_found".to_owned(), 5));
    assert_eq!(anna.ctl_refused(&["journals", "share", "nothing", &bert.id()]), ("journal_not_found".to_owned(), 5));
    for host in [&bert, &other] {
        anna.ctl(&["journals", "share", "notes", &host.id()]).ok();
        wait_state(host, "notes", "active");
    }
    assert_eq!(anna.ctl_refused(&["journals", "unshare", "notes", "bert"]), ("peer_ambiguous".to_owned(), 6));
    anna.ctl(&["journals", "unshare", "notes", &other.id()[..12]]).ok();
    wait_state(&other, "notes", "removed");
    assert_eq!(anna.ctl_refused(&["journals", "unshare", "notes", &other.id()]), ("peer_not_found".to_owned(), 5));
    // What is shared already changes nothing.
    anna.ctl(&["journals", "share", "notes", &bert.id()]).ok();
    assert_eq!(members(&anna, "notes"), ["bert"]);
    for (name, code) in [
        ("", "invalid_param"),
        ("a\nb", "invalid_param"),
        (&*"n".repeat(129), "invalid_param"),
        ("notes", "name_taken"),
    ] {
        assert_eq!(anna.door().refused("journals.create", json!({ "name": name })), code, "{name:?}");
    }
    for name in ["n".repeat(128), "Grüße 😀".to_owned(), " ".to_owned(), "../x".to_owned(), "-x".to_owned()] {
        assert_eq!(anna.door().call("journals.create", json!({ "name": name }))["name"], *name);
        assert_eq!(anna.door().call("journals.show", json!({ "journal": name }))["name"], *name);
    }
}

#[test]
fn d35_a_revoked_device_gets_nothing_more_of_any_journal() {
    let (anna, bert) = friends();
    create(&anna, "notes");
    share(&anna, "notes", &bert);
    wait_state(&bert, "notes", "active");
    for journal in ["notes", DEFAULT] {
        App::of(&anna, journal).put("one", "x");
        wait_same(&[&anna, &bert], journal, 1);
    }
    anna.ctl(&["trust", "revoke", "bert", "--yes"]).ok();
    let mut events = bert.door();
    events.call("events.subscribe", json!({"kinds": ["sync:error"]}));
    for journal in ["notes", DEFAULT] {
        App::of(&anna, journal).put("two", "x");
        App::of(&bert, journal).put("three", "x");
    }
    // Bert tries, and is told.
    let (code, exit) = bert.ctl_refused(&["sync", "anna"]);
    assert_eq!((code.as_str(), exit), ("not_trusted", 1));
    let told = events.event(|params| params["data"]["reason"]["code"] == "not_trusted");
    assert_eq!(told["data"]["peer"]["name"], "anna");
    let status = bert.ctl_json(&["sync", "status"]);
    assert_eq!(status["peers"][0]["error"]["code"], "not_trusted", "{status}");
    assert_eq!(anna.ctl_refused(&["sync", "bert"]), ("not_paired".to_owned(), 6));
    for journal in ["notes", DEFAULT] {
        assert_eq!(App::of(&anna, journal).ids(), ["one", "two"]);
        assert_eq!(App::of(&bert, journal).ids(), ["one", "three"]);
    }
    // Paired anew, it goes on where it was.
    bert.ctl(&["trust", "revoke", "anna", "--yes"]).ok();
    host::pair(&bert, &anna);
    wait_same(&[&anna, &bert], DEFAULT, 3);
    wait::until_true("the shared journal to go on", 2 * PATIENCE, || App::of(&bert, "notes").get("two").is_some());
}
