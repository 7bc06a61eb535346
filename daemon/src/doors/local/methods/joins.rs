//! `joins.*`

use std::sync::Arc;

use kith_proto::control::ApiError;
use kith_proto::control::code::{CodeJoin, JoinBeginParams, JoinConfirmParams, JoinParams, JoinsResult};
use kith_proto::control::method::Empty;

use super::Engines;
use crate::doors::local::dispatch::Call;

pub async fn begin(engines: Arc<Engines>, call: Call, params: JoinBeginParams) -> Result<CodeJoin, ApiError> {
    engines.joins.begin(&params, call.connection)
}

pub async fn confirm(engines: Arc<Engines>, _: Call, params: JoinConfirmParams) -> Result<CodeJoin, ApiError> {
    engines.joins.confirm(params).await
}

pub async fn list(engines: Arc<Engines>, _: Call, _: Empty) -> Result<JoinsResult, ApiError> {
    Ok(JoinsResult { joins: engines.joins.list() })
}

pub async fn cancel(engines: Arc<Engines>, _: Call, params: JoinParams) -> Result<CodeJoin, ApiError> {
    engines.joins.cancel(&params.join).await
}
