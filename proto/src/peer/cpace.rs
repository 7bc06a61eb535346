//! CPace: two ends that know the same short password agree on a key that nobody else can guess offline.
//!
//! Suite CPACE-RISTR255-SHA512 in the initiator-responder setting, after draft-irtf-cfrg-cpace-21 (sections 7 and 8.3;
//! names in backquotes are the draft's). The generator of the group is itself a hash of the password, so that one
//! exchange tests one password and a recorded exchange tests none.
//!
//! ```text
//! initiator                                            responder
//! Initiator::start → (state, Ya)   ── Ya ──▶           respond(Ya) → (Yb, ISK)
//! state.finish(Yb) → ISK           ◀── Yb ──
//! ```
//!
//! Deliberately absent: key confirmation. Two different passwords give two different keys and no error here; the
//! caller must let both ends prove their key (as [`super::pairing`] does). Absent as well: the symmetric setting and
//! the derived session id.

use curve25519_dalek::ristretto::{CompressedRistretto, RistrettoPoint};
use curve25519_dalek::scalar::Scalar;
use curve25519_dalek::traits::IsIdentity;
use sha2::{Digest, Sha512};
use zeroize::Zeroizing;

use crate::secret::Secret;

/// `DSI`: keeps these hashes apart from those of any other group.
const DSI: &[u8] = b"CPaceRistretto255";
/// `DSI_ISK`: keeps the hash of the key apart from that of the generator.
const DSI_ISK: &[u8] = b"CPaceRistretto255_ISK";
/// `s_in_bytes`: the input block of SHA-512.
const HASH_BLOCK: usize = 128;

/// A key share, `Ya` or `Yb`: a ristretto255 element in its canonical encoding.
pub type Share = [u8; 32];
/// `ISK`, the agreed key. Hash it with the transcript before use.
pub type SharedKey = Secret<[u8; 64]>;

/// The share of the other end is not one that an honest end sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the key share is not a canonical ristretto255 element, or is the neutral one")]
pub struct InvalidShare;

/// What both ends must have in common to arrive at the same key.
#[derive(Clone, Copy)]
pub struct Input<'a> {
    /// `PRS`, the password. Secret.
    pub password: &'a [u8],
    /// `CI`: who talks to whom over which channel.
    pub channel_id: &'a [u8],
    /// `sid`: different in each exchange.
    pub session_id: &'a [u8],
    /// `ADa`: what the initiator says beside its share.
    pub ad_initiator: &'a [u8],
    /// `ADb`: what the responder says beside its share.
    pub ad_responder: &'a [u8],
}

/// The end that speaks first, waiting for the other's share.
pub struct Initiator {
    scalar: Zeroizing<Scalar>,
    share: Share,
    session_id: Vec<u8>,
    ad_initiator: Vec<u8>,
    ad_responder: Vec<u8>,
}

impl Initiator {
    /// Begins an exchange: the state, and the share to send. `random` is fresh for each exchange and used once.
    pub fn start(input: &Input<'_>, random: &[u8; 64]) -> (Self, Share) {
        let scalar = sample_scalar(random);
        let share = new_share(input, &scalar);
        let state = Self {
            scalar,
            share,
            session_id: input.session_id.to_vec(),
            ad_initiator: input.ad_initiator.to_vec(),
            ad_responder: input.ad_responder.to_vec(),
        };
        (state, share)
    }

    /// Ends the exchange with the responder's share.
    pub fn finish(self, responder_share: &Share) -> Result<SharedKey, InvalidShare> {
        let secret_point = scalar_mult_vfy(&self.scalar, responder_share)?;
        let transcript = [&self.share[..], &self.ad_initiator, responder_share, &self.ad_responder];
        Ok(session_key(&self.session_id, &secret_point, transcript))
    }
}

