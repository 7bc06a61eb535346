use std::path::Path;

use kith_proto::control::types::Question;
use kith_proto::guest::Qr;
use tokio::sync::{Notify, mpsc};
use tokio::time::{sleep, timeout};

use super::super::{Guests, Opening, Parts};
use super::*;
use crate::dial::Dial;
use crate::discovery::{Discovery, tests::settings};
use crate::event::Events;
use crate::files::write_atomic;
use crate::identity::Identity;
use crate::store::Store;
use crate::task::Tasks;
use crate::tls::Tls;
use crate::trust::Trust;

#[path = "app_tests.rs"]
mod app;
use app::{App, PIN, Reply, Seen, nobody};

/// A device that sends, with files to send.
struct Stage {
    guests: Guests,
    tasks: Tasks,
    dir: tempfile::TempDir,
    _openings: mpsc::Receiver<Opening>,
}

async fn stage(files: &[(&str, usize)]) -> Stage {
    let dir = tempfile::tempdir().unwrap();
    let home = dir.path().join("home");
    std::fs::create_dir(&home).unwrap();
    let (tasks, events) = (Tasks::default(), Events::default());
    let identity = Identity::open(&home, &home.join("kith.db"), "sender", false).unwrap();
    let store = Store::open(&home.join("kith.db")).unwrap();
    let trust = Trust::open(store.clone(), home.join("generation")).await.unwrap();
    let tls = Tls::new(&identity, &trust).unwrap();
    let settings = settings(&home, false);
    let discovery = Discovery::start(&tasks, &events, &trust, &settings, &identity, 1);
    let dial = Dial::start(&tasks, tls, &trust, &discovery, &identity, 1);
    let (guests, _openings) = Guests::start(Parts { settings, discovery, dial, events, store, tasks: tasks.clone() });
    let stage = Stage { guests, tasks, dir, _openings };
    for (name, size) in files {
        stage.write(name, &content(*size));
    }
    stage
}

/// Bytes that differ from each other.
fn content(size: usize) -> Vec<u8> {
    (0..size).map(|at| u8::try_from(at * 7919 % 251).unwrap()).collect()
}

fn pin(pin: &str) -> Pin {
    Pin::parse(pin).unwrap()
}

impl Stage {
    fn files(&self) -> PathBuf {
        self.dir.path().canonicalize().unwrap().join("files")
    }

    fn write(&self, name: &str, content: &[u8]) {
        write(&self.files().join(name), content);
    }

    async fn app(&self, odd: impl Fn(&Seen) -> Option<Reply> + Send + Sync + 'static) -> App {
        App::start(&self.tasks, odd).await
    }

    async fn send(&self, receiver: Receiver) -> Result<Transfer, ApiError> {
        self.guests.send(SendRequest { receiver, paths: vec![self.files()], title: None, caller: None }).await
    }

    /// Sends, and waits for the end.
    async fn sent(&self, receiver: Receiver) -> Transfer {
        let id = self.send(receiver).await.unwrap().id;
        self.end_of(&id).await
    }

    async fn end_of(&self, id: &str) -> Transfer {
        until(|| self.guests.find(id).unwrap().filter(|view| view.state.is_final())).await
    }

    async fn question(&self) -> Question {
        until(|| self.guests.questions().pop()).await
    }

    async fn end(self) {
        assert!(self.tasks.end(Duration::from_secs(5)).await);
        assert_eq!(self.tasks.broken(), None);
    }
}

fn write(path: &Path, content: &[u8]) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    write_atomic(path, content, 0o644).unwrap();
}

async fn until<T>(mut look: impl FnMut() -> Option<T>) -> T {
    let search = async {
        loop {
            match look() {
                Some(found) => return found,
                None => sleep(Duration::from_millis(5)).await,
            }
        }
    };
    timeout(Duration::from_secs(20), search).await.expect("it happens in time")
}

fn typed(app: &App, certificate_hash: Option<CertificateHash>) -> Receiver {
    Receiver::Typed { target: app.address.to_string(), pin: pin(PIN), certificate_hash }
}

fn scanned(app: &App, protocol_version: Option<u32>) -> Receiver {
    Receiver::Scanned(Qr {
        addresses: vec![app.address.ip()],
        port: app.address.port(),
        certificate_hash: app.hash(),
        pin: pin(PIN),
        protocol_version,
    })
}

