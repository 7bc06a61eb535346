//! Secrets, one by one.

use std::fs::{metadata, read_to_string};
use std::os::unix::fs::MetadataExt as _;

use kith_proto::limits::SECRET_VALUE;
use serde_json::{Value, json};

use crate::fake::Fake;
use crate::fake::Say::{Error, Result};

/// An Ed25519 key of no use (RFC 8410 §10.3).
pub const PEM: &str = "-----BEGIN PRIVATE KEY-----\n\
    MC4CAQAwBQYDK2VwBCIEINTuctv5E1hK1bbY8fdp+K06/nwoy/HU++CXqI9EdVhC\n\
    -----END PRIVATE KEY-----\n";

pub fn secret(name: &str, kind: &str) -> Value {
    json!({"name": name, "type": kind, "created": "then", "updated": "now", "used_by": [], "newer": 1})
}

/// A daemon that says yes to everything, and whose secrets are `maps`, `bucket` and `key`.
fn willing() -> Fake {
    Fake::new(|method, params| {
        let mut used = secret("bucket", "s3-credentials");
        used["used_by"] = json!(["Photos", "Our videos"]);
        vec![Result(match method {
            "secrets.list" => json!({"secrets": [secret("Maps", "api-key"), used, secret("key", "encryption-key")]}),
            "secrets.view" => {
                let mut view = secret("key", "plain");
                view["value"] = json!("line one\n\u{1b}[2Jline two");
                view
            }
            "secrets.remove" => json!({}),
            "vault.status" => json!({"state": "absent", "secrets": 0, "databases": 0}),
            _ => secret(params["name"].as_str().unwrap(), params["type"].as_str().unwrap_or("plain")),
        })]
    })
}

#[test]
fn b14_secrets_in_a_table_without_their_values() {
    let fake = willing();
    let ran = fake.run("secrets");
    assert_eq!((ran.exit, ran.stderr.as_str()), (Some(0), ""));
    let wanted = "NAME    TYPE            CHANGED  USED BY\nMaps    api-key         now\n\
        bucket  s3-credentials  now      Photos 'Our videos'\nkey     encryption-key  now\n";
    assert_eq!(ran.stdout, wanted);
    assert_eq!(fake.run("secrets list --json").lines()[0]["secrets"][0], secret("Maps", "api-key"));
    let evil = Fake::new(|_, _| vec![Result(json!({"secrets": [secret("a\u{1b}]0;t\u{7}", "of-tomorrow")]}))]);
    assert!(evil.run("secrets list").stdout.contains("a\\u{1b}]0;t\\u{7}  unknown"));
}

#[test]
fn a_value_comes_from_a_file_or_from_standard_input() {
    let fake = willing();
    let s3 = r#"{"endpoint":"https://e","secretAccessKey":"SK","accessKeyId":"AK","region":"eu","label":"x"}"#;
    let kept = r#"{"region":"eu","accessKeyId":"AK","secretAccessKey":"SK","endpoint":"https://e"}"#;
    for (kind, value, sent) in [
        ("api-key", "K-1\n", "K-1"),
        ("plain", "two\nlines\n\n", "two\nlines\n"),
        ("plain", "crlf\r\n", "crlf"),
        ("plain", " bare", " bare"),
        ("encryption-key", PEM, PEM),
        ("s3-credentials", s3, kept),
    ] {
        let before = fake.asked("secrets.add").len();
        let line = format!("secrets add --name a --type {kind}");
        let path = fake.file("value", value.as_bytes());
        let ran = fake.run(&format!("{line} --file {path}"));
        assert_eq!((ran.exit, ran.stdout, ran.stderr.as_str()), (Some(0), format!("added a ({kind})\n"), ""));
        let ran = fake.run_fed(&format!("{line} --file - --json"), value.as_bytes());
        assert_eq!((ran.exit, ran.lines(), ran.stderr.as_str()), (Some(0), vec![secret("a", kind)], ""));
        assert_eq!(fake.run_fed(&line, value.as_bytes()).exit, Some(0));
        let asked = json!({"name": "a", "type": kind, "value": sent});
        assert_eq!(fake.asked("secrets.add")[before..], [asked.clone(), asked.clone(), asked]);
    }
    let ran = fake.run("secrets add --name a --type plain --value x\n");
    assert!(ran.exit == Some(0) && ran.stderr.contains("others on this machine may have seen"), "{ran:?}");
    assert_eq!(fake.asked("secrets.add").last().unwrap()["value"], "x\n");
}

