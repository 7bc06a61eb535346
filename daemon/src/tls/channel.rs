//! A connection of the peer door whose other end has proven its key: frames in, frames out.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::BufMut;
use kith_proto::id::PublicKey;
use kith_proto::peer::{Alpn, pairing};
use rustls::pki_types::ServerName;
use rustls::{AlertDescription, CommonState};
use serde::Serialize;
use sha2::{Digest, Sha256};
use tokio::io::{AsyncReadExt, AsyncWriteExt, BufReader, ReadHalf, WriteHalf};
use tokio::net::TcpStream;
use tokio_rustls::{LazyConfigAcceptor, TlsConnector, TlsStream};

use super::{Tls, verify};

/// rustls asks the socket for some 4 KiB at a time; this much is fetched at once instead.
const READ_AHEAD: usize = 128 << 10;
/// Queued messages are written when they reach this size.
const WRITE_BATCH: usize = 64 << 10;
/// How long a dead link goes unnoticed while something is under way.
const LINK_TIMEOUT: Duration = Duration::from_secs(20);
/// How long the other end may take to say goodbye.
const CLOSE_PATIENCE: Duration = Duration::from_secs(2);

pub(super) type Stream = TlsStream<BufReader<TcpStream>>;

/// An authenticated connection.
pub struct Channel {
    /// Frames from the other end.
    pub reader: Reader,
    /// Frames to the other end.
    pub writer: Writer,
    /// The other end's key, proven by the handshake.
    pub peer: PublicKey,
    /// Where the other end is.
    pub remote: SocketAddr,
    /// What a pairing on this connection is bound to.
    pub binding: pairing::Channel,
}

/// Why a connection ended, or never began.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The other end closed in order.
    #[error("the other side closed the connection")]
    Closed,
    /// The link broke.
    #[error("the connection broke: {0}")]
    Cut(#[source] io::Error),
    /// The other end does not trust this device.
    #[error("that device does not trust this one (any more)")]
    NotTrusted,
    /// The other end has another key than the one expected.
    #[error("another key answered than the one expected")]
    WrongKey,
    /// The other end does not speak this protocol, or has no reason to now.
    #[error("that device does not speak this protocol now")]
    NoProtocol,
    /// A frame larger than this protocol allows.
    #[error("a frame of {length} bytes where {max} are allowed")]
    TooLarge {
        /// What was announced.
        length: usize,
        /// What is allowed.
        max: usize,
    },
    /// A frame that is not what it should be.
    #[error("a malformed message: {0}")]
    Malformed(String),
    /// Too slow.
    #[error("the other side did not answer in time")]
    TimedOut,
}

impl From<io::Error> for Error {
    fn from(error: io::Error) -> Self {
        let tls = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
        match tls {
            Some(rustls::Error::AlertReceived(AlertDescription::AccessDenied)) => Self::NotTrusted,
            Some(rustls::Error::AlertReceived(AlertDescription::NoApplicationProtocol)) => Self::NoProtocol,
            Some(rustls::Error::InvalidCertificate(rustls::CertificateError::ApplicationVerificationFailure)) => {
                Self::WrongKey
            }
            _ => Self::Cut(error),
        }
    }
}

/// Frames from the other end. [`Reader::frame`] may be dropped and called again without losing bytes.
pub struct Reader {
    stream: ReadHalf<Stream>,
    head: [u8; 4],
    head_filled: usize,
    payload: Vec<u8>,
}

/// Frames to the other end.
pub struct Writer {
    stream: WriteHalf<Stream>,
    out: Vec<u8>,
}

/// Dials `address` and shakes hands. In TLS 1.3 the acceptor judges this end only afterwards: its refusal arrives as
/// [`Error::NotTrusted`] in place of the first frame.
pub async fn connect(
    tls: &Tls,
    address: SocketAddr,
    alpn: Alpn,
    expected: Option<PublicKey>,
) -> Result<Channel, Error> {
    let tcp = TcpStream::connect(address).await?;
    prepare(&tcp)?;
    let config = tls.client(alpn, expected).map_err(|error| Error::Malformed(error.to_string()))?;
    let name = ServerName::IpAddress(address.ip().into());
    let stream = TlsConnector::from(config).connect(name, buffered(tcp)).await?;
    let (certificate, peer) = certificate(stream.get_ref().1).ok_or(Error::WrongKey)?;
    let certificate_hash = Sha256::digest(certificate).into();
    let exporter = stream
        .get_ref()
        .1
        .export_keying_material([0; 32], pairing::EXPORTER_LABEL.as_bytes(), Some(&[]))
        .map_err(io::Error::other)?;
    let binding = pairing::Channel { certificate_hash, exporter, peer };
    Ok(Channel::new(TlsStream::from(stream), peer, address, binding))
}

