//! What two sets differ in, by fingerprints of ranges (negentropy's wire, version 1).
//!
//! ```text
//! initiator                             responder: keeps nothing between two messages
//! begin  fingerprints of 16 parts  ──▶  respond: the same fingerprint: skipped
//! step ◀──  another one: fingerprints of 16 parts, or the ids of a small range
//!       another fingerprint: parts of that one …  ──▶  …
//!       ids: what is here and missing there, what is there and missing here
//! until nothing is open: step has no reply
//!
//! element   elements, bounds, sums and their fingerprints
//! wire      messages as bytes
//! ```
//!
//! A fingerprint is taken of a [`Sum`], which is kept while the set changes: nothing is hashed because somebody asks.
//!
//! The initiator does not list ids: a fingerprint of a few elements brings the responder's list of them just as soon,
//! and costs less. It also knows what it has asked about and says nothing twice: what does not fit into a message waits
//! for the next, and what an answer left out is asked again. The responder has no memory, so it ends a message that is
//! full with one fingerprint of all that it did not come to.
//!
//! What holds, whatever the other side says: each range that it names, and each that was asked of it, costs at most one
//! sum and one split or list, in ascending order; no message is longer than [`limits::RECONCILE_MESSAGE`], and nothing is
//! taken apart or listed that does not fit into it; ids count only within what was asked, so that all lists of a
//! reconciliation together do not make the initiator read its set more than once.

use crate::limits;

mod element;
mod wire;

pub use element::{Element, Fingerprint, Sum};

use wire::{Claim, LONGEST_FINGERPRINT, LONGEST_LIST_HEAD, LONGEST_SKIP, Range, Reader, Writer};

/// A range is taken apart into so many parts at most: more make larger messages, fewer make more of them.
const PARTS: u64 = 16;
/// The initiator makes its parts no smaller than so many elements: the fingerprint of a part and, if it differs, the
/// responder's list of it cost least together.
const SMALL: u64 = 4;
/// The responder lists a range with at most so many elements instead of taking it apart: one round trip less.
const LISTED: usize = 32;
/// Elements that the initiator reads at once.
const PAGE: usize = 1024;

/// The most bytes that one range is answered with, except for a list that was asked for.
const ANSWER: usize = {
    let parts = PARTS as usize * LONGEST_FINGERPRINT;
    let list = LONGEST_LIST_HEAD + 32 * LISTED;
    LONGEST_SKIP + if parts > list { parts } else { list }
};

/// The set on one side. Methods take `&mut self` because a store caches while it answers; one message asks about
/// ascending ranges that do not overlap.
pub trait Set {
    /// Why the set cannot be read.
    type Error;

    /// Count and sum of the elements in `[lower, upper)`.
    fn sum(&mut self, lower: &Element, upper: &Element) -> Result<Sum, Self::Error>;

    /// The elements in `[lower, upper)`, ascending: the first `limit` of them.
    fn elements(&mut self, lower: &Element, upper: &Element, limit: usize) -> Result<Vec<Element>, Self::Error>;

    /// `[lower, upper)` in at most `parts` parts of about the same size: the upper bound of each part, ascending, and
    /// the part's sum. The last bound is `upper`. A store cuts where it is cheap for it, but it does cut: two elements
    /// or more are never one part.
    fn split(&mut self, lower: &Element, upper: &Element, parts: usize) -> Result<Vec<(Element, Sum)>, Self::Error>;
}

/// Why a reconciliation cannot go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Fault<E> {
    /// This side's set cannot be read.
    #[error("the set cannot be read")]
    Store(E),
    /// The other side's message is none.
    #[error("malformed: {0}")]
    Malformed(&'static str),
    /// The other side never comes to an end.
    #[error("too many rounds")]
    TooManyRounds,
}

/// What the initiator learned from one answer.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Step {
    /// What to send next; nothing when all is known.
    pub reply: Option<Vec<u8>>,
    /// Here, missing there.
    pub have: Vec<Element>,
    /// There, missing here.
    pub need: Vec<Missing>,
}

/// Elements that are missing, of which only the ids are known, and the range that they lie in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Missing {
    /// The range begins here.
    pub lower: Element,
    /// And ends before this.
    pub upper: Element,
    /// The ids of the elements.
    pub ids: Vec<[u8; 32]>,
}

/// The side that asks, and learns what differs. After a [`Fault`] it is of no more use.
#[derive(Debug)]
pub struct Initiator {
    limit: usize,
    rounds: u32,
    /// What the last message asked about, ascending.
    asked: Vec<(Element, Element)>,
    /// What it had no room for, all above that.
    postponed: Vec<Open>,
}

/// A range that is not settled.
#[derive(Debug, Clone, Copy)]
struct Open {
    lower: Element,
    upper: Element,
    /// Whether the other side is known to have something else there, or just did not say.
    differs: bool,
}

