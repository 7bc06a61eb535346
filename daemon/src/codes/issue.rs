//! Making a code, ending it, and what is known of it.

use kith_proto::control::code::{
    CodeApproval, CodeIssueParams, CodeIssueResult, CodeRevokeParams, CodeShowResult, CodeState, IssuedCode, Redemption,
};
use kith_proto::control::{ApiError, Code as ErrorCode};
use kith_proto::guest::hello::OwnerToken;
use kith_proto::peer::join::{Approval, Payload, Permission, SharingCode, payload};
use kith_proto::peer::journal::member::{Kind, Resource};
use kith_proto::secret::Secret;
use kith_proto::secret_text::SecretText;
use kith_proto::{limits, text};
use zeroize::Zeroizing;

use super::book::{Book, Code, Ended, NewCode};
use super::{Codes, fill, new_id, publish, view};
use crate::clock;

/// Who joined by one code is shown up to so many.
const SHOWN: usize = 10_000;

/// What a code is to be like.
struct Terms {
    /// `None`: without a count.
    uses: Option<u32>,
    seconds: u64,
    ask: bool,
    label: Option<String>,
}

impl Terms {
    fn read(params: &CodeIssueParams) -> Result<Self, ApiError> {
        let invalid = |message: String| Err(ApiError::new(ErrorCode::InvalidParam, message));
        let uses = match params.uses {
            None => Some(1),
            Some(0) => None,
            Some(uses) if uses <= limits::CODE_USES => Some(uses),
            Some(_) => {
                return invalid(format!("a code has at most {} uses, or 0: without a count", limits::CODE_USES));
            }
        };
        let seconds = params.seconds.unwrap_or(limits::HELLO_SECONDS_USUAL);
        if !limits::CODE_SECONDS.contains(&seconds) {
            return invalid("a code is valid for a minute to 30 days".to_owned());
        }
        let ask = match params.approval {
            // Whoever hands one use to one person has decided already.
            None => uses != Some(1),
            Some(CodeApproval::Auto) => false,
            Some(CodeApproval::Ask) => true,
            Some(CodeApproval::Unknown) => return invalid("approval is auto or ask".to_owned()),
        };
        let label = match params.label.as_deref().map(str::trim) {
            Some(label) if label.is_empty() || label.chars().any(text::is_hostile) => {
                return invalid("a label has characters that can be seen, and no control characters".to_owned());
            }
            label => label.map(|label| text::cut(label, limits::CODE_LABEL).to_owned()),
        };
        Ok(Self { uses, seconds, ask, label })
    }
}

impl Codes {
    /// Makes a code. Needs no network: its payload finds its way later.
    pub async fn issue(&self, params: CodeIssueParams) -> Result<CodeIssueResult, ApiError> {
        let engine = &self.0;
        let terms = Terms::read(&params)?;
        let kind = serde_json::from_value(params.kind.into()).unwrap_or(Kind::Unknown);
        let resource = engine.sync.shareable(kind, &params.resource).await?;
        let name = engine.sync.name_of(&resource.id()).await?;
        let secret = new_code();
        let (mut new, ticket) = self.sealed(&secret, &terms, &resource)?;
        if let Some(name) = name {
            new.code.name = name;
        }
        let stores = engine.stores.clone();
        let code = engine
            .store
            .decide(move |tx| {
                let book = Book(tx);
                if book.count().map_err(failed)? >= limits::SHARING_CODES {
                    let message = "there are too many sharing codes; those that are over are forgotten in time";
                    return Err(ApiError::new(ErrorCode::TooLarge, message));
                }
                let id = new_id(&book).map_err(failed)?;
                book.insert(&new, &id, &stores).map_err(failed)
            })
            .await?;
        tracing::info!(code = %code.id, "a sharing code was issued");
        let number = code.number;
        if let Some(parcel) = engine.store.read(move |connection| Book(connection).parcel(number)).await? {
            publish::begin(engine, parcel).await;
        }
        engine.teller.code(code.number);
        let issued = self.shown(code).await?;
        Ok(CodeIssueResult {
            issued,
            code: SecretText::new(secret.to_text().expose().clone()),
            uri: SecretText::new(secret.to_uri().expose().clone()),
            ticket: SecretText::new(ticket.expose().clone()),
        })
    }

