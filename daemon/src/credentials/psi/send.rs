//! The sender: finds the one receiver that is announced, makes sure that it was given the code, hands over.

use std::convert::Infallible;
use std::future::pending;
use std::io;
use std::net::IpAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1;
use hyper::header::{CONNECTION, CONTENT_TYPE, HOST};
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use kith_proto::control::{ApiError, Code};
use kith_proto::credential::payload::Payload;
use kith_proto::guest::{CertificateHash, psi};
use kith_proto::limits;
use kith_proto::peer::share::announcement::Protocol;
use kith_proto::short_code::ShortCode;
use rustls::ClientConfig;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_rustls::client::TlsStream;

use super::internal;
use crate::credentials::beacon::{Beacon, Candidate, Candidates, Ears};
use crate::dial::{self, Dial};
use crate::tls::guest::Certificate;

const GATHER: Duration = Duration::from_secs(limits::PHOTOSPHERE_GATHER_SECONDS);
const HASH: Duration = Duration::from_secs(limits::PHOTOSPHERE_HASH_SECONDS);
/// How long the body of an answer may take after its head.
const BODY: Duration = Duration::from_secs(2);
/// How long ending a connection in order may take.
const CLOSE: Duration = Duration::from_secs(1);

/// Hands `payload` over to the one receiver on the LAN that was given `code`; says where it was. What becomes of it there
/// is not known.
pub async fn send(
    payload: &Payload,
    code: &ShortCode,
    beacon: &Beacon,
    dial: &Dial,
    deadline: Instant,
) -> Result<IpAddr, ApiError> {
    let candidate = gather(&mut beacon.listen()?, deadline).await?;
    let expected = CertificateHash::from_bytes(candidate.announcement.certificate_hash);
    let config = Certificate::new(&[]).and_then(|own| own.client(Some(expected))).map_err(internal)?;
    let receiver = Receiver { dial, candidate, config };
    timeout_at(deadline, receiver.hand_over(payload, code)).await.unwrap_or_else(|_| Err(slow()))
}

/// The only receiver that is announced. Whoever answers first may be anybody: with a second one, it is not known which
/// one is meant.
async fn gather(ears: &mut Ears, deadline: Instant) -> Result<Candidate, ApiError> {
    let mut found = Candidates::default();
    let mut until = deadline;
    loop {
        let Ok((announcement, source)) = timeout_at(until, ears.next()).await else { break };
        if announcement.protocol != Protocol::Photosphere {
            continue;
        }
        if found.count() == 0 {
            until = deadline.min(Instant::now() + GATHER);
        }
        found.heard(announcement, source);
        if found.count() > 1 {
            return Err(ApiError::new(
                Code::SeveralReceivers,
                "more than one device on this network waits for credentials",
            )
            .hint("end what waits on the others and send again; if there are none, somebody is interfering"));
        }
    }
    found.pick().ok_or_else(|| {
        ApiError::new(Code::TimedOut, "no device on this network waits for credentials").hint(
            "start receiving on the other device and type the code there; both must be on the same network, and \
             UDP port 54321 must not be blocked",
        )
    })
}

fn slow() -> ApiError {
    ApiError::new(Code::TimedOut, "the receiver did not answer in time")
        .hint("look there whether it arrived; if not, send it again")
}

/// Why there is no answer.
enum Failure {
    Unreached(dial::Error),
    Broken(String),
}

impl From<hyper::Error> for Failure {
    fn from(error: hyper::Error) -> Self {
        // hyper's own words say only what it was doing; below them is why that failed.
        let cause = std::error::Error::source(&error).map(ToString::to_string);
        Self::Broken(cause.unwrap_or_else(|| error.to_string()))
    }
}

impl From<Failure> for ApiError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Unreached(dial::Error::WrongKey) => {
                Self::new(Code::WrongKey, "another certificate is shown there than the one that was announced")
                    .hint("somebody may be in between: nothing was sent")
            }
            Failure::Unreached(error) => {
                Self::new(Code::PeerOffline, format!("the receiver cannot be reached: {error}"))
                    .hint("check that both are on the same network, and that no firewall is between them")
            }
            Failure::Broken(why) => Self::new(Code::PeerOffline, format!("the connection broke: {why}"))
                .hint("look there whether it arrived; if not, send it again"),
        }
    }
}

struct Receiver<'a> {
    dial: &'a Dial,
    candidate: Candidate,
    config: Arc<ClientConfig>,
}

