//! Who is let in, how often, and who is told what.

use kith_proto::control::code::CodeState;
use kith_proto::control::types::Relation;
use kith_proto::peer::join::Permission;

use super::*;

const DAY: i64 = 86_400_000;

/// Everybody at once, by 40 tasks; how many heard what.
async fn rush(host: &Arc<Host>, code: &Arc<Code>, devices: u32) -> BTreeMap<&'static str, u32> {
    let (send, mut heard) = mpsc::channel(40);
    for task in 0..40 {
        let (host, code, send) = (host.clone(), code.clone(), send.clone());
        host.tasks.clone().spawn("joiner", async move {
            for number in (0..devices).filter(|number| number % 40 == task) {
                let reason = host.reason(&code, &joiner(number)).await;
                send.send(reason.as_str()).await.unwrap();
            }
        });
    }
    drop(send);
    let mut counts = BTreeMap::new();
    while let Some(reason) = heard.recv().await {
        *counts.entry(reason).or_default() += 1;
    }
    counts
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn g72_a_code_is_used_exactly_as_often_as_it_may_be() {
    for (uses, devices) in [(1, 40), (3, 40), (500, 540)] {
        let host = Arc::new(host(&[]).await);
        let code = Arc::new(host.issue(uses).await);
        let counts = rush(&host, &code, devices).await;
        assert_eq!(counts, BTreeMap::from([("ok", uses), ("used_up", devices - uses)]));
        assert_eq!(host.totals(), [uses; 4], "redemptions, uses, members, trusted");
        // Everybody once more: members are members, at no cost.
        let again = rush(&host, &code, devices).await;
        assert_eq!(again, BTreeMap::from([("already_member", uses), ("used_up", devices - uses)]));
        assert_eq!(host.totals(), [uses; 4]);
        assert_eq!(host.shown(&code).await.used, uses);
    }
}

#[tokio::test]
async fn whoever_is_let_in_hears_what_makes_it_a_member_and_the_refused_who_was_last() {
    let host = host(&[]).await;
    let code = host.issue(1).await;
    let let_in = host.join(&code, &joiner(1)).await;
    assert_eq!((let_in.reason, let_in.permission), (Reason::Ok, Some(Permission::ReadWrite)));
    let introduction = let_in.introduction.unwrap();
    assert_eq!(introduction.resource, code.payload.resource);
    assert!(introduction.records.iter().any(|record| record.device == joiner(1).key));
    let device = host.trust.snapshot().trusted(&joiner(1).key).unwrap().clone();
    assert_eq!((device.relation, device.name.as_str()), (Relation::Guest, "joiner 1"));

    let replayed = host.join(&code, &joiner(1)).await;
    assert_eq!(replayed.reason, Reason::AlreadyMember);
    assert_eq!(replayed.introduction.unwrap().resource, code.payload.resource);
    let refused = host.join(&code, &joiner(2)).await;
    assert_eq!((refused.reason, refused.by.as_deref()), (Reason::UsedUp, Some("joiner 1")));
    assert!(refused.at_ms.is_some() && refused.introduction.is_none());
    assert_eq!(host.shown(&code).await.state, CodeState::UsedUp);
    let shown = host.codes.show("trip".to_owned()).await.unwrap();
    assert_eq!(shown.joined[0].device.id, joiner(1).key.device_id());
    host.end().await;
}

#[tokio::test]
async fn devices_that_come_together_with_several_codes_take_each_use_once() {
    let host = host(&[]).await;
    let (one, other) = (host.issue(1).await, host.issue(4).await);
    // The first is a member by the first code when it is looked at with the second one, which keeps its use.
    let knocks = vec![
        joiner(1).knock(&host, &one),
        joiner(1).knock(&host, &other),
        joiner(2).knock(&host, &one),
        joiner(2).knock(&host, &other),
        joiner(3).knock(&host, &other),
        joiner(4).knock(&host, &other),
        joiner(1).knock(&host, &one),
    ];
    let heard = host.decide_at(clock::now_ms(), knocks).await;
    let reasons: Vec<_> = heard.iter().map(|it| it.reason.as_str()).collect();
    assert_eq!(reasons, ["ok", "already_member", "used_up", "ok", "ok", "ok", "already_member"]);
    assert_eq!(host.totals(), [4; 4]);
    let knocks = (4..8).map(|number| joiner(number).knock(&host, &other)).collect();
    let heard = host.decide_at(clock::now_ms(), knocks).await;
    let reasons: Vec<_> = heard.iter().map(|it| it.reason.as_str()).collect();
    assert_eq!(reasons, ["already_member", "ok", "used_up", "used_up"]);
    host.end().await;
}

