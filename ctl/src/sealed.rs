//! Texts encrypted with a passphrase, and how they look in an entry: a JSON object of three base64 strings.
//!
//! ```text
//! key   Argon2id(passphrase, salt)
//! data  AES-256-GCM(key, iv, text), bound to the journal and the entry: a text moved elsewhere does not open
//! ```
//!
//! The costs of Argon2 are fixed and not in the content: nobody can make reading dear, or guessing cheap.

use std::collections::HashMap;

use aes_gcm::aead::{Aead as _, Payload};
use aes_gcm::{Aes256Gcm, KeyInit as _, Nonce};
use argon2::{Algorithm, Argon2, Params, Version};
use data_encoding::BASE64;
use kith_proto::secret::Secret;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::error::{Error, FAILED, Result};
use crate::passphrase::Passphrase;

/// Memory in KiB, passes and lanes. RFC 9106, section 4, second recommended option (64 MiB, 3 passes), with one lane
/// instead of four: what matters is the same work on the smallest device.
const COST: (u32, u32, u32) = (64 << 10, 3, 1);
/// The tag that AES-GCM appends.
const TAG: usize = 16;

/// Makes one passphrase's key another one's.
pub type Salt = [u8; 16];

/// Where a text belongs.
#[derive(Debug, Clone, Copy)]
pub struct Place<'a> {
    /// The journal's id.
    pub journal: &'a str,
    /// The entry's id.
    pub entry: &'a str,
}

impl Place<'_> {
    /// Neither id holds a zero byte, so no two places look the same.
    fn bound(self) -> Vec<u8> {
        ["kith journal entry, version 1", self.journal, self.entry].join("\0").into_bytes()
    }
}

/// A text that is encrypted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sealed {
    iv: [u8; 12],
    data: Vec<u8>,
    salt: Salt,
}

/// The same in an entry's body.
#[derive(Serialize, Deserialize)]
struct Content {
    iv: String,
    data: String,
    salt: String,
}

impl Sealed {
    /// The sealed text that a body holds, if that is what it holds.
    pub fn read(body: &[u8]) -> Option<Self> {
        let Content { iv, data, salt } = serde_json::from_slice(body).ok()?;
        let bytes = |text: String| BASE64.decode(text.as_bytes()).ok();
        let data = bytes(data).filter(|data| data.len() >= TAG)?;
        Some(Self { iv: bytes(iv)?.try_into().ok()?, data, salt: bytes(salt)?.try_into().ok()? })
    }

    /// The body that holds it.
    pub fn body(&self) -> Result<Vec<u8>> {
        let Self { iv, data, salt } = self;
        let content = Content { iv: BASE64.encode(iv), data: BASE64.encode(data), salt: BASE64.encode(salt) };
        serde_json::to_vec(&content).map_err(|error| internal(&error.to_string()))
    }

    /// What makes its key.
    pub fn salt(&self) -> &Salt {
        &self.salt
    }
}

/// What a passphrase opens. Each salt costs one derivation, however many texts share it.
pub struct Keyring {
    passphrase: Passphrase,
    keys: HashMap<Salt, Secret<[u8; 32]>>,
}

impl Keyring {
    /// The keys of `passphrase`.
    pub fn new(passphrase: Passphrase) -> Self {
        Self { passphrase, keys: HashMap::new() }
    }

    /// The text; `None` if the passphrase is another one, or the content is not what was written at this place.
    pub fn open(&mut self, sealed: &Sealed, place: Place<'_>) -> Result<Option<Zeroizing<Vec<u8>>>> {
        let cipher = self.cipher(&sealed.salt)?;
        let payload = Payload { msg: &sealed.data, aad: &place.bound() };
        Ok(cipher.decrypt(&Nonce::from(sealed.iv), payload).ok().map(Zeroizing::new))
    }

    /// Encrypts a text for a place. With the salt of others it opens as fast as they do.
    pub fn seal(&mut self, text: &[u8], place: Place<'_>, salt: Option<&Salt>) -> Result<Sealed> {
        let salt = match salt {
            Some(salt) => *salt,
            None => random()?,
        };
        let iv = random()?;
        let payload = Payload { msg: text, aad: &place.bound() };
        let data = self.cipher(&salt)?.encrypt(&Nonce::from(iv), payload).map_err(|_| internal("too long"))?;
        Ok(Sealed { iv, data, salt })
    }

    fn cipher(&mut self, salt: &Salt) -> Result<Aes256Gcm> {
        if !self.keys.contains_key(salt) {
            let key = derive(&self.passphrase, salt)?;
            self.keys.insert(*salt, key);
        }
        let key = self.keys.get(salt).ok_or_else(|| internal("no key"))?;
        Ok(Aes256Gcm::new(key.expose().into()))
    }
}

fn derive(passphrase: &Passphrase, salt: &Salt) -> Result<Secret<[u8; 32]>> {
    let (memory, passes, lanes) = COST;
    let mut key = Zeroizing::new([0; 32]);
    Params::new(memory, passes, lanes, Some(key.len()))
        .map(|params| Argon2::new(Algorithm::Argon2id, Version::V0x13, params))
        .and_then(|argon2| argon2.hash_password_into(passphrase.expose().as_bytes(), salt, &mut *key))
        .map_err(|error| internal(&error.to_string()))?;
    Ok(Secret::new(*key))
}

