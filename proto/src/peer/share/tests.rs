use serde_json::{Value, json};

use super::message::Outcome;
use super::*;
use crate::peer::wire::Base64;

const RANDOM: [[u8; 64]; 2] = [[7; 64], [9; 64]];

fn code(text: &str) -> ShortCode {
    ShortCode::parse(text).unwrap()
}

fn channel(number: u8) -> Channel {
    Channel { certificate_hash: [number; 32], exporter: [number ^ 0xff; 32] }
}

/// A sender that shows one code and a receiver where another was typed.
struct Stage {
    sender: Sender,
    receiver: Receiver,
}

impl Stage {
    fn new(shown: &str, typed: &str) -> Self {
        Self { sender: Sender::new(code(shown)), receiver: Receiver::new(code(typed)) }
    }

    /// A whole exchange, each payload passed through `wire` with its number; what the receiver got in the end.
    fn share(
        &mut self,
        sees: (Channel, Channel),
        wire: &mut dyn FnMut(usize, Vec<u8>) -> Vec<u8>,
    ) -> Result<Vec<u8>, Failure> {
        let (await2, share1) = self.sender.start(&sees.0, &RANDOM[0]);
        let (await3, share2) = self.receiver.on_share1(&wire(1, share1), &sees.1, &RANDOM[1])?;
        let (await4, share3) = await2.on_share2(&wire(2, share2), &mut self.sender)?;
        let (awaiting, share4) = match await3.on_share3(&wire(3, share3), &mut self.receiver) {
            Ok(next) => next,
            Err(failure) => {
                assert_eq!(await4.on_share4(&failure.to_payload()).err(), Some(failure));
                return Err(failure);
            }
        };
        let confirmed = await4.on_share4(&wire(4, share4))?;
        awaiting.on_payload(&wire(5, confirmed.payload(b"{}"))).map(|json| json.to_vec())
    }

    fn attempts(&self) -> (u32, u32) {
        (self.sender.attempts_left(), self.receiver.attempts_left())
    }
}

fn as_it_is(_: usize, payload: Vec<u8>) -> Vec<u8> {
    payload
}

fn both(number: u8) -> (Channel, Channel) {
    (channel(number), channel(number))
}

#[test]
fn whoever_typed_the_code_gets_it_once() {
    let mut stage = Stage::new("4821", "4821");
    assert_eq!(stage.share(both(1), &mut as_it_is), Ok(b"{}".to_vec()));
    assert_eq!(stage.share(both(2), &mut as_it_is), Err(Failure::Gone), "h80: a short code used twice");
}

#[test]
fn d31_three_wrong_codes_and_it_is_burnt_on_either_side() {
    let mut stage = Stage::new("4821", "1234");
    for left in [2, 1, 0] {
        assert_eq!(stage.share(both(left), &mut as_it_is), Err(Failure::WrongCode));
        assert_eq!(stage.attempts(), (left.into(), left.into()));
    }
    assert_eq!(stage.share(both(4), &mut as_it_is), Err(Failure::Gone), "the receiver answers nobody any more");
    // The sender sends no tag to a fresh receiver either, even if that one knows the code.
    stage.receiver = Receiver::new(code("4821"));
    assert_eq!(stage.share(both(5), &mut as_it_is), Err(Failure::Gone));
    assert_eq!(stage.receiver.attempts_left(), 3);
}

