//! Pairing: from six digits or a QR to mutual trust. The exchange itself is in `kith_proto::peer::pairing`; here are
//! its windows, its connections and what comes of it.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use kith_proto::control::event::Fact;
use kith_proto::control::method::{PairingJoinParams, PairingOpenParams, PairingOpenResult};
use kith_proto::control::types::{Pairing as View, PairingState, Relation};
use kith_proto::control::{ApiError, Code};
use kith_proto::id::{DeviceId, PublicKey};
use kith_proto::peer::Alpn;
use kith_proto::peer::pairing::{Failure, Identity as Introduction, Initiator, Mode, PairUri, Peer, Pin, Window};
use kith_proto::{limits, text};
use tokio_util::sync::CancellationToken;

use crate::clock;
use crate::dial::{self, Dial, Whom};
use crate::discovery::{Contact, Discovery};
use crate::event::Events;
use crate::identity::Identity;
use crate::store::{self, Store};
use crate::task::Tasks;
use crate::tls::{Channel, ChannelError, channel::within};
use crate::trust::Trust;

/// Pairings that are over and still shown.
const REMEMBERED: usize = 16;
const EXCHANGE: Duration = Duration::from_secs(limits::PAIRING_EXCHANGE_SECONDS);
const HOUR_MS: i64 = 3_600_000;

/// The pairings of this device.
#[derive(Clone)]
pub struct Pairing(Arc<Inner>);

struct Inner {
    identity: Arc<Identity>,
    trust: Trust,
    discovery: Discovery,
    dial: Dial,
    events: Events,
    store: Store,
    tasks: Tasks,
    peer_port: u16,
    /// PINs live by a clock that nobody sets.
    epoch: Instant,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    window: Option<Open>,
    /// Newest last.
    pairings: VecDeque<View>,
    /// Ends a pairing that this device joined.
    joining: Vec<(String, CancellationToken)>,
}

/// A window that shows its PIN.
struct Open {
    id: String,
    relation: Relation,
    window: Window,
    /// Cancelled when it is over.
    over: CancellationToken,
}

/// Everything that pairing works with.
pub struct Parts {
    /// This device.
    pub identity: Arc<Identity>,
    /// Where the result goes.
    pub trust: Trust,
    /// Where names lead.
    pub discovery: Discovery,
    /// The way out.
    pub dial: Dial,
    /// Where steps are told.
    pub events: Events,
    /// Where PINs are counted.
    pub store: Store,
    /// Who runs the exchanges.
    pub tasks: Tasks,
    /// The port that others dial.
    pub peer_port: u16,
}

impl Pairing {
    /// No pairing yet.
    pub fn new(parts: Parts) -> Self {
        let Parts { identity, trust, discovery, dial, events, store, tasks, peer_port } = parts;
        let (epoch, state) = (Instant::now(), Mutex::default());
        Self(Arc::new(Inner { identity, trust, discovery, dial, events, store, tasks, peer_port, epoch, state }))
    }

    /// Pairings under way, and the last that ended.
    pub fn list(&self) -> Vec<View> {
        self.0.state().pairings.iter().cloned().collect()
    }

    /// Whether a PIN is shown at this moment.
    pub fn is_open(&self) -> bool {
        let now = self.0.now();
        self.0.state().window.as_ref().is_some_and(|open| open.window.is_open(now))
    }

