//! For tests: somebody who swaps a directory for a symlink, and back, as fast as possible.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

/// Does something while the directory `path` is a symlink to `target` every now and then.
pub(super) fn while_swapping(path: &Path, target: &Path, act: impl FnOnce()) {
    let aside = path.with_extension("aside");
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                fs::rename(path, &aside).expect("nobody else moves it");
                // `act` may have made it anew meanwhile; then that is the one from now on.
                let _ = symlink(target, path);
                let _ = fs::remove_file(path);
                if fs::rename(&aside, path).is_err() {
                    fs::remove_dir_all(&aside).expect("nobody else knows it");
                }
            }
        });
        let _stop = OnDrop(&stop);
        act();
    });
}

/// Ends the swapping even if an assertion fails.
struct OnDrop<'a>(&'a AtomicBool);

impl Drop for OnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
