//! `entries export` and `entries import`: a journal's live entries, a JSON object a line.

use std::fs::File;
use std::io::{self, BufRead, BufReader, BufWriter, Read as _};
use std::path::Path;

use data_encoding::BASE64;
use kith_proto::control::journal::{Entry, ListParams, PutParams};
use kith_proto::control::method::EntriesList;
use kith_proto::control::{ApiError, Code};
use kith_proto::limits::{ENTRY_BODY, ENTRY_ID, ENTRY_META};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use tempfile::NamedTempFile;

use super::body::{self, open, unreadable};
use crate::args::journals::OnConflict;
use crate::client::Client;
use crate::commands::Context;
use crate::error::{Error, FAILED, Result};
use crate::output::object_to;

/// The longest line: a body in base64, and the rest with every character escaped.
const LINE: usize = ENTRY_BODY.div_ceil(3) * 4 + 6 * (ENTRY_ID + ENTRY_META) + 1024;
/// How often an entry is replaced that changes meanwhile.
const TRIES: usize = 5;

/// What is expected where there must not be an entry.
const NONE: &str = "none";

/// A line of an export.
#[derive(Serialize)]
struct Exported<'a> {
    id: &'a str,
    meta: &'a Map<String, Value>,
    body: String,
    hash: &'a str,
    updated_at: &'a str,
    deleted: bool,
}

/// A line of an import: only what an entry is made of.
#[derive(Debug, Deserialize)]
struct Imported {
    id: String,
    #[serde(default)]
    meta: Map<String, Value>,
    body: String,
    #[serde(default)]
    deleted: bool,
}

/// What became of the lines of an import.
#[derive(Debug, Default, Serialize)]
struct Counts {
    imported: u64,
    same: u64,
    skipped: u64,
}

#[derive(Serialize)]
struct Done {
    exported: u64,
}

/// `entries export`
pub fn export(ctx: &Context, journal: &str, file: Option<&Path>) -> Result<()> {
    let mut client = ctx.connect()?;
    let Some(path) = file else {
        let exported = each(&mut client, journal, |line| ctx.out.object(line))?;
        ctx.out.note(&counted(exported));
        return Ok(());
    };
    let failed = |error: io::Error| Error::new(FAILED, "output", format!("cannot write {}: {error}", path.display()));
    // A pipe or a device is written to; a file is there whole, or as it was.
    let exported = if path.metadata().is_ok_and(|there| !there.is_file()) {
        let mut to = File::options().write(true).open(path).map_err(failed)?;
        each(&mut client, journal, |line| object_to(&mut to, line))?
    } else {
        let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let mut to = BufWriter::new(NamedTempFile::new_in(dir).map_err(failed)?);
        let exported = each(&mut client, journal, |line| object_to(&mut to, line))?;
        let whole = to.into_inner().map_err(|error| failed(error.into_error()))?;
        whole.as_file().sync_all().map_err(failed)?;
        whole.persist(path).map_err(|error| failed(error.error))?;
        exported
    };
    if ctx.out.is_json() { ctx.out.object(&Done { exported }) } else { ctx.out.line(&counted(exported)) }
}

fn counted(entries: u64) -> String {
    if entries == 1 { "exported 1 entry".to_owned() } else { format!("exported {entries} entries") }
}

