//! Avahi, the other mDNS responder of Linux: it sees our service with its TXT record, and we see one that it publishes;
//! from another host, and on the same one, where both share port 5353.
//!
//! Needs `avahi-daemon`, `avahi-browse`, `avahi-publish-service` and `dbus-daemon`; `KITH_REQUIRE=avahi` turns a skip
//! into a failure. The bus is one of our own: /run of a lab belongs to the lab.

use std::fs;
use std::path::PathBuf;

use kith_tests::host::Host;
use kith_tests::lab::Lab;
use kith_tests::process::Running;
use kith_tests::{PATIENCE, require, wait};

const PROGRAMS: [&str; 4] = ["dbus-daemon", "avahi-daemon", "avahi-browse", "avahi-publish-service"];

const BUS: &str = r#"<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig>
  <type>system</type>
  <listen>unix:path=/run/dbus/system_bus_socket</listen>
  <auth>EXTERNAL</auth>
  <policy context="default">
    <allow send_destination="*"/>
    <allow receive_sender="*"/>
    <allow own="*"/>
    <allow user="*"/>
  </policy>
</busconfig>
"#;

const AVAHI: &str = "[server]\nuse-ipv4=yes\nuse-ipv6=yes\nenable-dbus=yes\nallow-interfaces=eth0\n\
                     [wide-area]\nenable-wide-area=no\n[publish]\npublish-workstation=no\n";

/// A bus and an avahi on one host of a lab.
struct Avahi<'lab> {
    lab: &'lab Lab,
    host: usize,
    _bus: Running,
    _daemon: Running,
    _files: tempfile::TempDir,
}

impl<'lab> Avahi<'lab> {
    #[track_caller]
    fn start(lab: &'lab Lab, host: usize) -> Self {
        let files = tempfile::tempdir().expect("a temporary directory");
        let file = |name: &str, content: &str| -> PathBuf {
            let path = files.path().join(name);
            fs::write(&path, content).expect("the directory is ours");
            path
        };
        let bus_config = file("bus.conf", BUS);
        let avahi_config = file("avahi.conf", AVAHI);
        lab.exec(host, &["mkdir", "-p", "/run/dbus", "/run/avahi-daemon"]).ok();
        let mut bus = lab.command(host, "dbus-daemon");
        let bus = Running::spawn(bus.arg("--config-file").arg(bus_config).args(["--nofork", "--nopidfile"]));
        let there = || lab.exec(host, &["test", "-S", "/run/dbus/system_bus_socket"]).status == 0;
        wait::until_true("the bus", PATIENCE, there);
        let mut daemon = lab.command(host, "avahi-daemon");
        let options = ["--no-drop-root", "--no-chroot", "--no-rlimits", "--no-proc-title"];
        let mut daemon = Running::spawn(daemon.arg("--file").arg(avahi_config).args(options));
        wait::until_true("avahi", PATIENCE, || {
            assert!(daemon.is_running(), "avahi-daemon has ended");
            lab.exec(host, &["avahi-browse", "--parsable", "--terminate", "_kith._tcp"]).status == 0
        });
        Self { lab, host, _bus: bus, _daemon: daemon, _files: files }
    }

    /// What avahi resolves of our service now: `=;interface;protocol;name;type;domain;host;address;port;txt`.
    fn sees(&self) -> Vec<Vec<String>> {
        let words = ["avahi-browse", "--resolve", "--parsable", "--no-db-lookup", "--terminate", "_kith._tcp"];
        let output = self.lab.exec(self.host, &words);
        let lines = output.stdout.lines().filter(|line| line.starts_with("=;"));
        lines.map(|line| line.splitn(10, ';').map(str::to_owned).collect()).collect()
    }

    fn publish(&self, words: &[&str]) -> Running {
        Running::spawn(self.lab.command(self.host, "avahi-publish-service").args(words))
    }
}

/// `None` where something is missing.
fn lab(hosts: usize) -> Option<Lab> {
    let missing: Vec<_> = PROGRAMS.into_iter().filter(|program| require::program(program).is_none()).collect();
    if !missing.is_empty() {
        require::skip("avahi", &format!("not installed: {}", missing.join(", ")));
        return None;
    }
    Lab::new(hosts)
}

#[test]
fn avahi_sees_our_service_and_its_end() {
    let Some(lab) = lab(2) else { return };
    let avahi = Avahi::start(&lab, 2);
    let mut anna = Host::running_on(&lab, 1, "anna's nas");
    let here = Host::running_on(&lab, 2, "bert");
    for host in [&anna, &here] {
        let (id, address) = (host.id(), host.address());
        let (ip, port) = address.rsplit_once(':').expect("IP:PORT");
        let ours = |fields: &Vec<String>| {
            fields.get(7).is_some_and(|it| it == ip) && fields.get(8).is_some_and(|it| it == port)
        };
        let seen = wait::until("avahi to resolve our service", PATIENCE, || avahi.sees().into_iter().find(ours));
        let (name, txt) = (&seen[3], &seen[9]);
        assert!(name.contains(&id[..8]), "the instance is named by the id, too: {name}");
        for text in [format!("\"device_id={id}\""), format!("\"device_name={}\"", host.name()), "\"v=1\"".to_owned()] {
            assert!(txt.contains(&text), "{text} is not in {txt}");
        }
        assert_eq!(txt.matches('"').count(), 6, "nothing else is announced: {txt}");
        assert_eq!(seen[6], format!("kith-{id}.local"));
    }
    let id = anna.id();
    assert_eq!(anna.stop(), 0);
    let seen = || avahi.sees().iter().any(|fields| fields.get(9).is_some_and(|txt| txt.contains(&id)));
    wait::until_true("avahi to hear the goodbye", PATIENCE, || !seen());
}

#[test]
fn we_see_a_service_that_avahi_publishes() {
    let Some(lab) = lab(2) else { return };
    let avahi = Avahi::start(&lab, 2);
    let (far, near) = (Host::running_on(&lab, 1, "anna"), Host::running_on(&lab, 2, "bert"));
    const ID: &str = "0011223344556677";
    let txt = ["device_id=0011223344556677", "device_name=Größe 写真", "v=1", "unknown=ignored"];
    let publisher = avahi.publish(&[&["some instance; a name.of its own", "_kith._tcp", "44321"], &txt[..]].concat());
    for host in [&far, &near] {
        let seen = host.wait_peer(ID, |peer| {
            peer["addresses"].as_array().is_some_and(|addresses| addresses.iter().any(|it| *it == "10.77.0.2:44321"))
        });
        assert_eq!((&seen["name"], &seen["state"]), (&"Größe 写真".into(), &"discovered".into()));
    }
    publisher.signal(rustix::process::Signal::TERM);
    for host in [&far, &near] {
        host.wait_peer_gone(ID);
    }
}
