//! Where a passphrase comes from: somebody types it at a terminal that does not show it, or it is the first line of a
//! file. It is in no argument, no variable of the environment, no message and no error. Other things that nobody else
//! shall see are typed there in the same way.

use std::fs::File;
use std::io::{self, IsTerminal as _, Read as _, Write as _};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use kith_proto::secret::Secret;
use kith_proto::secret_text::SecretText;
use kith_proto::text::printable;
use rustix::termios::{LocalModes, OptionalActions, QueueSelector, Termios, tcflush, tcgetattr, tcsetattr};
use unicode_normalization::UnicodeNormalization as _;
use zeroize::Zeroizing;

use crate::error::{Error, FAILED, Result};
use crate::interrupt::Interrupt;
use crate::output::{Output, warn};

/// The longest passphrase, in bytes; what is longer is no passphrase, but the wrong file.
const LONGEST: usize = 1024;

/// What somebody knows.
pub type Passphrase = Secret<String>;

/// The first line of a file.
fn from_file(path: &Path) -> Result<Passphrase> {
    let failed = |what: String| Error::new(FAILED, "input", format!("{}: {what}", path.display()));
    let file = File::open(path).map_err(|error| failed(format!("cannot be opened: {error}")))?;
    if let Ok(metadata) = file.metadata()
        && metadata.is_file()
        && metadata.permissions().mode() & 0o077 != 0
    {
        warn(&format!("kithctl: {0}: other users can get at this passphrase; chmod 600 {0}", path.display()));
    }
    // Room for all of it, so that it is not moved and left behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(LONGEST + 3));
    file.take(LONGEST as u64 + 2)
        .read_to_end(&mut bytes)
        .map_err(|error| failed(format!("cannot be read: {error}")))?;
    let line = bytes.split(|byte| *byte == b'\n').next().unwrap_or_default();
    passphrase(line.strip_suffix(b"\r").unwrap_or(line)).map_err(failed)
}

/// From a file, else as `ask` has it from whoever sits at the terminal. `flag` names a file instead.
pub fn obtain(
    out: Output,
    interrupt: &Interrupt,
    file: Option<&Path>,
    flag: &str,
    ask: impl FnOnce(&mut Terminal<'_>) -> Result<Passphrase>,
) -> Result<Passphrase> {
    if let Some(path) = file {
        return from_file(path);
    }
    match Terminal::find(interrupt).filter(|_| !out.is_json()) {
        Some(mut terminal) => ask(&mut terminal),
        None => {
            Err(Error::usage("there is no terminal to ask for the passphrase").hint(format!("give it with {flag}")))
        }
    }
}

/// A terminal at which somebody can be asked.
pub struct Terminal<'a> {
    interrupt: &'a Interrupt,
    input: OwnedFd,
    output: Option<File>,
}

impl<'a> Terminal<'a> {
    /// The terminal of standard input, else the one that this program was started at; `None` if there is none.
    pub fn find(interrupt: &'a Interrupt) -> Option<Self> {
        let stdin = io::stdin();
        if stdin.is_terminal() {
            return Some(Self { interrupt, input: stdin.as_fd().try_clone_to_owned().ok()?, output: None });
        }
        let tty = File::options().read(true).write(true).open("/dev/tty").ok()?;
        Some(Self { interrupt, input: tty.try_clone().ok()?.into(), output: Some(tty) })
    }

    /// Asks until something is typed that can be a passphrase.
    pub fn ask(&mut self, question: &str) -> Result<Passphrase> {
        loop {
            match passphrase(&self.line(question, LONGEST)?) {
                Ok(typed) => return Ok(typed),
                Err(why) => self.say(&format!("{why}\n")),
            }
        }
    }

    /// Asks for a new passphrase: twice, because nobody sees what is typed.
    pub fn ask_twice(&mut self, question: &str) -> Result<Passphrase> {
        loop {
            let first = self.ask(question)?;
            if self.ask("The same again:")?.expose() == first.expose() {
                return Ok(first);
            }
            self.say("that was not the same\n");
        }
    }

    /// Asks for a text of at most `longest` bytes, which is not shown; it may be empty.
    pub fn hidden(&mut self, question: &str, longest: usize) -> Result<SecretText> {
        loop {
            let line = self.line(question, longest)?;
            match std::str::from_utf8(&line) {
                Ok(_) if line.len() > longest => self.say(&format!("no more than {longest} bytes can be typed\n")),
                Ok(text) => return Ok(SecretText::new(text.to_owned())),
                Err(_) => self.say("that is no text (UTF-8)\n"),
            }
        }
    }

    /// Asks for a text of at most `longest` bytes, which is shown while it is typed, and of which no copy stays here.
    pub fn shown(&mut self, question: &str, longest: usize) -> Result<SecretText> {
        // What was typed before the question was shown was not meant for it.
        let _ = tcflush(&self.input, QueueSelector::IFlush);
        self.say(&format!("{} ", printable(question)));
        let failed = |error: io::Error| Error::new(FAILED, "no_answer", format!("cannot ask for it: {error}"));
        let none = || Error::new(FAILED, "no_answer", "nothing was typed");
        let line = read_line(&self.input, longest).map_err(failed)?.ok_or_else(none)?;
        // What is no text is nothing that was asked for.
        Ok(SecretText::new(std::str::from_utf8(&line).unwrap_or_default().to_owned()))
    }

