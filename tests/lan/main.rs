//! Several hosts on one wire.

mod discovery;
mod guests;
mod hostile;
mod kills;
mod links;
mod net;
mod packet;
mod pairing;
mod sending;
mod wire;
