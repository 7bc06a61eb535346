//! A file on its way to a guest: a thread reads it piece by piece, the connection takes the pieces.

use std::fs::File;
use std::io;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use tokio::sync::mpsc;

use super::client::Pulse;
use super::offer::PIECE;
use crate::files::{self, Reader, SourceStat};

/// Pieces that are read ahead.
const AHEAD: usize = 4;

/// Why a file did not go out whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    /// Nobody takes the pieces any more.
    Gone,
    /// It is not what it was when it was hashed, or cannot be read.
    Lost(&'static str),
}

/// Opens a file, if it is still the one that was hashed. Blocks.
pub fn open(reader: &Reader, source: &Path, stat: SourceStat) -> Result<File, &'static str> {
    let (file, now) = files::open_source(reader, source).map_err(|error| error.reason())?;
    if now == stat { Ok(file) } else { Err("changed") }
}

/// The body of an upload, and where its pieces are put. `took` is told how much of it the connection has.
pub fn body(size: u64, pulse: Arc<Pulse>, took: impl FnMut(u64) + Send + 'static) -> (Upload, mpsc::Sender<Bytes>) {
    let (put, pieces) = mpsc::channel(AHEAD);
    (Upload { pieces, size, left: size, pulse, took: Box::new(took) }, put)
}

/// Reads a file to its end. Blocks.
pub fn read(file: &File, stat: SourceStat, pieces: &mpsc::Sender<Bytes>) -> Result<(), Stop> {
    let mut left = stat.size;
    while left > 0 {
        let wanted = usize::try_from(left).unwrap_or(PIECE).min(PIECE);
        let mut piece = Vec::with_capacity(wanted);
        let read = files::append_from(file, &mut piece, wanted).map_err(|_| Stop::Lost("unreadable"))?;
        left -= read as u64;
        // The last piece is held back until it is sure that the receiver should have all of it.
        let changed = left == 0 && files::stat_source(file).map_err(|error| Stop::Lost(error.reason()))? != stat;
        if read < wanted || changed {
            return Err(Stop::Lost("changed"));
        }
        pieces.blocking_send(piece.into()).map_err(|_| Stop::Gone)?;
    }
    Ok(())
}

/// The body of an upload.
pub struct Upload {
    pieces: mpsc::Receiver<Bytes>,
    size: u64,
    left: u64,
    pulse: Arc<Pulse>,
    took: Box<dyn FnMut(u64) + Send>,
}

impl Body for Upload {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let this = self.get_mut();
        if this.left == 0 {
            return Poll::Ready(None);
        }
        let Some(piece) = ready!(this.pieces.poll_recv(cx)) else {
            return Poll::Ready(Some(Err(io::Error::other("the file could not be read to its end"))));
        };
        this.left = this.left.saturating_sub(piece.len() as u64);
        (this.took)(this.size - this.left);
        if this.left == 0 {
            this.pulse.complete();
        }
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}
