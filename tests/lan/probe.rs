//! Sends and hears datagrams: what the tests of the lab itself put on its wire.
//!
//! `probe hear IP:PORT` prints every text that arrives at the port, by multicast to 224.0.0.251 and broadcast too.
//! `probe say FROM-IP TO-IP:PORT TEXT` sends one, from the interface with that address.
//! `probe tap` prints every frame that passes its interfaces, in hex.
//! `probe cast FROM-IP:PORT TO-IP:PORT` sends every line of its standard input, which is in hex, and then says how many.

use std::fmt::Write as _;
use std::io::Write as _;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};

use anyhow::{Context, bail};
use rustix::net::{AddressFamily, Protocol, RecvFlags, SocketType};

fn main() -> anyhow::Result<()> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    match words.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["hear", at] => hear(at.parse()?),
        ["say", from, to, text] => {
            let socket = UdpSocket::bind((from.parse::<Ipv4Addr>()?, 0))?;
            socket.set_broadcast(true)?;
            socket.send_to(text.as_bytes(), to)?;
            Ok(())
        }
        ["tap"] => tap(),
        ["cast", from, to] => cast(from.parse()?, to.parse()?),
        _ => bail!("probe hear IP:PORT | say FROM-IP TO-IP:PORT TEXT | cast FROM-IP:PORT TO-IP:PORT | tap"),
    }
}

fn hear(at: SocketAddr) -> anyhow::Result<()> {
    let SocketAddr::V4(at) = at else { bail!("an IPv4 address") };
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, at.port()))?;
    socket.join_multicast_v4(&Ipv4Addr::new(224, 0, 0, 251), at.ip()).context("joining the group")?;
    println!("ready");
    let mut bytes = [0; 1500];
    loop {
        let len = socket.recv(&mut bytes)?;
        println!("{}", String::from_utf8_lossy(&bytes[..len]));
    }
}

fn tap() -> anyhow::Result<()> {
    const EVERYTHING: u16 = 0x0003;
    let all = std::num::NonZeroU32::new(u32::from(EVERYTHING.to_be())).map(Protocol::from_raw);
    let socket = rustix::net::socket(AddressFamily::PACKET, SocketType::RAW, all).context("a raw socket")?;
    // Nothing is to be missed while it is printed.
    rustix::net::sockopt::set_socket_recv_buffer_size_force(&socket, 64 << 20).context("a large buffer")?;
    println!("ready");
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    let mut frame = vec![0; 1 << 17];
    loop {
        let (len, _) = rustix::net::recv(&socket, &mut frame, RecvFlags::empty())?;
        let line = frame[..len].iter().fold(String::with_capacity(2 * len + 1), |mut line, byte| {
            let _ = write!(line, "{byte:02x}");
            line
        });
        writeln!(out, "{line}")?;
        out.flush()?;
    }
}

fn cast(from: SocketAddr, to: SocketAddr) -> anyhow::Result<()> {
    let socket = UdpSocket::bind(from)?;
    let mut count = 0;
    for line in std::io::stdin().lines() {
        let line = line?;
        let digits = line.as_bytes().chunks(2).map(|pair| Ok(u8::from_str_radix(std::str::from_utf8(pair)?, 16)?));
        let bytes = digits.collect::<anyhow::Result<Vec<u8>>>()?;
        // What does not fit anywhere is no datagram; everything else is sent.
        match socket.send_to(&bytes, to) {
            Ok(_) => count += 1,
            Err(error) => eprintln!("{} bytes: {error}", bytes.len()),
        }
    }
    println!("{count}");
    Ok(())
}
