//! Devices that write while they cannot see each other: afterwards all have the same, and nothing that lost is gone.

use std::collections::{BTreeMap, BTreeSet};

use kith_tests::PATIENCE;
use kith_tests::host::Host;
use kith_tests::lab::Lab;
use kith_tests::wait::attempt;
use serde_json::Value;

use crate::journals::{
    DEFAULT, Ear, count, delete, entries, history, ids, join, live, number, put, put_all, text_of, tick, wait_equal,
    wait_text,
};
use crate::net::network;

/// Three devices of one person that know of each other.
fn family() -> Option<(Lab, [Host; 3])> {
    let (lab, hosts) = network(["anna", "bert", "cleo"])?;
    for (one, other) in [(0, 1), (1, 2), (0, 2)] {
        join(&hosts[one], &hosts[other]);
    }
    Some((lab, hosts))
}

/// Nothing passes to and from these any more. Nobody is told: it may well be over before anybody has noticed.
fn part(lab: &Lab, away: &[usize]) {
    away.iter().for_each(|&host| lab.block(host));
}

/// Whether this version lost here, and is kept.
fn keeps(host: &Host, id: &str, hash: &str) -> bool {
    history(host).iter().any(|version| version["id"] == id && version["hash"] == hash)
}

/// The hashes of the versions that are kept of each entry, on any of the devices.
fn kept(hosts: &[&Host]) -> BTreeMap<String, BTreeSet<String>> {
    let mut kept: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for version in hosts.iter().flat_map(|host| history(host)) {
        let text = |key: &str| version[key].as_str().expect("a text").to_owned();
        kept.entry(text("id")).or_default().insert(text("hash"));
    }
    kept
}

fn hash(entry: &Value) -> String {
    entry["hash"].as_str().expect("a hash").to_owned()
}

/// Each device told of what it keeps, once.
#[track_caller]
fn assert_told(hosts: &[&Host], ears: &[Ear]) {
    for (host, ear) in hosts.iter().zip(ears) {
        let of = |version: &Value| (version["id"].to_string(), version["hash"].to_string());
        let sorted = |mut versions: Vec<_>| {
            versions.sort();
            versions
        };
        let kept = sorted(history(host).iter().map(of).collect());
        let told = || sorted(ear.told("entry:conflict").iter().map(|conflict| of(&conflict["loser"])).collect());
        // The last of them may be on its way.
        attempt(PATIENCE, || (told().len() >= kept.len()).then_some(()));
        assert_eq!(told(), kept, "{}", host.name());
    }
}

#[test]
fn g51_two_and_one_with_a_thousand_edits_a_side() {
    const SHARED: usize = 300;
    const BOTH: usize = 120;
    let Some((lab, hosts)) = family() else { return };
    let [anna, bert, cleo] = &hosts;
    let all = [anna, bert, cleo];
    put_all(anna, ids("shared", SHARED), b"as it was");
    wait_equal(&all);
    part(&lab, &[3]);

    // On one side, one goes on with what the other one wrote: that is no conflict.
    put_all(anna, ids("shared", BOTH), b"by anna");
    put_all(anna, ids("anna", 400), b"new");
    wait_equal(&all[..2]);
    put_all(bert, ids("shared", BOTH / 2), b"by anna, then by bert");
    put_all(bert, ids("bert", 400), b"new");
    (200..220).for_each(|number| delete(bert, &format!("shared-{number}")));
    wait_equal(&all[..2]);
    put_all(cleo, ids("shared", BOTH), b"by cleo");
    put_all(cleo, ids("cleo", 860), b"new");
    (220..240).for_each(|number| delete(cleo, &format!("shared-{number}")));
    assert_eq!(all.map(|host| count(host, "history")), [0, 0, 0]);
    let (ours, theirs) = (entries(anna), entries(cleo));

    let ears = all.map(Ear::at);
    lab.heal(3);
    let now = wait_equal(&all);
    let mut rounds: BTreeMap<(usize, String), usize> = BTreeMap::new();
    for (at, ear) in ears.iter().enumerate() {
        for session in ear.moved() {
            *rounds.entry((at, session["peer"]["name"].to_string())).or_default() += 1;
        }
    }
    eprintln!("sessions that moved something: {rounds:?}");
    assert!(rounds.values().all(|rounds| *rounds <= 2), "{rounds:?}");

    assert_eq!((now.len(), live(anna).len()), (SHARED + 400 + 400 + 860, SHARED + 400 + 400 + 860 - 40));
    // The conflicts are those on both sides, and no others; of each, what lost is kept.
    let lost: BTreeMap<_, _> = ids("shared", BOTH)
        .map(|id| {
            let sides = [&ours, &theirs].map(|side| hash(&side[&id]));
            let winner = sides.iter().position(|side| *side == hash(&now[&id])).expect("one of the two is current");
            (id, BTreeSet::from([sides[1 - winner].clone()]))
        })
        .collect();
    assert_eq!(kept(&all), lost);
    assert_told(&all, &ears);
    // Who had it keeps it: that is where it met the winner, wherever else it did.
    for (host, had) in [(anna, &ours), (bert, &ours), (cleo, &theirs)] {
        let here: BTreeSet<_> =
            history(host).iter().map(|version| (version["id"].to_string(), hash(version))).collect();
        let replaced = ids("shared", BOTH).filter(|id| had[id]["hash"] != now[id]["hash"]);
        let missing: Vec<_> = replaced.filter(|id| !here.contains(&(format!("\"{id}\""), hash(&had[id])))).collect();
        assert!(missing.is_empty(), "{} keeps nothing of {missing:?}", host.name());
        assert!(here.len() <= BOTH);
    }
}

