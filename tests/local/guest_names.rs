//! Names that guests choose: each file is taken, under a name that is safe, in the directory and nowhere else.

use std::fs;
use std::path::Path;

use kith_tests::guest::{File, Window, offering, text as part_of};
use kith_tests::host::Host;
use kith_tests::{PATIENCE, wait};
use serde_json::json;

use crate::hostile::{EVIL, acts, check_shown};
use crate::support::{names, text};

/// Sends a file of each name in one session; the names that they were taken under, in their order.
#[track_caller]
fn taken(window: &Window, version: u32, labels: &[&str]) -> Vec<String> {
    let guest = window.guest(version);
    let session = guest.session(&window.pin);
    let files: Vec<File> = labels.iter().enumerate().map(|(i, label)| File::new(label, &[i as u8; 10])).collect();
    let transmissions = guest.prepared(&session, &files);
    let mut before = window.names();
    let mut taken = Vec::new();
    for (file, transmission) in files.iter().zip(&transmissions) {
        guest.upload(&session, file, transmission).expect(200);
        let now = window.names();
        let new: Vec<&String> = now.iter().filter(|name| !before.contains(name)).collect();
        assert_eq!(new.len(), 1, "{:?} became {new:?}", file.name);
        assert!(window.read(new[0]) == file.content);
        taken.push(new[0].clone());
        before = now;
    }
    taken
}

#[test]
fn a1_to_a5_every_name_becomes_one_that_is_safe() {
    let host = Host::running("anna");
    let dir = host.path("outer/guests");
    fs::create_dir_all(&dir).expect("the home is ours");
    fs::write(host.path("outer/x"), "mine").expect("the home is ours");
    let window = Window::with(&host, &json!({ "accept": true, "dir": dir }));
    let long = format!("{}.jpg", "é".repeat(300));
    let deep = "a/".repeat(300) + "deep.txt";
    let labels: &[(&str, &str)] = &[
        ("../x", "x"),
        ("a/../../y", "y"),
        ("/etc/z", "z"),
        ("a//b", "b"),
        ("", "file"),
        (".", "file (1)"),
        ("..", "file (2)"),
        ("  . . ", "file (3)"),
        ("..\\w", "w"),
        ("C:\\Users\\anna\\v.doc", "v.doc"),
        ("C:u", "C-u"),
        ("\\\\srv\\share", "share"),
        ("a:stream", "a-stream"),
        ("nul\0.txt", "_nul.txt"),
        ("new\nline\r.txt", "newline.txt"),
        ("CON", "_CON"),
        ("com1.txt", "_com1.txt"),
        ("COM1 ", "_COM1"),
        ("COM¹", "_COM¹"),
        ("dot.", "dot"),
        ("blank ", "blank"),
        (".bashrc", "bashrc"),
        (".ssh/authorized_keys", "authorized_keys"),
        ("-rf", "-rf"),
        ("$(x);y `z`.sh", "$(x);y `z`.sh"),
        ("%s%n.txt", "%s%n.txt"),
        ("a\u{202e}gpj.exe", "agpj.exe"),
        ("ze\u{200b}ro.txt", "zero.txt"),
        ("\u{1b}[31mred\u{1b}]8;;http://x\u{7}.txt", "x.txt"),
        ("<b>&amp;\"quoted\"|*?.txt", "-b-&amp;-quoted----.txt"),
        ("．．／full", "．．／full"),
        (&deep, "deep.txt"),
    ];
    let wanted: Vec<&str> = labels.iter().map(|(_, name)| *name).collect();
    let given: Vec<&str> = labels.iter().map(|(label, _)| *label).collect();
    assert_eq!(taken(&window, 1, &given), wanted);
    let kept = taken(&window, 2, &[&long]).remove(0);
    assert!(kept.len() <= 255 && kept.ends_with("é.jpg"), "{kept}");
    // Nothing beside it, nothing below it, nothing hidden.
    assert_eq!(names(&host.path("outer")), ["guests", "x"]);
    assert_eq!(fs::read(host.path("outer/x")).expect("it is there"), b"mine");
    for path in fs::read_dir(&dir).expect("a directory").flatten() {
        assert!(path.file_type().expect("a type").is_file() && !path.file_name().to_string_lossy().starts_with('.'));
    }
    assert!(!Path::new("/etc/z").exists());
}

#[test]
fn a5_a11_twins_never_overwrite_each_other_or_what_was_there() {
    let host = Host::running("anna");
    for version in [1, 2] {
        let dir = host.path(&format!("guests-{version}"));
        fs::create_dir_all(dir.join("dir.txt")).expect("the home is ours");
        fs::write(dir.join("old.txt"), "mine").expect("the home is ours");
        std::os::unix::fs::symlink("/etc/passwd", dir.join("link.txt")).expect("the home is ours");
        std::os::unix::fs::symlink("nowhere", dir.join("dangling.txt")).expect("the home is ours");
        let window = Window::with(&host, &json!({ "accept": true, "dir": dir }));
        let labels = [
            "old.txt",
            "old.txt",
            "OLD.TXT",
            "dir.txt",
            "link.txt",
            "dangling.txt",
            "é.txt",
            "e\u{301}.txt",
            "É.txt",
            "noext",
            "noext",
        ];
        let taken = taken(&window, version, &labels);
        assert_eq!(taken[..2], ["old (1).txt", "old (2).txt"]);
        assert_eq!(taken[9..], ["noext", "noext (1)"]);
        // Each was new when it came, and is what it was then.
        for (i, name) in taken.iter().enumerate() {
            assert_eq!(window.read(name), [i as u8; 10], "{name}");
        }
        assert_eq!(fs::read(dir.join("old.txt")).expect("it is there"), b"mine");
        assert!(fs::read_link(dir.join("link.txt")).is_ok() && fs::read_link(dir.join("dangling.txt")).is_ok());
        assert!(dir.join("dir.txt").is_dir() && !dir.join("nowhere").exists());
        window.close();
    }
}

