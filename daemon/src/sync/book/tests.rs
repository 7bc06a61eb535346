use kith_proto::control::journal::Refusal;
use kith_proto::control::types::Failure;
use kith_proto::limits;
use kith_proto::peer::journal::member::default_journal;
use kith_proto::peer::journal::replica::{Kept, Replica, Row, Shelf};
use kith_proto::peer::journal::rules::{self, Content, Expected, Outcome, Written};
use kith_proto::peer::journal::version::{Context, Hash, JournalId, Version, content_hash};
use kith_proto::peer::journal::wire::Cursor;
use kith_proto::peer::reconcile::Element;

use super::pages::Page;
use super::peers::{JournalPeer, SyncPeer};
use super::*;
use crate::store;

/// Some time in 2026.
pub const NOW: u64 = 1_790_000_000_000;
pub const DAY: u64 = 86_400_000;

pub fn key(byte: u8) -> PublicKey {
    PublicKey([byte; 32])
}

pub fn epoch(byte: u8) -> Epoch {
    Epoch([byte; 16])
}

pub fn circle() -> Circle {
    let names = BTreeMap::from([(key(2), "nas".to_owned()), (key(3), "phone".to_owned())]);
    Circle { device: key(1), own: BTreeSet::from([key(2), key(3)]), names }
}

/// A database with the default journal.
pub fn database() -> Connection {
    let connection = store::in_memory();
    Book::new(&connection, &circle()).unwrap().ensure_default(NOW).unwrap();
    connection
}