fn why(view: &Transfer) -> (TransferState, &str) {
    (view.state, view.reason.as_ref().map_or("", |reason| reason.code.as_str()))
}

fn problems(view: &Transfer) -> Vec<(&str, &str)> {
    view.problems.iter().map(|it| (it.path.as_str(), it.reason.as_str())).collect()
}

fn version_1_only(seen: &Seen) -> Option<Reply> {
    seen.path.starts_with("/api/v2/").then(|| Reply::Say(404, String::new()))
}

fn nothing_odd(_: &Seen) -> Option<Reply> {
    None
}

#[tokio::test]
async fn what_was_typed_is_compared_here_while_the_receiver_still_holds_its_answer() {
    let stage = stage(&[("a.txt", 10), ("deep/a.txt", 300_000), ("empty", 0)]).await;
    let held = Arc::new(Notify::new());
    let ping = held.clone();
    let app =
        stage.app(move |seen| (seen.step() == "ping").then(|| Reply::Wait(ping.clone(), 200, String::new()))).await;
    let begun = stage.send(typed(&app, None)).await.unwrap();
    let question = stage.question().await;
    assert_eq!((question.kind, question.address.clone()), (QuestionKind::Confirm, app.address.to_string()));
    assert_eq!(question.certificate_hash, Some(app.hash().to_string()));
    assert_eq!(question.transfer, Some(begun.id.clone()));
    held.notify_one();
    until(|| (app.steps() == ["POST v2/ping"]).then_some(())).await;
    sleep(Duration::from_millis(100)).await;
    assert_eq!(app.steps(), ["POST v2/ping"], "nothing secret before the hash is compared");
    assert_eq!(stage.guests.find(&begun.id).unwrap().unwrap().state, TransferState::Offered);
    stage.guests.answer(&question.question, true).unwrap();

    let view = stage.end_of(&begun.id).await;
    assert_eq!(why(&view), (TransferState::Done, ""));
    assert_eq!(problems(&view), [("files/empty", "empty")]);
    assert_eq!((view.title.as_str(), view.peer.name.clone()), ("files", app.address.to_string()));
    assert_eq!((view.entries, view.entries_done), (2, 2));
    assert_eq!((view.bytes, view.bytes_done), (Some(300_010), 300_010));
    let names: Vec<_> = app.arrived();
    assert_eq!(names, [("a.txt".to_owned(), content(10)), ("a (1).txt".to_owned(), content(300_000))]);
    let steps = ["POST v2/ping", "POST v2/register", "POST v2/prepare-upload", "PUT v2/upload", "PUT v2/upload"];
    until(|| (app.steps().len() == 6).then_some(())).await;
    assert_eq!(app.steps()[..5], steps);
    assert_eq!(app.steps()[5], "POST v2/close-connection");
    let seen = app.seen();
    assert!(seen.iter().all(|it| it.certificate == seen[0].certificate), "one certificate for all");
    app.was_content();
    stage.end().await;
}

#[tokio::test]
async fn without_version_2_and_put_it_goes_as_in_the_seed() {
    let stage = stage(&[("a.png", 10), ("b", 20)]).await;
    let app = stage
        .app(|seen| match seen.method.as_str() {
            "PUT" if seen.body.is_none() => Some(Reply::Say(405, String::new())),
            _ => version_1_only(seen),
        })
        .await;
    let hash = Some(app.hash());
    let view = stage.sent(typed(&app, hash)).await;
    assert_eq!(why(&view), (TransferState::Done, ""));
    let steps = [
        "POST v2/ping",
        "POST v1/ping",
        "POST v1/register",
        "POST v1/prepare-upload",
        "PUT v1/upload",
        "POST v1/upload",
        "POST v1/upload",
    ];
    assert_eq!(app.steps()[..7], steps, "PUT is not tried twice");
    assert_eq!(app.arrived().len(), 2);
    let types = app.seen()[3].json()["files"].clone();
    assert_eq!(
        (types[0]["fileType"].as_str(), types[1]["fileType"].as_str()),
        (Some("image/png"), Some("application/octet-stream"))
    );
    app.was_content();
    stage.end().await;
}

