//! What every guest protocol shares: heads within bounds, bodies that are not wanted, answers in JSON.

use std::time::Duration;

use axum::body::Body;
use axum::extract::Request;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http_body_util::BodyExt;
use kith_proto::guest::ErrorBody;
use kith_proto::limits;
use serde::Serialize;
use tokio::time::timeout;

use crate::task::Tasks;

const DRAIN: Duration = Duration::from_secs(limits::GUEST_DRAIN_SECONDS);

/// A head within bounds.
pub async fn check_head(request: Request, next: Next) -> Response {
    let headers = request.headers();
    let fields: usize = headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 4).sum();
    if fields + request.uri().to_string().len() > limits::GUEST_HEAD {
        return plain(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, "Head too large");
    }
    next.run(request).await
}

/// Reads on for a while what is not wanted: a connection that closes with unread bytes in it is reset, and the answer
/// is lost to whoever sends before it listens.
pub fn drain(tasks: &Tasks, mut body: Body) {
    tasks.spawn("guest drain", async move {
        let _ = timeout(DRAIN, async { while let Some(Ok(_)) = body.frame().await {} }).await;
    });
}

/// An answer.
pub fn json<T: Serialize>(answer: &T) -> Response {
    let body = serde_json::to_string(answer).expect("answers are plain data");
    ([(CONTENT_TYPE, "application/json")], body).into_response()
}

/// An answer that says what is wrong.
pub fn plain(status: StatusCode, error: &str) -> Response {
    (status, json(&ErrorBody { error: error.to_owned() })).into_response()
}
