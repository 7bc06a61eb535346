//! Which devices are nearby: mDNS tells, the prober of `dial` makes sure.
//!
//! ```text
//! mdns        what is announced, by this device and by others
//! interfaces  which interfaces count, and which addresses may be true
//! table       what is known, and the facts that follow: a pure state machine
//! ```
//!
//! One task owns all of it and sleeps on one timer. There is no beacon of our own besides mDNS: where multicast does
//! not get through, trusted devices are found at their last addresses, and others by `kithctl pair HOST`.

pub(crate) mod interfaces;
mod mdns;
mod table;

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use kith_proto::control::ApiError;
use kith_proto::control::types::{Peer, PeerRef, PeerState};
use kith_proto::id::{DeviceId, PublicKey};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::config::Settings;
use crate::event::Events;
use crate::identity::Identity;
use crate::task::Tasks;
use crate::trust::{self, Device, Trust};
use mdns::{Card, Event, Mdns};
use table::{TICK_MS, Table};

pub use interfaces::{Filter, Lan};

/// Reports that may wait for the task. A report that finds no room is lost; the next try makes up for it.
const MAILBOX: usize = 256;
/// Devices that may wait for the prober. Few: of those that wait in the table, the best goes next.
const PROBES: usize = 8;
/// Ticks come this much earlier or later, so that devices that started together do not stay in step.
const JITTER_MS: u64 = 3_000;
/// How old the list of interfaces may be when an announcement is judged by it.
const LAN_AGE: Duration = Duration::from_secs(2);
/// A wall clock that ran ahead of the other one by so much was not set: the machine slept.
const SLEPT: Duration = Duration::from_secs(60);
/// How long saying goodbye may take.
const GOODBYE: Duration = Duration::from_secs(1);

/// A device as it was seen on the network, or met.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sighting {
    /// The short id.
    pub id: DeviceId,
    /// How it calls itself.
    pub name: String,
    /// Where it may be, newest first.
    pub addresses: Vec<SocketAddr>,
    /// A trusted device: the last try to reach it succeeded. Another one: it is announced.
    pub online: bool,
    /// The port on which it says it gives out payloads of sharing codes.
    pub hello: Option<u16>,
}

/// How a device proved who it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Contact {
    /// It answered where it was dialled.
    Answered,
    /// It dialled, from a port that says nothing.
    Called,
    /// It dialled, and said on which port it listens.
    Listens(u16),
}

/// Every device that is trusted or announced.
#[derive(Debug, Clone, Default)]
pub struct Snapshot {
    /// By id.
    pub peers: BTreeMap<DeviceId, Arc<Sighting>>,
}

impl Snapshot {
    /// The device with this id, if it is trusted or announced.
    pub fn get(&self, id: &DeviceId) -> Option<&Sighting> {
        self.peers.get(id).map(|sighting| &**sighting)
    }
}

/// The handle to what is nearby.
#[derive(Clone)]
pub struct Discovery {
    commands: mpsc::Sender<Command>,
    snapshot: watch::Receiver<Arc<Snapshot>>,
    probes: Arc<Mutex<Option<mpsc::Receiver<PublicKey>>>>,
    trust: Trust,
    filter: Arc<Filter>,
    hello: watch::Sender<Option<u16>>,
}

enum Command {
    Reached { key: PublicKey, address: SocketAddr, contact: Contact },
    Unreachable(DeviceId),
    Goodbye(oneshot::Sender<()>),
}

