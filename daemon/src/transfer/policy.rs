//! What becomes of an offer: the bounds of the sender's policy, and somebody's answer.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use kith_proto::control::types::{Conflict, Offers, Policy, TransferState};
use kith_proto::control::{ApiError, Code};
use kith_proto::peer::offer::{Item, Kind, RejectReason};

use super::Engine;
use super::book::{self, Record};
use super::state::{self, Key};
use crate::clock;
use crate::files::Tree;

const DAY_MS: i64 = 86_400_000;

/// What an offer asks for, gathered while its manifest arrives.
#[derive(Debug, Default)]
pub struct Wishes {
    largest: u64,
    bytes: u64,
    dotfiles: bool,
    extensions: Vec<Option<String>>,
}

/// What becomes of an offer without asking.
#[derive(Debug, PartialEq, Eq)]
pub enum Decision {
    /// It waits for an answer.
    Ask,
    /// It is accepted.
    Accept,
    /// It is rejected.
    Reject(RejectReason),
}

impl Wishes {
    /// Takes an entry in.
    pub fn add(&mut self, item: &Item) {
        let size = item.size.unwrap_or_default();
        self.largest = self.largest.max(size);
        self.bytes = self.bytes.saturating_add(size);
        self.dotfiles |= item.path.is_hidden_at_top();
        if item.kind == Kind::File {
            let name = item.path.file_name();
            let extension = name.rsplit_once('.').map(|(_, extension)| extension.to_lowercase());
            if !self.extensions.contains(&extension) {
                self.extensions.push(extension);
            }
        }
    }

    /// Judges the offer by `policy`. `today` is what arrived in the last 24 hours.
    pub fn judge(&self, policy: &Policy, today: u64) -> Decision {
        let beyond = |bound: Option<u64>, value: u64| bound.is_some_and(|bound| value > bound);
        let typed = |extension: &Option<String>| extension.as_ref().is_some_and(|it| policy.types.contains(it));
        if policy.offers == Offers::Never {
            Decision::Reject(RejectReason::Policy)
        } else if beyond(policy.max_file, self.largest) {
            Decision::Reject(RejectReason::TooLarge)
        } else if beyond(policy.max_day, today.saturating_add(self.bytes)) {
            Decision::Reject(RejectReason::Quota)
        } else if !policy.types.is_empty() && !self.extensions.iter().all(typed) {
            Decision::Reject(RejectReason::Policy)
        } else if policy.offers != Offers::Auto {
            Decision::Ask
        } else if self.dotfiles && !policy.dotfiles {
            // A shell's or a program's start-up files: nobody is asked, so nobody could notice.
            Decision::Reject(RejectReason::Dotfiles)
        } else {
            Decision::Accept
        }
    }
}

/// What arrived from the sender of `record` in the last 24 hours.
pub async fn today(engine: &Engine, record: &Record) -> Result<u64, state::Error> {
    let (peer, since) = (record.peer, clock::now_ms().saturating_sub(DAY_MS));
    Ok(engine.book.store.read(move |c| book::received_since(c, &peer, since)).await?)
}

/// Where the files of an accepted offer go, and whether there is room.
pub fn place(dir: &Path, bytes: u64) -> Result<Tree, ApiError> {
    Ok(Tree::open_with_room(dir, bytes)?)
}

/// Somebody says yes.
pub async fn accept(
    engine: &Arc<Engine>,
    key: &Key,
    dir: Option<PathBuf>,
    on_conflict: Option<Conflict>,
) -> Result<(), ApiError> {
    let record = engine.book.record(key).ok_or(state::Error::Gone)?;
    let trust = engine.trust.snapshot();
    let device = trust.trusted(&key.peer);
    let device = device.ok_or_else(|| ApiError::new(Code::NotTrusted, "the sender is not trusted any more"))?;
    let dir = dir.unwrap_or_else(|| target(engine, &device.policy));
    let on_conflict = on_conflict.unwrap_or(device.policy.on_conflict);
    if record.entries > 0 {
        let (dir, bytes) = (dir.clone(), record.bytes.unwrap_or_default());
        engine.tasks.blocking(move || place(&dir, bytes).map(drop)).await?;
    }
    let text_only = record.entries == 0;
    engine
        .book
        .set(key, |record| {
            record.state = if text_only { TransferState::Active } else { TransferState::Queued };
            record.dir = (!text_only).then_some(dir);
            record.on_conflict = on_conflict;
        })
        .await?;
    if !engine.book.is_busy(key) {
        knock(engine, key);
    }
    Ok(())
}

