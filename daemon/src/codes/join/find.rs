//! What a code leads to: its payload, from wherever it is given out. No place is believed, as only what opens with the
//! code is its payload; and none holds up another one.

use std::collections::{BTreeSet, VecDeque};
use std::future::poll_fn;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use kith_proto::guest::hello::StoreUrl;
use kith_proto::id::DeviceId;
use kith_proto::peer::join::payload::PayloadError;
use kith_proto::peer::join::{Keys, Payload};
use kith_proto::{limits, text};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout};

use super::words::Finding;
use crate::discovery::Snapshot;

/// How long one place may take.
const LOOKUP: Duration = Duration::from_secs(limits::HELLO_LOOKUP_SECONDS);
/// How long the devices on this network are asked alone: it need not leave the house.
const HEAD_START: Duration = Duration::from_secs(1);
/// How long to wait for others to come into sight.
const LISTEN: Duration = Duration::from_secs(3);
/// Devices on this network that are asked at once …
const LAN_AT_ONCE: usize = 64;
/// … and in total.
const LAN: usize = 512;
/// Places that are named when none could be asked.
const NAMED: usize = 8;

// All stores are asked at once.
const _: () = assert!(limits::HELLO_STORES <= limits::HELLO_LOOKUPS);

/// Where a payload may wait.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// A device on this network that gives out codes.
    Lan {
        /// How it calls itself.
        name: String,
        /// Where it may be.
        addresses: Vec<SocketAddr>,
    },
    /// A store of the configuration.
    Store(StoreUrl),
}

impl Place {
    fn name(&self) -> String {
        match self {
            Self::Lan { name, .. } => text::device_name(name, limits::DEVICE_NAME),
            // Without the hash of its certificate.
            Self::Store(url) => StoreUrl { pin: None, ..url.clone() }.to_string(),
        }
    }
}

/// What a place says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// This is it.
    Blob(Vec<u8>),
    /// Its time is over.
    Expired,
    /// Its owner took it away.
    Withdrawn,
    /// Nothing is known of it.
    Nothing,
}

/// A question to a place, and its answer; or why there is none.
pub type Asked<'a> = Pin<Box<dyn Future<Output = Result<Answer, String>> + Send + 'a>>;

/// Where to look.
pub struct Places {
    /// What comes into sight; `None` where nobody looks.
    pub lan: Option<watch::Receiver<Arc<Snapshot>>>,
    /// This device began to look around only now.
    pub is_new: bool,
    /// From the configuration.
    pub stores: Vec<StoreUrl>,
}

/// The payload, and when its code expires. `carried` came with the code.
pub async fn find<'a>(
    keys: &Keys,
    carried: Option<Vec<u8>>,
    places: Places,
    ask: impl Fn(Place) -> Asked<'a>,
) -> Result<(Payload, u64), Finding> {
    let mut tally = Tally::default();
    if let Some(blob) = carried
        && let Some(found) = tally.count("the ticket", keys, Ok(Answer::Blob(blob)))
    {
        return Ok(found);
    }
    let Places { mut lan, is_new, stores } = places;
    let begun = Instant::now();
    let (mut seen, mut waiting, mut running) = (BTreeSet::new(), VecDeque::new(), Vec::new());
    let mut stores = Some(stores);
    loop {
        let listening = lan.is_some() && begun.elapsed() < LISTEN;
        if listening && let Some(lan) = &mut lan {
            waiting.extend(sighted(&lan.borrow_and_update(), &mut seen));
        }
        while running.len() < LAN_AT_ONCE
            && let Some(place) = waiting.pop_front()
        {
            running.push(question(place, &ask));
        }
        let alone = begun.elapsed() < HEAD_START && (!running.is_empty() || (is_new && lan.is_some()));
        if !alone && let Some(stores) = stores.take() {
            running.extend(stores.into_iter().map(|url| question(Place::Store(url), &ask)));
        }
        if running.is_empty() && stores.is_none() && !listening {
            return Err(tally.verdict());
        }
        let changed = async {
            match &mut lan {
                Some(lan) => lan.changed().await.is_ok(),
                None => std::future::pending().await,
            }
        };
        let lan_ended = tokio::select! {
            biased;
            (name, answer) = first(&mut running), if !running.is_empty() => {
                if let Some(found) = tally.count(&name, keys, answer) {
                    return Ok(found);
                }
                false
            }
            more = changed, if listening => !more,
            () = sleep_until(begun + HEAD_START), if stores.is_some() => false,
            () = sleep_until(begun + LISTEN), if listening => false,
        };
        if lan_ended {
            lan = None;
        }
    }
}

