//! What anybody says in a pairing window: nobody is paired who does not know the PIN, on either end.
#![no_main]

use ed25519_dalek::SigningKey;
use kith_proto::id::PublicKey;
use kith_proto::peer::pairing::message::Message;
use kith_proto::peer::pairing::{Channel, Identity, Initiator, Pin, Window};

libfuzzer_sys::fuzz_target!(|text: &[u8]| {
    // Two payloads: a newline between them is no part of JSON as we write it.
    let (first, second) = text.split_at(text.iter().position(|byte| *byte == b'\n').unwrap_or(text.len()));
    if let Ok(message) = Message::decode(first) {
        drop(message.encode());
    }
    let key = SigningKey::from_bytes(&[1; 32]);
    let identity = Identity { key: &key, device_name: "fuzz" };
    let channel = Channel { certificate_hash: [2; 32], exporter: [3; 32], peer: PublicKey([4; 32]) };

    let mut window = Window::open(true, &mut |bytes| bytes.fill(5), 0);
    if let Ok((state, _)) = window.on_pair1(first, &channel, &[6; 64], 1) {
        assert!(state.on_pair3(second, &mut window, &identity, 2).is_err());
    }
    let pin = Pin::parse("123456").expect("six digits");
    let (state, _) = Initiator::Pin(&pin).start(&channel, &[7; 64]).expect("a PIN fits any device");
    if let Ok((state, _)) = state.on_pair2(first, &identity) {
        assert!(state.on_pair4(second).is_err());
    }
});
