//! The sender's side of a short code: receivers announce themselves, and one of them knows the code.
//!
//! Announcements are anybody's word, so none is believed first: candidates are reached side by side, each pinned to the
//! certificate that it announced, and asked one after the other, since each that is asked has had a guess. What the
//! answer is worth, `kith_proto::peer::share` says.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use kith_proto::control::credential::ShareState;
use kith_proto::control::types::Failure as Reason;
use kith_proto::control::{ApiError, Code};
use kith_proto::credential::payload::Payload;
use kith_proto::limits;
use kith_proto::peer::Alpn;
use kith_proto::peer::share::message::{Message, Outcome};
use kith_proto::peer::share::{Confirmed, Failure, Sender, announcement, detail};
use kith_proto::short_code::ShortCode;
use tokio::sync::{Semaphore, mpsc};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::beacon::{Candidate, Candidates};
use super::{Ending, Engine, PATIENCE, REVIEW, called_off_there, millis, psi, random, stranger, within};
use crate::dial::{self, Dial};
use crate::tls::ChannelError;
use crate::tls::channel::within as in_time;
use crate::tls::share::Link;

/// How long announcements are gathered before the first candidate is tried: the right one may not be the first.
const GATHER: Duration = Duration::from_millis(1_500);
/// Candidates that are reached for at once.
const AT_ONCE: usize = 16;
const EXCHANGE: Duration = Duration::from_secs(limits::SHARE_EXCHANGE_SECONDS);
/// The receiver's time is over first: it says so.
const LAST_WORDS: Duration = Duration::from_secs(5);

/// The code, and who is asked at this moment.
struct Search {
    dial: Dial,
    guesses: Mutex<Guesses>,
    /// One candidate is asked at a time.
    turn: Semaphore,
}

struct Guesses {
    sender: Sender,
    /// The certificates of those that were asked: one that is reached in two ways is asked once.
    asked: Vec<[u8; 32]>,
}

/// What became of a candidate.
enum Tried {
    /// It knows the code.
    Found(Box<Link>, Confirmed),
    /// It was asked, and does not.
    Refused(Candidate),
    /// It was not reached, or not asked.
    Unreached(Candidate),
}

impl Engine {
    /// Finds the receiver that knows the code, hands over, and waits for what becomes of it.
    pub(super) async fn send_under_code(
        self: &Arc<Self>,
        id: &str,
        payload: Payload,
        code: ShortCode,
        cancel: &CancellationToken,
        owner: Option<CancellationToken>,
    ) -> Result<Ending, ApiError> {
        let hand_over = async {
            let (mut link, confirmed) = self.search(id, code).await?;
            let sealed = confirmed.payload(&payload.encode());
            in_time(EXCHANGE, link.writer.send_frame(&sealed)).await.map_err(broke)?;
            Ok(link)
        };
        let mut link = within(cancel, owner.clone(), PATIENCE, hand_over).await?;
        drop(payload);
        self.book.delivered(id, stranger(link.remote.ip()), millis(REVIEW));
        let answer = async { link.reader.frame(limits::FRAME_UNAUTHENTICATED).await.map_err(broke) };
        let answer = within(cancel, owner, REVIEW + LAST_WORDS, answer).await;
        link.close().await;
        let silent = |error: ApiError| match error.code {
            Code::TimedOut => ApiError::new(error.code, "the other side did not say in time what became of it")
                .hint("look on the other device whether it was saved"),
            _ => error,
        };
        match Message::decode(&answer.map_err(silent)?) {
            Ok(Message::Result(outcome)) => Ok(ending(outcome)),
            _ => Err(ApiError::new(Code::Protocol, "the other side did not say what became of it")),
        }
    }

    /// The same as the Photosphere app does it.
    pub(super) async fn send_as_app(&self, payload: &Payload, code: &ShortCode) -> Result<Ending, ApiError> {
        psi::send(payload, code, &self.beacon, &self.dial, Instant::now() + PATIENCE).await?;
        Ok(Ending { state: ShareState::Delivered, reason: None })
    }

    async fn search(self: &Arc<Self>, id: &str, code: ShortCode) -> Result<(Link, Confirmed), ApiError> {
        let mut ears = self.beacon.listen()?;
        let begin = Instant::now() + GATHER;
        let guesses = Guesses { sender: Sender::new(code), asked: Vec::new() };
        let search =
            Arc::new(Search { dial: self.dial.clone(), guesses: Mutex::new(guesses), turn: Semaphore::new(1) });
        // Whoever is still being tried when this ends is left alone.
        let over = CancellationToken::new();
        let _guard = over.clone().drop_guard();
        let (tell, mut results) = mpsc::channel(AT_ONCE);
        let (mut candidates, mut running) = (Candidates::default(), 0);
        // Not what is left to `sender`: it counts the one that is being asked at this moment, too.
        let mut left = limits::SHORT_CODE_ATTEMPTS;
        loop {
            while running < AT_ONCE
                && Instant::now() >= begin
                && let Some(candidate) = candidates.pick()
            {
                running += 1;
                let (search, tell, over) = (search.clone(), tell.clone(), over.clone());
                self.tasks.spawn("share candidate", async move {
                    if let Some(tried) = over.run_until_cancelled(search.attempt(candidate)).await {
                        let _ = tell.send(tried).await;
                    }
                });
            }
            tokio::select! {
                (heard, source) = ears.next() => {
                    if matches!(heard.protocol, announcement::Protocol::Kith { .. }) {
                        candidates.heard(heard, source);
                    }
                }
                () = tokio::time::sleep_until(begin), if Instant::now() < begin => {}
                Some(tried) = results.recv() => {
                    running -= 1;
                    match tried {
                        Tried::Found(link, confirmed) => return Ok((*link, confirmed)),
                        Tried::Unreached(candidate) => candidates.unreached(&candidate),
                        Tried::Refused(candidate) => {
                            candidates.refused(&candidate);
                            left = left.saturating_sub(1);
                            self.book.attempts(id, left);
                            if left == 0 {
                                return Err(burnt());
                            }
                        }
                    }
                }
            }
        }
    }
}

