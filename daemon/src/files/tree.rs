//! The directory that files are received under.

use std::collections::BTreeSet;
use std::fs::{DirBuilder, File};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use kith_proto::control::types::Conflict;
use kith_proto::path::{WirePath, link_stays_inside};

use super::error::{Error, Result, shown};
use super::os::{self, Dir};
use super::part::{Newcomer, Part, Placed};
use super::{Kind, names};

/// Directories kept open: enough for a tree that is received in order, and not too many for a process that may open
/// only 64 files.
const OPEN_DIRS: usize = 16;

/// Room that a transfer leaves on the disk for everybody else.
const ROOM_LEFT: u64 = 16 << 20;

/// An open directory and what is below it. Many threads may use it at once.
///
/// It stays the same directory even if it is renamed; nothing is ever found, made or removed outside of it.
#[derive(Debug)]
pub struct Tree {
    path: PathBuf,
    root: Arc<Dir>,
    /// Recently used directories by their path, the latest last.
    recent: Mutex<Vec<(String, Arc<Dir>)>>,
}

/// What lies at a path already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Existing {
    /// What it is.
    pub kind: Kind,
    /// Its size in bytes.
    pub size: u64,
    /// When it was changed, in nanoseconds since 1970.
    pub mtime_ns: i64,
}

impl Tree {
    /// Opens the directory at an absolute path for receiving, and makes it first if it does not exist.
    pub fn open(path: &Path) -> Result<Self> {
        let fail = |e| Error::from_io(path.display(), e);
        if !path.is_absolute() {
            return Err(Error::NotAbsolute { path: shown(path.display()) });
        }
        match DirBuilder::new().recursive(true).create(path) {
            Err(e) if e.kind() == ErrorKind::AlreadyExists => {
                return Err(Error::NotADirectory { path: shown(path.display()) });
            }
            made => made.map_err(fail)?,
        }
        let root = Dir::open(path).map_err(fail)?;
        // Only for an early answer: writing meets the same obstacles.
        os::check_writable(path).map_err(fail)?;
        Ok(Self { path: path.to_owned(), root: Arc::new(root), recent: Mutex::default() })
    }

    /// The same where `bytes` are to be received: refused while there is no room for them.
    pub fn open_with_room(path: &Path, bytes: u64) -> Result<Self> {
        let tree = Self::open(path)?;
        let free = tree.free_bytes()?;
        if bytes > 0 && bytes.saturating_add(ROOM_LEFT) > free {
            return Err(Error::NoRoom { path: shown(path.display()), free, bytes });
        }
        Ok(tree)
    }

    /// The path that it was opened by.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Bytes that may still be written to the file system of the tree.
    pub fn free_bytes(&self) -> Result<u64> {
        self.root.free_bytes().map_err(|e| Error::from_io(self.path.display(), e))
    }

    /// What lies at `path`; a symlink there is not followed.
    pub fn lookup(&self, path: &WirePath) -> Result<Option<Existing>> {
        let (parent, name) = split(path);
        let dir = match self.dir(parent) {
            Err(Error::NotFound { .. }) => return Ok(None),
            dir => dir?,
        };
        let meta = dir.stat(name).map_err(|e| Error::from_io(path, e))?;
        Ok(meta.map(|meta| Existing { kind: meta.kind, size: meta.size, mtime_ns: meta.mtime_ns }))
    }

    /// Opens the regular file at `path` for reading.
    pub fn open_existing(&self, path: &WirePath) -> Result<File> {
        let (parent, name) = split(path);
        let fail = |e| Error::from_io(path, e);
        let file = self.dir(parent)?.open_to_read(name).map_err(fail)?;
        match os::meta(&file).map_err(fail)?.kind {
            Kind::File => Ok(file),
            Kind::Dir | Kind::Symlink | Kind::Special => Err(Error::NotAFile { path: path.to_string() }),
        }
    }

