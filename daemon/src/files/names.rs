//! The names of parts, and the names that something gets when its own is taken.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};

use kith_proto::limits::PATH_COMPONENT;

/// Numbers tried in order; after them the gaps are rather guessed than searched, or 10,000 files of one name would
/// cost 50,000,000 attempts.
const IN_ORDER: u32 = 99;
/// Guesses after that.
const GUESSES: usize = 200;
/// The longest `.ext` that is kept in front of a number, in bytes.
const EXTENSION: usize = 16;

/// The name of the part with this tag, if it may be a tag.
pub(super) fn part(tag: &str) -> Option<String> {
    let ok = (1..=64).contains(&tag.len()) && tag.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
    ok.then(|| format!(".kith-{tag}.part"))
}

/// How the names of parts begin whose tags begin so.
pub(super) fn part_beginning(tag: &str) -> String {
    format!(".kith-{tag}")
}

/// Whether `name` could be that of a part (on a file system that ignores case, too).
pub(super) fn is_part(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    name.starts_with(".kith-") && name.ends_with(".part")
}

/// A part's name that nobody else uses.
pub(super) fn unique_part() -> String {
    format!(".kith-{:016x}.part", random())
}

/// `name (1).ext`, `name (2).ext`, …
pub fn numbered(name: &str) -> impl Iterator<Item = String> {
    let guesses = std::iter::repeat_with(|| 100 + (random() % 999_900) as u32).take(GUESSES);
    (1..=IN_ORDER).chain(guesses).map(|n| with_number(name, n))
}

fn with_number(name: &str, n: u32) -> String {
    let (stem, extension) = split_extension(name);
    let tail = format!(" ({n}){extension}");
    let mut end = stem.len().min(PATH_COMPONENT - tail.len());
    while !stem.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}{tail}", &stem[..end])
}

/// `a.tar.gz` is `a` and `.tar.gz`; `.bashrc` and `Dr. Who` are without an extension.
fn split_extension(name: &str) -> (&str, &str) {
    let Some((stem, extension)) = split_last_dot(name) else { return (name, "") };
    match split_last_dot(stem) {
        Some((inner, ".tar")) => (inner, &name[inner.len()..]),
        _ => (stem, extension),
    }
}

fn split_last_dot(name: &str) -> Option<(&str, &str)> {
    let (stem, extension) = name.split_at(name.rfind('.')?);
    let ok = !stem.is_empty() && (2..=EXTENSION).contains(&extension.len()) && !extension.contains(' ');
    ok.then_some((stem, extension))
}

/// Not a secret, only unlikely to repeat: what is made under such a name is made exclusively.
fn random() -> u64 {
    RandomState::new().build_hasher().finish()
}

#[cfg(test)]
mod tests {
    use kith_proto::path::WirePath;

    use super::*;

    #[test]
    fn a11_numbered_names_read_well() {
        for (name, numbered) in [
            ("a.txt", "a (7).txt"),
            ("a", "a (7)"),
            ("a.tar.gz", "a (7).tar.gz"),
            (".bashrc", ".bashrc (7)"),
            (".tar.gz", ".tar (7).gz"),
            (".config.toml", ".config (7).toml"),
            ("Dr. Who and all", "Dr. Who and all (7)"),
            ("v1.2.3.zip", "v1.2.3 (7).zip"),
            ("größe.jpeg", "größe (7).jpeg"),
            ("a.thisisnotanextension", "a.thisisnotanextension (7)"),
        ] {
            assert_eq!(with_number(name, 7), numbered);
        }
    }

    #[test]
    fn a4_numbered_names_stay_within_255_bytes() {
        for name in ["x".repeat(255), "é".repeat(127), "é".repeat(125) + ".jpg", "👍".repeat(63)] {
            for n in [1, 99, 999_999] {
                let numbered = with_number(&name, n);
                assert!(numbered.len() > 245 && WirePath::parse(&numbered).is_ok(), "{numbered}");
            }
        }
    }

    #[test]
    fn parts_have_names_of_their_own() {
        let name = part("0af-3_x").unwrap();
        assert!(is_part(&name) && is_part(".KITH-x.PART") && is_part(&unique_part()));
        assert!(!is_part(".kith-notes.txt") && !is_part("a.part"));
        for bad in ["", "a/b", "..", "a.b", "é", "\0"] {
            assert_eq!(part(bad), None, "{bad:?}");
        }
    }
}
