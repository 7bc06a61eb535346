//! The nouns that methods and events carry. Times are RFC 3339 in UTC, sizes are bytes, addresses are `ip:port`.

use serde::{Deserialize, Serialize};

use crate::id::DeviceId;

/// How far this device trusts another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PeerState {
    /// Seen on the network, not trusted.
    Discovered,
    /// Paired.
    Trusted,
    /// Was paired; this device ended it.
    Revoked,
    /// A state of a newer daemon.
    #[serde(other)]
    Unknown,
}

/// Whose device a paired device is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Relation {
    /// One's own.
    Own,
    /// Somebody else's: gets nothing that was not shared by name, and its offers always ask.
    Guest,
    /// A relation of a newer daemon.
    #[serde(other)]
    Unknown,
}

/// Another device, as this one sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Peer {
    /// The short id.
    pub id: DeviceId,
    /// The name that this device uses for it: ours if we gave one, else its own.
    pub name: String,
    /// How far it is trusted.
    pub state: PeerState,
    /// Whether it was seen or reached lately. A hint, never proof.
    pub online: bool,
    /// Where it was seen, newest first.
    pub addresses: Vec<String>,
    /// Whose device it is, once paired.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub relation: Option<Relation>,
    /// The full public key in base64url, once paired.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub public_key: Option<String>,
    /// When it was paired.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub paired_at: Option<String>,
    /// When it last proved who it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_seen: Option<String>,
    /// When it was revoked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revoked_at: Option<String>,
    /// What its offers may do, once paired.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy: Option<Policy>,
}

/// What becomes of a peer's offers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Offers {
    /// Wait in the inbox for an answer.
    Ask,
    /// Accepted within the policy's bounds.
    Auto,
    /// Rejected.
    Never,
    /// A policy of a newer daemon.
    #[serde(other)]
    Unknown,
}

/// What to do when a name exists already.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Conflict {
    /// Keep both: the new one becomes `name (1).ext`.
    #[default]
    Rename,
    /// Keep the old one.
    Skip,
    /// Replace the old one.
    Overwrite,
    /// Replace the old one if the new one was modified later.
    Newer,
}

/// What offers of one peer may do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Policy {
    /// Ask, accept or reject.
    pub offers: Offers,
    /// Where its files go; the daemon's download directory when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dir: Option<String>,
    /// What to do when a name exists already.
    #[serde(default)]
    pub on_conflict: Conflict,
    /// The largest file that is accepted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_file: Option<u64>,
    /// Bytes accepted in 24 hours.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_day: Option<u64>,
    /// File name extensions that are accepted, lower case, without the dot; all when empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub types: Vec<String>,
    /// Whether names that begin with a dot are accepted at the top of an offer without asking.
    #[serde(default)]
    pub dotfiles: bool,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            offers: Offers::Ask,
            dir: None,
            on_conflict: Conflict::Rename,
            max_file: None,
            max_day: None,
            types: Vec::new(),
            dotfiles: false,
        }
    }
}

/// How far a pairing is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PairingState {
    /// The PIN is shown, or the other device is being asked.
    Waiting,
    /// Done: both trust each other.
    Paired,
    /// Over without success; `reason` says why.
    Failed,
    /// A state of a newer daemon.
    #[serde(other)]
    Unknown,
}

/// A pairing that this device shows a PIN for, or types one for. Never carries the PIN.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pairing {
    /// Names this pairing.
    pub pairing: String,
    /// How far it is.
    pub state: PairingState,
    /// Wrong guesses that are left, on the device that shows the PIN.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempts_left: Option<u32>,
    /// Whom it paired with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peer: Option<PeerRef>,
    /// Another trusted device that has the same name and another key: perhaps the same machine, set up anew.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub same_name: Option<PeerRef>,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<Failure>,
}

/// Why something that takes longer failed: the error as a method would have returned it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// The RPC code of the error's kind.
    pub rpc: i64,
    /// The stable code.
    pub code: String,
    /// What happened.
    pub message: String,
    /// What to do now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

impl From<super::ApiError> for Failure {
    fn from(error: super::ApiError) -> Self {
        Self {
            rpc: error.code.kind().rpc(),
            code: error.code.as_str().to_owned(),
            message: error.message,
            hint: error.hint,
        }
    }
}

/// A peer, by what people call it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerRef {
    /// The short id.
    pub id: DeviceId,
    /// The name that this device uses for it.
    pub name: String,
}

/// The other end of a transfer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Party {
    /// The short id of a paired device.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<DeviceId>,
    /// The name that this device uses for it; a guest is called by its address.
    pub name: String,
    /// Where a guest is: `ip`, or `ip:port` if this device dialled it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// The version of Tella's protocol that is spoken with a guest, once that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub protocol: Option<u32>,
}

impl From<PeerRef> for Party {
    fn from(peer: PeerRef) -> Self {
        Self { id: Some(peer.id), name: peer.name, address: None, protocol: None }
    }
}

