//! Credentials that other programs left in files.
