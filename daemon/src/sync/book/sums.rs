//! The chunks of a journal: count and sum of neighbouring elements, kept while entries change, so that reconciliation
//! reads whole chunks and, at the two ends of a range, elements.
//!
//! A chunk is full at [`CHUNK`] elements and is then cut in two; behind the greatest element, so that what arrives in the
//! order of time fills its chunks. Chunks that shrink join a neighbour. The first one begins at [`Element::FIRST`] and
//! stays.

use kith_proto::peer::reconcile::{Element, Set, Sum};
use rusqlite::{Error, OptionalExtension, Row, params};

use super::Journal;
use super::columns::{self, bound, element};

/// Elements in a full chunk: more make ranges dear whose ends lie within chunks, fewer make wide ranges dear. In tests
/// few, so that small journals have many chunks.
pub(super) const CHUNK: u64 = if cfg!(test) { 8 } else { 128 };
/// A chunk with fewer elements looks for a neighbour to join …
const SMALL: u64 = CHUNK / 4;
/// … with which it has at most so many.
const JOINED: u64 = CHUNK / 2;
/// Ranges with at most so many elements are split element by element, others between chunks.
const FINE: u64 = 4 * CHUNK;
/// Bounds within chunks whose sums are remembered: where a range ends, the next one begins, and what differs is asked
/// about once more.
const REMEMBERED: usize = 4;

/// A chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Chunk {
    /// It begins here.
    pub lower: Element,
    /// And ends before this.
    pub upper: Element,
    /// Of its elements.
    pub sum: Sum,
}

/// What was read for questions, or written last.
#[derive(Default)]
pub struct Cache {
    /// The chunk that the last element went to: the next one often goes there, too.
    last: Option<Chunk>,
    /// The chunks of the range that was read last.
    window: Vec<Chunk>,
    /// What of a chunk lies below a bound in it.
    below: Vec<(Element, Sum)>,
}

impl Set for Journal<'_> {
    type Error = Error;

    fn sum(&mut self, lower: &Element, upper: &Element) -> rusqlite::Result<Sum> {
        if (*lower, *upper) == (Element::FIRST, Element::END) {
            return Ok(self.total);
        }
        let mut sum = Sum::default();
        self.parts(lower, upper, |_, part| sum.merge(&part))?;
        Ok(sum)
    }

    fn elements(&mut self, lower: &Element, upper: &Element, limit: usize) -> rusqlite::Result<Vec<Element>> {
        let mut statement = self.book.connection.prepare_cached(
            "SELECT stamp, element FROM journal_element
             WHERE journal = ?1 AND (stamp, element) >= (?2, ?3) AND (stamp, element) < (?4, ?5)
             ORDER BY stamp, element LIMIT ?6",
        )?;
        let (lower, upper) = (bound(lower), bound(upper));
        let params = params![self.number, lower.0, lower.1, upper.0, upper.1, columns::limit(limit)];
        statement.query_map(params, |row| element(row, 0))?.collect()
    }

    fn split(&mut self, lower: &Element, upper: &Element, parts: usize) -> rusqlite::Result<Vec<(Element, Sum)>> {
        let mut found: Vec<(Element, Sum)> = Vec::new();
        let mut total = Sum::default();
        self.parts(lower, upper, |upper, part| {
            total.merge(&part);
            found.push((upper, part));
        })?;
        if total.count <= FINE {
            return self.split_finely(lower, upper, parts);
        }
        let goal = |made: usize| total.count.saturating_mul(made as u64 + 1) / parts.max(1) as u64;
        let mut cut = Vec::with_capacity(parts);
        let (mut sum, mut before) = (Sum::default(), 0);
        for (upper, part) in found {
            sum.merge(&part);
            if before + sum.count >= goal(cut.len()) && cut.len() + 1 < parts {
                before += sum.count;
                cut.push((upper, std::mem::take(&mut sum)));
            }
        }
        // The rest; where nothing is left, the last part reaches to the end.
        match cut.last_mut() {
            Some(last) if sum.count == 0 => last.0 = *upper,
            _ => cut.push((*upper, sum)),
        }
        Ok(cut)
    }
}

