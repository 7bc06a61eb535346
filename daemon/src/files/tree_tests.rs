#![allow(clippy::disallowed_methods)] // files of the tests themselves need not be atomic

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, symlink};
use std::process::Command;

use super::super::swap::while_swapping;
use super::*;

fn wire(text: &str) -> WirePath {
    WirePath::parse(text).unwrap()
}

/// A tree in a directory that has other things beside it.
struct Place {
    temp: tempfile::TempDir,
    tree: Tree,
}

impl Place {
    fn new() -> Self {
        let temp = tempfile::tempdir().unwrap();
        let tree = Tree::open(&temp.path().join("new/tree")).unwrap();
        fs::create_dir(temp.path().join("outside")).unwrap();
        Self { temp, tree }
    }

    fn at(&self, name: &str) -> PathBuf {
        self.tree.path().join(name)
    }

    fn outside(&self) -> PathBuf {
        self.temp.path().join("outside")
    }

    fn write(&self, name: &str, content: &str) {
        fs::write(self.at(name), content).unwrap();
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.at(name)).unwrap()
    }

    fn receive(&self, path: &str, content: &str, conflict: Conflict) -> Result<Placed> {
        receive(&self.tree, path, content, conflict)
    }

    /// Every name in the tree but its own, sorted.
    fn names(&self) -> Vec<String> {
        let mut names = Vec::new();
        let mut pending = vec![self.tree.path().to_owned()];
        while let Some(dir) = pending.pop() {
            for entry in fs::read_dir(dir).unwrap().map(Result::unwrap) {
                if entry.file_type().unwrap().is_dir() {
                    pending.push(entry.path());
                }
                names.push(entry.path().strip_prefix(self.tree.path()).unwrap().to_str().unwrap().to_owned());
            }
        }
        names.sort();
        names
    }
}

fn receive(tree: &Tree, path: &str, content: &str, conflict: Conflict) -> Result<Placed> {
    let part = tree.part(&wire(path), "t1", true)?;
    part.file().write_all_at(content.as_bytes(), 0).map_err(|e| Error::from_io(path, e))?;
    part.finish(1_600_000_000_000_000_000, false)?;
    part.sync()?;
    part.place(conflict)
}

fn placed_as(path: &str) -> Placed {
    Placed::As(wire(path))
}

#[test]
fn a_file_comes_in() {
    let place = Place::new();
    assert_eq!(place.tree.make_dirs(&wire("a/b")).unwrap(), [wire("a"), wire("a/b")]);
    assert_eq!(place.tree.make_dirs(&wire("a/b")).unwrap(), []);
    assert_eq!(place.tree.make_dirs(&wire("a/c")).unwrap(), [wire("a/c")]);
    let path = wire("a/b/f.txt");
    let part = place.tree.part(&path, "t1", false).unwrap();
    assert_eq!(part.path(), &path);
    part.reserve(5).unwrap();
    part.file().write_all_at(b"lo", 3).unwrap();
    part.file().write_all_at(b"hel", 0).unwrap();
    assert_eq!(place.tree.lookup(&path).unwrap(), None);
    part.finish(1_600_000_000_123_456_789, false).unwrap();
    place.tree.sync_all().unwrap();
    assert_eq!(part.place(Conflict::Rename).unwrap(), Placed::As(path.clone()));
    place.tree.set_dir_mtime(&wire("a"), 1_500_000_000_000_000_000).unwrap();
    place.tree.sync_dirs([&wire("a"), &path, &wire("gone/x")]).unwrap();

    let existing = Existing { kind: Kind::File, size: 5, mtime_ns: 1_600_000_000_123_456_789 };
    assert_eq!(place.tree.lookup(&path).unwrap(), Some(existing));
    assert_eq!(place.tree.lookup(&wire("a")).unwrap().unwrap().mtime_ns, 1_500_000_000_000_000_000);
    assert_eq!(place.tree.lookup(&wire("gone/x")).unwrap(), None);
    let mut content = String::new();
    std::io::Read::read_to_string(&mut place.tree.open_existing(&path).unwrap(), &mut content).unwrap();
    assert_eq!(content, "hello");
    assert_eq!(place.names(), ["a", "a/b", "a/b/f.txt", "a/c"]);
    assert!(place.tree.free_bytes().unwrap() > 0);
}

