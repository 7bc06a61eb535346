//! The vault, secrets, databases and handing them over: what methods and events carry.
//!
//! No event carries a value or a code. Values cross the door in [`SecretText`] alone.

use serde::{Deserialize, Serialize};

use super::types::{Direction, Failure, Party};
use crate::credential::{SecretType, Slot};
use crate::secret_text::SecretText;

/// Where the vault's key comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum VaultMode {
    /// A credential of the service manager: `kith-vault-key`.
    Credential,
    /// The file `vault.key` beside the database.
    File,
    /// A passphrase.
    Passphrase,
    /// A mode of a newer daemon.
    #[serde(other)]
    Unknown,
}

/// Whether secrets can be read and written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum VaultState {
    /// There is none yet; the first secret makes it.
    Absent,
    /// They can.
    Unlocked,
    /// After `vault.unlock`.
    Locked,
    /// Its key is missing or not safe: `reason` says what is wrong.
    Unusable,
    /// A state of a newer daemon.
    #[serde(other)]
    Unknown,
}

/// The vault. Never carries a key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Vault {
    /// Whether secrets can be read and written.
    pub state: VaultState,
    /// Where its key comes from; absent while there is no vault.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<VaultMode>,
    /// Minutes without use after which a vault with a passphrase locks itself; absent if it does not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idle_minutes: Option<u32>,
    /// Secrets in it.
    pub secrets: u64,
    /// Databases that are configured.
    pub databases: u64,
    /// What is wrong with its key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<Failure>,
}

/// `vault.unlock`
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UnlockParams {
    /// The passphrase of a vault that has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub passphrase: Option<SecretText>,
}

/// `vault.passphrase`
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PassphraseParams {
    /// The passphrase that the vault has now, if it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub current: Option<SecretText>,
    /// The one that it gets; absent: its key lies in a file again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub new: Option<SecretText>,
}

/// A secret, without its value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Secret {
    /// Unique, whatever the case.
    pub name: String,
    /// What the value is.
    #[serde(rename = "type")]
    pub kind: SecretType,
    /// When it was made: RFC 3339, UTC.
    pub created: String,
    /// When it last changed.
    pub updated: String,
    /// The databases that use it.
    #[serde(default)]
    pub used_by: Vec<String>,
}

/// `secrets.list`
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct SecretsResult {
    /// By name.
    pub secrets: Vec<Secret>,
}

/// A secret, by its name; case does not matter.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SecretParams {
    /// Its name.
    pub name: String,
}

/// `secrets.view`: the only answer that carries a value.
#[derive(Debug, Serialize, Deserialize)]
pub struct SecretView {
    /// The secret.
    #[serde(flatten)]
    pub secret: Secret,
    /// Its value, as [`SecretType`] says.
    pub value: SecretText,
}

/// `secrets.add`
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SecretAddParams {
    /// Its name: at most [`crate::limits::CREDENTIAL_NAME`] bytes on one line.
    pub name: String,
    /// What the value is.
    #[serde(rename = "type")]
    pub kind: SecretType,
    /// The value: at most [`crate::limits::SECRET_VALUE`] bytes.
    pub value: SecretText,
}

/// `secrets.edit`: what is absent stays as it is.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SecretEditParams {
    /// The name that it has.
    pub name: String,
    /// The name that it gets; databases that use it go along.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rename: Option<String>,
    /// What the value is.
    #[serde(default, rename = "type", skip_serializing_if = "Option::is_none")]
    pub kind: Option<SecretType>,
    /// The new value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<SecretText>,
}

/// `secrets.remove`
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SecretRemoveParams {
    /// Its name.
    pub name: String,
    /// Also if a database uses it, which then has none in its place.
    #[serde(default)]
    pub force: bool,
}

/// A configured database.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Database {
    /// Unique, whatever the case.
    pub name: String,
    /// What it is for; may be empty.
    pub description: String,
    /// Where it lies: a directory, or `s3:bucket/prefix`.
    pub path: String,
    /// Where it was first made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub origin: Option<String>,
    /// The secret with its S3 credentials.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub s3: Option<String>,
    /// The secret with its encryption key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub encryption: Option<String>,
    /// The secret with its key for geocoding.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub geocoding: Option<String>,
    /// When it was added: RFC 3339, UTC.
    pub created: String,
    /// When it last changed.
    pub updated: String,
}

