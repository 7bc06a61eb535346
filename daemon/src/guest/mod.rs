//! Devices and people that are not paired: files come from them through the guest door, and go to theirs.
//!
//! ```text
//! window    when the guest door is open, with which PIN and certificate
//! desk      who was let in, and what may be uploaded: a pure state machine
//! receive   who comes in, and what is accepted
//! arrive    uploads: where files go, and how each gets there
//! write     its blocking half
//! send      the sender's side: from files to requests
//! offer     what is sent: walking and hashing
//! session   each step of the protocol, and what its refusals mean
//! upload    the content of a file on its way
//! client    one request to somebody else's guest door
//! question  what people are asked about guests
//! book      what is known of each transfer now
//! ```
//!
//! A guest is authorised for one session in one direction and trusted with nothing else; nothing of it outlives the
//! daemon but the files.

mod arrive;
mod book;
mod client;
mod desk;
mod offer;
mod question;
mod receive;
mod send;
mod session;
mod upload;
mod window;
mod write;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use kith_proto::control::method::{GuestOpenParams, GuestOpenResult};
use kith_proto::control::types::{Conflict, Direction, Question, Transfer, TransferState, Window};
use kith_proto::control::{ApiError, Code};
use kith_proto::guest::{CertificateHash, Qr};
use kith_proto::pin::Pin;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::config::Settings;
use crate::dial::Dial;
use crate::discovery::Discovery;
use crate::event::Events;
use crate::store::Store;
use crate::task::Tasks;
use arrive::Place;
use book::{Answer, Book};
use question::Questions;
use receive::How;
use window::Open;

pub use arrive::Arriving;
pub use desk::Visitor;
pub use window::Opening;

/// Whom to send to.
pub enum Receiver {
    /// Somebody typed it.
    Typed {
        /// `HOST[:PORT]`
        target: String,
        /// What is shown there.
        pin: Pin,
        /// What is shown there, where somebody brought it along; otherwise somebody is asked.
        certificate_hash: Option<CertificateHash>,
    },
    /// Somebody scanned it.
    Scanned(Qr),
}

/// What to send, to whom, and with whose rights.
pub struct SendRequest {
    /// Whom to.
    pub receiver: Receiver,
    /// Files and directories, by absolute path.
    pub paths: Vec<PathBuf>,
    /// What to call it.
    pub title: Option<String>,
    /// User and groups with whose rights files are read, where they are not the daemon's own.
    pub caller: Option<(u32, Vec<u32>)>,
}

/// Everything that guests are served with.
pub struct Parts {
    /// Directories, bounds, hook.
    pub settings: Settings,
    /// Where this device is.
    pub discovery: Discovery,
    /// The way out.
    pub dial: Dial,
    /// Where it is told.
    pub events: Events,
    /// Where wrong PINs are counted.
    pub store: Store,
    /// Who runs it.
    pub tasks: Tasks,
}

/// The guests of this device.
#[derive(Clone)]
pub struct Guests(Arc<Engine>);

struct Engine {
    settings: Settings,
    discovery: Discovery,
    dial: Dial,
    events: Events,
    store: Store,
    tasks: Tasks,
    book: Book,
    questions: Questions,
    /// To the door.
    openings: mpsc::Sender<Opening>,
    window: Mutex<Option<Open>>,
    /// Where the files of accepted offers go, by transfer.
    places: Mutex<HashMap<String, Place>>,
}

impl Guests {
    /// Nobody is there yet. What the guest door is to serve comes out of the receiver.
    pub fn start(parts: Parts) -> (Self, mpsc::Receiver<Opening>) {
        let Parts { settings, discovery, dial, events, store, tasks } = parts;
        let (openings, doors) = mpsc::channel(1);
        let (book, questions) = (Book::new(events.clone()), Questions::new(events.clone()));
        let (window, places) = Default::default();
        let guests = Self(Arc::new(Engine {
            settings,
            discovery,
            dial,
            events,
            store,
            tasks,
            book,
            questions,
            openings,
            window,
            places,
        }));
        let engine = guests.0.clone();
        guests.0.tasks.spawn("guests", async move {
            engine.sweep().await;
            if engine.settings.config.guest.always_open {
                window::stay_open(engine).await;
            }
        });
        (guests, doors)
    }

    /// Opens the guest door. It closes with `owner`, or after its time.
    pub async fn open(
        &self,
        params: GuestOpenParams,
        owner: Option<CancellationToken>,
    ) -> Result<GuestOpenResult, ApiError> {
        self.0.open(params, owner).await
    }

    /// The window that is open, with its PIN.
    pub fn show(&self) -> Result<GuestOpenResult, ApiError> {
        self.0.show()
    }

    /// Ends a window.
    pub fn close(&self, window: &str) -> Result<Window, ApiError> {
        self.0.close(window)
    }

    /// The receive window that is open.
    pub fn window(&self) -> Option<Window> {
        self.0.shown_window()
    }

    /// Questions that wait for an answer.
    pub fn questions(&self) -> Vec<Question> {
        self.0.questions.list()
    }

    /// Answers a question.
    pub fn answer(&self, question: &str, accept: bool) -> Result<Question, ApiError> {
        self.0.questions.answer(question, accept)
    }

    /// Starts sending.
    pub async fn send(&self, request: SendRequest) -> Result<Transfer, ApiError> {
        send::begin(&self.0, request).await
    }

    /// Every transfer that is remembered, newest first.
    pub fn all(&self) -> Vec<Transfer> {
        self.0.book.views(|_| true)
    }

    /// Transfers that are not over, newest first.
    pub fn unfinished(&self) -> Vec<Transfer> {
        self.0.book.views(|view| !view.state.is_final())
    }

    /// Offers that wait for an answer, newest first.
    pub fn inbox(&self) -> Vec<Transfer> {
        self.0.book.views(|view| view.direction == Direction::In && view.state == TransferState::Offered)
    }

    /// One transfer, by its id or a unique prefix; `None` if it is not with a guest.
    pub fn find(&self, wanted: &str) -> Result<Option<Transfer>, ApiError> {
        self.0.book.find(wanted)
    }

    /// Calls a transfer off.
    pub fn cancel(&self, id: &str) -> Result<Transfer, ApiError> {
        self.0.book.cancel(id)?;
        let session = self.0.with_window(|open| Ok(open.desk.end_transfer(id, Instant::now())));
        if let Ok(Some(session)) = session {
            self.0.conclude(session, How::Abandoned);
        }
        self.0.book.show(id)
    }

    /// Accepts an offer. `dir` and `on_conflict` go before the window's.
    pub fn accept(&self, id: &str, dir: Option<String>, on_conflict: Option<Conflict>) -> Result<Transfer, ApiError> {
        let dir = dir.map(PathBuf::from);
        if dir.as_ref().is_some_and(|dir| !dir.is_absolute()) {
            return Err(ApiError::new(Code::InvalidParam, "dir must be an absolute path"));
        }
        self.0.book.answer(id, Answer::Accept { dir, on_conflict })?;
        self.0.book.show(id)
    }

    /// Rejects an offer.
    pub fn reject(&self, id: &str) -> Result<Transfer, ApiError> {
        self.0.book.answer(id, Answer::Reject)?;
        self.0.book.show(id)
    }
}
