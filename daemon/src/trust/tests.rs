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

#[tokio::test]
async fn who_comes_by_a_code_is_somebody_else_s_and_changes_nothing_that_was_decided() {
    let dir = tempfile::tempdir().unwrap();
    let trust = trust(dir.path()).await;
    let at = |port| Some(SocketAddr::from(([192, 168, 1, 9], port)));
    let admit = |n, address| {
        let trust = trust.clone();
        async move { trust.write(move |tx, it| it.admit(tx, &key(n), "it\u{7}self", address, 5)).await.unwrap() }
    };
    assert_eq!(admit(1, at(1)).await, Admitted::New);
    let snapshot = trust.snapshot();
    let new = snapshot.trusted(&key(1)).unwrap();
    assert_eq!((new.relation, &*new.name, new.calls), (Relation::Guest, "itself", true));
    trust.pair(key(2), "nas".to_owned(), Relation::Own, at(2)).await.unwrap();
    trust.rename(key(2), "attic").await.unwrap();
    assert_eq!(admit(2, at(3)).await, Admitted::Known);
    let after = trust.snapshot();
    assert!(Arc::ptr_eq(&snapshot.devices[&key(1)], &after.devices[&key(1)]), "what did not change stays what it is");
    let known = after.trusted(&key(2)).unwrap();
    assert_eq!((known.relation, known.shown_name(), known.calls), (Relation::Own, "attic", false));
    assert_eq!(known.addresses, [at(3), at(2)].map(Option::unwrap));

    trust.write(|tx, it| it.revoke(tx, &key(1), 7)).await.unwrap();
    assert_eq!(admit(1, None).await, Admitted::Revoked { at_ms: 7 });
    assert!(trust.snapshot().trusted(&key(1)).is_none());
    trust.write(|tx, it| it.readmit(tx, &key(1), "itself", None, 8)).await.unwrap();
    assert!(trust.snapshot().trusted(&key(1)).is_some());
}

#[tokio::test]
async fn what_is_rolled_back_is_not_trusted_and_the_snapshot_is_what_is_written() {
    let dir = tempfile::tempdir().unwrap();
    let trust = trust(dir.path()).await;
    let failed = trust.write(|tx, it| {
        it.admit(tx, &key(1), "a", None, 5)?;
        tx.execute("INSERT INTO no_such_table VALUES (1)", [])
    });
    assert!(failed.await.is_err() && trust.snapshot().devices.is_empty());
    let many = (0..100).map(|n| {
        let trust = trust.clone();
        async move {
            trust.write(move |tx, it| it.admit(tx, &key(n), "a", None, 5)).await.unwrap();
            assert!(trust.snapshot().trusted(&key(n)).is_some(), "before it returns");
        }
    });
    let many: Vec<_> = many.map(Box::pin).collect();
    for one in many {
        one.await;
    }
    let written = Trust::open(trust.store.clone(), dir.path().join("generation")).await.unwrap();
    assert!(!written.restored() && written.snapshot().devices.len() == 100);
    assert_eq!(written.snapshot().generation, trust.snapshot().generation);
}
