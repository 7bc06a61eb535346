//! `kithctl`: the Kith daemon from a terminal or a script.
//!
//! ```text
//! args       the command line, and where the daemon's socket is
//! values     single values on the command line: sizes, times, PINs, hashes, words, paths
//! commands/  one file a subject; each command is a function from its arguments to a result
//! client     JSON-RPC over the local door; nothing else knows how a request looks
//! transport  the stream beneath it (a Unix socket; a named pipe joins here)
//! output     everything that is written: results to stdout, all else to stderr, peers' text escaped
//! passphrase where one comes from: a terminal that does not show it, or a file
//! prompt     questions: a line, one of several things, something hidden
//! sealed     texts encrypted with a passphrase, and how they look in an entry
//! wiped      bytes that leave no copy behind
//! progress   bars on a terminal
//! diagnose   why the daemon cannot be reached, and the next command
//! error      what a failed command says and its exit code
//! interrupt  Ctrl+C: exit code 130, and what is taken back before
//! ```
//!
//! Deliberately absent: async (one question at a time, on one connection), knowledge of received files, of the device's
//! keys or of the network (the daemon's), and state of its own.

mod args;
mod client;
mod commands;
mod diagnose;
mod error;
mod interrupt;
mod output;
mod passphrase;
mod progress;
mod prompt;
mod sealed;
mod transport;
mod values;
mod wiped;

use std::process::ExitCode;

use clap::Parser;

use crate::args::Cli;
use crate::output::Output;

fn main() -> ExitCode {
    keep_memory();
    match Cli::try_parse() {
        Ok(cli) => interrupt::run(move |interrupt| commands::run(cli, interrupt)).into(),
        Err(help_or_usage) => Output::asked_for_json().command_line(&help_or_usage).into(),
    }
}

/// No other process of this user, and no crash dump, shows the secrets that pass through here.
fn keep_memory() {
    // Where the system does not know this, things are no worse than before.
    #[cfg(target_os = "linux")]
    let _ = rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable);
    let none = rustix::process::Rlimit { current: Some(0), maximum: Some(0) };
    let _ = rustix::process::setrlimit(rustix::process::Resource::Core, none);
}
