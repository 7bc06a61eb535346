//! When a store is asked, by a clock that nobody sets.

use std::collections::BTreeMap;
use std::time::Duration;

use kith_proto::limits;
use tokio::time::Instant;

use super::rows::{Plan, Target};
use super::{Setback, Work};

/// What lives is put again so often.
const AGAIN: Duration = Duration::from_secs(3600);
/// The first pause behind a setback; each next one is twice as long …
const PAUSE: Duration = Duration::from_secs(15);
/// … but no longer than this, unless the store says so.
const PAUSE_MAX: Duration = Duration::from_secs(3600);
/// After a start, what was there is looked at within this time, not all at once.
const SPREAD: Duration = Duration::from_secs(60);

/// When to do what.
#[derive(Default)]
pub struct Timetable(BTreeMap<Target, Entry>);

struct Entry {
    work: Work,
    due: Instant,
    setbacks: u32,
    /// Somebody is at it.
    busy: bool,
}

impl Timetable {
    /// Takes over what is to be done.
    pub fn follow(&mut self, plan: Plan, now: Instant) {
        self.0.retain(|target, entry| entry.busy || plan.work.contains_key(target));
        for (target, (work, is_new)) in plan.work {
            let fresh =
                || Entry { work, due: if is_new { now } else { now + jitter(SPREAD) }, setbacks: 0, busy: false };
            let entry = self.0.entry(target).or_insert_with(fresh);
            if entry.work != work {
                *entry = Entry { busy: entry.busy, due: now, ..fresh() };
            }
        }
    }

    /// What is due, as far as there are hands for it.
    pub fn take(&mut self, now: Instant) -> Vec<(Target, Work)> {
        let busy = self.0.values().filter(|entry| entry.busy).count();
        let due = self.0.iter_mut().filter(|(_, entry)| !entry.busy && entry.due <= now);
        due.take(limits::HELLO_LOOKUPS.saturating_sub(busy))
            .map(|(target, entry)| {
                entry.busy = true;
                (target.clone(), entry.work)
            })
            .collect()
    }

    /// When something is due next; while there are no hands for it, whoever is done wakes.
    pub fn next(&self) -> Option<Instant> {
        if self.0.values().filter(|entry| entry.busy).count() >= limits::HELLO_LOOKUPS {
            return None;
        }
        self.0.values().filter(|entry| !entry.busy).map(|entry| entry.due).min()
    }

    /// What came of it.
    pub fn done(&mut self, target: &Target, work: Work, outcome: &Result<(), Setback>, now: Instant) {
        let Some(entry) = self.0.get_mut(target) else { return };
        entry.busy = false;
        if entry.work != work {
            // Something else is to be done by now, and at once.
            return;
        }
        match outcome {
            Ok(()) => {
                entry.setbacks = 0;
                entry.due = now + AGAIN + jitter(AGAIN / 12);
            }
            Err(setback) => {
                let pause = PAUSE_MAX.min(PAUSE * 2_u32.saturating_pow(entry.setbacks.min(10)));
                let wished = setback.retry_after.map(|seconds| Duration::from_secs(seconds.into())).unwrap_or_default();
                entry.setbacks = entry.setbacks.saturating_add(1);
                entry.due = now + pause.max(wished) + jitter(pause / 4);
            }
        }
    }
}

/// Up to `most`, so that those who failed together do not come back together.
fn jitter(most: Duration) -> Duration {
    most.mul_f64(f64::from(getrandom::u32().unwrap_or_default()) / f64::from(u32::MAX))
}
