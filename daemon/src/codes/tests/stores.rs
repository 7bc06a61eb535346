//! Payloads at hello stores.

use kith_proto::control::code::{CodeRevokeParams, PublicationState};
use kith_proto::guest::hello::Lookup;

use super::*;
use crate::hello_store::Found;

const ONE: &str = "https://one";
const TWO: &str = "https://two";

impl Host {
    /// How it is with a code at one store, as soon as that is `state`.
    async fn published(
        &self,
        code: &Code,
        store: &str,
        state: PublicationState,
    ) -> kith_proto::control::code::Publication {
        let mut facts = self.events.reader(0);
        loop {
            let shown = self.shown(code).await;
            let found = shown.publications.into_iter().find(|it| it.store == store).unwrap();
            if found.state == state {
                return found;
            }
            tokio::time::timeout(PATIENCE, facts.next()).await.expect("it changes in time");
        }
    }

    fn has(&self, store: &str, code: &Code) -> bool {
        let kept = self.fake.kept.lock().unwrap();
        kept.get(&(store.to_owned(), code.secret.keys().lookup)).is_some_and(|blob| *blob == code.blob)
    }

    /// Until that is so.
    async fn until(&self, so: impl Fn(&Self) -> bool) {
        let turn = async {
            while !so(self) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(PATIENCE, turn).await.expect("it is so in time");
    }

    async fn here(&self, code: &Code) -> Found {
        self.hello.store().get(Lookup(code.secret.keys().lookup), clock::now_ms().unsigned_abs()).await.unwrap()
    }
}

#[tokio::test]
async fn g75_a_payload_goes_to_every_store_and_away_when_the_code_is_used_up_or_revoked() {
    let host = host(&[ONE, TWO]).await;
    assert!(!*host.hello.wanted().borrow(), "no code, no door");
    let (used, revoked) = (host.issue(1).await, host.issue(1).await);
    assert!(matches!(host.here(&revoked).await, Found::Blob { .. }), "at once, for whoever is told the code");
    for (code, store) in [(&used, ONE), (&used, TWO), (&revoked, ONE), (&revoked, TWO)] {
        let published = host.published(code, store, PublicationState::Published).await;
        assert!(published.reason.is_none() && published.since.is_some());
        assert!(host.has(store, code));
    }
    host.until(|host| *host.hello.wanted().borrow()).await;
    assert_eq!(host.reason(&used, &joiner(1)).await, Reason::Ok);
    host.published(&used, TWO, PublicationState::Withdrawn).await;
    host.until(|host| !host.has(ONE, &used) && !host.has(TWO, &used)).await;
    host.until(|host| host.count("SELECT count(*) FROM publication WHERE state = 'withdrawn'") == 2).await;
    assert!(matches!(host.here(&used).await, Found::Blob { .. }), "whoever is late comes here, and hears why not");
    assert!(host.has(ONE, &revoked), "the other one stays");
    host.codes.revoke(CodeRevokeParams { code: revoked.id.clone(), expel: false }).await.unwrap();
    host.until(|host| !host.has(ONE, &revoked) && !host.has(TWO, &revoked)).await;
    // Nothing is left to do elsewhere; here it is given out for a day.
    let elsewhere = "SELECT count(*) FROM publication WHERE state <> 'withdrawn' AND store <> ''";
    host.until(|host| host.count(elsewhere) == 0).await;
    assert!(*host.hello.wanted().borrow());
    host.store.write(|tx| tx.execute("UPDATE redemption SET at_ms = at_ms - 86400001", [])).await.unwrap();
    host.store.write(|tx| tx.execute("UPDATE code SET ended_ms = ended_ms - 86400001", [])).await.unwrap();
    host.codes.0.publisher.wake();
    host.until(|host| !*host.hello.wanted().borrow()).await;
    host.end().await;
}

#[tokio::test]
async fn g75_setbacks_are_shown_and_tried_again_until_it_works() {
    let host = host(&[ONE, TWO]).await;
    for code in [ErrorCode::StoreUnreachable, ErrorCode::Rejected] {
        host.fake.setbacks.lock().unwrap().insert(ONE.to_owned(), code);
        let issued = host.issue(1).await;
        let failed = host.published(&issued, ONE, PublicationState::Failed).await;
        assert_eq!(failed.reason.unwrap().code, code.as_str());
        host.published(&issued, TWO, PublicationState::Published).await;
        // It is tried again, however often that takes.
        let tried = |host: &Host| host.fake.asked.lock().unwrap().iter().filter(|(store, _)| store == ONE).count();
        let before = tried(&host);
        host.until(|host| tried(host) > before + 2).await;
        host.fake.setbacks.lock().unwrap().clear();
        assert!(host.published(&issued, ONE, PublicationState::Published).await.reason.is_none());
        assert!(host.has(ONE, &issued));
    }
    host.end().await;
}

#[tokio::test]
async fn g75_a_store_that_lost_a_payload_gets_it_again_while_the_code_lives() {
    let host = host(&[ONE]).await;
    let code = host.issue(1).await;
    host.published(&code, ONE, PublicationState::Published).await;
    host.fake.kept.lock().unwrap().clear();
    host.until(|host| host.has(ONE, &code)).await;
    host.end().await;
}

#[tokio::test]
async fn g75_what_cannot_be_withdrawn_is_tried_for_a_day() {
    let host = host(&[ONE]).await;
    let code = host.issue(1).await;
    host.published(&code, ONE, PublicationState::Published).await;
    host.fake.setbacks.lock().unwrap().insert(ONE.to_owned(), ErrorCode::StoreUnreachable);
    host.codes.revoke(CodeRevokeParams { code: code.id.clone(), expel: false }).await.unwrap();
    host.published(&code, ONE, PublicationState::Withdrawn).await;
    let tried =
        |host: &Host| host.fake.asked.lock().unwrap().iter().filter(|(_, work)| *work == Work::Withdraw).count();
    host.until(|host| tried(host) > 3).await;
    let waits = || host.count("SELECT count(*) FROM publication WHERE state = 'withdrawing' AND store <> ''");
    assert_eq!(waits(), 1);
    // A day later by the clock on the wall.
    host.store
        .write(|tx| tx.execute("UPDATE publication SET since_ms = since_ms - 86400001 WHERE store <> ''", []))
        .await
        .unwrap();
    host.until(|_| waits() == 0).await;
    host.end().await;
}
