//! The end that made the code and shows it.

use super::message::{Message, VERSION};
use super::{Channel, Failure, LABEL};
use crate::limits;
use crate::peer::cpace;
use crate::peer::proof::{Proof, Role};
use crate::peer::wire::Base64;
use crate::short_code::ShortCode;

/// A code that is shown, and how often it may still be tried on somebody.
pub struct Sender {
    code: ShortCode,
    attempts: u32,
}

/// SHARE1 is sent.
pub struct AwaitShare2 {
    cpace: cpace::Initiator,
    channel_id: Vec<u8>,
    share1: Vec<u8>,
}

/// SHARE3 is sent.
pub struct AwaitShare4(Proof);

/// The other end knows the code: the payload may leave.
pub struct Confirmed {
    proof: Proof,
    tag: [u8; 32],
}

impl Sender {
    /// A fresh code.
    pub fn new(code: ShortCode) -> Self {
        Self { code, attempts: limits::SHORT_CODE_ATTEMPTS }
    }

    /// How many more failed confirmations the code survives.
    pub fn attempts_left(&self) -> u32 {
        self.attempts
    }

    /// Begins, once TLS is up: the state, and SHARE1 to send. `random` is fresh and used once.
    pub fn start(&self, channel: &Channel, random: &[u8; 64]) -> (AwaitShare2, Vec<u8>) {
        let channel_id = channel.id();
        let (cpace, share) = cpace::Initiator::start(&channel.cpace(&self.code, &channel_id), random);
        let share1 = Message::Share1 { v: VERSION, share: Base64(share) }.encode();
        (AwaitShare2 { cpace, channel_id, share1: share1.clone() }, share1)
    }
}

impl AwaitShare2 {
    /// Takes SHARE2: the next state, and SHARE3 to send. From here on it is a guess that the other end has had: one
    /// attempt is taken, and never given back.
    pub fn on_share2(self, payload: &[u8], sender: &mut Sender) -> Result<(AwaitShare4, Vec<u8>), Failure> {
        let Message::Share2 { share } = decode(payload)? else { return Err(Failure::Malformed) };
        let key = self.cpace.finish(&share.0).map_err(|_| Failure::Malformed)?;
        sender.attempts = sender.attempts.checked_sub(1).ok_or(Failure::Gone)?;
        let proof = Proof::new(LABEL, &self.channel_id, &self.share1, payload, &key);
        let share3 = Message::Share3 { tag: Base64(proof.tag(Role::Initiator)) }.encode();
        Ok((AwaitShare4(proof), share3))
    }
}

impl AwaitShare4 {
    /// Takes SHARE4.
    pub fn on_share4(self, payload: &[u8]) -> Result<Confirmed, Failure> {
        let Message::Share4 { tag } = decode(payload)? else { return Err(Failure::Malformed) };
        if !self.0.confirms(Role::Responder, &tag.0) {
            return Err(Failure::WrongCode);
        }
        Ok(Confirmed { proof: self.0, tag: tag.0 })
    }
}

impl Confirmed {
    /// PAYLOAD to send: `json`, sealed.
    pub fn payload(self, json: &[u8]) -> Vec<u8> {
        Message::Payload { sealed: Base64(self.proof.seal(Role::Initiator, &self.tag, json)) }.encode()
    }
}

/// The message in `payload`; a SHARE_FAIL is the failure that it tells of.
fn decode(payload: &[u8]) -> Result<Message, Failure> {
    match Message::decode(payload)? {
        Message::ShareFail(fail) => Err(fail.into()),
        message => Ok(message),
    }
}
