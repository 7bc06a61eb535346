//! What kithd refuses to start with (78: starting again will not help), and what it repairs.

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;

use kith_tests::PATIENCE;
use kith_tests::host::Host;
use kith_tests::process::run;
use serde_json::{Value, json};

use crate::support::{is_root, text};

/// kithd ends with 78 and one message that names `what`, and nobody listens.
#[track_caller]
fn check_refused(host: &Host, arguments: &[&str], what: &[&str]) {
    let output = host.kithd(arguments).expect(78);
    for what in what {
        assert!(output.stderr.contains(what), "{what:?} in {:?}", output.stderr);
    }
    assert!(output.stdout.is_empty(), "{}", output.stdout);
}

fn mode(path: &Path) -> u32 {
    fs::symlink_metadata(path).expect("it is there").mode() & 0o7777
}

#[test]
fn a_wrong_configuration_is_refused_by_its_key() {
    let host = Host::new("anna");
    for (toml, named) in [
        ("nmae = \"x\"", "nmae"),
        ("[peer]\nport = \"many\"", "port"),
        ("[peer]\nport = 80", "peer.port"),
        ("[discovery]\nenabld = true", "enabld"),
        ("[receive]\ndir = \"here\"", "receive.dir"),
        ("[receive]\nhook = [\"notify-send\"]", "receive.hook"),
        ("[outbox]\ndays = 0", "outbox.days"),
        ("[log]\nlevel = \"loud\"", "loud"),
        ("[teleport]", "teleport"),
    ] {
        host.configure(toml);
        check_refused(&host, &[], &[named, "config.toml"]);
    }
    fs::write(host.path("config.toml"), b"name = \"\xff\"").expect("the home is ours");
    check_refused(&host, &[], &["config.toml"]);
    assert!(!host.path("data").exists(), "nothing is made before the configuration is read");
}

#[test]
fn a_configuration_that_was_named_must_be_there() {
    let host = Host::new("anna");
    check_refused(&host, &["--config", "/nowhere/kith.toml"], &["/nowhere/kith.toml"]);
}

#[test]
fn a_second_instance_is_refused_and_the_first_goes_on() {
    let host = Host::running("anna");
    let before = host.status()["pid"].clone();
    check_refused(&host, &[], &["another kithd", text(&host.path("data"))]);
    check_refused(&host, &["--socket", text(&host.path("other.sock"))], &["another kithd"]);
    assert_eq!(host.status()["pid"], before);
}

#[test]
fn a_port_that_is_taken_is_refused_where_it_was_chosen() {
    let first = Host::running("anna");
    let port = first.status()["peer_port"].clone();
    let second = Host::new("bert");
    second.configure(&format!("[discovery]\nenabled = false\n[peer]\nport = {port}\n"));
    check_refused(&second, &[], &[&port.to_string()]);
    assert!(first.status()["id"].is_string());
}

#[test]
fn a_lost_card_is_repaired_from_the_key() {
    let mut host = Host::running("anna");
    let identity = host.door().call("daemon.identity", json!({}));
    host.stop();
    let card = host.path("data/device.json");
    for damage in [None, Some("{"), Some("{\"id\":\"0000000000000000\"}")] {
        match damage {
            None => fs::remove_file(&card).expect("the card is there"),
            Some(text) => fs::write(&card, text).expect("the home is ours"),
        }
        host.start();
        let now = host.door().call("daemon.identity", json!({}));
        assert_eq!((&now["id"], &now["public_key"]), (&identity["id"], &identity["public_key"]));
        host.stop();
        let read: Value = serde_json::from_slice(&fs::read(&card).expect("it is back")).expect("JSON");
        assert_eq!((&read["id"], &read["name"]), (&identity["id"], &json!("anna")));
    }
    assert_eq!(mode(&card), 0o644);
}

#[test]
fn h81_a_lost_key_beside_a_database_is_refused_unless_told() {
    let mut host = Host::running("anna");
    let id = host.id();
    host.stop();
    let key = host.path("data/device.key");
    fs::remove_file(&key).expect("the key is there");
    check_refused(&host, &[], &["device.key", "--new-identity"]);
    assert!(!key.exists(), "no new key without being told");
    let mut command = host.kithd_command();
    let daemon = kith_tests::process::Running::spawn(command.arg("--new-identity"));
    kith_tests::wait::until_true("the socket", PATIENCE, || {
        std::os::unix::net::UnixStream::connect(host.socket()).is_ok()
    });
    assert_ne!(host.id(), id);
    daemon.signal(rustix::process::Signal::TERM);
    assert_eq!(daemon.finish(PATIENCE).status, 0);
    let made = fs::read(&key).expect("a key was made");
    // The flag does not throw a key away that is there.
    let daemon = kith_tests::process::Running::spawn(host.kithd_command().arg("--new-identity"));
    kith_tests::wait::until_true("the socket", PATIENCE, || {
        std::os::unix::net::UnixStream::connect(host.socket()).is_ok()
    });
    drop(daemon);
    assert_eq!(fs::read(&key).expect("it is there"), made);
}

