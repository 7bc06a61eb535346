//! What is not a race: start, idle, control calls, discovery, pairing, resume.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Context;
use kith_tests::host::{Host, pair};
use kith_tests::{PATIENCE, tree, wait};
use serde_json::{Value, json};

use crate::Plan;
use crate::table::{Table, median, ms};

/// Measures them all.
pub fn run(plan: &Plan, table: &mut Table) -> anyhow::Result<()> {
    start(plan, table);
    calls(plan, table);
    meeting(plan, table);
    idle(plan, table)?;
    resume(plan, table)
}

/// From exec to READY=1, with an identity and a database that exist.
fn start(plan: &Plan, table: &mut Table) {
    let mut host = Host::under(&plan.dir, "start");
    host.start();
    let times: Vec<f64> = (0..4 * plan.rounds + 1)
        .map(|_| {
            host.stop();
            let started = Instant::now();
            host.start();
            ms(started.elapsed())
        })
        .collect();
    table.at_most("start to READY", median(&times), 100.0, "ms");
}

/// One request and its answer on a connection that stands.
fn calls(plan: &Plan, table: &mut Table) {
    let mut host = Host::under(&plan.dir, "calls");
    host.start();
    let mut door = host.door();
    let times: Vec<f64> = (0..200 * plan.rounds)
        .map(|_| {
            let started = Instant::now();
            door.call("daemon.status", json!({}));
            ms(started.elapsed())
        })
        .collect();
    table.at_most("a control call", median(&times), 1.0, "ms");
}

/// Discovery over loopback, and pairing from the last digit on.
fn meeting(plan: &Plan, table: &mut Table) {
    let mut here = Host::under(&plan.dir, "here");
    let mut there = Host::under(&plan.dir, "there");
    for host in [&mut here, &mut there] {
        host.configure("[discovery]\nenabled = true\nloopback = true\n");
        host.start();
    }
    let id = there.id();
    let mut events = here.door();
    let seen: Vec<f64> = (0..plan.rounds)
        .map(|_| {
            there.stop();
            here.wait_peer_gone(&id);
            events.call("events.subscribe", json!({"kinds": ["peer:discovered"]}));
            there.start();
            let ready = Instant::now();
            events.event(|event| event["data"]["id"] == id.as_str());
            events = here.door();
            ms(ready.elapsed())
        })
        .collect();
    table.at_most("discovery, from READY of the other", median(&seen), 1000.0, "ms");

    // A PIN a round; more than ten an hour are refused when nobody sits at the keyboard.
    let paired: Vec<f64> = (0..plan.rounds.min(8))
        .map(|_| {
            let mut window = there.ctl_spawn(&["pair", "--json"]);
            let shown = window.json_line(PATIENCE);
            let target = format!("127.0.0.1:{}", shown["port"]);
            let started = Instant::now();
            here.ctl(&["pair", &target, "--pin", shown["pin"].as_str().expect("a PIN")]).ok();
            window.finish(PATIENCE).ok();
            ms(started.elapsed())
        })
        .collect();
    table.at_most("pairing after the last digit", median(&paired), 1000.0, "ms");
}

/// Two paired daemons that see each other and have nothing to do.
fn idle(plan: &Plan, table: &mut Table) -> anyhow::Result<()> {
    let mut here = Host::under(&plan.dir, "here");
    let mut there = Host::under(&plan.dir, "there");
    for host in [&mut here, &mut there] {
        host.configure("[discovery]\nenabled = true\nloopback = true\n");
        host.start();
    }
    pair(&here, &there);
    wait::nap(Duration::from_secs(plan.idle.min(10)));
    let before = switches(here.pid())?;
    let watched = Duration::from_secs(plan.idle);
    wait::nap(watched);
    let after = switches(here.pid())?;
    table.at_most("memory, idle", memory(here.pid(), "VmRSS")?, 20.0, "MiB");
    table.at_most("wake-ups when idle", (after - before) as f64 / watched.as_secs_f64(), 1.0, "a second");

    let file = there.path("large.bin");
    tree::large(&file, plan.large, 3)?;
    here.accept_all_from(&there);
    there.ctl(&["send", file.to_str().context("a path in UTF-8")?, "--to", &here.id()]).ok();
    for (figure, host) in [("receiving", &here), ("sending", &there)] {
        let peak = memory(host.pid(), "VmHWM")?;
        table.row(
            &format!("memory, {figure}, at its peak"),
            format!("{peak:.2} MiB"),
            "idle + 16 MiB a transfer",
            String::new(),
        );
    }
    Ok(())
}

