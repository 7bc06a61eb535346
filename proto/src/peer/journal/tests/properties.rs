//! What must hold after any schedule of writes, sessions, cuts, wrong clocks, backups and forgotten deletions.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::harness::{Act, BEGIN, Clock, DAY, Meeting, NOTES, Op, World};
use crate::id::PublicKey;
use crate::peer::journal::memory::Memory;
use crate::peer::journal::rules;
use crate::peer::journal::version::{Epoch, Version};

const HOUR: i64 = 3_600_000;

/// So many cases, unless PROPTEST_CASES says otherwise.
pub fn cases(count: u32) -> ProptestConfig {
    let said = ProptestConfig::default();
    let count = if said.cases == 256 { count } else { said.cases };
    ProptestConfig { cases: count, max_shrink_iters: 20_000, ..said }
}

fn clock() -> impl Strategy<Value = Clock> {
    prop_oneof![
        3 => Just(Clock::Skewed(0)),
        3 => (-20_000_i64..20_000).prop_map(Clock::Skewed),
        3 => (-HOUR..HOUR).prop_map(Clock::Skewed),
        3 => (-365 * 24 * HOUR..=365 * 24 * HOUR).prop_map(Clock::Skewed),
        1 => Just(Clock::Reset),
    ]
}

fn act(ids: u8) -> impl Strategy<Value = Act> {
    prop_oneof![
        600 => (0..ids, 0_u8..8, 0_u8..8).prop_map(|(id, text, expected)| Act::Put { id, text, expected }),
        250 => (0..ids).prop_map(|id| Act::Delete { id }),
        60 => clock().prop_map(Act::Clock),
        90 => Just(Act::Collect),
        80 => (any::<u8>(), any::<u64>()).prop_map(|(with, turns)| Act::Meet { with, turns }),
        4 => (0..ids, 65_u16..70).prop_map(|(id, kib)| Act::Large { id, kib }),
        1 => (0..ids, 1020_u16..2100).prop_map(|(id, kib)| Act::Large { id, kib }),
    ]
}

fn meeting(ids: u8) -> impl Strategy<Value = Meeting> {
    let cut = prop_oneof![2 => Just(None), 1 => (0_u8..24).prop_map(Some)];
    let during = prop_oneof![
        2 => Just(Vec::new()),
        1 => prop::collection::vec((0_u8..20, any::<bool>(), act(ids)), 1..3),
    ];
    let pair = (any::<u8>(), 1_u8..4).prop_map(|(a, step)| (a, a.wrapping_add(step)));
    (pair, cut, any::<u64>(), during).prop_map(|(pair, cut, turns, during)| Meeting { pair, cut, turns, during })
}

fn pass() -> impl Strategy<Value = Op> {
    prop_oneof![
        4 => 1_u64..10_000,
        4 => 29 * DAY..32 * DAY,
        1 => 179 * DAY..200 * DAY,
    ]
    .prop_map(|ms| Op::Pass { ms })
}

/// Writes, sessions, time; and restored backups, if `restores`: 1 those that are noticed, 2 also those that are not.
fn op(ids: u8, restores: u32) -> impl Strategy<Value = Op> {
    let noticed = if restores == 2 { any::<bool>().boxed() } else { Just(true).boxed() };
    prop_oneof![
        50 => (any::<u8>(), act(ids)).prop_map(|(device, act)| Op::At(device, act)),
        35 => meeting(ids).prop_map(Op::Sync),
        10 => pass(),
        4 * restores.min(1) => any::<u8>().prop_map(|device| Op::Backup { device }),
        4 * restores.min(1) => (any::<u8>(), noticed).prop_map(|(device, noticed)| Op::Restore { device, noticed }),
    ]
}

fn schedule(restores: u32) -> impl Strategy<Value = (Vec<Clock>, Vec<Op>)> {
    (3_u8..=6).prop_flat_map(move |ids| {
        (prop::collection::vec(clock(), 2..=4), prop::collection::vec(op(ids, restores), 10..=40))
    })
}

fn holds((clocks, ops): &(Vec<Clock>, Vec<Op>)) {
    let mut world = World::new(clocks);
    for op in ops {
        world.run(op);
        if matches!(op, Op::Sync(_)) {
            world.check_fingerprints();
        }
    }
    world.converge();
    world.check_nothing_is_lost();
    world.check_nothing_came_back();
    world.check_fingerprints();
    for a in 1..world.devices.len() {
        let idle = world.sync(0, a);
        assert_eq!(idle.rows, 0, "nothing is sent where nothing changed");
        assert!(idle.bytes < 1024, "{} bytes where nothing changed", idle.bytes);
    }
}

proptest! {
    #![proptest_config(cases(40_000))]

    #[test]
    fn any_schedule(schedule in schedule(0)) {
        holds(&schedule);
    }
}

proptest! {
    #![proptest_config(cases(30_000))]

    #[test]
    fn g65_any_schedule_with_restored_backups(schedule in schedule(1)) {
        holds(&schedule);
    }

    #[test]
    fn g65_any_schedule_with_backups_that_nobody_knows_were_restored(schedule in schedule(2)) {
        holds(&schedule);
    }
}

proptest! {
    #![proptest_config(cases(2_000))]

    /// Merging is commutative, associative and idempotent: versions that met in any order, some of them twice, by way of
    /// one device or two, leave the greatest one.
    #[test]
    fn versions_merge_in_any_order_to_the_same(
        (clocks, ops) in schedule(0),
        orders in prop::collection::vec(prop::collection::vec(any::<prop::sample::Index>(), 0..80), 3),
    ) {
        let mut world = World::new(&clocks);
        for op in ops.iter().filter(|op| !matches!(op, Op::At(_, Act::Collect) | Op::Pass { .. })) {
            world.run(op);
        }
        let all = world.versions();
        prop_assume!(!all.is_empty());
        let merged: Vec<_> = orders
            .iter()
            .map(|order| {
                let some = order.iter().map(|at| &all[at.index(all.len())]);
                // Whatever the order, in the end all of them have come; backwards, and once more.
                merge(some.chain(all.iter().rev()).chain(&all))
            })
            .collect();
        let (left, right) = all.split_at(all.len() / 2);
        let (left, right) = (merge(left), merge(right));
        let both = merge(right.values().chain(left.values()));
        for other in merged.iter().chain([&both]) {
            prop_assert_eq!(other, &merged[0]);
        }
        for (id, (version, _)) in &both {
            let greatest = all.iter().filter(|it| it.0.id == *id).map(|it| it.0.rank()).max();
            prop_assert_eq!(Some(version.rank()), greatest);
        }
    }
}

/// What is current where these versions come one after the other.
fn merge<'a>(versions: impl IntoIterator<Item = &'a (Version, Vec<u8>)>) -> BTreeMap<String, (Version, Vec<u8>)> {
    let mut memory = Memory::new(PublicKey([99; 32]), Epoch([99; 16]));
    for (version, body) in versions {
        let mut journal = memory.journal(&NOTES);
        rules::take(&mut journal, PublicKey([99; 32]), version, body, &Epoch([98; 16]), BEGIN).unwrap();
    }
    let rows = memory.journals.remove(&NOTES).unwrap_or_default().rows.into_iter();
    rows.map(|(id, (_, version, body, _))| (id, (version, body))).collect()
}
