//! One request to somebody else's guest door.
//!
//! Each has a connection of its own. Some apps read the head of a request once, without regard for the case of its
//! names: it goes out in one write, in title case, with a length and nothing unusual.

use std::convert::Infallible;
use std::future::pending;
use std::io;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Collected, Full, Limited};
use hyper::body::{Body, Incoming};
use hyper::client::conn::http1;
use hyper::header::{CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, HOST};
use hyper::{Method, Request};
use hyper_util::rt::TokioIo;
use kith_proto::control::{ApiError, Code};
use kith_proto::guest::CertificateHash;
use kith_proto::limits;
use rustls::ClientConfig;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_rustls::client::TlsStream;

use crate::dial::{self, Dial};
use crate::tls::guest::{Certificate, shown};

/// How long the other end may take to read what it is sent.
const STALL: Duration = Duration::from_secs(limits::GUEST_BODY_SECONDS);
/// How long a receiver with a session may be away.
const RESTART: Duration = Duration::from_secs(limits::GUEST_RESTART_SECONDS);
/// How long to wait before it is tried again.
const AGAIN: Duration = Duration::from_millis(100);
/// How long the body of an answer may take after its head.
const BODY: Duration = Duration::from_secs(10);
/// How long ending a connection in order may take.
const CLOSE: Duration = Duration::from_secs(1);

/// Somebody's guest door.
pub struct Door {
    dial: Dial,
    certificate: Certificate,
    addresses: Vec<SocketAddr>,
    config: Arc<ClientConfig>,
}

/// A connection to it, for one request.
pub struct Connection {
    stream: TlsStream<TcpStream>,
    /// Where it leads.
    pub remote: SocketAddr,
    /// Whose certificate is shown there.
    pub hash: CertificateHash,
}

/// What was answered.
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// What came with a success, if it was asked for.
    pub body: Bytes,
}

impl Answer {
    /// Any 2xx is a success.
    pub fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }
}

