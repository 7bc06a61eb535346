//! What is in a journal: `entries`.
//!
//! ```text
//! body    bodies on their way to the daemon and back, in pieces
//! ndjson  export and import
//! ```

pub mod body;
mod ndjson;

use data_encoding::BASE64;
use kith_proto::control::journal::{
    DeleteParams, EntriesResult, EntriesSubscribeParams, EntriesSubscribeResult, Entry, EntryChanged, EntryOrder,
    HistoryParams, ListParams, PutParams, RecoverParams, VersionsResult,
};
use kith_proto::control::method::{
    EntriesDelete, EntriesHistory, EntriesList, EntriesRecover, EntriesRecovered, EntriesSubscribe, Method,
};
use kith_proto::control::{ApiError, Code};
use kith_proto::limits;
use serde::Serialize;

use super::{Context, view};
use crate::args::journals::{Entries, Get, List, Put};
use crate::client::Incoming;
use crate::error::{Error, Result};
use crate::output::Table;

/// `entries`
pub fn run(ctx: &Context, action: Entries) -> Result<()> {
    match action {
        Entries::Put(args) => put(ctx, args),
        Entries::Get(args) => get(ctx, &args),
        Entries::Rm { journal, id, expected } => {
            let params = DeleteParams { journal, id, expected };
            ctx.show::<EntriesDelete>(&params, |entry| ctx.out.line(&format!("deleted {}", entry.id)))
        }
        Entries::List(args) => list(ctx, args),
        Entries::History { journal, id } => versions::<EntriesHistory>(ctx, journal, id),
        Entries::Recovered { journal } => versions::<EntriesRecovered>(ctx, journal, None),
        Entries::Recover { journal, id, version, discard } => {
            let params = RecoverParams { journal, id, version, discard };
            let done = if discard { "forgot" } else { "made current" };
            ctx.show::<EntriesRecover>(&params, |_| {
                ctx.out.line(&format!("{done} {} of {}", params.version, params.id))
            })
        }
        Entries::Watch { journal, since } => watch(ctx, journal, since),
        Entries::Export { journal, file } => ndjson::export(ctx, &journal, file.as_deref()),
        Entries::Import { journal, file, on_conflict } => ndjson::import(ctx, &journal, file.as_deref(), on_conflict),
    }
}

fn put(ctx: &Context, args: Put) -> Result<()> {
    let Put { journal, id, file, meta, expected } = args;
    // Read to its end before anything is sent.
    let body = body::read(file.as_deref())?;
    let params = PutParams { journal, id, meta: meta.unwrap_or_default(), expected, ..PutParams::default() };
    let entry = body::put(&mut ctx.connect()?, params, &body)?;
    written(ctx, &entry)
}

/// Says which entry was written.
pub fn written(ctx: &Context, entry: &Entry) -> Result<()> {
    if ctx.out.is_json() { ctx.out.object(entry) } else { ctx.out.line(&entry.id) }
}

/// The error of an entry that is not there.
pub fn not_found(id: &str) -> Error {
    ApiError::new(Code::EntryNotFound, format!("there is no entry {id}, or it was deleted")).into()
}

/// An entry with its whole body, as `--json` shows it.
#[derive(Serialize)]
struct Whole<'a> {
    #[serde(flatten)]
    entry: &'a Entry,
    body: String,
}

fn get(ctx: &Context, args: &Get) -> Result<()> {
    if args.raw && ctx.out.is_json() {
        return Err(Error::usage("--raw writes the body as it is, --json an object: choose one"));
    }
    let (entry, body) = body::fetch(&mut ctx.connect()?, &args.journal, &args.id, args.version.as_deref())?;
    if args.raw {
        return if entry.deleted { Err(not_found(&entry.id)) } else { ctx.out.bytes(&body) };
    }
    if ctx.out.is_json() {
        return ctx.out.object(&Whole { entry: &entry, body: BASE64.encode(&body) });
    }
    ctx.out.table(&whole(&entry))?;
    match std::str::from_utf8(&body) {
        _ if entry.deleted || body.is_empty() => {}
        Ok(text) if !text.contains('\0') => return ctx.out.quote(text),
        _ => ctx.out.note("the body is not text; --raw writes it as it is"),
    }
    Ok(())
}

