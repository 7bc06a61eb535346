//! kill -9: what was answered is there, and what was under way goes on.

use std::collections::BTreeMap;

use kith_tests::host::{self, Host};
use kith_tests::random::Random;
use kith_tests::{PATIENCE, wait};
use serde_json::json;

use crate::journals::{App, DEFAULT, export, sync, wait_same};

#[test]
fn g46_what_was_answered_is_there_after_a_kill() {
    let mut host = Host::running("anna");
    let mut random = Random::printed("puts and kills");
    let mut known: BTreeMap<String, Vec<u8>> = BTreeMap::new();
    for round in 0..6 {
        let mut app = App::of(&host, DEFAULT);
        for i in 0..random.within(5..15) {
            let id = format!("e{}", random.within(0..40));
            if random.within(0..5) == 0 && known.remove(&id).is_some() {
                app.delete(&id);
            } else {
                let len = if i == 3 { 700_000 } else { random.within(0..3_000) as usize };
                let body = random.bytes(len);
                app.put(&id, &body);
                known.insert(id, body);
            }
        }
        // At once after the answer; and with another one under way, which may be there or not.
        let next = format!("under way {round}");
        if round % 2 == 1 {
            app.door.ask("entries.put", json!({"journal": DEFAULT, "id": next, "body": "eA=="}));
        }
        host.kill9();
        host.start();
        let mut app = App::of(&host, DEFAULT);
        if let Some((_, body)) = app.get(&next) {
            assert_eq!(body, b"x", "whole or not at all");
            known.insert(next, body);
        }
        assert_eq!(app.ids(), known.keys().cloned().collect::<Vec<_>>(), "round {round}");
        for (id, body) in &known {
            assert!(app.get(id).expect("it is there").1 == *body, "round {round}: {id}");
        }
        let doctor = host.ctl(&["doctor"]);
        assert!(doctor.stdout.lines().any(|it| it.starts_with("ok") && it.contains("journals")), "{}", doctor.stdout);
    }
}

#[test]
fn g46_killed_in_the_middle_of_a_first_sync_on_either_side() {
    let mut random = Random::printed("kills in a sync");
    let (mut anna, mut bert) = (Host::running("anna"), Host::running("bert"));
    // Before they know each other, so that the first session has all of it.
    for host in [&anna, &bert] {
        let path = host.path("entries.ndjson");
        let line = |i| format!("{{\"id\":\"{}-{i}\",\"body\":\"{}\"}}\n", host.name(), "eHh4".repeat(200));
        std::fs::write(&path, (0..800).map(line).collect::<String>()).expect("the home is ours");
        host.ctl(&["entries", "import", DEFAULT, "--file", path.to_str().expect("UTF-8")]).ok();
    }
    host::pair(&bert, &anna);
    for round in 0..10 {
        let mut app = App::of(&anna, DEFAULT);
        app.put(&format!("round {round}"), random.bytes(100_000));
        App::of(&bert, DEFAULT).put(&format!("of bert {round}"), random.bytes(100_000));
        drop(app);
        let asked = anna.ctl_spawn(&["sync", "bert"]);
        wait::nap(std::time::Duration::from_millis(random.within(0..150)));
        let killed = if round % 2 == 0 { &mut anna } else { &mut bert };
        killed.kill9();
        killed.start();
        drop(asked);
    }
    sync(&anna, &bert);
    wait_same(&[&anna, &bert], DEFAULT, 1_620);
    assert_eq!(export(&anna, DEFAULT), export(&bert, DEFAULT));
    for host in [&anna, &bert] {
        assert!(App::of(host, DEFAULT).call("entries.history", json!({}))["versions"] == json!([]), "no conflict");
        let doctor = host.ctl(&["doctor"]);
        assert!(doctor.stdout.lines().any(|it| it.starts_with("ok") && it.contains("journals")), "{}", doctor.stdout);
    }
    wait::until_true("both to know that", 2 * PATIENCE, || {
        [&anna, &bert].iter().all(|host| {
            let status = host.door().call("sync.status", json!({}));
            status["peers"][0]["journals"][0]["lag"] == 0
        })
    });
}
