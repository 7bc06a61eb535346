//! A hello store that a device is for everybody, and those who put something there.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use kith_proto::guest::hello::{EXPIRES, Lookup, OWNER, OwnerToken, PATH};

use crate::guest::request;
use crate::host::Host;
use crate::https::{Answer, Caller};
use crate::{PATIENCE, wait};

/// What makes a device a hello store for everybody.
pub const SERVE: &str = "[discovery]\nenabled = false\n[hello]\nserve = true\n";

/// A hello store, as one who calls it sees it.
#[derive(Clone)]
pub struct Store {
    /// Who calls.
    pub caller: Caller,
    /// Its port.
    pub port: u16,
    /// The hash of its certificate.
    pub hash: String,
}

impl Store {
    /// The store of a device that was told to be one.
    #[track_caller]
    pub fn of(host: &Host) -> Self {
        let status = wait::until("a hello store", PATIENCE, || {
            let status = host.status();
            status["hello_port"].is_u64().then_some(status)
        });
        let port = status["hello_port"].as_u64().and_then(|port| u16::try_from(port).ok()).expect("a port");
        let hash = status["hello_certificate_hash"].as_str().expect("a hash").to_owned();
        Self { caller: Caller::new(SocketAddr::new(host.ip(), port)), port, hash }
    }

    /// The same, called from another address of this machine.
    #[must_use]
    pub fn from(&self, ip: &str) -> Self {
        Self { caller: self.caller.clone().from(ip), ..self.clone() }
    }

    /// Any request.
    #[track_caller]
    pub fn ask(&self, method: &str, target: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
        self.caller.ask(&request(method, target, headers, body))
    }

    /// Looks a blob up.
    #[track_caller]
    pub fn get(&self, name: &str) -> Answer {
        self.ask("GET", &path(name), &[], b"")
    }

    /// Puts a blob there for an hour.
    #[track_caller]
    pub fn put(&self, name: &str, blob: &[u8]) -> Answer {
        let (owner, expires) = (owner(1), after(3_600));
        self.ask("PUT", &path(name), &[(OWNER, &owner), (EXPIRES, &expires)], blob)
    }

    /// Takes a blob away, as the owner who put it there.
    #[track_caller]
    pub fn withdraw(&self, name: &str) -> Answer {
        self.ask("DELETE", &path(name), &[("Authorization", &bearer(1))], b"")
    }
}

/// A name that nobody used before.
pub fn name() -> String {
    static LAST: AtomicU32 = AtomicU32::new(0);
    let mut id = [0x5a; 32];
    id[..4].copy_from_slice(&LAST.fetch_add(1, Ordering::Relaxed).to_be_bytes());
    id[4..8].copy_from_slice(&std::process::id().to_be_bytes());
    Lookup(id).to_text()
}

/// The path of a name.
pub fn path(name: &str) -> String {
    format!("{PATH}{name}")
}

/// What an owner says when something is put there.
pub fn owner(n: u8) -> String {
    OwnerToken::from_random(&[n; 32]).hash().to_text()
}

/// What an owner says when it is taken away.
pub fn bearer(n: u8) -> String {
    format!("Bearer {}", OwnerToken::from_random(&[n; 32]).expose())
}

/// So many seconds from now, as a store is told.
pub fn after(seconds: u64) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock after 1970");
    (now.as_secs() + seconds).to_string()
}
