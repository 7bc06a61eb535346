//! C20: announcements are anybody's word. Whatever is said on the network, nothing falls over, trusted devices stay
//! trusted and within reach, and strangers fill no more than their share.

use std::fmt::Write as _;
use std::net::Ipv4Addr;

use kith_proto::limits;
use kith_tests::host::Host;
use kith_tests::lab::Lab;
use kith_tests::process::Running;
use kith_tests::random::Random;
use kith_tests::{PATIENCE, wait};
use serde_json::Value;

use crate::net::{self, befriend, network_and_one};
use crate::packet::{Claim, Packet, SERVICE};

const GROUP: &str = "224.0.0.251:5353";

/// Says all of this on the network, from host `i`.
#[track_caller]
fn cast(lab: &Lab, i: usize, packets: impl IntoIterator<Item = Vec<u8>>) {
    let mut command = lab.command(i, env!("CARGO_BIN_EXE_probe"));
    let mut caster = Running::spawn_fed(command.args(["cast", &format!("{}:5353", lab.ip(i)), GROUP]));
    for packet in packets {
        let mut line = packet.iter().fold(String::new(), |mut line, byte| {
            let _ = write!(line, "{byte:02x}");
            line
        });
        line.push('\n');
        assert!(caster.feed(line.as_bytes()), "the caster has ended");
    }
    let said = caster.finish(PATIENCE).ok();
    assert_ne!(said.stdout.trim(), "0", "nothing was sent: {}", said.stderr);
}

fn claims(claims: impl IntoIterator<Item = Claim>) -> impl Iterator<Item = Vec<u8>> {
    claims.into_iter().map(|claim| claim.packet().bytes())
}

fn peers(host: &Host) -> Vec<Value> {
    host.ctl_json(&["peers"])["peers"].as_array().expect("a list of peers").clone()
}

/// Says one thing that must be heard, and waits for it: whatever was said before was heard, too.
#[track_caller]
fn flush(lab: &Lab, i: usize, host: &Host, id: &str) {
    let claim = Claim::of(id, "the last word", lab.ip(i), 44_444);
    wait::until_true("an announcement to be heard", PATIENCE, || {
        cast(lab, i, claims([claim.clone()]));
        wait::attempt(PATIENCE / 30, || net::peer(host, id)).is_some()
    });
}

