//! The command line of encrypted texts.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use serde_json::{Map, Value};

use crate::values::metadata;

/// `journal`
#[derive(Debug, Subcommand)]
pub enum Diary {
    /// Encrypt a text and write it as an entry; the text comes from standard input or a file
    #[command(after_help = "Examples:\n  kithctl journal write default       type it, end with Ctrl+D\n  \
        kithctl journal write default --file today.txt --meta '{\"mood\":\"good\"}'")]
    Write(Write),
    /// Show one entry, or all that the passphrase opens, oldest first
    #[command(after_help = "Examples:\n  kithctl journal read default\n  \
        kithctl journal read default ID --passphrase-file ~/.secrets/journal")]
    Read {
        /// The journal's name or id
        journal: String,
        /// One entry; all if absent
        id: Option<String>,
        /// How to come by the passphrase.
        #[command(flatten)]
        passphrase: PassphraseFrom,
    },
}

/// `journal write`
#[derive(Debug, Args)]
pub struct Write {
    /// The journal's name or id
    pub journal: String,
    /// The entry; a new one if absent
    pub id: Option<String>,
    /// Read the text there instead of from standard input
    #[arg(long, value_name = "PATH")]
    pub file: Option<PathBuf>,
    /// Metadata, a JSON object. It is NOT encrypted: no secrets here. An entry that is replaced keeps its own if absent
    #[arg(long, value_name = "JSON", value_parser = metadata)]
    pub meta: Option<Map<String, Value>>,
    /// How to come by the passphrase.
    #[command(flatten)]
    pub passphrase: PassphraseFrom,
    /// It is another passphrase than the one of the entries that are there, on purpose
    #[arg(long)]
    pub new_passphrase: bool,
}

/// How to come by the passphrase.
#[derive(Debug, Args)]
pub struct PassphraseFrom {
    /// The first line of this file is the passphrase; without it, it is asked for on the terminal
    #[arg(long, value_name = "PATH")]
    pub passphrase_file: Option<PathBuf>,
}

#[cfg(test)]
mod tests {
    use crate::args::Cli;
    use clap::Parser as _;

    #[test]
    fn neither_text_nor_passphrase_is_an_argument() {
        for line in [
            "journal",
            "journal write",
            "journal write notes --text hi",
            "journal write notes --passphrase secret",
            "journal read notes --passphrase secret",
            "journal read notes --new-passphrase",
        ] {
            let parsed = Cli::try_parse_from(["kithctl"].into_iter().chain(line.split(' ')));
            assert_eq!(parsed.map(|_| ()).map_err(|error| error.exit_code()), Err(2), "{line}");
        }
    }
}
