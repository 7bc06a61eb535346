//! What became of a join, for people and for programs: a word, a sentence, what to do now, and a code of the local door.

use kith_proto::control::{ApiError, Code};
use kith_proto::limits;
use kith_proto::peer::join::payload::PayloadError;
use kith_proto::peer::join::{JoinResult, Reason};
use kith_proto::text;

/// Where a join stands, or how it ended, with the word for it (see `CodeJoin::result`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Said {
    /// The word.
    pub result: &'static str,
    /// Sentence, code and hint.
    pub error: ApiError,
}

impl Said {
    fn new(result: &'static str, code: Code, message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { result, error: ApiError::new(code, message).hint(hint) }
    }
}

/// Why there is nothing to say yes to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Finding {
    /// Nobody who answered knows the code. These could not be asked.
    NotFound(Vec<String>),
    /// Nobody could be asked: these.
    Unreachable(Vec<String>),
    /// Something was found that does not open.
    Unreadable(PayloadError),
    /// It was there until its time was over.
    Expired,
    /// Its issuer took it away.
    Withdrawn,
    /// It shares what this version does not know.
    UnknownKind,
    /// It gives what this version does not know.
    UnknownPermission,
    /// This device issued it.
    Oneself,
}

impl Finding {
    /// In words.
    pub fn said(&self) -> Said {
        const NEW: &str = "ask whoever gave it to you for a new code";
        match self {
            Self::NotFound(unasked) if unasked.is_empty() => Said::new(
                "not_found",
                Code::CodeNotFound,
                "nobody on this network and no hello store knows this code",
                "its time may be over; compare it with the one that you were given, be on the network of the device \
                 that issued it, or ask for a ticket",
            ),
            Self::NotFound(unasked) => Said::new(
                "not_found",
                Code::CodeNotFound,
                format!("nobody who answered knows this code; not reached: {}", unasked.join("; ")),
                "try again when all of them can be reached, or ask for a ticket",
            ),
            Self::Unreachable(places) if places.is_empty() => Said::new(
                "store_unreachable",
                Code::StoreUnreachable,
                "there was nobody to ask about this code: no device on this network gives out codes, and no hello \
                 store is configured",
                "be on the network of the device that issued it, configure the hello store that it uses ([hello] \
                 stores), or ask for a ticket",
            ),
            Self::Unreachable(places) => Said::new(
                "store_unreachable",
                Code::StoreUnreachable,
                format!("nobody who may know this code could be reached: {}", places.join("; ")),
                "check this device's network, and try again",
            ),
            Self::Unreadable(error @ PayloadError::Version) => Said::new(
                "unsupported",
                Code::ProtocolVersion,
                error.to_string(),
                "then use the same code again: it was not used up",
            ),
            Self::Unreadable(error) => Said::new("unreadable", Code::Integrity, error.to_string(), NEW),
            Self::Expired => {
                Said::new("expired", Code::CodeExpired, "the time of this code is over, says where it waited", NEW)
            }
            Self::Withdrawn => Said::new(
                "revoked",
                Code::CodeRevoked,
                "this code was withdrawn, or used as often as it may be, says where it waited",
                NEW,
            ),
            Self::UnknownKind => Said::new(
                "unsupported",
                Code::ProtocolVersion,
                "this code shares a kind of thing which this version does not know",
                "update this device, then use the same code again: it was not used up",
            ),
            Self::UnknownPermission => Said::new(
                "unsupported",
                Code::ProtocolVersion,
                "this code gives a permission which this version does not know",
                "update this device, then use the same code again: it was not used up",
            ),
            Self::Oneself => Said::new(
                "is_self",
                Code::IsSelf,
                "this device issued the code itself",
                "use it on the device that is to join",
            ),
        }
    }
}

/// Why a join is not over, or how it ended, as far as it was found out here. `issuer` is a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Local {
    /// Nobody answers where the issuer may be.
    Unreachable(String),
    /// The issuer answers, but does not take part in this.
    NoDoor,
    /// Somebody else answers wherever the issuer was.
    OtherKey,
    /// What the issuer says makes no sense.
    Nonsense(String),
    /// The issuer let this device in, but what it says about the resource does not hold.
    Unproven,
    /// Somebody here called it off.
    Canceled,
    /// Nobody here said yes.
    Unconfirmed,
    /// Another join with the same code goes on.
    Continued,
}

