//! Several addresses of one device, tried side by side.

use std::future::poll_fn;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use super::Error;

/// How much later than the one before an address is tried (RFC 8305 §5).
pub const STAGGER: Duration = Duration::from_millis(250);
/// How long all addresses together may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// One address being tried.
pub type Attempt<'a, T> = Pin<Box<dyn Future<Output = Result<T, Error>> + Send + 'a>>;

/// Tries `addresses` side by side, each [`STAGGER`] after the one before or as soon as that failed. Who loses is
/// dropped.
pub async fn race<'a, T>(
    addresses: &[SocketAddr],
    attempt: impl Fn(SocketAddr) -> Attempt<'a, T>,
) -> Result<T, Vec<Error>> {
    let deadline = Instant::now() + PATIENCE;
    let mut errors = Vec::new();
    let mut left = addresses.iter();
    let mut running: Vec<Attempt<'a, T>> = Vec::new();
    let mut next = Instant::now();
    loop {
        tokio::select! {
            biased;
            result = first(&mut running), if !running.is_empty() => match result {
                Ok(winner) => return Ok(winner),
                Err(error) => {
                    errors.push(error);
                    next = Instant::now();
                }
            },
            () = sleep_until(next), if left.len() > 0 => {
                if let Some(address) = left.next() {
                    running.push(attempt(*address));
                }
                next = Instant::now() + STAGGER;
            }
            () = sleep_until(deadline), if !running.is_empty() => {
                errors.push(Error::Offline("no answer in time".to_owned()));
                return Err(errors);
            }
            else => return Err(errors),
        }
    }
}

/// The first of the running futures that ends, taken out of them.
async fn first<F: Future + Unpin>(running: &mut Vec<F>) -> F::Output {
    poll_fn(|cx| {
        for at in 0..running.len() {
            if let Poll::Ready(output) = Pin::new(&mut running[at]).poll(cx) {
                drop(running.swap_remove(at));
                return Poll::Ready(output);
            }
        }
        Poll::Pending
    })
    .await
}