impl Database {
    /// The secret in `slot`.
    pub fn secret(&self, slot: Slot) -> Option<&str> {
        match slot {
            Slot::S3 => self.s3.as_deref(),
            Slot::Encryption => self.encryption.as_deref(),
            Slot::Geocoding => self.geocoding.as_deref(),
            Slot::Unknown => None,
        }
    }
}

/// `databases.list`
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct DatabasesResult {
    /// By name.
    pub databases: Vec<Database>,
}

/// A database, by its name; case does not matter.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DatabaseParams {
    /// Its name.
    pub name: String,
}

/// `databases.add`
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DatabaseAddParams {
    /// Its name: at most [`crate::limits::CREDENTIAL_NAME`] bytes on one line.
    pub name: String,
    /// What it is for.
    #[serde(default)]
    pub description: String,
    /// Where it lies.
    pub path: String,
    /// Where it was first made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub origin: Option<String>,
    /// A secret of type `s3-credentials`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub s3: Option<String>,
    /// A secret of type `encryption-key`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub encryption: Option<String>,
    /// A secret of type `api-key`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub geocoding: Option<String>,
}

/// `databases.edit`: what is absent stays as it is; an empty `origin` or secret is removed.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DatabaseEditParams {
    /// The name that it has.
    pub name: String,
    /// The name that it gets.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rename: Option<String>,
    /// What it is for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// Where it lies.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// Where it was first made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub origin: Option<String>,
    /// A secret of type `s3-credentials`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub s3: Option<String>,
    /// A secret of type `encryption-key`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub encryption: Option<String>,
    /// A secret of type `api-key`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub geocoding: Option<String>,
}

/// What to do with something that comes in where another thing has its name. Equal things are no conflict.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Resolve {
    /// Keep what is here and use it. Not for databases: there it means `fail`.
    Reuse,
    /// The new one takes the place of the old one.
    Replace,
    /// The new one gets another name: the one that was chosen, or the first free one of `NAME (2)`, `NAME (3)` ….
    Rename,
    /// Save nothing at all.
    #[default]
    Fail,
}

/// `secrets.import`: all or nothing.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ImportParams {
    /// Secrets to take over.
    #[serde(default)]
    pub secrets: Vec<SecretAddParams>,
    /// Databases to take over; the secrets that they name are among `secrets`, or in the vault.
    #[serde(default)]
    pub databases: Vec<DatabaseAddParams>,
    /// What to do where a name is taken.
    #[serde(default)]
    pub on_conflict: Resolve,
}

/// What became of one thing that was to be saved.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    /// It is new here.
    Saved,
    /// What is here is equal, and stays.
    Equal,
    /// What is here stays, and is used.
    Reused,
    /// It took the place of what was here.
    Replaced,
    /// It is here under another name.
    Renamed,
    /// Something that a newer daemon does.
    #[serde(other)]
    Unknown,
}

/// One thing that was saved.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Saved {
    /// The name that it has here.
    pub name: String,
    /// What a secret is; absent for a database.
    #[serde(default, rename = "type", skip_serializing_if = "Option::is_none")]
    pub kind: Option<SecretType>,
    /// What became of it.
    pub action: Action,
}

/// `shares.save`, `secrets.import`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SavedResult {
    /// Databases.
    pub databases: Vec<Saved>,
    /// Secrets.
    pub secrets: Vec<Saved>,
}

/// What is handed over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ShareKind {
    /// One secret.
    Secret,
    /// A database, and those of its secrets that were chosen.
    Database,
    /// A kind of a newer daemon.
    #[serde(other)]
    Unknown,
}

/// How far a share is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ShareState {
    /// The two sides look for each other.
    Waiting,
    /// It is with the receiver, who looks through it.
    Review,
    /// It is with the receiver, and that is all that the sender will learn: it waits in the inbox of a paired device, or
    /// the other side is an app that does not say what becomes of it.
    Delivered,
    /// The receiver saved it.
    Saved,
    /// The receiver did not want it.
    Declined,
    /// It came to nothing; `reason` says why.
    Failed,
    /// Either side called it off.
    Canceled,
    /// A state of a newer daemon.
    #[serde(other)]
    Unknown,
}

impl ShareState {
    /// Whether nothing more will happen.
    pub fn is_final(self) -> bool {
        matches!(self, Self::Delivered | Self::Saved | Self::Declined | Self::Failed | Self::Canceled)
    }
}

