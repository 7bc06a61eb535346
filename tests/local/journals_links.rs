//! Links that break in the middle, and trust that ends meanwhile. All that goes between Anna and Bert goes through a relay.

use std::collections::BTreeSet;

use kith_tests::fault::Weather;
use kith_tests::random::Random;
use kith_tests::{PATIENCE, wait};

use crate::journals::{App, DEFAULT, export, sync, wait_same, wait_state};
use crate::support::relayed;

#[test]
fn g63_a_session_that_is_cut_again_and_again_ends_with_everything() {
    let (anna, bert, _, relay) = relayed();
    let mut random = Random::printed("cuts in a sync");
    wait_same(&[&anna, &bert], DEFAULT, 0);
    let (mut hers, mut his) = (App::of(&anna, DEFAULT), App::of(&bert, DEFAULT));
    let mut expected = BTreeSet::new();
    for round in 0..20 {
        // From within the handshake to behind the last byte.
        let most = [4_000, 40_000, 400_000][round % 3];
        relay.set(Weather { cut_at: Some(random.within(1..most)), ..Weather::default() });
        for (app, name) in [(&mut hers, "anna"), (&mut his, "bert")] {
            for i in 0..5 {
                let id = format!("{name}-{round}-{i}");
                let len = random.within(0..60_000) as usize;
                app.put(&id, random.bytes(len));
                expected.insert(id);
            }
        }
        let before = relay.connections();
        // It ends one way or the other, and nothing that is there goes away.
        anna.ctl(&["sync", "bert"]);
        assert!(relay.connections() > before, "the session went through the relay");
        let have: BTreeSet<String> = his.ids().into_iter().collect();
        assert!((0..=round).all(|it| (0..5).all(|i| have.contains(&format!("bert-{it}-{i}")))), "Bert lost his own");
    }
    relay.set(Weather::default());
    sync(&anna, &bert);
    wait_same(&[&anna, &bert], DEFAULT, expected.len());
    assert_eq!(hers.ids(), expected.into_iter().collect::<Vec<_>>());
    assert_eq!(export(&anna, DEFAULT), export(&bert, DEFAULT));
    assert!(relay.connections() >= 20);
}

#[test]
fn a_large_body_goes_on_where_its_link_broke() {
    let (anna, bert, _, relay) = relayed();
    let body = Random::seeded(16).bytes(12 << 20);
    // Its link breaks every five megabytes: whoever began anew each time would never end.
    relay.set(Weather { cut_at: Some(5 << 20), ..Weather::default() });
    App::of(&anna, DEFAULT).put("large", &body);
    sync(&anna, &bert);
    wait_same(&[&anna, &bert], DEFAULT, 1);
    assert!(App::of(&bert, DEFAULT).get("large").expect("it is there").1 == body);
    assert!(relay.connections() >= 3, "it was cut");
}

#[test]
fn d35_a_revocation_in_the_middle_of_a_session_ends_it() {
    for by_anna in [true, false] {
        let (anna, bert, _, relay) = relayed();
        wait_same(&[&anna, &bert], DEFAULT, 0);
        relay.set(Weather { rate: Some(300_000), ..Weather::default() });
        let mut app = App::of(&anna, DEFAULT);
        let mut random = Random::seeded(9);
        for i in 0..200 {
            app.put(&format!("e{i:03}"), random.bytes(50_000));
        }
        let asked = anna.ctl_spawn(&["sync", "bert"]);
        // Ten megabytes take half a minute: it is in the middle.
        let mut his = App::of(&bert, DEFAULT);
        wait::until_true("the first entries to arrive", 2 * PATIENCE, || !his.ids().is_empty());
        let (who, whom) = if by_anna { (&anna, "bert") } else { (&bert, "anna") };
        who.ctl(&["trust", "revoke", whom, "--yes"]).ok();
        let ended = asked.finish(2 * PATIENCE);
        if by_anna {
            ended.expect(6);
        } else {
            assert_ne!(ended.status, 0, "it did not end well");
        }
        // Nor is it taken up again by the other side.
        relay.set(Weather::default());
        let (other, name) = if by_anna { (&bert, "anna") } else { (&anna, "bert") };
        assert_ne!(other.ctl(&["sync", name]).status, 0);
        let arrived = his.ids();
        assert!(arrived.len() < 200, "it ended in the middle");
        app.put("later", "x");
        his.put("his", "x");
        assert_eq!(his.ids().len(), arrived.len() + 1, "nothing more arrives");
        assert_eq!(app.get("his"), None);
    }
}

#[test]
fn who_is_no_own_device_any_more_gets_nothing_more_of_a_session_that_runs() {
    for unshared in [false, true] {
        let (anna, bert, _, relay) = relayed();
        let name = if unshared { "notes" } else { DEFAULT };
        if unshared {
            anna.ctl(&["journals", "create", name]).ok();
            anna.ctl(&["journals", "share", name, "bert"]).ok();
            wait_state(&bert, name, "active");
        }
        wait_same(&[&anna, &bert], name, 0);
        relay.set(Weather { rate: Some(300_000), ..Weather::default() });
        let mut app = App::of(&anna, name);
        let mut random = Random::seeded(9);
        for i in 0..200 {
            app.put(&format!("e{i:03}"), random.bytes(50_000));
        }
        let asked = anna.ctl_spawn(&["sync", "bert"]);
        let mut his = App::of(&bert, name);
        wait::until_true("the first entries to arrive", 2 * PATIENCE, || !his.ids().is_empty());
        if unshared {
            anna.ctl(&["journals", "unshare", name, "bert"]).ok();
        } else {
            anna.ctl(&["trust", "policy", "bert", "--guest"]).ok();
        }
        relay.set(Weather::default());
        // They still talk to each other: whoever asked gets an end, of this session or of the next.
        asked.finish(2 * PATIENCE).ok();
        sync(&anna, &bert);
        let arrived = his.ids().len();
        assert!((1..200).contains(&arrived), "{arrived} arrived: it ended in the middle");
        if unshared {
            wait_state(&bert, name, "removed");
            anna.ctl(&["journals", "share", name, "bert"]).ok();
        } else {
            anna.ctl(&["trust", "policy", "bert", "--own"]).ok();
        }
        wait_same(&[&anna, &bert], name, 200);
    }
}