#[test]
fn a_tree_is_a_directory_by_an_absolute_path() {
    let place = Place::new();
    place.write("file", "");
    let reason = |path: &Path| Tree::open(path).unwrap_err().reason();
    assert_eq!(reason(Path::new("relative")), "not_absolute");
    assert_eq!(reason(&place.at("file")), "not_a_directory");
    assert_eq!(reason(&place.at("file/x")), "not_a_directory");
    // The user may have set up a link to a larger disk.
    symlink(place.outside(), place.temp.path().join("link")).unwrap();
    Tree::open(&place.temp.path().join("link/deep/er")).unwrap();
    assert!(place.outside().join("deep/er").is_dir());
}

#[test]
fn a_part_is_resumed_or_begun_again() {
    let place = Place::new();
    let path = wire("f");
    let part = place.tree.part(&path, "t1", false).unwrap();
    part.file().write_all_at(b"half", 0).unwrap();
    drop(part);
    let temp = place.at(".kith-t1.part");
    assert_eq!(fs::metadata(&temp).unwrap().mode() & 0o7777, 0o600);

    let part = place.tree.part(&path, "t1", false).unwrap();
    assert_eq!(part.file().metadata().unwrap().len(), 4);
    part.finish(0, true).unwrap();
    drop(part);
    let part = place.tree.part(&path, "t1", false).unwrap();
    assert_eq!(part.file().metadata().unwrap().mode() & 0o7777, 0o600);
    drop(part);
    let part = place.tree.part(&path, "t1", true).unwrap();
    assert_eq!(part.file().metadata().unwrap().len(), 0);
    let other = place.tree.part(&path, "t2", true).unwrap();
    assert_eq!(place.names(), [".kith-t1.part", ".kith-t2.part"]);
    part.discard().unwrap();
    other.discard().unwrap();
    place.tree.remove_part(&path, "t1").unwrap();
    place.tree.remove_part(&wire("gone/f"), "t1").unwrap();
    assert_eq!(place.names(), [""; 0]);
    assert_eq!(place.tree.part(&path, "../x", true).unwrap_err().reason(), "part_name");
    assert_eq!(place.tree.part(&wire("gone/f"), "t1", true).unwrap_err().reason(), "not_found");
}

#[test]
fn a_part_prepared_by_someone_else_is_not_written_to() {
    let place = Place::new();
    let (path, temp) = (wire("f"), place.at(".kith-t1.part"));
    let victim = place.outside().join("victim");
    fs::write(&victim, "kept").unwrap();
    let refused = || {
        assert_eq!(place.tree.part(&path, "t1", false).unwrap_err().reason(), "not_ours");
        place.tree.part(&path, "t1", true).unwrap().file().write_all_at(b"x", 0).unwrap();
        place.tree.remove_part(&path, "t1").unwrap();
        assert_eq!(fs::read(&victim).unwrap(), b"kept");
    };
    symlink(&victim, &temp).unwrap();
    refused();
    if fs::hard_link(&victim, &temp).is_ok() {
        refused();
    }
    rustix::fs::mkfifoat(rustix::fs::CWD, &temp, rustix::fs::Mode::RWXU).unwrap();
    refused();
    fs::create_dir(&temp).unwrap();
    assert!(place.tree.part(&path, "t1", false).is_err() && place.tree.part(&path, "t1", true).is_err());
    fs::remove_dir(&temp).unwrap();

    for name in [".kith-x.part", ".KITH-x.part", ".kith-x.part/f"] {
        let link = place.tree.link(&wire(name), "x", Conflict::Rename);
        let made = place.tree.make_dirs(&wire(name)).map(|_| ());
        assert_eq!(made.unwrap_err().reason(), "part_name");
        assert!(link.is_err());
    }
}

#[test]
fn a5_twins_arrive_both() {
    let place = Place::new();
    for name in ["readme", "README", "Readme", "caf\u{e9}", "cafe\u{301}"] {
        place.receive(name, name, Conflict::Rename).unwrap();
    }
    let mut contents: Vec<_> = place.names().iter().map(|name| place.read(name)).collect();
    contents.sort();
    assert_eq!(contents, ["README", "Readme", "cafe\u{301}", "caf\u{e9}", "readme"]);
}

