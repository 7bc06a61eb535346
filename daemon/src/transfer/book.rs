//! What is written down of transfers. Every function is a statement or two; whoever calls decides on the transaction.

use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;

use kith_proto::control::types::{Conflict, Direction, Failure, OfferedEntry, Problem, TransferState};
use kith_proto::id::PublicKey;
use kith_proto::path::WirePath;
use kith_proto::peer::offer::{Item, Kind};
use rusqlite::{Connection, OptionalExtension, Row, Transaction, params};

use crate::files::SourceStat;
use crate::store::{json, to_json};

/// Entries that are read at once: some hundred bytes each.
pub const PAGE: usize = 1000;
/// Transfers that are over and still remembered.
pub const REMEMBERED: usize = 200;
/// Entries, problems and names that a view shows.
pub const SHOWN: usize = 100;

/// A transfer, as it is written down.
#[derive(Debug, Clone)]
pub struct Record {
    /// Its row; 0 before it has one.
    pub number: i64,
    /// The other device.
    pub peer: PublicKey,
    /// Which way it goes.
    pub direction: Direction,
    /// The name that both devices use.
    pub id: String,
    /// How far it is.
    pub state: TransferState,
    /// What the sender calls it.
    pub title: String,
    /// A text instead of files.
    pub text: Option<String>,
    /// Entries in the manifest.
    pub entries: u64,
    /// Bytes in all files.
    pub bytes: Option<u64>,
    /// Where it is received to.
    pub dir: Option<PathBuf>,
    /// What to do when a name exists.
    pub on_conflict: Conflict,
    /// With whose rights files are read: user and groups; our own when absent.
    pub caller: Option<(u32, Vec<u32>)>,
    /// Why it is over.
    pub reason: Option<Failure>,
    /// What could not be offered, beside the entries.
    pub skipped: u64,
    /// The first of them.
    pub skipped_why: Vec<Problem>,
    /// Whether the peer knows that it was called off.
    pub told: bool,
    /// When it was made.
    pub created_ms: i64,
    /// When it last changed.
    pub updated_ms: i64,
    /// When it is given up.
    pub expires_ms: i64,
}

/// What a view shows beside the record.
#[derive(Debug, Clone, Default)]
pub struct Details {
    /// Entries that are settled.
    pub entries_done: u64,
    /// Bytes of settled files.
    pub bytes_done: u64,
    /// The first entries.
    pub preview: Vec<OfferedEntry>,
    /// The first problems.
    pub problems: Vec<Problem>,
    /// All problems.
    pub problem_count: u64,
    /// The first top-level names as they were placed.
    pub placed: Vec<String>,
}

/// An entry of a transfer from this device.
#[derive(Debug, Clone)]
pub struct OutEntry {
    /// As the peer sees it.
    pub item: Item,
    /// Where it is here.
    pub source: PathBuf,
    /// What was there when it was offered.
    pub inode: u64,
}

/// Writes a record, and gives it a row if it has none.
pub fn save(tx: &Transaction<'_>, record: &Record) -> rusqlite::Result<i64> {
    let number = (record.number != 0).then_some(record.number);
    tx.prepare_cached(
        "INSERT INTO transfer (number, peer, direction, id, state, title, text, entries, bytes, dir, on_conflict,
                               caller, reason, told, created_ms, updated_ms, expires_ms, skipped, skipped_why)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19)
         ON CONFLICT (number) DO UPDATE SET state = ?5, entries = ?8, bytes = ?9, dir = ?10, on_conflict = ?11,
                               reason = ?13, told = ?14, updated_ms = ?16, expires_ms = ?17, skipped = ?18,
                               skipped_why = ?19",
    )?
    .execute(params![
        number,
        &record.peer.0[..],
        direction(record.direction),
        record.id,
        to_json(&record.state)?,
        record.title,
        record.text,
        record.entries,
        record.bytes,
        record.dir.as_ref().map(|dir| dir.to_string_lossy().into_owned()),
        to_json(&record.on_conflict)?,
        record.caller.as_ref().map(to_json).transpose()?,
        record.reason.as_ref().map(to_json).transpose()?,
        record.told,
        record.created_ms,
        record.updated_ms,
        record.expires_ms,
        record.skipped,
        to_json(&record.skipped_why)?
    ])?;
    Ok(number.unwrap_or_else(|| tx.last_insert_rowid()))
}

