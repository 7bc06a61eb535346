//! The sender's side: from files to requests.
//!
//! What was named is walked through and hashed first: the hashes are part of the offer. Then come the people: one here
//! and one there compare the receiver's certificate hash, unless a QR or the caller brought it along; only then the PIN
//! is sent, and to that certificate only. What breaks on the way is offered again in the same session.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use kith_proto::control::types::{Direction, QuestionKind, Transfer, TransferState};
use kith_proto::control::{ApiError, Code};
use kith_proto::guest::{CertificateHash, Version};
use kith_proto::pin::Pin;
use kith_proto::{limits, text};
use tokio::sync::oneshot;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::book::{self, SHOWN};
use super::client::Door;
use super::offer::{self, Found, Offered};
use super::question::Ask;
use super::session::{self, Outcome, Session, Trouble};
use super::window::PORTS;
use super::{Engine, Receiver, SendRequest};
use crate::dial;
use crate::files::Reader;

/// A method answers within half a second: what takes longer to look through is told as it goes on.
const ANSWER_WITHIN: Duration = Duration::from_millis(300);
/// How often what did not arrive is offered.
const ROUNDS: usize = 3;

/// Starts sending to a guest.
pub async fn begin(engine: &Arc<Engine>, request: SendRequest) -> Result<Transfer, ApiError> {
    let SendRequest { receiver, paths, title, caller } = request;
    let title = title.filter(|title| !title.trim().is_empty()).unwrap_or_else(|| title_of(&paths));
    let title = text::cut(&title, limits::OFFER_TITLE).to_owned();
    let address = match &receiver {
        Receiver::Typed { target, .. } => text::printable(target).into_owned(),
        Receiver::Scanned(qr) => qr.addresses.first().map_or_else(String::new, |ip| at(*ip, qr.port).to_string()),
    };
    let view = book::begun(Direction::Out, TransferState::Preparing, &address, &title);
    let id = view.id.clone();
    let called_off = engine.book.add(view);
    let reader = caller.map_or_else(Reader::own, |(uid, gids)| Reader::for_caller(uid, gids));
    let sending = Sending { engine: engine.clone(), id: id.clone(), title, reader, called_off };
    let (told, mut early) = oneshot::channel();
    engine.tasks.spawn("guest send", sending.run(receiver, paths, told));
    let early = match tokio::time::timeout(ANSWER_WITHIN, &mut early).await {
        Ok(outcome) => outcome.ok(),
        // From now on, what happens becomes the transfer's outcome. It may have happened just now.
        Err(_) => {
            early.close();
            early.try_recv().ok()
        }
    };
    match early {
        Some(Err(error)) => {
            engine.book.forget(&id);
            Err(error)
        }
        _ => engine.book.show(&id),
    }
}

/// One sending.
struct Sending {
    engine: Arc<Engine>,
    id: String,
    title: String,
    reader: Reader,
    called_off: CancellationToken,
}

/// Whom to send to, and how to begin with it.
struct Way {
    addresses: Vec<SocketAddr>,
    pin: Pin,
    certificate_hash: Option<CertificateHash>,
    /// Versions to try; none: a ping finds out.
    versions: Vec<Version>,
}

/// What a round of uploads came to.
#[derive(Default)]
struct Round<'a> {
    /// What did not arrive, and may be offered again.
    left: Vec<&'a Offered>,
    /// Something arrived.
    moved: bool,
    /// A connection broke.
    broken: bool,
    /// There was no connection: each of the others would wait as long for one.
    away: bool,
    /// It is of no use to go on.
    over: bool,
    /// The last thing that went wrong.
    trouble: Option<ApiError>,
}

/// What is settled.
#[derive(Default)]
struct Tally {
    arrived: u64,
    bytes: u64,
}