impl Default for Initiator {
    fn default() -> Self {
        Self::new()
    }
}

impl Initiator {
    /// Before the first message.
    pub fn new() -> Self {
        Self::with_limit(limits::RECONCILE_MESSAGE)
    }

    fn with_limit(limit: usize) -> Self {
        Self { limit, rounds: 0, asked: Vec::new(), postponed: Vec::new() }
    }

    /// Messages that were to be sent so far.
    pub fn rounds(&self) -> u32 {
        self.rounds
    }

    /// The first message.
    pub fn begin<S: Set>(&mut self, set: &mut S) -> Result<Vec<u8>, Fault<S::Error>> {
        self.rounds = 1;
        let mut question = Question::new(self.limit);
        question.ask(set, Open { lower: Element::FIRST, upper: Element::END, differs: true }, None)?;
        (self.asked, self.postponed) = (question.asked, question.postponed);
        Ok(question.writer.finish())
    }

    /// Takes the answer to the last message. All steps together tell each difference once.
    pub fn step<S: Set>(&mut self, set: &mut S, message: &[u8]) -> Result<Step, Fault<S::Error>> {
        let mut reader = Reader::new(message).map_err(Fault::Malformed)?;
        let asked = std::mem::take(&mut self.asked);
        let mut asked = asked.as_slice();
        let mut question = Question::new(self.limit);
        let mut step = Step::default();
        while let Some(range) = reader.next().map_err(Fault::Malformed)? {
            // Ranges ascend: what lies below this one is settled, be it because the answer skipped it.
            asked = asked.get(asked.partition_point(|it| it.1 <= range.lower)..).unwrap_or_default();
            let touched = asked.get(..asked.partition_point(|it| it.0 < range.upper)).unwrap_or_default();
            let within = matches!(touched, [only] if only.0 <= range.lower && range.upper <= only.1);
            match range.claim {
                Claim::Fingerprint(theirs) if !touched.is_empty() => {
                    let ours = set.sum(&range.lower, &range.upper).map_err(Fault::Store)?;
                    if ours.fingerprint() == theirs {
                        continue;
                    }
                    if within {
                        let open = Open { lower: range.lower, upper: range.upper, differs: true };
                        question.ask(set, open, Some(ours))?;
                        continue;
                    }
                    // The other side's message was full. What of it was asked is asked again.
                    for &(lower, upper) in touched {
                        let (lower, upper) = (lower.max(range.lower), upper.min(range.upper));
                        question.ask(set, Open { lower, upper, differs: false }, None)?;
                    }
                }
                Claim::Ids(theirs) if within => compare(set, &range, theirs, &mut step)?,
                Claim::Ids(theirs) if !(theirs.is_empty() && touched.is_empty()) => {
                    return Err(Fault::Malformed("ids that nobody asked for"));
                }
                Claim::Skip | Claim::Fingerprint(_) | Claim::Ids(_) => {}
            }
        }
        for open in std::mem::take(&mut self.postponed) {
            question.ask(set, open, None)?;
        }
        (self.asked, self.postponed) = (question.asked, question.postponed);
        step.reply = question.writer.something();
        if step.reply.is_some() {
            self.rounds += 1;
            if self.rounds > limits::RECONCILE_ROUNDS {
                return Err(Fault::TooManyRounds);
            }
        }
        Ok(step)
    }
}

/// Settles a range: the other side has the ids `theirs` in it, and nothing else.
fn compare<S: Set>(
    set: &mut S,
    range: &Range<'_>,
    theirs: &[[u8; 32]],
    step: &mut Step,
) -> Result<(), Fault<S::Error>> {
    let mut theirs: Vec<([u8; 32], bool)> = theirs.iter().map(|id| (*id, false)).collect();
    theirs.sort_unstable();
    theirs.dedup();
    let mut from = range.lower;
    loop {
        let page = set.elements(&from, &range.upper, PAGE).map_err(Fault::Store)?;
        for element in &page {
            let found = theirs.binary_search_by(|it| it.0.cmp(&element.id)).ok();
            match found.and_then(|index| theirs.get_mut(index)) {
                Some((_, here)) => *here = true,
                None => step.have.push(*element),
            }
        }
        match page.last() {
            Some(last) if page.len() >= PAGE => from = last.successor(),
            _ => break,
        }
    }
    let ids: Vec<_> = theirs.iter().filter(|it| !it.1).map(|it| it.0).collect();
    if !ids.is_empty() {
        step.need.push(Missing { lower: range.lower, upper: range.upper, ids });
    }
    Ok(())
}

/// A message of the initiator that is being written.
struct Question {
    writer: Writer,
    asked: Vec<(Element, Element)>,
    postponed: Vec<Open>,
}

