//! Small files of the daemon itself: the old content or the new one, never half of it.

use std::io::{self, ErrorKind, Read, Write};
use std::path::Path;

use super::os::{self, Dir};
use super::{Kind, names};

/// Gives the file at `path` this content and mode, in one step that survives a power cut.
///
/// A symlink at `path` is replaced, not followed.
pub fn write_atomic(path: &Path, content: &[u8], mode: u32) -> io::Result<()> {
    let (dir, name) = locate(path)?;
    put(&dir, content, mode, |temp| dir.rename_over(temp, name))
}

/// Makes a file with this content that only its owner may read; an error ([`ErrorKind::AlreadyExists`]) if there is
/// anything at `path`.
pub fn create_private(path: &Path, content: &[u8]) -> io::Result<()> {
    let (dir, name) = locate(path)?;
    put(&dir, content, 0o600, |temp| match dir.rename_new(temp, name)? {
        true => Ok(()),
        false => Err(ErrorKind::AlreadyExists.into()),
    })
}

/// Reads a file of at most `max` bytes that is ours and that nobody else may read or change; a symlink is not followed.
///
/// What is not private is refused with [`ErrorKind::PermissionDenied`], what is no such file with
/// [`ErrorKind::InvalidData`].
pub fn read_private(path: &Path, max: usize) -> io::Result<Vec<u8>> {
    let (dir, name) = locate(path)?;
    let file = dir.open_to_read(name)?;
    let meta = os::meta(&file)?;
    if meta.kind != Kind::File {
        return Err(io::Error::new(ErrorKind::InvalidData, "it is not a regular file"));
    }
    if meta.uid != os::own_uid() {
        return Err(io::Error::new(ErrorKind::PermissionDenied, "it belongs to another user"));
    }
    if meta.mode & !0o600 != 0 {
        let why =
            format!("its mode is {:o}: others may read or change it; allow only the owner (chmod 600)", meta.mode);
        return Err(io::Error::new(ErrorKind::PermissionDenied, why));
    }
    // Room for all of it at once: growing would leave copies of a secret behind.
    let mut content = Vec::with_capacity(max + 1);
    file.take(max as u64 + 1).read_to_end(&mut content)?;
    if content.len() > max {
        return Err(io::Error::new(ErrorKind::InvalidData, "it is longer than such a file can be"));
    }
    Ok(content)
}

fn locate(path: &Path) -> io::Result<(Dir, &str)> {
    let name = path.file_name().and_then(|name| name.to_str()).ok_or(ErrorKind::InvalidInput)?;
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    Ok((Dir::open(parent)?, name))
}

fn put(dir: &Dir, content: &[u8], mode: u32, name_it: impl FnOnce(&str) -> io::Result<()>) -> io::Result<()> {
    let temp = names::unique_part();
    let mut file = dir.create(&temp)?;
    let written = file.write_all(content).and_then(|()| os::set_mode(&file, mode)).and_then(|()| file.sync_all());
    written.and_then(|()| name_it(&temp)).inspect_err(|_| {
        let _ = dir.remove(&temp);
    })?;
    dir.sync()
}

#[cfg(test)]
#[path = "atomic_tests.rs"]
mod tests;
