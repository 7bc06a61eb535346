//! What a receiver answers to us.
#![no_main]

use kith_proto::guest::{Accepted, ErrorBody, Pong, Registered};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// What was understood can be said, and means the same.
fn again<T: DeserializeOwned + Serialize>(body: &[u8]) {
    let Ok(read) = serde_json::from_slice::<T>(body) else { return };
    let said = serde_json::to_value(&read).expect("plain data");
    let heard: T = serde_json::from_value(said.clone()).expect("our own words");
    assert_eq!(serde_json::to_value(&heard).expect("plain data"), said);
}

libfuzzer_sys::fuzz_target!(|body: &[u8]| {
    again::<Pong>(body);
    again::<Registered>(body);
    again::<Accepted>(body);
    again::<ErrorBody>(body);
});
