//! Journals, as this device's user sees them.

use kith_proto::control::journal::JournalState;
use kith_proto::hlc::Stamp;
use kith_proto::peer::journal::member::{self, Resource};
use kith_proto::peer::journal::version::JournalId;
use kith_proto::peer::reconcile::{Element, Sum};
use rusqlite::{OptionalExtension, Row, params};

use super::Book;
use crate::store::{json, to_json};

/// The name of the journal that every device has.
const DEFAULT: &str = "default";

/// What this device has to do with a journal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// It is read, written and kept the same.
    Active,
    /// Somebody who is not one's own shares it: nothing of it is here yet.
    Offered,
    /// Another device removed this one from its members. What was here stays.
    Removed,
    /// This device left it. Nothing of it is here, and no word of it brings it back.
    Left,
}

impl State {
    /// The word for it in its column.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Offered => "offered",
            Self::Removed => "removed",
            Self::Left => "left",
        }
    }

    /// What the local door says; a journal that was left is not shown.
    pub const fn shown(self) -> Option<JournalState> {
        match self {
            Self::Active => Some(JournalState::Active),
            Self::Offered => Some(JournalState::Offered),
            Self::Removed => Some(JournalState::Removed),
            Self::Left => None,
        }
    }

    fn parse(word: &str) -> Self {
        match word {
            "active" => Self::Active,
            "offered" => Self::Offered,
            "removed" => Self::Removed,
            _ => Self::Left,
        }
    }
}

/// A journal, as it is written down.
#[derive(Debug, Clone)]
pub struct Listed {
    /// Its row.
    pub number: i64,
    /// Its id, the same on every device.
    pub id: JournalId,
    /// As this device calls it.
    pub name: String,
    /// What this device has to do with it.
    pub state: State,
    /// What is shared; nothing for the default journal.
    pub resource: Option<Resource>,
    /// When it came here.
    pub created_ms: u64,
    /// Up to which stamp deletions are forgotten.
    pub horizon: Stamp,
    /// Count and sum of all current versions, deletions included.
    pub total: Sum,
    /// Deletions among them.
    pub tombstones: u64,
    /// Versions that lost a conflict.
    pub history: u64,
    /// Versions that came back from before the horizon.
    pub recovered: u64,
}

impl Listed {
    /// Entries that are not deleted.
    pub fn entries(&self) -> u64 {
        self.total.count.saturating_sub(self.tombstones)
    }
}

const COLUMNS: &str = "number, id, name, state, resource, created_ms, horizon, count, sum, tombstones, history, \
                       recovered FROM journal";

