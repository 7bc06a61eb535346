//! How far each device is with each journal, and what follows from that: which deletions nobody has to remember.

use std::collections::{BTreeMap, HashMap};

use kith_proto::control::journal::Refusal;
use kith_proto::control::types::Failure;
use kith_proto::hlc::Stamp;
use kith_proto::id::PublicKey;
use kith_proto::limits;
use kith_proto::peer::journal::replica::Replica;
use kith_proto::peer::journal::version::Epoch;
use rusqlite::{OptionalExtension, params};

use super::{Book, Journal, Listed};
use crate::store::{json, to_json};

/// Deletions that one call of [`Journal::collect`] forgets: the database is not busy with them for longer than a moment.
const COLLECTED: usize = 10_000;

/// How a device and this one are with a journal.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct JournalPeer {
    /// It has all that is here up to this seq.
    pub acknowledged: u64,
    /// When a session last brought the journal to its end.
    pub last_sync_ms: Option<u64>,
    /// Conflicts that sessions with it brought.
    pub conflicts: u64,
    /// What was not taken in the last session, here or there.
    pub refused: Vec<Refusal>,
}

/// A device that a journal was synced with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Synced {
    /// When a session last brought the journal to its end.
    pub last_ms: u64,
    /// Whether it has everything that is here.
    pub current: bool,
}

/// How the last session with a device went.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SyncPeer {
    /// When one last ended well.
    pub last_sync_ms: Option<u64>,
    /// How far its clock is ahead of this one.
    pub skew_ms: Option<i64>,
    /// Why the last one failed, if it did, and when.
    pub error: Option<(Failure, u64)>,
}

