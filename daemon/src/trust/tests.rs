use kith_proto::control::types::Offers;

use super::*;

async fn trust(dir: &std::path::Path) -> Trust {
    Trust::open(Store::open(&dir.join("kith.db")).unwrap(), dir.join("generation")).await.unwrap()
}

fn key(byte: u8) -> PublicKey {
    PublicKey([byte; 32])
}

#[tokio::test]
async fn revoked_devices_stay_as_tombstones_until_they_pair_again() {
    let dir = tempfile::tempdir().unwrap();
    let trust = trust(dir.path()).await;
    let auto = Policy { offers: Offers::Auto, ..Policy::default() };
    trust.pair(key(1), "nas".to_owned(), Relation::Own, None).await.unwrap();
    trust.set_policy(key(1), Relation::Own, auto.clone()).await.unwrap();
    assert_eq!(trust.snapshot().trusted(&key(1)).unwrap().policy, auto);
    trust.revoke(key(1)).await.unwrap();
    assert!(trust.snapshot().trusted(&key(1)).is_none());
    assert!(trust.snapshot().find("nas").unwrap().revoked_ms.is_some());
    trust.pair(key(1), "nas".to_owned(), Relation::Own, None).await.unwrap();
    assert_eq!(trust.snapshot().trusted(&key(1)).unwrap().policy, Policy::default(), "trust begins anew");
}

#[tokio::test]
async fn d26_same_key_stays_and_same_name_does_not() {
    let dir = tempfile::tempdir().unwrap();
    let trust = trust(dir.path()).await;
    trust.pair(key(1), "nas".to_owned(), Relation::Own, None).await.unwrap();
    trust.pair(key(2), "NAS".to_owned(), Relation::Own, None).await.unwrap();
    let snapshot = trust.snapshot();
    assert_eq!(snapshot.devices.len(), 2);
    assert_eq!(snapshot.same_name(&key(2), "NAS").unwrap().key, key(1));
    assert_eq!(snapshot.find("nas").unwrap_err().code, Code::PeerAmbiguous);
    assert_eq!(snapshot.find(&key(2).device_id().to_string()).unwrap().key, key(2));
    assert_eq!(snapshot.find("attic").unwrap_err().code, Code::PeerNotFound);
}

#[tokio::test]
async fn a_guest_always_asks() {
    let dir = tempfile::tempdir().unwrap();
    let trust = trust(dir.path()).await;
    trust.pair(key(1), "nas".to_owned(), Relation::Guest, None).await.unwrap();
    let auto = Policy { offers: Offers::Auto, ..Policy::default() };
    trust.set_policy(key(1), Relation::Guest, auto).await.unwrap();
    assert_eq!(trust.snapshot().trusted(&key(1)).unwrap().policy.offers, Offers::Ask);
}

#[tokio::test]
async fn d35_a_restored_database_is_noticed() {
    let dir = tempfile::tempdir().unwrap();
    let first = trust(dir.path()).await;
    first.pair(key(1), "nas".to_owned(), Relation::Own, None).await.unwrap();
    assert!(!first.restored());
    first.store.read(|c| c.execute("VACUUM INTO ?1", [c.path().unwrap().to_owned() + ".backup"])).await.unwrap();
    first.revoke(key(1)).await.unwrap();
    drop(first);
    for suffix in ["", "-wal", "-shm"] {
        let _ = std::fs::remove_file(dir.path().join(format!("kith.db{suffix}")));
    }
    std::fs::rename(dir.path().join("kith.db.backup"), dir.path().join("kith.db")).unwrap();
    assert!(trust(dir.path()).await.restored());
}
