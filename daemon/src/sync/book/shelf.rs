//! All journals, as a session sees them.

use kith_proto::id::PublicKey;
use kith_proto::peer::journal::member::Introduction;
use kith_proto::peer::journal::replica::Shelf;
use kith_proto::peer::journal::version::{Epoch, JournalId};
use kith_proto::peer::journal::wire::{Cursor, Manifest};
use rusqlite::{Error, OptionalExtension, params};

use super::{Book, Journal, Listed, State};

impl Shelf for Book<'_> {
    type Error = Error;
    type Replica<'a>
        = Journal<'a>
    where
        Self: 'a;

    fn device(&self) -> PublicKey {
        self.circle.device
    }

    fn epoch(&self) -> Epoch {
        self.epoch.get()
    }

    fn begin_epoch(&mut self) -> rusqlite::Result<()> {
        let epoch = self
            .connection
            .prepare_cached("UPDATE sync_state SET epoch = randomblob(16) RETURNING epoch")?
            .query_row([], |row| row.get(0).map(Epoch))?;
        // What peers acknowledged, they acknowledged of numbers that now stand for something else.
        self.connection.prepare_cached("UPDATE journal_peer SET acknowledged = 0")?.execute([])?;
        self.epoch.set(epoch);
        Ok(())
    }

    fn top(&mut self) -> rusqlite::Result<u64> {
        Book::top(self)
    }

    fn manifest(&mut self, peer: &PublicKey) -> rusqlite::Result<Vec<Manifest>> {
        let mut found = Vec::new();
        for journal in self.journals()? {
            if journal.state == State::Active
                && let Some(members) = self.shared_with(peer, &journal)?
            {
                found.push(Manifest {
                    journal: journal.id,
                    members,
                    top: Book::top(self)?,
                    fingerprint: journal.total.fingerprint(),
                    count: journal.total.count,
                    horizon: journal.horizon,
                    cursor: self.cursor(peer, &journal)?,
                    partial: self.partials(journal.number)?,
                });
            }
        }
        found.sort_by_key(|manifest| manifest.journal);
        Ok(found)
    }

    fn introduction(&mut self, peer: &PublicKey, journal: &JournalId) -> rusqlite::Result<Option<Introduction>> {
        self.introduction_for(peer, journal)
    }

    fn introduce(&mut self, peer: &PublicKey, introduction: &Introduction, now_ms: u64) -> rusqlite::Result<()> {
        self.merge_introduction(peer, introduction, now_ms)
    }

    fn replica<'a>(&'a mut self, journal: &JournalId) -> rusqlite::Result<Journal<'a>> {
        let listed = self.journal(journal)?.ok_or(Error::QueryReturnedNoRows)?;
        Ok(Journal::new(self, &listed))
    }
}

impl Book<'_> {
    /// What stands for the members of a journal, if `peer` and this device are among them.
    fn shared_with(&self, peer: &PublicKey, journal: &Listed) -> rusqlite::Result<Option<String>> {
        Ok(match self.members(journal)? {
            Some(members) => {
                let both = members.contains(peer) && members.contains(&self.circle.device);
                both.then(|| members.digest())
            }
            None => self.circle.own.contains(peer).then(String::new),
        })
    }

    fn cursor(&self, peer: &PublicKey, journal: &Listed) -> rusqlite::Result<Option<Cursor>> {
        self.connection
            .prepare_cached(
                "SELECT journal_epoch.epoch, since FROM journal_peer
                 JOIN journal_epoch ON journal_epoch.number = journal_peer.epoch WHERE journal = ?1 AND peer = ?2",
            )?
            .query_row(params![journal.number, peer.0], |row| {
                Ok(Cursor { epoch: Epoch(row.get(0)?), since: row.get(1)? })
            })
            .optional()
    }
}
