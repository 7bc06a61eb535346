//! How far files are that are not complete: the digests of their verified chunks, one small file for each.
//!
//! A journal is appended after its chunk was written, without waiting for the disk. A killed daemon loses nothing, for
//! both are in the system's cache; after a restart of the system the chunks are read and verified again.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use kith_proto::limits::CHUNK;
use kith_proto::peer::offer::{FileDigest, chunk_digest};

use super::state::Key;

/// `[boot id: 36 bytes]`, then 32 bytes a chunk.
const HEAD: usize = 36;

/// The journals of one transfer.
#[derive(Debug, Clone)]
pub struct Journals {
    dir: PathBuf,
    tag: String,
}

impl Journals {
    /// Where the journals of `key` are.
    pub fn of(data: &Path, key: &Key) -> Self {
        let peer = key.peer.device_id();
        let name = format!("{peer}-{}", key.id);
        // A UUID's tail is its random part; but a sender chooses it, and may choose that of another.
        let tag = format!("{peer}-{}", key.id.rsplit('-').next().unwrap_or_default());
        Self { dir: data.join("parts").join(name), tag }
    }

    /// What the part of a file is called by.
    pub fn tag(&self, index: u64) -> String {
        format!("{}-{index}", self.tag)
    }

    /// Begins the journal of a file anew.
    pub fn begin(&self, index: u64) -> io::Result<Journal> {
        std::fs::create_dir_all(&self.dir)?;
        let mut file = options().truncate(true).open(self.path(index))?;
        file.write_all(boot_id().as_bytes())?;
        Ok(Journal { file })
    }

    /// Goes on with the journal of a file behind its first `chunks` entries.
    pub fn resume(&self, index: u64, chunks: u64) -> io::Result<Journal> {
        let mut file = options().truncate(false).open(self.path(index))?;
        let end = HEAD as u64 + chunks * 32;
        file.set_len(end)?;
        // After a restart of the system the chunks were verified just now.
        file.write_all_at(boot_id().as_bytes(), 0)?;
        file.seek(SeekFrom::Start(end))?;
        Ok(Journal { file })
    }

    /// How far `part` is: verified chunks and the digest up to there. Nothing where there is no journal.
    pub fn look(&self, index: u64, part: &File) -> io::Result<Option<(u64, FileDigest)>> {
        let mut bytes = Vec::new();
        match File::open(self.path(index)) {
            Ok(mut file) => file.read_to_end(&mut bytes)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let Some((boot, digests)) = bytes.split_at_checked(HEAD) else { return Ok(None) };
        let written = part.metadata()?.len() / CHUNK as u64;
        let trusted = boot == boot_id().as_bytes();
        let mut chunk = if trusted { Vec::new() } else { vec![0; CHUNK] };
        let mut state = FileDigest::default();
        let mut chunks = 0;
        for digest in digests.as_chunks::<32>().0 {
            if chunks == written {
                break;
            }
            if !trusted {
                part.read_exact_at(&mut chunk, chunks * CHUNK as u64)?;
                if chunk_digest(&chunk) != *digest {
                    break;
                }
            }
            state.chunk(digest);
            chunks += 1;
        }
        Ok((chunks > 0).then_some((chunks, state)))
    }

    /// Forgets how far a file is.
    pub fn remove(&self, index: u64) {
        let _ = std::fs::remove_file(self.path(index));
    }

    /// Forgets the whole transfer.
    pub fn remove_all(&self) {
        let _ = std::fs::remove_dir_all(&self.dir);
    }

    fn path(&self, index: u64) -> PathBuf {
        self.dir.join(index.to_string())
    }
}

/// The journal of one file.
pub struct Journal {
    file: File,
}

impl Journal {
    /// Notes that the next chunk is written.
    pub fn chunk(&mut self, digest: &[u8; 32]) -> io::Result<()> {
        self.file.write_all(digest)
    }
}

fn options() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.write(true).create(true).mode(0o600);
    options
}

/// Another one after each start of the system; where the system does not tell, every chunk is verified again.
fn boot_id() -> String {
    let id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let id = id.trim();
    if id.len() == HEAD { id.to_owned() } else { uuid::Uuid::new_v4().to_string() }
}

#[cfg(test)]
mod tests {
    use kith_proto::control::types::Direction;
    use kith_proto::id::PublicKey;

    use super::*;

    fn journals(dir: &Path) -> Journals {
        let id = "0197c5a0-0000-7000-8000-0123456789ab".to_owned();
        Journals::of(dir, &Key { peer: PublicKey([1; 32]), direction: Direction::In, id })
    }

    /// A part of `chunks` chunks, each filled with its number.
    fn part(dir: &Path, chunks: u8) -> File {
        let file = options().read(true).truncate(true).open(dir.join("part")).unwrap();
        for n in 0..chunks {
            file.write_all_at(&vec![n; CHUNK], u64::from(n) * CHUNK as u64).unwrap();
        }
        file
    }

    fn note(journal: &mut Journal, chunks: std::ops::Range<u8>) -> FileDigest {
        let mut state = FileDigest::default();
        for n in chunks {
            let digest = chunk_digest(&vec![n; CHUNK]);
            journal.chunk(&digest).unwrap();
            state.chunk(&digest);
        }
        state
    }

    #[test]
    fn a_killed_daemon_goes_on_behind_the_last_chunk() {
        let dir = tempfile::tempdir().unwrap();
        let journals = journals(dir.path());
        let state = note(&mut journals.begin(7).unwrap(), 0..3);
        let file = part(dir.path(), 4);
        assert_eq!(journals.look(7, &file).unwrap(), Some((3, state)), "the fourth chunk was not noted");
        note(&mut journals.resume(7, 3).unwrap(), 3..4);
        assert_eq!(journals.look(7, &file).unwrap().unwrap().0, 4);
        file.set_len(CHUNK as u64 * 2 + 5).unwrap();
        assert_eq!(journals.look(7, &file).unwrap().unwrap().0, 2, "what is not in the part is not there");
        journals.remove(7);
        assert_eq!(journals.look(7, &file).unwrap(), None);
    }

    #[test]
    fn after_a_restart_of_the_system_every_chunk_is_verified() {
        let dir = tempfile::tempdir().unwrap();
        let journals = journals(dir.path());
        note(&mut journals.begin(0).unwrap(), 0..3);
        let file = part(dir.path(), 3);
        file.write_all_at(b"lost", CHUNK as u64 * 2).unwrap();
        assert_eq!(journals.look(0, &file).unwrap().unwrap().0, 3, "the same boot trusts the cache");
        let journal = OpenOptions::new().write(true).open(journals.path(0)).unwrap();
        journal.write_all_at(&[b'0'; HEAD], 0).unwrap();
        assert_eq!(journals.look(0, &file).unwrap().unwrap().0, 2, "another boot finds what was lost");
    }
}
