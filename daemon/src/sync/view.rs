//! How journals, entries and syncing are shown at the local door.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use kith_proto::control::event::Fact;
use kith_proto::control::journal::{
    Conflict, Entry, Journal, JournalState, JournalSync, Member, PeerSync, Recovered, SyncState,
};
use kith_proto::control::types::PeerRef;
use kith_proto::id::PublicKey;
use kith_proto::limits;
use kith_proto::peer::journal::member::Members;
use kith_proto::peer::journal::replica::Shelf;
use kith_proto::peer::journal::session::Note;
use kith_proto::peer::journal::version::Version;

use super::book::{Book, Listed, State};
use super::journals::cursor;
use crate::clock;
use crate::trust;

/// Changes that a device lacks are counted up to this.
const LAG: u64 = 10_000;

/// A device by what it is called here; by its id, if it is not known.
pub fn peer(trust: &trust::Snapshot, key: &PublicKey) -> PeerRef {
    match trust.get(key) {
        Some(device) => device.as_ref(),
        None => PeerRef { id: key.device_id(), name: key.device_id().to_string() },
    }
}

/// A member by what it is called here; by what it called itself when it was admitted, if it is not known here.
pub fn member(trust: &trust::Snapshot, members: &Members, key: &PublicKey) -> PeerRef {
    let named = members.record(key).map(|record| record.name.clone()).filter(|name| !name.is_empty());
    match (trust.devices.get(key), named) {
        (None, Some(name)) => PeerRef { id: key.device_id(), name },
        _ => peer(trust, key),
    }
}

/// Every journal that was not left, with at most [`limits::MEMBERS_SHOWN`] of its members.
pub fn journals(book: &mut Book<'_>, trust: &trust::Snapshot, this: &PeerRef) -> rusqlite::Result<Vec<Journal>> {
    let listed = book.journals()?.into_iter().filter(|journal| journal.state.shown().is_some()).collect::<Vec<_>>();
    listed.iter().map(|it| journal(book, trust, this, it, limits::MEMBERS_SHOWN)).collect()
}

/// One journal, as `this` device has it. Of more members than `most`, those are shown with which it was synced last.
pub fn journal(
    book: &mut Book<'_>,
    trust: &trust::Snapshot,
    this: &PeerRef,
    listed: &Listed,
    most: usize,
) -> rusqlite::Result<Journal> {
    let members = book.members(listed)?;
    let own = Shelf::device(book);
    let synced = book.synced_peers(listed)?;
    let mut others = book.others_of(members.as_ref());
    let member_count = others.len() as u64;
    let known_by = others.iter().filter(|device| synced.get(device).is_some_and(|synced| synced.current)).count();
    if others.len() > most {
        others.sort_by_key(|device| Reverse(synced.get(device).map(|synced| synced.last_ms)));
        others.truncate(most);
    }
    let show = |device: PublicKey| Member {
        device: members.as_ref().map_or_else(|| peer(trust, &device), |members| member(trust, members, &device)),
        may_share: members.as_ref().is_some_and(|members| members.may_admit(&device)),
        current: synced.get(&device).is_some_and(|synced| synced.current),
        last_sync: synced.get(&device).map(|synced| time(synced.last_ms)),
    };
    let mut shown: Vec<_> = others.into_iter().map(show).collect();
    shown.sort_by(|a, b| (&a.device.name, a.device.id).cmp(&(&b.device.name, b.device.id)));
    Ok(Journal {
        id: listed.id.to_string(),
        name: listed.name.clone(),
        state: listed.state.shown().unwrap_or(JournalState::Removed),
        creator: members.as_ref().map(|members| match members.resource().creator {
            // It does not trust itself, so it is not among those that are known.
            creator if creator == own => this.clone(),
            creator => member(trust, members, &creator),
        }),
        may_share: members.as_ref().is_some_and(|members| members.may_admit(&own)),
        entries: listed.entries(),
        tombstones: listed.tombstones,
        history: listed.history,
        recovered: listed.recovered,
        known_by: known_by as u64,
        member_count,
        members: shown,
        since: Some(time(listed.created_ms)),
        cursor: cursor(&Shelf::epoch(book), Shelf::top(book)?),
    })
}

/// How syncing is with each of the devices, whose state is whether they can be seen, whether a session is under way,
/// and whether the last one failed.
pub fn statuses(
    book: &mut Book<'_>,
    trust: &trust::Snapshot,
    states: &[(PublicKey, (bool, bool, bool))],
) -> rusqlite::Result<Vec<(PublicKey, PeerSync)>> {
    let known = book.sync_peers()?;
    let mut journals: BTreeMap<PublicKey, Vec<JournalSync>> = BTreeMap::new();
    for listed in book.journals()?.into_iter().filter(|journal| journal.state == State::Active) {
        let states = book.journal_peers(&listed)?;
        let others = book.others(&listed)?;
        let lags = book.lags(&listed, &others, LAG)?;
        for (device, lag) in others.into_iter().zip(lags) {
            let state = states.get(&device).cloned().unwrap_or_default();
            journals.entry(device).or_default().push(JournalSync {
                journal: listed.id.to_string(),
                name: listed.name.clone(),
                last_sync: state.last_sync_ms.map(time),
                lag,
                conflicts: state.conflicts,
                refused: state.refused,
            });
        }
    }
    let status = |(key, (in_sight, running, failed)): &(PublicKey, (bool, bool, bool))| {
        let known = known.get(key).cloned().unwrap_or_default();
        let state = match (running, in_sight, failed) {
            (true, ..) => SyncState::Running,
            (_, false, _) => SyncState::Offline,
            (_, _, true) => SyncState::Waiting,
            _ => SyncState::Idle,
        };
        let status = PeerSync {
            peer: peer(trust, key),
            state,
            last_sync: known.last_sync_ms.map(time),
            error: known.error.map(|(failure, _)| failure),
            skew_ms: known.skew_ms,
            journals: journals.get(key).cloned().unwrap_or_default(),
        };
        (*key, status)
    };
    Ok(states.iter().map(status).collect())
}

/// A version; `seq` is 0 if it is not current.
pub fn entry(version: &Version, seq: u64) -> Entry {
    Entry {
        id: version.id.clone(),
        seq,
        hash: data_encoding::HEXLOWER.encode(&version.hash),
        stamp: version.stamp.to_string(),
        updated_at: time(version.stamp.ms()),
        device: version.device.device_id(),
        deleted: version.deleted,
        meta: serde_json::from_str(&version.meta).unwrap_or_default(),
        size: version.size,
    }
}

/// What a session noticed, as a fact; nothing if its journal is gone meanwhile.
pub fn note(book: &mut Book<'_>, note: Note) -> rusqlite::Result<Option<Fact>> {
    let id = match &note {
        Note::Conflict { journal, .. } | Note::Recovered { journal, .. } => *journal,
    };
    let Some(listed) = book.journal(&id)? else { return Ok(None) };
    let (journal, name) = (id.to_string(), listed.name);
    Ok(Some(match note {
        Note::Conflict { winner, loser, .. } => {
            let (winner, loser) = (entry(&winner, 0), entry(&loser, 0));
            Fact::EntryConflict(Box::new(Conflict { journal, name, winner, loser }))
        }
        Note::Recovered { version, .. } => Fact::EntryRecovered(Recovered { journal, name, entry: entry(&version, 0) }),
    }))
}

/// RFC 3339.
pub fn time(ms: u64) -> String {
    clock::rfc3339(i64::try_from(ms).unwrap_or(i64::MAX))
}