    /// One line that is not shown while it is typed. What is longer than `longest` bytes is cut one byte later.
    fn line(&mut self, question: &str, longest: usize) -> Result<Zeroizing<Vec<u8>>> {
        let failed = |error: io::Error| Error::new(FAILED, "no_answer", format!("cannot ask for it: {error}"));
        // Before the question is shown: from then on somebody may type. What was typed before is dropped.
        let hidden = Hidden::start(&self.input, self.interrupt).map_err(failed)?;
        self.say(&format!("{} ", printable(question)));
        let line = read_line(&self.input, longest).map_err(failed);
        drop(hidden);
        self.say("\n");
        line?.ok_or_else(|| Error::new(FAILED, "no_answer", "nothing was typed"))
    }

    fn say(&mut self, text: &str) {
        // Whoever cannot be asked will not answer either.
        let _ = match &mut self.output {
            Some(terminal) => terminal.write_all(text.as_bytes()),
            None => io::stderr().write_all(text.as_bytes()),
        };
    }
}

/// A terminal that does not show what is typed, until this is dropped or the program is interrupted.
struct Hidden<'a> {
    terminal: OwnedFd,
    before: Termios,
    interrupt: &'a Interrupt,
}

impl<'a> Hidden<'a> {
    fn start(terminal: &OwnedFd, interrupt: &'a Interrupt) -> io::Result<Self> {
        let before = tcgetattr(terminal)?;
        let (again, saved) = (terminal.try_clone()?, before.clone());
        interrupt.puts_back(move || show(&again, &saved));
        let hidden = Self { terminal: terminal.try_clone()?, before, interrupt };
        let mut modes = hidden.before.clone();
        modes.local_modes.remove(LocalModes::ECHO);
        modes.local_modes.insert(LocalModes::ICANON);
        tcsetattr(terminal, OptionalActions::Flush, &modes)?;
        Ok(hidden)
    }
}

impl Drop for Hidden<'_> {
    fn drop(&mut self) {
        show(&self.terminal, &self.before);
        self.interrupt.leaves();
    }
}

fn show(terminal: impl AsFd, modes: &Termios) {
    // A terminal that is gone shows nothing anyway.
    let _ = tcsetattr(terminal, OptionalActions::Now, modes);
}

/// Reads up to the end of the line and no further: what follows is for somebody else. `None` at the end of input.
fn read_line(terminal: &OwnedFd, longest: usize) -> io::Result<Option<Zeroizing<Vec<u8>>>> {
    let mut line = Zeroizing::new(Vec::with_capacity(longest + 1));
    let mut byte = Zeroizing::new([0]);
    loop {
        match rustix::io::read(terminal, &mut *byte) {
            Ok(0) if line.is_empty() => return Ok(None),
            Ok(0) => return Ok(Some(line)),
            Ok(_) if *byte == [b'\n'] => return Ok(Some(line)),
            // One too many is enough to know.
            Ok(_) if line.len() > longest => {}
            Ok(_) => line.extend_from_slice(&*byte),
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// What was typed, as a text. One keyboard composes letters that another one sends in one piece: they are the same.
fn passphrase(typed: &[u8]) -> std::result::Result<Passphrase, String> {
    if typed.len() > LONGEST {
        return Err(format!("a passphrase has at most {LONGEST} bytes"));
    }
    match std::str::from_utf8(typed) {
        Ok("") => Err("a passphrase is not empty".to_owned()),
        Ok(text) => {
            // Room for the longest form that a text can take, so that it is not moved and left behind.
            let mut composed = String::with_capacity(text.len() * 3);
            composed.extend(text.nfc());
            Ok(Secret::new(composed))
        }
        Err(_) => Err("a passphrase is text (UTF-8)".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::Permissions;

    #[test]
    fn what_can_be_a_passphrase() {
        for (typed, text) in [
            (&b"correct horse"[..], Some("correct horse")),
            (b" a ", Some(" a ")),
            ("e\u{301}".as_bytes(), Some("\u{e9}")),
            ("\u{e9}".as_bytes(), Some("\u{e9}")),
            (&[b'x'; LONGEST], Some(&*"x".repeat(LONGEST))),
            (&[b'x'; LONGEST + 1], None),
            (b"", None),
            (b"\xff", None),
        ] {
            assert_eq!(passphrase(typed).ok().as_ref().map(|it| it.expose().as_str()), text, "{typed:?}");
        }
    }

    #[test]
    fn the_first_line_of_a_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("it");
        for (content, text) in [
            ("secret", Some("secret")),
            ("secret\nmore\n", Some("secret")),
            ("secret\r\n", Some("secret")),
            ("\nsecret", None),
            ("", None),
            (&*"x".repeat(LONGEST + 1), None),
            (&*format!("{}\n", "x".repeat(LONGEST)), Some(&*"x".repeat(LONGEST))),
        ] {
            let mut file = File::create(&path).unwrap();
            file.set_permissions(Permissions::from_mode(0o600)).unwrap();
            file.write_all(content.as_bytes()).unwrap();
            let read = from_file(&path);
            assert_eq!(read.as_ref().ok().map(|it| it.expose().as_str()), text, "{content:?}");
            if let Err(error) = read {
                assert!(!format!("{error:?}").contains("xx"), "{error:?}");
            }
        }
        assert_eq!(from_file(&dir.path().join("none")).unwrap_err().exit(), FAILED);
    }
}
