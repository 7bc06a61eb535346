//! Secrets and databases from files.

use std::fs::create_dir;

use kith_proto::limits::CREDENTIAL_FILE;
use serde_json::{Value, json};

use crate::fake::Fake;
use crate::fake::Say::{Error, Result};
use crate::secrets::PEM;

const S3: &str = r#"{"region":"eu","accessKeyId":"AK","secretAccessKey":"TOPSECRET"}"#;
const DATABASES: &str = "recent_database_names = [ \"Photos\" ]\r\n\r\n[[databases]]\r\nname = \"Photos\"\r\n\
    description = \"\"\r\npath = \"s3:b/p\"\r\ns3_key = \"bucket\"\r\nencryption_key = \"key\"\r\n";

/// A daemon that saves whatever comes.
fn willing() -> Fake {
    Fake::new(|_, params| {
        let saved = |list: &Value| -> Vec<Value> {
            let rows = list.as_array().unwrap().iter();
            rows.map(|it| json!({"name": it["name"], "type": it["type"], "action": "saved"})).collect()
        };
        vec![Result(json!({"secrets": saved(&params["secrets"]), "databases": saved(&params["databases"])}))]
    })
}

fn vault() -> String {
    let bucket = json!({"name": "bucket", "type": "s3-credentials", "value": S3});
    let key = json!({"name": "key", "type": "encryption-key", "value": json!({"privateKeyPem": PEM}).to_string()});
    format!("\u{feff}{}", json!({"bucket": bucket, "key": key}))
}

fn given(name: &str, kind: &str, value: &str) -> Value {
    json!({"name": name, "type": kind, "value": value})
}

#[test]
fn everything_goes_in_one_request() {
    let fake = willing();
    let (vault, databases) =
        (fake.file("vault.json", vault().as_bytes()), fake.file("databases.toml", DATABASES.as_bytes()));
    let ran = fake.run(&format!("secrets import {databases} {vault} --on-conflict rename"));
    let wanted = "NAME    TYPE            \nbucket  s3-credentials  saved\nkey     encryption-key  saved\nPhotos  database        saved\n";
    assert_eq!((ran.exit, ran.stdout), (Some(0), wanted.replace("TYPE            \n", "TYPE\n")));
    assert!(
        ran.stderr.starts_with("FOUND   TYPE\nbucket  s3-credentials\nkey     encryption-key\nPhotos  database\n"),
        "{}",
        ran.stderr
    );
    assert!(!ran.stderr.contains("SECRET"), "{}", ran.stderr);
    let asked = json!({
        "secrets": [given("bucket", "s3-credentials", S3), given("key", "encryption-key", PEM)],
        "databases": [{"name": "Photos", "description": "", "path": "s3:b/p", "s3": "bucket", "encryption": "key"}],
        "on_conflict": "rename",
    });
    assert_eq!(fake.asked("secrets.import"), [asked]);
    let ran = fake.run(&format!("secrets import {vault} --json"));
    assert_eq!(
        (ran.exit, ran.lines()[0]["secrets"][0]["action"].as_str(), ran.stderr.as_str()),
        (Some(0), Some("saved"), "")
    );
    assert_eq!(fake.asked("secrets.import")[1]["on_conflict"], "fail");
}

