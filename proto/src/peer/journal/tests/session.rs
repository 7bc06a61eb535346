//! Two ends of a session, and what lies between them.

use crate::id::PublicKey;
use crate::peer::journal::memory::Memory;
use crate::peer::journal::rules::{self, Content, Expected, Written};
use crate::peer::journal::session::Session;
use crate::peer::journal::version::{Epoch, JournalId};

const NOTES: JournalId = JournalId([7; 16]);

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
