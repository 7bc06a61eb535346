//! The messages of a share: JSON with a `type`; binary fields in base64url without padding; unknown fields ignored.

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::Failure;
use crate::limits;
use crate::peer::wire::{Base64, to_json};

/// The version that SHARE1 names.
pub const VERSION: u32 = 1;

/// Any message of a share.
#[derive(Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Message {
    /// Sender: here is my key share.
    Share1 {
        /// [`VERSION`].
        v: u32,
        /// Ya.
        share: Base64<[u8; 32]>,
    },
    /// Receiver: here is mine.
    Share2 {
        /// Yb.
        share: Base64<[u8; 32]>,
    },
    /// Sender: I know the code.
    Share3 {
        /// HMAC-SHA256 under the key `confirm i`.
        tag: Base64<[u8; 32]>,
    },
    /// Receiver: so do I.
    Share4 {
        /// HMAC-SHA256 under the key `confirm r`.
        tag: Base64<[u8; 32]>,
    },
    /// Either: it ends here.
    ShareFail(ShareFail),
    /// Sender: this is it.
    Payload {
        /// [`crate::credential::payload::Payload`] as JSON, AES-256-GCM under the key `seal i`, AAD = the tag of SHARE4.
        sealed: Base64<Vec<u8>>,
    },
    /// Sender, to a paired device: this is it.
    Offer {
        /// [`crate::credential::payload::Payload`] as JSON.
        payload: Base64<Zeroizing<Vec<u8>>>,
    },
    /// Receiver: this became of it.
    Result(Outcome),
}

/// Why an exchange ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "reason", rename_all = "snake_case")]
pub enum ShareFail {
    /// The tag is not the one that follows from the code.
    WrongCode,
    /// The code is used or burnt here.
    Gone,
    /// Whoever says this did not understand what it was sent.
    Malformed,
}

/// What became of a payload.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "snake_case")]
pub enum Outcome {
    /// It is saved.
    Saved,
    /// It waits in the inbox of a paired device.
    Waiting,
    /// The user does not want it.
    Declined,
    /// A name was taken, and that was not to happen.
    Conflict,
    /// The receiver expected the other kind, a secret or a database.
    WrongKind,
    /// It is not put together as it should be.
    Invalid {
        /// The field and what is wrong with it.
        #[serde(default)]
        detail: String,
    },
    /// The vault there is locked.
    Locked,
    /// Too much waits there already.
    Full,
    /// It was called off there, or its time was over.
    Canceled,
    /// The receiver could not save it.
    Failed,
    /// An outcome of a newer version.
    #[serde(other)]
    Unknown,
}

impl Message {
    /// The message in `payload`: at most [`limits::FRAME_CONTROL`] bytes of JSON.
    pub fn decode(payload: &[u8]) -> Result<Self, Failure> {
        if payload.len() > limits::FRAME_CONTROL {
            return Err(Failure::Malformed);
        }
        serde_json::from_slice(payload).map_err(|_| Failure::Malformed)
    }

    /// The payload of the frame that carries this.
    pub fn encode(&self) -> Vec<u8> {
        to_json(self)
    }
}
