//! Sharing codes, from the side of those who come with them: simulated devices against a real issuer.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use kith_proto::id::PublicKey;
use kith_proto::limits;
use kith_proto::peer::Alpn;
use kith_proto::peer::join::{JoinResult, Reason, SharingCode};
use kith_proto::peer::journal::member::Members;
use kith_proto::peer::journal::version::JournalId;
use kith_tests::clock::Clock;
use kith_tests::host::Host;
use kith_tests::joiner::{Issued, Joiner, crowd, issue, join_until_told, peer_door};
use kith_tests::{PATIENCE, wait};
use serde_json::{Value, json};

const DAY: i64 = 86_400;

/// A device that shares a journal called notes.
#[track_caller]
fn sharer() -> Host {
    let host = Host::running("nas");
    host.ctl(&["journals", "create", "notes"]).ok();
    host
}

#[track_caller]
fn shown(host: &Host, issued: &Issued) -> Value {
    host.door().call("codes.show", json!({ "code": issued.id }))
}

/// Members, redemptions, trust and the count agree.
#[track_caller]
fn assert_counted(host: &Host, issued: &Issued, members: &BTreeSet<String>) {
    let code = shown(host, issued);
    assert_eq!(code["used"], members.len(), "{code}");
    let ids = |list: &Value| -> BTreeSet<String> {
        let list = list.as_array().expect("a list").iter();
        list.map(|it| it["id"].as_str().expect("an id").to_owned()).collect()
    };
    assert_eq!(ids(&code["joined"]), *members);
    let journal = host.door().call("journals.show", json!({"journal": "notes"}));
    assert_eq!(journal["member_count"], members.len());
    assert_eq!(ids(&journal["members"]), *members);
    assert_eq!(ids(&host.door().call("trust.list", json!({}))["peers"]), *members);
}

fn ids(keys: impl Iterator<Item = PublicKey>) -> BTreeSet<String> {
    keys.map(|key| key.device_id().to_string()).collect()
}

#[test]
fn forty_threads_get_exactly_as_many_places_as_there_are() {
    for uses in [1_u16, 3, 500] {
        let host = sharer();
        let issued = issue(&host, "notes", json!({ "uses": uses }));
        let door = Mutex::new(peer_door(&host));
        let told = crowd(40, (uses + 20).max(40), &door, &issued);
        let of = |reason| told.iter().filter(move |(_, result)| result.reason == reason);
        assert_eq!(of(Reason::Ok).count(), usize::from(uses), "of {uses} uses");
        assert_eq!(of(Reason::UsedUp).count(), told.len() - usize::from(uses), "everybody else hears why");
        let (_, late) = of(Reason::UsedUp).next().expect("somebody was late");
        assert!(late.at_ms.is_some() && late.by.as_deref().is_some_and(|by| by.starts_with("joiner ")), "{late:?}");
        assert_counted(&host, &issued, &ids(of(Reason::Ok).map(|(key, _)| *key)));
        assert_eq!(shown(&host, &issued)["state"], "used_up");
        // What a member was told makes it one.
        for (key, result) in of(Reason::Ok) {
            let told = result.introduction.as_ref().expect("members learn what they are members of");
            let mut members = Members::new(told.resource.clone());
            assert!(members.merge(&told.records));
            assert!(members.contains(key) && members.journal() == issued.resource);
        }
    }
}

#[test]
fn g72_a_hundred_devices_and_an_issuer_that_is_killed_twenty_times() {
    let mut host = sharer();
    let issued = issue(&host, "notes", json!({ "uses": 100 }));
    let door = Mutex::new(peer_door(&host));
    let done = AtomicBool::new(false);
    let told = std::thread::scope(|scope| {
        let crowd = scope.spawn(|| {
            let told = crowd(10, 100, &door, &issued);
            done.store(true, Ordering::SeqCst);
            told
        });
        for kill in 0..20_u64 {
            // In the middle of it, as far as there is one left: after the next redemption or two.
            let used = shown(&host, &issued)["used"].as_u64().expect("a count");
            wait::until_true("somebody to come", PATIENCE, || {
                done.load(Ordering::SeqCst) || shown(&host, &issued)["used"].as_u64() > Some(used + kill % 3)
            });
            host.kill9();
            host.start();
            *door.lock().unwrap_or_else(PoisonError::into_inner) = peer_door(&host);
        }
        crowd.join().expect("nobody panics")
    });
    assert_eq!(told.len(), 100);
    assert!(told.iter().all(|(_, result)| result.reason.is_in()), "{told:?}");
    assert_counted(&host, &issued, &ids(told.iter().map(|(key, _)| *key)));
}

