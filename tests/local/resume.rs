//! kill -9 of either side, again and again: what arrives is whole, nothing is torn, little is sent twice.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use kith_tests::fault::{Relay, Weather};
use kith_tests::host::Host;
use kith_tests::random::Random;
use kith_tests::{PATIENCE, tree, wait};
use serde_json::Value;

use crate::support::{assert_same_file, large, parts, relayed, send_later, slow, text, wait_bytes};

const ROUNDS: u64 = 10;
/// What a kill may cost: the chunk under way, and what lay in the buffers of sockets and of the relay.
const LOST_EACH: u64 = 16 << 20;

/// Anna and Bert, who reach each other through a relay that counts.
struct Pair {
    anna: Host,
    bert: Host,
    into: PathBuf,
    relay: Relay,
}

impl Pair {
    #[track_caller]
    fn new() -> Self {
        let (anna, bert, into, relay) = relayed();
        Self { anna, bert, into, relay }
    }

    fn state(&self, id: &str) -> String {
        let transfer = self.anna.transfer(id);
        transfer.as_ref().and_then(|it| it["state"].as_str()).unwrap_or_default().to_owned()
    }

    fn victim(&mut self, sender: bool) -> &mut Host {
        if sender { &mut self.anna } else { &mut self.bert }
    }

    /// Kills one side `ROUNDS` times while `path` is being sent, each time at a random moment, and has `look` look at
    /// what is there. Where it was done before the last kill, it is sent again after `again`.
    #[track_caller]
    fn torment(&mut self, sender: bool, path: &Path, mut look: impl FnMut(&Path), again: impl Fn(&Path)) -> u64 {
        let mut random = Random::printed(if sender { "kills of the sender" } else { "kills of the receiver" });
        let mut sent = 1;
        let mut id = send_later(&self.anna, path, "bert");
        let mut kills = 0;
        while kills < ROUNDS {
            if self.state(&id) == "done" {
                look(&self.into);
                again(&self.into);
                id = send_later(&self.anna, path, "bert");
                sent += 1;
            }
            wait::until_true("it to move", 2 * PATIENCE, || ["active", "done"].contains(&self.state(&id).as_str()));
            wait::nap(Duration::from_millis(random.within(0..150)));
            self.victim(sender).kill9();
            kills += 1;
            look(&self.into);
            self.victim(sender).start();
        }
        self.anna.wait_transfer(&id, "done");
        self.bert.wait_transfer(&id, "done");
        look(&self.into);
        assert!(parts(&self.into).is_empty(), "{:?}", parts(&self.into));
        assert_eq!(self.anna.transfer(&id).map(|it| it["problem_count"].clone()), Some(Value::from(0)));
        sent
    }
}

/// One large file, `kills` of one side.
#[track_caller]
fn check_file(sender: bool) {
    const SIZE: u64 = 240 << 20;
    let mut pair = Pair::new();
    let film = pair.anna.path("film.bin");
    tree::large(&film, SIZE, 7).expect("there is room");
    let look = |into: &Path| {
        if let Ok(meta) = fs::metadata(into.join("film.bin")) {
            assert_eq!(meta.len(), SIZE, "a torn file at its final name");
            assert_same_file(&film, &into.join("film.bin"));
        }
    };
    let sent = pair.torment(sender, &film, look, |into| drop(fs::remove_file(into.join("film.bin"))));
    assert_same_file(&film, &pair.into.join("film.bin"));
    let wire = pair.relay.to_target();
    let bound = sent * (SIZE + SIZE / 50) + ROUNDS * LOST_EACH;
    assert!(wire <= bound, "{wire} bytes on the wire for {sent} times {SIZE}, at most {bound} are right");
}

#[test]
fn g46_the_sender_is_killed_while_it_sends_a_large_file() {
    check_file(true);
}

#[test]
fn g46_the_receiver_is_killed_while_it_gets_a_large_file() {
    check_file(false);
}

