//! Which devices are trusted, by their full keys. The snapshot lies in a `watch`, so that the TLS verifier can look a
//! key up without asking anybody.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use kith_proto::control::types::{Offers, Peer, PeerRef, PeerState, Policy, Relation};
use kith_proto::control::{ApiError, Code};
use kith_proto::id::PublicKey;
use kith_proto::{limits, text};
use rusqlite::{Connection, OptionalExtension, Transaction, params};
use tokio::sync::watch;

use crate::clock;
use crate::files;
use crate::store::{self, Store};

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
    /// By key.
    pub devices: BTreeMap<PublicKey, Device>,
    /// Counts the changes; another one means another snapshot.
    generation: i64,
}

impl Snapshot {
    /// The device with this key, if it is trusted now.
    pub fn trusted(&self, key: &PublicKey) -> Option<&Device> {
        self.devices.get(key).filter(|device| device.is_trusted())
    }

    /// The device that `wanted` names: an id, a unique prefix of one, or a name. Trusted ones win over revoked ones.
    pub fn find(&self, wanted: &str) -> Result<&Device, ApiError> {
        let trusted = self.devices.values().filter(|device| device.is_trusted());
        match pick(wanted, trusted.map(|device| (device.as_ref(), device))) {
            Err(error) if error.code == Code::PeerNotFound => {
                let revoked = self.devices.values().filter(|device| !device.is_trusted());
                pick(wanted, revoked.map(|device| (device.as_ref(), device)))
            }
            found => found,
        }
    }

