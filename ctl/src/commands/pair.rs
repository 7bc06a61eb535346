//! Pairing: the side that shows a PIN, and the side that types it.

use kith_proto::control::method::{
    Empty, Identity, PairingJoin, PairingJoinParams, PairingOpen, PairingOpenParams, PairingOpenResult, PeerParams,
    TrustRevoke,
};
use kith_proto::control::types::{Pairing, PairingState, PeerRef};
use serde::{Deserialize as _, Serialize};

use super::{Context, view};
use crate::args::Pair;
use crate::client::{Client, Incoming};
use crate::error::{Error, FAILED, Result};
use crate::output::on_terminal;
use crate::values::shell_word;

const KINDS: [&str; 1] = ["pairing:updated"];

/// The last line under `--json`.
#[derive(Serialize)]
struct Paired {
    paired: PeerRef,
}

/// `pair`
pub fn run(ctx: &Context, args: Pair) -> Result<()> {
    let mut client = ctx.connect()?;
    // Before the pairing begins, so that no step of it is missed.
    client.subscribe(&KINDS)?;
    match args.target {
        None => show(ctx, &mut client, guest(ctx, args.guest, args.own)?),
        Some(target) => join(ctx, &mut client, target, args.pin, args.guest, args.own),
    }
}

/// The responder: shows the PIN and waits.
fn show(ctx: &Context, client: &mut Client, guest: bool) -> Result<()> {
    let open = client.call::<PairingOpen>(&PairingOpenParams { guest, interactive: on_terminal(), detach: false })?;
    if ctx.out.is_json() {
        ctx.out.object(&open)?;
    } else {
        let name = client.call::<Identity>(&Empty {})?.name;
        if on_terminal() {
            ctx.out.qr(&open.qr)?;
        }
        // Below the QR code, which may fill the screen.
        instructions(&open, &name).iter().try_for_each(|line| ctx.out.line(line))?;
    }
    wait(ctx, client, &open.pairing, None)
}

/// The initiator: types the PIN, or brings the text of the QR code.
fn join(
    ctx: &Context,
    client: &mut Client,
    target: String,
    typed: Option<String>,
    guest: bool,
    own: bool,
) -> Result<()> {
    let mut params = PairingJoinParams::default();
    if target.starts_with("kith:") {
        if typed.is_some() {
            return Err(Error::usage("the text of a QR code holds the PIN already").hint("leave --pin away"));
        }
        params.uri = Some(target);
        params.guest = self::guest(ctx, guest, own)?;
    } else {
        params.guest = self::guest(ctx, guest, own)?;
        params.pin = Some(match typed {
            Some(pin) => pin,
            None => ctx.ask_pin(&target)?,
        });
        params.target = Some(target);
    }
    let pairing = client.call::<PairingJoin>(&params)?;
    let id = pairing.pairing.clone();
    wait(ctx, client, &id, Some(pairing))
}

fn guest(ctx: &Context, guest: bool, own: bool) -> Result<bool> {
    if guest || own || !ctx.out.may_ask() {
        return Ok(guest);
    }
    Ok(!ctx.out.confirm("Is the other device yours?", true)?)
}

/// Follows a pairing to its end; `now` is its state as far as it is known.
fn wait(ctx: &Context, client: &mut Client, id: &str, mut now: Option<Pairing>) -> Result<()> {
    let mut attempts = None;
    loop {
        if let Some(pairing) = now.take() {
            match pairing.state {
                PairingState::Paired => return paired(ctx, client, pairing),
                PairingState::Failed => return Err(failed(pairing)),
                PairingState::Waiting | PairingState::Unknown => {}
            }
            if let (Some(before), Some(left)) = (attempts, pairing.attempts_left)
                && left < before
            {
                ctx.out.note(&match left {
                    0 => "the PIN is used up; the QR still works, or start again for a new PIN".to_owned(),
                    left => format!("somebody is typing the PIN; attempts left: {left}"),
                });
            }
            attempts = pairing.attempts_left.or(attempts);
        }
        now = match client.next()? {
            Incoming::Fact(event, _) => Pairing::deserialize(&event.data).ok().filter(|pairing| pairing.pairing == id),
            Incoming::Lagged(_) => {
                client.subscribe(&KINDS)?.snapshot.pairings.into_iter().find(|pairing| pairing.pairing == id)
            }
            Incoming::Answer(..) | Incoming::Changed(..) => None,
        };
    }
}