#[test]
fn c20_addresses_that_lead_elsewhere_and_records_that_are_none() {
    let Some((lab, [anna, bert])) = network_and_one(["anna", "bert"]) else { return };
    befriend(&anna, &bert);
    // Containers of this machine are no devices nearby.
    let docker = "ip link add docker0 type bridge && ip addr add 172.17.0.1/16 dev docker0 && ip link set docker0 up";
    lab.exec(1, &["sh", "-ec", docker]).ok();
    wait::nap(std::time::Duration::from_secs(3));

    let claim = |id: &str, addresses: &[[u8; 4]]| Claim {
        addresses: addresses.iter().map(|octets| Ipv4Addr::from(*octets)).collect(),
        ..Claim::of(id, "liar", Ipv4Addr::LOCALHOST, 44_001)
    };
    let own = Claim::of(&anna.id(), "not anna", lab.ip(3), 44_002);
    let nowhere = [
        claim("00000000000000a1", &[[127, 0, 0, 1]]),
        claim("00000000000000a2", &[[8, 8, 8, 8]]),
        claim("00000000000000a3", &[[172, 17, 0, 9]]),
        claim("00000000000000a4", &[[224, 0, 0, 251], [255, 255, 255, 255], [0, 0, 0, 0]]),
        Claim { port: 22, ..claim("00000000000000a5", &[[10, 77, 0, 2]]) },
        own,
    ];
    let mixed = claim("00000000000000b1", &[[127, 0, 0, 1], [10, 77, 0, 77], [1, 1, 1, 1], [172, 17, 0, 9]]);
    // C20: TXT of 9,000 bytes; ids that are none; another version.
    let filler: Vec<String> = (0..36).map(|n| format!("k{n}={}", "x".repeat(245))).collect();
    let mut huge = Claim::of("00000000000000c1", "huge", lab.ip(3), 44_003);
    huge.txt.extend(filler);
    let txt = |id: &str, v: &str| vec![format!("device_id={id}"), format!("v={v}")];
    let mut malformed = vec![huge];
    for (n, id) in ["00000000000000C2", "00000000000000c", "../../etc/passwd", ""].into_iter().enumerate() {
        let claim = Claim::of("00000000000000c2", &format!("malformed {n}"), lab.ip(3), 44_004);
        malformed.push(Claim { txt: txt(id, "1"), ..claim });
    }
    malformed
        .push(Claim { txt: txt("00000000000000c3", "2"), ..Claim::of("00000000000000c3", "newer", lab.ip(3), 44_005) });
    let named = Claim::of("00000000000000d1", "\u{1b}[31mred\u{1b}]8;;http://x\u{7}\r\n", lab.ip(3), 44_006);
    let everything: Vec<_> = nowhere.into_iter().chain([mixed]).chain(malformed).chain([named]).collect();
    for _ in 0..3 {
        cast(&lab, 3, claims(everything.clone()));
        cast(&lab, 3, garbage(&mut Random::printed("garbage")));
    }
    flush(&lab, 3, &anna, "00000000000000ff");

    anna.wait_peer("00000000000000b1", |_| true);
    anna.wait_peer("00000000000000d1", |_| true);
    for peer in peers(&anna) {
        let id = peer["id"].as_str().expect("an id");
        let shown = peer["addresses"].to_string();
        for address in ["127.0.0.1", "8.8.8.8", "1.1.1.1", "172.17.", "224.", "255.255", "\"0.0.0.0", ":22\""] {
            assert!(!shown.contains(address), "{address}: {peer}");
        }
        let impossible = id == anna.id() || id.starts_with("00000000000000a") || id.starts_with("00000000000000c");
        assert!(!impossible, "{peer}");
    }
    // B14: a name that is no name does no harm to a terminal.
    let table = anna.ctl(&["peers"]).ok().stdout;
    assert!(!table.contains('\u{1b}') && !table.contains('\r'), "{table:?}");
    assert_well(&anna, &bert);
}

/// Bytes that are no DNS, or nearly.
fn garbage(random: &mut Random) -> Vec<Vec<u8>> {
    let mut looped = Packet::default();
    // A name that points to itself, behind a decent beginning.
    looped.record(&SERVICE, 12, 1, 120, &[0xc0, 12]);
    looped.record(&SERVICE, 12, 1, 120, &[0xc0, 0xff]);
    let mut packets = vec![Vec::new(), vec![0; 11], vec![0xff; 512], looped.bytes(), random.bytes(9000)];
    let decent = Claim::of("eeeeeeeeeeeeeeee", "cut", Ipv4Addr::new(10, 77, 0, 3), 44_007).packet().bytes();
    packets.extend((1..decent.len()).step_by(7).map(|len| decent[..len].to_vec()));
    for _ in 0..200 {
        let mut broken = decent.clone();
        for _ in 0..4 {
            let at = random.within(0..broken.len() as u64) as usize;
            broken[at] = random.number() as u8;
        }
        // Whatever it says now, it does not say it of a device that the test looks for.
        packets.push(broken);
    }
    packets
}

