//! What may be shared by a code, whatever its kind: who is let in and put out, and how this device enters what others
//! share.
//!
//! ```text
//! A   shareable   what a name means                 B   enter     what its RESULT brings
//!     standing    how it is with a device               entered   … after the commit
//!     admit       many devices in one pass
//!     expel       … out again
//!     members_joined, members_expelled   after the commit
//! ```
//!
//! Whoever counts codes calls these within a transaction of its own. What kind of thing a resource is matters only in
//! here.

use std::collections::BTreeSet;
use std::sync::Arc;

use kith_proto::control::{ApiError, Code};
use kith_proto::id::PublicKey;
use kith_proto::peer::journal::member::{Introduction, Kind, Members, Resource};
use kith_proto::peer::journal::version::JournalId;
use kith_proto::{limits, text};
use rusqlite::Transaction;
use tokio::time::Instant;

use super::book::{self, Book, Circle, Listed, State};
use super::journals::{active, decided, shareable, sign};
use super::{Engine, Sync};
use crate::identity::Identity;
use crate::trust;

/// What became of letting a device in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Admission {
    /// It takes part from now on.
    Admitted(Introduction),
    /// It did before.
    Already(Introduction),
    /// The resource is not here any more, or not this device's to share; or only its creator may let that device in: one
    /// whom the creator let share, and who left.
    Gone,
    /// It takes nobody in at the moment. Journals always do.
    Paused,
    /// It has as many members as it may have.
    Full,
}

/// How it is with a device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// It takes part.
    Member(Introduction),
    /// It did.
    Removed,
    /// It never did, as far as is known here.
    Never,
    /// The resource is not here any more, or not this device's to share.
    Gone,
}

/// A resource that this device takes part in now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entered {
    /// Which.
    pub id: JournalId,
    /// Whether this device took part before, too.
    pub already: bool,
}

impl Sync {
    /// The resource of this kind that `wanted` (a name or an id) names, if this device may let others in.
    pub async fn shareable(&self, kind: Kind, wanted: &str) -> Result<Resource, ApiError> {
        known(kind)?;
        let (identity, wanted) = (self.0.identity.clone(), wanted.to_owned());
        self.0
            .decide_reading(move |book| {
                let journal = decided!(active(book, &wanted)?);
                Ok(shareable(book, &journal, &identity)?.map(|members| members.resource().clone()))
            })
            .await
    }

    /// What a resource is called here; nothing if it is not here.
    pub async fn name_of(&self, id: &JournalId) -> Result<Option<String>, ApiError> {
        Ok(self.listed(id).await?.map(|journal| journal.name))
    }

    /// Whether this device takes part in a resource.
    pub async fn is_here(&self, id: &JournalId) -> Result<bool, ApiError> {
        Ok(self.listed(id).await?.is_some_and(|journal| journal.state == State::Active))
    }

    async fn listed(&self, id: &JournalId) -> Result<Option<Listed>, ApiError> {
        let id = *id;
        Ok(self.0.read(move |book| Ok(book.journal(&id)?.filter(|it| it.state != State::Left))).await?)
    }

    /// Lets devices in, each under the name that it gives itself; one answer for each, in their order. One that was put
    /// out is let in again: see [`Sync::standing`]. The transaction may hold a thousand of them.
    pub fn admit(
        &self,
        tx: &Transaction<'_>,
        resource: &JournalId,
        devices: &[(PublicKey, String)],
    ) -> rusqlite::Result<Vec<Admission>> {
        let circle = self.0.circle();
        admit(&Book::new(tx, &circle)?, &self.0.identity, &circle, resource, devices)
    }

    /// How it is with a device.
    pub fn standing(
        &self,
        tx: &Transaction<'_>,
        resource: &JournalId,
        device: &PublicKey,
    ) -> rusqlite::Result<Standing> {
        let circle = self.0.circle();
        standing(&Book::new(tx, &circle)?, &self.0.identity, resource, device)
    }

