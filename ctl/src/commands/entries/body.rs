//! Bodies on their way to the daemon and back. A line of the local door holds a piece of a long one.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use data_encoding::BASE64;
use kith_proto::control::journal::{Entry, GetParams, GetResult, PutParams, StageParams};
use kith_proto::control::method::{EntriesGet, EntriesPut, EntriesStage};
use kith_proto::control::{ApiError, Code};
use kith_proto::limits::{ENTRY_BODY, FEED_CHUNK};

use crate::client::Client;
use crate::error::{Error, FAILED, Result};

/// How often reading begins anew when the entry changes meanwhile.
const TRIES: usize = 5;

/// All of a file or of standard input, if an entry can hold it.
pub fn read(file: Option<&Path>) -> Result<Vec<u8>> {
    match file {
        Some(path) => read_from(open(path)?, &path.display().to_string()),
        None => read_from(io::stdin(), "standard input"),
    }
}

/// A file of the caller's.
pub fn open(path: &Path) -> Result<File> {
    File::open(path).map_err(|error| unreadable(&path.display().to_string(), &error))
}

/// The error of an input that cannot be read.
pub fn unreadable(name: &str, error: &io::Error) -> Error {
    Error::new(FAILED, "input", format!("cannot read {name}: {error}"))
}

fn read_from(input: impl Read, name: &str) -> Result<Vec<u8>> {
    let mut body = Vec::new();
    input.take(ENTRY_BODY as u64 + 1).read_to_end(&mut body).map_err(|error| unreadable(name, &error))?;
    check(&body)?;
    Ok(body)
}

/// Whether an entry can hold `body`.
pub fn check(body: &[u8]) -> Result<()> {
    if body.len() <= ENTRY_BODY {
        return Ok(());
    }
    let message = format!("this is more than the {ENTRY_BODY} bytes that an entry can hold");
    Err(ApiError::new(Code::TooLarge, message).hint("send it as a file: kithctl send").into())
}

/// Writes an entry; `params` say everything but the body.
pub fn put(client: &mut Client, mut params: PutParams, body: &[u8]) -> Result<Entry> {
    check(body)?;
    if body.len() > FEED_CHUNK {
        params.staged = stage(client, body)?;
    } else {
        params.body = Some(BASE64.encode(body));
    }
    client.call::<EntriesPut>(&params)
}

/// Hands a long body over, one piece after the answer to the one before.
fn stage(client: &mut Client, body: &[u8]) -> Result<Option<String>> {
    let mut staged = None;
    for piece in body.chunks(FEED_CHUNK) {
        staged = Some(client.call::<EntriesStage>(&StageParams { staged, data: BASE64.encode(piece) })?.staged);
    }
    Ok(staged)
}

/// An entry and its whole body: all of one version, never parts of two.
pub fn fetch(client: &mut Client, journal: &str, id: &str, version: Option<&str>) -> Result<(Entry, Vec<u8>)> {
    let begin = GetParams {
        journal: journal.to_owned(),
        id: id.to_owned(),
        version: version.map(str::to_owned),
        ..GetParams::default()
    };
    for _ in 0..TRIES {
        if let Some(whole) = fetch_once(client, &begin)? {
            return Ok(whole);
        }
    }
    let message = format!("the entry {id} changes faster than it can be read");
    Err(ApiError::new(Code::Busy, message).hint("try again").into())
}

/// `None` if the entry changed between two pieces.
fn fetch_once(client: &mut Client, begin: &GetParams) -> Result<Option<(Entry, Vec<u8>)>> {
    let mut params = begin.clone();
    let first: GetResult = client.call::<EntriesGet>(&params)?;
    let entry = first.entry;
    let mut body = Vec::new();
    let (mut piece, mut next) = (first.body, first.next);
    loop {
        let before = body.len();
        body.extend(BASE64.decode(piece.as_bytes()).map_err(|_| broken("a body that is not base64"))?);
        if body.len() > ENTRY_BODY {
            return Err(broken("a body that is too long"));
        }
        match next {
            None if body.len() as u64 == entry.size => return Ok(Some((entry, body))),
            None => return Err(broken("a body of another length than it says")),
            Some(at) if at != body.len() as u64 || body.len() == before => {
                return Err(broken("pieces that do not fit"));
            }
            Some(at) => params.offset = at,
        }
        let more = match client.call::<EntriesGet>(&params) {
            // It was deleted, and its content with it.
            Err(Error::Told { code, .. }) if code == Code::EntryNotFound.as_str() => return Ok(None),
            // It is shorter now.
            Err(Error::Told { code, .. }) if code == Code::InvalidParam.as_str() => return Ok(None),
            more => more?,
        };
        if more.entry.hash != entry.hash {
            return Ok(None);
        }
        (piece, next) = (more.body, more.next);
    }
}

fn broken(what: &str) -> Error {
    Error::new(FAILED, Code::Integrity.as_str(), format!("kithd answered with {what}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_entry_cannot_hold_is_not_read_to_its_end() {
        assert_eq!(read_from(io::repeat(1).take(ENTRY_BODY as u64), "it").unwrap().len(), ENTRY_BODY);
        let Err(Error::Told { exit, code, .. }) = read_from(io::repeat(1), "it") else { panic!("it has no end") };
        assert_eq!((exit, code.as_str()), (FAILED, "too_large"));
    }
}
