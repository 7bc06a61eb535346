//! A LAN on one machine: each host is a network namespace with one interface, `eth0`, on a bridge.
//!
//! ```text
//!   anchor: a process in a mount and network namespace of its own
//!     br0 ── p1 ═══ eth0  h1   10.77.0.1/24  fd77::1/64  fe80::…
//!         ── p2 ═══ eth0  h2   10.77.0.2/24  fd77::2/64
//! ```
//!
//! The names of the hosts exist only in the anchor's mount namespace and the bridge only in its network namespace: labs
//! run side by side, nothing is added to the machine, and no packet of a lab can leave it. The anchor ends when its
//! standard input does, so a test that is killed leaves nothing behind. Works as root, and elsewhere in a user
//! namespace, if the system allows these.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Duration;

use rustix::process::Signal;

use crate::process::{self, Output, Running, run};
use crate::{PATIENCE, require, wait};

/// What is wrong with the wire. The switch drops accordingly.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Fault {
    /// Nothing passes to and from this host; it cannot tell.
    Blocked(usize),
    /// No IP multicast and no limited broadcast passes to and from this host, as behind some access points.
    Muted(usize),
    /// Nothing passes between these two hosts.
    Split(usize, usize),
}

impl Fault {
    fn touches(self, host: usize) -> bool {
        match self {
            Self::Blocked(i) | Self::Muted(i) => i == host,
            Self::Split(i, j) => i == host || j == host,
        }
    }

    /// The rules that make it so.
    fn rules(self) -> Vec<String> {
        match self {
            Self::Blocked(i) => vec![format!("iifname p{i} drop"), format!("oifname p{i} drop")],
            Self::Muted(i) => ["iifname", "oifname"]
                .into_iter()
                .flat_map(|side| {
                    // Neighbour discovery is multicast too; without it the host would not be muted but blocked.
                    ["ip daddr 224.0.0.0/4", "ip daddr 255.255.255.255", "ip6 daddr ff02::fb"]
                        .map(|group| format!("{side} p{i} {group} drop"))
                })
                .collect(),
            Self::Split(i, j) => {
                vec![format!("iifname p{i} oifname p{j} drop"), format!("iifname p{j} oifname p{i} drop")]
            }
        }
    }
}

/// Hosts 1 to n on one LAN.
pub struct Lab {
    anchor: Child,
    /// What puts a command into the anchor's namespaces.
    enter: Vec<String>,
    hosts: usize,
    faults: Mutex<BTreeSet<Fault>>,
}

/// Why this machine has no labs, if it has none.
pub fn available() -> Result<(), String> {
    static AVAILABLE: OnceLock<Result<(), String>> = OnceLock::new();
    AVAILABLE.get_or_init(|| Lab::build(1).map(drop)).clone()
}

impl Lab {
    /// A LAN of `hosts`; `None`, with the reason printed, where namespaces are forbidden. Panics there if
    /// `KITH_REQUIRE` contains `lan`.
    #[track_caller]
    pub fn new(hosts: usize) -> Option<Self> {
        match available() {
            Ok(()) => match Self::build(hosts) {
                Ok(lab) => Some(lab),
                Err(error) => panic!("a lab of {hosts} hosts: {error}"),
            },
            Err(why) => {
                require::skip("lan", &why);
                None
            }
        }
    }

    fn build(hosts: usize) -> Result<Self, String> {
        for program in ["ip", "nft", "unshare", "nsenter"] {
            require::program(program).ok_or_else(|| format!("{program} is not installed"))?;
        }
        let root = rustix::process::geteuid().is_root();
        let mut unshare = command("unshare");
        if !root {
            unshare.args(["--user", "--map-root-user"]);
        }
        // `ip netns` keeps its names in /run/netns: a /run of our own makes them ours, and makable without root.
        unshare.args(["--mount", "--net", "sh", "-ec", "mount -t tmpfs kith-lab /run; echo ready; exec cat"]);
        unshare.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let anchor = unshare.spawn().map_err(|error| format!("unshare: {error}"))?;
        let user: &[&str] = if root { &[] } else { &["--user", "--preserve-credentials"] };
        let pid = anchor.id().to_string();
        let enter = [&["nsenter", "--target", &pid], user, &["--mount", "--net", "--"]].concat();
        let mut lab = Self {
            enter: enter.into_iter().map(str::to_owned).collect(),
            anchor,
            hosts,
            faults: Mutex::new(BTreeSet::new()),
        };
        lab.greet()?;
        let raised = run(lab.switch("sh").args(["-ec", &wiring(hosts)]), PATIENCE);
        if raised.status == 0 { Ok(lab) } else { Err(format!("namespaces: {}", raised.stderr.trim())) }
    }

