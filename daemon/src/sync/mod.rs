//! Journals: kept here, and kept the same on other devices, in the background.
//!
//! ```text
//! book       what is written down
//! journals   what the local door asks of journals and their members
//! entries    … and of entries
//! staged     bodies that come in pieces from there
//! resources  what codes need: letting many in at once, and entering what others share
//! news       when what is new of a journal is told
//! view       how all this is shown
//! schedule   when to sync with whom
//! calls      sessions: how they begin, how they end, what is told of them
//! lines      one session a peer: who dials, and whose call is kept
//! session    one session, from its first frame to its last
//! witness    what remembers outside the database how far it was
//! ```
//!
//! The rules are in `kith_proto::peer::journal`. Here is what they need: a database, a clock, connections, and reasons
//! to begin.

mod book;
mod calls;
mod entries;
mod journals;
mod lines;
mod news;
mod resources;
mod schedule;
mod session;
mod staged;
mod view;
mod witness;

use std::collections::{BTreeSet, HashMap};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use kith_proto::control::ApiError;
use kith_proto::control::journal::PeerSync;
use kith_proto::control::types::{Failure, PeerRef, Relation};
use kith_proto::id::PublicKey;
use kith_proto::peer::journal::replica::Shelf;
use kith_proto::peer::journal::version::JournalId;
use kith_proto::peer::reconcile::Element;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use crate::dial::Dial;
use crate::discovery::Discovery;
use crate::event::Events;
use crate::identity::Identity;
use crate::store::{self, Store};
use crate::task::Tasks;
use crate::tls::Channel;
use crate::trust::{self, Device, Trust};
use book::{Book, Circle, State};
use lines::Lines;
use news::News;
use schedule::{Bond, Schedule};
use session::now_ms;
use witness::Witness;

pub use entries::{Changes, Put};
pub use resources::{Admission, Entered, Standing};

/// Deletions and old versions are looked through this often.
const HOUSEKEEPING: Duration = Duration::from_secs(3600);
/// Whoever asks whether all is well waits no longer than this.
const VERIFY: Duration = Duration::from_millis(300);
/// Rows that are deleted at once.
const SWEPT: usize = 2_000;

/// Everything that syncing works with.
pub struct Parts {
    /// The directory of the database.
    pub data: PathBuf,
    /// This device.
    pub identity: Arc<Identity>,
    /// Whom to sync with.
    pub trust: Trust,
    /// Who is there.
    pub discovery: Discovery,
    /// The way out.
    pub dial: Dial,
    /// Where it is told.
    pub events: Events,
    /// Where it is written down.
    pub store: Store,
    /// Who runs the sessions.
    pub tasks: Tasks,
}

/// The journals of this device.
#[derive(Clone)]
pub struct Sync(Arc<Engine>);

struct Engine {
    identity: Arc<Identity>,
    trust: Trust,
    discovery: Discovery,
    dial: Dial,
    events: Events,
    store: Store,
    tasks: Tasks,
    witness: Mutex<Witness>,
    schedule: Mutex<Schedule>,
    /// With what it was put together from.
    circle: Mutex<Option<(Arc<trust::Snapshot>, Arc<Circle>)>>,
    news: Mutex<News>,
    /// Why sessions failed, where that could not be written down.
    unwritten: Mutex<HashMap<PublicKey, Failure>>,
    wake: Notify,
    lines: Lines,
    staged: staged::Staged,
    /// Counts the times that entries changed, for those who follow them.
    changes: watch::Sender<u64>,
}

impl Sync {
    /// Looks at what is written down, and begins to keep it the same.
    pub async fn start(parts: Parts) -> Result<Self, store::Error> {
        let Parts { data, identity, trust, discovery, dial, events, store, tasks } = parts;
        let witness = Witness::open(data.join("journals.witness"));
        let circle = circle(&identity, &trust.snapshot());
        let witness = store
            .write(move |tx| {
                let mut book = Book::new(tx, &circle)?;
                book.ensure_default(now_ms())?;
                let top = Shelf::top(&mut book)?;
                if witness.went_back(&Shelf::epoch(&book), top) {
                    // Also at the first start, when there is no witness yet.
                    if top > 0 {
                        tracing::warn!(
                            "the database of the journals went back in time: others are asked for what is missing"
                        );
                    }
                    book.begin_epoch()?;
                }
                Ok(witness)
            })
            .await?;
        let engine = Arc::new(Engine {
            identity,
            trust,
            discovery,
            dial,
            events,
            store,
            tasks,
            witness: Mutex::new(witness),
            schedule: Mutex::default(),
            circle: Mutex::default(),
            news: Mutex::default(),
            unwritten: Mutex::default(),
            wake: Notify::new(),
            lines: Lines::default(),
            staged: staged::Staged::default(),
            changes: watch::Sender::new(0),
        });
        engine.remember().await;
        engine.tasks.spawn("sync", run(engine.clone()));
        Ok(Self(engine))
    }

