//! Trust as it changes within a transaction: rows at once, and what the snapshot has to learn after the commit.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use kith_proto::control::types::{Offers, Policy, Relation};
use kith_proto::id::PublicKey;
use kith_proto::{limits, text};
use rusqlite::{Connection, OptionalExtension, Transaction, params};

use super::{Device, Snapshot, remember};
use crate::store;

/// What one transaction changes of the trust in devices.
#[derive(Default)]
pub struct Changes {
    touched: BTreeMap<PublicKey, Device>,
}

/// How it is with a device that came by a code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admitted {
    /// It is trusted from now on.
    New,
    /// It was trusted before, and stays what it was.
    Known,
    /// Somebody here ended the trust in it then, and it stays so.
    Revoked {
        /// When.
        at_ms: i64,
    },
}

/// What the snapshot learns after the commit.
pub(super) struct Changed {
    touched: BTreeMap<PublicKey, Device>,
    generation: i64,
}

impl Changes {
    /// Trusts a device that came by a code, as somebody else's. One that is trusted keeps relation, policy and names;
    /// one that was revoked is not trusted again by this: see [`Changes::readmit`].
    pub fn admit(
        &mut self,
        tx: &Transaction<'_>,
        key: &PublicKey,
        name: &str,
        address: Option<SocketAddr>,
        now_ms: i64,
    ) -> rusqlite::Result<Admitted> {
        match load_one(tx, key)? {
            Some(Device { revoked_ms: Some(at_ms), .. }) => Ok(Admitted::Revoked { at_ms }),
            Some(mut device) => {
                if let Some(address) = address.filter(|address| device.addresses.first() != Some(address)) {
                    remember(&mut device.addresses, address);
                    self.save(tx, device)?;
                }
                Ok(Admitted::Known)
            }
            None => self.readmit(tx, key, name, address, now_ms).map(|()| Admitted::New),
        }
    }

    /// The same for one that was revoked, because somebody here wants it: trust begins anew.
    pub fn readmit(
        &mut self,
        tx: &Transaction<'_>,
        key: &PublicKey,
        name: &str,
        address: Option<SocketAddr>,
        now_ms: i64,
    ) -> rusqlite::Result<()> {
        let name = text::device_name(name, limits::DEVICE_NAME);
        let mut device = stranger(*key, name, Relation::Guest, now_ms);
        device.addresses.extend(address);
        device.last_seen_ms = Some(now_ms);
        device.calls = true;
        self.save(tx, device)
    }

    /// Ends the trust in a device and keeps a tombstone. One that is no more trusted, or never was, stays as it is.
    pub fn revoke(&mut self, tx: &Transaction<'_>, key: &PublicKey, now_ms: i64) -> rusqlite::Result<()> {
        match load_one(tx, key)?.filter(Device::is_trusted) {
            Some(device) => self.save(tx, Device { revoked_ms: Some(now_ms), ..device }),
            None => Ok(()),
        }
    }

    /// When the trust in a device was ended, if it was and stays so.
    pub fn revoked_ms(&self, tx: &Transaction<'_>, key: &PublicKey) -> rusqlite::Result<Option<i64>> {
        Ok(load_one(tx, key)?.and_then(|device| device.revoked_ms))
    }

    pub(super) fn pair(
        &mut self,
        tx: &Transaction<'_>,
        key: PublicKey,
        name: String,
        relation: Relation,
        address: Option<SocketAddr>,
        now_ms: i64,
    ) -> rusqlite::Result<()> {
        let old = load_one(tx, &key)?.filter(Device::is_trusted);
        let again = old.is_some();
        let mut device = old.unwrap_or_else(|| stranger(key, String::new(), relation, now_ms));
        device.name = name;
        device.relation = relation;
        device.last_seen_ms = Some(now_ms);
        if again {
            device.policy.offers = bounded(device.relation, device.policy.offers);
        }
        if let Some(address) = address {
            remember(&mut device.addresses, address);
        }
        self.save(tx, device)
    }

    pub(super) fn edit(
        &mut self,
        tx: &Transaction<'_>,
        key: &PublicKey,
        edit: impl FnOnce(&mut Device),
    ) -> rusqlite::Result<()> {
        let Some(mut device) = load_one(tx, key)? else { return Ok(()) };
        edit(&mut device);
        self.save(tx, device)
    }

    fn save(&mut self, tx: &Transaction<'_>, device: Device) -> rusqlite::Result<()> {
        save(tx, &device)?;
        self.touched.insert(device.key, device);
        Ok(())
    }

    /// Counts the change, if there is one.
    pub(super) fn settle(self, tx: &Transaction<'_>) -> rusqlite::Result<Option<Changed>> {
        if self.touched.is_empty() {
            return Ok(None);
        }
        let generation = tx
            .prepare_cached("UPDATE trust_generation SET generation = generation + 1 RETURNING generation")?
            .query_row([], |row| row.get(0))?;
        Ok(Some(Changed { touched: self.touched, generation }))
    }
}

impl Changed {
    /// The snapshot after it.
    pub(super) fn applied_to(self, old: &Snapshot) -> Snapshot {
        let mut new = old.clone();
        new.generation = self.generation;
        for (key, mut device) in self.touched {
            device.calls |= old.trusted(&key).is_some_and(|old| old.calls);
            new.devices.insert(key, Arc::new(device));
        }
        new
    }
}

/// A device of which nothing is known yet but who it is.
fn stranger(key: PublicKey, name: String, relation: Relation, now_ms: i64) -> Device {
    Device {
        key,
        name,
        our_name: None,
        relation,
        policy: Policy::default(),
        addresses: Vec::new(),
        paired_ms: now_ms,
        last_seen_ms: None,
        revoked_ms: None,
        calls: false,
    }
}

/// A guest's offers always ask.
pub(super) fn bounded(relation: Relation, offers: Offers) -> Offers {
    if relation == Relation::Guest && offers == Offers::Auto { Offers::Ask } else { offers }
}

const COLUMNS: &str =
    "public_key, name, our_name, relation, policy, addresses, paired_ms, last_seen_ms, revoked_ms FROM device";

pub(super) fn load(connection: &Connection) -> rusqlite::Result<Snapshot> {
    let mut statement = connection.prepare_cached(&format!("SELECT {COLUMNS}"))?;
    let devices = statement.query_map([], from_row)?.map(|row| row.map(|device| (device.key, Arc::new(device))));
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
        calls: false,
    })
}

/// What a trusted device is called here, also if it is trusted only since this very transaction.
pub fn shown_name(tx: &Transaction<'_>, key: &PublicKey) -> rusqlite::Result<Option<String>> {
    Ok(load_one(tx, key)?.filter(Device::is_trusted).map(|device| device.shown_name().to_owned()))
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
