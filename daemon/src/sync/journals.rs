//! What the local door asks of journals and their members.

use std::collections::BTreeSet;
use std::sync::{Arc, PoisonError};

use kith_proto::control::event::Fact;
use kith_proto::control::journal::Journal;
use kith_proto::control::{ApiError, Code};
use kith_proto::id::PublicKey;
use kith_proto::peer::journal::member::{Kind, Members, Record, Resource};
use kith_proto::peer::journal::version::{Epoch, JournalId};
use kith_proto::{limits, text};
use tokio::time::Instant;

use super::book::{self, Book, Listed, State};
use super::resources::{is_full, let_in, may_put_out, put_out};
use super::session::now_ms;
use super::{Engine, Sync, view};
use crate::identity::Identity;
use crate::trust;

/// What a decision of the local door comes to: the database failed, or an answer.
type Decided<T> = rusqlite::Result<Result<T, ApiError>>;

/// `?` for a decision within a decision.
macro_rules! decided {
    ($decision:expr) => {
        match $decision {
            Ok(value) => value,
            Err(error) => return Ok(Err(error)),
        }
    };
}

pub(super) use decided;

impl Sync {
    /// Every journal that is here, or was offered; `default` first.
    pub async fn journals(&self) -> Result<Vec<Journal>, ApiError> {
        let (trust, this) = (self.0.trust.snapshot(), self.0.this());
        Ok(self.0.read(move |book| view::journals(book, &trust, &this)).await?)
    }

    /// One journal with all its members, by its name or its id.
    pub async fn journal(&self, wanted: String) -> Result<Journal, ApiError> {
        let (trust, this) = (self.0.trust.snapshot(), self.0.this());
        self.0
            .decide_reading(move |book| {
                let journal = decided!(find(book, &wanted)?);
                Ok(Ok(view::journal(book, &trust, &this, &journal, limits::JOURNAL_MEMBERS)?))
            })
            .await
    }

    /// Makes a journal that only this device has.
    pub async fn create(&self, name: String) -> Result<Journal, ApiError> {
        if !book::is_name(&name) {
            let most = limits::JOURNAL_NAME;
            let message = format!("a journal's name has 1 to {most} bytes and no control characters");
            return Err(ApiError::new(Code::InvalidParam, message));
        }
        let mut nonce = [0; 16];
        getrandom::fill(&mut nonce).map_err(|_| ApiError::new(Code::Internal, "the system gives no random bytes"))?;
        let creator = self.0.identity.public();
        let resource = Resource { kind: Kind::Journal, name, creator, nonce: JournalId(nonce) };
        let id = resource.id();
        self.0
            .decide(move |book| {
                if book.find(&resource.name)?.is_some() {
                    let message = format!("there is a journal called {} already", text::printable(&resource.name));
                    return Ok(Err(ApiError::new(Code::NameTaken, message)));
                }
                if book.journal_count()? >= limits::JOURNALS {
                    return Ok(Err(ApiError::new(Code::TooLarge, "there are too many journals")));
                }
                book.create(&resource, now_ms())?;
                Ok(Ok(()))
            })
            .await?;
        self.0.show(&id).await
    }

    /// Shares a journal with a trusted device. One's own devices may share it, too, if this device made it.
    pub async fn share(&self, wanted: String, peer: PublicKey) -> Result<Journal, ApiError> {
        let identity = self.0.identity.clone();
        let name = self.0.trust.snapshot().trusted(&peer).map(|device| device.name.clone()).unwrap_or_default();
        let circle = self.0.circle();
        let id = self
            .0
            .decide(move |book| {
                let journal = decided!(active(book, &wanted)?);
                let mut members = decided!(shareable(book, &journal, &identity)?);
                let_in(book, &identity, &circle, &journal, &mut members, &peer, &name)?;
                Ok(match members.contains(&peer) {
                    true => Ok(journal.id),
                    false if is_full(&members) => {
                        Err(ApiError::new(Code::TooLarge, "the journal has too many members"))
                    }
                    false => {
                        let message = "only the device that made the journal lets in again whom it let share it";
                        Err(ApiError::new(Code::AccessDenied, message))
                    }
                })
            })
            .await?;
        self.0.members_changed(&id, [peer]).await
    }

