//! Everything that is known of other devices at one moment, and the facts that follow from what is learnt. A pure state
//! machine: it reads no clock, sends nothing, asks nobody.
//!
//! An announcement is anybody's word. A device that is not trusted is what its announcements say, and is lost with the
//! last of them. A trusted one is online while the last try to reach it succeeded: whatever is announced of it, or said
//! in its name, only makes this device look sooner.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;

use kith_proto::control::event::Fact;
use kith_proto::control::types::{Peer, PeerState};
use kith_proto::id::{DeviceId, PublicKey};
use kith_proto::limits;

use super::mdns::Announcement;
use super::{Contact, Sighting, Snapshot, merge};
use crate::trust::{self, Device};

/// The time between two ticks.
pub const TICK_MS: u64 = 30_000;
/// A device that was reached is tried again after this.
const VERIFY_MS: u64 = 60_000;
/// The longest pause between two tries to reach a device that is away.
const RETRY_MAX_MS: u64 = 300_000;
/// Tries after which the pause begins to grow: five minutes of them.
const EAGER_TRIES: u32 = 10;
/// The shortest time between two tries, whatever is heard of the device.
const HINT_GAP_MS: u64 = 1_000;
/// A device that cannot be reached any more gets another chance after this: packets are lost.
const SECOND_CHANCE_MS: u64 = 3_000;
/// A device that was just paired needs a moment to write it down, too.
const PAIRED_GRACE_MS: u64 = 1_000;
/// An address that is not announced any more is kept for this long: stale records come back.
const STALE_MS: u64 = 600_000;
/// How long an announcement may take to be repeated after the responder started anew.
const RELIST_MS: u64 = 10_000;
/// Instances that may claim to be one device. There is one of it, and perhaps another that is fading.
const INSTANCES: usize = 4;

/// The state. Times are milliseconds of a clock that never goes back.
pub struct Table {
    own: DeviceId,
    trust: Arc<trust::Snapshot>,
    /// The key behind an id; a trusted one wins.
    keys: BTreeMap<DeviceId, PublicKey>,
    entries: BTreeMap<DeviceId, Entry>,
    /// Which device an instance claims to be.
    owners: BTreeMap<String, DeviceId>,
    facts: Vec<Fact>,
    /// What others read of all entries, and whether it is not what it was when somebody asked.
    seen: Snapshot,
    changed: bool,
}

/// A device: trusted ones always have an entry, others while they are announced.
#[derive(Default)]
struct Entry {
    /// The announcements of it, oldest first. The oldest one's name counts.
    instances: Vec<Instance>,
    /// Where it may be, newest first.
    places: Vec<Place>,
    /// Trusted devices: the last try to reach it succeeded.
    reached: bool,
    /// When something new was last heard of it.
    news_ms: u64,
    check: Check,
    /// What the last fact said.
    shown: Option<Peer>,
}

struct Instance {
    fullname: String,
    name: String,
    hello: Option<u16>,
    /// Not heard of since the responder started anew.
    unlisted_ms: Option<u64>,
}

struct Place {
    address: SocketAddr,
    /// The instance that claims it; none where the device itself was met.
    instance: Option<String>,
    /// Since when nobody claims it.
    stale_ms: Option<u64>,
    /// The device itself was there: no claim pushes it out.
    met: bool,
}

/// When a trusted device is to be tried.
#[derive(Default)]
struct Check {
    /// By the calendar: looked at when the clock ticks, so that many devices cost one wake-up.
    due_ms: u64,
    /// Because of something that was heard.
    hint_ms: Option<u64>,
    /// When the last try began.
    began_ms: Option<u64>,
    /// Tries in a row that failed.
    misses: u32,
}

