//! What is offered: walking through the files that a user named, and reading them.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use kith_proto::limits::FILE_SIZE;
use kith_proto::path::{WirePath, link_lands_at};
use kith_proto::peer::offer;

use super::error::{Error, Result, shown};
use super::os::{self, Dir, Meta};
use super::{Kind, Reader, names};

/// One file, directory or link of an offer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceEntry {
    /// Its path in the offer.
    pub path: WirePath,
    /// What it is.
    pub kind: offer::Kind,
    /// The bytes of a file; 0 for others.
    pub size: u64,
    /// When it was changed, in nanoseconds since 1970.
    pub mtime_ns: i64,
    /// Whether its owner may run a file.
    pub executable: bool,
    /// Where a link leads.
    pub target: Option<String>,
    /// Where it lies here: an absolute path without symlinks, for [`open_source`].
    pub source: PathBuf,
    /// The file system that it lies on.
    pub dev: u64,
    /// Its number there.
    pub ino: u64,
}

/// Something below an offered directory that cannot be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Skipped {
    /// Its path in the offer. Not fit for a terminal as it is.
    pub path: String,
    /// Why: `special`, `unreadable`, `not_utf8`, `link_outside`, `link_target`, `too_large`, `part`, a
    /// [`PathError::reason`](kith_proto::path::PathError::reason), or an [`Error::reason`].
    pub reason: &'static str,
}

/// What was opened to be sent, to tell whether it is still what was offered.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SourceStat {
    /// Its size in bytes.
    pub size: u64,
    /// When it was changed, in nanoseconds since 1970.
    pub mtime_ns: i64,
    /// The file system that it lies on.
    pub dev: u64,
    /// Its number there.
    pub ino: u64,
}

/// Goes through what the user named, each root under its last component at the top of the offer.
///
/// Of each directory: itself, then the files and links in it sorted by name, then its directories in the same way.
/// Symlinks are entries and never followed, except for a root: the user named it. What cannot be sent is told to
/// `skipped`; a root that cannot be sent is an error. Ends early, without an error, when `sink` breaks.
pub fn walk(
    reader: &Reader,
    roots: &[PathBuf],
    sink: &mut dyn FnMut(SourceEntry) -> ControlFlow<()>,
    skipped: &mut dyn FnMut(Skipped),
) -> Result<()> {
    let mut tops = BTreeSet::new();
    let mut found = Vec::with_capacity(roots.len());
    // All roots before the first entry: an offer with a mistake in it is not begun.
    for root in roots {
        let root = Found::root(reader, root)?;
        if !tops.insert(root.path.to_string()) {
            return Err(Error::SameName { path: root.path.to_string() });
        }
        found.push(root);
    }
    let mut walk = Walk { reader, tops, sink, skipped };
    for root in found {
        let flow = match root.kind {
            offer::Kind::Dir => walk.dir(root),
            offer::Kind::File | offer::Kind::Symlink => (walk.sink)(root.entry()),
        };
        if flow.is_break() {
            break;
        }
    }
    Ok(())
}

/// Opens a file for sending, by the [`SourceEntry::source`] of a walk. Regular files only, and no part of the path may
/// have become a symlink.
pub fn open_source(reader: &Reader, source: &Path) -> Result<(File, SourceStat)> {
    let fail = |e| Error::from_io(source.display(), e);
    let file = reader.open_file(source).map_err(fail)?;
    let meta = os::meta(&file).map_err(fail)?;
    if meta.kind != Kind::File {
        return Err(Error::NotAFile { path: shown(source.display()) });
    }
    let stat = SourceStat { size: meta.size, mtime_ns: meta.mtime_ns, dev: meta.dev, ino: meta.ino };
    Ok((file, stat))
}

/// Something that can be offered.
struct Found {
    path: WirePath,
    kind: offer::Kind,
    target: Option<String>,
    source: PathBuf,
    meta: Meta,
}

impl Found {
    /// What a user named.
    fn root(reader: &Reader, root: &Path) -> Result<Self> {
        if !root.is_absolute() {
            return Err(Error::NotAbsolute { path: shown(root.display()) });
        }
        let name = root.file_name().map(|name| top_name(root, name)).transpose()?;
        let (source, meta, kind) = Self::look(reader, root).map_err(|error| {
            // Another user is not told what else there is where he may not look.
            let denied = || io::ErrorKind::PermissionDenied.into();
            if reader.is_for_other() { Error::from_io(root.display(), denied()) } else { error }
        })?;
        let path = match (name, source.file_name()) {
            (Some(name), _) => name,
            // `here/..` is named by what it is.
            (None, Some(name)) => top_name(root, name)?,
            (None, None) => return Err(Error::NoName { path: shown(root.display()) }),
        };
        Ok(Self { path, kind, target: None, source, meta })
    }

