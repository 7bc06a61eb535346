//! `secrets send`, `dbs send`: what is handed over, a warning, the code, and what becomes of it.

use kith_proto::control::credential::{
    Database, DatabaseParams, Share, ShareKind, ShareSendParams, ShareSendResult, ShareState,
};
use kith_proto::control::method::{DatabasesList, DatabasesView, Empty, SecretsList, SharesSend};
use kith_proto::control::{ApiError, Code};
use kith_proto::credential::{DatabaseFields, Slot};
use kith_proto::limits;
use serde::Serialize;

use super::{Given, KINDS, cancel_on_interrupt, command, next, other, outcome, purpose, unlocked, wrong_code};
use crate::args::share::{SendDatabase, SendSecret, Sending};
use crate::client::Client;
use crate::commands::{Context, secrets};
use crate::error::{Error, FAILED, Result};
use crate::prompt;
use crate::values::Slots;

/// How long somebody may look through what came.
const REVIEW_MINUTES: u64 = limits::SHARE_REVIEW_SECONDS / 60;

/// The first line under `--json`.
#[derive(Serialize)]
struct Begun<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    expires: Option<&'a str>,
    share: &'a str,
}

/// `secrets send`
pub fn send_secret(ctx: &Context, args: SendSecret) -> Result<()> {
    let SendSecret { name, how } = args;
    Given { name: &how.rename, description: &None, path: &None }.check()?;
    let mut client = start(ctx, name.is_some())?;
    let name = match name {
        Some(name) => name,
        None => {
            let names = client.call::<SecretsList>(&Empty {})?.secrets.into_iter().map(|secret| secret.name).collect();
            choose(ctx, "Which secret", names, Code::SecretNotFound)?
        }
    };
    let mut what = format!("the value of the secret {name}");
    if asks(ctx, &how) {
        what += &format!(" ({})", secrets::find(ctx, &name)?.kind);
    }
    let params = params(ShareKind::Secret, name, &how);
    send(ctx, &mut client, &how, &params, &what)
}

/// `dbs send`
pub fn send_database(ctx: &Context, args: SendDatabase) -> Result<()> {
    let SendDatabase { name, how, description, path, secrets: slots } = args;
    Given { name: &how.rename, description: &description, path: &path }.check()?;
    let mut client = start(ctx, name.is_some())?;
    let name = match name {
        Some(name) => name,
        None => {
            let databases = client.call::<DatabasesList>(&Empty {})?.databases;
            let names = databases.into_iter().map(|database| database.name).collect();
            choose(ctx, "Which database", names, Code::DatabaseNotFound)?
        }
    };
    let mut params = params(ShareKind::Database, name, &how);
    params.description = description;
    params.path = path;
    params.secrets = slots.map(|Slots(slots)| slots);
    let mut values = "its secrets".to_owned();
    if asks(ctx, &how) {
        let database = client.call::<DatabasesView>(&DatabaseParams { name: params.name.clone() })?;
        edit(ctx, &database, &mut params)?;
        let names = params.secrets.iter().flatten().filter_map(|slot| database.secret(*slot));
        values = names.collect::<Vec<_>>().join(", ");
    }
    let what = match params.secrets.as_deref() {
        Some([]) => format!("the name, the description and the path of {}, and no secret", params.name),
        None | Some(_) => format!("the database {} and the values of {values}", params.name),
    };
    send(ctx, &mut client, &how, &params, &what)
}

/// Connects; whoever names nothing must be there to choose.
fn start(ctx: &Context, named: bool) -> Result<Client> {
    if !named && !ctx.out.may_ask() {
        return Err(Error::usage("there is no terminal to choose from a list").hint("say what to send: its name"));
    }
    let mut client = ctx.connect()?;
    // Before the share begins, so that no step of it is missed.
    client.subscribe(&KINDS)?;
    Ok(client)
}

fn asks(ctx: &Context, how: &Sending) -> bool {
    ctx.out.may_ask() && !how.yes
}

fn choose(ctx: &Context, question: &str, mut names: Vec<String>, none: Code) -> Result<String> {
    if names.is_empty() {
        return Err(ApiError::new(none, "there is nothing to send yet").into());
    }
    let only = (names.len() == 1).then_some(0);
    let chosen = prompt::choose(ctx.out, question, &names, only)?;
    Ok(names.swap_remove(chosen))
}

fn params(kind: ShareKind, name: String, how: &Sending) -> ShareSendParams {
    ShareSendParams {
        kind,
        name,
        to: how.to.clone(),
        rename: how.rename.clone(),
        description: None,
        path: None,
        secrets: None,
        compat: how.compat.is_some(),
        detach: false,
    }
}

