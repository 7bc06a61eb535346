//! What a guest says to be let in.
#![no_main]

use kith_proto::guest::{Register, RegisterBody};

libfuzzer_sys::fuzz_target!(|body: &[u8]| {
    let Ok(read) = Register::parse(body) else { return };
    let (pin, nonce) = (read.pin.expose(), &read.nonce);
    assert!(!pin.is_empty() && !nonce.is_empty());
    assert_eq!(format!("{read:?}"), "Register(…)");
    // What we would have written ourselves means the same.
    let written = serde_json::to_vec(&RegisterBody { pin, nonce }).expect("plain data");
    let again = Register::parse(&written).expect("our own words");
    assert_eq!((again.pin.expose(), &again.nonce), (pin, nonce));
});
