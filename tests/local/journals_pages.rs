//! Lists: pages, their order, cursors in them, and that a page is always one line.

use std::fs;

use kith_proto::limits;
use kith_tests::host::Host;
use serde_json::{Value, json};

use crate::journals::{App, DEFAULT};

#[track_caller]
fn filled(count: usize, meta: &Value) -> (Host, App) {
    let host = Host::running("anna");
    let mut app = App::of(&host, DEFAULT);
    for i in 0..count {
        app.call("entries.put", json!({ "id": format!("{i:04}"), "meta": meta }));
    }
    (host, app)
}

fn ids(entries: &[Value]) -> Vec<&str> {
    entries.iter().filter_map(|it| it["id"].as_str()).collect()
}

/// The pages of a list; none is longer than a line, and none is empty.
#[track_caller]
fn pages(app: &mut App, mut params: Value) -> Vec<Vec<Value>> {
    let mut pages = Vec::new();
    loop {
        let mut page = app.call("entries.list", params.clone());
        assert!(page.to_string().len() < limits::CONTROL_LINE - 1000, "a page fits into a line");
        let Value::Array(entries) = page["entries"].take() else { panic!("a list: {page}") };
        assert!(!entries.is_empty(), "no page is in vain");
        pages.push(entries);
        if page["next"].is_null() {
            return pages;
        }
        params["after"] = page["next"].take();
    }
}

#[test]
fn many_entries_come_in_pages_by_seq_and_by_time() {
    let (_host, mut app) = filled(700, &json!({}));
    // Written anew: last by both orders. Deleted: only shown to who asks for deletions.
    app.put("0003", "changed");
    for id in ["0004", "0699"] {
        app.delete(id);
    }
    let mut expected: Vec<String> = (0..699).filter(|i| ![3, 4].contains(i)).map(|i| format!("{i:04}")).collect();
    expected.push("0003".to_owned());
    for by in ["seq", "time"] {
        for limit in [None, Some(1_000), Some(100), Some(7)] {
            let mut params = json!({ "by": by });
            if let Some(limit) = limit {
                params["limit"] = json!(limit);
            }
            let pages = pages(&mut app, params);
            assert!(pages.iter().all(|page| page.len() <= limit.unwrap_or(1_000)), "by {by}, {limit:?}");
            let all = pages.concat();
            assert!(ids(&all) == expected, "by {by}, {limit:?}");
            let key = |it: &Value| if by == "seq" { it["seq"].as_u64() } else { stamp(it) };
            assert!(all.is_sorted_by(|a, b| key(a) < key(b)), "by {by}, {limit:?}");
        }
        let with = pages(&mut app, json!({"by": by, "deleted": true, "limit": 100})).concat();
        assert_eq!(with.len(), 700);
        assert_eq!(ids(&with)[697..], ["0003", "0004", "0699"], "by {by}");
    }
}

fn stamp(entry: &Value) -> Option<u64> {
    entry["stamp"].as_str().and_then(|stamp| u64::from_str_radix(stamp, 16).ok())
}

#[test]
fn pages_of_large_metadata_still_fit_into_a_line() {
    // In JSON each of these characters takes six bytes where it is escaped, in UTF-8 three.
    for filling in ["m".repeat(limits::ENTRY_META - 8), "\u{2028}".repeat((limits::ENTRY_META - 8) / 3)] {
        let (_host, mut app) = filled(150, &json!({ "k": filling }));
        for by in ["seq", "time"] {
            let pages = pages(&mut app, json!({ "by": by }));
            assert!(pages.len() > 2, "more than two lines hold");
            assert_eq!(pages.concat().len(), 150);
            assert_eq!(pages.concat()[77]["meta"]["k"], filling);
        }
    }
}

