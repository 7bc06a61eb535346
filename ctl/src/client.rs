//! The local door from outside: JSON-RPC 2.0, one object a line. Nothing else in this program knows how a request
//! looks.
//!
//! One connection carries calls, their answers, facts and changed entries. [`Client::call`] waits for its own answer and keeps whatever
//! else arrives for [`Client::next`]. A [`Sender`] asks without waiting, from any thread.

use std::collections::VecDeque;
use std::io::{self, BufRead as _, BufReader, Write as _};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use kith_proto::control::error::RpcError;
use kith_proto::control::event::{Event, Notice};
use kith_proto::control::journal::EntryChanged;
use kith_proto::control::method::{
    Hello, HelloParams, HelloResult, Method, Subscribe, SubscribeParams, SubscribeResult,
};
use kith_proto::control::{ApiError, Code, RequestId};
use kith_proto::{CONTROL_PROTOCOL, CONTROL_PROTOCOL_MIN, limits};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use zeroize::Zeroizing;

use crate::diagnose::{Cause, SAME_VERSION, explain};
use crate::error::{Error, FAILED, Result};
use crate::output::warn;
use crate::transport::{Endpoint, Stream, connect};
use crate::wiped;

/// The id of `daemon.hello`; other requests count from 1.
const HELLO: i64 = 0;
/// What follows `entries.subscribe`: no fact of the ring, so without a sequence number.
const ENTRY_CHANGED: &str = "entry:changed";

/// A connection to the daemon.
pub struct Client {
    endpoint: Endpoint,
    timeout: Duration,
    reader: BufReader<Box<dyn Stream>>,
    sender: Sender,
    greeted: bool,
    unread: VecDeque<Incoming>,
}

/// What the daemon says.
#[derive(Debug)]
pub enum Incoming {
    /// The answer to a request of a [`Sender`].
    Answer(i64, Result<Box<RawValue>>),
    /// A fact, and how it was written.
    Fact(Event, Box<RawValue>),
    /// Facts were missed: subscribe again. And how it was written.
    Lagged(Box<RawValue>),
    /// An entry of a journal that was subscribed to changed. And how it was written.
    Changed(Box<EntryChanged>, Box<RawValue>),
}

impl Client {
    /// Connects; `timeout` is how long each call may take.
    pub fn connect(endpoint: &Endpoint, timeout: Duration) -> Result<Self> {
        let open = || {
            let stream = connect(&endpoint.path)?;
            io::Result::Ok((stream.another()?, stream))
        };
        let (writer, reader) = open().map_err(|error| explain(endpoint, Cause::Connect(error)))?;
        Ok(Self {
            endpoint: endpoint.clone(),
            timeout,
            reader: BufReader::new(reader),
            sender: Sender(Arc::new(Mutex::new(Wire { stream: writer, next_id: HELLO + 1 }))),
            greeted: false,
            unread: VecDeque::new(),
        })
    }

    /// Calls a method.
    pub fn call<M: Method>(&mut self, params: &M::Params) -> Result<M::Result> {
        let result = self.call_raw(M::NAME, Some(params))?;
        self.decode(&result)
    }

    /// Calls a method by its name, and returns the result as it was written.
    pub fn call_raw(&mut self, method: &str, params: Option<&impl Serialize>) -> Result<Box<RawValue>> {
        let deadline = Instant::now() + self.timeout;
        let id = self.sender.send(method, params)?;
        let mut answer = None;
        while answer.is_none() || !self.greeted {
            match self.receive(Some(deadline))? {
                Some(Incoming::Answer(answered, outcome)) if answered == id => answer = Some(outcome?),
                Some(other) => self.unread.push_back(other),
                None => {}
            }
        }
        answer.ok_or_else(|| explain(&self.endpoint, Cause::Closed))
    }

    /// Asks for facts of these kinds, from now on.
    pub fn subscribe(&mut self, kinds: &[&str]) -> Result<SubscribeResult> {
        let kinds = Some(kinds.iter().map(|kind| (*kind).to_owned()).collect());
        self.call::<Subscribe>(&SubscribeParams { kinds, since: None })
    }

    /// What the daemon said before its answer to the last call.
    pub fn heard(&mut self) -> Option<Incoming> {
        self.unread.pop_front()
    }

    /// What the daemon says next, however long it takes.
    pub fn next(&mut self) -> Result<Incoming> {
        loop {
            if let Some(incoming) = self.heard() {
                return Ok(incoming);
            }
            if let Some(incoming) = self.receive(None)? {
                return Ok(incoming);
            }
        }
    }

    /// Asks on this connection without waiting for the answer.
    pub fn sender(&self) -> Sender {
        self.sender.clone()
    }

    /// A result as the type that its method promises.
    pub fn decode<T: DeserializeOwned>(&self, result: &RawValue) -> Result<T> {
        serde_json::from_str(result.get()).map_err(|error| {
            let message = format!("kithd answered with something that this kithctl does not understand: {error}");
            Error::from(ApiError::new(Code::ProtocolVersion, message).hint(SAME_VERSION))
        })
    }

