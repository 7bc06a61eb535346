//! Who is calling, and what they may do.

use kith_proto::control::method::Access;
use kith_proto::control::{ApiError, Code};

use crate::platform::Credentials;

/// A caller of the local door.
#[derive(Debug, Clone)]
pub struct Caller {
    credentials: Credentials,
    rights: &'static [Access],
}

const OWNER: &[Access] = &[Access::Observe, Access::Operate, Access::Administer, Access::Secrets];
const MEMBER: &[Access] = &[Access::Observe, Access::Operate];

impl Caller {
    /// Decides what `credentials` are good for: the daemon's own user and root may do everything; with `shared`, the
    /// members of the daemon's group may see and operate. Anybody else is refused, whatever the socket's mode says.
    pub fn admit(credentials: Credentials, shared: bool) -> Result<Self, ApiError> {
        let uid = rustix::process::geteuid().as_raw();
        let gid = rustix::process::getegid().as_raw();
        let rights = if credentials.uid == uid || credentials.uid == 0 {
            OWNER
        } else if shared && credentials.gids.contains(&gid) {
            MEMBER
        } else {
            return Err(ApiError::new(
                Code::AccessDenied,
                format!("this daemon belongs to user {uid}, you are user {}", credentials.uid),
            )
            .hint("start your own with kithd, or name its socket with --socket"));
        };
        Ok(Self { credentials, rights })
    }

    /// Refuses a caller without `access`.
    pub fn require(&self, access: Access) -> Result<(), ApiError> {
        if self.may(access) {
            return Ok(());
        }
        let needed = match access {
            Access::Observe => "see this",
            Access::Operate => "operate this daemon",
            Access::Administer => "change whom this device trusts",
            Access::Secrets => "handle secrets",
        };
        Err(ApiError::new(Code::AccessDenied, format!("user {} may not {needed}", self.credentials.uid)))
    }

    /// Whether the caller has `access`.
    pub fn may(&self, access: Access) -> bool {
        self.rights.contains(&access)
    }

    /// User and groups with whose rights files are read, where these are not the daemon's own.
    pub fn reads_as(&self) -> Option<(u32, Vec<u32>)> {
        let uid = rustix::process::geteuid().as_raw();
        let own = self.credentials.uid == uid || self.credentials.uid == 0;
        (!own).then(|| (self.credentials.uid, self.credentials.gids.clone()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn f42_strangers_are_refused_and_members_may_not_administer() {
        let gid = rustix::process::getegid().as_raw();
        let ours = rustix::process::geteuid().as_raw();
        let caller =
            |uid, gids: &[u32], shared| Caller::admit(Credentials { uid, gids: gids.to_vec(), pid: None }, shared);
        assert!(caller(ours, &[], false).unwrap().may(Access::Secrets));
        assert!(caller(0, &[], false).unwrap().may(Access::Administer));
        assert_eq!(caller(ours + 4711, &[gid], false).unwrap_err().code, Code::AccessDenied);
        assert_eq!(caller(ours + 4711, &[gid + 1], true).unwrap_err().code, Code::AccessDenied);
        let member = caller(ours + 4711, &[gid + 1, gid], true).unwrap();
        assert!(member.may(Access::Operate));
        for access in [Access::Administer, Access::Secrets] {
            assert_eq!(member.require(access).unwrap_err().code, Code::AccessDenied);
        }
    }
}
