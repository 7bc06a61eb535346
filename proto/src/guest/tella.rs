//! Requests and answers of Tella's transfer protocol, and what each refusal is called.
//!
//! Version 1 is seed 003; version 2 has the same messages under another prefix and certificates on both sides. What is
//! read is read as the apps write it: keys in any order, unknown ones ignored, ids opaque.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::limits;
use crate::secret::Secret;

/// A version of the protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Version {
    /// The seed's.
    V1,
    /// What the apps have spoken since 2026: both ends show a certificate.
    V2,
}

impl Version {
    /// The number in the path and in the QR.
    pub const fn number(self) -> u32 {
        match self {
            Self::V1 => 1,
            Self::V2 => 2,
        }
    }
}

/// Why a request is refused: one word for each row of the protocol's tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Refusal {
    /// Not the request that it should be.
    #[error("Invalid request format")]
    Malformed,
    /// A body that ended before what was declared.
    #[error("Body shorter than declared")]
    Short,
    /// The PIN is another one.
    #[error("Invalid PIN")]
    WrongPin,
    /// There is no such session, or it is somebody else's.
    #[error("Invalid session ID")]
    NoSession,
    /// Somebody said no, or nobody said yes in time.
    #[error("Rejected")]
    Rejected,
    /// There is no such transmission.
    #[error("Invalid transmission ID")]
    NoTransmission,
    /// The session is over.
    #[error("Session already closed")]
    Closed,
    /// The certificate of this connection is not the session's.
    #[error("Client certificate mismatch")]
    WrongCertificate,
    /// Only version 1 and 2 are spoken.
    #[error("Unsupported version")]
    Version,
    /// What arrived is not what was declared.
    #[error("File hash mismatch")]
    Integrity,
    /// Somebody else is being served.
    #[error("Active session already exists")]
    Busy,
    /// The file has arrived, or is arriving.
    #[error("Transfer already completed")]
    Completed,
    /// A nonce that was used in this session.
    #[error("Nonce already used")]
    Replayed,
    /// Larger than declared, or than is taken here; or too many.
    #[error("File too large")]
    TooLarge,
    /// A type that is not taken here.
    #[error("Unsupported file type")]
    Type,
    /// The body stopped coming.
    #[error("Request timeout")]
    TooSlow,
    /// The PIN was guessed wrong too often.
    #[error("Too many requests")]
    TooMany,
    /// The disk is full here.
    #[error("Insufficient storage space")]
    NoSpace,
    /// Something broke here.
    #[error("Server error")]
    Broken,
}

impl Refusal {
    /// The HTTP status.
    pub const fn status(self) -> u16 {
        match self {
            Self::Malformed | Self::Short => 400,
            Self::WrongPin | Self::NoSession => 401,
            Self::Rejected | Self::NoTransmission | Self::Closed | Self::WrongCertificate => 403,
            Self::Version | Self::Integrity => 406,
            Self::TooSlow => 408,
            Self::Busy | Self::Completed | Self::Replayed => 409,
            Self::TooLarge => 413,
            Self::Type => 415,
            Self::TooMany => 429,
            Self::Broken => 500,
            Self::NoSpace => 507,
        }
    }
}

/// The body of every refusal.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ErrorBody {
    /// What the tables call it.
    pub error: String,
}

/// `register`, as it was read.
pub struct Register {
    /// What was typed. Not yet known to be a PIN.
    pub pin: Secret<String>,
    /// Another one with each try, or not: apps repeat it.
    pub nonce: String,
}

/// `prepare-upload`, as it was read.
pub struct Prepare {
    /// The session.
    pub session: String,
    /// What the sender calls it all; may be empty.
    pub title: String,
    /// What is offered: at least one file.
    pub files: Vec<OfferedFile>,
    /// Used once in a session, where there is one.
    pub nonce: Option<String>,
}

/// A file that a guest offers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OfferedFile {
    /// How the guest names it in this session: opaque, unique.
    pub id: String,
    /// What the guest calls it: a label, see [`file_name`](super::file_name).
    pub label: String,
    /// Its bytes.
    pub size: u64,
    /// Its media type.
    pub media_type: Option<String>,
    /// SHA-256 over its content.
    pub sha256: Option<[u8; 32]>,
}

/// The query of `upload`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Upload {
    /// The session.
    pub session: String,
    /// Which file.
    pub file: String,
    /// The permission to upload it.
    pub transmission: String,
    /// Used once in a session, where there is one.
    pub nonce: Option<String>,
}

