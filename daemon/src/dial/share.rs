//! Receivers of credentials: TLS with whoever shows the certificate that was announced.

use std::net::SocketAddr;

use kith_proto::peer::Alpn;

use super::race::race;
use super::{Dial, Error, HANDSHAKE, worst};
use crate::tls::channel;
use crate::tls::share::{self, Link};

impl Dial {
    /// A connection to the receiver at one of `addresses`; who shows another certificate is passed over.
    pub async fn share(&self, addresses: &[SocketAddr], certificate_hash: [u8; 32]) -> Result<Link, Error> {
        race(addresses, |address| Box::pin(connect(address, certificate_hash))).await.map_err(worst)
    }
}

async fn connect(address: SocketAddr, certificate_hash: [u8; 32]) -> Result<Link, Error> {
    let link = channel::within(HANDSHAKE, share::connect(address, certificate_hash)).await;
    link.map_err(|error| Error::of(error, Alpn::Share))
}
