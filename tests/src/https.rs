//! HTTPS by hand: requests byte by byte, over TLS with or without a certificate of one's own, from an address of one's
//! choice. No HTTP library would say what the tests want to say.

use std::io::{self, Read, Write};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpStream};
use std::sync::Arc;

use kith_proto::guest::CertificateHash;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, UnixTime};
use rustls::{
    ClientConfig, ClientConnection, DigitallySignedStruct, ProtocolVersion, SignatureScheme, StreamOwned,
    SupportedProtocolVersion,
};
use serde_json::Value;

use crate::PATIENCE;

/// A self-signed certificate with its key, of the kind that the apps make.
#[derive(Clone)]
pub struct Identity {
    certificate: CertificateDer<'static>,
    key: Vec<u8>,
}

impl Identity {
    /// One that nobody has seen before.
    pub fn new() -> Self {
        let pair = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).expect("a key can be made");
        let certificate = rcgen::CertificateParams::default().self_signed(&pair).expect("a certificate can be made");
        Self { certificate: certificate.der().clone(), key: pair.serialize_der() }
    }

    /// The hash of the certificate: 64 lower-case hex digits.
    pub fn hash(&self) -> String {
        CertificateHash::of(&self.certificate).to_string()
    }
}

impl Default for Identity {
    fn default() -> Self {
        Self::new()
    }
}

/// Who calls, and whom.
#[derive(Clone)]
pub struct Caller {
    to: SocketAddr,
    from: Option<IpAddr>,
    identity: Option<Identity>,
    versions: Vec<&'static SupportedProtocolVersion>,
    alpn: Vec<Vec<u8>>,
}

impl Caller {
    /// Calls `to` without a certificate, in TLS 1.2 or 1.3, and asks for HTTP/1.1.
    pub fn new(to: SocketAddr) -> Self {
        Self {
            to,
            from: None,
            identity: None,
            versions: rustls::ALL_VERSIONS.to_vec(),
            alpn: vec![b"http/1.1".to_vec()],
        }
    }

    /// The same, with a certificate.
    #[must_use]
    pub fn showing(mut self, identity: &Identity) -> Self {
        self.identity = Some(identity.clone());
        self
    }

    /// The same, without a certificate.
    #[must_use]
    pub fn showing_none(mut self) -> Self {
        self.identity = None;
        self
    }

    /// The same, from another address of this machine.
    #[must_use]
    pub fn from(mut self, ip: &str) -> Self {
        self.from = Some(ip.parse().expect("an IP address"));
        self
    }

    /// The same, to another address.
    #[must_use]
    pub fn to(mut self, ip: &str) -> Self {
        self.to = SocketAddr::new(ip.parse().expect("an IP address"), self.to.port());
        self
    }

    /// The same in this version of TLS alone.
    #[must_use]
    pub fn speaking(mut self, version: &'static SupportedProtocolVersion) -> Self {
        self.versions = vec![version];
        self
    }

    /// The same with these names in ALPN.
    #[must_use]
    pub fn asking_for(mut self, alpn: &[&str]) -> Self {
        self.alpn = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
        self
    }

    /// A TCP connection. No wait on it is endless.
    pub fn dial(&self) -> io::Result<TcpStream> {
        let stream = match self.from {
            None => TcpStream::connect_timeout(&self.to, PATIENCE)?,
            Some(from) => {
                let family = if from.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
                // No daemon that another test starts meanwhile shall have a copy.
                let socket = socket_with(family, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
                rustix::net::bind(&socket, &SocketAddr::new(from, 0))?;
                rustix::net::connect(&socket, &self.to)?;
                TcpStream::from(socket)
            }
        };
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        stream.set_nodelay(true)?;
        Ok(stream)
    }

    /// A connection on which the handshake is done.
    pub fn connect(&self) -> io::Result<Connection> {
        let mut connection = Connection { stream: StreamOwned::new(self.client(), self.dial()?), ahead: Vec::new() };
        while connection.stream.conn.is_handshaking() {
            connection.stream.conn.complete_io(&mut connection.stream.sock)?;
        }
        Ok(connection)
    }

    /// What a client says first, as it crosses the wire.
    pub fn hello(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.client().write_tls(&mut bytes).expect("memory takes it");
        bytes
    }

    /// The answer to one request, on a connection of its own.
    pub fn try_ask(&self, request: &[u8]) -> io::Result<Answer> {
        let mut connection = self.connect()?;
        connection.write(request);
        connection.answer()
    }

    /// The answer to one request, on a connection of its own. There is one.
    #[track_caller]
    pub fn ask(&self, request: &[u8]) -> Answer {
        match self.try_ask(request) {
            Ok(answer) => answer,
            Err(error) => panic!("no answer to {:?}: {error}", first_line(request)),
        }
    }

    fn client(&self) -> ClientConnection {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&self.versions)
            .expect("versions of TLS")
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Anybody));
        let mut config = match &self.identity {
            Some(Identity { certificate, key }) => {
                let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.clone()));
                builder.with_client_auth_cert(vec![certificate.clone()], key).expect("a key with its certificate")
            }
            None => builder.with_no_client_auth(),
        };
        config.alpn_protocols.clone_from(&self.alpn);
        config.enable_sni = false;
        ClientConnection::new(Arc::new(config), ServerName::IpAddress(self.to.ip().into())).expect("a client")
    }
}

