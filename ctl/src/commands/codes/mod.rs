//! Sharing codes, on both sides: `codes`, `join`, `joins`.
//!
//! ```text
//! issue     a new code, which is shown once
//! issued    those that there are: list, show, revoke
//! requests  devices that came by one and wait for an answer, among all that waits
//! join      the other side: what a code is for, a yes, and what becomes of it
//! joins     joins under way, and the last that ended
//! ```
//!
//! A code is in no message and no error of this program, and is shown where it is issued alone.

mod issue;
mod issued;
mod join;
mod joins;
pub mod requests;

use kith_proto::control::code::{CodeJoin, IssuedCode, JoinRequest};
use kith_proto::control::event::Event;
use serde::Deserialize as _;

use super::{Context, view};
use crate::args::codes::{Codes, Joins};
use crate::error::Result;

pub use join::join;

/// `codes`
pub fn run(ctx: &Context, action: Option<Codes>) -> Result<()> {
    match action.unwrap_or(Codes::List) {
        Codes::List => issued::list(ctx),
        Codes::Show { code } => issued::show(ctx, code),
        Codes::Issue(args) => issue::issue(ctx, args),
        Codes::Revoke { code, expel, yes } => issued::revoke(ctx, code, expel, yes),
    }
}

/// `joins`
pub fn joins(ctx: &Context, action: Option<Joins>) -> Result<()> {
    match action.unwrap_or(Joins::List) {
        Joins::List => joins::list(ctx),
        Joins::Cancel { join } => joins::cancel(ctx, join),
    }
}

/// What happened to a code, a request or a join.
pub fn event_line(event: &Event) -> Option<String> {
    let data = &event.data;
    match event.kind.as_str() {
        "code:updated" => Some(issued::line(&IssuedCode::deserialize(data).ok()?)),
        "request:updated" => Some(requests::line(&JoinRequest::deserialize(data).ok()?)),
        "join:updated" => Some(joins::line(&CodeJoin::deserialize(data).ok()?)),
        _ => None,
    }
}
