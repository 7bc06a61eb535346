//! Every method of the local door, as a type: its name, the access that a caller needs, its parameters, its result.
//!
//! There is no way to add a method without an access: [`Method::ACCESS`] has no default.

mod daemon;

use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::code as k;
use super::credential as c;
use super::journal as j;
use super::types::{Conflict, Offers, Pairing, Peer, Question, Relation, Transfer, Window};

pub use daemon::*;

/// What a caller may do, from seeing to handling secrets. A caller holds a set of these.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Access {
    /// See state.
    Observe,
    /// Send, receive, answer offers.
    Operate,
    /// Decide whom this device trusts, and stop the daemon.
    Administer,
    /// Read and write secrets.
    Secrets,
}

/// A method of the local door.
pub trait Method {
    /// `noun.verb`, as it crosses the door.
    const NAME: &'static str;
    /// What its caller must hold.
    const ACCESS: Access;
    /// Its parameters: refused when they hold an unknown field.
    type Params: Serialize + DeserializeOwned;
    /// Its result.
    type Result: Serialize + DeserializeOwned;
}

macro_rules! methods {
    ($($(#[doc = $doc:literal])+ $type:ident = $name:literal, $access:ident, $params:ty => $result:ty;)+) => {
        $(
            $(#[doc = $doc])+
            pub struct $type;
            impl Method for $type {
                const NAME: &'static str = $name;
                const ACCESS: Access = Access::$access;
                type Params = $params;
                type Result = $result;
            }
        )+

        /// Name and access of every method, for the golden list.
        pub const ALL: &[(&str, Access)] = &[$(($name, Access::$access)),+];
    };
}

methods! {
    /// Says who is speaking, and learns who answers.
    Hello = "daemon.hello", Observe, HelloParams => HelloResult;
    /// How the daemon is.
    Status = "daemon.status", Observe, Empty => StatusResult;
    /// This device's identity.
    Identity = "daemon.identity", Observe, Empty => IdentityResult;
    /// The configuration in force.
    Config = "daemon.config", Observe, Empty => ConfigResult;
    /// Checks of the daemon's surroundings: doors, interfaces, directories.
    Doctor = "daemon.doctor", Observe, Empty => DoctorResult;
    /// Ends the daemon in order.
    Shutdown = "daemon.shutdown", Administer, Empty => Done;
    /// The state of everything, then facts as they happen.
    Subscribe = "events.subscribe", Observe, SubscribeParams => SubscribeResult;
    /// Nearby and trusted devices.
    PeersList = "peers.list", Observe, Empty => PeersResult;
    /// Devices that are or were trusted.
    TrustList = "trust.list", Observe, Empty => PeersResult;
    /// One device that is or was trusted.
    TrustShow = "trust.show", Observe, PeerParams => Peer;
    /// Gives a trusted device a name of our own.
    TrustRename = "trust.rename", Administer, RenameParams => Peer;
    /// Changes what becomes of a trusted device's offers.
    TrustPolicy = "trust.policy", Administer, PolicyParams => Peer;
    /// Ends the trust in a device: its sessions end now, its next handshake is refused.
    TrustRevoke = "trust.revoke", Administer, PeerParams => Peer;
    /// Opens a pairing window and shows its PIN.
    PairingOpen = "pairing.open", Administer, PairingOpenParams => PairingOpenResult;
    /// Pairs with a device that shows a PIN or a QR.
    PairingJoin = "pairing.join", Administer, PairingJoinParams => Pairing;
    /// Ends a pairing.
    PairingCancel = "pairing.cancel", Administer, PairingParams => Pairing;
    /// Starts sending files, a stream or a text to a trusted device.
    TransferSend = "transfer.send", Operate, SendParams => Transfer;
    /// The next piece of a stream that `transfer.send` announced.
    TransferFeed = "transfer.feed", Operate, FeedParams => FeedResult;
    /// Every transfer that is remembered, newest first.
    TransferList = "transfer.list", Observe, TransferListParams => TransfersResult;
    /// One transfer.
    TransferShow = "transfer.show", Observe, TransferParams => Transfer;
    /// Calls a transfer off; it stops within a second.
    TransferCancel = "transfer.cancel", Operate, TransferParams => Transfer;
    /// Tries a failed or canceled transfer again.
    TransferRetry = "transfer.retry", Operate, TransferParams => Transfer;
    /// Offers that wait for an answer.
    InboxList = "inbox.list", Observe, Empty => TransfersResult;
    /// Accepts an offer.
    InboxAccept = "inbox.accept", Operate, AcceptParams => Transfer;
    /// Rejects an offer.
    InboxReject = "inbox.reject", Operate, TransferParams => Transfer;
    /// Opens the guest door, and shows its PIN.
    GuestOpen = "guest.open", Operate, GuestOpenParams => GuestOpenResult;
    /// The receive window that is open, with its PIN.
    GuestShow = "guest.show", Operate, Empty => GuestOpenResult;
    /// Ends a receive window.
    GuestClose = "guest.close", Operate, WindowParams => Window;
    /// Answers a question about a guest.
    GuestAnswer = "guest.answer", Operate, AnswerParams => Question;
    /// Starts sending to a device that is not paired: a Tella app, or another guest door.
    GuestSend = "guest.send", Operate, GuestSendParams => Transfer;
    /// The journals that this device has, or was offered.
    JournalsList = "journals.list", Observe, Empty => j::JournalsResult;
    /// One journal.
    JournalsShow = "journals.show", Observe, j::JournalParams => j::Journal;
    /// Makes a journal that only this device has.
    JournalsCreate = "journals.create", Operate, j::JournalCreateParams => j::Journal;
    /// Shares a journal with a trusted device.
    JournalsShare = "journals.share", Operate, j::ShareParams => j::Journal;
    /// Ends that; the device keeps what it has and gets nothing more.
    JournalsUnshare = "journals.unshare", Operate, j::ShareParams => j::Journal;
    /// Takes a journal that somebody else's device shares with this one.
    JournalsAccept = "journals.accept", Operate, j::JournalParams => j::Journal;
    /// Leaves a journal and deletes what is here of it; others keep theirs.
    JournalsRemove = "journals.remove", Operate, j::JournalParams => Done;
    /// Writes an entry.
    EntriesPut = "entries.put", Operate, j::PutParams => j::Entry;
    /// Takes a body that is too long for one line, piece by piece.
    EntriesStage = "entries.stage", Operate, j::StageParams => j::StageResult;
    /// An entry and (a piece of) its body.
    EntriesGet = "entries.get", Operate, j::GetParams => j::GetResult;
    /// Entries without their bodies, page by page.
    EntriesList = "entries.list", Operate, j::ListParams => j::EntriesResult;
    /// Deletes an entry everywhere.
    EntriesDelete = "entries.delete", Operate, j::DeleteParams => j::Entry;
    /// Versions that lost a conflict.
    EntriesHistory = "entries.history", Operate, j::HistoryParams => j::VersionsResult;
    /// Entries that came back from before the horizon.
    EntriesRecovered = "entries.recovered", Operate, j::HistoryParams => j::VersionsResult;
    /// Makes such a version current again, or forgets it.
    EntriesRecover = "entries.recover", Operate, j::RecoverParams => Done;
    /// Changes of a journal's entries, from any place on.
    EntriesSubscribe = "entries.subscribe", Operate, j::EntriesSubscribeParams => j::EntriesSubscribeResult;
    /// Starts syncing now.
    SyncStart = "sync.start", Operate, j::SyncParams => j::SyncResult;
    /// How syncing is, for each device and journal.
    SyncStatus = "sync.status", Observe, Empty => j::SyncResult;
    /// Whether secrets can be read and written now.
    VaultStatus = "vault.status", Observe, Empty => c::Vault;
    /// Forgets the vault's key until it is unlocked.
    VaultLock = "vault.lock", Secrets, Empty => c::Vault;
    /// Opens the vault. With a passphrase it takes longer than other methods: on purpose.
    VaultUnlock = "vault.unlock", Secrets, c::UnlockParams => c::Vault;
    /// Protects the vault with a passphrase, with another one, or with a key file again.
    VaultPassphrase = "vault.passphrase", Secrets, c::PassphraseParams => c::Vault;
    /// Every secret, without its value.
    SecretsList = "secrets.list", Secrets, Empty => c::SecretsResult;
    /// One secret, with its value.
    SecretsView = "secrets.view", Secrets, c::SecretParams => c::SecretView;
    /// Puts a secret into the vault.
    SecretsAdd = "secrets.add", Secrets, c::SecretAddParams => c::Secret;
    /// Changes a secret.
    SecretsEdit = "secrets.edit", Secrets, c::SecretEditParams => c::Secret;
    /// Deletes a secret.
    SecretsRemove = "secrets.remove", Secrets, c::SecretRemoveParams => Done;
    /// Takes over secrets and databases from elsewhere, all or none.
    SecretsImport = "secrets.import", Secrets, c::ImportParams => c::SavedResult;
    /// Every configured database.
    DatabasesList = "databases.list", Secrets, Empty => c::DatabasesResult;
    /// One of them.
    DatabasesView = "databases.view", Secrets, c::DatabaseParams => c::Database;
    /// Adds a database.
    DatabasesAdd = "databases.add", Secrets, c::DatabaseAddParams => c::Database;
    /// Changes a database.
    DatabasesEdit = "databases.edit", Secrets, c::DatabaseEditParams => c::Database;
    /// Removes a database; its secrets stay.
    DatabasesRemove = "databases.remove", Secrets, c::DatabaseParams => Done;
    /// Hands a secret or a database over: to a paired device, or to whoever types the code that is returned.
    SharesSend = "shares.send", Secrets, c::ShareSendParams => c::ShareSendResult;
    /// Waits for whoever shows this code.
    SharesReceive = "shares.receive", Secrets, c::ShareReceiveParams => c::Share;
    /// Shares under way, those that wait for a review, and the last that ended.
    SharesList = "shares.list", Secrets, Empty => c::SharesResult;
    /// What arrived, without the values, and where it meets what is here.
    SharesReview = "shares.review", Secrets, c::ShareParams => c::ShareReview;
    /// Saves what arrived, all or nothing.
    SharesSave = "shares.save", Secrets, c::ShareSaveParams => c::SavedResult;
    /// Turns down what arrived.
    SharesDecline = "shares.decline", Secrets, c::ShareParams => c::Share;
    /// Calls a share off.
    SharesCancel = "shares.cancel", Secrets, c::ShareParams => c::Share;
    /// Makes a code by which devices join a journal without anybody at this keyboard.
    CodesIssue = "codes.issue", Administer, k::CodeIssueParams => k::CodeIssueResult;
    /// The codes that this device issued.
    CodesList = "codes.list", Observe, Empty => k::CodesResult;
    /// One of them, and who came by it.
    CodesShow = "codes.show", Observe, k::CodeParams => k::CodeShowResult;
    /// Ends a code at once.
    CodesRevoke = "codes.revoke", Administer, k::CodeRevokeParams => k::IssuedCode;
    /// Devices that came by a code and wait for an answer.
    CodesRequests = "codes.requests", Observe, Empty => k::RequestsResult;
    /// Answers one of them.
    CodesAnswer = "codes.answer", Administer, k::RequestAnswerParams => k::JoinRequest;
    /// Looks up what a code is for.
    JoinsBegin = "joins.begin", Administer, k::JoinBeginParams => k::CodeJoin;
    /// Joins: the issuer is trusted, and asked until it gives its last word.
    JoinsConfirm = "joins.confirm", Administer, k::JoinConfirmParams => k::CodeJoin;
    /// Joins under way, and the last that ended.
    JoinsList = "joins.list", Observe, Empty => k::JoinsResult;
    /// Calls a join off.
    JoinsCancel = "joins.cancel", Administer, k::JoinParams => k::CodeJoin;
}

/// No parameters.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Empty {}

/// Nothing to say: it is done. Unlike [`Empty`], a result takes fields that a newer daemon adds.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Done {}

/// `events.subscribe`
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SubscribeParams {
    /// Only these kinds; all when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kinds: Option<Vec<String>>,
    /// Go on behind this sequence number of the same boot; too old a number gives a `lagged` notice.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<u64>,
}

/// `events.subscribe`
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct SubscribeResult {
    /// Facts behind this sequence number follow as notifications.
    pub cursor: u64,
    /// The boot in which the cursor holds.
    pub boot_id: String,
    /// The whole state at the cursor.
    pub snapshot: Snapshot,
}

/// The whole state.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Snapshot {
    /// Nearby and trusted devices.
    pub peers: Vec<Peer>,
    /// Pairings that are not over, and the last that ended.
    pub pairings: Vec<Pairing>,
    /// Transfers that are not over.
    pub transfers: Vec<Transfer>,
    /// The receive window that is open.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub window: Option<Window>,
    /// Questions that wait for an answer.
    #[serde(default)]
    pub questions: Vec<Question>,
    /// The journals that this device has, or was offered.
    #[serde(default)]
    pub journals: Vec<j::Journal>,
    /// How syncing is, for each device and journal.
    #[serde(default)]
    pub syncs: Vec<j::PeerSync>,
    /// Credentials on their way, and those that wait for a review.
    #[serde(default)]
    pub shares: Vec<c::Share>,
    /// The sharing codes that this device issued.
    #[serde(default)]
    pub codes: Vec<k::IssuedCode>,
    /// Devices that came by a code and wait for an answer.
    #[serde(default)]
    pub requests: Vec<k::JoinRequest>,
    /// Joins under way, and the last that ended.
    #[serde(default)]
    pub joins: Vec<k::CodeJoin>,
}

/// `peers.list`, `trust.list`
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct PeersResult {
    /// The devices.
    pub peers: Vec<Peer>,
}

/// A device, named by id, by a unique prefix of it, or by name.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PeerParams {
    /// Id, prefix or name.
    pub peer: String,
}

/// `trust.rename`
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RenameParams {
    /// Id, prefix or name.
    pub peer: String,
    /// The new name.
    pub name: String,
}

/// `trust.policy`: what is absent stays as it is.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PolicyParams {
    /// Id, prefix or name.
    pub peer: String,
    /// Whose device it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub relation: Option<Relation>,
    /// Ask, accept or reject.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub offers: Option<Offers>,
    /// Where its files go: an absolute path; empty for the daemon's download directory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dir: Option<String>,
    /// What to do when a name exists already.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_conflict: Option<Conflict>,
    /// The largest file accepted; 0 for any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_file: Option<u64>,
    /// Bytes accepted in 24 hours; 0 for any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_day: Option<u64>,
    /// Extensions accepted; empty for all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub types: Option<Vec<String>>,
    /// Whether names that begin with a dot are accepted at the top of an offer without asking.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dotfiles: Option<bool>,
}

