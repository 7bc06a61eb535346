//! Credentials to and from paired devices: TLS proves both ends, and what comes waits in the inbox for a review, sealed on
//! the disk.

use std::time::Duration;

use kith_proto::control::credential::{Share, ShareState};
use kith_proto::control::types::{Direction, Offers, Party};
use kith_proto::control::{ApiError, Code};
use kith_proto::credential::payload::Payload;
use kith_proto::id::PublicKey;
use kith_proto::limits;
use kith_proto::peer::Alpn;
use kith_proto::peer::share::message::{Message, Outcome};
use kith_proto::peer::wire::Base64;

use super::send::ending;
use super::{Ending, Engine, book, kind_of};
use crate::clock;
use crate::dial;
use crate::store;
use crate::tls::channel::within;
use crate::tls::{Channel, ChannelError};

/// How long each side may take for its one message.
const MESSAGE: Duration = Duration::from_secs(10);

impl Engine {
    /// The paired device that is meant.
    pub(super) fn paired(&self, wanted: &str) -> Result<(PublicKey, Party), ApiError> {
        let trust = self.trust.snapshot();
        let device = trust.find(wanted)?;
        if !device.is_trusted() {
            let error = ApiError::new(Code::NotPaired, "this device was revoked");
            return Err(error.hint("pair again, or hand it over with a code: leave --to out"));
        }
        Ok((device.key, device.as_ref().into()))
    }

    /// Hands over to a paired device, into its inbox.
    pub(super) async fn deliver(&self, key: &PublicKey, payload: &Payload) -> Result<Ending, ApiError> {
        let mut channel = self.dial.device(key, Alpn::Share).await?;
        let offer = zeroize::Zeroizing::new(Message::Offer { payload: Base64(payload.encode()) }.encode());
        let talk = async {
            channel.writer.send_frame(&offer).await?;
            channel.reader.frame(limits::FRAME_UNAUTHENTICATED).await
        };
        let answer = within(MESSAGE, talk).await.map_err(|error| dial::Error::of(error, Alpn::Share))?;
        channel.close().await;
        match Message::decode(&answer) {
            Ok(Message::Result(outcome)) => Ok(ending(outcome)),
            _ => Err(ApiError::new(Code::Protocol, "the other side did not say what became of it")),
        }
    }

    /// Takes what a paired device hands over into the inbox.
    pub(super) async fn take_in(&self, mut channel: Channel) {
        let offer = within(MESSAGE, channel.reader.frame(limits::FRAME_CONTROL)).await;
        let outcome = match offer.map(|frame| Message::decode(&frame)) {
            Ok(Ok(Message::Offer { payload })) => self.keep(channel.peer, &payload.0).await,
            Ok(_) => Outcome::Invalid { detail: "is no offer".to_owned() },
            Err(ChannelError::Closed) => return,
            Err(error) => {
                tracing::debug!(remote = %channel.remote, %error, "an offer of credentials broke off");
                return;
            }
        };
        let result = Message::Result(outcome).encode();
        let told = channel.writer.send_frame(&result);
        if within(MESSAGE, told).await.is_ok() {
            channel.close().await;
        }
    }

    async fn keep(&self, peer: PublicKey, json: &[u8]) -> Outcome {
        let trust = self.trust.snapshot();
        let Some(device) = trust.trusted(&peer) else { return Outcome::Declined };
        if device.policy.offers == Offers::Never {
            return Outcome::Declined;
        }
        let payload = match Payload::parse(json) {
            Ok(payload) => payload,
            Err(invalid) => return Outcome::Invalid { detail: invalid.to_string() },
        };
        let mut view = book::new(Direction::In, kind_of(&payload), Some(payload.name().to_owned()), None);
        (view.state, view.peer) = (ShareState::Review, Some(device.as_ref().into()));
        match self.vault.keep_offered(&view.share, peer, &payload).await {
            Ok(()) => {
                tracing::info!(peer = %peer.device_id(), "credentials wait for a review");
                self.book.keep(view);
                Outcome::Waiting
            }
            Err(error) => match error.code {
                Code::VaultLocked => Outcome::Locked,
                Code::Quota => Outcome::Full,
                _ => Outcome::Failed,
            },
        }
    }

    /// What waited when the daemon last ended.
    pub(super) async fn load_inbox(&self) -> Result<(), store::Error> {
        let trust = self.trust.snapshot();
        for offered in self.vault.offered().await? {
            let peer = match trust.get(&offered.peer) {
                Some(device) => device.as_ref().into(),
                None => Party {
                    id: Some(offered.peer.device_id()),
                    name: offered.peer.device_id().to_string(),
                    address: None,
                    protocol: None,
                },
            };
            self.book.keep(Share {
                share: offered.id,
                state: ShareState::Review,
                peer: Some(peer),
                created: clock::rfc3339(offered.created_ms),
                ..book::new(Direction::In, offered.kind, Some(offered.name), None)
            });
        }
        Ok(())
    }
}
