//! The hash by which people recognise a certificate that nobody has signed for them.

use std::fmt;
use std::str::FromStr;

use sha2::{Digest, Sha256};

/// SHA-256 over a certificate in DER. Shown as 64 lower-case hex digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct CertificateHash([u8; 32]);

/// Text that is not a certificate hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a certificate hash is 64 hex digits; blanks and colons between them do not matter")]
pub struct NotAHash;

impl CertificateHash {
    /// The hash of a certificate.
    pub fn of(der: &[u8]) -> Self {
        Self(Sha256::digest(der).into())
    }

    /// The hash as another protocol carries it.
    pub const fn from_bytes(hash: [u8; 32]) -> Self {
        Self(hash)
    }

    /// The hash itself.
    pub const fn to_bytes(self) -> [u8; 32] {
        self.0
    }
}

impl FromStr for CertificateHash {
    type Err = NotAHash;

    /// All 64 digits, in any case, with whitespace or colons between them. A part of a hash is none.
    fn from_str(text: &str) -> Result<Self, NotAHash> {
        let digits = text.chars().filter(|c| !c.is_ascii_whitespace() && *c != ':');
        let mut hash = [0; 32];
        let mut count = 0;
        for c in digits {
            let digit = c.to_digit(16).and_then(|digit| u8::try_from(digit).ok()).ok_or(NotAHash)?;
            let byte = hash.get_mut(count / 2).ok_or(NotAHash)?;
            *byte = *byte << 4 | digit;
            count += 1;
        }
        if count == 64 { Ok(Self(hash)) } else { Err(NotAHash) }
    }
}

impl fmt::Display for CertificateHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for CertificateHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn d27_forms_are_equal_and_parts_are_refused() {
        let hash = CertificateHash::of(b"");
        let plain = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        assert_eq!(hash.to_string(), plain);
        let grouped = "E3B0 C442 98fc 1c14\n9afb f4c8 996f b924\n27ae 41e4 649b 934c\na495 991b 7852 b855";
        let colons: String = plain.as_bytes().chunks(2).map(|two| format!("{}:", two.escape_ascii())).collect();
        for form in [plain, grouped, &colons, &plain.to_uppercase()] {
            assert_eq!(form.parse(), Ok(hash), "{form:?}");
        }
        for form in ["", &plain[..63], &plain[..32], &format!("{plain}0"), &format!("{}g", &plain[..63]), "é"] {
            assert_eq!(form.parse::<CertificateHash>(), Err(NotAHash), "{form:?}");
        }
    }
}
