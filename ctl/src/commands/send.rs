//! `send`, and the feeding of standard input.

use std::io::{self, Read};
use std::path::Path;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::Duration;

use data_encoding::BASE64;
use kith_proto::control::method::{
    FeedParams, Method, SendParams, TransferCancel, TransferFeed, TransferParams, TransferSend, TransferShow,
};
use kith_proto::control::types::{Transfer, TransferState};
use kith_proto::limits;
use serde::Deserialize as _;

use super::{Context, path_text, standard_input, view};
use crate::args::Send;
use crate::client::{Client, Incoming, Sender};
use crate::error::{Error, FAILED, Result};
use crate::progress::Progress;

const KINDS: [&str; 1] = ["transfer:updated"];
/// Pieces of standard input that are on their way to the daemon at once: requests may overtake each other, so that two
/// would arrive in any order, or the last one before the one in front of it.
const IN_FLIGHT: usize = 1;
/// How long an interrupted command waits for the daemon to call the transfer off.
const CANCEL: Duration = Duration::from_secs(2);

/// `send`
pub fn run(ctx: &Context, args: Send) -> Result<()> {
    let no_wait = args.no_wait;
    let params = params(args)?;
    let mut client = ctx.connect()?;
    // Before the transfer begins, so that no step of it is missed.
    client.subscribe(&KINDS)?;
    let transfer = client.call::<TransferSend>(&params)?;
    if no_wait && params.stream.is_none() {
        return started(ctx, &transfer);
    }
    cancel_on_interrupt(ctx, &transfer.id);
    let feed = params.stream.is_some().then(|| Feed::start(client.sender(), &transfer.id, io::stdin()));
    follow(ctx, &mut client, transfer, feed, no_wait)
}

/// What is to be sent. Whether it can be read is for the daemon to say.
fn params(args: Send) -> Result<SendParams> {
    let mut params = SendParams { peer: args.to, title: args.title, ..SendParams::default() };
    let stdin = Path::new("-");
    match (args.text, args.paths.as_slice()) {
        (Some(text), _) if text == "-" => params.text = Some(standard_input()?),
        (Some(text), _) => params.text = Some(text),
        (None, [path]) if path == stdin => params.stream = Some(args.name),
        (None, paths) if paths.iter().any(|path| path == stdin) => {
            return Err(Error::usage("standard input cannot be sent together with files").hint("send it on its own"));
        }
        (None, paths) => params.paths = paths.iter().map(|path| path_text(path)).collect::<Result<_>>()?,
    }
    Ok(params)
}

/// Shows each step of a transfer to its end, or until the daemon has all of its input if nobody waits for more.
fn follow(ctx: &Context, client: &mut Client, mut now: Transfer, mut feed: Option<Feed>, no_wait: bool) -> Result<()> {
    let show = TransferParams { transfer: now.id.clone() };
    let mut progress = Progress::new(ctx.out);
    let mut told_queued = false;
    loop {
        if ctx.out.is_json() && !no_wait {
            ctx.out.object(&now)?;
        }
        progress.update(&now);
        if now.state == TransferState::Queued && !told_queued {
            told_queued = true;
            progress.aside(|| ctx.out.note(&queued(&now)));
        }
        if now.state.is_final() {
            let measured = progress.end(&now);
            return end(ctx, &now, measured, feed.as_ref().and_then(Feed::failure), no_wait);
        }
        now = loop {
            match client.next()? {
                Incoming::Fact(event, _) => match Transfer::deserialize(&event.data) {
                    Ok(transfer) if transfer.id == now.id => break transfer,
                    _ => {}
                },
                Incoming::Lagged(_) => {
                    client.subscribe(&KINDS)?;
                    break client.call::<TransferShow>(&show)?;
                }
                Incoming::Answer(_, Ok(_)) => {
                    if feed.as_mut().is_some_and(Feed::taken) && no_wait {
                        return started(ctx, &now);
                    }
                }
                Incoming::Answer(_, Err(error)) => {
                    // A transfer that ended takes no more input; why it ended says more than that.
                    feed = feed.filter(|feed| feed.failure().is_some());
                    let transfer = client.call::<TransferShow>(&show)?;
                    if !transfer.state.is_final() {
                        return Err(error);
                    }
                    break transfer;
                }
            }
        };
    }
}

fn started(ctx: &Context, transfer: &Transfer) -> Result<()> {
    if ctx.out.is_json() { ctx.out.object(transfer) } else { ctx.out.line(&transfer.id) }
}

fn end(
    ctx: &Context,
    transfer: &Transfer,
    measured: (u64, Duration),
    failure: Option<Error>,
    no_wait: bool,
) -> Result<()> {
    if let Some(failure) = failure {
        return Err(failure);
    }
    if transfer.state == TransferState::Done {
        if no_wait {
            started(ctx, transfer)?;
        } else if !ctx.out.is_json() {
            ctx.out.line(&view::summary(transfer, measured.0, measured.1))?;
        }
    }
    view::outcome(ctx.out, transfer)
}

