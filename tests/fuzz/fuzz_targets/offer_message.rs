//! What a peer says about an offer.
#![no_main]

use kith_proto::peer::offer::Message;

libfuzzer_sys::fuzz_target!(|payload: &[u8]| {
    let Ok(message) = serde_json::from_slice::<Message>(payload) else { return };
    // What was understood can be said, and means the same.
    let said = serde_json::to_vec(&message).expect("messages are plain data");
    assert_eq!(serde_json::from_slice::<Message>(&said).expect("our own words"), message);
});
