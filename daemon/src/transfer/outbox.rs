//! When to dial whom: at once when there is something new, when a peer comes into sight or makes contact, and with
//! growing patience in between.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use kith_proto::control::types::{Direction, TransferState};
use kith_proto::control::{ApiError, Code};
use kith_proto::id::PublicKey;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::book::Record;
use super::state::Key;
use super::{Engine, send};
use crate::clock;
use crate::discovery;

const FIRST_PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(300);
/// Transfers that move to one peer at once; those that wait for an answer do not count.
const PARALLEL: usize = 4;
/// Connections to one peer at once.
const CONNECTIONS: usize = 64;
/// Expiry is looked at this often.
const HOUR: Duration = Duration::from_secs(3600);

/// Who is dialled when.
#[derive(Default)]
pub struct Outbox {
    wake: Notify,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    running: HashSet<Key>,
    pauses: HashMap<PublicKey, Pause>,
}

/// A peer that could not be reached.
struct Pause {
    length: Duration,
    until: Instant,
    /// Where it was thought to be then: elsewhere is worth a try at once.
    seen: Option<discovery::Sighting>,
}

impl Outbox {
    /// There is something new to do.
    pub fn kick(&self) {
        self.wake.notify_one();
    }

    /// There is a reason to try a peer again now.
    pub fn forgive(&self, peer: &PublicKey) {
        self.lock().pauses.remove(peer);
        self.kick();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Runs until the daemon stops.
pub async fn run(engine: Arc<Engine>) {
    let mut sightings = engine.discovery.watch();
    loop {
        let next = step(&engine).await;
        tokio::select! {
            () = engine.tasks.stopping().cancelled() => return,
            () = engine.outbox.wake.notified() => {}
            changed = sightings.changed() => if changed.is_err() { return },
            () = tokio::time::sleep_until(next) => {}
        }
    }
}

/// Starts what is due; says when to look again.
async fn step(engine: &Arc<Engine>) -> Instant {
    let now = Instant::now();
    let mut next = now + HOUR;
    expire(engine).await;
    for key in engine.book.keys(is_due) {
        let mut state = engine.outbox.lock();
        let same_peer = || state.running.iter().filter(|it| it.peer == key.peer);
        let moving = same_peer().filter(|it| engine.book.state(it) == Some(TransferState::Active)).count();
        if state.running.contains(&key) || moving >= PARALLEL || same_peer().count() >= CONNECTIONS {
            continue;
        }
        let seen = sighting(engine, &key.peer);
        if let Some(pause) = state.pauses.get(&key.peer)
            && pause.until > now
            && pause.seen == seen
        {
            next = next.min(pause.until);
            continue;
        }
        state.running.insert(key.clone());
        drop(state);
        let engine = engine.clone();
        engine.tasks.clone().spawn("send", async move { attempt(&engine, &key).await });
    }
    next
}

/// One connection's worth of work, and what follows from how it went.
async fn attempt(engine: &Arc<Engine>, key: &Key) {
    let went = send::run(engine, key).await;
    let seen = sighting(engine, &key.peer);
    {
        let mut state = engine.outbox.lock();
        state.running.remove(key);
        match went {
            send::Went::Over => {
                state.pauses.remove(&key.peer);
            }
            send::Went::Broken { moved } => {
                let before = state.pauses.get(&key.peer).filter(|_| !moved).map(|pause| pause.length);
                let length = before.map_or(FIRST_PAUSE, |length| (length * 2).min(LONGEST_PAUSE));
                state.pauses.insert(key.peer, Pause { length, until: Instant::now() + length, seen });
            }
        }
    }
    engine.outbox.kick();
}

async fn expire(engine: &Engine) {
    let now = clock::now_ms();
    let waiting = |record: &Record| {
        matches!(record.state, TransferState::Queued | TransferState::Offered) && record.expires_ms < now
    };
    for key in engine.book.keys(waiting) {
        if engine.book.is_busy(&key) && key.direction == Direction::Out {
            continue;
        }
        engine.book.interrupt(&key);
        engine.streams.forget(&key);
        let reason = ApiError::new(Code::TimedOut, "nobody took it in time").hint("kithctl transfers retry ID");
        if let Err(error) = engine.book.fail(&key, reason).await {
            tracing::error!(%error, "cannot end a transfer");
        }
    }
}

fn is_due(record: &Record) -> bool {
    record.direction == Direction::Out
        && match record.state {
            TransferState::Queued | TransferState::Offered => true,
            TransferState::Canceled => !record.told,
            _ => false,
        }
}

fn sighting(engine: &Engine, peer: &PublicKey) -> Option<discovery::Sighting> {
    engine.discovery.snapshot().get(&peer.device_id()).cloned()
}
