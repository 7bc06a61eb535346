//! `shares.*`

use std::sync::Arc;

use kith_proto::control::ApiError;
use kith_proto::control::credential::{
    SavedResult, Share, ShareParams, ShareReceiveParams, ShareReview, ShareSaveParams, ShareSendParams,
    ShareSendResult, SharesResult,
};
use kith_proto::control::method::Empty;

use super::Engines;
use crate::doors::local::dispatch::Call;

pub async fn send(engines: Arc<Engines>, call: Call, params: ShareSendParams) -> Result<ShareSendResult, ApiError> {
    let owner = (!params.detach).then_some(call.connection);
    engines.credentials.send(params, owner).await
}

pub async fn receive(engines: Arc<Engines>, call: Call, params: ShareReceiveParams) -> Result<Share, ApiError> {
    let owner = (!params.detach).then_some(call.connection);
    engines.credentials.receive(params, owner).await
}

pub async fn list(engines: Arc<Engines>, _: Call, _: Empty) -> Result<SharesResult, ApiError> {
    Ok(SharesResult { shares: engines.credentials.list() })
}

pub async fn review(engines: Arc<Engines>, _: Call, params: ShareParams) -> Result<ShareReview, ApiError> {
    engines.credentials.review(&params.share).await
}

pub async fn save(engines: Arc<Engines>, _: Call, params: ShareSaveParams) -> Result<SavedResult, ApiError> {
    engines.credentials.save(params).await
}

pub async fn decline(engines: Arc<Engines>, _: Call, params: ShareParams) -> Result<Share, ApiError> {
    engines.credentials.decline(&params.share).await
}

pub async fn cancel(engines: Arc<Engines>, _: Call, params: ShareParams) -> Result<Share, ApiError> {
    engines.credentials.cancel(&params.share)
}
