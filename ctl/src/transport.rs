//! The stream between this program and the daemon: a Unix socket. A named pipe joins here, as another [`Stream`].

use std::fmt;
use std::io::{self, Read, Write};
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Where the daemon listens, and how this program came to think so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// The socket.
    pub path: PathBuf,
    /// Who named it.
    pub origin: Origin,
}

/// Who named the socket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// `--socket`
    SocketFlag,
    /// `--home`, which is this.
    HomeFlag(PathBuf),
    /// `KITH_SOCKET`
    SocketVariable,
    /// `KITH_HOME`, which is this.
    HomeVariable(PathBuf),
    /// The user's daemon, below `XDG_RUNTIME_DIR`.
    RuntimeDir,
    /// The user's daemon, where there is no `XDG_RUNTIME_DIR`.
    DataDir,
    /// The system service.
    System,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::SocketFlag => "from --socket",
            Self::HomeFlag(_) => "from --home",
            Self::SocketVariable => "from KITH_SOCKET",
            Self::HomeVariable(_) => "from KITH_HOME",
            Self::RuntimeDir => "the default below XDG_RUNTIME_DIR",
            Self::DataDir => "the default where XDG_RUNTIME_DIR is not set",
            Self::System => "of the system service",
        })
    }
}

/// A connection to the daemon.
pub trait Stream: Read + Write + Send {
    /// A second handle on the same connection, so that one thread reads while another writes.
    fn another(&self) -> io::Result<Box<dyn Stream>>;
    /// How long a read may take; `None` for as long as it takes.
    fn set_read_timeout(&self, timeout: Option<Duration>) -> io::Result<()>;
}

impl Stream for UnixStream {
    fn another(&self) -> io::Result<Box<dyn Stream>> {
        Ok(Box::new(self.try_clone()?))
    }

    fn set_read_timeout(&self, timeout: Option<Duration>) -> io::Result<()> {
        Self::set_read_timeout(self, timeout)
    }
}

/// Connects to the daemon that listens at `path`.
pub fn connect(path: &Path) -> io::Result<Box<dyn Stream>> {
    Ok(Box::new(UnixStream::connect(path)?))
}

/// Who owns the first of `path` and the directories above it that this user can see: that path, the owner's user id,
/// and this user's.
pub fn ownership(path: &Path) -> Option<(&Path, u32, u32)> {
    let (seen, metadata) = path.ancestors().find_map(|path| Some((path, path.symlink_metadata().ok()?)))?;
    Some((seen, metadata.uid(), rustix::process::geteuid().as_raw()))
}
