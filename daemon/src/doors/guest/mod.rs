//! The guest door: HTTPS for apps and people that are not paired, on ports that are bound only while somebody wants
//! them to come in: a receive window, a hello store.
//!
//! ```text
//! tella    Tella's transfer protocol, versions 1 and 2
//! hello    the hello store: what sharing codes need
//! http     what both share
//! framing  where a request ends, if that is certain
//! ```
//!
//! An accept loop of our own: a place in the crowd, a handshake, HTTP/1.1. Whoever is slow or silent holds its own place
//! and nobody else's.

mod framing;
pub mod hello;
mod http;
mod tella;

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::middleware::Next;
use axum::response::Response;
use axum::routing::any_service;
use axum::{Extension, Router, middleware};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use kith_proto::limits;
use rustls::ServerConfig;
use tokio::io::BufReader;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use crate::crowd::Crowd;
use crate::discovery::Discovery;
use crate::guest::{Guests, Opening, Visitor};
use crate::hello_store::{Gate, Hello, Place, Rates};
use crate::task::Tasks;
use crate::tls::guest::Certificate;
use crate::{platform, tls};
use framing::Watched;

/// The port on which the hello store is given out, if it is free.
pub const HELLO_PORT: u16 = 53_318;
/// How long to wait when it cannot be given out.
const RETRY: Duration = Duration::from_secs(30);
const HANDSHAKE: Duration = Duration::from_secs(limits::GUEST_HANDSHAKE_SECONDS);
const HEAD: Duration = Duration::from_secs(limits::GUEST_HEAD_SECONDS);
/// How long to wait after an accept that failed, for want of descriptors for example.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// How long an answer may take to leave when the door closes.
const LAST_WORDS: Duration = Duration::from_secs(2);
/// Ciphertext that is fetched from the socket at once.
const READ_AHEAD: usize = 128 << 10;
/// What HTTP reads at once, which is the longest head, too.
const READ: usize = 128 << 10;

/// What is served, and to whom it is told.
pub struct Parts {
    /// Who takes what guests send.
    pub guests: Guests,
    /// Receive windows.
    pub openings: mpsc::Receiver<Opening>,
    /// What is given out to whoever knows its name.
    pub hello: Hello,
    /// Learns on which port.
    pub discovery: Discovery,
    /// Runs all of it.
    pub tasks: Tasks,
}

/// Serves whatever opens, until the daemon stops.
pub fn serve(parts: Parts) {
    let Parts { guests, mut openings, hello, discovery, tasks } = parts;
    let gate = Arc::new(Mutex::new(Gate::new(Rates::default())));
    let rules = hello::Rules { strangers: hello.takes_from_strangers() };
    let blobs = hello::router(hello.store(), gate, rules, tasks.clone());
    let beside = blobs.clone().layer(middleware::from_fn_with_state(hello.wanted(), while_open));
    let router = tella::router(guests, tasks.clone()).route("/v1/hello/{lookup}", any_service(beside));
    let crowd = || Crowd::new(limits::GUEST_CONNECTIONS, limits::GUEST_CONNECTIONS_PER_ADDRESS);
    let standing = Door::new(blobs, crowd(), tasks.clone());
    tasks.spawn("hello door", give_out(hello, discovery, standing));
    let door = Door::new(router, crowd(), tasks.clone());
    tasks.spawn("guest door", async move {
        let stop = door.tasks.stopping().clone();
        loop {
            let opening = tokio::select! {
                () = stop.cancelled() => return,
                opening = openings.recv() => opening,
            };
            let Some(Opening { listener, tls, over, closed }) = opening else { return };
            let door = door.clone();
            door.tasks.clone().spawn("guest window", async move {
                door.accept(listener, tls, over).await;
                drop(closed);
            });
        }
    });
}

/// In a receive window, the hello store is there only while it is given out.
async fn while_open(State(open): State<watch::Receiver<bool>>, request: Request, next: Next) -> Response {
    if *open.borrow() { next.run(request).await } else { http::plain(StatusCode::NOT_FOUND, "Not found") }
}

