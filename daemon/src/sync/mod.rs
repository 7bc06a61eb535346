//! Journals: kept here, and kept the same on other devices, in the background.
//!
//! ```text
//! book       what is written down
//! journals   what the local door asks of journals and their members
//! entries    … and of entries
//! staged     bodies that come in pieces from there
//! view       how all this is shown
//! schedule   when to sync with whom
//! lines      one session a peer: who dials, and whose call is kept
//! session    one session, from its first frame to its last
//! witness    what remembers outside the database how far it was
//! ```
//!
//! The rules are in `kith_proto::peer::journal`. Here is what they need: a database, a clock, connections, and reasons
//! to begin.

mod book;
mod entries;
mod journals;
mod lines;
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
use kith_proto::control::event::Fact;
use kith_proto::control::journal::{PeerSync, Refusal, SyncSession};
use kith_proto::control::types::{Failure, PeerRef, Relation};
use kith_proto::id::PublicKey;
use kith_proto::peer::Alpn;
use kith_proto::peer::journal::replica::Shelf;
use kith_proto::peer::journal::session::{Fault, Report};
use kith_proto::peer::journal::version::JournalId;
use kith_proto::peer::journal::wire::{self, Message};
use kith_proto::peer::reconcile::Element;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use crate::dial::{self, Dial};
use crate::discovery::Discovery;
use crate::event::Events;
use crate::identity::Identity;
use crate::store::{self, Store};
use crate::task::Tasks;
use crate::tls::Channel;
use crate::trust::{self, Trust};
use book::{Book, Circle, State};
use lines::{Line, Lines};
use schedule::{Schedule, Trigger, Went};
use session::{Error, Tally, now_ms};
use witness::Witness;

pub use entries::{Changes, Put};

/// Deletions and old versions are looked through this often.
const HOUSEKEEPING: Duration = Duration::from_secs(3600);
/// Whoever asks whether all is well waits no longer than this.
const VERIFY: Duration = Duration::from_millis(300);
/// Old versions that are forgotten at once.
const SWEPT: usize = 10_000;
/// Clocks that differ by more than this deserve a word; by more than a day, a loud one.
const SKEW_MS: u64 = 300_000;
const DAY_MS: u64 = 86_400_000;

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
        match engine.lines.answer(&engine.identity.public(), &channel.peer) {
            Some(line) => engine.clone().talk(channel, line, Trigger::Called).await,
            None => refuse(channel).await,
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
    loop {
        engine.follow_sightings();
        let now = Instant::now();
        if now >= housekeeping {
            engine.keep_house().await;
            housekeeping = now + HOUSEKEEPING;
        }
        let due = engine.schedule().take(now);
        for (peer, trigger) in due {
            let engine = engine.clone();
            engine.tasks.clone().spawn("sync session", async move { engine.call(peer, trigger).await });
        }
        let next = engine.schedule().next().map_or(housekeeping, |next| next.min(housekeeping));
        tokio::select! {
            () = engine.tasks.stopping().cancelled() => return,
            () = engine.wake.notified() => {}
            changed = sightings.changed() => if changed.is_err() { return },
            changed = trust.changed() => {
                if changed.is_err() {
                    return;
                }
                trust.borrow_and_update();
                engine.follow_trust(false);
            }
            () = tokio::time::sleep_until(next) => {}
        }
    }
}

