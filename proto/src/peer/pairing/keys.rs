//! What follows from the agreed key: the keys of one exchange, the proofs of knowing them, and the sealed identities.

use aes_gcm::aead::{Aead, Payload};
use aes_gcm::{Aes256Gcm, KeyInit, Nonce};
use ed25519_dalek::{Signature, Signer, VerifyingKey};
use hkdf::Hkdf;
use hmac::{Hmac, Mac};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use super::message::{Base64, SignedId, to_json};
use super::{Failure, Identity, LABEL, Peer, lv};
use crate::id::PublicKey;
use crate::peer::cpace::SharedKey;
use crate::secret::Secret;
use crate::{limits, text};

/// Which end speaks. It is part of every tag, key and signature, so that nothing can be sent back to where it came from.
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

/// One exchange after PAIR2: both ends hold the same if they know the same PIN, saw the same messages and share the
/// channel.
pub(super) struct Exchange {
    /// PRK.
    secret: Secret<[u8; 32]>,
    /// th.
    transcript: [u8; 32],
}

impl Exchange {
    /// `pair1` and `pair2` are the payloads as they travelled.
    pub(super) fn new(channel_id: &[u8], pair1: &[u8], pair2: &[u8], key: &SharedKey) -> Self {
        let transcript = Sha256::digest(lv(&[channel_id, pair1, pair2])).into();
        let (secret, _) = Hkdf::<Sha256>::extract(Some(LABEL.as_bytes()), key.expose());
        Self { secret: Secret::new(secret.into()), transcript }
    }

    /// The tag and the sealed identity by which `role`, this end, proves itself.
    pub(super) fn prove(&self, role: Role, identity: &Identity<'_>) -> ([u8; 32], Vec<u8>) {
        let public_key = identity.public_key();
        let id = SignedId {
            public_key,
            device_name: text::device_name(identity.device_name, limits::DEVICE_NAME),
            sig: Base64(identity.key.sign(&self.signed(role, &public_key)).to_bytes()),
        };
        let tag = self.mac(role).finalize().into_bytes().into();
        (tag, self.seal(role, &tag, &to_json(&id)))
    }

    /// Whether `tag` is the one that `role`, the other end, sends if it knows the PIN. In constant time.
    pub(super) fn confirms(&self, role: Role, tag: &[u8; 32]) -> bool {
        self.mac(role).verify_slice(tag).is_ok()
    }

    /// The device that `role`, the other end, proves to be; `expected` is the key that TLS proved.
    pub(super) fn open(
        &self,
        role: Role,
        tag: &[u8; 32],
        sealed: &[u8],
        expected: &PublicKey,
    ) -> Result<Peer, Failure> {
        let id = self.unseal(role, tag, sealed).ok_or(Failure::Interference)?;
        let id: SignedId = serde_json::from_slice(&id).map_err(|_| Failure::Malformed)?;
        if id.public_key != *expected {
            return Err(Failure::IdentityMismatch);
        }
        VerifyingKey::from_bytes(&expected.0)
            .and_then(|key| key.verify_strict(&self.signed(role, expected), &Signature::from_bytes(&id.sig.0)))
            .map_err(|_| Failure::IdentityMismatch)?;
        let device_name = text::device_name(&id.device_name, limits::DEVICE_NAME);
        Ok(Peer { public_key: id.public_key, device_name })
    }

    /// What `role` signs.
    fn signed(&self, role: Role, public_key: &PublicKey) -> Vec<u8> {
        lv(&[LABEL.as_bytes(), role.name().as_bytes(), &self.transcript, &public_key.0])
    }

    #[expect(clippy::expect_used, reason = "does not depend on bytes from outside")]
    fn mac(&self, role: Role) -> Hmac<Sha256> {
        let key = self.key(role.confirm_label());
        let mac = <Hmac<Sha256> as KeyInit>::new_from_slice(&*key).expect("HMAC takes keys of any length");
        mac.chain_update(role.name()).chain_update(self.transcript)
    }

    #[expect(clippy::expect_used, reason = "does not depend on bytes from outside")]
    fn seal(&self, role: Role, tag: &[u8; 32], id: &[u8]) -> Vec<u8> {
        let sealed = self.cipher(role).encrypt(&only_nonce(), Payload { msg: id, aad: tag });
        sealed.expect("an identity is far shorter than the 64 GiB of AES-GCM")
    }

