//! What waits under a code's lookup id: who issued it, what it lets one join, and where to go.
//!
//! ```text
//! blob = [1][expires: ms since 1970, 8 bytes, big-endian][nonce: 12 bytes][AES-256-GCM]
//! AAD  = "kith payload 1" 0 ‖ lookup id ‖ expires          text = JSON, padded with spaces
//! ```
//!
//! A blob has 512, 1024, 2048 or 4096 bytes, so that its length says next to nothing. A store sees neither code nor
//! names; whoever does not know the code cannot change a bit of it.

use std::net::SocketAddr;

use aes_gcm::aead::{Aead, Payload as Sealing};
use aes_gcm::{Aes256Gcm, KeyInit, Nonce};
use data_encoding::BASE64URL_NOPAD;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use zeroize::Zeroizing;

use super::code::{CodeError, Keys, SharingCode};
use crate::id::PublicKey;
use crate::limits;
use crate::peer::journal::member::Resource;
use crate::secret::Secret;

/// The version of the payload's JSON.
pub const VERSION: u32 = 1;
/// The sizes of a blob.
pub const SIZES: [usize; 4] = [512, 1024, 2048, limits::HELLO_BLOB];
const FORMAT: u8 = 1;
const LABEL: &[u8] = b"kith payload 1\0";
const HEAD: usize = 1 + 8 + 12;
const TAG: usize = 16;
/// Between a code and its payload in a ticket.
const PAYLOAD: char = '?';

/// What a code lets one do with the resource. Nothing signs what is read and written, so it says how things are meant,
/// and is there for kinds of resources that can hold to it (seed 002: "purely cosmetical").
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Permission {
    /// Everything that members may.
    ReadWrite,
    /// One of a newer version.
    #[serde(other)]
    Unknown,
}

/// Whether somebody is asked when a device comes with the code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Approval {
    /// Nobody.
    Auto,
    /// The issuer, each time; and what a newer version may say.
    #[serde(other)]
    Ask,
}

/// The payload. Unknown fields are ignored.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Payload {
    /// [`VERSION`] of whoever wrote it.
    pub v: u32,
    /// The oldest version that understands enough of it.
    pub min_version: u32,
    /// Who issued the code: the key that must answer.
    pub issuer: PublicKey,
    /// How it calls itself.
    pub name: String,
    /// What is shared; its id follows from all of it.
    pub resource: Resource,
    /// What the issuer calls it for those who join.
    pub label: String,
    /// What one may do with it.
    pub permission: Permission,
    /// Whether somebody will be asked.
    pub approval: Approval,
    /// Where the issuer's peer door was when the code was made: at most [`limits::PAYLOAD_ADDRESSES`].
    pub addresses: Vec<SocketAddr>,
    /// Stores that have this payload.
    #[serde(default)]
    pub stores: Vec<String>,
    /// Keys that come with the code, by what they are for. None yet.
    #[serde(default)]
    pub grants: Map<String, Value>,
}

/// Why a blob is no payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PayloadError {
    /// Cut, damaged, or somebody else's.
    #[error("what was found for this code cannot be decrypted: it is damaged, or not what the issuer left there")]
    Sealed,
    /// It is what the issuer left, and makes no sense.
    #[error("what the issuer left for this code makes no sense to this version")]
    Malformed,
    /// It needs a newer version.
    #[error("the issuer of this code runs a newer version of Kith; update this device")]
    Version,
    /// It does not fit into the largest size.
    #[error("there is too much to say for one payload: shorten the label or the names")]
    TooLarge,
}

impl Payload {
    /// The blob for a store. `nonce` is random; a key seals one payload only.
    pub fn seal(&self, keys: &Keys, expires_ms: u64, nonce: [u8; 12]) -> Result<Vec<u8>, PayloadError> {
        let mut text = serde_json::to_vec(self).map_err(|_| PayloadError::Malformed)?;
        let needed = HEAD + text.len() + TAG;
        let size = SIZES.into_iter().find(|size| *size >= needed).ok_or(PayloadError::TooLarge)?;
        text.resize(size - HEAD - TAG, b' ');
        let cipher = Aes256Gcm::new_from_slice(keys.payload.expose()).map_err(|_| PayloadError::Sealed)?;
        let sealing = Sealing { msg: &text, aad: &aad(&keys.lookup, expires_ms) };
        let sealed = cipher.encrypt(&Nonce::from(nonce), sealing).map_err(|_| PayloadError::Sealed)?;
        let mut blob = vec![FORMAT];
        blob.extend_from_slice(&expires_ms.to_be_bytes());
        blob.extend_from_slice(&nonce);
        blob.extend_from_slice(&sealed);
        Ok(blob)
    }