    /// What is kept of a code, and its ticket.
    fn sealed(
        &self,
        secret: &SharingCode,
        terms: &Terms,
        resource: &Resource,
    ) -> Result<(NewCode, Secret<String>), ApiError> {
        let engine = &self.0;
        let now_ms = clock::now_ms();
        // In whole seconds, as stores count.
        let expires_ms = (now_ms / 1000 + 1 + terms.seconds as i64) * 1000;
        let label = terms.label.clone().unwrap_or_else(|| text::device_name(&resource.name, limits::CODE_LABEL));
        let own = engine.discovery.own_addresses().into_iter();
        let addresses = own.map(|ip| std::net::SocketAddr::new(ip, engine.peer_port)).take(limits::PAYLOAD_ADDRESSES);
        let content = Payload {
            v: payload::VERSION,
            min_version: payload::VERSION,
            issuer: engine.identity.public(),
            name: text::cut(engine.identity.name(), limits::DEVICE_NAME).to_owned(),
            resource: resource.clone(),
            label: label.clone(),
            permission: Permission::ReadWrite,
            approval: if terms.ask { Approval::Ask } else { Approval::Auto },
            addresses: addresses.collect(),
            stores: engine.stores.clone(),
            grants: serde_json::Map::default(),
        };
        let (mut nonce, mut token) = ([0; 12], Zeroizing::new([0; 32]));
        fill(&mut nonce);
        fill(token.as_mut_slice());
        let keys = secret.keys();
        let blob = content
            .seal(&keys, expires_ms.unsigned_abs(), nonce)
            .map_err(|error| ApiError::new(ErrorCode::TooLarge, error.to_string()))?;
        let ticket = payload::ticket(secret, &blob);
        let code = Code {
            number: 0,
            id: String::new(),
            label,
            kind: resource.kind.as_str().to_owned(),
            resource: resource.id(),
            name: resource.name.clone(),
            permission: view::READ_WRITE.to_owned(),
            ask: terms.ask,
            created_ms: now_ms,
            expires_ms,
            uses: terms.uses,
            used: 0,
            ended: None,
            ended_ms: None,
        };
        let owner_token = OwnerToken::from_random(&token);
        Ok((NewCode { code, lookup: keys.lookup, proof: keys.proof.public(), owner_token, blob }, ticket))
    }

    /// All codes that are kept, newest first.
    pub async fn list(&self) -> Result<Vec<IssuedCode>, ApiError> {
        let now_ms = clock::now_ms();
        Ok(self.0.store.read(move |connection| view::codes(&Book(connection), now_ms)).await?)
    }

    /// One, and who came by it.
    pub async fn show(&self, wanted: String) -> Result<CodeShowResult, ApiError> {
        let now_ms = clock::now_ms();
        let (issued, joined) = self
            .0
            .store
            .read(move |connection| {
                let book = Book(connection);
                Ok(match find(&book, &wanted, now_ms)? {
                    Ok(code) => Ok((view::code(&book, &code, now_ms)?, book.redemptions(code.number, SHOWN)?)),
                    Err(error) => Err(error),
                })
            })
            .await??;
        let trust = self.0.trust.snapshot();
        let joined = joined.into_iter().map(|joined| Redemption {
            device: view::device(&trust, &joined.device, &joined.name),
            at: clock::rfc3339(joined.at_ms),
            expelled: joined.expelled_ms.is_some(),
        });
        Ok(CodeShowResult { issued, joined: joined.collect() })
    }

