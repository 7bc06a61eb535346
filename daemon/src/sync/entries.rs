//! What the local door asks of entries.

use kith_proto::control::journal::{
    EntriesResult, Entry, EntryChanged, EntryOrder, HistoryParams, ListParams, RecoverParams, VersionsResult,
};
use kith_proto::control::{ApiError, Code};
use kith_proto::hlc::Stamp;
use kith_proto::limits;
use kith_proto::peer::journal::replica::{Kept, Shelf};
use kith_proto::peer::journal::rules::{self, Content, Expected, Written};
use kith_proto::peer::journal::version::{self, Epoch, Hash, JournalId, Version};
use kith_proto::peer::reconcile::Element;
use serde_json::{Map, Value};
use std::sync::Arc;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::book::{Held, KeptAt};
use super::journals::{active, cursor, decided, find, parse_cursor};
use super::session::now_ms;
use super::{Engine, Sync, staged, view};

/// Bytes of ids and metadata in one page: with the rest of an entry it stays within a line.
const PAGE_BYTES: usize = limits::CONTROL_LINE / 4;
/// The rest of an entry in JSON is shorter than this.
const ENTRY_JSON: usize = 512;
/// What a page has room for.
const PAGE_ROWS: usize = PAGE_BYTES / ENTRY_JSON;

/// What is written.
pub struct Put {
    /// The journal's name or id.
    pub journal: String,
    /// The entry; a new one if there is none.
    pub id: Option<String>,
    /// Plain metadata.
    pub meta: Map<String, Value>,
    /// The body.
    pub body: Vec<u8>,
    /// The hash of the version that is replaced, or `none`.
    pub expected: Option<String>,
}

impl Sync {
    /// Adds a piece to a body that is too long for one line.
    pub fn stage(
        &self,
        name: Option<String>,
        piece: &[u8],
        connection: &CancellationToken,
    ) -> Result<(String, u64), ApiError> {
        self.0.staged.add(name, piece, connection)
    }

    /// Takes such a body.
    pub fn staged(&self, name: &str) -> Result<Vec<u8>, ApiError> {
        self.0.staged.take(name)
    }

    /// Writes an entry.
    pub async fn put(&self, put: Put) -> Result<Entry, ApiError> {
        let id = put.id.unwrap_or_else(|| uuid::Uuid::now_v7().to_string());
        check_id(&id)?;
        let meta = if put.meta.is_empty() { String::new() } else { Value::Object(put.meta).to_string() };
        if meta.len() > limits::ENTRY_META {
            let message = format!("metadata has at most {} bytes", limits::ENTRY_META);
            return Err(ApiError::new(Code::TooLarge, message).hint("put what is longer into the body"));
        }
        if put.body.len() > limits::ENTRY_BODY {
            return Err(staged::too_long());
        }
        let expected = match put.expected.as_deref() {
            None => Expected::Anything,
            Some("none") => Expected::Nothing,
            Some(hash) => Expected::Hash(parse_hash(hash)?),
        };
        let body = put.body;
        self.0.write_entry(put.journal, id, expected, Some((meta, body))).await
    }

    /// Deletes an entry.
    pub async fn delete(&self, journal: String, id: String, expected: Option<String>) -> Result<Entry, ApiError> {
        let expected = expected.map_or(Ok(Expected::Anything), |hash| parse_hash(&hash).map(Expected::Hash))?;
        self.0.write_entry(journal, id, expected, None).await
    }

    /// A version of an entry, the current one or one that is kept, and a piece of its body.
    pub async fn get(
        &self,
        journal: String,
        id: String,
        version: Option<String>,
        offset: u64,
    ) -> Result<(Entry, Vec<u8>), ApiError> {
        let hash = version.map(|hash| parse_hash(&hash)).transpose()?;
        self.0
            .decide_reading(move |book| {
                let listed = decided!(find(book, &journal)?);
                let journal = book.replica(&listed.id)?;
                let held = decided!(journal.held(&id, hash.as_ref())?.ok_or_else(no_entry));
                if offset > held.version.size {
                    return Ok(Err(ApiError::new(Code::InvalidParam, "offset is behind the end of the body")));
                }
                let piece = journal.body(&held, offset, limits::FEED_CHUNK)?;
                Ok(Ok((view::entry(&held.version, held.seq), piece)))
            })
            .await
    }