    /// What is in a blob, and when its code expires (milliseconds since 1970).
    pub fn open(blob: &[u8], keys: &Keys) -> Result<(Self, u64), PayloadError> {
        let parts = || {
            let (format, rest) = blob.split_first()?;
            let (expires, rest) = rest.split_first_chunk::<8>()?;
            let (nonce, sealed) = rest.split_first_chunk::<12>()?;
            (*format == FORMAT && SIZES.contains(&blob.len())).then_some((u64::from_be_bytes(*expires), *nonce, sealed))
        };
        let (expires_ms, nonce, sealed) = parts().ok_or(PayloadError::Sealed)?;
        let cipher = Aes256Gcm::new_from_slice(keys.payload.expose()).map_err(|_| PayloadError::Sealed)?;
        let sealing = Sealing { msg: sealed, aad: &aad(&keys.lookup, expires_ms) };
        let text = Zeroizing::new(cipher.decrypt(&Nonce::from(nonce), sealing).map_err(|_| PayloadError::Sealed)?);
        // The version first: the rest may look different then.
        #[derive(Deserialize)]
        struct Versions {
            min_version: u32,
        }
        let versions: Versions = serde_json::from_slice(&text).map_err(|_| PayloadError::Malformed)?;
        if versions.min_version > VERSION {
            return Err(PayloadError::Version);
        }
        let payload: Self = serde_json::from_slice(&text).map_err(|_| PayloadError::Malformed)?;
        if payload.is_well_formed() { Ok((payload, expires_ms)) } else { Err(PayloadError::Malformed) }
    }

    fn is_well_formed(&self) -> bool {
        self.name.len() <= limits::DEVICE_NAME
            && self.label.len() <= limits::CODE_LABEL
            && self.resource.name.len() <= limits::JOURNAL_NAME
            && self.addresses.len() <= limits::PAYLOAD_ADDRESSES
            && self.stores.len() <= limits::HELLO_STORES
            && self.stores.iter().all(|store| store.len() <= limits::HELLO_URL)
    }
}

fn aad(lookup: &[u8; 32], expires_ms: u64) -> Vec<u8> {
    [LABEL, lookup, &expires_ms.to_be_bytes()].concat()
}

/// A ticket: the code with its payload, for where no store is reachable. `kith:join/CODE?BASE64URL`.
pub fn ticket(code: &SharingCode, blob: &[u8]) -> Secret<String> {
    Secret::new(format!("{}{PAYLOAD}{}", code.to_uri().expose(), BASE64URL_NOPAD.encode(blob)))
}

