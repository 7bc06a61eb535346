//! Devices that join by a code, by hand: a key, a connection, one frame each way. Nothing of the daemon's own code.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;

use kith_proto::id::PublicKey;
use kith_proto::limits;
use kith_proto::peer::Alpn;
use kith_proto::peer::join::{Join, JoinResult, SharingCode};
use kith_proto::peer::journal::version::JournalId;
use kith_proto::peer::pairing::EXPORTER_LABEL;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, StreamOwned};

use crate::PATIENCE;
use crate::https::Anybody;

/// A device that exists in this process only.
pub struct Joiner {
    /// Who it is.
    pub key: PublicKey,
    config: Arc<ClientConfig>,
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
        Self { key, config: Arc::new(config) }
    }

    /// A connection to the peer door at `address`.
    pub fn dial(&self, address: SocketAddr) -> io::Result<Session> {
        let tcp = TcpStream::connect_timeout(&address, PATIENCE)?;
        tcp.set_nodelay(true)?;
        tcp.set_read_timeout(Some(PATIENCE))?;
        tcp.set_write_timeout(Some(PATIENCE))?;
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

    /// Joins with `code`.
    pub fn join(
        &self,
        address: SocketAddr,
        code: &SharingCode,
        issuer: &PublicKey,
        resource: JournalId,
    ) -> io::Result<JoinResult> {
        let mut session = self.dial(address)?;
        let frame = self.frame(&session, code, issuer, resource);
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
