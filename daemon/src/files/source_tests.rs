#![allow(clippy::disallowed_methods)] // files of the tests themselves need not be atomic

use std::fs;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::os::unix::net::UnixListener;

use super::super::swap::while_swapping;
use super::*;

/// Somebody who is neither this process nor root.
const OTHER: u32 = 54_321;
const OTHER_GROUP: u32 = 54_322;

struct Place {
    temp: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        let place = Self { temp: tempfile::tempdir().unwrap() };
        place.mode("", 0o755);
        place
    }

    fn at(&self, name: &str) -> PathBuf {
        self.temp.path().canonicalize().unwrap().join(name)
    }

    fn mode(&self, name: &str, mode: u32) {
        fs::set_permissions(self.at(name), fs::Permissions::from_mode(mode)).unwrap();
    }

    fn dir(&self, name: &str) {
        fs::create_dir_all(self.at(name)).unwrap();
        self.mode(name, 0o755);
    }

    fn file(&self, name: &str, mode: u32) {
        fs::write(self.at(name), name).unwrap();
        self.mode(name, mode);
    }

    fn link(&self, name: &str, target: &str) {
        symlink(target, self.at(name)).unwrap();
    }

    fn fifo(&self, name: &str) {
        rustix::fs::mkfifoat(rustix::fs::CWD, self.at(name), rustix::fs::Mode::from_bits_truncate(0o666)).unwrap();
    }

    /// What `roots` offer, each as `path kind`, and what is skipped, as `path reason`.
    fn walk(&self, reader: &Reader, roots: &[&str]) -> Result<(Vec<String>, Vec<String>)> {
        let roots: Vec<_> = roots.iter().map(|root| self.at(root)).collect();
        let (mut entries, mut skipped) = (Vec::new(), Vec::new());
        walk(
            reader,
            &roots,
            &mut |entry| {
                match entry.kind {
                    offer::Kind::File => {
                        let (mut file, stat) = open_source(reader, &entry.source).unwrap();
                        let mut content = String::new();
                        file.read_to_string(&mut content).unwrap();
                        let offered = (entry.size, entry.mtime_ns, entry.dev, entry.ino);
                        assert_eq!((stat.size, stat.mtime_ns, stat.dev, stat.ino), offered);
                        assert_eq!(content.len() as u64, entry.size);
                    }
                    _ => assert_eq!(entry.size, 0),
                }
                entries.push(format!("{} {:?}", entry.path, entry.kind));
                ControlFlow::Continue(())
            },
            &mut |s| skipped.push(format!("{} {}", s.path, s.reason)),
        )?;
        Ok((entries, skipped))
    }

    #[track_caller]
    fn refused(&self, reader: &Reader, roots: &[&str], reason: &str) {
        assert_eq!(self.walk(reader, roots).unwrap_err().reason(), reason, "{roots:?}");
    }
}

#[test]
fn a_tree_is_offered_in_order() {
    let place = Place::new();
    place.dir("here/tree/b/deep");
    place.dir("here/tree/empty");
    for name in ["tree/z", "tree/a", "tree/b/1", "tree/b/deep/x", "alone"] {
        place.file(&format!("here/{name}"), 0o644);
    }
    place.link("here/tree/l", "b/1");
    let (entries, skipped) = place.walk(&Reader::own(), &["here/tree", "here/alone"]).unwrap();
    let wanted = [
        "tree Dir",
        "tree/a File",
        "tree/l Symlink",
        "tree/z File",
        "tree/b Dir",
        "tree/b/1 File",
        "tree/b/deep Dir",
        "tree/b/deep/x File",
        "tree/empty Dir",
        "alone File",
    ];
    assert_eq!(entries, wanted);
    assert_eq!(skipped, [""; 0]);
}

#[test]
fn roots_are_named_by_their_last_component() {
    let place = Place::new();
    place.dir("here/sub");
    place.file("here/f", 0o644);
    place.link("to-file", "here/f");
    place.link("to-dir", "here");
    place.link("dangling", "nowhere");
    let own = Reader::own();
    let tops = |roots: &[&str]| place.walk(&own, roots).unwrap().0.first().cloned().unwrap();
    assert_eq!(tops(&["here/"]), "here Dir");
    assert_eq!(tops(&["here/."]), "here Dir");
    assert_eq!(tops(&["here/sub/.."]), "here Dir");
    assert_eq!(tops(&["to-file"]), "to-file File");
    assert_eq!(tops(&["to-dir"]), "to-dir Dir");
    assert_eq!(place.walk(&own, &["to-dir"]).unwrap().0.len(), 3);

    place.dir("there");
    place.file("there/f", 0o644);
    place.refused(&own, &["here/f", "there/f"], "same_name");
    place.refused(&own, &["here/f", "here/f"], "same_name");
    place.refused(&own, &["gone"], "not_found");
    place.refused(&own, &["dangling"], "not_found");
    place.refused(&own, &["here/f/x"], "not_a_directory");
    let word = |root: &str| walk(&own, &[root.into()], &mut |_| panic!(), &mut |_| panic!()).unwrap_err().reason();
    assert_eq!(word("relative"), "not_absolute");
    assert_eq!(word("/"), "no_name");
    assert_eq!(word("/dev/null"), "not_a_file");
}

