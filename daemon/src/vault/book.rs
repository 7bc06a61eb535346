//! What is written down. Every function is a statement or two; whoever calls decides on the transaction.

use kith_proto::control::ApiError;
use kith_proto::control::credential::{self as c, ShareKind, VaultMode};
use kith_proto::credential::{DatabaseFields, SecretType, Slot};
use kith_proto::id::PublicKey;
use kith_proto::secret_text::SecretText;
use kith_proto::text;
use rusqlite::{Connection, OptionalExtension, Row, Transaction, params};

use super::Offered;
use super::key::unusable;
use super::seal::{Opened, Stretch};
use crate::clock;

/// The vault's row.
#[derive(Debug)]
pub struct Record {
    /// Bound into everything that is sealed.
    pub id: [u8; 16],
    /// What the key comes from that wraps the data key.
    pub mode: VaultMode,
    /// The data key.
    pub wrapped: Vec<u8>,
    /// How the passphrase becomes a key.
    pub stretch: Option<Stretch>,
    /// The fingerprint of the key file that this took the place of.
    pub replaced: Option<[u8; 32]>,
}

/// A secret as it is written down.
#[derive(Debug)]
pub struct SecretRow {
    /// Its row.
    pub id: i64,
    /// Its name.
    pub name: String,
    /// What its value is, in words of the database.
    pub kind: SecretType,
    /// Counts its seals.
    pub revision: i64,
    /// The value.
    pub sealed: Vec<u8>,
    /// When it was made.
    pub created_ms: i64,
    /// When it last changed.
    pub updated_ms: i64,
}

/// A database as it is written down.
#[derive(Debug)]
pub struct DatabaseRow {
    /// Its row.
    pub id: i64,
    /// All of it but its secrets.
    pub fields: DatabaseFields,
    /// Its secrets.
    pub links: Links,
    /// Their names.
    pub names: [Option<String>; 3],
    /// When it was added.
    pub created_ms: i64,
    /// When it last changed.
    pub updated_ms: i64,
}

/// The rows of the secrets of a database, in the order of [`Slot::ALL`].
pub type Links = [Option<i64>; 3];

impl SecretRow {
    /// The value, if the row is as it was sealed.
    pub fn open(&self, key: &Opened) -> Result<SecretText, ApiError> {
        let plain = key.open_secret(&self.name, self.kind.name(), self.revision, &self.sealed);
        let text = plain.and_then(|mut plain| String::from_utf8(std::mem::take(&mut *plain)).ok());
        text.map(SecretText::new).ok_or_else(|| {
            let name = text::printable(&self.name);
            unusable(format!("the secret {name} was changed behind the vault's back and cannot be read"))
                .hint("give it its value again: kithctl secrets edit; or remove it")
        })
    }

    /// The secret as it is shown.
    pub fn view(&self, used_by: Vec<String>) -> c::Secret {
        c::Secret {
            name: self.name.clone(),
            kind: self.kind,
            created: clock::rfc3339(self.created_ms),
            updated: clock::rfc3339(self.updated_ms),
            used_by,
        }
    }
}

impl DatabaseRow {
    /// The database as it is shown.
    pub fn view(&self) -> c::Database {
        let [s3, encryption, geocoding] = self.names.clone();
        c::Database {
            name: self.fields.name.clone(),
            description: self.fields.description.clone(),
            path: self.fields.path.clone(),
            origin: self.fields.origin.clone(),
            s3,
            encryption,
            geocoding,
            created: clock::rfc3339(self.created_ms),
            updated: clock::rfc3339(self.updated_ms),
        }
    }
}

/// The mode's name, in the database and where it is bound.
pub fn mode_name(mode: VaultMode) -> &'static str {
    match mode {
        VaultMode::Credential => "credential",
        VaultMode::Passphrase => "passphrase",
        VaultMode::File | VaultMode::Unknown => "file",
    }
}

// ---- the vault

pub fn record(c: &Connection) -> rusqlite::Result<Option<Record>> {
    let sql = "SELECT id, mode, wrapped, salt, memory_kib, passes, lanes, replaced FROM vault";
    c.query_row(sql, [], |row| {
        let mode = match row.get::<_, String>(1)?.as_str() {
            "credential" => VaultMode::Credential,
            "passphrase" => VaultMode::Passphrase,
            _ => VaultMode::File,
        };
        let stretch = match row.get::<_, Option<[u8; 16]>>(3)? {
            Some(salt) => Some(Stretch { salt, memory_kib: row.get(4)?, passes: row.get(5)?, lanes: row.get(6)? }),
            None => None,
        };
        Ok(Record { id: row.get(0)?, mode, wrapped: row.get(2)?, stretch, replaced: row.get(7)? })
    })
    .optional()
}

