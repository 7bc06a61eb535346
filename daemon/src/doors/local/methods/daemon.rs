//! `daemon.*`

use std::sync::Arc;

use data_encoding::HEXLOWER;
use kith_proto::control::ApiError;
use kith_proto::control::credential::{Vault, VaultState};
use kith_proto::control::method::{
    ALL, Check, ConfigResult, DoctorResult, Done, Empty, HelloParams, HelloResult, IdentityResult, StatusResult,
};
use kith_proto::control::types::PeerState;
use kith_proto::{CONTROL_PROTOCOL, CONTROL_PROTOCOL_MIN};

use super::Engines;
use crate::doors::local::dispatch::Call;
use crate::{clock, platform};

const VERSION: &str = env!("CARGO_PKG_VERSION");
/// Below this many open files, a busy device runs into walls.
const FILES_WANTED: u64 = 256;
/// Less room than this on the disk deserves a word.
const ROOM_WANTED: u64 = 1 << 30;

pub async fn hello(engines: Arc<Engines>, call: Call, _: HelloParams) -> Result<HelloResult, ApiError> {
    let allowed = ALL.iter().filter(|(_, access)| call.caller.may(*access));
    Ok(HelloResult {
        server: format!("kithd {VERSION}"),
        protocol: CONTROL_PROTOCOL,
        min_protocol: CONTROL_PROTOCOL_MIN,
        boot_id: engines.boot_id.clone(),
        methods: allowed.map(|(name, _)| (*name).to_owned()).collect(),
    })
}

pub async fn status(engines: Arc<Engines>, _: Call, _: Empty) -> Result<StatusResult, ApiError> {
    let peers = engines.discovery.peers();
    let trusted = || peers.iter().filter(|peer| peer.state == PeerState::Trusted);
    let addresses = engines.discovery.own_addresses().into_iter();
    let offers = engines.guests.inbox().len() + engines.transfers.inbox().len();
    let inbox = offers + engines.credentials.waiting() + engines.codes.waiting().await?;
    Ok(StatusResult {
        id: engines.identity.id(),
        name: engines.identity.name().to_owned(),
        version: VERSION.to_owned(),
        pid: std::process::id(),
        started: clock::rfc3339(engines.started_ms),
        peer_port: engines.peer_port,
        addresses: addresses.map(|ip| std::net::SocketAddr::new(ip, engines.peer_port).to_string()).collect(),
        socket: engines.settings.paths.socket.to_string_lossy().into_owned(),
        download_dir: engines.settings.paths.downloads.to_string_lossy().into_owned(),
        trusted: trusted().count() as u64,
        online: trusted().filter(|peer| peer.online).count() as u64,
        inbox: inbox as u64,
        transfers: (engines.guests.unfinished().len() + engines.transfers.unfinished().len()) as u64,
        hello_port: engines.hello.port(),
        hello_certificate_hash: engines.hello.place().map(|place| place.hash.to_string()),
    })
}

pub async fn identity(engines: Arc<Engines>, _: Call, _: Empty) -> Result<IdentityResult, ApiError> {
    let hex = HEXLOWER.encode(&engines.identity.public().fingerprint());
    let groups: Vec<_> = hex.as_bytes().chunks(4).map(|group| String::from_utf8_lossy(group).into_owned()).collect();
    Ok(IdentityResult {
        id: engines.identity.id(),
        name: engines.identity.name().to_owned(),
        public_key: engines.identity.public().to_string(),
        fingerprint: groups.join(" "),
        created: engines.identity.created().to_owned(),
    })
}

pub async fn config(engines: Arc<Engines>, _: Call, _: Empty) -> Result<ConfigResult, ApiError> {
    let file = &engines.settings.paths.config;
    Ok(ConfigResult {
        file: file.to_string_lossy().into_owned(),
        exists: file.exists(),
        toml: toml::to_string(&engines.settings.config).expect("the configuration came from TOML"),
    })
}

pub async fn shutdown(engines: Arc<Engines>, _: Call, _: Empty) -> Result<Done, ApiError> {
    tracing::info!("asked to stop by a control connection");
    engines.tasks.stopping().cancel();
    Ok(Done {})
}

pub async fn doctor(engines: Arc<Engines>, _: Call, _: Empty) -> Result<DoctorResult, ApiError> {
    let settings = &engines.settings;
    let addresses = engines.discovery.own_addresses();
    let shown: Vec<_> = addresses.iter().map(ToString::to_string).collect();
    let announced = settings.config.discovery.enabled;
    let restored = engines.trust.restored();
    let mut checks = vec![
        check("peer door", true, format!("listening on port {}", engines.peer_port), ""),
        check(
            "network",
            !addresses.iter().all(std::net::IpAddr::is_loopback),
            format!("reachable at {}", shown.join(", ")),
            "connect this device to a network, or name its interfaces in [discovery]",
        ),
        check(
            "discovery",
            announced,
            if announced { "mDNS is on" } else { "mDNS is off" }.to_owned(),
            "set enabled = true in [discovery], or pair by address",
        ),
        check(
            "trust",
            !restored,
            if restored { "the database is older than the last change of trust" } else { "as it was left" }.to_owned(),
            "a backup was restored: look at kithctl trust list, and revoke again what you had revoked",
        ),
        check(
            "open files",
            platform::file_limit() >= FILES_WANTED,
            format!("{} allowed", platform::file_limit()),
            "raise the limit (LimitNOFILE= or ulimit -n)",
        ),
    ];
    let downloads = settings.paths.downloads.display();
    checks.push(match engines.transfers.room().await {
        Ok(free) => check(
            "download directory",
            free >= ROOM_WANTED,
            format!("{downloads}, {} MiB free", free >> 20),
            "make room, or set dir in [receive]",
        ),
        Err(error) => check(
            "download directory",
            false,
            error.to_string(),
            "set dir in [receive] to a directory that can be written",
        ),
    });
    checks.push(vault(&engines.vault.status().await?));
    let (faults, entries) = engines.sync.verify().await?;
    checks.push(match faults.first() {
        None => check("journals", true, format!("{entries} entries counted, all as it is written down"), ""),
        Some(fault) => check(
            "journals",
            false,
            format!("{} faults, the first: {fault}", faults.len()),
            "please report this: no entry is lost by it, but syncing may take longer",
        ),
    });
    Ok(DoctorResult { checks })
}

fn vault(vault: &Vault) -> Check {
    let counted = format!("{} secrets, {} databases", vault.secrets, vault.databases);
    match (&vault.reason, vault.state) {
        (Some(reason), _) => check("vault", false, reason.message.clone(), reason.hint.as_deref().unwrap_or_default()),
        (None, VaultState::Absent) => check("vault", true, "none yet; the first secret makes it".to_owned(), ""),
        (None, VaultState::Locked) => check("vault", true, format!("locked, {counted}"), ""),
        (None, _) => check("vault", true, format!("unlocked, {counted}"), ""),
    }
}

fn check(name: &str, ok: bool, detail: String, hint: &str) -> Check {
    Check { name: name.to_owned(), ok, detail, hint: (!ok).then(|| hint.to_owned()) }
}
