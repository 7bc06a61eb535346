//! What the QR says: `kith://pair?h=<ip,ip>&p=<port>&d=<deviceId>&n=<PIN>&k=<key hash>&t=<token>`.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use data_encoding::BASE64URL_NOPAD;
use zeroize::Zeroizing;

use super::Pin;
use crate::id::DeviceId;
use crate::limits;
use crate::secret::Secret;

const PREFIX: &str = "kith://pair?";

/// A device that can be paired with now, and all it takes.
pub struct PairUri {
    /// `h`: where it may be reached; one to [`limits::PEER_ADDRESSES`].
    pub addresses: Vec<IpAddr>,
    /// `p`: its peer door.
    pub port: u16,
    /// `d`: its id, the head of `key_hash`.
    pub device_id: DeviceId,
    /// `n`: the PIN it shows.
    pub pin: Pin,
    /// `k`: SHA-256 of its public key, base64url.
    pub key_hash: [u8; 32],
    /// `t`: proof of having seen the QR, base64url.
    pub token: Secret<[u8; 16]>,
}

/// Text that is not a pairing link. Scanning again, or making a new one, is what helps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum UriError {
    /// Another scheme or another host.
    #[error("this is not a Kith pairing link: it does not begin with {PREFIX}")]
    Foreign,
    /// More than [`limits::PAIRING_URI`] bytes.
    #[error("the pairing link is too long: more than {max} bytes", max = limits::PAIRING_URI)]
    TooLong,
    /// A parameter that must be there.
    #[error("the pairing link is incomplete: it has no {0}=; scan it again")]
    Missing(char),
    /// A parameter that is there twice.
    #[error("the pairing link is damaged: it has {0}= twice; scan it again")]
    Duplicate(char),
    /// `h` with something that is no IP address.
    #[error("the pairing link is damaged: h= is a list of IP addresses; scan it again")]
    Address,
    /// `h` with too many.
    #[error("the pairing link has more than {max} addresses", max = limits::PEER_ADDRESSES)]
    TooManyAddresses,
    /// `p` that is no port.
    #[error("the pairing link is damaged: p= is a port from 1 to 65535; scan it again")]
    Port,
    /// `d` that is no id, or not that of the key in `k`.
    #[error("the pairing link is damaged: d= is the id that belongs to the key in k=; scan it again")]
    DeviceId,
    /// `n` that is no PIN.
    #[error("the pairing link is damaged: n= is six digits; scan it again")]
    Pin,
    /// `k` that is no hash.
    #[error("the pairing link is damaged: k= is 32 bytes in base64url; scan it again")]
    KeyHash,
    /// `t` that is no token.
    #[error("the pairing link is damaged: t= is 16 bytes in base64url; scan it again")]
    Token,
}

impl PairUri {
    /// The link, for a QR and nowhere else.
    pub fn to_link(&self) -> Secret<String> {
        let addresses: Vec<String> = self.addresses.iter().map(IpAddr::to_string).collect();
        let key_hash = BASE64URL_NOPAD.encode(&self.key_hash);
        let token = Zeroizing::new(BASE64URL_NOPAD.encode(self.token.expose()));
        Secret::new(format!(
            "{PREFIX}h={h}&p={p}&d={d}&n={n}&k={key_hash}&t={t}",
            h = addresses.join(","),
            p = self.port,
            d = self.device_id,
            n = self.pin.expose(),
            t = token.as_str(),
        ))
    }
}

impl FromStr for PairUri {
    type Err = UriError;

    /// Parameters come in any order; unknown ones are ignored; nothing is percent-decoded, since nothing needs it.
    fn from_str(text: &str) -> Result<Self, UriError> {
        if text.len() > limits::PAIRING_URI {
            return Err(UriError::TooLong);
        }
        let query = text.strip_prefix(PREFIX).ok_or(UriError::Foreign)?;
        let get = |name| parameter(query, name);

        let key_hash: [u8; 32] = decode(get('k')?).ok_or(UriError::KeyHash)?;
        let device_id: DeviceId = get('d')?.parse().map_err(|_| UriError::DeviceId)?;
        if !key_hash.starts_with(&device_id.0) {
            return Err(UriError::DeviceId);
        }
        Ok(Self {
            addresses: parse_addresses(get('h')?)?,
            port: parse_port(get('p')?)?,
            device_id,
            pin: Pin::parse(get('n')?).map_err(|_| UriError::Pin)?,
            key_hash,
            token: Secret::new(decode(get('t')?).ok_or(UriError::Token)?),
        })
    }
}

impl fmt::Debug for PairUri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PairUri")
            .field("addresses", &self.addresses)
            .field("port", &self.port)
            .field("device_id", &self.device_id)
            .finish_non_exhaustive()
    }
}

/// The value of the only `name=` in `query`.
fn parameter(query: &str, name: char) -> Result<&str, UriError> {
    let mut values = query.split('&').filter_map(|part| part.strip_prefix(name)?.strip_prefix('='));
    let value = values.next().ok_or(UriError::Missing(name))?;
    if values.next().is_some() { Err(UriError::Duplicate(name)) } else { Ok(value) }
}

