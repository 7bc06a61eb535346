//! What of an offer is there already: directories and links are made at once, files are looked for.

use std::collections::HashMap;

use kith_proto::control::types::Conflict;
use kith_proto::limits::CHUNK;
use kith_proto::peer::offer::{FileDigest, Have, Item, Kind, Same};
use tokio::runtime::Handle;

use super::book::{self, PAGE, Record};
use super::parts::Journals;
use super::read::digest_of;
use crate::files::{self, Placed, Tree};
use crate::store::{self, Store};

/// What the sender need not send, and what it may go on with.
#[derive(Debug, Default)]
pub struct Plan {
    /// Files of which a part is there.
    pub have: Vec<Have>,
    /// Files that are there under the same name, perhaps with the same content.
    pub same: Vec<Same>,
    /// The digest up to where a part goes.
    pub states: HashMap<u64, FileDigest>,
    /// Entries that cannot be delivered, and why.
    pub problems: Vec<(u64, String, String)>,
    /// Entries that were settled just now.
    pub settled: u64,
}

/// An entry that is settled without a byte being sent.
struct Settled {
    index: u64,
    reason: &'static str,
    placed: Option<String>,
}

/// Looks at every open entry. Blocks.
pub fn run(
    tree: &Tree,
    journals: &Journals,
    record: &Record,
    store: &Store,
    runtime: &Handle,
) -> Result<Plan, store::Error> {
    let mut plan = Plan::default();
    let mut from = 0;
    loop {
        let number = record.number;
        let page = runtime.block_on(store.read(move |c| book::page(c, number, from, true)))?;
        let Some(last) = page.last() else { break };
        from = last.item.index + 1;
        let whole = page.len() == PAGE;
        let (mut settled, mut made) = (Vec::new(), Vec::new());
        for entry in page {
            match look(tree, journals, record.on_conflict, &entry.item, &mut plan, &mut made) {
                Ok(Some(done)) => settled.push(done),
                Ok(None) => {}
                Err(error) => {
                    let path = entry.item.path.as_str().to_owned();
                    plan.problems.push((entry.item.index, path, error.reason().to_owned()));
                    settled.push(Settled { index: entry.item.index, reason: error.reason(), placed: None });
                }
            }
        }
        plan.settled += settled.len() as u64;
        runtime.block_on(store.write(move |tx| {
            book::made(tx, number, &made)?;
            for it in settled {
                book::settle(tx, number, it.index, it.reason, it.placed.as_deref())?;
            }
            Ok(())
        }))?;
        if !whole {
            break;
        }
    }
    Ok(plan)
}

fn look(
    tree: &Tree,
    journals: &Journals,
    conflict: Conflict,
    item: &Item,
    plan: &mut Plan,
    made: &mut Vec<kith_proto::path::WirePath>,
) -> files::Result<Option<Settled>> {
    let path = &item.path;
    let there = |placed: &str| Some(Settled { index: item.index, reason: "", placed: Some(placed.to_owned()) });
    match item.kind {
        Kind::Dir => {
            made.extend(tree.make_dirs(path)?);
            Ok(there(path.as_str()))
        }
        Kind::Symlink => {
            if let Some(parent) = path.parent() {
                made.extend(tree.make_dirs(&parent)?);
            }
            let target = item.target.as_deref().unwrap_or_default();
            Ok(match tree.link(path, target, conflict)? {
                Placed::As(placed) => there(placed.as_str()),
                Placed::Kept => Some(Settled { index: item.index, reason: "exists", placed: None }),
            })
        }
        Kind::File => {
            let existing = match tree.lookup(path) {
                // Its directory is not made yet, or something is in the way, which is told when the file comes.
                Err(files::Error::NotFound { .. } | files::Error::NotADirectory { .. }) => None,
                other => other?,
            };
            if let Some(existing) = existing.filter(|existing| existing.kind == files::Kind::File) {
                let keep = match conflict {
                    Conflict::Skip => true,
                    Conflict::Newer => existing.mtime_ns >= item.mtime_ns,
                    Conflict::Rename | Conflict::Overwrite => false,
                };
                if keep {
                    return Ok(Some(Settled { index: item.index, reason: "exists", placed: None }));
                }
                if item.size == Some(0) && existing.size == 0 {
                    return Ok(there(path.as_str()));
                }
                if item.size == Some(existing.size) {
                    let mut file = tree.open_existing(path)?;
                    if let Ok(digest) = digest_of(&mut file, existing.size) {
                        plan.same.push(Same { index: item.index, digest });
                        return Ok(None);
                    }
                }
            }
            if item.size.is_none_or(|size| size > CHUNK as u64) {
                resume(tree, journals, item, plan);
            }
            Ok(None)
        }
    }
}

/// A part that cannot be read is as good as none: the file starts again.
fn resume(tree: &Tree, journals: &Journals, item: &Item, plan: &mut Plan) {
    let Ok(Some(part)) = tree.find_part(&item.path, &journals.tag(item.index)) else { return };
    let Ok(Some((chunks, digest))) = journals.look(item.index, &part) else { return };
    let offset = chunks * CHUNK as u64;
    if item.size.is_some_and(|size| offset > size) {
        return;
    }
    plan.have.push(Have { index: item.index, offset, digest: digest.value() });
    plan.states.insert(item.index, digest);
}
