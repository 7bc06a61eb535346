//! Guest doors: TLS with whoever shows the right certificate.

use std::net::SocketAddr;
use std::sync::Arc;

use kith_proto::peer::Alpn;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::race::race;
use super::{Dial, Error, HANDSHAKE, worst};
use crate::tls::ChannelError;
use crate::tls::channel;

/// A connection to a guest door.
pub struct Guest {
    /// What is said and heard there.
    pub stream: TlsStream<TcpStream>,
    /// Where it leads.
    pub remote: SocketAddr,
}

impl Dial {
    /// A connection to the guest door at one of `addresses`. Whose certificate will do is up to `config`; who shows
    /// another one is passed over.
    pub async fn guest(&self, addresses: &[SocketAddr], config: &Arc<ClientConfig>) -> Result<Guest, Error> {
        race(addresses, |address| Box::pin(connect(address, config.clone()))).await.map_err(worst)
    }
}

async fn connect(remote: SocketAddr, config: Arc<ClientConfig>) -> Result<Guest, Error> {
    let shake = async {
        let tcp = TcpStream::connect(remote).await?;
        channel::prepare(&tcp)?;
        let name = ServerName::IpAddress(remote.ip().into());
        let stream = TlsConnector::from(config).connect(name, tcp).await?;
        Ok(Guest { stream, remote })
    };
    channel::within(HANDSHAKE, shake).await.map_err(|error| match error {
        ChannelError::NoProtocol => Error::Protocol("it does not speak HTTP".to_owned()),
        // No protocol of the peer door is involved: the other one is never named.
        error => Error::of(error, Alpn::Send),
    })
}
