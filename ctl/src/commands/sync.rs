//! Keeping journals the same: `sync`, `sync status`.

use std::collections::HashSet;

use kith_proto::control::event::Event;
use kith_proto::control::journal::{JournalSync, PeerSync, SyncParams, SyncResult, SyncSession, SyncState};
use kith_proto::control::method::{Empty, Method, SyncStart, SyncStatus};
use kith_proto::control::types::{Failure, PeerRef};
use kith_proto::control::{ApiError, Code};
use kith_proto::id::DeviceId;
use serde::Deserialize as _;
use serde_json::value::RawValue;

use super::{Context, view};
use crate::args::sync::SyncWith;
use crate::client::{Client, Incoming};
use crate::error::{Error, FAILED, Result};
use crate::output::Table;

const COMPLETE: &str = "sync:complete";
const ERROR: &str = "sync:error";
/// From where on a clock that is wrong is worth a word, and a loud one: 5 minutes, 24 hours.
const SKEW_MS: u64 = 5 * 60_000;
const SKEW_LOUD_MS: u64 = 24 * 3_600_000;

/// `sync`: begins a session with each device, and waits until all are over.
pub fn run(ctx: &Context, args: SyncWith) -> Result<()> {
    let mut client = ctx.connect()?;
    // Before a session begins, so that no end is missed.
    client.subscribe(&[COMPLETE, ERROR])?;
    let raw = client.call_raw(SyncStart::NAME, Some(&SyncParams { peer: args.peer }))?;
    let SyncResult { peers } = client.decode(&raw)?;
    if peers.is_empty() {
        let error = ApiError::new(Code::PeerOffline, "no device can be reached that shares a journal with this one");
        return Err(error.hint("see: kithctl peers, kithctl sync status").into());
    }
    if args.no_wait {
        return if ctx.out.is_json() {
            ctx.out.raw(raw.get())
        } else {
            peers.iter().try_for_each(|sync| ctx.out.line(&format!("syncing with {}", view::peer_name(&sync.peer))))
        };
    }
    Waiting { ctx, open: peers.into_iter().map(|sync| sync.peer.id).collect(), failure: None }.follow(&mut client)
}

/// Devices with which a session is not over yet.
struct Waiting<'a> {
    ctx: &'a Context,
    open: HashSet<DeviceId>,
    failure: Option<Error>,
}

impl Waiting<'_> {
    fn follow(mut self, client: &mut Client) -> Result<()> {
        while !self.open.is_empty() {
            match client.next()? {
                Incoming::Fact(event, raw) => self.ended(&event, &raw)?,
                Incoming::Lagged(_) => self.catch_up(client)?,
                Incoming::Answer(..) | Incoming::Changed(..) => {}
            }
        }
        self.failure.map_or(Ok(()), Err)
    }

    fn ended(&mut self, event: &Event, raw: &RawValue) -> Result<()> {
        let Ok(session) = SyncSession::deserialize(&event.data) else { return Ok(()) };
        if ![COMPLETE, ERROR].contains(&event.kind.as_str()) || !self.open.remove(&session.peer.id) {
            return Ok(());
        }
        if self.ctx.out.is_json() {
            self.ctx.out.raw(raw.get())?;
        } else if event.kind == COMPLETE {
            self.ctx.out.line(&line(&session))?;
        }
        if event.kind == ERROR {
            self.failed(&session.peer, session.reason);
        }
        Ok(())
    }

    /// Ends that were missed show in the state: a session that is not running any more is over.
    fn catch_up(&mut self, client: &mut Client) -> Result<()> {
        let syncs = client.subscribe(&[COMPLETE, ERROR])?.snapshot.syncs;
        if let Some(gone) = self.open.iter().find(|id| !syncs.iter().any(|sync| sync.peer.id == **id)) {
            let message = format!("{gone} is not trusted any more");
            return Err(ApiError::new(Code::NotPaired, message).into());
        }
        for sync in syncs {
            if sync.state == SyncState::Running || !self.open.remove(&sync.peer.id) {
                continue;
            }
            if self.ctx.out.is_json() {
                self.ctx.out.object(&sync)?;
            } else if sync.error.is_none() {
                self.ctx.out.line(&format!("{}: done", view::peer_name(&sync.peer)))?;
            }
            if sync.error.is_some() {
                self.failed(&sync.peer, sync.error);
            }
        }
        Ok(())
    }

    /// The first failure is the end of the command; the others are told at once.
    fn failed(&mut self, peer: &PeerRef, reason: Option<Failure>) {
        let error = match reason {
            Some(reason) => {
                Failure { message: format!("{}: {}", view::peer_name(peer), reason.message), ..reason }.into()
            }
            None => Error::new(FAILED, "failed", format!("{}: syncing failed", view::peer_name(peer))),
        };
        match (&self.failure, &error) {
            (None, _) => self.failure = Some(error),
            (Some(_), Error::Told { message, .. }) => self.ctx.out.note(message),
            (Some(_), Error::Quiet(_)) => {}
        }
    }
}