/// `pairing.open`
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PairingOpenParams {
    /// The other device is somebody else's.
    #[serde(default)]
    pub guest: bool,
    /// Somebody sits at the keyboard: no bound on PINs an hour.
    #[serde(default)]
    pub interactive: bool,
    /// The window outlives the connection that opened it.
    #[serde(default)]
    pub detach: bool,
}

/// `pairing.open`: the only answer that carries a PIN.
#[derive(Clone, Serialize, Deserialize)]
pub struct PairingOpenResult {
    /// Names this pairing.
    pub pairing: String,
    /// Six digits to type on the other device.
    pub pin: String,
    /// The port of the peer door.
    pub port: u16,
    /// Where this device can be reached: IP addresses.
    pub addresses: Vec<String>,
    /// The text of the QR: `kith://pair?…`.
    pub qr: String,
    /// When the PIN ends.
    pub expires: String,
}

/// `pairing.join`: a `target` with a `pin`, or a `uri` alone.
#[derive(Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PairingJoinParams {
    /// Id, prefix, name, or `HOST[:PORT]`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
    /// The six digits shown there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pin: Option<String>,
    /// The text of the QR shown there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uri: Option<String>,
    /// The other device is somebody else's.
    #[serde(default)]
    pub guest: bool,
}

/// A pairing, by its name.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PairingParams {
    /// The name that `pairing.open` or `pairing.join` gave.
    pub pairing: String,
}