#[test]
fn h81_a_key_that_others_may_read_is_refused() {
    let mut host = Host::running("anna");
    let key = host.path("data/device.key");
    assert_eq!(mode(&key), 0o600);
    host.stop();
    for wide in [0o644, 0o640, 0o604, 0o620] {
        fs::set_permissions(&key, Permissions::from_mode(wide)).expect("it is ours");
        check_refused(&host, &[], &["device.key"]);
        assert_eq!(mode(&key), wide, "it is not repaired behind one's back");
    }
    fs::set_permissions(&key, Permissions::from_mode(0o400)).expect("it is ours");
    host.start();
}

#[test]
fn a_damaged_key_is_refused() {
    let mut host = Host::running("anna");
    host.stop();
    let key = host.path("data/device.key");
    let good = fs::read(&key).expect("the key");
    for bad in [&good[..31], &[&good[..], b"x"].concat(), b""] {
        fs::write(&key, bad).expect("it is ours");
        check_refused(&host, &[], &["device.key"]);
        assert_eq!(fs::read(&key).expect("the key"), bad);
    }
    fs::remove_file(&key).expect("it is ours");
    fs::create_dir(&key).expect("the home is ours");
    check_refused(&host, &[], &["device.key"]);
}

#[test]
fn a_database_from_the_future_is_refused_and_not_touched() {
    let mut host = Host::running("anna");
    host.stop();
    let database = host.path("data/kith.db");
    // What is in the write-ahead log would hide the change.
    for log in ["data/kith.db-wal", "data/kith.db-shm"] {
        drop(fs::remove_file(host.path(log)));
    }
    let mut bytes = fs::read(&database).expect("the database");
    // `user_version`, bytes 60 to 63 of the first page.
    bytes[60..64].copy_from_slice(&999_u32.to_be_bytes());
    fs::write(&database, &bytes).expect("the home is ours");
    check_refused(&host, &[], &["kith.db", "999", "newer"]);
    assert_eq!(fs::read(&database).expect("the database")[60..64], 999_u32.to_be_bytes());
}

#[test]
fn what_is_private_is_private() {
    let host = Host::running("anna");
    for (path, wanted) in [
        ("data", 0o700),
        ("data/device.key", 0o600),
        ("data/device.json", 0o644),
        ("data/kith.db", 0o600),
        ("data/kith.db-wal", 0o600),
        ("data/lock", 0o600),
        ("control.sock", 0o600),
    ] {
        assert_eq!(mode(&host.path(path)), wanted, "{path}");
    }
}

#[test]
fn what_is_private_is_private_whatever_the_umask() {
    let mut host = Host::new("anna");
    let kithd = host.kithd_command();
    let mut shell = std::process::Command::new("/bin/sh");
    shell.args(["-c", "umask 0; exec \"$@\"", "sh"]).arg(kithd.get_program()).args(kithd.get_args());
    shell.env_clear().envs(kithd.get_envs().filter_map(|(key, value)| Some((key, value?))));
    let daemon = kith_tests::process::Running::spawn(&mut shell);
    kith_tests::wait::until_true("the socket", PATIENCE, || {
        std::os::unix::net::UnixStream::connect(host.socket()).is_ok()
    });
    // It listens a moment before it has its mode; whoever is answered finds it so.
    assert!(host.status()["id"].is_string());
    for path in ["data/device.key", "data/kith.db", "data/kith.db-wal", "control.sock"] {
        assert_eq!(mode(&host.path(path)) & 0o077, 0, "{path}");
    }
    assert_eq!(mode(&host.path("data")) & 0o077, 0);
    daemon.signal(rustix::process::Signal::TERM);
    assert_eq!(daemon.finish(PATIENCE).status, 0);
    host.start();
}

#[test]
fn f42_a_data_directory_of_others_is_refused() {
    let host = Host::new("anna");
    fs::create_dir(host.path("data")).expect("the home is ours");
    fs::set_permissions(host.path("data"), Permissions::from_mode(0o777)).expect("it is ours");
    check_refused(&host, &[], &["data"]);
    if is_root() {
        fs::set_permissions(host.path("data"), Permissions::from_mode(0o700)).expect("it is ours");
        std::os::unix::fs::chown(host.path("data"), Some(65534), None).expect("root may");
        // Not root: for root every directory is good enough.
        let kithd = host.kithd_command();
        let mut command = std::process::Command::new("setpriv");
        command.args(["--reuid=65533", "--regid=65533", "--clear-groups"]);
        command.arg(kithd.get_program()).args(kithd.get_args()).env_clear();
        command.envs(kithd.get_envs().filter_map(|(key, value)| Some((key, value?))));
        assert_ne!(run(&mut command, PATIENCE).status, 0);
    }
}

#[test]
fn a_dangling_link_in_the_place_of_the_data_is_no_crash() {
    let host = Host::new("anna");
    symlink("/nowhere/at/all", host.path("data")).expect("the home is ours");
    let output = host.kithd(&[]);
    assert!([70, 78].contains(&output.status), "{}: {}", output.status, output.stderr);
    assert!(output.stderr.contains("data"), "{}", output.stderr);
}