    /// A page of entries.
    pub async fn list(&self, params: ListParams) -> Result<EntriesResult, ApiError> {
        let most = limits::ENTRIES_PAGE as u64;
        let rows = match params.limit.unwrap_or(most) {
            rows if (1..=most).contains(&rows) => usize::try_from(rows).unwrap_or(usize::MAX).min(PAGE_ROWS),
            _ => return Err(ApiError::new(Code::InvalidParam, format!("limit is 1 to {most}"))),
        };
        let (from, until) = (parse_time(params.from)?, parse_time(params.until)?);
        match params.by {
            EntryOrder::Seq if from.is_some() || until.is_some() => {
                Err(ApiError::new(Code::InvalidParam, "from and until go with by = \"time\""))
            }
            EntryOrder::Seq => self.0.by_seq(params.journal, params.after, params.deleted, rows).await,
            EntryOrder::Time => {
                let after = params.after.map(|after| parse_element(&after)).transpose()?;
                let span = (from.unwrap_or(Stamp::ZERO), until.unwrap_or(Stamp(u64::MAX)));
                self.0.by_time(params.journal, after, span, params.deleted, rows).await
            }
        }
    }

    /// Versions that lost a conflict.
    pub async fn history(&self, params: HistoryParams) -> Result<VersionsResult, ApiError> {
        self.0.kept(params, Kept::History).await
    }

    /// Versions that came back from before the horizon.
    pub async fn recovered(&self, params: HistoryParams) -> Result<VersionsResult, ApiError> {
        self.0.kept(params, Kept::Recovered).await
    }

    /// Makes a kept version current again, or forgets it.
    pub async fn recover(&self, params: RecoverParams) -> Result<(), ApiError> {
        let hash = parse_hash(&params.version)?;
        let device = self.0.identity.public();
        let journal = self
            .0
            .decide(move |book| {
                let listed = decided!(active(book, &params.journal)?);
                let mut journal = book.replica(&listed.id)?;
                let held = decided!(journal.kept_version(&params.id, &hash)?.ok_or_else(no_entry));
                if !params.discard {
                    let whole = usize::try_from(held.version.size).unwrap_or(usize::MAX);
                    let body = journal.body(&held, 0, whole)?;
                    let Version { deleted, meta, .. } = &held.version;
                    let content = Content { deleted: *deleted, meta, body: &body };
                    rules::write(&mut journal, device, &params.id, content, Expected::Anything, now_ms())?;
                }
                journal.forget(&held)?;
                Ok(Ok((!params.discard).then_some(listed.id)))
            })
            .await?;
        if let Some(journal) = journal {
            self.0.entries_changed(vec![journal], None).await;
        }
        Ok(())
    }

    /// Changes of a journal behind a cursor; where that is, and whether it had to begin anew.
    pub async fn follow(&self, journal: String, wanted: Option<String>) -> Result<(Changes, String, bool), ApiError> {
        let wanted = match wanted.as_deref() {
            None => Wanted::Now,
            Some("") => Wanted::All,
            Some(cursor) => Wanted::After(parse_cursor(cursor)?),
        };
        // Before the first look: what changes after it is noticed.
        let news = self.0.changes.subscribe();
        let (journal, epoch, at, reset) = self
            .0
            .decide_reading(move |book| {
                let listed = decided!(find(book, &journal)?);
                let (epoch, top) = (Shelf::epoch(book), Shelf::top(book)?);
                let (at, reset) = match wanted {
                    Wanted::Now => (top, false),
                    Wanted::All => (0, false),
                    Wanted::After((of, seq)) if of == epoch && seq <= top => (seq, false),
                    Wanted::After(_) => (0, true),
                };
                Ok(Ok((listed.id, epoch, at, reset)))
            })
            .await?;
        let changes = Changes { engine: self.0.clone(), journal, epoch, at, news };
        Ok((changes, cursor(&epoch, at), reset))
    }
}

enum Wanted {
    Now,
    All,
    After((Epoch, u64)),
}

/// The changes of one journal, one after the other.
pub struct Changes {
    engine: Arc<Engine>,
    journal: JournalId,
    epoch: Epoch,
    at: u64,
    news: watch::Receiver<u64>,
}

