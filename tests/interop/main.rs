//! Programs that others wrote, from the protocols' own documents.

mod avahi;
mod notes;
mod receivers;
mod schema;
mod tella;
