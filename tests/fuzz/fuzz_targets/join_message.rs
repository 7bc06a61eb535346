//! What anybody says to the issuer of a code, and what an issuer answers.
#![no_main]

use kith_proto::id::PublicKey;
use kith_proto::peer::join::message::{Join, JoinResult};

libfuzzer_sys::fuzz_target!(|frame: &[u8]| {
    let _ = Join::version(frame);
    if let Some(join) = Join::decode(frame) {
        let again = Join::decode(&join.encode()).expect("it was written so");
        assert_eq!(again.encode(), join.encode());
        assert!(!join.is_proven(&PublicKey([1; 32]), &PublicKey([2; 32]), &[3; 32]), "nobody guesses a signature");
    }
    if let Some(result) = JoinResult::decode(frame) {
        assert_eq!(JoinResult::decode(&result.encode()), Some(result));
    }
});
