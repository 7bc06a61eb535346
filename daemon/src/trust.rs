//! Which devices are trusted, by their full keys. The snapshot lies in a `watch`, so that the TLS verifier can look a
//! key up without asking anybody.
//!
//! ```text
//! changes   trust as it changes within a transaction, perhaps beside other rooms' rows
//! ```

mod changes;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use kith_proto::control::types::{Peer, PeerRef, PeerState, Policy, Relation};
use kith_proto::control::{ApiError, Code};
use kith_proto::id::PublicKey;
use kith_proto::{limits, text};
use rusqlite::Transaction;
use tokio::sync::watch;

use crate::clock;
use crate::files;
use crate::store::{self, Store};
use changes::bounded;

pub use changes::{Admitted, Changes, shown_name};

/// How often the time of the last contact is written down at the most: often enough for a person, seldom enough for a
/// disk.
const SEEN_EVERY_MS: i64 = 600_000;

/// A device that is or was trusted.
#[derive(Debug, Clone)]
pub struct Device {
    /// The whole identity.
    pub key: PublicKey,
    /// As the device calls itself.
    pub name: String,
    /// As this device calls it.
    pub our_name: Option<String>,
    /// Whose device it is.
    pub relation: Relation,
    /// What its offers may do.
    pub policy: Policy,
    /// Where it proved who it is, newest first.
    pub addresses: Vec<SocketAddr>,
    /// When it was paired.
    pub paired_ms: i64,
    /// When it last proved who it is.
    pub last_seen_ms: Option<i64>,
    /// When it was revoked.
    pub revoked_ms: Option<i64>,
    /// It came by a code while this daemon ran, and calls by itself: nobody has to dial it first. Not written down.
    pub calls: bool,
}

impl Device {
    /// The name that people here know it by.
    pub fn shown_name(&self) -> &str {
        self.our_name.as_deref().unwrap_or(&self.name)
    }

    /// Whether it is trusted now.
    pub fn is_trusted(&self) -> bool {
        self.revoked_ms.is_none()
    }

    /// Id and name.
    pub fn as_ref(&self) -> PeerRef {
        PeerRef { id: self.key.device_id(), name: self.shown_name().to_owned() }
    }

    /// The device as the local door shows it; `addresses` are those that discovery adds.
    pub fn view(&self, online: bool, addresses: Vec<String>) -> Peer {
        Peer {
            id: self.key.device_id(),
            name: self.shown_name().to_owned(),
            state: if self.is_trusted() { PeerState::Trusted } else { PeerState::Revoked },
            online,
            addresses,
            relation: Some(self.relation),
            public_key: Some(self.key.to_string()),
            paired_at: Some(clock::rfc3339(self.paired_ms)),
            last_seen: self.last_seen_ms.map(clock::rfc3339),
            revoked_at: self.revoked_ms.map(clock::rfc3339),
            policy: Some(self.policy.clone()),
        }
    }
}

/// Everything that is known of trust at one moment.
#[derive(Debug, Clone, Default)]
pub struct Snapshot {
    /// By key. A change replaces those that it is about, and no others.
    pub devices: BTreeMap<PublicKey, Arc<Device>>,
    /// Counts the changes; another one means another snapshot.
    generation: i64,
}

impl Snapshot {
    /// The device with this key, if it is or was trusted.
    pub fn get(&self, key: &PublicKey) -> Option<&Device> {
        self.devices.get(key).map(|device| &**device)
    }

    /// The device with this key, if it is trusted now.
    pub fn trusted(&self, key: &PublicKey) -> Option<&Device> {
        self.get(key).filter(|device| device.is_trusted())
    }

    /// The device that `wanted` names: an id, a unique prefix of one, or a name. Trusted ones win over revoked ones.
    pub fn find(&self, wanted: &str) -> Result<&Device, ApiError> {
        let all = || self.devices.values().map(|device| &**device);
        let trusted = all().filter(|device| device.is_trusted());
        match pick(wanted, trusted.map(|device| (device.as_ref(), device))) {
            Err(error) if error.code == Code::PeerNotFound => {
                let revoked = all().filter(|device| !device.is_trusted());
                pick(wanted, revoked.map(|device| (device.as_ref(), device)))
            }
            found => found,
        }
    }

