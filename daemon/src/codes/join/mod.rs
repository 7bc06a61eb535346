//! The joiner's side of sharing codes: from a code that somebody typed to a resource that is here.
//!
//! ```text
//! find     what a code leads to: from this network, from the stores of the configuration
//! shown    what is known of each join now, and who may end it
//! book     … and what is written down of those that were confirmed
//! pursue   asking the issuer until its last word
//! ask      one try, and what follows from a yes
//! words    what became of it, as sentences
//! ```
//!
//! Looking up tells nobody anything of this device; nobody is trusted and nothing is written before somebody here said
//! yes to who and what was found.

mod ask;
mod book;
mod find;
mod pursue;
mod shown;
#[cfg(test)]
mod tests;
mod words;

use std::sync::Arc;
use std::time::Duration;

use kith_proto::control::code::{CodeJoin, JoinBeginParams, JoinConfirmParams, JoinState};
use kith_proto::control::{ApiError, Code};
use kith_proto::guest::hello::Lookup;
use kith_proto::peer::join::payload::parse;
use kith_proto::peer::join::{Keys, Payload, Permission};
use kith_proto::peer::journal::member::Kind;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::book::Book as Issued;
use crate::clock;
use crate::config::Settings;
use crate::dial::{Dial, Store as HelloStore};
use crate::discovery::Discovery;
use crate::event::Events;
use crate::hello_store;
use crate::identity::Identity;
use crate::store::{self, Store};
use crate::sync::Sync;
use crate::task::Tasks;
use crate::trust::Trust;
use book::Row;
use find::{Answer, Place, Places};
use pursue::{Pursued, until_ms};
use shown::{Found, Shown, Taken};
use words::{Finding, Local, Said};

/// How long somebody may take to say yes.
const REVIEW: Duration = Duration::from_secs(600);
/// So long after its start a device does not know yet who is around.
const NEW: Duration = Duration::from_secs(5);

/// Everything that joining works with.
pub struct Parts {
    /// Which stores, and whether anybody looks around.
    pub settings: Settings,
    /// This device.
    pub identity: Arc<Identity>,
    /// Whom to trust.
    pub trust: Trust,
    /// Who is there.
    pub discovery: Discovery,
    /// The way out.
    pub dial: Dial,
    /// What is joined.
    pub sync: Sync,
    /// Where steps are told.
    pub events: Events,
    /// Where they are written down.
    pub store: Store,
    /// Who runs it.
    pub tasks: Tasks,
    /// The port that others dial.
    pub peer_port: u16,
}

/// The joins of this device. Cloned freely.
#[derive(Clone)]
pub struct Joins(Arc<Engine>);

struct Engine {
    settings: Settings,
    identity: Arc<Identity>,
    trust: Trust,
    discovery: Discovery,
    dial: Dial,
    sync: Sync,
    store: Store,
    tasks: Tasks,
    peer_port: u16,
    shown: Shown,
    started: Instant,
}

impl Joins {
    /// Goes on with what is pending.
    pub async fn start(parts: Parts) -> Result<Self, store::Error> {
        let Parts { settings, identity, trust, discovery, dial, sync, events, store, tasks, peer_port } = parts;
        let rows = store.read(book::load).await?;
        let shown = Shown::new(events, trust.clone(), &rows);
        let started = Instant::now();
        let engine = Arc::new(Engine {
            settings,
            identity,
            trust,
            discovery,
            dial,
            sync,
            store,
            tasks,
            peer_port,
            shown,
            started,
        });
        for Row { id, proof, payload, path, expires_ms, confirmed_ms, state, .. } in rows {
            let Some(proof) = proof else {
                if state == JoinState::Joined
                    && let Ok(Some(name)) = engine.sync.name_of(&payload.resource.id()).await
                {
                    engine.shown.rename(&id, name);
                }
                continue;
            };
            let Some((cancel, nudge)) = engine.shown.resume(&id, engine.tasks.stopping()) else { continue };
            let until_ms = until_ms(expires_ms, confirmed_ms);
            engine.clone().spawn(Pursued { id, proof, payload, path, confirmed_ms, until_ms, cancel, nudge });
        }
        Ok(Self(engine))
    }

