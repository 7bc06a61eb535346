//! Payloads on their way to hello stores, and away from there again.
//!
//! Each code has a row for each store, this device's own among them. What is to be done follows from the rows and the
//! codes; when, from a [`Timetable`] that lives as long as the daemon: after a start everything is looked at anew, and
//! everything that lives is put again each hour, as a store may have lost it. Nothing is withdrawn because a clock says
//! that it is over: it expires there by itself.

mod rows;
mod timetable;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use kith_proto::control::code::PublicationState;
use kith_proto::control::types::Failure;
use kith_proto::control::{ApiError, Code as ErrorCode};
use kith_proto::guest::hello::StoreUrl;
use kith_proto::limits;
use tokio::sync::{Notify, mpsc};
use tokio::time::Instant;

use super::Engine;
use super::book::Book;
use crate::clock;
use crate::dial::{Dial, HelloError};
use crate::hello_store::Deposited;
pub use rows::{OWN, Parcel, Published};
use rows::{Plan, Target};
use timetable::Timetable;
pub use timetable::{Pace, USUAL};

/// A withdrawal that does not come through is tried for a day: by then there is hardly anything left of it.
const WITHDRAWAL_MS: i64 = 86_400_000;
/// After the database failed.
const BROKEN: Duration = Duration::from_secs(10);

/// What is to be done with a payload at a store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Work {
    /// Bring it there.
    Put,
    /// Take it away.
    Withdraw,
}

/// Why a store did not do it.
#[derive(Debug)]
pub struct Setback {
    /// For people.
    pub why: ApiError,
    /// When the store wants to be asked again, in seconds.
    pub retry_after: Option<u32>,
}

/// What a store answers, when it does.
pub type Answer<'a> = Pin<Box<dyn Future<Output = Result<(), Setback>> + Send + 'a>>;

/// The way to the stores of others.
pub trait Stores: Send + Sync {
    /// Does it.
    fn ask<'a>(&'a self, store: &'a str, work: Work, parcel: &'a Parcel) -> Answer<'a>;
}

/// Wakes the task that publishes.
#[derive(Default)]
pub struct Publisher(Notify);

impl Publisher {
    /// Codes were made, or are over.
    pub fn wake(&self) {
        self.0.notify_one();
    }
}

/// What came of one piece of work.
struct Done {
    target: Target,
    work: Work,
    outcome: Result<(), Setback>,
}