/// Asks for what the command line leaves open: the texts that go there, and which secrets go along.
fn edit(ctx: &Context, database: &Database, params: &mut ShareSendParams) -> Result<()> {
    let ShareSendParams { rename: name, description, path, .. } = &*params;
    let own = DatabaseFields {
        name: database.name.clone(),
        description: database.description.clone(),
        path: database.path.clone(),
        origin: None,
    };
    ctx.out.note("What goes there; Enter keeps what is shown:");
    let fields = Given { name, description, path }.complete(ctx, own)?;
    let changed = |new: String, own: &str| Some(new).filter(|new| new != own);
    params.rename = changed(fields.name, &database.name);
    params.description = changed(fields.description, &database.description);
    params.path = changed(fields.path, &database.path);
    if params.secrets.is_none() {
        params.secrets = Some(wanted(ctx, database)?);
    }
    Ok(())
}

fn wanted(ctx: &Context, database: &Database) -> Result<Vec<Slot>> {
    let mut slots = Vec::new();
    for slot in Slot::ALL {
        if let Some(name) = database.secret(slot)
            && ctx.out.confirm(&format!("Send its {}, {name}, along?", purpose(slot)), true)?
        {
            slots.push(slot);
        }
    }
    Ok(slots)
}

/// Warns, begins, and follows the share to its end.
fn send(ctx: &Context, client: &mut Client, how: &Sending, params: &ShareSendParams, what: &str) -> Result<()> {
    warning(params, what).iter().for_each(|line| ctx.out.note(line));
    if asks(ctx, how) && !ctx.out.confirm("Send it?", false)? {
        return Err(Error::new(FAILED, "no_answer", "nothing was sent"));
    }
    let ShareSendResult { share, code } = unlocked(ctx, asks(ctx, how), || client.call::<SharesSend>(params))?;
    cancel_on_interrupt(ctx, &share.share);
    let code = code.as_ref().map(|code| code.expose());
    if ctx.out.is_json() {
        ctx.out.object(&Begun { code, expires: share.expires.as_deref(), share: &share.share })?;
    } else if let Some(code) = code {
        instructions(params, code).iter().try_for_each(|line| ctx.out.line(line))?;
    }
    follow(ctx, client, share)
}

fn warning(params: &ShareSendParams, what: &str) -> Vec<String> {
    let mut lines = vec![format!("WARNING: this hands over {what}.")];
    lines.push(match &params.to {
        Some(to) => format!("Once {to} has it, nothing takes it back."),
        None => {
            "Whoever types the code first has it, and nothing takes it back. Show the code to nobody else.".to_owned()
        }
    });
    if params.compat {
        lines.push("WARNING: --compat photosphere is not safe: the code of that protocol proves nothing.".to_owned());
        lines.push(
            "Any device on this network could take these credentials, or plant others in their place.".to_owned(),
        );
    }
    lines
}

/// What the person at the other device has to do.
fn instructions(params: &ShareSendParams, code: &str) -> Vec<String> {
    let subject = command(params.kind);
    let there = if params.compat {
        format!("there: psi {subject} receive, or \"Receive\" in the app")
    } else {
        format!("there: kithctl {subject} receive")
    };
    vec![
        String::new(),
        format!("    Type this code on the other device: {code}"),
        String::new(),
        format!("{there}; within {} seconds", limits::SHARE_SECONDS),
    ]
}

/// Shows each step of a share to its end.
fn follow(ctx: &Context, client: &mut Client, mut now: Share) -> Result<()> {
    let mut attempts = now.attempts_left;
    let mut told = None;
    loop {
        let again =
            format!("typed wrong there? Then kithctl {} receive there again: the code is the same", command(now.kind));
        if let Some(line) = wrong_code(attempts, now.attempts_left, &again) {
            line.lines().for_each(|line| ctx.out.note(line));
        }
        attempts = now.attempts_left.or(attempts);
        if told != Some(now.state) {
            told = Some(now.state);
            step(ctx, &now);
        }
        if now.state.is_final() {
            ctx.interrupt.leaves();
            return end(ctx, &now);
        }
        now = next(client, &now)?;
        if ctx.out.is_json() && !now.state.is_final() {
            ctx.out.object(&now)?;
        }
    }
}

fn step(ctx: &Context, share: &Share) {
    match share.state {
        ShareState::Waiting => ctx.out.note("waiting for the other device; Ctrl+C calls it off"),
        ShareState::Review => ctx.out.note(&format!(
            "{} has it; it is looked through there, for {REVIEW_MINUTES} minutes at most",
            other(share)
        )),
        _ => {}
    }
}

fn end(ctx: &Context, share: &Share) -> Result<()> {
    if ctx.out.is_json() {
        ctx.out.object(share)?;
    } else if let Some(line) = done(share) {
        ctx.out.line(&line)?;
    }
    outcome(share)
}

/// How it went well. It is sent when it is saved there, and not before.
fn done(share: &Share) -> Option<String> {
    let name = share.name.as_deref().unwrap_or_default();
    match share.state {
        ShareState::Saved => Some(format!("sent {name} to {}: it is saved there", other(share))),
        ShareState::Delivered if share.compat => {
            Some(format!("delivered {name} to {}; that app does not say what becomes of it", other(share)))
        }
        ShareState::Delivered => Some(match &share.peer {
            Some(peer) => format!("delivered {name}; it waits in {}'s inbox for a review", peer.name),
            None => format!("delivered {name}; it waits there for a review"),
        }),
        _ => None,
    }
}
