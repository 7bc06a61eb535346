//! Frames of `kith-sync/1`.
//!
//! ```text
//! HELLO             both ways at once: who, when, and for each journal a fingerprint and a cursor
//! MEMBERS…, KNOWN   where the two know different things of who takes part
//! MANIFEST          … and then once more which journals there are
//!   for each journal whose fingerprints differ, one after the other:
//! ENTRIES, BODY…    what changed since the cursor; everything, where one side has next to nothing
//! END               … and that was all
//! CHECK             the fingerprint now
//! RANGES, WANT      where that differs: range reconciliation, led by the one who dialled; then END and SETTLED
//! ACK               after each commit, for each ENTRIES and BODY
//! DONE              both ways: over
//! ```
//!
//! A frame that begins with `{` is a [`Message`] in JSON. The others begin with a tag and are packed: numbers are
//! LEB128, everything else has its length before it.

use serde::{Deserialize, Serialize};

pub use super::member::Introduction;
use super::replica::Row;
use super::version::{Context, Epoch, Hash, JournalId, Version};
use crate::hlc::Stamp;
use crate::id::PublicKey;
use crate::limits;
use crate::peer::reconcile::{Element, Fingerprint, Missing};

/// What a record of a membership takes in JSON, at most.
pub const RECORD: usize = 1024;

/// The version of this protocol.
pub const VERSION: u32 = 1;

/// `[ENTRIES][devices][epochs][rows]`
pub const ENTRIES: u8 = 1;
/// `[BODY][offset][bytes]`: the next piece of the body of the last row.
pub const BODY: u8 = 2;
/// `[RANGES][message of negentropy's version 1]`
pub const RANGES: u8 = 3;
/// `[WANT][ranges: lower bound, upper bound, ids]`
pub const WANT: u8 = 4;

/// A control message of `kith-sync/1`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Message {
    /// Who speaks, and what it would sync.
    Hello {
        /// [`VERSION`].
        v: u32,
        /// The life of its database.
        epoch: Epoch,
        /// What its clock shows, in milliseconds since 1970.
        now_ms: u64,
        /// The journals that it would sync with the other one, ascending.
        journals: Vec<Manifest>,
    },
    /// Who takes part in a journal.
    Members(Introduction),
    /// That was all about who takes part.
    Known,
    /// The journals once more, now that both know the same.
    Manifest {
        /// Ascending.
        journals: Vec<Manifest>,
    },
    /// No more entries follow in this direction, for now.
    End,
    /// Ranges are reconciled.
    Settled {
        /// Entries that were written anew because of the horizon: the other one may not have them yet.
        anew: u64,
    },
    /// What is here now.
    Check {
        /// Of all elements.
        #[serde(with = "hex")]
        fingerprint: Fingerprint,
        /// How many there are.
        count: u64,
        /// The greatest seq that was given out.
        top: u64,
        /// Where the horizons differ: what is known to have been written.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        seen: Vec<(Epoch, Stamp)>,
    },
    /// An ENTRIES or BODY frame is committed.
    Ack {
        /// Rows that were taken.
        taken: u64,
        /// Rows that were not, and why.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        refused: Vec<Refused>,
    },
    /// Nothing more is to be done.
    Done,
    /// The session cannot go on.
    Fail {
        /// A stable word: `version`, `rolled_back`, `protocol`, `busy`, `internal`.
        reason: String,
    },
}

/// One journal, as one side has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// Which.
    pub journal: JournalId,
    /// What stands for all that is known of who takes part.
    pub members: String,
    /// The greatest seq that its device gave out.
    pub top: u64,
    /// Of all elements.
    #[serde(with = "hex")]
    pub fingerprint: Fingerprint,
    /// How many there are.
    pub count: u64,
    /// Up to which stamp deletions are forgotten.
    pub horizon: Stamp,
    /// What this side has of the other's changes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cursor: Option<Cursor>,
    /// Bodies of which this side has the beginning.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub partial: Vec<Partial>,
}

/// How far one side has followed the other's changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cursor {
    /// In this life of the other's database.
    pub epoch: Epoch,
    /// Up to this seq.
    pub since: u64,
}

/// The beginning of a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Partial {
    /// The content's hash.
    #[serde(with = "hex")]
    pub hash: Hash,
    /// Bytes of the body.
    pub have: u64,
}

/// A row that was not taken.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refused {
    /// The entry.
    pub id: String,
    /// A stable word; see [`super::version::Fault`].
    pub reason: String,
}

/// Bytes that are no frame of this protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a malformed frame: {0}")]
pub struct Malformed(pub &'static str);

/// A frame that was received.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Frame {
    /// JSON.
    Message(Message),
    /// Entries; the body of the last one may follow.
    Entries(Vec<Row>),
    /// A piece of a body.
    Body {
        /// Where it begins.
        offset: u64,
        /// The piece.
        piece: Vec<u8>,
    },
    /// A message of range reconciliation.
    Ranges(Vec<u8>),
    /// Entries that are wanted.
    Want(Vec<Missing>),
}

