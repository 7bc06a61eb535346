//! Messages as bytes, version 1 of negentropy's wire.
//!
//! ```text
//! message  0x61 range*                       what no range covers is skipped
//! range    bound mode claim                  from the bound before (at first: zero) up to this one
//! bound    stamp length prefix               stamp: 0 is infinity, else 1 + what it is above the stamp before
//! mode     0 skip | 1 fingerprint (16 bytes) | 2 ids: how many, 32 bytes each
//! ```
//!
//! Numbers are base 128, the highest digit first; all but the last have the high bit set.

use super::element::{Element, Fingerprint};
use crate::limits;

/// The first byte of a message.
const VERSION: u8 = 0x61;

const SKIP: u64 = 0;
const FINGERPRINT: u64 = 1;
const IDS: u64 = 2;

/// The most bytes of a number.
pub(super) const LONGEST_NUMBER: usize = 10;
/// The most bytes of a bound and its mode.
const LONGEST_HEAD: usize = LONGEST_NUMBER + 1 + 32 + 1;
/// The most bytes of a range with a fingerprint.
pub(super) const LONGEST_FINGERPRINT: usize = LONGEST_HEAD + 16;
/// The most bytes before the ids of a list.
pub(super) const LONGEST_LIST_HEAD: usize = LONGEST_HEAD + LONGEST_NUMBER;
/// The most bytes of a skip before any range.
pub(super) const LONGEST_SKIP: usize = LONGEST_HEAD;

/// What the other side says about a range.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Claim<'a> {
    /// Nothing is to be done about it.
    Skip,
    /// Its elements have this fingerprint.
    Fingerprint(Fingerprint),
    /// Its elements are these.
    Ids(&'a [[u8; 32]]),
}

/// A range of a message: elements from `lower` on that are below `upper`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Range<'a> {
    pub(super) lower: Element,
    pub(super) upper: Element,
    pub(super) claim: Claim<'a>,
}

/// Takes a message apart, range by range. An error says what is wrong with it.
pub(super) struct Reader<'a> {
    rest: &'a [u8],
    lower: Element,
}

impl<'a> Reader<'a> {
    pub(super) fn new(message: &'a [u8]) -> Result<Self, &'static str> {
        if message.len() > limits::RECONCILE_MESSAGE {
            return Err("a message that is too long");
        }
        match message.split_first() {
            Some((&VERSION, rest)) => Ok(Self { rest, lower: Element::FIRST }),
            _ => Err("another version"),
        }
    }

    /// The next range, if there is one. Never allocates.
    pub(super) fn next(&mut self) -> Result<Option<Range<'a>>, &'static str> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        let (lower, upper) = (self.lower, self.bound()?);
        // A message that was cut off ends with a fingerprint up to infinity, even if it had come so far already.
        if upper < lower || (upper == lower && upper != Element::END) {
            return Err("bounds that do not ascend");
        }
        self.lower = upper;
        let claim = match self.number()? {
            SKIP => Claim::Skip,
            FINGERPRINT => Claim::Fingerprint(*self.array()?),
            IDS => Claim::Ids(self.ids()?),
            _ => return Err("an unknown mode"),
        };
        Ok(Some(Range { lower, upper, claim }))
    }

