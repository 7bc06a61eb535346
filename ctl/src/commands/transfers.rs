//! Transfers, and how an offer of one is answered.

use kith_proto::control::method::{
    AcceptParams, InboxAccept, InboxReject, Method, TransferCancel, TransferList, TransferListParams, TransferParams,
    TransferRetry, TransferShow, TransfersResult,
};
use kith_proto::control::types::Transfer;

use super::{Context, path_text, view};
use crate::args::{self, Place, Transfers};
use crate::error::Result;

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

/// `inbox accept` of an offer.
pub fn accept_offer(ctx: &Context, id: String, place: &Place) -> Result<()> {
    ctx.show::<InboxAccept>(&accept(id, place)?, |transfer| line(ctx, transfer))
}

/// `inbox reject` of an offer.
pub fn reject_offer(ctx: &Context, id: String) -> Result<()> {
    one::<InboxReject>(ctx, id)
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

/// Transfers, one a row.
pub fn table(ctx: &Context, result: &TransfersResult) -> Result<()> {
    ctx.out.table(&view::transfers(&result.transfers))
}