/// What somebody typed, scanned or pasted: a code, and its payload if it is a ticket.
pub fn parse(text: &str) -> Result<(SharingCode, Option<Vec<u8>>), CodeError> {
    let text = text.trim();
    if text.len() > limits::SHARING_TICKET {
        return Err(CodeError::Ticket);
    }
    match text.split_once(PAYLOAD) {
        None => Ok((SharingCode::parse(text)?, None)),
        Some((code, blob)) => {
            let blob = BASE64URL_NOPAD.decode(blob.as_bytes()).map_err(|_| CodeError::Ticket)?;
            Ok((SharingCode::parse(code)?, Some(blob)))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::payload;
    use super::*;

    fn keys(byte: u8) -> Keys {
        SharingCode::from_random([byte; 16]).keys()
    }

    #[test]
    fn a_payload_comes_back_padded_and_bound_to_code_and_expiry() {
        let (sealed_with, other) = (keys(7), keys(8));
        let blob = payload().seal(&sealed_with, 1_800_000_000_000, [1; 12]).unwrap();
        assert!(SIZES.contains(&blob.len()), "{}", blob.len());
        assert_eq!(Payload::open(&blob, &sealed_with), Ok((payload(), 1_800_000_000_000)));
        assert_eq!(Payload::open(&blob, &other), Err(PayloadError::Sealed));
        for at in 0..blob.len() {
            let mut changed = blob.clone();
            changed[at] ^= 1;
            assert_eq!(Payload::open(&changed, &sealed_with), Err(PayloadError::Sealed), "byte {at}");
        }
        for length in [0, 1, 8, 20, 21, 36, 37, 511, blob.len() - 1] {
            assert_eq!(Payload::open(&blob[..length], &sealed_with), Err(PayloadError::Sealed), "{length} bytes");
        }
    }

    #[test]
    fn newer_fields_are_ignored_and_newer_versions_named() {
        let keys = keys(7);
        let mut json = serde_json::to_value(payload()).unwrap();
        json["more"] = "x".into();
        json["v"] = 9.into();
        json["resource"]["kind"] = "folder".into();
        json["permission"] = "send".into();
        let seal = |json: &Value| {
            // As a newer version would: other types, the same format.
            let mut text = serde_json::to_vec(json).unwrap();
            text.resize(1024 - HEAD - TAG, b' ');
            let cipher = Aes256Gcm::new_from_slice(keys.payload.expose()).unwrap();
            let sealing = Sealing { msg: &text, aad: &aad(&keys.lookup, 5) };
            let mut blob = [&[FORMAT][..], &5_u64.to_be_bytes(), &[3; 12]].concat();
            blob.extend(cipher.encrypt(&Nonce::from([3; 12]), sealing).unwrap());
            blob
        };
        let opened = Payload::open(&seal(&json), &keys).unwrap().0;
        assert_eq!(opened.permission, Permission::Unknown);
        assert_eq!(opened.resource.kind, crate::peer::journal::member::Kind::Unknown);
        json["min_version"] = 2.into();
        assert_eq!(Payload::open(&seal(&json), &keys), Err(PayloadError::Version));
        json["min_version"] = 1.into();
        json["label"] = "x".repeat(limits::CODE_LABEL + 1).into();
        assert_eq!(Payload::open(&seal(&json), &keys), Err(PayloadError::Malformed));
    }

    #[test]
    fn a_full_payload_fits_and_one_too_many_is_told() {
        let mut full = payload();
        full.name = "n".repeat(limits::DEVICE_NAME);
        full.label = "l".repeat(limits::CODE_LABEL);
        full.resource.name = "\"".repeat(limits::JOURNAL_NAME);
        let address: SocketAddr = "[2001:db8:aaaa:bbbb:cccc:dddd:eeee:ffff%4294967295]:65535".parse().unwrap();
        full.addresses = vec![address; limits::PAYLOAD_ADDRESSES];
        full.stores = vec!["s".repeat(limits::HELLO_URL); limits::HELLO_STORES];
        assert_eq!(full.seal(&keys(1), 1, [0; 12]).unwrap().len(), limits::HELLO_BLOB);
        full.grants.insert("key".to_owned(), "x".repeat(limits::HELLO_BLOB).into());
        assert_eq!(full.seal(&keys(1), 1, [0; 12]), Err(PayloadError::TooLarge));
    }

    #[test]
    fn a_ticket_is_a_code_with_its_payload() {
        let code = SharingCode::from_random([9; 16]);
        let blob = payload().seal(&code.keys(), 1, [0; 12]).unwrap();
        let (read, carried) = parse(&format!(" {}\n", ticket(&code, &blob).expose())).unwrap();
        assert_eq!(read.keys().lookup, code.keys().lookup);
        assert_eq!(Payload::open(&carried.unwrap(), &read.keys()).unwrap().0, payload());
        assert!(parse(code.to_text().expose()).unwrap().1.is_none());
        assert_eq!(parse(&format!("{}?*", code.to_uri().expose())).err(), Some(CodeError::Ticket));
        assert_eq!(parse(&"A".repeat(limits::SHARING_TICKET + 1)).err(), Some(CodeError::Ticket));
    }
}
