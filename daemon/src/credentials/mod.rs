//! Handing secrets and databases over: under a short code to whoever types it, to a paired device, or to the Photosphere
//! app.
//!
//! ```text
//! book     what is known of each share now, and who may end it
//! send     the sender's side of a short code: which receiver is the right one
//! receive  the receiver's side: who knows the code, and what becomes of what came
//! paired   to and from paired devices, whose shares wait in the inbox
//! beacon   who on the LAN waits for credentials: saying so, and hearing it
//! psi      handing over as the Photosphere app does
//! ```
//!
//! Nothing is written here: what arrived goes into the [`Vault`] as a whole, after somebody looked through it.

pub mod beacon;
mod book;
mod paired;
pub mod psi;
mod receive;
mod send;

use std::sync::Arc;
use std::time::Duration;

use kith_proto::control::credential::{
    OfferedDatabase, OfferedSecret, SavedResult, Share, ShareKind, ShareReceiveParams, ShareReview, ShareSaveParams,
    ShareSendParams, ShareSendResult, ShareState,
};
use kith_proto::control::types::{Direction, Failure, Party};
use kith_proto::control::{ApiError, Code};
use kith_proto::credential::payload::Payload;
use kith_proto::limits;
use kith_proto::secret_text::SecretText;
use kith_proto::short_code::ShortCode;
use tokio_util::sync::CancellationToken;

use crate::config::Settings;
use crate::dial::Dial;
use crate::discovery::Filter;
use crate::event::Events;
use crate::store;
use crate::task::Tasks;
use crate::tls::Channel;
use crate::trust::Trust;
use crate::vault::Vault;
use beacon::Beacon;
use book::Book;

/// How long the two sides may take to find each other and to hand over.
const PATIENCE: Duration = Duration::from_secs(limits::SHARE_SECONDS);
/// How long what arrived may be looked through.
const REVIEW: Duration = Duration::from_secs(limits::SHARE_REVIEW_SECONDS);

/// Everything that handing over works with.
pub struct Parts {
    /// How many digits, which interfaces.
    pub settings: Settings,
    /// Where credentials lie.
    pub vault: Vault,
    /// Who is paired.
    pub trust: Trust,
    /// The way out.
    pub dial: Dial,
    /// Where steps are told.
    pub events: Events,
    /// Who runs it.
    pub tasks: Tasks,
}

/// The shares of this device. Cloned freely.
#[derive(Clone)]
pub struct Credentials(Arc<Engine>);

struct Engine {
    settings: Settings,
    vault: Vault,
    trust: Trust,
    dial: Dial,
    tasks: Tasks,
    beacon: Beacon,
    book: Book,
}

impl Credentials {
    /// Finds what waits in the inbox.
    pub async fn start(parts: Parts) -> Result<Self, store::Error> {
        let Parts { settings, vault, trust, dial, events, tasks } = parts;
        let filter = Arc::new(Filter::new(&settings.config.discovery));
        let (beacon, book) = (Beacon::new(&tasks, &filter), Book::new(events));
        let engine = Engine { settings, vault, trust, dial, tasks, beacon, book };
        engine.load_inbox().await?;
        Ok(Self(Arc::new(engine)))
    }