/// Everything that is remembered, oldest first, with what a view shows. Forgets the oldest of what is over.
pub fn load(tx: &Transaction<'_>) -> rusqlite::Result<Vec<(Record, Details)>> {
    tx.execute(
        "DELETE FROM transfer WHERE number IN (
           SELECT number FROM transfer WHERE state IN ('\"done\"', '\"rejected\"', '\"failed\"', '\"canceled\"') AND told
           ORDER BY updated_ms DESC LIMIT -1 OFFSET ?1)",
        [REMEMBERED],
    )?;
    // An offer that was cut off by a kill before its manifest was whole: it comes again from the start.
    tx.execute("DELETE FROM transfer WHERE direction = 'in' AND state = '\"preparing\"'", [])?;
    let mut statement = tx.prepare(
        "SELECT number, peer, direction, id, state, title, text, entries, bytes, dir, on_conflict, caller, reason,
                told, created_ms, updated_ms, expires_ms, skipped, skipped_why FROM transfer ORDER BY created_ms, number",
    )?;
    let records: Vec<Record> = statement.query_map([], record)?.collect::<Result<_, _>>()?;
    records.into_iter().map(|record| Ok((record.clone(), details(tx, record.number)?))).collect()
}

fn record(row: &Row<'_>) -> rusqlite::Result<Record> {
    let optional = |column| row.get_ref(column).map(|value| !matches!(value, rusqlite::types::ValueRef::Null));
    Ok(Record {
        number: row.get(0)?,
        peer: PublicKey(row.get(1)?),
        direction: if row.get::<_, String>(2)? == "in" { Direction::In } else { Direction::Out },
        id: row.get(3)?,
        state: json(row, 4)?,
        title: row.get(5)?,
        text: row.get(6)?,
        entries: row.get(7)?,
        bytes: row.get(8)?,
        dir: row.get::<_, Option<String>>(9)?.map(PathBuf::from),
        on_conflict: json(row, 10)?,
        caller: if optional(11)? { Some(json(row, 11)?) } else { None },
        reason: if optional(12)? { Some(json(row, 12)?) } else { None },
        told: row.get(13)?,
        created_ms: row.get(14)?,
        updated_ms: row.get(15)?,
        expires_ms: row.get(16)?,
        skipped: row.get(17)?,
        skipped_why: json(row, 18)?,
    })
}

