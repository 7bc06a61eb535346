//! Two ends of a session, and what lies between them.

use super::harness::{Act, BEGIN, Clock, DAY, Meeting, NOTES, World};
use crate::hlc::Stamp;
use crate::id::PublicKey;
use crate::limits;
use crate::peer::journal::member::{Introduction, Kind, Resource};
use crate::peer::journal::memory::Memory;
use crate::peer::journal::replica::{Replica, Row, Shelf};
use crate::peer::journal::rules::{self, Content, Expected, Written};
use crate::peer::journal::session::{Fault, Session};
use crate::peer::journal::version::{Context, Epoch, JournalId, Version, content_hash};
use crate::peer::journal::wire::{self, Frame, Manifest, Message};
use crate::peer::reconcile::{Element, Initiator, Missing};

fn device(number: u8) -> Memory {
    let mut device = Memory::new(PublicKey([number; 32]), Epoch([number; 16]));
    device.journal(&NOTES);
    device
}

fn put(device: &mut Memory, id: &str, text: &str, now_ms: u64) -> Written {
    let (key, content) = (device.device, Content { deleted: false, meta: "", body: text.as_bytes() });
    rules::write(&mut device.journal(&NOTES), key, id, content, Expected::Anything, now_ms).unwrap()
}

/// Runs a session; says how many bytes went over.
pub fn sync(a: &mut Memory, b: &mut Memory, now_ms: u64) -> usize {
    let (mut left, mut right) = (Session::new(a.device, b.device, true), Session::new(b.device, a.device, false));
    run(&mut left, a, &mut right, b, now_ms)
}

fn run(left: &mut Session, a: &mut Memory, right: &mut Session, b: &mut Memory, now_ms: u64) -> usize {
    left.begin(a, now_ms).unwrap();
    right.begin(b, now_ms).unwrap();
    let mut bytes = 0;
    while !(left.is_over() && right.is_over()) {
        let mut moved = false;
        while let Some(frame) = left.transmit(a, now_ms).unwrap() {
            bytes += frame.len();
            right.receive(&frame, b, now_ms).unwrap();
            moved = true;
        }
        while let Some(frame) = right.transmit(b, now_ms).unwrap() {
            bytes += frame.len();
            left.receive(&frame, a, now_ms).unwrap();
            moved = true;
        }
        assert!(moved || (left.is_over() && right.is_over()), "stuck: {left:?} {right:?}");
    }
    bytes
}

fn same(a: &Memory, b: &Memory) -> bool {
    a.journals[&NOTES].elements() == b.journals[&NOTES].elements()
}

#[test]
fn two_devices_become_the_same() {
    let (mut a, mut b) = (device(1), device(2));
    for n in 0..300 {
        put(&mut a, &format!("a{n}"), "x", 1_800_000_000_000 + n);
        put(&mut b, &format!("b{n}"), "y", 1_800_000_000_000 + n);
    }
    sync(&mut a, &mut b, 1_800_000_001_000);
    assert!(same(&a, &b));
    assert_eq!(a.journals[&NOTES].rows.len(), 600);
    let idle = sync(&mut a, &mut b, 1_800_000_002_000);
    assert!(idle < 1024, "{idle} bytes when nothing changed");
    put(&mut b, "a7", &"long".repeat(1_000_000), 1_800_000_003_000);
    sync(&mut a, &mut b, 1_800_000_004_000);
    assert!(same(&a, &b));
    assert_eq!(a.journals[&NOTES].rows["a7"].2.len(), 4_000_000);
}

/// One of every kind of frame.
fn frames() -> Vec<(&'static str, Vec<u8>)> {
    let say = |message: Message| wire::message(&message);
    let resource = Resource { kind: Kind::Journal, name: "x".to_owned(), creator: PEER, nonce: NOTES };
    let version = row("y", b"y");
    let everything = Missing { lower: Element::FIRST, upper: Element::END, ids: vec![[1; 32]] };
    vec![
        ("hello", hello(NOTES, "", [1; 16])),
        ("members", say(Message::Members(Introduction { resource, records: Vec::new() }))),
        ("known", say(Message::Known)),
        ("manifest", say(Message::Manifest { journals: vec![manifest(NOTES, "", [1; 16])] })),
        ("end", say(Message::End)),
        ("settled", say(Message::Settled { anew: 0 })),
        ("check", say(Message::Check { fingerprint: [1; 16], count: 1, top: 1, seen: Vec::new() })),
        ("ack", say(Message::Ack { taken: 0, refused: Vec::new() })),
        ("done", say(Message::Done)),
        ("entries", wire::entries(&[Row { seq: 1, version, body: Some(b"y".to_vec()) }])),
        ("body", wire::body(0, b"piece")),
        ("ranges", wire::ranges(&Initiator::new().begin(&mut device(2).journal(&NOTES)).unwrap())),
        ("want", wire::want(&[everything]).remove(0)),
    ]
}

