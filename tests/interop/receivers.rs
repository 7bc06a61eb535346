//! Receivers with the habits of each of Tella's apps (`tella/receiver.py`), and what `kithctl send` makes of them.

use std::fs;
use std::path::PathBuf;

use kith_tests::host::Host;
use kith_tests::process::{Output, Running};
use kith_tests::{PATIENCE, wait};
use serde_json::{Value, json};

use crate::tella::{P256, assert_arrived, certificate, files, programs, script};

/// A receiver of one of the apps, on this machine.
struct App {
    running: Running,
    port: u64,
    hash: String,
    qr: String,
    dir: PathBuf,
    heard: Vec<Value>,
}

impl App {
    #[track_caller]
    fn start(host: &Host, app: &str, more: &[&str]) -> Self {
        let dir = host.path(&format!("app-{app}-{}", more.join("")));
        fs::create_dir_all(&dir).expect("the home is ours");
        let (certificate, key) = certificate(host, app, P256);
        let mut receiver = script("receiver.py");
        receiver.args(["--app", app, "--pin", "482913"]).arg("--cert").arg(certificate).arg("--key").arg(key);
        let mut running = Running::spawn(receiver.arg("--dir").arg(&dir).args(more));
        let shown = running.json_line(PATIENCE);
        let text = |key: &str| shown[key].as_str().expect("a text").to_owned();
        let port = shown["port"].as_u64().expect("a port");
        Self { port, hash: text("hash"), qr: text("qr"), running, dir, heard: Vec::new() }
    }

    /// `kithctl send` to it, by what is typed.
    #[track_caller]
    fn typed(&self, host: &Host, paths: &[PathBuf]) -> Output {
        let to = format!("127.0.0.1:{}", self.port);
        self.send(host, &["--to", &to, "--pin", "482913", "--hash", &self.hash], paths)
    }

    /// `kithctl send` to it, by what is scanned.
    #[track_caller]
    fn scanned(&self, host: &Host, paths: &[PathBuf]) -> Output {
        self.send(host, &["--qr", &self.qr], paths)
    }

    #[track_caller]
    fn send(&self, host: &Host, whom: &[&str], paths: &[PathBuf]) -> Output {
        let paths: Vec<&str> = paths.iter().map(|path| path.to_str().expect("UTF-8")).collect();
        Running::spawn(&mut host.ctl_command(&[&["send", "--json"], whom, &paths].concat())).finish(2 * PATIENCE)
    }

    /// The steps that it was asked for so far, each with its status. It had nothing to complain of.
    #[track_caller]
    fn steps(&mut self, last: &str) -> Vec<String> {
        let mut steps = Vec::new();
        loop {
            let heard = self.running.json_line(PATIENCE);
            assert!(heard["complaint"].is_null(), "{heard} after {:?}", self.heard);
            if let Some(step) = heard["step"].as_str() {
                steps.push(format!("{} {step} {}", heard["method"].as_str().unwrap_or_default(), heard["status"]));
            }
            self.heard.push(heard);
            if steps.last().is_some_and(|step| step.contains(last)) {
                return steps;
            }
        }
    }
}

#[track_caller]
fn done(output: Output, count: u64) {
    let last = output.ok().json();
    assert_eq!((&last["state"], &last["entries_done"]), (&json!("done"), &json!(count)), "{last}");
}

#[test]
fn we_send_to_every_app_by_pin_and_hash_and_by_qr() {
    if !programs() {
        return;
    }
    let host = Host::running("anna");
    let files = files(&host);
    for app in ["ios", "android", "desktop", "seed", "old-ios"] {
        for (scanned, more) in [(false, &[][..]), (true, &["--tls12"][..])] {
            let mut receiver = App::start(&host, app, more);
            let output = if scanned { receiver.scanned(&host, &files) } else { receiver.typed(&host, &files) };
            assert_eq!(output.status, 0, "{app}: {}{}", output.stdout, output.stderr);
            done(output, 3);
            assert_arrived(&receiver.dir, &files);
            let put = if app == "seed" { "POST upload 200" } else { "PUT upload 200" };
            let steps: Vec<String> = (0..3).flat_map(|_| receiver.steps(" upload 200")).collect();
            assert_eq!(steps.iter().filter(|step| *step == put).count(), 3, "{app}: {steps:?}");
        }
    }
}

#[test]
fn a_version_that_is_refused_leads_to_the_older_one() {
    if !programs() {
        return;
    }
    let host = Host::running("anna");
    for other in ["404", "406"] {
        let mut receiver = App::start(&host, "seed", &["--other", other]);
        let sent = files(&host);
        done(receiver.typed(&host, &sent[2..]), 1);
        let steps = receiver.steps("close-connection");
        assert_eq!(steps[0], format!("POST ping {other}"), "the newer one is tried first");
        assert_eq!(steps[1], "POST ping 200");
        assert_arrived(&receiver.dir, &sent[2..]);
    }
}

