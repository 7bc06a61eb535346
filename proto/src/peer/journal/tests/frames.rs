//! Frames: what is said is understood, and nothing else is.

use proptest::prelude::*;

use super::properties::cases;
use crate::hlc::Stamp;
use crate::id::PublicKey;
use crate::limits;
use crate::peer::journal::member::{Introduction, Kind, Record, Resource};
use crate::peer::journal::replica::Row;
use crate::peer::journal::version::{Context, Epoch, JournalId, Version};
use crate::peer::journal::wire::{self, Cursor, Frame, Malformed, Manifest, Message, Partial, Refused};
use crate::peer::reconcile::{Element, Missing};

fn stamp() -> impl Strategy<Value = Stamp> {
    prop_oneof![any::<u64>(), 0_u64..300].prop_map(Stamp)
}

fn epoch() -> impl Strategy<Value = Epoch> {
    // Few of them: rows share a table.
    prop_oneof![(0_u8..4).prop_map(|it| Epoch([it; 16])), any::<[u8; 16]>().prop_map(Epoch)]
}

fn context() -> impl Strategy<Value = Context> {
    let pairs = prop_oneof![prop::collection::btree_map(epoch(), stamp(), 0..4), many()];
    pairs.prop_map(|pairs| Context::new(pairs.into_iter().collect()).unwrap())
}

/// As many writers as a version may know.
fn many() -> impl Strategy<Value = std::collections::BTreeMap<Epoch, Stamp>> {
    prop::collection::btree_map(any::<[u8; 16]>().prop_map(Epoch), stamp(), limits::ENTRY_WRITERS)
}

fn version() -> impl Strategy<Value = Version> {
    let text = || ".{0,20}";
    (text(), stamp(), any::<[u8; 32]>(), epoch(), context(), any::<bool>(), text(), any::<[u8; 32]>(), any::<u64>())
        .prop_map(|(id, stamp, device, epoch, context, deleted, meta, hash, size)| {
            let device = PublicKey(device);
            Version { id, stamp, device, epoch, context, deleted, meta, hash, size }
        })
}

fn rows() -> impl Strategy<Value = Vec<Row>> {
    let whole =
        (any::<u64>(), version(), prop::collection::vec(any::<u8>(), 0..40)).prop_map(|(seq, version, body)| {
            let version = Version { size: body.len() as u64, ..version };
            Row { seq, version, body: Some(body) }
        });
    let last = prop::option::of((any::<u64>(), version()));
    (prop::collection::vec(whole, 0..6), last).prop_map(|(mut rows, last)| {
        rows.extend(last.map(|(seq, version)| Row { seq, version, body: None }));
        rows
    })
}

fn manifest() -> impl Strategy<Value = Manifest> {
    let cursor = prop::option::of((epoch(), any::<u64>()).prop_map(|(epoch, since)| Cursor { epoch, since }));
    let partial = (any::<[u8; 32]>(), any::<u64>()).prop_map(|(hash, have)| Partial { hash, have });
    let numbers = (any::<u64>(), any::<u64>(), stamp());
    let names = (any::<[u8; 16]>(), "[0-9a-f]{0,16}", any::<[u8; 16]>());
    (names, numbers, cursor, prop::collection::vec(partial, 0..3)).prop_map(|(names, numbers, cursor, partial)| {
        let ((journal, members, fingerprint), (top, count, horizon)) = (names, numbers);
        Manifest { journal: JournalId(journal), members, top, fingerprint, count, horizon, cursor, partial }
    })
}

fn introduction() -> impl Strategy<Value = Introduction> {
    let record = (any::<[u8; 32]>(), ".{0,9}", any::<u32>(), any::<bool>(), any::<[u8; 32]>(), "[a-zA-Z0-9_-]{0,9}");
    let record = record.prop_map(|(device, name, count, admits, by, signature)| Record {
        device: PublicKey(device),
        name,
        count,
        admits,
        by: PublicKey(by),
        signature,
    });
    let kind = prop_oneof![Just(Kind::Journal), Just(Kind::Unknown)];
    let resource = (kind, ".{0,9}", any::<[u8; 32]>(), any::<[u8; 16]>());
    (resource, prop::collection::vec(record, 0..4)).prop_map(|((kind, name, creator, nonce), records)| {
        let resource = Resource { kind, name, creator: PublicKey(creator), nonce: JournalId(nonce) };
        Introduction { resource, records }
    })
}

