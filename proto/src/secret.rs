//! `Secret<T>`: a value that neither prints nor serializes itself, and is wiped when it is dropped.

use std::fmt;

use zeroize::Zeroize;

/// A value that must not reach logs, events, errors or other processes by accident.
///
/// It is neither `Clone` nor `Serialize`, and its `Debug` prints no content: whoever wants the value says
/// [`Secret::expose`] at the one place where it is used.
pub struct Secret<T: Zeroize>(T);

impl<T: Zeroize> Secret<T> {
    /// Takes charge of `value`.
    pub fn new(value: T) -> Self {
        Self(value)
    }

    /// The value itself. Every call is a place to look at in a review.
    pub fn expose(&self) -> &T {
        &self.0
    }

    /// The value itself, to put it together in its place.
    pub fn expose_mut(&mut self) -> &mut T {
        &mut self.0
    }
}

impl<T: Zeroize> Drop for Secret<T> {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl<T: Zeroize> fmt::Debug for Secret<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_does_not_print_itself() {
        assert_eq!(format!("{:?}", Secret::new("123456".to_owned())), "Secret(…)");
    }
}
