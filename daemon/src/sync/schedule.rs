//! When to sync with whom. Plain data: `now` is an argument.
//!
//! At once after pairing and when somebody asks; when a peer comes into sight, unless that was just done; a second after
//! a change here; every ten minutes while a peer is in sight. What fails is tried again with growing patience.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use kith_proto::id::PublicKey;
use tokio::time::Instant;

/// A peer that was synced with less than this ago need not be because it comes into sight again.
const SETTLED: Duration = Duration::from_secs(30);
/// Changes are gathered for so long.
const GATHER: Duration = Duration::from_secs(1);
/// While a peer is in sight.
const EVERY: Duration = Duration::from_secs(600);
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(300);
/// Where there is no room: somebody makes some, and looks whether it goes on.
const ROOM_PAUSE: Duration = Duration::from_secs(30);
/// After a pairing, the other side may take a moment to write it down.
const PAIRING: Duration = Duration::from_secs(5);
const PAIRING_PAUSE: Duration = Duration::from_millis(300);
/// Sessions that this device begins at once: dialled, and not met yet. Where thousands of devices are due, the others
/// wait for their turn.
const BEGINNING: usize = 16;

/// Why a session begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trigger {
    /// The peer came into sight.
    Discovered,
    /// The two were just paired.
    Paired,
    /// Something changed here.
    Changed,
    /// It is time.
    Timer,
    /// Somebody wants it.
    Asked,
    /// The other device dialled.
    Called,
}

impl Trigger {
    /// The word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Discovered => "discovered",
            Self::Paired => "paired",
            Self::Changed => "changed",
            Self::Timer => "timer",
            Self::Asked => "asked",
            Self::Called => "called",
        }
    }
}

/// How a session went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Went {
    /// To its end.
    Well,
    /// It failed.
    Badly,
    /// It failed because there is no room here.
    NoRoom,
    /// Another session with the same peer took its place.
    Elsewhere,
    /// It was ended here, because of who is trusted or takes part now: another one follows, if there is to be one.
    Ended,
}

/// What a trusted peer is to this device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bond {
    /// One's own.
    Own,
    /// Somebody else's.
    Guest,
    /// The same; it came by a code a moment ago, and calls by itself.
    Caller,
}

/// What is planned for every trusted peer.
#[derive(Debug, Default)]
pub struct Schedule {
    peers: HashMap<PublicKey, Plan>,
    /// With whom this device begins sessions just now.
    beginning: HashSet<PublicKey>,
}

#[derive(Debug, Default)]
struct Plan {
    own: bool,
    in_sight: bool,
    /// Sessions under way.
    running: u32,
    due: Option<(Instant, Trigger)>,
    last: Option<Instant>,
    paired: Option<Instant>,
    pause: Option<Duration>,
    /// Something changed here that it may not have.
    dirty: bool,
}

impl Plan {
    fn no_later_than(&mut self, at: Instant, trigger: Trigger) {
        if self.due.is_none_or(|(due, _)| at < due) {
            self.due = Some((at, trigger));
        }
    }

    /// Only what somebody waits for is tried with a peer that is not in sight.
    fn is_possible(&self) -> bool {
        let wanted = matches!(self.due, Some((_, Trigger::Asked | Trigger::Paired)));
        self.running == 0 && (self.in_sight || wanted)
    }
}

impl Schedule {
    /// Only these peers are trusted. Those that are new were just paired, or call; those that are one's own now are to
    /// have what such devices have.
    pub fn trust(&mut self, trusted: &[(PublicKey, Bond)], now: Instant, at_start: bool) {
        let still: HashSet<_> = trusted.iter().map(|(peer, _)| peer).collect();
        self.peers.retain(|peer, _| still.contains(peer));
        for (peer, bond) in trusted {
            let (new, own) = (!self.peers.contains_key(peer), *bond == Bond::Own);
            let plan = self.peers.entry(*peer).or_default();
            let joins = own && !plan.own && !new;
            plan.own = own;
            if new && !at_start && *bond != Bond::Caller {
                plan.paired = Some(now);
                plan.no_later_than(now, Trigger::Paired);
            }
            if joins {
                self.changed([peer], now);
            }
        }
    }

    /// Whether a peer can be seen.
    pub fn sighted(&mut self, peer: &PublicKey, in_sight: bool, now: Instant) {
        let Some(plan) = self.peers.get_mut(peer) else { return };
        if in_sight && !plan.in_sight {
            // It may be elsewhere now: patience begins anew.
            plan.pause = None;
            plan.due = plan.due.filter(|(_, trigger)| matches!(trigger, Trigger::Asked | Trigger::Paired));
            let settled = plan.last.filter(|_| !plan.dirty).map(|last| last + SETTLED);
            plan.no_later_than(settled.map_or(now, |settled| settled.max(now)), Trigger::Discovered);
        }
        plan.in_sight = in_sight;
    }

