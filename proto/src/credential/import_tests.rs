use serde_json::json;

use super::super::tests::PEM;
use super::*;

/// Name, type and value of each.
fn shown(found: Result<Vec<NamedSecret>, Invalid>) -> Vec<(String, SecretType, String)> {
    let one = |secret: NamedSecret| (secret.name, secret.kind, secret.value.expose().to_owned());
    found.unwrap().into_iter().map(one).collect()
}

fn row(name: &str, kind: SecretType, value: &str) -> (String, SecretType, String) {
    (name.to_owned(), kind, value.to_owned())
}

const S3_FORM: &str = r#"{"region":"eu","accessKeyId":"AK","secretAccessKey":"SK"}"#;

#[test]
fn photospheres_vault() {
    let s3 = json!({ "label": "Bucket", "region": "eu", "accessKeyId": "AK", "secretAccessKey": "SK" }).to_string();
    let key = json!({ "label": "k", "privateKeyPem": PEM, "publicKeyPem": "" }).to_string();
    let file = json!({
        "bucket": { "name": "bucket", "type": "s3-credentials", "value": s3 },
        "key": { "name": "key", "type": "encryption-key", "value": key },
        "key now": { "name": "key now", "type": "encryption-key", "value": PEM },
        "maps": { "name": "another", "type": "api-key", "value": "{\"label\":\"x\",\"apiKey\":\"GK\"}" },
        "maps now": { "type": "api-key", "value": "GK", "newer": [1] },
        "type": { "type": "password", "value": "p w\n" },
    });
    let wanted = [
        row("bucket", SecretType::S3Credentials, S3_FORM),
        row("key", SecretType::EncryptionKey, PEM),
        row("key now", SecretType::EncryptionKey, PEM),
        row("maps", SecretType::ApiKey, "GK"),
        row("maps now", SecretType::ApiKey, "GK"),
        row("type", SecretType::Plain, "p w\n"),
    ];
    assert_eq!(shown(json(file.to_string().as_bytes(), Some("not used"))), wanted);
    let pretty = format!("\u{feff}{}", serde_json::to_string_pretty(&file).unwrap().replace('\n', "\r\n"));
    assert_eq!(shown(json(pretty.as_bytes(), None)), wanted);
    assert_eq!(shown(json(b"{}", None)), []);
}

#[test]
fn one_secret_or_several() {
    let one = json!({ "name": "a", "type": "plain", "value": "x" });
    assert_eq!(shown(json(one.to_string().as_bytes(), Some("file"))), [row("a", SecretType::Plain, "x")]);
    let nameless = json!({ "type": "api-key", "value": { "apiKey": "K" } }).to_string();
    assert_eq!(shown(json(nameless.as_bytes(), Some("file"))), [row("file", SecretType::ApiKey, "K")]);
    assert_eq!(json(nameless.as_bytes(), None).unwrap_err().to_string(), "name: is missing");

    let two = json!([one, { "name": "b", "type": "s3-credentials", "value": serde_json::from_str::<Value>(S3_FORM).unwrap() }]);
    let wanted = [row("a", SecretType::Plain, "x"), row("b", SecretType::S3Credentials, S3_FORM)];
    assert_eq!(shown(json(two.to_string().as_bytes(), None)), wanted);

    assert_eq!(shown(json(S3_FORM.as_bytes(), Some("s3"))), [row("s3", SecretType::S3Credentials, S3_FORM)]);
    assert_eq!(json(S3_FORM.as_bytes(), None).unwrap_err().to_string(), "name: is missing");
}

