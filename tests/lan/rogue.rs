//! Somebody on the LAN who wants credentials that are not meant for him, wants to plant some, or just wants to annoy.
//!
//! `rogue crowd IP COUNT PORT` announces so many receivers at a port of this host, again and again.
//! `rogue wait IP MODE` is a receiver: `mute` never shakes hands, `silent` never says anything afterwards, `garbage` says
//! what nobody should, `guess:CODE` tries a code, `relay` passes everything on to the next real receiver.
//! `rogue call MODE` calls each receiver that it hears: `inject` hands over without a word about a code, `null`, `huge`,
//! `slow`, `guess:CODE` (until it is sent away), `hold` keeps as many connections as it gets.
//!
//! Each prints a line for each thing that happened, beginning with `ready`; `WON` if it got what it wanted.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Context, bail};
use kith_proto::limits;
use kith_proto::peer::Alpn;
use kith_proto::peer::share::announcement::{Announcement, Protocol};
use kith_proto::peer::share::message::{Message, Outcome};
use kith_proto::peer::share::{Channel, EXPORTER_LABEL, Receiver, Sender};
use kith_proto::short_code::ShortCode;
use kith_tests::https::Anybody;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, ConnectionCommon, ServerConfig, ServerConnection, StreamOwned};
use sha2::{Digest, Sha256};
use socket2::{Domain, Socket, Type};

const OFTEN: Duration = Duration::from_millis(200);
const RANDOM: [u8; 64] = [42; 64];

fn main() -> anyhow::Result<()> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    match words.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["crowd", ip, count, port] => crowd(ip.parse()?, count.parse()?, port.parse()?),
        ["wait", ip, mode] => wait(ip.parse()?, mode),
        ["call", mode] => call(mode),
        _ => bail!("rogue crowd IP COUNT PORT | wait IP MODE | call MODE"),
    }
}

fn crowd(ip: Ipv4Addr, count: u16, port: u16) -> anyhow::Result<()> {
    println!("ready");
    loop {
        for n in 0..count {
            announce(ip, port, Sha256::digest(n.to_be_bytes()).into())?;
        }
        pause();
    }
}

fn announce(ip: Ipv4Addr, port: u16, certificate_hash: [u8; 32]) -> anyhow::Result<()> {
    let socket = UdpSocket::bind((ip, 0))?;
    socket.set_broadcast(true)?;
    let announcement = Announcement { protocol: Protocol::Kith { session: [1; 16] }, port, certificate_hash };
    let [a, b, c, _] = ip.octets();
    socket.send_to(announcement.to_string().as_bytes(), (Ipv4Addr::new(a, b, c, 255), limits::SHARE_PORT))?;
    Ok(())
}

fn pause() {
    kith_tests::wait::nap(OFTEN);
}

/// A receiver that was heard, and where.
fn heard(ears: &UdpSocket, own: Option<Ipv4Addr>) -> anyhow::Result<(Announcement, SocketAddr)> {
    let mut bytes = [0; 512];
    loop {
        let (len, from) = ears.recv_from(&mut bytes)?;
        if let Ok(announcement) = Announcement::parse(&bytes[..len])
            && own.is_none_or(|own| from.ip() != own)
        {
            return Ok((announcement, SocketAddr::new(from.ip(), announcement.port)));
        }
    }
}

fn ears() -> anyhow::Result<UdpSocket> {
    let socket = Socket::new(Domain::IPV4, Type::DGRAM, None)?;
    socket.set_reuse_address(true)?;
    socket.bind(&SocketAddr::from((Ipv4Addr::UNSPECIFIED, limits::SHARE_PORT)).into())?;
    Ok(socket.into())
}

// ---- the false receiver

fn wait(ip: Ipv4Addr, mode: &str) -> anyhow::Result<()> {
    let pair = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256)?;
    let certificate = rcgen::CertificateParams::default().self_signed(&pair)?;
    let hash: [u8; 32] = Sha256::digest(certificate.der()).into();
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(pair.serialize_der()));
    let mut config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], key)?;
    config.alpn_protocols = vec![Alpn::Share.as_bytes().to_vec()];
    let config = Arc::new(config);
    let listener = TcpListener::bind((ip, 0))?;
    let port = listener.local_addr()?.port();
    println!("ready");
    std::thread::spawn(move || {
        loop {
            if announce(ip, port, hash).is_err() {
                return;
            }
            pause();
        }
    });
    // A guesser knows what it tries; the three tries are its own to count.
    let guessing = mode.strip_prefix("guess:").map(ShortCode::parse).transpose()?;
    let receiver = Arc::new(Mutex::new(guessing.map(Receiver::new)));
    let mode: Arc<str> = mode.into();
    for tcp in listener.incoming() {
        let (tcp, config, mode, receiver) = (tcp?, config.clone(), mode.clone(), receiver.clone());
        std::thread::spawn(move || {
            let what =
                welcome(tcp, config, &mode, hash, ip, &receiver).unwrap_or_else(|error| format!("gone: {error}"));
            println!("{what}");
        });
    }
    Ok(())
}

