//! Journals: first sync, nothing changed, ten entries changed, with and without cursors; and how each grows with the
//! number of entries.

use std::fs;
use std::time::Duration;

use anyhow::Context;
use data_encoding::BASE64;
use kith_tests::host::{Host, pair};
use kith_tests::{door::Door, wait};
use serde_json::{Value, json};

use crate::Plan;
use crate::figures::memory;
use crate::table::{Table, median};

/// What an entry's body has, in bytes.
const BODY: usize = 100;
/// Puts under way at once.
const AHEAD: usize = 48;
/// Entries that change.
const CHANGED: usize = 10;
/// A first sync may take this long.
const LONGEST: Duration = Duration::from_secs(600);

/// What one session took.
#[derive(Debug, Clone, Copy)]
struct Cost {
    ms: f64,
    /// CPU of both daemons, in milliseconds.
    cpu: f64,
    kib: f64,
}

/// Measures them all, for more and more entries.
pub fn run(plan: &Plan, table: &mut Table) -> anyhow::Result<()> {
    for power in 3..=6 {
        let entries = 10_usize.pow(power);
        if entries <= plan.entries {
            journal(plan, table, entries).with_context(|| format!("{entries} entries"))?;
        }
    }
    Ok(())
}

fn journal(plan: &Plan, table: &mut Table, entries: usize) -> anyhow::Result<()> {
    let mut here = Host::under(&plan.dir, "here");
    let mut there = Host::under(&plan.dir, "there");
    for host in [&mut here, &mut there] {
        // Nobody sees anybody: sessions begin when they are asked for.
        host.configure("[discovery]\nenabled = false\n");
        host.start();
    }
    fill(&mut here.door(), entries)?;
    let named = |what: &str| format!("journal of {entries}: {what}");

    let mut events = there.door();
    events.call("events.subscribe", json!({"kinds": ["sync:complete", "sync:error"]}));
    pair(&here, &there);
    let first = first_sync(&there, &mut events, entries as u64);
    let speed = entries as f64 / (first / 1000.0);
    table.at_least(&named("first sync"), speed, 20_000.0, "entries/s");
    for (host, what) in [(&here, "gives"), (&there, "takes")] {
        let peak = memory(host.pid(), "VmHWM")?;
        table.at_most(&named(&format!("memory of the one who {what}, at its peak")), peak, 200.0, "MiB");
    }
    // Stopped in order, the database is one file.
    there.restart();
    let size = fs::metadata(there.path("data/kith.db"))?.len() as f64 / entries as f64;
    let beside = format!("of which {BODY} are the body");
    table.row(&named("database, for an entry"), format!("{size:.0} bytes"), &beside, String::new());

    let idle = repeat(plan, || session(&there, &here))?;
    table.at_most(&named("nothing changed, CPU of both"), idle.cpu, 5.0, "ms");
    table.at_most(&named("nothing changed, bytes"), idle.kib, 1.0, "KiB");

    let mut round = 0;
    let mut edit = |host: &Host, step: usize| -> anyhow::Result<()> {
        round += 1;
        let mut door = host.door();
        for n in 0..CHANGED {
            put(&mut door, n * step, &format!("{round} {}", "c".repeat(BODY - 8)));
        }
        wait_all(&mut door, CHANGED)
    };
    for (what, step) in [("neighbours", 1), ("scattered", entries / CHANGED)] {
        let cost = repeat(plan, || {
            edit(&here, step)?;
            session(&there, &here)
        })?;
        table.at_most(&named(&format!("{CHANGED} {what} changed")), cost.ms, 100.0, "ms");
        table.at_most(&named(&format!("{CHANGED} {what} changed, bytes")), cost.kib, 25.0, "KiB");
    }

    // Without its witness the database begins another life, and nothing that others counted in it holds any more.
    let cost = repeat(plan, || {
        edit(&here, entries / CHANGED)?;
        here.stop();
        fs::remove_file(here.path("data/journals.witness"))?;
        let mut events = there.door();
        events.call("events.subscribe", json!({"kinds": ["sync:complete"]}));
        here.start();
        there.door().call("sync.start", json!({"peer": here.id()}));
        // Whoever of the two was faster.
        Ok(cost(&events.event(|event| event["data"]["received"] == CHANGED), 0.0))
    })?;
    table.at_most(&named(&format!("{CHANGED} scattered changed, no cursor")), cost.ms, 100.0, "ms");
    table.at_most(&named(&format!("{CHANGED} scattered changed, no cursor, bytes")), cost.kib, 25.0, "KiB");
    Ok(())
}

