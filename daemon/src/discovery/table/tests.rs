use kith_proto::control::types::{Offers, Policy, Relation};
use proptest::prelude::*;

use super::*;

const OWN: DeviceId = DeviceId([0xff; 8]);

fn key(n: u8) -> PublicKey {
    PublicKey([n; 32])
}

/// More than there are.
const ALL: usize = 100;

fn id(n: u8) -> DeviceId {
    key(n).device_id()
}

fn address(n: u8) -> SocketAddr {
    SocketAddr::from(([192, 168, 1, n], 44_000))
}

fn device(n: u8) -> Device {
    Device {
        key: key(n),
        name: format!("nas{n}"),
        our_name: None,
        relation: Relation::Own,
        policy: Policy::default(),
        addresses: vec![address(200)],
        paired_ms: 0,
        last_seen_ms: None,
        revoked_ms: None,
        calls: false,
    }
}

fn trust(devices: impl IntoIterator<Item = Device>) -> Arc<trust::Snapshot> {
    let mut snapshot = trust::Snapshot::default();
    snapshot.devices = devices.into_iter().map(|device| (device.key, Arc::new(device))).collect();
    Arc::new(snapshot)
}

fn announcement(instance: &str, id: DeviceId, addresses: &[u8]) -> Announcement {
    let addresses = addresses.iter().copied().map(address).collect();
    Announcement { instance: instance.to_owned(), id, name: "announced".to_owned(), addresses, hello: None }
}

/// A table whose trusted devices have just been tried.
fn table(devices: impl IntoIterator<Item = Device>) -> Table {
    let mut table = Table::new(OWN, trust(devices), 0);
    table.due(0, ALL);
    table
}

fn kinds(table: &mut Table) -> Vec<&'static str> {
    table.facts().iter().map(Fact::kind).collect()
}

fn addresses(table: &Table, id: DeviceId) -> Vec<SocketAddr> {
    table.snapshot().peers[&id].addresses.clone()
}

#[test]
fn a_stranger_is_what_its_announcements_say() {
    let mut table = table([]);
    table.announced(announcement("a", id(1), &[1]), 0);
    assert_eq!(kinds(&mut table), ["peer:discovered"]);
    table.announced(announcement("a", id(1), &[1]), 1);
    assert_eq!(kinds(&mut table), [""; 0]);
    table.announced(announcement("a", id(1), &[2, 1]), 2);
    assert_eq!(kinds(&mut table), ["peer:updated"]);
    table.removed("a", 3);
    let facts = table.facts();
    assert!(matches!(&facts[..], [Fact::PeerLost(peer)] if peer.name == "announced" && !peer.online), "{facts:?}");
    assert!(table.snapshot().peers.is_empty());
    table.announced(announcement("a", OWN, &[1]), 4);
    assert!(table.snapshot().peers.is_empty());
    assert_eq!(table.next_due(), None, "nobody tries to reach a stranger");
}

#[test]
fn d28_a_trusted_device_is_online_when_it_was_reached() {
    let mut table = table([device(1)]);
    table.announced(announcement("a", id(1), &[1]), 2_000);
    assert!(!table.snapshot().peers[&id(1)].online, "an announcement proves nothing");
    assert_eq!(table.due(2_000, ALL), [key(1)], "but is worth a try");
    table.unreachable(id(1), 2_100);
    table.reached(&key(2), address(1), Contact::Answered, 2_200);
    assert!(!table.snapshot().peers[&id(1)].online, "another key is another device");
    table.facts();
    table.reached(&key(1), address(1), Contact::Answered, 2_300);
    assert_eq!(kinds(&mut table), ["peer:discovered"]);
    assert_eq!(table.due(2_300, ALL), [], "a device that is there is left alone");
}

#[test]
fn c20_goodbyes_for_a_trusted_device_only_make_it_looked_at() {
    let mut table = table([device(1)]);
    table.announced(announcement("a", id(1), &[1]), 0);
    table.reached(&key(1), address(1), Contact::Answered, 0);
    table.facts();
    let mut tries = 0;
    for now in 0..10_000 {
        table.removed("a", now);
        table.announced(announcement("a", id(1), &[1]), now);
        table.removed("a", now);
        let due = table.due(now, ALL).len();
        tries += due;
        if due > 0 {
            table.reached(&key(1), address(1), Contact::Answered, now);
        }
    }
    assert_eq!(kinds(&mut table), [""; 0]);
    assert!((1..=10).contains(&tries), "{tries} tries in ten seconds");
    assert!(addresses(&table, id(1)).contains(&address(1)));
    table.removed("a", 10_000);
    table.unreachable(id(1), 10_000);
    assert_eq!(kinds(&mut table), ["peer:lost"], "nobody there: lost at once");
    assert_eq!(table.due(10_000 + SECOND_CHANCE_MS, ALL), [key(1)], "and given a second chance");
}

