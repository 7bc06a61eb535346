//! Which receiver is tried next. Announcements are anybody's word: whoever makes up many of them, or comes early, takes
//! nobody else's turn.

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};

use kith_proto::limits;
use kith_proto::peer::share::announcement::Announcement;

/// Candidates that were handed out and are remembered, so that none is tried twice.
const HANDED_OUT: usize = 1_024;

/// A receiver to try.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// As it was announced first.
    pub announcement: Announcement,
    /// Where it may be, in the order of first sight; never empty, at most [`limits::SHARE_ADDRESSES`].
    pub addresses: Vec<SocketAddr>,
}

/// What a sender knows of receivers. Give it announcements of one protocol.
#[derive(Debug, Default)]
pub struct Candidates {
    /// Not tried yet, oldest first; each certificate once.
    waiting: VecDeque<Candidate>,
    /// Tried, oldest first.
    handed_out: VecDeque<HandedOut>,
}

#[derive(Debug)]
struct HandedOut {
    hash: [u8; 32],
    source: IpAddr,
    /// It could not be reached, and was not announced since.
    again: bool,
}

impl Candidate {
    /// Whose it is: the address from which it was announced first.
    fn source(&self) -> IpAddr {
        self.addresses.first().map_or(IpAddr::from([0; 4]), SocketAddr::ip)
    }
}

impl Candidates {
    /// Somebody at `source` announces.
    pub fn heard(&mut self, announcement: Announcement, source: IpAddr) {
        let (hash, address) = (announcement.certificate_hash, SocketAddr::new(source, announcement.port));
        if let Some(known) = self.waiting.iter_mut().find(|known| known.announcement.certificate_hash == hash) {
            if !known.addresses.contains(&address) && known.addresses.len() < limits::SHARE_ADDRESSES {
                known.addresses.push(address);
            }
            return;
        }
        if self.handed_out.iter().any(|tried| tried.hash == hash && !tried.again) {
            return;
        }
        self.of(hash).for_each(|tried| tried.again = false);
        self.waiting.push_back(Candidate { announcement, addresses: vec![address] });
        if self.waiting.len() > limits::SHARE_CANDIDATES {
            self.make_room();
        }
    }

    /// The next one to try, if there is one: of the source that had the fewest tries, the one that waits longest.
    pub fn pick(&mut self) -> Option<Candidate> {
        let tries = |source| self.handed_out.iter().filter(|tried| tried.source == source).count();
        let (at, _) = self.waiting.iter().enumerate().min_by_key(|(_, candidate)| tries(candidate.source()))?;
        let candidate = self.waiting.remove(at)?;
        if self.handed_out.len() == HANDED_OUT {
            self.handed_out.pop_front();
        }
        let (hash, source) = (candidate.announcement.certificate_hash, candidate.source());
        self.handed_out.push_back(HandedOut { hash, source, again: false });
        Some(candidate)
    }

    /// A candidate did not answer, or somebody else did: if it is announced again, it may be tried again.
    pub fn unreached(&mut self, candidate: &Candidate) {
        self.of(candidate.announcement.certificate_hash).for_each(|tried| tried.again = true);
    }

    /// How many wait to be tried.
    pub fn count(&self) -> usize {
        self.waiting.len()
    }

    fn of(&mut self, hash: [u8; 32]) -> impl Iterator<Item = &mut HandedOut> {
        self.handed_out.iter_mut().filter(move |tried| tried.hash == hash)
    }

    /// The source with the most candidates loses its oldest.
    fn make_room(&mut self) {
        let share = |source| self.waiting.iter().filter(|other| other.source() == source).count();
        // The first of several that are equal.
        let fullest = self.waiting.iter().enumerate().rev().max_by_key(|(_, candidate)| share(candidate.source()));
        if let Some((at, _)) = fullest {
            self.waiting.remove(at);
        }
    }
}

#[cfg(test)]
mod tests {
    use kith_proto::peer::share::announcement::Protocol;
    use proptest::prelude::*;

    use super::*;

    fn announcement(n: u16) -> Announcement {
        let mut certificate_hash = [0; 32];
        certificate_hash[..2].copy_from_slice(&n.to_be_bytes());
        Announcement { protocol: Protocol::Kith { session: [1; 16] }, port: 1 + n, certificate_hash }
    }

    fn host(n: u8) -> IpAddr {
        IpAddr::from([10, 0, 0, n])
    }

    fn order(candidates: &mut Candidates) -> Vec<u16> {
        std::iter::from_fn(|| candidates.pick()).map(|it| it.announcement.port - 1).collect()
    }

    #[test]
    fn who_announces_sixty_receivers_gets_one_try_before_everybody_else_had_one() {
        let mut candidates = Candidates::default();
        (0..60).for_each(|n| candidates.heard(announcement(n), host(1)));
        (100..103).for_each(|n| candidates.heard(announcement(n), host(u8::try_from(n).unwrap())));
        candidates.heard(announcement(110), host(100));
        assert_eq!(order(&mut candidates)[..7], [0, 100, 101, 102, 1, 110, 2]);
        candidates.heard(announcement(104), host(104));
        candidates.heard(announcement(61), host(1));
        assert_eq!(order(&mut candidates), [104, 61], "who comes late has had no try yet");
    }

