//! A hello store in a file of its own.
//!
//! ```text
//! blob  what is there, and what expired since the last sweep       index on the name, index on the expiry
//! gone  what expired or was withdrawn, without its bytes: 24 h     the name is the key
//! ```
//!
//! One thread writes: what waits for it becomes one transaction, so that many answers share one wait for the disk. One
//! thread reads, beside it. Every answer to a change is durable (`synchronous = FULL`): who was told 201 is found after
//! a power cut, and who was told 204 is not. How much there is, is counted in memory as rows come and go, and once by
//! reading all of them when the store opens.

use std::collections::HashMap;
use std::path::Path;
use std::time::Duration;

use kith_proto::guest::hello::{Lookup, OwnerHash, OwnerToken};
use kith_proto::limits;
use rusqlite::{Connection, OptionalExtension, TransactionBehavior, params};
use tokio::sync::{mpsc, oneshot};

use super::{Answer, Bounds, Deposit, Deposited, Error, Fill, Found, HelloStore, Source};

/// Changes, and lookups, that may wait for their thread.
const MAILBOX: usize = 1024;
/// Changes in one transaction.
const BATCH: usize = 256;
/// The version of the tables.
const VERSION: i64 = 1;
/// Bytes of a page: blobs of 512 bytes leave less of it unused than with the usual 4 KiB.
const PAGE: i64 = 16 << 10;
/// Each thread's cache, in KiB as SQLite counts.
const CACHE: i64 = -2048;

const TABLES: &str = "
    CREATE TABLE blob (
        lookup BLOB NOT NULL,
        owner BLOB NOT NULL,
        source BLOB NOT NULL,
        expires_ms INTEGER NOT NULL,
        blob BLOB NOT NULL
    ) STRICT;
    CREATE UNIQUE INDEX blob_lookup ON blob (lookup);
    CREATE INDEX blob_expires ON blob (expires_ms);
    CREATE TABLE gone (
        lookup BLOB PRIMARY KEY,
        owner BLOB NOT NULL,
        withdrawn INTEGER NOT NULL,
        until_ms INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX gone_until ON gone (until_ms);
";

/// The store. The threads end, and the file closes, when it is dropped.
pub struct Sqlite {
    writer: mpsc::Sender<Box<dyn Job>>,
    reader: mpsc::Sender<Read>,
}

type Read = Box<dyn FnOnce(&Connection) + Send>;

impl Sqlite {
    /// Opens or creates the file at `path`. What is there stays, even if `bounds` are narrower than when it came.
    pub fn open(path: &Path, bounds: Bounds) -> Result<Self, Error> {
        keep_private(path).map_err(Error::Open)?;
        let connection = connect(path)?;
        migrate(&connection)?;
        let count = Count::read(&connection)?;
        let (writer, jobs) = mpsc::channel(MAILBOX);
        let table = Table { connection, count, bounds };
        let start = |name: &str, work: Box<dyn FnOnce() + Send>| {
            std::thread::Builder::new().name(name.to_owned()).spawn(work).map(drop).map_err(Error::Open)
        };
        start("hello store", Box::new(move || table.run(jobs)))?;
        let (reader, mut lookups) = mpsc::channel::<Read>(MAILBOX);
        let connection = connect(path)?;
        connection.pragma_update(None, "query_only", true)?;
        let read = move || {
            while let Some(lookup) = lookups.blocking_recv() {
                lookup(&connection);
            }
        };
        start("hello lookups", Box::new(read))?;
        Ok(Self { writer, reader })
    }

    async fn change<T, F>(&self, work: F) -> Result<T, Error>
    where
        T: Send + 'static,
        F: FnMut(&mut Table) -> rusqlite::Result<T> + Send + 'static,
    {
        let (answer, result) = oneshot::channel();
        let job = Box::new(Change { work, done: None, answer });
        self.writer.send(job).await.map_err(|_| Error::Closed)?;
        result.await.map_err(|_| Error::Closed)?
    }
}

impl HelloStore for Sqlite {
    fn put(&self, deposit: Deposit, now_ms: u64) -> Answer<'_, Deposited> {
        Box::pin(self.change(move |table| table.put(&deposit, now_ms)))
    }

    fn get(&self, lookup: Lookup, now_ms: u64) -> Answer<'_, Found> {
        Box::pin(async move {
            let (answer, result) = oneshot::channel();
            let read: Read = Box::new(move |connection| {
                let _ = answer.send(find(connection, &lookup, now_ms));
            });
            self.reader.send(read).await.map_err(|_| Error::Closed)?;
            Ok(result.await.map_err(|_| Error::Closed)??)
        })
    }

    fn withdraw<'a>(&'a self, lookup: Lookup, token: &'a OwnerToken, now_ms: u64) -> Answer<'a, bool> {
        let owner = token.hash();
        Box::pin(self.change(move |table| table.withdraw(&lookup, owner, now_ms)))
    }

    fn sweep(&self, now_ms: u64, limit: usize) -> Answer<'_, bool> {
        Box::pin(self.change(move |table| table.sweep(now_ms, limit)))
    }

    fn fill(&self, now_ms: u64) -> Answer<'_, Fill> {
        Box::pin(self.change(move |table| table.fill(now_ms)))
    }
}

