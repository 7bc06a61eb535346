//! A certificate hash, as somebody typed it.
#![no_main]

use kith_proto::guest::CertificateHash;

libfuzzer_sys::fuzz_target!(|text: &str| {
    let Ok(hash) = text.parse::<CertificateHash>() else { return };
    // Only blanks, colons and case may differ: a part of a hash is none.
    let digits: String = text.chars().filter(char::is_ascii_hexdigit).collect();
    assert_eq!(hash.to_string(), digits.to_ascii_lowercase());
    assert_eq!(digits.len(), 64);
    assert_eq!(hash.to_string().parse(), Ok(hash));
});
