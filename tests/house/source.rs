//! Rust files as the rules read them.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use kith_tests::binaries::workspace;

/// A file of the project.
pub struct Source {
    /// Relative to the workspace, with `/`.
    pub path: String,
    /// Its text up to its tests; comments, strings and characters blanked, lines kept.
    pub code: String,
}

/// A path that a file names, as `tokio::spawn`: through a `use`, or where it is used.
#[derive(Debug, PartialEq, Eq)]
pub struct Named {
    pub line: usize,
    pub path: String,
}

/// Every Rust file below `dir`, test files not counted.
pub fn sources(dir: &str) -> Vec<Source> {
    let mut found = Vec::new();
    collect(&workspace().join(dir), &mut found);
    found.sort_by(|a, b| a.path.cmp(&b.path));
    assert!(!found.is_empty(), "no Rust files below {dir}");
    found
}

/// The whole text of a file of the project.
pub fn text(path: &str) -> String {
    fs::read_to_string(workspace().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn collect(dir: &Path, found: &mut Vec<Source>) {
    for entry in fs::read_dir(dir).unwrap_or_else(|error| panic!("{}: {error}", dir.display())) {
        let path = entry.expect("a directory can be read").path();
        if path.is_dir() {
            collect(&path, found);
        } else if is_product(&path) {
            let relative = path.strip_prefix(workspace()).expect("below the workspace").to_string_lossy().into_owned();
            let text = fs::read_to_string(&path).expect("a source file is text");
            found.push(Source { path: relative, code: before_tests(&code(&text)).to_owned() });
        }
    }
}

/// A Rust file that is not the tests of its neighbour.
fn is_product(path: &Path) -> bool {
    let stem = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
    path.extension().is_some_and(|extension| extension == "rs") && stem != "tests" && !stem.ends_with("_tests")
}

impl Source {
    /// Where `word` stands, as a whole word.
    pub fn lines_with(&self, word: &str) -> impl Iterator<Item = usize> {
        let lines = self.code.lines().enumerate();
        lines.filter(move |(_, line)| has_word(line, word)).map(|(index, _)| index + 1)
    }

    /// Every path with at least two segments that this file names, groups unfolded, and its first segment replaced by
    /// what a `use` of this file brought in under that name.
    pub fn names(&self) -> Vec<Named> {
        let raw = paths(&self.code);
        let mut brought: BTreeMap<&str, &str> = BTreeMap::new();
        for (named, is_use) in &raw {
            if let (true, Some((_, last))) = (is_use, named.path.rsplit_once("::")) {
                brought.insert(last, &named.path);
            }
        }
        let resolve = |(named, is_use): &(Named, bool)| {
            let (first, rest) = named.path.split_once("::").expect("two segments");
            let path = match brought.get(first) {
                Some(whole) if !is_use => format!("{whole}::{rest}"),
                _ => named.path.clone(),
            };
            Named { line: named.line, path }
        };
        raw.iter().map(resolve).collect()
    }

    /// An offence at `line` of this file.
    pub fn at(&self, line: usize, what: &str) -> String {
        format!("{}:{line}: {what}", self.path)
    }
}

/// Whether `path` is `start`, or lies below it.
pub fn is_within(path: &str, start: &str) -> bool {
    path.strip_prefix(start).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
}

fn has_word(line: &str, word: &str) -> bool {
    let is_part = |c: char| c.is_alphanumeric() || c == '_';
    line.match_indices(word).any(|(at, _)| {
        !line[..at].chars().next_back().is_some_and(is_part)
            && !line[at + word.len()..].chars().next().is_some_and(is_part)
    })
}

/// `code` up to `#[cfg(test)]` before a module.
fn before_tests(code: &str) -> &str {
    let mut from = 0;
    while let Some(at) = code[from..].find("#[cfg(test)]") {
        let end = from + at + "#[cfg(test)]".len();
        let item = code[end..].trim_start().trim_start_matches("pub(crate) ").trim_start_matches("pub ");
        if item.starts_with("mod ") || item.starts_with("#[") {
            return &code[..from + at];
        }
        from = end;
    }
    code
}

/// `text` with its comments, strings and characters replaced by blanks, line by line in their places.
pub fn code(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let after_word = out.ends_with(|c: char| c.is_alphanumeric() || c == '_');
        let len = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            block_comment(rest)
        } else if let Some(len) = raw_string(rest).filter(|_| !after_word) {
            len
        } else if first == '"' {
            quoted(rest, '"')
        } else if let Some(len) = character(rest) {
            len
        } else {
            out.push(first);
            rest = &rest[first.len_utf8()..];
            continue;
        };
        out.extend(rest[..len].chars().map(|c| if c == '\n' { '\n' } else { ' ' }));
        rest = &rest[len..];
    }
    out
}

fn block_comment(text: &str) -> usize {
    let (mut depth, mut at) = (0, 0);
    while at < text.len() {
        if text[at..].starts_with("/*") {
            (depth, at) = (depth + 1, at + 2);
        } else if text[at..].starts_with("*/") {
            (depth, at) = (depth - 1, at + 2);
            if depth == 0 {
                return at;
            }
        } else {
            at += text[at..].chars().next().map_or(1, char::len_utf8);
        }
    }
    text.len()
}

