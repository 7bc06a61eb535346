//! The blocking half of an upload: hashed and written as it comes, checked, made durable, and only then given its name.

use std::sync::Arc;

use kith_proto::control::types::Conflict;
use kith_proto::path::WirePath;
use sha2::{Digest, Sha256};
use tokio::runtime::Handle;
use tokio::sync::mpsc;

use crate::clock;
use crate::files::{self, EarlySync, Part, Placed, Tree};

/// What comes of an upload, piece by piece.
pub enum Piece {
    /// The next bytes.
    Content(Vec<u8>),
    /// That was all. Pieces that end without it were broken off.
    End,
}

/// The writer's end of an upload.
pub struct Queue {
    /// What comes.
    pub pieces: mpsc::Receiver<Piece>,
    /// Where the memory of pieces goes that are written: new memory for each would cost more than to copy into old.
    pub spare: mpsc::Sender<Vec<u8>>,
}

/// A file on its way in.
pub struct Upload {
    /// Where it goes.
    pub tree: Arc<Tree>,
    /// What it will be called.
    pub name: WirePath,
    /// Names its part.
    pub tag: String,
    /// Its bytes.
    pub size: u64,
    /// What it must hash to. Where nothing is said, there is nothing to hash for.
    pub sha256: Option<[u8; 32]>,
    /// What to do when its name exists.
    pub conflict: Conflict,
}

/// Why there is no file.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The disk or the directory.
    #[error(transparent)]
    Files(#[from] files::Error),
    /// What arrived is not what was declared.
    #[error("the content has another hash than declared")]
    Integrity,
    /// It was broken off.
    #[error("broken off")]
    Gone,
}

/// Takes an upload to its end. What does not become a file leaves nothing behind. Blocks.
pub fn run(upload: &Upload, queue: Queue, runtime: &Handle) -> Result<Placed, Error> {
    let part = upload.tree.part(&upload.name, &upload.tag, true)?;
    match fill(upload, &part, queue, runtime) {
        Ok(()) => {
            let placed = part.place(upload.conflict).inspect_err(|_| {
                let _ = upload.tree.remove_part(&upload.name, &upload.tag);
            })?;
            if let Placed::As(path) = &placed {
                upload.tree.sync_dirs([path])?;
            }
            Ok(placed)
        }
        Err(error) => {
            let _ = part.discard();
            Err(error)
        }
    }
}

fn fill(upload: &Upload, part: &Part, mut queue: Queue, runtime: &Handle) -> Result<(), Error> {
    part.reserve(upload.size)?;
    let mut digest = upload.sha256.map(|_| Sha256::new());
    let mut sync = EarlySync::from(0);
    let mut offset = 0;
    loop {
        match queue.pieces.blocking_recv() {
            Some(Piece::Content(mut content)) => {
                if let Some(digest) = &mut digest {
                    digest.update(&content);
                }
                part.write_at(&content, offset)?;
                offset += content.len() as u64;
                sync.step(runtime, part.file(), offset).map_err(|error| failed(upload, error))?;
                content.clear();
                // Nobody fills it any more after the last piece.
                let _ = queue.spare.try_send(content);
            }
            Some(Piece::End) => break,
            None => return Err(Error::Gone),
        }
    }
    sync.finish(runtime).map_err(|error| failed(upload, error))?;
    if digest.map(|digest| digest.finalize().into()) != upload.sha256 {
        return Err(Error::Integrity);
    }
    // The protocol says nothing of times: it is as old as its arrival.
    part.finish(clock::now_ms().saturating_mul(1_000_000), false)?;
    Ok(part.sync()?)
}

fn failed(upload: &Upload, error: std::io::Error) -> files::Error {
    files::Error::from_io(upload.name.as_str(), error)
}
