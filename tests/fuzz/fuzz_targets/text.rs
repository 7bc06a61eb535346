//! A name or a title on its way to a terminal.
#![no_main]

libfuzzer_sys::fuzz_target!(|text: &str| assert!(
    !kith_proto::text::printable(text).contains(kith_proto::text::is_hostile)
));
