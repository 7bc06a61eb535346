use proptest::prelude::*;
use unicode_normalization::UnicodeNormalization as _;

use super::*;

#[track_caller]
fn refused(text: &str, why: PathError) {
    assert_eq!(WirePath::parse(text), Err(why), "{text:?}");
}

#[track_caller]
fn path(text: &str) -> WirePath {
    WirePath::parse(text).unwrap_or_else(|e| panic!("{text:?}: {e}"))
}

#[test]
fn ordinary_names_of_linux_users_pass() {
    for text in [
        "a",
        "a/b/c.txt",
        ".bashrc",
        "..a",
        "a..b",
        "what?.txt",
        "<b>|*\"",
        "%s $(x) ;x -rf",
        " leading",
        "größe/写真/שלום",
        "com10",
        "com0.txt",
        "console",
        "lpt",
        "xcon.txt",
        "com1x",
        "CON$",
        "émoji 👍",
        "a．b",
    ] {
        assert_eq!(path(text).as_str(), text);
    }
}

#[test]
fn a1_nothing_leaves_the_root() {
    for (text, why) in [
        ("../x", PathError::OnlyDots),
        ("a/../../x", PathError::OnlyDots),
        ("a/..", PathError::OnlyDots),
        ("./a", PathError::OnlyDots),
        ("/etc/x", PathError::Absolute),
        ("/", PathError::Absolute),
        ("//srv/share", PathError::Absolute),
        ("a//b", PathError::EmptyComponent),
        ("a/", PathError::EmptyComponent),
        ("", PathError::Empty),
        (".", PathError::OnlyDots),
        ("..", PathError::OnlyDots),
        ("...", PathError::OnlyDots),
        ("a/ /b", PathError::OnlyDots),
        (" . .", PathError::OnlyDots),
        ("\u{3000}\u{a0}", PathError::OnlyDots),
    ] {
        refused(text, why);
    }
}

#[test]
fn a2_what_is_special_on_windows_is_refused_everywhere() {
    for (text, why) in [
        ("..\\x", PathError::Backslash),
        ("C:\\x", PathError::Colon),
        ("C:x", PathError::Colon),
        ("\\\\srv\\share", PathError::Backslash),
        ("a:stream", PathError::Colon),
        ("a/b::$DATA", PathError::Colon),
        ("a\0", PathError::Control),
        ("a\nb", PathError::Control),
        ("a\r", PathError::Control),
        ("\x1b[2J", PathError::Control),
        ("\x7f", PathError::Control),
        ("\u{9b}31m", PathError::Control),
    ] {
        refused(text, why);
    }
}

#[test]
fn a3_device_names_and_names_that_windows_would_shorten() {
    for name in [
        "CON",
        "con",
        "Prn.txt",
        "aux.tar.gz",
        "NUL",
        "com1.txt",
        "COM9",
        "lpt1",
        "COM1 .txt",
        "COM¹",
        "lpt².x",
        "Com³",
        "CONIN$",
        "conout$.txt",
    ] {
        refused(name, PathError::Reserved);
        refused(&format!("a/{name}/b"), PathError::Reserved);
    }
    for name in ["a.", "a ", "COM1 ", "CON.", "a. ", "dir./x", "dir /x"] {
        refused(name, PathError::TrailingDot);
    }
}

#[test]
fn a4_lengths_and_levels() {
    let longest = "é".repeat(127) + "x";
    assert_eq!(longest.len(), limits::PATH_COMPONENT);
    path(&longest);
    refused(&(longest + "x"), PathError::NameTooLong);

    path(&vec!["a"; limits::PATH_DEPTH].join("/"));
    refused(&vec!["a"; limits::PATH_DEPTH + 1].join("/"), PathError::TooDeep);
    refused(&vec!["a"; 300].join("/"), PathError::TooDeep);

    let full = vec!["y".repeat(255); 16].join("/") + "/";
    assert_eq!(full.len(), limits::PATH);
    path(full.trim_end_matches('/'));
    refused(&(full.clone() + "z"), PathError::TooLong);
    refused(&"z/".repeat(10_000_000), PathError::TooLong);
    assert_eq!(path(full.trim_end_matches('/')).join("z"), Err(PathError::TooLong));
}

#[test]
fn a5_look_alikes() {
    for (text, why) in [
        ("\u{ff0e}\u{ff0e}/x", PathError::OnlyDots),
        ("\u{2025}", PathError::OnlyDots),
        ("\u{2024}\u{2024}", PathError::OnlyDots),
    ] {
        refused(text, why);
    }
    // Invisible characters are part of names in Persian and of emoji; they are made visible where names are shown.
    for text in ["exe.\u{202e}gpj", "a\u{200b}b", "\u{feff}a", "\u{1f468}\u{200d}\u{1f469}.jpg"] {
        path(text);
    }
}

#[test]
fn a5_twins_share_a_key() {
    for (one, other) in [
        ("readme", "README"),
        ("a/Über", "A/u\u{308}ber"),
        ("caf\u{e9}", "cafe\u{301}"),
        ("\u{212b}", "a\u{30a}"),
        ("ΟΔΟΣ", "οδος"),
        ("Straße", "STRASSE"),
        ("\u{212a}elvin", "kelvin"),
        ("ſ", "S"),
        ("\u{1e9e}", "ß"),
    ] {
        assert_eq!(path(one).fold_key(), path(other).fold_key(), "{one:?} {other:?}");
        assert_ne!(path(one), path(other));
    }
    for (one, other) in [("a", "b"), ("a/b", "a-b"), ("e", "é"), ("ﬁx", "f1x")] {
        assert_ne!(path(one).fold_key(), path(other).fold_key(), "{one:?} {other:?}");
    }
}

