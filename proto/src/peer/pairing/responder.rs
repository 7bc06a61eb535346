//! The end that shows the PIN and the QR.

use std::net::IpAddr;
use std::ops::Range;

use subtle::ConstantTimeEq;

use super::keys::Exchange;
use super::message::{Message, Pair2, Pair4, VERSION};
use super::{Channel, Failure, Identity, Mode, PairUri, Peer, Pin};
use crate::id::PublicKey;
use crate::peer::cpace;
use crate::peer::proof::Role;
use crate::peer::wire::Base64;
use crate::{limits, secret::Secret};

/// The time in which this device can be paired with: one PIN, one success, [`limits::PIN_ATTEMPTS`] guesses.
///
/// A guess is counted when it begins, so that guessers who say nothing afterwards and guessers in parallel gain nothing.
/// Typed PINs and scanned QRs are counted apart: whoever burns the typed PIN (anybody on the network can) does not stop
/// the holder of the QR, whose token nobody guesses.
///
/// Times are milliseconds of one monotonic clock; before its opening the window is as closed as after its end.
/// Dropping a window withdraws it.
pub struct Window {
    /// Ties the exchanges that began here to this window and no later one.
    id: [u8; 16],
    open: Range<u64>,
    /// Erased with the last attempt that needs it, and at the end.
    pin: Option<Pin>,
    token: Option<Secret<[u8; 16]>>,
    pin_attempts: u32,
    qr_attempts: u32,
}

/// PAIR2 is sent.
pub struct AwaitPair3 {
    exchange: Exchange,
    window: [u8; 16],
    mode: Mode,
    peer: PublicKey,
}

impl Window {
    /// Opens a window with a new PIN for [`limits::PIN_SECONDS`]; with a `qr`, also with a token for it. `fill` fills
    /// its argument with random bytes.
    pub fn open(qr: bool, fill: &mut impl FnMut(&mut [u8]), now_ms: u64) -> Self {
        let mut random = || {
            let mut bytes = [0; 16];
            fill(&mut bytes);
            bytes
        };
        let (id, token) = (random(), qr.then(|| Secret::new(random())));
        Self {
            id,
            open: now_ms..now_ms.saturating_add(limits::PIN_SECONDS * 1000),
            pin: Some(Pin::from_random(fill)),
            qr_attempts: if token.is_some() { limits::PIN_ATTEMPTS } else { 0 },
            token,
            pin_attempts: limits::PIN_ATTEMPTS,
        }
    }

    /// The PIN to show, as long as somebody may still type it.
    pub fn pin(&self) -> Option<&Pin> {
        self.pin.as_ref().filter(|_| self.pin_attempts > 0)
    }

    /// What the QR to show says, as long as somebody may still scan it; `addresses` beyond [`limits::PEER_ADDRESSES`]
    /// are left out. `port` is the peer door's, `key` is this device's.
    pub fn uri(&self, addresses: &[IpAddr], port: u16, key: &PublicKey) -> Option<PairUri> {
        if self.qr_attempts == 0 {
            return None;
        }
        Some(PairUri {
            addresses: addresses.iter().copied().take(limits::PEER_ADDRESSES).collect(),
            port,
            device_id: key.device_id(),
            pin: self.pin.as_ref()?.duplicate(),
            key_hash: key.fingerprint(),
            token: Secret::new(*self.token.as_ref()?.expose()),
        })
    }

    /// How many more guesses may begin.
    pub fn attempts_left(&self, mode: Mode) -> u32 {
        match mode {
            Mode::Pin => self.pin_attempts,
            Mode::Qr => self.qr_attempts,
        }
    }

    /// Whether an exchange can still succeed: the PIN is neither used nor expired. All attempts may have begun already.
    pub fn is_open(&self, now_ms: u64) -> bool {
        self.open.contains(&now_ms)
    }

