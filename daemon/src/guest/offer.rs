//! What is sent to a guest: files that were walked through and hashed. Blocks.

use std::collections::HashSet;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use kith_proto::control::types::{OfferedEntry, Problem};
use kith_proto::control::{ApiError, Code};
use kith_proto::guest::PrepareFile;
use kith_proto::limits;
use kith_proto::peer::offer::Kind;
use sha2::{Digest, Sha256};
use tokio_util::sync::CancellationToken;

use crate::files::{self, Reader, Skipped, SourceEntry, SourceStat};

/// Files are read in pieces of this size.
pub const PIECE: usize = 256 << 10;

/// What was found below the paths that somebody named.
#[derive(Default)]
pub struct Found {
    /// Files with something in them.
    pub files: Vec<FoundFile>,
    /// Whatever else.
    pub problems: Vec<Problem>,
}

/// A file, by a name that no other one of the same sending has.
pub struct FoundFile {
    /// Its path below what was named: what people are told about.
    pub path: String,
    /// What the receiver is told: there are no directories in this protocol.
    pub name: String,
    /// Its bytes when it was found.
    pub size: u64,
    source: PathBuf,
}

/// A file that is ready to be sent.
pub struct Offered {
    /// What people are told about.
    pub path: String,
    /// What the receiver is told.
    pub file: PrepareFile,
    /// Where it lies here.
    pub source: PathBuf,
    /// What was hashed.
    pub stat: SourceStat,
}

/// Goes through `paths`.
pub fn walk(reader: &Reader, paths: &[PathBuf], gone: &CancellationToken) -> Result<Found, ApiError> {
    let mut found = Found::default();
    let mut names = HashSet::new();
    let mut skipped: Vec<Skipped> = Vec::new();
    for path in paths {
        let mut sink = |entry: SourceEntry| {
            let why = match entry.kind {
                Kind::Dir => return ControlFlow::Continue(()),
                Kind::Symlink => Some("symlink"),
                // The apps refuse them.
                Kind::File if entry.size == 0 => Some("empty"),
                Kind::File => None,
            };
            let path = entry.path.to_string();
            match why {
                Some(reason) => skipped.push(Skipped { path, reason }),
                None => {
                    let name = unique(entry.path.file_name(), &mut names);
                    found.files.push(FoundFile { path, name, size: entry.size, source: entry.source });
                }
            }
            let enough = found.files.len() > limits::GUEST_FILES_MAX || gone.is_cancelled();
            if enough { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        };
        // One after the other: here two of one name may lie side by side.
        let mut problems = Vec::new();
        files::walk(reader, std::slice::from_ref(path), &mut sink, &mut |it| problems.push(it))?;
        skipped.extend(problems);
    }
    if found.files.len() > limits::GUEST_FILES_MAX {
        let message = format!("more than {} files at once", limits::GUEST_FILES_MAX);
        return Err(ApiError::new(Code::TooLarge, message).hint("send an archive of them"));
    }
    found.problems = skipped.into_iter().map(problem).collect();
    if found.files.is_empty() {
        let message = match found.problems.first() {
            Some(first) => format!("nothing to send: {} ({})", first.path, first.reason),
            None => "nothing to send".to_owned(),
        };
        return Err(ApiError::new(Code::FileNotFound, message));
    }
    Ok(found)
}

/// Hashes what was found. What changed meanwhile or cannot be read becomes a problem.
pub fn hash(reader: &Reader, found: Found, gone: &CancellationToken) -> (Vec<Offered>, Vec<Problem>) {
    let Found { files, mut problems } = found;
    let mut offered = Vec::with_capacity(files.len());
    for FoundFile { path, name, source, .. } in files {
        if gone.is_cancelled() {
            break;
        }
        match digest(reader, &source, gone) {
            Ok((sha256, stat)) => {
                let file_type = mime_guess::from_path(Path::new(&name)).first_or_octet_stream().to_string();
                let id = uuid::Uuid::new_v4().to_string();
                let file = PrepareFile { id, file_name: name, size: stat.size, file_type, sha256 };
                offered.push(Offered { path, file, source, stat });
            }
            Err(reason) => problems.push(Problem { path, reason: reason.to_owned() }),
        }
    }
    (offered, problems)
}

/// The first entries, as people see them.
pub fn preview(files: &[FoundFile], shown: usize) -> Vec<OfferedEntry> {
    let entry = |file: &FoundFile| OfferedEntry {
        path: file.path.clone(),
        kind: "file".to_owned(),
        size: Some(file.size),
        media_type: None,
    };
    files.iter().take(shown).map(entry).collect()
}

fn digest(reader: &Reader, source: &Path, gone: &CancellationToken) -> Result<(String, SourceStat), &'static str> {
    let (file, stat) = files::open_source(reader, source).map_err(|error| error.reason())?;
    let mut digest = Sha256::new();
    let mut piece = Vec::with_capacity(PIECE);
    let mut size = 0;
    loop {
        piece.clear();
        let read = files::append_from(&file, &mut piece, PIECE).map_err(|_| "unreadable")?;
        digest.update(&piece);
        size += read as u64;
        // A file that grows must not keep this from ending.
        if read < PIECE || size > stat.size || gone.is_cancelled() {
            break;
        }
    }
    let now = files::stat_source(&file).map_err(|error| error.reason())?;
    if now != stat || size != stat.size {
        return Err("changed");
    }
    if size == 0 {
        return Err("empty");
    }
    Ok((data_encoding::HEXLOWER.encode(&digest.finalize()), stat))
}

