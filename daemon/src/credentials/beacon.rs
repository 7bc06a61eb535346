//! Who on the LAN waits for credentials: a datagram a second to everybody, on [`limits::SHARE_PORT`].
//!
//! ```text
//! Beacon      says it once a second, and hears it for all shares of this daemon on one socket
//! candidates  which of those who say so is tried next: a pure state machine
//! ```

mod candidates;

use std::convert::Infallible;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket as Plain};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use kith_proto::control::{ApiError, Code};
use kith_proto::limits;
use kith_proto::peer::share::announcement::{Announcement, Protocol};
use socket2::{Domain, Socket, Type};
use tokio::net::UdpSocket;
use tokio::sync::broadcast;
use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::discovery::{Filter, Lan};
use crate::task::Tasks;

pub use candidates::{Candidate, Candidates};

const PERIOD: Duration = Duration::from_secs(1);
/// Announcements that a share may not have looked at yet. The oldest are lost first: each comes again in a second.
const BACKLOG: usize = 256;
/// How old the list of interfaces may be when a source is judged by it.
const LAN_AGE: Duration = Duration::from_secs(2);
/// How long to wait after a failure to read.
const PAUSE: Duration = Duration::from_millis(100);
/// This host: the one listener that is asked first, and then all of them.
const LOOPBACK: [Ipv4Addr; 2] = [Ipv4Addr::LOCALHOST, Ipv4Addr::new(127, 255, 255, 255)];

/// Speaks and listens. Cloned freely; all clones share one socket, which is open while somebody listens.
#[derive(Clone)]
pub struct Beacon {
    tasks: Tasks,
    filter: Arc<Filter>,
    port: u16,
    open: Arc<Mutex<Weak<Open>>>,
}

/// A socket that is read. It closes when the last one who holds this is gone.
struct Open {
    heard: broadcast::Sender<(Announcement, IpAddr)>,
    _close: DropGuard,
}

/// What one share hears.
pub struct Ears {
    heard: broadcast::Receiver<(Announcement, IpAddr)>,
    _open: Arc<Open>,
}

impl Beacon {
    /// Uses the interfaces that `filter` allows. Nothing is bound yet.
    pub fn new(tasks: &Tasks, filter: &Arc<Filter>) -> Self {
        Self { tasks: tasks.clone(), filter: filter.clone(), port: limits::SHARE_PORT, open: Arc::default() }
    }

    /// The same on a port that nobody else uses.
    #[cfg(test)]
    pub fn on_port(self, port: u16) -> Self {
        Self { port, ..self }
    }

    /// Announces on every interface, at once and then each second, until it is dropped.
    pub async fn announce(&self, announcement: &Announcement) -> Infallible {
        let text = announcement.to_string();
        let mut ticks = interval(PERIOD);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            // Addresses come and go.
            for (from, to) in destinations(&Lan::read(&self.filter), announcement.protocol) {
                if let Err(error) = send(from, (to, self.port), text.as_bytes()) {
                    tracing::debug!(%from, %to, %error, "cannot announce here");
                }
            }
        }
    }

    /// Begins to listen. Others on this host may listen at the same time.
    pub fn listen(&self) -> Result<Ears, ApiError> {
        let mut shared = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let open = match shared.upgrade() {
            Some(open) => open,
            None => {
                let socket = bind(self.port).map_err(|error| {
                    let message = format!("cannot listen on UDP port {}: {error}", self.port);
                    ApiError::new(Code::Busy, message).hint("another program holds the port for itself: end it first")
                })?;
                let open = self.read(socket);
                *shared = Arc::downgrade(&open);
                open
            }
        };
        Ok(Ears { heard: open.heard.subscribe(), _open: open })
    }

    fn read(&self, socket: UdpSocket) -> Arc<Open> {
        let (heard, _) = broadcast::channel(BACKLOG);
        let close = CancellationToken::new();
        let (lan, lan_read) = (Lan::read(&self.filter), Instant::now());
        let reader = Reader { socket, lan, lan_read, filter: self.filter.clone() };
        let (stop, closed, tell) = (self.tasks.stopping().clone(), close.clone(), heard.clone());
        self.tasks.spawn("share beacon", async move {
            tokio::select! {
                () = stop.cancelled() => {}
                () = closed.cancelled() => {}
                never = reader.run(tell) => match never {},
            }
        });
        Arc::new(Open { heard, _close: close.drop_guard() })
    }
}

/// From which address to which one it is said. Kith's own goes to the broadcast address of each network, which needs no
/// route; Photosphere's to the limited one, as the app does it.
fn destinations(lan: &Lan, protocol: Protocol) -> Vec<(Ipv4Addr, Ipv4Addr)> {
    let outside = lan.broadcasts().into_iter().map(|(own, broadcast)| match protocol {
        Protocol::Kith { .. } => (own, broadcast),
        Protocol::Photosphere => (own, Ipv4Addr::BROADCAST),
    });
    LOOPBACK.into_iter().map(|to| (Ipv4Addr::LOCALHOST, to)).chain(outside).collect()
}

/// Sent from the interface's own address, so that it leaves by that interface, whatever the routes say.
fn send(from: Ipv4Addr, to: (Ipv4Addr, u16), datagram: &[u8]) -> io::Result<()> {
    let socket = Plain::bind((from, 0))?;
    socket.set_nonblocking(true)?;
    socket.set_broadcast(true)?;
    socket.send_to(datagram, to).map(drop)
}

impl Ears {
    /// The next announcement, and where it came from; never, once the daemon stops. This device's own are among them.
    pub async fn next(&mut self) -> (Announcement, IpAddr) {
        loop {
            match self.heard.recv().await {
                Ok(heard) => return heard,
                Err(broadcast::error::RecvError::Lagged(_)) => {}
                Err(broadcast::error::RecvError::Closed) => std::future::pending().await,
            }
        }
    }
}

fn bind(port: u16) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::IPV4, Type::DGRAM, None)?;
    socket.set_reuse_address(true)?;
    // What Linux allows by the other option.
    #[cfg(all(unix, not(target_os = "linux")))]
    socket.set_reuse_port(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&SocketAddr::from((Ipv4Addr::UNSPECIFIED, port)).into())?;
    UdpSocket::from_std(socket.into())
}

struct Reader {
    socket: UdpSocket,
    filter: Arc<Filter>,
    lan: Lan,
    lan_read: Instant,
}

impl Reader {
    async fn run(mut self, heard: broadcast::Sender<(Announcement, IpAddr)>) -> Infallible {
        // A byte more than any announcement has: of what is longer, the rest is dropped by the system.
        let mut datagram = [0; limits::SHARE_ANNOUNCEMENT + 1];
        loop {
            let (length, source) = match self.socket.recv_from(&mut datagram).await {
                Ok(read) => read,
                Err(error) => {
                    // Windows says so of a datagram that was too long.
                    tracing::debug!(%error, "cannot read an announcement");
                    tokio::time::sleep(PAUSE).await;
                    continue;
                }
            };
            if let Ok(announcement) = Announcement::parse(&datagram[..length])
                && self.is_near(source.ip())
            {
                let _ = heard.send((announcement, source.ip()));
            }
        }
    }

    /// Whether it may come from this host or the LAN: it must not make this host connect to the internet.
    fn is_near(&mut self, source: IpAddr) -> bool {
        if self.lan_read.elapsed() > LAN_AGE {
            (self.lan, self.lan_read) = (Lan::read(&self.filter), Instant::now());
        }
        source.is_loopback() || self.lan.plausible(source)
    }
}

#[cfg(test)]
pub(super) mod tests;
