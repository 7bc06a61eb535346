//! The identity that each end of a pairing seals to the other, once both have agreed on a key.

use ed25519_dalek::{Signature, Signer, VerifyingKey};

use super::message::SignedId;
use super::{Failure, Identity, LABEL, Peer};
use crate::id::PublicKey;
use crate::peer::cpace::SharedKey;
use crate::peer::proof::{Proof, Role};
use crate::peer::wire::{Base64, lv, to_json};
use crate::{limits, text};

/// One exchange after PAIR2.
pub(super) struct Exchange(Proof);

impl Exchange {
    /// `pair1` and `pair2` are the payloads as they travelled.
    pub(super) fn new(channel_id: &[u8], pair1: &[u8], pair2: &[u8], key: &SharedKey) -> Self {
        Self(Proof::new(LABEL, channel_id, pair1, pair2, key))
    }

    /// The tag and the sealed identity by which `role`, this end, proves itself.
    pub(super) fn prove(&self, role: Role, identity: &Identity<'_>) -> ([u8; 32], Vec<u8>) {
        let public_key = identity.public_key();
        let id = SignedId {
            public_key,
            device_name: text::device_name(identity.device_name, limits::DEVICE_NAME),
            sig: Base64(identity.key.sign(&self.signed(role, &public_key)).to_bytes()),
        };
        let tag = self.0.tag(role);
        (tag, self.0.seal(role, &tag, &to_json(&id)))
    }

    /// Whether `tag` is the one that `role`, the other end, sends if it knows the PIN. In constant time.
    pub(super) fn confirms(&self, role: Role, tag: &[u8; 32]) -> bool {
        self.0.confirms(role, tag)
    }

    /// The device that `role`, the other end, proves to be; `expected` is the key that TLS proved.
    pub(super) fn open(
        &self,
        role: Role,
        tag: &[u8; 32],
        sealed: &[u8],
        expected: &PublicKey,
    ) -> Result<Peer, Failure> {
        let id = self.0.unseal(role, tag, sealed).ok_or(Failure::Interference)?;
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
        lv(&[LABEL.as_bytes(), role.name().as_bytes(), self.0.transcript(), &public_key.0])
    }
}

#[cfg(test)]
mod tests {
    use data_encoding::HEXLOWER;
    use ed25519_dalek::SigningKey;
    use sha2::{Digest, Sha256};

    use super::*;
    use crate::secret::Secret;

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
            let sealed = exchange.0.seal(Role::Initiator, &tag, &to_json(&id));
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
        let sealed = exchange.0.seal(Role::Initiator, &tag, b"{}");
        assert_eq!(exchange.open(Role::Initiator, &tag, &sealed, &honest_key), Err(Failure::Malformed));
    }
}