    /// Waits for the anchor to stand.
    fn greet(&mut self) -> Result<(), String> {
        use std::io::Read;
        let mut word = [0; 5];
        let stdout = self.anchor.stdout.as_mut().ok_or("no pipe to unshare")?;
        if stdout.read_exact(&mut word).is_ok() {
            return Ok(());
        }
        let mut why = String::new();
        let stderr = self.anchor.stderr.as_mut().ok_or("no pipe to unshare")?;
        drop(stderr.read_to_string(&mut why));
        Err(format!("no namespaces here: {}", why.trim()))
    }

    /// The IPv4 address that host `i` was given first.
    pub fn ip(&self, i: usize) -> Ipv4Addr {
        self.check(i);
        Ipv4Addr::new(10, 77, 0, i as u8)
    }

    /// The IPv6 address of host `i`.
    pub fn ip6(&self, i: usize) -> Ipv6Addr {
        self.check(i);
        Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, 0, i as u16)
    }

    /// The words that put a command into host `i`. Everything in them replaces itself by the next, so the process id of
    /// the command is that of the child.
    pub fn prefix(&self, i: usize) -> Vec<String> {
        self.check(i);
        let netns = ["ip".to_owned(), "netns".to_owned(), "exec".to_owned(), format!("h{i}")];
        self.enter.iter().cloned().chain(netns).collect()
    }

    /// A command that will run on host `i`.
    pub fn command(&self, i: usize, program: &str) -> Command {
        prefixed(&self.prefix(i), program)
    }

    /// Runs `words` on host `i` to its end.
    #[track_caller]
    pub fn exec(&self, i: usize, words: &[&str]) -> Output {
        let (program, arguments) = words.split_first().expect("a program to run");
        run(self.command(i, program).args(arguments), PATIENCE)
    }

    /// Pulls the cable of host `i`: its interface loses carrier.
    pub fn cut(&self, i: usize) {
        self.check(i);
        self.ip_command(&format!("link set p{i} down"));
    }

    /// Drops everything to and from host `i`, without a sign to anybody.
    pub fn block(&self, i: usize) {
        self.check(i);
        self.fault(Fault::Blocked(i));
    }

    /// Drops IP multicast and limited broadcast to and from host `i`.
    pub fn mdrop(&self, i: usize) {
        self.check(i);
        self.fault(Fault::Muted(i));
    }

    /// Drops everything between hosts `i` and `j`.
    pub fn split(&self, i: usize, j: usize) {
        self.check(i);
        self.check(j);
        self.fault(Fault::Split(i, j));
    }

    /// Makes the switch a hub: every host hears what all the others say to each other.
    pub fn hub(&self) {
        self.ip_command("link set br0 type bridge ageing_time 0");
        for i in 1..=self.hosts {
            self.exec(i, &["ip", "link", "set", "eth0", "promisc", "on"]).ok();
        }
    }

    /// Undoes `cut`, `block`, `mdrop` and `split` for host `i`.
    pub fn heal(&self, i: usize) {
        self.check(i);
        self.ip_command(&format!("link set p{i} up"));
        self.change(|faults| faults.retain(|fault| !fault.touches(i)));
        wait::until_true("the carrier to return", PATIENCE, || {
            self.exec(i, &["ip", "link", "show", "eth0"]).stdout.contains("state UP")
        });
        // Without this, an address that was asked for in vain meanwhile stays unreachable for some seconds.
        for host in 1..=self.hosts {
            self.exec(host, &["ip", "neigh", "flush", "dev", "eth0"]).ok();
        }
    }

    /// Gives host `i` another IPv4 address, as DHCP does: `10.77.0.50/24`.
    pub fn addr(&self, i: usize, cidr: &str) {
        self.exec(i, &["ip", "-4", "addr", "flush", "dev", "eth0"]).ok();
        self.exec(i, &["ip", "addr", "add", cidr, "brd", "+", "dev", "eth0"]).ok();
        self.exec(i, &["ip", "route", "replace", "default", "dev", "eth0"]).ok();
    }

    /// Limits what host `i` sends, so that there is a middle to cut a transfer in; 0 lifts the limit.
    pub fn rate(&self, i: usize, megabits: u32) {
        if megabits == 0 {
            self.exec(i, &["tc", "qdisc", "del", "dev", "eth0", "root"]).ok();
        } else {
            let rate = format!("{megabits}mbit");
            let tbf = ["tbf", "rate", &rate, "burst", "64kb", "latency", "100ms"];
            self.exec(i, &[&["tc", "qdisc", "replace", "dev", "eth0", "root"], &tbf[..]].concat()).ok();
        }
    }

    /// Processes on host `i`.
    pub fn pids(&self, i: usize) -> Vec<u32> {
        let output = run(self.switch("ip").args(["netns", "pids", &format!("h{i}")]), PATIENCE);
        output.stdout.split_whitespace().filter_map(|pid| pid.parse().ok()).collect()
    }

    fn fault(&self, fault: Fault) {
        self.change(|faults| faults.extend([fault]));
    }

    /// Changes the faults and tells the switch all of them anew, in one transaction.
    fn change(&self, change: impl FnOnce(&mut BTreeSet<Fault>)) {
        let mut faults = self.faults.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut faults);
        let mut table = String::from("table bridge kith\ndelete table bridge kith\ntable bridge kith {\n");
        table.push_str("chain wires { type filter hook forward priority 0; policy accept;\n");
        for rule in faults.iter().flat_map(|fault| fault.rules()) {
            table.push_str(&rule);
            table.push('\n');
        }
        table.push_str("}\n}\n");
        let mut nft = Running::spawn_fed(self.switch("nft").args(["-f", "-"]));
        nft.feed(table.as_bytes());
        nft.finish(PATIENCE).ok();
    }

    /// A command in the namespace of the bridge.
    fn switch(&self, program: &str) -> Command {
        prefixed(&self.enter, program)
    }

    fn ip_command(&self, words: &str) {
        run(self.switch("ip").args(words.split(' ')), PATIENCE).ok();
    }

    #[track_caller]
    fn check(&self, i: usize) {
        assert!((1..=self.hosts).contains(&i), "no host {i} in a lab of {}", self.hosts);
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        // Whatever still runs on the hosts, and nothing else: a namespace lives as long as a process in it.
        for pid in (1..=self.hosts).flat_map(|i| self.pids(i)) {
            process::send(pid, Signal::KILL);
        }
        drop(self.anchor.stdin.take());
        if process::wait_for_exit(&mut self.anchor, Duration::from_secs(5)).is_none() {
            process::reap(&mut self.anchor);
        }
    }
}

