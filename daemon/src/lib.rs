//! The Kith daemon as a library: `main.rs` is only its command line.
//!
//! ```text
//! people, scripts, apps      paired devices               other apps and people
//!        │ JSON lines             │ TLS 1.3, both ends proven │ HTTPS, PIN or QR
//! ┌──────▼──────┐          ┌──────▼──────┐             ┌──────▼──────┐
//! │ doors/local │          │ doors/peer  │             │ doors/guest │      decode, one call, encode
//! └──────┬──────┘          └──────┬──────┘             └──────┬──────┘
//! ┌──────▼────────────────────────▼───────────────────────────▼──────┐
//! │ pairing  transfer  guest  sync (journals) ◄─ codes  credentials  │      engines: own state, one handle each
//! └──────┬─────────────────────────────┬─────────────────────────────┘
//!        │                             │ out                 facts go up: event
//! ┌──────▼──────────────────┐   ┌──────▼──────┐
//! │ trust vault hello_store │   │    dial     │ ◄── discovery
//! └──────┬──────────────────┘   └─────────────┘
//! ┌──────▼───────────────────────────────────────────────────────────┐
//! │ store   identity   tls   files   hook   config   task   crowd    │      ground
//! └──────────────────────────────────────────────────────────────────┘
//! ```
//!
//! Commands go down, facts go up, snapshots lie beside in `watch`es, nothing goes round. [`daemon`] is the only place
//! that knows everyone.

pub mod clock;
pub mod codes;
pub mod config;
pub mod credentials;
pub mod crowd;
pub mod daemon;
pub mod dial;
pub mod discovery;
pub mod doors;
pub mod event;
pub mod files;
pub mod guest;
pub mod hello_server;
pub mod hello_store;
pub mod hook;
pub mod identity;
pub mod pairing;
pub mod platform;
pub mod store;
pub mod sync;
pub mod task;
pub mod tls;
pub mod transfer;
pub mod trust;
pub mod vault;
