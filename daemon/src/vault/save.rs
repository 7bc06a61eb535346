//! What comes in from elsewhere: one transaction, all or nothing. Never takes the place of something that came along.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use kith_proto::control::credential::{
    Action, DatabaseAddParams, ImportParams, Meets, Resolve, Saved, SavedResult, SecretAddParams, SecretChoice,
    ShareSaveParams,
};
use kith_proto::control::{ApiError, Code};
use kith_proto::credential::payload::Payload;
use kith_proto::credential::{DatabaseFields, Invalid, NamedSecret, SecretType, Slot, canonical, check_name, same};
use kith_proto::secret_text::SecretText;
use kith_proto::{limits, text};
use rusqlite::Transaction;

use super::book::{self, Links, SecretRow};
use super::seal::Opened;
use super::{Stop, Vault, databases, secrets, taken};
use crate::clock;

/// A secret on its way in.
struct Incoming<'a> {
    /// What it was called where it comes from.
    came_as: &'a str,
    /// The name to save it under.
    name: &'a str,
    kind: SecretType,
    value: &'a SecretText,
    resolve: Resolve,
}

impl Vault {
    /// How each thing of a payload stands to what is here: the database, then its secrets in the payload's order.
    pub async fn meets(&self, payload: &Arc<Payload>) -> Result<(Option<Meets>, Vec<Meets>), ApiError> {
        let key = self.lock.key().await?;
        let payload = payload.clone();
        let met = self.store.decide(move |tx| {
            let mut links = Links::default();
            let mut secrets = Vec::new();
            for secret in payload.secrets() {
                let row = book::secret(tx, &secret.name)?;
                let equal = row
                    .as_ref()
                    .is_some_and(|row| key.as_ref().is_some_and(|key| is_same(key, row, secret.kind, &secret.value)));
                secrets.push(match &row {
                    None => Meets::Nothing,
                    Some(_) if equal => Meets::Equal,
                    Some(_) => Meets::Another,
                });
                let slot = Slot::ALL.iter().position(|slot| slot.secret_type() == secret.kind);
                if let Some(link) = slot.and_then(|at| links.get_mut(at)) {
                    *link = row.map(|row| row.id).filter(|_| equal);
                }
            }
            let Payload::Database { fields, .. } = &*payload else { return Ok((None, secrets)) };
            let database = match book::database(tx, &fields.name)? {
                None => Meets::Nothing,
                Some(row) if row.fields == *fields && row.links == links && !secrets.contains(&Meets::Another) => {
                    Meets::Equal
                }
                Some(_) => Meets::Another,
            };
            Ok::<_, Stop>((Some(database), secrets))
        });
        Ok(met.await?)
    }

    /// Saves a payload in one transaction, or nothing. The row `offered` of the inbox goes with it.
    pub async fn save(
        &self,
        payload: &Arc<Payload>,
        choices: &ShareSaveParams,
        offered: Option<&str>,
    ) -> Result<SavedResult, ApiError> {
        check(payload, choices)?;
        // A database alone needs no key.
        let key = if payload.secrets().next().is_none() { None } else { Some(self.lock.key_or_new().await?) };
        let (payload, choices, offered) = (payload.clone(), choices.clone(), offered.map(ToOwned::to_owned));
        let saved = self.store.decide(move |tx| {
            if let Some(id) = &offered
                && !book::delete_offered(tx, id)?
            {
                return Err(ApiError::new(Code::ShareNotFound, "this share is not in the inbox any more").into());
            }
            Arrival::new(tx, key.as_deref()).payload(&payload, &choices)
        });
        Ok(saved.await?)
    }

    /// Takes over secrets and databases, all or none.
    pub async fn import(&self, params: ImportParams) -> Result<SavedResult, ApiError> {
        let ImportParams { secrets, databases, on_conflict } = params;
        let mut valid_secrets = Vec::with_capacity(secrets.len());
        for (index, secret) in secrets.into_iter().enumerate() {
            valid_secrets.push(valid_secret(secret).map_err(|it| it.within(&format!("secrets[{index}]")))?);
        }
        let mut valid_databases = Vec::with_capacity(databases.len());
        for (index, database) in databases.into_iter().enumerate() {
            valid_databases.push(valid_database(database).map_err(|it| it.within(&format!("databases[{index}]")))?);
        }
        // Databases alone need no key.
        let key = if valid_secrets.is_empty() { None } else { Some(self.lock.key_or_new().await?) };
        let imported = self
            .store
            .decide(move |tx| Arrival::new(tx, key.as_deref()).import(&valid_secrets, &valid_databases, on_conflict));
        Ok(imported.await?)
    }
}

/// One save under way.
struct Arrival<'a> {
    tx: &'a Transaction<'a>,
    key: Option<&'a Opened>,
    /// Rows of secrets and names of databases that this save has decided on.
    settled: BTreeSet<Settled>,
    result: SavedResult,
}

