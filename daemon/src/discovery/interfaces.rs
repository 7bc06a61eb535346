//! Which network interfaces count, and which addresses may be those of a device nearby.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use crate::config::DiscoveryConfig;

/// Names of interfaces that lead to containers and virtual machines of this host, and to nobody else.
const VIRTUAL: [&str; 6] = ["docker", "br-", "veth", "cni", "virbr", "vEthernet"];

/// Which interfaces the configuration wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Filter {
    loopback: bool,
    only: Vec<String>,
}

impl Filter {
    /// The filter that the configuration asks for.
    pub fn new(config: &DiscoveryConfig) -> Self {
        Self { loopback: config.loopback, only: config.interfaces.clone() }
    }

    /// Whether an interface counts.
    pub fn allows(&self, name: &str, loopback: bool) -> bool {
        if self.only.iter().any(|only| only == name) {
            return true;
        }
        if loopback {
            return self.loopback;
        }
        self.only.is_empty() && !VIRTUAL.iter().any(|prefix| name.starts_with(prefix))
    }
}

/// The networks that this host is part of, at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lan {
    filter: Arc<Filter>,
    nets: Vec<Net>,
}

/// One address of an interface, with the network around it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Net {
    ip: IpAddr,
    prefix: u8,
    allowed: bool,
}

impl Lan {
    /// Asks the system. A host that does not tell its interfaces has none.
    pub fn read(filter: &Arc<Filter>) -> Self {
        let interfaces = if_addrs::get_if_addrs().unwrap_or_default();
        let nets = interfaces.into_iter().map(|interface| Net {
            ip: interface.ip(),
            prefix: match &interface.addr {
                if_addrs::IfAddr::V4(v4) => v4.prefixlen,
                if_addrs::IfAddr::V6(v6) => v6.prefixlen,
            },
            allowed: filter.allows(&interface.name, interface.is_loopback()),
        });
        Self::new(filter, nets.collect())
    }

    fn new(filter: &Arc<Filter>, mut nets: Vec<Net>) -> Self {
        nets.sort();
        Self { filter: filter.clone(), nets }
    }

    /// Where others on the LAN can reach this host: IPv4 first, no link-local IPv6, which means nothing without the
    /// name of an interface. Loopback only where it is configured, or where nothing else exists.
    pub fn own_addresses(&self) -> Vec<IpAddr> {
        let loopback = |ip: &IpAddr| ip.is_loopback();
        let usable = |net: &&Net| net.allowed && !is_link_local_v6(net.ip);
        // The nets are sorted: IPv4 before IPv6.
        let mut addresses: Vec<_> = self.nets.iter().filter(usable).map(|net| net.ip).collect();
        addresses.sort_by_key(loopback);
        if addresses.is_empty() {
            addresses = self.nets.iter().map(|net| net.ip).filter(loopback).collect();
        }
        addresses.dedup();
        addresses
    }

    /// This host's IPv4 addresses on networks with others, each with the one that reaches all of that network.
    pub fn broadcasts(&self) -> Vec<(Ipv4Addr, Ipv4Addr)> {
        let of = |net: &Net| match net.ip {
            // Narrower ones are links between two.
            IpAddr::V4(own) if net.allowed && !own.is_loopback() && (1..=30).contains(&net.prefix) => {
                Some((own, Ipv4Addr::from_bits(own.to_bits() | (u32::MAX >> net.prefix))))
            }
            _ => None,
        };
        self.nets.iter().filter_map(of).collect()
    }

    /// Whether `ip` is an address of this host, on whatever interface.
    pub fn is_own(&self, ip: IpAddr) -> bool {
        self.nets.iter().any(|net| net.ip == ip)
    }

    /// Whether a device nearby may have this address. An announcement is anybody's word: it must not make this host
    /// connect to the internet, to itself, or into its own virtual networks.
    pub fn plausible(&self, ip: IpAddr) -> bool {
        if ip.is_unspecified() || ip.is_multicast() || ip.to_canonical() != ip {
            return false;
        }
        if ip.is_loopback() {
            return self.filter.loopback;
        }
        if is_link_local_v6(ip) {
            return true;
        }
        match self.nets.iter().filter(|net| net.contains(ip)).max_by_key(|net| net.prefix) {
            Some(net) => net.allowed,
            None => is_private(ip),
        }
    }
}

impl Net {
    fn contains(&self, ip: IpAddr) -> bool {
        let (ours, theirs, width) = match (self.ip, ip) {
            (IpAddr::V4(a), IpAddr::V4(b)) => (u128::from(a.to_bits()), u128::from(b.to_bits()), 32),
            (IpAddr::V6(a), IpAddr::V6(b)) => (a.to_bits(), b.to_bits(), 128),
            _ => return false,
        };
        let host_bits = width - u32::from(self.prefix).min(width);
        // A prefix of 0 is no network but the lack of one.
        self.prefix > 0 && (ours ^ theirs).checked_shr(host_bits) == Some(0)
    }
}

