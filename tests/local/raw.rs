//! The peer door by hand: TLS with a key of one's choice, and frames.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;

use kith_proto::peer::Alpn;
use kith_tests::PATIENCE;
use kith_tests::host::Host;
use kith_tests::https::Anybody;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, StreamOwned};
use serde_json::Value;

/// A key with its certificate.
pub struct Key {
    certificates: Vec<CertificateDer<'static>>,
    key: Vec<u8>,
}

impl Key {
    /// A key that nobody has seen before.
    pub fn new() -> Self {
        Self::of(rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).expect("a key can be made"))
    }

    /// The key of a device, which had better be stopped.
    pub fn taken_from(host: &Host) -> Self {
        let seed = std::fs::read(host.path("data/device.key")).expect("a device that was started once");
        // PKCS#8 of an Ed25519 seed (RFC 8410): a fixed head and the seed.
        let head = [0x30, 0x2e, 2, 1, 0, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 4, 0x22, 4, 0x20];
        let der = PrivatePkcs8KeyDer::from([head.as_slice(), &seed].concat());
        Self::of(rcgen::KeyPair::try_from(&der).expect("a device key"))
    }

    /// A key of a kind that devices do not have.
    pub fn of_another_kind() -> Self {
        Self::of(rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).expect("a key can be made"))
    }

    /// The same key behind a chain of `count` certificates.
    pub fn with_chain(mut self, count: usize) -> Self {
        let first = self.certificates[0].clone();
        self.certificates = vec![first; count];
        self
    }

    fn of(pair: rcgen::KeyPair) -> Self {
        let params = rcgen::CertificateParams::default();
        let certificate = params.self_signed(&pair).expect("a certificate can be made").der().clone();
        Self { certificates: vec![certificate], key: pair.serialize_der() }
    }
}

/// How a client shakes hands.
pub struct Hello<'a> {
    /// With whose key; `None`: without a certificate.
    pub key: Option<&'a Key>,
    /// The protocols that it offers.
    pub alpn: &'a [&'a [u8]],
}

/// A TLS connection to a peer door.
pub struct Wire {
    stream: StreamOwned<ClientConnection, TcpStream>,
}

/// A TCP connection to the peer door of `host`. No wait on it is endless.
#[track_caller]
pub fn dial(host: &Host) -> TcpStream {
    let address: SocketAddr = host.address().parse().expect("an address");
    let stream = TcpStream::connect_timeout(&address, PATIENCE).expect("the peer door listens");
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout can be set");
    stream.set_write_timeout(Some(PATIENCE)).expect("a timeout can be set");
    stream.set_nodelay(true).expect("a socket can be set so");
    stream
}

impl Wire {
    /// Speaks `kith-send/1` with `host` as the device that has `key`.
    #[track_caller]
    pub fn send(host: &Host, key: &Key) -> Self {
        Self::shake(host, &Hello { key: Some(key), alpn: &[Alpn::Send.as_bytes()] }).expect("a handshake")
    }

    /// Shakes hands. TLS 1.3 lets a client believe that it is through before it is judged: the refusal comes with the
    /// first read.
    pub fn shake(host: &Host, hello: &Hello<'_>) -> io::Result<Self> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .expect("TLS 1.3")
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Anybody));
        let mut config = match hello.key {
            Some(key) => {
                let private = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.key.clone()));
                builder.with_client_auth_cert(key.certificates.clone(), private).expect("a key with its certificate")
            }
            None => builder.with_no_client_auth(),
        };
        config.alpn_protocols = hello.alpn.iter().map(|alpn| alpn.to_vec()).collect();
        config.enable_sni = false;
        let name = ServerName::IpAddress(host.ip().into());
        let connection = ClientConnection::new(Arc::new(config), name).expect("a client");
        let mut wire = Self { stream: StreamOwned::new(connection, dial(host)) };
        while wire.stream.conn.is_handshaking() {
            wire.stream.conn.complete_io(&mut wire.stream.sock)?;
        }
        Ok(wire)
    }

    /// Sends one frame. An error is the reader's to find: why the other end hung up is what it said last.
    pub fn frame(&mut self, payload: &[u8]) {
        let length = u32::try_from(payload.len()).expect("a frame");
        drop(self.stream.write_all(&[&length.to_be_bytes(), payload].concat()));
        drop(self.stream.flush());
    }

    /// Sends bytes that are no frame.
    pub fn bytes(&mut self, bytes: &[u8]) {
        drop(self.stream.write_all(bytes));
        drop(self.stream.flush());
    }

    /// Sends a control message.
    pub fn say(&mut self, message: &Value) {
        self.frame(message.to_string().as_bytes());
    }

    /// Sends content: `[0][BLAKE3][content]`.
    pub fn data(&mut self, content: &[u8]) {
        self.frame(&[&[0], blake3::hash(content).as_bytes().as_slice(), content].concat());
    }

    /// The next message; the error that ended the connection.
    pub fn hear(&mut self) -> io::Result<Value> {
        let mut length = [0; 4];
        self.stream.read_exact(&mut length)?;
        let mut payload = vec![0; u32::from_be_bytes(length) as usize];
        self.stream.read_exact(&mut payload)?;
        Ok(serde_json::from_slice(&payload)?)
    }

    /// The next message that is no mere sign of life.
    pub fn answer(&mut self) -> io::Result<Value> {
        loop {
            let message = self.hear()?;
            if message["type"] != "waiting" && message["type"] != "ack" {
                return Ok(message);
            }
        }
    }

    /// Everything until the end, as types of messages, and what ended it.
    pub fn rest(&mut self) -> (Vec<Value>, io::Error) {
        let mut heard = Vec::new();
        loop {
            match self.answer() {
                Ok(message) => heard.push(message),
                Err(error) => return (heard, error),
            }
        }
    }
}

/// The alert that a TLS error carries.
pub fn alert(error: &io::Error) -> Option<rustls::AlertDescription> {
    match error.get_ref()?.downcast_ref::<rustls::Error>()? {
        rustls::Error::AlertReceived(alert) => Some(*alert),
        _ => None,
    }
}
