//! Thousands of trusted devices in one journal, as codes bring them: none of them was ever in sight.

use kith_proto::control::method::SubscribeResult;
use kith_proto::id::PublicKey;
use kith_proto::limits;
use kith_proto::peer::journal::member::{Record, Resource};
use kith_tests::PATIENCE;
use kith_tests::host::Host;
use rusqlite::{Connection, params};

use crate::journals::App;

const DEVICES: u32 = 2_000;

/// A device that shares the journal "notes" with [`DEVICES`] others, written down while it did not run.
fn hub() -> Host {
    let mut host = Host::running("anna");
    host.ctl(&["journals", "create", "notes"]).ok();
    assert_eq!(host.stop(), 0);
    let mut db = Connection::open(host.path("data/kith.db")).expect("the home is ours");
    let tx = db.transaction().expect("nobody else writes");
    let (journal, resource): (i64, String) = tx
        .query_row("SELECT number, resource FROM journal WHERE name = 'notes'", [], |row| {
            Ok((row.get(0)?, row.get(1)?))
        })
        .expect("it is there");
    let own = serde_json::from_str::<Resource>(&resource).expect("a resource").creator;
    for n in 0..DEVICES {
        let device = PublicKey(std::array::from_fn(|i| n.to_be_bytes()[i % 4] ^ 0x5a));
        let name = format!("phone {n}");
        tx.execute(
            "INSERT INTO device (public_key, name, relation, policy, addresses, paired_ms)
             VALUES (?1, ?2, 'guest', '{\"offers\":\"ask\"}', '[\"127.0.0.1:9\"]', 1)",
            params![device.0, name],
        )
        .expect("a device");
        // What is in the database was verified when it came there.
        let signature = "x".repeat(86);
        let record = Record { device, name, count: 1, admits: false, by: own, signature };
        let record = serde_json::to_string(&record).expect("plain data");
        tx.execute("INSERT INTO journal_member VALUES (?1, ?2, 1, ?3)", params![journal, device.0, record])
            .expect("a member");
    }
    tx.commit().expect("room on the disk");
    drop(db);
    host.start();
    host
}

#[test]
fn g75_thousands_of_members_are_listed_counted_and_followed() {
    let host = hub();
    let all = DEVICES as usize;
    assert_eq!(host.ctl_json(&["peers"])["peers"].as_array().expect("a list").len(), all);
    let journals = host.ctl_json(&["journals"]);
    let notes = journals["journals"].as_array().expect("a list").iter().find(|it| it["name"] == "notes");
    let notes = notes.expect("the journal");
    assert_eq!((&notes["member_count"], &notes["known_by"]), (&DEVICES.into(), &0.into()));
    assert_eq!(notes["members"].as_array().expect("a list").len(), limits::MEMBERS_SHOWN);
    let shown = host.door().call("journals.show", serde_json::json!({"journal": "notes"}));
    assert_eq!(shown["members"].as_array().expect("a list").len(), all);
    let status = host.ctl_json(&["sync", "status"]);
    let peers = status["peers"].as_array().expect("a list");
    assert!(peers.len() == all && peers.iter().all(|peer| peer["journals"][0]["name"] == "notes"));
    for arguments in [&["peers"][..], &["journals"], &["sync", "status"]] {
        let said = host.ctl(arguments).ok().stdout;
        assert!(said.contains(if arguments == ["journals"] { "notes" } else { "phone 1999" }), "{arguments:?}");
    }
    let mut events = host.ctl_spawn(&["events", "--json"]);
    let state = events.json_line(PATIENCE);
    assert!(state.to_string().len() < limits::CONTROL_ANSWER / 4, "there is room for twice as many and more");
    let state: SubscribeResult = serde_json::from_value(state).expect("the state");
    assert_eq!(state.snapshot.peers.len(), all);
    drop(events);
    // An entry for all of them, and one of them goes.
    App::of(&host, "notes").put("a", "hello");
    host.ctl(&["journals", "unshare", "notes", "phone 7"]).ok();
    host.ctl(&["trust", "revoke", "phone 7", "--yes"]).ok();
    let shown = host.door().call("journals.show", serde_json::json!({"journal": "notes"}));
    assert_eq!((&shown["member_count"], &shown["entries"]), (&(DEVICES - 1).into(), &1.into()));
}
