//! What a hello store is asked by anybody, and where a configuration says that one is.
#![no_main]

use kith_proto::guest::hello::{Lookup, OwnerHash, OwnerToken, StoreUrl, expires_ms};
use kith_proto::limits;

const NOW_MS: u64 = 1_800_000_000_000;

libfuzzer_sys::fuzz_target!(|text: &str| {
    if let Some(lookup) = Lookup::parse(text) {
        assert_eq!(lookup.to_text(), text);
    }
    if let Some(at_ms) = expires_ms(Some(text), NOW_MS) {
        let ahead = at_ms - NOW_MS;
        assert!(ahead + 1_000 >= limits::HELLO_SECONDS.start() * 1_000);
        assert!(ahead <= limits::HELLO_SECONDS.end() * 1_000 + 1_000);
    }
    if let Some(hash) = OwnerHash::parse(text) {
        assert_eq!(hash.to_text(), text.to_ascii_lowercase());
    }
    if let Some(token) = OwnerToken::parse(text) {
        assert!(token.expose() == text && limits::HELLO_TOKEN.contains(&text.len()));
        assert!(token.hash() == token.hash());
    }
    if let Ok(url) = StoreUrl::parse(text) {
        assert!(text.len() <= limits::HELLO_URL && url.port != 0 && !url.host.is_empty());
        // Written out, it names its port: that may be too long to be read again.
        let written = url.to_string();
        assert!(written.len() > limits::HELLO_URL || StoreUrl::parse(&written) == Ok(url));
    }
});
