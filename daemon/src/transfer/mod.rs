//! Sending and receiving between paired devices.
//!
//! ```text
//! book      what is written down
//! state     what is known of each transfer now, and how it is told
//! prepare   what is sent: walking directories, texts
//! spool     streams that come piece by piece, and where they lie meanwhile
//! outbox    when to dial whom
//! send      the sender's session       read    its blocking half: files into frames
//! receive   the receiver's session     write   its blocking half: frames into files
//! plan      what of an offer is there already
//! parts     how far files are that are not complete, for resuming
//! policy    what becomes of an offer without asking
//! ```
//!
//! A transfer is a noun with an id and a state; one connection at a time works on it, and any step may be the last one
//! before a kill: what is written down is what is durable.

mod book;
mod outbox;
mod parts;
mod plan;
mod policy;
mod prepare;
mod read;
mod receive;
mod send;
mod spool;
mod state;
mod write;

use std::path::PathBuf;
use std::sync::Arc;

use kith_proto::control::types::{Conflict, Direction, Transfer, TransferState};
use kith_proto::control::{ApiError, Code};
use kith_proto::id::PublicKey;
use tokio_util::sync::CancellationToken;

use crate::config::Settings;
use crate::dial::Dial;
use crate::discovery::Discovery;
use crate::event::Events;
use crate::files;
use crate::identity::Identity;
use crate::store::{self, Store};
use crate::task::Tasks;
use crate::tls::Channel;
use crate::trust::Trust;
use state::{Book, Key};

/// What is sent.
pub enum Content {
    /// Files and directories, by absolute path.
    Paths(Vec<PathBuf>),
    /// A file of this name whose content follows by [`Transfers::feed`].
    Stream(String),
    /// A text.
    Text(String),
}

/// What to send, to whom, and with whose rights.
pub struct SendRequest {
    /// A trusted device.
    pub peer: PublicKey,
    /// What.
    pub content: Content,
    /// What to call it.
    pub title: Option<String>,
    /// User and groups with whose rights files are read, where they are not the daemon's own.
    pub caller: Option<(u32, Vec<u32>)>,
}

/// Everything that transfers work with.
pub struct Parts {
    /// Directories, days, hook.
    pub settings: Settings,
    /// This device.
    pub identity: Arc<Identity>,
    /// Whom to believe, and their policies.
    pub trust: Trust,
    /// Who is there.
    pub discovery: Discovery,
    /// The way out.
    pub dial: Dial,
    /// Where progress is told.
    pub events: Events,
    /// Where it is written down.
    pub store: Store,
    /// Who runs the sessions.
    pub tasks: Tasks,
}

/// The transfers of this device.
#[derive(Clone)]
pub struct Transfers(Arc<Engine>);

struct Engine {
    settings: Settings,
    identity: Arc<Identity>,
    trust: Trust,
    discovery: Discovery,
    dial: Dial,
    tasks: Tasks,
    book: Book,
    outbox: outbox::Outbox,
    streams: spool::Streams,
}

impl Transfers {
    /// Reads what is written down, and goes on with it.
    pub async fn start(parts: Parts) -> Result<Self, store::Error> {
        let Parts { settings, identity, trust, discovery, dial, events, store, tasks } = parts;
        let book = Book::open(store, events, trust.clone()).await?;
        let streams = spool::Streams::new(settings.paths.data.join("spool"));
        let outbox = outbox::Outbox::default();
        let engine = Engine { settings, identity, trust, discovery, dial, tasks, book, outbox, streams };
        let transfers = Self(Arc::new(engine));
        let needed = transfers.0.book.keys(|record| record.direction == Direction::Out);
        transfers.0.streams.sweep(|id| needed.iter().any(|key| key.id == id));
        transfers.0.tasks.spawn("outbox", outbox::run(transfers.0.clone()));
        transfers.0.tasks.spawn("revocations", end_with_trust(transfers.0.clone()));
        Ok(transfers)
    }

    /// Starts sending. A stream that is not finished ends with `connection`.
    pub async fn send(&self, request: SendRequest, connection: CancellationToken) -> Result<Transfer, ApiError> {
        prepare::begin(&self.0, request, connection).await
    }

    /// Takes the next piece of a stream; says how much there is now.
    pub async fn feed(&self, wanted: &str, data: Vec<u8>, end: bool) -> Result<u64, ApiError> {
        let key = self.0.book.find(wanted)?;
        spool::feed(&self.0, &key, data, end).await
    }

    /// Every transfer that is remembered, newest first.
    pub fn all(&self) -> Vec<Transfer> {
        self.0.book.views(|_| true)
    }

    /// Transfers that are not over, newest first.
    pub fn unfinished(&self) -> Vec<Transfer> {
        self.0.book.views(|record| !record.state.is_final())
    }

    /// Offers that wait for an answer, newest first.
    pub fn inbox(&self) -> Vec<Transfer> {
        self.0.book.views(|record| record.direction == Direction::In && record.state == TransferState::Offered)
    }

    /// One transfer, by its id or a unique prefix.
    pub fn show(&self, wanted: &str) -> Result<Transfer, ApiError> {
        self.0.book.view(&self.0.book.find(wanted)?)
    }

