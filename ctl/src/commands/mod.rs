//! The commands, one file a subject.
//!
//! ```text
//! device     status, id, doctor, config: this device and its daemon
//! events     events, call: the local door as it is
//! peers      peers
//! pair       pair: the side that shows a PIN and the side that types it
//! trust      trust
//! send       send, and the feeding of standard input
//! receive    receive
//! guest      receive windows, and questions about devices that are not paired
//! transfers  transfers
//! inbox      inbox: all that waits for an answer
//! journals   journals: sets of entries, and with whom they are shared
//! entries    entries: what is in a journal
//! diary      journal: texts in a journal, encrypted with a passphrase
//! codes      codes, join, joins: sharing codes
//! sync       sync: keeping journals the same now
//! vault      vault: where secrets are kept
//! secrets    secrets: keys and credentials
//! import     secrets import: those that other programs left in files
//! databases  dbs: databases, and the secrets that they need
//! share      secrets and dbs send, receive: handing credentials over
//! shell      completions, man: no daemon needed
//! view       how peers and transfers look to people
//! ```

mod codes;
mod databases;
mod device;
mod diary;
mod entries;
mod events;
mod guest;
mod import;
mod inbox;
mod journals;
mod pair;
mod peers;
mod receive;
mod secrets;
mod send;
mod share;
mod shell;
mod sync;
mod transfers;
mod trust;
mod vault;
mod view;

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use kith_proto::control::method::Method;

use crate::args::sync::SyncAction;
use crate::args::{Cli, Command};
use crate::client::Client;
use crate::error::{Error, FAILED, Result};
use crate::interrupt::Interrupt;
use crate::output::Output;
use crate::transport::Endpoint;
use crate::values::{absolute, pin};

/// What every command works with.
pub struct Context {
    out: Output,
    endpoint: Endpoint,
    timeout: Duration,
    interrupt: Interrupt,
}

/// Runs a command to its end, and returns the exit code.
pub fn run(cli: Cli, interrupt: Interrupt) -> u8 {
    // `call` prints what the daemon says, so its errors are JSON too.
    let out = Output::new(cli.global.json || matches!(cli.command, Command::Call(_)));
    let ctx = Context { out, endpoint: cli.global.endpoint(), timeout: cli.global.timeout(), interrupt };
    out.end(dispatch(&ctx, cli.command))
}

fn dispatch(ctx: &Context, command: Command) -> Result<()> {
    match command {
        Command::Status => device::status(ctx),
        Command::Id { qr } => device::id(ctx, qr),
        Command::Doctor => device::doctor(ctx),
        Command::Config(action) => device::config(ctx, action),
        Command::Events(args) => events::follow(ctx, args),
        Command::Call(args) => events::call(ctx, &args),
        Command::Completions { shell } => shell::completions(ctx, shell),
        Command::Man => shell::man(ctx),
        Command::Peers { watch: false } => peers::list(ctx),
        Command::Peers { watch: true } => peers::watch(ctx),
        Command::Pair(args) => pair::run(ctx, args),
        Command::Trust(action) => trust::run(ctx, action),
        Command::Send(args) => send::run(ctx, args),
        Command::Inbox { action } => inbox::run(ctx, action),
        Command::Transfers { action, list } => transfers::transfers(ctx, action, list),
        Command::Receive(args) => receive::run(ctx, &args),
        Command::Journals { action } => journals::run(ctx, action),
        Command::Entries(action) => entries::run(ctx, action),
        Command::Journal(action) => diary::run(ctx, action),
        Command::Sync { action: None, sync } => sync::run(ctx, sync),
        Command::Sync { action: Some(SyncAction::Status), .. } => sync::status(ctx),
        Command::Codes { action } => codes::run(ctx, action),
        Command::Join(args) => codes::join(ctx, args),
        Command::Joins { action } => codes::joins(ctx, action),
        Command::Vault { action } => vault::run(ctx, action),
        Command::Secrets { action } => secrets::run(ctx, action),
        Command::Dbs { action } => databases::run(ctx, action),
    }
}

impl Context {
    fn connect(&self) -> Result<Client> {
        Client::connect(&self.endpoint, self.timeout)
    }

    fn ask_pin(&self, target: &str) -> Result<String> {
        if !self.out.may_ask() {
            return Err(Error::usage("there is no terminal to ask for the PIN").hint("give it with --pin"));
        }
        loop {
            match pin(&self.out.ask(&format!("The six digits that {target} shows:"))?) {
                Ok(pin) => return Ok(pin),
                Err(why) => self.out.note(&why),
            }
        }
    }

    /// Calls a method and shows its result: as it came under `--json`, else as `human` tells it.
    fn show<M: Method>(&self, params: &M::Params, human: impl FnOnce(&M::Result) -> Result<()>) -> Result<()> {
        let mut client = self.connect()?;
        if self.out.is_json() {
            self.out.raw(client.call_raw(M::NAME, Some(params))?.get())
        } else {
            human(&client.call::<M>(params)?)
        }
    }
}

/// A path as the daemon takes it: absolute, and text.
fn path_text(path: &Path) -> Result<String> {
    absolute(path)
        .and_then(|path| {
            path.into_os_string()
                .into_string()
                .map_err(|path| format!("{}: this name is not text", PathBuf::from(path).display()))
        })
        .map_err(Error::usage)
}

/// All of standard input, as text.
fn standard_input() -> Result<String> {
    let mut text = String::new();
    match std::io::stdin().read_to_string(&mut text) {
        Ok(_) => Ok(text),
        Err(error) => Err(Error::new(FAILED, "input", format!("cannot read standard input: {error}"))),
    }
}