fn message() -> impl Strategy<Value = Message> {
    let manifests = || prop::collection::vec(manifest(), 0..3);
    let check = (any::<[u8; 16]>(), any::<u64>(), any::<u64>(), prop::collection::vec((epoch(), stamp()), 0..3));
    let refused = (".{0,9}", "[a-z_]{1,9}").prop_map(|(id, reason)| Refused { id, reason });
    prop_oneof![
        (any::<u32>(), epoch(), any::<u64>(), manifests()).prop_map(|(v, epoch, now_ms, journals)| Message::Hello {
            v,
            epoch,
            now_ms,
            journals
        }),
        introduction().prop_map(Message::Members),
        Just(Message::Known),
        manifests().prop_map(|journals| Message::Manifest { journals }),
        Just(Message::End),
        any::<u64>().prop_map(|anew| Message::Settled { anew }),
        check.prop_map(|(fingerprint, count, top, seen)| Message::Check { fingerprint, count, top, seen }),
        (any::<u64>(), prop::collection::vec(refused, 0..3))
            .prop_map(|(taken, refused)| Message::Ack { taken, refused }),
        Just(Message::Done),
        ".{0,9}".prop_map(|reason| Message::Fail { reason }),
    ]
}

fn wanted() -> impl Strategy<Value = Vec<Missing>> {
    let element = || (any::<u64>(), any::<[u8; 32]>()).prop_map(|(stamp, id)| Element { stamp, id });
    let ids = prop::collection::vec(any::<[u8; 32]>(), 1..5);
    let range = (element(), element(), ids).prop_map(|(lower, upper, ids)| Missing { lower, upper, ids });
    prop::collection::vec(range, 1..5)
}

/// Any frame, and its bytes.
fn frame() -> impl Strategy<Value = (Frame, Vec<u8>)> {
    let bytes = || prop::collection::vec(any::<u8>(), 0..60);
    prop_oneof![
        message().prop_map(|it| (Frame::Message(it.clone()), wire::message(&it))),
        rows().prop_map(|it| (Frame::Entries(it.clone()), wire::entries(&it))),
        (any::<u64>(), bytes())
            .prop_map(|(offset, piece)| (Frame::Body { offset, piece: piece.clone() }, wire::body(offset, &piece))),
        bytes().prop_map(|it| (Frame::Ranges(it.clone()), wire::ranges(&it))),
        wanted().prop_map(|it| (Frame::Want(it.clone()), wire::want(&it).remove(0))),
    ]
}

