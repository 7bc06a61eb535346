//! Versions of entries.

use std::fmt;

use data_encoding::HEXLOWER;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use sha2::{Digest, Sha256};

use crate::hlc::Stamp;
use crate::id::PublicKey;
use crate::limits;
use crate::peer::reconcile::Element;

/// SHA-256 of an entry's content.
pub type Hash = [u8; 32];

macro_rules! sixteen_bytes {
    ($(#[doc = $doc:literal])+ $type:ident) => {
        $(#[doc = $doc])+
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $type(pub [u8; 16]);

        impl $type {
            /// The value that 32 lower-case hex digits mean.
            pub fn parse(text: &str) -> Option<Self> {
                HEXLOWER.decode(text.as_bytes()).ok()?.try_into().ok().map(Self)
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&HEXLOWER.encode(&self.0))
            }
        }

        impl fmt::Debug for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({self})", stringify!($type))
            }
        }

        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = String::deserialize(deserializer)?;
                Self::parse(&text).ok_or_else(|| de::Error::custom("not 32 lower-case hex digits"))
            }
        }
    };
}

sixteen_bytes! {
    /// Names a journal (or another resource) on every device.
    JournalId
}

sixteen_bytes! {
    /// One life of a device's database: 128 random bits, others after a backup was restored. What the database counted
    /// before means nothing then.
    Epoch
}

/// The versions of an entry that a version knew: all that each of these writers had written up to a stamp.
///
/// `parent` alone would not do: a device that missed the versions between would take every second edit of the same hand
/// for a conflict.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Context(Vec<(Epoch, Stamp)>);

impl Context {
    /// The pairs in `known`, if they are in order, without repetition, and not too many.
    pub fn new(known: Vec<(Epoch, Stamp)>) -> Option<Self> {
        let ascending = known.windows(2).all(|pair| matches!(pair, [(a, _), (b, _)] if a < b));
        (ascending && known.len() <= limits::ENTRY_WRITERS).then_some(Self(known))
    }

    /// The pairs, ascending.
    pub fn pairs(&self) -> &[(Epoch, Stamp)] {
        &self.0
    }

    /// Whether it knows what `epoch` wrote at `stamp`.
    pub fn knows(&self, epoch: &Epoch, stamp: Stamp) -> bool {
        self.0.iter().any(|(known, upto)| known == epoch && *upto >= stamp)
    }

    /// All that either of the two knows.
    #[must_use]
    pub fn and(mut self, other: &Self) -> Self {
        other.0.iter().for_each(|(epoch, stamp)| self.learn(*epoch, *stamp));
        self.forget_the_oldest();
        self
    }

    fn learn(&mut self, epoch: Epoch, stamp: Stamp) {
        match self.0.binary_search_by_key(&epoch, |(known, _)| *known) {
            Ok(at) => {
                if let Some((_, upto)) = self.0.get_mut(at) {
                    *upto = stamp.max(*upto);
                }
            }
            Err(at) => self.0.insert(at, (epoch, stamp)),
        }
    }

    fn forget_the_oldest(&mut self) {
        while self.0.len() > limits::ENTRY_WRITERS {
            let oldest = self.0.iter().enumerate().min_by_key(|(_, (_, stamp))| *stamp).map(|(at, _)| at);
            if let Some(at) = oldest {
                self.0.remove(at);
            }
        }
    }
}

/// One version of an entry, without its body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Version {
    /// Names the entry within its journal.
    pub id: String,
    /// When it was written.
    pub stamp: Stamp,
    /// Who wrote it.
    pub device: PublicKey,
    /// Under which life of its database.
    pub epoch: Epoch,
    /// What it knew.
    pub context: Context,
    /// Whether it is a deletion.
    pub deleted: bool,
    /// The app's plain metadata: a JSON object, or nothing.
    pub meta: String,
    /// SHA-256 of the content; see [`content_hash`].
    pub hash: Hash,
    /// The body's length in bytes.
    pub size: u64,
}

