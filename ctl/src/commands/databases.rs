//! Databases, and the secrets that they need: `dbs`.

use kith_proto::control::credential::{Database, DatabaseAddParams, DatabaseEditParams, DatabaseParams, Secret};
use kith_proto::control::method::{
    DatabasesAdd, DatabasesEdit, DatabasesList, DatabasesRemove, DatabasesView, Empty, SecretsList,
};
use kith_proto::credential::{DatabaseFields, Slot, check_name};

use super::secrets::{missing, valid};
use super::{Context, share};
use crate::args::credentials::{DbAdd, DbEdit, DbFields, Dbs};
use crate::error::{Error, FAILED, Result};
use crate::output::Table;
use crate::prompt;

/// What somebody types for nothing, where Enter keeps what is there.
const NONE: &str = "-";

/// `dbs`
pub fn run(ctx: &Context, action: Option<Dbs>) -> Result<()> {
    match action.unwrap_or(Dbs::List) {
        Dbs::Add(args) => add(ctx, args),
        Dbs::List => ctx.show::<DatabasesList>(&Empty {}, |result| ctx.out.table(&table(&result.databases))),
        Dbs::View { name } => {
            ctx.show::<DatabasesView>(&DatabaseParams { name }, |database| ctx.out.table(&whole(database)))
        }
        Dbs::Edit(args) => edit(ctx, args),
        Dbs::Remove { name, yes } => remove(ctx, name, yes),
        Dbs::Send(args) => share::send_database(ctx, args),
        Dbs::Receive(args) => share::receive_database(ctx, args),
    }
}

/// Whoever gives name and path on the command line has said what is needed: nothing is asked.
fn add(ctx: &Context, args: DbAdd) -> Result<()> {
    let DbAdd { name, database } = args;
    let params = match (name, database.path.clone()) {
        (Some(name), Some(path)) => {
            let DbFields { description, origin, s3, encryption, geocoding, .. } = database;
            let description = description.unwrap_or_default();
            DatabaseAddParams { name, description, path, origin, s3, encryption, geocoding }
        }
        (name, _) if ctx.out.may_ask() => ask_new(ctx, name, database)?,
        (None, _) => return Err(missing("its name", "--name")),
        (_, None) => return Err(missing("its path", "--path")),
    };
    let given = |text: Option<String>| text.filter(|text| !text.is_empty());
    let params = DatabaseAddParams {
        origin: given(params.origin),
        s3: given(params.s3),
        encryption: given(params.encryption),
        geocoding: given(params.geocoding),
        ..params
    };
    let DatabaseAddParams { name, description, path, origin, .. } = params.clone();
    valid(DatabaseFields { name, description, path, origin }.check())?;
    ctx.show::<DatabasesAdd>(&params, |database| ctx.out.line(&format!("added {}", database.name)))
}

fn edit(ctx: &Context, args: DbEdit) -> Result<()> {
    let DbEdit { name, rename, database } = args;
    let DbFields { description, path, origin, s3, encryption, geocoding } = database;
    let mut params = DatabaseEditParams { name, rename, description, path, origin, s3, encryption, geocoding };
    if says_nothing(&params) {
        if !ctx.out.may_ask() {
            return Err(Error::usage("this says nothing to change").hint("see: kithctl dbs edit --help"));
        }
        params = ask_changes(ctx, params.name)?;
        if says_nothing(&params) {
            ctx.out.note("nothing was changed");
            return Ok(());
        }
    }
    if let Some(rename) = &params.rename {
        valid(check_name("rename", rename))?;
    }
    ctx.show::<DatabasesEdit>(&params, |database| ctx.out.line(&format!("changed {}", database.name)))
}

fn remove(ctx: &Context, name: String, yes: bool) -> Result<()> {
    if !yes && ctx.out.may_ask() {
        let question = format!("Remove {name} from the list? Its files and its secrets stay.");
        if !ctx.out.confirm(&question, false)? {
            return Err(Error::new(FAILED, "no_answer", "nothing was removed"));
        }
    }
    let params = DatabaseParams { name };
    ctx.show::<DatabasesRemove>(&params, |_| ctx.out.line(&format!("removed {}", params.name)))
}

/// Databases, one a row.
fn table(databases: &[Database]) -> Table {
    let mut table = Table::new(&["NAME", "PATH", "S3", "ENCRYPTION", "GEOCODING"]);
    for database in databases {
        let secret = |slot| database.secret(slot).unwrap_or_default().to_owned();
        let [s3, encryption, geocoding] = Slot::ALL.map(secret);
        table.row([database.name.clone(), database.path.clone(), s3, encryption, geocoding]);
    }
    table
}

/// All about a database.
fn whole(database: &Database) -> Table {
    let mut table = Table::untitled();
    table.pair("name", database.name.clone());
    table.pair("description", database.description.clone());
    table.pair("path", database.path.clone());
    table.pair("origin", database.origin.clone());
    for slot in Slot::ALL {
        table.pair(slot.name(), database.secret(slot).map(str::to_owned));
    }
    table.pair("added", database.created.clone());
    table.pair("changed", database.updated.clone());
    table
}

