//! What this machine cannot do. A test that needs it says so and skips; in CI, `KITH_REQUIRE=lan,avahi` names what must
//! not be skipped there, so that a silent skip cannot pass for a success.

use std::path::PathBuf;

/// Says why a test does not run here; panics if `KITH_REQUIRE` (a comma list) contains `what`.
#[track_caller]
pub fn skip(what: &str, why: &str) {
    let required = std::env::var("KITH_REQUIRE").unwrap_or_default();
    assert!(!required.split(',').any(|name| name.trim() == what), "KITH_REQUIRE names {what}, but: {why}");
    eprintln!("skipped, {what}: {why}");
}

/// Where `program` is, in `PATH` or among the administrator's programs.
pub fn program(program: &str) -> Option<PathBuf> {
    search_path().split(':').map(|dir| PathBuf::from(dir).join(program)).find(|path| path.is_file())
}

/// `PATH`, and the directories of the administrator's programs, which are missing from it in some shells.
pub fn search_path() -> String {
    let path = std::env::var("PATH").unwrap_or_default();
    format!("{path}:/usr/sbin:/sbin:/usr/bin:/bin")
}
