//! Who takes part: records of several hands, in any order.

use ed25519_dalek::{Signer, SigningKey};
use proptest::prelude::*;

use super::harness::BEGIN;
use super::properties::cases;
use super::session::sync;
use crate::id::PublicKey;
use crate::peer::journal::member::{Kind, Members, Record, Resource};
use crate::peer::journal::memory::Memory;
use crate::peer::journal::replica::Shelf;
use crate::peer::journal::version::{Epoch, JournalId};

/// The creator, two whom it may name, and members.
const CREATOR: usize = 0;
const ADMIN: usize = 1;
const OTHER_ADMIN: usize = 2;
const MEMBER: usize = 3;
const GUEST: usize = 4;

fn secret(who: usize) -> SigningKey {
    SigningKey::from_bytes(&[who as u8 + 1; 32])
}

fn key(who: usize) -> PublicKey {
    PublicKey(secret(who).verifying_key().to_bytes())
}

fn journal() -> Members {
    let nonce = JournalId([9; 16]);
    Members::new(Resource { kind: Kind::Journal, name: "notes".to_owned(), creator: key(CREATOR), nonce })
}

fn signed(record: Record, by: usize, journal: &JournalId) -> Record {
    let signature = secret(by).sign(&record.message(journal)).to_bytes();
    record.signed(&signature)
}

/// What `by` says about `who`, well signed, be it allowed or not.
fn says(members: &Members, by: usize, who: usize, count: u32, admits: bool) -> Record {
    let (device, by_key) = (key(who), key(by));
    let record = Record { device, name: format!("d{who}"), count, admits, by: by_key, signature: String::new() };
    signed(record, by, &members.journal())
}

/// A change as a device makes it; nothing where there is nothing to change.
fn change(members: &mut Members, by: usize, who: usize, admits: bool, enter: bool) -> Option<Record> {
    let record = members.change(&key(who), &format!("d{who}"), admits, enter, &key(by))?;
    let record = signed(record, by, &members.journal());
    members.merge(std::slice::from_ref(&record)).then_some(record)
}

fn with_admin() -> Members {
    let mut members = journal();
    change(&mut members, CREATOR, ADMIN, true, true).unwrap();
    change(&mut members, CREATOR, MEMBER, false, true).unwrap();
    members
}

#[test]
fn the_creator_is_in_from_the_start_and_alone() {
    let members = journal();
    assert_eq!(members.devices(), [key(CREATOR)]);
    assert!(members.may_admit(&key(CREATOR)) && !members.may_admit(&key(ADMIN)) && !members.contains(&key(MEMBER)));
}

#[test]
fn whom_the_creator_names_admits_and_a_plain_member_does_not() {
    let mut members = with_admin();
    assert!(members.may_admit(&key(ADMIN)) && !members.may_admit(&key(MEMBER)));
    assert!(change(&mut members, ADMIN, GUEST, false, true).is_some());
    assert!(members.contains(&key(GUEST)));
    for by in [MEMBER, GUEST] {
        let mut other = members.clone();
        assert!(change(&mut other, by, OTHER_ADMIN, false, true).is_none());
        assert!(change(&mut other, by, ADMIN, false, false).is_none());
        assert_eq!(other, members);
    }
    // Nobody but the creator names others, or removes whom the creator named, or the creator.
    for (who, count, admits) in [(OTHER_ADMIN, 1, true), (CREATOR, 2, false), (ADMIN, 4096, false)] {
        let by = if who == ADMIN { MEMBER } else { ADMIN };
        let record = says(&members, by, who, count, admits);
        assert!(!members.merge(&[record]));
    }
}

#[test]
fn a_removal_is_undone_only_by_somebody_who_knows_of_it() {
    let mut members = with_admin();
    let first = members.record(&key(MEMBER)).unwrap().clone();
    let removal = change(&mut members, ADMIN, MEMBER, false, false).unwrap();
    assert!(!members.contains(&key(MEMBER)));
    let concurrent = says(&members, CREATOR, MEMBER, first.count, false);
    for older in [first, concurrent] {
        assert!(!members.merge(&[older]), "an older grant, and one that did not know");
    }
    let again = change(&mut members, ADMIN, MEMBER, false, true).unwrap();
    assert!(members.contains(&key(MEMBER)) && again.count > removal.count);
    assert!(!members.merge(&[removal]));
}

