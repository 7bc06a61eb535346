//! The real `kithctl` against a daemon that only says what a test wrote down: what is asked, what is printed, and
//! which exit code ends it. The true daemon is asked in the package `kith-tests`.
//!
//! ```text
//! fake      that daemon
//! person    somebody at a terminal
//! commands  this device and those it is paired with
//! guests    those it is not paired with
//! shelf     a daemon that keeps journals, in memory
//! journals  journals and what is in them
//! diary     texts that only a passphrase opens
//! shares    handing secrets and databases over, and the inbox
//! receives  taking them where nobody is asked
//! reviews   taking them, and somebody looks through what came
//! codes     sharing codes where they are issued, and requests to join
//! joins     joining by one
//! sync      keeping journals the same
//! vault     where secrets are kept
//! secrets   secrets, one by one
//! import    secrets and databases from files
//! databases databases and the secrets that they need
//! ```

#![allow(clippy::unwrap_used, reason = "a test ends where something is not as it should be")]

mod codes;
mod commands;
mod databases;
mod diary;
mod fake;
mod guests;
mod import;
mod joins;
mod journals;
mod person;
mod receives;
mod reviews;
mod secrets;
mod shares;
mod shelf;
mod sync;
mod vault;
