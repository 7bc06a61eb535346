//! When a store is asked, by a clock that nobody sets.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use kith_proto::limits;
use tokio::time::Instant;

use super::rows::{Plan, Target};
use super::{Setback, Work};

/// How long to wait for what.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    /// What lives is put again so often.
    pub again: Duration,
    /// The first pause behind a setback; each next one is twice as long, up to `again`, unless the store says so.
    pub setback: Duration,
    /// After a start, what was there is looked at within this time, not all at once.
    pub spread: Duration,
    /// Between two looks at what is to be done: many devices that join at once are one reason to look.
    pub look: Duration,
}

/// As it is outside of tests.
pub const USUAL: Pace = Pace {
    again: Duration::from_secs(3600),
    setback: Duration::from_secs(15),
    spread: Duration::from_secs(60),
    look: Duration::from_millis(200),
};

/// When to do what.
pub struct Timetable {
    pace: Pace,
    entries: BTreeMap<Target, Entry>,
}

struct Entry {
    work: Work,
    due: Instant,
    setbacks: u32,
    /// Somebody is at it.
    busy: bool,
}

impl Timetable {
    /// Nothing to do yet.
    pub fn new(pace: Pace) -> Self {
        Self { pace, entries: BTreeMap::new() }
    }

    /// Takes over what is to be done.
    pub fn follow(&mut self, plan: Plan, now: Instant) {
        let spread = self.pace.spread;
        self.entries.retain(|target, entry| entry.busy || plan.work.contains_key(target));
        for (target, (work, is_new)) in plan.work {
            let fresh =
                || Entry { work, due: if is_new { now } else { now + jitter(spread) }, setbacks: 0, busy: false };
            let entry = self.entries.entry(target).or_insert_with(fresh);
            if entry.work != work {
                *entry = Entry { busy: entry.busy, due: now, ..fresh() };
            }
        }
    }

    /// What is due, as far as there are hands for it: at each store what is due for the longest time.
    pub fn take(&mut self, now: Instant) -> Vec<(Target, Work)> {
        let mut due: Vec<_> = self.firsts().into_values().filter(|(due, _)| *due <= now).collect();
        due.sort();
        let hands = limits::HELLO_LOOKUPS.saturating_sub(self.busy());
        let targets: Vec<Target> = due.into_iter().take(hands).map(|(_, target)| target.clone()).collect();
        let begin = |target: Target| {
            let entry = self.entries.get_mut(&target)?;
            entry.busy = true;
            Some((target, entry.work))
        };
        targets.into_iter().filter_map(begin).collect()
    }

    /// When something is due next; while there are no hands for it, whoever is done wakes.
    pub fn next(&self) -> Option<Instant> {
        if self.busy() >= limits::HELLO_LOOKUPS {
            return None;
        }
        self.firsts().into_values().map(|(due, _)| due).min()
    }

    fn busy(&self) -> usize {
        self.entries.values().filter(|entry| entry.busy).count()
    }

    /// What is next at each store where nobody is at it: one that is slow or silent holds up its own payloads, and not
    /// those for others.
    fn firsts(&self) -> BTreeMap<&str, (Instant, &Target)> {
        let at_it = self.entries.iter().filter(|(_, entry)| entry.busy);
        let at_it: BTreeSet<_> = at_it.map(|(target, _)| target.store.as_str()).collect();
        let mut firsts: BTreeMap<&str, (Instant, &Target)> = BTreeMap::new();
        for (target, entry) in self.entries.iter().filter(|(target, _)| !at_it.contains(target.store.as_str())) {
            let first = firsts.entry(&target.store).or_insert((entry.due, target));
            *first = (*first).min((entry.due, target));
        }
        firsts
    }

