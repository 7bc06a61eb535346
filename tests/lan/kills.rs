//! G46: either daemon is killed at a random moment, again and again; everything arrives whole, nothing torn is ever seen
//! under its final name, and what was verified is not sent a second time.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use kith_tests::host::Host;
use kith_tests::lab::Lab;
use kith_tests::random::Random;
use kith_tests::tree::{self, Entry};
use kith_tests::wait::{attempt, nap};

use crate::net::{LONG, befriend, file, inbox, leave, network};

const MIB: u64 = 1 << 20;

/// Two friends on a slow link.
fn friends(megabits: u32) -> Option<(Lab, [Host; 2])> {
    let (lab, hosts) = network(["anna", "bert"])?;
    befriend(&hosts[0], &hosts[1]);
    lab.rate(1, megabits);
    Some((lab, hosts))
}

/// Kills one of the hosts between 10 and 500 ms after bytes began to move, or, now and then, after both were ready; and
/// starts it again. Says which one it was, and how far the receiver was at its last word.
fn kill(random: &mut Random, hosts: &mut [Host; 2], id: &str) -> (usize, u64) {
    let far = |host: &Host| host.transfer(id).and_then(|it| it["bytes_done"].as_u64()).unwrap_or_default();
    if random.within(0..4) > 0 {
        let begun = far(&hosts[1]);
        let moving = |host: &Host| host.transfer(id).is_some_and(|it| it["state"] == "active");
        // It may be over by now: then there is nothing to wait for.
        attempt(Duration::from_secs(10), || {
            (moving(&hosts[0]) && moving(&hosts[1]) && far(&hosts[1]) > begun || is_over(&hosts[1], id)).then_some(())
        });
    }
    nap(Duration::from_millis(random.within(10..500)));
    let told = far(&hosts[1]);
    let side = random.within(0..2) as usize;
    hosts[side].kill9();
    (side, told)
}

fn is_over(host: &Host, id: &str) -> bool {
    host.transfer(id).is_some_and(|it| it["state"] == "done")
}

#[test]
fn g46_killed_while_a_large_file_is_sent() {
    const ROUNDS: usize = 30;
    let mut random = Random::printed("a large file");
    let Some((lab, mut hosts)) = friends(80) else { return };
    let mut sent = 0;
    let mut round = 0;
    while round < ROUNDS {
        sent += 1;
        let name = format!("large-{sent}.bin");
        let source = file(&hosts[0], &name, 150 * MIB + 4711, random.number());
        let target = inbox(&hosts[1], "anna").join(&name);
        let id = leave(&hosts[0], &source, "bert");
        let mut verified = 0;
        while round < ROUNDS && !is_over(&hosts[1], &id) {
            let (side, told) = kill(&mut random, &mut hosts, &id);
            round += 1;
            if target.exists() {
                crate::net::assert_same_file(&source, &target);
            } else if side == 1 {
                // What is verified never becomes less, and at most one chunk of what is written is not.
                let (chunks, written) = part(&hosts[1], &target);
                eprintln!("round {round}: the receiver at {chunks} chunks, {written} bytes, said {told}");
                assert!(chunks >= verified, "{verified} chunks were verified, now {chunks}");
                assert!(written < (chunks + 2) * MIB, "{written} bytes are written, {chunks} chunks verified");
                assert!(told <= (chunks + 1) * MIB, "{told} bytes were told, {chunks} chunks are verified");
                verified = chunks;
            }
            hosts[side].start();
        }
        lab.rate(1, 0);
        hosts[0].wait_transfer(&id, "done");
        hosts[1].wait_transfer(&id, "done");
        crate::net::assert_same_file(&source, &target);
        lab.rate(1, 80);
    }
    assert_clean(&hosts[1]);
}

#[test]
fn g46_killed_while_a_tree_is_sent() {
    const ROUNDS: usize = 25;
    let mut random = Random::printed("a tree");
    let Some((lab, mut hosts)) = friends(12) else { return };
    let mut sent = 0;
    let mut round = 0;
    while round < ROUNDS {
        sent += 1;
        let source = hosts[0].path(&format!("tree-{sent}"));
        tree::many(&source, 2000, 5000, random.number()).expect("the home is ours");
        tree::sample(&source.join("sample"), random.number()).expect("the home is ours");
        let expected = tree::list(&source).expect("the tree is ours");
        let target = inbox(&hosts[1], "anna").join(format!("tree-{sent}"));
        let id = leave(&hosts[0], &source, "bert");
        while round < ROUNDS && !is_over(&hosts[1], &id) {
            let (side, _) = kill(&mut random, &mut hosts, &id);
            round += 1;
            let whole = assert_nothing_torn(&expected, &target);
            eprintln!("round {round}: {} is killed, {whole} of {} are there", hosts[side].name(), expected.len());
            hosts[side].start();
        }
        lab.rate(1, 0);
        hosts[0].wait_transfer(&id, "done");
        hosts[1].wait_transfer(&id, "done");
        tree::assert_same(&source, &target);
        lab.rate(1, 12);
    }
    assert_clean(&hosts[1]);
}

/// Verified chunks of the only file that is under way to `target`, and the bytes of it that are written.
fn part(host: &Host, target: &Path) -> (u64, u64) {
    let journals = files_below(&host.path("data/parts"));
    // 36 bytes of head, 32 a chunk.
    let chunks = journals.iter().map(|path| size(path).saturating_sub(36) / 32).max().unwrap_or_default();
    let dir = target.parent().expect("a directory");
    let parts = files_below(dir).into_iter().filter(|path| is_part(path));
    (chunks, parts.map(|path| size(&path)).max().unwrap_or_default())
}

/// Panics unless every file under its final name is the one that was sent; says how many entries there are.
#[track_caller]
fn assert_nothing_torn(expected: &BTreeMap<PathBuf, Entry>, target: &Path) -> usize {
    // The receiver may still be at it: what was there a moment ago may have another name by now.
    let list = || if target.exists() { tree::list(target).ok() } else { Some(BTreeMap::new()) };
    let found = attempt(LONG, list).expect("a directory that can be read");
    let settled = found.iter().filter(|(path, _)| !is_part(path));
    settled.inspect(|(path, entry)| assert_eq!(expected.get(*path), Some(*entry), "{}", path.display())).count()
}

/// Panics if anything is left of what was under way.
#[track_caller]
fn assert_clean(host: &Host) {
    let left = || {
        let parts = files_below(&inbox(host, "anna")).into_iter().filter(|path| is_part(path));
        parts.chain(files_below(&host.path("data/parts"))).collect::<Vec<_>>()
    };
    let clean = attempt(LONG, || left().is_empty().then_some(()));
    assert!(clean.is_some(), "left behind: {:?}", left());
}

fn is_part(path: &Path) -> bool {
    path.file_name().and_then(|name| name.to_str()).is_some_and(|name| name.starts_with(".kith-"))
}

fn files_below(dir: &Path) -> Vec<PathBuf> {
    let entries = tree::list(dir).unwrap_or_default();
    let files = entries.into_iter().filter(|(_, entry)| matches!(entry, Entry::File { .. }));
    files.map(|(path, _)| dir.join(path)).collect()
}

fn size(path: &Path) -> u64 {
    fs::metadata(path).map(|meta| meta.len()).unwrap_or_default()
}
