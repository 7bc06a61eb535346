//! What is written down of codes: SQL, and nothing else.

use kith_proto::control::code::{CodeState, RequestState};
use kith_proto::guest::hello::OwnerToken;
use kith_proto::id::PublicKey;
use kith_proto::limits;
use kith_proto::peer::journal::version::JournalId;
use rusqlite::{Connection, OptionalExtension, Row, params};

/// A code, without what only its publication needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Code {
    /// Its row.
    pub number: i64,
    /// 8 hex digits.
    pub id: String,
    pub label: String,
    pub kind: String,
    pub resource: JournalId,
    /// What the resource was called.
    pub name: String,
    pub permission: String,
    /// Whether somebody is asked.
    pub ask: bool,
    pub created_ms: i64,
    pub expires_ms: i64,
    /// `None`: without a count.
    pub uses: Option<u32>,
    pub used: u32,
    /// What was said to somebody, or decided here.
    pub ended: Option<Ended>,
    pub ended_ms: Option<i64>,
}

/// Ends that hold whatever a clock says later.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// Somebody was told so.
    Expired,
    /// It was withdrawn.
    Revoked,
}

impl Code {
    /// How it is at this moment. A clock that is set back brings a code back, unless somebody heard that it is over.
    pub fn state(&self, now_ms: i64) -> CodeState {
        match self.ended {
            Some(Ended::Revoked) => CodeState::Revoked,
            Some(Ended::Expired) => CodeState::Expired,
            None if now_ms >= self.expires_ms => CodeState::Expired,
            None if self.left() == Some(0) => CodeState::UsedUp,
            None => CodeState::Active,
        }
    }

    /// How many uses are left, if they are counted.
    pub fn left(&self) -> Option<u32> {
        self.uses.map(|uses| uses.saturating_sub(self.used))
    }

    /// Whether a request may not be answered any more.
    pub fn is_lapsed(&self, now_ms: i64) -> bool {
        now_ms.saturating_sub(self.expires_ms) >= limits::JOIN_GRACE_MS as i64
    }
}

/// What a new code brings along.
pub struct NewCode {
    /// As it will be, except for its row and its id.
    pub code: Code,
    pub lookup: [u8; 32],
    pub proof: [u8; 32],
    /// By which stores let it be withdrawn.
    pub owner_token: OwnerToken,
    /// The sealed payload.
    pub blob: Vec<u8>,
}

/// Who came by a code.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Redeemed {
    pub device: PublicKey,
    pub name: String,
    pub at_ms: i64,
    /// The device was not trusted before.
    pub new_trust: bool,
    pub expelled_ms: Option<i64>,
}

/// A device that came by a code of which somebody is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// 8 hex digits.
    pub id: String,
    /// The code's row.
    pub code: i64,
    pub device: PublicKey,
    pub name: String,
    pub address: String,
    pub port: u16,
    pub created_ms: i64,
    pub state: RequestState,
    pub answered_ms: Option<i64>,
}

/// All codes, within one transaction (or read).
pub struct Book<'t>(pub &'t Connection);

const CODE: &str = "code.number, code.id, code.label, code.kind, code.resource, code.name, code.permission, code.ask,
    code.created_ms, code.expires_ms, code.uses, code.used, code.ended, code.ended_ms";
const REQUEST: &str = "join_request.id, join_request.code, join_request.device, join_request.name,
    join_request.address, join_request.port, join_request.created_ms, join_request.state, join_request.answered_ms";

