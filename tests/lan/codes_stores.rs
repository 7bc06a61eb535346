//! Codes whose issuer is away: the payload waits in a store on a third host, and the join for the issuer.

use kith_tests::host::Host;
use kith_tests::lab::Lab;
use kith_tests::process::Running;
use kith_tests::{PATIENCE, binaries, require, wait};
use serde_json::json;

use crate::codes::{NOTES, begin_notes, code_of, issue, join, text, wait_entries, wait_join};

/// Waits until the payload of a code is where it is to be.
#[track_caller]
fn wait_published(host: &Host, id: &str) {
    wait::until_true("a payload to be published", PATIENCE, || {
        code_of(host, id)["publications"][0]["state"] == "published"
    });
}

/// The issuer makes a code and goes; the other one finds what it is for, waits, and is let in when the issuer is back.
#[track_caller]
fn joins_while_the_issuer_is_away(anna: &mut Host, bert: &mut Host) {
    begin_notes(anna);
    let issued = issue(anna, &[]);
    wait_published(anna, text(&issued["id"]));
    let id = anna.id();
    anna.stop();
    bert.wait_peer_gone(&id);
    let (pending, status) = join(bert, text(&issued["code"]), &[]);
    assert_eq!((&pending["result"], status), (&json!("issuer_unreachable"), 7), "{pending}");
    assert_eq!(pending["resource"]["name"], NOTES);
    bert.kill9();
    bert.start();
    assert_eq!(wait_join(bert, "pending")["join"], pending["join"], "it outlives the daemon");
    anna.start();
    assert_eq!(wait_join(bert, "joined")["join"], pending["join"]);
    wait_entries(bert, &["of anna"]);
    assert_eq!(code_of(anna, text(&issued["id"]))["used"], 1);
    // Used up: it is taken away again.
    wait::until_true("the payload to be withdrawn", PATIENCE, || {
        code_of(anna, text(&issued["id"]))["publications"][0]["state"] == "withdrawn"
    });
}

#[test]
fn a_neighbour_keeps_the_payload() {
    let Some(lab) = Lab::new(3) else { return };
    let mut cleo = Host::on(&lab, 3, "cleo");
    cleo.configure("[hello]\nserve = true\n");
    cleo.start();
    let status =
        wait::until("the hello door", PATIENCE, || Some(cleo.status()).filter(|it| it["hello_port"] != json!(null)));
    let (port, hash) = (&status["hello_port"], text(&status["hello_certificate_hash"]));
    let mut anna = Host::on(&lab, 1, "anna");
    anna.configure(&format!("[hello]\nstores = [\"https://{}:{port}#{hash}\"]\n", lab.ip(3)));
    anna.start();
    // It knows of no store, and asks whoever is near.
    let mut bert = Host::on(&lab, 2, "bert");
    bert.start();
    bert.wait_peer(&cleo.id(), |peer| peer["online"] == true);
    joins_while_the_issuer_is_away(&mut anna, &mut bert);
}

/// RFC 7468.
fn pem(what: &str, der: &[u8]) -> String {
    let text = data_encoding::BASE64.encode(der);
    let lines: Vec<_> = text.as_bytes().chunks(64).map(String::from_utf8_lossy).collect();
    format!("-----BEGIN {what}-----\n{}\n-----END {what}-----\n", lines.join("\n"))
}

#[test]
fn a_server_on_redis_keeps_the_payload() {
    let Some(lab) = Lab::new(3) else { return };
    if require::program("redis-server").is_none() {
        return require::skip("redis", "redis-server is missing (Debian: redis-server)");
    }
    let home = tempfile::tempdir().expect("a temporary directory");
    let mut redis = lab.command(3, "redis-server");
    redis.current_dir(home.path()).args(["--port", "7777", "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]);
    let _redis = Running::spawn(&mut redis);
    wait::until_true("redis-server to answer", PATIENCE, || {
        lab.exec(3, &["redis-cli", "-p", "7777", "ping"]).stdout.contains("PONG")
    });
    // A certificate that its operator made, known by its hash.
    let [certificate, key] = ["cert.pem", "key.pem"].map(|name| home.path().join(name));
    let [certificate, key] = [&certificate, &key].map(|path| path.to_str().expect("a path"));
    let pair = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).expect("a key");
    let made = rcgen::CertificateParams::default().self_signed(&pair).expect("a certificate");
    std::fs::write(certificate, pem("CERTIFICATE", made.der())).expect("the directory is ours");
    std::fs::write(key, pem("PRIVATE KEY", &pair.serialize_der())).expect("the directory is ours");
    let hash = kith_proto::guest::CertificateHash::of(made.der());
    let mut command = lab.command(3, binaries::kithd().to_str().expect("a path"));
    command.env("KITH_HELLO_STORE", "redis://127.0.0.1:7777").current_dir(home.path());
    command.args(["hello", "--listen", "0.0.0.0:8443", "--cert", certificate, "--key", key]);
    let _server = Running::spawn(&mut command);

    let config = format!("[hello]\nstores = [\"https://{}:8443#{hash}\"]\n", lab.ip(3));
    let mut hosts = [(1, "anna"), (2, "bert")].map(|(at, name)| {
        let mut host = Host::on(&lab, at, name);
        host.configure(&config);
        host.start();
        host
    });
    let [anna, bert] = &mut hosts;
    joins_while_the_issuer_is_away(anna, bert);
}
