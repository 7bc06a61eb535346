//! kithctl: exit codes, errors, and the daemon that is not there.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::process::{Command, Stdio};

use kith_tests::host::Host;
use kith_tests::process::{Running, run};
use kith_tests::{PATIENCE, binaries, require, wait};
use rustix::process::Signal;
use serde_json::Value;

use crate::support::{file, friends, is_root, public_kithctl, text};

/// `kithctl` in an empty environment.
fn bare(arguments: &[&str]) -> Command {
    let mut command = Command::new(binaries::kithctl());
    command.env_clear().args(arguments);
    command
}

#[test]
fn exit_codes_follow_the_kind_of_failure() {
    let (anna, _bert) = friends();
    let stray = text(&file(&anna, "stray", 3)).to_owned();
    for (arguments, code, exit) in [
        (vec!["no-such-command"], "usage", 2),
        (vec!["send", "x"], "usage", 2),
        (vec!["pair", "x", "--pin", "12"], "usage", 2),
        (vec!["trust", "policy", "bert", "--max-file", "1.5G"], "usage", 2),
        (vec!["call", "no.such"], "unknown_method", 2),
        (vec!["call", "daemon.status", r#"{"x":1}"#], "unknown_param", 2),
        (vec!["call", "daemon.status", "[1]"], "usage", 2),
        (vec!["call", "daemon.status", "{"], "usage", 2),
        (vec!["trust", "show", "nobody"], "peer_not_found", 5),
        (vec!["trust", "rename", "nobody", "x"], "peer_not_found", 5),
        (vec!["send", &stray, "--to", "nobody"], "peer_not_found", 5),
        (vec!["send", "/no/such/file", "--to", "bert"], "file_not_found", 5),
        (vec!["transfers", "show", "nothing"], "transfer_not_found", 5),
        (vec!["transfers", "retry", "nothing"], "transfer_not_found", 5),
        (vec!["inbox", "accept", "nothing"], "transfer_not_found", 5),
        (vec!["inbox", "reject", "nothing"], "transfer_not_found", 5),
        (vec!["pair", "127.0.0.1:1", "--pin", "123456"], "peer_offline", 7),
        (vec!["pair", "kith://pair?nonsense"], "invalid_param", 2),
        (vec!["send", "-", "--name", "../x", "--to", "bert"], "invalid_param", 2),
        (vec!["send", "-", "--name", "a/b", "--to", "bert"], "invalid_param", 2),
    ] {
        // A machine too busy to look at a file within half a second tells of a transfer first: it is asked again.
        let output = wait::until("an error and nothing else", PATIENCE, || {
            let output = anna.ctl(&[&["--json"], arguments.as_slice()].concat());
            output.stdout.is_empty().then_some(output)
        });
        assert_eq!(output.status, exit, "{arguments:?}: {}", output.stderr);
        let error = output.error();
        assert_eq!(error["error"]["code"], code, "{arguments:?}: {error}");
        assert!(error["error"]["message"].as_str().is_some_and(|message| !message.is_empty()), "{error}");
        assert_eq!(output.stderr.lines().count(), 1, "{arguments:?}: {}", output.stderr);
        // For people the same, in words.
        let output = anna.ctl(&arguments);
        assert!(output.status == exit || arguments[0] == "call", "{arguments:?}");
        assert!(!output.stderr.is_empty() && output.stdout.is_empty(), "{arguments:?}");
    }
    let output = anna.ctl(&["call", "daemon.status"]).ok();
    assert_eq!(output.json()["name"], "anna");
    assert!(output.stderr.is_empty(), "success says nothing beside the result: {}", output.stderr);
}

#[test]
fn an_ambiguous_peer_lists_the_candidates() {
    let (anna, bert) = friends();
    let other = Host::running("bert");
    kith_tests::host::pair(&anna, &other);
    let output = anna.ctl(&["--json", "trust", "show", "bert"]).expect(6);
    let error = output.error();
    assert_eq!(error["error"]["code"], "peer_ambiguous");
    for id in [bert.id(), other.id()] {
        assert!(error["error"]["message"].as_str().is_some_and(|message| message.contains(&id)), "{error}");
    }
    assert_eq!(anna.ctl_json(&["trust", "show", &other.id()[..12]])["id"], other.id());
    assert_eq!(anna.ctl_refused(&["trust", "rename", &other.id(), "bert"]), ("name_taken".to_owned(), 6));
    anna.ctl(&["trust", "rename", &other.id(), "bertha"]).ok();
    assert_eq!(anna.ctl_json(&["trust", "show", "bertha"])["id"], other.id());
    assert_eq!(anna.ctl_json(&["trust", "show", "bert"])["id"], bert.id());
}

/// Exit 3, and a message that says all of `said`.
#[track_caller]
fn check_unreachable(command: &mut Command, said: &[&str]) {
    let output = run(command.arg("status"), PATIENCE).expect(3);
    for said in said {
        assert!(output.stderr.contains(said), "{said:?} in {:?}", output.stderr);
    }
    assert!(output.stdout.is_empty());
    let output = run(command.arg("--json"), PATIENCE).expect(3);
    assert_eq!(output.error()["error"]["code"], "daemon_unreachable");
    assert!(output.error()["error"]["hint"].is_string(), "the next step: {}", output.stderr);
}

#[test]
fn no_socket_says_which_path_and_who_named_it() {
    let host = Host::new("anna");
    let (home, socket) = (text(host.home()).to_owned(), text(&host.socket()).to_owned());
    let next = format!("kithd --home {home}");
    check_unreachable(&mut bare(&["--home", &home]), &["not running", &socket, "--home", &next]);
    check_unreachable(bare(&[]).env("KITH_HOME", &home), &["not running", &socket, "KITH_HOME", &next]);
    check_unreachable(&mut bare(&["--socket", "/tmp/no.sock"]), &["/tmp/no.sock", "--socket"]);
    check_unreachable(bare(&[]).env("KITH_SOCKET", "/tmp/no.sock"), &["/tmp/no.sock", "KITH_SOCKET"]);
    let default = host.path("run/kith/control.sock");
    let runtime = host.path("run");
    check_unreachable(
        bare(&[]).env("XDG_RUNTIME_DIR", &runtime).env("HOME", host.home()),
        &[text(&default), "XDG_RUNTIME_DIR", "kithd"],
    );
    // Flags go before the environment, `--socket` before `--home`.
    check_unreachable(bare(&["--home", &home]).env("KITH_SOCKET", "/tmp/no.sock"), &[&socket]);
    check_unreachable(&mut bare(&["--home", &home, "--socket", "/tmp/no.sock"]), &["/tmp/no.sock"]);
}

#[test]
fn a_stale_socket_says_that_the_daemon_crashed() {
    let mut host = Host::running("anna");
    host.kill9();
    let socket = text(&host.socket()).to_owned();
    check_unreachable(&mut host.ctl_command(&[]), &["any more", &socket, "kithd --home"]);
}

#[test]
fn a_socket_that_may_not_be_used_says_whose_it_is() {
    if !is_root() {
        return require::skip("root", "only root can be somebody else");
    }
    let host = Host::running("anna");
    fs::set_permissions(host.home(), Permissions::from_mode(0o755)).expect("it is ours");
    let kithctl = public_kithctl(&host);
    let mut command = Command::new("setpriv");
    command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]).arg(kithctl).arg("--home").arg(host.home());
    command.env_clear().env("PATH", require::search_path());
    check_unreachable(&mut command, &["user 0", "user 65534"]);
}