    /// Hands a secret or a database over. A share with a code ends with `owner`.
    pub async fn send(
        &self,
        params: ShareSendParams,
        owner: Option<CancellationToken>,
    ) -> Result<ShareSendResult, ApiError> {
        known(params.kind)?;
        let payload = self.0.vault.payload(&params).await?;
        let name = Some(payload.name().to_owned());
        let mut view = book::new(Direction::Out, params.kind, name, Some(millis(PATIENCE)));
        let cancel = self.0.tasks.stopping().child_token();
        let engine = self.0.clone();
        if let Some(peer) = &params.to {
            if params.compat {
                return Err(ApiError::new(
                    Code::InvalidParam,
                    "a paired device needs no other protocol: leave compat out",
                ));
            }
            let (key, party) = engine.paired(peer)?;
            view.peer = Some(party);
            let share = engine.book.begin(view, cancel.clone())?;
            let id = share.share.clone();
            self.0.tasks.spawn("share to a device", async move {
                let outcome = within(&cancel, owner, PATIENCE, engine.deliver(&key, &payload)).await;
                engine.end(&id, outcome);
            });
            return Ok(ShareSendResult { share, code: None });
        }
        let code = ShortCode::from_random(engine.settings.config.share.digits, &mut fill);
        let shown = SecretText::new(code.expose().to_owned());
        view.compat = params.compat;
        view.attempts_left = (!params.compat).then_some(limits::SHORT_CODE_ATTEMPTS);
        let share = engine.book.begin(view, cancel.clone())?;
        let id = share.share.clone();
        self.0.tasks.spawn("share", async move {
            let outcome = if params.compat {
                within(&cancel, owner, PATIENCE, engine.send_as_app(&payload, &code)).await
            } else {
                engine.send_under_code(&id, payload, code, &cancel, owner).await
            };
            engine.end(&id, outcome);
        });
        Ok(ShareSendResult { share, code: Some(shown) })
    }

    /// Waits for whoever shows this code. Ends with `owner`.
    pub async fn receive(
        &self,
        params: ShareReceiveParams,
        owner: Option<CancellationToken>,
    ) -> Result<Share, ApiError> {
        known(params.kind)?;
        let code = ShortCode::parse(params.code.expose())
            .map_err(|error| ApiError::new(Code::InvalidParam, error.to_string()))?;
        // Before the code has had its one use.
        self.0.vault.ready().await?;
        let mut view = book::new(Direction::In, params.kind, None, Some(millis(PATIENCE)));
        view.compat = params.compat;
        view.attempts_left = (!params.compat).then_some(limits::SHORT_CODE_ATTEMPTS);
        let cancel = self.0.tasks.stopping().child_token();
        let share = self.0.book.begin(view, cancel.clone())?;
        let (engine, begun) = (self.0.clone(), share.clone());
        self.0.tasks.spawn("share", async move { engine.receive(&begun, code, &cancel, owner).await });
        Ok(share)
    }

    /// What a paired device hands over, on a connection that the peer door accepted.
    pub async fn serve(&self, channel: Channel) {
        self.0.take_in(channel).await;
    }

    /// Shares under way, those that wait for a review, and the last that ended; newest first.
    pub fn list(&self) -> Vec<Share> {
        self.0.book.list()
    }

    /// How many shares wait for a review.
    pub fn waiting(&self) -> usize {
        let waits = |share: &Share| share.direction == Direction::In && share.state == ShareState::Review;
        self.0.book.list().iter().filter(|share| waits(share)).count()
    }

    /// What arrived, and where it meets what is here.
    pub async fn review(&self, wanted: &str) -> Result<ShareReview, ApiError> {
        let id = self.0.book.find(wanted)?.share;
        let opened = self.0.book.open(&id)?;
        let payload = self.0.payload(&id, opened.payload).await?;
        let (database, secrets) = self.0.vault.meets(&payload).await?;
        let offered = |(at, secret): (usize, &kith_proto::credential::NamedSecret)| OfferedSecret {
            slot: match &*payload {
                Payload::Secret(_) => None,
                Payload::Database { secrets, .. } => secrets.get(at).map(|(slot, _)| *slot),
            },
            name: secret.name.clone(),
            kind: secret.kind,
            meets: secrets[at],
        };
        Ok(ShareReview {
            share: opened.view,
            secrets: payload.secrets().enumerate().map(offered).collect(),
            database: match (&*payload, database) {
                (Payload::Database { fields, .. }, Some(meets)) => Some(OfferedDatabase {
                    name: fields.name.clone(),
                    description: fields.description.clone(),
                    path: fields.path.clone(),
                    origin: fields.origin.clone(),
                    meets,
                }),
                _ => None,
            },
        })
    }

    /// Saves what arrived, all or nothing.
    pub async fn save(&self, params: ShareSaveParams) -> Result<SavedResult, ApiError> {
        let id = self.0.book.find(&params.share)?.share;
        let opened = self.0.book.hold(&id)?;
        let offered = opened.payload.is_none().then_some(id.as_str());
        let result = match self.0.payload(&id, opened.payload).await {
            Ok(payload) => self.0.vault.save(&payload, &params, offered).await,
            Err(error) => Err(error),
        };
        self.0.book.saved(&id, &result);
        result
    }