#[test]
fn a_file_that_is_the_value() {
    let of = |file: &str, kind| shown(secret(file.as_bytes(), "a", kind).map(|secret| vec![secret])).remove(0).2;
    assert_eq!(of(PEM, SecretType::EncryptionKey), PEM);
    let wrapped = PEM.replace('\n', "\r\n");
    assert_eq!(of(&format!("\u{feff}{wrapped}"), SecretType::EncryptionKey), wrapped);
    assert_eq!(of("{\"apiKey\":\"K\"}", SecretType::ApiKey), "K");
    assert_eq!(of("K\n", SecretType::ApiKey), "K");
    assert_eq!(of("{\"apiKey\":\"K\"}", SecretType::Plain), "{\"apiKey\":\"K\"}");
    assert_eq!(of(S3_FORM, SecretType::S3Credentials), S3_FORM);
    let error = secret(b"TOPSECRET", "a", SecretType::EncryptionKey).unwrap_err().to_string();
    assert!(error.starts_with("value: is no private key") && !error.contains("TOP"), "{error}");
    assert_eq!(secret(b"x", "", SecretType::Plain).unwrap_err().to_string(), "name: is empty");
}

#[test]
fn what_is_wrong_with_a_secret_is_named_and_never_repeated() {
    let error = |file: &[u8]| {
        let error = json(file, Some("file")).unwrap_err().to_string();
        assert!(!error.contains("TOPSECRET"), "{error}");
        error
    };
    let types = "is none of s3-credentials, encryption-key, api-key and plain";
    for (file, wanted) in [
        (json!({ "a": { "type": "ssh", "value": "TOPSECRET" } }), format!("a.type: {types}")),
        (json!({ "a": { "type": "TOPSECRET", "value": "x" } }), format!("a.type: {types}")),
        (json!({ "a": { "type": "unknown", "value": "x" } }), format!("a.type: {types}")),
        (json!({ "a": { "type": "plain" } }), "a.value: is missing".into()),
        (json!({ "a": { "type": "plain", "value": ["TOPSECRET"] } }), "a.value: is no text".into()),
        (json!({ "a": { "type": "plain", "value": { "b": "TOPSECRET" } } }), "a.value: is no text".into()),
        (json!({ "a": { "value": "TOPSECRET" } }), "a.type: is missing".into()),
        (json!({ "a": "TOPSECRET" }), "a: is no object".into()),
        (json!({ "": { "type": "plain", "value": "x" } }), ".name: is empty".into()),
        (
            json!({ "a\u{1b}": { "type": "plain", "value": "x" } }),
            "a\\u{1b}.name: has control or invisible characters".into(),
        ),
        (
            json!({ "a": { "type": "s3-credentials", "value": "{\"region\":\"TOPSECRET\"}" } }),
            "a.accessKeyId: is missing".into(),
        ),
        (
            json!({ "a": { "type": "encryption-key", "value": "{\"key\":\"TOPSECRET\"}" } }),
            "a.privateKeyPem: is missing".into(),
        ),
        (json!({ "a": { "type": "api-key", "value": "TOP SECRET" } }), "a.value: an API key is one word".into()),
        (json!([{ "type": "plain", "value": "TOPSECRET" }]), "[0].name: is missing".into()),
        (json!([{ "name": 7, "type": "plain", "value": "TOPSECRET" }]), "[0].name: is no text".into()),
        (json!([{ "name": "b", "type": "plain", "value": "" }]), "b.value: is empty".into()),
        (json!(["TOPSECRET"]), "[0]: is no object".into()),
        (json!("TOPSECRET"), "file: is neither a JSON object nor a list".into()),
        (
            json!({ "type": "plain", "value": "x".repeat(limits::SECRET_VALUE + 1) }),
            "value: is longer than 64 KiB".into(),
        ),
        (json!({ "accessKeyId": "TOPSECRET", "region": "x" }), "secretAccessKey: is missing".into()),
        (json!(vec![0; limits::CREDENTIALS + 1]), "file: has more than 10,000 entries".into()),
    ] {
        assert_eq!(error(file.to_string().as_bytes()), wanted);
    }
    assert_eq!(error(b"TOPSECRET"), "file: is no JSON");
    assert_eq!(error(b"\xff"), "file: is no text (UTF-8)");
    assert_eq!(error(&vec![b'['; limits::CREDENTIAL_FILE]), "file: is no JSON");
    assert_eq!(error(&vec![b' '; limits::CREDENTIAL_FILE + 1]), "file: is longer than 4 MiB");
}