/// A session in one line.
pub fn line(session: &SyncSession) -> String {
    let SyncSession { sent, received, conflicts, refused, .. } = session;
    let mut line =
        format!("{}: sent {sent}, received {received}, conflicts {conflicts}", view::peer_name(&session.peer));
    if *refused > 0 {
        line += &format!(", refused {refused}: see kithctl sync status");
    }
    if let Some(reason) = &session.reason {
        line += &format!("; {}", view::reason(reason));
    }
    line
}

/// `sync status`
pub fn status(ctx: &Context) -> Result<()> {
    ctx.show::<SyncStatus>(&Empty {}, |result| {
        ctx.out.table(&table(&result.peers))?;
        result.peers.iter().flat_map(remarks).for_each(|remark| ctx.out.note(&remark));
        Ok(())
    })
}

/// A device and a journal a row.
fn table(peers: &[PeerSync]) -> Table {
    let mut table = Table::new(&["DEVICE", "STATE", "JOURNAL", "LAST SYNC", "LAG", "CONFLICTS"]);
    for sync in peers {
        let head = [view::peer_name(&sync.peer), view::word(&sync.state)];
        if sync.journals.is_empty() {
            table.row(head.into_iter().chain([String::new(), time(sync.last_sync.as_ref())]));
            continue;
        }
        for JournalSync { name, last_sync, lag, conflicts, .. } in &sync.journals {
            let of_journal = [name.clone(), time(last_sync.as_ref()), lag.to_string(), conflicts.to_string()];
            table.row(head.clone().into_iter().chain(of_journal));
        }
    }
    table
}

fn time(time: Option<&String>) -> String {
    time.cloned().unwrap_or_else(|| "never".to_owned())
}

/// What is not as it should be with a device.
fn remarks(sync: &PeerSync) -> Vec<String> {
    let name = view::peer_name(&sync.peer);
    let mut remarks: Vec<String> = sync.error.iter().map(|error| format!("{name}: {}", view::reason(error))).collect();
    remarks.extend(sync.skew_ms.and_then(skew).map(|skew| format!("{name}: {skew}")));
    for journal in &sync.journals {
        for refusal in &journal.refused {
            remarks.push(format!("{name}: {}: {} was not taken: {}", journal.name, refusal.id, refusal.reason));
        }
    }
    remarks
}

/// What to say about a clock that is ahead by so many milliseconds.
fn skew(ms: i64) -> Option<String> {
    let way = if ms < 0 { "behind" } else { "ahead" };
    let minutes = ms.unsigned_abs() / 60_000;
    if ms.unsigned_abs() <= SKEW_MS {
        return None;
    }
    Some(if ms.unsigned_abs() <= SKEW_LOUD_MS {
        format!("its clock is {minutes} min {way} of this one's: set the wrong one right")
    } else {
        let hours = minutes / 60;
        format!(
            "WARNING: its clock is {hours} h {way} of this one's! Until the wrong one is set right, times are wrong"
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_clock_is_told_the_louder_the_worse() {
        const MINUTE: i64 = 60_000;
        for (ms, words) in [
            (0, None),
            (5 * MINUTE, None),
            (-5 * MINUTE, None),
            (5 * MINUTE + 1, Some("5 min ahead")),
            (-90 * MINUTE, Some("90 min behind")),
            (24 * 60 * MINUTE, Some("1440 min ahead")),
            (-24 * 60 * MINUTE - 1, Some("WARNING: its clock is 24 h behind")),
            (i64::MIN, Some("WARNING")),
        ] {
            let said = skew(ms);
            assert_eq!(said.is_some(), words.is_some(), "{ms}");
            assert!(said.as_deref().unwrap_or_default().contains(words.unwrap_or_default()), "{ms}: {said:?}");
        }
        assert!(!skew(90 * MINUTE).unwrap().contains("WARNING"));
    }
}