impl Receiver<'_> {
    async fn hand_over(&self, payload: &Payload, code: &ShortCode) -> Result<IpAddr, ApiError> {
        let asking = async {
            let (stream, _) = self.connect().await?;
            self.ask(stream, Method::GET, psi::HASH, Bytes::new()).await
        };
        let (status, shown) = match timeout(HASH, asking).await {
            Ok(answer) => answer?,
            Err(_) => {
                return Err(ApiError::new(Code::TimedOut, "the receiver did not answer in time: nothing was sent")
                    .hint("check the network between the two, and send again"));
            }
        };
        if status != StatusCode::OK {
            return Err(refused(status));
        }
        match psi::is_same_code(&shown, code) {
            Some(true) => {}
            Some(false) => {
                return Err(ApiError::new(
                    Code::WrongPin,
                    "the code is not the one that was typed there: nothing was sent",
                )
                .hint("send again, and type the new code on the device that is meant"));
            }
            None => {
                return Err(ApiError::new(Code::Protocol, "what waits there does not hand over as Photosphere does"));
            }
        }
        let (stream, from) = self.connect().await?;
        let body = Bytes::from_owner(psi::hand_over(code, payload));
        match self.ask(stream, Method::POST, psi::PAYLOAD, body).await? {
            (StatusCode::OK, _) => Ok(from),
            (status, _) => Err(refused(status)),
        }
    }

    async fn connect(&self) -> Result<(TlsStream<TcpStream>, IpAddr), Failure> {
        let reached = self.dial.guest(&self.candidate.addresses, &self.config).await;
        let dial::Guest { stream, remote } = reached.map_err(Failure::Unreached)?;
        Ok((stream, remote.ip()))
    }

    /// One request, on a connection of its own: some receivers close after each answer, some do not.
    async fn ask(
        &self,
        stream: TlsStream<TcpStream>,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> Result<(StatusCode, Bytes), Failure> {
        let host = stream.get_ref().0.peer_addr().map_err(|error| Failure::Broken(error.to_string()))?;
        let mut request = Request::builder().method(method).uri(path).header(HOST, host.to_string());
        if !body.is_empty() {
            request = request.header(CONTENT_TYPE, "application/json");
        }
        let request = request.header(CONNECTION, "close").body(Full::new(body));
        let request = request.map_err(|error| Failure::Broken(error.to_string()))?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(Abrupt(stream))).await?;
        let mut connection = pin!(connection);
        let exchange = async {
            let (head, body) = sender.send_request(request).await?.into_parts();
            // What is cut off or too long is no answer to a question; as a receipt, the status alone will do.
            let body = timeout(BODY, Limited::new(body, limits::PHOTOSPHERE_ANSWER).collect()).await;
            let body = body.ok().and_then(Result::ok).map(http_body_util::Collected::to_bytes).unwrap_or_default();
            Ok((head.status, body))
        };
        let mut ended = false;
        let carry = async {
            let _ = connection.as_mut().await;
            ended = true;
            pending::<Infallible>().await
        };
        let answer = tokio::select! {
            biased;
            answer = exchange => answer,
            never = carry => match never {},
        };
        drop(sender);
        if !ended {
            let _ = timeout(CLOSE, connection).await;
        }
        answer
    }
}

fn refused(status: StatusCode) -> ApiError {
    match status.as_u16() {
        403 => ApiError::new(Code::WrongPin, "the receiver says that the code is another one")
            .hint("send again, and type the new code there"),
        429 => ApiError::new(Code::TooManyAttempts, "the receiver was asked too often and answers no more")
            .hint("somebody may be interfering: begin anew with a new code, in a network that you trust"),
        400 | 413 => ApiError::new(Code::Rejected, "the receiver cannot use what was sent")
            .hint("it may be another version of the app: look there what it says"),
        status => ApiError::new(Code::Protocol, format!("the receiver answered with status {status}"))
            .hint("what waits there may not be Photosphere"),
    }
}

/// A connection whose end need not be announced: what is missing of an answer shows by its length.
struct Abrupt(TlsStream<TcpStream>);

impl AsyncRead for Abrupt {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match ready!(Pin::new(&mut self.0).poll_read(cx, buffer)) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Poll::Ready(Ok(())),
            outcome => Poll::Ready(outcome),
        }
    }
}

impl AsyncWrite for Abrupt {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}
