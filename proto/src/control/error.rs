//! Errors of the local door. The `code` strings are the contract; kinds decide the RPC code and kithctl's exit code.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::credential::Invalid;

/// What sort of failure it is, and so whose turn it is to act.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// A line that is not JSON.
    Parse,
    /// JSON that is not a request.
    Request,
    /// No such method.
    Method,
    /// Parameters that the method does not take.
    Params,
    /// This caller may not do this.
    Denied,
    /// The thing named does not exist.
    NotFound,
    /// The thing is in another state than the request needs.
    Conflict,
    /// Not possible now; it may be later.
    Unavailable,
    /// The peer refused, or broke the protocol.
    Peer,
    /// A limit was reached.
    Limit,
    /// The two programs do not speak a common version.
    Incompatible,
    /// A defect here.
    Internal,
}

impl ErrorKind {
    /// Every kind, for tables and tests.
    pub const ALL: [Self; 12] = [
        Self::Parse,
        Self::Request,
        Self::Method,
        Self::Params,
        Self::Denied,
        Self::NotFound,
        Self::Conflict,
        Self::Unavailable,
        Self::Peer,
        Self::Limit,
        Self::Incompatible,
        Self::Internal,
    ];

    /// The JSON-RPC error code.
    pub const fn rpc(self) -> i64 {
        match self {
            Self::Parse => -32700,
            Self::Request => -32600,
            Self::Method => -32601,
            Self::Params => -32602,
            Self::Denied => 1001,
            Self::NotFound => 1002,
            Self::Conflict => 1003,
            Self::Unavailable => 1004,
            Self::Peer => 1005,
            Self::Limit => 1006,
            Self::Incompatible => 1007,
            Self::Internal => -32603,
        }
    }

    /// kithctl's exit code. 0 is done, 3 is "daemon not reachable", 130 is "interrupted".
    pub const fn exit(self) -> u8 {
        match self {
            Self::Parse | Self::Request | Self::Method | Self::Params => 2,
            Self::Denied => 4,
            Self::NotFound => 5,
            Self::Conflict => 6,
            Self::Unavailable => 7,
            Self::Peer | Self::Limit | Self::Incompatible | Self::Internal => 1,
        }
    }

    /// The kind behind an RPC code; an unknown code is an internal error of a daemon newer than this client.
    pub fn from_rpc(code: i64) -> Self {
        Self::ALL.into_iter().find(|kind| kind.rpc() == code).unwrap_or(Self::Internal)
    }
}

