//! Devices that join by a code, by hand: a key, a connection, one frame each way. Nothing of the daemon's own code.

use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use kith_proto::id::PublicKey;
use kith_proto::limits;
use kith_proto::peer::Alpn;
use kith_proto::peer::join::{Join, JoinResult, SharingCode};
use kith_proto::peer::journal::version::JournalId;
use kith_proto::peer::pairing::EXPORTER_LABEL;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, StreamOwned};

use serde_json::{Value, json};

use crate::host::Host;
use crate::https::{Anybody, Caller};
use crate::{PATIENCE, wait};

/// A code, with all that a device needs to join by it without looking anything up.
pub struct Issued {
    /// What the issuer calls it.
    pub id: String,
    /// The code itself.
    pub code: SharingCode,
    /// As it was shown.
    pub text: String,
    /// Who issued it.
    pub issuer: PublicKey,
    /// What it shares.
    pub resource: JournalId,
}

/// Lets `host` make a code for a journal; `more` are further parameters of `codes.issue`.
#[track_caller]
pub fn issue(host: &Host, journal: &str, more: Value) -> Issued {
    let mut params = json!({"kind": "journal", "resource": journal, "approval": "auto"});
    let more = more.as_object().expect("parameters").clone();
    params.as_object_mut().expect("parameters").extend(more);
    let mut door = host.door();
    let issued = door.call("codes.issue", params);
    let identity = door.call("daemon.identity", json!({}));
    let text = |value: &Value| value.as_str().expect("a text").to_owned();
    Issued {
        id: text(&issued["id"]),
        code: SharingCode::parse(&text(&issued["code"])).expect("a code"),
        text: text(&issued["code"]),
        issuer: text(&identity["public_key"]).parse().expect("a key"),
        resource: JournalId::parse(&text(&issued["resource"])).expect("an id"),
    }
}

/// Where the peer door of a host on this machine is.
#[track_caller]
pub fn peer_door(host: &Host) -> SocketAddr {
    let port = host.status()["peer_port"].as_u64().and_then(|port| port.try_into().ok());
    SocketAddr::new(host.ip(), port.expect("a port"))
}

/// A device that tries until it is answered for good.
pub fn join_until_told(joiner: &Joiner, door: &Mutex<SocketAddr>, issued: &Issued) -> JoinResult {
    wait::until("an answer to a join", 3 * PATIENCE, || {
        let address = *door.lock().unwrap_or_else(PoisonError::into_inner);
        // The daemon may just be killed, or have no place: then again, as real devices do.
        joiner.join(address, issued).ok().filter(|result| !result.reason.is_transient())
    })
}

/// So many devices, on so many threads; on the loopback, each thread from an address of its own.
pub fn crowd(threads: u16, devices: u16, door: &Mutex<SocketAddr>, issued: &Issued) -> Vec<(PublicKey, JoinResult)> {
    let next = AtomicU16::new(0);
    let told = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for thread in 0..threads {
            let (next, told) = (&next, &told);
            scope.spawn(move || {
                let near = door.lock().unwrap_or_else(PoisonError::into_inner).ip().is_loopback();
                while next.fetch_add(1, Ordering::SeqCst) < devices {
                    let joiner = Joiner::new();
                    let joiner = if near { joiner.from_loopback(thread + 1) } else { joiner };
                    let result = join_until_told(&joiner, door, issued);
                    told.lock().unwrap_or_else(PoisonError::into_inner).push((joiner.key, result));
                }
            });
        }
    });
    told.into_inner().unwrap_or_else(PoisonError::into_inner)
}

/// A device that exists in this process only.
pub struct Joiner {
    /// Who it is.
    pub key: PublicKey,
    config: Arc<ClientConfig>,
    from: Option<IpAddr>,
}

impl Joiner {
    /// One that nobody has seen before.
    pub fn new() -> Self {
        Self::speaking(Alpn::Join)
    }

