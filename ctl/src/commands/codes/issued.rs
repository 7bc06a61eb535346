//! Codes that this device issued: `codes list`, `show`, `revoke`.

use kith_proto::control::code::{
    CodeApproval, CodeParams, CodeRevokeParams, CodeShowResult, CodeState, IssuedCode, Publication, PublicationState,
    Redemption,
};
use kith_proto::control::method::{CodesList, CodesRevoke, CodesShow, Empty};
use kith_proto::text::cut;

use super::view;
use crate::commands::Context;
use crate::error::{Error, FAILED, Result};
use crate::output::Table;
use crate::values::is_sharing_code;

/// How much of a reason stands in a column, in bytes.
const REASON: usize = 48;

/// `codes list`
pub fn list(ctx: &Context) -> Result<()> {
    ctx.show::<CodesList>(&Empty {}, |result| ctx.out.table(&table(&result.codes)))
}

/// `codes show`
pub fn show(ctx: &Context, code: String) -> Result<()> {
    ctx.show::<CodesShow>(&CodeParams { code: named(code)? }, |result| ctx.out.table(&whole(result)))
}

/// `codes revoke`
pub fn revoke(ctx: &Context, code: String, expel: bool, yes: bool) -> Result<()> {
    let code = named(code)?;
    if expel && !yes && ctx.out.may_ask() {
        let shown = ctx.connect()?.call::<CodesShow>(&CodeParams { code: code.clone() })?;
        let CodeShowResult { issued: IssuedCode { label, kind, name, .. }, joined } = shown;
        let who = match joined.iter().filter(|device| !device.expelled).count() {
            0 => "nobody".to_owned(),
            1 => "the one device that came by it".to_owned(),
            count => format!("the {count} devices that came by it"),
        };
        let question = format!("End the code {label}, and remove {who} from the {kind} {name}?");
        if !ctx.out.confirm(&question, false)? {
            return Err(Error::new(FAILED, "no_answer", "nothing was revoked"));
        }
    }
    ctx.show::<CodesRevoke>(&CodeRevokeParams { code, expel }, |issued| {
        let IssuedCode { id, label, .. } = issued;
        let rest = if expel { ", and removed who came by it" } else { "; who came by it stays" };
        ctx.out.line(&format!("revoked {label} ({id}){rest}"))
    })
}

/// Something that names a code. The code itself does not: this device knows it no more, and nobody shall show it around.
fn named(text: String) -> Result<String> {
    if is_sharing_code(&text) {
        return Err(Error::usage("that is a sharing code itself; what is wanted here is its id or its label")
            .hint("kithctl codes lists them"));
    }
    Ok(text)
}

/// A code in one line.
pub fn line(issued: &IssuedCode) -> String {
    let IssuedCode { id, label, kind, name, .. } = issued;
    format!("{label} ({id})  {kind} {name}, {}, left: {}", state(issued), left(issued))
}

fn table(codes: &[IssuedCode]) -> Table {
    let mut table = Table::new(&["ID", "LABEL", "WHAT", "STATE", "LEFT", "WAITING", "EXPIRES", "PUBLISHED"]);
    for issued in codes {
        table.row([
            issued.id.clone(),
            issued.label.clone(),
            format!("{} {}", issued.kind, issued.name),
            state(issued).to_owned(),
            left(issued),
            Some(issued.waiting).filter(|waiting| *waiting > 0).map(|count| count.to_string()).unwrap_or_default(),
            issued.expires.clone(),
            published(issued.state, &issued.publications),
        ]);
    }
    table
}