#[test]
fn everybody_may_leave_and_nobody_may_enter_by_himself() {
    let mut members = with_admin();
    for who in [MEMBER, ADMIN, CREATOR] {
        assert!(change(&mut members, who, who, false, false).is_some(), "{who}");
        assert!(!members.contains(&key(who)) && !members.may_admit(&key(who)));
    }
    let mut members = with_admin();
    change(&mut members, MEMBER, MEMBER, false, false).unwrap();
    assert!(change(&mut members, MEMBER, MEMBER, false, true).is_none());
    let guest = says(&members, GUEST, GUEST, 1, false);
    assert!(!members.merge(&[guest]));
}

#[test]
fn what_a_removed_admin_signed_counts_for_nothing_unless_it_is_signed_anew() {
    let mut members = with_admin();
    change(&mut members, ADMIN, GUEST, false, true).unwrap();
    change(&mut members, ADMIN, OTHER_ADMIN, false, true).unwrap();
    let (stays, journal) = (members.signed_by(&key(ADMIN)), members.journal());
    assert_eq!(stays.len(), 2);
    change(&mut members, CREATOR, ADMIN, false, false).unwrap();
    assert!(!members.contains(&key(GUEST)) && !members.contains(&key(OTHER_ADMIN)));
    let guest = stays.into_iter().find(|record| record.device == key(GUEST)).unwrap();
    assert!(members.merge(&[signed(guest, CREATOR, &journal)]));
    assert!(members.contains(&key(GUEST)) && !members.contains(&key(OTHER_ADMIN)));
    let late = says(&members, ADMIN, OTHER_ADMIN, 7, false);
    assert!(!members.merge(&[late]));
}

#[test]
fn what_is_forged_altered_or_of_another_journal_is_ignored() {
    let members = with_admin();
    let good = says(&members, CREATOR, GUEST, 1, false);
    let alter = |change: &dyn Fn(&mut Record)| {
        let mut record = good.clone();
        change(&mut record);
        record
    };
    let elsewhere = JournalId([1; 16]);
    let bad = [
        alter(&|it| it.count = 3),
        alter(&|it| it.admits = true),
        alter(&|it| it.name.push('x')),
        alter(&|it| it.device = key(OTHER_ADMIN)),
        alter(&|it| it.by = key(ADMIN)),
        alter(&|it| it.signature = String::new()),
        alter(&|it| it.signature.replace_range(..1, "-")),
        alter(&|it| it.signature.push('A')),
        signed(good.clone(), GUEST, &members.journal()),
        signed(good.clone(), CREATOR, &elsewhere),
        says(&members, CREATOR, GUEST, 0, false),
        says(&members, CREATOR, GUEST, u32::MAX, false),
    ];
    for record in bad {
        let mut other = members.clone();
        assert!(!other.merge(std::slice::from_ref(&record)), "{record:?}");
        assert_eq!(other, members);
    }
    assert!(members.clone().merge(&[good]));
}

#[test]
fn what_an_admin_changes_meanwhile_does_not_outdo_a_naming() {
    let mut here = with_admin();
    let mut there = here.clone();
    change(&mut here, CREATOR, MEMBER, true, true).unwrap();
    for enter in [false, true, false] {
        change(&mut there, ADMIN, MEMBER, false, enter).unwrap();
    }
    exchange(&mut here, &mut there);
    exchange(&mut here, &mut there);
    assert_eq!(here.digest(), there.digest());
    assert!(here.may_admit(&key(MEMBER)) && there.may_admit(&key(MEMBER)));
}

#[test]
fn who_was_named_once_learns_of_its_removal_and_of_who_admitted_it_again() {
    let mut here = with_admin();
    change(&mut here, CREATOR, MEMBER, true, true).unwrap();
    let mut there = here.clone();
    change(&mut here, CREATOR, MEMBER, false, false).unwrap();
    change(&mut here, ADMIN, MEMBER, false, true).unwrap();
    exchange(&mut here, &mut there);
    assert_eq!(here.digest(), there.digest());
    assert!(there.contains(&key(MEMBER)) && !there.may_admit(&key(MEMBER)));
}

fn exchange(a: &mut Members, b: &mut Members) {
    let told = [&*a, &*b].map(|it| it.introduction(&key(CREATOR)).unwrap().records);
    a.merge(&told[1]);
    b.merge(&told[0]);
}