#[tokio::test]
async fn g72_an_expiry_that_was_told_stays_and_one_that_was_not_does_not() {
    let host = host(&[]).await;
    let (told, untold) = (host.issue(0).await, host.issue(0).await);
    let now = clock::now_ms();
    assert_eq!(host.reason_at(now, &told, &joiner(1)).await, Reason::Ok);
    assert_eq!(host.reason_at(now + 7 * DAY - 60_000, &told, &joiner(2)).await, Reason::Ok, "a minute before its end");
    let over = host.decide_at(now + 8 * DAY, vec![joiner(3).knock(&host, &told)]).await.remove(0);
    assert_eq!(over.reason, Reason::Expired);
    assert!(
        (over.at_ms.unwrap() as i64 - now - 7 * DAY).abs() < 60_000,
        "when its time was over, not when it was said"
    );
    // The clock goes back: who was refused stays out, and so does everybody else. Members stay members.
    assert_eq!(host.reason_at(now, &told, &joiner(3)).await, Reason::Expired);
    assert_eq!(host.reason_at(now - 100 * DAY, &told, &joiner(4)).await, Reason::Expired);
    assert_eq!(host.reason_at(now, &told, &joiner(1)).await, Reason::AlreadyMember);
    assert_eq!(host.shown(&told).await.state, CodeState::Expired);
    assert_eq!(host.reason_at(now, &untold, &joiner(3)).await, Reason::Ok);
    host.end().await;
}

#[tokio::test]
async fn g72_a_clock_that_jumps_a_year_ahead_and_back_ends_nothing() {
    let host = host(&["https://one"]).await;
    let (code, year) = (host.issue(0).await, 365 * DAY);
    let ahead = clock::now_ms() + year;
    let (stores, number) = (host.codes.0.stores.clone(), 1);
    // All that happens by itself: lists, publications, and some hours of housekeeping.
    host.store
        .write(move |tx| {
            let book = Book(tx);
            let shown = view::codes(&book, ahead)?;
            assert_eq!(shown[0].state, CodeState::Expired, "by the clock of that moment");
            assert!(book.plan(&stores, ahead)?.work.is_empty() && !book.any_lately(ahead)?);
            for _ in 1..ROUNDS {
                assert_eq!(book.sweep(ahead, ROUNDS)?, 0);
            }
            // Back again.
            let now = clock::now_ms();
            assert_eq!(book.sweep(now, ROUNDS)?, 0);
            assert_eq!(book.code(number)?.unwrap().state(now), CodeState::Active);
            assert_eq!(book.plan(&stores, now)?.work.len(), 2);
            assert_eq!(book.sweep(ahead, ROUNDS)?, 0, "it counts anew");
            Ok(())
        })
        .await
        .unwrap();
    assert_eq!(host.reason(&code, &joiner(1)).await, Reason::Ok);
    // Somebody who comes in that time hears that it is over, and that holds.
    assert_eq!(host.reason_at(ahead, &code, &joiner(2)).await, Reason::Expired);
    // And what is over for long is forgotten in the end.
    let ahead = ahead + year;
    let swept: Result<usize, _> =
        host.store.write(move |tx| (0..=ROUNDS).map(|_| Book(tx).sweep(ahead, ROUNDS)).sum()).await;
    assert_eq!(swept.unwrap(), 1);
    assert_eq!(host.reason(&code, &joiner(1)).await, Reason::UnknownCode);
    host.end().await;
}