/// What is wrong with a version from outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// Empty, too long, or with control characters.
    #[error("bad_id")]
    Id,
    /// Not a JSON object, or too long.
    #[error("bad_meta")]
    Meta,
    /// Zero, years in the future, or not later than what it knew.
    #[error("bad_stamp")]
    Stamp,
    /// Not the hash of the content.
    #[error("bad_hash")]
    Hash,
    /// A body that is too long, or a deletion that has one.
    #[error("too_large")]
    Size,
}

impl Version {
    /// Looks at everything but the hash.
    pub fn check(&self, now_ms: u64) -> Result<(), Fault> {
        check_id(&self.id)?;
        let bare = self.meta.is_empty() && self.size == 0;
        if !(bare || (!self.deleted && is_meta(&self.meta))) {
            return Err(Fault::Meta);
        }
        if self.size > limits::ENTRY_BODY as u64 {
            return Err(Fault::Size);
        }
        // Whoever writes has seen what it replaces: nothing that a version knows is later than itself.
        let after = self.context.0.iter().all(|(_, known)| *known < self.stamp);
        if after && self.stamp.is_plausible(now_ms) { Ok(()) } else { Err(Fault::Stamp) }
    }

    /// The order of versions: whoever is greater is current.
    pub fn rank(&self) -> (Stamp, PublicKey, Hash, [u8; 32]) {
        (self.stamp, self.device, self.hash, self.element().id)
    }

    /// Whether it was written by somebody who knew `other`.
    pub fn knows(&self, other: &Self) -> bool {
        self.context.knows(&other.epoch, other.stamp)
    }

    /// What a version that replaces this one knows.
    pub fn succeeded(&self) -> Context {
        let mut context = self.context.clone();
        context.learn(self.epoch, self.stamp);
        context.forget_the_oldest();
        context
    }

    /// What stands for this version when sets are compared: its stamp, and SHA-256 over everything that makes it this
    /// version and no other.
    pub fn element(&self) -> Element {
        let mut sha = Sha256::new_with_prefix(b"kith version 1\0");
        // Ids are bounded: the length has room in four bytes.
        sha.update(u32::try_from(self.id.len()).unwrap_or(u32::MAX).to_be_bytes());
        sha.update(self.id.as_bytes());
        sha.update(self.stamp.0.to_be_bytes());
        sha.update(self.device.0);
        sha.update(self.epoch.0);
        sha.update(self.hash);
        for (epoch, stamp) in self.context.pairs() {
            sha.update(epoch.0);
            sha.update(stamp.0.to_be_bytes());
        }
        Element { stamp: self.stamp.0, id: sha.finalize().into() }
    }
}

/// Whether text is the id of an entry: 1 to [`limits::ENTRY_ID`] bytes, no control characters.
pub fn check_id(id: &str) -> Result<(), Fault> {
    let good = !id.is_empty() && id.len() <= limits::ENTRY_ID && !id.chars().any(char::is_control);
    if good { Ok(()) } else { Err(Fault::Id) }
}

fn is_meta(meta: &str) -> bool {
    let object = |text| serde_json::from_str::<serde_json::Map<String, serde_json::Value>>(text).is_ok();
    meta.is_empty() || (meta.len() <= limits::ENTRY_META && object(meta))
}

/// SHA-256 of an entry's content, taken piece by piece.
pub struct ContentHash(Sha256);

impl ContentHash {
    /// Begins with what is not the body.
    pub fn new(deleted: bool, meta: &str) -> Self {
        let mut sha = Sha256::new_with_prefix(b"kith entry 1\0");
        sha.update([u8::from(deleted)]);
        sha.update(u32::try_from(meta.len()).unwrap_or(u32::MAX).to_be_bytes());
        sha.update(meta.as_bytes());
        Self(sha)
    }

    /// The next piece of the body.
    pub fn update(&mut self, body: &[u8]) {
        self.0.update(body);
    }

    /// The hash.
    pub fn finish(self) -> Hash {
        self.0.finalize().into()
    }
}

/// SHA-256 of an entry's content: whether it is a deletion, its metadata, its body.
pub fn content_hash(deleted: bool, meta: &str, body: &[u8]) -> Hash {
    let mut hash = ContentHash::new(deleted, meta);
    hash.update(body);
    hash.finish()
}
