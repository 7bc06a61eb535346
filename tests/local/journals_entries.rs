//! Entries: what is written, read, refused. One device is enough.

use data_encoding::BASE64;
use kith_proto::limits;
use kith_tests::host::Host;
use kith_tests::random::Random;
use serde_json::{Value, json};

use crate::journals::{App, DEFAULT, journal};

#[track_caller]
fn anna() -> (Host, App) {
    let host = Host::running("anna");
    let app = App::of(&host, DEFAULT);
    (host, app)
}

#[test]
fn an_entry_is_what_was_put() {
    let (host, mut app) = anna();
    let meta = json!({"mood": "gut", "pinned": true, "n": 1.5, "deep": {"list": [1, null, {"ü": "\u{1f600}"}]}});
    let put = app.put_with("one", b"hello", json!({ "meta": meta }));
    assert_eq!((&put["id"], &put["size"], &put["deleted"]), (&json!("one"), &json!(5), &json!(false)));
    assert_eq!((&put["meta"], &put["device"]), (&meta, &json!(host.id())));
    assert!(put["hash"].as_str().is_some_and(|hash| hash.len() == 64) && put["seq"].as_u64() > Some(0), "{put}");
    assert_eq!(app.get("one"), Some((put.clone(), b"hello".to_vec())));
    assert_eq!(app.list(json!({})), std::slice::from_ref(&put));
    assert_eq!(journal(&host, DEFAULT).expect("it is there")["entries"], 1);

    let changed = app.put("one", "bye");
    assert_eq!(changed["meta"], json!({}), "a put is the whole entry");
    assert!(changed["seq"].as_u64() > put["seq"].as_u64() && changed["stamp"].as_str() > put["stamp"].as_str());
    assert_ne!(changed["hash"], put["hash"]);
    assert_eq!(app.list(json!({})), [changed]);

    let deleted = app.delete("one");
    assert_eq!((&deleted["deleted"], &deleted["size"], &deleted["meta"]), (&json!(true), &json!(0), &json!({})));
    assert!(app.list(json!({})).is_empty());
    assert_eq!(app.list(json!({"deleted": true})), std::slice::from_ref(&deleted));
    assert_eq!(app.get("one"), Some((deleted, Vec::new())), "a deletion is remembered");
    let shown = journal(&host, DEFAULT).expect("it is there");
    assert_eq!((&shown["entries"], &shown["tombstones"], &shown["history"]), (&json!(0), &json!(1), &json!(0)));
    // It comes back by a put, as a new one would.
    app.put("one", "again");
    assert_eq!(app.text("one").as_deref(), Some("again"));
}

#[test]
fn an_entry_outlives_the_daemon() {
    let (mut host, mut app) = anna();
    let put = app.put_with("one", b"hello", json!({"meta": {"k": 1}}));
    let cursor = app.call("entries.list", json!({}))["cursor"].clone();
    host.restart();
    let mut app = App::of(&host, DEFAULT);
    assert_eq!(app.get("one"), Some((put, b"hello".to_vec())));
    assert_eq!(app.call("entries.list", json!({}))["cursor"], cursor, "the database lives on");
}

#[test]
fn the_daemon_makes_ids_where_none_is_given() {
    let (_host, mut app) = anna();
    let ids: Vec<String> = (0..3)
        .map(|_| app.call("entries.put", json!({"body": "eA=="}))["id"].as_str().expect("an id").to_owned())
        .collect();
    assert!(ids.iter().all(|id| id.len() == 36 && id.as_bytes()[14] == b'7'), "UUIDs, version 7: {ids:?}");
    assert!(ids[0] < ids[1] && ids[1] < ids[2], "they sort by time: {ids:?}");
    assert_eq!(app.ids(), ids);
}

#[test]
fn the_same_again_changes_nothing() {
    let (_host, mut app) = anna();
    let first = app.put_with("one", b"x", json!({"meta": {"a": 1, "b": 2}}));
    assert_eq!(app.put_with("one", b"x", json!({"meta": {"b": 2, "a": 1}})), first);
    assert_ne!(app.put_with("one", b"x", json!({"meta": {"a": 2, "b": 2}}))["hash"], first["hash"]);
    let gone = app.delete("one");
    assert_eq!(app.refused("entries.delete", json!({"id": "one"})), "entry_not_found", "it is deleted already");
    assert_eq!(app.list(json!({"deleted": true})), [gone]);
}

