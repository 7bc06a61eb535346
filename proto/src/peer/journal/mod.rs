//! Journals: named sets of opaque entries, kept the same on several devices (kith-sync/1).
//!
//! ```text
//! version   what an entry is: content, clock, and which versions it knew
//! rules     what becomes of a version that arrives or is written: order, conflicts, deletions, the horizon
//! replica   what a store must be able to do, for the rules and the session
//! member    who takes part: signed records that merge
//! wire      frames
//! exchange  one journal of a session: what is sent, taken, compared
//! session   a session of two devices: greeting, introductions, one journal after the other
//! memory    a store in memory: the oracle for the real one, in tests
//! ```
//!
//! All of it is arithmetic on what a [`replica::Shelf`] keeps. One frame that is received is one transaction of the
//! store: wherever a session breaks off, what was acknowledged is there, and the next session goes on behind it.
//!
//! The rules:
//!
//! - A version has a stamp of a hybrid logical clock ([`crate::hlc`]), greater than all that its writer had seen.
//! - Of two versions of an entry, the greater one is current: by stamp, then by the writer's key, then by content.
//! - A version says which versions it knew ([`version::Context`]). Two that did not know each other, with different
//!   content, are a conflict: the lesser one is kept in the history.
//! - A deletion is a version like any other. Nothing is inferred from absence.
//! - Deletions that everybody knows are forgotten up to a stamp, the *horizon*. What a device that was away brings back
//!   from before it is not taken for new: it waits among the recovered.
//! - What was learned of a peer is believed only together with the *epoch* of its database: a restored backup begins
//!   another one.

pub mod exchange;
pub mod member;
#[cfg(any(test, feature = "oracle"))]
pub mod memory;
pub mod replica;
pub mod rules;
pub mod session;
pub mod version;
pub mod wire;

#[cfg(test)]
mod tests;
