//! Who was let in, and what may be uploaded: a pure state machine. One guest is served at a time; whatever anybody else
//! asks for meanwhile changes nothing for that one.

use std::collections::{HashMap, HashSet, VecDeque};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use kith_proto::guest::{CertificateHash, Prepare, Refusal, Upload, Version};
use kith_proto::limits;
use kith_proto::path::WirePath;
use kith_proto::pin::Pin;
use tokio_util::sync::CancellationToken;

const IDLE: Duration = Duration::from_secs(limits::GUEST_IDLE_SECONDS);

/// Who is at the other end of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Visitor {
    /// Where it comes from.
    pub address: IpAddr,
    /// The certificate that it showed in the handshake.
    pub certificate: Option<CertificateHash>,
}

/// The desk of one window.
pub struct Desk {
    pin: Pin,
    attempts_left: u32,
    /// Nobody new is let in.
    shut: bool,
    slot: Slot,
    /// Oldest first.
    ended: VecDeque<Ended>,
}

enum Slot {
    Free,
    /// Somebody is asked whether the one may come in whose session this will be.
    Pending(String),
    Taken(Box<Session>),
}

/// Somebody who was let in.
pub struct Session {
    id: String,
    version: Version,
    visitor: Visitor,
    nonces: HashSet<String>,
    /// An offer is being decided on.
    preparing: bool,
    uploads: usize,
    active: Instant,
    /// What may be uploaded.
    pub offer: Option<Offer>,
    /// Cancelled when the session ends: whatever runs in it ends, too.
    pub over: CancellationToken,
}

/// An offer that was accepted.
pub struct Offer {
    /// The transfer's id.
    pub transfer: String,
    /// By the id that the guest gave them.
    pub files: HashMap<String, Item>,
}

/// A file of an offer.
pub struct Item {
    /// The permission to upload it.
    pub transmission: String,
    /// What it will be called.
    pub name: WirePath,
    /// Its bytes.
    pub size: u64,
    /// What it must hash to.
    pub sha256: Option<[u8; 32]>,
    /// How far it is.
    pub state: ItemState,
}

/// How far a file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ItemState {
    /// It may be uploaded.
    Waiting,
    /// It is being uploaded.
    Arriving,
    /// It is there.
    Arrived,
    /// It is not taken here.
    Refused,
}

/// The right to write one file. [`Desk::end_upload`] takes it back.
#[derive(Debug, Clone)]
pub struct Slip {
    session: String,
    file: String,
    transmission: String,
    /// The transfer's id.
    pub transfer: String,
    /// What it will be called.
    pub name: WirePath,
    /// Its bytes.
    pub size: u64,
    /// What it must hash to.
    pub sha256: Option<[u8; 32]>,
    /// Cancelled when the session ends.
    pub over: CancellationToken,
}

/// What is remembered of a session that is over.
struct Ended {
    id: String,
    version: Version,
    visitor: Visitor,
    /// Said by the guest itself.
    closed: bool,
    /// File and transmission of what arrived.
    arrived: HashSet<(String, String)>,
    at: Instant,
}

impl Desk {
    /// A desk that lets in whoever knows `pin`.
    pub fn new(pin: Pin, attempts_left: u32) -> Self {
        Self { pin, attempts_left, shut: false, slot: Slot::Free, ended: VecDeque::new() }
    }

    /// The PIN, to show it.
    pub fn pin(&self) -> &Pin {
        &self.pin
    }

    /// Wrong PINs that are left.
    pub fn attempts_left(&self) -> u32 {
        self.attempts_left
    }

    /// Wrong PINs that are left from now on.
    pub fn set_attempts(&mut self, left: u32) {
        self.attempts_left = left;
    }

    /// Lets nobody new in. Who was let in goes on.
    pub fn shut(&mut self) {
        self.shut = true;
        if matches!(self.slot, Slot::Pending(_)) {
            self.slot = Slot::Free;
        }
    }

    /// Whether nobody new is let in.
    pub fn is_shut(&self) -> bool {
        self.shut
    }

    /// Whether somebody is being served.
    pub fn is_taken(&self) -> bool {
        matches!(self.slot, Slot::Taken(_))
    }

    /// Whether this visitor may have something to offer.
    pub fn serves(&self, version: Version, visitor: Visitor) -> bool {
        matches!(&self.slot, Slot::Taken(session) if check(session.version, session.visitor, version, visitor).is_ok())
    }

    /// Whether somebody who was served lately may still want to say goodbye.
    pub fn expects_goodbye(&self, now: Instant, patience: Duration) -> bool {
        let late = |ended: &&Ended| !ended.closed && now.saturating_duration_since(ended.at) < patience;
        self.ended.iter().rev().find(late).is_some()
    }

