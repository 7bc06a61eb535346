//! The command line of handing secrets and databases over.

use clap::Args;
use kith_proto::control::credential::Resolve;

use crate::values::{Slots, slots, word};

/// What to do where a name is taken.
const RESOLUTIONS: [&str; 4] = ["reuse", "replace", "rename", "fail"];

/// `secrets send`
#[derive(Debug, Args)]
pub struct SendSecret {
    /// Its name; without it you choose from a list
    pub name: Option<String>,
    /// To whom, and how.
    #[command(flatten)]
    pub how: Sending,
}

/// `dbs send`
#[derive(Debug, Args)]
pub struct SendDatabase {
    /// Its name; without it you choose from a list
    pub name: Option<String>,
    /// To whom, and how.
    #[command(flatten)]
    pub how: Sending,
    /// The description that goes there; its own if absent
    #[arg(long)]
    pub description: Option<String>,
    /// The path that goes there; its own if absent
    #[arg(long)]
    pub path: Option<String>,
    /// Which of its secrets go along: s3, encryption, geocoding, all or none; all if absent
    #[arg(long, value_name = "WHICH,…", value_parser = slots)]
    pub secrets: Option<Slots>,
}

/// To whom something is handed over, and how.
#[derive(Debug, Args)]
pub struct Sending {
    /// A paired device, where it waits for a review: its name, id, or the beginning of the id. Without it, whoever types the code gets it
    #[arg(long, value_name = "PEER")]
    pub to: Option<String>,
    /// What to call it there
    #[arg(long = "name", value_name = "NAME")]
    pub rename: Option<String>,
    /// Another app's way, in which the code proves nothing: any device on this network could take it
    #[arg(long, value_name = "APP", conflicts_with = "to", value_enum)]
    pub compat: Option<App>,
    /// Do not ask: what is not said here goes as it is
    #[arg(long, short)]
    pub yes: bool,
}

/// `secrets receive`
#[derive(Debug, Args)]
pub struct ReceiveSecret {
    /// From whom, and how.
    #[command(flatten)]
    pub how: Receiving,
}

/// `dbs receive`
#[derive(Debug, Args)]
pub struct ReceiveDatabase {
    /// From whom, and how.
    #[command(flatten)]
    pub how: Receiving,
    /// The description to save; the one that came if absent
    #[arg(long)]
    pub description: Option<String>,
    /// The path to save; the one that came if absent
    #[arg(long)]
    pub path: Option<String>,
    /// Which of its secrets to take: s3, encryption, geocoding, all or none; all if absent
    #[arg(long, value_name = "WHICH,…", value_parser = slots)]
    pub secrets: Option<Slots>,
}

/// From whom something is taken, and how.
#[derive(Debug, Args)]
pub struct Receiving {
    /// The digits that the other device shows. Whoever looks at this machine's processes sees them too; `-` reads them from standard input. Without --code they are asked for
    #[arg(long, value_name = "DIGITS")]
    pub code: Option<String>,
    /// What a paired device sent, as `kithctl inbox` lists it: its id, or the beginning of it
    #[arg(long, value_name = "ID", conflicts_with_all = ["code", "compat"])]
    pub inbox: Option<String>,
    /// Do not ask: save what comes
    #[arg(long, short, conflicts_with = "compat")]
    pub yes: bool,
    /// What to do where something else has the name: reuse keeps what is here (not for databases). Asked if absent; with --yes, reuse
    #[arg(long, value_name = "WHAT", value_parser = word::<Resolve>(RESOLUTIONS))]
    pub on_conflict: Option<Resolve>,
    /// What to call it here
    #[arg(long)]
    pub name: Option<String>,
    /// Another app's way, in which the code proves nothing: any device on this network could send something else
    #[arg(long, value_name = "APP", value_enum)]
    pub compat: Option<App>,
}

/// Apps whose protocol is spoken on demand.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum App {
    /// `psi` and the Photosphere desktop app.
    Photosphere,
}
