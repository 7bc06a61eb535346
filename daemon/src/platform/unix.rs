//! Linux, macOS and the BSDs.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use tokio::net::{UnixListener, UnixStream};
use tokio::signal::unix::{SignalKind, signal};

use super::{ControlListener, Credentials, Error};

/// The space in `sockaddr_un` for a path and its final NUL: 108 on Linux, 104 elsewhere.
const SOCKET_PATH_MAX: usize = if cfg!(target_os = "linux") { 107 } else { 103 };

/// Held as long as the daemon runs: decides who is the daemon of a state directory.
pub struct InstanceLock {
    _file: File,
}

impl InstanceLock {
    /// Takes the lock of `data`, a directory.
    pub fn acquire(data: &Path) -> Result<Self, Error> {
        let path = data.join("lock");
        let fail = |source| Error::Io { what: "cannot lock", path: path.clone(), source };
        let file = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(&path).map_err(fail)?;
        match file.try_lock() {
            Ok(()) => Ok(Self { _file: file }),
            Err(std::fs::TryLockError::WouldBlock) => Err(Error::Running(data.to_owned())),
            Err(std::fs::TryLockError::Error(source)) => Err(fail(source)),
        }
    }
}

/// The control socket. Its path is removed when it is dropped, unless the service manager made it.
pub struct ControlSocket {
    listener: UnixListener,
    path: Option<PathBuf>,
}

impl ControlSocket {
    /// Binds `path`. Only the holder of the instance lock may do this: what lies there is a leftover of a daemon that
    /// was killed, and is removed. With `shared`, the group may connect too (a system service).
    pub fn bind(path: &Path, shared: bool, _holder: &InstanceLock) -> Result<Self, Error> {
        let length = path.as_os_str().as_bytes().len();
        if length > SOCKET_PATH_MAX {
            return Err(Error::PathTooLong { path: path.to_owned(), length, max: SOCKET_PATH_MAX });
        }
        let fail = |what| move |source| Error::Io { what, path: path.to_owned(), source };
        if let Some(dir) = path.parent() {
            create_private_dir(dir)?;
        }
        match std::fs::symlink_metadata(path) {
            Ok(found) if found.file_type().is_socket() => {
                std::fs::remove_file(path).map_err(fail("cannot remove the old socket"))?;
            }
            Ok(_) => return Err(Error::NotASocket(path.to_owned())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(fail("cannot look at")(error)),
        }
        let listener = UnixListener::bind(path).map_err(fail("cannot listen on"))?;
        // Nobody connects in between and gains anything: callers are told apart by their credentials.
        let mode = if shared { 0o660 } else { 0o600 };
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).map_err(fail("cannot protect"))?;
        Ok(Self { listener, path: Some(path.to_owned()) })
    }

    /// A socket that the service manager made and keeps.
    pub fn adopt(listener: std::os::unix::net::UnixListener) -> io::Result<Self> {
        listener.set_nonblocking(true)?;
        Ok(Self { listener: UnixListener::from_std(listener)?, path: None })
    }
}

impl Drop for ControlSocket {
    fn drop(&mut self) {
        if let Some(path) = &self.path {
            let _ = std::fs::remove_file(path);
        }
    }
}

impl ControlListener for ControlSocket {
    type Stream = UnixStream;

    async fn accept(&self) -> io::Result<(UnixStream, Credentials)> {
        let (stream, _) = self.listener.accept().await?;
        let peer = stream.peer_cred()?;
        let mut gids = vec![peer.gid()];
        gids.extend(peer.pid().map(supplementary_groups).unwrap_or_default());
        Ok((stream, Credentials { uid: peer.uid(), gids, pid: peer.pid() }))
    }
}

/// The socket that a service manager hands over by `LISTEN_FDS`, if it does.
pub fn adopt_socket() -> io::Result<Option<ControlSocket>> {
    match listenfd::ListenFd::from_env().take_unix_listener(0)? {
        Some(listener) => ControlSocket::adopt(listener).map(Some),
        None => Ok(None),
    }
}

/// Where the system tells them; elsewhere the first group has to do.
fn supplementary_groups(pid: i32) -> Vec<u32> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let groups = status.lines().find_map(|line| line.strip_prefix("Groups:")).unwrap_or_default();
    groups.split_ascii_whitespace().filter_map(|gid| gid.parse().ok()).collect()
}

/// Creates `path` with mode 0700 where it is missing, and refuses one in which somebody else could put things.
pub fn create_private_dir(path: &Path) -> Result<(), Error> {
    let fail = |source| Error::Io { what: "cannot create", path: path.to_owned(), source };
    DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(fail)?;
    let found = std::fs::metadata(path).map_err(fail)?;
    let ours = rustix::process::geteuid().as_raw();
    let problem = if found.uid() != ours && found.uid() != 0 {
        "it belongs to somebody else"
    } else if found.mode() & 0o002 != 0 && found.mode() & 0o1000 == 0 {
        "everybody may write to it"
    } else {
        return Ok(());
    };
    Err(Error::Unsafe { path: path.to_owned(), problem })
}

/// Resolves at the first SIGTERM or SIGINT.
pub fn stop_signal() -> io::Result<impl Future<Output = &'static str>> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => "SIGTERM",
            _ = interrupt.recv() => "SIGINT",
        }
    })
}

/// SIGHUP, by which a service is told to read its files again.
pub fn hangup_signal() -> io::Result<tokio::signal::unix::Signal> {
    signal(SignalKind::hangup())
}

/// Takes what the system allows at most: the soft limit is low for the sake of programs that use `select`.
pub fn raise_file_limit() {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    let raised = rustix::process::Rlimit { current: limit.maximum, maximum: limit.maximum };
    let _ = rustix::process::setrlimit(rustix::process::Resource::Nofile, raised);
}

/// Keys and secrets are in this memory: it is in no core dump, and other processes of the same user cannot look into it.
pub fn hide_memory() {
    let none = rustix::process::Rlimit { current: Some(0), maximum: Some(0) };
    let limited = rustix::process::setrlimit(rustix::process::Resource::Core, none);
    #[cfg(target_os = "linux")]
    let limited =
        limited.and_then(|()| rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable));
    if let Err(error) = limited {
        tracing::warn!(%error, "a crash of this process may leave its memory on the disk");
    }
}

/// How many files this process may hold open.
pub fn file_limit() -> u64 {
    rustix::process::getrlimit(rustix::process::Resource::Nofile).current.unwrap_or(u64::MAX)
}
