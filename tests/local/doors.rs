//! The control socket: where it lies, who may use it, what is spoken there.

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::Command;

use kith_tests::door::Door;
use kith_tests::host::Host;
use kith_tests::process::run;
use kith_tests::{PATIENCE, binaries, require};
use serde_json::json;

use crate::support::{is_root, public_kithctl, text};

fn mode(path: &Path) -> u32 {
    fs::symlink_metadata(path).expect("it is there").mode() & 0o7777
}

#[test]
fn f42_socket_and_directory_are_for_the_owner() {
    let mut host = Host::new("anna");
    let socket = host.path("new/deeper/kith.sock");
    let kithd = host.kithd_command();
    let mut command = Command::new(kithd.get_program());
    command.args(kithd.get_args()).arg("--socket").arg(&socket).env_clear();
    command.envs(kithd.get_envs().filter_map(|(key, value)| Some((key, value?))));
    let daemon = kith_tests::process::Running::spawn(&mut command);
    kith_tests::wait::until_true("the socket", PATIENCE, || UnixStream::connect(&socket).is_ok());
    // It listens a moment before it has its mode; whoever is answered finds it so.
    Door::connect(&socket).call("daemon.status", json!({}));
    assert_eq!(mode(&socket), 0o600);
    assert_eq!(mode(&host.path("new/deeper")), 0o700);
    assert_eq!(mode(&host.path("new")), 0o700);
    drop(daemon);
    host.start();
    assert_eq!(mode(&host.socket()), 0o600);
}

#[test]
fn f42_a_stale_socket_of_a_killed_daemon_is_replaced() {
    let mut host = Host::running("anna");
    for _ in 0..3 {
        host.kill9();
        assert!(host.socket().exists());
        assert!(UnixStream::connect(host.socket()).is_err(), "nobody listens");
        host.start();
        assert!(host.status()["id"].is_string());
    }
    assert_eq!(host.stop(), 0);
    // A socket of somebody who left without a word is as stale.
    drop(UnixListener::bind(host.socket()).expect("the place is free"));
    host.start();
}

#[test]
fn f42_what_is_not_a_socket_is_never_removed() {
    let mut host = Host::new("anna");
    let victim = host.path("victim");
    fs::write(&victim, "mine").expect("the home is ours");
    let place = host.socket();
    let check = |host: &Host| {
        let output = host.kithd(&[]).expect(78);
        assert!(output.stderr.contains(text(&host.socket())), "{}", output.stderr);
    };
    fs::write(&place, "a letter").expect("the home is ours");
    check(&host);
    assert_eq!(fs::read_to_string(&place).expect("it is there"), "a letter");
    fs::remove_file(&place).expect("it is ours");
    fs::create_dir(&place).expect("the home is ours");
    check(&host);
    fs::remove_dir(&place).expect("it is there");
    // Links: to a file, to nowhere, to a real socket of somebody else.
    let other = Host::running("bert");
    for target in [victim.clone(), "/nowhere/at/all".into(), other.socket()] {
        symlink(&target, &place).expect("the home is ours");
        check(&host);
        assert_eq!(fs::read_link(&place).expect("it is there"), target);
        fs::remove_file(&place).expect("it is ours");
    }
    assert_eq!(fs::read_to_string(&victim).expect("it is there"), "mine");
    assert!(other.status()["id"].is_string());
    host.start();
}

#[test]
fn f42_a_path_that_is_too_long_is_refused_with_its_bounds() {
    let host = Host::new("anna");
    let long = host.path(&"x".repeat(120));
    let output = host.kithd(&["--socket", text(&long)]).expect(78);
    assert!(output.stderr.contains("107") && output.stderr.contains("--socket"), "{}", output.stderr);
    // The longest that there may be.
    let fits = host.path(&"x".repeat(107 - text(host.home()).len() - 1));
    let daemon = kith_tests::process::Running::spawn(host.kithd_command().arg("--socket").arg(&fits));
    kith_tests::wait::until_true("the socket", PATIENCE, || UnixStream::connect(&fits).is_ok());
    drop(daemon);
    // The client says so, too, instead of a word about sockets.
    let output = run(Command::new(binaries::kithctl()).arg("--socket").arg(&long).arg("status"), PATIENCE).expect(3);
    assert!(output.stderr.contains(text(&long)), "{}", output.stderr);
}

#[test]
fn f42_a_directory_that_everybody_may_write_to_is_refused() {
    let host = Host::new("anna");
    fs::create_dir(host.path("open")).expect("the home is ours");
    fs::set_permissions(host.path("open"), Permissions::from_mode(0o777)).expect("it is ours");
    let output = host.kithd(&["--socket", text(&host.path("open/kith.sock"))]).expect(78);
    assert!(output.stderr.contains("open"), "{}", output.stderr);
}

#[test]
fn f42_another_user_is_refused_whatever_the_mode_says() {
    if !is_root() {
        return require::skip("root", "only root can be somebody else");
    }
    let host = Host::running("anna");
    // Wide open on purpose: credentials decide.
    for path in [host.home().to_owned(), host.socket()] {
        fs::set_permissions(path, Permissions::from_mode(0o777)).expect("it is ours");
    }
    let stranger = |program: &Path, arguments: &[&str]| {
        let mut command = Command::new("setpriv");
        command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]).arg(program).args(arguments);
        run(command.env_clear().env("PATH", require::search_path()), PATIENCE)
    };
    let kithctl = public_kithctl(&host);
    for arguments in [["status"], ["peers"], ["inbox"]] {
        let home = text(host.home());
        let output = stranger(&kithctl, &[&["--home", home, "--json"], arguments.as_slice()].concat()).expect(4);
        assert_eq!(output.error()["error"]["code"], "access_denied");
        assert!(output.stdout.is_empty());
    }
    // With the modes as they are, the client says whose socket it is.
    fs::set_permissions(host.socket(), Permissions::from_mode(0o600)).expect("it is ours");
    let output = stranger(&kithctl, &["--home", text(host.home()), "status"]).expect(3);
    assert!(output.stderr.contains("user 0") && output.stderr.contains("user 65534"), "{}", output.stderr);
    fs::set_permissions(host.home(), Permissions::from_mode(0o700)).expect("it is ours");
}
