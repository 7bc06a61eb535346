//! The hello store of this device: what its own codes need, given out while one of them lives; with `[hello] serve`,
//! for everybody and always.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use kith_proto::guest::CertificateHash;
use kith_proto::guest::hello::{Lookup, OwnerHash, OwnerToken};
use kith_proto::limits;
use tokio::sync::watch;

use super::{Bounds, Deposit, Deposited, Error, HelloStore, Source, Sqlite};
use crate::clock;
use crate::config::HelloConfig;
use crate::task::Tasks;

/// The file, in the data directory.
pub const FILE: &str = "hello.db";
/// How often what expired is swept away …
const SWEEP: Duration = Duration::from_secs(60);
/// … and how much of it at once, so that others find their turn in between.
const SWEPT: usize = 256;

/// What the store is built from.
pub struct Parts {
    /// The data directory.
    pub data: PathBuf,
    /// `[hello]`
    pub config: HelloConfig,
    /// Runs the sweeper.
    pub tasks: Tasks,
}

/// The handle. Cloned freely.
#[derive(Clone)]
pub struct Hello {
    store: Arc<Sqlite>,
    config: HelloConfig,
    certificate: Arc<Path>,
    /// Whether it is to be given out.
    open: watch::Sender<bool>,
    /// Where it is given out.
    place: watch::Sender<Option<Place>>,
}

/// Where a store is given out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// On every address of this device.
    pub port: u16,
    /// Of the certificate that it shows there, for whoever wants to pin it.
    pub hash: CertificateHash,
}

impl Hello {
    /// Opens what is there. It is given out by the guest door.
    pub fn open(parts: Parts) -> Result<Self, Error> {
        let Parts { data, config, tasks } = parts;
        let bounds = Bounds {
            blobs: limits::HELLO_BLOBS,
            bytes: limits::HELLO_BYTES,
            per_source: limits::HELLO_LIVE_PER_SOURCE,
        };
        let store = Arc::new(Sqlite::open(&data.join(FILE), bounds)?);
        let (open, place) = (watch::Sender::new(config.serve), watch::Sender::new(None));
        tasks.spawn("hello sweeper", sweep(store.clone(), tasks.clone()));
        Ok(Self { store, config, certificate: data.join("hello.pem").into(), open, place })
    }

    /// Keeps a blob of this device, which has no quota of its own.
    pub async fn keep(
        &self,
        lookup: Lookup,
        blob: Vec<u8>,
        owner: OwnerHash,
        expires_ms: u64,
    ) -> Result<Deposited, Error> {
        let deposit = Deposit { lookup, blob, owner, expires_ms, source: Source::OWN };
        self.store.put(deposit, now_ms()).await
    }

    /// Takes a blob away; whether it was there, and the token its owner's.
    pub async fn withdraw(&self, lookup: Lookup, token: &OwnerToken) -> Result<bool, Error> {
        self.store.withdraw(lookup, token, now_ms()).await
    }

    /// Whether this device has codes that live: while it has, the store is given out on the LAN.
    pub fn want(&self, wanted: bool) {
        let open = wanted || self.config.serve;
        self.open.send_if_modified(|old| std::mem::replace(old, open) != open);
    }

    /// The port on which it is given out now.
    pub fn port(&self) -> Option<u16> {
        self.place().map(|place| place.port)
    }

    /// Where it is given out now.
    pub fn place(&self) -> Option<Place> {
        *self.place.borrow()
    }

    /// Whether it is to be given out, and whenever that changes; for the door.
    pub fn wanted(&self) -> watch::Receiver<bool> {
        self.open.subscribe()
    }

    /// What is given out; for the door.
    pub fn store(&self) -> Arc<dyn HelloStore> {
        self.store.clone()
    }

    /// Whether others may put something there; for the door.
    pub fn takes_from_strangers(&self) -> bool {
        self.config.serve
    }

    /// Which port is asked for; for the door.
    pub fn configured_port(&self) -> u16 {
        self.config.port
    }

    /// Where the certificate lies that is shown there; for the door.
    pub fn certificate(&self) -> &Path {
        &self.certificate
    }

    /// The door says where it listens now.
    pub fn listens(&self, place: Option<Place>) {
        self.place.send_replace(place);
    }
}

/// Forgets what is over, until the daemon stops.
pub async fn sweep(store: Arc<dyn HelloStore>, tasks: Tasks) {
    let stop = tasks.stopping().clone();
    loop {
        let more = match store.sweep(now_ms(), SWEPT).await {
            Ok(more) => more,
            Err(Error::Closed) => return,
            Err(error) => {
                tracing::warn!(%error, "cannot sweep the hello store");
                false
            }
        };
        let pause = if more { Duration::ZERO } else { SWEEP };
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(pause) => {}
        }
    }
}

fn now_ms() -> u64 {
    clock::now_ms().unsigned_abs()
}