impl Table {
    /// Knows the trusted devices, and wants to see all of them.
    pub fn new(own: DeviceId, trust: Arc<trust::Snapshot>, now_ms: u64) -> Self {
        let mut table = Self {
            own,
            trust: Arc::default(),
            keys: BTreeMap::new(),
            entries: BTreeMap::new(),
            owners: BTreeMap::new(),
            facts: Vec::new(),
            seen: Snapshot::default(),
            changed: false,
        };
        table.trust_changed(trust, now_ms);
        table.facts.clear();
        table.look_again(now_ms);
        table
    }

    /// The facts since the last call.
    pub fn facts(&mut self) -> Vec<Fact> {
        std::mem::take(&mut self.facts)
    }

    /// The state for others to read.
    pub fn snapshot(&self) -> &Snapshot {
        &self.seen
    }

    /// The same, if it changed since the last call.
    pub fn news(&mut self) -> Option<Snapshot> {
        std::mem::take(&mut self.changed).then(|| self.seen.clone())
    }

    /// The instances that claim to be this device.
    pub fn instances(&self, id: DeviceId) -> impl Iterator<Item = &str> {
        self.entries.get(&id).into_iter().flat_map(|entry| entry.instances.iter().map(|i| i.fullname.as_str()))
    }

    /// Somebody announced a device.
    pub fn announced(&mut self, announcement: Announcement, now_ms: u64) {
        let Announcement { instance, id, name, addresses, hello } = announcement;
        if id == self.own {
            return;
        }
        if self.owners.get(&instance).is_some_and(|owner| *owner != id) {
            self.removed(&instance, now_ms);
        }
        if !self.entries.contains_key(&id) {
            self.make_room();
        }
        let trusted = self.is_trusted(&id);
        let entry = self.entries.entry(id).or_default();
        if let Some(known) = entry.instances.iter_mut().find(|known| known.fullname == instance) {
            known.name = name;
            known.hello = hello;
            known.unlisted_ms = None;
        } else if entry.instances.len() < INSTANCES {
            entry.instances.push(Instance { fullname: instance.clone(), name, hello, unlisted_ms: None });
            self.owners.insert(instance.clone(), id);
        } else {
            return;
        }
        entry.news_ms = now_ms;
        entry.claim(&instance, &addresses, now_ms);
        if trusted && !entry.reached {
            entry.check.hint(now_ms, now_ms);
        }
        self.show(id);
    }

    /// An instance said goodbye, or faded. Anybody can say so.
    pub fn removed(&mut self, instance: &str, now_ms: u64) {
        let Some(id) = self.owners.remove(instance) else { return };
        let trusted = self.is_trusted(&id);
        let Some(entry) = self.entries.get_mut(&id) else { return };
        entry.instances.retain(|known| known.fullname != instance);
        entry.claim(instance, &[], now_ms);
        if trusted && entry.instances.is_empty() {
            entry.check.hint(now_ms, now_ms);
        }
        self.show(id);
    }

    /// A device proved who it is at `address`. One that called need not be reachable: firewalls. So its way back is
    /// tried.
    pub fn reached(&mut self, key: &PublicKey, address: SocketAddr, contact: Contact, now_ms: u64) {
        let id = key.device_id();
        let Some(device) = self.trust.trusted(key) else { return };
        let Some(entry) = self.entries.get_mut(&id).filter(|_| self.keys.get(&id) == Some(key)) else { return };
        match contact {
            Contact::Answered => {
                entry.met(address, now_ms);
                entry.reached = true;
            }
            Contact::Listens(port) => {
                entry.met(SocketAddr::new(address.ip(), port), now_ms);
            }
            Contact::Called if !entry.places.iter().any(|place| place.address.ip() == address.ip()) => {
                let known = entry.places.iter().map(|place| &place.address).chain(&device.addresses);
                let port = known.map(SocketAddr::port).next().unwrap_or(id.preferred_port());
                entry.met(SocketAddr::new(address.ip(), port), now_ms);
            }
            Contact::Called => {}
        }
        if entry.reached {
            entry.check.succeeded(now_ms);
        } else {
            entry.check.hint(now_ms, now_ms);
        }
        self.show(id);
    }