#[test]
fn c20_a_flood_evicts_only_strangers() {
    let mut table = table([device(1)]);
    table.reached(&key(1), address(1), Contact::Answered, 0);
    for n in 0..1_000_u64 {
        let stranger = DeviceId((n << 8).to_be_bytes());
        table.announced(announcement(&n.to_string(), stranger, &[2]), n);
    }
    let snapshot = table.snapshot();
    assert_eq!(snapshot.peers.len(), limits::DISCOVERED_PEERS + 1);
    assert!(snapshot.peers[&id(1)].online);
    assert!(!snapshot.peers.contains_key(&DeviceId([0; 8])), "the oldest went");
    assert_eq!(table.owners.len(), limits::DISCOVERED_PEERS);
    let facts = kinds(&mut table);
    assert_eq!(facts.iter().filter(|kind| **kind == "peer:lost").count(), 1_000 - limits::DISCOVERED_PEERS);
}

#[test]
fn d28_whoever_claims_an_id_only_adds_to_it() {
    let mut table = table([]);
    table.announced(Announcement { name: "real".to_owned(), ..announcement("a", id(1), &[1, 2]) }, 0);
    let many: Vec<u8> = (10..50).collect();
    for n in 0..10 {
        table.announced(Announcement { name: "fake".to_owned(), ..announcement(&format!("f{n}"), id(1), &many) }, 1);
    }
    let peer = &table.snapshot().peers[&id(1)];
    assert_eq!(peer.name, "real");
    assert_eq!(peer.addresses.len(), limits::PEER_ADDRESSES);
    assert!(peer.addresses.contains(&address(1)) && peer.addresses.contains(&address(2)));
    table.facts();
    for n in 0..10 {
        table.removed(&format!("f{n}"), 2);
    }
    assert_eq!(kinds(&mut table), [""; 0], "the real one is still there");
    table.removed("a", 3);
    assert_eq!(kinds(&mut table), ["peer:lost"]);
}

#[test]
fn d28_an_instance_that_changes_its_id_leaves_the_old_one() {
    let mut table = table([device(1)]);
    table.reached(&key(1), address(1), Contact::Answered, 0);
    table.announced(announcement("a", id(1), &[1]), 0);
    table.announced(announcement("a", id(2), &[1]), 1);
    assert!(table.instances(id(1)).next().is_none());
    assert!(table.snapshot().peers[&id(1)].online, "until somebody looks");
    assert!(table.snapshot().peers[&id(2)].online);
}

#[test]
fn addresses_are_kept_newest_first_and_fade() {
    let mut table = table([]);
    table.announced(announcement("a", id(1), &[1]), 0);
    table.announced(announcement("a", id(1), &[2]), 0);
    assert_eq!(addresses(&table, id(1)), [address(2), address(1)]);
    table.announced(announcement("a", id(1), &[1, 2]), 19_000);
    assert_eq!(addresses(&table, id(1)), [address(2), address(1)], "a stale record that comes back is not news");
    table.announced(announcement("a", id(1), &[2]), 30_000);
    table.facts();
    table.tick(30_000 + STALE_MS - 1);
    assert_eq!(addresses(&table, id(1)).len(), 2);
    table.tick(30_000 + STALE_MS);
    assert_eq!(addresses(&table, id(1)), [address(2)]);
    assert_eq!(kinds(&mut table), ["peer:updated"]);
}

#[test]
fn d28_no_crowd_of_claims_keeps_out_a_device_that_came_itself() {
    let mut table = table([device(1)]);
    let crowd: Vec<u8> = (50..50 + limits::PEER_ADDRESSES as u8).collect();
    table.announced(announcement("a", id(1), &[7]), 0);
    // Somebody takes the instance over, with as many addresses as there is room for.
    table.announced(announcement("a", id(1), &crowd), 1);
    assert!(!addresses(&table, id(1)).contains(&address(7)));
    let came = SocketAddr::new(address(7).ip(), 50_000);
    table.reached(&key(1), came, Contact::Listens(44_000), 2);
    assert_eq!(addresses(&table, id(1))[0], address(7), "with its port, not the one announced");
    let others: Vec<u8> = (100..100 + limits::PEER_ADDRESSES as u8).collect();
    table.announced(announcement("b", id(1), &others), 3);
    table.removed("a", 4);
    table.announced(announcement("b", id(1), &others), 5);
    assert!(addresses(&table, id(1)).contains(&address(7)), "what came itself is not pushed out");
    assert_eq!(addresses(&table, id(1)).len(), limits::PEER_ADDRESSES);
}

