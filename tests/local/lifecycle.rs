//! Start and stop, as a person, a script and a service manager see them.

use std::fs;
use std::os::unix::net::{UnixListener, UnixStream};
use std::os::unix::process::CommandExt;
use std::process::Command;

use kith_tests::host::Host;
use kith_tests::process::{Running, run};
use kith_tests::{PATIENCE, binaries, require, wait};
use rustix::process::Signal;
use serde_json::json;

use crate::support::text;

/// Ends the daemon by `end`: it exits with 0, says STOPPING=1, and leaves no socket.
#[track_caller]
fn check_stop(end: impl FnOnce(&Host)) {
    let mut host = Host::running("anna");
    assert!(host.socket().exists());
    end(&host);
    host.wait_notice("STOPPING=1");
    assert_eq!(host.wait_exit(), 0, "{}", host.log());
    assert!(!host.socket().exists(), "the socket is removed");
    host.start();
    assert_eq!(host.stop(), 0);
}

#[test]
fn sigterm_ends_it_in_order() {
    check_stop(|host| host.signal(Signal::TERM));
}

#[test]
fn sigint_ends_it_in_order() {
    check_stop(|host| host.signal(Signal::INT));
}

#[test]
fn daemon_shutdown_is_answered_and_ends_it_in_order() {
    check_stop(|host| {
        let mut door = host.door();
        let result = door.call("daemon.shutdown", json!({}));
        assert!(result.is_object(), "{result}");
        assert!(door.rest().is_empty(), "nothing more is said");
    });
}

#[test]
fn it_stops_while_connections_and_a_window_are_open() {
    let mut host = Host::running("anna");
    let (mut idle, mut listening) = (host.door(), host.door());
    listening.call("events.subscribe", json!({}));
    listening.call("pairing.open", json!({}));
    assert_eq!(host.stop(), 0);
    assert!(idle.rest().is_empty());
    drop(listening.rest());
}

#[test]
fn the_device_is_the_same_after_a_restart_and_after_a_kill() {
    let mut host = Host::running("anna");
    let identity = host.door().call("daemon.identity", json!({}));
    let boot = host.door().call("daemon.hello", json!({"client": "test", "protocol": 1}))["boot_id"].clone();
    host.restart();
    assert_eq!(stripped(host.door().call("daemon.identity", json!({}))), stripped(identity.clone()));
    let other = host.door().call("daemon.hello", json!({"client": "test", "protocol": 1}))["boot_id"].clone();
    assert_ne!(boot, other, "another boot");
    host.kill9();
    assert!(host.socket().exists(), "a killed daemon leaves its socket");
    host.start();
    assert_eq!(stripped(host.door().call("daemon.identity", json!({}))), stripped(identity));
}

/// Debug builds add a field to some results.
fn stripped(mut object: serde_json::Value) -> serde_json::Value {
    if let Some(object) = object.as_object_mut() {
        object.remove("x_unknown");
    }
    object
}

#[test]
fn killed_while_starting_it_starts_again() {
    let mut random = kith_tests::random::Random::printed("killed while starting");
    let mut host = Host::new("anna");
    let mut id = None;
    for _ in 0..8 {
        host.launch();
        wait::nap(std::time::Duration::from_micros(random.within(0..60_000)));
        host.kill9();
        let key = fs::read(host.path("data/device.key")).ok();
        assert!(id.is_none() || key == id, "a key that was made stays");
        id = key;
    }
    host.start();
    assert!(id.is_none_or(|id| fs::read(host.path("data/device.key")).is_ok_and(|key| key == id)));
}

#[test]
fn the_first_lines_say_where_the_socket_is() {
    let host = Host::running("anna");
    let socket = host.socket();
    let log = host.log();
    let line = log.lines().find(|line| line.contains(text(&socket)));
    assert!(line.is_some_and(|line| line.contains("ready")), "{log}");
}

#[test]
fn the_log_is_json_where_that_is_chosen() {
    let host = Host::new("anna");
    host.configure("[discovery]\nenabled = false\n[log]\nformat = \"json\"\nlevel = \"debug\"\n");
    let mut host = host;
    host.start();
    host.stop();
    let log = host.log();
    assert!(log.lines().count() >= 2, "{log}");
    for line in log.lines() {
        let value: serde_json::Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        assert!(value["level"].is_string(), "{line}");
    }
}

