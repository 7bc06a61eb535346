//! What a guest says at the end.
#![no_main]

use kith_proto::guest::Close;

libfuzzer_sys::fuzz_target!(|body: &[u8]| {
    let Ok(read) = Close::parse(body) else { return };
    assert!(!read.session.is_empty());
    assert_eq!(format!("{read:?}"), "Close(…)");
    let written = serde_json::json!({ "sessionId": read.session }).to_string();
    assert_eq!(Close::parse(written.as_bytes()).expect("the same").session, read.session);
});
