//! Databases, one by one. Nothing here needs the vault to be unlocked.

use kith_proto::control::ApiError;
use kith_proto::control::credential::{
    Database, DatabaseAddParams, DatabaseEditParams, DatabaseParams, DatabasesResult,
};
use kith_proto::credential::{DatabaseFields, Slot};
use kith_proto::limits;
use rusqlite::{Connection, Transaction};

use super::book::{self, Links};
use super::secrets::fits_slot;
use super::{Stop, Vault, no_database, no_secret, taken, too_many};
use crate::clock;

impl Vault {
    /// Every database.
    pub async fn databases(&self) -> Result<DatabasesResult, ApiError> {
        let rows = self.store.read(book::databases).await?;
        Ok(DatabasesResult { databases: rows.iter().map(book::DatabaseRow::view).collect() })
    }

    /// One of them.
    pub async fn database(&self, params: DatabaseParams) -> Result<Database, ApiError> {
        Ok(self.store.decide(move |tx| again(tx, &params.name)).await?)
    }

    /// Adds a database.
    pub async fn add_database(&self, params: DatabaseAddParams) -> Result<Database, ApiError> {
        let DatabaseAddParams { name, description, path, origin, s3, encryption, geocoding } = params;
        let fields = DatabaseFields { name, description, path, origin: origin.filter(|it| !it.is_empty()) }.check()?;
        let added = self.store.decide(move |tx| {
            if book::database(tx, &fields.name)?.is_some() {
                return Err(taken("database", &fields.name).into());
            }
            let links = links(tx, [s3, encryption, geocoding])?;
            insert(tx, &fields, &links)?;
            again(tx, &fields.name)
        });
        Ok(added.await?)
    }

    /// Changes a database.
    pub async fn edit_database(&self, params: DatabaseEditParams) -> Result<Database, ApiError> {
        let DatabaseEditParams { name, rename, description, path, origin, s3, encryption, geocoding } = params;
        let edited = self.store.decide(move |tx| {
            let row = book::database(tx, &name)?.ok_or_else(|| no_database(&name))?;
            let fields = DatabaseFields {
                name: rename.unwrap_or(row.fields.name),
                description: description.unwrap_or(row.fields.description),
                path: path.unwrap_or(row.fields.path),
                origin: origin.or(row.fields.origin).filter(|it| !it.is_empty()),
            };
            let fields = fields.check().map_err(ApiError::from)?;
            if book::database(tx, &fields.name)?.is_some_and(|other| other.id != row.id) {
                return Err(taken("database", &fields.name).into());
            }
            let mut links = row.links;
            for ((link, slot), name) in links.iter_mut().zip(Slot::ALL).zip([s3, encryption, geocoding]) {
                match name {
                    None => {}
                    Some(name) if name.is_empty() => *link = None,
                    Some(name) => *link = Some(linked(tx, slot, &name)?),
                }
            }
            book::put_database(tx, Some(row.id), &fields, &links, clock::now_ms())?;
            again(tx, &fields.name)
        });
        Ok(edited.await?)
    }

    /// Removes a database; its secrets stay.
    pub async fn remove_database(&self, params: DatabaseParams) -> Result<(), ApiError> {
        let removed = self.store.decide(move |tx| {
            let row = book::database(tx, &params.name)?.ok_or_else(|| no_database(&params.name))?;
            Ok::<_, Stop>(book::delete_database(tx, row.id)?)
        });
        Ok(removed.await?)
    }
}

/// Writes a new database; its name is free.
pub fn insert(tx: &Transaction<'_>, fields: &DatabaseFields, links: &Links) -> Result<(), Stop> {
    if book::counts(tx)?.1 >= limits::CREDENTIALS as u64 {
        return Err(too_many("databases").into());
    }
    Ok(book::put_database(tx, None, fields, links, clock::now_ms())?)
}

/// The secrets of these names, in the order of the slots.
fn links(c: &Connection, names: [Option<String>; 3]) -> Result<Links, Stop> {
    let mut links = Links::default();
    for ((link, slot), name) in links.iter_mut().zip(Slot::ALL).zip(names) {
        *link = name.filter(|name| !name.is_empty()).map(|name| linked(c, slot, &name)).transpose()?;
    }
    Ok(links)
}

/// The secret `name` of the vault, if it fits `slot`.
pub fn linked(c: &Connection, slot: Slot, name: &str) -> Result<i64, Stop> {
    let row = book::secret(c, name)?.ok_or_else(|| no_secret(name))?;
    fits_slot(slot, &row)?;
    Ok(row.id)
}

fn again(c: &Connection, name: &str) -> Result<Database, Stop> {
    Ok(book::database(c, name)?.ok_or_else(|| no_database(name))?.view())
}
