use std::net::Ipv4Addr;

use kith_proto::guest::CertificateHash;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::super::tests::host;
use super::*;
use crate::tls::guest::Certificate;

const LOOKUP: Lookup = Lookup([3; 32]);

/// A server that answers one connection after the other with these bytes, whatever it is asked, and tells what that was.
struct Liar {
    address: SocketAddr,
    hash: CertificateHash,
    asked: Arc<std::sync::Mutex<Vec<String>>>,
    _tasks: tokio::task::JoinSet<()>,
}

/// What a liar does after its answer.
#[derive(Clone, Copy, PartialEq)]
enum Then {
    Closes,
    Stays,
    GoesOn,
}

impl Liar {
    async fn says(answer: impl Into<Vec<u8>>, then: Then) -> Self {
        let answer = answer.into();
        let certificate = Certificate::new(&[]).unwrap();
        let hash = certificate.hash;
        let acceptor = TlsAcceptor::from(certificate.server().unwrap());
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let asked: Arc<std::sync::Mutex<Vec<String>>> = Arc::default();
        let mut tasks = tokio::task::JoinSet::new();
        let heard = asked.clone();
        tasks.spawn(async move {
            let mut kept = Vec::new();
            while let Ok((tcp, _)) = listener.accept().await {
                let Ok(mut stream) = acceptor.accept(tcp).await else { continue };
                let mut request = vec![0; 16 << 10];
                let length = stream.read(&mut request).await.unwrap_or(0);
                heard.lock().unwrap().push(String::from_utf8_lossy(&request[..length]).into_owned());
                let _ = stream.write_all(&answer).await;
                while then == Then::GoesOn && stream.write_all(&answer).await.is_ok() {}
                let _ = stream.flush().await;
                if then == Then::Closes {
                    let _ = stream.shutdown().await;
                }
                kept.push(stream);
            }
        });
        Self { address, hash, asked, _tasks: tasks }
    }

    fn lan(&self) -> Store {
        Store::Lan(vec![self.address])
    }

    fn url(&self, pin: CertificateHash) -> StoreUrl {
        StoreUrl { host: self.address.ip().to_string(), port: self.address.port(), pin: Some(pin) }
    }
}

#[tokio::test]
async fn answers_are_what_the_table_says() {
    let host = host("a", false).await;
    let expires = "Hello-Expires: 1800000000\r\n";
    for (answer, found) in [
        (
            format!("HTTP/1.1 200 OK\r\n{expires}Content-Length: 6\r\n\r\nsealed"),
            Some(Found::Blob { blob: b"sealed".to_vec(), expires_ms: 1_800_000_000_000 }),
        ),
        (
            format!("HTTP/1.1 200 OK\r\n{expires}Transfer-Encoding: chunked\r\n\r\n3\r\nsea\r\n3\r\nled\r\n0\r\n\r\n"),
            Some(Found::Blob { blob: b"sealed".to_vec(), expires_ms: 1_800_000_000_000 }),
        ),
        ("HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n".to_owned(), Some(Found::Nothing)),
        ("HTTP/1.1 410 Gone\r\nContent-Length: 19\r\n\r\n{\"error\":\"expired\"}".to_owned(), Some(Found::Expired)),
        ("HTTP/1.1 410 Gone\r\nContent-Length: 21\r\n\r\n{\"error\":\"withdrawn\"}".to_owned(), Some(Found::Withdrawn)),
    ] {
        let liar = Liar::says(answer.clone(), Then::Closes).await;
        let got = host.dial.hello_get(&liar.lan(), &LOOKUP).await;
        assert_eq!(got.ok(), found, "{answer:?}");
        let asked = liar.asked.lock().unwrap().join("");
        assert!(asked.starts_with(&format!("GET {PATH}{} HTTP/1.1\r\n", LOOKUP.to_text())), "{asked}");
        assert!(asked.contains(&format!("host: {}\r\n", liar.address)), "{asked}");
    }
    for (status, deposited) in
        [(201, Deposited::Created), (200, Deposited::Same), (409, Deposited::Other), (507, Deposited::Full)]
    {
        let liar = Liar::says(format!("HTTP/1.1 {status} X\r\nContent-Length: 0\r\n\r\n"), Then::Closes).await;
        let owner = OwnerHash([1; 32]);
        let put = host.dial.hello_put(&liar.url(liar.hash), &LOOKUP, b"sealed", owner, 1_800_000_000_999).await;
        assert_eq!(put.unwrap(), deposited);
        let asked = liar.asked.lock().unwrap().join("");
        assert!(asked.contains("hello-expires: 1800000000\r\n") && asked.ends_with("\r\n\r\nsealed"), "{asked}");
        assert!(asked.contains(&owner.to_text()) && asked.contains("content-length: 6\r\n"), "{asked}");
    }
    for (status, withdrawn) in [(204, true), (404, false)] {
        let liar = Liar::says(format!("HTTP/1.1 {status} X\r\nContent-Length: 0\r\n\r\n"), Then::Closes).await;
        let token = OwnerToken::from_random(&[1; 32]);
        let gone = host.dial.hello_withdraw(&liar.url(liar.hash), &LOOKUP, &token).await;
        assert_eq!(gone.unwrap(), withdrawn);
        assert!(liar.asked.lock().unwrap()[0].contains(&format!("authorization: Bearer {}\r\n", token.expose())));
    }
    host.end().await;
}