#[test]
fn one_who_says_nothing_or_nonsense_is_told_apart() {
    let host = Host::new("anna");
    let silent = UnixListener::bind(host.socket()).expect("the home is ours");
    let home = text(host.home()).to_owned();
    check_unreachable(&mut bare(&["--home", &home, "--timeout", "1"]), &["did not answer"]);
    drop(silent);
    for (reply, said) in [("HTTP/1.1 400 Bad Request\r\n\r\n", "not kithd"), ("", "closed")] {
        let place = host.path(&format!("{}.sock", said.len()));
        let listener = UnixListener::bind(&place).expect("the home is ours");
        let server = std::thread::spawn(move || {
            for _ in 0..2 {
                let (stream, _) = listener.accept().expect("a caller");
                let mut asked = String::new();
                let mut reader = std::io::BufReader::new(&stream);
                std::io::BufRead::read_line(&mut reader, &mut asked).expect("a request");
                std::io::Write::write_all(&mut &stream, reply.as_bytes()).expect("the caller reads");
            }
        });
        check_unreachable(&mut bare(&["--socket", text(&place)]), &[said]);
        server.join().expect("it ends");
    }
}

#[test]
fn the_daemon_that_goes_away_in_the_middle_is_exit_3() {
    let mut host = Host::running("anna");
    let mut events = host.ctl_spawn(&["events", "--json"]);
    let mut window = host.ctl_spawn(&["pair", "--json"]);
    assert!(events.json_line(PATIENCE)["cursor"].is_u64());
    assert!(window.json_line(PATIENCE)["pin"].is_string());
    host.kill9();
    for running in [events, window] {
        let output = running.finish(PATIENCE).expect(3);
        assert_eq!(output.error()["error"]["code"], "daemon_unreachable");
    }
}

