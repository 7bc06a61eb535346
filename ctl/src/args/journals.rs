//! The command line of journals and their entries.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use kith_proto::control::journal::EntryOrder;
use serde_json::{Map, Value};

use crate::values::{expected, metadata, version, word};

/// `journals`
#[derive(Debug, Subcommand)]
pub enum Journals {
    /// The journals that this device has, or was offered
    #[command(after_help = "Example: kithctl journals list --json")]
    List,
    /// All about one
    #[command(after_help = "Example: kithctl journals show notes")]
    Show {
        /// Its name or id
        journal: String,
    },
    /// Make one that only this device has
    #[command(after_help = "Example: kithctl journals create notes")]
    Create {
        /// What to call it
        name: String,
    },
    /// Share it with a paired device
    #[command(after_help = "Example: kithctl journals share notes nas")]
    Share {
        /// Its name or id
        journal: String,
        /// The device: its name, id, or the beginning of the id
        peer: String,
    },
    /// Share it no longer: the device keeps what it has and gets nothing more
    #[command(after_help = "Example: kithctl journals unshare notes nas")]
    Unshare {
        /// Its name or id
        journal: String,
        /// The device: its name, id, or the beginning of the id
        peer: String,
    },
    /// Take one that somebody else's device shares with this one
    #[command(after_help = "Example: kithctl journals accept notes")]
    Accept {
        /// Its name or id
        journal: String,
    },
    /// Leave it and delete what is here of it; other devices keep theirs
    #[command(after_help = "Example: kithctl journals remove notes --yes")]
    Remove {
        /// Its name or id
        journal: String,
        /// Do not ask
        #[arg(long, short)]
        yes: bool,
    },
}

/// `entries`
#[derive(Debug, Subcommand)]
pub enum Entries {
    /// Write an entry; its body comes from standard input or a file
    #[command(after_help = "Examples:\n  echo 'buy milk' | kithctl entries put notes\n  \
        kithctl entries put notes cover --file cover.jpg --meta '{\"pinned\":true}'\n  \
        kithctl entries put notes lock --expected none < /dev/null")]
    Put(Put),
    /// An entry and its body
    #[command(after_help = "Example: kithctl entries get notes cover --raw > cover.jpg")]
    Get(Get),
    /// Delete an entry, on every device
    #[command(after_help = "Example: kithctl entries rm notes cover")]
    Rm {
        /// The journal's name or id
        journal: String,
        /// The entry
        id: String,
        /// Only if this is its hash
        #[arg(long, value_name = "HASH", value_parser = version)]
        expected: Option<String>,
    },
    /// Entries without their bodies; with --json a page a line, each with the cursor behind it
    #[command(after_help = "Examples:\n  kithctl entries list notes --by time --from 2026-11-01T00:00:00Z\n  \
        kithctl entries list notes --after CURSOR --deleted --json")]
    List(List),
    /// Versions that lost a conflict and are kept
    #[command(after_help = "Example: kithctl entries history notes cover")]
    History {
        /// The journal's name or id
        journal: String,
        /// One entry; all if absent
        id: Option<String>,
    },
    /// Entries that a device brought back which was away too long
    #[command(after_help = "Example: kithctl entries recovered notes")]
    Recovered {
        /// The journal's name or id
        journal: String,
    },
    /// Make a version current again that `history` or `recovered` shows
    #[command(after_help = "Example: kithctl entries recover notes cover VERSION")]
    Recover {
        /// The journal's name or id
        journal: String,
        /// The entry
        id: String,
        /// The version's hash
        #[arg(value_parser = version)]
        version: String,
        /// Forget it instead
        #[arg(long)]
        discard: bool,
    },
    /// Show entries as they change, until Ctrl+C
    #[command(after_help = "Example: kithctl entries watch notes --since CURSOR --json")]
    Watch {
        /// The journal's name or id
        journal: String,
        /// Go on behind this place; '' for the beginning. Without it, only what changes from now on
        #[arg(long, value_name = "CURSOR")]
        since: Option<String>,
    },
    /// Write every entry with its body, a JSON object a line
    #[command(after_help = "Example: kithctl entries export notes --file notes.ndjson")]
    Export {
        /// The journal's name or id
        journal: String,
        /// Write them there instead of standard output
        #[arg(long, value_name = "PATH")]
        file: Option<PathBuf>,
    },
    /// Read what `export` wrote
    #[command(after_help = "Example: kithctl entries import notes --file notes.ndjson --on-conflict replace")]
    Import {
        /// The journal's name or id
        journal: String,
        /// Read them there instead of from standard input
        #[arg(long, value_name = "PATH")]
        file: Option<PathBuf>,
        /// What to do with an entry that is there already with other content
        #[arg(long, value_name = "WHAT", value_enum, default_value = "skip")]
        on_conflict: OnConflict,
    },
}

