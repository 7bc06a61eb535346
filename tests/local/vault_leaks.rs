//! Where values are not: files, logs, events, memory.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use kith_tests::host::Host;
use kith_tests::process::Running;
use kith_tests::random::Random;
use kith_tests::{PATIENCE, require};
use rustix::process::Signal;
use serde_json::{Value, json};

/// Every file below `dir`.
fn files(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).expect("a directory").filter_map(Result::ok);
    entries
        .flat_map(|entry| match entry.file_type() {
            Ok(kind) if kind.is_dir() => files(&entry.path()),
            Ok(kind) if kind.is_file() => vec![entry.path()],
            _ => Vec::new(),
        })
        .collect()
}

fn has(bytes: &[u8], wanted: &[u8]) -> bool {
    // The first byte first: most of what is searched is not it.
    let candidates = bytes.windows(wanted.len());
    candidates.filter(|window| window[0] == wanted[0]).any(|window| window == wanted)
}

/// What of `wanted` is in the memory of the process; `None` where the system does not let us look.
fn in_memory(pid: u32, wanted: &[String]) -> Option<Vec<String>> {
    let memory = File::open(format!("/proc/{pid}/mem")).ok()?;
    let maps = fs::read_to_string(format!("/proc/{pid}/maps")).ok()?;
    let mut found = Vec::new();
    for line in maps.lines().filter(|line| line.contains(" rw")) {
        let (from, to) = line.split(' ').next()?.split_once('-')?;
        let (from, to) = (u64::from_str_radix(from, 16).ok()?, u64::from_str_radix(to, 16).ok()?);
        let mut bytes = vec![0; usize::try_from(to - from).ok()?];
        if memory.read_exact_at(&mut bytes, from).is_ok() {
            let here = wanted.iter().filter(|it| has(&bytes, it.as_bytes()));
            found.extend(here.map(|it| format!("{it} in {line}")));
        }
    }
    Some(found)
}

/// `kithctl call METHOD -`: the parameters come from standard input, as a person's would.
#[track_caller]
fn call(host: &Host, method: &str, params: &Value) -> Value {
    let mut command = host.ctl_command(&["call", method, "-"]);
    let mut running = Running::spawn_fed(&mut command);
    running.feed(params.to_string().as_bytes());
    running.finish(PATIENCE).ok().json()
}

/// Words that are nowhere else, one for each use.
fn words(random: &mut Random) -> impl FnMut() -> String {
    move || (0..24).map(|_| char::from(b'a' + u8::try_from(random.within(0..26)).expect("a letter"))).collect()
}

#[test]
fn h79_values_are_in_no_file_no_log_no_event_and_after_a_lock_not_in_memory() {
    let mut host = Host::new("anna");
    host.configure("[discovery]\nenabled = false\n[log]\nlevel = \"trace\"\n");
    host.start();
    let mut random = Random::printed("planted values");
    let mut word = words(&mut random);
    let [added, edited, imported, key, short, passphrase, other, wrong]: [String; 8] = std::array::from_fn(|_| word());
    // Quotes and newlines take another way through the parser.
    let escaped = format!("\"{added}\"\n\\{added}\t");
    let s3 = json!({"region": "eu", "accessKeyId": key, "secretAccessKey": short}).to_string();

    call(&host, "secrets.add", &json!({"name": "a", "type": "plain", "value": escaped}));
    assert_eq!(call(&host, "secrets.view", &json!({"name": "a"}))["value"], escaped);
    call(&host, "secrets.edit", &json!({"name": "a", "value": format!("{edited}{}", "-".repeat(60_000))}));
    call(&host, "secrets.view", &json!({"name": "a"}));
    call(
        &host,
        "secrets.import",
        &json!({"secrets": [
            {"name": "b", "type": "s3-credentials", "value": s3}, {"name": "c", "type": "plain", "value": imported},
        ]}),
    );
    call(&host, "vault.passphrase", &json!({"new": passphrase}));
    call(&host, "vault.passphrase", &json!({"current": passphrase, "new": other}));
    let mut door = host.door();
    assert_eq!(door.refused("vault.unlock", json!({"passphrase": wrong})), "wrong_passphrase");
    assert_eq!(
        door.refused("secrets.add", json!({"name": "x", "type": "s3-credentials", "value": added})),
        "invalid_param"
    );
    drop(door);
    let mut events = host.door();
    events.call("events.subscribe", json!({"since": 0}));
    call(&host, "vault.lock", &json!({}));
    let mut told = String::new();
    events.event(|event| {
        told += &event.to_string();
        event["data"]["state"] == "locked"
    });

    let planted = [added, edited, imported, key, short, passphrase, other, wrong];
    for word in &planted {
        assert!(!told.contains(word.as_str()), "an event says {word}");
        for file in files(host.home()) {
            let bytes = fs::read(&file).unwrap_or_default();
            assert!(!has(&bytes, word.as_bytes()), "{} has {word}", file.display());
        }
    }
    match in_memory(host.pid(), &planted) {
        Some(found) => assert_eq!(found, Vec::<String>::new()),
        None => require::skip("root", "the memory of another process can be read by root only"),
    }
    let limits = fs::read_to_string(format!("/proc/{}/limits", host.pid())).expect("it runs");
    let core = limits.lines().find(|line| line.starts_with("Max core file size")).expect("a limit");
    assert_eq!(core.split_whitespace().skip(4).take(2).collect::<Vec<_>>(), ["0", "0"]);
    host.signal(Signal::ABORT);
    host.wait_exit();
    assert!(
        !files(host.home())
            .iter()
            .any(|file| file.file_name().is_some_and(|it| it.to_string_lossy().starts_with("core")))
    );
}

#[test]
fn h79_the_search_of_memory_finds_what_is_there() {
    let host = Host::running("anna");
    let name = "thisisthenameofadatabase";
    host.door().call("databases.add", json!({"name": name, "path": "/d"}));
    match in_memory(host.pid(), &[name.to_owned()]) {
        Some(found) => assert!(!found.is_empty(), "the page of the database is in SQLite's cache"),
        None => require::skip("root", "the memory of another process can be read by root only"),
    }
}