fn parse_addresses(text: &str) -> Result<Vec<IpAddr>, UriError> {
    if text.split(',').count() > limits::PEER_ADDRESSES {
        return Err(UriError::TooManyAddresses);
    }
    text.split(',').map(|address| address.parse().map_err(|_| UriError::Address)).collect()
}

fn parse_port(text: &str) -> Result<u16, UriError> {
    // Rust's numbers may begin with a plus; ours may not.
    let digits = text.bytes().all(|b| b.is_ascii_digit());
    text.parse().ok().filter(|port| digits && *port != 0).ok_or(UriError::Port)
}

fn decode<const N: usize>(text: &str) -> Option<[u8; N]> {
    BASE64URL_NOPAD.decode(text.as_bytes()).ok()?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LINK: &str = "kith://pair?h=192.168.1.20,fe80::1,::ffff:10.0.0.1&p=44123&d=0707070707070707&n=004711\
                        &k=BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc&t=CQkJCQkJCQkJCQkJCQkJCQ";

    #[test]
    fn a_link_says_what_it_takes() {
        let uri: PairUri = LINK.parse().unwrap();
        assert_eq!(uri.addresses, ["192.168.1.20", "fe80::1", "::ffff:10.0.0.1"].map(|a| a.parse::<IpAddr>().unwrap()));
        assert_eq!((uri.port, uri.pin.expose()), (44123, "004711"));
        assert_eq!((uri.device_id, uri.key_hash, *uri.token.expose()), (DeviceId([7; 8]), [7; 32], [9; 16]));
        assert_eq!(uri.to_link().expose(), LINK);
        // What a later version adds is none of our business.
        assert_eq!(format!("{LINK}&x=1&x=2&hh=&=&").parse::<PairUri>().unwrap().to_link().expose(), LINK);
    }

    #[test]
    fn d33_links_that_are_none() {
        let with = |old: &str, new: &str| {
            assert!(LINK.contains(old), "{old:?}");
            LINK.replace(old, new)
        };
        for (link, error) in [
            (String::new(), UriError::Foreign),
            (with("kith:", "https:"), UriError::Foreign),
            (with("kith:", "KITH:"), UriError::Foreign),
            (with("//pair", "//share"), UriError::Foreign),
            (format!(" {LINK}"), UriError::Foreign),
            (format!("{LINK}&x={}", "y".repeat(limits::PAIRING_URI)), UriError::TooLong),
            (with("h=", "H="), UriError::Missing('h')),
            (with("&n=004711", ""), UriError::Missing('n')),
            (with("p=", "p"), UriError::Missing('p')),
            (format!("{LINK}&p=1"), UriError::Duplicate('p')),
            (format!("{LINK}&n=004711"), UriError::Duplicate('n')),
            (with("192.168.1.20,", ","), UriError::Address),
            (with("192.168.1.20", "nas.local"), UriError::Address),
            (with("fe80::1", "[fe80::1]"), UriError::Address),
            (with("fe80::1", "fe80::1%25eth0"), UriError::Address),
            (with("fe80::1", &["::1"; 15].join(",")), UriError::TooManyAddresses),
            (with("44123", "0"), UriError::Port),
            (with("44123", "65536"), UriError::Port),
            (with("44123", "+44123"), UriError::Port),
            (with("44123", ""), UriError::Port),
            (with("d=0707", "d=0708"), UriError::DeviceId),
            (with("d=07", "d="), UriError::DeviceId),
            (with("004711", "04711"), UriError::Pin),
            (with("004711", "-04711"), UriError::Pin),
            (with("HBwc&", "H&"), UriError::KeyHash),
            (with("wc&t", "wd&t"), UriError::KeyHash),
            (with("CQkJCQkJCQkJCQkJCQkJCQ", "CQkJCQkJCQkJCQkJCQkJCQ=="), UriError::Token),
            (with("CQkJCQkJCQkJCQkJCQkJCQ", "CQkJ"), UriError::Token),
        ] {
            assert_eq!(link.parse::<PairUri>().err(), Some(error), "{link}");
        }
    }

    #[test]
    fn a_link_does_not_print_its_secrets() {
        let shown = format!("{:?}", LINK.parse::<PairUri>().unwrap());
        assert!(shown.contains("192.168.1.20"), "{shown}");
        assert!(!shown.contains("004711") && !shown.contains("CQkJ") && !shown.contains("9, 9"), "{shown}");
    }

    proptest! {
        #[test]
        fn every_link_comes_back(
            addresses in prop::collection::vec(any::<IpAddr>(), 1..=limits::PEER_ADDRESSES),
            port in 1_u16.., pin in 0_u32..1_000_000, key_hash: [u8; 32], token: [u8; 16],
        ) {
            let device_id = DeviceId(key_hash[..8].try_into().unwrap());
            let pin = Pin::parse(&format!("{pin:06}")).unwrap();
            let uri = PairUri { addresses, port, device_id, pin, key_hash, token: Secret::new(token) };
            let link = uri.to_link();
            let back: PairUri = link.expose().parse().unwrap();
            prop_assert_eq!(&back.addresses, &uri.addresses);
            let again = back.to_link();
            prop_assert_eq!(again.expose(), link.expose());
        }

        #[test]
        fn no_text_panics(text in "(kith://pair\\?)?([hpdnktx=&,.:0-9a-f]|\\PC){0,80}") {
            let _ = text.parse::<PairUri>();
        }
    }
}
