//! The Photosphere app's way to hand credentials over: two requests over HTTPS.
//!
//! ```text
//! GET  /pairing-code-hash                        → {"codeHash": SHA-256 of the digits, in lower-case hex}
//! POST /share-payload      {"codeHash","payload"} → {"success": true}
//! ```
//!
//! This is not safe: whoever is asked first can try all codes against the hash. What helps a little is kept here: the
//! hash is shown once, and a receiver answers few requests. See `credentials/psi` of the daemon for the rest.

use std::fmt;

use data_encoding::HEXLOWER;
use serde::Deserialize;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use crate::credential::Invalid;
use crate::credential::payload::Payload;
use crate::limits;
use crate::short_code::ShortCode;

/// Where the hash of the code is asked for.
pub const HASH: &str = "/pairing-code-hash";
/// Where the payload goes.
pub const PAYLOAD: &str = "/share-payload";

/// What a receiver answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// The hash of the code.
    Hash(CodeHash),
    /// The payload was taken.
    Success,
    /// Not a JSON object.
    NotJson,
    /// The right code, with something that is no payload.
    Invalid(Invalid),
    /// Another code.
    WrongCode,
    /// No such path, or not by this method.
    NotFound,
    /// A body longer than any payload.
    TooLarge,
    /// The hash was shown before, or nothing is answered any more.
    TooMany,
}

/// How a share ends for its receiver.
#[derive(Debug)]
pub enum End {
    /// With what was handed over.
    Received(Payload),
    /// With something that is no payload, from somebody who knows the code.
    Invalid(Invalid),
    /// All requests were used up.
    Spent,
}

/// SHA-256 over the digits of a code, in lower-case hex.
#[derive(Clone, PartialEq, Eq)]
pub struct CodeHash(String);

/// The receiver of one share: what it answers, and when it is over.
#[derive(Debug)]
pub struct Desk {
    code: CodeHash,
    left: u32,
    shown: bool,
    over: bool,
}

/// What becomes of a request, as far as its head tells.
#[derive(Debug)]
pub enum Asked {
    /// It is answered at once.
    Answer(Answer),
    /// Its body goes to [`Desk::take`].
    Body,
    /// It is answered, and was one too many: the share is over.
    Spent,
}

impl CodeHash {
    /// The hash of `code`.
    pub fn of(code: &ShortCode) -> Self {
        Self(HEXLOWER.encode(&Sha256::digest(code.expose())))
    }

    /// Compares without telling by its time where the difference is.
    fn is(&self, text: &str) -> bool {
        self.0.as_bytes().ct_eq(text.as_bytes()).into()
    }
}

impl fmt::Debug for CodeHash {
    /// Four digits are found from their hash at once.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CodeHash(…)")
    }
}

impl Answer {
    /// The HTTP status.
    pub const fn status(&self) -> u16 {
        match self {
            Self::Hash(_) | Self::Success => 200,
            Self::NotJson | Self::Invalid(_) => 400,
            Self::WrongCode => 403,
            Self::NotFound => 404,
            Self::TooLarge => 413,
            Self::TooMany => 429,
        }
    }

    /// The JSON body.
    pub fn body(&self) -> String {
        let error = match self {
            Self::Hash(hash) => return json!({ "codeHash": hash.0 }).to_string(),
            Self::Success => return json!({ "success": true }).to_string(),
            Self::Invalid(invalid) => &format!("Invalid payload: {invalid}"),
            Self::NotJson => "Invalid JSON",
            Self::WrongCode => "Invalid pairing code",
            Self::NotFound => "Not found",
            Self::TooLarge => "Payload too large",
            Self::TooMany => "Too many requests",
        };
        json!({ "error": error }).to_string()
    }
}

impl Desk {
    /// Waits for somebody who knows `code`.
    pub fn new(code: &ShortCode) -> Self {
        Self { code: CodeHash::of(code), left: limits::PHOTOSPHERE_REQUESTS, shown: false, over: false }
    }

    /// A request came.
    pub fn ask(&mut self, method: &str, path: &str) -> Asked {
        if self.over {
            return Asked::Answer(Answer::TooMany);
        }
        let Some(left) = self.left.checked_sub(1) else {
            self.over = true;
            return Asked::Spent;
        };
        self.left = left;
        match (method, path) {
            ("GET", HASH) if self.shown => Asked::Answer(Answer::TooMany),
            ("GET", HASH) => {
                self.shown = true;
                Asked::Answer(Answer::Hash(self.code.clone()))
            }
            ("POST", PAYLOAD) => Asked::Body,
            _ => Asked::Answer(Answer::NotFound),
        }
    }