macro_rules! codes {
    ($($(#[doc = $doc:literal])+ $variant:ident = $text:literal, $kind:ident;)+) => {
        /// What exactly failed: the stable string in `data.code`.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Code {
            $($(#[doc = $doc])+ $variant,)+
        }

        impl Code {
            /// Every code, for the golden list.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// The string that crosses the door.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text),+ }
            }

            /// The kind that this code belongs to.
            pub const fn kind(self) -> ErrorKind {
                match self { $(Self::$variant => ErrorKind::$kind),+ }
            }
        }
    };
}

codes! {
    /// Not a JSON object in one line.
    ParseError = "parse_error", Parse;
    /// A JSON object that is not a JSON-RPC 2.0 request.
    InvalidRequest = "invalid_request", Request;
    /// The daemon has no such method.
    UnknownMethod = "unknown_method", Method;
    /// A parameter that the method does not know.
    UnknownParam = "unknown_param", Params;
    /// A parameter is missing, of the wrong type, or outside its range.
    InvalidParam = "invalid_param", Params;
    /// The caller is not allowed to do this.
    AccessDenied = "access_denied", Denied;
    /// The vault has another passphrase.
    WrongPassphrase = "wrong_passphrase", Denied;
    /// The issuer of the sharing code said no.
    JoinDenied = "join_denied", Denied;
    /// The caller could not read this file itself.
    FileDenied = "file_denied", Denied;
    /// No peer has this id, prefix or name.
    PeerNotFound = "peer_not_found", NotFound;
    /// No pairing has this id.
    PairingNotFound = "pairing_not_found", NotFound;
    /// No transfer has this id.
    TransferNotFound = "transfer_not_found", NotFound;
    /// No receive window is open, or not this one.
    WindowNotFound = "window_not_found", NotFound;
    /// No question has this id.
    QuestionNotFound = "question_not_found", NotFound;
    /// No journal has this name or id.
    JournalNotFound = "journal_not_found", NotFound;
    /// The journal has no such entry or version.
    EntryNotFound = "entry_not_found", NotFound;
    /// The vault has no secret of this name.
    SecretNotFound = "secret_not_found", NotFound;
    /// No database of this name is configured.
    DatabaseNotFound = "database_not_found", NotFound;
    /// No share has this id.
    ShareNotFound = "share_not_found", NotFound;
    /// No sharing code has this id or label, or nobody knows the code.
    CodeNotFound = "code_not_found", NotFound;
    /// No request to join has this id.
    RequestNotFound = "request_not_found", NotFound;
    /// No join has this id.
    JoinNotFound = "join_not_found", NotFound;
    /// Nothing was staged under this name on this connection.
    StagedNotFound = "staged_not_found", NotFound;
    /// No such file or directory here.
    FileNotFound = "file_not_found", NotFound;
    /// More than one peer fits; the message lists them.
    PeerAmbiguous = "peer_ambiguous", Conflict;
    /// The peer is known but not trusted: pair first.
    NotPaired = "not_paired", Conflict;
    /// A pairing window is open already.
    PairingActive = "pairing_active", Conflict;
    /// A receive window is open already.
    WindowActive = "window_active", Conflict;
    /// The transfer or pairing is not in a state that allows this.
    WrongState = "wrong_state", Conflict;
    /// The entry is not the version that was expected; the message says which one it is.
    VersionMismatch = "version_mismatch", Conflict;
    /// Another peer, journal, secret or database has this name.
    NameTaken = "name_taken", Conflict;
    /// The vault is locked: unlock it first.
    VaultLocked = "vault_locked", Conflict;
    /// The vault's key is missing or not safe, or what it protects was changed behind its back.
    VaultUnusable = "vault_unusable", Conflict;
    /// A database uses this secret.
    SecretInUse = "secret_in_use", Conflict;
    /// The sharing code's time is over.
    CodeExpired = "code_expired", Conflict;
    /// The sharing code was used as often as it may be.
    CodeUsedUp = "code_used_up", Conflict;
    /// The sharing code was withdrawn.
    CodeRevoked = "code_revoked", Conflict;
    /// What the sharing code is for is not there any more.
    ResourceGone = "resource_gone", Conflict;
    /// The address leads back to this device.
    IsSelf = "is_self", Conflict;
    /// The peer cannot be reached now.
    PeerOffline = "peer_offline", Unavailable;
    /// Somebody at the issuer's has to say yes first.
    ApprovalPending = "approval_pending", Unavailable;
    /// No hello store could be asked.
    StoreUnreachable = "store_unreachable", Unavailable;
    /// The time for pairing ran out, or nobody shows a PIN there.
    PairingExpired = "pairing_expired", Unavailable;
    /// Nobody answered in the time allowed.
    TimedOut = "timed_out", Unavailable;
    /// The daemon is stopping.
    ShuttingDown = "shutting_down", Unavailable;
    /// The daemon has more to do than it can; try again.
    Busy = "busy", Unavailable;
    /// The other side said no.
    Rejected = "rejected", Peer;
    /// One of the two sides called it off.
    Canceled = "canceled", Peer;
    /// Wrong PIN or code, or another device is interfering.
    WrongPin = "wrong_pin", Peer;
    /// What arrived is another kind of thing than was asked for, or not put together as it should be.
    WrongKind = "wrong_kind", Peer;
    /// More receivers announce themselves than the one that is meant.
    SeveralReceivers = "several_receivers", Peer;
    /// What arrived is not what was sent.
    Integrity = "integrity", Peer;
    /// That device does not trust this one (any more).
    NotTrusted = "not_trusted", Peer;
    /// The other side broke the protocol.
    Protocol = "protocol", Peer;
    /// Another key answered than the one expected.
    WrongKey = "wrong_key", Peer;
    /// The PIN or code is burnt, or too many PINs were made.
    TooManyAttempts = "too_many_attempts", Limit;
    /// The quota of this peer is used up.
    Quota = "quota", Limit;
    /// Not enough room on the disk.
    NoSpace = "no_space", Limit;
    /// Larger than what can be handled.
    TooLarge = "too_large", Limit;
    /// The two daemons, or daemon and client, have no version in common.
    ProtocolVersion = "protocol_version", Incompatible;
    /// A defect here; the log has the details.
    Internal = "internal", Internal;
}

/// An error for the one who asked: what happened, and what to do now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiError {
    /// The stable code; it implies the kind.
    pub code: Code,
    /// What happened.
    pub message: String,
    /// What to do now.
    pub hint: Option<String>,
}

impl ApiError {
    /// An error without a hint.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), hint: None }
    }

    /// The same error with the next step.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

impl fmt::Display for ApiError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for ApiError {}

impl From<Invalid> for ApiError {
    fn from(invalid: Invalid) -> Self {
        Self::new(Code::InvalidParam, invalid.to_string())
    }
}

/// The `error` member of a response.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct RpcError {
    /// [`ErrorKind::rpc`].
    pub code: i64,
    /// What happened.
    pub message: String,
    /// The stable code and the next step.
    #[serde(default)]
    pub data: ErrorData,
}

/// The `data` member of an error.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct ErrorData {
    /// [`Code::as_str`]; a string here, because a newer daemon may know more codes.
    #[serde(default)]
    pub code: String,
    /// What to do now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

impl From<ApiError> for RpcError {
    fn from(error: ApiError) -> Self {
        Self {
            code: error.code.kind().rpc(),
            message: error.message,
            data: ErrorData { code: error.code.as_str().to_owned(), hint: error.hint },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_and_rpc_codes_are_one_to_one() {
        for kind in ErrorKind::ALL {
            assert_eq!(ErrorKind::from_rpc(kind.rpc()), kind);
        }
        assert_eq!(ErrorKind::from_rpc(4711), ErrorKind::Internal);
    }

    #[test]
    fn codes_are_unique_words() {
        let mut seen = std::collections::BTreeSet::new();
        for code in Code::ALL {
            assert!(seen.insert(code.as_str()), "{} twice", code.as_str());
            assert!(code.as_str().bytes().all(|b| b.is_ascii_lowercase() || b == b'_'), "{}", code.as_str());
        }
    }
}