impl Book<'_> {
    pub(super) fn set_cursor(&self, journal: i64, peer: &PublicKey, epoch: &Epoch, seq: u64) -> rusqlite::Result<()> {
        let epoch = self.epoch_number(epoch)?;
        self.connection
            .prepare_cached(
                "INSERT INTO journal_peer (journal, peer, epoch, since) VALUES (?1, ?2, ?3, ?4)
                 ON CONFLICT (journal, peer) DO UPDATE SET epoch = ?3, since = ?4,
                   acknowledged = CASE WHEN epoch <> ?3 THEN 0 ELSE acknowledged END",
            )?
            .execute(params![journal, peer.0, epoch, seq])?;
        Ok(())
    }

    pub(super) fn set_acknowledged(&self, journal: i64, peer: &PublicKey, seq: u64) -> rusqlite::Result<()> {
        self.connection
            .prepare_cached(
                "INSERT INTO journal_peer (journal, peer, acknowledged) VALUES (?1, ?2, ?3)
                 ON CONFLICT (journal, peer) DO UPDATE SET acknowledged = ?3",
            )?
            .execute(params![journal, peer.0, seq])?;
        Ok(())
    }

    pub(super) fn synced(&self, journal: i64, peer: &PublicKey, now_ms: u64) -> rusqlite::Result<()> {
        self.connection
            .prepare_cached(
                "INSERT INTO journal_peer (journal, peer, last_sync_ms) VALUES (?1, ?2, ?3)
                 ON CONFLICT (journal, peer) DO UPDATE SET last_sync_ms = ?3",
            )?
            .execute(params![journal, peer.0, now_ms])?;
        Ok(())
    }

    /// Counts conflicts that a session with `peer` brought.
    pub fn note_conflicts(&self, journal: &Listed, peer: &PublicKey, conflicts: u64) -> rusqlite::Result<()> {
        self.connection
            .prepare_cached(
                "INSERT INTO journal_peer (journal, peer, conflicts) VALUES (?1, ?2, ?3)
                 ON CONFLICT (journal, peer) DO UPDATE SET conflicts = conflicts + ?3",
            )?
            .execute(params![journal.number, peer.0, conflicts])?;
        Ok(())
    }

    /// Notes what was not taken in a session with `peer`; nothing is a note, too.
    pub fn note_refused(&self, journal: &Listed, peer: &PublicKey, refused: &[Refusal]) -> rusqlite::Result<()> {
        self.connection
            .prepare_cached(
                "INSERT INTO journal_peer (journal, peer, refused) VALUES (?1, ?2, ?3)
                 ON CONFLICT (journal, peer) DO UPDATE SET refused = ?3",
            )?
            .execute(params![journal.number, peer.0, to_json(&refused)?])?;
        Ok(())
    }

    /// Notes how a session with `peer` ended.
    pub fn note_session(
        &self,
        peer: &PublicKey,
        skew_ms: Option<i64>,
        error: Option<&Failure>,
        now_ms: u64,
    ) -> rusqlite::Result<()> {
        let ended_well = error.is_none().then_some(now_ms);
        let failed = error.is_some().then_some(now_ms);
        self.connection
            .prepare_cached(
                "INSERT INTO sync_peer (peer, last_sync_ms, skew_ms, error, error_ms) VALUES (?1, ?2, ?3, ?4, ?5)
                 ON CONFLICT (peer) DO UPDATE SET last_sync_ms = coalesce(?2, last_sync_ms),
                   skew_ms = coalesce(?3, skew_ms), error = ?4, error_ms = ?5",
            )?
            .execute(params![peer.0, ended_well, skew_ms, error.map(to_json).transpose()?, failed])?;
        Ok(())
    }

    /// How the last sessions went, by device.
    pub fn sync_peers(&self) -> rusqlite::Result<BTreeMap<PublicKey, SyncPeer>> {
        let mut statement =
            self.connection.prepare_cached("SELECT peer, last_sync_ms, skew_ms, error_ms, error FROM sync_peer")?;
        let peers = statement.query_map([], |row| {
            let failed: Option<u64> = row.get(3)?;
            let error = failed.map(|ms| json(row, 4).map(|error| (error, ms))).transpose()?;
            Ok((PublicKey(row.get(0)?), SyncPeer { last_sync_ms: row.get(1)?, skew_ms: row.get(2)?, error }))
        })?;
        peers.collect()
    }

    /// How far the devices are with a journal; those with which nothing was ever done are not among them.
    pub fn journal_peers(&self, journal: &Listed) -> rusqlite::Result<BTreeMap<PublicKey, JournalPeer>> {
        let mut statement = self.connection.prepare_cached(
            "SELECT peer, acknowledged, last_sync_ms, conflicts, refused FROM journal_peer WHERE journal = ?1",
        )?;
        let peers = statement.query_map([journal.number], |row| {
            let peer = JournalPeer {
                acknowledged: row.get(1)?,
                last_sync_ms: row.get(2)?,
                conflicts: row.get(3)?,
                refused: json(row, 4)?,
            };
            Ok((PublicKey(row.get(0)?), peer))
        })?;
        peers.collect()
    }

    /// The devices that a journal was synced with.
    pub fn synced_peers(&self, journal: &Listed) -> rusqlite::Result<BTreeMap<PublicKey, Synced>> {
        let mut statement = self.connection.prepare_cached(
            "SELECT peer, last_sync_ms, NOT EXISTS (
               SELECT 1 FROM journal_entry INDEXED BY journal_entry_order
               WHERE journal = ?1 AND seq > acknowledged AND origin <> coalesce(epoch, 0))
             FROM journal_peer WHERE journal = ?1 AND last_sync_ms IS NOT NULL",
        )?;
        let peers = statement.query_map([journal.number], |row| {
            Ok((PublicKey(row.get(0)?), Synced { last_ms: row.get(1)?, current: row.get(2)? }))
        })?;
        peers.collect()
    }

    /// [`Book::lag`] of many devices, in their order: what most of them lack is counted once for all.
    pub fn lags(&self, journal: &Listed, peers: &[PublicKey], most: u64) -> rusqlite::Result<Vec<u64>> {
        let mut statement = self
            .connection
            .prepare_cached("SELECT peer, acknowledged, coalesce(epoch, 0) FROM journal_peer WHERE journal = ?1")?;
        let known = statement.query_map([journal.number], |row| {
            Ok((PublicKey(row.get(0)?), (row.get::<_, u64>(1)?, row.get::<_, i64>(2)?)))
        })?;
        let known = known.collect::<rusqlite::Result<HashMap<_, _>>>()?;
        let known: Vec<_> = peers.iter().map(|peer| known.get(peer).copied().unwrap_or_default()).collect();
        let Some(least) = known.iter().map(|(acknowledged, _)| *acknowledged).min() else { return Ok(Vec::new()) };

        // The newest changes, and those among them that came from one and the same life of a database; newest first.
        let (mut all, mut by_origin) = (Vec::new(), HashMap::<i64, Vec<u64>>::new());
        let mut statement = self.connection.prepare_cached(
            "SELECT seq, origin FROM journal_entry INDEXED BY journal_entry_order
             WHERE journal = ?1 AND seq > ?2 ORDER BY seq DESC LIMIT ?3",
        )?;
        let mut rows = statement.query(params![journal.number, least, most])?;
        while let Some(row) = rows.next()? {
            let (seq, origin): (u64, i64) = (row.get(0)?, row.get(1)?);
            all.push(seq);
            by_origin.entry(origin).or_default().push(seq);
        }
        let newer = |seqs: &[u64], than| seqs.partition_point(|seq| *seq > than) as u64;
        let lag = |(peer, (acknowledged, epoch)): (&PublicKey, (u64, i64))| {
            let lacking = newer(&all, acknowledged);
            let from_there = by_origin.get(&epoch).map_or(0, |seqs| newer(seqs, acknowledged));
            match lacking < most || from_there == 0 {
                true => Ok(lacking - from_there),
                // Of one that wrote much itself there may be more that it lacks, further back.
                false => self.lag(journal, peer, most),
            }
        };
        peers.iter().zip(known).map(lag).collect()
    }

    /// Changes of a journal that `peer` did not acknowledge and that did not come from it; nothing is counted beyond
    /// `most`. It has everything if that is 0.
    pub fn lag(&self, journal: &Listed, peer: &PublicKey, most: u64) -> rusqlite::Result<u64> {
        let known = self
            .connection
            .prepare_cached(
                "SELECT acknowledged, coalesce(epoch, 0) FROM journal_peer WHERE journal = ?1 AND peer = ?2",
            )?
            .query_row(params![journal.number, peer.0], |row| Ok((row.get(0)?, row.get(1)?)))
            .optional()?;
        let (acknowledged, epoch): (u64, i64) = known.unwrap_or_default();
        self.connection
            .prepare_cached(
                "SELECT count(*) FROM (
                   SELECT 1 FROM journal_entry INDEXED BY journal_entry_order
                   WHERE journal = ?1 AND seq > ?2 AND origin <> ?3 LIMIT ?4)",
            )?
            .query_row(params![journal.number, acknowledged, epoch, most], |row| row.get(0))
    }
}