impl Engine {
    fn schedule(&self) -> MutexGuard<'_, Schedule> {
        self.schedule.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn circle(&self) -> Arc<Circle> {
        Arc::new(circle(&self.identity, &self.trust.snapshot()))
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
        let trusted: Vec<_> = trusted.map(|device| (device.key, device.relation == Relation::Own)).collect();
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

    /// Dials a device and syncs with it.
    async fn call(self: Arc<Self>, peer: PublicKey, trigger: Trigger) {
        let Some(line) = self.lines.dial(&peer) else {
            // The other side was faster.
            return match trigger {
                Trigger::Asked => self.schedule().asked(&peer, Instant::now()),
                _ => self.schedule().changed([&peer], Instant::now()),
            };
        };
        self.schedule().began(&peer);
        let dialled = tokio::select! {
            () = line.stop.cancelled() => Err(None),
            () = self.tasks.stopping().cancelled() => Err(None),
            dialled = self.dial.device(&peer, Alpn::Sync) => dialled.map_err(Some),
        };
        match dialled {
            Ok(channel) => self.clone().talk_on(channel, line, trigger).await,
            Err(None) => {
                let went = self.called_off(&line);
                let failure = Some(Failure::from(ApiError::from(Error::CalledOff)));
                let told = self.outcome(&peer, true, trigger, Instant::now(), Tally::default(), failure);
                self.end(&peer, trigger, went, Some(told)).await;
            }
            Err(Some(error)) => {
                let quiet = matches!(error, dial::Error::Offline(_)) && trigger != Trigger::Asked;
                let failure = Failure::from(ApiError::from(error));
                if !quiet {
                    self.note(&peer, &Tally::default(), Went::Badly, Some(failure.clone())).await;
                }
                let told = self.outcome(&peer, true, trigger, Instant::now(), Tally::default(), Some(failure));
                self.end(&peer, trigger, Went::Badly, (!quiet).then_some(told)).await;
            }
        }
    }

    /// Syncs on a connection that was just made to this device.
    async fn talk(self: Arc<Self>, channel: Channel, line: Line, trigger: Trigger) {
        self.schedule().began(&channel.peer);
        self.talk_on(channel, line, trigger).await;
    }

    async fn talk_on(self: Arc<Self>, mut channel: Channel, line: Line, trigger: Trigger) {
        let (peer, begun, dialled) = (channel.peer, Instant::now(), trigger != Trigger::Called);
        let circle = self.circle();
        line.began_with(circle.own.contains(&peer));
        self.remember().await;
        // A call that gives way to another one did not begin.
        let met = || {
            line.met();
            let began = self.outcome(&peer, dialled, trigger, begun, Tally::default(), None);
            self.events.publish(&Fact::SyncStarted(began));
        };
        let (tally, result) = tokio::select! {
            () = self.tasks.stopping().cancelled() => (Tally::default(), Err(Error::CalledOff)),
            ended = Box::pin(session::run(&self, circle, &mut channel, dialled, &line.stop, met)) => ended,
        };
        self.remember().await;
        let busy = matches!(&result, Err(Error::Fault(Fault::Failed(reason))) if reason == "busy");
        match result {
            Ok(()) => channel.close().await,
            Err(ref error) => tracing::debug!(peer = %peer.device_id(), %error, "a sync session ended early"),
        }
        let went = if matches!(&result, Err(Error::CalledOff)) {
            self.called_off(&line)
        } else if busy {
            Went::Elsewhere
        } else {
            match &result {
                Ok(()) => Went::Well,
                Err(Error::Store(error)) if error.is_full() => Went::NoRoom,
                Err(_) => Went::Badly,
            }
        };
        let failure = result.err().map(|error| Failure::from(ApiError::from(error)));
        self.note(&peer, &tally, went, failure.clone()).await;
        drop(line);
        let told = self.outcome(&peer, dialled, trigger, begun, tally, failure);
        self.end(&peer, trigger, went, Some(told)).await;
    }

    /// How a session went that was to stop.
    fn called_off(&self, line: &Line) -> Went {
        if line.is_kept() && !self.tasks.stopping().is_cancelled() { Went::Ended } else { Went::Elsewhere }
    }

    /// A session is over: what is next, and what is told of this one.
    async fn end(&self, peer: &PublicKey, trigger: Trigger, went: Went, told: Option<SyncSession>) {
        let news = self.schedule().ended(peer, trigger, went, Instant::now());
        match told.filter(|_| went != Went::Elsewhere) {
            Some(told) if told.reason.is_none() => self.events.publish(&Fact::SyncComplete(told)),
            Some(told) if news => self.events.publish(&Fact::SyncError(told)),
            _ => {}
        }
        self.wake.notify_one();
    }

    fn outcome(
        &self,
        peer: &PublicKey,
        dialled: bool,
        trigger: Trigger,
        begun: Instant,
        tally: Tally,
        reason: Option<Failure>,
    ) -> SyncSession {
        SyncSession {
            peer: view::peer(&self.trust.snapshot(), peer),
            dialled,
            trigger: trigger.as_str().to_owned(),
            sent: tally.report.sent,
            received: tally.report.received,
            conflicts: tally.report.conflicts.values().sum(),
            refused: tally.report.refused,
            bytes: tally.bytes,
            ms: u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX),
            reason,
        }
    }