#[test]
fn a10_what_is_no_file_is_skipped_and_never_waited_for() {
    let place = Place::new();
    place.dir("t");
    place.fifo("t/fifo");
    let _socket = UnixListener::bind(place.at("t/socket")).unwrap();
    place.file("t/setuid", 0o6755);
    place.file("t/.kith-abc.part", 0o600);
    let own = Reader::own();
    let (entries, skipped) = place.walk(&own, &["t"]).unwrap();
    assert_eq!(entries, ["t Dir", "t/setuid File"]);
    assert_eq!(skipped, ["t/.kith-abc.part part", "t/fifo special", "t/socket special"]);
    place.refused(&own, &["t/fifo"], "not_a_file");
    assert_eq!(open_source(&own, &place.at("t/fifo")).unwrap_err().reason(), "not_a_file");
    assert_eq!(open_source(&own, &place.at("t")).unwrap_err().reason(), "not_a_file");
}

#[test]
fn a1_to_a6_names_that_cannot_cross_are_skipped() {
    let place = Place::new();
    place.dir("t");
    for name in ["C:x", "a\\b", "nl\n", "con.txt", "dot.", "\u{202e}x", "ok?"] {
        place.file(&format!("t/{name}"), 0o644);
    }
    let latin1 = OsStr::from_bytes(b"\xff");
    fs::write(place.at("t").join(latin1), "").unwrap();
    let (entries, skipped) = place.walk(&Reader::own(), &["t"]).unwrap();
    assert_eq!(entries, ["t Dir", "t/ok? File", "t/\u{202e}x File"]);
    let wanted = [
        "t/C:x name_colon",
        "t/a\\b name_backslash",
        "t/con.txt name_reserved",
        "t/dot. name_trailing_dot",
        "t/nl\n name_control_character",
        "t/\u{fffd} not_utf8",
    ];
    assert_eq!(skipped, wanted);
    for name in ["t/C:x", "t/con.txt"] {
        assert!(matches!(place.walk(&Reader::own(), &[name]), Err(Error::BadName { .. })), "{name}");
    }
}

#[test]
fn a4_a_tree_deeper_than_a_path_may_be() {
    let place = Place::new();
    let mut path = place.at("d");
    for _ in 0..300 {
        fs::create_dir(&path).unwrap();
        path.push("d");
    }
    let (entries, skipped) = place.walk(&Reader::own(), &["d"]).unwrap();
    assert_eq!(entries.len(), kith_proto::limits::PATH_DEPTH);
    assert_eq!(skipped.len(), 1);
    assert!(skipped[0].ends_with(" path_too_deep"));
}

#[test]
fn a5_twins_are_both_offered() {
    let place = Place::new();
    place.dir("t");
    for name in ["readme", "README", "caf\u{e9}", "cafe\u{301}"] {
        place.file(&format!("t/{name}"), 0o644);
    }
    assert_eq!(place.walk(&Reader::own(), &["t"]).unwrap().0.len(), 5);
}

#[test]
fn a9_links_that_leave_the_offer_are_skipped() {
    let place = Place::new();
    place.dir("t/sub");
    place.dir("other");
    place.file("secret", 0o644);
    for (name, target) in [
        ("absolute", "/etc/passwd"),
        ("beside", "../secret"),
        ("up", "../.."),
        ("whole", ".."),
        ("round", "sub/../sub"),
        ("loop", "loop"),
        ("dangling", "sub/gone"),
        ("other", "../other/x"),
        ("sub/top", ".."),
    ] {
        place.link(&format!("t/{name}"), target);
    }
    symlink(OsStr::from_bytes(b"\xff"), place.at("t/raw")).unwrap();
    let links = |roots: &[&str]| {
        let (mut entries, skipped) = place.walk(&Reader::own(), roots).unwrap();
        entries.retain(|entry| entry.ends_with("Symlink"));
        (entries, skipped)
    };
    let (entries, skipped) = links(&["t"]);
    assert_eq!(entries, ["t/dangling Symlink", "t/loop Symlink", "t/sub/top Symlink"]);
    let wanted = [
        "t/absolute link_outside",
        "t/beside link_outside",
        "t/other link_outside",
        "t/raw link_target",
        "t/round link_outside",
        "t/up link_outside",
        "t/whole link_outside",
    ];
    assert_eq!(skipped, wanted);
    assert!(links(&["t", "other"]).0.contains(&"t/other Symlink".to_owned()));
}

