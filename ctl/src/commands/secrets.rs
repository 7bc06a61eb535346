//! Keys and credentials in the vault: `secrets`.

use std::io::{self, IsTerminal as _};
use std::path::Path;

use kith_proto::control::credential::{
    Secret, SecretAddParams, SecretEditParams, SecretParams, SecretRemoveParams, SecretView,
};
use kith_proto::control::method::{
    Empty, Method as _, SecretsAdd, SecretsEdit, SecretsList, SecretsRemove, SecretsView,
};
use kith_proto::control::{ApiError, Code};
use kith_proto::credential::{Invalid, S3, SecretType, canonical, check_name};
use kith_proto::limits::SECRET_VALUE;
use kith_proto::secret_text::SecretText;
use kith_proto::text::fold;
use zeroize::Zeroize as _;

use super::entries::body::{open, unreadable};
use super::{Context, import, share, vault};
use crate::args::credentials::{SecretAdd, SecretEdit, Secrets, ValueFrom};
use crate::error::{Error, FAILED, Result};
use crate::output::Table;
use crate::values::shell_word;
use crate::{prompt, wiped};

/// `secrets`
pub fn run(ctx: &Context, action: Option<Secrets>) -> Result<()> {
    match action.unwrap_or(Secrets::List) {
        Secrets::Add(args) => add(ctx, args),
        Secrets::List => ctx.show::<SecretsList>(&Empty {}, |result| ctx.out.table(&table(&result.secrets))),
        Secrets::View { name, yes } => view(ctx, name, yes),
        Secrets::Edit(args) => edit(ctx, args),
        Secrets::Remove { name, yes, force } => remove(ctx, name, yes, force),
        Secrets::Import(args) => import::run(ctx, args),
        Secrets::Send(args) => share::send_secret(ctx, args),
        Secrets::Receive(args) => share::receive_secret(ctx, args),
    }
}

fn add(ctx: &Context, args: SecretAdd) -> Result<()> {
    let given_value = args.value.value.is_some() || args.value.file.is_some();
    if ctx.out.may_ask() && !(given_value && args.name.is_some() && args.kind.is_some()) {
        // Better said now than after somebody typed all of it.
        vault::must_be_open(ctx)?;
    }
    let name = match args.name {
        Some(name) => name,
        None if ctx.out.may_ask() => ask_free_name(ctx)?,
        None => return Err(missing("its name", "--name")),
    };
    valid(check_name("name", &name))?;
    let kind = match args.kind {
        Some(kind) => kind,
        None if ctx.out.may_ask() => ask_kind(ctx, None)?,
        None => return Err(missing("its type", "--type")),
    };
    let value = given(ctx, &args.value, kind)?;
    let value = match value {
        Some(value) => value,
        None if ctx.out.may_ask() => ask_valid_value(ctx, kind)?,
        // Whoever types it there is seen typing it.
        None if io::stdin().is_terminal() => return Err(missing("its value", "--file")),
        None => read(io::stdin(), "standard input", kind)?,
    };
    let params = SecretAddParams { name, kind, value: valid(canonical(kind, value))? };
    ctx.show::<SecretsAdd>(&params, |secret| ctx.out.line(&format!("added {} ({})", secret.name, secret.kind)))
}

fn view(ctx: &Context, name: String, yes: bool) -> Result<()> {
    if !yes {
        if !ctx.out.may_ask() {
            let message = "there is no terminal to ask whether its value may be shown";
            return Err(Error::usage(message).hint("--yes shows it without asking"));
        }
        if !ctx.out.confirm(&format!("The value of {name} is a secret. Show it here?"), false)? {
            return Err(Error::new(FAILED, "no_answer", "nothing was shown"));
        }
    }
    let mut client = ctx.connect()?;
    let raw = client.call_raw(SecretsView::NAME, Some(&SecretParams { name }))?;
    let shown = if ctx.out.is_json() {
        ctx.out.raw(raw.get())
    } else {
        let SecretView { value, .. } = client.decode(&raw)?;
        if io::stdout().is_terminal() {
            value.expose().lines().try_for_each(|line| ctx.out.line(line))
        } else {
            ctx.out.bytes(value.expose().as_bytes())
        }
    };
    Box::<str>::from(raw).zeroize();
    shown
}