    /// Another trusted device of the same name.
    pub fn same_name(&self, key: &PublicKey, name: &str) -> Option<&Device> {
        let name = name.to_lowercase();
        let mut trusted = self.devices.values().map(|device| &**device).filter(|device| device.is_trusted());
        trusted.find(|device| device.key != *key && device.shown_name().to_lowercase() == name)
    }
}

/// The one of `candidates` that `wanted` names. Full ids go before names, names before prefixes of ids.
pub fn pick<T>(wanted: &str, candidates: impl Iterator<Item = (PeerRef, T)>) -> Result<T, ApiError> {
    let mut by_name = Vec::new();
    let mut by_prefix = Vec::new();
    for (peer, value) in candidates {
        let id = peer.id.to_string();
        if id == wanted {
            return Ok(value);
        }
        if peer.name.to_lowercase() == wanted.to_lowercase() {
            by_name.push((peer, value));
        } else if !wanted.is_empty() && id.starts_with(wanted) {
            by_prefix.push((peer, value));
        }
    }
    let mut found = if by_name.is_empty() { by_prefix } else { by_name };
    match found.len() {
        0 => Err(ApiError::new(Code::PeerNotFound, format!("no device is called {}", text::printable(wanted)))
            .hint("kithctl peers lists the devices that are nearby or trusted")),
        1 => Ok(found.remove(0).1),
        _ => {
            let list: Vec<_> =
                found.iter().map(|(peer, _)| format!("{} ({})", text::printable(&peer.name), peer.id)).collect();
            let message = format!("{} fits more than one device: {}", text::printable(wanted), list.join(", "));
            Err(ApiError::new(Code::PeerAmbiguous, message).hint("use the id, or more of it"))
        }
    }
}

/// The trust in other devices.
#[derive(Clone)]
pub struct Trust {
    store: Store,
    snapshot: watch::Sender<Arc<Snapshot>>,
    /// Remembers the generation outside the database; one writes at a time.
    witness: Arc<Mutex<PathBuf>>,
    restored: bool,
}

impl Trust {
    /// Reads what the database knows. `witness` is the file that tells a restored backup (D35).
    pub async fn open(store: Store, witness: PathBuf) -> Result<Self, store::Error> {
        let snapshot = store.read(changes::load).await?;
        let seen: Option<i64> = std::fs::read_to_string(&witness).ok().and_then(|text| text.trim().parse().ok());
        let restored = seen.is_some_and(|seen| seen > snapshot.generation);
        if restored {
            tracing::warn!(
                "the database is older than this device's last change of trust: it was restored from a backup, and \
                 devices revoked since then are trusted again. Look at `kithctl trust list`"
            );
        }
        Ok(Self {
            store,
            snapshot: watch::Sender::new(Arc::new(snapshot)),
            witness: Arc::new(Mutex::new(witness)),
            restored,
        })
    }