/// kithd with a socket that somebody else made. `$$` is what LISTEN_PID has to say, so a shell stands in between.
fn activated(host: &Host, listener: &UnixListener) -> Running {
    use std::os::fd::AsRawFd;
    let fd = listener.as_raw_fd();
    let script = format!("exec 3<&{fd}; exec env LISTEN_PID=$$ LISTEN_FDS=1 \"$@\"");
    let kithd = host.kithd_command();
    let mut shell = Command::new("/bin/bash");
    shell.arg("-c").arg(script).arg("bash").arg(kithd.get_program()).args(kithd.get_args());
    shell.env_clear().envs(kithd.get_envs().filter_map(|(key, value)| Some((key, value?))));
    shell.process_group(0);
    // Inherited by the shell, which hands it on as descriptor 3.
    rustix::io::fcntl_setfd(listener, rustix::io::FdFlags::empty()).expect("a descriptor can be inherited");
    Running::spawn(&mut shell)
}

#[test]
fn the_socket_of_a_service_manager_is_used_and_left() {
    let host = Host::new("anna");
    let path = host.path("given.sock");
    let listener = UnixListener::bind(&path).expect("a socket in the home");
    let mut daemon = activated(&host, &listener);
    // The client may come before the daemon is ready: it waits in the socket's queue.
    let mut door = kith_tests::door::Door::connect(&path);
    let status = door.call("daemon.status", json!({}));
    assert!(status["id"].is_string());
    assert!(!host.socket().exists(), "no second socket");
    daemon.signal(Signal::TERM);
    assert!(daemon.line(PATIENCE).is_none());
    assert_eq!(daemon.finish(PATIENCE).status, 0);
    assert!(path.exists(), "the service manager's socket stays");
}

#[test]
fn systemd_activates_it_by_its_socket() {
    let Some(program) = require::program("systemd-socket-activate") else {
        return require::skip("systemd", "there is no systemd-socket-activate");
    };
    let host = Host::new("anna");
    let path = host.path("activated.sock");
    let kithd = host.kithd_command();
    let mut command = Command::new(program);
    command.arg("--listen").arg(&path).arg(kithd.get_program()).args(kithd.get_args());
    command.env_clear().envs(kithd.get_envs().filter_map(|(key, value)| Some((key, value?))));
    let manager = Running::spawn(&mut command);
    // Its file is there a moment before anybody listens.
    wait::until_true("the socket", PATIENCE, || UnixStream::connect(&path).is_ok());
    let output = run(Command::new(binaries::kithctl()).arg("--socket").arg(&path).args(["status", "--json"]), PATIENCE);
    assert_eq!(output.ok().json()["name"], "anna");
    manager.signal(Signal::TERM);
    assert_eq!(manager.finish(PATIENCE).status, 0);
}

#[test]
fn check_config_says_what_is_in_force_and_starts_nothing() {
    let host = Host::new("anna");
    host.configure("[outbox]\ndays = 3\n");
    let output = host.kithd(&["--check-config"]).ok();
    for part in ["days = 3", "name = \"anna\"", text(&host.path("data")), text(&host.socket()), text(&host.received())]
    {
        assert!(output.stdout.contains(part), "{part} in {}", output.stdout);
    }
    assert!(!host.path("data").exists(), "nothing is made");
    host.configure("[outbox]\ndys = 3\n");
    let output = host.kithd(&["--check-config"]).expect(78);
    assert!(output.stderr.contains("dys"), "{}", output.stderr);
    assert!(output.stdout.is_empty());
}

#[test]
fn version_and_help_need_no_home() {
    for argument in ["--version", "--help"] {
        let output = run(Command::new(binaries::kithd()).env_clear().arg(argument), PATIENCE).ok();
        assert!(output.stdout.contains("kithd"), "{}", output.stdout);
    }
    run(Command::new(binaries::kithd()).env_clear().arg("--no-such-flag"), PATIENCE).expect(2);
}

#[test]
fn it_starts_without_any_configuration() {
    let home = tempfile::tempdir().expect("a directory");
    let runtime = home.path().join("run");
    fs::create_dir(&runtime).expect("a directory");
    let command = |program: std::path::PathBuf| {
        let mut command = Command::new(program);
        command
            .env_clear()
            .env("HOME", home.path())
            .env("XDG_RUNTIME_DIR", &runtime)
            .env("PATH", require::search_path());
        command
    };
    let daemon = Running::spawn(&mut command(binaries::kithd()));
    let socket = runtime.join("kith/control.sock");
    wait::until_true("the socket", PATIENCE, || UnixStream::connect(&socket).is_ok());
    let status = run(command(binaries::kithctl()).args(["status", "--json"]), PATIENCE).ok().json();
    assert_eq!(status["socket"], text(&socket));
    assert_eq!(status["download_dir"], text(&home.path().join("Downloads/Kith")));
    assert!(home.path().join(".local/share/kith/device.key").exists());
    daemon.signal(Signal::TERM);
    assert_eq!(daemon.finish(PATIENCE).status, 0);
}
