//! The hello store: a passive place for a small blob under a random name for a short while (seed 002).
//!
//! ```text
//! PUT    /v1/hello/{lookup}   ≤ 4096 bytes                             201 new | 200 the same bytes | 409 other bytes
//!        Hello-Owner: SHA-256 of the owner's token, 64 hex digits      413 | 422 | 429 | 507
//!        Hello-Expires: Unix time in seconds; 7 days from now when absent
//! GET    /v1/hello/{lookup}   200 and Hello-Expires | 404 | 410 {"error":"expired"|"withdrawn"} | 429 and Retry-After
//! DELETE /v1/hello/{lookup}   Authorization: Bearer TOKEN              204 | 404
//! ```
//!
//! `lookup` is 32 bytes in base64url without padding, 43 characters; whatever else stands there is 404. There is no list.

use std::fmt;

use data_encoding::{BASE64URL_NOPAD, HEXLOWER};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use super::CertificateHash;
use crate::limits;
use crate::secret::Secret;

/// Before the lookup id in a path.
pub const PATH: &str = "/v1/hello/";
/// The header that says when a blob goes: Unix time in seconds.
pub const EXPIRES: &str = "hello-expires";
/// The header that says who may withdraw it.
pub const OWNER: &str = "hello-owner";

/// Under which name a blob lies. Whoever has it can fetch the blob, so it does not print itself.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Lookup(pub [u8; 32]);

impl Lookup {
    /// The last segment of a path.
    pub fn parse(segment: &str) -> Option<Self> {
        if segment.len() != 43 {
            return None;
        }
        BASE64URL_NOPAD.decode(segment.as_bytes()).ok()?.try_into().ok().map(Self)
    }

    /// The same, written.
    pub fn to_text(&self) -> String {
        BASE64URL_NOPAD.encode(&self.0)
    }
}

impl fmt::Debug for Lookup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Lookup(…)")
    }
}

/// What proves that one put a blob there: visible ASCII.
#[derive(Debug)]
pub struct OwnerToken(Secret<String>);

impl OwnerToken {
    /// A token of 32 random bytes.
    pub fn from_random(random: &[u8; 32]) -> Self {
        Self(Secret::new(BASE64URL_NOPAD.encode(random)))
    }

    /// What stands behind `Bearer `.
    pub fn parse(text: &str) -> Option<Self> {
        let good = limits::HELLO_TOKEN.contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic());
        good.then(|| Self(Secret::new(text.to_owned())))
    }

    /// The token itself.
    pub fn expose(&self) -> &str {
        self.0.expose()
    }

    /// What a store keeps of it.
    pub fn hash(&self) -> OwnerHash {
        OwnerHash(Sha256::digest(self.0.expose()).into())
    }
}

/// SHA-256 of an owner's token.
#[derive(Debug, Clone, Copy)]
pub struct OwnerHash(pub [u8; 32]);

impl OwnerHash {
    /// 64 hex digits.
    pub fn parse(text: &str) -> Option<Self> {
        HEXLOWER.decode(text.to_ascii_lowercase().as_bytes()).ok()?.try_into().ok().map(Self)
    }

    /// The same, written.
    pub fn to_text(&self) -> String {
        HEXLOWER.encode(&self.0)
    }
}

/// In constant time: a store compares what strangers bring.
impl PartialEq for OwnerHash {
    fn eq(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl Eq for OwnerHash {}

/// When a blob is to go: milliseconds since 1970. `None` if the header is malformed or out of range.
pub fn expires_ms(header: Option<&str>, now_ms: u64) -> Option<u64> {
    let Some(header) = header else { return Some(now_ms + limits::HELLO_SECONDS_USUAL * 1000) };
    if header.is_empty() || !header.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let at: u64 = header.parse::<u64>().ok()?.checked_mul(1000)?;
    // Whole seconds, and a moment on the way: neither end is exact.
    let (least, most) = (limits::HELLO_SECONDS.start() * 1000, limits::HELLO_SECONDS.end() * 1000);
    let ahead = at.checked_sub(now_ms)?;
    (ahead + 1000 >= least && ahead <= most + 1000).then_some(at)
}

/// Where a hello store is: `https://HOST[:PORT][#CERTIFICATE-HASH]`.
///
/// With a hash, whoever shows that certificate is believed; without one, whoever the system's authorities vouch for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreUrl {
    /// A name or an IP address, without brackets.
    pub host: String,
    /// 443 when the text names none.
    pub port: u16,
    /// Of the certificate that it shows.
    pub pin: Option<CertificateHash>,
}

/// Text that is no address of a store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "the address of a hello store is https://HOST[:PORT], with #HASH for a certificate that no authority vouches for"
)]
pub struct NotAStore;