    /// The body of a request to [`PAYLOAD`] came.
    pub fn take(&mut self, body: &[u8]) -> (Answer, Option<End>) {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Body {
            #[serde(default)]
            code_hash: Value,
            #[serde(default)]
            payload: Value,
        }
        if self.over {
            return (Answer::TooMany, None);
        }
        if body.len() > limits::PHOTOSPHERE_BODY {
            return (Answer::TooLarge, None);
        }
        // A struct could be read from an array, too.
        let is_object = body.trim_ascii_start().starts_with(b"{");
        let Ok(Body { code_hash, payload }) = serde_json::from_slice(body) else { return (Answer::NotJson, None) };
        if !is_object {
            return (Answer::NotJson, None);
        }
        if !code_hash.as_str().is_some_and(|hash| self.code.is(hash)) {
            return (Answer::WrongCode, None);
        }
        self.over = true;
        match Payload::from_value(payload) {
            Ok(payload) => (Answer::Success, Some(End::Received(payload))),
            Err(invalid) => (Answer::Invalid(invalid.clone()), Some(End::Invalid(invalid))),
        }
    }
}

/// The body with which a sender hands over.
pub fn hand_over(code: &ShortCode, payload: &Payload) -> Zeroizing<Vec<u8>> {
    let (hash, payload) = (CodeHash::of(code).0, payload.encode());
    let head = format!(r#"{{"codeHash":"{hash}","payload":"#);
    // Room for all of it: growing would leave copies behind.
    let mut body = Zeroizing::new(Vec::with_capacity(head.len() + payload.len() + 1));
    body.extend_from_slice(head.as_bytes());
    body.extend_from_slice(&payload);
    body.push(b'}');
    body
}

/// Whether a receiver that showed `answer` was given this code; `None` if it is no such answer.
pub fn is_same_code(answer: &[u8], code: &ShortCode) -> Option<bool> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Shown {
        code_hash: String,
    }
    if answer.len() > limits::PHOTOSPHERE_ANSWER {
        return None;
    }
    let shown: Shown = serde_json::from_slice(answer).ok()?;
    Some(CodeHash::of(code).is(&shown.code_hash))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// SHA-256 of "1234".
    const SHOWN: &str = r#"{"codeHash":"03ac674216f3e15c761ee1a5e255f067953623c8b388b4459e13f978d7c846f4"}"#;

    fn code(digits: &str) -> ShortCode {
        ShortCode::parse(digits).unwrap()
    }

    fn secret() -> Value {
        json!({ "type": "secret", "name": "a", "secretType": "plain", "value": "x\n\u{e9}\"" })
    }

    fn body(digits: &str, payload: &Value) -> Vec<u8> {
        json!({ "codeHash": CodeHash::of(&code(digits)).0, "payload": payload }).to_string().into_bytes()
    }

    fn answer(asked: Asked) -> Answer {
        match asked {
            Asked::Answer(answer) => answer,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_sender_and_a_receiver_agree() {
        let mut desk = Desk::new(&code("1234"));
        let shown = answer(desk.ask("GET", HASH));
        assert_eq!((shown.status(), shown.body().as_str()), (200, SHOWN));
        assert_eq!(is_same_code(SHOWN.as_bytes(), &code("1234")), Some(true));
        assert_eq!(is_same_code(SHOWN.as_bytes(), &code("1235")), Some(false));
        assert!(matches!(desk.ask("POST", PAYLOAD), Asked::Body));
        let payload = Payload::from_value(secret()).unwrap();
        let (answered, end) = desk.take(&hand_over(&code("1234"), &payload));
        assert_eq!((answered.status(), answered.body().as_str()), (200, r#"{"success":true}"#));
        let Some(End::Received(received)) = end else { panic!("{end:?}") };
        assert_eq!(received.encode(), payload.encode());
    }

    #[test]
    fn h80_what_was_taken_once_is_not_taken_again() {
        let mut desk = Desk::new(&code("1234"));
        assert!(matches!(desk.ask("POST", PAYLOAD), Asked::Body));
        // Two at once: both were admitted.
        assert!(matches!(desk.ask("POST", PAYLOAD), Asked::Body));
        assert!(matches!(desk.take(&body("1234", &secret())), (Answer::Success, Some(End::Received(_)))));
        assert!(matches!(desk.take(&body("1234", &secret())), (Answer::TooMany, None)));
        assert_eq!(answer(desk.ask("POST", PAYLOAD)), Answer::TooMany);
    }

    #[test]
    fn the_hash_is_shown_once() {
        let mut desk = Desk::new(&code("1234"));
        assert!(matches!(answer(desk.ask("GET", HASH)), Answer::Hash(_)));
        let second = answer(desk.ask("GET", HASH));
        assert_eq!((second.status(), second.body().as_str()), (429, r#"{"error":"Too many requests"}"#));
        assert!(matches!(desk.ask("POST", PAYLOAD), Asked::Body), "the share goes on");
    }

    #[test]
    fn five_requests_are_answered_and_the_sixth_ends_it() {
        let mut desk = Desk::new(&code("1234"));
        for (method, path) in [("GET", "/"), ("POST", HASH), ("GET", PAYLOAD), ("get", HASH), ("PUT", PAYLOAD)] {
            let none = answer(desk.ask(method, path));
            assert_eq!((none.status(), none.body().as_str()), (404, r#"{"error":"Not found"}"#));
        }
        assert!(matches!(desk.ask("GET", HASH), Asked::Spent));
        assert_eq!(answer(desk.ask("GET", HASH)), Answer::TooMany);
        assert!(matches!(desk.take(&body("1234", &secret())), (Answer::TooMany, None)), "whoever was still sending");
    }

    #[test]
    fn what_is_no_json_object_is_survived() {
        let mut desk = Desk::new(&code("1234"));
        let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
        let within = String::from_utf8(body("1234", &Value::Null)).unwrap().replace("null", &deep);
        let array = format!("[\"{}\",{}]", CodeHash::of(&code("1234")).0, secret());
        for text in ["", "null", "7", "true", "\"x\"", "[]", "{", "{}x", "\u{feff}{}", &deep, &within, &array] {
            let (refused, end) = desk.take(text.as_bytes());
            assert_eq!((refused.status(), refused.body().as_str()), (400, r#"{"error":"Invalid JSON"}"#));
            assert!(end.is_none());
        }
        assert!(matches!(desk.take(&[0xff; 9]), (Answer::NotJson, None)));
        let long = vec![b' '; limits::PHOTOSPHERE_BODY + 1];
        assert_eq!(desk.take(&long).0.status(), 413);
    }

    #[test]
    fn only_the_whole_hash_opens() {
        let mut desk = Desk::new(&code("1234"));
        let right = CodeHash::of(&code("1234")).0;
        for hash in
            [json!(right[..63]), json!(right.to_uppercase()), json!(""), json!(1234), json!([right]), json!(null)]
        {
            let text = json!({ "codeHash": hash, "payload": secret() }).to_string();
            let (refused, end) = desk.take(text.as_bytes());
            assert_eq!((refused.status(), refused.body().as_str()), (403, r#"{"error":"Invalid pairing code"}"#));
            assert!(end.is_none());
        }
        assert!(matches!(desk.take(b"{}"), (Answer::WrongCode, None)));
        assert!(matches!(desk.take(&body("1235", &secret())), (Answer::WrongCode, None)));
        assert!(matches!(desk.take(&body("1234", &secret())), (Answer::Success, Some(End::Received(_)))));
    }

    #[test]
    fn a_payload_that_is_none_ends_it_with_the_field_named() {
        for (payload, says) in [
            (json!({ "type": "secret", "name": "a", "secretType": "plain" }), "Invalid payload: value: is missing"),
            (json!({ "type": "other" }), "Invalid payload: type: is neither secret nor database"),
            (json!(null), "Invalid payload: payload: is no JSON object"),
        ] {
            let mut desk = Desk::new(&code("1234"));
            let (refused, end) = desk.take(&body("1234", &payload));
            assert_eq!((refused.status(), refused.body()), (400, json!({ "error": says }).to_string()));
            assert!(matches!(end, Some(End::Invalid(_))));
            assert!(matches!(desk.take(&body("1234", &secret())), (Answer::TooMany, None)));
        }
    }

    #[test]
    fn what_is_no_hash_is_no_answer() {
        let long = format!("{SHOWN}{}", " ".repeat(limits::PHOTOSPHERE_ANSWER));
        for text in ["", "null", "{}", r#"{"codeHash":7}"#, r#"{"success":true}"#, &long] {
            assert_eq!(is_same_code(text.as_bytes(), &code("1234")), None, "{text}");
        }
        let upper = SHOWN.replace("ac", "AC");
        assert_eq!(is_same_code(upper.as_bytes(), &code("1234")), Some(false));
        assert!(!format!("{:?}", Desk::new(&code("1234"))).contains("03ac"));
    }

    proptest! {
        #[test]
        fn no_body_panics_and_none_without_the_hash_is_taken(text in "(\\{\"codeHash\":)?[\\[\\]{}\":,a-z0-9 ]{0,60}") {
            let (answer, end) = Desk::new(&code("1234")).take(text.as_bytes());
            prop_assert!(answer.status() >= 400 && end.is_none());
            let _ = is_same_code(text.as_bytes(), &code("1234"));
        }

        #[test]
        fn no_order_of_requests_gets_more_than_five_answers(asked in prop::collection::vec(0_usize..4, 0..30)) {
            let mut desk = Desk::new(&code("1234"));
            let (mut spent, mut shown) = (0, 0);
            for (at, which) in asked.iter().enumerate() {
                let (method, path) = [("GET", HASH), ("POST", PAYLOAD), ("GET", "/"), ("POST", HASH)][*which];
                match desk.ask(method, path) {
                    Asked::Spent => spent += 1,
                    Asked::Answer(Answer::Hash(_)) => shown += 1,
                    Asked::Answer(Answer::TooMany) => prop_assert!(at >= 5 || shown == 1),
                    Asked::Body => {
                        prop_assert!(at < 5);
                        prop_assert!(desk.take(&body("0000", &secret())).1.is_none());
                    }
                    Asked::Answer(_) => prop_assert!(at < 5),
                }
            }
            prop_assert_eq!(spent, usize::from(asked.len() > 5));
            prop_assert!(shown <= 1);
        }
    }
}