/// Why there is no answer. Never says what the other side sent.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// There is no connection.
    #[error(transparent)]
    Unreached(#[from] dial::Error),
    /// The connection broke.
    #[error("the connection broke: {0}")]
    Broken(String),
    /// Too slow.
    #[error("the receiver did not answer in time")]
    TimedOut,
    /// What came is no answer.
    #[error("what answers there does not speak Tella's protocol: {0}")]
    Malformed(&'static str),
}

impl From<hyper::Error> for Failure {
    fn from(error: hyper::Error) -> Self {
        if error.is_parse() {
            return Self::Malformed("this is not HTTP");
        }
        // hyper's own words say only what it was doing; below them is why that failed.
        let cause = std::error::Error::source(&error).map(ToString::to_string);
        Self::Broken(cause.unwrap_or_else(|| error.to_string()))
    }
}

impl From<Failure> for ApiError {
    fn from(failure: Failure) -> Self {
        let message = failure.to_string();
        match failure {
            Failure::Unreached(dial::Error::WrongKey) => {
                Self::new(Code::WrongKey, "another certificate answers there than the one expected")
                    .hint("somebody may be in between, or the receiver began anew: compare the hash, then try again")
            }
            Failure::Unreached(dial::Error::Offline(why)) => {
                Self::new(Code::PeerOffline, format!("the receiver cannot be reached: {why}"))
                    .hint("check the address, that it waits for files, and that both are on the same network")
            }
            Failure::Unreached(dial::Error::Protocol(_) | dial::Error::NoProtocol(_)) => {
                Self::new(Code::Protocol, "what answers there does not speak Tella's protocol").hint("check the port")
            }
            Failure::Unreached(error) => error.into(),
            Failure::Broken(_) => Self::new(Code::PeerOffline, message),
            Failure::TimedOut => Self::new(Code::TimedOut, message),
            Failure::Malformed(_) => Self::new(Code::Protocol, message),
        }
    }
}

impl Door {
    /// By which certificate this device is known there.
    pub fn own_hash(&self) -> CertificateHash {
        self.certificate.hash
    }

    /// The door at one of `addresses`; with `expected`, only with this certificate. This device shows one certificate
    /// of its own, made for this door alone.
    pub fn new(dial: Dial, addresses: Vec<SocketAddr>, expected: Option<CertificateHash>) -> Result<Self, ApiError> {
        let certificate = Certificate::new(&[]).map_err(|error| internal(&error))?;
        let config = certificate.client(expected).map_err(|error| internal(&error))?;
        Ok(Self { dial, certificate, addresses, config })
    }

    /// A new connection.
    pub async fn connect(&self) -> Result<Connection, Failure> {
        let dial::Guest { stream, remote } = self.dial.guest(&self.addresses, &self.config).await?;
        let hash = shown(stream.get_ref().1).ok_or(Failure::Malformed("it shows no certificate"))?;
        Ok(Connection { stream, remote, hash })
    }

    /// The same while there is a session: the receiver may be away for a moment.
    pub async fn connect_again(&self) -> Result<Connection, Failure> {
        let deadline = Instant::now() + RESTART;
        loop {
            match self.connect().await {
                Err(Failure::Unreached(dial::Error::Offline(_))) if Instant::now() < deadline => sleep(AGAIN).await,
                outcome => return outcome,
            }
        }
    }

    /// From now on, nowhere else than there, and nobody else.
    pub fn settle(&mut self, found: &Connection) -> Result<(), ApiError> {
        self.config = self.certificate.client(Some(found.hash)).map_err(|error| internal(&error))?;
        self.addresses = vec![found.remote];
        Ok(())
    }
}

fn internal(error: &crate::tls::Error) -> ApiError {
    ApiError::new(Code::Internal, error.to_string())
}

impl Connection {
    /// Posts JSON, or nothing. `patience` counts from the last byte sent.
    pub async fn post(self, path: &str, json: Vec<u8>, patience: Duration) -> Result<Answer, Failure> {
        let media_type = (!json.is_empty()).then_some("application/json");
        let pulse = Arc::new(Pulse::new(true));
        let body = Full::new(Bytes::from(json));
        self.ask(&Method::POST, path, media_type, body, &pulse, patience).await
    }

    /// Any request. Who makes the body tells `pulse` when it is complete; `patience` counts from the last byte sent.
    pub async fn ask<B>(
        self,
        method: &Method,
        path: &str,
        media_type: Option<&str>,
        body: B,
        pulse: &Arc<Pulse>,
        patience: Duration,
    ) -> Result<Answer, Failure>
    where
        B: Body<Data = Bytes> + Send + Unpin + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        // Without the scope of a link-local address: it means something on this device only.
        let host = SocketAddr::new(self.remote.ip(), self.remote.port()).to_string();
        let mut request = Request::builder().method(method).uri(path).header(HOST, host).header(CONNECTION, "close");
        if let Some(media_type) = media_type {
            request = request.header(CONTENT_TYPE, media_type);
        }
        let length = body.size_hint().exact().unwrap_or_default();
        let request = request.header(CONTENT_LENGTH, length).body(body);
        let request = request.map_err(|_| Failure::Malformed("its ids do not fit into a request"))?;

        let wire = Wire { stream: self.stream, pulse: pulse.clone(), broken: None };
        let mut client = http1::Builder::new();
        client.title_case_headers(true);
        let (mut sender, connection) = client.handshake(TokioIo::new(wire)).await?;
        let mut connection = pin!(connection);
        let mut ended = false;
        let carry = async {
            let _ = connection.as_mut().await;
            ended = true;
            pending::<Infallible>().await
        };
        let exchange = async {
            let answer = sender.send_request(request).await?;
            let (head, body) = answer.into_parts();
            let success = head.status.is_success();
            // What comes with a refusal is of no use here. All of a success is taken, so that its sender sees that.
            let body = if success { read(body).await } else { Bytes::new() };
            Ok(Answer { status: head.status.as_u16(), body })
        };
        let answer = tokio::select! {
            biased;
            outcome = exchange => outcome,
            never = carry => match never {},
            () = pulse.stops(patience) => Err(Failure::TimedOut),
        }?;
        if pulse.is_complete() && !ended {
            drop(sender);
            let _ = timeout(CLOSE, connection).await;
        }
        Ok(answer)
    }
}

/// The body of a success; nothing, if it is too long, too slow or broken: most need not be understood.
async fn read(body: Incoming) -> Bytes {
    let whole = timeout(BODY, Limited::new(body, limits::GUEST_ANSWER).collect()).await;
    whole.ok().and_then(Result::ok).map(Collected::to_bytes).unwrap_or_default()
}

/// Whether a request gets on.
pub struct Pulse(Mutex<Beat>);

#[derive(Clone, Copy)]
struct Beat {
    last: Instant,
    complete: bool,
}

impl Pulse {
    /// `complete`: all of the body is there already.
    pub fn new(complete: bool) -> Self {
        Self(Mutex::new(Beat { last: Instant::now(), complete }))
    }

    fn beat(&self, change: impl FnOnce(&mut Beat)) -> Beat {
        let mut beat = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut beat);
        *beat
    }

    /// All of the body was handed to the connection.
    pub fn complete(&self) {
        self.beat(|beat| beat.complete = true);
    }

    /// Whether it was.
    pub fn is_complete(&self) -> bool {
        self.beat(|_| ()).complete
    }

    /// Ends when nothing gets on any more, or the whole request has waited for `patience`.
    async fn stops(&self, patience: Duration) {
        loop {
            let Beat { last, complete } = self.beat(|_| ());
            let until = last + if complete { patience } else { STALL };
            if Instant::now() >= until {
                return;
            }
            sleep_until(until).await;
        }
    }
}