fn paired(ctx: &Context, client: &mut Client, pairing: Pairing) -> Result<()> {
    let Some(peer) = pairing.peer else {
        return Err(
            Error::new(FAILED, "internal", "paired, but kithd did not say with whom").hint("see: kithctl trust list")
        );
    };
    let done = format!("paired with {}", view::peer_name(&peer));
    if ctx.out.is_json() {
        ctx.out.object(&Paired { paired: peer })?;
    } else {
        ctx.out.line(&done)?;
    }
    match pairing.same_name {
        Some(older) => same_name(ctx, client, &older),
        None => Ok(()),
    }
}

/// Two trusted devices have one name: perhaps one machine, set up anew. Never replaced without being asked for.
fn same_name(ctx: &Context, client: &mut Client, older: &PeerRef) -> Result<()> {
    ctx.out.note(&format!("another trusted device has the same name: {}", view::peer_name(older)));
    if ctx.out.may_ask()
        && ctx.out.confirm("Is that the same machine before it was set up anew? Then it is revoked.", false)?
    {
        client.call::<TrustRevoke>(&PeerParams { peer: older.id.to_string() })?;
        ctx.out.note("revoked");
    } else {
        ctx.out
            .note(&format!("if that is the same machine before it was set up anew: kithctl trust revoke {}", older.id));
    }
    Ok(())
}

fn failed(pairing: Pairing) -> Error {
    match pairing.reason {
        Some(reason) => reason.into(),
        None => Error::new(FAILED, "failed", "the pairing failed"),
    }
}

/// What the person at the other device has to do.
fn instructions(open: &PairingOpenResult, name: &str) -> Vec<String> {
    let mut lines = vec![
        String::new(),
        format!("    {}", view::pin(&open.pin)),
        String::new(),
        format!("valid for {} seconds; type it on the other device:", kith_proto::limits::PIN_SECONDS),
        format!("    kithctl pair {}", shell_word(name)),
    ];
    lines.extend(
        open.addresses.iter().map(|address| format!("    kithctl pair {}", view::with_port(address, open.port))),
    );
    lines.extend(["or there, without typing digits:".to_owned(), format!("    kithctl pair '{}'", open.qr)]);
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_line_has_the_promised_shape() {
        let peer = PeerRef { id: "9a4f0b2c00000000".parse().unwrap(), name: "nas".into() };
        let line = serde_json::to_string(&Paired { paired: peer }).unwrap();
        assert_eq!(line, r#"{"paired":{"id":"9a4f0b2c00000000","name":"nas"}}"#);
    }

    #[test]
    fn the_first_line_has_the_promised_shape() {
        let line = serde_json::to_string(&opened()).unwrap();
        assert_eq!(
            line,
            r#"{"pairing":"p1","pin":"123456","port":44123,"addresses":["192.168.1.7","fe80::1"],"qr":"kith://pair?x","expires":"soon"}"#
        );
    }

    #[test]
    fn the_other_side_is_told_the_exact_command() {
        let text = instructions(&opened(), "Ken's Mac").join("\n");
        for line in ["    123 456", r"kithctl pair 'Ken'\''s Mac'", "pair 192.168.1.7:44123", "pair [fe80::1]:44123"] {
            assert!(text.contains(line), "{line:?} is not in {text}");
        }
    }

    fn opened() -> PairingOpenResult {
        PairingOpenResult {
            pairing: "p1".into(),
            pin: "123456".into(),
            port: 44123,
            addresses: vec!["192.168.1.7".into(), "fe80::1".into()],
            qr: "kith://pair?x".into(),
            expires: "soon".into(),
        }
    }
}
