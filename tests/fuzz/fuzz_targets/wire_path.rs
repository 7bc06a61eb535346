//! A file name from a peer.
#![no_main]

libfuzzer_sys::fuzz_target!(|text: &str| drop(text.parse::<kith_proto::path::WirePath>()));
