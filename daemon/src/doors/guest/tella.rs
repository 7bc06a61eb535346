//! Tella's transfer protocol over HTTP: each route reads a request, makes one call, and writes the answer.

use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::{Path, RawQuery, State};
use axum::http::header::CONTENT_LENGTH;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{post, put};
use axum::{Extension, Router, middleware};
use http_body_util::BodyExt;
use kith_proto::guest::{Close, Done, Prepare, Refusal, Register, Upload, Version};
use kith_proto::limits;
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout_at};

use super::http::{check_head, drain, json, plain};
use crate::guest::{Guests, Visitor};
use crate::task::Tasks;

const JSON: Duration = Duration::from_secs(limits::GUEST_JSON_SECONDS);
const PROGRESS: Duration = Duration::from_secs(limits::GUEST_BODY_SECONDS);

/// The routes of the protocol, for both versions.
pub fn router(guests: Guests, tasks: Tasks) -> Router {
    Router::new()
        .route("/api/{version}/ping", post(ping))
        .route("/api/{version}/register", post(register))
        .route("/api/{version}/prepare-upload", post(prepare))
        .route("/api/{version}/upload", put(upload).post(upload))
        .route("/api/{version}/close-connection", post(close))
        .fallback(|| async { plain(StatusCode::NOT_FOUND, "Not found") })
        .method_not_allowed_fallback(|| async { plain(StatusCode::METHOD_NOT_ALLOWED, "Method not allowed") })
        .layer(middleware::from_fn(check_head))
        .with_state(Tella { guests, tasks, offers: Arc::new(Semaphore::new(1)) })
}

#[derive(Clone)]
struct Tella {
    guests: Guests,
    tasks: Tasks,
    /// The right to send a long list of files: its memory is lent to one guest at a time, who was let in.
    offers: Arc<Semaphore>,
}

/// Whoever calls, and in which version.
type Call = (State<Tella>, Path<String>, Extension<Visitor>);

/// An answer other than the one hoped for.
enum Failure {
    Refused(Refusal),
    /// A path that is none of ours.
    Unknown,
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        match self {
            Self::Refused(refusal) => {
                let status = StatusCode::from_u16(refusal.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
                plain(status, &refusal.to_string())
            }
            Self::Unknown => plain(StatusCode::NOT_FOUND, "Not found"),
        }
    }
}

type Answer = Result<Response, Failure>;

/// `ping` and `register` of a version that is to come are told so; everything else there is unknown.
fn version(segment: &str, negotiable: bool) -> Result<Version, Failure> {
    match segment {
        "v1" => Ok(Version::V1),
        "v2" => Ok(Version::V2),
        other => {
            let number = other.strip_prefix('v').filter(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()));
            if negotiable && number.is_some() { Err(Refusal::Version.into()) } else { Err(Failure::Unknown) }
        }
    }
}

async fn ping((State(tella), Path(path), Extension(visitor)): Call, body: Body) -> Answer {
    let version = version(&path, true)?;
    whole(&tella, body, limits::GUEST_JSON).await?;
    match tella.guests.ping(version, visitor).await? {
        Some(pong) => Ok(json(&pong)),
        None => Ok(json(&Done { success: true })),
    }
}

async fn register((State(tella), Path(path), Extension(visitor)): Call, body: Body) -> Answer {
    let version = version(&path, true)?;
    let body = whole(&tella, body, limits::GUEST_JSON).await?;
    Ok(json(&tella.guests.register(version, visitor, &Register::parse(&body)?).await?))
}

async fn prepare((State(tella), Path(path), Extension(visitor)): Call, body: Body) -> Answer {
    let version = version(&path, false)?;
    // Whoever was not let in does not touch that right, not even for a moment.
    let offer = match tella.guests.serves(version, visitor).then(|| tella.offers.try_acquire()) {
        None => None,
        Some(Ok(offer)) => Some(offer),
        Some(Err(_)) => {
            drain(&tella.tasks, body);
            return Err(Refusal::Busy.into());
        }
    };
    let max = if offer.is_some() { limits::GUEST_PREPARE } else { limits::GUEST_JSON };
    let body = match whole(&tella, body, max).await {
        Err(Refusal::TooLarge) if offer.is_none() => return Err(Refusal::NoSession.into()),
        body => body?,
    };
    let request = Prepare::parse(&body)?;
    drop((body, offer));
    Ok(json(&tella.guests.prepare(version, visitor, request).await?))
}

async fn close((State(tella), Path(path), Extension(visitor)): Call, body: Body) -> Answer {
    let version = version(&path, false)?;
    let body = whole(&tella, body, limits::GUEST_JSON).await?;
    tella.guests.close_session(version, visitor, &Close::parse(&body)?.session)?;
    Ok(json(&Done { success: true }))
}

async fn upload(
    (State(tella), Path(path), Extension(visitor)): Call,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
    mut body: Body,
) -> Answer {
    let version = version(&path, false)?;
    let received = receive(&tella.guests, version, visitor, query.as_deref(), &headers, &mut body).await;
    if received.is_err() {
        drain(&tella.tasks, body);
    }
    received?;
    Ok(json(&Done { success: true }))
}

async fn receive(
    guests: &Guests,
    version: Version,
    visitor: Visitor,
    query: Option<&str>,
    headers: &HeaderMap,
    body: &mut Body,
) -> Result<(), Refusal> {
    let request = Upload::parse(query.unwrap_or_default())?;
    let length = headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()).and_then(|text| text.parse().ok());
    let mut arriving = guests.upload(version, visitor, &request, length)?;
    let (mut deadline, mut gained) = (Instant::now() + PROGRESS, 0);
    loop {
        let frame = timeout_at(deadline, body.frame()).await.map_err(|_| Refusal::TooSlow)?;
        let content = match frame {
            // What is missing is what was broken off.
            None | Some(Err(_)) => return arriving.finish().await,
            Some(Ok(frame)) => frame.into_data().unwrap_or_default(),
        };
        gained += content.len() as u64;
        arriving.content(&content).await?;
        if gained >= limits::GUEST_BODY_BYTES {
            (deadline, gained) = (Instant::now() + PROGRESS, 0);
        }
    }
}

/// A JSON body. One that is too long is refused before it is there.
async fn whole(tella: &Tella, mut body: Body, max: usize) -> Result<Vec<u8>, Refusal> {
    let deadline = Instant::now() + JSON;
    let mut all = Vec::new();
    loop {
        let soon = deadline.min(Instant::now() + PROGRESS);
        let Some(frame) = timeout_at(soon, body.frame()).await.map_err(|_| Refusal::TooSlow)? else { break };
        let content: Bytes = frame.map_err(|_| Refusal::Malformed)?.into_data().unwrap_or_default();
        if all.len() + content.len() > max {
            drain(&tella.tasks, body);
            return Err(Refusal::TooLarge);
        }
        all.extend_from_slice(&content);
    }
    Ok(all)
}
