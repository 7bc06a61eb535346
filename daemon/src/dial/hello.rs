//! Hello stores: one request over HTTP/1.1 on a connection of its own. No redirects, no proxies, nothing that is longer
//! than it may be.

use std::net::SocketAddr;
use std::pin::pin;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::Request;
use hyper::client::conn::http1;
use hyper::header::{AUTHORIZATION, CONNECTION, HOST, HeaderName, HeaderValue, RETRY_AFTER};
use hyper::http::response::Parts;
use hyper_util::rt::TokioIo;
use kith_proto::guest::hello::{EXPIRES, Lookup, OWNER, OwnerHash, OwnerToken, PATH, StoreUrl};
use kith_proto::limits;
use rustls::pki_types::ServerName;
use rustls::{CertificateError, ClientConfig, RootCertStore};
use serde::Deserialize;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use zeroize::Zeroizing;

use super::race::race;
use super::{Dial, Error, HANDSHAKE, worst};
use crate::hello_store::{Deposited, Found};
use crate::tls::{ChannelError, channel, guest};

/// How long one call may take, names and handshake included.
const PATIENCE: Duration = Duration::from_secs(limits::HELLO_LOOKUP_SECONDS);
/// The longest head of an answer.
const HEAD: usize = 16 << 10;
/// A longer wait than this that a store asks for is cut: a day.
const RETRY_MAX: u32 = 86_400;

/// A hello store, as others see it.
#[derive(Debug, Clone)]
pub enum Store {
    /// That of a device on the LAN, whatever certificate it shows: what lies there is sealed.
    Lan(Vec<SocketAddr>),
    /// One that the configuration names.
    Url(StoreUrl),
}

/// Why a hello store gave no answer of use. Never says what it sent.
#[derive(Debug, thiserror::Error)]
pub enum HelloError {
    /// Nobody answers, or not in time.
    #[error("the hello store cannot be reached: {0}")]
    Unreachable(String),
    /// It is not who it should be.
    #[error("the hello store shows a certificate that is not believed")]
    Certificate,
    /// It does not do what was asked.
    #[error("the hello store refuses (status {status})")]
    Refused {
        /// The HTTP status.
        status: u16,
        /// When to ask again, in seconds.
        retry_after: Option<u32>,
    },
    /// What came is no answer of a hello store.
    #[error("what answers there is no hello store")]
    Malformed,
}

/// What was answered.
struct Answer {
    head: Parts,
    body: Bytes,
}

impl Dial {
    /// Looks a blob up.
    pub async fn hello_get(&self, store: &Store, lookup: &Lookup) -> Result<Found, HelloError> {
        let answer = self.ask(store, Request::get(path(lookup)), Bytes::new()).await?;
        match answer.head.status.as_u16() {
            200 => {
                let seconds: Option<u64> = header(&answer.head, EXPIRES).and_then(|text| text.parse().ok());
                let expires_ms = seconds.and_then(|seconds| seconds.checked_mul(1000)).ok_or(HelloError::Malformed)?;
                let blob = answer.body.to_vec();
                if blob.is_empty() { Err(HelloError::Malformed) } else { Ok(Found::Blob { blob, expires_ms }) }
            }
            404 => Ok(Found::Nothing),
            410 => match serde_json::from_slice(&answer.body) {
                Ok(Gone { error: Why::Expired }) => Ok(Found::Expired),
                Ok(Gone { error: Why::Withdrawn }) => Ok(Found::Withdrawn),
                Err(_) => Err(HelloError::Malformed),
            },
            _ => Err(refused(&answer)),
        }
    }

    /// Puts a blob there.
    pub async fn hello_put(
        &self,
        store: &StoreUrl,
        lookup: &Lookup,
        blob: &[u8],
        owner: OwnerHash,
        expires_ms: u64,
    ) -> Result<Deposited, HelloError> {
        let request = Request::put(path(lookup)).header(OWNER, owner.to_text()).header(EXPIRES, expires_ms / 1000);
        let answer = self.ask(&Store::Url(store.clone()), request, Bytes::copy_from_slice(blob)).await?;
        match answer.head.status.as_u16() {
            201 => Ok(Deposited::Created),
            200 => Ok(Deposited::Same),
            409 => Ok(Deposited::Other),
            507 => Ok(Deposited::Full),
            _ => Err(refused(&answer)),
        }
    }

    /// Takes a blob away; whether it was there, and the token its owner's.
    pub async fn hello_withdraw(
        &self,
        store: &StoreUrl,
        lookup: &Lookup,
        token: &OwnerToken,
    ) -> Result<bool, HelloError> {
        let request = Request::delete(path(lookup)).header(AUTHORIZATION, bearer(token)?);
        let answer = self.ask(&Store::Url(store.clone()), request, Bytes::new()).await?;
        match answer.head.status.as_u16() {
            204 => Ok(true),
            404 => Ok(false),
            _ => Err(refused(&answer)),
        }
    }

    async fn ask(&self, store: &Store, request: Builder, body: Bytes) -> Result<Answer, HelloError> {
        let exchange = async {
            let (stream, host) = self.connect_store(store).await?;
            exchange(stream, request.header(HOST, host), body).await
        };
        let late = |_| HelloError::Unreachable("no answer in time".to_owned());
        timeout(PATIENCE, exchange).await.map_err(late)?
    }

