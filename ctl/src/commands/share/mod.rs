//! Handing secrets and databases over: `secrets send`, `dbs receive`, and what paired devices sent.
//!
//! ```text
//! send     the side that hands over: what, a warning, the code, and what becomes of it
//! receive  the side that takes: the code, the wait, and what is saved
//! review   a person looks through what came, and settles what meets something else here
//! inbox    shares among the things that wait for an answer
//! ```
//!
//! A share that this program began lives on the connection that it was begun on. So there is one connection, and Ctrl+C
//! calls the share off over another one, because the first may be waiting.

pub mod inbox;
mod receive;
mod review;
mod send;

use std::time::Duration;

use kith_proto::control::credential::{Share, ShareKind, ShareParams, ShareState};
use kith_proto::control::event::Event;
use kith_proto::control::method::{Empty, SharesCancel, SharesList};
use kith_proto::control::{ApiError, Code};
use kith_proto::credential::{DatabaseFields, Slot};
use serde::Deserialize as _;

use super::secrets::valid;
use super::{Context, view};
use crate::client::{Client, Incoming};
use crate::error::{Error, FAILED, Result};
use crate::prompt;

pub use receive::{receive_database, receive_secret};
pub use send::{send_database, send_secret};

const KINDS: [&str; 1] = ["share:updated"];
/// What somebody types for nothing, where Enter keeps what is there.
const NONE: &str = "-";
/// How long an interrupted command waits for the daemon to call the share off.
const CANCEL: Duration = Duration::from_secs(2);

/// The next state of a share, however long that takes.
fn next(client: &mut Client, now: &Share) -> Result<Share> {
    loop {
        let share = match client.next()? {
            Incoming::Fact(event, _) => of(&event, &now.share),
            Incoming::Lagged(_) => {
                client.subscribe(&KINDS)?;
                // Not of the snapshot: it may be over meanwhile.
                let shares = client.call::<SharesList>(&Empty {})?.shares;
                let lost =
                    || Error::from(ApiError::new(Code::ShareNotFound, "kithd knows nothing of this share any more"));
                Some(shares.into_iter().find(|share| share.share == now.share).ok_or_else(lost)?)
            }
            Incoming::Answer(..) | Incoming::Changed(..) => None,
        };
        if let Some(share) = share.filter(|share| share != now) {
            return Ok(share);
        }
    }
}

fn of(event: &Event, id: &str) -> Option<Share> {
    Share::deserialize(&event.data).ok().filter(|share| share.share == id)
}

/// Why something could not be done with a share: if it is over meanwhile, then how it ended.
fn why(client: &mut Client, id: &str, error: Error) -> Error {
    while let Some(incoming) = client.heard() {
        let Incoming::Fact(event, _) = incoming else { continue };
        if let Some(Err(end)) = of(&event, id).filter(|share| share.state.is_final()).map(|share| outcome(&share)) {
            return end;
        }
    }
    error
}

/// Does what needs the vault. Whoever is there and may be asked unlocks it elsewhere, instead of losing what came or was
/// typed.
fn unlocked<T>(ctx: &Context, asks: bool, mut call: impl FnMut() -> Result<T>) -> Result<T> {
    loop {
        match call() {
            Err(error) if error.is(Code::VaultLocked) && asks => {
                ctx.out.end(Err(error));
                ctx.out.ask("Unlock it in another window, then press Enter:")?;
            }
            done => return done,
        }
    }
}

/// How a share ended, as the end of the command that waited for it.
fn outcome(share: &Share) -> Result<()> {
    let untold = |code: &str, message: String| Err(Error::new(FAILED, code, message));
    match (share.state, &share.reason) {
        (ShareState::Saved | ShareState::Delivered, _) => Ok(()),
        (_, Some(failure)) => Err(failure.clone().into()),
        (ShareState::Declined, None) => untold("rejected", format!("{} did not want it", other(share))),
        (ShareState::Canceled, None) => untold("canceled", "the share was canceled".to_owned()),
        (_, None) => untold("failed", "the share failed".to_owned()),
    }
}

/// Ctrl+C calls the share off.
fn cancel_on_interrupt(ctx: &Context, share: &str) {
    let endpoint = ctx.endpoint.clone();
    let params = ShareParams { share: share.to_owned() };
    ctx.interrupt.puts_back(move || {
        // It may be over by now, or the daemon gone: then there is nothing to call off.
        let _ = Client::connect(&endpoint, CANCEL).and_then(|mut client| client.call::<SharesCancel>(&params));
    });
}