#[tokio::test]
async fn what_was_scanned_needs_no_ping() {
    let stage = stage(&[("a", 10)]).await;
    for (version, odd, first) in [
        (None, nothing_odd as fn(&Seen) -> Option<Reply>, vec!["POST v1/register", "POST v1/prepare-upload"]),
        (Some(2), nothing_odd, vec!["POST v2/register", "POST v2/prepare-upload"]),
        (Some(2), version_1_only, vec!["POST v2/register", "POST v1/register", "POST v1/prepare-upload"]),
    ] {
        let app = stage.app(odd).await;
        let view = stage.sent(scanned(&app, version)).await;
        assert_eq!(why(&view), (TransferState::Done, ""));
        assert_eq!(app.steps()[..first.len()], first);
        app.was_content();
    }
    stage.end().await;
}

#[tokio::test]
async fn of_several_addresses_the_one_with_the_right_certificate_is_taken() {
    let stage = stage(&[("a", 10)]).await;
    let (app, other) = (stage.app(nothing_odd).await, stage.app(nothing_odd).await);
    let dial = &stage.guests.0.dial;
    let addresses = vec![nobody().await, other.address, app.address];
    let door = Door::new(dial.clone(), addresses, Some(app.hash())).unwrap();
    assert_eq!(door.connect().await.unwrap().remote, app.address);
    stage.end().await;
}

#[tokio::test]
async fn a_refusal_says_what_it_means() {
    let stage = stage(&[("a", 10)]).await;
    let big = format!("{{\"sessionId\":\"{}\"}}", "x".repeat(limits::GUEST_ANSWER));
    for (status, body, state, code) in [
        (401, "", TransferState::Failed, "wrong_pin"),
        (403, "", TransferState::Rejected, "rejected"),
        (409, "", TransferState::Failed, "busy"),
        (413, "", TransferState::Failed, "too_large"),
        (429, "", TransferState::Failed, "too_many_attempts"),
        (507, "", TransferState::Failed, "no_space"),
        (404, "", TransferState::Failed, "protocol"),
        (302, "", TransferState::Failed, "protocol"),
        (500, "\x1b[2J", TransferState::Failed, "protocol"),
        (200, "", TransferState::Failed, "protocol"),
        (200, "{\"sessionId\":\"\"}", TransferState::Failed, "protocol"),
        (200, big.as_str(), TransferState::Failed, "protocol"),
    ] {
        let body = body.to_owned();
        let app = stage.app(move |seen| seen.body.is_some().then(|| Reply::Say(status, body.clone()))).await;
        let view = stage.sent(scanned(&app, Some(2))).await;
        assert_eq!(why(&view), (state, code), "{status}");
        let reason = view.reason.unwrap();
        assert!(!format!("{reason:?}").contains(PIN) && !reason.message.contains('\x1b'), "{reason:?}");
        let both = if status == 404 { 2 } else { 1 };
        assert_eq!(app.steps().len(), both, "{status}");
    }
    let app = stage.app(|_| Some(Reply::Raw("SSH-2.0-x\r\n\r\n".to_owned()))).await;
    assert_eq!(why(&stage.sent(scanned(&app, Some(2))).await), (TransferState::Failed, "protocol"));
    stage.end().await;
}

#[tokio::test]
async fn d27_the_pin_goes_to_the_certificate_that_was_compared_and_to_no_other() {
    let stage = stage(&[("a", 10)]).await;
    let no_pin = |app: &App| {
        let said = format!(
            "{:?}",
            app.seen().iter().map(|it| String::from_utf8(it.body.clone().unwrap())).collect::<Vec<_>>()
        );
        assert!(!said.contains(PIN) && !said.contains("register"), "{said}");
    };

    let app = stage.app(nothing_odd).await;
    let wrong = Some(CertificateHash::of(b"another"));
    assert_eq!(why(&stage.sent(typed(&app, wrong)).await), (TransferState::Failed, "wrong_key"));
    assert_eq!(app.steps(), Vec::<String>::new(), "not even a ping");

    let begun = stage.send(typed(&app, None)).await.unwrap();
    let question = stage.question().await;
    stage.guests.answer(&question.question, false).unwrap();
    assert_eq!(why(&stage.end_of(&begun.id).await), (TransferState::Failed, "wrong_key"));
    no_pin(&app);

    let begun = stage.send(typed(&app, None)).await.unwrap();
    let question = stage.question().await;
    app.change_certificate();
    stage.guests.answer(&question.question, true).unwrap();
    assert_eq!(why(&stage.end_of(&begun.id).await), (TransferState::Failed, "wrong_key"));
    no_pin(&app);

    let begun = stage.send(typed(&app, None)).await.unwrap();
    stage.question().await;
    tokio::time::pause();
    tokio::time::advance(session::WELCOME).await;
    tokio::time::resume();
    assert_eq!(why(&stage.end_of(&begun.id).await), (TransferState::Failed, "timed_out"));
    no_pin(&app);

    let app = stage.app(|_| Some(Reply::Say(403, String::new()))).await;
    assert_eq!(why(&stage.sent(typed(&app, None)).await), (TransferState::Rejected, "rejected"));
    assert!(stage.guests.questions().is_empty(), "withdrawn");
    stage.end().await;
}

