//! Several hosts on one wire.

mod codes;
mod codes_stores;
mod discovery;
mod guests;
mod hostile;
mod journals;
mod journals_backup;
mod journals_clocks;
mod journals_kills;
mod journals_races;
mod journals_spread;
mod journals_trust;
mod kills;
mod links;
mod net;
mod packet;
mod pairing;
mod sending;
mod shares;
mod shares_hostile;
mod shares_terminal;
mod wire;
