//! Where the key comes from that wraps the data key, if it is not a passphrase: the service manager, or a file.

use std::fs::File;
use std::io::{self, ErrorKind, Read};
use std::path::{Path, PathBuf};

use kith_proto::control::credential::VaultMode;
use kith_proto::control::{ApiError, Code};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use super::seal::{Key, new_key};
use crate::files;

/// The name of the key file in the data directory.
const FILE: &str = "vault.key";
/// Keeps this hash of a key apart from all others.
const FINGERPRINT: &[u8] = b"kith-vault/1 key file";

/// The places that are looked at. Every call blocks for a moment.
#[derive(Debug, Clone)]
pub struct Places {
    file: PathBuf,
    credential: Option<PathBuf>,
}

impl Places {
    /// The places of a daemon whose data lies in `data`.
    pub fn new(data: &Path, credential: Option<PathBuf>) -> Self {
        Self { file: data.join(FILE), credential }
    }

    /// What a vault without a passphrase takes its key from.
    pub fn usual(&self) -> VaultMode {
        if self.credential.is_some() { VaultMode::Credential } else { VaultMode::File }
    }

    /// The key of a vault in this mode.
    pub fn read(&self, mode: VaultMode) -> Result<Key, ApiError> {
        match (mode, &self.credential) {
            (VaultMode::Credential, Some(path)) => credential(path).map_err(|error| {
                unusable(format!("the credential {} cannot be used: {error}", path.display()))
                    .hint("kith-vault-key is exactly 32 bytes, the same ones as before")
            }),
            (VaultMode::Credential, None) => {
                Err(unusable("the vault's key is a credential of the service manager, which provides none".to_owned())
                    .hint("give the service its kith-vault-key again: LoadCredential= or LoadCredentialEncrypted="))
            }
            _ => self.read_file(),
        }
    }

    /// The same for a vault that is about to be made.
    pub fn read_or_make(&self, mode: VaultMode) -> Result<Key, ApiError> {
        if mode == VaultMode::File && !exists(&self.file) { self.make_file() } else { self.read(mode) }
    }

    /// Puts a new key into the file, which must not exist.
    pub fn make_file(&self) -> Result<Key, ApiError> {
        let key = new_key()?;
        files::create_private(&self.file, key.expose()).map_err(|error| match error.kind() {
            ErrorKind::StorageFull => ApiError::new(Code::NoSpace, "there is no room for vault.key"),
            _ => unusable(format!("cannot write {}: {error}", self.file.display())),
        })?;
        Ok(key)
    }

    /// By which the key in the file is known again; `None` without a usable one.
    pub fn fingerprint(&self) -> Option<[u8; 32]> {
        let key = self.read_file().ok()?;
        Some(Sha256::new().chain_update(FINGERPRINT).chain_update(key.expose()).finalize().into())
    }

    /// Removes the file if it holds this key: another one may belong to a database that is put back later.
    pub fn remove(&self, fingerprint: &[u8; 32]) -> io::Result<()> {
        if self.fingerprint().as_ref() == Some(fingerprint) { std::fs::remove_file(&self.file) } else { Ok(()) }
    }

    fn read_file(&self) -> Result<Key, ApiError> {
        let shown = self.file.display();
        let bytes = match files::read_private(&self.file, 64) {
            Ok(bytes) => Zeroizing::new(bytes),
            Err(error) if error.kind() == ErrorKind::NotFound => {
                return Err(unusable(format!("the vault's key {shown} is gone"))
                    .hint("put it back from a backup: without it, the secrets in this vault cannot be read"));
            }
            Err(error) => {
                return Err(unusable(format!("the vault's key {shown} cannot be used: {error}"))
                    .hint("nobody else may have read or changed it; if so, change the secrets, too"));
            }
        };
        key(&bytes).ok_or_else(|| {
            unusable(format!("the vault's key {shown} is damaged: it has {} bytes instead of 32", bytes.len()))
                .hint("put it back from a backup")
        })
    }
}

/// The vault cannot be used, and why.
pub fn unusable(message: String) -> ApiError {
    ApiError::new(Code::VaultUnusable, message)
}

/// The service manager answers for who may read it.
fn credential(path: &Path) -> io::Result<Key> {
    let mut bytes = Zeroizing::new(Vec::with_capacity(64));
    File::open(path)?.take(33).read_to_end(&mut bytes)?;
    key(&bytes).ok_or_else(|| io::Error::new(ErrorKind::InvalidData, "it has not exactly 32 bytes"))
}

fn key(bytes: &[u8]) -> Option<Key> {
    let mut key = Key::new([0; 32]);
    (bytes.len() == 32).then(|| key.expose_mut().copy_from_slice(bytes))?;
    Some(key)
}

fn exists(path: &Path) -> bool {
    std::fs::symlink_metadata(path).is_ok()
}
