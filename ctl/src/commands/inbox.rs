//! What waits for an answer: offers of files, secrets and databases, and requests to join.

use kith_proto::control::code::JoinRequest;
use kith_proto::control::credential::Share;
use kith_proto::control::method::{Empty, InboxList, Method as _, TransfersResult};

use super::codes::requests;
use super::{Context, share, transfers};
use crate::args::Inbox;
use crate::client::Client;
use crate::error::{Error, Result};

/// What an id may mean besides an offer of files.
enum Waiting {
    Share(Share),
    Request(JoinRequest),
}

impl Waiting {
    fn id(&self) -> &str {
        match self {
            Self::Share(share) => &share.share,
            Self::Request(request) => &request.request,
        }
    }
}

/// `inbox`
pub fn run(ctx: &Context, action: Option<Inbox>) -> Result<()> {
    match action.unwrap_or(Inbox::List) {
        Inbox::List => list(ctx),
        Inbox::Accept { id, place } => {
            let mut client = ctx.connect()?;
            match find(&mut client, &id)? {
                Some(Waiting::Share(share)) => share::inbox::accept(ctx, &mut client, &share, &place),
                Some(Waiting::Request(request)) => requests::accept(ctx, request, &place),
                None => transfers::accept_offer(ctx, id, &place),
            }
        }
        Inbox::Reject { id } => {
            let mut client = ctx.connect()?;
            match find(&mut client, &id)? {
                Some(Waiting::Share(share)) => share::inbox::reject(ctx, &mut client, &share),
                Some(Waiting::Request(request)) => requests::answer(ctx, request, false),
                None => transfers::reject_offer(ctx, id),
            }
        }
    }
}

/// Offers of files, then secrets and databases that wait for a review, then requests to join.
fn list(ctx: &Context) -> Result<()> {
    let mut client = ctx.connect()?;
    let offers = client.call_raw(InboxList::NAME, Some(&Empty {}))?;
    let shares = share::inbox::waiting(&mut client)?;
    let requests = requests::waiting(&mut client)?;
    if ctx.out.is_json() {
        ctx.out.raw(offers.get())?;
    } else {
        let offers: TransfersResult = client.decode(&offers)?;
        // No empty table above one that is not.
        if shares.is_empty() && requests.is_empty() || !offers.transfers.is_empty() {
            transfers::table(ctx, &offers)?;
        }
    }
    share::inbox::show(ctx, &shares)?;
    requests::show(ctx, &requests)
}

/// What `id` means, if it does not mean an offer of files.
fn find(client: &mut Client, id: &str) -> Result<Option<Waiting>> {
    let shares = share::inbox::waiting(client)?.into_iter().map(Waiting::Share);
    let mut fits: Vec<_> = shares.chain(requests::waiting(client)?.into_iter().map(Waiting::Request)).collect();
    fits.retain(|it| it.id().starts_with(id));
    if let Some(exact) = fits.iter().position(|it| it.id() == id) {
        return Ok(Some(fits.swap_remove(exact)));
    }
    if fits.is_empty() {
        return Ok(None);
    }
    let offers = client.call::<InboxList>(&Empty {})?.transfers.into_iter().map(|offer| offer.id);
    let ids: Vec<_> = fits.iter().map(|it| it.id().to_owned()).chain(offers.filter(|it| it.starts_with(id))).collect();
    if ids.len() > 1 {
        return Err(Error::usage(format!("{id} may be each of {}", ids.join(", "))).hint("give more of it"));
    }
    Ok(fits.pop())
}