/// Something that waits to be written.
trait Job: Send {
    /// Does it. It may be called again, if the transaction that it was part of failed.
    fn run(&mut self, table: &mut Table) -> rusqlite::Result<()>;
    /// Tells whoever asked what came of it.
    fn answer(self: Box<Self>, failure: Option<rusqlite::Error>);
}

struct Change<T, F> {
    work: F,
    done: Option<T>,
    answer: oneshot::Sender<Result<T, Error>>,
}

impl<T, F> Job for Change<T, F>
where
    T: Send,
    F: FnMut(&mut Table) -> rusqlite::Result<T> + Send,
{
    fn run(&mut self, table: &mut Table) -> rusqlite::Result<()> {
        self.done = Some((self.work)(table)?);
        Ok(())
    }

    fn answer(self: Box<Self>, failure: Option<rusqlite::Error>) {
        let result = match (failure, self.done) {
            (Some(error), _) => Err(error.into()),
            (None, Some(done)) => Ok(done),
            (None, None) => Err(Error::Closed),
        };
        // Whoever asked may have stopped waiting; the work is done all the same.
        let _ = self.answer.send(result);
    }
}

/// What the writing thread owns.
struct Table {
    connection: Connection,
    count: Count,
    bounds: Bounds,
}

impl Table {
    fn run(mut self, mut jobs: mpsc::Receiver<Box<dyn Job>>) {
        while let Some(first) = jobs.blocking_recv() {
            let mut batch = vec![first];
            while batch.len() < BATCH
                && let Ok(job) = jobs.try_recv()
            {
                batch.push(job);
            }
            if self.together(&mut batch).is_ok() {
                batch.into_iter().for_each(|job| job.answer(None));
                continue;
            }
            // One of them may be at fault, or each for itself.
            for mut job in batch {
                let failure = self.together(std::slice::from_mut(&mut job)).err();
                job.answer(failure);
            }
        }
    }

    /// All of `jobs`, or nothing.
    fn together(&mut self, jobs: &mut [Box<dyn Job>]) -> rusqlite::Result<()> {
        self.connection.execute_batch("BEGIN IMMEDIATE")?;
        let done = jobs.iter_mut().try_for_each(|job| job.run(self));
        let done = done.and_then(|()| self.connection.execute_batch("COMMIT"));
        if done.is_err() {
            if !self.connection.is_autocommit() {
                self.connection.execute_batch("ROLLBACK")?;
            }
            self.count.undo();
        }
        self.count.changes.clear();
        done
    }