#[test]
fn h79_what_is_no_value_is_named_and_not_repeated() {
    let fake = willing();
    let long = "x".repeat(SECRET_VALUE + 1);
    for (line, value, words) in [
        ("--name a --type api-key", "TOP SECRET", "value: an API key is one word"),
        ("--name a --type encryption-key", "TOPSECRET", "value: is no private key in PEM"),
        ("--name a --type s3-credentials", r#"{"region":"TOPSECRET"}"#, "accessKeyId: is missing"),
        ("--name a --type plain", "\n", "value: is empty"),
        ("--name a --type plain", &long, "value: is longer than 64 KiB"),
        ("--name  --type plain", "TOPSECRET", "name: is empty"),
        ("--type plain", "TOPSECRET", "--name"),
        ("--name a", "TOPSECRET", "--type"),
    ] {
        let ran = fake.run_fed(&format!("secrets add {line} --json"), value.as_bytes());
        assert_eq!((ran.exit, ran.stdout.as_str()), (Some(2), ""), "{line}: {ran:?}");
        assert!(ran.stderr.contains(words) && !ran.stderr.contains("SECRET"), "{ran:?}");
    }
    let ran = fake.run_fed("secrets add --name a --type plain --json", b"\xff\xfe");
    assert_eq!((ran.exit, ran.error_code().as_str()), (Some(1), "input"));
    let ran = fake.run("secrets add --name a --type plain --file /nonexistent/file --json");
    assert_eq!((ran.exit, ran.error_code().as_str()), (Some(1), "input"));
    assert!(fake.asked("secrets.add").is_empty());
}

#[test]
fn h79_a_value_is_typed_where_nobody_sees_it() {
    let fake = willing();
    let mut person = fake.at_terminal("secrets add");
    for (question, answer) in [
        ("Name: ", ""),
        ("name: is empty\r\nName: ", "MAPS"),
        ("there is another secret called Maps\r\nName: ", "b"),
        ("4  plain\r\nType: ", "5"),
        ("one of 1 to 4\r\nType: ", "s3-credentials"),
        ("Region: ", "eu"),
        ("Access key id: ", "AK"),
    ] {
        person.sees(question);
        assert!(person.echoes());
        person.types(answer);
    }
    person.sees("Secret access key (not shown): ");
    assert!(!person.echoes());
    person.types("");
    person.sees("Endpoint (Enter for Amazon's): ");
    person.types("");
    person.sees("secretAccessKey: is empty\r\nRegion: ");
    for (answer, question) in [
        ("eu", "Access key id: "),
        ("AK", "Secret access key (not shown): "),
        ("TOPSECRET", "Endpoint (Enter for Amazon's): "),
    ] {
        person.types(answer);
        person.sees(question);
    }
    person.types("");
    let (exit, shown) = person.leaves();
    assert_eq!((exit, shown.contains("TOPSECRET")), (Some(0), false), "{shown}");

    let mut person = fake.at_terminal("secrets add --name c --type api-key");
    person.sees("Value (not shown): ");
    assert!(!person.echoes());
    if cfg!(target_os = "linux") {
        keeps_its_memory(person.pid());
    }
    // A terminal cuts a line so long; half a value is worse than none.
    person.types(&"x".repeat(5000));
    person.sees("no more than 4094 bytes can be typed\r\nValue (not shown): ");
    person.types("K");
    assert_eq!(person.leaves().0, Some(0));

    let key = fake.file("key.pem", PEM.as_bytes());
    let mut person = fake.at_terminal("secrets add --name d --type encryption-key");
    person.sees("PEM file with the key: ");
    person.types("/nowhere");
    person.sees("cannot read /nowhere");
    person.sees("PEM file with the key: ");
    person.types(&key);
    assert_eq!(person.leaves().0, Some(0));
    let s3 = r#"{"region":"eu","accessKeyId":"AK","secretAccessKey":"TOPSECRET"}"#;
    let asked = [("b", "s3-credentials", s3), ("c", "api-key", "K"), ("d", "encryption-key", PEM)];
    let asked = asked.map(|(name, kind, value)| json!({"name": name, "type": kind, "value": value}));
    assert_eq!(fake.asked("secrets.add"), asked);
    // What is asked for under --json is an error.
    let (exit, shown) = fake.at_terminal("secrets add --name a --type plain --json").leaves();
    assert!(exit == Some(2) && shown.contains("--file"), "{shown}");
}

/// Nobody else of this user looks into it, and no crash dump shows it.
fn keeps_its_memory(pid: u32) {
    let limits = read_to_string(format!("/proc/{pid}/limits")).unwrap();
    let core = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
    assert_eq!(core.split_whitespace().nth(4), Some("0"), "{core}");
    // A process that may be looked into belongs to its user here.
    assert_eq!(metadata(format!("/proc/{pid}/mem")).unwrap().uid(), 0);
}

#[test]
fn h79_a_value_is_shown_to_whoever_says_so() {
    let fake = willing();
    for line in ["secrets view key", "secrets view key --json"] {
        let ran = fake.run(line);
        assert_eq!((ran.exit, ran.stdout.as_str(), ran.stderr.contains("--yes")), (Some(2), "", true), "{ran:?}");
    }
    for answer in ["n", ""] {
        let mut person = fake.at_terminal("secrets view key");
        person.sees("Show it here? [y/N] ");
        person.types(answer);
        let (exit, shown) = person.leaves();
        assert_eq!((exit, shown.contains("line one")), (Some(1), false), "{shown}");
    }
    assert!(fake.asked("secrets.view").is_empty());

    let mut person = fake.at_terminal("secrets view key");
    person.sees("Show it here? [y/N] ");
    person.types("y");
    person.sees("line one\r\n\\u{1b}[2Jline two\r\n");
    assert_eq!(person.leaves().0, Some(0));
    let ran = fake.run("secrets view key --yes");
    assert_eq!((ran.exit, ran.stdout.as_str()), (Some(0), "line one\n\u{1b}[2Jline two"));
    let ran = fake.run("secrets view key --yes --json");
    assert!(!ran.stdout.contains('\u{1b}'), "{ran:?}");
    let shown = &ran.lines()[0];
    assert_eq!((&shown["name"], &shown["type"]), (&json!("key"), &json!("plain")));
    assert_eq!(shown["value"], "line one\n\u{1b}[2Jline two");
    assert_eq!(fake.asked("secrets.view"), vec![json!({"name": "key"}); 3]);
}

#[test]
fn nobody_types_a_value_that_cannot_be_kept() {
    let reason =
        json!({"rpc": 1003, "code": "vault_unusable", "message": "vault.key is gone", "hint": "bring it back"});
    for (state, reason, words) in [
        ("locked", Value::Null, "kithctl: the vault is locked\r\n  kithctl vault unlock"),
        ("unusable", reason, "kithctl: vault.key is gone\r\n  bring it back"),
    ] {
        let vault = json!({"state": state, "mode": "file", "secrets": 1, "databases": 0, "reason": reason});
        let fake = Fake::new(move |_, _| vec![Result(vault.clone())]);
        for line in ["secrets add", "secrets add --name a --type plain"] {
            let (exit, shown) = fake.at_terminal(line).leaves();
            assert_eq!((exit, shown.trim()), (Some(6), words), "{line}");
        }
        assert!(fake.asked("secrets.add").is_empty());
    }
}

#[test]
fn only_what_is_named_changes() {
    let fake = willing();
    let path = fake.file("value", b"K-2\n");
    for (line, asked) in [
        ("maps --rename b", json!({"name": "maps", "rename": "b"})),
        ("maps --type plain", json!({"name": "maps", "type": "plain"})),
        // Its type is the one that it has.
        (&format!("maps --file {path}"), json!({"name": "maps", "value": "K-2"})),
        ("maps --file -", json!({"name": "maps", "value": "K-3"})),
        (&format!("maps --type plain --file {path}"), json!({"name": "maps", "type": "plain", "value": "K-2"})),
        ("maps --value K-4", json!({"name": "maps", "value": "K-4"})),
    ] {
        let ran = fake.run_fed(&format!("secrets edit {line}"), b"K-3\n");
        assert_eq!((ran.exit, ran.stderr.contains("may have seen")), (Some(0), line.contains("--value")), "{ran:?}");
        assert_eq!(fake.asked("secrets.edit").last(), Some(&asked), "{line}");
    }
    let before = fake.asked("secrets.edit").len();
    for (line, exit, code) in [
        ("maps", 2, "usage"),
        ("none --value x", 5, "secret_not_found"),
        ("key --value TOPSECRET", 2, "invalid_param"),
        ("maps --rename ", 2, "invalid_param"),
    ] {
        let ran = fake.run(&format!("secrets edit {line} --json"));
        assert_eq!((ran.exit, ran.error_code().as_str()), (Some(exit), code), "{line}");
        assert!(!ran.stderr.contains("TOPSECRET"), "{ran:?}");
    }

    let mut person = fake.at_terminal("secrets edit maps");
    for (question, answer) in
        [("Name [Maps]: ", ""), ("Type [3]: ", ""), ("Another value? [y/N] ", "y"), ("Value (not shown): ", "K-5")]
    {
        person.sees(question);
        person.types(answer);
    }
    assert_eq!(person.leaves().0, Some(0));
    let mut person = fake.at_terminal("secrets edit maps");
    for question in ["Name [Maps]: ", "Type [3]: ", "Another value? [y/N] "] {
        person.sees(question);
        person.types("");
    }
    person.sees("nothing was changed");
    assert_eq!(person.leaves().0, Some(0));
    assert_eq!(fake.asked("secrets.edit")[before..], [json!({"name": "maps", "value": "K-5"})]);
}

#[test]
fn removing_asks_once_more_where_a_database_needs_it() {
    let in_use = || {
        Fake::new(|_, params| match params["force"].as_bool() {
            Some(true) => vec![Result(json!({}))],
            _ => vec![Error(1003, "secret_in_use")],
        })
    };
    for (answers, exit, asked) in
        [(&["n"][..], 1, &[][..]), (&["y", "n"], 1, &[false]), (&["y", "y"], 0, &[false, true])]
    {
        let fake = in_use();
        let mut person = fake.at_terminal("secrets remove bucket");
        for (answer, question) in answers.iter().zip(["Nobody can bring it back. [y/N] ", "Delete it all the same? "]) {
            person.sees(question);
            person.types(answer);
        }
        let (ended, shown) = person.leaves();
        let sent: Vec<Value> = asked.iter().map(|force| json!({"name": "bucket", "force": force})).collect();
        assert_eq!((ended, fake.asked("secrets.remove")), (Some(exit), sent), "{answers:?}: {shown}");
    }
    let fake = in_use();
    let ran = fake.run("secrets remove bucket --yes --json");
    assert_eq!((ran.exit, ran.error_code().as_str()), (Some(6), "secret_in_use"));
    assert!(ran.stderr.contains("--force"), "{ran:?}");
    let ran = fake.run("secrets remove bucket --force");
    assert_eq!((ran.exit, ran.stdout.as_str()), (Some(0), "removed bucket\n"));
    assert_eq!(willing().run("secrets remove bucket --json").lines(), [json!({})]);
}

#[test]
fn the_daemons_errors_are_the_exit_codes() {
    for (rpc, code, exit) in
        [(1002, "secret_not_found", 5), (1003, "vault_locked", 6), (1003, "name_taken", 6), (1001, "access_denied", 4)]
    {
        let fake = Fake::new(move |_, _| vec![Error(rpc, code)]);
        for line in [
            "secrets",
            "secrets add --name a --type plain --value x",
            "secrets view a --yes",
            "secrets edit a --rename b",
            "secrets remove a",
            "vault lock",
            "vault unlock",
            "dbs",
            "dbs add --name a --path /a",
            "dbs view a",
            "dbs edit a --path /b",
            "dbs remove a",
        ] {
            let ran = fake.run(&format!("{line} --json"));
            assert_eq!((ran.exit, ran.error_code().as_str(), ran.stdout.as_str()), (Some(exit), code, ""), "{line}");
        }
    }
}
