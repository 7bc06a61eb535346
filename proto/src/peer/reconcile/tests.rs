//! Two sets and the messages between them; the crate `negentropy` on either side as an oracle.

use std::collections::{BTreeSet, HashSet};
use std::convert::Infallible;

use negentropy::{Id, Negentropy, NegentropyStorageBase, NegentropyStorageVector};
use proptest::prelude::*;

use super::*;

/// A sorted list with a sum before each of its elements.
struct Model {
    elements: Vec<Element>,
    sums: Vec<Sum>,
    /// 0: parts of the same size; anything else: cut where nobody would.
    odd: u64,
    calls: Calls,
}

/// What one message asked of a set: ascending, and nothing twice.
#[derive(Default)]
struct Calls {
    seen: HashSet<(&'static str, Element, Element)>,
    highest: Option<Element>,
}

impl Calls {
    fn note(&mut self, what: &'static str, lower: &Element, upper: &Element) {
        assert!(lower < upper, "an empty range");
        assert!(self.highest.is_none_or(|it| it <= *lower), "not ascending");
        self.highest = Some(*lower);
        assert!(self.seen.insert((what, *lower, *upper)), "{what} of a range twice");
    }

    fn count(&self, what: &str) -> usize {
        self.seen.iter().filter(|it| it.0 == what).count()
    }
}

impl Model {
    fn new(elements: impl IntoIterator<Item = Element>, odd: u64) -> Self {
        let elements: Vec<Element> = elements.into_iter().collect::<BTreeSet<_>>().into_iter().collect();
        let mut sums = vec![Sum::default()];
        let mut sum = Sum::default();
        for element in &elements {
            sum.add(&element.id);
            sums.push(sum);
        }
        Self { elements, sums, odd, calls: Calls::default() }
    }

    fn places(&self, lower: &Element, upper: &Element) -> (usize, usize) {
        let place = |bound| self.elements.partition_point(|it| it < bound);
        (place(lower), place(upper))
    }

    fn sum_of(&self, from: usize, to: usize) -> Sum {
        let mut sum = self.sums[to];
        sum.subtract(&self.sums[from]);
        sum
    }
}

impl Set for Model {
    type Error = Infallible;

    fn sum(&mut self, lower: &Element, upper: &Element) -> Result<Sum, Infallible> {
        self.calls.note("sum", lower, upper);
        let (from, to) = self.places(lower, upper);
        Ok(self.sum_of(from, to))
    }

    fn elements(&mut self, lower: &Element, upper: &Element, limit: usize) -> Result<Vec<Element>, Infallible> {
        self.calls.note("elements", lower, upper);
        let (from, to) = self.places(lower, upper);
        Ok(self.elements[from..to].iter().take(limit).copied().collect())
    }

