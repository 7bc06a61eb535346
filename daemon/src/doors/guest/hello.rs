//! The hello store over HTTP: each request is one call of the store, within what its source may ask.
//!
//! Names are secrets that others guess in vain: they are never logged. What proxies say about who calls is not
//! believed: who calls is who connects.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::http::header::{ALLOW, AUTHORIZATION, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE, RETRY_AFTER};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Router, middleware};
use http_body_util::BodyExt;
use kith_proto::guest::hello::{EXPIRES, Lookup, OWNER, OwnerHash, OwnerToken, PATH, expires_ms};
use kith_proto::limits;
use tokio::time::{Instant, timeout_at};

use super::http::{check_head, drain, plain};
use crate::clock;
use crate::guest::Visitor;
use crate::hello_store::{Deposit, Deposited, Error, Found, Gate, HelloStore, Source};
use crate::task::Tasks;

const BODY: Duration = Duration::from_secs(limits::GUEST_JSON_SECONDS);
const PROGRESS: Duration = Duration::from_secs(limits::GUEST_BODY_SECONDS);
/// When to try again what the store could not do, in seconds.
const BROKEN_RETRY: u32 = 10;
/// When a source that has too much there may try again, in seconds: something may have expired by then.
const FULL_RETRY: u32 = 3_600;

/// What is served.
#[derive(Debug, Clone, Copy)]
pub struct Rules {
    /// Whether anybody may put something there and take it away again; otherwise it is only looked up.
    pub strangers: bool,
}

/// Every path of a hello store. Each request carries a [`Visitor`] as an extension.
pub fn router(store: Arc<dyn HelloStore>, gate: Arc<Mutex<Gate>>, rules: Rules, tasks: Tasks) -> Router {
    Router::new().fallback(serve).layer(middleware::from_fn(check_head)).with_state(Door { store, gate, rules, tasks })
}

#[derive(Clone)]
struct Door {
    store: Arc<dyn HelloStore>,
    gate: Arc<Mutex<Gate>>,
    rules: Rules,
    tasks: Tasks,
}

/// An answer other than the one hoped for.
enum Refusal {
    /// No such path, no such name, not the owner: nobody is told which.
    Unknown,
    Method,
    Gone(&'static str),
    Taken,
    TooLarge,
    Malformed(&'static str),
    TooMany(u32),
    Full,
    Slow,
    Broken,
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        // A server that is away is away for every request; whoever runs the store says it once.
        match error {
            Error::Unreachable(_) => tracing::debug!(%error, "the hello store is away"),
            _ => tracing::warn!(%error, "the hello store failed"),
        }
        if error.is_full() { Self::Full } else { Self::Broken }
    }
}

async fn serve(State(door): State<Door>, Extension(visitor): Extension<Visitor>, request: Request) -> Response {
    let source = Source::of(visitor.address);
    let (head, mut body) = request.into_parts();
    let name = head.uri.path().strip_prefix(PATH).and_then(Lookup::parse);
    let answer = match (name, head.method) {
        (None, _) => Err(Refusal::Unknown),
        (Some(lookup), Method::GET) => door.get(lookup, source).await,
        (Some(lookup), Method::PUT) if door.rules.strangers => door.put(lookup, source, &head.headers, &mut body).await,
        (Some(lookup), Method::DELETE) if door.rules.strangers => door.withdraw(lookup, source, &head.headers).await,
        _ => Err(Refusal::Method),
    };
    answer.unwrap_or_else(|refusal| {
        drain(&door.tasks, body);
        door.refuse(&refusal)
    })
}

impl Door {
    async fn get(&self, lookup: Lookup, source: Source) -> Result<Response, Refusal> {
        self.ask(|gate, now_ms| gate.get(source, now_ms))?;
        match self.store.get(lookup, now_ms()).await? {
            Found::Blob { blob, expires_ms } => {
                let headers = [
                    (CONTENT_TYPE, HeaderValue::from_static("application/octet-stream")),
                    (CACHE_CONTROL, HeaderValue::from_static("no-store")),
                    (HeaderName::from_static(EXPIRES), HeaderValue::from(expires_ms / 1000)),
                ];
                Ok((headers, blob).into_response())
            }
            Found::Expired => Err(Refusal::Gone("expired")),
            Found::Withdrawn => Err(Refusal::Gone("withdrawn")),
            Found::Nothing => Err(self.missed(source)),
        }
    }