fn edit(ctx: &Context, args: SecretEdit) -> Result<()> {
    let SecretEdit { name, rename, kind, value: from } = args;
    let named = rename.is_some() || kind.is_some() || from.file.is_some() || from.value.is_some();
    if !named && !ctx.out.may_ask() {
        return Err(Error::usage("this says nothing to change").hint("see: kithctl secrets edit --help"));
    }
    let mut params = SecretEditParams { name, rename, kind, value: None };
    if !named {
        let secret = find(ctx, &params.name)?;
        params.rename = Some(prompt::line(ctx.out, "Name", &secret.name)?).filter(|name| *name != secret.name);
        let kind = ask_kind(ctx, Some(secret.kind))?;
        params.kind = Some(kind).filter(|kind| *kind != secret.kind);
        if ctx.out.confirm("Another value?", false)? {
            vault::must_be_open(ctx)?;
            params.value = Some(ask_valid_value(ctx, kind)?);
        }
        if params.rename.is_none() && params.kind.is_none() && params.value.is_none() {
            ctx.out.note("nothing was changed");
            return Ok(());
        }
    } else if from.file.is_some() || from.value.is_some() {
        let kind = match kind {
            Some(kind) => kind,
            None => find(ctx, &params.name)?.kind,
        };
        let value = given(ctx, &from, kind)?;
        params.value = value.map(|value| valid(canonical(kind, value))).transpose()?;
    }
    if let Some(rename) = &params.rename {
        valid(check_name("rename", rename))?;
    }
    ctx.show::<SecretsEdit>(&params, |secret| ctx.out.line(&format!("changed {} ({})", secret.name, secret.kind)))
}

fn remove(ctx: &Context, name: String, yes: bool, force: bool) -> Result<()> {
    let nothing = || Error::new(FAILED, "no_answer", "nothing was removed");
    let ask = !yes && ctx.out.may_ask();
    if ask && !ctx.out.confirm(&format!("Delete the secret {name}? Nobody can bring it back."), false)? {
        return Err(nothing());
    }
    let mut client = ctx.connect()?;
    let mut params = SecretRemoveParams { name, force };
    let removed = match client.call_raw(SecretsRemove::NAME, Some(&params)) {
        Err(Error::Told { code, message, .. }) if ask && code == Code::SecretInUse.as_str() => {
            ctx.out.note(&message);
            if !ctx.out.confirm("Delete it all the same? What uses it has none in its place then.", false)? {
                return Err(nothing());
            }
            params.force = true;
            client.call_raw(SecretsRemove::NAME, Some(&params))
        }
        Err(error) if error.is(Code::SecretInUse) => Err(error.hint("--force deletes it all the same")),
        other => other,
    }?;
    if ctx.out.is_json() { ctx.out.raw(removed.get()) } else { ctx.out.line(&format!("removed {}", params.name)) }
}

/// Secrets, one a row.
fn table(secrets: &[Secret]) -> Table {
    let mut table = Table::new(&["NAME", "TYPE", "CHANGED", "USED BY"]);
    for secret in secrets {
        let used_by: Vec<String> = secret.used_by.iter().map(|name| shell_word(name)).collect();
        table.row([secret.name.clone(), secret.kind.to_string(), secret.updated.clone(), used_by.join(" ")]);
    }
    table
}

/// The secret of this name, without its value.
pub fn find(ctx: &Context, name: &str) -> Result<Secret> {
    let secrets = ctx.connect()?.call::<SecretsList>(&Empty {})?.secrets;
    let found = secrets.into_iter().find(|secret| fold(&secret.name) == fold(name));
    found.ok_or_else(|| {
        ApiError::new(Code::SecretNotFound, format!("there is no secret {name}"))
            .hint("see: kithctl secrets list")
            .into()
    })
}

/// The value that the command line names, if it does.
fn given(ctx: &Context, from: &ValueFrom, kind: SecretType) -> Result<Option<SecretText>> {
    match (&from.value, &from.file) {
        (Some(value), _) => {
            ctx.out.note("kithctl: others on this machine may have seen this value; --file and standard input hide it");
            Ok(Some(SecretText::new(value.clone())))
        }
        (None, Some(path)) if path.as_os_str() == "-" => read(io::stdin(), "standard input", kind).map(Some),
        (None, Some(path)) => read(open(path)?, &path.display().to_string(), kind).map(Some),
        (None, None) => Ok(None),
    }
}

