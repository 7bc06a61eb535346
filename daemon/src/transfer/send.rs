//! The sender's session: offers, waits for the answer, sends, and takes note of what is safe on the other side.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use kith_proto::control::types::{Failure, Problem, TransferState};
use kith_proto::control::{ApiError, Code};
use kith_proto::limits;
use kith_proto::peer::Alpn;
use kith_proto::peer::offer::{Accept, Have, Message, Offer, RejectReason, Settled, VERSION};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::book::{self, PAGE, Record};
use super::read::{self, Batch, Job};
use super::state::{self, Key, Session};
use super::{Engine, prepare};
use crate::dial;
use crate::tls::channel::within;
use crate::tls::{Channel, ChannelError};

/// The receiver gives a sign of life more often than this, also while nobody answers the offer.
const PATIENCE: Duration = Duration::from_secs(60);
/// What may lie between the disk and the connection: batches of up to a mebibyte.
const BATCHES: usize = 3;
/// How long a farewell may take.
const FAREWELL: Duration = Duration::from_millis(500);

/// How a connection went.
pub enum Went {
    /// Nothing is left to do.
    Over,
    /// It is to be tried again; `moved` says whether this try brought it forward.
    Broken {
        /// Something arrived.
        moved: bool,
    },
}

/// Why a session ended early.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error(transparent)]
    Dial(#[from] dial::Error),
    #[error(transparent)]
    Channel(#[from] ChannelError),
    #[error(transparent)]
    State(#[from] state::Error),
    #[error("the receiver did not keep to the protocol: {0}")]
    Protocol(&'static str),
    #[error("{}", .0.message)]
    Final(Failure),
    #[error("rejected")]
    Rejected(RejectReason),
    #[error("called off by the receiver")]
    Canceled,
    #[error("interrupted")]
    Interrupted,
}

impl From<crate::store::Error> for Error {
    fn from(error: crate::store::Error) -> Self {
        Self::State(error.into())
    }
}

/// Works on a transfer over one connection.
pub async fn run(engine: &Arc<Engine>, key: &Key) -> Went {
    let Ok(session) = engine.book.session(key).await else { return Went::Broken { moved: false } };
    let mut moved = false;
    let outcome = work(engine, key, &session, &mut moved).await;
    let settled = settle(engine, key, outcome).await;
    drop(session);
    match settled {
        Ok(true) => Went::Over,
        Ok(false) => Went::Broken { moved },
        Err(error) => {
            tracing::error!(%error, transfer = key.id, "cannot write down how a transfer went");
            Went::Broken { moved }
        }
    }
}

/// Writes down how it went; says whether it is over.
async fn settle(engine: &Engine, key: &Key, outcome: Result<(), Error>) -> Result<bool, state::Error> {
    let error = match outcome {
        Ok(()) => return Ok(true),
        Err(error) => error,
    };
    let reason = match error {
        Error::Rejected(reason) => {
            let state =
                if reason == RejectReason::Canceled { TransferState::Canceled } else { TransferState::Rejected };
            engine.streams.forget(key);
            let failure = refusal(reason);
            engine
                .book
                .set(key, |record| {
                    record.state = state;
                    record.reason = Some(failure.into());
                })
                .await?;
            return Ok(true);
        }
        Error::Canceled => {
            engine.streams.forget(key);
            engine.book.advance(key, TransferState::Canceled).await?;
            return Ok(true);
        }
        Error::Final(failure) => failure,
        Error::Dial(dial::Error::NotTrusted) | Error::Channel(ChannelError::NotTrusted) => {
            ApiError::from(dial::Error::NotTrusted).into()
        }
        error => {
            tracing::debug!(%error, transfer = key.id, "a transfer waits for a better connection");
            engine.book.advance(key, TransferState::Queued).await?;
            return Ok(false);
        }
    };
    if engine.book.state(key).is_some_and(|state| !state.is_final()) {
        engine
            .book
            .set(key, |record| {
                record.state = TransferState::Failed;
                record.reason = Some(reason);
            })
            .await?;
    }
    Ok(true)
}

fn refusal(reason: RejectReason) -> ApiError {
    let (code, message) = match reason {
        RejectReason::Declined => (Code::Rejected, "the receiver said no"),
        RejectReason::Policy => (Code::Rejected, "the receiver's policy for this device says no"),
        RejectReason::Dotfiles => (Code::Rejected, "the receiver takes no names that begin with a dot without asking"),
        RejectReason::NoSpace => (Code::NoSpace, "the receiver has no room for it"),
        RejectReason::Quota => (Code::Quota, "the receiver's quota for this device is used up"),
        RejectReason::TooLarge => (Code::TooLarge, "it is larger than what the receiver takes"),
        RejectReason::Busy => (Code::Busy, "too many offers wait at the receiver already"),
        RejectReason::Canceled => (Code::Rejected, "the receiver called it off"),
        RejectReason::Malformed => (Code::Protocol, "the receiver did not understand the offer"),
        RejectReason::Unavailable | RejectReason::Other => (Code::Rejected, "the receiver cannot take it now"),
    };
    ApiError::new(code, message)
}

async fn work(engine: &Arc<Engine>, key: &Key, session: &Session, moved: &mut bool) -> Result<(), Error> {
    let mut channel = tokio::select! {
        () = session.stop.cancelled(), if !called_off(engine, key) => return Err(Error::Interrupted),
        dialled = engine.dial.device(&key.peer, Alpn::Send) => dialled?,
    };
    let outcome = tokio::select! {
        () = session.stop.cancelled(), if !called_off(engine, key) => Err(Error::Interrupted),
        () = engine.tasks.stopping().cancelled() => Err(Error::Interrupted),
        outcome = converse(engine, key, session, &mut channel, moved) => outcome,
    };
    if matches!(outcome, Err(Error::Interrupted)) && called_off(engine, key) {
        // A batch may be half way out: then the link is cut, and the outbox tells the receiver on a new one.
        let farewell = say_canceled(engine, key, &mut channel);
        let _ = tokio::time::timeout(FAREWELL, farewell).await;
    }
    channel.close().await;
    outcome
}

fn called_off(engine: &Engine, key: &Key) -> bool {
    engine.book.state(key) == Some(TransferState::Canceled)
}

async fn say_canceled(engine: &Engine, key: &Key, channel: &mut Channel) -> Result<(), Error> {
    channel.writer.send(&Message::Cancel { transfer: key.id.clone() }).await?;
    // Whatever the answer: it was received.
    while channel.reader.frame(limits::FRAME_CONTROL).await.is_ok() {}
    engine.book.set(key, |record| record.told = true).await?;
    Ok(())
}

async fn converse(
    engine: &Arc<Engine>,
    key: &Key,
    session: &Session,
    channel: &mut Channel,
    moved: &mut bool,
) -> Result<(), Error> {
    if called_off(engine, key) {
        return within_patience(say_canceled(engine, key, channel)).await;
    }
    let record = engine.book.record(key).ok_or(state::Error::Gone)?;
    engine.book.advance(key, TransferState::Offered).await?;
    within_patience(offer(engine, &record, channel)).await?;
    let plan = answer(engine, key, &record, channel).await?;
    engine.book.advance(key, TransferState::Active).await?;
    engine.book.refresh(key).await?;
    transmit(engine, key, &record, plan, &session.stop, channel, moved).await?;
    engine.book.refresh(key).await?;
    engine.book.advance(key, TransferState::Done).await?;
    engine.streams.forget(key);
    Ok(())
}

async fn within_patience(work: impl Future<Output = Result<(), Error>>) -> Result<(), Error> {
    tokio::time::timeout(PATIENCE, work).await.unwrap_or(Err(Error::Channel(ChannelError::TimedOut)))
}

async fn offer(engine: &Engine, record: &Record, channel: &mut Channel) -> Result<(), Error> {
    let offer = Offer {
        v: VERSION,
        transfer: record.id.clone(),
        title: record.title.clone(),
        files: record.entries,
        bytes: record.bytes,
        text: record.text.clone(),
    };
    channel.writer.queue(&Message::Offer(offer)).await?;
    let (number, mut from) = (record.number, 0);
    while from < record.entries {
        let page = engine.book.store.read(move |c| book::page(c, number, from, false)).await?;
        let Some(last) = page.last() else { return Err(Error::Protocol("entries are missing here")) };
        from = last.item.index + 1;
        let mut items = Vec::with_capacity(page.len());
        let mut size = 0;
        for entry in page {
            // Paths are long at the worst: a page of the book may be more than a frame.
            size += 256 + entry.item.path.as_str().len() + entry.item.target.as_ref().map_or(0, String::len);
            items.push(entry.item);
            if size > limits::FRAME_CONTROL / 4 {
                channel.writer.queue(&Message::Manifest { items: std::mem::take(&mut items) }).await?;
                size = 0;
            }
        }
        if !items.is_empty() {
            channel.writer.queue(&Message::Manifest { items }).await?;
        }
    }
    Ok(channel.writer.flush().await?)
}

/// What the receiver has already.
#[derive(Default)]
struct Plan {
    have: HashMap<u64, Have>,
    same: HashMap<u64, [u8; 32]>,
}

/// Waits for the receiver's answer, as long as it takes somebody to give one.
async fn answer(engine: &Engine, key: &Key, record: &Record, channel: &mut Channel) -> Result<Plan, Error> {
    let mut plan = Plan::default();
    loop {
        match within(PATIENCE, channel.reader.message(limits::FRAME_CONTROL)).await? {
            Message::Waiting => {}
            Message::Accept(Accept { have, skip, same, more }) => {
                let bad = |index: u64| index >= record.entries;
                if have.iter().any(|it| bad(it.index) || it.offset % limits::CHUNK as u64 != 0)
                    || skip.iter().any(|index| bad(*index))
                    || same.iter().any(|it| bad(it.index))
                {
                    return Err(Error::Protocol("an answer about what was not offered"));
                }
                plan.have.extend(have.into_iter().map(|it| (it.index, it)));
                plan.same.extend(same.into_iter().map(|it| (it.index, it.digest)));
                if !skip.is_empty() {
                    let number = record.number;
                    let settle = move |tx: &rusqlite::Transaction<'_>| {
                        skip.iter().try_for_each(|index| book::settle(tx, number, *index, "", None).map(drop))
                    };
                    engine.book.store.write(settle).await?;
                }
                if !more {
                    return Ok(plan);
                }
            }
            Message::Results { items } => note(engine, key, record, items).await?,
            Message::Reject { reason } => return Err(Error::Rejected(reason)),
            Message::Cancel { .. } => return Err(Error::Canceled),
            Message::Pause { reason } => return Err(Error::Final(pause(&reason))),
            _ => return Err(Error::Protocol("an unexpected message before the answer")),
        }
    }
}

/// Sends what is wanted, and listens at the same time.
async fn transmit(
    engine: &Arc<Engine>,
    key: &Key,
    record: &Record,
    plan: Plan,
    stop: &CancellationToken,
    channel: &mut Channel,
    moved: &mut bool,
) -> Result<(), Error> {
    let (page_in, pages) = mpsc::channel(1);
    let (batches, mut batch_out) = mpsc::channel(BATCHES);
    let job = Job {
        pages,
        batches,
        have: plan.have,
        same: plan.same,
        reader: prepare::reader(record),
        spool: engine.streams.get(key),
    };
    let number = record.number;
    let read = engine.tasks.blocking(move || read::run(job));
    let feed = async {
        let mut from = 0;
        loop {
            let page = engine.book.store.read(move |c| book::page(c, number, from, true)).await?;
            let Some(last) = page.last() else { break };
            from = last.item.index + 1;
            let whole = page.len() == PAGE;
            if page_in.send(page).await.is_err() || !whole {
                break;
            }
        }
        drop(page_in);
        Ok::<_, Error>(())
    };
    let Channel { reader, writer, .. } = channel;
    let write = async {
        while let Some(Batch { frames, content, changed }) = batch_out.recv().await {
            if stop.is_cancelled() {
                return Err(Error::Interrupted);
            }
            writer.send_frames(&frames).await?;
            if batch_out.is_empty() {
                writer.flush().await?;
            }
            if !changed.is_empty() {
                resize(engine, key, number, changed).await?;
            }
            engine.book.progress(key, 0, content, Vec::new(), Vec::new());
        }
        writer.flush().await?;
        Ok::<_, Error>(())
    };
    let listen = async {
        loop {
            let message = within(PATIENCE, reader.message(limits::FRAME_CONTROL)).await?;
            *moved = true;
            match message {
                Message::Ack { .. } | Message::Waiting => {}
                Message::Results { items } => note(engine, key, record, items).await?,
                Message::Done => return Ok(()),
                Message::Cancel { .. } => return Err(Error::Canceled),
                Message::Pause { reason } => return Err(Error::Final(pause(&reason))),
                _ => return Err(Error::Protocol("an unexpected message while sending")),
            }
        }
    };
    // The reading thread ends by itself when one of the others does: its channels close.
    let outcome = tokio::try_join!(feed, write, listen).map(drop);
    drop(batch_out);
    read.await;
    outcome
}

/// Files that are other than they were offered as.
async fn resize(engine: &Engine, key: &Key, number: i64, changed: Vec<(u64, u64, i64)>) -> Result<(), Error> {
    let sizes = move |tx: &rusqlite::Transaction<'_>| {
        changed.iter().try_for_each(|(index, size, mtime)| book::changed(tx, number, *index, *size, *mtime))?;
        book::total(tx, number)
    };
    let total = engine.book.store.write(sizes).await?;
    engine.book.set(key, |record| record.bytes = Some(total)).await?;
    Ok(())
}

/// Takes note of what is settled on the other side.
async fn note(engine: &Engine, key: &Key, record: &Record, items: Vec<Settled>) -> Result<(), Error> {
    let number = record.number;
    let settle = move |tx: &rusqlite::Transaction<'_>| {
        let (mut count, mut problems) = (0, Vec::new());
        for item in items {
            let reason = item.reason.unwrap_or_default();
            if book::settle(tx, number, item.index, &reason, None)? {
                count += 1;
                if !reason.is_empty() {
                    problems.push(Problem { path: book::path(tx, number, item.index)?, reason });
                }
            }
        }
        Ok((count, problems))
    };
    let (count, problems) = engine.book.store.write(settle).await?;
    engine.book.progress(key, count, 0, problems, Vec::new());
    Ok(())
}

fn pause(reason: &str) -> Failure {
    let error = match reason {
        "no_space" => ApiError::new(Code::NoSpace, "the receiver's disk is full"),
        "quota" => ApiError::new(Code::Quota, "the receiver's quota for this device is used up"),
        "too_large" => ApiError::new(Code::TooLarge, "a file is larger than what the receiver takes"),
        _ => ApiError::new(Code::Rejected, "the receiver cannot go on now"),
    };
    error.hint("kithctl transfers retry ID goes on where it stopped").into()
}
