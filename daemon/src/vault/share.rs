//! What is handed over to others, and what paired devices handed over and nobody has looked through yet.

use std::sync::Arc;

use kith_proto::control::credential::{ShareKind, ShareSendParams};
use kith_proto::control::{ApiError, Code};
use kith_proto::credential::payload::Payload;
use kith_proto::credential::{DatabaseFields, NamedSecret, Slot, check_name};
use kith_proto::id::PublicKey;
use kith_proto::limits;

use super::book::{self, OfferedRow, SecretRow};
use super::key::unusable;
use super::seal::Opened;
use super::{Offered, Stop, Vault, no_database, no_secret};
use crate::clock;
use crate::store;

impl Vault {
    /// What is handed over, as it is kept here, with the edits of the sender.
    pub async fn payload(&self, params: &ShareSendParams) -> Result<Payload, ApiError> {
        match params.kind {
            ShareKind::Secret => self.secret_payload(params).await,
            ShareKind::Database => self.database_payload(params).await,
            ShareKind::Unknown => Err(ApiError::new(Code::InvalidParam, "kind: is neither secret nor database")),
        }
    }

    async fn secret_payload(&self, params: &ShareSendParams) -> Result<Payload, ApiError> {
        if params.description.is_some() || params.path.is_some() || params.secrets.is_some() {
            let message = "description, path and secrets are for databases; this is a secret";
            return Err(ApiError::new(Code::InvalidParam, message));
        }
        if let Some(rename) = &params.rename {
            check_name("rename", rename)?;
        }
        let (name, rename) = (params.name.clone(), params.rename.clone());
        let key = self.lock.key().await?.ok_or_else(|| no_secret(&name))?;
        let payload = self.store.decide(move |tx| {
            let row = book::secret(tx, &name)?.ok_or_else(|| no_secret(&name))?;
            Ok::<_, Stop>(Payload::Secret(named(&key, row, rename)?))
        });
        Ok(payload.await?)
    }

    async fn database_payload(&self, params: &ShareSendParams) -> Result<Payload, ApiError> {
        let wanted = params.name.clone();
        let row = self.store.read(move |c| book::database(c, &wanted)).await?;
        let row = row.ok_or_else(|| no_database(&params.name))?;
        let or = |edit: &Option<String>, own: String| edit.clone().unwrap_or(own);
        let fields = DatabaseFields {
            name: or(&params.rename, row.fields.name),
            description: or(&params.description, row.fields.description),
            path: or(&params.path, row.fields.path),
            origin: row.fields.origin,
        };
        let fields = fields.check()?;
        let linked: Vec<(Slot, i64)> =
            Slot::ALL.into_iter().zip(row.links).filter_map(|(slot, id)| Some((slot, id?))).collect();
        let chosen: Vec<(Slot, i64)> = match &params.secrets {
            None => linked,
            Some(slots) => {
                if let Some(none) = slots.iter().find(|slot| !linked.iter().any(|(its, _)| its == *slot)) {
                    let message = format!("secrets: the database has none for {none}");
                    return Err(ApiError::new(Code::InvalidParam, message));
                }
                linked.into_iter().filter(|(slot, _)| slots.contains(slot)).collect()
            }
        };
        if chosen.is_empty() {
            return Ok(Payload::Database { fields, secrets: Vec::new() });
        }
        let key = self.lock.key().await?.ok_or_else(|| no_secret(&params.name))?;
        let secrets = self.store.decide(move |tx| {
            let mut secrets = Vec::new();
            for (slot, id) in chosen {
                // It may have been removed since the database was looked at.
                if let Some(row) = book::secret_by_id(tx, id)?
                    && row.kind == slot.secret_type()
                {
                    secrets.push((slot, named(&key, row, None)?));
                }
            }
            Ok::<_, Stop>(secrets)
        });
        Ok(Payload::Database { fields, secrets: secrets.await? })
    }

    /// Keeps what a paired device handed over until somebody looks through it.
    pub async fn keep_offered(&self, id: &str, peer: PublicKey, payload: &Payload) -> Result<(), ApiError> {
        let key = self.lock.key_or_new().await?;
        let kind = match payload {
            Payload::Secret(_) => ShareKind::Secret,
            Payload::Database { .. } => ShareKind::Database,
        };
        let sealed = key.seal_offered(id, &peer.0, &payload.encode())?;
        let name = payload.name().to_owned();
        let offered = Offered { id: id.to_owned(), peer, kind, name, created_ms: clock::now_ms() };
        let kept = self.store.decide(move |tx| {
            if book::offered_of(tx, &peer)? >= limits::SHARES_WAITING {
                return Err(ApiError::new(Code::Quota, "too much of this device waits for a review already").into());
            }
            if book::one_offered(tx, &offered.id)?.is_some() {
                return Err(ApiError::new(Code::WrongState, "a share of this id waits already").into());
            }
            Ok::<_, Stop>(book::put_offered(tx, &OfferedRow { offered, sealed })?)
        });
        Ok(kept.await?)
    }

    /// What waits for a review, oldest first; also while the vault is locked.
    pub async fn offered(&self) -> Result<Vec<Offered>, store::Error> {
        self.store.read(book::offered).await
    }

    /// What was handed over under this id.
    pub async fn open_offered(&self, id: &str) -> Result<Arc<Payload>, ApiError> {
        let not_found = || ApiError::new(Code::ShareNotFound, "no share of this id waits for a review");
        let wanted = id.to_owned();
        let row = self.store.read(move |c| book::one_offered(c, &wanted)).await?.ok_or_else(not_found)?;
        let key = self.lock.key().await?.ok_or_else(not_found)?;
        let json = key.open_offered(id, &row.offered.peer.0, &row.sealed);
        let payload = json.and_then(|json| Payload::parse(&json).ok());
        payload.map(Arc::new).ok_or_else(|| {
            unusable("this share was changed behind the vault's back and cannot be read".to_owned())
                .hint("decline it, and have it sent again")
        })
    }

    /// Forgets it. Says whether it was there.
    pub async fn drop_offered(&self, id: &str) -> Result<bool, ApiError> {
        let id = id.to_owned();
        Ok(self.store.write(move |tx| book::delete_offered(tx, &id)).await?)
    }
}

fn named(key: &Opened, row: SecretRow, rename: Option<String>) -> Result<NamedSecret, ApiError> {
    let value = row.open(key)?;
    Ok(NamedSecret { name: rename.unwrap_or(row.name), kind: row.kind, value })
}
