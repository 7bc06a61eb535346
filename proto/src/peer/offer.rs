//! Sending between paired devices, ALPN `kith-send/1`.
//!
//! ```text
//! S→R  offer, manifest pages            what there is
//! R→S  waiting … accept pages | reject  what is wanted
//! S→R  file, DATA…, end                 many files in one stream, no round trip between them
//! R→S  ack, results                     what is safe on the other side's disk
//! both done, or cancel
//! ```
//!
//! A connection that begins with `ping` instead of `offer` is a probe: it is answered by `pong` and closed.
//!
//! Content travels in chunks of [`limits::CHUNK`] bytes, each with its BLAKE3; a file's digest is a chain over the
//! digests of its chunks ([`FileDigest`]), so nothing is hashed twice and a resumed file is not read again.

use serde::{Deserialize, Serialize};

use crate::limits;
use crate::path::WirePath;

/// The version of this protocol.
pub const VERSION: u32 = 1;

/// The first byte of a DATA frame: `[0x00][BLAKE3 of the content: 32 bytes][content: 1 to CHUNK bytes]`.
pub const DATA: u8 = 0;

/// A control message of `kith-send/1`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Message {
    /// Are you there, and do you still trust me?
    Ping {
        /// The port of the sender's peer door, for the way back.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        port: Option<u16>,
    },
    /// Yes; and this is what I call myself.
    Pong {
        /// The device's name.
        name: String,
    },
    /// What will be sent.
    Offer(Offer),
    /// The next entries of the manifest, in order.
    Manifest {
        /// At most as many as fit into a frame.
        items: Vec<Item>,
    },
    /// The offer waits for somebody's answer; repeated as a sign of life.
    Waiting,
    /// What is wanted of the offer; the last page says so.
    Accept(Accept),
    /// Nothing of the offer is wanted.
    Reject {
        /// Why.
        reason: RejectReason,
    },
    /// The content of a file follows, from `offset` on, which is a multiple of the chunk size.
    File {
        /// Its place in the manifest.
        index: u64,
        /// How much of it the receiver has.
        #[serde(default)]
        offset: u64,
    },
    /// The file is complete.
    End {
        /// Its [`FileDigest`].
        #[serde(with = "hex32")]
        digest: [u8; 32],
        /// The file's size.
        size: u64,
    },
    /// The file that was begun changed while it was read: what came of it is void, it starts again.
    Restart {
        /// Its place in the manifest.
        index: u64,
        /// Its size now.
        size: u64,
        /// Its modification time now.
        mtime_ns: i64,
    },
    /// An entry cannot be sent.
    Unreadable {
        /// Its place in the manifest.
        index: u64,
        /// A stable word.
        reason: String,
    },
    /// So much of a file is verified and written.
    Ack {
        /// Its place in the manifest.
        index: u64,
        /// Bytes from its start.
        offset: u64,
    },
    /// Entries that are settled: in place and durable, or given up.
    Results {
        /// At most as many as fit into a frame.
        items: Vec<Settled>,
    },
    /// Everything was sent (sender), everything is settled (receiver).
    Done,
    /// The transfer is called off for good.
    Cancel {
        /// Which, where no offer was made on this connection.
        transfer: String,
    },
    /// The receiver cannot go on now; the transfer may be tried again.
    Pause {
        /// Why: `no_space`, `quota`, `unavailable`.
        reason: String,
    },
}

/// What will be sent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Offer {
    /// [`VERSION`].
    pub v: u32,
    /// Names the transfer: a UUID that the sender chose.
    pub transfer: String,
    /// What the sender calls it.
    pub title: String,
    /// Entries in the manifest.
    pub files: u64,
    /// Bytes in all files; absent while the length of a stream is unknown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
    /// A text instead of files.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
}

/// What kind of entry it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// A regular file.
    File,
    /// A directory; it comes before what is in it.
    Dir,
    /// A symbolic link, sent as itself.
    Symlink,
}

impl Kind {
    /// The word on the wire and in the database.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::File => "file",
            Self::Dir => "dir",
            Self::Symlink => "symlink",
        }
    }
}

/// One entry of the manifest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Item {
    /// Its place, counted from 0.
    pub index: u64,
    /// Where it goes, within the offer.
    pub path: WirePath,
    /// What it is.
    pub kind: Kind,
    /// The size of a file; absent where it is unknown until it was sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<u64>,
    /// Modification time in nanoseconds since 1970.
    #[serde(default)]
    pub mtime_ns: i64,
    /// Permission bits; only "executable by its owner" is kept.
    #[serde(default)]
    pub mode: u32,
    /// Where a symbolic link points to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
}

