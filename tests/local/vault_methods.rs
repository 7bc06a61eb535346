//! The vault, secrets and databases through the local door: every method, and what each refuses.

use kith_tests::PATIENCE;
use kith_tests::host::Host;
use kith_tests::process::Running;
use serde_json::{Value, json};

/// An Ed25519 key of no use (RFC 8410 §10.3).
const PEM: &str = "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEINTuctv5E1hK1bbY8fdp+K06/nwoy/HU++CXqI9EdVhC\n\
                   -----END PRIVATE KEY-----\n";
const S3: &str = r#"{"region":"eu","accessKeyId":"AK","secretAccessKey":"SK"}"#;

fn names(list: &Value) -> Vec<&str> {
    list.as_array().expect("a list").iter().filter_map(|it| it["name"].as_str()).collect()
}

#[test]
fn secrets_are_added_seen_changed_and_removed() {
    let host = Host::running("anna");
    let mut door = host.door();
    assert_eq!(door.call("vault.status", json!({}))["state"], "absent");
    assert_eq!(door.refused("secrets.view", json!({"name": "a"})), "secret_not_found");
    for (name, kind, value) in [
        ("s3", "s3-credentials", S3),
        ("Key", "encryption-key", PEM),
        ("geo", "api-key", "GK"),
        ("note", "plain", "x\n"),
    ] {
        let added = door.call("secrets.add", json!({"name": name, "type": kind, "value": value}));
        assert_eq!((&added["name"], &added["type"]), (&json!(name), &json!(kind)));
        assert!(added.get("value").is_none());
        assert_eq!(door.call("secrets.view", json!({"name": name.to_uppercase()}))["value"], value);
    }
    let list = door.call("secrets.list", json!({}));
    assert_eq!(names(&list["secrets"]), ["geo", "Key", "note", "s3"]);
    assert!(!list.to_string().contains("GK"));

    let add = |name: &str, kind: &str, value: &str| json!({"name": name, "type": kind, "value": value});
    for (params, code) in [
        (add("KEY", "plain", "x"), "name_taken"),
        (add("", "plain", "x"), "invalid_param"),
        (add("a\nb", "plain", "x"), "invalid_param"),
        (add("a", "password", "x"), "invalid_param"),
        (add("a", "plain", ""), "invalid_param"),
        (add("a", "plain", &"x".repeat((64 << 10) + 1)), "invalid_param"),
        (add("a", "s3-credentials", "{}"), "invalid_param"),
        (add("a", "encryption-key", "pem"), "invalid_param"),
        (json!({"name": "a", "type": "plain"}), "invalid_param"),
        (json!({"name": "a", "type": "plain", "value": "x", "note": "y"}), "unknown_param"),
    ] {
        assert_eq!(door.refused("secrets.add", params.clone()), code, "{params}");
    }
    door.call("secrets.add", add("long", "plain", &"x".repeat(64 << 10)));

    door.call("secrets.edit", json!({"name": "note", "rename": "Note", "value": "y"}));
    assert_eq!(door.call("secrets.view", json!({"name": "note"}))["value"], "y");
    door.call("secrets.edit", json!({"name": "note", "type": "api-key"}));
    assert_eq!(door.call("secrets.view", json!({"name": "Note"}))["type"], "api-key");
    assert_eq!(door.refused("secrets.edit", json!({"name": "note", "type": "encryption-key"})), "invalid_param");
    assert_eq!(door.refused("secrets.edit", json!({"name": "note", "rename": "GEO"})), "name_taken");
    assert_eq!(door.refused("secrets.edit", json!({"name": "none", "value": "x"})), "secret_not_found");
    door.call("secrets.remove", json!({"name": "NOTE"}));
    assert_eq!(door.refused("secrets.remove", json!({"name": "note"})), "secret_not_found");
}

