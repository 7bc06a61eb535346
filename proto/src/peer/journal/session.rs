//! A session of two devices: greeting, introductions, one journal after the other.
//!
//! Frames go in and come out; both ends, and a bad network between them, fit into one test. Whoever drives it runs each
//! [`Session::receive`] and [`Session::transmit`] in a transaction of the store, and sends what comes out after the
//! commit.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::exchange::{Exchange, Roles};
use super::replica::{Replica, Shelf};
use super::version::{Epoch, JournalId, Version};
use super::wire::{self, Frame, Malformed, Manifest, Message, Refused};
use crate::id::PublicKey;
use crate::limits;
use crate::peer::reconcile;

/// Refusals that are remembered of one journal.
const REFUSALS: usize = 10;

/// Why a session cannot go on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Fault<E> {
    /// The store here.
    #[error("the store failed")]
    Store(E),
    /// The other side speaks another version.
    #[error("the other device speaks version {0} of the protocol for journals")]
    Version(u32),
    /// The other side broke the protocol.
    #[error("the other device broke the protocol: {0}")]
    Protocol(&'static str),
    /// The other side cannot go on, and says why.
    #[error("the other device cannot go on: {0}")]
    Failed(String),
    /// One of the databases went back in time; it has begun another epoch, and the next session can go on.
    #[error("a database went back in time: its device begins anew")]
    RolledBack,
}

impl<E> From<Malformed> for Fault<E> {
    fn from(Malformed(what): Malformed) -> Self {
        Self::Protocol(what)
    }
}

impl<E> From<reconcile::Fault<E>> for Fault<E> {
    fn from(fault: reconcile::Fault<E>) -> Self {
        match fault {
            reconcile::Fault::Store(error) => Self::Store(error),
            reconcile::Fault::Malformed(what) => Self::Protocol(what),
            reconcile::Fault::TooManyRounds => Self::Protocol("too many rounds"),
        }
    }
}

/// Something that people want to know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Note {
    /// Two versions of an entry that did not know each other met.
    Conflict {
        /// Where.
        journal: JournalId,
        /// Current now.
        winner: Box<Version>,
        /// In the history now.
        loser: Box<Version>,
    },
    /// A version from before the horizon came back.
    Recovered {
        /// Where.
        journal: JournalId,
        /// What came back.
        version: Box<Version>,
    },
}

/// What a session did so far.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// Versions that the other side took.
    pub sent: u64,
    /// Versions that this side took.
    pub received: u64,
    /// Conflicts that this side saw.
    pub conflicts: BTreeMap<JournalId, u64>,
    /// Rows that either side did not take.
    pub refused: u64,
    /// The first of them, for each journal that was gone through.
    pub refusals: BTreeMap<JournalId, Vec<Refused>>,
    /// How far the other clock is ahead, in milliseconds.
    pub skew_ms: Option<i64>,
    /// Journals whose entries changed here since they were last asked for.
    pub changed: BTreeSet<JournalId>,
    /// Whether this device had to begin another epoch, and the session ended for that.
    pub rolled_back: bool,
    /// Whether somebody's membership may have changed since it was last asked for.
    pub introduced: bool,
    /// What people want to know, since they were last asked for.
    pub notes: Vec<Note>,
}

impl Report {
    pub(super) fn note(&mut self, note: Note) {
        if let Note::Conflict { journal, .. } = &note {
            *self.conflicts.entry(*journal).or_default() += 1;
        }
        self.notes.push(note);
    }

    pub(super) fn refuse(&mut self, journal: JournalId, refused: Vec<Refused>) {
        self.refused += refused.len() as u64;
        let known = self.refusals.entry(journal).or_default();
        let room = REFUSALS.saturating_sub(known.len());
        known.extend(refused.into_iter().take(room));
    }
}

/// One end of a session.
#[derive(Debug)]
pub struct Session {
    device: PublicKey,
    peer: PublicKey,
    leads: bool,
    stage: Stage,
    /// What goes out before everything else.
    out: VecDeque<Vec<u8>>,
    mine: Vec<Manifest>,
    theirs: Vec<Manifest>,
    their_epoch: Option<Epoch>,
    /// Pairs of manifests that are still to be gone through.
    agenda: VecDeque<(Manifest, Manifest)>,
    exchange: Option<Exchange>,
    report: Report,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Both say HELLO.
    Greeting,
    /// Both say what they know of who takes part.
    Introducing,
    /// Both list their journals once more.
    Listing,
    /// One journal after the other.
    Exchanging,
    /// DONE was sent.
    Parting,
    /// Nothing more will happen.
    Over,
}

impl Session {
    /// The end of `device`; `leads` where it dialled.
    pub fn new(device: PublicKey, peer: PublicKey, leads: bool) -> Self {
        Self {
            device,
            peer,
            leads,
            stage: Stage::Greeting,
            out: VecDeque::new(),
            mine: Vec::new(),
            theirs: Vec::new(),
            their_epoch: None,
            agenda: VecDeque::new(),
            exchange: None,
            report: Report::default(),
        }
    }