#[tokio::test]
async fn g74_a_lying_store_gains_nothing() {
    let host = host("a", false).await;
    let expires = "Hello-Expires: 1800000000\r\n";
    let long = "x".repeat(limits::HELLO_BLOB + 1);
    for (answer, then) in [
        ("SSH-2.0-OpenSSH_9.6\r\n".to_owned(), Then::Closes),
        ("HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nsealed".to_owned(), Then::Closes),
        (format!("HTTP/1.1 200 OK\r\n{expires}Content-Length: 0\r\n\r\n"), Then::Closes),
        (format!("HTTP/1.1 200 OK\r\n{expires}Content-Length: 7\r\n\r\nsealed"), Then::Closes),
        (format!("HTTP/1.1 200 OK\r\n{expires}Content-Length: -1\r\n\r\nsealed"), Then::Closes),
        (format!("HTTP/1.1 200 OK\r\n{expires}Content-Length: {}\r\n\r\n{long}", long.len()), Then::Closes),
        (format!("HTTP/1.1 200 OK\r\n{expires}Content-Length: 99999999999\r\n\r\n{long}"), Then::Stays),
        (format!("HTTP/1.1 200 OK\r\n{expires}\r\n{long}"), Then::GoesOn),
        (format!("HTTP/1.1 200 OK\r\n{expires}Transfer-Encoding: chunked\r\n\r\nffffffff\r\n{long}"), Then::GoesOn),
        (format!("HTTP/1.1 200 OK\r\n{expires}Transfer-Encoding: chunked\r\n\r\nxyz\r\n"), Then::Closes),
        ("HTTP/1.1 200 OK\r\nHello-Expires: +1\r\nContent-Length: 1\r\n\r\nx".to_owned(), Then::Closes),
        (
            "HTTP/1.1 200 OK\r\nHello-Expires: 18446744073709551615\r\nContent-Length: 1\r\n\r\nx".to_owned(),
            Then::Closes,
        ),
        (format!("HTTP/1.1 200 OK\r\nX: {}\r\n\r\n", "y".repeat(64 << 10)), Then::Stays),
        ("HTTP/1.1 410 Gone\r\nContent-Length: 2\r\n\r\n{}".to_owned(), Then::Closes),
        ("HTTP/1.1 410 Gone\r\nContent-Length: 16\r\n\r\n{\"error\":\"lost\"}".to_owned(), Then::Closes),
    ] {
        let liar = Liar::says(answer.clone(), then).await;
        let got = host.dial.hello_get(&liar.lan(), &LOOKUP).await;
        assert!(matches!(got, Err(HelloError::Malformed)), "{:?}: {got:?}", &answer[..answer.len().min(120)]);
    }
    // What was sent behind a whole answer is not looked at.
    let answer = format!("HTTP/1.1 200 OK\r\n{expires}Content-Length: 6\r\n\r\nsealedHTTP/1.1 200 OK\r\n\r\n");
    let liar = Liar::says(answer, Then::GoesOn).await;
    assert!(host.dial.hello_get(&liar.lan(), &LOOKUP).await.is_ok());
    host.end().await;
}