    /// Ends that. `wanted_peer` is a member's id, a unique prefix of it, or its name.
    pub async fn unshare(&self, wanted: String, wanted_peer: String) -> Result<Journal, ApiError> {
        let identity = self.0.identity.clone();
        let trust = self.0.trust.snapshot();
        let (id, peer) = self
            .0
            .decide(move |book| {
                let journal = decided!(active(book, &wanted)?);
                let mut members = decided!(shareable(book, &journal, &identity)?);
                let candidates = members.devices().into_iter().filter(|device| *device != identity.public());
                let named = candidates.map(|device| (view::member(&trust, &members, &device), device));
                let peer = decided!(trust::pick(&wanted_peer, named.collect::<Vec<_>>().into_iter()));
                if !may_put_out(&identity, &members, &peer) {
                    let message = "only the device that made the journal removes those that may share it";
                    return Ok(Err(ApiError::new(Code::AccessDenied, message)));
                }
                put_out(book, &identity, &journal, &mut members, &peer)?;
                Ok(Ok((journal.id, peer)))
            })
            .await?;
        // Nothing more goes there, also not in a session that is under way.
        self.0.lines.end_unless(|it, _| *it != peer);
        self.0.members_changed(&id, [peer]).await
    }

    /// Takes a journal that somebody else's device offers.
    pub async fn accept(&self, wanted: String) -> Result<Journal, ApiError> {
        let (id, others) = self
            .0
            .decide(move |book| {
                let journal = decided!(find(book, &wanted)?);
                if journal.state != State::Offered {
                    return Ok(Err(ApiError::new(Code::WrongState, "this journal does not wait to be accepted")));
                }
                book.set_state(&journal, State::Active)?;
                Ok(Ok((journal.id, book.others(&journal)?)))
            })
            .await?;
        self.0.members_changed(&id, others).await
    }

    /// Leaves a journal, and deletes what is here of it.
    pub async fn remove(&self, wanted: String) -> Result<(), ApiError> {
        let identity = self.0.identity.clone();
        let others = self
            .0
            .decide(move |book| {
                let journal = decided!(find(book, &wanted)?);
                let Some(mut members) = book.members(&journal)? else {
                    let message = "the default journal stays: every device has it";
                    let hint = "delete its entries, or create another journal and use that";
                    return Ok(Err(ApiError::new(Code::WrongState, message).hint(hint)));
                };
                let others = book.others(&journal)?;
                let own = identity.public();
                if let Some(record) = members.change(&own, "", false, false, &own) {
                    book.merge_members(&journal, &mut members, &[sign(&identity, &journal.id, record)])?;
                }
                book.leave(&journal)?;
                Ok(Ok(others))
            })
            .await?;
        let engine = self.0.clone();
        self.0.tasks.spawn("journal rubbish", async move {
            if let Err(error) = engine.sweep_rubbish().await {
                tracing::error!(%error, "cannot delete what was left; it is tried again later");
            }
        });
        self.0.lines.end_unless(|it, _| !others.contains(it));
        self.0.schedule().changed(&others, Instant::now());
        self.0.wake.notify_one();
        Ok(())
    }
}

