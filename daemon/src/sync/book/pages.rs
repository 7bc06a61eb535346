//! Lists of entries, single versions, and pieces of their bodies.

use kith_proto::hlc::Stamp;
use kith_proto::peer::journal::replica::Kept;
use kith_proto::peer::journal::version::{Hash, Version};
use kith_proto::peer::reconcile::Element;
use rusqlite::{MAIN_DB, OptionalExtension, params};

use super::columns::{VERSION, VERSION_COLUMNS, bound, limit};
use super::kept::word;
use super::{Book, Journal};

/// Versions in the order that was asked for, as many as fit.
#[derive(Debug)]
pub struct Page<T> {
    /// The versions.
    pub versions: Vec<T>,
    /// Whether more follow behind the last one.
    pub more: bool,
}

/// A version that is here, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    /// The version.
    pub version: Version,
    /// Its seq if it is the current one, else 0.
    pub seq: u64,
    /// Its row among those that are kept, if it is there.
    kept: i64,
}

/// The place of a kept version among the others of its kind: by id, the newest first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeptAt {
    /// Its entry.
    pub id: String,
    /// Its stamp.
    pub stamp: Stamp,
    /// Its row.
    pub number: u64,
}

impl Held {
    /// Where it is among those that are kept.
    pub fn kept_at(&self) -> KeptAt {
        KeptAt { id: self.version.id.clone(), stamp: self.version.stamp, number: self.kept.unsigned_abs() }
    }
}

