//! The Kith daemon as a library.

pub mod clock;
pub mod config;
pub mod event;
pub mod files;
pub mod identity;
pub mod store;
pub mod task;
pub mod tls;
pub mod trust;
