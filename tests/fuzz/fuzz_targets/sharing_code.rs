//! What somebody types, scans or pastes to join.
#![no_main]

use kith_proto::peer::join::code::SharingCode;
use kith_proto::peer::join::payload;

libfuzzer_sys::fuzz_target!(|text: &str| {
    if let Ok(code) = SharingCode::parse(text) {
        // However it was written, there is one code, and one way to show it.
        let shown = code.to_text();
        let again = SharingCode::parse(shown.expose()).expect("it was shown so");
        assert_eq!(again.to_text().expose(), shown.expose());
        assert_eq!(shown.expose().len(), 34);
    }
    if let Ok((code, Some(blob))) = payload::parse(text) {
        let ticket = payload::ticket(&code, &blob);
        let again = payload::parse(ticket.expose()).expect("it was written so");
        assert_eq!(again.1.as_deref(), Some(&blob[..]));
    }
});