/// What a view shows of the entries.
pub fn details(connection: &Connection, number: i64) -> rusqlite::Result<Details> {
    let (entries_done, bytes_done, problem_count) = connection
        .prepare_cached(
            "SELECT count(*), coalesce(sum(size), 0), count(*) FILTER (WHERE settled != '')
             FROM entry WHERE transfer = ?1 AND settled IS NOT NULL",
        )?
        .query_row([number], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
    let mut preview =
        connection.prepare_cached("SELECT path, kind, size FROM entry WHERE transfer = ?1 ORDER BY idx LIMIT ?2")?;
    let preview = preview.query_map(params![number, SHOWN], |row| {
        Ok(OfferedEntry { path: row.get(0)?, kind: row.get(1)?, size: row.get(2)?, media_type: None })
    })?;
    let mut problems = connection.prepare_cached(
        "SELECT path, settled FROM entry WHERE transfer = ?1 AND settled != '' ORDER BY idx LIMIT ?2",
    )?;
    let problems =
        problems.query_map(params![number, SHOWN], |row| Ok(Problem { path: row.get(0)?, reason: row.get(1)? }))?;
    let mut placed = connection.prepare_cached(
        "SELECT DISTINCT substr(placed, 1, instr(placed || '/', '/') - 1) FROM entry
         WHERE transfer = ?1 AND placed IS NOT NULL LIMIT ?2",
    )?;
    let placed = placed.query_map(params![number, SHOWN], |row| row.get(0))?;
    Ok(Details {
        entries_done,
        bytes_done,
        preview: preview.collect::<Result<_, _>>()?,
        problems: problems.collect::<Result<_, _>>()?,
        problem_count,
        placed: placed.collect::<Result<_, _>>()?,
    })
}

/// Adds entries of a transfer from this device.
pub fn add_out(tx: &Transaction<'_>, number: i64, entries: &[OutEntry]) -> rusqlite::Result<()> {
    for entry in entries {
        let source = Some((entry.source.as_os_str().as_bytes(), entry.inode.cast_signed()));
        add(tx, number, &entry.item, source)?;
    }
    Ok(())
}

/// Adds entries of a transfer to this device.
pub fn add_in(tx: &Transaction<'_>, number: i64, items: &[Item]) -> rusqlite::Result<()> {
    items.iter().try_for_each(|item| add(tx, number, item, None))
}

fn add(tx: &Transaction<'_>, number: i64, item: &Item, source: Option<(&[u8], i64)>) -> rusqlite::Result<()> {
    tx.prepare_cached(
        "INSERT INTO entry (transfer, idx, path, kind, size, mtime_ns, mode, target, source, inode)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)",
    )?
    .execute(params![
        number,
        item.index,
        item.path.as_str(),
        item.kind.as_str(),
        item.size,
        item.mtime_ns,
        item.mode,
        item.target,
        source.map(|(path, _)| path),
        source.map(|(_, inode)| inode)
    ])?;
    Ok(())
}

/// A manifest page that came again: a file whose size or time differs from before is open again. Says whether the
/// entries are those that were offered before; an answer to one offer is none to another.
pub fn merge_in(tx: &Transaction<'_>, number: i64, items: &[Item]) -> rusqlite::Result<bool> {
    let mut known = tx.prepare_cached(
        "SELECT 1 FROM entry WHERE transfer = ?1 AND idx = ?2 AND path = ?3 AND kind = ?4 AND target IS ?5",
    )?;
    let mut same = tx.prepare_cached(
        "SELECT 1 FROM entry WHERE transfer = ?1 AND idx = ?2 AND path = ?3 AND kind = ?4 AND size IS ?5
                               AND mtime_ns = ?6 AND target IS ?7",
    )?;
    for item in items {
        if !known.exists(params![number, item.index, item.path.as_str(), item.kind.as_str(), item.target])? {
            return Ok(false);
        }
        let found = same
            .query_row(
                params![
                    number,
                    item.index,
                    item.path.as_str(),
                    item.kind.as_str(),
                    item.size,
                    item.mtime_ns,
                    item.target
                ],
                |_| Ok(()),
            )
            .optional()?;
        if found.is_none() {
            tx.prepare_cached("DELETE FROM entry WHERE transfer = ?1 AND idx = ?2")?
                .execute(params![number, item.index])?;
            add(tx, number, item, None)?;
        }
    }
    Ok(true)
}

/// Entries from `from` on, in order; only open ones if `open`.
pub fn page(connection: &Connection, number: i64, from: u64, open: bool) -> rusqlite::Result<Vec<OutEntry>> {
    let mut statement = connection.prepare_cached(
        "SELECT idx, path, kind, size, mtime_ns, mode, target, source, inode FROM entry
         WHERE transfer = ?1 AND idx >= ?2 AND (NOT ?3 OR settled IS NULL) ORDER BY idx LIMIT ?4",
    )?;
    let rows = statement.query_map(params![number, from, open, PAGE], |row| {
        let kind: String = row.get(2)?;
        let path: String = row.get(1)?;
        let path = WirePath::parse(&path).map_err(|error| {
            rusqlite::Error::FromSqlConversionFailure(1, rusqlite::types::Type::Text, Box::new(error))
        })?;
        Ok(OutEntry {
            item: Item {
                index: row.get(0)?,
                path,
                kind: match kind.as_str() {
                    "dir" => Kind::Dir,
                    "symlink" => Kind::Symlink,
                    _ => Kind::File,
                },
                size: row.get(3)?,
                mtime_ns: row.get(4)?,
                mode: row.get(5)?,
                target: row.get(6)?,
            },
            source: row.get::<_, Option<Vec<u8>>>(7)?.map(std::ffi::OsString::from_vec).unwrap_or_default().into(),
            inode: row.get::<_, Option<i64>>(8)?.unwrap_or_default().cast_unsigned(),
        })
    })?;
    rows.collect()
}

/// Places in the manifest that are settled, from `from` on.
pub fn settled_page(connection: &Connection, number: i64, from: u64) -> rusqlite::Result<Vec<u64>> {
    let mut statement = connection.prepare_cached(
        "SELECT idx FROM entry WHERE transfer = ?1 AND idx >= ?2 AND settled IS NOT NULL ORDER BY idx LIMIT ?3",
    )?;
    statement.query_map(params![number, from, PAGE], |row| row.get(0))?.collect()
}

/// Settles an entry, once: `reason` is empty when it is in place.
pub fn settle(
    tx: &Transaction<'_>,
    number: i64,
    index: u64,
    reason: &str,
    placed: Option<&str>,
) -> rusqlite::Result<bool> {
    let changed = tx
        .prepare_cached(
            "UPDATE entry SET settled = ?3, placed = ?4 WHERE transfer = ?1 AND idx = ?2 AND settled IS NULL",
        )?
        .execute(params![number, index, reason, placed])?;
    Ok(changed > 0)
}

/// Opens what could not be delivered again.
pub fn reopen(tx: &Transaction<'_>, number: i64) -> rusqlite::Result<()> {
    tx.execute("UPDATE entry SET settled = NULL WHERE transfer = ?1 AND settled != ''", [number])?;
    Ok(())
}

/// A file is another than it was when it was offered.
pub fn changed(tx: &Transaction<'_>, number: i64, index: u64, size: u64, mtime_ns: i64) -> rusqlite::Result<()> {
    tx.prepare_cached("UPDATE entry SET size = ?3, mtime_ns = ?4 WHERE transfer = ?1 AND idx = ?2")?
        .execute(params![number, index, size, mtime_ns])?;
    Ok(())
}

/// A stream is complete: from now on it is a file like others.
pub fn complete(tx: &Transaction<'_>, number: i64, stat: &SourceStat) -> rusqlite::Result<()> {
    tx.execute(
        "UPDATE entry SET size = ?2, mtime_ns = ?3, inode = ?4 WHERE transfer = ?1",
        params![number, stat.size, stat.mtime_ns, stat.ino.cast_signed()],
    )?;
    Ok(())
}

/// Notes directories that a transfer made.
pub fn made(tx: &Transaction<'_>, number: i64, dirs: &[WirePath]) -> rusqlite::Result<()> {
    for dir in dirs {
        tx.prepare_cached("INSERT OR IGNORE INTO made_dir VALUES (?1, ?2)")?.execute(params![number, dir.as_str()])?;
    }
    Ok(())
}

/// Directories that a transfer made, innermost first.
pub fn made_dirs(connection: &Connection, number: i64) -> rusqlite::Result<Vec<WirePath>> {
    let mut statement = connection.prepare("SELECT path FROM made_dir WHERE transfer = ?1 ORDER BY path DESC")?;
    let paths: Vec<String> = statement.query_map([number], |row| row.get(0))?.collect::<Result<_, _>>()?;
    Ok(paths.iter().filter_map(|path| WirePath::parse(path).ok()).collect())
}

/// Bytes that arrived from `peer` since `since_ms`.
pub fn received_since(connection: &Connection, peer: &PublicKey, since_ms: i64) -> rusqlite::Result<u64> {
    connection.query_row(
        "SELECT coalesce(sum(size), 0) FROM entry JOIN transfer ON number = transfer
         WHERE peer = ?1 AND direction = 'in' AND updated_ms >= ?2 AND settled = ''",
        params![&peer.0[..], since_ms],
        |row| row.get(0),
    )
}

/// Forgets a transfer.
pub fn forget(tx: &Transaction<'_>, number: i64) -> rusqlite::Result<()> {
    tx.execute("DELETE FROM transfer WHERE number = ?1", [number])?;
    Ok(())
}

fn direction(direction: Direction) -> &'static str {
    match direction {
        Direction::In => "in",
        Direction::Out => "out",
    }
}