/// The connection as HTTP sees it.
///
/// Who refuses a body in the middle may answer, close, and so reset the connection: what was answered can still be
/// read when nothing can be written any more. A failure to write is therefore told by the reader, after all else.
struct Wire {
    stream: TlsStream<TcpStream>,
    pulse: Arc<Pulse>,
    broken: Option<io::Error>,
}

impl Wire {
    /// Keeps a failure to write for the reader.
    fn keep(&mut self, cx: &Context<'_>, error: io::Error) {
        self.broken = Some(error);
        // The reader may have been asked before it happened.
        cx.waker().wake_by_ref();
    }

    fn wrote(&mut self, cx: &Context<'_>, outcome: io::Result<usize>) -> Poll<io::Result<usize>> {
        match outcome {
            Ok(written) => {
                self.pulse.beat(|beat| beat.last = Instant::now());
                Poll::Ready(Ok(written))
            }
            Err(error) => {
                self.keep(cx, error);
                Poll::Pending
            }
        }
    }
}

impl AsyncRead for Wire {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buffer.filled().len();
        let outcome = ready!(Pin::new(&mut this.stream).poll_read(cx, buffer));
        let over = outcome.is_err() || buffer.filled().len() == before;
        Poll::Ready(match (this.broken.take(), outcome) {
            (Some(error), _) if over => Err(error),
            // Not everybody says goodbye. A body that is cut so is noticed by its length.
            (None, Err(error)) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(()),
            (broken, outcome) => {
                this.broken = broken;
                outcome
            }
        })
    }
}

impl AsyncWrite for Wire {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if this.broken.is_some() {
            return Poll::Pending;
        }
        let outcome = ready!(Pin::new(&mut this.stream).poll_write(cx, bytes));
        this.wrote(cx, outcome)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if this.broken.is_some() {
            return Poll::Pending;
        }
        let outcome = ready!(Pin::new(&mut this.stream).poll_write_vectored(cx, slices));
        this.wrote(cx, outcome)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.broken.is_some() {
            return Poll::Pending;
        }
        match ready!(Pin::new(&mut this.stream).poll_flush(cx)) {
            Ok(()) => Poll::Ready(Ok(())),
            Err(error) => {
                this.keep(cx, error);
                Poll::Pending
            }
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use rustls::pki_types::ServerName;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;
    use tokio_rustls::{TlsAcceptor, TlsConnector};

    use super::*;

    #[tokio::test]
    async fn what_was_answered_before_the_connection_broke_is_read_first() {
        let certificate = Certificate::new(&[]).unwrap();
        let config = certificate.client(None).unwrap();
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let acceptor = TlsAcceptor::from(certificate.server().unwrap());
        let accept = async {
            let mut stream = acceptor.accept(listener.accept().await.unwrap().0).await.unwrap();
            stream.read_u8().await.unwrap();
            // More than this is not read: so it ends with a reset.
            sleep(Duration::from_millis(200)).await;
            stream.write_all(b"answer").await.unwrap();
            stream.flush().await.unwrap();
        };
        let connect = async {
            let tcp = TcpStream::connect(address).await.unwrap();
            let name = ServerName::IpAddress(address.ip().into());
            let stream = TlsConnector::from(config).connect(name, tcp).await.unwrap();
            let mut wire = Wire { stream, pulse: Arc::new(Pulse::new(false)), broken: None };
            wire.write_all(&[0; 64 << 10]).await.unwrap();
            wire.flush().await.unwrap();
            wire
        };
        let (mut wire, ()) = tokio::join!(connect, accept);
        sleep(Duration::from_millis(100)).await;
        let write = async { wire.write_all(&vec![0; 32 << 20]).await };
        assert!(timeout(Duration::from_millis(500), write).await.is_err(), "the writer says nothing");
        let mut answer = [0; 6];
        wire.read_exact(&mut answer).await.unwrap();
        assert_eq!(&answer, b"answer");
        let error = wire.read_u8().await.unwrap_err();
        assert_ne!(error.kind(), io::ErrorKind::UnexpectedEof, "{error}");
    }

    #[tokio::test(start_paused = true)]
    async fn patience_counts_from_the_last_byte() {
        let pulse = Arc::new(Pulse::new(false));
        let start = Instant::now();
        let work = async {
            sleep(STALL - AGAIN).await;
            pulse.beat(|beat| beat.last = Instant::now());
            sleep(STALL - AGAIN).await;
            pulse.beat(|beat| beat.last = Instant::now());
            pulse.complete();
        };
        tokio::join!(pulse.stops(CLOSE), work);
        assert_eq!(start.elapsed(), 2 * (STALL - AGAIN) + CLOSE);
        let silent = Pulse::new(false);
        let start = Instant::now();
        silent.stops(CLOSE).await;
        assert_eq!(start.elapsed(), STALL);
    }
}
