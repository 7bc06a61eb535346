//! Somebody at a terminal: sees what `kithctl` shows there, and types.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::process::{Child, Command};
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread;
use std::time::Duration;

use rustix::fs::{Mode, OFlags, open};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{LocalModes, tcgetattr};

use crate::fake::{Fake, interrupt};

/// How long something may take to appear.
pub const PATIENCE: Duration = Duration::from_secs(30);

pub struct Person {
    child: Child,
    keys: File,
    screen: Receiver<String>,
    seen: String,
}

/// A terminal, seen from where the keys are.
pub struct Terminal(File);

impl Terminal {
    pub fn echoes(&self) -> bool {
        tcgetattr(&self.0).unwrap().local_modes.contains(LocalModes::ECHO)
    }
}

impl Fake {
    /// Starts `kithctl` at a terminal.
    pub fn at_terminal(&self, line: &str) -> Person {
        let ours = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&ours).unwrap();
        unlockpt(&ours).unwrap();
        let theirs: OwnedFd =
            open(ptsname(&ours, Vec::new()).unwrap(), OFlags::RDWR | OFlags::NOCTTY, Mode::empty()).unwrap();
        let copy = || theirs.as_fd().try_clone_to_owned().unwrap();
        let mut command: Command = self.command(line);
        let child = command.stdin(copy()).stdout(copy()).stderr(copy()).spawn().unwrap();
        let keys = File::from(ours);
        let mut reader = keys.try_clone().unwrap();
        let (show, screen) = sync_channel(1024);
        thread::spawn(move || {
            let mut bytes = [0; 4096];
            // The terminal ends with an error when nobody has it open any more.
            while let Ok(count @ 1..) = reader.read(&mut bytes) {
                if show.send(String::from_utf8_lossy(&bytes[..count]).into_owned()).is_err() {
                    return;
                }
            }
        });
        Person { child, keys, screen, seen: String::new() }
    }
}

impl Person {
    /// Waits until `text` is shown; returns what was shown before it, since the last time.
    pub fn sees(&mut self, text: &str) -> String {
        while !self.seen.contains(text) {
            match self.screen.recv_timeout(PATIENCE) {
                Ok(more) => self.seen.push_str(&more),
                Err(_) => panic!("{text:?} was not shown, but {:?}", self.seen),
            }
        }
        let (before, after) = self.seen.split_once(text).unwrap();
        let (before, after) = (before.to_owned(), after.to_owned());
        self.seen = after;
        before
    }

    pub fn types(&mut self, line: &str) {
        self.keys.write_all(format!("{line}\n").as_bytes()).unwrap();
    }

    /// Presses Ctrl+D, which ends the input where nothing was typed.
    pub fn ends(&mut self) {
        self.keys.write_all(b"\x04").unwrap();
    }

    pub fn interrupts(&self) {
        interrupt(&self.child);
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Whether what is typed is shown.
    pub fn echoes(&self) -> bool {
        self.terminal().echoes()
    }

    /// The terminal, which is there when the program is gone.
    pub fn terminal(&self) -> Terminal {
        Terminal(self.keys.try_clone().unwrap())
    }

    /// The exit code, and what was shown since the last time.
    pub fn leaves(mut self) -> (Option<i32>, String) {
        while let Ok(more) = self.screen.recv_timeout(PATIENCE) {
            self.seen.push_str(&more);
        }
        (self.child.wait().unwrap().code(), self.seen)
    }
}