impl Engine {
    /// A decision that may change something.
    pub(super) async fn decide<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Book<'_>) -> Decided<T> + Send + 'static,
    ) -> Result<T, ApiError> {
        self.write(work).await?
    }

    /// A decision that changes nothing.
    pub(super) async fn decide_reading<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Book<'_>) -> Decided<T> + Send + 'static,
    ) -> Result<T, ApiError> {
        self.read(work).await?
    }

    async fn show(&self, id: &JournalId) -> Result<Journal, ApiError> {
        let (id, trust, this) = (*id, self.trust.snapshot(), self.this());
        let journal = self
            .decide_reading(move |book| {
                let journal = decided!(find(book, &id.to_string())?);
                Ok(Ok(view::journal(book, &trust, &this, &journal, limits::MEMBERS_SHOWN)?))
            })
            .await?;
        self.events.publish(&Fact::JournalUpdated(journal.clone()));
        Ok(journal)
    }

    /// These devices are to learn of it.
    async fn members_changed(
        &self,
        id: &JournalId,
        devices: impl IntoIterator<Item = PublicKey>,
    ) -> Result<Journal, ApiError> {
        let devices: BTreeSet<_> = devices.into_iter().collect();
        self.schedule().changed(&devices, Instant::now());
        self.wake.notify_one();
        self.show(id).await
    }

    /// Somebody was introduced: the journals as they are now.
    pub(super) async fn tell_of_journals(self: &Arc<Self>) {
        match self.read(|book| book.journals()).await {
            Ok(journals) => {
                let shown = journals.iter().filter(|journal| journal.state.shown().is_some());
                shown.for_each(|journal| self.tell_soon(&journal.id));
            }
            Err(error) => tracing::error!(%error, "cannot tell of the journals"),
        }
    }

    /// A journal is not what it was: at once, or a moment after it was last told of, the state is told as it is then.
    pub(super) fn tell_soon(self: &Arc<Self>, id: &JournalId) {
        let due = self.news.lock().unwrap_or_else(PoisonError::into_inner).changed(id, Instant::now());
        let Some(at) = due else { return };
        let (engine, id) = (self.clone(), *id);
        self.tasks.spawn("journal news", async move {
            tokio::select! {
                () = engine.tasks.stopping().cancelled() => return,
                () = tokio::time::sleep_until(at) => {}
            }
            engine.news.lock().unwrap_or_else(PoisonError::into_inner).telling(&id, Instant::now());
            if let Err(error) = engine.show(&id).await {
                tracing::debug!(%error, "a journal is gone before it could be told of");
            }
        });
    }
}

/// The journal that `wanted` names.
pub fn find(book: &Book<'_>, wanted: &str) -> Decided<Listed> {
    Ok(book.find(wanted)?.ok_or_else(|| {
        ApiError::new(Code::JournalNotFound, format!("no journal is called {}", text::printable(wanted)))
            .hint("kithctl journals lists them")
    }))
}

/// The same, if it can be written.
pub fn active(book: &Book<'_>, wanted: &str) -> Decided<Listed> {
    let journal = decided!(find(book, wanted)?);
    Ok(match journal.state {
        State::Active => Ok(journal),
        State::Offered => Err(ApiError::new(Code::WrongState, "this journal was not accepted yet")
            .hint("kithctl journals accept JOURNAL")),
        State::Removed | State::Left => {
            Err(ApiError::new(Code::WrongState, "this device is not a member of this journal any more"))
        }
    })
}

/// Its members, if this device may let others in.
pub fn shareable(book: &Book<'_>, journal: &Listed, identity: &Identity) -> Decided<Members> {
    let Some(members) = book.members(journal)? else {
        let message = "the default journal is shared with all devices that are your own, and with nobody else";
        let hint = "kithctl trust policy PEER --own, or --guest, says whose device it is";
        return Ok(Err(ApiError::new(Code::WrongState, message).hint(hint)));
    };
    if members.may_admit(&identity.public()) {
        return Ok(Ok(members));
    }
    let message = "only the device that made the journal, and its owner's other devices, may share it";
    Ok(Err(ApiError::new(Code::AccessDenied, message)))
}

/// The record as this device says it.
pub fn sign(identity: &Identity, journal: &JournalId, record: Record) -> Record {
    let signature = identity.sign(&record.message(journal));
    record.signed(&signature)
}

/// A cursor, as apps see it: it holds within one life of the database.
pub fn cursor(epoch: &Epoch, seq: u64) -> String {
    format!("{epoch}.{seq}")
}

/// The same, read.
pub fn parse_cursor(text: &str) -> Result<(Epoch, u64), ApiError> {
    let parts = text.split_once('.').and_then(|(epoch, seq)| Some((Epoch::parse(epoch)?, seq.parse().ok()?)));
    parts.ok_or_else(|| ApiError::new(Code::InvalidParam, "this is no cursor"))
}