fn welcome(
    mut tcp: TcpStream,
    config: Arc<ServerConfig>,
    mode: &str,
    hash: [u8; 32],
    own: Ipv4Addr,
    receiver: &Mutex<Option<Receiver>>,
) -> anyhow::Result<String> {
    if mode == "mute" {
        let mut bytes = Vec::new();
        tcp.read_to_end(&mut bytes)?;
        return Ok("left waiting".to_owned());
    }
    let mut tls = Tls(StreamOwned::new(ServerConnection::new(config)?, tcp));
    let share1 = tls.frame()?;
    match mode {
        "silent" => drop(tls.frame()?),
        "garbage" => {
            tls.send(&[0xff; 3000])?;
            drop(tls.frame()?);
        }
        "relay" => {
            let ears = ears()?;
            let (announcement, address) = heard(&ears, Some(own))?;
            let mut real = dial(address)?;
            real.send(&share1)?;
            // Word for word, in both directions, until somebody has enough.
            loop {
                let there = real.frame().with_context(|| format!("from {}", announcement.port))?;
                tls.send(&there)?;
                let here = tls.frame()?;
                if let Ok(Message::Payload { .. }) = Message::decode(&here) {
                    return Ok("WON".to_owned());
                }
                real.send(&here)?;
            }
        }
        _ => {
            let mut receiver = receiver.lock().expect("no thread panics");
            let receiver = receiver.as_mut().context("a mode")?;
            let channel = Channel { certificate_hash: hash, exporter: exporter(&tls.0.conn)? };
            let (state, share2) = receiver.on_share1(&share1, &channel, &RANDOM)?;
            tls.send(&share2)?;
            let share3 = tls.frame()?;
            let (state, share4) = state.on_share3(&share3, receiver)?;
            tls.send(&share4)?;
            state.on_payload(&tls.frame()?)?;
            return Ok("WON".to_owned());
        }
    }
    Ok("left".to_owned())
}

// ---- the false sender

fn call(mode: &str) -> anyhow::Result<()> {
    let ears = ears()?;
    println!("ready");
    let mut held = Vec::new();
    loop {
        let (announcement, address) = heard(&ears, None)?;
        if mode == "hold" {
            held.extend(std::iter::from_fn(|| TcpStream::connect(address).ok()).take(200));
            println!("holds {}", held.len());
            continue;
        }
        println!("visits {address}");
        let what = visit(address, announcement, mode).unwrap_or_else(|error| format!("sent away: {error}"));
        println!("{what}");
    }
}

fn visit(address: SocketAddr, announcement: Announcement, mode: &str) -> anyhow::Result<String> {
    let mut tls = dial(address)?;
    let sealed = br#"{"type":"payload","sealed":"AAAA"}"#;
    let offer = br#"{"type":"offer","payload":"e30"}"#;
    match mode {
        "inject" => {
            for frame in [&sealed[..], offer] {
                tls.send(frame)?;
            }
            Ok(format!("answered: {}", String::from_utf8_lossy(&tls.frame()?)))
        }
        "null" => {
            tls.send(b"null")?;
            Ok(format!("answered: {}", String::from_utf8_lossy(&tls.frame()?)))
        }
        "huge" => {
            tls.0.write_all(&u32::MAX.to_be_bytes())?;
            while tls.0.write_all(&[b'['; 1 << 16]).is_ok() {}
            Ok("sent away".to_owned())
        }
        "slow" => {
            tls.0.write_all(&[0, 0, 15, 0])?;
            while tls.0.write_all(b"{").and_then(|()| tls.0.flush()).is_ok() {
                pause();
            }
            Ok("sent away".to_owned())
        }
        _ => {
            let code = mode.strip_prefix("guess:").context("a mode")?;
            let mut sender = Sender::new(ShortCode::parse(code)?);
            let certificate_hash = announcement.certificate_hash;
            let channel = Channel { certificate_hash, exporter: exporter(&tls.0.conn)? };
            let (state, share1) = sender.start(&channel, &RANDOM);
            tls.send(&share1)?;
            let (state, share3) = state.on_share2(&tls.frame()?, &mut sender)?;
            tls.send(&share3)?;
            let confirmed = state.on_share4(&tls.frame()?)?;
            tls.send(&confirmed.payload(br#"{"type":"secret","name":"planted","secretType":"plain","value":"x"}"#))?;
            match Message::decode(&tls.frame()?)? {
                Message::Result(Outcome::Saved) => Ok("WON".to_owned()),
                _ => Ok("not wanted".to_owned()),
            }
        }
    }
}

// ---- TLS, frame by frame

struct Tls<C>(StreamOwned<C, TcpStream>);

fn dial(address: SocketAddr) -> anyhow::Result<Tls<ClientConnection>> {
    let mut config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anybody))
        .with_no_client_auth();
    config.alpn_protocols = vec![Alpn::Share.as_bytes().to_vec()];
    let client = ClientConnection::new(Arc::new(config), ServerName::IpAddress(address.ip().into()))?;
    let mut tls = Tls(StreamOwned::new(client, TcpStream::connect(address)?));
    while tls.0.conn.is_handshaking() {
        tls.0.conn.complete_io(&mut tls.0.sock)?;
    }
    Ok(tls)
}

impl<C, D> Tls<C>
where
    C: std::ops::DerefMut + std::ops::Deref<Target = ConnectionCommon<D>>,
    D: rustls::SideData,
{
    fn send(&mut self, payload: &[u8]) -> anyhow::Result<()> {
        self.0.write_all(&u32::try_from(payload.len())?.to_be_bytes())?;
        self.0.write_all(payload)?;
        Ok(self.0.flush()?)
    }

    fn frame(&mut self) -> anyhow::Result<Vec<u8>> {
        let mut length = [0; 4];
        self.0.read_exact(&mut length)?;
        let mut payload = vec![0; usize::try_from(u32::from_be_bytes(length))?];
        self.0.read_exact(&mut payload)?;
        Ok(payload)
    }
}

fn exporter<D>(connection: &ConnectionCommon<D>) -> anyhow::Result<[u8; 32]> {
    Ok(connection.export_keying_material([0; 32], EXPORTER_LABEL.as_bytes(), Some(&[]))?)
}