impl Sending {
    async fn run(self, receiver: Receiver, paths: Vec<PathBuf>, told: oneshot::Sender<Result<(), ApiError>>) {
        let looked = self.unless_over(self.look(receiver, paths)).await;
        let (way, found) = match looked {
            Ok(looked) => {
                let _ = told.send(Ok(()));
                looked
            }
            Err(error) => {
                if let Err(Err(error)) = told.send(Err(error)) {
                    self.fail(error);
                }
                return;
            }
        };
        match Box::pin(self.send(way, found)).await {
            Ok(()) => self.engine.book.end(&self.id, TransferState::Done, None),
            Err(error) => self.fail(error),
        }
    }

    fn fail(&self, error: ApiError) {
        let state = if error.code == Code::Rejected { TransferState::Rejected } else { TransferState::Failed };
        self.engine.book.end(&self.id, state, Some(error));
    }

    /// Lets go of `work` when the transfer is called off or the daemon stops.
    async fn unless_over<T>(&self, work: impl Future<Output = Result<T, ApiError>>) -> Result<T, ApiError> {
        tokio::select! {
            biased;
            () = self.called_off.cancelled() => Err(ApiError::new(Code::WrongState, "this transfer was called off")),
            () = self.engine.tasks.stopping().cancelled() => {
                Err(ApiError::new(Code::ShuttingDown, "the daemon is stopping").hint("send it again"))
            }
            outcome = work => outcome,
        }
    }

    /// Finds out where the receiver is, and what there is to send.
    async fn look(&self, receiver: Receiver, paths: Vec<PathBuf>) -> Result<(Way, Found), ApiError> {
        let way = match receiver {
            Receiver::Typed { target, pin, certificate_hash } => {
                Way { addresses: self.resolve(&target).await?, pin, certificate_hash, versions: Vec::new() }
            }
            Receiver::Scanned(qr) => Way {
                addresses: qr.addresses.iter().map(|ip| at(*ip, qr.port)).collect(),
                pin: qr.pin,
                certificate_hash: Some(qr.certificate_hash),
                versions: match qr.protocol_version {
                    None | Some(0 | 1) => vec![Version::V1, Version::V2],
                    Some(_) => vec![Version::V2, Version::V1],
                },
            },
        };
        let reader = self.reader.clone();
        let (gone, _guard) = guarded();
        let found = self.engine.tasks.blocking(move || offer::walk(&reader, &paths, &gone)).await?;
        self.engine.book.change(&self.id, |view| {
            view.entries = found.files.len() as u64;
            view.bytes = Some(found.files.iter().map(|file| file.size).sum());
            view.preview = offer::preview(&found.files, SHOWN);
        });
        Ok((way, found))
    }

    async fn resolve(&self, target: &str) -> Result<Vec<SocketAddr>, ApiError> {
        match self.engine.dial.resolve(target, None).await {
            // Either the port is missing, or more.
            Err(dial::Error::Address(..)) => {
                let [first, second] = PORTS;
                let addresses = self.engine.dial.resolve(target, Some(first)).await?;
                let other = addresses.iter().map(|address| at(address.ip(), second)).collect::<Vec<_>>();
                Ok([addresses, other].concat())
            }
            found => Ok(found?),
        }
    }

    async fn send(&self, way: Way, found: Found) -> Result<(), ApiError> {
        let start = async {
            let offered = self.hash(found).await?;
            self.engine.book.change(&self.id, |view| view.state = TransferState::Offered);
            Ok((self.arrive(way).await?, offered))
        };
        let (mut session, offered) = self.unless_over(Box::pin(start)).await?;
        let version = session.version().number();
        self.engine.book.change(&self.id, |view| view.peer.protocol = Some(version));
        tracing::info!(id = self.id, version, "sending to a guest");
        let outcome = self.unless_over(self.deliver(&mut session, &offered)).await;
        if !self.engine.tasks.stopping().is_cancelled() {
            session.close().await;
        }
        outcome
    }