#[tokio::test]
async fn g74_nobody_is_sent_elsewhere() {
    let host = host("a", false).await;
    let elsewhere = Liar::says("HTTP/1.1 200 OK\r\n\r\n", Then::Closes).await;
    for status in [301, 302, 303, 307, 308] {
        let location = format!("Location: https://{}/v1/hello/x\r\n", elsewhere.address);
        let answer = format!("HTTP/1.1 {status} X\r\n{location}Content-Length: 0\r\n\r\n");
        let liar = Liar::says(answer, Then::Closes).await;
        let got = host.dial.hello_get(&liar.lan(), &LOOKUP).await;
        assert!(matches!(got, Err(HelloError::Refused { status: s, retry_after: None }) if s == status), "{got:?}");
    }
    assert!(elsewhere.asked.lock().unwrap().is_empty());
    for (header, expected) in [("60", Some(60)), ("4000000000", Some(RETRY_MAX)), ("soon", None), ("-1", None)] {
        let answer = format!("HTTP/1.1 429 X\r\nRetry-After: {header}\r\nContent-Length: 0\r\n\r\n");
        let liar = Liar::says(answer, Then::Closes).await;
        let got = host.dial.hello_get(&liar.lan(), &LOOKUP).await;
        let Err(HelloError::Refused { status: 429, retry_after }) = got else { panic!("{got:?}") };
        assert_eq!(retry_after, expected, "{header}");
    }
    host.end().await;
}

#[tokio::test]
async fn d26_only_the_pinned_certificate_or_one_that_is_vouched_for_will_do() {
    let host = host("a", false).await;
    let answer = "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n";
    let liar = Liar::says(answer, Then::Closes).await;
    let other = CertificateHash::of(b"another");
    let right = Store::Url(liar.url(liar.hash));
    assert_eq!(host.dial.hello_get(&right, &LOOKUP).await.unwrap(), Found::Nothing);
    let asked = liar.asked.lock().unwrap().len();
    let wrong = host.dial.hello_get(&Store::Url(liar.url(other)), &LOOKUP).await;
    assert!(matches!(wrong, Err(HelloError::Certificate)), "{wrong:?}");
    // Whatever authorities this machine knows, none of them knows this one. It may have none at all.
    let unpinned = StoreUrl { pin: None, ..liar.url(other) };
    let unknown = host.dial.hello_get(&Store::Url(unpinned), &LOOKUP).await;
    assert!(matches!(unknown, Err(HelloError::Certificate | HelloError::Unreachable(_))), "{unknown:?}");
    assert_eq!(liar.asked.lock().unwrap().len(), asked, "nothing was asked of a stranger");
    host.end().await;
}

#[tokio::test]
async fn g74_a_silent_store_costs_no_more_than_its_time() {
    let host = host("a", false).await;
    let silent = Liar::says("", Then::Stays).await;
    let half =
        Liar::says("HTTP/1.1 200 OK\r\nHello-Expires: 1800000000\r\nContent-Length: 6\r\n\r\nsea", Then::Stays).await;
    let nobody = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    for (name, store) in [
        ("silent", silent.lan()),
        ("half", half.lan()),
        ("no handshake", Store::Lan(vec![nobody.local_addr().unwrap()])),
        ("no address", Store::Lan(Vec::new())),
    ] {
        let got = host.dial.hello_get(&store, &LOOKUP).await;
        assert!(matches!(got, Err(HelloError::Unreachable(_))), "{name}: {got:?}");
    }
    // One address that is silent does not keep another one from answering.
    let good = Liar::says("HTTP/1.1 404 X\r\nContent-Length: 0\r\n\r\n", Then::Closes).await;
    let both = Store::Lan(vec![nobody.local_addr().unwrap(), good.address]);
    assert_eq!(host.dial.hello_get(&both, &LOOKUP).await.unwrap(), Found::Nothing);
    host.end().await;
}
