//! Secrets and databases: what is valid, and how they are written down to hand them over.
//!
//! ```text
//! payload  one secret, or a database with its secrets, as JSON
//! import   credentials that other programs left in files                (feature `control`)
//! ```
//!
//! Every value that comes in, typed, imported or received, passes [`canonical`] once and is valid from then on. Errors
//! name the field and never repeat what was in it.

#[cfg(feature = "control")]
pub mod import;
pub mod payload;

use std::fmt;

use data_encoding::BASE64;
use pkcs8::PrivateKeyInfoRef;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use zeroize::Zeroizing;

use crate::secret_text::SecretText;
use crate::{limits, text};

/// What the value of a secret is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SecretType {
    /// JSON: `{"region", "accessKeyId", "secretAccessKey", "endpoint"?}`, all texts.
    S3Credentials,
    /// A private key: PKCS#8 in PEM (RFC 5208, RFC 7468), not encrypted.
    EncryptionKey,
    /// One line.
    ApiKey,
    /// Any text.
    Plain,
    /// A type of a newer version.
    #[serde(other)]
    Unknown,
}

impl SecretType {
    /// Every type that a secret can have.
    pub const ALL: [Self; 4] = [Self::S3Credentials, Self::EncryptionKey, Self::ApiKey, Self::Plain];

    /// The type's name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::S3Credentials => "s3-credentials",
            Self::EncryptionKey => "encryption-key",
            Self::ApiKey => "api-key",
            Self::Plain => "plain",
            Self::Unknown => "unknown",
        }
    }

    /// The type of this name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }
}

impl fmt::Display for SecretType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What a secret is for a database.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Slot {
    /// Its S3 credentials.
    S3,
    /// Its encryption key.
    Encryption,
    /// The key for geocoding.
    Geocoding,
    /// A slot of a newer version.
    #[serde(other)]
    Unknown,
}

impl Slot {
    /// Every slot that a database has.
    pub const ALL: [Self; 3] = [Self::S3, Self::Encryption, Self::Geocoding];

    /// The slot's name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::S3 => "s3",
            Self::Encryption => "encryption",
            Self::Geocoding => "geocoding",
            Self::Unknown => "unknown",
        }
    }

    /// The type of the secrets that fit.
    pub const fn secret_type(self) -> SecretType {
        match self {
            Self::S3 => SecretType::S3Credentials,
            Self::Encryption => SecretType::EncryptionKey,
            Self::Geocoding => SecretType::ApiKey,
            Self::Unknown => SecretType::Unknown,
        }
    }
}

impl fmt::Display for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A secret, valid.
#[derive(Debug)]
pub struct NamedSecret {
    /// Its name.
    pub name: String,
    /// What its value is.
    pub kind: SecretType,
    /// The value, in its canonical form.
    pub value: SecretText,
}

/// What is known of a database besides its secrets, valid.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DatabaseFields {
    /// Its name.
    pub name: String,
    /// What it is for; may be empty.
    pub description: String,
    /// Where it lies.
    pub path: String,
    /// Where it was first made.
    pub origin: Option<String>,
}

impl DatabaseFields {
    /// The same, if all of it is valid.
    pub fn check(self) -> Result<Self, Invalid> {
        check_name("name", &self.name)?;
        check_line("description", &self.description)?;
        check_line("path", &self.path)?;
        if self.path.trim().is_empty() {
            return Err(Invalid::new("path", "is empty"));
        }
        if let Some(origin) = &self.origin {
            check_line("origin", origin)?;
        }
        Ok(self)
    }
}

/// A field that is not as it should be. Says which and why, and nothing of what it holds.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {why}")]
pub struct Invalid {
    /// The field, as `s3Credentials.region`.
    pub field: String,
    /// What is wrong with it.
    pub why: &'static str,
}

impl Invalid {
    /// What is wrong with a field.
    pub fn new(field: impl Into<String>, why: &'static str) -> Self {
        Self { field: field.into(), why }
    }