    /// Both begin at once.
    pub fn begin<S: Shelf>(&mut self, shelf: &mut S, now_ms: u64) -> Result<(), Fault<S::Error>> {
        self.mine = shelf.manifest(&self.peer).map_err(Fault::Store)?;
        let (epoch, journals) = (shelf.epoch(), self.mine.clone());
        self.say(&Message::Hello { v: wire::VERSION, epoch, now_ms, journals });
        Ok(())
    }

    /// What it did so far.
    pub fn report(&mut self) -> &mut Report {
        &mut self.report
    }

    /// Whether both sides are done.
    pub fn is_over(&self) -> bool {
        self.stage == Stage::Over && self.out.is_empty()
    }

    /// Whether the other side has answered at all.
    pub fn is_met(&self) -> bool {
        self.stage != Stage::Greeting
    }

    /// Whether [`Session::transmit`] may have something to send.
    pub fn is_ready(&self) -> bool {
        !self.out.is_empty() || self.exchange.as_ref().is_some_and(Exchange::is_ready)
    }

    /// What is left to be said to the other side after a fault.
    pub fn last_words(&mut self) -> VecDeque<Vec<u8>> {
        std::mem::take(&mut self.out)
    }

    /// The next frame to send, if there is one now.
    pub fn transmit<S: Shelf>(&mut self, shelf: &mut S, now_ms: u64) -> Result<Option<Vec<u8>>, Fault<S::Error>> {
        if let Some(frame) = self.out.pop_front() {
            return Ok(Some(frame));
        }
        let Some(exchange) = &mut self.exchange else { return Ok(None) };
        let mut replica = shelf.replica(&exchange.journal()).map_err(Fault::Store)?;
        while exchange.is_ready() {
            if let Some(frame) = exchange.transmit(&mut replica, now_ms)? {
                drop(replica);
                self.proceed(shelf, now_ms)?;
                return Ok(Some(frame));
            }
        }
        drop(replica);
        self.proceed(shelf, now_ms)?;
        Ok(self.out.pop_front())
    }

    /// Takes a frame.
    pub fn receive<S: Shelf>(&mut self, frame: &[u8], shelf: &mut S, now_ms: u64) -> Result<(), Fault<S::Error>> {
        let frame = Frame::decode(frame)?;
        if let Frame::Message(Message::Fail { reason }) = frame {
            let reason = crate::text::cut(&reason, limits::DEVICE_NAME);
            return Err(if reason == "rolled_back" { Fault::RolledBack } else { Fault::Failed(reason.to_owned()) });
        }
        match (self.stage, frame) {
            // The other side has not heard yet that this one stopped.
            (Stage::Over, _) if self.report.rolled_back => Ok(()),
            (Stage::Greeting, Frame::Message(Message::Hello { v, epoch, now_ms: theirs, journals })) => {
                if v != wire::VERSION {
                    self.say(&Message::Fail { reason: "version".to_owned() });
                    return Err(Fault::Version(v));
                }
                self.greeted(shelf, epoch, journals, theirs, now_ms)
            }
            (Stage::Introducing, Frame::Message(Message::Members(introduction))) => {
                self.report.introduced = true;
                shelf.introduce(&self.peer, &introduction, now_ms).map_err(Fault::Store)
            }
            (Stage::Introducing, Frame::Message(Message::Known)) => {
                self.mine = shelf.manifest(&self.peer).map_err(Fault::Store)?;
                self.stage = Stage::Listing;
                self.say(&Message::Manifest { journals: self.mine.clone() });
                Ok(())
            }
            (Stage::Listing, Frame::Message(Message::Manifest { journals })) => {
                self.theirs = ascending(journals)?;
                self.set_out(shelf, now_ms)
            }
            (Stage::Exchanging, frame) => self.exchange(frame, shelf, now_ms),
            (Stage::Parting, Frame::Message(Message::Done)) => {
                self.stage = Stage::Over;
                Ok(())
            }
            _ => Err(Fault::Protocol("a frame out of its order")),
        }
    }

    fn say(&mut self, message: &Message) {
        self.out.push_back(wire::message(message));
    }

