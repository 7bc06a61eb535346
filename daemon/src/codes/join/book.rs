//! What is written down of joins that were confirmed. The seed of the proof lives as long as it is asked for, and no
//! longer: SQLite overwrites what it forgets.

use kith_proto::control::code::JoinState;
use kith_proto::control::types::Failure;
use kith_proto::limits;
use kith_proto::peer::join::Payload;
use kith_proto::peer::join::code::ProofKey;
use rusqlite::{Connection, OptionalExtension, Transaction, params};
use zeroize::Zeroizing;

use super::words::Said;
use crate::store;

/// Joins that are over and still shown.
pub const REMEMBERED: usize = 100;

/// A join that was confirmed.
#[derive(Debug)]
pub struct Row {
    /// 8 hex digits.
    pub id: String,
    /// While it is not over.
    pub proof: Option<ProofKey>,
    /// Who, what, where.
    pub payload: Payload,
    /// Where a folder goes.
    pub path: Option<String>,
    /// When it was begun.
    pub created_ms: i64,
    /// When somebody said yes.
    pub confirmed_ms: i64,
    /// When the code's time is over, by the issuer's clock.
    pub expires_ms: i64,
    /// How far it is.
    pub state: JoinState,
    /// The last word …
    pub result: Option<String>,
    /// … and sentence.
    pub reason: Option<Failure>,
}

/// Writes a new one down, unless too many are pending. Says whether it did.
pub fn insert(tx: &Transaction<'_>, row: &Row) -> rusqlite::Result<bool> {
    let pending: usize =
        tx.query_row("SELECT count(*) FROM pending_join WHERE state = 'pending'", [], |row| row.get(0))?;
    if pending >= limits::JOINS {
        return Ok(false);
    }
    // Keys that come with a code are of no use to this version, and so not kept.
    let payload = Payload { grants: serde_json::Map::new(), ..row.payload.clone() };
    tx.execute(
        "INSERT INTO pending_join (id, seed, payload, path, created_ms, confirmed_ms, expires_ms, state)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, 'pending')",
        params![
            row.id,
            row.proof.as_ref().map(|proof| &proof.seed()[..]),
            store::to_json(&payload)?,
            row.path,
            row.created_ms,
            row.confirmed_ms,
            row.expires_ms
        ],
    )?;
    Ok(true)
}

/// Notes what a try came to that was not the last.
pub fn note(tx: &Transaction<'_>, id: &str, said: &Said) -> rusqlite::Result<()> {
    tx.execute(
        "UPDATE pending_join SET result = ?2, reason = ?3 WHERE id = ?1 AND state = 'pending'",
        params![id, said.result, store::to_json(&Failure::from(said.error.clone()))?],
    )?;
    Ok(())
}

/// Ends one without this device becoming a member. Says whether it was pending.
pub fn end(tx: &Transaction<'_>, id: &str, state: JoinState, said: &Said, now_ms: i64) -> rusqlite::Result<bool> {
    let state = if state == JoinState::Canceled { "canceled" } else { "failed" };
    let reason = store::to_json(&Failure::from(said.error.clone()))?;
    let changed = tx.execute(
        "UPDATE pending_join SET state = ?2, seed = NULL, result = ?3, reason = ?4, ended_ms = ?5
         WHERE id = ?1 AND state = 'pending'",
        params![id, state, said.result, reason, now_ms],
    )?;
    sweep(tx)?;
    Ok(changed == 1)
}

/// Ends one as a member. Says whether it was pending.
pub fn joined(tx: &Transaction<'_>, id: &str, result: &str, now_ms: i64) -> rusqlite::Result<bool> {
    let changed = tx.execute(
        "UPDATE pending_join SET state = 'joined', seed = NULL, result = ?2, reason = NULL, ended_ms = ?3
         WHERE id = ?1 AND state = 'pending'",
        params![id, result, now_ms],
    )?;
    sweep(tx)?;
    Ok(changed == 1)
}

/// Whether it waits to be let in.
pub fn is_pending(tx: &Connection, id: &str) -> rusqlite::Result<bool> {
    let found = tx.query_row("SELECT 1 FROM pending_join WHERE id = ?1 AND state = 'pending'", [id], |_| Ok(()));
    Ok(found.optional()?.is_some())
}

/// All of them, the oldest first.
pub fn load(connection: &Connection) -> rusqlite::Result<Vec<Row>> {
    let mut statement = connection.prepare(
        "SELECT id, seed, payload, path, created_ms, confirmed_ms, expires_ms, state, result, reason
         FROM pending_join ORDER BY created_ms, rowid",
    )?;
    statement.query_map([], from_row)?.collect()
}

fn from_row(row: &rusqlite::Row<'_>) -> rusqlite::Result<Row> {
    let seed: Option<[u8; 32]> = row.get(1)?;
    let seed = seed.map(Zeroizing::new);
    let state: String = row.get(7)?;
    let reason: Option<String> = row.get(9)?;
    Ok(Row {
        id: row.get(0)?,
        proof: seed.map(|seed| ProofKey::from_seed(*seed)),
        payload: store::json(row, 2)?,
        path: row.get(3)?,
        created_ms: row.get(4)?,
        confirmed_ms: row.get(5)?,
        expires_ms: row.get(6)?,
        state: match state.as_str() {
            "pending" => JoinState::Pending,
            "joined" => JoinState::Joined,
            "canceled" => JoinState::Canceled,
            _ => JoinState::Failed,
        },
        result: row.get(8)?,
        reason: if reason.is_some() { Some(store::json(row, 9)?) } else { None },
    })
}