    fn unseal(&self, role: Role, tag: &[u8; 32], sealed: &[u8]) -> Option<Vec<u8>> {
        self.cipher(role).decrypt(&only_nonce(), Payload { msg: sealed, aad: tag }).ok()
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

#[cfg(test)]
mod tests {
    use data_encoding::HEXLOWER;
    use ed25519_dalek::SigningKey;

    use super::*;

    fn exchange() -> Exchange {
        let key = Secret::new(std::array::from_fn(|i| i as u8));
        Exchange::new(b"channel", b"one", b"two", &key)
    }

    fn signer(seed: u8) -> SigningKey {
        SigningKey::from_bytes(&[seed; 32])
    }

    /// The values come from an independent derivation (Python, hashlib and OpenSSL) after PEER §4.
    #[test]
    fn the_key_schedule_is_the_documented_one() {
        let key = signer(1);
        for (role, tag, sealed) in [
            (
                Role::Initiator,
                "1aedf66fdd209b84f82c6da7553a06664f7e7d03f3d38e9794d00eeb54d7cfc9",
                "d77e30fee535e899e1781b06364a1c479470bc210432ddbb97d303415a5356b7",
            ),
            (
                Role::Responder,
                "9b061fb21931c664229b8fc1e69df53faa1f8deeed86b083ac59cfdbe357e499",
                "b4aec4e9ea22661352f085780ae11cd1ac1d5818d933a200cb7330927fbe569a",
            ),
        ] {
            let (our_tag, our_sealed) = exchange().prove(role, &Identity { key: &key, device_name: "nas" });
            assert_eq!(HEXLOWER.encode(&our_tag), tag);
            assert_eq!(HEXLOWER.encode(&Sha256::digest(our_sealed)), sealed);
        }
    }

    #[test]
    fn an_identity_must_prove_itself() {
        let (honest, other) = (signer(1), signer(2));
        let [honest_key, other_key] = [&honest, &other].map(|key| PublicKey(key.verifying_key().to_bytes()));
        let exchange = exchange();
        let tag = [5; 32];
        // What a device that knows the PIN may try: `claimed` beside a signature by `signer` in `role`.
        let open_signed = |claimed: PublicKey, sig: [u8; 64], expected: PublicKey| {
            let id = SignedId { public_key: claimed, device_name: "\u{202e}na\x1bs\n".to_owned(), sig: Base64(sig) };
            let sealed = exchange.seal(Role::Initiator, &tag, &to_json(&id));
            exchange.open(Role::Initiator, &tag, &sealed, &expected)
        };
        let open = |claimed: PublicKey, signer: &SigningKey, role: Role, expected: PublicKey| {
            open_signed(claimed, signer.sign(&exchange.signed(role, &claimed)).to_bytes(), expected)
        };

        let peer = open(honest_key, &honest, Role::Initiator, honest_key).unwrap();
        assert_eq!(peer, Peer { public_key: honest_key, device_name: "nas".to_owned() });

        let mismatch = Err(Failure::IdentityMismatch);
        assert_eq!(open(honest_key, &other, Role::Initiator, honest_key), mismatch, "signed by another key");
        assert_eq!(open(honest_key, &honest, Role::Responder, honest_key), mismatch, "signed in the other role");
        assert_eq!(open(honest_key, &honest, Role::Initiator, other_key), mismatch, "TLS proved another key");
        let no_point = PublicKey([2; 32]);
        assert_eq!(open(no_point, &honest, Role::Initiator, no_point), mismatch, "not a key at all");
        // The neutral point as key and as R, with s = 0: a signature of anything, by the lenient check.
        let neutral = PublicKey(std::array::from_fn(|i| u8::from(i == 0)));
        let of_anything = std::array::from_fn(|i| u8::from(i == 0));
        assert_eq!(open_signed(neutral, of_anything, neutral), mismatch, "a key that signs anything");

        let (other_tag, sealed) = exchange.prove(Role::Initiator, &Identity { key: &honest, device_name: "" });
        assert_eq!(exchange.open(Role::Initiator, &tag, &sealed, &honest_key), Err(Failure::Interference));
        assert_eq!(exchange.open(Role::Responder, &other_tag, &sealed, &honest_key), Err(Failure::Interference));
        let sealed = exchange.seal(Role::Initiator, &tag, b"{}");
        assert_eq!(exchange.open(Role::Initiator, &tag, &sealed, &honest_key), Err(Failure::Malformed));
    }
}