/// Those in sight that give out codes, and were not seen before.
fn sighted(snapshot: &Snapshot, seen: &mut BTreeSet<DeviceId>) -> Vec<Place> {
    let mut places = Vec::new();
    for (id, sighting) in &snapshot.peers {
        let Some(port) = sighting.hello else { continue };
        if seen.len() >= LAN || !seen.insert(*id) {
            continue;
        }
        let mut addresses: Vec<SocketAddr> = Vec::new();
        for address in &sighting.addresses {
            let mut address = *address;
            address.set_port(port);
            if !addresses.contains(&address) {
                addresses.push(address);
            }
        }
        if !addresses.is_empty() {
            places.push(Place::Lan { name: sighting.name.clone(), addresses });
        }
    }
    places
}

type Named<'a> = Pin<Box<dyn Future<Output = (String, Result<Answer, String>)> + Send + 'a>>;

fn question<'a>(place: Place, ask: &impl Fn(Place) -> Asked<'a>) -> Named<'a> {
    let (name, asked) = (place.name(), ask(place));
    Box::pin(async move {
        let answer = timeout(LOOKUP, asked).await.unwrap_or_else(|_| Err("no answer in time".to_owned()));
        (name, answer)
    })
}

/// The first to be answered, taken out of them.
async fn first<F: Future + Unpin>(running: &mut Vec<F>) -> F::Output {
    poll_fn(|cx| {
        for at in 0..running.len() {
            if let Poll::Ready(output) = Pin::new(&mut running[at]).poll(cx) {
                drop(running.swap_remove(at));
                return Poll::Ready(output);
            }
        }
        Poll::Pending
    })
    .await
}

/// What was said so far.
#[derive(Default)]
struct Tally {
    /// It opens, and needs a newer version: nobody but the issuer can say so.
    newer: Option<PayloadError>,
    withdrawn: bool,
    expired: bool,
    unreadable: Option<PayloadError>,
    nothing: bool,
    failed: Vec<String>,
}

impl Tally {
    fn count(&mut self, name: &str, keys: &Keys, answer: Result<Answer, String>) -> Option<(Payload, u64)> {
        match answer {
            Ok(Answer::Blob(blob)) => match Payload::open(&blob, keys) {
                Ok(found) => return Some(found),
                Err(error @ PayloadError::Version) => self.newer = Some(error),
                Err(error) => {
                    tracing::debug!(place = name, %error, "what was found for a code does not open");
                    self.unreadable = Some(error);
                }
            },
            Ok(Answer::Withdrawn) => self.withdrawn = true,
            Ok(Answer::Expired) => self.expired = true,
            Ok(Answer::Nothing) => self.nothing = true,
            Err(why) if self.failed.len() < NAMED => {
                self.failed.push(format!("{name} ({})", text::printable(text::cut(&why, 256))));
            }
            Err(_) => {}
        }
        None
    }

    fn verdict(self) -> Finding {
        match self {
            Self { newer: Some(error), .. } => Finding::Unreadable(error),
            // Damage says less than that it is over.
            Self { withdrawn: true, .. } => Finding::Withdrawn,
            Self { expired: true, .. } => Finding::Expired,
            Self { unreadable: Some(error), .. } => Finding::Unreadable(error),
            Self { nothing: true, failed, .. } => Finding::NotFound(failed),
            Self { failed, .. } => Finding::Unreachable(failed),
        }
    }
}

#[cfg(test)]
#[path = "find_tests.rs"]
mod tests;