#[test]
fn g73_two_race_for_one_use_and_the_winner_comes_again() {
    let mut host = sharer();
    let issued = issue(&host, "notes", json!({}));
    let door = peer_door(&host);
    let racers = [Joiner::new(), Joiner::new()];
    let mut results = std::thread::scope(|scope| {
        let racing = racers.each_ref().map(|racer| scope.spawn(|| racer.join(door, &issued).expect("an answer")));
        racing.map(|racing| racing.join().expect("nobody panics").reason)
    });
    let winner = usize::from(results[0] != Reason::Ok);
    results.sort_by_key(|reason| *reason != Reason::Ok);
    assert_eq!(results, [Reason::Ok, Reason::UsedUp]);
    for _ in 0..2 {
        let again = racers[winner].join(peer_door(&host), &issued).expect("an answer");
        assert_eq!(again.reason, Reason::AlreadyMember);
        assert!(again.introduction.is_some(), "a lost answer is made up for");
        assert_eq!(racers[1 - winner].join(peer_door(&host), &issued).expect("an answer").reason, Reason::UsedUp);
        host.kill9();
        host.start();
    }
    assert_counted(&host, &issued, &ids([racers[winner].key].into_iter()));
}

#[test]
fn strangers_learn_nothing_and_few_tries_are_theirs() {
    let host = sharer();
    let issued = issue(&host, "notes", json!({ "uses": 10 }));
    let gone = issue(&host, "notes", json!({}));
    host.door().call("codes.revoke", json!({ "code": gone.id }));
    let door = peer_door(&host);
    let unknown = JoinResult::from(Reason::UnknownCode);
    let other = |code: [u8; 16]| Issued {
        id: String::new(),
        code: SharingCode::from_random(code),
        text: String::new(),
        issuer: issued.issuer,
        resource: issued.resource,
    };

    // Without the code, whatever else is right.
    let guesser = Joiner::new().from_loopback(1);
    assert_eq!(guesser.join(door, &other([9; 16])).expect("an answer"), unknown);
    // With the code, for something else; to somebody else.
    let elsewhere = Issued { resource: JournalId([1; 16]), ..other([0; 16]) };
    for wrong in [
        Issued { code: SharingCode::parse(&issued.text).expect("a code"), ..elsewhere },
        Issued {
            code: SharingCode::parse(&issued.text).expect("a code"),
            issuer: PublicKey([7; 32]),
            ..other([0; 16])
        },
        Issued { code: SharingCode::parse(&gone.text).expect("a code"), issuer: PublicKey([7; 32]), ..other([0; 16]) },
    ] {
        assert_eq!(guesser.join(door, &wrong).expect("an answer"), unknown);
    }
    // A proof that was captured proves nothing in another session, not even of the same device.
    let honest = Joiner::new().from_loopback(2);
    let captured = honest.frame(&honest.dial(door).expect("a session"), &issued.code, &issued.issuer, issued.resource);
    for thief in [&honest, &guesser] {
        let mut session = thief.dial(door).expect("a session");
        session.send(&captured).expect("it is sent");
        assert_eq!(session.result().expect("an answer"), unknown);
    }
    // What is no JOIN at all; a newer one hears that it is.
    for (frame, answer) in [
        (&b"{}"[..], Some(Reason::UnknownCode)),
        (b"GET / HTTP/1.1\r\n\r\n", Some(Reason::UnknownCode)),
        (br#"{"type":"join","v":2}"#, Some(Reason::VersionUnsupported)),
    ] {
        let mut session = Joiner::new().from_loopback(3).dial(door).expect("a session");
        session.send(frame).expect("it is sent");
        assert_eq!(session.result().ok().map(|result| result.reason), answer);
    }
    let mut session = Joiner::new().from_loopback(3).dial(door).expect("a session");
    session.raw(&u32::MAX.to_be_bytes()).expect("it is sent");
    assert!(session.receive().map_or(true, |frame| frame == unknown.encode()), "no room is made for it");
    // The key that joins is not trusted with anything else.
    assert!(Joiner::speaking(Alpn::Sync).dial(door).and_then(|mut session| session.receive()).is_err());

    // Ten wrong ones, and that address is not listened to for a while; others are.
    let mut answers = Vec::new();
    while answers.len() <= limits::JOIN_BAD_PROOFS as usize {
        answers.push(guesser.join(door, &other([9; 16])).expect("an answer").reason);
    }
    assert_eq!(answers.pop(), Some(Reason::RateLimited));
    let result = guesser.join(door, &issued).expect("an answer");
    assert_eq!(result.reason, Reason::RateLimited, "also with the right code");
    assert!(result.retry_after.is_some_and(|seconds| u64::from(seconds) <= limits::JOIN_REST_SECONDS));
    assert_eq!(Joiner::new().from_loopback(4).join(door, &issued).expect("an answer").reason, Reason::Ok);
    assert_eq!(shown(&host, &issued)["used"], 1);
}

#[test]
fn c21_silent_devices_keep_nobody_out() {
    let host = sharer();
    let issued = issue(&host, "notes", json!({ "uses": 3 }));
    let door = peer_door(&host);
    let silent: Vec<_> = (0..8).filter_map(|_| Joiner::new().from_loopback(1).dial(door).ok()).collect();
    assert!(!silent.is_empty());
    assert_eq!(Joiner::new().from_loopback(2).join(door, &issued).expect("an answer").reason, Reason::Ok);
    // They are sent away; then there is room for that address again.
    for mut session in silent {
        assert!(session.receive().map_or(true, |frame| !frame.is_empty()));
    }
    let here = Joiner::new().from_loopback(1);
    let result = wait::until("a place", PATIENCE, || here.join(door, &issued).ok());
    assert_eq!(result.reason, Reason::Ok);
}

#[test]
fn g50_what_was_said_to_be_expired_stays_so_and_nothing_else() {
    let mut host = Host::new("nas");
    let Some(clock) = Clock::of(&mut host) else { return };
    host.start();
    host.ctl(&["journals", "create", "notes"]).ok();
    let tried = issue(&host, "notes", json!({"uses": 3, "seconds": 86_400}));
    let untried = issue(&host, "notes", json!({"uses": 3, "seconds": 86_400}));
    let door = peer_door(&host);
    let joins = |issued: &Issued| Joiner::new().join(door, issued).expect("an answer");
    let state = |issued: &Issued| shown(&host, issued)["state"].clone();
    assert_eq!(joins(&tried).reason, Reason::Ok);
    clock.set(400 * DAY);
    assert_eq!(joins(&tried).reason, Reason::Expired);
    assert_eq!((state(&tried), state(&untried)), (json!("expired"), json!("expired")));
    clock.set(0);
    assert_eq!(joins(&tried).reason, Reason::Expired, "once refused, it stays refused");
    assert_eq!(joins(&untried).reason, Reason::Ok, "a clock that went astray ends no code by itself");
    assert_eq!((state(&tried), state(&untried)), (json!("expired"), json!("active")));
    clock.set(-400 * DAY);
    assert_eq!(joins(&untried).reason, Reason::Ok);
    host.restart();
    assert_eq!(Joiner::new().join(peer_door(&host), &tried).expect("an answer").reason, Reason::Expired);
}

#[test]
fn a_code_that_was_revoked_lets_nobody_in_any_more() {
    let host = sharer();
    let issued = issue(&host, "notes", json!({ "uses": 0 }));
    let door = Mutex::new(peer_door(&host));
    let revoked = AtomicBool::new(false);
    let (told, late) = std::thread::scope(|scope| {
        let racing: Vec<_> = (0..8)
            .map(|thread| {
                let (door, issued, revoked) = (&door, &issued, &revoked);
                scope.spawn(move || {
                    let mut told = Vec::new();
                    loop {
                        // What begins after the answer to codes.revoke is too late.
                        let late = revoked.load(Ordering::SeqCst);
                        let joiner = Joiner::new().from_loopback(thread + 1);
                        told.push((joiner.key, join_until_told(&joiner, door, issued), late));
                        if late {
                            return told;
                        }
                    }
                })
            })
            .collect();
        wait::until_true("some to come", PATIENCE, || shown(&host, &issued)["used"].as_u64() > Some(10));
        let answer = host.door().call("codes.revoke", json!({ "code": issued.id }));
        revoked.store(true, Ordering::SeqCst);
        assert_eq!(answer["state"], "revoked");
        let told = racing.into_iter().flat_map(|thread| thread.join().expect("nobody panics")).collect::<Vec<_>>();
        let late = told.iter().filter(|(_, _, late)| *late).map(|(_, result, _)| result.reason).collect::<Vec<_>>();
        (told, late)
    });
    assert!(late.len() == 8 && late.iter().all(|reason| *reason == Reason::Revoked), "{late:?}");
    let members = told.iter().filter(|(_, result, _)| result.reason == Reason::Ok).map(|(key, ..)| *key);
    let members = ids(members);
    assert_counted(&host, &issued, &members);

    // With --expel they lose what they came by.
    host.door().call("codes.revoke", json!({"code": issued.id, "expel": true}));
    let journal = host.door().call("journals.show", json!({"journal": "notes"}));
    assert_eq!(journal["member_count"], 0);
    let trusted = host.door().call("trust.list", json!({}));
    let trusted = trusted["peers"].as_array().expect("a list");
    assert!(trusted.iter().all(|peer| peer["state"] == "revoked"), "{trusted:?}");
}

#[test]
fn whoever_was_removed_does_not_come_back_by_the_same_code() {
    let host = sharer();
    let issued = issue(&host, "notes", json!({ "uses": 5 }));
    let door = peer_door(&host);
    let [unshared, revoked] = [Joiner::new(), Joiner::new()];
    for joiner in [&unshared, &revoked] {
        assert_eq!(joiner.join(door, &issued).expect("an answer").reason, Reason::Ok);
    }
    let id = |joiner: &Joiner| joiner.key.device_id().to_string();
    host.door().call("journals.unshare", json!({"journal": "notes", "peer": id(&unshared)}));
    host.door().call("trust.revoke", json!({"peer": id(&revoked)}));
    for joiner in [&unshared, &revoked] {
        assert_eq!(joiner.join(door, &issued).expect("an answer").reason, Reason::Denied);
    }
    // Another code is another word.
    let another = issue(&host, "notes", json!({ "uses": 5 }));
    assert_eq!(unshared.join(door, &another).expect("an answer").reason, Reason::Ok);
    // This one had lost the trust, and not its place in the journal.
    assert_eq!(revoked.join(door, &another).expect("an answer").reason, Reason::AlreadyMember);
    let trusted = host.door().call("trust.show", json!({"peer": id(&revoked)}));
    assert_eq!(trusted["state"], "trusted");
    // One that is a member anyway costs nothing.
    assert_eq!(
        unshared.join(door, &issue(&host, "notes", json!({}))).expect("an answer").reason,
        Reason::AlreadyMember
    );
    host.ctl(&["journals", "remove", "notes", "--yes"]).ok();
    assert_eq!(Joiner::new().join(door, &another).expect("an answer").reason, Reason::ResourceGone);
}

#[test]
fn somebody_is_asked_where_the_code_says_so() {
    let mut host = sharer();
    let issued = issue(&host, "notes", json!({"uses": 2, "approval": "ask"}));
    let [wanted, unwanted, late] = [Joiner::new(), Joiner::new(), Joiner::new()];
    let asks = |host: &Host, joiner: &Joiner| joiner.join(peer_door(host), &issued).expect("an answer");
    for joiner in [&wanted, &unwanted, &wanted] {
        let result = asks(&host, joiner);
        assert_eq!(result.reason, Reason::ApprovalPending);
        assert!(result.retry_after.is_some_and(|seconds| seconds > 0) && result.introduction.is_none());
    }
    host.kill9();
    host.start();
    let requests = host.door().call("codes.requests", json!({}))["requests"].take();
    let requests = requests.as_array().expect("a list");
    assert_eq!(requests.len(), 2, "each device once, and after a restart, too: {requests:?}");
    assert_eq!(shown(&host, &issued)["waiting"], 2);
    for request in requests {
        let accept = request["device"]["id"] == wanted.key.device_id().to_string().as_str();
        host.door().call("codes.answer", json!({"request": request["request"], "accept": accept}));
    }
    assert!(asks(&host, &wanted).reason.is_in());
    assert_eq!(asks(&host, &unwanted).reason, Reason::Denied);
    assert_counted(&host, &issued, &ids([wanted.key].into_iter()));
    // A request that came in time is answered after the code was revoked: with a no.
    assert_eq!(asks(&host, &late).reason, Reason::ApprovalPending);
    host.door().call("codes.revoke", json!({ "code": issued.id }));
    assert_eq!(asks(&host, &late).reason, Reason::Revoked);
}
