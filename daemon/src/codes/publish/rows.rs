//! Publications as rows.

use std::collections::BTreeMap;

use kith_proto::control::code::PublicationState;
use kith_proto::control::types::Failure;
use kith_proto::guest::hello::{Lookup, OwnerToken};
use rusqlite::types::Type;
use rusqlite::{OptionalExtension, Row, params};

use super::Work;
use crate::codes::book::{Book, LIVE};
use crate::store::to_json;

/// This device's own store, in the place of an address. It is not shown.
pub const OWN: &str = "";

/// A code's payload at one store.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Target {
    /// The code's row.
    pub code: i64,
    /// The store's address, or [`OWN`].
    pub store: String,
}

/// What goes to a store.
pub struct Parcel {
    /// Under which name.
    pub lookup: Lookup,
    /// The sealed payload.
    pub blob: Vec<u8>,
    /// By which it is withdrawn.
    pub token: OwnerToken,
    /// Milliseconds since 1970.
    pub expires_ms: u64,
}

/// How it is with a payload at a store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Published {
    pub store: String,
    pub state: PublicationState,
    pub reason: Option<Failure>,
    pub since_ms: i64,
}

/// What is to be done.
#[derive(Debug, Default)]
pub struct Plan {
    /// Where what, and whether it was not there yet.
    pub work: BTreeMap<Target, (Work, bool)>,
    /// Whether any code lets devices in, or did lately.
    pub any_lately: bool,
    /// Codes whose publications changed by this look, by their rows.
    pub changed: Vec<i64>,
}

impl Book<'_> {
    /// What is to be done: what lives is to be at all of `stores`, what was revoked or is used up at none. At this device's
    /// own it stays until its time is over: whoever finds it there comes here, and is told why not.
    pub fn plan(&self, stores: &[String], now_ms: i64) -> rusqlite::Result<Plan> {
        let mut add = self.0.prepare_cached(&format!(
            "INSERT OR IGNORE INTO publication (code, store, state, since_ms)
             SELECT number, ?2, 'waiting', ?1 FROM code WHERE {LIVE}"
        ))?;
        for store in stores.iter().map(String::as_str).chain([OWN]) {
            add.execute(params![now_ms, store])?;
        }
        let changed = self
            .0
            .prepare_cached(
                "UPDATE publication SET state = 'withdrawing', reason = NULL, since_ms = ?1
                 WHERE state IN ('waiting', 'published', 'failed') AND store <> ''
                   AND code IN (SELECT number FROM code WHERE ended IS 'revoked' OR used >= uses) RETURNING code",
            )?
            .query_map([now_ms], |row| row.get(0))?
            .collect::<Result<_, _>>()?;
        let mut plan = Plan { any_lately: self.any_lately(now_ms)?, changed, ..Plan::default() };
        let sql = format!(
            "SELECT code.number, store, publication.state FROM publication JOIN code ON code.number = publication.code
             WHERE publication.state = 'withdrawing' OR ({LIVE})"
        );
        let mut rows = self.0.prepare_cached(&sql)?;
        let mut rows = rows.query([now_ms])?;
        while let Some(row) = rows.next()? {
            let (code, store, state): (i64, String, String) = (row.get(0)?, row.get(1)?, row.get(2)?);
            let work = if state == "withdrawing" { Work::Withdraw } else { Work::Put };
            // A store that is not configured any more gets nothing; what it has is still withdrawn.
            if work == Work::Withdraw || store == OWN || stores.contains(&store) {
                plan.work.insert(Target { code, store }, (work, state != "published"));
            }
        }
        Ok(plan)
    }

    /// What goes to stores of this code.
    pub fn parcel(&self, number: i64) -> rusqlite::Result<Option<Parcel>> {
        self.0
            .prepare_cached("SELECT lookup, blob, owner_token, expires_ms FROM code WHERE number = ?1")?
            .query_row([number], |row| {
                let token: String = row.get(2)?;
                Ok(Parcel {
                    lookup: Lookup(row.get(0)?),
                    blob: row.get(1)?,
                    token: OwnerToken::parse(&token)
                        .ok_or_else(|| rusqlite::Error::InvalidColumnType(2, "owner_token".to_owned(), Type::Text))?,
                    expires_ms: row.get::<_, i64>(3)?.unsigned_abs(),
                })
            })
            .optional()
    }

    /// Notes what came of bringing a payload there; whether that is news. What is being withdrawn stays so.
    pub fn set_put(
        &self,
        target: &Target,
        state: PublicationState,
        reason: Option<&Failure>,
        now_ms: i64,
    ) -> rusqlite::Result<bool> {
        let state = if state == PublicationState::Published { "published" } else { "failed" };
        let reason = reason.map(to_json).transpose()?;
        let changed = self
            .0
            .prepare_cached(
                "UPDATE publication SET state = ?3, reason = ?4, since_ms = ?5 WHERE code = ?1 AND store = ?2
                   AND state NOT IN ('withdrawing', 'withdrawn') AND (state IS NOT ?3 OR reason IS NOT ?4)",
            )?
            .execute(params![target.code, target.store, state, reason, now_ms])?;
        Ok(changed > 0 && target.store != OWN)
    }

    /// It was taken away; with `before`, only if that was to happen before that time already.
    pub fn set_withdrawn(&self, target: &Target, before: Option<i64>) -> rusqlite::Result<bool> {
        self.0
            .prepare_cached(
                "UPDATE publication SET state = 'withdrawn' WHERE code = ?1 AND store = ?2 AND state = 'withdrawing'
                   AND (?3 IS NULL OR since_ms < ?3)",
            )?
            .execute(params![target.code, target.store, before])?;
        // It was shown as withdrawn before.
        Ok(false)
    }

    /// How it is with one code's payload at the stores of others.
    pub fn publications(&self, number: i64) -> rusqlite::Result<Vec<Published>> {
        self.0
            .prepare_cached(
                "SELECT code, store, state, reason, since_ms FROM publication WHERE code = ?1 AND store <> ''",
            )?
            .query_map([number], |row| Ok(published(row)?.1))?
            .collect()
    }

    /// The same for all codes, by their rows.
    pub fn all_publications(&self) -> rusqlite::Result<BTreeMap<i64, Vec<Published>>> {
        let mut all: BTreeMap<i64, Vec<_>> = BTreeMap::new();
        let mut statement =
            self.0.prepare_cached("SELECT code, store, state, reason, since_ms FROM publication WHERE store <> ''")?;
        for row in statement.query_map([], published)? {
            let (code, published) = row?;
            all.entry(code).or_default().push(published);
        }
        Ok(all)
    }
}

fn published(row: &Row<'_>) -> rusqlite::Result<(i64, Published)> {
    let (state, reason): (String, Option<String>) = (row.get(2)?, row.get(3)?);
    let state = match state.as_str() {
        "waiting" => PublicationState::Waiting,
        "published" => PublicationState::Published,
        "failed" => PublicationState::Failed,
        _ => PublicationState::Withdrawn,
    };
    let reason = reason.and_then(|reason| serde_json::from_str(&reason).ok());
    Ok((row.get(0)?, Published { store: row.get(1)?, state, reason, since_ms: row.get(4)? }))
}
