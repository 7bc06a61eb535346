//! Waiting for a condition, with a deadline.

use std::time::{Duration, Instant};

/// The first answer of `probe`; panics when `limit` passes without one, naming what was waited for.
#[track_caller]
pub fn until<T>(what: &str, limit: Duration, probe: impl FnMut() -> Option<T>) -> T {
    match attempt(limit, probe) {
        Some(answer) => answer,
        None => panic!("waited {limit:?} in vain for {what}"),
    }
}

/// Waits until `probe` says yes; panics as [`until`] does.
#[track_caller]
pub fn until_true(what: &str, limit: Duration, mut probe: impl FnMut() -> bool) {
    until(what, limit, || probe().then_some(()));
}

/// The first answer of `probe` within `limit`. It is asked at least once.
pub fn attempt<T>(limit: Duration, mut probe: impl FnMut() -> Option<T>) -> Option<T> {
    let end = Instant::now() + limit;
    let mut pause = Duration::from_millis(1);
    loop {
        if let Some(answer) = probe() {
            return Some(answer);
        }
        let left = end.checked_duration_since(Instant::now())?;
        nap(pause.min(left));
        pause = (pause * 2).min(Duration::from_millis(50));
    }
}

/// Lets time pass: between two looks here, and where time itself is the fault that is injected.
#[expect(clippy::disallowed_methods, reason = "the one place that sleeps: a poll with a deadline, a link with latency")]
pub fn nap(time: Duration) {
    std::thread::sleep(time);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn asks_until_there_is_an_answer_and_once_at_least() {
        let mut looks = 0..3;
        until_true("the third look", Duration::from_secs(9), || looks.next() == Some(2));
        assert!(looks.is_empty());
        assert_eq!(attempt(Duration::ZERO, || Some(1)), Some(1));
        assert_eq!(attempt(Duration::ZERO, || None::<u8>), None);
    }
}
