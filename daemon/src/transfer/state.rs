//! What is known of each transfer now: the record as it is written down, its progress, and who works on it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use kith_proto::control::event::Fact;
use kith_proto::control::types::{Direction, PeerRef, Problem, Transfer, TransferState};
use kith_proto::control::{ApiError, Code};
use kith_proto::id::PublicKey;
use kith_proto::text;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;

use super::book::{self, Details, Record, SHOWN};
use crate::clock;
use crate::event::Events;
use crate::store::{self, Store};
use crate::trust::Trust;

/// Progress is told four times a second.
const TELL_EVERY: Duration = Duration::from_millis(250);
/// How long a new session waits for the old one of the same transfer to let go.
const HAND_OVER: Duration = Duration::from_secs(5);

/// Names a transfer on this device.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Key {
    /// The other device.
    pub peer: PublicKey,
    /// Which way it goes.
    pub direction: Direction,
    /// The id that both devices use.
    pub id: String,
}

/// Why a transfer could not be looked after.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The database failed.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// It was forgotten meanwhile.
    #[error("there is no such transfer")]
    Gone,
    /// Another connection works on it and does not let go.
    #[error("another connection is busy with this transfer")]
    Busy,
}

impl From<Error> for ApiError {
    fn from(error: Error) -> Self {
        match error {
            Error::Gone => ApiError::new(Code::TransferNotFound, error.to_string()),
            Error::Busy => ApiError::new(Code::Busy, error.to_string()),
            Error::Store(error) => error.into(),
        }
    }
}

/// Everything that is known of transfers.
pub struct Book {
    /// Where it is written down.
    pub store: Store,
    events: Events,
    trust: Trust,
    live: Mutex<HashMap<Key, Live>>,
}

struct Live {
    record: Record,
    details: Details,
    told_at: Option<Instant>,
    /// Cancelled to make the connection that works on it let go.
    session: CancellationToken,
    /// Held by the connection that works on it.
    place: Arc<Semaphore>,
    /// Wakes a session that waits for an answer.
    answered: Arc<Notify>,
}

/// The right to work on a transfer. Ends when it is dropped.
pub struct Session {
    /// Cancelled when somebody else shall work on it, or nobody.
    pub stop: CancellationToken,
    /// Wakes when the record changed.
    pub answered: Arc<Notify>,
    place: Arc<OwnedSemaphorePermit>,
}

impl Session {
    /// For work that goes on when the session was dropped, on a thread that cannot be called off: nobody else begins
    /// until this is dropped as well.
    pub fn hold(&self) -> Arc<OwnedSemaphorePermit> {
        self.place.clone()
    }
}