#[tokio::test]
async fn g73_strangers_hear_one_word_whatever_they_bring() {
    let host = host(&[]).await;
    let (code, ask) = (host.issue(1).await, host.issue(3).await);
    let unknown = SharingCode::from_random([9; 16]);
    let good = joiner(1).knock(&host, &code);
    let strangers = vec![
        Knock { proven: false, ..good.clone() },
        Knock { proof: unknown.keys().proof.public(), ..good.clone() },
        Knock { proof: unknown.keys().proof.public(), proven: false, ..good.clone() },
        Knock { resource: JournalId([1; 16]), ..good.clone() },
        Knock { proof: ask.secret.keys().proof.public(), proven: false, ..good.clone() },
    ];
    let none = JoinResult::from(Reason::UnknownCode).encode();
    for result in host.decide_at(clock::now_ms(), strangers.clone()).await {
        assert_eq!(result.encode(), none);
    }
    // Also of codes that are used up, over or revoked.
    assert_eq!(host.reason(&code, &joiner(1)).await, Reason::Ok);
    host.codes.revoke(revoke(&ask, false)).await.unwrap();
    for result in host.decide_at(clock::now_ms() + 30 * DAY, strangers).await {
        assert_eq!(result.encode(), none);
    }
    assert_eq!(host.totals(), [1; 4]);
    host.end().await;
}

#[tokio::test]
async fn every_other_reason_is_told_to_a_valid_proof() {
    let host = host(&[]).await;
    let (code, revoked) = (host.issue(0).await, host.issue(0).await);
    host.codes.revoke(revoke(&revoked, false)).await.unwrap();
    let refused = host.join(&revoked, &joiner(1)).await;
    assert_eq!(refused.reason, Reason::Revoked);
    assert!(refused.at_ms.is_some());
    // Removed by hand after it came.
    assert_eq!(host.reason(&code, &joiner(1)).await, Reason::Ok);
    host.sync.unshare("trip".to_owned(), "joiner 1".to_owned()).await.unwrap();
    assert_eq!(host.reason(&code, &joiner(1)).await, Reason::Denied);
    // Distrusted after it came.
    assert_eq!(host.reason(&code, &joiner(2)).await, Reason::Ok);
    host.trust.revoke(joiner(2).key).await.unwrap();
    assert_eq!(host.reason(&code, &joiner(2)).await, Reason::Denied);
    // A member that never came by this code costs nothing.
    host.trust.pair(joiner(3).key, "three".to_owned(), Relation::Guest, None).await.unwrap();
    host.sync.share("trip".to_owned(), joiner(3).key).await.unwrap();
    let used = host.shown(&code).await.used;
    assert_eq!(host.reason(&code, &joiner(3)).await, Reason::AlreadyMember);
    assert_eq!(host.shown(&code).await.used, used);
    // The journal goes.
    host.sync.remove("trip".to_owned()).await.unwrap();
    assert_eq!(host.reason(&code, &joiner(4)).await, Reason::ResourceGone);
    assert_eq!(host.reason(&code, &joiner(3)).await, Reason::ResourceGone);
    host.end().await;
}

