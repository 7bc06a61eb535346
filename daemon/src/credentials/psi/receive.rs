//! The receiver: an HTTPS server on a random port, announced until it ends.

use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::{Body, Incoming};
use hyper::header::{CONNECTION, CONTENT_TYPE};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use kith_proto::control::{ApiError, Code};
use kith_proto::credential::payload::Payload;
use kith_proto::guest::psi::{Answer, Asked, Desk, End};
use kith_proto::limits;
use kith_proto::peer::share::announcement::{Announcement, Protocol};
use kith_proto::short_code::ShortCode;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use zeroize::Zeroizing;

use super::internal;
use crate::credentials::beacon::Beacon;
use crate::crowd::{Crowd, Place};
use crate::platform;
use crate::task::Tasks;
use crate::tls::guest::Certificate;

const HANDSHAKE: Duration = Duration::from_secs(limits::HANDSHAKE_SECONDS);
const HEAD: Duration = Duration::from_secs(limits::GUEST_HEAD_SECONDS);
const BODY: Duration = Duration::from_secs(limits::PHOTOSPHERE_BODY_SECONDS);
const DRAIN: Duration = Duration::from_secs(limits::GUEST_DRAIN_SECONDS);
/// How long to wait after an accept that failed, for want of descriptors for example.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// How long the last answer may take to leave.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// Waits until somebody hands over who knows `code`; says what came, and from where. It is not saved yet.
pub async fn receive(
    code: &ShortCode,
    beacon: &Beacon,
    tasks: &Tasks,
    deadline: Instant,
) -> Result<(Payload, IpAddr), ApiError> {
    let certificate = Certificate::new(&[]).map_err(internal)?;
    let listener = platform::listen(0).map_err(internal)?;
    let announcement = Announcement {
        protocol: Protocol::Photosphere,
        port: listener.local_addr().map_err(internal)?.port(),
        certificate_hash: certificate.hash.to_bytes(),
    };
    let (ended, mut end) = mpsc::channel(1);
    // Whatever happens to this future: the connections end with it.
    let closed = tasks.stopping().child_token();
    let _close = closed.clone().drop_guard();
    let (speaking, mut silent) = mpsc::channel(1);
    let door = Door {
        acceptor: TlsAcceptor::from(certificate.server().map_err(internal)?),
        counter: Arc::new(Counter { desk: Mutex::new(Desk::new(code)), ended, tasks: tasks.clone(), closed }),
        over: CancellationToken::new(),
        speaking,
    };
    let over = door.over.clone();
    let (end, from) = tokio::select! {
        never = door.accept(listener) => match never {},
        never = beacon.announce(&announcement) => match never {},
        () = sleep_until(deadline) => return Err(nobody()),
        Some(end) = end.recv() => end,
    };
    over.cancel();
    let _ = timeout(LAST_WORDS, silent.recv()).await;
    match end {
        End::Received(payload) => Ok((payload, from)),
        End::Invalid(invalid) => {
            Err(ApiError::new(Code::WrongKind, format!("what {from} handed over cannot be used: {invalid}"))
                .hint("look at it on the other device, then send it again"))
        }
        End::Spent => Err(ApiError::new(
            Code::TooManyAttempts,
            format!("{} requests came, and none brought credentials", limits::PHOTOSPHERE_REQUESTS),
        )
        .hint("somebody may be interfering: begin anew with a new code, in a network that you trust")),
    }
}

fn nobody() -> ApiError {
    ApiError::new(Code::TimedOut, "nobody handed credentials over in time")
        .hint("check that the code is the one on the other device, and that both are on the same network")
}

/// Where connections come in.
struct Door {
    acceptor: TlsAcceptor,
    counter: Arc<Counter>,
    /// No further request is wanted.
    over: CancellationToken,
    /// Held by every connection.
    speaking: mpsc::Sender<Infallible>,
}