impl Local {
    /// In words.
    pub fn said(&self, issuer: &str) -> Said {
        const AGAIN: &str = "nothing: it is tried again by itself, and at once when that device comes into sight";
        match self {
            Self::Unreachable(why) => Said::new(
                "issuer_unreachable",
                Code::PeerOffline,
                format!("{issuer}, which issued this code, cannot be reached: {why}"),
                AGAIN,
            ),
            Self::NoDoor => Said::new(
                "issuer_unreachable",
                Code::PeerOffline,
                format!("{issuer} is there, but lets nobody in by a code at the moment"),
                "check that both devices run the same version of kithd; it is tried again by itself",
            ),
            Self::OtherKey => changed(issuer),
            Self::Nonsense(why) => Said::new(
                "unreadable",
                Code::Integrity,
                format!("what {issuer} answers makes no sense to this version: {why}"),
                "check that both devices run the same version of kithd; it is tried again by itself",
            ),
            Self::Unproven => Said::new(
                "unreadable",
                Code::Integrity,
                format!("{issuer} says yes, but what it says about who takes part does not hold; nothing was changed"),
                "check that both devices run the same version of kithd; it is tried again by itself",
            ),
            Self::Canceled => Said::new(
                "canceled",
                Code::Canceled,
                "this join was called off",
                "use the code again to join after all",
            ),
            Self::Unconfirmed => Said::new(
                "canceled",
                Code::Canceled,
                "nobody said yes to this join in time",
                "use the code again, and confirm",
            ),
            Self::Continued => Said::new(
                "canceled",
                Code::Canceled,
                "a join with this code is under way already, and goes on",
                "look at the other one",
            ),
        }
    }
}

/// What the issuer said, if it was not yes. `issuer` is a name.
pub fn refusal(said: &JoinResult, issuer: &str) -> Said {
    let on = said.at_ms.and_then(day).map(|day| format!(" on {day}")).unwrap_or_default();
    let by = said.by.as_deref().map(|by| format!(" by {}", text::device_name(by, limits::DEVICE_NAME)));
    let by = by.unwrap_or_default();
    let new = format!("ask {issuer}'s user for a new code");
    const BY_ITSELF: &str = "nothing: it is tried again by itself";
    let (code, message, hint) = match said.reason {
        // Not reasons against it: asked for in error, they are still sentences.
        Reason::Ok => (Code::Internal, format!("{issuer} let this device in"), BY_ITSELF.to_owned()),
        Reason::AlreadyMember => (Code::Internal, format!("{issuer} let this device in before"), BY_ITSELF.to_owned()),
        Reason::ApprovalPending => (
            Code::ApprovalPending,
            format!("somebody has to say yes on {issuer} first"),
            format!("ask {issuer}'s user to answer the request; this device asks again by itself"),
        ),
        Reason::Denied => {
            (Code::JoinDenied, format!("{issuer} said no{on}"), format!("ask {issuer}'s user why, or for a new code"))
        }
        Reason::Expired => (Code::CodeExpired, format!("the time of the code you used was over{on}"), new),
        Reason::UsedUp => (Code::CodeUsedUp, format!("the code you used was already used{on}{by}"), new),
        Reason::Revoked => (Code::CodeRevoked, format!("the code you used was withdrawn{on}"), new),
        Reason::UnknownCode => {
            (Code::CodeNotFound, format!("{issuer} does not know the code you used (any more)"), new)
        }
        Reason::ResourceGone => (
            Code::ResourceGone,
            format!("what the code you used is for is gone{on}, or not {issuer}'s to share any more"),
            format!("ask {issuer}'s user what became of it"),
        ),
        Reason::ResourcePaused => (
            Code::Busy,
            format!("what the code you used is for takes nobody in at the moment, says {issuer}"),
            BY_ITSELF.to_owned(),
        ),
        Reason::IssuerChanged => return changed(issuer),
        Reason::RateLimited => (
            Code::Busy,
            format!("{issuer} had too many wrong codes from this network address, and does not listen for a while"),
            BY_ITSELF.to_owned(),
        ),
        Reason::VersionUnsupported => (
            Code::ProtocolVersion,
            format!("{issuer} does not join devices in the way that this version does"),
            "update both devices, then use the code again".to_owned(),
        ),
        Reason::Busy => (Code::Busy, format!("{issuer} has too much to do at the moment"), BY_ITSELF.to_owned()),
    };
    Said::new(said.reason.as_str(), code, message, hint)
}

/// What a join that was tried to the end says: the last word, and that it was the last.
pub fn given_up(last: Said) -> Said {
    let Said { result, mut error } = last;
    error.message.push_str("; it was tried until a day after the code's time was over");
    error.hint = Some("ask for a new code, and have both devices on at the same time".to_owned());
    Said { result, error }
}

fn changed(issuer: &str) -> Said {
    Said::new(
        "issuer_changed",
        Code::WrongKey,
        format!(
            "another device answers where {issuer}, which issued this code, was: its key is not the one in the code"
        ),
        "if that device was set up anew, ask for a new code; if not, it is tried again by itself",
    )
}

