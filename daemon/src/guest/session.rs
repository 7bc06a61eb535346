//! A session at somebody else's guest door: each step of the protocol, and what its refusals mean.

use std::sync::Arc;
use std::time::Duration;

use hyper::Method;
use kith_proto::control::{ApiError, Code};
use kith_proto::guest::{Accepted, PrepareBody, PrepareFile, RegisterBody, Registered, Version};
use kith_proto::limits;
use kith_proto::pin::Pin;
use kith_proto::secret::Secret;
use serde::Serialize;

use super::client::{Answer, Connection, Door, Failure, Pulse};
use super::offer::Offered;
use super::upload::{self, Stop};
use crate::files::Reader;
use crate::task::Tasks;

/// How long people may take to let this device in.
pub const WELCOME: Duration = Duration::from_secs(limits::GUEST_WELCOME_SECONDS);
/// How long people may take to choose files.
const CHOICE: Duration = Duration::from_secs(limits::GUEST_CHOICE_SECONDS);
/// How long a receiver may work on a file that it has.
const SETTLE: Duration = Duration::from_secs(limits::GUEST_SETTLE_SECONDS);
/// How long a receiver may take to say goodbye.
const GOODBYE: Duration = Duration::from_secs(limits::GUEST_GOODBYE_SECONDS);

/// A session.
pub struct Session {
    door: Door,
    version: Version,
    id: Secret<String>,
    /// How files are uploaded: apps expect PUT, the seed POST.
    method: Method,
    /// Whether that is known.
    proven: bool,
}

