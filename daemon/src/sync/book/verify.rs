//! Counting everything anew, for doctor: a piece of a journal at a time, so that the database stays free for others.

use kith_proto::peer::reconcile::{Element, Sum};
use rusqlite::params;

use super::Journal;
use super::columns::{VERSION, VERSION_COLUMNS, bound, element};

/// Chunks that are looked at in one call.
const CHUNKS: usize = 100;

/// What a look at one piece of a journal found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verified {
    /// What is wrong, in words for a log; the first of it.
    pub faults: Vec<String>,
    /// How many entries were counted.
    pub entries: u64,
    /// Where to go on, if that was not all.
    pub next: Option<Element>,
}

impl Journal<'_> {
    /// Counts one piece of the journal anew, from `from` on, and compares with what is written down. Begin with
    /// [`Element::FIRST`].
    pub fn verify(&mut self, from: &Element) -> rusqlite::Result<Verified> {
        let mut faults = Vec::new();
        if *from == Element::FIRST {
            self.verify_totals(&mut faults)?;
        }
        let chunks = self.chunks(from, &Element::END)?;
        let mut entries = 0;
        for chunk in chunks.iter().take(CHUNKS) {
            let sum = self.count_anew(&chunk.lower, &chunk.upper, &mut faults)?;
            entries += sum.count;
            if sum != chunk.sum {
                faults.push(format!(
                    "the chunk at {:x} has {} elements, not {}",
                    chunk.lower.stamp, sum.count, chunk.sum.count
                ));
            }
        }
        Ok(Verified { faults, entries, next: chunks.get(CHUNKS).map(|chunk| chunk.lower) })
    }

    /// The numbers of the journal's row against those of its tables.
    fn verify_totals(&mut self, faults: &mut Vec<String>) -> rusqlite::Result<()> {
        let mut total = Sum::default();
        self.chunks(&Element::FIRST, &Element::END)?.iter().for_each(|chunk| total.merge(&chunk.sum));
        if total != self.total {
            faults.push(format!("all chunks together have {} elements, the journal {}", total.count, self.total.count));
        }
        for (what, sql) in [
            ("count", "SELECT count(*) FROM journal_entry INDEXED BY journal_entry_order WHERE journal = ?1"),
            ("count", "SELECT count(*) FROM journal_element WHERE journal = ?1"),
            ("tombstones", "SELECT count(*) FROM journal_entry WHERE journal = ?1 AND deleted = 1"),
            ("history", "SELECT count(*) FROM journal_kept WHERE journal = ?1 AND place = 'history'"),
            ("recovered", "SELECT count(*) FROM journal_kept WHERE journal = ?1 AND place = 'recovered'"),
        ] {
            let connection = self.book.connection;
            let found: u64 = connection.query_row(sql, [self.number], |row| row.get(0))?;
            let sql = format!("SELECT {what} FROM journal WHERE number = ?1");
            let noted: u64 = connection.query_row(&sql, [self.number], |row| row.get(0))?;
            if found != noted {
                faults.push(format!("{what} is {found}, not {noted}"));
            }
        }
        Ok(())
    }

    /// The sum of the versions whose elements are in a range. Each must have the element that it should.
    fn count_anew(&self, lower: &Element, upper: &Element, faults: &mut Vec<String>) -> rusqlite::Result<Sum> {
        let sql = format!(
            "SELECT {VERSION}, s, e FROM (
               SELECT seq AS at, stamp AS s, element AS e FROM journal_element
               WHERE journal = ?1 AND (stamp, element) >= (?2, ?3) AND (stamp, element) < (?4, ?5))
             CROSS JOIN journal_entry ON journal_entry.seq = at WHERE journal = ?1"
        );
        let (lower, upper) = (bound(lower), bound(upper));
        let mut statement = self.book.connection.prepare_cached(&sql)?;
        let mut rows = statement.query(params![self.number, lower.0, lower.1, upper.0, upper.1])?;
        let mut sum = Sum::default();
        while let Some(row) = rows.next()? {
            let version = self.book.version(row)?;
            sum.add(&version.element().id);
            if version.element() != element(row, VERSION_COLUMNS)? {
                faults.push(format!("an entry of {} has another element", version.stamp));
            }
        }
        Ok(sum)
    }
}
