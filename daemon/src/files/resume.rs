//! Reading on where one stopped: parts that are there already, and files that are sent from the middle.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};

use kith_proto::path::WirePath;

use super::tree::split;
use super::{Error, Result, SourceStat, Tree, names, os};

impl Tree {
    /// The part with this tag for the file `path`, for reading, if there is one of ours.
    pub fn find_part(&self, path: &WirePath, tag: &str) -> Result<Option<File>> {
        let Some(temp) = names::part(tag) else { return Ok(None) };
        let dir = match self.dir(split(path).0) {
            Err(Error::NotFound { .. } | Error::NotADirectory { .. }) => return Ok(None),
            dir => dir?,
        };
        let file = match dir.open_to_read(&temp) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            file => file.map_err(|error| Error::from_io(path, error))?,
        };
        let meta = os::meta(&file).map_err(|error| Error::from_io(path, error))?;
        Ok(meta.is_our_file().then_some(file))
    }
}

/// What an open file is now, to tell whether it changed while it was read.
pub fn stat_source(file: &File) -> Result<SourceStat> {
    let meta = os::meta(file).map_err(|error| Error::from_io("a file that is sent", error))?;
    Ok(SourceStat { size: meta.size, mtime_ns: meta.mtime_ns, dev: meta.dev, ino: meta.ino })
}

/// Moves to `offset` bytes from the start.
pub fn seek(mut file: &File, offset: u64) -> io::Result<()> {
    file.seek(SeekFrom::Start(offset)).map(drop)
}

/// Appends up to `max` bytes of `file` to `buffer`; fewer only at its end. Says how many.
pub fn append_from(file: &File, buffer: &mut Vec<u8>, max: usize) -> io::Result<usize> {
    let start = buffer.len();
    buffer.reserve(max);
    let limit = start + max;
    // Large reads into memory that nobody has to clear first.
    while buffer.len() < limit && buffer.capacity() - buffer.len() <= limit - buffer.len() {
        if rustix::io::read(file, rustix::buffer::spare_capacity(buffer))? == 0 {
            return Ok(buffer.len() - start);
        }
    }
    let missing = (limit - buffer.len()) as u64;
    file.take(missing).read_to_end(buffer)?;
    Ok(buffer.len() - start)
}
