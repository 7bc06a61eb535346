//! Facts, and how they are subscribed to. An event asks for nothing; each carries the whole new state of its object,
//! so seeing one twice is harmless.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::code::{CodeJoin, IssuedCode, JoinRequest};
use super::credential::{Share, Vault};
use super::journal::{Conflict, Journal, Recovered, SyncSession};
use super::types::{Pairing, Peer, Question, Transfer, Window};

/// One fact.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Event {
    /// Grows by one with each fact, from 1, within one `boot_id`.
    pub seq: u64,
    /// When it was published: RFC 3339, UTC.
    pub time: String,
    /// What happened, as `object:verb`.
    pub kind: String,
    /// The object's whole new state.
    pub data: Value,
}

/// What can happen.
#[derive(Debug, Clone)]
pub enum Fact {
    /// First sighting of a peer, or back after it was lost.
    PeerDiscovered(Peer),
    /// Something about a peer that is in sight changed: its addresses, name, trust or policy.
    PeerUpdated(Peer),
    /// The peer said goodbye, or cannot be reached any more.
    PeerLost(Peer),
    /// Two devices trust each other from now on.
    PeerPaired(Peer),
    /// This device trusts the peer no longer.
    PeerRevoked(Peer),
    /// A pairing took a step. Never carries the PIN.
    PairingUpdated(Pairing),
    /// A transfer took a step; at most four a second for each.
    TransferUpdated(Box<Transfer>),
    /// A receive window opened, ended, was pinged, or lost a try. Never carries the PIN.
    WindowUpdated(Window),
    /// Somebody is asked about a guest, or the question is over.
    QuestionUpdated(Question),
    /// A journal is new here, or its members or its state changed. Not for entries: `entries.subscribe` tells of them.
    JournalUpdated(Journal),
    /// Two versions of an entry that did not know each other met.
    EntryConflict(Box<Conflict>),
    /// A device that was away too long brought back an entry that was deleted meanwhile.
    EntryRecovered(Recovered),
    /// A session that keeps journals the same began.
    SyncStarted(SyncSession),
    /// It ended well.
    SyncComplete(SyncSession),
    /// It failed.
    SyncError(SyncSession),
    /// The vault was locked, unlocked, made, or got another key.
    VaultUpdated(Vault),
    /// A share of credentials took a step. Never carries its code, nor what is shared.
    ShareUpdated(Share),
    /// A sharing code was issued, used, revoked, is over, or was brought to a store.
    CodeUpdated(IssuedCode),
    /// A device came by a code and waits for an answer, or got one.
    RequestUpdated(JoinRequest),
    /// Joining by a code took a step.
    JoinUpdated(Box<CodeJoin>),
}

impl Fact {
    /// Every kind, for help texts and the golden list.
    pub const KINDS: &'static [&'static str] = &[
        "peer:discovered",
        "peer:updated",
        "peer:lost",
        "peer:paired",
        "peer:revoked",
        "pairing:updated",
        "transfer:updated",
        "window:updated",
        "question:updated",
        "journal:updated",
        "entry:conflict",
        "entry:recovered",
        "sync:started",
        "sync:complete",
        "sync:error",
        "vault:updated",
        "share:updated",
        "code:updated",
        "request:updated",
        "join:updated",
    ];

    /// The kind as it crosses the door.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::PeerDiscovered(_) => "peer:discovered",
            Self::PeerUpdated(_) => "peer:updated",
            Self::PeerLost(_) => "peer:lost",
            Self::PeerPaired(_) => "peer:paired",
            Self::PeerRevoked(_) => "peer:revoked",
            Self::PairingUpdated(_) => "pairing:updated",
            Self::TransferUpdated(_) => "transfer:updated",
            Self::WindowUpdated(_) => "window:updated",
            Self::QuestionUpdated(_) => "question:updated",
            Self::JournalUpdated(_) => "journal:updated",
            Self::EntryConflict(_) => "entry:conflict",
            Self::EntryRecovered(_) => "entry:recovered",
            Self::SyncStarted(_) => "sync:started",
            Self::SyncComplete(_) => "sync:complete",
            Self::SyncError(_) => "sync:error",
            Self::VaultUpdated(_) => "vault:updated",
            Self::ShareUpdated(_) => "share:updated",
            Self::CodeUpdated(_) => "code:updated",
            Self::RequestUpdated(_) => "request:updated",
            Self::JoinUpdated(_) => "join:updated",
        }
    }

    /// The object's state as JSON.
    pub fn data(&self) -> Value {
        match self {
            Self::PeerDiscovered(peer)
            | Self::PeerUpdated(peer)
            | Self::PeerLost(peer)
            | Self::PeerPaired(peer)
            | Self::PeerRevoked(peer) => serde_json::to_value(peer),
            Self::PairingUpdated(pairing) => serde_json::to_value(pairing),
            Self::TransferUpdated(transfer) => serde_json::to_value(transfer),
            Self::WindowUpdated(window) => serde_json::to_value(window),
            Self::QuestionUpdated(question) => serde_json::to_value(question),
            Self::JournalUpdated(journal) => serde_json::to_value(journal),
            Self::EntryConflict(conflict) => serde_json::to_value(conflict),
            Self::EntryRecovered(recovered) => serde_json::to_value(recovered),
            Self::SyncStarted(session) | Self::SyncComplete(session) | Self::SyncError(session) => {
                serde_json::to_value(session)
            }
            Self::VaultUpdated(vault) => serde_json::to_value(vault),
            Self::ShareUpdated(share) => serde_json::to_value(share),
            Self::CodeUpdated(code) => serde_json::to_value(code),
            Self::RequestUpdated(request) => serde_json::to_value(request),
            Self::JoinUpdated(join) => serde_json::to_value(join),
        }
        .unwrap_or(Value::Null)
    }
}

/// The `params` of a notification with `method: "event"`: a fact, or word that facts were missed.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Notice {
    /// A fact.
    Event(Event),
    /// This reader fell behind: `{"kind":"lagged","data":{"missed":n}}`. Subscribe again.
    Lagged(Lagged),
}

/// Word that facts were missed.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Lagged {
    /// Always `"lagged"`.
    pub kind: String,
    /// How many.
    pub data: Missed,
}

/// How many facts were missed.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct Missed {
    /// The number of facts.
    pub missed: u64,
}