/// Whether guests may come in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum WindowState {
    /// The guest door answers, and shows this PIN.
    Open,
    /// It is over.
    Closed,
    /// A state of a newer daemon.
    #[serde(other)]
    Unknown,
}

/// A receive window: the time in which the guest door is open, with one PIN and one certificate. Never carries the PIN.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Window {
    /// Names this window.
    pub window: String,
    /// Whether it is open.
    pub state: WindowState,
    /// The port of the guest door.
    pub port: u16,
    /// SHA-256 of its certificate: 64 lower-case hex digits.
    pub certificate_hash: String,
    /// Wrong PINs that are left.
    pub attempts_left: u32,
    /// Who last asked to compare the certificate hash: an IP address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pinged_by: Option<String>,
    /// When it ends; absent for one that stays.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires: Option<String>,
}

/// What a person is asked about a device that is not paired.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum QuestionKind {
    /// A guest compares this device's certificate hash: does it show the same?
    Compare,
    /// A guest typed the PIN: may it connect?
    Connect,
    /// This device sends to a guest: does the guest show this certificate hash?
    Confirm,
    /// A question of a newer daemon.
    #[serde(other)]
    Unknown,
}

/// What became of a question.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum QuestionState {
    /// It waits for an answer.
    Open,
    /// Somebody said yes.
    Yes,
    /// Somebody said no.
    No,
    /// Nobody answered in time, or it does not matter any more.
    Gone,
    /// A state of a newer daemon.
    #[serde(other)]
    Unknown,
}

/// A question about a device that is not paired.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Question {
    /// Names this question.
    pub question: String,
    /// What is asked.
    pub kind: QuestionKind,
    /// What became of it.
    pub state: QuestionState,
    /// Where the guest is: `ip`, or `ip:port` if this device dialled it.
    pub address: String,
    /// The certificate hash that is to be compared, 64 lower-case hex digits; absent for a guest without certificate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate_hash: Option<String>,
    /// The transfer that waits for the answer, if there is one already.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub transfer: Option<String>,
    /// When it is taken for a no.
    pub expires: String,
}

/// Which way a transfer goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Direction {
    /// To this device.
    In,
    /// From this device.
    Out,
}

/// How far a transfer is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TransferState {
    /// The sender is looking through what was named.
    Preparing,
    /// It goes on when the peer can be reached.
    Queued,
    /// The receiver's answer is awaited.
    Offered,
    /// Bytes are moving.
    Active,
    /// Everything that could be delivered was.
    Done,
    /// The receiver said no.
    Rejected,
    /// It ended without success; `reason` says why. It can be retried.
    Failed,
    /// Either side called it off.
    Canceled,
    /// A state of a newer daemon.
    #[serde(other)]
    Unknown,
}

impl TransferState {
    /// Whether nothing more will happen by itself.
    pub fn is_final(self) -> bool {
        matches!(self, Self::Done | Self::Rejected | Self::Failed | Self::Canceled)
    }
}

/// One entry that was not delivered, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// The path within the offer.
    pub path: String,
    /// A stable word: `unreadable`, `changed`, `special`, `bad_name`, `exists`, `not_a_directory`, `integrity`,
    /// `not_sent`, ….
    pub reason: String,
}

/// An entry of an offer, as the inbox shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OfferedEntry {
    /// The path within the offer.
    pub path: String,
    /// `file`, `dir` or `symlink`.
    pub kind: String,
    /// The size of a file, if it is known before it is sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<u64>,
    /// The media type that a guest gives a file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub media_type: Option<String>,
}

/// A transfer between this device and another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Transfer {
    /// Names it on both devices.
    pub id: String,
    /// Which way it goes.
    pub direction: Direction,
    /// The other device.
    pub peer: Party,
    /// How far it is.
    pub state: TransferState,
    /// What the sender calls it.
    pub title: String,
    /// Files, directories and links in it.
    pub entries: u64,
    /// Entries that are settled: delivered, skipped or failed.
    pub entries_done: u64,
    /// Bytes in it; absent while input of unknown length is still coming.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
    /// Bytes that need not be sent any more.
    pub bytes_done: u64,
    /// The certificate hash by which a guest that is sent to knows this device, for people to compare there: 64
    /// lower-case hex digits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate_hash: Option<String>,
    /// A text that is sent as itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// Where it is received to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dir: Option<String>,
    /// Top-level names as they were placed, on the receiver (the first 100).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub placed: Vec<String>,
    /// The first entries of the offer (at most 100).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub preview: Vec<OfferedEntry>,
    /// Entries that were not delivered (the first 100).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub problems: Vec<Problem>,
    /// How many entries were not delivered.
    #[serde(default)]
    pub problem_count: u64,
    /// Why it failed or was rejected.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<Failure>,
    /// When it was made.
    pub created: String,
    /// When it last changed.
    pub updated: String,
    /// When it is given up, while it waits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires: Option<String>,
}
