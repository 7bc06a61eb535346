//! File content from a peer.
#![no_main]

libfuzzer_sys::fuzz_target!(|frame: &[u8]| {
    if let Ok((_, content)) = kith_proto::peer::offer::split_data(frame) {
        assert!(!content.is_empty() && content.len() <= kith_proto::limits::CHUNK);
    }
});