    async fn put(
        &self,
        lookup: Lookup,
        source: Source,
        headers: &HeaderMap,
        body: &mut Body,
    ) -> Result<Response, Refusal> {
        let length = headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
        if length.is_some_and(|length| length > limits::HELLO_BLOB as u64) {
            return Err(Refusal::TooLarge);
        }
        let malformed = |name| Refusal::Malformed(name);
        let owner = single(headers, OWNER).ok().flatten().and_then(OwnerHash::parse);
        let owner = owner.ok_or(malformed("Hello-Owner is not 64 hex digits"))?;
        let expires = single(headers, EXPIRES).ok().and_then(|text| expires_ms(text, now_ms()));
        let expires_ms = expires.ok_or(malformed("Hello-Expires is not a time within bounds"))?;
        let blob = whole(body).await?;
        if blob.is_empty() {
            return Err(malformed("There is no content"));
        }
        // Whoever brings again what is there, as issuers do every hour, asks for no more room: it is as good as a lookup.
        let there = self.store.get(lookup, now_ms()).await?;
        if matches!(there, Found::Blob { blob: there, .. } if there == blob) {
            self.ask(|gate, now_ms| gate.get(source, now_ms))?;
        } else {
            self.ask(|gate, now_ms| gate.put(source, now_ms))?;
        }
        match self.store.put(Deposit { lookup, blob, owner, expires_ms, source }, now_ms()).await? {
            Deposited::Created => Ok(StatusCode::CREATED.into_response()),
            Deposited::Same => Ok(StatusCode::OK.into_response()),
            Deposited::Other => Err(Refusal::Taken),
            Deposited::SourceFull => Err(Refusal::TooMany(FULL_RETRY)),
            Deposited::Full => Err(Refusal::Full),
        }
    }

    async fn withdraw(&self, lookup: Lookup, source: Source, headers: &HeaderMap) -> Result<Response, Refusal> {
        self.ask(|gate, now_ms| gate.get(source, now_ms))?;
        let bearer = single(headers, AUTHORIZATION.as_str()).ok().flatten();
        let token = bearer.and_then(|text| text.strip_prefix("Bearer ")).and_then(OwnerToken::parse);
        let Some(token) = token else { return Err(self.missed(source)) };
        match self.store.withdraw(lookup, &token, now_ms()).await? {
            true => Ok(StatusCode::NO_CONTENT.into_response()),
            false => Err(self.missed(source)),
        }
    }

    fn ask(&self, question: impl FnOnce(&mut Gate, u64) -> Result<(), u32>) -> Result<(), Refusal> {
        let mut gate = self.gate.lock().unwrap_or_else(PoisonError::into_inner);
        question(&mut gate, now_ms()).map_err(Refusal::TooMany)
    }

    fn missed(&self, source: Source) -> Refusal {
        self.gate.lock().unwrap_or_else(PoisonError::into_inner).missed(source, now_ms());
        Refusal::Unknown
    }

    fn refuse(&self, refusal: &Refusal) -> Response {
        let (status, error) = match refusal {
            Refusal::Unknown => (StatusCode::NOT_FOUND, "Not found"),
            Refusal::Method => (StatusCode::METHOD_NOT_ALLOWED, "Method not allowed"),
            Refusal::Gone(why) => (StatusCode::GONE, *why),
            Refusal::Taken => (StatusCode::CONFLICT, "Something else is there"),
            Refusal::TooLarge => (StatusCode::PAYLOAD_TOO_LARGE, "Too large"),
            Refusal::Malformed(what) => (StatusCode::UNPROCESSABLE_ENTITY, *what),
            Refusal::TooMany(_) => (StatusCode::TOO_MANY_REQUESTS, "Too many requests"),
            Refusal::Full => (StatusCode::INSUFFICIENT_STORAGE, "There is no room for more"),
            Refusal::Slow => (StatusCode::REQUEST_TIMEOUT, "Too slow"),
            Refusal::Broken => (StatusCode::SERVICE_UNAVAILABLE, "The store does not answer"),
        };
        let mut answer = plain(status, error);
        match refusal {
            Refusal::Broken => drop(answer.headers_mut().insert(RETRY_AFTER, HeaderValue::from(BROKEN_RETRY))),
            Refusal::TooMany(seconds) => drop(answer.headers_mut().insert(RETRY_AFTER, HeaderValue::from(*seconds))),
            Refusal::Method => {
                let allowed = if self.rules.strangers { "GET, PUT, DELETE" } else { "GET" };
                answer.headers_mut().insert(ALLOW, HeaderValue::from_static(allowed));
            }
            _ => {}
        }
        answer
    }
}

/// The one value of a header, or none; more than one, and what is no text, is an error.
fn single<'a>(headers: &'a HeaderMap, name: &str) -> Result<Option<&'a str>, ()> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (None, _) => Ok(None),
        (Some(value), None) => value.to_str().map(Some).map_err(|_| ()),
        (Some(_), Some(_)) => Err(()),
    }
}

/// A blob. One that is too long is refused before it is there.
async fn whole(body: &mut Body) -> Result<Vec<u8>, Refusal> {
    let deadline = Instant::now() + BODY;
    let mut all = Vec::new();
    loop {
        let soon = deadline.min(Instant::now() + PROGRESS);
        let Some(frame) = timeout_at(soon, body.frame()).await.map_err(|_| Refusal::Slow)? else { return Ok(all) };
        let frame = frame.map_err(|_| Refusal::Malformed("The content is broken off"))?;
        let content: Bytes = frame.into_data().unwrap_or_default();
        if all.len() + content.len() > limits::HELLO_BLOB {
            return Err(Refusal::TooLarge);
        }
        all.extend_from_slice(&content);
    }
}

fn now_ms() -> u64 {
    clock::now_ms().unsigned_abs()
}

#[cfg(test)]
#[path = "hello_tests.rs"]
mod tests;
