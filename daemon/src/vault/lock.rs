//! The vault as a whole: made, locked, unlocked, given another key.
//!
//! The key is in memory while the vault is unlocked and nowhere else. Whoever changes what wraps it waits for `turn`;
//! those who only use it do not.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use kith_proto::control::credential::{self as c, PassphraseParams, UnlockParams, VaultMode, VaultState};
use kith_proto::control::event::Fact;
use kith_proto::control::types::Failure;
use kith_proto::control::{ApiError, Code};
use kith_proto::limits;
use kith_proto::secret_text::SecretText;
use tokio::time::Instant;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::Parts;
use super::book::{self, Record};
use super::key::{Places, unusable};
use super::seal::{Key, Opened, Stretch};
use crate::event::Events;
use crate::store::{self, Store};
use crate::task::Tasks;

/// Key and state.
pub struct Lock {
    places: Places,
    idle: Option<Duration>,
    store: Store,
    events: Events,
    tasks: Tasks,
    state: Mutex<State>,
    turn: tokio::sync::Mutex<()>,
}

#[derive(Default)]
struct State {
    /// The vault's row; none while there is no vault.
    record: Option<Arc<Record>>,
    key: Option<Arc<Opened>>,
    /// Until it is unlocked by hand.
    locked: bool,
    trouble: Option<ApiError>,
    used: Option<Instant>,
    /// Ends the idle timer when it is dropped.
    timer: Option<DropGuard>,
}

impl Lock {
    /// Looks at what is there. A vault with a passphrase is locked.
    pub async fn open(parts: Parts) -> Result<Arc<Self>, store::Error> {
        let Parts { data, credential, idle, store, events, tasks } = parts;
        let record = store.read(book::record).await?.map(Arc::new);
        let places = Places::new(&data, credential);
        let mode = record.as_ref().map(|record| record.mode);
        // Left by a kill between the change of the key and the removal of the old one.
        remove_replaced(record.as_deref(), &places, &tasks).await;
        let locked = mode == Some(VaultMode::Passphrase);
        let state = Mutex::new(State { record, locked, ..State::default() });
        let idle = idle.filter(|idle| !idle.is_zero());
        Ok(Arc::new(Self { places, idle, store, events, tasks, state, turn: tokio::sync::Mutex::default() }))
    }

    /// The key, if there is a vault at all. Using it puts off the idle lock.
    pub async fn key(self: &Arc<Self>) -> Result<Option<Arc<Opened>>, ApiError> {
        if let Some(key) = self.at_hand()? {
            return Ok(Some(key));
        }
        let _turn = self.turn.lock().await;
        if let Some(key) = self.at_hand()? {
            return Ok(Some(key));
        }
        let Some(record) = self.state().record.clone() else { return Ok(None) };
        self.load(record).await.map(Some)
    }

    /// The key; where there is no vault yet, one is made.
    pub async fn key_or_new(self: &Arc<Self>) -> Result<Arc<Opened>, ApiError> {
        if let Some(key) = self.key().await? {
            return Ok(key);
        }
        let _turn = self.turn.lock().await;
        if let Some(key) = self.at_hand()? {
            return Ok(key);
        }
        self.make(None).await
    }

    /// What can be known of the vault.
    pub async fn status(self: &Arc<Self>) -> Result<c::Vault, ApiError> {
        let unread = {
            let state = self.state();
            let with_passphrase = state.record.as_ref().is_none_or(|record| record.mode == VaultMode::Passphrase);
            !with_passphrase && !state.locked && state.key.is_none()
        };
        if unread {
            // Whether the key is where it should be is what is asked; the answer is in the state.
            let _ = self.key().await;
        }
        self.view().await
    }

    /// Forgets the key.
    pub async fn lock(self: &Arc<Self>) -> Result<c::Vault, ApiError> {
        let _turn = self.turn.lock().await;
        if self.forget(|_| true) {
            // Whoever still works with the key is before this in the queue.
            self.store.read(|_| Ok(())).await?;
            self.tell().await;
        }
        self.view().await
    }

    /// Opens the vault.
    pub async fn unlock(self: &Arc<Self>, params: UnlockParams) -> Result<c::Vault, ApiError> {
        let turn = self.turn.lock().await;
        let record = self.state().record.clone();
        if let Some(record) = record {
            if record.mode == VaultMode::Passphrase {
                let key = self.prove(&record, params.passphrase, "passphrase").await?;
                self.hold(key);
                self.tell().await;
            } else {
                self.state().locked = false;
                if self.at_hand()?.is_none() {
                    self.load(record).await?;
                }
            }
        }
        drop(turn);
        self.view().await
    }