/// Forgets those that were over first.
fn sweep(tx: &Transaction<'_>) -> rusqlite::Result<()> {
    tx.execute(
        "DELETE FROM pending_join WHERE state != 'pending' AND rowid NOT IN
           (SELECT rowid FROM pending_join WHERE state != 'pending' ORDER BY ended_ms DESC, rowid DESC LIMIT ?1)",
        [REMEMBERED],
    )?;
    Ok(())
}

#[cfg(test)]
pub mod tests {
    use kith_proto::id::PublicKey;
    use kith_proto::peer::journal::member::{Kind, Resource};
    use kith_proto::peer::journal::version::JournalId;

    use super::super::words::Local;
    use super::*;
    use crate::store::in_memory;

    /// A payload that `issuer` left.
    pub fn payload(issuer: PublicKey) -> Payload {
        let nonce = JournalId([4; 16]);
        Payload {
            v: 1,
            min_version: 1,
            issuer,
            name: "hub".to_owned(),
            resource: Resource { kind: Kind::Journal, name: "notes".to_owned(), creator: issuer, nonce },
            label: "notes for all".to_owned(),
            permission: kith_proto::peer::join::Permission::ReadWrite,
            approval: kith_proto::peer::join::Approval::Auto,
            addresses: Vec::new(),
            stores: Vec::new(),
            grants: serde_json::Map::new(),
        }
    }

    /// A join with this id.
    pub fn row(id: &str, created_ms: i64) -> Row {
        Row {
            id: id.to_owned(),
            proof: Some(ProofKey::from_seed([9; 32])),
            payload: payload(PublicKey([7; 32])),
            path: None,
            created_ms,
            confirmed_ms: created_ms,
            expires_ms: 1_900_000_000_000,
            state: JoinState::Pending,
            result: None,
            reason: None,
        }
    }

    fn seeds(connection: &Connection) -> usize {
        connection.query_row("SELECT count(seed) FROM pending_join", [], |row| row.get(0)).unwrap()
    }

    #[test]
    fn a_pending_join_comes_back_with_its_last_word_and_its_seed_until_it_is_over() {
        let mut connection = in_memory();
        let tx = connection.transaction().unwrap();
        let mut first = row("a", 1);
        first.payload.grants.insert("key".to_owned(), "secret".into());
        assert!(insert(&tx, &first).unwrap());
        let said = Local::OtherKey.said("hub");
        note(&tx, "a", &said).unwrap();
        let found = load(&tx).unwrap().remove(0);
        assert_eq!(found.proof.as_ref().map(ProofKey::seed), Some(&[9; 32]));
        assert_eq!(found.payload, payload(PublicKey([7; 32])), "without keys that nobody here uses");
        assert_eq!((found.result.as_deref(), found.state), (Some("issuer_changed"), JoinState::Pending));
        assert_eq!(found.reason, Some(said.error.clone().into()));

        assert!(joined(&tx, "a", "ok", 5).unwrap());
        assert!(!joined(&tx, "a", "ok", 6).unwrap(), "once");
        assert!(!end(&tx, "a", JoinState::Canceled, &said, 6).unwrap(), "what is over stays as it is");
        note(&tx, "a", &said).unwrap();
        let found = load(&tx).unwrap().remove(0);
        assert_eq!((found.state, found.result.as_deref(), found.reason), (JoinState::Joined, Some("ok"), None));
        assert!(found.proof.is_none());
        for (id, state) in [("b", JoinState::Failed), ("c", JoinState::Canceled)] {
            assert!(insert(&tx, &row(id, 2)).unwrap() && is_pending(&tx, id).unwrap());
            assert!(end(&tx, id, state, &said, 7).unwrap() && !is_pending(&tx, id).unwrap());
            assert_eq!(load(&tx).unwrap().iter().find(|row| row.id == id).unwrap().state, state);
        }
        assert_eq!(seeds(&tx), 0);
    }

    #[test]
    fn so_many_may_be_pending_and_so_many_that_are_over_are_remembered() {
        let mut connection = in_memory();
        let tx = connection.transaction().unwrap();
        let said = Local::Canceled.said("hub");
        for at in 0..REMEMBERED + 20 {
            let id = format!("{at:08x}");
            assert!(insert(&tx, &row(&id, 0)).unwrap());
            end(&tx, &id, JoinState::Failed, &said, i64::try_from(at).unwrap()).unwrap();
        }
        let left = load(&tx).unwrap();
        assert_eq!((left.len(), left[0].id.as_str()), (REMEMBERED, "00000014"), "the last ones");
        for at in 0..limits::JOINS {
            assert!(insert(&tx, &row(&format!("p{at}"), 0)).unwrap());
        }
        assert!(!insert(&tx, &row("more", 0)).unwrap());
        assert!(end(&tx, "p0", JoinState::Canceled, &said, 1_000).unwrap());
        assert!(insert(&tx, &row("more", 0)).unwrap());
        assert_eq!(load(&tx).unwrap().len(), limits::JOINS + REMEMBERED);
    }
}
