//! What is sealed, and with what: AES-256-GCM under the data key, which is itself wrapped.
//!
//! Everything sealed is `[nonce: 12 bytes][ciphertext and tag]`, bound to what it stands for: a list of parts, each with
//! its length before it. Nonces are random: a vault seals far fewer than 2^32 values.

use std::sync::Arc;

use aes_gcm::aead::AeadInOut;
use aes_gcm::{Aes256Gcm, KeyInit, Nonce};
use argon2::{Algorithm, Argon2, Params, Version};
use kith_proto::control::{ApiError, Code};
use kith_proto::secret::Secret;
use zeroize::Zeroizing;

/// A key: the data key, or one that wraps it.
pub type Key = Secret<[u8; 32]>;

const NONCE: usize = 12;
const TAG: usize = 16;
/// What a passphrase costs those who guess: 64 MiB, three passes.
const STRETCH: Stretch = Stretch { salt: [0; 16], memory_kib: 64 << 10, passes: 3, lanes: 1 };
/// A row that asks for more was not written by a kithd.
const MEMORY_KIB_MAX: u32 = 1 << 20;
const PASSES_MAX: u32 = 64;

/// The data key, and the vault that it belongs to.
pub struct Opened {
    id: [u8; 16],
    key: Key,
}

/// How a passphrase becomes a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stretch {
    /// Another one for each passphrase.
    pub salt: [u8; 16],
    /// Argon2's m, in KiB.
    pub memory_kib: u32,
    /// Argon2's t.
    pub passes: u32,
    /// Argon2's p.
    pub lanes: u32,
}

impl Opened {
    /// A new vault.
    pub fn new() -> Result<Arc<Self>, ApiError> {
        let mut id = [0; 16];
        random(&mut id)?;
        Ok(Arc::new(Self { id, key: new_key()? }))
    }

    /// The vault `id` whose data key is in `wrapped`; `None` if `kek` is not the key that it was wrapped with.
    pub fn unwrap(id: [u8; 16], mode: &str, wrapped: &[u8], kek: &Key) -> Option<Arc<Self>> {
        let plain = open(kek, wrapped, &[b"kith-vault/1 key", &id, mode.as_bytes()])?;
        let mut key = Key::new([0; 32]);
        (plain.len() == key.expose().len()).then(|| key.expose_mut().copy_from_slice(&plain))?;
        Some(Arc::new(Self { id, key }))
    }

    /// The data key as it lies on the disk.
    pub fn wrap(&self, mode: &str, kek: &Key) -> Result<Vec<u8>, ApiError> {
        seal(kek, self.key.expose(), &[b"kith-vault/1 key", &self.id, mode.as_bytes()])
    }

    /// Which vault it is.
    pub fn id(&self) -> &[u8; 16] {
        &self.id
    }

    /// Seals the value of a secret.
    pub fn seal_secret(&self, name: &str, kind: &str, revision: i64, value: &str) -> Result<Vec<u8>, ApiError> {
        let revision = revision.to_be_bytes();
        let bound = [b"kith-vault/1 secret".as_slice(), &self.id, name.as_bytes(), kind.as_bytes(), &revision];
        seal(&self.key, value.as_bytes(), &bound)
    }

    /// The value of a secret, if its row is as it was sealed.
    pub fn open_secret(&self, name: &str, kind: &str, revision: i64, sealed: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
        let revision = revision.to_be_bytes();
        let bound = [b"kith-vault/1 secret".as_slice(), &self.id, name.as_bytes(), kind.as_bytes(), &revision];
        open(&self.key, sealed, &bound)
    }

    /// Seals what a device handed over.
    pub fn seal_offered(&self, id: &str, peer: &[u8; 32], json: &[u8]) -> Result<Vec<u8>, ApiError> {
        seal(&self.key, json, &[b"kith-vault/1 offered", &self.id, id.as_bytes(), peer])
    }

    /// What a device handed over.
    pub fn open_offered(&self, id: &str, peer: &[u8; 32], sealed: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
        open(&self.key, sealed, &[b"kith-vault/1 offered", &self.id, id.as_bytes(), peer])
    }
}

impl Stretch {
    /// With a new salt.
    pub fn new() -> Result<Self, ApiError> {
        let mut stretch = STRETCH;
        random(&mut stretch.salt)?;
        Ok(stretch)
    }

    /// The key of a passphrase. Takes a while, and much memory, on purpose; `None` if no kithd wrote these parameters.
    pub fn key(&self, passphrase: &str) -> Option<Key> {
        if self.memory_kib > MEMORY_KIB_MAX || self.passes > PASSES_MAX {
            return None;
        }
        let params = Params::new(self.memory_kib, self.passes, self.lanes, Some(32)).ok()?;
        let mut key = Key::new([0; 32]);
        let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
        argon2.hash_password_into(passphrase.as_bytes(), &self.salt, key.expose_mut()).ok()?;
        Some(key)
    }
}

/// A random key.
pub fn new_key() -> Result<Key, ApiError> {
    let mut key = Key::new([0; 32]);
    random(key.expose_mut())?;
    Ok(key)
}