#[test]
fn a7_symlinks_in_the_way_are_not_followed() {
    let place = Place::new();
    fs::write(place.outside().join("f"), "secret").unwrap();
    symlink(place.outside(), place.at("out")).unwrap();
    symlink("nowhere", place.at("dangling")).unwrap();
    symlink(place.outside().join("f"), place.at("file")).unwrap();
    for top in ["out", "dangling", "file"] {
        let below = wire(top).join("f").unwrap();
        let reasons = [
            place.tree.make_dirs(&wire(top)).unwrap_err().reason(),
            place.tree.make_dirs(&below).unwrap_err().reason(),
            place.tree.part(&below, "t1", true).unwrap_err().reason(),
            place.tree.link(&below, "f", Conflict::Overwrite).unwrap_err().reason(),
            place.tree.lookup(&below).unwrap_err().reason(),
            place.tree.open_existing(&below).unwrap_err().reason(),
            place.tree.set_dir_mtime(&wire(top), 0).unwrap_err().reason(),
            place.tree.remove_part(&below, "t1").unwrap_err().reason(),
        ];
        assert_eq!(reasons, ["not_a_directory"; 8], "{top}");
        assert!(!place.tree.remove_empty_dir(&wire(top)).unwrap());
        assert!(!place.tree.remove_empty_dir(&below).unwrap());
        assert_eq!(place.tree.lookup(&wire(top)).unwrap().unwrap().kind, Kind::Symlink);
        assert_eq!(place.tree.open_existing(&wire(top)).unwrap_err().reason(), "is_symlink");
    }
    assert_eq!(place.receive("file", "new", Conflict::Overwrite).unwrap(), placed_as("file"));
    assert_eq!(place.read("file"), "new");
    assert_eq!(fs::read_dir(place.outside()).unwrap().count(), 1);
    assert_eq!(fs::read(place.outside().join("f")).unwrap(), b"secret");
}

#[test]
fn a7_a_swapped_component_leads_nothing_outside() {
    let place = Place::new();
    fs::create_dir(place.outside().join("e")).unwrap();
    place.tree.make_dirs(&wire("d/e")).unwrap();
    while_swapping(&place.at("d"), &place.outside(), |n| {
        // Half the time without directories known from before.
        let fresh = Tree::open(place.tree.path()).unwrap();
        let tree = if n % 2 == 0 { &fresh } else { &place.tree };
        let act = || {
            tree.make_dirs(&wire("d/e"))?;
            let path = wire("d/e").join(&format!("f{n}")).unwrap();
            let part = tree.part(&path, "t1", true)?;
            part.finish(0, false)?;
            part.place(Conflict::Overwrite)?;
            tree.link(&wire("d/e/l"), "e/x", Conflict::Overwrite)?;
            tree.remove_empty_dir(&wire("d/e"))
        };
        act().is_ok()
    });
    assert_eq!(fs::read_dir(place.outside()).unwrap().count(), 1);
    assert_eq!(fs::read_dir(place.outside().join("e")).unwrap().count(), 0);
}

#[test]
fn a8_files_and_directories_do_not_replace_each_other() {
    let place = Place::new();
    place.tree.make_dirs(&wire("dir/sub")).unwrap();
    place.receive("file", "old", Conflict::Rename).unwrap();
    for (n, conflict) in [Conflict::Rename, Conflict::Overwrite, Conflict::Newer].into_iter().enumerate() {
        let numbered = format!("dir ({})", n + 1);
        assert_eq!(place.receive("dir", "new", conflict).unwrap(), placed_as(&numbered));
    }
    assert_eq!(place.receive("dir", "new", Conflict::Skip).unwrap(), Placed::Kept);
    assert_eq!(place.tree.link(&wire("dir"), "x", Conflict::Overwrite).unwrap(), placed_as("dir (4)"));
    assert_eq!(place.tree.make_dirs(&wire("file")).unwrap_err().reason(), "not_a_directory");
    assert_eq!(place.tree.make_dirs(&wire("file/sub")).unwrap_err().reason(), "not_a_directory");
    assert_eq!(place.tree.part(&wire("file/sub"), "t1", true).unwrap_err().reason(), "not_a_directory");
    assert_eq!(place.tree.open_existing(&wire("dir")).unwrap_err().reason(), "not_a_file");
    assert_eq!(place.read("file"), "old");
    assert_eq!(place.names(), ["dir", "dir (1)", "dir (2)", "dir (3)", "dir (4)", "dir/sub", "file"]);
}

