//! A line at the local door.
#![no_main]

libfuzzer_sys::fuzz_target!(|line: &[u8]| drop(serde_json::from_slice::<kith_proto::control::Request>(line)));
