//! The vault, databases, and handing credentials over.
//!
//! ```text
//! beacon  who on the LAN waits for credentials: saying so, and hearing it
//! psi     handing over as the Photosphere app does
//! ```

pub mod beacon;
pub mod psi;