fn says_nothing(params: &DatabaseEditParams) -> bool {
    let DatabaseEditParams { name: _, rename, description, path, origin, s3, encryption, geocoding } = params;
    [rename, description, path, origin, s3, encryption, geocoding].iter().all(|field| field.is_none())
}

/// Asks for what the command line leaves open.
fn ask_new(ctx: &Context, name: Option<String>, given: DbFields) -> Result<DatabaseAddParams> {
    let line = |given: &Option<String>, question, now: &str| {
        given.clone().map_or_else(|| prompt::line(ctx.out, question, now), Ok)
    };
    let or = |given: &Option<String>| given.clone().unwrap_or_else(|| NONE.to_owned());
    let (description, origin) = (or(&given.description), given.origin.clone().filter(|origin| !origin.is_empty()));
    // What is given cannot be asked for again.
    valid(DatabaseFields { name: or(&name), description, path: or(&given.path), origin }.check())?;
    let mut now = DatabaseFields { name: String::new(), description: String::new(), path: String::new(), origin: None };
    let DatabaseFields { name, description, path, origin } = loop {
        let origin = now.origin.clone().unwrap_or_default();
        now = DatabaseFields {
            name: line(&name, "Name", &now.name)?,
            path: line(&given.path, "Path (a directory, or s3:bucket/prefix)", &now.path)?,
            description: line(&given.description, "Description", &now.description)?,
            origin: Some(line(&given.origin, "Origin (where it was first made; may be empty)", &origin)?)
                .filter(|origin| !origin.is_empty()),
        };
        match now.clone().check() {
            Ok(typed) => break typed,
            Err(invalid) => ctx.out.note(&invalid.to_string()),
        }
    };
    let mut secrets = Secrets::default();
    let mut secret = |slot, given: Option<String>| given.map_or_else(|| secrets.choose(ctx, slot, None), Ok).map(Some);
    Ok(DatabaseAddParams {
        name,
        description,
        path,
        origin,
        s3: secret(Slot::S3, given.s3)?,
        encryption: secret(Slot::Encryption, given.encryption)?,
        geocoding: secret(Slot::Geocoding, given.geocoding)?,
    })
}

/// Asks what to change; Enter keeps what is there.
fn ask_changes(ctx: &Context, name: String) -> Result<DatabaseEditParams> {
    let now = ctx.connect()?.call::<DatabasesView>(&DatabaseParams { name })?;
    let or_none = |question, now: &str| {
        prompt::line(ctx.out, question, now).map(|answer| if answer == NONE { String::new() } else { answer })
    };
    let old_origin = now.origin.clone().unwrap_or_default();
    let (typed, new_origin) = loop {
        let (name, path) = (prompt::line(ctx.out, "Name", &now.name)?, prompt::line(ctx.out, "Path", &now.path)?);
        let description = or_none("Description (- for none)", &now.description)?;
        let origin = or_none("Origin (- for none)", &old_origin)?;
        let given = Some(origin.clone()).filter(|origin| !origin.is_empty());
        match (DatabaseFields { name, description, path, origin: given }).check() {
            Ok(typed) => break (typed, origin),
            Err(invalid) => ctx.out.note(&invalid.to_string()),
        }
    };
    let changed = |new: String, old: &str| Some(new).filter(|new| new != old);
    let rename = changed(typed.name, &now.name);
    let path = changed(typed.path, &now.path);
    let description = changed(typed.description, &now.description);
    let origin = changed(new_origin, &old_origin);
    let mut secrets = Secrets::default();
    let mut secret = |slot| -> Result<Option<String>> {
        let chosen = secrets.choose(ctx, slot, now.secret(slot))?;
        Ok(Some(chosen).filter(|chosen| chosen != now.secret(slot).unwrap_or_default()))
    };
    let (s3, encryption, geocoding) = (secret(Slot::S3)?, secret(Slot::Encryption)?, secret(Slot::Geocoding)?);
    Ok(DatabaseEditParams { name: now.name.clone(), rename, description, path, origin, s3, encryption, geocoding })
}

/// The secrets in the vault, once somebody has to choose.
#[derive(Default)]
struct Secrets(Option<Vec<Secret>>);

impl Secrets {
    /// Asks for a secret that fits; nothing for none, and nobody is asked where there is none.
    fn choose(&mut self, ctx: &Context, slot: Slot, now: Option<&str>) -> Result<String> {
        let secrets = match &mut self.0 {
            Some(secrets) => secrets,
            none => none.insert(ctx.connect()?.call::<SecretsList>(&Empty {})?.secrets),
        };
        let fitting = secrets.iter().filter(|secret| secret.kind == slot.secret_type());
        let mut options: Vec<String> = fitting.map(|secret| secret.name.clone()).collect();
        if options.is_empty() {
            return Ok(now.unwrap_or_default().to_owned());
        }
        let default = now.and_then(|now| options.iter().position(|name| name == now)).unwrap_or(options.len());
        options.push("none".to_owned());
        let at = prompt::choose(ctx.out, &format!("Secret for {slot}"), &options, Some(default))?;
        options.pop();
        Ok(options.get(at).cloned().unwrap_or_default())
    }
}
