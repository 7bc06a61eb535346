//! Programs that others wrote, from the protocols' own documents.

mod avahi;
mod notes;
mod psi;
mod receivers;
mod schema;
mod tella;