    async fn hash(&self, found: Found) -> Result<Vec<Offered>, ApiError> {
        let reader = self.reader.clone();
        let (gone, _guard) = guarded();
        let (offered, problems) = self.engine.tasks.blocking(move || offer::hash(&reader, found, &gone)).await;
        self.engine.book.change(&self.id, |view| {
            view.entries = offered.len() as u64;
            view.bytes = Some(offered.iter().map(|it| it.stat.size).sum());
            for problem in &problems {
                book::add_problem(view, &problem.path, &problem.reason);
            }
        });
        match problems.first() {
            Some(first) if offered.is_empty() => Err(nothing(&first.path, &first.reason)),
            _ => Ok(offered),
        }
    }

    /// From addresses to a session: nothing secret is sent before it is sure who answers.
    async fn arrive(&self, way: Way) -> Result<Session, ApiError> {
        let Way { addresses, pin, certificate_hash, mut versions } = way;
        let mut door = Door::new(self.engine.dial.clone(), addresses, certificate_hash)?;
        let mut connection = door.connect().await?;
        door.settle(&connection)?;
        let (remote, hash) = (connection.remote, connection.hash);
        self.engine.book.change(&self.id, |view| {
            view.peer.name = remote.to_string();
            view.peer.address = Some(remote.to_string());
        });
        if versions.is_empty() {
            let ping = session::ping(&door, connection);
            let version = match certificate_hash {
                Some(_) => ping.await?,
                None => tokio::try_join!(self.compare(remote, hash), ping)?.1,
            };
            versions.push(version);
            connection = door.connect().await?;
        }
        if versions.contains(&Version::V2) {
            let own = door.own_hash().to_string();
            self.engine.book.change(&self.id, |view| view.certificate_hash = Some(own));
        }
        session::register(door, connection, &versions, &pin).await
    }

    /// Lets somebody here compare the hash of whoever answers.
    async fn compare(&self, remote: SocketAddr, hash: CertificateHash) -> Result<(), ApiError> {
        let asked = Instant::now();
        let ask = Ask {
            kind: QuestionKind::Confirm,
            address: remote.to_string(),
            certificate_hash: Some(hash),
            transfer: Some(self.id.clone()),
            patience: session::WELCOME,
        };
        match self.engine.questions.ask(ask).await {
            Some(true) => Ok(()),
            Some(false) if asked.elapsed() >= session::WELCOME => {
                Err(ApiError::new(Code::TimedOut, "nobody here compared the certificate hashes in time"))
            }
            Some(false) => Err(ApiError::new(Code::WrongKey, "the receiver shows another certificate hash")
                .hint("somebody may be in between: look at the network and at the address before trying again")),
            None => Err(ApiError::new(Code::Busy, "this receiver is being asked about already")
                .hint("answer or call off what waits first")),
        }
    }

    /// Offers and uploads, round by round, until everything arrived or nothing gets on.
    async fn deliver(&self, session: &mut Session, offered: &[Offered]) -> Result<(), ApiError> {
        let mut left: Vec<&Offered> = offered.iter().collect();
        let mut tally = Tally::default();
        let mut trouble = None;
        for _ in 0..ROUNDS {
            let round = Box::pin(self.round(session, left, &mut tally)).await;
            trouble = round.trouble.or(trouble);
            left = round.left;
            if left.is_empty() || round.over || !(round.moved || round.broken) {
                break;
            }
        }
        let all = left.is_empty();
        if tally.arrived > 0 {
            for it in left {
                self.settle(it, Some("not_sent"), &mut tally);
            }
        }
        match trouble {
            Some(error) if !all || tally.arrived == 0 => Err(error),
            _ => Ok(()),
        }
    }

