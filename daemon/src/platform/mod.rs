//! What differs between operating systems: the control socket, who is calling, the instance lock, signals.
//!
//! ```text
//! listen   listening for others, everywhere alike
//! unix     everything below, on Linux, macOS and the BSDs
//! ```
//!
//! The local door knows only [`ControlListener`]; a named pipe on Windows joins beside `unix` by implementing it.

mod listen;
#[cfg(unix)]
mod unix;

use std::path::PathBuf;

use tokio::io::{AsyncRead, AsyncWrite};

pub use listen::{listen, listen_at};
#[cfg(unix)]
pub use unix::{
    ControlSocket, InstanceLock, adopt_socket, create_private_dir, file_limit, hangup_signal, hide_memory,
    raise_file_limit, stop_signal,
};

/// Who is at the other end of a control connection, found out once, at accept.
#[derive(Debug, Clone)]
pub struct Credentials {
    /// The user.
    pub uid: u32,
    /// The user's groups, the first one included.
    pub gids: Vec<u32>,
    /// The process, where the system tells.
    pub pid: Option<i32>,
}

/// The local door's transport.
pub trait ControlListener: Send + 'static {
    /// A connection.
    type Stream: AsyncRead + AsyncWrite + Send + Unpin + 'static;

    /// The next connection, and who makes it.
    fn accept(&self) -> impl Future<Output = std::io::Result<(Self::Stream, Credentials)>> + Send;
}

/// Why the daemon cannot have its place in the system.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Another daemon has this state directory.
    #[error("another kithd is running with the data in {0}")]
    Running(PathBuf),
    /// Something that is not a socket lies where the socket should be.
    #[error("{0} exists and is not a socket; move it away or choose another place with --socket")]
    NotASocket(PathBuf),
    /// The system bounds the length of a socket's path.
    #[error("the socket path {path} has {length} bytes, the system allows {max}; choose a shorter one with --socket")]
    PathTooLong {
        /// The path.
        path: PathBuf,
        /// Its length.
        length: usize,
        /// What is allowed.
        max: usize,
    },
    /// The directory of the socket or of the data belongs to somebody else, or others may write to it.
    #[error("{path} is not safe to use: {problem}")]
    Unsafe {
        /// The directory.
        path: PathBuf,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// The system says no.
    #[error("{what} {path}: {source}")]
    Io {
        /// What was tried.
        what: &'static str,
        /// Where.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
}
