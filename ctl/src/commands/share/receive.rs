//! `secrets receive`, `dbs receive`: the code, the wait, and what is saved.

use std::io::{self, BufRead as _, IsTerminal as _, Read as _};

use kith_proto::control::Code;
use kith_proto::control::credential::{
    Action, Saved, SavedResult, Share, ShareKind, ShareParams, ShareReceiveParams, ShareReview, ShareState,
};
use kith_proto::control::method::{SharesDecline, SharesReceive, SharesReview, SharesSave};
use kith_proto::limits;
use kith_proto::secret_text::SecretText;
use kith_proto::short_code::ShortCode;
use serde::Serialize;
use zeroize::Zeroizing;

use super::review::{self, Wishes};
use super::{KINDS, cancel_on_interrupt, command, next, outcome, unlocked, why, wrong_code};
use crate::args::share::{ReceiveDatabase, ReceiveSecret, Receiving};
use crate::client::Client;
use crate::commands::{Context, view};
use crate::error::{Error, FAILED, Result};

/// Where the code is on the command line: standard input.
const STDIN: &str = "-";

/// What to do where nobody is asked and a name is taken.
const TAKEN: &str =
    "--on-conflict replace, --on-conflict rename or --name settles it; what came by a code must be sent again";

/// What was saved, under `--json`.
#[derive(Serialize)]
struct Taken<'a> {
    share: &'a str,
    name: &'a str,
    #[serde(flatten)]
    saved: &'a SavedResult,
}

/// `secrets receive`
pub fn receive_secret(ctx: &Context, args: ReceiveSecret) -> Result<()> {
    let Receiving { code, inbox, yes, on_conflict, name, compat } = args.how;
    let wishes = Wishes { yes, on_conflict, name, ..Wishes::default() };
    receive(ctx, ShareKind::Secret, From { code, inbox, compat: compat.is_some() }, &wishes)
}

/// `dbs receive`
pub fn receive_database(ctx: &Context, args: ReceiveDatabase) -> Result<()> {
    let Receiving { code, inbox, yes, on_conflict, name, compat } = args.how;
    let wishes =
        Wishes { yes, on_conflict, name, description: args.description, path: args.path, secrets: args.secrets };
    receive(ctx, ShareKind::Database, From { code, inbox, compat: compat.is_some() }, &wishes)
}

/// From where something is taken.
struct From {
    code: Option<String>,
    inbox: Option<String>,
    compat: bool,
}

fn receive(ctx: &Context, kind: ShareKind, from: From, wishes: &Wishes) -> Result<()> {
    if !wishes.yes && !ctx.out.may_ask() {
        let next = if from.compat {
            "what comes that way must be looked at before it is saved: run this at a terminal"
        } else {
            "save it as it comes with --yes, or run this at a terminal"
        };
        return Err(Error::usage("there is no terminal to look through what comes").hint(next));
    }
    wishes.check()?;
    if let Some(id) = from.inbox {
        let mut client = ctx.connect()?;
        return take_waiting(ctx, &mut client, kind, &id, wishes);
    }
    if from.compat {
        ctx.out.note("WARNING: --compat photosphere is not safe: the code of that protocol proves nothing.");
        ctx.out.note("What arrives may be from any device on this network: look at it well before you save it.");
    }
    let code = code(ctx, from.code)?;
    let mut client = ctx.connect()?;
    // Before the share begins, so that no step of it is missed.
    client.subscribe(&KINDS)?;
    let params = ShareReceiveParams { kind, code, compat: from.compat, detach: false };
    let share = unlocked(ctx, asks(ctx, wishes), || client.call::<SharesReceive>(&params))?;
    drop(params);
    cancel_on_interrupt(ctx, &share.share);
    ctx.out
        .note(&format!("waiting for the other device, {} seconds at most; Ctrl+C calls it off", limits::SHARE_SECONDS));
    let share = arrival(ctx, &mut client, share)?;
    let taken = take(ctx, &mut client, &share.share, wishes);
    if taken.as_ref().is_err_and(|error| error.is(Code::NameTaken)) {
        // Nobody else will look through it: the sender hears now that it was not saved.
        let _ = client.call::<SharesDecline>(&ShareParams { share: share.share });
    }
    ctx.interrupt.leaves();
    taken
}

