//! `transfer.*` and `inbox.*`

use std::path::PathBuf;
use std::sync::Arc;

use data_encoding::BASE64;
use kith_proto::control::method::{
    AcceptParams, Empty, FeedParams, FeedResult, SendParams, TransferListParams, TransferParams, TransfersResult,
};
use kith_proto::control::types::Transfer;
use kith_proto::control::{ApiError, Code};
use kith_proto::limits;

use super::Engines;
use crate::doors::local::dispatch::Call;
use crate::transfer::{Content, SendRequest};

pub async fn send(engines: Arc<Engines>, call: Call, params: SendParams) -> Result<Transfer, ApiError> {
    let device = engines.trust.snapshot().find(&params.peer).cloned();
    let peer = match device {
        Ok(device) if device.is_trusted() => device.key,
        Ok(_) => return Err(not_paired("this device was revoked")),
        // A device in sight that is not paired deserves a better answer than "not found".
        Err(error) => {
            let in_sight = error.code == Code::PeerNotFound && engines.discovery.find(&params.peer).is_ok();
            return Err(if in_sight { not_paired("this device is nearby, but not paired") } else { error });
        }
    };
    let content = match (params.paths.is_empty(), params.stream, params.text) {
        (false, None, None) => Content::Paths(params.paths.into_iter().map(PathBuf::from).collect()),
        (true, Some(name), None) => Content::Stream(name),
        (true, None, Some(text)) => Content::Text(text),
        _ => return Err(ApiError::new(Code::InvalidParam, "give exactly one of paths, stream and text")),
    };
    let request = SendRequest { peer, content, title: params.title, caller: call.caller.reads_as() };
    engines.transfers.send(request, call.connection).await
}

fn not_paired(message: &str) -> ApiError {
    ApiError::new(Code::NotPaired, message).hint("pair first: kithctl pair PEER")
}

pub async fn feed(engines: Arc<Engines>, _: Call, params: FeedParams) -> Result<FeedResult, ApiError> {
    let data = BASE64
        .decode(params.data.as_bytes())
        .map_err(|error| ApiError::new(Code::InvalidParam, format!("data is not base64: {error}")))?;
    if data.len() > limits::FEED_CHUNK {
        return Err(ApiError::new(Code::TooLarge, format!("a chunk has at most {} bytes", limits::FEED_CHUNK)));
    }
    let bytes = engines.transfers.feed(&params.transfer, data, params.end).await?;
    Ok(FeedResult { bytes })
}

pub async fn list(engines: Arc<Engines>, _: Call, params: TransferListParams) -> Result<TransfersResult, ApiError> {
    let (guests, peers) = if params.all {
        (engines.guests.all(), engines.transfers.all())
    } else {
        (engines.guests.unfinished(), engines.transfers.unfinished())
    };
    Ok(together(guests, peers))
}

/// Transfers with guests and with peers, newest first.
fn together(guests: Vec<Transfer>, peers: Vec<Transfer>) -> TransfersResult {
    let mut transfers = [guests, peers].concat();
    transfers.sort_by(|a, b| b.created.cmp(&a.created));
    TransfersResult { transfers }
}

pub async fn show(engines: Arc<Engines>, _: Call, params: TransferParams) -> Result<Transfer, ApiError> {
    match engines.guests.find(&params.transfer)? {
        Some(transfer) => Ok(transfer),
        None => engines.transfers.show(&params.transfer),
    }
}

pub async fn cancel(engines: Arc<Engines>, _: Call, params: TransferParams) -> Result<Transfer, ApiError> {
    match engines.guests.find(&params.transfer)? {
        Some(transfer) => engines.guests.cancel(&transfer.id),
        None => engines.transfers.cancel(&params.transfer).await,
    }
}

pub async fn retry(engines: Arc<Engines>, _: Call, params: TransferParams) -> Result<Transfer, ApiError> {
    if engines.guests.find(&params.transfer)?.is_some() {
        return Err(ApiError::new(Code::WrongState, "a guest's PIN and session are good for one transfer")
            .hint("send it again, with the PIN that is shown now"));
    }
    engines.transfers.retry(&params.transfer).await
}

pub async fn inbox(engines: Arc<Engines>, _: Call, _: Empty) -> Result<TransfersResult, ApiError> {
    Ok(together(engines.guests.inbox(), engines.transfers.inbox()))
}

pub async fn accept(engines: Arc<Engines>, _: Call, params: AcceptParams) -> Result<Transfer, ApiError> {
    match engines.guests.find(&params.transfer)? {
        Some(transfer) => engines.guests.accept(&transfer.id, params.dir, params.on_conflict),
        None => engines.transfers.accept(&params.transfer, params.dir, params.on_conflict).await,
    }
}

pub async fn reject(engines: Arc<Engines>, _: Call, params: TransferParams) -> Result<Transfer, ApiError> {
    match engines.guests.find(&params.transfer)? {
        Some(transfer) => engines.guests.reject(&transfer.id),
        None => engines.transfers.reject(&params.transfer).await,
    }
}