impl StoreUrl {
    /// Reads one.
    pub fn parse(text: &str) -> Result<Self, NotAStore> {
        if text.len() > limits::HELLO_URL {
            return Err(NotAStore);
        }
        let rest = text.strip_prefix("https://").ok_or(NotAStore)?;
        let (place, pin) = match rest.split_once('#') {
            Some((place, hash)) => (place, Some(hash.parse().map_err(|_| NotAStore)?)),
            None => (rest, None),
        };
        let place = place.strip_suffix('/').unwrap_or(place);
        let (host, port) = match place.strip_prefix('[') {
            Some(inner) => {
                let (host, rest) = inner.split_once(']').ok_or(NotAStore)?;
                host.parse::<std::net::Ipv6Addr>().map_err(|_| NotAStore)?;
                (host, rest.strip_prefix(':').or_else(|| rest.is_empty().then_some("443")).ok_or(NotAStore)?)
            }
            None => place.split_once(':').unwrap_or((place, "443")),
        };
        let named = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_' | b':' | b'%');
        let port = port.parse().ok().filter(|port| *port != 0).ok_or(NotAStore)?;
        if host.is_empty() || !host.bytes().all(named) {
            return Err(NotAStore);
        }
        Ok(Self { host: host.to_owned(), port, pin })
    }
}

impl fmt::Display for StoreUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, port, pin } = self;
        if host.contains(':') { write!(f, "https://[{host}]:{port}") } else { write!(f, "https://{host}:{port}") }?;
        pin.map_or(Ok(()), |pin| write!(f, "#{pin}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lookup_is_43_characters() {
        let lookup = Lookup([0xfb; 32]);
        assert_eq!(Lookup::parse(&lookup.to_text()), Some(lookup));
        assert_eq!(format!("{lookup:?}"), "Lookup(…)");
        let text = lookup.to_text();
        for other in ["", "x", &text[1..], &format!("{text}="), &format!("{text}A"), &text.replace('_', "/")] {
            assert_eq!(Lookup::parse(other), None, "{other}");
        }
        // The last character carries four bits; others would give one blob two names.
        assert_eq!(Lookup::parse(&format!("{}9", &text[..42])), None);
    }

    #[test]
    fn owners_prove_themselves_by_a_token() {
        let token = OwnerToken::from_random(&[7; 32]);
        assert_eq!(OwnerToken::parse(token.expose()).unwrap().hash(), token.hash());
        assert_eq!(OwnerHash::parse(&token.hash().to_text()), Some(token.hash()));
        assert!(OwnerHash::parse("ab").is_none());
        let long = "x".repeat(129);
        for other in ["", "short", "sixteen chars ok", "umlaute-sind-keine-ö", &long] {
            assert!(OwnerToken::parse(other).is_none(), "{other}");
        }
    }

    #[test]
    fn c17_an_expiry_is_a_number_within_bounds() {
        let now = 1_800_000_000_000;
        assert_eq!(expires_ms(None, now), Some(now + 7 * 86_400_000));
        for (header, good) in [
            ("1800000060", true),
            ("1802592000", true),
            ("1802592002", false),
            ("1800000058", false),
            ("0", false),
            ("-1", false),
            ("+1800000060", false),
            ("1.8e9", false),
            ("18446744073709551615", false),
            ("99999999999999999999999", false),
            ("", false),
        ] {
            assert_eq!(expires_ms(Some(header), now).is_some(), good, "{header}");
        }
    }

    #[test]
    fn addresses_of_stores_are_read_back() {
        let pin = "ab".repeat(32);
        for (text, host, port) in [
            ("https://hello.example", "hello.example", 443),
            ("https://hello.example:8443/", "hello.example", 8443),
            ("https://192.168.1.7:53318", "192.168.1.7", 53318),
            ("https://[fd00::1]:53318", "fd00::1", 53318),
            ("https://[fd00::1]", "fd00::1", 443),
        ] {
            for text in [text.to_owned(), format!("{text}#{pin}")] {
                let url = StoreUrl::parse(&text).unwrap();
                assert_eq!((url.host.as_str(), url.port), (host, port));
                assert_eq!(url.pin.is_some(), text.contains('#'));
                assert_eq!(StoreUrl::parse(&url.to_string()), Ok(url));
            }
        }
        for text in [
            "",
            "http://hello.example",
            "https://",
            "https://:443",
            "https://x:0",
            "https://x:99999",
            "https://x/path",
            "https://a@x",
            "https://x#12",
            "https://[fd00::1",
            "https://[x]:1",
            "https://x y",
        ] {
            assert_eq!(StoreUrl::parse(text), Err(NotAStore), "{text}");
        }
    }
}