    async fn connect_store(&self, store: &Store) -> Result<(TlsStream<TcpStream>, String), HelloError> {
        match store {
            Store::Lan(addresses) => {
                let config = guest::stranger(None).map_err(broken)?;
                let found = self.guest(addresses, &config).await?;
                // Without the scope of a link-local address: it means something on this device only.
                let host = SocketAddr::new(found.remote.ip(), found.remote.port()).to_string();
                Ok((found.stream, host))
            }
            Store::Url(url) => {
                let place = authority(&url.host, Some(url.port));
                let addresses = self.resolve(&place, None).await?;
                let config = match url.pin {
                    Some(pin) => guest::stranger(Some(pin)).map_err(broken)?,
                    None => self.web().await?,
                };
                let name = ServerName::try_from(url.host.clone());
                let name = name.map_err(|_| HelloError::Unreachable("its name is no name of a host".to_owned()))?;
                let connect = |address| Box::pin(connect(address, name.clone(), config.clone())) as _;
                let stream = race(&addresses, connect).await.map_err(worst)?;
                Ok((stream, authority(&url.host, (url.port != 443).then_some(url.port))))
            }
        }
    }

    /// The configuration for stores that the system's authorities vouch for: read when first needed.
    async fn web(&self) -> Result<Arc<ClientConfig>, HelloError> {
        let known = || self.web.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(config) = known() {
            return Ok(config);
        }
        let config = self.tasks.blocking(authorities).await?;
        *self.web.lock().unwrap_or_else(PoisonError::into_inner) = Some(config.clone());
        Ok(config)
    }
}

/// Everybody whom this system believes.
fn authorities() -> Result<Arc<ClientConfig>, HelloError> {
    let found = rustls_native_certs::load_native_certs();
    let mut store = RootCertStore::empty();
    store.add_parsable_certificates(found.certs);
    if store.is_empty() {
        let why = "this system has no certificates of authorities; pin the one of the store: https://HOST#HASH";
        return Err(HelloError::Unreachable(why.to_owned()));
    }
    guest::web(store).map_err(broken)
}

async fn connect(
    remote: SocketAddr,
    name: ServerName<'static>,
    config: Arc<ClientConfig>,
) -> Result<TlsStream<TcpStream>, Error> {
    let shake = async {
        let tcp = TcpStream::connect(remote).await?;
        channel::prepare(&tcp)?;
        Ok(TlsConnector::from(config).connect(name, tcp).await?)
    };
    channel::within(HANDSHAKE, shake).await.map_err(|error| match error {
        ChannelError::NoProtocol => Error::Protocol("it does not speak HTTP".to_owned()),
        ChannelError::Cut(error) if is_certificate(&error) => Error::WrongKey,
        // No protocol of the peer door is involved: the other one is never named.
        error => Error::of(error, kith_proto::peer::Alpn::Send),
    })
}

/// Whether the handshake failed because of whom it led to.
fn is_certificate(error: &std::io::Error) -> bool {
    let tls = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    matches!(tls, Some(rustls::Error::InvalidCertificate(why)) if *why != CertificateError::BadEncoding)
}

type Builder = hyper::http::request::Builder;

async fn exchange(stream: TlsStream<TcpStream>, request: Builder, body: Bytes) -> Result<Answer, HelloError> {
    let request = request.header(CONNECTION, "close").body(Full::new(body)).map_err(|_| HelloError::Malformed)?;
    let mut client = http1::Builder::new();
    client.max_buf_size(HEAD);
    let (mut sender, connection) = client.handshake(TokioIo::new(stream)).await?;
    let mut connection = pin!(connection);
    let exchange = async {
        let (head, body) = sender.send_request(request).await?.into_parts();
        let body = Limited::new(body, limits::HELLO_BLOB).collect().await.map_err(|_| HelloError::Malformed)?;
        Ok(Answer { head, body: body.to_bytes() })
    };
    let mut exchange = pin!(exchange);
    tokio::select! {
        biased;
        answer = &mut exchange => answer,
        // What was read before it ended is still there.
        _ = &mut connection => exchange.await,
    }
}

fn path(lookup: &Lookup) -> String {
    format!("{PATH}{}", lookup.to_text())
}

/// A host as it stands in an address.
fn authority(host: &str, port: Option<u16>) -> String {
    let host = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
    port.map_or_else(|| host.clone(), |port| format!("{host}:{port}"))
}

fn bearer(token: &OwnerToken) -> Result<HeaderValue, HelloError> {
    let text = Zeroizing::new(format!("Bearer {}", token.expose()));
    let mut value = HeaderValue::from_str(&text).map_err(|_| HelloError::Malformed)?;
    value.set_sensitive(true);
    Ok(value)
}

fn header<'a>(head: &'a Parts, name: &'static str) -> Option<&'a str> {
    head.headers
        .get(HeaderName::from_static(name))?
        .to_str()
        .ok()
        .filter(|text| text.bytes().all(|b| b.is_ascii_digit()))
}

fn refused(answer: &Answer) -> HelloError {
    let retry_after = header(&answer.head, RETRY_AFTER.as_str()).and_then(|text| text.parse().ok());
    HelloError::Refused { status: answer.head.status.as_u16(), retry_after: retry_after.map(|s: u32| s.min(RETRY_MAX)) }
}

fn broken(error: crate::tls::Error) -> HelloError {
    HelloError::Unreachable(error.to_string())
}

/// What stands in a 410.
#[derive(Deserialize)]
struct Gone {
    error: Why,
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum Why {
    Expired,
    Withdrawn,
}

impl From<Error> for HelloError {
    fn from(error: Error) -> Self {
        match error {
            Error::WrongKey => Self::Certificate,
            Error::Protocol(_) | Error::NoProtocol(_) => Self::Malformed,
            Error::Offline(why) => Self::Unreachable(why),
            error => Self::Unreachable(error.to_string()),
        }
    }
}

impl From<hyper::Error> for HelloError {
    fn from(error: hyper::Error) -> Self {
        if error.is_parse() { Self::Malformed } else { Self::Unreachable("the connection broke".to_owned()) }
    }
}

#[cfg(test)]
#[path = "hello_tests.rs"]
mod tests;