impl Discovery {
    /// Announces the peer door at `port`, and looks for others. Where mDNS cannot run, only trusted devices are found.
    pub fn start(
        tasks: &Tasks,
        events: &Events,
        trust: &Trust,
        settings: &Settings,
        identity: &Arc<Identity>,
        port: u16,
    ) -> Self {
        let filter = Arc::new(Filter::new(&settings.config.discovery));
        let (commands, inbox) = mpsc::channel(MAILBOX);
        let (probes, wanted) = mpsc::channel(PROBES);
        let started = Instant::now();
        let table = Table::new(identity.id(), trust.snapshot(), 0);
        let (publish, snapshot) = watch::channel(Arc::new(table.snapshot().clone()));
        let hello = watch::Sender::new(None);
        let state = State {
            card: Card { id: identity.id(), name: identity.name().to_owned(), port, hello: None, changes: 0 },
            hello: hello.subscribe(),
            enabled: settings.config.discovery.enabled,
            lan: Lan::read(&filter),
            lan_read: started,
            clocks: (started, SystemTime::now()),
            filter: filter.clone(),
            mdns: None,
            warned: false,
            table,
            started,
            trust: trust.clone(),
            events: events.clone(),
            publish,
            probes,
        };
        tasks.spawn("discovery", state.run(inbox, tasks.stopping().clone()));
        Self { commands, snapshot, probes: Arc::new(Mutex::new(Some(wanted))), trust: trust.clone(), filter, hello }
    }

    /// What is known now.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.snapshot.borrow().clone()
    }

    /// What is known now and whenever it changes.
    pub fn watch(&self) -> watch::Receiver<Arc<Snapshot>> {
        self.snapshot.clone()
    }

    /// Every device that is trusted, or in sight.
    pub fn peers(&self) -> Vec<Peer> {
        let (seen, trust) = (self.snapshot(), self.trust.snapshot());
        let known: BTreeMap<_, _> = by_id(&trust).collect();
        let trusted = known.values().filter(|device| device.is_trusted()).map(|device| device.key.device_id());
        let mut ids: Vec<_> = seen.peers.keys().copied().chain(trusted).collect();
        ids.sort_unstable();
        ids.dedup();
        let peers = ids.iter().map(|id| merge(seen.get(id), known.get(id).copied()));
        peers.filter(|peer| peer.online || peer.state == PeerState::Trusted).collect()
    }

    /// A device by its key: one that is or was trusted, or is in sight under its id.
    pub fn view(&self, key: &PublicKey) -> Option<Peer> {
        let (seen, trust) = (self.snapshot(), self.trust.snapshot());
        let (sighting, device) = (seen.get(&key.device_id()), trust.get(key));
        (sighting.is_some() || device.is_some()).then(|| merge(sighting, device))
    }

    /// The device that `wanted` names: an id, a unique prefix of one, or a name. Anybody can announce any name: to act
    /// on a trusted device, look it up in the snapshot of trust.
    pub fn find(&self, wanted: &str) -> Result<Peer, ApiError> {
        let named = |peer: Peer| (PeerRef { id: peer.id, name: peer.name.clone() }, peer);
        trust::pick(wanted, self.peers().into_iter().map(named))
    }

    /// A device proved who it is at `address`.
    pub fn reached(&self, key: PublicKey, address: SocketAddr, contact: Contact) {
        self.tell(Command::Reached { key, address, contact });
    }

    /// A device answered at none of its addresses.
    pub fn unreachable(&self, id: DeviceId) {
        self.tell(Command::Unreachable(id));
    }

    /// Where others on the LAN can reach this host, for QR codes and screens.
    pub fn own_addresses(&self) -> Vec<IpAddr> {
        Lan::read(&self.filter).own_addresses()
    }

    /// On which port this device gives out payloads of sharing codes, if it does. It is announced.
    pub fn offer_hello(&self, port: Option<u16>) {
        self.hello.send_if_modified(|old| std::mem::replace(old, port) != port);
    }

    /// Tells the network that this device leaves. Nothing is announced from then on.
    pub async fn goodbye(&self) {
        let said = async {
            let (done, said) = oneshot::channel();
            if self.commands.send(Command::Goodbye(done)).await.is_ok() {
                let _ = said.await;
            }
        };
        let _ = tokio::time::timeout(GOODBYE, said).await;
    }

    /// The devices that somebody should try to reach; for the prober, once.
    pub(crate) fn take_probes(&self) -> Option<mpsc::Receiver<PublicKey>> {
        self.probes.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    fn tell(&self, command: Command) {
        if self.commands.try_send(command).is_err() {
            tracing::debug!("discovery has too much to do, or has ended");
        }
    }
}