    /// Opens a window. It ends with `owner`, with its time, or with success.
    pub async fn open(
        &self,
        params: PairingOpenParams,
        owner: Option<CancellationToken>,
    ) -> Result<PairingOpenResult, ApiError> {
        if self.is_open() {
            return Err(active());
        }
        if !params.interactive {
            self.count_window().await?;
        }
        let id = uuid::Uuid::new_v4().to_string();
        let relation = if params.guest { Relation::Guest } else { Relation::Own };
        let over = self.0.tasks.stopping().child_token();
        let window = Window::open(true, &mut fill, self.0.now());
        let addresses = self.0.discovery.own_addresses();
        let uri = window.uri(&addresses, self.0.peer_port, &self.0.identity.public()).expect("the window is new");
        let result = PairingOpenResult {
            pairing: id.clone(),
            pin: uri.pin.expose().to_owned(),
            port: self.0.peer_port,
            addresses: addresses.iter().map(ToString::to_string).collect(),
            qr: uri.to_link().expose().clone(),
            expires: clock::rfc3339(clock::now_ms() + limits::PIN_SECONDS as i64 * 1000),
        };
        {
            let mut state = self.0.state();
            if state.window.is_some() {
                return Err(active());
            }
            state.window = Some(Open { id: id.clone(), relation, window, over: over.clone() });
        }
        self.0.update(&id, |view| view.attempts_left = Some(limits::PIN_ATTEMPTS));
        let inner = self.0.clone();
        self.0.tasks.spawn("pairing window", async move { inner.guard(&id, &over, owner).await });
        Ok(result)
    }

    /// PINs that nobody sits in front of are an invitation to guess for hours: they are counted, across restarts.
    async fn count_window(&self) -> Result<(), ApiError> {
        let now = clock::now_ms();
        let recent = self
            .0
            .store
            .write(move |tx| {
                tx.execute("DELETE FROM pin_window WHERE opened_ms NOT BETWEEN ?1 AND ?2", [now - HOUR_MS, now])?;
                let recent: u32 = tx.query_row("SELECT count(*) FROM pin_window", [], |row| row.get(0))?;
                if recent < limits::PINS_PER_HOUR {
                    tx.execute("INSERT INTO pin_window (opened_ms) VALUES (?1)", [now])?;
                }
                Ok(recent)
            })
            .await
            .map_err(ApiError::from)?;
        if recent < limits::PINS_PER_HOUR {
            return Ok(());
        }
        let message = format!("{} PINs were made within the hour with nobody at the keyboard", limits::PINS_PER_HOUR);
        Err(ApiError::new(Code::TooManyAttempts, message).hint("run kithctl pair on a terminal, or wait"))
    }

    /// Pairs with a device that shows a PIN or a QR. Ends with `owner`.
    pub fn join(&self, params: PairingJoinParams, owner: CancellationToken) -> Result<View, ApiError> {
        let secret = How::parse(&params)?;
        let relation = if params.guest { Relation::Guest } else { Relation::Own };
        let id = uuid::Uuid::new_v4().to_string();
        let cancel = owner.child_token();
        self.0.state().joining.push((id.clone(), cancel.clone()));
        let view = self.0.update(&id, |_| {});
        let inner = self.0.clone();
        self.0.tasks.spawn("pairing", async move {
            let outcome = tokio::select! {
                () = cancel.cancelled() => Err(withdrawn()),
                outcome = inner.initiate(&secret) => outcome,
            };
            let outcome = match outcome {
                Ok((peer, address)) => inner.keep(peer, relation, Some(address)).await.map_err(ApiError::from),
                Err(error) => Err(error),
            };
            let paired = outcome.as_ref().ok().copied();
            inner.finish(&id, outcome);
            inner.state().joining.retain(|(joining, _)| *joining != id);
            if let Some(peer) = paired {
                // So that the other side learns the way back, also where mDNS does not reach.
                inner.dial.probe(peer).await;
            }
        });
        Ok(view)
    }

    /// Ends a pairing.
    pub fn cancel(&self, id: &str) -> Result<View, ApiError> {
        let (view, token) = {
            let state = self.0.state();
            let view = state.pairings.iter().find(|view| view.pairing == id).cloned();
            let window = state.window.as_ref().filter(|open| open.id == id).map(|open| open.over.clone());
            let joining = || state.joining.iter().find(|(joining, _)| joining == id).map(|(_, token)| token.clone());
            (view, window.or_else(joining))
        };
        let view = view.ok_or_else(|| ApiError::new(Code::PairingNotFound, "there is no such pairing"))?;
        let token = token.ok_or_else(|| ApiError::new(Code::WrongState, "this pairing is over"))?;
        self.0.finish(id, Err(withdrawn()));
        token.cancel();
        Ok(view)
    }

