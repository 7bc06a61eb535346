//! Single values on the command line: sizes, times, PINs, codes, hashes, metadata, words, slots, paths; and how a value
//! is written back.

use std::path::{Path, PathBuf};

use clap::builder::{PossibleValuesParser, TypedValueParser};
use kith_proto::credential::Slot;
use kith_proto::limits::{CODE_SECONDS, CODE_USES, WINDOW_SECONDS_MAX};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

/// How the link of a sharing code begins.
const LINK: &str = "kith:join/";
/// Letters and digits of a sharing code.
const CODE_SYMBOLS: usize = 28;

/// Bytes: `4096`, `10M`, `2GiB`. `K`, `M`, `G`, `T` and `KiB` … are powers of 1024, `KB` … of 1000.
pub fn size(text: &str) -> Result<u64, String> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let factor = match unit.trim_start().to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "k" | "kib" => 1 << 10,
        "m" | "mib" => 1 << 20,
        "g" | "gib" => 1 << 30,
        "t" | "tib" => 1 << 40,
        "kb" => 1_000,
        "mb" => 1_000_000,
        "gb" => 1_000_000_000,
        "tb" => 1_000_000_000_000,
        _ => 0,
    };
    match number.parse::<u64>().ok().filter(|_| factor > 0).and_then(|number| number.checked_mul(factor)) {
        Some(bytes) => Ok(bytes),
        None => Err("a size is a number of bytes, or a number with K, M, G, T, KiB, MiB, … or KB, MB, …".to_owned()),
    }
}

/// How long a receive window stays open, in seconds: `30s`, `10m`, `2h`, or a plain number of seconds.
pub fn window_time(text: &str) -> Result<u64, String> {
    seconds(text)
        .filter(|seconds| (1..=WINDOW_SECONDS_MAX).contains(seconds))
        .ok_or_else(|| format!("a time is 30s, 10m or 2h, and at most {}h", WINDOW_SECONDS_MAX / 3_600))
}

/// How long a sharing code is valid, in seconds: `10m`, `12h`, `7d`, or a plain number of seconds.
pub fn validity(text: &str) -> Result<u64, String> {
    seconds(text)
        .filter(|seconds| CODE_SECONDS.contains(seconds))
        .ok_or_else(|| format!("a time is 10m, 12h or 7d, and at least 1m, at most {}d", CODE_SECONDS.end() / 86_400))
}

fn seconds(text: &str) -> Option<u64> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let factor = match unit {
        "" | "s" => 1,
        "m" => 60,
        "h" => 3_600,
        "d" => 86_400,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(factor)
}

/// How often a sharing code may be used; 0 stands for `unlimited`.
pub fn uses(text: &str) -> Result<u32, String> {
    match text.parse() {
        _ if text == "unlimited" => Ok(0),
        Ok(uses @ 1..=CODE_USES) => Ok(uses),
        _ => Err(format!("1 to {CODE_USES}, or unlimited")),
    }
}

/// Whether this is, or was meant to be, a sharing code and not the name of one.
pub fn is_sharing_code(text: &str) -> bool {
    let text = text.trim();
    let link = text.get(..LINK.len()).is_some_and(|head| head.eq_ignore_ascii_case(LINK));
    let mut symbols = text.chars().filter(|c| *c != '-' && !c.is_whitespace());
    let all = symbols.clone().count() == CODE_SYMBOLS && symbols.all(|c| c.is_ascii_alphanumeric());
    // A label may be as long, and of letters only; a code without a digit does not come up.
    link || all && text.contains(|c: char| c.is_ascii_digit())
}

/// A PIN as people type it: six digits, in groups or not.
pub fn pin(text: &str) -> Result<String, String> {
    let pin: String = text.chars().filter(|c| !matches!(c, ' ' | '-')).collect();
    if pin.len() == 6 && pin.bytes().all(|b| b.is_ascii_digit()) {
        Ok(pin)
    } else {
        Err("a PIN is six digits".to_owned())
    }
}

/// A certificate hash as it is shown or copied: 64 hex digits, in groups or not.
pub fn certificate_hash(text: &str) -> Result<String, String> {
    let hash: String = text.chars().filter(|c| !c.is_whitespace() && *c != ':').collect();
    if hash.len() == 64 && hash.bytes().all(|b| b.is_ascii_hexdigit()) {
        Ok(hash.to_ascii_lowercase())
    } else {
        Err("a certificate hash is 64 hex digits".to_owned())
    }
}

