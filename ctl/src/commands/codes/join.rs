//! `join`: what a code is for, a yes, and what becomes of it.
//!
//! Until somebody said yes, Ctrl+C calls the join off; from then on the daemon goes on with it in the background.

use std::io;
use std::path::Path;
use std::time::Duration;

use kith_proto::control::code::{
    CodeApproval, CodeJoin, Issuer, JoinBeginParams, JoinConfirmParams, JoinParams, JoinResource, JoinState,
};
use kith_proto::control::event::Event;
use kith_proto::control::method::{Empty, JoinsBegin, JoinsCancel, JoinsConfirm, JoinsList};
use kith_proto::control::{ApiError, Code, ErrorKind};
use kith_proto::limits;
use kith_proto::secret_text::SecretText;
use serde::Deserialize as _;

use crate::args::codes::Join;
use crate::client::{Client, Incoming};
use crate::commands::{Context, path_text};
use crate::error::{Error, FAILED, Result};
use crate::output::Table;
use crate::values::shell_word;
use crate::{prompt, wiped};

const KINDS: [&str; 1] = ["join:updated"];
/// Where the code is on the command line: standard input.
const STDIN: &str = "-";
/// What a journal is called where things have kinds.
const JOURNAL: &str = "journal";
/// What the issuer says to a member.
const ALREADY: &str = "already_member";
/// How long an interrupted command waits for the daemon to call the join off.
const CANCEL: Duration = Duration::from_secs(2);

/// `join`
pub fn join(ctx: &Context, args: Join) -> Result<()> {
    if !args.yes && !ctx.out.may_ask() {
        return Err(Error::usage("there is no terminal to ask whether to join")
            .hint("join whatever the code is for with --yes, or run this at a terminal"));
    }
    let place = args.path.as_deref().map(Place::of).transpose()?;
    let given = given(args.code)?;
    let mut client = ctx.connect()?;
    // Before the join begins, so that no step of it is missed.
    client.subscribe(&KINDS)?;
    let mut now = begin(ctx, &mut client, given)?;
    if matches!(now.state, JoinState::Looking | JoinState::Found) {
        cancel_on_interrupt(ctx, &now.join);
    }
    told(ctx, &now)?;
    while now.state == JoinState::Looking {
        now = next(&mut client, &now)?;
        told(ctx, &now)?;
    }
    let before = now.resource.as_ref().is_some_and(|resource| resource.here);
    if now.state == JoinState::Found {
        if let Err(no) = agree(ctx, &now, place.as_ref(), args.yes) {
            call_off(&mut client, &now.join);
            return Err(no);
        }
        // From now on it is the daemon's.
        ctx.interrupt.leaves();
        let path = place.map(|place| place.path);
        let confirmed = client.call::<JoinsConfirm>(&JoinConfirmParams { join: now.join.clone(), path });
        now = match confirmed {
            Ok(now) => now,
            Err(error) => {
                let why = ended(&mut client, &now.join).unwrap_or(error);
                call_off(&mut client, &now.join);
                return Err(why);
            }
        };
        told(ctx, &now)?;
    }
    let now = follow(ctx, &mut client, now, args.wait)?;
    end(ctx, &now, before)
}

/// The code that the command line gives, or says where to find.
fn given(mut words: Vec<String>) -> Result<Option<SecretText>> {
    match words.as_slice() {
        [] => Ok(None),
        [word] if word == STDIN => standard_input().map(Some),
        [_] => Ok(words.pop().map(SecretText::new)),
        _ => {
            // People leave the quotes away.
            let mut code = String::with_capacity(words.iter().map(|word| word.len() + 1).sum());
            words.iter().for_each(|word| code.extend([word, " "]));
            Ok(Some(SecretText::new(code)))
        }
    }
}

fn standard_input() -> Result<SecretText> {
    let failed = |error| Error::new(FAILED, "input", format!("cannot read standard input: {error}"));
    // A few too many are enough to know.
    let bytes = wiped::read(io::stdin().lock(), limits::SHARING_TICKET + 3).map_err(failed)?;
    match std::str::from_utf8(&bytes).map(str::trim) {
        Ok("") => Err(Error::usage("there is no code on standard input")),
        Ok(text) if text.len() <= limits::SHARING_TICKET => Ok(SecretText::new(text.to_owned())),
        _ => Err(Error::usage("what is on standard input is no code, no link and no ticket")),
    }
}

