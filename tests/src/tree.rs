//! Directory trees: a sample with every kind of entry that is carried, and whether two trees are the same.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use crate::random::Random;

/// What is kept of an entry on its way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Entry {
    /// A file: its size, BLAKE3, modification time in nanoseconds, and whether it may be executed.
    File {
        /// In bytes.
        size: u64,
        /// Of its content.
        hash: blake3::Hash,
        /// In nanoseconds since 1970.
        modified: i128,
        /// By its owner.
        executable: bool,
    },
    /// A directory.
    Directory,
    /// A symbolic link, and where it leads.
    Link(PathBuf),
    /// Something that is not carried.
    Other,
}

/// Every entry below `root`, by its path relative to it.
pub fn list(root: &Path) -> io::Result<BTreeMap<PathBuf, Entry>> {
    let mut entries = BTreeMap::new();
    let mut waiting = vec![root.to_owned()];
    while let Some(dir) = waiting.pop() {
        for entry in fs::read_dir(&dir)? {
            let path = entry?.path();
            let entry = look(&path)?;
            if entry == Entry::Directory {
                waiting.push(path.clone());
            }
            entries.insert(path.strip_prefix(root).expect("below the root").to_owned(), entry);
        }
    }
    Ok(entries)
}

fn look(path: &Path) -> io::Result<Entry> {
    let meta = fs::symlink_metadata(path)?;
    Ok(if meta.is_dir() {
        Entry::Directory
    } else if meta.is_symlink() {
        Entry::Link(fs::read_link(path)?)
    } else if meta.is_file() {
        let modified = i128::from(meta.mtime()) * 1_000_000_000 + i128::from(meta.mtime_nsec());
        let executable = meta.permissions().mode() & 0o100 != 0;
        let mut hasher = blake3::Hasher::new();
        io::copy(&mut File::open(path)?, &mut hasher)?;
        Entry::File { size: meta.len(), hash: hasher.finalize(), modified, executable }
    } else {
        Entry::Other
    })
}

/// Why two trees are not the same, if they are not; at most the first ten reasons.
pub fn differences(expected: &Path, found: &Path) -> io::Result<Vec<String>> {
    let (expected, found) = (list(expected)?, list(found)?);
    let missing = expected.iter().filter_map(|(path, entry)| match found.get(path) {
        None => Some(format!("missing: {}", path.display())),
        Some(other) if other != entry => Some(format!("{}: {other:?} instead of {entry:?}", path.display())),
        Some(_) => None,
    });
    let added =
        found.keys().filter(|path| !expected.contains_key(*path)).map(|path| format!("new: {}", path.display()));
    Ok(missing.chain(added).take(10).collect())
}

/// Panics, with the differences, unless both trees are the same.
#[track_caller]
pub fn assert_same(expected: &Path, found: &Path) {
    let differences = differences(expected, found).expect("both trees can be read");
    assert!(differences.is_empty(), "{} is not {}:\n{}", found.display(), expected.display(), differences.join("\n"));
}

/// Makes a small tree at `root` with every kind of entry that is carried: empty and large files, nested and empty
/// directories, an executable, links, names from several alphabets, times in the past with nanoseconds.
pub fn sample(root: &Path, seed: u64) -> io::Result<()> {
    let mut random = Random::seeded(seed);
    for dir in ["", "photos/2024/summer", "notes", "empty", "deep/er/and/deep/er"] {
        fs::create_dir_all(root.join(dir))?;
    }
    for (name, size) in [
        ("readme.txt", 1200),
        ("empty.txt", 0),
        ("photos/one.jpg", 200_000),
        ("photos/2024/summer/beach at dawn.jpg", 3_000_001),
        ("notes/résumé 日本語 😀.md", 4096),
        ("notes/.hidden", 10),
        ("deep/er/and/deep/er/found.bin", (1 << 20) + 1),
        ("run.sh", 60),
    ] {
        let path = root.join(name);
        fs::write(&path, random.bytes(size))?;
        let time = Duration::new(1_500_000_000 + random.within(0..200_000_000), random.within(0..1_000_000_000) as u32);
        File::options().write(true).open(&path)?.set_modified(SystemTime::UNIX_EPOCH + time)?;
    }
    fs::set_permissions(root.join("run.sh"), fs::Permissions::from_mode(0o755))?;
    symlink("readme.txt", root.join("link to readme"))?;
    symlink("../photos/2024", root.join("notes/pictures"))
}

/// Makes `count` files of `size` bytes each at `root`, a hundred to a directory.
pub fn many(root: &Path, count: usize, size: usize, seed: u64) -> io::Result<()> {
    let mut random = Random::seeded(seed);
    for i in 0..count {
        let dir = root.join(format!("d{:03}", i / 100));
        if i % 100 == 0 {
            fs::create_dir_all(&dir)?;
        }
        fs::write(dir.join(format!("f{i:05}.bin")), random.bytes(size))?;
    }
    Ok(())
}

/// Makes one file of `size` bytes that do not compress.
pub fn large(path: &Path, size: u64, seed: u64) -> io::Result<()> {
    let mut random = Random::seeded(seed);
    let mut file = File::create(path)?;
    let mut left = size;
    while left > 0 {
        let len = left.min(1 << 20);
        io::Write::write_all(&mut file, &random.bytes(len as usize))?;
        left -= len;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sees_what_differs() {
        let dir = tempfile::tempdir().unwrap();
        let (a, b) = (dir.path().join("a"), dir.path().join("b"));
        sample(&a, 1).unwrap();
        sample(&b, 1).unwrap();
        assert_same(&a, &b);
        fs::write(b.join("notes/new"), "x").unwrap();
        fs::remove_dir(b.join("empty")).unwrap();
        File::options().write(true).open(b.join("readme.txt")).unwrap().set_modified(SystemTime::now()).unwrap();
        fs::remove_file(b.join("link to readme")).unwrap();
        symlink("elsewhere", b.join("link to readme")).unwrap();
        fs::set_permissions(b.join("run.sh"), fs::Permissions::from_mode(0o644)).unwrap();
        assert_eq!(differences(&a, &b).unwrap().len(), 5);
    }
}
