//! The one way out: connections to the peer doors of other devices, to the guest doors of others, to hello
//! stores, and to whoever waits for credentials.
//!
//! ```text
//! race    several addresses, tried side by side
//! guest   guest doors
//! hello   hello stores
//! share   receivers of credentials
//! ```
//!
//! A device has many addresses, and some of them lead nowhere, to another device, or back to this one. They are tried
//! in order, each a little after the one before; the first to prove the right key wins. The prober, a task of this
//! room, tries the trusted devices that `discovery` wants to be sure of.

mod guest;
mod hello;
mod race;
mod share;

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use kith_proto::control::{ApiError, Code};
use kith_proto::id::{DeviceId, PublicKey};
use kith_proto::peer::Alpn;
use kith_proto::peer::offer::Message;
use kith_proto::{limits, text};
use rustls::ClientConfig;
use tokio::sync::{Semaphore, mpsc};
use tokio::time::{Instant, timeout};

use crate::discovery::{Contact, Discovery};
use crate::identity::Identity;
use crate::task::Tasks;
use crate::tls::channel::{self, Channel};
use crate::tls::{ChannelError, Tls};
use crate::trust::Trust;
use race::race;

pub use guest::Guest;
pub use hello::{HelloError, Store};

/// How long one address may take.
const HANDSHAKE: Duration = Duration::from_secs(limits::HANDSHAKE_SECONDS);
/// How long a name may take to be resolved.
const LOOKUP: Duration = Duration::from_secs(5);
/// How long an address that led back to this device is left alone.
const DECOY: Duration = Duration::from_secs(600);
/// How many such addresses are remembered.
const DECOYS: usize = 64;
/// Devices that are probed at once.
const PROBES: usize = 8;

/// Dials other devices. Cloned freely.
#[derive(Clone)]
pub struct Dial {
    tls: Tls,
    trust: Trust,
    discovery: Discovery,
    own: PublicKey,
    /// The port of this device's peer door, so that others find the way back.
    port: u16,
    /// Addresses that led back to this device, and until when they are left alone; the oldest first.
    decoys: Arc<Mutex<Vec<(SocketAddr, Instant)>>>,
    /// Trusted devices that do not trust this one: said once.
    refused: Arc<Mutex<BTreeSet<PublicKey>>>,
    /// Whom this system believes on the web: read when first needed.
    web: Arc<Mutex<Option<Arc<ClientConfig>>>>,
    tasks: Tasks,
}

/// Who is expected to answer. Anybody can announce any address for any device, so who knows more should say so: an
/// address where somebody else answers is passed over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Whom {
    /// Whoever is there.
    Anybody,
    /// A device with this id. Whether it is the right one, something else has to prove.
    Id(DeviceId),
    /// The device with this key.
    Key(PublicKey),
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Nobody answers.
    #[error("the device cannot be reached: {0}")]
    Offline(String),
    /// This device does not trust that one.
    #[error("that device is not paired with this one")]
    NotPaired,
    /// That device does not trust this one.
    #[error("that device does not trust this one (any more)")]
    NotTrusted,
    /// Another device answers there.
    #[error("another device answers there than the one expected")]
    WrongKey,
    /// This device answers there.
    #[error("that is this device")]
    IsSelf,
    /// The device does not speak this protocol, or has no reason to now.
    #[error("that device does not take part in this now")]
    NoProtocol(Alpn),
    /// Something else answers there.
    #[error("what answers there is not a Kith device of this version: {0}")]
    Protocol(String),
    /// Not an address, or the port is missing.
    #[error("{0} is not an address: {1}")]
    Address(String, &'static str),
    /// A host name that nobody knows.
    #[error("no host is called {0}")]
    Unresolved(String),
}

