use std::net::{Ipv4Addr, SocketAddr, UdpSocket};

use kith_proto::control::credential::SecretAddParams;
use kith_proto::credential::SecretType;
use kith_proto::peer::share::announcement::{Announcement, Protocol};
use kith_proto::peer::share::message::{Message, Outcome, ShareFail};
use kith_proto::peer::share::{AwaitShare3, Confirmed, Receiver, Sender};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

use super::beacon::tests::{filter, free_port};
use super::*;
use crate::discovery::{Discovery, tests::settings};
use crate::identity::Identity;
use crate::store::Store;
use crate::tls::Tls;
use crate::tls::share::{self, Door, Link};
use crate::vault;

const LONG: Duration = Duration::from_secs(20);
const FRAME: usize = limits::FRAME_CONTROL;

/// A device on this host, alone on its port for announcements.
struct Device {
    credentials: Credentials,
    port: u16,
    _dir: tempfile::TempDir,
}

impl Device {
    async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let home = dir.path();
        let (tasks, events, settings) = (Tasks::default(), Events::default(), settings(home, false));
        let identity = Identity::open(home, &home.join("kith.db"), "device", false).unwrap();
        let store = Store::open(&home.join("kith.db")).unwrap();
        let trust = Trust::open(store.clone(), home.join("generation")).await.unwrap();
        let tls = Tls::new(&identity, &trust).unwrap();
        let discovery = Discovery::start(&tasks, &events, &trust, &settings, &identity, 1);
        let dial = Dial::start(&tasks, tls, &trust, &discovery, &identity, 1);
        let parts = vault::Parts {
            data: home.to_owned(),
            credential: None,
            idle: None,
            store,
            events: events.clone(),
            tasks: tasks.clone(),
        };
        let vault = Vault::open(parts).await.unwrap();
        let port = free_port();
        let beacon = Beacon::new(&tasks, &filter()).on_port(port);
        let book = Book::new(events);
        let engine = Engine { settings, vault, trust, dial, tasks, beacon, book };
        Self { credentials: Credentials(Arc::new(engine)), port, _dir: dir }
    }

    /// Begins to send a secret. The code that is shown.
    async fn send(&self) -> ShortCode {
        let secret =
            SecretAddParams { name: "a".to_owned(), kind: SecretType::Plain, value: SecretText::new("x".to_owned()) };
        self.credentials.0.vault.add_secret(secret).await.unwrap();
        let params = serde_json::from_str(r#"{"kind":"secret","name":"a","detach":true}"#).unwrap();
        let sent = self.credentials.send(params, None).await.unwrap();
        // Until it listens.
        while UdpSocket::bind((Ipv4Addr::UNSPECIFIED, self.port)).is_ok() {
            tokio::task::yield_now().await;
        }
        ShortCode::parse(sent.code.unwrap().expose()).unwrap()
    }

    /// Begins to wait for a secret. Where, and with which certificate.
    async fn receive(&self, code: &str) -> (SocketAddr, [u8; 32]) {
        let params = serde_json::from_str(&format!(r#"{{"kind":"secret","code":"{code}","detach":true}}"#)).unwrap();
        let mut ears = self.credentials.0.beacon.listen().unwrap();
        self.credentials.receive(params, None).await.unwrap();
        let (announcement, source) = timeout(LONG, ears.next()).await.expect("an announcement in time");
        (SocketAddr::new(source, announcement.port), announcement.certificate_hash)
    }

    fn share(&self) -> Share {
        self.credentials.list().remove(0)
    }

    async fn becomes(&self, what: &str, wanted: impl Fn(&Share) -> bool) {
        let waiting = async {
            while !wanted(&self.share()) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        assert!(timeout(LONG, waiting).await.is_ok(), "{what}: {:?}", self.share());
    }

    async fn end(self) {
        let tasks = self.credentials.0.tasks.clone();
        assert!(tasks.end(LONG).await);
        assert_eq!(tasks.broken(), None);
    }
}

/// A receiver that the test plays.
struct Stage {
    door: Door,
    listener: TcpListener,
    receiver: Receiver,
}

impl Stage {
    async fn new(code: &ShortCode) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let receiver = Receiver::new(ShortCode::parse(code.expose()).unwrap());
        Self { door: Door::new().unwrap(), listener, receiver }
    }

    /// Says from `source` that it is there.
    fn announce(&self, device: &Device, source: [u8; 4]) {
        let port = self.listener.local_addr().unwrap().port();
        let certificate_hash = self.door.certificate_hash();
        let announcement = Announcement { protocol: Protocol::Kith { session: [1; 16] }, port, certificate_hash };
        let socket = UdpSocket::bind((Ipv4Addr::from(source), 0)).unwrap();
        socket.send_to(announcement.to_string().as_bytes(), (Ipv4Addr::LOCALHOST, device.port)).unwrap();
    }

    /// The next connection, and SHARE1.
    async fn met(&self) -> (Link, Vec<u8>) {
        let (tcp, remote) = timeout(LONG, self.listener.accept()).await.expect("in time").unwrap();
        let mut link = self.door.accept(tcp, remote).await.unwrap();
        let share1 = link.reader.frame(FRAME).await.unwrap();
        (link, share1)
    }

    /// Answers SHARE1.
    async fn answer(&self, link: &mut Link, share1: &[u8]) -> AwaitShare3 {
        let (awaiting, share2) = self.receiver.on_share1(share1, &link.binding, &random()).unwrap();
        link.writer.send_frame(&share2).await.unwrap();
        awaiting
    }

    /// Confirms, takes what comes and says that it is saved.
    async fn take(&mut self, mut link: Link, awaiting: AwaitShare3, share3: &[u8]) {
        let (awaiting, share4) = awaiting.on_share3(share3, &mut self.receiver).unwrap();
        link.writer.send_frame(&share4).await.unwrap();
        let payload = link.reader.frame(FRAME).await.unwrap();
        assert!(awaiting.on_payload(&payload).is_ok());
        link.writer.send_frame(&Message::Result(Outcome::Saved).encode()).await.unwrap();
        link.close().await;
    }
}

async fn share3(link: &mut Link) -> Vec<u8> {
    timeout(LONG, link.reader.frame(FRAME)).await.expect("in time").unwrap()
}

/// A sender that the test plays, which proved to know the code.
async fn proven(at: SocketAddr, hash: [u8; 32], code: &str) -> (Link, Confirmed) {
    let mut link = share::connect(at, hash).await.unwrap();
    let mut sender = Sender::new(ShortCode::parse(code).unwrap());
    let (awaiting, share1) = sender.start(&link.binding, &random());
    link.writer.send_frame(&share1).await.unwrap();
    let (awaiting, share3) = awaiting.on_share2(&link.reader.frame(FRAME).await.unwrap(), &mut sender).unwrap();
    link.writer.send_frame(&share3).await.unwrap();
    let confirmed = awaiting.on_share4(&link.reader.frame(FRAME).await.unwrap()).unwrap();
    (link, confirmed)
}

#[tokio::test]
async fn who_breaks_off_while_the_right_one_hands_over_ends_nothing() {
    let device = Device::new().await;
    let (at, hash) = device.receive("4821").await;
    let mut others = Vec::new();
    for _ in 1..limits::SHARE_CONNECTIONS_PER_ADDRESS {
        others.push(share::connect(at, hash).await.unwrap());
    }
    let (mut link, confirmed) = proven(at, hash, "4821").await;
    drop(others.pop());
    // There is a place again, so it was noticed.
    while share::connect(at, hash).await.is_err() && !device.share().state.is_final() {
        tokio::task::yield_now().await;
    }
    let payload = br#"{"type":"secret","name":"a","secretType":"plain","value":"x"}"#;
    link.writer.send_frame(&confirmed.payload(payload)).await.unwrap();
    device.becomes("it arrived", |share| share.state != ShareState::Waiting).await;
    assert_eq!(device.share().state, ShareState::Review, "{:?}", device.share().reason);
    device.end().await;
}

#[tokio::test]
async fn who_was_not_asked_is_tried_again_whatever_others_did_meanwhile() {
    let device = Device::new().await;
    let code = device.send().await;
    let (other, mut honest) = (Stage::new(&code).await, Stage::new(&code).await);
    other.announce(&device, [127, 0, 0, 1]);
    honest.announce(&device, [127, 0, 0, 1]);
    let ((mut link, share1), (broken, _)) = tokio::join!(other.met(), honest.met());
    drop(other.answer(&mut link, &share1).await);
    share3(&mut link).await;
    link.writer.send_frame(&Message::ShareFail(ShareFail::WrongCode).encode()).await.unwrap();
    device.becomes("the other one was asked", |share| share.attempts_left == Some(2)).await;
    drop(broken);
    let (mut link, share1) = loop {
        honest.announce(&device, [127, 0, 0, 1]);
        if let Ok(met) = timeout(Duration::from_millis(100), honest.met()).await {
            break met;
        }
        assert_eq!(device.share().state, ShareState::Waiting, "{:?}", device.share().reason);
    };
    let awaiting = honest.answer(&mut link, &share1).await;
    let share3 = share3(&mut link).await;
    honest.take(link, awaiting, &share3).await;
    device.becomes("it is saved", |share| share.state == ShareState::Saved).await;
    device.end().await;
}

#[tokio::test]
async fn the_last_attempt_is_an_attempt() {
    let device = Device::new().await;
    let code = device.send().await;
    let mut stages = Vec::new();
    for _ in 0..limits::SHORT_CODE_ATTEMPTS {
        let stage = Stage::new(&code).await;
        stage.announce(&device, [127, 0, 0, 1]);
        stages.push(stage);
    }
    let mut asked = Vec::new();
    for stage in stages {
        let (mut link, share1) = stage.met().await;
        let awaiting = stage.answer(&mut link, &share1).await;
        asked.push(Box::pin(async move {
            let share3 = share3(&mut link).await;
            (stage, link, awaiting, share3)
        }));
    }
    // Whoever is asked first and second has another code.
    for left in [2, 1] {
        let ((_, mut link, _, _), rest) = first(asked).await;
        link.writer.send_frame(&Message::ShareFail(ShareFail::WrongCode).encode()).await.unwrap();
        asked = rest;
        device.becomes("it is counted", |share| share.attempts_left == Some(left) || share.state.is_final()).await;
        assert_eq!(device.share().state, ShareState::Waiting, "{:?}", device.share().reason);
    }
    let ((mut stage, link, awaiting, share3), _) = first(asked).await;
    stage.take(link, awaiting, &share3).await;
    device.becomes("it is saved", |share| share.state == ShareState::Saved).await;
    device.end().await;
}

#[tokio::test]
async fn c20_an_address_where_nobody_speaks_does_not_keep_from_the_others() {
    let device = Device::new().await;
    let code = device.send().await;
    let mut honest = Stage::new(&code).await;
    let port = honest.listener.local_addr().unwrap().port();
    let mute = TcpListener::bind((Ipv4Addr::new(127, 0, 0, 3), port)).await.unwrap();
    honest.announce(&device, [127, 0, 0, 3]);
    honest.announce(&device, [127, 0, 0, 1]);
    let (held, _): (TcpStream, _) = timeout(LONG, mute.accept()).await.expect("in time").unwrap();
    let (tcp, remote) = timeout(LONG, honest.listener.accept()).await.expect("in time").unwrap();
    let mut hello = vec![0; 4096];
    while held.try_read(&mut hello).is_ok_and(|length| length > 0) {}
    let more = held.try_read(&mut hello).expect_err("it is still waited for");
    assert_eq!(more.kind(), std::io::ErrorKind::WouldBlock);
    let mut link = honest.door.accept(tcp, remote).await.unwrap();
    let share1 = link.reader.frame(FRAME).await.unwrap();
    let awaiting = honest.answer(&mut link, &share1).await;
    let share3 = share3(&mut link).await;
    honest.take(link, awaiting, &share3).await;
    device.becomes("it is saved", |share| share.state == ShareState::Saved).await;
    device.end().await;
}

/// What a paired device handed over, in the inbox.
async fn offered(device: &Device) -> String {
    let json = br#"{"type":"secret","name":"a","secretType":"plain","value":"x"}"#;
    let view = Share { state: ShareState::Review, ..book::new(Direction::In, ShareKind::Secret, None, None) };
    let (id, peer) = (view.share.clone(), kith_proto::id::PublicKey([7; 32]));
    device.credentials.0.vault.keep_offered(&id, peer, &Payload::parse(json).unwrap()).await.unwrap();
    device.credentials.0.book.keep(view);
    id
}

#[tokio::test]
async fn what_is_being_saved_is_not_declined() {
    let device = Device::new().await;
    let id = offered(&device).await;
    let book = &device.credentials.0.book;
    book.hold(&id).unwrap();
    assert_eq!(device.credentials.decline(&id).await.unwrap_err().code, Code::WrongState);
    book.saved(&id, &Err(ApiError::new(Code::NameTaken, "it may be tried again")));
    assert!(device.credentials.review(&id).await.is_ok(), "it still waits");
    assert_eq!(device.credentials.decline(&id).await.unwrap().state, ShareState::Declined);
    assert_eq!(device.credentials.0.vault.offered().await.unwrap(), []);
    assert_eq!(device.credentials.decline(&id).await.unwrap_err().code, Code::WrongState);
    device.end().await;
}

#[tokio::test]
async fn what_is_over_is_forgotten_and_stays_as_it_ended() {
    let device = Device::new().await;
    let mut ids = Vec::new();
    for _ in 0..30 {
        ids.push(offered(&device).await);
    }
    for id in ids {
        device.credentials.decline(&id).await.unwrap();
    }
    device.receive("4821").await;
    assert_eq!(device.credentials.list().len(), 15 + 1);
    let id = device.share().share;
    let ended = device.credentials.cancel(&id).unwrap();
    device.credentials.0.book.attempts(&id, 1);
    assert_eq!(device.share(), ended);
    device.end().await;
}

#[tokio::test]
async fn a_sender_that_waited_in_vain_for_a_review_says_so() {
    let device = Device::new().await;
    let code = device.send().await;
    let mut stage = Stage::new(&code).await;
    stage.announce(&device, [127, 0, 0, 1]);
    let (mut link, share1) = stage.met().await;
    let awaiting = stage.answer(&mut link, &share1).await;
    let share3 = share3(&mut link).await;
    let (_, share4) = awaiting.on_share3(&share3, &mut stage.receiver).unwrap();
    link.writer.send_frame(&share4).await.unwrap();
    device.becomes("it is looked through", |share| share.state == ShareState::Review).await;
    tokio::time::pause();
    tokio::time::advance(REVIEW + LONG).await;
    tokio::time::resume();
    device.becomes("it is over", |share| share.state == ShareState::Failed).await;
    let reason = device.share().reason.unwrap();
    assert!(reason.code == "timed_out" && !reason.message.contains("find each other"), "{reason:?}");
    device.end().await;
}

#[test]
fn why_nobody_came_is_said() {
    let share = |attempts_left, compat| Share {
        attempts_left,
        compat,
        ..book::new(Direction::In, ShareKind::Secret, None, Some(1))
    };
    assert_eq!(receive::nobody(&share(Some(3), false)).code, Code::TimedOut);
    assert_eq!(receive::nobody(&share(Some(2), false)).code, Code::WrongPin);
    assert_eq!(receive::nobody(&share(None, true)).code, Code::TimedOut, "there, tries are not counted");
}

/// The first of these that is done, and the others.
async fn first<F: Future + Unpin>(mut running: Vec<F>) -> (F::Output, Vec<F>) {
    std::future::poll_fn(|cx| {
        for at in 0..running.len() {
            if let std::task::Poll::Ready(output) = std::pin::Pin::new(&mut running[at]).poll(cx) {
                drop(running.swap_remove(at));
                return std::task::Poll::Ready((output, std::mem::take(&mut running)));
            }
        }
        std::task::Poll::Pending
    })
    .await
}