    /// Turns down what arrived.
    pub async fn decline(&self, wanted: &str) -> Result<Share, ApiError> {
        let id = self.0.book.find(wanted)?.share;
        let in_inbox = self.0.book.hold(&id)?.payload.is_none();
        if in_inbox && let Err(error) = self.0.vault.drop_offered(&id).await {
            self.0.book.saved(&id, &Err(error.clone()));
            return Err(error);
        }
        self.0.book.decline(&id)
    }

    /// Calls a share off.
    pub fn cancel(&self, wanted: &str) -> Result<Share, ApiError> {
        let id = self.0.book.find(wanted)?.share;
        self.0.book.cancel(&id)?;
        self.0.book.settle(&id, ShareState::Canceled, Some(called_off().into()));
        self.0.book.find(&id)
    }
}

impl Engine {
    /// What arrived: in memory, or sealed in the inbox.
    async fn payload(&self, id: &str, payload: Option<Arc<Payload>>) -> Result<Arc<Payload>, ApiError> {
        match payload {
            Some(payload) => Ok(payload),
            None => self.vault.open_offered(id).await,
        }
    }

    /// Writes down how a share that goes out ended.
    fn end(&self, id: &str, outcome: Result<Ending, ApiError>) {
        let (state, reason) = match outcome {
            Ok(Ending { state, reason }) => (state, reason),
            Err(error) => (failed(&error), Some(error.into())),
        };
        self.book.settle(id, state, reason);
    }
}

/// How a share that goes out ended, as the other side said.
struct Ending {
    state: ShareState,
    reason: Option<Failure>,
}

/// `work`, unless it is called off, its owner goes away or its time is over before.
async fn within<T>(
    cancel: &CancellationToken,
    owner: Option<CancellationToken>,
    patience: Duration,
    work: impl Future<Output = Result<T, ApiError>>,
) -> Result<T, ApiError> {
    let gone = async {
        match owner {
            Some(owner) => owner.cancelled_owned().await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        () = cancel.cancelled() => Err(called_off()),
        () = gone => Err(called_off()),
        done = tokio::time::timeout(patience, work) => done.unwrap_or_else(|_| Err(expired())),
    }
}

fn called_off() -> ApiError {
    ApiError::new(Code::Canceled, "the share was called off")
}

fn called_off_there() -> ApiError {
    ApiError::new(Code::Canceled, "the other side called the share off, or went away")
}

fn expired() -> ApiError {
    let message = format!("the two devices did not find each other within {} seconds", limits::SHARE_SECONDS);
    ApiError::new(Code::TimedOut, message)
        .hint("both must be on the same network, and the code must be typed there while it is shown here; start again")
}

/// The state in which a share ends with this error.
fn failed(error: &ApiError) -> ShareState {
    if error.code == Code::Canceled { ShareState::Canceled } else { ShareState::Failed }
}

fn known(kind: ShareKind) -> Result<(), ApiError> {
    match kind {
        ShareKind::Secret | ShareKind::Database => Ok(()),
        ShareKind::Unknown => Err(ApiError::new(Code::InvalidParam, "kind is secret or database")),
    }
}

/// Whether this is what was asked for.
fn kind_of(payload: &Payload) -> ShareKind {
    match payload {
        Payload::Secret(_) => ShareKind::Secret,
        Payload::Database { .. } => ShareKind::Database,
    }
}

/// Somebody who is known by an address alone.
fn stranger(address: std::net::IpAddr) -> Party {
    let address = address.to_string();
    Party { id: None, name: address.clone(), address: Some(address), protocol: None }
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

fn fill(into: &mut [u8]) {
    getrandom::fill(into).expect("the system gave random bytes at the start");
}

fn random() -> [u8; 64] {
    let mut bytes = [0; 64];
    fill(&mut bytes);
    bytes
}

#[cfg(test)]
mod tests;
