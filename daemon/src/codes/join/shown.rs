//! What is known of each join now, and who may end it. Those that nobody confirmed yet are nowhere else.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use kith_proto::control::code::{CodeApproval, CodeJoin, Issuer, JoinResource, JoinState};
use kith_proto::control::event::Fact;
use kith_proto::control::{ApiError, Code};
use kith_proto::peer::join::code::ProofKey;
use kith_proto::peer::join::{Approval, Payload, Permission};
use kith_proto::{limits, text};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::book::{REMEMBERED, Row};
use super::words::{Local, Said};
use crate::clock;
use crate::event::Events;
use crate::trust::Trust;

/// What a code led to.
pub struct Found {
    /// Proves that this device has the code.
    pub proof: ProofKey,
    /// Who, what, where.
    pub payload: Payload,
    /// When the code's time is over, by the issuer's clock.
    pub expires_ms: u64,
}

/// The joins of this device.
pub struct Shown {
    events: Events,
    trust: Trust,
    /// Newest last.
    entries: Mutex<VecDeque<Entry>>,
}

struct Entry {
    view: CodeJoin,
    created_ms: i64,
    payload: Option<Payload>,
    expires_ms: Option<u64>,
    /// What the issuer will know the code by: the same for the same code.
    code: Option<[u8; 32]>,
    /// Until it is confirmed.
    proof: Option<ProofKey>,
    /// It is in the database, which decides from then on.
    written: bool,
    /// Ends what is under way.
    cancel: CancellationToken,
    /// Wakes it.
    nudge: Arc<Notify>,
}

/// A join that somebody said yes to.
pub enum Taken {
    /// From now on it is asked for the code: until `cancel`, at once whenever `nudge` says so.
    Begun {
        /// What to ask with.
        found: Box<Found>,
        /// Ends it.
        cancel: CancellationToken,
        /// Wakes it.
        nudge: Arc<Notify>,
        /// When it was begun: milliseconds since 1970.
        created_ms: i64,
    },
    /// It, or another one with the same code, is under way already.
    UnderWay(Box<CodeJoin>),
}

impl Shown {
    /// Those that are written down.
    pub fn new(events: Events, trust: Trust, rows: &[Row]) -> Self {
        let entries = rows.iter().map(Entry::of).collect();
        Self { events, trust, entries: Mutex::new(entries) }
    }

    /// Begins one, or gives the one that is under way with the same code.
    pub fn begin(&self, code: [u8; 32], cancel: CancellationToken) -> Result<(CodeJoin, bool), ApiError> {
        let mut entries = self.lock();
        if let Some(entry) = entries.iter().find(|entry| entry.is_asked_for(&code)) {
            entry.nudge.notify_one();
            return Ok((self.view(entry), false));
        }
        if entries.iter().filter(|entry| !entry.view.state.is_final()).count() >= limits::JOINS {
            return Err(too_many());
        }
        let fresh = |id: &String| entries.iter().all(|entry| entry.view.join != *id);
        let id = std::iter::repeat_with(random_id).find(fresh).unwrap_or_default();
        let created_ms = clock::now_ms();
        let entry = Entry {
            view: blank(id, created_ms),
            created_ms,
            payload: None,
            expires_ms: None,
            code: Some(code),
            proof: None,
            written: false,
            cancel,
            nudge: Arc::default(),
        };
        let view = self.tell(&entry);
        entries.push_back(entry);
        make_room(&mut entries);
        Ok((view, true))
    }

    /// Under way and over, newest first.
    pub fn list(&self) -> Vec<CodeJoin> {
        self.lock().iter().rev().map(|entry| self.view(entry)).collect()
    }

    /// One, by its id or a unique prefix.
    pub fn find(&self, wanted: &str) -> Result<CodeJoin, ApiError> {
        let entries = self.lock();
        let mut found = entries.iter().filter(|entry| !wanted.is_empty() && entry.view.join.starts_with(wanted));
        match (found.next(), found.next()) {
            (Some(entry), None) => Ok(self.view(entry)),
            (Some(_), Some(_)) => {
                Err(ApiError::new(Code::InvalidParam, "more than one join begins like this; type more of its id"))
            }
            (None, _) => Err(not_here()),
        }
    }

    /// The code led somewhere: somebody may say yes now.
    pub fn found(&self, id: &str, found: Found, here: bool) {
        self.change(id, |entry| {
            let looking = entry.view.state == JoinState::Looking;
            if looking {
                let Found { proof, payload, expires_ms } = found;
                entry.view.state = JoinState::Found;
                entry.describe(payload, expires_ms, here);
                entry.proof = Some(proof);
            }
            looking
        });
    }

    /// Ends one that nobody confirmed. Says whether it did.
    pub fn abandon(&self, id: &str, state: JoinState, said: Said) -> bool {
        self.change(id, |entry| {
            let unconfirmed = matches!(entry.view.state, JoinState::Looking | JoinState::Found);
            if unconfirmed {
                entry.end(state, said);
            }
            unconfirmed
        })
    }

