//! Epochs and writers as small numbers, so that a row costs little.

use std::collections::HashMap;

use kith_proto::id::PublicKey;
use kith_proto::peer::journal::version::Epoch;
use rusqlite::{OptionalExtension, params};

use super::Book;

/// What was looked up in this transaction.
#[derive(Default)]
pub struct Names {
    epochs: HashMap<Epoch, i64>,
    epochs_by_number: HashMap<i64, Epoch>,
    writers: HashMap<(PublicKey, Epoch), i64>,
    writers_by_number: HashMap<i64, (PublicKey, Epoch)>,
}

impl Book<'_> {
    /// The number of an epoch, if it has one.
    pub fn known_epoch(&self, epoch: &Epoch) -> rusqlite::Result<Option<i64>> {
        if let Some(number) = self.names.borrow().epochs.get(epoch) {
            return Ok(Some(*number));
        }
        let found = self
            .connection
            .prepare_cached("SELECT number FROM journal_epoch WHERE epoch = ?1")?
            .query_row([epoch.0], |row| row.get(0))
            .optional()?;
        if let Some(number) = found {
            self.names.borrow_mut().epochs.insert(*epoch, number);
        }
        Ok(found)
    }

    /// The number of an epoch; it gets one.
    pub fn epoch_number(&self, epoch: &Epoch) -> rusqlite::Result<i64> {
        if let Some(number) = self.known_epoch(epoch)? {
            return Ok(number);
        }
        self.connection.prepare_cached("INSERT INTO journal_epoch (epoch) VALUES (?1)")?.execute([epoch.0])?;
        let number = self.connection.last_insert_rowid();
        self.names.borrow_mut().epochs.insert(*epoch, number);
        Ok(number)
    }

    /// The epoch with a number.
    pub fn epoch_of(&self, number: i64) -> rusqlite::Result<Epoch> {
        if let Some(epoch) = self.names.borrow().epochs_by_number.get(&number) {
            return Ok(*epoch);
        }
        let epoch = self
            .connection
            .prepare_cached("SELECT epoch FROM journal_epoch WHERE number = ?1")?
            .query_row([number], |row| row.get(0).map(Epoch))?;
        self.names.borrow_mut().epochs_by_number.insert(number, epoch);
        Ok(epoch)
    }

    /// The number of a writer; it gets one.
    pub fn writer_number(&self, device: &PublicKey, epoch: &Epoch) -> rusqlite::Result<i64> {
        if let Some(number) = self.names.borrow().writers.get(&(*device, *epoch)) {
            return Ok(*number);
        }
        let within = self.epoch_number(epoch)?;
        let found = self
            .connection
            .prepare_cached("SELECT number FROM journal_writer WHERE device = ?1 AND epoch = ?2")?
            .query_row(params![device.0, within], |row| row.get(0))
            .optional()?;
        let number = match found {
            Some(number) => number,
            None => {
                self.connection
                    .prepare_cached("INSERT INTO journal_writer (device, epoch) VALUES (?1, ?2)")?
                    .execute(params![device.0, within])?;
                self.connection.last_insert_rowid()
            }
        };
        self.names.borrow_mut().writers.insert((*device, *epoch), number);
        Ok(number)
    }

    /// The writer with a number.
    pub fn writer_of(&self, number: i64) -> rusqlite::Result<(PublicKey, Epoch)> {
        if let Some(writer) = self.names.borrow().writers_by_number.get(&number) {
            return Ok(*writer);
        }
        let writer = self
            .connection
            .prepare_cached(
                "SELECT device, journal_epoch.epoch FROM journal_writer
                 JOIN journal_epoch ON journal_epoch.number = journal_writer.epoch WHERE journal_writer.number = ?1",
            )?
            .query_row([number], |row| Ok((PublicKey(row.get(0)?), Epoch(row.get(1)?))))?;
        self.names.borrow_mut().writers_by_number.insert(number, writer);
        Ok(writer)
    }
}
