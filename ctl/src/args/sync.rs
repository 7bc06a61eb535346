//! The command line of syncing.

use clap::{Args, Subcommand};

/// `sync`
#[derive(Debug, Subcommand)]
pub enum SyncAction {
    /// How syncing is, for each device and journal
    #[command(after_help = "Example: kithctl sync status")]
    Status,
}

/// `sync`, if no action is named.
#[derive(Debug, Args)]
pub struct SyncWith {
    /// The device: its name, id, or the beginning of the id; all that can be reached if absent
    pub peer: Option<String>,
    /// Begin, and do not wait for the end
    #[arg(long)]
    pub no_wait: bool,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::{Cli, Command};
    use clap::Parser as _;

    #[test]
    fn status_is_no_device() {
        let parse = |line: &str| Cli::try_parse_from(["kithctl"].into_iter().chain(line.split(' ')));
        for (line, status, peer) in
            [("sync", false, None), ("sync nas", false, Some("nas")), ("sync status", true, None)]
        {
            let Command::Sync { action, sync } = parse(line).unwrap().command else { panic!("that was asked for") };
            assert_eq!((matches!(action, Some(SyncAction::Status)), sync.peer.as_deref()), (status, peer), "{line}");
        }
        for line in ["sync status --no-wait", "sync status nas", "sync nas phone"] {
            assert_eq!(parse(line).map(|_| ()).map_err(|error| error.exit_code()), Err(2), "{line}");
        }
    }
}
