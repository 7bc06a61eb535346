//! Every call that `files` makes to the operating system, for Unix.

use std::ffi::{CString, OsString};
use std::fs::{File, FileTimes, Permissions};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::{Component, Path};
use std::sync::OnceLock;
use std::time::{Duration, SystemTime};

use rustix::fs::{self as sys, Access, AtFlags, CWD, FileType, Mode, OFlags};
use rustix::io::Errno;
use rustix::path::Arg;
use rustix::process::geteuid;

use super::Kind;

/// Whether [`Dir::sync_filesystem`] makes everything durable in one call.
pub(super) const SYNCS_FILESYSTEM: bool = cfg!(target_os = "linux");

const OPEN_DIR: OFlags = OFlags::DIRECTORY.union(OFlags::CLOEXEC);
const NO_LINK: OFlags = OFlags::NOFOLLOW.union(OFlags::CLOEXEC);
/// Directories on the way to another: on Linux they need not be readable for that.
#[cfg(target_os = "linux")]
const PASS: OFlags = OPEN_DIR.union(OFlags::NOFOLLOW).union(OFlags::PATH);
#[cfg(not(target_os = "linux"))]
const PASS: OFlags = OPEN_DIR.union(OFlags::NOFOLLOW);

/// What the file system says about a thing.
#[derive(Debug, Clone)]
pub(super) struct Meta {
    pub kind: Kind,
    pub size: u64,
    pub mtime_ns: i64,
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    pub links: u64,
    pub dev: u64,
    pub ino: u64,
}

impl Meta {
    #[allow(clippy::unnecessary_cast, reason = "the fields differ in width from system to system")]
    fn new(stat: &sys::Stat) -> Self {
        Self {
            kind: match FileType::from_raw_mode(stat.st_mode) {
                FileType::RegularFile => Kind::File,
                FileType::Directory => Kind::Dir,
                FileType::Symlink => Kind::Symlink,
                _ => Kind::Special,
            },
            size: stat.st_size as u64,
            mtime_ns: (stat.st_mtime as i64).saturating_mul(1_000_000_000).saturating_add(stat.st_mtime_nsec as i64),
            mode: (stat.st_mode as u32) & 0o7777,
            uid: stat.st_uid,
            gid: stat.st_gid,
            links: stat.st_nlink as u64,
            dev: stat.st_dev as u64,
            ino: stat.st_ino as u64,
        }
    }

    /// A regular file that this process may have made and that has no second name.
    pub fn is_our_file(&self) -> bool {
        self.kind == Kind::File && self.uid == own_uid() && self.links == 1
    }
}

/// An open directory. Names given to its methods are single components.
#[derive(Debug)]
pub(super) struct Dir {
    file: File,
    /// The file system that it lies on.
    pub device: u64,
}

impl Dir {
    fn new(fd: OwnedFd) -> io::Result<Self> {
        Ok(Self { device: meta(&fd)?.dev, file: fd.into() })
    }

    /// The directory at `path`, through whatever links the user has set up there.
    pub fn open(path: &Path) -> io::Result<Self> {
        Self::new(sys::open(path, OPEN_DIR, Mode::empty())?)
    }

    /// The directory `relative` below this one, with no link on the way.
    pub fn open_below(&self, relative: &str) -> io::Result<Self> {
        let step = |_: BorrowedFd<'_>, _: bool| Ok(());
        #[cfg(target_os = "linux")]
        if let Some(fd) = open_at_once(self.file.as_fd(), Path::new(relative), OPEN_DIR, sys::ResolveFlags::BENEATH)? {
            return Self::new(fd);
        }
        Self::new(open_stepwise(self.file.as_fd(), Path::new(relative), OPEN_DIR, &step)?)
    }

    /// The directory `name`, unless that is a link.
    pub fn open_child(&self, name: &str) -> io::Result<Self> {
        Self::new(sys::openat(&self.file, name, OPEN_DIR | NO_LINK, Mode::empty())?)
    }

    /// What `name` is; links are not followed.
    pub fn stat(&self, name: impl Arg) -> io::Result<Option<Meta>> {
        match sys::statat(&self.file, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(Some(Meta::new(&stat))),
            Err(Errno::NOENT) => Ok(None),
            Err(e) => Err(e.into()),
        }
    }

    /// Whether this process may read what `name` is.
    pub fn may_read(&self, name: impl Arg) -> bool {
        sys::accessat(&self.file, name, Access::READ_OK, AtFlags::EACCESS).is_ok()
    }

