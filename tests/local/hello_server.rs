//! `kithd hello`: the table of its answers on a file and on Redis, what it tells of itself, what it refuses to start
//! with, and how it ends.

use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use kith_proto::limits;
use kith_tests::hello_server::{Blob, HelloServer, command, request};
use kith_tests::process::run;
use kith_tests::redis::Redis;
use kith_tests::{PATIENCE, require, wait};
use rustix::process::Signal;
use rustls::ProtocolVersion;
use tempfile::TempDir;

fn home() -> TempDir {
    tempfile::Builder::new().prefix("kith-hello-").tempdir().expect("a temporary directory")
}

fn file(home: &Path) -> String {
    format!("sqlite:{}/hello.db", home.display())
}

/// Options of a server on Redis: it has no file beside which a certificate could lie.
fn beside(home: &Path) -> [&str; 2] {
    ["--data", home.to_str().expect("a path in UTF-8")]
}

/// Every kind of answer that needs no waiting.
#[track_caller]
fn answers_by_the_table(server: &HelloServer) {
    let ask = |request: &[u8]| server.caller().ask(request);
    let it = Blob::new(1, b"sealed");
    ask(&it.get()).expect(404);
    ask(&it.put()).expect(201);
    ask(&it.put()).expect(200);
    ask(&Blob { token: "another-token-altogether".into(), ..it.clone() }.put()).expect(200);
    ask(&Blob { bytes: b"other".to_vec(), ..it.clone() }.put()).expect(409);
    let found = ask(&it.get()).expect(200);
    assert_eq!(found.body, b"sealed");
    let expires: u64 = found.header("hello-expires").and_then(|text| text.parse().ok()).expect("a time");
    assert!(expires > 1_700_000_000 && found.header("cache-control") == Some("no-store"), "{found:?}");
    ask(&Blob { token: "another-token-altogether".into(), ..it.clone() }.delete()).expect(404);
    ask(&it.delete()).expect(204);
    let gone = ask(&it.get()).expect(410);
    assert_eq!(gone.json()["error"], "withdrawn");
    ask(&it.put()).expect(409);
    ask(&it.delete()).expect(404);

    let largest = Blob::new(2, &[0xa5; limits::HELLO_BLOB]);
    ask(&largest.put()).expect(201);
    assert_eq!(ask(&largest.get()).expect(200).body, largest.bytes);
    ask(&Blob::new(3, &[0xa5; limits::HELLO_BLOB + 1]).put()).expect(413);
    ask(&request("PUT", &Blob::new(4, b"").name, "", b"no owner")).expect(422);
    let lines = format!("Hello-Owner: {}\r\nHello-Expires: 1\r\n", "ab".repeat(32));
    ask(&request("PUT", &Blob::new(4, b"").name, &lines, b"expired")).expect(422);
    ask(&request("POST", &it.name, "", b"")).expect(405);
    for name in ["", "short", &format!("{}A", it.name), &format!("{}/", it.name)] {
        ask(&request("GET", name, "", b"")).expect(404);
    }
    ask(b"GET /v1/hello HTTP/1.1\r\nHost: hello\r\n\r\n").expect(404);
    ask(b"GET /metrics HTTP/1.1\r\nHost: hello\r\n\r\n").expect(404);

    // No label comes from outside, and what was asked was counted.
    assert_eq!(server.metric("kith_hello_requests_total{method=\"Put\",status=\"201\"}"), 2.0);
    assert_eq!(server.metric("kith_hello_requests_total{method=\"Get\",status=\"410\"}"), 1.0);
    assert_eq!(server.metric("kith_hello_requests_total{method=\"Other\",status=\"405\"}"), 1.0);
    assert_eq!(server.metric("kith_hello_store_up"), 1.0);
    assert!(server.metric("kith_hello_blobs") >= 1.0);
    assert!(server.metric("kith_hello_size_bytes") >= 4096.0);
    assert!(server.metric("kith_hello_request_duration_seconds_count") > 10.0);
    assert_eq!(server.tells("/healthz").0, 200);
    assert_eq!(server.tells("/v1/hello/").0, 404);
    let (said, told) = (server.log(), server.tells("/metrics").1);
    assert!(!said.contains(&it.name) && !told.contains(&it.name), "names are told to nobody: {said}{told}");
}

#[test]
fn a_server_on_a_file_answers_by_the_table() {
    let home = home();
    let server = HelloServer::start(home.path(), &file(home.path()), &[]);
    answers_by_the_table(&server);
    assert_eq!(server.stop(), 0);
}