/// `entries put`
#[derive(Debug, Args)]
pub struct Put {
    /// The journal's name or id
    pub journal: String,
    /// The entry; a new one with an id of its own if absent
    pub id: Option<String>,
    /// Read the body there instead of from standard input
    #[arg(long, value_name = "PATH")]
    pub file: Option<PathBuf>,
    /// Metadata, a JSON object; it is never encrypted by Kith
    #[arg(long, value_name = "JSON", value_parser = metadata)]
    pub meta: Option<Map<String, Value>>,
    /// Only if this is the hash of the version that is replaced; `none`: only if there is none
    #[arg(long, value_name = "HASH|none", value_parser = expected)]
    pub expected: Option<String>,
}

/// `entries get`
#[derive(Debug, Args)]
pub struct Get {
    /// The journal's name or id
    pub journal: String,
    /// The entry
    pub id: String,
    /// The body alone, byte for byte
    #[arg(long)]
    pub raw: bool,
    /// A version that `history` or `recovered` shows, by its hash
    #[arg(long, value_name = "HASH", value_parser = version)]
    pub version: Option<String>,
}

/// `entries list`
#[derive(Debug, Args)]
pub struct List {
    /// The journal's name or id
    pub journal: String,
    /// As they changed here, or by the time that they were written; by time if --from or --until is given
    #[arg(long, value_name = "ORDER", value_parser = word::<EntryOrder>(["seq", "time"]))]
    pub by: Option<EntryOrder>,
    /// Go on behind this place
    #[arg(long, value_name = "CURSOR")]
    pub after: Option<String>,
    /// Not before this time, as 2026-11-01T00:00:00Z
    #[arg(long, value_name = "TIME")]
    pub from: Option<String>,
    /// Before this time
    #[arg(long, value_name = "TIME")]
    pub until: Option<String>,
    /// No more than this many; all if absent
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub limit: Option<u64>,
    /// Deletions, too
    #[arg(long)]
    pub deleted: bool,
}

/// What an import does with an entry that is there already with other content.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum OnConflict {
    /// Leave what is there.
    Skip,
    /// Write over it.
    Replace,
}

#[cfg(test)]
mod tests {
    use crate::args::Cli;
    use clap::Parser as _;

    #[test]
    fn command_lines_that_say_nothing_sensible() {
        let hash = "0".repeat(64);
        for line in [
            "journals create",
            "journals share notes",
            "entries",
            "entries put",
            "entries put notes --meta []",
            "entries put notes --meta {",
            "entries put notes --expected 0123",
            "entries get notes",
            "entries get notes a --version none",
            "entries rm notes a --expected none",
            "entries list notes --by name",
            "entries list notes --limit 0",
            "entries recover notes a",
            "entries import notes --on-conflict rename",
        ] {
            let parsed = Cli::try_parse_from(["kithctl"].into_iter().chain(line.split(' ')));
            assert_eq!(parsed.map(|_| ()).map_err(|error| error.exit_code()), Err(2), "{line}");
        }
        for line in [
            "journals",
            &format!("entries put notes a --expected {hash} --meta {{}}"),
            "entries put notes --expected none",
            &format!("entries recover notes a {hash}"),
        ] {
            let parsed = Cli::try_parse_from(["kithctl"].into_iter().chain(line.split(' ')));
            assert!(parsed.is_ok(), "{line}: {parsed:?}");
        }
    }
}
