//! When what is new of a journal is told. Plain data: `now` is an argument.
//!
//! Where members join by the hundreds, each one is news; whoever follows wants the state, and not each of them.

use std::collections::HashMap;
use std::time::Duration;

use kith_proto::peer::journal::version::JournalId;
use tokio::time::Instant;

/// A journal is told of this often at the most.
const EVERY: Duration = Duration::from_secs(1);

/// What was told when.
#[derive(Debug, Default)]
pub struct News {
    journals: HashMap<JournalId, Told>,
}

#[derive(Debug, Default)]
struct Told {
    last: Option<Instant>,
    /// Somebody is going to tell.
    waits: bool,
}

impl News {
    /// Something is new of a journal: when whoever asks is to tell; nothing if somebody else is going to.
    pub fn changed(&mut self, journal: &JournalId, now: Instant) -> Option<Instant> {
        let told = self.journals.entry(*journal).or_default();
        let first = !std::mem::replace(&mut told.waits, true);
        first.then(|| told.last.map_or(now, |last| now.max(last + EVERY)))
    }

    /// It is read now, and told: what changes from now on is news again.
    pub fn telling(&mut self, journal: &JournalId, now: Instant) {
        self.journals.insert(*journal, Told { last: Some(now), waits: false });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn many_changes_are_one_piece_of_news_and_the_last_one_is_told() {
        let (journal, start) = (JournalId([1; 16]), Instant::now());
        let at = |ms| start + Duration::from_millis(ms);
        let mut news = News::default();
        assert_eq!(news.changed(&journal, start), Some(start), "the first at once");
        assert_eq!(news.changed(&journal, at(1)), None, "somebody is about to");
        news.telling(&journal, at(2));
        assert_eq!(news.changed(&journal, at(3)), Some(at(2) + EVERY), "what came after it was read");
        assert!((4..900).all(|ms| news.changed(&journal, at(ms)).is_none()));
        assert_eq!(news.changed(&JournalId([2; 16]), at(5)), Some(at(5)), "of another one");
        news.telling(&journal, at(1002));
        assert_eq!(news.changed(&journal, at(9000)), Some(at(9000)));
    }
}
