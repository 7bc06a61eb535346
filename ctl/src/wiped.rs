//! Bytes that may hold a secret and leave no copy of it behind: room is made before they are written, and what held them
//! is wiped.

use std::io::{self, Read, Write};

use serde::Serialize;
use zeroize::Zeroizing;

/// `value` as JSON, with `tail` behind it.
pub fn json(value: &impl Serialize, tail: &[u8]) -> serde_json::Result<Zeroizing<Vec<u8>>> {
    // Written twice, the first time to see how much room it takes.
    let mut length = Length(tail.len());
    serde_json::to_writer(&mut length, value)?;
    let mut json = Zeroizing::new(Vec::with_capacity(length.0));
    serde_json::to_writer(&mut *json, value)?;
    json.extend_from_slice(tail);
    Ok(json)
}

/// All of `input`, or its first `most` bytes.
pub fn read(input: impl Read, most: usize) -> io::Result<Zeroizing<Vec<u8>>> {
    let mut input = input.take(most as u64);
    let mut all = Zeroizing::new(Vec::new());
    let mut piece = Zeroizing::new([0; 4096]);
    loop {
        match input.read(&mut *piece) {
            Ok(0) => return Ok(all),
            Ok(count) => append(&mut all, &piece[..count]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// Adds `more` to `bytes`, which are wiped where they were if there is no room for it.
pub fn append(bytes: &mut Zeroizing<Vec<u8>>, more: &[u8]) {
    let length = bytes.len() + more.len();
    if length > bytes.capacity() {
        let mut moved = Zeroizing::new(Vec::with_capacity(length.max(bytes.capacity() * 2)));
        moved.extend_from_slice(bytes);
        *bytes = moved;
    }
    bytes.extend_from_slice(more);
}

/// Counts what is written.
struct Length(usize);

impl Write for Length {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 += bytes.len();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_moved_without_need() {
        let written = json(&vec!["a\n", "é"], b"\n").unwrap();
        assert_eq!((&written[..], written.capacity()), (&b"[\"a\\n\",\"\xc3\xa9\"]\n"[..], written.len()));
    }

    #[test]
    fn everything_up_to_a_bound_is_read() {
        let long: Vec<u8> = (0..10_000_u32).map(|n| n as u8).collect();
        for most in [0, 1, 4096, 4097, 9_999, 10_000, 20_000] {
            assert_eq!(&read(&*long, most).unwrap()[..], &long[..most.min(long.len())], "{most}");
        }
    }
}
