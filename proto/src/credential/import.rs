//! Credentials that other programs left in files.
//!
//! ```text
//! json       {"name", "type", "value"}, a list of such, S3 credentials, or an object of such by name: the vault of the
//!            Photosphere app
//! databases  the app's databases.toml
//! secret     a file that is the value of one secret: a PEM, for one
//! ```
//!
//! Values of older versions of the app are taken, too. Errors name the entry and its field, never what is in it.

use serde_json::Value;

use super::{DatabaseFields, Fields, Invalid, NamedSecret, S3, SecretType, Slot, canonical, check_name};
use crate::secret_text::SecretText;
use crate::{limits, text};

/// What else is in a `databases.toml`, now or in older versions.
const BESIDE: [&str; 3] = ["recent_database_names", "recent_database_paths", "last_database"];

/// A database, valid, and the names of its secrets, which may be anywhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamedDatabase {
    /// All of it but its secrets.
    pub fields: DatabaseFields,
    /// Each slot at most once.
    pub secrets: Vec<(Slot, String)>,
}

impl NamedDatabase {
    /// The name of the secret in `slot`.
    pub fn secret(&self, slot: Slot) -> Option<&str> {
        self.secrets.iter().find(|(its, _)| *its == slot).map(|(_, name)| name.as_str())
    }
}

/// Every secret in a JSON file. `name` is for the one that has none.
pub fn json(file: &[u8], name: Option<&str>) -> Result<Vec<NamedSecret>, Invalid> {
    match serde_json::from_str(content(file)?) {
        Ok(Value::Array(entries)) => list(entries),
        Ok(Value::Object(fields)) => {
            let mut fields = Fields(fields);
            // The entries of a vault are objects, whatever they are called.
            if fields.has_text("type") {
                let name = fields.optional("name")?.map(|name| name.expose().to_owned()).or(name.map(str::to_owned));
                entry(name, &mut fields).map(|secret| vec![secret])
            } else if fields.has_text("accessKeyId") {
                credentials(name, &mut fields).map(|secret| vec![secret])
            } else {
                vault(fields)
            }
        }
        Ok(_) => Err(Invalid::new("file", "is neither a JSON object nor a list")),
        Err(_) => Err(Invalid::new("file", "is no JSON")),
    }
}

/// Every database in a `databases.toml`.
pub fn databases(file: &[u8]) -> Result<Vec<NamedDatabase>, Invalid> {
    let Ok(Value::Object(mut fields)) = toml::from_str(content(file)?) else {
        return Err(Invalid::new("file", "is no TOML"));
    };
    let entries = match fields.remove("databases") {
        Some(Value::Array(entries)) => bounded(entries)?,
        // Somebody removed the last one.
        None if BESIDE.iter().any(|key| fields.contains_key(*key)) => Vec::new(),
        None => return Err(Invalid::new("databases", "is missing")),
        Some(_) => return Err(Invalid::new("databases", "is no list of tables")),
    };
    let of = |(at, entry)| {
        let place = || format!("databases[{at}]");
        let Value::Object(fields) = entry else { return Err(Invalid::new(place(), "is no table")) };
        let mut fields = Fields(fields);
        let named = fields.label();
        database(&mut fields).map_err(|invalid| invalid.within(&named.unwrap_or_else(place)))
    };
    entries.into_iter().enumerate().map(of).collect()
}

/// The secret of a file that is nothing but its value.
pub fn secret(file: &[u8], name: &str, kind: SecretType) -> Result<NamedSecret, Invalid> {
    check_name("name", name)?;
    let value = current(kind, SecretText::new(content(file)?.to_owned()))?;
    Ok(NamedSecret { name: name.to_owned(), kind, value: canonical(kind, value)? })
}

/// The name of a secret whose file is called `stem`: the app writes what a file name cannot hold as `%2F`.
pub fn name_of(stem: &str) -> String {
    let mut name = Vec::with_capacity(stem.len());
    let mut rest = stem.as_bytes();
    while let Some((first, behind)) = rest.split_first() {
        let digit = |at: usize| behind.get(at).and_then(|byte| char::from(*byte).to_digit(16));
        match (first, digit(0), digit(1)) {
            (b'%', Some(high), Some(low)) => {
                name.extend(u8::try_from(high * 16 + low));
                rest = behind.get(2..).unwrap_or_default();
            }
            _ => {
                name.push(*first);
                rest = behind;
            }
        }
    }
    // What is no text was not written by the app.
    String::from_utf8(name).unwrap_or_else(|_| stem.to_owned())
}

/// The text in a file of a size that is allowed, without its byte order mark.
fn content(file: &[u8]) -> Result<&str, Invalid> {
    if file.len() > limits::CREDENTIAL_FILE {
        return Err(Invalid::new("file", "is longer than 4 MiB"));
    }
    let text = str::from_utf8(file).map_err(|_| Invalid::new("file", "is no text (UTF-8)"))?;
    Ok(text.strip_prefix('\u{feff}').unwrap_or(text))
}

fn bounded<T>(entries: Vec<T>) -> Result<Vec<T>, Invalid> {
    if entries.len() > limits::CREDENTIALS {
        return Err(Invalid::new("file", "has more than 10,000 entries"));
    }
    Ok(entries)
}