impl Changes {
    /// The next ones, as soon as there are any.
    pub async fn next(&mut self) -> Vec<EntryChanged> {
        loop {
            self.news.borrow_and_update();
            let page = self.page().await;
            if !page.is_empty() {
                return page;
            }
            if self.news.changed().await.is_err() {
                // The engine is gone with the daemon: there will be no more changes.
                std::future::pending::<()>().await;
            }
        }
    }

    async fn page(&mut self) -> Vec<EntryChanged> {
        let (journal, at) = (self.journal, self.at);
        let page = self.engine.read(move |book| {
            let Some(listed) = book.journal(&journal)? else { return Ok(None) };
            let epoch = Shelf::epoch(book);
            let page = book.replica(&listed.id)?.by_seq(at, true, PAGE_ROWS, PAGE_BYTES)?;
            Ok(Some((epoch, page)))
        });
        let (epoch, page) = match page.await {
            Ok(Some(found)) => found,
            Ok(None) => return Vec::new(),
            Err(error) => {
                tracing::error!(%error, "cannot follow a journal");
                return Vec::new();
            }
        };
        if epoch != self.epoch {
            // Only the numbers to come are of another life; those so far were told.
            self.epoch = epoch;
        }
        self.at = page.versions.last().map_or(self.at, |held| held.seq);
        let journal = self.journal.to_string();
        let told = page.versions.iter().map(|held| EntryChanged {
            journal: journal.clone(),
            entry: view::entry(&held.version, held.seq),
            cursor: cursor(&epoch, held.seq),
        });
        told.collect()
    }
}

impl Engine {
    /// Writes an entry, or deletes it where there is no content.
    async fn write_entry(
        &self,
        journal: String,
        id: String,
        expected: Expected,
        content: Option<(String, Vec<u8>)>,
    ) -> Result<Entry, ApiError> {
        let device = self.identity.public();
        let (entry, changed) = self
            .decide(move |book| {
                let listed = decided!(active(book, &journal)?);
                let (deleted, (meta, body)) = (content.is_none(), content.unwrap_or_default());
                let content = Content { deleted, meta: &meta, body: &body };
                let mut replica = book.replica(&listed.id)?;
                Ok(match rules::write(&mut replica, device, &id, content, expected, now_ms())? {
                    Written::Current(seq, version) => Ok((view::entry(&version, seq), Some(listed.id))),
                    Written::Unchanged(version) => {
                        let seq = replica.held(&id, None)?.map_or(0, |held| held.seq);
                        Ok((view::entry(&version, seq), None))
                    }
                    Written::Mismatch(current) => Err(mismatch(current.as_deref())),
                    Written::Missing => Err(no_entry()),
                })
            })
            .await?;
        if let Some(journal) = changed {
            self.entries_changed(vec![journal], None).await;
        }
        Ok(entry)
    }

    async fn by_seq(
        &self,
        journal: String,
        after: Option<String>,
        deleted: bool,
        rows: usize,
    ) -> Result<EntriesResult, ApiError> {
        let after = after.filter(|after| !after.is_empty()).map(|after| parse_cursor(&after)).transpose()?;
        self.decide_reading(move |book| {
            let listed = decided!(find(book, &journal)?);
            let (epoch, top) = (Shelf::epoch(book), Shelf::top(book)?);
            let after = match after {
                Some((of, seq)) if of == epoch && seq <= top => seq,
                Some(_) => return Ok(Err(old_cursor())),
                None => 0,
            };
            let page = book.replica(&listed.id)?.by_seq(after, deleted, rows, PAGE_BYTES)?;
            let last = page.versions.last().map(|held| held.seq);
            let at = if page.more { last.unwrap_or(after) } else { top };
            let at = cursor(&epoch, at);
            Ok(Ok(EntriesResult { entries: shown(&page.versions), next: page.more.then(|| at.clone()), cursor: at }))
        })
        .await
    }

