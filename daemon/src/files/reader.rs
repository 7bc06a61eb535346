//! With whose rights files are read.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, ErrorKind};
use std::path::Path;

use super::os::{self, Dir, Handle, Meta};

const READ: u32 = 0o4;
const SEARCH: u32 = 0o1;

/// With whose rights files are read: a service that runs for the whole machine must not read for a caller what the
/// caller could not read.
#[derive(Debug, Clone)]
pub struct Reader {
    /// `None`: the system decides, by who this process is.
    caller: Option<Caller>,
}

#[derive(Debug, Clone)]
struct Caller {
    uid: u32,
    gids: Vec<u32>,
}

impl Reader {
    /// With the rights of this process.
    pub fn own() -> Self {
        Self { caller: None }
    }

    /// With the rights of a caller, but never more than this process has. `gids` are all of the caller's groups, the
    /// primary one included.
    ///
    /// The mode bits of every directory on the way and of the file decide, on open handles. Where there is an access
    /// control list besides them, only its owner may read a file: the list may take away what the mode seems to give.
    pub fn for_caller(uid: u32, gids: Vec<u32>) -> Self {
        let own = uid == os::own_uid() || uid == 0;
        Self { caller: (!own).then_some(Caller { uid, gids }) }
    }

    /// Whether some other user's rights count.
    pub(super) fn is_for_other(&self) -> bool {
        self.caller.is_some()
    }

    /// Opens the directory at an absolute path without symlinks, to read and search it.
    pub(super) fn open_dir(&self, path: &Path) -> io::Result<Dir> {
        match &self.caller {
            None => os::open_source_dir(path, None),
            Some(caller) => os::open_source_dir(path, Some(&|fd, last| caller.check(fd, last, READ | SEARCH))),
        }
    }

    /// Opens what is at an absolute path without symlinks, to read it.
    pub(super) fn open_file(&self, path: &Path) -> io::Result<File> {
        match &self.caller {
            None => os::open_source_file(path, None),
            Some(caller) => os::open_source_file(path, Some(&|fd, last| caller.check(fd, last, READ))),
        }
    }

    /// Whether it looks as if the file `name` can be read; opening it decides.
    pub(super) fn may_read(&self, dir: &Dir, name: &OsStr, meta: &Meta) -> bool {
        match &self.caller {
            Some(caller) => caller.may(READ, meta, || false),
            // The mode alone is right nearly always, and costs no call.
            None if meta.mode & 0o444 == 0o444 => true,
            None if meta.mode & 0o400 != 0 && meta.uid == os::own_uid() => true,
            None => dir.may_read(name),
        }
    }
}

impl Caller {
    fn check(&self, fd: Handle<'_>, last: bool, wanted: u32) -> io::Result<()> {
        let wanted = if last { wanted } else { SEARCH };
        if self.may(wanted, &os::meta(fd)?, || os::has_acl(fd)) {
            return Ok(());
        }
        Err(ErrorKind::PermissionDenied.into())
    }

    /// One class of bits decides, as in the kernel: an owner whom the mode shuts out is not let in by the group.
    fn may(&self, wanted: u32, meta: &Meta, has_acl: impl Fn() -> bool) -> bool {
        let class = if meta.uid == self.uid {
            6
        } else if has_acl() {
            return false;
        } else if self.gids.contains(&meta.gid) {
            3
        } else {
            0
        };
        (meta.mode >> class) & wanted == wanted
    }
}
