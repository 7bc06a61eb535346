//! Bars on a terminal: bytes, rate and time left, one bar a transfer. Elsewhere nothing.

use std::collections::HashMap;
use std::io::{self, IsTerminal as _};
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use kith_proto::control::types::{Transfer, TransferState};
use kith_proto::text::printable;

use crate::output::Output;

/// Transfers in progress, as far as this program has watched them.
pub struct Progress {
    bars: Option<MultiProgress>,
    watched: HashMap<String, Watched>,
}

struct Watched {
    since: Instant,
    before: u64,
    moving: bool,
    bar: Option<ProgressBar>,
}

impl Progress {
    /// Bars on stderr, if that is a terminal and results are for people.
    pub fn new(out: Output) -> Self {
        let bars = (!out.is_json() && io::stderr().is_terminal()).then(MultiProgress::new);
        Self { bars, watched: HashMap::new() }
    }

    /// Shows a transfer's new state. The clock starts when the first bytes move.
    pub fn update(&mut self, transfer: &Transfer) {
        let done = transfer.bytes_done;
        let watched = self.watched.entry(transfer.id.clone()).or_insert_with(|| Watched {
            since: Instant::now(),
            before: done,
            moving: false,
            bar: self.bars.as_ref().map(|bars| bars.add(ProgressBar::no_length())),
        });
        let starts = !watched.moving && transfer.state == TransferState::Active;
        if starts {
            *watched = Watched { since: Instant::now(), before: done, moving: true, bar: watched.bar.take() };
        }
        if let Some(bar) = &watched.bar {
            bar.set_style(style(transfer));
            bar.set_message(message(transfer));
            if let Some(bytes) = transfer.bytes {
                bar.set_length(bytes);
            }
            bar.set_position(done);
            if starts {
                // What an earlier run moved says nothing about the speed of this one.
                bar.reset_eta();
                bar.reset_elapsed();
            }
        }
    }

    /// Forgets a transfer and its bar; returns the bytes that were seen moving and the time they took.
    pub fn end(&mut self, transfer: &Transfer) -> (u64, Duration) {
        let Some(watched) = self.watched.remove(&transfer.id) else { return (0, Duration::ZERO) };
        if let Some(bar) = &watched.bar {
            bar.finish_and_clear();
        }
        (transfer.bytes_done.saturating_sub(watched.before), watched.since.elapsed())
    }

    /// Writes something while the bars are out of the way.
    pub fn aside<T>(&self, write: impl FnOnce() -> T) -> T {
        match &self.bars {
            Some(bars) => bars.suspend(write),
            None => write(),
        }
    }

    /// Ids of the transfers that are watched.
    pub fn watched(&self) -> impl Iterator<Item = &String> {
        self.watched.keys()
    }
}

fn message(transfer: &Transfer) -> String {
    let peer = printable(&transfer.peer.name);
    match transfer.state {
        TransferState::Preparing => "looking through the files".to_owned(),
        TransferState::Queued => format!("waiting for {peer}"),
        TransferState::Offered => format!("waiting for the answer of {peer}"),
        _ => printable(&transfer.title).into_owned(),
    }
}

fn style(transfer: &Transfer) -> ProgressStyle {
    let template = match (transfer.state, transfer.bytes) {
        (TransferState::Active, Some(_)) => "{msg} {wide_bar} {bytes} of {total_bytes}  {bytes_per_sec}  {eta}",
        (TransferState::Active, None) => "{msg}  {bytes}  {bytes_per_sec}",
        _ => "{msg}",
    };
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}
