//! Two devices and real mDNS on loopback. Other devices may be on the network, too: each test looks for its own.

use std::path::Path;

use clap::Parser;
use kith_proto::control::Code;
use kith_proto::control::types::Relation;
use tokio::time::timeout;

use super::*;
use crate::config::Args;
use crate::event::{Read, Reader};
use crate::store::Store;

/// The end of patience: far beyond what anything here takes.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

struct Host {
    tasks: Tasks,
    trust: Trust,
    identity: Arc<Identity>,
    discovery: Discovery,
    facts: Reader,
    _dir: tempfile::TempDir,
}

async fn host(name: &str, port: u16, mdns: bool) -> Host {
    let dir = tempfile::tempdir().unwrap();
    let (tasks, events) = (Tasks::default(), Events::default());
    let identity = Identity::open(dir.path(), &dir.path().join("kith.db"), name, false).unwrap();
    let store = Store::open(&dir.path().join("kith.db")).unwrap();
    let trust = Trust::open(store, dir.path().join("generation")).await.unwrap();
    let settings = settings(dir.path(), mdns);
    let discovery = Discovery::start(&tasks, &events, &trust, &settings, &identity, port);
    Host { tasks, trust, identity, discovery, facts: events.reader(0), _dir: dir }
}

/// Everything under `home`, and loopback counts.
pub(crate) fn settings(home: &Path, mdns: bool) -> Settings {
    let mut settings = Settings::load(&Args::parse_from(["kithd", "--home", home.to_str().unwrap()])).unwrap();
    settings.config.discovery.enabled = mdns;
    settings.config.discovery.loopback = true;
    settings
}

impl Host {
    /// The next fact about `other`.
    async fn fact(&mut self, other: &Identity) -> (String, serde_json::Value) {
        let wanted = async {
            loop {
                if let Read::Fact(event) = self.facts.next().await
                    && event.data["id"] == other.id().to_string()
                {
                    return (event.kind.clone(), event.data.clone());
                }
            }
        };
        timeout(PATIENCE, wanted).await.expect("a fact in time")
    }

    /// Reads facts about `other` until one is of this kind.
    async fn wait(&mut self, other: &Identity, kind: &str) -> serde_json::Value {
        loop {
            let (found, data) = self.fact(other).await;
            if found == kind {
                return data;
            }
            assert_eq!(found, "peer:updated", "while waiting for {kind}");
        }
    }

    async fn end(self) {
        assert!(self.tasks.end(PATIENCE).await);
        assert_eq!(self.tasks.broken(), None);
    }
}

#[tokio::test]
async fn two_devices_see_each_other_come_and_go() {
    let mut a = host("attic", 44_321, true).await;
    let mut b = host("größe\u{1b} [x].y", 44_322, true).await;
    let seen = a.wait(&b.identity, "peer:discovered").await;
    assert_eq!((&seen["name"], &seen["state"]), (&"größe [x].y".into(), &"discovered".into()));
    let mut snapshots = a.discovery.watch();
    let on_loopback = |snapshot: &Arc<Snapshot>| {
        let addresses = snapshot.peers.get(&b.identity.id()).map(|peer| peer.addresses.clone()).unwrap_or_default();
        addresses.contains(&"127.0.0.1:44322".parse().unwrap())
    };
    timeout(PATIENCE, snapshots.wait_for(on_loopback)).await.expect("its address").unwrap();
    b.wait(&a.identity, "peer:discovered").await;

    let id = b.identity.id().to_string();
    assert_eq!(a.discovery.find(&id[..12]).unwrap().id, b.identity.id());
    assert_eq!(a.discovery.find("Größe [x].y").unwrap().id, b.identity.id());
    assert_eq!(a.discovery.find("nobody").unwrap_err().code, Code::PeerNotFound);
    assert!(a.discovery.view(&b.identity.public()).unwrap().online);

    b.discovery.goodbye().await;
    a.wait(&b.identity, "peer:lost").await;
    assert!(a.discovery.view(&b.identity.public()).is_none());
    a.end().await;
    b.end().await;
}

#[tokio::test]
async fn a_trusted_device_is_worth_a_probe() {
    let (mut a, b) = (host("a", 44_323, true).await, host("b", 44_324, true).await);
    let key = b.identity.public();
    let mut probes = a.discovery.take_probes().unwrap();
    a.wait(&b.identity, "peer:discovered").await;
    a.trust.pair(key, "b".to_owned(), Relation::Own, None).await.unwrap();
    assert_eq!(a.wait(&b.identity, "peer:paired").await["online"], true);
    assert_eq!(timeout(PATIENCE, probes.recv()).await.unwrap(), Some(key));
    let address = "127.0.0.1:44324".parse().unwrap();
    a.discovery.reached(key, address, Contact::Answered);
    while a.trust.snapshot().trusted(&key).unwrap().addresses != [address] {
        tokio::task::yield_now().await;
    }
    b.discovery.goodbye().await;
    assert_eq!(timeout(PATIENCE, probes.recv()).await.unwrap(), Some(key));
    assert!(a.discovery.view(&key).unwrap().online, "a goodbye is anybody's word");
    a.discovery.unreachable(b.identity.id());
    a.wait(&b.identity, "peer:lost").await;
    a.trust.revoke(key).await.unwrap();
    a.wait(&b.identity, "peer:revoked").await;
    assert!(a.discovery.peers().iter().all(|peer| peer.id != b.identity.id()));
    a.end().await;
    b.end().await;
}

#[tokio::test]
async fn without_mdns_a_device_lives_on() {
    let a = host("a", 44_325, false).await;
    a.discovery.goodbye().await;
    assert!(a.discovery.peers().is_empty());
    assert!(!a.discovery.own_addresses().is_empty());
    a.end().await;
}

#[tokio::test]
async fn where_codes_are_given_out_is_announced_anew_whenever_it_changes() {
    let (a, b) = (host("a", 44_326, true).await, host("b", 44_327, true).await);
    let mut snapshots = a.discovery.watch();
    for offered in [Some(53_318), Some(50_000), None] {
        b.discovery.offer_hello(offered);
        let seen = |snapshot: &Arc<Snapshot>| {
            snapshot.peers.get(&b.identity.id()).is_some_and(|peer| peer.online && peer.hello == offered)
        };
        timeout(PATIENCE, snapshots.wait_for(seen))
            .await
            .unwrap_or_else(|_| panic!("{offered:?}: {:?}", a.discovery.snapshot()))
            .unwrap();
    }
    a.end().await;
    b.end().await;
}
