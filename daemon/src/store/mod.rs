//! The database: one connection on one thread; a closure is a transaction.
//!
//! `migrate` brings an older database up to date. The tables belong to the rooms that fill them: `trust`,
//! `transfer` and `sync` write their own SQL and hand it in as closures.

mod migrate;

use std::path::Path;
use std::time::Duration;

use kith_proto::control::{ApiError, Code};
use rusqlite::{Connection, ErrorCode, Transaction, TransactionBehavior};
use tokio::sync::{mpsc, oneshot};

/// Closures that may wait for the thread.
const MAILBOX: usize = 256;
/// The cache, in KiB as SQLite counts: the working set is small, and an idle daemon should be too …
const CACHE: i64 = -1024;
/// … but not while many rows arrive.
const BULK_CACHE: i64 = -(16 << 10);
/// Pages in the log before they are written to their places: what SQLite does by itself …
const LOG: i64 = 1000;
/// … and while many rows arrive, which touch pages all over the database: 64 MiB.
const BULK_LOG: i64 = 16_384;

/// A handle to the database. The thread ends, and the connection closes, when the last handle is dropped.
#[derive(Clone)]
pub struct Store {
    work: mpsc::Sender<Work>,
}

type Work = Box<dyn FnOnce(&mut Connection) + Send>;

/// Why the database did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// SQLite says no.
    #[error("database: {0}")]
    Sqlite(#[from] rusqlite::Error),
    /// A newer kithd wrote this database.
    #[error("the database is of version {found}, this kithd knows up to {known}: a newer kithd wrote it")]
    Future {
        /// Its version.
        found: usize,
        /// The newest version known here.
        known: usize,
    },
    /// No copy could be made before a migration.
    #[error("cannot keep a copy of the database before changing it: {0}")]
    Copy(#[source] std::io::Error),
    /// The file cannot be had.
    #[error("cannot open the database: {0}")]
    Open(#[source] std::io::Error),
    /// The thread has ended.
    #[error("the database is closed")]
    Closed,
}

impl Error {
    /// Whether there is no room for what was to be written.
    pub fn is_full(&self) -> bool {
        matches!(self, Self::Sqlite(rusqlite::Error::SqliteFailure(failure, _)) if failure.code == ErrorCode::DiskFull)
    }
}

/// Whoever asked learns that the database failed, the log learns why.
impl From<Error> for ApiError {
    fn from(error: Error) -> Self {
        if matches!(error, Error::Closed) {
            return Self::new(Code::ShuttingDown, "the daemon is stopping");
        }
        tracing::error!(%error, "the database failed");
        if error.is_full() {
            let message = "the disk that the database lies on is full; nothing was changed";
            return Self::new(Code::NoSpace, message).hint("make room there, then try again");
        }
        Self::new(Code::Internal, "the database failed; the log has the details")
    }
}

impl Store {
    /// Opens or creates the database at `path` and migrates it.
    pub fn open(path: &Path) -> Result<Self, Error> {
        keep_private(path).map_err(Error::Open)?;
        let mut connection = Connection::open(path)?;
        connection.busy_timeout(Duration::from_secs(5))?;
        connection.pragma_update(None, "journal_mode", "WAL")?;
        connection.pragma_update(None, "synchronous", "FULL")?;
        connection.pragma_update(None, "foreign_keys", true)?;
        connection.pragma_update(None, "trusted_schema", false)?;
        // What was deleted or replaced is gone from the file, too: keys and secrets, even though they are sealed.
        connection.pragma_update(None, "secure_delete", true)?;
        connection.pragma_update(None, "cache_size", CACHE)?;
        connection.set_prepared_statement_cache_capacity(64);
        migrate::run(&mut connection, path)?;

        let (work, mut mailbox) = mpsc::channel::<Work>(MAILBOX);
        std::thread::Builder::new()
            .name("store".to_owned())
            .spawn(move || {
                while let Some(work) = mailbox.blocking_recv() {
                    work(&mut connection);
                }
            })
            .map_err(Error::Open)?;
        Ok(Self { work })
    }

    /// Runs `work` in a transaction and waits for its result. An error rolls everything back.
    pub async fn write<T, F>(&self, work: F) -> Result<T, Error>
    where
        T: Send + 'static,
        F: FnOnce(&Transaction<'_>) -> rusqlite::Result<T> + Send + 'static,
    {
        self.write_then(work, |result| result).await
    }

    /// As [`Store::write`], and `then` after the commit, before any other work begins, also where nobody waits any more.
    pub async fn write_then<T, U, F, G>(&self, work: F, then: G) -> Result<U, Error>
    where
        T: Send + 'static,
        U: Send + 'static,
        F: FnOnce(&Transaction<'_>) -> rusqlite::Result<T> + Send + 'static,
        G: FnOnce(T) -> U + Send + 'static,
    {
        self.run(move |connection| {
            let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            let result = work(&transaction)?;
            transaction.commit()?;
            Ok(then(result))
        })
        .await
    }

    /// As [`Store::write`], for work that may find reasons of its own against it: they roll everything back, too.
    pub async fn decide<T, E, F>(&self, work: F) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<Error> + Send + 'static,
        F: FnOnce(&Transaction<'_>) -> Result<T, E> + Send + 'static,
    {
        self.run(move |connection| {
            let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            let result = work(&transaction);
            if result.is_ok() {
                transaction.commit()?;
            }
            Ok(result)
        })
        .await?
    }

    /// Runs `work`, which only reads.
    pub async fn read<T, F>(&self, work: F) -> Result<T, Error>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    {
        self.run(move |connection| work(connection)).await
    }

    /// While many rows arrive, pages are kept longer and written to their places later: most of them change again soon.
    /// Afterwards the memory and the log go back.
    pub async fn bulk(&self, begins: bool) -> Result<(), Error> {
        self.run(move |connection| {
            let (cache, pages) = if begins { (BULK_CACHE, BULK_LOG) } else { (CACHE, LOG) };
            connection.pragma_update(None, "cache_size", cache)?;
            connection.pragma_update(None, "wal_autocheckpoint", pages)?;
            if !begins {
                connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))?;
                connection.execute_batch("PRAGMA shrink_memory")?;
            }
            Ok(())
        })
        .await
    }

    /// Brings everything into the one file of the database, so that a copy of it is whole.
    pub async fn checkpoint(&self) -> Result<(), Error> {
        self.run(|connection| connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))).await
    }

    async fn run<T, F>(&self, work: F) -> Result<T, Error>
    where
        T: Send + 'static,
        F: FnOnce(&mut Connection) -> rusqlite::Result<T> + Send + 'static,
    {
        let (answer, result) = oneshot::channel();
        let work: Work = Box::new(move |connection| {
            // Whoever asked may have stopped waiting; the work is done all the same.
            let _ = answer.send(work(connection));
        });
        self.work.send(work).await.map_err(|_| Error::Closed)?;
        Ok(result.await.map_err(|_| Error::Closed)??)
    }
}

/// Nobody else reads the database; its companions (WAL, shared memory) take its mode over.
fn keep_private(path: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
    std::fs::OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(path)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))
}

