//! Ctrl+C (and SIGTERM, SIGHUP): the program ends with 130, whatever a command waits for at that moment.
//!
//! The command runs on a thread of its own, so that `main` can return while it still waits for a line of input or of
//! the daemon. A command that has started something says how to take it back.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::sync_channel;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use crate::error::INTERRUPTED;

/// The exit code of a Rust program that panicked.
const PANICKED: u8 = 101;
/// How long a command that was taken back has for its last words.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// What an interrupt takes back, and how long the command then has for its last words.
struct Undo {
    act: Box<dyn FnOnce() + Send>,
    last_words: Duration,
}

/// Where a command leaves word of what an interrupt has to take back.
#[derive(Clone, Default)]
pub struct Interrupt {
    undo: Arc<Mutex<Option<Undo>>>,
}

impl Interrupt {
    /// From now on an interrupt does `undo` before the program ends; the command may then say how it ended.
    pub fn takes_back(&self, undo: impl FnOnce() + Send + 'static) {
        self.set(Undo { act: Box::new(undo), last_words: LAST_WORDS });
    }

    /// From now on an interrupt does `undo` before the program ends, at once.
    pub fn puts_back(&self, undo: impl FnOnce() + Send + 'static) {
        self.set(Undo { act: Box::new(undo), last_words: Duration::ZERO });
    }

    /// From now on an interrupt takes nothing back.
    pub fn leaves(&self) {
        self.take();
    }

    fn set(&self, undo: Undo) {
        *self.undo.lock().unwrap_or_else(PoisonError::into_inner) = Some(undo);
    }

    fn take(&self) -> Option<Undo> {
        self.undo.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// Runs `command` to its end or to the first interrupt, and returns the exit code.
pub fn run(command: impl FnOnce(Interrupt) -> u8 + Send + 'static) -> u8 {
    let (tell, ended) = sync_channel::<Option<u8>>(4);
    let interrupt = Interrupt::default();

    let interrupted = tell.clone();
    // Without a handler the signal still ends the program, only with the system's own code.
    let _ = ctrlc::set_handler(move || {
        // Full: an interrupt is on its way already.
        let _ = interrupted.try_send(None);
    });

    let given = interrupt.clone();
    thread::spawn(move || {
        let exit = catch_unwind(AssertUnwindSafe(|| command(given))).unwrap_or(PANICKED);
        let _ = tell.send(Some(exit));
    });

    if let Ok(Some(exit)) = ended.recv() {
        return exit;
    }
    if let Some(undo) = interrupt.take() {
        (undo.act)();
        let _ = ended.recv_timeout(undo.last_words);
    }
    INTERRUPTED
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_exit_code_is_the_commands() {
        assert_eq!(run(|_| 5), 5);
        assert_eq!(run(|_| panic!("on purpose")), PANICKED);
    }

    #[test]
    fn only_the_last_word_is_taken_back() {
        let interrupt = Interrupt::default();
        let (tell, told) = sync_channel(2);
        let first = tell.clone();
        interrupt.takes_back(move || first.send(1).unwrap());
        interrupt.takes_back(move || tell.send(2).unwrap());
        (interrupt.take().unwrap().act)();
        assert_eq!(told.recv(), Ok(2));
        assert!(interrupt.take().is_none());
        interrupt.puts_back(|| {});
        interrupt.leaves();
        assert!(interrupt.take().is_none());
    }
}