/// The value in a file. A line break at its end is the editor's, not the value's, where a value is no form of its own.
fn read(input: impl io::Read, name: &str, kind: SecretType) -> Result<SecretText> {
    // One byte more than a value and a line break can have is enough to know.
    let bytes = wiped::read(input, SECRET_VALUE + 3).map_err(|error| unreadable(name, &error))?;
    let text = str::from_utf8(&bytes).map_err(|_| Error::new(FAILED, "input", format!("{name} is no text (UTF-8)")))?;
    let bare = text.strip_suffix('\n').map(|text| text.strip_suffix('\r').unwrap_or(text));
    let text = if matches!(kind, SecretType::ApiKey | SecretType::Plain) { bare.unwrap_or(text) } else { text };
    Ok(SecretText::new(text.to_owned()))
}

/// Asks for a name until it is one.
pub fn ask_name(ctx: &Context, question: &str, now: &str) -> Result<String> {
    loop {
        let name = prompt::line(ctx.out, question, now)?;
        match check_name("name", &name) {
            Ok(()) => return Ok(name),
            Err(invalid) => ctx.out.note(&invalid.to_string()),
        }
    }
}

/// Asks for a name that no other secret has: better said now than after the value was typed.
fn ask_free_name(ctx: &Context) -> Result<String> {
    loop {
        let name = ask_name(ctx, "Name", "")?;
        match find(ctx, &name) {
            Ok(other) => ctx.out.note(&format!("there is another secret called {}", other.name)),
            Err(error) if error.is(Code::SecretNotFound) => return Ok(name),
            Err(error) => return Err(error),
        }
    }
}

/// Asks for a type.
fn ask_kind(ctx: &Context, default: Option<SecretType>) -> Result<SecretType> {
    let names = SecretType::ALL.map(|kind| kind.name().to_owned());
    let default = default.and_then(|kind| SecretType::ALL.iter().position(|other| *other == kind));
    let at = prompt::choose(ctx.out, "Type", &names, default)?;
    Ok(SecretType::ALL.get(at).copied().unwrap_or(SecretType::Unknown))
}

/// Asks for a value until it is one of this type.
fn ask_valid_value(ctx: &Context, kind: SecretType) -> Result<SecretText> {
    loop {
        match canonical(kind, ask_value(ctx, kind)?) {
            Ok(value) => return Ok(value),
            Err(invalid) => ctx.out.note(&invalid.to_string()),
        }
    }
}

/// Asks for a value, piece by piece where it has several.
fn ask_value(ctx: &Context, kind: SecretType) -> Result<SecretText> {
    let line = |question| prompt::line(ctx.out, question, "").map(SecretText::new);
    let hidden = |question| prompt::hidden(&ctx.interrupt, question);
    match kind {
        SecretType::S3Credentials => {
            let s3 = S3 {
                region: line("Region")?,
                access_key_id: line("Access key id")?,
                secret_access_key: hidden("Secret access key (not shown)")?,
                endpoint: Some(line("Endpoint (Enter for Amazon's)")?).filter(|it| !it.expose().is_empty()),
            };
            Ok(s3.to_value())
        }
        SecretType::EncryptionKey => loop {
            let path = prompt::line(ctx.out, "PEM file with the key", "")?;
            match open(Path::new(&path)).and_then(|file| read(file, &path, kind)) {
                Err(Error::Told { message, .. }) => ctx.out.note(&message),
                done => return done,
            }
        },
        SecretType::ApiKey | SecretType::Plain | SecretType::Unknown => hidden("Value (not shown)"),
    }
}

/// The error of something that must be given where nobody can be asked.
pub fn missing(what: &str, flag: &str) -> Error {
    Error::usage(format!("there is no terminal to ask for {what}")).hint(format!("give it with {flag}"))
}

/// What the daemon would say, said before anything is sent.
pub fn valid<T>(checked: std::result::Result<T, Invalid>) -> Result<T> {
    checked.map_err(|invalid| ApiError::from(invalid).into())
}
