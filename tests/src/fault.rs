//! A TCP relay that is a bad network: it delays, throttles, stalls, and cuts at a byte. For what the switch of a lab
//! cannot do, and for tests without a lab.
//!
//! Each direction of a connection is two threads with a bounded queue between them: one reads and notes the time, the
//! other writes when the time has come. So a delay is latency and not a bottleneck, and a stalled reader is felt by the
//! writer, as on a wire.

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::wait;

/// How bad the network is. Both directions alike; a change acts on connections that stand.
#[derive(Debug, Clone, Copy, Default)]
pub struct Weather {
    /// One-way latency.
    pub delay: Duration,
    /// Bytes a second each way; `None`: as fast as it goes.
    pub rate: Option<u64>,
    /// Nothing passes, and nobody is told.
    pub stalled: bool,
    /// Both ends are reset once this many bytes of a connection have passed to the target.
    pub cut_at: Option<u64>,
    /// After this many bytes from the target, the client is told that no more will come; its own bytes still pass.
    pub half_close_at: Option<u64>,
}

/// A relay on 127.0.0.1 in front of one target. Dropped: every connection through it is cut, and its port is free.
pub struct Relay {
    address: SocketAddr,
    shared: Arc<Shared>,
    accepting: Option<JoinHandle<()>>,
}

struct Shared {
    target: SocketAddr,
    weather: Mutex<Weather>,
    streams: Mutex<Vec<TcpStream>>,
    to_target: AtomicU64,
    from_target: AtomicU64,
    connections: AtomicU64,
    ended: AtomicBool,
}

/// How much one read takes: small, so that a cut at a byte and a rate are nearly exact.
const PIECE: usize = 8 << 10;
/// Pieces under way in one direction: what the wire holds.
const UNDER_WAY: usize = 64;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    ToTarget,
    FromTarget,
}

impl Relay {
    /// A relay in fair weather in front of `target`.
    pub fn to(target: SocketAddr) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        let address = listener.local_addr().expect("a bound socket has an address");
        let shared = Arc::new(Shared {
            target,
            weather: Mutex::default(),
            streams: Mutex::default(),
            to_target: AtomicU64::new(0),
            from_target: AtomicU64::new(0),
            connections: AtomicU64::new(0),
            ended: AtomicBool::new(false),
        });
        let task = Arc::clone(&shared);
        let accepting = Some(std::thread::spawn(move || task.accept(&listener)));
        Self { address, shared, accepting }
    }

    /// Where to connect to.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Changes the weather.
    pub fn set(&self, weather: Weather) {
        *lock(&self.shared.weather) = weather;
    }

    /// Resets every connection that stands; new ones are relayed.
    pub fn cut(&self) {
        for stream in lock(&self.shared.streams).drain(..) {
            drop(stream.shutdown(Shutdown::Both));
        }
    }

    /// Bytes that passed to the target, on all connections.
    pub fn to_target(&self) -> u64 {
        self.shared.to_target.load(Ordering::Relaxed)
    }

    /// Bytes that came from the target, on all connections.
    pub fn from_target(&self) -> u64 {
        self.shared.from_target.load(Ordering::Relaxed)
    }

    /// Connections so far.
    pub fn connections(&self) -> u64 {
        self.shared.connections.load(Ordering::Relaxed)
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.shared.ended.store(true, Ordering::Relaxed);
        self.cut();
        // Wakes the thread that accepts, and has it close the door.
        if let (Ok(_), Some(accepting)) = (TcpStream::connect(self.address), self.accepting.take()) {
            drop(accepting.join());
        }
    }
}

impl Shared {
    fn accept(self: Arc<Self>, listener: &TcpListener) {
        for client in listener.incoming() {
            if self.ended.load(Ordering::Relaxed) {
                return;
            }
            if let Ok(client) = client {
                // A target that is not there is felt by the client as a connection that ends at once.
                drop(Arc::clone(&self).relay(client));
            }
        }
    }

    fn relay(self: Arc<Self>, client: TcpStream) -> std::io::Result<()> {
        let target = TcpStream::connect(self.target)?;
        client.set_nodelay(true)?;
        target.set_nodelay(true)?;
        self.connections.fetch_add(1, Ordering::Relaxed);
        lock(&self.streams).extend([client.try_clone()?, target.try_clone()?]);
        Arc::clone(&self).pipe(client.try_clone()?, target.try_clone()?, Way::ToTarget);
        self.pipe(target, client, Way::FromTarget);
        Ok(())
    }

    fn pipe(self: Arc<Self>, from: TcpStream, to: TcpStream, way: Way) {
        let (queue, pieces) = sync_channel(UNDER_WAY);
        std::thread::spawn(move || take_in(from, &queue));
        std::thread::spawn(move || self.let_out(&pieces, to, way));
    }