    /// The same, with the name of what the field is in before it.
    #[must_use]
    pub fn within(self, outer: &str) -> Self {
        Self { field: format!("{outer}.{}", self.field), why: self.why }
    }
}

/// Whether `name` can be the name of a secret or of a database.
pub fn check_name(field: &str, name: &str) -> Result<(), Invalid> {
    let why = if name.is_empty() {
        "is empty"
    } else if name.len() > limits::CREDENTIAL_NAME {
        "is longer than 128 bytes"
    } else if name.trim() != name {
        "begins or ends with a space"
    } else if name.chars().any(text::is_hostile) {
        "has control or invisible characters"
    } else {
        return Ok(());
    };
    Err(Invalid::new(field, why))
}

/// Whether `line` can be a description, a path or an origin.
fn check_line(field: &str, line: &str) -> Result<(), Invalid> {
    let why = if line.len() > limits::DATABASE_TEXT {
        "is longer than 4 KiB"
    } else if line.chars().any(text::is_hostile) {
        "has control or invisible characters"
    } else {
        return Ok(());
    };
    Err(Invalid::new(field, why))
}

/// `value` in the one form in which it is kept, if it is a value of this type.
pub fn canonical(kind: SecretType, value: SecretText) -> Result<SecretText, Invalid> {
    let invalid = |why| Err(Invalid::new("value", why));
    if value.expose().len() > limits::SECRET_VALUE {
        return invalid("is longer than 64 KiB");
    }
    match kind {
        SecretType::S3Credentials => S3::parse(value.expose()).map(|s3| s3.to_value()),
        SecretType::EncryptionKey => private_key(value.expose()).map(|_| value),
        SecretType::ApiKey => {
            let key = value.expose().trim();
            if key.is_empty() {
                return invalid("is empty");
            }
            if key.chars().any(|c| c.is_control() || c.is_whitespace()) {
                return invalid("an API key is one word");
            }
            Ok(SecretText::new(key.to_owned()))
        }
        SecretType::Plain => {
            if value.expose().is_empty() {
                return invalid("is empty");
            }
            if value.expose().chars().any(|c| c.is_control() && !matches!(c, '\n' | '\r' | '\t')) {
                return invalid("has control characters");
            }
            Ok(value)
        }
        SecretType::Unknown => {
            Err(Invalid::new("type", "is none of s3-credentials, encryption-key, api-key and plain"))
        }
    }
}

/// Whether two values of one type mean the same.
pub fn same(kind: SecretType, a: &SecretText, b: &SecretText) -> bool {
    if a.expose() == b.expose() {
        return true;
    }
    kind == SecretType::EncryptionKey
        && matches!((private_key(a.expose()), private_key(b.expose())), (Ok(a), Ok(b)) if *a == *b)
}

/// The key in `pem`, as DER.
fn private_key(pem: &str) -> Result<Zeroizing<Vec<u8>>, Invalid> {
    const BEGIN: &str = "-----BEGIN PRIVATE KEY-----";
    const END: &str = "-----END PRIVATE KEY-----";
    let invalid = |why| Invalid::new("value", why);
    let pem = pem.trim();
    if pem.starts_with("-----BEGIN ENCRYPTED PRIVATE KEY-----") {
        return Err(invalid("the key is encrypted; decrypt it first: openssl pkcs8 -in FILE"));
    }
    if pem.starts_with("-----BEGIN RSA PRIVATE KEY-----") || pem.starts_with("-----BEGIN EC PRIVATE KEY-----") {
        return Err(invalid("the key is not PKCS#8; convert it first: openssl pkcs8 -topk8 -nocrypt -in FILE"));
    }
    let body = pem.strip_prefix(BEGIN).and_then(|rest| rest.strip_suffix(END));
    let body = body.ok_or_else(|| invalid("is no private key in PEM (BEGIN PRIVATE KEY … END PRIVATE KEY)"))?;
    let mut digits = Zeroizing::new(Vec::with_capacity(body.len()));
    digits.extend(body.bytes().filter(|byte| !byte.is_ascii_whitespace()));
    let der = BASE64.decode(&digits).map(Zeroizing::new).map_err(|_| invalid("the key is no base64"))?;
    if PrivateKeyInfoRef::try_from(der.as_slice()).is_err() {
        return Err(invalid("the key is no PKCS#8 private key"));
    }
    Ok(der)
}

