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
//! Content travels in chunks of [`limits::CHUNK`] bytes, each with its BLAKE3; a file's digest is the BLAKE3 over the
//! digests of its chunks, so nothing is hashed twice and a resumed file is not read again.

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
    Ping,
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
        /// BLAKE3 over the digests of all its chunks.
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
    /// BLAKE3 over the digests of those chunks' content, so that a changed source is noticed.
    #[serde(with = "hex32")]
    pub digest: [u8; 32],
}

/// A file that the receiver has under this name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Same {
    /// The file's place in the manifest.
    pub index: u64,
    /// BLAKE3 over the digests of all its chunks.
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

/// The digest of a file: BLAKE3 over the digests of its chunks.
#[derive(Clone, Default)]
pub struct FileDigest(blake3::Hasher);

impl FileDigest {
    /// Takes the next chunk's digest in.
    pub fn chunk(&mut self, digest: &[u8; 32]) {
        self.0.update(digest);
    }

    /// The digest of what was taken in so far.
    pub fn value(&self) -> [u8; 32] {
        *self.0.finalize().as_bytes()
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
