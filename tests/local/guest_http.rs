//! What is HTTP at the guest door, and what only looks like it: every request has one end, and one meaning.

use kith_proto::limits;
use kith_tests::guest::{File, Guest, Window, preparing, registering, request};
use kith_tests::host::Host;
use kith_tests::https::{Answer, Connection};
use rustls::ProtocolVersion;
use serde_json::json;

/// A head that registers, with these lines in it.
fn head(guest: &Guest, lines: &str) -> String {
    format!("POST {} HTTP/1.1\r\nHost: 127.0.0.1\r\n{lines}\r\n", guest.path("register"))
}

/// What comes back, and whether the connection ends then.
#[track_caller]
fn last(guest: &Guest, request: &[u8]) -> (Answer, Connection) {
    let mut connection = guest.caller.connect().expect("a handshake");
    connection.write(request);
    let answer = connection.answer().expect("an answer");
    (answer, connection)
}

#[test]
fn e40_a_request_whose_end_is_uncertain_is_refused_and_hung_up_on() {
    let host = Host::running("anna");
    let window = Window::open(&host);
    let guest = window.guest(1);
    let body = registering(&window.pin);
    let length = body.len();
    let chunked = [format!("{length:x}\r\n").as_bytes(), &body, b"\r\n0\r\n\r\n"].concat();
    for (lines, body) in [
        (format!("Content-Length: {length}\r\nTransfer-Encoding: chunked\r\n"), &chunked),
        (format!("Transfer-Encoding: chunked\r\nContent-Length: {length}\r\n"), &chunked),
        (format!("transfer-encoding: identity\r\nContent-Length: {length}\r\n"), &body),
        ("Transfer-Encoding: chunked, gzip\r\n".to_owned(), &chunked),
        (format!("Content-Length: {length}\r\nContent-Length: {length}\r\n"), &body),
        (format!("Content-Length: {length}\r\nContent-Length: {}\r\n", length + 1), &body),
        (format!("Content-Length: {length}, {length}\r\n"), &body),
        (format!("Content-Length: +{length}\r\n"), &body),
        (format!("Content-Length: 0x{length:x}\r\n"), &body),
        (format!("Content-Length : {length}\r\n"), &body),
        ("Content-Length: -1\r\n".to_owned(), &body),
        ("Content-Length: 18446744073709551616\r\n".to_owned(), &body),
        (format!("Content-Length: {length}\r\n X: folded\r\n"), &body),
        (format!("Content-Length: {length}\r\nX: nul\0\r\n"), &body),
    ] {
        // A second request, which is smuggled if the first one ends elsewhere.
        let second = request("GET", "/smuggled", &[], b"");
        let all = [head(&guest, &lines).as_bytes(), body.as_slice(), &second].concat();
        let (answer, mut connection) = last(&guest, &all);
        assert_eq!(answer.status, 400, "{lines:?}");
        assert!(connection.is_hung_up(), "{lines:?}: the connection goes on");
    }
    // The control: the same without any of it. Nobody was let in before.
    guest.caller.ask(&[head(&guest, &format!("Content-Length: {length}\r\n")).as_bytes(), &body].concat()).expect(200);
}

