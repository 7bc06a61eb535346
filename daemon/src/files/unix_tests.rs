#![allow(clippy::disallowed_methods)] // files of the tests themselves need not be atomic

use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};

use super::super::swap::while_swapping;
use super::*;

fn dir() -> (tempfile::TempDir, Dir) {
    let temp = tempfile::tempdir().unwrap();
    let dir = Dir::open(temp.path()).unwrap();
    (temp, dir)
}

type RenameNew = fn(&Dir, &str, &str) -> io::Result<bool>;

#[test]
fn a11_no_way_of_renaming_replaces_anything() {
    for rename_new in [Dir::rename_new as RenameNew, Dir::link_new, Dir::reserve_new] {
        let (temp, dir) = dir();
        let at = |name: &str| temp.path().join(name);
        fs::write(at("new"), "new").unwrap();
        fs::write(at("old"), "old").unwrap();
        fs::create_dir(at("dir")).unwrap();
        symlink("nowhere", at("dangling")).unwrap();
        for taken in ["old", "dir", "dangling"] {
            assert!(!rename_new(&dir, "new", taken).unwrap(), "{taken}");
        }
        assert_eq!(fs::read(at("old")).unwrap(), b"old");
        assert!(rename_new(&dir, "new", "free").unwrap());
        assert_eq!(fs::read(at("free")).unwrap(), b"new");
        assert!(!at("new").exists() && !at("nowhere").exists());
        assert_eq!(rename_new(&dir, "gone", "x").unwrap_err().kind(), io::ErrorKind::NotFound);
        assert!(!at("x").exists());
    }
}

#[test]
fn a7_no_link_is_followed_step_by_step_either() {
    let (temp, dir) = dir();
    let at = |name: &str| temp.path().join(name);
    fs::create_dir_all(at("a/b/c")).unwrap();
    fs::create_dir(at("elsewhere")).unwrap();
    fs::create_dir(at("elsewhere/b")).unwrap();
    symlink("elsewhere", at("link")).unwrap();
    symlink("../elsewhere", at("a/link")).unwrap();
    symlink("nowhere", at("dangling")).unwrap();
    fs::write(at("file"), "").unwrap();

    let stepwise = |path: &str| {
        let fd = open_stepwise(dir.file.as_fd(), Path::new(path), OPEN_DIR, &|_, _| Ok(()))?;
        Dir::new(fd)
    };
    for path in ["a", "a/b", "a/b/c"] {
        let (one, other) = (stepwise(path).unwrap(), dir.open_below(path).unwrap());
        assert_eq!(meta(&one.file).unwrap().ino, meta(&other.file).unwrap().ino);
    }
    for path in ["link", "link/b", "a/link", "a/link/b", "dangling", "file", "file/x", "..", "a/../a", "gone"] {
        assert!(stepwise(path).is_err(), "{path}");
    }
    for path in ["link", "link/b", "a/link", "a/link/b", "dangling", "file", "file/x", "..", "../x", "gone"] {
        assert!(dir.open_below(path).is_err(), "{path}");
    }
}

#[test]
fn a7_a_swapped_component_is_never_followed_step_by_step() {
    let (temp, dir) = dir();
    let at = |name: &str| temp.path().join(name);
    fs::create_dir_all(at("d/e")).unwrap();
    fs::create_dir_all(at("outside/e")).unwrap();
    let outside = fs::metadata(at("outside/e")).unwrap().ino();
    while_swapping(&at("d"), &at("outside"), |_| {
        let opened = open_stepwise(dir.file.as_fd(), Path::new("d/e"), OPEN_DIR, &|_, _| Ok(()));
        opened.map(|fd| assert_ne!(meta(fd).unwrap().ino, outside)).is_ok()
    });
}

#[test]
fn a10_times_that_cannot_be_stored_come_to_the_nearest() {
    let (temp, dir) = dir();
    let file = dir.create("f").unwrap();
    let first = i64::from(i32::MIN) * 1_000_000_000;
    let last = i64::from(u32::MAX) * 1_000_000_000;
    for (given, stored) in [
        (0, 0),
        (1_700_000_000_123_456_789, 1_700_000_000_123_456_789),
        (-1, -1),
        (-1_500_000_000, -1_500_000_000),
        (i64::MIN, first),
        (i64::MAX, last),
    ] {
        set_mtime(&file, given).unwrap();
        assert_eq!(meta(&file).unwrap().mtime_ns, stored, "{given}");
        dir.set_mtime(given).unwrap();
    }
    drop(temp);
}

#[test]
fn the_umask_is_that_of_the_process() {
    let (temp, _) = dir();
    let path = temp.path().join("f");
    File::create(&path).unwrap();
    assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o666 & !umask());
}
