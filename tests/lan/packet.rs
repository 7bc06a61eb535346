//! DNS packets by hand: what no decent responder would say.

use std::net::Ipv4Addr;

/// The service that is spoken of here.
pub const SERVICE: [&str; 3] = ["_kith", "_tcp", "local"];

/// A packet that answers nothing anybody asked.
#[derive(Default)]
pub struct Packet {
    records: u16,
    body: Vec<u8>,
}

/// What is announced of a device, true or not.
#[derive(Clone)]
pub struct Claim {
    /// The instance's own label.
    pub instance: String,
    /// The host's own label.
    pub host: String,
    /// The port of the peer door.
    pub port: u16,
    /// `key=value`
    pub txt: Vec<String>,
    /// Where the host is.
    pub addresses: Vec<Ipv4Addr>,
    /// 0 is a goodbye.
    pub ttl: u32,
}

impl Claim {
    /// A decent announcement of a device.
    pub fn of(id: &str, name: &str, address: Ipv4Addr, port: u16) -> Self {
        let txt = vec![format!("device_id={id}"), format!("device_name={name}"), "v=1".to_owned()];
        let instance = format!("{name} [{}]", &id[..8]);
        Self { instance, host: format!("host-{id}-{port}"), port, txt, addresses: vec![address], ttl: 120 }
    }

    /// All of it in one packet.
    pub fn packet(&self) -> Packet {
        let instance = [&[self.instance.as_str()][..], &SERVICE].concat();
        let host = [self.host.as_str(), "local"];
        let txt: Vec<u8> = self.txt.iter().flat_map(|text| label(text.as_bytes())).collect();
        let mut packet = Packet::default();
        packet.record(&SERVICE, 12, 1, self.ttl, &name(&instance));
        packet.record(&instance, 33, 0x8001, self.ttl, &[&[0; 4], &self.port.to_be_bytes()[..], &name(&host)].concat());
        packet.record(&instance, 16, 0x8001, self.ttl, &txt);
        for address in &self.addresses {
            packet.record(&host, 1, 0x8001, self.ttl, &address.octets());
        }
        packet
    }
}

impl Packet {
    /// Adds a record.
    pub fn record(&mut self, owner: &[&str], kind: u16, class: u16, ttl: u32, data: &[u8]) {
        self.records += 1;
        self.body.extend(name(owner));
        self.body.extend(kind.to_be_bytes());
        self.body.extend(class.to_be_bytes());
        self.body.extend(ttl.to_be_bytes());
        // A length that does not fit is as good a lie as any.
        self.body.extend((data.len() as u16).to_be_bytes());
        self.body.extend(data);
    }

    /// The bytes on the wire: an authoritative answer.
    pub fn bytes(&self) -> Vec<u8> {
        let mut bytes = vec![0, 0, 0x84, 0, 0, 0];
        bytes.extend(self.records.to_be_bytes());
        bytes.extend([0; 4]);
        bytes.extend(&self.body);
        bytes
    }
}

fn name(labels: &[&str]) -> Vec<u8> {
    let mut name: Vec<u8> = labels.iter().flat_map(|text| label(text.as_bytes())).collect();
    name.push(0);
    name
}

/// A length and so many bytes, as in names and in TXT records.
fn label(text: &[u8]) -> Vec<u8> {
    [&[text.len() as u8][..], text].concat()
}