#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum Settled {
    Secret(i64),
    Database(String),
}

impl<'a> Arrival<'a> {
    fn new(tx: &'a Transaction<'a>, key: Option<&'a Opened>) -> Self {
        let result = SavedResult { databases: Vec::new(), secrets: Vec::new() };
        Self { tx, key, settled: BTreeSet::new(), result }
    }

    fn payload(mut self, payload: &Payload, choices: &ShareSaveParams) -> Result<SavedResult, Stop> {
        let (fields, secrets) = match payload {
            Payload::Secret(secret) => {
                let name = choices.name.as_deref().unwrap_or(&secret.name);
                self.secret(&incoming(secret, name, choices.on_conflict))?;
                return Ok(self.result);
            }
            Payload::Database { fields, secrets } => (fields, secrets),
        };
        let mut links = Links::default();
        for (slot, secret) in secrets {
            let choice = choices.secrets.iter().find(|choice| choice.slot == *slot);
            if choice.is_some_and(|choice| !choice.include) {
                continue;
            }
            let name = choice.and_then(|choice| choice.name.as_deref()).unwrap_or(&secret.name);
            let resolve = choice.and_then(|choice| choice.on_conflict).unwrap_or(choices.on_conflict);
            let id = self.secret(&incoming(secret, name, resolve))?;
            if let Some(link) = book::place(*slot).and_then(|at| links.get_mut(at)) {
                *link = Some(id);
            }
        }
        let edited = edited(fields, choices).map_err(ApiError::from)?;
        self.database(&fields.name, edited, links, choices.on_conflict)?;
        Ok(self.result)
    }

    fn import(
        mut self,
        secrets: &[NamedSecret],
        databases: &[(DatabaseFields, [Option<String>; 3])],
        resolve: Resolve,
    ) -> Result<SavedResult, Stop> {
        // What was imported goes by the name that it came with, whatever it is called now.
        let mut came = BTreeMap::new();
        for secret in secrets {
            let id = self.secret(&incoming(secret, &secret.name, resolve))?;
            came.entry(text::fold(&secret.name)).or_insert(id);
        }
        for (fields, names) in databases {
            let mut links = Links::default();
            for ((link, slot), name) in links.iter_mut().zip(Slot::ALL).zip(names) {
                let Some(name) = name.as_ref().filter(|name| !name.is_empty()) else { continue };
                *link = Some(match came.get(&text::fold(name)) {
                    Some(id) => {
                        let row = book::secret_by_id(self.tx, *id)?.ok_or(rusqlite::Error::QueryReturnedNoRows)?;
                        secrets::fits_slot(slot, &row)?;
                        *id
                    }
                    None => databases::linked(self.tx, slot, name)?,
                });
            }
            self.database(&fields.name, fields.clone(), links, resolve)?;
        }
        Ok(self.result)
    }

    /// Saves a secret; returns its row.
    fn secret(&mut self, new: &Incoming<'_>) -> Result<i64, Stop> {
        let key = self.key.ok_or_else(|| ApiError::new(Code::VaultLocked, "the vault is locked"))?;
        let (id, name, action) = match book::secret(self.tx, new.name)? {
            None => {
                let id = secrets::insert(self.tx, key, new.name, new.kind, new.value)?;
                let action = if new.name == new.came_as { Action::Saved } else { Action::Renamed };
                (id, new.name.to_owned(), action)
            }
            Some(row) if is_same(key, &row, new.kind, new.value) => (row.id, row.name, Action::Equal),
            Some(row) => self.secret_beside(key, new, row)?,
        };
        self.settled.insert(Settled::Secret(id));
        self.result.secrets.push(Saved { name, kind: Some(new.kind), action });
        Ok(id)
    }

    /// Another secret has this name.
    fn secret_beside(&self, key: &Opened, new: &Incoming<'_>, row: SecretRow) -> Result<(i64, String, Action), Stop> {
        let of_ours = self.settled.contains(&Settled::Secret(row.id));
        match new.resolve {
            Resolve::Reuse if !of_ours && row.kind == new.kind => {
                // One that cannot be read is of no use.
                drop(row.open(key)?);
                Ok((row.id, row.name, Action::Reused))
            }
            Resolve::Replace if !of_ours => {
                secrets::fits_databases(self.tx, &row, new.kind)?;
                let id = secrets::update(self.tx, key, row, new.name.to_owned(), new.kind, new.value)?;
                Ok((id, new.name.to_owned(), Action::Replaced))
            }
            Resolve::Rename => {
                let name = free_name(new.name, |name| Ok(book::secret(self.tx, name)?.is_none()))?;
                let id = secrets::insert(self.tx, key, &name, new.kind, new.value)?;
                Ok((id, name, Action::Renamed))
            }
            Resolve::Reuse | Resolve::Replace | Resolve::Fail => {
                let hint = match (of_ours, new.resolve) {
                    (true, _) => "two different secrets came under this name: save one of them under another",
                    (_, Resolve::Reuse) => "the one that is here is of another type: replace it or rename the new one",
                    _ => "choose: reuse, replace or rename",
                };
                Err(taken("secret", &row.name).hint(hint).into())
            }
        }
    }