#[test]
fn a7_a_directory_swapped_for_a_link_is_not_read_through() {
    let place = Place::new();
    place.dir("t/d");
    place.dir("outside");
    place.file("t/d/f", 0o644);
    fs::write(place.at("outside/f"), "secret").unwrap();
    let own = Reader::own();
    let source = place.at("t/d/f");
    let other = Reader::for_caller(OTHER, vec![]);
    while_swapping(&place.at("t/d"), &place.at("outside"), |n| {
        let reader = if n % 2 == 0 { &own } else { &other };
        let Ok((mut file, _)) = open_source(reader, &source) else { return false };
        let mut content = String::new();
        file.read_to_string(&mut content).unwrap();
        assert_eq!(content, "t/d/f");
        true
    });
}

#[test]
fn f45_a_caller_gets_what_the_caller_could_read() {
    let place = Place::new();
    place.dir("t/closed");
    place.dir("t/unlisted");
    place.file("t/open", 0o644);
    place.file("t/private", 0o600);
    place.file("t/group", 0o640);
    place.file("t/closed/f", 0o644);
    place.file("t/unlisted/f", 0o644);
    place.mode("t/closed", 0o700);
    place.mode("t/unlisted", 0o711);
    let gid = os::stat(&place.at("t/group")).unwrap().gid;

    let stranger = Reader::for_caller(OTHER, vec![OTHER_GROUP]);
    let (entries, skipped) = place.walk(&stranger, &["t"]).unwrap();
    assert_eq!(entries, ["t Dir", "t/open File"]);
    let wanted = ["t/group unreadable", "t/private unreadable", "t/closed unreadable", "t/unlisted unreadable"];
    assert_eq!(skipped, wanted);
    for name in ["t/private", "t/group", "t/closed/f", "t/closed/gone", "t/closed", "t/gone"] {
        place.refused(&stranger, &[name], "denied");
    }
    for name in ["t/private", "t/group", "t/closed/f"] {
        assert_eq!(open_source(&stranger, &place.at(name)).unwrap_err().reason(), "denied", "{name}");
    }
    // Searchable but not listable, as for the kernel.
    open_source(&stranger, &place.at("t/unlisted/f")).unwrap();

    let member = Reader::for_caller(OTHER, vec![OTHER_GROUP, gid]);
    open_source(&member, &place.at("t/group")).unwrap();
    open_source(&member, &place.at("t/private")).unwrap_err();

    let root = Reader::for_caller(0, vec![0]);
    open_source(&root, &place.at("t/private")).unwrap();
    assert!(!root.is_for_other());

    if os::own_uid() != 0 {
        eprintln!("skipped: files of another owner need root");
        return;
    }
    let owner = stranger;
    chown(place.at("t/private"), Some(OTHER), None).unwrap();
    open_source(&owner, &place.at("t/private")).unwrap();
    // An owner whom the mode shuts out is not let in as one of the others.
    place.mode("t/private", 0o044);
    open_source(&owner, &place.at("t/private")).unwrap_err();
    open_source(&Reader::for_caller(OTHER + 1, vec![]), &place.at("t/private")).unwrap();
}

#[cfg(target_os = "linux")]
#[test]
fn f45_an_access_list_is_not_mistaken_for_group_rights() {
    let place = Place::new();
    place.dir("t");
    let named = |path: &str, user: u32, rights: u16, other: u16| {
        let mut acl = 2_u32.to_le_bytes().to_vec();
        let nobody = u32::MAX;
        // user:: user:<user>: group:: mask:: other::
        for (tag, rights, id) in
            [(1_u16, 6, nobody), (2, rights, user), (4, 0, nobody), (0x10, 4, nobody), (0x20, other, nobody)]
        {
            acl.extend(tag.to_le_bytes());
            acl.extend(u16::to_le_bytes(rights));
            acl.extend(id.to_le_bytes());
        }
        place.file(path, 0o600);
        let name = "system.posix_acl_access";
        rustix::fs::setxattr(place.at(path), name, &acl, rustix::fs::XattrFlags::empty())
    };
    // The mode of the first says that its group may read it, that of the second that everybody may.
    if let Err(e) = named("t/group", OTHER + 1, 4, 0).and_then(|()| named("t/all", OTHER, 0, 4)) {
        eprintln!("skipped: no access control lists here: {e}");
        return;
    }
    let meta = os::stat(&place.at("t/group")).unwrap();
    assert_eq!((meta.mode, os::stat(&place.at("t/all")).unwrap().mode), (0o640, 0o644));
    let caller = Reader::for_caller(OTHER, vec![meta.gid]);
    for name in ["t/group", "t/all"] {
        assert_eq!(open_source(&caller, &place.at(name)).unwrap_err().reason(), "denied", "{name}");
    }
}

#[test]
fn a_walk_ends_when_it_is_told_to() {
    let place = Place::new();
    place.dir("t/d");
    place.file("t/a", 0o644);
    let mut seen = 0;
    let mut sink = |_| {
        seen += 1;
        if seen == 2 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    };
    walk(&Reader::own(), &[place.at("t"), place.at("t/d")], &mut sink, &mut |_| panic!()).unwrap();
    assert_eq!(seen, 2);
}
