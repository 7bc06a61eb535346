//! The receiver's side of a short code: a door of its own for one share, and what becomes of what came through it.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use kith_proto::control::credential::{Share, ShareKind};
use kith_proto::control::{ApiError, Code};
use kith_proto::credential::payload::Payload;
use kith_proto::limits;
use kith_proto::peer::share::announcement::{Announcement, Protocol};
use kith_proto::peer::share::message::{Message, Outcome};
use kith_proto::peer::share::{Failure, Receiver};
use kith_proto::short_code::ShortCode;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::book::Verdict;
use super::send::burnt;
use super::{
    Engine, PATIENCE, REVIEW, called_off_there, expired, failed, fill, kind_of, millis, psi, random, stranger, within,
};
use crate::crowd::Crowd;
use crate::tls::ChannelError;
use crate::tls::channel::within as in_time;
use crate::tls::share::{Door, Link};

const HANDSHAKE: Duration = Duration::from_secs(limits::HANDSHAKE_SECONDS);
const EXCHANGE: Duration = Duration::from_secs(limits::SHARE_EXCHANGE_SECONDS);
/// A sender may have to ask others before it is this one's turn: as many as its code survives.
const TURN: Duration = Duration::from_secs(limits::SHARE_EXCHANGE_SECONDS * (limits::SHORT_CODE_ATTEMPTS as u64 + 1));
/// How long to wait after an accept that failed, for want of descriptors for example.
const PAUSE: Duration = Duration::from_millis(100);

/// What came, and the connection on which its sender waits to hear what becomes of it.
struct Arrival {
    payload: Payload,
    from: IpAddr,
    link: Option<Link>,
}

/// What the connections of one share have in common.
struct Waiting {
    engine: Arc<Engine>,
    id: String,
    kind: ShareKind,
    door: Door,
    receiver: Mutex<Receiver>,
    /// To whoever waits for the outcome. There is one: a code has one use, and burns once.
    arrivals: mpsc::Sender<Result<Arrival, ApiError>>,
}

impl Engine {
    /// Waits for whoever shows the code, then for what somebody decides about what came.
    pub(super) async fn receive(
        self: &Arc<Self>,
        share: &Share,
        code: ShortCode,
        cancel: &CancellationToken,
        owner: Option<CancellationToken>,
    ) {
        let id = &share.share;
        let wait = async {
            if share.compat {
                let (payload, from) = psi::receive(&code, &self.beacon, &self.tasks, Instant::now() + PATIENCE).await?;
                if kind_of(&payload) != share.kind {
                    return Err(wrong_kind(share.kind));
                }
                return Ok(Arrival { payload, from, link: None });
            }
            self.wait(id, share.kind, code).await
        };
        let Arrival { payload, from, link } = match within(cancel, owner.clone(), PATIENCE, wait).await {
            Ok(arrival) => arrival,
            Err(error) => {
                let error = match self.book.find(id) {
                    Ok(share) if error.code == Code::TimedOut && !share.compat => nobody(&share),
                    _ => error,
                };
                self.book.settle(id, failed(&error), Some(error.into()));
                return;
            }
        };
        let verdicts = self.book.arrived(id, payload, stranger(from), millis(REVIEW));
        self.review(id, link, verdicts, cancel, owner).await;
    }

