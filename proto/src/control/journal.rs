//! Journals, their entries, and how they are kept the same on several devices: nouns, parameters and results.
//!
//! Bodies cross the door in base64, at most [`crate::limits::FEED_CHUNK`] bytes a line: longer ones are staged piece by
//! piece with `entries.stage`, and read piece by piece with `entries.get`.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::types::{Failure, PeerRef};
use crate::id::DeviceId;

/// What this device has to do with a journal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum JournalState {
    /// It is read, written and kept the same.
    Active,
    /// A device that is not one's own shares it: nothing of it is here before `journals.accept`.
    Offered,
    /// Another device removed this one from its members. What was here stays and can be read.
    Removed,
    /// A state of a newer daemon.
    #[serde(other)]
    Unknown,
}

/// A journal: a named set of entries.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Journal {
    /// 32 lower-case hex digits, the same on every device.
    pub id: String,
    /// What this device calls it; unique here.
    pub name: String,
    /// What this device has to do with it.
    pub state: JournalState,
    /// Who made it; absent for `default`, which every device has from the start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub creator: Option<PeerRef>,
    /// Whether this device may share it.
    pub may_share: bool,
    /// Entries that are not deleted.
    pub entries: u64,
    /// Deletions that are still remembered.
    pub tombstones: u64,
    /// Versions that lost a conflict and are kept.
    pub history: u64,
    /// Entries that came back from before the horizon and wait for somebody to decide.
    pub recovered: u64,
    /// The devices that it is shared with, without this one, by name. Of more than [`crate::limits::MEMBERS_SHOWN`] those
    /// with which it was synced last; but all of them in `journals.show`.
    pub members: Vec<Member>,
    /// How many there are.
    #[serde(default)]
    pub member_count: u64,
    /// How many of them have everything that is here.
    pub known_by: u64,
    /// When it came to this device.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<String>,
    /// Changes after this place are those that come next; see `entries.list` and `entries.subscribe`.
    pub cursor: String,
}

/// A device that a journal is shared with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// The device.
    #[serde(flatten)]
    pub device: PeerRef,
    /// Whether it may share the journal, too.
    pub may_share: bool,
    /// Whether it has everything that is here.
    pub current: bool,
    /// When this device last synced the journal with it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_sync: Option<String>,
}

/// One version of an entry, without its body.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Names it within its journal.
    pub id: String,
    /// Its place in the order of changes on this device; 0 for a version that is not the current one.
    pub seq: u64,
    /// SHA-256 of the content (metadata and body): what `expected` is compared with. 64 lower-case hex digits.
    pub hash: String,
    /// Its place in the order of all versions: a hybrid logical clock, 16 hex digits.
    pub stamp: String,
    /// The same as a time.
    pub updated_at: String,
    /// Who wrote it.
    pub device: DeviceId,
    /// Whether it is a deletion.
    pub deleted: bool,
    /// The app's plain metadata.
    #[serde(default)]
    pub meta: Map<String, Value>,
    /// The body's length in bytes.
    pub size: u64,
}

/// `entry:conflict`: two versions of an entry that did not know each other met.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Conflict {
    /// The journal's id.
    pub journal: String,
    /// What the journal is called here.
    pub name: String,
    /// The version that is current now.
    pub winner: Entry,
    /// The version that is kept in the history.
    pub loser: Entry,
}

/// `entry:recovered`: a device that was away too long brought back an entry that was deleted meanwhile.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Recovered {
    /// The journal's id.
    pub journal: String,
    /// What the journal is called here.
    pub name: String,
    /// What it brought.
    pub entry: Entry,
}

/// `journals.list`
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct JournalsResult {
    /// The journals, `default` first.
    pub journals: Vec<Journal>,
}

/// `journals.create`
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JournalCreateParams {
    /// 1 to [`crate::limits::JOURNAL_NAME`] bytes; unique on this device.
    pub name: String,
}

/// A journal, by its name or its id.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JournalParams {
    /// Name or id.
    pub journal: String,
}

/// `journals.share`, `journals.unshare`
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ShareParams {
    /// Name or id.
    pub journal: String,
    /// Id, prefix or name of a trusted device (`unshare`: of a member).
    pub peer: String,
}

/// `entries.put`: at most one of `body` and `staged`; neither is an empty body.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PutParams {
    /// Name or id.
    pub journal: String,
    /// 1 to [`crate::limits::ENTRY_ID`] bytes, no control characters; a new one (UUID, version 7) when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// Plain metadata, at most [`crate::limits::ENTRY_META`] bytes of JSON.
    #[serde(default)]
    pub meta: Map<String, Value>,
    /// The body in base64.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body: Option<String>,
    /// The name that `entries.stage` gave.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub staged: Option<String>,
    /// The hash of the version that is replaced, or `none` where there must not be one (a deleted one is none): anything
    /// else there is an error, and nothing is written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expected: Option<String>,
}

/// `entries.stage`: one piece after the answer to the one before.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StageParams {
    /// The name that the first piece was answered with; absent for the first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub staged: Option<String>,
    /// The next bytes in base64, at most [`crate::limits::FEED_CHUNK`] of them.
    #[serde(default)]
    pub data: String,
}

/// `entries.stage`
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct StageResult {
    /// Names what was staged, until `entries.put` takes it or the connection ends.
    pub staged: String,
    /// Bytes so far.
    pub bytes: u64,
}

/// `entries.get`
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GetParams {
    /// Name or id.
    pub journal: String,
    /// The entry.
    pub id: String,
    /// The hash of a version in the history or among the recovered; the current version when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// Where in the body to begin.
    #[serde(default)]
    pub offset: u64,
}