/// The responder's whole part: its share to send, and the key. `random` is fresh for each exchange and used once.
pub fn respond(
    input: &Input<'_>,
    initiator_share: &Share,
    random: &[u8; 64],
) -> Result<(Share, SharedKey), InvalidShare> {
    let scalar = sample_scalar(random);
    let secret_point = scalar_mult_vfy(&scalar, initiator_share)?;
    let share = new_share(input, &scalar);
    let transcript = [&initiator_share[..], input.ad_initiator, &share, input.ad_responder];
    Ok((share, session_key(input.session_id, &secret_point, transcript)))
}

/// `sample_scalar`, from twice the bytes that the draft takes: the result has no bias worth the name.
fn sample_scalar(random: &[u8; 64]) -> Zeroizing<Scalar> {
    Zeroizing::new(Scalar::from_bytes_mod_order_wide(random))
}

/// `scalar_mult(y, g)`, encoded.
fn new_share(input: &Input<'_>, scalar: &Scalar) -> Share {
    let generator = calculate_generator(input);
    (*generator * scalar).compress().to_bytes()
}

/// `calculate_generator`. Secret, since it would let anybody test passwords.
fn calculate_generator(input: &Input<'_>) -> Zeroizing<RistrettoPoint> {
    let hash: Zeroizing<[u8; 64]> = Zeroizing::new(Sha512::digest(generator_string(input).as_slice()).into());
    Zeroizing::new(RistrettoPoint::from_uniform_bytes(&hash))
}

/// `generator_string`: the zeros fill the first hash block, so that the password is hashed apart from what others chose,
/// and how long that takes does not tell its length.
fn generator_string(input: &Input<'_>) -> Zeroizing<Vec<u8>> {
    // Large enough from the start: growing would leave copies of the password behind.
    let capacity = 2 * HASH_BLOCK + input.password.len() + input.channel_id.len() + input.session_id.len();
    let mut string = Zeroizing::new(Vec::with_capacity(capacity));
    prepend_len(DSI, |bytes| string.extend_from_slice(bytes));
    prepend_len(input.password, |bytes| string.extend_from_slice(bytes));
    let zeros = [0; HASH_BLOCK];
    let padding = (HASH_BLOCK - 1).saturating_sub(string.len());
    prepend_len(zeros.get(..padding).unwrap_or_default(), |bytes| string.extend_from_slice(bytes));
    prepend_len(input.channel_id, |bytes| string.extend_from_slice(bytes));
    prepend_len(input.session_id, |bytes| string.extend_from_slice(bytes));
    string
}

/// `scalar_mult_vfy`: the product, unless the share or the product is one that would give the key away.
fn scalar_mult_vfy(scalar: &Scalar, share: &Share) -> Result<Zeroizing<[u8; 32]>, InvalidShare> {
    let point = CompressedRistretto(*share).decompress().ok_or(InvalidShare)?;
    let product = Zeroizing::new(point * scalar);
    // The group has prime order: the product is neutral only if the share (or, once in 2^252, the scalar) is.
    if product.is_identity() {
        return Err(InvalidShare);
    }
    Ok(Zeroizing::new(product.compress().to_bytes()))
}

/// `ISK = H(lv_cat(DSI_ISK, sid, K) ‖ transcript_ir(Ya, ADa, Yb, ADb))`.
fn session_key(session_id: &[u8], secret_point: &[u8; 32], transcript: [&[u8]; 4]) -> SharedKey {
    let mut hash = Sha512::new();
    for part in [DSI_ISK, session_id, secret_point].into_iter().chain(transcript) {
        prepend_len(part, |bytes| hash.update(bytes));
    }
    Secret::new(hash.finalize().into())
}

/// `prepend_len`: the length of `part` in LEB128, then `part`, both given to `sink`.
fn prepend_len(part: &[u8], mut sink: impl FnMut(&[u8])) {
    let mut rest = part.len();
    while rest >= 0x80 {
        sink(&[(rest & 0x7f) as u8 | 0x80]);
        rest >>= 7;
    }
    sink(&[rest as u8]);
    sink(part);
}

#[cfg(test)]
mod tests;