    fn look(reader: &Reader, root: &Path) -> Result<(PathBuf, Meta, offer::Kind)> {
        let fail = |e| Error::from_io(root.display(), e);
        let source = root.canonicalize().map_err(fail)?;
        let meta = os::stat(&source).map_err(fail)?;
        let kind = match meta.kind {
            Kind::Dir => {
                reader.open_dir(&source).map_err(fail)?;
                offer::Kind::Dir
            }
            Kind::File if meta.size > FILE_SIZE => return Err(Error::TooLarge { path: shown(root.display()) }),
            Kind::File => {
                open_source(reader, &source)?;
                offer::Kind::File
            }
            Kind::Symlink | Kind::Special => return Err(Error::NotAFile { path: shown(root.display()) }),
        };
        Ok((source, meta, kind))
    }

    fn entry(self) -> SourceEntry {
        let is_file = self.kind == offer::Kind::File;
        SourceEntry {
            path: self.path,
            kind: self.kind,
            size: if is_file { self.meta.size } else { 0 },
            mtime_ns: self.meta.mtime_ns,
            executable: is_file && self.meta.mode & 0o100 != 0,
            target: self.target,
            source: self.source,
            dev: self.meta.dev,
            ino: self.meta.ino,
        }
    }
}

/// The name of a root at the top of the offer.
fn top_name(root: &Path, name: &OsStr) -> Result<WirePath> {
    let path = || shown(root.display());
    let name = name.to_str().ok_or_else(|| Error::NotUtf8 { path: path() })?;
    if names::is_part(name) {
        return Err(Error::PartName { path: path() });
    }
    WirePath::parse(name).map_err(|source| Error::BadName { path: path(), source })
}

struct Walk<'a> {
    reader: &'a Reader,
    /// The roots' names: a link from one into another stays in the offer.
    tops: BTreeSet<String>,
    sink: &'a mut dyn FnMut(SourceEntry) -> ControlFlow<()>,
    skipped: &'a mut dyn FnMut(Skipped),
}

impl Walk<'_> {
    /// One directory after the other, so that only one is open at a time, however deep they lie.
    fn dir(&mut self, root: Found) -> ControlFlow<()> {
        let mut pending = vec![root];
        while let Some(here) = pending.pop() {
            let listing = self.reader.open_dir(&here.source).and_then(|dir| Ok((dir.names()?, dir)));
            let (mut names, dir) = match listing {
                Ok(listing) => listing,
                Err(e) => {
                    let reason = match Error::from_dir(&here.path, e) {
                        Error::Denied { .. } => "unreadable",
                        error => error.reason(),
                    };
                    (self.skipped)(Skipped { path: here.path.to_string(), reason });
                    continue;
                }
            };
            names.sort_unstable();
            let (path, source) = (here.path.clone(), here.source.clone());
            (self.sink)(here.entry())?;
            let mut dirs = Vec::new();
            for name in names {
                match self.child(&dir, &path, &source, &name) {
                    Ok(found) if found.kind == offer::Kind::Dir => dirs.push(found),
                    Ok(found) => (self.sink)(found.entry())?,
                    Err(reason) => {
                        let path = format!("{path}/{}", name.to_string_lossy());
                        (self.skipped)(Skipped { path, reason });
                    }
                }
            }
            pending.extend(dirs.into_iter().rev());
        }
        ControlFlow::Continue(())
    }

    /// What `name` is to the offer, or why it cannot be in it.
    fn child(&self, dir: &Dir, parent: &WirePath, source: &Path, name: &OsStr) -> Result<Found, &'static str> {
        let text = name.to_str().ok_or("not_utf8")?;
        if names::is_part(text) {
            return Err("part");
        }
        let path = parent.join(text).map_err(|e| e.reason())?;
        let meta = dir.stat(name).map_err(|e| Error::from_io(&path, e).reason())?.ok_or("not_found")?;
        let (kind, target) = match meta.kind {
            Kind::Special => return Err("special"),
            Kind::File if meta.size > FILE_SIZE => return Err("too_large"),
            Kind::File if !self.reader.may_read(dir, name, &meta) => return Err("unreadable"),
            Kind::File => (offer::Kind::File, None),
            Kind::Dir => (offer::Kind::Dir, None),
            Kind::Symlink => (offer::Kind::Symlink, Some(self.target(dir, name, &path)?)),
        };
        Ok(Found { path, kind, target, source: source.join(name), meta })
    }

    /// Where a link leads, if that is in the offer.
    fn target(&self, dir: &Dir, name: &OsStr, path: &WirePath) -> Result<String, &'static str> {
        let target = dir.read_link(name).map_err(|e| Error::from_io(path, e).reason())?;
        let target = String::from_utf8(target).map_err(|_| "link_target")?;
        let lands = link_lands_at(path, &target).ok_or("link_outside")?;
        match lands.split('/').next() {
            Some(top) if self.tops.contains(top) => Ok(target),
            _ => Err("link_outside"),
        }
    }
}

#[cfg(test)]
#[path = "source_tests.rs"]
mod tests;
