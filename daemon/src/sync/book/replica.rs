//! One journal: its current versions, and how far others are with it.

use std::collections::HashMap;

use kith_proto::hlc::Stamp;
use kith_proto::id::PublicKey;
use kith_proto::limits;
use kith_proto::peer::journal::replica::{Kept, Replica, Row};
use kith_proto::peer::journal::version::{Epoch, Hash, Version};
use kith_proto::peer::reconcile::{Element, Sum};
use rusqlite::{OptionalExtension, params};

use super::columns::{self, VERSION, VERSION_COLUMNS, limit};
use super::sums::Cache;
use super::{Book, Listed};

/// Deletions that are forgotten at once.
const PAGE: usize = 1000;

/// One journal, within one transaction (or read).
pub struct Journal<'a> {
    pub(super) book: &'a Book<'a>,
    pub(super) number: i64,
    pub(super) horizon: Stamp,
    pub(super) total: Sum,
    pub(super) tombstones: u64,
    pub(super) cache: Cache,
    /// The current version that was read last: whoever replaces an entry has looked at it.
    current: Option<(u64, Version)>,
    /// What is remembered of epochs, by their numbers.
    seen: HashMap<i64, Stamp>,
}

impl<'a> Journal<'a> {
    pub(super) fn new(book: &'a Book<'a>, listed: &Listed) -> Self {
        Self {
            book,
            number: listed.number,
            horizon: listed.horizon,
            total: listed.total,
            tombstones: listed.tombstones,
            cache: Cache::default(),
            current: None,
            seen: HashMap::new(),
        }
    }

    /// The row and the current version of an entry.
    fn look_up(&mut self, id: &str) -> rusqlite::Result<Option<&(u64, Version)>> {
        if self.current.as_ref().is_none_or(|(_, version)| version.id != id) {
            let sql = format!("SELECT {VERSION}, seq FROM journal_entry WHERE journal = ?1 AND id = ?2");
            self.current = self
                .book
                .connection
                .prepare_cached(&sql)?
                .query_row(params![self.number, id], |row| Ok((row.get(VERSION_COLUMNS)?, self.book.version(row)?)))
                .optional()?;
        }
        Ok(self.current.as_ref())
    }

    /// Takes away a current version. The total is not written down.
    fn remove(&mut self, seq: u64, version: &Version) -> rusqlite::Result<()> {
        let connection = self.book.connection;
        let element = version.element();
        connection.prepare_cached("DELETE FROM journal_entry WHERE seq = ?1")?.execute([seq])?;
        connection
            .prepare_cached("DELETE FROM journal_element WHERE journal = ?1 AND stamp = ?2 AND element = ?3")?
            .execute(params![self.number, element.stamp, element.id])?;
        self.tombstones = self.tombstones.saturating_sub(u64::from(version.deleted));
        self.current = None;
        self.remove_element(&element)
    }

    fn write_total(&self) -> rusqlite::Result<()> {
        self.book
            .connection
            .prepare_cached("UPDATE journal SET count = ?2, sum = ?3, tombstones = ?4 WHERE number = ?1")?
            .execute(params![self.number, self.total.count, self.total.sum, self.tombstones])?;
        Ok(())
    }

    fn seen_by_number(&mut self, epoch: i64) -> rusqlite::Result<Stamp> {
        if let Some(stamp) = self.seen.get(&epoch) {
            return Ok(*stamp);
        }
        let stamp = self
            .book
            .connection
            .prepare_cached("SELECT stamp FROM journal_seen WHERE journal = ?1 AND epoch = ?2")?
            .query_row([self.number, epoch], |row| row.get(0))
            .optional()?;
        let stamp = stamp.map_or(Stamp::ZERO, Stamp);
        self.seen.insert(epoch, stamp);
        Ok(stamp)
    }

    /// The row that a statement found: the columns of [`VERSION`], the seq, and the body where it is short.
    fn to_send(&self, row: &rusqlite::Row<'_>) -> rusqlite::Result<Row> {
        Ok(Row {
            version: self.book.version(row)?,
            seq: row.get(VERSION_COLUMNS)?,
            body: row.get(VERSION_COLUMNS + 1)?,
        })
    }