/// A connection, to say several things on, or one slowly.
pub struct Connection {
    stream: StreamOwned<ClientConnection, TcpStream>,
    ahead: Vec<u8>,
}

impl Connection {
    /// The hash of the certificate that the server showed: 64 lower-case hex digits.
    pub fn certificate_hash(&self) -> String {
        CertificateHash::of(&self.certificate()).to_string()
    }

    /// The certificate that the server showed, in DER.
    pub fn certificate(&self) -> Vec<u8> {
        let chain = self.stream.conn.peer_certificates().expect("a handshake that is done");
        assert_eq!(chain.len(), 1, "one certificate is enough");
        chain[0].to_vec()
    }

    /// The version of TLS.
    pub fn version(&self) -> ProtocolVersion {
        self.stream.conn.protocol_version().expect("a handshake that is done")
    }

    /// What was agreed upon by ALPN.
    pub fn alpn(&self) -> Option<&[u8]> {
        self.stream.conn.alpn_protocol()
    }

    /// Tickets for a later connection that came so far.
    pub fn tickets(&self) -> u32 {
        self.stream.conn.tls13_tickets_received()
    }

    /// Sends bytes. Says whether they were taken: the server may have hung up, and have said why before.
    pub fn write(&mut self, bytes: &[u8]) -> bool {
        self.stream.write_all(bytes).and_then(|()| self.stream.flush()).is_ok()
    }

    /// No more will come from here.
    pub fn half_close(&mut self) {
        self.stream.conn.send_close_notify();
        drop(self.stream.flush());
        drop(self.stream.sock.shutdown(Shutdown::Write));
    }

    /// The next answer. One without a length is an error: this server has none.
    pub fn answer(&mut self) -> io::Result<Answer> {
        let end = loop {
            if let Some(at) = self.ahead.windows(4).position(|four| four == b"\r\n\r\n") {
                break at + 4;
            }
            self.more()?;
        };
        let head: Vec<u8> = self.ahead.drain(..end).collect();
        let mut answer = Answer::read(&head).ok_or_else(|| invalid(&head))?;
        let bodiless = answer.status < 200 || answer.status == 204 || answer.status == 304;
        let length = match answer.header("content-length") {
            _ if bodiless => 0,
            Some(length) => length.parse().map_err(|_| invalid(&head))?,
            None => return Err(invalid(&head)),
        };
        while self.ahead.len() < length {
            self.more()?;
        }
        answer.body = self.ahead.drain(..length).collect();
        Ok(answer)
    }

    /// Whether the server hangs up without another word.
    pub fn is_hung_up(&mut self) -> bool {
        match self.more() {
            Ok(()) => false,
            Err(error) => !matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut),
        }
    }

    fn more(&mut self) -> io::Result<()> {
        let mut bytes = [0; 16 << 10];
        match self.stream.read(&mut bytes)? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            len => {
                self.ahead.extend_from_slice(&bytes[..len]);
                Ok(())
            }
        }
    }
}

/// What a server answered.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// Every header as it came.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Vec<u8>,
}

impl Answer {
    fn read(head: &[u8]) -> Option<Self> {
        let head = std::str::from_utf8(head).ok()?;
        let mut lines = head.trim_end_matches("\r\n").split("\r\n");
        let status = lines.next()?.strip_prefix("HTTP/1.1 ")?.get(..3)?.parse().ok()?;
        let headers = lines.map(|line| {
            let (name, value) = line.split_once(':')?;
            Some((name.to_owned(), value.trim().to_owned()))
        });
        Some(Self { status, headers: headers.collect::<Option<_>>()?, body: Vec::new() })
    }

    /// The value of a header, whatever its case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(have, _)| have.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    /// The body as JSON, which it says it is.
    #[track_caller]
    pub fn json(&self) -> Value {
        assert_eq!(self.header("content-type"), Some("application/json"), "{self:?}");
        match serde_json::from_slice(&self.body) {
            Ok(value) => value,
            Err(error) => panic!("{error}: {self:?}"),
        }
    }

    /// This answer, if its status is `status`.
    #[track_caller]
    pub fn expect(self, status: u16) -> Self {
        assert_eq!(self.status, status, "{}", String::from_utf8_lossy(&self.body));
        self
    }
}

fn invalid(head: &[u8]) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, String::from_utf8_lossy(head).into_owned())
}

fn first_line(request: &[u8]) -> String {
    String::from_utf8_lossy(request.split(|byte| *byte == b'\r').next().unwrap_or_default()).into_owned()
}

/// Believes anybody: the tests know whom they dialled, or look at the certificate themselves.
#[derive(Debug)]
pub struct Anybody;

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519, SignatureScheme::ECDSA_NISTP256_SHA256]
    }
}
