//! What becomes of a version that arrives, and of one that is written here.

use super::replica::{Kept, Replica};
use super::version::{Context, Epoch, Hash, Version, content_hash};
use crate::id::PublicKey;

/// What became of a version that arrived.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It was here, or is older than what is here and known to it.
    Known,
    /// It is current now.
    Current,
    /// It and another one did not know each other; one of them is current, the other one is kept.
    Conflict {
        /// Current now.
        winner: Box<Version>,
        /// In the history now.
        loser: Box<Version>,
    },
    /// It is from before the horizon, and a deletion ended it: it waits among the recovered, and its entry is written
    /// anew as it is here, deleted or not, so that this device and the others agree again.
    Recovered,
}

/// What [`take`] did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Taken {
    /// What became of the version.
    pub outcome: Outcome,
    /// Whether its entry was written anew, by this device.
    pub anew: bool,
}

impl From<Outcome> for Taken {
    fn from(outcome: Outcome) -> Self {
        Self { outcome, anew: false }
    }
}

/// Takes a version that passed [`Version::check`] and whose body fits its hash; `origin` is the life of the database that
/// it comes from.
pub fn take<R: Replica>(
    replica: &mut R,
    device: PublicKey,
    version: &Version,
    body: &[u8],
    origin: &Epoch,
    now_ms: u64,
) -> Result<Taken, R::Error> {
    let returned = came_back(replica, version)?;
    if version.stamp > replica.clock()? {
        replica.set_clock(version.stamp)?;
    }
    replica.saw(&version.epoch, version.stamp)?;
    // Whoever knows a deletion knows what it deleted, also when nothing of that ever came by here.
    for (epoch, stamp) in version.context.pairs() {
        replica.saw(epoch, *stamp)?;
    }
    let Some(local) = replica.current(&version.id)? else {
        if returned {
            let news = replica.keep(Kept::Recovered, version, body, now_ms)?;
            // The deletion knew this version: sent again, or met where it is current, it is no conflict.
            delete_anew(replica, device, &version.id, version.succeeded(), now_ms)?;
            let outcome = if news { Outcome::Recovered } else { Outcome::Known };
            return Ok(Taken { outcome, anew: true });
        }
        if version.deleted && version.stamp <= replica.horizon()? {
            return Ok(Outcome::Known.into());
        }
        replica.put(version, body, origin)?;
        return Ok(Outcome::Current.into());
    };
    let (mine, theirs) = (local.rank(), version.rank());
    if mine == theirs {
        return Ok(Outcome::Known.into());
    }
    if returned && theirs > mine && !version.knows(&local) {
        // What was written in its place meanwhile stays.
        let news = replica.keep(Kept::Recovered, version, body, now_ms)?;
        write_anew(replica, device, &local, version, now_ms)?;
        let outcome = if news { Outcome::Recovered } else { Outcome::Known };
        return Ok(Taken { outcome, anew: true });
    }
    let (winner, loser) = if theirs > mine { (version, &local) } else { (&local, version) };
    let conflict = winner.hash != loser.hash && !winner.knows(loser);
    let news = match (conflict, theirs > mine) {
        (false, _) => false,
        (true, true) => replica.keep_current(&version.id, now_ms)?,
        (true, false) => replica.keep(Kept::History, version, body, now_ms)?,
    };
    let mut anew = false;
    if theirs > mine {
        replica.put(version, body, origin)?;
        anew = version.deleted && version.stamp <= replica.horizon()?;
        if anew {
            // Others with this horizon would not look at this deletion any more.
            delete_anew(replica, device, &version.id, version.succeeded(), now_ms)?;
        }
    }
    let outcome = match (news, theirs > mine) {
        (true, _) => Outcome::Conflict { winner: Box::new(winner.clone()), loser: Box::new(loser.clone()) },
        (false, true) => Outcome::Current,
        (false, false) => Outcome::Known,
    };
    Ok(Taken { outcome, anew })
}