fn list(entries: Vec<Value>) -> Result<Vec<NamedSecret>, Invalid> {
    let of = |(at, value)| {
        let place = || format!("[{at}]");
        let Value::Object(fields) = value else { return Err(Invalid::new(place(), "is no object")) };
        let mut fields = Fields(fields);
        let named = fields.label();
        let name = fields.optional("name").map(|name| name.map(|name| name.expose().to_owned()));
        name.and_then(|name| entry(name, &mut fields)).map_err(|invalid| invalid.within(&named.unwrap_or_else(place)))
    };
    bounded(entries)?.into_iter().enumerate().map(of).collect()
}

/// The names are the keys: that is how the app looks them up.
fn vault(fields: Fields) -> Result<Vec<NamedSecret>, Invalid> {
    let of = |(name, value): (String, Value)| {
        let place = text::printable(text::cut(&name, limits::CREDENTIAL_NAME)).into_owned();
        let Value::Object(fields) = value else { return Err(Invalid::new(place, "is no object")) };
        entry(Some(name), &mut Fields(fields)).map_err(|invalid| invalid.within(&place))
    };
    bounded(fields.0.into_iter().collect())?.into_iter().map(of).collect()
}

/// `{"type", "value"}`
fn entry(name: Option<String>, fields: &mut Fields) -> Result<NamedSecret, Invalid> {
    let name = name.ok_or_else(|| Invalid::new("name", "is missing"))?;
    check_name("name", &name)?;
    let kind = match fields.text("type")?.expose() {
        "password" => SecretType::Plain,
        word => SecretType::parse(word)
            .ok_or_else(|| Invalid::new("type", "is none of s3-credentials, encryption-key, api-key and plain"))?,
    };
    let value = match fields.0.remove("value") {
        None | Some(Value::Null) => return Err(Invalid::new("value", "is missing")),
        Some(Value::String(text)) => current(kind, SecretText::new(text))?,
        Some(Value::Object(parts)) => whole(kind, &mut Fields(parts))?,
        Some(_) => return Err(Invalid::new("value", "is no text")),
    };
    Ok(NamedSecret { name, kind, value: canonical(kind, value)? })
}

/// S3 credentials as they are.
fn credentials(name: Option<&str>, fields: &mut Fields) -> Result<NamedSecret, Invalid> {
    let name = name.ok_or_else(|| Invalid::new("name", "is missing"))?;
    check_name("name", name)?;
    let kind = SecretType::S3Credentials;
    Ok(NamedSecret { name: name.to_owned(), kind, value: canonical(kind, S3::take(fields)?.to_value())? })
}

/// A value as this version has it, from what older versions of the app wrote: `{"privateKeyPem"}`, `{"apiKey"}`.
fn current(kind: SecretType, value: SecretText) -> Result<SecretText, Invalid> {
    if matches!(kind, SecretType::EncryptionKey | SecretType::ApiKey)
        && let Ok(Value::Object(parts)) = serde_json::from_str(value.expose())
    {
        return whole(kind, &mut Fields(parts));
    }
    Ok(value)
}

/// A value out of its parts.
fn whole(kind: SecretType, parts: &mut Fields) -> Result<SecretText, Invalid> {
    match kind {
        SecretType::S3Credentials => S3::take(parts).map(|s3| s3.to_value()),
        SecretType::EncryptionKey => parts.text("privateKeyPem"),
        SecretType::ApiKey => parts.text("apiKey"),
        SecretType::Plain | SecretType::Unknown => Err(Invalid::new("value", "is no text")),
    }
}

fn database(fields: &mut Fields) -> Result<NamedDatabase, Invalid> {
    let line = |text: SecretText| text.expose().to_owned();
    let database = DatabaseFields {
        name: line(fields.text("name")?),
        description: fields.optional("description")?.map(line).unwrap_or_default(),
        path: line(fields.text("path")?),
        origin: fields.optional("origin")?.map(line).filter(|origin| !origin.is_empty()),
    };
    let database = database.check()?;
    let mut secrets = Vec::new();
    for (slot, snake, camel) in [
        (Slot::S3, "s3_key", "s3Key"),
        (Slot::Encryption, "encryption_key", "encryptionKey"),
        (Slot::Geocoding, "geocoding_key", "geocodingKey"),
    ] {
        let (old, new) = (fields.optional(snake)?, fields.optional(camel)?);
        if let Some(name) = old.or(new).map(line).filter(|name| !name.is_empty()) {
            check_name(snake, &name)?;
            secrets.push((slot, name));
        }
    }
    Ok(NamedDatabase { fields: database, secrets })
}

impl Fields {
    fn has_text(&self, name: &str) -> bool {
        self.0.get(name).is_some_and(Value::is_string)
    }

    /// The name of the entry, if it can be one.
    fn label(&self) -> Option<String> {
        let name = self.0.get("name").and_then(Value::as_str)?;
        check_name("name", name).is_ok().then(|| name.to_owned())
    }
}

#[cfg(test)]
#[path = "import_tests.rs"]
mod tests;