#[test]
fn d31_guesses_at_the_same_time_are_counted_one_by_one() {
    let mut receiver = Receiver::new(code("4821"));
    let guesses: Vec<_> = (0..9)
        .map(|guess| {
            let mut sender = Sender::new(code(&format!("000{guess}")));
            let (await2, share1) = sender.start(&channel(guess), &RANDOM[0]);
            let (await3, share2) = receiver.on_share1(&share1, &channel(guess), &RANDOM[1]).unwrap();
            (await3, await2.on_share2(&share2, &mut sender).unwrap().1)
        })
        .collect();
    let mut honest = Sender::new(code("4821"));
    let (await2, share1) = honest.start(&channel(77), &RANDOM[0]);
    let (await3, share2) = receiver.on_share1(&share1, &channel(77), &RANDOM[1]).unwrap();
    let answers: Vec<_> =
        guesses.into_iter().map(|(await3, share3)| await3.on_share3(&share3, &mut receiver).err()).collect();
    assert_eq!(answers[..3], [Some(Failure::WrongCode); 3]);
    assert_eq!(answers[3..], [Some(Failure::Gone); 6]);
    let (_, share3) = await2.on_share2(&share2, &mut honest).unwrap();
    assert_eq!(await3.on_share3(&share3, &mut receiver).err(), Some(Failure::Gone), "even the right one");
}

#[test]
fn what_is_malformed_or_breaks_off_early_costs_nothing() {
    let mut stage = Stage::new("4821", "4821");
    for _ in 0..20 {
        let (await2, share1) = stage.sender.start(&channel(1), &RANDOM[0]);
        let (await3, _) = stage.receiver.on_share1(&share1, &channel(1), &RANDOM[1]).unwrap();
        assert_eq!(await3.on_share3(b"null", &mut stage.receiver).err(), Some(Failure::Malformed));
        assert_eq!(await2.on_share2(b"{\"type\":\"share9\"}", &mut stage.sender).err(), Some(Failure::Malformed));
        let neutral = Message::Share2 { share: Base64([0; 32]) }.encode();
        let (await2, _) = stage.sender.start(&channel(1), &RANDOM[0]);
        assert_eq!(await2.on_share2(&neutral, &mut stage.sender).err(), Some(Failure::Malformed));
        for junk in [&b"null"[..], b"", b"[", b"{}", &[b'['; 4000], &share1.replace_version()] {
            let answer = stage.receiver.on_share1(junk, &channel(1), &RANDOM[1]);
            assert_eq!(answer.err(), Some(Failure::Malformed));
        }
    }
    assert_eq!(stage.attempts(), (3, 3));
    assert_eq!(stage.share(both(1), &mut as_it_is), Ok(b"{}".to_vec()));
}

trait Edited {
    fn replace_version(&self) -> Vec<u8>;
}

impl Edited for Vec<u8> {
    fn replace_version(&self) -> Vec<u8> {
        let mut message: Value = serde_json::from_slice(self).unwrap();
        message["v"] = json!(2);
        serde_json::to_vec(&message).unwrap()
    }
}

/// The test that matters: a relay ends TLS on both sides and passes every message on.
mod d32_a_relay_between_the_two {
    use super::*;

    #[test]
    fn fails() {
        let mut stage = Stage::new("4821", "4821");
        assert_eq!(stage.share((channel(1), channel(2)), &mut as_it_is), Err(Failure::WrongCode));
        assert_eq!(stage.attempts(), (2, 2));
    }

    #[test]
    fn fails_if_only_one_half_of_the_channel_gives_it_away() {
        for differ in [
            |channel: &mut Channel| channel.exporter = [1; 32],
            |channel: &mut Channel| channel.certificate_hash = [2; 32],
        ] {
            let (sender_sees, mut receiver_sees) = both(1);
            differ(&mut receiver_sees);
            let mut stage = Stage::new("4821", "4821");
            assert_eq!(stage.share((sender_sees, receiver_sees), &mut as_it_is), Err(Failure::WrongCode));
        }
    }

    /// The control: with nothing that binds the channel, the same relay succeeds.
    #[test]
    fn succeeds_when_nothing_binds_the_channel() {
        let mut stage = Stage::new("4821", "4821");
        assert_eq!(stage.share(both(1), &mut as_it_is), Ok(b"{}".to_vec()));
    }
}

