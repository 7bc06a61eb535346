//! Secrets, sealed on the disk, and the databases that use them.
//!
//! ```text
//! lock       the vault as a whole: made, locked, unlocked, given another key
//! key        where the key comes from that wraps the data key
//! seal       what is sealed, and with what
//! secrets    secrets, one by one
//! databases  databases, one by one
//! save       what comes in from elsewhere: conflicts, all or nothing
//! share      what is handed over, and what paired devices handed over
//! book       what is written down
//! ```
//!
//! ```text
//! passphrase ─ Argon2id ─┐
//! vault.key ─────────────┼─► wraps the data key (one row) ─► seals each value, bound to its name, type and revision
//! credential ────────────┘
//! ```
//!
//! Names, types and databases are not sealed: lists work while the vault is locked.

mod book;
mod databases;
mod key;
mod lock;
mod save;
mod seal;
mod secrets;
mod share;
#[cfg(test)]
mod tests;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use kith_proto::control::credential::{self as c, PassphraseParams, ShareKind, UnlockParams};
use kith_proto::control::{ApiError, Code};
use kith_proto::id::PublicKey;
use kith_proto::text;

use crate::event::Events;
use crate::store::{self, Store};
use crate::task::Tasks;
use lock::Lock;

/// What the vault needs.
pub struct Parts {
    /// The directory of `vault.key`.
    pub data: PathBuf,
    /// A key that the service manager provides.
    pub credential: Option<PathBuf>,
    /// Without use for so long, a vault with a passphrase locks itself.
    pub idle: Option<Duration>,
    /// The database.
    pub store: Store,
    /// Who is told.
    pub events: Events,
    /// Who runs what takes longer.
    pub tasks: Tasks,
}

/// The vault. Cloned freely; all clones speak of the same one.
#[derive(Clone)]
pub struct Vault {
    lock: Arc<Lock>,
    store: Store,
}

/// A share of a paired device that waits for a review.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Offered {
    /// Its id.
    pub id: String,
    /// Whose it is.
    pub peer: PublicKey,
    /// What it is.
    pub kind: ShareKind,
    /// The name of the secret or database.
    pub name: String,
    /// When it came, in milliseconds since 1970.
    pub created_ms: i64,
}

impl Vault {
    /// Looks at what is there. Makes nothing: the first secret does.
    pub async fn open(parts: Parts) -> Result<Self, store::Error> {
        let store = parts.store.clone();
        Ok(Self { lock: Lock::open(parts).await?, store })
    }

    /// Whether secrets can be read and written.
    pub async fn status(&self) -> Result<c::Vault, ApiError> {
        self.lock.status().await
    }

    /// Whether something can be kept now: an error says what is in the way. No vault yet is nothing in the way.
    pub async fn ready(&self) -> Result<(), ApiError> {
        self.lock.key().await.map(drop)
    }

    /// Forgets the key until the vault is unlocked.
    pub async fn lock(&self) -> Result<c::Vault, ApiError> {
        self.lock.lock().await
    }

    /// Opens the vault.
    pub async fn unlock(&self, params: UnlockParams) -> Result<c::Vault, ApiError> {
        self.lock.unlock(params).await
    }

    /// Protects the vault with a passphrase, with another one, or with a key that lies at hand again.
    pub async fn passphrase(&self, params: PassphraseParams) -> Result<c::Vault, ApiError> {
        self.lock.passphrase(params).await
    }
}

/// Why something was not done: the database failed, or there is a reason against it.
enum Stop {
    Store(store::Error),
    Said(ApiError),
}

impl From<store::Error> for Stop {
    fn from(error: store::Error) -> Self {
        Self::Store(error)
    }
}

impl From<rusqlite::Error> for Stop {
    fn from(error: rusqlite::Error) -> Self {
        Self::Store(error.into())
    }
}

impl From<ApiError> for Stop {
    fn from(error: ApiError) -> Self {
        Self::Said(error)
    }
}

impl From<Stop> for ApiError {
    fn from(stop: Stop) -> Self {
        match stop {
            Stop::Store(error) => error.into(),
            Stop::Said(error) => error,
        }
    }
}

fn no_secret(name: &str) -> ApiError {
    ApiError::new(Code::SecretNotFound, format!("there is no secret called {}", text::printable(name)))
        .hint("kithctl secrets list shows what there is")
}

fn no_database(name: &str) -> ApiError {
    ApiError::new(Code::DatabaseNotFound, format!("there is no database called {}", text::printable(name)))
        .hint("kithctl dbs list shows what there is")
}

/// `what`: `secret` or `database`.
fn taken(what: &str, name: &str) -> ApiError {
    ApiError::new(Code::NameTaken, format!("there is another {what} called {}", text::printable(name)))
}

fn too_many(what: &str) -> ApiError {
    ApiError::new(Code::TooLarge, format!("there are too many {what}"))
}