impl Journal<'_> {
    /// Forgets deletions that nobody has to remember (R6), some thousand at a time, and says how far. `members` are the
    /// others that take part now.
    ///
    /// A deletion may go when it is old and every member acknowledged it, and with it all deletions before. Whoever was
    /// silent for too long is not waited for: it counts from its last session, or from when it was first among `members`.
    pub fn collect(&mut self, members: &[PublicKey], now_ms: u64) -> rusqlite::Result<Option<Stamp>> {
        let acknowledged = self.acknowledged_by_all(members, now_ms)?;
        let connection = self.book.connection;
        // The first one that somebody has not acknowledged; everything below is known to all.
        let unknown: Option<u64> = connection
            .prepare_cached(
                "SELECT min(stamp) FROM journal_entry INDEXED BY journal_entry_deleted
                 WHERE journal = ?1 AND deleted = 1 AND seq > ?2",
            )?
            .query_row(params![self.number, acknowledged], |row| row.get(0))?;
        let young = Stamp::at(now_ms.saturating_sub(limits::TOMBSTONE_MS));
        let end = unknown.map_or(young, |stamp| young.min(Stamp(stamp)));
        let horizon: Option<u64> = connection
            .prepare_cached(
                "SELECT max(stamp) FROM (
                   SELECT stamp FROM journal_entry INDEXED BY journal_entry_deleted
                   WHERE journal = ?1 AND deleted = 1 AND stamp < ?2 ORDER BY stamp LIMIT ?3)",
            )?
            .query_row(params![self.number, end.0, COLLECTED], |row| row.get(0))?;
        match horizon.map(Stamp).filter(|horizon| *horizon > self.horizon) {
            Some(horizon) => self.raise_horizon(horizon).map(|()| Some(horizon)),
            None => Ok(None),
        }
    }

    /// The seq up to which all members that are waited for have everything.
    fn acknowledged_by_all(&self, members: &[PublicKey], now_ms: u64) -> rusqlite::Result<i64> {
        let connection = self.book.connection;
        let mut strangers =
            connection.prepare_cached("SELECT peer FROM journal_peer WHERE journal = ?1 AND member_ms IS NOT NULL")?;
        let counted = strangers.query_map([self.number], |row| row.get(0).map(PublicKey))?;
        for peer in counted.collect::<rusqlite::Result<Vec<_>>>()?.iter().filter(|peer| !members.contains(peer)) {
            connection
                .prepare_cached("UPDATE journal_peer SET member_ms = NULL WHERE journal = ?1 AND peer = ?2")?
                .execute(params![self.number, peer.0])?;
        }
        let mut by_all = i64::MAX;
        for member in members {
            let (acknowledged, heard): (i64, u64) = connection
                .prepare_cached(
                    "INSERT INTO journal_peer (journal, peer, member_ms) VALUES (?1, ?2, ?3)
                     ON CONFLICT (journal, peer) DO UPDATE SET member_ms = coalesce(member_ms, ?3)
                     RETURNING acknowledged, max(member_ms, coalesce(last_sync_ms, 0))",
                )?
                .query_row(params![self.number, member.0, now_ms], |row| Ok((row.get(0)?, row.get(1)?)))?;
            if now_ms.saturating_sub(heard) < limits::MEMBER_SILENT_MS {
                by_all = by_all.min(acknowledged);
            }
        }
        Ok(by_all)
    }
}
