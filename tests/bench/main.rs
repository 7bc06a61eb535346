//! `cargo kith-bench`: the figures of the README, as ratios against other programs that do the same in the same run on
//! the same machine. The contestants take turns; what is printed is the median.
//!
//! ```text
//! cargo kith-bench [--quick] [--rounds N] [--dir DIR] [--only races|guest|figures|journals|joins|hello]
//! ```
//!
//! Source and target lie below DIR (the temporary directory unless told), both ends run here. `--quick` shows in a
//! minute that everything works; its numbers mean little.

mod baseline;
mod figures;
mod guest;
mod hello;
mod joins;
mod journals;
mod others;
mod race;
mod table;

use std::path::PathBuf;

use anyhow::{Context, bail};

/// What to measure, and how thoroughly.
pub struct Plan {
    /// The large file, in bytes.
    pub large: u64,
    /// How many small files.
    pub small: usize,
    /// The size of each, in bytes.
    pub small_size: usize,
    /// How many entries the largest journal has.
    pub entries: usize,
    /// How many devices join by one code.
    pub joins: u16,
    /// How many codes a hello store holds.
    pub codes: u64,
    /// How often each contestant runs.
    pub rounds: usize,
    /// How long an idle daemon is watched, in seconds.
    pub idle: u64,
    /// Where everything lies.
    pub dir: PathBuf,
    /// The one part to measure, instead of all.
    pub only: Option<String>,
}

const ONLY: &str = "--only races|guest|figures|journals|joins|hello";

type Part = fn(&Plan, &mut table::Table) -> anyhow::Result<()>;

fn main() -> anyhow::Result<()> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    if let [baseline::RECEIVE | baseline::SEND, ..] = words[..] {
        return baseline::main(&words);
    }
    let plan = plan(&words)?;
    if cfg!(debug_assertions) {
        eprintln!("This is a debug build: its numbers mean nothing. Use `cargo kith-bench`.");
    }
    kith_tests::binaries::kithd();
    let mut table = table::Table::default();
    let parts: [(&str, Part); 6] = [
        ("races", race::run),
        ("guest", guest::run),
        ("figures", figures::run),
        ("journals", journals::run),
        ("joins", joins::run),
        ("hello", hello::run),
    ];
    for (name, run) in parts {
        if plan.only.as_deref().is_none_or(|only| only == name) {
            run(&plan, &mut table).context(name)?;
        }
    }
    println!("{table}");
    Ok(())
}

fn plan(words: &[&str]) -> anyhow::Result<Plan> {
    let mut plan = Plan {
        large: 1 << 30,
        small: 5000,
        small_size: 4096,
        entries: 1_000_000,
        joins: 1_000,
        codes: 1_000_000,
        rounds: 5,
        idle: 30,
        dir: std::env::temp_dir(),
        only: None,
    };
    let mut words = words.iter();
    while let Some(word) = words.next() {
        match *word {
            "--quick" => {
                plan = Plan {
                    large: 64 << 20,
                    small: 500,
                    entries: 10_000,
                    joins: 100,
                    codes: 20_000,
                    rounds: 2,
                    idle: 5,
                    ..plan
                }
            }
            "--rounds" => plan.rounds = words.next().context("--rounds N")?.parse()?,
            "--dir" => plan.dir = std::path::absolute(words.next().context("--dir DIR")?)?,
            "--only" => {
                plan.only = Some((*words.next().context(ONLY)?).to_owned());
            }
            _ => bail!("cargo kith-bench [--quick] [--rounds N] [--dir DIR] [{ONLY}]"),
        }
    }
    Ok(plan)
}
