//! Uploads: where the files of accepted offers go, and how each arrives there.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::Instant;

use kith_proto::control::types::{Conflict, TransferState};
use kith_proto::guest::{Refusal, Upload, Version};
use tokio::sync::{mpsc, oneshot};

use super::book::{self, SHOWN};
use super::desk::{Slip, Visitor};
use super::receive::{How, broken};
use super::write::{self, Piece};
use super::{Engine, Guests};
use crate::files::{self, Placed, Tree};

/// Bytes that are hashed and written at once: hyper hands over what is in one TLS record, and to wake the writer for each
/// costs more than to gather them.
const PIECE: usize = 256 << 10;
/// Pieces of an upload that are in memory: one is gathered, the others wait for the disk.
const PIECES: usize = 4;

/// Where the files of an offer go.
#[derive(Clone)]
pub struct Place {
    tree: Arc<Tree>,
    conflict: Conflict,
    /// How the tags of its parts begin.
    tag: String,
}

impl Guests {
    /// A guest begins to upload a file of `length` bytes, where it says so.
    pub fn upload(
        &self,
        version: Version,
        visitor: Visitor,
        request: &Upload,
        length: Option<u64>,
    ) -> Result<Arriving, Refusal> {
        let slip =
            self.0.with_window(|open| open.desk.begin_upload(version, visitor, request, length, Instant::now()))?;
        let place = self.0.places().get(&slip.transfer).cloned();
        let (pieces, queue) = mpsc::channel(PIECES + 1);
        let (returned, spare) = mpsc::channel(PIECES);
        for _ in 1..PIECES {
            let _ = returned.try_send(Vec::new());
        }
        let mut arriving = Arriving {
            engine: self.0.clone(),
            slip,
            pieces,
            spare,
            gathered: Vec::new(),
            outcome: None,
            received: 0,
            arrived: false,
        };
        let Place { tree, conflict, tag } = place.ok_or(Refusal::NoTransmission)?;
        let slip = &arriving.slip;
        let tag = format!("{tag}-{}", uuid::Uuid::new_v4().simple());
        let upload =
            write::Upload { tree, name: slip.name.clone(), tag, size: slip.size, sha256: slip.sha256, conflict };
        let queue = write::Queue { pieces: queue, spare: returned };
        let runtime = tokio::runtime::Handle::current();
        arriving.outcome = Some(Box::pin(self.0.tasks.blocking(move || write::run(&upload, queue, &runtime))));
        Ok(arriving)
    }
}

impl Engine {
    /// Makes sure that `bytes` can be received to `dir`, and notes where parts will lie, for the case of a kill.
    pub(super) async fn receive_to(
        &self,
        id: &str,
        dir: PathBuf,
        conflict: Conflict,
        bytes: u64,
    ) -> Result<(), Refusal> {
        let opened = {
            let dir = dir.clone();
            self.tasks.blocking(move || Tree::open_with_room(&dir, bytes)).await
        };
        let tree = match opened {
            Ok(tree) => Arc::new(tree),
            Err(error) => {
                let refusal = refusal(&error);
                self.book.end(id, TransferState::Failed, Some(error.into()));
                return Err(refusal);
            }
        };
        let tag = format!("guest-{:016x}", uuid::Uuid::new_v4().as_u64_pair().0);
        let row = (dir.to_string_lossy().into_owned(), tag.clone());
        let noted = self.store.write(move |tx| {
            tx.execute("INSERT INTO guest_offer (dir, tag) VALUES (?1, ?2)", [&row.0, &row.1])?;
            Ok(())
        });
        noted.await.map_err(broken)?;
        self.book.change(id, |view| {
            view.state = TransferState::Active;
            view.dir = Some(dir.to_string_lossy().into_owned());
            view.expires = None;
        });
        self.places().insert(id.to_owned(), Place { tree, conflict, tag });
        Ok(())
    }

    fn places(&self) -> MutexGuard<'_, HashMap<String, Place>> {
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn forget_place(&self, transfer: &str) {
        let Some(place) = self.places().remove(transfer) else { return };
        let store = self.store.clone();
        self.tasks.spawn("guest offer", async move {
            let forgotten = store.write(move |tx| {
                tx.execute("DELETE FROM guest_offer WHERE tag = ?1", [&place.tag])?;
                Ok(())
            });
            if let Err(error) = forgotten.await {
                tracing::error!(%error, "cannot forget an offer");
            }
        });
    }

