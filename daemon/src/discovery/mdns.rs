//! mDNS/DNS-SD: how this device is announced, and what an announcement of another one says. Everything that comes in
//! here is anybody's word.

use std::net::{SocketAddr, SocketAddrV6};
use std::sync::Arc;
use std::time::Duration;

use kith_proto::id::DeviceId;
use kith_proto::{limits, text};
use mdns_sd::{
    IfKind, IfPredicate, Receiver, ResolvedService, ScopedIp, ServiceDaemon, ServiceEvent, ServiceInfo, TxtProperties,
};

use super::interfaces::{self, Filter, Lan};

const SERVICE: &str = "_kith._tcp.local.";
/// The version of what the TXT record says.
const VERSION: &str = "1";
/// A TXT record larger than this is not of ours, which has less than 100 bytes.
const TXT_MAX: usize = 1024;
/// Ports below are not given to a peer door; an announcement of one means another service harm.
const PORT_MIN: u16 = 1024;
/// Seconds between two looks for changed addresses.
const IP_CHECK_SECONDS: u32 = 15;
/// How long a record that led nowhere may take to be confirmed (RFC 6762 §10.4).
const VERIFY_PATIENCE: Duration = Duration::from_secs(10);
/// Records that the responder may remember; it has no bound of its own. 512 devices are some 4,000.
const RECORDS_MAX: i64 = 16_384;
/// How long the responder may take to answer or to end.
const PATIENCE: Duration = Duration::from_secs(1);
/// Events that are handled in one go.
const BATCH: usize = 256;

/// What is announced of this device.
#[derive(Debug, Clone)]
pub struct Card {
    /// The short id.
    pub id: DeviceId,
    /// The name that others see.
    pub name: String,
    /// The port of the peer door.
    pub port: u16,
    /// The port on which payloads of sharing codes are given out, while they are.
    pub hello: Option<u16>,
    /// How often any of this changed.
    pub changes: u32,
}

/// What somebody announces of a device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Announcement {
    /// The full name of the service instance.
    pub instance: String,
    /// Whose it claims to be.
    pub id: DeviceId,
    /// How it calls itself.
    pub name: String,
    /// Where it claims to be: IPv4 first, link-local IPv6 last. Never empty.
    pub addresses: Vec<SocketAddr>,
    /// The port on which it claims to give out payloads of sharing codes.
    pub hello: Option<u16>,
}

/// What happened on the network.
#[derive(Debug)]
pub enum Event {
    /// An instance was announced, or its announcement changed.
    Resolved(Box<ResolvedService>),
    /// An instance said goodbye, or was not heard of for too long.
    Removed(String),
}

/// The running responder and browser: one thread of mdns-sd.
pub struct Mdns {
    daemon: ServiceDaemon,
    events: Receiver<ServiceEvent>,
}

impl Mdns {
    /// Announces `card`, and looks for others.
    pub fn start(card: &Card, filter: &Arc<Filter>) -> Result<Self, mdns_sd::Error> {
        let service = service(card)?;
        let daemon = ServiceDaemon::new()?;
        let filter = filter.clone();
        let unwanted = IfPredicate::new(move |intf| !filter.allows(&intf.name, intf.is_loopback()));
        daemon.disable_interface(IfKind::Predicate(unwanted))?;
        daemon.set_ip_check_interval(IP_CHECK_SECONDS)?;
        daemon.register(service)?;
        let events = daemon.browse(SERVICE)?;
        Ok(Self { daemon, events })
    }

    /// Announces `card` in place of what was announced before.
    pub fn announce(&self, card: &Card) -> Result<(), mdns_sd::Error> {
        self.daemon.register(service(card)?)
    }

    /// What happened, as soon as something did. `None` when too much happened to follow: start anew.
    pub async fn next(&mut self) -> Option<Vec<Event>> {
        let first = self.events.recv_async().await.ok()?;
        let events = std::iter::once(first).chain(self.events.try_iter().take(BATCH));
        Some(events.filter_map(event).collect())
    }

    /// Asks whether an instance is still there; if nobody says so, it is removed.
    pub fn verify(&self, instance: &str) {
        if let Err(error) = self.daemon.verify(instance.to_owned(), VERIFY_PATIENCE) {
            tracing::debug!(%error, "mDNS is busy");
        }
    }

    /// Whether more was remembered than any real network announces.
    pub async fn is_flooded(&self) -> bool {
        let Ok(metrics) = self.daemon.get_metrics() else { return false };
        let Ok(Ok(metrics)) = tokio::time::timeout(PATIENCE, metrics.recv_async()).await else { return false };
        let records = metrics.iter().filter(|(name, _)| name.starts_with("cached-") || *name == "timer");
        records.map(|(_, count)| *count).sum::<i64>() > RECORDS_MAX
    }