#[test]
fn a_span_of_time_has_a_first_and_no_last() {
    let (_host, mut app) = filled(30, &json!({}));
    let all = app.list(json!({"by": "time"}));
    // Stamps of one millisecond have one time: choose one that is not its neighbours'.
    let time = |i: usize| all[i]["updated_at"].clone();
    let first = (1..30).find(|&i| time(i) != time(i - 1)).expect("writing takes longer than a millisecond");
    let last = (first + 1..30).find(|&i| time(i) != time(i - 1)).unwrap_or(29);
    let found = |app: &mut App, params: Value| app.list(params);
    let from = found(&mut app, json!({"by": "time", "from": time(first)}));
    assert_eq!(ids(&from), ids(&all[first..]));
    let until = found(&mut app, json!({"by": "time", "until": time(first), "limit": 3}));
    assert_eq!(ids(&until), ids(&all[..first]));
    let before_last = (0..30).filter(|&i| i >= first && time(i).as_str() < time(last).as_str()).collect::<Vec<_>>();
    let both = found(&mut app, json!({"by": "time", "from": time(first), "until": time(last)}));
    assert_eq!(both.len(), before_last.len());
    // Other ways to write a time, and spans in which nothing lies.
    for (params, count) in [
        (json!({"by": "time", "from": "1970-01-01T00:00:00Z"}), 30),
        (json!({"by": "time", "from": "0001-01-01T00:00:00Z"}), 30),
        (json!({"by": "time", "until": "1970-01-01T00:00:00Z"}), 0),
        (json!({"by": "time", "from": "9999-01-01T00:00:00+02:00"}), 0),
        (json!({"by": "time", "until": "9999-01-01T00:00:00-02:00"}), 30),
        (json!({"by": "time", "from": time(first), "until": time(first)}), 0),
    ] {
        assert_eq!(found(&mut app, params.clone()).len(), count, "{params}");
    }
}

#[test]
fn a_cursor_finds_what_is_new_and_nothing_else() {
    let (_host, mut app) = filled(10, &json!({}));
    let page = app.call("entries.list", json!({}));
    let mut cursor = page["cursor"].clone();
    assert_eq!(app.call("entries.list", json!({ "after": cursor }))["entries"], json!([]));
    app.put("0002", "changed");
    app.delete("0005");
    app.put("0010", "new");
    let news = app.call("entries.list", json!({"after": cursor, "deleted": true}));
    assert_eq!(ids(news["entries"].as_array().expect("a list")), ["0002", "0005", "0010"]);
    cursor = news["cursor"].clone();
    assert_eq!(app.call("entries.list", json!({"after": cursor, "deleted": true}))["entries"], json!([]));
    // The journal's own is the same place.
    let shown = app.call("journals.show", json!({}));
    assert_eq!(shown["cursor"], cursor);
    // Entries of other journals are none of this one's.
    app.door.call("journals.create", json!({"name": "notes"}));
    app.door.call("entries.put", json!({"journal": "notes", "id": "note"}));
    let others = app.call("entries.list", json!({"after": cursor, "deleted": true}));
    assert_eq!(others["entries"], json!([]));
    assert_eq!(app.door.call("entries.list", json!({"journal": "notes", "after": cursor}))["entries"][0]["id"], "note");
}

#[test]
fn a_cursor_of_another_database_is_no_cursor() {
    let (mut host, mut app) = filled(3, &json!({}));
    let cursor = app.call("entries.list", json!({"limit": 2}))["next"].clone();
    let at = cursor.as_str().expect("a place").to_owned();
    let (epoch, _) = at.split_once('.').expect("an epoch and a number");
    let ahead = format!("{epoch}.999999");
    let foreign = format!("{}.1", "0".repeat(32));
    for cursor in [&ahead, &foreign] {
        assert_eq!(app.refused("entries.list", json!({ "after": cursor })), "invalid_param");
        let (code, exit) = host.ctl_refused(&["entries", "list", DEFAULT, "--after", cursor]);
        assert_eq!((code.as_str(), exit), ("invalid_param", 2));
    }
    drop(app);
    host.stop();
    for file in ["kith.db", "kith.db-wal", "kith.db-shm"] {
        drop(fs::remove_file(host.path("data").join(file)));
    }
    host.start();
    let mut app = App::of(&host, DEFAULT);
    assert_eq!(app.list(json!({})), [] as [Value; 0]);
    assert_eq!(app.refused("entries.list", json!({ "after": cursor })), "invalid_param");
    app.put("new", "life");
    assert_eq!(app.refused("entries.list", json!({ "after": cursor })), "invalid_param");
}
