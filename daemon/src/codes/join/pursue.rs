//! A join that was confirmed: it is asked for until the issuer gives its last word, somebody calls it off, or nobody can
//! be let in by its code any more.

use std::sync::Arc;
use std::time::Duration;

use kith_proto::control::code::JoinState;
use kith_proto::id::DeviceId;
use kith_proto::limits;
use kith_proto::peer::join::Payload;
use kith_proto::peer::join::code::ProofKey;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;

use super::ask::{Settled, Tried};
use super::shown::issuer_name;
use super::words::{self, Local, Said};
use super::{Engine, book, store_said};
use crate::clock;
use crate::discovery::Snapshot;

/// The pause after the first try, and at the least …
const FIRST: Duration = Duration::from_secs(1);
/// … and the longest one.
const LONGEST: Duration = Duration::from_secs(300);
/// However late an issuer wants to be asked again, it is asked so soon.
const LATEST: u32 = 3_600;

/// A join that was confirmed.
pub struct Pursued {
    /// Names it.
    pub id: String,
    /// Proves that this device has the code.
    pub proof: ProofKey,
    /// Who, what, where.
    pub payload: Payload,
    /// Where a folder goes.
    pub path: Option<String>,
    /// When somebody said yes: milliseconds since 1970.
    pub confirmed_ms: i64,
    /// When nobody is asked any more: the same.
    pub until_ms: i64,
    /// Ends it.
    pub cancel: CancellationToken,
    /// Wakes it.
    pub nudge: Arc<Notify>,
}

/// What a try leads to.
enum Step {
    /// It is over.
    Over,
    /// Another try, later.
    Again {
        /// Why.
        said: Said,
        /// When, if the issuer says so.
        after: Option<u32>,
    },
}

impl Engine {
    /// Until it is over, or the daemon stops.
    pub(super) async fn pursue(&self, join: Pursued) {
        let issuer = join.payload.issuer.device_id();
        let (mut seen, mut pauses, mut last) = (self.discovery.watch(), Pauses::default(), None);
        loop {
            let before = sight(&seen.borrow_and_update(), &issuer);
            self.shown.trying(&join.id);
            let step = tokio::select! {
                biased;
                () = join.cancel.cancelled() => return,
                step = self.step(&join) => step,
            };
            let Step::Again { said, after } = step else { return };
            let pause = match after {
                Some(seconds) => asked_for(seconds, random()),
                None => pauses.next(random()),
            };
            let now = clock::now_ms();
            if now >= join.until_ms {
                return self.fail(&join.id, words::given_up(said)).await;
            }
            tracing::debug!(result = said.result, "a join is pending");
            if last.as_ref() != Some(&said) {
                let (id, noted) = (join.id.clone(), said.clone());
                if let Err(error) = self.store.write(move |tx| book::note(tx, &id, &noted)).await {
                    tracing::warn!(%error, "cannot note how a join is");
                }
                last = Some(said.clone());
            }
            let pause = pause.min(Duration::from_millis(u64::try_from(join.until_ms - now).unwrap_or_default()));
            let at = Instant::now() + pause;
            self.shown.pending(&join.id, said, now + i64::try_from(pause.as_millis()).unwrap_or(i64::MAX));
            let wait = async {
                // Whatever is announced, nobody is dialled more often than this.
                sleep(FIRST.min(pause)).await;
                let sighted = async {
                    while after.is_some() || !sight(&seen.borrow_and_update(), &issuer).is_news_after(&before) {
                        if seen.changed().await.is_err() {
                            std::future::pending::<()>().await;
                        }
                    }
                };
                tokio::select! {
                    () = sleep_until(at) => {}
                    () = sighted => {}
                    () = join.nudge.notified() => {}
                }
            };
            tokio::select! {
                () = join.cancel.cancelled() => return,
                () = wait => {}
            }
        }
    }

    async fn step(&self, join: &Pursued) -> Step {
        let issuer = issuer_name(&join.payload);
        let (result, remote) = match self.ask(&join.proof, &join.payload).await {
            Tried::Said(result, remote) => (*result, remote),
            Tried::Local(local) => return Step::Again { said: local.said(&issuer), after: None },
        };
        if !result.reason.is_in() {
            let said = words::refusal(&result, &issuer);
            if result.reason.is_transient() {
                return Step::Again { said, after: result.retry_after };
            }
            tracing::info!(issuer = %join.payload.issuer.device_id(), result = said.result, "not let in");
            self.fail(&join.id, said).await;
            return Step::Over;
        }
        let word = result.reason.as_str();
        let again = |said| Step::Again { said, after: None };
        match self.settle(join, result, remote).await {
            Ok(Settled::In(entered, reason)) => {
                tracing::info!(issuer = %join.payload.issuer.device_id(), resource = %entered.id, "joined by a code");
                self.arrived(join.payload.issuer, remote, &entered).await;
                self.shown.joined(&join.id, reason.as_str(), self.sync.name_of(&entered.id).await.ok().flatten());
                Step::Over
            }
            Ok(Settled::Over) => Step::Over,
            Ok(Settled::Unproven) => again(Local::Unproven.said(&issuer)),
            Ok(Settled::Refused(error)) => again(Said { result: word, error }),
            Err(error) => again(store_said(word, error)),
        }
    }

