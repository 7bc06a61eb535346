//! Who takes part in a journal: records that are signed by whoever may admit, and merge in any order.
//!
//! A record counts the changes of one device's membership: odd is in, even is out, and the greater count is right. A
//! removal can be outdone only by somebody who knows of it and admits the device again: no older record, whoever brings
//! it, undoes it. (A causal-length set: W. Yu and S. Rostad, 2020.)
//!
//! The creator may admit and remove anybody, and name others who may, too. Everybody may leave. What somebody signed who
//! may not admit any more counts for nothing: the creator's device signs anew what shall stay.

use std::collections::BTreeMap;

use data_encoding::BASE64URL_NOPAD;
use ed25519_dalek::{Signature, VerifyingKey};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::version::JournalId;
use crate::id::PublicKey;
use crate::limits;

/// A membership that changed more often than this was not changed by people.
const CHANGES: u32 = 1 << 20;

/// Naming somebody who admits counts for so many changes. Others may not touch whom the creator named; so what they
/// changed at the same time, not knowing it, must not come after it, or devices would differ by what they heard first.
const NAMING: u32 = 1 << 10;

/// What kind of thing is shared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Entries.
    Journal,
    /// Something that a newer version shares.
    #[serde(other)]
    Unknown,
}

impl Kind {
    /// The word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Journal => "journal",
            Self::Unknown => "unknown",
        }
    }
}

/// What is shared. Its id follows from all of it, so none of it can be changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resource {
    /// What kind of thing.
    pub kind: Kind,
    /// What its creator calls it.
    pub name: String,
    /// Who made it, and may always admit and remove.
    pub creator: PublicKey,
    /// 128 random bits.
    pub nonce: JournalId,
}

impl Resource {
    /// The first 16 bytes of SHA-256 over all of it.
    pub fn id(&self) -> JournalId {
        let mut sha = Sha256::new_with_prefix(b"kith resource 1\0");
        sha.update(self.kind.as_str());
        sha.update([0]);
        sha.update(self.creator.0);
        sha.update(self.nonce.0);
        sha.update(&self.name);
        let hash: [u8; 32] = sha.finalize().into();
        let mut id = [0; 16];
        id.iter_mut().zip(hash).for_each(|(to, from)| *to = from);
        JournalId(id)
    }
}

/// The journal that every device has from the start; it is shared by all that call each other their own.
pub fn default_journal() -> JournalId {
    JournalId(*b"kith default\0\0\0\0")
}

/// How a device's membership is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// The device.
    pub device: PublicKey,
    /// How it called itself when this was signed.
    pub name: String,
    /// Changes so far: odd is in, even is out.
    pub count: u32,
    /// Whether it may admit and remove others; only the creator gives that.
    pub admits: bool,
    /// Who says so.
    pub by: PublicKey,
    /// Ed25519 (RFC 8032) over all of it and the journal's id, in base64url.
    pub signature: String,
}

impl Record {
    /// Whether the device takes part.
    pub fn is_in(&self) -> bool {
        self.count % 2 == 1
    }

    /// What is signed.
    pub fn message(&self, journal: &JournalId) -> Vec<u8> {
        let mut message = b"kith member 1\0".to_vec();
        message.extend_from_slice(&journal.0);
        message.extend_from_slice(&self.device.0);
        message.extend_from_slice(&self.count.to_be_bytes());
        message.push(u8::from(self.admits));
        message.extend_from_slice(&self.by.0);
        message.extend_from_slice(self.name.as_bytes());
        message
    }

    /// The same record with `signature` on it.
    #[must_use]
    pub fn signed(mut self, signature: &[u8; 64]) -> Self {
        self.signature = BASE64URL_NOPAD.encode(signature);
        self
    }

    fn is_signed(&self, journal: &JournalId) -> bool {
        let signature = BASE64URL_NOPAD.decode(self.signature.as_bytes()).ok();
        let Some(signature) = signature.and_then(|bytes| Signature::from_slice(&bytes).ok()) else { return false };
        let key = VerifyingKey::from_bytes(&self.by.0);
        key.is_ok_and(|key| key.verify_strict(&self.message(journal), &signature).is_ok())
    }

