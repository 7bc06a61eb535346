//! With the app's own ways, in Python: `tests/interop/psi`. Where there is no `python3` or `openssl`, nothing is tested.

use super::*;

/// A program that is ended with the test.
struct Program(Child);

impl Program {
    fn start(script: &str, device: &Device, arguments: &[&str]) -> Self {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/interop/psi").join(script);
        let mut command = Command::new("python3");
        command.arg(path).args(["--udp-port", &device.port.to_string()]).args(arguments);
        command.env("PYTHONDONTWRITEBYTECODE", "1").stdin(Stdio::piped()).stdout(Stdio::piped());
        Self(command.spawn().unwrap())
    }

    /// What it said until its end, and how it ended.
    async fn said(mut self, tasks: &Tasks) -> (Vec<Value>, Option<i32>) {
        let reading = tasks.blocking(move || {
            let mut said = String::new();
            let mut stdout = self.0.stdout.take().unwrap();
            std::io::Read::read_to_string(&mut stdout, &mut said).unwrap();
            (said, self.0.wait().unwrap().code())
        });
        let (said, status) = timeout(LONG, reading).await.expect("an end in time");
        (said.lines().map(|line| serde_json::from_str(line).unwrap()).collect(), status)
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn is_there(program: &str) -> bool {
    let there = Command::new(program).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok();
    if !there {
        eprintln!("skipped: {program} is not installed");
    }
    there
}

const P256: &[&str] = &["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"];
const RSA: &[&str] = &["-newkey", "rsa:2048"];

/// A self-signed certificate as an app makes it, and its key.
fn certificate(dir: &Path, kind: &[&str]) -> (PathBuf, PathBuf) {
    let (certificate, key) = (dir.join("app.pem"), dir.join("app.key"));
    let mut openssl = Command::new("openssl");
    openssl.args(["req", "-x509", "-nodes", "-days", "1", "-subj", "/CN=localhost"]).args(kind);
    openssl.arg("-out").arg(&certificate).arg("-keyout").arg(&key).stderr(Stdio::null());
    assert!(openssl.status().unwrap().success());
    (certificate, key)
}

fn app(device: &Device, kind: &[&str], digits: &str, more: &[&str]) -> Program {
    let (certificate, key) = certificate(device.dir.path(), kind);
    let (certificate, key) = (certificate.to_str().unwrap(), key.to_str().unwrap());
    Program::start("receiver.py", device, &[&["--code", digits, "--cert", certificate, "--key", key], more].concat())
}

/// We send to an app with these habits, which gets all of it.
async fn delivers(kind: &[&str], habits: &[&str]) {
    if !is_there("python3") || !is_there("openssl") {
        return;
    }
    let device = Device::new().await;
    let receiver = app(&device, kind, "0042", habits);
    let sent = device.send("0042").await;
    assert!(sent.as_ref().is_ok_and(std::net::IpAddr::is_loopback), "{habits:?}: {sent:?}");
    let (said, status) = receiver.said(&device.tasks).await;
    let asked: Vec<_> = said.iter().filter_map(|line| line["path"].as_str()).collect();
    assert_eq!((asked, status), (vec![HASH, PAYLOAD], Some(0)), "{habits:?}: {said:?}");
    assert!(said.iter().all(|line| line["sni"].is_null()), "{said:?}");
    assert_eq!(said.last().unwrap()["payload"], wire());
    device.end().await;
}

#[tokio::test]
async fn we_deliver_to_an_app_with_an_rsa_key() {
    delivers(RSA, &[]).await;
}

#[tokio::test]
async fn we_deliver_to_an_app_that_answers_in_chunks() {
    delivers(P256, &["--habit", "chunked"]).await;
}

#[tokio::test]
async fn we_deliver_to_an_app_that_hangs_up_after_each_answer() {
    delivers(P256, &["--habit", "one-shot", "--habit", "abrupt", "--tls12"]).await;
}

#[tokio::test]
async fn we_deliver_to_an_app_whose_answers_end_with_the_connection() {
    delivers(P256, &["--habit", "endless", "--habit", "abrupt"]).await;
}

/// We send to an app with these habits, which gets nothing.
async fn fails(digits: &str, habits: &[&str], code: Code) {
    if !is_there("python3") || !is_there("openssl") {
        return;
    }
    let device = Device::new().await;
    let receiver = app(&device, P256, "0042", &[&["--seconds", "7"], habits].concat());
    let error = device.send(digits).await.unwrap_err();
    assert_eq!(error.code, code, "{habits:?}: {error:?}");
    assert!(error.hint.is_some() || error.code == Code::Protocol);
    let (said, _) = receiver.said(&device.tasks).await;
    assert!(!said.iter().any(|line| line["method"] == "POST"), "nothing was sent: {said:?}");
    device.end().await;
}

#[tokio::test]
async fn an_app_with_another_code_is_sent_nothing() {
    fails("0043", &[], Code::WrongPin).await;
}

#[tokio::test]
async fn an_app_that_is_late_is_sent_nothing() {
    fails("0042", &["--habit", "late"], Code::TimedOut).await;
}

#[tokio::test]
async fn what_hangs_up_is_sent_nothing() {
    fails("0042", &["--habit", "crash"], Code::PeerOffline).await;
}

#[tokio::test]
async fn what_is_no_app_is_sent_nothing() {
    fails("0042", &["--habit", "garbage"], Code::Protocol).await;
}

/// An app with these habits sends to us.
async fn sends(habits: &[&str], digits: &str, status: i32) {
    if !is_there("python3") {
        return;
    }
    let device = Device::new().await;
    let mut sender = Program::start("sender.py", &device, &[&["--code", digits], habits].concat());
    sender.0.stdin.take().unwrap().write_all(wire().to_string().as_bytes()).unwrap();
    let saying = sender.said(&device.tasks);
    if status == 0 {
        let (received, (said, ended)) = tokio::join!(device.receive("0042"), saying);
        assert_eq!(ended, Some(0), "{habits:?}: {said:?}");
        assert_whole(&received.unwrap().0);
        assert_eq!(
            said.last().unwrap(),
            &json!({ "status": 200, "body": { "success": true }, "type": "application/json" })
        );
    } else {
        tokio::select! {
            received = device.receive("0042") => panic!("{received:?}"),
            (said, ended) = saying => assert_eq!(ended, Some(status), "{habits:?}: {said:?}"),
        }
    }
    device.end().await;
}

#[tokio::test]
async fn an_app_delivers_to_us_in_one_connection() {
    sends(&["--habit", "polite"], "0042", 0).await;
}

#[tokio::test]
async fn an_app_delivers_to_us_in_two_connections() {
    sends(&["--habit", "two", "--tls12"], "0042", 0).await;
}

#[tokio::test]
async fn an_app_delivers_to_us_in_chunks() {
    sends(&["--habit", "chunked"], "0042", 0).await;
}

#[tokio::test]
async fn an_app_with_another_code_delivers_nothing() {
    sends(&[], "0043", 4).await;
}

#[tokio::test]
async fn an_app_that_writes_the_hash_in_another_way_is_refused() {
    sends(&["--habit", "upper"], "0042", 5).await;
}
