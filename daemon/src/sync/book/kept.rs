//! Versions that are not current: they lost a conflict, or came back from before the horizon.

use kith_proto::limits;
use kith_proto::peer::journal::replica::Kept;
use kith_proto::peer::journal::version::Version;
use rusqlite::{OptionalExtension, params};

use super::Book;

/// The word for a place in its column.
pub fn word(place: Kept) -> &'static str {
    match place {
        Kept::History => "history",
        Kept::Recovered => "recovered",
    }
}

impl Book<'_> {
    /// Keeps a version, and says whether that is news.
    pub(super) fn keep(
        &self,
        journal: i64,
        place: Kept,
        version: &Version,
        body: &[u8],
        now_ms: u64,
    ) -> rusqlite::Result<bool> {
        let added = self
            .connection
            .prepare_cached(
                "INSERT INTO journal_kept (journal, place, id, stamp, element, writer, deleted, context, meta, hash,
                                           size, kept_ms, body)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13)
                 ON CONFLICT (journal, element) DO NOTHING",
            )?
            .execute(params![
                journal,
                word(place),
                version.id,
                version.stamp.0,
                version.element().id,
                self.writer_number(&version.device, &version.epoch)?,
                version.deleted,
                self.pack(&version.context)?,
                version.meta,
                version.hash,
                version.size,
                now_ms,
                body
            ])?;
        Ok(added > 0 && self.settle(journal, place, &version.id)?)
    }

    /// Keeps the current version in the row `seq` in the history; its body does not leave the database.
    pub(super) fn keep_row(&self, journal: i64, seq: u64, version: &Version, now_ms: u64) -> rusqlite::Result<bool> {
        let added = self
            .connection
            .prepare_cached(
                "INSERT INTO journal_kept (journal, place, id, stamp, element, writer, deleted, context, meta, hash,
                                           size, kept_ms, body)
                 SELECT journal, 'history', id, stamp, ?2, writer, deleted, context, meta, hash, size, ?3, body
                 FROM journal_entry WHERE seq = ?1
                 ON CONFLICT (journal, element) DO NOTHING",
            )?
            .execute(params![seq, version.element().id, now_ms])?;
        Ok(added > 0 && self.settle(journal, Kept::History, &version.id)?)
    }

    /// Counts the version that was just added, and drops what is more than an entry may have. Says whether the new one
    /// is still there.
    fn settle(&self, journal: i64, place: Kept, id: &str) -> rusqlite::Result<bool> {
        let new = self.connection.last_insert_rowid();
        let dropped = self
            .connection
            .prepare_cached(
                "DELETE FROM journal_kept WHERE number IN (
                   SELECT number FROM journal_kept WHERE journal = ?1 AND place = ?2 AND id = ?3
                   ORDER BY stamp DESC, number DESC LIMIT -1 OFFSET ?4)",
            )?
            .execute(params![journal, word(place), id, limits::ENTRY_HISTORY])?;
        self.count_kept(journal, place, 1 - i64::try_from(dropped).unwrap_or(0))?;
        let stays = self.connection.prepare_cached("SELECT 1 FROM journal_kept WHERE number = ?1")?.exists([new])?;
        Ok(stays)
    }

    fn count_kept(&self, journal: i64, place: Kept, more: i64) -> rusqlite::Result<()> {
        let sql = match place {
            Kept::History => "UPDATE journal SET history = history + ?2 WHERE number = ?1",
            Kept::Recovered => "UPDATE journal SET recovered = recovered + ?2 WHERE number = ?1",
        };
        self.connection.prepare_cached(sql)?.execute([journal, more])?;
        Ok(())
    }

    /// Forgets a kept version; says whether there was one.
    pub(super) fn forget_kept(&self, number: i64) -> rusqlite::Result<bool> {
        let found = self
            .connection
            .prepare_cached("DELETE FROM journal_kept WHERE number = ?1 RETURNING journal, place")?
            .query_row([number], |row| Ok((row.get(0)?, row.get::<_, String>(1)?)))
            .optional()?;
        let Some((journal, place)) = found else { return Ok(false) };
        let place = if place == word(Kept::Recovered) { Kept::Recovered } else { Kept::History };
        self.count_kept(journal, place, -1)?;
        Ok(true)
    }

    /// Forgets what has been in the history for long enough: at most `limit` versions. Says whether there may be more.
    pub fn sweep_history(&self, now_ms: u64, limit: usize) -> rusqlite::Result<bool> {
        let old = self
            .connection
            .prepare_cached(
                "SELECT number FROM journal_kept WHERE place = 'history' AND kept_ms < ?1 ORDER BY kept_ms LIMIT ?2",
            )?
            .query_map(params![now_ms.saturating_sub(limits::ENTRY_HISTORY_MS), limit], |row| row.get(0))?
            .collect::<rusqlite::Result<Vec<i64>>>()?;
        for number in &old {
            self.forget_kept(*number)?;
        }
        Ok(old.len() >= limit)
    }
}
