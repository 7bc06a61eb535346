//! Why there are clocks that follow causes, a total order and deletions that travel: the same schedules with the last
//! write by the wall clock, where an entry that is deleted is just gone, and with the rules here.

use std::collections::{BTreeMap, BTreeSet};

use super::harness::{BEGIN, Clock, World};
use crate::peer::journal::rules::{Content, Expected};

const RUNS: u64 = 3_000;
const DEVICES: u64 = 3;
const IDS: u64 = 3;

/// Numbers that look random, the same in each run of the test.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % end
    }
}

#[derive(Clone, Copy)]
enum Step {
    Edit { at: usize, id: u64 },
    Delete { at: usize, id: u64 },
    Sync { a: usize, b: usize },
}

/// Clocks and steps; between two steps, so many seconds.
fn schedule(seed: u64, skew_ms: u64) -> (Vec<i64>, Vec<(u64, Step)>) {
    let mut numbers = Numbers(seed);
    let skew = |numbers: &mut Numbers| numbers.below(2 * skew_ms + 1) as i64 - skew_ms as i64;
    let clocks = (0..DEVICES).map(|_| skew(&mut numbers)).collect();
    let mut step = || {
        let (at, id) = (numbers.below(DEVICES) as usize, numbers.below(IDS));
        let step = match numbers.below(20) {
            0..8 => Step::Edit { at, id },
            8..11 => Step::Delete { at, id },
            _ => Step::Sync { a: at, b: (at + 1 + numbers.below(DEVICES - 1) as usize) % DEVICES as usize },
        };
        (numbers.below(20), step)
    };
    (clocks, (0..16).map(|_| step()).collect())
}

/// How many runs ended badly.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct Bad {
    /// A version is current on top of which somebody had written another one.
    lost: u64,
    /// One that somebody had deleted is current.
    resurrected: u64,
    /// Devices differ after all have met all, again and again.
    unconverged: u64,
}

impl Bad {
    /// `current` and `before` are numbers of versions.
    fn count(&mut self, current: &BTreeSet<usize>, written: &[(BTreeSet<usize>, bool)], same: bool) {
        let beaten = |deleted: bool| {
            let mut later = written.iter().filter(|(_, it)| *it == deleted);
            later.any(|(before, _)| !before.is_disjoint(current))
        };
        self.lost += u64::from(beaten(false));
        self.resurrected += u64::from(beaten(true));
        self.unconverged += u64::from(!same);
    }
}

/// The seed's rule: the later wall clock wins; what is absent here and there on the other device is taken from there.
/// Where `careful`, what is from the future is not taken.
fn by_wall_clock(clocks: &[i64], steps: &[(u64, Step)], careful: bool, bad: &mut Bad) {
    // Of each entry, when it was written, in seconds as people's clocks show them, and which version it is.
    let mut devices: Vec<BTreeMap<u64, (i64, usize)>> = vec![BTreeMap::new(); clocks.len()];
    let mut written: Vec<(BTreeSet<usize>, bool)> = Vec::new();
    let mut now = BEGIN as i64;
    let clock = |at: usize, now: i64| (now + clocks[at]) / 1_000;
    let sync = |devices: &mut Vec<BTreeMap<u64, (i64, usize)>>, a: usize, b: usize, now: i64| {
        let (here, there) = (devices[a].clone(), devices[b].clone());
        for (to, from) in [(a, there), (b, here)] {
            for (id, theirs) in from {
                let wanted = devices[to].get(&id).is_none_or(|mine| theirs.0 > mine.0);
                if wanted && !(careful && theirs.0 > clock(to, now)) {
                    devices[to].insert(id, theirs);
                }
            }
        }
    };
    for (pause, step) in steps {
        now += 1_000 * *pause as i64;
        match *step {
            Step::Edit { at, id } | Step::Delete { at, id } => {
                let deleted = matches!(step, Step::Delete { .. });
                let Some(before) = devices[at].get(&id).map(|it| it.1).map_or((!deleted).then(BTreeSet::new), |old| {
                    Some(written[old].0.iter().copied().chain([old]).collect())
                }) else {
                    continue;
                };
                written.push((before, deleted));
                if deleted {
                    devices[at].remove(&id);
                } else {
                    devices[at].insert(id, (clock(at, now), written.len() - 1));
                }
            }
            Step::Sync { a, b } => sync(&mut devices, a, b, now),
        }
    }
    for (a, b) in (0..4).flat_map(|_| [(0, 1), (1, 2), (0, 2)]) {
        sync(&mut devices, a, b, now);
    }
    let current = devices.iter().flat_map(|device| device.values().map(|it| it.1)).collect();
    bad.count(&current, &written, devices.iter().all(|device| *device == devices[0]));
}

fn by_the_rules(clocks: &[i64], steps: &[(u64, Step)], bad: &mut Bad) {
    let clocks: Vec<Clock> = clocks.iter().map(|skew| Clock::Skewed(*skew)).collect();
    let mut world = World::new(&clocks);
    for (number, (pause, step)) in steps.iter().enumerate() {
        world.now += 1_000 * pause;
        match *step {
            Step::Edit { at, id } => {
                let content = Content { deleted: false, meta: "", body: &number.to_be_bytes() };
                world.write(at, &id.to_string(), content, Expected::Anything);
            }
            Step::Delete { at, id } => {
                let content = Content { deleted: true, meta: "", body: b"" };
                world.write(at, &id.to_string(), content, Expected::Anything);
            }
            Step::Sync { a, b } => {
                world.sync(a, b);
            }
        }
    }
    for (a, b) in (0..2).flat_map(|_| [(0, 1), (1, 2), (0, 2)]) {
        world.sync(a, b);
    }
    let written: Vec<_> = world.truth.iter().map(|it| (it.before.clone(), it.version.deleted)).collect();
    bad.count(&world.current(), &written, world.is_same());
    world.check_nothing_is_lost();
}

#[test]
fn g50_the_last_write_by_wall_clock_loses_what_these_rules_do_not() {
    const MINUTE: u64 = 60_000;
    let skews = [0, MINUTE, 60 * MINUTE, 1_440 * MINUTE, 365 * 1_440 * MINUTE];
    let (mut all, mut ours) = (Bad::default(), Bad::default());
    for skew in skews {
        let (mut plain, mut careful) = (Bad::default(), Bad::default());
        for run in 0..RUNS {
            let (clocks, steps) = schedule(run, skew);
            by_wall_clock(&clocks, &steps, false, &mut plain);
            by_wall_clock(&clocks, &steps, true, &mut careful);
            by_the_rules(&clocks, &steps, &mut ours);
        }
        assert_eq!(ours, Bad::default(), "skew of {skew} ms");
        // Without skew, the last write by the clock is the last one; but what is deleted comes back all the same.
        assert!(plain.resurrected > RUNS / 10 && (plain.lost > RUNS / 10) == (skew >= MINUTE), "{skew} ms: {plain:?}");
        assert!((careful.unconverged > RUNS / 10) == (skew >= MINUTE), "{skew} ms: {careful:?}");
        all.unconverged += plain.unconverged;
    }
    // Two writes of the same second: each device keeps its own.
    assert!(all.unconverged > 0);
}
