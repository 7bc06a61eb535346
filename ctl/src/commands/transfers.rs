//! Offers that wait, and transfers: `inbox` and `transfers`.

use kith_proto::control::method::{
    AcceptParams, Empty, InboxAccept, InboxList, InboxReject, Method, TransferCancel, TransferList, TransferListParams,
    TransferParams, TransferRetry, TransferShow, TransfersResult,
};
use kith_proto::control::types::Transfer;

use super::{Context, path_text, share, view};
use crate::args::{self, Inbox, Place, Transfers};
use crate::error::Result;

/// `inbox`
pub fn inbox(ctx: &Context, action: Option<Inbox>) -> Result<()> {
    match action.unwrap_or(Inbox::List) {
        Inbox::List => list(ctx),
        Inbox::Accept { id, place } => {
            let mut client = ctx.connect()?;
            match share::inbox::find(&mut client, &id)? {
                Some(share) => share::inbox::accept(ctx, &mut client, &share, &place),
                None => ctx.show::<InboxAccept>(&accept(id, &place)?, |transfer| line(ctx, transfer)),
            }
        }
        Inbox::Reject { id } => {
            let mut client = ctx.connect()?;
            match share::inbox::find(&mut client, &id)? {
                Some(share) => share::inbox::reject(ctx, &mut client, &share),
                None => one::<InboxReject>(ctx, id),
            }
        }
    }
}

/// Offers of files, then secrets and databases that wait for a review.
fn list(ctx: &Context) -> Result<()> {
    let mut client = ctx.connect()?;
    let offers = client.call_raw(InboxList::NAME, Some(&Empty {}))?;
    let shares = share::inbox::waiting(&mut client)?;
    if ctx.out.is_json() {
        ctx.out.raw(offers.get())?;
    } else {
        let offers: TransfersResult = client.decode(&offers)?;
        // No empty table above one that is not.
        if shares.is_empty() || !offers.transfers.is_empty() {
            table(ctx, &offers)?;
        }
    }
    share::inbox::show(ctx, &shares)
}

/// `transfers`
pub fn transfers(ctx: &Context, action: Option<Transfers>, list: args::TransferList) -> Result<()> {
    match action.unwrap_or(Transfers::List(list)) {
        Transfers::List(args::TransferList { all }) => {
            ctx.show::<TransferList>(&TransferListParams { all }, |result| table(ctx, result))
        }
        Transfers::Show { id } => ctx.show::<TransferShow>(&TransferParams { transfer: id }, |transfer| {
            ctx.out.table(&view::transfer(transfer))
        }),
        Transfers::Cancel { id } => one::<TransferCancel>(ctx, id),
        Transfers::Retry { id } => one::<TransferRetry>(ctx, id),
    }
}

/// How an offer is accepted.
pub fn accept(transfer: String, place: &Place) -> Result<AcceptParams> {
    let dir = place.dir.as_deref().map(path_text).transpose()?;
    Ok(AcceptParams { transfer, dir, on_conflict: place.on_conflict })
}

fn one<M: Method<Params = TransferParams, Result = Transfer>>(ctx: &Context, id: String) -> Result<()> {
    ctx.show::<M>(&TransferParams { transfer: id }, |transfer| line(ctx, transfer))
}

fn line(ctx: &Context, transfer: &Transfer) -> Result<()> {
    ctx.out.line(&view::transfer_line(transfer))
}

fn table(ctx: &Context, result: &TransfersResult) -> Result<()> {
    ctx.out.table(&view::transfers(&result.transfers))
}
