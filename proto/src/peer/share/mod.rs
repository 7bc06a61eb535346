//! Handing credentials over, `kith-share/1`: under a short code to whoever types it, or to a paired device.
//!
//! ```text
//! sender: made the code and shows it (TLS client)     receiver: the code was typed here (TLS server)
//! Sender::start → AwaitShare2          ─ SHARE1 ─▶    Receiver::on_share1 → AwaitShare3
//! AwaitShare2::on_share2 → AwaitShare4 ◀─ SHARE2 ─
//!                                      ─ SHARE3 ─▶    AwaitShare3::on_share3 → AwaitPayload
//! AwaitShare4::on_share4 → Confirmed   ◀─ SHARE4 ─
//! Confirmed::payload                   ─ PAYLOAD ▶    AwaitPayload::on_payload
//!                                      ◀ RESULT ──    saved, declined, …: "sent" means saved
//!
//! announcement  how a receiver says where it is
//! message       what goes over the wire
//! ```
//!
//! The proof is that of a pairing (PEER §4) with another label: CPace over the digits, bound to the TLS exporter and to
//! the receiver's certificate, then a tag from each side. The sender confirms first, and nothing else leaves it before
//! the receiver has confirmed as well; the payload is sealed once more under the agreed key.
//!
//! What holds: an exchange tests one code; a recording tests none; a relay between the two fails, even with the right
//! code. Each side counts failed confirmations, and after [`limits::SHORT_CODE_ATTEMPTS`] the code is burnt: whoever
//! guesses wins with at most 3 in 10,000 (four digits) against either side. What is malformed, or breaks off before a
//! tag was sent, costs nothing. Anybody on the network can burn a code, and gains nothing by it.
//!
//! Between paired devices TLS proves both ends, so OFFER and RESULT are all that is said.

pub mod announcement;
pub mod message;
mod receiver;
mod sender;

pub use receiver::{AwaitPayload, AwaitShare3, Receiver};
pub use sender::{AwaitShare2, AwaitShare4, Confirmed, Sender};

use super::proof::Role;
use super::wire::lv;
use crate::peer::cpace;
use crate::short_code::ShortCode;
use crate::{limits, text};

use message::{Message, ShareFail};

/// Keeps the hashes of this protocol apart from all others.
const LABEL: &str = "kith-share/1";
/// The label of the TLS exporter (RFC 8446 §7.5; context empty, 32 bytes) that gives [`Channel::exporter`].
pub const EXPORTER_LABEL: &str = "EXPORTER-kith-share-v1";

/// What this end's TLS says about the connection.
#[derive(Clone)]
pub struct Channel {
    /// SHA-256 of the receiver's certificate (DER): the one received, on the sender; the one sent, on the receiver.
    pub certificate_hash: [u8; 32],
    /// The TLS exporter under [`EXPORTER_LABEL`]: different in each connection, and on both sides of a relay.
    pub exporter: [u8; 32],
}

impl Channel {
    /// CI, which CPace makes part of the password.
    fn id(&self) -> Vec<u8> {
        lv(&[LABEL.as_bytes(), b"code", &self.certificate_hash, &self.exporter])
    }

    fn cpace<'a>(&'a self, code: &'a ShortCode, channel_id: &'a [u8]) -> cpace::Input<'a> {
        cpace::Input {
            password: code.expose().as_bytes(),
            channel_id,
            session_id: &self.exporter,
            ad_initiator: Role::Initiator.name().as_bytes(),
            ad_responder: Role::Responder.name().as_bytes(),
        }
    }
}

/// Why an exchange came to nothing. Nothing was handed over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// The two ends do not know the same code, or do not sit at the two ends of one channel.
    #[error("the other side has another code, or another device is interfering")]
    WrongCode,
    /// The code is used or burnt.
    #[error("the code is used up")]
    Gone,
    /// What came is no message of a share, or none that belongs here.
    #[error("the other side did not keep to the protocol")]
    Malformed,
}

impl Failure {
    /// The payload of the SHARE_FAIL frame for the other end, which learns no more than it needs.
    pub fn to_payload(self) -> Vec<u8> {
        let fail = match self {
            Self::WrongCode => ShareFail::WrongCode,
            Self::Gone => ShareFail::Gone,
            Self::Malformed => ShareFail::Malformed,
        };
        Message::ShareFail(fail).encode()
    }
}

impl From<ShareFail> for Failure {
    fn from(fail: ShareFail) -> Self {
        match fail {
            ShareFail::WrongCode => Self::WrongCode,
            ShareFail::Gone => Self::Gone,
            ShareFail::Malformed => Self::Malformed,
        }
    }
}

/// A text about a payload that the other side may show: one short line.
pub fn detail(raw: &str) -> String {
    text::printable(text::cut(raw, limits::SHARE_DETAIL)).into_owned()
}

#[cfg(test)]
mod tests;
