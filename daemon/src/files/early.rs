//! Large files go to the disk while they are still being written.

use std::fs::File;
use std::io;

use tokio::runtime::Handle;
use tokio::task::JoinHandle;

/// What of a large file is written goes to the disk in steps of this many bytes while more is coming, so that its end
/// has not to wait for all of it.
const SYNC_EVERY: u64 = 64 << 20;

/// Brings what is written of a large file to the disk, beside the writing.
pub struct EarlySync {
    /// How far the file was when the last step began.
    begun_at: u64,
    running: Option<JoinHandle<io::Result<()>>>,
}

impl EarlySync {
    /// For a file of which `offset` bytes are there already.
    pub fn from(offset: u64) -> Self {
        Self { begun_at: offset, running: None }
    }

    /// Begins the next step if it is due and the last one is done.
    pub fn step(&mut self, runtime: &Handle, file: &File, offset: u64) -> io::Result<()> {
        if offset - self.begun_at < SYNC_EVERY || self.running.as_ref().is_some_and(|running| !running.is_finished()) {
            return Ok(());
        }
        self.finish(runtime)?;
        let file = file.try_clone()?;
        self.begun_at = offset;
        self.running = Some(runtime.spawn_blocking(move || file.sync_data()));
        Ok(())
    }

    /// The outcome of the last step: the system reports a failure to write only once.
    pub fn finish(&mut self, runtime: &Handle) -> io::Result<()> {
        match self.running.take() {
            Some(running) => runtime.block_on(running).map_err(io::Error::other)?,
            None => Ok(()),
        }
    }
}
