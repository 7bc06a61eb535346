//! What people are asked about devices that are not paired. Who does not answer in time has said no.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use kith_proto::control::event::Fact;
use kith_proto::control::types::{Question, QuestionKind, QuestionState};
use kith_proto::control::{ApiError, Code};
use kith_proto::guest::CertificateHash;
use kith_proto::limits;
use tokio::sync::oneshot;

use crate::clock;
use crate::event::Events;

/// The questions that wait for an answer.
#[derive(Clone)]
pub struct Questions(Arc<Inner>);

struct Inner {
    events: Events,
    open: Mutex<Vec<Open>>,
}

struct Open {
    view: Question,
    answer: oneshot::Sender<bool>,
}

/// What to ask.
pub struct Ask {
    /// What about.
    pub kind: QuestionKind,
    /// Where the guest is.
    pub address: String,
    /// What is to be compared.
    pub certificate_hash: Option<CertificateHash>,
    /// The transfer that waits for the answer.
    pub transfer: Option<String>,
    /// How long it may take.
    pub patience: Duration,
}

impl Questions {
    /// None yet.
    pub fn new(events: Events) -> Self {
        Self(Arc::new(Inner { events, open: Mutex::default() }))
    }

    /// Those that wait for an answer.
    pub fn list(&self) -> Vec<Question> {
        self.0.lock().iter().map(|open| open.view.clone()).collect()
    }

    /// Asks, and waits for the answer. The question is withdrawn when nobody waits for the answer any more. `None` when
    /// too many want something compared already, or when there is a question of this kind about this address.
    pub async fn ask(&self, ask: Ask) -> Option<bool> {
        let Ask { kind, address, certificate_hash, transfer, patience } = ask;
        let (answer, answered) = oneshot::channel();
        let patience_ms = i64::try_from(patience.as_millis()).unwrap_or(i64::MAX);
        let view = Question {
            question: uuid::Uuid::new_v4().to_string(),
            kind,
            state: QuestionState::Open,
            address,
            certificate_hash: certificate_hash.map(|hash| hash.to_string()),
            transfer,
            expires: clock::rfc3339(clock::now_ms().saturating_add(patience_ms)),
        };
        {
            let mut open = self.0.lock();
            let twin = |other: &Open| other.view.kind == kind && other.view.address == view.address;
            // Anybody may want something compared; who is asked about otherwise knows the PIN, or was dialled.
            let compared = open.iter().filter(|other| other.view.kind == QuestionKind::Compare).count();
            let crowded = kind == QuestionKind::Compare && compared >= limits::GUEST_QUESTIONS;
            if crowded || open.iter().any(twin) {
                return None;
            }
            open.push(Open { view: view.clone(), answer });
        }
        let withdrawn = Withdrawn { questions: self, id: view.question.clone() };
        self.0.events.publish(&Fact::QuestionUpdated(view));
        let answer = tokio::time::timeout(patience, answered).await;
        drop(withdrawn);
        Some(matches!(answer, Ok(Ok(true))))
    }

    /// Answers a question.
    pub fn answer(&self, id: &str, accept: bool) -> Result<Question, ApiError> {
        let state = if accept { QuestionState::Yes } else { QuestionState::No };
        let gone = || {
            ApiError::new(Code::QuestionNotFound, "there is no such question, or it is answered already")
                .hint("the other device may have given up: let it try again")
        };
        let (view, answer) = self.0.take(id, state).ok_or_else(gone)?;
        answer.send(accept).map_err(|_| gone())?;
        Ok(view)
    }
}

impl Inner {
    fn lock(&self) -> MutexGuard<'_, Vec<Open>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a question away, and tells what became of it.
    fn take(&self, id: &str, state: QuestionState) -> Option<(Question, oneshot::Sender<bool>)> {
        let open = {
            let mut all = self.lock();
            let at = all.iter().position(|open| open.view.question == id)?;
            all.remove(at)
        };
        let view = Question { state, ..open.view };
        self.events.publish(&Fact::QuestionUpdated(view.clone()));
        Some((view, open.answer))
    }
}

/// Takes a question away that nobody waits for.
struct Withdrawn<'a> {
    questions: &'a Questions,
    id: String,
}

impl Drop for Withdrawn<'_> {
    fn drop(&mut self) {
        let _ = self.questions.0.take(&self.id, QuestionState::Gone);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(address: &str) -> Ask {
        Ask {
            kind: QuestionKind::Connect,
            address: address.to_owned(),
            certificate_hash: None,
            transfer: None,
            patience: Duration::from_secs(5),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn who_does_not_answer_in_time_has_said_no() {
        let questions = Questions::new(Events::default());
        assert_eq!(questions.ask(ask("a")).await, Some(false));
        assert!(questions.list().is_empty());
        let answer = async {
            let id = questions.list()[0].question.clone();
            assert_eq!(questions.answer(&id, true).unwrap().state, QuestionState::Yes);
            assert_eq!(questions.answer(&id, true).unwrap_err().code, Code::QuestionNotFound, "once");
        };
        let (said, ()) = tokio::join!(questions.ask(ask("a")), answer);
        assert_eq!(said, Some(true));
    }

    #[tokio::test(start_paused = true)]
    async fn c22_many_questions_of_one_leave_room_for_another() {
        let questions = Questions::new(Events::default());
        let (first, again, other) = tokio::join!(
            questions.ask(ask("a")),
            async { tokio::time::timeout(Duration::from_millis(1), questions.ask(ask("a"))).await },
            async { tokio::time::timeout(Duration::from_secs(1), questions.ask(ask("b"))).await },
        );
        assert_eq!((first, again.unwrap()), (Some(false), None));
        assert!(other.is_err(), "it was asked, and withdrawn when nobody waited any more");
        assert!(questions.list().is_empty());
    }
}
