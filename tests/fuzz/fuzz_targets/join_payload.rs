//! What is found for a code, wherever it lay, and what is in it.
#![no_main]

use kith_proto::limits;
use kith_proto::peer::join::code::SharingCode;
use kith_proto::peer::join::payload::Payload;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let keys = SharingCode::from_random([7; 16]).keys();
    assert!(Payload::open(bytes, &keys).is_err(), "nobody guesses a seal");
    let Ok(payload) = serde_json::from_slice::<Payload>(bytes) else { return };
    if let Ok(blob) = payload.seal(&keys, 1, [1; 12]) {
        assert!(blob.len() <= limits::HELLO_BLOB);
        if let Ok((opened, expires)) = Payload::open(&blob, &keys) {
            assert_eq!((serde_json::to_value(opened).ok(), expires), (serde_json::to_value(payload).ok(), 1));
        }
    }
});