impl Frame {
    /// Reads a frame.
    pub fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let (&tag, rest) = bytes.split_first().ok_or(Malformed("empty"))?;
        let mut input = Input(rest);
        let frame = match tag {
            b'{' => Self::Message(serde_json::from_slice(bytes).map_err(|_| Malformed("no message"))?),
            ENTRIES => Self::Entries(input.rows()?),
            BODY => Self::Body { offset: input.number()?, piece: input.rest().to_vec() },
            RANGES => Self::Ranges(input.rest().to_vec()),
            WANT => Self::Want(input.wanted()?),
            _ => return Err(Malformed("an unknown tag")),
        };
        if tag == b'{' || input.0.is_empty() { Ok(frame) } else { Err(Malformed("bytes at the end")) }
    }
}

/// A message as a frame.
pub fn message(message: &Message) -> Vec<u8> {
    // Messages are plain data, which JSON can always hold.
    serde_json::to_vec(message).unwrap_or_default()
}

/// Rows as a frame. Bodies that are absent follow in BODY frames: only the last row may lack its body.
pub fn entries(rows: &[Row]) -> Vec<u8> {
    let mut devices: Vec<PublicKey> = rows.iter().map(|row| row.version.device).collect();
    let known = |row: &Row| row.version.context.pairs().iter().map(|(epoch, _)| *epoch).collect::<Vec<_>>();
    let mut epochs: Vec<Epoch> = rows.iter().flat_map(|row| [vec![row.version.epoch], known(row)].concat()).collect();
    devices.sort_unstable();
    devices.dedup();
    epochs.sort_unstable();
    epochs.dedup();
    let device_at = |device| devices.binary_search(device).unwrap_or_default() as u64;
    let epoch_at = |epoch| epochs.binary_search(epoch).unwrap_or_default() as u64;

    let mut out = vec![ENTRIES];
    number(&mut out, devices.len() as u64);
    devices.iter().for_each(|device| out.extend_from_slice(&device.0));
    number(&mut out, epochs.len() as u64);
    epochs.iter().for_each(|epoch| out.extend_from_slice(&epoch.0));
    number(&mut out, rows.len() as u64);
    for Row { seq, version, body } in rows {
        number(&mut out, *seq);
        out.push(u8::from(version.deleted) | u8::from(body.is_none()) << 1);
        bytes(&mut out, version.id.as_bytes());
        number(&mut out, version.stamp.0);
        number(&mut out, device_at(&version.device));
        number(&mut out, epoch_at(&version.epoch));
        number(&mut out, version.context.pairs().len() as u64);
        for (epoch, stamp) in version.context.pairs() {
            number(&mut out, epoch_at(epoch));
            number(&mut out, stamp.0);
        }
        bytes(&mut out, version.meta.as_bytes());
        out.extend_from_slice(&version.hash);
        number(&mut out, version.size);
        out.extend_from_slice(body.as_deref().unwrap_or_default());
    }
    out
}

/// A piece of a body as a frame.
pub fn body(offset: u64, piece: &[u8]) -> Vec<u8> {
    let mut out = vec![BODY];
    number(&mut out, offset);
    out.extend_from_slice(piece);
    out
}

/// A message of range reconciliation as a frame.
pub fn ranges(message: &[u8]) -> Vec<u8> {
    [&[RANGES], message].concat()
}

/// What is wanted, as frames that are within their bound.
pub fn want(wanted: &[Missing]) -> Vec<Vec<u8>> {
    const PAGE: usize = limits::FRAME_CONTROL / 2;
    let mut frames = Vec::new();
    let mut page: Vec<u8> = Vec::new();
    let mut count = 0;
    let mut close = |page: &mut Vec<u8>, count: &mut u64| {
        let mut frame = vec![WANT];
        number(&mut frame, *count);
        frame.append(page);
        frames.push(frame);
        *count = 0;
    };
    for range in wanted {
        for ids in range.ids.chunks(PAGE / 64) {
            element(&mut page, &range.lower);
            element(&mut page, &range.upper);
            number(&mut page, ids.len() as u64);
            ids.iter().for_each(|id| page.extend_from_slice(id));
            count += 1;
            if page.len() >= PAGE {
                close(&mut page, &mut count);
            }
        }
    }
    if count > 0 {
        close(&mut page, &mut count);
    }
    frames
}

