//! The guest door: protocols of other apps, spoken with people that are not paired.
//!
//! ```text
//! tella  Tella's transfer protocol, version 1 (seed 003) and version 2: requests, answers, what each refusal is called
//! qr     the text of the QR that a receiver shows
//! hash   the certificate hash that people compare
//! label  from a file name that a guest chose to one that is safe here
//! hello  the hello store: requests and what they carry
//! psi    the Photosphere app's way to hand credentials over
//! ```
//!
//! Deliberately absent: HTTP, TLS, and who may do what when; see `guest` and `doors/guest` of the daemon.

mod hash;
pub mod hello;
mod label;
pub mod psi;
mod qr;
mod tella;

pub use hash::{CertificateHash, NotAHash};
pub use label::file_name;
pub use qr::{NotAQr, Qr};
pub use tella::{
    Accepted, Close, Done, ErrorBody, OfferedFile, Pong, Prepare, PrepareBody, PrepareFile, Refusal, Register,
    RegisterBody, Registered, Transmission, Upload, Version,
};
