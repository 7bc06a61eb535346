//! What is reconciled: elements, and sums that stand for many of them.

use sha2::{Digest, Sha256};

use super::wire;

/// An element of the set: ordered by stamp, then id. Also used as a bound: everything below it is in the range before
/// it; a prefix is padded with zeros.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Element {
    /// What the set is sorted by first. The largest number is infinity on the wire: no element has it.
    pub stamp: u64,
    /// Names the element: a digest of all that matters about it.
    pub id: [u8; 32],
}

impl Element {
    /// The bound that nothing is below.
    pub const FIRST: Self = Self { stamp: 0, id: [0; 32] };
    /// The bound that everything is below: infinity of the wire.
    pub const END: Self = Self { stamp: u64::MAX, id: [0; 32] };

    /// The shortest bound that keeps `before` below it and `at` not below it.
    pub fn between(before: &Self, at: &Self) -> Self {
        let mut bound = Self { stamp: at.stamp, id: [0; 32] };
        if before.stamp == at.stamp {
            for ((to, from), other) in bound.id.iter_mut().zip(at.id).zip(before.id) {
                *to = from;
                if from != other {
                    break;
                }
            }
        }
        bound
    }

    /// The lowest bound that `self` is below.
    pub(super) fn successor(&self) -> Self {
        let mut next = *self;
        for byte in next.id.iter_mut().rev() {
            *byte = byte.wrapping_add(1);
            if *byte != 0 {
                return next;
            }
        }
        next.stamp = next.stamp.saturating_add(1);
        next
    }
}

/// Stands for the elements of a range: equal fingerprints, equal elements.
pub type Fingerprint = [u8; 16];

/// How many elements, and the sum of their ids mod 2^256, read as little-endian. Whoever stores a set keeps sums as it
/// changes, instead of hashing everything when it is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Sum {
    /// The number of elements.
    pub count: u64,
    /// The sum of their ids.
    pub sum: [u8; 32],
}

impl Sum {
    /// One element more.
    pub fn add(&mut self, id: &[u8; 32]) {
        self.merge(&Self { count: 1, sum: *id });
    }

    /// One element less.
    pub fn remove(&mut self, id: &[u8; 32]) {
        self.subtract(&Self { count: 1, sum: *id });
    }

    /// All elements of another range more.
    pub fn merge(&mut self, other: &Self) {
        self.count = self.count.wrapping_add(other.count);
        self.by_words(other, u64::overflowing_add);
    }

    /// All elements of another range less.
    pub fn subtract(&mut self, other: &Self) {
        self.count = self.count.wrapping_sub(other.count);
        self.by_words(other, u64::overflowing_sub);
    }

    /// The lowest words first; what does not fit into one is carried to (or borrowed from) the next.
    fn by_words(&mut self, other: &Self, step: fn(u64, u64) -> (u64, bool)) {
        let mut carry = false;
        let words = self.sum.as_chunks_mut::<8>().0.iter_mut().zip(other.sum.as_chunks::<8>().0);
        for (word, other) in words {
            let (value, first) = step(u64::from_le_bytes(*word), u64::from_le_bytes(*other));
            let (value, second) = step(value, u64::from(carry));
            *word = value.to_le_bytes();
            carry = first || second;
        }
    }

    /// What goes over the wire for these elements.
    pub fn fingerprint(&self) -> Fingerprint {
        let mut count = Vec::with_capacity(wire::LONGEST_NUMBER);
        wire::put_number(&mut count, self.count);
        let digest: [u8; 32] = Sha256::new().chain_update(self.sum).chain_update(count).finalize().into();
        let mut fingerprint = Fingerprint::default();
        for (to, from) in fingerprint.iter_mut().zip(digest) {
            *to = from;
        }
        fingerprint
    }
}