#[test]
fn a9_links_are_made_if_they_stay_inside() {
    let place = Place::new();
    place.tree.make_dirs(&wire("a/b")).unwrap();
    let link = |path: &str, target: &str, conflict| place.tree.link(&wire(path), target, conflict);
    for (path, target) in [("l", "/etc"), ("l", ".."), ("a/b/l", "../../../x"), ("l", "a/b/../../.."), ("l", "")] {
        assert_eq!(link(path, target, Conflict::Rename).unwrap_err().reason(), "link_outside", "{target}");
    }
    // A chain, a loop, and a file through it.
    assert_eq!(link("a/b/up", "../..", Conflict::Rename).unwrap(), placed_as("a/b/up"));
    assert_eq!(link("loop", "loop", Conflict::Rename).unwrap(), placed_as("loop"));
    assert_eq!(place.tree.part(&wire("a/b/up/f"), "t1", true).unwrap_err().reason(), "not_a_directory");
    assert_eq!(place.tree.make_dirs(&wire("loop/f")).unwrap_err().reason(), "not_a_directory");

    assert_eq!(link("l", "a", Conflict::Rename).unwrap(), placed_as("l"));
    assert_eq!(link("l", "a", Conflict::Rename).unwrap(), placed_as("l"));
    assert_eq!(link("l", "a/b", Conflict::Rename).unwrap(), placed_as("l (1)"));
    assert_eq!(link("l", "a/b", Conflict::Skip).unwrap(), Placed::Kept);
    assert_eq!(link("l", "a/b", Conflict::Newer).unwrap(), Placed::Kept);
    assert_eq!(link("l", "a/b", Conflict::Overwrite).unwrap(), placed_as("l"));
    assert_eq!(fs::read_link(place.at("l")).unwrap(), Path::new("a/b"));
    assert_eq!(place.names(), ["a", "a/b", "a/b/up", "l", "l (1)", "loop"]);
}

#[test]
fn a10_only_the_executable_bit_and_sane_times_arrive() {
    let place = Place::new();
    let umask = 0o777
        & !{
            fs::create_dir(place.at("mode")).unwrap();
            fs::metadata(place.at("mode")).unwrap().mode()
        };
    for (n, (mtime, executable)) in
        [(i64::MIN, false), (-1, true), (0, false), (i64::MAX, true)].into_iter().enumerate()
    {
        let path = wire(&format!("f{n}"));
        let part = place.tree.part(&path, "t1", true).unwrap();
        part.finish(mtime, executable).unwrap();
        part.place(Conflict::Rename).unwrap();
        let mode = fs::metadata(place.at(path.as_str())).unwrap().mode() & 0o7777;
        assert_eq!(mode, if executable { 0o777 } else { 0o666 } & !umask, "{mode:o}");
        let existing = place.tree.lookup(&path).unwrap().unwrap();
        assert!((-3_000_000_000..5_000_000_000).contains(&(existing.mtime_ns / 1_000_000_000)));
    }
    rustix::fs::mkfifoat(rustix::fs::CWD, place.at("fifo"), rustix::fs::Mode::RWXU).unwrap();
    assert_eq!(place.tree.lookup(&wire("fifo")).unwrap().unwrap().kind, Kind::Special);
    assert_eq!(place.tree.open_existing(&wire("fifo")).unwrap_err().reason(), "not_a_file");
    assert_eq!(place.receive("fifo", "x", Conflict::Overwrite).unwrap(), placed_as("fifo (1)"));
}

#[test]
fn a11_what_exists_is_kept_unless_the_user_said_otherwise() {
    let place = Place::new();
    let old = 1_600_000_000_000_000_000;
    let set_time = |mtime| {
        let time = std::time::SystemTime::UNIX_EPOCH + std::time::Duration::from_nanos(mtime);
        File::options().write(true).open(place.at("f.txt")).unwrap().set_modified(time).unwrap();
    };
    place.write("f.txt", "old");
    assert_eq!(place.receive("f.txt", "1", Conflict::Rename).unwrap(), placed_as("f (1).txt"));
    assert_eq!(place.receive("f.txt", "2", Conflict::Rename).unwrap(), placed_as("f (2).txt"));
    assert_eq!(place.receive("f.txt", "3", Conflict::Skip).unwrap(), Placed::Kept);
    for mtime in [old, old + 1] {
        set_time(mtime);
        assert_eq!(place.receive("f.txt", "4", Conflict::Newer).unwrap(), Placed::Kept);
    }
    assert_eq!(place.read("f.txt"), "old");
    set_time(old - 1);
    assert_eq!(place.receive("f.txt", "5", Conflict::Newer).unwrap(), placed_as("f.txt"));
    assert_eq!(place.read("f.txt"), "5");
    assert_eq!(place.receive("f.txt", "6", Conflict::Overwrite).unwrap(), placed_as("f.txt"));
    assert_eq!(place.read("f.txt"), "6");
    assert_eq!(place.names(), ["f (1).txt", "f (2).txt", "f.txt"]);
}

