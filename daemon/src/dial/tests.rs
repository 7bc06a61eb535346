use kith_proto::control::types::Relation;
use tokio::net::TcpListener;

use super::race::STAGGER;
use super::*;
use crate::discovery::tests::{PATIENCE as LONG, settings};
use crate::event::{Events, Read};
use crate::store::Store;

/// A device with a peer door on loopback that answers probes, and pairing while `pairing` says so.
pub(super) struct Host {
    tasks: Tasks,
    trust: Trust,
    identity: Arc<Identity>,
    discovery: Discovery,
    pub(super) dial: Dial,
    events: Events,
    door: SocketAddr,
    _dir: tempfile::TempDir,
}

pub(super) async fn host(name: &str, pairing: bool) -> Host {
    let dir = tempfile::tempdir().unwrap();
    let tasks = Tasks::default();
    let events = Events::default();
    let identity = Identity::open(dir.path(), &dir.path().join("kith.db"), name, false).unwrap();
    let store = Store::open(&dir.path().join("kith.db")).unwrap();
    let trust = Trust::open(store, dir.path().join("generation")).await.unwrap();
    let tls = Tls::new(&identity, &trust).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let door = listener.local_addr().unwrap();
    let settings = settings(dir.path(), false);
    let discovery = Discovery::start(&tasks, &events, &trust, &settings, &identity, door.port());
    tasks.spawn("door", answer(tasks.clone(), listener, tls.clone(), discovery.clone(), name.to_owned(), pairing));
    let dial = Dial::start(&tasks, tls, &trust, &discovery, &identity, 0);
    Host { tasks, trust, identity, discovery, dial, events, door, _dir: dir }
}

async fn answer(tasks: Tasks, listener: TcpListener, tls: Tls, discovery: Discovery, name: String, pairing: bool) {
    let stop = tasks.stopping().clone();
    while let Some(Ok((tcp, remote))) = stop.run_until_cancelled(listener.accept()).await {
        let (tls, discovery, name) = (tls.clone(), discovery.clone(), name.clone());
        tasks.spawn("session", async move {
            let allow = |alpn| alpn == Alpn::Send || pairing;
            let Ok((alpn, mut channel)) = channel::accept(&tls, tcp, remote, allow).await else { return };
            if alpn == Alpn::Send {
                discovery.reached(channel.peer, channel.remote, Contact::Called);
                while let Ok(Message::Ping { .. }) = channel.reader.message(4096).await {
                    channel.writer.send(&Message::Pong { name: name.clone() }).await.unwrap();
                }
            }
            channel.close().await;
        });
    }
}

impl Host {
    async fn trusts(&self, other: &Host, address: Option<SocketAddr>) {
        self.trust.pair(other.identity.public(), "other".to_owned(), Relation::Own, address).await.unwrap();
    }

    pub(super) async fn end(self) {
        assert!(self.tasks.end(LONG).await);
        assert_eq!(self.tasks.broken(), None);
    }
}

#[tokio::test]
async fn only_the_right_key_answers() {
    let (a, b, c) = (host("a", false).await, host("b", true).await, host("c", false).await);
    let key = b.identity.public();
    let dead = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();

    let connect = async |addresses: &[SocketAddr], alpn, whom| a.dial.any_of(addresses, alpn, whom).await.err();
    assert!(
        connect(&[dead, c.door, a.door, b.door], Alpn::Send, Whom::Key(key)).await.is_none(),
        "one of them is right"
    );
    assert!(connect(&[b.door], Alpn::Pair, Whom::Anybody).await.is_none());
    let id = b.identity.id();
    assert!(
        connect(&[c.door, b.door], Alpn::Send, Whom::Id(id)).await.is_none(),
        "D28: who claims its id is passed over"
    );
    assert!(matches!(connect(&[c.door], Alpn::Send, Whom::Id(id)).await, Some(Error::WrongKey)));
    assert!(matches!(connect(&[], Alpn::Send, Whom::Anybody).await, Some(Error::Offline(_))));
    assert!(matches!(connect(&[dead], Alpn::Send, Whom::Key(key)).await, Some(Error::Offline(_))));
    assert!(matches!(connect(&[dead, c.door], Alpn::Send, Whom::Key(key)).await, Some(Error::WrongKey)));
    for whom in [Whom::Key(key), Whom::Anybody] {
        let error = connect(&[a.door], Alpn::Send, whom).await.unwrap();
        assert!(matches!(error, Error::IsSelf), "{error}");
        assert_eq!(a.dial.decoys.lock().unwrap().len(), 1, "remembered once");
        a.dial.decoys.lock().unwrap().clear();
    }
    assert!(matches!(a.dial.device(&key, Alpn::Send).await.err(), Some(Error::NotPaired)));

    a.trusts(&b, Some(c.door)).await;
    assert!(matches!(a.dial.device(&key, Alpn::Send).await.err(), Some(Error::WrongKey)));
    a.trusts(&b, Some(dead)).await;
    assert!(
        matches!(a.dial.device(&key, Alpn::Send).await.err(), Some(Error::Offline(_))),
        "the old address is reused"
    );
    a.trusts(&b, Some(b.door)).await;
    let mut channel = a.dial.device(&key, Alpn::Send).await.unwrap();
    let refusal = channel.reader.message::<Message>(4096).await;
    assert!(matches!(refusal, Err(ChannelError::NotTrusted)), "{refusal:?}");
    for host in [a, b, c] {
        host.end().await;
    }
}

