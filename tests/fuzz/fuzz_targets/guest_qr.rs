//! What somebody scanned off a receiver's screen.
#![no_main]

use kith_proto::guest::Qr;
use kith_proto::limits;

libfuzzer_sys::fuzz_target!(|text: &str| {
    let Ok(qr) = Qr::parse(text) else { return };
    assert!(text.len() <= limits::GUEST_QR && qr.port != 0);
    assert!((1..=limits::PEER_ADDRESSES).contains(&qr.addresses.len()));
    let written = qr.to_text();
    let again = Qr::parse(&written).expect("our own text");
    assert_eq!(again.to_text(), written);
});
