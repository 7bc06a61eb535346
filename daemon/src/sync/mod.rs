//! Keeping journals the same on several devices.

pub mod book;
pub mod witness;
