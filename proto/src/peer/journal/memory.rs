//! Journals in memory, plain and slow: the oracle for stores, and the ground for tests of the rules and the session.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;

use super::member::{Introduction, Members};
use super::replica::{Kept, Replica, Row, Shelf};
use super::version::{Epoch, Hash, JournalId, Version};
use super::wire::{Cursor, Manifest, Partial};
use crate::hlc::Stamp;
use crate::id::PublicKey;
use crate::limits;
use crate::peer::reconcile::{Element, Set, Sum};

/// A device's journals.
#[derive(Debug, Clone)]
pub struct Memory {
    /// Whose.
    pub device: PublicKey,
    /// The life of the database.
    pub epoch: Epoch,
    /// The greatest stamp seen.
    pub clock: Stamp,
    /// The greatest seq given out.
    pub top: u64,
    /// How often another epoch was begun.
    pub lives: u64,
    /// The journals.
    pub journals: BTreeMap<JournalId, Contents>,
    /// Beginnings of bodies.
    pub pieces: BTreeMap<Hash, Vec<u8>>,
}

/// One journal.
#[derive(Debug, Clone, Default)]
pub struct Contents {
    /// Who takes part; everybody where there are none.
    pub members: Option<Members>,
    /// Current versions with seq, body and origin.
    pub rows: BTreeMap<String, (u64, Version, Vec<u8>, Epoch)>,
    /// Versions that are not current.
    pub kept: Vec<(Kept, Version, Vec<u8>)>,
    /// Up to which stamp deletions are forgotten.
    pub horizon: Stamp,
    /// What is known to have been written.
    pub seen: BTreeMap<Epoch, Stamp>,
    /// How far others' changes were followed.
    pub cursors: BTreeMap<PublicKey, Cursor>,
    /// How far others have followed.
    pub acknowledged: BTreeMap<PublicKey, u64>,
}

impl Memory {
    /// An empty device.
    pub fn new(device: PublicKey, epoch: Epoch) -> Self {
        let (journals, pieces) = (BTreeMap::new(), BTreeMap::new());
        Self { device, epoch, clock: Stamp::ZERO, top: 0, lives: 0, journals, pieces }
    }

    /// One of its journals, made when it is asked for first.
    pub fn journal(&mut self, journal: &JournalId) -> MemoryJournal<'_> {
        self.journals.entry(*journal).or_default();
        MemoryJournal { device: self, journal: *journal }
    }
}

impl Contents {
    /// Elements of all current versions, ascending.
    pub fn elements(&self) -> BTreeSet<Element> {
        self.rows.values().map(|(_, version, ..)| version.element()).collect()
    }
}

/// One journal of a [`Memory`].
pub struct MemoryJournal<'a> {
    device: &'a mut Memory,
    journal: JournalId,
}

impl MemoryJournal<'_> {
    /// What is in it.
    pub fn contents(&mut self) -> &mut Contents {
        self.device.journals.entry(self.journal).or_default()
    }

    fn find(&mut self, element: &Element) -> Option<&(u64, Version, Vec<u8>, Epoch)> {
        self.contents().rows.values().find(|(_, version, ..)| version.element() == *element)
    }
}

fn row((seq, version, body, _): &(u64, Version, Vec<u8>, Epoch)) -> Row {
    let inline = body.len() <= limits::ENTRY_INLINE;
    Row { seq: *seq, version: version.clone(), body: inline.then(|| body.clone()) }
}

impl Set for MemoryJournal<'_> {
    type Error = Infallible;

    fn sum(&mut self, lower: &Element, upper: &Element) -> Result<Sum, Infallible> {
        let mut sum = Sum::default();
        self.contents().elements().range(*lower..*upper).for_each(|element| sum.add(&element.id));
        Ok(sum)
    }

    fn elements(&mut self, lower: &Element, upper: &Element, limit: usize) -> Result<Vec<Element>, Infallible> {
        if lower >= upper {
            return Ok(Vec::new());
        }
        Ok(self.contents().elements().range(*lower..*upper).take(limit).copied().collect())
    }

    fn split(&mut self, lower: &Element, upper: &Element, parts: usize) -> Result<Vec<(Element, Sum)>, Infallible> {
        let all = Vec::from_iter(self.contents().elements().range(*lower..*upper).copied());
        let size = all.len().div_ceil(parts.max(1)).max(1);
        let mut bounds: Vec<Element> = all
            .windows(2)
            .enumerate()
            .filter(|(at, _)| (at + 1) % size == 0)
            .filter_map(|(_, pair)| Some(Element::between(pair.first()?, pair.last()?)))
            .collect();
        bounds.push(*upper);
        let mut from = *lower;
        bounds
            .into_iter()
            .map(|bound| {
                let sum = self.sum(&from, &bound)?;
                from = bound;
                Ok((bound, sum))
            })
            .collect()
    }
}