impl Item {
    /// Whether the file is a program.
    pub fn executable(&self) -> bool {
        self.mode & 0o100 != 0
    }
}

/// A page of what is wanted. Entries that no page names are wanted whole.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Accept {
    /// Files of which a part is there already.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub have: Vec<Have>,
    /// Entries that are not wanted, or there already.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub skip: Vec<u64>,
    /// Files that exist there: not to be sent if the content is this.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub same: Vec<Same>,
    /// Whether another page follows.
    #[serde(default)]
    pub more: bool,
}

/// A part of a file that the receiver has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Have {
    /// The file's place in the manifest.
    pub index: u64,
    /// Bytes from its start: a multiple of the chunk size.
    pub offset: u64,
    /// The [`FileDigest`] up to there, from which the sender goes on.
    #[serde(with = "hex32")]
    pub digest: [u8; 32],
}

/// A file that the receiver has under this name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Same {
    /// The file's place in the manifest.
    pub index: u64,
    /// Its [`FileDigest`].
    #[serde(with = "hex32")]
    pub digest: [u8; 32],
}

/// An entry that is settled.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settled {
    /// Its place in the manifest.
    pub index: u64,
    /// Absent when it is in place, the word of the problem otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// Why an offer is not wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RejectReason {
    /// Somebody said no.
    Declined,
    /// The receiver's policy for this sender says no.
    Policy,
    /// Names that begin with a dot are not accepted without asking.
    Dotfiles,
    /// There is no room for it.
    NoSpace,
    /// The sender's share for today is used up.
    Quota,
    /// It is larger than what can be handled.
    TooLarge,
    /// Too many offers wait already.
    Busy,
    /// It was called off there.
    Canceled,
    /// The offer contradicts itself.
    Malformed,
    /// The receiver cannot take it now.
    Unavailable,
    /// A reason of a newer device.
    #[serde(other)]
    Other,
}

/// The digest of a file: a chain over the digests of its chunks, `state = BLAKE3(state ‖ chunk digest)`, from 32 zero
/// bytes on. A chain can go on from any of its states, so neither side hashes anything again to resume a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct FileDigest([u8; 32]);

impl FileDigest {
    /// The state that the other side has reached.
    pub fn resume(state: [u8; 32]) -> Self {
        Self(state)
    }

    /// Takes the next chunk's digest in.
    pub fn chunk(&mut self, digest: &[u8; 32]) {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&self.0).update(digest);
        self.0 = *hasher.finalize().as_bytes();
    }

    /// The digest of what was taken in so far.
    pub fn value(&self) -> [u8; 32] {
        self.0
    }
}

/// The digest of a chunk's content.
pub fn chunk_digest(content: &[u8]) -> [u8; 32] {
    *blake3::hash(content).as_bytes()
}

/// A DATA frame that is not one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DataError {
    /// Neither JSON nor DATA, or no content in it.
    #[error("not a DATA frame")]
    Malformed,
    /// The content is not what the digest says.
    #[error("a chunk arrived damaged")]
    Damaged,
}

/// Takes a DATA frame apart: the digest and the content, not yet compared.
pub fn split_data(frame: &[u8]) -> Result<(&[u8; 32], &[u8]), DataError> {
    let (&tag, rest) = frame.split_first().ok_or(DataError::Malformed)?;
    let (digest, content) = rest.split_first_chunk::<32>().ok_or(DataError::Malformed)?;
    if tag != DATA || content.is_empty() || content.len() > limits::CHUNK {
        return Err(DataError::Malformed);
    }
    Ok((digest, content))
}

/// 32 bytes as 64 lower-case hex digits.
mod hex32 {
    use data_encoding::HEXLOWER;
    use serde::{Deserialize, Deserializer, Serializer, de};

