//! `WirePath`: a file name from outside that cannot leave its root.
//!
//! A path crosses the wire as `/`-separated UTF-8 below some root that both ends know. It is parsed once, at the edge;
//! from then on it names something strictly inside the root, on every system that Kith runs on: a Linux receiver refuses
//! what would be dangerous on Windows too, since the tree may go there next.
//!
//! Deliberately absent: any conversion to a `std::path::Path`. Only the daemon's `files` opens what a `WirePath` names.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize, Serializer};

use crate::{limits, text};

/// A relative path with at least one component, none of which is special anywhere.
///
/// The order is that of the text, byte by byte: not every path stands directly before what lies below it (`a`, `a-b`,
/// `a/b`).
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize)]
#[serde(try_from = "String")]
pub struct WirePath(String);

impl WirePath {
    /// The path in `text`, if it may be one.
    pub fn parse(text: &str) -> Result<Self, PathError> {
        check(text)?;
        Ok(Self(text.to_owned()))
    }

    /// What a file is called whose name leaves nothing to keep.
    #[cfg(feature = "guest")]
    pub(crate) fn nameless() -> Self {
        Self("file".to_owned())
    }

    /// The text, as it crosses the wire.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The components, outermost first; at least one.
    pub fn components(&self) -> impl DoubleEndedIterator<Item = &str> {
        self.0.split('/')
    }

    /// How many components there are.
    pub fn depth(&self) -> usize {
        self.components().count()
    }

    /// The outermost component.
    pub fn top(&self) -> &str {
        self.0.split_once('/').map_or(self.as_str(), |(top, _)| top)
    }

    /// The innermost component.
    pub fn file_name(&self) -> &str {
        self.0.rsplit_once('/').map_or(self.as_str(), |(_, name)| name)
    }

    /// The directory that this lies in, unless that is the root.
    pub fn parent(&self) -> Option<Self> {
        self.0.rsplit_once('/').map(|(parent, _)| Self(parent.to_owned()))
    }

    /// What `below` names when it is read from here.
    pub fn join(&self, below: &str) -> Result<Self, PathError> {
        Self::try_from(format!("{self}/{below}"))
    }

    /// Whether this is `dir` or lies below it.
    pub fn starts_with(&self, dir: &Self) -> bool {
        self.0.strip_prefix(dir.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }

    /// Whether this is, or lies below, a dotfile at the top: `.bashrc`, `.ssh/…`, `.config/autostart/…`.
    pub fn is_hidden_at_top(&self) -> bool {
        self.0.starts_with('.')
    }

    /// A key that two paths share if some file system would take them for one: they differ only by case or by Unicode
    /// form.
    ///
    /// It errs on the side of calling two paths twins (`ß` and `ss`), and is for comparing only, never a name.
    pub fn fold_key(&self) -> String {
        text::fold(&self.0)
    }
}

/// Where a symlink at `link` with this target would lead, as a path below the root (`""` is the root itself), or `None`
/// if it could lead outside.
///
/// `..` counts only before the first name. The directory of a link is real, so that going up from it is exact; `x/..`
/// is not, because `x` may be a link itself: `a/b/l → ../..` and `m → a/b/l/../..` both look harmless.
pub fn link_lands_at(link: &WirePath, target: &str) -> Option<String> {
    if target.is_empty() || target.len() > limits::PATH || target.starts_with('/') {
        return None;
    }
    if target.chars().any(|c| c.is_control() || matches!(c, '\\' | ':')) {
        return None;
    }
    let mut landing: Vec<&str> = link.components().collect();
    landing.pop();
    let mut descending = false;
    for component in target.split('/') {
        match component {
            "" | "." => {}
            ".." if descending => return None,
            ".." => {
                landing.pop()?;
            }
            name => {
                descending = true;
                landing.push(name);
            }
        }
    }
    Some(landing.join("/"))
}

/// Whether a symlink at `link` with this target stays below the root, whatever other such links there are.
pub fn link_stays_inside(link: &WirePath, target: &str) -> bool {
    link_lands_at(link, target).is_some()
}

/// Why a text is not a [`WirePath`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum PathError {
    /// Nothing at all.
    #[error("the path is empty")]
    Empty,
    /// It starts at a root.
    #[error("the path is absolute; it must be relative")]
    Absolute,
    /// `a//b`, `a/`.
    #[error("the path has an empty component")]
    EmptyComponent,
    /// `.` or `..`, or their look-alikes: only dots or spaces.
    #[error("a name in the path consists of dots or spaces only")]
    OnlyDots,
    /// A separator on Windows.
    #[error("a name in the path holds a backslash")]
    Backslash,
    /// A drive or a stream on Windows.
    #[error("a name in the path holds a colon")]
    Colon,
    /// A control character. Invisible ones are no error: languages and emoji need them, and they are made visible
    /// wherever a name is shown.
    #[error("a name in the path holds a control character")]
    Control,
    /// Windows would drop it, and so confuse two names.
    #[error("a name in the path ends with a dot or a space")]
    TrailingDot,
    /// `CON`, `com1.txt`: a device on Windows.
    #[error("a name in the path is reserved for a device on Windows")]
    Reserved,
    /// More than [`limits::PATH_COMPONENT`] bytes.
    #[error("a name in the path is longer than {} bytes", limits::PATH_COMPONENT)]
    NameTooLong,
    /// More than [`limits::PATH`] bytes.
    #[error("the path is longer than {} bytes", limits::PATH)]
    TooLong,
    /// More than [`limits::PATH_DEPTH`] components.
    #[error("the path has more than {} levels", limits::PATH_DEPTH)]
    TooDeep,
}

