//! Credentials that other programs left in files: `secrets import`. Everything goes into one request, so that the daemon
//! takes over all of it or nothing.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};

use kith_proto::control::credential::{DatabaseAddParams, ImportParams, Saved, SavedResult, SecretAddParams};
use kith_proto::control::method::SecretsImport;
use kith_proto::control::{ApiError, Code};
use kith_proto::credential::import::{self, NamedDatabase, name_of};
use kith_proto::credential::{DatabaseFields, Invalid, NamedSecret, SecretType, Slot, check_name};
use kith_proto::limits::{CONTROL_LINE, CREDENTIAL_FILE, CREDENTIALS};

use super::entries::body::{open, unreadable};
use super::secrets::valid;
use super::{Context, view};
use crate::args::credentials::Import;
use crate::error::{Error, FAILED, Result};
use crate::output::Table;
use crate::wiped;

/// `secrets import`
pub fn run(ctx: &Context, args: Import) -> Result<()> {
    let Import { paths, name, kind, on_conflict, yes } = args;
    let mut found = Found::default();
    for path in &paths {
        if path.is_dir() {
            found.directory(path, kind)?;
        } else {
            found.file(path, name.as_deref(), kind)?;
        }
    }
    let Found { mut secrets, databases, .. } = found;
    if let Some(name) = name {
        let [secret] = secrets.as_mut_slice() else {
            let message = format!("--name is for one secret, and here are {}", secrets.len());
            return Err(Error::usage(message).hint("without it, each has the name that its file says"));
        };
        valid(check_name("name", &name))?;
        secret.name = name;
    }
    if secrets.is_empty() && databases.is_empty() {
        return Err(Error::new(FAILED, "input", "there is nothing in these files to take over"));
    }
    let params = ImportParams {
        secrets: secrets.into_iter().map(secret).collect(),
        databases: databases.into_iter().map(database).collect(),
        on_conflict,
    };
    preview(ctx, &params);
    fits(&params)?;
    if !yes && ctx.out.may_ask() && !ctx.out.confirm("Take this over?", true)? {
        return Err(Error::new(FAILED, "no_answer", "nothing was taken over"));
    }
    let shown = ctx.show::<SecretsImport>(&params, |result| ctx.out.table(&table(result)));
    match shown {
        Err(error) if error.is(Code::NameTaken) => {
            Err(error.hint("--on-conflict reuse, replace or rename says what to do; nothing was taken over"))
        }
        Err(error) if error.is(Code::SecretNotFound) => {
            Err(error.hint("name the file with the secrets of these databases, too; nothing was taken over"))
        }
        Ok(()) => {
            ctx.out.note("the files are as they were: what is secret in them is still there for whoever can read them");
            Ok(())
        }
        failed => failed,
    }
}

/// What lies in the files.
#[derive(Default)]
struct Found {
    secrets: Vec<NamedSecret>,
    databases: Vec<NamedDatabase>,
    /// Bytes of all values.
    bytes: usize,
}

impl Found {
    /// The files of a vault that keeps each secret in one of its own.
    fn directory(&mut self, path: &Path, kind: Option<SecretType>) -> Result<()> {
        let failed = |error| unreadable(&path.display().to_string(), &error);
        let mut files: Vec<PathBuf> = Vec::new();
        for entry in fs::read_dir(path).map_err(failed)? {
            let file = entry.map_err(failed)?.path();
            if extension(&file, "json") && file.is_file() {
                files.push(file);
            }
            if files.len() > CREDENTIALS {
                return Err(too_many());
            }
        }
        files.sort_unstable();
        files.iter().try_for_each(|file| self.file(file, None, kind))
    }