/// A secret or a database on its way from one device to another. Never carries the code, nor a value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Share {
    /// Names this share.
    pub share: String,
    /// Which way it goes.
    pub direction: Direction,
    /// What is handed over.
    pub kind: ShareKind,
    /// The name of the secret or database; on the receiving side not before it arrived.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The other side: a paired device, or an address once the code is confirmed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peer: Option<Party>,
    /// How far it is.
    pub state: ShareState,
    /// Failed confirmations that its code survives, this side's count; absent where there is no code.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempts_left: Option<u32>,
    /// Whether it speaks the protocol of the Photosphere app, whose code proves nothing.
    #[serde(default)]
    pub compat: bool,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<Failure>,
    /// When it began: RFC 3339, UTC.
    pub created: String,
    /// When the time for its present state is over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires: Option<String>,
}

/// `shares.send`
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ShareSendParams {
    /// What is handed over.
    pub kind: ShareKind,
    /// Which one.
    pub name: String,
    /// To a paired device, without a code: its id, a unique prefix of it, or its name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<String>,
    /// The name that it is handed over with, if not its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rename: Option<String>,
    /// The same for the description of a database.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// The same for its path.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// Which of the secrets of a database go along; all when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secrets: Option<Vec<Slot>>,
    /// Speak the protocol of the Photosphere app, whose code proves nothing.
    #[serde(default)]
    pub compat: bool,
    /// The share outlives the connection that began it.
    #[serde(default)]
    pub detach: bool,
}

/// `shares.send`: the only answer that carries a code.
#[derive(Debug, Serialize, Deserialize)]
pub struct ShareSendResult {
    /// The share.
    #[serde(flatten)]
    pub share: Share,
    /// The digits to type on the other device; absent for a paired one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<SecretText>,
}

/// `shares.receive`
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ShareReceiveParams {
    /// What is expected.
    pub kind: ShareKind,
    /// The digits that the other device shows.
    pub code: SecretText,
    /// Speak the protocol of the Photosphere app, whose code proves nothing.
    #[serde(default)]
    pub compat: bool,
    /// The share outlives the connection that began it.
    #[serde(default)]
    pub detach: bool,
}

/// `shares.list`
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct SharesResult {
    /// Newest first.
    pub shares: Vec<Share>,
}

/// A share, by its id or a unique prefix of it.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ShareParams {
    /// Its id.
    pub share: String,
}

/// How something that came in stands to what is here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Meets {
    /// Its name is free.
    Nothing,
    /// What has its name is the same.
    Equal,
    /// Something else has its name.
    Another,
    /// Something that a newer daemon knows.
    #[serde(other)]
    Unknown,
}

/// `shares.review`
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ShareReview {
    /// The share.
    #[serde(flatten)]
    pub share: Share,
    /// The database, if that is what came.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub database: Option<OfferedDatabase>,
    /// The secret, or those of the database.
    pub secrets: Vec<OfferedSecret>,
}

/// A database that came in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OfferedDatabase {
    /// What it is called there.
    pub name: String,
    /// What it is for.
    pub description: String,
    /// Where it lies.
    pub path: String,
    /// Where it was first made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub origin: Option<String>,
    /// How it stands to what is here.
    pub meets: Meets,
}

/// A secret that came in, without its value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OfferedSecret {
    /// What it is for a database.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slot: Option<Slot>,
    /// What it is called there.
    pub name: String,
    /// What its value is.
    #[serde(rename = "type")]
    pub kind: SecretType,
    /// How it stands to what is here.
    pub meets: Meets,
}

/// `shares.save`: what is absent is saved as it came.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ShareSaveParams {
    /// The share, by its id or a unique prefix of it.
    pub share: String,
    /// The name to save the secret or the database under.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The description of the database.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// Its path.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// What to do where a name is taken.
    #[serde(default)]
    pub on_conflict: Resolve,
    /// Choices for single secrets of a database; for others, and for what they leave open, the above holds.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub secrets: Vec<SecretChoice>,
}

/// What to do with one secret of a database that came in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SecretChoice {
    /// Which.
    pub slot: Slot,
    /// Whether it is wanted at all.
    #[serde(default = "yes")]
    pub include: bool,
    /// The name to save it under.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// What to do if that name is taken.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_conflict: Option<Resolve>,
}

fn yes() -> bool {
    true
}
