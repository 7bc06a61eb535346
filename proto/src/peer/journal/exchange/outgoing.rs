//! What is sent, frame by frame.

use std::collections::VecDeque;

use super::{Check, Exchange, Work};
use crate::limits;
use crate::peer::journal::replica::{Replica, Row};
use crate::peer::journal::session::Fault;
use crate::peer::journal::wire::{self, Message};
use crate::peer::reconcile::Element;

/// What a row takes in a frame beside its texts and its body, at most, contexts not counted.
const ROW_HEAD: usize = 160;
/// What a pair of a context takes, at most.
const PAIR: usize = 32;

impl Exchange {
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
