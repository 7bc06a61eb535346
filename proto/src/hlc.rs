//! Hybrid logical clocks: stamps that order what causally follows, whatever the wall clocks of the devices say.
//!
//! A stamp is 48 bits of milliseconds since 1970 and a counter of 16 bits beneath them, as one number. Who receives a
//! stamp takes the maximum; who writes takes one that is greater than all it has seen. (S. Kulkarni et al., Logical
//! Physical Clocks, 2014.)

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::limits;

const COUNTER_BITS: u32 = 16;
/// The greatest time that a stamp may carry; it leaves the top bit of the number clear, for databases without u64.
const MAX_MS: u64 = (1 << 47) - 1;
/// 2026-01-01T00:00:00Z. A clock that shows an earlier time is wrong: nobody had this program then.
const FIRST_MS: u64 = 1_767_225_600_000;

/// A place in the order of all writes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Stamp(pub u64);

impl Stamp {
    /// Before every write.
    pub const ZERO: Self = Self(0);

    /// The first stamp of a millisecond.
    pub const fn at(ms: u64) -> Self {
        Self(if ms < MAX_MS { ms } else { MAX_MS } << COUNTER_BITS)
    }

    /// The stamp of a write at `now_ms` by somebody who has seen `self`: greater than both.
    #[must_use]
    pub fn next(self, now_ms: u64) -> Self {
        // A counter that is full carries into the milliseconds, which is what is wanted.
        Self(self.0.saturating_add(1)).max(Self::at(now_ms))
    }

    /// Milliseconds since 1970.
    pub const fn ms(self) -> u64 {
        self.0 >> COUNTER_BITS
    }

    /// Whether a device whose clock shows `now_ms` believes this stamp. Only what cannot be an honest mistake is not
    /// believed: a clock that runs ahead for years still takes part.
    pub fn is_plausible(self, now_ms: u64) -> bool {
        self != Self::ZERO && self.ms() <= now_ms.max(FIRST_MS).saturating_add(limits::STAMP_AHEAD_MS).min(MAX_MS)
    }
}

impl fmt::Display for Stamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl fmt::Debug for Stamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Stamp({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_write_comes_after_all_that_was_seen() {
        for (seen, now_ms, next) in [
            (Stamp::ZERO, 0, Stamp(1)),
            (Stamp::ZERO, 7, Stamp::at(7)),
            (Stamp::at(7), 7, Stamp(Stamp::at(7).0 + 1)),
            (Stamp::at(9), 7, Stamp(Stamp::at(9).0 + 1)),
            (Stamp(Stamp::at(7).0 | 0xffff), 7, Stamp::at(8)),
            (Stamp::at(7), u64::MAX, Stamp::at(MAX_MS)),
        ] {
            assert_eq!(seen.next(now_ms), next, "{seen} at {now_ms}");
        }
    }

    #[test]
    fn g50_only_the_impossible_is_not_believed() {
        let (year, now_ms) = (366 * 86_400_000, FIRST_MS + 1_000_000);
        for (ms, clock, believed) in [
            (now_ms, now_ms, true),
            (now_ms + year, now_ms, true),
            (now_ms + 10 * year, now_ms, true),
            (now_ms + 10 * year + 1, now_ms, false),
            (1, now_ms, true),
            // A device without a battery begins in 1970 and must believe the others.
            (now_ms, 0, true),
            (FIRST_MS + 11 * year, 0, false),
            (MAX_MS, u64::MAX, true),
        ] {
            assert_eq!(Stamp::at(ms).is_plausible(clock), believed, "{ms} at {clock}");
        }
        assert!(!Stamp::ZERO.is_plausible(now_ms));
        assert!(!Stamp(u64::MAX).is_plausible(u64::MAX));
    }
}
