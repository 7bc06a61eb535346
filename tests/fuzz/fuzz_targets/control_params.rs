//! The parameters of every method at the local door.
#![no_main]

use kith_proto::control::method::{self as m, Method};

libfuzzer_sys::fuzz_target!(|text: &[u8]| {
    let Ok(params) = serde_json::from_slice::<serde_json::Map<String, serde_json::Value>>(text) else { return };
    macro_rules! each {
        ($($method:ident)+) => {
            $(drop(serde_json::from_value::<<m::$method as Method>::Params>(params.clone().into()));)+
        };
    }
    each! {
        Hello Status Identity Config Doctor Shutdown Subscribe PeersList TrustList TrustShow TrustRename TrustPolicy
        TrustRevoke PairingOpen PairingJoin PairingCancel TransferSend TransferFeed TransferList TransferShow
        TransferCancel TransferRetry InboxList InboxAccept InboxReject GuestOpen GuestShow GuestClose GuestAnswer
        GuestSend JournalsList JournalsShow JournalsCreate JournalsShare JournalsUnshare JournalsAccept JournalsRemove
        EntriesPut EntriesStage EntriesGet EntriesList EntriesDelete EntriesHistory EntriesRecovered EntriesRecover
        EntriesSubscribe SyncStart SyncStatus VaultStatus VaultLock VaultUnlock VaultPassphrase SecretsList SecretsView
        SecretsAdd SecretsEdit SecretsRemove SecretsImport DatabasesList DatabasesView DatabasesAdd DatabasesEdit
        DatabasesRemove SharesSend SharesReceive SharesList SharesReview SharesSave SharesDecline SharesCancel
        CodesIssue CodesList CodesShow CodesRevoke CodesRequests CodesAnswer JoinsBegin JoinsConfirm JoinsList
        JoinsCancel
    }
});
