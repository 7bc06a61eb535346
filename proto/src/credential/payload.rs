//! What one device hands to another: one secret, or a database with those of its secrets that were chosen.
//!
//! The form is the one of the Photosphere app, so that one parser serves both protocols:
//!
//! ```json
//! {"type":"secret","name","secretType","value"}
//! {"type":"database","name","description","path","origin"?,
//!  "s3Credentials"?:{"name","region","accessKeyId","secretAccessKey","endpoint"?},
//!  "encryptionKey"?:{"name","privateKeyPem","publicKeyPem"?},
//!  "geocodingKey"?:{"name","apiKey"}}
//! ```

use serde::Serialize;
use serde_json::Value;
use zeroize::Zeroizing;

use super::{DatabaseFields, Fields, Invalid, NamedSecret, S3, SecretType, Slot, canonical, check_name};
use crate::limits;
use crate::secret_text::SecretText;

/// What is handed over, valid.
#[derive(Debug)]
pub enum Payload {
    /// One secret.
    Secret(NamedSecret),
    /// A database.
    Database {
        /// All of it but its secrets.
        fields: DatabaseFields,
        /// The secrets, each slot at most once.
        secrets: Vec<(Slot, NamedSecret)>,
    },
}

impl Payload {
    /// The payload in `json`. Fields that are not known are ignored.
    pub fn parse(json: &[u8]) -> Result<Self, Invalid> {
        if json.len() > limits::SHARE_PAYLOAD {
            return Err(Invalid::new("payload", "is longer than 512 KiB"));
        }
        match serde_json::from_slice(json) {
            Ok(value) => Self::from_value(value),
            Err(_) => Err(Invalid::new("payload", "is no JSON")),
        }
    }

    /// The payload in a JSON value.
    pub fn from_value(value: Value) -> Result<Self, Invalid> {
        let Value::Object(fields) = value else { return Err(Invalid::new("payload", "is no JSON object")) };
        let mut fields = Fields(fields);
        match fields.text("type")?.expose() {
            "secret" => Self::secret(&mut fields),
            "database" => Self::database(&mut fields),
            _ => Err(Invalid::new("type", "is neither secret nor database")),
        }
    }

    fn secret(fields: &mut Fields) -> Result<Self, Invalid> {
        let name = name(fields)?;
        let kind = SecretType::parse(fields.text("secretType")?.expose());
        let kind = kind.ok_or_else(|| {
            Invalid::new("secretType", "is none of s3-credentials, encryption-key, api-key and plain")
        })?;
        let value = canonical(kind, fields.text("value")?)?;
        Ok(Self::Secret(NamedSecret { name, kind, value }))
    }

    fn database(fields: &mut Fields) -> Result<Self, Invalid> {
        let line = |text: SecretText| text.expose().to_owned();
        let database = DatabaseFields {
            name: name(fields)?,
            description: fields.optional("description")?.map(line).unwrap_or_default(),
            path: line(fields.text("path")?),
            origin: fields.optional("origin")?.map(line).filter(|origin| !origin.is_empty()),
        };
        let database = database.check()?;
        let mut secrets = Vec::new();
        for slot in Slot::ALL {
            let outer = object_name(slot);
            if let Some(mut inner) = fields.object(outer)? {
                secrets.push((slot, linked(slot, &mut inner).map_err(|invalid| invalid.within(outer))?));
            }
        }
        Ok(Self::Database { fields: database, secrets })
    }