fn random<const N: usize>() -> Result<[u8; N]> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|error| internal(&error.to_string()))?;
    Ok(bytes)
}

fn internal(why: &str) -> Error {
    Error::new(FAILED, "internal", format!("cannot encrypt or decrypt: {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    const HERE: Place<'_> = Place { journal: "0123456789abcdef0123456789abcdef", entry: "a" };

    fn keyring(passphrase: &str) -> Keyring {
        Keyring::new(Secret::new(passphrase.to_owned()))
    }

    fn opened(keyring: &mut Keyring, sealed: &Sealed, place: Place<'_>) -> Option<Vec<u8>> {
        keyring.open(sealed, place).unwrap().map(|text| text.to_vec())
    }

    #[test]
    fn a_text_opens_where_it_was_written_and_nowhere_else() {
        let mut mine = keyring("correct horse");
        for text in [&b""[..], b"hi", "größe\n".as_bytes(), &[0; 1 << 20]] {
            let sealed = mine.seal(text, HERE, Some(&[7; 16])).unwrap();
            let back = Sealed::read(&sealed.body().unwrap()).unwrap();
            assert_eq!(back, sealed);
            assert_eq!(opened(&mut mine, &back, HERE).as_deref(), Some(text));
        }
        let sealed = mine.seal(b"hi", HERE, None).unwrap();
        for place in [
            Place { entry: "b", ..HERE },
            Place { entry: "", ..HERE },
            Place { journal: "0123456789abcdef0123456789abcdee", ..HERE },
        ] {
            assert_eq!(opened(&mut mine, &sealed, place), None, "{place:?}");
        }
        assert_eq!(opened(&mut keyring("correct horsf"), &sealed, HERE), None);
        assert_eq!(opened(&mut keyring("correct horse"), &sealed, HERE).as_deref(), Some(&b"hi"[..]));
    }

    #[test]
    fn whatever_is_changed_it_does_not_open() {
        let mut mine = keyring("x");
        let sealed = mine.seal(b"hi", HERE, None).unwrap();
        let mut changed = [sealed.clone(), sealed.clone(), sealed.clone(), sealed.clone(), sealed.clone()];
        changed[0].iv[0] ^= 1;
        changed[1].data[0] ^= 1;
        *changed[2].data.last_mut().unwrap() ^= 1;
        changed[3].salt[15] ^= 1;
        changed[4].data.pop();
        for changed in changed {
            assert_eq!(opened(&mut mine, &changed, HERE), None, "{changed:?}");
        }
        assert!(opened(&mut mine, &sealed, HERE).is_some());
    }

    #[test]
    fn no_two_are_alike_and_those_of_one_salt_cost_one_derivation() {
        let mut mine = keyring("x");
        let first = mine.seal(b"hi", HERE, None).unwrap();
        let second = mine.seal(b"hi", HERE, Some(first.salt())).unwrap();
        let third = mine.seal(b"hi", HERE, None).unwrap();
        assert_eq!((first.salt == second.salt, first.salt == third.salt), (true, false));
        assert!(first.iv != second.iv && first.data != second.data);
        assert_eq!(mine.keys.len(), 2);
    }

    // Made with other implementations of Argon2id (in C) and AES-256-GCM: what is written today opens for ever.
    #[test]
    fn the_format_is_what_it_says() {
        let key = derive(&Secret::new("correct horse".to_owned()), b"0123456789abcdef").unwrap();
        let known = "92599c67f23f1d9dce9b6f0cfb5a9b18ce110336de00799947472465edd9e49a";
        assert_eq!(data_encoding::HEXLOWER.encode(key.expose()), known);

        let body =
            r#"{"iv":"AAECAwQFBgcICQoL","data":"Qr2pyxZ4eoBo0ZgJA0cFqH1au3iD3Kln","salt":"MDEyMzQ1Njc4OWFiY2RlZg=="}"#;
        let sealed = Sealed::read(body.as_bytes()).unwrap();
        assert_eq!(opened(&mut keyring("correct horse"), &sealed, HERE).as_deref(), Some("größe\n".as_bytes()));
        assert_eq!(sealed.body().unwrap(), body.as_bytes());
    }

    #[test]
    fn bodies_that_are_something_else() {
        let (iv, data, salt) = (BASE64.encode(&[1; 12]), BASE64.encode(&[2; 16]), BASE64.encode(&[3; 16]));
        let whole = json!({"iv": iv, "data": data, "salt": salt});
        let read = |value: &Value| Sealed::read(value.to_string().as_bytes());
        assert!(read(&whole).is_some());
        let mut newer = whole.clone();
        newer["newer"] = json!(1);
        assert!(read(&newer).is_some());
        for (field, value) in [
            ("iv", json!(BASE64.encode(&[1; 11]))),
            ("iv", json!(iv.trim_end_matches('=').to_owned() + "!")),
            ("iv", json!(1)),
            ("data", json!(BASE64.encode(&[2; 15]))),
            ("data", Value::Null),
            ("salt", json!(BASE64.encode(&[3; 17]))),
            ("salt", json!("")),
        ] {
            let mut other = whole.clone();
            other[field] = value;
            assert_eq!(read(&other), None, "{other}");
        }
        for body in [&b""[..], b"hi", b"{}", b"[]", b"\xff", &whole.to_string().as_bytes()[1..]] {
            assert_eq!(Sealed::read(body), None, "{body:?}");
        }
    }
}