/// Devices by id; a trusted one hides a revoked one.
fn by_id(trust: &trust::Snapshot) -> impl Iterator<Item = (DeviceId, &Device)> {
    let of = |trusted| trust.devices.values().filter(move |device| device.is_trusted() == trusted);
    of(false).chain(of(true)).map(|device| (device.key.device_id(), &**device))
}

/// A device as the local door shows it: what was seen of it, and what is known of it.
fn merge(sighting: Option<&Sighting>, device: Option<&Device>) -> Peer {
    let online = sighting.is_some_and(|sighting| sighting.online);
    let mut addresses: Vec<String> =
        sighting.into_iter().flat_map(|sighting| &sighting.addresses).map(SocketAddr::to_string).collect();
    let Some(device) = device else {
        return Peer {
            id: sighting.map_or(DeviceId([0; 8]), |sighting| sighting.id),
            name: sighting.map_or_else(String::new, |sighting| sighting.name.clone()),
            state: PeerState::Discovered,
            online,
            addresses,
            relation: None,
            public_key: None,
            paired_at: None,
            last_seen: None,
            revoked_at: None,
            policy: None,
        };
    };
    for address in device.addresses.iter().map(SocketAddr::to_string) {
        if !addresses.contains(&address) {
            addresses.push(address);
        }
    }
    device.view(online, addresses)
}

/// What the task owns.
struct State {
    card: Card,
    /// What is to be announced in it.
    hello: watch::Receiver<Option<u16>>,
    /// Whether the configuration wants mDNS, and nobody has said goodbye yet.
    enabled: bool,
    filter: Arc<Filter>,
    lan: Lan,
    lan_read: Instant,
    /// Both clocks at the last tick.
    clocks: (Instant, SystemTime),
    mdns: Option<Mdns>,
    /// Whether it was said that mDNS cannot run.
    warned: bool,
    table: Table,
    started: Instant,
    trust: Trust,
    events: Events,
    publish: watch::Sender<Arc<Snapshot>>,
    probes: mpsc::Sender<PublicKey>,
}

impl State {
    async fn run(mut self, mut inbox: mpsc::Receiver<Command>, stop: CancellationToken) {
        self.start_mdns();
        let mut trust = self.trust.watch();
        let mut tick = Instant::now() + pause();
        loop {
            self.send_probes();
            let hint = self.table.next_due().map(|ms| self.started + Duration::from_millis(ms));
            // What is due and was not sent found no room.
            let full = hint.is_some_and(|hint| hint <= Instant::now()) && self.probes.capacity() == 0;
            let wake = hint.filter(|_| !full).map_or(tick, |hint| hint.min(tick));
            let probes = self.probes.clone();
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                Ok(()) = trust.changed() => {
                    let snapshot = trust.borrow_and_update().clone();
                    self.table.trust_changed(snapshot, self.now_ms());
                }
                Ok(()) = self.hello.changed() => {
                    self.card.hello = *self.hello.borrow_and_update();
                    self.card.changes = self.card.changes.wrapping_add(1);
                    self.announce();
                }
                Some(command) = inbox.recv() => self.command(command).await,
                events = next(&mut self.mdns) => self.network(events).await,
                Ok(_) = probes.reserve(), if full => {}
                () = tokio::time::sleep_until(wake) => {}
            }
            if Instant::now() >= tick {
                self.tick().await;
                tick = Instant::now() + pause();
            }
            self.tell();
        }
        self.stop_mdns().await;
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    async fn command(&mut self, command: Command) {
        match command {
            Command::Reached { key, address, contact } => {
                self.table.reached(&key, address, contact, self.now_ms());
                if contact == Contact::Answered
                    && let Err(error) = self.trust.seen(key, address).await
                {
                    tracing::warn!(%error, "cannot note where a device was reached");
                }
            }
            Command::Unreachable(id) => {
                self.table.unreachable(id, self.now_ms());
                if let Some(mdns) = &self.mdns {
                    self.table.instances(id).for_each(|instance| mdns.verify(instance));
                }
            }
            Command::Goodbye(done) => {
                self.enabled = false;
                self.stop_mdns().await;
                let _ = done.send(());
            }
        }
    }