#[test]
fn of_a_device_that_came_only_the_ip_is_news() {
    let mut table = table([device(1)]);
    let from = |n| SocketAddr::new(address(n).ip(), 50_000);
    table.reached(&key(1), from(7), Contact::Called, 2_000);
    assert_eq!(addresses(&table, id(1)), [address(7)], "with the port that is known");
    assert!(!table.snapshot().peers[&id(1)].online, "coming is not being reachable");
    assert_eq!(table.due(2_000, ALL), [key(1)]);
    table.reached(&key(1), address(7), Contact::Answered, 2_100);
    table.reached(&key(1), from(7), Contact::Called, 50_000);
    assert_eq!(addresses(&table, id(1)), [address(7)]);
    table.tick(70_000);
    assert_eq!(table.due(70_000, ALL), [], "who came lately need not be tried");
    table.tick(100_000);
    assert_eq!(table.due(100_000, ALL), [key(1)]);
}

#[test]
fn tries_come_on_ticks_and_grow_rare() {
    let mut table = Table::new(OWN, trust([device(1), device(2)]), 0);
    assert_eq!(table.due(0, ALL).len(), 2, "everybody at the start");
    table.reached(&key(2), address(2), Contact::Answered, 0);
    let mut tries = [0, 0];
    for tick in 1..=240 {
        let now = tick * TICK_MS;
        table.tick(now);
        for due in table.due(now, ALL) {
            if due == key(1) {
                tries[0] += 1;
                table.unreachable(id(1), now);
            } else {
                tries[1] += 1;
                table.reached(&key(2), address(2), Contact::Answered, now);
            }
        }
        assert_eq!(table.next_due(), None, "no wake-ups between the ticks");
    }
    assert_eq!(tries[1], 120, "two hours, once a minute");
    assert!((40..80).contains(&tries[0]), "{}", tries[0]);
    table.look_again(8_000_000);
    assert_eq!(table.due(8_000_000, ALL).len(), 2);
}

#[test]
fn a_device_without_an_address_is_tried_as_soon_as_it_has_one() {
    let mut table = Table::new(OWN, trust([Device { addresses: Vec::new(), ..device(1) }]), 0);
    assert_eq!(table.due(0, ALL), []);
    table.announced(announcement("a", id(1), &[1]), 60);
    assert_eq!(table.due(60, ALL), [key(1)]);
}

#[test]
fn of_thousands_that_are_away_few_are_tried_at_once_and_all_have_their_turn() {
    let many = |range: std::ops::Range<u16>| {
        range.map(|n| Device { key: PublicKey(std::array::from_fn(|i| n.to_be_bytes()[i % 2])), ..device(1) })
    };
    let mut table = Table::new(OWN, trust(many(0..2000).chain([device(9)])), 0);
    table.announced(announcement("a", id(9), &[9]), 1);
    let mut tried = table.due(1, 8);
    assert!(tried.len() == 8 && tried[0] == key(9), "who is announced is first");
    assert_eq!(table.due(1, 0), []);
    // Those that fail are tried again before all others were tried once, but not first.
    let mut now = 1;
    while tried.len() < 2001 && now < 600_000 {
        now += 2_000;
        table.tick(now);
        for due in table.due(now, 8) {
            table.unreachable(due.device_id(), now);
            tried.push(due);
        }
        tried.sort_unstable();
        tried.dedup();
    }
    assert_eq!(tried.len(), 2001);
}

#[test]
fn changes_of_trust_are_facts() {
    let mut table = table([]);
    let mut seen = |devices: Vec<Device>, now| {
        table.trust_changed(trust(devices), now);
        kinds(&mut table)
    };
    assert_eq!(seen(vec![device(1)], 0), ["peer:paired"]);
    assert_eq!(seen(vec![Device { last_seen_ms: Some(5), ..device(1) }], 1), [""; 0]);
    assert_eq!(seen(vec![Device { our_name: Some("attic".to_owned()), ..device(1) }], 2), ["peer:updated"]);
    let policy = Policy { offers: Offers::Never, ..Policy::default() };
    assert_eq!(seen(vec![Device { policy, ..device(1) }], 3), ["peer:updated"]);
    assert_eq!(seen(vec![Device { revoked_ms: Some(4), ..device(1) }], 4), ["peer:revoked"]);
    assert_eq!(seen(vec![device(1), device(2)], 5), ["peer:paired"; 2]);
    assert_eq!(table.due(5, ALL), [], "the other side needs a moment, too");
    assert_eq!(table.due(5 + PAIRED_GRACE_MS, ALL).len(), 2);
}

#[test]
fn a_stranger_that_is_paired_and_revoked_stays_in_sight() {
    let mut table = table([]);
    table.announced(announcement("a", id(1), &[1]), 0);
    table.trust_changed(trust([device(1)]), 1);
    table.trust_changed(trust([Device { revoked_ms: Some(2), ..device(1) }]), 2);
    let facts = table.facts();
    assert_eq!(facts.iter().map(Fact::kind).collect::<Vec<_>>(), ["peer:discovered", "peer:paired", "peer:revoked"]);
    for (fact, state) in facts.iter().zip(["discovered", "trusted", "revoked"]) {
        assert_eq!((&fact.data()["online"], &fact.data()["state"]), (&true.into(), &state.into()));
    }
    table.removed("a", 3);
    assert_eq!(kinds(&mut table), ["peer:lost"]);
    assert!(table.snapshot().peers.is_empty());
}