    /// What came of it.
    pub fn done(&mut self, target: &Target, work: Work, outcome: &Result<(), Setback>, now: Instant) {
        let Pace { again, setback: first, .. } = self.pace;
        let Some(entry) = self.entries.get_mut(target) else { return };
        entry.busy = false;
        if entry.work != work {
            // Something else is to be done by now, and at once.
            return;
        }
        match outcome {
            Ok(()) => {
                entry.setbacks = 0;
                entry.due = now + again + jitter(again / 12);
            }
            Err(setback) => {
                let pause = again.min(first * 2_u32.saturating_pow(entry.setbacks.min(10)));
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

#[cfg(test)]
mod tests {
    use kith_proto::control::{ApiError, Code};

    use super::*;

    fn plan(works: &[(i64, Work, bool)]) -> Plan {
        let target = |code| Target { code, store: "https://one".to_owned() };
        let work = works.iter().map(|(code, work, is_new)| (target(*code), (*work, *is_new)));
        Plan { work: work.collect(), ..Plan::default() }
    }

    fn setback(retry_after: Option<u32>) -> Result<(), Setback> {
        Err(Setback { why: ApiError::new(Code::StoreUnreachable, "on purpose"), retry_after })
    }

    /// Carries out the one thing that is due at `now`, with this outcome; how long until it is due again.
    fn step(table: &mut Timetable, now: &mut Instant, outcome: &Result<(), Setback>) -> Duration {
        let due = table.take(*now);
        assert_eq!(due.len(), 1);
        assert!(table.take(*now).is_empty(), "somebody is at it");
        table.done(&due[0].0, due[0].1, outcome, *now);
        let next = table.next().unwrap();
        let pause = next - *now;
        *now = next;
        pause
    }

    #[test]
    fn g75_what_lives_is_put_each_hour_and_setbacks_make_longer_and_longer_pauses() {
        let (mut table, mut now) = (Timetable::new(USUAL), Instant::now());
        table.follow(plan(&[(1, Work::Put, true)]), now);
        let seconds = |range: std::ops::RangeInclusive<u64>, pause: Duration| {
            assert!(range.contains(&pause.as_secs()), "{pause:?} is not within {range:?}");
        };
        for range in [15..=19, 30..=38, 60..=75, 120..=150, 240..=300, 480..=600, 960..=1200, 1920..=2400] {
            seconds(range, step(&mut table, &mut now, &setback(None)));
        }
        seconds(3600..=4500, step(&mut table, &mut now, &setback(Some(5))));
        seconds(7000..=7900, step(&mut table, &mut now, &setback(Some(7000))));
        seconds(3600..=3900, step(&mut table, &mut now, &Ok(())));
        seconds(15..=19, step(&mut table, &mut now, &setback(None)));
        seconds(3600..=3900, step(&mut table, &mut now, &Ok(())));
    }

    #[test]
    fn what_changes_while_somebody_is_at_it_is_done_right_behind() {
        let (mut table, now) = (Timetable::new(USUAL), Instant::now());
        table.follow(plan(&[(1, Work::Put, true)]), now);
        let putting = table.take(now).remove(0);
        table.follow(plan(&[(1, Work::Withdraw, true)]), now);
        assert!(table.take(now).is_empty());
        table.done(&putting.0, putting.1, &Ok(()), now);
        assert_eq!(table.take(now), [(putting.0.clone(), Work::Withdraw)]);
        table.done(&putting.0, Work::Withdraw, &Ok(()), now);
        table.follow(Plan::default(), now);
        assert_eq!(table.next(), None);
    }

    #[test]
    fn few_are_at_it_at_once_and_old_ones_do_not_come_together() {
        let (mut table, now) = (Timetable::new(USUAL), Instant::now());
        let many: Vec<_> = (0..100).map(|code| (code, Work::Put, code < 10)).collect();
        table.follow(plan(&many), now);
        assert_eq!(table.take(now).len(), 1);
        assert_eq!(table.next(), None, "whoever is done wakes");
        let later = table.entries.values().filter(|entry| entry.due > now + USUAL.spread / 10).count();
        assert!((40..=90).contains(&later), "{later} of 90");
    }

    #[test]
    fn g74_a_store_that_does_not_answer_holds_up_no_other_and_nobody_is_overtaken() {
        let (mut table, now) = (Timetable::new(USUAL), Instant::now());
        let target = |code, store: &str| Target { code, store: store.to_owned() };
        let stores = ["dead", "good"];
        let work = (0..6).flat_map(|code| stores.map(|store| (target(code, store), (Work::Put, true))));
        table.follow(Plan { work: work.collect(), ..Plan::default() }, now);
        let both = table.take(now);
        assert_eq!(both, stores.map(|store| (target(0, store), Work::Put)));
        table.done(&target(0, "good"), Work::Put, &Ok(()), now);
        for code in 1..6 {
            assert_eq!(table.take(now), [(target(code, "good"), Work::Put)]);
            table.done(&target(code, "good"), Work::Put, &Ok(()), now);
        }
        assert!(table.next().unwrap() > now, "what waits for the dead one is no reason to look");
        // It failed, and is due again: the others come first.
        table.done(&target(0, "dead"), Work::Put, &setback(None), now);
        for code in [1, 2, 3, 4, 5, 0] {
            let due = table.take(now + USUAL.setback * 2);
            assert_eq!(due, [(target(code, "dead"), Work::Put)]);
            table.done(&due[0].0, due[0].1, &setback(Some(60)), now);
        }
        let many = (0..20).map(|n| (target(0, &format!("store {n}")), (Work::Put, true)));
        table.follow(Plan { work: many.collect(), ..Plan::default() }, now);
        assert_eq!((table.take(now).len(), table.next()), (limits::HELLO_LOOKUPS, None), "few at once in all");
    }
}
