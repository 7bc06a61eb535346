//! Kith from the outside: what a user, a script and a network do to the real `kithd` and `kithctl`.
//!
//! ```text
//! host      a device: its own home, its daemon, its kithctl; pairing two of them
//! door      the control socket by hand, for what kithctl would never say
//! https     HTTPS by hand, byte by byte
//! joiner    devices that join by a code, by hand
//! guest     receive windows, and those who send to them as Tella's apps do
//! hello     a hello store, and those who use it
//! hello_server  kithd hello: a hello store as a server
//! lab       a LAN of network namespaces: cut, block, split, mute, slow down
//! clock     a wall clock that is set while the daemon runs
//! fault     a TCP relay that delays, throttles, stalls and cuts
//! tree      directory trees: a sample with every kind of entry, and whether two are the same
//! process   child processes with deadlines, whose output never blocks them
//! terminal  somebody at a terminal, who reads questions and types answers
//! binaries  where kithd and kithctl are, built if need be
//! wait      waiting for a condition, with a deadline; the only sleep
//! require   what this machine cannot do: skipped here, a failure where KITH_REQUIRE says so
//! random    reproducible bytes and numbers from a printed seed
//! redis     a Redis server of one's own
//! ```
//!
//! Deliberately absent: anything of the daemon's own code. The tests know what crosses the doors, and `kith-proto`'s
//! names for it, and nothing else. Deadlines here are generous ends of patience, never measurements.

pub mod binaries;
pub mod clock;
pub mod door;
pub mod fault;
pub mod guest;
pub mod hello;
pub mod hello_server;
pub mod host;
pub mod https;
pub mod joiner;
pub mod lab;
pub mod process;
pub mod random;
pub mod redis;
pub mod require;
pub mod terminal;
pub mod tree;
pub mod wait;

use std::time::Duration;

/// The end of patience: far beyond what anything here takes on a slow and busy machine.
pub const PATIENCE: Duration = Duration::from_secs(60);