#[tokio::test]
async fn a_device_that_was_revoked_before_the_code_was_made_is_welcome_and_one_that_was_revoked_later_is_not() {
    let host = host(&[]).await;
    for number in [1, 2] {
        host.trust.pair(joiner(number).key, "old".to_owned(), Relation::Own, None).await.unwrap();
    }
    host.trust.revoke(joiner(1).key).await.unwrap();
    // A millisecond decides.
    let begun = clock::now_ms();
    while clock::now_ms() == begun {
        std::thread::yield_now();
    }
    let code = host.issue(0).await;
    host.trust.revoke(joiner(2).key).await.unwrap();
    assert_eq!(host.reason(&code, &joiner(1)).await, Reason::Ok);
    let device = host.trust.snapshot().trusted(&joiner(1).key).unwrap().clone();
    assert_eq!(device.relation, Relation::Guest, "trust begins anew");
    assert_eq!(host.reason(&code, &joiner(2)).await, Reason::Denied);
    assert!(host.trust.snapshot().trusted(&joiner(2).key).is_none());
    assert_eq!(host.reason(&host.issue(1).await, &joiner(2)).await, Reason::Ok, "by a newer code it is");
    host.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn g72_nobody_becomes_a_member_after_a_code_was_revoked() {
    for round in 0..10 {
        let host = Arc::new(host(&[]).await);
        let code = Arc::new(host.issue(0).await);
        let comers = {
            let (host, code) = (host.clone(), code.clone());
            async move { rush(&host, &code, 200).await }
        };
        let revoke = async {
            while host.count("SELECT count(*) FROM redemption") <= round {
                tokio::task::yield_now().await;
            }
            host.codes.revoke(revoke(&code, false)).await.unwrap();
            host.totals()
        };
        let (counts, at_return) = tokio::join!(comers, revoke);
        assert_eq!(host.totals(), at_return, "nothing came behind it");
        let joined = counts["ok"];
        assert_eq!(host.totals(), [joined; 4]);
        assert_eq!(counts.get("revoked").copied().unwrap_or_default(), 200 - joined);
    }
}

fn revoke(code: &Code, expel: bool) -> kith_proto::control::code::CodeRevokeParams {
    kith_proto::control::code::CodeRevokeParams { code: code.id.clone(), expel }
}

#[tokio::test]
async fn g72_expelling_takes_back_what_came_with_the_code_and_no_more() {
    let host = host(&[]).await;
    host.trust.pair(joiner(1).key, "known".to_owned(), Relation::Own, None).await.unwrap();
    host.trust.pair(joiner(9).key, "shared with".to_owned(), Relation::Guest, None).await.unwrap();
    host.sync.share("trip".to_owned(), joiner(9).key).await.unwrap();
    let (code, other) = (host.issue(0).await, host.issue(0).await);
    for number in [1, 2, 3, 9] {
        host.join(&code, &joiner(number)).await;
    }
    let revoked = host.codes.revoke(revoke(&code, true)).await.unwrap();
    assert_eq!((revoked.state, revoked.used), (CodeState::Revoked, 3));
    let trust = host.trust.snapshot();
    for (number, trusted, member) in [(1, true, false), (2, false, false), (3, false, false), (9, true, true)] {
        let (sync, journal, device) = (host.sync.clone(), code.resource(), joiner(number).key);
        let standing = host.store.write(move |tx| sync.standing(tx, &journal, &device)).await.unwrap();
        assert_eq!(matches!(standing, sync::Standing::Member(_)), member, "joiner {number}");
        assert_eq!(trust.trusted(&device).is_some(), trusted, "joiner {number}");
    }
    assert!(host.codes.show(code.id.clone()).await.unwrap().joined.iter().all(|joined| joined.expelled));
    assert_eq!(host.reason(&code, &joiner(2)).await, Reason::Denied);
    assert_eq!(host.reason(&code, &joiner(4)).await, Reason::Revoked);
    assert_eq!(host.reason(&other, &joiner(2)).await, Reason::Denied, "put out after that code was made");
    assert_eq!(host.reason(&other, &joiner(1)).await, Reason::Denied, "also one that is trusted otherwise");
    assert_eq!(host.reason(&host.issue(1).await, &joiner(2)).await, Reason::Ok, "whoever gives it a new code means it");
    // Once more changes nothing: it does not put out who came back.
    host.codes.revoke(revoke(&code, true)).await.unwrap();
    assert!(host.trust.snapshot().trusted(&joiner(2).key).is_some());
    host.end().await;
}

#[tokio::test]
async fn g72_whom_this_device_may_not_put_out_is_not_said_to_be_out() {
    let host = host(&[]).await;
    let code = host.issue(0).await;
    for number in [1, 2] {
        assert_eq!(host.reason(&code, &joiner(number)).await, Reason::Ok);
    }
    // By a journal that is not this device's to share any more, nobody can be put out of it.
    host.sync.remove("trip".to_owned()).await.unwrap();
    host.codes.revoke(revoke(&code, true)).await.unwrap();
    assert!(host.codes.show(code.id.clone()).await.unwrap().joined.iter().all(|joined| !joined.expelled));
    assert!(host.trust.snapshot().trusted(&joiner(1).key).is_none(), "the trust that came with it ends all the same");
    host.end().await;
}
