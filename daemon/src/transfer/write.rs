//! The receiver's blocking half: frames into files. Nothing gets its final name before it is whole, verified and on the
//! disk; small files share the wait for the disk in groups.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::Path;
use std::time::{Duration, Instant};

use kith_proto::control::types::{Conflict, Problem};
use kith_proto::limits::{self, CHUNK};
use kith_proto::path::WirePath;
use kith_proto::peer::offer::{DATA, FileDigest, Item, Kind, Message, Settled, chunk_digest, split_data};
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, mpsc};

use super::book::{self, OutEntry, Record};
use super::parts::{Journal, Journals};
use crate::files::{self, EarlySync, Part, Placed, Tree};
use crate::platform;
use crate::store::{self, Store};

/// Files that are made durable together, unless that would hold too many of them open.
const GROUP: usize = 1024;
/// Bytes after which a group is made durable.
const GROUP_BYTES: u64 = 32 << 20;
/// A pause in the stream that ends a group.
const LULL: Duration = Duration::from_millis(20);
/// The longest that a whole file waits for its name while others keep coming.
const GROUP_AGE: Duration = Duration::from_secs(1);
/// Moved bytes are told in steps of this many.
const TELL_EVERY: u64 = 1 << 20;
/// How far a large file is, is told this often.
const ACK_EVERY: Duration = Duration::from_secs(1);

