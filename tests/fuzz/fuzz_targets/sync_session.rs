//! What a paired device says in a sync session, after a greeting: the store stays whole.
#![no_main]

use kith_proto::hlc::Stamp;
use kith_proto::id::PublicKey;
use kith_proto::peer::journal::memory::Memory;
use kith_proto::peer::journal::replica::Replica;
use kith_proto::peer::journal::rules::{self, Content, Expected};
use kith_proto::peer::journal::session::Session;
use kith_proto::peer::journal::version::{Epoch, JournalId};
use kith_proto::peer::journal::wire::{self, Manifest, Message};
use kith_proto::peer::reconcile::Sum;

const NOTES: JournalId = JournalId([7; 16]);
const NOW_MS: u64 = 1_800_000_000_000;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    // Which side, and frames with their length in two bytes before them.
    let Some((first, mut rest)) = bytes.split_first() else { return };
    let mut shelf = Memory::new(PublicKey([1; 32]), Epoch([1; 16]));
    for id in ["a", "b", "c"] {
        let content = Content { deleted: false, meta: "", body: id.as_bytes() };
        let key = shelf.device;
        let Ok(_) = rules::write(&mut shelf.journal(&NOTES), key, id, content, Expected::Anything, NOW_MS);
    }
    let mut session = Session::new(PublicKey([1; 32]), PublicKey([2; 32]), first & 1 == 1);
    let manifest = Manifest {
        journal: NOTES,
        members: String::new(),
        top: 9,
        fingerprint: [3; 16],
        count: 2,
        horizon: Stamp::at(if first & 2 == 2 { NOW_MS } else { 0 }),
        cursor: None,
        partial: Vec::new(),
    };
    let hello = Message::Hello { v: wire::VERSION, epoch: Epoch([2; 16]), now_ms: NOW_MS, journals: vec![manifest] };
    session.begin(&mut shelf, NOW_MS).expect("a store in memory");
    session.receive(&wire::message(&hello), &mut shelf, NOW_MS).expect("a greeting");
    loop {
        while let Ok(Some(frame)) = session.transmit(&mut shelf, NOW_MS) {
            assert!(frame.len() <= kith_proto::limits::FRAME_SYNC);
        }
        let Some((length, tail)) = rest.split_first_chunk::<2>() else { break };
        let (frame, tail) = tail.split_at(usize::from(u16::from_be_bytes(*length)).min(tail.len()));
        rest = tail;
        if session.receive(frame, &mut shelf, NOW_MS).is_err() {
            break;
        }
    }
    // Every current version is what it says, and none is from a future that cannot be.
    let mut sum = Sum::default();
    for (id, (_, version, body, _)) in &shelf.journals[&NOTES].rows {
        version.check(NOW_MS).expect("a version that was taken is good");
        assert_eq!((&version.id, version.size), (id, body.len() as u64));
        sum.add(&version.element().id);
    }
    let Ok(total) = shelf.journal(&NOTES).total();
    assert_eq!(total, sum);
    assert!(shelf.clock.is_plausible(NOW_MS + 1) && shelf.journals[&NOTES].horizon <= Stamp::at(NOW_MS));
});