/// `name`, or the first numbered one that is free.
fn unique(name: &str, taken: &mut HashSet<String>) -> String {
    let candidates = std::iter::once(name.to_owned()).chain(files::numbered(name));
    let free = candidates.into_iter().find(|name| !taken.contains(name));
    // The receiver numbers files of one name as well.
    let name = free.unwrap_or_else(|| name.to_owned());
    taken.insert(name.clone());
    name
}

fn problem(skipped: Skipped) -> Problem {
    let reason = match skipped.reason {
        "link_outside" | "link_target" => "symlink",
        reason => reason,
    };
    Problem { path: skipped.path, reason: reason.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems(problems: &[Problem]) -> Vec<(&str, &str)> {
        problems.iter().map(|it| (it.path.as_str(), it.reason.as_str())).collect()
    }

    #[test]
    fn directories_are_flattened_and_what_cannot_be_sent_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().canonicalize().unwrap();
        let make = |path: &str, content: &str| {
            let path = root.join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            files::write_atomic(&path, content.as_bytes(), 0o644).unwrap();
        };
        make("a/x.txt", "one");
        make("a/deep/x.txt", "two");
        make("a/empty", "");
        make("b/x.txt", "three");
        std::os::unix::fs::symlink("x.txt", root.join("a/link")).unwrap();
        std::os::unix::fs::symlink("/etc/passwd", root.join("a/out")).unwrap();
        let reader = Reader::own();
        let gone = CancellationToken::new();
        let found = walk(&reader, &[root.join("a"), root.join("b/x.txt")], &gone).unwrap();
        let names: Vec<_> = found.files.iter().map(|file| (file.path.as_str(), file.name.as_str())).collect();
        assert_eq!(names, [("a/x.txt", "x.txt"), ("a/deep/x.txt", "x (1).txt"), ("x.txt", "x (2).txt")]);
        let (offered, left) = hash(&reader, found, &gone);
        assert_eq!(problems(&left), [("a/empty", "empty"), ("a/link", "symlink"), ("a/out", "symlink")]);
        let first = &offered[0].file;
        assert_eq!(first.sha256, "7692c3ad3540bb803c020b3aee66cd8887123234ea0c6e7143c0add73ff431ed");
        assert_eq!((first.size, first.file_type.as_str()), (3, "text/plain"));

        for (path, message) in [("a/empty", "nothing to send: empty (empty)"), ("none", "does not exist")] {
            let error = walk(&reader, &[root.join(path)], &gone).err().unwrap();
            assert!(error.code == Code::FileNotFound && error.message.contains(message), "{error:?}");
        }
    }

    #[test]
    fn a_file_that_shrank_or_went_away_is_a_problem() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().canonicalize().unwrap();
        for name in ["gone", "shrunk", "there"] {
            files::write_atomic(&root.join(name), b"content", 0o644).unwrap();
        }
        let reader = Reader::own();
        let gone = CancellationToken::new();
        let paths: Vec<_> = ["gone", "shrunk", "there"].iter().map(|name| root.join(name)).collect();
        let found = walk(&reader, &paths, &gone).unwrap();
        std::fs::remove_file(root.join("gone")).unwrap();
        files::write_atomic(&root.join("shrunk"), b"", 0o644).unwrap();
        let (offered, left) = hash(&reader, found, &gone);
        assert_eq!(problems(&left), [("gone", "not_found"), ("shrunk", "empty")]);
        assert_eq!((offered.len(), offered[0].path.as_str()), (1, "there"));
    }
}