/// The day in UTC: 3 March 2027.
fn day(ms: u64) -> Option<String> {
    let at = jiff::Timestamp::from_millisecond(i64::try_from(ms).ok()?).ok()?;
    Some(at.to_zoned(jiff::tz::TimeZone::UTC).strftime("%-d %B %Y").to_string())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use kith_proto::control::ErrorKind;

    use super::*;

    #[test]
    fn g75_every_reason_is_a_sentence_of_its_own_with_what_to_do_now() {
        let mut sentences = BTreeSet::new();
        let mut seen = |said: &Said| {
            assert!(sentences.insert(said.error.message.clone()), "twice: {}", said.error.message);
            assert!(said.error.hint.as_ref().is_some_and(|hint| !hint.is_empty()), "{said:?}");
        };
        let kinds = [
            (Reason::ApprovalPending, Code::ApprovalPending, ErrorKind::Unavailable),
            (Reason::Denied, Code::JoinDenied, ErrorKind::Denied),
            (Reason::Expired, Code::CodeExpired, ErrorKind::Conflict),
            (Reason::UsedUp, Code::CodeUsedUp, ErrorKind::Conflict),
            (Reason::Revoked, Code::CodeRevoked, ErrorKind::Conflict),
            (Reason::UnknownCode, Code::CodeNotFound, ErrorKind::NotFound),
            (Reason::ResourceGone, Code::ResourceGone, ErrorKind::Conflict),
            (Reason::ResourcePaused, Code::Busy, ErrorKind::Unavailable),
            (Reason::IssuerChanged, Code::WrongKey, ErrorKind::Peer),
            (Reason::RateLimited, Code::Busy, ErrorKind::Unavailable),
            (Reason::VersionUnsupported, Code::ProtocolVersion, ErrorKind::Incompatible),
            (Reason::Busy, Code::Busy, ErrorKind::Unavailable),
        ];
        assert_eq!(kinds.len(), Reason::ALL.iter().filter(|reason| !reason.is_in()).count());
        for (reason, code, kind) in kinds {
            let said = refusal(&reason.into(), "hub");
            assert_eq!((said.result, said.error.code, said.error.code.kind()), (reason.as_str(), code, kind));
            seen(&said);
        }
        let local = [
            (Local::Unreachable("off".to_owned()), "issuer_unreachable", Code::PeerOffline),
            (Local::NoDoor, "issuer_unreachable", Code::PeerOffline),
            (Local::Nonsense("x".to_owned()), "unreadable", Code::Integrity),
            (Local::Unproven, "unreadable", Code::Integrity),
            (Local::Canceled, "canceled", Code::Canceled),
            (Local::Unconfirmed, "canceled", Code::Canceled),
            (Local::Continued, "canceled", Code::Canceled),
        ];
        for (local, result, code) in local {
            let said = local.said("hub");
            assert_eq!((said.result, said.error.code), (result, code));
            seen(&said);
        }
        assert_eq!(
            Local::OtherKey.said("hub"),
            refusal(&Reason::IssuerChanged.into(), "hub"),
            "one thing, one sentence"
        );
        let one = || vec!["https://a: off".to_owned()];
        let findings = [
            (Finding::NotFound(Vec::new()), "not_found", Code::CodeNotFound),
            (Finding::NotFound(one()), "not_found", Code::CodeNotFound),
            (Finding::Unreachable(Vec::new()), "store_unreachable", Code::StoreUnreachable),
            (Finding::Unreachable(one()), "store_unreachable", Code::StoreUnreachable),
            (Finding::Unreadable(PayloadError::Sealed), "unreadable", Code::Integrity),
            (Finding::Unreadable(PayloadError::Malformed), "unreadable", Code::Integrity),
            (Finding::Unreadable(PayloadError::Version), "unsupported", Code::ProtocolVersion),
            (Finding::Expired, "expired", Code::CodeExpired),
            (Finding::Withdrawn, "revoked", Code::CodeRevoked),
            (Finding::UnknownKind, "unsupported", Code::ProtocolVersion),
            (Finding::UnknownPermission, "unsupported", Code::ProtocolVersion),
            (Finding::Oneself, "is_self", Code::IsSelf),
        ];
        for (finding, result, code) in findings {
            let said = finding.said();
            assert_eq!((said.result, said.error.code), (result, code));
            seen(&said);
        }
        assert!(sentences.iter().all(|it| !it.contains("  ")), "{sentences:?}");
    }

    #[test]
    fn who_and_when_are_named_and_cannot_act_on_a_terminal() {
        let used = JoinResult { at_ms: Some(1_772_496_000_000), by: Some("nas".to_owned()), ..Reason::UsedUp.into() };
        assert_eq!(refusal(&used, "hub").error.message, "the code you used was already used on 3 March 2026 by nas");
        let odd = JoinResult { at_ms: Some(u64::MAX), by: Some("\u{1b}[2Jn\u{202e}as".to_owned()), ..used };
        assert_eq!(refusal(&odd, "hub").error.message, "the code you used was already used by [2Jnas");
    }

    #[test]
    fn what_was_tried_to_the_end_says_so() {
        let last = refusal(&Reason::ApprovalPending.into(), "hub");
        let said = given_up(last.clone());
        assert_eq!((said.result, said.error.code), (last.result, last.error.code));
        assert!(said.error.message.starts_with(&last.error.message) && said.error.message != last.error.message);
    }
}
