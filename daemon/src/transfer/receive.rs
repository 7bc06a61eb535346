//! The receiver's session: takes the offer, has it answered, takes the files.

use std::sync::Arc;
use std::time::Duration;

use kith_proto::control::types::{Direction, Problem, TransferState};
use kith_proto::control::{ApiError, Code};
use kith_proto::path::link_stays_inside;
use kith_proto::peer::offer::{Accept, Item, Kind, Message, Offer, RejectReason, Settled, VERSION};
use kith_proto::{limits, text};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

use super::book::{self, PAGE, Record};
use super::parts::Journals;
use super::plan::{self, Plan};
use super::policy::{self, Decision, Wishes};
use super::state::{self, Key, Session};
use super::write::{self, Frame, Report, Writer};
use super::{Engine, prepare};
use crate::clock;
use crate::discovery::Contact;
use crate::hook;
use crate::tls::channel::within;
use crate::tls::{Channel, ChannelError};

/// A connection that has something to do says something more often than this.
const PATIENCE: Duration = Duration::from_secs(60);
/// A sign of life while nobody answers the offer.
const WAITING_EVERY: Duration = Duration::from_secs(20);
/// Frames between the connection and the disk, and the memory that they may take together, in KiB.
const FRAMES: usize = 512;
const FRAMES_KIB: u32 = 3 << 10;
/// Indices in one page of an answer.
const ACCEPT_PAGE: usize = 4000;