#[test]
fn an_interrupt_is_130() {
    let host = Host::running("anna");
    for (arguments, signal) in [
        (vec!["events", "--json"], Signal::INT),
        (vec!["peers", "--watch", "--json"], Signal::INT),
        (vec!["peers", "--watch", "--json"], Signal::TERM),
        (vec!["pair", "--json"], Signal::INT),
    ] {
        let mut running = host.ctl_spawn(&arguments);
        running.json_line(PATIENCE);
        running.signal(signal);
        assert_eq!(running.finish(PATIENCE).status, 130, "{arguments:?}");
    }
    assert!(host.status()["id"].is_string());
}

#[test]
fn a_broken_pipe_is_success_without_a_word() {
    let host = Host::running("anna");
    let (kithctl, home) = (binaries::kithctl(), host.home());
    for arguments in ["status", "man", "completions bash", "doctor --json", "--help", "events"] {
        let script =
            format!("{{ {} --home {} {arguments}; echo $? >&3; }} 3>&1 >&4 4>&- | cat", text(&kithctl), text(home));
        // Standard output of kithctl is a pipe that nobody reads any more.
        let script = format!("exec 4> >(exec true); wait $! 2>/dev/null; {script}");
        let mut shell = Command::new("/bin/bash");
        shell.args(["-c", &script]).env_clear().env("PATH", require::search_path()).stdin(Stdio::null());
        let output = run(&mut shell, PATIENCE);
        let expected = if arguments.starts_with("doctor") { ["0", "1"].as_slice() } else { &["0"] };
        assert!(expected.contains(&output.stdout.trim()), "{arguments}: {} {}", output.stdout, output.stderr);
        assert!(output.stderr.is_empty(), "{arguments}: {}", output.stderr);
    }
}

#[test]
fn completions_and_manual_need_no_daemon() {
    for (shell, holds) in [("bash", "_kithctl"), ("zsh", "#compdef kithctl"), ("fish", "complete -c kithctl")] {
        let output = run(&mut bare(&["completions", shell]), PATIENCE).ok();
        assert!(output.stdout.contains(holds), "{shell}");
    }
    if let Some(bash) = require::program("bash") {
        let script = run(&mut bare(&["completions", "bash"]), PATIENCE).ok().stdout;
        let mut check = Running::spawn_fed(Command::new(bash).arg("-n"));
        assert!(check.feed(script.as_bytes()));
        assert!(check.finish(PATIENCE).ok().stderr.is_empty());
    }
    let manual = run(&mut bare(&["man"]), PATIENCE).ok().stdout;
    for page in ["kithctl", "kithctl-send", "kithctl-trust-policy", "kithctl-inbox-accept"] {
        assert!(manual.contains(&format!(".TH {page} 1")), "{page}");
    }
    run(&mut bare(&["completions", "tcsh"]), PATIENCE).expect(2);
}

#[test]
fn every_command_has_help_with_an_example() {
    let mut pending = vec![Vec::<String>::new()];
    let mut seen = 0;
    while let Some(path) = pending.pop() {
        let mut arguments: Vec<&str> = path.iter().map(String::as_str).collect();
        arguments.push("--help");
        let help = run(&mut bare(&arguments), PATIENCE).ok().stdout;
        let names = help.lines().skip_while(|line| *line != "Commands:").skip(1).take_while(|line| !line.is_empty());
        let below: Vec<String> = names
            .filter(|line| line.starts_with("  ") && !line.starts_with("   "))
            .filter_map(|line| line.split_whitespace().next())
            .filter(|name| *name != "help")
            .map(str::to_owned)
            .collect();
        if path.len() == 1 {
            assert!(help.contains("Example"), "kithctl {path:?} has no example");
        }
        pending.extend(below.into_iter().map(|name| [path.clone(), vec![name]].concat()));
        seen += 1;
    }
    assert!(seen > 25, "only {seen} commands were found");
    let version = run(&mut bare(&["--version"]), PATIENCE).ok().stdout;
    assert!(version.starts_with("kithctl "), "{version}");
}

#[test]
fn doctor_fails_when_a_check_does() {
    let host = Host::running("anna");
    // Discovery is off in these tests, and a device alone with its loopback is no network: doctor says so.
    let output = host.ctl(&["doctor", "--json"]).expect(1);
    let checks = output.json()["checks"].clone();
    let checks = checks.as_array().expect("checks");
    let bad: Vec<&Value> = checks.iter().filter(|check| check["ok"] == false).collect();
    assert!(bad.iter().any(|check| check["name"] == "discovery"), "{checks:?}");
    assert!(bad.iter().all(|check| check["hint"].is_string()), "{checks:?}");
    assert!(checks.iter().any(|check| check["name"] == "peer door" && check["ok"] == true), "{checks:?}");
    assert_eq!(output.error()["error"]["code"], "checks_failed");
}
