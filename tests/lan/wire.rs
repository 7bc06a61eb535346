//! The lab itself: a fault on the wire that is none would let every test above it pass for nothing.

use std::time::Duration;

use kith_tests::PATIENCE;
use kith_tests::lab::Lab;
use kith_tests::process::{Running, run};

/// Somebody on host `i` who writes down what arrives.
fn listener(lab: &Lab, i: usize) -> Running {
    let mut command = lab.command(i, env!("CARGO_BIN_EXE_probe"));
    let mut listener = Running::spawn(command.args(["hear", &format!("{}:7000", lab.ip(i))]));
    assert_eq!(listener.line(PATIENCE).as_deref(), Some("ready"));
    listener
}

fn say(lab: &Lab, from: usize, to: &str, text: &str) -> bool {
    let mut command = lab.command(from, env!("CARGO_BIN_EXE_probe"));
    run(command.args(["say", &lab.ip(from).to_string(), &format!("{to}:7000"), text]), PATIENCE).status == 0
}

/// Says many things to `to`, of which only those in `heard` may arrive, and those must.
#[track_caller]
fn check(lab: &Lab, ear: &mut Running, from: usize, said: &[(&str, &str)], heard: &[&str]) {
    for (to, text) in said {
        say(lab, from, to, text);
    }
    for text in heard {
        assert_eq!(ear.line(PATIENCE).as_deref(), Some(*text));
    }
}

#[test]
fn faults_are_what_they_say() {
    let Some(lab) = Lab::new(3) else { return };
    let (two, group, all) = ("10.77.0.2", "224.0.0.251", "255.255.255.255");
    let mut ear = listener(&lab, 2);
    check(&lab, &mut ear, 1, &[(two, "unicast"), (group, "group"), (all, "all")], &["unicast", "group", "all"]);

    lab.mdrop(2);
    check(&lab, &mut ear, 1, &[(group, "lost"), (all, "lost"), (two, "still there")], &["still there"]);
    lab.split(1, 2);
    check(&lab, &mut ear, 1, &[(two, "lost")], &[]);
    check(&lab, &mut ear, 3, &[(two, "from three")], &["from three"]);
    lab.heal(2);
    check(&lab, &mut ear, 1, &[(group, "group again")], &["group again"]);

    lab.block(2);
    check(&lab, &mut ear, 3, &[(two, "lost")], &[]);
    lab.heal(2);
    lab.cut(2);
    check(&lab, &mut ear, 3, &[(two, "lost")], &[]);
    let state = lab.exec(2, &["ip", "link", "show", "eth0"]).ok().stdout;
    assert!(state.contains("NO-CARRIER"), "{state}");
    lab.heal(2);
    lab.addr(2, "10.77.0.50/24");
    check(&lab, &mut ear, 3, &[(two, "lost"), ("10.77.0.50", "moved")], &["moved"]);
}

#[test]
fn labs_do_not_see_each_other_and_leave_nothing() {
    let Some(lab) = Lab::new(1) else { return };
    let Some(other) = Lab::new(2) else { return };
    let mut ear = listener(&lab, 1);
    say(&other, 2, "10.77.0.1", "from another lab");
    say(&lab, 1, "10.77.0.1", "from here");
    assert_eq!(ear.line(PATIENCE).as_deref(), Some("from here"));
    assert_eq!(lab.pids(1), [ear.pid()]);
    drop(lab);
    assert_eq!(ear.finish(Duration::from_secs(20)).status, 128 + 9);
}
