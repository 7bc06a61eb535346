//! Which receiver is tried next. Announcements are anybody's word: whoever makes up many of them, or comes early, takes
//! nobody else's turn.

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};

use kith_proto::limits;
use kith_proto::peer::share::announcement::Announcement;

/// Candidates that were handed out and are remembered, so that none is tried twice.
const HANDED_OUT: usize = 1_024;
/// Tries of one source that may be under way at once: whoever answers slowly is slow to himself.
const AT_ONCE: usize = 4;

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
    /// Not being tried, oldest first; each certificate once.
    waiting: VecDeque<Candidate>,
    /// Tried, oldest first.
    handed_out: VecDeque<HandedOut>,
}

#[derive(Debug)]
struct HandedOut {
    hash: [u8; 32],
    sources: Vec<IpAddr>,
    progress: Progress,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Progress {
    Trying,
    /// It had its try: nobody who announces this certificate has another one.
    Refused,
    /// It could not be reached: it may be tried again when it is announced again.
    Unreached,
}

impl Candidate {
    /// Who says that it is there.
    fn sources(&self) -> impl Iterator<Item = IpAddr> {
        self.addresses.iter().map(SocketAddr::ip)
    }
}

impl Candidates {
    /// Somebody at `source` announces. Whoever repeats what another one says gets neither the other's try nor its place:
    /// each source is believed for itself.
    pub fn heard(&mut self, announcement: Announcement, source: IpAddr) {
        let hash = announcement.certificate_hash;
        let had_its_try = |tried: &HandedOut| match tried.progress {
            Progress::Refused => true,
            Progress::Trying => tried.sources.contains(&source),
            Progress::Unreached => false,
        };
        if self.handed_out.iter().any(|tried| tried.hash == hash && had_its_try(tried)) {
            return;
        }
        let address = SocketAddr::new(source, announcement.port);
        if let Some(known) = self.waiting.iter_mut().find(|known| known.announcement.certificate_hash == hash) {
            if known.sources().all(|other| other != source) && known.addresses.len() < limits::SHARE_ADDRESSES {
                known.addresses.push(address);
            }
            return;
        }
        self.waiting.push_back(Candidate { announcement, addresses: vec![address] });
        if self.waiting.len() > limits::SHARE_CANDIDATES {
            self.make_room();
        }
    }

    /// The next one to try, if there is one: of the source that had the fewest tries, the one that waits longest. Sources
    /// that have as many tries under way as are allowed at once have to wait.
    pub fn pick(&mut self) -> Option<Candidate> {
        let tries = |candidate: &Candidate| {
            let of = |source| {
                let its = || self.handed_out.iter().filter(move |tried| tried.sources.contains(&source));
                let trying = its().filter(|tried| tried.progress == Progress::Trying).count();
                (trying < AT_ONCE).then(|| its().count())
            };
            candidate.sources().filter_map(of).min()
        };
        let ready = self.waiting.iter().enumerate().filter_map(|(at, candidate)| Some((at, tries(candidate)?)));
        let (at, _) = ready.min_by_key(|(_, tries)| *tries)?;
        let candidate = self.waiting.remove(at)?;
        if self.handed_out.len() == HANDED_OUT {
            self.handed_out.pop_front();
        }
        let (hash, sources) = (candidate.announcement.certificate_hash, candidate.sources().collect());
        self.handed_out.push_back(HandedOut { hash, sources, progress: Progress::Trying });
        Some(candidate)
    }

    /// A candidate did not answer, or somebody else did: if it is announced again, it may be tried again.
    pub fn unreached(&mut self, candidate: &Candidate) {
        self.ends(candidate, Progress::Unreached);
    }

    /// A candidate had its try.
    pub fn refused(&mut self, candidate: &Candidate) {
        self.ends(candidate, Progress::Refused);
        let hash = candidate.announcement.certificate_hash;
        self.waiting.retain(|waiting| waiting.announcement.certificate_hash != hash);
    }

    /// How many wait to be tried.
    pub fn count(&self) -> usize {
        self.waiting.len()
    }

    fn ends(&mut self, candidate: &Candidate, progress: Progress) {
        let its = |tried: &&mut HandedOut| {
            tried.progress == Progress::Trying
                && tried.hash == candidate.announcement.certificate_hash
                && candidate.sources().eq(tried.sources.iter().copied())
        };
        self.handed_out.iter_mut().filter(its).for_each(|tried| tried.progress = progress);
    }