    /// A trusted device answered at none of its addresses.
    pub fn unreachable(&mut self, id: DeviceId, now_ms: u64) {
        if !self.is_trusted(&id) {
            return;
        }
        let Some(entry) = self.entries.get_mut(&id) else { return };
        entry.check.failed(now_ms);
        if std::mem::take(&mut entry.reached) {
            entry.check.hint(now_ms + SECOND_CHANCE_MS, now_ms);
        }
        self.show(id);
    }

    /// Trust changed: devices were paired, revoked, renamed, or given another policy.
    pub fn trust_changed(&mut self, trust: Arc<trust::Snapshot>, now_ms: u64) {
        let old = std::mem::replace(&mut self.trust, trust);
        // Of thousands of devices a change is mostly about one: the others are the very same as before.
        let is_same = |(key, device): &(&PublicKey, &Arc<Device>)| {
            old.devices.get(*key).is_some_and(|old| Arc::ptr_eq(old, device))
        };
        let changed: Vec<_> = self.trust.devices.iter().filter(|it| !is_same(it)).map(|(_, it)| it.clone()).collect();
        let gone = old.devices.keys().filter(|key| !self.trust.devices.contains_key(*key));
        let gone: Vec<_> = gone.map(PublicKey::device_id).collect();
        self.keys.retain(|id, _| !gone.contains(id));
        let mut concerned = BTreeSet::from_iter(gone);
        for device in &changed {
            let id = device.key.device_id();
            concerned.insert(id);
            if device.is_trusted() || self.keys.get(&id).is_none_or(|key| self.trust.trusted(key).is_none()) {
                self.keys.insert(id, device.key);
            }
        }
        for id in changed.iter().filter(|device| device.is_trusted()).map(|device| device.key.device_id()) {
            let entry = self.entries.entry(id).or_default();
            if entry.shown.as_ref().is_none_or(|shown| shown.state != PeerState::Trusted) {
                entry.reached = entry.shown.as_ref().is_some_and(|shown| shown.online);
                entry.check = Check::default();
                entry.check.hint(now_ms + PAIRED_GRACE_MS, now_ms);
            }
        }
        for id in concerned {
            self.show(id);
        }
    }

    /// This host is on another network, or slept: every trusted device is tried again.
    pub fn look_again(&mut self, now_ms: u64) {
        for device in self.trust.devices.values().filter(|device| device.is_trusted()) {
            if let Some(entry) = self.entries.get_mut(&device.key.device_id()) {
                entry.check.misses = 0;
                entry.check.hint(now_ms, now_ms);
            }
        }
    }

    /// The responder started anew and knows nothing: who is there will be announced again.
    pub fn relist(&mut self, now_ms: u64) {
        for instance in self.entries.values_mut().flat_map(|entry| &mut entry.instances) {
            instance.unlisted_ms = Some(now_ms);
        }
    }

    /// Time passed.
    pub fn tick(&mut self, now_ms: u64) {
        let over = |since: Option<u64>, patience| since.is_some_and(|since| now_ms.saturating_sub(since) >= patience);
        let instances = self.entries.values().flat_map(|entry| &entry.instances);
        let faded: Vec<_> = instances.filter(|i| over(i.unlisted_ms, RELIST_MS)).map(|i| i.fullname.clone()).collect();
        for instance in faded {
            self.removed(&instance, now_ms);
        }
        for id in self.entries.keys().copied().collect::<Vec<_>>() {
            let trusted = self.is_trusted(&id);
            let Some(entry) = self.entries.get_mut(&id) else { continue };
            let places = entry.places.len();
            entry.places.retain(|place| !over(place.stale_ms, STALE_MS));
            let changed = entry.places.len() != places;
            // What falls due before the middle of the next pause is done now.
            if trusted && entry.check.due_ms <= now_ms + TICK_MS / 2 {
                entry.check.hint(now_ms, now_ms);
            }
            if changed {
                self.show(id);
            }
        }
    }

