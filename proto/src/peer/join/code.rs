//! The code: 128 random bits that people can read out, and the keys that follow from them.
//!
//! ```text
//! d0 … d25  2 version bits and 128 random bits, in Crockford's base 32 (no I, L, O, U)
//! c0 c1     the value of d0 … d25 in base 32, modulo 1021
//! shown     23A0-AJAR-58JG-K4EJ-190Y-XXVW-B80D
//! ```
//!
//! 1021 is prime and 32 has a large order modulo it: every single wrong symbol, and every two that changed places, is
//! noticed before anybody is asked.

use std::fmt;

use ed25519_dalek::{Signer, SigningKey};
use hkdf::Hkdf;
use sha2::Sha256;
use zeroize::Zeroizing;

use crate::limits;
use crate::secret::Secret;

/// Crockford's base 32.
const SYMBOLS: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";
/// Symbols that carry version and secret.
const DATA: usize = 26;
/// … and all of them.
const ALL: usize = DATA + 2;
const MODULUS: u32 = 1021;
/// The version in the first two bits.
const VERSION: u8 = 0;
const SALT: &[u8] = b"kith/sharing-code/v1";
/// How a code is written where a program is to know what it is.
pub const URI: &str = "kith:join/";

/// A sharing code.
pub struct SharingCode(Secret<[u8; 16]>);

/// Text that is no code. Whoever typed it looks again; nobody else is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CodeError {
    /// Too short or too long.
    #[error("a code has 28 letters and digits in seven groups of four; this one has {0}")]
    Length(usize),
    /// A character that is in no code.
    #[error("there is no such character in a code: letter or digit number {0}")]
    Symbol(usize),
    /// The check symbols do not fit.
    #[error("there is a typing error in this code; compare it with the one that you were given")]
    Check,
    /// A code of a version that is to come.
    #[error("this code was made by a newer version of Kith; update this device")]
    Version,
    /// A ticket whose payload is none.
    #[error("this ticket is damaged; scan or copy it again")]
    Ticket,
}

/// What follows from a code, each from its own label, so that none tells anything of the others.
pub struct Keys {
    /// Under which name the payload waits: 32 bytes.
    pub lookup: [u8; 32],
    /// Opens the payload: AES-256-GCM.
    pub payload: Secret<[u8; 32]>,
    /// Proves that one has the code: an Ed25519 seed.
    pub proof: ProofKey,
}

impl SharingCode {
    /// A new code; `random` are its random bits.
    pub fn from_random(random: [u8; 16]) -> Self {
        Self(Secret::new(random))
    }

    /// The code in `text`: any case, with or without dashes and spaces, `kith:join/` before it or not; O is read as 0,
    /// I and L as 1.
    pub fn parse(text: &str) -> Result<Self, CodeError> {
        let text = text.trim();
        let text = match text.get(..URI.len()) {
            Some(head) if head.eq_ignore_ascii_case(URI) => text.get(URI.len()..).unwrap_or_default(),
            _ => text,
        };
        let written = || text.chars().filter(|c| *c != '-' && !c.is_whitespace());
        let count = written().take(limits::SHARING_TICKET).count();
        if count != ALL {
            return Err(CodeError::Length(count));
        }
        let mut symbols = Zeroizing::new([0; ALL]);
        for (at, (into, c)) in symbols.iter_mut().zip(written()).enumerate() {
            *into = value(c).ok_or(CodeError::Symbol(at + 1))?;
        }
        let (data, check) = symbols.split_at(DATA);
        if check != checksum(data) {
            return Err(CodeError::Check);
        }
        // 130 bits: two of version, then 16 bytes.
        let (mut version, mut bits, mut held, mut bytes) = (0, 0_u32, 0_u16, Zeroizing::new([0; 16]));
        let mut into = bytes.iter_mut();
        for (at, symbol) in data.iter().enumerate() {
            if at == 0 {
                (version, held, bits) = (symbol >> 3, u16::from(symbol & 7), 3);
                continue;
            }
            (held, bits) = (held << 5 | u16::from(*symbol), bits + 5);
            if bits >= 8 {
                bits -= 8;
                if let Some(byte) = into.next() {
                    *byte = (held >> bits) as u8;
                }
                held &= (1 << bits) - 1;
            }
        }
        if version != VERSION { Err(CodeError::Version) } else { Ok(Self(Secret::new(*bytes))) }
    }

    /// As people see it: seven groups of four.
    pub fn to_text(&self) -> Secret<String> {
        let mut data = Zeroizing::new([0; DATA]);
        let (mut held, mut bits) = (u16::from(VERSION), 2_u32);
        let mut bytes = self.0.expose().iter();
        for into in data.iter_mut() {
            if bits < 5
                && let Some(byte) = bytes.next()
            {
                (held, bits) = (held << 8 | u16::from(*byte), bits + 8);
            }
            bits -= 5;
            *into = (held >> bits) as u8;
            held &= (1 << bits) - 1;
        }
        let mut text = Secret::new(String::with_capacity(ALL + 6));
        for (at, symbol) in data.iter().chain(&checksum(data.as_slice())).enumerate() {
            if at > 0 && at % 4 == 0 {
                text.expose_mut().push('-');
            }
            text.expose_mut().push(SYMBOLS.get(usize::from(*symbol)).copied().map_or('0', char::from));
        }
        text
    }

    /// The same for programs and QR codes.
    pub fn to_uri(&self) -> Secret<String> {
        Secret::new(format!("{URI}{}", self.to_text().expose()))
    }

    /// HKDF-SHA256 (RFC 5869) of the random bits.
    pub fn keys(&self) -> Keys {
        let hkdf = Hkdf::<Sha256>::new(Some(SALT), self.0.expose());
        let derive = |label: &str| {
            let mut key = Zeroizing::new([0; 32]);
            // 32 bytes are always within what HKDF-SHA256 gives (8,160).
            let _ = hkdf.expand(label.as_bytes(), key.as_mut_slice());
            *key
        };
        Keys {
            lookup: derive("lookup id"),
            payload: Secret::new(derive("payload key")),
            proof: ProofKey(Secret::new(derive("proof seed"))),
        }
    }
}

impl fmt::Debug for SharingCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SharingCode(…)")
    }
}

/// The key by which a joiner proves that it has the code.
#[derive(Debug)]
pub struct ProofKey(Secret<[u8; 32]>);

impl ProofKey {
    /// As a joiner keeps it until its join is over.
    pub fn from_seed(seed: [u8; 32]) -> Self {
        Self(Secret::new(seed))
    }

    /// To keep it.
    pub fn seed(&self) -> &[u8; 32] {
        self.0.expose()
    }

    /// What the issuer keeps.
    pub fn public(&self) -> [u8; 32] {
        SigningKey::from_bytes(self.0.expose()).verifying_key().to_bytes()
    }

    /// Ed25519 (RFC 8032).
    pub fn sign(&self, message: &[u8]) -> [u8; 64] {
        SigningKey::from_bytes(self.0.expose()).sign(message).to_bytes()
    }
}

fn value(c: char) -> Option<u8> {
    let c = match c.to_ascii_uppercase() {
        'O' => '0',
        'I' | 'L' => '1',
        c => c,
    };
    let c = u8::try_from(c).ok()?;
    SYMBOLS.iter().position(|symbol| *symbol == c).and_then(|at| u8::try_from(at).ok())
}

/// The two check symbols of `data`.
fn checksum(data: &[u8]) -> [u8; 2] {
    let sum = data.iter().fold(0, |sum, symbol| (sum * 32 + u32::from(*symbol)) % MODULUS);
    [(sum / 32) as u8, (sum % 32) as u8]
}