    /// Another trusted device of the same name.
    pub fn same_name(&self, key: &PublicKey, name: &str) -> Option<&Device> {
        self.devices.values().find(|device| {
            device.is_trusted() && device.key != *key && device.shown_name().to_lowercase() == name.to_lowercase()
        })
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
    /// Remembers the generation outside the database.
    witness: PathBuf,
    restored: bool,
}

impl Trust {
    /// Reads what the database knows. `witness` is the file that tells a restored backup (D35).
    pub async fn open(store: Store, witness: PathBuf) -> Result<Self, store::Error> {
        let snapshot = store.read(load).await?;
        let seen: Option<i64> = std::fs::read_to_string(&witness).ok().and_then(|text| text.trim().parse().ok());
        let restored = seen.is_some_and(|seen| seen > snapshot.generation);
        if restored {
            tracing::warn!(
                "the database is older than this device's last change of trust: it was restored from a backup, and \
                 devices revoked since then are trusted again. Look at `kithctl trust list`"
            );
        }
        Ok(Self { store, snapshot: watch::Sender::new(Arc::new(snapshot)), witness, restored })
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

    /// Trusts a device from now on. Pairing again with the same key refreshes the name and keeps the policy.
    pub async fn pair(
        &self,
        key: PublicKey,
        name: String,
        relation: Relation,
        address: Option<SocketAddr>,
    ) -> Result<Arc<Snapshot>, store::Error> {
        let now = clock::now_ms();
        self.change(move |tx| {
            let old = load_one(tx, &key)?;
            let again = old.as_ref().is_some_and(Device::is_trusted);
            let mut device = old.filter(Device::is_trusted).unwrap_or(Device {
                key,
                name: String::new(),
                our_name: None,
                relation,
                policy: Policy::default(),
                addresses: Vec::new(),
                paired_ms: now,
                last_seen_ms: None,
                revoked_ms: None,
            });
            device.name = name;
            device.relation = relation;
            device.last_seen_ms = Some(now);
            if again {
                device.policy.offers = bounded(device.relation, device.policy.offers);
            }
            if let Some(address) = address {
                remember(&mut device.addresses, address);
            }
            save(tx, &device)
        })
        .await
    }

    /// Ends the trust in a device and keeps a tombstone.
    pub async fn revoke(&self, key: PublicKey) -> Result<Arc<Snapshot>, store::Error> {
        let now = clock::now_ms();
        self.edit(key, move |device| device.revoked_ms = Some(now)).await
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
        self.change(move |tx| match load_one(tx, &key)? {
            Some(mut device) => {
                edit(&mut device);
                save(tx, &device)
            }
            None => Ok(()),
        })
        .await
    }

    async fn change(
        &self,
        change: impl FnOnce(&Transaction<'_>) -> rusqlite::Result<()> + Send + 'static,
    ) -> Result<Arc<Snapshot>, store::Error> {
        let new = self
            .store
            .write(move |tx| {
                change(tx)?;
                tx.execute("UPDATE trust_generation SET generation = generation + 1", [])?;
                load(tx)
            })
            .await?;
        let new = Arc::new(new);
        // Two changes may come back in either order; the newer one stays.
        self.snapshot.send_if_modified(|old| {
            let newer = new.generation > old.generation;
            if newer {
                *old = new.clone();
            }
            newer
        });
        if let Err(error) = files::write_atomic(&self.witness, format!("{}\n", new.generation).as_bytes(), 0o600) {
            tracing::warn!(%error, "cannot note the change of trust outside the database");
        }
        Ok(new)
    }
}

/// A guest's offers always ask.
fn bounded(relation: Relation, offers: Offers) -> Offers {
    if relation == Relation::Guest && offers == Offers::Auto { Offers::Ask } else { offers }
}

fn remember(addresses: &mut Vec<SocketAddr>, address: SocketAddr) {
    addresses.retain(|old| *old != address);
    addresses.insert(0, address);
    addresses.truncate(limits::PEER_ADDRESSES);
}

const COLUMNS: &str =
    "public_key, name, our_name, relation, policy, addresses, paired_ms, last_seen_ms, revoked_ms FROM device";

fn load(connection: &Connection) -> rusqlite::Result<Snapshot> {
    let mut statement = connection.prepare_cached(&format!("SELECT {COLUMNS}"))?;
    let devices = statement.query_map([], from_row)?.map(|row| row.map(|device| (device.key, device)));
    Ok(Snapshot {
        devices: devices.collect::<Result<_, _>>()?,
        generation: connection.query_row("SELECT generation FROM trust_generation", [], |row| row.get(0))?,
    })
}

fn load_one(connection: &Connection, key: &PublicKey) -> rusqlite::Result<Option<Device>> {
    connection
        .prepare_cached(&format!("SELECT {COLUMNS} WHERE public_key = ?1"))?
        .query_row([&key.0[..]], from_row)
        .optional()
}

fn from_row(row: &rusqlite::Row<'_>) -> rusqlite::Result<Device> {
    let relation: String = row.get(3)?;
    Ok(Device {
        key: PublicKey(row.get(0)?),
        name: row.get(1)?,
        our_name: row.get(2)?,
        relation: if relation == "own" { Relation::Own } else { Relation::Guest },
        policy: store::json(row, 4)?,
        addresses: store::json(row, 5)?,
        paired_ms: row.get(6)?,
        last_seen_ms: row.get(7)?,
        revoked_ms: row.get(8)?,
    })
}

fn save(tx: &Transaction<'_>, device: &Device) -> rusqlite::Result<()> {
    let relation = if device.relation == Relation::Own { "own" } else { "guest" };
    tx.prepare_cached(
        "INSERT OR REPLACE INTO device (public_key, name, our_name, relation, policy, addresses, paired_ms,
                                        last_seen_ms, revoked_ms) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
    )?
    .execute(params![
        &device.key.0[..],
        device.name,
        device.our_name,
        relation,
        store::to_json(&device.policy)?,
        store::to_json(&device.addresses)?,
        device.paired_ms,
        device.last_seen_ms,
        device.revoked_ms
    ])?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn trust(dir: &std::path::Path) -> Trust {
        Trust::open(Store::open(&dir.join("kith.db")).unwrap(), dir.join("generation")).await.unwrap()
    }

    fn key(byte: u8) -> PublicKey {
        PublicKey([byte; 32])
    }

    #[tokio::test]
    async fn revoked_devices_stay_as_tombstones_until_they_pair_again() {
        let dir = tempfile::tempdir().unwrap();
        let trust = trust(dir.path()).await;
        let auto = Policy { offers: Offers::Auto, ..Policy::default() };
        trust.pair(key(1), "nas".to_owned(), Relation::Own, None).await.unwrap();
        trust.set_policy(key(1), Relation::Own, auto.clone()).await.unwrap();
        assert_eq!(trust.snapshot().trusted(&key(1)).unwrap().policy, auto);
        trust.revoke(key(1)).await.unwrap();
        assert!(trust.snapshot().trusted(&key(1)).is_none());
        assert!(trust.snapshot().find("nas").unwrap().revoked_ms.is_some());
        trust.pair(key(1), "nas".to_owned(), Relation::Own, None).await.unwrap();
        assert_eq!(trust.snapshot().trusted(&key(1)).unwrap().policy, Policy::default(), "trust begins anew");
    }

    #[tokio::test]
    async fn d26_same_key_stays_and_same_name_does_not() {
        let dir = tempfile::tempdir().unwrap();
        let trust = trust(dir.path()).await;
        trust.pair(key(1), "nas".to_owned(), Relation::Own, None).await.unwrap();
        trust.pair(key(2), "NAS".to_owned(), Relation::Own, None).await.unwrap();
        let snapshot = trust.snapshot();
        assert_eq!(snapshot.devices.len(), 2);
        assert_eq!(snapshot.same_name(&key(2), "NAS").unwrap().key, key(1));
        assert_eq!(snapshot.find("nas").unwrap_err().code, Code::PeerAmbiguous);
        assert_eq!(snapshot.find(&key(2).device_id().to_string()).unwrap().key, key(2));
        assert_eq!(snapshot.find("attic").unwrap_err().code, Code::PeerNotFound);
    }

    #[tokio::test]
    async fn a_guest_always_asks() {
        let dir = tempfile::tempdir().unwrap();
        let trust = trust(dir.path()).await;
        trust.pair(key(1), "nas".to_owned(), Relation::Guest, None).await.unwrap();
        let auto = Policy { offers: Offers::Auto, ..Policy::default() };
        trust.set_policy(key(1), Relation::Guest, auto).await.unwrap();
        assert_eq!(trust.snapshot().trusted(&key(1)).unwrap().policy.offers, Offers::Ask);
    }

    #[tokio::test]
    async fn d35_a_restored_database_is_noticed() {
        let dir = tempfile::tempdir().unwrap();
        let first = trust(dir.path()).await;
        first.pair(key(1), "nas".to_owned(), Relation::Own, None).await.unwrap();
        assert!(!first.restored());
        first.store.read(|c| c.execute("VACUUM INTO ?1", [c.path().unwrap().to_owned() + ".backup"])).await.unwrap();
        first.revoke(key(1)).await.unwrap();
        drop(first);
        for suffix in ["", "-wal", "-shm"] {
            let _ = std::fs::remove_file(dir.path().join(format!("kith.db{suffix}")));
        }
        std::fs::rename(dir.path().join("kith.db.backup"), dir.path().join("kith.db")).unwrap();
        assert!(trust(dir.path()).await.restored());
    }
}