/// The shell script that wires the LAN, run in the namespace of the bridge.
fn wiring(hosts: usize) -> String {
    let mut script = String::from(
        "ip link set lo up\n\
         ip link add br0 type bridge stp_state 0 forward_delay 0 mcast_snooping 0\n\
         ip link set br0 up\n",
    );
    for i in 1..=hosts {
        // No duplicate address detection: addresses work at once. A default route, although nobody is behind it:
        // without one the kernel refuses multicast and broadcast that name no interface.
        let settings = "for d in all default; do echo 0 > /proc/sys/net/ipv6/conf/$d/accept_dad; \
                        echo 0 > /proc/sys/net/ipv6/conf/$d/accept_ra; done";
        let _ = write!(
            script,
            "ip netns add h{i}\n\
             ip netns exec h{i} sh -c '{settings}'\n\
             ip link add p{i} type veth peer name eth0 netns h{i}\n\
             ip link set p{i} master br0 up\n\
             ip -n h{i} link set lo up\n\
             ip -n h{i} link set eth0 up\n\
             ip -n h{i} addr add 10.77.0.{i}/24 brd + dev eth0\n\
             ip -n h{i} -6 addr add fd77::{i:x}/64 dev eth0 nodad\n\
             ip -n h{i} route add default dev eth0\n"
        );
    }
    for i in 1..=hosts {
        let _ = writeln!(script, "until ip -n h{i} link show eth0 | grep -q 'state UP'; do sleep 0.01; done");
    }
    script
}

fn command(program: &str) -> Command {
    let mut command = Command::new(program);
    command.env("PATH", require::search_path());
    command
}

/// `program`, behind the words of `prefix`.
pub fn prefixed(prefix: &[String], program: &str) -> Command {
    match prefix.split_first() {
        Some((first, rest)) => {
            let mut prefixed = command(first);
            prefixed.args(rest).arg(program);
            prefixed
        }
        None => command(program),
    }
}

/// An address and a port as one types them.
pub fn authority(ip: IpAddr, port: u64) -> String {
    match ip {
        IpAddr::V4(ip) => format!("{ip}:{port}"),
        IpAddr::V6(ip) => format!("[{ip}]:{port}"),
    }
}