    /// Ends a code at once: whoever comes with it from now on is refused. With `expel`, whoever came by it is no member
    /// any more, and not trusted, if the trust came with the code.
    pub async fn revoke(&self, params: CodeRevokeParams) -> Result<IssuedCode, ApiError> {
        let CodeRevokeParams { code: wanted, expel } = params;
        let engine = &self.0;
        let (now_ms, sync) = (clock::now_ms(), engine.sync.clone());
        let revoked = engine
            .trust
            .write(move |tx, changes| {
                let book = Book(tx);
                let code = match find(&book, &wanted, now_ms)? {
                    Ok(code) => code,
                    Err(error) => return Ok(Err(error)),
                };
                book.end(code.number, Ended::Revoked, now_ms)?;
                let turned_down = book.waiting_for(code.number)?;
                for request in &turned_down {
                    book.answer(&request.id, kith_proto::control::code::RequestState::Denied, now_ms)?;
                }
                let mut expelled = Vec::new();
                if expel {
                    let joined = book.redemptions(code.number, usize::MAX >> 1)?;
                    let joined: Vec<_> = joined.into_iter().filter(|it| it.expelled_ms.is_none()).collect();
                    let devices: Vec<_> = joined.iter().map(|it| it.device).collect();
                    expelled = sync.expel(tx, &code.resource, &devices)?;
                    for joined in joined.iter().filter(|it| it.new_trust) {
                        changes.revoke(tx, &joined.device, now_ms)?;
                    }
                    // Whom this device may not put out is in, and shown so.
                    for device in &expelled {
                        book.set_expelled(code.number, device, now_ms)?;
                    }
                }
                let code = book.code(code.number)?.unwrap_or(code);
                Ok(Ok((code, turned_down, expelled)))
            })
            .await?;
        let (code, turned_down, expelled) = revoked?;
        tracing::info!(code = %code.id, expelled = expelled.len(), "a sharing code was revoked");
        if !expelled.is_empty() {
            engine.sync.members_expelled(&code.resource, &expelled);
        }
        turned_down.into_iter().for_each(|request| engine.teller.request(request.id));
        engine.publisher.wake();
        engine.teller.code(code.number);
        self.shown(code).await
    }

    async fn shown(&self, code: Code) -> Result<IssuedCode, ApiError> {
        let now_ms = clock::now_ms();
        Ok(self.0.store.read(move |connection| view::code(&Book(connection), &code, now_ms)).await?)
    }
}

/// A new code, of which nothing else is left in memory.
fn new_code() -> SharingCode {
    let mut random = Zeroizing::new([0; 16]);
    fill(random.as_mut_slice());
    SharingCode::from_random(*random)
}

/// The code that `wanted` names: an id, a label, or a unique prefix of an id. Those that let devices in win over others
/// of the same label.
fn find(book: &Book<'_>, wanted: &str, now_ms: i64) -> rusqlite::Result<Result<Code, ApiError>> {
    let label = text::fold(wanted);
    let (mut by_label, mut by_prefix) = (Vec::new(), Vec::new());
    for code in book.codes()? {
        if code.id == wanted {
            return Ok(Ok(code));
        }
        if text::fold(&code.label) == label {
            by_label.push(code);
        } else if !wanted.is_empty() && code.id.starts_with(wanted) {
            by_prefix.push(code);
        }
    }
    if by_label.iter().any(|code| code.state(now_ms) == CodeState::Active) {
        by_label.retain(|code| code.state(now_ms) == CodeState::Active);
    }
    let mut found = if by_label.is_empty() { by_prefix } else { by_label };
    Ok(match found.len() {
        0 => Err(ApiError::new(ErrorCode::CodeNotFound, format!("no code is called {}", text::printable(wanted)))
            .hint("kithctl codes lists them")),
        1 => Ok(found.remove(0)),
        _ => {
            let list: Vec<_> =
                found.iter().take(8).map(|code| format!("{} ({})", text::printable(&code.label), code.id)).collect();
            let message = format!("{} fits more than one code: {}", text::printable(wanted), list.join(", "));
            Err(ApiError::new(ErrorCode::InvalidParam, message).hint("use the id, or more of it"))
        }
    })
}

fn failed(error: rusqlite::Error) -> ApiError {
    crate::store::Error::from(error).into()
}
