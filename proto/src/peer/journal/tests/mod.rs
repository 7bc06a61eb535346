//! Journals as a pure machine: devices, their clocks and disks, bad networks, and everything that can go wrong there.
//!
//! ```text
//! harness     a world of devices that writes down what each of them knew: what the truth is
//! properties  what must hold after any schedule
//! cases       what people do, and what becomes of it
//! simulation  the same with the last write by the wall clock
//! session     two ends, and one that does not keep to the protocol
//! frames      what goes over the wire
//! members     who takes part
//! ```

mod cases;
mod frames;
mod harness;
mod members;
mod properties;
mod session;
mod simulation;
