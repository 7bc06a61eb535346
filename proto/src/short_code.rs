//! The digits of a one-time share of credentials: shown on the sending device, typed on the receiving one.

use std::fmt;

use crate::limits;
use crate::secret::Secret;

/// A short code: 4 to 9 digits, leading zeros included.
pub struct ShortCode(Secret<String>);

/// Text that is not a short code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a code has 4 to 9 digits; type the one that the other device shows")]
pub struct NotACode;

impl ShortCode {
    /// The code in `text`: ASCII digits and nothing else.
    pub fn parse(text: &str) -> Result<Self, NotACode> {
        if !limits::SHORT_CODE.contains(&text.len()) || !text.bytes().all(|b| b.is_ascii_digit()) {
            return Err(NotACode);
        }
        Ok(Self(Secret::new(text.to_owned())))
    }

    /// A new code of so many digits; `fill` fills its argument with random bytes. Each code is equally likely.
    pub fn from_random(digits: usize, fill: &mut impl FnMut(&mut [u8])) -> Self {
        let digits = digits.clamp(*limits::SHORT_CODE.start(), *limits::SHORT_CODE.end());
        let mut code = Secret::new(String::with_capacity(digits));
        while code.expose().len() < digits {
            let mut byte = [0];
            fill(&mut byte);
            // 250 is the last whole ten of a byte: what lies above would make the smaller digits likelier.
            if let [drawn @ 0..250] = byte {
                code.expose_mut().push(char::from(b'0' + drawn % 10));
            }
        }
        Self(code)
    }

    /// The digits: to show them, and as the password of a PAKE.
    pub fn expose(&self) -> &str {
        self.0.expose()
    }
}

impl fmt::Debug for ShortCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ShortCode(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_is_four_to_nine_digits() {
        for text in ["0000", "4821", "123456789"] {
            assert_eq!(ShortCode::parse(text).unwrap().expose(), text);
        }
        for text in ["", "123", "1234567890", "12a4", " 1234", "+1234", "१२३४"] {
            assert_eq!(ShortCode::parse(text).err(), Some(NotACode), "{text:?}");
        }
    }

    #[test]
    fn what_would_favour_small_digits_is_drawn_again() {
        let mut drawn = [250, 255, 0, 9, 10, 249].iter();
        let code = ShortCode::from_random(1, &mut |into| into.fill(*drawn.next().unwrap()));
        assert_eq!(code.expose(), "0909", "never fewer than four");
        assert_eq!(drawn.len(), 0);
        assert_eq!(ShortCode::from_random(20, &mut |into| into.fill(7)).expose(), "777777777", "never more than nine");
    }
}