#[tokio::test]
async fn what_the_receiver_leaves_out_is_not_sent() {
    let stage = stage(&[("a", 10), ("b", 20), ("c", 30)]).await;
    let choose = |names: &'static [&'static str]| {
        move |seen: &Seen| {
            let files = seen.json()["files"].as_array().cloned()?;
            let wanted = files.iter().filter(|it| names.contains(&it["fileName"].as_str().unwrap()));
            // Not in the offer's order, twice, and with one that was never offered.
            let mut answer: Vec<_> = wanted
                .flat_map(|it| [1, 2].map(|_| serde_json::json!({ "id": it["id"], "transmissionId": "t" })))
                .collect();
            answer.insert(0, serde_json::json!({ "id": "x", "transmissionId": "x" }));
            Some(Reply::Say(200, serde_json::json!({ "files": answer }).to_string()))
        }
    };
    let arrive = |seen: &Seen| (seen.step() == "upload" && seen.body.is_some()).then(|| Reply::Say(200, String::new()));

    let some = choose(&["a", "c"]);
    let app = stage.app(move |seen| some(seen).or_else(|| arrive(seen))).await;
    let view = stage.sent(scanned(&app, Some(2))).await;
    assert_eq!(why(&view), (TransferState::Done, ""));
    assert_eq!(problems(&view), [("files/b", "rejected")]);
    assert_eq!((view.entries, view.entries_done), (3, 3));
    let sizes: Vec<_> =
        app.seen().iter().filter(|it| it.step() == "upload").map(|it| it.body.as_ref().unwrap().len()).collect();
    assert_eq!(sizes, [10, 30]);

    let app = stage.app(choose(&[])).await;
    let view = stage.sent(scanned(&app, Some(2))).await;
    assert_eq!(why(&view), (TransferState::Rejected, "rejected"));
    assert!(!app.steps().contains(&"PUT v2/upload".to_owned()));
    stage.end().await;
}

#[tokio::test]
async fn an_answer_before_the_end_of_a_body_is_taken_at_once() {
    let stage = stage(&[("a", 64 << 20)]).await;
    for (status, code, problem) in
        [(413, "too_large", "too_large"), (507, "no_space", "no_space"), (415, "rejected", "type")]
    {
        let app = stage.app(move |seen| (seen.step() == "upload").then(|| Reply::Say(status, String::new()))).await;
        let view = stage.sent(scanned(&app, Some(2))).await;
        assert_eq!(view.reason.as_ref().map(|reason| reason.code.as_str()), Some(code));
        assert_eq!(problems(&view), [("files/a", problem)]);
        assert_eq!(app.steps().iter().filter(|step| step.ends_with("upload")).count(), 2, "prepare and upload, once");
        app.was_content();
    }
    stage.end().await;
}

