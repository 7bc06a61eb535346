//! Listening for others on every address of this machine.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::TcpListener;

/// Connections that may wait for their accept.
const BACKLOG: i32 = 128;

/// IPv6 and IPv4 on one socket; IPv4 alone where there is no IPv6.
pub fn listen(port: u16) -> io::Result<TcpListener> {
    match listen_at((Ipv6Addr::UNSPECIFIED, port).into()) {
        Err(error) if error.kind() != io::ErrorKind::AddrInUse => listen_at((Ipv4Addr::UNSPECIFIED, port).into()),
        outcome => outcome,
    }
}

/// At one address; at `[::]` for IPv4, too.
pub fn listen_at(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() {
        socket.set_only_v6(false)?;
    }
    // A port that was closed a moment ago is free; on Unix this takes no port from anybody who listens.
    #[cfg(unix)]
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}