#[test]
fn who_is_not_announced_again_after_a_new_start_is_gone() {
    let mut table = table([]);
    table.announced(announcement("a", id(1), &[1]), 0);
    table.announced(announcement("b", id(2), &[2]), 0);
    table.facts();
    table.relist(1_000);
    table.announced(announcement("b", id(2), &[2]), 2_000);
    table.tick(1_000 + RELIST_MS);
    assert_eq!(kinds(&mut table), ["peer:lost"]);
    assert!(table.snapshot().peers.contains_key(&id(2)));
}

#[derive(Debug, Clone)]
enum Input {
    Announced(u8, u8, Vec<u8>),
    Removed(u8),
    Reached(u8, u8, Contact),
    Unreachable(u8),
    Trust(Vec<(u8, bool)>),
    Relist,
    Tick,
}

fn contact() -> impl Strategy<Value = Contact> {
    prop_oneof![Just(Contact::Answered), Just(Contact::Called), any::<u16>().prop_map(Contact::Listens)]
}

fn input() -> impl Strategy<Value = Input> {
    let n = || 0..8_u8;
    prop_oneof![
        (n(), n(), prop::collection::vec(any::<u8>(), 1..17)).prop_map(|(i, d, a)| Input::Announced(i, d, a)),
        n().prop_map(Input::Removed),
        (n(), any::<u8>(), contact()).prop_map(|(d, a, contact)| Input::Reached(d, a, contact)),
        n().prop_map(Input::Unreachable),
        prop::collection::vec((n(), any::<bool>()), 0..6).prop_map(Input::Trust),
        Just(Input::Relist),
        Just(Input::Tick),
    ]
}

proptest! {
    /// Whatever happens in whatever order: bounds hold, trusted devices stay, and whoever follows the facts knows
    /// what the table knows.
    #[test]
    fn bounds_hold_and_facts_tell_everything(inputs in prop::collection::vec((input(), 0..40_000_u64), 1..120)) {
        let mut table = Table::new(OWN, trust([]), 0);
        let mut told = BTreeMap::new();
        let mut now = 0;
        for (input, pause) in inputs {
            now += pause;
            match input {
                Input::Announced(i, d, a) => table.announced(announcement(&i.to_string(), id(d), &a), now),
                Input::Removed(i) => table.removed(&i.to_string(), now),
                Input::Reached(d, a, contact) => table.reached(&key(d), address(a), contact, now),
                Input::Unreachable(d) => table.unreachable(id(d), now),
                Input::Trust(devices) => {
                    let devices = devices.into_iter();
                    let devices = devices.map(|(d, revoked)| Device { revoked_ms: revoked.then_some(1), ..device(d) });
                    table.trust_changed(trust(devices), now);
                }
                Input::Relist => table.relist(now),
                Input::Tick => table.tick(now),
            }
            let seen = |(id, entry): (&DeviceId, &Entry)| (*id, Arc::new(entry.sighting(*id, table.device(id))));
            prop_assert_eq!(&table.snapshot().peers, &table.entries.iter().map(seen).collect::<BTreeMap<_, _>>());
            for device in table.trust.devices.values().filter(|device| device.is_trusted()) {
                prop_assert_eq!(table.keys.get(&device.key.device_id()), Some(&device.key));
            }
            prop_assert!(table.due(now, ALL).iter().all(|key| table.trust.trusted(key).is_some()));
            for fact in table.facts() {
                let peer: Peer = serde_json::from_value(fact.data()).unwrap();
                told.insert(peer.id, peer);
            }
            let instances: usize = table.entries.values().map(|entry| entry.instances.len()).sum();
            prop_assert_eq!(instances, table.owners.len());
            for (id, entry) in &table.entries {
                prop_assert!(entry.places.len() <= limits::PEER_ADDRESSES && entry.instances.len() <= INSTANCES);
                let told = told.get(id).ok_or_else(|| TestCaseError::fail("a device that no fact told of"))?;
                prop_assert_eq!(told.online, entry.shown.as_ref().unwrap().online);
                prop_assert_eq!(told.state == PeerState::Trusted, table.is_trusted(id));
            }
            for device in table.trust.devices.values().filter(|device| device.is_trusted()) {
                prop_assert!(table.entries.contains_key(&device.key.device_id()));
            }
            for (id, told) in &told {
                prop_assert!(table.entries.contains_key(id) || !told.online);
            }
        }
    }
}