proptest! {
    #![proptest_config(cases(2_000))]

    #[test]
    fn what_is_said_is_understood((frame, bytes) in frame()) {
        prop_assert_eq!(Frame::decode(&bytes), Ok(frame));
    }

    #[test]
    fn nothing_is_lost_where_a_frame_ends_early_or_late((frame, bytes) in frame(), cut in any::<prop::sample::Index>()) {
        let cut = cut.index(bytes.len());
        // Where a frame has no length of its own, less of it is another one.
        let open = matches!(frame, Frame::Body { .. } | Frame::Ranges(_));
        let early = Frame::decode(&bytes[..cut]);
        prop_assert!(open || early.is_err(), "{:?}", early);
        let late = Frame::decode(&[&bytes[..], &[0]].concat());
        prop_assert!(open || late.is_err(), "{:?}", late);
    }

    #[test]
    fn g71_random_and_altered_bytes_do_no_harm(
        (_, mut bytes) in frame(),
        noise in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        tag in 0_u8..6,
        random in prop::collection::vec(any::<u8>(), 0..200),
    ) {
        for (at, byte) in noise {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        let _ = Frame::decode(&bytes);
        let _ = Frame::decode(&[&[tag], &random[..]].concat());
        let _ = Frame::decode(&random);
    }
}

/// A frame of one good row, whose parts can be changed.
fn entries(devices: u8, epochs: u8, rows: u8, row: &[u8]) -> Vec<u8> {
    let tables = [&[wire::ENTRIES, devices][..], &vec![1; 32 * usize::from(devices)], &[epochs]].concat();
    [&tables[..], &vec![2; 16 * usize::from(epochs)], &[rows], row].concat()
}

fn row(flags: u8, device: u8, epoch: u8, known: &[u8], size: u8, body: &[u8]) -> Vec<u8> {
    let head = [&[5, flags, 1, b'x', 9, device, epoch][..], known, &[0]].concat();
    [&head[..], &[3; 32], &[size], body].concat()
}

#[test]
fn g71_frames_are_read_strictly() {
    let good = row(0, 0, 0, &[0], 1, b"y");
    let absent = row(2, 0, 0, &[0], 1, b"");
    assert!(Frame::decode(&entries(1, 1, 1, &good)).is_ok());
    assert!(Frame::decode(&entries(1, 1, 2, &[&good[..], &absent].concat())).is_ok());
    let known = |pairs: &[u8]| entries(1, 2, 1, &row(0, 0, 0, pairs, 1, b"y"));
    assert!(Frame::decode(&entries(1, 1, 1, &row(0, 0, 0, &[1, 0, 7], 1, b"y"))).is_ok());
    let ten = [0x80; 10];
    let want = |ids: u8| [&[wire::WANT, 1, 0][..], &[0; 32], &[1], &[0; 32], &[ids], &[0; 32]].concat();
    assert!(Frame::decode(&want(1)).is_ok());
    for (bytes, why) in [
        (vec![], "empty"),
        (vec![9], "an unknown tag"),
        (b"{}".to_vec(), "no message"),
        (br#"{"type":"end"} {"type":"end"}"#.to_vec(), "no message"),
        (br#"{"type":"nothing"}"#.to_vec(), "no message"),
        (vec![wire::BODY], "too short"),
        ([&[wire::BODY], &ten[..]].concat(), "a number of more than 64 bits"),
        ([&[wire::BODY], &[0xff; 9][..], &[2]].concat(), "a number of more than 64 bits"),
        // Counts of more than there are bytes for.
        (vec![wire::ENTRIES, 2, 0], "too many"),
        (entries(1, 1, 200, &good), "too many"),
        (entries(1, 1, 1, &row(0, 0, 0, &[100], 1, b"y")), "too many"),
        (want(2), "too many"),
        (vec![wire::WANT, 1], "too many"),
        // Indices out of their tables.
        (entries(1, 1, 1, &row(0, 1, 0, &[0], 1, b"y")), "an index out of its table"),
        (entries(1, 1, 1, &row(0, 0, 1, &[0], 1, b"y")), "an index out of its table"),
        (entries(1, 1, 1, &row(0, 0, 0, &[1, 1, 7], 1, b"y")), "an index out of its table"),
        // The epochs of the table are the same here: neither order nor one of them twice.
        (known(&[2, 0, 7, 1, 7]), "a context that is not in order"),
        (known(&[2, 0, 7, 0, 8]), "a context that is not in order"),
        (entries(1, 1, 2, &[&absent[..], &good].concat()), "a body in pieces that is not the last"),
        (entries(1, 1, 1, &row(4, 0, 0, &[0], 1, b"y")), "unknown flags"),
        (entries(1, 1, 1, &row(0, 0, 0, &[0], 9, b"y")), "too short"),
        (entries(1, 1, 1, &row(0, 0, 0, &[0], 1, b"yz")), "bytes at the end"),
        (entries(1, 1, 0, b"z"), "bytes at the end"),
    ] {
        assert_eq!(Frame::decode(&bytes), Err(Malformed(why)), "{bytes:?}");
    }
    let mut text = entries(1, 1, 1, &good);
    let at = text.iter().rposition(|byte| *byte == b'x').unwrap();
    text[at] = 0xff;
    assert_eq!(Frame::decode(&text), Err(Malformed("not UTF-8")));
}

#[test]
fn a_want_of_many_is_paged() {
    let range = |n: u8| Missing { lower: Element::FIRST, upper: Element::END, ids: vec![[n; 32]; 20_000] };
    let wanted = [range(1), range(2), range(3)];
    let frames = wire::want(&wanted);
    let mut found: Vec<[u8; 32]> = Vec::new();
    for frame in &frames {
        assert!(frame.len() <= limits::FRAME_SYNC);
        let Ok(Frame::Want(part)) = Frame::decode(frame) else { panic!("our own words") };
        found.extend(part.into_iter().flat_map(|it| it.ids));
    }
    assert!(frames.len() > 1 && found.len() == 60_000);
    assert_eq!(found.iter().filter(|id| **id == [2; 32]).count(), 20_000);
}