    /// A connection that another trusted device made.
    pub async fn serve(&self, channel: Channel) {
        let engine = &self.0;
        match engine.lines.answer(&engine.identity.public(), &channel.peer, Instant::now()) {
            Some(line) => engine.clone().answer(channel, line).await,
            None => calls::refuse(channel).await,
        }
    }

    /// Begins to sync with one device, or with all that can be reached; with whom.
    pub async fn begin(&self, peer: Option<PublicKey>) -> Result<Vec<PeerSync>, ApiError> {
        let engine = &self.0;
        let peers: BTreeSet<_> = {
            let mut schedule = engine.schedule();
            let peers = peer.map_or_else(|| schedule.in_sight(), |peer| vec![peer]);
            peers.iter().for_each(|peer| schedule.asked(peer, Instant::now()));
            peers.into_iter().collect()
        };
        engine.wake.notify_one();
        let all = engine.statuses().await?;
        Ok(all.into_iter().filter(|(peer, _)| peers.contains(peer)).map(|(_, status)| status).collect())
    }

    /// How syncing is with each trusted device.
    pub async fn status(&self) -> Result<Vec<PeerSync>, ApiError> {
        Ok(self.0.statuses().await?.into_iter().map(|(_, status)| status).collect())
    }

    /// Counts what lies in the journals anew and compares it with what is kept of it; faults, and how many entries there
    /// was time for.
    pub async fn verify(&self) -> Result<(Vec<String>, u64), ApiError> {
        let deadline = Instant::now() + VERIFY;
        let (mut faults, mut entries) = (Vec::new(), 0);
        for journal in self.0.read(|book| book.journals()).await? {
            let mut from = Some(Element::FIRST);
            while let Some(start) = from.filter(|_| Instant::now() < deadline) {
                let id = journal.id;
                let found = self.0.read(move |book| book.replica(&id)?.verify(&start)).await?;
                faults.extend(found.faults.into_iter().map(|fault| format!("{}: {fault}", journal.name)));
                entries += found.entries;
                from = found.next;
            }
        }
        Ok((faults, entries))
    }
}

/// The task that begins sessions.
async fn run(engine: Arc<Engine>) {
    let mut trust = engine.trust.watch();
    let mut sightings = engine.discovery.watch();
    let mut housekeeping = Instant::now() + HOUSEKEEPING / 60;
    engine.follow_trust(true);
    engine.follow_sightings();
    loop {
        let now = Instant::now();
        if now >= housekeeping {
            // Sessions do not wait for it.
            let engine = engine.clone();
            engine.tasks.clone().spawn("journal housekeeping", async move { engine.keep_house().await });
            housekeeping = now + HOUSEKEEPING;
        }
        let due = engine.schedule().take(now);
        for (peer, trigger) in due {
            let engine = engine.clone();
            engine.tasks.clone().spawn("sync session", async move {
                engine.clone().call(peer, trigger).await;
                engine.begun(&peer);
            });
        }
        let next = engine.schedule().next().map_or(housekeeping, |next| next.min(housekeeping));
        tokio::select! {
            () = engine.tasks.stopping().cancelled() => return,
            () = engine.wake.notified() => {}
            changed = sightings.changed() => {
                if changed.is_err() {
                    return;
                }
                sightings.borrow_and_update();
                engine.follow_sightings();
            }
            changed = trust.changed() => {
                if changed.is_err() {
                    return;
                }
                trust.borrow_and_update();
                engine.follow_trust(false);
                engine.follow_sightings();
            }
            () = tokio::time::sleep_until(next) => {}
        }
    }
}

impl Engine {
    fn schedule(&self) -> MutexGuard<'_, Schedule> {
        self.schedule.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whom this device knows now. With thousands of them it is put together once for each change of trust, not for each
    /// look into the book.
    fn circle(&self) -> Arc<Circle> {
        let snapshot = self.trust.snapshot();
        let mut kept = self.circle.lock().unwrap_or_else(PoisonError::into_inner);
        match &*kept {
            Some((of, circle)) if Arc::ptr_eq(of, &snapshot) => circle.clone(),
            _ => {
                let new = Arc::new(circle(&self.identity, &snapshot));
                *kept = Some((snapshot, new.clone()));
                new
            }
        }
    }

    /// A session that was taken from the schedule has begun, or is over.
    fn begun(&self, peer: &PublicKey) {
        self.schedule().begun(peer);
        self.wake.notify_one();
    }

    /// What this device is called.
    fn this(&self) -> PeerRef {
        PeerRef { id: self.identity.id(), name: self.identity.name().to_owned() }
    }