    fn is_well_formed(&self) -> bool {
        (1..=CHANGES).contains(&self.count) && self.name.len() <= limits::DEVICE_NAME
    }
}

/// A resource and who takes part, as one device tells another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Introduction {
    /// What.
    pub resource: Resource,
    /// Who.
    pub records: Vec<Record>,
}

/// Who takes part in one journal, as far as this device knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Members {
    resource: Resource,
    journal: JournalId,
    /// By device: what the creator says, and what others say. The creator's word is kept beside theirs, because it decides
    /// whose word counts: whoever has not heard it yet could not judge the other one.
    records: BTreeMap<(PublicKey, Voice), Record>,
}

/// Whose word a record is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Voice {
    Creator,
    Others,
}

impl Members {
    /// Of a journal that its creator has alone.
    pub fn new(resource: Resource) -> Self {
        let journal = resource.id();
        Self { resource, journal, records: BTreeMap::new() }
    }

    /// As this device wrote them down: what was taken once is not verified again.
    pub fn restored(resource: Resource, records: Vec<Record>) -> Self {
        let mut members = Self::new(resource);
        members.records = records.into_iter().map(|record| (members.place(&record), record)).collect();
        members
    }

    /// The journal.
    pub fn journal(&self) -> JournalId {
        self.journal
    }

    /// What is shared.
    pub fn resource(&self) -> &Resource {
        &self.resource
    }

    /// Every record, by device.
    pub fn records(&self) -> impl Iterator<Item = &Record> {
        self.records.values()
    }

    /// What is right about one device, of what the creator and others say.
    pub fn record(&self, device: &PublicKey) -> Option<&Record> {
        let said = [Voice::Creator, Voice::Others].map(|voice| self.records.get(&(*device, voice)));
        said.into_iter().flatten().max_by_key(|record| self.weight(record))
    }

    fn place(&self, record: &Record) -> (PublicKey, Voice) {
        let voice = if record.by == self.resource.creator { Voice::Creator } else { Voice::Others };
        (record.device, voice)
    }

    /// Whether a device takes part.
    pub fn contains(&self, device: &PublicKey) -> bool {
        match self.record(device) {
            Some(record) => record.is_in() && self.is_authorized(record),
            None => *device == self.resource.creator,
        }
    }

    /// The devices that take part.
    pub fn devices(&self) -> Vec<PublicKey> {
        let mut devices: Vec<_> = self.records.keys().map(|(device, _)| *device).collect();
        devices.dedup();
        devices.retain(|device| *device != self.resource.creator);
        devices.insert(0, self.resource.creator);
        devices.retain(|device| self.contains(device));
        devices
    }

    /// Whether a device may admit and remove others.
    pub fn may_admit(&self, device: &PublicKey) -> bool {
        self.contains(device) && (*device == self.resource.creator || self.is_named(device))
    }

    /// The record, not yet signed, by which `by` changes a device's membership; `None` where there is nothing to change.
    pub fn change(&self, device: &PublicKey, name: &str, admits: bool, enter: bool, by: &PublicKey) -> Option<Record> {
        let old = self.record(device);
        if self.contains(device) == enter && old.is_none_or(|old| !enter || old.admits == admits) {
            return None;
        }
        let count = old.map_or(0, |old| old.count);
        let next = if (count % 2 == 1) == enter { count.checked_add(2)? } else { count.checked_add(1)? };
        let admits = admits && *by == self.resource.creator;
        let next = if admits { next.checked_add(NAMING)? } else { next };
        Some(Record { device: *device, name: name.to_owned(), count: next, admits, by: *by, signature: String::new() })
    }

