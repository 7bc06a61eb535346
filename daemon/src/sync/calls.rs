//! Calls between this device and others: how they begin, how they end, and what is told of them.

use std::sync::{Arc, PoisonError};

use kith_proto::control::ApiError;
use kith_proto::control::event::Fact;
use kith_proto::control::journal::{Refusal, SyncSession};
use kith_proto::control::types::Failure;
use kith_proto::id::PublicKey;
use kith_proto::peer::Alpn;
use kith_proto::peer::journal::session::{Fault, Report};
use kith_proto::peer::journal::wire::{self, Message};
use tokio::time::Instant;

use super::lines::Line;
use super::schedule::{Trigger, Went};
use super::session::{self, Error, Tally, now_ms};
use super::{Engine, view};
use crate::dial;
use crate::tls::Channel;

/// Clocks that differ by more than this deserve a word; by more than a day, a loud one.
const SKEW_MS: u64 = 300_000;
const DAY_MS: u64 = 86_400_000;

impl Engine {
    /// Dials a device and syncs with it.
    pub(super) async fn call(self: Arc<Self>, peer: PublicKey, trigger: Trigger) {
        let Some(line) = self.lines.dial(&peer, Instant::now()) else {
            // The other side was faster.
            return match trigger {
                Trigger::Asked => self.schedule().asked(&peer, Instant::now()),
                _ => self.schedule().changed([&peer], Instant::now()),
            };
        };
        self.schedule().began(&peer);
        let dialled = tokio::select! {
            () = line.stop.cancelled() => Err(None),
            () = self.tasks.stopping().cancelled() => Err(None),
            dialled = self.dial.device(&peer, Alpn::Sync) => dialled.map_err(Some),
        };
        match dialled {
            Ok(channel) => self.clone().talk(channel, line, trigger).await,
            Err(None) => {
                let went = self.called_off(&line);
                let failure = Some(Failure::from(ApiError::from(Error::CalledOff)));
                let told = self.outcome(&peer, true, trigger, Instant::now(), Tally::default(), failure);
                self.end(&peer, trigger, went, Some(told)).await;
            }
            Err(Some(error)) => {
                let quiet = matches!(error, dial::Error::Offline(_)) && trigger != Trigger::Asked;
                let failure = Failure::from(ApiError::from(error));
                if !quiet {
                    self.note(&peer, &Tally::default(), Went::Badly, Some(failure.clone())).await;
                }
                let told = self.outcome(&peer, true, trigger, Instant::now(), Tally::default(), Some(failure));
                self.end(&peer, trigger, Went::Badly, (!quiet).then_some(told)).await;
            }
        }
    }

    /// Syncs on a connection that was just made to this device.
    pub(super) async fn answer(self: Arc<Self>, channel: Channel, line: Line) {
        self.schedule().began(&channel.peer);
        self.talk(channel, line, Trigger::Called).await;
    }

    async fn talk(self: Arc<Self>, mut channel: Channel, line: Line, trigger: Trigger) {
        let (peer, begun, dialled) = (channel.peer, Instant::now(), trigger != Trigger::Called);
        let circle = self.circle();
        line.began_with(circle.own.contains(&peer));
        self.remember().await;
        // A call that gives way to another one did not begin.
        let met = || {
            line.met();
            if dialled {
                self.begun(&peer);
            }
            let began = self.outcome(&peer, dialled, trigger, begun, Tally::default(), None);
            self.events.publish(&Fact::SyncStarted(began));
        };
        let (tally, result) = tokio::select! {
            () = self.tasks.stopping().cancelled() => (Tally::default(), Err(Error::CalledOff)),
            ended = Box::pin(session::run(&self, circle, &mut channel, dialled, &line.stop, met)) => ended,
        };
        self.remember().await;
        let busy = matches!(&result, Err(Error::Fault(Fault::Failed(reason))) if reason == "busy");
        match result {
            Ok(()) => channel.close().await,
            Err(ref error) => tracing::debug!(peer = %peer.device_id(), %error, "a sync session ended early"),
        }
        let went = if matches!(&result, Err(Error::CalledOff)) {
            self.called_off(&line)
        } else if busy {
            Went::Elsewhere
        } else {
            match &result {
                Ok(()) => Went::Well,
                Err(Error::Store(error)) if error.is_full() => Went::NoRoom,
                Err(_) => Went::Badly,
            }
        };
        let failure = result.err().map(|error| Failure::from(ApiError::from(error)));
        self.note(&peer, &tally, went, failure.clone()).await;
        drop(line);
        let told = self.outcome(&peer, dialled, trigger, begun, tally, failure);
        self.end(&peer, trigger, went, Some(told)).await;
    }

