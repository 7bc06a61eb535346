//! Reproducible bytes and numbers: a failing run is repeated by its seed.

use std::ops::Range;
use std::time::{SystemTime, UNIX_EPOCH};

/// SplitMix64: short, fast, good enough to fill files and to choose moments.
#[derive(Debug, Clone)]
pub struct Random(u64);

impl Random {
    /// The sequence of a known seed.
    pub fn seeded(seed: u64) -> Self {
        Self(seed)
    }

    /// The sequence of `KITH_SEED`, or of a new seed; printed, so that a failure can be run again.
    pub fn printed(what: &str) -> Self {
        let now = || SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_nanos() as u64);
        let seed = std::env::var("KITH_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or_else(now);
        eprintln!("{what}: KITH_SEED={seed}");
        Self(seed)
    }

    /// The next number.
    pub fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number in `range`, which is not empty.
    pub fn within(&mut self, range: Range<u64>) -> u64 {
        range.start + self.number() % (range.end - range.start)
    }

    /// Bytes that do not compress.
    pub fn bytes(&mut self, len: usize) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(len + 8);
        while bytes.len() < len {
            bytes.extend_from_slice(&self.number().to_le_bytes());
        }
        bytes.truncate(len);
        bytes
    }
}