fn whole(shown: &CodeShowResult) -> Table {
    let CodeShowResult { issued, joined } = shown;
    let mut table = Table::untitled();
    table.pair("id", issued.id.clone());
    table.pair("label", issued.label.clone());
    table.pair("lets one join", format!("the {} {} ({})", issued.kind, issued.name, issued.permission));
    table.pair("state", state(issued).to_owned());
    table.pair("uses left", left(issued));
    table.pair("used", issued.used.to_string());
    table.pair("asks", asks(issued.approval).to_owned());
    table.pair("waiting", format!("{}{}", issued.waiting, if issued.waiting > 0 { ": kithctl inbox" } else { "" }));
    table.pair("issued", issued.created.clone());
    table.pair("expires", issued.expires.clone());
    table.pair("published", published(issued.state, &issued.publications));
    for publication in &issued.publications {
        table.pair("store", store(publication));
    }
    for device in joined {
        table.pair("joined", self::joined(device));
    }
    table
}

fn state(issued: &IssuedCode) -> &'static str {
    match issued.state {
        CodeState::Active => "active",
        CodeState::UsedUp => "used up",
        CodeState::Expired => "expired",
        CodeState::Revoked => "revoked",
        CodeState::Unknown => "unknown",
    }
}

fn asks(approval: CodeApproval) -> &'static str {
    match approval {
        CodeApproval::Auto => "nobody",
        CodeApproval::Ask => "here, about each device",
        CodeApproval::Unknown => "see a newer kithctl",
    }
}

/// Uses that are left.
fn left(issued: &IssuedCode) -> String {
    match issued.uses {
        Some(uses) => format!("{} of {uses}", uses.saturating_sub(issued.used)),
        None => "unlimited".to_owned(),
    }
}

/// Where a code's payload waits, in a column: the worst of it.
fn published(code: CodeState, publications: &[Publication]) -> String {
    let at = |state| publications.iter().filter(move |it| it.state == state);
    if publications.is_empty() {
        let here = if code == CodeState::Active { "this device only" } else { "-" };
        return here.to_owned();
    }
    if let Some(failed) = at(PublicationState::Failed).next() {
        let reason = failed.reason.as_ref().map_or("", |reason| reason.message.as_str());
        let short = cut(reason, REASON);
        let dots = if short.len() < reason.len() { "…" } else { "" };
        return format!("failed: {short}{dots}");
    }
    match publications.len() {
        all if at(PublicationState::Published).count() == all => "published".to_owned(),
        all if at(PublicationState::Withdrawn).count() == all => "withdrawn".to_owned(),
        _ => "not yet".to_owned(),
    }
}

/// How it is at one store.
fn store(publication: &Publication) -> String {
    let state = match publication.state {
        PublicationState::Waiting => "not yet there",
        PublicationState::Published => "published",
        PublicationState::Failed => "failed",
        PublicationState::Withdrawn => "withdrawn",
        PublicationState::Unknown => "unknown",
    };
    let since = publication.since.as_ref().map(|since| format!(", {since}")).unwrap_or_default();
    let reason = publication.reason.as_ref().map(|reason| format!(": {}", view::reason(reason))).unwrap_or_default();
    format!("{}  {state}{since}{reason}", publication.store)
}

fn joined(redemption: &Redemption) -> String {
    let expelled = if redemption.expelled { ", removed again" } else { "" };
    format!("{}  {}{expelled}", view::peer_name(&redemption.device), redemption.at)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_worst_place_is_what_a_column_says() {
        for (states, said) in [
            (&[][..], "this device only"),
            (&["published"], "published"),
            (&["published", "waiting"], "not yet"),
            (&["published", "failed", "waiting"], "failed: no such host"),
            (&["withdrawn", "withdrawn"], "withdrawn"),
            (&["published", "of-tomorrow"], "not yet"),
        ] {
            let publications = states.iter().map(|state| {
                let reason = json!({"rpc": 1004, "code": "store_unreachable", "message": "no such host"});
                serde_json::from_value(json!({"store": "s", "state": state, "reason": reason})).unwrap()
            });
            assert_eq!(published(CodeState::Active, &publications.collect::<Vec<_>>()), said, "{states:?}");
        }
        assert_eq!(published(CodeState::UsedUp, &[]), "-");
    }
}