    async fn wait(self: &Arc<Self>, id: &str, kind: ShareKind, code: ShortCode) -> Result<Arrival, ApiError> {
        let cannot = |what: &str, error: &dyn std::fmt::Display| {
            tracing::error!(%error, "{what}");
            ApiError::new(Code::Internal, format!("{what}; the log has the details"))
        };
        let door = Door::new().map_err(|error| cannot("cannot make a certificate", &error))?;
        let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)).await;
        let listener = listener.map_err(|error| cannot("cannot listen for the sender", &error))?;
        let port = listener.local_addr().map_err(|error| cannot("cannot listen for the sender", &error))?.port();
        let mut session = [0; 16];
        fill(&mut session);
        let certificate_hash = door.certificate_hash();
        let announcement = Announcement { protocol: Protocol::Kith { session }, port, certificate_hash };

        let (arrivals, mut arrived) = mpsc::channel(1);
        let receiver = Mutex::new(Receiver::new(code));
        let waiting = Arc::new(Waiting { engine: self.clone(), id: id.to_owned(), kind, door, receiver, arrivals });
        // Whoever is at the door when this ends is sent away.
        let over = CancellationToken::new();
        let _guard = over.clone().drop_guard();
        let crowd = Crowd::new(limits::SHARE_CONNECTIONS, limits::SHARE_CONNECTIONS_PER_ADDRESS);
        let announcing = self.beacon.announce(&announcement);
        tokio::pin!(announcing);
        loop {
            tokio::select! {
                never = &mut announcing => match never {},
                Some(arrival) = arrived.recv() => return arrival,
                accepted = listener.accept() => match accepted {
                    Ok((tcp, remote)) => {
                        let Some(place) = crowd.enter(remote.ip()) else { continue };
                        let (waiting, over) = (waiting.clone(), over.clone());
                        self.tasks.spawn("share connection", async move {
                            over.run_until_cancelled(waiting.connection(tcp, remote)).await;
                            drop(place);
                        });
                    }
                    Err(error) => {
                        tracing::warn!(%error, "cannot accept the sender of a share");
                        tokio::time::sleep(PAUSE).await;
                    }
                },
            }
        }
    }

    /// Waits for what somebody decides, and tells the sender. A sender that goes away meanwhile has called it off: what
    /// it takes for failed is not saved afterwards.
    async fn review(
        &self,
        id: &str,
        mut link: Option<Link>,
        mut verdicts: mpsc::Receiver<Verdict>,
        cancel: &CancellationToken,
        owner: Option<CancellationToken>,
    ) {
        let mut over = None;
        let outcome = {
            let ends = within(cancel, owner, REVIEW, gone(link.as_mut()));
            tokio::pin!(ends);
            loop {
                tokio::select! {
                    biased;
                    verdict = verdicts.recv() => match (verdict, &over) {
                        (Some(Verdict::Saved), _) => break Outcome::Saved,
                        (Some(Verdict::Declined { clash: true }), _) => break Outcome::Conflict,
                        (Some(Verdict::Declined { clash: false }), _) => break Outcome::Declined,
                        (Some(Verdict::Kept), None) => continue,
                        (Some(Verdict::Kept), Some(_)) => {}
                        // It was called off here.
                        (None, _) => break Outcome::Canceled,
                    },
                    Err(error) = &mut ends, if over.is_none() => over = Some(error),
                }
                // While it is being saved it is not over: what comes of that counts.
                if let Some(error) = &over {
                    let error = if error.code == Code::TimedOut { too_late() } else { error.clone() };
                    if self.book.settle(id, failed(&error), Some(error.into())) {
                        break Outcome::Canceled;
                    }
                }
            }
        };
        if let Some(mut link) = link {
            let result = Message::Result(outcome).encode();
            let told = link.writer.send_frame(&result);
            if in_time(EXCHANGE, told).await.is_ok() {
                link.close().await;
            }
        }
    }
}

/// Ends when the sender closes, or says something: it has nothing to say.
async fn gone(link: Option<&mut Link>) -> Result<std::convert::Infallible, ApiError> {
    match link {
        Some(link) => {
            let _ = link.reader.frame(limits::FRAME_UNAUTHENTICATED).await;
            Err(called_off_there())
        }
        None => std::future::pending().await,
    }
}

impl Waiting {
    async fn connection(&self, tcp: TcpStream, remote: SocketAddr) {
        let mut link = match in_time(HANDSHAKE, self.door.accept(tcp, remote)).await {
            Ok(link) => link,
            Err(error) => {
                tracing::debug!(%remote, %error, "a handshake failed");
                return;
            }
        };
        let mut knows_the_code = false;
        match self.exchange(&mut link, &mut knows_the_code).await {
            Ok(Some(json)) => self.take(&json, link).await,
            Ok(None) => link.close().await,
            Err(error) => {
                tracing::debug!(%remote, %error, "an exchange broke off");
                if knows_the_code {
                    let message = "the sender knew the code, but the connection broke before anything arrived";
                    let error = ApiError::new(Code::PeerOffline, message).hint("start again on both devices");
                    let _ = self.arrivals.send(Err(error)).await;
                }
            }
        }
    }

