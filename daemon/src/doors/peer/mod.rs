//! The peer door: TLS connections of other devices.
//!
//! An accept loop of our own: a place, a handshake within five seconds, ALPN picks the handler. Whoever has not proven
//! who it is shares few places with the others of its address, so that strangers neither fill the door nor delay
//! anybody behind it.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use kith_proto::id::DeviceId;
use kith_proto::limits;
use kith_proto::peer::Alpn;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::discovery::{Contact, Discovery};
use crate::pairing::Pairing;
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

/// IPv6 and IPv4 on one socket; IPv4 alone where there is no IPv6.
fn listen(port: u16) -> io::Result<TcpListener> {
    let open = |domain, address: SocketAddr| -> io::Result<TcpListener> {
        let socket = Socket::new(domain, Type::STREAM, Some(Protocol::TCP))?;
        if domain == Domain::IPV6 {
            socket.set_only_v6(false)?;
        }
        // A port that was closed a moment ago is free; on Unix this takes no port from anybody who listens.
        #[cfg(unix)]
        socket.set_reuse_address(true)?;
        socket.set_nonblocking(true)?;
        socket.bind(&address.into())?;
        socket.listen(128)?;
        TcpListener::from_std(socket.into())
    };
    match open(Domain::IPV6, (Ipv6Addr::UNSPECIFIED, port).into()) {
        Err(error) if error.kind() != io::ErrorKind::AddrInUse => {
            open(Domain::IPV4, (Ipv4Addr::UNSPECIFIED, port).into())
        }
        outcome => outcome,
    }
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
            let strangers = Strangers::default();
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
                let Some(stranger) = strangers.enter(remote.ip().to_canonical()) else { continue };
                let door = self.clone();
                self.tasks.spawn("peer connection", async move {
                    door.connection(tcp, remote, stranger, place).await;
                });
            }
        });
    }

    async fn connection(self, tcp: TcpStream, remote: SocketAddr, stranger: Stranger, place: OwnedSemaphorePermit) {
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
            Err(error) => tracing::debug!(%remote, %error, "a handshake failed"),
        }
        drop(place);
    }
}

/// How many connections have not proven who they are, in total and by address.
#[derive(Clone, Default)]
struct Strangers(Arc<Mutex<HashMap<IpAddr, usize>>>);

/// A place among the strangers, given back when it is dropped.
struct Stranger {
    strangers: Strangers,
    address: IpAddr,
}

impl Strangers {
    fn enter(&self, address: IpAddr) -> Option<Stranger> {
        let mut count = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let total: usize = count.values().sum();
        let here = count.get(&address).copied().unwrap_or_default();
        if total >= limits::PEER_HALF_OPEN || here >= limits::PEER_HALF_OPEN_PER_ADDRESS {
            return None;
        }
        count.insert(address, here + 1);
        drop(count);
        Some(Stranger { strangers: self.clone(), address })
    }
}

impl Drop for Stranger {
    fn drop(&mut self) {
        let mut count = self.strangers.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(here) = count.get_mut(&self.address) {
            *here -= 1;
            if *here == 0 {
                count.remove(&self.address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn c21_strangers_share_few_places() {
        let strangers = Strangers::default();
        let one: IpAddr = "10.0.0.1".parse().unwrap();
        let mut held: Vec<_> = std::iter::from_fn(|| strangers.enter(one)).collect();
        assert_eq!(held.len(), limits::PEER_HALF_OPEN_PER_ADDRESS);
        let other = strangers.enter("10.0.0.2".parse().unwrap());
        assert!(other.is_some(), "one address does not shut the others out");
        held.pop();
        assert!(strangers.enter(one).is_some());
        let many = (0..=255).filter_map(|n| strangers.enter(IpAddr::from([10, 0, 1, n]))).collect::<Vec<_>>();
        assert!(many.len() < limits::PEER_HALF_OPEN);
    }

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