impl Replica for MemoryJournal<'_> {
    fn epoch(&self) -> Epoch {
        self.device.epoch
    }

    fn clock(&mut self) -> Result<Stamp, Infallible> {
        Ok(self.device.clock)
    }

    fn set_clock(&mut self, stamp: Stamp) -> Result<(), Infallible> {
        self.device.clock = stamp;
        Ok(())
    }

    fn top(&mut self) -> Result<u64, Infallible> {
        Ok(self.device.top)
    }

    fn total(&mut self) -> Result<Sum, Infallible> {
        self.sum(&Element::FIRST, &Element::END)
    }

    fn horizon(&mut self) -> Result<Stamp, Infallible> {
        Ok(self.contents().horizon)
    }

    fn raise_horizon(&mut self, horizon: Stamp) -> Result<(), Infallible> {
        let contents = self.contents();
        contents.horizon = horizon.max(contents.horizon);
        contents.rows.retain(|_, (_, version, ..)| !(version.deleted && version.stamp <= horizon));
        Ok(())
    }

    fn seen(&mut self, epoch: &Epoch) -> Result<Stamp, Infallible> {
        Ok(self.contents().seen.get(epoch).copied().unwrap_or(Stamp::ZERO))
    }

    fn saw(&mut self, epoch: &Epoch, stamp: Stamp) -> Result<(), Infallible> {
        let seen = self.contents().seen.entry(*epoch).or_default();
        *seen = stamp.max(*seen);
        Ok(())
    }

    fn all_seen(&mut self, limit: usize) -> Result<Vec<(Epoch, Stamp)>, Infallible> {
        let mut all: Vec<_> = self.contents().seen.iter().map(|(epoch, stamp)| (*epoch, *stamp)).collect();
        all.sort_by_key(|(_, stamp)| std::cmp::Reverse(*stamp));
        all.truncate(limit);
        Ok(all)
    }

    fn current(&mut self, id: &str) -> Result<Option<Version>, Infallible> {
        Ok(self.contents().rows.get(id).map(|(_, version, ..)| version.clone()))
    }

    fn put(&mut self, version: &Version, body: &[u8], origin: &Epoch) -> Result<u64, Infallible> {
        self.device.top += 1;
        let seq = self.device.top;
        self.contents().rows.insert(version.id.clone(), (seq, version.clone(), body.to_vec(), *origin));
        Ok(seq)
    }

    fn keep(&mut self, place: Kept, version: &Version, body: &[u8], _: u64) -> Result<bool, Infallible> {
        let kept = &mut self.contents().kept;
        let news = !kept.iter().any(|(at, known, _)| *at == place && known.element() == version.element());
        if news {
            kept.push((place, version.clone(), body.to_vec()));
        }
        Ok(news)
    }

    fn keep_current(&mut self, id: &str, now_ms: u64) -> Result<bool, Infallible> {
        let Some((_, version, body, _)) = self.contents().rows.get(id).cloned() else { return Ok(false) };
        self.keep(Kept::History, &version, &body, now_ms)
    }

    fn changes(&mut self, seq: u64, peer: &Epoch, rows: usize, bytes: usize) -> Result<Vec<Row>, Infallible> {
        let mut found: Vec<_> =
            self.contents().rows.values().filter(|(at, .., origin)| *at > seq && origin != peer).collect();
        found.sort_by_key(|(at, ..)| *at);
        let mut size = 0;
        let fits = |it: &&&(u64, Version, Vec<u8>, Epoch)| {
            let first = size == 0;
            size += it.2.len() + 1;
            first || size <= bytes
        };
        Ok(found.iter().take(rows).take_while(fits).map(|it| row(it)).collect())
    }

    fn row(&mut self, element: &Element) -> Result<Option<Row>, Infallible> {
        Ok(self.find(element).map(row))
    }

    fn piece(&mut self, element: &Element, offset: u64, length: usize) -> Result<Option<Vec<u8>>, Infallible> {
        let offset = usize::try_from(offset).unwrap_or(usize::MAX);
        let body = self.find(element).map(|(_, _, body, _)| body.clone());
        Ok(body.map(|body| body.into_iter().skip(offset).take(length).collect()))
    }

    fn partial(&mut self, hash: &Hash) -> Result<u64, Infallible> {
        Ok(self.device.pieces.get(hash).map_or(0, |piece| piece.len() as u64))
    }

    fn add_piece(&mut self, hash: &Hash, offset: u64, piece: &[u8], _: u64) -> Result<(), Infallible> {
        let body = self.device.pieces.entry(*hash).or_default();
        body.truncate(usize::try_from(offset).unwrap_or(usize::MAX));
        body.extend_from_slice(piece);
        Ok(())
    }

    fn take_pieces(&mut self, hash: &Hash) -> Result<Vec<u8>, Infallible> {
        Ok(self.device.pieces.remove(hash).unwrap_or_default())
    }

    fn set_cursor(&mut self, peer: &PublicKey, epoch: &Epoch, seq: u64) -> Result<(), Infallible> {
        self.contents().cursors.insert(*peer, Cursor { epoch: *epoch, since: seq });
        Ok(())
    }

    fn set_acknowledged(&mut self, peer: &PublicKey, seq: u64) -> Result<(), Infallible> {
        self.contents().acknowledged.insert(*peer, seq);
        Ok(())
    }

    fn synced(&mut self, _: &PublicKey, _: u64) -> Result<(), Infallible> {
        Ok(())
    }
}

