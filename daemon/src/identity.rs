//! Who this device is: an Ed25519 key pair, made at the first start, that never leaves the device.
//!
//! The private key stays in here: TLS, certificates and pairing ask for signatures, never for the key.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use ed25519_dalek::{Signer, SigningKey};
use kith_proto::id::{DeviceId, PublicKey};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::clock;
use crate::files;

/// This device's identity.
pub struct Identity {
    key: SigningKey,
    public: PublicKey,
    name: String,
    created: String,
}

/// `device.json`: what may be known about this device. Derived from the key, so losing it loses nothing but the date.
#[derive(Serialize, Deserialize)]
struct Card {
    id: DeviceId,
    name: String,
    public_key: PublicKey,
    created: String,
}

/// An identity that cannot be used. The daemon exits with 78 (`EX_CONFIG`).
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The key file is there and cannot be used.
    #[error("cannot use the device key {path}: {source}")]
    Key {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The key file has not 32 bytes.
    #[error("the device key {path} is damaged: it has {length} bytes instead of 32")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Its length.
        length: usize,
    },
    /// The key is gone, but the database is there.
    #[error(
        "the device key {path} is gone, but a database lies beside it: with a new key this would be a new device, \
         and every peer would have to pair again. Restore the key from a backup, or start once with --new-identity"
    )]
    Lost {
        /// The file.
        path: PathBuf,
    },
    /// A file cannot be written.
    #[error("cannot write {path}: {source}")]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The system gives no random bytes.
    #[error("the system gives no random bytes: {0}")]
    Random(#[from] getrandom::Error),
}

impl Identity {
    /// Reads the identity in `data`, or makes it. `database` is what tells a first start from a lost key.
    pub fn open(data: &Path, database: &Path, name: &str, new_identity: bool) -> Result<Arc<Self>, Error> {
        let path = data.join("device.key");
        let key = match read_key(&path)? {
            Some(key) => key,
            None if database.exists() && !new_identity => return Err(Error::Lost { path }),
            None => make_key(&path)?,
        };
        let public = PublicKey(key.verifying_key().to_bytes());
        let created = keep_card(&data.join("device.json"), public, name)?;
        Ok(Arc::new(Self { key, public, name: name.to_owned(), created }))
    }

    /// The public key as bytes.
    pub fn public_bytes(&self) -> &[u8] {
        &self.public.0
    }

    /// The full public key.
    pub fn public(&self) -> PublicKey {
        self.public
    }

    /// The short id.
    pub fn id(&self) -> DeviceId {
        self.public.device_id()
    }

    /// The name that others see.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// When the key was made.
    pub fn created(&self) -> &str {
        &self.created
    }

    /// Signs `message`.
    pub fn sign(&self, message: &[u8]) -> [u8; 64] {
        self.key.sign(message).to_bytes()
    }

    /// The key itself, for the pairing machine, which proves its possession.
    pub fn signing_key(&self) -> &SigningKey {
        &self.key
    }
}

fn read_key(path: &Path) -> Result<Option<SigningKey>, Error> {
    let bytes = match files::read_private(path, 64) {
        Ok(bytes) => Zeroizing::new(bytes),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(Error::Key { path: path.to_owned(), source }),
    };
    let seed = <&[u8; 32]>::try_from(bytes.as_slice())
        .map_err(|_| Error::Damaged { path: path.to_owned(), length: bytes.len() })?;
    Ok(Some(SigningKey::from_bytes(seed)))
}

fn make_key(path: &Path) -> Result<SigningKey, Error> {
    let mut seed = Zeroizing::new([0; 32]);
    getrandom::fill(seed.as_mut_slice())?;
    files::create_private(path, seed.as_slice()).map_err(|source| Error::Write { path: path.to_owned(), source })?;
    Ok(SigningKey::from_bytes(&seed))
}

/// Writes the card anew where it is missing or says something else, and returns the date on it.
fn keep_card(path: &Path, public: PublicKey, name: &str) -> Result<String, Error> {
    let old: Option<Card> = std::fs::read(path).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok());
    let old = old.filter(|card| card.public_key == public);
    if let Some(card) = &old
        && card.name == name
        && card.id == public.device_id()
    {
        return Ok(card.created.clone());
    }
    let created = old.map_or_else(|| clock::rfc3339(clock::now_ms()), |card| card.created);
    let card = Card { id: public.device_id(), name: name.to_owned(), public_key: public, created };
    let mut json = serde_json::to_vec_pretty(&card).expect("a card is plain data");
    json.push(b'\n');
    files::write_atomic(path, &json, 0o644).map_err(|source| Error::Write { path: path.to_owned(), source })?;
    Ok(card.created)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_stays_and_the_card_is_repaired() {
        let dir = tempfile::tempdir().unwrap();
        let database = dir.path().join("kith.db");
        let first = Identity::open(dir.path(), &database, "nas", false).unwrap();
        std::fs::remove_file(dir.path().join("device.json")).unwrap();
        let second = Identity::open(dir.path(), &database, "attic", false).unwrap();
        assert_eq!(first.public(), second.public());
        let card = std::fs::read_to_string(dir.path().join("device.json")).unwrap();
        assert!(card.contains("attic") && card.contains(&first.id().to_string()));
    }

    #[test]
    fn h81_a_lost_or_damaged_key_is_not_replaced_silently() {
        let dir = tempfile::tempdir().unwrap();
        let database = dir.path().join("kith.db");
        let first = Identity::open(dir.path(), &database, "nas", false).unwrap();
        std::fs::File::create(&database).unwrap();
        let key = dir.path().join("device.key");
        std::fs::remove_file(&key).unwrap();
        assert!(matches!(Identity::open(dir.path(), &database, "nas", false), Err(Error::Lost { .. })));
        let second = Identity::open(dir.path(), &database, "nas", true).unwrap();
        assert_ne!(first.public(), second.public());
        std::fs::OpenOptions::new().append(true).open(&key).unwrap().set_len(31).unwrap();
        assert!(matches!(Identity::open(dir.path(), &database, "nas", true), Err(Error::Damaged { length: 31, .. })));
    }
}
