//! `receive`: offers of paired devices are shown and answered as they come.

use std::collections::HashSet;

use kith_proto::control::Code;
use kith_proto::control::method::{InboxAccept, InboxReject, TransferParams, TransferShow};
use kith_proto::control::types::{Direction, Transfer, TransferState};
use serde::Deserialize as _;

use super::transfers::accept;
use super::{Context, view};
use crate::args::{Place, Receive};
use crate::client::{Client, Incoming};
use crate::error::{Error, Result, UNREACHABLE};
use crate::progress::Progress;

const KINDS: [&str; 1] = ["transfer:updated"];
/// Entries of an offer that are shown before the question.
const SHOWN: usize = 10;

/// `receive`
pub fn run(ctx: &Context, args: &Receive) -> Result<()> {
    if !args.yes && !ctx.out.may_ask() {
        return Err(Error::usage("there is no terminal to ask whether offers are accepted")
            .hint("accept them all with --yes, or answer each with: kithctl inbox accept ID"));
    }
    // A directory that cannot be named fails now, not at the first offer.
    accept(String::new(), &args.place)?;
    let mut client = ctx.connect()?;
    let mut reception =
        Reception { ctx, args, progress: Progress::new(ctx.out), refused: HashSet::new(), over: HashSet::new() };
    let waiting = client.subscribe(&KINDS)?.snapshot.transfers;
    ctx.out.note(&format!("waiting for offers; {}", if args.once { "ends after one" } else { "Ctrl+C ends" }));
    reception.all(&mut client, waiting)
}

/// The offers and transfers that this command has seen.
struct Reception<'a> {
    ctx: &'a Context,
    args: &'a Receive,
    progress: Progress,
    /// Answered with no; until the end is told, further word of the offer asks nothing.
    refused: HashSet<String>,
    /// Their end was told, and is not told twice.
    over: HashSet<String>,
}

impl Reception<'_> {
    /// Handles these transfers, then whatever comes, to the end.
    fn all(&mut self, client: &mut Client, waiting: Vec<Transfer>) -> Result<()> {
        let mut pending = waiting;
        loop {
            for transfer in pending {
                if self.step(client, &transfer)? && self.args.once {
                    return view::outcome(self.ctx.out, &transfer);
                }
            }
            pending = match client.next()? {
                Incoming::Fact(event, _) => Transfer::deserialize(&event.data).into_iter().collect(),
                Incoming::Lagged(_) => self.catch_up(client)?,
                Incoming::Answer(..) => Vec::new(),
            };
        }
    }

    /// The state of everything after facts were missed: what goes on, and what ended meanwhile.
    fn catch_up(&self, client: &mut Client) -> Result<Vec<Transfer>> {
        let mut transfers = client.subscribe(&KINDS)?.snapshot.transfers;
        for id in self.progress.watched() {
            if !transfers.iter().any(|transfer| transfer.id == *id) {
                transfers.push(client.call::<TransferShow>(&TransferParams { transfer: id.clone() })?);
            }
        }
        Ok(transfers)
    }

    /// Handles a transfer's new state; whether it has come to its end.
    fn step(&mut self, client: &mut Client, transfer: &Transfer) -> Result<bool> {
        let Transfer { id, state, .. } = transfer;
        if transfer.direction != Direction::In {
            return Ok(false);
        }
        if state.is_final() {
            let refused = self.refused.remove(id);
            if !self.over.insert(id.clone()) || refused {
                return Ok(false);
            }
            self.ended(transfer)?;
            return Ok(true);
        }
        // One whose manifest is still coming is no offer yet.
        if self.refused.contains(id) || *state == TransferState::Preparing {
            return Ok(false);
        }
        // It may have been tried again.
        self.over.remove(id);
        if self.ctx.out.is_json() {
            self.ctx.out.object(transfer)?;
        }
        let known = self.progress.watched().any(|watched| watched == id);
        if *state == TransferState::Offered && !known && !self.answer(client, transfer)? {
            self.refused.insert(id.clone());
            return Ok(false);
        }
        self.progress.update(transfer);
        Ok(false)
    }

    /// Answers an offer; whether it was accepted.
    fn answer(&self, client: &mut Client, transfer: &Transfer) -> Result<bool> {
        let place =
            if self.args.yes { Some(self.args.place.clone()) } else { self.progress.aside(|| self.ask(transfer))? };
        let answered = match &place {
            Some(place) => client.call::<InboxAccept>(&accept(transfer.id.clone(), place)?),
            None => client.call::<InboxReject>(&TransferParams { transfer: transfer.id.clone() }),
        };
        match answered {
            Ok(_) => Ok(place.is_some()),
            // Somebody else answered, or the sender took the offer back: its next state tells.
            Err(Error::Told { code, .. }) if code == Code::WrongState.as_str() => Ok(true),
            // The offer stays in the inbox, and the others are waited for.
            Err(error) if !self.args.once && error.exit() != UNREACHABLE => {
                self.ctx.out.end(Err(error));
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }

    fn ask(&self, transfer: &Transfer) -> Result<Option<Place>> {
        let mut place = self.args.place.clone();
        offer(transfer).iter().for_each(|line| self.ctx.out.note(line));
        loop {
            match self.ctx.out.ask("Accept it? [y]es, [n]o, [d]irectory:")?.to_ascii_lowercase().as_str() {
                "y" | "yes" => return Ok(Some(place)),
                "n" | "no" => return Ok(None),
                "d" | "directory" => place.dir = Some(self.ctx.out.ask("Directory:")?.into()),
                _ => {}
            }
        }
    }

    fn ended(&mut self, transfer: &Transfer) -> Result<()> {
        let out = self.ctx.out;
        let (moved, time) = self.progress.end(transfer);
        if out.is_json() {
            return out.object(transfer);
        }
        self.progress.aside(|| {
            if transfer.state == TransferState::Done {
                let dir = transfer.dir.as_ref().map(|dir| format!(" into {dir}")).unwrap_or_default();
                out.line(&format!("{}{dir}", view::summary(transfer, moved, time)))?;
                transfer.text.iter().try_for_each(|text| out.quote(text))?;
            }
            if !self.args.once {
                out.end(view::outcome(out, transfer));
            }
            Ok(())
        })
    }
}

/// What a person has to know before the answer.
fn offer(transfer: &Transfer) -> Vec<String> {
    let mut lines = vec![format!(
        "{} offers \"{}\": {}",
        view::party_name(&transfer.peer),
        transfer.title,
        view::contents(transfer)
    )];
    for entry in transfer.preview.iter().take(SHOWN) {
        let size = entry.size.map(|bytes| format!("  {}", view::size(bytes))).unwrap_or_default();
        lines.push(format!("  {}{size}", entry.path));
    }
    let more = transfer.entries.saturating_sub(transfer.preview.len().min(SHOWN) as u64);
    if more > 0 {
        lines.push(format!("  and {more} more"));
    }
    lines
}