/// `close-connection`, as it was read.
pub struct Close {
    /// The session.
    pub session: String,
}

/// `register`, as this device writes it.
#[derive(Serialize)]
pub struct RegisterBody<'a> {
    /// Six digits.
    pub pin: &'a str,
    /// Another one with each try.
    pub nonce: &'a str,
}

/// `prepare-upload`, as this device writes it.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PrepareBody<'a> {
    /// Not blank.
    pub title: &'a str,
    /// The session.
    pub session_id: &'a str,
    /// Another one with each try.
    pub nonce: &'a str,
    /// What is offered.
    pub files: &'a [PrepareFile],
}

/// A file that this device offers.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PrepareFile {
    /// Names it in this session.
    pub id: String,
    /// Its name, without directories.
    pub file_name: String,
    /// Its bytes: at least one.
    pub size: u64,
    /// Its media type.
    pub file_type: String,
    /// SHA-256 over its content: 64 lower-case hex digits.
    pub sha256: String,
}

/// The answer to `ping` of version 2.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Pong {
    /// The sender shows its hash at once: the receiver cannot scan it.
    #[serde(default)]
    pub sender_show_hash: bool,
}

/// The answer to `register`.
#[derive(Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Registered {
    /// The session: opaque, secret.
    pub session_id: String,
}

/// The answer to `prepare-upload`: nothing but this one key, for some apps accept no other.
#[derive(Clone, Serialize, Deserialize)]
pub struct Accepted {
    /// The files that may be uploaded.
    pub files: Vec<Transmission>,
}

/// The permission to upload one file.
#[derive(Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Transmission {
    /// As the sender named the file.
    pub id: String,
    /// Opaque, secret.
    pub transmission_id: String,
}

/// The answer to `ping` of version 1, `upload` and `close-connection`.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct Done {
    /// Always true.
    pub success: bool,
}

#[derive(Deserialize)]
struct RawRegister {
    pin: Option<String>,
    nonce: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawPrepare {
    session_id: Option<String>,
    title: Option<String>,
    files: Vec<RawFile>,
    nonce: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawFile {
    id: String,
    file_name: String,
    size: u64,
    file_type: Option<String>,
    sha256: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawClose {
    session_id: Option<String>,
}

fn read<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<T, Refusal> {
    serde_json::from_slice(body).map_err(|_| Refusal::Malformed)
}

/// A text that must be there.
fn needed(text: Option<String>) -> Result<String, Refusal> {
    text.filter(|text| !text.is_empty()).ok_or(Refusal::Malformed)
}

/// A nonce that may be absent, but not empty.
fn nonce(text: Option<String>) -> Result<Option<String>, Refusal> {
    match text {
        Some(text) if text.is_empty() || text.len() > NONCE => Err(Refusal::Malformed),
        other => Ok(other),
    }
}

/// No id or nonce is longer; a UUID has 36 bytes.
const NONCE: usize = 256;

impl Register {
    /// Reads the body of a request.
    pub fn parse(body: &[u8]) -> Result<Self, Refusal> {
        let RawRegister { pin, nonce: given } = read(body)?;
        let pin = Secret::new(needed(pin)?);
        Ok(Self { pin, nonce: nonce(given)?.ok_or(Refusal::Malformed)? })
    }
}

impl Prepare {
    /// Reads the body of a request. What is offered is bounded by the body and judged elsewhere.
    pub fn parse(body: &[u8]) -> Result<Self, Refusal> {
        let raw: RawPrepare = read(body)?;
        let session = needed(raw.session_id)?;
        let files = raw.files.into_iter().map(RawFile::check).collect::<Result<Vec<_>, _>>()?;
        let mut ids: Vec<&str> = files.iter().map(|file| file.id.as_str()).collect();
        ids.sort_unstable();
        ids.dedup();
        if files.is_empty() || ids.len() != files.len() {
            return Err(Refusal::Malformed);
        }
        Ok(Self { session, title: raw.title.unwrap_or_default(), files, nonce: nonce(raw.nonce)? })
    }
}

impl RawFile {
    fn check(self) -> Result<OfferedFile, Refusal> {
        if self.id.is_empty() || self.id.len() > NONCE || self.size > limits::FILE_SIZE {
            return Err(Refusal::Malformed);
        }
        let sha256 = self.sha256.filter(|text| !text.is_empty()).map(|text| digest(&text)).transpose()?;
        Ok(OfferedFile { id: self.id, label: self.file_name, size: self.size, media_type: self.file_type, sha256 })
    }
}

fn digest(text: &str) -> Result<[u8; 32], Refusal> {
    let mut digest = [0; 32];
    let decoded = data_encoding::HEXLOWER_PERMISSIVE.decode(text.as_bytes()).map_err(|_| Refusal::Malformed)?;
    if decoded.len() != digest.len() {
        return Err(Refusal::Malformed);
    }
    digest.copy_from_slice(&decoded);
    Ok(digest)
}

impl Close {
    /// Reads the body of a request.
    pub fn parse(body: &[u8]) -> Result<Self, Refusal> {
        Ok(Self { session: needed(read::<RawClose>(body)?.session_id)? })
    }
}

impl Upload {
    /// Reads the query of a request, percent-encoded as in a URI. A key that comes twice is refused, an unknown one
    /// ignored.
    pub fn parse(query: &str) -> Result<Self, Refusal> {
        let (mut session, mut file, mut transmission, mut given) = (None, None, None, None);
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            let slot = match key {
                "sessionId" => &mut session,
                "fileId" => &mut file,
                "transmissionId" => &mut transmission,
                "nonce" => &mut given,
                _ => continue,
            };
            if slot.replace(decode(value)?).is_some() {
                return Err(Refusal::Malformed);
            }
        }
        Ok(Self {
            session: needed(session)?,
            file: needed(file)?,
            transmission: needed(transmission)?,
            nonce: nonce(given)?,
        })
    }
}

/// A value of a query: `%41` and `+` mean what they mean in forms.
fn decode(value: &str) -> Result<String, Refusal> {
    let mut bytes = Vec::with_capacity(value.len());
    let mut rest = value.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'+' => b' ',
            b'%' => {
                let mut digit =
                    || rest.next().and_then(|b| char::from(b).to_digit(16)).and_then(|d| u8::try_from(d).ok());
                match (digit(), digit()) {
                    (Some(high), Some(low)) => high << 4 | low,
                    _ => return Err(Refusal::Malformed),
                }
            }
            plain => plain,
        });
    }
    String::from_utf8(bytes).map_err(|_| Refusal::Malformed)
}

