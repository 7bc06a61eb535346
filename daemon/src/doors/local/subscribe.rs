//! `events.subscribe`: the whole state, then facts as they happen.

use std::sync::Arc;

use kith_proto::control::event::{Event, Lagged, Missed, Notice};
use kith_proto::control::method::{Snapshot, SubscribeParams, SubscribeResult};
use kith_proto::control::{ApiError, Code};
use serde::Serialize;

use super::dispatch::Call;
use super::line;
use super::methods::Engines;
use crate::event::{Read, Reader};

#[derive(Serialize)]
struct Notification<'a, T> {
    jsonrpc: &'static str,
    method: &'static str,
    params: &'a T,
}

/// Sends a notification; says whether the connection is still there. A reader that does not read holds up its own stream
/// alone.
pub async fn notify<T: Serialize + Sync>(call: &Call, params: &T) -> bool {
    let bytes = line(&Notification { jsonrpc: "2.0", method: "event", params });
    tokio::select! {
        () = call.connection.cancelled() => false,
        sent = call.answers.send(bytes) => sent.is_ok(),
    }
}

/// Answers with the state, and starts the stream behind it.
pub async fn subscribe(
    engines: Arc<Engines>,
    call: Call,
    params: SubscribeParams,
) -> Result<SubscribeResult, ApiError> {
    if let Some(kinds) = &params.kinds {
        let known = kith_proto::control::event::Fact::KINDS;
        if let Some(unknown) = kinds.iter().find(|kind| !known.contains(&kind.as_str())) {
            let message = format!("there is no kind {}", kith_proto::text::printable(unknown));
            return Err(ApiError::new(Code::InvalidParam, message).hint(format!("the kinds are {}", known.join(", "))));
        }
    }
    // The cursor comes first: a fact between it and the snapshot is seen twice, which is harmless; never not at all.
    let cursor = engines.events.cursor();
    let reader = engines.events.reader(params.since.unwrap_or(cursor));
    let snapshot = Snapshot {
        peers: engines.discovery.peers(),
        pairings: engines.pairing.list(),
        transfers: [engines.guests.unfinished(), engines.transfers.unfinished()].concat(),
        window: engines.guests.window(),
        questions: engines.guests.questions(),
        journals: engines.sync.journals().await?,
        syncs: engines.sync.status().await?,
        shares: engines.credentials.list(),
        codes: engines.codes.list().await?,
        requests: engines.codes.requests().await?,
        joins: engines.joins.list(),
    };
    engines.tasks.spawn("subscription", stream(reader, params.kinds, call));
    Ok(SubscribeResult { cursor, boot_id: engines.boot_id.clone(), snapshot })
}

async fn stream(mut reader: Reader, kinds: Option<Vec<String>>, call: Call) {
    let wanted = |event: &Event| kinds.as_ref().is_none_or(|kinds| kinds.contains(&event.kind));
    loop {
        let read = tokio::select! {
            () = call.connection.cancelled() => return,
            read = reader.next() => read,
        };
        let notice = match read {
            Read::Fact(event) if wanted(&event) => Notice::Event(Event::clone(&event)),
            Read::Fact(_) => continue,
            Read::Missed(missed) => Notice::Lagged(Lagged { kind: "lagged".to_owned(), data: Missed { missed } }),
        };
        // The ring goes on without a reader that does not read.
        if !notify(&call, &notice).await {
            return;
        }
    }
}