/// The length of `r"…"`, `r#"…"#`, `br#"…"#` and the like, if `text` begins with one.
fn raw_string(text: &str) -> Option<usize> {
    let rest = text.strip_prefix("br").or_else(|| text.strip_prefix("cr")).or_else(|| text.strip_prefix('r'))?;
    let hashes = rest.len() - rest.trim_start_matches('#').len();
    let body = rest[hashes..].strip_prefix('"')?;
    let end = format!("\"{}", "#".repeat(hashes));
    let close = body.find(&end).map_or(text.len(), |at| text.len() - body.len() + at + end.len());
    Some(close)
}

fn quoted(text: &str, quote: char) -> usize {
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            _ if c == quote => return at + c.len_utf8(),
            _ => {}
        }
    }
    text.len()
}

/// The length of a character literal, if `text` begins with one and not with a lifetime.
fn character(text: &str) -> Option<usize> {
    let rest = text.strip_prefix('\'')?;
    let first = rest.chars().next()?;
    let is_literal = first == '\\' || rest[first.len_utf8()..].starts_with('\'');
    is_literal.then(|| quoted(text, '\''))
}

/// Every path of two or more segments in `code`, groups unfolded, and whether a `use` names it.
fn paths(code: &str) -> Vec<(Named, bool)> {
    let mut found = Vec::new();
    let mut at = 0;
    let mut after_use = false;
    while let Some(c) = code[at..].chars().next() {
        let word = identifier(&code[at..]);
        if word.is_empty() {
            after_use &= c.is_whitespace();
            at += c.len_utf8();
            continue;
        }
        let start = at;
        at += word.len();
        if code[at..].starts_with("::") {
            let mut leaves = Vec::new();
            at = unfold(code, start, "", &mut leaves);
            let named = |(at, path): (usize, String)| Named { line: code[..at].matches('\n').count() + 1, path };
            found.extend(leaves.into_iter().map(|leaf| (named(leaf), after_use)));
        }
        after_use = word == "use";
    }
    found.retain(|(named, _)| named.path.contains("::"));
    found
}

/// Reads a path or a group at `at` below `prefix`; returns where it ends.
fn unfold(code: &str, mut at: usize, prefix: &str, leaves: &mut Vec<(usize, String)>) -> usize {
    let blank = |at: usize| at + code[at..].len() - code[at..].trim_start().len();
    at = blank(at);
    if code[at..].starts_with('{') {
        at += 1;
        while at < code.len() && !code[at..].starts_with('}') {
            let next = blank(unfold(code, at, prefix, leaves));
            at = next + usize::from(code[next..].starts_with(','));
            if at == next && !code[at..].starts_with('}') {
                return at;
            }
            at = blank(at);
        }
        return at + 1;
    }
    let word = if code[at..].starts_with('*') { "*" } else { identifier(&code[at..]) };
    let path = match (prefix, word) {
        (_, "" | "*" | "self") if !prefix.is_empty() => prefix.to_owned(),
        ("", _) => word.to_owned(),
        _ => format!("{prefix}::{word}"),
    };
    let end = at + word.len();
    let below = code[end..]
        .strip_prefix("::")
        .filter(|rest| rest.starts_with('{') || rest.starts_with('*') || !identifier(rest).is_empty());
    if below.is_some() && !word.is_empty() {
        return unfold(code, end + 2, &path, leaves);
    }
    leaves.push((at, path));
    let renamed = code[end..].trim_start().strip_prefix("as ").filter(|_| !word.is_empty());
    renamed.map_or(end, |rest| code.len() - rest.len() + identifier(rest).len())
}

fn identifier(text: &str) -> &str {
    let end = text.find(|c: char| !(c.is_alphanumeric() || c == '_')).unwrap_or(text.len());
    &text[..end]
}

#[test]
fn comments_and_literals_are_not_code() {
    let text = "a /* x /* y */ z */ b // c\n\"d \\\" e\" 'f' '\\'' &'g h r#\"i \" j\"# bar\"k\"";
    let blanked = code(text);
    assert_eq!(blanked.split_whitespace().collect::<Vec<_>>(), ["a", "b", "&'g", "h", "bar"]);
    assert_eq!(blanked.lines().count(), text.lines().count());
}

#[test]
fn tests_are_not_code() {
    assert_eq!(before_tests("a\n#[cfg(test)]\nmod tests { b }"), "a\n");
    assert_eq!(before_tests("#[cfg(test)]\nuse x;\na"), "#[cfg(test)]\nuse x;\na");
}

#[test]
fn paths_are_unfolded_and_resolved() {
    let text =
        "use a::{b, c::{self, d as e}, f::*};\nuse tokio::task;\nfn x() { task::spawn(c::g::<u8>()); crate::h::i }";
    let source = Source { path: "x.rs".into(), code: text.into() };
    let names: Vec<_> = source.names().into_iter().map(|named| (named.line, named.path)).collect();
    let expected = [
        (1, "a::b"),
        (1, "a::c"),
        (1, "a::c::d"),
        (1, "a::f"),
        (2, "tokio::task"),
        (3, "tokio::task::spawn"),
        (3, "a::c::g"),
        (3, "crate::h::i"),
    ];
    assert_eq!(names, expected.map(|(line, path)| (line, path.to_owned())));
    assert!(is_within("std::fs::File", "std::fs") && !is_within("std::fsx", "std::fs"));
}
