//! One request to somebody else's guest door.