    /// Somebody says yes.
    pub fn take(&self, id: &str, path: Option<String>, stop: &CancellationToken) -> Result<Taken, ApiError> {
        let mut entries = self.lock();
        let at = entries.iter().position(|entry| entry.view.join == id).ok_or_else(not_here)?;
        if matches!(entries[at].view.state, JoinState::Joining | JoinState::Pending) {
            entries[at].nudge.notify_one();
            return Ok(Taken::UnderWay(Box::new(self.view(&entries[at]))));
        }
        if entries[at].view.state != JoinState::Found {
            return Err(wrong_state(entries[at].view.state));
        }
        let code = entries[at].code;
        if let Some(other) = entries.iter().position(|entry| code.is_some_and(|code| entry.is_asked_for(&code))) {
            entries[other].nudge.notify_one();
            let going = self.view(&entries[other]);
            entries[at].end(JoinState::Canceled, Local::Continued.said(""));
            self.tell(&entries[at]);
            return Ok(Taken::UnderWay(Box::new(going)));
        }
        let entry = &mut entries[at];
        let (Some(proof), Some(payload), Some(expires_ms)) =
            (entry.proof.take(), entry.payload.clone(), entry.expires_ms)
        else {
            return Err(wrong_state(JoinState::Looking));
        };
        entry.view.state = JoinState::Joining;
        entry.view.path = path;
        // Whoever waited for a yes need not any more.
        std::mem::replace(&mut entry.cancel, stop.child_token()).cancel();
        let (cancel, nudge, created_ms) = (entry.cancel.clone(), entry.nudge.clone(), entry.created_ms);
        self.tell(entry);
        Ok(Taken::Begun { found: Box::new(Found { proof, payload, expires_ms }), cancel, nudge, created_ms })
    }

    /// One that was written down goes on: what ends it, and what wakes it.
    pub fn resume(&self, id: &str, stop: &CancellationToken) -> Option<(CancellationToken, Arc<Notify>)> {
        let mut entries = self.lock();
        let entry = entries.iter_mut().find(|entry| entry.view.join == id)?;
        entry.cancel = stop.child_token();
        Some((entry.cancel.clone(), entry.nudge.clone()))
    }

    /// What somebody said yes to is written down now. Says whether it still goes on.
    pub fn written(&self, id: &str) -> bool {
        let mut entries = self.lock();
        let Some(entry) = entries.iter_mut().find(|entry| entry.view.join == id) else { return false };
        entry.written = true;
        !entry.view.state.is_final()
    }

    /// Whether it is.
    pub fn is_written(&self, id: &str) -> bool {
        self.lock().iter().any(|entry| entry.view.join == id && entry.written)
    }

    /// A try begins.
    pub fn trying(&self, id: &str) {
        self.change(id, |entry| {
            let waited = entry.view.state == JoinState::Pending && entry.view.retry_at.is_some();
            if waited {
                entry.view.retry_at = None;
            }
            waited
        });
    }

    /// A try came to nothing yet. The next one is at `retry_ms`.
    pub fn pending(&self, id: &str, said: Said, retry_ms: i64) {
        self.change(id, |entry| {
            let under_way = matches!(entry.view.state, JoinState::Joining | JoinState::Pending);
            if under_way {
                entry.view.state = JoinState::Pending;
                entry.view.result = Some(said.result.to_owned());
                entry.view.reason = Some(said.error.into());
                entry.view.retry_at = Some(clock::rfc3339(retry_ms));
            }
            under_way
        });
    }

    /// What a resource that was joined is called here.
    pub fn rename(&self, id: &str, name: String) {
        let mut entries = self.lock();
        let entry = entries.iter_mut().find(|entry| entry.view.join == id);
        if let Some(resource) = entry.and_then(|entry| entry.view.resource.as_mut()) {
            resource.name = name;
        }
    }

    /// This device is a member. `name` is what the resource is called here.
    pub fn joined(&self, id: &str, result: &str, name: Option<String>) {
        self.change(id, |entry| {
            entry.view.result = Some(result.to_owned());
            entry.view.reason = None;
            if let Some(resource) = &mut entry.view.resource {
                resource.here = true;
                resource.name = name.unwrap_or_else(|| std::mem::take(&mut resource.name));
            }
            entry.close(JoinState::Joined);
            true
        });
    }

    /// It is over without that. Says whether it was not over before.
    pub fn ended(&self, id: &str, state: JoinState, said: Said) -> bool {
        self.change(id, |entry| {
            let under_way = !entry.view.state.is_final();
            if under_way {
                entry.end(state, said);
            }
            under_way
        })
    }

    /// Changes one, and tells it if there is something to tell.
    fn change(&self, id: &str, change: impl FnOnce(&mut Entry) -> bool) -> bool {
        let mut entries = self.lock();
        let Some(entry) = entries.iter_mut().find(|entry| entry.view.join == id) else { return false };
        let changed = change(entry);
        if changed {
            self.tell(entry);
            make_room(&mut entries);
        }
        changed
    }