    /// Makes the directory `path` and those above it. Returns the ones that did not exist, outermost first.
    pub fn make_dirs(&self, path: &WirePath) -> Result<Vec<WirePath>> {
        // Not from memory: the directory may have been renamed since, and this is where that shows.
        match self.root.open_below(path.as_str()) {
            Ok(dir) => {
                self.remember(path.as_str(), Arc::new(dir));
                return Ok(Vec::new());
            }
            Err(e) if e.kind() == ErrorKind::NotFound => {}
            Err(e) => return Err(Error::from_dir(path, e)),
        }
        let mut made = Vec::new();
        let mut here = self.root.clone();
        let mut so_far: Option<WirePath> = None;
        for name in path.components() {
            let next = match &so_far {
                None => WirePath::parse(name),
                Some(above) => above.join(name),
            };
            let next = next.map_err(|source| Error::BadName { path: path.to_string(), source })?;
            refuse_part_name(&next)?;
            match here.make_dir(name) {
                Ok(()) => made.push(next.clone()),
                Err(e) if e.kind() == ErrorKind::AlreadyExists => {}
                Err(e) => return Err(Error::from_dir(&next, e)),
            }
            here = Arc::new(here.open_child(name).map_err(|e| Error::from_dir(&next, e))?);
            so_far = Some(next);
        }
        self.remember(path.as_str(), here);
        Ok(made)
    }

    /// The part with this tag for the file `path`; a new, empty one if there is none or if it is to be truncated. The
    /// directory of `path` must exist. No two files of a directory may be on their way in under one tag.
    ///
    /// A part that someone else has prepared is refused ([`Error::NotOurs`]) unless it is truncated: then it goes.
    pub fn part(&self, path: &WirePath, tag: &str, truncate: bool) -> Result<Part> {
        let temp = part_name(tag)?;
        self.beside(path, &temp, |newcomer| {
            let sync_alone = !os::SYNCS_FILESYSTEM || newcomer.dir.device != self.root.device;
            Part::open(newcomer, truncate, sync_alone)
        })
    }

    /// Removes the part with this tag for the file `path`, if there is one.
    pub fn remove_part(&self, path: &WirePath, tag: &str) -> Result<()> {
        let temp = part_name(tag)?;
        match self.beside(path, &temp, |newcomer| newcomer.discard()) {
            Err(Error::NotFound { .. }) => Ok(()),
            done => done,
        }
    }

    /// Makes a symlink at `path`, if it leads to somewhere in the tree. The directory of `path` must exist.
    ///
    /// A link has no time that could be compared: under [`Conflict::Newer`] what exists is kept.
    pub fn link(&self, path: &WirePath, target: &str, conflict: Conflict) -> Result<Placed> {
        if !link_stays_inside(path, target) {
            return Err(Error::LinkOutside { path: path.to_string() });
        }
        self.beside(path, &names::unique_part(), |newcomer| {
            // The same link again, perhaps from before an interruption: there is nothing to do.
            if newcomer.dir.read_link(path.file_name()).is_ok_and(|old| old == target.as_bytes()) {
                return Ok(Placed::As(path.clone()));
            }
            newcomer.dir.make_link(&newcomer.temp, target).map_err(|e| newcomer.error(e))?;
            newcomer.place(conflict).inspect_err(|_| {
                let _ = newcomer.discard();
            })
        })
    }

    /// Removes the directory `path` if it is one and empty; says whether it did.
    pub fn remove_empty_dir(&self, path: &WirePath) -> Result<bool> {
        let (parent, name) = split(path);
        let dir = match self.dir(parent) {
            Err(Error::NotFound { .. } | Error::NotADirectory { .. }) => return Ok(false),
            dir => dir?,
        };
        match dir.remove_dir(name) {
            Ok(()) => {
                self.forget(path.as_str());
                Ok(true)
            }
            Err(e) => match e.kind() {
                // Some systems say "exists" of a directory that is not empty.
                ErrorKind::NotFound
                | ErrorKind::NotADirectory
                | ErrorKind::DirectoryNotEmpty
                | ErrorKind::AlreadyExists => Ok(false),
                _ => Err(Error::from_io(path, e)),
            },
        }
    }

    /// Gives the directory `path` its time; to be done when nothing more is put into it.
    pub fn set_dir_mtime(&self, path: &WirePath, mtime_ns: i64) -> Result<()> {
        self.dir(path.as_str())?.set_mtime(mtime_ns).map_err(|e| Error::from_io(path, e))
    }

