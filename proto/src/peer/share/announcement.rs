//! How a device says on the LAN that it waits for credentials: one line of text in a UDP datagram.
//!
//! ```text
//! KITH_RECV:1:{port}:{sha256 of the certificate}:{random session}
//! PSIE_RECV:{port}:{sha256 of the certificate}                       the Photosphere app
//! ```
//!
//! It is anybody's word: what it is good for shows when somebody answers there with that certificate.

use std::fmt;

use data_encoding::HEXLOWER;

use crate::limits;

const KITH: &str = "KITH_RECV:1:";
const PHOTOSPHERE: &str = "PSIE_RECV:";

/// Somebody waits for credentials.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Announcement {
    /// How they are handed over there.
    pub protocol: Protocol,
    /// The TCP port; never 0.
    pub port: u16,
    /// SHA-256 over the certificate that is shown there.
    pub certificate_hash: [u8; 32],
}

/// How credentials are handed over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// `kith-share/1`.
    Kith {
        /// Random; another one for each share.
        session: [u8; 16],
    },
    /// As the Photosphere app does: not safe.
    Photosphere,
}

/// A datagram that is no announcement.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("this announces nobody who waits for credentials")]
pub struct NotAnAnnouncement;

impl Announcement {
    /// The announcement in a datagram, which holds nothing else. There is one way to write each.
    pub fn parse(datagram: &[u8]) -> Result<Self, NotAnAnnouncement> {
        if datagram.len() > limits::SHARE_ANNOUNCEMENT {
            return Err(NotAnAnnouncement);
        }
        let text = std::str::from_utf8(datagram).map_err(|_| NotAnAnnouncement)?;
        let read = if let Some(rest) = text.strip_prefix(KITH) {
            let (rest, session) = rest.rsplit_once(':').ok_or(NotAnAnnouncement)?;
            (Protocol::Kith { session: bytes(session)? }, rest)
        } else {
            (Protocol::Photosphere, text.strip_prefix(PHOTOSPHERE).ok_or(NotAnAnnouncement)?)
        };
        let (protocol, rest) = read;
        let (digits, hash) = rest.split_once(':').ok_or(NotAnAnnouncement)?;
        Ok(Self { protocol, port: port(digits)?, certificate_hash: bytes(hash)? })
    }
}

impl fmt::Display for Announcement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (port, hash) = (self.port, HEXLOWER.encode(&self.certificate_hash));
        match self.protocol {
            Protocol::Kith { session } => write!(f, "{KITH}{port}:{hash}:{}", HEXLOWER.encode(&session)),
            Protocol::Photosphere => write!(f, "{PHOTOSPHERE}{port}:{hash}"),
        }
    }
}

/// A port as it is written: no sign, no leading zero.
fn port(digits: &str) -> Result<u16, NotAnAnnouncement> {
    let first = digits.bytes().next().ok_or(NotAnAnnouncement)?;
    if !(b'1'..=b'9').contains(&first) {
        return Err(NotAnAnnouncement);
    }
    digits.parse().map_err(|_| NotAnAnnouncement)
}

/// So many bytes in lower-case hex.
fn bytes<const N: usize>(hex: &str) -> Result<[u8; N], NotAnAnnouncement> {
    let bytes = HEXLOWER.decode(hex.as_bytes()).map_err(|_| NotAnAnnouncement)?;
    bytes.try_into().map_err(|_| NotAnAnnouncement)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PSIE: &str = "PSIE_RECV:53317:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
    const RECV: &str = "KITH_RECV:1:1:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855:\
        000102030405060708090a0b0c0d0e0f";

    #[test]
    fn both_forms_are_read_and_written() {
        let read = Announcement::parse(PSIE.as_bytes()).unwrap();
        assert_eq!(
            (read.protocol, read.port, read.certificate_hash[..2].as_ref()),
            (Protocol::Photosphere, 53317, [0xe3, 0xb0].as_ref())
        );
        assert_eq!(read.to_string(), PSIE);
        let read = Announcement::parse(RECV.as_bytes()).unwrap();
        let session = std::array::from_fn(|i| u8::try_from(i).unwrap());
        assert_eq!((read.protocol, read.port), (Protocol::Kith { session }, 1));
        assert_eq!(read.to_string(), RECV);
    }

    #[test]
    fn what_is_written_otherwise_is_none() {
        let with = |text: &str, old: &str, new: &str| {
            assert!(text.contains(old), "{old:?}");
            text.replace(old, new)
        };
        for text in [
            String::new(),
            "PSIE_RECV".to_owned(),
            "PSIE_RECV:".to_owned(),
            with(PSIE, "PSIE", "psie"),
            with(PSIE, "53317", "0"),
            with(PSIE, "53317", "053317"),
            with(PSIE, "53317", "+5331"),
            with(PSIE, "53317", "-5331"),
            with(PSIE, "53317", "65536"),
            with(PSIE, "53317", ""),
            with(PSIE, "53317", " 5331"),
            with(PSIE, "e3b0", "E3B0"),
            with(PSIE, "e3b0", "e3b"),
            with(PSIE, "e3b0", "e3b00"),
            with(PSIE, "e3b0", "e3bg"),
            with(PSIE, "e3b0", ""),
            format!("{PSIE}\n"),
            format!("{PSIE}\0"),
            format!(" {PSIE}"),
            format!("{PSIE}:"),
            format!("{PSIE}:000102030405060708090a0b0c0d0e0f"),
            with(RECV, "RECV:1:", "RECV:2:"),
            with(RECV, "RECV:1:", "RECV:"),
            with(RECV, "0001", "001"),
            with(RECV, "0f", "0F"),
            format!("{RECV}:"),
            format!("{RECV}00"),
            format!("{PSIE}{}", " ".repeat(limits::SHARE_ANNOUNCEMENT)),
        ] {
            assert_eq!(Announcement::parse(text.as_bytes()), Err(NotAnAnnouncement), "{text:?}");
        }
        assert_eq!(Announcement::parse(&[0xff; 80]), Err(NotAnAnnouncement));
    }

    proptest! {
        #[test]
        fn every_announcement_comes_back(port in 1_u16.., certificate_hash: [u8; 32], session: Option<[u8; 16]>) {
            let protocol = session.map_or(Protocol::Photosphere, |session| Protocol::Kith { session });
            let announcement = Announcement { protocol, port, certificate_hash };
            let text = announcement.to_string();
            prop_assert!(text.len() <= limits::SHARE_ANNOUNCEMENT);
            prop_assert_eq!(Announcement::parse(text.as_bytes()), Ok(announcement));
        }

        #[test]
        fn what_is_read_is_what_was_written(text in "(KITH|PSIE)_RECV(:1)?:[0-9+]{1,6}(:[0-9a-fA-F]{32,64}){1,2}\\s?") {
            if let Ok(read) = Announcement::parse(text.as_bytes()) {
                prop_assert_eq!(read.to_string(), text);
            }
        }
    }
}
