//! Where secrets are kept: `vault`.

use std::path::Path;

use kith_proto::control::credential::{PassphraseParams, UnlockParams, Vault, VaultMode, VaultState};
use kith_proto::control::method::{Empty, VaultLock, VaultPassphrase, VaultStatus, VaultUnlock};
use kith_proto::control::{ApiError, Code};
use kith_proto::secret_text::SecretText;

use super::{Context, view};
use crate::args::credentials::{self, NewPassphrase};
use crate::args::diary::PassphraseFrom;
use crate::error::Result;
use crate::output::Table;
use crate::passphrase::{Passphrase, Terminal, obtain};

/// `vault`
pub fn run(ctx: &Context, action: Option<credentials::Vault>) -> Result<()> {
    let said = |vault: &Vault| ctx.out.line(&line(vault));
    match action.unwrap_or(credentials::Vault::Status) {
        credentials::Vault::Status => ctx.show::<VaultStatus>(&Empty {}, |vault| ctx.out.table(&whole(vault))),
        credentials::Vault::Lock => ctx.show::<VaultLock>(&Empty {}, said),
        credentials::Vault::Unlock(from) => {
            ctx.show::<VaultUnlock>(&UnlockParams { passphrase: present(ctx, &from)? }, said)
        }
        credentials::Vault::Passphrase(args) => ctx.show::<VaultPassphrase>(&passphrase(ctx, &args)?, said),
    }
}

/// Fails with what the daemon would say to somebody who wants to keep a secret now, if it would.
pub fn must_be_open(ctx: &Context) -> Result<()> {
    let vault = ctx.connect()?.call::<VaultStatus>(&Empty {})?;
    match (vault.state, vault.reason) {
        (VaultState::Locked, _) => Err(ApiError::new(Code::VaultLocked, "the vault is locked").into()),
        (VaultState::Unusable, Some(reason)) => Err(reason.into()),
        _ => Ok(()),
    }
}

fn passphrase(ctx: &Context, args: &NewPassphrase) -> Result<PassphraseParams> {
    let current = present(ctx, &args.present)?;
    let new = if args.remove { None } else { Some(new(ctx, args.new_passphrase_file.as_deref())?) };
    Ok(PassphraseParams { current, new })
}

/// The passphrase that the vault has. Nobody is asked for one that it does not have.
fn present(ctx: &Context, from: &PassphraseFrom) -> Result<Option<SecretText>> {
    let file = from.passphrase_file.as_deref();
    if file.is_none() && ctx.connect()?.call::<VaultStatus>(&Empty {})?.mode != Some(VaultMode::Passphrase) {
        return Ok(None);
    }
    let ask = |terminal: &mut Terminal<'_>| terminal.ask("Passphrase of the vault:");
    obtain(ctx.out, &ctx.interrupt, file, "--passphrase-file", ask).map(|passphrase| Some(text(&passphrase)))
}

fn new(ctx: &Context, file: Option<&Path>) -> Result<SecretText> {
    let ask = |terminal: &mut Terminal<'_>| {
        ctx.out.note("whoever forgets this passphrase loses every secret in the vault: nobody can open it again");
        terminal.ask_twice("New passphrase:")
    };
    obtain(ctx.out, &ctx.interrupt, file, "--new-passphrase-file", ask).map(|passphrase| text(&passphrase))
}

fn text(passphrase: &Passphrase) -> SecretText {
    SecretText::new(passphrase.expose().clone())
}

/// All about the vault.
fn whole(vault: &Vault) -> Table {
    let mut table = Table::untitled();
    table.pair("state", state(vault.state).to_owned());
    table.pair("key", vault.mode.map(|mode| key(mode).to_owned()));
    table.pair("secrets", vault.secrets.to_string());
    table.pair("databases", vault.databases.to_string());
    table.pair("locks itself", vault.idle_minutes.map(|minutes| format!("after {minutes} minutes without use")));
    if let Some(reason) = &vault.reason {
        table.pair("reason", reason.message.clone());
        table.pair("what to do", reason.hint.clone());
    }
    if vault.state == VaultState::Locked {
        table.pair("what to do", "kithctl vault unlock".to_owned());
    }
    table
}

/// The vault in one line.
fn line(vault: &Vault) -> String {
    let key = vault.mode.map(|mode| format!("; its key is {}", key(mode))).unwrap_or_default();
    format!("the vault is {}{key}", view::word(&vault.state))
}

fn state(state: VaultState) -> &'static str {
    match state {
        VaultState::Absent => "absent: the first secret makes it",
        VaultState::Unlocked => "unlocked",
        VaultState::Locked => "locked",
        VaultState::Unusable => "unusable",
        VaultState::Unknown => "unknown",
    }
}

fn key(mode: VaultMode) -> &'static str {
    match mode {
        VaultMode::Credential => "from the service manager",
        VaultMode::File => "in a file",
        VaultMode::Passphrase => "under a passphrase",
        VaultMode::Unknown => "somewhere that this kithctl does not know",
    }
}