    /// Removes the parts of uploads that a kill broke off.
    pub(super) async fn sweep(&self) {
        let left = self.store.write(|tx| {
            let mut rows = tx.prepare("DELETE FROM guest_offer RETURNING dir, tag")?;
            rows.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?
                .collect::<rusqlite::Result<Vec<(String, String)>>>()
        });
        for (dir, tag) in left.await.unwrap_or_default() {
            let swept = self.tasks.blocking(move || files::sweep_parts(Path::new(&dir), &tag)).await;
            if let Err(error) = swept {
                tracing::warn!(%error, "cannot remove what an upload left behind");
            }
        }
    }
}

/// A file that is arriving. Dropped before [`Arriving::finish`], it leaves nothing behind, and may be uploaded again.
pub struct Arriving {
    engine: Arc<Engine>,
    slip: Slip,
    pieces: mpsc::Sender<Piece>,
    /// Memory for the next pieces.
    spare: mpsc::Receiver<Vec<u8>>,
    gathered: Vec<u8>,
    outcome: Option<Outcome>,
    received: u64,
    arrived: bool,
}

type Outcome = Pin<Box<dyn Future<Output = Result<Placed, write::Error>> + Send>>;

impl Arriving {
    /// The next bytes.
    pub async fn content(&mut self, content: &[u8]) -> Result<(), Refusal> {
        let length = content.len() as u64;
        if self.received + length > self.slip.size {
            return Err(Refusal::TooLarge);
        }
        if self.slip.over.is_cancelled() {
            return Err(Refusal::NoSession);
        }
        let mut rest = content;
        while !rest.is_empty() {
            let (fits, more) = rest.split_at(rest.len().min(PIECE - self.gathered.len()));
            self.gathered.extend_from_slice(fits);
            rest = more;
            if self.gathered.len() == PIECE {
                self.hand_over().await?;
            }
        }
        self.received += length;
        self.engine.book.progress(&self.slip.transfer, |view| view.bytes_done += length);
        Ok(())
    }

    /// That was all: checks, and gives the file its name. A guest that has gone meanwhile will ask for it again, and is
    /// told then that it arrived.
    pub async fn finish(self) -> Result<(), Refusal> {
        if self.received < self.slip.size {
            return Err(Refusal::Short);
        }
        let (done, outcome) = oneshot::channel();
        let tasks = self.engine.tasks.clone();
        tasks.spawn("guest file", async move {
            let _ = done.send(self.place().await);
        });
        outcome.await.unwrap_or(Err(Refusal::Broken))
    }

    async fn place(mut self) -> Result<(), Refusal> {
        self.hand_over().await?;
        let _ = self.pieces.send(Piece::End).await;
        let placed = self.outcome().await?;
        self.arrived = true;
        self.engine.book.change(&self.slip.transfer, |view| {
            view.entries_done += 1;
            match &placed {
                Placed::As(path) if view.placed.len() < SHOWN => view.placed.push(path.to_string()),
                Placed::As(_) => {}
                Placed::Kept => book::add_problem(view, self.slip.name.as_str(), "exists"),
            }
        });
        let ended = self.engine.with_window(|open| Ok(open.desk.end_upload(&self.slip, true, Instant::now())));
        if let Ok(Some(session)) = ended {
            self.engine.conclude(session, How::Left);
        }
        Ok(())
    }

    async fn hand_over(&mut self) -> Result<(), Refusal> {
        let piece = Piece::Content(std::mem::take(&mut self.gathered));
        let handed = async {
            self.pieces.send(piece).await.ok()?;
            self.spare.recv().await
        };
        let spare = tokio::select! {
            () = self.slip.over.cancelled() => return Err(Refusal::NoSession),
            spare = handed => spare,
        };
        match spare {
            Some(spare) => {
                self.gathered = spare;
                Ok(())
            }
            // The writer has given up; it says why.
            None => self.outcome().await.map(|_| ()).and(Err(Refusal::Broken)),
        }
    }

    async fn outcome(&mut self) -> Result<Placed, Refusal> {
        let outcome = self.outcome.take().ok_or(Refusal::Broken)?.await;
        outcome.map_err(|error| {
            tracing::warn!(%error, "a guest's file was not received");
            match &error {
                write::Error::Files(error) => refusal(error),
                write::Error::Integrity => Refusal::Integrity,
                write::Error::Gone => Refusal::Broken,
            }
        })
    }
}

impl Drop for Arriving {
    fn drop(&mut self) {
        if self.arrived {
            return;
        }
        let _ = self.engine.with_window(|open| Ok(open.desk.end_upload(&self.slip, false, Instant::now())));
        let received = self.received;
        self.engine.book.progress(&self.slip.transfer, |view| view.bytes_done -= received);
    }
}

/// What a failure of the files is to a guest, who learns nothing of directories here.
fn refusal(error: &files::Error) -> Refusal {
    match error.reason() {
        "no_space" | "quota" => Refusal::NoSpace,
        _ => Refusal::Broken,
    }
}
