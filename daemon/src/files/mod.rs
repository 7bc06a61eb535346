//! The only door to the user's files. Every call blocks: run it on a blocking thread.
//!
//! ```text
//! tree     Tree: an open directory that files are received under
//! early    EarlySync: large files go to the disk while they are still being written
//! part     Part: a file on its way in, and how it gets its final name
//! names    numbered names for what exists already; the names of parts
//! source   walk, open_source: what is offered, and reading it
//! resume   going on where one stopped: parts, files from the middle
//! reader   Reader: with whose rights it is read
//! atomic   small files of the daemon itself: whole or not at all; private ones
//! error    what can go wrong, and the words for it
//! unix     every call to the operating system
//! ```
//!
//! What is received is named by a [`WirePath`](kith_proto::path::WirePath) and opened relative to a directory handle,
//! never through a symlink: whoever swaps a directory for a link meanwhile gets an error, not a file outside. What is
//! sent is named by a path without symlinks, and opened so.
//!
//! Deliberately absent: hashing, progress, policy (dotfiles, sizes, space kept free) and the database.

mod atomic;
mod early;
mod error;
mod names;
mod part;
mod reader;
mod resume;
mod source;
#[cfg(test)]
mod swap;
mod tree;
mod unix;

// The seam: another system is another module with the same functions.
use unix as os;

pub use atomic::{create_private, read_private, write_atomic};
pub use early::EarlySync;
pub use error::{Error, Result};
pub use names::numbered;
pub use part::{Part, Placed};
pub use reader::Reader;
pub use resume::{append_from, seek, stat_source};
pub use source::{Skipped, SourceEntry, SourceStat, open_source, walk};
pub use tree::{Existing, Tree, sweep_parts};

/// What sort of thing lies at a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A regular file.
    File,
    /// A directory.
    Dir,
    /// A symlink, wherever it leads.
    Symlink,
    /// A FIFO, a socket, a device: never offered, never replaced.
    Special,
}