    async fn by_time(
        &self,
        journal: String,
        after: Option<Element>,
        span: (Stamp, Stamp),
        deleted: bool,
        rows: usize,
    ) -> Result<EntriesResult, ApiError> {
        self.decide_reading(move |book| {
            let listed = decided!(find(book, &journal)?);
            let at = cursor(&Shelf::epoch(book), Shelf::top(book)?);
            let page = book.replica(&listed.id)?.by_time(after.as_ref(), span, deleted, rows, PAGE_BYTES)?;
            let next = page.versions.last().filter(|_| page.more).map(|held| element_text(&held.version));
            Ok(Ok(EntriesResult { entries: shown(&page.versions), next, cursor: at }))
        })
        .await
    }

    async fn kept(&self, params: HistoryParams, place: Kept) -> Result<VersionsResult, ApiError> {
        let after = params.after.map(|after| parse_kept(&after)).transpose()?;
        self.decide_reading(move |book| {
            let listed = decided!(find(book, &params.journal)?);
            let journal = book.replica(&listed.id)?;
            let page = journal.kept(place, params.id.as_deref(), after.as_ref(), PAGE_ROWS, PAGE_BYTES)?;
            let last = page.versions.last().filter(|_| page.more).map(Held::kept_at);
            let next = last.map(|at| format!("{}.{}.{}", at.stamp, at.number, at.id));
            Ok(Ok(VersionsResult { versions: shown(&page.versions), next }))
        })
        .await
    }
}

fn shown(versions: &[Held]) -> Vec<Entry> {
    versions.iter().map(|held| view::entry(&held.version, held.seq)).collect()
}

fn check_id(id: &str) -> Result<(), ApiError> {
    version::check_id(id).map_err(|_| {
        let message = format!("an entry's id has 1 to {} bytes and no control characters", limits::ENTRY_ID);
        ApiError::new(Code::InvalidParam, message)
    })
}

fn parse_hash(text: &str) -> Result<Hash, ApiError> {
    let bytes = data_encoding::HEXLOWER.decode(text.as_bytes()).ok().and_then(|bytes| bytes.try_into().ok());
    bytes.ok_or_else(|| ApiError::new(Code::InvalidParam, "a hash is 64 lower-case hex digits"))
}

/// The first stamp that is not before a time.
fn parse_time(text: Option<String>) -> Result<Option<Stamp>, ApiError> {
    let wrong = |_| ApiError::new(Code::InvalidParam, "a time is like 2026-11-22T10:00:00Z (RFC 3339)");
    let time = text.map(|text| text.parse::<jiff::Timestamp>().map_err(wrong)).transpose()?;
    Ok(time.map(|time| Stamp::at(u64::try_from(time.as_millisecond()).unwrap_or_default())))
}

fn element_text(version: &Version) -> String {
    let element = version.element();
    format!("{:016x}.{}", element.stamp, data_encoding::HEXLOWER.encode(&element.id))
}

fn parse_element(text: &str) -> Result<Element, ApiError> {
    let parts = text.split_once('.').and_then(|(stamp, id)| {
        let id = data_encoding::HEXLOWER.decode(id.as_bytes()).ok()?.try_into().ok()?;
        Some(Element { stamp: u64::from_str_radix(stamp, 16).ok()?, id })
    });
    parts.ok_or_else(not_a_page)
}

fn parse_kept(text: &str) -> Result<KeptAt, ApiError> {
    let mut parts = text.splitn(3, '.');
    let mut read = || {
        let stamp = Stamp(u64::from_str_radix(parts.next()?, 16).ok()?);
        Some(KeptAt { stamp, number: parts.next()?.parse().ok()?, id: parts.next()?.to_owned() })
    };
    read().ok_or_else(not_a_page)
}

fn not_a_page() -> ApiError {
    ApiError::new(Code::InvalidParam, "after is not the next of another page")
}

fn no_entry() -> ApiError {
    ApiError::new(Code::EntryNotFound, "the journal has no such entry, or no such version of it")
}

fn old_cursor() -> ApiError {
    ApiError::new(Code::InvalidParam, "this cursor is of a database that is no more").hint("begin without one")
}

fn mismatch(current: Option<&Version>) -> ApiError {
    let message = match current {
        Some(version) => format!("another version is there: {}", data_encoding::HEXLOWER.encode(&version.hash)),
        None => "the entry is not there".to_owned(),
    };
    ApiError::new(Code::VersionMismatch, message).hint("look at it again, and decide anew")
}