    #[test]
    fn who_fills_the_table_loses_its_own() {
        let mut candidates = Candidates::default();
        candidates.heard(announcement(500), host(2));
        (0..200).for_each(|n| candidates.heard(announcement(n), host(1)));
        candidates.heard(announcement(501), host(3));
        assert_eq!(candidates.count(), limits::SHARE_CANDIDATES);
        let order = order(&mut candidates);
        assert_eq!(order[..3], [500, 138, 501]);
        assert!(order.contains(&199), "the newest of it is still there");
    }

    #[test]
    fn one_receiver_at_several_addresses_is_one() {
        let mut candidates = Candidates::default();
        for n in (1..20).chain(1..20) {
            candidates.heard(announcement(7), host(n));
        }
        assert_eq!(candidates.count(), 1);
        let found = candidates.pick().unwrap();
        let expected: Vec<_> = (1..9).map(|n| SocketAddr::new(host(n), 8)).collect();
        assert_eq!(found.addresses, expected);
    }

    #[test]
    fn each_is_tried_once_but_for_those_that_were_not_there() {
        let mut candidates = Candidates::default();
        candidates.heard(announcement(1), host(1));
        let tried = candidates.pick().unwrap();
        candidates.heard(announcement(1), host(1));
        candidates.heard(announcement(1), host(2));
        assert_eq!(candidates.pick(), None);
        candidates.unreached(&tried);
        assert_eq!(candidates.pick(), None, "it has to be announced again");
        candidates.heard(announcement(1), host(2));
        assert_eq!(candidates.pick().unwrap().addresses, [SocketAddr::new(host(2), 2)]);
        candidates.heard(announcement(1), host(2));
        assert_eq!(candidates.pick(), None);
        // Not to be there does not help to get another try before others.
        candidates.unreached(&tried);
        candidates.heard(announcement(1), host(2));
        candidates.heard(announcement(3), host(3));
        assert_eq!(order(&mut candidates), [3, 1]);
    }

    #[derive(Debug, Clone)]
    enum Step {
        Heard(u16, u8),
        Next,
        Unreached(usize),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            8 => (0_u16..200, 0_u8..12).prop_map(|(n, from)| Step::Heard(n, from)),
            2 => Just(Step::Next),
            1 => (0_usize..100).prop_map(Step::Unreached),
        ]
    }

    proptest! {
        #[test]
        fn the_table_keeps_its_bounds_and_its_word(steps in prop::collection::vec(step(), 0..600)) {
            let mut candidates = Candidates::default();
            let mut out: Vec<Candidate> = Vec::new();
            // Those that may be handed out: announced, and not handed out since, unless they were not there.
            let mut may = std::collections::BTreeSet::new();
            let mut away = std::collections::BTreeSet::new();
            for step in steps {
                match step {
                    Step::Heard(n, from) => {
                        candidates.heard(announcement(n), host(from));
                        let tried = out.iter().any(|it| it.announcement == announcement(n));
                        if !tried || away.remove(&n) {
                            may.insert(n);
                        }
                    }
                    Step::Next => if let Some(candidate) = candidates.pick() {
                        let n = candidate.announcement.port - 1;
                        prop_assert!(may.remove(&n), "{n} is handed out twice");
                        prop_assert!((1..=limits::SHARE_ADDRESSES).contains(&candidate.addresses.len()));
                        out.push(candidate);
                    } else {
                        prop_assert_eq!(candidates.count(), 0);
                    },
                    Step::Unreached(at) => if let Some(candidate) = out.get(at) {
                        candidates.unreached(candidate);
                        let n = candidate.announcement.port - 1;
                        if !may.contains(&n) {
                            away.insert(n);
                        }
                    },
                }
                prop_assert!(candidates.count() <= limits::SHARE_CANDIDATES);
            }
        }

        #[test]
        fn nobody_waits_longer_than_a_round(own in 0_u16..100, others in prop::collection::vec(0_u8..40, 0..300)) {
            let mut candidates = Candidates::default();
            let crowd: std::collections::BTreeSet<_> = others.iter().copied().collect();
            let mut n = 1_000;
            let mut announce = |candidates: &mut Candidates, from| {
                n += 1;
                candidates.heard(announcement(n), host(from));
            };
            let (before, after) = others.split_at(others.len().min(own.into()));
            before.iter().for_each(|from| announce(&mut candidates, *from));
            candidates.heard(announcement(0), host(99));
            after.iter().for_each(|from| announce(&mut candidates, *from));
            let place = order(&mut candidates).iter().position(|n| *n == 0);
            prop_assert!(place.is_some_and(|place| place <= crowd.len()), "{place:?}");
        }
    }
}
