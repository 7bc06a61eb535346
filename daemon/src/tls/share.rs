//! TLS between a receiver of credentials and whoever comes to hand them over: version 1.3, a fresh certificate for each
//! share, pinned by the hash that the receiver announces. The sender shows none: the short code proves both ends.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use kith_proto::guest::CertificateHash;
use kith_proto::peer::Alpn;
use kith_proto::peer::share;
use rustls::client::Resumption;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::ServerName;
use rustls::server::NoServerSessionStorage;
use rustls::{ClientConfig, ConnectionCommon, ServerConfig, version};
use tokio::net::TcpStream;
use tokio_rustls::{TlsAcceptor, TlsConnector, TlsStream};

use super::Error as SetupError;
use super::channel::{self, Error, Reader, Writer};
use super::guest::{Certificate, Pinned};

/// A connection whose other end still has to prove that it knows the code.
pub struct Link {
    /// Frames from the other end.
    pub reader: Reader,
    /// Frames to the other end.
    pub writer: Writer,
    /// Where the other end is.
    pub remote: SocketAddr,
    /// What the proof is bound to.
    pub binding: share::Channel,
}

impl Link {
    fn new(
        stream: TlsStream<tokio::io::BufReader<TcpStream>>,
        remote: SocketAddr,
        hash: [u8; 32],
    ) -> Result<Self, Error> {
        let exporter = match &stream {
            TlsStream::Client(stream) => exporter(stream.get_ref().1),
            TlsStream::Server(stream) => exporter(stream.get_ref().1),
        }?;
        let (reader, writer) = channel::frames(stream);
        let binding = share::Channel { certificate_hash: hash, exporter };
        Ok(Self { reader, writer, remote: channel::plain(remote), binding })
    }

    /// Says goodbye, and reads on until the other end has too.
    pub async fn close(self) {
        channel::close(self.reader, self.writer).await;
    }
}

fn exporter<D>(connection: &ConnectionCommon<D>) -> Result<[u8; 32], Error> {
    let exported = connection.export_keying_material([0; 32], share::EXPORTER_LABEL.as_bytes(), Some(&[]));
    exported.map_err(|error| io::Error::other(error).into())
}

/// The receiver's side: one certificate for one share.
#[derive(Clone)]
pub struct Door {
    config: Arc<ServerConfig>,
    hash: CertificateHash,
}

impl Door {
    /// A fresh certificate.
    pub fn new() -> Result<Self, SetupError> {
        let Certificate { der, key, hash } = Certificate::new(&[])?;
        let mut config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_protocol_versions(&[&version::TLS13])?
            .with_no_client_auth()
            .with_single_cert(vec![der], key)?;
        config.alpn_protocols = vec![Alpn::Share.as_bytes().to_vec()];
        config.send_tls13_tickets = 0;
        config.session_storage = Arc::new(NoServerSessionStorage {});
        Ok(Self { config: Arc::new(config), hash })
    }

    /// What is announced: SHA-256 of the certificate.
    pub fn certificate_hash(&self) -> [u8; 32] {
        self.hash.to_bytes()
    }

    /// Shakes hands on an accepted connection.
    pub async fn accept(&self, tcp: TcpStream, remote: SocketAddr) -> Result<Link, Error> {
        channel::prepare(&tcp)?;
        let stream = TlsAcceptor::from(self.config.clone()).accept(channel::buffered(tcp)).await?;
        if stream.get_ref().1.alpn_protocol().is_none() {
            return Err(Error::NoProtocol);
        }
        Link::new(TlsStream::from(stream), remote, self.hash.to_bytes())
    }
}

/// Dials `address`, where a receiver with this certificate is announced.
pub async fn connect(address: SocketAddr, certificate_hash: [u8; 32]) -> Result<Link, Error> {
    let tcp = TcpStream::connect(address).await?;
    channel::prepare(&tcp)?;
    let config =
        client(CertificateHash::from_bytes(certificate_hash)).map_err(|error| Error::Malformed(error.to_string()))?;
    let name = ServerName::IpAddress(address.ip().into());
    let stream = TlsConnector::from(config).connect(name, channel::buffered(tcp)).await?;
    if stream.get_ref().1.alpn_protocol().is_none() {
        return Err(Error::NoProtocol);
    }
    Link::new(TlsStream::from(stream), address, certificate_hash)
}

fn client(expected: CertificateHash) -> Result<Arc<ClientConfig>, SetupError> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&[&version::TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Pinned { provider, expected: Some(expected) }))
        .with_no_client_auth();
    config.alpn_protocols = vec![Alpn::Share.as_bytes().to_vec()];
    config.enable_sni = false;
    config.resumption = Resumption::disabled();
    Ok(Arc::new(config))
}
