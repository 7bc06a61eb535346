//! A session over a connection: frames go through the pure machine, each in a transaction, and out after its commit.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use kith_proto::control::{ApiError, Code};
use kith_proto::id::PublicKey;
use kith_proto::limits;
use kith_proto::peer::journal::session::{Fault, Report, Session};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::Engine;
use super::book::{Book, Circle};
use crate::clock;
use crate::store;
use crate::tls::channel::{Reader, Writer, within};
use crate::tls::{Channel, ChannelError};

/// How long the other side may be silent.
const SILENCE: Duration = Duration::from_secs(limits::SYNC_SILENCE_SECONDS);
/// Frames that wait to be taken: all that the other side may have under way, and a few words.
const FRAMES: usize = 2 * limits::SYNC_WINDOW;

/// A session that has brought so many rows may bring many more.
const MANY: u64 = 10_000;

/// Why a session ended early.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The connection.
    #[error(transparent)]
    Channel(#[from] ChannelError),
    /// The database.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// The machine.
    #[error(transparent)]
    Fault(#[from] Fault<Infallible>),
    /// Another session with the same device took its place, the daemon stops, or the trust ended.
    #[error("called off")]
    CalledOff,
}

impl From<Error> for ApiError {
    fn from(error: Error) -> Self {
        match error {
            Error::Store(error) => error.into(),
            Error::Channel(ChannelError::NotTrusted) => {
                Self::new(Code::NotTrusted, "that device does not trust this one (any more)")
                    .hint("pair the two devices again")
            }
            Error::Channel(error @ (ChannelError::TooLarge { .. } | ChannelError::Malformed(_))) => {
                Self::new(Code::Protocol, error.to_string())
            }
            Error::Channel(error) => Self::new(Code::PeerOffline, error.to_string()),
            Error::Fault(fault @ Fault::Version(_)) => Self::new(Code::ProtocolVersion, fault.to_string())
                .hint("run the same version of kithd on both devices"),
            Error::Fault(fault @ Fault::RolledBack) => {
                Self::new(Code::Busy, fault.to_string()).hint("nothing is to be done: it is tried again")
            }
            Error::Fault(fault) => Self::new(Code::Protocol, fault.to_string()),
            Error::CalledOff => Self::new(Code::NotPaired, "this device was revoked"),
        }
    }
}

/// What a session did, however it ended.
#[derive(Debug, Default)]
pub struct Tally {
    /// What the machine says.
    pub report: Report,
    /// Bytes of frames, both ways.
    pub bytes: u64,
}

/// Runs one end of a session until both are done, or it is to stop. `met` is called when the other side has answered.
pub async fn run(
    engine: &Arc<Engine>,
    circle: Arc<Circle>,
    channel: &mut Channel,
    leads: bool,
    stop: &CancellationToken,
    met: impl FnOnce() + Send,
) -> (Tally, Result<(), Error>) {
    let peer = channel.peer;
    let mut talk = Talk { engine, circle, peer, tally: Tally::default(), written: 0, bulk: false };
    let session = Session::new(engine.identity.public(), channel.peer, leads);
    let (frames, mut queue) = mpsc::channel(FRAMES);
    let (reader, writer) = (&mut channel.reader, &mut channel.writer);
    // Whoever only wrote, and read when it has nothing to write, would wait for the other side for ever.
    let result = tokio::select! {
        biased;
        () = stop.cancelled() => Err(Error::CalledOff),
        result = talk.run(session, writer, &mut queue, met) => result,
        never = read(reader, &frames) => match never {},
    };
    talk.tally.bytes += talk.written;
    if talk.bulk {
        talk.room(false).await;
    }
    (talk.tally, result)
}

async fn read(reader: &mut Reader, frames: &mpsc::Sender<Result<Vec<u8>, ChannelError>>) -> Infallible {
    loop {
        let frame = reader.frame(limits::FRAME_SYNC).await;
        let last = frame.is_err();
        if frames.send(frame).await.is_err() || last {
            std::future::pending::<()>().await;
        }
    }
}

struct Talk<'a> {
    engine: &'a Arc<Engine>,
    circle: Arc<Circle>,
    peer: PublicKey,
    tally: Tally,
    written: u64,
    /// Whether the database was told that many rows come.
    bulk: bool,
}

/// What the machine is to do next.
enum Step {
    Begin,
    Receive(Vec<u8>),
    Transmit,
}

impl Talk<'_> {
    async fn run(
        &mut self,
        session: Session,
        writer: &mut Writer,
        queue: &mut mpsc::Receiver<Result<Vec<u8>, ChannelError>>,
        met: impl FnOnce() + Send,
    ) -> Result<(), Error> {
        let mut met = Some(met);
        let mut session = self.step(session, Step::Begin, writer).await?;
        loop {
            while session.is_ready() {
                session = self.step(session, Step::Transmit, writer).await?;
            }
            if session.is_over() {
                return if session.report().rolled_back { Err(Fault::RolledBack.into()) } else { Ok(()) };
            }
            let frame = within(SILENCE, async { queue.recv().await.unwrap_or(Err(ChannelError::Closed)) }).await?;
            self.tally.bytes += 4 + frame.len() as u64;
            session = self.step(session, Step::Receive(frame), writer).await?;
            if session.is_met()
                && let Some(met) = met.take()
            {
                met();
            }
        }
    }

    /// One transaction of the machine, and what it has to say after that.
    async fn step(&mut self, mut session: Session, step: Step, writer: &mut Writer) -> Result<Session, Error> {
        let circle = self.circle.clone();
        let work = move |tx: &rusqlite::Transaction<'_>| {
            let (mut book, now_ms) = (Book::new(tx, &circle)?, now_ms());
            let mut frames = Vec::new();
            let result = match step {
                Step::Begin => session.begin(&mut book, now_ms),
                Step::Receive(frame) => session.receive(&frame, &mut book, now_ms),
                Step::Transmit => (|| {
                    while frames.len() < limits::SYNC_WINDOW
                        && let Some(frame) = session.transmit(&mut book, now_ms)?
                    {
                        frames.push(frame);
                    }
                    Ok(())
                })(),
            };
            let result = match result {
                // The transaction ends with an error: nothing of this step happened.
                Err(Fault::Store(error)) => return Err(error),
                Err(Fault::Version(version)) => Err(Fault::Version(version)),
                Err(Fault::Protocol(what)) => Err(Fault::Protocol(what)),
                Err(Fault::Failed(why)) => Err(Fault::Failed(why)),
                Err(Fault::RolledBack) => Err(Fault::RolledBack),
                Ok(()) => Ok(()),
            };
            Ok((session, frames, result))
        };
        let (mut session, mut frames, result) = self.engine.store.write(work).await?;
        self.engine.tell(&self.peer, session.report()).await;
        self.tally.report = session.report().clone();
        if self.tally.report.received > MANY && !self.bulk {
            self.room(true).await;
        }
        if result.is_err() {
            frames.extend(session.last_words());
        }
        for frame in frames {
            within(SILENCE, writer.send_frame(&frame)).await?;
            self.written += 4 + frame.len() as u64;
        }
        result?;
        Ok(session)
    }

    /// Tells the database whether many rows come.
    async fn room(&mut self, begins: bool) {
        self.bulk = begins;
        if let Err(error) = self.engine.store.bulk(begins).await {
            tracing::warn!(%error, "the database does not make room for many rows, or keeps it");
        }
    }
}

/// The wall clock, as stamps need it.
pub fn now_ms() -> u64 {
    u64::try_from(clock::now_ms()).unwrap_or_default()
}