impl Question {
    fn new(limit: usize) -> Self {
        Self { writer: Writer::new(limit), asked: Vec::new(), postponed: Vec::new() }
    }

    /// Asks about `open`, whose sum may be known already, or postpones it. Ranges come ascending.
    fn ask<S: Set>(&mut self, set: &mut S, open: Open, sum: Option<Sum>) -> Result<(), Fault<S::Error>> {
        if !self.postponed.is_empty() || self.writer.room() < ANSWER {
            self.postpone(open);
            return Ok(());
        }
        let sum = match sum {
            Some(sum) => sum,
            None => set.sum(&open.lower, &open.upper).map_err(Fault::Store)?,
        };
        let parts = sum.count.div_ceil(SMALL).min(PARTS);
        if open.differs && parts > 1 {
            let mut lower = open.lower;
            for (upper, sum) in set.split(&open.lower, &open.upper, parts as usize).map_err(Fault::Store)? {
                put(&mut self.writer, &lower, &upper, &sum);
                self.asked.push((lower, upper));
                lower = upper;
            }
        } else {
            put(&mut self.writer, &open.lower, &open.upper, &sum);
            self.asked.push((open.lower, open.upper));
        }
        Ok(())
    }

    fn postpone(&mut self, open: Open) {
        if self.postponed.len() < limits::RECONCILE_POSTPONED {
            self.postponed.push(open);
        } else if let Some(last) = self.postponed.last_mut() {
            // Whoever makes that many ranges differ, each apart from the next, may be told something twice.
            last.upper = open.upper;
        }
    }
}

/// Writes the fingerprint of a range; or, in fewer bytes, that there is nothing in it.
fn put(writer: &mut Writer, lower: &Element, upper: &Element, sum: &Sum) {
    if sum.count == 0 {
        writer.ids(lower, upper, &[]);
    } else {
        writer.fingerprint(lower, upper, &sum.fingerprint());
    }
}

/// The answer to a message of the initiator.
pub fn respond<S: Set>(set: &mut S, message: &[u8]) -> Result<Vec<u8>, Fault<S::Error>> {
    respond_within(limits::RECONCILE_MESSAGE, set, message)
}

fn respond_within<S: Set>(limit: usize, set: &mut S, message: &[u8]) -> Result<Vec<u8>, Fault<S::Error>> {
    let mut reader = Reader::new(message).map_err(Fault::Malformed)?;
    let mut writer = Writer::new(limit);
    // Where there was no more room, and where the last question ends.
    let mut rest: Option<(Element, Element)> = None;
    while let Some(range) = reader.next().map_err(Fault::Malformed)? {
        if range.lower == range.upper || range.claim == Claim::Skip {
            continue;
        }
        if let Some((_, end)) = &mut rest {
            *end = range.upper;
        } else if writer.room() < ANSWER {
            rest = Some((range.lower, range.upper));
        } else if let Some(cut) = answer(set, &range, &mut writer)? {
            rest = Some((cut, range.upper));
        }
    }
    if let Some((lower, upper)) = rest {
        let sum = set.sum(&lower, &upper).map_err(Fault::Store)?;
        writer.fingerprint(&lower, &upper, &sum.fingerprint());
    }
    Ok(writer.finish())
}

/// Answers one range; if the answer does not fit, up to the bound that is returned.
fn answer<S: Set>(set: &mut S, range: &Range<'_>, writer: &mut Writer) -> Result<Option<Element>, Fault<S::Error>> {
    let (lower, upper) = (&range.lower, &range.upper);
    if let Claim::Fingerprint(theirs) = range.claim {
        let ours = set.sum(lower, upper).map_err(Fault::Store)?;
        if ours.fingerprint() == theirs {
            return Ok(None);
        }
        if ours.count > LISTED as u64 {
            let parts = set.split(lower, upper, PARTS as usize).map_err(Fault::Store)?;
            let mut lower = *lower;
            for (upper, sum) in parts {
                put(writer, &lower, &upper, &sum);
                lower = upper;
            }
            return Ok(None);
        }
    }
    let fit = writer.room().saturating_sub(LONGEST_SKIP + LONGEST_LIST_HEAD) / 32;
    let mut ours = set.elements(lower, upper, fit + 1).map_err(Fault::Store)?;
    if ours.len() > fit
        && let (Some(at), Some(before)) = (ours.pop(), ours.last())
    {
        let cut = Element::between(before, &at);
        writer.ids(lower, &cut, &ours);
        return Ok(Some(cut));
    }
    let same = matches!(range.claim, Claim::Ids(theirs) if theirs.iter().eq(ours.iter().map(|it| &it.id)));
    if !same {
        writer.ids(lower, upper, &ours);
    }
    Ok(None)
}

#[cfg(test)]
mod tests;
