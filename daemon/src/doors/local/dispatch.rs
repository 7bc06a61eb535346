//! From a method's name to its handler. Access is checked before parameters are looked at.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::Arc;

use kith_proto::control::method::{Access, Method};
use kith_proto::control::{ApiError, Code};
use serde_json::value::RawValue;
use serde_json::{Map, Value};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::access::Caller;
use super::methods::Engines;

/// The circumstances of one request.
#[derive(Clone)]
pub struct Call {
    /// Who asks.
    pub caller: Arc<Caller>,
    /// Cancelled when the connection is gone.
    pub connection: CancellationToken,
    /// Where lines for this connection go.
    pub answers: mpsc::Sender<Vec<u8>>,
}

type Answer = Pin<Box<dyn Future<Output = Result<Box<RawValue>, ApiError>> + Send>>;
type Handler = Box<dyn Fn(Arc<Engines>, Call, Map<String, Value>) -> Answer + Send + Sync>;

struct Entry {
    access: Access,
    handler: Handler,
}

/// Every method that this daemon has.
#[derive(Default)]
pub struct Table {
    entries: HashMap<&'static str, Entry>,
}

impl Table {
    /// Adds a method. Its name and its access come from the contract, so neither can be forgotten.
    #[must_use]
    pub fn with<M, F, R>(mut self, handler: F) -> Self
    where
        M: Method,
        M::Params: Send,
        F: Fn(Arc<Engines>, Call, M::Params) -> R + Send + Sync + Clone + 'static,
        R: Future<Output = Result<M::Result, ApiError>> + Send,
    {
        let run: Handler = Box::new(move |engines, call, params| {
            let handler = handler.clone();
            Box::pin(async move {
                let params = serde_json::from_value(Value::Object(params)).map_err(bad_params)?;
                encode(&handler(engines, call, params).await?)
            })
        });
        let twice = self.entries.insert(M::NAME, Entry { access: M::ACCESS, handler: run });
        debug_assert!(twice.is_none(), "{} is in the table twice", M::NAME);
        self
    }

    /// Runs a method.
    pub async fn call(
        &self,
        engines: Arc<Engines>,
        call: Call,
        name: &str,
        params: Option<Map<String, Value>>,
    ) -> Result<Box<RawValue>, ApiError> {
        let entry = self.entries.get(name).ok_or_else(|| {
            ApiError::new(Code::UnknownMethod, "there is no such method").hint("daemon.hello lists the methods")
        })?;
        call.caller.require(entry.access)?;
        (entry.handler)(engines, call, params.unwrap_or_default()).await
    }

    /// The names of all methods.
    #[cfg(test)]
    pub fn names(&self) -> Vec<&'static str> {
        self.entries.keys().copied().collect()
    }
}

fn bad_params(error: serde_json::Error) -> ApiError {
    let message = error.to_string();
    let code = if message.starts_with("unknown field") { Code::UnknownParam } else { Code::InvalidParam };
    ApiError::new(code, message)
}

/// Debug builds add a field that no client knows now and then: a client that chokes on one is found before a newer
/// daemon adds a real one.
fn encode<T: serde::Serialize>(result: &T) -> Result<Box<RawValue>, ApiError> {
    let internal = |error: serde_json::Error| ApiError::new(Code::Internal, error.to_string());
    if cfg!(debug_assertions) && getrandom::u32().is_ok_and(|dice| dice % 8 == 0) {
        let mut value = serde_json::to_value(result).map_err(internal)?;
        if let Some(object) = value.as_object_mut() {
            object.insert("x_unknown".to_owned(), Value::from("a newer daemon may add fields"));
        }
        return serde_json::value::to_raw_value(&value).map_err(internal);
    }
    serde_json::value::to_raw_value(result).map_err(internal)
}