    /// Puts devices out again. Those that this device may not put out stay: the creator, and, unless it is this device,
    /// those whom the creator lets share. Those who take part no more, whether or not by this.
    pub fn expel(
        &self,
        tx: &Transaction<'_>,
        resource: &JournalId,
        devices: &[PublicKey],
    ) -> rusqlite::Result<Vec<PublicKey>> {
        let circle = self.0.circle();
        expel(&Book::new(tx, &circle)?, &self.0.identity, resource, devices)
    }

    /// Enters a resource because somebody here wants it, by what `from` answered; there is nothing to accept any more.
    /// It gets a free name. `path` is where a folder goes.
    pub fn enter(
        &self,
        tx: &Transaction<'_>,
        introduction: &Introduction,
        from: &PublicKey,
        path: Option<&str>,
        now_ms: u64,
    ) -> rusqlite::Result<Result<Entered, ApiError>> {
        let mut circle = Circle::clone(&self.0.circle());
        // It may be trusted only since this very transaction.
        circle.names.extend(trust::shown_name(tx, from)?.map(|name| (*from, name)));
        enter(&Book::new(tx, &circle)?, introduction, from, path, now_ms)
    }

    /// After the commit: devices were let in. They call by themselves.
    pub fn members_joined(&self, resource: &JournalId, devices: &[PublicKey]) {
        self.0.members_differ(resource, devices);
    }

    /// After the commit: devices were put out. Nothing more goes there, also not in sessions that are under way.
    pub fn members_expelled(&self, resource: &JournalId, devices: &[PublicKey]) {
        let expelled: BTreeSet<_> = devices.iter().collect();
        self.0.lines.end_unless(|peer, _| !expelled.contains(peer));
        self.0.members_differ(resource, devices);
    }

    /// After the commit: this device entered a resource by the word of `from`; what is in it comes at once.
    pub fn entered(&self, id: &JournalId, from: PublicKey) {
        // In this order: who was trusted a moment ago is planned for before the session is asked for.
        self.0.follow_trust(false);
        // A session that is under way began without it.
        self.0.lines.end_unless(|peer, _| *peer != from);
        self.0.schedule().asked(&from, Instant::now());
        self.0.tell_soon(id);
        self.0.wake.notify_one();
    }
}

impl Engine {
    fn members_differ(self: &Arc<Self>, resource: &JournalId, devices: &[PublicKey]) {
        self.schedule().changed(devices, Instant::now());
        self.wake.notify_one();
        self.tell_soon(resource);
    }
}

/// Kinds that this version can share.
fn known(kind: Kind) -> Result<(), ApiError> {
    match kind {
        Kind::Journal => Ok(()),
        Kind::Unknown => Err(ApiError::new(Code::InvalidParam, "this version of Kith knows no such kind of thing")
            .hint("update this device, or share a journal")),
    }
}

/// The resource and its members, if this device may let others in.
fn open(book: &Book<'_>, identity: &Identity, id: &JournalId) -> rusqlite::Result<Option<(Listed, Members)>> {
    let Some(journal) = book.journal(id)?.filter(|journal| journal.state == State::Active) else { return Ok(None) };
    Ok(shareable(book, &journal, identity)?.ok().map(|members| (journal, members)))
}

fn admit(
    book: &Book<'_>,
    identity: &Identity,
    circle: &Circle,
    id: &JournalId,
    devices: &[(PublicKey, String)],
) -> rusqlite::Result<Vec<Admission>> {
    let Some((journal, mut members)) = open(book, identity, id)? else {
        return Ok(devices.iter().map(|_| Admission::Gone).collect());
    };
    let own = identity.public();
    let mut admissions = Vec::new();
    for (device, name) in devices {
        let already = members.contains(device);
        // Who takes part keeps what it may.
        if !already {
            let_in(book, identity, circle, &journal, &mut members, device, name)?;
        }
        admissions.push(match members.invitation(device, &own) {
            Some(invitation) if already => Admission::Already(invitation),
            Some(invitation) => Admission::Admitted(invitation),
            None if is_full(&members) => Admission::Full,
            None => Admission::Gone,
        });
    }
    Ok(admissions)
}

