//! `send`, and the feeding of standard input.

use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::Duration;

use data_encoding::BASE64;
use kith_proto::control::Code;
use kith_proto::control::method::{
    FeedParams, GuestSend, GuestSendParams, Method, SendParams, TransferCancel, TransferFeed, TransferParams,
    TransferSend, TransferShow,
};
use kith_proto::control::types::{Question, QuestionKind, QuestionState, Transfer, TransferState};
use kith_proto::limits;
use serde::Deserialize as _;

use super::{Context, guest, path_text, standard_input, view};
use crate::args::Send;
use crate::client::{Client, Incoming, Sender};
use crate::error::{Error, FAILED, Result};
use crate::progress::Progress;

const KINDS: [&str; 2] = ["transfer:updated", "question:updated"];
/// Standard input, where a file is named.
const STDIN: &str = "-";
/// Pieces of standard input that are on their way to the daemon at once: requests may overtake each other, so that two
/// would arrive in any order, or the last one before the one in front of it.
const IN_FLIGHT: usize = 1;
/// How long an interrupted command waits for the daemon to call the transfer off.
const CANCEL: Duration = Duration::from_secs(2);

/// To whom, and what.
enum Order {
    Peer(SendParams),
    Guest(GuestSendParams),
}

/// `send`
pub fn run(ctx: &Context, args: Send) -> Result<()> {
    let no_wait = args.no_wait;
    let order = if args.pin.is_some() || args.hash.is_some() || args.qr.is_some() {
        Order::Guest(complete(ctx, guest_params(args)?, no_wait)?)
    } else {
        Order::Peer(params(args)?)
    };
    let stream = matches!(&order, Order::Peer(params) if params.stream.is_some());
    let mut client = ctx.connect()?;
    // Before the transfer begins, so that no step of it is missed.
    client.subscribe(&KINDS)?;
    let transfer = match order {
        Order::Peer(params) => to_peer(ctx, &mut client, params, no_wait)?,
        Order::Guest(params) => to_guest(ctx, &mut client, &params)?,
    };
    if no_wait && !stream {
        return started(ctx, &transfer);
    }
    cancel_on_interrupt(ctx, &transfer.id);
    let feed = stream.then(|| Feed::start(client.sender(), &transfer.id, io::stdin()));
    follow(ctx, &mut client, transfer, feed, no_wait)
}

/// Sends to a paired device; to a guest, if nobody paired is called so and it looks like an address.
fn to_peer(ctx: &Context, client: &mut Client, params: SendParams, no_wait: bool) -> Result<Transfer> {
    let error = match client.call::<TransferSend>(&params) {
        Err(error) if may_be_guest(&error, &params) => error,
        sent => return sent,
    };
    if !ctx.out.may_ask() {
        let next = "a device that is not paired shows a PIN and a certificate hash: give them with --pin and --hash";
        return Err(error.hint(next));
    }
    let SendParams { peer, paths, title, .. } = params;
    let params = GuestSendParams { target: Some(peer), paths, title, ..GuestSendParams::default() };
    to_guest(ctx, client, &complete(ctx, params, no_wait)?)
}

fn to_guest(ctx: &Context, client: &mut Client, params: &GuestSendParams) -> Result<Transfer> {
    if params.paths.iter().any(|path| Path::new(path).is_dir()) {
        ctx.out.note("a device that is not paired gets the files without their directories");
    }
    client.call::<GuestSend>(params)
}

/// What is to be sent to a paired device. Whether it can be read is for the daemon to say.
fn params(args: Send) -> Result<SendParams> {
    let mut params = SendParams { peer: args.to.unwrap_or_default(), title: args.title, ..SendParams::default() };
    match (args.text, args.paths.as_slice()) {
        (Some(text), _) if text == STDIN => params.text = Some(standard_input()?),
        (Some(text), _) => params.text = Some(text),
        (None, [path]) if path == Path::new(STDIN) => params.stream = Some(args.name),
        (None, paths) if has_stdin(paths) => {
            return Err(Error::usage("standard input cannot be sent together with files").hint("send it on its own"));
        }
        (None, paths) => params.paths = paths.iter().map(|path| path_text(path)).collect::<Result<_>>()?,
    }
    Ok(params)
}

