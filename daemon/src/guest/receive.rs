//! Who comes in, and what is accepted. What a request is refused with is all that the guest learns.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use kith_proto::control::types::{Conflict, Direction, OfferedEntry, QuestionKind, Transfer, TransferState};
use kith_proto::control::{ApiError, Code};
use kith_proto::guest::{
    Accepted, OfferedFile, Pong, Prepare, Refusal, Register, Registered, Transmission, Version, file_name,
};
use kith_proto::{limits, text};
use tokio_util::sync::CancellationToken;

use super::book::{self, Answer, SHOWN};
use super::desk::{Item, ItemState, Offer, Session, Visitor};
use super::question::Ask;
use super::{Engine, Guests};
use crate::{clock, hook, store};

const CONSENT: Duration = Duration::from_secs(limits::GUEST_CONSENT_SECONDS);
const COMPARE: Duration = Duration::from_secs(limits::GUEST_COMPARE_SECONDS);
/// What is shown of a media type, in bytes.
const MEDIA_TYPE: usize = 100;
const REST_MS: i64 = limits::GUEST_PIN_REST_SECONDS as i64 * 1000;

/// Why a session is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum How {
    /// Everything arrived, or the guest said goodbye.
    Left,
    /// Nothing was heard of the guest for too long.
    Silent,
    /// Called off here.
    Abandoned,
}

impl Guests {
    /// A guest wants the hash compared. In version 2 the answer waits until somebody here has done so.
    pub async fn ping(&self, version: Version, visitor: Visitor) -> Result<Option<Pong>, Refusal> {
        let (accept, hash, shut, news) = self.0.with_window(|open| {
            if open.desk.is_shut() {
                return Err(Refusal::Rejected);
            }
            // Where a question is asked, that tells it.
            let silent = version == Version::V1 || open.accept;
            let by = Some(visitor.address.to_string());
            let news = silent && open.view.pinged_by != by;
            if news {
                open.view.pinged_by = by;
            }
            // Whoever is being served is not disturbed by others' questions.
            if version == Version::V2 && open.desk.is_taken() {
                return Err(Refusal::Busy);
            }
            Ok((open.accept, open.hash, open.shut.clone(), news))
        })?;
        if news {
            self.0.tell_window();
        }
        if version == Version::V1 {
            return Ok(None);
        }
        if !accept {
            let ask = Ask {
                kind: QuestionKind::Compare,
                address: visitor.address.to_string(),
                certificate_hash: Some(hash),
                transfer: None,
                patience: COMPARE,
            };
            self.0.ask(ask, &shut).await?;
        }
        // There is no camera here: the sender shows its hash for somebody to look at.
        Ok(Some(Pong { sender_show_hash: !accept }))
    }

    /// A guest says the PIN. Somebody here decides whether it may come in.
    pub async fn register(
        &self,
        version: Version,
        visitor: Visitor,
        request: &Register,
    ) -> Result<Registered, Refusal> {
        if version == Version::V2 && visitor.certificate.is_none() {
            return Err(Refusal::Malformed);
        }
        // Without a window, or in one that is over, there is no PIN that could be right, and none to be guessed.
        let tried = self.0.with_window(|open| match open.desk.is_shut() {
            true => Err(Refusal::WrongPin),
            false => Ok((open.desk.try_pin(request.pin.expose()), open.standing)),
        });
        let (tried, standing) = tried.map_err(|_| Refusal::WrongPin)?;
        if tried == Err(Refusal::WrongPin) {
            tracing::info!(address = %visitor.address, "a guest typed a wrong PIN");
            self.0.tell_window();
            if standing {
                self.0.count_guess().await?;
            }
        }
        tried?;
        let id = uuid::Uuid::new_v4().to_string();
        let (accept, shut) = self.0.with_window(|open| {
            open.desk.reserve(&id)?;
            Ok((open.accept, open.shut.clone()))
        })?;
        let kept = Kept { engine: &self.0, id: &id };
        if !accept {
            let ask = Ask {
                kind: QuestionKind::Connect,
                address: visitor.address.to_string(),
                certificate_hash: visitor.certificate.filter(|_| version == Version::V2),
                transfer: None,
                patience: CONSENT,
            };
            self.0.ask(ask, &shut).await?;
        }
        self.0.with_window(|open| open.desk.admit(kept.id, version, visitor, Instant::now()))?;
        drop(kept);
        tracing::info!(address = %visitor.address, version = version.number(), "a guest was let in");
        self.0.tasks.spawn("guest session", end_when_silent(self.0.clone(), id.clone()));
        Ok(Registered { session_id: id })
    }

    /// Whether this visitor was let in, and so may have something to offer.
    pub fn serves(&self, version: Version, visitor: Visitor) -> bool {
        self.0.with_window(|open| Ok(open.desk.serves(version, visitor))) == Ok(true)
    }

