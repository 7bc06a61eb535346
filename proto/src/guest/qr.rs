//! The text of the QR that a receiver shows.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::hash::{CertificateHash, NotAHash};
use crate::limits;
use crate::pin::{NotAPin, Pin};

/// What a sender needs to know of a receiver (seed 003, and version 2 of the protocol).
#[derive(Debug)]
pub struct Qr {
    /// Where the receiver may be reached; at least one.
    pub addresses: Vec<IpAddr>,
    /// The port of its guest door.
    pub port: u16,
    /// Whose certificate must answer there.
    pub certificate_hash: CertificateHash,
    /// The PIN.
    pub pin: Pin,
    /// The version that the receiver prefers; absent in QRs of version 1.
    pub protocol_version: Option<u32>,
}

/// Text that is not the QR of a receiver. Says which part is wrong, and never what it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotAQr {
    /// Longer than any receiver needs.
    #[error("this QR is longer than any that a receiver shows")]
    TooLong,
    /// Not the JSON object that it should be.
    #[error("this is not the QR of a receiver")]
    Malformed,
    /// No IP address in it.
    #[error("this QR holds no IP address")]
    Addresses,
    /// The certificate hash is none.
    #[error("this QR holds no certificate hash: {0}")]
    Hash(#[from] NotAHash),
    /// The PIN is none.
    #[error("this QR holds no PIN: {0}")]
    Pin(#[from] NotAPin),
}

/// An array of addresses, or one alone: the seed and the apps do not agree.
#[derive(Deserialize)]
#[serde(untagged)]
enum OneOrMany {
    One(String),
    Many(Vec<String>),
}

#[derive(Deserialize)]
struct Read {
    ip_address: OneOrMany,
    port: u16,
    certificate_hash: String,
    pin: String,
    #[serde(default)]
    protocol_version: Option<u32>,
}

#[derive(Serialize)]
struct Written<'a> {
    ip_address: &'a [IpAddr],
    port: u16,
    certificate_hash: String,
    pin: &'a str,
    protocol_version: Option<u32>,
}

impl Qr {
    /// Reads the text of a QR.
    pub fn parse(text: &str) -> Result<Self, NotAQr> {
        if text.len() > limits::GUEST_QR {
            return Err(NotAQr::TooLong);
        }
        let read: Read = serde_json::from_str(text).map_err(|_| NotAQr::Malformed)?;
        let texts = match read.ip_address {
            OneOrMany::One(address) => vec![address],
            OneOrMany::Many(addresses) => addresses,
        };
        let addresses = texts.iter().map(|text| text.trim().parse()).collect::<Result<Vec<IpAddr>, _>>();
        let addresses = addresses.map_err(|_| NotAQr::Addresses)?;
        if addresses.is_empty() || addresses.len() > limits::PEER_ADDRESSES || read.port == 0 {
            return Err(NotAQr::Addresses);
        }
        Ok(Self {
            addresses,
            port: read.port,
            certificate_hash: read.certificate_hash.parse()?,
            pin: Pin::parse(&read.pin)?,
            protocol_version: read.protocol_version,
        })
    }

    /// The text for the QR. It holds the PIN.
    pub fn to_text(&self) -> String {
        let written = Written {
            ip_address: &self.addresses,
            port: self.port,
            certificate_hash: self.certificate_hash.to_string(),
            pin: self.pin.expose(),
            protocol_version: self.protocol_version,
        };
        serde_json::to_string(&written).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HASH: &str = "87fd5869a6b3e414112c1934ca00be77b8e4584c829a4536490bda9a3928be4a";

    #[test]
    fn what_is_written_has_the_apps_shape() {
        let qr = Qr {
            addresses: vec!["192.168.1.5".parse().unwrap(), "fd00::9".parse().unwrap()],
            port: 53317,
            certificate_hash: HASH.parse().unwrap(),
            pin: Pin::parse("123456").unwrap(),
            protocol_version: Some(2),
        };
        let text = qr.to_text();
        assert_eq!(
            text,
            format!(
                r#"{{"ip_address":["192.168.1.5","fd00::9"],"port":53317,"certificate_hash":"{HASH}","pin":"123456","protocol_version":2}}"#
            )
        );
        let read = Qr::parse(&text).unwrap();
        assert_eq!((read.addresses, read.port, read.protocol_version), (qr.addresses, 53317, Some(2)));
        assert_eq!((read.certificate_hash, read.pin.expose()), (qr.certificate_hash, "123456"));
    }

    #[test]
    fn a_seed_reader_and_an_odd_writer_are_understood() {
        let text = format!(
            "{{ \"pin\" : \"000007\", \"certificate_hash\":\"{}\",\n \"port\": 53320, \"ip_address\": \"10.0.0.1\", \"x\": [] }}",
            HASH.to_uppercase()
        );
        let qr = Qr::parse(&text).unwrap();
        assert_eq!((qr.addresses.len(), qr.port, qr.protocol_version), (1, 53320, None));
    }

    #[test]
    fn d33_what_is_no_qr_is_refused_without_repeating_it() {
        let with = |ip: &str, port: &str, hash: &str, pin: &str| {
            format!(r#"{{"ip_address":{ip},"port":{port},"certificate_hash":"{hash}","pin":{pin}}}"#)
        };
        let many = format!("[{}]", vec!["\"10.0.0.1\""; limits::PEER_ADDRESSES + 1].join(","));
        for (text, why) in [
            (String::new(), NotAQr::Malformed),
            ("kith://pair?v=1".to_owned(), NotAQr::Malformed),
            ("[".repeat(4000), NotAQr::Malformed),
            (" ".repeat(limits::GUEST_QR + 1), NotAQr::TooLong),
            (with("[]", "1", HASH, "\"123456\""), NotAQr::Addresses),
            (with(&many, "1", HASH, "\"123456\""), NotAQr::Addresses),
            (with("[\"evil.example\"]", "1", HASH, "\"123456\""), NotAQr::Addresses),
            (with("\"10.0.0.1\"", "0", HASH, "\"123456\""), NotAQr::Addresses),
            (with("\"10.0.0.1\"", "70000", HASH, "\"123456\""), NotAQr::Malformed),
            (with("\"10.0.0.1\"", "1", &HASH[1..], "\"123456\""), NotAQr::Hash(NotAHash)),
            (with("\"10.0.0.1\"", "1", HASH, "\"12345\""), NotAQr::Pin(NotAPin)),
            (with("\"10.0.0.1\"", "1", HASH, "123456"), NotAQr::Malformed),
        ] {
            assert_eq!(Qr::parse(&text).unwrap_err(), why, "{text}");
            assert!(!why.to_string().contains("12345"));
        }
    }
}