const PEER: PublicKey = PublicKey([2; 32]);

fn manifest(journal: JournalId, members: &str, fingerprint: [u8; 16]) -> Manifest {
    let members = members.to_owned();
    let (cursor, partial) = (None, Vec::new());
    Manifest { journal, members, top: 1, fingerprint, count: 1, horizon: Stamp::ZERO, cursor, partial }
}

fn hello(journal: JournalId, members: &str, fingerprint: [u8; 16]) -> Vec<u8> {
    let journals = vec![manifest(journal, members, fingerprint)];
    wire::message(&Message::Hello { v: wire::VERSION, epoch: Epoch([2; 16]), now_ms: BEGIN, journals })
}

fn row(id: &str, body: &[u8]) -> Version {
    let (stamp, epoch, context) = (Stamp::at(BEGIN), Epoch([2; 16]), Context::default());
    let (hash, size) = (content_hash(false, "", body), body.len() as u64);
    Version { id: id.to_owned(), stamp, device: PEER, epoch, context, deleted: false, meta: String::new(), hash, size }
}

/// A session that has come so far: what arrives before, and whether this side leads.
fn session_at(before: &[Vec<u8>], leads: bool) -> (Memory, Session) {
    let mut shelf = device(1);
    put(&mut shelf, "x", "x", BEGIN);
    let mut session = Session::new(shelf.device, PEER, leads);
    session.begin(&mut shelf, BEGIN).unwrap();
    for frame in before {
        session.receive(frame, &mut shelf, BEGIN).unwrap();
        while session.transmit(&mut shelf, BEGIN).unwrap().is_some() {}
    }
    (shelf, session)
}

#[test]
fn g71_a_frame_that_does_not_belong_there_changes_nothing() {
    let all = frames();
    let of = |name: &str| all.iter().find(|(it, _)| *it == name).unwrap().1.clone();
    let mut shelf = device(1);
    put(&mut shelf, "x", "x", BEGIN);
    let same = shelf.manifest(&PEER).unwrap().remove(0).fingerprint;
    let big = wire::entries(&[Row { seq: 1, version: row("z", &[0; 70_000]), body: None }]);
    let (greeted, other) = (of("hello"), hello(NOTES, "other", [1; 16]));
    let streaming = vec![greeted, of("ack")];
    let checked = [&streaming[..], &[of("end"), of("check")]].concat();
    let reconciled = [&checked[..], &[of("end")]].concat();
    let done = vec![hello(NOTES, "", same), of("done")];
    for (stage, before, leads, belongs) in [
        ("greeting", vec![], true, &["hello"][..]),
        ("introducing", vec![other.clone()], true, &["members", "known"]),
        ("listing", vec![other, of("known")], true, &["manifest"]),
        ("streaming", streaming.clone(), true, &["end", "entries"]),
        ("a body", [&streaming[..], &[big]].concat(), true, &["body"]),
        ("before the check", [&streaming[..], &[of("end")]].concat(), false, &["check", "entries"]),
        ("reconciling, led", checked.clone(), false, &["ranges", "want", "entries", "end"]),
        // Entries may come before the answer, and an early END is noticed at the end.
        ("reconciling, leading", checked, true, &["ranges", "entries", "end"]),
        ("reconciled, led", reconciled, false, &["settled", "entries"]),
        ("parting", done[..1].to_vec(), true, &["done"]),
        ("over", done, true, &[]),
    ] {
        for (name, frame) in &all {
            let (mut shelf, mut session) = session_at(&before, leads);
            let was = format!("{shelf:?}");
            let result = session.receive(frame, &mut shelf, BEGIN);
            if belongs.contains(name) {
                assert!(result.is_ok(), "{stage}: {name}: {result:?}");
            } else {
                assert!(matches!(result, Err(Fault::Protocol(_))), "{stage}: {name}: {result:?}");
                assert_eq!(format!("{shelf:?}"), was, "{stage}: {name}");
            }
        }
    }
}