    /// Runs `work` on the book in a transaction.
    async fn write<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Book<'_>) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, store::Error> {
        let circle = self.circle();
        self.store.write(move |tx| work(&mut Book::new(tx, &circle)?)).await
    }

    /// Runs `work`, which only reads.
    async fn read<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Book<'_>) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, store::Error> {
        let circle = self.circle();
        self.store.read(move |connection| work(&mut Book::new(connection, &circle)?)).await
    }

    /// Plans for those who are trusted now, and ends sessions with those who are not.
    fn follow_trust(&self, at_start: bool) {
        let snapshot = self.trust.snapshot();
        let trusted = snapshot.devices.values().filter(|device| device.is_trusted());
        let bond = |device: &Device| match (device.relation, device.calls) {
            (Relation::Own, _) => Bond::Own,
            (_, true) => Bond::Caller,
            _ => Bond::Guest,
        };
        let trusted: Vec<_> = trusted.map(|device| (device.key, bond(device))).collect();
        // First, so that a session that ends knows whether another one follows.
        self.schedule().trust(&trusted, Instant::now(), at_start);
        self.lines.end_unless(|peer, own| {
            let is_own = snapshot.trusted(peer).map(|device| device.relation == Relation::Own);
            is_own.is_some_and(|is_own| own.is_none_or(|own| own == is_own))
        });
    }

    fn follow_sightings(&self) {
        let (seen, trust, now) = (self.discovery.snapshot(), self.trust.snapshot(), Instant::now());
        let mut schedule = self.schedule();
        for device in trust.devices.values().filter(|device| device.is_trusted()) {
            let online = seen.peers.get(&device.key.device_id()).is_some_and(|sighting| sighting.online);
            schedule.sighted(&device.key, online, now);
        }
    }

    async fn statuses(&self) -> Result<Vec<(PublicKey, PeerSync)>, ApiError> {
        let trust = self.trust.snapshot();
        let trusted = trust.devices.values().filter(|device| device.is_trusted());
        let states: Vec<_> = {
            let schedule = self.schedule();
            trusted.map(|device| (device.key, schedule.state(&device.key))).collect()
        };
        let mut statuses = self.read(move |book| view::statuses(book, &trust, &states)).await?;
        let unwritten = self.unwritten.lock().unwrap_or_else(PoisonError::into_inner);
        for (peer, status) in &mut statuses {
            if let Some(why) = unwritten.get(peer) {
                status.error = Some(why.clone());
            }
        }
        drop(unwritten);
        Ok(statuses)
    }

    /// Entries of these journals changed, here or by `from`: others are to have that, too.
    async fn entries_changed(&self, journals: Vec<JournalId>, from: Option<PublicKey>) {
        self.changes.send_modify(|count| *count += 1);
        let members = self.read(move |book| {
            let mut members = BTreeSet::new();
            for journal in journals {
                members.extend(book.journal(&journal)?.map_or(Ok(Vec::new()), |journal| book.others(&journal))?);
            }
            Ok(members)
        });
        match members.await {
            Ok(members) => {
                let others = members.iter().filter(|member| Some(**member) != from);
                self.schedule().changed(others, Instant::now());
                self.wake.notify_one();
            }
            Err(error) => tracing::error!(%error, "cannot see who shares a journal"),
        }
    }

    /// Remembers outside the database what others are about to learn of.
    async fn remember(self: &Arc<Self>) {
        let place = self.read(|book| Ok((Shelf::epoch(book), Shelf::top(book)?))).await;
        let this = self.clone();
        let noted = match place {
            Ok((epoch, top)) => {
                let noting = move || this.witness.lock().unwrap_or_else(PoisonError::into_inner).note(epoch, top);
                self.tasks.blocking(noting).await.map_err(|error| error.to_string())
            }
            Err(error) => Err(error.to_string()),
        };
        if let Err(error) = noted {
            tracing::warn!(error, "cannot write down how far the journals are: a restored backup may go unnoticed");
        }
    }

    /// Deletes what was in journals that were left.
    async fn sweep_rubbish(&self) -> Result<(), store::Error> {
        while !self.tasks.stopping().is_cancelled() && self.write(|book| book.sweep_rubbish(SWEPT)).await? {}
        Ok(())
    }

    /// Forgets what nobody needs any more, a little at a time: the database is for others, too.
    async fn keep_house(&self) {
        let kept = async {
            self.sweep_rubbish().await?;
            while self.write(|book| book.sweep_history(now_ms(), SWEPT)).await? {}
            self.write(|book| book.sweep_pieces(now_ms())).await?;
            for journal in self.read(|book| book.journals()).await? {
                let collect = || {
                    let journal = journal.clone();
                    self.write(move |book| {
                        let others = book.others(&journal)?;
                        book.replica(&journal.id)?.collect(&others, now_ms())
                    })
                };
                while journal.state == State::Active && collect().await?.is_some() {}
            }
            Ok::<_, store::Error>(())
        };
        if let Err(error) = kept.await {
            tracing::error!(%error, "cannot look through the journals");
        }
    }
}

/// Whom this device knows.
fn circle(identity: &Identity, trust: &trust::Snapshot) -> Circle {
    let trusted = || trust.devices.values().filter(|device| device.is_trusted());
    Circle {
        device: identity.public(),
        own: trusted().filter(|device| device.relation == Relation::Own).map(|device| device.key).collect(),
        names: trusted().map(|device| (device.key, device.shown_name().to_owned())).collect(),
    }
}