/// What became of an upload.
#[derive(Debug)]
pub enum Outcome {
    /// The receiver has it.
    Arrived,
    /// It cannot be read here as it was offered: a word for that.
    Lost(&'static str),
    /// The receiver does not take it: a word for that, and the reason.
    Refused(&'static str, ApiError),
    /// It may be offered again.
    Failed(ApiError),
    /// The connection broke; it may be offered again.
    Broken(ApiError),
    /// There was no connection.
    Unreached(ApiError),
    /// The session is over.
    Over(ApiError),
}

/// Why nothing is accepted.
#[derive(Debug)]
pub enum Trouble {
    /// The connection broke; it may be asked again.
    Broken(ApiError),
    /// Asking again is of no use.
    Final(ApiError),
}

fn path(version: Version, step: &str) -> String {
    format!("/api/v{}/{step}", version.number())
}

/// Another one with each request.
fn nonce() -> String {
    uuid::Uuid::new_v4().to_string()
}

fn json(body: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(body).unwrap_or_default()
}

/// Whether the other side does not know the path, or the version.
fn is_unknown(answer: &Answer) -> bool {
    matches!(answer.status, 404 | 406)
}

/// Lets the receiver show its hash, and waits until somebody there has compared it. Says which version is spoken.
pub async fn ping(door: &Door, connection: Connection) -> Result<Version, ApiError> {
    let answer = connection.post(&path(Version::V2, "ping"), Vec::new(), WELCOME).await?;
    if answer.is_success() {
        return Ok(Version::V2);
    }
    if !is_unknown(&answer) {
        return Err(refused(answer.status));
    }
    let answer = door.connect().await?.post(&path(Version::V1, "ping"), Vec::new(), WELCOME).await?;
    if answer.is_success() { Ok(Version::V1) } else { Err(refused(answer.status)) }
}

/// Begins a session in the first of `versions` that is known there. The PIN goes to the certificate that `door` expects
/// and to no other.
pub async fn register(door: Door, first: Connection, versions: &[Version], pin: &Pin) -> Result<Session, ApiError> {
    let mut connection = Some(first);
    let mut last = 404;
    for version in versions {
        let connection = match connection.take() {
            Some(connection) => connection,
            None => door.connect().await?,
        };
        let body = json(&RegisterBody { pin: pin.expose(), nonce: &nonce() });
        let answer = connection.post(&path(*version, "register"), body, WELCOME).await?;
        if answer.is_success() {
            let registered = serde_json::from_slice(&answer.body).ok();
            let registered = registered.filter(|it: &Registered| !it.session_id.is_empty()).ok_or_else(no_sense)?;
            let id = Secret::new(registered.session_id);
            return Ok(Session { door, version: *version, id, method: Method::PUT, proven: false });
        }
        last = answer.status;
        if !is_unknown(&answer) {
            break;
        }
    }
    Err(match last {
        401 => ApiError::new(Code::WrongPin, "the PIN is not the one shown there")
            .hint("type the six digits that the receiver shows now"),
        status => refused(status),
    })
}

impl Session {
    /// Which version is spoken.
    pub fn version(&self) -> Version {
        self.version
    }

    /// Offers `files`, and waits until somebody there has chosen.
    pub async fn prepare(&self, title: &str, files: &[PrepareFile]) -> Result<Accepted, Trouble> {
        let broken = |failure: Failure| match failure {
            Failure::Broken(_) => Trouble::Broken(failure.into()),
            failure => Trouble::Final(failure.into()),
        };
        let body = json(&PrepareBody { title, session_id: self.id.expose(), nonce: &nonce(), files });
        let connection = self.door.connect_again().await.map_err(broken)?;
        let answer = connection.post(&path(self.version, "prepare-upload"), body, CHOICE).await.map_err(broken)?;
        match answer.status {
            _ if answer.is_success() => serde_json::from_slice(&answer.body).map_err(|_| Trouble::Final(no_sense())),
            401 => Err(Trouble::Final(over())),
            status => Err(Trouble::Final(refused(status))),
        }
    }

    /// Uploads a file that was accepted. `took` is told how many bytes of it are on their way.
    pub async fn upload(
        &mut self,
        tasks: &Tasks,
        reader: &Reader,
        offered: &Offered,
        transmission: &str,
        took: impl Fn(u64) + Clone + Send + 'static,
    ) -> Outcome {
        loop {
            let outcome = self.once(tasks, reader, offered, transmission, took.clone()).await;
            match outcome {
                // Whoever does not know the method has not looked at the file.
                Ok(404 | 405 | 501) if !self.proven && self.method == Method::PUT => self.method = Method::POST,
                Ok(status) => {
                    let outcome = judge(status);
                    self.proven |= matches!(outcome, Outcome::Arrived);
                    return outcome;
                }
                Err(outcome) => return outcome,
            }
        }
    }

    /// One request, and the status that answers it.
    async fn once(
        &self,
        tasks: &Tasks,
        reader: &Reader,
        offered: &Offered,
        transmission: &str,
        took: impl Fn(u64) + Send + 'static,
    ) -> Result<u16, Outcome> {
        let stat = offered.stat;
        let (reader, source) = (reader.clone(), offered.source.clone());
        let file = tasks.blocking(move || upload::open(&reader, &source, stat)).await.map_err(Outcome::Lost)?;
        let unreached = |failure: Failure| Outcome::Unreached(failure.into());
        let connection = self.door.connect_again().await.map_err(unreached)?;

        let pulse = Arc::new(Pulse::new(false));
        let (body, pieces) = upload::body(stat.size, pulse.clone(), took);
        let reading = tasks.blocking(move || upload::read(&file, stat, &pieces));
        let path = format!(
            "{}?sessionId={}&fileId={}&transmissionId={}&nonce={}",
            path(self.version, "upload"),
            encoded(self.id.expose()),
            encoded(&offered.file.id),
            encoded(transmission),
            nonce(),
        );
        let media_type = Some(offered.file.file_type.as_str());
        let answer = Box::pin(connection.ask(&self.method, &path, media_type, body, &pulse, SETTLE)).await;
        // The body is gone by now, so the reader has nobody to read for.
        let read = reading.await;
        match (answer, read) {
            (Ok(answer), _) if answer.is_success() && !pulse.is_complete() => Err(Outcome::Failed(no_sense())),
            (Ok(answer), _) => Ok(answer.status),
            (Err(_), Err(Stop::Lost(reason))) => Err(Outcome::Lost(reason)),
            (Err(failure), _) => Err(Outcome::Broken(failure.into())),
        }
    }

    /// Says goodbye. Whoever is away or knows of no session has closed already.
    pub async fn close(&self) {
        #[derive(Serialize)]
        #[serde(rename_all = "camelCase")]
        struct Body<'a> {
            session_id: &'a str,
        }
        let body = json(&Body { session_id: self.id.expose() });
        let say = async {
            let connection = self.door.connect().await?;
            connection.post(&path(self.version, "close-connection"), body, GOODBYE).await
        };
        match tokio::time::timeout(GOODBYE, say).await {
            Ok(Ok(answer)) => tracing::debug!(status = answer.status, "a session with a guest is closed"),
            Ok(Err(error)) => tracing::debug!(%error, "a session with a guest was not closed in order"),
            Err(_) => tracing::debug!("a guest does not say goodbye"),
        }
    }
}

/// What the status of an upload says.
fn judge(status: u16) -> Outcome {
    match status {
        200..300 => Outcome::Arrived,
        401 => Outcome::Over(over()),
        413 => Outcome::Refused("too_large", refused(status)),
        415 => Outcome::Refused("type", refused(status)),
        507 => Outcome::Refused("no_space", refused(status)),
        409 => Outcome::Failed(ApiError::new(Code::Protocol, "the receiver takes a file for one that it has already")),
        406 => Outcome::Failed(ApiError::new(Code::Integrity, "what arrived there is not what was sent")),
        status => Outcome::Failed(refused(status)),
    }
}

/// What the status of a refusal says, where all steps agree.
fn refused(status: u16) -> ApiError {
    let protocol = "what answers there does not speak Tella's protocol";
    match status {
        403 => ApiError::new(Code::Rejected, "the receiver said no"),
        404 => ApiError::new(Code::Protocol, protocol).hint("check the address and the port"),
        409 => ApiError::new(Code::Busy, "the receiver is busy with somebody else").hint("try again later"),
        413 => ApiError::new(Code::TooLarge, "too many files or too large ones for the receiver")
            .hint("the apps take 1,000 files at once, of 3 GB each"),
        415 => ApiError::new(Code::Rejected, "the receiver does not take files of this type"),
        429 => ApiError::new(Code::TooManyAttempts, "the receiver was shown too many wrong PINs")
            .hint("let it show a new PIN"),
        507 => ApiError::new(Code::NoSpace, "no room left at the receiver"),
        status => ApiError::new(Code::Protocol, format!("the receiver answered with the HTTP status {status}")),
    }
}

fn over() -> ApiError {
    ApiError::new(Code::Protocol, "the receiver has ended this session").hint("begin anew, with the PIN shown there")
}

fn no_sense() -> ApiError {
    ApiError::new(Code::Protocol, "the receiver gave an answer that makes no sense")
}

/// An opaque id as a value in a query.
fn encoded(id: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    id.bytes().map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }).collect()
}