impl Dial {
    /// Makes the dialler, and starts the prober.
    pub fn start(
        tasks: &Tasks,
        tls: Tls,
        trust: &Trust,
        discovery: &Discovery,
        identity: &Arc<Identity>,
        port: u16,
    ) -> Self {
        let this = Self {
            tls,
            trust: trust.clone(),
            discovery: discovery.clone(),
            own: identity.public(),
            port,
            decoys: Arc::default(),
            refused: Arc::default(),
            web: Arc::default(),
            tasks: tasks.clone(),
        };
        if let Some(wanted) = discovery.take_probes() {
            tasks.spawn("prober", prober(this.clone(), tasks.clone(), wanted));
        }
        this
    }

    /// A connection to a trusted device, at every address known. Whether *it* trusts this device shows with the first
    /// frame: see [`channel::connect`].
    pub async fn device(&self, key: &PublicKey, alpn: Alpn) -> Result<Channel, Error> {
        let addresses = self.addresses(key)?;
        let result = self.key_at(key, &addresses, alpn).await;
        match &result {
            Ok(channel) => self.discovery.reached(*key, channel.remote, Contact::Answered),
            Err(Error::Offline(_) | Error::WrongKey) => self.discovery.unreachable(key.device_id()),
            Err(_) => {}
        }
        result
    }

    /// A connection to the device with this key, trusted or not, at one of `addresses`.
    pub async fn key_at(&self, key: &PublicKey, addresses: &[SocketAddr], alpn: Alpn) -> Result<Channel, Error> {
        let errors = match self.race(addresses, alpn, Whom::Key(*key)).await {
            Ok(channel) => return Ok(channel),
            Err(errors) => errors,
        };
        // An old address may belong to another device by now: that is no news of this one.
        let elsewhere = |error: &Error| matches!(error, Error::WrongKey | Error::IsSelf | Error::Protocol(_));
        let all_wrong = errors.iter().all(|error| matches!(error, Error::WrongKey));
        Err(match worst(errors) {
            Error::WrongKey if all_wrong => Error::WrongKey,
            error if elsewhere(&error) => Error::Offline(error.to_string()),
            error => error,
        })
    }

    /// A connection at one of `addresses`.
    pub async fn any_of(&self, addresses: &[SocketAddr], alpn: Alpn, whom: Whom) -> Result<Channel, Error> {
        self.race(addresses, alpn, whom).await.map_err(worst)
    }

    /// The addresses that `HOST[:PORT]` means: a name, IPv4, IPv6 bare or in brackets.
    pub async fn resolve(&self, host_port: &str, default_port: Option<u16>) -> Result<Vec<SocketAddr>, Error> {
        let wrong = |why| Error::Address(text::printable(host_port).into_owned(), why);
        let (host, port) = split(host_port).map_err(wrong)?;
        let port = port.or(default_port).ok_or_else(|| wrong("say the port, too: HOST:PORT"))?;
        if let Ok(ip) = host.parse::<IpAddr>() {
            return Ok(vec![SocketAddr::new(ip, port)]);
        }
        let unresolved = || Error::Unresolved(text::printable(host).into_owned());
        let found = timeout(LOOKUP, tokio::net::lookup_host((host, port))).await;
        let found: Vec<_> =
            found.ok().and_then(Result::ok).into_iter().flatten().take(limits::PEER_ADDRESSES).collect();
        if found.is_empty() { Err(unresolved()) } else { Ok(found) }
    }

    /// Where a trusted device may be: where it was seen, newest first, then where it was reached in the past.
    fn addresses(&self, key: &PublicKey) -> Result<Vec<SocketAddr>, Error> {
        let trust = self.trust.snapshot();
        let device = trust.trusted(key).ok_or(Error::NotPaired)?;
        let seen = self.discovery.snapshot();
        let mut addresses = seen.peers.get(&key.device_id()).map(|peer| peer.addresses.clone()).unwrap_or_default();
        for known in &device.addresses {
            if !addresses.contains(known) {
                addresses.push(*known);
            }
        }
        Ok(addresses)
    }

    async fn race(&self, addresses: &[SocketAddr], alpn: Alpn, whom: Whom) -> Result<Channel, Vec<Error>> {
        race(addresses, |address| Box::pin(self.connect(address, alpn, whom))).await
    }

