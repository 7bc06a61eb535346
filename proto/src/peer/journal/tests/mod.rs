//! Journals as a pure machine: devices, their clocks and disks, bad networks, and everything that can go wrong there.
//!
//! ```text
//! harness     a world of devices that writes down what each of them knew: what the truth is
//! properties  what must hold after any schedule
//! members     who takes part
//! frames      what goes over the wire
//! ```

mod frames;
mod harness;
mod members;
mod properties;
mod session;