    async fn round<'a>(&self, session: &mut Session, left: Vec<&'a Offered>, tally: &mut Tally) -> Round<'a> {
        let files: Vec<_> = left.iter().map(|it| it.file.clone()).collect();
        let mut granted: HashMap<String, String> = match session.prepare(&self.title, &files).await {
            Ok(accepted) => accepted.files.into_iter().map(|it| (it.id, it.transmission_id)).collect(),
            Err(Trouble::Broken(error)) => {
                return Round { left, broken: true, trouble: Some(error), ..Round::default() };
            }
            Err(Trouble::Final(error)) => return Round { left, over: true, trouble: Some(error), ..Round::default() },
        };
        let mut round = Round::default();
        for it in left {
            let Some(transmission) = granted.remove(&it.file.id) else {
                round.trouble = Some(ApiError::new(Code::Rejected, "the receiver wants none of these files"));
                self.settle(it, Some("rejected"), tally);
                continue;
            };
            if round.over || round.away {
                round.left.push(it);
                continue;
            }
            self.activate();
            let outcome =
                session.upload(&self.engine.tasks, &self.reader, it, &transmission, self.progress(tally.bytes)).await;
            match outcome {
                Outcome::Arrived => {
                    round.moved = true;
                    tally.arrived += 1;
                    self.settle(it, None, tally);
                }
                Outcome::Lost(reason) => {
                    round.trouble = Some(nothing(&it.path, reason));
                    self.settle(it, Some(reason), tally);
                }
                Outcome::Refused(reason, error) => {
                    round.trouble = Some(error);
                    self.settle(it, Some(reason), tally);
                }
                Outcome::Failed(error) => {
                    round.left.push(it);
                    round.trouble = Some(error);
                }
                Outcome::Broken(error) => {
                    round.left.push(it);
                    round.trouble = Some(error);
                    round.broken = true;
                }
                Outcome::Unreached(error) => {
                    round.left.push(it);
                    round.trouble = Some(error);
                    (round.broken, round.away) = (true, true);
                }
                Outcome::Over(error) => {
                    round.left.push(it);
                    round.trouble = Some(error);
                    round.over = true;
                }
            }
            self.engine.book.progress(&self.id, |view| view.bytes_done = tally.bytes);
        }
        round
    }

    fn activate(&self) {
        if self.engine.book.view(&self.id).is_some_and(|view| view.state == TransferState::Offered) {
            self.engine.book.change(&self.id, |view| view.state = TransferState::Active);
        }
    }

    /// Notes how far an upload is that began after `before` bytes.
    fn progress(&self, before: u64) -> impl Fn(u64) + Clone + Send + 'static {
        let (engine, id) = (self.engine.clone(), self.id.clone());
        move |sent| engine.book.progress(&id, |view| view.bytes_done = before + sent)
    }

    /// Notes that a file need not be thought of any more, and the problem with it.
    fn settle(&self, it: &Offered, problem: Option<&str>, tally: &mut Tally) {
        tally.bytes += it.stat.size;
        self.engine.book.progress(&self.id, |view| {
            view.entries_done += 1;
            view.bytes_done = tally.bytes;
            if let Some(reason) = problem {
                book::add_problem(view, &it.path, reason);
            }
        });
    }
}

/// A token that is cancelled when the guard is dropped: work on another thread ends with whoever waits for it.
fn guarded() -> (CancellationToken, tokio_util::sync::DropGuard) {
    let gone = CancellationToken::new();
    (gone.clone(), gone.drop_guard())
}

fn at(ip: std::net::IpAddr, port: u16) -> SocketAddr {
    SocketAddr::new(ip, port)
}

fn nothing(path: &str, reason: &str) -> ApiError {
    ApiError::new(Code::FileNotFound, format!("nothing to send: {} ({reason})", text::printable(path)))
}

/// What to call files, when nobody says: never blank, some apps refuse that.
fn title_of(paths: &[PathBuf]) -> String {
    let name = |path: &PathBuf| path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned();
    let first = paths.first().map(name).filter(|name| !name.trim().is_empty()).unwrap_or_else(|| "Files".to_owned());
    match paths.len() {
        0 | 1 => first,
        n => format!("{first} and {} more", n - 1),
    }
}

#[cfg(test)]
#[path = "send_tests.rs"]
mod tests;
