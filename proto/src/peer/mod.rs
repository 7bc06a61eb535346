//! The peer door: what paired (and pairing) devices say to each other over TLS 1.3.
//!
//! ```text
//! pairing    PIN or QR into mutual trust: the exchange as state machines, the QR's text   (kith-pair/1)
//! share      handing credentials over, under a short code or between paired devices       (kith-share/1)
//! cpace      the balanced PAKE beneath both
//! proof      what follows from its key: tags and seals          wire   how messages are put into bytes
//! offer      sending files and texts                                                      (kith-send/1)
//! journal    entries, kept the same on several devices                                     (kith-sync/1)
//! join       becoming a member by a sharing code                                           (kith-join/1)
//! reconcile  what two sets differ in, by fingerprints of ranges
//! ```
//!
//! Every message is one frame: `[length: 4 bytes, big-endian][payload]`. A payload that begins with `{` is JSON with a
//! `type`; one that begins with [`offer::DATA`] is file content; journals have tags of their own ([`journal::wire`]). ALPN picks the protocol; there is no default one.

pub mod cpace;
pub mod join;
pub mod journal;
pub mod offer;
pub mod pairing;
mod proof;
pub mod reconcile;
pub mod share;
pub mod wire;

/// The protocols of the peer door, as ALPN names them (RFC 7301).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Alpn {
    /// Any Ed25519 key may connect, while a pairing window is open.
    Pair,
    /// Files and texts; only trusted keys.
    Send,
    /// Journals; only trusted keys.
    Sync,
    /// Credentials; only trusted keys at the peer door. A receiver that waits under a short code has a door of its own.
    Share,
    /// Any Ed25519 key may connect, and say one thing: JOIN.
    Join,
}

impl Alpn {
    /// Every protocol of this build.
    pub const ALL: [Self; 5] = [Self::Pair, Self::Send, Self::Sync, Self::Share, Self::Join];

    /// The protocol id on the wire.
    pub const fn as_bytes(self) -> &'static [u8] {
        match self {
            Self::Pair => b"kith-pair/1",
            Self::Send => b"kith-send/1",
            Self::Sync => b"kith-sync/1",
            Self::Share => b"kith-share/1",
            Self::Join => b"kith-join/1",
        }
    }

    /// The first of the `offered` protocols that this build speaks.
    pub fn choose<'a>(offered: impl IntoIterator<Item = &'a [u8]>) -> Option<Self> {
        offered.into_iter().find_map(|id| Self::ALL.into_iter().find(|alpn| alpn.as_bytes() == id))
    }
}