    /// Protects the vault with a passphrase, with another one, or with a key that lies at hand again.
    pub async fn passphrase(self: &Arc<Self>, params: PassphraseParams) -> Result<c::Vault, ApiError> {
        if params.new.as_ref().is_some_and(|new| !fits(new)) {
            let message = format!("new: a passphrase has 1 to {} bytes", limits::VAULT_PASSPHRASE);
            return Err(ApiError::new(Code::InvalidParam, message));
        }
        let turn = self.turn.lock().await;
        let record = self.state().record.clone();
        match record {
            None => {
                self.make(params.new).await?;
            }
            Some(record) => {
                let held = self.state().key.clone();
                let key = match (record.mode, held) {
                    (VaultMode::Passphrase, _) => self.prove(&record, params.current, "current").await?,
                    (_, Some(key)) => key,
                    (_, None) => self.unwrap(record.clone()).await?,
                };
                self.wrap_anew(&record, key, params.new).await?;
            }
        }
        drop(turn);
        self.view().await
    }

    /// Whether there is a key for what is to be done now: at once, or after it was read (`None`).
    fn at_hand(&self) -> Result<Option<Arc<Opened>>, ApiError> {
        let mut state = self.state();
        if state.locked {
            return Err(ApiError::new(Code::VaultLocked, "the vault is locked").hint("unlock it: kithctl vault unlock"));
        }
        state.used = Some(Instant::now());
        Ok(state.key.clone())
    }

    /// Reads the key that wraps, and unwraps. Needs the turn.
    async fn load(self: &Arc<Self>, record: Arc<Record>) -> Result<Arc<Opened>, ApiError> {
        match self.unwrap(record).await {
            Ok(key) => {
                self.hold(key.clone());
                self.tell().await;
                Ok(key)
            }
            Err(error) => {
                let before = self.state().trouble.replace(error.clone());
                if before.as_ref() != Some(&error) {
                    tracing::warn!(%error, "the vault is unusable");
                    self.tell().await;
                }
                Err(error)
            }
        }
    }

    async fn unwrap(&self, record: Arc<Record>) -> Result<Arc<Opened>, ApiError> {
        let places = self.places.clone();
        let work = move || {
            let kek = places.read(record.mode)?;
            let opened = Opened::unwrap(record.id, book::mode_name(record.mode), &record.wrapped, &kek);
            opened.ok_or_else(|| {
                unusable("the vault's key is another one than that which it was made with".to_owned())
                    .hint("put the right one back from a backup")
            })
        };
        self.tasks.blocking(work).await
    }

    /// The key, for whoever knows the passphrase. Needs the turn: one guess at a time.
    async fn prove(
        &self,
        record: &Arc<Record>,
        passphrase: Option<SecretText>,
        field: &str,
    ) -> Result<Arc<Opened>, ApiError> {
        let Some(passphrase) = passphrase else {
            return Err(ApiError::new(Code::InvalidParam, format!("{field}: the vault has a passphrase; say it"))
                .hint("kithctl asks for it on a terminal"));
        };
        let record = record.clone();
        let work = move || {
            let Some(stretch) = &record.stretch else { return Err(not_ours()) };
            let Some(kek) = fits(&passphrase).then(|| stretch.key(passphrase.expose())) else { return Ok(None) };
            let Some(kek) = kek else { return Err(not_ours()) };
            Ok(Opened::unwrap(record.id, book::mode_name(record.mode), &record.wrapped, &kek))
        };
        match self.tasks.blocking(work).await? {
            Some(key) => Ok(key),
            None => Err(ApiError::new(Code::WrongPassphrase, "this is not the vault's passphrase")),
        }
    }

    /// Makes the vault. Needs the turn.
    async fn make(self: &Arc<Self>, passphrase: Option<SecretText>) -> Result<Arc<Opened>, ApiError> {
        let places = self.places.clone();
        let work = move || {
            let key = Opened::new()?;
            let record = match passphrase {
                Some(passphrase) => under_passphrase(&key, &passphrase)?,
                None => {
                    let mode = places.usual();
                    wrapped(&key, mode, &places.read_or_make(mode)?, None)?
                }
            };
            Ok::<_, ApiError>((key, record))
        };
        let (key, record) = self.tasks.blocking(work).await?;
        self.keep(record).await?;
        self.hold(key.clone());
        self.tell().await;
        Ok(key)
    }

    /// Gives the vault another key. A kill at any moment leaves either the old one or the new one. Needs the turn.
    async fn wrap_anew(
        self: &Arc<Self>,
        old: &Arc<Record>,
        key: Arc<Opened>,
        new: Option<SecretText>,
    ) -> Result<(), ApiError> {
        let usual = self.places.usual();
        if new.is_some() || old.mode != usual {
            let (places, opened, mode) = (self.places.clone(), key.clone(), old.mode);
            let work = move || {
                let record = match new {
                    Some(new) => under_passphrase(&opened, &new)?,
                    // A file that lies there already was left by a kill in just this place, or is somebody's: it is kept.
                    None => wrapped(&opened, usual, &places.read_or_make(usual)?, None)?,
                };
                let leaves_file = mode == VaultMode::File && record.mode != VaultMode::File;
                Ok::<_, ApiError>(Record { replaced: leaves_file.then(|| places.fingerprint()).flatten(), ..record })
            };
            let record = self.keep(self.tasks.blocking(work).await?).await?;
            remove_replaced(Some(&record), &self.places, &self.tasks).await;
        }
        self.hold(key);
        self.tell().await;
        Ok(())
    }

