//! Child processes with deadlines. Their output is read in threads of its own, so that no child ever blocks on a test
//! that looks elsewhere; a child that is dropped is killed and reaped.

use std::io::{Read, Write};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::wait;

/// What a finished program left.
#[derive(Debug, Clone)]
pub struct Output {
    /// The command line, for messages.
    pub command: String,
    /// The exit code; 128 + n after signal n, as a shell counts.
    pub status: i32,
    /// All of its standard output.
    pub stdout: String,
    /// All of its standard error.
    pub stderr: String,
}

impl Output {
    /// This output, if the program succeeded.
    #[track_caller]
    pub fn ok(self) -> Self {
        self.expect(0)
    }

    /// This output, if the program ended with `status`.
    #[track_caller]
    pub fn expect(self, status: i32) -> Self {
        assert_eq!(self.status, status, "exit status of `{}`\n{}{}", self.command, self.stdout, self.stderr);
        self
    }

    /// Every JSON value on standard output, which holds nothing else.
    #[track_caller]
    pub fn objects(&self) -> Vec<Value> {
        match serde_json::Deserializer::from_str(&self.stdout).into_iter().collect() {
            Ok(values) => values,
            Err(error) => panic!("`{}` did not print JSON ({error}):\n{}{}", self.command, self.stdout, self.stderr),
        }
    }

    /// The last JSON value on standard output.
    #[track_caller]
    pub fn json(&self) -> Value {
        match self.objects().pop() {
            Some(value) => value,
            None => panic!("`{}` printed nothing; stderr: {}", self.command, self.stderr),
        }
    }

    /// The error object that `--json` puts on standard error: its last line.
    #[track_caller]
    pub fn error(&self) -> Value {
        let line = self.stderr.lines().last().unwrap_or_default();
        match serde_json::from_str(line) {
            Ok(value) => value,
            Err(error) => panic!("`{}` left no JSON error ({error}):\n{}", self.command, self.stderr),
        }
    }
}

/// A program that runs beside the test.
pub struct Running {
    command: String,
    child: Child,
    stdout: Heard,
    stderr: Heard,
    read: usize,
}

impl Running {
    /// Starts `command`, its output captured. Its standard input is empty unless `command` says otherwise.
    #[track_caller]
    pub fn spawn(command: &mut Command) -> Self {
        Self::start(command.stdin(Stdio::null()))
    }

    /// Starts `command` with a pipe for [`Running::feed`].
    #[track_caller]
    pub fn spawn_fed(command: &mut Command) -> Self {
        Self::start(command.stdin(Stdio::piped()))
    }

    #[track_caller]
    fn start(command: &mut Command) -> Self {
        let name = describe(command);
        let mut child = match command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn() {
            Ok(child) => child,
            Err(error) => panic!("cannot run `{name}`: {error}"),
        };
        let stdout = Heard::listen(child.stdout.take());
        let stderr = Heard::listen(child.stderr.take());
        Self { command: name, child, stdout, stderr, read: 0 }
    }

    /// The process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The next line of its standard output; `None` after the last. Panics when none comes within `limit`.
    #[track_caller]
    pub fn line(&mut self, limit: Duration) -> Option<String> {
        match self.stdout.line(self.read, limit) {
            Ok((line, read)) => {
                self.read = read;
                line
            }
            Err(Late) => panic!("`{}` said nothing for {limit:?}; stderr:\n{}", self.command, self.stderr.text()),
        }
    }

    /// The next line of its standard output as JSON.
    #[track_caller]
    pub fn json_line(&mut self, limit: Duration) -> Value {
        match self.line(limit).map(|line| serde_json::from_str(&line).map_err(|error| (line, error))) {
            Some(Ok(value)) => value,
            Some(Err((line, error))) => panic!("`{}` said {line:?}: {error}", self.command),
            None => panic!("`{}` ended; stderr:\n{}", self.command, self.stderr.text()),
        }
    }

    /// Its standard output so far, whatever was read of it.
    pub fn said(&self) -> String {
        self.stdout.text()
    }

    /// Writes to its standard input. Says whether it was taken: the program may have ended.
    pub fn feed(&mut self, bytes: &[u8]) -> bool {
        self.child.stdin.as_mut().is_some_and(|stdin| stdin.write_all(bytes).and_then(|()| stdin.flush()).is_ok())
    }

    /// Ends its standard input.
    pub fn end_input(&mut self) {
        drop(self.child.stdin.take());
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        send(self.child.id(), signal);
    }