    /// The devices to try now, at most `room` of them: who asks is expected to try them. Those that are announced or were
    /// reached before come first, then those that have waited longest.
    pub fn due(&mut self, now_ms: u64, room: usize) -> Vec<PublicKey> {
        let mut due = Vec::new();
        for (id, entry) in &mut self.entries {
            let Some(at) = entry.check.hint_ms.filter(|at| *at <= now_ms) else { continue };
            let device = self.keys.get(id).and_then(|key| self.trust.trusted(key));
            // Without an address there is nothing to try, until one is announced.
            match device.filter(|device| entry.places.len() + device.addresses.len() > 0) {
                Some(device) => due.push((entry.instances.is_empty() && !entry.reached, at, *id, device.key)),
                None => entry.check.hint_ms = None,
            }
        }
        due.sort_unstable();
        due.truncate(room);
        for (_, _, id, _) in &due {
            if let Some(entry) = self.entries.get_mut(id) {
                entry.check.hint_ms = None;
                entry.check.began(now_ms);
            }
        }
        due.into_iter().map(|(.., key)| key).collect()
    }

    /// When [`Table::due`] has something next, if nothing happens until then.
    pub fn next_due(&self) -> Option<u64> {
        self.entries.values().filter_map(|entry| entry.check.hint_ms).min()
    }

    fn device(&self, id: &DeviceId) -> Option<&Device> {
        self.trust.get(self.keys.get(id)?)
    }

    fn is_trusted(&self, id: &DeviceId) -> bool {
        self.device(id).is_some_and(Device::is_trusted)
    }

    /// Lets go of the devices that were not heard of for the longest time, so that one more finds room. Trusted ones
    /// do not count.
    fn make_room(&mut self) {
        let strangers = || self.entries.iter().filter(|(id, _)| !self.is_trusted(id));
        if strangers().count() < limits::DISCOVERED_PEERS {
            return;
        }
        let Some(id) = strangers().min_by_key(|(_, entry)| entry.news_ms).map(|(id, _)| *id) else { return };
        for instance in self.entries.get_mut(&id).map(|entry| std::mem::take(&mut entry.instances)).unwrap_or_default()
        {
            self.owners.remove(&instance.fullname);
        }
        self.show(id);
    }

    /// Publishes what changed of a device, and forgets it when there is nothing left to remember.
    fn show(&mut self, id: DeviceId) {
        let device = self.device(&id).cloned();
        let Some(entry) = self.entries.get_mut(&id) else { return };
        let sighting = entry.sighting(id, device.as_ref());
        let peer = merge(Some(&sighting), device.as_ref());
        let old = entry.shown.replace(peer.clone());
        let forget = peer.state != PeerState::Trusted && !peer.online;
        self.facts.extend(fact(old.as_ref(), peer));
        if forget {
            self.entries.remove(&id);
            self.changed |= self.seen.peers.remove(&id).is_some();
        } else if self.seen.peers.get(&id).is_none_or(|seen| **seen != sighting) {
            self.seen.peers.insert(id, Arc::new(sighting));
            self.changed = true;
        }
    }
}

/// What happened between two states of a device. Each fact carries the whole state, so one is enough.
fn fact(old: Option<&Peer>, new: Peer) -> Option<Fact> {
    let Some(old) = old else {
        return match new.state {
            PeerState::Trusted => Some(Fact::PeerPaired(new)),
            _ if new.online => Some(Fact::PeerDiscovered(new)),
            _ => None,
        };
    };
    match new.state {
        PeerState::Trusted if old.state != new.state => Some(Fact::PeerPaired(new)),
        PeerState::Revoked if old.state != new.state => Some(Fact::PeerRevoked(new)),
        _ if new.online && !old.online => Some(Fact::PeerDiscovered(new)),
        _ if old.online && !new.online => Some(Fact::PeerLost(new)),
        _ => (essence(old) != essence(&new)).then_some(Fact::PeerUpdated(new)),
    }
}

