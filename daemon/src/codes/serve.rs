//! `kith-join/1`: anybody may connect, say one thing, and hear one thing.
//!
//! Everybody who waits is decided on together: one transaction for all, and the answers behind its commit. While the
//! disk writes for some, others gather.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use kith_proto::limits;
use kith_proto::peer::join::{Join, JoinResult, Reason};
use kith_proto::text;
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};
use tokio::time::Instant;

use super::accept::{Ground, Knock, Verdict};
use super::{Codes, Engine};
use crate::clock;
use crate::discovery::Contact;
use crate::hello_store::Source;
use crate::tls::Channel;
use crate::tls::channel::within;

const PATIENCE: Duration = Duration::from_secs(limits::JOIN_SECONDS);
const REST: Duration = Duration::from_secs(limits::JOIN_REST_SECONDS);
/// When to come again, in seconds, if there are too many …
const BUSY: u32 = 5;
/// … and if the database fails.
const BROKEN: u32 = 30;

/// Somebody who waits for its RESULT.
pub struct Waiting {
    knock: Knock,
    answer: oneshot::Sender<JoinResult>,
    _place: OwnedSemaphorePermit,
}

impl Codes {
    /// A connection of whoever wants to join.
    pub async fn serve(&self, mut channel: Channel) {
        match within(PATIENCE, channel.reader.frame(limits::FRAME_UNAUTHENTICATED)).await {
            Ok(frame) => {
                let result = self.0.answer(&channel, &frame).await;
                if let Err(error) = within(PATIENCE, channel.writer.send_frame(&result.encode())).await {
                    tracing::debug!(remote = %channel.remote, %error, "a joiner did not wait for its answer");
                }
            }
            Err(error) => tracing::debug!(remote = %channel.remote, %error, "nobody asked to join"),
        }
        channel.close().await;
    }
}

impl Engine {
    /// What a frame is answered with.
    async fn answer(&self, channel: &Channel, frame: &[u8]) -> JoinResult {
        let source = Source::of(channel.remote.ip());
        if let Some(rest) = self.proofs.rest(source, Instant::now()) {
            return later(Reason::RateLimited, u32::try_from(rest.as_secs() + 1).unwrap_or(u32::MAX));
        }
        let Some(join) = Join::decode(frame) else {
            if Join::version(frame).is_some_and(|version| version > kith_proto::peer::join::message::VERSION) {
                return Reason::VersionUnsupported.into();
            }
            self.proofs.wrong(source, Instant::now());
            return Reason::UnknownCode.into();
        };
        let (own, exporter) = (self.identity.public(), &channel.binding.exporter);
        let knock = Knock {
            device: channel.peer,
            address: Some(SocketAddr::new(channel.remote.ip(), join.port)),
            name: text::device_name(&join.name, limits::DEVICE_NAME),
            resource: join.resource,
            proof: join.proof.0,
            proven: channel.peer != own && join.is_proven(&own, &channel.peer, exporter),
        };
        match self.knock(knock).await {
            Some(result) => {
                if result.reason == Reason::UnknownCode {
                    self.proofs.wrong(source, Instant::now());
                }
                result
            }
            None => later(Reason::Busy, BUSY),
        }
    }

    /// Waits for the decision, if there is room.
    pub(super) async fn knock(&self, knock: Knock) -> Option<JoinResult> {
        let place = self.places.clone().try_acquire_owned().ok()?;
        let (answer, result) = oneshot::channel();
        // There is as much room as there are places.
        self.queue.try_send(Waiting { knock, answer, _place: place }).ok()?;
        result.await.ok()
    }