#[test]
fn photospheres_databases() {
    let file = r#"
recent_database_names = [ "Photos" ]

[[databases]]
name = "Photos"
description = "Every photo\t"
path = "s3:bucket/photos"
s3_key = "bucket"
encryption_key = "key"
geocoding_key = "maps"

[[databases]]
name = "Größe"
path = 'C:\photos'
origin = "s3:bucket/photos"
s3Key = "bucket"
encryptionKey = ""
newer = 2026-01-01T00:00:00Z
"#;
    let file = file.replace("\\t", "");
    let database = |name: &str, description: &str, path: &str, origin: Option<&str>, secrets: &[(Slot, &str)]| {
        let text = str::to_owned;
        let (name, description, path, origin) = (text(name), text(description), text(path), origin.map(text));
        let secrets = secrets.iter().map(|(slot, name)| (*slot, text(name))).collect();
        NamedDatabase { fields: DatabaseFields { name, description, path, origin }, secrets }
    };
    let all = [(Slot::S3, "bucket"), (Slot::Encryption, "key"), (Slot::Geocoding, "maps")];
    let wanted = [
        database("Photos", "Every photo", "s3:bucket/photos", None, &all),
        database("Größe", "", "C:\\photos", Some("s3:bucket/photos"), &all[..1]),
    ];
    assert_eq!(databases(file.as_bytes()).unwrap(), wanted);
    let crlf = format!("\u{feff}{}", file.replace('\n', "\r\n"));
    assert_eq!(databases(crlf.as_bytes()).unwrap(), wanted);
    assert_eq!(wanted.iter().filter_map(|it| it.secret(Slot::Geocoding)).collect::<Vec<_>>(), ["maps"]);
    for none in ["recent_database_names = []\n", "last_database = '/a'", "databases = []"] {
        assert_eq!(databases(none.as_bytes()).unwrap(), [], "{none}");
    }
}

#[test]
fn what_is_wrong_with_a_database_is_named() {
    for (file, wanted) in [
        ("databases = 7", "databases: is no list of tables"),
        ("databases = [7]", "databases[0]: is no table"),
        ("name = 'a'", "databases: is missing"),
        ("", "databases: is missing"),
        ("[[databases", "file: is no TOML"),
        ("[[databases]]\npath = '/a'", "databases[0].name: is missing"),
        ("[[databases]]\nname = 'a'", "a.path: is missing"),
        ("[[databases]]\nname = 'a'\npath = ' '", "a.path: is empty"),
        ("[[databases]]\nname = 7", "databases[0].name: is no text"),
        ("[[databases]]\nname = \"a\\u001b\"\npath = '/a'", "databases[0].name: has control or invisible characters"),
        ("[[databases]]\nname = 'a'\npath = '/a'\ndescription = []", "a.description: is no text"),
        ("[[databases]]\nname = 'a'\npath = '/a'\ns3_key = true", "a.s3_key: is no text"),
        ("[[databases]]\nname = 'a'\npath = '/a'\ngeocodingKey = ' x'", "a.geocoding_key: begins or ends with a space"),
    ] {
        assert_eq!(databases(file.as_bytes()).unwrap_err().to_string(), wanted, "{file}");
    }
    let deep = format!("a = {}", "[".repeat(100_000));
    assert_eq!(databases(deep.as_bytes()).unwrap_err().to_string(), "file: is no TOML");
}

#[test]
fn file_names_hold_any_name() {
    for (stem, name) in [
        ("prod", "prod"),
        ("org%2Frepo%3Atoken", "org/repo:token"),
        ("gr%c3%B6%C3%9Fe", "größe"),
        ("100%", "100%"),
        ("%2", "%2"),
        ("%zz", "%zz"),
        ("%ff", "%ff"),
        ("%25", "%"),
    ] {
        assert_eq!(name_of(stem), name, "{stem}");
    }
}
