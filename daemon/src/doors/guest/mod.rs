//! The guest door: HTTPS for apps and people that are not paired, on a port that is bound only while somebody wants
//! them to come in.
//!
//! ```text
//! tella    Tella's transfer protocol, versions 1 and 2
//! framing  where a request ends, if that is certain
//! ```
//!
//! An accept loop of our own: a place in the crowd, a handshake, HTTP/1.1. Whoever is slow or silent holds its own place
//! and nobody else's.

mod framing;
mod tella;

use std::net::SocketAddr;
use std::time::Duration;

use axum::{Extension, Router};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use kith_proto::limits;
use tokio::io::BufReader;
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio_rustls::TlsAcceptor;

use crate::crowd::{Crowd, Place};
use crate::guest::{Guests, Opening, Visitor};
use crate::task::Tasks;
use crate::tls;
use framing::Watched;

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

/// Serves whatever opens, until the daemon stops.
pub fn serve(guests: Guests, mut openings: mpsc::Receiver<Opening>, tasks: &Tasks) {
    let router = tella::router(guests, tasks.clone());
    let crowd = Crowd::new(limits::GUEST_CONNECTIONS, limits::GUEST_CONNECTIONS_PER_ADDRESS);
    let door = Door { router, crowd, tasks: tasks.clone() };
    tasks.spawn("guest door", async move {
        let stop = door.tasks.stopping().clone();
        loop {
            let opening = tokio::select! {
                () = stop.cancelled() => return,
                opening = openings.recv() => opening,
            };
            let Some(opening) = opening else { return };
            door.tasks.spawn("guest window", door.clone().accept(opening));
        }
    });
}

#[derive(Clone)]
struct Door {
    router: Router,
    crowd: Crowd,
    tasks: Tasks,
}

impl Door {
    async fn accept(self, opening: Opening) {
        let Opening { listener, tls, over, closed } = opening;
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
                drop::<Place>(place);
            });
        }
        drop(listener);
        drop(closed);
    }

    async fn connection(
        self,
        tcp: TcpStream,
        remote: SocketAddr,
        acceptor: TlsAcceptor,
        over: &tokio_util::sync::CancellationToken,
    ) {
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