    /// Begins with a code. Until it is confirmed, it ends with `owner`. One with which the issuer is being asked already
    /// goes on, and is asked for at once.
    pub fn begin(&self, params: &JoinBeginParams, owner: CancellationToken) -> Result<CodeJoin, ApiError> {
        let (code, carried) = parse(params.code.expose()).map_err(|error| {
            ApiError::new(Code::InvalidParam, error.to_string()).hint("nobody was asked; look at the code again")
        })?;
        let keys = code.keys();
        let cancel = self.0.tasks.stopping().child_token();
        let (view, is_new) = self.0.shown.begin(keys.proof.public(), cancel.clone())?;
        if is_new {
            let (engine, id) = (self.0.clone(), view.join.clone());
            self.0.tasks.spawn("join", async move { engine.look(&id, keys, carried, &cancel, &owner).await });
        }
        Ok(view)
    }

    /// Somebody says yes to what was found.
    pub async fn confirm(&self, params: JoinConfirmParams) -> Result<CodeJoin, ApiError> {
        let JoinConfirmParams { join, path } = params;
        let found = self.0.shown.find(&join)?;
        if path.is_some() && found.resource.is_some_and(|resource| resource.kind == Kind::Journal.as_str()) {
            let message = "a journal has no place among the files";
            return Err(ApiError::new(Code::InvalidParam, message).hint("leave the path out"));
        }
        let id = found.join;
        let (found, cancel, nudge, created_ms) = match self.0.shown.take(&id, path.clone(), self.0.tasks.stopping())? {
            Taken::UnderWay(going) => return Ok(*going),
            Taken::Begun { found, cancel, nudge, created_ms } => (*found, cancel, nudge, created_ms),
        };
        let Found { proof, payload, expires_ms } = found;
        let (confirmed_ms, expires_ms) = (clock::now_ms(), i64::try_from(expires_ms).unwrap_or(i64::MAX));
        let row = Row {
            id: id.clone(),
            proof: Some(proof),
            payload,
            path,
            created_ms,
            confirmed_ms,
            expires_ms,
            state: JoinState::Pending,
            result: None,
            reason: None,
        };
        let written = self.0.store.write(move |tx| Ok(book::insert(tx, &row)?.then_some(row))).await;
        let row = match written.map_err(ApiError::from).and_then(|row| row.ok_or_else(shown::too_many)) {
            Ok(row) => row,
            Err(error) => {
                self.0.shown.ended(&id, JoinState::Failed, Said { result: "canceled", error: error.clone() });
                return Err(error);
            }
        };
        if !self.0.shown.written(&id) {
            // Called off while it was written down.
            self.0.call_off(&id).await?;
        } else if let Row { proof: Some(proof), payload, path, .. } = row {
            let until_ms = until_ms(expires_ms, confirmed_ms);
            self.0.clone().spawn(Pursued {
                id: id.clone(),
                proof,
                payload,
                path,
                confirmed_ms,
                until_ms,
                cancel,
                nudge,
            });
        }
        self.0.shown.find(&id)
    }

    /// Under way and over, newest first.
    pub fn list(&self) -> Vec<CodeJoin> {
        self.0.shown.list()
    }

    /// Calls one off, for good.
    pub async fn cancel(&self, wanted: &str) -> Result<CodeJoin, ApiError> {
        let join = self.0.shown.find(wanted)?;
        if join.state.is_final() {
            return Err(shown::wrong_state(join.state));
        }
        let id = join.join;
        // What is written down decides: an answer of the issuer may have come first.
        if !self.0.shown.is_written(&id) || self.0.call_off(&id).await? {
            self.0.shown.ended(&id, JoinState::Canceled, Local::Canceled.said(""));
        }
        let now = self.0.shown.find(&id)?;
        if now.state == JoinState::Canceled { Ok(now) } else { Err(shown::wrong_state(now.state)) }
    }
}

