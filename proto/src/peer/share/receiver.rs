//! The end where the code was typed.

use zeroize::Zeroizing;

use super::message::{Message, VERSION};
use super::{Channel, Failure, LABEL};
use crate::limits;
use crate::peer::cpace;
use crate::peer::proof::{Proof, Role};
use crate::peer::wire::Base64;
use crate::short_code::ShortCode;

/// A code that was typed: one use, and so many failed confirmations over all connections.
pub struct Receiver {
    /// Erased when it is used or burnt.
    code: Option<ShortCode>,
    attempts: u32,
}

/// SHARE2 is sent.
pub struct AwaitShare3(Proof);

/// SHARE4 is sent: the other end knows the code.
pub struct AwaitPayload {
    proof: Proof,
    tag: [u8; 32],
}

impl Receiver {
    /// A code that was just typed.
    pub fn new(code: ShortCode) -> Self {
        Self { code: Some(code), attempts: limits::SHORT_CODE_ATTEMPTS }
    }

    /// How many more failed confirmations the code survives.
    pub fn attempts_left(&self) -> u32 {
        self.attempts
    }

    /// Takes SHARE1: the next state, and SHARE2 to send, which tells nothing about the code. `random` is fresh and used
    /// once.
    pub fn on_share1(
        &self,
        payload: &[u8],
        channel: &Channel,
        random: &[u8; 64],
    ) -> Result<(AwaitShare3, Vec<u8>), Failure> {
        let Message::Share1 { v: VERSION, share } = Message::decode(payload)? else { return Err(Failure::Malformed) };
        let code = self.code.as_ref().ok_or(Failure::Gone)?;
        let channel_id = channel.id();
        let (ours, key) =
            cpace::respond(&channel.cpace(code, &channel_id), &share.0, random).map_err(|_| Failure::Malformed)?;
        let share2 = Message::Share2 { share: Base64(ours) }.encode();
        Ok((AwaitShare3(Proof::new(LABEL, &channel_id, payload, &share2, &key)), share2))
    }
}

impl AwaitShare3 {
    /// Takes SHARE3: the next state, and SHARE4 to send. The first sender that proves to know the code uses it up; a
    /// wrong tag costs an attempt.
    pub fn on_share3(self, payload: &[u8], receiver: &mut Receiver) -> Result<(AwaitPayload, Vec<u8>), Failure> {
        let Message::Share3 { tag } = Message::decode(payload)? else { return Err(Failure::Malformed) };
        // Before the tag: after the end nobody learns whether the guess was right.
        if receiver.code.is_none() {
            return Err(Failure::Gone);
        }
        if !self.0.confirms(Role::Initiator, &tag.0) {
            receiver.attempts = receiver.attempts.saturating_sub(1);
            if receiver.attempts == 0 {
                receiver.code = None;
            }
            return Err(Failure::WrongCode);
        }
        receiver.code = None;
        let tag = self.0.tag(Role::Responder);
        Ok((AwaitPayload { proof: self.0, tag }, Message::Share4 { tag: Base64(tag) }.encode()))
    }
}

impl AwaitPayload {
    /// Takes PAYLOAD: the JSON in it.
    pub fn on_payload(self, payload: &[u8]) -> Result<Zeroizing<Vec<u8>>, Failure> {
        let Message::Payload { sealed } = Message::decode(payload)? else { return Err(Failure::Malformed) };
        self.proof.unseal(Role::Initiator, &self.tag, &sealed.0).ok_or(Failure::Malformed)
    }
}