#[tokio::test]
async fn what_breaks_is_offered_again_under_another_transmission() {
    let stage = stage(&[("a", 100), ("b", 200), ("c", 300)]).await;
    let app = stage
        .app(|seen| match (seen.step(), seen.nth, &seen.body) {
            // The second upload breaks, the third is refused for a reason that may pass.
            ("upload", 1, None) => Some(Reply::Cut),
            ("upload", 2, Some(_)) => Some(Reply::Say(500, String::new())),
            _ => None,
        })
        .await;
    let view = stage.sent(scanned(&app, Some(2))).await;
    assert_eq!((why(&view), problems(&view)), ((TransferState::Done, ""), Vec::new()));
    assert_eq!((view.entries_done, view.bytes_done), (3, 600));
    let offers: Vec<_> = app.seen().iter().filter(|it| it.step() == "prepare-upload").map(Seen::json).collect();
    let counts: Vec<_> = offers.iter().map(|it| it["files"].as_array().unwrap().len()).collect();
    assert_eq!(counts, [3, 2]);
    assert_eq!(offers[0]["sessionId"], offers[1]["sessionId"]);
    assert_eq!(app.arrived().iter().map(|it| it.0.as_str()).collect::<Vec<_>>(), ["a", "b", "c"]);
    app.was_content();

    let app = stage
        .app(|seen| match (seen.step(), seen.nth, &seen.body) {
            ("prepare-upload", 0, Some(_)) => Some(Reply::Cut),
            // No reason to doubt the method, which was right before.
            ("upload", 1, Some(_)) => Some(Reply::Say(404, String::new())),
            _ => None,
        })
        .await;
    assert_eq!(why(&stage.sent(scanned(&app, Some(2))).await), (TransferState::Done, ""));
    let offers = app.seen().iter().filter(|it| it.step() == "prepare-upload").count();
    assert_eq!((offers, app.arrived().len()), (3, 3));
    assert!(!app.steps().contains(&"POST v2/upload".to_owned()));
    app.was_content();

    let app = stage.app(|seen| (seen.step() == "upload" && seen.nth > 0).then_some(Reply::Cut)).await;
    let view = stage.sent(scanned(&app, Some(2))).await;
    assert_eq!(why(&view), (TransferState::Failed, "peer_offline"));
    assert_eq!(problems(&view), [("files/b", "not_sent"), ("files/c", "not_sent")]);
    let offers = app.seen().iter().filter(|it| it.step() == "prepare-upload").count();
    assert_eq!(offers, 3, "within reason");

    let app = stage
        .app(|seen| (seen.step() == "upload" && seen.body.is_some()).then(|| Reply::Say(500, String::new())))
        .await;
    assert_eq!(why(&stage.sent(scanned(&app, Some(2))).await), (TransferState::Failed, "protocol"));
    let offers = app.seen().iter().filter(|it| it.step() == "prepare-upload").count();
    assert_eq!(offers, 1, "nothing got on");
    stage.end().await;
}

#[tokio::test]
async fn a_session_that_is_over_in_the_middle_is_not_asked_again() {
    let stage = stage(&[("a", 10), ("b", 20), ("c", 30)]).await;
    let app = stage.app(|seen| (seen.step() == "upload" && seen.nth > 0).then(|| Reply::Say(401, String::new()))).await;
    let view = stage.sent(scanned(&app, Some(2))).await;
    assert_eq!(why(&view), (TransferState::Failed, "protocol"));
    assert_eq!(problems(&view), [("files/b", "not_sent"), ("files/c", "not_sent")]);
    let steps = ["POST v2/register", "POST v2/prepare-upload", "PUT v2/upload", "PUT v2/upload"];
    assert_eq!(app.steps()[..4], steps);
    assert_eq!(app.steps()[4..], ["POST v2/close-connection"]);

    // After the last file it is no problem at all.
    let app = stage.app(|seen| (seen.step() == "close-connection").then(|| Reply::Say(401, String::new()))).await;
    assert_eq!(why(&stage.sent(scanned(&app, Some(2))).await), (TransferState::Done, ""));
    stage.end().await;
}

#[tokio::test]
async fn a_receiver_that_restarts_after_register_is_waited_for() {
    let stage = stage(&[("a", 10)]).await;
    let app = stage
        .app(|seen| {
            let answer = || Reply::Restart(200, "{\"sessionId\":\"s/1+ä&x=\"}".to_owned());
            (seen.step() == "register" && seen.body.is_some()).then(answer)
        })
        .await;
    assert_eq!(why(&stage.sent(scanned(&app, Some(2))).await), (TransferState::Done, ""));
    assert_eq!(app.arrived().len(), 1);
    app.was_content();
    stage.end().await;
}