#[test]
fn a_file_says_what_it_is() {
    let fake = willing();
    let old = fake.home.path().join("old");
    create_dir(&old).unwrap();
    create_dir(old.join("deeper.json")).unwrap();
    fake.file("old/org%2Frepo.json", json!({"type": "password", "value": "p w"}).to_string().as_bytes());
    fake.file(
        "old/key.json",
        json!({"name": "key", "type": "api-key", "value": "{\"apiKey\":\"K\"}"}).to_string().as_bytes(),
    );
    fake.file("old/notes.txt", b"not read");
    for (name, content, flags, asked) in [
        ("photos.pem", PEM, "", vec![given("photos", "encryption-key", PEM)]),
        ("photos", PEM, "--name a", vec![given("a", "encryption-key", PEM)]),
        ("s3.txt", S3, "", vec![given("s3", "s3-credentials", S3)]),
        ("maps.txt", "K\n", "--type api-key", vec![given("maps", "api-key", "K")]),
        ("one.json", r#"{"name":"a","type":"plain","value":"x"}"#, "--name b", vec![given("b", "plain", "x")]),
        ("list.json", r#"[{"name":"a","type":"plain","value":"x"}]"#, "", vec![given("a", "plain", "x")]),
        ("old", "", "", vec![given("key", "api-key", "K"), given("org/repo", "plain", "p w")]),
    ] {
        let path = if name == "old" { old.to_str().unwrap().to_owned() } else { fake.file(name, content.as_bytes()) };
        let ran = fake.run(format!("secrets import {path} {flags}").trim());
        assert_eq!(ran.exit, Some(0), "{name}: {ran:?}");
        assert_eq!(fake.asked("secrets.import").last().unwrap()["secrets"], json!(asked), "{name}");
    }
}

#[test]
fn h79_what_cannot_be_taken_over_is_named_and_not_repeated() {
    let fake = willing();
    let long = " ".repeat(CREDENTIAL_FILE + 1);
    let value = "TOPSECRET ".repeat(6000);
    let many: Vec<Value> = (0..20).map(|n| given(&format!("s{n}"), "plain", &value)).collect();
    let escaped: Vec<Value> = (0..12).map(|n| given(&format!("s{n}"), "plain", &"\n".repeat(60_000))).collect();
    for (name, content, flags, exit, words) in [
        ("a.json", r#"{"a":{"type":"ssh","value":"TOPSECRET"}}"#, "", 2, "a.json: a.type: is none of s3-credentials"),
        ("a.json", r#"{"type":"plain","value":7}"#, "", 2, "a.json: value: is no text"),
        ("a.json", "TOPSECRET", "", 2, "a.json: file: is no JSON"),
        ("a.json", &long, "", 2, "a.json: file: is longer than 4 MiB"),
        (" .pem", PEM, "", 2, "choose one with --name"),
        ("a.pem", &PEM.replace("MC4", "!!!"), "", 2, "a.pem: value: the key is no base64"),
        ("a.toml", "[[databases]]\nname = 'x'", "", 2, "a.toml: x.path: is missing"),
        ("a.bin", "TOPSECRET", "", 1, "a.bin is neither PEM nor JSON nor TOML"),
        ("a.json", "[]", "", 1, "nothing in these files"),
        (
            "a.json",
            r#"[{"name":"a","type":"plain","value":"x"},{"name":"b","type":"plain","value":"x"}]"#,
            "--name c",
            2,
            "--name is for one secret, and here are 2",
        ),
        ("a.json", &json!(many).to_string(), "", 1, "more than the 1 MiB"),
        ("a.json", &json!(escaped).to_string(), "", 1, "more than the 1 MiB"),
    ] {
        let path = fake.file(name, content.as_bytes());
        let mut command = fake.command("secrets import --json");
        command.arg(path).args(flags.split_whitespace());
        let ran = crate::fake::Ran::from(command.output().unwrap());
        assert_eq!((ran.exit, ran.stdout.as_str()), (Some(exit), ""), "{words}: {ran:?}");
        assert!(ran.stderr.contains(words) && !ran.stderr.contains("TOPSECRET"), "{words}: {ran:?}");
    }
    assert_eq!(fake.run("secrets import /nonexistent/file --json").error_code(), "input");
    assert!(fake.asked("secrets.import").is_empty());
}

#[test]
fn somebody_at_a_terminal_is_asked_first() {
    for (answer, exit, imports) in [("n", 1, 0), ("", 0, 1)] {
        let fake = willing();
        let key = fake.file("key.pem", PEM.as_bytes());
        let mut person = fake.at_terminal(&format!("secrets import {key}"));
        let shown = person.sees("Take this over? [Y/n] ");
        assert!(shown.contains("key    encryption-key") && !shown.contains("MC4"), "{shown}");
        person.types(answer);
        let (ended, shown) = person.leaves();
        assert_eq!((ended, fake.asked("secrets.import").len()), (Some(exit), imports), "{shown}");
        assert_eq!(fake.at_terminal(&format!("secrets import {key} --yes")).leaves().0, Some(0));
    }
}

#[test]
fn what_stands_in_the_way_comes_with_the_next_step() {
    for (rpc, code, exit, words) in [
        (1003, "name_taken", 6, "--on-conflict reuse, replace or rename"),
        (1002, "secret_not_found", 5, "name the file with the secrets"),
        (1003, "vault_locked", 6, "do"),
    ] {
        let fake = Fake::new(move |_, _| vec![Error(rpc, code)]);
        let databases = fake.file("databases.toml", DATABASES.as_bytes());
        let ran = fake.run(&format!("secrets import {databases} --json"));
        assert_eq!((ran.exit, ran.error_code().as_str()), (Some(exit), code));
        assert!(ran.stderr.contains(words), "{ran:?}");
    }
}
