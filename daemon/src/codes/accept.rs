//! Who is let in: the decision on everybody who waits, within one transaction.
//!
//! Nothing here waits for anybody and no clock is read: a transaction, a time, and what the devices said. What is
//! decided holds if the transaction is committed, and only then it is said.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use kith_proto::control::code::RequestState;
use kith_proto::id::PublicKey;
use kith_proto::limits;
use kith_proto::peer::join::{JoinResult, Permission, Reason};
use kith_proto::peer::journal::member::Introduction;
use kith_proto::peer::journal::version::JournalId;
use rusqlite::Transaction;

use super::book::{Book, Code, Ended, Redeemed, Request};
use super::new_id;
use crate::sync::{Admission, Standing, Sync};
use crate::trust::{self, Admitted, Changes};

/// For so long, whoever waits for somebody's answer asks often …
const OFTEN_MS: i64 = 120_000;
/// … every so many seconds …
const OFTEN: u32 = 5;
/// … and then, and wherever nothing changes soon, after so many.
const SELDOM: u32 = 60;

/// A device that came with a code, or with what it takes for one.
#[derive(Debug, Clone)]
pub struct Knock {
    /// Its key, proven by the handshake.
    pub device: PublicKey,
    /// Where its peer door is.
    pub address: Option<SocketAddr>,
    /// As it calls itself.
    pub name: String,
    /// What it wants to join.
    pub resource: JournalId,
    /// The public key of its proof.
    pub proof: [u8; 32],
    /// Whether the proof holds.
    pub proven: bool,
}

/// What becomes of it.
#[derive(Debug)]
pub struct Verdict {
    /// What it is told.
    pub result: JoinResult,
    /// The code that it came with, by its row, if that was changed by it.
    pub changed: Option<i64>,
    /// The request that was made or answered by it.
    pub request: Option<String>,
    /// It did not prove to have a code.
    pub is_stranger: bool,
}

impl Verdict {
    fn of(reason: Reason) -> Self {
        Self { result: reason.into(), changed: None, request: None, is_stranger: false }
    }

    fn at(reason: Reason, at_ms: Option<i64>) -> Self {
        let mut verdict = Self::of(reason);
        verdict.result.at_ms = at_ms.and_then(|at| u64::try_from(at).ok());
        verdict
    }

    fn later(reason: Reason, seconds: u32) -> Self {
        let mut verdict = Self::of(reason);
        verdict.result.retry_after = Some(seconds);
        verdict
    }

    fn member(reason: Reason, introduction: Introduction) -> Self {
        let mut verdict = Self::of(reason);
        verdict.result.introduction = Some(introduction);
        verdict.result.permission = Some(Permission::ReadWrite);
        verdict
    }

    fn changed(mut self, code: &Code) -> Self {
        self.changed = Some(code.number);
        self
    }
}

/// What decisions are made on.
pub struct Ground<'a, 't> {
    /// The transaction.
    pub tx: &'a Transaction<'t>,
    /// Whom this device trusts.
    pub changes: &'a mut Changes,
    /// Who takes part in what.
    pub sync: &'a Sync,
    /// Now, in milliseconds since 1970.
    pub now_ms: i64,
}

/// What one look at a device comes to.
enum Look {
    /// It is decided.
    Said(Box<Verdict>),
    /// It may come in, as far as the code goes.
    Welcome(Code),
}

impl From<Verdict> for Look {
    fn from(verdict: Verdict) -> Self {
        Self::Said(Box::new(verdict))
    }
}

impl Ground<'_, '_> {
    /// What becomes of each, in their order.
    ///
    /// Members are written down for all at once; whether a use is left depends on what becomes of those before. So it
    /// goes in rounds: whoever would take a use that another one may take as well waits for the next.
    pub fn decide(&mut self, knocks: &[Knock]) -> rusqlite::Result<Vec<Verdict>> {
        let mut verdicts: BTreeMap<usize, Verdict> = BTreeMap::new();
        while verdicts.len() < knocks.len() {
            let mut welcome: BTreeMap<JournalId, Vec<(usize, Code)>> = BTreeMap::new();
            let mut coming: BTreeSet<(JournalId, PublicKey)> = BTreeSet::new();
            let mut taken: BTreeMap<i64, u32> = BTreeMap::new();
            for (at, knock) in
                knocks.iter().enumerate().filter(|(at, _)| !verdicts.contains_key(at)).collect::<Vec<_>>()
            {
                if coming.contains(&(knock.resource, knock.device)) {
                    continue;
                }
                match self.look(knock)? {
                    Look::Said(verdict) => {
                        verdicts.insert(at, *verdict);
                    }
                    Look::Welcome(code) => {
                        let taken = taken.entry(code.number).or_default();
                        if code.left().is_some_and(|left| left <= *taken) {
                            continue;
                        }
                        *taken += 1;
                        coming.insert((knock.resource, knock.device));
                        welcome.entry(code.resource).or_default().push((at, code));
                    }
                }
            }
            for (journal, comers) in welcome {
                let devices: Vec<_> =
                    comers.iter().map(|(at, _)| (knocks[*at].device, knocks[*at].name.clone())).collect();
                let admissions = self.sync.admit(self.tx, &journal, &devices)?;
                for ((at, code), admission) in comers.into_iter().zip(admissions) {
                    verdicts.insert(at, self.settle(&knocks[at], &code, admission)?);
                }
            }
        }
        Ok(verdicts.into_values().collect())
    }

