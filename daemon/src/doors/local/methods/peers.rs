//! `peers.*` and `trust.*`

use std::path::Path;
use std::sync::Arc;

use kith_proto::control::method::{Empty, PeerParams, PeersResult, PolicyParams, RenameParams};
use kith_proto::control::types::{Offers, Peer, PeerState, Relation};
use kith_proto::control::{ApiError, Code};
use kith_proto::id::PublicKey;

use super::Engines;
use crate::doors::local::dispatch::Call;

pub async fn list(engines: Arc<Engines>, _: Call, _: Empty) -> Result<PeersResult, ApiError> {
    Ok(PeersResult { peers: engines.discovery.peers() })
}

pub async fn trusted(engines: Arc<Engines>, _: Call, _: Empty) -> Result<PeersResult, ApiError> {
    let trust = engines.trust.snapshot();
    let mut peers: Vec<_> = trust.devices.keys().map(|key| view(&engines, key)).collect::<Result<_, _>>()?;
    peers.sort_by_key(|peer| (peer.state == PeerState::Revoked, peer.name.clone()));
    Ok(PeersResult { peers })
}

pub async fn show(engines: Arc<Engines>, _: Call, params: PeerParams) -> Result<Peer, ApiError> {
    let key = engines.trust.snapshot().find(&params.peer)?.key;
    view(&engines, &key)
}

pub async fn rename(engines: Arc<Engines>, _: Call, params: RenameParams) -> Result<Peer, ApiError> {
    let trust = engines.trust.snapshot();
    let key = trust.find(&params.peer)?.key;
    if trust.same_name(&key, &params.name).is_some() {
        return Err(ApiError::new(Code::NameTaken, "another device has this name"));
    }
    engines.trust.rename(key, &params.name).await?;
    view(&engines, &key)
}

pub async fn policy(engines: Arc<Engines>, _: Call, params: PolicyParams) -> Result<Peer, ApiError> {
    let trust = engines.trust.snapshot();
    let device = trust.find(&params.peer)?;
    let mut policy = device.policy.clone();
    let relation = params.relation.unwrap_or(device.relation);
    if relation == Relation::Unknown || params.offers == Some(Offers::Unknown) {
        return Err(ApiError::new(Code::InvalidParam, "relation is own or guest; offers is ask, auto or never"));
    }
    if relation == Relation::Guest && params.offers == Some(Offers::Auto) {
        return Err(ApiError::new(Code::InvalidParam, "a guest's offers always ask")
            .hint("make it your own first: kithctl trust policy PEER --own"));
    }
    if params.dir.as_ref().is_some_and(|dir| !dir.is_empty() && !Path::new(dir).is_absolute()) {
        return Err(ApiError::new(Code::InvalidParam, "dir must be an absolute path"));
    }
    let set = |field: &mut Option<u64>, value: Option<u64>| {
        if let Some(value) = value {
            *field = (value > 0).then_some(value);
        }
    };
    set(&mut policy.max_file, params.max_file);
    set(&mut policy.max_day, params.max_day);
    policy.offers = params.offers.unwrap_or(policy.offers);
    policy.on_conflict = params.on_conflict.unwrap_or(policy.on_conflict);
    policy.dotfiles = params.dotfiles.unwrap_or(policy.dotfiles);
    if let Some(dir) = params.dir {
        policy.dir = (!dir.is_empty()).then_some(dir);
    }
    if let Some(types) = params.types {
        policy.types = types.iter().map(|kind| kind.trim_start_matches('.').to_lowercase()).collect();
    }
    let key = device.key;
    engines.trust.set_policy(key, relation, policy).await?;
    view(&engines, &key)
}

pub async fn revoke(engines: Arc<Engines>, _: Call, params: PeerParams) -> Result<Peer, ApiError> {
    let trust = engines.trust.snapshot();
    let device = trust.find(&params.peer)?;
    if !device.is_trusted() {
        return Err(ApiError::new(Code::WrongState, "this device is revoked already"));
    }
    let key = device.key;
    engines.trust.revoke(key).await?;
    view(&engines, &key)
}

/// The device as everybody else sees it, with what discovery knows.
fn view(engines: &Engines, key: &PublicKey) -> Result<Peer, ApiError> {
    engines.discovery.view(key).ok_or_else(|| ApiError::new(Code::PeerNotFound, "there is no such device"))
}