    /// Something changed here that `peers` are to have.
    pub fn changed<'a>(&mut self, peers: impl IntoIterator<Item = &'a PublicKey>, now: Instant) {
        for peer in peers {
            if let Some(plan) = self.peers.get_mut(peer) {
                plan.dirty = true;
                if plan.pause.is_none() {
                    plan.no_later_than(now + GATHER, Trigger::Changed);
                }
            }
        }
    }

    /// Somebody wants a session now.
    pub fn asked(&mut self, peer: &PublicKey, now: Instant) {
        if let Some(plan) = self.peers.get_mut(peer) {
            plan.due = Some((now, Trigger::Asked));
        }
    }

    /// The peers that can be seen.
    pub fn in_sight(&self) -> Vec<PublicKey> {
        self.peers.iter().filter(|(_, plan)| plan.in_sight).map(|(peer, _)| *peer).collect()
    }

    /// Whether the peer can be seen, whether a session is under way or about to begin, whether the last one failed.
    pub fn state(&self, peer: &PublicKey) -> (bool, bool, bool) {
        self.peers.get(peer).map_or((false, false, false), |plan| {
            let asked = matches!(plan.due, Some((_, Trigger::Asked)));
            (plan.in_sight, plan.running > 0 || asked, plan.pause.is_some())
        })
    }

    /// Takes what is due, as much as there is room for: first what somebody asked for, then what waited longest. Who takes
    /// it says when it has [`begun`](Schedule::begun).
    pub fn take(&mut self, now: Instant) -> Vec<(PublicKey, Trigger)> {
        let room = BEGINNING.saturating_sub(self.beginning.len());
        if room == 0 {
            return Vec::new();
        }
        let possible = self.peers.iter().filter(|(peer, plan)| plan.is_possible() && !self.beginning.contains(*peer));
        let due = possible.filter_map(|(peer, plan)| plan.due.map(|(at, trigger)| (at, trigger, *peer)));
        let mut due: Vec<_> = due.filter(|(at, ..)| *at <= now).collect();
        due.sort_unstable_by_key(|(at, trigger, _)| (*trigger != Trigger::Asked, *at));
        due.truncate(room);
        for (_, _, peer) in &due {
            self.beginning.insert(*peer);
            if let Some(plan) = self.peers.get_mut(peer) {
                plan.due = None;
            }
        }
        due.into_iter().map(|(_, trigger, peer)| (peer, trigger)).collect()
    }

    /// A session that was taken was met by the other side, or is over: there is room for another one.
    pub fn begun(&mut self, peer: &PublicKey) {
        self.beginning.remove(peer);
    }

    /// When something is due next. While there is no room, nothing is: whoever makes some looks again.
    pub fn next(&self) -> Option<Instant> {
        if self.beginning.len() >= BEGINNING {
            return None;
        }
        let plans = self.peers.iter().filter(|(peer, _)| !self.beginning.contains(*peer)).map(|(_, plan)| plan);
        plans.filter(|plan| plan.is_possible()).filter_map(|plan| plan.due).map(|(at, _)| at).min()
    }

    /// A session began.
    pub fn began(&mut self, peer: &PublicKey) {
        if let Some(plan) = self.peers.get_mut(peer) {
            plan.running += 1;
            plan.dirty = false;
            if matches!(plan.due, Some((_, Trigger::Changed | Trigger::Timer))) {
                plan.due = None;
            }
        }
    }

    /// A session is over. Says whether a failure is worth telling.
    pub fn ended(&mut self, peer: &PublicKey, trigger: Trigger, went: Went, now: Instant) -> bool {
        let Some(plan) = self.peers.get_mut(peer) else { return true };
        plan.running = plan.running.saturating_sub(1);
        match went {
            Went::Well => {
                plan.last = Some(now);
                plan.pause = None;
                plan.paired = None;
                plan.no_later_than(now + if plan.dirty { GATHER } else { EVERY }, Trigger::Timer);
            }
            Went::Elsewhere => {}
            Went::Ended => {
                plan.dirty = true;
                let again = if trigger == Trigger::Called { Trigger::Changed } else { trigger };
                plan.no_later_than(now + GATHER, again);
                return false;
            }
            Went::Badly | Went::NoRoom => {
                plan.dirty = true;
                let early = plan.paired.is_some_and(|paired| now < paired + PAIRING);
                if trigger == Trigger::Paired && early {
                    plan.no_later_than(now + PAIRING_PAUSE, Trigger::Paired);
                    return false;
                }
                let longest = if went == Went::NoRoom { ROOM_PAUSE } else { LONGEST_PAUSE };
                let pause = plan.pause.map_or(FIRST_PAUSE, |pause| (pause * 2).min(longest));
                plan.pause = Some(pause);
                let again = if trigger == Trigger::Called { Trigger::Timer } else { trigger };
                let again = if again == Trigger::Asked { Trigger::Timer } else { again };
                plan.due = plan.due.filter(|(_, trigger)| *trigger == Trigger::Asked);
                plan.no_later_than(now + pause, again);
            }
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::Bond::{Caller, Guest, Own};
    use super::*;

    const NAS: PublicKey = PublicKey([1; 32]);

    fn schedule(now: Instant) -> Schedule {
        let mut schedule = Schedule::default();
        schedule.trust(&[(NAS, Guest)], now, true);
        schedule
    }

    fn session(schedule: &mut Schedule, now: Instant, went: Went) -> Trigger {
        let [(peer, trigger)] = schedule.take(now)[..] else { panic!("one session is due") };
        schedule.began(&peer);
        schedule.begun(&peer);
        assert!(schedule.take(now).is_empty(), "one session a pair");
        schedule.ended(&peer, trigger, went, now);
        trigger
    }

    #[tokio::test]
    async fn a_peer_that_comes_into_sight_is_synced_with_unless_that_was_just_done() {
        let start = Instant::now();
        let mut schedule = schedule(start);
        assert_eq!(schedule.next(), None);
        schedule.sighted(&NAS, true, start);
        assert_eq!(session(&mut schedule, start, Went::Well), Trigger::Discovered);
        schedule.sighted(&NAS, false, start + Duration::from_secs(1));
        schedule.sighted(&NAS, true, start + Duration::from_secs(2));
        assert_eq!(schedule.next(), Some(start + SETTLED));
        assert!(schedule.take(start + Duration::from_secs(29)).is_empty());
        assert_eq!(session(&mut schedule, start + SETTLED, Went::Well), Trigger::Discovered);
        assert_eq!(schedule.next(), Some(start + SETTLED + EVERY));
        schedule.sighted(&NAS, false, start + SETTLED);
        assert_eq!(schedule.next(), None, "nothing is tried with a peer that cannot be seen");
    }

    #[tokio::test]
    async fn changes_are_gathered_for_a_second_and_not_lost_when_the_peer_is_away() {
        let start = Instant::now();
        let mut schedule = schedule(start);
        schedule.sighted(&NAS, true, start);
        session(&mut schedule, start, Went::Well);
        for ms in [0, 400, 800] {
            schedule.changed([&NAS], start + Duration::from_millis(ms));
        }
        assert_eq!(schedule.next(), Some(start + GATHER));
        assert_eq!(session(&mut schedule, start + GATHER, Went::Well), Trigger::Changed);
        schedule.sighted(&NAS, false, start + GATHER);
        schedule.changed([&NAS], start + GATHER);
        schedule.sighted(&NAS, true, start + 2 * GATHER);
        assert_eq!(session(&mut schedule, start + 2 * GATHER, Went::Well), Trigger::Discovered);
    }

    #[tokio::test]
    async fn a_change_during_a_session_begins_another_one() {
        let start = Instant::now();
        let mut schedule = schedule(start);
        schedule.sighted(&NAS, true, start);
        schedule.take(start);
        schedule.began(&NAS);
        schedule.begun(&NAS);
        schedule.changed([&NAS], start);
        assert_eq!(schedule.next(), None);
        schedule.ended(&NAS, Trigger::Discovered, Went::Well, start);
        assert_eq!(schedule.next(), Some(start + GATHER));
    }

    #[tokio::test]
    async fn patience_grows_from_a_second_to_five_minutes() {
        let mut now = Instant::now();
        let mut schedule = schedule(now);
        schedule.sighted(&NAS, true, now);
        let mut pauses = Vec::new();
        for _ in 0..11 {
            session(&mut schedule, now, Went::Badly);
            let next = schedule.next().unwrap();
            // A change does not shorten it.
            schedule.changed([&NAS], now);
            assert_eq!(schedule.next(), Some(next));
            pauses.push((next - now).as_secs());
            now = next;
        }
        assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300]);
        schedule.asked(&NAS, now - Duration::from_secs(1));
        assert_eq!(session(&mut schedule, now, Went::Well), Trigger::Asked);
    }

    #[tokio::test]
    async fn a_peer_that_becomes_one_s_own_is_synced_with() {
        let start = Instant::now();
        let mut schedule = schedule(start);
        schedule.sighted(&NAS, true, start);
        session(&mut schedule, start, Went::Well);
        schedule.trust(&[(NAS, Guest)], start, false);
        assert_eq!(schedule.next(), Some(start + EVERY));
        schedule.trust(&[(NAS, Own)], start, false);
        assert_eq!(schedule.next(), Some(start + GATHER));
        assert_eq!(session(&mut schedule, start + GATHER, Went::Well), Trigger::Changed);
        for own in [Own, Guest] {
            schedule.trust(&[(NAS, own)], start + GATHER, false);
            assert_eq!(schedule.next(), Some(start + GATHER + EVERY));
        }
    }

    #[tokio::test]
    async fn a_session_that_was_ended_here_is_followed_by_another_one() {
        let start = Instant::now();
        let mut schedule = schedule(start);
        schedule.asked(&NAS, start);
        schedule.take(start);
        schedule.began(&NAS);
        schedule.begun(&NAS);
        assert!(!schedule.ended(&NAS, Trigger::Asked, Went::Ended, start), "that is no news");
        assert_eq!(schedule.next(), Some(start + GATHER), "also where the peer is not in sight: somebody asked");
        schedule.take(start + GATHER);
        schedule.began(&NAS);
        schedule.begun(&NAS);
        schedule.trust(&[], start, false);
        assert!(schedule.ended(&NAS, Trigger::Asked, Went::Ended, start), "nothing follows: whoever waits is told");
        assert_eq!(schedule.next(), None);
    }

    #[tokio::test]
    async fn g49_where_there_is_no_room_it_is_tried_again_within_a_minute() {
        let mut now = Instant::now();
        let mut schedule = schedule(now);
        schedule.sighted(&NAS, true, now);
        for _ in 0..11 {
            session(&mut schedule, now, Went::NoRoom);
            let next = schedule.next().unwrap();
            assert!(next - now <= ROOM_PAUSE);
            now = next;
        }
    }

    #[tokio::test]
    async fn after_a_pairing_the_other_side_gets_a_moment() {
        let start = Instant::now();
        let mut schedule = schedule(start);
        let new = PublicKey([2; 32]);
        schedule.trust(&[(NAS, Guest), (new, Own)], start, false);
        assert_eq!(schedule.take(start), [(new, Trigger::Paired)]);
        schedule.began(&new);
        schedule.begun(&new);
        assert!(!schedule.ended(&new, Trigger::Paired, Went::Badly, start), "that is no news");
        assert_eq!(schedule.next(), Some(start + PAIRING_PAUSE));
        schedule.take(start + PAIRING);
        schedule.began(&new);
        schedule.begun(&new);
        assert!(schedule.ended(&new, Trigger::Paired, Went::Badly, start + PAIRING));
        schedule.trust(&[(NAS, Guest)], start, false);
        assert_eq!(schedule.next(), None, "nothing is planned with a device that is not trusted");
    }

    #[tokio::test]
    async fn who_came_by_a_code_calls_by_itself() {
        let start = Instant::now();
        let mut schedule = schedule(start);
        let new = PublicKey([2; 32]);
        schedule.trust(&[(NAS, Guest), (new, Caller)], start, false);
        assert_eq!(schedule.next(), None);
        schedule.changed([&new], start);
        assert_eq!(schedule.next(), None, "it is not in sight");
        schedule.sighted(&new, true, start);
        assert_eq!(schedule.take(start), [(new, Trigger::Discovered)]);
    }

    #[tokio::test]
    async fn of_a_thousand_that_are_due_a_few_begin_at_once() {
        let start = Instant::now();
        let mut schedule = Schedule::default();
        let key = |n: u16| PublicKey(std::array::from_fn(|i| n.to_be_bytes()[i % 2]));
        let all: Vec<_> = (0..1000).map(|n| (key(n), Guest)).collect();
        schedule.trust(&all, start, false);
        let first = schedule.take(start);
        assert_eq!(first.len(), BEGINNING);
        assert!(schedule.take(start).is_empty() && schedule.next().is_none(), "nobody wakes for what has no room");
        schedule.asked(&key(999), start + GATHER);
        let (peer, _) = first[0];
        let asked_already = first.iter().any(|(it, _)| *it == key(999));
        schedule.begun(&peer);
        let next = schedule.take(start + GATHER);
        assert!(next.len() == 1 && (asked_already || next[0] == (key(999), Trigger::Asked)), "somebody waits for it");
        // Everybody has its turn, also where sessions go on for long.
        let mut begun: HashSet<_> = first.iter().chain(&next).map(|(peer, _)| *peer).collect();
        let mut running: Vec<_> = first.into_iter().skip(1).chain(next).collect();
        while let Some((peer, _)) = running.pop() {
            schedule.began(&peer);
            schedule.begun(&peer);
            let more = schedule.take(start + GATHER);
            begun.extend(more.iter().map(|(peer, _)| *peer));
            running.extend(more);
        }
        assert_eq!(begun.len(), 1000);
    }
}