fn standing(book: &Book<'_>, identity: &Identity, id: &JournalId, device: &PublicKey) -> rusqlite::Result<Standing> {
    let Some((_, members)) = open(book, identity, id)? else { return Ok(Standing::Gone) };
    Ok(match members.invitation(device, &identity.public()) {
        Some(invitation) => Standing::Member(invitation),
        None if members.record(device).is_some() => Standing::Removed,
        None => Standing::Never,
    })
}

fn expel(
    book: &Book<'_>,
    identity: &Identity,
    id: &JournalId,
    devices: &[PublicKey],
) -> rusqlite::Result<Vec<PublicKey>> {
    let Some((journal, mut members)) = open(book, identity, id)? else { return Ok(Vec::new()) };
    for device in devices.iter().filter(|device| **device != identity.public()) {
        if may_put_out(identity, &members, device) {
            put_out(book, identity, &journal, &mut members, device)?;
        }
    }
    Ok(devices.iter().filter(|device| !members.contains(device)).copied().collect())
}

fn enter(
    book: &Book<'_>,
    introduction: &Introduction,
    from: &PublicKey,
    path: Option<&str>,
    now_ms: u64,
) -> rusqlite::Result<Result<Entered, ApiError>> {
    decided!(known(introduction.resource.kind));
    if path.is_some() {
        let message = "--path is for folders: a journal's entries lie in the database";
        return Ok(Err(ApiError::new(Code::InvalidParam, message)));
    }
    let name = text::printable(&introduction.resource.name).into_owned();
    Ok(match book.enter(from, introduction, now_ms)? {
        book::Entry::In { was } => Ok(Entered { id: introduction.resource.id(), already: was == Some(State::Active) }),
        book::Entry::NotAdmitted => {
            let message = format!("what the other device says about {name} does not make this device a member of it");
            Err(ApiError::new(Code::Protocol, message))
        }
        book::Entry::Left => {
            let message = format!("this device left {name}, and the other one has not heard of that yet");
            Err(ApiError::new(Code::WrongState, message)
                .hint("it hears of it when the two sync; then use a code again"))
        }
        book::Entry::Full => Err(ApiError::new(Code::TooLarge, "there are too many journals")),
    })
}

/// Makes a device a member, if it is none and there is room. One's own devices may share it, too, if this device made it.
pub(super) fn let_in(
    book: &Book<'_>,
    identity: &Identity,
    circle: &Circle,
    journal: &Listed,
    members: &mut Members,
    device: &PublicKey,
    name: &str,
) -> rusqlite::Result<()> {
    let this = identity.public();
    let may_share = circle.own.contains(device) && members.resource().creator == this;
    let name = text::cut(name, limits::DEVICE_NAME);
    if let Some(record) = members.change(device, name, may_share, true, &this) {
        book.merge_members(journal, members, &[sign(identity, &journal.id, record)])?;
    }
    Ok(())
}

/// Whether there is no room for one more.
pub(super) fn is_full(members: &Members) -> bool {
    members.records().count() >= limits::JOURNAL_MEMBERS
}

/// Whether this device, which may let others in, may put out a device.
pub(super) fn may_put_out(identity: &Identity, members: &Members, device: &PublicKey) -> bool {
    let creator = members.resource().creator;
    *device != creator && (identity.public() == creator || !members.may_admit(device))
}

/// Ends a membership.
pub(super) fn put_out(
    book: &Book<'_>,
    identity: &Identity,
    journal: &Listed,
    members: &mut Members,
    device: &PublicKey,
) -> rusqlite::Result<()> {
    let this = identity.public();
    // What the removed one signed counts for nothing from now on: what shall stay is signed anew.
    let mut records = if this == members.resource().creator { members.signed_by(device) } else { Vec::new() };
    records.extend(members.change(device, "", false, false, &this));
    let records: Vec<_> = records.into_iter().map(|it| sign(identity, &journal.id, it)).collect();
    book.merge_members(journal, members, &records)?;
    Ok(())
}

#[cfg(test)]
mod tests;
