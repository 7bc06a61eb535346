//! What is sent: directories that are walked, and texts. Streams are taken in by `spool`.

use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use kith_proto::control::types::{Conflict, Direction, Problem, Transfer, TransferState};
use kith_proto::control::{ApiError, Code};
use kith_proto::limits;
use kith_proto::peer::offer::{Item, Kind};
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use super::book::{self, OutEntry, PAGE, Record, SHOWN};
use super::state::{self, Key};
use super::{Content, Engine, SendRequest, spool};
use crate::clock;
use crate::files::{self, Reader, Skipped};

/// A method answers within half a second: what takes longer to look through is told as it goes on.
const ANSWER_WITHIN: Duration = Duration::from_millis(300);
const DAY_MS: i64 = 86_400_000;

/// Starts a transfer from this device.
pub async fn begin(
    engine: &Arc<Engine>,
    request: SendRequest,
    connection: CancellationToken,
) -> Result<Transfer, ApiError> {
    let mut record = new_record(engine, &request);
    match request.content {
        Content::Text(text) => {
            if text.len() > limits::OFFER_TEXT {
                let message = format!("a text has at most {} bytes; send it as a file", limits::OFFER_TEXT);
                return Err(ApiError::new(Code::TooLarge, message));
            }
            record.title = request.title.unwrap_or_else(|| "Text".to_owned());
            record.bytes = Some(0);
            record.text = Some(text);
            record.state = TransferState::Offered;
            let key = engine.book.add(record, |_, _| Ok(())).await?;
            engine.outbox.kick();
            engine.book.view(&key)
        }
        Content::Stream(name) => spool::stream(engine, record, &name, request.title, connection).await,
        Content::Paths(paths) => {
            record.title = request.title.unwrap_or_else(|| title(&paths));
            let key = engine.book.add(record, |_, _| Ok(())).await?;
            let (done, outcome) = oneshot::channel();
            let (task, name) = (engine.clone(), key.clone());
            engine.tasks.spawn("prepare", async move {
                let outcome = prepare(&task, &name, paths).await;
                if let Err(Err(error)) = done.send(outcome) {
                    // Nobody waits for the answer any more: it becomes the transfer's outcome.
                    let _ = task.book.fail(&name, error).await;
                }
            });
            match tokio::time::timeout(ANSWER_WITHIN, outcome).await {
                Ok(Ok(Err(error))) => {
                    engine.book.forget(&key).await?;
                    Err(error)
                }
                _ => engine.book.view(&key),
            }
        }
    }
}

/// Tries a transfer from this device again: a failed one goes on, one that was called off or rejected is offered anew.
pub async fn retry(engine: &Arc<Engine>, key: &Key) -> Result<Transfer, ApiError> {
    let record = engine.book.record(key).ok_or(state::Error::Gone)?;
    if record.direction == Direction::In {
        return Err(ApiError::new(Code::WrongState, "only the sender can try again")
            .hint("run kithctl transfers retry on the other device"));
    }
    if engine.trust.snapshot().trusted(&key.peer).is_none() {
        return Err(ApiError::new(Code::NotPaired, "this device is not trusted any more").hint("pair again first"));
    }
    let unprepared = record.entries == 0 && record.text.is_none();
    let key = match record.state {
        TransferState::Failed | TransferState::Canceled | TransferState::Rejected if unprepared => {
            return Err(ApiError::new(Code::WrongState, "this transfer was never complete; send it again"));
        }
        TransferState::Failed => {
            let number = record.number;
            engine.book.store.write(move |tx| book::reopen(tx, number)).await.map_err(state::Error::from)?;
            let expires_ms = expiry(engine);
            engine
                .book
                .set(key, |record| {
                    record.state = TransferState::Offered;
                    record.reason = None;
                    record.expires_ms = expires_ms;
                })
                .await?;
            engine.book.refresh(key).await?;
            key.clone()
        }
        TransferState::Canceled | TransferState::Rejected => {
            let old = record.number;
            let now = clock::now_ms();
            let new = Record {
                number: 0,
                id: new_id(),
                state: TransferState::Offered,
                reason: None,
                told: true,
                created_ms: now,
                updated_ms: now,
                expires_ms: expiry(engine),
                ..record
            };
            engine.book.add(new, move |tx, number| book::copy_entries(tx, old, number)).await?
        }
        _ => return Err(ApiError::new(Code::WrongState, "this transfer is not over")),
    };
    engine.outbox.forgive(&key.peer);
    engine.book.view(&key)
}