/// Begins with the code that is given, or asks until one can be right.
fn begin(ctx: &Context, client: &mut Client, given: Option<SecretText>) -> Result<CodeJoin> {
    if let Some(code) = given {
        return client.call::<JoinsBegin>(&JoinBeginParams { code });
    }
    if !ctx.out.may_ask() {
        return Err(Error::usage("there is no terminal to ask for the code").hint("give it, or - for standard input"));
    }
    loop {
        let code = prompt::code(&ctx.interrupt, "The code, or its link")?;
        match client.call::<JoinsBegin>(&JoinBeginParams { code }) {
            // A typing error: nobody else was asked.
            Err(error) if error.is(Code::InvalidParam) => {
                ctx.out.end(Err(error));
            }
            begun => return begun,
        }
    }
}

/// Where a folder goes.
struct Place {
    path: String,
    empty: bool,
}

impl Place {
    fn of(path: &Path) -> Result<Self> {
        let path = path_text(path)?;
        let empty = match std::fs::read_dir(&path) {
            Ok(mut inside) => inside.next().is_none(),
            Err(error) if error.kind() == io::ErrorKind::NotADirectory => {
                return Err(Error::usage(format!("{path} is no directory")));
            }
            // It is made, or the daemon says what is wrong with it.
            Err(_) => true,
        };
        Ok(Self { path, empty })
    }
}

/// Shows what was found, and asks.
fn agree(ctx: &Context, found: &CodeJoin, place: Option<&Place>, yes: bool) -> Result<()> {
    about(found, place).lines().iter().for_each(|line| ctx.out.note(line));
    if place.is_some() && found.resource.as_ref().is_some_and(|resource| resource.kind == JOURNAL) {
        return Err(Error::usage("a journal has no place among the files").hint("leave --path away"));
    }
    if yes {
        return Ok(());
    }
    let no = || Error::new(FAILED, "no_answer", "nothing was joined");
    if let Some(Place { path, empty: false }) = place
        && !ctx.out.confirm(&format!("{path} is not empty. Use it all the same?"), false)?
    {
        return Err(no());
    }
    if ctx.out.confirm("Join?", false)? { Ok(()) } else { Err(no()) }
}

/// Whose code it is, and what it is for.
fn about(found: &CodeJoin, place: Option<&Place>) -> Table {
    let mut table = Table::untitled();
    if let Some(Issuer { id, name, trusted, .. }) = &found.issuer {
        let known = if *trusted { "a device that this one trusts" } else { "new here: joining means to trust it" };
        table.pair("from", format!("{name} ({id}), {known}"));
    }
    if let Some(JoinResource { kind, name, label, permission, approval, here, .. }) = &found.resource {
        table.pair("to join", format!("the {kind} {name} ({permission})"));
        table.pair("label", label.clone());
        table.pair(
            "asked there",
            match approval {
                CodeApproval::Auto => "nobody",
                CodeApproval::Ask => "somebody has to say yes there first",
                CodeApproval::Unknown => "see a newer kithctl",
            }
            .to_owned(),
        );
        table.pair("here already", here.then(|| "this device takes part in it".to_owned()));
    }
    table.pair("goes to", place.map(|place| place.path.clone()));
    table.pair("valid until", found.expires.clone());
    let late = "WARNING: by this device's clock, which may be wrong, its time is over; it is tried all the same";
    table.pair("", found.seems_expired.then(|| late.to_owned()));
    table
}

/// Shows each step from a yes to the end, or until it goes on without anybody here; returns how it ended.
fn follow(ctx: &Context, client: &mut Client, mut now: CodeJoin, wait: bool) -> Result<CodeJoin> {
    let out = ctx.out;
    ctx.interrupt.puts_back(move || out.note("it goes on in the background: kithctl joins"));
    loop {
        match now.state {
            state if state.is_final() => {
                ctx.interrupt.leaves();
                return Ok(now);
            }
            JoinState::Pending if !wait => {
                ctx.interrupt.leaves();
                return Err(background(ctx, &now));
            }
            JoinState::Pending => waiting(ctx, &now),
            _ => {}
        }
        now = next(client, &now)?;
        told(ctx, &now)?;
    }
}

/// A state for programs, or a word about it for people.
fn told(ctx: &Context, now: &CodeJoin) -> Result<()> {
    if ctx.out.is_json() {
        return ctx.out.object(now);
    }
    match now.state {
        JoinState::Looking => ctx.out.note("looking for what this code is for; Ctrl+C calls it off"),
        JoinState::Joining => ctx.out.note(&format!("asking {}", issuer(now))),
        _ => {}
    }
    Ok(())
}

fn waiting(ctx: &Context, now: &CodeJoin) {
    match &now.retry_at {
        Some(time) => {
            ctx.out.note(&format!("{}; asked again at {time}; Ctrl+C leaves that to the background", why(now)));
        }
        None => ctx.out.note(&format!("asking {} again", issuer(now))),
    }
}