    async fn network(&mut self, events: Option<Vec<Event>>) {
        let Some(events) = events else {
            tracing::info!("mDNS ended, or told more than could be followed; it starts anew with the next tick");
            return self.stop_mdns().await;
        };
        if self.lan_read.elapsed() > LAN_AGE {
            self.read_lan();
        }
        let now_ms = self.now_ms();
        for event in events {
            match event {
                Event::Resolved(service) => {
                    if let Some(announcement) = mdns::read(&service, &self.card, &self.lan) {
                        self.table.announced(announcement, now_ms);
                    }
                }
                Event::Removed(instance) => self.table.removed(&instance, now_ms),
            }
        }
    }

    async fn tick(&mut self) {
        let (instant, wall) = std::mem::replace(&mut self.clocks, (Instant::now(), SystemTime::now()));
        let slept = wall.elapsed().unwrap_or_default().saturating_sub(instant.elapsed()) > SLEPT;
        if self.read_lan() || slept {
            self.table.look_again(self.now_ms());
        }
        let flooded = match &self.mdns {
            Some(mdns) => mdns.is_flooded().await,
            None => false,
        };
        if slept || flooded {
            tracing::info!(slept, flooded, "starting mDNS anew");
            self.stop_mdns().await;
        }
        if self.mdns.is_none() {
            self.start_mdns();
        }
        self.table.tick(self.now_ms());
    }

    /// Looks at the interfaces again, and says whether they changed.
    fn read_lan(&mut self) -> bool {
        let old = std::mem::replace(&mut self.lan, Lan::read(&self.filter));
        self.lan_read = Instant::now();
        old != self.lan
    }

    /// Announces the card as it is now.
    fn announce(&self) {
        let Some(Err(error)) = self.mdns.as_ref().map(|mdns| mdns.announce(&self.card)) else { return };
        tracing::warn!(%error, "mDNS does not take what is to be announced of this device");
    }

    fn start_mdns(&mut self) {
        if !self.enabled {
            return;
        }
        match Mdns::start(&self.card, &self.filter) {
            Ok(mdns) => {
                self.mdns = Some(mdns);
                self.warned = false;
                self.table.relist(self.now_ms());
            }
            Err(error) if !self.warned => {
                self.warned = true;
                tracing::warn!(
                    %error,
                    "mDNS cannot run: this device is not announced, and only trusted devices are found. \
                     Pair with others by their address: kithctl pair HOST"
                );
            }
            Err(_) => {}
        }
    }

    async fn stop_mdns(&mut self) {
        if let Some(mdns) = self.mdns.take() {
            mdns.stop().await;
        }
    }

    fn send_probes(&mut self) {
        let room = self.probes.capacity();
        for key in self.table.due(self.now_ms(), room) {
            // There is room, unless the prober has ended.
            let _ = self.probes.try_send(key);
        }
    }

    fn tell(&mut self) {
        for fact in self.table.facts() {
            self.events.publish(&fact);
        }
        if let Some(snapshot) = self.table.news() {
            self.publish.send_replace(Arc::new(snapshot));
        }
    }
}

async fn next(mdns: &mut Option<Mdns>) -> Option<Vec<Event>> {
    match mdns {
        Some(mdns) => mdns.next().await,
        None => std::future::pending().await,
    }
}

fn pause() -> Duration {
    let jitter = getrandom::u64().unwrap_or_default() % (2 * JITTER_MS);
    Duration::from_millis(TICK_MS - JITTER_MS + jitter)
}

#[cfg(test)]
pub(crate) mod tests;