fn new_record(engine: &Engine, request: &SendRequest) -> Record {
    let now = clock::now_ms();
    Record {
        number: 0,
        peer: request.peer,
        direction: Direction::Out,
        id: new_id(),
        state: TransferState::Preparing,
        title: String::new(),
        text: None,
        entries: 0,
        bytes: None,
        dir: None,
        on_conflict: Conflict::default(),
        caller: request.caller.clone(),
        reason: None,
        skipped: 0,
        skipped_why: Vec::new(),
        told: true,
        created_ms: now,
        updated_ms: now,
        expires_ms: expiry(engine),
    }
}

fn new_id() -> String {
    uuid::Uuid::now_v7().to_string()
}

/// When a transfer that nobody takes is given up.
pub fn expiry(engine: &Engine) -> i64 {
    clock::now_ms().saturating_add(i64::from(engine.settings.config.outbox.days) * DAY_MS)
}

fn title(paths: &[PathBuf]) -> String {
    let name = |path: &PathBuf| path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned();
    let first = paths.first().map(name).unwrap_or_default();
    let mut title = match paths.len() {
        0 | 1 => first,
        n => format!("{first} and {} more", n - 1),
    };
    while title.len() > limits::OFFER_TITLE {
        title.pop();
    }
    title
}

/// With whose rights the files of `record` are read.
pub fn reader(record: &Record) -> Reader {
    match &record.caller {
        Some((uid, gids)) => Reader::for_caller(*uid, gids.clone()),
        None => Reader::own(),
    }
}

/// Walks `paths` and writes down what is there, page by page.
async fn prepare(engine: &Arc<Engine>, key: &Key, paths: Vec<PathBuf>) -> Result<(), ApiError> {
    let record = engine.book.record(key).ok_or(state::Error::Gone)?;
    let (task, name) = (engine.clone(), key.clone());
    let runtime = tokio::runtime::Handle::current();
    let walked = engine.tasks.blocking(move || walk(&task, &name, &record, &paths, &runtime)).await?;
    if walked.entries == 0 {
        let message = match walked.skipped.first() {
            Some(first) => format!("nothing to send: {} ({})", first.path, first.reason),
            None => "nothing to send".to_owned(),
        };
        return Err(ApiError::new(Code::FileNotFound, message));
    }
    engine
        .book
        .set(key, |record| {
            record.entries = walked.entries;
            record.bytes = Some(walked.bytes);
            record.skipped = walked.skipped.len() as u64;
            let first = walked.skipped.into_iter().take(SHOWN);
            record.skipped_why = first.map(|it| Problem { path: it.path, reason: it.reason.to_owned() }).collect();
            if record.state == TransferState::Preparing {
                record.state = TransferState::Offered;
            }
        })
        .await?;
    engine.book.refresh(key).await?;
    engine.outbox.forgive(&key.peer);
    Ok(())
}

#[derive(Default)]
struct Walked {
    entries: u64,
    bytes: u64,
    skipped: Vec<Skipped>,
}

fn walk(
    engine: &Engine,
    key: &Key,
    record: &Record,
    paths: &[PathBuf],
    runtime: &tokio::runtime::Handle,
) -> Result<Walked, ApiError> {
    let mut walked = Walked::default();
    let mut skipped = Vec::new();
    let mut page = Vec::with_capacity(PAGE);
    let mut broken = None;
    let keep = |page: &mut Vec<OutEntry>| {
        let (entries, number) = (std::mem::take(page), record.number);
        let write = engine.book.store.write(move |tx| book::add_out(tx, number, &entries));
        runtime.block_on(write).map_err(|error| ApiError::from(state::Error::from(error)))
    };
    let mut sink = |found: files::SourceEntry| {
        let size = (found.kind == Kind::File).then_some(found.size);
        let item = Item {
            index: walked.entries,
            path: found.path,
            kind: found.kind,
            size,
            mtime_ns: found.mtime_ns,
            mode: if found.executable { 0o755 } else { 0o644 },
            target: found.target,
        };
        walked.entries += 1;
        walked.bytes = walked.bytes.saturating_add(size.unwrap_or_default());
        page.push(OutEntry { item, source: found.source, inode: found.ino });
        if walked.entries > limits::OFFER_ENTRIES as u64 {
            let message = format!("more than {} entries in one transfer", limits::OFFER_ENTRIES);
            broken = Some(ApiError::new(Code::TooLarge, message));
        } else if page.len() == PAGE {
            broken = keep(&mut page).err();
        }
        let called_off = engine.book.state(key) != Some(TransferState::Preparing);
        if broken.is_some() || called_off { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    };
    files::walk(&reader(record), paths, &mut sink, &mut |it| skipped.push(it))?;
    if let Some(error) = broken {
        return Err(error);
    }
    keep(&mut page)?;
    walked.skipped = skipped;
    Ok(walked)
}