#[tokio::test]
async fn what_changed_since_it_was_hashed_does_not_arrive() {
    let stage = stage(&[("a", 10), ("b", 40 << 20), ("c", 10)]).await;
    let files = stage.files();
    let app = stage
        .app(move |seen| {
            match (seen.step(), seen.nth, &seen.body) {
                ("prepare-upload", _, Some(_)) => write(&files.join("a"), b"other"),
                // The first upload is that of b: it is on its way, and cannot be through yet.
                ("upload", 0, None) => {
                    let b = std::fs::File::options().append(true).open(files.join("b")).unwrap();
                    b.set_len(41 << 20).unwrap();
                }
                _ => (),
            }
            None
        })
        .await;
    let view = stage.sent(scanned(&app, Some(2))).await;
    assert_eq!(why(&view), (TransferState::Done, ""));
    assert_eq!(problems(&view), [("files/a", "changed"), ("files/b", "changed")]);
    assert_eq!(app.arrived().iter().map(|it| it.0.as_str()).collect::<Vec<_>>(), ["c"]);
    app.was_content();
    stage.end().await;
}

#[tokio::test]
async fn who_calls_it_off_says_goodbye() {
    let stage = stage(&[("a", 10)]).await;
    let never = Arc::new(Notify::new());
    let app = stage
        .app(move |seen| {
            (seen.step() == "upload" && seen.body.is_some()).then(|| Reply::Wait(never.clone(), 200, String::new()))
        })
        .await;
    let begun = stage.send(scanned(&app, Some(2))).await.unwrap();
    until(|| app.steps().iter().any(|step| step.ends_with("/upload")).then_some(())).await;
    assert_eq!(stage.guests.find(&begun.id).unwrap().unwrap().state, TransferState::Active);
    assert_eq!(stage.guests.cancel(&begun.id).unwrap().state, TransferState::Canceled);
    until(|| (app.steps().last().unwrap() == "POST v2/close-connection").then_some(())).await;
    assert_eq!(why(&stage.guests.find(&begun.id).unwrap().unwrap()), (TransferState::Canceled, ""));
    stage.end().await;
}

#[tokio::test]
async fn what_cannot_begin_is_answered_at_once() {
    let stage = stage(&[("empty", 0)]).await;
    let to = |target: &str| Receiver::Typed { target: target.to_owned(), pin: pin(PIN), certificate_hash: None };
    let request = |receiver, path: &str| SendRequest {
        receiver,
        paths: vec![stage.files().join(path)],
        title: Some(" ".to_owned()),
        caller: None,
    };
    for (target, path, code) in [
        ("[", "empty", "invalid_param"),
        ("127.0.0.1:0", "empty", "invalid_param"),
        ("127.0.0.1", "none", "file_not_found"),
        ("127.0.0.1", "empty", "file_not_found"),
    ] {
        let error = stage.guests.send(request(to(target), path)).await.unwrap_err();
        assert_eq!(error.code.as_str(), code, "{target} {path}");
    }
    assert!(stage.guests.all().is_empty());

    stage.write("a", b"a");
    let nobody = nobody().await.to_string();
    let begun = stage.guests.send(request(to(&nobody), "a")).await.unwrap();
    assert_eq!(begun.title, "a", "a blank title is none");
    assert_eq!(why(&stage.end_of(&begun.id).await), (TransferState::Failed, "peer_offline"));
    stage.end().await;
}

#[tokio::test]
async fn a_target_without_a_port_means_both() {
    let stage = stage(&[]).await;
    let sending = Sending {
        engine: stage.guests.0.clone(),
        id: String::new(),
        title: String::new(),
        reader: Reader::own(),
        called_off: CancellationToken::new(),
    };
    for (target, found) in [
        ("192.0.2.1", vec!["192.0.2.1:53317", "192.0.2.1:53320"]),
        ("fd00::1", vec!["[fd00::1]:53317", "[fd00::1]:53320"]),
        ("192.0.2.1:53317", vec!["192.0.2.1:53317"]),
        ("[fd00::1]:7", vec!["[fd00::1]:7"]),
    ] {
        let addresses = sending.resolve(target).await.unwrap();
        assert_eq!(addresses.iter().map(ToString::to_string).collect::<Vec<_>>(), found);
    }
    stage.end().await;
}
