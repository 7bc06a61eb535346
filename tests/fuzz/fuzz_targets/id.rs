//! Ids, keys, PINs and codes as people and peers write them.
#![no_main]

use kith_proto::id::{DeviceId, PublicKey};
use kith_proto::peer::pairing::Pin;
use kith_proto::short_code::ShortCode;

libfuzzer_sys::fuzz_target!(|text: &str| {
    if let Ok(id) = text.parse::<DeviceId>() {
        assert_eq!(id.to_string(), text);
        assert!((44_000..45_000).contains(&id.preferred_port()));
    }
    if let Ok(key) = text.parse::<PublicKey>() {
        assert_eq!(key.to_string(), text);
    }
    if let Ok(pin) = Pin::parse(text) {
        assert_eq!(pin.expose(), text);
    }
    if let Ok(code) = ShortCode::parse(text) {
        assert_eq!(code.expose(), text);
    }
});