/// A device without what changes all the time: when it was last seen, and which of its addresses is the newest.
fn essence(peer: &Peer) -> Peer {
    let mut peer = peer.clone();
    peer.last_seen = None;
    peer.addresses.sort();
    peer
}

impl Entry {
    fn sighting(&self, id: DeviceId, device: Option<&Device>) -> Sighting {
        let announced = self.instances.first().map(|instance| instance.name.clone());
        let last_shown = || self.shown.as_ref().map(|peer| peer.name.clone());
        let known = || device.map(|device| device.name.clone());
        Sighting {
            id,
            name: announced.or_else(known).or_else(last_shown).unwrap_or_default(),
            addresses: self.places.iter().map(|place| place.address).collect(),
            hello: self.instances.iter().find_map(|instance| instance.hello),
            online: if device.is_some_and(Device::is_trusted) { self.reached } else { !self.instances.is_empty() },
        }
    }

    /// An instance claims these addresses now, and those it claimed before no more. It cannot push out what another
    /// one claims: somebody who announces a device a second time only adds to what is known of it.
    fn claim(&mut self, instance: &str, addresses: &[SocketAddr], now_ms: u64) {
        for place in self.places.iter_mut().filter(|place| place.instance.as_deref() == Some(instance)) {
            place.stale_ms = match addresses.contains(&place.address) {
                true => None,
                false => place.stale_ms.or(Some(now_ms)),
            };
        }
        // Backwards, so that the first one ends up in front.
        for address in addresses.iter().rev() {
            if let Some(place) = self.places.iter_mut().find(|place| place.address == *address) {
                if place.stale_ms.is_some() {
                    place.instance = Some(instance.to_owned());
                    place.stale_ms = None;
                }
                continue;
            }
            if self.places.len() == limits::PEER_ADDRESSES {
                let stale = |place: &Place| place.stale_ms.is_some() && !place.met;
                let Some(oldest) = self.places.iter().rposition(stale) else { return };
                self.places.remove(oldest);
            }
            let place = Place { address: *address, instance: Some(instance.to_owned()), stale_ms: None, met: false };
            self.places.insert(0, place);
        }
    }

    /// The device itself was there: the address is as good as new, and nobody's claim keeps it out.
    fn met(&mut self, address: SocketAddr, now_ms: u64) {
        let place = match self.places.iter().position(|place| place.address == address) {
            Some(at) => {
                let mut place = self.places.remove(at);
                place.stale_ms = place.stale_ms.map(|_| now_ms);
                place.met = true;
                place
            }
            None => Place { address, instance: None, stale_ms: Some(now_ms), met: true },
        };
        self.places.insert(0, place);
        self.places.truncate(limits::PEER_ADDRESSES);
    }
}

impl Check {
    /// Something was heard of the device: try it at `at`, but not too soon after the last try.
    fn hint(&mut self, at: u64, now_ms: u64) {
        let at = at.max(self.began_ms.map_or(now_ms, |began| began + HINT_GAP_MS));
        self.hint_ms = Some(self.hint_ms.map_or(at, |hint| hint.min(at)));
    }

    fn began(&mut self, now_ms: u64) {
        self.began_ms = Some(now_ms);
        self.due_ms = now_ms + TICK_MS;
    }

    fn succeeded(&mut self, now_ms: u64) {
        self.hint_ms = None;
        self.misses = 0;
        self.due_ms = now_ms + VERIFY_MS;
    }

    fn failed(&mut self, now_ms: u64) {
        self.misses = self.misses.saturating_add(1);
        let pause = TICK_MS * u64::from(1 + self.misses / EAGER_TRIES);
        self.due_ms = now_ms + pause.min(RETRY_MAX_MS);
    }
}

#[cfg(test)]
mod tests;
