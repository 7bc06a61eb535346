//! What anybody on the LAN says to a device that waits for a share of the Photosphere app, and what one answers to us.
#![no_main]

use kith_proto::guest::psi::{Asked, Desk, HASH, is_same_code};
use kith_proto::short_code::ShortCode;

libfuzzer_sys::fuzz_target!(|body: &[u8]| {
    let code = ShortCode::parse("1234").expect("four digits");
    let mut desk = Desk::new(&code);
    let (answer, end) = desk.take(body);
    assert_eq!(end.is_some(), matches!(desk.ask("GET", HASH), Asked::Answer(answer) if answer.status() == 429));
    serde_json::from_str::<serde_json::Value>(&answer.body()).expect("an answer is JSON");
    let _ = is_same_code(body, &code);
});