#[test]
fn g52_one_entry_is_edited_on_three_devices() {
    let Some((lab, hosts)) = family() else { return };
    let all = [&hosts[0], &hosts[1], &hosts[2]];
    put(all[0], "plan", "as it was");
    wait_equal(&all);
    part(&lab, &[2, 3]);
    let mut texts: BTreeMap<_, _> = BTreeMap::new();
    let mut last = String::new();
    let mut writers = Vec::new();
    for host in [all[1], all[2], all[0]] {
        tick();
        let text = format!("as {} wants it", host.name());
        last = hash(&put(host, "plan", &text));
        texts.insert(last.clone(), text);
        writers.push((host, last.clone()));
    }
    let ears = all.map(Ear::at);
    lab.heal(2);
    lab.heal(3);
    let now = wait_equal(&all);
    assert_eq!(hash(&now["plan"]), last, "the last one wins");
    // A device keeps what it saw lose. Together they have both.
    let losers: BTreeSet<_> = texts.keys().filter(|hash| **hash != last).cloned().collect();
    assert_eq!(kept(&all), BTreeMap::from([("plan".to_owned(), losers)]));
    assert_told(&all, &ears);
    for host in all {
        assert_eq!(text_of(host, "plan", None), texts[&last]);
        for version in history(host) {
            assert_eq!(text_of(host, "plan", Some(&hash(&version))), texts[&hash(&version)]);
        }
    }
    assert!(writers[..2].iter().all(|(host, hash)| keeps(host, "plan", hash)), "who lost keeps its own");
    // And it can be had back.
    let version = kept(&all)["plan"].iter().next().expect("two are kept").clone();
    let keeper = all.into_iter().find(|host| history(host).iter().any(|it| hash(it) == version)).expect("somebody");
    keeper.ctl(&["entries", "recover", DEFAULT, "plan", &version]).ok();
    for host in all {
        wait_text(host, "plan", &texts[&version]);
    }
}

#[test]
fn g53_an_edit_against_a_deletion_in_both_orders() {
    let Some((lab, hosts)) = family() else { return };
    let [anna, bert, cleo] = &hosts;
    let all = [anna, bert, cleo];
    put_all(anna, ["edited last", "deleted last", "deleted twice"].map(str::to_owned), b"as it was");
    wait_equal(&all);
    part(&lab, &[3]);
    delete(anna, "edited last");
    let edit = hash(&put(anna, "deleted last", "edited before"));
    delete(anna, "deleted twice");
    tick();
    put(cleo, "edited last", "edited after");
    delete(cleo, "deleted last");
    delete(cleo, "deleted twice");
    wait_equal(&all[..2]);
    let ears = all.map(Ear::at);
    lab.heal(3);
    let now = wait_equal(&all);
    assert_eq!(live(bert), BTreeSet::from(["edited last".to_owned()]));
    assert!(now["deleted last"]["deleted"] == true && now["deleted twice"]["deleted"] == true, "{now:#?}");
    for host in all {
        assert_eq!(text_of(host, "edited last", None), "edited after");
    }
    // The edit that lost is kept, and can be had back; two deletions are no conflict.
    let kept = kept(&all);
    assert_eq!(kept.get("deleted last"), Some(&BTreeSet::from([edit.clone()])), "{kept:?}");
    assert_eq!(kept.get("deleted twice"), None);
    assert!(keeps(anna, "deleted last", &edit) && keeps(bert, "deleted last", &edit));
    assert_told(&all, &ears);
    let keeper = all.into_iter().find(|host| history(host).iter().any(|it| hash(it) == edit)).expect("somebody");
    keeper.ctl(&["entries", "recover", DEFAULT, "deleted last", &edit]).ok();
    for host in all {
        wait_text(host, "deleted last", "edited before");
    }
}

#[test]
fn g54_the_same_content_twice_is_no_conflict() {
    let Some((lab, hosts)) = family() else { return };
    let all = [&hosts[0], &hosts[1], &hosts[2]];
    put(all[0], "old", "as it was");
    wait_equal(&all);
    part(&lab, &[2, 3]);
    for host in all {
        tick();
        put(host, "old", "all agree");
        put(host, "new", "all agree");
    }
    let ears = all.map(Ear::at);
    lab.heal(2);
    lab.heal(3);
    wait_equal(&all);
    assert_eq!(live(all[1]).len(), 2);
    for (host, ear) in all.iter().zip(&ears) {
        assert!(ear.told("entry:conflict").is_empty(), "{:#?}", ear.heard());
        assert_eq!(count(host, "history"), 0);
        assert_eq!(text_of(host, "old", None), "all agree");
        assert!(ear.told("sync:complete").iter().all(|session| number(session, "conflicts") == 0));
    }
}
