//! Nearby and trusted devices: `peers`.

use kith_proto::control::event::Event;
use kith_proto::control::method::{Empty, PeersList, PeersResult};
use kith_proto::control::types::Peer;
use serde::Deserialize as _;

use super::{Context, view};
use crate::client::{Client, Incoming};
use crate::error::Result;
use crate::output::on_terminal;

const KINDS: [&str; 5] = ["peer:discovered", "peer:updated", "peer:lost", "peer:paired", "peer:revoked"];

/// `peers`
pub fn list(ctx: &Context) -> Result<()> {
    ctx.show::<PeersList>(&Empty {}, |result| ctx.out.table(&view::peers(&result.peers)))
}

/// `peers --watch`: the list, then what changes. A terminal shows the list anew each time.
pub fn watch(ctx: &Context) -> Result<()> {
    let mut client = ctx.connect()?;
    let mut peers = start(ctx, &mut client)?;
    loop {
        match client.next()? {
            Incoming::Fact(_, raw) if ctx.out.is_json() => ctx.out.raw(raw.get())?,
            Incoming::Fact(event, _) => {
                let Ok(peer) = Peer::deserialize(&event.data) else { continue };
                let line = change(&event, &peer);
                apply(&mut peers, peer);
                if on_terminal() { screen(ctx, &peers)? } else { ctx.out.line(&line)? }
            }
            Incoming::Lagged(_) => peers = start(ctx, &mut client)?,
            Incoming::Answer(..) | Incoming::Changed(..) => {}
        }
    }
}

fn start(ctx: &Context, client: &mut Client) -> Result<Vec<Peer>> {
    let peers = client.subscribe(&KINDS)?.snapshot.peers;
    if ctx.out.is_json() {
        ctx.out.object(&PeersResult { peers: peers.clone() })?;
    } else {
        screen(ctx, &peers)?;
    }
    Ok(peers)
}

fn screen(ctx: &Context, peers: &[Peer]) -> Result<()> {
    ctx.out.clear()?;
    ctx.out.table(&view::peers(peers))
}

fn change(event: &Event, peer: &Peer) -> String {
    format!("{}  {}", event.kind.trim_start_matches("peer:"), view::peer_line(peer))
}

/// Each fact carries the peer's whole new state.
fn apply(peers: &mut Vec<Peer>, new: Peer) {
    match peers.iter_mut().find(|peer| peer.id == new.id) {
        Some(peer) => *peer = new,
        None => peers.push(new),
    }
}