    /// The responder's end of an exchange, on a connection that the peer door accepted.
    pub async fn respond(&self, mut channel: Channel) {
        match within(EXCHANGE, self.0.respond(&mut channel)).await {
            Ok(()) | Err(ChannelError::Closed) => {}
            Err(error) => tracing::debug!(remote = %channel.remote, %error, "a pairing exchange broke off"),
        }
        let (peer, remote) = (channel.peer, channel.remote);
        channel.close().await;
        // Where it came from is where it is looked for from now on, also where mDNS does not reach.
        if self.0.trust.snapshot().trusted(&peer).is_some() {
            self.0.discovery.reached(peer, remote, Contact::Called);
        }
    }
}

/// What the user of the initiating device gave.
enum How {
    Pin { target: String, pin: Pin },
    Qr(PairUri),
}

impl How {
    fn parse(params: &PairingJoinParams) -> Result<Self, ApiError> {
        let invalid = |message: String| ApiError::new(Code::InvalidParam, message);
        match (&params.target, &params.pin, &params.uri) {
            (None, None, Some(uri)) => uri
                .parse()
                .map(Self::Qr)
                .map_err(|error: kith_proto::peer::pairing::UriError| invalid(error.to_string())),
            (Some(target), Some(pin), None) => {
                let pin = Pin::parse(pin).map_err(|_| invalid("a PIN has six digits".to_owned()))?;
                Ok(Self::Pin { target: target.clone(), pin })
            }
            _ => Err(invalid("give either target and pin, or uri".to_owned())),
        }
    }
}

impl Inner {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) -> u64 {
        u64::try_from(self.epoch.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn introduction(&self) -> Introduction<'_> {
        Introduction { key: self.identity.signing_key(), device_name: self.identity.name() }
    }

    /// Changes a pairing's view, and tells it.
    fn update(&self, id: &str, change: impl FnOnce(&mut View)) -> View {
        let mut state = self.state();
        let found = state.pairings.iter().position(|view| view.pairing == id);
        let at = found.unwrap_or_else(|| {
            if state.pairings.len() == REMEMBERED {
                state.pairings.pop_front();
            }
            state.pairings.push_back(View {
                pairing: id.to_owned(),
                state: PairingState::Waiting,
                attempts_left: None,
                peer: None,
                same_name: None,
                reason: None,
            });
            state.pairings.len() - 1
        });
        change(&mut state.pairings[at]);
        let view = state.pairings[at].clone();
        drop(state);
        self.events.publish(&Fact::PairingUpdated(view.clone()));
        view
    }

    /// Writes the outcome down, once.
    fn finish(&self, id: &str, outcome: Result<PublicKey, ApiError>) {
        let waiting = |view: &View| view.pairing == id && view.state == PairingState::Waiting;
        if !self.state().pairings.iter().any(waiting) {
            return;
        }
        match outcome {
            Ok(key) => {
                let trust = self.trust.snapshot();
                let device = trust.trusted(&key);
                self.update(id, |view| {
                    view.state = PairingState::Paired;
                    view.peer = device.map(|device| device.as_ref());
                    let twin = device.and_then(|device| trust.same_name(&key, device.shown_name()));
                    view.same_name = twin.map(|device| device.as_ref());
                });
            }
            Err(error) => {
                self.update(id, |view| {
                    view.state = PairingState::Failed;
                    view.reason = Some(error.into());
                });
            }
        }
    }

    /// Waits for the end of a window, and sees to it that nothing of it stays.
    async fn guard(&self, id: &str, over: &CancellationToken, owner: Option<CancellationToken>) {
        let expired = tokio::time::sleep(Duration::from_secs(limits::PIN_SECONDS));
        let gone = async {
            match owner {
                Some(owner) => owner.cancelled_owned().await,
                None => std::future::pending().await,
            }
        };
        let error = tokio::select! {
            () = over.cancelled() => withdrawn(),
            () = gone => withdrawn(),
            () = expired => self.expired(),
        };
        self.state().window.take_if(|open| open.id == id);
        self.finish(id, Err(error));
    }