#[test]
fn g71_pieces_that_do_not_fit_are_noticed() {
    let big = wire::entries(&[Row { seq: 1, version: row("z", &[0; 70_000]), body: None }]);
    let before = [hello(NOTES, "", [1; 16]), big, wire::body(0, &[0; 10])];
    for piece in [wire::body(9, b"x"), wire::body(11, b"x"), wire::body(0, b"x"), wire::body(10, &[0; 70_000])] {
        let (mut shelf, mut session) = session_at(&before, true);
        let result = session.receive(&piece, &mut shelf, BEGIN);
        assert!(matches!(result, Err(Fault::Protocol(_))), "{result:?}");
    }
    // Nothing: the entry has changed meanwhile.
    let (mut shelf, mut session) = session_at(&before, true);
    session.receive(&wire::body(10, b""), &mut shelf, BEGIN).unwrap();
    session.receive(&wire::message(&Message::End), &mut shelf, BEGIN).unwrap();
}

#[test]
fn greetings_that_are_none() {
    let (mut shelf, mut session) = session_at(&[], true);
    let other = Message::Hello { v: 2, epoch: Epoch([2; 16]), now_ms: 0, journals: Vec::new() };
    assert_eq!(session.receive(&wire::message(&other), &mut shelf, BEGIN), Err(Fault::Version(2)));
    let last = session.last_words().pop_back().unwrap();
    assert_eq!(Frame::decode(&last), Ok(Frame::Message(Message::Fail { reason: "version".to_owned() })));
    for pair in [[2, 1], [1, 1]] {
        let (mut shelf, mut session) = session_at(&[], true);
        let journals = pair.map(|it| manifest(JournalId([it; 16]), "", [1; 16])).to_vec();
        let hello = Message::Hello { v: wire::VERSION, epoch: Epoch([2; 16]), now_ms: BEGIN, journals };
        let result = session.receive(&wire::message(&hello), &mut shelf, BEGIN);
        assert!(matches!(result, Err(Fault::Protocol(_))), "{result:?}");
    }
    let (mut shelf, mut session) = session_at(&[], true);
    let fail = wire::message(&Message::Fail { reason: "busy".to_owned() });
    assert_eq!(session.receive(&fail, &mut shelf, BEGIN), Err(Fault::Failed("busy".to_owned())));
}

#[test]
fn bad_rows_are_refused_one_by_one() {
    let (mut a, mut b) = (device(1), device(2));
    put(&mut b, "good", "x", BEGIN);
    let later = Context::new(vec![(Epoch([9; 16]), Stamp::at(BEGIN + 1))]).unwrap();
    let long = vec![1; 70_000];
    let bad: Vec<(Version, &[u8], &str)> = vec![
        (row("line\nbreak", b"x"), b"x", "bad_id"),
        (row(&"x".repeat(limits::ENTRY_ID + 1), b"x"), b"x", "bad_id"),
        (row("", b"x"), b"x", "bad_id"),
        (Version { meta: "[1]".to_owned(), ..row("list", b"x") }, b"x", "bad_meta"),
        (Version { deleted: true, ..row("deleted", b"x") }, b"x", "bad_meta"),
        (Version { stamp: Stamp::at(BEGIN + 11 * 366 * DAY), ..row("future", b"x") }, b"x", "bad_stamp"),
        (Version { stamp: Stamp::ZERO, ..row("never", b"x") }, b"x", "bad_stamp"),
        (Version { context: later, ..row("knows the future", b"x") }, b"x", "bad_stamp"),
        (Version { hash: [1; 32], ..row("hash", b"x") }, b"x", "bad_hash"),
        (Version { hash: [2; 32], ..row("long hash", &long) }, &long, "bad_hash"),
        (Version { size: limits::ENTRY_BODY as u64 + 1, ..row("large", &long) }, &long, "too_large"),
    ];
    for (version, body, _) in &bad {
        let epoch = b.epoch;
        b.journal(&NOTES).put(version, body, &epoch).unwrap();
        put(&mut b, &format!("after {}", bad.len()), "x", BEGIN);
    }
    let (mut left, mut right) = (Session::new(a.device, b.device, true), Session::new(b.device, a.device, false));
    run(&mut left, &mut a, &mut right, &mut b, BEGIN);
    let mut told: Vec<(String, String)> =
        left.report().refusals[&NOTES].iter().map(|it| (it.id.clone(), it.reason.clone())).collect();
    told.dedup();
    for (version, _, reason) in &bad[..9] {
        let id = crate::text::cut(&version.id, limits::ENTRY_ID).to_owned();
        assert!(told.contains(&(id, (*reason).to_owned())), "{reason}: {told:?}");
    }
    // Twice: by the cursor, and once more because the sets differ.
    assert_eq!(left.report().refused, 2 * bad.len() as u64);
    assert_eq!(right.report().refused, left.report().refused);
    let ids: Vec<&str> = a.journals[&NOTES].rows.keys().map(String::as_str).collect();
    assert_eq!(ids, ["after 11", "good"]);
    assert!(a.pieces.is_empty(), "nothing is left of what was refused");
    assert!(a.clock <= Stamp::at(BEGIN + 1), "nothing that was refused moves the clock");
    assert_eq!(b.journals[&NOTES].acknowledged.get(&a.device), None, "not all of it is there");
}