/// `transfer.send`: exactly one of `paths`, `stream` and `text`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SendParams {
    /// Id, prefix or name of a trusted device.
    pub peer: String,
    /// Absolute paths of files and directories.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub paths: Vec<String>,
    /// The name of a file whose content follows by `transfer.feed`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stream: Option<String>,
    /// A text that is sent as itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// What to call it; made from the names when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
}

/// `transfer.feed`: one piece after the answer to the one before, for requests may overtake each other.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FeedParams {
    /// The transfer's id.
    pub transfer: String,
    /// The next bytes in base64, at most [`crate::limits::FEED_CHUNK`] of them.
    #[serde(default)]
    pub data: String,
    /// Whether these were the last.
    #[serde(default)]
    pub end: bool,
}

/// `transfer.feed`
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct FeedResult {
    /// Bytes taken so far.
    pub bytes: u64,
}

/// `transfer.list`
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TransferListParams {
    /// Also those that are over.
    #[serde(default)]
    pub all: bool,
}

/// `transfer.list`, `inbox.list`
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct TransfersResult {
    /// The transfers.
    pub transfers: Vec<Transfer>,
}

/// A transfer, by its id or a unique prefix of it.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TransferParams {
    /// The id, or a unique prefix.
    pub transfer: String,
}

