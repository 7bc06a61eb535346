//! What somebody hands over who knows the code, or is paired.
#![no_main]

use kith_proto::credential::payload::Payload;

libfuzzer_sys::fuzz_target!(|json: &[u8]| {
    let Ok(payload) = Payload::parse(json) else { return };
    // What was taken can be handed on, and is the same then.
    let encoded = payload.encode();
    let again = Payload::parse(&encoded).expect("it was valid");
    assert_eq!(*again.encode(), *encoded);
});