    /// Writes the row, and leaves nothing of the old one in the database's log.
    async fn keep(&self, record: Record) -> Result<Arc<Record>, ApiError> {
        let record = Arc::new(record);
        let row = record.clone();
        self.store.write(move |tx| book::set_record(tx, &row)).await?;
        self.state().record = Some(record.clone());
        if let Err(error) = self.store.checkpoint().await {
            tracing::warn!(%error, "the old key of the vault stays in the database's log until the daemon stops");
        }
        Ok(record)
    }

    /// The vault is unlocked from now on.
    fn hold(self: &Arc<Self>, key: Arc<Opened>) {
        let mut state = self.state();
        state.key = Some(key);
        state.locked = false;
        state.trouble = None;
        state.used = Some(Instant::now());
        let with_passphrase = state.record.as_ref().is_some_and(|record| record.mode == VaultMode::Passphrase);
        state.timer = self.idle.filter(|_| with_passphrase).map(|idle| {
            let over = CancellationToken::new();
            self.tasks.spawn("vault idle lock", self.clone().wait_idle(idle, over.clone()));
            over.drop_guard()
        });
    }

    /// Drops the key; says whether the vault is in another state then.
    fn forget(&self, wanted: impl FnOnce(&State) -> bool) -> bool {
        let mut state = self.state();
        let changes = state.record.is_some() && !state.locked && wanted(&state);
        if changes {
            state.locked = true;
            state.key = None;
            state.trouble = None;
            state.timer = None;
        }
        changes
    }

    /// Locks the vault when nobody has used it for so long.
    async fn wait_idle(self: Arc<Self>, idle: Duration, over: CancellationToken) {
        loop {
            let Some(until) = self.state().used.map(|used| used + idle) else { return };
            tokio::select! {
                () = over.cancelled() => return,
                () = self.tasks.stopping().cancelled() => return,
                () = tokio::time::sleep_until(until) => {}
            }
            let unused = |state: &State| state.used.is_none_or(|used| used + idle <= Instant::now());
            if self.forget(|state| !over.is_cancelled() && unused(state)) {
                tracing::info!("the vault was not used for a while and is locked");
                self.tell().await;
                return;
            }
        }
    }

    async fn view(&self) -> Result<c::Vault, ApiError> {
        let (secrets, databases) = self.store.read(book::counts).await?;
        let state = self.state();
        let mode = state.record.as_ref().map(|record| record.mode);
        let minutes = |idle: Duration| u32::try_from(idle.as_secs() / 60).unwrap_or(u32::MAX);
        Ok(c::Vault {
            state: match (mode, &state.trouble) {
                (None, _) => VaultState::Absent,
                (_, Some(_)) => VaultState::Unusable,
                _ if state.locked => VaultState::Locked,
                _ => VaultState::Unlocked,
            },
            mode,
            idle_minutes: self.idle.filter(|_| mode == Some(VaultMode::Passphrase)).map(minutes),
            secrets,
            databases,
            reason: state.trouble.clone().map(Failure::from),
        })
    }

    /// Tells everyone how it is now.
    async fn tell(&self) {
        match self.view().await {
            Ok(vault) => self.events.publish(&Fact::VaultUpdated(vault)),
            Err(error) => tracing::debug!(%error, "nobody hears how the vault is"),
        }
    }

    /// The ring, for tests.
    #[cfg(test)]
    pub fn events(&self) -> &Events {
        &self.events
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn fits(passphrase: &SecretText) -> bool {
    (1..=limits::VAULT_PASSPHRASE).contains(&passphrase.expose().len())
}

fn not_ours() -> ApiError {
    unusable("the vault's row in the database is damaged".to_owned()).hint("put the database back from a backup")
}

fn under_passphrase(key: &Opened, passphrase: &SecretText) -> Result<Record, ApiError> {
    let stretch = Stretch::new()?;
    let kek = stretch.key(passphrase.expose());
    let kek = kek.ok_or_else(|| ApiError::new(Code::Internal, "there is no memory for the passphrase's key"))?;
    wrapped(key, VaultMode::Passphrase, &kek, Some(stretch))
}

fn wrapped(key: &Opened, mode: VaultMode, kek: &Key, stretch: Option<Stretch>) -> Result<Record, ApiError> {
    Ok(Record { id: *key.id(), mode, wrapped: key.wrap(book::mode_name(mode), kek)?, stretch, replaced: None })
}

/// Removes the key file that another key took the place of; the next start tries again.
async fn remove_replaced(record: Option<&Record>, places: &Places, tasks: &Tasks) {
    let Some(replaced) = record.and_then(|record| record.replaced) else { return };
    let places = places.clone();
    if let Err(error) = tasks.blocking(move || places.remove(&replaced)).await {
        tracing::warn!(%error, "cannot remove the old vault.key");
    }
}