/// kill -9 in the middle of a large file: how long until bytes flow again, and how many that were written already are
/// sent once more. What was under way in sockets at that moment is not counted: nobody had it.
fn resume(plan: &Plan, table: &mut Table) -> anyhow::Result<()> {
    let mut sender = Host::under(&plan.dir, "sender");
    let mut receiver = Host::under(&plan.dir, "receiver");
    sender.start();
    receiver.start();
    pair(&receiver, &sender);
    let target = receiver.accept_all_from(&sender);
    let file = sender.path("large.bin");
    tree::large(&file, plan.large, 4)?;

    let send = |sender: &Host| -> anyhow::Result<String> {
        let params = json!({"peer": receiver_id(sender), "paths": [file]});
        let transfer = sender.door().call("transfer.send", params);
        Ok(transfer["id"].as_str().context("an id")?.to_owned())
    };
    let clean = || -> anyhow::Result<()> { Ok(fs::remove_file(target.join("large.bin"))?) };

    let measure = |sender: &mut Host, receiver: &mut Host, kill_sender: bool| -> anyhow::Result<(f64, f64)> {
        let id = send(sender)?;
        wait::until_true("the middle of the file", PATIENCE, || verified(receiver) > plan.large / 2);
        let killed = if kill_sender { &mut *sender } else { &mut *receiver };
        killed.kill9();
        let stood = verified(receiver);
        let again = written(&target)?.saturating_sub(stood);
        let killed = if kill_sender { &mut *sender } else { &mut *receiver };
        killed.start();
        let ready = Instant::now();
        // What was in sockets when the sender died may have arrived meanwhile: that is no resumption.
        let stood = verified(receiver);
        wait::until_true("bytes that flow again", PATIENCE, || {
            let now = verified(receiver);
            now > stood || now == 0
        });
        let time = ms(ready.elapsed());
        sender.wait_transfer(&id, "done");
        clean()?;
        Ok((time, again as f64 / f64::from(1 << 20)))
    };
    for (kill_sender, who) in [(false, "the receiver"), (true, "the sender")] {
        let mut results = Vec::new();
        for _ in 0..plan.rounds {
            results.push(measure(&mut sender, &mut receiver, kill_sender)?);
        }
        let (times, again): (Vec<f64>, Vec<f64>) = results.into_iter().unzip();
        table.at_most(&format!("resume after kill -9 of {who}, from READY"), median(&times), 2000.0, "ms");
        table.at_most(&format!("written, and sent again after kill -9 of {who}"), median(&again), 1.0, "MiB");
    }
    Ok(())
}

/// The only peer of `sender`.
fn receiver_id(sender: &Host) -> Value {
    sender.door().call("trust.list", json!({}))["peers"][0]["id"].take()
}

/// Bytes of the large file that the receiver will not ask for again: what its journal holds, a digest of 32 bytes a
/// mebibyte behind a head of 36.
fn verified(receiver: &Host) -> u64 {
    let Ok(transfers) = fs::read_dir(receiver.path("data/parts")) else { return 0 };
    let journals = transfers.flatten().map(|transfer| transfer.path().join("0"));
    let length = journals.filter_map(|journal| fs::metadata(journal).ok()).map(|found| found.len()).max();
    (length.unwrap_or_default().saturating_sub(36) / 32) << 20
}

/// Bytes of the large file that the receiver has written.
fn written(target: &Path) -> anyhow::Result<u64> {
    for entry in fs::read_dir(target)? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().ends_with(".part") {
            return Ok(entry.metadata()?.len());
        }
    }
    Ok(0)
}

/// Context switches of all threads of `pid` so far.
fn switches(pid: u32) -> anyhow::Result<u64> {
    let mut sum = 0;
    for task in fs::read_dir(format!("/proc/{pid}/task"))? {
        let status = fs::read_to_string(task?.path().join("status"))?;
        let counts = status.lines().filter(|line| line.contains("ctxt_switches"));
        sum += counts.filter_map(|line| line.split_whitespace().last()?.parse::<u64>().ok()).sum::<u64>();
    }
    Ok(sum)
}

/// A line of /proc/PID/status in MiB.
pub fn memory(pid: u32, what: &str) -> anyhow::Result<f64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find(|line| line.starts_with(what)).with_context(|| format!("no {what}"))?;
    let kib: f64 = line.split_whitespace().nth(1).context("a number")?.parse()?;
    Ok(kib / 1024.0)
}