    fn greeted<S: Shelf>(
        &mut self,
        shelf: &mut S,
        epoch: Epoch,
        journals: Vec<Manifest>,
        theirs_ms: u64,
        now_ms: u64,
    ) -> Result<(), Fault<S::Error>> {
        self.theirs = ascending(journals)?;
        self.their_epoch = Some(epoch);
        let signed = |ms| i64::try_from(ms).unwrap_or(i64::MAX);
        self.report.skew_ms = Some(signed(theirs_ms).saturating_sub(signed(now_ms)));
        let (own, top) = (shelf.epoch(), shelf.top().map_err(Fault::Store)?);
        let ahead = |theirs: &Manifest| theirs.cursor.is_some_and(|it| it.epoch == own && it.since > top);
        // The other one has followed changes that are not here any more; or it has a copy of this database.
        if epoch == own || self.theirs.iter().any(ahead) {
            shelf.begin_epoch().map_err(Fault::Store)?;
            self.say(&Message::Fail { reason: "rolled_back".to_owned() });
            self.stage = Stage::Over;
            self.report.rolled_back = true;
            return Ok(());
        }
        let what = |list: &[Manifest]| -> Vec<_> {
            list.iter().map(|manifest| (manifest.journal, manifest.members.clone())).collect()
        };
        if what(&self.mine) == what(&self.theirs) {
            return self.set_out(shelf, now_ms);
        }
        self.stage = Stage::Introducing;
        let digests: BTreeMap<_, _> = what(&self.theirs).into_iter().collect();
        let mut journals: BTreeSet<JournalId> = digests.keys().copied().collect();
        journals.extend(self.mine.iter().map(|manifest| manifest.journal));
        for journal in journals {
            let same = self.mine.iter().any(|it| it.journal == journal && digests.get(&journal) == Some(&it.members));
            if !same && let Some(known) = shelf.introduction(&self.peer, &journal).map_err(Fault::Store)? {
                self.introduce(known);
            }
        }
        self.say(&Message::Known);
        Ok(())
    }

    /// As many messages as it takes.
    fn introduce(&mut self, known: wire::Introduction) {
        let page = limits::FRAME_CONTROL / wire::RECORD;
        let mut pages: Vec<_> = known.records.chunks(page).map(<[_]>::to_vec).collect();
        if pages.is_empty() {
            pages.push(Vec::new());
        }
        for records in pages {
            self.say(&Message::Members(wire::Introduction { resource: known.resource.clone(), records }));
        }
    }

    /// Both know which journals there are: those that both have listed.
    fn set_out<S: Shelf>(&mut self, shelf: &mut S, now_ms: u64) -> Result<(), Fault<S::Error>> {
        let mine: BTreeMap<_, _> = std::mem::take(&mut self.mine).into_iter().map(|it| (it.journal, it)).collect();
        let pairs = std::mem::take(&mut self.theirs).into_iter();
        self.agenda = pairs.filter_map(|theirs| Some((mine.get(&theirs.journal)?.clone(), theirs))).collect();
        self.stage = Stage::Exchanging;
        self.proceed(shelf, now_ms)
    }

    fn exchange<S: Shelf>(&mut self, frame: Frame, shelf: &mut S, now_ms: u64) -> Result<(), Fault<S::Error>> {
        let exchange = self.exchange.as_mut().ok_or(Fault::Protocol("a frame of no journal"))?;
        let mut replica = shelf.replica(&exchange.journal()).map_err(Fault::Store)?;
        let answer = exchange.receive(frame, &mut replica, now_ms, &mut self.report)?;
        drop(replica);
        if let Some(answer) = answer {
            self.say(&answer);
        }
        self.proceed(shelf, now_ms)
    }

    /// Goes on with the next journal, if the last one is over; and parts, if there is none.
    fn proceed<S: Shelf>(&mut self, shelf: &mut S, now_ms: u64) -> Result<(), Fault<S::Error>> {
        if self.stage != Stage::Exchanging || self.exchange.as_ref().is_some_and(|exchange| !exchange.is_over()) {
            return Ok(());
        }
        self.exchange = None;
        let epoch = self.their_epoch.ok_or(Fault::Protocol("no HELLO"))?;
        while let Some((mine, theirs)) = self.agenda.pop_front() {
            self.report.refusals.entry(mine.journal).or_default();
            let same = |it: &Manifest| (it.fingerprint, it.count, it.horizon);
            if same(&mine) != same(&theirs) {
                let roles = Roles { device: self.device, peer: self.peer, epoch, leads: self.leads };
                self.exchange = Some(Exchange::new(roles, shelf.epoch(), mine, theirs));
                return Ok(());
            }
            let mut replica = shelf.replica(&mine.journal).map_err(Fault::Store)?;
            let follow = (|| {
                if mine.cursor != Some(wire::Cursor { epoch, since: theirs.top }) {
                    replica.set_cursor(&self.peer, &epoch, theirs.top)?;
                }
                replica.set_acknowledged(&self.peer, mine.top)?;
                replica.synced(&self.peer, now_ms)
            })();
            follow.map_err(Fault::Store)?;
        }
        self.stage = Stage::Parting;
        self.say(&Message::Done);
        Ok(())
    }
}

/// Manifests come in order, each journal once.
fn ascending<E>(journals: Vec<Manifest>) -> Result<Vec<Manifest>, Fault<E>> {
    let ascending = journals.windows(2).all(|pair| matches!(pair, [a, b] if a.journal < b.journal));
    if ascending { Ok(journals) } else { Err(Fault::Protocol("journals that are not in order")) }
}