    async fn connect(&self, address: SocketAddr, alpn: Alpn, whom: Whom) -> Result<Channel, Error> {
        if self.is_decoy(address) {
            return Err(Error::IsSelf);
        }
        let (key, id) = match whom {
            Whom::Anybody => (None, None),
            Whom::Id(id) => (None, Some(id)),
            Whom::Key(key) => (Some(key), None),
        };
        let shake = channel::connect(&self.tls, address, alpn, key);
        match channel::within(HANDSHAKE, shake).await {
            Ok(channel) if channel.peer == self.own => Err(self.decoy(address)),
            Ok(channel) if id.is_some_and(|id| id != channel.peer.device_id()) => Err(Error::WrongKey),
            Ok(channel) => Ok(channel),
            Err(error) => {
                let error = Error::of(error, alpn);
                let somebody = matches!(error, Error::WrongKey | Error::NoProtocol(_));
                if somebody && self.leads_back(address).await { Err(self.decoy(address)) } else { Err(error) }
            }
        }
    }

    /// Whether the one who answered at `address` is this device.
    async fn leads_back(&self, address: SocketAddr) -> bool {
        let shake = channel::connect(&self.tls, address, Alpn::Send, Some(self.own));
        channel::within(HANDSHAKE, shake).await.is_ok()
    }

    fn is_decoy(&self, address: SocketAddr) -> bool {
        let mut decoys = self.decoys.lock().unwrap_or_else(PoisonError::into_inner);
        decoys.retain(|(_, until)| *until > Instant::now());
        decoys.iter().any(|(decoy, _)| *decoy == address)
    }

    fn decoy(&self, address: SocketAddr) -> Error {
        let mut decoys = self.decoys.lock().unwrap_or_else(PoisonError::into_inner);
        if decoys.len() == DECOYS {
            decoys.remove(0);
        }
        decoys.push((address, Instant::now() + DECOY));
        Error::IsSelf
    }

    /// Makes sure that a trusted device is there, and learns how it calls itself now.
    pub async fn probe(&self, key: PublicKey) {
        let Ok(mut channel) = self.device(&key, Alpn::Send).await else { return };
        let ask = async {
            channel.writer.send(&Message::Ping { port: Some(self.port) }).await?;
            channel.reader.message(limits::FRAME_UNAUTHENTICATED).await
        };
        let answer = channel::within(HANDSHAKE, ask).await;
        let id = key.device_id();
        if self.is_new_refusal(key, matches!(answer, Err(ChannelError::NotTrusted))) {
            tracing::info!(%id, "that device is there, but does not trust this one (any more)");
        }
        match answer {
            Ok(Message::Pong { name }) => {
                let name = text::device_name(&name, limits::DEVICE_NAME);
                if let Err(error) = self.trust.renamed_itself(key, name).await {
                    tracing::warn!(%error, "cannot note the name of a device");
                }
                channel.close().await;
            }
            Ok(_) => tracing::debug!(%id, "an answer to a probe that is none"),
            Err(error) => tracing::debug!(%id, %error, "no answer to a probe"),
        }
    }

    /// Notes whether a device refuses this one, and says whether that is news.
    fn is_new_refusal(&self, key: PublicKey, refuses: bool) -> bool {
        let mut refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        if refuses {
            return refused.insert(key);
        }
        refused.remove(&key);
        false
    }
}

async fn prober(dial: Dial, tasks: Tasks, mut wanted: mpsc::Receiver<PublicKey>) {
    let stop = tasks.stopping().clone();
    let slots = Arc::new(Semaphore::new(PROBES));
    let serve = async {
        while let Some(key) = wanted.recv().await {
            let Ok(slot) = slots.clone().acquire_owned().await else { return };
            let (dial, stop) = (dial.clone(), stop.clone());
            tasks.spawn("probe", async move {
                stop.run_until_cancelled(dial.probe(key)).await;
                drop(slot);
            });
        }
    };
    stop.run_until_cancelled(serve).await;
}