pub fn set_record(tx: &Transaction<'_>, record: &Record) -> rusqlite::Result<()> {
    let stretch = record.stretch.as_ref();
    tx.execute(
        "INSERT INTO vault (one, id, mode, wrapped, salt, memory_kib, passes, lanes, replaced)
         VALUES (1, ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)
         ON CONFLICT (one) DO UPDATE SET mode = excluded.mode, wrapped = excluded.wrapped, salt = excluded.salt,
           memory_kib = excluded.memory_kib, passes = excluded.passes, lanes = excluded.lanes,
           replaced = excluded.replaced",
        params![
            record.id,
            mode_name(record.mode),
            record.wrapped,
            stretch.map(|it| it.salt),
            stretch.map(|it| it.memory_kib),
            stretch.map(|it| it.passes),
            stretch.map(|it| it.lanes),
            record.replaced,
        ],
    )?;
    Ok(())
}

/// Secrets and databases.
pub fn counts(c: &Connection) -> rusqlite::Result<(u64, u64)> {
    let sql = "SELECT (SELECT count(*) FROM secret), (SELECT count(*) FROM database)";
    c.query_row(sql, [], |row| Ok((row.get(0)?, row.get(1)?)))
}

// ---- secrets

const SECRET: &str = "SELECT id, name, type, revision, sealed, created_ms, updated_ms FROM secret";

fn secret_row(row: &Row<'_>) -> rusqlite::Result<SecretRow> {
    Ok(SecretRow {
        id: row.get(0)?,
        name: row.get(1)?,
        kind: SecretType::parse(&row.get::<_, String>(2)?).unwrap_or(SecretType::Unknown),
        revision: row.get(3)?,
        sealed: row.get(4)?,
        created_ms: row.get(5)?,
        updated_ms: row.get(6)?,
    })
}

/// The secret of this name, whatever the case.
pub fn secret(c: &Connection, name: &str) -> rusqlite::Result<Option<SecretRow>> {
    let mut statement = c.prepare_cached(&format!("{SECRET} WHERE folded = ?1"))?;
    statement.query_row([text::fold(name)], secret_row).optional()
}

pub fn secret_by_id(c: &Connection, id: i64) -> rusqlite::Result<Option<SecretRow>> {
    let mut statement = c.prepare_cached(&format!("{SECRET} WHERE id = ?1"))?;
    statement.query_row([id], secret_row).optional()
}

/// Every secret as it is shown, by name.
pub fn secrets(c: &Connection) -> rusqlite::Result<Vec<c::Secret>> {
    let mut used = c.prepare(USED_BY)?;
    let sql = "SELECT id, name, type, revision, x'', created_ms, updated_ms FROM secret ORDER BY folded";
    let mut statement = c.prepare(sql)?;
    let rows = statement.query_map([], secret_row)?;
    rows.map(|row| {
        let row = row?;
        let used_by = used.query_map([row.id], |row| row.get(0))?.collect::<Result<_, _>>()?;
        Ok(row.view(used_by))
    })
    .collect()
}

const USED_BY: &str = "SELECT name FROM database WHERE s3 = ?1 OR encryption = ?1 OR geocoding = ?1 ORDER BY folded";

/// The names of the databases that use a secret.
pub fn used_by(c: &Connection, id: i64) -> rusqlite::Result<Vec<String>> {
    c.prepare_cached(USED_BY)?.query_map([id], |row| row.get(0))?.collect()
}

/// Writes a new secret, or a changed one where `row.id` is one; returns its row.
pub fn put_secret(tx: &Transaction<'_>, row: &SecretRow) -> rusqlite::Result<i64> {
    let folded = text::fold(&row.name);
    if row.id != 0 {
        let sql = "UPDATE secret SET name = ?2, folded = ?3, type = ?4, revision = ?5, sealed = ?6, updated_ms = ?7
                   WHERE id = ?1";
        let mut statement = tx.prepare_cached(sql)?;
        statement.execute(params![
            row.id,
            row.name,
            folded,
            row.kind.name(),
            row.revision,
            row.sealed,
            row.updated_ms
        ])?;
        return Ok(row.id);
    }
    let sql = "INSERT INTO secret (name, folded, type, revision, sealed, created_ms, updated_ms)
               VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)";
    let mut statement = tx.prepare_cached(sql)?;
    statement.insert(params![
        row.name,
        folded,
        row.kind.name(),
        row.revision,
        row.sealed,
        row.created_ms,
        row.updated_ms
    ])
}

pub fn delete_secret(tx: &Transaction<'_>, id: i64) -> rusqlite::Result<()> {
    tx.execute("DELETE FROM secret WHERE id = ?1", [id])?;
    Ok(())
}

// ---- databases

const DATABASE: &str = "SELECT d.id, d.name, d.description, d.path, d.origin, d.s3, d.encryption, d.geocoding,
    s.name, e.name, g.name, d.created_ms, d.updated_ms FROM database AS d
    LEFT JOIN secret AS s ON s.id = d.s3 LEFT JOIN secret AS e ON e.id = d.encryption
    LEFT JOIN secret AS g ON g.id = d.geocoding";

