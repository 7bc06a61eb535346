//! Why a command did not do what it was asked to: what happened, what to do now, and the exit code.

use kith_proto::control::error::RpcError;
use kith_proto::control::types::Failure;
use kith_proto::control::{ApiError, Code, ErrorKind};

/// The exit code of a command that failed for no more specific reason.
pub const FAILED: u8 = 1;
/// The exit code of a command line that says nothing sensible.
pub const USAGE: u8 = 2;
/// The exit code where no daemon answers.
pub const UNREACHABLE: u8 = 3;
/// The exit code after Ctrl+C.
pub const INTERRUPTED: u8 = 130;

/// What every command returns.
pub type Result<T> = std::result::Result<T, Error>;

/// The end of a command before it was done.
#[derive(Debug, PartialEq, Eq)]
pub enum Error {
    /// To be told to the caller.
    Told {
        /// The exit code.
        exit: u8,
        /// The stable code: the daemon's, or one of this program's own.
        code: String,
        /// What happened.
        message: String,
        /// What to do now.
        hint: Option<String>,
    },
    /// Nothing is left to say: nobody reads any more.
    Quiet(u8),
}

impl Error {
    /// An error of this program's own.
    pub fn new(exit: u8, code: &str, message: impl Into<String>) -> Self {
        Self::Told { exit, code: code.to_owned(), message: message.into(), hint: None }
    }

    /// The command line does not say what to do.
    pub fn usage(message: impl Into<String>) -> Self {
        Self::new(USAGE, "usage", message)
    }

    /// The same error with the next step.
    #[must_use]
    pub fn hint(mut self, next: impl Into<String>) -> Self {
        if let Self::Told { hint, .. } = &mut self {
            *hint = Some(next.into());
        }
        self
    }

    /// Whether the daemon, or this program in its place, said this.
    pub fn is(&self, what: Code) -> bool {
        matches!(self, Self::Told { code, .. } if code == what.as_str())
    }

    /// The exit code.
    pub fn exit(&self) -> u8 {
        match self {
            Self::Told { exit, .. } | Self::Quiet(exit) => *exit,
        }
    }
}

impl From<Failure> for Error {
    fn from(failure: Failure) -> Self {
        let locked = failure.code == Code::VaultLocked.as_str();
        let hint = failure.hint.or_else(|| locked.then(|| "kithctl vault unlock".to_owned()));
        let exit = ErrorKind::from_rpc(failure.rpc).exit();
        Self::Told { exit, code: failure.code, message: failure.message, hint }
    }
}

impl From<RpcError> for Error {
    fn from(error: RpcError) -> Self {
        let RpcError { code: rpc, message, data } = error;
        Failure { rpc, code: data.code, message, hint: data.hint }.into()
    }
}

impl From<ApiError> for Error {
    fn from(error: ApiError) -> Self {
        Failure::from(error).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_exit_code_follows_the_kind() {
        for (code, exit) in [
            (Code::UnknownParam, 2),
            (Code::AccessDenied, 4),
            (Code::PeerNotFound, 5),
            (Code::WrongState, 6),
            (Code::PeerOffline, 7),
            (Code::Rejected, 1),
            (Code::NoSpace, 1),
            (Code::ProtocolVersion, 1),
            (Code::Internal, 1),
        ] {
            assert_eq!(Error::from(ApiError::new(code, "…")).exit(), exit, "{code:?}");
        }
        let locked = Error::from(ApiError::new(Code::VaultLocked, "…"));
        assert!(locked.is(Code::VaultLocked) && !locked.is(Code::NameTaken));
        assert_eq!(locked, Error::new(6, "vault_locked", "…").hint("kithctl vault unlock"));
        let newer = RpcError { code: 1999, message: "…".into(), data: Default::default() };
        assert_eq!(Error::from(newer).exit(), FAILED);
    }
}
