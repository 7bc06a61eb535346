//! One session a peer. Where both dial at once, the call of the smaller key is kept; a call from a peer that has a
//! session already means that it has lost it, unless that session is so young that the two calls may have crossed.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use kith_proto::id::PublicKey;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// A call that was given up for another one may arrive when that one is well under way. Whoever has really lost its
/// session this early is called again: the other side notices that it broke.
const CROSSING: Duration = Duration::from_secs(5);

/// The sessions under way.
#[derive(Clone, Default)]
pub struct Lines(Arc<Mutex<Table>>);

#[derive(Default)]
struct Table {
    last: u64,
    lines: HashMap<PublicKey, Entry>,
}

struct Entry {
    number: u64,
    dialled: bool,
    met: bool,
    begun: Instant,
    own: Option<bool>,
    stop: CancellationToken,
}

/// A session's place. It is free again when this is dropped.
pub struct Line {
    lines: Lines,
    peer: PublicKey,
    number: u64,
    /// Cancelled when the session is to end.
    pub stop: CancellationToken,
}

impl Lines {
    /// A place for a session that this device begins, if there is none with `peer`.
    pub fn dial(&self, peer: &PublicKey, now: Instant) -> Option<Line> {
        if self.table().lines.contains_key(peer) { None } else { Some(self.open(peer, true, now)) }
    }

    /// A place for a session that `peer` began, if it is to be.
    pub fn answer(&self, own: &PublicKey, peer: &PublicKey, now: Instant) -> Option<Line> {
        if let Some(entry) = self.table().lines.get(peer) {
            let crossing = !entry.met || now < entry.begun + CROSSING;
            if entry.dialled && crossing && own < peer {
                return None;
            }
            entry.stop.cancel();
        }
        Some(self.open(peer, false, now))
    }

    /// Ends the sessions with `peer` of which `wanted` does not hold: it is given whether they began with an own device.
    pub fn end_unless(&self, wanted: impl Fn(&PublicKey, Option<bool>) -> bool) {
        for (peer, entry) in &self.table().lines {
            if !wanted(peer, entry.own) {
                entry.stop.cancel();
            }
        }
    }

    fn open(&self, peer: &PublicKey, dialled: bool, now: Instant) -> Line {
        let mut table = self.table();
        table.last += 1;
        let (number, stop) = (table.last, CancellationToken::new());
        table.lines.insert(*peer, Entry { number, dialled, met: false, begun: now, own: None, stop: stop.clone() });
        Line { lines: self.clone(), peer: *peer, number, stop }
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Line {
    /// The other side has answered.
    pub fn met(&self) {
        self.edit(|entry| entry.met = true);
    }

    /// The session takes the other side for an own device, or not.
    pub fn began_with(&self, own: bool) {
        self.edit(|entry| entry.own = Some(own));
    }

    /// Whether no other session with the same device took its place.
    pub fn is_kept(&self) -> bool {
        self.lines.table().lines.get(&self.peer).is_some_and(|entry| entry.number == self.number)
    }

    fn edit(&self, edit: impl FnOnce(&mut Entry)) {
        if let Some(entry) = self.lines.table().lines.get_mut(&self.peer).filter(|it| it.number == self.number) {
            edit(entry);
        }
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        let mut table = self.lines.table();
        if table.lines.get(&self.peer).is_some_and(|entry| entry.number == self.number) {
            table.lines.remove(&self.peer);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMALL: PublicKey = PublicKey([1; 32]);
    const GREAT: PublicKey = PublicKey([2; 32]);

    #[test]
    fn g64_where_both_dial_the_smaller_key_s_call_is_kept() {
        let now = Instant::now();
        let (small, great) = (Lines::default(), Lines::default());
        let kept = small.dial(&GREAT, now).unwrap();
        let lost = great.dial(&SMALL, now).unwrap();
        assert!(small.answer(&SMALL, &GREAT, now).is_none());
        let answered = great.answer(&GREAT, &SMALL, now).unwrap();
        assert!(lost.stop.is_cancelled() && !answered.stop.is_cancelled() && !kept.stop.is_cancelled());
        assert!(!lost.is_kept() && answered.is_kept());
        small.end_unless(|_, _| false);
        assert!(kept.stop.is_cancelled() && kept.is_kept(), "it ends, and nothing takes its place");
        drop(lost);
        assert!(great.dial(&SMALL, now).is_none(), "the place is taken by the one that was answered");
        drop(answered);
        assert!(great.dial(&SMALL, now).is_some());
    }

    #[test]
    fn who_calls_again_has_lost_its_session() {
        let (lines, now) = (Lines::default(), Instant::now());
        let old = lines.dial(&GREAT, now).unwrap();
        old.met();
        assert!(lines.answer(&SMALL, &GREAT, now).is_none(), "a call that crossed this one arrives late");
        assert!(!old.stop.is_cancelled());
        let new = lines.answer(&SMALL, &GREAT, now + CROSSING).unwrap();
        assert!(old.stop.is_cancelled() && !new.stop.is_cancelled());
    }
}
