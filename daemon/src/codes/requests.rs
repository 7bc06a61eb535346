//! Devices that somebody has to say yes to.

use kith_proto::control::code::{JoinRequest, RequestAnswerParams, RequestState};
use kith_proto::control::{ApiError, Code as ErrorCode};
use kith_proto::peer::join::Reason;
use kith_proto::text;

use super::accept::{Ground, Verdict};
use super::book::{Book, Request};
use super::{Codes, view};
use crate::clock;

impl Codes {
    /// Those that wait, the oldest first.
    pub async fn requests(&self) -> Result<Vec<JoinRequest>, ApiError> {
        let (now_ms, trust) = (clock::now_ms(), self.0.trust.snapshot());
        let waiting = self.0.store.read(move |connection| Book(connection).waiting(now_ms)).await?;
        Ok(waiting.iter().map(|(request, code)| view::request(&trust, request, code, now_ms)).collect())
    }

    /// How many these are.
    pub async fn waiting(&self) -> Result<usize, ApiError> {
        let now_ms = clock::now_ms();
        Ok(self.0.store.read(move |connection| Book(connection).waiting_count(now_ms)).await?)
    }

    /// Lets one in, or turns it down for good.
    pub async fn answer(&self, params: RequestAnswerParams) -> Result<JoinRequest, ApiError> {
        let RequestAnswerParams { request: wanted, accept } = params;
        let engine = &self.0;
        let (now_ms, sync) = (clock::now_ms(), engine.sync.clone());
        let answered = engine
            .trust
            .write(move |tx, changes| {
                let book = Book(tx);
                let request = match find(&book, &wanted)? {
                    Ok(request) => request,
                    Err(error) => return Ok(Err(error)),
                };
                let Some(code) = book.code(request.code)? else { return Ok(Err(gone())) };
                if request.state != RequestState::Waiting {
                    let how = if request.state == RequestState::Accepted { "accepted" } else { "turned down" };
                    let message = format!("this request was {how} already");
                    return Ok(Err(ApiError::new(ErrorCode::WrongState, message)));
                }
                if !accept {
                    book.answer(&request.id, RequestState::Denied, now_ms)?;
                    return Ok(Ok((request, None)));
                }
                if code.is_lapsed(now_ms) {
                    let error = ApiError::new(ErrorCode::CodeExpired, "this request waited too long and has lapsed");
                    return Ok(Err(error.hint("issue a new code")));
                }
                let verdict = Ground { tx, changes, sync: &sync, now_ms }.approve(&code, &request)?;
                Ok(if verdict.result.reason.is_in() { Ok((request, Some(verdict))) } else { Err(refused(&verdict)) })
            })
            .await?;
        let (request, verdict) = answered?;
        engine.teller.request(request.id.clone());
        engine.teller.code(request.code);
        if let Some(verdict) = verdict {
            engine.publisher.wake();
            if verdict.result.reason == Reason::Ok {
                let journal = verdict.result.introduction.map(|introduction| introduction.resource.id());
                if let Some(journal) = journal {
                    engine.sync.members_joined(&journal, &[request.device]);
                }
            }
        }
        let (now_ms, trust) = (clock::now_ms(), engine.trust.snapshot());
        let shown = engine.store.read(move |connection| Book(connection).request(&request.id)).await?;
        shown.map(|(request, code)| view::request(&trust, &request, &code, now_ms)).ok_or_else(gone)
    }
}

fn gone() -> ApiError {
    ApiError::new(ErrorCode::RequestNotFound, "there is no such request").hint("kithctl inbox lists them")
}

fn find(book: &Book<'_>, wanted: &str) -> rusqlite::Result<Result<Request, ApiError>> {
    let mut found = book.requests_like(wanted)?;
    Ok(match (wanted.is_empty(), found.len()) {
        (false, 1) => Ok(found.remove(0)),
        (false, 2..) => {
            let message = format!("more than one request begins with {}", text::printable(wanted));
            Err(ApiError::new(ErrorCode::InvalidParam, message).hint("type more of its id"))
        }
        _ => Err(gone()),
    })
}

/// Why somebody who says yes is not obeyed.
fn refused(verdict: &Verdict) -> ApiError {
    let (code, message, hint) = match verdict.result.reason {
        Reason::Revoked => (ErrorCode::CodeRevoked, "its code was revoked", "issue a new code"),
        Reason::UsedUp => (ErrorCode::CodeUsedUp, "its code was used as often as it may be", "issue a new code"),
        Reason::Denied => {
            (ErrorCode::NotTrusted, "the trust in this device was revoked after the code was made", "issue a new code")
        }
        Reason::ResourceGone => {
            (ErrorCode::ResourceGone, "what the code is for is not there any more, or not this device's to share", "")
        }
        Reason::Busy => (ErrorCode::TooLarge, "it has too many members", "remove some, then answer again"),
        _ => (ErrorCode::WrongState, "it takes nobody in at the moment", "answer again later"),
    };
    let error = ApiError::new(code, message);
    if hint.is_empty() { error } else { error.hint(hint) }
}