    fn put(&mut self, deposit: &Deposit, now_ms: u64) -> rusqlite::Result<Deposited> {
        let Deposit { lookup, blob, owner, expires_ms, source } = deposit;
        if let Some(there) = self.row(lookup)? {
            let same_owner = there.owner == *owner;
            match there.expires_ms > now_ms {
                true if there.blob != *blob => return Ok(Deposited::Other),
                true => {
                    if same_owner && *expires_ms > there.expires_ms {
                        let mut later =
                            self.connection.prepare_cached("UPDATE blob SET expires_ms = ?2 WHERE rowid = ?1")?;
                        later.execute(params![there.id, expires_ms])?;
                    }
                    return Ok(Deposited::Same);
                }
                false if !same_owner && there.forgotten_ms() > now_ms => return Ok(Deposited::Other),
                // If the bounds are against the new one, the old one is gone all the same.
                false => self.bury(&there, lookup, now_ms)?,
            }
        }
        if self.is_taken(lookup, *owner, now_ms)? {
            return Ok(Deposited::Other);
        }
        if let Some(full) = self.is_full(*source, blob.len() as u64) {
            // What expired does not count, but may not have been swept yet.
            while self.retire(now_ms, BATCH)? > 0 {}
            if self.is_full(*source, blob.len() as u64).is_some() {
                return Ok(full);
            }
        }
        self.connection.prepare_cached("DELETE FROM gone WHERE lookup = ?1")?.execute([&lookup.0])?;
        let mut insert = self
            .connection
            .prepare_cached("INSERT INTO blob (lookup, owner, source, expires_ms, blob) VALUES (?1, ?2, ?3, ?4, ?5)")?;
        insert.execute(params![lookup.0, owner.0, source.as_bytes(), expires_ms, blob])?;
        drop(insert);
        self.count.add(*source.as_bytes(), blob.len() as u64);
        Ok(Deposited::Created)
    }

    fn withdraw(&mut self, lookup: &Lookup, owner: OwnerHash, now_ms: u64) -> rusqlite::Result<bool> {
        let there = self.row(lookup)?.filter(|there| there.owner == owner && there.expires_ms > now_ms);
        let Some(there) = there else { return Ok(false) };
        self.remove(there.id, there.source, there.blob.len() as u64)?;
        self.mark(lookup, owner, true, now_ms + limits::HELLO_TOMBSTONE_MS)?;
        Ok(true)
    }

    fn sweep(&mut self, now_ms: u64, limit: usize) -> rusqlite::Result<bool> {
        let retired = self.retire(now_ms, limit)?;
        let mut forget = self.connection.prepare_cached(
            "DELETE FROM gone WHERE lookup IN (SELECT lookup FROM gone WHERE until_ms <= ?1 ORDER BY until_ms LIMIT ?2)",
        )?;
        let forgotten = forget.execute(params![now_ms, limit - retired])?;
        Ok(retired + forgotten == limit)
    }

    fn fill(&mut self, now_ms: u64) -> rusqlite::Result<Fill> {
        let expired = "SELECT count(*), coalesce(sum(length(blob)), 0) FROM blob WHERE expires_ms <= ?1";
        let mut expired = self.connection.prepare_cached(expired)?;
        let (blobs, bytes): (u64, u64) = expired.query_row([now_ms], |row| Ok((row.get(0)?, row.get(1)?)))?;
        Ok(Fill { blobs: self.count.blobs - blobs, bytes: self.count.bytes - bytes })
    }