/// Why a session ended early.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error(transparent)]
    Channel(#[from] ChannelError),
    #[error(transparent)]
    State(#[from] state::Error),
    #[error("the sender did not keep to the protocol: {0}")]
    Protocol(&'static str),
    #[error("rejected")]
    Reject(RejectReason),
    #[error("called off")]
    Canceled,
    #[error("{}", .1.message)]
    Pause(&'static str, ApiError),
    #[error("interrupted")]
    Interrupted,
}

impl From<crate::store::Error> for Error {
    fn from(error: crate::store::Error) -> Self {
        Self::State(error.into())
    }
}

/// Serves a connection that a trusted device made.
pub async fn run(engine: &Arc<Engine>, mut channel: Channel) {
    engine.outbox.forgive(&channel.peer);
    let stop = engine.tasks.stopping().clone();
    let outcome = tokio::select! {
        () = stop.cancelled() => Ok(()),
        outcome = serve(engine, &mut channel) => outcome,
    };
    let farewell = match outcome {
        Ok(()) | Err(Error::Channel(_) | Error::Interrupted) => None,
        Err(Error::Reject(reason)) => Some(Message::Reject { reason }),
        Err(Error::Canceled) => Some(Message::Cancel { transfer: String::new() }),
        Err(Error::Pause(reason, _)) => Some(Message::Pause { reason: reason.to_owned() }),
        Err(Error::State(error)) => {
            tracing::error!(%error, "cannot receive");
            Some(Message::Pause { reason: "unavailable".to_owned() })
        }
        Err(Error::Protocol(what)) => {
            tracing::warn!(peer = %channel.peer.device_id(), what, "a sender did not keep to the protocol");
            Some(Message::Reject { reason: RejectReason::Malformed })
        }
    };
    if let Some(farewell) = farewell {
        let _ = within(PATIENCE, channel.writer.send(&farewell)).await;
    }
    channel.close().await;
}

async fn serve(engine: &Arc<Engine>, channel: &mut Channel) -> Result<(), Error> {
    match within(PATIENCE, channel.reader.message(limits::FRAME_CONTROL)).await? {
        Message::Ping { port } => {
            if let Some(port) = port {
                engine.discovery.reached(channel.peer, channel.remote, Contact::Listens(port));
            }
            Ok(channel.writer.send(&Message::Pong { name: engine.identity.name().to_owned() }).await?)
        }
        Message::Cancel { transfer } => canceled_there(engine, &key(channel, transfer)).await,
        Message::Offer(offer) => take(engine, channel, offer).await,
        _ => Err(Error::Protocol("it begins with neither an offer nor a ping")),
    }
}

fn key(channel: &Channel, id: String) -> Key {
    Key { peer: channel.peer, direction: Direction::In, id }
}

/// The sender called a transfer off.
async fn canceled_there(engine: &Engine, key: &Key) -> Result<(), Error> {
    let Some(state) = engine.book.state(key) else { return Ok(()) };
    // What failed here could have gone on; now it will not, and leaves nothing behind.
    if !state.is_final() || state == TransferState::Failed {
        let begun = state != TransferState::Offered;
        engine.book.set(key, |record| record.state = TransferState::Canceled).await?;
        if begun {
            engine.clean_up(key).await?;
        }
    }
    Ok(())
}

async fn take(engine: &Arc<Engine>, channel: &mut Channel, offer: Offer) -> Result<(), Error> {
    check(&offer)?;
    let key = key(channel, offer.transfer.clone());
    // What was answered stays answered.
    match engine.book.state(&key) {
        Some(TransferState::Canceled) => return Err(Error::Reject(RejectReason::Canceled)),
        Some(TransferState::Rejected) => return Err(Error::Reject(RejectReason::Declined)),
        Some(_) => {}
        None => {
            let waiting = |record: &Record| {
                record.peer == channel.peer
                    && record.direction == Direction::In
                    && record.state == TransferState::Offered
            };
            if engine.book.keys(waiting).len() >= limits::OFFERS_WAITING {
                return Err(Error::Reject(RejectReason::Busy));
            }
            engine.book.add(new_record(engine, channel, &offer), |_, _| Ok(())).await?;
        }
    }
    let session = match engine.book.session(&key).await {
        // The last one still waits for a slow disk; the sender comes again.
        Err(state::Error::Busy) => return Err(Error::Interrupted),
        session => session?,
    };
    let outcome = tokio::select! {
        // First, so that a sender that was revoked hears that from its next handshake, and no other reason.
        biased;
        () = session.stop.cancelled() => Err(interruption(engine, &key)),
        outcome = converse(engine, channel, &key, &offer, &session) => outcome,
    };
    match &outcome {
        Ok(()) => {}
        Err(Error::Pause(_, reason)) => engine.book.fail(&key, reason.clone()).await?,
        Err(Error::Canceled) => {
            drop(session);
            canceled_there(engine, &key).await?;
        }
        Err(_) if engine.book.state(&key) == Some(TransferState::Preparing) => engine.book.forget(&key).await?,
        Err(_) if engine.book.state(&key) == Some(TransferState::Active) => {
            engine.book.advance(&key, TransferState::Queued).await?;
        }
        Err(_) => {}
    }
    outcome
}

/// Somebody here took the transfer away: for good, or for a newer connection.
fn interruption(engine: &Engine, key: &Key) -> Error {
    match engine.book.state(key) {
        Some(TransferState::Canceled) => Error::Reject(RejectReason::Canceled),
        _ => Error::Interrupted,
    }
}

fn check(offer: &Offer) -> Result<(), Error> {
    if offer.v != VERSION {
        return Err(Error::Protocol("another version"));
    }
    // The id becomes the name of files here.
    let id = uuid::Uuid::parse_str(&offer.transfer).ok();
    if id.is_none_or(|id| id.hyphenated().to_string() != offer.transfer) {
        return Err(Error::Protocol("an id that is no UUID"));
    }
    let long = |text: &str, max| text.len() > max;
    if long(&offer.title, limits::OFFER_TITLE) || offer.text.as_deref().is_some_and(|it| long(it, limits::OFFER_TEXT)) {
        return Err(Error::Protocol("a title or text that is too long"));
    }
    if offer.files > limits::OFFER_ENTRIES as u64 {
        return Err(Error::Reject(RejectReason::TooLarge));
    }
    if (offer.files == 0) != offer.text.is_some() {
        return Err(Error::Protocol("either files or a text"));
    }
    Ok(())
}

fn new_record(engine: &Engine, channel: &Channel, offer: &Offer) -> Record {
    let now = clock::now_ms();
    Record {
        number: 0,
        peer: channel.peer,
        direction: Direction::In,
        id: offer.transfer.clone(),
        // Until its manifest is here, nobody needs to see it.
        state: TransferState::Preparing,
        title: offer.title.clone(),
        text: offer.text.clone(),
        entries: offer.files,
        bytes: offer.bytes,
        dir: None,
        on_conflict: kith_proto::control::types::Conflict::default(),
        caller: None,
        reason: None,
        skipped: 0,
        skipped_why: Vec::new(),
        told: true,
        created_ms: now,
        updated_ms: now,
        expires_ms: prepare::expiry(engine),
    }
}

async fn converse(
    engine: &Arc<Engine>,
    channel: &mut Channel,
    key: &Key,
    offer: &Offer,
    session: &Session,
) -> Result<(), Error> {
    let wishes = manifest(engine, channel, key, offer).await?;
    decide(engine, channel, key, &wishes).await?;
    wait_for_answer(engine, channel, key, session).await?;
    let record = engine.book.record(key).ok_or(state::Error::Gone)?;
    if record.text.is_none() {
        engine.book.advance(key, TransferState::Active).await?;
        files(engine, channel, key, &record, session).await?;
    } else {
        channel.writer.send(&Message::Accept(Accept::default())).await?;
        let Message::Done = within(PATIENCE, channel.reader.message(limits::FRAME_CONTROL)).await? else {
            return Err(Error::Protocol("something behind a text"));
        };
    }
    // It is over here before the sender learns that it may forget it.
    engine.book.refresh(key).await?;
    let first = engine.book.state(key) != Some(TransferState::Done);
    engine.book.advance(key, TransferState::Done).await?;
    channel.writer.send(&Message::Done).await?;
    if first {
        tracing::info!(transfer = key.id, peer = %key.peer.device_id(), title = %text::printable(&record.title), "received");
        if let Ok(view) = engine.book.view(key) {
            hook::run(&engine.settings, &engine.tasks, &view);
        }
    }
    Ok(())
}

/// Takes the manifest in. One that comes again is compared with what is known.
async fn manifest(engine: &Engine, channel: &mut Channel, key: &Key, offer: &Offer) -> Result<Wishes, Error> {
    let record = engine.book.record(key).ok_or(state::Error::Gone)?;
    let again = record.state != TransferState::Preparing;
    if again && (offer.files != record.entries || offer.text != record.text) {
        return Err(Error::Protocol("another offer under a known id"));
    }
    let mut wishes = Wishes::default();
    let mut next = 0;
    while next < offer.files {
        let Message::Manifest { items } = within(PATIENCE, channel.reader.message(limits::FRAME_CONTROL)).await? else {
            return Err(Error::Protocol("something else where the manifest should go on"));
        };
        for item in &items {
            check_item(item, next, offer.files)?;
            wishes.add(item);
            next += 1;
        }
        let number = record.number;
        let kept = engine.book.store.write(move |tx| {
            if again { book::merge_in(tx, number, &items) } else { book::add_in(tx, number, &items).map(|()| true) }
        });
        match kept.await {
            Ok(true) => {}
            Ok(false) => return Err(Error::Protocol("another offer under a known id")),
            Err(crate::store::Error::Sqlite(error)) if is_constraint(&error) => {
                return Err(Error::Protocol("two entries with one path"));
            }
            Err(error) => return Err(error.into()),
        }
    }
    if again && record.bytes != offer.bytes {
        engine.book.set(key, |record| record.bytes = offer.bytes).await?;
    }
    Ok(wishes)
}

fn check_item(item: &Item, next: u64, files: u64) -> Result<(), Error> {
    if item.index != next || next >= files {
        return Err(Error::Protocol("entries out of order"));
    }
    match item.kind {
        Kind::File if item.size.is_some_and(|size| size > limits::FILE_SIZE) => {
            Err(Error::Reject(RejectReason::TooLarge))
        }
        Kind::Symlink if !item.target.as_deref().is_some_and(|target| link_stays_inside(&item.path, target)) => {
            Err(Error::Protocol("a symlink that leads outside"))
        }
        _ => Ok(()),
    }
}

fn is_constraint(error: &rusqlite::Error) -> bool {
    error.sqlite_error_code() == Some(rusqlite::ErrorCode::ConstraintViolation)
}

/// What becomes of a new offer. One that is known goes on as it was answered.
async fn decide(engine: &Arc<Engine>, channel: &Channel, key: &Key, wishes: &Wishes) -> Result<(), Error> {
    let record = engine.book.record(key).ok_or(state::Error::Gone)?;
    let trust = engine.trust.snapshot();
    let device = trust.trusted(&channel.peer).ok_or(Error::Interrupted)?;
    let today = policy::today(engine, &record).await?;
    let decision = wishes.judge(&device.policy, today);
    match (record.state, decision) {
        (TransferState::Preparing | TransferState::Offered, Decision::Reject(reason)) => {
            engine.book.forget(key).await?;
            tracing::info!(peer = %key.peer.device_id(), ?reason, "an offer was rejected by the policy");
            Err(Error::Reject(reason))
        }
        (TransferState::Preparing, Decision::Accept) => {
            let (dir, conflict) = (policy::target(engine, &device.policy), device.policy.on_conflict);
            let (place, bytes) = (dir.clone(), record.bytes.unwrap_or_default());
            if record.entries > 0 {
                let room = engine.tasks.blocking(move || policy::place(&place, bytes).map(drop)).await;
                if let Err(error) = room {
                    tracing::warn!(%error, "an offer was rejected");
                    engine.book.forget(key).await?;
                    let full = matches!(error.code, Code::NoSpace | Code::Quota);
                    return Err(Error::Reject(if full { RejectReason::NoSpace } else { RejectReason::Unavailable }));
                }
            }
            engine
                .book
                .set(key, |record| {
                    record.state = TransferState::Queued;
                    record.dir = (record.entries > 0).then_some(dir);
                    record.on_conflict = conflict;
                })
                .await?;
            Ok(engine.book.refresh(key).await?)
        }
        (TransferState::Preparing, Decision::Ask) => {
            // Whoever sees the offer sees what is in it.
            engine.book.refresh(key).await?;
            Ok(engine.book.set(key, |record| record.state = TransferState::Offered).await?)
        }
        (TransferState::Failed, _) => {
            // The sender tries again what stopped here.
            let number = record.number;
            engine.book.store.write(move |tx| book::reopen(tx, number)).await?;
            let state = if record.dir.is_some() { TransferState::Queued } else { TransferState::Offered };
            engine
                .book
                .set(key, |record| {
                    record.state = state;
                    record.reason = None;
                })
                .await?;
            Ok(engine.book.refresh(key).await?)
        }
        _ => Ok(()),
    }
}

/// Waits until somebody has answered the offer, and says so now and then.
async fn wait_for_answer(engine: &Engine, channel: &mut Channel, key: &Key, session: &Session) -> Result<(), Error> {
    loop {
        let answered = session.answered.notified();
        match engine.book.state(key) {
            Some(TransferState::Offered) => {}
            Some(TransferState::Rejected) => return Err(Error::Reject(RejectReason::Declined)),
            Some(TransferState::Canceled) => return Err(Error::Reject(RejectReason::Canceled)),
            Some(TransferState::Failed) | None => return Err(Error::Reject(RejectReason::Unavailable)),
            Some(_) => return Ok(()),
        }
        channel.writer.send(&Message::Waiting).await?;
        tokio::select! {
            () = answered => {}
            () = tokio::time::sleep(WAITING_EVERY) => {}
            said = channel.reader.message(limits::FRAME_CONTROL) => match said? {
                Message::Cancel { .. } => return Err(Error::Canceled),
                _ => return Err(Error::Protocol("impatience")),
            },
        }
    }
}

async fn files(
    engine: &Arc<Engine>,
    channel: &mut Channel,
    key: &Key,
    record: &Record,
    session: &Session,
) -> Result<(), Error> {
    let trust = engine.trust.snapshot();
    let policy = trust.trusted(&key.peer).ok_or(Error::Interrupted)?.policy.clone();
    let journals = Journals::of(&engine.settings.paths.data, key);
    let (writer, plan) = open(engine, record, &journals, &policy, session).await?;
    answer(engine, channel, key, record, &plan).await?;
    engine.book.refresh(key).await?;
    let resumed: u64 = plan.have.iter().map(|have| have.offset).sum();
    engine.book.progress(key, 0, resumed, Vec::new(), Vec::new());

    let (frames, inbox) = mpsc::channel(FRAMES);
    let (reports, mut outcome) = mpsc::channel(64);
    let runtime = tokio::runtime::Handle::current();
    let hold = session.hold();
    let work = engine.tasks.blocking(move || {
        write::run(writer, &runtime, inbox, reports);
        drop(hold);
    });
    let relay = relay(engine, channel, key, frames, &mut outcome);
    let (relayed, ()) = tokio::join!(relay, work);
    relayed
}

/// Finds out what is there, and makes ready to write the rest.
async fn open(
    engine: &Arc<Engine>,
    record: &Record,
    journals: &Journals,
    policy: &kith_proto::control::types::Policy,
    session: &Session,
) -> Result<(Writer, Plan), Error> {
    let today = policy::today(engine, record).await?;
    let quota = policy.max_day.map(|max| max.saturating_sub(today));
    let max_file = write::max_file(policy.max_file);
    let runtime = tokio::runtime::Handle::current();
    let (record, journals, store) = (record.clone(), journals.clone(), engine.book.store.clone());
    let hold = session.hold();
    let work = move || -> Result<_, Error> {
        let _hold = hold;
        let dir = record.dir.clone().unwrap_or_default();
        let tree = policy::place(&dir, 0).map_err(|error| Error::Pause("unavailable", error))?;
        let mut plan = plan::run(&tree, &journals, &record, &store, &runtime)?;
        let states = std::mem::take(&mut plan.states);
        let same = plan.same.iter().map(|same| (same.index, same.digest)).collect();
        Ok((Writer { tree, journals, record, store, states, same, quota, max_file }, plan))
    };
    engine.tasks.blocking(work).await
}

/// Tells the sender what is wanted.
async fn answer(engine: &Engine, channel: &mut Channel, key: &Key, record: &Record, plan: &Plan) -> Result<(), Error> {
    let problems =
        plan.problems.iter().map(|(index, _, reason)| Settled { index: *index, reason: Some(reason.clone()) });
    let items: Vec<_> = problems.collect();
    for items in items.chunks(ACCEPT_PAGE) {
        channel.writer.queue(&Message::Results { items: items.to_vec() }).await?;
    }
    let (number, mut from) = (record.number, 0);
    loop {
        let skip = engine.book.store.read(move |c| book::settled_page(c, number, from)).await?;
        let Some(last) = skip.last() else { break };
        from = last + 1;
        let whole = skip.len() == PAGE;
        channel.writer.queue(&Message::Accept(Accept { skip, more: true, ..Accept::default() })).await?;
        if !whole {
            break;
        }
    }
    for have in plan.have.chunks(ACCEPT_PAGE) {
        let page = Accept { have: have.to_vec(), more: true, ..Accept::default() };
        channel.writer.queue(&Message::Accept(page)).await?;
    }
    for same in plan.same.chunks(ACCEPT_PAGE) {
        let page = Accept { same: same.to_vec(), more: true, ..Accept::default() };
        channel.writer.queue(&Message::Accept(page)).await?;
    }
    let problems = plan.problems.iter();
    let problems = problems.map(|(_, path, reason)| Problem { path: path.clone(), reason: reason.clone() }).collect();
    engine.book.progress(key, plan.settled, 0, problems, Vec::new());
    Ok(channel.writer.send(&Message::Accept(Accept::default())).await?)
}

/// Carries frames to the writer and its reports to the sender, until one of them has no more.
async fn relay(
    engine: &Engine,
    channel: &mut Channel,
    key: &Key,
    frames: mpsc::Sender<Frame>,
    reports: &mut mpsc::Receiver<Report>,
) -> Result<(), Error> {
    let Channel { reader, writer, .. } = channel;
    let memory = Arc::new(Semaphore::new(FRAMES_KIB as usize));
    let mut waiting: Option<Vec<u8>> = None;
    let idle = tokio::time::sleep(PATIENCE);
    tokio::pin!(idle);
    loop {
        tokio::select! {
            biased;
            report = reports.recv() => match report {
                Some(Report::Ack { index, offset }) => writer.send(&Message::Ack { index, offset }).await?,
                Some(Report::Bytes(bytes)) => engine.book.progress(key, 0, bytes, Vec::new(), Vec::new()),
                Some(Report::Results { items, problems, placed }) => {
                    engine.book.progress(key, items.len() as u64, 0, problems, placed);
                    writer.send(&Message::Results { items }).await?;
                }
                Some(Report::Done) => return Ok(()),
                Some(Report::Pause(reason)) => return Err(Error::Pause(reason, paused(reason))),
                Some(Report::Protocol(what)) => return Err(Error::Protocol(what)),
                Some(Report::Broken(error)) => return Err(error.into()),
                None => return Err(Error::Interrupted),
            },
            place = place(&frames, &memory, waiting.as_deref()), if waiting.is_some() => {
                // No place: the writer has stopped, and its last report says why.
                if let (Some((place, share)), Some(payload)) = (place, waiting.take()) {
                    place.send(Frame { payload, share });
                }
            }
            frame = reader.frame(limits::FRAME_CONTROL.max(limits::FRAME_DATA)), if waiting.is_none() => {
                let frame = frame?;
                if frame.first() == Some(&b'{') && frame.len() < 256
                    && let Ok(Message::Cancel { .. }) = serde_json::from_slice(&frame)
                {
                    return Err(Error::Canceled);
                }
                waiting = Some(frame);
                idle.as_mut().reset(tokio::time::Instant::now() + PATIENCE);
            }
            () = &mut idle => return Err(Error::Channel(ChannelError::TimedOut)),
        }
    }
}

/// A place in the queue to the disk, and the memory for what goes there.
async fn place<'a>(
    frames: &'a mpsc::Sender<Frame>,
    memory: &Arc<Semaphore>,
    frame: Option<&[u8]>,
) -> Option<(mpsc::Permit<'a, Frame>, OwnedSemaphorePermit)> {
    let kib = u32::try_from(frame.map_or(0, <[u8]>::len) >> 10).unwrap_or(FRAMES_KIB);
    let share = memory.clone().acquire_many_owned(kib.clamp(1, FRAMES_KIB)).await.ok()?;
    Some((frames.reserve().await.ok()?, share))
}

fn paused(reason: &str) -> ApiError {
    let error = match reason {
        "no_space" => ApiError::new(Code::NoSpace, "the disk is full; what arrived is kept"),
        "quota" => ApiError::new(Code::Quota, "the sender's quota is used up; what arrived is kept"),
        "too_large" => ApiError::new(Code::TooLarge, "a file grew beyond what is accepted"),
        _ => ApiError::new(Code::Internal, "cannot go on"),
    };
    error.hint("the sender can go on with kithctl transfers retry ID")
}
