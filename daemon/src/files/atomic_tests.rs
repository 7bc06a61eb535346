#![allow(clippy::disallowed_methods)] // files of the tests themselves need not be atomic

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::PathBuf;

use super::*;

fn place() -> (tempfile::TempDir, impl Fn(&str) -> PathBuf) {
    let temp = tempfile::tempdir().unwrap();
    let path = temp.path().to_owned();
    (temp, move |name: &str| path.join(name))
}

fn names_in(temp: &tempfile::TempDir) -> Vec<String> {
    let mut names: Vec<_> =
        fs::read_dir(temp.path()).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().mode() & 0o7777
}

#[test]
fn a_file_is_replaced_as_a_whole() {
    let (temp, at) = place();
    write_atomic(&at("f"), b"one", 0o644).unwrap();
    assert_eq!((fs::read(at("f")).unwrap(), mode(&at("f"))), (b"one".to_vec(), 0o644));
    write_atomic(&at("f"), b"", 0o600).unwrap();
    assert_eq!((fs::read(at("f")).unwrap(), mode(&at("f"))), (vec![], 0o600));

    fs::write(at("target"), "kept").unwrap();
    symlink("target", at("link")).unwrap();
    write_atomic(&at("link"), b"new", 0o600).unwrap();
    assert_eq!(fs::read(at("target")).unwrap(), b"kept");
    assert_eq!(names_in(&temp), ["f", "link", "target"]);
}

#[test]
fn a_failure_leaves_nothing_behind() {
    let (temp, at) = place();
    fs::create_dir(at("dir")).unwrap();
    assert!(write_atomic(&at("dir"), b"x", 0o600).is_err());
    assert!(create_private(&at("dir"), b"x").is_err());
    assert!(write_atomic(&at("gone/f"), b"x", 0o600).is_err());
    assert!(write_atomic(Path::new("/"), b"x", 0o600).is_err());
    assert!(write_atomic(&at(".."), b"x", 0o600).is_err());
    assert_eq!(names_in(&temp), ["dir"]);
}

#[test]
fn a_reader_sees_the_old_or_the_new() {
    let (_temp, at) = place();
    let (old, new) = (vec![b'o'; 100_000], vec![b'n'; 100_000]);
    write_atomic(&at("f"), &old, 0o600).unwrap();
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            for n in 0..20 {
                write_atomic(&at("f"), if n % 2 == 0 { &new } else { &old }, 0o600).unwrap();
            }
        });
        while !writer.is_finished() {
            let seen = fs::read(at("f")).unwrap();
            assert!(seen == old || seen == new);
        }
    });
}

#[test]
fn a_private_file_is_made_once() {
    let (temp, at) = place();
    create_private(&at("key"), b"secret").unwrap();
    assert_eq!((fs::read(at("key")).unwrap(), mode(&at("key"))), (b"secret".to_vec(), 0o600));
    symlink("nowhere", at("dangling")).unwrap();
    for taken in ["key", "dangling"] {
        assert_eq!(create_private(&at(taken), b"other").unwrap_err().kind(), ErrorKind::AlreadyExists);
    }
    assert_eq!(read_private(&at("key"), 6).unwrap(), b"secret");
    assert_eq!(names_in(&temp), ["dangling", "key"]);
}

#[test]
fn h81_a_private_file_that_is_not_private_is_refused() {
    let (_temp, at) = place();
    let refused = |name: &str, max| read_private(&at(name), max).unwrap_err().kind();
    create_private(&at("key"), b"secret").unwrap();
    for open in [0o644, 0o640, 0o604, 0o660, 0o700, 0o4600] {
        fs::set_permissions(at("key"), fs::Permissions::from_mode(open)).unwrap();
        assert_eq!(refused("key", 6), ErrorKind::PermissionDenied, "{open:o}");
    }
    fs::set_permissions(at("key"), fs::Permissions::from_mode(0o400)).unwrap();
    assert_eq!(read_private(&at("key"), 6).unwrap(), b"secret");
    assert_eq!(refused("key", 5), ErrorKind::InvalidData);

    symlink("key", at("link")).unwrap();
    fs::create_dir(at("dir")).unwrap();
    rustix::fs::mkfifoat(rustix::fs::CWD, at("fifo"), rustix::fs::Mode::RUSR).unwrap();
    assert!(os::is_symlink_refused(&read_private(&at("link"), 6).unwrap_err()));
    assert_eq!(refused("dir", 6), ErrorKind::InvalidData);
    assert_eq!(refused("fifo", 6), ErrorKind::InvalidData);
    assert_eq!(refused("gone", 6), ErrorKind::NotFound);
    if os::own_uid() == 0 {
        std::os::unix::fs::chown(at("key"), Some(54_321), None).unwrap();
        assert_eq!(refused("key", 6), ErrorKind::PermissionDenied);
    }
}