    fn bound(&mut self) -> Result<Element, &'static str> {
        let stamp = match self.number()?.checked_sub(1) {
            None => u64::MAX,
            Some(above) => match self.lower.stamp.checked_add(above) {
                Some(stamp) if stamp < u64::MAX => stamp,
                _ => return Err("a stamp beyond infinity"),
            },
        };
        let length = self.number()?;
        if length > 32 {
            return Err("a prefix longer than an id");
        }
        if stamp == u64::MAX && length > 0 {
            return Err("a prefix at infinity");
        }
        let mut id = [0; 32];
        for (to, from) in id.iter_mut().zip(self.take(usize::try_from(length).unwrap_or(32))?) {
            *to = *from;
        }
        Ok(Element { stamp, id })
    }

    fn ids(&mut self) -> Result<&'a [[u8; 32]], &'static str> {
        let count = usize::try_from(self.number()?).map_err(|_| TOO_SHORT)?;
        Ok(self.take(count.checked_mul(32).ok_or(TOO_SHORT)?)?.as_chunks().0)
    }

    fn number(&mut self) -> Result<u64, &'static str> {
        let mut value: u64 = 0;
        loop {
            let (&byte, rest) = self.rest.split_first().ok_or(TOO_SHORT)?;
            if byte == 0x80 && value == 0 {
                return Err("a number with leading zeros");
            }
            if value > u64::MAX >> 7 {
                return Err("a number that is too large");
            }
            self.rest = rest;
            value = value << 7 | u64::from(byte & 0x7f);
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], &'static str> {
        let (taken, rest) = self.rest.split_at_checked(length).ok_or(TOO_SHORT)?;
        self.rest = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<&'a [u8; N], &'static str> {
        let (taken, rest) = self.rest.split_first_chunk().ok_or(TOO_SHORT)?;
        self.rest = rest;
        Ok(taken)
    }
}

const TOO_SHORT: &str = "a message that ends too early";

/// Puts a message together, range by range, ascending. What lies between two ranges is skipped.
pub(super) struct Writer {
    bytes: Vec<u8>,
    limit: usize,
    end: Element,
}

impl Writer {
    /// A message of at most `limit` bytes, as long as nobody writes more than there is [`Self::room`] for.
    pub(super) fn new(limit: usize) -> Self {
        Self { bytes: vec![VERSION], limit, end: Element::FIRST }
    }

    /// Bytes that are free, one more fingerprint (of the remainder) not counted.
    pub(super) fn room(&self) -> usize {
        self.limit.saturating_sub(self.bytes.len() + LONGEST_SKIP + LONGEST_FINGERPRINT)
    }

    pub(super) fn fingerprint(&mut self, lower: &Element, upper: &Element, fingerprint: &Fingerprint) {
        self.head(lower, upper, FINGERPRINT);
        self.bytes.extend_from_slice(fingerprint);
    }

    pub(super) fn ids(&mut self, lower: &Element, upper: &Element, elements: &[Element]) {
        self.head(lower, upper, IDS);
        put_number(&mut self.bytes, elements.len() as u64);
        for element in elements {
            self.bytes.extend_from_slice(&element.id);
        }
    }

    /// The message, unless it says nothing.
    pub(super) fn something(self) -> Option<Vec<u8>> {
        (self.bytes.len() > 1).then_some(self.bytes)
    }

    /// The message.
    pub(super) fn finish(self) -> Vec<u8> {
        self.bytes
    }

    fn head(&mut self, lower: &Element, upper: &Element, mode: u64) {
        if self.end < *lower {
            self.bound(lower);
            put_number(&mut self.bytes, SKIP);
        }
        self.bound(upper);
        put_number(&mut self.bytes, mode);
    }

    fn bound(&mut self, bound: &Element) {
        if bound.stamp == u64::MAX {
            self.bytes.extend_from_slice(&[0, 0]);
        } else {
            put_number(&mut self.bytes, bound.stamp.saturating_sub(self.end.stamp).saturating_add(1));
            // Zeros at the end are what the other side pads with.
            let prefix = bound.id.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
            put_number(&mut self.bytes, prefix as u64);
            self.bytes.extend(bound.id.iter().take(prefix));
        }
        self.end = *bound;
    }
}

/// Writes a number.
pub(super) fn put_number(bytes: &mut Vec<u8>, number: u64) {
    let digits = (u64::BITS - number.leading_zeros()).div_ceil(7).max(1);
    for digit in (0..digits).rev() {
        let more = if digit > 0 { 0x80 } else { 0 };
        bytes.push((number >> (7 * digit) & 0x7f) as u8 | more);
    }
}
