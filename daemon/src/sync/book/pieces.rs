//! Beginnings of bodies that arrive in pieces. They belong to a journal: who shares another one learns nothing of them.

use kith_proto::limits;
use kith_proto::peer::journal::version::Hash;
use kith_proto::peer::journal::wire::Partial;
use rusqlite::params;

use super::Book;

impl Book<'_> {
    /// The beginnings that are here.
    pub(super) fn partials(&self, journal: i64) -> rusqlite::Result<Vec<Partial>> {
        let mut statement = self.connection.prepare_cached(
            "SELECT hash, max(offset + length(data)) FROM journal_piece WHERE journal = ?1 GROUP BY hash",
        )?;
        statement.query_map([journal], |row| Ok(Partial { hash: row.get(0)?, have: row.get(1)? }))?.collect()
    }

    pub(super) fn partial(&self, journal: i64, hash: &Hash) -> rusqlite::Result<u64> {
        self.connection
            .prepare_cached(
                "SELECT coalesce(max(offset + length(data)), 0) FROM journal_piece WHERE journal = ?1 AND hash = ?2",
            )?
            .query_row(params![journal, hash], |row| row.get(0))
    }

    pub(super) fn add_piece(
        &self,
        journal: i64,
        hash: &Hash,
        offset: u64,
        piece: &[u8],
        now_ms: u64,
    ) -> rusqlite::Result<()> {
        if offset == 0 {
            self.forget_pieces(journal, hash)?;
        }
        self.connection
            .prepare_cached(
                "INSERT INTO journal_piece (journal, hash, offset, at_ms, data) VALUES (?1, ?2, ?3, ?4, ?5)",
            )?
            .execute(params![journal, hash, offset, now_ms, piece])?;
        if offset == 0 {
            self.connection
                .prepare_cached(
                    "DELETE FROM journal_piece WHERE (journal, hash) IN (
                       SELECT journal, hash FROM journal_piece GROUP BY journal, hash
                       ORDER BY max(at_ms) DESC, max(rowid) DESC LIMIT -1 OFFSET ?1)",
                )?
                .execute([limits::PARTIAL_BODIES])?;
        }
        Ok(())
    }

    pub(super) fn take_pieces(&self, journal: i64, hash: &Hash) -> rusqlite::Result<Vec<u8>> {
        let mut statement = self
            .connection
            .prepare_cached("SELECT data FROM journal_piece WHERE journal = ?1 AND hash = ?2 ORDER BY offset")?;
        let mut rows = statement.query(params![journal, hash])?;
        let mut body = Vec::with_capacity(usize::try_from(self.partial(journal, hash)?).unwrap_or(0));
        while let Some(row) = rows.next()? {
            body.extend_from_slice(row.get_ref(0)?.as_blob()?);
        }
        self.forget_pieces(journal, hash)?;
        Ok(body)
    }

    fn forget_pieces(&self, journal: i64, hash: &Hash) -> rusqlite::Result<()> {
        self.connection
            .prepare_cached("DELETE FROM journal_piece WHERE journal = ?1 AND hash = ?2")?
            .execute(params![journal, hash])?;
        Ok(())
    }

    /// Forgets the beginnings whose rest did not come.
    pub fn sweep_pieces(&self, now_ms: u64) -> rusqlite::Result<()> {
        self.connection
            .prepare_cached(
                "DELETE FROM journal_piece WHERE (journal, hash) IN (
                   SELECT journal, hash FROM journal_piece GROUP BY journal, hash HAVING max(at_ms) < ?1)",
            )?
            .execute([now_ms.saturating_sub(limits::PARTIAL_BODY_MS)])?;
        Ok(())
    }
}