/// The entries of one transfer again, all of them open, for another.
pub fn copy_entries(tx: &Transaction<'_>, from: i64, to: i64) -> rusqlite::Result<()> {
    tx.execute(
        "INSERT INTO entry (transfer, idx, path, kind, size, mtime_ns, mode, target, source, inode)
         SELECT ?2, idx, path, kind, size, mtime_ns, mode, target, source, inode FROM entry WHERE transfer = ?1",
        [from, to],
    )?;
    Ok(())
}

/// Bytes in all files of a transfer.
pub fn total(connection: &Connection, number: i64) -> rusqlite::Result<u64> {
    connection.query_row("SELECT coalesce(sum(size), 0) FROM entry WHERE transfer = ?1", [number], |row| row.get(0))
}

/// The path of an entry.
pub fn path(connection: &Connection, number: i64, index: u64) -> rusqlite::Result<String> {
    connection
        .prepare_cached("SELECT path FROM entry WHERE transfer = ?1 AND idx = ?2")?
        .query_row(params![number, index], |row| row.get(0))
}

/// The directories of a transfer and the times that they had, innermost first.
pub fn dir_times(connection: &Connection, number: i64) -> rusqlite::Result<Vec<(WirePath, i64)>> {
    let mut statement = connection.prepare(
        "SELECT path, mtime_ns FROM entry WHERE transfer = ?1 AND kind = 'dir' AND settled = '' ORDER BY path DESC",
    )?;
    let rows = statement.query_map([number], |row| Ok((row.get::<_, String>(0)?, row.get(1)?)))?;
    let dirs: Vec<(String, i64)> = rows.collect::<Result<_, _>>()?;
    Ok(dirs.into_iter().filter_map(|(path, time)| Some((WirePath::parse(&path).ok()?, time))).collect())
}
