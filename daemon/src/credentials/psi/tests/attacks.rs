//! Strangers on the network.

use std::net::{IpAddr, SocketAddr, UdpSocket};

use kith_proto::guest::psi;
use kith_proto::limits;
use kith_proto::peer::share::announcement::{Announcement, Protocol};
use rustls::pki_types::ServerName;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::*;
use crate::tls::guest::Certificate;

/// Where somebody waits.
async fn found(device: &Device) -> SocketAddr {
    let (announcement, source) = timeout(LONG, device.beacon.listen().unwrap().next()).await.expect("in time");
    SocketAddr::new(source, announcement.port)
}

async fn connect(to: SocketAddr) -> TlsStream<TcpStream> {
    let config = Certificate::new(&[]).unwrap().client(None).unwrap();
    let tcp = TcpStream::connect(to).await.unwrap();
    TlsConnector::from(config).connect(ServerName::IpAddress(to.ip().into()), tcp).await.unwrap()
}

/// The status and the body of the answer to `request`, on a connection of its own.
async fn ask(to: SocketAddr, request: &str) -> (u16, Value) {
    let mut stream = connect(to).await;
    stream.write_all(request.as_bytes()).await.unwrap();
    stream.flush().await.unwrap();
    let mut answer = String::new();
    let _ = timeout(LONG, stream.read_to_string(&mut answer)).await.expect("an answer in time");
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("{answer:?}"));
    assert!(head.contains("content-type: application/json"), "{head}");
    (head[9..12].parse().unwrap(), serde_json::from_str(body).unwrap())
}

fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
}

fn post(body: &str) -> String {
    let length = body.len();
    format!("POST {PAYLOAD} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{body}")
}

fn right(digits: &str, payload: &Payload) -> String {
    String::from_utf8(psi::hand_over(&code(digits), payload).to_vec()).unwrap()
}

/// Whether nobody listens there any more.
async fn is_closed(to: SocketAddr) {
    let closed = async {
        while TcpStream::connect(to).await.is_ok() {
            tokio::task::yield_now().await;
        }
    };
    timeout(LONG, closed).await.expect("the port closes");
}

#[tokio::test]
async fn the_sixth_request_ends_the_share() {
    let device = Device::new().await;
    let strangers = async {
        let to = found(&device).await;
        for _ in 0..limits::PHOTOSPHERE_REQUESTS {
            assert_eq!(ask(to, &get("/")).await, (404, json!({ "error": "Not found" })));
        }
        assert_eq!(ask(to, &get(HASH)).await, (429, json!({ "error": "Too many requests" })));
        to
    };
    let (received, to) = tokio::join!(device.receive("4821"), strangers);
    assert_eq!(received.unwrap_err().code, Code::TooManyAttempts);
    is_closed(to).await;
    device.end().await;
}

#[tokio::test]
async fn nonsense_before_the_payload_is_survived() {
    let device = Device::new().await;
    let strangers = async {
        let to = found(&device).await;
        assert_eq!(ask(to, &get(HASH)).await.0, 200);
        assert_eq!(ask(to, &get(HASH)).await, (429, json!({ "error": "Too many requests" })));
        assert_eq!(ask(to, &post("null")).await, (400, json!({ "error": "Invalid JSON" })));
        // The rest of it never comes.
        let claim = post("").replace("Length: 0", "Length: 1000000000");
        assert_eq!(ask(to, &claim).await.0, 413);
        assert_eq!(ask(to, &post(&right("4821", &payload()))).await, (200, json!({ "success": true })));
        to
    };
    let (received, to) = tokio::join!(device.receive("4821"), strangers);
    assert_whole(&received.unwrap().0);
    is_closed(to).await;
    device.end().await;
}

#[tokio::test]
async fn a_body_without_end_is_cut_and_a_wrong_hash_is_no_guess_for_free() {
    let device = Device::new().await;
    let strangers = async {
        let to = found(&device).await;
        let chunk = format!("10000\r\n{}\r\n", "[".repeat(0x10000)).repeat(10);
        let endless =
            format!("POST {PAYLOAD} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n{chunk}0\r\n\r\n");
        let endless = endless.replace("Host: x", "Host: x\r\nConnection: close");
        assert_eq!(ask(to, &endless).await.0, 413);
        for digits in ["0000", "0001", "0002", "0003"] {
            let refused = ask(to, &post(&right(digits, &payload()))).await;
            assert_eq!(refused, (403, json!({ "error": "Invalid pairing code" })));
        }
        assert_eq!(ask(to, &post(&right("4821", &payload()))).await.0, 429, "five requests are all there are");
    };
    let (received, ()) = tokio::join!(device.receive("4821"), strangers);
    assert_eq!(received.unwrap_err().code, Code::TooManyAttempts);
    device.end().await;
}

#[tokio::test]
async fn a_payload_that_is_none_names_its_field_to_both() {
    let device = Device::new().await;
    let body = right("4821", &payload()).replace("\"region\":\"eu\",", "");
    let strangers = async { ask(found(&device).await, &post(&body)).await };
    let (received, answer) = tokio::join!(device.receive("4821"), strangers);
    assert_eq!(answer, (400, json!({ "error": "Invalid payload: s3Credentials.region: is missing" })));
    let error = received.unwrap_err();
    assert_eq!(error.code, Code::WrongKind);
    assert!(error.message.contains("s3Credentials.region") && !error.message.contains("SK"), "{error}");
    device.end().await;
}

