//! Versions as rows of `journal_entry` and `journal_kept`.

use kith_proto::hlc::Stamp;
use kith_proto::peer::journal::version::{Context, Epoch, Version};
use kith_proto::peer::reconcile::Element;
use rusqlite::types::Type;
use rusqlite::{Error, Row, ToSql};

use super::Book;

/// What [`Book::version`] reads, in this order, from the first column on.
pub const VERSION: &str = "id, stamp, writer, deleted, context, meta, hash, size";
/// How many columns these are.
pub const VERSION_COLUMNS: usize = 8;

/// Bytes of one version that another one knew.
const KNOWN: usize = 4 + 8;

impl Book<'_> {
    /// The version in a row.
    pub fn version(&self, row: &Row<'_>) -> rusqlite::Result<Version> {
        let (device, epoch) = self.writer_of(row.get(2)?)?;
        Ok(Version {
            id: row.get(0)?,
            stamp: Stamp(row.get(1)?),
            device,
            epoch,
            deleted: row.get(3)?,
            context: self.unpack(row.get_ref(4)?.as_blob()?)?,
            meta: row.get(5)?,
            hash: row.get(6)?,
            size: row.get(7)?,
        })
    }

    /// What a version knew, for its column.
    pub fn pack(&self, context: &Context) -> rusqlite::Result<Vec<u8>> {
        let mut packed = Vec::with_capacity(context.pairs().len() * KNOWN);
        for (epoch, stamp) in context.pairs() {
            let number = u32::try_from(self.epoch_number(epoch)?);
            let number = number.map_err(|error| Error::ToSqlConversionFailure(Box::new(error)))?;
            packed.extend_from_slice(&number.to_be_bytes());
            packed.extend_from_slice(&stamp.0.to_be_bytes());
        }
        Ok(packed)
    }

    fn unpack(&self, packed: &[u8]) -> rusqlite::Result<Context> {
        let (known, rest) = packed.as_chunks::<KNOWN>();
        let known = known.iter().map(|[a, b, c, d, stamp @ ..]| {
            let epoch = self.epoch_of(i64::from(u32::from_be_bytes([*a, *b, *c, *d])))?;
            Ok((epoch, Stamp(u64::from_be_bytes(*stamp))))
        });
        let known = known.collect::<rusqlite::Result<Vec<(Epoch, Stamp)>>>()?;
        let context = Context::new(known).filter(|_| rest.is_empty());
        context.ok_or_else(|| Error::FromSqlConversionFailure(4, Type::Blob, "a context that is none".into()))
    }
}

/// An element from two columns.
pub fn element(row: &Row<'_>, first: usize) -> rusqlite::Result<Element> {
    Ok(Element { stamp: row.get(first)?, id: row.get(first + 1)? })
}

/// A bound as SQLite can hold it: no element has a stamp of more than 63 bits.
pub fn bound(element: &Element) -> (i64, impl ToSql + use<>) {
    match i64::try_from(element.stamp) {
        Ok(stamp) => (stamp, element.id),
        Err(_) => (i64::MAX, [0xff; 32]),
    }
}

/// A number of rows as SQLite can hold it.
pub fn limit(rows: usize) -> i64 {
    i64::try_from(rows).unwrap_or(i64::MAX)
}