/// The version of an entry by its hash: 64 hex digits.
pub fn version(text: &str) -> Result<String, String> {
    if text.len() == 64 && text.bytes().all(|b| b.is_ascii_hexdigit()) {
        Ok(text.to_ascii_lowercase())
    } else {
        Err("a version's hash is 64 hex digits".to_owned())
    }
}

/// A version, or `none` where there must not be one.
pub fn expected(text: &str) -> Result<String, String> {
    if text == "none" { Ok(text.to_owned()) } else { version(text).map_err(|what| format!("{what}, or none")) }
}

/// Metadata of an entry: a JSON object.
pub fn metadata(text: &str) -> Result<Map<String, Value>, String> {
    match serde_json::from_str(text) {
        Ok(Value::Object(meta)) => Ok(meta),
        Ok(_) => Err("metadata is a JSON object".to_owned()),
        Err(error) => Err(format!("metadata is a JSON object: {error}")),
    }
}

/// One of `words`, as the type whose wire form they are.
pub fn word<T>(words: impl IntoIterator<Item = &'static str>) -> impl TypedValueParser<Value = T>
where
    T: DeserializeOwned + Clone + Send + Sync + 'static,
{
    PossibleValuesParser::new(words).try_map(|word| serde_json::from_value::<T>(Value::String(word)))
}

/// Secrets of a database, by what they are for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Slots(pub Vec<Slot>);

/// Which secrets of a database: `all`, `none`, or some of `s3`, `encryption` and `geocoding`.
pub fn slots(text: &str) -> Result<Slots, String> {
    let one = |name: &str| Slot::ALL.into_iter().find(|slot| slot.name() == name.trim());
    match text.trim() {
        "all" => Some(Slot::ALL.to_vec()),
        "none" => Some(Vec::new()),
        some => some.split(',').map(one).collect(),
    }
    .map(Slots)
    .ok_or_else(|| format!("all, none, or some of {}", Slot::ALL.map(Slot::name).join(",")))
}

/// `path` from the root, as a text; symbolic links stay as they are.
pub fn absolute(path: &Path) -> Result<PathBuf, String> {
    std::path::absolute(path).map_err(|error| format!("{}: {error}", path.display()))
}

/// A text as one word of a shell's command line.
pub fn shell_word(text: &str) -> String {
    if !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-/".contains(&b)) {
        text.to_owned()
    } else {
        format!("'{}'", text.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kith_proto::control::types::Offers;

    #[test]
    fn sizes() {
        for (text, bytes) in [
            ("0", Some(0)),
            ("4096", Some(4096)),
            ("10M", Some(10 << 20)),
            ("10 MiB", Some(10 << 20)),
            ("2GiB", Some(2 << 30)),
            ("2gb", Some(2_000_000_000)),
            ("1t", Some(1 << 40)),
            ("16777216T", None),
            ("99999999999999999999", None),
            ("1.5G", None),
            ("-1", None),
            ("M", None),
            ("10X", None),
            ("", None),
        ] {
            assert_eq!(size(text).ok(), bytes, "{text:?}");
        }
    }

    #[test]
    fn pins() {
        for (text, read) in [
            ("123456", Some("123456")),
            ("123 456", Some("123456")),
            ("000-000", Some("000000")),
            ("12345", None),
            ("1234567", None),
            ("12345a", None),
            ("１２３４５６", None),
            ("", None),
        ] {
            assert_eq!(pin(text).ok().as_deref(), read, "{text:?}");
        }
    }

    #[test]
    fn window_times() {
        for (text, seconds) in [
            ("90", Some(90)),
            ("30s", Some(30)),
            ("10m", Some(600)),
            ("24h", Some(WINDOW_SECONDS_MAX)),
            ("25h", None),
            ("0s", None),
            ("18446744073709551615h", None),
            ("1d", Some(WINDOW_SECONDS_MAX)),
            ("2d", None),
            ("1w", None),
            ("1.5h", None),
            ("-1s", None),
            ("m", None),
            ("", None),
        ] {
            assert_eq!(window_time(text).ok(), seconds, "{text:?}");
        }
    }

    #[test]
    fn times_and_uses_of_codes() {
        for (text, seconds) in [
            ("10m", Some(600)),
            ("1d", Some(86_400)),
            ("30d", Some(30 * 86_400)),
            ("60", Some(60)),
            ("59s", None),
            ("31d", None),
            ("721h", None),
            ("999999999999999d", None),
            ("d", None),
            ("", None),
        ] {
            assert_eq!(validity(text).ok(), seconds, "{text:?}");
        }
        for (text, count) in [
            ("1", Some(1)),
            ("100000", Some(CODE_USES)),
            ("unlimited", Some(0)),
            ("0", None),
            ("100001", None),
            ("-1", None),
            ("", None),
        ] {
            assert_eq!(uses(text).ok(), count, "{text:?}");
        }
    }

    #[test]
    fn codes_are_told_from_their_names() {
        for (text, is) in [
            ("23A0-AJAR-58JG-K4EJ-190Y-XXVW-B80D", true),
            (" 23a0 ajar 58jg k4ej 190y xxvw b80d", true),
            ("23A0AJAR58JGK4EJ190YXXVWB80D", true),
            ("23AO-AJAR-58JG-K4EJ-l9UY-XXVW-B80D", true),
            ("kith:join/x", true),
            ("KITH:JOIN/23A0?x", true),
            ("0a1b2c3d", false),
            ("Holiday 2026", false),
            ("The journal of our whole long trip", false),
            ("é", false),
            ("", false),
        ] {
            assert_eq!(is_sharing_code(text), is, "{text:?}");
        }
    }

    #[test]
    fn certificate_hashes() {
        let plain = "0123456789abcdef".repeat(4);
        let groups = "0123 4567 89AB CDEF\n".repeat(4);
        let colons = "01:23:45:67:89:ab:cd:ef:".repeat(4);
        for text in [&plain, &groups, &colons] {
            assert_eq!(certificate_hash(text).as_ref(), Ok(&plain), "{text:?}");
        }
        for text in ["", &plain[1..], &format!("{plain}0"), &format!("{}g", &plain[1..])] {
            assert!(certificate_hash(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn versions() {
        let hash = "0123456789abcdef".repeat(4);
        for text in [&hash, &hash.to_uppercase()] {
            assert_eq!((version(text).as_ref(), expected(text).as_ref()), (Ok(&hash), Ok(&hash)), "{text:?}");
        }
        assert_eq!((version("none").is_err(), expected("none").as_deref()), (true, Ok("none")));
        for text in ["", "NONE", &hash[1..], &format!("{hash}0"), &format!("{}g", &hash[1..]), &"é".repeat(32)] {
            assert!(version(text).is_err() && expected(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn metadata_is_an_object() {
        assert_eq!(
            metadata(r#" {"a": [1]} "#).map(|meta| Value::from(meta).to_string()).as_deref(),
            Ok(r#"{"a":[1]}"#)
        );
        for text in ["", "[]", "1", "null", "{", "{} {}", "{a:1}"] {
            assert!(metadata(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn words_are_those_of_the_wire() {
        let command = clap::Command::new("x").arg(clap::Arg::new("w").value_parser(word::<Offers>(["ask", "auto"])));
        let read = |text| command.clone().try_get_matches_from(["x", text]).map(|m| m.get_one::<Offers>("w").copied());
        assert_eq!(read("auto").unwrap(), Some(Offers::Auto));
        assert!(read("unknown").is_err());
    }

    #[test]
    fn slots_of_a_database() {
        for (text, read) in [
            ("all", Some(&Slot::ALL[..])),
            ("none", Some(&[])),
            ("s3", Some(&[Slot::S3])),
            ("geocoding, s3", Some(&[Slot::Geocoding, Slot::S3])),
            ("", None),
            ("s3,all", None),
            ("unknown", None),
        ] {
            assert_eq!(slots(text).ok().map(|Slots(slots)| slots).as_deref(), read, "{text:?}");
        }
    }

    #[test]
    fn shell_words() {
        for (text, word) in
            [("nas-2.local", "nas-2.local"), ("/a/b", "/a/b"), ("a b", "'a b'"), ("", "''"), ("k's", r"'k'\''s'")]
        {
            assert_eq!(shell_word(text), word);
        }
    }
}
