//! `vault.*`, `secrets.*` and `databases.*`

use std::sync::Arc;

use kith_proto::control::ApiError;
use kith_proto::control::credential::{
    Database, DatabaseAddParams, DatabaseEditParams, DatabaseParams, DatabasesResult, ImportParams, PassphraseParams,
    SavedResult, Secret, SecretAddParams, SecretEditParams, SecretParams, SecretRemoveParams, SecretView,
    SecretsResult, UnlockParams, Vault,
};
use kith_proto::control::method::{Done, Empty};

use super::Engines;
use crate::doors::local::dispatch::Call;

pub async fn status(engines: Arc<Engines>, _: Call, _: Empty) -> Result<Vault, ApiError> {
    engines.vault.status().await
}

pub async fn lock(engines: Arc<Engines>, _: Call, _: Empty) -> Result<Vault, ApiError> {
    engines.vault.lock().await
}

pub async fn unlock(engines: Arc<Engines>, _: Call, params: UnlockParams) -> Result<Vault, ApiError> {
    engines.vault.unlock(params).await
}

pub async fn passphrase(engines: Arc<Engines>, _: Call, params: PassphraseParams) -> Result<Vault, ApiError> {
    engines.vault.passphrase(params).await
}

pub async fn secrets(engines: Arc<Engines>, _: Call, _: Empty) -> Result<SecretsResult, ApiError> {
    engines.vault.secrets().await
}

pub async fn secret(engines: Arc<Engines>, _: Call, params: SecretParams) -> Result<SecretView, ApiError> {
    engines.vault.secret(params).await
}

pub async fn add_secret(engines: Arc<Engines>, _: Call, params: SecretAddParams) -> Result<Secret, ApiError> {
    engines.vault.add_secret(params).await
}

pub async fn edit_secret(engines: Arc<Engines>, _: Call, params: SecretEditParams) -> Result<Secret, ApiError> {
    engines.vault.edit_secret(params).await
}

pub async fn remove_secret(engines: Arc<Engines>, _: Call, params: SecretRemoveParams) -> Result<Done, ApiError> {
    engines.vault.remove_secret(params).await?;
    Ok(Done {})
}

pub async fn import(engines: Arc<Engines>, _: Call, params: ImportParams) -> Result<SavedResult, ApiError> {
    engines.vault.import(params).await
}

pub async fn databases(engines: Arc<Engines>, _: Call, _: Empty) -> Result<DatabasesResult, ApiError> {
    engines.vault.databases().await
}

pub async fn database(engines: Arc<Engines>, _: Call, params: DatabaseParams) -> Result<Database, ApiError> {
    engines.vault.database(params).await
}

pub async fn add_database(engines: Arc<Engines>, _: Call, params: DatabaseAddParams) -> Result<Database, ApiError> {
    engines.vault.add_database(params).await
}

pub async fn edit_database(engines: Arc<Engines>, _: Call, params: DatabaseEditParams) -> Result<Database, ApiError> {
    engines.vault.edit_database(params).await
}

pub async fn remove_database(engines: Arc<Engines>, _: Call, params: DatabaseParams) -> Result<Done, ApiError> {
    engines.vault.remove_database(params).await?;
    Ok(Done {})
}
