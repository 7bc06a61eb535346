//! Handing credentials over to a device that is not paired.
//!
//! ```text
//! announcement  how a receiver says on the LAN that it waits
//! ```

pub mod announcement;
