//! `journals.*`, `entries.*` and `sync.*`

use std::sync::Arc;

use data_encoding::BASE64;
use kith_proto::control::journal::{
    DeleteParams, EntriesResult, EntriesSubscribeParams, EntriesSubscribeResult, Entry, EntryNotice, GetParams,
    GetResult, HistoryParams, Journal, JournalCreateParams, JournalParams, JournalsResult, ListParams, PutParams,
    RecoverParams, ShareParams, StageParams, StageResult, SyncParams, SyncResult, VersionsResult,
};
use kith_proto::control::method::{Done, Empty};
use kith_proto::control::{ApiError, Code};
use kith_proto::id::PublicKey;
use kith_proto::limits;

use super::Engines;
use crate::doors::local::dispatch::Call;
use crate::doors::local::subscribe::notify;
use crate::sync::{Changes, Put};

pub async fn list(engines: Arc<Engines>, _: Call, _: Empty) -> Result<JournalsResult, ApiError> {
    Ok(JournalsResult { journals: engines.sync.journals().await? })
}

pub async fn show(engines: Arc<Engines>, _: Call, params: JournalParams) -> Result<Journal, ApiError> {
    engines.sync.journal(params.journal).await
}

pub async fn create(engines: Arc<Engines>, _: Call, params: JournalCreateParams) -> Result<Journal, ApiError> {
    engines.sync.create(params.name).await
}

pub async fn share(engines: Arc<Engines>, _: Call, params: ShareParams) -> Result<Journal, ApiError> {
    let peer = trusted(&engines, &params.peer)?;
    engines.sync.share(params.journal, peer).await
}

pub async fn unshare(engines: Arc<Engines>, _: Call, params: ShareParams) -> Result<Journal, ApiError> {
    engines.sync.unshare(params.journal, params.peer).await
}

pub async fn accept(engines: Arc<Engines>, _: Call, params: JournalParams) -> Result<Journal, ApiError> {
    engines.sync.accept(params.journal).await
}

pub async fn remove(engines: Arc<Engines>, _: Call, params: JournalParams) -> Result<Done, ApiError> {
    engines.sync.remove(params.journal).await?;
    Ok(Done {})
}

pub async fn put(engines: Arc<Engines>, _: Call, params: PutParams) -> Result<Entry, ApiError> {
    let body = match (params.body, params.staged) {
        (None, None) => Vec::new(),
        (Some(body), None) => piece(&body)?,
        (None, Some(staged)) => engines.sync.staged(&staged)?,
        (Some(_), Some(_)) => return Err(ApiError::new(Code::InvalidParam, "give at most one of body and staged")),
    };
    let put = Put { journal: params.journal, id: params.id, meta: params.meta, body, expected: params.expected };
    engines.sync.put(put).await
}

pub async fn stage(engines: Arc<Engines>, call: Call, params: StageParams) -> Result<StageResult, ApiError> {
    let (staged, bytes) = engines.sync.stage(params.staged, &piece(&params.data)?, &call.connection)?;
    Ok(StageResult { staged, bytes })
}

pub async fn get(engines: Arc<Engines>, _: Call, params: GetParams) -> Result<GetResult, ApiError> {
    let (entry, piece) = engines.sync.get(params.journal, params.id, params.version, params.offset).await?;
    let next = params.offset + piece.len() as u64;
    Ok(GetResult { next: (next < entry.size).then_some(next), body: BASE64.encode(&piece), entry })
}

pub async fn entries(engines: Arc<Engines>, _: Call, params: ListParams) -> Result<EntriesResult, ApiError> {
    engines.sync.list(params).await
}

pub async fn delete(engines: Arc<Engines>, _: Call, params: DeleteParams) -> Result<Entry, ApiError> {
    engines.sync.delete(params.journal, params.id, params.expected).await
}

pub async fn history(engines: Arc<Engines>, _: Call, params: HistoryParams) -> Result<VersionsResult, ApiError> {
    engines.sync.history(params).await
}

pub async fn recovered(engines: Arc<Engines>, _: Call, params: HistoryParams) -> Result<VersionsResult, ApiError> {
    engines.sync.recovered(params).await
}

pub async fn recover(engines: Arc<Engines>, _: Call, params: RecoverParams) -> Result<Done, ApiError> {
    engines.sync.recover(params).await?;
    Ok(Done {})
}

pub async fn subscribe(
    engines: Arc<Engines>,
    call: Call,
    params: EntriesSubscribeParams,
) -> Result<EntriesSubscribeResult, ApiError> {
    let (changes, cursor, reset) = engines.sync.follow(params.journal, params.cursor).await?;
    engines.tasks.spawn("entries subscription", stream(changes, call));
    Ok(EntriesSubscribeResult { cursor, reset })
}

async fn stream(mut changes: Changes, call: Call) {
    loop {
        let page = tokio::select! {
            () = call.connection.cancelled() => return,
            page = changes.next() => page,
        };
        for data in page {
            let notice = EntryNotice { kind: "entry:changed".to_owned(), data };
            if !notify(&call, &notice).await {
                return;
            }
        }
    }
}

pub async fn sync(engines: Arc<Engines>, _: Call, params: SyncParams) -> Result<SyncResult, ApiError> {
    let peer = params.peer.map(|peer| trusted(&engines, &peer)).transpose()?;
    Ok(SyncResult { peers: engines.sync.begin(peer).await? })
}

pub async fn status(engines: Arc<Engines>, _: Call, _: Empty) -> Result<SyncResult, ApiError> {
    Ok(SyncResult { peers: engines.sync.status().await? })
}

fn piece(base64: &str) -> Result<Vec<u8>, ApiError> {
    let bytes = BASE64
        .decode(base64.as_bytes())
        .map_err(|error| ApiError::new(Code::InvalidParam, format!("not base64: {error}")))?;
    if bytes.len() > limits::FEED_CHUNK {
        let message = format!("one line carries at most {} bytes of a body", limits::FEED_CHUNK);
        return Err(ApiError::new(Code::TooLarge, message).hint("use entries.stage for longer ones"));
    }
    Ok(bytes)
}

fn trusted(engines: &Engines, wanted: &str) -> Result<PublicKey, ApiError> {
    let trust = engines.trust.snapshot();
    let device = trust.find(wanted)?;
    if device.is_trusted() {
        return Ok(device.key);
    }
    Err(ApiError::new(Code::NotPaired, "this device was revoked").hint("pair first: kithctl pair PEER"))
}
