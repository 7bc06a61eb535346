//! Where secrets are kept.

use serde_json::{Value, json};

use crate::fake::Fake;
use crate::fake::Say::{Error, Result};

const SECRET: &str = "correct horse";

fn vault(changes: &Value) -> Value {
    let mut vault = json!({"state": "unlocked", "mode": "file", "secrets": 3, "databases": 2, "newer": []});
    for (key, value) in changes.as_object().unwrap() {
        vault[key] = value.clone();
    }
    vault
}

/// A daemon whose vault is so.
fn with(changes: &Value) -> Fake {
    let vault = vault(changes);
    Fake::new(move |_, _| vec![Result(vault.clone())])
}

#[test]
fn what_the_vault_is() {
    let reason =
        json!({"rpc": 1003, "code": "vault_unusable", "message": "vault.key is gone\u{1b}", "hint": "bring it back"});
    for (changes, words) in [
        (json!({}), vec!["state      unlocked", "key        in a file", "secrets    3", "databases  2"]),
        (json!({"state": "absent", "mode": null}), vec!["absent: the first secret makes it"]),
        (
            json!({"state": "locked", "mode": "passphrase", "idle_minutes": 15}),
            vec!["locked", "under a passphrase", "after 15 minutes without use", "kithctl vault unlock"],
        ),
        (
            json!({"state": "unusable", "mode": "credential", "reason": reason}),
            vec!["unusable", "service manager", "vault.key is gone\\u{1b}", "what to do  bring it back"],
        ),
        (json!({"state": "of-tomorrow", "mode": "of-tomorrow"}), vec!["unknown"]),
    ] {
        let fake = with(&changes);
        for line in ["vault", "vault status"] {
            let ran = fake.run(line);
            assert_eq!((ran.exit, ran.stderr.as_str()), (Some(0), ""), "{changes}");
            for word in &words {
                assert!(ran.stdout.contains(word), "{word:?} is not in {}", ran.stdout);
            }
        }
        assert_eq!(fake.run("vault status --json").lines(), [vault(&changes)]);
        assert_eq!(fake.asked("vault.status"), vec![json!({}); 3]);
    }
}

#[test]
fn it_is_locked_and_unlocked() {
    let fake = with(&json!({"state": "locked"}));
    let ran = fake.run("vault lock");
    assert_eq!((ran.exit, ran.stdout.as_str()), (Some(0), "the vault is locked; its key is in a file\n"));
    // Without a passphrase, nobody is asked for one.
    assert_eq!(fake.run("vault unlock").exit, Some(0));
    assert_eq!(fake.at_terminal("vault unlock").leaves().0, Some(0));
    assert_eq!((fake.asked("vault.lock"), fake.asked("vault.unlock")), (vec![json!({})], vec![json!({}); 2]));

    let fake = with(&json!({"state": "locked", "mode": "passphrase"}));
    let file = fake.file("passphrase", format!("{SECRET}\nmore\n").as_bytes());
    let ran = fake.run(&format!("vault unlock --passphrase-file {file} --json"));
    assert_eq!((ran.exit, ran.lines().len(), ran.stderr.as_str()), (Some(0), 1, ""));
    let mut person = fake.at_terminal("vault unlock");
    person.sees("Passphrase of the vault: ");
    assert!(!person.echoes());
    person.types(SECRET);
    let (exit, shown) = person.leaves();
    assert_eq!((exit, shown.contains("horse")), (Some(0), false), "{shown}");
    assert_eq!(fake.asked("vault.unlock"), vec![json!({"passphrase": SECRET}); 2]);

    for line in ["vault unlock --json", "vault passphrase --json", "vault passphrase --remove --json"] {
        let ran = fake.run(line);
        assert_eq!((ran.exit, ran.error_code().as_str()), (Some(2), "usage"), "{line}");
        assert!(ran.stderr.contains("--passphrase-file"), "{ran:?}");
    }
    assert_eq!(fake.asked("vault.unlock").len(), 2);
}

#[test]
fn h79_a_wrong_passphrase_is_refused_and_not_repeated() {
    let fake = Fake::new(|method, _| match method {
        "vault.status" => vec![Result(vault(&json!({"state": "locked", "mode": "passphrase"})))],
        _ => vec![Error(1001, "wrong_passphrase")],
    });
    let file = fake.file("passphrase", b"wrong horse");
    for line in ["vault unlock", "vault passphrase --remove"] {
        let ran = fake.run(&format!("{line} --passphrase-file {file} --json"));
        assert_eq!((ran.exit, ran.error_code().as_str()), (Some(4), "wrong_passphrase"));
        assert!(!ran.stderr.contains("horse"), "{ran:?}");
    }
}

#[test]
fn a_passphrase_comes_changes_and_goes() {
    let fake = with(&json!({}));
    let mut shown = String::new();
    let mut person = fake.at_terminal("vault passphrase");
    for (question, answer) in [
        ("New passphrase: ", SECRET),
        ("The same again: ", "correct hors"),
        ("New passphrase: ", SECRET),
        ("The same again: ", SECRET),
    ] {
        shown += &person.sees(question);
        assert!(!person.echoes());
        person.types(answer);
    }
    let (exit, rest) = person.leaves();
    shown += &rest;
    assert_eq!((exit, shown.contains("forgets"), shown.contains("hors")), (Some(0), true, false), "{shown}");
    let (old, new) = (fake.file("old", b"old one\n"), fake.file("new", b"new one\r\n"));
    assert_eq!(fake.run(&format!("vault passphrase --new-passphrase-file {new}")).exit, Some(0));
    assert_eq!(fake.run("vault passphrase --remove").exit, Some(0));
    let asked = [json!({"new": SECRET}), json!({"new": "new one"}), json!({})];
    assert_eq!(fake.asked("vault.passphrase"), asked);

    let fake = with(&json!({"mode": "passphrase"}));
    let ran = fake.run(&format!("vault passphrase --passphrase-file {old} --new-passphrase-file {new}"));
    assert_eq!((ran.exit, ran.stdout.as_str()), (Some(0), "the vault is unlocked; its key is under a passphrase\n"));
    let mut person = fake.at_terminal("vault passphrase --remove");
    person.sees("Passphrase of the vault: ");
    person.types("old one");
    assert_eq!(person.leaves().0, Some(0));
    let asked = [json!({"current": "old one", "new": "new one"}), json!({"current": "old one"})];
    assert_eq!(fake.asked("vault.passphrase"), asked);
}
