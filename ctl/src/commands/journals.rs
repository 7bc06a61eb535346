//! Journals as wholes: `journals`, and how they look to people.

use kith_proto::control::journal::{Journal, JournalCreateParams, JournalParams, JournalState, Member, ShareParams};
use kith_proto::control::method::{
    Empty, JournalsAccept, JournalsCreate, JournalsList, JournalsRemove, JournalsShare, JournalsShow, JournalsUnshare,
};

use super::{Context, view};
use crate::args::journals::Journals;
use crate::error::{Error, FAILED, Result};
use crate::output::Table;
use crate::values::shell_word;

/// `journals`
pub fn run(ctx: &Context, action: Option<Journals>) -> Result<()> {
    let said = |journal: &Journal| ctx.out.line(&line(journal));
    match action.unwrap_or(Journals::List) {
        Journals::List => ctx.show::<JournalsList>(&Empty {}, |result| ctx.out.table(&table(&result.journals))),
        Journals::Show { journal } => {
            ctx.show::<JournalsShow>(&JournalParams { journal }, |journal| ctx.out.table(&whole(journal)))
        }
        Journals::Create { name } => ctx.show::<JournalsCreate>(&JournalCreateParams { name }, said),
        Journals::Share { journal, peer } => ctx.show::<JournalsShare>(&ShareParams { journal, peer }, said),
        Journals::Unshare { journal, peer } => ctx.show::<JournalsUnshare>(&ShareParams { journal, peer }, said),
        Journals::Accept { journal } => ctx.show::<JournalsAccept>(&JournalParams { journal }, said),
        Journals::Remove { journal, yes } => remove(ctx, journal, yes),
    }
}

fn remove(ctx: &Context, journal: String, yes: bool) -> Result<()> {
    if !yes && ctx.out.may_ask() {
        let question = format!("Delete what is here of {journal}? Other devices keep theirs.");
        if !ctx.out.confirm(&question, false)? {
            return Err(Error::new(FAILED, "no_answer", "nothing was removed"));
        }
    }
    let params = JournalParams { journal };
    ctx.show::<JournalsRemove>(&params, |_| ctx.out.line(&format!("removed {}", params.journal)))
}

/// Journals, one a row.
pub fn table(journals: &[Journal]) -> Table {
    let mut table = Table::new(&["NAME", "STATE", "ENTRIES", "MEMBERS", ""]);
    for journal in journals {
        table.row([
            journal.name.clone(),
            view::word(&journal.state),
            journal.entries.to_string(),
            members(journal),
            remarks(journal),
        ]);
    }
    table
}

/// A journal in one line.
pub fn line(journal: &Journal) -> String {
    let Journal { name, id, state, entries, .. } = journal;
    let what = if *entries == 1 { "entry" } else { "entries" };
    format!("{name} ({id})  {}, {entries} {what}, {}", view::word(state), members(journal))
}

fn whole(journal: &Journal) -> Table {
    let mut table = Table::untitled();
    table.pair("name", journal.name.clone());
    table.pair("id", journal.id.clone());
    table.pair("state", view::word(&journal.state));
    table.pair("made by", journal.creator.as_ref().map(view::peer_name));
    table.pair("may be shared from here", if journal.may_share { "yes" } else { "no" }.to_owned());
    table.pair("entries", journal.entries.to_string());
    table.pair("deletions", journal.tombstones.to_string());
    table.pair("remarks", remarks(journal));
    table.pair("members", members(journal));
    for member in &journal.members {
        table.pair("member", self::member(member));
    }
    let more = count(journal).saturating_sub(journal.members.len() as u64);
    table.pair("", Some(more).filter(|more| *more > 0).map(|more| format!("and {more} more")));
    table.pair("cursor", journal.cursor.clone());
    table
}

fn member(member: &Member) -> String {
    let has = if member.current { "has everything" } else { "does not have everything yet" };
    let synced = member.last_sync.as_ref().map_or("never synced".to_owned(), |time| format!("last sync {time}"));
    let shares = if member.may_share { ", may share" } else { "" };
    format!("{}  {has}, {synced}{shares}", view::peer_name(&member.device))
}

fn members(journal: &Journal) -> String {
    match count(journal) {
        0 => "only here".to_owned(),
        count => format!("{} of {count} have everything", journal.known_by),
    }
}

/// How many members there are; an older daemon names all of them and does not say.
fn count(journal: &Journal) -> u64 {
    journal.member_count.max(journal.members.len() as u64)
}

/// What somebody may want to do about a journal.
fn remarks(journal: &Journal) -> String {
    let name = shell_word(&journal.name);
    let mut remarks = Vec::new();
    match journal.state {
        JournalState::Offered => remarks.push(format!("take it: kithctl journals accept {name}")),
        JournalState::Removed => remarks.push("no longer shared with this device".to_owned()),
        JournalState::Active | JournalState::Unknown => {}
    }
    if journal.recovered > 0 {
        remarks.push(format!("{} recovered: kithctl entries recovered {name}", journal.recovered));
    }
    if journal.history > 0 {
        remarks.push(format!("{} in history: kithctl entries history {name}", journal.history));
    }
    remarks.join("; ")
}
