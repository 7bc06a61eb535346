//! What anybody says in a pairing window.
#![no_main]

libfuzzer_sys::fuzz_target!(|payload: &[u8]| drop(kith_proto::peer::pairing::message::Message::decode(payload)));
