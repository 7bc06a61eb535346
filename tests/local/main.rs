//! Two daemons on one machine.
