//! Six digits.

use std::fmt;

use subtle::ConstantTimeEq;

use crate::secret::Secret;

/// The PIN that one device shows and that is typed into the other: six digits, leading zeros included.
pub struct Pin(Secret<String>);

/// Text that is not a PIN.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a PIN is six digits; type the one that the other device shows")]
pub struct NotAPin;

impl Pin {
    /// The PIN in `text`: six ASCII digits and nothing else.
    pub fn parse(text: &str) -> Result<Self, NotAPin> {
        if text.len() != 6 || !text.bytes().all(|b| b.is_ascii_digit()) {
            return Err(NotAPin);
        }
        Ok(Self(Secret::new(text.to_owned())))
    }

    /// A new PIN; `fill` fills its argument with random bytes. Each of the million is equally likely.
    pub fn from_random(fill: &mut impl FnMut(&mut [u8])) -> Self {
        const PINS: u32 = 1_000_000;
        // What lies above the last whole million would make the smaller PINs likelier; it is drawn again.
        const FAIR: u32 = u32::MAX / PINS * PINS;
        loop {
            let mut bytes = [0; 4];
            fill(&mut bytes);
            let drawn = u32::from_le_bytes(bytes);
            if drawn < FAIR {
                return Self(Secret::new(format!("{:06}", drawn % PINS)));
            }
        }
    }

    /// The digits, to show them or to put them into a QR.
    pub fn expose(&self) -> &str {
        self.0.expose()
    }

    /// Whether `guess` is this PIN. Takes the same time wherever the two differ.
    pub fn matches(&self, guess: &str) -> bool {
        self.expose().as_bytes().ct_eq(guess.as_bytes()).into()
    }

    /// A second copy, for the QR of the same window.
    pub fn duplicate(&self) -> Self {
        Self(Secret::new(self.expose().to_owned()))
    }
}

impl fmt::Debug for Pin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Pin(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pin_is_six_digits() {
        for text in ["000000", "123456", "999999"] {
            assert_eq!(Pin::parse(text).unwrap().expose(), text);
        }
        for text in ["", "12345", "1234567", "12345a", " 12345", "+12345", "12 345", "１２３４５６", "१२"] {
            assert_eq!(Pin::parse(text).err(), Some(NotAPin), "{text:?}");
        }
    }

    #[test]
    fn what_would_favour_small_pins_is_drawn_again() {
        let draw = |drawn: &[u32]| {
            let mut left = drawn.iter();
            let pin = Pin::from_random(&mut |into| into.copy_from_slice(&left.next().unwrap().to_le_bytes()));
            assert_eq!(left.len(), 0, "each draw was needed");
            pin.expose().to_owned()
        };
        assert_eq!(draw(&[7]), "000007");
        assert_eq!(draw(&[4_293_999_999]), "999999");
        assert_eq!(draw(&[4_294_000_000, u32::MAX, 123_456]), "123456");
    }
}