    /// Looks at a PIN. Wrong ones are counted whoever types them.
    pub fn try_pin(&mut self, guess: &str) -> Result<(), Refusal> {
        if self.shut {
            return Err(Refusal::WrongPin);
        }
        if self.attempts_left == 0 {
            return Err(Refusal::TooMany);
        }
        if self.pin.matches(guess) {
            return Ok(());
        }
        self.attempts_left -= 1;
        Err(Refusal::WrongPin)
    }

    /// Keeps the one place for somebody who typed the PIN, under a session id that nobody can guess. What follows is
    /// [`Desk::admit`] or [`Desk::release`].
    pub fn reserve(&mut self, id: &str) -> Result<(), Refusal> {
        if !matches!(self.slot, Slot::Free) {
            return Err(Refusal::Busy);
        }
        self.slot = Slot::Pending(id.to_owned());
        Ok(())
    }

    /// Gives a place up that was kept.
    pub fn release(&mut self, id: &str) {
        if matches!(&self.slot, Slot::Pending(pending) if pending == id) {
            self.slot = Slot::Free;
        }
    }

    /// Lets somebody in whose place was kept.
    pub fn admit(&mut self, id: &str, version: Version, visitor: Visitor, now: Instant) -> Result<(), Refusal> {
        if !matches!(&self.slot, Slot::Pending(pending) if pending == id) {
            return Err(Refusal::Rejected);
        }
        self.slot = Slot::Taken(Box::new(Session {
            id: id.to_owned(),
            version,
            visitor,
            nonces: HashSet::new(),
            preparing: false,
            uploads: 0,
            active: now,
            offer: None,
            over: CancellationToken::new(),
        }));
        Ok(())
    }

    /// Begins to decide on an offer. [`Desk::end_prepare`] must follow. Returns the token of the session, and the offer
    /// that the new one replaces.
    pub fn begin_prepare(
        &mut self,
        version: Version,
        visitor: Visitor,
        request: &Prepare,
        now: Instant,
    ) -> Result<(CancellationToken, Option<Offer>), Refusal> {
        let session = self.session(version, visitor, &request.session)?;
        session.spend(request.nonce.as_deref())?;
        if session.preparing || session.uploads > 0 {
            return Err(Refusal::Busy);
        }
        session.preparing = true;
        session.active = now;
        Ok((session.over.clone(), session.offer.take()))
    }

    /// An offer was decided on; `None`: nothing comes of it. Says whether the session is still there.
    pub fn end_prepare(&mut self, id: &str, offer: Option<Offer>, now: Instant) -> bool {
        match &mut self.slot {
            Slot::Taken(session) if session.id == id => {
                session.preparing = false;
                session.offer = offer;
                session.active = now;
                true
            }
            _ => false,
        }
    }

    /// Begins an upload of `length` bytes, where that is known. [`Desk::end_upload`] must follow.
    pub fn begin_upload(
        &mut self,
        version: Version,
        visitor: Visitor,
        request: &Upload,
        length: Option<u64>,
        now: Instant,
    ) -> Result<Slip, Refusal> {
        if let Some(ended) = self.ended(version, visitor, &request.session)? {
            let arrived = (request.file.clone(), request.transmission.clone());
            return Err(if ended.arrived.contains(&arrived) { Refusal::Completed } else { Refusal::NoSession });
        }
        let session = self.session(version, visitor, &request.session)?;
        session.spend(request.nonce.as_deref())?;
        let offer = session.offer.as_mut().ok_or(Refusal::NoTransmission)?;
        let item = offer.files.get_mut(&request.file).ok_or(Refusal::NoTransmission)?;
        match item.state {
            ItemState::Refused => return Err(Refusal::Type),
            _ if item.transmission != request.transmission => return Err(Refusal::NoTransmission),
            ItemState::Arriving | ItemState::Arrived => return Err(Refusal::Completed),
            ItemState::Waiting => {}
        }
        if length.is_some_and(|length| length > item.size) {
            return Err(Refusal::TooLarge);
        }
        item.state = ItemState::Arriving;
        session.uploads += 1;
        session.active = now;
        Ok(Slip {
            session: session.id.clone(),
            file: request.file.clone(),
            transmission: item.transmission.clone(),
            transfer: offer.transfer.clone(),
            name: item.name.clone(),
            size: item.size,
            sha256: item.sha256,
            over: session.over.clone(),
        })
    }

    /// An upload is over. Returns the session if that was all that it had to do.
    pub fn end_upload(&mut self, slip: &Slip, arrived: bool, now: Instant) -> Option<Session> {
        let Slot::Taken(session) = &mut self.slot else { return None };
        if session.id != slip.session {
            return None;
        }
        session.uploads -= 1;
        session.active = now;
        let offer = session.offer.as_mut()?;
        let item = offer.files.get_mut(&slip.file).filter(|item| item.transmission == slip.transmission)?;
        item.state = if arrived { ItemState::Arrived } else { ItemState::Waiting };
        let settled = |item: &Item| matches!(item.state, ItemState::Arrived | ItemState::Refused);
        if offer.files.values().all(settled) { self.end(false, now) } else { None }
    }

