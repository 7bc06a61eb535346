//! Tasks with a name, an owner and an end. The only `tokio::spawn` of the daemon.

use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Owns every task of the daemon. Cloned freely; all clones speak of the same tasks.
///
/// A task that panics ends the daemon with exit code 70, so that the service manager starts it anew: a half-dead
/// daemon is worse than none.
#[derive(Clone, Default)]
pub struct Tasks {
    tracker: TaskTracker,
    stop: CancellationToken,
    broken: Arc<OnceLock<&'static str>>,
}

impl Tasks {
    /// Runs `task` until it ends by itself; it is expected to end soon after [`Tasks::stopping`] says so.
    pub fn spawn<F>(&self, name: &'static str, task: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let this = self.clone();
        let guarded = async move {
            let outcome = CatchUnwind(Box::pin(AssertUnwindSafe(task))).await;
            if outcome.is_err() {
                tracing::error!(task = name, "a task panicked; the daemon stops");
                let _ = this.broken.set(name);
                this.stop.cancel();
            }
        };
        #[expect(clippy::disallowed_methods, reason = "this is the one place that spawns")]
        tokio::spawn(self.tracker.track_future(guarded));
    }

    /// Starts blocking work on a thread of its own kind; the future is its result. A panic in it is passed on.
    pub fn blocking<T, F>(&self, work: F) -> impl Future<Output = T> + Send + use<T, F>
    where
        T: Send + 'static,
        F: FnOnce() -> T + Send + 'static,
    {
        let running = self.tracker.track_future(tokio::task::spawn_blocking(work));
        async move {
            match running.await {
                Ok(result) => result,
                Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
                // The runtime drops blocking work only while it is itself being dropped.
                Err(_) => std::future::pending().await,
            }
        }
    }

    /// Cancelled when the daemon stops. Children of it end earlier where their owner says so.
    pub fn stopping(&self) -> &CancellationToken {
        &self.stop
    }

    /// Asks every task to end, and waits until all have, or `patience` is over. Says whether all did.
    pub async fn end(&self, patience: Duration) -> bool {
        self.stop.cancel();
        self.tracker.close();
        tokio::time::timeout(patience, self.tracker.wait()).await.is_ok()
    }

    /// The name of the task that panicked, if one did.
    pub fn broken(&self) -> Option<&'static str> {
        self.broken.get().copied()
    }
}

/// Polls a future and turns its panic into an error.
struct CatchUnwind<F>(std::pin::Pin<Box<AssertUnwindSafe<F>>>);

impl<F: Future<Output = ()>> Future for CatchUnwind<F> {
    type Output = Result<(), ()>;

    fn poll(mut self: std::pin::Pin<&mut Self>, cx: &mut std::task::Context<'_>) -> std::task::Poll<Self::Output> {
        match std::panic::catch_unwind(AssertUnwindSafe(|| self.0.as_mut().poll(cx))) {
            Ok(poll) => poll.map(Ok),
            Err(_) => std::task::Poll::Ready(Err(())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_panic_stops_the_daemon_and_names_the_task() {
        let tasks = Tasks::default();
        tasks.spawn("fragile", async { panic!("on purpose") });
        tasks.stopping().cancelled().await;
        assert_eq!(tasks.broken(), Some("fragile"));
        assert!(tasks.end(Duration::from_secs(1)).await);
    }

    #[tokio::test(start_paused = true)]
    async fn the_end_waits_only_so_long() {
        let tasks = Tasks::default();
        tasks.spawn("stubborn", std::future::pending());
        assert!(!tasks.end(Duration::from_secs(1)).await);
        assert_eq!(tasks.broken(), None);
    }
}
