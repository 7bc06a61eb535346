//! The ways in. A door decodes, makes one call, encodes; it does not think.
//!
//! ```text
//! local    people, scripts and apps of this machine: JSON-RPC on the control socket
//! peer     other devices: TLS 1.3, the protocol picked by ALPN
//! guest    apps and people that are not paired: HTTPS, while somebody wants them to come in
//! ```
//!
//! Doors never import each other: no type holds both a local caller and a peer's identity.

pub mod guest;
pub mod local;
pub mod peer;