#[test]
fn e40_oddities_that_are_no_harm_are_understood() {
    let host = Host::running("anna");
    let window = Window::open(&host);
    for version in [1, 2] {
        let guest = window.guest(version);
        let ping = guest.path("ping");
        // An absolute URI and a foreign host: they name nothing that is looked up.
        for start in
            [format!("POST https://evil.example{ping}"), format!("POST {ping}"), format!("POST {ping}?x=%zz&&=")]
        {
            let text = format!("{start} HTTP/1.1\r\nHost: evil.example:1\r\nContent-Length: 0\r\n\r\n");
            guest.caller.ask(text.as_bytes()).expect(200);
        }
        // Whoever asks for another protocol gets this one.
        let upgrade = [("Connection", "Upgrade, HTTP2-Settings"), ("Upgrade", "h2c"), ("HTTP2-Settings", "AAMAAABk")];
        guest.caller.ask(&request("POST", &ping, &upgrade, b"")).expect(200);
        // Header names in any case, blanks around values, a charset, a body in chunks.
        let body = registering(&window.wrong_pin());
        let start = format!("POST {} HTTP/1.1\r\nhOST:x\r\n", guest.path("register"));
        let plain = format!(
            "{start}content-LENGTH:   {}  \r\nCONTENT-TYPE: application/json; charset=utf-8\r\n\r\n",
            body.len()
        );
        guest.caller.ask(&[plain.as_bytes(), &body].concat()).expect(401);
        let (one, two) = body.split_at(7);
        let chunks = format!("{start}Transfer-Encoding: chunked\r\n\r\n7;x=\"y\"\r\n");
        let rest = format!("\r\n{:X}\r\n", two.len());
        let all = [chunks.as_bytes(), one, rest.as_bytes(), two, b"\r\n0\r\nTrailer: x\r\n\r\n"].concat();
        assert!([401, 429].contains(&guest.caller.ask(&all).status));
    }
}

#[test]
fn e40_expect_is_answered_before_the_body_or_by_refusing_it() {
    let host = Host::running("anna");
    let window = Window::open(&host);
    let guest = window.guest(1);
    let session = guest.session(&window.pin);
    let file = File::new("letter.txt", &b"Dear Anna".repeat(10_000));
    let transmission = guest.prepared(&session, std::slice::from_ref(&file)).remove(0);
    let head = |transmission: &str| {
        let path = guest.upload_path(&session, &file.id, transmission);
        let length = file.content.len();
        format!("PUT {path} HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: {length}\r\n\r\n")
    };
    // Refused before a byte of it was sent.
    let (refused, _) = last(&guest, head("another").as_bytes());
    assert_eq!(refused.status, 403);
    let (first, mut connection) = last(&guest, head(&transmission).as_bytes());
    assert_eq!(first.status, 100);
    connection.write(&file.content);
    assert_eq!(connection.answer().expect("an answer").status, 200);
    assert_eq!(window.read("letter.txt"), file.content);
}

#[test]
fn a_connection_serves_many_requests_or_one_as_its_guest_likes() {
    let host = Host::running("anna");
    let window = Window::open(&host);
    let guest = window.guest(2);
    let mut connection = guest.caller.connect().expect("a handshake");
    let mut ask = |method: &str, path: &str, body: &[u8]| {
        assert!(connection.write(&request(method, path, &[], body)));
        connection.answer().expect("an answer").expect(200).json()
    };
    ask("POST", &guest.path("ping"), b"");
    let session =
        kith_tests::guest::text(&ask("POST", &guest.path("register"), &registering(&window.pin)), "sessionId");
    let files = [File::new("one.txt", b"one"), File::new("two.txt", &[7; 300_000])];
    let accepted = ask("POST", &guest.path("prepare-upload"), &preparing(&session, &files));
    for file in &files {
        let mut of = accepted["files"].as_array().expect("files").iter();
        let it = of.find(|it| it["id"] == file.id.as_str()).expect("every file");
        let transmission = kith_tests::guest::text(it, "transmissionId");
        ask("PUT", &guest.upload_path(&session, &file.id, &transmission), &file.content);
    }
    ask("POST", &guest.path("close-connection"), json!({ "sessionId": session }).to_string().as_bytes());
    assert_eq!(window.names(), ["one.txt", "two.txt"]);
    // Whoever says that it is the last request is believed.
    let (_, mut connection) = last(&guest, &guest.posting("ping", b""));
    assert!(connection.is_hung_up());
    // HTTP/1.0 has one request a connection.
    let mut old = guest.caller.connect().expect("a handshake");
    old.write(format!("POST {} HTTP/1.0\r\n\r\n", guest.path("ping")).as_bytes());
    assert!(old.is_hung_up() || old.is_hung_up(), "an answer, and then the end");
}