    /// The state now.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.snapshot.borrow().clone()
    }

    /// The state now and whenever it changes.
    pub fn watch(&self) -> watch::Receiver<Arc<Snapshot>> {
        self.snapshot.subscribe()
    }

    /// Whether the database went back in time before this start (D35).
    pub fn restored(&self) -> bool {
        self.restored
    }

    /// One transaction of the caller's, in which trust may change beside what else belongs together. When this returns,
    /// or anybody else's next transaction begins, the snapshot says what is written; nobody has to wait for that.
    pub async fn write<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Transaction<'_>, &mut Changes) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, store::Error> {
        let snapshot = self.snapshot.clone();
        let work = move |tx: &Transaction<'_>| {
            let mut changes = Changes::default();
            let result = work(tx, &mut changes)?;
            let changed = changes.settle(tx)?;
            Ok((result, changed))
        };
        // On the thread of the database, in the order of the commits, also where nobody waits for it any more.
        let publish = move |(result, changed): (T, Option<changes::Changed>)| {
            let anything = changed.is_some();
            if let Some(changed) = changed {
                let new = changed.applied_to(&snapshot.borrow());
                snapshot.send_replace(Arc::new(new));
            }
            (result, anything)
        };
        let (result, changed) = self.store.write_then(work, publish).await?;
        if changed {
            self.note_generation();
        }
        Ok(result)
    }

    fn note_generation(&self) {
        let witness = self.witness.lock().unwrap_or_else(PoisonError::into_inner);
        let generation = self.snapshot().generation;
        if let Err(error) = files::write_atomic(&witness, format!("{generation}\n").as_bytes(), 0o600) {
            tracing::warn!(%error, "cannot note the change of trust outside the database");
        }
    }

    /// Trusts a device from now on. Pairing again with the same key refreshes the name and keeps the policy.
    pub async fn pair(
        &self,
        key: PublicKey,
        name: String,
        relation: Relation,
        address: Option<SocketAddr>,
    ) -> Result<Arc<Snapshot>, store::Error> {
        let now = clock::now_ms();
        self.write(move |tx, changes| changes.pair(tx, key, name, relation, address, now)).await?;
        Ok(self.snapshot())
    }

    /// Ends the trust in a device and keeps a tombstone.
    pub async fn revoke(&self, key: PublicKey) -> Result<Arc<Snapshot>, store::Error> {
        let now = clock::now_ms();
        self.write(move |tx, changes| changes.revoke(tx, &key, now)).await?;
        Ok(self.snapshot())
    }

    /// Gives a device a name of our own; an empty one goes back to its own.
    pub async fn rename(&self, key: PublicKey, name: &str) -> Result<Arc<Snapshot>, store::Error> {
        let name = (!name.trim().is_empty()).then(|| text::device_name(name, limits::DEVICE_NAME));
        self.edit(key, move |device| device.our_name = name).await
    }

    /// Changes relation and policy.
    pub async fn set_policy(
        &self,
        key: PublicKey,
        relation: Relation,
        policy: Policy,
    ) -> Result<Arc<Snapshot>, store::Error> {
        self.edit(key, move |device| {
            device.relation = relation;
            device.policy = policy;
            device.policy.offers = bounded(relation, device.policy.offers);
        })
        .await
    }

    /// Notes that a device proved who it is at `address`.
    pub async fn seen(&self, key: PublicKey, address: SocketAddr) -> Result<(), store::Error> {
        let now = clock::now_ms();
        let fresh = self.snapshot().trusted(&key).is_none_or(|device| {
            device.addresses.first() == Some(&address)
                && device.last_seen_ms.is_some_and(|seen| now.saturating_sub(seen) < SEEN_EVERY_MS)
        });
        if fresh {
            return Ok(());
        }
        self.edit(key, move |device| {
            device.last_seen_ms = Some(now);
            remember(&mut device.addresses, address);
        })
        .await?;
        Ok(())
    }

    /// Notes the name that a device gives itself now.
    pub async fn renamed_itself(&self, key: PublicKey, name: String) -> Result<(), store::Error> {
        if self.snapshot().trusted(&key).is_some_and(|device| device.name != name) {
            self.edit(key, move |device| device.name = name).await?;
        }
        Ok(())
    }

    async fn edit(
        &self,
        key: PublicKey,
        edit: impl FnOnce(&mut Device) + Send + 'static,
    ) -> Result<Arc<Snapshot>, store::Error> {
        self.write(move |tx, changes| changes.edit(tx, &key, edit)).await?;
        Ok(self.snapshot())
    }
}

/// Newest first, and not too many.
fn remember(addresses: &mut Vec<SocketAddr>, address: SocketAddr) {
    addresses.retain(|old| *old != address);
    addresses.insert(0, address);
    addresses.truncate(limits::PEER_ADDRESSES);
}

#[cfg(test)]
mod tests;
