//! The messages of a pairing: JSON with a `type`; binary fields in base64url without padding; unknown fields ignored.

use serde::{Deserialize, Serialize};

use super::{Failure, Mode};
use crate::limits;
use crate::peer::wire::{Base64, to_json};

/// The version that PAIR1 names.
pub const VERSION: u32 = 1;

/// Any message of a pairing.
#[derive(Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
#[expect(missing_docs, reason = "each variant is the message of its name")]
pub enum Message {
    Pair1(Pair1),
    Pair2(Pair2),
    Pair3(Pair3),
    Pair4(Pair4),
    PairFail(PairFail),
}

/// I→R: here is my key share.
#[derive(Serialize, Deserialize)]
pub struct Pair1 {
    /// [`VERSION`].
    pub v: u32,
    /// How the initiator came to know the PIN.
    pub mode: Mode,
    /// Ya.
    pub share: Base64<[u8; 32]>,
    /// The token of the QR; required in mode `qr`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub t: Option<Base64<[u8; 16]>>,
}

/// R→I: here is mine.
#[derive(Serialize, Deserialize)]
pub struct Pair2 {
    /// Yb.
    pub share: Base64<[u8; 32]>,
    /// How many more guesses the PIN survives, this one already counted.
    pub attempts_left: u32,
}

/// I→R: I know the PIN, and this is who I am.
#[derive(Serialize, Deserialize)]
pub struct Pair3 {
    /// HMAC-SHA256 under the key `confirm i`.
    pub tag_i: Base64<[u8; 32]>,
    /// The initiator's [`SignedId`], AES-256-GCM under the key `seal i`.
    pub sealed_i: Base64<Vec<u8>>,
}

/// R→I: so do I, and this is who I am.
#[derive(Serialize, Deserialize)]
pub struct Pair4 {
    /// HMAC-SHA256 under the key `confirm r`.
    pub tag_r: Base64<[u8; 32]>,
    /// The responder's [`SignedId`], AES-256-GCM under the key `seal r`.
    pub sealed_r: Base64<Vec<u8>>,
}

/// Either way: it ends here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "reason", rename_all = "snake_case")]
pub enum PairFail {
    /// The initiator's tag is not the one that follows from the PIN.
    WrongPin {
        /// How many more guesses the PIN survives.
        attempts_left: u32,
    },
    /// No PIN is shown, or not any more, or the token is not that of its QR.
    Gone,
    /// The sender of this did not understand, or did not believe, what it was sent.
    Malformed,
}

/// What `sealed_i` and `sealed_r` hold.
#[derive(Serialize, Deserialize)]
pub struct SignedId {
    /// The key to trust.
    pub public_key: crate::id::PublicKey,
    /// What the device calls itself; not cleaned yet.
    pub device_name: String,
    /// Ed25519 by that key over this very exchange.
    pub sig: Base64<[u8; 64]>,
}

impl Message {
    /// The message in `payload`, at most [`limits::FRAME_UNAUTHENTICATED`] bytes of JSON.
    pub fn decode(payload: &[u8]) -> Result<Self, Failure> {
        if payload.len() > limits::FRAME_UNAUTHENTICATED {
            return Err(Failure::Malformed);
        }
        serde_json::from_slice(payload).map_err(|_| Failure::Malformed)
    }

    /// The payload of the frame that carries this.
    pub fn encode(&self) -> Vec<u8> {
        to_json(self)
    }
}
