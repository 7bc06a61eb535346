//! Who gets nothing of a journal: the revoked, guests, and whoever listens on the wire.

use kith_tests::host::Host;
use kith_tests::process::{Running, run};
use kith_tests::random::Random;
use kith_tests::{PATIENCE, wait};
use serde_json::{Value, json};

use crate::journals::{
    Ear, base64, count, entries, ids, join, journal, live, put, put_all, sync_with, wait_equal, wait_text,
};
use crate::net::{LONG, network, network_and_one};

/// Waits until some of many entries are on `host`.
#[track_caller]
fn wait_some(host: &Host, whole: u64) -> u64 {
    let some = wait::until("the middle of a session", LONG, || Some(count(host, "entries")).filter(|some| *some > 1));
    assert!(some < whole, "there was no middle");
    some
}

/// Anna has much for Bert, and in the middle of it one of them thinks better of it.
#[track_caller]
fn revoked_in_mid_session(by_giver: bool) {
    let Some((lab, [anna, bert])) = network(["anna", "bert"]) else { return };
    join(&anna, &bert);
    put(&anna, "first", "news");
    wait_equal(&[&anna, &bert]);
    lab.rate(1, 8);
    // Each with a body that is sent by itself: many frames.
    let body = Random::seeded(1).bytes(100_000);
    let mut door = anna.door();
    for id in ids("big", 100) {
        door.call("entries.put", json!({"journal": "default", "id": id, "body": base64(&body)}));
    }
    wait_some(&bert, 101);
    let ears = [Ear::at(&anna), Ear::at(&bert)];
    let (revoker, revoked, ear) = if by_giver { (&anna, &bert, &ears[1]) } else { (&bert, &anna, &ears[0]) };
    revoker.ctl(&["trust", "revoke", revoked.name(), "--yes"]).ok();
    ear.wait("the session to end", "sync:error", |_| true);
    lab.rate(1, 0);
    wait::until_true("no session to be under way", PATIENCE, || {
        sync_with(revoked, &revoker.id())["state"] != "running" && sync_with(revoker, &revoked.id()).is_null()
    });
    let (left, had) = (entries(&bert), entries(&anna));
    assert!(left.len() < 101, "it was over before");

    // It is told plainly, gets nothing more, and what it is told changes nothing there.
    put(&anna, "later", "news");
    put(&bert, "of-bert", "news");
    let refused = revoked.ctl(&["sync", revoker.name(), "--json"]);
    assert_eq!(refused.error()["error"]["code"], "not_trusted", "{}", refused.stderr);
    let known = revoked.ctl_json(&["trust", "show", revoker.name()]);
    assert_eq!(known["state"], "trusted", "{known}");
    let (code, exit) = revoker.ctl_refused(&["sync", revoked.name()]);
    assert_eq!((code.as_str(), exit), ("not_paired", 6));
    let (mut bert_now, mut anna_now) = (entries(&bert), entries(&anna));
    assert!(bert_now.remove("of-bert").is_some() && anna_now.remove("later").is_some());
    assert_eq!((bert_now.len(), anna_now.len()), (left.len(), had.len()));
    assert!(bert_now == left && anna_now == had, "nothing changed on either side");
    assert_eq!(journal(revoker)["members"], json!([]));
}

#[test]
fn the_one_who_gives_revokes_in_mid_session() {
    revoked_in_mid_session(true);
}

#[test]
fn the_one_who_takes_revokes_in_mid_session() {
    revoked_in_mid_session(false);
}

/// Pairs with a device that is somebody else's.
#[track_caller]
fn pair_with_guest(shows: &Host, types: &Host, here: &[&str], there: &[&str]) {
    let mut window = shows.ctl_spawn(&[&["pair", "--json"], here].concat());
    let shown = window.json_line(PATIENCE);
    let pin = shown["pin"].as_str().expect("a PIN");
    types.ctl(&[&["pair", &shows.address(), "--pin", pin, "--json"], there].concat()).ok();
    window.finish(PATIENCE).ok();
}

/// What anna has is for her own devices. That the other side calls her its own opens nothing.
#[test]
fn a_guest_sees_nothing_of_the_default_journal() {
    let Some((_lab, [anna, guest, sly])) = network(["anna", "guest", "sly"]) else { return };
    put(&anna, "diary", "mine alone");
    pair_with_guest(&anna, &guest, &["--guest"], &["--guest"]);
    pair_with_guest(&sly, &anna, &[], &["--guest"]);
    for host in [&guest, &sly] {
        put(host, &format!("of-{}", host.name()), "not for anna");
        host.wait_peer(&anna.id(), |peer| peer["online"] == true);
        let shared =
            |journals: &Value| journals.as_array().is_some_and(|all| all.iter().any(|it| it["name"] == "default"));
        assert!(!shared(&sync_with(&anna, &host.id())["journals"]), "{}", sync_with(&anna, &host.id()));
        // Sessions take place, in both directions, and bring nothing.
        for (from, to) in [(host, &anna), (&anna, host)] {
            let ear = Ear::at(from);
            from.ctl(&["sync", to.name()]).ok();
            assert!(ear.moved().is_empty(), "{:#?}", ear.heard());
        }
        assert_eq!(live(host).into_iter().collect::<Vec<_>>(), [format!("of-{}", host.name())]);
    }
    assert_eq!(live(&anna).into_iter().collect::<Vec<_>>(), ["diary"]);
    // Neither is one of those that are waited for.
    assert_eq!(journal(&anna)["members"], json!([]));
}

