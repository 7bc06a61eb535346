//! The sender's blocking half: reads files, hashes their chunks, and puts the frames together, so that the connection
//! has nothing to do but write them.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read};
use std::sync::Arc;

use bytes::BufMut;
use kith_proto::limits::{self, CHUNK};
use kith_proto::peer::offer::{DATA, FileDigest, Have, Kind, Message, chunk_digest};
use tokio::sync::mpsc;

use super::book::OutEntry;
use super::spool::Spool;
use crate::files::{self, Reader, SourceStat};
use crate::tls::channel::encode;

/// Frames of small files are gathered to this size.
const BATCH: usize = 256 << 10;
/// The length of a frame, the tag of DATA, the digest.
const DATA_HEAD: usize = 4 + 1 + 32;
/// A file that changes while it is read is begun anew so often.
const TRIES: u32 = 3;

/// Frames to send, and what is in them.
#[derive(Default)]
pub struct Batch {
    /// Whole frames.
    pub frames: Vec<u8>,
    /// Bytes of file content that need not be sent any more once this is.
    pub content: u64,
    /// Files that turned out to be other than offered: place, size, time.
    pub changed: Vec<(u64, u64, i64)>,
}

/// What is to be read, and how.
pub struct Job {
    /// Open entries, in order.
    pub pages: mpsc::Receiver<Vec<OutEntry>>,
    /// Where the batches go.
    pub batches: mpsc::Sender<Batch>,
    /// What the receiver has in part.
    pub have: HashMap<u64, Have>,
    /// What the receiver has under the same name.
    pub same: HashMap<u64, [u8; 32]>,
    /// With whose rights.
    pub reader: Reader,
    /// The content of a stream, while it is still coming.
    pub spool: Option<Arc<Spool>>,
}

/// The connection is gone.
struct Gone;

/// Why the content of a file did not become frames.
enum Stop {
    Gone,
    Unreadable(String),
    Changed,
}

impl From<Gone> for Stop {
    fn from(_: Gone) -> Self {
        Self::Gone
    }
}

/// Reads everything that is to be read. Blocks.
pub fn run(mut job: Job) {
    let mut batch = Batch::default();
    while let Some(page) = job.pages.blocking_recv() {
        for entry in page.iter().filter(|entry| entry.item.kind == Kind::File) {
            if job.file(entry, &mut batch).is_err() {
                return;
            }
        }
    }
    encode(&mut batch.frames, &Message::Done);
    let _ = job.push(&mut batch);
}

impl Job {
    fn file(&self, entry: &OutEntry, batch: &mut Batch) -> Result<(), Gone> {
        let index = entry.item.index;
        let outcome = match &self.spool {
            Some(spool) => self.stream(entry, spool, batch),
            None => self.tries(entry, batch),
        };
        match outcome {
            Ok(()) => {}
            Err(Stop::Gone) => return Err(Gone),
            Err(Stop::Unreadable(reason)) => encode(&mut batch.frames, &Message::Unreadable { index, reason }),
            Err(Stop::Changed) => {
                encode(&mut batch.frames, &Message::Unreadable { index, reason: "changed".to_owned() });
            }
        }
        if batch.frames.len() >= BATCH { self.push(batch) } else { Ok(()) }
    }

    /// Sends a file whole, however often it changes meanwhile, within reason.
    fn tries(&self, entry: &OutEntry, batch: &mut Batch) -> Result<(), Stop> {
        let item = &entry.item;
        let mut expected = SourceStat {
            size: item.size.unwrap_or_default(),
            mtime_ns: item.mtime_ns,
            ino: entry.inode,
            ..SourceStat::default()
        };
        let mut offset = self.have.get(&item.index).map_or(0, |have| have.offset);
        let mut digest =
            self.have.get(&item.index).map_or_else(FileDigest::default, |have| FileDigest::resume(have.digest));
        for _ in 0..TRIES {
            let (file, found) = files::open_source(&self.reader, &entry.source).map_err(|e| unreadable(&e))?;
            let unchanged = (found.size, found.mtime_ns, found.ino) == (expected.size, expected.mtime_ns, expected.ino);
            if !unchanged {
                if found.size > limits::FILE_SIZE {
                    return Err(Stop::Unreadable("too_large".to_owned()));
                }
                let (size, mtime_ns) = (found.size, found.mtime_ns);
                encode(&mut batch.frames, &Message::Restart { index: item.index, size, mtime_ns });
                batch.changed.push((item.index, size, mtime_ns));
                (offset, digest) = (0, FileDigest::default());
            } else if let Some(theirs) = self.same.get(&item.index)
                && offset == 0
                && whole_digest(&file, found.size)? == *theirs
            {
                encode(&mut batch.frames, &Message::File { index: item.index, offset: found.size });
                encode(&mut batch.frames, &Message::End { digest: *theirs, size: found.size });
                batch.content += found.size;
                return Ok(());
            }
            match self.content(item.index, &file, offset, digest, found.size, batch) {
                Err(Stop::Changed) => {}
                outcome => {
                    outcome?;
                    let now = files::stat_source(&file).map_err(|e| unreadable(&e))?;
                    if (now.size, now.mtime_ns) == (found.size, found.mtime_ns) {
                        return Ok(());
                    }
                }
            }
            // What was sent is void; the receiver learns so by the restart.
            expected = SourceStat { ino: 0, ..expected };
        }
        Err(Stop::Changed)
    }

