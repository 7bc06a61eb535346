//! The local door: JSON-RPC 2.0, one object a line.
//!
//! ```text
//! method   every method: its name, the access it needs, its parameters and its result, as types
//! types    the nouns that methods and events carry: peers, pairings, transfers, policies
//! journal  journals, entries and syncing: nouns, parameters, results
//! code     sharing codes, on both sides: nouns, parameters, results
//! credential  the vault, secrets, databases and handing them over: nouns, parameters, results
//! event    facts and how they are subscribed to
//! error    kinds, codes and hints; the one table from kinds to RPC codes and exit codes
//! ```
//!
//! The envelope itself (`id`, `method`, `params`, `result`, `error`) is [`Request`] and [`Response`]. Results are read
//! leniently and parameters strictly: a daemon refuses what it does not know, a client ignores it.

pub mod code;
pub mod credential;
pub mod error;
pub mod event;
pub mod journal;
pub mod method;
pub mod types;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Map, Value};

pub use error::{ApiError, Code, ErrorKind};

/// The id of a request: a string or an integer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum RequestId {
    /// A number.
    Number(i64),
    /// A string.
    Text(String),
}

/// One request, its parameters not yet looked at.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Request {
    /// Always `"2.0"`.
    pub jsonrpc: String,
    /// Names the answer; requests without an id get no answer in JSON-RPC, so here it is required.
    pub id: RequestId,
    /// The method's name.
    pub method: String,
    /// An object, or absent.
    #[serde(default)]
    pub params: Option<Map<String, Value>>,
}

/// One answer: either `result` or `error`.
#[derive(Debug, Serialize, Deserialize)]
pub struct Response {
    /// Always `"2.0"`.
    pub jsonrpc: String,
    /// The id of the request, or null where it could not be read.
    pub id: Option<RequestId>,
    /// What the method returned.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result: Option<Box<RawValue>>,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<error::RpcError>,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn read(line: &str) -> Result<Request, serde_json::Error> {
        serde_json::from_str(line)
    }

    #[test]
    fn requests_that_are_none() {
        assert!(read(r#"{"jsonrpc":"2.0","id":1,"method":"daemon.status"}"#).is_ok());
        for line in [
            r#"{"jsonrpc":"2.0","method":"daemon.status"}"#,
            r#"{"jsonrpc":"2.0","id":null,"method":"daemon.status"}"#,
            r#"{"jsonrpc":"2.0","id":1.5,"method":"daemon.status"}"#,
            r#"{"jsonrpc":"2.0","id":1,"id":2,"method":"daemon.status"}"#,
            r#"{"jsonrpc":"2.0","id":1,"method":"daemon.status","params":[1]}"#,
            r#"{"jsonrpc":"2.0","id":1,"method":"daemon.status","more":1}"#,
            r#"{"jsonrpc":"2.0","id":"\ud800","method":"daemon.status"}"#,
            "GET / HTTP/1.1",
        ] {
            assert!(read(line).is_err(), "{line}");
        }
    }

    proptest! {
        #[test]
        fn every_request_comes_back(id in prop_oneof![
            any::<i64>().prop_map(RequestId::Number),
            ".*".prop_map(RequestId::Text),
        ], method in ".*", value in ".*") {
            let line = json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": { "value": value } }).to_string();
            prop_assert!(!line.contains('\n'), "one request, one line");
            let request = read(&line).unwrap();
            prop_assert_eq!((request.id, request.method), (id, method));
            prop_assert_eq!(&request.params.unwrap()["value"], &Value::from(value));
        }

        #[test]
        fn any_text_is_a_request_or_an_error(line in prop_oneof![".*", r#"\{"[a-z":,{}\[\]0-9.\\-]*\}"#]) {
            let _ = read(&line);
        }
    }
}
