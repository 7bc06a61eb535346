//! Everything that this program writes. Results go to stdout, all else to stderr; a reader that went away ends the
//! program with 0 and without a word; whatever reaches a person is escaped line by line, because names, titles and
//! texts come from peers.

use std::fmt::Write as _;
use std::io::{self, IsTerminal as _, Write};

use kith_proto::text::{is_hostile, printable};
use qrcode::render::unicode::Dense1x2;
use qrcode::{EcLevel, QrCode};
use rustix::termios::{QueueSelector, tcflush, tcgetwinsize};
use serde::Serialize;
use unicode_width::UnicodeWidthStr as _;
use zeroize::Zeroizing;

use crate::error::{Error, FAILED, Result, USAGE};
use crate::wiped;

/// Columns without a module on either side of a QR code.
const QUIET: usize = 4;

/// How this run talks to its caller.
#[derive(Debug, Clone, Copy)]
pub struct Output {
    json: bool,
}

impl Output {
    /// One JSON object a line, or text for people.
    pub fn new(json: bool) -> Self {
        Self { json }
    }

    /// The same before the command line is understood, or where it cannot be.
    pub fn asked_for_json() -> Self {
        Self::new(std::env::args_os().any(|arg| arg == "--json"))
    }

    /// Whether results are JSON.
    pub fn is_json(self) -> bool {
        self.json
    }

    /// Whether somebody sits at a terminal and may be asked.
    pub fn may_ask(self) -> bool {
        !self.json && on_terminal()
    }

    /// A line of the result, for people.
    pub fn line(self, text: &str) -> Result<()> {
        put(&mut io::stdout(), format!("{}\n", printable(text)).as_bytes())
    }

    /// A table of the result, for people.
    pub fn table(self, table: &Table) -> Result<()> {
        table.lines().iter().try_for_each(|line| self.line(line))
    }

    /// A text of several lines that came from a peer. The mark before each line tells it from this program's own.
    pub fn quote(self, text: &str) -> Result<()> {
        text.lines().try_for_each(|line| self.line(&format!("> {line}")))
    }

    /// A result as one line of JSON.
    pub fn object(self, value: &impl Serialize) -> Result<()> {
        object_to(&mut io::stdout(), value)
    }

    /// A result as it is, for programs: nothing is escaped, nothing added.
    pub fn bytes(self, bytes: &[u8]) -> Result<()> {
        put(&mut io::stdout(), bytes)
    }

    /// JSON of the daemon, as it came.
    pub fn raw(self, json: &str) -> Result<()> {
        put_json(&mut io::stdout(), json)
    }

    /// A file made by this program: completions, a manual.
    pub fn document(self, text: &[u8]) -> Result<()> {
        put(&mut io::stdout(), text)
    }

    /// A line of the result that ends with a secret which somebody asked for.
    pub fn secret(self, before: &str, secret: &str) -> Result<()> {
        let secret = printable(secret);
        let mut line = Zeroizing::new(String::with_capacity(before.len() + secret.len() + 1));
        line.push_str(before);
        line.push_str(&secret);
        line.push('\n');
        put(&mut io::stdout(), line.as_bytes())
    }

    /// A QR code, two modules a character; on a terminal black on white, whatever its colours are.
    pub fn qr(self, text: &str) -> Result<()> {
        let code = QrCode::new(text).map_err(|error| Error::new(FAILED, "internal", format!("no QR code: {error}")))?;
        Self::draw(&code)
    }

    /// The same for a long text; says whether there is such a code, and the terminal is wide enough for it.
    pub fn long_qr(self, text: &str) -> Result<bool> {
        let Ok(code) = QrCode::with_error_correction_level(text, EcLevel::L) else { return Ok(false) };
        let columns = tcgetwinsize(io::stdout()).map_or(0, |size| usize::from(size.ws_col));
        // A terminal that does not say how wide it is has no columns.
        if columns > 0 && columns < code.width() + 2 * QUIET {
            return Ok(false);
        }
        Self::draw(&code).map(|()| true)
    }

    fn draw(code: &QrCode) -> Result<()> {
        let (on, off) = if io::stdout().is_terminal() { ("\x1b[30;107m", "\x1b[0m") } else { ("", "") };
        let image = code.render::<Dense1x2>().build();
        let lines: String = image.lines().map(|line| format!("{on}{line}{off}\n")).collect();
        put(&mut io::stdout(), lines.as_bytes())
    }

