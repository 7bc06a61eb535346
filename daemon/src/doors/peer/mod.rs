//! The peer door: TLS connections of other devices.
//!
//! An accept loop of our own: a place, a handshake within five seconds, ALPN picks the handler. Whoever has not proven
//! who it is shares few places with the others of its address, so that strangers neither fill the door nor delay
//! anybody behind it.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use kith_proto::id::DeviceId;
use kith_proto::limits;
use kith_proto::peer::Alpn;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::codes::Codes;
use crate::credentials::Credentials;
use crate::crowd::{Crowd, Place};
use crate::discovery::{Contact, Discovery};
use crate::pairing::Pairing;
use crate::platform::listen;
use crate::sync::Sync;
use crate::task::Tasks;
use crate::tls::Tls;
use crate::tls::channel::{self, within};
use crate::transfer::Transfers;

const HANDSHAKE: Duration = Duration::from_secs(limits::HANDSHAKE_SECONDS);
/// How long to wait after an accept that failed, for want of descriptors for example.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Listens on the port that follows from the device id, or the next free one of 44000 to 44999; on `configured` alone
/// if that is not 0.
pub fn bind(id: DeviceId, configured: u16) -> io::Result<(TcpListener, u16)> {
    if configured != 0 {
        return Ok((listen(configured)?, configured));
    }
    let first = id.preferred_port() - 44_000;
    let mut last = io::Error::from(io::ErrorKind::AddrInUse);
    for offset in 0..1000 {
        let port = 44_000 + (first + offset) % 1000;
        match listen(port) {
            Ok(listener) => return Ok((listener, port)),
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => last = error,
            Err(error) => return Err(error),
        }
    }
    Err(last)
}

/// What the door leads to.
#[derive(Clone)]
pub struct Door {
    /// Handshakes.
    pub tls: Tls,
    /// `kith-pair/1`
    pub pairing: Pairing,
    /// `kith-send/1`
    pub transfers: Transfers,
    /// `kith-sync/1`
    pub sync: Sync,
    /// `kith-share/1`
    pub credentials: Credentials,
    /// `kith-join/1`
    pub codes: Codes,
    /// Whoever proves who it is, is online.
    pub discovery: Discovery,
    /// Who runs the connections.
    pub tasks: Tasks,
}

impl Door {
    /// Serves the door until the daemon stops.
    pub fn serve(self, listener: TcpListener) {
        let tasks = self.tasks.clone();
        tasks.spawn("peer door", async move {
            let all = Arc::new(Semaphore::new(limits::PEER_CONNECTIONS));
            let strangers = Crowd::new(limits::PEER_HALF_OPEN, limits::PEER_HALF_OPEN_PER_ADDRESS);
            let stop = self.tasks.stopping().clone();
            loop {
                let accepted = tokio::select! {
                    () = stop.cancelled() => return,
                    accepted = listener.accept() => accepted,
                };
                let (tcp, remote) = match accepted {
                    Ok(accepted) => accepted,
                    Err(error) => {
                        tracing::warn!(%error, "cannot accept a peer connection");
                        tokio::time::sleep(ACCEPT_PAUSE).await;
                        continue;
                    }
                };
                let Ok(place) = all.clone().try_acquire_owned() else { continue };
                let Some(stranger) = strangers.enter(remote.ip()) else { continue };
                let door = self.clone();
                self.tasks.spawn("peer connection", async move {
                    door.connection(tcp, remote, stranger, place).await;
                });
            }
        });
    }

    async fn connection(self, tcp: TcpStream, remote: SocketAddr, stranger: Place, place: OwnedSemaphorePermit) {
        let allow = |alpn| alpn != Alpn::Pair || self.pairing.is_open();
        let stop = self.tasks.stopping().clone();
        let shake = within(HANDSHAKE, channel::accept(&self.tls, tcp, remote, allow));
        let shaken = tokio::select! {
            () = stop.cancelled() => return,
            shaken = shake => shaken,
        };
        match shaken {
            // Anybody may begin a pairing: it keeps its place among the strangers.
            Ok((Alpn::Pair, channel)) => self.pairing.respond(channel).await,
            Ok((Alpn::Send, channel)) => {
                drop(stranger);
                self.discovery.reached(channel.peer, channel.remote, Contact::Called);
                self.transfers.receive(channel).await;
            }
            Ok((Alpn::Sync, channel)) => {
                drop(stranger);
                self.discovery.reached(channel.peer, channel.remote, Contact::Called);
                self.sync.serve(channel).await;
            }
            Ok((Alpn::Share, channel)) => {
                drop(stranger);
                self.discovery.reached(channel.peer, channel.remote, Contact::Called);
                self.credentials.serve(channel).await;
            }
            // So may anybody come with a code.
            Ok((Alpn::Join, channel)) => self.codes.serve(channel).await,
            Err(error) => tracing::debug!(%remote, %error, "a handshake failed"),
        }
        drop(place);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_next_free_port_is_taken() {
        let id: DeviceId = "ffff000000000000".parse().unwrap();
        let (_first, port) = bind(id, 0).unwrap();
        let (_second, next) = bind(id, 0).unwrap();
        assert_ne!(port, next);
        assert!((44_000..45_000).contains(&next));
        assert_eq!(bind(id, port).unwrap_err().kind(), io::ErrorKind::AddrInUse);
    }
}
