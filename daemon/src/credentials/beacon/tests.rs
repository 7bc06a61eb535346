use std::collections::BTreeSet;

use tokio::time::timeout;

use super::*;
use crate::config::DiscoveryConfig;
use crate::discovery::interfaces::tests::lan;

const LONG: Duration = Duration::from_secs(30);

/// This host alone: nobody else need hear a test.
pub fn filter() -> Arc<Filter> {
    Arc::new(Filter::new(&DiscoveryConfig { interfaces: vec!["lo".to_owned()], ..DiscoveryConfig::default() }))
}

/// A UDP port that nobody uses now, so that tests do not hear each other.
pub fn free_port() -> u16 {
    Plain::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap().local_addr().unwrap().port()
}

fn announcement(protocol: Protocol) -> Announcement {
    Announcement { protocol, port: 7, certificate_hash: [7; 32] }
}

async fn hears(ears: &mut Ears) -> (Announcement, IpAddr) {
    timeout(LONG, ears.next()).await.expect("an announcement in time")
}

#[tokio::test]
async fn several_daemons_and_several_shares_of_each_hear_the_same_receiver() {
    let (tasks, port) = (Tasks::default(), free_port());
    for protocol in [Protocol::Kith { session: [9; 16] }, Protocol::Photosphere] {
        let daemons: Vec<_> = (0..3).map(|_| Beacon::new(&tasks, &filter()).on_port(port)).collect();
        let mut ears: Vec<_> = daemons.iter().chain(&daemons).map(|it| it.listen().unwrap()).collect();
        let speaker = Beacon::new(&tasks, &filter()).on_port(port);
        let said = announcement(protocol);
        let hearing = async {
            for ears in &mut ears {
                // One datagram may go to one listener only; the next one to all of them.
                let (heard, source) = hears(ears).await;
                assert_eq!(heard, said);
                assert!(source.is_ipv4());
            }
        };
        tokio::select! {
            never = speaker.announce(&said) => match never {},
            () = hearing => {}
        }
    }
    assert!(tasks.end(LONG).await);
}

#[tokio::test]
async fn the_socket_is_there_only_while_somebody_listens() {
    let (tasks, port) = (Tasks::default(), free_port());
    let beacon = Beacon::new(&tasks, &filter()).on_port(port);
    let alone = || Plain::bind((Ipv4Addr::UNSPECIFIED, port));
    assert!(alone().is_ok());
    let (first, second) = (beacon.listen().unwrap(), beacon.listen().unwrap());
    assert!(alone().is_err());
    drop(first);
    tokio::task::yield_now().await;
    assert!(alone().is_err(), "one share still listens");
    drop(second);
    timeout(LONG, async {
        while alone().is_err() {
            tokio::task::yield_now().await;
        }
    })
    .await
    .expect("it closes");
    let held = alone().unwrap();
    let error = beacon.listen().err().unwrap();
    assert_eq!(error.code, Code::Busy);
    drop(held);
    let mut again = beacon.listen().unwrap();
    Plain::bind("127.0.0.1:0")
        .unwrap()
        .send_to(announcement(Protocol::Photosphere).to_string().as_bytes(), ("127.0.0.1", port))
        .unwrap();
    assert_eq!(hears(&mut again).await, (announcement(Protocol::Photosphere), IpAddr::from([127, 0, 0, 1])));
    drop(again);
    assert!(tasks.end(LONG).await);
}

#[tokio::test]
async fn c19_a_flood_costs_nothing_but_time() {
    let (tasks, port) = (Tasks::default(), free_port());
    let beacon = Beacon::new(&tasks, &filter()).on_port(port);
    let (mut ears, idle) = (beacon.listen().unwrap(), beacon.listen().unwrap());
    let socket = Plain::bind("127.0.0.1:0").unwrap();
    let send = |datagram: &[u8]| drop(socket.send_to(datagram, ("127.0.0.1", port)));
    let (real, longest) = (announcement(Protocol::Photosphere), vec![b'P'; 65_507]);
    for n in 0..10_000_u16 {
        let mut other = real;
        other.certificate_hash = [0; 32];
        other.certificate_hash[..2].copy_from_slice(&n.to_be_bytes());
        send(other.to_string().as_bytes());
        send(format!("{other}\n").as_bytes());
        if n % 100 == 0 {
            send(&longest);
            tokio::task::yield_now().await;
        }
    }
    let mut heard = BTreeSet::new();
    let hearing = async {
        loop {
            let (other, _) = ears.next().await;
            if other == real {
                return;
            }
            heard.insert(other.certificate_hash);
            assert_eq!(other.port, 7);
        }
    };
    let speaker = Beacon::new(&tasks, &filter()).on_port(port);
    tokio::select! {
        never = speaker.announce(&real) => match never {},
        outcome = timeout(LONG, hearing) => outcome.expect("the real one is heard behind all others"),
    }
    // Who did not listen meanwhile, has missed most of them; who never does, keeps nobody from hearing.
    assert!(!heard.is_empty() && heard.len() < 5_000, "{}", heard.len());
    drop((ears, idle));
    assert!(tasks.end(LONG).await);
}

#[tokio::test]
async fn c20_announcements_from_elsewhere_are_not_heard() {
    let lan = Lan::read(&filter());
    let socket = bind(free_port()).unwrap();
    let mut reader = Reader { socket, filter: filter(), lan, lan_read: Instant::now() };
    for (source, near) in [("127.0.0.1", true), ("192.168.7.9", true), ("8.8.8.8", false), ("0.0.0.0", false)] {
        assert_eq!(reader.is_near(source.parse().unwrap()), near, "{source}");
    }
}

#[test]
fn every_way_out_is_taken() {
    let lan = lan(false, &[("192.168.1.5", 24, true), ("10.0.0.1", 8, true), ("127.0.0.1", 8, false)]);
    for (protocol, wanted) in [
        (Protocol::Kith { session: [0; 16] }, ["10.0.0.1 10.255.255.255", "192.168.1.5 192.168.1.255"]),
        (Protocol::Photosphere, ["10.0.0.1 255.255.255.255", "192.168.1.5 255.255.255.255"]),
    ] {
        let ways = destinations(&lan, protocol);
        let ways: Vec<_> = ways.iter().map(|(from, to)| format!("{from} {to}")).collect();
        assert_eq!(ways, [&["127.0.0.1 127.0.0.1", "127.0.0.1 127.255.255.255"][..], &wanted].concat());
    }
    // One that does not work keeps nobody from the others.
    assert!(send(Ipv4Addr::new(203, 0, 113, 1), (Ipv4Addr::BROADCAST, 9), b"x").is_err());
}