/// Shakes hands on an accepted connection. `allow` says whether a protocol is spoken at this moment.
pub async fn accept(
    tls: &Tls,
    tcp: TcpStream,
    remote: SocketAddr,
    allow: impl FnOnce(Alpn) -> bool,
) -> Result<(Alpn, Channel), Error> {
    prepare(&tcp)?;
    let acceptor = rustls::server::Acceptor::default();
    let start = LazyConfigAcceptor::new(acceptor, buffered(tcp)).await?;
    let alpn = start.client_hello().alpn().and_then(Alpn::choose).filter(|alpn| allow(*alpn));
    let Some(alpn) = alpn else {
        // Whoever asked for a protocol is told that it is not spoken; whoever asked for none learns nothing.
        if start.client_hello().alpn().is_some()
            && let Err((_, io)) = start.into_stream(tls.refusal()).into_fallible().await
        {
            linger(io.into_inner()).await;
        }
        return Err(Error::NoProtocol);
    };
    let stream = match start.into_stream(tls.server(alpn)).into_fallible().await {
        Ok(stream) => stream,
        Err((error, io)) => {
            linger(io.into_inner()).await;
            return Err(error.into());
        }
    };
    let peer = certificate(stream.get_ref().1).ok_or(Error::WrongKey)?.1;
    let exporter = stream
        .get_ref()
        .1
        .export_keying_material([0; 32], pairing::EXPORTER_LABEL.as_bytes(), Some(&[]))
        .map_err(io::Error::other)?;
    let binding = pairing::Channel { certificate_hash: tls.certificate_hash(), exporter, peer };
    Ok((alpn, Channel::new(TlsStream::from(stream), peer, remote, binding)))
}

fn certificate(connection: &CommonState) -> Option<(&[u8], PublicKey)> {
    let certificate = connection.peer_certificates()?.first()?;
    Some((certificate.as_ref(), verify::device_key(certificate).ok()?))
}

/// Small frames go out at once, and a dead link is noticed.
pub fn prepare(tcp: &TcpStream) -> io::Result<()> {
    tcp.set_nodelay(true)?;
    let socket = socket2::SockRef::from(tcp);
    let keepalive = socket2::TcpKeepalive::new().with_time(LINK_TIMEOUT / 2).with_interval(LINK_TIMEOUT / 4);
    socket.set_tcp_keepalive(&keepalive)?;
    #[cfg(target_os = "linux")]
    socket.set_tcp_user_timeout(Some(LINK_TIMEOUT))?;
    Ok(())
}

/// Lets the other end read why it was refused: closing a socket with unread bytes in it would reset the connection and
/// take the alert along.
async fn linger(mut tcp: TcpStream) {
    let drain = async {
        let _ = tcp.shutdown().await;
        let mut scratch = [0; 1024];
        while tcp.read(&mut scratch).await.is_ok_and(|n| n > 0) {}
    };
    let _ = tokio::time::timeout(CLOSE_PATIENCE, drain).await;
}

impl Channel {
    fn new(stream: Stream, peer: PublicKey, remote: SocketAddr, binding: pairing::Channel) -> Self {
        let (reader, writer) = frames(stream);
        Self { reader, writer, peer, remote: plain(remote), binding }
    }

    /// Says goodbye, and reads on until the other end has too, so that nothing that was sent is lost.
    pub async fn close(self) {
        close(self.reader, self.writer).await;
    }
}

/// Says goodbye, and reads on until the other end has too.
pub(super) async fn close(mut reader: Reader, mut writer: Writer) {
    let goodbye = async {
        if writer.shutdown().await.is_ok() {
            while reader.skip().await {}
        }
    };
    let _ = tokio::time::timeout(CLOSE_PATIENCE, goodbye).await;
}

