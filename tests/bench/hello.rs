//! The hello store: `kithd hello` on a file and on Redis, with a million codes in it. How much each takes, and how long
//! lookups and new codes take at a steady rate, counted from the moment at which each was due.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Context;
use kith_tests::hello_server::{Blob, HelloServer};
use kith_tests::https::Connection;
use kith_tests::redis::Redis;
use kith_tests::wait;

use crate::Plan;
use crate::table::{Table, median};

/// The size of each blob, in bytes: the usual payload.
const BLOB: usize = 512;
/// Connections at once, from so many addresses.
const CONNECTIONS: u64 = 64;
const ADDRESSES: u64 = 4;
/// Requests a second.
const RATE: u64 = 2_000;
/// For so many seconds.
const SECONDS: u64 = 10;
/// Requests that a filling connection sends before it reads their answers.
const AHEAD: u64 = 32;

/// Codes of a billion devices with one a year, each for seven days.
const BILLION: f64 = 1e9 / 365.25 * 7.0;
/// The same with the day for which Redis keeps what expired.
const BILLION_AND_A_DAY: f64 = 1e9 / 365.25 * 8.0;

/// Measures both.
pub fn run(plan: &Plan, table: &mut Table) -> anyhow::Result<()> {
    on_file(plan, table).context("on a file")?;
    on_redis(plan, table).context("on Redis")
}

fn on_file(plan: &Plan, table: &mut Table) -> anyhow::Result<()> {
    let home = tempfile::tempdir_in(&plan.dir)?;
    let server = start(home.path(), &format!("sqlite:{}/hello.db", home.path().display()), &[]);
    let codes = measure(plan, table, "a file", &server)?;
    // Stopped in order, it is one file.
    server.stop();
    let size = fs::metadata(home.path().join("hello.db"))?.len() as f64;
    rows(table, "a file", size / codes as f64, BILLION);
    Ok(())
}

fn on_redis(plan: &Plan, table: &mut Table) -> anyhow::Result<()> {
    let Some(redis) = Redis::under(&plan.dir, &[]) else {
        table.row("hello store on Redis", "redis-server is missing".to_owned(), "", String::new());
        return Ok(());
    };
    let home = tempfile::tempdir_in(&plan.dir)?;
    let data = home.path().to_str().context("a path in UTF-8")?.to_owned();
    let before = memory(&redis)?;
    let server = start(home.path(), &redis.url(), &["--data", &data]);
    let codes = measure(plan, table, "Redis", &server)?;
    let size = (memory(&redis)? - before) as f64;
    drop(server);
    rows(table, "Redis", size / codes as f64, BILLION_AND_A_DAY);
    Ok(())
}

fn rows(table: &mut Table, what: &str, bytes: f64, codes: f64) {
    table.row(&format!("hello store on {what}: a code"), format!("{bytes:.0} bytes"), "", String::new());
    let all = format!("{:.1} GiB", bytes * codes / f64::from(1 << 30));
    table.row(&format!("hello store on {what}: a billion devices"), all, "", String::new());
}

/// One that refuses nobody for asking too much.
fn start(home: &Path, store: &str, options: &[&str]) -> HelloServer {
    let (most, many) = (u32::MAX.to_string(), (1_u64 << 40).to_string());
    let mut all = vec!["--max-blobs", &many, "--max-bytes", &many, "--max-per-source", &most];
    all.extend(["--puts-per-hour", &most, "--gets-per-hour", &most]);
    all.extend(options);
    HelloServer::start(home, store, &all)
}

/// Fills it, asks it; how many codes are in it then.
fn measure(plan: &Plan, table: &mut Table, what: &str, server: &HelloServer) -> anyhow::Result<u64> {
    let codes = plan.codes;
    let began = Instant::now();
    everybody(server, |n, connection| {
        let mut mine = (0..codes).filter(|number| number % CONNECTIONS == n).peekable();
        while mine.peek().is_some() {
            let batch: Vec<Vec<u8>> = mine.by_ref().take(AHEAD as usize).map(|number| blob(number).put()).collect();
            connection.write(&batch.concat());
            for _ in &batch {
                anyhow::ensure!(connection.answer()?.status == 201, "a code is refused");
            }
        }
        Ok(Vec::new())
    })?;
    let speed = codes as f64 / began.elapsed().as_secs_f64();
    table.row(&format!("hello store on {what}: filling"), format!("{speed:.0} codes/s"), "", String::new());

    let mut next = codes;
    for (verb, status) in [("GET", 200), ("PUT", 201)] {
        let (mut halves, mut worst) = (Vec::new(), Vec::new());
        for _ in 0..plan.rounds {
            let first = next;
            let mut times = everybody(server, |n, connection| {
                steadily(n, connection, status, |number| match verb {
                    // All over the store, not in the order in which they came.
                    "GET" => blob(number.wrapping_mul(0x9E37_79B9_7F4A_7C15) % codes).get(),
                    _ => blob(first + number).put(),
                })
            })?;
            next += if verb == "PUT" { RATE * SECONDS } else { 0 };
            times.sort_unstable();
            halves.push(times[times.len() / 2]);
            worst.push(times[times.len() * 99 / 100]);
        }
        let ms = |time: Duration| time.as_secs_f64() * 1000.0;
        let measured = format!("p50 {:.2}, p99 {:.2} ms", ms(median(&halves)), ms(median(&worst)));
        table.row(&format!("hello store on {what}: {RATE} {verb} a second"), measured, "", String::new());
    }
    Ok(next)
}

fn blob(number: u64) -> Blob {
    Blob::new(number, &[number as u8; BLOB])
}

/// Every connection in a thread of its own; what all of them return.
fn everybody<F>(server: &HelloServer, work: F) -> anyhow::Result<Vec<Duration>>
where
    F: Fn(u64, &mut Connection) -> anyhow::Result<Vec<Duration>> + Sync,
{
    let connect = |n: u64| server.caller().from(&format!("127.0.0.{}", n % ADDRESSES + 1)).connect();
    let connections: Vec<Connection> = (0..CONNECTIONS).map(connect).collect::<Result<_, _>>()?;
    let work = &work;
    std::thread::scope(|scope| {
        let threads = (0..).zip(connections).map(|(n, mut it)| scope.spawn(move || work(n, &mut it)));
        let threads: Vec<_> = threads.collect();
        let mut all = Vec::new();
        for thread in threads {
            all.extend(thread.join().expect("no thread panics")?);
        }
        Ok(all)
    })
}

/// This connection's share of the rate; how long each answer took.
fn steadily(
    n: u64,
    connection: &mut Connection,
    status: u16,
    request: impl Fn(u64) -> Vec<u8>,
) -> anyhow::Result<Vec<Duration>> {
    let began = Instant::now();
    let mine = (0..RATE * SECONDS).filter(|number| number % CONNECTIONS == n);
    mine.map(|number| {
        let bytes = request(number);
        let due = began + Duration::from_micros(number * 1_000_000 / RATE);
        wait::nap(due.saturating_duration_since(Instant::now()));
        connection.write(&bytes);
        let answer = connection.answer()?;
        anyhow::ensure!(answer.status == status, "{} instead of {status}", answer.status);
        Ok(due.elapsed())
    })
    .collect()
}

/// `used_memory`, in bytes.
fn memory(redis: &Redis) -> anyhow::Result<u64> {
    let info = redis.ask("INFO memory");
    let line = info.lines().find_map(|line| line.strip_prefix("used_memory:")).context("no used_memory")?;
    Ok(line.trim().parse()?)
}
