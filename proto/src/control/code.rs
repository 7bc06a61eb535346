//! Sharing codes, on both sides: nouns, parameters and results.

use serde::{Deserialize, Serialize};

use super::types::{Failure, PeerRef};
use crate::id::DeviceId;
use crate::secret_text::SecretText;

/// Whether somebody is asked when a device comes with a code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CodeApproval {
    /// Nobody.
    Auto,
    /// The issuer: the request waits in its inbox.
    Ask,
    /// Something that a newer daemon knows.
    #[serde(other)]
    Unknown,
}

/// How a code is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CodeState {
    /// It lets devices in.
    Active,
    /// It was used as often as it may be.
    UsedUp,
    /// Its time is over.
    Expired,
    /// It was withdrawn.
    Revoked,
    /// A state of a newer daemon.
    #[serde(other)]
    Unknown,
}

/// How it is with a code's payload at one store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PublicationState {
    /// It was not there yet.
    Waiting,
    /// It is there.
    Published,
    /// It could not be brought there; it is tried again while the code lives.
    Failed,
    /// It was taken away again, or is about to be.
    Withdrawn,
    /// A state of a newer daemon.
    #[serde(other)]
    Unknown,
}

/// A code's payload at one store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Publication {
    /// The store's address, as it is configured.
    pub store: String,
    /// How it is.
    pub state: PublicationState,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<Failure>,
    /// When that was: RFC 3339, UTC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<String>,
}

/// A sharing code that this device issued. Never carries the code itself, of which this device keeps nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IssuedCode {
    /// Names it on this device: 8 hex digits.
    pub id: String,
    /// What it is called, for those who join and in lists.
    pub label: String,
    /// What kind of thing it shares: `journal`.
    pub kind: String,
    /// The id of what it shares.
    pub resource: String,
    /// What that is called here; what it was called, if it is gone.
    pub name: String,
    /// What one may do with it: `read-write`.
    pub permission: String,
    /// Whether somebody is asked.
    pub approval: CodeApproval,
    /// How it is.
    pub state: CodeState,
    /// When it was made: RFC 3339, UTC.
    pub created: String,
    /// When its time is over.
    pub expires: String,
    /// How often it may be used; null: without a count.
    pub uses: Option<u32>,
    /// How often it was.
    pub used: u32,
    /// Requests that wait for an answer.
    pub waiting: u32,
    /// Where its payload waits besides this device, which gives it out on its own network.
    pub publications: Vec<Publication>,
}

/// A device that came by a code.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Redemption {
    /// The device.
    #[serde(flatten)]
    pub device: PeerRef,
    /// When.
    pub at: String,
    /// Whether it was removed again, with `codes.revoke` and `expel`.
    pub expelled: bool,
}

/// `codes.issue`
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CodeIssueParams {
    /// What kind of thing to share: `journal`.
    pub kind: String,
    /// Which one: name or id.
    pub resource: String,
    /// How often it may be used, 1 to [`crate::limits::CODE_USES`]; 0: without a count; once when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uses: Option<u32>,
    /// How long it is valid, within [`crate::limits::CODE_SECONDS`]; 7 days when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seconds: Option<u64>,
    /// Whether somebody is asked; when absent, nobody for one use, and somebody otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub approval: Option<CodeApproval>,
    /// What it is called; the resource's name when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
}

/// `codes.issue`: the only answer that carries a code.
#[derive(Debug, Serialize, Deserialize)]
pub struct CodeIssueResult {
    /// What is kept of it.
    #[serde(flatten)]
    pub issued: IssuedCode,
    /// Seven groups of four letters and digits.
    pub code: SecretText,
    /// The same for programs and QR codes: `kith:join/CODE`.
    pub uri: SecretText,
    /// The code with its payload, for where no store and not this device is reachable: `kith:join/CODE?PAYLOAD`.
    pub ticket: SecretText,
}

/// `codes.list`
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct CodesResult {
    /// Newest first.
    pub codes: Vec<IssuedCode>,
}

/// A code that this device issued, by its id, a unique prefix of that, or its label.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CodeParams {
    /// Which.
    pub code: String,
}

/// `codes.show`
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct CodeShowResult {
    /// The code.
    #[serde(flatten)]
    pub issued: IssuedCode,
    /// Who came by it, the last first; at most 10,000 of them.
    pub joined: Vec<Redemption>,
}

/// `codes.revoke`
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CodeRevokeParams {
    /// Which: id, a unique prefix of that, or label.
    pub code: String,
    /// Also remove whoever came by it.
    #[serde(default)]
    pub expel: bool,
}