fn seal(key: &Key, plain: &[u8], bound: &[&[u8]]) -> Result<Vec<u8>, ApiError> {
    // Room for all of it: the plain text is in here for a moment, and growing would leave a copy behind.
    let mut sealed = Vec::with_capacity(NONCE + plain.len() + TAG);
    let mut nonce = [0; NONCE];
    random(&mut nonce)?;
    sealed.extend_from_slice(&nonce);
    sealed.extend_from_slice(plain);
    let (_, body) = sealed.split_at_mut(NONCE);
    let tag = Aes256Gcm::new(key.expose().into())
        .encrypt_inout_detached(&Nonce::from(nonce), &aad(bound), body.into())
        .expect("a value is far shorter than what this cipher can take");
    sealed.extend_from_slice(&tag);
    Ok(sealed)
}

fn open(key: &Key, sealed: &[u8], bound: &[&[u8]]) -> Option<Zeroizing<Vec<u8>>> {
    let (nonce, rest) = sealed.split_first_chunk::<NONCE>()?;
    let (body, tag) = rest.split_last_chunk::<TAG>()?;
    let mut plain = Zeroizing::new(body.to_vec());
    let cipher = Aes256Gcm::new(key.expose().into());
    let opened =
        cipher.decrypt_inout_detached(&Nonce::from(*nonce), &aad(bound), plain.as_mut_slice().into(), &(*tag).into());
    opened.ok().map(|()| plain)
}

fn aad(parts: &[&[u8]]) -> Vec<u8> {
    let mut aad = Vec::new();
    for part in parts {
        let length = u32::try_from(part.len()).expect("names and labels are short");
        aad.extend_from_slice(&length.to_be_bytes());
        aad.extend_from_slice(part);
    }
    aad
}

fn random(bytes: &mut [u8]) -> Result<(), ApiError> {
    getrandom::fill(bytes).map_err(|_| ApiError::new(Code::Internal, "the system gives no random bytes"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn changed(bytes: &[u8], at: usize) -> Vec<u8> {
        let mut bytes = bytes.to_vec();
        bytes[at] ^= 1;
        bytes
    }

    #[test]
    fn h81_what_is_sealed_opens_in_its_place_only() {
        let vault = Opened::new().unwrap();
        let sealed = vault.seal_secret("prod", "plain", 3, "value").unwrap();
        assert_eq!(&**vault.open_secret("prod", "plain", 3, &sealed).unwrap(), b"value");
        for (name, kind, revision) in [
            ("Prod", "plain", 3),
            ("prod", "api-key", 3),
            ("prod", "plain", 4),
            ("prodp", "lain", 3),
            ("pro", "dplain", 3),
        ] {
            assert!(vault.open_secret(name, kind, revision, &sealed).is_none(), "{name} {kind} {revision}");
        }
        for at in 0..sealed.len() {
            assert!(vault.open_secret("prod", "plain", 3, &changed(&sealed, at)).is_none(), "byte {at}");
            assert!(vault.open_secret("prod", "plain", 3, &sealed[..at]).is_none(), "{at} bytes");
        }
        assert!(Opened::new().unwrap().open_secret("prod", "plain", 3, &sealed).is_none(), "another vault");
        assert_ne!(sealed, vault.seal_secret("prod", "plain", 3, "value").unwrap(), "another nonce each time");

        let sealed = vault.seal_offered("id", &[7; 32], b"{}").unwrap();
        assert_eq!(&**vault.open_offered("id", &[7; 32], &sealed).unwrap(), b"{}");
        assert!(vault.open_offered("di", &[7; 32], &sealed).is_none());
        assert!(vault.open_offered("id", &[8; 32], &sealed).is_none());
    }

    #[test]
    fn h81_the_data_key_is_bound_to_vault_and_mode() {
        let (vault, kek) = (Opened::new().unwrap(), new_key().unwrap());
        let wrapped = vault.wrap("file", &kek).unwrap();
        let again = Opened::unwrap(vault.id, "file", &wrapped, &kek).unwrap();
        assert_eq!(again.key.expose(), vault.key.expose());
        assert!(Opened::unwrap(vault.id, "passphrase", &wrapped, &kek).is_none());
        assert!(Opened::unwrap([0; 16], "file", &wrapped, &kek).is_none());
        assert!(Opened::unwrap(vault.id, "file", &wrapped, &new_key().unwrap()).is_none());
        for at in 0..wrapped.len() {
            assert!(Opened::unwrap(vault.id, "file", &changed(&wrapped, at), &kek).is_none(), "byte {at}");
        }
    }

    #[test]
    fn a_passphrase_is_one_key_for_each_salt() {
        let cheap = |salt| Stretch { salt: [salt; 16], memory_kib: 64, passes: 1, lanes: 1 };
        let key = |stretch: Stretch, text: &str| *stretch.key(text).unwrap().expose();
        assert_eq!(key(cheap(1), "a b"), key(cheap(1), "a b"));
        assert_ne!(key(cheap(1), "a b"), key(cheap(1), "a B"));
        assert_ne!(key(cheap(1), "a b"), key(cheap(2), "a b"));
        assert!(Stretch { memory_kib: u32::MAX, ..cheap(1) }.key("a").is_none());
        assert!(Stretch { lanes: 0, ..cheap(1) }.key("a").is_none());
        assert_ne!(Stretch::new().unwrap().salt, Stretch::new().unwrap().salt);
    }
}