#[test]
fn a6_json_that_is_no_text_is_no_path() {
    let read = |json: &[u8]| serde_json::from_slice::<WirePath>(json).map_err(|e| e.to_string());
    assert_eq!(read(br#""a/b""#), Ok(path("a/b")));
    assert_eq!(read(br#""\ud83d\udc4d""#), Ok(path("👍")));
    for bad in [&b"\"\\ud800\""[..], b"\"\\udc4d\\ud83d\"", b"\"\xff\"", b"\"a\\u0000\"", b"\"../x\"", b"5", b"[\"a\"]"]
    {
        assert!(read(bad).is_err(), "{bad:?}");
    }
    assert!(read(br#""../x""#).unwrap_err().contains("dots"));
    assert_eq!(serde_json::to_string(&path("a/b")).unwrap(), "\"a/b\"");
}

#[test]
fn a9_links_stay_inside() {
    for (link, target, lands) in [
        ("l", "x", Some("x")),
        ("l", ".", Some("")),
        ("a/l", "..", Some("")),
        ("a/l", "../b/c", Some("b/c")),
        ("a/b/l", "../../x", Some("x")),
        ("a/l", "./.././x//y/", Some("x/y")),
        ("l", "l", Some("l")),
        ("l", "..", None),
        ("a/l", "../..", None),
        ("a/l", "../../x", None),
        ("l", "x/../../y", None),
        // Harmless by its text alone; not when x is a link.
        ("l", "x/../y", None),
        ("m", "a/b/l/../..", None),
        ("l", "/etc/passwd", None),
        ("l", "", None),
        ("l", "a\0b", None),
        ("l", "a\nb", None),
        ("l", "a\\b", None),
        ("l", "C:x", None),
        ("l", "\u{202e}", Some("\u{202e}")),
    ] {
        assert_eq!(link_lands_at(&path(link), target).as_deref(), lands, "{link} → {target:?}");
        assert_eq!(link_stays_inside(&path(link), target), lands.is_some());
    }
    assert!(!link_stays_inside(&path("l"), &"a/".repeat(limits::PATH)));
}

#[test]
fn a12_dotfiles_at_the_top_are_known() {
    for (text, hidden) in [(".bashrc", true), (".ssh/authorized_keys", true), ("a/.hidden", false), ("a", false)] {
        assert_eq!(path(text).is_hidden_at_top(), hidden, "{text}");
    }
}

#[test]
fn the_parts_of_a_path() {
    let deep = path("a/b/c.txt");
    assert_eq!(deep.components().collect::<Vec<_>>(), ["a", "b", "c.txt"]);
    assert_eq!((deep.top(), deep.file_name(), deep.depth()), ("a", "c.txt", 3));
    assert_eq!(deep.parent(), Some(path("a/b")));
    let flat = path("a");
    assert_eq!((flat.top(), flat.file_name(), flat.parent(), flat.depth()), ("a", "a", None, 1));
    assert_eq!(flat.join("b/c.txt"), Ok(deep.clone()));
    for bad in ["", "..", "/x", "x/", "b\\c"] {
        assert!(flat.join(bad).is_err(), "{bad:?}");
    }
    assert!(deep.starts_with(&flat) && deep.starts_with(&path("a/b")) && deep.starts_with(&deep));
    assert!(!deep.starts_with(&path("a/b/c")) && !flat.starts_with(&deep) && !path("ab").starts_with(&flat));
}

proptest! {
    #[test]
    fn any_text_is_a_path_or_a_reason(text in prop_oneof![
        any::<String>(),
        "[a-zA-Z./\\\\: \u{0}\u{202e}¹²³CONM1$]{0,40}",
        "([a-z.]{1,3}/){0,140}[a-z]",
    ]) {
        match WirePath::parse(&text) {
            Ok(path) => {
                prop_assert_eq!(path.as_str(), &text);
                let json = serde_json::to_string(&path).unwrap();
                prop_assert_eq!(&serde_json::from_str::<WirePath>(&json).unwrap(), &path);
                // Its parts are paths again, and put it together again.
                for component in path.components() {
                    prop_assert!(WirePath::parse(component).is_ok());
                    prop_assert!(component != "." && component != "..");
                }
                if let Some(parent) = path.parent() {
                    prop_assert!(path.starts_with(&parent));
                    prop_assert_eq!(&parent.join(path.file_name()).unwrap(), &path);
                }
                prop_assert!(!std::path::Path::new(path.as_str()).has_root());
                prop_assert_eq!(path.fold_key(), path.fold_key().nfc().collect::<String>());
            }
            Err(why) => prop_assert!(!why.reason().is_empty() && !why.to_string().is_empty()),
        }
    }

    #[test]
    fn any_link_target_is_judged(target in "[ab./\\\\]{0,30}") {
        let link = path("a/b/l");
        if let Some(landing) = link_lands_at(&link, &target) {
            prop_assert!(!landing.starts_with('/'));
            prop_assert!(landing.split('/').all(|c| c != ".." && c != "."));
        }
    }
}