    pub fn serialize<S: Serializer>(bytes: &[u8; 32], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&HEXLOWER.encode(bytes))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<[u8; 32], D::Error> {
        let text = String::deserialize(deserializer)?;
        let bytes = HEXLOWER.decode(text.as_bytes()).map_err(de::Error::custom)?;
        bytes.try_into().map_err(|_| de::Error::custom("a digest is 64 lower-case hex digits"))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(json: &str) -> Result<Message, serde_json::Error> {
        serde_json::from_str(json)
    }

    #[test]
    fn c17_numbers_that_are_none() {
        let item = |size: &str| {
            format!(
                r#"{{"type":"manifest","items":[{{"index":0,"path":"a","kind":"file","size":{size}}}],"more":false}}"#
            )
        };
        for size in ["0", "9223372036854775808", "18446744073709551615", "null"] {
            assert!(read(&item(size)).is_ok(), "{size}");
        }
        for size in ["-1", "18446744073709551616", "1.5", "1e3", "\"1\"", "[]", "true", "NaN"] {
            assert!(read(&item(size)).is_err(), "{size}");
        }
    }

    #[test]
    fn c18_one_key_twice_and_ten_thousand_levels() {
        assert!(read(r#"{"type":"ack","index":1,"offset":2}"#).is_ok());
        for json in [
            r#"{"type":"ack","index":1,"index":1,"offset":2}"#,
            r#"{"type":"ack","type":"done","index":1,"offset":2}"#,
            r#"{"type":"nobody knows"}"#,
            r#"[{"type":"done"}]"#,
            "",
        ] {
            assert!(read(json).is_err(), "{json}");
        }
        for depth in [10, 10_000] {
            let nested = format!(r#"{{"type":"done","x":{}{}}}"#, "[".repeat(depth), "]".repeat(depth));
            assert_eq!(read(&nested).is_ok(), depth == 10, "{depth}");
        }
    }

    #[test]
    fn a_reason_of_a_newer_device_is_some_reason() {
        let message = read(r#"{"type":"reject","reason":"phase_of_the_moon"}"#).unwrap();
        assert_eq!(message, Message::Reject { reason: RejectReason::Other });
    }

    fn message() -> impl Strategy<Value = Message> {
        let item = ("[a-z]{1,5}(/[a-zé]{1,5}){0,3}", any::<Option<u64>>(), any::<i64>(), any::<u32>()).prop_map(
            |(path, size, mtime_ns, mode)| Item {
                index: u64::from(mode),
                path: path.parse().unwrap(),
                kind: Kind::File,
                size,
                mtime_ns,
                mode,
                target: None,
            },
        );
        let have = (any::<u64>(), any::<u64>(), any::<[u8; 32]>());
        let have = have.prop_map(|(index, offset, digest)| Have { index, offset, digest });
        prop_oneof![
            prop::collection::vec(item, 0..4).prop_map(|items| Message::Manifest { items }),
            (prop::collection::vec(have, 0..4), any::<Vec<u64>>())
                .prop_map(|(have, skip)| { Message::Accept(Accept { have, skip, ..Accept::default() }) }),
            (any::<[u8; 32]>(), any::<u64>()).prop_map(|(digest, size)| Message::End { digest, size }),
            (any::<u64>(), ".*").prop_map(|(index, reason)| Message::Unreadable { index, reason }),
            (any::<u64>(), any::<u64>(), any::<i64>()).prop_map(|(index, size, mtime_ns)| Message::Restart {
                index,
                size,
                mtime_ns
            }),
            Just(Message::Done),
        ]
    }

    proptest! {
        #[test]
        fn every_message_comes_back(message in message()) {
            let json = serde_json::to_string(&message).unwrap();
            prop_assert_ne!(json.as_bytes()[0], DATA);
            prop_assert_eq!(read(&json).unwrap(), message);
        }

        #[test]
        fn any_bytes_are_a_data_frame_or_none(frame in prop_oneof![
            any::<Vec<u8>>(),
            prop::collection::vec(any::<u8>(), 0..80).prop_map(|rest| [&[DATA][..], &rest].concat()),
        ]) {
            match split_data(&frame) {
                Ok((digest, content)) => prop_assert_eq!([&[DATA][..], digest, content].concat(), frame),
                Err(_) => prop_assert!(frame.len() < 34 || frame[0] != DATA),
            }
        }

        #[test]
        fn any_text_is_a_message_or_an_error(text in ".*") {
            let _ = read(&text);
        }
    }

    #[test]
    fn a_chunk_too_long_is_no_data_frame() {
        let frame = vec![DATA; limits::FRAME_DATA];
        assert!(split_data(&frame).is_ok());
        assert_eq!(split_data(&[frame, vec![0]].concat()), Err(DataError::Malformed));
    }
}
