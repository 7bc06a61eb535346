//! Device keys and the short ids that are shown to people.
//!
//! Trust is always in the full 32-byte key. The id is the first 16 hex digits of its SHA-256 (seed 001): short enough
//! to read aloud, and too short to rely on.

use std::fmt;
use std::str::FromStr;

use data_encoding::{BASE64URL_NOPAD, HEXLOWER};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use sha2::{Digest, Sha256};

/// An Ed25519 public key: the whole identity of a device.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PublicKey(pub [u8; 32]);

impl PublicKey {
    /// The key in `bytes`, if that is what they are as long as.
    pub fn from_slice(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }

    /// The id under which people see this device.
    pub fn device_id(&self) -> DeviceId {
        let [a, b, c, d, e, f, g, h, ..] = self.fingerprint();
        DeviceId([a, b, c, d, e, f, g, h])
    }

    /// SHA-256 of the key, as a pairing QR carries it.
    pub fn fingerprint(&self) -> [u8; 32] {
        Sha256::digest(self.0).into()
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&BASE64URL_NOPAD.encode(&self.0))
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({self})")
    }
}

/// Text that is not a device id or a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum IdError {
    /// A device id is 16 lower-case hex digits.
    #[error("a device id is 16 lower-case hex digits")]
    DeviceId,
    /// A public key is 32 bytes in unpadded base64url.
    #[error("a public key is 32 bytes in base64url without padding")]
    PublicKey,
}

impl FromStr for PublicKey {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        let bytes = BASE64URL_NOPAD.decode(text.as_bytes()).map_err(|_| IdError::PublicKey)?;
        Self::from_slice(&bytes).ok_or(IdError::PublicKey)
    }
}

/// The first 8 bytes of SHA-256(public key), written as 16 hex digits: for showing and naming, never for trusting.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DeviceId(pub [u8; 8]);

impl DeviceId {
    /// The preferred port of the peer door: 44000 to 44999, from the first four hex digits (seed 001).
    pub fn preferred_port(&self) -> u16 {
        44_000 + u16::from_be_bytes([self.0[0], self.0[1]]) % 1000
    }

    /// The first eight hex digits, for names that people tell apart.
    pub fn short(&self) -> String {
        HEXLOWER.encode(&self.0[..4])
    }
}

impl fmt::Display for DeviceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&HEXLOWER.encode(&self.0))
    }
}

impl fmt::Debug for DeviceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DeviceId({self})")
    }
}

impl FromStr for DeviceId {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        let bytes = HEXLOWER.decode(text.as_bytes()).map_err(|_| IdError::DeviceId)?;
        bytes.try_into().map(Self).map_err(|_| IdError::DeviceId)
    }
}

macro_rules! serde_as_text {
    ($type:ty) => {
        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
            }
        }
    };
}

serde_as_text!(PublicKey);
serde_as_text!(DeviceId);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_the_head_of_the_key_hash() {
        let key = PublicKey([7; 32]);
        let full = HEXLOWER.encode(&key.fingerprint());
        assert_eq!(key.device_id().to_string(), full[..16]);
        assert_eq!(key.device_id().short(), full[..8]);
        assert_eq!(key.to_string().parse(), Ok(key));
    }

    #[test]
    fn the_port_follows_the_seed() {
        let id: DeviceId = "9a4f0b2c00000000".parse().unwrap();
        assert_eq!(id.preferred_port(), 44_000 + 0x9a4f % 1000);
    }

    #[test]
    fn ids_that_are_not_ids() {
        for text in ["", "9a4f", "9A4F0B2C00000000", "9a4f0b2c0000000g", "9a4f0b2c000000000", " 9a4f0b2c0000000"] {
            assert_eq!(text.parse::<DeviceId>(), Err(IdError::DeviceId), "{text:?}");
        }
    }
}
