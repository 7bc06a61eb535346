//! What people do, and what becomes of it.

use std::collections::BTreeSet;

use super::harness::{Act, Clock, DAY, Meeting, NOTES, Op, World};
use crate::peer::journal::replica::Kept;
use crate::peer::journal::rules::{Content, Expected};
use crate::peer::journal::version::Version;

const YEAR: i64 = 365 * DAY as i64;

fn world(devices: usize) -> World {
    World::new(&vec![Clock::Skewed(0); devices])
}

fn edit(world: &mut World, at: usize, id: &str, text: &str) {
    world.now += 1;
    let content = Content { deleted: false, meta: "", body: text.as_bytes() };
    assert!(world.write(at, id, content, Expected::Anything));
}

fn delete(world: &mut World, at: usize, id: &str) {
    world.now += 1;
    let content = Content { deleted: true, meta: "", body: b"" };
    assert!(world.write(at, id, content, Expected::Anything));
}

/// What is current on every device; nothing where that is deleted.
fn text(world: &World, id: &str) -> Option<String> {
    assert!(world.is_same());
    let (_, version, body, _) = world.devices[0].disk.memory.journals[&NOTES].rows.get(id)?;
    (!version.deleted).then(|| String::from_utf8(body.clone()).unwrap())
}

fn kept(world: &World, at: usize, place: Kept) -> Vec<String> {
    let kept = &world.devices[at].disk.memory.journals[&NOTES].kept;
    let kept = kept.iter().filter(|(it, ..)| *it == place);
    kept.map(|(_, version, body)| if version.deleted { "-".into() } else { String::from_utf8_lossy(body).into() })
        .collect()
}

#[test]
fn g50_whoever_writes_later_wins_whatever_the_clocks_show() {
    let clocks = [Clock::Skewed(0), Clock::Skewed(YEAR), Clock::Skewed(-YEAR), Clock::Reset, Clock::Skewed(-20_000)];
    for first in clocks {
        for second in clocks {
            let mut world = World::new(&[first, second]);
            for round in 0..4 {
                let at = round % 2;
                // Clocks that are set right, and wrong again.
                world.devices[at].clock = if round == 2 { Clock::Skewed(0) } else { [first, second][at] };
                edit(&mut world, at, "x", &format!("{round}"));
                world.sync(0, 1);
                assert_eq!(text(&world, "x"), Some(format!("{round}")));
            }
            delete(&mut world, 1, "x");
            world.sync(0, 1);
            assert_eq!(text(&world, "x"), None);
            assert_eq!(world.conflicts, []);
        }
    }
}

#[test]
fn g51_a_partition_of_a_thousand_edits_a_side_heals_in_two_rounds() {
    let mut world = world(3);
    for n in 0..1_500 {
        edit(&mut world, 0, &format!("{n}"), "base");
    }
    world.converge();
    for n in 0..1_000 {
        edit(&mut world, n % 2, &format!("{n}"), &format!("left {n}"));
    }
    world.sync(0, 1);
    for n in 800..1_400 {
        edit(&mut world, 2, &format!("{n}"), &format!("right {n}"));
    }
    for n in 0..400 {
        edit(&mut world, 2, &format!("new {n}"), "right");
    }
    assert_eq!(world.conflicts, []);
    for _ in 0..2 {
        world.sync(0, 2);
        world.sync(1, 2);
        world.sync(0, 1);
    }
    assert!(world.is_same());
    let ids = |versions: &[(Version, Version)]| versions.iter().map(|it| it.0.id.clone()).collect::<BTreeSet<_>>();
    let concurrent: BTreeSet<String> = (800..1_000).map(|n| n.to_string()).collect();
    assert_eq!(ids(&world.conflicts), concurrent);
    world.check_nothing_is_lost();
}

#[test]
fn g52_one_entry_edited_on_three_devices_has_one_winner_and_two_that_are_kept() {
    let mut world = world(3);
    edit(&mut world, 0, "x", "base");
    world.converge();
    for at in 0..3 {
        edit(&mut world, at, "x", &format!("by {at}"));
    }
    world.converge();
    assert_eq!(text(&world, "x").as_deref(), Some("by 2"));
    let kept: BTreeSet<String> = (0..3).flat_map(|at| kept(&world, at, Kept::History)).collect();
    assert_eq!(kept, BTreeSet::from(["by 0".to_owned(), "by 1".to_owned()]));
}

