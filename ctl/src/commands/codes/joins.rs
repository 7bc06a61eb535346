//! Joins under way, and the last that ended: `joins`.

use kith_proto::control::code::{CodeJoin, JoinParams, JoinState};
use kith_proto::control::method::{Empty, JoinsCancel, JoinsList};

use crate::commands::Context;
use crate::error::Result;
use crate::output::Table;

/// `joins list`
pub fn list(ctx: &Context) -> Result<()> {
    ctx.show::<JoinsList>(&Empty {}, |result| ctx.out.table(&table(&result.joins)))
}

/// `joins cancel`
pub fn cancel(ctx: &Context, join: String) -> Result<()> {
    ctx.show::<JoinsCancel>(&JoinParams { join }, |join| ctx.out.line(&line(join)))
}

/// A join in one line.
pub fn line(join: &CodeJoin) -> String {
    let why = why(join);
    let why = if why.is_empty() { why } else { format!(": {why}") };
    format!("{}  {}  {}{why}", join.join, what(join), state(join)).trim_end().to_owned()
}

fn table(joins: &[CodeJoin]) -> Table {
    let mut table = Table::new(&["ID", "WHAT", "FROM", "STATE", "BEGAN", "ASKED AGAIN", ""]);
    for join in joins {
        table.row([
            join.join.clone(),
            what(join),
            join.issuer.as_ref().map(|issuer| format!("{} ({})", issuer.name, issuer.id)).unwrap_or_default(),
            state(join).to_owned(),
            join.created.clone(),
            join.retry_at.clone().unwrap_or_default(),
            why(join),
        ]);
    }
    table
}

/// What is joined, as far as it is known.
fn what(join: &CodeJoin) -> String {
    join.resource.as_ref().map_or_else(|| "not known yet".to_owned(), |it| format!("{} {}", it.kind, it.name))
}

fn state(join: &CodeJoin) -> &'static str {
    match join.state {
        JoinState::Looking => "looking for it",
        JoinState::Found => "waits for a yes",
        JoinState::Joining => "joining",
        JoinState::Pending => "pending",
        JoinState::Joined => "joined",
        JoinState::Failed => "failed",
        JoinState::Canceled => "canceled",
        JoinState::Unknown => "unknown",
    }
}

/// What somebody should know who did not join yet.
fn why(join: &CodeJoin) -> String {
    match (&join.reason, join.state) {
        (None, _) | (_, JoinState::Joined) => String::new(),
        (Some(reason), _) => reason.message.clone(),
    }
}