    /// Says goodbye and ends.
    pub async fn stop(self) {
        if let Ok(ended) = self.daemon.shutdown() {
            let _ = tokio::time::timeout(PATIENCE, ended.recv_async()).await;
        }
    }
}

fn service(card: &Card) -> Result<ServiceInfo, mdns_sd::Error> {
    let suffix = format!(" [{}]", card.id.short());
    // One DNS label, with room for the " (2)" that a conflict would add.
    let name = text::device_name(&card.name, limits::DEVICE_NAME.min(63 - suffix.len() - 4));
    let host = format!("kith-{}.local.", card.id);
    let mut properties =
        vec![("device_id", card.id.to_string()), ("device_name", card.name.clone()), ("v", VERSION.to_owned())];
    properties.extend(card.hello.map(|port| ("hello", port.to_string())));
    // A record like one that was announced a second ago is no news: caches would go on with what came in between.
    properties.extend((card.changes > 0).then(|| ("changes", card.changes.to_string())));
    let mut service = ServiceInfo::new(SERVICE, &format!("{name}{suffix}"), &host, "", card.port, &properties[..])?
        .enable_addr_auto();
    // The id makes the names unique. Probing for others of the same name would only cost 750 ms, and would let
    // anybody on the network keep this device from ever being announced.
    service.set_requires_probe(false);
    Ok(service)
}

fn event(event: ServiceEvent) -> Option<Event> {
    match event {
        ServiceEvent::ServiceResolved(service) => Some(Event::Resolved(service)),
        ServiceEvent::ServiceRemoved(_, instance) => Some(Event::Removed(instance)),
        _ => None,
    }
}

/// What `service` says of a device, if it is an announcement of one and its addresses may be true.
pub fn read(service: &ResolvedService, own: &Card, lan: &Lan) -> Option<Announcement> {
    let txt = &service.txt_properties;
    let size: usize = txt.iter().map(|property| property.key().len() + property.val().map_or(0, <[u8]>::len)).sum();
    if size > TXT_MAX || service.port < PORT_MIN || value(txt, "v")? != VERSION {
        return None;
    }
    let id: DeviceId = value(txt, "device_id")?.parse().ok()?;
    if id == own.id {
        return None;
    }
    let mut addresses: Vec<_> = service
        .addresses
        .iter()
        .filter(|ip| lan.plausible(ip.to_ip_addr()))
        .filter_map(|ip| socket_address(ip, service.port))
        // A decoy that leads back to this device.
        .filter(|address| address.port() != own.port || !lan.is_own(address.ip()))
        .collect();
    addresses.sort_by_key(|address| (interfaces::is_link_local_v6(address.ip()), *address));
    addresses.dedup();
    addresses.truncate(limits::PEER_ADDRESSES);
    if addresses.is_empty() {
        return None;
    }
    let name = text::device_name(value(txt, "device_name").unwrap_or_default(), limits::DEVICE_NAME);
    Some(Announcement { instance: service.fullname.clone(), id, name, addresses, hello: hello(txt) })
}

/// A port as it is written, and one that may be had.
fn hello(txt: &TxtProperties) -> Option<u16> {
    let text = value(txt, "hello")?;
    let port = text.parse().ok().filter(|port| *port >= PORT_MIN)?;
    (text == u16::to_string(&port)).then_some(port)
}

fn value<'a>(txt: &'a TxtProperties, key: &str) -> Option<&'a str> {
    std::str::from_utf8(txt.get(key)?.val()?).ok()
}

fn socket_address(ip: &ScopedIp, port: u16) -> Option<SocketAddr> {
    match ip {
        ScopedIp::V6(v6) if interfaces::is_link_local_v6(ip.to_ip_addr()) => {
            let scope = v6.scope_id().index;
            (scope != 0).then(|| SocketAddrV6::new(*v6.addr(), port, 0, scope).into())
        }
        _ => Some(SocketAddr::new(ip.to_ip_addr(), port)),
    }
}

#[cfg(test)]
mod tests {
    use super::super::interfaces::tests::lan;
    use super::*;

    const ID: &str = "00112233445566aa";

    fn own() -> Card {
        Card { id: "ffffffffffffffff".parse().unwrap(), name: "me".to_owned(), port: 44_000, hello: None, changes: 0 }
    }

    fn check(addresses: &str, port: u16, txt: &[(&str, &str)]) -> Option<Announcement> {
        let service = ServiceInfo::new(SERVICE, "x", "x.local.", addresses, port, txt).unwrap();
        let nets = [("192.168.1.5", 24, true), ("172.17.0.1", 16, false)];
        read(&service.as_resolved_service(), &own(), &lan(false, &nets))
    }

