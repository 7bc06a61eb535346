//! Tella's apps, written anew from the protocol's description with the habits that each of them has (`tella/*.py`), and
//! curl: against our guest door, and as receivers for `kithctl send`.
//!
//! Needs `python3`, `curl` and `openssl`; `KITH_REQUIRE=tella` turns a skip into a failure.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use kith_tests::binaries::workspace;
use kith_tests::guest::{Window, sha256};
use kith_tests::host::Host;
use kith_tests::process::{Output, Running, run};
use kith_tests::random::Random;
use kith_tests::{PATIENCE, require};
use serde_json::{Value, json};

const PROGRAMS: [&str; 3] = ["python3", "curl", "openssl"];

/// Whether everything is there.
pub fn programs() -> bool {
    let missing: Vec<_> = PROGRAMS.into_iter().filter(|program| require::program(program).is_none()).collect();
    if !missing.is_empty() {
        require::skip("tella", &format!("not installed: {}", missing.join(", ")));
    }
    missing.is_empty()
}

fn program(name: &str) -> Command {
    let mut command = Command::new(require::program(name).expect("it was looked for"));
    // A proxy is nobody's way in a LAN.
    command.env("NO_PROXY", "*").env("PYTHONDONTWRITEBYTECODE", "1");
    command
}

pub fn script(name: &str) -> Command {
    let mut python = program("python3");
    python.arg(workspace().join("tests/interop/tella").join(name));
    python
}

/// A self-signed certificate as an app makes it, and its key.
#[track_caller]
pub fn certificate(host: &Host, name: &str, kind: &[&str]) -> (PathBuf, PathBuf) {
    let (certificate, key) = (host.path(&format!("{name}.pem")), host.path(&format!("{name}.key")));
    let mut openssl = program("openssl");
    openssl.args(["req", "-x509", "-nodes", "-days", "365", "-subj", "/CN=tella"]).args(kind);
    run(openssl.arg("-out").arg(&certificate).arg("-keyout").arg(&key), PATIENCE).ok();
    (certificate, key)
}

pub const P256: &[&str] =
    &["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-addext", "subjectAltName=IP:127.0.0.1"];
pub const RSA: &[&str] = &["-newkey", "rsa:2048"];

/// Three files below the home of `host`, one of them large.
pub fn files(host: &Host) -> Vec<PathBuf> {
    let dir = host.path("outgoing");
    fs::create_dir_all(&dir).expect("the home is ours");
    let mut random = Random::seeded(4);
    let mut make = |name: &str, size: usize| {
        fs::write(dir.join(name), random.bytes(size)).expect("the home is ours");
        dir.join(name)
    };
    vec![make("IMG_0001.jpg", 3_000_001), make("report.pdf", 70_000), make("letter.txt", 12)]
}

/// Whether `dir` holds these files, under these names.
#[track_caller]
pub fn assert_arrived(dir: &Path, sent: &[PathBuf]) {
    let digest = |path: &Path| sha256(&fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display())));
    for path in sent {
        let found = dir.join(path.file_name().expect("a name"));
        assert_eq!(digest(&found), digest(path), "{}", found.display());
    }
    assert_eq!(fs::read_dir(dir).expect("a directory").count(), sent.len());
}

/// Sends `files` to a window of `host`, which is empty otherwise, as an app does.
#[track_caller]
fn app_sends(host: &Host, app: &str, version: u32, more: &[&str]) {
    let into = host.path(&format!("guests-{app}-{version}-{}", more.len()));
    let window = Window::with(host, &json!({ "accept": true, "dir": into }));
    let files = files(host);
    let mut sender = script("sender.py");
    sender.args(["--app", app, "--version", &version.to_string(), "--port", &window.port.to_string()]);
    sender.args(["--pin", &window.pin, "--hash", &window.hash]).args(more).args(&files);
    let output = run(&mut sender, PATIENCE);
    assert_eq!(output.status, 0, "{app} v{version} {more:?}: {}{}", output.stdout, output.stderr);
    assert_arrived(&into, &files);
    window.close();
}

#[test]
fn every_app_sends_to_our_door_in_both_versions() {
    if !programs() {
        return;
    }
    let host = Host::running("anna");
    let own = certificate(&host, "app", P256);
    let old = certificate(&host, "old", RSA);
    let shown = |(certificate, key): &(PathBuf, PathBuf)| {
        let text = |path: &Path| path.to_str().expect("UTF-8").to_owned();
        ["--cert".to_owned(), text(certificate), "--key".to_owned(), text(key)]
    };
    let own = shown(&own);
    let own: Vec<&str> = own.iter().map(String::as_str).collect();
    let old = shown(&old);
    let old: Vec<&str> = old.iter().map(String::as_str).collect();
    for app in ["ios", "android", "desktop"] {
        app_sends(&host, app, 2, &own);
        app_sends(&host, app, 1, &[]);
    }
    app_sends(&host, "seed", 1, &[]);
    // Before Android 10 there is no TLS 1.3; some apps still have RSA keys; a certificate in version 1 is no harm.
    app_sends(&host, "android", 2, &[own.as_slice(), &["--tls12"]].concat());
    app_sends(&host, "android", 1, &["--tls12"]);
    app_sends(&host, "desktop", 2, &[old.as_slice(), &["--host", "127.0.0.2"]].concat());
    app_sends(&host, "ios", 1, &own);
}

