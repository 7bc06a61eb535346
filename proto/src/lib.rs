//! What two Kith processes must agree on.
//!
//! ```text
//! hlc      stamps that order what causally follows
//! id       device keys and the short ids that people see
//! path     WirePath: a file name from outside that cannot leave its root
//! text     how text from outside reaches a terminal or a log
//! secret   Secret<T>: a value that does not print itself; secret_text is the form in which one crosses a door
//! limits   every bound on what comes from outside, in one place
//! control  the local door: methods, their access, results, events, errors   (feature `control`)
//! peer     the peer door: frames, pairing, offers and transfers              (feature `peer`)
//! guest    the guest door: Tella's transfer protocol                         (feature `guest`)
//! pin      six digits                                                        (features `peer`, `guest`)
//! short_code   the digits under which credentials are handed over
//! credential   secrets and databases: what is valid, and how they are written down to hand them over
//! ```
//!
//! Deliberately absent: I/O, clocks, randomness and async. Where a protocol needs the time or random bytes, they are
//! arguments; so two ends and a bad network between them fit into one fast test.

// Whatever is here may be reached by bytes from outside: it has no way to panic.
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

#[cfg(feature = "control")]
pub mod control;
pub mod credential;
#[cfg(feature = "guest")]
pub mod guest;
#[cfg(feature = "peer")]
pub mod hlc;
pub mod id;
pub mod limits;
pub mod path;
#[cfg(feature = "peer")]
pub mod peer;
#[cfg(any(feature = "peer", feature = "guest"))]
pub mod pin;
pub mod secret;
pub mod secret_text;
pub mod short_code;
pub mod text;

/// The version of the local door's protocol.
pub const CONTROL_PROTOCOL: u32 = 1;
/// The oldest version of the local door's protocol that this build still speaks.
pub const CONTROL_PROTOCOL_MIN: u32 = 1;