#[test]
fn a11_parallel_files_of_one_name_all_arrive() {
    let place = Place::new();
    place.tree.make_dirs(&wire("d")).unwrap();
    std::thread::scope(|scope| {
        for thread in 0..6 {
            let tree = &place.tree;
            scope.spawn(move || {
                for n in 0..40 {
                    let part = tree.part(&wire("d/f.txt"), &format!("{thread}"), true).unwrap();
                    part.file().write_all_at(format!("{thread}-{n}").as_bytes(), 0).unwrap();
                    part.place(Conflict::Rename).unwrap();
                }
            });
        }
    });
    let mut seen = BTreeMap::new();
    for name in place.names().iter().filter(|name| *name != "d") {
        *seen.entry(place.read(name)).or_insert(0) += 1;
    }
    assert_eq!(seen.len(), 240);
    assert!(seen.values().all(|count| *count == 1));
}

#[test]
fn a13_what_was_there_before_survives_a_cancel() {
    let place = Place::new();
    place.tree.make_dirs(&wire("old")).unwrap();
    place.write("old/kept", "");
    let mut made = place.tree.make_dirs(&wire("old/new/deep")).unwrap();
    let path = wire("old/new/deep/f");
    drop(place.tree.part(&path, "t1", true).unwrap());
    place.tree.make_dirs(&wire("old/other")).unwrap();

    assert!(!place.tree.remove_empty_dir(&wire("old/new/deep")).unwrap());
    place.tree.remove_part(&path, "t1").unwrap();
    while let Some(dir) = made.pop() {
        assert!(place.tree.remove_empty_dir(&dir).unwrap());
        assert!(!place.tree.remove_empty_dir(&dir).unwrap());
    }
    assert!(!place.tree.remove_empty_dir(&wire("old/kept")).unwrap());
    assert_eq!(place.names(), ["old", "old/kept", "old/other"]);
}

#[test]
fn c21_few_directories_stay_open() {
    let place = Place::new();
    for n in 0..200 {
        let dir = wire(&format!("d{n}"));
        place.tree.make_dirs(&dir).unwrap();
        place.receive(dir.join("f").unwrap().as_str(), "x", Conflict::Rename).unwrap();
    }
    assert!(place.tree.recent.lock().unwrap().len() <= OPEN_DIRS);
    assert_eq!(place.names().len(), 400);
}

#[test]
fn c23_a_directory_removed_meanwhile() {
    let place = Place::new();
    place.tree.make_dirs(&wire("d/e")).unwrap();
    place.receive("d/e/f", "1", Conflict::Rename).unwrap();
    let part = place.tree.part(&wire("d/e/g"), "t1", true).unwrap();
    fs::remove_dir_all(place.at("d")).unwrap();
    assert_eq!(part.place(Conflict::Rename).unwrap_err().reason(), "not_found");
    assert_eq!(place.receive("d/e/f", "2", Conflict::Rename).unwrap_err().reason(), "not_found");
    // Whoever makes it anew goes on at once.
    fs::create_dir_all(place.at("d/e")).unwrap();
    place.tree.link(&wire("d/e/l"), "f", Conflict::Rename).unwrap();
    place.receive("d/e/f", "3", Conflict::Rename).unwrap();
    assert_eq!(place.read("d/e/f"), "3");
    fs::remove_dir_all(place.tree.path()).unwrap();
    assert_eq!(place.receive("f", "4", Conflict::Rename).unwrap_err().reason(), "not_found");
    assert_eq!(place.tree.make_dirs(&wire("x")).unwrap_err().reason(), "not_found");
}

/// A small file system of its own, for as long as this lives.
struct Tmpfs(tempfile::TempDir);

