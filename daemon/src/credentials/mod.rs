//! The vault, databases, and handing credentials over.
//!
//! ```text
//! beacon  who on the LAN waits for credentials: saying so, and hearing it
//! ```

pub mod beacon;