    /// How a session went that was to stop.
    fn called_off(&self, line: &Line) -> Went {
        if line.is_kept() && !self.tasks.stopping().is_cancelled() { Went::Ended } else { Went::Elsewhere }
    }

    /// A session is over: what is next, and what is told of this one.
    async fn end(&self, peer: &PublicKey, trigger: Trigger, went: Went, told: Option<SyncSession>) {
        let news = self.schedule().ended(peer, trigger, went, Instant::now());
        match told.filter(|_| went != Went::Elsewhere) {
            Some(told) if told.reason.is_none() => self.events.publish(&Fact::SyncComplete(told)),
            Some(told) if news => self.events.publish(&Fact::SyncError(told)),
            _ => {}
        }
        self.wake.notify_one();
    }

    fn outcome(
        &self,
        peer: &PublicKey,
        dialled: bool,
        trigger: Trigger,
        begun: Instant,
        tally: Tally,
        reason: Option<Failure>,
    ) -> SyncSession {
        SyncSession {
            peer: view::peer(&self.trust.snapshot(), peer),
            dialled,
            trigger: trigger.as_str().to_owned(),
            sent: tally.report.sent,
            received: tally.report.received,
            conflicts: tally.report.conflicts.values().sum(),
            refused: tally.report.refused,
            bytes: tally.bytes,
            ms: u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX),
            reason,
        }
    }

    /// Writes down how a session went.
    async fn note(&self, peer: &PublicKey, tally: &Tally, went: Went, failure: Option<Failure>) {
        let (peer, report, why) = (*peer, tally.report.clone(), failure.clone());
        if let Some(skew) = report.skew_ms.filter(|skew| skew.unsigned_abs() > SKEW_MS) {
            let (id, hours) = (peer.device_id(), skew / 3_600_000);
            if skew.unsigned_abs() > DAY_MS {
                tracing::error!(%id, hours, "THE CLOCKS OF THE TWO DEVICES DIFFER BY MORE THAN A DAY: set them right");
            } else {
                tracing::warn!(%id, seconds = skew / 1000, "the clocks of the two devices differ");
            }
        }
        let noted = self.write(move |book| {
            // Of one that was called off nobody can say how it went.
            if matches!(went, Went::Well | Went::Badly | Went::NoRoom) {
                book.note_session(&peer, report.skew_ms, failure.as_ref(), now_ms())?;
            }
            for (id, refused) in &report.refusals {
                let Some(journal) = book.journal(id)? else { continue };
                let refusal = |it: &wire::Refused| Refusal { id: it.id.clone(), reason: it.reason.clone() };
                book.note_refused(&journal, &peer, &refused.iter().map(refusal).collect::<Vec<_>>())?;
                if let Some(conflicts) = report.conflicts.get(id) {
                    book.note_conflicts(&journal, &peer, *conflicts)?;
                }
            }
            Ok(())
        });
        let noted = noted.await;
        let mut unwritten = self.unwritten.lock().unwrap_or_else(PoisonError::into_inner);
        unwritten.remove(&peer);
        if let Err(error) = noted {
            tracing::error!(%error, "cannot write down how a sync session went");
            unwritten.extend(why.map(|why| (peer, why)));
        }
    }

    /// Tells of what a step of a session brought, after its commit.
    pub(super) async fn tell(self: &Arc<Self>, peer: &PublicKey, report: &mut Report) {
        let changed = std::mem::take(&mut report.changed);
        if !changed.is_empty() {
            self.entries_changed(changed.into_iter().collect(), Some(*peer)).await;
        }
        for note in std::mem::take(&mut report.notes) {
            match self.read(move |book| view::note(book, note)).await {
                Ok(Some(fact)) => self.events.publish(&fact),
                Ok(None) => {}
                Err(error) => tracing::error!(%error, "cannot tell of a conflict"),
            }
        }
        if std::mem::take(&mut report.introduced) {
            self.tell_of_journals().await;
        }
    }
}

/// A session with that device is under way, and is kept.
pub async fn refuse(mut channel: Channel) {
    let message = wire::message(&Message::Fail { reason: "busy".to_owned() });
    if channel.writer.send_frame(&message).await.is_ok() {
        channel.close().await;
    }
}