    /// What `by` signed, for the creator to sign anew when `by` may not admit any more.
    pub fn signed_by(&self, by: &PublicKey) -> Vec<Record> {
        let creator = self.resource.creator;
        let others = self.records.values().filter(|record| record.by == *by && record.device != *by);
        others.map(|record| Record { by: creator, signature: String::new(), ..record.clone() }).collect()
    }

    /// Takes records that are well signed and say more than what is known. Says whether anything changed.
    pub fn merge(&mut self, records: &[Record]) -> bool {
        !self.take(records).is_empty()
    }

    /// The same; says which ones were taken, the later of two of one device behind the earlier.
    pub fn take(&mut self, records: &[Record]) -> Vec<Record> {
        // Those that the creator signed come first: they say who else may.
        let (mut by_creator, mut others): (Vec<_>, Vec<_>) =
            records.iter().partition(|record| record.by == self.resource.creator);
        by_creator.append(&mut others);
        by_creator.into_iter().filter(|record| self.add(record)).cloned().collect()
    }

    fn add(&mut self, record: &Record) -> bool {
        let place = self.place(record);
        let known = self.records.get(&place);
        let room = known.is_some() || self.records.len() < limits::JOURNAL_MEMBERS;
        let says_more = known.is_none_or(|known| self.weight(record) > self.weight(known));
        let good = room && says_more && record.is_well_formed() && self.is_authorized(record);
        // The signature last: it costs the most.
        let good = good && record.is_signed(&self.journal);
        if good {
            self.records.insert(place, record.clone());
        }
        good
    }

    /// Of two records of a device the one that weighs more is right.
    fn weight<'a>(&self, record: &'a Record) -> (bool, u32, bool, &'a str) {
        (self.is_authorized(record), record.count, record.by == self.resource.creator, &record.signature)
    }

    fn is_authorized(&self, record: &Record) -> bool {
        let creator = self.resource.creator;
        if record.by == creator {
            return true;
        }
        if record.by == record.device {
            return !record.is_in() && !record.admits;
        }
        // Nobody but the creator touches the creator, or those whom the creator named.
        !record.admits && record.device != creator && !self.is_named(&record.device) && self.is_named(&record.by)
    }

    fn valid(&self) -> impl Iterator<Item = &Record> {
        self.records.values().filter(|record| self.is_authorized(record))
    }

    fn is_named(&self, device: &PublicKey) -> bool {
        self.records.get(&(*device, Voice::Creator)).is_some_and(|named| named.admits && named.is_in())
    }

    /// What stands for all records that count, when two devices compare what they know: the first 8 bytes of a SHA-256,
    /// in hex. The others would not be taken by whoever has not got them yet.
    pub fn digest(&self) -> String {
        let mut sha = Sha256::new_with_prefix(b"kith members 1\0");
        for record in self.valid() {
            sha.update(record.message(&self.journal));
            sha.update(&record.signature);
        }
        let hash: [u8; 32] = sha.finalize().into();
        data_encoding::HEXLOWER.encode(hash.first_chunk::<8>().unwrap_or(&[0; 8]))
    }

    /// The little that makes `device` a member of it, for whoever knows nothing of it: its own record, and what names
    /// those who may admit, of `admitter` and of whoever signed that record. Nothing if it is no member.
    pub fn invitation(&self, device: &PublicKey, admitter: &PublicKey) -> Option<Introduction> {
        if !self.contains(device) {
            return None;
        }
        let own = self.record(device);
        let mut records: Vec<_> = own.into_iter().cloned().collect();
        for who in own.map(|own| own.by).iter().chain([admitter]) {
            let named = self.records.get(&(*who, Voice::Creator)).filter(|named| !records.contains(named)).cloned();
            records.extend(named);
        }
        Some(Introduction { resource: self.resource.clone(), records })
    }

    /// What may be told to a device that is or was a member.
    pub fn introduction(&self, to: &PublicKey) -> Option<Introduction> {
        let known = *to == self.resource.creator || self.record(to).is_some();
        let records = || self.valid().cloned().collect();
        known.then(|| Introduction { resource: self.resource.clone(), records: records() })
    }
}