/// Whether a version is one of those that a deletion ended which is forgotten here, brought by a device that missed it.
/// What that device wrote while it was away is none of them: nobody here has seen that. That device's own horizon says
/// nothing: each forgets what it knew, and of two that were apart neither knew all.
fn came_back<R: Replica>(replica: &mut R, version: &Version) -> Result<bool, R::Error> {
    Ok(!version.deleted && version.stamp <= replica.horizon()? && replica.seen(&version.epoch)? >= version.stamp)
}

fn delete_anew<R: Replica>(
    replica: &mut R,
    device: PublicKey,
    id: &str,
    context: Context,
    now_ms: u64,
) -> Result<(), R::Error> {
    let tombstone = stamped(replica, device, id, context, Content { deleted: true, meta: "", body: b"" }, now_ms)?;
    let own = replica.epoch();
    replica.put(&tombstone, b"", &own)?;
    Ok(())
}

/// Writes what is current once more, above `other`, which it is to replace.
fn write_anew<R: Replica>(
    replica: &mut R,
    device: PublicKey,
    current: &Version,
    other: &Version,
    now_ms: u64,
) -> Result<(), R::Error> {
    let length = usize::try_from(current.size).unwrap_or(usize::MAX);
    let body = replica.piece(&current.element(), 0, length)?.unwrap_or_default();
    let content = Content { deleted: current.deleted, meta: &current.meta, body: &body };
    let context = current.succeeded().and(&other.succeeded());
    let version = stamped(replica, device, &current.id, context, content, now_ms)?;
    let own = replica.epoch();
    replica.put(&version, &body, &own)?;
    Ok(())
}

/// What is written.
#[derive(Debug, Clone, Copy)]
pub struct Content<'a> {
    /// Whether the entry is deleted.
    pub deleted: bool,
    /// A JSON object, or nothing.
    pub meta: &'a str,
    /// Anything.
    pub body: &'a [u8],
}

/// Which version somebody expects to replace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expected {
    /// Any, or none.
    Anything,
    /// There must be none, or a deleted one.
    Nothing,
    /// The one with this content.
    Hash(Hash),
}

/// What became of a write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Written {
    /// It is current now, with this seq.
    Current(u64, Box<Version>),
    /// That was the content already; nothing changed.
    Unchanged(Box<Version>),
    /// Another version is there than the one expected: this one, if any.
    Mismatch(Option<Box<Version>>),
    /// There is nothing to delete.
    Missing,
}

/// Writes an entry on this device. Bounds of id, metadata and body are the caller's.
pub fn write<R: Replica>(
    replica: &mut R,
    device: PublicKey,
    id: &str,
    content: Content<'_>,
    expected: Expected,
    now_ms: u64,
) -> Result<Written, R::Error> {
    let current = replica.current(id)?;
    let live = current.as_ref().filter(|version| !version.deleted);
    let fits = match expected {
        Expected::Anything => true,
        Expected::Nothing => live.is_none(),
        Expected::Hash(hash) => live.is_some_and(|version| version.hash == hash),
    };
    if content.deleted && live.is_none() {
        return Ok(Written::Missing);
    }
    if !fits {
        return Ok(Written::Mismatch(live.cloned().map(Box::new)));
    }
    let hash = content_hash(content.deleted, content.meta, content.body);
    if let Some(same) = live.filter(|live| live.hash == hash) {
        return Ok(Written::Unchanged(Box::new(same.clone())));
    }
    let context = current.as_ref().map(Version::succeeded).unwrap_or_default();
    let version = stamped(replica, device, id, context, content, now_ms)?;
    let own = replica.epoch();
    let seq = replica.put(&version, content.body, &own)?;
    Ok(Written::Current(seq, Box::new(version)))
}

fn stamped<R: Replica>(
    replica: &mut R,
    device: PublicKey,
    id: &str,
    context: Context,
    content: Content<'_>,
    now_ms: u64,
) -> Result<Version, R::Error> {
    let stamp = replica.clock()?.next(now_ms);
    replica.set_clock(stamp)?;
    let epoch = replica.epoch();
    replica.saw(&epoch, stamp)?;
    Ok(Version {
        id: id.to_owned(),
        stamp,
        device,
        epoch,
        context,
        deleted: content.deleted,
        meta: content.meta.to_owned(),
        hash: content_hash(content.deleted, content.meta, content.body),
        size: content.body.len() as u64,
    })
}