/// Every live entry, in the order of changes; returns how many.
fn each(client: &mut Client, journal: &str, mut write: impl FnMut(&Exported<'_>) -> Result<()>) -> Result<u64> {
    let mut count = 0;
    let mut params = ListParams { journal: journal.to_owned(), ..ListParams::default() };
    loop {
        let page = client.call::<EntriesList>(&params)?;
        let mut moved = false;
        for listed in &page.entries {
            let Some((entry, body)) = current(client, journal, &listed.id)? else { continue };
            // It changed since it was listed: its new place is further on.
            if entry.seq != listed.seq {
                moved = true;
                continue;
            }
            let Entry { id, meta, hash, updated_at, .. } = &entry;
            write(&Exported { id, meta, body: BASE64.encode(&body), hash, updated_at, deleted: false })?;
            count += 1;
        }
        if page.next.is_none() && !moved {
            return Ok(count);
        }
        params.after = Some(page.cursor);
    }
}

/// The entry as it is now; `None` where there is none.
fn current(client: &mut Client, journal: &str, id: &str) -> Result<Option<(Entry, Vec<u8>)>> {
    match body::fetch(client, journal, id, None) {
        Ok((entry, _)) if entry.deleted => Ok(None),
        Ok(whole) => Ok(Some(whole)),
        Err(Error::Told { code, .. }) if code == Code::EntryNotFound.as_str() => Ok(None),
        Err(error) => Err(error),
    }
}

/// `entries import`
pub fn import(ctx: &Context, journal: &str, file: Option<&Path>, on_conflict: OnConflict) -> Result<()> {
    let name = file.map_or_else(|| "standard input".to_owned(), |path| path.display().to_string());
    let mut input: Box<dyn BufRead> = match file {
        Some(path) => Box::new(BufReader::new(open(path)?)),
        None => Box::new(io::stdin().lock()),
    };
    let mut client = ctx.connect()?;
    let mut counts = Counts::default();
    for number in 1_u64.. {
        let taken = read_line(&mut input, &name).and_then(|line| match line {
            Some(line) if line.trim_ascii().is_empty() => Ok(true),
            Some(line) => take(&mut client, journal, &parse(&line)?, on_conflict, &mut counts).map(|()| true),
            None => Ok(false),
        });
        match taken {
            Ok(true) => {}
            Ok(false) => break,
            Err(error) => return Err(at_line(error, &name, number, &counts)),
        }
    }
    if ctx.out.is_json() {
        return ctx.out.object(&counts);
    }
    let Counts { imported, same, skipped } = counts;
    ctx.out.line(&format!("{imported} imported, {same} the same already, {skipped} skipped"))?;
    if skipped > 0 {
        ctx.out.note("skipped are those that are there with other content: --on-conflict replace writes over them");
    }
    Ok(())
}

/// The same error, with where it happened and what is done already.
fn at_line(error: Error, name: &str, number: u64, counts: &Counts) -> Error {
    match error {
        Error::Told { exit, code, message, hint } => {
            let taken = counts.imported;
            let message = format!("{name}, line {number}: {message}; {taken} imported from the lines before it");
            Error::Told { exit, code, message, hint }
        }
        quiet @ Error::Quiet(_) => quiet,
    }
}

fn read_line(input: &mut impl BufRead, name: &str) -> Result<Option<Vec<u8>>> {
    let mut line = Vec::new();
    input.by_ref().take(LINE as u64 + 1).read_until(b'\n', &mut line).map_err(|error| unreadable(name, &error))?;
    match line.len() {
        0 => Ok(None),
        1..=LINE => Ok(Some(line)),
        _ => Err(malformed(format!("more than the {LINE} bytes that an entry can take"))),
    }
}

fn parse(line: &[u8]) -> Result<Imported> {
    serde_json::from_slice(line).map_err(|error| malformed(format!("not an entry: {error}")))
}

fn malformed(what: String) -> Error {
    Error::new(FAILED, "malformed", what).hint("what was imported stays; importing it again changes nothing")
}

fn take(
    client: &mut Client,
    journal: &str,
    line: &Imported,
    on_conflict: OnConflict,
    counts: &mut Counts,
) -> Result<()> {
    let body = BASE64.decode(line.body.as_bytes()).map_err(|_| malformed("the body is not base64".to_owned()))?;
    if line.deleted {
        counts.skipped += 1;
        return Ok(());
    }
    let mut expected = NONE.to_owned();
    for _ in 0..TRIES {
        let params = PutParams {
            journal: journal.to_owned(),
            id: Some(line.id.clone()),
            meta: line.meta.clone(),
            expected: Some(expected),
            ..PutParams::default()
        };
        match body::put(client, params, &body) {
            Err(Error::Told { code, .. }) if code == Code::VersionMismatch.as_str() => {}
            put => {
                put?;
                counts.imported += 1;
                return Ok(());
            }
        }
        let (there, content) = match body::fetch(client, journal, &line.id, None) {
            // Nor is it remembered any more.
            Err(Error::Told { code, .. }) if code == Code::EntryNotFound.as_str() => {
                expected = NONE.to_owned();
                continue;
            }
            there => there?,
        };
        expected = if there.deleted {
            // It is gone by now.
            NONE.to_owned()
        } else if there.meta == line.meta && content == body {
            counts.same += 1;
            return Ok(());
        } else if on_conflict == OnConflict::Skip {
            counts.skipped += 1;
            return Ok(());
        } else {
            there.hash
        };
    }
    Err(ApiError::new(Code::Busy, format!("the entry {} changes faster than it can be replaced", line.id)).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_have_a_longest() {
        let read = |bytes: Vec<u8>| read_line(&mut bytes.as_slice(), "it").map(|line| line.map(|line| line.len()));
        assert_eq!(read(Vec::new()), Ok(None));
        assert_eq!(read(b"{}\n{}".into()), Ok(Some(3)));
        assert_eq!(read(vec![b' '; LINE]), Ok(Some(LINE)));
        assert!(read(vec![b' '; LINE + 1]).unwrap_err().exit() == FAILED);
    }

    #[test]
    fn the_largest_entry_fits_into_a_line() {
        let (id, meta) = ("\u{80}".repeat(ENTRY_ID / 2), Value::from("\u{1}".repeat(ENTRY_META / 6 - 10)));
        let meta = Map::from_iter([("m".to_owned(), meta)]);
        let body = BASE64.encode(&vec![0; ENTRY_BODY]);
        let (hash, updated_at) = ("0".repeat(64), "2026-01-01T00:00:00.000Z");
        let mut line = Vec::new();
        let exported = Exported { id: &id, meta: &meta, body, hash: &hash, updated_at, deleted: false };
        object_to(&mut line, &exported).unwrap();
        assert!(line.len() <= LINE, "{}", line.len());
        let back = parse(&line).unwrap();
        assert_eq!((back.id, back.meta, back.body.len()), (id, meta, ENTRY_BODY.div_ceil(3) * 4));
    }

    #[test]
    fn lines_that_are_no_entries() {
        assert!(parse(br#"{"id":"a","body":"","newer":1}"#).is_ok());
        for line in ["", "{", "[]", "{}", r#"{"id":"a"}"#, r#"{"id":1,"body":""}"#, r#"{"id":"a","meta":[],"body":""}"#]
        {
            assert!(parse(line.as_bytes()).is_err(), "{line}");
        }
        assert!(parse(b"{\"id\":\"\xff\",\"body\":\"\"}").is_err());
    }
}