impl Engine {
    fn spawn(self: Arc<Self>, join: Pursued) {
        self.tasks.clone().spawn("join", async move { self.pursue(join).await });
    }

    /// Finds out what a code is for, then waits for a yes.
    async fn look(
        &self,
        id: &str,
        keys: Keys,
        carried: Option<Vec<u8>>,
        cancel: &CancellationToken,
        owner: &CancellationToken,
    ) {
        let review = async {
            match self.find(&keys, carried).await {
                Ok((payload, expires_ms)) => {
                    let here = self.sync.is_here(&payload.resource.id()).await.unwrap_or(false);
                    self.shown.found(id, Found { proof: keys.proof, payload, expires_ms }, here);
                }
                Err(finding) => {
                    self.shown.abandon(id, JoinState::Failed, finding.said());
                    return;
                }
            }
            tokio::time::sleep(REVIEW).await;
            self.shown.abandon(id, JoinState::Canceled, Local::Unconfirmed.said(""));
        };
        tokio::select! {
            biased;
            () = cancel.cancelled() => {}
            () = owner.cancelled() => {
                self.shown.abandon(id, JoinState::Canceled, Local::Canceled.said(""));
            }
            () = review => {}
        }
    }

    async fn find(&self, keys: &Keys, carried: Option<Vec<u8>>) -> Result<(Payload, u64), Finding> {
        let proof = keys.proof.public();
        // Its own store is no place to look, and the others need not be asked for what is known here.
        if let Ok(Some(_)) = self.store.read(move |connection| Issued(connection).proven_by(&proof)).await {
            return Err(Finding::Oneself);
        }
        let config = &self.settings.config;
        let places = Places {
            lan: config.discovery.enabled.then(|| self.discovery.watch()),
            is_new: self.started.elapsed() < NEW,
            stores: config.hello.stores(),
        };
        let lookup = Lookup(keys.lookup);
        let ask = |place| -> find::Asked<'_> { Box::pin(self.ask_place(place, &lookup)) };
        let (payload, expires_ms) = find::find(keys, carried, places, ask).await?;
        if payload.issuer == self.identity.public() {
            return Err(Finding::Oneself);
        }
        if payload.resource.kind == Kind::Unknown {
            return Err(Finding::UnknownKind);
        }
        if payload.permission == Permission::Unknown {
            return Err(Finding::UnknownPermission);
        }
        Ok((payload, expires_ms))
    }

    async fn ask_place(&self, place: Place, lookup: &Lookup) -> Result<Answer, String> {
        let store = match place {
            Place::Lan { addresses, .. } => HelloStore::Lan(addresses),
            Place::Store(url) => HelloStore::Url(url),
        };
        match self.dial.hello_get(&store, lookup).await {
            Ok(hello_store::Found::Blob { blob, .. }) => Ok(Answer::Blob(blob)),
            Ok(hello_store::Found::Expired) => Ok(Answer::Expired),
            Ok(hello_store::Found::Withdrawn) => Ok(Answer::Withdrawn),
            Ok(hello_store::Found::Nothing) => Ok(Answer::Nothing),
            Err(error) => Err(error.to_string()),
        }
    }

    /// Calls one off that is written down. Says whether it was pending there.
    async fn call_off(&self, id: &str) -> Result<bool, ApiError> {
        let (row, now) = (id.to_owned(), clock::now_ms());
        let said = Local::Canceled.said("");
        Ok(self.store.write(move |tx| book::end(tx, &row, JoinState::Canceled, &said, now)).await?)
    }
}

/// A database that failed, as a reason to try again.
fn store_said(result: &'static str, error: store::Error) -> Said {
    Said { result, error: error.into() }
}
