//! The end that types the PIN or scans the QR.

use super::keys::Exchange;
use super::message::{Message, Pair1, Pair3, VERSION};
use super::{Channel, Failure, Identity, Mode, PairUri, Peer, Pin};
use crate::id::PublicKey;
use crate::peer::cpace;
use crate::peer::proof::Role;
use crate::peer::wire::Base64;

/// An initiator, by what it knows of the other device.
///
/// It asks once. Trying the same PIN again is for the user to decide: each attempt is a guess for whoever interferes.
#[derive(Clone, Copy)]
pub enum Initiator<'a> {
    /// The PIN that somebody typed.
    Pin(&'a Pin),
    /// The QR that was scanned.
    Qr(&'a PairUri),
}

/// PAIR1 is sent.
pub struct AwaitPair2 {
    cpace: cpace::Initiator,
    channel_id: Vec<u8>,
    pair1: Vec<u8>,
    peer: PublicKey,
}

/// PAIR3 is sent.
pub struct AwaitPair4 {
    exchange: Exchange,
    peer: PublicKey,
}

impl Initiator<'_> {
    /// Begins, once TLS is up: the state, and PAIR1 to send. `random` is fresh and used once.
    ///
    /// With a QR, the device at the other end must have the key that the QR names; otherwise nothing is sent.
    pub fn start(self, channel: &Channel, random: &[u8; 64]) -> Result<(AwaitPair2, Vec<u8>), Failure> {
        let (mode, pin, token) = match self {
            Self::Pin(pin) => (Mode::Pin, pin, None),
            Self::Qr(uri) if uri.key_hash != channel.peer.fingerprint() => return Err(Failure::IdentityMismatch),
            Self::Qr(uri) => (Mode::Qr, &uri.pin, Some(Base64(*uri.token.expose()))),
        };
        let channel_id = channel.id(mode);
        let (cpace, share) = cpace::Initiator::start(&channel.cpace(pin, &channel_id), random);
        let pair1 = Message::Pair1(Pair1 { v: VERSION, mode, share: Base64(share), t: token }).encode();
        Ok((AwaitPair2 { cpace, channel_id, pair1: pair1.clone(), peer: channel.peer }, pair1))
    }
}

impl AwaitPair2 {
    /// Takes PAIR2: the next state, and PAIR3 to send.
    pub fn on_pair2(self, payload: &[u8], identity: &Identity<'_>) -> Result<(AwaitPair4, Vec<u8>), Failure> {
        let Message::Pair2(pair2) = decode(payload)? else { return Err(Failure::Malformed) };
        if self.peer == identity.public_key() {
            return Err(Failure::Oneself);
        }
        let key = self.cpace.finish(&pair2.share.0).map_err(|_| Failure::Malformed)?;
        let exchange = Exchange::new(&self.channel_id, &self.pair1, payload, &key);
        let (tag, sealed) = exchange.prove(Role::Initiator, identity);
        let pair3 = Message::Pair3(Pair3 { tag_i: Base64(tag), sealed_i: Base64(sealed) }).encode();
        Ok((AwaitPair4 { exchange, peer: self.peer }, pair3))
    }
}

impl AwaitPair4 {
    /// Takes PAIR4: the device that is now paired. The responder has already stored this one.
    pub fn on_pair4(self, payload: &[u8]) -> Result<Peer, Failure> {
        let Message::Pair4(pair4) = decode(payload)? else { return Err(Failure::Malformed) };
        if !self.exchange.confirms(Role::Responder, &pair4.tag_r.0) {
            return Err(Failure::Interference);
        }
        self.exchange.open(Role::Responder, &pair4.tag_r.0, &pair4.sealed_r.0, &self.peer)
    }
}

/// The message in `payload`; a PAIR_FAIL is the failure that it tells of.
fn decode(payload: &[u8]) -> Result<Message, Failure> {
    match Message::decode(payload)? {
        Message::PairFail(fail) => Err(fail.into()),
        message => Ok(message),
    }
}