    /// A guest offers files. Somebody here decides.
    pub async fn prepare(&self, version: Version, visitor: Visitor, request: Prepare) -> Result<Accepted, Refusal> {
        let (over, old) =
            self.0.with_window(|open| open.desk.begin_prepare(version, visitor, &request, Instant::now()))?;
        if let Some(old) = old {
            self.0.conclude_offer(&old, How::Left);
        }
        let mut deciding =
            Deciding { engine: &self.0, session: &request.session, transfer: None, offer: None, settled: false };
        let config = &self.0.settings.config.guest;
        if request.files.len() > config.max_files || request.files.iter().any(|file| file.size > config.max_file) {
            return Err(Refusal::TooLarge);
        }
        let files: HashMap<_, _> =
            request.files.iter().map(|file| (file.id.clone(), item(file, &config.types))).collect();
        let title = if request.title.trim().is_empty() { "Files" } else { &request.title };
        let mut view = offered(&request.files, &files, &visitor.address.to_string(), title);
        view.peer.protocol = Some(version.number());
        let id = view.id.clone();
        deciding.transfer = Some(id.clone());
        let bytes = view.bytes.unwrap_or_default();
        let (dir, conflict) = tokio::select! {
            () = over.cancelled() => return Err(Refusal::NoSession),
            place = self.0.decide(view) => place?,
        };
        self.0.receive_to(&id, dir, conflict, bytes).await?;
        let accepted = request.files.iter().filter_map(|file| {
            let item = files.get(&file.id).filter(|item| item.state == ItemState::Waiting)?;
            Some(Transmission { id: file.id.clone(), transmission_id: item.transmission.clone() })
        });
        let accepted = Accepted { files: accepted.collect() };
        deciding.offer = Some(Offer { transfer: id, files });
        if deciding.settle() { Ok(accepted) } else { Err(Refusal::NoSession) }
    }

    /// A guest says goodbye.
    pub fn close_session(&self, version: Version, visitor: Visitor, session: &str) -> Result<(), Refusal> {
        let ended = self.0.with_window(|open| {
            let ended = open.desk.close(version, visitor, session, Instant::now())?;
            open.changed.notify_waiters();
            Ok(ended)
        })?;
        if let Some(session) = ended {
            self.0.conclude(session, How::Left);
        }
        Ok(())
    }
}

/// The place of somebody who waits to be let in; given up when the connection goes.
struct Kept<'a> {
    engine: &'a Engine,
    id: &'a str,
}

impl Drop for Kept<'_> {
    fn drop(&mut self) {
        let _ = self.engine.with_window(|open| {
            open.desk.release(self.id);
            Ok(())
        });
    }
}

/// An offer that is being decided on; nothing comes of it when the connection goes.
struct Deciding<'a> {
    engine: &'a Engine,
    session: &'a str,
    transfer: Option<String>,
    offer: Option<Offer>,
    settled: bool,
}

impl Deciding<'_> {
    /// Hands the offer over to the session, if that is still there.
    fn settle(mut self) -> bool {
        let offer = self.offer.take();
        let settled = self.engine.with_window(|open| Ok(open.desk.end_prepare(self.session, offer, Instant::now())));
        self.settled = settled == Ok(true);
        self.settled
    }
}

impl Drop for Deciding<'_> {
    fn drop(&mut self) {
        if self.settled {
            return;
        }
        let _ = self.engine.with_window(|open| Ok(open.desk.end_prepare(self.session, None, Instant::now())));
        let Some(transfer) = &self.transfer else { return };
        self.engine.book.end(transfer, TransferState::Canceled, None);
        self.engine.forget_place(transfer);
    }
}

fn item(file: &OfferedFile, types: &[String]) -> Item {
    let name = file_name(&file.label, file.media_type.as_deref());
    let extension = name.as_str().rsplit_once('.').map(|(_, extension)| extension.to_lowercase());
    let taken = types.is_empty() || extension.is_some_and(|extension| types.contains(&extension));
    Item {
        transmission: uuid::Uuid::new_v4().to_string(),
        name,
        size: file.size,
        sha256: file.sha256,
        state: if taken { ItemState::Waiting } else { ItemState::Refused },
    }
}

/// An offer, as the inbox shows it.
fn offered(files: &[OfferedFile], items: &HashMap<String, Item>, address: &str, title: &str) -> Transfer {
    let title = text::cut(title, limits::OFFER_TITLE);
    let mut view = book::begun(Direction::In, TransferState::Offered, address, title);
    let mut bytes = 0_u64;
    for (file, item) in files.iter().filter_map(|file| Some((file, items.get(&file.id)?))) {
        if item.state == ItemState::Refused {
            book::add_problem(&mut view, item.name.as_str(), "type");
            continue;
        }
        view.entries += 1;
        bytes = bytes.saturating_add(item.size);
        if view.preview.len() < SHOWN {
            let path = item.name.to_string();
            let media_type = file.media_type.as_deref().map(|it| text::cut(it, MEDIA_TYPE).to_owned());
            view.preview.push(OfferedEntry { path, kind: "file".to_owned(), size: Some(item.size), media_type });
        }
    }
    view.bytes = Some(bytes);
    view.expires = Some(clock::rfc3339(clock::now_ms() + limits::GUEST_CONSENT_SECONDS as i64 * 1000));
    view
}

