//! What follows from a key that two ends agreed on by [`super::cpace`]: each proves to the other that it knows the same
//! password, and seals what it then says.
//!
//! ```text
//! th  = SHA-256(lv(channel id) lv(first message) lv(second message))      PRK = HKDF-Extract-SHA256(label, ISK)
//! key = HKDF-Expand(PRK, lv(what) lv(th), 32)                             what ∈ confirm i, confirm r, seal i, seal r
//! tag = HMAC-SHA256(confirm key, role ‖ th)                               sealed = AES-256-GCM(seal key, AAD, text)
//! ```
//!
//! The label tells protocols apart, the channel id connections: see PEER §4.

use aes_gcm::aead::{Aead, Payload};
use aes_gcm::{Aes256Gcm, KeyInit, Nonce};
use hkdf::Hkdf;
use hmac::{Hmac, Mac};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use super::cpace::SharedKey;
use super::wire::lv;
use crate::secret::Secret;

/// Which end speaks. It is part of every tag and key, so that nothing can be sent back to where it came from.
#[derive(Clone, Copy)]
pub(super) enum Role {
    Initiator,
    Responder,
}

impl Role {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Initiator => "i",
            Self::Responder => "r",
        }
    }

    fn confirm_label(self) -> &'static str {
        match self {
            Self::Initiator => "confirm i",
            Self::Responder => "confirm r",
        }
    }

    fn seal_label(self) -> &'static str {
        match self {
            Self::Initiator => "seal i",
            Self::Responder => "seal r",
        }
    }
}

/// One exchange after its second message: both ends hold the same if they know the same password, saw the same messages
/// and share the channel.
pub(super) struct Proof {
    /// PRK.
    secret: Secret<[u8; 32]>,
    /// th.
    transcript: [u8; 32],
}

impl Proof {
    /// `first` and `second` are the payloads as they travelled.
    pub(super) fn new(label: &str, channel_id: &[u8], first: &[u8], second: &[u8], key: &SharedKey) -> Self {
        let transcript = Sha256::digest(lv(&[channel_id, first, second])).into();
        let (secret, _) = Hkdf::<Sha256>::extract(Some(label.as_bytes()), key.expose());
        Self { secret: Secret::new(secret.into()), transcript }
    }

    /// th.
    pub(super) fn transcript(&self) -> &[u8; 32] {
        &self.transcript
    }

    /// By which `role`, this end, shows that it knows the password.
    pub(super) fn tag(&self, role: Role) -> [u8; 32] {
        self.mac(role).finalize().into_bytes().into()
    }

    /// Whether `tag` is the one that `role`, the other end, sends if it knows the password. In constant time.
    pub(super) fn confirms(&self, role: Role, tag: &[u8; 32]) -> bool {
        self.mac(role).verify_slice(tag).is_ok()
    }

    /// `text`, sealed by `role`. Once an exchange and role: the nonce is always the same.
    #[expect(clippy::expect_used, reason = "does not depend on bytes from outside")]
    pub(super) fn seal(&self, role: Role, aad: &[u8; 32], text: &[u8]) -> Vec<u8> {
        let sealed = self.cipher(role).encrypt(&only_nonce(), Payload { msg: text, aad });
        sealed.expect("a message is far shorter than the 64 GiB of AES-GCM")
    }

    /// What `role` sealed.
    pub(super) fn unseal(&self, role: Role, aad: &[u8; 32], sealed: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
        self.cipher(role).decrypt(&only_nonce(), Payload { msg: sealed, aad }).ok().map(Zeroizing::new)
    }

    #[expect(clippy::expect_used, reason = "does not depend on bytes from outside")]
    fn mac(&self, role: Role) -> Hmac<Sha256> {
        let key = self.key(role.confirm_label());
        let mac = <Hmac<Sha256> as KeyInit>::new_from_slice(&*key).expect("HMAC takes keys of any length");
        mac.chain_update(role.name()).chain_update(self.transcript)
    }

    fn cipher(&self, role: Role) -> Aes256Gcm {
        Aes256Gcm::new((&*self.key(role.seal_label())).into())
    }

    #[expect(clippy::expect_used, reason = "does not depend on bytes from outside")]
    fn key(&self, label: &str) -> Zeroizing<[u8; 32]> {
        let mut key = Zeroizing::new([0; 32]);
        Hkdf::<Sha256>::from_prk(self.secret.expose())
            .expect("32 bytes are one SHA-256")
            .expand(&lv(&[label.as_bytes(), &self.transcript]), &mut *key)
            .expect("32 bytes are fewer than 255 SHA-256");
        key
    }
}

/// All zeros: each seal key is fresh for its exchange (both ends' random shares are in it) and seals one message in one
/// direction, so a nonce has nothing to tell apart.
fn only_nonce() -> Nonce<aes_gcm::aead::consts::U12> {
    Nonce::default()
}
