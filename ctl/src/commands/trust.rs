//! The devices that this one trusts: `trust`.

use kith_proto::control::method::{
    Empty, PeerParams, PolicyParams, RenameParams, TrustList, TrustPolicy, TrustRename, TrustRevoke, TrustShow,
};
use kith_proto::control::types::{Peer, Relation};

use super::{Context, path_text, view};
use crate::args::{Policy, Trust};
use crate::error::{Error, FAILED, Result};

/// What a revocation does not do.
const FUTURE_ONLY: &str = "revocation stops future data only: what the device has already stays there";

/// `trust`
pub fn run(ctx: &Context, action: Trust) -> Result<()> {
    let table = |peer: &Peer| ctx.out.table(&view::peer(peer));
    match action {
        Trust::List => ctx.show::<TrustList>(&Empty {}, |result| ctx.out.table(&view::trusted(&result.peers))),
        Trust::Show { peer } => ctx.show::<TrustShow>(&PeerParams { peer }, table),
        Trust::Rename { peer, name } => ctx.show::<TrustRename>(&RenameParams { peer, name }, |peer| {
            ctx.out.line(&format!("{} is {} now", peer.id, peer.name))
        }),
        Trust::Policy(args) => ctx.show::<TrustPolicy>(&policy(args)?, table),
        Trust::Revoke { peer, yes } => revoke(ctx, peer, yes),
    }
}

fn revoke(ctx: &Context, peer: String, yes: bool) -> Result<()> {
    if !yes && ctx.out.may_ask() {
        ctx.out.note(FUTURE_ONLY);
        if !ctx.out.confirm(&format!("Revoke {peer}? It must be paired anew afterwards."), false)? {
            return Err(Error::new(FAILED, "no_answer", "nothing was revoked"));
        }
    }
    ctx.show::<TrustRevoke>(&PeerParams { peer }, |peer| {
        ctx.out.line(&format!("revoked {} ({}); {FUTURE_ONLY}", peer.name, peer.id))
    })
}

fn policy(args: Policy) -> Result<PolicyParams> {
    let dir = match args.dir {
        Some(dir) if dir.as_os_str().is_empty() => Some(String::new()),
        Some(dir) => Some(path_text(&dir)?),
        None => None,
    };
    let either = |yes: bool, no: bool| (yes || no).then_some(yes);
    Ok(PolicyParams {
        peer: args.peer,
        relation: either(args.own, args.guest).map(|own| if own { Relation::Own } else { Relation::Guest }),
        offers: args.offers,
        dir,
        on_conflict: args.on_conflict,
        max_file: args.max_file,
        max_day: args.max_day,
        types: args.types.map(|types| types.iter().filter_map(|text| extension(text)).collect()),
        dotfiles: either(args.dotfiles, args.no_dotfiles),
    })
}

/// `.JPG` and `jpg` are one extension; an empty one is none.
fn extension(text: &str) -> Option<String> {
    let bare = text.trim().trim_start_matches('.').to_lowercase();
    Some(bare).filter(|bare| !bare.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::{Cli, Command};
    use clap::Parser as _;
    use serde_json::json;

    #[test]
    fn only_what_is_named_changes() {
        for (line, params) in [
            (vec![], json!({"peer": "nas"})),
            (
                vec!["--offers", "auto", "--dir", "/in", "--on-conflict", "newer", "--max-file", "2GiB", "--guest"],
                json!({"peer": "nas", "relation": "guest", "offers": "auto", "dir": "/in", "on_conflict": "newer", "max_file": 2_147_483_648_u64}),
            ),
            (vec!["--types", ".JPG,pdf", "--own"], json!({"peer": "nas", "relation": "own", "types": ["jpg", "pdf"]})),
            (vec!["--types", "", "--dir", ""], json!({"peer": "nas", "types": [], "dir": ""})),
            (vec!["--no-dotfiles", "--max-day", "0"], json!({"peer": "nas", "dotfiles": false, "max_day": 0})),
            (vec!["--dotfiles"], json!({"peer": "nas", "dotfiles": true})),
        ] {
            let cli = Cli::try_parse_from(["kithctl", "trust", "policy", "nas"].iter().chain(&line)).unwrap();
            let Command::Trust(Trust::Policy(args)) = cli.command else { panic!("that is what was asked for") };
            assert_eq!(serde_json::to_value(policy(args).unwrap()).unwrap(), params, "{line:?}");
        }
    }
}
