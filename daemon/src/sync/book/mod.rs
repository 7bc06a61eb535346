//! What is written down of journals.
//!
//! ```text
//! shelf     all journals, as a session sees them            journals  … and as this device's user sees them
//! replica   one journal: its current versions               members   who takes part
//! sums      … their chunks: what reconciliation asks for    peers     how far each device is; which deletions may go
//! kept      versions that lost, or came back                pages     lists, single versions, pieces of bodies
//! pieces    bodies that are not whole yet                   verify    counting everything anew, for doctor
//! columns   versions as rows                                names     epochs and writers as small numbers
//! ```
//!
//! A [`Book`] lives as long as one transaction (or read) and remembers what it has read; nothing else may change these
//! tables meanwhile. Whatever a method changes is in the tables when it returns.

mod columns;
mod journals;
mod kept;
mod members;
mod names;
mod pages;
mod peers;
mod pieces;
mod replica;
mod shelf;
mod sums;
mod verify;

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};

use kith_proto::hlc::Stamp;
use kith_proto::id::PublicKey;
use kith_proto::peer::journal::version::Epoch;
use rusqlite::Connection;

pub use journals::{Listed, State};
pub use members::{Entry, is_name};
pub use pages::{Held, KeptAt};
pub use replica::Journal;

use names::Names;

/// Whom this device knows, as far as the book needs it.
#[derive(Debug, Clone)]
pub struct Circle {
    /// This device.
    pub device: PublicKey,
    /// Trusted devices that are one's own.
    pub own: BTreeSet<PublicKey>,
    /// What trusted devices are called here.
    pub names: BTreeMap<PublicKey, String>,
}

/// All journals, within one transaction (or read).
pub struct Book<'t> {
    connection: &'t Connection,
    circle: &'t Circle,
    epoch: Cell<Epoch>,
    clock: Cell<Stamp>,
    /// The greatest seq that was given out, once somebody asked.
    top: Cell<Option<u64>>,
    names: RefCell<Names>,
}

impl<'t> Book<'t> {
    /// The book as it is now.
    pub fn new(connection: &'t Connection, circle: &'t Circle) -> rusqlite::Result<Self> {
        let (epoch, clock) = connection
            .prepare_cached("SELECT epoch, clock FROM sync_state")?
            .query_row([], |row| Ok((Epoch(row.get(0)?), Stamp(row.get(1)?))))?;
        Ok(Self {
            connection,
            circle,
            epoch: Cell::new(epoch),
            clock: Cell::new(clock),
            top: Cell::new(None),
            names: RefCell::default(),
        })
    }

    fn set_clock(&self, stamp: Stamp) -> rusqlite::Result<()> {
        self.connection.prepare_cached("UPDATE sync_state SET clock = ?1")?.execute([stamp.0])?;
        self.clock.set(stamp);
        Ok(())
    }

    /// The greatest seq that was given out. The rows say it, so that a new one is not written down twice; of rows that
    /// are gone `sync_state` says it.
    fn top(&self) -> rusqlite::Result<u64> {
        if let Some(top) = self.top.get() {
            return Ok(top);
        }
        let top = self
            .connection
            .prepare_cached("SELECT max(seq, coalesce((SELECT max(seq) FROM journal_entry), 0)) FROM sync_state")?
            .query_row([], |row| row.get(0))?;
        self.top.set(Some(top));
        Ok(top)
    }

    fn next_seq(&self) -> rusqlite::Result<u64> {
        let next = self.top()? + 1;
        self.top.set(Some(next));
        Ok(next)
    }

    /// Before rows are deleted without others in their place.
    fn keep_top(&self) -> rusqlite::Result<()> {
        let top = self.top()?;
        self.connection.prepare_cached("UPDATE sync_state SET seq = ?1")?.execute([top])?;
        Ok(())
    }
}

#[cfg(test)]
mod collect_tests;
#[cfg(test)]
mod members_tests;
#[cfg(test)]
mod sums_tests;
#[cfg(test)]
mod tests;
