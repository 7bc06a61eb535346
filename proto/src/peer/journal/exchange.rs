//! One journal of a session.
//!
//! Both sides first send what changed since the other's cursor, then compare fingerprints. Where these differ, be it
//! that there was no cursor or that it led astray, ranges are reconciled, led by the one who dialled. So a cursor saves
//! work, and nothing rests on it.
//!
//! ```text
//! outgoing  what is sent, frame by frame
//! incoming  what is taken: rows, bodies, questions about ranges
//! ```

mod incoming;
mod outgoing;

use std::collections::VecDeque;

use super::replica::Replica;
use super::session::{Fault, Report};
use super::version::{Epoch, Version};
use super::wire::{self, Frame, Manifest, Message};
use crate::hlc::Stamp;
use crate::id::PublicKey;
use crate::limits;
use crate::peer::reconcile::{Element, Fingerprint, Initiator};

/// Who has so few entries sends them all rather than have them looked for.
const FEW: u64 = 64;

/// Who does what in a session.
#[derive(Debug, Clone, Copy)]
pub struct Roles {
    /// This device.
    pub device: PublicKey,
    /// The other one.
    pub peer: PublicKey,
    /// The life of the other one's database.
    pub epoch: Epoch,
    /// Whether this side dialled.
    pub leads: bool,
}

/// One journal that is being brought together.
#[derive(Debug)]
pub struct Exchange {
    roles: Roles,
    mine: Manifest,
    theirs: Manifest,
    work: VecDeque<Work>,
    /// ENTRIES and BODY frames that were not acknowledged yet.
    under_way: usize,
    /// The row whose body arrives.
    arriving: Option<Arriving>,
    stage: Stage,
    /// END was sent, and END was received, in this stage.
    ends: (bool, bool),
    checks: (Option<Check>, Option<Check>),
    initiator: Option<Initiator>,
    /// Whether the other side's rows come in the order of its changes.
    in_order: bool,
    /// Entries that were written anew because of the horizon.
    anew: u64,
    /// The same of the other side, when it has said so; and whether this side has.
    anew_there: Option<u64>,
    told: bool,
    refused_there: bool,
    over: bool,
}

/// What is to be sent, in order.
#[derive(Debug)]
enum Work {
    Message(Message),
    Frame(Vec<u8>),
    Changes { after: u64 },
    Rows(VecDeque<Element>),
    Body { element: Element, offset: u64, size: u64 },
    Check,
}

#[derive(Debug)]
struct Arriving {
    version: Version,
    /// What comes of the body is dropped.
    unwanted: bool,
    /// Where the next piece begins; the first one may begin where an earlier session broke off.
    have: Option<u64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Streaming,
    Reconciling,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Check {
    fingerprint: Fingerprint,
    count: u64,
    top: u64,
    seen: Vec<(Epoch, Stamp)>,
}

impl Exchange {
    /// Begins with a journal whose manifests differ. `epoch` is this device's own.
    pub fn new(roles: Roles, epoch: Epoch, mine: Manifest, theirs: Manifest) -> Self {
        let first = match begin_at(&mine, &theirs, epoch) {
            Some(after) => Work::Changes { after },
            None => Work::Message(Message::End),
        };
        let in_order = begin_at(&theirs, &mine, roles.epoch).is_some();
        Self {
            roles,
            mine,
            theirs,
            work: VecDeque::from([first]),
            under_way: 0,
            arriving: None,
            stage: Stage::Streaming,
            ends: (false, false),
            checks: (None, None),
            initiator: None,
            in_order,
            anew: 0,
            anew_there: None,
            told: false,
            refused_there: false,
            over: false,
        }
    }

    /// Which journal it is.
    pub fn journal(&self) -> super::version::JournalId {
        self.mine.journal
    }

    /// Whether nothing more is to be done.
    pub fn is_over(&self) -> bool {
        self.over
    }

    /// Takes a frame. What is to be answered at once goes to `answers`.
    pub fn receive<R: Replica>(
        &mut self,
        frame: Frame,
        replica: &mut R,
        now_ms: u64,
        report: &mut Report,
    ) -> Result<Option<Message>, Fault<R::Error>> {
        let answer = match frame {
            Frame::Entries(rows) => Some(self.take_rows(replica, rows, now_ms, report)?),
            Frame::Body { offset, piece } => Some(self.take_piece(replica, offset, &piece, now_ms, report)?),
            Frame::Ranges(message) => {
                self.take_ranges(replica, &message)?;
                None
            }
            Frame::Want(wanted) => {
                self.take_wanted(replica, &wanted)?;
                None
            }
            Frame::Message(Message::Ack { taken, refused }) => {
                self.under_way = self.under_way.checked_sub(1).ok_or(Fault::Protocol("an ACK for nothing"))?;
                self.refused_there |= !refused.is_empty();
                report.sent += taken;
                report.refuse(self.mine.journal, refused);
                None
            }
            Frame::Message(Message::End) => {
                if self.ends.1 || self.arriving.is_some() {
                    return Err(Fault::Protocol("an END that is none"));
                }
                self.ends.1 = true;
                self.after_end();
                None
            }
            Frame::Message(Message::Settled { anew }) => {
                if self.stage != Stage::Reconciling || !self.ends.1 {
                    return Err(Fault::Protocol("not settled at all"));
                }
                self.anew_there = Some(anew);
                None
            }
            Frame::Message(Message::Check { fingerprint, count, top, seen }) => {
                let early = !self.ends.1 || self.checks.1.is_some();
                if early || seen.len() > limits::SYNC_SEEN {
                    return Err(Fault::Protocol("a CHECK that is none"));
                }
                self.checks.1 = Some(Check { fingerprint, count, top, seen });
                self.compare(replica)?;
                None
            }
            Frame::Message(_) => return Err(Fault::Protocol("a message out of its order")),
        };
        self.settle(replica, now_ms)?;
        Ok(answer)
    }