/// Gives the hello store out while that is wanted.
async fn give_out(hello: Hello, discovery: Discovery, door: Door) {
    let (stop, mut wanted) = (door.tasks.stopping().clone(), hello.wanted());
    loop {
        let asked = stop.run_until_cancelled(wanted.wait_for(|wanted| *wanted)).await;
        if asked.is_none_or(|asked| asked.is_err()) {
            return;
        }
        let (listener, tls, place) = match open(&hello) {
            Ok(opened) => opened,
            Err(error) => {
                tracing::warn!(%error, "cannot give out what sharing codes need");
                let _ = stop.run_until_cancelled(tokio::time::sleep(RETRY)).await;
                continue;
            }
        };
        tracing::info!(port = place.port, certificate = %place.hash, "the hello store is given out");
        hello.listens(Some(place));
        discovery.offer_hello(Some(place.port));
        let over = stop.child_token();
        let until = async {
            let _ = stop.run_until_cancelled(wanted.wait_for(|wanted| !*wanted)).await.map(drop);
            discovery.offer_hello(None);
            hello.listens(None);
            over.cancel();
        };
        // Both, so that the port is free when it is wanted again.
        tokio::join!(until, door.clone().accept(listener, tls, over.clone()));
    }
}

fn open(hello: &Hello) -> Result<(TcpListener, Arc<ServerConfig>, Place), tls::Error> {
    let certificate = Certificate::kept(hello.certificate())?;
    let configured = hello.configured_port();
    let candidates: &[u16] = if configured == 0 { &[HELLO_PORT, 0] } else { &[configured] };
    let mut bound = candidates.iter().map(|port| platform::listen(*port));
    let listener = match bound.find_map(Result::ok) {
        Some(listener) => listener,
        None => platform::listen(configured)?,
    };
    let place = Place { port: listener.local_addr()?.port(), hash: certificate.hash };
    Ok((listener, certificate.server()?, place))
}

/// An accept loop: what it serves, to how many at once.
#[derive(Clone)]
pub struct Door {
    router: Router,
    crowd: Crowd,
    tasks: Tasks,
}

impl Door {
    /// Serves `router`, to whose requests a [`Visitor`] is added.
    pub fn new(router: Router, crowd: Crowd, tasks: Tasks) -> Self {
        Self { router, crowd, tasks }
    }

    /// Serves whoever comes, until it is `over`.
    pub async fn accept(self, listener: TcpListener, tls: Arc<ServerConfig>, over: CancellationToken) {
        let acceptor = TlsAcceptor::from(tls);
        loop {
            let accepted = tokio::select! {
                () = over.cancelled() => break,
                accepted = listener.accept() => accepted,
            };
            let (tcp, remote) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a guest's connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            let Some(place) = self.crowd.enter(remote.ip()) else { continue };
            let (door, acceptor, over) = (self.clone(), acceptor.clone(), over.clone());
            self.tasks.spawn("guest connection", async move {
                tokio::select! {
                    () = door.connection(tcp, remote, acceptor, &over) => {}
                    () = async { over.cancelled().await; tokio::time::sleep(LAST_WORDS).await } => {}
                }
                drop::<crate::crowd::Place>(place);
            });
        }
    }

    async fn connection(self, tcp: TcpStream, remote: SocketAddr, acceptor: TlsAcceptor, over: &CancellationToken) {
        // An answer is one small write; waiting for more would only delay it.
        let _ = tcp.set_nodelay(true);
        let shake = acceptor.accept(BufReader::with_capacity(READ_AHEAD, tcp));
        let stream = match tokio::time::timeout(HANDSHAKE, shake).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => return tracing::debug!(%remote, %error, "a guest's handshake failed"),
            Err(_) => return tracing::debug!(%remote, "a guest's handshake took too long"),
        };
        let certificate = tls::guest::shown(stream.get_ref().1);
        let visitor = Visitor { address: remote.ip().to_canonical(), certificate };
        let service = TowerToHyperService::new(self.router.layer(Extension(visitor)));
        let serving = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD)
            .max_buf_size(READ)
            .serve_connection(TokioIo::new(Watched::new(stream, READ)), service);
        let mut serving = std::pin::pin!(serving);
        let served = tokio::select! {
            served = serving.as_mut() => served,
            () = over.cancelled() => {
                serving.as_mut().graceful_shutdown();
                serving.await
            }
        };
        if let Err(error) = served {
            tracing::debug!(%remote, %error, "a guest's connection ended");
        }
    }
}