/// What the third host on a wire hears.
pub struct Tap(Running);

impl Tap {
    /// On host `i`.
    #[track_caller]
    pub fn new(lab: &kith_tests::lab::Lab, i: usize) -> Self {
        let mut tap = Running::spawn(lab.command(i, env!("CARGO_BIN_EXE_probe")).arg("tap"));
        assert_eq!(tap.line(PATIENCE).as_deref(), Some("ready"));
        Self(tap)
    }

    /// Every frame so far.
    pub fn frames(&self) -> Vec<Vec<u8>> {
        let said = self.0.said();
        let whole = said.rfind('\n').map_or("", |end| &said[..end]);
        let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).expect("hex"), 16).expect("hex");
        whole.lines().skip(1).map(|line| line.as_bytes().chunks(2).map(byte).collect()).collect()
    }
}

/// Whether a word is in a frame, in whatever case.
pub fn holds(frame: &[u8], word: &[u8]) -> bool {
    frame.windows(word.len()).any(|window| window.eq_ignore_ascii_case(word))
}

/// Nobody on the wire learns what is written, where, or that there are journals at all.
#[test]
fn whoever_listens_on_the_wire_learns_nothing() {
    let Some((lab, [mut anna, bert])) = network_and_one(["anna", "bert"]) else { return };
    lab.hub();
    let tap = Tap::new(&lab, 3);
    join(&anna, &bert);
    anna.ctl(&["journals", "create", "zanzibar-journal"]).ok();
    anna.ctl(&["journals", "share", "zanzibar-journal", "bert"]).ok();
    let body = b"turmeric-body ".repeat(20);
    let mut door = anna.door();
    for journal in ["default", "zanzibar-journal"] {
        let meta = json!({"mood": "cardamom-meta"});
        door.call("entries.put", json!({"journal": journal, "id": "saffron-id", "meta": meta, "body": base64(&body)}));
    }
    put_all(&anna, ids("saffron-id", 200), &body);
    wait_text(&bert, "saffron-id-199", std::str::from_utf8(&body).expect("a text"));
    wait_equal(&[&anna, &bert]);
    let mut berts = bert.door();
    wait::until_true("the shared journal to arrive", LONG, || {
        berts.try_call("entries.get", json!({"journal": "zanzibar-journal", "id": "saffron-id"})).is_ok()
    });
    // Both announce themselves once more.
    anna.restart();
    bert.wait_peer(&anna.id(), |peer| peer["online"] == true);

    // The tap itself: what is said openly between the two is heard, and so were sessions and announcements.
    let open = "openly: turmeric-body";
    let to = format!("{}:7000", lab.ip(2));
    let mut say = lab.command(1, env!("CARGO_BIN_EXE_probe"));
    run(say.args(["say", &lab.ip(1).to_string(), &to, open]), PATIENCE).ok();
    wait::until_true("the tap to hear", PATIENCE, || tap.frames().iter().any(|frame| holds(frame, open.as_bytes())));
    let frames: Vec<_> = tap.frames().into_iter().filter(|frame| !holds(frame, open.as_bytes())).collect();
    let bytes: usize = frames.iter().map(Vec::len).sum();
    assert!(bytes > 20_000, "the sessions were not heard: {} frames, {bytes} bytes", frames.len());
    assert!(frames.iter().any(|frame| holds(frame, b"kith-sync/1")), "no session was heard");
    let announcements: Vec<_> = frames.iter().filter(|frame| holds(frame, b"\x05_kith\x04_tcp")).collect();
    assert!(!announcements.is_empty(), "no announcement was heard");
    eprintln!("{} frames, {bytes} bytes, {} announcements", frames.len(), announcements.len());

    for word in ["saffron", "cardamom", "turmeric", "zanzibar", "mood", &base64(&body)[..20]] {
        let found = frames.iter().find(|frame| holds(frame, word.as_bytes()));
        assert!(found.is_none(), "{word} is on the wire: {}", String::from_utf8_lossy(found.expect("it was found")));
    }
    for word in ["journal", "default", "sync", "entries"] {
        let found = announcements.iter().find(|frame| holds(frame, word.as_bytes()));
        assert!(found.is_none(), "{word} is announced");
    }
}
