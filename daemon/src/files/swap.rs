//! For tests: somebody who swaps a directory for a symlink, and back, as fast as possible.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Attempts something again and again while the directory `path` is a symlink to `target` every now and then: at least
/// 3,000 times, and until it has both succeeded and failed.
pub(super) fn while_swapping(path: &Path, target: &Path, mut attempt: impl FnMut(usize) -> bool) {
    let aside = path.with_extension("aside");
    let stop = AtomicBool::new(false);
    let deadline = Instant::now() + Duration::from_secs(120);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                fs::rename(path, &aside).expect("nobody else moves it");
                // An attempt may have made it anew meanwhile; then that is the one from now on.
                let _ = symlink(target, path);
                let _ = fs::remove_file(path);
                if fs::rename(&aside, path).is_err() {
                    fs::remove_dir_all(&aside).expect("nobody else knows it");
                }
            }
        });
        let _stop = OnDrop(&stop);
        let mut outcomes = [0, 0];
        for n in 0.. {
            outcomes[usize::from(attempt(n))] += 1;
            if n >= 3_000 && !outcomes.contains(&0) {
                break;
            }
            assert!(Instant::now() < deadline, "failed and succeeded: {outcomes:?}");
        }
    });
}

/// Ends the swapping even if an assertion fails.
struct OnDrop<'a>(&'a AtomicBool);

impl Drop for OnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