/// What is to be sent to a device that is not paired.
fn guest_params(args: Send) -> Result<GuestSendParams> {
    if has_stdin(&args.paths) {
        return Err(Error::usage("a device that is not paired takes files only, no standard input")
            .hint("write it to a file first"));
    }
    let qr = match args.qr {
        Some(qr) if qr == STDIN => Some(standard_input()?.trim().to_owned()),
        qr => qr,
    };
    let paths = args.paths.iter().map(|path| path_text(path)).collect::<Result<_>>()?;
    Ok(GuestSendParams { target: args.to, pin: args.pin, certificate_hash: args.hash, qr, paths, title: args.title })
}

fn has_stdin(paths: &[PathBuf]) -> bool {
    paths.iter().any(|path| path == Path::new(STDIN))
}

/// Whether nobody paired is meant, but an address: then it may be a guest's.
fn may_be_guest(error: &Error, params: &SendParams) -> bool {
    let unknown = [Code::PeerNotFound, Code::NotPaired].map(Code::as_str);
    let Error::Told { code, .. } = error else { return false };
    unknown.contains(&code.as_str()) && params.peer.contains(['.', ':']) && !params.paths.is_empty()
}

/// Asks for the PIN if nobody gave it; the hash is asked about once it is known.
fn complete(ctx: &Context, mut params: GuestSendParams, no_wait: bool) -> Result<GuestSendParams> {
    if let Some(target) = &params.target {
        if params.certificate_hash.is_none() && (no_wait || !ctx.out.may_ask()) {
            return Err(Error::usage("nobody would be there to compare the certificate hash")
                .hint("give the one that is shown there with --hash, or the text of the QR code with --qr"));
        }
        if params.pin.is_none() {
            params.pin = Some(ctx.ask_pin(target)?);
        }
    }
    Ok(params)
}

/// Shows each step of a transfer to its end, or until the daemon has all of its input if nobody waits for more.
fn follow(ctx: &Context, client: &mut Client, mut now: Transfer, mut feed: Option<Feed>, no_wait: bool) -> Result<()> {
    let show = TransferParams { transfer: now.id.clone() };
    let mut progress = Progress::new(ctx.out);
    let mut told_queued = false;
    let mut told_hash = false;
    let mut told_protocol = false;
    loop {
        if ctx.out.is_json() && !no_wait {
            ctx.out.object(&now)?;
        }
        if let Some(hash) = now.certificate_hash.as_deref().filter(|_| !told_hash) {
            told_hash = true;
            progress.aside(|| {
                ctx.out.note("the receiver may show this hash of this device's certificate, to be compared:");
                view::hash(hash).iter().for_each(|line| ctx.out.note(line));
            });
        }
        if let Some(version) = now.peer.protocol.filter(|_| !told_protocol) {
            told_protocol = true;
            progress.aside(|| ctx.out.note(&format!("version {version} of Tella's protocol is spoken")));
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
                Incoming::Fact(event, _) => {
                    if let Ok(question) = Question::deserialize(&event.data) {
                        confirm(ctx, client, &progress, &now, &question)?;
                    }
                    match Transfer::deserialize(&event.data) {
                        Ok(transfer) if transfer.id == now.id => break transfer,
                        _ => {}
                    }
                }
                Incoming::Lagged(_) => {
                    for question in client.subscribe(&KINDS)?.snapshot.questions {
                        confirm(ctx, client, &progress, &now, &question)?;
                    }
                    break client.call::<TransferShow>(&show)?;
                }
                Incoming::Changed(..) => {}
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

/// Asks whether the receiver is the right one, if that is the question and it is about this transfer.
fn confirm(ctx: &Context, client: &mut Client, progress: &Progress, now: &Transfer, question: &Question) -> Result<()> {
    let Question { kind: QuestionKind::Confirm, state: QuestionState::Open, transfer, .. } = question else {
        return Ok(());
    };
    if transfer.as_ref() == Some(&now.id) && ctx.out.may_ask() {
        guest::ask(ctx, client, progress, question)?;
    }
    Ok(())
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
                let _ = sender.send(TransferCancel::NAME, Some(&TransferParams { transfer }));
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
        if sender.send(TransferFeed::NAME, Some(&params)).is_err() || end {
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