pub fn in_default<T>(connection: &Connection, work: impl FnOnce(&mut Journal<'_>) -> T) -> T {
    let circle = circle();
    let mut book = Book::new(connection, &circle).unwrap();
    work(&mut book.replica(&default_journal()).unwrap())
}

pub fn default(connection: &Connection) -> Listed {
    Book::new(connection, &circle()).unwrap().journal(&default_journal()).unwrap().unwrap()
}

pub fn write(connection: &Connection, id: &str, body: &[u8], now_ms: u64) -> Written {
    let content = Content { deleted: false, meta: "", body };
    in_default(connection, |it| rules::write(it, key(1), id, content, Expected::Anything, now_ms).unwrap())
}

pub fn delete(connection: &Connection, id: &str, now_ms: u64) -> Written {
    let content = Content { deleted: true, meta: "", body: b"" };
    in_default(connection, |it| rules::write(it, key(1), id, content, Expected::Anything, now_ms).unwrap())
}

/// What device 2 wrote.
pub fn theirs(id: &str, stamp: Stamp, body: &[u8]) -> Version {
    Version {
        id: id.to_owned(),
        stamp,
        device: key(2),
        epoch: epoch(2),
        context: Context::default(),
        deleted: false,
        meta: String::new(),
        hash: content_hash(false, "", body),
        size: body.len() as u64,
    }
}

pub fn take(connection: &Connection, version: &Version, body: &[u8]) -> Outcome {
    in_default(connection, |it| rules::take(it, key(1), version, body, &epoch(2), NOW).unwrap().outcome)
}

pub fn whole(connection: &Connection) {
    in_default(connection, |it| {
        let mut from = Some(Element::FIRST);
        while let Some(at) = from {
            let verified = it.verify(&at).unwrap();
            assert_eq!(verified.faults, Vec::<String>::new());
            from = verified.next;
        }
    });
}

fn ids(page: &Page<Held>) -> Vec<&str> {
    page.versions.iter().map(|held| held.version.id.as_str()).collect()
}

#[test]
fn a_version_is_read_as_it_was_written() {
    let db = database();
    let known = vec![(epoch(3), Stamp(7)), (epoch(9), Stamp(i64::MAX as u64))];
    let version = Version {
        context: Context::new(known).unwrap(),
        meta: r#"{"mood":"ü"}"#.to_owned(),
        ..theirs("ключ", Stamp::at(NOW), b"body")
    };
    assert_eq!(take(&db, &version, b"body"), Outcome::Current);
    in_default(&db, |it| {
        assert_eq!(it.current("ключ").unwrap().as_ref(), Some(&version));
        let row = it.row(&version.element()).unwrap().unwrap();
        assert_eq!(row, Row { seq: 1, version: version.clone(), body: Some(b"body".to_vec()) });
        assert_eq!(it.held("ключ", Some(&version.hash)).unwrap().unwrap().version, version);
        for (known, stamp) in [(epoch(2), version.stamp), (epoch(3), Stamp(7)), (epoch(4), Stamp::ZERO)] {
            assert_eq!(it.seen(&known).unwrap(), stamp);
        }
        let all = vec![(epoch(9), Stamp(i64::MAX as u64)), (epoch(2), version.stamp)];
        assert_eq!(it.all_seen(2).unwrap(), all);
        assert_eq!(it.clock().unwrap(), version.stamp);
    });
    whole(&db);
}

// A rewrite takes a new seq, and no seq is given out twice, also when rows are gone.
#[test]
fn seqs_grow() {
    let db = database();
    let seq = |written| match written {
        Written::Current(seq, _) => seq,
        other => panic!("{other:?}"),
    };
    assert_eq!(seq(write(&db, "a", b"1", NOW)), 1);
    assert_eq!(seq(write(&db, "b", b"1", NOW)), 2);
    assert_eq!(seq(write(&db, "a", b"2", NOW)), 3);
    assert_eq!(seq(delete(&db, "a", NOW)), 4);
    in_default(&db, |it| it.raise_horizon(Stamp::at(NOW + 1)).unwrap());
    assert_eq!(default(&db).total.count, 1);
    assert_eq!(in_default(&db, |it| it.top().unwrap()), 4);
    assert_eq!(seq(write(&db, "a", b"3", NOW)), 5);
    Book::new(&db, &circle()).unwrap().leave(&default(&db)).unwrap();
    assert_eq!(Shelf::top(&mut Book::new(&db, &circle()).unwrap()).unwrap(), 5);
}

// G52, G53, G54: what loses is kept, each once; the same content is no conflict.
#[test]
fn g52_what_loses_a_conflict_is_kept() {
    let db = database();
    write(&db, "a", b"mine", NOW);
    let mine = in_default(&db, |it| it.current("a").unwrap().unwrap());
    let (older, newer) = (theirs("a", Stamp::at(NOW - 9), b"older"), theirs("a", Stamp::at(NOW + 9), b"newer"));
    assert!(matches!(take(&db, &older, b"older"), Outcome::Conflict { .. }));
    assert_eq!(take(&db, &older, b"older"), Outcome::Known);
    assert!(matches!(take(&db, &newer, b"newer"), Outcome::Conflict { .. }));
    assert_eq!(take(&db, &newer, b"newer"), Outcome::Known);
    assert_eq!(take(&db, &theirs("a", Stamp::at(NOW + 99), b"newer"), b"newer"), Outcome::Current);
    let listed = default(&db);
    assert_eq!((listed.entries(), listed.tombstones, listed.history, listed.recovered), (1, 0, 2, 0));
    in_default(&db, |it| {
        let page = it.kept(Kept::History, None, None, 10, 1 << 20).unwrap();
        let versions: Vec<_> = page.versions.iter().map(|held| &held.version).collect();
        assert_eq!(versions, [&mine, &older]);
        let held = it.held("a", Some(&mine.hash)).unwrap().unwrap();
        assert_eq!(it.body(&held, 1, 2).unwrap(), b"in");
        // Made current again by hand, it is still among the kept.
        it.put(&mine, b"mine", &epoch(1)).unwrap();
        assert_ne!(it.held("a", Some(&mine.hash)).unwrap().unwrap().seq, 0);
        assert_eq!(it.kept_version("a", &mine.hash).unwrap().as_ref(), Some(&held));
        assert!(it.forget(&held).unwrap());
        assert!(!it.forget(&held).unwrap());
        assert_eq!(it.kept_version("a", &mine.hash).unwrap(), None);
    });
    assert_eq!(default(&db).history, 1);
    whole(&db);
}

#[test]
fn an_entry_keeps_its_newest_versions_for_some_time() {
    let db = database();
    let stamp = |n: u64| Stamp::at(NOW + n);
    for n in 1..=limits::ENTRY_HISTORY as u64 + 2 {
        let body = n.to_be_bytes();
        let news = in_default(&db, |it| it.keep(Kept::History, &theirs("a", stamp(n), &body), &body, NOW + n).unwrap());
        assert!(news);
    }
    let old = in_default(&db, |it| it.keep(Kept::History, &theirs("a", stamp(0), b""), b"", NOW).unwrap());
    assert!(!old, "there are enough that are newer");
    in_default(&db, |it| it.keep(Kept::Recovered, &theirs("a", stamp(0), b""), b"", NOW).unwrap());
    in_default(&db, |it| it.keep(Kept::History, &theirs("b", stamp(7), b""), b"", NOW + 4).unwrap());
    let listed = default(&db);
    assert_eq!((listed.history, listed.recovered), (limits::ENTRY_HISTORY as u64 + 1, 1));

    // In pages, an entry after the other, the newest first.
    let pages = |id: Option<&str>| {
        in_default(&db, |it| {
            let (mut found, mut after) = (Vec::new(), None);
            loop {
                let page = it.kept(Kept::History, id, after.as_ref(), 4, 1 << 20).unwrap();
                after = page.versions.last().map(Held::kept_at);
                found.extend(page.versions.into_iter().map(|held| (held.version.id, held.version.stamp)));
                if !page.more {
                    return found;
                }
            }
        })
    };
    let a = (3..=12).rev().map(|n| ("a".to_owned(), stamp(n)));
    assert_eq!(pages(Some("a")), a.clone().collect::<Vec<_>>());
    assert_eq!(pages(None), a.chain([("b".to_owned(), stamp(7))]).collect::<Vec<_>>());
    assert_eq!(pages(Some("b")), [("b".to_owned(), stamp(7))]);

    let book = circle();
    let book = Book::new(&db, &book).unwrap();
    assert!(!book.sweep_history(NOW + 3 + limits::ENTRY_HISTORY_MS, 100).unwrap());
    assert_eq!(default(&db).history, limits::ENTRY_HISTORY as u64 + 1);
    assert!(book.sweep_history(NOW + 5 + limits::ENTRY_HISTORY_MS, 2).unwrap());
    assert_eq!(default(&db).history, limits::ENTRY_HISTORY as u64 - 1);
    assert!(!book.sweep_history(NOW + 90 + limits::ENTRY_HISTORY_MS, 100).unwrap());
    let listed = default(&db);
    assert_eq!((listed.history, listed.recovered), (0, 1), "what came back waits for somebody");
    whole(&db);
}

// G67: what a device brings back from before the horizon waits among the recovered.
#[test]
fn g67_a_deleted_entry_does_not_come_back_by_itself() {
    let db = database();
    let version = theirs("a", Stamp::at(NOW - 9), b"body");
    take(&db, &version, b"body");
    delete(&db, "a", NOW);
    in_default(&db, |it| it.raise_horizon(Stamp::at(NOW)).unwrap());
    assert_eq!(default(&db).total.count, 0);
    assert_eq!(take(&db, &version, b"body"), Outcome::Recovered);
    assert_eq!(take(&db, &version, b"body"), Outcome::Known);
    let listed = default(&db);
    assert_eq!((listed.entries(), listed.tombstones, listed.recovered), (0, 1, 1));
    in_default(&db, |it| {
        assert_eq!(ids(&it.kept(Kept::Recovered, None, None, 10, 1 << 20).unwrap()), ["a"]);
        assert!(it.current("a").unwrap().unwrap().deleted);
    });
    whole(&db);
}

#[test]
fn pages_in_the_order_of_changes() {
    let db = database();
    for id in ["a", "b", "c", "d"] {
        write(&db, id, b"1", NOW);
    }
    delete(&db, "b", NOW);
    write(&db, "a", b"2", NOW);
    in_default(&db, |it| {
        let page = it.by_seq(0, false, 2, 1 << 20).unwrap();
        assert_eq!((ids(&page), page.more), (vec!["c", "d"], true));
        let page = it.by_seq(page.versions[1].seq, false, 2, 1 << 20).unwrap();
        assert_eq!((ids(&page), page.more), (vec!["a"], false));
        assert_eq!(ids(&it.by_seq(0, true, 9, 1 << 20).unwrap()), ["c", "d", "b", "a"]);
        let page = it.by_seq(0, true, 9, 2).unwrap();
        assert_eq!((ids(&page), page.more), (vec!["c", "d"], true), "bytes bound a page, too");
        assert_eq!(ids(&it.by_seq(0, true, 9, 0).unwrap()), ["c"], "but something is in it");
        let page = it.by_seq(6, true, 9, 9).unwrap();
        assert_eq!((ids(&page), page.more), (vec![], false));
    });
}

#[test]
fn pages_in_the_order_of_time() {
    let db = database();
    for (id, ms) in [("c", 3), ("a", 1), ("e", 5), ("b", 2), ("d", 4)] {
        take(&db, &theirs(id, Stamp::at(NOW + ms), b""), b"");
    }
    delete(&db, "e", NOW + 6);
    let at = |ms: u64| Stamp::at(NOW + ms);
    in_default(&db, |it| {
        let all = (Stamp::ZERO, Stamp(u64::MAX));
        let page = it.by_time(None, all, false, 3, 1 << 20).unwrap();
        assert_eq!((ids(&page), page.more), (vec!["a", "b", "c"], true));
        let last = page.versions[2].version.element();
        let page = it.by_time(Some(&last), all, false, 3, 1 << 20).unwrap();
        assert_eq!((ids(&page), page.more), (vec!["d"], false));
        assert_eq!(ids(&it.by_time(Some(&last), all, true, 3, 1 << 20).unwrap()), ["d", "e"]);
        assert_eq!(ids(&it.by_time(None, (at(2), at(4)), true, 9, 1 << 20).unwrap()), ["b", "c"]);
        assert_eq!(ids(&it.by_time(Some(&last), (at(2), at(5)), true, 9, 1 << 20).unwrap()), ["d"]);
        assert_eq!(ids(&it.by_time(None, (at(7), at(9)), true, 9, 1 << 20).unwrap()), Vec::<&str>::new());
    });
}

#[test]
fn changes_leave_out_what_came_from_the_peer() {
    let db = database();
    let long = vec![1; limits::ENTRY_INLINE + 1];
    write(&db, "a", &[0; 60], NOW);
    take(&db, &theirs("b", Stamp::at(NOW), b""), b"");
    write(&db, "c", &[0; 60], NOW);
    write(&db, "d", &long, NOW);
    write(&db, "e", b"", NOW);
    let changes = |seq, peer: u8, rows, bytes| {
        let rows = in_default(&db, |it| it.changes(seq, &epoch(peer), rows, bytes).unwrap());
        rows.into_iter().map(|row| (row.version.id, row.body.is_some())).collect::<Vec<_>>()
    };
    let row = |id: &str, body| (id.to_owned(), body);
    assert_eq!(changes(0, 2, 9, 1000), [row("a", true), row("c", true), row("d", false)]);
    assert_eq!(changes(0, 3, 2, 1000), [row("a", true), row("b", true)]);
    assert_eq!(changes(0, 2, 9, 100), [row("a", true)]);
    assert_eq!(changes(0, 2, 9, 0), [row("a", true)]);
    assert_eq!(changes(4, 2, 9, 1000), [row("e", true)]);
    assert_eq!(changes(5, 2, 9, 1000), []);
    in_default(&db, |it| {
        let element = it.current("d").unwrap().unwrap().element();
        assert_eq!(it.piece(&element, 65_530, 100).unwrap(), Some(vec![1; 7]));
        assert_eq!(it.piece(&element, 1 << 40, 100).unwrap(), Some(vec![]));
        assert_eq!(it.piece(&Element::FIRST, 0, 100).unwrap(), None);
        assert_eq!(it.row(&element).unwrap().unwrap().body, None);
    });
}

#[test]
fn beginnings_of_bodies_outlive_sessions_but_not_for_ever() {
    let db = database();
    let hash = |n: u8| -> Hash { [n; 32] };
    in_default(&db, |it| {
        it.add_piece(&hash(0), 0, b"lost", NOW).unwrap();
        it.add_piece(&hash(0), 0, b"one ", NOW).unwrap();
        it.add_piece(&hash(0), 4, b"two", NOW).unwrap();
        assert_eq!(it.partial(&hash(0)).unwrap(), 7);
        assert_eq!(it.partial(&hash(1)).unwrap(), 0);
    });
    let circle = circle();
    let mut book = Book::new(&db, &circle).unwrap();
    let partial = |book: &mut Book<'_>| book.manifest(&key(2)).unwrap().remove(0).partial;
    assert_eq!(partial(&mut book).iter().map(|it| (it.hash, it.have)).collect::<Vec<_>>(), [(hash(0), 7)]);
    in_default(&db, |it| {
        assert_eq!(it.take_pieces(&hash(0)).unwrap(), b"one two");
        assert_eq!(it.partial(&hash(0)).unwrap(), 0);
        for n in 0..limits::PARTIAL_BODIES as u8 + 2 {
            it.add_piece(&hash(n), 0, b"x", NOW + u64::from(n)).unwrap();
        }
        assert_eq!([0, 1, 2].map(|n| it.partial(&hash(n)).unwrap()), [0, 0, 1]);
    });
    book.sweep_pieces(NOW + 3 + limits::PARTIAL_BODY_MS).unwrap();
    assert_eq!([2, 3].map(|n| in_default(&db, |it| it.partial(&hash(n)).unwrap())), [0, 1]);
}

// G65: what was counted under another life of a database counts for nothing.
#[test]
fn g65_cursors_hold_for_one_life_of_a_database() {
    let db = database();
    let circle = circle();
    let mut book = Book::new(&db, &circle).unwrap();
    let cursor = |book: &mut Book<'_>| book.manifest(&key(2)).unwrap().remove(0).cursor;
    assert_eq!(cursor(&mut book), None);
    in_default(&db, |it| {
        it.set_acknowledged(&key(2), 5).unwrap();
        it.set_cursor(&key(2), &epoch(2), 7).unwrap();
        it.synced(&key(2), NOW).unwrap();
    });
    assert_eq!(cursor(&mut book), Some(Cursor { epoch: epoch(2), since: 7 }));
    let peer = |book: &Book<'_>| book.journal_peers(&default(&db)).unwrap().remove(&key(2)).unwrap();
    let known = JournalPeer { acknowledged: 5, last_sync_ms: Some(NOW), ..JournalPeer::default() };
    assert_eq!(peer(&book), known);
    in_default(&db, |it| {
        it.set_acknowledged(&key(2), 6).unwrap();
        it.set_cursor(&key(2), &epoch(2), 8).unwrap();
    });
    assert_eq!(peer(&book).acknowledged, 6);
    in_default(&db, |it| it.set_cursor(&key(2), &epoch(5), 1).unwrap());
    assert_eq!(peer(&book).acknowledged, 0);

    in_default(&db, |it| it.set_acknowledged(&key(2), 6).unwrap());
    let before = Shelf::epoch(&book);
    book.begin_epoch().unwrap();
    assert_ne!(Shelf::epoch(&book), before);
    assert_eq!(Shelf::epoch(&Book::new(&db, &circle).unwrap()), Shelf::epoch(&book));
    assert_eq!(peer(&book).acknowledged, 0);
    assert_eq!(cursor(&mut book), Some(Cursor { epoch: epoch(5), since: 1 }), "what is here of theirs is here");
}

#[test]
fn lag_is_what_a_peer_has_not_got() {
    let db = database();
    let circle = circle();
    let book = Book::new(&db, &circle).unwrap();
    let lag = |peer, most| {
        let one = book.lag(&default(&db), &key(peer), most).unwrap();
        let many = book.lags(&default(&db), &[key(3), key(peer), key(4)], most).unwrap();
        assert_eq!((one, many.len()), (many[1], 3));
        let synced = book.synced_peers(&default(&db)).unwrap();
        assert!(synced.get(&key(peer)).is_none_or(|synced| synced.current == (one == 0)));
        one
    };
    assert_eq!(lag(2, 9), 0);
    write(&db, "a", b"", NOW);
    write(&db, "b", b"", NOW);
    take(&db, &theirs("c", Stamp::at(NOW), b""), b"");
    assert_eq!((lag(2, 9), lag(3, 9), lag(3, 1)), (3, 3, 1));
    in_default(&db, |it| it.set_cursor(&key(2), &epoch(2), 1).unwrap());
    book.synced(default(&db).number, &key(2), NOW).unwrap();
    assert_eq!((lag(2, 9), lag(3, 9)), (2, 3));
    assert_eq!((lag(2, 1), lag(2, 2), lag(2, 3), lag(3, 2)), (1, 2, 2, 2), "also behind what it wrote itself");
    in_default(&db, |it| it.set_acknowledged(&key(2), 2).unwrap());
    assert_eq!((lag(2, 9), lag(3, 9)), (0, 3));
}

#[test]
fn what_sessions_leave_behind() {
    let db = database();
    let circle = circle();
    let book = Book::new(&db, &circle).unwrap();
    let failure = Failure { rpc: -1, code: "x".to_owned(), message: "y".to_owned(), hint: None };
    book.note_session(&key(2), Some(-7), None, NOW).unwrap();
    book.note_session(&key(2), None, Some(&failure), NOW + 1).unwrap();
    let failed = SyncPeer { last_sync_ms: Some(NOW), skew_ms: Some(-7), error: Some((failure, NOW + 1)) };
    assert_eq!(book.sync_peers().unwrap(), BTreeMap::from([(key(2), failed)]));
    book.note_session(&key(2), Some(8), None, NOW + 2).unwrap();
    let well = SyncPeer { last_sync_ms: Some(NOW + 2), skew_ms: Some(8), error: None };
    assert_eq!(book.sync_peers().unwrap(), BTreeMap::from([(key(2), well)]));

    let refused = vec![Refusal { id: "a".to_owned(), reason: "bad_hash".to_owned() }];
    book.note_conflicts(&default(&db), &key(2), 2).unwrap();
    book.note_conflicts(&default(&db), &key(2), 3).unwrap();
    book.note_refused(&default(&db), &key(2), &refused).unwrap();
    let noted = JournalPeer { conflicts: 5, refused, ..JournalPeer::default() };
    assert_eq!(book.journal_peers(&default(&db)).unwrap(), BTreeMap::from([(key(2), noted)]));
}

#[test]
fn journals_are_found_by_name_and_id() {
    let db = database();
    let circle = circle();
    let book = Book::new(&db, &circle).unwrap();
    let found = book.find("default").unwrap().unwrap();
    assert_eq!((found.id, found.state, found.resource), (default_journal(), State::Active, None));
    assert_eq!(book.find(&default_journal().to_string()).unwrap().unwrap().name, "default");
    assert!(book.find("Default").unwrap().is_none());
    assert!(book.find(&JournalId([1; 16]).to_string()).unwrap().is_none());
    assert!(book.is_taken("default").unwrap());
    assert!(book.is_taken(&JournalId([1; 16]).to_string()).unwrap(), "a name that looks like an id");
    assert!(!book.is_taken("notes").unwrap());
    book.ensure_default(NOW).unwrap();
    assert_eq!(book.journal_count().unwrap(), 1);
    assert_eq!(book.others(&found_default(&book)).unwrap(), [key(2), key(3)]);
}

fn found_default(book: &Book<'_>) -> Listed {
    book.find("default").unwrap().unwrap()
}

#[test]
fn doctor_sees_what_is_not_as_it_should_be() {
    for spoil in [
        "UPDATE journal SET count = count + 1",
        "UPDATE journal SET sum = randomblob(32)",
        "UPDATE journal SET tombstones = 7",
        "UPDATE journal SET history = 7",
        "UPDATE journal_chunk SET sum = randomblob(32) WHERE stamp > 0",
        "UPDATE journal_chunk SET count = count + 1",
        "DELETE FROM journal_chunk WHERE stamp > 0",
        "DELETE FROM journal_element WHERE seq = 3",
        "DELETE FROM journal_entry WHERE seq = 3",
        "UPDATE journal_entry SET hash = randomblob(32) WHERE seq = 3",
        "UPDATE journal_entry SET stamp = stamp + 1 WHERE seq = 3",
    ] {
        let db = database();
        (0..20).for_each(|n| drop(write(&db, &n.to_string(), b"", NOW)));
        whole(&db);
        db.execute(spoil, []).unwrap();
        let faults = in_default(&db, |it| it.verify(&Element::FIRST).unwrap().faults);
        assert!(!faults.is_empty(), "{spoil}");
    }
}