/// What the connection learns from the writer.
pub enum Report {
    /// So much of a file is written.
    Ack {
        /// Its place in the manifest.
        index: u64,
        /// Bytes from its start.
        offset: u64,
    },
    /// Bytes moved.
    Bytes(u64),
    /// Entries are settled.
    Results {
        /// For the sender.
        items: Vec<Settled>,
        /// For the view.
        problems: Vec<Problem>,
        /// Top-level names as they were placed.
        placed: Vec<String>,
    },
    /// Everything is settled.
    Done,
    /// It cannot go on now: a word for the sender.
    Pause(&'static str),
    /// The sender did not keep to the protocol.
    Protocol(&'static str),
    /// The database failed.
    Broken(store::Error),
}

/// A frame on its way to the disk, with its share of the memory for such frames.
pub struct Frame {
    /// What arrived.
    pub payload: Vec<u8>,
    /// Given back when it is dealt with.
    pub share: OwnedSemaphorePermit,
}

/// What the writer works with.
pub struct Writer {
    /// Where files go.
    pub tree: Tree,
    /// How far large files are.
    pub journals: Journals,
    /// The transfer.
    pub record: Record,
    /// Where results are written down.
    pub store: Store,
    /// The digests up to where parts go.
    pub states: HashMap<u64, FileDigest>,
    /// Files that exist with these digests.
    pub same: HashMap<u64, [u8; 32]>,
    /// Bytes that may still come from this sender, where that is bounded.
    pub quota: Option<u64>,
    /// The largest file that is taken.
    pub max_file: u64,
}

/// Why the work ends early.
enum Stop {
    Gone,
    Report(Report),
}

impl From<store::Error> for Stop {
    fn from(error: store::Error) -> Self {
        Self::Report(Report::Broken(error))
    }
}

struct Current {
    item: Item,
    /// Absent when the file is not wanted any more: what comes of it is dropped.
    part: Option<Part>,
    journal: Option<Journal>,
    digest: FileDigest,
    offset: u64,
    acked: Instant,
    sync: EarlySync,
}

impl Current {
    fn new(item: Item, part: Option<Part>, journal: Option<Journal>, digest: FileDigest, offset: u64) -> Self {
        let sync = EarlySync::from(offset);
        Self { item, part, journal, digest, offset, acked: Instant::now(), sync }
    }
}

struct Whole {
    item: Item,
    part: Part,
}

struct Work {
    writer: Writer,
    runtime: Handle,
    reports: mpsc::Sender<Report>,
    entries: BTreeMap<u64, Item>,
    current: Option<Current>,
    group: Vec<Whole>,
    group_bytes: u64,
    group_max: usize,
    /// When the last group was made durable.
    committed: Instant,
    /// Bytes that moved and were not told yet.
    untold: u64,
    /// Settled without a file: told with the next group.
    settled: Vec<(u64, String, &'static str)>,
    made: Vec<WirePath>,
    /// The directory that was made sure of last.
    parent: Option<WirePath>,
    /// Names that this transfer placed, so that twins never replace each other.
    placed: HashSet<String>,
}

/// Takes frames until everything is settled or the connection is gone. Blocks.
pub fn run(writer: Writer, runtime: &Handle, mut frames: mpsc::Receiver<Frame>, reports: mpsc::Sender<Report>) {
    let limit = usize::try_from(platform::file_limit() / 8).unwrap_or(GROUP);
    let mut work = Work {
        writer,
        runtime: runtime.clone(),
        reports: reports.clone(),
        entries: BTreeMap::new(),
        current: None,
        group: Vec::new(),
        group_bytes: 0,
        untold: 0,
        committed: Instant::now(),
        group_max: limit.clamp(1, GROUP),
        settled: Vec::new(),
        made: Vec::new(),
        parent: None,
        placed: HashSet::new(),
    };
    if let Err(Stop::Report(report)) = work.frames(&mut frames) {
        let _ = reports.blocking_send(report);
    }
}

/// Removes the parts of open entries. Blocks.
pub fn remove_parts(dir: &Path, journals: &Journals, entries: &[OutEntry]) {
    let Ok(tree) = Tree::open(dir) else { return };
    for entry in entries.iter().filter(|entry| entry.item.kind == Kind::File) {
        let _ = tree.remove_part(&entry.item.path, &journals.tag(entry.item.index));
    }
}

impl Work {
    fn frames(&mut self, frames: &mut mpsc::Receiver<Frame>) -> Result<(), Stop> {
        loop {
            let next = if self.group.is_empty() && self.settled.is_empty() {
                frames.blocking_recv()
            } else {
                match self.runtime.block_on(tokio::time::timeout(LULL, frames.recv())) {
                    Ok(next) => next,
                    Err(_) => {
                        self.commit()?;
                        continue;
                    }
                }
            };
            if self.committed.elapsed() >= GROUP_AGE {
                self.commit()?;
            }
            // Its share of the memory is given back when the frame is dealt with.
            let Some(Frame { payload: frame, share: _share }) = next else {
                // The connection is gone; what is whole is kept.
                return self.commit();
            };
            if frame.first() == Some(&DATA) {
                self.data(&frame)?;
                continue;
            }
            match serde_json::from_slice(&frame) {
                Ok(Message::File { index, offset }) => self.begin(index, offset)?,
                Ok(Message::End { digest, size }) => self.end(&digest, size)?,
                Ok(Message::Restart { index, size, mtime_ns }) => self.restart(index, size, mtime_ns)?,
                Ok(Message::Unreadable { index, reason }) => self.unreadable(index, &reason)?,
                Ok(Message::Done) => {
                    self.current = None;
                    self.commit()?;
                    self.give_up_rest()?;
                    self.set_dir_times()?;
                    self.writer.journals.remove_all();
                    return self.report(Report::Done);
                }
                _ => return Err(protocol("an unexpected message among the files")),
            }
        }
    }

    fn begin(&mut self, index: u64, offset: u64) -> Result<(), Stop> {
        self.current = None;
        let item = self.entry(index)?;
        // A stream that was accepted before its length was known may come again with one.
        if item.size.is_some_and(|size| size > self.writer.max_file) {
            return Err(Stop::Report(Report::Pause("too_large")));
        }
        if item.size.is_some_and(|size| offset == size && size > 0)
            && let Some(same) = self.writer.same.get(&index)
        {
            let digest = FileDigest::resume(*same);
            self.current = Some(Current::new(item, None, None, digest, offset));
            return Ok(());
        }
        let digest = match self.writer.states.remove(&index) {
            _ if offset == 0 => FileDigest::default(),
            Some(state) if Some(offset) == self.resumable(&item, offset) => state,
            _ => return Err(protocol("a file goes on where it did not stop")),
        };
        let opened = self.open(&item, offset);
        let (part, journal) = match opened {
            Ok((part, journal)) => (Some(part), journal),
            Err(error) => {
                self.problem(&item, &error)?;
                (None, None)
            }
        };
        self.current = Some(Current::new(item, part, journal, digest, offset));
        Ok(())
    }

    /// A part goes on behind its last noted chunk and nowhere else.
    fn resumable(&self, item: &Item, offset: u64) -> Option<u64> {
        let part = self.writer.tree.find_part(&item.path, &self.writer.journals.tag(item.index)).ok()??;
        let (chunks, _) = self.writer.journals.look(item.index, &part).ok()??;
        (chunks * CHUNK as u64 >= offset && offset.is_multiple_of(CHUNK as u64)).then_some(offset)
    }

    fn open(&mut self, item: &Item, offset: u64) -> files::Result<(Part, Option<Journal>)> {
        let parent = item.path.parent();
        if let Some(dir) = &parent
            && self.parent != parent
        {
            self.made.extend(self.writer.tree.make_dirs(dir)?);
            self.parent.clone_from(&parent);
        }
        let journals = &self.writer.journals;
        let part = self.writer.tree.part(&item.path, &journals.tag(item.index), offset == 0)?;
        let large = item.size.is_none_or(|size| size > CHUNK as u64);
        let journal = match (large, offset) {
            (false, _) => None,
            (true, 0) => Some(journals.begin(item.index)),
            (true, offset) => Some(journals.resume(item.index, offset / CHUNK as u64)),
        };
        let journal = journal.transpose().map_err(|error| files::Error::from_io("journal", error))?;
        if let (0, Some(size)) = (offset, item.size.filter(|_| large)) {
            part.reserve(size)?;
        }
        Ok((part, journal))
    }

    fn data(&mut self, frame: &[u8]) -> Result<(), Stop> {
        let (digest, content) = split_data(frame).map_err(|_| protocol("a malformed chunk"))?;
        if chunk_digest(content) != *digest {
            return Err(protocol("a chunk arrived damaged"));
        }
        let length = content.len() as u64;
        let Some(current) = &mut self.current else { return Err(protocol("content without a file")) };
        let end = current.offset + length;
        if current.item.size.is_none() && end > self.writer.max_file {
            return Err(Stop::Report(Report::Pause("too_large")));
        }
        if !current.offset.is_multiple_of(CHUNK as u64) || current.item.size.is_some_and(|size| end > size) {
            return Err(protocol("more content than the file has"));
        }
        if let Some(quota) = &mut self.writer.quota {
            match quota.checked_sub(length) {
                Some(left) => *quota = left,
                None => return Err(Stop::Report(Report::Pause("quota"))),
            }
        }
        current.digest.chunk(digest);
        if let Some(part) = &current.part {
            let written = part.write_at(content, current.offset).and_then(|()| match &mut current.journal {
                Some(journal) if content.len() == CHUNK => {
                    journal.chunk(digest).map_err(|error| files::Error::from_io("journal", error))
                }
                _ => Ok(()),
            });
            let synced = current.sync.step(&self.runtime, part.file(), end);
            let synced = synced.map_err(|error| files::Error::from_io(part.path().as_str(), error));
            if let Err(error) = written.and(synced) {
                let item = current.item.clone();
                current.part = None;
                self.problem(&item, &error)?;
            }
        }
        let Some(current) = &mut self.current else { return Ok(()) };
        current.offset = end;
        let (index, offset) = (current.item.index, end);
        let due = current.acked.elapsed() >= ACK_EVERY;
        if due {
            current.acked = Instant::now();
        }
        self.moved(length, TELL_EVERY)?;
        if due { self.report(Report::Ack { index, offset }) } else { Ok(()) }
    }

    fn end(&mut self, digest: &[u8; 32], size: u64) -> Result<(), Stop> {
        let Some(current) = self.current.take() else { return Err(protocol("the end of no file")) };
        let Current { item, part, digest: ours, offset, mut sync, .. } = current;
        if offset != size || item.size.is_some_and(|declared| declared != size) {
            return Err(protocol("a file ends where it does not end"));
        }
        let same = self.writer.same.get(&item.index).is_some_and(|same| same == digest);
        let Some(part) = part else {
            if same && ours.value() == *digest {
                self.settled.push((item.index, item.path.as_str().to_owned(), ""));
                self.entries.remove(&item.index);
                self.moved(size, TELL_EVERY)?;
            }
            return Ok(());
        };
        if let Err(error) = sync.finish(&self.runtime) {
            return self.problem(&item, &files::Error::from_io(item.path.as_str(), error));
        }
        if ours.value() != *digest {
            let _ = part.discard();
            return self.give_up(&item, "integrity");
        }
        if let Err(error) = part.finish(item.mtime_ns, item.executable()) {
            return self.problem(&item, &error);
        }
        self.entries.remove(&item.index);
        self.group.push(Whole { item, part });
        self.group_bytes += size;
        if self.group.len() >= self.group_max || self.group_bytes >= GROUP_BYTES { self.commit() } else { Ok(()) }
    }

    fn restart(&mut self, index: u64, size: u64, mtime_ns: i64) -> Result<(), Stop> {
        self.current = None;
        if size > self.writer.max_file {
            return Err(Stop::Report(Report::Pause("too_large")));
        }
        let mut item = self.entry(index)?;
        (item.size, item.mtime_ns) = (Some(size), mtime_ns);
        self.entries.insert(index, item);
        self.writer.same.remove(&index);
        let number = self.writer.record.number;
        let note = self.writer.store.write(move |tx| book::changed(tx, number, index, size, mtime_ns));
        Ok(self.runtime.block_on(note)?)
    }

    fn unreadable(&mut self, index: u64, reason: &str) -> Result<(), Stop> {
        self.current = None;
        let item = self.entry(index)?;
        let tag = self.writer.journals.tag(index);
        let _ = self.writer.tree.remove_part(&item.path, &tag);
        self.writer.journals.remove(index);
        // The sender chose the word; only those that mean something here are kept.
        let reason = ["changed", "denied", "not_found", "too_large"].into_iter().find(|known| *known == reason);
        self.give_up(&item, reason.unwrap_or("unreadable"))
    }

    /// An entry that the sender speaks of. Only open ones may be.
    fn entry(&mut self, index: u64) -> Result<Item, Stop> {
        if let Some(item) = self.entries.get(&index) {
            return Ok(item.clone());
        }
        let number = self.writer.record.number;
        let page = self.runtime.block_on(self.writer.store.read(move |c| book::page(c, number, index, true)))?;
        let pending: HashSet<u64> = self.group.iter().map(|whole| whole.item.index).collect();
        // The sender goes through the manifest in order: what lies before is not needed any more.
        self.entries =
            page.into_iter().map(|it| (it.item.index, it.item)).filter(|(at, _)| !pending.contains(at)).collect();
        let item = self.entries.get(&index).filter(|item| item.kind == Kind::File);
        item.cloned().ok_or_else(|| protocol("a file that is not wanted"))
    }

    /// An entry that cannot be written. A full disk stops everything; what is there is kept for later.
    fn problem(&mut self, item: &Item, error: &files::Error) -> Result<(), Stop> {
        tracing::debug!(%error, "cannot write a received file");
        match error.reason() {
            "no_space" | "quota" => {
                self.commit()?;
                Err(Stop::Report(Report::Pause("no_space")))
            }
            reason => self.give_up(item, reason),
        }
    }

    fn give_up(&mut self, item: &Item, reason: &'static str) -> Result<(), Stop> {
        self.entries.remove(&item.index);
        self.settled.push((item.index, item.path.as_str().to_owned(), reason));
        if self.settled.len() >= GROUP { self.commit() } else { Ok(()) }
    }

    /// What the sender says nothing of before it is done does not come.
    fn give_up_rest(&mut self) -> Result<(), Stop> {
        let number = self.writer.record.number;
        loop {
            let page = self.runtime.block_on(self.writer.store.read(move |c| book::page(c, number, 0, true)))?;
            if page.is_empty() {
                return Ok(());
            }
            for OutEntry { item, .. } in page {
                let _ = self.writer.tree.remove_part(&item.path, &self.writer.journals.tag(item.index));
                self.settled.push((item.index, item.path.as_str().to_owned(), "not_sent"));
            }
            self.commit()?;
        }
    }

    /// Makes the group durable, gives it its names, makes these durable, writes it down, tells it.
    fn commit(&mut self) -> Result<(), Stop> {
        self.committed = Instant::now();
        if self.group.is_empty() && self.settled.is_empty() {
            return Ok(());
        }
        let group = std::mem::take(&mut self.group);
        self.group_bytes = 0;
        let mut outcomes: Vec<(u64, String, &'static str, Option<WirePath>)> =
            std::mem::take(&mut self.settled).into_iter().map(|(index, path, why)| (index, path, why, None)).collect();
        let synced = match group.as_slice() {
            [] => Ok(()),
            [one] => one.part.sync(),
            _ => self.writer.tree.sync_all(),
        };
        let mut full = false;
        for Whole { item, part } in group {
            let path = item.path.as_str().to_owned();
            let placed = match &synced {
                Ok(()) => part.place(self.conflict(&item)),
                Err(error) => {
                    full |= matches!(error.reason(), "no_space" | "quota");
                    outcomes.push((item.index, path, error.reason(), None));
                    continue;
                }
            };
            match placed {
                Ok(Placed::As(name)) => outcomes.push((item.index, path, "", Some(name))),
                Ok(Placed::Kept) => outcomes.push((item.index, path, "exists", None)),
                Err(error) => outcomes.push((item.index, path, error.reason(), None)),
            }
            self.writer.journals.remove(item.index);
        }
        if let Err(error) = self.writer.tree.sync_dirs(outcomes.iter().filter_map(|outcome| outcome.3.as_ref())) {
            tracing::warn!(%error, "cannot make sure of a directory");
        }
        let mut items = Vec::with_capacity(outcomes.len());
        let (mut problems, mut tops) = (Vec::new(), Vec::new());
        for (index, path, reason, placed) in &outcomes {
            let failed = !reason.is_empty();
            items.push(Settled { index: *index, reason: failed.then(|| (*reason).to_owned()) });
            if failed {
                problems.push(Problem { path: path.clone(), reason: (*reason).to_owned() });
            }
            if let Some(top) = placed.as_ref().map(WirePath::top)
                && !tops.iter().any(|known| known == top)
                && tops.len() < book::SHOWN
            {
                tops.push(top.to_owned());
            }
        }
        let (number, made) = (self.writer.record.number, std::mem::take(&mut self.made));
        let write = self.writer.store.write(move |tx| {
            book::made(tx, number, &made)?;
            for (index, _, reason, placed) in &outcomes {
                book::settle(tx, number, *index, reason, placed.as_ref().map(WirePath::as_str))?;
            }
            Ok(())
        });
        self.runtime.block_on(write)?;
        self.moved(0, 0)?;
        self.report(Report::Results { items, problems, placed: tops })?;
        if full { Err(Stop::Report(Report::Pause("no_space"))) } else { Ok(()) }
    }

    /// What replaces nothing else replaces nothing of the same transfer either.
    fn conflict(&mut self, item: &Item) -> Conflict {
        match self.writer.record.on_conflict {
            Conflict::Rename => Conflict::Rename,
            other if self.placed.insert(item.path.fold_key()) => other,
            _ => Conflict::Rename,
        }
    }

    /// Files that came after their directory changed its time. Innermost directories first.
    fn set_dir_times(&mut self) -> Result<(), Stop> {
        let number = self.writer.record.number;
        let dirs = self.runtime.block_on(self.writer.store.read(move |c| book::dir_times(c, number)))?;
        for (path, mtime_ns) in &dirs {
            if let Err(error) = self.writer.tree.set_dir_mtime(path, *mtime_ns) {
                tracing::debug!(%error, "cannot set the time of a directory");
            }
        }
        Ok(())
    }

    /// Bytes moved; told when there are at least `enough`.
    fn moved(&mut self, bytes: u64, enough: u64) -> Result<(), Stop> {
        self.untold += bytes;
        if self.untold < enough || self.untold == 0 {
            return Ok(());
        }
        let bytes = std::mem::take(&mut self.untold);
        self.report(Report::Bytes(bytes))
    }

    fn report(&self, report: Report) -> Result<(), Stop> {
        self.reports.blocking_send(report).map_err(|_| Stop::Gone)
    }
}

fn protocol(what: &'static str) -> Stop {
    Stop::Report(Report::Protocol(what))
}

/// The bound on a file's size that a policy and the protocol give.
pub fn max_file(policy: Option<u64>) -> u64 {
    policy.unwrap_or(limits::FILE_SIZE).min(limits::FILE_SIZE)
}