#[tokio::test]
async fn a_silent_address_delays_by_a_quarter_of_a_second() {
    let (a, b) = (host("a", false).await, host("b", false).await);
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addresses = [silent.local_addr().unwrap(), b.door];
    let start = Instant::now();
    assert!(a.dial.any_of(&addresses, Alpn::Send, Whom::Key(b.identity.public())).await.is_ok());
    // And not for as long as one address may take.
    assert!((STAGGER..HANDSHAKE).contains(&start.elapsed()), "{:?}", start.elapsed());
    a.end().await;
    b.end().await;
}

#[tokio::test]
async fn a_closed_pairing_window_is_no_protocol() {
    let (a, b) = (host("a", false).await, host("b", false).await);
    for (door, expected) in [(b.door, "pairing_expired"), (a.door, "is_self")] {
        let error = a.dial.any_of(&[door], Alpn::Pair, Whom::Anybody).await.err().unwrap();
        assert_eq!(ApiError::from(error).code.as_str(), expected);
    }
    a.end().await;
    b.end().await;
}

/// The next fact about a peer.
async fn fact(reader: &mut crate::event::Reader) -> String {
    match timeout(LONG, reader.next()).await.expect("a fact in time") {
        Read::Fact(event) => event.kind.clone(),
        Read::Missed(missed) => panic!("{missed} facts missed"),
    }
}

#[tokio::test]
async fn the_prober_finds_a_device_at_its_last_address_and_notices_its_end() {
    let (a, b) = (host("a", false).await, host("b", false).await);
    let mut facts = a.events.reader(0);
    b.trusts(&a, None).await;
    a.trusts(&b, Some(b.door)).await;
    assert_eq!(fact(&mut facts).await, "peer:paired");
    assert_eq!(fact(&mut facts).await, "peer:discovered");
    assert_eq!(fact(&mut facts).await, "peer:updated");
    let peer = a.discovery.find("b").expect("it told its name");
    assert!(peer.online && peer.addresses == [b.door.to_string()], "{peer:?}");
    let key = b.identity.public();
    b.end().await;
    assert!(a.dial.device(&key, Alpn::Send).await.is_err());
    assert_eq!(fact(&mut facts).await, "peer:lost");
    a.end().await;
}

#[tokio::test]
async fn a_refusal_changes_nothing() {
    let (a, b) = (host("a", false).await, host("b", false).await);
    let mut facts = a.events.reader(0);
    a.trusts(&b, Some(b.door)).await;
    assert_eq!(fact(&mut facts).await, "peer:paired");
    assert_eq!(fact(&mut facts).await, "peer:discovered");
    while a.dial.refused.lock().unwrap().is_empty() {
        tokio::task::yield_now().await;
    }
    assert!(a.trust.snapshot().trusted(&b.identity.public()).is_some());
    assert!(a.discovery.view(&b.identity.public()).unwrap().online);
    a.end().await;
    b.end().await;
}

#[tokio::test]
async fn hosts_and_ports() {
    let a = host("a", false).await;
    for (input, default, expected) in [
        ("192.168.1.9", Some(44_000), Ok("192.168.1.9:44000")),
        ("192.168.1.9:44001", None, Ok("192.168.1.9:44001")),
        ("fd00::9", Some(44_000), Ok("[fd00::9]:44000")),
        ("[fd00::9]", Some(44_000), Ok("[fd00::9]:44000")),
        ("[fd00::9]:44001", None, Ok("[fd00::9]:44001")),
        ("192.168.1.9", None, Err("invalid_param")),
        ("192.168.1.9:0", None, Err("invalid_param")),
        ("192.168.1.9:70000", None, Err("invalid_param")),
        ("[192.168.1.9]:44001", None, Err("invalid_param")),
        ("[fd00::9", Some(1), Err("invalid_param")),
        ("[fd00::9]x", Some(1), Err("invalid_param")),
        (":44001", None, Err("invalid_param")),
        ("", Some(1), Err("invalid_param")),
        ("a b", Some(1), Err("invalid_param")),
        ("nobody.invalid", Some(1), Err("peer_offline")),
    ] {
        let found = a.dial.resolve(input, default).await;
        let found = found.map(|found| found[0].to_string()).map_err(|error| ApiError::from(error).code.as_str());
        assert_eq!(found.as_deref().map_err(|code| *code), expected, "{input}");
    }
    assert!(a.dial.resolve("localhost", Some(1)).await.unwrap().iter().all(|address| address.ip().is_loopback()));
    a.end().await;
}
