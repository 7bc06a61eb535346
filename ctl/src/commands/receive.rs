//! `receive`: the door is opened for guests; their offers and those of paired devices are shown and answered.
//!
//! A person who is asked takes their time, and what was asked about may be over meanwhile. So questions and offers wait
//! in line, each answer goes to the one that was shown, and before the next is shown, everything is heard that the
//! daemon said in between.

use std::collections::{HashMap, HashSet, VecDeque};

use kith_proto::control::event::Event;
use kith_proto::control::method::{GuestOpenParams, InboxAccept, InboxReject, Snapshot, TransferParams, TransferShow};
use kith_proto::control::types::{
    Direction, Failure, Question, QuestionKind, QuestionState, Transfer, TransferState, Window,
};
use kith_proto::control::{ApiError, Code};
use serde::{Deserialize as _, Serialize};

use super::guest::{self, Door};
use super::transfers::accept;
use super::{Context, view};
use crate::args::{Place, Receive};
use crate::client::{Client, Incoming};
use crate::error::{Error, Result, UNREACHABLE};
use crate::progress::Progress;

const KINDS: [&str; 3] = ["transfer:updated", "window:updated", "question:updated"];
/// Entries of an offer that are shown before the question.
const SHOWN: usize = 10;

/// A question under `--json`.
#[derive(Serialize)]
struct Asked {
    question: Question,
}

/// `receive`
pub fn run(ctx: &Context, args: &Receive) -> Result<()> {
    if !args.yes && !ctx.out.may_ask() {
        return Err(Error::usage("there is no terminal to ask whether offers are accepted")
            .hint("accept them all with --yes, or answer each with: kithctl inbox accept ID"));
    }
    // A directory that cannot be named fails now, not at the first offer.
    let place = accept(String::new(), &args.place)?;
    let mut client = ctx.connect()?;
    // Before the door opens, so that nothing of it is missed.
    let waiting = client.subscribe(&KINDS)?.snapshot.transfers;
    let door = if args.paired {
        None
    } else {
        let params = GuestOpenParams {
            dir: place.dir,
            on_conflict: place.on_conflict.unwrap_or_default(),
            accept: args.yes,
            seconds: args.seconds,
            detach: false,
        };
        Some(Door::open(ctx, &mut client, &params)?)
    };
    ctx.out.note(&format!("waiting for offers; {}", if args.once { "ends after one" } else { "Ctrl+C ends" }));
    let mut reception = Reception {
        ctx,
        args,
        progress: Progress::new(ctx.out),
        door,
        questions: VecDeque::new(),
        offers: VecDeque::new(),
        guests: HashSet::new(),
        placed: HashMap::new(),
        refused: HashSet::new(),
        over: HashSet::new(),
        last: None,
    };
    waiting.into_iter().try_for_each(|transfer| reception.transfer(transfer))?;
    reception.run(&mut client)
}

/// What this command has seen of the door, of questions and of transfers.
struct Reception<'a> {
    ctx: &'a Context,
    args: &'a Receive,
    progress: Progress,
    /// Absent where only paired devices are waited for.
    door: Option<Door>,
    /// To be asked, oldest first.
    questions: VecDeque<Question>,
    /// To be answered, oldest first.
    offers: VecDeque<Transfer>,
    /// Transfers of guests that are not over; those outlive the door.
    guests: HashSet<String>,
    /// How many names of a transfer were told.
    placed: HashMap<String, usize>,
    /// Answered with no; until the end is told, further word of the offer asks nothing.
    refused: HashSet<String>,
    /// Their end was told, and is not told twice.
    over: HashSet<String>,
    /// The one after which `--once` ends.
    last: Option<Transfer>,
}