/// Frames over a connection on which both ends have shaken hands.
pub(super) fn frames(stream: Stream) -> (Reader, Writer) {
    let (read, write) = tokio::io::split(stream);
    let reader = Reader { stream: read, head: [0; 4], head_filled: 0, payload: Vec::new() };
    (reader, Writer { stream: write, out: Vec::new() })
}

/// A connection that is read ahead of.
pub(super) fn buffered(tcp: TcpStream) -> BufReader<TcpStream> {
    BufReader::with_capacity(READ_AHEAD, tcp)
}

/// An IPv4 address that arrived at an IPv6 socket is shown as what it is.
pub(super) fn plain(remote: SocketAddr) -> SocketAddr {
    SocketAddr::new(remote.ip().to_canonical(), remote.port())
}

impl Reader {
    /// The next frame's payload.
    pub async fn frame(&mut self, max: usize) -> Result<Vec<u8>, Error> {
        while self.head_filled < 4 {
            let n = self.stream.read(&mut self.head[self.head_filled..]).await?;
            if n == 0 {
                return Err(if self.head_filled == 0 { Error::Closed } else { cut() });
            }
            self.head_filled += n;
        }
        let length = usize::try_from(u32::from_be_bytes(self.head)).unwrap_or(usize::MAX);
        if length > max {
            return Err(Error::TooLarge { length, max });
        }
        if self.payload.capacity() < length {
            self.payload.reserve_exact(length);
        }
        while self.payload.len() < length {
            let missing = length - self.payload.len();
            if self.stream.read_buf(&mut (&mut self.payload).limit(missing)).await? == 0 {
                return Err(cut());
            }
        }
        self.head_filled = 0;
        Ok(std::mem::take(&mut self.payload))
    }

    /// The next frame, as a message.
    pub async fn message<T: serde::de::DeserializeOwned>(&mut self, max: usize) -> Result<T, Error> {
        let frame = self.frame(max).await?;
        serde_json::from_slice(&frame).map_err(|error| Error::Malformed(error.to_string()))
    }

    async fn skip(&mut self) -> bool {
        let mut scratch = [0; 4096];
        self.stream.read(&mut scratch).await.is_ok_and(|n| n > 0)
    }
}

fn cut() -> Error {
    Error::Cut(io::ErrorKind::UnexpectedEof.into())
}

impl Writer {
    /// Adds a message to what goes out with the next flush.
    pub async fn queue<T: Serialize + Sync>(&mut self, message: &T) -> Result<(), Error> {
        encode(&mut self.out, message);
        self.drain(WRITE_BATCH).await
    }

    /// Sends whole frames that were put together elsewhere.
    pub async fn send_frames(&mut self, frames: &[u8]) -> Result<(), Error> {
        self.drain(0).await?;
        Ok(self.stream.write_all(frames).await?)
    }

    /// Sends everything that was queued.
    pub async fn flush(&mut self) -> Result<(), Error> {
        self.drain(0).await?;
        Ok(self.stream.flush().await?)
    }

    /// Sends one frame now.
    pub async fn send_frame(&mut self, payload: &[u8]) -> Result<(), Error> {
        self.out.put_u32(u32::try_from(payload.len()).expect("frames are bounded by their kind"));
        self.out.extend_from_slice(payload);
        self.flush().await
    }

    /// Sends one message now.
    pub async fn send<T: Serialize + Sync>(&mut self, message: &T) -> Result<(), Error> {
        self.queue(message).await?;
        self.flush().await
    }

    async fn drain(&mut self, above: usize) -> Result<(), Error> {
        if self.out.len() > above {
            self.stream.write_all(&self.out).await?;
            self.out.clear();
        }
        Ok(())
    }

    async fn shutdown(&mut self) -> Result<(), Error> {
        self.flush().await?;
        Ok(self.stream.shutdown().await?)
    }
}

/// Appends `message` as a frame.
pub fn encode<T: Serialize>(frames: &mut Vec<u8>, message: &T) {
    let start = frames.len();
    frames.put_u32(0);
    serde_json::to_writer(&mut *frames, message).expect("messages are plain data");
    let length = u32::try_from(frames.len() - start - 4).expect("messages are bounded by their pages");
    frames[start..start + 4].copy_from_slice(&length.to_be_bytes());
}

/// `work`, or [`Error::TimedOut`].
pub async fn within<T>(patience: Duration, work: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
    tokio::time::timeout(patience, work).await.unwrap_or(Err(Error::TimedOut))
}