impl Book<'_> {
    /// How many codes are kept, those that are over included.
    pub fn count(&self) -> rusqlite::Result<usize> {
        self.0.prepare_cached("SELECT count(*) FROM code")?.query_row([], |row| row.get(0))
    }

    /// Adds a code under an id that no other one has; the code as it is now.
    pub fn insert(&self, new: &NewCode, id: &str, stores: &[String]) -> rusqlite::Result<Code> {
        let NewCode { code, lookup, proof, owner_token, blob } = new;
        self.0
            .prepare_cached(
                "INSERT INTO code (id, lookup, proof, owner_token, blob, label, kind, resource, name, permission, ask,
                                   created_ms, expires_ms, uses)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14)",
            )?
            .execute(params![
                id,
                lookup,
                proof,
                owner_token.expose(),
                blob,
                code.label,
                code.kind,
                code.resource.0,
                code.name,
                code.permission,
                code.ask,
                code.created_ms,
                code.expires_ms,
                code.uses
            ])?;
        let number = self.0.last_insert_rowid();
        let mut publication = self.0.prepare_cached(
            "INSERT OR IGNORE INTO publication (code, store, state, since_ms) VALUES (?1, ?2, 'waiting', ?3)",
        )?;
        for store in stores {
            publication.execute(params![number, store, code.created_ms])?;
        }
        Ok(Code { number, id: id.to_owned(), ..code.clone() })
    }

    /// Whether an id is taken, by a code or a request.
    pub fn is_taken(&self, id: &str) -> rusqlite::Result<bool> {
        self.0
            .prepare_cached("SELECT 1 FROM code WHERE id = ?1 UNION SELECT 1 FROM join_request WHERE id = ?1")?
            .exists([id])
    }

    /// All codes, newest first.
    pub fn codes(&self) -> rusqlite::Result<Vec<Code>> {
        let sql = format!("SELECT {CODE} FROM code ORDER BY number DESC");
        self.0.prepare_cached(&sql)?.query_map([], code)?.collect()
    }

    /// The code in this row.
    pub fn code(&self, number: i64) -> rusqlite::Result<Option<Code>> {
        let sql = format!("SELECT {CODE} FROM code WHERE number = ?1");
        self.0.prepare_cached(&sql)?.query_row([number], code).optional()
    }

    /// The code that this proof key belongs to.
    pub fn proven_by(&self, proof: &[u8; 32]) -> rusqlite::Result<Option<Code>> {
        let sql = format!("SELECT {CODE} FROM code WHERE proof = ?1");
        self.0.prepare_cached(&sql)?.query_row([proof], code).optional()
    }

    /// Whether any code lets devices in at this moment, or did a day ago: whoever is late is told why it does not.
    pub fn any_lately(&self, now_ms: i64) -> rusqlite::Result<bool> {
        let sql = "SELECT 1 FROM code WHERE expires_ms > ?1 AND coalesce(ended_ms > ?1, TRUE)
            AND (uses IS NULL OR used < uses OR EXISTS (SELECT 1 FROM redemption WHERE code = number AND at_ms > ?1))
            LIMIT 1";
        self.0.prepare_cached(sql)?.exists([now_ms.saturating_sub(LATELY_MS)])
    }

    /// From now on, a code is over.
    pub fn end(&self, number: i64, ended: Ended, now_ms: i64) -> rusqlite::Result<()> {
        let ended = match ended {
            Ended::Expired => "expired",
            Ended::Revoked => "revoked",
        };
        self.0
            .prepare_cached("UPDATE code SET ended = ?2, ended_ms = ?3 WHERE number = ?1 AND ended IS NULL")?
            .execute(params![number, ended, now_ms])?;
        Ok(())
    }

    /// Counts a use.
    pub fn take_use(&self, number: i64) -> rusqlite::Result<()> {
        self.0.prepare_cached("UPDATE code SET used = used + 1 WHERE number = ?1")?.execute([number])?;
        Ok(())
    }

    /// Notes who came by a code.
    pub fn redeem(&self, number: i64, redeemed: &Redeemed) -> rusqlite::Result<()> {
        let Redeemed { device, name, at_ms, new_trust, .. } = redeemed;
        self.0
            .prepare_cached(
                "INSERT INTO redemption (code, device, name, at_ms, new_trust) VALUES (?1, ?2, ?3, ?4, ?5)",
            )?
            .execute(params![number, device.0, name, at_ms, new_trust])?;
        Ok(())
    }

    /// Whether, and how, a device came by a code.
    pub fn redemption(&self, number: i64, device: &PublicKey) -> rusqlite::Result<Option<Redeemed>> {
        self.0
            .prepare_cached(
                "SELECT device, name, at_ms, new_trust, expelled_ms FROM redemption WHERE code = ?1 AND device = ?2",
            )?
            .query_row(params![number, device.0], redeemed)
            .optional()
    }

    /// Who came by a code, the last first.
    pub fn redemptions(&self, number: i64, most: usize) -> rusqlite::Result<Vec<Redeemed>> {
        self.0
            .prepare_cached(
                "SELECT device, name, at_ms, new_trust, expelled_ms FROM redemption WHERE code = ?1
                 ORDER BY at_ms DESC, device LIMIT ?2",
            )?
            .query_map(params![number, most], redeemed)?
            .collect()
    }

    /// A device that came by a code is out from now on.
    pub fn set_expelled(&self, number: i64, device: &PublicKey, now_ms: i64) -> rusqlite::Result<()> {
        self.0
            .prepare_cached("UPDATE redemption SET expelled_ms = ?3 WHERE code = ?1 AND device = ?2")?
            .execute(params![number, device.0, now_ms])?;
        Ok(())
    }

    /// When a device was put out together with a code for this resource, the last time.
    pub fn expelled_ms(&self, resource: &JournalId, device: &PublicKey) -> rusqlite::Result<Option<i64>> {
        self.0
            .prepare_cached(
                "SELECT max(expelled_ms) FROM code JOIN redemption ON redemption.code = code.number
                 WHERE code.resource = ?1 AND redemption.device = ?2",
            )?
            .query_row(params![resource.0, device.0], |row| row.get(0))
    }

    /// Adds a request.
    pub fn ask(&self, request: &Request) -> rusqlite::Result<()> {
        let Request { id, code, device, name, address, port, created_ms, .. } = request;
        self.0
            .prepare_cached(
                "INSERT INTO join_request (id, code, device, name, address, port, created_ms, state)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, 'waiting')",
            )?
            .execute(params![id, code, device.0, name, address, port, created_ms])?;
        Ok(())
    }

    /// What a device asked for by a code.
    pub fn request_of(&self, number: i64, device: &PublicKey) -> rusqlite::Result<Option<Request>> {
        let sql = format!("SELECT {REQUEST} FROM join_request WHERE code = ?1 AND device = ?2");
        self.0.prepare_cached(&sql)?.query_row(params![number, device.0], request).optional()
    }

    /// A request, and its code.
    pub fn request(&self, id: &str) -> rusqlite::Result<Option<(Request, Code)>> {
        let sql = format!(
            "SELECT {CODE}, {REQUEST} FROM join_request JOIN code ON code.number = join_request.code
             WHERE join_request.id = ?1"
        );
        let both = |row: &Row<'_>| Ok((request_at(row, CODE_COLUMNS)?, code(row)?));
        self.0.prepare_cached(&sql)?.query_row([id], both).optional()
    }

    /// The requests whose id begins so, two at most.
    pub fn requests_like(&self, prefix: &str) -> rusqlite::Result<Vec<Request>> {
        let sql = format!("SELECT {REQUEST} FROM join_request WHERE substr(id, 1, length(?1)) = ?1 LIMIT 2");
        self.0.prepare_cached(&sql)?.query_map([prefix], request)?.collect()
    }

    /// Requests that wait and may still be answered, with their codes, the oldest first.
    pub fn waiting(&self, now_ms: i64) -> rusqlite::Result<Vec<(Request, Code)>> {
        let sql = format!(
            "SELECT {CODE}, {REQUEST} FROM join_request JOIN code ON code.number = join_request.code
             WHERE {WAITING} ORDER BY join_request.created_ms, join_request.id"
        );
        let since = now_ms.saturating_sub(limits::JOIN_GRACE_MS as i64);
        self.0
            .prepare_cached(&sql)?
            .query_map([since], |row| Ok((request_at(row, CODE_COLUMNS)?, code(row)?)))?
            .collect()
    }

    /// How many there are of these.
    pub fn waiting_count(&self, now_ms: i64) -> rusqlite::Result<usize> {
        let sql =
            format!("SELECT count(*) FROM join_request JOIN code ON code.number = join_request.code WHERE {WAITING}");
        self.0.prepare_cached(&sql)?.query_row([now_ms.saturating_sub(limits::JOIN_GRACE_MS as i64)], |row| row.get(0))
    }

    /// The same for one code.
    pub fn waiting_for(&self, number: i64) -> rusqlite::Result<Vec<Request>> {
        let sql = format!("SELECT {REQUEST} FROM join_request WHERE code = ?1 AND state = 'waiting'");
        self.0.prepare_cached(&sql)?.query_map([number], request)?.collect()
    }

    /// Answers a request.
    pub fn answer(&self, id: &str, state: RequestState, now_ms: i64) -> rusqlite::Result<()> {
        let state = if state == RequestState::Accepted { "accepted" } else { "denied" };
        self.0
            .prepare_cached("UPDATE join_request SET state = ?2, answered_ms = ?3 WHERE id = ?1")?
            .execute(params![id, state, now_ms])?;
        Ok(())
    }

    /// Forgets codes that ended so long ago that nobody comes with them any more. One look is not enough, as a clock
    /// may be wrong for a while: a code has to be found so in `rounds` rounds. How many are gone.
    pub fn sweep(&self, now_ms: i64, rounds: u32) -> rusqlite::Result<usize> {
        let over = "max(expires_ms, coalesce(ended_ms, 0)) < ?1";
        let before = now_ms.saturating_sub(limits::CODE_KEPT_MS as i64);
        self.0.execute(&format!("UPDATE code SET stale = 0 WHERE stale > 0 AND NOT {over}"), [before])?;
        self.0.execute(&format!("UPDATE code SET stale = stale + 1 WHERE {over}"), [before])?;
        self.0.execute("DELETE FROM code WHERE stale >= ?1", [rounds])
    }
}