/// Where a peer's files go.
pub fn target(engine: &Engine, policy: &Policy) -> PathBuf {
    policy.dir.as_ref().map_or_else(|| engine.settings.paths.downloads.clone(), PathBuf::from)
}

/// The sender is not connected: a sign of life from here makes it come back.
fn knock(engine: &Arc<Engine>, key: &Key) {
    let (dial, peer) = (engine.dial.clone(), key.peer);
    engine.tasks.spawn("knock", async move {
        dial.probe(peer).await;
    });
}

#[cfg(test)]
mod tests {
    use kith_proto::path::WirePath;

    use super::*;

    fn wishes(entries: &[(&str, u64)]) -> Wishes {
        let mut wishes = Wishes::default();
        for (index, (path, size)) in entries.iter().enumerate() {
            wishes.add(&Item {
                index: index as u64,
                path: WirePath::parse(path).unwrap(),
                kind: Kind::File,
                size: Some(*size),
                mtime_ns: 0,
                mode: 0o644,
                target: None,
            });
        }
        wishes
    }

    #[test]
    fn offers_are_judged_by_the_policy() {
        let auto = Policy { offers: Offers::Auto, ..Policy::default() };
        let photos = Policy { types: vec!["jpg".to_owned()], ..auto.clone() };
        let small = Policy { max_file: Some(10), max_day: Some(100), ..auto.clone() };
        let never = Policy { offers: Offers::Never, ..Policy::default() };
        let dots = Policy { dotfiles: true, ..auto.clone() };
        for (policy, entries, today, decision) in [
            (&Policy::default(), vec![("a.txt", 1)], 0, Decision::Ask),
            (&auto, vec![("a.txt", 1)], 0, Decision::Accept),
            (&never, vec![("a.txt", 1)], 0, Decision::Reject(RejectReason::Policy)),
            (&photos, vec![("a.JPG", 1), ("d/b.jpg", 1)], 0, Decision::Accept),
            (&photos, vec![("a.jpg", 1), ("b.exe", 1)], 0, Decision::Reject(RejectReason::Policy)),
            (&photos, vec![("noextension", 1)], 0, Decision::Reject(RejectReason::Policy)),
            (&small, vec![("a", 11)], 0, Decision::Reject(RejectReason::TooLarge)),
            (&small, vec![("a", 10)], 91, Decision::Reject(RejectReason::Quota)),
            (&small, vec![("a", 10)], 90, Decision::Accept),
            (&small, vec![("a", u64::MAX), ("b", u64::MAX)], 0, Decision::Reject(RejectReason::TooLarge)),
        ] {
            assert_eq!(wishes(&entries).judge(policy, today), decision, "{entries:?} under {policy:?}");
        }
        // A12: start-up files of a shell or of a login.
        for path in [".ssh/authorized_keys", ".bashrc", ".config/autostart/x.desktop"] {
            assert_eq!(wishes(&[(path, 1)]).judge(&auto, 0), Decision::Reject(RejectReason::Dotfiles), "{path}");
            assert_eq!(wishes(&[(path, 1)]).judge(&dots, 0), Decision::Accept, "{path}");
            assert_eq!(wishes(&[(path, 1)]).judge(&Policy::default(), 0), Decision::Ask, "{path}");
        }
        assert_eq!(wishes(&[("project/.gitignore", 1)]).judge(&auto, 0), Decision::Accept, "below the top is usual");
    }
}