#[test]
fn bodies_of_every_length_come_back_as_they_were() {
    let (_host, mut app) = anna();
    let mut random = Random::printed("bodies");
    let inline = limits::ENTRY_INLINE;
    let chunk = limits::FEED_CHUNK;
    for len in [0, 1, inline - 1, inline, inline + 1, chunk - 1, chunk, chunk + 1, 2 * chunk, limits::ENTRY_BODY] {
        let body = random.bytes(len);
        let put = app.put("it", &body);
        assert_eq!(put["size"], len);
        let (entry, read) = app.get("it").expect("it is there");
        assert_eq!(entry, put);
        assert!(read == body, "{len} bytes changed");
    }
    for body in [&[0; 300][..], &[0xff; 300], b"\xc3\x28", b"{\"json\":\n\"line\"}\r\n"] {
        app.put("it", body);
        assert_eq!(app.get("it").expect("it is there").1, body);
    }
}

#[test]
fn a_body_is_read_from_any_place_on() {
    let (_host, mut app) = anna();
    let body = Random::seeded(3).bytes(limits::FEED_CHUNK + 1000);
    app.put("it", &body);
    for offset in [0, 1, 999, 1000, 1001, limits::FEED_CHUNK, body.len() - 1, body.len()] {
        let piece = app.call("entries.get", json!({"id": "it", "offset": offset}));
        let bytes = BASE64.decode(piece["body"].as_str().expect("a text").as_bytes()).expect("base64");
        let end = body.len().min(offset + limits::FEED_CHUNK);
        assert!(bytes == body[offset..end], "from {offset}");
        assert_eq!(piece["next"].as_u64(), (end < body.len()).then_some(end as u64), "from {offset}");
    }
    for offset in [json!(body.len() + 1), json!(u64::MAX)] {
        assert_eq!(app.refused("entries.get", json!({"id": "it", "offset": offset})), "invalid_param");
    }
}

#[test]
fn a_body_that_is_too_long_leaves_nothing_behind() {
    let (host, mut app) = anna();
    let body = vec![7; limits::ENTRY_BODY];
    let staged = app.stage(&body);
    let more = json!({ "staged": staged, "data": "eA==" });
    assert_eq!(app.door.refused("entries.stage", more), "too_large");
    assert_eq!(app.refused("entries.put", json!({"id": "it", "staged": staged})), "staged_not_found");
    // One line carries only so much.
    let long = BASE64.encode(&body[..=limits::FEED_CHUNK]);
    assert_eq!(app.refused("entries.put", json!({"id": "it", "body": long})), "too_large");
    assert_eq!(app.door.refused("entries.stage", json!({ "data": long })), "too_large");
    assert_eq!(app.list(json!({"deleted": true})), [] as [Value; 0]);
    let path = host.path("long");
    std::fs::write(&path, [&body[..], b"x"].concat()).expect("the home is ours");
    let path = path.to_str().expect("UTF-8").to_owned();
    assert_eq!(host.ctl_refused(&["entries", "put", DEFAULT, "it", "--file", &path]), ("too_large".to_owned(), 1));
    assert_eq!(app.get("it"), None);
    app.put("it", &body);
    assert_eq!(app.get("it").expect("the greatest that fits").1.len(), limits::ENTRY_BODY);
}

#[test]
fn what_was_staged_is_taken_once_and_goes_with_its_connection() {
    let (host, mut app) = anna();
    let staged = app.stage(b"piece");
    assert_eq!(app.refused("entries.put", json!({"staged": staged, "body": "eA=="})), "invalid_param");
    let put = app.call("entries.put", json!({"id": "it", "staged": staged}));
    assert_eq!((put["size"].as_u64(), app.text("it").as_deref()), (Some(5), Some("piece")));
    assert_eq!(app.refused("entries.put", json!({"id": "other", "staged": staged})), "staged_not_found");
    assert_eq!(app.door.refused("entries.stage", json!({"staged": staged, "data": ""})), "staged_not_found");
    // Whoever stages and goes away takes no place from others.
    let mut first: Vec<App> = (0..limits::STAGED_BODIES).map(|_| App::of(&host, DEFAULT)).collect();
    first.iter_mut().for_each(|it| drop(it.stage(b"piece")));
    assert_eq!(app.door.refused("entries.stage", json!({"data": ""})), "busy");
    drop(first);
    kith_tests::wait::until_true("a place to be free", kith_tests::PATIENCE, || {
        app.door.try_call("entries.stage", json!({"data": ""})).is_ok()
    });
}