    /// The source with the most candidates loses its oldest.
    fn make_room(&mut self) {
        let of = |source| self.waiting.iter().filter(|other| other.sources().any(|it| it == source)).count();
        let share = |candidate: &Candidate| candidate.sources().map(of).min();
        // The first of several that are equal.
        let fullest = self.waiting.iter().enumerate().rev().max_by_key(|(_, candidate)| share(candidate));
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
        let next = || candidates.pick().inspect(|it| candidates.refused(it));
        std::iter::from_fn(next).map(|it| it.announcement.port - 1).collect()
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
            candidates.heard(Announcement { port: 9, ..announcement(7) }, host(n));
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
        assert_eq!(candidates.pick(), None);
        candidates.unreached(&tried);
        assert_eq!(candidates.pick(), None, "it has to be announced again");
        candidates.heard(announcement(1), host(1));
        let tried = candidates.pick().unwrap();
        assert_eq!(tried.addresses, [SocketAddr::new(host(1), 2)]);
        candidates.heard(announcement(1), host(1));
        assert_eq!(candidates.pick(), None);
        // Not to be there does not help to get another try before others.
        candidates.unreached(&tried);
        candidates.heard(announcement(1), host(1));
        candidates.heard(announcement(3), host(3));
        assert_eq!(order(&mut candidates), [3, 1]);
        for n in 1..4 {
            candidates.heard(announcement(1), host(n));
            assert_eq!(candidates.pick(), None, "who had its try, gets no other one by whoever repeats its words");
        }
    }

    #[test]
    fn c20_who_repeats_the_words_of_another_one_takes_nothing_from_it() {
        let mut candidates = Candidates::default();
        let honest = announcement(7);
        // The rogue had many tries already, and repeats what the honest one says before that is heard here.
        (100..120).for_each(|n| candidates.heard(announcement(n), host(1)));
        order(&mut candidates);
        candidates.heard(honest, host(1));
        candidates.heard(announcement(121), host(2));
        let first = candidates.pick().unwrap();
        assert_eq!(first.announcement, announcement(121));
        // As soon as the honest one is heard itself, it is its own turn.
        candidates.heard(announcement(8), host(2));
        candidates.heard(honest, host(3));
        let found = candidates.pick().unwrap();
        assert_eq!((found.announcement, &found.addresses[1]), (honest, &SocketAddr::new(host(3), 8)));
        candidates.unreached(&found);
        // Also while the rogue's word is being tried.
        candidates.heard(honest, host(1));
        while candidates.pick().is_some() {}
        candidates.heard(honest, host(1));
        assert_eq!(candidates.pick(), None);
        candidates.heard(honest, host(3));
        assert_eq!(candidates.pick().unwrap().addresses, [SocketAddr::new(host(3), 8)]);
    }

    #[test]
    fn c20_who_does_not_answer_leaves_room_for_others() {
        let mut candidates = Candidates::default();
        (0..60).for_each(|n| candidates.heard(announcement(n), host(1)));
        let trying: Vec<_> = std::iter::from_fn(|| candidates.pick()).collect();
        assert_eq!(trying.len(), AT_ONCE);
        candidates.heard(announcement(100), host(2));
        assert_eq!(candidates.pick().unwrap().announcement, announcement(100));
        candidates.unreached(&trying[1]);
        assert_eq!(candidates.pick().unwrap().announcement, announcement(4));
        assert_eq!(candidates.pick(), None);
    }

    #[test]
    fn who_was_not_there_and_lost_its_place_is_tried_when_it_is_heard_again() {
        let mut candidates = Candidates::default();
        candidates.heard(announcement(500), host(1));
        let tried = candidates.pick().unwrap();
        candidates.unreached(&tried);
        candidates.heard(announcement(500), host(1));
        (0..64).for_each(|n| candidates.heard(announcement(n), host(1)));
        candidates.heard(announcement(500), host(1));
        assert!(order(&mut candidates).contains(&500));
    }

    #[derive(Debug, Clone)]
    enum Step {
        Heard(u16, u8),
        Next,
        Ends(usize, bool),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            8 => (0_u16..200, 0_u8..12).prop_map(|(n, from)| Step::Heard(n, from)),
            2 => Just(Step::Next),
            1 => (0_usize..20, any::<bool>()).prop_map(|(at, was_asked)| Step::Ends(at, was_asked)),
        ]
    }

    proptest! {
        #[test]
        fn the_table_keeps_its_bounds_and_its_word(steps in prop::collection::vec(step(), 0..600)) {
            let mut candidates = Candidates::default();
            // Those that are being tried, and those that were refused.
            let (mut trying, mut refused): (Vec<Candidate>, Vec<_>) = (Vec::new(), Vec::new());
            for step in steps {
                match step {
                    Step::Heard(n, from) => candidates.heard(announcement(n), host(from)),
                    Step::Next => match candidates.pick() {
                        Some(candidate) => {
                            prop_assert!((1..=limits::SHARE_ADDRESSES).contains(&candidate.addresses.len()));
                            prop_assert!(!refused.contains(&candidate.announcement), "another try");
                            let same = trying.iter().filter(|other| other.announcement == candidate.announcement);
                            let twice = same.flat_map(Candidate::sources).any(|it| candidate.sources().any(|its| its == it));
                            prop_assert!(!twice, "two tries at once");
                            trying.push(candidate);
                        }
                        None => prop_assert!(candidates.count() == 0 || trying.len() >= AT_ONCE),
                    },
                    Step::Ends(at, was_asked) => if at < trying.len() {
                        let candidate = trying.swap_remove(at);
                        if was_asked {
                            candidates.refused(&candidate);
                            refused.push(candidate.announcement);
                        } else {
                            candidates.unreached(&candidate);
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
