//! The peer door: what paired (and pairing) devices say to each other over TLS 1.3.
//!
//! ```text
//! pairing    PIN or QR into mutual trust: the exchange as state machines, the QR's text   (kith-pair/1)
//! cpace      the balanced PAKE beneath it
//! offer      sending files and texts                                                      (kith-send/1)
//! journal    entries, kept the same on several devices                                     (kith-sync/1)
//! reconcile  what two sets differ in, by fingerprints of ranges
//! share      credentials for a device that is not paired
//! ```
//!
//! Every message is one frame: `[length: 4 bytes, big-endian][payload]`. A payload that begins with `{` is JSON with a
//! `type`; one that begins with [`offer::DATA`] is file content; journals have tags of their own ([`journal::wire`]). ALPN picks the protocol; there is no default one.

pub mod cpace;
pub mod journal;
pub mod offer;
pub mod pairing;
pub mod reconcile;
pub mod share;

/// The protocols of the peer door, as ALPN names them (RFC 7301).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Alpn {
    /// Any Ed25519 key may connect, while a pairing window is open.
    Pair,
    /// Files and texts; only trusted keys.
    Send,
    /// Journals; only trusted keys.
    Sync,
}

impl Alpn {
    /// Every protocol of this build.
    pub const ALL: [Self; 3] = [Self::Pair, Self::Send, Self::Sync];

    /// The protocol id on the wire.
    pub const fn as_bytes(self) -> &'static [u8] {
        match self {
            Self::Pair => b"kith-pair/1",
            Self::Send => b"kith-send/1",
            Self::Sync => b"kith-sync/1",
        }
    }

    /// The first of the `offered` protocols that this build speaks.
    pub fn choose<'a>(offered: impl IntoIterator<Item = &'a [u8]>) -> Option<Self> {
        offered.into_iter().find_map(|id| Self::ALL.into_iter().find(|alpn| alpn.as_bytes() == id))
    }
}
