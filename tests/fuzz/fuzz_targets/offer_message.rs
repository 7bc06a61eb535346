//! What a peer says about an offer.
#![no_main]

libfuzzer_sys::fuzz_target!(|payload: &[u8]| drop(serde_json::from_slice::<kith_proto::peer::offer::Message>(payload)));