impl Book<'_> {
    /// Every journal, those that were left included, `default` first, then by name.
    pub fn journals(&self) -> rusqlite::Result<Vec<Listed>> {
        let sql = format!("SELECT {COLUMNS} ORDER BY resource IS NOT NULL, name");
        let mut statement = self.connection.prepare_cached(&sql)?;
        statement.query_map([], listed)?.collect()
    }

    /// The journal with this id.
    pub fn journal(&self, id: &JournalId) -> rusqlite::Result<Option<Listed>> {
        let sql = format!("SELECT {COLUMNS} WHERE id = ?1");
        self.connection.prepare_cached(&sql)?.query_row([id.0], listed).optional()
    }

    /// The journal that `wanted` names: an id of one that is here, or a name. One that was left is none.
    pub fn find(&self, wanted: &str) -> rusqlite::Result<Option<Listed>> {
        let by_id = match JournalId::parse(wanted) {
            Some(id) => self.journal(&id)?,
            None => None,
        };
        let found = match by_id.filter(|journal| journal.state != State::Left) {
            Some(journal) => Some(journal),
            None => self.named(wanted)?,
        };
        Ok(found.filter(|journal| journal.state != State::Left))
    }

    fn named(&self, name: &str) -> rusqlite::Result<Option<Listed>> {
        let sql = format!("SELECT {COLUMNS} WHERE name = ?1");
        self.connection.prepare_cached(&sql)?.query_row([name], listed).optional()
    }

    /// Whether a journal here has this name, or it looks like an id. Journals that were left gave theirs up.
    pub fn is_taken(&self, name: &str) -> rusqlite::Result<bool> {
        Ok(JournalId::parse(name).is_some() || self.named(name)?.is_some())
    }

    /// How many journals there are, those that were left included.
    pub fn journal_count(&self) -> rusqlite::Result<usize> {
        self.connection.prepare_cached("SELECT count(*) FROM journal")?.query_row([], |row| row.get(0))
    }

    /// Makes sure that the default journal is there.
    pub fn ensure_default(&self, now_ms: u64) -> rusqlite::Result<()> {
        match self.journal(&member::default_journal())? {
            Some(_) => Ok(()),
            None => self.insert(&member::default_journal(), DEFAULT, State::Active, None, now_ms),
        }
    }

    /// Writes a journal down that this device makes. Its name is free, and there is room for it: the caller asked.
    pub fn create(&self, resource: &Resource, now_ms: u64) -> rusqlite::Result<()> {
        self.insert(&resource.id(), &resource.name, State::Active, Some(resource), now_ms)
    }

    pub(super) fn insert(
        &self,
        id: &JournalId,
        name: &str,
        state: State,
        resource: Option<&Resource>,
        now_ms: u64,
    ) -> rusqlite::Result<()> {
        let resource = resource.map(to_json).transpose()?;
        self.connection
            .prepare_cached("INSERT INTO journal (id, name, state, resource, created_ms) VALUES (?1, ?2, ?3, ?4, ?5)")?
            .execute(params![id.0, name, state.as_str(), resource, now_ms])?;
        self.first_chunk(self.connection.last_insert_rowid())
    }

    fn first_chunk(&self, number: i64) -> rusqlite::Result<()> {
        let (first, none) = (Element::FIRST, Sum::default());
        self.connection
            .prepare_cached(
                "INSERT INTO journal_chunk (journal, stamp, element, count, sum) VALUES (?1, ?2, ?3, ?4, ?5)",
            )?
            .execute(params![number, first.stamp, first.id, none.count, none.sum])?;
        Ok(())
    }

    /// Notes what this device has to do with a journal now.
    pub fn set_state(&self, journal: &Listed, state: State) -> rusqlite::Result<()> {
        self.connection
            .prepare_cached("UPDATE journal SET state = ?2 WHERE number = ?1")?
            .execute(params![journal.number, state.as_str()])?;
        Ok(())
    }

    /// Calls a journal otherwise here. The name is free: the caller asked.
    pub fn rename(&self, journal: &Listed, name: &str) -> rusqlite::Result<()> {
        self.connection
            .prepare_cached("UPDATE journal SET name = ?2 WHERE number = ?1")?
            .execute(params![journal.number, name])?;
        Ok(())
    }

    /// Leaves a journal: its name is free, and all of it but its members is rubbish. The record by which this device
    /// leaves is among the members already.
    pub fn leave(&self, journal: &Listed) -> rusqlite::Result<()> {
        self.keep_top()?;
        self.connection
            .prepare_cached("INSERT INTO journal_rubbish (journal) VALUES (?1)")?
            .execute([journal.number])?;
        // A journal of a million entries is left as soon as a small one: what it had keeps its number, it does not.
        let number: i64 = self
            .connection
            .prepare_cached(
                "UPDATE journal SET number = (SELECT max(number) + 1 FROM journal), state = 'left',
                                    name = lower(hex(id)), horizon = 0, count = 0, sum = zeroblob(32), tombstones = 0,
                                    history = 0, recovered = 0 WHERE number = ?1 RETURNING number",
            )?
            .query_row([journal.number], |row| row.get(0))?;
        self.connection
            .prepare_cached("UPDATE journal_member SET journal = ?2 WHERE journal = ?1")?
            .execute([journal.number, number])?;
        self.first_chunk(number)
    }

    /// Deletes at most about `limit` rows of what is rubbish. Says whether there may be more.
    pub fn sweep_rubbish(&self, limit: usize) -> rusqlite::Result<bool> {
        let journal: Option<i64> = self
            .connection
            .prepare_cached("SELECT journal FROM journal_rubbish LIMIT 1")?
            .query_row([], |row| row.get(0))
            .optional()?;
        let Some(journal) = journal else { return Ok(false) };
        for (table, key) in [
            ("entry", "seq"),
            ("element", "(stamp, element)"),
            ("chunk", "(stamp, element)"),
            ("kept", "number"),
            ("piece", "rowid"),
            ("seen", "epoch"),
            ("peer", "peer"),
        ] {
            let columns = key.trim_matches(['(', ')']);
            let sql = format!(
                "DELETE FROM journal_{table} WHERE journal = ?1
                 AND {key} IN (SELECT {columns} FROM journal_{table} WHERE journal = ?1 LIMIT ?2)"
            );
            if self.connection.prepare_cached(&sql)?.execute(params![journal, limit])? >= limit {
                return Ok(true);
            }
        }
        self.connection.prepare_cached("DELETE FROM journal_rubbish WHERE journal = ?1")?.execute([journal])?;
        Ok(true)
    }
}

fn listed(row: &Row<'_>) -> rusqlite::Result<Listed> {
    let state: String = row.get(3)?;
    let resource: Option<String> = row.get(4)?;
    Ok(Listed {
        number: row.get(0)?,
        id: JournalId(row.get(1)?),
        name: row.get(2)?,
        state: State::parse(&state),
        resource: resource.is_some().then(|| json(row, 4)).transpose()?,
        created_ms: row.get(5)?,
        horizon: Stamp(row.get(6)?),
        total: Sum { count: row.get(7)?, sum: row.get(8)? },
        tombstones: row.get(9)?,
        history: row.get(10)?,
        recovered: row.get(11)?,
    })
}