impl Engine {
    /// Asks somebody, as long as the window lets anybody in.
    async fn ask(&self, ask: Ask, shut: &CancellationToken) -> Result<(), Refusal> {
        let answer = tokio::select! {
            () = shut.cancelled() => Some(false),
            answer = self.questions.ask(ask) => answer,
        };
        if answer.ok_or(Refusal::TooMany)? { Ok(()) } else { Err(Refusal::Rejected) }
    }

    /// Adds an offer, and gets an answer to it: where its files go.
    async fn decide(&self, view: Transfer) -> Result<(PathBuf, Conflict), Refusal> {
        let id = view.id.clone();
        let (accept, dir, conflict) = self.with_window(|open| Ok((open.accept, open.dir.clone(), open.conflict)))?;
        if view.entries == 0 {
            self.book.add(view);
            let reason = ApiError::new(Code::Rejected, "nothing in it has a type that is taken here");
            self.book.end(&id, TransferState::Rejected, Some(reason));
            return Ok((dir, conflict));
        }
        if accept {
            self.book.add(view);
            return Ok((dir, conflict));
        }
        let (stop, answered) = self.book.add_offer(view);
        let answer = tokio::select! {
            () = stop.cancelled() => return Err(Refusal::Rejected),
            answer = tokio::time::timeout(CONSENT, answered) => answer,
        };
        match answer {
            Ok(Ok(Answer::Accept { dir: other, on_conflict })) => {
                Ok((other.unwrap_or(dir), on_conflict.unwrap_or(conflict)))
            }
            Ok(_) => {
                self.book.end(&id, TransferState::Rejected, None);
                Err(Refusal::Rejected)
            }
            Err(_) => {
                let reason = ApiError::new(Code::TimedOut, "nobody answered in time");
                self.book.end(&id, TransferState::Rejected, Some(reason));
                Err(Refusal::Rejected)
            }
        }
    }

    /// A session is over: what did not arrive does not come any more.
    pub(super) fn conclude(&self, session: Session, how: How) {
        if let Some(offer) = session.offer {
            self.conclude_offer(&offer, how);
        }
        let _ = self.with_window(|open| {
            open.changed.notify_waiters();
            Ok(())
        });
    }

    fn conclude_offer(&self, offer: &Offer, how: How) {
        let (arrived, complete) = (offer.arrived(), offer.missing().next().is_none());
        self.book.change(&offer.transfer, |view| {
            offer.missing().for_each(|name| book::add_problem(view, name.as_str(), "not_sent"));
        });
        match how {
            How::Abandoned => self.book.end(&offer.transfer, TransferState::Canceled, None),
            How::Left | How::Silent if arrived > 0 || complete => {
                self.book.end(&offer.transfer, TransferState::Done, None);
                if let Some(view) = self.book.view(&offer.transfer).filter(|view| view.state == TransferState::Done) {
                    hook::run(&self.settings, &self.tasks, &view);
                }
            }
            How::Left | How::Silent => {
                let (code, message) = match how {
                    How::Silent => (Code::TimedOut, "nothing was heard of the sender any more"),
                    How::Left | How::Abandoned => (Code::Rejected, "the sender left without sending anything"),
                };
                self.book.end(&offer.transfer, TransferState::Failed, Some(ApiError::new(code, message)));
            }
        }
        self.forget_place(&offer.transfer);
    }

    /// A wrong PIN at a door that stays, where nobody would notice a thousand of them.
    async fn count_guess(&self) -> Result<(), Refusal> {
        let now = clock::now_ms();
        let counted = self.store.write(move |tx| {
            tx.execute("INSERT INTO guest_guess (at_ms) VALUES (?1)", [now])?;
            Ok(())
        });
        counted.await.map_err(broken)
    }

    /// Wrong PINs that a door that stays has left. One whose guesses cannot be counted lets nobody guess.
    pub(super) async fn attempts_left(&self) -> u32 {
        let now = clock::now_ms();
        let counted = self.store.write(move |tx| {
            tx.execute("DELETE FROM guest_guess WHERE at_ms NOT BETWEEN ?1 AND ?2", [now - REST_MS, now])?;
            tx.query_row("SELECT count(*) FROM guest_guess", [], |row| row.get::<_, u32>(0))
        });
        match counted.await {
            Ok(count) => limits::PIN_ATTEMPTS.saturating_sub(count),
            Err(error) => {
                tracing::error!(%error, "cannot count wrong PINs");
                0
            }
        }
    }
}

/// Ends a session that nothing is heard of.
async fn end_when_silent(engine: Arc<Engine>, id: String) {
    let stop = engine.tasks.stopping().clone();
    loop {
        let ended = engine.with_window(|open| Ok(open.desk.end_if_idle(&id, Instant::now())));
        match ended {
            Ok(Err(left)) => tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(left) => {}
            },
            Ok(Ok(Some(session))) => return engine.conclude(session, How::Silent),
            Ok(Ok(None)) | Err(_) => return,
        }
    }
}

pub(super) fn broken(error: store::Error) -> Refusal {
    tracing::error!(%error, "the database failed");
    Refusal::Broken
}
