//! A file on its way in: written beside its place under a name of its own, and renamed when it is whole.

use std::fs::File;
use std::io::{self, ErrorKind};
use std::sync::Arc;

use kith_proto::control::types::Conflict;
use kith_proto::path::WirePath;

use super::error::{Error, Result};
use super::os::{self, Dir};
use super::{Kind, names};

/// Where something that was placed has ended up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Placed {
    /// Under this path: its own, or a numbered one.
    As(WirePath),
    /// Nowhere: what existed was kept.
    Kept,
}

/// The temporary file `.kith-<tag>.part` in the directory of the path that it is meant for.
///
/// Dropping it leaves it on the disk, so that the transfer can be resumed; [`Part::discard`] does not.
#[derive(Debug)]
pub struct Part {
    file: File,
    newcomer: Newcomer,
    pub(super) sync_alone: bool,
}

impl Part {
    /// Opens or creates it. `sync_alone`: syncing the tree does not reach it.
    pub(super) fn open(newcomer: Newcomer, truncate: bool, sync_alone: bool) -> Result<Self> {
        let file = match newcomer.create(truncate) {
            Err(e) if e.kind() == ErrorKind::AlreadyExists => newcomer.reopen()?,
            done => done.map_err(|e| newcomer.error(e))?,
        };
        Ok(Self { file, newcomer, sync_alone })
    }

    /// The path that it is meant for.
    pub fn path(&self) -> &WirePath {
        &self.newcomer.path
    }

    /// The file, for reading and for writing at any offset.
    pub fn file(&self) -> &File {
        &self.file
    }

    /// Writes `content` at `offset`.
    pub fn write_at(&self, content: &[u8], offset: u64) -> Result<()> {
        os::write_at(&self.file, content, offset).map_err(|e| self.newcomer.error(e))
    }

    /// Keeps disk space for a file of `size` bytes, so that a full disk or quota is known before the first byte. Does
    /// nothing where that is not possible.
    pub fn reserve(&self, size: u64) -> Result<()> {
        os::reserve(&self.file, size).map_err(|e| self.newcomer.error(e))
    }

    /// Gives the file its final mode and time. Where [`Tree::sync_all`](super::Tree::sync_all) cannot make it durable,
    /// this does.
    pub fn finish(&self, mtime_ns: i64, executable: bool) -> Result<()> {
        os::set_attributes(&self.file, mtime_ns, executable).map_err(|e| self.newcomer.error(e))?;
        if self.sync_alone { self.sync() } else { Ok(()) }
    }

    /// Makes the content of this one file durable.
    pub fn sync(&self) -> Result<()> {
        self.file.sync_all().map_err(|e| self.newcomer.error(e))
    }

    /// Gives the file its final name, in one step. It must be whole, finished and synced.
    pub fn place(self, conflict: Conflict) -> Result<Placed> {
        self.newcomer.place(conflict)
    }

    /// Removes the file.
    pub fn discard(self) -> Result<()> {
        self.newcomer.discard()
    }
}

/// Something under a temporary name that is to get the final one: a part, or a link.
#[derive(Debug)]
pub(super) struct Newcomer {
    pub dir: Arc<Dir>,
    pub temp: String,
    pub path: WirePath,
}

impl Newcomer {
    pub fn place(&self, conflict: Conflict) -> Result<Placed> {
        if self.rename_new(self.path.file_name())? {
            return Ok(Placed::As(self.path.clone()));
        }
        // Whatever happens meanwhile: a rename never goes over a directory.
        let Some(existing) = self.stat(self.path.file_name())? else { return self.place_numbered() };
        let replaceable = matches!(existing.kind, Kind::File | Kind::Symlink);
        match conflict {
            Conflict::Skip => self.keep_existing(),
            Conflict::Overwrite if replaceable => self.replace(),
            Conflict::Newer if replaceable => match self.stat(&self.temp)? {
                Some(new) if new.kind == Kind::File && new.mtime_ns > existing.mtime_ns => self.replace(),
                _ => self.keep_existing(),
            },
            Conflict::Rename | Conflict::Overwrite | Conflict::Newer => self.place_numbered(),
        }
    }

    pub fn discard(&self) -> Result<()> {
        match self.dir.remove(&self.temp) {
            Err(e) if e.kind() != ErrorKind::NotFound => Err(self.error(e)),
            _ => Ok(()),
        }
    }

    pub fn error(&self, error: io::Error) -> Error {
        Error::from_io(&self.path, error)
    }

    /// A new temporary file. An old one of this name goes first if it is to be truncated: it may be a link, or have a
    /// second name.
    fn create(&self, truncate: bool) -> io::Result<File> {
        match self.dir.create(&self.temp) {
            Err(e) if truncate && e.kind() == ErrorKind::AlreadyExists => {
                self.dir.remove(&self.temp)?;
                self.dir.create(&self.temp)
            }
            done => done,
        }
    }

    /// The temporary file of an earlier run, if it is certain that nobody else has a hand in it.
    fn reopen(&self) -> Result<File> {
        let not_ours = || Error::NotOurs { path: self.temp.clone() };
        let file = match self.dir.open_to_write(&self.temp).map_err(|e| self.error(e)) {
            Err(Error::IsSymlink { .. }) => return Err(not_ours()),
            done => done?,
        };
        if !os::meta(&file).map_err(|e| self.error(e))?.is_our_file() {
            return Err(not_ours());
        }
        os::set_mode(&file, 0o600).map_err(|e| self.error(e))?;
        Ok(file)
    }

    fn place_numbered(&self) -> Result<Placed> {
        for name in names::numbered(self.path.file_name()) {
            let path = match self.path.parent() {
                Some(parent) => parent.join(&name),
                None => WirePath::parse(&name),
            };
            let path = path.map_err(|source| Error::BadName { path: name.clone(), source })?;
            if self.rename_new(&name)? {
                return Ok(Placed::As(path));
            }
        }
        Err(Error::Exists { path: self.path.to_string() })
    }

    fn replace(&self) -> Result<Placed> {
        match self.dir.rename_over(&self.temp, self.path.file_name()) {
            Ok(()) => Ok(Placed::As(self.path.clone())),
            Err(e) if e.kind() == ErrorKind::IsADirectory => self.place_numbered(),
            Err(e) => Err(self.error(e)),
        }
    }

    fn keep_existing(&self) -> Result<Placed> {
        self.discard()?;
        Ok(Placed::Kept)
    }

    fn rename_new(&self, name: &str) -> Result<bool> {
        self.dir.rename_new(&self.temp, name).map_err(|e| self.error(e))
    }

    fn stat(&self, name: &str) -> Result<Option<os::Meta>> {
        self.dir.stat(name).map_err(|e| self.error(e))
    }
}