/// It goes on, with nobody waiting for it here: why, and until when.
fn background(ctx: &Context, now: &CodeJoin) -> Error {
    let until = now.expires.as_ref().map(|time| format!(" until a day after {time}")).unwrap_or_default();
    ctx.out.note(&format!("it goes on in the background{until}; how it is: kithctl joins"));
    match &now.reason {
        Some(reason) => reason.clone().into(),
        None => Error::new(ErrorKind::Unavailable.exit(), "pending", why(now)),
    }
}

fn why(now: &CodeJoin) -> String {
    let untold = || format!("{} has not let this device in yet", issuer(now));
    now.reason.as_ref().map_or_else(untold, |reason| reason.message.clone())
}

/// How it ended, as the end of the command that waited for it. Whoever was let in while nobody listened is told that it is
/// a member already; `before` says whether this device took part when the command began.
fn end(ctx: &Context, now: &CodeJoin, before: bool) -> Result<()> {
    if !is_member(now) {
        return Err(failure(now));
    }
    if ctx.out.is_json() {
        return Ok(());
    }
    let Some(JoinResource { kind, name, .. }) = &now.resource else { return ctx.out.line("joined") };
    if before {
        ctx.out.line(&format!("this device takes part in the {kind} {name} already"))?;
    } else {
        ctx.out.line(&format!("joined the {kind} {name} of {}", issuer(now)))?;
    }
    if kind == JOURNAL { ctx.out.line(&format!("    kithctl entries list {}", shell_word(name))) } else { Ok(()) }
}

fn is_member(now: &CodeJoin) -> bool {
    now.state == JoinState::Joined || now.result.as_deref() == Some(ALREADY)
}

/// Why this device is no member.
fn failure(now: &CodeJoin) -> Error {
    let untold = || match now.state {
        JoinState::Canceled => Error::new(FAILED, "canceled", "the join was called off"),
        _ => Error::new(FAILED, now.result.as_deref().unwrap_or("failed"), "joining failed"),
    };
    now.reason.clone().map_or_else(untold, Error::from)
}

/// How a join ended while somebody thought about it, if that was told.
fn ended(client: &mut Client, id: &str) -> Option<Error> {
    while let Some(incoming) = client.heard() {
        let Incoming::Fact(event, _) = incoming else { continue };
        if let Some(join) = of(&event, id).filter(|join| join.state.is_final()) {
            return Some(failure(&join));
        }
    }
    None
}

fn of(event: &Event, id: &str) -> Option<CodeJoin> {
    CodeJoin::deserialize(&event.data).ok().filter(|join| join.join == id)
}

/// Whose code it is.
fn issuer(join: &CodeJoin) -> String {
    join.issuer.as_ref().map_or_else(|| "the issuer".to_owned(), |it| format!("{} ({})", it.name, it.id))
}

/// The next state of a join, however long that takes. What was said before an answer may be older than that, and no join
/// goes back.
fn next(client: &mut Client, now: &CodeJoin) -> Result<CodeJoin> {
    loop {
        let join = match client.next()? {
            Incoming::Fact(event, _) => of(&event, &now.join),
            Incoming::Lagged(_) => {
                client.subscribe(&KINDS)?;
                let joins = client.call::<JoinsList>(&Empty {})?.joins;
                let lost =
                    || Error::from(ApiError::new(Code::JoinNotFound, "kithd knows nothing of this join any more"));
                Some(joins.into_iter().find(|join| join.join == now.join).ok_or_else(lost)?)
            }
            Incoming::Answer(..) | Incoming::Changed(..) => None,
        };
        if let Some(join) = join.filter(|join| join != now && progress(join.state) >= progress(now.state)) {
            return Ok(join);
        }
    }
}

/// How far a state is on the way.
fn progress(state: JoinState) -> u8 {
    match state {
        JoinState::Looking => 0,
        JoinState::Found => 1,
        JoinState::Joining => 2,
        JoinState::Pending | JoinState::Unknown => 3,
        JoinState::Joined | JoinState::Failed | JoinState::Canceled => 4,
    }
}

/// Ctrl+C calls the join off.
fn cancel_on_interrupt(ctx: &Context, join: &str) {
    let endpoint = ctx.endpoint.clone();
    let params = JoinParams { join: join.to_owned() };
    ctx.interrupt.puts_back(move || {
        // It may be over by now, or the daemon gone: then there is nothing to call off.
        let _ = Client::connect(&endpoint, CANCEL).and_then(|mut client| client.call::<JoinsCancel>(&params));
    });
}

/// Nobody wants it any more.
fn call_off(client: &mut Client, join: &str) {
    // It may be over by now.
    let _ = client.call::<JoinsCancel>(&JoinParams { join: join.to_owned() });
}