impl Door {
    async fn accept(self, listener: TcpListener) -> Infallible {
        let crowd = Crowd::new(limits::SHARE_CONNECTIONS, limits::SHARE_CONNECTIONS_PER_ADDRESS);
        loop {
            let (tcp, remote) = match listener.accept().await {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection for a share");
                    sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            let Some(place) = crowd.enter(remote.ip()) else { continue };
            let (acceptor, counter) = (self.acceptor.clone(), self.counter.clone());
            let (over, speaking, closed) = (self.over.clone(), self.speaking.clone(), counter.closed.clone());
            counter.tasks.clone().spawn("share connection", async move {
                closed.run_until_cancelled(connection(tcp, remote, acceptor, counter, over)).await;
                drop::<(Place, mpsc::Sender<Infallible>)>((place, speaking));
            });
        }
    }
}

async fn connection(
    tcp: TcpStream,
    remote: SocketAddr,
    acceptor: TlsAcceptor,
    counter: Arc<Counter>,
    over: CancellationToken,
) {
    // An answer is one small write; waiting for more would only delay it.
    let _ = tcp.set_nodelay(true);
    let shake = timeout(HANDSHAKE, acceptor.accept(tcp));
    let Some(Ok(Ok(stream))) = over.run_until_cancelled(shake).await else { return };
    let from = remote.ip().to_canonical();
    let serving = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD)
        .max_buf_size(limits::GUEST_HEAD)
        .serve_connection(TokioIo::new(stream), service_fn(|request| counter.serve(request, from)));
    let mut serving = std::pin::pin!(serving);
    let served = tokio::select! {
        served = serving.as_mut() => served,
        () = over.cancelled() => {
            serving.as_mut().graceful_shutdown();
            serving.await
        }
    };
    if let Err(error) = served {
        tracing::debug!(%remote, %error, "a connection for a share ended");
    }
}

/// Where requests are answered.
struct Counter {
    desk: Mutex<Desk>,
    ended: mpsc::Sender<(End, IpAddr)>,
    tasks: Tasks,
    closed: CancellationToken,
}

impl Counter {
    async fn serve(&self, request: Request<Incoming>, from: IpAddr) -> Result<Response<Full<Bytes>>, Infallible> {
        let (head, body) = request.into_parts();
        let asked = self.desk(|desk| desk.ask(head.method.as_str(), head.uri.path()));
        let (answer, end) = match asked {
            Asked::Answer(answer) => {
                self.drain(body);
                (answer, None)
            }
            Asked::Spent => {
                self.drain(body);
                (Answer::TooMany, Some(End::Spent))
            }
            Asked::Body => match self.whole(body).await {
                Ok(body) => self.desk(|desk| desk.take(&body)),
                Err(answer) => (answer, None),
            },
        };
        let mut response = Response::new(Full::new(Bytes::from(answer.body())));
        *response.status_mut() = StatusCode::from_u16(answer.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        response.headers_mut().insert(CONTENT_TYPE, hyper::header::HeaderValue::from_static("application/json"));
        if let Some(end) = end {
            response.headers_mut().insert(CONNECTION, hyper::header::HeaderValue::from_static("close"));
            // The first end counts; the desk knows but one.
            let _ = self.ended.try_send((end, from));
        }
        Ok(response)
    }

    fn desk<T>(&self, work: impl FnOnce(&mut Desk) -> T) -> T {
        work(&mut self.desk.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// All of a body, unless it is too long or too slow.
    async fn whole(&self, mut body: Incoming) -> Result<Zeroizing<Vec<u8>>, Answer> {
        if body.size_hint().lower() > limits::PHOTOSPHERE_BODY as u64 {
            self.drain(body);
            return Err(Answer::TooLarge);
        }
        // Room for all of it: growing would leave copies behind.
        let mut all = Zeroizing::new(Vec::with_capacity(limits::PHOTOSPHERE_BODY));
        let reading = async {
            while let Some(frame) = body.frame().await {
                let content = frame.map_err(|_| Answer::NotJson)?.into_data().unwrap_or_default();
                if all.len() + content.len() > limits::PHOTOSPHERE_BODY {
                    return Err(Answer::TooLarge);
                }
                all.extend_from_slice(&content);
            }
            Ok(())
        };
        let read = timeout(BODY, reading).await.unwrap_or(Err(Answer::NotJson));
        match read {
            Ok(()) => Ok(all),
            Err(answer) => {
                self.drain(body);
                Err(answer)
            }
        }
    }

    /// Reads on for a while what is not wanted: a connection that closes with unread bytes in it is reset, and the
    /// answer is lost to whoever sends before it listens.
    fn drain(&self, mut body: Incoming) {
        if body.is_end_stream() {
            return;
        }
        let closed = self.closed.clone();
        self.tasks.spawn("share drain", async move {
            let reading = timeout(DRAIN, async { while let Some(Ok(_)) = body.frame().await {} });
            closed.run_until_cancelled(reading).await;
        });
    }
}
