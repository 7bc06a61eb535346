//! `kithd hello`: a hello store for many, as a server of its own. It has no identity, no database of Kith's, no control
//! socket; what it serves is what the guest door serves, with more places.
//!
//! ```text
//! pem      the certificate that it shows, and shows anew
//! metrics  what it tells of itself, to this machine alone
//! ```

mod metrics;
mod pem;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use kith_proto::limits;
use tokio::net::TcpListener;

use crate::clock;
use crate::config::{HelloSettings, Shown, StoreAddress};
use crate::crowd::Crowd;
use crate::daemon::{Exit, notify};
use crate::doors::guest::{Door, hello};
use crate::hello_store::{self, Bounds, Gate, HelloStore, Rates, Sqlite};
use crate::platform;
use crate::task::Tasks;
use crate::tls::{self, guest::Certificate};
use metrics::Metrics;

/// How long requests may take to end when the server stops.
const STOP_PATIENCE: Duration = Duration::from_secs(10);
/// How often it looks whether the store is there.
const LOOK: Duration = Duration::from_secs(5);

/// Why the server did not start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Where blobs should be.
    #[error("cannot use the store: {0}")]
    Store(#[from] hello_store::Error),
    /// This program was built without what the store needs.
    #[error("this kithd was built without Redis")]
    NoRedis,
    /// A certificate of one's own.
    #[error(transparent)]
    Tls(#[from] tls::Error),
    /// A certificate of somebody else's.
    #[error(transparent)]
    Pem(#[from] pem::Error),
    /// A place to listen.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// Where.
        address: SocketAddr,
        /// Why not.
        source: std::io::Error,
    },
    /// A directory.
    #[error("cannot use {path}: {source}")]
    Directory {
        /// Which.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// Signals.
    #[error("{0}")]
    System(#[from] std::io::Error),
}

impl Error {
    /// Whether starting again may help: a server that is away may come back.
    pub fn exit(&self) -> Exit {
        match self {
            Self::Store(hello_store::Error::Unreachable(_)) | Self::System(_) => Exit::Broken,
            _ => Exit::Unusable,
        }
    }
}

/// Runs the server until it is asked to stop.
pub async fn run(settings: HelloSettings) -> Result<Exit, Error> {
    let stop_signal = platform::stop_signal()?;
    platform::raise_file_limit();
    let tasks = Tasks::default();
    let bounds = Bounds { blobs: settings.max_blobs, bytes: settings.max_bytes, per_source: settings.max_per_source };
    let store = open(&settings.store, bounds).await?;
    let (tls, certificate) = match &settings.shown {
        Shown::Pem { cert, key } => (pem::serve(cert, key, &tasks)?, None),
        Shown::Kept(path) => {
            make_directory(path)?;
            let certificate = Certificate::kept(path)?;
            let hash = certificate.hash;
            (certificate.server()?, Some(hash))
        }
    };
    let listen = |address| platform::listen_at(address).map_err(|source| Error::Listen { address, source });
    let (listener, beside): (TcpListener, TcpListener) = (listen(settings.listen)?, listen(settings.metrics)?);
    let (place, watched) = (listener.local_addr()?, beside.local_addr()?);

    let rates = Rates { puts: settings.puts_per_hour, gets: settings.gets_per_hour, ..Rates::default() };
    let gate = Arc::new(Mutex::new(Gate::new(rates)));
    let metrics = Metrics::new(store.clone());
    let router = hello::router(store.clone(), gate, hello::Rules { strangers: true }, tasks.clone());
    let crowd = Crowd::new(limits::HELLO_SERVER_CONNECTIONS, limits::HELLO_SERVER_CONNECTIONS_PER_ADDRESS);
    let door = Door::new(metrics.count(router), crowd, tasks.clone());
    // Whoever is being answered is answered: the door closes with the tasks.
    tasks.spawn("hello door", door.accept(listener, tls, tasks.stopping().clone()));
    metrics.serve(beside, &tasks);
    tasks.spawn("hello sweeper", hello_store::sweep(store.clone(), tasks.clone()));
    tasks.spawn("hello watch", watch(store, tasks.clone()));

    match certificate {
        Some(hash) => tracing::info!(%place, metrics = %watched, certificate = %hash, "ready"),
        None => tracing::info!(%place, metrics = %watched, "ready"),
    }
    notify(&[sd_notify::NotifyState::Ready]);
    let why = tokio::select! {
        signal = stop_signal => signal,
        () = tasks.stopping().cancelled() => "request",
    };
    tracing::info!(why, "stopping");
    notify(&[sd_notify::NotifyState::Stopping]);
    if !tasks.end(STOP_PATIENCE).await {
        tracing::warn!("some requests did not end in time and are cut off");
    }
    Ok(if tasks.broken().is_some() { Exit::Broken } else { Exit::Stopped })
}

async fn open(address: &StoreAddress, bounds: Bounds) -> Result<Arc<dyn HelloStore>, Error> {
    match address {
        StoreAddress::Sqlite(path) => {
            make_directory(path)?;
            Ok(Arc::new(Sqlite::open(path, bounds)?))
        }
        #[cfg(feature = "redis")]
        StoreAddress::Redis(url) => Ok(Arc::new(hello_store::Redis::open(url, bounds).await?)),
        #[cfg(not(feature = "redis"))]
        StoreAddress::Redis(_) => Err(Error::NoRedis),
    }
}

/// The directory of `file`.
fn make_directory(file: &std::path::Path) -> Result<(), Error> {
    let Some(path) = file.parent() else { return Ok(()) };
    std::fs::create_dir_all(path).map_err(|source| Error::Directory { path: path.to_owned(), source })
}

/// Says once that the store is away, and once that it is back.
async fn watch(store: Arc<dyn HelloStore>, tasks: Tasks) {
    let mut away = false;
    while tasks.stopping().run_until_cancelled(tokio::time::sleep(LOOK)).await.is_some() {
        match store.fill(clock::now_ms().unsigned_abs()).await {
            Ok(_) if away => tracing::info!("the store is back"),
            Err(error) if !away => tracing::warn!(%error, "the store is away"),
            Ok(_) | Err(_) => continue,
        }
        away = !away;
    }
}
