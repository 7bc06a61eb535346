//! The hello store: small blobs under random names for a short while. It sees no code, no id, no resource.
//!
//! ```text
//! hello   this device's own: what its codes need, and whatever else it is told to serve
//! sqlite  a file: what a daemon gives out itself, and a server of middling size
//! redis   a server of its own kind: any number of front ends
//! gate    how much one source may ask
//! ```
//!
//! Deliberately absent: HTTP and TLS (see `doors/guest`), and what a blob means.

mod gate;
mod hello;
#[cfg(feature = "redis")]
mod redis;
mod sqlite;

use std::future::Future;
use std::net::IpAddr;
use std::pin::Pin;

use kith_proto::guest::hello::{Lookup, OwnerHash, OwnerToken};

pub use gate::{Gate, Rates};
pub use hello::{FILE, Hello, Parts, Place, sweep};
#[cfg(feature = "redis")]
pub use redis::Redis;
pub use sqlite::Sqlite;

/// Who put something there, as far as it counts: an IPv4 address, or the /64 of an IPv6 address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Source([u8; 8]);

impl Source {
    /// Where somebody comes from.
    pub fn of(address: IpAddr) -> Self {
        match address.to_canonical() {
            // No IPv6 address begins so: ::/8 is nobody's.
            IpAddr::V4(v4) => {
                let [a, b, c, d] = v4.octets();
                Self([0, 0, 0, 4, a, b, c, d])
            }
            IpAddr::V6(v6) => {
                let [a, b, c, d, e, f, g, h, ..] = v6.octets();
                Self([a, b, c, d, e, f, g, h])
            }
        }
    }

    /// This device itself.
    pub const OWN: Self = Self([0; 8]);

    /// The same as bytes.
    pub fn as_bytes(&self) -> &[u8; 8] {
        &self.0
    }
}

/// A blob to be kept.
#[derive(Debug, Clone)]
pub struct Deposit {
    /// Under which name.
    pub lookup: Lookup,
    /// At most [`kith_proto::limits::HELLO_BLOB`] bytes.
    pub blob: Vec<u8>,
    /// Who may withdraw it.
    pub owner: OwnerHash,
    /// When it goes: milliseconds since 1970.
    pub expires_ms: u64,
    /// Who brought it.
    pub source: Source,
}

/// What became of a deposit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Deposited {
    /// It is new there.
    Created,
    /// It was there already, the very same bytes. If it has the same owner, it stays until the later of both times.
    Same,
    /// Something else is there, or was and was withdrawn. What expired makes way for its owner, and for nobody else.
    Other,
    /// Its source has too many there.
    SourceFull,
    /// There is no room for more: nothing else is thrown out.
    Full,
}

/// What a lookup finds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// The blob.
    Blob {
        /// Its bytes.
        blob: Vec<u8>,
        /// When it goes: milliseconds since 1970.
        expires_ms: u64,
    },
    /// It was there until its time was over, less than a day ago.
    Expired,
    /// Its owner took it away, less than a day ago.
    Withdrawn,
    /// Nothing is known of it.
    Nothing,
}

/// How much there may be.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// Live blobs.
    pub blobs: u64,
    /// … and their bytes.
    pub bytes: u64,
    /// Live blobs of one source.
    pub per_source: u32,
}

/// How much there is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Fill {
    /// Live blobs.
    pub blobs: u64,
    /// … and their bytes, where the store counts them.
    pub bytes: u64,
}

/// Why a store did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// SQLite says no.
    #[error("database: {0}")]
    Sqlite(#[from] rusqlite::Error),
    /// The file cannot be had.
    #[error("cannot open the file: {0}")]
    Open(#[source] std::io::Error),
    /// A newer kithd wrote the file.
    #[error("the file is of version {0}: a newer kithd wrote it")]
    Future(i64),
    /// The thread of the database has ended.
    #[error("the store is closed")]
    Closed,
    /// The server does not answer, or says no: it may come back.
    #[error("the Redis server cannot be used: {0}")]
    Unreachable(String),
    /// Too many want to change the same at once.
    #[error("too many change one name at once")]
    Contended,
    /// What lies under a name is not of this store.
    #[error("somebody else keeps something in this Redis database under a name of the hello store")]
    Foreign,
    /// Text that is no address of a server. It may hold a password, so it is not repeated.
    #[error("the address of a Redis server is redis://[:PASSWORD@]HOST[:PORT][/DB], or rediss://… with TLS")]
    Address,
    /// The server throws out what nobody asked it to.
    #[error(
        "the Redis server evicts ({policy}) when its memory is full, and codes would vanish; \
         set its maxmemory-policy to noeviction"
    )]
    Evicts {
        /// Its `maxmemory-policy`.
        policy: String,
    },
}

impl Error {
    /// Whether there is no room for what was to be written.
    pub fn is_full(&self) -> bool {
        let full = |failure: &rusqlite::ffi::Error| failure.code == rusqlite::ErrorCode::DiskFull;
        matches!(self, Self::Sqlite(rusqlite::Error::SqliteFailure(failure, _)) if full(failure))
    }
}

/// What a store answers, when it does.
pub type Answer<'a, T> = Pin<Box<dyn Future<Output = Result<T, Error>> + Send + 'a>>;

/// A place for blobs. `now_ms` is an argument, in milliseconds since 1970. What is answered is durable, as far as the
/// place is.
pub trait HelloStore: Send + Sync {
    /// Keeps a blob. Never in place of another one.
    fn put(&self, deposit: Deposit, now_ms: u64) -> Answer<'_, Deposited>;
    /// Looks one up.
    fn get(&self, lookup: Lookup, now_ms: u64) -> Answer<'_, Found>;
    /// Takes one away, if the token is its owner's; whether it was.
    fn withdraw<'a>(&'a self, lookup: Lookup, token: &'a OwnerToken, now_ms: u64) -> Answer<'a, bool>;
    /// Forgets at most `limit` of what expired and of what was withdrawn a day ago; whether there may be more.
    fn sweep(&self, now_ms: u64, limit: usize) -> Answer<'_, bool>;
    /// How much there is.
    fn fill(&self, now_ms: u64) -> Answer<'_, Fill>;
}

#[cfg(test)]
mod conformance_tests;
