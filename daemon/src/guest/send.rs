//! The sender's side: from files to requests.

use std::sync::Arc;

use kith_proto::control::ApiError;
use kith_proto::control::types::Transfer;

use super::{Engine, SendRequest};

/// Starts sending to a guest.
pub async fn begin(_engine: &Arc<Engine>, _request: SendRequest) -> Result<Transfer, ApiError> {
    Err(ApiError::new(kith_proto::control::Code::Internal, "not written yet"))
}