/// A tree of many files, kills of one side.
#[track_caller]
fn check_tree(sender: bool) {
    let mut pair = Pair::new();
    let trip = pair.anna.path("trip");
    tree::many(&trip, 2000, 8000, 9).expect("there is room");
    let expected = tree::list(&trip).expect("it can be read");
    let mut placed: BTreeMap<PathBuf, u64> = BTreeMap::new();
    let look = |into: &Path| {
        let root = into.join("trip");
        // The other side may still be at work: a part that got its name while we looked is looked for again.
        let list = || if root.exists() { tree::list(&root).ok() } else { Some(BTreeMap::new()) };
        let found = wait::until("a look without a gap", PATIENCE, list);
        let mut now = BTreeMap::new();
        for (path, entry) in found {
            let is_part = path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(".kith-"));
            if is_part || entry == tree::Entry::Directory {
                continue;
            }
            assert_eq!(Some(&entry), expected.get(&path), "torn, or not what was sent: {}", path.display());
            let inode = fs::metadata(root.join(&path)).expect("it is there").ino();
            // Once in place it stays: nothing is sent, written or renamed a second time.
            if let Some(before) = placed.get(&path).filter(|_| !placed.is_empty()) {
                assert_eq!(*before, inode, "{} was replaced", path.display());
            }
            now.insert(path, inode);
        }
        assert!(now.len() >= placed.len() || now.is_empty(), "files have gone");
        placed = now;
        if placed.len() == 2000 {
            // Whole: the next run begins with an empty directory.
            placed = BTreeMap::new();
        }
    };
    pair.torment(sender, &trip, look, |into| drop(fs::remove_dir_all(into.join("trip"))));
    tree::assert_same(&trip, &pair.into.join("trip"));
}

#[test]
fn g46_the_sender_is_killed_while_it_sends_many_files() {
    check_tree(true);
}

#[test]
fn g46_the_receiver_is_killed_while_it_gets_many_files() {
    check_tree(false);
}

#[test]
fn a_restart_in_order_goes_on_where_it_was_as_well() {
    let mut pair = Pair::new();
    let film = pair.anna.path("film.bin");
    const SIZE: u64 = 240 << 20;
    tree::large(&film, SIZE, 8).expect("there is room");
    let id = send_later(&pair.anna, &film, "bert");
    for sender in [true, false, true, false] {
        wait::until_true("it to move", 2 * PATIENCE, || ["active", "done"].contains(&pair.state(&id).as_str()));
        wait::nap(Duration::from_millis(30));
        pair.victim(sender).restart();
    }
    pair.anna.wait_transfer(&id, "done");
    assert_same_file(&film, &pair.into.join("film.bin"));
    assert!(pair.relay.to_target() <= SIZE + SIZE / 50 + 4 * LOST_EACH, "{}", pair.relay.to_target());
}

#[test]
fn e41_a_file_that_changed_while_nobody_ran_starts_again() {
    let mut pair = Pair::new();
    let film = large(&pair.anna, "film.bin", 60);
    pair.relay.set(slow());
    let id = send_later(&pair.anna, &film, "bert");
    wait_bytes(&pair.bert, &id, 4 << 20);
    pair.anna.kill9();
    pair.relay.set(Weather::default());
    // Same size, another content: only time and inode tell.
    fs::remove_file(&film).expect("it is ours");
    tree::large(&film, 60 << 20, 10).expect("there is room");
    pair.anna.start();
    pair.anna.wait_transfer(&id, "done");
    assert_same_file(&film, &pair.into.join("film.bin"));
    assert!(text(&film).ends_with("film.bin") && parts(&pair.into).is_empty());
}

#[test]
fn e41_a_part_that_was_touched_or_lost_meanwhile_harms_nothing() {
    for damage in ["lost", "cut", "journal"] {
        let mut pair = Pair::new();
        let film = large(&pair.anna, "film.bin", 60);
        pair.relay.set(slow());
        let id = send_later(&pair.anna, &film, "bert");
        wait_bytes(&pair.bert, &id, 4 << 20);
        pair.bert.kill9();
        pair.relay.set(Weather::default());
        let part = pair.into.join(parts(&pair.into).pop().expect("it was under way"));
        match damage {
            "lost" => fs::remove_file(part).expect("it is there"),
            "cut" => {
                let file = fs::File::options().write(true).open(part).expect("it is there");
                file.set_len((2 << 20) + 77).expect("it can be cut");
            }
            _ => fs::remove_dir_all(pair.bert.path("data/parts")).expect("it is there"),
        }
        pair.bert.start();
        pair.anna.wait_transfer(&id, "done");
        assert_same_file(&film, &pair.into.join("film.bin"));
        assert!(parts(&pair.into).is_empty(), "{damage}");
    }
}