    /// What the other end hands over, if it knows the code.
    async fn exchange(
        &self,
        link: &mut Link,
        knows_the_code: &mut bool,
    ) -> Result<Option<zeroize::Zeroizing<Vec<u8>>>, ChannelError> {
        let share1 = in_time(EXCHANGE, link.reader.frame(limits::FRAME_UNAUTHENTICATED)).await?;
        let begun = self.lock().on_share1(&share1, &link.binding, &random());
        let (awaiting, share2) = match begun {
            Ok(begun) => begun,
            Err(failure) => return refuse(link, failure).await,
        };
        link.writer.send_frame(&share2).await?;
        let share3 = in_time(TURN, link.reader.frame(limits::FRAME_UNAUTHENTICATED)).await?;
        let confirmed = awaiting.on_share3(&share3, &mut self.lock());
        let (awaiting, share4) = match confirmed {
            Ok(confirmed) => confirmed,
            Err(failure) => {
                if failure == Failure::WrongCode {
                    self.count().await;
                }
                return refuse(link, failure).await;
            }
        };
        *knows_the_code = true;
        let rest = async {
            link.writer.send_frame(&share4).await?;
            link.reader.frame(limits::FRAME_CONTROL).await
        };
        let payload = in_time(EXCHANGE, rest).await?;
        match awaiting.on_payload(&payload) {
            Ok(json) => Ok(Some(json)),
            Err(failure) => Err(ChannelError::Malformed(failure.to_string())),
        }
    }

    /// Somebody with another code was here.
    async fn count(&self) {
        let left = self.lock().attempts_left();
        self.engine.book.attempts(&self.id, left);
        if left == 0 {
            let _ = self.arrivals.send(Err(burnt())).await;
        }
    }

    /// What came from somebody who knows the code.
    async fn take(&self, json: &[u8], mut link: Link) {
        let refusal = match Payload::parse(json) {
            Ok(payload) if kind_of(&payload) == self.kind => {
                let from = link.remote.ip();
                let _ = self.arrivals.send(Ok(Arrival { payload, from, link: Some(link) })).await;
                return;
            }
            Ok(_) => (Outcome::WrongKind, wrong_kind(self.kind)),
            Err(invalid) => (
                Outcome::Invalid { detail: invalid.to_string() },
                ApiError::new(Code::WrongKind, format!("what came is not as it should be: {invalid}"))
                    .hint("check that both devices are up to date"),
            ),
        };
        let (outcome, error) = refusal;
        let result = Message::Result(outcome).encode();
        let told = link.writer.send_frame(&result);
        if in_time(EXCHANGE, told).await.is_ok() {
            link.close().await;
        }
        let _ = self.arrivals.send(Err(error)).await;
    }

    fn lock(&self) -> MutexGuard<'_, Receiver> {
        self.receiver.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Tells the other end why it gets nothing.
async fn refuse<T>(link: &mut Link, failure: Failure) -> Result<Option<T>, ChannelError> {
    link.writer.send_frame(&failure.to_payload()).await?;
    Ok(None)
}

/// Why nobody came.
pub(super) fn nobody(share: &Share) -> ApiError {
    if share.attempts_left.is_none_or(|left| left == limits::SHORT_CODE_ATTEMPTS) {
        return expired();
    }
    ApiError::new(Code::WrongPin, "only a device with another code came, or another device is interfering")
        .hint("check the code that the other device shows, and start again")
}

fn wrong_kind(wanted: ShareKind) -> ApiError {
    let (came, wanted) = match wanted {
        ShareKind::Secret => ("a database came where a secret was expected", "`dbs receive` takes databases"),
        ShareKind::Database | ShareKind::Unknown => {
            ("a secret came where a database was expected", "`secrets receive` takes secrets")
        }
    };
    ApiError::new(Code::WrongKind, came).hint(wanted)
}

fn too_late() -> ApiError {
    let message =
        format!("nobody decided about it within {} minutes; nothing was saved", limits::SHARE_REVIEW_SECONDS / 60);
    ApiError::new(Code::TimedOut, message).hint("start again on both devices")
}
