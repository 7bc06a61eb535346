//! A world of a few devices, and somebody in it who remembers everything: which version was written on top of which, and
//! who ever had it. What is asserted is asserted against that memory, not against what versions say of themselves.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::hlc::Stamp;
use crate::id::PublicKey;
use crate::limits;
use crate::peer::journal::memory::{Contents, Memory};
use crate::peer::journal::replica::{Kept, Replica, Shelf};
use crate::peer::journal::rules::{self, Content, Expected, Written};
use crate::peer::journal::session::{Fault, Note, Session};
use crate::peer::journal::version::{Epoch, JournalId, Version};
use crate::peer::journal::wire::Frame;
use crate::peer::reconcile::Sum;

pub const NOTES: JournalId = JournalId([7; 16]);
pub const DAY: u64 = 86_400_000;
/// 2027: when worlds begin.
pub const BEGIN: u64 = 1_800_000_000_000;

pub type Rank = (Stamp, PublicKey, [u8; 32], [u8; 32]);

/// What a device's clock shows.
#[derive(Debug, Clone, Copy)]
pub enum Clock {
    /// The time and so many milliseconds.
    Skewed(i64),
    /// Milliseconds since 1970, as far as the world has come: no battery.
    Reset,
}

/// Something that happens on one device.
#[derive(Debug, Clone)]
pub enum Act {
    Put {
        id: u8,
        text: u8,
        expected: u8,
    },
    Large {
        id: u8,
        kib: u16,
    },
    Delete {
        id: u8,
    },
    /// Forgets the deletions that everybody knows.
    Collect,
    Clock(Clock),
    /// A session with a third device, while another one is under way.
    Meet {
        with: u8,
        turns: u64,
    },
}

/// Something that happens.
#[derive(Debug, Clone)]
pub enum Op {
    At(u8, Act),
    Sync(Meeting),
    Pass {
        ms: u64,
    },
    Backup {
        device: u8,
    },
    /// The last backup is the database now; `noticed` or not.
    Restore {
        device: u8,
        noticed: bool,
    },
}

/// A session, and what happens meanwhile.
#[derive(Debug, Clone)]
pub struct Meeting {
    pub pair: (u8, u8),
    /// Both ends are gone after so many frames have arrived; what is under way is lost.
    pub cut: Option<u8>,
    /// Who moves next.
    pub turns: u64,
    /// Before so many frames have arrived, on which side.
    pub during: Vec<(u8, bool, Act)>,
}

/// What came of a session.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Ran {
    pub bytes: usize,
    /// Versions that either side took.
    pub rows: u64,
    pub whole: bool,
}

/// A version, as the one who remembers everything knows it.
#[derive(Debug, Clone)]
pub struct Known {
    pub version: Version,
    /// All that it was written on top of, down to the first.
    pub before: BTreeSet<usize>,
}

/// A database, and what it has been through.
#[derive(Debug, Clone)]
pub struct Disk {
    pub memory: Memory,
    /// Versions that were current here.
    pub had: BTreeSet<usize>,
    /// Versions of which a deletion knew that was current here.
    pub dead: BTreeSet<usize>,
    /// The greatest versions that arrived here, by entry.
    pub met: BTreeMap<String, Rank>,
}

#[derive(Debug, Clone)]
pub struct Device {
    pub disk: Disk,
    pub clock: Clock,
    pub backup: Option<Box<Disk>>,
}

#[derive(Debug, Clone)]
pub struct World {
    pub devices: Vec<Device>,
    pub now: u64,
    pub truth: Vec<Known>,
    index: BTreeMap<[u8; 32], usize>,
    lives: u64,
    /// When a pair last came to an end with each other.
    last: BTreeMap<(usize, usize), u64>,
    pub rolled_back: bool,
    pub conflicts: Vec<(Version, Version)>,
}

impl World {
    pub fn new(clocks: &[Clock]) -> Self {
        let device = |(number, clock): (usize, &Clock)| {
            let number = number as u8 + 1;
            let mut memory = Memory::new(PublicKey([number; 32]), Epoch([number; 16]));
            memory.journal(&NOTES);
            let disk = Disk { memory, had: BTreeSet::new(), dead: BTreeSet::new(), met: BTreeMap::new() };
            Device { disk, clock: *clock, backup: None }
        };
        Self {
            devices: clocks.iter().enumerate().map(device).collect(),
            now: BEGIN,
            truth: Vec::new(),
            index: BTreeMap::new(),
            lives: 0,
            last: BTreeMap::new(),
            rolled_back: false,
            conflicts: Vec::new(),
        }
    }