fn whole(entry: &Entry) -> Table {
    let mut table = Table::untitled();
    table.pair("id", entry.id.clone());
    table.pair("hash", entry.hash.clone());
    table.pair(if entry.deleted { "deleted" } else { "updated" }, entry.updated_at.clone());
    table.pair("device", entry.device.to_string());
    table.pair("meta", meta(entry));
    table.pair("size", (!entry.deleted).then(|| view::size(entry.size)));
    table
}

/// The metadata as JSON; nothing where there is none.
fn meta(entry: &Entry) -> String {
    if entry.meta.is_empty() { String::new() } else { serde_json::to_string(&entry.meta).unwrap_or_default() }
}

fn size(entry: &Entry) -> String {
    if entry.deleted { "deleted".to_owned() } else { view::size(entry.size) }
}

fn list(ctx: &Context, args: List) -> Result<()> {
    let List { journal, by, after, from, until, limit, deleted } = args;
    let timed = from.is_some() || until.is_some();
    let by = by.unwrap_or(if timed { EntryOrder::Time } else { EntryOrder::Seq });
    if timed && by == EntryOrder::Seq {
        return Err(Error::usage("--from and --until are about time").hint("leave --by away, or say --by time"));
    }
    let mut client = ctx.connect()?;
    let mut params = ListParams { journal, by, after, from, until, limit: None, deleted };
    let mut left = limit;
    let mut table = Table::new(&["ID", "UPDATED", "DEVICE", "SIZE", "META"]);
    loop {
        params.limit = left.map(|left| left.min(limits::ENTRIES_PAGE as u64));
        let raw = client.call_raw(EntriesList::NAME, Some(&params))?;
        let page: EntriesResult = client.decode(&raw)?;
        if ctx.out.is_json() {
            ctx.out.raw(raw.get())?;
        } else {
            for entry in &page.entries {
                let Entry { id, updated_at, device, .. } = entry;
                table.row([id.clone(), updated_at.clone(), device.to_string(), size(entry), meta(entry)]);
            }
            ctx.out.table(&table)?;
            table = Table::untitled();
        }
        left = left.map(|left| left.saturating_sub(page.entries.len() as u64));
        let Some(next) = page.next else { return Ok(()) };
        if left == Some(0) {
            ctx.out.note(&format!("there are more: --after {next}"));
            return Ok(());
        }
        params.after = Some(next);
    }
}

/// Versions that are not current, page after page.
fn versions<M>(ctx: &Context, journal: String, id: Option<String>) -> Result<()>
where
    M: Method<Params = HistoryParams, Result = VersionsResult>,
{
    let mut client = ctx.connect()?;
    let mut params = HistoryParams { journal, id, after: None };
    let mut table = Table::new(&["ID", "UPDATED", "DEVICE", "SIZE", "VERSION", "META"]);
    loop {
        let raw = client.call_raw(M::NAME, Some(&params))?;
        let page: VersionsResult = client.decode(&raw)?;
        if ctx.out.is_json() {
            ctx.out.raw(raw.get())?;
        } else {
            for entry in &page.versions {
                let Entry { id, updated_at, device, hash, .. } = entry;
                let cells =
                    [id.clone(), updated_at.clone(), device.to_string(), size(entry), hash.clone(), meta(entry)];
                table.row(cells);
            }
            ctx.out.table(&table)?;
            table = Table::untitled();
        }
        let Some(next) = page.next else { return Ok(()) };
        params.after = Some(next);
    }
}

/// `entries watch`: where it begins, then each change, until nobody reads any more.
fn watch(ctx: &Context, journal: String, since: Option<String>) -> Result<()> {
    let mut client = ctx.connect()?;
    let params = EntriesSubscribeParams { journal, cursor: since };
    let raw = client.call_raw(EntriesSubscribe::NAME, Some(&params))?;
    let EntriesSubscribeResult { reset, .. } = client.decode(&raw)?;
    if ctx.out.is_json() {
        ctx.out.raw(raw.get())?;
    } else if reset {
        ctx.out.note("that place is of a database that is no more: every entry follows anew");
    }
    loop {
        match client.next()? {
            Incoming::Changed(_, raw) if ctx.out.is_json() => ctx.out.raw(raw.get())?,
            Incoming::Changed(change, _) => ctx.out.line(&changed(&change))?,
            Incoming::Fact(..) | Incoming::Lagged(_) | Incoming::Answer(..) => {}
        }
    }
}

fn changed(change: &EntryChanged) -> String {
    let entry = &change.entry;
    let line = format!("{}  {}  {}  {}  {}", entry.updated_at, entry.device, entry.id, size(entry), meta(entry));
    line.trim_end().to_owned()
}