    fn file(&mut self, path: &Path, name: Option<&str>, kind: Option<SecretType>) -> Result<()> {
        let place = path.display().to_string();
        let file = wiped::read(open(path)?, CREDENTIAL_FILE + 1).map_err(|error| unreadable(&place, &error))?;
        let stem = path.file_stem().and_then(OsStr::to_str).map(name_of);
        let name = name.or(stem.as_deref());
        let within = |Invalid { field, why }| -> Error {
            let error = Error::from(ApiError::new(Code::InvalidParam, format!("{place}: {field}: {why}")));
            if field == "name" { error.hint("choose one with --name") } else { error }
        };
        match Format::of(path, &file, kind) {
            Some(Format::Json) => self.add(import::json(&file, name).map_err(within)?)?,
            Some(Format::Toml) => self.databases.extend(import::databases(&file).map_err(within)?),
            Some(Format::Value(kind)) => {
                self.add(vec![import::secret(&file, name.unwrap_or_default(), kind).map_err(within)?])?;
            }
            None => {
                let message = format!("{place} is neither PEM nor JSON nor TOML");
                return Err(Error::new(FAILED, "input", message).hint("--type says what secret it holds"));
            }
        }
        if self.secrets.len() > CREDENTIALS || self.databases.len() > CREDENTIALS { Err(too_many()) } else { Ok(()) }
    }

    /// No more is read than a request can hold.
    fn add(&mut self, secrets: Vec<NamedSecret>) -> Result<()> {
        self.bytes += secrets.iter().map(|secret| secret.value.expose().len()).sum::<usize>();
        self.secrets.extend(secrets);
        if self.bytes > CONTROL_LINE { Err(too_large()) } else { Ok(()) }
    }
}

/// What a file is.
enum Format {
    Json,
    Toml,
    /// The value of one secret.
    Value(SecretType),
}

impl Format {
    fn of(path: &Path, file: &[u8], kind: Option<SecretType>) -> Option<Self> {
        if let Some(kind) = kind {
            return Some(Self::Value(kind));
        }
        if extension(path, "toml") {
            return Some(Self::Toml);
        }
        let text = file.strip_prefix(b"\xef\xbb\xbf").unwrap_or(file).trim_ascii_start();
        match text {
            _ if text.starts_with(b"-----BEGIN ") => Some(Self::Value(SecretType::EncryptionKey)),
            [b'{' | b'[', ..] => Some(Self::Json),
            _ if extension(path, "json") => Some(Self::Json),
            _ => None,
        }
    }
}

fn extension(path: &Path, wanted: &str) -> bool {
    path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case(wanted))
}

fn secret(secret: NamedSecret) -> SecretAddParams {
    let NamedSecret { name, kind, value } = secret;
    SecretAddParams { name, kind, value }
}

fn database(database: NamedDatabase) -> DatabaseAddParams {
    let [s3, encryption, geocoding] = Slot::ALL.map(|slot| database.secret(slot).map(str::to_owned));
    let DatabaseFields { name, description, path, origin } = database.fields;
    DatabaseAddParams { name, description, path, origin, s3, encryption, geocoding }
}

/// What was found, names and types only.
fn preview(ctx: &Context, params: &ImportParams) {
    let mut table = Table::new(&["FOUND", "TYPE"]);
    for secret in &params.secrets {
        table.row([secret.name.clone(), secret.kind.to_string()]);
    }
    for database in &params.databases {
        table.row([database.name.clone(), "database".to_owned()]);
    }
    table.lines().iter().for_each(|line| ctx.out.note(line));
}

/// What became of each.
fn table(result: &SavedResult) -> Table {
    let mut table = Table::new(&["NAME", "TYPE", ""]);
    for Saved { name, kind, action } in result.secrets.iter().chain(&result.databases) {
        let kind = kind.map_or("database".to_owned(), |kind| kind.to_string());
        table.row([name.clone(), kind, view::word(action)]);
    }
    table
}

/// All of it must go in one request: half of it would be worse than nothing.
fn fits(params: &ImportParams) -> Result<()> {
    /// What a request holds besides its parameters, generously.
    const AROUND: usize = 256;
    let json = wiped::json(params, b"")
        .map_err(|error| Error::new(FAILED, "internal", format!("cannot write this as JSON: {error}")))?;
    if json.len() + AROUND > CONTROL_LINE { Err(too_large()) } else { Ok(()) }
}

fn too_large() -> Error {
    let message = "all of this together is more than the 1 MiB that one request can hold; nothing was taken over";
    ApiError::new(Code::TooLarge, message).hint("import the files one by one, those with secrets first").into()
}

fn too_many() -> Error {
    let message = format!("here are more than the {CREDENTIALS} secrets or databases that a vault can hold");
    ApiError::new(Code::TooLarge, message).into()
}
