//! What is known of each share now, and who may end it.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use kith_proto::control::credential::{SavedResult, Share, ShareKind, ShareState};
use kith_proto::control::event::Fact;
use kith_proto::control::types::{Direction, Failure, Party};
use kith_proto::control::{ApiError, Code};
use kith_proto::credential::payload::Payload;
use kith_proto::limits;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::clock;
use crate::event::Events;

/// Shares that are over and still shown.
const REMEMBERED: usize = 16;

/// The shares of this device.
pub struct Book {
    events: Events,
    /// Newest last.
    entries: Mutex<VecDeque<Entry>>,
}

struct Entry {
    view: Share,
    /// Ends what is under way.
    cancel: CancellationToken,
    arrived: Option<Arrived>,
}

/// What lies here for a review.
struct Arrived {
    /// Absent where it is sealed in the inbox.
    payload: Option<Arc<Payload>>,
    /// To whoever keeps the connection with the sender, if there is one.
    verdicts: Option<mpsc::Sender<Verdict>>,
    /// It is being saved or declined at this moment: nothing else may end the share.
    held: bool,
    /// The last attempt to save it failed because a name was taken.
    clash: bool,
}

/// What somebody decided about a share that arrived.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It is saved.
    Saved,
    /// It is not wanted.
    Declined {
        /// Because a name is taken.
        clash: bool,
    },
    /// It could not be saved; it may be tried again.
    Kept,
}

/// A share that is reviewed or saved.
pub struct Opened {
    /// How it is shown.
    pub view: Share,
    /// What arrived; absent where it is sealed in the inbox.
    pub payload: Option<Arc<Payload>>,
}

impl Book {
    /// No share yet.
    pub fn new(events: Events) -> Self {
        Self { events, entries: Mutex::default() }
    }

    /// Adds a share, unless too many are under way.
    pub fn begin(&self, view: Share, cancel: CancellationToken) -> Result<Share, ApiError> {
        let mut entries = self.lock();
        let under_way = |entry: &&Entry| !entry.view.state.is_final() && !entry.is_in_inbox();
        if entries.iter().filter(under_way).count() >= limits::SHARES {
            return Err(ApiError::new(Code::Busy, "too many shares are under way").hint("wait until one is over"));
        }
        make_room(&mut entries);
        let entry = Entry { view: view.clone(), cancel, arrived: None };
        self.tell(&entry);
        entries.push_back(entry);
        Ok(view)
    }

    /// Adds what a paired device handed over; it lies in the inbox until somebody looks through it.
    pub fn keep(&self, view: Share) {
        let mut entries = self.lock();
        make_room(&mut entries);
        let arrived = Some(Arrived { payload: None, verdicts: None, held: false, clash: false });
        let entry = Entry { view, cancel: CancellationToken::new(), arrived };
        self.tell(&entry);
        entries.push_back(entry);
    }

    /// All of them, newest first.
    pub fn list(&self) -> Vec<Share> {
        self.lock().iter().rev().map(|entry| entry.view.clone()).collect()
    }

    /// One, by its id or a unique prefix.
    pub fn find(&self, wanted: &str) -> Result<Share, ApiError> {
        let entries = self.lock();
        let mut found = entries.iter().filter(|entry| !wanted.is_empty() && entry.view.share.starts_with(wanted));
        match (found.next(), found.next()) {
            (Some(entry), None) => Ok(entry.view.clone()),
            (Some(_), Some(_)) => {
                Err(ApiError::new(Code::InvalidParam, "more than one share begins like this; type more of its id"))
            }
            (None, _) => Err(ApiError::new(Code::ShareNotFound, "there is no such share")),
        }
    }

    /// How many failed confirmations the code survives.
    pub fn attempts(&self, id: &str, left: u32) {
        self.change(id, |entry| !entry.view.state.is_final() && entry.view.attempts_left.replace(left) != Some(left));
    }

    /// The sender's side: the receiver has it and looks through it.
    pub fn delivered(&self, id: &str, to: Party, patience_ms: i64) {
        self.change(id, |entry| {
            if entry.view.state.is_final() {
                return false;
            }
            entry.view.state = ShareState::Review;
            entry.view.peer = Some(to);
            entry.view.expires = Some(clock::rfc3339(clock::now_ms() + patience_ms));
            true
        });
    }

    /// The receiver's side: it is here. What is decided about it comes out of the receiver, which ends when the share does.
    pub fn arrived(&self, id: &str, payload: Payload, from: Party, patience_ms: i64) -> mpsc::Receiver<Verdict> {
        // One who saves at a time, and one verdict more when it is declined.
        let (verdicts, decided) = mpsc::channel(8);
        self.change(id, |entry| {
            if entry.view.state.is_final() {
                return false;
            }
            entry.view.state = ShareState::Review;
            entry.view.name = Some(payload.name().to_owned());
            entry.view.peer = Some(from);
            entry.view.expires = Some(clock::rfc3339(clock::now_ms() + patience_ms));
            let payload = Some(Arc::new(payload));
            entry.arrived = Some(Arrived { payload, verdicts: Some(verdicts), held: false, clash: false });
            true
        });
        decided
    }

    /// Ends a share. Says whether it did: not while somebody holds it, and only once.
    pub fn settle(&self, id: &str, state: ShareState, reason: Option<Failure>) -> bool {
        self.change(id, |entry| {
            let held = entry.arrived.as_ref().is_some_and(|arrived| arrived.held);
            if entry.view.state.is_final() || held {
                return false;
            }
            entry.end(state, reason);
            true
        })
    }