    /// The last word, if it was not the last already.
    async fn fail(&self, id: &str, said: Said) {
        let (row, noted, now) = (id.to_owned(), said.clone(), clock::now_ms());
        let ended = self.store.write(move |tx| book::end(tx, &row, JoinState::Failed, &noted, now)).await;
        if let Err(error) = &ended {
            // It is asked once more after the next start, and hears the same.
            tracing::error!(%error, "cannot note how a join ended");
        }
        if !matches!(ended, Ok(false)) {
            self.shown.ended(id, JoinState::Failed, said);
        }
    }
}

/// Until when an issuer is asked, by this device's clock: until its code's time is over and a day more; a day from the
/// yes at least, as this clock may be wrong; and no longer than any code lives, whatever the issuer says.
pub fn until_ms(expires_ms: i64, confirmed_ms: i64) -> i64 {
    let grace = i64::try_from(limits::JOIN_GRACE_MS).unwrap_or(i64::MAX);
    let longest = i64::try_from(limits::CODE_SECONDS.end() * 1000).unwrap_or(i64::MAX);
    let latest = confirmed_ms.saturating_add(longest);
    expires_ms.clamp(confirmed_ms, latest).saturating_add(grace)
}

/// How an issuer is in sight.
#[derive(Debug, Default, PartialEq, Eq)]
struct Sight {
    there: bool,
    addresses: Vec<std::net::SocketAddr>,
}

impl Sight {
    /// Whether it came into sight since, or came to another place.
    fn is_news_after(&self, before: &Self) -> bool {
        let elsewhere = self.addresses.iter().any(|address| !before.addresses.contains(address));
        self.there && (!before.there || elsewhere)
    }
}

fn sight(snapshot: &Snapshot, issuer: &DeviceId) -> Sight {
    let seen = snapshot.peers.get(issuer);
    seen.map_or_else(Sight::default, |peer| Sight { there: peer.online, addresses: peer.addresses.clone() })
}

/// The pauses between tries: twice as long each time, and never in step with those of others.
#[derive(Debug, Default)]
struct Pauses {
    tries: u32,
}

impl Pauses {
    /// The next one. `random` is anything.
    fn next(&mut self, random: u32) -> Duration {
        let most = FIRST.saturating_mul(1 << self.tries.min(16)).min(LONGEST);
        self.tries = self.tries.saturating_add(1);
        spread(FIRST.max(most / 2), most, random)
    }
}

/// When to ask again if the issuer wants it so late: not before, and a little later, as it may have said so to many.
fn asked_for(seconds: u32, random: u32) -> Duration {
    let least = Duration::from_secs(seconds.clamp(1, LATEST).into());
    spread(least, least + least / 8, random)
}

fn spread(least: Duration, most: Duration, random: u32) -> Duration {
    least + (most - least).mul_f64(f64::from(random) / f64::from(u32::MAX))
}

fn random() -> u32 {
    getrandom::u32().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_from_a_second_to_five_minutes() {
        for random in [0, u32::MAX / 2, u32::MAX] {
            let mut pauses = Pauses::default();
            let all: Vec<_> = std::iter::repeat_with(|| pauses.next(random)).take(100).collect();
            assert_eq!(all[0], FIRST);
            assert!(all.is_sorted() && all.iter().all(|pause| (FIRST..=LONGEST).contains(pause)), "{all:?}");
            assert!(all[99] >= LONGEST / 2);
        }
        let mut pauses = Pauses { tries: u32::MAX };
        assert_eq!(pauses.next(u32::MAX), LONGEST, "it has no end");
    }

    #[test]
    fn an_issuer_is_asked_again_when_it_says_and_not_before() {
        for (seconds, least, most) in [(0, 1, 2), (1, 1, 2), (60, 60, 68), (u32::MAX, 3_600, 4_050)] {
            for random in [0, u32::MAX / 2, u32::MAX] {
                let pause = asked_for(seconds, random);
                assert!(
                    (Duration::from_secs(least)..=Duration::from_secs(most)).contains(&pause),
                    "{seconds}: {pause:?}"
                );
            }
        }
    }

    #[test]
    fn g50_a_clock_that_is_wrong_leaves_a_day_for_trying() {
        const DAY: i64 = 86_400_000;
        assert_eq!(until_ms(10 * DAY, 5 * DAY), 11 * DAY);
        assert_eq!(until_ms(10 * DAY, 400 * DAY), 401 * DAY, "by this clock it was over long ago");
        assert_eq!(until_ms(i64::MAX, 5 * DAY), 36 * DAY, "no issuer is asked for ever because it says so");
        assert_eq!(until_ms(0, i64::MAX), i64::MAX);
    }

    #[test]
    fn what_comes_into_sight_or_to_another_place_is_news() {
        let at = |there, ports: &[u16]| {
            let addresses = ports.iter().map(|port| ([127, 0, 0, 1], *port).into()).collect();
            Sight { there, addresses }
        };
        for (before, after, news) in [
            (at(false, &[]), at(true, &[1]), true),
            (at(false, &[1]), at(true, &[1]), true),
            (at(true, &[1]), at(true, &[1]), false),
            (at(true, &[1]), at(true, &[2, 1]), true),
            (at(true, &[1, 2]), at(true, &[2]), false),
            (at(true, &[1]), at(false, &[2]), false),
        ] {
            assert_eq!(after.is_news_after(&before), news, "{before:?} {after:?}");
        }
    }
}