/// `inbox.accept`
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AcceptParams {
    /// The id, or a unique prefix.
    pub transfer: String,
    /// Where to: an absolute path of a directory; the policy's when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dir: Option<String>,
    /// What to do when a name exists already; the policy's when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_conflict: Option<Conflict>,
}

/// `guest.open`
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GuestOpenParams {
    /// Where to: an absolute path of a directory; the daemon's download directory when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dir: Option<String>,
    /// What to do when a name exists already.
    #[serde(default)]
    pub on_conflict: Conflict,
    /// Whoever knows the PIN is let in, and what it offers is accepted.
    #[serde(default)]
    pub accept: bool,
    /// How long it stays open: 1 to [`crate::limits::WINDOW_SECONDS_MAX`]; [`crate::limits::WINDOW_SECONDS`] when
    /// absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seconds: Option<u64>,
    /// The window outlives the connection that opened it.
    #[serde(default)]
    pub detach: bool,
}

/// `guest.open`, `guest.show`: the only answers that carry the PIN of a window.
#[derive(Clone, Serialize, Deserialize)]
pub struct GuestOpenResult {
    /// Names this window.
    pub window: String,
    /// Six digits to type on the other device.
    pub pin: String,
    /// The port of the guest door.
    pub port: u16,
    /// Where this device can be reached: IP addresses.
    pub addresses: Vec<String>,
    /// SHA-256 of the certificate: 64 lower-case hex digits.
    pub certificate_hash: String,
    /// The text of the QR that Tella apps scan: a JSON object.
    pub qr: String,
    /// When it ends; absent for one that stays.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires: Option<String>,
}

/// A receive window, by its name.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WindowParams {
    /// The name that `guest.open` gave.
    pub window: String,
}

/// `guest.answer`
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AnswerParams {
    /// The question's name.
    pub question: String,
    /// Yes or no.
    pub accept: bool,
}

/// `guest.send`: a `target` with a `pin`, or a `qr` alone.
#[derive(Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GuestSendParams {
    /// `HOST[:PORT]`; without a port, 53317 and then 53320 are tried.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
    /// The six digits shown there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pin: Option<String>,
    /// The certificate hash shown there: whoever has another one is not sent anything. Without it somebody is asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate_hash: Option<String>,
    /// The text of the QR shown there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub qr: Option<String>,
    /// Absolute paths of files and directories.
    pub paths: Vec<String>,
    /// What to call it; made from the names when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_strict_and_results_are_not() {
        for text in ["{}", r#"{"newer":1}"#] {
            assert!(serde_json::from_str::<Done>(text).is_ok(), "{text}");
        }
        assert!(serde_json::from_str::<Empty>("{}").is_ok());
        assert!(serde_json::from_str::<Empty>(r#"{"newer":1}"#).is_err());
        assert_eq!(serde_json::to_string(&Done {}).unwrap(), "{}");
    }
}