/// Somebody came with a code of which the issuer is asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JoinRequest {
    /// Names the request: 8 hex digits.
    pub request: String,
    /// Who.
    pub device: PeerRef,
    /// The code that it came by: its id.
    pub code: String,
    /// What that is called.
    pub label: String,
    /// What kind of thing it wants to join.
    pub kind: String,
    /// What that is called here.
    pub name: String,
    /// Whether it still waits, and otherwise what became of it.
    pub state: RequestState,
    /// Where it came from: an IP address.
    pub address: String,
    /// When it first came.
    pub created: String,
}

/// How a request to join is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RequestState {
    /// It waits for an answer.
    Waiting,
    /// It is a member.
    Accepted,
    /// It was turned down, or nobody answered in time.
    Denied,
    /// A state of a newer daemon.
    #[serde(other)]
    Unknown,
}

/// `codes.requests`
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct RequestsResult {
    /// Those that wait, the oldest first.
    pub requests: Vec<JoinRequest>,
}

/// `codes.answer`
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RequestAnswerParams {
    /// The request: its id or a unique prefix of it.
    pub request: String,
    /// Yes or no.
    pub accept: bool,
}

/// How far joining by a code is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum JoinState {
    /// The payload is looked for.
    Looking,
    /// It was found: somebody has to say yes (`joins.confirm`).
    Found,
    /// The issuer is asked for the first time.
    Joining,
    /// The issuer could not be reached, or wants to be asked again: it is tried in the background.
    Pending,
    /// This device is a member.
    Joined,
    /// It came to nothing.
    Failed,
    /// Somebody called it off.
    Canceled,
    /// A state of a newer daemon.
    #[serde(other)]
    Unknown,
}

impl JoinState {
    /// Whether nothing more will happen.
    pub fn is_final(self) -> bool {
        matches!(self, Self::Joined | Self::Failed | Self::Canceled)
    }
}

/// Joining by a code. Never carries the code.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CodeJoin {
    /// Names this join: 8 hex digits.
    pub join: String,
    /// How far it is.
    pub state: JoinState,
    /// What the issuer said last, or what was found out here: `ok`, `already_member`, `approval_pending`, `denied`,
    /// `expired`, `used_up`, `revoked`, `unknown_code`, `resource_gone`, `resource_paused`, `issuer_changed`,
    /// `rate_limited`, `version_unsupported`, `busy`; `not_found`, `unreadable`, `store_unreachable`,
    /// `issuer_unreachable`, `unsupported`, `is_self`, `canceled`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result: Option<String>,
    /// The same as a sentence, its code for programs, and what to do now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<Failure>,
    /// Who issued the code; with `found`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub issuer: Option<Issuer>,
    /// What is joined; with `found`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resource: Option<JoinResource>,
    /// Where a folder goes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// When it began: RFC 3339, UTC.
    pub created: String,
    /// When the code's time is over, by the issuer's clock.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires: Option<String>,
    /// Whether it is, by this device's clock, which may be wrong: it is tried all the same.
    #[serde(default)]
    pub seems_expired: bool,
    /// When the issuer is asked again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_at: Option<String>,
}

/// Who issued a code.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Issuer {
    /// Its id.
    pub id: DeviceId,
    /// How it calls itself.
    pub name: String,
    /// The full public key in base64url.
    pub public_key: String,
    /// Whether this device trusts it already.
    pub trusted: bool,
}

/// What a code lets one join.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JoinResource {
    /// Its id.
    pub id: String,
    /// What kind of thing it is: `journal`.
    pub kind: String,
    /// What its issuer calls it; once joined, what it is called here.
    pub name: String,
    /// What the code is called.
    pub label: String,
    /// What one may do with it: `read-write`.
    pub permission: String,
    /// Whether the issuer will be asked.
    pub approval: CodeApproval,
    /// Whether this device takes part in it already.
    pub here: bool,
}

/// `joins.begin`
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JoinBeginParams {
    /// The code, however it is written; a `kith:join/…` link, or a ticket.
    pub code: SecretText,
}

/// `joins.confirm`
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JoinConfirmParams {
    /// Which: its id or a unique prefix of it.
    pub join: String,
    /// Where a folder goes: an absolute path.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
}

/// A join, by its id or a unique prefix of it.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JoinParams {
    /// Which.
    pub join: String,
}

/// `joins.list`
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct JoinsResult {
    /// Those under way, and the last that ended, newest first.
    pub joins: Vec<CodeJoin>,
}
