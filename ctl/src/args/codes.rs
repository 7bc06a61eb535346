//! The command line of sharing codes.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use crate::values::{uses, validity};

/// `codes`
#[derive(Debug, Subcommand)]
pub enum Codes {
    /// The codes that this device issued
    List,
    /// All about one: where it waits, and who came by it
    #[command(after_help = "Example: kithctl codes show 'Holiday 2026'")]
    Show {
        /// Its id as `kithctl codes` lists it, the beginning of that, or its label; not the code itself
        code: String,
    },
    /// Make a code by which devices join a journal, with nobody at this keyboard
    #[command(
        after_help = "Examples:\n  kithctl codes issue --journal trip                        one device, within 7 days\n  \
        kithctl codes issue --journal trip --uses 5 --valid 1d --auto\n  \
        kithctl codes issue --journal trip --uses unlimited --valid 30d --label 'Class of 2026'\n  \
        kithctl codes issue --journal trip --offline              a ticket, which nobody has to look up"
    )]
    Issue(Issue),
    /// End a code at once; who came by it stays, unless --expel
    #[command(after_help = "Examples:\n  kithctl codes revoke 0a1b\n  kithctl codes revoke 'Holiday 2026' --expel")]
    Revoke {
        /// Its id as `kithctl codes` lists it, the beginning of that, or its label; not the code itself
        code: String,
        /// Remove the devices that came by it, too; what they received they have
        #[arg(long)]
        expel: bool,
        /// Do not ask
        #[arg(long, short)]
        yes: bool,
    },
}

/// `codes issue`
#[derive(Debug, Args)]
pub struct Issue {
    /// The journal that one joins: its name or id
    #[arg(long)]
    pub journal: String,
    /// How many devices may join, or `unlimited`; one if absent
    #[arg(long, value_name = "N|unlimited", value_parser = uses)]
    pub uses: Option<u32>,
    /// How long it is valid, as 10m, 12h or 7d, and at most 30d; 7 days if absent
    #[arg(long, value_name = "TIME", value_parser = validity)]
    pub valid: Option<u64>,
    /// Ask nobody when a device comes with it; about a code of one use nobody is asked anyway
    #[arg(long, conflicts_with = "ask")]
    pub auto: bool,
    /// Ask here about each device: `kithctl inbox`
    #[arg(long)]
    pub ask: bool,
    /// What it is called, for those who join and in lists; the journal's name if absent
    #[arg(long)]
    pub label: Option<String>,
    /// Print a ticket instead, a long code that nobody has to look up: for where the other device reaches no hello store, and this device's network only later
    #[arg(long)]
    pub offline: bool,
}

/// `join`
#[derive(Debug, Args)]
pub struct Join {
    /// The code in any writing, its link (kith:join/…), or a ticket. Whoever looks at this machine's processes sees it too; `-` reads it from standard input. Without it, it is asked for
    #[arg(value_name = "CODE")]
    pub code: Vec<String>,
    /// Where a folder goes; journals need no place
    #[arg(long, value_name = "DIR")]
    pub path: Option<PathBuf>,
    /// Do not ask: join whatever the code is for, and use the directory even if it is not empty
    #[arg(long, short)]
    pub yes: bool,
    /// Wait for the last word, too, if the issuer is away or has to be asked; Ctrl+C leaves that to the daemon
    #[arg(long)]
    pub wait: bool,
}

/// `joins`
#[derive(Debug, Subcommand)]
pub enum Joins {
    /// Those under way, and the last that ended
    List,
    /// Call one off
    Cancel {
        /// Its id as `kithctl joins` lists it, or the beginning of that
        join: String,
    },
}

#[cfg(test)]
mod tests {
    use crate::args::{Cli, Command};
    use clap::Parser as _;

    fn parse(line: &str) -> Result<Cli, clap::Error> {
        Cli::try_parse_from(["kithctl"].into_iter().chain(line.split(' ')))
    }

    #[test]
    fn a_code_may_be_written_in_groups() {
        let Command::Join(join) = parse("join 23A0 AJAR --yes").unwrap().command else { panic!("that was asked for") };
        assert_eq!((join.code, join.yes), (vec!["23A0".to_owned(), "AJAR".to_owned()], true));
        let Command::Join(join) = parse("join -").unwrap().command else { panic!("that was asked for") };
        assert_eq!(join.code, ["-"]);
    }

    #[test]
    fn what_says_nothing_sensible_about_codes() {
        for line in [
            "codes issue",
            "codes issue --journal j --auto --ask",
            "codes issue --journal j --uses 0",
            "codes issue --journal j --valid 31d",
            "codes show",
            "codes revoke",
            "joins cancel",
        ] {
            assert_eq!(parse(line).map(|_| ()).map_err(|error| error.exit_code()), Err(2), "{line}");
        }
    }
}