/// Publishes and withdraws, until the daemon stops.
pub async fn run(engine: Arc<Engine>, stores: Arc<dyn Stores>, pace: Pace) {
    let stop = engine.tasks.stopping().clone();
    let (done, mut finished) = mpsc::channel::<Done>(limits::HELLO_LOOKUPS);
    let mut timetable = Timetable::new(pace);
    loop {
        let next = match look(&engine).await {
            Ok(plan) => {
                timetable.follow(plan, Instant::now());
                for (target, work) in timetable.take(Instant::now()) {
                    let (engine, stores, done) = (engine.clone(), stores.clone(), done.clone());
                    engine.tasks.clone().spawn("code publication", async move {
                        let outcome = carry(&engine, &*stores, &target, work).await;
                        // The daemon stops: nobody wants to know.
                        let _ = done.send(Done { target, work, outcome }).await;
                    });
                }
                timetable.next()
            }
            Err(error) => {
                tracing::error!(%error, "cannot see which codes are to be published");
                Some(Instant::now() + BROKEN)
            }
        };
        let due = async {
            match next {
                Some(next) => tokio::time::sleep_until(next).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = stop.cancelled() => return,
            () = engine.publisher.0.notified() => {}
            () = due => {}
            Some(done) = finished.recv() => {
                settle(&engine, &mut timetable, done).await;
                while let Ok(done) = finished.try_recv() {
                    settle(&engine, &mut timetable, done).await;
                }
            }
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(pace.look) => {}
        }
    }
}

/// What is to be done at this moment.
async fn look(engine: &Engine) -> Result<Plan, crate::store::Error> {
    let (now_ms, stores) = (clock::now_ms(), engine.stores.clone());
    let plan = engine.store.write(move |tx| Book(tx).plan(&stores, now_ms)).await?;
    engine.hello.want(plan.any_lately);
    plan.changed.iter().for_each(|code| engine.teller.code(*code));
    Ok(plan)
}

async fn carry(engine: &Engine, stores: &dyn Stores, target: &Target, work: Work) -> Result<(), Setback> {
    let number = target.code;
    let parcel = engine.store.read(move |connection| Book(connection).parcel(number)).await;
    let Some(parcel) = parcel.map_err(|error| Setback { why: error.into(), retry_after: None })? else {
        // It was forgotten meanwhile.
        return Ok(());
    };
    if target.store != OWN {
        return stores.ask(&target.store, work, &parcel).await;
    }
    keep(engine, work, parcel).await
}

/// The same at this device's own store.
async fn keep(engine: &Engine, work: Work, parcel: Parcel) -> Result<(), Setback> {
    let Parcel { lookup, blob, token, expires_ms } = parcel;
    let kept = match work {
        Work::Put => engine.hello.keep(lookup, blob, token.hash(), expires_ms).await.map(accepted),
        Work::Withdraw => engine.hello.withdraw(lookup, &token).await.map(|_| Ok(())),
    };
    let kept = kept.unwrap_or_else(|error| Err(setback(ErrorCode::Internal, error.to_string())));
    if let Err(setback) = &kept {
        tracing::warn!(error = %setback.why, "this device's own hello store fails; it is tried again");
    }
    kept
}

/// A code was made: whoever is told of it finds its payload on this network, without waiting for the next look.
pub async fn begin(engine: &Engine, parcel: Parcel) {
    // Where it fails, it is tried again like everything else.
    let _ = keep(engine, Work::Put, parcel).await;
    engine.hello.want(true);
    engine.publisher.wake();
}

async fn settle(engine: &Engine, timetable: &mut Timetable, done: Done) {
    let Done { target, work, outcome } = done;
    let now_ms = clock::now_ms();
    timetable.done(&target, work, &outcome, Instant::now());
    let state = match (work, &outcome) {
        (Work::Put, Ok(())) => PublicationState::Published,
        (Work::Put, Err(_)) => PublicationState::Failed,
        (Work::Withdraw, _) => PublicationState::Withdrawn,
    };
    let failed = outcome.is_err();
    let reason = outcome.err().map(|setback| Failure::from(setback.why));
    let code = target.code;
    let written = engine.store.write(move |tx| match work {
        Work::Put => Book(tx).set_put(&target, state, reason.as_ref(), now_ms),
        Work::Withdraw => Book(tx).set_withdrawn(&target, failed.then_some(now_ms - WITHDRAWAL_MS)),
    });
    match written.await {
        Ok(true) => engine.teller.code(code),
        Ok(false) => {}
        Err(error) => tracing::error!(%error, "cannot note what a hello store said"),
    }
}

impl Stores for Dial {
    fn ask<'a>(&'a self, store: &'a str, work: Work, parcel: &'a Parcel) -> Answer<'a> {
        Box::pin(async move {
            let url = StoreUrl::parse(store).map_err(|error| setback(ErrorCode::InvalidParam, error.to_string()))?;
            let Parcel { lookup, blob, token, expires_ms } = parcel;
            let answer = match work {
                Work::Put => self.hello_put(&url, lookup, blob, token.hash(), *expires_ms).await.map(accepted),
                Work::Withdraw => self.hello_withdraw(&url, lookup, token).await.map(|_| Ok(())),
            };
            answer.map_err(explained)?
        })
    }
}

fn accepted(deposited: Deposited) -> Result<(), Setback> {
    match deposited {
        Deposited::Created | Deposited::Same => Ok(()),
        Deposited::Other => Err(setback(ErrorCode::Rejected, "something else lies there under this name".to_owned())),
        Deposited::SourceFull | Deposited::Full => {
            Err(setback(ErrorCode::Rejected, "the hello store has no room for more".to_owned()))
        }
    }
}

fn explained(error: HelloError) -> Setback {
    let code = match &error {
        HelloError::Unreachable(_) => ErrorCode::StoreUnreachable,
        HelloError::Certificate => ErrorCode::WrongKey,
        HelloError::Refused { .. } => ErrorCode::Rejected,
        HelloError::Malformed => ErrorCode::Protocol,
    };
    let retry_after = match error {
        HelloError::Refused { retry_after, .. } => retry_after,
        _ => None,
    };
    Setback { why: ApiError::new(code, error.to_string()), retry_after }
}

fn setback(code: ErrorCode, message: String) -> Setback {
    Setback { why: ApiError::new(code, message), retry_after: None }
}