impl Reception<'_> {
    /// Handles whatever comes, to the end.
    fn run(&mut self, client: &mut Client) -> Result<()> {
        loop {
            if let Some(transfer) = &self.last {
                return view::outcome(self.ctx.out, transfer);
            }
            if let Some(incoming) = client.heard() {
                self.hear(client, incoming)?;
            } else if self.guests.is_empty() && self.door.as_ref().is_some_and(Door::is_closed) {
                if self.args.once {
                    return Err(Failure::from(ApiError::new(Code::TimedOut, "nobody sent anything in time")).into());
                }
                self.progress.aside(|| self.ctx.out.note("the door is closed: nobody can connect any more"));
                return Ok(());
            } else if let Some(question) = self.questions.pop_front() {
                guest::ask(self.ctx, client, &self.progress, &question)?;
            } else if let Some(offer) = self.offers.pop_front() {
                self.offer(client, &offer)?;
            } else {
                let incoming = client.next()?;
                self.hear(client, incoming)?;
            }
        }
    }

    fn hear(&mut self, client: &mut Client, incoming: Incoming) -> Result<()> {
        match incoming {
            Incoming::Fact(event, _) => self.fact(&event),
            Incoming::Lagged(_) => self.catch_up(client),
            Incoming::Answer(..) | Incoming::Changed(..) => Ok(()),
        }
    }

    fn fact(&mut self, event: &Event) -> Result<()> {
        if let Ok(transfer) = Transfer::deserialize(&event.data) {
            self.transfer(transfer)
        } else if let Ok(question) = Question::deserialize(&event.data) {
            self.question(question)
        } else if let Ok(window) = Window::deserialize(&event.data) {
            self.window(window);
            Ok(())
        } else {
            Ok(())
        }
    }

    /// The state of everything after facts were missed: what goes on, and what ended meanwhile.
    fn catch_up(&mut self, client: &mut Client) -> Result<()> {
        let Snapshot { mut transfers, window, questions, .. } = client.subscribe(&KINDS)?.snapshot;
        for id in self.progress.watched() {
            if !transfers.iter().any(|transfer| transfer.id == *id) {
                transfers.push(client.call::<TransferShow>(&TransferParams { transfer: id.clone() })?);
            }
        }
        self.offers.clear();
        self.guests.clear();
        self.questions.clear();
        match window.filter(|window| self.door.as_ref().is_some_and(|door| door.is(window))) {
            Some(window) => self.window(window),
            None => self.door.iter_mut().for_each(Door::close),
        }
        questions.into_iter().try_for_each(|question| self.question(question))?;
        transfers.into_iter().try_for_each(|transfer| self.transfer(transfer))
    }

    fn window(&mut self, window: Window) {
        let Some(door) = self.door.as_mut().filter(|door| door.is(&window)) else { return };
        let lines = door.update(window);
        self.progress.aside(|| lines.iter().for_each(|line| self.ctx.out.note(line)));
    }

    /// Handles a question's new state. Those about what this device sends are asked by whoever sends.
    fn question(&mut self, question: Question) -> Result<()> {
        self.questions.retain(|waiting| waiting.question != question.question);
        let ours = self.door.is_some() && matches!(question.kind, QuestionKind::Compare | QuestionKind::Connect);
        if !ours || question.state != QuestionState::Open {
            return Ok(());
        }
        if self.ctx.out.is_json() {
            return self.ctx.out.object(&Asked { question });
        }
        // With `--yes` the daemon answers by itself.
        if !self.args.yes {
            self.questions.push_back(question);
        }
        Ok(())
    }

    /// Handles a transfer's new state.
    fn transfer(&mut self, transfer: Transfer) -> Result<()> {
        let Transfer { id, state, .. } = &transfer;
        let of_guest = transfer.peer.id.is_none();
        if transfer.direction != Direction::In || (of_guest && self.door.is_none()) {
            return Ok(());
        }
        self.offers.retain(|offer| offer.id != *id);
        if state.is_final() {
            self.guests.remove(id);
            let refused = self.refused.remove(id);
            if self.over.insert(id.clone()) && !refused {
                self.ended(&transfer)?;
                self.last = self.last.take().or(self.args.once.then_some(transfer));
            }
            return Ok(());
        }
        if of_guest {
            self.guests.insert(id.clone());
        }
        // One whose manifest is still coming is no offer yet.
        if self.refused.contains(id) || *state == TransferState::Preparing {
            return Ok(());
        }
        // It may have been tried again.
        self.over.remove(id);
        if self.ctx.out.is_json() {
            self.ctx.out.object(&transfer)?;
        }
        self.tell_placed(&transfer);
        let known = self.progress.watched().any(|watched| watched == id);
        // With `--yes` the daemon accepts what guests offer by itself.
        if *state == TransferState::Offered && !known && !(of_guest && self.args.yes) {
            self.offers.push_back(transfer);
        } else {
            self.progress.update(&transfer);
        }
        Ok(())
    }

    /// Names what was placed since the last time.
    fn tell_placed(&mut self, transfer: &Transfer) {
        let told = self.placed.entry(transfer.id.clone()).or_default();
        for name in transfer.placed.iter().skip(*told) {
            self.progress.aside(|| self.ctx.out.note(&format!("  {name}")));
        }
        *told = transfer.placed.len();
    }

    /// Answers an offer.
    fn offer(&mut self, client: &mut Client, transfer: &Transfer) -> Result<()> {
        if self.answer(client, transfer)? {
            self.progress.update(transfer);
        } else {
            self.refused.insert(transfer.id.clone());
        }
        Ok(())
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
        self.tell_placed(transfer);
        self.placed.remove(&transfer.id);
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
        let media_type = entry.media_type.as_ref().map(|it| format!("  {it}")).unwrap_or_default();
        lines.push(format!("  {}{size}{media_type}", entry.path));
    }
    let more = transfer.entries.saturating_sub(transfer.preview.len().min(SHOWN) as u64);
    if more > 0 {
        lines.push(format!("  and {more} more"));
    }
    lines
}
