//! Handing credentials over as the Photosphere app does, for the sake of those who have nothing else. It is not safe, and
//! nobody falls back to it: whoever wants it says so for each share.
//!
//! ```text
//! receive  an HTTPS server for a few requests, announced until it ends
//! send     finds the one receiver that is announced, makes sure of the code, hands over
//! ```
//!
//! What is said is in `guest::psi` of kith-proto. Both ends are futures: whoever drops one ends the share at once.

mod receive;
mod send;

use std::fmt::Display;

use kith_proto::control::{ApiError, Code};

pub use receive::receive;
pub use send::send;

fn internal(error: impl Display) -> ApiError {
    ApiError::new(Code::Internal, error.to_string())
}

#[cfg(test)]
mod tests;