    fn database(
        &mut self,
        came_as: &str,
        mut fields: DatabaseFields,
        links: Links,
        resolve: Resolve,
    ) -> Result<(), Stop> {
        let action = match book::database(self.tx, &fields.name)? {
            None => {
                databases::insert(self.tx, &fields, &links)?;
                if fields.name == came_as { Action::Saved } else { Action::Renamed }
            }
            Some(row) if row.fields == fields && row.links == links => Action::Equal,
            Some(row) => {
                let of_ours = self.settled.contains(&Settled::Database(text::fold(&row.fields.name)));
                match resolve {
                    Resolve::Replace if !of_ours => {
                        book::put_database(self.tx, Some(row.id), &fields, &links, clock::now_ms())?;
                        Action::Replaced
                    }
                    Resolve::Rename => {
                        fields.name = free_name(&fields.name, |name| Ok(book::database(self.tx, name)?.is_none()))?;
                        databases::insert(self.tx, &fields, &links)?;
                        Action::Renamed
                    }
                    _ => {
                        let hint = "replace it, or save the new one under another name";
                        return Err(taken("database", &row.fields.name).hint(hint).into());
                    }
                }
            }
        };
        self.settled.insert(Settled::Database(text::fold(&fields.name)));
        self.result.databases.push(Saved { name: fields.name, kind: None, action });
        Ok(())
    }
}

fn valid_secret(secret: SecretAddParams) -> Result<NamedSecret, Invalid> {
    let SecretAddParams { name, kind, value } = secret;
    check_name("name", &name)?;
    Ok(NamedSecret { name, kind, value: canonical(kind, value)? })
}

/// The database, and the names of its secrets.
fn valid_database(database: DatabaseAddParams) -> Result<(DatabaseFields, [Option<String>; 3]), Invalid> {
    let DatabaseAddParams { name, description, path, origin, s3, encryption, geocoding } = database;
    let fields = DatabaseFields { name, description, path, origin: origin.filter(|it| !it.is_empty()) };
    Ok((fields.check()?, [s3, encryption, geocoding]))
}

fn incoming<'a>(secret: &'a NamedSecret, name: &'a str, resolve: Resolve) -> Incoming<'a> {
    Incoming { came_as: &secret.name, name, kind: secret.kind, value: &secret.value, resolve }
}

/// Whether a secret that came in is the one that is here. One that cannot be read is another.
fn is_same(key: &Opened, row: &SecretRow, kind: SecretType, value: &SecretText) -> bool {
    row.kind == kind && row.open(key).is_ok_and(|have| same(kind, &have, value))
}

/// The first of `NAME (2)`, `NAME (3)` … that is free.
fn free_name(name: &str, is_free: impl Fn(&str) -> Result<bool, Stop>) -> Result<String, Stop> {
    for number in 2..=limits::CREDENTIALS + 2 {
        let tail = format!(" ({number})");
        let candidate = format!("{}{tail}", text::cut(name, limits::CREDENTIAL_NAME - tail.len()).trim_end());
        if is_free(&candidate)? {
            return Ok(candidate);
        }
    }
    Err(taken("thing", name).into())
}

/// The database with the choices of whoever looked through it.
fn edited(fields: &DatabaseFields, choices: &ShareSaveParams) -> Result<DatabaseFields, Invalid> {
    let or = |choice: &Option<String>, came: &String| choice.as_ref().unwrap_or(came).clone();
    DatabaseFields {
        name: or(&choices.name, &fields.name),
        description: or(&choices.description, &fields.description),
        path: or(&choices.path, &fields.path),
        origin: fields.origin.clone(),
    }
    .check()
}

/// Whether the choices are for this payload.
fn check(payload: &Payload, choices: &ShareSaveParams) -> Result<(), ApiError> {
    let wrong = |message: String| Err(ApiError::new(Code::InvalidParam, message));
    if let Some(name) = &choices.name {
        check_name("name", name)?;
    }
    let Payload::Database { fields, secrets } = payload else {
        if choices.description.is_some() || choices.path.is_some() || !choices.secrets.is_empty() {
            return wrong("description, path and secrets are for databases; this is a secret".to_owned());
        }
        return Ok(());
    };
    edited(fields, choices)?;
    let mut seen = BTreeSet::new();
    for SecretChoice { slot, name, .. } in &choices.secrets {
        if !secrets.iter().any(|(its, _)| its == slot) {
            return wrong(format!("secrets: nothing came for {slot}"));
        }
        if !seen.insert(*slot) {
            return wrong(format!("secrets: {slot} is there twice"));
        }
        if let Some(name) = name {
            check_name(&format!("secrets.{slot}.name"), name)?;
        }
    }
    Ok(())
}