#[test]
fn databases_use_secrets_and_hold_on_to_them() {
    let host = Host::running("anna");
    let mut door = host.door();
    for (name, kind, value) in [("s3", "s3-credentials", S3), ("key", "encryption-key", PEM), ("geo", "api-key", "GK")]
    {
        door.call("secrets.add", json!({"name": name, "type": kind, "value": value}));
    }
    let photos = json!({"name": "Photos", "description": "ours", "path": "s3:b/p", "origin": "home",
        "s3": "S3", "encryption": "key", "geocoding": "geo"});
    let added = door.call("databases.add", photos.clone());
    assert_eq!((&added["s3"], &added["origin"]), (&json!("s3"), &json!("home")));
    assert_eq!(door.refused("databases.add", json!({"name": "photos", "path": "/p"})), "name_taken");
    for (change, code) in [
        (json!({"name": ""}), "invalid_param"),
        (json!({"path": " "}), "invalid_param"),
        (json!({"description": "a\nb"}), "invalid_param"),
        (json!({"s3": "geo"}), "invalid_param"),
        (json!({"geocoding": "none"}), "secret_not_found"),
        (json!({"bucket": "b"}), "unknown_param"),
    ] {
        let mut params = json!({"name": "other", "path": "/p"});
        params.as_object_mut().expect("an object").extend(change.as_object().expect("an object").clone());
        assert_eq!(door.refused("databases.add", params.clone()), code, "{params}");
    }
    assert_eq!(door.refused("databases.view", json!({"name": "other"})), "database_not_found");
    assert_eq!(door.call("secrets.view", json!({"name": "key"}))["used_by"], json!(["Photos"]));
    assert_eq!(door.refused("secrets.remove", json!({"name": "key"})), "secret_in_use");
    assert_eq!(door.refused("secrets.edit", json!({"name": "key", "type": "plain"})), "secret_in_use");
    // Links go along with a new name.
    door.call("secrets.edit", json!({"name": "key", "rename": "Key 2"}));
    assert_eq!(door.call("databases.view", json!({"name": "PHOTOS"}))["encryption"], "Key 2");
    door.call("secrets.remove", json!({"name": "key 2", "force": true}));
    assert!(door.call("databases.view", json!({"name": "photos"})).get("encryption").is_none());

    let edited = door.call("databases.edit", json!({"name": "photos", "rename": "Pictures", "origin": "", "s3": ""}));
    assert_eq!(
        (&edited["name"], &edited["path"], &edited["geocoding"]),
        (&json!("Pictures"), &json!("s3:b/p"), &json!("geo"))
    );
    assert!(edited.get("origin").is_none() && edited.get("s3").is_none());
    door.call("databases.add", json!({"name": "b", "path": "/b"}));
    assert_eq!(door.refused("databases.edit", json!({"name": "b", "rename": "pictures"})), "name_taken");
    assert_eq!(door.refused("databases.edit", json!({"name": "b", "encryption": "geo"})), "invalid_param");
    assert_eq!(door.refused("databases.edit", json!({"name": "c", "path": "/c"})), "database_not_found");
    door.call("databases.remove", json!({"name": "PICTURES"}));
    assert_eq!(door.refused("databases.remove", json!({"name": "pictures"})), "database_not_found");
    assert_eq!(names(&door.call("databases.list", json!({}))["databases"]), ["b"]);
    assert_eq!(names(&door.call("secrets.list", json!({}))["secrets"]), ["geo", "s3"], "its secrets stay");
}

#[test]
fn an_import_is_all_or_nothing() {
    let host = Host::running("anna");
    let mut door = host.door();
    let plain = |name: &str, value: &str| json!({"name": name, "type": "plain", "value": value});
    let import = json!({
        "secrets": [plain("note", "x"), {"name": "key", "type": "encryption-key", "value": PEM}],
        "databases": [{"name": "db", "path": "/db", "encryption": "KEY"}],
    });
    // As people do it: from standard input.
    let mut command = host.ctl_command(&["call", "secrets.import", "-"]);
    command.stdin(std::process::Stdio::piped());
    let mut running = Running::spawn_fed(&mut command);
    running.feed(import.to_string().as_bytes());
    let saved = running.finish(PATIENCE).ok().json();
    assert_eq!((&saved["secrets"][1]["action"], &saved["databases"][0]["action"]), (&json!("saved"), &json!("saved")));
    assert_eq!(door.call("databases.view", json!({"name": "db"}))["encryption"], "key");
    let again = door.call("secrets.import", import);
    assert_eq!((&again["secrets"][0]["action"], &again["databases"][0]["action"]), (&json!("equal"), &json!("equal")));

    let mut with = |on_conflict: &str| {
        let secrets = json!([plain("new", "n"), plain("NOTE", "y")]);
        door.try_call("secrets.import", json!({"secrets": secrets, "on_conflict": on_conflict}))
    };
    let error = with("fail").expect_err("a name is taken");
    assert_eq!(error["data"]["code"], "name_taken");
    assert!(error["message"].as_str().is_some_and(|it| it.contains("note")), "{error}");
    let renamed = with("rename").expect("another name");
    assert_eq!(
        (&renamed["secrets"][1]["name"], &renamed["secrets"][1]["action"]),
        (&json!("NOTE (2)"), &json!("renamed"))
    );
    assert_eq!(with("reuse").expect("what is here")["secrets"][1]["action"], "reused");
    assert_eq!(with("replace").expect("the new one")["secrets"][1]["action"], "replaced");
    assert_eq!(door.call("secrets.view", json!({"name": "note"}))["value"], "y");
    for (import, code) in [
        (json!({"secrets": [plain("z", "1"), plain("y", "")]}), "invalid_param"),
        (json!({"secrets": [plain("z", "1"), plain("Z", "2")], "on_conflict": "replace"}), "name_taken"),
        (
            json!({"secrets": [plain("z", "1")], "databases": [{"name": "d", "path": "/", "s3": "q"}]}),
            "secret_not_found",
        ),
        (json!({"secrets": [plain("z", "1")], "databases": [{"name": "d", "path": "/", "s3": "z"}]}), "invalid_param"),
        (json!({"secrets": [plain("z", "1")], "databases": [{"name": "DB", "path": "/"}]}), "name_taken"),
    ] {
        assert_eq!(door.refused("secrets.import", import.clone()), code, "{import}");
    }
    assert_eq!(door.refused("secrets.view", json!({"name": "z"})), "secret_not_found", "nothing of it is left");
}

