//! How codes and requests are shown; and told, each at most once a second, however many devices come at once.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use kith_proto::control::code::{CodeApproval, IssuedCode, JoinRequest, Publication, PublicationState, RequestState};
use kith_proto::control::event::Fact;
use kith_proto::control::types::PeerRef;
use kith_proto::id::PublicKey;
use tokio::sync::Notify;

use super::Engine;
use super::book::{Book, Code, Request};
use super::publish::Published;
use crate::clock;
use crate::event::Events;
use crate::store::Store;
use crate::trust::{self, Trust};

/// The word for the one permission that there is.
pub const READ_WRITE: &str = "read-write";
/// Between two facts about one code.
const PAUSE: Duration = Duration::from_secs(1);

/// A code.
pub fn code(book: &Book<'_>, code: &Code, now_ms: i64) -> rusqlite::Result<IssuedCode> {
    let waiting = book.waiting(now_ms)?.into_iter().filter(|(request, _)| request.code == code.number).count();
    Ok(shown(code, waiting, book.publications(code.number)?, now_ms))
}

/// All codes, newest first.
pub fn codes(book: &Book<'_>, now_ms: i64) -> rusqlite::Result<Vec<IssuedCode>> {
    let mut waiting: BTreeMap<i64, usize> = BTreeMap::new();
    for (request, _) in book.waiting(now_ms)? {
        *waiting.entry(request.code).or_default() += 1;
    }
    let mut publications = book.all_publications()?;
    let codes = book.codes()?.into_iter().map(|code| {
        let waiting = waiting.get(&code.number).copied().unwrap_or_default();
        shown(&code, waiting, publications.remove(&code.number).unwrap_or_default(), now_ms)
    });
    Ok(codes.collect())
}

fn shown(code: &Code, waiting: usize, publications: Vec<Published>, now_ms: i64) -> IssuedCode {
    IssuedCode {
        id: code.id.clone(),
        label: code.label.clone(),
        kind: code.kind.clone(),
        resource: code.resource.to_string(),
        name: code.name.clone(),
        permission: code.permission.clone(),
        approval: if code.ask { CodeApproval::Ask } else { CodeApproval::Auto },
        state: code.state(now_ms),
        created: clock::rfc3339(code.created_ms),
        expires: clock::rfc3339(code.expires_ms),
        uses: code.uses,
        used: code.used,
        waiting: u32::try_from(waiting).unwrap_or(u32::MAX),
        publications: publications.into_iter().map(publication).collect(),
    }
}

fn publication(published: Published) -> Publication {
    let Published { store, state, reason, since_ms } = published;
    let since = (state != PublicationState::Waiting).then(|| clock::rfc3339(since_ms));
    Publication { store, state, reason, since }
}

/// A request, as it is at this moment.
pub fn request(trust: &trust::Snapshot, request: &Request, code: &Code, now_ms: i64) -> JoinRequest {
    let lapsed = request.state == RequestState::Waiting && code.is_lapsed(now_ms);
    JoinRequest {
        request: request.id.clone(),
        device: device(trust, &request.device, &request.name),
        code: code.id.clone(),
        label: code.label.clone(),
        kind: code.kind.clone(),
        name: code.name.clone(),
        state: if lapsed { RequestState::Denied } else { request.state },
        address: request.address.clone(),
        created: clock::rfc3339(request.created_ms),
    }
}

/// A device by what it is called here; otherwise, as it called itself.
pub fn device(trust: &trust::Snapshot, key: &PublicKey, name: &str) -> PeerRef {
    match trust.get(key) {
        Some(device) => device.as_ref(),
        None => PeerRef { id: key.device_id(), name: name.to_owned() },
    }
}

/// Tells what changed.
pub struct Teller {
    events: Events,
    store: Store,
    trust: Trust,
    changed: Mutex<Changed>,
    wake: Notify,
}

#[derive(Default)]
struct Changed {
    /// By their rows.
    codes: BTreeSet<i64>,
    /// By their ids.
    requests: BTreeSet<String>,
}

impl Teller {
    /// Nothing to tell yet.
    pub fn new(events: Events, store: Store, trust: Trust) -> Self {
        Self { events, store, trust, changed: Mutex::default(), wake: Notify::new() }
    }

    /// This code changed.
    pub fn code(&self, number: i64) {
        self.changed.lock().unwrap_or_else(PoisonError::into_inner).codes.insert(number);
        self.wake.notify_one();
    }

    /// This request changed.
    pub fn request(&self, id: String) {
        self.changed.lock().unwrap_or_else(PoisonError::into_inner).requests.insert(id);
        self.wake.notify_one();
    }

    async fn tell(&self) {
        let changed = std::mem::take(&mut *self.changed.lock().unwrap_or_else(PoisonError::into_inner));
        let (now_ms, trust) = (clock::now_ms(), self.trust.snapshot());
        let facts = self.store.read(move |connection| {
            let book = Book(connection);
            let mut facts = Vec::new();
            for id in &changed.requests {
                if let Some((it, of)) = book.request(id)? {
                    facts.push(Fact::RequestUpdated(request(&trust, &it, &of, now_ms)));
                }
            }
            for number in changed.codes {
                if let Some(it) = book.code(number)? {
                    facts.push(Fact::CodeUpdated(code(&book, &it, now_ms)?));
                }
            }
            Ok(facts)
        });
        match facts.await {
            Ok(facts) => facts.iter().for_each(|fact| self.events.publish(fact)),
            Err(error) => tracing::error!(%error, "cannot tell of sharing codes"),
        }
    }
}

/// Tells what changed until the daemon stops.
pub async fn run(engine: Arc<Engine>) {
    let stop = engine.tasks.stopping().clone();
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = engine.teller.wake.notified() => {}
        }
        engine.teller.tell().await;
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(PAUSE) => {}
        }
    }
}