/// So long after a code is over, whoever comes with it finds its payload here, and hears from this device why it is.
const LATELY_MS: i64 = 86_400_000;
/// SQL for a code that lets devices in at the time `?1`.
pub const LIVE: &str = "code.ended IS NULL AND code.expires_ms > ?1 AND (code.uses IS NULL OR code.used < code.uses)";
/// SQL for a request that may still be answered, with its code; `?1` is a day ago.
const WAITING: &str = "join_request.state = 'waiting' AND code.expires_ms > ?1 AND code.ended IS NOT 'revoked'
    AND (code.uses IS NULL OR code.used < code.uses)";
/// How many columns [`CODE`] has.
const CODE_COLUMNS: usize = 14;

fn code(row: &Row<'_>) -> rusqlite::Result<Code> {
    let ended: Option<String> = row.get(12)?;
    Ok(Code {
        number: row.get(0)?,
        id: row.get(1)?,
        label: row.get(2)?,
        kind: row.get(3)?,
        resource: JournalId(row.get(4)?),
        name: row.get(5)?,
        permission: row.get(6)?,
        ask: row.get(7)?,
        created_ms: row.get(8)?,
        expires_ms: row.get(9)?,
        uses: row.get(10)?,
        used: row.get(11)?,
        ended: ended.map(|ended| if ended == "revoked" { Ended::Revoked } else { Ended::Expired }),
        ended_ms: row.get(13)?,
    })
}

fn redeemed(row: &Row<'_>) -> rusqlite::Result<Redeemed> {
    Ok(Redeemed {
        device: PublicKey(row.get(0)?),
        name: row.get(1)?,
        at_ms: row.get(2)?,
        new_trust: row.get(3)?,
        expelled_ms: row.get(4)?,
    })
}

fn request(row: &Row<'_>) -> rusqlite::Result<Request> {
    request_at(row, 0)
}

fn request_at(row: &Row<'_>, first: usize) -> rusqlite::Result<Request> {
    let state: String = row.get(first + 7)?;
    Ok(Request {
        id: row.get(first)?,
        code: row.get(first + 1)?,
        device: PublicKey(row.get(first + 2)?),
        name: row.get(first + 3)?,
        address: row.get(first + 4)?,
        port: row.get(first + 5)?,
        created_ms: row.get(first + 6)?,
        state: match state.as_str() {
            "waiting" => RequestState::Waiting,
            "accepted" => RequestState::Accepted,
            _ => RequestState::Denied,
        },
        answered_ms: row.get(first + 8)?,
    })
}