#[test]
fn an_app_meets_a_person_who_decides() {
    if !programs() {
        return;
    }
    let host = Host::running("anna");
    let window = Window::asking(&host);
    let files = files(&host);
    let (certificate, key) = certificate(&host, "app", P256);
    let mut sender = script("sender.py");
    sender.args(["--app", "ios", "--version", "2", "--port", &window.port.to_string()]).arg("--cert").arg(certificate);
    sender.arg("--key").arg(key).args(["--pin", &window.pin, "--hash", &window.hash]).args(&files);
    let running = Running::spawn(&mut sender);
    for kind in ["compare", "connect"] {
        kith_tests::guest::answer(&host, kind, true);
    }
    let offer = kith_tests::guest::decide(&host, true);
    assert_eq!((&offer["title"], &offer["entries"]), (&json!("A report / with a slash"), &json!(3)));
    running.finish(PATIENCE).ok();
    assert_arrived(&window.dir, &files);
}

/// curl, which pins the certificate by its public key only: here the hash is compared by hand, as the README says.
#[track_caller]
fn curl(window: &Window, arguments: &[&str]) -> Output {
    let mut curl = program("curl");
    curl.args(["--silent", "--show-error", "--insecure", "--fail-with-body", "--noproxy", "*"]).args(arguments);
    assert_eq!(window.hash.len(), 64);
    run(&mut curl, PATIENCE)
}

#[test]
fn a_stranger_with_curl_sends_a_file() {
    if !programs() {
        return;
    }
    let host = Host::running("anna");
    let window = Window::open(&host);
    let base = format!("https://127.0.0.1:{}/api/v1", window.port);
    // The hash, as a stranger reads it off the wire.
    let mut openssl = program("openssl");
    openssl.args(["s_client", "-connect", &format!("127.0.0.1:{}", window.port), "-showcerts"]);
    let shown = run(&mut openssl, PATIENCE).stdout;
    let pem = host.path("shown.pem");
    fs::write(&pem, &shown).expect("the home is ours");
    let mut fingerprint = program("openssl");
    let said = run(fingerprint.args(["x509", "-noout", "-fingerprint", "-sha256", "-in"]).arg(&pem), PATIENCE).ok();
    let hash = said.stdout.trim().rsplit('=').next().expect("a fingerprint").replace(':', "").to_lowercase();
    assert_eq!(hash, window.hash);
    // What the apps look at: the kind of key, what it is for, every address that is shown, a clock that is a day off.
    let mut openssl = program("openssl");
    let said = run(openssl.args(["x509", "-noout", "-text", "-checkend", "86400", "-in"]).arg(&pem), PATIENCE).ok();
    assert!(said.stdout.contains("NIST CURVE: P-256") && said.stdout.contains("TLS Web Server Authentication"));
    for address in window.qr["ip_address"].as_array().expect("an array").iter().filter_map(Value::as_str) {
        let mut openssl = program("openssl");
        let check = run(openssl.args(["x509", "-noout", "-checkip", address, "-in"]).arg(&pem), PATIENCE).ok();
        assert!(check.stdout.contains("does match certificate"), "{address}: {}", check.stdout);
    }
    let yesterday = run(program("date").args(["--utc", "--date", "yesterday 23:59:59", "+%s"]), PATIENCE).ok();
    let mut openssl = program("openssl");
    openssl.args(["verify", "-attime", yesterday.stdout.trim(), "-CAfile"]).arg(&pem).arg(&pem);
    run(&mut openssl, PATIENCE).ok();
    let pages = [format!("{base}/register"), format!("{base}/prepare-upload"), format!("{base}/close-connection")];
    let post = |page: &str, body: Value| {
        let body = body.to_string();
        curl(&window, &["--header", "Content-Type: application/json", "--data", &body, page]).ok().json()
    };
    let session = post(&pages[0], json!({ "pin": window.pin, "nonce": "1" }))["sessionId"].clone();
    let session = session.as_str().expect("a session");
    for (i, (path, how)) in files(&host).iter().zip(["--upload-file", "--data-binary", "--upload-file"]).enumerate() {
        let name = path.file_name().and_then(|name| name.to_str()).expect("UTF-8");
        let size = fs::metadata(path).expect("it is there").len();
        // curl's own ways: Expect for what is long, a form's type for what is posted.
        let files =
            json!([{ "id": "1", "fileName": name, "size": size }, { "id": "2", "fileName": "never", "size": 1 }]);
        let accepted = post(&pages[1], json!({ "title": "t", "sessionId": session, "files": files }));
        let transmission = accepted["files"].as_array().expect("files").iter().find(|file| file["id"] == "1");
        let transmission = transmission.and_then(|it| it["transmissionId"].as_str()).expect("a permission");
        let page = format!("{base}/upload?sessionId={session}&fileId=1&transmissionId={transmission}");
        let content = if how == "--data-binary" { format!("@{}", path.display()) } else { path.display().to_string() };
        assert_eq!(curl(&window, &[how, &content, &page]).ok().json(), json!({ "success": true }), "{i}");
        let again = curl(&window, &[how, &content, &page]);
        assert!(again.status == 22 && again.json()["error"].is_string(), "{again:?}");
    }
    assert_eq!(post(&pages[2], json!({ "sessionId": session })), json!({ "success": true }));
    assert_arrived(&window.dir, &files(&host));
}
