//! JOIN and RESULT: one frame each way.

use data_encoding::BASE64URL_NOPAD;
use ed25519_dalek::{Signature, VerifyingKey};
use serde::{Deserialize, Serialize};

use super::code::ProofKey;
use super::payload::Permission;
use crate::id::PublicKey;
use crate::limits;
use crate::peer::journal::member::Introduction;
use crate::peer::journal::version::JournalId;
use crate::peer::wire::{Base64, lv};

/// The version that JOIN names.
pub const VERSION: u32 = 1;

/// B → A: let me in.
#[derive(Clone, Serialize, Deserialize)]
#[serde(tag = "type", rename = "join")]
pub struct Join {
    /// [`VERSION`].
    pub v: u32,
    /// The resource that the payload named.
    pub resource: JournalId,
    /// The proof's public key: what A keeps of a code.
    pub proof: Base64<[u8; 32]>,
    /// Ed25519 by it over both keys, this connection and the resource.
    pub signature: Base64<[u8; 64]>,
    /// How B calls itself.
    pub name: String,
    /// The port of B's peer door.
    pub port: u16,
}

impl Join {
    /// A JOIN of the device `own` to `issuer`, over the connection with this exporter.
    pub fn new(
        key: &ProofKey,
        resource: JournalId,
        issuer: &PublicKey,
        own: &PublicKey,
        exporter: &[u8; 32],
        name: String,
        port: u16,
    ) -> Self {
        let signature = key.sign(&Self::message(issuer, own, exporter, &resource));
        Self { v: VERSION, resource, proof: Base64(key.public()), signature: Base64(signature), name, port }
    }

    /// What is signed: a label, A's key, B's key, the exporter of the TLS session (RFC 8446 §7.5), the resource. It
    /// proves nothing in any other session, to anybody else, or for another resource.
    fn message(issuer: &PublicKey, joiner: &PublicKey, exporter: &[u8; 32], resource: &JournalId) -> Vec<u8> {
        lv(&[b"kith join 1", &issuer.0, &joiner.0, exporter, &resource.0])
    }

    /// Reads a frame; `None` for what is no JOIN of a version that is known. Use [`Join::version`] to tell newer ones.
    pub fn decode(frame: &[u8]) -> Option<Self> {
        let join: Self = serde_json::from_slice(frame).ok()?;
        (join.v == VERSION && join.name.len() <= limits::DEVICE_NAME).then_some(join)
    }

    /// The version that a frame names, if it is a JOIN at all.
    pub fn version(frame: &[u8]) -> Option<u32> {
        #[derive(Deserialize)]
        struct Versioned {
            v: u32,
            #[serde(rename = "type")]
            kind: String,
        }
        let versioned: Versioned = serde_json::from_slice(frame).ok()?;
        (versioned.kind == "join").then_some(versioned.v)
    }

    /// The frame.
    pub fn encode(&self) -> Vec<u8> {
        crate::peer::wire::to_json(self)
    }

    /// Whether whoever sent this over the connection of `joiner` with this exporter to `issuer` has the code that
    /// `proof` belongs to.
    pub fn is_proven(&self, issuer: &PublicKey, joiner: &PublicKey, exporter: &[u8; 32]) -> bool {
        let message = Self::message(issuer, joiner, exporter, &self.resource);
        let signature = Signature::from_bytes(&self.signature.0);
        VerifyingKey::from_bytes(&self.proof.0).is_ok_and(|key| key.verify_strict(&message, &signature).is_ok())
    }
}

/// What becomes of a join: a closed set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// B is a member now.
    Ok,
    /// B was one before: by this code, or otherwise.
    AlreadyMember,
    /// Somebody has to say yes first.
    ApprovalPending,
    /// Somebody said no.
    Denied,
    /// The code's time was over.
    Expired,
    /// The code was used as often as it may be.
    UsedUp,
    /// The issuer withdrew the code.
    Revoked,
    /// A knows no such code, or the proof does not hold.
    UnknownCode,
    /// What was shared is not there any more, or not A's to share.
    ResourceGone,
    /// It takes nobody in at the moment.
    ResourcePaused,
    /// A is not who issued the code any more.
    IssuerChanged,
    /// Too many proofs of that address were wrong.
    RateLimited,
    /// A does not speak B's version.
    VersionUnsupported,
    /// A has too much to do.
    Busy,
}

impl Reason {
    /// All of them.
    pub const ALL: [Self; 14] = [
        Self::Ok,
        Self::AlreadyMember,
        Self::ApprovalPending,
        Self::Denied,
        Self::Expired,
        Self::UsedUp,
        Self::Revoked,
        Self::UnknownCode,
        Self::ResourceGone,
        Self::ResourcePaused,
        Self::IssuerChanged,
        Self::RateLimited,
        Self::VersionUnsupported,
        Self::Busy,
    ];

    /// The word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::AlreadyMember => "already_member",
            Self::ApprovalPending => "approval_pending",
            Self::Denied => "denied",
            Self::Expired => "expired",
            Self::UsedUp => "used_up",
            Self::Revoked => "revoked",
            Self::UnknownCode => "unknown_code",
            Self::ResourceGone => "resource_gone",
            Self::ResourcePaused => "resource_paused",
            Self::IssuerChanged => "issuer_changed",
            Self::RateLimited => "rate_limited",
            Self::VersionUnsupported => "version_unsupported",
            Self::Busy => "busy",
        }
    }

    /// Whether B is a member.
    pub const fn is_in(self) -> bool {
        matches!(self, Self::Ok | Self::AlreadyMember)
    }

    /// Whether asking again may bring another answer.
    pub const fn is_transient(self) -> bool {
        matches!(
            self,
            Self::ApprovalPending | Self::ResourcePaused | Self::IssuerChanged | Self::RateLimited | Self::Busy
        )
    }
}

/// A → B: what became of it. Whoever did not prove to have the code hears [`Reason::UnknownCode`] and nothing more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename = "result")]
pub struct JoinResult {
    /// What.
    pub reason: Reason,
    /// For members: the resource, and the records that make B one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub introduction: Option<Introduction>,
    /// For members: what they may do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub permission: Option<Permission>,
    /// In how many seconds to ask again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after: Option<u32>,
    /// When what is the reason happened: milliseconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at_ms: Option<u64>,
    /// Who did: the name of the device that had the last use.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
}

impl From<Reason> for JoinResult {
    fn from(reason: Reason) -> Self {
        Self { reason, introduction: None, permission: None, retry_after: None, at_ms: None, by: None }
    }
}

impl JoinResult {
    /// Reads a frame.
    pub fn decode(frame: &[u8]) -> Option<Self> {
        let result: Self = serde_json::from_slice(frame).ok()?;
        result.by.as_ref().is_none_or(|by| by.len() <= limits::DEVICE_NAME).then_some(result)
    }

    /// The frame.
    pub fn encode(&self) -> Vec<u8> {
        crate::peer::wire::to_json(self)
    }
}

impl std::fmt::Debug for Join {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Join({}, {:?})", BASE64URL_NOPAD.encode(&self.resource.0), self.name)
    }
}