impl Book {
    /// Reads what is written down. What was under way waits now.
    pub async fn open(store: Store, events: Events, trust: Trust) -> Result<Self, store::Error> {
        let loaded = store.write(book::load).await?;
        let live = loaded.into_iter().map(|(mut record, details)| {
            match (record.direction, record.state) {
                (_, TransferState::Active) | (Direction::Out, TransferState::Offered) => {
                    record.state = TransferState::Queued;
                }
                (Direction::Out, TransferState::Preparing) => {
                    record.state = TransferState::Failed;
                    let reason = ApiError::new(Code::WrongState, "the daemon stopped while this was being prepared");
                    record.reason = Some(reason.hint("send it again").into());
                }
                _ => {}
            }
            (key_of(&record), Live::new(record, details))
        });
        let live = Mutex::new(live.collect());
        Ok(Self { store, events, trust, live })
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Key, Live>> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a transfer and its first entries, in one step.
    pub async fn add(
        &self,
        mut record: Record,
        fill: impl FnOnce(&rusqlite::Transaction<'_>, i64) -> rusqlite::Result<()> + Send + 'static,
    ) -> Result<Key, Error> {
        let key = key_of(&record);
        let row = record.clone();
        let (number, details) = self
            .store
            .write(move |tx| {
                let number = book::save(tx, &row)?;
                fill(tx, number)?;
                Ok((number, book::details(tx, number)?))
            })
            .await?;
        record.number = number;
        self.lock().insert(key.clone(), Live::new(record, details));
        self.publish(&key);
        Ok(key)
    }

    /// Forgets a transfer that came to nothing.
    pub async fn forget(&self, key: &Key) -> Result<(), Error> {
        let number = self.lock().remove(key).map(|live| live.record.number);
        if let Some(number) = number {
            self.store.write(move |tx| book::forget(tx, number)).await?;
        }
        Ok(())
    }

    /// Changes a record, writes it down and tells it. What is over stays over unless `change` is what revives it.
    pub async fn set(&self, key: &Key, change: impl FnOnce(&mut Record)) -> Result<(), Error> {
        let record = {
            let mut live = self.lock();
            let live = live.get_mut(key).ok_or(Error::Gone)?;
            change(&mut live.record);
            live.record.updated_ms = clock::now_ms();
            live.answered.notify_waiters();
            live.record.clone()
        };
        self.store.write(move |tx| book::save(tx, &record)).await?;
        self.publish(key);
        Ok(())
    }

    /// Moves a transfer on, unless it is over.
    pub async fn advance(&self, key: &Key, state: TransferState) -> Result<(), Error> {
        match self.state(key) {
            Some(now) if now.is_final() || now == state => Ok(()),
            Some(_) => self.set(key, |record| record.state = state).await,
            None => Err(Error::Gone),
        }
    }

    /// Ends a transfer without success, unless it is over.
    pub async fn fail(&self, key: &Key, reason: ApiError) -> Result<(), Error> {
        if self.state(key).is_some_and(TransferState::is_final) {
            return Ok(());
        }
        self.set(key, |record| {
            record.state = TransferState::Failed;
            record.reason = Some(reason.into());
        })
        .await
    }

    /// Reads again what a view shows of the entries, and tells it.
    pub async fn refresh(&self, key: &Key) -> Result<(), Error> {
        let number = self.record(key).ok_or(Error::Gone)?.number;
        let details = self.store.read(move |c| book::details(c, number)).await?;
        if let Some(live) = self.lock().get_mut(key) {
            live.details = details;
        }
        self.publish(key);
        Ok(())
    }

    /// Notes progress: entries that were settled, bytes that moved, problems that arose.
    pub fn progress(&self, key: &Key, entries: u64, bytes: u64, problems: Vec<Problem>, placed: Vec<String>) {
        let due = {
            let mut live = self.lock();
            let Some(live) = live.get_mut(key) else { return };
            let details = &mut live.details;
            details.entries_done += entries;
            details.bytes_done += bytes;
            details.problem_count += problems.len() as u64;
            let room = SHOWN.saturating_sub(details.problems.len());
            details.problems.extend(problems.into_iter().take(room));
            for name in placed {
                if details.placed.len() < SHOWN && !details.placed.contains(&name) {
                    details.placed.push(name);
                }
            }
            live.told_at.is_none_or(|told| told.elapsed() >= TELL_EVERY)
        };
        if due {
            self.publish(key);
        }
    }

    /// The right to work on a transfer: whoever has it is asked to let go.
    pub async fn session(&self, key: &Key) -> Result<Session, Error> {
        let place = {
            let mut live = self.lock();
            let live = live.get_mut(key).ok_or(Error::Gone)?;
            live.session.cancel();
            live.place.clone()
        };
        let permit = tokio::time::timeout(HAND_OVER, place.acquire_owned()).await;
        let permit = permit.ok().and_then(Result::ok).ok_or(Error::Busy)?;
        let mut live = self.lock();
        let live = live.get_mut(key).ok_or(Error::Gone)?;
        live.session = CancellationToken::new();
        Ok(Session { stop: live.session.clone(), answered: live.answered.clone(), place: Arc::new(permit) })
    }

    /// Whether a connection works on it.
    pub fn is_busy(&self, key: &Key) -> bool {
        self.lock().get(key).is_some_and(|live| live.place.available_permits() == 0)
    }

    /// Makes the connection that works on it let go.
    pub fn interrupt(&self, key: &Key) {
        if let Some(live) = self.lock().get(key) {
            live.session.cancel();
        }
    }

    /// The record now.
    pub fn record(&self, key: &Key) -> Option<Record> {
        self.lock().get(key).map(|live| live.record.clone())
    }

    /// How far it is now.
    pub fn state(&self, key: &Key) -> Option<TransferState> {
        self.lock().get(key).map(|live| live.record.state)
    }

    /// The transfers of which `wanted` holds, oldest first.
    pub fn keys(&self, wanted: impl Fn(&Record) -> bool) -> Vec<Key> {
        let live = self.lock();
        let mut found: Vec<_> = live.values().filter(|live| wanted(&live.record)).map(|live| &live.record).collect();
        found.sort_by_key(|record| (record.created_ms, record.number));
        found.into_iter().map(key_of).collect()
    }

    /// The transfer with this id, or with the only id that begins so.
    pub fn find(&self, wanted: &str) -> Result<Key, ApiError> {
        self.find_among(wanted, None)
    }

    /// The same, among those of one direction: a device that sends to itself by two names has both.
    pub fn find_among(&self, wanted: &str, direction: Option<Direction>) -> Result<Key, ApiError> {
        let live = self.lock();
        let mut found = live.keys().filter(|key| {
            !wanted.is_empty() && key.id.starts_with(wanted) && direction.is_none_or(|only| only == key.direction)
        });
        match (found.next(), found.next()) {
            (Some(key), None) => Ok(key.clone()),
            (None, _) => {
                let message = format!("no transfer has the id {}", text::printable(wanted));
                Err(ApiError::new(Code::TransferNotFound, message).hint("kithctl transfers list --all shows them"))
            }
            (Some(_), Some(_)) => {
                let message = format!("more than one transfer begins with {}", text::printable(wanted));
                Err(ApiError::new(Code::TransferNotFound, message).hint("use more of the id"))
            }
        }
    }

    /// A transfer as the local door shows it.
    pub fn view(&self, key: &Key) -> Result<Transfer, ApiError> {
        let peer = self.peer(&key.peer);
        self.lock().get(key).map(|live| live.view(peer)).ok_or_else(|| Error::Gone.into())
    }

    /// The transfers of which `wanted` holds, newest first.
    pub fn views(&self, wanted: impl Fn(&Record) -> bool) -> Vec<Transfer> {
        self.keys(wanted).iter().rev().filter_map(|key| self.view(key).ok()).collect()
    }

    fn publish(&self, key: &Key) {
        let peer = self.peer(&key.peer);
        let view = {
            let mut live = self.lock();
            let Some(live) = live.get_mut(key) else { return };
            live.told_at = Some(Instant::now());
            live.view(peer)
        };
        self.events.publish(&Fact::TransferUpdated(Box::new(view)));
    }

    fn peer(&self, key: &PublicKey) -> PeerRef {
        let trust = self.trust.snapshot();
        let known = trust.get(key).map(crate::trust::Device::as_ref);
        known.unwrap_or_else(|| PeerRef { id: key.device_id(), name: key.device_id().to_string() })
    }
}

impl Live {
    fn new(record: Record, details: Details) -> Self {
        Self {
            record,
            details,
            told_at: None,
            session: CancellationToken::new(),
            place: Arc::new(Semaphore::new(1)),
            answered: Arc::new(Notify::new()),
        }
    }

    fn view(&self, peer: PeerRef) -> Transfer {
        let (record, details) = (&self.record, &self.details);
        Transfer {
            id: record.id.clone(),
            direction: record.direction,
            peer: peer.into(),
            state: record.state,
            title: record.title.clone(),
            entries: record.entries,
            entries_done: details.entries_done,
            bytes: record.bytes,
            bytes_done: details.bytes_done,
            certificate_hash: None,
            text: record.text.clone(),
            dir: record.dir.as_ref().map(|dir| dir.to_string_lossy().into_owned()),
            placed: details.placed.clone(),
            preview: details.preview.clone(),
            problems: record.skipped_why.iter().chain(&details.problems).take(SHOWN).cloned().collect(),
            problem_count: record.skipped + details.problem_count,
            reason: record.reason.clone(),
            created: clock::rfc3339(record.created_ms),
            updated: clock::rfc3339(record.updated_ms),
            expires: (!record.state.is_final()).then(|| clock::rfc3339(record.expires_ms)),
        }
    }
}

fn key_of(record: &Record) -> Key {
    Key { peer: record.peer, direction: record.direction, id: record.id.clone() }
}
