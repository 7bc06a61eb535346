//! Numbered migrations. The version is bumped in the transaction of its step, so a kill between two steps is harmless.

use std::path::Path;

use rusqlite::{Connection, TransactionBehavior};

use super::Error;

/// The steps, oldest first. A step that was released is never changed.
const STEPS: &[&str] = &[
    include_str!("../../migrations/0001_trust_and_transfers.sql"),
    include_str!("../../migrations/0002_guests.sql"),
    include_str!("../../migrations/0003_journals.sql"),
    include_str!("../../migrations/0004_credentials.sql"),
    include_str!("../../migrations/0005_codes.sql"),
];

/// Brings the database to the newest version. Before the first step of an existing one, a copy is put beside it.
pub fn run(connection: &mut Connection, path: &Path) -> Result<(), Error> {
    let found: usize = connection.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    if found > STEPS.len() {
        return Err(Error::Future { found, known: STEPS.len() });
    }
    if found > 0 && found < STEPS.len() {
        let copy = path.with_extension(format!("db.v{found}"));
        match std::fs::remove_file(&copy) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(Error::Copy(error)),
            _ => {}
        }
        connection.execute("VACUUM INTO ?1", [copy.to_string_lossy()])?;
    }
    for (number, step) in STEPS.iter().enumerate().skip(found) {
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        transaction.execute_batch(step)?;
        transaction.pragma_update(None, "user_version", number + 1)?;
        transaction.commit()?;
    }
    Ok(())
}
