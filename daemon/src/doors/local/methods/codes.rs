//! `codes.*`

use std::sync::Arc;

use kith_proto::control::ApiError;
use kith_proto::control::code::{
    CodeIssueParams, CodeIssueResult, CodeParams, CodeRevokeParams, CodeShowResult, CodesResult, IssuedCode,
    JoinRequest, RequestAnswerParams, RequestsResult,
};
use kith_proto::control::method::Empty;

use super::Engines;
use crate::doors::local::dispatch::Call;

pub async fn issue(engines: Arc<Engines>, _: Call, params: CodeIssueParams) -> Result<CodeIssueResult, ApiError> {
    engines.codes.issue(params).await
}

pub async fn list(engines: Arc<Engines>, _: Call, _: Empty) -> Result<CodesResult, ApiError> {
    Ok(CodesResult { codes: engines.codes.list().await? })
}

pub async fn show(engines: Arc<Engines>, _: Call, params: CodeParams) -> Result<CodeShowResult, ApiError> {
    engines.codes.show(params.code).await
}

pub async fn revoke(engines: Arc<Engines>, _: Call, params: CodeRevokeParams) -> Result<IssuedCode, ApiError> {
    engines.codes.revoke(params).await
}

pub async fn requests(engines: Arc<Engines>, _: Call, _: Empty) -> Result<RequestsResult, ApiError> {
    Ok(RequestsResult { requests: engines.codes.requests().await? })
}

pub async fn answer(engines: Arc<Engines>, _: Call, params: RequestAnswerParams) -> Result<JoinRequest, ApiError> {
    engines.codes.answer(params).await
}