impl Journal<'_> {
    /// Cuts between any two elements.
    fn split_finely(
        &mut self,
        lower: &Element,
        upper: &Element,
        parts: usize,
    ) -> rusqlite::Result<Vec<(Element, Sum)>> {
        let elements = self.elements(lower, upper, usize::MAX)?;
        let parts = parts.clamp(1, elements.len().max(1));
        let mut cut = Vec::with_capacity(parts);
        let mut sum = Sum::default();
        for (index, element) in elements.iter().enumerate() {
            sum.add(&element.id);
            let next = elements.get(index + 1).filter(|_| (index + 1) * parts / elements.len() > cut.len());
            if let Some(next) = next {
                cut.push((Element::between(element, next), std::mem::take(&mut sum)));
            }
        }
        cut.push((*upper, sum));
        Ok(cut)
    }

    /// The sums of the chunks in a range, or what of them is in it, each with the bound that it ends at.
    fn parts(&mut self, lower: &Element, upper: &Element, mut each: impl FnMut(Element, Sum)) -> rusqlite::Result<()> {
        if lower >= upper {
            return Ok(());
        }
        self.read_window(lower, upper)?;
        let mut index = self.cache.window.partition_point(|chunk| chunk.upper <= *lower);
        while let Some(chunk) = self.cache.window.get(index).copied().filter(|chunk| chunk.lower < *upper) {
            let mut part = if *upper < chunk.upper { self.sum_below(&chunk, upper)? } else { chunk.sum };
            if chunk.lower < *lower {
                part.subtract(&self.sum_below(&chunk, lower)?);
            }
            each(chunk.upper.min(*upper), part);
            index += 1;
        }
        Ok(())
    }

    /// Sees to it that the window has all chunks that touch a range.
    fn read_window(&mut self, lower: &Element, upper: &Element) -> rusqlite::Result<()> {
        let (first, last) = (self.cache.window.first(), self.cache.window.last());
        if first.is_some_and(|it| it.lower <= *lower) && last.is_some_and(|it| it.upper >= *upper) {
            return Ok(());
        }
        let first = self.chunk_at(lower)?;
        self.cache.window = self.chunks(&first.lower, upper)?;
        Ok(())
    }

    /// The chunks from the one that begins at `first` up to the one that ends at `upper` or behind it.
    pub(super) fn chunks(&self, first: &Element, upper: &Element) -> rusqlite::Result<Vec<Chunk>> {
        let mut statement = self.book.connection.prepare_cached(
            "SELECT stamp, element, count, sum FROM journal_chunk
             WHERE journal = ?1 AND (stamp, element) >= (?2, ?3) ORDER BY stamp, element",
        )?;
        let first = bound(first);
        let mut rows = statement.query(params![self.number, first.0, first.1])?;
        let mut chunks: Vec<Chunk> = Vec::new();
        while let Some(row) = rows.next()? {
            let lower = element(row, 0)?;
            if let Some(before) = chunks.last_mut() {
                before.upper = lower;
                if lower >= *upper {
                    break;
                }
            }
            let sum = Sum { count: row.get(2)?, sum: row.get(3)? };
            chunks.push(Chunk { lower, upper: Element::END, sum });
        }
        Ok(chunks)
    }

    /// Count and sum of what lies in a chunk below a bound: half of it must be read, and nothing above the bound.
    fn sum_below(&mut self, chunk: &Chunk, end: &Element) -> rusqlite::Result<Sum> {
        if let Some((_, sum)) = self.cache.below.iter().find(|(bound, _)| bound == end) {
            return Ok(*sum);
        }
        let mut sum = Sum::default();
        self.elements(&chunk.lower, end, usize::MAX)?.iter().for_each(|element| sum.add(&element.id));
        if self.cache.below.len() >= REMEMBERED {
            self.cache.below.remove(0);
        }
        self.cache.below.push((*end, sum));
        Ok(sum)
    }

    /// The chunk that a bound lies in.
    fn chunk_at(&self, at: &Element) -> rusqlite::Result<Chunk> {
        let at = bound(at);
        let (lower, sum) = self
            .book
            .connection
            .prepare_cached(
                "SELECT stamp, element, count, sum FROM journal_chunk
                 WHERE journal = ?1 AND (stamp, element) <= (?2, ?3) ORDER BY stamp DESC, element DESC LIMIT 1",
            )?
            .query_row(params![self.number, at.0, at.1], |row| {
                Ok((element(row, 0)?, Sum { count: row.get(2)?, sum: row.get(3)? }))
            })?;
        let from = bound(&lower);
        let upper = self
            .book
            .connection
            .prepare_cached(
                "SELECT stamp, element FROM journal_chunk
                 WHERE journal = ?1 AND (stamp, element) > (?2, ?3) ORDER BY stamp, element LIMIT 1",
            )?
            .query_row(params![self.number, from.0, from.1], |row| element(row, 0))
            .optional()?;
        Ok(Chunk { lower, upper: upper.unwrap_or(Element::END), sum })
    }

    /// The chunk of an element, to be changed; what was read for questions is out of date then.
    fn chunk_of(&mut self, element: &Element) -> rusqlite::Result<Chunk> {
        self.cache.window.clear();
        self.cache.below.clear();
        match self.cache.last {
            Some(chunk) if chunk.lower <= *element && *element < chunk.upper => Ok(chunk),
            _ => self.chunk_at(element),
        }
    }

    /// One element more; it is in its table already. The total is changed, and written down by the caller.
    pub(super) fn add_element(&mut self, element: &Element) -> rusqlite::Result<()> {
        let mut chunk = self.chunk_of(element)?;
        chunk.sum.add(&element.id);
        self.total.add(&element.id);
        if chunk.sum.count > CHUNK {
            return self.cut(&chunk, element);
        }
        self.cache.last = Some(chunk);
        self.write(&chunk)
    }

    /// Cuts a chunk in two: before `new` where that is the greatest one, else in the middle.
    fn cut(&mut self, chunk: &Chunk, new: &Element) -> rusqlite::Result<()> {
        let elements = self.elements(&chunk.lower, &chunk.upper, usize::MAX)?;
        let at = if elements.last() == Some(new) { elements.len() - 1 } else { elements.len() / 2 };
        let (below, above) = elements.split_at_checked(at).unwrap_or_default();
        let (Some(before), Some(after)) = (below.last(), above.first()) else { return self.write(chunk) };
        let mut sum = Sum::default();
        above.iter().for_each(|element| sum.add(&element.id));
        let bound = Element::between(before, after);
        let right = Chunk { lower: bound, upper: chunk.upper, sum };
        let mut left = Chunk { upper: bound, ..*chunk };
        left.sum.subtract(&sum);
        self.write(&left)?;
        self.insert(&right)?;
        self.cache.last = Some(right);
        Ok(())
    }

    /// One element less; it is gone from its table already. The total is changed, and written down by the caller.
    pub(super) fn remove_element(&mut self, element: &Element) -> rusqlite::Result<()> {
        let mut chunk = self.chunk_of(element)?;
        chunk.sum.remove(&element.id);
        self.total.remove(&element.id);
        if chunk.sum.count < SMALL && self.join(&chunk)? {
            self.cache.last = None;
            return Ok(());
        }
        if self.cache.last.is_some_and(|last| last.lower == chunk.lower) {
            self.cache.last = Some(chunk);
        }
        self.write(&chunk)
    }

    /// Joins a small chunk with the next one or the one before, if both are small enough; an empty one with any.
    fn join(&self, chunk: &Chunk) -> rusqlite::Result<bool> {
        let fits = |other: &Chunk| chunk.sum.count == 0 || chunk.sum.count + other.sum.count <= JOINED;
        if chunk.upper != Element::END {
            let next = self.chunk_at(&chunk.upper)?;
            if fits(&next) {
                return self.merge(chunk, &next);
            }
        }
        match self.chunk_before(chunk)?.filter(fits) {
            Some(before) => self.merge(&before, chunk),
            None => Ok(false),
        }
    }

    fn merge(&self, left: &Chunk, right: &Chunk) -> rusqlite::Result<bool> {
        self.book
            .connection
            .prepare_cached("DELETE FROM journal_chunk WHERE journal = ?1 AND stamp = ?2 AND element = ?3")?
            .execute(params![self.number, right.lower.stamp, right.lower.id])?;
        let mut both = Chunk { upper: right.upper, ..*left };
        both.sum.merge(&right.sum);
        self.write(&both)?;
        Ok(true)
    }

    fn chunk_before(&self, chunk: &Chunk) -> rusqlite::Result<Option<Chunk>> {
        let before = |row: &Row<'_>| {
            let sum = Sum { count: row.get(2)?, sum: row.get(3)? };
            Ok(Chunk { lower: element(row, 0)?, upper: chunk.lower, sum })
        };
        self.book
            .connection
            .prepare_cached(
                "SELECT stamp, element, count, sum FROM journal_chunk
                 WHERE journal = ?1 AND (stamp, element) < (?2, ?3) ORDER BY stamp DESC, element DESC LIMIT 1",
            )?
            .query_row(params![self.number, chunk.lower.stamp, chunk.lower.id], before)
            .optional()
    }

    fn write(&self, chunk: &Chunk) -> rusqlite::Result<()> {
        self.book
            .connection
            .prepare_cached(
                "UPDATE journal_chunk SET count = ?4, sum = ?5 WHERE journal = ?1 AND stamp = ?2 AND element = ?3",
            )?
            .execute(params![self.number, chunk.lower.stamp, chunk.lower.id, chunk.sum.count, chunk.sum.sum])?;
        Ok(())
    }

    fn insert(&self, chunk: &Chunk) -> rusqlite::Result<()> {
        self.book
            .connection
            .prepare_cached(
                "INSERT INTO journal_chunk (journal, stamp, element, count, sum) VALUES (?1, ?2, ?3, ?4, ?5)",
            )?
            .execute(params![self.number, chunk.lower.stamp, chunk.lower.id, chunk.sum.count, chunk.sum.sum])?;
        Ok(())
    }
}