/// 1,000 services, and goodbyes for everybody.
#[test]
fn c20_floods() {
    let Some((lab, [anna, bert, cleo])) = network_and_one(["anna", "bert", "cleo"]) else { return };
    befriend(&anna, &bert);
    anna.wait_peer("cleo", |_| true);
    let many = || (0..1000).map(|n| Claim::of(&format!("{n:016x}"), &format!("device {n}"), lab.ip(4), 44_008));
    for _ in 0..3 {
        cast(&lab, 4, claims(many()));
        assert_bounded(&anna);
        assert_well(&anna, &bert);
    }
    let strangers = || peers(&anna).iter().filter(|peer| peer["state"] == "discovered").count();
    wait::until_true("some of the crowd to be seen", 3 * PATIENCE, || {
        // Whoever is busy hears little of a flood: it goes on.
        strangers() > 100 || {
            cast(&lab, 4, claims(many()));
            false
        }
    });

    // Goodbyes in everybody's name. Strangers may be lost by it; whoever is trusted is asked and answers.
    let instance = |host: &Host| format!("{} [{}]", host.name(), &host.id()[..8]);
    let goodbyes: Vec<Claim> = [&anna, &bert, &cleo]
        .into_iter()
        .map(|host| Claim { instance: instance(host), ttl: 0, ..Claim::of(&host.id(), host.name(), lab.ip(4), 44_009) })
        .collect();
    let mut ear = net::listen(&anna);
    for _ in 0..20 {
        cast(&lab, 4, claims((0..50).flat_map(|_| goodbyes.clone())));
        assert!(peers(&anna).iter().any(|peer| peer["id"] == bert.id().as_str() && peer["online"] == true));
    }
    cast(&lab, 4, claims(many().map(|claim| Claim { ttl: 0, ..claim })));
    ear.event(|event| event["kind"] == "peer:lost");
    assert_bounded(&anna);
    assert_well(&anna, &bert);
    // Who was said goodbye for is there all the same, and seen again when it speaks.
    wait::until_true("the crowd to be gone", 3 * PATIENCE, || strangers() < 10);
}

/// D28: somebody announces the id of a device that is trusted. What is meant for that device reaches it, and only it.
#[test]
fn d28_somebody_claims_the_id_of_a_trusted_device() {
    let Some((lab, [anna, mut bert, cleo])) = network_and_one(["anna", "bert", "cleo"]) else { return };
    befriend(&anna, &bert);
    befriend(&anna, &cleo);
    let id = bert.id();
    let port: u16 = cleo.address().rsplit(':').next().and_then(|port| port.parse().ok()).expect("a port");
    let twins = || {
        let elsewhere = Claim::of(&id, "bert", lab.ip(4), 44_010);
        let at_cleo = Claim { instance: "another bert".to_owned(), ..Claim::of(&id, "bert", lab.ip(3), port) };
        let decoys = (0..40).map(|n| Claim {
            instance: format!("bert {n}"),
            ..Claim::of(&id, "bert", Ipv4Addr::new(10, 77, 0, 100 + n), 44_011)
        });
        claims([elsewhere, at_cleo].into_iter().chain(decoys))
    };
    for round in 0..3 {
        cast(&lab, 4, twins());
        assert_well(&anna, &bert);
        let said = anna.ctl_json(&["send", "--text", &format!("for bert's eyes only, {round}"), "--to", "bert"]);
        bert.wait_transfer(said["id"].as_str().expect("an id"), "done");
    }
    assert_eq!(cleo.ctl_json(&["transfers", "list", "--all"])["transfers"], serde_json::json!([]));
    // The real one leaves, and the liar goes on: that does not make bert come back.
    assert_eq!(bert.stop(), 0);
    cast(&lab, 4, twins());
    anna.wait_peer_gone(&id);
    let kept = anna.ctl(&["send", "--text", "later", "--to", "bert", "--no-wait"]).ok();
    cast(&lab, 4, twins());
    let transfer = kept.stdout.trim();
    assert_ne!(anna.transfer(transfer).expect("it is known")["state"], "done");
    bert.start();
    anna.wait_transfer(transfer, "done");
    bert.wait_transfer(transfer, "done");
}

#[track_caller]
fn assert_bounded(host: &Host) {
    let strangers = peers(host).iter().filter(|peer| peer["state"] == "discovered").count();
    assert!(strangers <= limits::DISCOVERED_PEERS, "{strangers} strangers");
}

/// The daemon runs, its friend is trusted and gets what is sent.
#[track_caller]
fn assert_well(host: &Host, friend: &Host) {
    let pid = host.status()["pid"].as_u64();
    assert_eq!(pid, Some(u64::from(host.pid())), "the daemon is the one that was started");
    let known = net::peer(host, &friend.id()).expect("a friend is listed");
    assert_eq!((&known["state"], &known["name"]), (&"trusted".into(), &friend.name().into()), "{known}");
    let sent = host.ctl_json(&["send", "--text", "still there?", "--to", friend.name()]);
    assert_eq!(sent["state"], "done", "{sent}");
}
