//! Offers of a paired device that does not keep to the protocol: what they name, how large, how many.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use crate::raw::Wire;
use crate::stage::{Stage, digest, item};
use crate::support::{dir, names};

#[test]
fn a1_a2_a3_paths_that_lead_elsewhere_end_the_offer() {
    let mut stage = Stage::new();
    let long = "x".repeat(256);
    let deep = vec!["d"; 300].join("/");
    for path in [
        "../x",
        "a/../../x",
        "/etc/x",
        "a//b",
        "",
        ".",
        "..",
        " ",
        "...",
        "a/./b",
        "a/",
        "..\\x",
        "C:\\x",
        "C:x",
        "\\\\srv\\share",
        "a:stream",
        "a\0b",
        "a\nb",
        "CON",
        "com1.txt",
        "a/LPT9",
        "COM¹",
        "dot.",
        "space ",
        &long,
        &deep,
    ] {
        let (mut wire, id) = stage.offer(&[item(0, path, 3)]);
        wire.say(&json!({"type": "file", "index": 0, "offset": 0}));
        wire.data(b"bad");
        let (heard, _) = wire.rest();
        assert!(heard.iter().all(|it| it["type"] == "reject"), "{path:?}: {heard:?}");
        stage.assert_nothing(path);
        assert!(stage.bert.transfer(&id).is_none_or(|it| it["state"] != "done"), "{path:?}");
    }
    assert!(!stage.bert.path("x").exists() && !Path::new("/etc/x").exists());
    assert_eq!(stage.bert.status()["transfers"], 0, "nothing of it waits");
}

#[test]
fn c17_numbers_that_are_none_end_the_offer() {
    let mut stage = Stage::new();
    for size in
        ["-1", "1.5", "\"7\"", "1e400", "18446744073709551616", "9223372036854775808", "18446744073709551615", "[]"]
    {
        let id = stage.id();
        let mut wire = Wire::send(&stage.bert, &stage.key);
        wire.say(&json!({"type": "offer", "v": 1, "transfer": id, "title": "t", "files": 1}));
        let manifest =
            format!(r#"{{"type":"manifest","items":[{{"index":0,"path":"a","kind":"file","size":{size}}}]}}"#);
        wire.frame(manifest.as_bytes());
        wire.say(&json!({"type": "file", "index": 0, "offset": 0}));
        let (heard, _) = wire.rest();
        assert!(heard.iter().all(|it| it["type"] == "reject"), "{size}: {heard:?}");
        stage.assert_nothing(size);
    }
    for files in ["-1", "1000001", "18446744073709551615", "1.5"] {
        let id = stage.id();
        let mut wire = Wire::send(&stage.bert, &stage.key);
        wire.frame(format!(r#"{{"type":"offer","v":1,"transfer":"{id}","title":"t","files":{files}}}"#).as_bytes());
        let (heard, _) = wire.rest();
        assert!(heard.iter().all(|it| it["type"] == "reject"), "{files}: {heard:?}");
    }
    // A claim of 10 TB has no room.
    let (mut wire, _) = stage.offer(&[item(0, "huge", 10 << 40)]);
    assert_eq!(wire.rest().0.last().map(|it| it["type"].clone()), Some(json!("reject")));
    stage.assert_nothing("10 TB");
}

#[test]
fn e37_offers_that_contradict_themselves_are_refused() {
    let mut stage = Stage::new();
    let link =
        |index, path: &str, target: &str| json!({"index": index, "path": path, "kind": "symlink", "target": target});
    for (what, items) in [
        ("out of order", vec![item(1, "a", 1), item(0, "b", 1)]),
        ("twice", vec![item(0, "a", 1), item(0, "b", 1)]),
        ("one path twice", vec![item(0, "a", 1), item(1, "a", 2)]),
        ("a gap", vec![item(0, "a", 1), item(2, "b", 1)]),
        ("a link to the root", vec![link(0, "l", "/etc/passwd")]),
        ("a link up", vec![link(0, "l", "../x")]),
        ("a link down and up", vec![link(0, "a/l", "b/../../../x")]),
        ("a link without a target", vec![json!({"index": 0, "path": "l", "kind": "symlink"})]),
        ("another kind", vec![json!({"index": 0, "path": "l", "kind": "fifo"})]),
    ] {
        let (mut wire, _) = stage.offer(&items);
        let (heard, _) = wire.rest();
        assert!(heard.iter().all(|it| it["type"] == "reject"), "{what}: {heard:?}");
        stage.assert_nothing(what);
    }
    for (what, offer) in [
        ("another version", json!({"v": 2, "transfer": stage.id(), "title": "t", "files": 1})),
        ("no UUID", json!({"v": 1, "transfer": "../../x", "title": "t", "files": 1})),
        (
            "another form of a UUID",
            json!({"v": 1, "transfer": "0192AAAA-0000-7000-8000-000000000001", "title": "t", "files": 1}),
        ),
        ("nothing", json!({"v": 1, "transfer": stage.id(), "title": "t", "files": 0})),
        ("files and a text", json!({"v": 1, "transfer": stage.id(), "title": "t", "files": 1, "text": "x"})),
        ("a long title", json!({"v": 1, "transfer": stage.id(), "title": "t".repeat(1025), "files": 1})),
        ("a long text", json!({"v": 1, "transfer": stage.id(), "title": "t", "files": 0, "text": "x".repeat(65537)})),
    ] {
        let mut wire = Wire::send(&stage.bert, &stage.key);
        let mut message = offer.clone();
        message["type"] = json!("offer");
        wire.say(&message);
        let (heard, _) = wire.rest();
        assert_eq!(heard.last().map(|it| it["type"].clone()), Some(json!("reject")), "{what}: {heard:?}");
    }
    assert_eq!(stage.bert.status()["transfers"], 0);
}

#[test]
fn a9_a_file_through_a_link_of_the_same_offer_goes_nowhere() {
    let mut stage = Stage::new();
    let outside = dir(&stage.bert, "outside");
    fs::create_dir(stage.into.join("real")).expect("the home is ours");
    let link = json!({"index": 0, "path": "l", "kind": "symlink", "target": "real"});
    let (mut wire, _) = stage.offer(&[link, item(1, "l/x", 3), item(2, "fine", 3)]);
    for index in [1, 2] {
        wire.say(&json!({"type": "file", "index": index, "offset": 0}));
        wire.data(b"abc");
        wire.say(&json!({"type": "end", "digest": digest(&[b"abc"]), "size": 3}));
    }
    wire.say(&json!({"type": "done"}));
    wire.rest();
    assert!(names(&stage.into.join("real")).is_empty() && names(&outside).is_empty(), "a link is not followed");
    // A link loop, and one that replaces a directory that is there.
    let links = [("a", "b"), ("b", "a"), ("real", "a")];
    let items: Vec<Value> = links
        .iter()
        .enumerate()
        .map(|(index, (path, target))| json!({"index": index, "path": path, "kind": "symlink", "target": target}))
        .collect();
    let (mut wire, _) = stage.offer(&items);
    wire.say(&json!({"type": "done"}));
    wire.rest();
    assert!(stage.into.join("real").symlink_metadata().expect("it is there").is_dir(), "a directory is not replaced");
}
