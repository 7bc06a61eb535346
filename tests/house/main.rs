//! What can be read from the text of the project, so that nobody has to remember it.
//!
//! ```text
//! source    Rust files without their comments, literals and tests; the paths that they name
//! imports   who may import whom
//! rules     the architecture's invariants, as far as text shows them
//! golden    the lists that clients rely on: methods, events, error codes
//! ```
//!
//! A rule collects every offence, as `file:line: what is wrong`, and fails with all of them.

mod golden;
mod imports;
mod rules;
mod source;

/// Fails with every offence, each on a line of its own.
#[track_caller]
fn hold(rule: &str, offences: &[String]) {
    assert!(offences.is_empty(), "{rule}\n  {}\n", offences.join("\n  "));
}