    #[test]
    fn an_announcement_is_read_back() {
        let id: DeviceId = ID.parse().unwrap();
        for name in ["nas", "größe 写真.v2", "a\\b", &"é".repeat(60)] {
            let name = text::device_name(name, limits::DEVICE_NAME);
            let mut service =
                service(&Card { id, name: name.clone(), port: 44_001, hello: Some(53_318), changes: 7 }).unwrap();
            assert!(service.get_fullname().contains("[00112233]"));
            let label = service.get_fullname().strip_suffix(&format!(".{SERVICE}")).unwrap().replace('\\', "");
            assert!(label.len() <= 63, "{label}");
            service = ServiceInfo::new(
                SERVICE,
                "x",
                service.get_hostname(),
                "192.168.1.9",
                service.get_port(),
                service.get_properties().clone().into_property_map_str(),
            )
            .unwrap();
            let announced = read(&service.as_resolved_service(), &own(), &lan(false, &[])).unwrap();
            assert_eq!((announced.id, announced.name), (id, name));
            assert_eq!(announced.hello, Some(53_318));
            assert_eq!(announced.addresses, ["192.168.1.9:44001".parse().unwrap()]);
        }
    }

    #[test]
    fn c20_hostile_announcements() {
        let good = [("device_id", ID), ("device_name", "nas"), ("v", "1")];
        assert!(check("192.168.1.9", 44_001, &good).is_some());
        for (addresses, port, txt) in [
            ("192.168.1.9", 44_001, &[("device_id", ID), ("device_name", "nas")][..]),
            ("192.168.1.9", 44_001, &[("device_id", ID), ("v", "2")]),
            ("192.168.1.9", 44_001, &[("device_id", "00112233445566AA"), ("v", "1")]),
            ("192.168.1.9", 44_001, &[("device_id", "00112233445566aa0"), ("v", "1")]),
            ("192.168.1.9", 44_001, &[("device_id", ""), ("v", "1")]),
            ("192.168.1.9", 44_001, &[("device_id", "ffffffffffffffff"), ("v", "1")]),
            ("192.168.1.9", 0, &good),
            ("192.168.1.1", 22, &good),
            ("8.8.8.8", 44_001, &good),
            ("127.0.0.1", 44_001, &good),
            ("172.17.0.2", 44_001, &good),
            ("172.17.0.1", 44_000, &good),
            ("192.168.1.5", 44_000, &good),
            ("", 44_001, &good),
        ] {
            assert_eq!(check(addresses, port, txt), None, "{addresses} {port} {txt:?}");
        }
        // Another daemon on this host has the same address and another port.
        assert!(check("192.168.1.5", 44_001, &good).is_some());
    }

    #[test]
    fn c20_a_port_for_codes_is_a_port_or_nothing() {
        for (text, port) in [
            ("53318", Some(53_318)),
            ("1024", Some(1024)),
            ("1023", None),
            ("0", None),
            ("65536", None),
            ("-1", None),
            ("+53318", None),
            ("053318", None),
            ("53318 ", None),
            ("", None),
        ] {
            let txt = [("device_id", ID), ("v", "1"), ("hello", text)];
            assert_eq!(check("192.168.1.9", 44_001, &txt).unwrap().hello, port, "{text:?}");
        }
    }

    #[test]
    fn c20_large_txt_and_many_addresses() {
        let filler = "x".repeat(240);
        let keys: Vec<String> = (0..37).map(|n| format!("k{n}")).collect();
        let mut txt = vec![("device_id", ID), ("v", "1")];
        txt.extend(keys.iter().map(|key| (key.as_str(), filler.as_str())));
        assert_eq!(check("192.168.1.9", 44_001, &txt), None);
        let many: Vec<String> = (6..200).map(|n| format!("192.168.1.{n}")).collect();
        let announced = check(&many.join(","), 44_001, &[("device_id", ID), ("v", "1")]).unwrap();
        assert_eq!(announced.addresses.len(), limits::PEER_ADDRESSES);
    }

    #[test]
    fn b14_announced_names_are_clean() {
        for (raw, name) in [("\x1b[2Jnas\r\n", "[2Jnas"), ("\u{202e}sanx", "sanx"), ("", "device")] {
            let txt = [("device_id", ID), ("device_name", raw), ("v", "1")];
            assert_eq!(check("192.168.1.9", 44_001, &txt).unwrap().name, name);
        }
        assert_eq!(check("192.168.1.9", 44_001, &[("device_id", ID), ("v", "1")]).unwrap().name, "device");
    }
}