    fn tell(&self, entry: &Entry) -> CodeJoin {
        let view = self.view(entry);
        self.events.publish(&Fact::JoinUpdated(Box::new(view.clone())));
        view
    }

    /// As it is at this moment: trust and the time go on.
    fn view(&self, entry: &Entry) -> CodeJoin {
        let mut view = entry.view.clone();
        if let (Some(issuer), Some(payload)) = (&mut view.issuer, &entry.payload) {
            issuer.trusted = self.trust.snapshot().trusted(&payload.issuer).is_some();
        }
        let now = u64::try_from(clock::now_ms()).unwrap_or_default();
        view.seems_expired = !view.state.is_final() && entry.expires_ms.is_some_and(|expires| expires <= now);
        view
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Entry>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Entry {
    /// As it was written down.
    fn of(row: &Row) -> Self {
        let mut view = blank(row.id.clone(), row.created_ms);
        view.state = row.state;
        view.path.clone_from(&row.path);
        view.result.clone_from(&row.result);
        view.reason.clone_from(&row.reason);
        let mut entry = Self {
            view,
            created_ms: row.created_ms,
            payload: None,
            expires_ms: None,
            code: row.proof.as_ref().map(ProofKey::public),
            proof: None,
            written: true,
            cancel: CancellationToken::new(),
            nudge: Arc::default(),
        };
        let expires_ms = u64::try_from(row.expires_ms).unwrap_or_default();
        entry.describe(row.payload.clone(), expires_ms, row.state == JoinState::Joined);
        entry
    }

    /// Says who and what.
    fn describe(&mut self, payload: Payload, expires_ms: u64, here: bool) {
        self.view.issuer = Some(Issuer {
            id: payload.issuer.device_id(),
            name: issuer_name(&payload),
            public_key: payload.issuer.to_string(),
            trusted: false,
        });
        self.view.resource = Some(JoinResource {
            id: payload.resource.id().to_string(),
            kind: payload.resource.kind.as_str().to_owned(),
            name: text::printable(&payload.resource.name).into_owned(),
            label: text::printable(&payload.label).into_owned(),
            permission: match payload.permission {
                Permission::ReadWrite => "read-write".to_owned(),
                Permission::Unknown => "unknown".to_owned(),
            },
            approval: match payload.approval {
                Approval::Auto => CodeApproval::Auto,
                Approval::Ask => CodeApproval::Ask,
            },
            here,
        });
        self.view.expires = Some(clock::rfc3339(i64::try_from(expires_ms).unwrap_or(i64::MAX)));
        self.expires_ms = Some(expires_ms);
        self.payload = Some(payload);
    }

    /// Whether the issuer is being asked with this code.
    fn is_asked_for(&self, code: &[u8; 32]) -> bool {
        matches!(self.view.state, JoinState::Joining | JoinState::Pending) && self.code.as_ref() == Some(code)
    }

    fn end(&mut self, state: JoinState, said: Said) {
        self.view.result = Some(said.result.to_owned());
        self.view.reason = Some(said.error.into());
        self.close(state);
    }

    fn close(&mut self, state: JoinState) {
        self.view.state = state;
        self.view.retry_at = None;
        (self.proof, self.code) = (None, None);
        self.cancel.cancel();
    }
}

/// What the issuer calls itself, as far as that can be shown.
pub fn issuer_name(payload: &Payload) -> String {
    text::device_name(&payload.name, limits::DEVICE_NAME)
}

pub fn too_many() -> ApiError {
    ApiError::new(Code::Busy, "too many joins are under way").hint("wait until one is over, or cancel one")
}

fn not_here() -> ApiError {
    ApiError::new(Code::JoinNotFound, "there is no such join").hint("kithctl joins lists them")
}

/// Why it cannot be confirmed or called off now.
pub fn wrong_state(state: JoinState) -> ApiError {
    let message = match state {
        JoinState::Looking => "it is not known yet what this code is for",
        _ => "this join is over",
    };
    ApiError::new(Code::WrongState, message)
}

fn blank(join: String, created_ms: i64) -> CodeJoin {
    CodeJoin {
        join,
        state: JoinState::Looking,
        result: None,
        reason: None,
        issuer: None,
        resource: None,
        path: None,
        created: clock::rfc3339(created_ms),
        expires: None,
        seems_expired: false,
        retry_at: None,
    }
}

/// Forgets those that were over first.
fn make_room(entries: &mut VecDeque<Entry>) {
    let over = |entry: &Entry| entry.view.state.is_final();
    while entries.iter().filter(|entry| over(entry)).count() > REMEMBERED {
        let Some(at) = entries.iter().position(over) else { return };
        entries.remove(at);
    }
}

fn random_id() -> String {
    let mut bytes = [0; 4];
    getrandom::fill(&mut bytes).expect("the system gave random bytes when the daemon started");
    data_encoding::HEXLOWER.encode(&bytes)
}