impl PathError {
    /// A short word that stays the same, for lists of skipped files and for peers.
    pub const fn reason(self) -> &'static str {
        match self {
            Self::Empty => "name_empty",
            Self::Absolute => "path_absolute",
            Self::EmptyComponent => "name_empty",
            Self::OnlyDots => "name_only_dots",
            Self::Backslash => "name_backslash",
            Self::Colon => "name_colon",
            Self::Control => "name_control_character",
            Self::TrailingDot => "name_trailing_dot",
            Self::Reserved => "name_reserved",
            Self::NameTooLong => "name_too_long",
            Self::TooLong => "path_too_long",
            Self::TooDeep => "path_too_deep",
        }
    }
}

fn check(path: &str) -> Result<(), PathError> {
    // Length first: nothing below looks at more than this.
    if path.len() > limits::PATH {
        return Err(PathError::TooLong);
    }
    if path.is_empty() {
        return Err(PathError::Empty);
    }
    if path.starts_with('/') {
        return Err(PathError::Absolute);
    }
    if path.split('/').count() > limits::PATH_DEPTH {
        return Err(PathError::TooDeep);
    }
    path.split('/').try_for_each(check_component)
}

fn check_component(name: &str) -> Result<(), PathError> {
    if name.is_empty() {
        return Err(PathError::EmptyComponent);
    }
    if name.len() > limits::PATH_COMPONENT {
        return Err(PathError::NameTooLong);
    }
    for c in name.chars() {
        match c {
            '\\' => return Err(PathError::Backslash),
            ':' => return Err(PathError::Colon),
            c if c.is_control() => return Err(PathError::Control),
            _ => {}
        }
    }
    if name.chars().all(is_dot_or_space) {
        return Err(PathError::OnlyDots);
    }
    if name.ends_with(['.', ' ']) {
        return Err(PathError::TrailingDot);
    }
    if is_reserved(name) {
        return Err(PathError::Reserved);
    }
    Ok(())
}

/// Dots and spaces, and what looks like them or becomes them under compatibility normalisation.
fn is_dot_or_space(c: char) -> bool {
    c.is_whitespace() || matches!(c, '.' | '\u{2024}'..='\u{2026}' | '\u{3002}' | '\u{fe52}' | '\u{ff0e}' | '\u{ff61}')
}

/// The devices that Windows finds in every directory, with any extension. Superscript digits count as digits there.
fn is_reserved(name: &str) -> bool {
    let stem = name.split_once('.').map_or(name, |(stem, _)| stem).trim_end_matches(' ');
    let is = |device: &str| stem.eq_ignore_ascii_case(device);
    if ["CON", "PRN", "AUX", "NUL", "CONIN$", "CONOUT$"].into_iter().any(is) {
        return true;
    }
    let Some((device, digit)) = stem.split_at_checked(3) else { return false };
    let mut digit = digit.chars();
    ["COM", "LPT"].into_iter().any(|port| device.eq_ignore_ascii_case(port))
        && matches!((digit.next(), digit.next()), (Some('1'..='9' | '¹' | '²' | '³'), None))
}

impl FromStr for WirePath {
    type Err = PathError;

    fn from_str(text: &str) -> Result<Self, PathError> {
        Self::parse(text)
    }
}

impl TryFrom<String> for WirePath {
    type Error = PathError;

    fn try_from(text: String) -> Result<Self, PathError> {
        check(&text)?;
        Ok(Self(text))
    }
}

impl Serialize for WirePath {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl fmt::Display for WirePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for WirePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.0)
    }
}

#[cfg(test)]
#[path = "path_tests.rs"]
mod tests;