    fn after_end(&mut self) {
        match (self.stage, self.ends) {
            (Stage::Streaming, (true, true)) if self.checks.0.is_none() => self.work.push_back(Work::Check),
            // The one who was led has nothing more to say when the leader has not.
            (Stage::Reconciling, (false, true)) if !self.roles.leads => {
                self.work.push_back(Work::Message(Message::End));
            }
            _ => {}
        }
    }

    fn compare<R: Replica>(&mut self, replica: &mut R) -> Result<(), Fault<R::Error>> {
        let (Some(mine), Some(theirs)) = &self.checks else { return Ok(()) };
        if (mine.fingerprint, mine.count) == (theirs.fingerprint, theirs.count) {
            self.over = true;
            return Ok(());
        }
        self.stage = Stage::Reconciling;
        self.ends = (false, false);
        if self.roles.leads {
            let mut initiator = Initiator::new();
            let message = initiator.begin(replica)?;
            self.initiator = Some(initiator);
            self.work.push_back(Work::Frame(wire::ranges(&message)));
        }
        Ok(())
    }

    /// Whether this side is to forget the deletions that the other one has forgotten.
    fn adopts(&self, now_ms: u64) -> bool {
        self.theirs.horizon > self.mine.horizon && self.theirs.horizon.is_plausible(now_ms)
    }

    /// Ends the exchange when nothing is open, and writes down how far the two are.
    fn settle<R: Replica>(&mut self, replica: &mut R, now_ms: u64) -> Result<(), Fault<R::Error>> {
        if self.stage == Stage::Reconciling && self.ends == (true, true) && self.under_way == 0 && !self.told {
            self.told = true;
            self.work.push_back(Work::Message(Message::Settled { anew: self.anew }));
        }
        let reconciled = self.told && self.work.is_empty() && self.anew_there.is_some();
        if !(self.over || reconciled) {
            return Ok(());
        }
        let (Some(mine), Some(theirs)) = (self.checks.0.take(), self.checks.1.take()) else { return Ok(()) };
        let peer = self.roles.peer;
        let horizon = self.theirs.horizon;
        let adopts = self.adopts(now_ms) && self.anew_there.is_none_or(|anew| anew == 0);
        let result = (|| {
            for (epoch, stamp) in theirs.seen.iter().filter(|(_, stamp)| stamp.is_plausible(now_ms)) {
                replica.saw(epoch, *stamp)?;
            }
            // Whatever those deletions ended is gone on both sides; except for what a third device brought meanwhile,
            // which the other one must see first.
            if adopts && horizon > replica.horizon()? && !brought(replica, mine.top, &self.roles.epoch, horizon)? {
                replica.raise_horizon(horizon)?;
            }
            replica.set_cursor(&peer, &self.roles.epoch, theirs.top)?;
            if !self.refused_there {
                replica.set_acknowledged(&peer, mine.top)?;
            }
            replica.synced(&peer, now_ms)
        })();
        self.over = true;
        result.map_err(Fault::Store)
    }
}

/// Whether something from before `horizon` came after `top`, from others than `peer`.
fn brought<R: Replica>(replica: &mut R, top: u64, peer: &Epoch, horizon: Stamp) -> Result<bool, R::Error> {
    let rows = replica.changes(top, peer, limits::SYNC_ROWS, limits::FRAME_CONTROL)?;
    let last = rows.last().map_or(top, |row| row.seq);
    let more = !rows.is_empty() && !replica.changes(last, peer, 1, 0)?.is_empty();
    Ok(more || rows.iter().any(|row| row.version.stamp <= horizon))
}

/// Where in `from`'s changes to begin for `to`; `None` where ranges must be reconciled instead.
fn begin_at(from: &Manifest, to: &Manifest, epoch: Epoch) -> Option<u64> {
    match to.cursor {
        Some(cursor) if cursor.epoch == epoch && cursor.since <= from.top => Some(cursor.since),
        _ if to.count <= from.count / 2 || from.count <= FEW => Some(0),
        _ => None,
    }
}
