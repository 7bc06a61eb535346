//! Sharing codes (seed 002): devices become members of a resource without anybody at the issuer's keyboard.
//!
//! ```text
//! issue     making a code, ending it, and what is known of it
//! serve     kith-join/1: one JOIN, one RESULT, and how many may try
//! accept    who is let in: the decision, within one transaction
//! requests  those that somebody has to say yes to
//! publish   payloads on their way to hello stores, and away from there
//! view      how all this is shown, and told at most once a second
//! book      what is written down
//! join      the other side: entering codes of others
//! ```
//!
//! A code is never kept: what is written down opens nothing without it. Whether it is used up or over is decided by
//! this device's counter and clock alone, and what somebody was told stays so.

mod accept;
mod book;
mod issue;
mod join;
mod publish;
mod requests;
mod serve;
mod view;

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use kith_proto::limits;
use tokio::sync::{Semaphore, mpsc};

use crate::clock;
use crate::config::Settings;
use crate::dial::Dial;
use crate::discovery::Discovery;
use crate::event::Events;
use crate::hello_store::Hello;
use crate::identity::Identity;
use crate::store::{self, Store};
use crate::sync::Sync;
use crate::task::Tasks;
use crate::trust::Trust;
use book::Book;
use publish::Publisher;
use serve::Proofs;
use view::Teller;

pub use join::{Joins, Parts as JoinParts};

/// What is over for long is looked for this often …
const HOUSEKEEPING: Duration = Duration::from_secs(3600);
/// … and has to be found so many times in a row: a clock may be wrong for some hours.
const ROUNDS: u32 = 24;

/// Everything that codes work with.
pub struct Parts {
    /// Where payloads are brought to.
    pub settings: Settings,
    /// This device.
    pub identity: Arc<Identity>,
    /// Who comes by a code is trusted.
    pub trust: Trust,
    /// Where this device is; who was let in is there.
    pub discovery: Discovery,
    /// The way to hello stores.
    pub dial: Dial,
    /// This device's own.
    pub hello: Hello,
    /// Whoever comes by a code takes part in a journal.
    pub sync: Sync,
    /// Where it is told.
    pub events: Events,
    /// Where it is written down.
    pub store: Store,
    /// Who runs it.
    pub tasks: Tasks,
    /// The port that joiners dial.
    pub peer_port: u16,
}

/// The codes that this device issued.
#[derive(Clone)]
pub struct Codes(Arc<Engine>);

struct Engine {
    stores: Vec<String>,
    identity: Arc<Identity>,
    trust: Trust,
    discovery: Discovery,
    sync: Sync,
    store: Store,
    tasks: Tasks,
    peer_port: u16,
    hello: Hello,
    publisher: Publisher,
    teller: Teller,
    /// Wrong proofs, by where they came from.
    proofs: Proofs,
    /// Places of those who wait for their RESULT.
    places: Arc<Semaphore>,
    queue: mpsc::Sender<serve::Waiting>,
}

impl Codes {
    /// Begins to publish what is written down, and to decide on those who come.
    pub fn start(parts: Parts) -> Self {
        let stores = Arc::new(parts.dial.clone());
        Self::begin(parts, stores, publish::USUAL)
    }

    fn begin(parts: Parts, stores: Arc<dyn publish::Stores>, pace: publish::Pace) -> Self {
        let Parts { settings, identity, trust, discovery, hello, sync, events, store, tasks, peer_port, .. } = parts;
        let (queue, waiting) = mpsc::channel(limits::JOIN_QUEUE);
        let engine = Arc::new(Engine {
            stores: settings.config.hello.stores.clone(),
            hello,
            publisher: Publisher::default(),
            teller: Teller::new(events, store.clone(), trust.clone()),
            identity,
            trust,
            discovery,
            sync,
            store: store.clone(),
            tasks: tasks.clone(),
            peer_port,
            proofs: Proofs::default(),
            places: Arc::new(Semaphore::new(limits::JOIN_QUEUE)),
            queue,
        });
        tasks.spawn("join decisions", serve::run(engine.clone(), waiting));
        tasks.spawn("code events", view::run(engine.clone()));
        tasks.spawn("code publications", publish::run(engine.clone(), stores, pace));
        tasks.spawn("code housekeeping", keep_house(store, tasks.clone()));
        Self(engine)
    }
}

/// Forgets codes that are over for long.
async fn keep_house(store: Store, tasks: Tasks) {
    loop {
        tokio::select! {
            () = tasks.stopping().cancelled() => return,
            () = tokio::time::sleep(HOUSEKEEPING) => {}
        }
        match store.write(|tx| Book(tx).sweep(clock::now_ms(), ROUNDS)).await {
            Ok(0) | Err(store::Error::Closed) => {}
            Ok(count) => tracing::info!(count, "old sharing codes are forgotten"),
            Err(error) => tracing::error!(%error, "cannot forget old sharing codes; it is tried again later"),
        }
    }
}

/// An id that no code and no request has: 8 hex digits.
fn new_id(book: &Book<'_>) -> rusqlite::Result<String> {
    loop {
        let mut random = [0; 4];
        fill(&mut random);
        let id = data_encoding::HEXLOWER.encode(&random);
        if !book.is_taken(&id)? {
            return Ok(id);
        }
    }
}

fn fill(bytes: &mut [u8]) {
    getrandom::fill(bytes).expect("the system gave random bytes when the daemon started");
}
