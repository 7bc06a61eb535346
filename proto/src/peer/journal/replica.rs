//! What a store must be able to do. One implementation lies in the daemon's database, another in memory for tests.

use super::member::Introduction;
use super::version::{Epoch, Hash, JournalId, Version};
use super::wire::Manifest;
use crate::hlc::Stamp;
use crate::id::PublicKey;
use crate::peer::reconcile::{Element, Set, Sum};

/// An entry with its place in the order of changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// Grows with each change of any journal of this device; a rewrite takes a new one.
    pub seq: u64,
    /// What it is.
    pub version: Version,
    /// Its body, if that is not longer than [`crate::limits::ENTRY_INLINE`].
    pub body: Option<Vec<u8>>,
}

/// Where versions go that are not current.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kept {
    /// Lost a conflict.
    History,
    /// Came back from before the horizon.
    Recovered,
}

/// One journal on this device. The set that is compared has an element for each current version, deletions included.
pub trait Replica: Set {
    /// The life of the database.
    fn epoch(&self) -> Epoch;
    /// The greatest stamp that this device has seen, in any journal.
    fn clock(&mut self) -> Result<Stamp, Self::Error>;
    /// Remembers it.
    fn set_clock(&mut self, stamp: Stamp) -> Result<(), Self::Error>;
    /// The greatest seq that was given out, in any journal.
    fn top(&mut self) -> Result<u64, Self::Error>;
    /// Count and sum of all elements.
    fn total(&mut self) -> Result<Sum, Self::Error>;

    /// Up to which stamp deletions are forgotten.
    fn horizon(&mut self) -> Result<Stamp, Self::Error>;
    /// Forgets deletions up to `horizon`, for good.
    fn raise_horizon(&mut self, horizon: Stamp) -> Result<(), Self::Error>;
    /// The greatest stamp of `epoch` that is known to have been written.
    fn seen(&mut self, epoch: &Epoch) -> Result<Stamp, Self::Error>;
    /// Remembers that `epoch` wrote at `stamp`, if that is greater than what is remembered.
    fn saw(&mut self, epoch: &Epoch, stamp: Stamp) -> Result<(), Self::Error>;
    /// All of that, newest first, at most `limit`.
    fn all_seen(&mut self, limit: usize) -> Result<Vec<(Epoch, Stamp)>, Self::Error>;

    /// The current version of an entry; a deletion is one, too.
    fn current(&mut self, id: &str) -> Result<Option<Version>, Self::Error>;
    /// Makes `version` the current one. `origin` is where it came from: this device's own epoch for what is written
    /// here. Returns its seq.
    fn put(&mut self, version: &Version, body: &[u8], origin: &Epoch) -> Result<u64, Self::Error>;
    /// Keeps a version that is not current, and says whether that is news. Of each entry the newest
    /// [`crate::limits::ENTRY_HISTORY`] stay.
    fn keep(&mut self, place: Kept, version: &Version, body: &[u8], now_ms: u64) -> Result<bool, Self::Error>;
    /// Keeps the current version of an entry in the history, before another one replaces it.
    fn keep_current(&mut self, id: &str, now_ms: u64) -> Result<bool, Self::Error>;

    /// What changed after `seq`, in the order of changes, without what came from `peer`: at most `rows`, and with bodies
    /// of at most about `bytes` in sum, but at least one if there is one.
    fn changes(&mut self, seq: u64, peer: &Epoch, rows: usize, bytes: usize) -> Result<Vec<Row>, Self::Error>;
    /// The entry whose current version has this element.
    fn row(&mut self, element: &Element) -> Result<Option<Row>, Self::Error>;
    /// A piece of the body of the entry whose current version has this element; `None` if there is no such entry any
    /// more.
    fn piece(&mut self, element: &Element, offset: u64, length: usize) -> Result<Option<Vec<u8>>, Self::Error>;

    /// How much is here of a body that arrives in pieces. Pieces outlive sessions.
    fn partial(&mut self, hash: &Hash) -> Result<u64, Self::Error>;
    /// Adds the piece at `offset`, which is the end of what is here; at 0 it begins anew.
    fn add_piece(&mut self, hash: &Hash, offset: u64, piece: &[u8], now_ms: u64) -> Result<(), Self::Error>;
    /// The whole body; its pieces are forgotten.
    fn take_pieces(&mut self, hash: &Hash) -> Result<Vec<u8>, Self::Error>;

    /// `peer`, in this life of its database, has nothing up to `seq` that is not here.
    fn set_cursor(&mut self, peer: &PublicKey, epoch: &Epoch, seq: u64) -> Result<(), Self::Error>;
    /// `peer` has all that is here up to `seq`.
    fn set_acknowledged(&mut self, peer: &PublicKey, seq: u64) -> Result<(), Self::Error>;
    /// A session brought this journal to its end.
    fn synced(&mut self, peer: &PublicKey, now_ms: u64) -> Result<(), Self::Error>;
}

/// All journals of this device.
pub trait Shelf {
    /// Why it cannot do something.
    type Error;
    /// One journal of it.
    type Replica<'a>: Replica<Error = Self::Error>
    where
        Self: 'a;

    /// This device's key.
    fn device(&self) -> PublicKey;
    /// The life of the database.
    fn epoch(&self) -> Epoch;
    /// Begins another life: the database went back in time.
    fn begin_epoch(&mut self) -> Result<(), Self::Error>;
    /// The greatest seq that was given out.
    fn top(&mut self) -> Result<u64, Self::Error>;
    /// The journals that this device would sync with `peer` now, ascending.
    fn manifest(&mut self, peer: &PublicKey) -> Result<Vec<Manifest>, Self::Error>;
    /// What `peer` may know about who takes part in a journal: something if it is or was a member.
    fn introduction(&mut self, peer: &PublicKey, journal: &JournalId) -> Result<Option<Introduction>, Self::Error>;
    /// Merges what `peer` says about who takes part. What cannot be verified changes nothing.
    fn introduce(&mut self, peer: &PublicKey, introduction: &Introduction, now_ms: u64) -> Result<(), Self::Error>;
    /// A journal of the manifest.
    fn replica<'a>(&'a mut self, journal: &JournalId) -> Result<Self::Replica<'a>, Self::Error>;
}