#[test]
fn what_nobody_asked_for_is_unknown_and_nobody_boasts() {
    let host = Host::running("anna");
    let window = Window::open(&host);
    let guest = window.guest(2);
    for path in [
        "/",
        "/api/v1",
        "/api/v1/",
        "/api/v1/ping/",
        "/api/v1/uploads",
        "/api/v0x/ping",
        "/api/ping",
        "/API/V1/PING",
        "/api/v1/../v1/ping",
        "//api/v1/ping",
        "/api/v1%2fping",
        "/api/v3/upload",
        "*",
    ] {
        let answer = guest.caller.ask(&request("POST", path, &[], b""));
        assert_eq!(answer.status, 404, "{path}");
        assert_eq!(answer.json(), json!({ "error": "Not found" }), "{path}");
    }
    for answer in [guest.ping(), guest.register("1"), guest.caller.ask(&request("GET", "/", &[], b""))] {
        for name in ["server", "x-powered-by", "location", "set-cookie", "access-control-allow-origin"] {
            assert_eq!(answer.header(name), None);
        }
    }
    for method in ["GET", "PUT", "DELETE", "OPTIONS", "PATCH", "PROPFIND"] {
        let answer = guest.caller.ask(&request(method, &guest.path("ping"), &[], b"")).expect(405);
        assert_eq!(answer.header("allow"), Some("POST"), "{method}");
    }
}

#[test]
fn e40_what_is_no_http_is_hung_up_on() {
    let host = Host::running("anna");
    let window = Window::open(&host);
    let long_line = format!("POST /{} HTTP/1.1\r\n\r\n", "x".repeat(1 << 20));
    let long_head = format!("POST /api/v1/ping HTTP/1.1\r\n{}\r\n", "x: yyyyyyyyyyyyyyyyyyyyyyyyyy\r\n".repeat(50_000));
    for bytes in [
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0".as_slice(),
        b"\0\x01\x02\x03\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"daemon.status\"}\n\r\n\r\n",
        b"CONNECT evil.example:443 HTTP/1.1\r\n\r\n",
        long_line.as_bytes(),
        long_head.as_bytes(),
    ] {
        let mut connection = window.caller().connect().expect("a handshake");
        connection.write(bytes);
        match connection.answer() {
            Ok(answer) => assert!((400..500).contains(&answer.status), "{answer:?}"),
            Err(error) => assert!(connection.is_hung_up(), "{error}"),
        }
    }
    let head = format!("POST /api/v1/ping HTTP/1.1\r\nX: {}\r\n\r\n", "x".repeat(limits::GUEST_HEAD));
    window.caller().ask(head.as_bytes()).expect(431);
    window.guest(1).ping().expect(200);
}

#[test]
fn tls_is_1_2_or_1_3_with_http_1_1_and_without_tickets() {
    let host = Host::running("anna");
    let window = Window::open(&host);
    for (tls, spoken) in
        [(&rustls::version::TLS12, ProtocolVersion::TLSv1_2), (&rustls::version::TLS13, ProtocolVersion::TLSv1_3)]
    {
        for version in [1, 2] {
            let guest = window.guest(version).calling(|caller| caller.speaking(tls));
            let mut connection = guest.caller.connect().expect("a handshake");
            assert_eq!((connection.version(), connection.alpn()), (spoken, Some(b"http/1.1".as_slice())));
            assert_eq!(connection.certificate_hash(), window.hash);
            connection.write(&guest.posting("ping", b""));
            connection.answer().expect("an answer").expect(200);
            assert_eq!(connection.tickets(), 0);
            guest.send(&window.pin, &[File::new("letter.txt", b"Dear Anna")]);
        }
    }
    assert_eq!(window.names().len(), 4);
    // No ALPN is HTTP/1.1; another one alone is refused; among several, the right one is taken.
    let caller = window.caller();
    assert_eq!(caller.clone().asking_for(&[]).connect().expect("a handshake").alpn(), None);
    assert!(caller.clone().asking_for(&["h2"]).connect().is_err());
    let both = caller.asking_for(&["h2", "http/1.1"]).connect().expect("a handshake");
    assert_eq!(both.alpn(), Some(b"http/1.1".as_slice()));
}