    fn row(&self, lookup: &Lookup) -> rusqlite::Result<Option<Row>> {
        let sql = "SELECT rowid, owner, source, expires_ms, blob FROM blob WHERE lookup = ?1";
        let read = |row: &rusqlite::Row<'_>| {
            Ok(Row {
                id: row.get(0)?,
                owner: OwnerHash(row.get(1)?),
                source: row.get(2)?,
                expires_ms: row.get(3)?,
                blob: row.get(4)?,
            })
        };
        self.connection.prepare_cached(sql)?.query_row([&lookup.0], read).optional()
    }

    /// Whether a name is not free for this owner, because of what was there.
    fn is_taken(&self, lookup: &Lookup, owner: OwnerHash, now_ms: u64) -> rusqlite::Result<bool> {
        let sql = "SELECT owner, withdrawn FROM gone WHERE lookup = ?1 AND until_ms > ?2";
        let read = |row: &rusqlite::Row<'_>| Ok((OwnerHash(row.get(0)?), row.get(1)?));
        let gone = self.connection.prepare_cached(sql)?.query_row(params![lookup.0, now_ms], read).optional()?;
        Ok(gone.is_some_and(|(whose, withdrawn): (OwnerHash, bool)| withdrawn || whose != owner))
    }

    fn is_full(&self, source: Source, bytes: u64) -> Option<Deposited> {
        let Count { blobs, bytes: there, sources, .. } = &self.count;
        let here = sources.get(source.as_bytes()).copied().unwrap_or_default();
        if source != Source::OWN && here >= self.bounds.per_source {
            return Some(Deposited::SourceFull);
        }
        (*blobs >= self.bounds.blobs || there + bytes > self.bounds.bytes).then_some(Deposited::Full)
    }

    /// Takes at most `limit` of what expired out of the way. How many it were.
    fn retire(&mut self, now_ms: u64, limit: usize) -> rusqlite::Result<usize> {
        let sql = "SELECT rowid, lookup, owner, source, expires_ms, length(blob) FROM blob
                   WHERE expires_ms <= ?1 ORDER BY expires_ms LIMIT ?2";
        let mut expired = self.connection.prepare_cached(sql)?;
        let rows = expired.query_map(params![now_ms, limit], |row| {
            let there = Row {
                id: row.get(0)?,
                owner: OwnerHash(row.get(2)?),
                source: row.get(3)?,
                expires_ms: row.get(4)?,
                blob: Vec::new(),
            };
            Ok((Lookup(row.get(1)?), there, row.get(5)?))
        })?;
        let rows: Vec<(Lookup, Row, u64)> = rows.collect::<Result<_, _>>()?;
        drop(expired);
        for (lookup, there, bytes) in &rows {
            self.remove(there.id, there.source, *bytes)?;
            if there.forgotten_ms() > now_ms {
                self.mark(lookup, there.owner, false, there.forgotten_ms())?;
            }
        }
        Ok(rows.len())
    }

    /// The same for one that is known.
    fn bury(&mut self, there: &Row, lookup: &Lookup, now_ms: u64) -> rusqlite::Result<()> {
        self.remove(there.id, there.source, there.blob.len() as u64)?;
        if there.forgotten_ms() > now_ms {
            self.mark(lookup, there.owner, false, there.forgotten_ms())?;
        }
        Ok(())
    }

    fn remove(&mut self, id: i64, source: [u8; 8], bytes: u64) -> rusqlite::Result<()> {
        self.connection.prepare_cached("DELETE FROM blob WHERE rowid = ?1")?.execute([id])?;
        self.count.take(source, bytes);
        Ok(())
    }

    fn mark(&self, lookup: &Lookup, owner: OwnerHash, withdrawn: bool, until_ms: u64) -> rusqlite::Result<()> {
        let sql = "INSERT OR REPLACE INTO gone (lookup, owner, withdrawn, until_ms) VALUES (?1, ?2, ?3, ?4)";
        self.connection.prepare_cached(sql)?.execute(params![lookup.0, owner.0, withdrawn, until_ms])?;
        Ok(())
    }
}

/// What lies under a name.
struct Row {
    id: i64,
    owner: OwnerHash,
    source: [u8; 8],
    expires_ms: u64,
    blob: Vec<u8>,
}

impl Row {
    /// When nobody has to know any more that it was there.
    fn forgotten_ms(&self) -> u64 {
        self.expires_ms.saturating_add(limits::HELLO_TOMBSTONE_MS)
    }
}