fn queued(transfer: &Transfer) -> String {
    let until = transfer.expires.as_ref().map(|time| format!(" until {time}")).unwrap_or_default();
    format!("{} cannot be reached now: kept in the outbox{until}, sent when it appears", transfer.peer.name)
}

/// Ctrl+C calls the transfer off, over a connection of its own: this one may be waiting.
fn cancel_on_interrupt(ctx: &Context, transfer: &str) {
    let endpoint = ctx.endpoint.clone();
    let params = TransferParams { transfer: transfer.to_owned() };
    ctx.interrupt.takes_back(move || {
        // It may be over by now, or the daemon gone: then there is nothing to take back.
        let _ = Client::connect(&endpoint, CANCEL).and_then(|mut client| client.call::<TransferCancel>(&params));
    });
}

/// Standard input on its way to the daemon: a thread reads and asks, the command's thread sees the answers and so
/// decides how far ahead the reader may be.
struct Feed {
    credit: SyncSender<()>,
    answered: u64,
    shared: Arc<Shared>,
}

/// What the reading thread has to say.
#[derive(Default)]
struct Shared {
    /// How many pieces there are, known when the last one is sent.
    pieces: OnceLock<u64>,
    failure: OnceLock<String>,
}

impl Feed {
    fn start(sender: Sender, transfer: &str, input: impl Read + std::marker::Send + 'static) -> Self {
        let (credit, credits) = sync_channel(IN_FLIGHT);
        let shared = Arc::new(Shared::default());
        let mut feed = Self { credit, answered: 0, shared: shared.clone() };
        (0..IN_FLIGHT).for_each(|_| feed.allow());
        let transfer = transfer.to_owned();
        thread::spawn(move || {
            if let Err(error) = read(&sender, &transfer, input, &credits, &shared) {
                // Set before the daemon hears of it, so that whoever sees the transfer canceled finds out why.
                let _ = shared.failure.set(error.to_string());
                let _ = sender.send(TransferCancel::NAME, serde_json::to_value(TransferParams { transfer }).ok());
            }
        });
        feed
    }

    fn allow(&mut self) {
        // Full or gone: the reader has as much as it may, or has ended.
        let _ = self.credit.try_send(());
    }

    /// The daemon took a piece; whether that was the last.
    fn taken(&mut self) -> bool {
        self.answered += 1;
        self.allow();
        self.shared.pieces.get() == Some(&self.answered)
    }

    /// Why standard input could not be read to its end.
    fn failure(&self) -> Option<Error> {
        let why = self.shared.failure.get()?;
        Some(Error::new(FAILED, "input", format!("cannot read standard input: {why}")))
    }
}

/// Sends `input` piece by piece, one for each credit.
fn read(
    sender: &Sender,
    transfer: &str,
    mut input: impl Read,
    credits: &Receiver<()>,
    shared: &Shared,
) -> io::Result<()> {
    let mut piece = Vec::with_capacity(limits::FEED_CHUNK);
    for number in 1.. {
        piece.clear();
        input.by_ref().take(limits::FEED_CHUNK as u64).read_to_end(&mut piece)?;
        if credits.recv().is_err() {
            return Ok(());
        }
        let end = piece.len() < limits::FEED_CHUNK;
        if end {
            let _ = shared.pieces.set(number);
        }
        let params = FeedParams { transfer: transfer.to_owned(), data: BASE64.encode(&piece), end };
        if sender.send(TransferFeed::NAME, serde_json::to_value(params).ok()).is_err() || end {
            return Ok(());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::{Cli, Command};
    use clap::Parser as _;
    use serde_json::json;

    #[test]
    fn exactly_one_of_paths_stream_and_text() {
        let here = std::env::current_dir().unwrap();
        for (line, wanted) in [
            (vec!["/a", "b/../c"], json!({"peer": "nas", "paths": ["/a", here.join("b/../c")]})),
            (vec!["-"], json!({"peer": "nas", "stream": "stdin"})),
            (vec!["-", "--name", "x.tar"], json!({"peer": "nas", "stream": "x.tar"})),
            (vec!["--text", "hi", "--title", "t"], json!({"peer": "nas", "text": "hi", "title": "t"})),
        ] {
            let cli = Cli::try_parse_from(["kithctl", "send", "--to", "nas"].iter().chain(&line)).unwrap();
            let Command::Send(args) = cli.command else { panic!("that is what was asked for") };
            assert_eq!(serde_json::to_value(params(args).unwrap()).unwrap(), wanted, "{line:?}");
        }
        let cli = Cli::try_parse_from(["kithctl", "send", "--to", "nas", "-", "a"]).unwrap();
        let Command::Send(args) = cli.command else { panic!("that is what was asked for") };
        assert_eq!(params(args).unwrap_err().exit(), 2);
    }
}