impl Journal<'_> {
    /// Current versions that changed after `seq`, in the order of changes: at most `rows`, and of at most about `bytes`.
    pub fn by_seq(&self, seq: u64, deleted: bool, rows: usize, bytes: usize) -> rusqlite::Result<Page<Held>> {
        let sql = format!(
            "SELECT {VERSION}, seq FROM journal_entry INDEXED BY journal_entry_order
             WHERE journal = ?1 AND seq > ?2 AND deleted <= ?3 ORDER BY seq LIMIT ?4"
        );
        let mut statement = self.book.connection.prepare_cached(&sql)?;
        let found = statement.query(params![self.number, seq, deleted, limit(rows.saturating_add(1))])?;
        self.page(found, true, rows, bytes)
    }

    /// Current versions in the order of their elements, behind `after`, from the stamp `from` on and before `until`: at
    /// most `rows`, and of at most about `bytes`.
    pub fn by_time(
        &self,
        after: Option<&Element>,
        (from, until): (Stamp, Stamp),
        deleted: bool,
        rows: usize,
        bytes: usize,
    ) -> rusqlite::Result<Page<Held>> {
        let sql = format!(
            "SELECT {VERSION}, journal_entry.seq FROM (
               SELECT seq AS at, stamp AS s, element AS e FROM journal_element
               WHERE journal = ?1 AND (stamp, element) > (?2, ?3) AND stamp < ?4)
             CROSS JOIN journal_entry ON journal_entry.seq = at WHERE deleted <= ?5 ORDER BY s, e LIMIT ?6"
        );
        // What is behind everything below `from` is what is behind the greatest element that could be there.
        let before = Element { stamp: from.0.saturating_sub(1), id: [0xff; 32] };
        let after = bound(after.unwrap_or(&Element::FIRST).max(&before));
        let until = i64::try_from(until.0).unwrap_or(i64::MAX);
        let mut statement = self.book.connection.prepare_cached(&sql)?;
        let params = params![self.number, after.0, after.1, until, deleted, limit(rows.saturating_add(1))];
        self.page(statement.query(params)?, true, rows, bytes)
    }

    /// Kept versions of one place, of one entry or of all, behind `after`: at most `rows`, and of at most about `bytes`.
    pub fn kept(
        &self,
        place: Kept,
        id: Option<&str>,
        after: Option<&KeptAt>,
        rows: usize,
        bytes: usize,
    ) -> rusqlite::Result<Page<Held>> {
        let sql = format!(
            "SELECT {VERSION}, number FROM journal_kept INDEXED BY journal_kept_order
             WHERE journal = ?1 AND place = ?2 AND id >= ?3 AND (?4 IS NULL OR id = ?4)
               AND (id > ?3 OR (stamp, number) < (?5, ?6))
             ORDER BY id, stamp DESC, number DESC LIMIT ?7"
        );
        let (from, stamp, number) = match after {
            Some(after) => (after.id.as_str(), after.stamp.0, after.number),
            None => (id.unwrap_or_default(), i64::MAX as u64, i64::MAX as u64),
        };
        let mut statement = self.book.connection.prepare_cached(&sql)?;
        let params = params![self.number, word(place), from, id, stamp, number, limit(rows.saturating_add(1))];
        self.page(statement.query(params)?, false, rows, bytes)
    }

    fn page(
        &self,
        mut found: rusqlite::Rows<'_>,
        current: bool,
        rows: usize,
        bytes: usize,
    ) -> rusqlite::Result<Page<Held>> {
        let mut page = Page { versions: Vec::new(), more: false };
        let mut sum = 0;
        while let Some(row) = found.next()? {
            let held = self.book.held(row, current)?;
            sum += held.version.id.len() + held.version.meta.len();
            if page.versions.len() >= rows || (sum > bytes && !page.versions.is_empty()) {
                page.more = true;
                break;
            }
            page.versions.push(held);
        }
        Ok(page)
    }

    /// The current version of an entry or, by its content, any version that is here.
    pub fn held(&self, id: &str, hash: Option<&Hash>) -> rusqlite::Result<Option<Held>> {
        let connection = self.book.connection;
        let sql = format!("SELECT {VERSION}, seq FROM journal_entry WHERE journal = ?1 AND id = ?2");
        let current = connection
            .prepare_cached(&sql)?
            .query_row(params![self.number, id], |row| self.book.held(row, true))
            .optional()?;
        match hash {
            Some(hash) if current.as_ref().is_none_or(|current| current.version.hash != *hash) => {
                self.kept_version(id, hash)
            }
            _ => Ok(current),
        }
    }

    /// The newest kept version of an entry with this content.
    pub fn kept_version(&self, id: &str, hash: &Hash) -> rusqlite::Result<Option<Held>> {
        let sql = format!(
            "SELECT {VERSION}, number FROM journal_kept INDEXED BY journal_kept_order
             WHERE journal = ?1 AND place IN ('history', 'recovered') AND id = ?2 AND hash = ?3
             ORDER BY stamp DESC, number DESC LIMIT 1"
        );
        self.book
            .connection
            .prepare_cached(&sql)?
            .query_row(params![self.number, id, hash], |row| self.book.held(row, false))
            .optional()
    }

    /// A piece of a version's body: less than `length` bytes only where the body ends. Nothing if the version is not there
    /// any more.
    pub fn body(&self, held: &Held, offset: u64, length: usize) -> rusqlite::Result<Vec<u8>> {
        match held.seq {
            0 => self.book.slice("journal_kept", held.kept, offset, length),
            seq => self.book.entry_body(seq, offset, length),
        }
    }

    /// Forgets a kept version; says whether it was there.
    pub fn forget(&self, held: &Held) -> rusqlite::Result<bool> {
        self.book.forget_kept(held.kept)
    }
}

impl Book<'_> {
    fn held(&self, row: &rusqlite::Row<'_>, current: bool) -> rusqlite::Result<Held> {
        let version = self.version(row)?;
        Ok(match current {
            true => Held { version, seq: row.get(VERSION_COLUMNS)?, kept: 0 },
            false => Held { version, seq: 0, kept: row.get(VERSION_COLUMNS)? },
        })
    }

    /// A piece of the body of the current version with this seq.
    pub(super) fn entry_body(&self, seq: u64, offset: u64, length: usize) -> rusqlite::Result<Vec<u8>> {
        self.slice("journal_entry", i64::try_from(seq).unwrap_or(i64::MAX), offset, length)
    }

    /// Reads a piece without the rest: what `substr` does not.
    fn slice(&self, table: &str, row: i64, offset: u64, length: usize) -> rusqlite::Result<Vec<u8>> {
        let blob = self.connection.blob_open(MAIN_DB, table, "body", row, true)?;
        let offset = usize::try_from(offset).unwrap_or(usize::MAX).min(blob.len());
        let mut piece = vec![0; length.min(blob.len() - offset)];
        blob.read_at_exact(&mut piece, offset)?;
        Ok(piece)
    }
}
