//! A daemon's wall clock, which is set while it runs, by libfaketime. Its monotonic clock goes on as it is: that is what
//! happens when somebody sets the time of a device.

use std::path::PathBuf;
use std::process::Command;

use crate::host::Host;
use crate::process::run;
use crate::{PATIENCE, require};

/// The clock of one host.
pub struct Clock(PathBuf);

impl Clock {
    /// A clock for a host whose daemon was not started yet; `None`, with the reason printed, where there is no faketime.
    /// Panics there if `KITH_REQUIRE` contains `faketime`.
    #[track_caller]
    pub fn of(host: &mut Host) -> Option<Self> {
        if require::program("faketime").is_none() {
            require::skip("faketime", "faketime is not installed");
            return None;
        }
        // It knows where its library is.
        let asked = run(Command::new("faketime").args(["-m", "-f", "+0", "printenv", "LD_PRELOAD"]), PATIENCE).ok();
        let clock = Self(host.path("clock"));
        clock.set(0);
        let file = clock.0.to_str().expect("a path in UTF-8").to_owned();
        for (key, value) in [
            ("LD_PRELOAD", asked.stdout.trim()),
            ("FAKETIME_TIMESTAMP_FILE", &file),
            ("FAKETIME_NO_CACHE", "1"),
            ("DONT_FAKE_MONOTONIC", "1"),
            ("NO_FAKE_STAT", "1"),
            ("FAKETIME_DISABLE_SHM", "1"),
        ] {
            host.set_env(key, value);
        }
        Some(clock)
    }

    /// Sets it so many seconds ahead of the true time.
    pub fn set(&self, ahead: i64) {
        // At once: it is read whenever the daemon looks at the clock.
        let new = self.0.with_extension("new");
        std::fs::write(&new, format!("{ahead:+}\n")).expect("the home is ours");
        std::fs::rename(&new, &self.0).expect("the home is ours");
    }
}