#[test]
fn another_certificate_than_expected_is_told_nothing() {
    if !programs() {
        return;
    }
    let host = Host::running("anna");
    let mut receiver = App::start(&host, "ios", &[]);
    let wrong = "0".repeat(64);
    let to = format!("127.0.0.1:{}", receiver.port);
    let output = receiver.send(&host, &["--to", &to, "--pin", "482913", "--hash", &wrong], &files(&host));
    assert_eq!(output.status, 1, "{output:?}");
    assert_eq!(output.error()["error"]["code"], "wrong_key", "{output:?}");
    let qr = receiver.qr.replace(&receiver.hash, &wrong);
    let output = receiver.send(&host, &["--qr", &qr], &files(&host));
    assert_eq!(output.error()["error"]["code"], "wrong_key", "{output:?}");
    // Nothing of a request was said.
    let heard = receiver.running.json_line(PATIENCE);
    assert!(heard["hung_up"].is_string(), "{heard}");
    assert_eq!(fs::read_dir(&receiver.dir).expect("a directory").count(), 0);
}

#[test]
fn directories_are_taken_apart_and_empty_files_left_out() {
    if !programs() {
        return;
    }
    let host = Host::running("anna");
    let trip = host.path("trip");
    fs::create_dir_all(trip.join("day/one")).expect("the home is ours");
    for (name, content) in [("a.txt", "a"), ("day/b.txt", "b"), ("day/one/c.txt", "c"), ("empty.txt", "")] {
        fs::write(trip.join(name), content).expect("the home is ours");
    }
    let receiver = App::start(&host, "android", &[]);
    let output = receiver.typed(&host, std::slice::from_ref(&trip));
    // Done but for what was left out, which is said.
    let last = output.clone().expect(1).json();
    assert_eq!((&last["state"], output.error()["error"]["code"].as_str()), (&json!("done"), Some("incomplete")));
    assert_eq!(last["problems"], json!([{ "path": "trip/empty.txt", "reason": "empty" }]));
    assert_arrived(&receiver.dir, &[trip.join("a.txt"), trip.join("day/b.txt"), trip.join("day/one/c.txt")]);
}

#[test]
fn a_failed_upload_is_offered_again_under_a_new_permission() {
    if !programs() {
        return;
    }
    let host = Host::running("anna");
    for (app, failure) in [("ios", "upload:500"), ("android", "received:406"), ("desktop", "received:500")] {
        let mut receiver = App::start(&host, app, &["--fail", failure]);
        let files = files(&host);
        let output = receiver.typed(&host, &files);
        assert_eq!(output.status, 0, "{app} {failure}: {}{}", output.stdout, output.stderr);
        assert_arrived(&receiver.dir, &files);
        let mut steps = Vec::new();
        wait::until_true("the last upload", PATIENCE, || {
            steps.extend(receiver.steps(" upload 200"));
            steps.iter().filter(|step| *step == "PUT upload 200").count() == 3
        });
        assert_eq!(steps.iter().filter(|step| *step == "POST prepare-upload 200").count(), 2, "{steps:?}");
        assert_eq!(steps.iter().filter(|step| *step == "POST register 200").count(), 1, "{steps:?}");
    }
}

#[test]
fn what_a_receiver_refuses_with_is_said_in_words() {
    if !programs() {
        return;
    }
    let host = Host::running("anna");
    for (failure, code) in [
        ("ping:403", "rejected"),
        ("register:401", "wrong_pin"),
        ("register:403", "rejected"),
        ("register:409", "busy"),
        ("register:429", "too_many_attempts"),
        ("register:500", "protocol"),
        ("prepare-upload:403", "rejected"),
        ("prepare-upload:413", "too_large"),
        ("prepare-upload:507", "no_space"),
    ] {
        let receiver = App::start(&host, "ios", &["--fail", failure]);
        let output = receiver.typed(&host, &files(&host));
        assert_ne!(output.status, 0, "{failure}: {output:?}");
        assert_eq!(output.error()["error"]["code"], code, "{failure}: {output:?}");
        assert_eq!(fs::read_dir(&receiver.dir).expect("a directory").count(), 0);
    }
}

#[test]
fn e40_a_redirect_is_not_followed_and_a_proxy_is_not_asked() {
    if !programs() {
        return;
    }
    let mut host = Host::new("anna");
    // Where nobody listens: whoever asks a proxy gets nowhere.
    for name in ["http_proxy", "https_proxy", "all_proxy"] {
        host.set_env(name, "http://127.0.0.1:9");
        host.set_env(&name.to_uppercase(), "http://127.0.0.1:9");
    }
    host.start();
    let elsewhere = App::start(&host, "ios", &[]);
    let location = format!("https://127.0.0.1:{}/api/v2/register", elsewhere.port);
    let mut receiver = App::start(&host, "ios", &["--fail", "register:307", "--location", &location]);
    let output = receiver.typed(&host, &files(&host));
    assert_eq!(output.status, 1, "{output:?}");
    assert_eq!(output.error()["error"]["code"], "protocol", "{output:?}");
    assert_eq!(receiver.steps("register"), ["POST ping 200", "POST register 307"]);
    // The next one is sent straight to where it belongs, which has heard of nothing before.
    let mut elsewhere = elsewhere;
    done(elsewhere.typed(&host, &files(&host)), 3);
    assert_eq!(elsewhere.steps("register"), ["POST ping 200", "POST register 200"]);
}