    /// Makes room for what replaces the screen's content; nothing where there is no screen.
    pub fn clear(self) -> Result<()> {
        if io::stdout().is_terminal() { put(&mut io::stdout(), b"\x1b[H\x1b[2J") } else { Ok(()) }
    }

    /// Word for the person at the keyboard that is not the result. Under `--json` stderr holds errors only.
    pub fn note(self, text: &str) {
        if !self.json {
            warn(text);
        }
    }

    /// Asks, and returns the line that was typed.
    pub fn ask(self, question: &str) -> Result<String> {
        // What was typed before the question was shown was not meant for it. Where there is no terminal, nothing was.
        let _ = tcflush(io::stdin(), QueueSelector::IFlush);
        let mut stderr = io::stderr();
        let _ = write!(stderr, "{} ", printable(question)).and_then(|()| stderr.flush());
        let mut answer = String::new();
        match io::stdin().read_line(&mut answer) {
            Ok(0) | Err(_) => Err(Error::new(FAILED, "no_answer", "nothing was answered")),
            Ok(_) => Ok(answer.trim().to_owned()),
        }
    }

    /// Asks for a yes or a no; Enter alone is `default`.
    pub fn confirm(self, question: &str, default: bool) -> Result<bool> {
        let choices = if default { "[Y/n]" } else { "[y/N]" };
        loop {
            match self.ask(&format!("{question} {choices}"))?.to_ascii_lowercase().as_str() {
                "" => return Ok(default),
                "y" | "yes" => return Ok(true),
                "n" | "no" => return Ok(false),
                _ => {}
            }
        }
    }

    /// Says what a failed command has to say, and returns the exit code.
    pub fn end(self, result: Result<()>) -> u8 {
        match result {
            Ok(()) => 0,
            Err(error) => {
                if let Some(text) = self.last_words(&error) {
                    say(&text);
                }
                error.exit()
            }
        }
    }

    /// Shows help, a version, or what is wrong with the command line, and returns the exit code.
    pub fn command_line(self, error: &clap::Error) -> u8 {
        if !error.use_stderr() || !self.json {
            // A reader that went away does not want the rest of the help.
            let _ = error.print();
            return if error.use_stderr() { USAGE } else { 0 };
        }
        // The first paragraph says what is wrong; the others show the usage.
        let text = error.render().to_string();
        let what = text.trim_start_matches("error: ").split("\n\n").next().unwrap_or_default();
        let what = what.split_whitespace().collect::<Vec<_>>().join(" ");
        self.end(Err(Error::usage(what).hint("see: kithctl --help")))
    }

    fn last_words(self, error: &Error) -> Option<String> {
        let Error::Told { code, message, hint, .. } = error else { return None };
        if self.json {
            let told = Told { error: Body { code, message, hint: hint.as_deref() } };
            return serde_json::to_string(&told).ok().map(|json| ascii_where_hostile(&json));
        }
        let mut text = format!("kithctl: {}", printable(message));
        if let Some(hint) = hint {
            let _ = write!(text, "\n  {}", printable(hint));
        }
        Some(text)
    }
}

/// An error as `--json` shows it.
#[derive(Serialize)]
struct Told<'a> {
    error: Body<'a>,
}

#[derive(Serialize)]
struct Body<'a> {
    code: &'a str,
    message: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    hint: Option<&'a str>,
}

/// Word for whoever runs this program, in either form.
pub fn warn(text: &str) {
    say(&printable(text));
}

/// Whether both ends of the conversation are a terminal.
pub fn on_terminal() -> bool {
    io::stdin().is_terminal() && io::stdout().is_terminal()
}

/// Cells that people read in columns.
#[derive(Debug)]
pub struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table with a title over each column.
    pub fn new(titles: &[&str]) -> Self {
        let mut table = Self::untitled();
        table.row(titles.iter().map(|title| (*title).to_owned()));
        table
    }

    /// A table whose first column says what the second is.
    pub fn untitled() -> Self {
        Self { rows: Vec::new() }
    }

    /// Adds a row.
    pub fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        self.rows.push(cells.into_iter().map(|cell| printable(&cell).into_owned()).collect());
    }

    /// Adds a row of two cells, if there is something to say.
    pub fn pair(&mut self, title: &str, value: impl Into<Option<String>>) {
        if let Some(value) = value.into().filter(|value| !value.is_empty()) {
            self.row([title.to_owned(), value]);
        }
    }

    /// The rows as lines, columns aligned, two spaces between them.
    pub fn lines(&self) -> Vec<String> {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let widths: Vec<usize> = (0..columns)
            .map(|column| {
                self.rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.width()).max().unwrap_or(0)
            })
            .collect();
        let line = |row: &Vec<String>| {
            let mut line = String::new();
            for (cell, width) in row.iter().zip(&widths) {
                line.push_str(cell);
                line.push_str(&" ".repeat(width - cell.width() + 2));
            }
            line.trim_end().to_owned()
        };
        self.rows.iter().map(line).collect()
    }
}