#[test]
fn a_server_on_redis_answers_by_the_table() {
    let Some(redis) = Redis::start(&["--requirepass", "open-sesame-7"]) else { return };
    let home = home();
    let url = redis.url().replace("//", "//:open-sesame-7@");
    let server = HelloServer::start(home.path(), &url, &beside(home.path()));
    answers_by_the_table(&server);
    let line = std::fs::read(format!("/proc/{}/cmdline", server.pid())).expect("it runs");
    assert!(!String::from_utf8_lossy(&line).contains("sesame") && !server.log().contains("sesame"));
    assert_eq!(server.stop(), 0);
}

#[test]
fn a_source_asks_for_so_much_and_no_more() {
    let home = home();
    let options = ["--gets-per-hour", "3", "--puts-per-hour", "2", "--max-blobs", "3", "--max-per-source", "9"];
    let server = HelloServer::start(home.path(), &file(home.path()), &options);
    let from = |ip: &str| server.caller().from(ip);
    for number in 1..=2 {
        from("127.0.0.1").ask(&Blob::new(number, b"x").put()).expect(201);
    }
    let late = from("127.0.0.1").ask(&Blob::new(3, b"x").put()).expect(429);
    let seconds: u64 = late.header("retry-after").and_then(|text| text.parse().ok()).expect("a time");
    assert!((1..=3600).contains(&seconds));
    for _ in 0..3 {
        from("127.0.0.1").ask(&Blob::new(1, b"x").get()).expect(200);
    }
    from("127.0.0.1").ask(&Blob::new(1, b"x").get()).expect(429);
    // Nobody else is concerned, until there is no room.
    from("127.0.0.2").ask(&Blob::new(3, b"x").put()).expect(201);
    from("127.0.0.2").ask(&Blob::new(4, b"x").put()).expect(507);
    from("127.0.0.2").ask(&Blob::new(1, b"x").get()).expect(200);
}

#[test]
fn its_metrics_are_for_this_machine_alone() {
    let home = home();
    let server = HelloServer::start(home.path(), &file(home.path()), &["--listen", "0.0.0.0:0"]);
    assert!(server.metrics().ip().is_loopback());
    // The address that others would reach it at, if this machine has one.
    let outside = UdpSocket::bind("0.0.0.0:0").and_then(|socket| {
        socket.connect("192.0.2.1:9")?;
        socket.local_addr()
    });
    if let Some(ip) = outside.ok().map(|address| address.ip()).filter(|ip| !ip.is_loopback()) {
        let reach = |port| TcpStream::connect_timeout(&SocketAddr::new(ip, port), Duration::from_secs(5));
        assert!(reach(server.place().port()).is_ok());
        assert!(reach(server.metrics().port()).is_err());
    }
}

#[test]
fn a_restart_keeps_blobs_and_certificate() {
    let home = home();
    let start = || HelloServer::start(home.path(), &file(home.path()), &[]);
    let it = Blob::new(1, b"kept");
    let server = start();
    server.caller().ask(&it.put()).expect(201);
    let hash = server.caller().connect().expect("a handshake").certificate_hash();
    assert!(server.log().contains(&hash), "the hash is what stands behind # in [hello] stores");
    assert_eq!(server.stop(), 0);
    let server = start();
    assert_eq!(server.caller().ask(&it.get()).expect(200).body, b"kept");
    assert_eq!(server.caller().connect().expect("a handshake").certificate_hash(), hash);
    // At whatever instruction it is.
    server.signal(Signal::KILL);
    drop(server);
    start().caller().ask(&it.put()).expect(200);
}

#[test]
fn two_front_ends_on_one_redis_are_one_store() {
    let Some(redis) = Redis::start(&[]) else { return };
    let homes = [home(), home()];
    let [one, other] = homes.each_ref().map(|home| HelloServer::start(home.path(), &redis.url(), &beside(home.path())));
    let it = Blob::new(1, b"shared");
    one.caller().ask(&it.put()).expect(201);
    assert_eq!(other.caller().ask(&it.get()).expect(200).body, b"shared");
    other.caller().ask(&it.put()).expect(200);
    other.caller().ask(&it.delete()).expect(204);
    one.caller().ask(&it.get()).expect(410);
}

#[test]
fn a_redis_that_is_away_is_said_to_be_and_comes_back() {
    let Some(mut redis) = Redis::start(&[]) else { return };
    let home = home();
    let server = HelloServer::start(home.path(), &redis.url(), &beside(home.path()));
    let it = Blob::new(1, b"x");
    server.caller().ask(&it.put()).expect(201);
    redis.kill();
    for request in [it.get(), it.put(), it.delete()] {
        let answer = server.caller().ask(&request).expect(503);
        assert!(answer.header("retry-after").is_some(), "{answer:?}");
    }
    assert_eq!(server.tells("/healthz").0, 503);
    assert_eq!(server.metric("kith_hello_store_up"), 0.0);
    redis.revive();
    wait::until_true("the store to be back", PATIENCE, || server.tells("/healthz").0 == 200);
    // It lost what it had in memory; issuers publish again.
    server.caller().ask(&it.put()).expect(201);
    server.caller().ask(&it.get()).expect(200);
}

