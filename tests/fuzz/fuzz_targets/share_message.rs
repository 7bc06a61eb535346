//! What anybody says to a sender or a receiver of credentials: nobody is believed who does not know the code.
#![no_main]

use kith_proto::peer::share::message::Message;
use kith_proto::peer::share::{Channel, Receiver, Sender};
use kith_proto::short_code::ShortCode;

libfuzzer_sys::fuzz_target!(|text: &[u8]| {
    // Two payloads: a newline between them is no part of JSON as we write it.
    let (first, second) = text.split_at(text.iter().position(|byte| *byte == b'\n').unwrap_or(text.len()));
    if let Ok(message) = Message::decode(first) {
        drop(message.encode());
    }
    let code = || ShortCode::parse("4821").expect("four digits");
    let channel = Channel { certificate_hash: [2; 32], exporter: [3; 32] };

    let mut receiver = Receiver::new(code());
    if let Ok((state, _)) = receiver.on_share1(first, &channel, &[6; 64]) {
        assert!(state.on_share3(second, &mut receiver).is_err());
    }
    let mut sender = Sender::new(code());
    let (state, _) = sender.start(&channel, &[7; 64]);
    if let Ok((state, _)) = state.on_share2(first, &mut sender) {
        assert!(state.on_share4(second).is_err());
    }
    assert!(sender.attempts_left() >= 2 && receiver.attempts_left() >= 2, "one guess costs one attempt");
});
