//! Who takes part.

use kith_proto::id::PublicKey;
use kith_proto::limits;
use kith_proto::peer::journal::member::{Introduction, Kind, Members, Record, Resource};
use kith_proto::peer::journal::version::JournalId;
use rusqlite::params;

use super::{Book, Listed, State};
use crate::store::{json, to_json};

/// What becomes of entering a journal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Entry {
    /// This device takes part.
    In {
        /// What it had to do with the journal before.
        was: Option<State>,
    },
    /// What was said does not make it a member.
    NotAdmitted,
    /// It left, and whoever let it in has not heard of that.
    Left,
    /// There are too many journals.
    Full,
}

impl Book<'_> {
    /// Who takes part in a journal, as far as this device knows; nothing for the default journal.
    pub fn members(&self, journal: &Listed) -> rusqlite::Result<Option<Members>> {
        let Some(resource) = &journal.resource else { return Ok(None) };
        let mut statement =
            self.connection.prepare_cached("SELECT record FROM journal_member WHERE journal = ?1 ORDER BY device")?;
        let records = statement.query_map([journal.number], |row| json(row, 0))?.collect::<Result<_, _>>()?;
        Ok(Some(Members::restored(resource.clone(), records)))
    }

    /// Merges records into `members`, and writes down those that were taken. Says whether there were any.
    pub fn merge_members(&self, journal: &Listed, members: &mut Members, records: &[Record]) -> rusqlite::Result<bool> {
        // Records are replaced and never removed; one that was taken says more than what is there.
        let taken = members.take(records);
        let mut statement = self.connection.prepare_cached(
            "INSERT INTO journal_member (journal, device, creator, record) VALUES (?1, ?2, ?3, ?4)
             ON CONFLICT (journal, device, creator) DO UPDATE SET record = ?4",
        )?;
        for record in &taken {
            let creator = record.by == members.resource().creator;
            statement.execute(params![journal.number, record.device.0, creator, to_json(record)?])?;
        }
        Ok(!taken.is_empty())
    }

    /// The devices that take part in a journal, without this one.
    pub fn others(&self, journal: &Listed) -> rusqlite::Result<Vec<PublicKey>> {
        Ok(self.others_of(self.members(journal)?.as_ref()))
    }

    /// The same, where its members were read already.
    pub fn others_of(&self, members: Option<&Members>) -> Vec<PublicKey> {
        let devices = members.map_or_else(|| self.circle.own.iter().copied().collect(), Members::devices);
        devices.into_iter().filter(|device| *device != self.circle.device).collect()
    }

    /// What `peer` may know about who takes part.
    pub(super) fn introduction_for(
        &self,
        peer: &PublicKey,
        journal: &JournalId,
    ) -> rusqlite::Result<Option<Introduction>> {
        let Some(journal) = self.journal(journal)? else { return Ok(None) };
        Ok(self.members(&journal)?.and_then(|members| members.introduction(peer)))
    }

    /// Merges what `peer` says about who takes part.
    pub(super) fn merge_introduction(
        &self,
        peer: &PublicKey,
        introduction: &Introduction,
        now_ms: u64,
    ) -> rusqlite::Result<()> {
        let id = introduction.resource.id();
        let Some(journal) = self.journal(&id)? else { return self.be_introduced(peer, introduction, now_ms) };
        let Some(mut members) = self.members(&journal)? else { return Ok(()) };
        if !self.merge_members(&journal, &mut members, &introduction.records)? {
            return Ok(());
        }
        match (journal.state, members.contains(&self.circle.device)) {
            (State::Active | State::Offered, false) => self.set_state(&journal, State::Removed),
            (State::Removed | State::Left, true) => self.take_back(&journal, peer, self.welcome(peer)),
            _ => Ok(()),
        }
    }

    /// This device takes part again in a journal that it was removed from, or left, or did not accept yet.
    fn take_back(&self, journal: &Listed, peer: &PublicKey, state: State) -> rusqlite::Result<()> {
        if let (State::Left, Some(resource)) = (journal.state, &journal.resource) {
            self.rename(journal, &self.free_name(resource, peer)?)?;
        }
        self.set_state(journal, state)
    }

    /// Enters a journal because somebody here wants it, by what its admitter `from` says: no further word is needed.
    pub(in crate::sync) fn enter(
        &self,
        from: &PublicKey,
        introduction: &Introduction,
        now_ms: u64,
    ) -> rusqlite::Result<Entry> {
        let resource = &introduction.resource;
        let here = self.journal(&resource.id())?;
        let known = match &here {
            Some(journal) => self.members(journal)?,
            None => None,
        };
        let mut members = known.unwrap_or_else(|| Members::new(resource.clone()));
        // What is said is tried on a copy: of what does not let this device in, nothing is written down.
        let mut told = members.clone();
        told.take(&introduction.records);
        if !(told.contains(&self.circle.device) && told.contains(from)) {
            let left = here.is_some_and(|journal| journal.state == State::Left);
            return Ok(if left { Entry::Left } else { Entry::NotAdmitted });
        }
        let was = here.as_ref().map(|journal| journal.state);
        let journal = match here {
            Some(journal) => journal,
            None if !is_name(&resource.name) => return Ok(Entry::NotAdmitted),
            None if self.journal_count()? >= limits::JOURNALS => return Ok(Entry::Full),
            None => {
                let name = self.free_name(resource, from)?;
                self.insert(&resource.id(), &name, State::Active, Some(resource), now_ms)?;
                self.journal(&resource.id())?.ok_or(rusqlite::Error::QueryReturnedNoRows)?
            }
        };
        self.merge_members(&journal, &mut members, &introduction.records)?;
        if journal.state != State::Active {
            self.take_back(&journal, from, State::Active)?;
        }
        Ok(Entry::In { was })
    }

    /// A journal that is not here comes here only if both devices take part in it, and if it is one.
    fn be_introduced(&self, peer: &PublicKey, introduction: &Introduction, now_ms: u64) -> rusqlite::Result<()> {
        let resource = &introduction.resource;
        if resource.kind != Kind::Journal || !is_name(&resource.name) || self.journal_count()? >= limits::JOURNALS {
            return Ok(());
        }
        let mut members = Members::new(resource.clone());
        members.merge(&introduction.records);
        if !(members.contains(&self.circle.device) && members.contains(peer)) {
            return Ok(());
        }
        let id = members.journal();
        self.insert(&id, &self.free_name(resource, peer)?, self.welcome(peer), Some(resource), now_ms)?;
        if let Some(journal) = self.journal(&id)? {
            let mut none = Members::new(resource.clone());
            self.merge_members(&journal, &mut none, &introduction.records)?;
        }
        Ok(())
    }

    /// What becomes of a journal that `peer` shares.
    fn welcome(&self, peer: &PublicKey) -> State {
        if self.circle.own.contains(peer) { State::Active } else { State::Offered }
    }

    /// The journal's name; where that is taken, with whose it is; where that is taken, too, with a number.
    fn free_name(&self, resource: &Resource, peer: &PublicKey) -> rusqlite::Result<String> {
        if !self.is_taken(&resource.name)? {
            return Ok(resource.name.clone());
        }
        let known = |device| self.circle.names.get(device).cloned();
        let whose = known(&resource.creator).or_else(|| known(peer)).unwrap_or_else(|| peer.device_id().to_string());
        let first = with_suffix(&resource.name, &format!(" ({whose})"));
        if !self.is_taken(&first)? {
            return Ok(first);
        }
        // There are no more journals than that, so one of these is free.
        for number in 2..=limits::JOURNALS {
            let name = with_suffix(&resource.name, &format!(" ({whose} {number})"));
            if !self.is_taken(&name)? {
                return Ok(name);
            }
        }
        Ok(resource.id().to_string())
    }
}

/// Whether text may be the name of a journal: 1 to [`limits::JOURNAL_NAME`] bytes, no control characters.
pub fn is_name(name: &str) -> bool {
    !name.is_empty() && name.len() <= limits::JOURNAL_NAME && !name.chars().any(char::is_control)
}

/// `name` with `suffix`, of which as much as fits is `name`.
fn with_suffix(name: &str, suffix: &str) -> String {
    let room = limits::JOURNAL_NAME.saturating_sub(suffix.len());
    let fits = name.char_indices().map(|(at, c)| at + c.len_utf8()).take_while(|end| *end <= room).last();
    format!("{}{suffix}", name.get(..fits.unwrap_or(0)).unwrap_or_default().trim_end())
}