#[test]
fn who_expects_a_version_replaces_only_that() {
    let (_host, mut app) = anna();
    let stale = "0".repeat(64);
    let expected =
        |body: &str, hash: &Value| json!({"id": "it", "body": BASE64.encode(body.as_bytes()), "expected": hash});
    assert_eq!(app.refused("entries.put", expected("a", &json!(stale))), "version_mismatch");
    let one = app.call("entries.put", expected("one", &json!("none")));
    assert_eq!(app.refused("entries.put", expected("other", &json!("none"))), "version_mismatch");
    let two = app.call("entries.put", expected("two", &one["hash"]));
    let error = app.door.try_call("entries.put", {
        let mut params = expected("three", &one["hash"]);
        params["journal"] = json!(DEFAULT);
        params
    });
    let error = error.expect_err("that version is not there any more");
    assert_eq!(error["data"]["code"], "version_mismatch");
    assert!(error["message"].as_str().is_some_and(|it| it.contains(two["hash"].as_str().expect("a hash"))), "{error}");
    assert_eq!(app.text("it").as_deref(), Some("two"));

    assert_eq!(app.refused("entries.delete", json!({"id": "it", "expected": one["hash"]})), "version_mismatch");
    assert_eq!(app.text("it").as_deref(), Some("two"));
    let gone = app.call("entries.delete", json!({"id": "it", "expected": two["hash"]}));
    assert_eq!(app.refused("entries.put", expected("four", &two["hash"])), "version_mismatch");
    // What is deleted is not there, whatever is expected.
    assert_eq!(app.refused("entries.put", expected("five", &gone["hash"])), "version_mismatch");
    let none = json!({"id": "it", "expected": gone["hash"]});
    assert_eq!(app.refused("entries.delete", none), "entry_not_found");
    app.call("entries.put", expected("six", &json!("none")));
    assert_eq!(app.text("it").as_deref(), Some("six"));
    for wrong in [json!(""), json!("None"), json!("abc"), json!("A".repeat(64)), json!(7)] {
        assert_eq!(app.refused("entries.put", expected("seven", &wrong)), "invalid_param", "{wrong}");
    }
}

#[test]
fn what_is_not_there_cannot_be_deleted_or_read() {
    let (_host, mut app) = anna();
    assert_eq!(app.refused("entries.delete", json!({"id": "it"})), "entry_not_found");
    assert_eq!(app.refused("entries.get", json!({"id": "it"})), "entry_not_found");
    app.put("it", "x");
    assert_eq!(app.refused("entries.get", json!({"id": "it", "version": "0".repeat(64)})), "entry_not_found");
    let recover = json!({"id": "it", "version": "0".repeat(64)});
    assert_eq!(app.refused("entries.recover", recover), "entry_not_found");
    for method in ["entries.put", "entries.get", "entries.delete", "entries.list", "entries.history"] {
        let mut params = json!({"journal": "nobody"});
        if !["entries.list", "entries.history"].contains(&method) {
            params["id"] = json!("it");
        }
        assert_eq!(app.door.refused(method, params), "journal_not_found", "{method}");
    }
    for params in [json!({}), json!({"id": "it"})] {
        for method in ["entries.recovered", "entries.history"] {
            assert_eq!(app.call(method, params.clone()), json!({"versions": []}), "{method}");
        }
    }
}

#[test]
fn f44_ids_that_are_possible_and_ids_that_are_not() {
    let (_host, mut app) = anna();
    let (longest, wide) = ("i".repeat(limits::ENTRY_ID), "\u{1f600}".repeat(limits::ENTRY_ID / 4));
    let good = [
        "a",
        " ",
        ".",
        "..",
        "../x",
        "a/b",
        "a\\b",
        "none",
        "Grüße",
        "e\u{301}",
        "é",
        "\u{202e}abc",
        "%s",
        "<b>",
        "'",
        "\"",
        &longest,
        &wide,
    ];
    for id in good {
        let put = app.put(id, id);
        assert_eq!(put["id"], id);
        assert_eq!(app.text(id).as_deref(), Some(id), "{id:?}");
    }
    assert_eq!(app.ids().len(), good.len(), "no two of them are one");
    let too_long = [format!("{longest}i"), format!("{wide}i"), "i".repeat(limits::ENTRY_BODY / 64)];
    for id in
        ["", "a\nb", "\0", "a\tb", "\x1b[31m", "\x7f", "\u{85}"].into_iter().chain(too_long.iter().map(|it| &**it))
    {
        assert_eq!(app.refused("entries.put", json!({ "id": id })), "invalid_param", "{id:?}");
    }
    assert_eq!(app.list(json!({"deleted": true})).len(), good.len());
}