    /// The frames of one file, from `offset` to its end.
    fn content(
        &self,
        index: u64,
        file: &File,
        offset: u64,
        mut digest: FileDigest,
        size: u64,
        batch: &mut Batch,
    ) -> Result<(), Stop> {
        encode(&mut batch.frames, &Message::File { index, offset });
        batch.content += offset;
        let mut at = offset;
        files::seek(file, offset).map_err(|e| io_failed(&e))?;
        while at < size {
            let wanted = usize::try_from(size - at).unwrap_or(CHUNK).min(CHUNK);
            if batch.frames.len() + wanted > BATCH {
                self.push(batch)?;
            }
            let read = chunk(batch, wanted, &mut digest, |frames| files::append_from(file, frames, wanted));
            let read = read.map_err(|e| io_failed(&e))?;
            if read < wanted {
                return Err(Stop::Changed);
            }
            at += read as u64;
        }
        encode(&mut batch.frames, &Message::End { digest: digest.value(), size });
        Ok(())
    }

    /// The frames of a stream, as its input comes.
    fn stream(&self, entry: &OutEntry, spool: &Spool, batch: &mut Batch) -> Result<(), Stop> {
        let index = entry.item.index;
        let have = self.have.get(&index);
        let mut at = have.map_or(0, |have| have.offset);
        let mut digest = have.map_or_else(FileDigest::default, |have| FileDigest::resume(have.digest));
        let (file, _) = files::open_source(&Reader::own(), &entry.source).map_err(|e| unreadable(&e))?;
        files::seek(&file, at).map_err(|e| io_failed(&e))?;
        encode(&mut batch.frames, &Message::File { index, offset: at });
        batch.content += at;
        loop {
            let (there, ended) = spool.wait(at + CHUNK as u64);
            let wanted = usize::try_from(there - at).unwrap_or(CHUNK).min(CHUNK);
            if wanted < CHUNK && !ended {
                // Only whole chunks before the end, so that every chunk but the last can be resumed behind.
                if self.batches.is_closed() {
                    return Err(Stop::Gone);
                }
                self.push(batch)?;
                continue;
            }
            if wanted > 0 {
                self.push(batch)?;
                let read = chunk(batch, wanted, &mut digest, |frames| files::append_from(&file, frames, wanted));
                at += read.map_err(|e| io_failed(&e))? as u64;
            }
            if ended && at == there {
                encode(&mut batch.frames, &Message::End { digest: digest.value(), size: at });
                return Ok(());
            }
        }
    }

    fn push(&self, batch: &mut Batch) -> Result<(), Gone> {
        if batch.frames.is_empty() {
            return Ok(());
        }
        self.batches.blocking_send(std::mem::take(batch)).map_err(|_| Gone)
    }
}

/// Appends one DATA frame, its content read straight into its place.
fn chunk(
    batch: &mut Batch,
    wanted: usize,
    digest: &mut FileDigest,
    read: impl FnOnce(&mut Vec<u8>) -> io::Result<usize>,
) -> io::Result<usize> {
    let frames = &mut batch.frames;
    let start = frames.len();
    frames.reserve_exact((DATA_HEAD + wanted).max(if wanted < CHUNK { BATCH.saturating_sub(start) } else { 0 }));
    frames.put_bytes(0, DATA_HEAD);
    let read = read(frames)?;
    let (head, content) = frames[start..].split_at_mut(DATA_HEAD);
    let sum = chunk_digest(content);
    let length = u32::try_from(DATA_HEAD - 4 + read).expect("a chunk is small");
    head[..4].copy_from_slice(&length.to_be_bytes());
    head[4] = DATA;
    head[5..].copy_from_slice(&sum);
    digest.chunk(&sum);
    batch.content += read as u64;
    Ok(read)
}

/// The digest of a whole file, read for comparison.
fn whole_digest(mut file: &File, size: u64) -> Result<[u8; 32], Stop> {
    digest_of(&mut file, size).map_err(|e| io_failed(&e))
}

/// The digest of the next `size` bytes; an error if there are fewer.
pub fn digest_of(from: &mut impl Read, size: u64) -> io::Result<[u8; 32]> {
    let mut digest = FileDigest::default();
    let mut buffer = vec![0; CHUNK.min(usize::try_from(size).unwrap_or(CHUNK))];
    let mut left = size;
    while left > 0 {
        let wanted = usize::try_from(left).unwrap_or(CHUNK).min(CHUNK);
        let part = buffer.get_mut(..wanted).unwrap_or_default();
        from.read_exact(part)?;
        digest.chunk(&chunk_digest(part));
        left -= wanted as u64;
    }
    Ok(digest.value())
}

fn unreadable(error: &files::Error) -> Stop {
    tracing::debug!(%error, "cannot read a file that was offered");
    Stop::Unreadable(error.reason().to_owned())
}

fn io_failed(error: &io::Error) -> Stop {
    tracing::debug!(%error, "cannot read a file that was offered");
    Stop::Unreadable("unreadable".to_owned())
}