/// `entries.get`
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct GetResult {
    /// The entry; a later piece is of the same version only if the hash is the same.
    pub entry: Entry,
    /// The body from `offset` in base64, at most [`crate::limits::FEED_CHUNK`] bytes of it.
    pub body: String,
    /// Where the next piece begins, if there is more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<u64>,
}

/// `entries.delete`
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DeleteParams {
    /// Name or id.
    pub journal: String,
    /// The entry.
    pub id: String,
    /// The hash of the version that is deleted: another one is an error, and nothing is deleted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expected: Option<String>,
}

/// In which order entries are listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EntryOrder {
    /// As they changed on this device: going on behind the last one finds everything that is new.
    #[default]
    Seq,
    /// By the time that they were written, the oldest first.
    Time,
}

/// `entries.list`
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ListParams {
    /// Name or id.
    pub journal: String,
    /// In which order.
    #[serde(default)]
    pub by: EntryOrder,
    /// Go on behind this place: the `next` of another page or, by `seq`, any `cursor`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
    /// By `time`: not before this one (RFC 3339).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// By `time`: before this one (RFC 3339).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<String>,
    /// Entries in the page, 1 to [`crate::limits::ENTRIES_PAGE`]; a page may hold fewer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u64>,
    /// Deletions, too.
    #[serde(default)]
    pub deleted: bool,
}

/// `entries.list`
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct EntriesResult {
    /// The entries.
    pub entries: Vec<Entry>,
    /// Where the next page begins, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
    /// By `seq`: the place behind the last entry of this page, to ask for changes later.
    pub cursor: String,
}

/// `entries.history`
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HistoryParams {
    /// Name or id.
    pub journal: String,
    /// One entry; all when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// Go on behind this place: the `next` of another page.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
}

/// `entries.history`, `entries.recovered`
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct VersionsResult {
    /// Versions that are kept and not current, newest first for each entry.
    pub versions: Vec<Entry>,
    /// Where the next page begins, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// `entries.recover`: makes a version current again that is in the history or among the recovered.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RecoverParams {
    /// Name or id.
    pub journal: String,
    /// The entry.
    pub id: String,
    /// The hash of the version.
    pub version: String,
    /// Forget it instead.
    #[serde(default)]
    pub discard: bool,
}

/// `entries.subscribe`
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EntriesSubscribeParams {
    /// Name or id.
    pub journal: String,
    /// Go on behind this place; from the beginning when it is empty; only what changes from now on when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cursor: Option<String>,
}

/// `entries.subscribe`: notifications with `method: "event"` and the kind `entry:changed` follow, each with an
/// [`EntryChanged`]; the first may come before this answer. An entry that changed more than once may be told of once.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct EntriesSubscribeResult {
    /// Changes behind this place follow.
    pub cursor: String,
    /// The cursor that was given is of a database that is no more: every entry follows anew.
    pub reset: bool,
}

/// `entry:changed`
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct EntryChanged {
    /// The journal's id.
    pub journal: String,
    /// The entry as it is now.
    pub entry: Entry,
    /// Subscribe with this to go on behind it.
    pub cursor: String,
}

/// The `params` of a notification with the kind `entry:changed`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct EntryNotice {
    /// Always `"entry:changed"`.
    pub kind: String,
    /// What changed.
    pub data: EntryChanged,
}

/// How syncing with a device is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SyncState {
    /// Nothing to do now.
    Idle,
    /// A session is under way.
    Running,
    /// The last try failed; it is tried again.
    Waiting,
    /// The device cannot be reached.
    Offline,
    /// A state of a newer daemon.
    #[serde(other)]
    Unknown,
}

/// Syncing with one device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerSync {
    /// The device.
    pub peer: PeerRef,
    /// How it is now.
    pub state: SyncState,
    /// When the last session ended well.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_sync: Option<String>,
    /// Why the last session failed, if it did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<Failure>,
    /// How far its clock is ahead of this one, in milliseconds, at the last session.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub skew_ms: Option<i64>,
    /// The journals shared with it.
    pub journals: Vec<JournalSync>,
}

/// Syncing one journal with one device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JournalSync {
    /// The journal's id.
    pub journal: String,
    /// What it is called here.
    pub name: String,
    /// When a session last ended well.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_sync: Option<String>,
    /// Changes here that it does not have yet.
    pub lag: u64,
    /// Conflicts that sessions with it brought.
    pub conflicts: u64,
    /// Entries that were not taken in the last session, here or there, and why (the first 10).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub refused: Vec<Refusal>,
}

/// An entry that was not taken.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// The entry.
    pub id: String,
    /// A stable word: `bad_id`, `bad_meta`, `bad_stamp`, `bad_hash`, `too_large`.
    pub reason: String,
}

/// `sync:started`, `sync:complete`, `sync:error`: one session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SyncSession {
    /// The other device.
    pub peer: PeerRef,
    /// Whether this device dialled.
    pub dialled: bool,
    /// Why: `discovered`, `paired`, `changed`, `timer`, `asked`; `called` where the other device dialled.
    pub trigger: String,
    /// Versions that the other device took.
    pub sent: u64,
    /// Versions that this device took.
    pub received: u64,
    /// Conflicts that this device saw.
    pub conflicts: u64,
    /// Versions that either side did not take.
    pub refused: u64,
    /// Bytes of frames, both ways.
    pub bytes: u64,
    /// How long it took.
    pub ms: u64,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<Failure>,
}

/// `sync.start`
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SyncParams {
    /// Id, prefix or name of a trusted device; all that can be reached when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peer: Option<String>,
}

/// `sync.start`, `sync.status`
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct SyncResult {
    /// The devices (`start`: with which a session begins now or is under way).
    pub peers: Vec<PeerSync>,
}
