//! Devices that are not paired: the receive window that this program opened, and questions that a person answers.

use kith_proto::control::Code;
use kith_proto::control::method::{AnswerParams, GuestAnswer, GuestOpen, GuestOpenParams, GuestOpenResult};
use kith_proto::control::types::{Question, QuestionKind, Window, WindowState};
use serde::Serialize;

use super::{Context, view};
use crate::client::Client;
use crate::error::{Error, Result};
use crate::output::on_terminal;
use crate::progress::Progress;

/// The first line under `--json`.
#[derive(Serialize)]
struct Opened<'a> {
    window: &'a GuestOpenResult,
}

/// A receive window that this program opened.
pub struct Door {
    window: String,
    closed: bool,
    attempts: Option<u32>,
    pinged_by: Option<String>,
}

impl Door {
    /// Opens it, and shows what the person at the other device needs.
    pub fn open(ctx: &Context, client: &mut Client, params: &GuestOpenParams) -> Result<Self> {
        let open = client.call::<GuestOpen>(params)?;
        if ctx.out.is_json() {
            ctx.out.object(&Opened { window: &open })?;
        } else {
            if on_terminal() {
                ctx.out.qr(&open.qr)?;
            }
            // Below the QR code, which may fill the screen.
            instructions(&open).iter().try_for_each(|line| ctx.out.line(line))?;
        }
        Ok(Self { window: open.window, closed: false, attempts: None, pinged_by: None })
    }

    /// Whether `window` is this one.
    pub fn is(&self, window: &Window) -> bool {
        self.window == window.window
    }

    /// It is over.
    pub fn close(&mut self) {
        self.closed = true;
    }

    /// Whether it is over.
    pub fn is_closed(&self) -> bool {
        self.closed
    }

    /// Takes its new state, and returns what a person has to hear of it.
    pub fn update(&mut self, window: Window) -> Vec<String> {
        let mut lines = Vec::new();
        self.closed |= window.state == WindowState::Closed;
        if let Some(address) = window.pinged_by.as_ref().filter(|_| window.pinged_by != self.pinged_by) {
            lines.push(format!("{address} compares the certificate hash:"));
            lines.extend(view::hash(&window.certificate_hash));
        }
        if self.attempts.is_some_and(|before| window.attempts_left < before) {
            lines.push(match window.attempts_left {
                0 => "the PIN is used up: nobody can connect until you start again".to_owned(),
                left => format!("somebody typed a wrong PIN; attempts left: {left}"),
            });
        }
        self.attempts = Some(window.attempts_left);
        self.pinged_by = window.pinged_by;
        lines
    }
}

/// What the person at the other device has to do.
fn instructions(open: &GuestOpenResult) -> Vec<String> {
    let addresses: Vec<_> = open.addresses.iter().map(|address| view::with_port(address, open.port)).collect();
    let mut lines = vec![String::new(), format!("    {}", view::pin(&open.pin)), String::new()];
    lines.push("this device, where a Tella app asks for address and port:".to_owned());
    lines.extend(addresses.iter().map(|address| format!("    {address}")));
    lines.push("its certificate hash, which the other device must show too:".to_owned());
    lines.extend(view::hash(&open.certificate_hash));
    if let Some(address) = addresses.first() {
        lines.push("from another device with kith:".to_owned());
        lines.push(format!("    kithctl send FILE --to {address}"));
    }
    lines.extend(open.expires.iter().map(|time| format!("open until {time}")));
    lines
}

/// Asks a person, and answers the daemon. The answer goes to this question and to no other: it may be over by then, and
/// another one wait.
pub fn ask(ctx: &Context, client: &mut Client, progress: &Progress, question: &Question) -> Result<()> {
    let (lines, doubt) = wording(question);
    let accept = progress.aside(|| {
        lines.iter().for_each(|line| ctx.out.note(line));
        ctx.out.confirm(doubt, false)
    })?;
    let params = AnswerParams { question: question.question.clone(), accept };
    match client.call::<GuestAnswer>(&params) {
        Err(Error::Told { code, .. }) if code == Code::QuestionNotFound.as_str() => {
            let late = format!("too late: {} has given up, or somebody else answered", question.address);
            progress.aside(|| ctx.out.note(&late));
            Ok(())
        }
        answered => answered.map(|_| ()),
    }
}

/// What to show before the question, and the question.
fn wording(question: &Question) -> (Vec<String>, &'static str) {
    let address = &question.address;
    let hash = question.certificate_hash.as_deref();
    let (what, doubt) = match (question.kind, hash) {
        (QuestionKind::Compare, _) => {
            (format!("A device at {address} compares the certificate hash. It must show this one:"), "Does it?")
        }
        (QuestionKind::Confirm, _) => {
            (format!("The receiver at {address} must show this certificate hash:"), "Does it?")
        }
        (_, Some(_)) => {
            (format!("A device at {address} typed the PIN. It must show this certificate hash:"), "Let it connect?")
        }
        (_, None) => (format!("A device at {address} typed the PIN."), "Let it connect?"),
    };
    let hash = hash.map(view::hash).unwrap_or_default();
    ([vec![what], hash].concat(), doubt)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn window(changes: &Value) -> Window {
        let mut window = json!({
            "window": "w1", "state": "open", "port": 53317, "certificate_hash": "ab".repeat(32), "attempts_left": 3,
        });
        for (key, value) in changes.as_object().unwrap() {
            window[key] = value.clone();
        }
        serde_json::from_value(window).unwrap()
    }

    #[test]
    fn a_window_tells_each_thing_once() {
        let mut door = Door { window: "w1".into(), closed: false, attempts: None, pinged_by: None };
        let pinged = json!({"pinged_by": "10.0.0.2", "attempts_left": 2});
        for (changes, said) in [
            (json!({}), vec![]),
            (json!({"pinged_by": "10.0.0.2"}), vec!["10.0.0.2 compares", "abab", "abab", "abab", "abab"]),
            (pinged.clone(), vec!["attempts left: 2"]),
            (pinged, vec![]),
            (json!({"attempts_left": 0}), vec!["used up"]),
        ] {
            let lines = door.update(window(&changes));
            assert_eq!(lines.len(), said.len(), "{changes}: {lines:?}");
            assert!(lines.iter().zip(said).all(|(line, said)| line.contains(said)), "{changes}: {lines:?}");
            assert!(!door.is_closed());
        }
        door.update(window(&json!({"state": "closed"})));
        assert!(door.is_closed());
    }

    #[test]
    fn a_hash_is_shown_wherever_one_is_to_be_compared() {
        for (kind, hash, lines, doubt) in [
            ("compare", Some("0123456789abcdef"), 2, "Does it?"),
            ("confirm", Some("0123456789abcdef"), 2, "Does it?"),
            ("connect", Some("0123456789abcdef"), 2, "Let it connect?"),
            ("connect", None, 1, "Let it connect?"),
        ] {
            let question = json!({
                "question": "q1", "kind": kind, "state": "open", "address": "10.0.0.2", "certificate_hash": hash, "expires": "e",
            });
            let (shown, asked) = wording(&serde_json::from_value(question).unwrap());
            assert_eq!((shown.len(), asked), (lines, doubt), "{kind}");
            assert!(shown[0].contains("10.0.0.2"), "{shown:?}");
        }
    }
}
