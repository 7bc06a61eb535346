//! Somebody at a terminal of a device: sees what `kithctl` shows there, and types.

use std::fs::File;
use std::io::{self, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::process::{Child, Command};

use rustix::fs::{Mode, OFlags, open};
use rustix::process::Signal;
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};

use crate::PATIENCE;
use crate::process::{self, Heard};

/// A program at a terminal of its own, and who sits there. Dropped: the program is killed.
pub struct Person {
    child: Child,
    keys: File,
    screen: Heard,
    seen: usize,
}

impl Person {
    /// Starts `command` at a terminal.
    #[track_caller]
    pub fn at(mut command: Command) -> Self {
        let (ours, theirs) = terminal().expect("a terminal");
        let end = || theirs.try_clone().expect("a terminal can be shared");
        command.stdin(end()).stdout(end()).stderr(end());
        let child = command.spawn().expect("the program can be run");
        let keys = File::from(ours);
        // Its reader ends with an error when nobody has the terminal open any more: `command` and `theirs` go now.
        let screen = Heard::listen(keys.try_clone().ok());
        Self { child, keys, screen, seen: 0 }
    }

    /// Waits until `text` is shown; returns what was shown before it, since the last time. What is typed before a whole
    /// question is shown is not taken for its answer: look for its end.
    #[track_caller]
    pub fn sees(&mut self, text: &str) -> String {
        match self.screen.until(self.seen, text.as_bytes(), PATIENCE) {
            Some(at) => {
                let before = self.screen.between(self.seen, at);
                self.seen = at + text.len();
                before
            }
            None => panic!("{text:?} was not shown, but:\n{}", self.screen.text()),
        }
    }

    /// Answers questions, each of which is shown to its end.
    #[track_caller]
    pub fn answers(&mut self, answers: &[(&str, &str)]) {
        for (question, answer) in answers {
            self.sees(question);
            self.types(answer);
        }
    }

    /// Types a line.
    #[track_caller]
    pub fn types(&mut self, line: &str) {
        self.keys.write_all(format!("{line}\n").as_bytes()).expect("the terminal is open");
    }

    /// What Ctrl+C does.
    pub fn interrupts(&self) {
        process::send(self.child.id(), Signal::INT);
    }

    /// Waits for the program's end: its exit code, and all that it ever showed.
    #[track_caller]
    pub fn leaves(mut self) -> (i32, String) {
        let status = process::wait_for_exit(&mut self.child, PATIENCE);
        let all = self.screen.wait_end(PATIENCE);
        match status {
            Some(status) if all => (process::code(status), self.screen.text()),
            _ => panic!("it does not end:\n{}", self.screen.text()),
        }
    }
}

impl Drop for Person {
    fn drop(&mut self) {
        process::reap(&mut self.child);
    }
}

/// Both ends: where the keys are, and where the program is.
fn terminal() -> io::Result<(OwnedFd, OwnedFd)> {
    let ours = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)?;
    grantpt(&ours)?;
    unlockpt(&ours)?;
    let theirs = open(ptsname(&ours, Vec::new())?, OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC, Mode::empty())?;
    Ok((ours.as_fd().try_clone_to_owned()?, theirs))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn questions_answers_and_the_end() {
        let mut command = Command::new("sh");
        command.args(["-c", "printf 'name? '; read name; echo hello $name; test -t 0 && exit 3"]);
        let mut person = Person::at(command);
        person.answers(&[("name? ", "you")]);
        assert!(person.sees("hello ").contains("you"));
        let (exit, shown) = person.leaves();
        assert_eq!((exit, shown.trim_end().ends_with("hello you")), (3, true), "{shown:?}");
    }
}
