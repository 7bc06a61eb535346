//! Several hosts on one wire.

mod wire;