/// Ids and PINs open doors: they do not print themselves.
macro_rules! silent {
    ($($type:ident),+) => { $(impl fmt::Debug for $type {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str(concat!(stringify!($type), "(…)"))
        }
    })+ };
}
silent!(Register, Prepare, Close, Registered, Accepted, Transmission);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn register_is_read_as_apps_write_it() {
        let read =
            Register::parse(b"{\n  \"nonce\" : \"2F9A\\/x\",\n  \"other\": {\"a\": [1]},\n  \"pin\" : \"123456\"\n}")
                .unwrap();
        assert_eq!((read.pin.expose().as_str(), read.nonce.as_str()), ("123456", "2F9A/x"));
        assert_eq!(format!("{read:?}"), "Register(…)");
        for body in [
            "",
            "null",
            "[]",
            "{}",
            r#"{"pin":"123456"}"#,
            r#"{"pin":123456,"nonce":"n"}"#,
            r#"{"pin":null,"nonce":"n"}"#,
            r#"{"pin":"","nonce":"n"}"#,
            r#"{"pin":"123456","nonce":""}"#,
            r#"{"pin":"123456","nonce":7}"#,
            r#"{"pin":"1","pin":"2","nonce":"n"}"#,
            "{\"pin\":\"1\u{0}",
            r#"{"pin":"\ud800","nonce":"n"}"#,
        ] {
            assert_eq!(Register::parse(body.as_bytes()).err(), Some(Refusal::Malformed), "{body}");
        }
        assert_eq!(Register::parse("[".repeat(10_000).as_bytes()).err(), Some(Refusal::Malformed));
    }

    fn prepare(file: &str) -> Result<Prepare, Refusal> {
        Prepare::parse(format!(r#"{{"files":[{file}],"sessionId":"S","title":"t"}}"#).as_bytes())
    }

    #[test]
    fn prepare_is_read_as_apps_write_it() {
        let hash = "AB".repeat(32);
        let read = prepare(&format!(
            r#"{{"thumbnail":"aGVsbG8=","sha256":"{hash}","size":0,"fileType":"image\/png","fileName":"a.png","id":"F-1"}}"#
        ));
        let file = read.unwrap().files.remove(0);
        let wanted = OfferedFile {
            id: "F-1".into(),
            label: "a.png".into(),
            size: 0,
            media_type: Some("image/png".into()),
            sha256: Some([0xab; 32]),
        };
        assert_eq!(file, wanted);
        let bare = prepare(r#"{"id":"1","fileName":"x","size":5,"sha256":null}"#).unwrap();
        assert_eq!((bare.session.as_str(), bare.title.as_str(), bare.nonce), ("S", "t", None));
        assert_eq!(prepare(r#"{"id":"1","fileName":"x","size":5,"sha256":""}"#).unwrap().files[0].sha256, None);
    }

    #[test]
    fn c17_c18_what_is_no_offer_is_malformed() {
        for size in ["-1", "1.5", "5.0", "1e3", "9223372036854775808", "18446744073709551616", "\"5\"", "null", "[]"] {
            let file = format!(r#"{{"id":"1","fileName":"x","size":{size}}}"#);
            assert_eq!(prepare(&file).err(), Some(Refusal::Malformed), "{size}");
        }
        for file in [
            "",
            "null",
            "7",
            r#"{"fileName":"x","size":1}"#,
            r#"{"id":"","fileName":"x","size":1}"#,
            r#"{"id":null,"fileName":"x","size":1}"#,
            r#"{"id":"1","size":1}"#,
            r#"{"id":"1","fileName":null,"size":1}"#,
            r#"{"id":"1","fileName":"x","size":1,"sha256":"abc"}"#,
            r#"{"id":"1","fileName":"x","size":1},{"id":"1","fileName":"y","size":1}"#,
            r#"{"id":"1","fileName":"x","size":1,"size":2}"#,
        ] {
            assert_eq!(prepare(file).err(), Some(Refusal::Malformed), "{file}");
        }
        for body in [
            r#"{"files":[{"id":"1","fileName":"x","size":1}]}"#,
            r#"{"sessionId":null,"files":[{"id":"1","fileName":"x","size":1}]}"#,
            r#"{"sessionId":"","files":[{"id":"1","fileName":"x","size":1}]}"#,
            r#"{"sessionId":"S","files":{}}"#,
            r#"{"sessionId":"S","nonce":"","files":[{"id":"1","fileName":"x","size":1}]}"#,
        ] {
            assert_eq!(Prepare::parse(body.as_bytes()).err(), Some(Refusal::Malformed), "{body}");
        }
    }

    #[test]
    fn a_query_is_decoded_once_and_has_each_key_once() {
        let read = Upload::parse("nonce=n%2F1&transmissionId=T&x=y&fileId=a+b&sessionId=%53").unwrap();
        let wanted =
            Upload { session: "S".into(), file: "a b".into(), transmission: "T".into(), nonce: Some("n/1".into()) };
        assert_eq!(read, wanted);
        for query in [
            "",
            "sessionId=S&fileId=F",
            "sessionId=&fileId=F&transmissionId=T",
            "sessionId&fileId=F&transmissionId=T",
            "sessionId=S&fileId=F&transmissionId=T&nonce=",
            "sessionId=S&fileId=F&transmissionId=T&fileId=G",
            "sessionId=S&fileId=%4&transmissionId=T",
            "sessionId=S&fileId=%zz&transmissionId=T",
            "sessionId=S&fileId=%ff&transmissionId=T",
        ] {
            assert_eq!(Upload::parse(query), Err(Refusal::Malformed), "{query}");
        }
    }

    #[test]
    fn answers_have_the_keys_that_strict_apps_expect() {
        let json = |value: serde_json::Value| value.to_string();
        let accepted = Accepted { files: vec![Transmission { id: "F".into(), transmission_id: "T".into() }] };
        assert_eq!(json(serde_json::to_value(&accepted).unwrap()), r#"{"files":[{"id":"F","transmissionId":"T"}]}"#);
        let registered = Registered { session_id: "S".into() };
        assert_eq!(json(serde_json::to_value(&registered).unwrap()), r#"{"sessionId":"S"}"#);
        assert_eq!(json(serde_json::to_value(Pong { sender_show_hash: true }).unwrap()), r#"{"senderShowHash":true}"#);
        assert_eq!(json(serde_json::to_value(Done { success: true }).unwrap()), r#"{"success":true}"#);
        assert!(
            Prepare::parse(
                &serde_json::to_vec(&PrepareBody {
                    title: "t",
                    session_id: "S",
                    nonce: "n",
                    files: &[PrepareFile {
                        id: "1".into(),
                        file_name: "x".into(),
                        size: 1,
                        file_type: "a/b".into(),
                        sha256: "ab".repeat(32)
                    }],
                })
                .unwrap()
            )
            .is_ok()
        );
    }
}