    pub fn read_link(&self, name: impl Arg) -> io::Result<Vec<u8>> {
        Ok(sys::readlinkat(&self.file, name, Vec::new()).map(CString::into_bytes)?)
    }

    /// The names in this directory, in no order.
    pub fn names(&self) -> io::Result<Vec<OsString>> {
        let mut names = Vec::new();
        for entry in sys::Dir::read_from(&self.file)? {
            let name = entry?.file_name().to_bytes().to_vec();
            if name != b"." && name != b".." {
                names.push(OsString::from_vec(name));
            }
        }
        Ok(names)
    }

    /// Opens a file for reading; never waits for the other end of a FIFO.
    pub fn open_to_read(&self, name: &str) -> io::Result<File> {
        Ok(sys::openat(&self.file, name, NO_LINK | OFlags::NONBLOCK, Mode::empty())?.into())
    }

    /// Opens a file for reading and writing.
    pub fn open_to_write(&self, name: &str) -> io::Result<File> {
        Ok(sys::openat(&self.file, name, NO_LINK | OFlags::NONBLOCK | OFlags::RDWR, Mode::empty())?.into())
    }

    /// A new file that only its owner may touch; an error if the name exists.
    pub fn create(&self, name: &str) -> io::Result<File> {
        let flags = NO_LINK | OFlags::RDWR | OFlags::CREATE | OFlags::EXCL;
        Ok(sys::openat(&self.file, name, flags, Mode::RUSR | Mode::WUSR)?.into())
    }

    pub fn make_dir(&self, name: &str) -> io::Result<()> {
        Ok(sys::mkdirat(&self.file, name, Mode::RWXU | Mode::RWXG | Mode::RWXO)?)
    }

    pub fn make_link(&self, name: &str, target: &str) -> io::Result<()> {
        Ok(sys::symlinkat(target, &self.file, name)?)
    }

    pub fn remove(&self, name: &str) -> io::Result<()> {
        Ok(sys::unlinkat(&self.file, name, AtFlags::empty())?)
    }

    pub fn remove_dir(&self, name: &str) -> io::Result<()> {
        Ok(sys::unlinkat(&self.file, name, AtFlags::REMOVEDIR)?)
    }

    /// Replaces what `to` is, in one step.
    pub fn rename_over(&self, from: &str, to: &str) -> io::Result<()> {
        Ok(sys::renameat(&self.file, from, &self.file, to)?)
    }

    /// Renames unless `to` exists; says whether it did.
    pub fn rename_new(&self, from: &str, to: &str) -> io::Result<bool> {
        #[cfg(any(target_os = "linux", target_vendor = "apple"))]
        match sys::renameat_with(&self.file, from, &self.file, to, sys::RenameFlags::NOREPLACE) {
            Ok(()) => return Ok(true),
            Err(Errno::EXIST) => return Ok(false),
            // Not on this file system.
            Err(Errno::INVAL | Errno::NOSYS | Errno::NOTSUP) => {}
            Err(e) => return Err(e.into()),
        }
        self.link_new(from, to)
    }

    /// [`Dir::rename_new`] where renaming always replaces: a second name, then the first one goes.
    fn link_new(&self, from: &str, to: &str) -> io::Result<bool> {
        match sys::linkat(&self.file, from, &self.file, to, AtFlags::empty()) {
            Ok(()) => {}
            Err(Errno::EXIST) => return Ok(false),
            Err(Errno::PERM | Errno::NOSYS | Errno::NOTSUP | Errno::MLINK) => return self.reserve_new(from, to),
            Err(e) => return Err(e.into()),
        }
        self.remove(from)?;
        Ok(true)
    }

    /// [`Dir::rename_new`] where there are no hard links either (exFAT, some network disks): an empty file keeps the
    /// name free of others for the moment until it is replaced.
    fn reserve_new(&self, from: &str, to: &str) -> io::Result<bool> {
        match self.create(to) {
            Ok(_) => {}
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => return Ok(false),
            Err(e) => return Err(e),
        }
        self.rename_over(from, to).inspect_err(|_| {
            let _ = self.remove(to);
        })?;
        Ok(true)
    }

    pub fn sync(&self) -> io::Result<()> {
        self.file.sync_all()
    }

    /// Makes all that was written to this file system durable, where there is such a call.
    pub fn sync_filesystem(&self) -> io::Result<()> {
        #[cfg(target_os = "linux")]
        sys::syncfs(&self.file)?;
        Ok(())
    }