    /// Decides on everybody who waits.
    async fn decide(&self, waiting: Vec<Waiting>) {
        let knocks: Vec<_> = waiting.iter().map(|waiting| waiting.knock.clone()).collect();
        let (sync, now_ms) = (self.sync.clone(), clock::now_ms());
        let decided =
            self.trust.write(move |tx, changes| Ground { tx, changes, sync: &sync, now_ms }.decide(&knocks)).await;
        let verdicts = match decided {
            Ok(verdicts) => verdicts,
            Err(error) => {
                tracing::error!(%error, "cannot let anybody in");
                waiting.into_iter().for_each(|it| drop(it.answer.send(later(Reason::Busy, BROKEN))));
                return;
            }
        };
        let mut joined: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for (Waiting { knock, answer, .. }, verdict) in waiting.into_iter().zip(verdicts) {
            let Verdict { result, changed, request, is_stranger } = verdict;
            if !is_stranger {
                tracing::info!(peer = %knock.device.device_id(), result = result.reason.as_str(), "a device came with a code");
            }
            if let Some(address) = knock.address.filter(|_| result.reason.is_in()) {
                self.discovery.reached(knock.device, address, Contact::Listens(address.port()));
            }
            if result.reason == Reason::Ok {
                joined.entry(knock.resource).or_default().push(knock.device);
            }
            changed.into_iter().for_each(|code| self.teller.code(code));
            request.into_iter().for_each(|request| self.teller.request(request));
            // Whoever hung up asks again, and is a member already.
            let _ = answer.send(result);
        }
        if !joined.is_empty() {
            // A code that is used up is withdrawn.
            self.publisher.wake();
        }
        for (journal, devices) in joined {
            self.sync.members_joined(&journal, &devices);
        }
    }
}

/// Decides on those who come, until the daemon stops.
pub async fn run(engine: Arc<Engine>, mut queue: mpsc::Receiver<Waiting>) {
    let stop = engine.tasks.stopping().clone();
    loop {
        let mut waiting = Vec::new();
        tokio::select! {
            () = stop.cancelled() => return,
            _ = queue.recv_many(&mut waiting, limits::JOIN_QUEUE) => {}
        }
        engine.decide(waiting).await;
    }
}

fn later(reason: Reason, seconds: u32) -> JoinResult {
    JoinResult { retry_after: Some(seconds), ..reason.into() }
}

/// Wrong proofs, by where they came from.
#[derive(Default)]
pub struct Proofs(Mutex<BTreeMap<Source, Wrong>>);

struct Wrong {
    count: u32,
    /// When the last one came.
    last: Instant,
}

impl Proofs {
    /// How long somebody has to rest.
    pub fn rest(&self, source: Source, now: Instant) -> Option<Duration> {
        let sources = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let wrong = sources.get(&source).filter(|wrong| wrong.count >= limits::JOIN_BAD_PROOFS)?;
        (wrong.last + REST).checked_duration_since(now).filter(|rest| !rest.is_zero())
    }

    /// A wrong one came.
    pub fn wrong(&self, source: Source, now: Instant) {
        let mut sources = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if !sources.contains_key(&source) && sources.len() >= limits::JOIN_ADDRESSES {
            let oldest = sources.iter().min_by_key(|(_, wrong)| wrong.last).map(|(source, _)| *source);
            oldest.and_then(|oldest| sources.remove(&oldest));
        }
        let wrong = sources.entry(source).or_insert(Wrong { count: 0, last: now });
        if now.saturating_duration_since(wrong.last) >= REST {
            wrong.count = 0;
        }
        wrong.count = wrong.count.saturating_add(1);
        wrong.last = now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn g73_wrong_proofs_of_one_address_end_in_a_rest() {
        let (proofs, now) = (Proofs::default(), Instant::now());
        let source = |last: u8| Source::of(std::net::IpAddr::from([10, 0, 0, last]));
        for _ in 1..limits::JOIN_BAD_PROOFS {
            proofs.wrong(source(1), now);
            assert_eq!(proofs.rest(source(1), now), None);
        }
        proofs.wrong(source(1), now);
        assert_eq!(proofs.rest(source(1), now), Some(REST));
        assert_eq!(proofs.rest(source(2), now), None, "nobody else rests");
        assert_eq!(proofs.rest(source(1), now + REST), None);
        proofs.wrong(source(1), now + REST);
        assert_eq!(proofs.rest(source(1), now + REST), None, "it begins anew");
    }

    #[tokio::test(start_paused = true)]
    async fn addresses_that_wrong_proofs_are_counted_for_are_bounded() {
        let (proofs, now) = (Proofs::default(), Instant::now());
        for n in 0..limits::JOIN_ADDRESSES as u32 + 10 {
            proofs.wrong(Source::of(std::net::Ipv4Addr::from(n).into()), now + Duration::from_millis(n.into()));
        }
        assert_eq!(proofs.0.lock().unwrap().len(), limits::JOIN_ADDRESSES);
    }
}
