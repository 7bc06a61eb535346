//! One short function for each method: decode is done, here is one call, encode follows.

mod codes;
mod daemon;
mod guest;
mod joins;
mod journals;
mod pairing;
mod peers;
mod shares;
mod transfer;
mod vault;

use std::sync::Arc;

use kith_proto::control::method as m;

use super::dispatch::Table;
use super::subscribe::subscribe;
use crate::codes::{Codes, Joins};
use crate::config::Settings;
use crate::credentials::Credentials;
use crate::discovery::Discovery;
use crate::event::Events;
use crate::guest::Guests;
use crate::hello_store::Hello;
use crate::identity::Identity;
use crate::pairing::Pairing;
use crate::sync::Sync;
use crate::task::Tasks;
use crate::transfer::Transfers;
use crate::trust::Trust;
use crate::vault::Vault;

/// Everything that a method may call.
pub struct Engines {
    /// The configuration in force.
    pub settings: Settings,
    /// This device.
    pub identity: Arc<Identity>,
    /// Whom this device trusts.
    pub trust: Trust,
    /// Who is there.
    pub discovery: Discovery,
    /// PINs and QRs.
    pub pairing: Pairing,
    /// Files and texts.
    pub transfers: Transfers,
    /// Devices that are not paired.
    pub guests: Guests,
    /// Journals.
    pub sync: Sync,
    /// Secrets and databases.
    pub vault: Vault,
    /// What sharing codes need.
    pub hello: Hello,
    /// Credentials on their way.
    pub credentials: Credentials,
    /// Joining by codes.
    pub joins: Joins,
    /// Sharing codes that this device issued.
    pub codes: Codes,
    /// What happens.
    pub events: Events,
    /// Who runs everything.
    pub tasks: Tasks,
    /// Another one after each start.
    pub boot_id: String,
    /// When the daemon started, in milliseconds since 1970.
    pub started_ms: i64,
    /// The port of the peer door.
    pub peer_port: u16,
}

/// Every method. The list is complete: a test compares it with the contract.
pub fn table() -> Table {
    Table::default()
        .with::<m::Hello, _, _>(daemon::hello)
        .with::<m::Status, _, _>(daemon::status)
        .with::<m::Identity, _, _>(daemon::identity)
        .with::<m::Config, _, _>(daemon::config)
        .with::<m::Doctor, _, _>(daemon::doctor)
        .with::<m::Shutdown, _, _>(daemon::shutdown)
        .with::<m::Subscribe, _, _>(subscribe)
        .with::<m::PeersList, _, _>(peers::list)
        .with::<m::TrustList, _, _>(peers::trusted)
        .with::<m::TrustShow, _, _>(peers::show)
        .with::<m::TrustRename, _, _>(peers::rename)
        .with::<m::TrustPolicy, _, _>(peers::policy)
        .with::<m::TrustRevoke, _, _>(peers::revoke)
        .with::<m::PairingOpen, _, _>(pairing::open)
        .with::<m::PairingJoin, _, _>(pairing::join)
        .with::<m::PairingCancel, _, _>(pairing::cancel)
        .with::<m::TransferSend, _, _>(transfer::send)
        .with::<m::TransferFeed, _, _>(transfer::feed)
        .with::<m::TransferList, _, _>(transfer::list)
        .with::<m::TransferShow, _, _>(transfer::show)
        .with::<m::TransferCancel, _, _>(transfer::cancel)
        .with::<m::TransferRetry, _, _>(transfer::retry)
        .with::<m::InboxList, _, _>(transfer::inbox)
        .with::<m::InboxAccept, _, _>(transfer::accept)
        .with::<m::InboxReject, _, _>(transfer::reject)
        .with::<m::GuestOpen, _, _>(guest::open)
        .with::<m::GuestShow, _, _>(guest::show)
        .with::<m::GuestClose, _, _>(guest::close)
        .with::<m::GuestAnswer, _, _>(guest::answer)
        .with::<m::GuestSend, _, _>(guest::send)
        .with::<m::JournalsList, _, _>(journals::list)
        .with::<m::JournalsShow, _, _>(journals::show)
        .with::<m::JournalsCreate, _, _>(journals::create)
        .with::<m::JournalsShare, _, _>(journals::share)
        .with::<m::JournalsUnshare, _, _>(journals::unshare)
        .with::<m::JournalsAccept, _, _>(journals::accept)
        .with::<m::JournalsRemove, _, _>(journals::remove)
        .with::<m::EntriesPut, _, _>(journals::put)
        .with::<m::EntriesStage, _, _>(journals::stage)
        .with::<m::EntriesGet, _, _>(journals::get)
        .with::<m::EntriesList, _, _>(journals::entries)
        .with::<m::EntriesDelete, _, _>(journals::delete)
        .with::<m::EntriesHistory, _, _>(journals::history)
        .with::<m::EntriesRecovered, _, _>(journals::recovered)
        .with::<m::EntriesRecover, _, _>(journals::recover)
        .with::<m::EntriesSubscribe, _, _>(journals::subscribe)
        .with::<m::SyncStart, _, _>(journals::sync)
        .with::<m::SyncStatus, _, _>(journals::status)
        .with::<m::VaultStatus, _, _>(vault::status)
        .with::<m::VaultLock, _, _>(vault::lock)
        .with::<m::VaultUnlock, _, _>(vault::unlock)
        .with::<m::VaultPassphrase, _, _>(vault::passphrase)
        .with::<m::SecretsList, _, _>(vault::secrets)
        .with::<m::SecretsView, _, _>(vault::secret)
        .with::<m::SecretsAdd, _, _>(vault::add_secret)
        .with::<m::SecretsEdit, _, _>(vault::edit_secret)
        .with::<m::SecretsRemove, _, _>(vault::remove_secret)
        .with::<m::SecretsImport, _, _>(vault::import)
        .with::<m::DatabasesList, _, _>(vault::databases)
        .with::<m::DatabasesView, _, _>(vault::database)
        .with::<m::DatabasesAdd, _, _>(vault::add_database)
        .with::<m::DatabasesEdit, _, _>(vault::edit_database)
        .with::<m::DatabasesRemove, _, _>(vault::remove_database)
        .with::<m::SharesSend, _, _>(shares::send)
        .with::<m::SharesReceive, _, _>(shares::receive)
        .with::<m::SharesList, _, _>(shares::list)
        .with::<m::SharesReview, _, _>(shares::review)
        .with::<m::SharesSave, _, _>(shares::save)
        .with::<m::SharesDecline, _, _>(shares::decline)
        .with::<m::SharesCancel, _, _>(shares::cancel)
        .with::<m::JoinsBegin, _, _>(joins::begin)
        .with::<m::JoinsConfirm, _, _>(joins::confirm)
        .with::<m::JoinsList, _, _>(joins::list)
        .with::<m::JoinsCancel, _, _>(joins::cancel)
        .with::<m::CodesIssue, _, _>(codes::issue)
        .with::<m::CodesList, _, _>(codes::list)
        .with::<m::CodesShow, _, _>(codes::show)
        .with::<m::CodesRevoke, _, _>(codes::revoke)
        .with::<m::CodesRequests, _, _>(codes::requests)
        .with::<m::CodesAnswer, _, _>(codes::answer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_method_of_the_contract_is_served() {
        let mut served = table().names();
        let mut contract: Vec<_> = m::ALL.iter().map(|(name, _)| *name).collect();
        served.sort_unstable();
        contract.sort_unstable();
        assert_eq!(served, contract);
    }
}
