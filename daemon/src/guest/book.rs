//! Transfers with guests. They live as long as the people who wait for them, and no longer: nothing is written down.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use kith_proto::control::event::Fact;
use kith_proto::control::types::{Conflict, Direction, Failure, Party, Problem, Transfer, TransferState};
use kith_proto::control::{ApiError, Code};
use kith_proto::{limits, text};
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use crate::clock;
use crate::event::Events;

/// Progress is told four times a second.
const TELL_EVERY: Duration = Duration::from_millis(250);
/// Entries, names and problems that a view shows.
pub const SHOWN: usize = 100;

/// Everything that is known of transfers with guests.
pub struct Book {
    events: Events,
    /// Oldest first.
    live: Mutex<VecDeque<Live>>,
}

struct Live {
    view: Transfer,
    told: Instant,
    /// Cancelled when it is called off.
    stop: CancellationToken,
    /// Whoever waits for somebody's answer to the offer.
    answer: Option<oneshot::Sender<Answer>>,
}

/// What somebody said to an offer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// Yes: where to, and what to do with names that exist, where the one who answered said so.
    Accept {
        /// An absolute path.
        dir: Option<PathBuf>,
        /// Instead of the window's.
        on_conflict: Option<Conflict>,
    },
    /// No.
    Reject,
}

/// A transfer that has just begun.
pub fn begun(direction: Direction, state: TransferState, address: &str, title: &str) -> Transfer {
    let now = clock::rfc3339(clock::now_ms());
    Transfer {
        id: uuid::Uuid::now_v7().to_string(),
        direction,
        peer: Party { id: None, name: address.to_owned(), address: Some(address.to_owned()), protocol: None },
        state,
        title: title.to_owned(),
        entries: 0,
        entries_done: 0,
        bytes: None,
        bytes_done: 0,
        certificate_hash: None,
        text: None,
        dir: None,
        placed: Vec::new(),
        preview: Vec::new(),
        problems: Vec::new(),
        problem_count: 0,
        reason: None,
        created: now.clone(),
        updated: now,
        expires: None,
    }
}

/// Notes an entry that is not delivered.
pub fn add_problem(view: &mut Transfer, path: &str, reason: &str) {
    view.problem_count += 1;
    if view.problems.len() < SHOWN {
        view.problems.push(Problem { path: path.to_owned(), reason: reason.to_owned() });
    }
}

impl Book {
    /// An empty one.
    pub fn new(events: Events) -> Self {
        Self { events, live: Mutex::default() }
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Live>> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a transfer, and tells it. The token is cancelled when somebody calls it off.
    pub fn add(&self, view: Transfer) -> CancellationToken {
        self.insert(view, None)
    }

    /// The same for an offer that waits for somebody's answer.
    pub fn add_offer(&self, view: Transfer) -> (CancellationToken, oneshot::Receiver<Answer>) {
        let (answer, answered) = oneshot::channel();
        (self.insert(view, Some(answer)), answered)
    }

    fn insert(&self, view: Transfer, answer: Option<oneshot::Sender<Answer>>) -> CancellationToken {
        let stop = CancellationToken::new();
        let live = Live { view: view.clone(), told: Instant::now(), stop: stop.clone(), answer };
        {
            let mut all = self.lock();
            let over = all.iter().filter(|live| live.view.state.is_final()).count();
            if over >= limits::GUEST_TRANSFERS
                && let Some(oldest) = all.iter().position(|live| live.view.state.is_final())
            {
                all.remove(oldest);
            }
            all.push_back(live);
        }
        self.events.publish(&Fact::TransferUpdated(Box::new(view)));
        stop
    }

    /// Changes a transfer that is not over, and tells it.
    pub fn change(&self, id: &str, change: impl FnOnce(&mut Transfer)) {
        self.update(id, true, change);
    }

    /// The same for progress, which is told only so often.
    pub fn progress(&self, id: &str, change: impl FnOnce(&mut Transfer)) {
        self.update(id, false, change);
    }

    /// Drops a transfer that never was one.
    pub fn forget(&self, id: &str) {
        self.lock().retain(|live| live.view.id != id);
    }

    /// Ends a transfer, unless it is over.
    pub fn end(&self, id: &str, state: TransferState, reason: Option<ApiError>) {
        self.change(id, |view| {
            view.state = state;
            view.reason = reason.map(Failure::from);
            view.expires = None;
        });
    }

    fn update(&self, id: &str, tell: bool, change: impl FnOnce(&mut Transfer)) {
        let told = {
            let mut all = self.lock();
            let Some(live) = all.iter_mut().find(|live| live.view.id == id && !live.view.state.is_final()) else {
                return;
            };
            change(&mut live.view);
            let tell = tell || live.told.elapsed() >= TELL_EVERY;
            tell.then(|| {
                live.told = Instant::now();
                live.view.updated = clock::rfc3339(clock::now_ms());
                live.view.clone()
            })
        };
        if let Some(view) = told {
            self.events.publish(&Fact::TransferUpdated(Box::new(view)));
        }
    }

    /// One transfer.
    pub fn view(&self, id: &str) -> Option<Transfer> {
        self.lock().iter().find(|live| live.view.id == id).map(|live| live.view.clone())
    }

    /// The same for somebody who asked for it.
    pub fn show(&self, id: &str) -> Result<Transfer, ApiError> {
        self.view(id).ok_or_else(not_found)
    }

    /// The transfers of which `wanted` holds, newest first.
    pub fn views(&self, wanted: impl Fn(&Transfer) -> bool) -> Vec<Transfer> {
        self.lock().iter().rev().map(|live| &live.view).filter(|view| wanted(view)).cloned().collect()
    }

    /// The transfer with this id, or with the only id that begins so; `None` if no guest's does.
    pub fn find(&self, wanted: &str) -> Result<Option<Transfer>, ApiError> {
        let mut found = self.views(|view| !wanted.is_empty() && view.id.starts_with(wanted));
        match found.len() {
            0 | 1 => Ok(found.pop()),
            _ => {
                let message = format!("more than one transfer begins with {}", text::printable(wanted));
                Err(ApiError::new(Code::TransferNotFound, message).hint("use more of the id"))
            }
        }
    }

    /// Calls a transfer off: whoever works on it lets go.
    pub fn cancel(&self, id: &str) -> Result<(), ApiError> {
        let (state, stop) = {
            let all = self.lock();
            let live = all.iter().find(|live| live.view.id == id).ok_or_else(not_found)?;
            (live.view.state, live.stop.clone())
        };
        match state {
            TransferState::Canceled => Ok(()),
            state if state.is_final() => Err(ApiError::new(Code::WrongState, "this transfer is over")),
            _ => {
                self.end(id, TransferState::Canceled, None);
                stop.cancel();
                Ok(())
            }
        }
    }

    /// Answers an offer.
    pub fn answer(&self, id: &str, answer: Answer) -> Result<(), ApiError> {
        let waiting = {
            let mut all = self.lock();
            let live = all.iter_mut().find(|live| live.view.id == id).ok_or_else(not_found)?;
            live.answer.take().filter(|_| live.view.state == TransferState::Offered)
        };
        let sent = waiting.map(|waiting| waiting.send(answer));
        match sent {
            Some(Ok(())) => Ok(()),
            _ => Err(ApiError::new(Code::WrongState, "this offer was answered already, or its sender waits no more")),
        }
    }
}

fn not_found() -> ApiError {
    ApiError::new(Code::TransferNotFound, "there is no such transfer")
}
