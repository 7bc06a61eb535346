//! The query of an upload.
#![no_main]

use kith_proto::guest::Upload;

libfuzzer_sys::fuzz_target!(|query: &str| {
    let Ok(read) = Upload::parse(query) else { return };
    let encode = |text: &str| text.bytes().map(|byte| format!("%{byte:02X}")).collect::<String>();
    let mut again = String::new();
    for (key, value) in [("sessionId", &read.session), ("fileId", &read.file), ("transmissionId", &read.transmission)] {
        assert!(!value.is_empty());
        again = format!("{again}&{key}={}", encode(value));
    }
    if let Some(nonce) = &read.nonce {
        assert!(!nonce.is_empty());
        again = format!("{again}&nonce={}", encode(nonce));
    }
    assert_eq!(Upload::parse(&again), Ok(read));
});
