//! The vault's key: lost, damaged, not private; rows that somebody changed. Never a new key where an old one was.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};

use kith_tests::host::Host;
use serde_json::{Value, json};

fn add(host: &Host, name: &str, value: &str) -> Result<Value, Value> {
    host.door().try_call("secrets.add", json!({"name": name, "type": "plain", "value": value}))
}

fn value(host: &Host, name: &str) -> Result<Value, Value> {
    host.door().try_call("secrets.view", json!({"name": name})).map(|mut view| view["value"].take())
}

#[test]
fn h81_a_key_that_is_not_safe_or_not_there_is_refused_and_never_replaced() {
    let mut host = Host::running("anna");
    add(&host, "a", "x").expect("the first secret makes the vault");
    host.stop();
    let (file, elsewhere) = (host.path("data/vault.key"), host.path("data/elsewhere"));
    let key = fs::read(&file).expect("a key");
    assert_eq!((key.len(), fs::metadata(&file).expect("a key").permissions().mode() & 0o7777), (32, 0o600));
    let put = |bytes: &[u8], mode| {
        let _ = fs::remove_file(&file);
        fs::write(&file, bytes).expect("the home is ours");
        fs::set_permissions(&file, fs::Permissions::from_mode(mode)).expect("the home is ours");
    };
    let mut other = key.clone();
    other[7] ^= 1;
    type Harm<'a> = (&'a str, &'a dyn Fn());
    let harms: [Harm<'_>; 7] = [
        ("gone", &|| fs::remove_file(&file).expect("the home is ours")),
        ("0644", &|| put(&key, 0o644)),
        ("0640", &|| put(&key, 0o640)),
        ("31 bytes", &|| put(&key[..31], 0o600)),
        ("33 bytes", &|| put(&[key.as_slice(), b"x"].concat(), 0o600)),
        ("another key", &|| put(&other, 0o600)),
        ("a symlink", &|| {
            put(&key, 0o600);
            fs::rename(&file, &elsewhere).expect("the home is ours");
            symlink(&elsewhere, &file).expect("the home is ours");
        }),
    ];
    for (what, harm) in harms {
        harm();
        let before = fs::read(&file).ok();
        host.start();
        let status = host.door().call("vault.status", json!({}));
        assert_eq!((&status["state"], &status["mode"]), (&json!("unusable"), &json!("file")), "{what}");
        assert_eq!(status["reason"]["code"], "vault_unusable", "{what}");
        assert!(status["reason"]["hint"].is_string(), "{what}");
        assert_eq!(value(&host, "a").expect_err(what)["data"]["code"], "vault_unusable", "{what}");
        assert_eq!(add(&host, "b", "y").expect_err(what)["data"]["code"], "vault_unusable", "{what}");
        let doctor = host.ctl(&["doctor"]).stdout;
        assert!(doctor.lines().any(|line| line.starts_with("FAILED") && line.contains("vault")), "{what}: {doctor}");
        assert_eq!(host.door().call("secrets.list", json!({}))["secrets"][0]["name"], "a", "the rest works");
        assert_eq!(fs::read(&file).ok(), before, "{what}: nothing was written there");
        // Put right, it works at once.
        put(&key, 0o600);
        assert_eq!(value(&host, "a").expect("the right key"), "x", "{what}");
        assert_eq!(host.door().call("vault.status", json!({}))["state"], "unlocked", "{what}");
        host.stop();
    }
}

#[test]
fn a_credential_of_the_service_manager_is_the_key_and_stays_it() {
    let mut host = Host::new("anna");
    let dir = host.path("credentials");
    fs::create_dir(&dir).expect("the home is ours");
    fs::write(dir.join("kith-vault-key"), [7; 32]).expect("the home is ours");
    host.set_env("CREDENTIALS_DIRECTORY", dir.to_str().expect("UTF-8"));
    host.start();
    add(&host, "a", "x").expect("a vault");
    assert_eq!(host.door().call("vault.status", json!({}))["mode"], "credential");
    assert!(!host.path("data/vault.key").exists());
    host.stop();
    fs::rename(dir.join("kith-vault-key"), dir.join("gone")).expect("the home is ours");
    host.start();
    assert_eq!(value(&host, "a").expect_err("no key")["data"]["code"], "vault_unusable");
    assert!(!host.path("data/vault.key").exists(), "no new key");
}
