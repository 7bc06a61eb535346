//! What kithctl reads from a socket behind which another program may be.
#![no_main]

use kith_proto::control::{Response, event::Notice};

libfuzzer_sys::fuzz_target!(|line: &[u8]| {
    drop(serde_json::from_slice::<Response>(line));
    drop(serde_json::from_slice::<Notice>(line));
});