    /// Calls a transfer off.
    pub async fn cancel(&self, wanted: &str) -> Result<Transfer, ApiError> {
        let key = self.0.book.find(wanted)?;
        let view = self.0.book.view(&key)?;
        match view.state {
            TransferState::Canceled => return Ok(view),
            // It could be tried again; whoever calls it off wants what it left behind to go.
            TransferState::Failed => {}
            state if state.is_final() => {
                return Err(ApiError::new(Code::WrongState, "this transfer is over"));
            }
            _ => {}
        }
        self.0.cancel(&key).await.map_err(ApiError::from)?;
        self.0.book.view(&key)
    }

    /// Tries a transfer again that failed or was called off on this side.
    pub async fn retry(&self, wanted: &str) -> Result<Transfer, ApiError> {
        let key = self.0.book.find(wanted)?;
        prepare::retry(&self.0, &key).await
    }

    /// Accepts an offer. `dir` and `on_conflict` go before the policy's.
    pub async fn accept(
        &self,
        wanted: &str,
        dir: Option<String>,
        on_conflict: Option<Conflict>,
    ) -> Result<Transfer, ApiError> {
        let key = self.0.waiting_offer(wanted)?;
        let dir = dir.map(PathBuf::from);
        if dir.as_ref().is_some_and(|dir| !dir.is_absolute()) {
            return Err(ApiError::new(Code::InvalidParam, "dir must be an absolute path"));
        }
        policy::accept(&self.0, &key, dir, on_conflict).await?;
        self.0.book.view(&key)
    }

    /// Rejects an offer.
    pub async fn reject(&self, wanted: &str) -> Result<Transfer, ApiError> {
        let key = self.0.waiting_offer(wanted)?;
        self.0.book.set(&key, |record| record.state = TransferState::Rejected).await.map_err(ApiError::from)?;
        self.0.book.view(&key)
    }

    /// Bytes that are free where files are received.
    pub async fn room(&self) -> Result<u64, files::Error> {
        let dir = self.0.settings.paths.downloads.clone();
        self.0.tasks.blocking(move || files::Tree::open(&dir).and_then(|tree| tree.free_bytes())).await
    }

    /// A connection that another trusted device made.
    pub async fn receive(&self, channel: Channel) {
        receive::run(&self.0, channel).await;
    }
}

impl Engine {
    fn waiting_offer(&self, wanted: &str) -> Result<Key, ApiError> {
        let key = self.book.find_among(wanted, Some(Direction::In))?;
        if self.book.state(&key) == Some(TransferState::Offered) {
            return Ok(key);
        }
        Err(ApiError::new(Code::WrongState, "this offer was answered already"))
    }

    /// Ends a transfer for good, here at once and there as soon as it can be told.
    async fn cancel(&self, key: &Key) -> Result<(), state::Error> {
        let was = self.book.state(key);
        let never_offered = was == Some(TransferState::Preparing);
        self.book
            .set(key, |record| {
                record.state = TransferState::Canceled;
                record.told = record.direction == Direction::In || never_offered;
            })
            .await?;
        self.book.interrupt(key);
        self.streams.forget(key);
        match key.direction {
            Direction::In if was != Some(TransferState::Offered) => self.clean_up(key).await?,
            Direction::In => {}
            Direction::Out => self.outbox.kick(),
        }
        Ok(())
    }

    /// Removes what a transfer that was called off made and did not finish: parts, and directories that are empty.
    async fn clean_up(&self, key: &Key) -> Result<(), state::Error> {
        // Whoever works on it lets go of its files first.
        let _session = self.book.session(key).await;
        let Some(record) = self.book.record(key) else { return Ok(()) };
        let journals = parts::Journals::of(&self.settings.paths.data, key);
        let Some(dir) = record.dir.clone() else { return Ok(()) };
        let mut from = 0;
        loop {
            let page = self.book.store.read(move |c| book::page(c, record.number, from, true)).await?;
            let Some(last) = page.last() else { break };
            from = last.item.index + 1;
            let (dir, tags) = (dir.clone(), journals.clone());
            self.tasks.blocking(move || write::remove_parts(&dir, &tags, &page)).await;
        }
        let made = self.book.store.read(move |c| book::made_dirs(c, record.number)).await?;
        self.tasks
            .blocking(move || {
                if let Ok(tree) = files::Tree::open(&dir) {
                    for path in &made {
                        let _ = tree.remove_empty_dir(path);
                    }
                }
                journals.remove_all();
            })
            .await;
        Ok(())
    }
}

/// Ends sessions with devices that are not trusted any more, at once.
async fn end_with_trust(engine: Arc<Engine>) {
    let mut trust = engine.trust.watch();
    loop {
        tokio::select! {
            () = engine.tasks.stopping().cancelled() => return,
            changed = trust.changed() => if changed.is_err() { return },
        }
        let snapshot = trust.borrow_and_update().clone();
        for key in engine.book.keys(|record| !record.state.is_final() && snapshot.trusted(&record.peer).is_none()) {
            let reason = ApiError::new(Code::NotTrusted, "this device does not trust the other one any more");
            engine.book.interrupt(&key);
            engine.streams.forget(&key);
            if let Err(error) = engine.book.fail(&key, reason).await {
                tracing::error!(%error, "cannot end a transfer");
            }
        }
    }
}