    /// Takes PAIR1: the next state, and PAIR2 to send. `random` is fresh and used once.
    ///
    /// What is no PAIR1 costs nothing, nor does a wrong token; whatever else begins costs an attempt before anything is
    /// computed from the PIN.
    pub fn on_pair1(
        &mut self,
        payload: &[u8],
        channel: &Channel,
        random: &[u8; 64],
        now_ms: u64,
    ) -> Result<(AwaitPair3, Vec<u8>), Failure> {
        let Message::Pair1(pair1) = Message::decode(payload)? else { return Err(Failure::Malformed) };
        if pair1.v != VERSION {
            return Err(Failure::Malformed);
        }
        self.check_open(now_ms)?;
        if pair1.mode == Mode::Qr {
            self.check_token(pair1.t.as_ref())?;
        }
        self.take_attempt(pair1.mode)?;

        let channel_id = channel.id(pair1.mode);
        let pin = self.pin.as_ref().ok_or(Failure::Gone)?;
        let response = cpace::respond(&channel.cpace(pin, &channel_id), &pair1.share.0, random);
        if self.pin_attempts == 0 && self.qr_attempts == 0 {
            self.erase();
        }
        let (share, key) = response.map_err(|_| Failure::Malformed)?;

        let attempts_left = self.attempts_left(pair1.mode);
        let pair2 = Message::Pair2(Pair2 { share: Base64(share), attempts_left }).encode();
        let exchange = Exchange::new(&channel_id, payload, &pair2, &key);
        Ok((AwaitPair3 { exchange, window: self.id, mode: pair1.mode, peer: channel.peer }, pair2))
    }

    fn check_open(&mut self, now_ms: u64) -> Result<(), Failure> {
        if self.is_open(now_ms) {
            return Ok(());
        }
        self.close();
        Err(Failure::Gone)
    }

    fn check_token(&self, token: Option<&Base64<[u8; 16]>>) -> Result<(), Failure> {
        let (Some(ours), Some(theirs)) = (&self.token, token) else { return Err(Failure::Gone) };
        if bool::from(ours.expose().ct_eq(&theirs.0)) { Ok(()) } else { Err(Failure::Gone) }
    }

    fn take_attempt(&mut self, mode: Mode) -> Result<(), Failure> {
        let left = match mode {
            Mode::Pin => &mut self.pin_attempts,
            Mode::Qr => &mut self.qr_attempts,
        };
        *left = left.checked_sub(1).ok_or(Failure::Gone)?;
        Ok(())
    }

    /// No exchange begins any more; one that has begun may still succeed.
    fn erase(&mut self) {
        self.pin = None;
        self.token = None;
    }

    /// No exchange succeeds any more.
    fn close(&mut self) {
        self.erase();
        self.open = 0..0;
        self.pin_attempts = 0;
        self.qr_attempts = 0;
    }
}

impl AwaitPair3 {
    /// Takes PAIR3: the device that is now paired, and PAIR4 to send. `window` is the one that is open now.
    ///
    /// The first initiator that proves to know the PIN ends the window, whatever else is wrong with it.
    pub fn on_pair3(
        self,
        payload: &[u8],
        window: &mut Window,
        identity: &Identity<'_>,
        now_ms: u64,
    ) -> Result<(Peer, Vec<u8>), Failure> {
        let Message::Pair3(pair3) = Message::decode(payload)? else { return Err(Failure::Malformed) };
        if window.id != self.window {
            return Err(Failure::Gone);
        }
        // Before the tag: after the end nobody learns whether the guess was right.
        window.check_open(now_ms)?;
        if !self.exchange.confirms(Role::Initiator, &pair3.tag_i.0) {
            return Err(Failure::WrongPin { attempts_left: window.attempts_left(self.mode) });
        }
        window.close();
        if self.peer == identity.public_key() {
            return Err(Failure::Oneself);
        }
        let peer = self.exchange.open(Role::Initiator, &pair3.tag_i.0, &pair3.sealed_i.0, &self.peer)?;
        let (tag, sealed) = self.exchange.prove(Role::Responder, identity);
        let pair4 = Message::Pair4(Pair4 { tag_r: Base64(tag), sealed_r: Base64(sealed) }).encode();
        Ok((peer, pair4))
    }
}

#[cfg(test)]
mod tests {
    use super::super::Initiator;
    use super::*;

    #[test]
    fn d31_the_last_attempt_leaves_no_secret_behind() {
        let channel = Channel { certificate_hash: [1; 32], exporter: [2; 32], peer: PublicKey([3; 32]) };
        let mut window = Window::open(true, &mut |into| into.fill(4), 0);
        let (pin, uri) = (Pin::parse("000000").unwrap(), window.uri(&[], 1, &channel.peer).unwrap());
        for initiator in [Initiator::Pin(&pin), Initiator::Qr(&uri)] {
            for _ in 0..limits::PIN_ATTEMPTS {
                assert!(window.pin.is_some() && window.token.is_some());
                let (_, pair1) = initiator.start(&channel, &[5; 64]).unwrap();
                assert!(window.on_pair1(&pair1, &channel, &[6; 64], 0).is_ok());
            }
        }
        assert!(window.pin.is_none() && window.token.is_none());
    }
}