    /// The payload as JSON.
    #[expect(clippy::expect_used, reason = "on values of our own types, not on bytes from outside")]
    pub fn encode(&self) -> Zeroizing<Vec<u8>> {
        let wire = match self {
            Self::Secret(secret) => Wire::Secret { name: &secret.name, secret_type: secret.kind, value: &secret.value },
            Self::Database { fields, secrets } => {
                let of = |slot| secrets.iter().find(|(its, _)| *its == slot).map(|(_, secret)| secret);
                Wire::Database {
                    name: &fields.name,
                    description: &fields.description,
                    path: &fields.path,
                    origin: fields.origin.as_deref(),
                    s3_credentials: of(Slot::S3).and_then(S3Wire::of),
                    encryption_key: of(Slot::Encryption)
                        .map(|secret| KeyWire { name: &secret.name, private_key_pem: &secret.value }),
                    geocoding_key: of(Slot::Geocoding)
                        .map(|secret| ApiKeyWire { name: &secret.name, api_key: &secret.value }),
                }
            }
        };
        // Room for all of it: growing would leave copies behind.
        let values: usize = self.secrets().map(|secret| secret.value.expose().len()).sum();
        let mut json = Zeroizing::new(Vec::with_capacity((32 << 10) + 6 * values));
        serde_json::to_writer(&mut *json, &wire).expect("texts under fixed keys are always JSON");
        json
    }

    /// The name of what is handed over.
    pub fn name(&self) -> &str {
        match self {
            Self::Secret(secret) => &secret.name,
            Self::Database { fields, .. } => &fields.name,
        }
    }

    /// The secrets in it.
    pub fn secrets(&self) -> impl Iterator<Item = &NamedSecret> {
        let (one, several): (_, &[(Slot, NamedSecret)]) = match self {
            Self::Secret(secret) => (Some(secret), &[]),
            Self::Database { secrets, .. } => (None, secrets),
        };
        one.into_iter().chain(several.iter().map(|(_, secret)| secret))
    }
}

/// The field of a database under which the secret of a slot is.
fn object_name(slot: Slot) -> &'static str {
    match slot {
        Slot::S3 => "s3Credentials",
        Slot::Encryption => "encryptionKey",
        Slot::Geocoding | Slot::Unknown => "geocodingKey",
    }
}

fn name(fields: &mut Fields) -> Result<String, Invalid> {
    let name = fields.text("name")?.expose().to_owned();
    check_name("name", &name)?;
    Ok(name)
}

/// A secret of a database.
fn linked(slot: Slot, fields: &mut Fields) -> Result<NamedSecret, Invalid> {
    let name = name(fields)?;
    let kind = slot.secret_type();
    let (field, value) = match slot {
        Slot::S3 => ("value", S3::take(fields)?.to_value()),
        Slot::Encryption => ("privateKeyPem", fields.text("privateKeyPem")?),
        Slot::Geocoding | Slot::Unknown => ("apiKey", fields.text("apiKey")?),
    };
    let value = canonical(kind, value).map_err(|invalid| Invalid::new(field, invalid.why))?;
    Ok(NamedSecret { name, kind, value })
}

#[derive(Serialize)]
#[serde(tag = "type", rename_all = "lowercase", rename_all_fields = "camelCase")]
enum Wire<'a> {
    Secret {
        name: &'a str,
        secret_type: SecretType,
        value: &'a SecretText,
    },
    Database {
        name: &'a str,
        description: &'a str,
        path: &'a str,
        #[serde(skip_serializing_if = "Option::is_none")]
        origin: Option<&'a str>,
        #[serde(skip_serializing_if = "Option::is_none")]
        s3_credentials: Option<S3Wire<'a>>,
        #[serde(skip_serializing_if = "Option::is_none")]
        encryption_key: Option<KeyWire<'a>>,
        #[serde(skip_serializing_if = "Option::is_none")]
        geocoding_key: Option<ApiKeyWire<'a>>,
    },
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct S3Wire<'a> {
    name: &'a str,
    region: SecretText,
    access_key_id: SecretText,
    secret_access_key: SecretText,
    #[serde(skip_serializing_if = "Option::is_none")]
    endpoint: Option<SecretText>,
}

impl<'a> S3Wire<'a> {
    /// A value that is no S3 credentials cannot be in a valid secret of this type.
    fn of(secret: &'a NamedSecret) -> Option<Self> {
        let S3 { region, access_key_id, secret_access_key, endpoint } = S3::parse(secret.value.expose()).ok()?;
        Some(Self { name: &secret.name, region, access_key_id, secret_access_key, endpoint })
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct KeyWire<'a> {
    name: &'a str,
    private_key_pem: &'a SecretText,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ApiKeyWire<'a> {
    name: &'a str,
    api_key: &'a SecretText,
}
