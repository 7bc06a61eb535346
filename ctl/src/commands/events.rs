//! The local door as it is: `events` and `call`.

use kith_proto::control::event::Event;
use kith_proto::control::journal::{Conflict, Journal, Recovered, SyncSession};
use kith_proto::control::method::{Method, Subscribe, SubscribeParams, SubscribeResult};
use kith_proto::control::types::{Pairing, Peer, Question, Transfer, Window};
use serde::Deserialize as _;
use serde_json::Value;

use super::{Context, codes, journals, standard_input, sync, view};
use crate::args::{Call, Events};
use crate::client::{Client, Incoming};
use crate::error::{Error, Result};

/// `events`: the state, then facts, until nobody reads any more.
pub fn follow(ctx: &Context, args: Events) -> Result<()> {
    let kinds = Some(args.kinds).filter(|kinds| !kinds.is_empty());
    let mut client = ctx.connect()?;
    subscribe(ctx, &mut client, SubscribeParams { kinds: kinds.clone(), since: args.since })?;
    loop {
        match client.next()? {
            Incoming::Fact(_, raw) if ctx.out.is_json() => ctx.out.raw(raw.get())?,
            Incoming::Fact(event, _) => ctx.out.line(&describe(&event))?,
            Incoming::Lagged(raw) => {
                if ctx.out.is_json() {
                    ctx.out.raw(raw.get())?;
                }
                subscribe(ctx, &mut client, SubscribeParams { kinds: kinds.clone(), since: None })?;
            }
            Incoming::Answer(..) | Incoming::Changed(..) => {}
        }
    }
}

fn subscribe(ctx: &Context, client: &mut Client, params: SubscribeParams) -> Result<()> {
    let raw = client.call_raw(Subscribe::NAME, Some(&params))?;
    if ctx.out.is_json() {
        return ctx.out.raw(raw.get());
    }
    let SubscribeResult { cursor, snapshot, .. } = client.decode(&raw)?;
    ctx.out.line(&format!("state at {cursor}"))?;
    ctx.out.table(&view::peers(&snapshot.peers))?;
    ctx.out.table(&view::transfers(&snapshot.transfers))?;
    ctx.out.table(&journals::table(&snapshot.journals))
}

fn describe(event: &Event) -> String {
    let data = &event.data;
    let what = if let Some(text) = of_journals(event).or_else(|| codes::event_line(event)) {
        text
    } else if let Ok(transfer) = Transfer::deserialize(data) {
        view::transfer_line(&transfer)
    } else if let Ok(peer) = Peer::deserialize(data) {
        view::peer_line(&peer)
    } else if let Ok(pairing) = Pairing::deserialize(data) {
        format!("{} {}", pairing.pairing, view::word(&pairing.state))
    } else if let Ok(question) = Question::deserialize(data) {
        let Question { question, kind, state, address, .. } = question;
        format!("{question} {} {} {address}", view::word(&kind), view::word(&state))
    } else if let Ok(window) = Window::deserialize(data) {
        format!("{} {}, wrong PINs left: {}", window.window, view::word(&window.state), window.attempts_left)
    } else {
        data.to_string()
    };
    format!("{}  {:<16}  {what}", event.time, event.kind)
}

/// What happened to a journal.
fn of_journals(event: &Event) -> Option<String> {
    let data = &event.data;
    match event.kind.as_str() {
        "journal:updated" => Some(journals::line(&Journal::deserialize(data).ok()?)),
        "entry:conflict" => {
            let Conflict { name, winner, loser, .. } = Conflict::deserialize(data).ok()?;
            let (id, kept) = (winner.id, loser.hash);
            Some(format!("{name}: {id} of {} wins, that of {} is kept as {kept}", winner.device, loser.device))
        }
        "entry:recovered" => {
            let Recovered { name, entry, .. } = Recovered::deserialize(data).ok()?;
            Some(format!("{name}: {} of {} came back as {}", entry.id, entry.device, entry.hash))
        }
        "sync:started" | "sync:complete" | "sync:error" => Some(sync::line(&SyncSession::deserialize(data).ok()?)),
        _ => None,
    }
}

/// `call`: any method, its result as it came.
pub fn call(ctx: &Context, args: &Call) -> Result<()> {
    let params = args.params.as_deref().map(params).transpose()?;
    ctx.out.raw(ctx.connect()?.call_raw(&args.method, params.as_ref())?.get())
}

fn params(text: &str) -> Result<Value> {
    let input;
    let text = if text == "-" {
        input = standard_input()?;
        &input
    } else {
        text
    };
    match serde_json::from_str(text) {
        Ok(params @ Value::Object(_)) => Ok(params),
        Ok(_) => Err(Error::usage("the parameters are not a JSON object")),
        Err(error) => Err(Error::usage(format!("the parameters are not JSON: {error}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_an_object() {
        assert!(params(r#"{"peer":"nas"}"#).is_ok());
        for text in ["[]", "1", "", "{", "{} {}"] {
            assert_eq!(params(text).unwrap_err().exit(), 2, "{text:?}");
        }
    }
}