    fn expired(&self) -> ApiError {
        let left = self.state().window.as_ref().map(|open| open.window.attempts_left(Mode::Pin));
        if left == Some(0) {
            return ApiError::new(Code::TooManyAttempts, "the PIN was guessed wrong too often and is burnt")
                .hint("somebody on this network may be guessing; run kithctl pair again and use the QR");
        }
        ApiError::new(Code::PairingExpired, "nobody paired in time").hint("run kithctl pair again")
    }

    async fn respond(&self, channel: &mut Channel) -> Result<(), ChannelError> {
        let pair1 = channel.reader.frame(limits::FRAME_UNAUTHENTICATED).await?;
        let begun = self.in_window(|open, now| open.window.on_pair1(&pair1, &channel.binding, &random(), now));
        self.tell_attempts();
        let (awaiting, pair2) = match begun {
            Ok(begun) => begun,
            Err(failure) => return channel.writer.send_frame(&failure.to_payload()).await,
        };
        channel.writer.send_frame(&pair2).await?;
        let pair3 = channel.reader.frame(limits::FRAME_UNAUTHENTICATED).await?;
        let settled = self.in_window(|open, now| {
            let (peer, pair4) = awaiting.on_pair3(&pair3, &mut open.window, &self.introduction(), now)?;
            Ok((peer, pair4, open.id.clone(), open.relation, open.over.clone()))
        });
        let (peer, pair4, id, relation, over) = match settled {
            Ok(settled) => settled,
            Err(failure) => return channel.writer.send_frame(&failure.to_payload()).await,
        };
        // Trust is written down before the other side is told: a kill in between leaves it to pair again, not half done.
        let kept = self.keep(peer, relation, None).await;
        let sent = match &kept {
            Ok(_) => channel.writer.send_frame(&pair4).await,
            Err(_) => Err(ChannelError::Closed),
        };
        self.finish(&id, kept.map_err(ApiError::from));
        over.cancel();
        sent
    }

    fn in_window<T>(&self, work: impl FnOnce(&mut Open, u64) -> Result<T, Failure>) -> Result<T, Failure> {
        let now = self.now();
        match &mut self.state().window {
            Some(open) => work(open, now),
            None => Err(Failure::Gone),
        }
    }

    fn tell_attempts(&self) {
        let left = self.state().window.as_ref().map(|open| (open.id.clone(), open.window.attempts_left(Mode::Pin)));
        if let Some((id, left)) = left {
            self.update(&id, |view| view.attempts_left = Some(left));
        }
    }

    /// Trusts the device that an exchange proved.
    async fn keep(
        &self,
        peer: Peer,
        relation: Relation,
        address: Option<SocketAddr>,
    ) -> Result<PublicKey, store::Error> {
        let Peer { public_key, device_name } = peer;
        tracing::info!(peer = %public_key.device_id(), name = %text::printable(&device_name), "paired");
        self.trust.pair(public_key, device_name, relation, address).await?;
        if let Some(address) = address {
            self.discovery.reached(public_key, address, Contact::Answered);
        }
        Ok(public_key)
    }

    async fn initiate(&self, how: &How) -> Result<(Peer, SocketAddr), ApiError> {
        let (addresses, expected) = match how {
            How::Qr(uri) => {
                (uri.addresses.iter().map(|ip| SocketAddr::new(*ip, uri.port)).collect(), Some(uri.device_id))
            }
            How::Pin { target, .. } => self.locate(target).await?,
        };
        let whom = expected.map_or(Whom::Anybody, Whom::Id);
        let mut channel = self.dial.any_of(&addresses, Alpn::Pair, whom).await.map_err(ApiError::from)?;
        let remote = channel.remote;
        let outcome = within(EXCHANGE, self.exchange(how, expected, &mut channel)).await;
        channel.close().await;
        match outcome {
            Ok(Ok(peer)) => Ok((peer, remote)),
            Ok(Err(failure)) => Err(explain(failure)),
            Err(error) => Err(ApiError::from(dial::Error::of(error, Alpn::Pair))),
        }
    }