    /// Writes each piece when its time has come, as the weather allows.
    fn let_out(&self, pieces: &Receiver<(Instant, Vec<u8>)>, mut to: TcpStream, way: Way) {
        let mut passed = 0;
        // Until the queue ends, which is when the other side has said its last.
        while let Ok((read_at, piece)) = pieces.recv() {
            let weather = self.wait_for_weather();
            wait::nap((read_at + weather.delay).saturating_duration_since(Instant::now()));
            let allowed = match way {
                Way::ToTarget => weather.cut_at,
                Way::FromTarget => weather.half_close_at,
            };
            let room = allowed.map_or(piece.len() as u64, |allowed| allowed.saturating_sub(passed));
            let part = &piece[..piece.len().min(usize::try_from(room).unwrap_or(usize::MAX))];
            if to.write_all(part).is_err() {
                return;
            }
            passed += part.len() as u64;
            self.count(way).fetch_add(part.len() as u64, Ordering::Relaxed);
            if allowed.is_some_and(|allowed| passed >= allowed) {
                let how = if way == Way::ToTarget { Shutdown::Both } else { Shutdown::Write };
                drop(to.shutdown(how));
                return;
            }
            if let Some(rate) = weather.rate {
                wait::nap(Duration::from_secs_f64(part.len() as f64 / rate as f64));
            }
        }
        drop(to.shutdown(Shutdown::Write));
    }

    fn wait_for_weather(&self) -> Weather {
        loop {
            let weather = *lock(&self.weather);
            if !weather.stalled || self.ended.load(Ordering::Relaxed) {
                return weather;
            }
            wait::nap(Duration::from_millis(2));
        }
    }

    fn count(&self, way: Way) -> &AtomicU64 {
        match way {
            Way::ToTarget => &self.to_target,
            Way::FromTarget => &self.from_target,
        }
    }
}

fn take_in(mut from: TcpStream, queue: &SyncSender<(Instant, Vec<u8>)>) {
    let mut piece = vec![0; PIECE];
    loop {
        match from.read(&mut piece) {
            Ok(0) => return,
            Ok(len) => {
                if queue.send((Instant::now(), piece[..len].to_vec())).is_err() {
                    return;
                }
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(_) => return,
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A server that answers each byte with the same byte, until the client has no more.
    fn echo() -> SocketAddr {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                std::thread::spawn(move || drop(std::io::copy(&mut stream.try_clone().unwrap(), &mut stream)));
            }
        });
        address
    }

    fn connect(relay: &Relay) -> TcpStream {
        let stream = TcpStream::connect(relay.address()).unwrap();
        stream.set_read_timeout(Some(crate::PATIENCE)).unwrap();
        stream
    }

    fn all(stream: &mut TcpStream) -> usize {
        let mut bytes = Vec::new();
        drop(stream.read_to_end(&mut bytes));
        bytes.len()
    }

    #[test]
    fn fair_weather_changes_nothing() {
        let relay = Relay::to(echo());
        let mut stream = connect(&relay);
        let sent = crate::random::Random::seeded(1).bytes(300_000);
        let mut writer = stream.try_clone().unwrap();
        let copy = sent.clone();
        std::thread::spawn(move || {
            writer.write_all(&copy).unwrap();
            writer.shutdown(Shutdown::Write).unwrap();
        });
        let mut got = Vec::new();
        stream.read_to_end(&mut got).unwrap();
        assert!(got == sent);
        assert_eq!((relay.to_target(), relay.from_target(), relay.connections()), (300_000, 300_000, 1));
    }

    #[test]
    fn cut_at_a_byte() {
        let relay = Relay::to(echo());
        relay.set(Weather { cut_at: Some(100), ..Weather::default() });
        let mut stream = connect(&relay);
        drop(stream.write_all(&[7; 50_000]));
        all(&mut stream);
        assert_eq!(relay.to_target(), 100);
    }

    #[test]
    fn half_close_lets_the_other_way_live() {
        let relay = Relay::to(echo());
        relay.set(Weather { half_close_at: Some(10), ..Weather::default() });
        let mut stream = connect(&relay);
        stream.write_all(&[7; 10]).unwrap();
        assert_eq!(all(&mut stream), 10);
        stream.write_all(&[7; 30]).unwrap();
        wait::until_true("the other way", crate::PATIENCE, || relay.to_target() == 40);
    }

    #[test]
    fn delay_stall_and_rate() {
        let relay = Relay::to(echo());
        let mut byte = [0];
        let mut stream = connect(&relay);
        relay.set(Weather { delay: Duration::from_millis(60), ..Weather::default() });
        let started = Instant::now();
        stream.write_all(b"x").unwrap();
        stream.read_exact(&mut byte).unwrap();
        assert!(started.elapsed() >= Duration::from_millis(120));

        relay.set(Weather { stalled: true, ..Weather::default() });
        stream.write_all(b"y").unwrap();
        stream.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
        assert!(stream.read_exact(&mut byte).is_err());
        stream.set_read_timeout(Some(crate::PATIENCE)).unwrap();
        relay.set(Weather { rate: Some(100_000), ..Weather::default() });
        stream.read_exact(&mut byte).unwrap();

        let started = Instant::now();
        stream.write_all(&[7; 20_000]).unwrap();
        stream.read_exact(&mut [0; 20_000]).unwrap();
        assert!(started.elapsed() >= Duration::from_millis(100), "20 kB at 100 kB/s");
    }
}