impl Search {
    async fn attempt(&self, candidate: Candidate) -> Tried {
        let mut asked = false;
        match self.exchange(&candidate, &mut asked).await {
            Ok((link, confirmed)) => Tried::Found(Box::new(link), confirmed),
            Err(error) => {
                tracing::debug!(address = %candidate.addresses[0], %error, "not the receiver that is meant");
                if asked { Tried::Refused(candidate) } else { Tried::Unreached(candidate) }
            }
        }
    }

    /// `asked`: whether it has had a guess.
    async fn exchange(&self, candidate: &Candidate, asked: &mut bool) -> Result<(Link, Confirmed), dial::Error> {
        let hash = candidate.announcement.certificate_hash;
        let mut link = self.dial.share(&candidate.addresses, hash).await?;
        let (awaiting, share1) = self.lock().sender.start(&link.binding, &random());
        let ask = async {
            link.writer.send_frame(&share1).await?;
            link.reader.frame(limits::FRAME_UNAUTHENTICATED).await
        };
        let share2 = in_time(EXCHANGE, ask).await.map_err(broken)?;
        let _turn = self.turn.acquire().await;
        let (awaiting, share3) = {
            let mut guesses = self.lock();
            if guesses.asked.contains(&hash) {
                return Err(dial::Error::Protocol("it was asked already".to_owned()));
            }
            let begun = awaiting.on_share2(&share2, &mut guesses.sender).map_err(malformed)?;
            guesses.asked.push(hash);
            *asked = true;
            begun
        };
        let confirm = async {
            link.writer.send_frame(&share3).await?;
            link.reader.frame(limits::FRAME_UNAUTHENTICATED).await
        };
        let share4 = in_time(EXCHANGE, confirm).await.map_err(broken)?;
        let confirmed = awaiting.on_share4(&share4).map_err(malformed)?;
        Ok((link, confirmed))
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Guesses> {
        self.guesses.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn malformed(failure: Failure) -> dial::Error {
    dial::Error::Protocol(failure.to_string())
}

fn broken(error: ChannelError) -> dial::Error {
    dial::Error::of(error, Alpn::Share)
}

fn broke(error: ChannelError) -> ApiError {
    ApiError::new(
        Code::PeerOffline,
        format!("the connection ended before the other side said what became of it: {error}"),
    )
    .hint("look on the other device whether it was saved")
}

pub(super) fn burnt() -> ApiError {
    let message = "the code was tried wrong too often and is burnt";
    ApiError::new(Code::TooManyAttempts, message).hint(
        "start again, with a new code; if it happens again, another device on this network interferes, or others hand \
         something over at the same time",
    )
}

/// What the other side says, in this side's words.
pub(super) fn ending(outcome: Outcome) -> Ending {
    let because = |state, code, message: &str, hint: Option<&str>| {
        let error = ApiError::new(code, message);
        let reason: Reason = match hint {
            Some(hint) => error.hint(hint),
            None => error,
        }
        .into();
        Ending { state, reason: Some(reason) }
    };
    let failed = |code, message: &str, hint| because(ShareState::Failed, code, message, hint);
    match outcome {
        Outcome::Saved => Ending { state: ShareState::Saved, reason: None },
        Outcome::Waiting => Ending { state: ShareState::Delivered, reason: None },
        Outcome::Declined => because(ShareState::Declined, Code::Rejected, "the other side does not want it", None),
        Outcome::Canceled => Ending { state: ShareState::Canceled, reason: Some(called_off_there().into()) },
        Outcome::Conflict => failed(
            Code::NameTaken,
            "a name is taken on the other side; nothing was saved",
            Some("there: --on-conflict or another name settles it, or send it under another one with --name"),
        ),
        Outcome::WrongKind => failed(
            Code::WrongKind,
            "the other side expects something else: a secret, or a database",
            Some("`secrets send` goes with `secrets receive`, `dbs send` with `dbs receive`"),
        ),
        Outcome::Invalid { detail: said } => {
            failed(Code::Rejected, &format!("the other side finds a fault in it: {}", detail(&said)), None)
        }
        Outcome::Locked => {
            failed(Code::Rejected, "the vault on the other side is locked", Some("unlock it there, then send again"))
        }
        Outcome::Full => failed(
            Code::Quota,
            "too much waits for a review on the other side",
            Some("look through its inbox there, then send again"),
        ),
        Outcome::Failed | Outcome::Unknown => failed(Code::Rejected, "the other side could not save it", None),
    }
}