    async fn exchange(
        &self,
        how: &How,
        expected: Option<DeviceId>,
        channel: &mut Channel,
    ) -> Result<Result<Peer, Failure>, ChannelError> {
        // An announcement that lied about its key, or an address that now is somebody else's (D28).
        if expected.is_some_and(|id| id != channel.peer.device_id()) {
            return Ok(Err(Failure::IdentityMismatch));
        }
        let start = match how {
            How::Pin { pin, .. } => Initiator::Pin(pin),
            How::Qr(uri) => Initiator::Qr(uri),
        };
        let (awaiting, pair1) = match start.start(&channel.binding, &random()) {
            Ok(begun) => begun,
            Err(failure) => return Ok(Err(failure)),
        };
        channel.writer.send_frame(&pair1).await?;
        let pair2 = channel.reader.frame(limits::FRAME_UNAUTHENTICATED).await?;
        let (awaiting, pair3) = match awaiting.on_pair2(&pair2, &self.introduction()) {
            Ok(next) => next,
            Err(failure) => return Ok(Err(failure)),
        };
        channel.writer.send_frame(&pair3).await?;
        let pair4 = channel.reader.frame(limits::FRAME_UNAUTHENTICATED).await?;
        Ok(awaiting.on_pair4(&pair4))
    }

    /// Where `target` is: a device in sight, or a host.
    async fn locate(&self, target: &str) -> Result<(Vec<SocketAddr>, Option<DeviceId>), ApiError> {
        let error = match self.discovery.find(target) {
            Ok(peer) => {
                let addresses: Vec<_> = peer.addresses.iter().filter_map(|address| address.parse().ok()).collect();
                return Ok((addresses, Some(peer.id)));
            }
            Err(error) if error.code == Code::PeerNotFound => error,
            Err(error) => return Err(error),
        };
        // A name that no device bears may be a host's; but a plain word that is no host's either was meant as a name.
        let port = self.port_of(target);
        match self.dial.resolve(target, port).await {
            Ok(addresses) => Ok((addresses, None)),
            Err(_) if !target.contains(['.', ':']) => Err(error),
            Err(other) => Err(other.into()),
        }
    }

    /// The port of the device that was seen at this IP address.
    fn port_of(&self, target: &str) -> Option<u16> {
        let ip: std::net::IpAddr = target.parse().ok()?;
        let seen = self.discovery.snapshot();
        seen.peers.values().flat_map(|peer| &peer.addresses).find(|address| address.ip() == ip).map(SocketAddr::port)
    }
}

fn explain(failure: Failure) -> ApiError {
    let (code, hint) = match failure {
        Failure::WrongPin { attempts_left: 0 } => (Code::WrongPin, Some("the PIN is burnt: show a new one there")),
        Failure::WrongPin { .. } => (Code::WrongPin, Some("look at the PIN again, or use the QR")),
        Failure::Gone => (Code::PairingExpired, Some("run kithctl pair on the other device")),
        Failure::Interference => (Code::WrongPin, None),
        Failure::IdentityMismatch => (Code::WrongKey, None),
        Failure::Oneself => (Code::IsSelf, None),
        Failure::Malformed | Failure::NotUnderstood => (Code::Protocol, None),
    };
    let error = ApiError::new(code, failure.to_string());
    match hint {
        Some(hint) => error.hint(hint),
        None => error,
    }
}

fn active() -> ApiError {
    ApiError::new(Code::PairingActive, "a pairing window is open already").hint("end it first: one PIN at a time")
}

fn withdrawn() -> ApiError {
    ApiError::new(Code::PairingExpired, "the pairing was called off")
}

fn fill(bytes: &mut [u8]) {
    getrandom::fill(bytes).expect("the system gave random bytes when the daemon started");
}

fn random() -> [u8; 64] {
    let mut bytes = [0; 64];
    fill(&mut bytes);
    bytes
}
