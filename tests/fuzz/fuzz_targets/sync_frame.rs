//! A frame of a sync session.
#![no_main]

use kith_proto::peer::journal::wire::{self, Frame};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let Ok(frame) = Frame::decode(bytes) else { return };
    // What was understood can be said, and means the same.
    let said = match &frame {
        Frame::Message(message) => wire::message(message),
        Frame::Entries(rows) => wire::entries(rows),
        Frame::Body { offset, piece } => wire::body(*offset, piece),
        Frame::Ranges(message) => wire::ranges(message),
        // What is wanted is paged, and what asks for nothing is left out.
        Frame::Want(wanted) => {
            let pages = wire::want(wanted);
            let count = |wanted: &[kith_proto::peer::reconcile::Missing]| wanted.iter().map(|it| it.ids.len()).sum();
            let again: usize = pages
                .iter()
                .map(|page| match Frame::decode(page).expect("our own words") {
                    Frame::Want(wanted) => count(&wanted),
                    other => panic!("{other:?}"),
                })
                .sum();
            let asked: usize = count(wanted);
            assert_eq!(again, asked);
            return;
        }
    };
    assert_eq!(Frame::decode(&said).expect("our own words"), frame);
});