fn fill(door: &mut Door, entries: usize) -> anyhow::Result<()> {
    let mut under_way = 0;
    for n in 0..entries {
        put(door, n, &format!("{n:0BODY$}"));
        under_way += 1;
        if under_way == AHEAD {
            wait_all(door, AHEAD)?;
            under_way = 0;
        }
    }
    wait_all(door, under_way)
}

/// Ids look like those that apps make up: their order says nothing of when they were made.
fn put(door: &mut Door, number: usize, body: &str) {
    let id = blake3::hash(&number.to_be_bytes()).to_hex();
    let body = BASE64.encode(body.as_bytes());
    door.ask("entries.put", json!({"journal": "default", "id": &id[..36], "meta": {"mood": 3}, "body": body}));
}

fn wait_all(door: &mut Door, answers: usize) -> anyhow::Result<()> {
    for _ in 0..answers {
        let answer = door.read().context("the daemon hung up")?;
        anyhow::ensure!(answer["error"].is_null(), "{answer}");
    }
    Ok(())
}

/// Waits until so many rows have come; how long the sessions took that brought them, in milliseconds.
fn first_sync(there: &Host, events: &mut Door, rows: u64) -> f64 {
    let mut door = there.door();
    let mut entries = || door.call("journals.show", json!({"journal": "default"}))["entries"].as_u64();
    wait::until_true("all entries", LONGEST, || entries() == Some(rows));
    let (mut received, mut ms) = (0, 0.0);
    while received < rows {
        let event = events.event(|_| true);
        received += event["data"]["received"].as_u64().unwrap_or_default();
        ms += event["data"]["ms"].as_f64().unwrap_or_default();
    }
    ms
}

/// One session that `begins` begins.
fn session(begins: &Host, other: &Host) -> anyhow::Result<Cost> {
    let mut door = begins.door();
    door.call("events.subscribe", json!({"kinds": ["sync:complete"]}));
    let before = cpu(begins)? + cpu(other)?;
    door.call("sync.start", json!({"peer": other.id()}));
    let event = door.event(|event| event["data"]["trigger"] == "asked");
    Ok(cost(&event, cpu(begins)? + cpu(other)? - before))
}

fn cost(event: &Value, cpu: f64) -> Cost {
    let number = |name: &str| event["data"][name].as_f64().unwrap_or(f64::NAN);
    Cost { ms: number("ms"), cpu, kib: number("bytes") / 1024.0 }
}

fn repeat(plan: &Plan, mut once: impl FnMut() -> anyhow::Result<Cost>) -> anyhow::Result<Cost> {
    let costs = (0..plan.rounds.max(3)).map(|_| once()).collect::<anyhow::Result<Vec<_>>>()?;
    let of = |figure: fn(&Cost) -> f64| median(&costs.iter().map(figure).collect::<Vec<_>>());
    Ok(Cost { ms: of(|cost| cost.ms), cpu: of(|cost| cost.cpu), kib: of(|cost| cost.kib) })
}

/// What all threads of a daemon have used so far, in milliseconds.
fn cpu(host: &Host) -> anyhow::Result<f64> {
    let mut sum = 0.0;
    for task in fs::read_dir(format!("/proc/{}/task", host.pid()))? {
        let text = fs::read_to_string(task?.path().join("schedstat")).unwrap_or_default();
        sum += text.split_whitespace().next().and_then(|ns| ns.parse::<f64>().ok()).unwrap_or_default();
    }
    Ok(sum / 1e6)
}
