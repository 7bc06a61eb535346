//! Joining a resource by a sharing code (seed 002): `kith-join/1`.
//!
//! ```text
//! code     the code itself: how it is written, and the keys that follow from it
//! payload  what waits for whoever has the code: sealed, padded, without a name on it
//! message  JOIN and RESULT, and why somebody is let in or not
//! ```
//!
//! ```text
//! issuer A                         hello store or A itself                     joiner B
//!   code → lookup id, payload key, proof seed
//!   PUT sealed payload under lookup ──►  blob  ◄── GET lookup          code → the same three
//!                                                                      opens the payload: who, what, where
//!   ◄────────────── TLS 1.3, B pins A's key; A takes any: JOIN {proof key, signature over this very connection}
//!   one durable transaction: redemption, member, trust
//!   RESULT {reason, resource and the records that make B a member} ──────────────►
//! ```
//!
//! The code never travels, and A keeps none of it but the proof's public key.

pub mod code;
pub mod message;
pub mod payload;

#[cfg(test)]
mod tests;

pub use code::{CodeError, Keys, SharingCode};
pub use message::{Join, JoinResult, Reason};
pub use payload::{Approval, Payload, Permission};