#[test]
fn d32_reflection_and_replay() {
    // What the sender says comes back to it as the receiver's.
    let mut sender = Sender::new(code("4821"));
    let (await2, share1) = sender.start(&channel(1), &RANDOM[0]);
    let Ok(Message::Share1 { share, .. }) = Message::decode(&share1) else { unreachable!() };
    let (await4, share3) = await2.on_share2(&Message::Share2 { share }.encode(), &mut sender).unwrap();
    let Ok(Message::Share3 { tag }) = Message::decode(&share3) else { unreachable!() };
    assert_eq!(await4.on_share4(&Message::Share4 { tag }.encode()).err(), Some(Failure::WrongCode));

    // What was heard once is said again to another receiver with the same code.
    let mut heard = vec![Vec::new(); 6];
    let mut stage = Stage::new("4821", "4821");
    let listen = &mut |at: usize, payload: Vec<u8>| {
        heard[at].clone_from(&payload);
        payload
    };
    assert!(stage.share(both(1), listen).is_ok());
    let mut receiver = Receiver::new(code("4821"));
    let (await3, _) = receiver.on_share1(&heard[1], &channel(2), &[3; 64]).unwrap();
    assert_eq!(await3.on_share3(&heard[3], &mut receiver).err(), Some(Failure::WrongCode));

    // A payload from another exchange, or one that was touched, does not open.
    let mut stage = Stage::new("4821", "4821");
    let swapped = stage.share(both(2), &mut |at, payload| if at == 5 { heard[5].clone() } else { payload });
    assert_eq!(swapped, Err(Failure::Malformed));
}

#[test]
fn a_field_added_on_the_way_is_noticed() {
    for changed in [1, 2] {
        let mut stage = Stage::new("4821", "4821");
        let answer = stage.share(both(1), &mut |at, payload| {
            let mut message: Value = serde_json::from_slice(&payload).unwrap();
            if at == changed {
                message["later"] = json!(1);
            }
            serde_json::to_vec(&message).unwrap()
        });
        assert_eq!(answer, Err(Failure::WrongCode), "in SHARE{changed}");
    }
}

#[test]
fn the_messages_on_the_wire() {
    let check = |message: Message, expected: Value| {
        let payload = message.encode();
        assert_eq!(serde_json::from_slice::<Value>(&payload).unwrap(), expected);
        assert_eq!(Message::decode(&payload).unwrap().encode(), payload);
    };
    let zeros = "A".repeat(43);
    let of = || Base64([0; 32]);
    check(Message::Share1 { v: 1, share: of() }, json!({ "type": "share1", "v": 1, "share": zeros }));
    check(Message::Share2 { share: of() }, json!({ "type": "share2", "share": zeros }));
    check(Message::Share3 { tag: of() }, json!({ "type": "share3", "tag": zeros }));
    check(Message::Share4 { tag: of() }, json!({ "type": "share4", "tag": zeros }));
    check(Message::Payload { sealed: Base64(vec![1, 2]) }, json!({ "type": "payload", "sealed": "AQI" }));
    check(Message::Offer { payload: Base64(vec![1, 2].into()) }, json!({ "type": "offer", "payload": "AQI" }));
    check(Message::ShareFail(ShareFail::WrongCode), json!({ "type": "share_fail", "reason": "wrong_code" }));
    check(Message::Result(Outcome::Saved), json!({ "type": "result", "outcome": "saved" }));
    let invalid = Outcome::Invalid { detail: "path: is missing".to_owned() };
    check(Message::Result(invalid), json!({ "type": "result", "outcome": "invalid", "detail": "path: is missing" }));
    let later = Message::decode(br#"{"type":"result","outcome":"someday","why":1}"#);
    assert!(matches!(later, Ok(Message::Result(Outcome::Unknown))));
}

#[test]
fn the_channel_id_is_the_documented_one() {
    let channel = Channel { certificate_hash: [b'c'; 32], exporter: [b'x'; 32] };
    let (c, x) = ("c".repeat(32), "x".repeat(32));
    let expected = format!("\0\0\0\x0ckith-share/1\0\0\0\x04code\0\0\0\x20{c}\0\0\0\x20{x}");
    assert_eq!(String::from_utf8(channel.id()).unwrap(), expected);
}