/// JSON keeps its meaning when a character is written as `\uXXXX`; a terminal that shows it then does nothing else.
fn ascii_where_hostile(json: &str) -> String {
    let hostile = |c: &char| is_hostile(*c) && !c.is_ascii_whitespace();
    // Two times six bytes at most for each, and a line break: with room for all of it, nothing is moved and left behind.
    let mut out = String::with_capacity(json.len() + 12 * json.chars().filter(hostile).count() + 1);
    for c in json.chars() {
        if hostile(&c) {
            for unit in c.encode_utf16(&mut [0; 2]) {
                // Writing to a String cannot fail.
                let _ = write!(out, "\\u{unit:04x}");
            }
        } else {
            out.push(c);
        }
    }
    out
}

/// Writes a result as one line of JSON, to standard output or to a file of the caller's.
pub fn object_to(to: &mut impl Write, value: &impl Serialize) -> Result<()> {
    let failed = |error: String| Error::new(FAILED, "internal", format!("cannot write this as JSON: {error}"));
    let json = wiped::json(value, b"").map_err(|error| failed(error.to_string()))?;
    put_json(to, std::str::from_utf8(&json).map_err(|error| failed(error.to_string()))?)
}

/// It may hold a secret that somebody asked for.
fn put_json(to: &mut impl Write, json: &str) -> Result<()> {
    let mut line = Zeroizing::new(ascii_where_hostile(json));
    line.push('\n');
    put(to, line.as_bytes())
}

fn put(to: &mut impl Write, bytes: &[u8]) -> Result<()> {
    to.write_all(bytes).and_then(|()| to.flush()).map_err(|error| match error.kind() {
        io::ErrorKind::BrokenPipe => Error::Quiet(0),
        _ => Error::new(FAILED, "output", format!("cannot write the result: {error}")),
    })
}

fn say(text: &str) {
    // There is no third place to say that nobody reads the second.
    let _ = writeln!(io::stderr(), "{text}");
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    struct Failing(io::ErrorKind);

    impl Write for Failing {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(self.0.into())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_reader_that_went_away_is_no_failure() {
        assert_eq!(put(&mut Failing(io::ErrorKind::BrokenPipe), b"x"), Err(Error::Quiet(0)));
        assert_eq!(put(&mut Failing(io::ErrorKind::StorageFull), b"x").unwrap_err().exit(), FAILED);
        assert_eq!(Output::new(true).last_words(&Error::Quiet(0)), None);
    }

    #[test]
    fn b14_cells_from_peers_stay_in_their_cell() {
        let mut table = Table::new(&["NAME", "STATE"]);
        table.row(["写真".into(), "trusted".into()]);
        table.row(["\x1b[2J\nevil\u{202e}".into(), "discovered".into()]);
        assert_eq!(
            table.lines(),
            [
                "NAME                        STATE",
                "写真                        trusted",
                "\\u{1b}[2J\\u{a}evil\\u{202e}  discovered",
            ]
        );
    }

    #[test]
    fn b14_json_keeps_its_meaning_and_does_nothing() {
        let name = "a\u{9b}31m\u{202e}\x1b]52;\u{7f}\u{e0001}é%s<b>\n";
        let shown = ascii_where_hostile(&json!({ "name": name }).to_string());
        assert!(!shown.chars().any(is_hostile), "{shown:?}");
        assert!(shown.contains("é%s<b>"), "{shown:?}");
        let back: serde_json::Value = serde_json::from_str(&shown).unwrap();
        assert_eq!(back["name"], name);
    }

    #[test]
    fn an_error_is_one_object_or_two_lines() {
        let error = Error::new(7, "peer_offline", "nas\x1b is offline").hint("try again");
        assert_eq!(
            Output::new(true).last_words(&error).unwrap(),
            r#"{"error":{"code":"peer_offline","message":"nas\u001b is offline","hint":"try again"}}"#
        );
        assert_eq!(Output::new(false).last_words(&error).unwrap(), "kithctl: nas\\u{1b} is offline\n  try again");
    }
}