/// A database in memory, for the tests of whoever writes SQL.
#[cfg(test)]
pub fn in_memory() -> Connection {
    let mut connection = Connection::open_in_memory().unwrap();
    connection.pragma_update(None, "foreign_keys", true).unwrap();
    migrate::run(&mut connection, Path::new("")).unwrap();
    connection
}

/// A column that holds JSON.
pub fn json<T: serde::de::DeserializeOwned>(row: &rusqlite::Row<'_>, column: usize) -> rusqlite::Result<T> {
    let text: String = row.get(column)?;
    serde_json::from_str(&text).map_err(|error| {
        rusqlite::Error::FromSqlConversionFailure(column, rusqlite::types::Type::Text, Box::new(error))
    })
}

/// JSON for a column.
pub fn to_json<T: serde::Serialize>(value: &T) -> rusqlite::Result<String> {
    serde_json::to_string(value).map_err(|error| rusqlite::Error::ToSqlConversionFailure(Box::new(error)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_error_rolls_back() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("kith.db")).unwrap();
        let failed = store
            .write(|tx| {
                tx.execute("INSERT INTO pin_window (opened_ms) VALUES (1)", [])?;
                tx.execute("INSERT INTO no_such_table VALUES (1)", [])
            })
            .await;
        assert!(matches!(failed, Err(Error::Sqlite(_))));
        let count: i64 =
            store.read(|c| c.query_row("SELECT count(*) FROM pin_window", [], |row| row.get(0))).await.unwrap();
        assert_eq!(count, 0);
    }

    #[tokio::test]
    async fn after_many_rows_memory_and_log_go_back() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("kith.db");
        let store = Store::open(&path).unwrap();
        let cache = || store.read(|c| c.pragma_query_value(None, "cache_size", |row| row.get::<_, i64>(0)));
        store.bulk(true).await.unwrap();
        assert_eq!(cache().await.unwrap(), BULK_CACHE);
        store.write(|tx| tx.execute("INSERT INTO pin_window (opened_ms) VALUES (1)", [])).await.unwrap();
        store.bulk(false).await.unwrap();
        assert_eq!(cache().await.unwrap(), CACHE);
        assert_eq!(std::fs::metadata(path.with_extension("db-wal")).unwrap().len(), 0);
    }

    #[tokio::test]
    async fn a_database_from_the_future_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("kith.db");
        drop(Store::open(&path).unwrap());
        Connection::open(&path).unwrap().pragma_update(None, "user_version", 999).unwrap();
        assert!(matches!(Store::open(&path), Err(Error::Future { found: 999, .. })));
    }
}