#[tokio::test]
async fn those_who_connect_and_say_nothing_keep_nobody_out() {
    let device = Device::new().await;
    let mut silent = Vec::new();
    let strangers = async {
        let to = found(&device).await;
        for host in 2..8 {
            for _ in 0..2 * limits::SHARE_CONNECTIONS_PER_ADDRESS {
                let socket = TcpSocket::new_v4().unwrap();
                socket.bind((IpAddr::from([127, 0, 0, host]), 0).into()).unwrap();
                silent.push(socket.connect(to).await.unwrap());
            }
        }
        // One is slow within a body: it costs a request, and nobody's time.
        let mut slow = connect(to).await;
        slow.write_all(&post(&"x".repeat(1_000)).as_bytes()[..500]).await.unwrap();
        slow.flush().await.unwrap();
        device.send("4821").await.unwrap();
        drop(slow);
    };
    let (received, ()) = tokio::join!(device.receive("4821"), strangers);
    assert_whole(&received.unwrap().0);
    device.end().await;
}

#[tokio::test]
async fn whoever_drops_a_share_ends_it_at_once() {
    let device = Device::new().await;
    // In the middle of a body: who still had a share would answer that it never ended.
    let half = async {
        let to = found(&device).await;
        let mut open = connect(to).await;
        open.write_all(&post(&"x".repeat(1_000)).as_bytes()[..500]).await.unwrap();
        open.flush().await.unwrap();
        (to, open)
    };
    let (to, mut open) = tokio::select! {
        received = device.receive("4821") => panic!("{received:?}"),
        open = half => open,
    };
    is_closed(to).await;
    let mut rest = Vec::new();
    let _ = timeout(LONG, open.read_to_end(&mut rest)).await.expect("the connection closes");
    assert!(rest.is_empty());
    device.end().await;
}

#[tokio::test]
async fn nobody_is_waited_for_beyond_the_deadline() {
    let device = Device::new().await;
    let soon = Instant::now() + Duration::from_millis(100);
    let received = receive(&code("4821"), &device.beacon, &device.tasks, soon).await;
    assert_eq!(received.unwrap_err().code, Code::TimedOut);
    let sent = send(&payload(), &code("4821"), &device.beacon, &device.dial, soon).await;
    let error = sent.unwrap_err();
    assert_eq!(error.code, Code::TimedOut);
    assert!(error.hint.is_some());
    device.end().await;
}

/// Says once that somebody waits, from `source`.
fn announce(device: &Device, announcement: &Announcement, source: [u8; 4]) {
    let socket = UdpSocket::bind((IpAddr::from(source), 0)).unwrap();
    socket.send_to(announcement.to_string().as_bytes(), ("127.0.0.1", device.port)).unwrap();
}

#[tokio::test]
async fn with_two_receivers_nothing_is_sent_to_either() {
    let device = Device::new().await;
    tokio::select! {
        received = device.receive("4821") => panic!("{received:?}"),
        received = device.receive("4821") => panic!("{received:?}"),
        sent = device.send("4821") => assert_eq!(sent.unwrap_err().code, Code::SeveralReceivers),
    }
    device.end().await;
}

#[tokio::test]
async fn one_receiver_that_is_heard_from_several_addresses_is_one() {
    let device = Device::new().await;
    let echo = async {
        let mut ears = device.beacon.listen().unwrap();
        loop {
            let (announcement, source) = ears.next().await;
            if source == IpAddr::from([127, 0, 0, 1]) {
                announce(&device, &announcement, [127, 0, 0, 9]);
                // Another protocol's is none of the bridge's.
                let protocol = Protocol::Kith { session: [1; 16] };
                announce(
                    &device,
                    &Announcement { protocol, certificate_hash: [1; 32], ..announcement },
                    [127, 0, 0, 8],
                );
            }
        }
    };
    let share = async { tokio::join!(device.receive("4821"), device.send("4821")) };
    tokio::select! {
        () = echo => {}
        (received, sent) = share => {
            sent.unwrap();
            assert_whole(&received.unwrap().0);
        }
    }
    device.end().await;
}

#[tokio::test]
async fn whoever_answers_with_another_certificate_is_sent_nothing() {
    let device = Device::new().await;
    let listener = crate::platform::listen(0).unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(Certificate::new(&[]).unwrap().server().unwrap());
    let port = listener.local_addr().unwrap().port();
    let rogue = Announcement { protocol: Protocol::Photosphere, port, certificate_hash: [7; 32] };
    let in_between = async {
        loop {
            let (tcp, _) = listener.accept().await.unwrap();
            if let Ok(mut stream) = acceptor.accept(tcp).await {
                let mut heard = Vec::new();
                let _ = stream.read_to_end(&mut heard).await;
                assert!(heard.is_empty());
            }
        }
    };
    tokio::select! {
        () = in_between => {}
        never = device.beacon.announce(&rogue) => match never {},
        sent = device.send("4821") => assert_eq!(sent.unwrap_err().code, Code::WrongKey),
    }
    device.end().await;
}