#[test]
fn names_without_extension_get_the_one_of_their_type() {
    let host = Host::running("anna");
    let window = Window::open(&host);
    let guest = window.guest(2);
    let session = guest.session(&window.pin);
    let offers: Vec<_> = [
        ("IMG_0001", json!("image/jpeg")),
        ("IMG_0002", json!("IMAGE/PNG; charset=binary")),
        ("IMG_0003.heic", json!("image/jpeg")),
        ("note", json!("application/x-unheard-of")),
        ("video", json!("video/quicktime")),
        ("none", json!(null)),
        ("evil", json!("../../x/sh")),
    ]
    .iter()
    .enumerate()
    .map(|(i, (name, media_type))| json!({ "id": i.to_string(), "fileName": name, "size": 1, "fileType": media_type }))
    .collect();
    let accepted = guest.post("prepare-upload", &offering(&session, &json!(offers))).expect(200).json();
    for file in accepted["files"].as_array().expect("files") {
        let target = guest.upload_path(&session, &part_of(file, "id"), &part_of(file, "transmissionId"));
        guest.caller.ask(&kith_tests::guest::request("PUT", &target, &[], b"x")).expect(200);
    }
    let wanted = ["IMG_0001.jpg", "IMG_0002.png", "IMG_0003.heic", "evil", "none", "note", "video.mov"];
    assert_eq!(window.names(), wanted);
}

#[test]
fn a11_what_to_do_with_names_that_exist_is_the_windows_choice() {
    let host = Host::running("anna");
    for (conflict, content) in [("skip", "mine"), ("overwrite", "Dear Anna")] {
        let dir = host.path(conflict);
        fs::create_dir_all(&dir).expect("the home is ours");
        fs::write(dir.join("letter.txt"), "mine").expect("the home is ours");
        let window = Window::with(&host, &json!({ "accept": true, "dir": dir, "on_conflict": conflict }));
        window.guest(1).send(&window.pin, &[File::new("letter.txt", b"Dear Anna")]);
        assert_eq!(window.names(), ["letter.txt"]);
        assert_eq!(window.read("letter.txt"), content.as_bytes());
        window.close();
    }
}

#[test]
fn b14_titles_and_names_act_on_no_terminal_and_run_nothing() {
    let mut host = Host::new("anna");
    let (hook, said) = (host.path("hook.sh"), host.path("hook.txt"));
    let keep = "{ for it in \"$@\"; do printf '%s\\n' \"$it\"; done; env; }";
    fs::write(&hook, format!("{keep} > {0}.part; mv {0}.part {0}\n", said.display())).expect("the home is ours");
    let command = format!("[\"/bin/sh\", \"{}\"]", hook.display());
    host.configure(&format!("[discovery]\nenabled = false\n[receive]\nhook = {command}\n[log]\nlevel = \"trace\"\n"));
    host.start();
    for json in [false, true] {
        let into = host.path(if json { "json" } else { "plain" });
        let mut receive = vec!["receive", "--once", "--yes", "--to", text(&into)];
        receive.extend(json.then_some("--json"));
        let listening = host.ctl_spawn(&receive);
        let window = Window::standing(&host);
        let guest = window.guest(2);
        let session = guest.session(&window.pin);
        let pwned = host.path("pwned");
        let evil = format!("{EVIL}$(touch {0});`touch {0}`;touch {0}", pwned.display());
        let file = File::new(&format!("{}.txt", evil.replace('/', "\u{2215}")), b"x");
        let body = json!({ "title": evil, "sessionId": session, "files": [file.offer()] }).to_string();
        let accepted = guest.post("prepare-upload", body.as_bytes()).expect(200).json();
        guest.upload(&session, &file, &part_of(&accepted["files"][0], "transmissionId")).expect(200);
        guest.close(&session).expect(200);
        let shown = listening.finish(PATIENCE).ok();
        assert!(!acts(&shown.stdout) && !acts(&shown.stderr), "{shown:?}");
        let placed = names(&into);
        assert!(placed.len() == 1 && !acts(&placed[0]), "{placed:?}");
        let list = host.door().call("transfer.list", json!({ "all": true }));
        assert_eq!(list["transfers"][0]["title"], evil, "it arrives as it is, and is made harmless where it is shown");
        check_shown(&host, list["transfers"][0]["id"].as_str().expect("an id"), "nobody");
        let told = wait::until("the hook", PATIENCE, || fs::read_to_string(&said).ok());
        assert!(told.contains("KITH_"), "{told}");
        assert!(!pwned.exists(), "a title was run");
        fs::remove_file(&said).expect("the home is ours");
        wait::until_true("the window to be over", PATIENCE, || host.door().try_call("guest.show", json!({})).is_err());
    }
}