#[test]
fn g46_a_body_that_was_cut_off_goes_on_where_it_was() {
    for cut in 0..12 {
        let mut world = World::new(&[Clock::Skewed(0), Clock::Skewed(0)]);
        world.act(0, &Act::Large { id: 1, kib: 2600 });
        let during = Vec::new();
        world.meet(&Meeting { pair: (0, 1), cut: Some(cut), turns: 0x1357_9bdf_0246_8ace, during });
        let have: usize = world.devices[1].disk.memory.pieces.values().map(Vec::len).sum();
        let there = world.is_same();
        let ran = world.sync(0, 1);
        let rest = if there { 0 } else { (2600 << 10) - have };
        assert!(world.is_same() && ran.bytes <= rest + 4096, "{cut}: {} bytes for {rest}", ran.bytes);
    }
}

#[test]
fn g65_a_database_that_went_back_is_found_out_from_either_side() {
    for leads in [true, false] {
        let (mut a, mut b) = (device(1), device(2));
        put(&mut a, "old", "x", BEGIN);
        let backup = a.clone();
        put(&mut a, "new", "x", BEGIN + 1);
        sync(&mut a, &mut b, BEGIN + 2);
        a = backup;
        put(&mut b, "meanwhile", "x", BEGIN + 3);
        let (mut left, mut right) = (Session::new(a.device, b.device, leads), Session::new(b.device, a.device, !leads));
        left.begin(&mut a, BEGIN).unwrap();
        right.begin(&mut b, BEGIN).unwrap();
        let hello = right.transmit(&mut b, BEGIN).unwrap().unwrap();
        left.transmit(&mut a, BEGIN).unwrap().unwrap();
        left.receive(&hello, &mut a, BEGIN).unwrap();
        let fail = left.transmit(&mut a, BEGIN).unwrap().unwrap();
        assert!(left.is_over() && left.report().rolled_back && a.epoch != Epoch([1; 16]));
        assert_eq!(right.receive(&fail, &mut b, BEGIN), Err(Fault::RolledBack));
        assert_eq!(b.epoch, Epoch([2; 16]));
        sync(&mut a, &mut b, BEGIN + 4);
        assert!(same(&a, &b));
        assert_eq!(a.journals[&NOTES].rows.len(), 3);
    }
}

#[test]
fn a_copied_database_begins_anew_on_both_devices() {
    let mut a = device(1);
    put(&mut a, "x", "x", BEGIN);
    let mut b = Memory { device: PEER, ..a.clone() };
    let (mut left, mut right) = (Session::new(a.device, PEER, true), Session::new(PEER, a.device, false));
    left.begin(&mut a, BEGIN).unwrap();
    right.begin(&mut b, BEGIN).unwrap();
    let from_a = left.transmit(&mut a, BEGIN).unwrap().unwrap();
    let from_b = right.transmit(&mut b, BEGIN).unwrap().unwrap();
    left.receive(&from_b, &mut a, BEGIN).unwrap();
    right.receive(&from_a, &mut b, BEGIN).unwrap();
    assert!(left.report().rolled_back && right.report().rolled_back && a.epoch != b.epoch);
    put(&mut a, "x", "y", BEGIN + 1);
    put(&mut b, "z", "z", BEGIN + 1);
    sync(&mut a, &mut b, BEGIN + 2);
    assert!(same(&a, &b) && a.journals[&NOTES].rows.len() == 2);
}

#[test]
fn a_horizon_of_the_far_future_is_not_believed() {
    let (mut a, mut b) = (device(1), device(2));
    put(&mut a, "x", "x", BEGIN);
    let seen = [(Epoch([3; 16]), Stamp(u64::MAX)), (Epoch([4; 16]), Stamp::at(BEGIN))];
    for (epoch, stamp) in seen {
        b.journal(&NOTES).saw(&epoch, stamp).unwrap();
    }
    b.journal(&NOTES).raise_horizon(Stamp(u64::MAX)).unwrap();
    sync(&mut a, &mut b, BEGIN);
    let journal = &a.journals[&NOTES];
    assert_eq!((journal.horizon, a.clock), (Stamp::ZERO, Stamp::at(BEGIN)));
    assert!(!journal.seen.contains_key(&Epoch([3; 16])) && journal.seen.contains_key(&Epoch([4; 16])));
}
