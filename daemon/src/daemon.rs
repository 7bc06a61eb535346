//! The only place that knows everyone: builds in order, runs, stops in order.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::clock;
use crate::codes::{self, Codes, JoinParts, Joins};
use crate::config::Settings;
use crate::credentials::{self, Credentials};
use crate::dial::Dial;
use crate::discovery::Discovery;
use crate::doors::{self, local, peer};
use crate::event::Events;
use crate::guest::{self, Guests};
use crate::hello_store::{self, Hello};
use crate::identity::{self, Identity};
use crate::pairing::{self, Pairing};
use crate::platform::{self, ControlSocket, InstanceLock};
use crate::store::{self, Store};
use crate::sync::{self, Sync};
use crate::task::Tasks;
use crate::tls::{self, Tls};
use crate::transfer::{self, Transfers};
use crate::trust::Trust;
use crate::vault::{self, Vault};

/// How long engines may take to reach a checkpoint when the daemon stops.
const STOP_PATIENCE: Duration = Duration::from_secs(10);

/// How the daemon ended, as an exit code (`sysexits.h`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// 0: it was asked to stop.
    Stopped,
    /// 70, `EX_SOFTWARE`: a defect, or the system failed; starting again may help.
    Broken,
    /// 78, `EX_CONFIG`: starting again will not help.
    Unusable,
}

impl Exit {
    /// The exit code.
    pub const fn code(self) -> u8 {
        match self {
            Self::Stopped => 0,
            Self::Broken => 70,
            Self::Unusable => 78,
        }
    }
}