/// A certificate and its key, as openssl writes them.
fn openssl(home: &Path, name: &str) -> [String; 2] {
    let [cert, key] = ["pem", "key"].map(|end| format!("{}/{name}.{end}", home.display()));
    let mut openssl = Command::new("openssl");
    openssl.args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-noenc", "-days", "3"]);
    run(openssl.args(["-subj", "/CN=hello.example", "-keyout", &key, "-out", &cert]), PATIENCE).ok();
    [cert, key]
}

#[test]
fn certificates_of_others_are_shown_and_read_again() {
    if require::program("openssl").is_none() {
        return require::skip("python", "openssl is missing");
    }
    let home = home();
    let ([cert, key], [new_cert, new_key]) = (openssl(home.path(), "one"), openssl(home.path(), "two"));
    let server = HelloServer::start(home.path(), &file(home.path()), &["--cert", &cert, "--key", &key]);
    let shown = || server.caller().connect().expect("a handshake").certificate_hash();
    let first = shown();
    for (version, name) in
        [(&rustls::version::TLS12, ProtocolVersion::TLSv1_2), (&rustls::version::TLS13, ProtocolVersion::TLSv1_3)]
    {
        let connection = server.caller().speaking(version).connect().expect("a handshake");
        assert_eq!((connection.version(), connection.alpn()), (name, Some(&b"http/1.1"[..])));
    }
    // Half of a renewal changes nothing.
    std::fs::copy(&new_cert, &cert).expect("the home is ours");
    server.signal(Signal::HUP);
    wait::until_true("a word on it", PATIENCE, || server.log().contains("stays as it was"));
    assert_eq!(shown(), first);
    std::fs::copy(&new_key, &key).expect("the home is ours");
    server.signal(Signal::HUP);
    wait::until_true("the new certificate", PATIENCE, || shown() != first);
    assert!(!home.path().join("hello.pem").exists(), "none is made where one is given");
    assert_eq!(server.stop(), 0);
}

#[test]
fn what_cannot_be_used_is_said_in_a_sentence() {
    let home = home();
    let here = file(home.path());
    let taken = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let taken = taken.local_addr().expect("an address").to_string();
    let nonsense = home.path().join("nonsense.pem");
    std::fs::write(&nonsense, "nonsense").expect("the home is ours");
    let nonsense = nonsense.to_str().expect("a path in UTF-8");
    let data = home.path().to_str().expect("a path in UTF-8");
    let refused = |store: &str, options: &[&str], status: i32| {
        let output = run(&mut command(home.path(), store, options), PATIENCE).expect(status);
        let sentence = output.stderr.lines().last().unwrap_or_default().to_owned();
        assert!(sentence.starts_with("kithd: ") && output.stdout.is_empty(), "{output:?}");
        assert!(!output.stderr.contains("sesame"), "{output:?}");
        sentence
    };
    for (store, options, said) in [
        ("postgres://:sesame@db", &[][..], "--store"),
        ("redis://:sesame@[", &["--data", data], "redis://"),
        ("sqlite:/proc/nowhere/hello.db", &[], "/proc/nowhere"),
        (&here, &["--metrics", "0.0.0.0:0"], "loopback"),
        (&here, &["--cert", "/nowhere.pem", "--key", "/nowhere.key"], "/nowhere.pem"),
        (&here, &["--cert", nonsense, "--key", nonsense], "nonsense.pem"),
        (&here, &["--listen", &taken], &taken),
        (&here, &["--metrics", &taken], &taken),
    ] {
        let sentence = refused(store, options, 78);
        assert!(sentence.contains(said), "{sentence}");
    }
    // A server that is away may come back: the service manager tries again.
    let sentence = refused(&format!("redis://:sesame@{}", free()), &["--data", data], 70);
    assert!(sentence.contains("Redis"), "{sentence}");
    if let Some(redis) = Redis::start(&["--maxmemory-policy", "allkeys-lru"]) {
        let sentence = refused(&redis.url(), &["--data", data], 78);
        assert!(sentence.contains("noeviction"), "{sentence}");
    }
}

/// An address at which nobody listens.
fn free() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a free port")
}

#[test]
fn it_ends_in_order_while_others_are_connected() {
    let home = home();
    let server = HelloServer::start(home.path(), &file(home.path()), &[]);
    let it = Blob::new(1, b"x");
    let mut idle = server.caller().connect().expect("a handshake");
    let mut silent = server.caller().dial().expect("a connection");
    idle.write(&it.put());
    assert_eq!(idle.answer().expect("an answer").status, 201);
    assert_eq!(server.stop(), 0);
    assert!(idle.is_hung_up());
    assert!(matches!(std::io::Read::read(&mut silent, &mut [0; 1]), Ok(0) | Err(_)));
}
