//! Texts in a journal that only a passphrase opens: `journal write`, `journal read`. Everything is encrypted and
//! decrypted here: neither the daemon nor another device learns the passphrase or a text.

use std::collections::HashMap;
use std::io::{self, IsTerminal as _};

use kith_proto::control::Code;
use kith_proto::control::journal::{Entry, JournalParams, ListParams, PutParams};
use kith_proto::control::method::{EntriesList, JournalsShow};
use serde::Serialize;
use serde_json::{Map, Value};
use uuid::Uuid;
use zeroize::Zeroizing;

use super::Context;
use super::entries::{body, not_found, written};
use crate::args::diary::{Diary, PassphraseFrom, Write};
use crate::client::Client;
use crate::error::{Error, FAILED, Result};
use crate::passphrase::{Passphrase, obtain};
use crate::sealed::{Keyring, Place, Sealed};

/// The stable code of a passphrase that does not open what it should.
const WRONG_PASSPHRASE: &str = "wrong_passphrase";
const QUESTION: &str = "Passphrase:";
/// The shortest body that can hold a sealed text: whatever is shorter need not be asked for.
const SHORTEST: u64 = 90;

/// `journal`
pub fn run(ctx: &Context, action: Diary) -> Result<()> {
    match action {
        Diary::Write(args) => write(ctx, args),
        Diary::Read { journal, id: Some(id), passphrase } => read_one(ctx, &journal, &id, &passphrase),
        Diary::Read { journal, id: None, passphrase } => read_all(ctx, &journal, &passphrase),
    }
}

fn write(ctx: &Context, args: Write) -> Result<()> {
    let Write { journal, id, file, meta, passphrase, new_passphrase } = args;
    let mut client = ctx.connect()?;
    let home = home(&mut client, journal)?;
    let (id, there) = match id {
        Some(id) => {
            // What was deleted is not there.
            let there = fetch(&mut client, &home, &id)?.filter(|(entry, _)| !entry.deleted);
            (id, there.map(|(entry, _)| entry))
        }
        // It is made here, because the text is bound to it.
        None => (Uuid::now_v7().to_string(), None),
    };
    let newest = newest(&mut client, &home)?;
    let known = newest.as_ref().filter(|_| !new_passphrase);
    let mut keyring = Keyring::new(passphrase_from(ctx, &passphrase, known.is_none())?);
    let salt = match known {
        Some((other, sealed)) => {
            if keyring.open(sealed, home.place(other))?.is_none() {
                let message = format!("this is not the passphrase of the newest entry ({other}); nothing was written");
                let next = "type it again; with --new-passphrase this entry gets another one on purpose";
                return Err(Error::new(FAILED, WRONG_PASSPHRASE, message).hint(next));
            }
            Some(sealed.salt())
        }
        None => None,
    };
    if file.is_none() && io::stdin().is_terminal() {
        ctx.out.note("write; a line with Ctrl+D alone ends it");
    }
    let text = Zeroizing::new(body::read(file.as_deref())?);
    if std::str::from_utf8(&text).is_err() {
        return Err(Error::new(FAILED, "input", "this is not a text (UTF-8)").hint("for others: kithctl entries put"));
    }
    let sealed = keyring.seal(&text, home.place(&id), salt)?.body()?;
    let params = PutParams {
        journal: home.id,
        id: Some(id),
        expected: Some(there.as_ref().map_or_else(|| "none".to_owned(), |entry| entry.hash.clone())),
        meta: meta.or(there.map(|entry| entry.meta)).unwrap_or_default(),
        ..PutParams::default()
    };
    written(ctx, &body::put(&mut client, params, &sealed)?)
}

fn read_one(ctx: &Context, journal: &str, id: &str, passphrase: &PassphraseFrom) -> Result<()> {
    let mut client = ctx.connect()?;
    let home = home(&mut client, journal.to_owned())?;
    let Some((entry, body)) = fetch(&mut client, &home, id)?.filter(|(entry, _)| !entry.deleted) else {
        return Err(not_found(id));
    };
    let Some(sealed) = Sealed::read(&body) else {
        return Err(Error::new(FAILED, "not_encrypted", format!("{id} is not encrypted with a passphrase"))
            .hint("see: kithctl entries get"));
    };
    let mut keyring = Keyring::new(passphrase_from(ctx, passphrase, false)?);
    match keyring.open(&sealed, home.place(id))? {
        Some(text) if ctx.out.is_json() => ctx.out.object(&Opened::new(&entry, &text)),
        // Nothing else is printed, so nothing has to tell it from this program's own words.
        Some(text) => String::from_utf8_lossy(&text).lines().try_for_each(|line| ctx.out.line(line)),
        None => {
            let message =
                format!("this passphrase does not open {id}; if it is the right one, the entry was tampered with");
            Err(Error::new(FAILED, WRONG_PASSPHRASE, message).hint("nothing was changed; try again"))
        }
    }
}