    async fn statuses(&self) -> Result<Vec<(PublicKey, PeerSync)>, ApiError> {
        let trust = self.trust.snapshot();
        let trusted = trust.devices.values().filter(|device| device.is_trusted());
        let states: Vec<_> = trusted.map(|device| (device.key, self.schedule().state(&device.key))).collect();
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

    /// Writes down how a session went.
    async fn note(&self, peer: &PublicKey, tally: &Tally, went: Went, failure: Option<Failure>) {
        let (peer, report, why) = (*peer, tally.report.clone(), failure.clone());
        if let Some(skew) = report.skew_ms.filter(|skew| skew.unsigned_abs() > SKEW_MS) {
            let (id, hours) = (peer.device_id(), skew / 3_600_000);
            if skew.unsigned_abs() > DAY_MS {
                tracing::error!(%id, hours, "THE CLOCKS OF THE TWO DEVICES DIFFER BY MORE THAN A DAY: set them right");
            } else {
                tracing::warn!(%id, seconds = skew / 1000, "the clocks of the two devices differ");
            }
        }
        let noted = self.write(move |book| {
            // Of one that was called off nobody can say how it went.
            if matches!(went, Went::Well | Went::Badly | Went::NoRoom) {
                book.note_session(&peer, report.skew_ms, failure.as_ref(), now_ms())?;
            }
            for (id, refused) in &report.refusals {
                let Some(journal) = book.journal(id)? else { continue };
                let refusal = |it: &wire::Refused| Refusal { id: it.id.clone(), reason: it.reason.clone() };
                book.note_refused(&journal, &peer, &refused.iter().map(refusal).collect::<Vec<_>>())?;
                if let Some(conflicts) = report.conflicts.get(id) {
                    book.note_conflicts(&journal, &peer, *conflicts)?;
                }
            }
            Ok(())
        });
        let noted = noted.await;
        let mut unwritten = self.unwritten.lock().unwrap_or_else(PoisonError::into_inner);
        unwritten.remove(&peer);
        if let Err(error) = noted {
            tracing::error!(%error, "cannot write down how a sync session went");
            unwritten.extend(why.map(|why| (peer, why)));
        }
    }

    /// Tells of what a step of a session brought, after its commit.
    async fn tell(&self, peer: &PublicKey, report: &mut Report) {
        let changed = std::mem::take(&mut report.changed);
        if !changed.is_empty() {
            self.entries_changed(changed.into_iter().collect(), Some(*peer)).await;
        }
        for note in std::mem::take(&mut report.notes) {
            match self.read(move |book| view::note(book, note)).await {
                Ok(Some(fact)) => self.events.publish(&fact),
                Ok(None) => {}
                Err(error) => tracing::error!(%error, "cannot tell of a conflict"),
            }
        }
        if std::mem::take(&mut report.introduced) {
            self.tell_of_journals().await;
        }
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

    /// Forgets what nobody needs any more, a little at a time: the database is for others, too.
    async fn keep_house(&self) {
        let kept = async {
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

/// A session with that device is under way, and is kept.
async fn refuse(mut channel: Channel) {
    let message = wire::message(&Message::Fail { reason: "busy".to_owned() });
    if channel.writer.send_frame(&message).await.is_ok() {
        channel.close().await;
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
