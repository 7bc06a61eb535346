//! What the machine can do at best: files over plain rustls, hashed on arrival, written. Two processes as the daemons are
//! two, threads that block, no names checked, nothing journalled, no progress.
//!
//! On the wire: for each file the length of its path, its path, its size, its bytes; at the end a length of zero; then
//! one byte back.

use std::fs::{self, File};
use std::hint::black_box;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, ensure};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, ServerConfig, ServerConnection, StreamOwned};
use sha2::{Digest, Sha256};

/// The hidden words with which this program starts itself as one of the two.
pub const RECEIVE: &str = "baseline-receive";
/// See [`RECEIVE`].
pub const SEND: &str = "baseline-send";

/// Bytes that are read, hashed and written at once.
const PIECE: usize = 256 << 10;

/// One of the two processes.
pub fn main(words: &[&str]) -> anyhow::Result<()> {
    match *words {
        [RECEIVE, target, sync, hash] => receive(Path::new(target), sync == "sync", hash),
        [SEND, source, port, certificate] => send(Path::new(source), port.parse()?, Path::new(certificate)),
        _ => anyhow::bail!("{RECEIVE} TARGET sync|plain blake3|sha256, or {SEND} SOURCE PORT CERTIFICATE"),
    }
}

fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

fn receive(target: &Path, sync: bool, hash: &str) -> anyhow::Result<()> {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()])?;
    let certificate = target.join(".certificate");
    fs::write(&certificate, made.cert.der())?;
    let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).map_err(anyhow::Error::msg)?;
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)?;
    config.send_tls13_tickets = 0;

    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    println!("{} {}", listener.local_addr()?.port(), certificate.display());
    let (socket, _) = listener.accept()?;
    socket.set_nodelay(true)?;
    let mut stream = StreamOwned::new(ServerConnection::new(Arc::new(config))?, socket);
    let mut piece = vec![0; PIECE];
    while let Some(path) = read_path(&mut stream)? {
        let path = target.join(path);
        fs::create_dir_all(path.parent().context("a file lies in a directory")?)?;
        let mut size = [0; 8];
        stream.read_exact(&mut size)?;
        let mut left = u64::from_be_bytes(size);
        let mut file = File::create(path)?;
        let mut hasher = Hasher::new(hash);
        while left > 0 {
            let want = piece.len().min(usize::try_from(left).unwrap_or(usize::MAX));
            stream.read_exact(&mut piece[..want])?;
            hasher.update(&piece[..want]);
            file.write_all(&piece[..want])?;
            left -= want as u64;
        }
        hasher.finish();
        if sync {
            file.sync_all()?;
        }
    }
    stream.write_all(b"!")?;
    stream.conn.send_close_notify();
    stream.flush()?;
    fs::remove_file(certificate)?;
    Ok(())
}

/// As Kith's two doors hash.
enum Hasher {
    Blake3(Box<blake3::Hasher>),
    Sha256(Sha256),
}

impl Hasher {
    fn new(name: &str) -> Self {
        if name == "sha256" { Self::Sha256(Sha256::new()) } else { Self::Blake3(Box::default()) }
    }

    fn update(&mut self, bytes: &[u8]) {
        match self {
            Self::Blake3(hasher) => drop(hasher.update(bytes)),
            Self::Sha256(hasher) => hasher.update(bytes),
        }
    }

    fn finish(self) {
        match self {
            Self::Blake3(hasher) => drop(black_box(hasher.finalize())),
            Self::Sha256(hasher) => drop(black_box(hasher.finalize())),
        }
    }
}

fn read_path(stream: &mut impl Read) -> anyhow::Result<Option<PathBuf>> {
    let mut len = [0; 4];
    stream.read_exact(&mut len)?;
    let mut path = vec![0; u32::from_be_bytes(len) as usize];
    stream.read_exact(&mut path)?;
    Ok(if path.is_empty() { None } else { Some(String::from_utf8(path)?.into()) })
}

fn send(source: &Path, port: u16, certificate: &Path) -> anyhow::Result<()> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from(fs::read(certificate)?))?;
    let config = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_root_certificates(roots)
        .with_no_client_auth();
    let mut connection = ClientConnection::new(Arc::new(config), ServerName::try_from("localhost")?)?;
    connection.set_buffer_limit(Some(2 * PIECE));
    let socket = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
    socket.set_nodelay(true)?;
    let mut stream = StreamOwned::new(connection, socket);

    // Small files travel together: a write of their own for each would cost a record and a system call.
    let mut batch = Vec::with_capacity(2 * PIECE);
    for path in files(source)? {
        let name = path.strip_prefix(source.parent().context("a source lies in a directory")?)?;
        let name = name.to_str().context("a path in UTF-8")?;
        let file = File::open(&path)?;
        batch.extend_from_slice(&u32::try_from(name.len())?.to_be_bytes());
        batch.extend_from_slice(name.as_bytes());
        batch.extend_from_slice(&file.metadata()?.len().to_be_bytes());
        while (&file).take(PIECE as u64).read_to_end(&mut batch)? > 0 {
            if batch.len() >= PIECE {
                stream.write_all(&batch)?;
                batch.clear();
            }
        }
    }
    batch.extend_from_slice(&0_u32.to_be_bytes());
    stream.write_all(&batch)?;
    stream.flush()?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    ensure!(answer == b"!", "the receiver did not finish");
    Ok(())
}

/// Every file below `source`, or `source` itself.
fn files(source: &Path) -> anyhow::Result<Vec<PathBuf>> {
    if source.is_file() {
        return Ok(vec![source.to_owned()]);
    }
    let mut found = Vec::new();
    for entry in fs::read_dir(source)? {
        found.extend(files(&entry?.path())?);
    }
    found.sort();
    Ok(found)
}