/// Takes what a paired device sent, which stays in the inbox if that does not succeed.
pub fn take_waiting(ctx: &Context, client: &mut Client, kind: ShareKind, id: &str, wishes: &Wishes) -> Result<()> {
    client.subscribe(&KINDS)?;
    let params = ShareParams { share: id.to_owned() };
    let review = unlocked(ctx, asks(ctx, wishes), || client.call::<SharesReview>(&params));
    let share = review
        .map_err(
            |error| {
                if error.is(Code::ShareNotFound) { error.hint("kithctl inbox shows what waits") } else { error }
            },
        )?
        .share;
    if share.kind != kind {
        let other = command(share.kind);
        return Err(Error::usage(format!("that is a {}", view::word(&share.kind)))
            .hint(format!("take it with: kithctl {other} receive --inbox {}", share.share)));
    }
    take(ctx, client, &share.share, wishes)
}

fn asks(ctx: &Context, wishes: &Wishes) -> bool {
    ctx.out.may_ask() && !wishes.yes
}

/// The digits that the other device shows.
fn code(ctx: &Context, given: Option<String>) -> Result<SecretText> {
    let asked = given.is_none() && !ctx.out.is_json() && io::stdin().is_terminal();
    if !asked {
        let digits = match given {
            Some(digits) if digits != STDIN => Zeroizing::new(digits),
            _ => first_line()?,
        };
        return parse(&digits).map_err(Error::usage);
    }
    loop {
        match parse(&Zeroizing::new(ctx.out.ask("The digits that the other device shows:")?)) {
            Ok(code) => return Ok(code),
            Err(why) => ctx.out.note(&why),
        }
    }
}

fn parse(digits: &str) -> std::result::Result<SecretText, String> {
    let code = ShortCode::parse(digits.trim()).map_err(|error| error.to_string())?;
    Ok(SecretText::new(code.expose().to_owned()))
}

fn first_line() -> Result<Zeroizing<String>> {
    let mut line = Zeroizing::new(String::new());
    // One too many is enough to know.
    let longest = *limits::SHORT_CODE.end() as u64 + 3;
    match io::stdin().lock().take(longest).read_line(&mut line) {
        Ok(0) => Err(Error::usage("there is no code on standard input").hint("give it there, or with --code")),
        Ok(_) => Ok(line),
        Err(error) => Err(Error::new(FAILED, "input", format!("cannot read standard input: {error}"))),
    }
}

/// Waits until it is here.
fn arrival(ctx: &Context, client: &mut Client, mut now: Share) -> Result<Share> {
    let mut attempts = None;
    while now.state != ShareState::Review {
        if now.state.is_final() {
            outcome(&now)?;
            return Err(Error::new(FAILED, "wrong_state", "somebody else has looked through it already"));
        }
        let again = "typed wrong here? Then Ctrl+C, and once more: the code is the same";
        if let Some(line) = wrong_code(attempts, now.attempts_left, again) {
            line.lines().for_each(|line| ctx.out.note(line));
        }
        attempts = now.attempts_left.or(attempts);
        now = next(client, &now)?;
    }
    Ok(now)
}

/// Looks through what is here, and saves it or not.
fn take(ctx: &Context, client: &mut Client, id: &str, wishes: &Wishes) -> Result<()> {
    let params = ShareParams { share: id.to_owned() };
    let review = unlocked(ctx, asks(ctx, wishes), || client.call::<SharesReview>(&params))
        .map_err(|error| why(client, id, error))?;
    let saved = if wishes.yes {
        Some(client.call::<SharesSave>(&review::as_it_came(&review, wishes)).map_err(|error| {
            let taken = error.is(Code::NameTaken);
            let error = why(client, id, error);
            if taken { error.hint(TAKEN) } else { error }
        })?)
    } else {
        review::with_somebody(ctx, client, review.clone(), wishes)?
    };
    ctx.interrupt.leaves();
    match saved {
        Some(saved) => tell(ctx, &review, &saved),
        None => ctx.out.line("not saved"),
    }
}

fn tell(ctx: &Context, review: &ShareReview, saved: &SavedResult) -> Result<()> {
    let SavedResult { databases, secrets } = saved;
    if ctx.out.is_json() {
        let name = databases.iter().chain(secrets).map(|saved| saved.name.as_str()).next();
        let name = name.or(review.share.name.as_deref()).unwrap_or_default();
        return ctx.out.object(&Taken { share: &review.share.share, name, saved });
    }
    databases.iter().chain(secrets).try_for_each(|saved| ctx.out.line(&line(saved)))
}

fn line(saved: &Saved) -> String {
    let what = if saved.kind.is_some() { "secret" } else { "database" };
    let action = match saved.action {
        Action::Saved => "saved",
        Action::Equal => "the same is here already",
        Action::Reused => "what was here already is used",
        Action::Replaced => "saved in place of what was here",
        Action::Renamed => "saved under this name",
        Action::Unknown => "done",
    };
    format!("{what} {}: {action}", saved.name)
}