impl Tmpfs {
    fn mount(size: &str) -> Option<Self> {
        let temp = tempfile::tempdir().unwrap();
        let mounted = os::own_uid() == 0 && run("mount", &["-t", "tmpfs", "-o", size, "tmpfs"], temp.path());
        if !mounted {
            eprintln!("skipped: mounting a file system needs root");
        }
        mounted.then(|| Self(temp))
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        run("umount", &[], self.0.path());
    }
}

fn run(program: &str, args: &[&str], path: &Path) -> bool {
    Command::new(program).args(args).arg(path).status().is_ok_and(|status| status.success())
}

#[test]
fn c23_a_full_disk_is_said_to_be_full() {
    let Some(disk) = Tmpfs::mount("size=1m,nr_inodes=100") else { return };
    let tree = Tree::open(&disk.0.path().join("tree")).unwrap();
    receive(&tree, "before", "kept", Conflict::Rename).unwrap();
    let free = tree.free_bytes().unwrap();
    assert!(free < 1 << 20);

    let part = tree.part(&wire("big"), "t2", true).unwrap();
    for size in [2 << 20, 10 << 40] {
        assert_eq!(part.reserve(size).unwrap_err().reason(), "no_space");
    }
    assert_eq!(tree.free_bytes().unwrap(), free);
    let mut at = 0;
    let error = loop {
        match part.file().write_all_at(&[7; 65_536], at) {
            Ok(()) => at += 65_536,
            Err(e) => break Error::from_io(part.path(), e),
        }
    };
    assert_eq!(error.reason(), "no_space");
    assert!(at > 500_000);
    drop(part);
    assert_eq!(receive(&tree, "before", "new", Conflict::Overwrite).unwrap_err().reason(), "no_space");

    // The part is still there, and goes on when there is space.
    assert!(run("mount", &["-o", "remount,size=4m"], disk.0.path()));
    let part = tree.part(&wire("big"), "t2", false).unwrap();
    assert!(part.file().metadata().unwrap().len() >= at);
    part.file().write_all_at(&[7; 65_536], at).unwrap();
    part.place(Conflict::Rename).unwrap();
    assert_eq!(fs::read(disk.0.path().join("tree/before")).unwrap(), b"kept");

    // No more files, whatever the free bytes say.
    let reason = (0..200).find_map(|n| receive(&tree, &format!("f{n}"), "", Conflict::Rename).err());
    assert_eq!(reason.unwrap().reason(), "no_space");
}

#[test]
fn c23_a_read_only_disk_is_said_to_be_read_only() {
    let Some(disk) = Tmpfs::mount("size=1m") else { return };
    let tree = Tree::open(disk.0.path()).unwrap();
    assert!(run("mount", &["-o", "remount,ro"], disk.0.path()));
    assert_eq!(Tree::open(disk.0.path()).unwrap_err().reason(), "read_only");
    assert_eq!(Tree::open(&disk.0.path().join("new")).unwrap_err().reason(), "read_only");
    assert_eq!(tree.part(&wire("f"), "t1", true).unwrap_err().reason(), "read_only");
    assert_eq!(tree.make_dirs(&wire("d")).unwrap_err().reason(), "read_only");
}

#[test]
fn c23_another_disk_below_the_tree_is_synced_by_itself() {
    let Some(disk) = Tmpfs::mount("size=1m") else { return };
    let tree = Tree::open(disk.0.path().parent().unwrap()).unwrap();
    let below = wire(disk.0.path().file_name().unwrap().to_str().unwrap()).join("f").unwrap();
    assert!(tree.part(&below, "t1", true).unwrap().sync_alone);
    let beside = Tree::open(disk.0.path()).unwrap();
    assert_eq!(beside.part(&wire("f"), "t1", true).unwrap().sync_alone, !os::SYNCS_FILESYSTEM);
}

#[test]
fn c23_a_directory_that_may_not_be_written_to() {
    if os::own_uid() == 0 {
        eprintln!("skipped: root may write anywhere");
        return;
    }
    let place = Place::new();
    place.tree.make_dirs(&wire("d")).unwrap();
    fs::set_permissions(place.at("d"), fs::Permissions::from_mode(0o555)).unwrap();
    assert_eq!(place.receive("d/f", "", Conflict::Rename).unwrap_err().reason(), "denied");
    assert_eq!(Tree::open(&place.at("d")).unwrap_err().reason(), "denied");
}
