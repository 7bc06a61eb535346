use kith_proto::peer::journal::replica::Replica;
use kith_proto::peer::journal::rules::{self, Content, Expected};
use kith_proto::peer::journal::version::{Version, content_hash};
use kith_proto::peer::reconcile::{Element, Set, Sum};
use proptest::collection::vec;
use proptest::prelude::*;

use super::sums::CHUNK;
use super::tests::*;
use super::*;

#[derive(Debug, Clone)]
enum Step {
    Write(u8),
    Delete(u8),
    /// Another device's version of an entry, at any time.
    Take(u8, u64, bool),
    /// Written in this order, as in a first sync.
    Append(u8),
    Raise(u64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => any::<u8>().prop_map(Step::Write),
        2 => any::<u8>().prop_map(Step::Delete),
        4 => (any::<u8>(), 0..2000_u64, any::<bool>()).prop_map(|(id, ms, deleted)| Step::Take(id, ms, deleted)),
        1 => (1..40_u8).prop_map(Step::Append),
        1 => (0..1500_u64).prop_map(Step::Raise),
    ]
}

fn run(db: &Connection, step: &Step, turn: usize) {
    let now_ms = NOW + turn as u64 * 5;
    in_default(db, |it| match *step {
        Step::Write(id) => {
            let content = Content { deleted: false, meta: "", body: &turn.to_be_bytes() };
            rules::write(it, key(1), &id.to_string(), content, Expected::Anything, now_ms).unwrap();
        }
        Step::Delete(id) => {
            let content = Content { deleted: true, meta: "", body: b"" };
            rules::write(it, key(1), &id.to_string(), content, Expected::Anything, now_ms).unwrap();
        }
        Step::Take(id, ms, deleted) => {
            let version = Version {
                deleted,
                hash: content_hash(deleted, "", b""),
                ..theirs(&id.to_string(), Stamp::at(NOW + ms), b"")
            };
            rules::take(it, key(1), &version, b"", &epoch(2), now_ms).unwrap();
        }
        Step::Append(count) => {
            for n in 0..count {
                let version = theirs(&format!("{turn} {n}"), Stamp(Stamp::at(now_ms).0 + u64::from(n)), b"");
                rules::take(it, key(1), &version, b"", &epoch(2), now_ms).unwrap();
            }
        }
        Step::Raise(ms) => it.raise_horizon(Stamp::at(NOW + ms)).unwrap(),
    });
}

fn sum_of(elements: &[Element]) -> Sum {
    let mut sum = Sum::default();
    elements.iter().for_each(|element| sum.add(&element.id));
    sum
}

/// Bounds as peers may choose them: any, and just at elements.
fn bounds(elements: &[Element], at: &[(u64, u8)]) -> Vec<Element> {
    let mut bounds = vec![Element::FIRST, Element::END, Element { stamp: u64::MAX - 1, id: [7; 32] }];
    for (ms, byte) in at {
        bounds.push(Element { stamp: Stamp::at(NOW + ms).0, id: [*byte; 32] });
        bounds.extend(elements.get(*ms as usize % elements.len().max(1)));
    }
    bounds.sort_unstable();
    bounds
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    // Whatever happens, what is kept of the set is what counting it anew gives, and answers are those of a sorted list.
    #[test]
    fn sums_are_those_of_the_entries(steps in vec(step(), 0..120), at in vec((0..2000_u64, any::<u8>()), 0..4)) {
        let db = database();
        for (turn, step) in steps.iter().enumerate() {
            run(&db, step, turn);
        }
        whole(&db);
        let listed = default(&db);
        in_default(&db, |it| {
            let all = it.by_seq(0, true, usize::MAX - 1, usize::MAX).unwrap().versions;
            let mut elements: Vec<Element> = all.iter().map(|held| held.version.element()).collect();
            elements.sort_unstable();
            prop_assert_eq!(listed.total, sum_of(&elements));
            prop_assert_eq!(listed.tombstones, all.iter().filter(|held| held.version.deleted).count() as u64);
            let chunks = it.chunks(&Element::FIRST, &Element::END).unwrap();
            prop_assert!(chunks.iter().all(|chunk| chunk.sum.count <= CHUNK));
            prop_assert!(chunks.iter().skip(1).all(|chunk| chunk.sum.count > 0));
            prop_assert!(chunks.len() <= 1 + 2 * elements.len() / (CHUNK as usize / 4));

            let bounds = bounds(&elements, &at);
            for (index, lower) in bounds.iter().enumerate() {
                for upper in &bounds[index..] {
                    let within: Vec<Element> =
                        elements.iter().filter(|it| *lower <= **it && **it < *upper).copied().collect();
                    prop_assert_eq!(it.sum(lower, upper).unwrap(), sum_of(&within));
                    prop_assert_eq!(it.elements(lower, upper, usize::MAX).unwrap(), within.clone());
                    prop_assert_eq!(&it.elements(lower, upper, 3).unwrap(), &within[..within.len().min(3)]);
                    for parts in [2, 5, 16] {
                        let split = it.split(lower, upper, parts).unwrap();
                        prop_assert!(split.len() <= parts && (split.len() > 1 || within.len() < 2), "{split:?}");
                        let mut from = *lower;
                        for (to, sum) in &split {
                            prop_assert!(from <= *to);
                            prop_assert_eq!(*sum, it.sum(&from, to).unwrap());
                            // About the same size: not more than a part and a chunk.
                            prop_assert!(sum.count <= within.len() as u64 / parts as u64 + 1 + CHUNK);
                            from = *to;
                        }
                        prop_assert_eq!(from, *upper);
                    }
                }
            }
            Ok(())
        })?;
    }
}

// What arrives in the order of time fills its chunks.
#[test]
fn chunks_are_full_after_a_first_sync() {
    let db = database();
    run(&db, &Step::Append(4 * CHUNK as u8), 0);
    let chunks = in_default(&db, |it| it.chunks(&Element::FIRST, &Element::END).unwrap());
    assert_eq!(chunks.iter().map(|chunk| chunk.sum.count).collect::<Vec<_>>(), [CHUNK; 4]);
}

// A value that answers questions sees what it changed in between.
#[test]
fn answers_follow_changes() {
    let db = database();
    run(&db, &Step::Append(30), 0);
    in_default(&db, |it| {
        let (lower, upper) = (Element { stamp: Stamp::at(NOW).0, id: [0; 32] }, Element::END);
        assert_eq!(it.sum(&lower, &upper).unwrap().count, 30);
        let version = theirs("new", Stamp(Stamp::at(NOW).0 + 3), b"");
        it.put(&version, b"", &epoch(2)).unwrap();
        assert_eq!(it.sum(&lower, &upper).unwrap().count, 31);
        let part = Element { stamp: Stamp::at(NOW).0 + 4, id: [0; 32] };
        assert_eq!(it.sum(&lower, &part).unwrap().count, 5);
        it.put(&Version { stamp: Stamp::at(NOW + 1), ..version }, b"", &epoch(2)).unwrap();
        assert_eq!(it.sum(&lower, &part).unwrap().count, 4);
    });
    whole(&db);
}
