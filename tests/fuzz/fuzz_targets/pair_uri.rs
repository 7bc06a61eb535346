//! What somebody scanned.
#![no_main]

libfuzzer_sys::fuzz_target!(|text: &str| drop(text.parse::<kith_proto::peer::pairing::PairUri>()));