    /// Makes the content of all finished parts of the tree durable, in one call where there is such a call.
    pub fn sync_all(&self) -> Result<()> {
        self.root.sync_filesystem().map_err(|e| Error::from_io(self.path.display(), e))
    }

    /// Makes the names of these files, links and directories durable: those that they were placed under or made as.
    pub fn sync_dirs<'a>(&self, placed: impl IntoIterator<Item = &'a WirePath>) -> Result<()> {
        let parents: BTreeSet<&str> = placed.into_iter().map(|path| split(path).0).collect();
        for parent in parents {
            match self.dir(parent).and_then(|dir| dir.sync().map_err(|e| Error::from_io(parent, e))) {
                // Removed meanwhile, and what was in it too.
                Err(Error::NotFound { .. }) => {}
                done => done?,
            }
        }
        Ok(())
    }

    /// Does something in the directory of `path`, under the name `temp`; once more if that directory turns out to be
    /// gone, since there may be a new one.
    fn beside<T>(&self, path: &WirePath, temp: &str, act: impl Fn(Newcomer) -> Result<T>) -> Result<T> {
        refuse_part_name(path)?;
        let parent = split(path).0;
        let newcomer = || Ok(Newcomer { dir: self.dir(parent)?, temp: temp.to_owned(), path: path.clone() });
        match act(newcomer()?) {
            Err(Error::NotFound { .. }) if !parent.is_empty() => {
                self.forget(parent);
                act(newcomer()?)
            }
            done => done,
        }
    }

    /// The directory at this path, opened without following a link.
    pub(super) fn dir(&self, path: &str) -> Result<Arc<Dir>> {
        if path.is_empty() {
            return Ok(self.root.clone());
        }
        {
            let mut recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(at) = recent.iter().rposition(|(known, _)| known == path) {
                // The latest last, so that the first one is the one to close.
                recent[at..].rotate_left(1);
                return Ok(recent[recent.len() - 1].1.clone());
            }
        }
        let dir = Arc::new(self.root.open_below(path).map_err(|e| Error::from_dir(path, e))?);
        self.remember(path, dir.clone());
        Ok(dir)
    }

    fn remember(&self, path: &str, dir: Arc<Dir>) {
        let mut recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        recent.retain(|(known, _)| known != path);
        if recent.len() == OPEN_DIRS {
            recent.remove(0);
        }
        recent.push((path.to_owned(), dir));
    }

    /// Closes the directory at this path and those below it.
    fn forget(&self, path: &str) {
        let below = format!("{path}/");
        let mut recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        recent.retain(|(known, _)| known != path && !known.starts_with(&below));
    }
}

/// Removes the parts in the directory at `path` whose tags begin with `tag`: what a kill left behind.
pub fn sweep_parts(path: &Path, tag: &str) -> Result<()> {
    let fail = |e| Error::from_io(path.display(), e);
    let dir = match Dir::open(path) {
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(()),
        dir => dir.map_err(fail)?,
    };
    let beginning = names::part_beginning(tag);
    for name in dir.names().map_err(fail)? {
        if let Some(name) = name.to_str().filter(|name| names::is_part(name) && name.starts_with(&beginning)) {
            dir.remove(name).map_err(fail)?;
        }
    }
    Ok(())
}

/// The directory (`""` is the tree itself) and the name in it.
pub(super) fn split(path: &WirePath) -> (&str, &str) {
    path.as_str().rsplit_once('/').unwrap_or(("", path.as_str()))
}

fn part_name(tag: &str) -> Result<String> {
    names::part(tag).ok_or_else(|| Error::PartName { path: shown(tag) })
}

/// What is received may not look like a part: a clean-up would take it for one.
fn refuse_part_name(path: &WirePath) -> Result<()> {
    if names::is_part(path.file_name()) {
        return Err(Error::PartName { path: path.to_string() });
    }
    Ok(())
}

#[cfg(test)]
#[path = "tree_tests.rs"]
mod tests;