    /// Reads one line; `None` if it is of no concern to a command.
    fn receive(&mut self, deadline: Option<Instant>) -> Result<Option<Incoming>> {
        let line = self.read_line(deadline)?;
        let line: Line = serde_json::from_slice(&line).map_err(|_| explain(&self.endpoint, Cause::Foreign))?;
        Ok(match line {
            Line { id: Some(RequestId::Number(HELLO)), .. } => {
                self.greet(&line.outcome()?)?;
                None
            }
            Line { id: Some(RequestId::Number(id)), .. } => Some(Incoming::Answer(id, line.outcome())),
            Line { method: Some(method), params: Some(params), .. } if method == "event" => {
                match serde_json::from_str(params.get()) {
                    Ok(Notice::Event(event)) => Some(Incoming::Fact(event, params)),
                    Ok(Notice::Lagged(_)) => Some(Incoming::Lagged(params)),
                    // A newer daemon may say more than this client understands.
                    Err(_) => changed(&params),
                }
            }
            // The daemon does not say which request it means when it turns the caller away.
            Line { error: Some(error), .. } => return Err(error.into()),
            _ => None,
        })
    }

    fn read_line(&mut self, deadline: Option<Instant>) -> Result<Zeroizing<Vec<u8>>> {
        let failed = |cause| Err(explain(&self.endpoint, cause));
        // Zero would mean: without a limit.
        let wait = deadline.map(|at| at.saturating_duration_since(Instant::now()).max(Duration::from_millis(1)));
        if let Err(error) = self.reader.get_ref().set_read_timeout(wait) {
            return failed(Cause::Connect(error));
        }
        let mut line = Zeroizing::new(Vec::new());
        loop {
            let read = match self.reader.fill_buf() {
                Ok([]) => return failed(Cause::Closed),
                Ok(read) => read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {
                    return failed(Cause::Silent(self.timeout));
                }
                Err(_) => return failed(Cause::Closed),
            };
            let end = read.iter().position(|byte| *byte == b'\n').map(|at| at + 1);
            let count = end.unwrap_or(read.len());
            if line.len() + count > limits::CONTROL_ANSWER {
                return failed(Cause::Foreign);
            }
            wiped::append(&mut line, &read[..count]);
            self.reader.consume(count);
            if end.is_some() {
                return Ok(line);
            }
        }
    }

    fn greet(&mut self, result: &RawValue) -> Result<()> {
        let hello: HelloResult = self.decode(result)?;
        self.greeted = true;
        if hello.min_protocol > CONTROL_PROTOCOL || hello.protocol < CONTROL_PROTOCOL_MIN {
            return Err(explain(&self.endpoint, Cause::Protocol(hello)));
        }
        if hello.protocol != CONTROL_PROTOCOL {
            warn(&format!(
                "kithctl: {} speaks protocol {}, this kithctl {CONTROL_PROTOCOL}; some things may be missing",
                hello.server, hello.protocol
            ));
        }
        Ok(())
    }
}

/// The side of a connection that asks.
#[derive(Clone)]
pub struct Sender(Arc<Mutex<Wire>>);

struct Wire {
    stream: Box<dyn Stream>,
    next_id: i64,
}

impl Sender {
    /// Sends a request and returns its id. The answer comes to [`Client::next`].
    ///
    /// A write that fails is not reported here: a daemon that closed the connection may have said why, and whoever
    /// reads finds that, or the end.
    pub fn send(&self, method: &str, params: Option<&impl Serialize>) -> Result<i64> {
        let mut wire = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let id = wire.next_id;
        let mut line = request(id, method, params)?;
        if line.len() > limits::CONTROL_LINE {
            return Err(Error::usage(format!("this is more than the {} bytes of a request", limits::CONTROL_LINE)));
        }
        wire.next_id += 1;
        if id == HELLO + 1 {
            // In the same write.
            let mut both = greeting()?;
            wiped::append(&mut both, &line);
            line = both;
        }
        let _ = wire.stream.write_all(&line);
        Ok(id)
    }
}

/// The notification of `entries.subscribe`, if it is one.
fn changed(params: &RawValue) -> Option<Incoming> {
    #[derive(Deserialize)]
    struct Raw {
        kind: String,
        data: Box<RawValue>,
    }
    let Raw { kind, data } = serde_json::from_str(params.get()).ok()?;
    let change = serde_json::from_str(data.get()).ok()?;
    (kind == ENTRY_CHANGED).then_some(Incoming::Changed(change, data))
}

/// One line, and the only form in which the parameters are written down.
fn request(id: i64, method: &str, params: Option<&impl Serialize>) -> Result<Zeroizing<Vec<u8>>> {
    #[derive(Serialize)]
    struct Request<'a, P> {
        jsonrpc: &'static str,
        id: i64,
        method: &'a str,
        #[serde(skip_serializing_if = "Option::is_none")]
        params: Option<&'a P>,
    }
    wiped::json(&Request { jsonrpc: "2.0", id, method, params }, b"\n")
        .map_err(|error| Error::new(FAILED, "internal", format!("cannot write this as JSON: {error}")))
}

fn greeting() -> Result<Zeroizing<Vec<u8>>> {
    let hello =
        HelloParams { client: concat!("kithctl ", env!("CARGO_PKG_VERSION")).to_owned(), protocol: CONTROL_PROTOCOL };
    request(HELLO, Hello::NAME, Some(&hello))
}

/// A line of the daemon: an answer, or a notification.
#[derive(Deserialize)]
struct Line {
    #[serde(default)]
    id: Option<RequestId>,
    #[serde(default)]
    result: Option<Box<RawValue>>,
    #[serde(default)]
    error: Option<RpcError>,
    #[serde(default)]
    method: Option<String>,
    #[serde(default)]
    params: Option<Box<RawValue>>,
}

impl Line {
    fn outcome(self) -> Result<Box<RawValue>> {
        match self.error {
            Some(error) => Err(error.into()),
            None => Ok(self.result.unwrap_or_else(|| RawValue::NULL.to_owned())),
        }
    }
}