#[test]
fn a_locked_vault_shows_names_and_no_values() {
    let mut host = Host::running("anna");
    let mut door = host.door();
    let mut events = host.door();
    events.call("events.subscribe", json!({"kinds": ["vault:updated"]}));
    let mut told = |state: &str| {
        let event = events.event(|it| it["kind"] == "vault:updated" && it["data"]["state"] == state);
        assert!(event["data"].get("value").is_none());
    };
    door.call("vault.lock", json!({}));
    assert_eq!(door.call("vault.unlock", json!({}))["state"], "absent");
    door.call("secrets.add", json!({"name": "a", "type": "plain", "value": "x"}));
    told("unlocked");
    assert_eq!(door.call("vault.lock", json!({}))["state"], "locked");
    told("locked");
    let locked = |door: &mut kith_tests::door::Door| {
        for (method, params) in [
            ("secrets.view", json!({"name": "a"})),
            ("secrets.add", json!({"name": "b", "type": "plain", "value": "x"})),
            ("secrets.edit", json!({"name": "a", "value": "y"})),
            ("secrets.remove", json!({"name": "a"})),
            ("secrets.import", json!({"secrets": [{"name": "b", "type": "plain", "value": "x"}]})),
        ] {
            assert_eq!(door.refused(method, params), "vault_locked", "{method}");
        }
        assert_eq!(names(&door.call("secrets.list", json!({}))["secrets"]), ["a"]);
    };
    locked(&mut door);
    door.call("databases.add", json!({"name": "d", "path": "/d"}));
    assert_eq!(door.call("vault.unlock", json!({}))["state"], "unlocked");
    told("unlocked");

    assert_eq!(door.refused("vault.passphrase", json!({"new": ""})), "invalid_param");
    assert_eq!(door.refused("vault.passphrase", json!({"new": "x".repeat(1025)})), "invalid_param");
    let status = door.call("vault.passphrase", json!({"new": "one two"}));
    assert_eq!(
        (&status["mode"], &status["state"], &status["idle_minutes"]),
        (&json!("passphrase"), &json!("unlocked"), &json!(15))
    );
    assert!(!host.path("data/vault.key").exists());
    host.restart();
    let mut door = host.door();
    assert_eq!(door.call("vault.status", json!({}))["state"], "locked");
    locked(&mut door);
    for (method, params, code) in [
        ("vault.unlock", json!({}), "invalid_param"),
        ("vault.unlock", json!({"passphrase": "one"}), "wrong_passphrase"),
        ("vault.unlock", json!({"passphrase": ""}), "wrong_passphrase"),
        ("vault.passphrase", json!({"new": "three"}), "invalid_param"),
        ("vault.passphrase", json!({"current": "one", "new": "three"}), "wrong_passphrase"),
    ] {
        assert_eq!(door.refused(method, params), code, "{method}");
    }
    assert_eq!(
        host.ctl_refused(&["call", "vault.unlock", r#"{"passphrase":"one"}"#]),
        ("wrong_passphrase".to_owned(), 4)
    );
    assert_eq!(host.ctl_refused(&["call", "secrets.view", r#"{"name":"a"}"#]), ("vault_locked".to_owned(), 6));
    assert_eq!(door.call("vault.unlock", json!({"passphrase": "one two"}))["state"], "unlocked");
    assert_eq!(door.call("secrets.view", json!({"name": "a"}))["value"], "x");
    let status = door.call("vault.passphrase", json!({"current": "one two"}));
    assert_eq!((&status["mode"], &status["state"]), (&json!("file"), &json!("unlocked")));
    host.restart();
    assert_eq!(host.door().call("secrets.view", json!({"name": "a"}))["value"], "x");
}