    /// Whether it still runs.
    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Waits for its end. Panics, and kills it, when it does not end within `limit`.
    #[track_caller]
    pub fn finish(mut self, limit: Duration) -> Output {
        let started = Instant::now();
        self.end_input();
        let status = wait_for_exit(&mut self.child, limit);
        // A grandchild may hold the pipes open for longer; what it says is waited for too, but not for ever.
        let ended = status.is_some()
            && self.stdout.wait_end(limit.saturating_sub(started.elapsed()))
            && self.stderr.wait_end(limit.saturating_sub(started.elapsed()));
        let (stdout, stderr) = (self.stdout.text(), self.stderr.text());
        match status {
            Some(status) if ended => Output { command: self.command.clone(), status: code(status), stdout, stderr },
            _ => panic!("`{}` did not end within {limit:?}\n{stdout}{stderr}", self.command),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        reap(&mut self.child);
    }
}

/// Runs `command` to its end.
#[track_caller]
pub fn run(command: &mut Command, limit: Duration) -> Output {
    Running::spawn(command).finish(limit)
}

/// The status of `child`, if it ends within `limit`.
pub fn wait_for_exit(child: &mut Child, limit: Duration) -> Option<ExitStatus> {
    wait::attempt(limit, || child.try_wait().ok().flatten())
}

/// Kills `child`, if it still runs, and waits for it.
pub fn reap(child: &mut Child) {
    drop(child.kill());
    drop(child.wait());
}

/// The exit code; 128 + n after signal n.
pub fn code(status: ExitStatus) -> i32 {
    use std::os::unix::process::ExitStatusExt;
    status.code().or_else(|| status.signal().map(|signal| 128 + signal)).unwrap_or(-1)
}

/// Sends a signal to a child that has not been reaped, so that its id cannot be anybody else's.
pub fn send(pid: u32, signal: Signal) {
    if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
        // It may have ended just now; then there is nothing to tell it.
        let _ = kill_process(pid, signal);
    }
}

fn describe(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
}

/// What came out of a pipe so far.
#[derive(Clone, Default)]
pub(crate) struct Heard(Arc<(Mutex<Text>, Condvar)>);

#[derive(Default)]
struct Text {
    bytes: Vec<u8>,
    ended: bool,
}

/// Nothing came within the time allowed.
struct Late;

impl Heard {
    pub(crate) fn listen(pipe: Option<impl Read + Send + 'static>) -> Self {
        let heard = Self::default();
        let sink = heard.clone();
        std::thread::spawn(move || {
            let mut chunk = [0; 16 << 10];
            if let Some(mut pipe) = pipe {
                while let Ok(len @ 1..) = pipe.read(&mut chunk) {
                    sink.lock().bytes.extend_from_slice(&chunk[..len]);
                    sink.0.1.notify_all();
                }
            }
            sink.lock().ended = true;
            sink.0.1.notify_all();
        });
        heard
    }

    fn lock(&self) -> MutexGuard<'_, Text> {
        self.0.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.lock().bytes).into_owned()
    }

    /// Waits until `ready` holds; says whether it does.
    fn wait(&self, limit: Duration, ready: impl Fn(&Text) -> bool) -> (MutexGuard<'_, Text>, bool) {
        let (guard, timeout) = self
            .0
            .1
            .wait_timeout_while(self.lock(), limit, |text| !ready(text))
            .unwrap_or_else(PoisonError::into_inner);
        (guard, !timeout.timed_out())
    }

    pub(crate) fn wait_end(&self, limit: Duration) -> bool {
        self.wait(limit, |text| text.ended).1
    }

    /// Where `wanted` is, from `from` on; `None` if it does not come within `limit`, or never.
    pub(crate) fn until(&self, from: usize, wanted: &[u8], limit: Duration) -> Option<usize> {
        let found = |text: &Text| text.bytes[from..].windows(wanted.len()).position(|bytes| bytes == wanted);
        let (text, _) = self.wait(limit, |text| text.ended || found(text).is_some());
        found(&text).map(|at| from + at)
    }

    /// What came from `from` up to `to`.
    pub(crate) fn between(&self, from: usize, to: usize) -> String {
        String::from_utf8_lossy(&self.lock().bytes[from..to]).into_owned()
    }

    /// The line that begins at `from`, and where the next one begins.
    fn line(&self, from: usize, limit: Duration) -> Result<(Option<String>, usize), Late> {
        let newline = |text: &Text| text.bytes[from..].iter().position(|&byte| byte == b'\n');
        let (text, ready) = self.wait(limit, |text| text.ended || newline(text).is_some());
        if !ready {
            return Err(Late);
        }
        let rest = &text.bytes[from..];
        Ok(match newline(&text) {
            Some(len) => (Some(String::from_utf8_lossy(&rest[..len]).into_owned()), from + len + 1),
            None if rest.is_empty() => (None, from),
            None => (Some(String::from_utf8_lossy(rest).into_owned()), from + rest.len()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_secs(20);

    fn sh(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn lines_as_they_come_then_everything() {
        let mut child = Running::spawn_fed(&mut sh("echo one; read x; echo \"$x\"; printf three; exit 5"));
        assert_eq!(child.line(LIMIT).as_deref(), Some("one"));
        assert!(child.feed(b"two\n"));
        assert_eq!(child.line(LIMIT).as_deref(), Some("two"));
        assert_eq!(child.line(LIMIT).as_deref(), Some("three"));
        assert_eq!(child.line(LIMIT), None);
        let output = child.finish(LIMIT).expect(5);
        assert_eq!(output.stdout, "one\ntwo\nthree");
    }

    #[test]
    fn a_signal_is_counted_as_a_shell_does() {
        let mut child = Running::spawn(&mut sh("echo ready; exec sleep 100"));
        assert_eq!(child.line(LIMIT).as_deref(), Some("ready"));
        child.signal(Signal::TERM);
        assert_eq!(child.finish(LIMIT).status, 128 + 15);
    }

    #[test]
    #[should_panic = "did not end within"]
    fn what_does_not_end_is_killed() {
        run(&mut sh("sleep 100"), Duration::from_millis(50));
    }
}
