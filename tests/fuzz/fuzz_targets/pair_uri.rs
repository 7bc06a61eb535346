//! What somebody scanned.
#![no_main]

use kith_proto::limits;
use kith_proto::peer::pairing::PairUri;

libfuzzer_sys::fuzz_target!(|text: &str| {
    let Ok(uri) = text.parse::<PairUri>() else { return };
    assert!(text.len() <= limits::PAIRING_URI && (1..=limits::PEER_ADDRESSES).contains(&uri.addresses.len()));
    let link = uri.to_link();
    let again: PairUri = link.expose().parse().expect("our own link");
    assert_eq!(again.to_link().expose(), link.expose());
});