    fn split(&mut self, lower: &Element, upper: &Element, parts: usize) -> Result<Vec<(Element, Sum)>, Infallible> {
        self.calls.note("split", lower, upper);
        let (from, to) = self.places(lower, upper);
        let mut found = Vec::new();
        let mut before = from;
        for part in 1..parts {
            let mut at = from + (to - from) * part / parts;
            if self.odd > 0 {
                // Anywhere within the part, even at its start: parts are uneven, some are empty.
                at = at
                    .saturating_sub((mix(self.odd.wrapping_add(at as u64)) as usize) % ((to - from) / parts + 1))
                    .max(from + 1);
            }
            if at <= before || at >= to {
                continue;
            }
            found.push((Element::between(&self.elements[at - 1], &self.elements[at]), self.sum_of(before, at)));
            before = at;
        }
        found.push((*upper, self.sum_of(before, to)));
        Ok(found)
    }
}

/// SplitMix64: numbers that look random.
fn mix(seed: u64) -> u64 {
    let mut z = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

fn id(number: u64) -> [u8; 32] {
    let mut id = [0; 32];
    for (index, word) in id.chunks_mut(8).enumerate() {
        word.copy_from_slice(&mix(number.wrapping_mul(4).wrapping_add(index as u64)).to_be_bytes());
    }
    id
}

/// Two sets that share some elements.
#[derive(Debug, Clone)]
struct Pair {
    ours: Vec<Element>,
    theirs: Vec<Element>,
    odd: u64,
}

impl Pair {
    fn have(&self) -> Vec<Element> {
        difference(&self.ours, &self.theirs)
    }

    fn need(&self) -> Vec<[u8; 32]> {
        let mut ids: Vec<_> = difference(&self.theirs, &self.ours).into_iter().map(|it| it.id).collect();
        ids.sort_unstable();
        ids
    }
}

fn difference(one: &[Element], other: &[Element]) -> Vec<Element> {
    let other: BTreeSet<_> = other.iter().collect();
    one.iter().filter(|it| !other.contains(it)).copied().collect::<BTreeSet<_>>().into_iter().collect()
}

/// Sets of up to `most` elements: each side's own ones are scattered or all at once, stamps are often equal, and ids may
/// share all but their last bytes.
fn pair(most: u64) -> impl Strategy<Value = Pair> {
    let own = prop_oneof![3 => 0..20_u64, 1 => 0..=most / 8];
    let shared = prop_oneof![1 => 0..40_u64, 3 => 0..=most];
    let spread = prop_oneof![Just(1_u64), Just(7), Just(1 << 10), Just(1 << 40), Just(u64::MAX)];
    (any::<u64>(), shared, own.clone(), own, spread, any::<bool>(), 0..3_u64).prop_map(
        |(seed, shared, left, right, spread, alike, odd)| {
            let element = |number: u64| {
                let mut id = id(seed.wrapping_add(number));
                if alike {
                    // Not consecutive: other numbers with the same sum would have the same fingerprint, which hashes never do.
                    id[..24].fill(0xff);
                }
                Element { stamp: mix(seed ^ number) % spread, id }
            };
            let both: Vec<Element> = (0..shared).map(element).collect();
            let (l, r) = (shared + left, shared + left + right);
            Pair {
                ours: both.iter().copied().chain((shared..l).map(element)).collect(),
                theirs: both.iter().copied().chain((l..r).map(element)).collect(),
                odd: seed.wrapping_mul(odd),
            }
        },
    )
}

/// What came of a reconciliation.
#[derive(Debug, Default)]
struct Outcome {
    have: Vec<Element>,
    need: Vec<[u8; 32]>,
    bytes: usize,
    rounds: u32,
}

impl Outcome {
    /// Exactly what differs, each once.
    #[track_caller]
    fn check(mut self, pair: &Pair) -> Self {
        self.have.sort_unstable();
        self.need.sort_unstable();
        assert!(self.have == pair.have(), "have {} of {}", self.have.len(), pair.have().len());
        assert!(self.need == pair.need(), "need {} of {}", self.need.len(), pair.need().len());
        self
    }
}

/// Our initiator with `set`, and whoever answers.
fn run(set: &mut Model, limit: usize, mut answer: impl FnMut(&[u8]) -> Vec<u8>) -> Outcome {
    let mut initiator = Initiator::with_limit(limit);
    let mut outcome = Outcome::default();
    let mut message = Some(initiator.begin(set).unwrap());
    while let Some(question) = message {
        assert!(question.len() <= limit);
        let answer = answer(&question);
        outcome.bytes += question.len() + answer.len();
        set.calls = Calls::default();
        let step = initiator.step(set, &answer).unwrap();
        outcome.have.extend(step.have);
        outcome.need.extend(step.need.into_iter().flat_map(|missing| missing.ids));
        message = step.reply;
    }
    outcome.rounds = initiator.rounds();
    outcome
}

fn run_both(pair: &Pair, ours: usize, theirs: usize) -> Outcome {
    let mut set = Model::new(pair.theirs.iter().copied(), pair.odd);
    let outcome = run(&mut Model::new(pair.ours.iter().copied(), pair.odd), ours, |question| {
        set.calls = Calls::default();
        let answer = respond_within(theirs, &mut set, question).unwrap();
        assert!(answer.len() <= theirs);
        answer
    });
    outcome.check(pair)
}

fn storage(elements: &[Element]) -> NegentropyStorageVector {
    let mut storage = NegentropyStorageVector::new();
    for element in elements {
        storage.insert(element.stamp, Id::from_byte_array(element.id)).unwrap();
    }
    storage.seal().unwrap();
    storage
}

fn limit() -> impl Strategy<Value = usize> {
    prop_oneof![Just(limits::RECONCILE_MESSAGE), Just(4096), 4096..20_000_usize]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn both_ends_are_ours(pair in pair(3000), ours in limit(), theirs in limit()) {
        run_both(&pair, ours, theirs);
    }

    #[test]
    fn negentropy_answers(pair in pair(3000), ours in limit(), theirs in limit()) {
        let storage = storage(&pair.theirs);
        let mut server = Negentropy::borrowed(&storage, theirs as u64).unwrap();
        let mut set = Model::new(pair.ours.iter().copied(), pair.odd);
        run(&mut set, ours, |question| server.reconcile(question).unwrap()).check(&pair);
    }

    #[test]
    fn negentropy_asks(pair in pair(3000), ours in limit(), theirs in limit()) {
        let storage = storage(&pair.ours);
        let mut client = Negentropy::borrowed(&storage, ours as u64).unwrap();
        let mut set = Model::new(pair.theirs.iter().copied(), pair.odd);
        let (mut have, mut need) = (Vec::new(), Vec::new());
        let mut message = Some(client.initiate().unwrap());
        let mut rounds = 0;
        while let Some(question) = message {
            rounds += 1;
            prop_assert!(rounds <= 200);
            set.calls = Calls::default();
            let answer = respond_within(theirs, &mut set, &question).unwrap();
            prop_assert!(answer.len() <= theirs);
            message = client.reconcile_with_ids(&answer, &mut have, &mut need).unwrap();
        }
        let ids = |ids: Vec<Id>| ids.into_iter().map(Id::to_bytes).collect::<BTreeSet<_>>();
        prop_assert!(ids(have) == pair.have().iter().map(|it| it.id).collect());
        prop_assert!(ids(need) == pair.need().into_iter().collect());
    }

    #[test]
    fn fingerprints_are_negentropys(pair in pair(200)) {
        let storage = storage(&pair.ours);
        let set = Model::new(pair.ours, 0);
        for (from, to) in [(0, set.elements.len()), (set.elements.len() / 3, set.elements.len() / 2)] {
            let theirs = storage.fingerprint(from, to).unwrap().to_bytes();
            prop_assert_eq!(set.sum_of(from, to).fingerprint(), theirs);
        }
    }

    #[test]
    fn a_sum_forgets_what_is_removed(ids in prop::collection::vec(any::<[u8; 32]>(), 1..20), high in any::<bool>()) {
        let mut sum = Sum::default();
        if high {
            sum.add(&[0xff; 32]);
        }
        let mut other = Sum::default();
        for id in &ids {
            sum.add(id);
            other.add(id);
        }
        for id in ids.iter().skip(1) {
            sum.remove(id);
        }
        let mut first = Sum::default();
        first.add(&ids[0]);
        if high {
            sum.remove(&[0xff; 32]);
        }
        prop_assert_eq!(sum, first);
        other.subtract(&first);
        other.merge(&first);
        other.subtract(&other.clone());
        prop_assert_eq!(other, Sum::default());
    }

    #[test]
    fn a_bound_lies_between(one: [u8; 32], other: [u8; 32], same in 0..32_usize, stamps in [0..3_u64, 0..3]) {
        let mut other = other;
        other[..same].copy_from_slice(&one[..same]);
        let (one, other) = (Element { stamp: stamps[0], id: one }, Element { stamp: stamps[1], id: other });
        let (before, at) = (one.min(other), one.max(other));
        prop_assume!(before < at);
        let bound = Element::between(&before, &at);
        prop_assert!(before < bound && bound <= at);
        let prefix = bound.id.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
        // One byte less would not keep them apart.
        if let Some(last) = prefix.checked_sub(1) {
            let mut shorter = at;
            shorter.id[last..].fill(0);
            prop_assert!(shorter <= before);
        }
        prop_assert!(before < before.successor() && before.successor() <= at);
    }

    #[test]
    fn any_bytes_are_a_message_or_malformed(bytes in any::<Vec<u8>>(), change in any::<prop::sample::Index>()) {
        throw(&bytes);
        throw(&[&[0x61][..], &bytes].concat());
        let mut message = Initiator::new().begin(&mut small()).unwrap();
        let at = change.index(message.len());
        for byte in bytes {
            message[at] = byte;
            throw(&message);
        }
    }
}

fn small() -> Model {
    Model::new((0..100).map(|number| Element { stamp: number / 3, id: id(number) }), 0)
}

fn throw(message: &[u8]) {
    let ours = respond(&mut small(), message);
    let mut initiator = Initiator::new();
    initiator.begin(&mut small()).unwrap();
    let step = initiator.step(&mut small(), message);
    if let Err(Fault::Malformed(why)) = ours {
        assert!(matches!(step, Err(Fault::Malformed(it)) if it == why || it == "ids that nobody asked for"));
    }
}

/// As journals have them: milliseconds, 16 bits of a counter, about a minute between two entries.
fn journal(count: u64) -> impl Iterator<Item = Element> {
    (0..count).map(|number| Element {
        stamp: (1_750_000_000_000 + number * 60_000 + mix(number) % 50_000) << 16,
        id: id(number),
    })
}

/// `count` shared elements, of which `differences` are missing on one side or the other, all over the set.
fn scattered(count: u64, differences: u64) -> Pair {
    let shared: Vec<Element> = journal(count).collect();
    let missing: Vec<usize> =
        (0..differences).map(|it| ((it * 2 + 1) * count / (differences * 2).max(1)) as usize).collect();
    let without = |parity: usize| {
        let gone: HashSet<usize> = missing.iter().skip(parity).step_by(2).copied().collect();
        shared.iter().enumerate().filter(|it| !gone.contains(&it.0)).map(|it| *it.1).collect()
    };
    Pair { ours: without(0), theirs: without(1), odd: 0 }
}

#[test]
fn ten_differences_in_a_million() {
    let outcome = run_both(&scattered(1_000_000, 10), limits::RECONCILE_MESSAGE, limits::RECONCILE_MESSAGE);
    assert!(outcome.bytes <= 15 << 10, "{} bytes", outcome.bytes);
    assert!(outcome.rounds <= 3, "{} rounds", outcome.rounds);
}

#[test]
fn messages_grow_with_what_differs() {
    for (differences, bytes) in [(0, 400), (1, 2_100), (10, 17_000), (100, 140_000), (1000, 1_000_000)] {
        let outcome = run_both(&scattered(100_000, differences), limits::RECONCILE_MESSAGE, limits::RECONCILE_MESSAGE);
        assert!(outcome.bytes <= bytes, "{differences} differences: {} bytes", outcome.bytes);
        assert!(outcome.rounds <= 2, "{differences} differences: {} rounds", outcome.rounds);
    }
}

#[test]
fn sets_that_share_nothing() {
    for (ours, theirs) in [(0, 0), (0, 1), (1, 0), (0, 60_000), (60_000, 0), (40_000, 40_000)] {
        let mut pair = Pair { ours: Vec::new(), theirs: Vec::new(), odd: 0 };
        for (index, element) in journal(ours + theirs).enumerate() {
            let is_ours = ours > 0 && (theirs == 0 || index % 2 == 0);
            let side = if is_ours { &mut pair.ours } else { &mut pair.theirs };
            side.push(element);
        }
        let outcome = run_both(&pair, limits::RECONCILE_MESSAGE, limits::RECONCILE_MESSAGE);
        assert!(outcome.rounds <= 3, "{ours} and {theirs}: {} rounds", outcome.rounds);
    }
}

#[test]
fn bytes_on_the_wire() {
    let element = |stamp, byte| Element { stamp, id: [byte; 32] };
    let mut none = Model::new([], 0);
    let begin = Initiator::new().begin(&mut none).unwrap();
    assert_eq!(begin, [0x61, 0, 0, 2, 0], "an empty list up to infinity");
    assert_eq!(respond(&mut Model::new([], 0), &begin).unwrap(), [0x61], "nothing to say");

    let mut one = Model::new([element(0x81, 7)], 0);
    let list = [&[0x61, 0, 0, 2, 1][..], &[7; 32]].concat();
    assert_eq!(respond(&mut one, &begin).unwrap(), list);
    one.calls = Calls::default();
    assert_eq!(respond(&mut one, &list).unwrap(), [0x61], "the same list");

    let mut writer = Writer::new(1000);
    let cut = Element::between(&element(0x81, 7), &element(0x81, 8));
    writer.fingerprint(&element(0x80, 0), &cut, &[9; 16]);
    writer.ids(&cut, &Element::END, &[element(0x90, 1)]);
    let skip = [0x81, 1, 0, 0];
    let fingerprint = [&[2, 1, 8, 1][..], &[9; 16]].concat();
    let list = [&[0, 0, 2, 1][..], &[1; 32]].concat();
    assert_eq!(writer.finish(), [&[0x61][..], &skip, &fingerprint, &list].concat());
}

#[test]
fn messages_that_are_none() {
    let full = vec![0x61; limits::RECONCILE_MESSAGE + 1];
    let prefix = [&[0x61, 1, 33][..], &[1; 33], &[0]].concat();
    let one_id_short = [&[0x61, 0, 0, 2, 2][..], &[1; 63]].concat();
    for (message, why) in [
        (&[][..], "another version"),
        (&[0x60], "another version"),
        (&[0x62, 0, 0, 0], "another version"),
        (&full, "a message that is too long"),
        (&[0x61, 0], TOO_SHORT),
        (&[0x61, 0, 0], TOO_SHORT),
        (&[0x61, 0x81], TOO_SHORT),
        (&[0x61, 1, 2, 1], TOO_SHORT),
        (&[0x61, 0, 0, 1, 1, 2, 3], TOO_SHORT),
        (&[0x61, 0, 0, 0, 5], "a stamp beyond infinity"),
        (&one_id_short, TOO_SHORT),
        (&[0x61, 0, 0, 2, 0xc0, 0x80, 0x80, 0x80, 0], TOO_SHORT),
        (&[0x61, 0, 0, 2, 0x84, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0], TOO_SHORT),
        (&[0x61, 0, 0, 2, 0x81, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f], TOO_SHORT),
        (&[0x61, 0, 0, 2, 0x82, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f], "a number that is too large"),
        (&[0x61, 0, 0, 0x80, 0], "a number with leading zeros"),
        (&[0x61, 0, 0, 3], "an unknown mode"),
        (&prefix, "a prefix longer than an id"),
        (&[0x61, 0, 1, 1, 0], "a prefix at infinity"),
        (&[0x61, 1, 0, 0], "bounds that do not ascend"),
        (&[0x61, 5, 0, 0, 1, 0, 0], "bounds that do not ascend"),
        (&[0x61, 5, 1, 7, 0, 1, 1, 6, 0], "bounds that do not ascend"),
        (&[0x61, 0, 0, 0, 1, 0, 0], "a stamp beyond infinity"),
        (&[0x61, 0x81, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f, 0, 0, 2, 0, 0], "a stamp beyond infinity"),
    ] {
        assert_eq!(respond(&mut small(), message), Err(Fault::Malformed(why)), "{message:x?}");
        let mut initiator = Initiator::new();
        initiator.begin(&mut small()).unwrap();
        assert_eq!(initiator.step(&mut small(), message), Err(Fault::Malformed(why)), "{message:x?}");
    }
}

const TOO_SHORT: &str = "a message that ends too early";

#[test]
fn ids_count_only_where_they_were_asked_for() {
    let nobody = Err(Fault::Malformed("ids that nobody asked for"));
    let list = [&[0x61, 0, 0, 2, 1][..], &[1; 32]].concat();
    // Sixteen parts were asked about, no list can be about all of them at once.
    let mut initiator = Initiator::new();
    initiator.begin(&mut small()).unwrap();
    assert_eq!(initiator.step(&mut small(), &list), nobody);
    let mut initiator = Initiator::new();
    initiator.begin(&mut small()).unwrap();
    assert_eq!(initiator.step(&mut small(), &[0x61, 0, 0, 2, 0]), nobody);
    // Nothing was asked about.
    assert_eq!(Initiator::new().step(&mut small(), &list), nobody);
    // What is settled is settled; and an id that is there twice is needed once.
    let mut initiator = Initiator::new();
    initiator.begin(&mut Model::new([], 0)).unwrap();
    let twice = [&[0x61, 0, 0, 2, 2][..], &[1; 64]].concat();
    let step = initiator.step(&mut Model::new([], 0), &twice).unwrap();
    let need: Vec<_> = step.need.into_iter().flat_map(|missing| missing.ids).collect();
    assert_eq!((step.reply, step.have, need), (None, vec![], vec![[1; 32]]));
    assert_eq!(initiator.step(&mut Model::new([], 0), &list), nobody);
}

#[test]
fn what_does_not_fit_is_not_computed() {
    let elements: Vec<Element> = journal(200_000).collect();
    let mut set = Model::new(elements.iter().copied(), 0);
    let mut writer = Writer::new(usize::MAX);
    let mut lower = Element::FIRST;
    for upper in elements.iter().step_by(100).skip(1) {
        writer.fingerprint(&lower, upper, &[0xaa; 16]);
        lower = *upper;
    }
    let answer = respond_within(16 << 10, &mut set, &writer.finish()).unwrap();
    assert!(answer.len() <= 16 << 10);
    assert!(set.calls.count("split") < 60, "{} splits", set.calls.count("split"));
    assert!(set.calls.count("sum") < 60, "{} sums", set.calls.count("sum"));
    assert_eq!(set.calls.count("elements"), 0);
}

#[test]
fn a_flood_of_ranges_is_postponed_within_bounds() {
    let mut question = Question::new(0);
    for stamp in 0..2 * limits::RECONCILE_POSTPONED as u64 {
        let bound = |stamp| Element { stamp, id: [0; 32] };
        let open = Open { lower: bound(2 * stamp), upper: bound(2 * stamp + 1), differs: true };
        question.ask(&mut small(), open, None).unwrap();
    }
    assert_eq!(question.postponed.len(), limits::RECONCILE_POSTPONED);
    assert_eq!(question.postponed.last().unwrap().upper.stamp, 4 * limits::RECONCILE_POSTPONED as u64 - 1);
}

#[test]
fn whoever_never_agrees_is_left() {
    let answer = [&[0x61, 0, 0, 1][..], &[0xaa; 16]].concat();
    let mut initiator = Initiator::new();
    initiator.begin(&mut small()).unwrap();
    for _ in 1..limits::RECONCILE_ROUNDS {
        assert!(initiator.step(&mut small(), &answer).unwrap().reply.is_some());
    }
    assert_eq!(initiator.rounds(), limits::RECONCILE_ROUNDS);
    assert_eq!(initiator.step(&mut small(), &answer), Err(Fault::TooManyRounds));
}

#[test]
fn a_store_that_fails_is_no_fault_of_the_other_side() {
    struct Broken;
    impl Set for Broken {
        type Error = u8;
        fn sum(&mut self, _: &Element, _: &Element) -> Result<Sum, u8> {
            Err(7)
        }
        fn elements(&mut self, _: &Element, _: &Element, _: usize) -> Result<Vec<Element>, u8> {
            Err(8)
        }
        fn split(&mut self, _: &Element, _: &Element, _: usize) -> Result<Vec<(Element, Sum)>, u8> {
            Err(9)
        }
    }
    assert_eq!(Initiator::new().begin(&mut Broken), Err(Fault::Store(7)));
    assert_eq!(respond(&mut Broken, &[0x61, 0, 0, 2, 0]), Err(Fault::Store(8)));
    assert_eq!(respond(&mut Broken, &[0x61, 0, 0, 0]), Ok(vec![0x61]), "a skip asks for nothing");
}
