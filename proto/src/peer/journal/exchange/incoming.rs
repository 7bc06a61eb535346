//! What is taken: rows, bodies, questions about ranges.

use std::collections::VecDeque;

use super::{Arriving, Exchange, Roles, Stage, Work};
use crate::peer::journal::replica::{Replica, Row};
use crate::peer::journal::rules::{self, Outcome};
use crate::peer::journal::session::{Fault, Note, Report};
use crate::peer::journal::version::{Fault as BadVersion, Version, content_hash};
use crate::peer::journal::wire::{self, Message, Refused};
use crate::peer::reconcile::{self, Missing};
use crate::{limits, text};

/// A range from which entries are wanted has no more elements than this that are not.
const BYSTANDERS: usize = 64;

impl Exchange {
    pub(super) fn take_rows<R: Replica>(
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

    pub(super) fn take_piece<R: Replica>(
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

    pub(super) fn take_ranges<R: Replica>(&mut self, replica: &mut R, message: &[u8]) -> Result<(), Fault<R::Error>> {
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

    pub(super) fn take_wanted<R: Replica>(
        &mut self,
        replica: &mut R,
        wanted: &[Missing],
    ) -> Result<(), Fault<R::Error>> {
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
}

fn refusal(version: &Version, fault: BadVersion) -> Refused {
    Refused { id: text::cut(&version.id, limits::ENTRY_ID).to_owned(), reason: fault.to_string() }
}
