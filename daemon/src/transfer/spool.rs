//! Streams that come piece by piece over the local door, and where they lie until they are delivered: private files of
//! the daemon, not the user's.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use kith_proto::control::types::{Direction, Transfer, TransferState};
use kith_proto::control::{ApiError, Code};
use kith_proto::path::WirePath;
use kith_proto::peer::offer::{Item, Kind};
use tokio_util::sync::CancellationToken;

use super::Engine;
use super::book::{self, OutEntry, Record};
use super::state::{self, Key};
use crate::clock;
use crate::files::{self, Reader};

/// A reader that waits for more input looks this often whether anybody still wants it.
const LOOK_UP: Duration = Duration::from_secs(1);

/// Streams that are being taken in.
pub struct Streams {
    dir: PathBuf,
    open: Mutex<HashMap<Key, Arc<Spool>>>,
}

/// Where a stream lies until it is delivered: the receiver may be slower than the input, or away.
pub struct Spool {
    file: File,
    state: Mutex<SpoolState>,
    grown: Condvar,
}

#[derive(Clone, Copy, Default)]
struct SpoolState {
    bytes: u64,
    ended: bool,
}

impl Streams {
    /// Streams lie in `dir`.
    pub fn new(dir: PathBuf) -> Self {
        Self { dir, open: Mutex::default() }
    }

    /// Removes what no transfer needs any more.
    pub fn sweep(&self, needed: impl Fn(&str) -> bool) {
        let Ok(entries) = std::fs::read_dir(&self.dir) else { return };
        for entry in entries.flatten() {
            if !entry.file_name().to_str().is_some_and(&needed) {
                let _ = std::fs::remove_file(entry.path());
            }
        }
    }

    /// The stream of a transfer, while its input is still coming.
    pub fn get(&self, key: &Key) -> Option<Arc<Spool>> {
        self.lock().get(key).cloned()
    }

    /// The transfer needs its stream no more.
    pub fn forget(&self, key: &Key) {
        if let Some(spool) = self.lock().remove(key) {
            spool.end();
        }
        if key.direction == Direction::Out {
            let _ = std::fs::remove_file(self.dir.join(&key.id));
        }
    }

    fn open(&self, key: &Key) -> io::Result<Arc<Spool>> {
        std::fs::create_dir_all(&self.dir)?;
        let path = self.path(key);
        let file = OpenOptions::new().append(true).create_new(true).mode(0o600).open(path)?;
        let spool = Arc::new(Spool { file, state: Mutex::default(), grown: Condvar::new() });
        self.lock().insert(key.clone(), spool.clone());
        Ok(spool)
    }

    fn path(&self, key: &Key) -> PathBuf {
        self.dir.join(&key.id)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Key, Arc<Spool>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Spool {
    fn lock(&self) -> MutexGuard<'_, SpoolState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn append(&self, data: &[u8]) -> io::Result<u64> {
        (&self.file).write_all(data)?;
        let mut state = self.lock();
        state.bytes += data.len() as u64;
        self.grown.notify_all();
        Ok(state.bytes)
    }

    fn end(&self) {
        self.lock().ended = true;
        self.grown.notify_all();
    }

    fn has_ended(&self) -> bool {
        self.lock().ended
    }

    /// Waits until there are `wanted` bytes, or no more will come, or a moment has passed. Says how many there are and
    /// whether that is all. Blocks.
    pub fn wait(&self, wanted: u64) -> (u64, bool) {
        let state = self.lock();
        let waiting = |state: &mut SpoolState| state.bytes < wanted && !state.ended;
        let (state, _) = self.grown.wait_timeout_while(state, LOOK_UP, waiting).unwrap_or_else(PoisonError::into_inner);
        (state.bytes, state.ended)
    }
}

/// Starts a transfer whose content comes by [`feed`].
pub async fn stream(
    engine: &Arc<Engine>,
    mut record: Record,
    name: &str,
    title: Option<String>,
    connection: CancellationToken,
) -> Result<Transfer, ApiError> {
    let path = WirePath::parse(name).map_err(|error| ApiError::new(Code::InvalidParam, format!("name: {error}")))?;
    if path.parent().is_some() {
        return Err(ApiError::new(Code::InvalidParam, "name: a name, not a path"));
    }
    record.title = title.unwrap_or_else(|| name.to_owned());
    record.entries = 1;
    record.state = TransferState::Offered;
    let key = Key { peer: record.peer, direction: record.direction, id: record.id.clone() };
    let item = Item {
        index: 0,
        path,
        kind: Kind::File,
        size: None,
        mtime_ns: clock::now_ms().saturating_mul(1_000_000),
        mode: 0o644,
        target: None,
    };
    let entry = OutEntry { item, source: engine.streams.path(&key), inode: 0 };
    let spool = engine.streams.open(&key).map_err(|error| spool_failed(engine.streams.path(&key).as_path(), error))?;
    engine.book.add(record, move |tx, number| book::add_out(tx, number, &[entry])).await?;
    let (task, name) = (engine.clone(), key.clone());
    engine.tasks.spawn("stream guard", async move {
        connection.cancelled().await;
        // Half of a stream is nobody's file.
        if !spool.has_ended() && !task.tasks.stopping().is_cancelled() {
            let _ = task.cancel(&name).await;
        }
    });
    engine.outbox.forgive(&key.peer);
    engine.book.view(&key)
}

/// Takes the next piece of a stream in.
pub async fn feed(engine: &Arc<Engine>, key: &Key, data: Vec<u8>, end: bool) -> Result<u64, ApiError> {
    let spool = engine.streams.get(key).filter(|spool| !spool.has_ended());
    let spool = spool.ok_or_else(|| ApiError::new(Code::WrongState, "this transfer takes no input"))?;
    let place = engine.streams.path(key);
    let writer = spool.clone();
    let written = engine.tasks.blocking(move || writer.append(&data)).await;
    let bytes = written.map_err(|error| spool_failed(&place, error))?;
    if end {
        let number = engine.book.record(key).ok_or(state::Error::Gone)?.number;
        let (_, stat) = engine.tasks.blocking(move || files::open_source(&Reader::own(), &place)).await?;
        let sized = engine.book.store.write(move |tx| book::complete(tx, number, &stat)).await;
        sized.map_err(state::Error::from)?;
        engine.book.set(key, |record| record.bytes = Some(bytes)).await?;
        spool.end();
        engine.streams.lock().remove(key);
    }
    Ok(bytes)
}

fn spool_failed(path: &Path, error: io::Error) -> ApiError {
    files::Error::from_io(path.display(), error).into()
}