fn read_all(ctx: &Context, journal: &str, passphrase: &PassphraseFrom) -> Result<()> {
    let mut client = ctx.connect()?;
    let home = home(&mut client, journal.to_owned())?;
    let mut keyring = None;
    let (mut opened, mut closed, mut plain) = (0_u64, 0_u64, 0_u64);
    for id in by_time(&mut client, &home)? {
        let Some((entry, body)) = fetch(&mut client, &home, &id)?.filter(|(entry, _)| !entry.deleted) else { continue };
        let Some(sealed) = Sealed::read(&body) else {
            plain += 1;
            continue;
        };
        let keyring = match &mut keyring {
            Some(keyring) => keyring,
            // Nobody is asked where there is nothing to open.
            none => none.insert(Keyring::new(passphrase_from(ctx, passphrase, false)?)),
        };
        let Some(text) = keyring.open(&sealed, home.place(&id))? else {
            closed += 1;
            continue;
        };
        if ctx.out.is_json() {
            ctx.out.object(&Opened::new(&entry, &text))?;
        } else {
            if opened > 0 {
                ctx.out.line("")?;
            }
            ctx.out.line(&format!("{}  {id}", entry.updated_at))?;
            ctx.out.quote(&String::from_utf8_lossy(&text))?;
        }
        opened += 1;
    }
    if plain > 0 {
        ctx.out.note(&format!("not encrypted with a passphrase, and not shown: {plain}"));
    }
    match (opened, closed) {
        (0, 0) => ctx.out.note("nothing in this journal is encrypted with a passphrase"),
        (_, 0) => {}
        (0, _) => {
            let message = format!("this passphrase opens none of the encrypted entries ({closed})");
            return Err(Error::new(FAILED, WRONG_PASSPHRASE, message).hint("nothing was changed; try again"));
        }
        _ => ctx.out.note(&format!("not opened by this passphrase: {closed}")),
    }
    Ok(())
}

/// A text as `--json` shows it.
#[derive(Serialize)]
struct Opened<'a> {
    id: &'a str,
    updated_at: &'a str,
    meta: &'a Map<String, Value>,
    text: String,
}

impl<'a> Opened<'a> {
    fn new(entry: &'a Entry, text: &[u8]) -> Self {
        let Entry { id, updated_at, meta, .. } = entry;
        Self { id, updated_at, meta, text: String::from_utf8_lossy(text).into_owned() }
    }
}

/// The journal that texts are bound to: its id is the same on every device, its name is not.
struct Home {
    id: String,
}

impl Home {
    fn place<'a>(&'a self, entry: &'a str) -> Place<'a> {
        Place { journal: &self.id, entry }
    }
}

fn home(client: &mut Client, journal: String) -> Result<Home> {
    Ok(Home { id: client.call::<JournalsShow>(&JournalParams { journal })?.id })
}

/// An entry, live or deleted; `None` where there is none.
fn fetch(client: &mut Client, home: &Home, id: &str) -> Result<Option<(Entry, Vec<u8>)>> {
    match body::fetch(client, &home.id, id, None) {
        Err(Error::Told { code, .. }) if code == Code::EntryNotFound.as_str() => Ok(None),
        fetched => fetched.map(Some),
    }
}

/// The ids of entries that may be encrypted, oldest first.
fn by_time(client: &mut Client, home: &Home) -> Result<Vec<String>> {
    // An entry that changes meanwhile is listed again further on.
    let mut stamps = HashMap::new();
    let mut params = ListParams { journal: home.id.clone(), ..ListParams::default() };
    loop {
        let page = client.call::<EntriesList>(&params)?;
        let long = page.entries.into_iter().filter(|entry| entry.size >= SHORTEST);
        stamps.extend(long.map(|entry| (entry.id, entry.stamp)));
        match page.next {
            Some(next) => params.after = Some(next),
            None => break,
        }
    }
    let mut ids: Vec<(String, String)> = stamps.into_iter().map(|(id, stamp)| (stamp, id)).collect();
    ids.sort_unstable();
    Ok(ids.into_iter().map(|(_, id)| id).collect())
}

/// The newest text that is encrypted, and the id of its entry.
fn newest(client: &mut Client, home: &Home) -> Result<Option<(String, Sealed)>> {
    for id in by_time(client, home)?.into_iter().rev() {
        if let Some((entry, body)) = fetch(client, home, &id)?
            && !entry.deleted
            && let Some(sealed) = Sealed::read(&body)
        {
            return Ok(Some((id, sealed)));
        }
    }
    Ok(None)
}

/// From a file, or from whoever sits at the terminal; a new one is asked for twice.
fn passphrase_from(ctx: &Context, from: &PassphraseFrom, new: bool) -> Result<Passphrase> {
    obtain(ctx.out, &ctx.interrupt, from.passphrase_file.as_deref(), "--passphrase-file", |terminal| {
        if !new {
            return terminal.ask(QUESTION);
        }
        ctx.out.note("whoever forgets this passphrase loses what is written with it: nobody can open it again");
        terminal.ask_twice("New passphrase:")
    })
}