/// What lies in `blob`, expired or not.
#[derive(Default)]
struct Count {
    blobs: u64,
    bytes: u64,
    /// … of each source.
    sources: HashMap<[u8; 8], u32>,
    /// What this transaction changed: source, bytes, and whether it came or went.
    changes: Vec<([u8; 8], u64, bool)>,
}

impl Count {
    fn read(connection: &Connection) -> rusqlite::Result<Self> {
        let mut count = Self::default();
        let mut all = connection.prepare("SELECT source, length(blob) FROM blob")?;
        let mut rows = all.query([])?;
        while let Some(row) = rows.next()? {
            count.apply(row.get(0)?, row.get(1)?, true);
        }
        Ok(count)
    }

    fn add(&mut self, source: [u8; 8], bytes: u64) {
        self.apply(source, bytes, true);
        self.changes.push((source, bytes, true));
    }

    fn take(&mut self, source: [u8; 8], bytes: u64) {
        self.apply(source, bytes, false);
        self.changes.push((source, bytes, false));
    }

    /// The transaction was rolled back.
    fn undo(&mut self) {
        for (source, bytes, came) in std::mem::take(&mut self.changes) {
            self.apply(source, bytes, !came);
        }
    }

    fn apply(&mut self, source: [u8; 8], bytes: u64, comes: bool) {
        let here = self.sources.entry(source).or_default();
        if comes {
            (self.blobs, self.bytes, *here) = (self.blobs + 1, self.bytes + bytes, here.saturating_add(1));
        } else {
            (self.blobs, self.bytes) = (self.blobs.saturating_sub(1), self.bytes.saturating_sub(bytes));
            *here = here.saturating_sub(1);
        }
        if *here == 0 {
            self.sources.remove(&source);
        }
    }
}

/// One statement sees one moment: what moves from one table to the other meanwhile is not missed.
fn find(connection: &Connection, lookup: &Lookup, now_ms: u64) -> rusqlite::Result<Found> {
    let sql = "SELECT 0, expires_ms, blob FROM blob WHERE lookup = ?1
               UNION ALL SELECT 1 + withdrawn, until_ms, NULL FROM gone WHERE lookup = ?1 LIMIT 1";
    let row = connection.prepare_cached(sql)?.query_row([&lookup.0], |row| {
        let until_ms: u64 = row.get(1)?;
        Ok(match row.get(0)? {
            0 if until_ms > now_ms => Found::Blob { blob: row.get(2)?, expires_ms: until_ms },
            0 if until_ms.saturating_add(limits::HELLO_TOMBSTONE_MS) > now_ms => Found::Expired,
            1 if until_ms > now_ms => Found::Expired,
            2 if until_ms > now_ms => Found::Withdrawn,
            _ => Found::Nothing,
        })
    });
    Ok(row.optional()?.unwrap_or(Found::Nothing))
}

fn connect(path: &Path) -> Result<Connection, Error> {
    let connection = Connection::open(path)?;
    connection.busy_timeout(Duration::from_secs(5))?;
    connection.pragma_update(None, "page_size", PAGE)?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "trusted_schema", false)?;
    connection.pragma_update(None, "cache_size", CACHE)?;
    Ok(connection)
}

fn migrate(connection: &Connection) -> Result<(), Error> {
    let found: i64 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
    match found {
        VERSION => Ok(()),
        0 => {
            let tx = rusqlite::Transaction::new_unchecked(connection, TransactionBehavior::Immediate)?;
            tx.execute_batch(TABLES)?;
            tx.pragma_update(None, "user_version", VERSION)?;
            Ok(tx.commit()?)
        }
        found => Err(Error::Future(found)),
    }
}

/// Nobody else reads the file; its companions (WAL, shared memory) take its mode over.
fn keep_private(path: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
    std::fs::OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(path)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))
}

#[cfg(test)]
#[path = "sqlite_tests.rs"]
mod tests;