fn number(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn bytes(out: &mut Vec<u8>, value: &[u8]) {
    number(out, value.len() as u64);
    out.extend_from_slice(value);
}

fn element(out: &mut Vec<u8>, element: &Element) {
    number(out, element.stamp);
    out.extend_from_slice(&element.id);
}

/// Bytes that are still to be read.
struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    fn take(&mut self, length: usize) -> Result<&'a [u8], Malformed> {
        let (head, tail) = self.0.split_at_checked(length).ok_or(Malformed("too short"))?;
        self.0 = tail;
        Ok(head)
    }

    fn rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.0)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        self.take(N)?.try_into().map_err(|_| Malformed("too short"))
    }

    fn number(&mut self) -> Result<u64, Malformed> {
        let mut value = 0_u64;
        for shift in (0..64).step_by(7) {
            let [byte] = self.array::<1>()?;
            let part = u64::from(byte & 0x7f);
            if part << shift >> shift != part {
                break;
            }
            value |= part << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(Malformed("a number of more than 64 bits"))
    }

    /// How many things of at least `size` bytes follow: never more than there is room for.
    fn count(&mut self, size: usize, most: usize) -> Result<usize, Malformed> {
        let count = usize::try_from(self.number()?).map_err(|_| Malformed("too many"))?;
        if count > most || count > self.0.len() / size { Err(Malformed("too many")) } else { Ok(count) }
    }

    fn text(&mut self, most: usize) -> Result<String, Malformed> {
        let length = self.count(1, most)?;
        String::from_utf8(self.take(length)?.to_vec()).map_err(|_| Malformed("not UTF-8"))
    }

    fn element(&mut self) -> Result<Element, Malformed> {
        Ok(Element { stamp: self.number()?, id: self.array()? })
    }

    fn rows(&mut self) -> Result<Vec<Row>, Malformed> {
        let devices = (0..self.count(32, limits::SYNC_ROWS)?).map(|_| self.array().map(PublicKey));
        let devices = devices.collect::<Result<Vec<_>, _>>()?;
        let epochs = (0..self.count(16, usize::MAX)?).map(|_| self.array().map(Epoch));
        let epochs = epochs.collect::<Result<Vec<_>, _>>()?;
        let count = self.count(40, limits::SYNC_ROWS)?;
        let mut rows = Vec::with_capacity(count);
        for at in 1..=count {
            let row = self.row(&devices, &epochs)?;
            if row.body.is_none() && at < count {
                return Err(Malformed("a body in pieces that is not the last"));
            }
            rows.push(row);
        }
        Ok(rows)
    }

    fn row(&mut self, devices: &[PublicKey], epochs: &[Epoch]) -> Result<Row, Malformed> {
        let seq = self.number()?;
        let [flags] = self.array::<1>()?;
        if flags > 3 {
            return Err(Malformed("unknown flags"));
        }
        // What is too long for an entry is refused with its row, not with the session.
        let id = self.text(usize::MAX)?;
        let stamp = Stamp(self.number()?);
        let device = *self.of(devices)?;
        let epoch = *self.of(epochs)?;
        let known = self.count(2, limits::ENTRY_WRITERS)?;
        let known = (0..known).map(|_| Ok((*self.of(epochs)?, Stamp(self.number()?))));
        let known = known.collect::<Result<Vec<_>, Malformed>>()?;
        let context = Context::new(known).ok_or(Malformed("a context that is not in order"))?;
        let meta = self.text(usize::MAX)?;
        let hash = self.array()?;
        let size = self.number()?;
        let body = match flags & 2 {
            0 => {
                let length = usize::try_from(size).map_err(|_| Malformed("too short"))?;
                Some(self.take(length)?.to_vec())
            }
            _ => None,
        };
        let version = Version { id, stamp, device, epoch, context, deleted: flags & 1 == 1, meta, hash, size };
        Ok(Row { seq, version, body })
    }

    fn of<'t, T>(&mut self, table: &'t [T]) -> Result<&'t T, Malformed> {
        let at = usize::try_from(self.number()?).unwrap_or(usize::MAX);
        table.get(at).ok_or(Malformed("an index out of its table"))
    }

    fn wanted(&mut self) -> Result<Vec<Missing>, Malformed> {
        let count = self.count(66, usize::MAX)?;
        let ranges = (0..count).map(|_| {
            let (lower, upper) = (self.element()?, self.element()?);
            let ids = self.count(32, usize::MAX)?;
            let ids = (0..ids).map(|_| self.array()).collect::<Result<_, _>>()?;
            Ok(Missing { lower, upper, ids })
        });
        ranges.collect()
    }
}

/// Bytes of a fixed length as lower-case hex.
mod hex {
    use data_encoding::HEXLOWER;
    use serde::{Deserialize, Deserializer, Serializer, de};

    pub fn serialize<S: Serializer, const N: usize>(bytes: &[u8; N], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&HEXLOWER.encode(bytes))
    }

    pub fn deserialize<'de, D: Deserializer<'de>, const N: usize>(deserializer: D) -> Result<[u8; N], D::Error> {
        let text = String::deserialize(deserializer)?;
        let bytes = HEXLOWER.decode(text.as_bytes()).map_err(de::Error::custom)?;
        bytes.try_into().map_err(|_| de::Error::custom("hex digits of another length"))
    }
}