fn database_row(row: &Row<'_>) -> rusqlite::Result<DatabaseRow> {
    Ok(DatabaseRow {
        id: row.get(0)?,
        fields: DatabaseFields { name: row.get(1)?, description: row.get(2)?, path: row.get(3)?, origin: row.get(4)? },
        links: [row.get(5)?, row.get(6)?, row.get(7)?],
        names: [row.get(8)?, row.get(9)?, row.get(10)?],
        created_ms: row.get(11)?,
        updated_ms: row.get(12)?,
    })
}

/// The database of this name, whatever the case.
pub fn database(c: &Connection, name: &str) -> rusqlite::Result<Option<DatabaseRow>> {
    let mut statement = c.prepare_cached(&format!("{DATABASE} WHERE d.folded = ?1"))?;
    statement.query_row([text::fold(name)], database_row).optional()
}

/// Every database, by name.
pub fn databases(c: &Connection) -> rusqlite::Result<Vec<DatabaseRow>> {
    c.prepare(&format!("{DATABASE} ORDER BY d.folded"))?.query_map([], database_row)?.collect()
}

/// Writes a new database, or a changed one where `id` is one.
pub fn put_database(
    tx: &Transaction<'_>,
    id: Option<i64>,
    fields: &DatabaseFields,
    links: &Links,
    now_ms: i64,
) -> rusqlite::Result<()> {
    let folded = text::fold(&fields.name);
    let [s3, encryption, geocoding] = links;
    tx.execute(
        "INSERT INTO database
           (id, name, folded, description, path, origin, s3, encryption, geocoding, created_ms, updated_ms)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?10)
         ON CONFLICT (id) DO UPDATE SET name = excluded.name, folded = excluded.folded,
           description = excluded.description, path = excluded.path, origin = excluded.origin, s3 = excluded.s3,
           encryption = excluded.encryption, geocoding = excluded.geocoding, updated_ms = excluded.updated_ms",
        params![
            id,
            fields.name,
            folded,
            fields.description,
            fields.path,
            fields.origin,
            s3,
            encryption,
            geocoding,
            now_ms
        ],
    )?;
    Ok(())
}

pub fn delete_database(tx: &Transaction<'_>, id: i64) -> rusqlite::Result<()> {
    tx.execute("DELETE FROM database WHERE id = ?1", [id])?;
    Ok(())
}

/// The place of a slot in [`Links`].
pub fn place(slot: Slot) -> Option<usize> {
    Slot::ALL.iter().position(|it| *it == slot)
}

// ---- what devices handed over

/// Something that a device handed over, sealed.
pub struct OfferedRow {
    /// What may be known of it.
    pub offered: Offered,
    /// The payload.
    pub sealed: Vec<u8>,
}

fn offered_row(row: &Row<'_>) -> rusqlite::Result<Offered> {
    let kind = if row.get::<_, String>(2)? == "secret" { ShareKind::Secret } else { ShareKind::Database };
    Ok(Offered { id: row.get(0)?, peer: PublicKey(row.get(1)?), kind, name: row.get(3)?, created_ms: row.get(4)? })
}

pub fn offered(c: &Connection) -> rusqlite::Result<Vec<Offered>> {
    let sql = "SELECT id, peer, kind, name, created_ms FROM share_inbox ORDER BY created_ms, rowid";
    c.prepare(sql)?.query_map([], offered_row)?.collect()
}

pub fn one_offered(c: &Connection, id: &str) -> rusqlite::Result<Option<OfferedRow>> {
    let sql = "SELECT id, peer, kind, name, created_ms, sealed FROM share_inbox WHERE id = ?1";
    let row = |row: &Row<'_>| Ok(OfferedRow { offered: offered_row(row)?, sealed: row.get(5)? });
    c.query_row(sql, [id], row).optional()
}

pub fn offered_of(c: &Connection, peer: &PublicKey) -> rusqlite::Result<usize> {
    c.query_row("SELECT count(*) FROM share_inbox WHERE peer = ?1", [peer.0], |row| row.get(0))
}

pub fn put_offered(tx: &Transaction<'_>, row: &OfferedRow) -> rusqlite::Result<()> {
    let OfferedRow { offered, sealed } = row;
    let kind = if offered.kind == ShareKind::Secret { "secret" } else { "database" };
    tx.execute(
        "INSERT INTO share_inbox (id, peer, kind, name, sealed, created_ms) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
        params![offered.id, offered.peer.0, kind, offered.name, sealed, offered.created_ms],
    )?;
    Ok(())
}

/// Says whether it was there.
pub fn delete_offered(tx: &Transaction<'_>, id: &str) -> rusqlite::Result<bool> {
    Ok(tx.execute("DELETE FROM share_inbox WHERE id = ?1", [id])? > 0)
}