    /// Lets a device in whose request was accepted by hand. The code's time does not count: the device came in time.
    pub fn approve(&mut self, code: &Code, request: &Request) -> rusqlite::Result<Verdict> {
        if let Some(over) = self.over(code, true)? {
            return Ok(over);
        }
        let knock = Knock {
            device: request.device,
            address: request.address.parse().ok().map(|ip| SocketAddr::new(ip, request.port)),
            name: request.name.clone(),
            resource: code.resource,
            proof: [0; 32],
            proven: true,
        };
        if let Some(denied) = self.distrusted(&knock, code)? {
            return Ok(denied);
        }
        let admissions = self.sync.admit(self.tx, &code.resource, &[(knock.device, knock.name.clone())])?;
        let admission = admissions.into_iter().next().unwrap_or(Admission::Gone);
        let mut verdict = self.settle(&knock, code, admission)?;
        if verdict.result.reason.is_in() {
            self.book().answer(&request.id, RequestState::Accepted, self.now_ms)?;
            verdict.request = Some(request.id.clone());
            verdict.changed = Some(code.number);
        }
        Ok(verdict)
    }

    fn book(&self) -> Book<'_> {
        Book(self.tx)
    }

    fn look(&mut self, knock: &Knock) -> rusqlite::Result<Look> {
        // The proof was computed before, whether or not there is such a code; it is looked up whether or not it holds.
        let code = self.book().proven_by(&knock.proof)?;
        let Some(code) = code.filter(|code| knock.proven && code.resource == knock.resource) else {
            return Ok(Verdict { is_stranger: true, ..Verdict::of(Reason::UnknownCode) }.into());
        };
        let request = self.book().request_of(code.number, &knock.device)?;
        let accepted = request.as_ref().is_some_and(|request| request.state == RequestState::Accepted);
        if accepted || self.book().redemption(code.number, &knock.device)?.is_some() {
            return Ok(self.again(knock)?.into());
        }
        if let Some(request) = request {
            return Ok(self.asked(&code, &request)?.into());
        }
        if let Some(over) = self.over(&code, false)? {
            return Ok(over.into());
        }
        if let Some(denied) = self.distrusted(knock, &code)? {
            return Ok(denied.into());
        }
        if !code.ask {
            return Ok(Look::Welcome(code));
        }
        Ok(match self.sync.standing(self.tx, &code.resource, &knock.device)? {
            Standing::Gone => Verdict::of(Reason::ResourceGone),
            // Others made it a member; whether it is trusted here, somebody is to say.
            Standing::Member(introduction) if trust::shown_name(self.tx, &knock.device)?.is_some() => {
                self.trust(knock)?;
                Verdict::member(Reason::AlreadyMember, introduction)
            }
            Standing::Member(_) | Standing::Removed | Standing::Never => self.ask(knock, &code)?,
        }
        .into())
    }

    /// It came by this code before.
    fn again(&mut self, knock: &Knock) -> rusqlite::Result<Verdict> {
        Ok(match self.sync.standing(self.tx, &knock.resource, &knock.device)? {
            Standing::Gone => Verdict::of(Reason::ResourceGone),
            Standing::Removed | Standing::Never => Verdict::of(Reason::Denied),
            Standing::Member(introduction) => match self.changes.revoked_ms(self.tx, &knock.device)? {
                Some(at) => Verdict::at(Reason::Denied, Some(at)),
                None => Verdict::member(Reason::AlreadyMember, introduction),
            },
        })
    }

    /// It asked by this code before, and was not let in yet.
    fn asked(&self, code: &Code, request: &Request) -> rusqlite::Result<Verdict> {
        if request.state == RequestState::Denied {
            // Withdrawing the code turned down whoever waited.
            let revoked = code.ended == Some(Ended::Revoked) && code.ended_ms <= request.answered_ms;
            let reason = if revoked { Reason::Revoked } else { Reason::Denied };
            return Ok(Verdict::at(reason, request.answered_ms));
        }
        if code.left() == Some(0) {
            return self.used_up(code);
        }
        if self.sync.standing(self.tx, &code.resource, &request.device)? == Standing::Gone {
            return Ok(Verdict::of(Reason::ResourceGone));
        }
        if code.is_lapsed(self.now_ms) {
            self.book().answer(&request.id, RequestState::Denied, self.now_ms)?;
            let verdict = Verdict::at(Reason::Denied, Some(self.now_ms)).changed(code);
            return Ok(Verdict { request: Some(request.id.clone()), ..verdict });
        }
        let age = self.now_ms.saturating_sub(request.created_ms);
        Ok(Verdict::later(Reason::ApprovalPending, if age < OFTEN_MS { OFTEN } else { SELDOM }))
    }

    /// Why a code lets nobody in any more, if it does not.
    fn over(&self, code: &Code, in_time: bool) -> rusqlite::Result<Option<Verdict>> {
        match code.ended {
            Some(Ended::Revoked) => return Ok(Some(Verdict::at(Reason::Revoked, code.ended_ms))),
            Some(Ended::Expired) if !in_time => {
                return Ok(Some(Verdict::at(Reason::Expired, Some(code.expires_ms))));
            }
            // Written down with the refusal: a clock that is set back does not undo what somebody was told.
            None if !in_time && self.now_ms >= code.expires_ms => {
                self.book().end(code.number, Ended::Expired, self.now_ms)?;
                return Ok(Some(Verdict::at(Reason::Expired, Some(code.expires_ms)).changed(code)));
            }
            _ => {}
        }
        Ok(if code.left() == Some(0) { Some(self.used_up(code)?) } else { None })
    }

    fn used_up(&self, code: &Code) -> rusqlite::Result<Verdict> {
        let last = self.book().redemptions(code.number, 1)?.into_iter().next();
        let mut verdict = Verdict::at(Reason::UsedUp, last.as_ref().map(|last| last.at_ms));
        verdict.result.by = last.map(|last| last.name);
        Ok(verdict)
    }

    /// Whoever was revoked, or expelled with another code, after the code was made is not meant by it.
    fn distrusted(&mut self, knock: &Knock, code: &Code) -> rusqlite::Result<Option<Verdict>> {
        let revoked = self.changes.revoked_ms(self.tx, &knock.device)?;
        let expelled = self.book().expelled_ms(&code.resource, &knock.device)?;
        Ok(revoked.max(expelled).filter(|at| *at >= code.created_ms).map(|at| Verdict::at(Reason::Denied, Some(at))))
    }

    /// Somebody is to say whether it may come in.
    fn ask(&mut self, knock: &Knock, code: &Code) -> rusqlite::Result<Verdict> {
        if self.book().waiting_count(self.now_ms)? >= limits::JOIN_REQUESTS {
            return Ok(Verdict::later(Reason::Busy, SELDOM));
        }
        let id = new_id(&self.book())?;
        self.book().ask(&Request {
            id: id.clone(),
            code: code.number,
            device: knock.device,
            name: knock.name.clone(),
            address: knock.address.map(|address| address.ip().to_string()).unwrap_or_default(),
            port: knock.address.map(|address| address.port()).unwrap_or_default(),
            created_ms: self.now_ms,
            state: RequestState::Waiting,
            answered_ms: None,
        })?;
        let verdict = Verdict::later(Reason::ApprovalPending, OFTEN).changed(code);
        Ok(Verdict { request: Some(id), ..verdict })
    }

    /// What becomes of a device that the code lets in.
    fn settle(&mut self, knock: &Knock, code: &Code, admission: Admission) -> rusqlite::Result<Verdict> {
        Ok(match admission {
            Admission::Admitted(introduction) => {
                let new_trust = self.trust(knock)?;
                let redeemed = Redeemed {
                    device: knock.device,
                    name: knock.name.clone(),
                    at_ms: self.now_ms,
                    new_trust,
                    expelled_ms: None,
                };
                self.book().redeem(code.number, &redeemed)?;
                self.book().take_use(code.number)?;
                Verdict::member(Reason::Ok, introduction).changed(code)
            }
            Admission::Already(introduction) => {
                self.trust(knock)?;
                Verdict::member(Reason::AlreadyMember, introduction)
            }
            Admission::Gone => Verdict::of(Reason::ResourceGone),
            Admission::Paused => Verdict::later(Reason::ResourcePaused, SELDOM),
            Admission::Full => Verdict::later(Reason::Busy, SELDOM),
        })
    }

    /// Trusts a device that is let in; whether it was not trusted before.
    fn trust(&mut self, knock: &Knock) -> rusqlite::Result<bool> {
        let Knock { device, name, address, .. } = knock;
        Ok(match self.changes.admit(self.tx, device, name, *address, self.now_ms)? {
            Admitted::New => true,
            Admitted::Known => false,
            // Before the code was made: it is welcome again.
            Admitted::Revoked { .. } => {
                self.changes.readmit(self.tx, device, name, *address, self.now_ms)?;
                true
            }
        })
    }
}
