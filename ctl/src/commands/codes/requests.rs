//! Devices that came by a code and wait for an answer, among all that waits.

use kith_proto::control::Code;
use kith_proto::control::code::{JoinRequest, RequestAnswerParams, RequestState};
use kith_proto::control::method::{CodesAnswer, CodesRequests, Empty};
use serde::Serialize;

use super::view;
use crate::args::Place;
use crate::client::Client;
use crate::commands::Context;
use crate::error::{Error, Result};
use crate::output::Table;

/// A request under `--json`.
#[derive(Serialize)]
struct Waiting<'a> {
    request: &'a JoinRequest,
}

/// Those that wait; none for a caller who may not see them, and with a daemon that knows of none.
pub fn waiting(client: &mut Client) -> Result<Vec<JoinRequest>> {
    match client.call::<CodesRequests>(&Empty {}) {
        Ok(result) => Ok(result.requests),
        Err(error) if error.is(Code::AccessDenied) || error.is(Code::UnknownMethod) => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

/// Shows them beside the offers.
pub fn show(ctx: &Context, requests: &[JoinRequest]) -> Result<()> {
    if ctx.out.is_json() {
        return requests.iter().try_for_each(|request| ctx.out.object(&Waiting { request }));
    }
    if requests.is_empty() { Ok(()) } else { ctx.out.table(&table(requests)) }
}

fn table(requests: &[JoinRequest]) -> Table {
    let mut table = Table::new(&["ID", "DEVICE", "WANTS TO JOIN", "BY THE CODE", "CAME", "FROM"]);
    for request in requests {
        table.row([
            request.request.clone(),
            view::peer_name(&request.device),
            what(request),
            request.label.clone(),
            request.created.clone(),
            request.address.clone(),
        ]);
    }
    table
}

fn what(request: &JoinRequest) -> String {
    format!("{} {}", request.kind, request.name)
}

/// Lets a device in.
pub fn accept(ctx: &Context, request: JoinRequest, place: &Place) -> Result<()> {
    if place.dir.is_some() || place.on_conflict.is_some() {
        return Err(Error::usage("that is a request to join: --to and --on-conflict are for files")
            .hint(format!("kithctl inbox accept {}", request.request)));
    }
    answer(ctx, request, true)
}

/// Lets a device in, or not.
pub fn answer(ctx: &Context, request: JoinRequest, accept: bool) -> Result<()> {
    let params = RequestAnswerParams { request: request.request, accept };
    ctx.show::<CodesAnswer>(&params, |request| ctx.out.line(&line(request)))
}

/// A request in one line.
pub fn line(request: &JoinRequest) -> String {
    let (device, what) = (view::peer_name(&request.device), what(request));
    match request.state {
        RequestState::Waiting => format!("{device} wants to join the {what}: kithctl inbox accept {}", request.request),
        RequestState::Accepted => format!("{device} takes part in the {what} now"),
        RequestState::Denied => format!("turned down: {device} does not take part in the {what}"),
        RequestState::Unknown => format!("{device} and the {what}: see a newer kithctl"),
    }
}
