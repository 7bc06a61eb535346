//! `guest.*`

use std::path::PathBuf;
use std::sync::Arc;

use kith_proto::control::method::{
    AnswerParams, Empty, GuestOpenParams, GuestOpenResult, GuestSendParams, WindowParams,
};
use kith_proto::control::types::{Question, Transfer, Window};
use kith_proto::control::{ApiError, Code};
use kith_proto::guest::Qr;
use kith_proto::pin::Pin;

use super::Engines;
use crate::doors::local::dispatch::Call;
use crate::guest::{Receiver, SendRequest};

pub async fn open(engines: Arc<Engines>, call: Call, params: GuestOpenParams) -> Result<GuestOpenResult, ApiError> {
    let owner = (!params.detach).then_some(call.connection);
    engines.guests.open(params, owner).await
}

pub async fn show(engines: Arc<Engines>, _: Call, _: Empty) -> Result<GuestOpenResult, ApiError> {
    engines.guests.show()
}

pub async fn close(engines: Arc<Engines>, _: Call, params: WindowParams) -> Result<Window, ApiError> {
    engines.guests.close(&params.window)
}

pub async fn answer(engines: Arc<Engines>, _: Call, params: AnswerParams) -> Result<Question, ApiError> {
    engines.guests.answer(&params.question, params.accept)
}

pub async fn send(engines: Arc<Engines>, call: Call, params: GuestSendParams) -> Result<Transfer, ApiError> {
    let invalid = |message: String| ApiError::new(Code::InvalidParam, message);
    let hash = params.certificate_hash.as_deref().map(str::parse).transpose();
    let certificate_hash = hash.map_err(|error: kith_proto::guest::NotAHash| invalid(error.to_string()))?;
    let receiver = match (params.target, params.pin, params.qr) {
        (Some(target), Some(pin), None) => {
            let pin = Pin::parse(&pin).map_err(|error| invalid(error.to_string()))?;
            Receiver::Typed { target, pin, certificate_hash }
        }
        (None, None, Some(qr)) if certificate_hash.is_none() => {
            Receiver::Scanned(Qr::parse(&qr).map_err(|error| invalid(error.to_string()))?)
        }
        _ => return Err(invalid("give either target and pin, or qr alone".to_owned())),
    };
    if params.paths.is_empty() {
        return Err(invalid("give at least one path".to_owned()));
    }
    let paths = params.paths.into_iter().map(PathBuf::from).collect();
    let request = SendRequest { receiver, paths, title: params.title, caller: call.caller.reads_as() };
    engines.guests.send(request).await
}
