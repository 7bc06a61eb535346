//! Secrets, one by one.

use std::sync::Arc;

use kith_proto::control::credential::{
    Secret, SecretAddParams, SecretEditParams, SecretParams, SecretRemoveParams, SecretView, SecretsResult,
};
use kith_proto::control::{ApiError, Code};
use kith_proto::credential::{SecretType, Slot, canonical, check_name};
use kith_proto::secret_text::SecretText;
use kith_proto::{limits, text};
use rusqlite::{Connection, Transaction};

use super::book::{self, SecretRow};
use super::seal::Opened;
use super::{Stop, Vault, no_secret, taken, too_many};
use crate::clock;

impl Vault {
    /// Every secret, without its value; also while the vault is locked.
    pub async fn secrets(&self) -> Result<SecretsResult, ApiError> {
        Ok(SecretsResult { secrets: self.store.read(book::secrets).await? })
    }

    /// One secret, with its value.
    pub async fn secret(&self, params: SecretParams) -> Result<SecretView, ApiError> {
        let key = self.key_of(&params.name).await?;
        let view = self.store.decide(move |tx| {
            let row = book::secret(tx, &params.name)?.ok_or_else(|| no_secret(&params.name))?;
            let value = row.open(&key)?;
            Ok::<_, Stop>(SecretView { secret: shown(tx, row)?, value })
        });
        Ok(view.await?)
    }

    /// Puts a secret into the vault.
    pub async fn add_secret(&self, params: SecretAddParams) -> Result<Secret, ApiError> {
        let SecretAddParams { name, kind, value } = params;
        check_name("name", &name)?;
        let value = canonical(kind, value)?;
        let key = self.lock.key_or_new().await?;
        let added = self.store.decide(move |tx| {
            if book::secret(tx, &name)?.is_some() {
                return Err(taken("secret", &name)
                    .hint("change it: kithctl secrets edit; or take another name")
                    .into());
            }
            let id = insert(tx, &key, &name, kind, &value)?;
            again(tx, id)
        });
        Ok(added.await?)
    }

    /// Changes a secret.
    pub async fn edit_secret(&self, params: SecretEditParams) -> Result<Secret, ApiError> {
        let SecretEditParams { name, rename, kind, value } = params;
        if let Some(rename) = &rename {
            check_name("rename", rename)?;
        }
        let key = self.key_of(&name).await?;
        let edited = self.store.decide(move |tx| {
            let row = book::secret(tx, &name)?.ok_or_else(|| no_secret(&name))?;
            let (id, kind) = (row.id, kind.unwrap_or(row.kind));
            let new_name = rename.unwrap_or_else(|| row.name.clone());
            if value.is_none() && new_name == row.name && kind == row.kind {
                return again(tx, id);
            }
            if book::secret(tx, &new_name)?.is_some_and(|other| other.id != id) {
                return Err(taken("secret", &new_name).into());
            }
            fits_databases(tx, &row, kind)?;
            // A value that is given anew need not be one that can be read.
            let value = value.map_or_else(|| row.open(&key), Ok)?;
            let value = canonical(kind, value).map_err(ApiError::from)?;
            update(tx, &key, row, new_name, kind, &value)?;
            again(tx, id)
        });
        Ok(edited.await?)
    }

    /// Deletes a secret. Also in a vault whose key is lost.
    pub async fn remove_secret(&self, params: SecretRemoveParams) -> Result<(), ApiError> {
        match self.lock.key().await {
            Err(error) if error.code != Code::VaultUnusable => return Err(error),
            _ => {}
        }
        let removed = self.store.decide(move |tx| {
            let row = book::secret(tx, &params.name)?.ok_or_else(|| no_secret(&params.name))?;
            let users = book::used_by(tx, row.id)?;
            if !users.is_empty() && !params.force {
                return Err(in_use(&row, &users).hint("with --force, these databases are left without it").into());
            }
            Ok::<_, Stop>(book::delete_secret(tx, row.id)?)
        });
        Ok(removed.await?)
    }

    /// The key, to do something with a secret that is there already.
    async fn key_of(&self, name: &str) -> Result<Arc<Opened>, ApiError> {
        self.lock.key().await?.ok_or_else(|| no_secret(name))
    }
}

/// Writes a new secret; its name is free.
pub fn insert(
    tx: &Transaction<'_>,
    key: &Opened,
    name: &str,
    kind: SecretType,
    value: &SecretText,
) -> Result<i64, Stop> {
    if book::counts(tx)?.0 >= limits::CREDENTIALS as u64 {
        return Err(too_many("secrets").into());
    }
    let (revision, now) = (1, clock::now_ms());
    let sealed = key.seal_secret(name, kind.name(), revision, value.expose())?;
    let name = name.to_owned();
    Ok(book::put_secret(tx, &SecretRow { id: 0, name, kind, revision, sealed, created_ms: now, updated_ms: now })?)
}

/// Writes a secret anew.
pub fn update(
    tx: &Transaction<'_>,
    key: &Opened,
    row: SecretRow,
    name: String,
    kind: SecretType,
    value: &SecretText,
) -> Result<i64, Stop> {
    let revision = row.revision.wrapping_add(1);
    let sealed = key.seal_secret(&name, kind.name(), revision, value.expose())?;
    Ok(book::put_secret(tx, &SecretRow { name, kind, revision, sealed, updated_ms: clock::now_ms(), ..row })?)
}

/// Refuses another type while a database needs this one.
pub fn fits_databases(c: &Connection, row: &SecretRow, kind: SecretType) -> Result<(), Stop> {
    let users = if kind == row.kind { Vec::new() } else { book::used_by(c, row.id)? };
    if users.is_empty() {
        return Ok(());
    }
    Err(in_use(row, &users).hint(format!("they need it to be of type {}; take another name", row.kind)).into())
}

/// The type that a secret must have to be linked in `slot`.
pub fn fits_slot(slot: Slot, row: &SecretRow) -> Result<(), ApiError> {
    if row.kind == slot.secret_type() {
        return Ok(());
    }
    let (name, is, wanted) = (text::printable(&row.name), row.kind, slot.secret_type());
    Err(ApiError::new(Code::InvalidParam, format!("{slot}: the secret {name} is of type {is} instead of {wanted}")))
}

fn in_use(row: &SecretRow, users: &[String]) -> ApiError {
    let first: Vec<_> = users.iter().take(5).map(|name| text::printable(name)).collect();
    let more =
        if users.len() > first.len() { format!(" and {} more", users.len() - first.len()) } else { String::new() };
    let name = text::printable(&row.name);
    ApiError::new(Code::SecretInUse, format!("the secret {name} is used by {}{more}", first.join(", ")))
}

fn shown(c: &Connection, row: SecretRow) -> Result<Secret, Stop> {
    let users = book::used_by(c, row.id)?;
    Ok(row.view(users))
}

fn again(c: &Connection, id: i64) -> Result<Secret, Stop> {
    let row = book::secret_by_id(c, id)?.ok_or(rusqlite::Error::QueryReturnedNoRows)?;
    shown(c, row)
}