    pub fn clock(&self, at: usize) -> u64 {
        match self.devices[at].clock {
            Clock::Skewed(ms) => self.now.saturating_add_signed(ms),
            Clock::Reset => self.now - BEGIN,
        }
    }

    fn which(&self, device: u8) -> usize {
        usize::from(device) % self.devices.len()
    }

    pub fn run(&mut self, op: &Op) {
        self.now += 1;
        match op {
            Op::At(device, act) => self.act(self.which(*device), act),
            Op::Sync(meeting) => {
                self.meet(meeting);
            }
            Op::Pass { ms } => self.now += ms,
            Op::Backup { device } => {
                let device = self.which(*device);
                self.devices[device].backup = Some(Box::new(self.devices[device].disk.clone()));
            }
            Op::Restore { device, noticed } => self.restore(self.which(*device), *noticed),
        }
    }

    pub fn act(&mut self, at: usize, act: &Act) {
        match act {
            Act::Put { id, text, expected } => {
                let id = format!("id{id}");
                let expected = match expected {
                    0 => Expected::Nothing,
                    // Another one than any that is there.
                    1 => Expected::Hash([1; 32]),
                    2 => {
                        let row = self.devices[at].disk.memory.journals[&NOTES].rows.get(&id);
                        row.map_or(Expected::Nothing, |(_, version, ..)| Expected::Hash(version.hash))
                    }
                    _ => Expected::Anything,
                };
                let meta = if text % 2 == 0 { "" } else { r#"{"pinned":true}"# };
                let body = [b't', *text];
                self.write(at, &id, Content { deleted: false, meta, body: &body }, expected);
            }
            Act::Large { id, kib } => {
                let body = vec![*id; usize::from(*kib) << 10];
                let content = Content { deleted: false, meta: "", body: &body };
                self.write(at, &format!("id{id}"), content, Expected::Anything);
            }
            Act::Delete { id } => {
                let content = Content { deleted: true, meta: "", body: b"" };
                self.write(at, &format!("id{id}"), content, Expected::Anything);
            }
            Act::Collect => self.collect(at),
            Act::Meet { with, turns } => {
                let pair = (at as u8, *with);
                self.meet(&Meeting { pair, cut: None, turns: *turns, during: Vec::new() });
            }
            Act::Clock(clock) => self.devices[at].clock = *clock,
        }
    }

    /// A write of the user's; what it replaced is what it knew.
    pub fn write(&mut self, at: usize, id: &str, content: Content<'_>, expected: Expected) -> bool {
        let now_ms = self.clock(at);
        let disk = &mut self.devices[at].disk;
        let key = disk.memory.device;
        let old = disk.memory.journal(&NOTES).current(id).unwrap();
        let written = rules::write(&mut disk.memory.journal(&NOTES), key, id, content, expected, now_ms).unwrap();
        let live = old.as_ref().filter(|old| !old.deleted);
        match &written {
            Written::Current(seq, version) => {
                assert_eq!(*seq, disk.memory.top);
                let met = disk.met.get(id).copied();
                assert!(met.is_none_or(|met| version.rank() > met), "what is written later wins: {version:?}");
                let before = old.map(|old| self.index[&old.element().id]);
                self.learn(at, (**version).clone(), before);
                return true;
            }
            Written::Unchanged(same) => assert_eq!(Some(&**same), live),
            Written::Mismatch(there) => {
                assert_eq!(there.as_deref(), live);
                assert_ne!(expected, Expected::Anything);
            }
            Written::Missing => assert!(content.deleted && live.is_none()),
        }
        false
    }

    /// Remembers a version that `at` wrote on top of `before`.
    fn learn(&mut self, at: usize, version: Version, before: impl IntoIterator<Item = usize>) {
        let mut all = BTreeSet::new();
        for direct in before {
            all.insert(direct);
            all.extend(&self.truth[direct].before);
        }
        let number = *self.index.entry(version.element().id).or_insert(self.truth.len());
        assert!(number == self.truth.len() || self.rolled_back, "no version is written twice");
        let disk = &mut self.devices[at].disk;
        disk.had.insert(number);
        if version.deleted {
            disk.dead.extend(&all);
        }
        if number == self.truth.len() {
            self.truth.push(Known { version, before: all });
        }
    }

    /// What a device has now that it had not at `top`.
    fn observe(&mut self, at: usize, top: u64) {
        let memory = &self.devices[at].disk.memory;
        if memory.top == top {
            return;
        }
        let journal = &memory.journals[&NOTES];
        let news: Vec<Version> =
            journal.rows.values().filter(|(seq, ..)| *seq > top).map(|(_, version, ..)| version.clone()).collect();
        for version in news {
            let disk = &self.devices[at].disk;
            let Some(&number) = self.index.get(&version.element().id) else {
                // The machine itself writes anew where something came back: on top of that, or of an old deletion.
                assert!(version.epoch == disk.memory.epoch, "nobody wrote {version:?}");
                let kept = disk.memory.journals[&NOTES].kept.iter().rev();
                let back = kept.filter(|(place, it, _)| *place == Kept::Recovered && it.id == version.id).take(1);
                let back: Vec<usize> = back.map(|(_, it, _)| self.index[&it.element().id]).collect();
                let direct = |it: &Version| version.context.pairs().contains(&(it.epoch, it.stamp));
                let known = self.truth.iter().enumerate();
                let known = known.filter(|(_, it)| it.version.id == version.id && direct(&it.version));
                let before = back.into_iter().chain(known.map(|(number, _)| number)).collect::<Vec<_>>();
                self.learn(at, version, before);
                continue;
            };
            let (truth, disk) = (&self.truth[number], &mut self.devices[at].disk);
            assert_eq!(truth.version, version, "a version is what was written");
            disk.had.insert(number);
            if version.deleted {
                disk.dead.extend(&truth.before);
            } else {
                assert!(!disk.dead.contains(&number), "what was deleted came back: {version:?}");
            }
        }
    }

    /// As the daemon does it: what is 30 days old and acknowledged by everybody who was here within 180 days.
    fn collect(&mut self, at: usize) {
        let now_ms = self.clock(at);
        let present = |world: &Self, other: usize| {
            let last = world.last.get(&(at.min(other), at.max(other))).copied().unwrap_or(BEGIN);
            other != at && world.now - last < 180 * DAY
        };
        let others: Vec<PublicKey> = (0..self.devices.len())
            .filter(|other| present(self, *other))
            .map(|other| self.devices[other].disk.memory.device)
            .collect();
        let journal = &self.devices[at].disk.memory.journals[&NOTES];
        let upto = others.iter().map(|key| journal.acknowledged.get(key).copied().unwrap_or(0)).min();
        let mut deletions: Vec<(Stamp, u64)> = journal
            .rows
            .values()
            .filter(|(_, version, ..)| version.deleted)
            .map(|(seq, version, ..)| (version.stamp, *seq))
            .collect();
        deletions.sort_unstable();
        let old = |(stamp, seq): &&(Stamp, u64)| {
            upto.is_none_or(|upto| *seq <= upto) && stamp.ms().saturating_add(30 * DAY) <= now_ms
        };
        let horizon = deletions.iter().take_while(old).last().map(|(stamp, _)| *stamp);
        if let Some(horizon) = horizon {
            self.devices[at].disk.memory.journal(&NOTES).raise_horizon(horizon).unwrap();
        }
    }

    fn restore(&mut self, at: usize, noticed: bool) {
        let Some(backup) = self.devices[at].backup.clone() else { return };
        self.rolled_back = true;
        self.devices[at].disk = *backup;
        // Random bits do not repeat because a database does.
        self.lives += 1;
        let memory = &mut self.devices[at].disk.memory;
        memory.lives = self.lives * 1_000;
        if noticed {
            memory.begin_epoch().unwrap();
        }
    }

    /// A session without anything that goes wrong.
    pub fn sync(&mut self, a: usize, b: usize) -> Ran {
        let pair = (a as u8, b as u8);
        self.meet(&Meeting { pair, cut: None, turns: 0x5a5a_1234_9876_0f0f, during: Vec::new() })
    }

    pub fn meet(&mut self, meeting: &Meeting) -> Ran {
        let (a, b) = (self.which(meeting.pair.0), self.which(meeting.pair.1));
        if a == b {
            return Ran::default();
        }
        let sides = [a, b];
        let keys = sides.map(|at| self.devices[at].disk.memory.device);
        let mut ends = [Session::new(keys[0], keys[1], true), Session::new(keys[1], keys[0], false)];
        for side in 0..2 {
            let now_ms = self.clock(sides[side]);
            ends[side].begin(&mut self.devices[sides[side]].disk.memory, now_ms).unwrap();
        }
        let mut coming: [VecDeque<Vec<u8>>; 2] = Default::default();
        let (mut arrived, mut ran, mut turns) = (0_u8, Ran::default(), meeting.turns);
        let mut during = meeting.during.clone();
        for step in 0.. {
            assert!(step < 5_000, "a session without an end: {ends:?}");
            while let Some(due) = during.iter().position(|(before, ..)| *before <= arrived) {
                let (_, side, act) = during.swap_remove(due);
                self.now += 1;
                if matches!(act, Act::Meet { with, .. } if sides.contains(&self.which(with))) {
                    continue;
                }
                self.act(sides[usize::from(side)], &act);
            }
            if meeting.cut.is_some_and(|cut| cut <= arrived) {
                break;
            }
            let sends = [0, 1].map(|side: usize| ends[side].is_ready());
            let takes = [0, 1].map(|side: usize| !coming[side].is_empty());
            let moves: Vec<(usize, bool)> = (0..4)
                .map(|n| (n % 2, n < 2))
                .filter(|(side, send)| if *send { sends } else { takes }[*side])
                .collect();
            if moves.is_empty() {
                ran.whole = ends.iter().all(Session::is_over);
                assert!(ran.whole, "stuck: {ends:?}");
                break;
            }
            let (side, send) = moves[turns as usize % moves.len()];
            turns = turns.rotate_right(5).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            let (at, now_ms) = (sides[side], self.clock(sides[side]));
            let top = self.devices[at].disk.memory.top;
            if send {
                if let Some(frame) = ends[side].transmit(&mut self.devices[at].disk.memory, now_ms).unwrap() {
                    assert!(frame.len() <= limits::FRAME_SYNC);
                    ran.bytes += frame.len();
                    coming[1 - side].push_back(frame);
                }
            } else if let Some(frame) = coming[side].pop_front() {
                arrived = arrived.saturating_add(1);
                match ends[side].receive(&frame, &mut self.devices[at].disk.memory, now_ms) {
                    Ok(()) => {}
                    Err(Fault::RolledBack) => break,
                    Err(fault) => panic!("honest devices do not fail each other: {fault:?} {ends:?}"),
                }
                if !ends[side].report().rolled_back {
                    self.meet_rows(at, &frame);
                }
            }
            self.observe(at, top);
        }
        for (side, end) in ends.iter_mut().enumerate() {
            let report = end.report();
            assert_eq!((report.refused, &report.rolled_back), (0, &report.rolled_back), "nothing to refuse");
            ran.rows += report.received + u64::from(report.rolled_back);
            ran.whole &= !report.rolled_back;
            let notes = std::mem::take(&mut report.notes);
            let conflicts = notes.into_iter().filter_map(|note| match note {
                Note::Conflict { winner, loser, .. } => Some((*winner, *loser)),
                Note::Recovered { .. } => None,
            });
            for (winner, loser) in conflicts {
                self.check_conflict(&winner, &loser);
                let there = &self.devices[sides[side]].disk.memory.journals[&NOTES].kept;
                assert!(there.iter().any(|(_, kept, _)| *kept == loser), "the loser is kept");
                self.conflicts.push((winner, loser));
            }
        }
        if ran.whole {
            self.last.insert((a.min(b), a.max(b)), self.now);
        }
        ran
    }

    /// What arrived has been seen, whatever became of it.
    fn meet_rows(&mut self, at: usize, frame: &[u8]) {
        if frame.first() != Some(&crate::peer::journal::wire::ENTRIES) {
            return;
        }
        let Ok(Frame::Entries(rows)) = Frame::decode(frame) else { return };
        for row in rows.into_iter().filter(|row| row.body.is_some()) {
            let rank = row.version.rank();
            let met = self.devices[at].disk.met.entry(row.version.id).or_insert(rank);
            *met = rank.max(*met);
        }
    }

    /// Only what did not know each other is a conflict.
    fn check_conflict(&self, winner: &Version, loser: &Version) {
        let [first, second] = [winner, loser].map(|version| self.index[&version.element().id]);
        assert!(winner.rank() > loser.rank() && winner.hash != loser.hash);
        let related = self.truth[first].before.contains(&second) || self.truth[second].before.contains(&first);
        assert!(!related, "no conflict: {winner:?} was written on top of {loser:?}");
    }

    /// Syncs all with all until nothing moves; says how often it took.
    pub fn converge(&mut self) -> usize {
        let count = self.devices.len();
        for round in 1..=10 {
            let mut moved = 0;
            for (a, b) in (0..count).flat_map(|a| (0..a).map(move |b| (a, b))) {
                self.now += 60_000;
                let ran = self.sync(a, b);
                moved += ran.rows + u64::from(!ran.whole);
            }
            if moved == 0 && self.is_same() {
                return round;
            }
        }
        panic!("not the same after ten rounds: {:#?}", self.devices);
    }

    pub fn is_same(&self) -> bool {
        let contents = |device: &Device| {
            let journal = &device.disk.memory.journals[&NOTES];
            let rows = journal.rows.values().map(|(_, version, body, _)| (version.clone(), body.clone()));
            (journal.horizon, rows.collect::<Vec<_>>())
        };
        let first = contents(&self.devices[0]);
        self.devices.iter().all(|device| contents(device) == first)
    }

    /// Numbers of the live versions that are current anywhere.
    pub fn current(&self) -> BTreeSet<usize> {
        let rows = self.devices.iter().flat_map(|device| device.disk.memory.journals[&NOTES].rows.values());
        let live = rows.filter(|(_, version, ..)| !version.deleted);
        live.map(|(_, version, ..)| self.index[&version.element().id]).collect()
    }

    /// Every version that is on some device, current or kept.
    pub fn versions(&self) -> Vec<(Version, Vec<u8>)> {
        let journals = self.devices.iter().map(|device| &device.disk.memory.journals[&NOTES]);
        let of = |it: &Contents| {
            let kept = it.kept.iter().map(|(_, version, body)| (version.clone(), body.clone()));
            let rows = it.rows.values().map(|(_, version, body, _)| (version.clone(), body.clone()));
            kept.chain(rows).collect::<Vec<_>>()
        };
        journals.flat_map(of).collect()
    }

    pub fn sum(&mut self, at: usize) -> Sum {
        self.devices[at].disk.memory.journal(&NOTES).total().unwrap()
    }

    /// Equal fingerprints, equal states.
    pub fn check_fingerprints(&mut self) {
        let sums: Vec<_> = (0..self.devices.len()).map(|at| self.sum(at).fingerprint()).collect();
        let versions = |at: usize| {
            let rows = &self.devices[at].disk.memory.journals[&NOTES].rows;
            rows.iter().map(|(id, (_, version, body, _))| (id, version, body)).collect::<Vec<_>>()
        };
        for (a, b) in (0..sums.len()).flat_map(|a| (0..a).map(move |b| (a, b))) {
            assert_eq!(sums[a] == sums[b], versions(a) == versions(b), "equal fingerprints, equal states");
        }
    }

    /// Nothing that was written is gone, unless a rollback took it before anybody else had it.
    pub fn check_nothing_is_lost(&self) {
        let somewhere = |number: usize| self.devices.iter().any(|device| device.disk.had.contains(&number));
        let elements = self.devices.iter().flat_map(|device| {
            let journal = &device.disk.memory.journals[&NOTES];
            let kept = journal.kept.iter().map(|(_, version, _)| version.element().id);
            journal.rows.values().map(|(_, version, ..)| version.element().id).chain(kept)
        });
        let there: BTreeSet<usize> = elements.map(|element| self.index[&element]).collect();
        for (number, known) in self.truth.iter().enumerate() {
            // A deletion has no content to lose, and is forgotten in the end.
            if there.contains(&number) || known.version.deleted || !somewhere(number) {
                continue;
            }
            let mut later = self.truth.iter().enumerate().filter(|(other, _)| somewhere(*other));
            let replaced = later.any(|(_, other)| {
                // After a rollback, what a device wrote under one epoch may be more than one story: versions go by
                // what they say that they knew.
                let said = || other.version.id == known.version.id && other.version.knows(&known.version);
                // Two hands wrote the same: one of them is enough.
                let same = || {
                    let (one, other) = (&known.version, &other.version);
                    one.id == other.id && one.hash == other.hash && other.rank() > one.rank()
                };
                other.before.contains(&number) || same() || (self.rolled_back && said())
            });
            assert!(replaced, "lost: {:?}", known.version);
        }
    }

    /// Whatever a deletion knew of stays deleted, unless a rollback took the deletion before anybody else had it.
    pub fn check_nothing_came_back(&self) {
        let somewhere = |number: usize| self.devices.iter().any(|device| device.disk.had.contains(&number));
        let deletions = self.truth.iter().enumerate().filter(|(at, it)| it.version.deleted && somewhere(*at));
        let dead: BTreeSet<usize> = deletions.flat_map(|(_, it)| it.before.iter().copied()).collect();
        for device in &self.devices {
            for (_, version, ..) in device.disk.memory.journals[&NOTES].rows.values() {
                let number = self.index[&version.element().id];
                assert!(version.deleted || !dead.contains(&number), "came back: {version:?}");
            }
        }
    }
}