#[test]
fn g53_an_edit_and_a_deletion_that_did_not_know_each_other() {
    for deleted_last in [false, true] {
        let mut world = world(2);
        edit(&mut world, 0, "x", "base");
        world.converge();
        if deleted_last {
            edit(&mut world, 0, "x", "edit");
            delete(&mut world, 1, "x");
        } else {
            delete(&mut world, 1, "x");
            edit(&mut world, 0, "x", "edit");
        }
        world.converge();
        let (current, loser) = if deleted_last { (None, "edit") } else { (Some("edit".to_owned()), "-") };
        assert_eq!(text(&world, "x"), current);
        assert_eq!([kept(&world, 0, Kept::History), kept(&world, 1, Kept::History)].concat(), [loser, loser]);
    }
}

#[test]
fn g54_the_same_content_twice_is_no_conflict() {
    let mut world = world(2);
    edit(&mut world, 0, "x", "same");
    edit(&mut world, 1, "x", "same");
    world.converge();
    assert_eq!((text(&world, "x").as_deref(), world.conflicts.len()), (Some("same"), 0));
    delete(&mut world, 0, "x");
    delete(&mut world, 1, "x");
    world.converge();
    assert_eq!((text(&world, "x"), world.conflicts.len()), (None, 0));
}

#[test]
fn who_missed_the_versions_between_sees_no_conflict() {
    let mut world = world(3);
    edit(&mut world, 0, "x", "0");
    world.converge();
    for n in 1..9 {
        edit(&mut world, n % 2, "x", &format!("{n}"));
        world.sync(0, 1);
    }
    world.converge();
    assert_eq!((text(&world, "x").as_deref(), world.conflicts.len()), (Some("8"), 0));
}

#[test]
fn g67_a_device_that_was_away_for_200_days_brings_nothing_back() {
    let mut world = world(3);
    for id in ["stays", "goes", "is edited"] {
        edit(&mut world, 0, id, "base");
    }
    world.converge();
    edit(&mut world, 2, "is edited", "while away");
    edit(&mut world, 2, "is new", "while away");
    for id in ["goes", "is edited"] {
        delete(&mut world, 0, id);
    }
    for _ in 0..20 {
        world.now += 10 * DAY;
        world.sync(0, 1);
        world.act(0, &Act::Collect);
    }
    assert!(!world.devices[0].disk.memory.journals[&NOTES].rows.contains_key("goes"), "forgotten");
    world.sync(2, 0);
    world.converge();
    assert_eq!(text(&world, "stays").as_deref(), Some("base"));
    assert_eq!(text(&world, "goes"), None);
    assert_eq!(text(&world, "is edited").as_deref(), Some("while away"));
    assert_eq!(text(&world, "is new").as_deref(), Some("while away"));
    assert_eq!(kept(&world, 0, Kept::Recovered), ["base"]);
    world.check_nothing_came_back();
}

#[test]
fn g46_g48_a_session_that_is_cut_anywhere_misses_nothing() {
    // Kept by the disk, or the database of either end as it was before, with another epoch.
    for power in [None, Some(0_u8), Some(1)] {
        for cut in 0..40 {
            for turns in [0, 0x1234_5678_9abc_def1, u64::MAX / 3] {
                let mut world = world(2);
                for n in 0..80 {
                    edit(&mut world, n % 2, &format!("{}", n % 50), &format!("{n}"));
                }
                for device in 0..2 {
                    world.run(&Op::Backup { device });
                }
                world.meet(&Meeting { pair: (0, 1), cut: Some(cut), turns, during: Vec::new() });
                if let Some(device) = power {
                    world.run(&Op::Restore { device, noticed: true });
                }
                world.sync(0, 1);
                assert!(world.is_same());
                assert_eq!(world.sync(1, 0).rows, 0);
                world.check_nothing_is_lost();
            }
        }
    }
}

#[test]
fn bytes_go_with_what_differs() {
    for (differing, cursors) in [(0, true), (1, true), (10, true), (100, true), (1, false), (10, false), (100, false)] {
        let mut world = world(2);
        for n in 0..2_000 {
            edit(&mut world, 0, &format!("{n}"), "base");
        }
        world.sync(0, 1);
        for n in 0..differing {
            edit(&mut world, n % 2, &format!("{}", n * 19), "changed");
        }
        if !cursors {
            for device in &mut world.devices {
                device.disk.memory.journals.get_mut(&NOTES).unwrap().cursors.clear();
            }
        }
        let ran = world.sync(0, 1);
        assert!(world.is_same() && ran.rows == differing as u64);
        let bound = if cursors { 1_024 + 300 * differing } else { 8_192 + 2_000 * differing };
        assert!(ran.bytes <= bound, "{} bytes for {differing}, by cursors: {cursors}", ran.bytes);
    }
}
