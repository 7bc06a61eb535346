//! Shares among the things that wait for an answer.

use kith_proto::control::Code;
use kith_proto::control::credential::{Share, ShareParams, ShareState};
use kith_proto::control::method::{Empty, SharesDecline, SharesList};
use kith_proto::control::types::Direction;
use serde::Serialize;

use super::receive::take_waiting;
use super::review::Wishes;
use super::{command, other};
use crate::args::Place;
use crate::client::Client;
use crate::commands::{Context, view};
use crate::error::{Error, Result};
use crate::output::Table;

/// A share under `--json`.
#[derive(Serialize)]
struct Waiting<'a> {
    share: &'a Share,
}

/// Those that wait for a review; none for a caller who may not see them.
pub fn waiting(client: &mut Client) -> Result<Vec<Share>> {
    match client.call::<SharesList>(&Empty {}) {
        Ok(result) => Ok(result.shares.into_iter().filter(is_waiting).collect()),
        Err(error) if error.is(Code::AccessDenied) || error.is(Code::UnknownMethod) => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

fn is_waiting(share: &Share) -> bool {
    share.direction == Direction::In && share.state == ShareState::Review
}

/// Shows them beside the offers of files.
pub fn show(ctx: &Context, shares: &[Share]) -> Result<()> {
    if ctx.out.is_json() {
        return shares.iter().try_for_each(|share| ctx.out.object(&Waiting { share }));
    }
    if shares.is_empty() { Ok(()) } else { ctx.out.table(&table(shares)) }
}

fn table(shares: &[Share]) -> Table {
    let mut table = Table::new(&["ID", "FROM", "WHAT", "NAME", "CAME"]);
    for share in shares {
        table.row([
            share.share.clone(),
            other(share),
            view::word(&share.kind),
            share.name.clone().unwrap_or_default(),
            share.created.clone(),
        ]);
    }
    table
}

/// Looks through one at the terminal.
pub fn accept(ctx: &Context, client: &mut Client, share: &Share, place: &Place) -> Result<()> {
    let what = view::word(&share.kind);
    let command = format!("kithctl {} receive --inbox {}", command(share.kind), share.share);
    if place.dir.is_some() || place.on_conflict.is_some() {
        return Err(Error::usage(format!("that is a {what}: --to and --on-conflict are for files")).hint(command));
    }
    if !ctx.out.may_ask() {
        return Err(Error::usage(format!("that is a {what}, and there is no terminal to look through it"))
            .hint(format!("{command} --yes")));
    }
    take_waiting(ctx, client, share.kind, &share.share, &Wishes::default())
}

/// Declines one.
pub fn reject(ctx: &Context, client: &mut Client, share: &Share) -> Result<()> {
    let share = client.call::<SharesDecline>(&ShareParams { share: share.share.clone() })?;
    if ctx.out.is_json() {
        return ctx.out.object(&share);
    }
    let name = share.name.as_deref().unwrap_or_default();
    ctx.out.line(&format!("declined the {} {name} of {}", view::word(&share.kind), other(&share)))
}
