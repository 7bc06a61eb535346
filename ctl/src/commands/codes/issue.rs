//! `codes issue`: a new code, which is shown once.

use kith_proto::control::code::{CodeApproval, CodeIssueParams, CodeIssueResult, IssuedCode};
use kith_proto::control::method::CodesIssue;
use kith_proto::secret_text::SecretText;
use serde::Serialize;

use crate::args::codes::Issue;
use crate::commands::Context;
use crate::error::Result;
use crate::output::on_terminal;

/// What kind of thing is shared.
const JOURNAL: &str = "journal";

/// A new code under `--json`.
#[derive(Serialize)]
struct Issued<'a> {
    #[serde(flatten)]
    issued: &'a IssuedCode,
    code: &'a SecretText,
    uri: &'a SecretText,
    #[serde(skip_serializing_if = "Option::is_none")]
    ticket: Option<&'a SecretText>,
}

/// `codes issue`
pub fn issue(ctx: &Context, args: Issue) -> Result<()> {
    let approval = match (args.auto, args.ask) {
        (true, _) => Some(CodeApproval::Auto),
        (_, true) => Some(CodeApproval::Ask),
        (false, false) => None,
    };
    let params = CodeIssueParams {
        kind: JOURNAL.to_owned(),
        resource: args.journal,
        uses: args.uses,
        seconds: args.valid,
        approval,
        label: args.label,
    };
    let CodeIssueResult { issued, code, uri, ticket } = ctx.connect()?.call::<CodesIssue>(&params)?;
    if ctx.out.is_json() {
        let ticket = Some(&ticket).filter(|_| args.offline);
        return ctx.out.object(&Issued { issued: &issued, code: &code, uri: &uri, ticket });
    }
    if args.offline {
        show_ticket(ctx, &ticket)?;
    } else {
        show_code(ctx, &code, &uri)?;
    }
    about(&issued).iter().try_for_each(|line| ctx.out.line(line))
}

fn show_code(ctx: &Context, code: &SecretText, uri: &SecretText) -> Result<()> {
    if on_terminal() {
        ctx.out.qr(uri.expose())?;
    }
    // Below the QR code, which may fill the screen.
    ctx.out.line("")?;
    ctx.out.secret("    ", code.expose())?;
    ctx.out.line("")?;
    ctx.out.line("shown once: this device does not keep it. On the other device:")?;
    ctx.out.secret("    kithctl join ", code.expose())
}

fn show_ticket(ctx: &Context, ticket: &SecretText) -> Result<()> {
    if on_terminal() && !ctx.out.long_qr(ticket.expose())? {
        ctx.out.note("the QR code of this ticket is too large for this terminal");
    }
    // As it is, in a line of its own: it is copied.
    ctx.out.secret("", ticket.expose())?;
    ctx.out.line("")?;
    ctx.out.line("shown once: this device does not keep it. On the other device, with the ticket in a file:")?;
    ctx.out.line("    kithctl join - < FILE")
}

/// What a new code lets one do.
fn about(issued: &IssuedCode) -> Vec<String> {
    let IssuedCode { id, label, kind, name, permission, expires, .. } = issued;
    let who = match issued.uses {
        Some(1) => "one device".to_owned(),
        Some(count) => format!("{count} devices"),
        None => "any number of devices".to_owned(),
    };
    let asked = match issued.approval {
        CodeApproval::Auto => "nobody is asked when a device comes with it",
        CodeApproval::Ask => "you are asked about each device: kithctl inbox",
        CodeApproval::Unknown => "see a newer kithctl for whether somebody is asked",
    };
    vec![
        format!("it lets {who} join the {kind} {name} ({permission}) until {expires}"),
        asked.to_owned(),
        format!("here it is called {label} ({id}); to end it: kithctl codes revoke {id}"),
    ]
}
