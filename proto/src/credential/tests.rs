use serde_json::{Value, json};

use super::payload::Payload;
use super::*;

/// An Ed25519 key of no use (RFC 8410 §10.3).
pub(super) const PEM: &str = "-----BEGIN PRIVATE KEY-----\n\
    MC4CAQAwBQYDK2VwBCIEINTuctv5E1hK1bbY8fdp+K06/nwoy/HU++CXqI9EdVhC\n\
    -----END PRIVATE KEY-----\n";

fn value(kind: SecretType, text: &str) -> Result<String, String> {
    let value = canonical(kind, SecretText::new(text.to_owned()));
    value.map(|value| value.expose().to_owned()).map_err(|invalid| invalid.to_string())
}

#[test]
fn every_type_takes_what_it_should() {
    use SecretType::{ApiKey, EncryptionKey, Plain, S3Credentials, Unknown};
    let s3 = r#"{"region":"eu","accessKeyId":"AK","secretAccessKey":"s\/e\"c"}"#;
    let wrapped = PEM.replace('\n', "\r\n");
    for (kind, text, kept) in [
        (ApiKey, "abc-123", "abc-123"),
        (ApiKey, " abc\n", "abc"),
        (Plain, "any\ttext\nof lines\n", "any\ttext\nof lines\n"),
        (EncryptionKey, PEM, PEM),
        (EncryptionKey, &wrapped, &wrapped),
        (S3Credentials, s3, r#"{"region":"eu","accessKeyId":"AK","secretAccessKey":"s/e\"c"}"#),
        (
            S3Credentials,
            r#" {"endpoint":"https://s3.example","label":"x", "secretAccessKey":"s","accessKeyId":"a","region":"r"}"#,
            r#"{"region":"r","accessKeyId":"a","secretAccessKey":"s","endpoint":"https://s3.example"}"#,
        ),
    ] {
        assert_eq!(value(kind, text).as_deref(), Ok(kept), "{kind}");
    }
    for (kind, text, why) in [
        (ApiKey, "", "value: is empty"),
        (ApiKey, "two words", "value: an API key is one word"),
        (Plain, "", "value: is empty"),
        (Plain, "a\x1b[2J", "value: has control characters"),
        (S3Credentials, "[]", "value: is no JSON object"),
        (S3Credentials, "{", "value: is no JSON object"),
        (S3Credentials, r#"{"region":"r","accessKeyId":"a"}"#, "secretAccessKey: is missing"),
        (S3Credentials, r#"{"region":7}"#, "region: is no text"),
        (S3Credentials, r#"{"region":"a b"}"#, "region: has spaces, control or invisible characters"),
        (S3Credentials, r#"{"region":""}"#, "region: is empty"),
        (EncryptionKey, "secret", "value: is no private key in PEM (BEGIN PRIVATE KEY … END PRIVATE KEY)"),
        (EncryptionKey, &PEM.replace("MC4C", "MC4B"), "value: the key is no PKCS#8 private key"),
        (EncryptionKey, &PEM.replace("MC4C", "!!!!"), "value: the key is no base64"),
        (Unknown, "x", "type: is none of s3-credentials, encryption-key, api-key and plain"),
    ] {
        assert_eq!(value(kind, text), Err(why.to_owned()), "{kind}");
    }
    let long = "x".repeat(limits::SECRET_VALUE + 1);
    assert_eq!(value(Plain, &long), Err("value: is longer than 64 KiB".to_owned()));
    for (label, says) in [("ENCRYPTED PRIVATE KEY", "is encrypted"), ("RSA PRIVATE KEY", "is not PKCS#8")] {
        let error = value(EncryptionKey, &PEM.replace("PRIVATE KEY", label)).unwrap_err();
        assert!(error.contains(says), "{error}");
    }
}

#[test]
fn the_same_key_may_be_wrapped_in_another_way() {
    let text = |text: &str| SecretText::new(text.to_owned());
    assert!(same(SecretType::EncryptionKey, &text(PEM), &text(&PEM.replace('\n', "\r\n"))));
    assert!(!same(SecretType::EncryptionKey, &text(PEM), &text(&PEM.replace("MC4C", "MC4B"))));
    assert!(!same(SecretType::Plain, &text("a"), &text("a\n")));
}

#[test]
fn names_are_one_line_without_tricks() {
    for name in ["prod", "My S3 (prod)", "größe", "org/repo:token", &"x".repeat(128)] {
        assert_eq!(check_name("name", name), Ok(()), "{name:?}");
    }
    for name in ["", " a", "a ", "a\nb", "a\u{202e}b", "\u{200b}", &"x".repeat(129)] {
        assert!(check_name("name", name).is_err(), "{name:?}");
    }
}

fn database() -> Value {
    json!({
        "type": "database", "name": "Photos", "description": "ours", "path": "s3:bucket/photos", "origin": "home",
        "s3Credentials": {
            "name": "s3", "region": "eu", "accessKeyId": "AK", "secretAccessKey": "SK", "endpoint": "https://e",
        },
        "encryptionKey": { "name": "key", "privateKeyPem": PEM, "publicKeyPem": "" },
        "geocodingKey": { "name": "geo", "apiKey": "GK" },
    })
}

#[test]
fn a_payload_comes_back_as_it_went() {
    let mut expected = database();
    let payload = Payload::from_value(database()).unwrap();
    assert_eq!(payload.name(), "Photos");
    assert_eq!(payload.secrets().count(), 3);
    expected["encryptionKey"].as_object_mut().unwrap().remove("publicKeyPem");
    assert_eq!(serde_json::from_slice::<Value>(&payload.encode()).unwrap(), expected);
    assert!(!format!("{payload:?}").contains("SK"));

    let alone = json!({ "type": "database", "name": "a", "description": "", "path": "/a" });
    let encoded = Payload::from_value(alone.clone()).unwrap().encode();
    assert_eq!(serde_json::from_slice::<Value>(&encoded).unwrap(), alone);

    let secret = json!({ "type": "secret", "name": "a", "secretType": "plain", "value": "x\n" });
    let encoded = Payload::from_value(secret.clone()).unwrap().encode();
    assert_eq!(serde_json::from_slice::<Value>(&encoded).unwrap(), secret);
    assert_eq!(Payload::parse(&encoded).unwrap().name(), "a");
}

#[test]
fn what_is_wrong_is_named_and_never_repeated() {
    let check = |at: &str, value: Value| {
        let mut payload = database();
        *payload.pointer_mut(at).unwrap() = value;
        let error = Payload::from_value(payload).unwrap_err().to_string();
        assert!(!error.contains("TOPSECRET"), "{error}");
        error
    };
    for (at, value, error) in [
        ("/type", json!("TOPSECRET"), "type: is neither secret nor database"),
        ("/type", json!(null), "type: is missing"),
        ("/name", json!("a\u{7}"), "name: has control or invisible characters"),
        ("/name", json!("n".repeat(129)), "name: is longer than 128 bytes"),
        ("/name", json!(7), "name: is no text"),
        ("/path", json!(null), "path: is missing"),
        ("/path", json!(" "), "path: is empty"),
        ("/description", json!("\n"), "description: has control or invisible characters"),
        ("/origin", json!("x".repeat(5000)), "origin: is longer than 4 KiB"),
        ("/s3Credentials", json!("TOPSECRET"), "s3Credentials: is no object"),
        ("/s3Credentials/secretAccessKey", json!(["TOPSECRET"]), "s3Credentials.secretAccessKey: is no text"),
        ("/s3Credentials/region", json!(null), "s3Credentials.region: is missing"),
        (
            "/encryptionKey/privateKeyPem",
            json!("TOPSECRET"),
            "encryptionKey.privateKeyPem: is no private key in PEM (BEGIN PRIVATE KEY … END PRIVATE KEY)",
        ),
        ("/geocodingKey/apiKey", json!("TOP SECRET"), "geocodingKey.apiKey: an API key is one word"),
        ("/geocodingKey/name", json!(""), "geocodingKey.name: is empty"),
    ] {
        assert_eq!(check(at, value), error);
    }
    let error = |json: &[u8]| Payload::parse(json).unwrap_err().to_string();
    assert_eq!(error(b"null"), "payload: is no JSON object");
    assert_eq!(error(b"{"), "payload: is no JSON");
    assert_eq!(error(&vec![b'['; limits::SHARE_PAYLOAD]), "payload: is no JSON");
    assert_eq!(error(&vec![b' '; limits::SHARE_PAYLOAD + 1]), "payload: is longer than 512 KiB");
    let secret = json!({ "type": "secret", "name": "a", "secretType": "password", "value": "TOPSECRET" });
    let error = Payload::from_value(secret).unwrap_err().to_string();
    assert_eq!(error, "secretType: is none of s3-credentials, encryption-key, api-key and plain");
}
