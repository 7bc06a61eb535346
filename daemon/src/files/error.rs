//! What can go wrong with the user's files.

use std::fmt::Display;
use std::io::{self, ErrorKind};

use kith_proto::control::{ApiError, Code};
use kith_proto::path::PathError;
use kith_proto::text;

use super::os;

/// The result of an operation on files.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What happened, and where. Nothing here is the fault of a peer, except the names and links that it chose.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say it; `path` and `source` are the same everywhere")]
pub enum Error {
    #[error("{path}: not an absolute path")]
    NotAbsolute { path: String },
    #[error("{path}: does not exist")]
    NotFound { path: String, source: io::Error },
    #[error("{path}: something that is not a directory is in the way")]
    NotADirectory { path: String },
    #[error("{path}: not a regular file")]
    NotAFile { path: String },
    #[error("{path}: a symlink, which is not followed here")]
    IsSymlink { path: String },
    #[error("{path}: exists already")]
    Exists { path: String },
    #[error("{path}: leads outside of what is sent")]
    LinkOutside { path: String },
    #[error("{path}: cannot be sent under this name")]
    BadName { path: String, source: PathError },
    #[error("{path}: has no name to send it under")]
    NoName { path: String },
    #[error("{path}: the name is not UTF-8")]
    NotUtf8 { path: String },
    #[error("{path}: another one of the same name is sent beside it")]
    SameName { path: String },
    #[error("{path}: names like this are for parts of transfers")]
    PartName { path: String },
    #[error("{path}: not a file that this program made")]
    NotOurs { path: String },
    #[error("{path}: larger than it may be")]
    TooLarge { path: String },
    #[error("{path}: no space left on the disk")]
    NoSpace { path: String, source: io::Error },
    #[error("{path} has room for {free} bytes, {bytes} are coming")]
    NoRoom { path: String, free: u64, bytes: u64 },
    #[error("{path}: the disk quota is used up")]
    Quota { path: String, source: io::Error },
    #[error("{path}: the file system is read-only")]
    ReadOnly { path: String, source: io::Error },
    #[error("{path}: permission denied")]
    Denied { path: String, source: io::Error },
    #[error("{path}: too many open files")]
    TooManyOpen { path: String, source: io::Error },
    #[error("{path}: {source}")]
    Io { path: String, source: io::Error },
}

impl Error {
    /// What `source` means for the thing at `path`. For writing to a [`Part`](super::Part), too.
    pub fn from_io(path: impl Display, source: io::Error) -> Self {
        let path = shown(path);
        match source.kind() {
            ErrorKind::NotFound => Self::NotFound { path, source },
            ErrorKind::NotADirectory => Self::NotADirectory { path },
            ErrorKind::AlreadyExists => Self::Exists { path },
            ErrorKind::StorageFull => Self::NoSpace { path, source },
            ErrorKind::QuotaExceeded => Self::Quota { path, source },
            ErrorKind::ReadOnlyFilesystem => Self::ReadOnly { path, source },
            ErrorKind::PermissionDenied => Self::Denied { path, source },
            ErrorKind::FileTooLarge => Self::TooLarge { path },
            _ if os::is_symlink_refused(&source) => Self::IsSymlink { path },
            _ if os::is_out_of_handles(&source) => Self::TooManyOpen { path, source },
            _ => Self::Io { path, source },
        }
    }

    /// The same where a directory was expected: a symlink is then one more thing in the way.
    pub(super) fn from_dir(path: impl Display, source: io::Error) -> Self {
        match Self::from_io(path, source) {
            Self::IsSymlink { path } => Self::NotADirectory { path },
            other => other,
        }
    }

    /// A short word that stays the same.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::NotAbsolute { .. } => "not_absolute",
            Self::NotFound { .. } => "not_found",
            Self::NotADirectory { .. } => "not_a_directory",
            Self::NotAFile { .. } => "not_a_file",
            Self::IsSymlink { .. } => "is_symlink",
            Self::Exists { .. } => "exists",
            Self::LinkOutside { .. } => "link_outside",
            Self::BadName { source, .. } => source.reason(),
            Self::NoName { .. } => "no_name",
            Self::NotUtf8 { .. } => "not_utf8",
            Self::SameName { .. } => "same_name",
            Self::PartName { .. } => "part_name",
            Self::NotOurs { .. } => "not_ours",
            Self::TooLarge { .. } => "too_large",
            Self::NoSpace { .. } | Self::NoRoom { .. } => "no_space",
            Self::Quota { .. } => "quota",
            Self::ReadOnly { .. } => "read_only",
            Self::Denied { .. } => "denied",
            Self::TooManyOpen { .. } => "too_many_open",
            Self::Io { .. } => "io",
        }
    }
}

impl From<Error> for ApiError {
    fn from(error: Error) -> Self {
        let code = match error.reason() {
            "not_found" => Code::FileNotFound,
            "denied" => Code::FileDenied,
            "no_space" => Code::NoSpace,
            "quota" => Code::Quota,
            "too_large" => Code::TooLarge,
            "io" | "too_many_open" => Code::Internal,
            _ => Code::InvalidParam,
        };
        let told = Self::new(code, error.to_string());
        match code {
            Code::NoSpace => told.hint("make room, or choose another directory with --to"),
            _ => told,
        }
    }
}

/// A path as an error shows it.
pub(super) fn shown(path: impl Display) -> String {
    text::printable(&path.to_string()).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn c23_what_the_system_says_has_a_word() {
        use rustix::io::Errno;
        for (errno, word) in [
            (Errno::NOSPC, "no_space"),
            (Errno::DQUOT, "quota"),
            (Errno::ROFS, "read_only"),
            (Errno::ACCESS, "denied"),
            (Errno::PERM, "denied"),
            (Errno::NOENT, "not_found"),
            (Errno::NOTDIR, "not_a_directory"),
            (Errno::EXIST, "exists"),
            (Errno::LOOP, "is_symlink"),
            (Errno::MFILE, "too_many_open"),
            (Errno::NFILE, "too_many_open"),
            (Errno::FBIG, "too_large"),
            (Errno::IO, "io"),
        ] {
            let error = Error::from_io("a\x1b", errno.into());
            assert_eq!(error.reason(), word);
            assert!(error.to_string().starts_with("a\\u{1b}: "), "{error}");
        }
        assert_eq!(Error::from_dir("a", Errno::LOOP.into()).reason(), "not_a_directory");
    }
}
