//! One journal of a session.
//!
//! Both sides first send what changed since the other's cursor, then compare fingerprints. Where these differ, be it
//! that there was no cursor or that it led astray, ranges are reconciled, led by the one who dialled. So a cursor saves
//! work, and nothing rests on it.

use std::collections::VecDeque;

use super::replica::{Replica, Row};
use super::rules::{self, Outcome};
use super::session::{Fault, Note, Report};
use super::version::{Epoch, Fault as BadVersion, Version, content_hash};
use super::wire::{self, Frame, Manifest, Message, Refused};
use crate::hlc::Stamp;
use crate::id::PublicKey;
use crate::peer::reconcile::{self, Element, Fingerprint, Initiator, Missing};
use crate::{limits, text};

/// Who has so few entries sends them all rather than have them looked for.
const FEW: u64 = 64;
/// A range from which entries are wanted has no more elements than this that are not.
const BYSTANDERS: usize = 64;
/// What a row takes in a frame beside its texts and its body, at most, contexts not counted.
const ROW_HEAD: usize = 160;
/// What a pair of a context takes, at most.
const PAIR: usize = 32;

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

    /// Whether there is something to send now.
    pub fn is_ready(&self) -> bool {
        match self.work.front() {
            None => false,
            Some(Work::Changes { .. } | Work::Rows(_) | Work::Body { .. }) => self.under_way < limits::SYNC_WINDOW,
            Some(Work::Message(_) | Work::Frame(_) | Work::Check) => true,
        }
    }

    /// The next frame, if [`Exchange::is_ready`]; nothing where what was to be sent is no more.
    pub fn transmit<R: Replica>(&mut self, replica: &mut R, now_ms: u64) -> Result<Option<Vec<u8>>, Fault<R::Error>> {
        if !self.is_ready() {
            return Ok(None);
        }
        let frame = match self.work.pop_front() {
            Some(Work::Message(message)) => {
                if message == Message::End {
                    self.ends.0 = true;
                    self.after_end();
                }
                Some(wire::message(&message))
            }
            Some(Work::Frame(frame)) => Some(frame),
            Some(Work::Changes { after }) => self.changes(replica, after)?,
            Some(Work::Rows(elements)) => self.rows(replica, elements)?,
            Some(Work::Body { element, offset, size }) => Some(self.body(replica, element, offset, size)?),
            Some(Work::Check) => Some(self.check(replica, now_ms)?),
            None => None,
        };
        self.settle(replica, now_ms)?;
        Ok(frame)
    }

    fn changes<R: Replica>(&mut self, replica: &mut R, after: u64) -> Result<Option<Vec<u8>>, Fault<R::Error>> {
        let rows = replica
            .changes(after, &self.roles.epoch, limits::SYNC_ROWS, limits::FRAME_CONTROL)
            .map_err(Fault::Store)?;
        let rows = page(rows);
        let Some(last) = rows.last() else {
            self.work.push_front(Work::Message(Message::End));
            return Ok(None);
        };
        self.work.push_front(Work::Changes { after: last.seq });
        Ok(Some(self.entries(&rows)))
    }

    fn rows<R: Replica>(
        &mut self,
        replica: &mut R,
        mut elements: VecDeque<Element>,
    ) -> Result<Option<Vec<u8>>, Fault<R::Error>> {
        let (mut rows, mut size) = (Vec::new(), 0);
        while let Some(element) = elements.front() {
            // A row that was rewritten meanwhile is told of in the next session.
            if let Some(row) = replica.row(element).map_err(Fault::Store)? {
                size += frame_size(&row);
                let alone = row.body.is_none();
                if !rows.is_empty() && (size > limits::FRAME_CONTROL || rows.len() == limits::SYNC_ROWS) {
                    break;
                }
                rows.push(row);
                if alone {
                    elements.pop_front();
                    break;
                }
            }
            elements.pop_front();
        }
        if !elements.is_empty() {
            self.work.push_front(Work::Rows(elements));
        }
        Ok((!rows.is_empty()).then(|| self.entries(&rows)))
    }

    /// The frame for `rows`; the body of the last one comes next, if it is not in it.
    fn entries(&mut self, rows: &[Row]) -> Vec<u8> {
        if let Some(Row { version, body: None, .. }) = rows.last() {
            // The other side has that beginning until the body is whole: it serves once.
            let have = self.theirs.partial.iter().position(|partial| partial.hash == version.hash);
            let offset = have.map_or(0, |at| self.theirs.partial.swap_remove(at).have);
            let offset = if offset < version.size { offset } else { 0 };
            self.work.push_front(Work::Body { element: version.element(), offset, size: version.size });
        }
        self.under_way += 1;
        wire::entries(rows)
    }

    fn body<R: Replica>(
        &mut self,
        replica: &mut R,
        element: Element,
        offset: u64,
        size: u64,
    ) -> Result<Vec<u8>, Fault<R::Error>> {
        let piece = replica.piece(&element, offset, limits::CHUNK).map_err(Fault::Store)?;
        // An empty piece says that the entry has changed meanwhile; its new version comes later.
        let piece = piece.unwrap_or_default();
        let next = offset + piece.len() as u64;
        if !piece.is_empty() && next < size {
            self.work.push_front(Work::Body { element, offset: next, size });
        }
        self.under_way += 1;
        Ok(wire::body(offset, &piece))
    }

    fn check<R: Replica>(&mut self, replica: &mut R, now_ms: u64) -> Result<Vec<u8>, Fault<R::Error>> {
        if self.adopts(now_ms) && self.theirs.horizon > replica.clock().map_err(Fault::Store)? {
            // What is deleted here from now on is none of what is about to be forgotten.
            replica.set_clock(self.theirs.horizon).map_err(Fault::Store)?;
        }
        let total = replica.total().map_err(Fault::Store)?;
        // Both tell: when they have the same horizon, either of them knows what the other one has forgotten.
        let seen = if self.mine.horizon == self.theirs.horizon {
            Vec::new()
        } else {
            replica.all_seen(limits::SYNC_SEEN).map_err(Fault::Store)?
        };
        let top = replica.top().map_err(Fault::Store)?;
        let (fingerprint, count) = (total.fingerprint(), total.count);
        let message = Message::Check { fingerprint, count, top, seen: seen.clone() };
        self.checks.0 = Some(Check { fingerprint, count, top, seen });
        self.compare(replica)?;
        Ok(wire::message(&message))
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

    fn take_rows<R: Replica>(
        &mut self,
        replica: &mut R,
        rows: Vec<Row>,
        now_ms: u64,
        report: &mut Report,
    ) -> Result<Message, Fault<R::Error>> {
        if self.arriving.is_some() {
            return Err(Fault::Protocol("rows within a body"));
        }
        let (mut taken, mut refused, mut upto) = (0, Vec::new(), None);
        for Row { seq, version, body } in rows {
            match (version.check(now_ms), body) {
                (Err(fault), body) => {
                    refused.push(refusal(&version, fault));
                    if body.is_none() {
                        self.arriving = Some(Arriving { version, unwanted: true, have: None });
                    }
                }
                (Ok(()), None) => {
                    self.arriving = Some(Arriving { version, unwanted: false, have: None });
                    // It is here when its last piece is.
                    break;
                }
                (Ok(()), Some(body)) => match self.take(replica, &version, &body, now_ms, report)? {
                    Ok(news) => taken += u64::from(news),
                    Err(fault) => refused.push(refusal(&version, fault)),
                },
            }
            upto = Some(seq);
        }
        self.follow(replica, upto)?;
        report.refuse(self.mine.journal, refused.clone());
        Ok(Message::Ack { taken, refused })
    }

    fn take_piece<R: Replica>(
        &mut self,
        replica: &mut R,
        offset: u64,
        piece: &[u8],
        now_ms: u64,
        report: &mut Report,
    ) -> Result<Message, Fault<R::Error>> {
        let mut arriving = self.arriving.take().ok_or(Fault::Protocol("a body of nothing"))?;
        let (mut taken, mut refused) = (0, Vec::new());
        let size = arriving.version.size;
        if piece.is_empty() {
            return Ok(Message::Ack { taken, refused });
        }
        if arriving.have.is_some_and(|have| have != offset) {
            return Err(Fault::Protocol("a piece that does not fit"));
        }
        let have = offset.saturating_add(piece.len() as u64);
        if have > size {
            return Err(Fault::Protocol("more of a body than there is"));
        }
        if offset > 0 && !arriving.unwanted {
            // A session with a third device may have brought that body to its end, or begun it anew. This row comes
            // again where it is still missing: the fingerprints tell.
            let here = replica.partial(&arriving.version.hash).map_err(Fault::Store)?;
            arriving.unwanted = here != offset;
        }
        if !arriving.unwanted {
            replica.add_piece(&arriving.version.hash, offset, piece, now_ms).map_err(Fault::Store)?;
        }
        arriving.have = Some(have);
        if have < size {
            self.arriving = Some(arriving);
        } else if !arriving.unwanted {
            let version = arriving.version;
            let body = replica.take_pieces(&version.hash).map_err(Fault::Store)?;
            match self.take(replica, &version, &body, now_ms, report)? {
                Ok(news) => taken = u64::from(news),
                Err(fault) => refused.push(refusal(&version, fault)),
            }
        }
        report.refuse(self.mine.journal, refused.clone());
        Ok(Message::Ack { taken, refused })
    }

    /// Takes one version; says whether it was news, or why it is refused.
    fn take<R: Replica>(
        &mut self,
        replica: &mut R,
        version: &Version,
        body: &[u8],
        now_ms: u64,
        report: &mut Report,
    ) -> Result<Result<bool, BadVersion>, Fault<R::Error>> {
        let fits =
            body.len() as u64 == version.size && content_hash(version.deleted, &version.meta, body) == version.hash;
        if !fits {
            return Ok(Err(BadVersion::Hash));
        }
        let Roles { device, epoch, .. } = &self.roles;
        let taken = rules::take(replica, *device, version, body, epoch, now_ms).map_err(Fault::Store)?;
        self.anew += u64::from(taken.anew);
        let journal = self.mine.journal;
        let news = taken.outcome != Outcome::Known;
        match taken.outcome {
            Outcome::Known | Outcome::Current => {}
            Outcome::Conflict { winner, loser } => report.note(Note::Conflict { journal, winner, loser }),
            Outcome::Recovered => report.note(Note::Recovered { journal, version: Box::new(version.clone()) }),
        }
        if news {
            report.received += 1;
            report.changed.insert(journal);
        }
        Ok(Ok(news))
    }

    /// Moves the cursor, where the other side's rows come in the order of its changes.
    fn follow<R: Replica>(&self, replica: &mut R, upto: Option<u64>) -> Result<(), Fault<R::Error>> {
        match upto {
            Some(seq) if self.in_order && self.stage == Stage::Streaming => {
                replica.set_cursor(&self.roles.peer, &self.roles.epoch, seq).map_err(Fault::Store)
            }
            _ => Ok(()),
        }
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

    fn take_ranges<R: Replica>(&mut self, replica: &mut R, message: &[u8]) -> Result<(), Fault<R::Error>> {
        if self.stage != Stage::Reconciling || self.ends.1 {
            return Err(Fault::Protocol("ranges out of their order"));
        }
        let Some(initiator) = &mut self.initiator else {
            if self.roles.leads {
                return Err(Fault::Protocol("ranges that nobody asked for"));
            }
            let answer = reconcile::respond(replica, message)?;
            self.work.push_back(Work::Frame(wire::ranges(&answer)));
            return Ok(());
        };
        let step = initiator.step(replica, message)?;
        self.work.extend(wire::want(&step.need).into_iter().map(Work::Frame));
        if !step.have.is_empty() {
            self.work.push_back(Work::Rows(step.have.into()));
        }
        self.work.push_back(match step.reply {
            Some(reply) => Work::Frame(wire::ranges(&reply)),
            None => {
                self.initiator = None;
                Work::Message(Message::End)
            }
        });
        Ok(())
    }

    fn take_wanted<R: Replica>(&mut self, replica: &mut R, wanted: &[Missing]) -> Result<(), Fault<R::Error>> {
        if self.stage != Stage::Reconciling || self.roles.leads || self.ends.1 {
            return Err(Fault::Protocol("a WANT out of its order"));
        }
        let mut rows = VecDeque::new();
        for Missing { lower, upper, ids } in wanted {
            let mut ids = ids.clone();
            ids.sort_unstable();
            let found = replica.elements(lower, upper, ids.len() + BYSTANDERS).map_err(Fault::Store)?;
            rows.extend(found.into_iter().filter(|element| ids.binary_search(&element.id).is_ok()));
        }
        if !rows.is_empty() {
            self.work.push_back(Work::Rows(rows));
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

/// As many of `rows` as fit into a frame, up to one whose body comes after it.
fn page(mut rows: Vec<Row>) -> Vec<Row> {
    let (mut size, mut fits) = (0, 0);
    for row in &rows {
        size += frame_size(row);
        if fits > 0 && size > limits::FRAME_CONTROL {
            break;
        }
        fits += 1;
        if row.body.is_none() {
            break;
        }
    }
    rows.truncate(fits);
    rows
}

fn frame_size(row: &Row) -> usize {
    let texts = row.version.id.len() + row.version.meta.len();
    ROW_HEAD + texts + PAIR * row.version.context.pairs().len() + row.body.as_ref().map_or(0, Vec::len)
}

fn refusal(version: &Version, fault: BadVersion) -> Refused {
    Refused { id: text::cut(&version.id, limits::ENTRY_ID).to_owned(), reason: fault.to_string() }
}
