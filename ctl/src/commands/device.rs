//! This device and its daemon: `status`, `id`, `doctor`, `config`.

use kith_proto::control::method::{self, DoctorResult, Empty, IdentityResult, StatusResult};

use super::Context;
use crate::args::Config;
use crate::error::{Error, FAILED, Result};
use crate::output::Table;

/// `status`
pub fn status(ctx: &Context) -> Result<()> {
    ctx.show::<method::Status>(&Empty {}, |status| ctx.out.table(&status_table(status)))
}

fn status_table(status: &StatusResult) -> Table {
    let mut table = Table::untitled();
    table.pair("device", format!("{} ({})", status.name, status.id));
    table.pair("daemon", format!("kithd {}, process {}, since {}", status.version, status.pid, status.started));
    table.pair("peer door", format!("port {}", status.peer_port));
    table.pair("hello port", status.hello_port.map(|port| format!("{port}, for sharing codes")));
    table.pair("addresses", status.addresses.join("  "));
    table.pair("socket", status.socket.clone());
    table.pair("downloads", status.download_dir.clone());
    table.pair("trusted", format!("{}, {} online", status.trusted, status.online));
    table.pair("inbox", format!("{} waiting", status.inbox));
    table.pair("transfers", format!("{} not over", status.transfers));
    table
}

/// `id`
pub fn id(ctx: &Context, qr: bool) -> Result<()> {
    ctx.show::<method::Identity>(&Empty {}, |identity: &IdentityResult| {
        let mut table = Table::untitled();
        table.pair("id", identity.id.to_string());
        table.pair("name", identity.name.clone());
        table.pair("public key", identity.public_key.clone());
        table.pair("fingerprint", identity.fingerprint.clone());
        table.pair("created", identity.created.clone());
        ctx.out.table(&table)?;
        if qr { ctx.out.qr(&format!("kith://device?d={}&k={}", identity.id, identity.public_key)) } else { Ok(()) }
    })
}

/// `doctor`: fails when a check does.
pub fn doctor(ctx: &Context) -> Result<()> {
    let mut client = ctx.connect()?;
    let found = client.call::<method::Doctor>(&Empty {})?;
    if ctx.out.is_json() {
        ctx.out.object(&found)?;
    } else {
        ctx.out.table(&doctor_table(&found))?;
    }
    match found.checks.iter().filter(|check| !check.ok).count() {
        0 => Ok(()),
        bad => Err(Error::new(FAILED, "checks_failed", format!("{bad} of {} checks failed", found.checks.len()))),
    }
}

fn doctor_table(found: &DoctorResult) -> Table {
    let mut table = Table::untitled();
    for check in &found.checks {
        table.row([if check.ok { "ok" } else { "FAILED" }.to_owned(), check.name.clone(), check.detail.clone()]);
        if let Some(hint) = &check.hint {
            table.row([String::new(), String::new(), hint.clone()]);
        }
    }
    table
}

/// `config`
pub fn config(ctx: &Context, action: Config) -> Result<()> {
    ctx.show::<method::Config>(&Empty {}, |config| match action {
        Config::Show => config.toml.lines().try_for_each(|line| ctx.out.line(line)),
        Config::Check => {
            let file =
                if config.exists { "in force since kithd started" } else { "does not exist: all is as built in" };
            ctx.out.line(&format!("{}: {file}", config.file))?;
            ctx.out.note("after a change: kithd --check-config, then restart kithd");
            Ok(())
        }
    })
}