    /// The guest says goodbye. Returns the session if it was not over by itself.
    pub fn close(
        &mut self,
        version: Version,
        visitor: Visitor,
        id: &str,
        now: Instant,
    ) -> Result<Option<Session>, Refusal> {
        if let Some(ended) = self.ended(version, visitor, id)? {
            if std::mem::replace(&mut ended.closed, true) {
                return Err(Refusal::Closed);
            }
            return Ok(None);
        }
        self.session(version, visitor, id)?;
        Ok(self.end(true, now))
    }

    /// Ends a session that nothing was heard of for too long. `Err`: how long to wait before asking again.
    pub fn end_if_idle(&mut self, id: &str, now: Instant) -> Result<Option<Session>, Duration> {
        let Slot::Taken(session) = &self.slot else { return Ok(None) };
        if session.id != id {
            return Ok(None);
        }
        if session.preparing || session.uploads > 0 {
            return Err(IDLE);
        }
        match IDLE.checked_sub(now.saturating_duration_since(session.active)) {
            Some(left) if !left.is_zero() => Err(left),
            _ => Ok(self.end(false, now)),
        }
    }

    /// Ends whatever session there is.
    pub fn end_any(&mut self, now: Instant) -> Option<Session> {
        self.end(true, now)
    }

    /// Ends the session that this transfer belongs to.
    pub fn end_transfer(&mut self, transfer: &str, now: Instant) -> Option<Session> {
        match &self.slot {
            Slot::Taken(session) if session.offer.as_ref().is_some_and(|offer| offer.transfer == transfer) => {
                self.end(true, now)
            }
            _ => None,
        }
    }

    fn end(&mut self, closed: bool, now: Instant) -> Option<Session> {
        let session = match std::mem::replace(&mut self.slot, Slot::Free) {
            Slot::Taken(session) => *session,
            other => {
                self.slot = other;
                return None;
            }
        };
        let arrived = session.offer.iter().flat_map(|offer| &offer.files);
        let arrived = arrived.filter(|(_, item)| item.state == ItemState::Arrived);
        if self.ended.len() == limits::GUEST_ENDED_SESSIONS {
            self.ended.pop_front();
        }
        self.ended.push_back(Ended {
            id: session.id.clone(),
            version: session.version,
            visitor: session.visitor,
            closed,
            arrived: arrived.map(|(id, item)| (id.clone(), item.transmission.clone())).collect(),
            at: now,
        });
        session.over.cancel();
        Some(session)
    }

    /// The session of this id, if it is this visitor's.
    fn session(&mut self, version: Version, visitor: Visitor, id: &str) -> Result<&mut Session, Refusal> {
        match &mut self.slot {
            Slot::Taken(session) if session.id == id => {
                check(session.version, session.visitor, version, visitor)?;
                Ok(session)
            }
            _ => Err(Refusal::NoSession),
        }
    }

    fn ended(&mut self, version: Version, visitor: Visitor, id: &str) -> Result<Option<&mut Ended>, Refusal> {
        match self.ended.iter_mut().find(|ended| ended.id == id) {
            Some(ended) => {
                check(ended.version, ended.visitor, version, visitor)?;
                Ok(Some(ended))
            }
            None => Ok(None),
        }
    }
}

/// A session belongs to an address (version 1) or to a certificate (version 2).
fn check(version: Version, owner: Visitor, asked: Version, visitor: Visitor) -> Result<(), Refusal> {
    if version != asked {
        return Err(Refusal::NoSession);
    }
    match version {
        Version::V1 if owner.address != visitor.address => Err(Refusal::NoSession),
        Version::V2 if owner.certificate != visitor.certificate => Err(Refusal::WrongCertificate),
        Version::V1 | Version::V2 => Ok(()),
    }
}

impl Session {
    /// A nonce that is given is good for once.
    fn spend(&mut self, nonce: Option<&str>) -> Result<(), Refusal> {
        let Some(nonce) = nonce else { return Ok(()) };
        if self.nonces.len() >= limits::GUEST_NONCES || !self.nonces.insert(nonce.to_owned()) {
            return Err(Refusal::Replayed);
        }
        Ok(())
    }
}

impl Offer {
    /// Names of files that may still come.
    pub fn missing(&self) -> impl Iterator<Item = &WirePath> {
        let missing = |item: &&Item| matches!(item.state, ItemState::Waiting | ItemState::Arriving);
        self.files.values().filter(missing).map(|item| &item.name)
    }

    /// How many files are there.
    pub fn arrived(&self) -> usize {
        self.files.values().filter(|item| item.state == ItemState::Arrived).count()
    }
}

#[cfg(test)]
#[path = "desk_tests.rs"]
mod tests;