    /// One that speaks another protocol of the peer door.
    pub fn speaking(alpn: Alpn) -> Self {
        let pair = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).expect("a key can be made");
        let key = PublicKey::from_slice(pair.public_key_raw()).expect("an Ed25519 key has 32 bytes");
        let certificate = rcgen::CertificateParams::default().self_signed(&pair).expect("a certificate can be made");
        let secret = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(pair.serialize_der()));
        let mut config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
            .with_protocol_versions(&[&rustls::version::TLS13])
            .expect("TLS 1.3 is built in")
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Anybody))
            .with_client_auth_cert(vec![certificate.der().clone()], secret)
            .expect("an Ed25519 key");
        config.alpn_protocols = vec![alpn.as_bytes().to_vec()];
        Self { key, config: Arc::new(config), from: None }
    }

    /// The same, from an address of its own: 127.0.x.y for the loopback, by a number.
    #[must_use]
    pub fn from_loopback(mut self, number: u16) -> Self {
        let [high, low] = number.to_be_bytes();
        self.from = Some(Ipv4Addr::new(127, 1, high, low.max(1)).into());
        self
    }

    /// A connection to the peer door at `address`.
    pub fn dial(&self, address: SocketAddr) -> io::Result<Session> {
        let caller = Caller::new(address);
        let caller = self.from.map_or(caller.clone(), |ip| caller.from(&ip.to_string()));
        let tcp = caller.dial()?;
        let client = ClientConnection::new(self.config.clone(), ServerName::IpAddress(address.ip().into()))
            .map_err(io::Error::other)?;
        let mut stream = StreamOwned::new(client, tcp);
        while stream.conn.is_handshaking() {
            stream.conn.complete_io(&mut stream.sock)?;
        }
        Ok(Session(stream))
    }

    /// The frame that joins with `code` in `session`.
    pub fn frame(&self, session: &Session, code: &SharingCode, issuer: &PublicKey, resource: JournalId) -> Vec<u8> {
        let name = format!("joiner {}", self.key.device_id().short());
        let exporter = session.exporter();
        Join::new(&code.keys().proof, resource, issuer, &self.key, &exporter, name, 44_000).encode()
    }

    /// Joins by a code.
    pub fn join(&self, address: SocketAddr, issued: &Issued) -> io::Result<JoinResult> {
        let mut session = self.dial(address)?;
        let frame = self.frame(&session, &issued.code, &issued.issuer, issued.resource);
        session.send(&frame)?;
        session.result()
    }
}

impl Default for Joiner {
    fn default() -> Self {
        Self::new()
    }
}

/// A connection to a peer door.
pub struct Session(StreamOwned<ClientConnection, TcpStream>);

impl Session {
    /// What a proof is bound to.
    pub fn exporter(&self) -> [u8; 32] {
        let exported = self.0.conn.export_keying_material([0; 32], EXPORTER_LABEL.as_bytes(), Some(&[]));
        exported.expect("the handshake is over")
    }

    /// One frame.
    pub fn send(&mut self, payload: &[u8]) -> io::Result<()> {
        self.raw(&[&(payload.len() as u32).to_be_bytes(), payload].concat())
    }

    /// Bytes.
    pub fn raw(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.0.write_all(bytes)?;
        self.0.flush()
    }

    /// The next frame.
    pub fn receive(&mut self) -> io::Result<Vec<u8>> {
        let mut length = [0; 4];
        self.0.read_exact(&mut length)?;
        let length = u32::from_be_bytes(length) as usize;
        if length > limits::FRAME_UNAUTHENTICATED {
            return Err(io::Error::other(format!("a frame of {length} bytes")));
        }
        let mut payload = vec![0; length];
        self.0.read_exact(&mut payload)?;
        Ok(payload)
    }

    /// The answer to a JOIN.
    pub fn result(&mut self) -> io::Result<JoinResult> {
        let frame = self.receive()?;
        JoinResult::decode(&frame).ok_or_else(|| io::Error::other("the answer is no RESULT"))
    }
}
