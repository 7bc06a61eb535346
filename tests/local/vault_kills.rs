//! kill -9 while the vault changes: what was answered is there, and what was under way is there whole or not at all.

use std::collections::BTreeMap;
use std::time::Duration;

use kith_tests::door::Door;
use kith_tests::host::Host;
use kith_tests::random::Random;
use kith_tests::wait;
use serde_json::{Value, json};

fn plain(name: &str, value: &str) -> Value {
    json!({"name": name, "type": "plain", "value": value})
}

fn all(door: &mut Door) -> BTreeMap<String, String> {
    let list = door.call("secrets.list", json!({}));
    let names = list["secrets"].as_array().expect("a list").iter().filter_map(|it| it["name"].as_str());
    names
        .map(|name| {
            let view = door.call("secrets.view", json!({"name": name}));
            (name.to_owned(), view["value"].as_str().expect("a value").to_owned())
        })
        .collect()
}

#[test]
fn h80_secrets_are_whole_after_a_kill() {
    let mut host = Host::running("anna");
    let mut random = Random::printed("secrets and kills");
    let mut known = BTreeMap::new();
    for round in 0..12 {
        let mut door = host.door();
        let name = format!("s{}", random.within(0..6));
        let value = format!("{round}-{}", "v".repeat(random.within(0..60_000) as usize));
        if known.contains_key(&name) {
            door.call("secrets.edit", json!({"name": name, "value": value}));
        } else {
            door.call("secrets.add", plain(&name, &value));
        }
        known.insert(name.clone(), value);
        // One more, which may be there or not.
        let mut maybe = known.clone();
        match round % 4 {
            0 => {
                door.ask("secrets.edit", json!({"name": name, "value": "edited", "rename": "other"}));
                maybe.remove(&name);
                maybe.insert("other".to_owned(), "edited".to_owned());
            }
            1 => {
                door.ask("secrets.remove", json!({"name": name}));
                maybe.remove(&name);
            }
            _ => {
                let secrets: Vec<_> = (0..30).map(|i| plain(&format!("i{round}-{i}"), "imported")).collect();
                door.ask("secrets.import", json!({"secrets": secrets}));
                maybe.extend((0..30).map(|i| (format!("i{round}-{i}"), "imported".to_owned())));
            }
        }
        wait::nap(Duration::from_millis(random.within(0..12)));
        host.kill9();
        host.start();
        let now = all(&mut host.door());
        assert!(now == known || now == maybe, "round {round}: {:?}", now.keys());
        known = now;
        // "other" is a name once.
        if known.remove("other").is_some() {
            host.door().call("secrets.remove", json!({"name": "other"}));
        }
    }
}

#[test]
fn h80_a_passphrase_that_is_being_changed_is_the_old_one_or_the_new_one() {
    let mut host = Host::running("anna");
    let mut random = Random::printed("passphrases and kills");
    host.door().call("secrets.add", plain("a", "x"));
    let mut now: Option<String> = None;
    let mut replaced = std::fs::read(host.path("data/vault.key")).ok();
    for round in 0..14 {
        let next = (round % 3 != 2).then(|| format!("passphrase {round}"));
        let mut door = host.door();
        let params = |current: &Option<String>, new: &Option<String>| {
            let pairs = [("current", current), ("new", new)];
            Value::Object(pairs.iter().filter_map(|(key, it)| Some(((*key).to_owned(), json!(it.as_ref()?)))).collect())
        };
        door.ask("vault.passphrase", params(&now, &next));
        wait::nap(Duration::from_millis(random.within(0..700)));
        host.kill9();
        host.start();
        let mut door = host.door();
        let mode = door.call("vault.status", json!({}))["mode"].clone();
        let opens = |door: &mut Door, with: &Option<String>| match with {
            None => mode == "file" && door.try_call("vault.unlock", json!({})).is_ok(),
            Some(it) => mode == "passphrase" && door.try_call("vault.unlock", json!({"passphrase": it})).is_ok(),
        };
        let old = opens(&mut door, &now);
        door.call("vault.lock", json!({}));
        let new = opens(&mut door, &next);
        assert!(old != new || now == next, "round {round}: {mode}, old {old}, new {new}");
        now = if new { next } else { now };
        // A file that was made and never used may be left; the key that another one took the place of may not.
        let file = std::fs::read(host.path("data/vault.key")).ok();
        if mode == "file" {
            assert!(file.is_some(), "round {round}");
            replaced = file;
        } else {
            assert!(file.is_none() || file != replaced, "round {round}: the old key is still there");
        }
        if old {
            opens(&mut door, &now);
        }
        assert_eq!(door.call("secrets.view", json!({"name": "a"}))["value"], "x", "round {round}");
    }
}