    /// A share that waits for a review.
    pub fn open(&self, id: &str) -> Result<Opened, ApiError> {
        let entries = self.lock();
        let entry = entries.iter().find(|entry| entry.view.share == id).ok_or_else(not_here)?;
        let arrived = entry.waiting()?;
        Ok(Opened { view: entry.view.clone(), payload: arrived.payload.clone() })
    }

    /// The same, to save or to decline it: until [`Book::saved`] or [`Book::decline`] nothing else may end it.
    pub fn hold(&self, id: &str) -> Result<Opened, ApiError> {
        let mut entries = self.lock();
        let entry = entries.iter_mut().find(|entry| entry.view.share == id).ok_or_else(not_here)?;
        entry.waiting()?;
        let view = entry.view.clone();
        let arrived = entry.arrived.as_mut().ok_or_else(not_here)?;
        if arrived.held {
            return Err(ApiError::new(Code::WrongState, "this share is being saved or declined already"));
        }
        arrived.held = true;
        Ok(Opened { view, payload: arrived.payload.clone() })
    }

    /// What came of saving.
    pub fn saved(&self, id: &str, result: &Result<SavedResult, ApiError>) {
        self.change(id, |entry| {
            let Some(arrived) = &mut entry.arrived else { return false };
            arrived.held = false;
            arrived.clash = matches!(result, Err(error) if error.code == Code::NameTaken);
            let verdict = if result.is_ok() { Verdict::Saved } else { Verdict::Kept };
            if let Some(verdicts) = &arrived.verdicts {
                let _ = verdicts.try_send(verdict);
            }
            if result.is_ok() {
                entry.end(ShareState::Saved, None);
            }
            result.is_ok()
        });
    }

    /// Somebody who holds it does not want it. Its state then.
    pub fn decline(&self, id: &str) -> Result<Share, ApiError> {
        let mut entries = self.lock();
        let entry = entries.iter_mut().find(|entry| entry.view.share == id).ok_or_else(not_here)?;
        let arrived = entry.waiting()?;
        if let Some(verdicts) = &arrived.verdicts {
            let _ = verdicts.try_send(Verdict::Declined { clash: arrived.clash });
        }
        entry.end(ShareState::Declined, None);
        self.tell(entry);
        Ok(entry.view.clone())
    }

    /// Calls off what is under way.
    pub fn cancel(&self, id: &str) -> Result<(), ApiError> {
        let entries = self.lock();
        let entry = entries.iter().find(|entry| entry.view.share == id).ok_or_else(not_here)?;
        if entry.view.state.is_final() {
            return Err(ApiError::new(Code::WrongState, "this share is over"));
        }
        if entry.is_in_inbox() {
            return Err(ApiError::new(Code::WrongState, "this share waits in the inbox").hint("decline it instead"));
        }
        entry.cancel.cancel();
        Ok(())
    }

    /// Changes an entry, and tells it if `change` says that there is something to tell; says the same.
    fn change(&self, id: &str, change: impl FnOnce(&mut Entry) -> bool) -> bool {
        let mut entries = self.lock();
        let Some(entry) = entries.iter_mut().find(|entry| entry.view.share == id) else { return false };
        let changed = change(entry);
        if changed {
            self.tell(entry);
        }
        changed
    }

    /// Called under the lock: what is told last is how it is.
    fn tell(&self, entry: &Entry) {
        self.events.publish(&Fact::ShareUpdated(entry.view.clone()));
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Entry>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Entry {
    /// Whether it is on the disk and not on any connection.
    fn is_in_inbox(&self) -> bool {
        self.arrived.as_ref().is_some_and(|arrived| arrived.payload.is_none())
    }

    fn waiting(&self) -> Result<&Arrived, ApiError> {
        match &self.arrived {
            Some(arrived) if self.view.state == ShareState::Review => Ok(arrived),
            _ if self.view.state.is_final() => Err(ApiError::new(Code::WrongState, "this share is over")),
            _ if self.view.direction == Direction::Out => {
                Err(ApiError::new(Code::WrongState, "this share goes out; the other side decides about it"))
            }
            _ => Err(ApiError::new(Code::WrongState, "nothing arrived yet")),
        }
    }

    /// Nothing of what arrived stays in memory.
    fn end(&mut self, state: ShareState, reason: Option<Failure>) {
        self.view.state = state;
        self.view.reason = reason;
        self.view.expires = None;
        self.view.attempts_left = None;
        self.arrived = None;
    }
}

fn not_here() -> ApiError {
    ApiError::new(Code::ShareNotFound, "there is no such share")
}

/// Forgets the oldest of those that are over.
fn make_room(entries: &mut VecDeque<Entry>) {
    let over = entries.iter().filter(|entry| entry.view.state.is_final()).count();
    let mut too_many = (over + 1).saturating_sub(REMEMBERED);
    entries.retain(|entry| {
        let goes = too_many > 0 && entry.view.state.is_final();
        too_many -= usize::from(goes);
        !goes
    });
}

/// A share that begins now. `patience_ms`: how long it may wait for the other side; absent in the inbox.
pub fn new(direction: Direction, kind: ShareKind, name: Option<String>, patience_ms: Option<i64>) -> Share {
    let now = clock::now_ms();
    Share {
        share: uuid::Uuid::new_v4().to_string(),
        direction,
        kind,
        name,
        peer: None,
        state: ShareState::Waiting,
        attempts_left: None,
        compat: false,
        reason: None,
        created: clock::rfc3339(now),
        expires: patience_ms.map(|patience| clock::rfc3339(now + patience)),
    }
}