/// What somebody has to hear when the count of what a code survives went down; `next` is what to do if it was typed
/// wrong.
fn wrong_code(before: Option<u32>, now: Option<u32>, next: &str) -> Option<String> {
    let left = now.filter(|left| before.is_some_and(|before| *left < before))?;
    Some(match left {
        0 => "a wrong code, or another device is interfering: the code is used up".to_owned(),
        left => format!("a wrong code, or another device is interfering; attempts left: {left}\n  {next}"),
    })
}

/// The other side.
fn other(share: &Share) -> String {
    share.peer.as_ref().map_or_else(|| "the other device".to_owned(), view::party_name)
}

/// Texts of a database that the command line gives; the first is the name of a secret, too.
struct Given<'a> {
    name: &'a Option<String>,
    description: &'a Option<String>,
    path: &'a Option<String>,
}

impl Given<'_> {
    /// Whether they can be used, as far as their form goes.
    fn check(&self) -> Result<()> {
        let or = |given: &Option<String>| given.clone().unwrap_or_else(|| "-".to_owned());
        let (name, description, path) = (or(self.name), or(self.description), or(self.path));
        let fields = DatabaseFields { name, description, path, origin: None };
        valid(fields.check()).map(|_| ())
    }

    /// Asks for those that are not given, until all can be used; Enter alone keeps what is there, and `-` is no
    /// description.
    fn complete(&self, ctx: &Context, now: DatabaseFields) -> Result<DatabaseFields> {
        let ask = |question: &str, given: &Option<String>, now: &str| match given {
            Some(given) => Ok(given.clone()),
            None => prompt::line(ctx.out, question, now),
        };
        loop {
            let mut typed = DatabaseFields {
                name: ask("Name", self.name, &now.name)?,
                description: ask("Description (- for none)", self.description, &now.description)?,
                path: ask("Path", self.path, &now.path)?,
                origin: None,
            };
            if self.description.is_none() && typed.description == NONE {
                typed.description.clear();
            }
            match typed.check() {
                Ok(typed) => return Ok(typed),
                Err(invalid) => ctx.out.note(&invalid.to_string()),
            }
        }
    }
}

/// The command whose subject this is.
fn command(kind: ShareKind) -> &'static str {
    if kind == ShareKind::Database { "dbs" } else { "secrets" }
}

/// What a secret is for its database.
fn purpose(slot: Slot) -> &'static str {
    match slot {
        Slot::S3 => "S3 credentials",
        Slot::Encryption => "encryption key",
        Slot::Geocoding => "key for geocoding",
        Slot::Unknown => "secret of a newer version",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kith_proto::control::types::Failure;
    use serde_json::{Value, json};

    fn share(changes: &Value) -> Share {
        let mut share = json!({
            "share": "0192", "direction": "out", "kind": "secret", "name": "key", "state": "waiting", "created": "c",
        });
        for (key, value) in changes.as_object().unwrap() {
            share[key] = value.clone();
        }
        serde_json::from_value(share).unwrap()
    }

    #[test]
    fn the_exit_code_tells_how_it_ended() {
        let reason = |code| json!(Failure::from(ApiError::new(code, "…")));
        for (changes, exit) in [
            (json!({"state": "saved"}), 0),
            (json!({"state": "delivered"}), 0),
            (json!({"state": "declined"}), 1),
            (json!({"state": "canceled"}), 1),
            (json!({"state": "canceled", "reason": reason(Code::ShuttingDown)}), 7),
            (json!({"state": "failed"}), 1),
            (json!({"state": "failed", "reason": reason(Code::TimedOut)}), 7),
            (json!({"state": "failed", "reason": reason(Code::NameTaken)}), 6),
            (json!({"state": "failed", "reason": reason(Code::TooManyAttempts)}), 1),
        ] {
            assert_eq!(outcome(&share(&changes)).map_or_else(|error| error.exit(), |()| 0), exit, "{changes}");
        }
    }

    #[test]
    fn a_wrong_code_is_told_when_it_happens() {
        for (before, now, told) in [
            (None, None, None),
            (None, Some(3), None),
            (Some(3), Some(3), None),
            (Some(3), None, None),
            (Some(3), Some(2), Some("attempts left: 2")),
            (Some(1), Some(0), Some("used up")),
        ] {
            let line = wrong_code(before, now, "again");
            assert_eq!(line.is_some(), told.is_some(), "{before:?} {now:?}");
            assert!(line.is_none_or(|line| line.contains(told.unwrap())));
        }
    }
}
