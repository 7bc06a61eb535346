//! `pairing.*`

use std::sync::Arc;

use kith_proto::control::ApiError;
use kith_proto::control::method::{PairingJoinParams, PairingOpenParams, PairingOpenResult, PairingParams};
use kith_proto::control::types::Pairing;

use super::Engines;
use crate::doors::local::dispatch::Call;

pub async fn open(engines: Arc<Engines>, call: Call, params: PairingOpenParams) -> Result<PairingOpenResult, ApiError> {
    let owner = (!params.detach).then_some(call.connection);
    engines.pairing.open(params, owner).await
}

pub async fn join(engines: Arc<Engines>, call: Call, params: PairingJoinParams) -> Result<Pairing, ApiError> {
    engines.pairing.join(params, call.connection)
}

pub async fn cancel(engines: Arc<Engines>, _: Call, params: PairingParams) -> Result<Pairing, ApiError> {
    engines.pairing.cancel(&params.pairing)
}