/// Why the daemon did not start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Its place in the system.
    #[error(transparent)]
    Platform(#[from] platform::Error),
    /// The key.
    #[error(transparent)]
    Identity(#[from] identity::Error),
    /// The database.
    #[error("{path}: {source}")]
    Store {
        /// Where it lies.
        path: std::path::PathBuf,
        /// What is wrong.
        source: store::Error,
    },
    /// What sharing codes need.
    #[error("{path}: {source}")]
    Hello {
        /// Where it lies.
        path: std::path::PathBuf,
        /// What is wrong.
        source: hello_store::Error,
    },
    /// TLS.
    #[error(transparent)]
    Tls(#[from] tls::Error),
    /// The peer door.
    #[error("cannot listen for peers on {port}: {source}")]
    PeerDoor {
        /// The port, or the range.
        port: String,
        /// Why not.
        source: std::io::Error,
    },
    /// Signals, sockets.
    #[error("{0}")]
    System(#[from] std::io::Error),
}

impl Error {
    /// Whether starting again may help.
    pub fn exit(&self) -> Exit {
        match self {
            Self::Platform(platform::Error::Io { .. }) | Self::Tls(_) | Self::System(_) => Exit::Broken,
            Self::Store { source: store::Error::Future { .. }, .. }
            | Self::Hello { source: hello_store::Error::Future(_), .. }
            | Self::Platform(_)
            | Self::Identity(_) => Exit::Unusable,
            Self::Store { .. } | Self::Hello { .. } => Exit::Broken,
            Self::PeerDoor { source, .. } => match source.kind() {
                // Somebody else has the port, or it may not be had: a matter of configuration.
                std::io::ErrorKind::AddrInUse | std::io::ErrorKind::PermissionDenied => Exit::Unusable,
                _ => Exit::Broken,
            },
        }
    }
}

/// Runs the daemon until it is asked to stop.
pub async fn run(settings: Settings) -> Result<Exit, Error> {
    let begun = Instant::now();
    let stop_signal = platform::stop_signal()?;
    platform::raise_file_limit();
    platform::hide_memory();
    let tasks = Tasks::default();

    platform::create_private_dir(&settings.paths.data)?;
    let lock = InstanceLock::acquire(&settings.paths.data)?;
    let database = settings.paths.data.join("kith.db");
    let identity = Identity::open(&settings.paths.data, &database, &settings.name, settings.new_identity)?;
    let broken_store = |source| Error::Store { path: database.clone(), source };
    let store = Store::open(&database).map_err(broken_store)?;
    let trust = Trust::open(store.clone(), settings.paths.data.join("trust.generation")).await.map_err(broken_store)?;
    let tls = Tls::new(&identity, &trust)?;

    let configured = settings.config.peer.port;
    let (listener, peer_port) = peer::bind(identity.id(), configured).map_err(|source| Error::PeerDoor {
        port: if configured == 0 { "44000 to 44999".to_owned() } else { configured.to_string() },
        source,
    })?;
    let (socket, shared) = control_socket(&settings, &lock)?;

    let events = Events::default();
    let discovery = Discovery::start(&tasks, &events, &trust, &settings, &identity, peer_port);
    let dial = Dial::start(&tasks, tls.clone(), &trust, &discovery, &identity, peer_port);
    let pairing = Pairing::new(pairing::Parts {
        identity: identity.clone(),
        trust: trust.clone(),
        discovery: discovery.clone(),
        dial: dial.clone(),
        events: events.clone(),
        store: store.clone(),
        tasks: tasks.clone(),
        peer_port,
    });
    let transfers = Transfers::start(transfer::Parts {
        settings: settings.clone(),
        identity: identity.clone(),
        trust: trust.clone(),
        discovery: discovery.clone(),
        dial: dial.clone(),
        events: events.clone(),
        store: store.clone(),
        tasks: tasks.clone(),
    })
    .await
    .map_err(broken_store)?;
    let hello = Hello::open(hello_store::Parts {
        data: settings.paths.data.clone(),
        config: settings.config.hello.clone(),
        tasks: tasks.clone(),
    })
    .map_err(|source| Error::Hello { path: settings.paths.data.join(hello_store::FILE), source })?;
    let (guests, openings) = Guests::start(guest::Parts {
        settings: settings.clone(),
        discovery: discovery.clone(),
        dial: dial.clone(),
        events: events.clone(),
        store: store.clone(),
        tasks: tasks.clone(),
    });
    let sync = Sync::start(sync::Parts {
        data: settings.paths.data.clone(),
        identity: identity.clone(),
        trust: trust.clone(),
        discovery: discovery.clone(),
        dial: dial.clone(),
        events: events.clone(),
        store: store.clone(),
        tasks: tasks.clone(),
    })
    .await
    .map_err(broken_store)?;
    let minutes = u64::from(settings.config.vault.idle_minutes);
    let vault = Vault::open(vault::Parts {
        data: settings.paths.data.clone(),
        credential: settings.vault_credential.clone(),
        idle: (minutes > 0).then(|| Duration::from_secs(60 * minutes)),
        store: store.clone(),
        events: events.clone(),
        tasks: tasks.clone(),
    })
    .await
    .map_err(broken_store)?;
    let credentials = Credentials::start(credentials::Parts {
        settings: settings.clone(),
        vault: vault.clone(),
        trust: trust.clone(),
        dial: dial.clone(),
        events: events.clone(),
        tasks: tasks.clone(),
    })
    .await
    .map_err(broken_store)?;
    let codes = Codes::start(codes::Parts {
        settings: settings.clone(),
        identity: identity.clone(),
        trust: trust.clone(),
        discovery: discovery.clone(),
        dial: dial.clone(),
        hello: hello.clone(),
        sync: sync.clone(),
        events: events.clone(),
        store: store.clone(),
        tasks: tasks.clone(),
        peer_port,
    });
    let joins = Joins::start(JoinParts {
        settings: settings.clone(),
        identity: identity.clone(),
        trust: trust.clone(),
        discovery: discovery.clone(),
        dial,
        sync: sync.clone(),
        events: events.clone(),
        store: store.clone(),
        tasks: tasks.clone(),
        peer_port,
    })
    .await
    .map_err(broken_store)?;
    doors::guest::serve(doors::guest::Parts {
        guests: guests.clone(),
        openings,
        hello: hello.clone(),
        discovery: discovery.clone(),
        tasks: tasks.clone(),
    });

    let door = peer::Door {
        tls,
        pairing: pairing.clone(),
        transfers: transfers.clone(),
        sync: sync.clone(),
        credentials: credentials.clone(),
        codes: codes.clone(),
        discovery: discovery.clone(),
        tasks: tasks.clone(),
    };
    door.serve(listener);
    let engines = Arc::new(local::Engines {
        identity: identity.clone(),
        trust,
        discovery: discovery.clone(),
        pairing,
        transfers,
        guests,
        sync,
        credentials,
        codes,
        vault,
        joins,
        hello,
        events,
        tasks: tasks.clone(),
        boot_id: uuid::Uuid::new_v4().to_string(),
        started_ms: clock::now_ms(),
        peer_port,
        settings: settings.clone(),
    });
    local::serve(socket, shared, engines, &tasks);

    tracing::info!(
        id = %identity.id(), name = %identity.name(), port = peer_port, socket = %settings.paths.socket.display(),
        ms = begun.elapsed().as_millis(), "ready"
    );
    notify(&[sd_notify::NotifyState::Ready]);

    let why = tokio::select! {
        signal = stop_signal => signal,
        () = tasks.stopping().cancelled() => "request",
    };
    tracing::info!(why, "stopping");
    notify(&[sd_notify::NotifyState::Stopping]);
    discovery.goodbye().await;
    if !tasks.end(STOP_PATIENCE).await {
        tracing::warn!("some work did not end in time and is cut off; it resumes at the next start");
    }
    if let Err(error) = store.checkpoint().await {
        tracing::warn!(%error, "the database is not gathered into one file; the next start does it");
    }
    Ok(match tasks.broken() {
        Some(task) => {
            tracing::error!(task, "stopped because a task broke");
            Exit::Broken
        }
        None => Exit::Stopped,
    })
}

/// The socket that the service manager hands over, or one of our own; and whether the group may use it.
fn control_socket(settings: &Settings, lock: &InstanceLock) -> Result<(ControlSocket, bool), Error> {
    let shared = settings.shared;
    match platform::adopt_socket()? {
        Some(socket) => Ok((socket, shared)),
        None => Ok((ControlSocket::bind(&settings.paths.socket, shared, lock)?, shared)),
    }
}

/// Tells the service manager, if there is one.
pub(crate) fn notify(state: &[sd_notify::NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::debug!(%error, "no service manager to notify");
    }
}