    fn seq_of(&self, element: &Element) -> rusqlite::Result<Option<u64>> {
        self.book
            .connection
            .prepare_cached("SELECT seq FROM journal_element WHERE journal = ?1 AND stamp = ?2 AND element = ?3")?
            .query_row(params![self.number, element.stamp, element.id], |row| row.get(0))
            .optional()
    }
}

impl Replica for Journal<'_> {
    fn epoch(&self) -> Epoch {
        self.book.epoch.get()
    }

    fn clock(&mut self) -> rusqlite::Result<Stamp> {
        Ok(self.book.clock.get())
    }

    fn set_clock(&mut self, stamp: Stamp) -> rusqlite::Result<()> {
        self.book.set_clock(stamp)
    }

    fn top(&mut self) -> rusqlite::Result<u64> {
        self.book.top()
    }

    fn total(&mut self) -> rusqlite::Result<Sum> {
        Ok(self.total)
    }

    fn horizon(&mut self) -> rusqlite::Result<Stamp> {
        Ok(self.horizon)
    }

    fn raise_horizon(&mut self, horizon: Stamp) -> rusqlite::Result<()> {
        if horizon <= self.horizon {
            return Ok(());
        }
        self.book.keep_top()?;
        let sql = format!(
            "SELECT {VERSION}, seq FROM journal_entry WHERE journal = ?1 AND deleted = 1 AND stamp <= ?2
             ORDER BY stamp LIMIT ?3"
        );
        loop {
            let old = self
                .book
                .connection
                .prepare_cached(&sql)?
                .query_map(params![self.number, horizon.0, PAGE], |row| {
                    Ok((row.get(VERSION_COLUMNS)?, self.book.version(row)?))
                })?
                .collect::<rusqlite::Result<Vec<(u64, Version)>>>()?;
            for (seq, version) in &old {
                self.remove(*seq, version)?;
            }
            if old.len() < PAGE {
                break;
            }
        }
        self.horizon = horizon;
        self.write_total()?;
        self.book
            .connection
            .prepare_cached("UPDATE journal SET horizon = ?2 WHERE number = ?1")?
            .execute(params![self.number, horizon.0])?;
        Ok(())
    }

    fn seen(&mut self, epoch: &Epoch) -> rusqlite::Result<Stamp> {
        match self.book.known_epoch(epoch)? {
            Some(number) => self.seen_by_number(number),
            None => Ok(Stamp::ZERO),
        }
    }

    fn saw(&mut self, epoch: &Epoch, stamp: Stamp) -> rusqlite::Result<()> {
        let number = self.book.epoch_number(epoch)?;
        if self.seen_by_number(number)? >= stamp {
            return Ok(());
        }
        self.book
            .connection
            .prepare_cached(
                "INSERT INTO journal_seen (journal, epoch, stamp) VALUES (?1, ?2, ?3)
                 ON CONFLICT (journal, epoch) DO UPDATE SET stamp = ?3",
            )?
            .execute(params![self.number, number, stamp.0])?;
        self.seen.insert(number, stamp);
        Ok(())
    }

    fn all_seen(&mut self, limit: usize) -> rusqlite::Result<Vec<(Epoch, Stamp)>> {
        let mut statement = self.book.connection.prepare_cached(
            "SELECT journal_epoch.epoch, stamp FROM journal_seen
             JOIN journal_epoch ON journal_epoch.number = journal_seen.epoch
             WHERE journal = ?1 ORDER BY stamp DESC LIMIT ?2",
        )?;
        statement
            .query_map(params![self.number, columns::limit(limit)], |row| Ok((Epoch(row.get(0)?), Stamp(row.get(1)?))))?
            .collect()
    }

    fn current(&mut self, id: &str) -> rusqlite::Result<Option<Version>> {
        Ok(self.look_up(id)?.map(|(_, version)| version.clone()))
    }

    fn put(&mut self, version: &Version, body: &[u8], origin: &Epoch) -> rusqlite::Result<u64> {
        let seq = self.book.next_seq()?;
        if let Some((old, replaced)) = self.look_up(&version.id)?.cloned() {
            self.remove(old, &replaced)?;
        }
        let connection = self.book.connection;
        connection
            .prepare_cached(
                "INSERT INTO journal_entry (seq, journal, id, stamp, writer, origin, deleted, context, meta, hash, size,
                                            body) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)",
            )?
            .execute(params![
                seq,
                self.number,
                version.id,
                version.stamp.0,
                self.book.writer_number(&version.device, &version.epoch)?,
                self.book.epoch_number(origin)?,
                version.deleted,
                self.book.pack(&version.context)?,
                version.meta,
                version.hash,
                version.size,
                body
            ])?;
        let element = version.element();
        connection
            .prepare_cached("INSERT INTO journal_element (journal, stamp, element, seq) VALUES (?1, ?2, ?3, ?4)")?
            .execute(params![self.number, element.stamp, element.id, seq])?;
        self.tombstones += u64::from(version.deleted);
        self.add_element(&element)?;
        self.write_total()?;
        self.current = None;
        Ok(seq)
    }

    fn keep(&mut self, place: Kept, version: &Version, body: &[u8], now_ms: u64) -> rusqlite::Result<bool> {
        self.book.keep(self.number, place, version, body, now_ms)
    }

    fn keep_current(&mut self, id: &str, now_ms: u64) -> rusqlite::Result<bool> {
        let (book, number) = (self.book, self.number);
        match self.look_up(id)? {
            Some((seq, version)) => book.keep_row(number, *seq, version, now_ms),
            None => Ok(false),
        }
    }

    fn changes(&mut self, seq: u64, peer: &Epoch, rows: usize, bytes: usize) -> rusqlite::Result<Vec<Row>> {
        let sql = format!(
            "SELECT {VERSION}, seq, CASE WHEN size <= {inline} THEN body END FROM journal_entry
             INDEXED BY journal_entry_order WHERE journal = ?1 AND seq > ?2 AND origin <> ?3 ORDER BY seq LIMIT ?4",
            inline = limits::ENTRY_INLINE
        );
        // What never had a number came from nobody; no epoch has the number 0.
        let peer = self.book.known_epoch(peer)?.unwrap_or(0);
        let mut statement = self.book.connection.prepare_cached(&sql)?;
        let mut found = statement.query(params![self.number, seq, peer, limit(rows)])?;
        let mut changes: Vec<Row> = Vec::new();
        let mut sum = 0_usize;
        while let Some(row) = found.next()? {
            let row = self.to_send(row)?;
            sum = sum.saturating_add(row.version.meta.len()).saturating_add(row.body.as_ref().map_or(0, Vec::len));
            if sum > bytes && !changes.is_empty() {
                break;
            }
            // A body that follows in pieces follows the last row.
            let last = row.body.is_none();
            changes.push(row);
            if last {
                break;
            }
        }
        Ok(changes)
    }

    fn row(&mut self, element: &Element) -> rusqlite::Result<Option<Row>> {
        let Some(seq) = self.seq_of(element)? else { return Ok(None) };
        let sql = format!(
            "SELECT {VERSION}, seq, CASE WHEN size <= {inline} THEN body END FROM journal_entry WHERE seq = ?1",
            inline = limits::ENTRY_INLINE
        );
        self.book.connection.prepare_cached(&sql)?.query_row([seq], |row| self.to_send(row)).optional()
    }

    fn piece(&mut self, element: &Element, offset: u64, length: usize) -> rusqlite::Result<Option<Vec<u8>>> {
        match self.seq_of(element)? {
            Some(seq) => self.book.entry_body(seq, offset, length).map(Some),
            None => Ok(None),
        }
    }

    fn partial(&mut self, hash: &Hash) -> rusqlite::Result<u64> {
        self.book.partial(self.number, hash)
    }

    fn add_piece(&mut self, hash: &Hash, offset: u64, piece: &[u8], now_ms: u64) -> rusqlite::Result<()> {
        self.book.add_piece(self.number, hash, offset, piece, now_ms)
    }

    fn take_pieces(&mut self, hash: &Hash) -> rusqlite::Result<Vec<u8>> {
        self.book.take_pieces(self.number, hash)
    }

    fn set_cursor(&mut self, peer: &PublicKey, epoch: &Epoch, seq: u64) -> rusqlite::Result<()> {
        self.book.set_cursor(self.number, peer, epoch, seq)
    }

    fn set_acknowledged(&mut self, peer: &PublicKey, seq: u64) -> rusqlite::Result<()> {
        self.book.set_acknowledged(self.number, peer, seq)
    }

    fn synced(&mut self, peer: &PublicKey, now_ms: u64) -> rusqlite::Result<()> {
        self.book.synced(self.number, peer, now_ms)
    }
}