proptest! {
    #![proptest_config(cases(256))]

    /// Devices change what they may and meet; whoever is last told what in which order, all know the same in the end.
    #[test]
    fn records_merge_in_any_order_to_the_same(
        steps in prop::collection::vec((0_usize..5, 0_usize..5, any::<bool>(), any::<bool>(), any::<bool>()), 1..24),
        order in Just((0..64_usize).collect::<Vec<_>>()).prop_shuffle(),
    ) {
        let mut devices = vec![journal(); 5];
        for (by, who, admits, enter, meet) in steps {
            if meet && by != who {
                let mut other = devices[who].clone();
                exchange(&mut devices[by], &mut other);
                devices[who] = other;
            } else {
                change(&mut devices[by], by, who, admits, enter);
            }
        }
        for round in 0.. {
            for (a, b) in (0..5).flat_map(|a| (0..a).map(move |b| (a, b))) {
                let mut other = devices[b].clone();
                exchange(&mut devices[a], &mut other);
                devices[b] = other;
            }
            if devices.iter().all(|it| it.digest() == devices[0].digest()) {
                break;
            }
            prop_assert!(round < 5, "not the same after five rounds");
        }
        let told = devices[0].introduction(&key(CREATOR)).unwrap().records;
        for device in &devices {
            prop_assert_eq!(&device.introduction(&key(CREATOR)).unwrap().records, &told);
            prop_assert_eq!(device.devices(), devices[0].devices());
        }
        let mut shuffled: Vec<Record> = order.iter().filter_map(|at| told.get(*at).cloned()).collect();
        shuffled.extend(told.iter().take(3).cloned());
        let mut fresh = journal();
        fresh.merge(&shuffled);
        prop_assert_eq!(fresh.digest(), devices[0].digest());
        prop_assert!(!fresh.merge(&shuffled), "once more changes nothing");
    }
}

#[test]
fn equal_digests_equal_records() {
    let members = with_admin();
    let mut other = members.clone();
    assert_eq!(members.digest(), other.digest());
    change(&mut other, ADMIN, GUEST, false, true).unwrap();
    assert_ne!(members.digest(), other.digest());
    exchange(&mut members.clone(), &mut other);
    let mut caught_up = members;
    exchange(&mut caught_up, &mut other);
    assert_eq!((caught_up.digest(), &caught_up), (other.digest(), &other));
}

fn device(who: usize, members: Option<&Members>) -> Memory {
    let mut memory = Memory::new(key(who), Epoch([who as u8 + 1; 16]));
    if let Some(members) = members {
        memory.journal(&members.journal()).contents().members = Some(members.clone());
    }
    memory
}

#[test]
fn introductions_travel_with_sessions() {
    let mut members = journal();
    change(&mut members, CREATOR, ADMIN, true, true).unwrap();
    let (mut creator, mut admin) = (device(CREATOR, Some(&members)), device(ADMIN, None));
    let mut member = device(MEMBER, None);
    sync(&mut creator, &mut admin, BEGIN);
    let known = |memory: &Memory| memory.journals.get(&members.journal()).and_then(|it| it.members.clone());
    assert_eq!(known(&admin), Some(members.clone()));
    // A stranger is told nothing.
    sync(&mut creator, &mut member, BEGIN);
    assert_eq!(known(&member), None);
    let mut grown = known(&admin).unwrap();
    change(&mut grown, ADMIN, MEMBER, false, true).unwrap();
    admin.journal(&grown.journal()).contents().members = Some(grown.clone());
    sync(&mut admin, &mut member, BEGIN);
    assert_eq!(known(&member), Some(grown.clone()));
    // Records speak for themselves: the creator hears of the new member from the new member.
    sync(&mut member, &mut creator, BEGIN);
    assert_eq!(known(&creator), Some(grown.clone()));
    // Who is removed learns that, and is listed no more.
    let mut smaller = known(&creator).unwrap();
    change(&mut smaller, CREATOR, MEMBER, false, false).unwrap();
    creator.journal(&smaller.journal()).contents().members = Some(smaller.clone());
    sync(&mut member, &mut creator, BEGIN);
    assert_eq!(known(&member).map(|it| it.digest()), Some(smaller.digest()));
    assert_eq!(member.manifest(&key(CREATOR)).unwrap(), []);
    assert_eq!(creator.manifest(&key(MEMBER)).unwrap(), []);
}