/// The value of a secret of type `s3-credentials`.
#[derive(Debug)]
pub struct S3 {
    /// As `eu-central-1`.
    pub region: SecretText,
    /// Who.
    pub access_key_id: SecretText,
    /// The proof.
    pub secret_access_key: SecretText,
    /// Where, if it is not Amazon's.
    pub endpoint: Option<SecretText>,
}

impl S3 {
    /// The credentials in `value`; what else is in there is not kept.
    pub fn parse(value: &str) -> Result<Self, Invalid> {
        let value = serde_json::from_str(value);
        let Ok(Value::Object(fields)) = value else { return Err(Invalid::new("value", "is no JSON object")) };
        Self::take(&mut Fields(fields))
    }

    fn take(fields: &mut Fields) -> Result<Self, Invalid> {
        Ok(Self {
            region: fields.word("region")?,
            access_key_id: fields.word("accessKeyId")?,
            secret_access_key: fields.word("secretAccessKey")?,
            endpoint: fields.optional("endpoint")?.map(|endpoint| word("endpoint", endpoint)).transpose()?,
        })
    }

    /// The credentials as the value of a secret.
    pub fn to_value(&self) -> SecretText {
        let mut fields = vec![
            ("region", &self.region),
            ("accessKeyId", &self.access_key_id),
            ("secretAccessKey", &self.secret_access_key),
        ];
        fields.extend(self.endpoint.as_ref().map(|endpoint| ("endpoint", endpoint)));
        // Written by hand: the order of the fields is part of the form, and room for all of it is made beforehand.
        let mut json =
            String::with_capacity(64 + fields.iter().map(|(_, text)| 8 + 6 * text.expose().len()).sum::<usize>());
        for (at, (name, value)) in fields.iter().enumerate() {
            json.push(if at == 0 { '{' } else { ',' });
            json.push_str(&Value::from(*name).to_string());
            json.push(':');
            json.push_str(&Zeroizing::new(Value::from(value.expose()).to_string()));
        }
        json.push('}');
        SecretText::new(json)
    }
}

/// One word of credentials: no spaces, nothing invisible.
fn word(field: &str, text: SecretText) -> Result<SecretText, Invalid> {
    let why = if text.expose().is_empty() {
        "is empty"
    } else if text.expose().chars().any(|c| c.is_whitespace() || text::is_hostile(c)) {
        "has spaces, control or invisible characters"
    } else {
        return Ok(text);
    };
    Err(Invalid::new(field, why))
}

/// The fields of a JSON object that came from outside, taken out one by one.
struct Fields(Map<String, Value>);

impl Fields {
    /// A text; `null` is as good as absent.
    fn optional(&mut self, name: &str) -> Result<Option<SecretText>, Invalid> {
        match self.0.remove(name) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(text)) => Ok(Some(SecretText::new(text))),
            Some(_) => Err(Invalid::new(name, "is no text")),
        }
    }

    fn text(&mut self, name: &str) -> Result<SecretText, Invalid> {
        self.optional(name)?.ok_or_else(|| Invalid::new(name, "is missing"))
    }

    fn word(&mut self, name: &str) -> Result<SecretText, Invalid> {
        word(name, self.text(name)?)
    }

    /// An object; `null` is as good as absent.
    fn object(&mut self, name: &str) -> Result<Option<Self>, Invalid> {
        match self.0.remove(name) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::Object(fields)) => Ok(Some(Self(fields))),
            Some(_) => Err(Invalid::new(name, "is no object")),
        }
    }
}

#[cfg(test)]
mod tests;