    pub fn set_mtime(&self, mtime_ns: i64) -> io::Result<()> {
        set_mtime(&self.file, mtime_ns)
    }

    /// Bytes that this process may still write to the file system.
    #[allow(clippy::unnecessary_cast, reason = "the fields differ in width from system to system")]
    pub fn free_bytes(&self) -> io::Result<u64> {
        let stat = sys::fstatvfs(&self.file)?;
        Ok((stat.f_bavail as u64).saturating_mul(stat.f_frsize as u64))
    }
}

/// An open file or directory, lent.
pub(super) type Handle<'a> = BorrowedFd<'a>;

/// Judges one thing on the way to another, and (`true`) the other itself, by its handle.
pub(super) type Check<'a> = &'a dyn Fn(Handle<'_>, bool) -> io::Result<()>;

/// Opens the directory at an absolute path, if no part of it is a link.
pub(super) fn open_source_dir(path: &Path, check: Option<Check<'_>>) -> io::Result<Dir> {
    Dir::new(open_absolute(path, OPEN_DIR, check)?)
}

/// Opens the file at an absolute path for reading, if no part of it is a link; never waits for the other end of a FIFO.
pub(super) fn open_source_file(path: &Path, check: Option<Check<'_>>) -> io::Result<File> {
    Ok(open_absolute(path, OFlags::NONBLOCK, check)?.into())
}

fn open_absolute(path: &Path, flags: OFlags, check: Option<Check<'_>>) -> io::Result<OwnedFd> {
    let Some(check) = check else {
        #[cfg(target_os = "linux")]
        if let Some(fd) = open_at_once(CWD, path, flags, sys::ResolveFlags::empty())? {
            return Ok(fd);
        }
        let root = sys::open("/", PASS, Mode::empty())?;
        return open_stepwise(root.as_fd(), path, flags, &|_, _| Ok(()));
    };
    let root = sys::open("/", PASS, Mode::empty())?;
    check(root.as_fd(), false)?;
    open_stepwise(root.as_fd(), path, flags, check)
}

/// One call for the whole path; `None` if it has to go step by step: an old kernel, a sandbox that forbids new calls.
#[cfg(target_os = "linux")]
fn open_at_once(
    dir: BorrowedFd<'_>,
    path: &Path,
    flags: OFlags,
    resolve: sys::ResolveFlags,
) -> io::Result<Option<OwnedFd>> {
    let resolve = resolve | sys::ResolveFlags::NO_SYMLINKS | sys::ResolveFlags::NO_MAGICLINKS;
    match sys::openat2(dir, path, flags | NO_LINK, Mode::empty(), resolve) {
        Ok(fd) => Ok(Some(fd)),
        Err(Errno::NOSYS | Errno::PERM | Errno::AGAIN) => Ok(None),
        Err(e) => Err(e.into()),
    }
}

fn open_stepwise(start: BorrowedFd<'_>, path: &Path, flags: OFlags, check: Check<'_>) -> io::Result<OwnedFd> {
    let mut here: Option<OwnedFd> = None;
    let mut steps = path.components().filter(|c| *c != Component::RootDir).peekable();
    while let Some(step) = steps.next() {
        let Component::Normal(name) = step else { return Err(io::ErrorKind::InvalidInput.into()) };
        let last = steps.peek().is_none();
        let flags = if last { flags | NO_LINK } else { PASS };
        let next = sys::openat(here.as_ref().map_or(start, AsFd::as_fd), name, flags, Mode::empty())?;
        check(next.as_fd(), last)?;
        here = Some(next);
    }
    if let Some(fd) = here {
        return Ok(fd);
    }
    // Nothing but the start itself (`/`), opened anew: perhaps it was only for passing through.
    let fd = sys::openat(start, ".", flags | NO_LINK, Mode::empty())?;
    check(fd.as_fd(), true)?;
    Ok(fd)
}

/// What is at an absolute path; a link at its end is not followed.
pub(super) fn stat(path: &Path) -> io::Result<Meta> {
    Ok(Meta::new(&sys::lstat(path)?))
}

/// What an open file or directory is.
pub(super) fn meta(file: impl AsFd) -> io::Result<Meta> {
    Ok(Meta::new(&sys::fstat(file)?))
}

/// Whether mode bits do not tell the whole truth about an open file or directory. When in doubt they do not.
pub(super) fn has_acl(file: Handle<'_>) -> bool {
    // A POSIX ACL shows in the mode as if its mask were what the group may do. Other systems' ACLs are not looked at.
    #[cfg(target_os = "linux")]
    {
        use std::os::fd::AsRawFd;
        // Not through the handle itself: one that is only for passing through cannot be asked.
        let path = format!("/proc/self/fd/{}", file.as_raw_fd());
        let answer = sys::getxattr_query(path, "system.posix_acl_access");
        !matches!(answer, Ok(0) | Err(Errno::NODATA | Errno::NOTSUP))
    }
    #[cfg(not(target_os = "linux"))]
    {
        let _ = file;
        false
    }
}

pub(super) fn write_at(file: &File, content: &[u8], offset: u64) -> io::Result<()> {
    file.write_all_at(content, offset)
}

/// Gives a file the mode and time under which it will be found; no more rights than the user's umask leaves.
///
/// A file system that has no modes (FAT, some network disks) says so with `EPERM`; the file is no worse for it.
pub(super) fn set_attributes(file: &File, mtime_ns: i64, executable: bool) -> io::Result<()> {
    let wanted = if executable { 0o777 } else { 0o666 };
    for done in [set_mode(file, wanted & !umask()), set_mtime(file, mtime_ns)] {
        match done {
            Err(e) if !matches!(e.kind(), io::ErrorKind::PermissionDenied | io::ErrorKind::Unsupported) => {
                return Err(e);
            }
            _ => {}
        }
    }
    Ok(())
}

pub(super) fn set_mode(file: &File, mode: u32) -> io::Result<()> {
    file.set_permissions(Permissions::from_mode(mode))
}

/// Times that a file system cannot store or that confuse other programs come to the nearest that is fine everywhere:
/// from 1901 (32 bits signed) to 2106 (32 bits unsigned).
fn set_mtime(file: &File, mtime_ns: i64) -> io::Result<()> {
    const SECOND: i64 = 1_000_000_000;
    let ns = mtime_ns.clamp(i32::MIN as i64 * SECOND, u32::MAX as i64 * SECOND);
    let distance = Duration::from_nanos(ns.unsigned_abs());
    let epoch = SystemTime::UNIX_EPOCH;
    let time = if ns < 0 { epoch.checked_sub(distance) } else { epoch.checked_add(distance) };
    file.set_times(FileTimes::new().set_modified(time.unwrap_or(epoch)))
}

/// Keeps space for a file that will have this size; a file system that cannot is fine.
pub(super) fn reserve(file: &File, size: u64) -> io::Result<()> {
    #[cfg(target_os = "linux")]
    match sys::fallocate(file, sys::FallocateFlags::KEEP_SIZE, 0, size.max(1)) {
        Ok(()) | Err(Errno::NOTSUP | Errno::NOSYS | Errno::INVAL) => {}
        Err(e) => {
            // What it got before it failed would be missed by others.
            let _ = file.set_len(file.metadata()?.len());
            return Err(e.into());
        }
    }
    #[cfg(not(target_os = "linux"))]
    let _ = (file, size);
    Ok(())
}

pub(super) fn own_uid() -> u32 {
    geteuid().as_raw()
}

/// Whether this process may put something into the directory at `path`.
pub(super) fn check_writable(path: &Path) -> io::Result<()> {
    Ok(sys::accessat(CWD, path, Access::WRITE_OK | Access::EXEC_OK, AtFlags::EACCESS)?)
}

/// Whether it failed because something is a symlink.
pub(super) fn is_symlink_refused(error: &io::Error) -> bool {
    error.raw_os_error() == Some(Errno::LOOP.raw_os_error())
}

/// Whether it failed because too many files are open already.
pub(super) fn is_out_of_handles(error: &io::Error) -> bool {
    [Errno::MFILE, Errno::NFILE].iter().any(|e| error.raw_os_error() == Some(e.raw_os_error()))
}

/// The umask of the process, read once.
fn umask() -> u32 {
    static UMASK: OnceLock<u32> = OnceLock::new();
    *UMASK.get_or_init(|| {
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("Umask:"));
        line.and_then(|octal| u32::from_str_radix(octal.trim(), 8).ok()).unwrap_or_else(|| {
            // It can only be read by setting it. A file made by another thread meanwhile is private rather than open.
            let mask = rustix::process::umask(Mode::RWXG | Mode::RWXO);
            rustix::process::umask(mask);
            #[allow(clippy::unnecessary_cast, reason = "u16 on some systems")]
            {
                mask.bits() as u32
            }
        })
    })
}

#[cfg(test)]
#[path = "unix_tests.rs"]
mod tests;
