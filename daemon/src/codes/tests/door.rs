//! `kith-join/1` over real connections.

use std::net::SocketAddr;

use kith_proto::peer::Alpn;
use tokio::net::TcpListener;

use super::*;
use crate::tls::{Channel, channel};

/// A device with a key and a certificate of its own.
struct Device {
    identity: Arc<Identity>,
    tls: Tls,
    _dir: tempfile::TempDir,
}

async fn device(name: &str) -> Device {
    let dir = tempfile::tempdir().unwrap();
    let database = dir.path().join("kith.db");
    let identity = Identity::open(dir.path(), &database, name, false).unwrap();
    let trust = Trust::open(Store::open(&database).unwrap(), dir.path().join("generation")).await.unwrap();
    Device { tls: Tls::new(&identity, &trust).unwrap(), identity, _dir: dir }
}

/// The issuer's peer door, for JOINs.
async fn door(host: &Host) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (codes, tls, tasks) = (host.codes.clone(), host.tls.clone(), host.tasks.clone());
    host.tasks.spawn("door", async move {
        let stop = tasks.stopping().clone();
        while let Some(Ok((tcp, remote))) = stop.run_until_cancelled(listener.accept()).await {
            let (codes, tls) = (codes.clone(), tls.clone());
            tasks.spawn("join", async move {
                if let Ok((Alpn::Join, channel)) = channel::accept(&tls, tcp, remote, |_| true).await {
                    codes.serve(channel).await;
                }
            });
        }
    });
    address
}

impl Device {
    async fn connect(&self, door: SocketAddr, host: &Host) -> Channel {
        channel::connect(&self.tls, door, Alpn::Join, Some(host.identity.public())).await.unwrap()
    }

    fn proof(&self, host: &Host, code: &Code, exporter: &[u8; 32]) -> Join {
        let (issuer, own) = (host.identity.public(), self.identity.public());
        let name = self.identity.name().to_owned();
        Join::new(&code.secret.keys().proof, code.resource(), &issuer, &own, exporter, name, 44_001)
    }

    async fn say(&self, door: SocketAddr, host: &Host, frame: &[u8]) -> JoinResult {
        let mut channel = self.connect(door, host).await;
        channel.writer.send_frame(frame).await.unwrap();
        let answer = channel.reader.frame(limits::FRAME_UNAUTHENTICATED).await.unwrap();
        channel.close().await;
        JoinResult::decode(&answer).unwrap()
    }

    async fn join(&self, door: SocketAddr, host: &Host, code: &Code) -> JoinResult {
        let mut channel = self.connect(door, host).await;
        let join = self.proof(host, code, &channel.binding.exporter);
        channel.writer.send_frame(&join.encode()).await.unwrap();
        let answer = channel.reader.frame(limits::FRAME_UNAUTHENTICATED).await.unwrap();
        channel.close().await;
        JoinResult::decode(&answer).unwrap()
    }
}

#[tokio::test]
async fn g72_a_stranger_with_the_code_becomes_a_member_over_one_connection() {
    let host = host(&[]).await;
    let (door, code, b) = (door(&host).await, host.issue(1).await, device("laptop").await);
    assert_eq!(b.join(door, &host, &code).await.reason, Reason::Ok);
    let trusted = host.trust.snapshot().trusted(&b.identity.public()).unwrap().clone();
    assert_eq!((trusted.name.as_str(), trusted.addresses[0].port()), ("laptop", 44_001));
    assert_eq!(b.join(door, &host, &code).await.reason, Reason::AlreadyMember);
    assert_eq!(host.totals(), [1; 4]);
    host.end().await;
}

#[tokio::test]
async fn g73_a_captured_proof_holds_in_no_other_session_and_for_nobody_else() {
    let host = host(&[]).await;
    let (door, code) = (door(&host).await, host.issue(0).await);
    let (b, thief) = (device("laptop").await, device("thief").await);
    let mut channel = b.connect(door, &host).await;
    let captured = b.proof(&host, &code, &channel.binding.exporter).encode();
    for device in [&thief, &b] {
        let heard = device.say(door, &host, &captured).await;
        assert_eq!(heard, Reason::UnknownCode.into(), "{}", device.identity.name());
    }
    assert_eq!(host.totals(), [0; 4]);
    channel.writer.send_frame(&captured).await.unwrap();
    let answer = channel.reader.frame(limits::FRAME_UNAUTHENTICATED).await.unwrap();
    assert_eq!(JoinResult::decode(&answer).unwrap().reason, Reason::Ok, "in its own session it does");
    channel.close().await;
    host.end().await;
}

#[tokio::test]
async fn g73_wrong_proofs_end_in_a_rest_also_for_a_right_one() {
    let host = host(&[]).await;
    let (door, code, b) = (door(&host).await, host.issue(1).await, device("laptop").await);
    let newer = br#"{"type":"join","v":2,"more":"unknown"}"#;
    assert_eq!(b.say(door, &host, newer).await.reason, Reason::VersionUnsupported);
    let garbage = [&b"{}"[..], b"\xff\x00", br#"{"type":"pair","v":9}"#];
    for n in 0..limits::JOIN_BAD_PROOFS as usize {
        let heard = match garbage.get(n) {
            Some(garbage) => b.say(door, &host, garbage).await,
            None => b.say(door, &host, &b.proof(&host, &code, &[9; 32]).encode()).await,
        };
        assert_eq!(heard, Reason::UnknownCode.into());
    }
    let rests = b.join(door, &host, &code).await;
    assert_eq!(rests.reason, Reason::RateLimited);
    assert!(rests.retry_after.is_some_and(|seconds| (1..=601).contains(&seconds)));
    assert_eq!(host.totals(), [0; 4]);
    host.end().await;
}

#[tokio::test]
async fn g73_there_are_so_many_places_and_whoever_finds_none_comes_again() {
    let host = host(&[]).await;
    let (door, code, b) = (door(&host).await, host.issue(1).await, device("laptop").await);
    let places = host.codes.0.places.clone().acquire_many_owned(limits::JOIN_QUEUE as u32).await.unwrap();
    let heard = b.join(door, &host, &code).await;
    assert_eq!((heard.reason, heard.retry_after), (Reason::Busy, Some(5)));
    drop(places);
    assert_eq!(b.join(door, &host, &code).await.reason, Reason::Ok);
    host.end().await;
}

#[tokio::test]
async fn what_is_too_long_is_not_read_and_who_says_nothing_is_not_waited_for_when_the_daemon_stops() {
    let host = host(&[]).await;
    let (door, b) = (door(&host).await, device("laptop").await);
    let mut channel = b.connect(door, &host).await;
    channel.writer.send_frame(&vec![b' '; limits::FRAME_UNAUTHENTICATED + 1]).await.unwrap();
    assert!(channel.reader.frame(limits::FRAME_UNAUTHENTICATED).await.is_err());
    assert_eq!(host.totals(), [0; 4]);
    host.end().await;
}
