//! The local door: JSON-RPC 2.0 on the control socket, one object a line.
//!
//! ```text
//! access     who is calling, and what they may do
//! dispatch   from a method's name to its handler, past the access check
//! methods    one short function for each method
//! subscribe  the state, then facts as they happen
//! ```
//!
//! A connection reads requests and writes answers at the same time; answers may overtake each other. What does not get
//! its answers read is not read from either.

mod access;
mod dispatch;
mod methods;
mod subscribe;

use std::sync::Arc;
use std::time::Duration;

use kith_proto::control::error::RpcError;
use kith_proto::control::{ApiError, Code, Request, RequestId, Response};
use kith_proto::limits;
use serde_json::value::RawValue;
use tokio::io::{AsyncBufRead, AsyncBufReadExt, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader, BufWriter};
use tokio::sync::{Semaphore, mpsc};
use tokio_util::sync::CancellationToken;

use crate::platform::ControlListener;
use crate::task::Tasks;
use access::Caller;
use dispatch::{Call, Table};

pub use methods::Engines;

/// Answers that wait to be written on one connection.
const ANSWERS: usize = 64;
/// How long to wait after an accept that failed, for want of descriptors for example.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// How long a connection that is over may take to read its last answers.
const LAST_WORDS: Duration = Duration::from_secs(5);

/// Serves the local door until the daemon stops. `shared` lets members of the daemon's group in.
pub fn serve<L: ControlListener>(listener: L, shared: bool, engines: Arc<Engines>, tasks: &Tasks) {
    let door = Door { table: Arc::new(methods::table()), engines, tasks: tasks.clone() };
    let slots = Arc::new(Semaphore::new(limits::CONTROL_CONNECTIONS));
    tasks.spawn("local door", async move {
        let stop = door.tasks.stopping().clone();
        loop {
            let accepted = tokio::select! {
                () = stop.cancelled() => return,
                accepted = listener.accept() => accepted,
            };
            let (stream, credentials) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a control connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            let slot = slots.clone().try_acquire_owned();
            let door = door.clone();
            door.tasks.clone().spawn("control connection", async move {
                let caller = match slot {
                    Ok(_) => Caller::admit(credentials, shared),
                    Err(_) => Err(ApiError::new(Code::Busy, "too many control connections")),
                };
                match caller {
                    Ok(caller) => door.connection(stream, caller).await,
                    Err(error) => refuse(stream, error).await,
                }
                drop(slot);
            });
        }
    });
}

#[derive(Clone)]
struct Door {
    table: Arc<Table>,
    engines: Arc<Engines>,
    tasks: Tasks,
}

/// What the reading half found.
enum Line {
    /// A whole line.
    Whole(Vec<u8>),
    /// More than a line may have.
    TooLong,
    /// Nothing more will come.
    End,
}

impl Door {
    async fn connection<S>(&self, stream: S, caller: Caller)
    where
        S: tokio::io::AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let (read, write) = tokio::io::split(stream);
        let (answers, queue) = mpsc::channel(ANSWERS);
        // Ends with the connection, and takes what was started on it along.
        let alive = self.tasks.stopping().child_token();
        let reading = async {
            self.requests(BufReader::new(read), caller, answers, &alive).await;
            alive.cancel();
        };
        let writing = async {
            tokio::select! {
                () = write_lines(write, queue) => alive.cancel(),
                () = async { alive.cancelled().await; tokio::time::sleep(LAST_WORDS).await } => {}
            }
        };
        tokio::join!(reading, writing);
    }

    async fn requests<R: AsyncBufRead + Unpin>(
        &self,
        mut lines: R,
        caller: Caller,
        answers: mpsc::Sender<Vec<u8>>,
        alive: &CancellationToken,
    ) {
        let caller = Arc::new(caller);
        let in_flight = Arc::new(Semaphore::new(limits::CONTROL_IN_FLIGHT));
        loop {
            let slot = in_flight.clone().acquire_owned().await;
            let line = tokio::select! {
                () = alive.cancelled() => return,
                line = next_line(&mut lines) => line,
            };
            let line = match line {
                Ok(Line::Whole(line)) if line.trim_ascii().is_empty() => continue,
                Ok(Line::Whole(line)) => line,
                Ok(Line::TooLong) => {
                    let message = format!("a line has at most {} bytes", limits::CONTROL_LINE);
                    let _ = answers.send(failure(None, ApiError::new(Code::ParseError, message))).await;
                    break;
                }
                Ok(Line::End) | Err(_) => break,
            };
            let request = match parse(&line) {
                Ok(request) => request,
                Err((error, fatal)) => {
                    let _ = answers.send(failure(None, error)).await;
                    if fatal {
                        break;
                    }
                    continue;
                }
            };
            let call = Call { caller: caller.clone(), connection: alive.clone(), answers: answers.clone() };
            let (table, engines, answers) = (self.table.clone(), self.engines.clone(), answers.clone());
            self.tasks.spawn("control request", async move {
                let answer = match table.call(engines, call, &request.method, request.params).await {
                    Ok(result) => success(request.id, result),
                    Err(error) => failure(Some(request.id), error),
                };
                let _ = answers.send(answer).await;
                drop(slot);
            });
        }
        // Half-close: what was asked is finished before the connection goes.
        let all = u32::try_from(limits::CONTROL_IN_FLIGHT).unwrap_or(u32::MAX);
        tokio::select! {
            () = alive.cancelled() => {}
            _ = in_flight.acquire_many(all) => {}
        }
    }
}