/// Whether an address is good on one link only.
pub fn is_link_local_v6(ip: IpAddr) -> bool {
    matches!(ip, IpAddr::V6(v6) if v6.is_unicast_link_local())
}

/// RFC 1918, 3927, 4193 and 6598: addresses that the internet does not route.
fn is_private(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(v4) => v4.is_private() || v4.is_link_local() || (v4.to_bits() >> 22) == (0x6440_0000 >> 22),
        IpAddr::V6(v6) => v6.is_unique_local(),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub fn lan(loopback: bool, nets: &[(&str, u8, bool)]) -> Lan {
        let nets = nets.iter().map(|(ip, prefix, allowed)| Net {
            ip: ip.parse().unwrap(),
            prefix: *prefix,
            allowed: *allowed,
        });
        Lan::new(&Arc::new(Filter { loopback, only: Vec::new() }), nets.collect())
    }

    #[test]
    fn virtual_interfaces_do_not_count() {
        let all = Filter { loopback: false, only: Vec::new() };
        for (name, wanted) in [
            ("eth0", true),
            ("wlp3s0", true),
            ("bridge0", true),
            ("docker0", false),
            ("br-1f2e3d", false),
            ("veth12", false),
            ("cni0", false),
            ("virbr0", false),
            ("vEthernet (WSL)", false),
        ] {
            assert_eq!(all.allows(name, false), wanted, "{name}");
        }
        assert!(!all.allows("lo", true));
        assert!(Filter { loopback: true, only: Vec::new() }.allows("lo", true));
        let only = Filter { loopback: false, only: vec!["docker0".to_owned(), "lo".to_owned()] };
        for (name, loopback, wanted) in [("docker0", false, true), ("lo", true, true), ("eth0", false, false)] {
            assert_eq!(only.allows(name, loopback), wanted, "{name}");
        }
    }

    #[test]
    fn c20_announced_addresses_stay_on_the_lan() {
        assert!(lan(true, &[]).plausible("127.0.0.1".parse().unwrap()));
        let lan = lan(
            false,
            &[
                ("127.0.0.1", 8, false),
                ("192.168.1.5", 24, true),
                ("172.17.0.1", 16, false),
                ("203.0.113.7", 24, true),
                ("2001:db8:1::5", 64, true),
                ("fe80::1", 64, true),
            ],
        );
        for (ip, plausible) in [
            ("192.168.1.9", true),
            ("10.1.2.3", true),
            ("100.64.0.1", true),
            ("100.128.0.1", false),
            ("169.254.3.4", true),
            ("203.0.113.9", true),
            ("203.0.114.9", false),
            ("8.8.8.8", false),
            ("127.0.0.1", false),
            ("0.0.0.0", false),
            ("255.255.255.255", false),
            ("224.0.0.251", false),
            ("172.17.0.2", false),
            ("172.18.0.2", true),
            ("::1", false),
            ("::", false),
            ("ff02::fb", false),
            ("fe80::2", true),
            ("fd00::2", true),
            ("2001:db8:1::9", true),
            ("2001:db8:2::9", false),
            ("::ffff:192.168.1.9", false),
        ] {
            assert_eq!(lan.plausible(ip.parse().unwrap()), plausible, "{ip}");
        }
    }

    #[test]
    fn every_network_with_others_has_a_broadcast_address() {
        let lan = lan(
            true,
            &[
                ("192.168.1.5", 24, true),
                ("10.9.8.6", 30, true),
                ("172.16.200.1", 12, true),
                ("172.17.0.1", 16, false),
                ("127.0.0.1", 8, true),
                ("10.1.1.1", 31, true),
                ("10.1.1.3", 32, true),
                ("10.2.2.2", 0, true),
                ("fd00::5", 64, true),
            ],
        );
        let found: Vec<_> = lan.broadcasts().iter().map(|(own, all)| format!("{own} {all}")).collect();
        assert_eq!(found, ["10.9.8.6 10.9.8.7", "172.16.200.1 172.31.255.255", "192.168.1.5 192.168.1.255"]);
    }

    #[test]
    fn own_addresses_are_those_that_others_can_use() {
        let check = |nets: &[(&str, u8, bool)], expected: &[&str]| {
            let expected: Vec<IpAddr> = expected.iter().map(|ip| ip.parse().unwrap()).collect();
            assert_eq!(lan(true, nets).own_addresses(), expected);
        };
        let loopback = ("127.0.0.1", 8, false);
        check(
            &[("fd00::5", 64, true), ("fe80::1", 64, true), ("192.168.1.5", 24, true), loopback],
            &["192.168.1.5", "fd00::5"],
        );
        check(&[("172.17.0.1", 16, false), loopback], &["127.0.0.1"]);
        check(&[("127.0.0.1", 8, true), ("192.168.1.5", 24, true)], &["192.168.1.5", "127.0.0.1"]);
    }
}
