//! Large and small files: all contestants in turns.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, ensure};
use kith_tests::tree;

use crate::Plan;
use crate::others::{Contestant, all};
use crate::table::{Table, median};

/// A contestant's name and its median time.
pub type Result = (&'static str, Duration);

/// Runs both races.
pub fn run(plan: &Plan, table: &mut Table) -> anyhow::Result<()> {
    let home = tempfile::tempdir_in(&plan.dir)?;
    let large = home.path().join("large.bin");
    tree::large(&large, plan.large, 1)?;
    let small = home.path().join("small");
    tree::many(&small, plan.small, plan.small_size, 2)?;
    let mut contestants = all(&plan.dir);

    eprintln!("one file of {} MiB", plan.large >> 20);
    let results = race(&mut contestants, &large, home.path(), plan.rounds)?;
    let speed = |time: Duration| plan.large as f64 / time.as_secs_f64() / 1e6;
    let figure = format!("one file of {} MiB", plan.large >> 20);
    rows(table, &figure, &results, |time| format!("{:.0} MB/s", speed(time)), large_target);

    eprintln!("{} files of {} bytes", plan.small, plan.small_size);
    let results = race(&mut contestants, &small, home.path(), plan.rounds)?;
    let figure = format!("{} files of {} KiB", plan.small, plan.small_size >> 10);
    rows(table, &figure, &results, |time| format!("{:.2} s", time.as_secs_f64()), small_target);
    Ok(())
}

/// How fast Kith is to be, as a multiple of the other's speed, and how one says so.
fn large_target(other: &str) -> Option<(f64, &'static str)> {
    match other {
        "rustls → hash → file" => Some((0.8, "≥ 0.8 × its speed")),
        "scp" | "rsync daemon, not encrypted" => Some((1.0, "ahead")),
        _ => None,
    }
}

fn small_target(other: &str) -> Option<(f64, &'static str)> {
    match other {
        "tar | nc, not encrypted" => Some((1.0 / 1.5, "≤ 1.5 × its time")),
        "scp" | "rsync daemon, not encrypted" => Some((3.0, "3 × ahead")),
        _ => None,
    }
}

/// Lets `contestants` take turns.
pub fn race(
    contestants: &mut [Box<dyn Contestant>],
    source: &Path,
    home: &Path,
    rounds: usize,
) -> anyhow::Result<Vec<Result>> {
    let target = home.join("target");
    let mut times = vec![Vec::new(); contestants.len()];
    for round in 0..rounds {
        for (contestant, times) in contestants.iter_mut().zip(&mut times) {
            fs::create_dir(&target)?;
            // Nobody pays for what the one before left to be written.
            rustix::fs::sync();
            let time = contestant.carry(source, &target);
            eprintln!("  {}: {:.3} s", contestant.name(), time.as_secs_f64());
            if round == 0 {
                let arrived = target.join(source.file_name().context("a source has a name")?);
                ensure!(size(&arrived)? == size(source)?, "{} lost something", contestant.name());
            }
            times.push(time);
            fs::remove_dir_all(&target)?;
        }
    }
    Ok(contestants.iter().zip(&times).map(|(contestant, times)| (contestant.name(), median(times))).collect())
}

/// Files and bytes below `path`.
fn size(path: &Path) -> anyhow::Result<(u64, u64)> {
    if path.is_file() {
        return Ok((1, fs::metadata(path)?.len()));
    }
    let mut sum = (0, 0);
    for entry in fs::read_dir(path).with_context(|| path.display().to_string())? {
        let (files, bytes) = size(&entry?.path())?;
        sum = (sum.0 + files, sum.1 + bytes);
    }
    Ok(sum)
}

/// The results: how much faster the first one is than each of the others.
pub fn rows(
    table: &mut Table,
    figure: &str,
    results: &[Result],
    show: impl Fn(Duration) -> String,
    target: impl Fn(&str) -> Option<(f64, &'static str)>,
) {
    let (first, rest) = results.split_first().expect("Kith takes part");
    table.row(&format!("{figure}: kith"), show(first.1), "", String::new());
    for (name, time) in rest {
        let faster = time.as_secs_f64() / first.1.as_secs_f64();
        let (wanted, words) = target(name).unwrap_or((0.0, ""));
        let verdict = if faster >= wanted { "" } else { ", missed" };
        let words = if words.is_empty() { String::new() } else { format!("kith {words}") };
        table.row(&format!("— {name}"), show(*time), &words, format!("kith {faster:.2} × as fast{verdict}"));
    }
}