#[test]
fn f44_metadata_has_a_bound() {
    let (host, mut app) = anna();
    // {"k":"…"}
    let most = json!({"k": "m".repeat(limits::ENTRY_META - 8)});
    assert_eq!(app.put_with("it", b"", json!({ "meta": most }))["meta"], most);
    let more = json!({"k": "m".repeat(limits::ENTRY_META - 7)});
    assert_eq!(app.refused("entries.put", json!({"id": "it", "meta": more})), "too_large");
    // What is escaped counts as it is written.
    let escaped = json!({"k": "\u{1}".repeat(limits::ENTRY_META / 6)});
    assert_eq!(app.refused("entries.put", json!({"id": "it", "meta": escaped})), "too_large");
    assert_eq!(app.get("it").expect("as it was").0["meta"], most);
    for wrong in [json!([]), json!("{}"), json!(null), json!(1)] {
        assert_eq!(app.refused("entries.put", json!({"id": "it", "meta": wrong})), "invalid_param", "{wrong}");
    }
    let mut nested = json!({"end": true});
    for _ in 0..100 {
        nested = json!({ "n": nested });
    }
    assert_eq!(app.put_with("deep", b"", json!({ "meta": nested }))["meta"], nested);
    assert_eq!(app.get("deep").expect("it is there").0["meta"], nested);
    // Deeper than anybody reads: an answer or an end, and the daemon goes on.
    let deep = format!("{}1{}", "{\"n\":".repeat(2_000), "}".repeat(2_000));
    let mut door = host.door();
    let line = format!(
        "{{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"entries.put\",\"params\":{{\"journal\":\"default\",\"id\":\"it\",\"meta\":{deep}}}}}\n"
    );
    assert!(door.write(line.as_bytes()));
    assert!(door.read().is_some_and(|answer| answer["error"].is_object()));
    assert_eq!(app.get("it").expect("as it was").0["meta"], most);
}

#[test]
fn f44_unknown_parameters_and_wrong_types_are_refused_by_name() {
    let (_host, mut app) = anna();
    app.put("it", "x");
    let hash = "0".repeat(64);
    let methods = [
        ("entries.put", json!({"id": "it"})),
        ("entries.get", json!({"id": "it"})),
        ("entries.delete", json!({"id": "it"})),
        ("entries.list", json!({})),
        ("entries.history", json!({})),
        ("entries.recovered", json!({})),
        ("entries.recover", json!({"id": "it", "version": hash})),
        ("entries.subscribe", json!({})),
        ("journals.show", json!({})),
        ("journals.share", json!({"peer": "bert"})),
        ("journals.unshare", json!({"peer": "bert"})),
        ("journals.accept", json!({})),
        ("journals.remove", json!({})),
    ];
    for (method, params) in methods {
        let mut unknown = params.clone();
        unknown["colour"] = json!("red");
        assert_eq!(app.refused(method, unknown), "unknown_param", "{method}");
        let mut wrong = params.clone();
        wrong["journal"] = json!(7);
        assert_eq!(app.door.refused(method, wrong), "invalid_param", "{method}");
        assert_eq!(app.door.refused(method, json!({})), "invalid_param", "{method} without a journal");
        for key in params.as_object().expect("an object").keys() {
            let mut wrong = params.clone();
            wrong[key] = json!([1]);
            assert_eq!(app.refused(method, wrong), "invalid_param", "{method}: {key}");
        }
    }
    for (method, params) in [
        ("entries.put", json!({"id": "it", "body": "no base64!"})),
        ("entries.put", json!({"id": "it", "body": "eA"})),
        ("entries.get", json!({"id": "it", "offset": -1})),
        ("entries.get", json!({"id": "it", "version": "none"})),
        ("entries.list", json!({"by": "name"})),
        ("entries.list", json!({"limit": 0})),
        ("entries.list", json!({"limit": limits::ENTRIES_PAGE + 1})),
        ("entries.list", json!({"after": "no cursor"})),
        ("entries.list", json!({"by": "time", "after": "no page"})),
        ("entries.list", json!({"by": "time", "from": "yesterday"})),
        ("entries.list", json!({"from": "2026-01-01T00:00:00Z"})),
        ("entries.history", json!({"after": "no page"})),
        ("entries.subscribe", json!({"cursor": "no cursor"})),
    ] {
        assert_eq!(app.refused(method, params.clone()), "invalid_param", "{method} {params}");
    }
    assert_eq!(app.text("it").as_deref(), Some("x"));
}
