//! A name or a title on its way to a terminal.
#![no_main]

use kith_proto::text::{device_name, is_hostile, printable};

libfuzzer_sys::fuzz_target!(|text: &str| {
    let shown = printable(text);
    assert!(!shown.contains(is_hostile));
    assert_eq!(printable(&shown), shown);

    let max = kith_proto::limits::DEVICE_NAME;
    let name = device_name(text, max);
    assert!(!name.is_empty() && name.len() <= max && !name.contains(is_hostile) && name == name.trim(), "{name:?}");
    assert_eq!(device_name(&name, max), name);
});