impl Shelf for Memory {
    type Error = Infallible;
    type Replica<'a> = MemoryJournal<'a>;

    fn device(&self) -> PublicKey {
        self.device
    }

    fn epoch(&self) -> Epoch {
        self.epoch
    }

    fn begin_epoch(&mut self) -> Result<(), Infallible> {
        self.lives += 1;
        // Other bits each time, and the same in each run of a test.
        let text = format!("{}{:?}{}", self.device, self.epoch, self.lives);
        let mut bytes = [0; 16];
        bytes.iter_mut().zip(blake3::hash(text.as_bytes()).as_bytes()).for_each(|(to, from)| *to = *from);
        self.epoch = Epoch(bytes);
        Ok(())
    }

    fn top(&mut self) -> Result<u64, Infallible> {
        Ok(self.top)
    }

    fn manifest(&mut self, peer: &PublicKey) -> Result<Vec<Manifest>, Infallible> {
        let (device, top) = (self.device, self.top);
        let partial = |pieces: &BTreeMap<Hash, Vec<u8>>| -> Vec<Partial> {
            pieces.iter().map(|(hash, piece)| Partial { hash: *hash, have: piece.len() as u64 }).collect()
        };
        let partial = partial(&self.pieces);
        let listed = self.journals.iter().filter(|(_, it)| {
            it.members.as_ref().is_none_or(|members| members.contains(peer) && members.contains(&device))
        });
        Ok(listed
            .map(|(journal, it)| {
                let mut sum = Sum::default();
                it.elements().iter().for_each(|element| sum.add(&element.id));
                Manifest {
                    journal: *journal,
                    members: it.members.as_ref().map_or_else(String::new, Members::digest),
                    top,
                    fingerprint: sum.fingerprint(),
                    count: sum.count,
                    horizon: it.horizon,
                    cursor: it.cursors.get(peer).copied(),
                    partial: partial.clone(),
                }
            })
            .collect())
    }

    fn introduction(&mut self, peer: &PublicKey, journal: &JournalId) -> Result<Option<Introduction>, Infallible> {
        let members = self.journals.get(journal).and_then(|it| it.members.as_ref());
        Ok(members.and_then(|members| members.introduction(peer)))
    }

    fn introduce(&mut self, peer: &PublicKey, introduction: &Introduction, _: u64) -> Result<(), Infallible> {
        let journal = introduction.resource.id();
        let known = self.journals.get(&journal).and_then(|it| it.members.clone());
        let mut members = known.clone().unwrap_or_else(|| Members::new(introduction.resource.clone()));
        members.merge(&introduction.records);
        if known.is_some() || (members.contains(&self.device) && members.contains(peer)) {
            self.journals.entry(journal).or_default().members = Some(members);
        }
        Ok(())
    }

    fn replica<'a>(&'a mut self, journal: &JournalId) -> Result<MemoryJournal<'a>, Infallible> {
        Ok(self.journal(journal))
    }
}
