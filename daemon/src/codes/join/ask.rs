//! One try: JOIN, RESULT, and what follows from a yes.

use std::net::SocketAddr;
use std::time::Duration;

use kith_proto::control::{ApiError, Code};
use kith_proto::id::PublicKey;
use kith_proto::limits;
use kith_proto::peer::Alpn;
use kith_proto::peer::join::code::ProofKey;
use kith_proto::peer::join::{Join, JoinResult, Payload, Reason};
use kith_proto::peer::journal::member::{Introduction, Members};

use super::pursue::Pursued;
use super::words::Local;
use super::{Engine, book};
use crate::clock;
use crate::dial;
use crate::discovery::Contact;
use crate::store;
use crate::sync::Entered;
use crate::tls::channel::within;
use crate::tls::{Channel, ChannelError};
use crate::trust::Admitted;

const EXCHANGE: Duration = Duration::from_secs(limits::JOIN_SECONDS);

/// What a try came to.
pub enum Tried {
    /// The issuer said this, there.
    Said(Box<JoinResult>, SocketAddr),
    /// It said nothing of use.
    Local(Local),
}

/// What a yes came to.
pub enum Settled {
    /// This device is a member of it, and what that is called.
    In(Entered, Reason),
    /// It was called off meanwhile.
    Over,
    /// What came with the yes does not hold.
    Unproven,
    /// It cannot be entered here and now.
    Refused(ApiError),
}

impl Engine {
    /// Asks the issuer, wherever it may be.
    pub(super) async fn ask(&self, proof: &ProofKey, payload: &Payload) -> Tried {
        let addresses = self.addresses(payload);
        let mut channel = match self.dial.key_at(&payload.issuer, &addresses, Alpn::Join).await {
            Ok(channel) => channel,
            Err(error) => return Tried::Local(unreachable(&error)),
        };
        let answer = within(EXCHANGE, self.exchange(proof, payload, &mut channel)).await;
        let remote = channel.remote;
        channel.close().await;
        match answer {
            Ok(frame) => match JoinResult::decode(&frame) {
                Some(result) => Tried::Said(Box::new(result), remote),
                None => Tried::Local(Local::Nonsense("what came is no answer to a request to join".to_owned())),
            },
            Err(error @ (ChannelError::TooLarge { .. } | ChannelError::Malformed(_))) => {
                Tried::Local(Local::Nonsense(error.to_string()))
            }
            Err(error) => Tried::Local(unreachable(&dial::Error::of(error, Alpn::Join))),
        }
    }

    async fn exchange(
        &self,
        proof: &ProofKey,
        payload: &Payload,
        channel: &mut Channel,
    ) -> Result<Vec<u8>, ChannelError> {
        let (issuer, own, name) = (&payload.issuer, self.identity.public(), self.identity.name().to_owned());
        let exporter = &channel.binding.exporter;
        let join = Join::new(proof, payload.resource.id(), issuer, &own, exporter, name, self.peer_port);
        channel.writer.send_frame(&join.encode()).await?;
        channel.reader.frame(limits::FRAME_UNAUTHENTICATED).await
    }

    /// Where the issuer may be: where it is in sight, where it says it is, where it was.
    fn addresses(&self, payload: &Payload) -> Vec<SocketAddr> {
        let (seen, trust) = (self.discovery.snapshot(), self.trust.snapshot());
        let seen = seen.peers.get(&payload.issuer.device_id()).map(|peer| peer.addresses.as_slice());
        let known = trust.trusted(&payload.issuer).map(|device| device.addresses.as_slice());
        let mut addresses = Vec::new();
        for address in [seen.unwrap_or_default(), &payload.addresses, known.unwrap_or_default()].concat() {
            if !addresses.contains(&address) {
                addresses.push(address);
            }
        }
        addresses
    }

    /// The issuer said yes: it is trusted, its resource is here, and the join is over, all in one transaction.
    pub(super) async fn settle(
        &self,
        join: &Pursued,
        result: JoinResult,
        remote: SocketAddr,
    ) -> Result<Settled, store::Error> {
        let payload = &join.payload;
        let own = self.identity.public();
        let Some(introduction) = result.introduction.filter(|it| is_proven(it, payload, &own)) else {
            return Ok(Settled::Unproven);
        };
        let (sync, id, reason) = (self.sync.clone(), join.id.clone(), result.reason);
        let (issuer, name, now) = (payload.issuer, super::shown::issuer_name(payload), clock::now_ms());
        let (path, confirmed_ms) = (join.path.clone(), join.confirmed_ms);
        self.trust
            .write(move |tx, changes| {
                if !book::is_pending(tx, &id)? {
                    return Ok(Settled::Over);
                }
                // Somebody here said yes to this very device; whoever ended the trust in it since then said no.
                let revoked = changes.revoked_ms(tx, &issuer)?;
                if revoked.is_some_and(|at| at > confirmed_ms) {
                    return Ok(Settled::Refused(distrusted(&name)));
                }
                // What refuses has written nothing.
                let now_ms = u64::try_from(now).unwrap_or_default();
                let entered = match sync.enter(tx, &introduction, &issuer, path.as_deref(), now_ms)? {
                    Ok(entered) => entered,
                    Err(error) => return Ok(Settled::Refused(error)),
                };
                if let Admitted::Revoked { .. } = changes.admit(tx, &issuer, &name, Some(remote), now)? {
                    changes.readmit(tx, &issuer, &name, Some(remote), now)?;
                }
                // Who was let in while nobody asked, or did not hear of it, is new here all the same.
                let word = if entered.already { reason } else { Reason::Ok };
                book::joined(tx, &id, word.as_str(), now)?;
                Ok(Settled::In(entered, word))
            })
            .await
    }

    /// Tells who wants to know.
    pub(super) async fn arrived(&self, issuer: PublicKey, remote: SocketAddr, entered: &Entered) {
        self.discovery.reached(issuer, remote, Contact::Answered);
        self.sync.entered(&entered.id, issuer);
    }
}

/// Whether what the issuer says makes this device a member of the very resource that was confirmed, by the word of
/// somebody who may give it.
fn is_proven(introduction: &Introduction, payload: &Payload, own: &PublicKey) -> bool {
    if introduction.resource != payload.resource {
        return false;
    }
    let mut members = Members::new(introduction.resource.clone());
    members.merge(&introduction.records);
    members.contains(own) && members.may_admit(&payload.issuer)
}

fn distrusted(issuer: &str) -> ApiError {
    let message = format!("{issuer} said yes, but the trust in it was revoked here after this join was confirmed");
    ApiError::new(Code::NotTrusted, message).hint("call this join off, or pair with that device again")
}

fn unreachable(error: &dial::Error) -> Local {
    match error {
        dial::Error::WrongKey => Local::OtherKey,
        dial::Error::NoProtocol(_) => Local::NoDoor,
        error => Local::Unreachable(error.to_string()),
    }
}