/// The error that says the most.
fn worst(errors: Vec<Error>) -> Error {
    let rank = |error: &Error| match error {
        Error::NotTrusted => 6,
        Error::NoProtocol(_) => 5,
        Error::WrongKey => 4,
        Error::Protocol(_) => 3,
        Error::IsSelf => 2,
        Error::Offline(_) => 1,
        Error::NotPaired | Error::Address(..) | Error::Unresolved(_) => 0,
    };
    errors.into_iter().max_by_key(rank).unwrap_or_else(|| Error::Offline("no address is known".to_owned()))
}

/// Host and port. An IPv6 address with a port needs brackets.
fn split(host_port: &str) -> Result<(&str, Option<u16>), &'static str> {
    let port = |port: &str| match port.parse() {
        Ok(0) | Err(_) => Err("a port is a number between 1 and 65535"),
        Ok(port) => Ok(Some(port)),
    };
    let (host, rest) = match host_port.strip_prefix('[') {
        Some(inner) => {
            let (host, rest) = inner.split_once(']').ok_or("a bracket is not closed")?;
            if !host.contains(':') {
                return Err("only IPv6 addresses stand in brackets");
            }
            match rest.strip_prefix(':') {
                Some(rest) => (host, Some(rest)),
                None if rest.is_empty() => (host, None),
                None => return Err("what follows the bracket is no port"),
            }
        }
        None => match host_port.split_once(':') {
            Some((host, rest)) if !rest.contains(':') => (host, Some(rest)),
            _ => (host_port, None),
        },
    };
    if host.is_empty() || host.len() > 255 || host.contains(|c: char| c.is_whitespace() || text::is_hostile(c)) {
        return Err("the host is missing or malformed");
    }
    Ok((host, rest.map(port).transpose()?.flatten()))
}

impl Error {
    /// What the end of a connection says about the other side.
    pub fn of(error: ChannelError, alpn: Alpn) -> Self {
        match error {
            ChannelError::NotTrusted => Self::NotTrusted,
            ChannelError::WrongKey => Self::WrongKey,
            ChannelError::NoProtocol => Self::NoProtocol(alpn),
            ChannelError::TimedOut => Self::Offline("no answer in time".to_owned()),
            ChannelError::Closed => Self::Offline("it closed the connection".to_owned()),
            ChannelError::Cut(error) if error.kind() == std::io::ErrorKind::InvalidData => {
                Self::Protocol(error.to_string())
            }
            ChannelError::Cut(error) => Self::Offline(error.to_string()),
            ChannelError::TooLarge { .. } | ChannelError::Malformed(_) => Self::Protocol(error.to_string()),
        }
    }
}

impl From<Error> for ApiError {
    fn from(error: Error) -> Self {
        let (code, hint) = match &error {
            Error::Offline(_) | Error::Unresolved(_) => {
                (Code::PeerOffline, "check that it is switched on, on the same network, and runs kithd")
            }
            Error::NotPaired => (Code::NotPaired, "pair first: kithctl pair shows how"),
            Error::NotTrusted => (Code::NotTrusted, "pair the two devices again"),
            Error::WrongKey => (
                Code::WrongKey,
                "if the device was set up anew, revoke its trust and pair again; if not, look who it is",
            ),
            Error::IsSelf => (Code::IsSelf, "kithctl peers lists the other devices"),
            Error::NoProtocol(Alpn::Pair) => (Code::PairingExpired, "run kithctl pair on the other device first"),
            Error::NoProtocol(Alpn::Send | Alpn::Sync | Alpn::Share | Alpn::Join) | Error::Protocol(_) => {
                (Code::Protocol, "check the address, and that both devices run the same version of kithd")
            }
            Error::Address(..) => {
                (Code::InvalidParam, "an address is HOST[:PORT], 192.168.1.9:44001 or [fd00::9]:44001")
            }
        };
        let message = match &error {
            Error::NoProtocol(Alpn::Pair) => "no pairing is open on that device".to_owned(),
            _ => error.to_string(),
        };
        Self::new(code, message).hint(hint)
    }
}

#[cfg(test)]
mod tests;