async fn next_line<R: AsyncBufRead + Unpin>(lines: &mut R) -> std::io::Result<Line> {
    let mut line = Vec::new();
    lines.take(limits::CONTROL_LINE as u64 + 1).read_until(b'\n', &mut line).await?;
    Ok(if line.is_empty() {
        Line::End
    } else if line.len() > limits::CONTROL_LINE {
        Line::TooLong
    } else {
        Line::Whole(line)
    })
}

/// A request, or the error and whether the connection ends with it: whoever sends a line that is not JSON speaks another
/// protocol, and what follows is not for us.
fn parse(line: &[u8]) -> Result<Request, (ApiError, bool)> {
    let object: serde_json::Map<String, serde_json::Value> = serde_json::from_slice(line)
        .map_err(|_| (ApiError::new(Code::ParseError, "a request is one JSON object in one line"), true))?;
    let invalid = |message: String| (ApiError::new(Code::InvalidRequest, message), false);
    let request: Request = serde_json::from_value(serde_json::Value::Object(object))
        .map_err(|error| invalid(format!("not a JSON-RPC 2.0 request: {error}")))?;
    if request.jsonrpc != "2.0" {
        return Err(invalid("jsonrpc must be \"2.0\"".to_owned()));
    }
    Ok(request)
}

/// Writes lines until nobody has more, or the other end is gone.
async fn write_lines<W: AsyncWrite + Unpin>(write: W, mut queue: mpsc::Receiver<Vec<u8>>) {
    let mut write = BufWriter::new(write);
    while let Some(line) = queue.recv().await {
        if write.write_all(&line).await.is_err() || (queue.is_empty() && write.flush().await.is_err()) {
            return;
        }
    }
    let _ = write.shutdown().await;
}

async fn refuse<S: AsyncWrite + Unpin>(mut stream: S, error: ApiError) {
    let _ = stream.write_all(&failure(None, error)).await;
    let _ = stream.shutdown().await;
}

fn success(id: RequestId, result: Box<RawValue>) -> Vec<u8> {
    let answer = Response { jsonrpc: "2.0".to_owned(), id: Some(id.clone()), result: Some(result), error: None };
    let answer = line(&answer);
    if answer.len() <= limits::CONTROL_ANSWER {
        return answer;
    }
    let message = format!("this answer would have more than the {} bytes that one may have", limits::CONTROL_ANSWER);
    failure(Some(id), ApiError::new(Code::TooLarge, message))
}

fn failure(id: Option<RequestId>, error: ApiError) -> Vec<u8> {
    line(&Response { jsonrpc: "2.0".to_owned(), id, result: None, error: Some(RpcError::from(error)) })
}

/// JSON in one line: serde_json escapes every newline within.
fn line<T: serde::Serialize>(value: &T) -> Vec<u8> {
    let mut line = serde_json::to_vec(value).expect("answers are plain data");
    line.push(b'\n');
    line
}
