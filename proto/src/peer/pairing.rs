//! Pairing, ALPN `kith-pair/1`: a six-digit PIN or a QR code becomes trust in two full public keys.
//!
//! ```text
//! responder: shows PIN and QR                     initiator: types the PIN or scans the QR
//! Window::open                                    Initiator::start → AwaitPair2
//! Window::on_pair1 → AwaitPair3        ◀─ PAIR1 ─
//!                                       ─ PAIR2 ─▶ AwaitPair2::on_pair2 → AwaitPair4
//! AwaitPair3::on_pair3 → Peer          ◀─ PAIR3 ─
//!                                       ─ PAIR4 ─▶ AwaitPair4::on_pair4 → Peer
//!
//! message   what goes over the wire        pin   six digits          uri   what the QR says
//! keys      the identity that each end seals to the other
//! ```
//!
//! A state takes the payload of a frame and gives back the next state and the payload to send; whatever goes wrong is a
//! [`Failure`], and [`Failure::to_payload`] is what the other end is told about it. Payloads stay bytes on purpose: both
//! ends hash what truly travelled.
//!
//! What holds (PEER §4): an exchange tests one PIN, whether it is finished or not; a recording tests none; both ends
//! must see the same TLS channel, so that a relay between them fails even when it is given the right PIN; and each end's
//! key must be the one that its TLS certificate proved.

use ed25519_dalek::SigningKey;
use serde::{Deserialize, Serialize};

use crate::id::PublicKey;
use crate::peer::cpace;
use crate::peer::proof::Role;
use crate::peer::wire::lv;

mod initiator;
mod keys;
pub mod message;
mod responder;
mod uri;

pub use crate::pin::{NotAPin, Pin};
pub use initiator::{AwaitPair2, AwaitPair4, Initiator};
pub use responder::{AwaitPair3, Window};
pub use uri::{PairUri, UriError};

use message::{Message, PairFail};

/// Keeps the hashes and signatures of this protocol apart from all others.
const LABEL: &str = "kith-pair/1";
/// The label of the TLS exporter (RFC 8446 §7.5; context empty, 32 bytes) that gives [`Channel::exporter`].
pub const EXPORTER_LABEL: &str = "EXPORTER-kith-pair-v1";

/// How the initiator came to know the PIN. Both ends mix it into every key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// Somebody typed it.
    Pin,
    /// It was scanned, together with the key of the device that shows it and a token that nobody can guess.
    Qr,
}

impl Mode {
    fn name(self) -> &'static str {
        match self {
            Self::Pin => "pin",
            Self::Qr => "qr",
        }
    }
}

/// What this end's TLS says about the connection.
#[derive(Clone)]
pub struct Channel {
    /// SHA-256 of the responder's certificate (DER): the one received, on the initiator; the one sent, on the responder.
    pub certificate_hash: [u8; 32],
    /// The TLS exporter under [`EXPORTER_LABEL`]: different in each connection, and on both sides of a relay.
    pub exporter: [u8; 32],
    /// The key that the other end's certificate carries and its handshake proved.
    pub peer: PublicKey,
}

impl Channel {
    /// CI, which CPace makes part of the password: other channel, other generator.
    fn id(&self, mode: Mode) -> Vec<u8> {
        lv(&[LABEL.as_bytes(), mode.name().as_bytes(), &self.certificate_hash, &self.exporter])
    }

    fn cpace<'a>(&'a self, pin: &'a Pin, channel_id: &'a [u8]) -> cpace::Input<'a> {
        cpace::Input {
            password: pin.expose().as_bytes(),
            channel_id,
            session_id: &self.exporter,
            ad_initiator: Role::Initiator.name().as_bytes(),
            ad_responder: Role::Responder.name().as_bytes(),
        }
    }
}

/// This device, as it introduces itself to the other.
#[derive(Clone, Copy)]
pub struct Identity<'a> {
    /// The key of this device, the one in its certificate.
    pub key: &'a SigningKey,
    /// What people call it.
    pub device_name: &'a str,
}

impl Identity<'_> {
    fn public_key(&self) -> PublicKey {
        PublicKey(self.key.verifying_key().to_bytes())
    }
}

/// The other device, proven to hold its key and to know the PIN.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// What to trust from now on.
    pub public_key: PublicKey,
    /// What it calls itself: printable, one line, at most [`crate::limits::DEVICE_NAME`] bytes. Not unique.
    pub device_name: String,
}

/// Why a pairing came to nothing. Nothing was stored, and nothing that was trusted before is affected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// The two ends do not know the same PIN, or do not sit at the two ends of one channel. The user's to settle.
    #[error("wrong PIN, or another device is interfering; attempts left: {attempts_left}")]
    WrongPin {
        /// How many more guesses the PIN survives.
        attempts_left: u32,
    },
    /// Nothing to pair with. The user's to settle.
    #[error("that PIN or QR code is used up, expired or withdrawn; make a new one on the device that shows it")]
    Gone,
    /// The responder accepted the PIN and then failed to prove that it knows it, or what it sealed was changed.
    #[error("another device is interfering with the pairing; move to a network you trust, or use the QR code")]
    Interference,
    /// A key that is not the one the connection, or the QR code, speaks for. The peer's fault.
    #[error(
        "the other device is not the one that the connection or the QR code speaks for; move to a network you trust"
    )]
    IdentityMismatch,
    /// The connection leads back to this device. Nobody's fault.
    #[error("that is this device; start the pairing from the other one")]
    Oneself,
    /// What came is no pairing message, or none that belongs here. The peer's fault.
    #[error("the other device did not keep to the pairing protocol; check that it is up to date")]
    Malformed,
    /// The peer says [`Failure::Malformed`] of us.
    #[error("the other device did not understand this one; check that both are up to date")]
    NotUnderstood,
}

impl Failure {
    /// The payload of the PAIR_FAIL frame for the other end, which learns no more than it needs to tell its user.
    pub fn to_payload(self) -> Vec<u8> {
        let fail = match self {
            Self::WrongPin { attempts_left } => PairFail::WrongPin { attempts_left },
            Self::Gone => PairFail::Gone,
            Self::Interference | Self::IdentityMismatch | Self::Oneself | Self::Malformed | Self::NotUnderstood => {
                PairFail::Malformed
            }
        };
        Message::PairFail(fail).encode()
    }
}

impl From<PairFail> for Failure {
    fn from(fail: PairFail) -> Self {
        match fail {
            PairFail::WrongPin { attempts_left } => Self::WrongPin { attempts_left },
            PairFail::Gone => Self::Gone,
            PairFail::Malformed => Self::NotUnderstood,
        }
    }
}

#[cfg(test)]
mod tests;
