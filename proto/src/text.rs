//! How text from outside reaches a terminal or a log.

use std::borrow::Cow;
use std::fmt::Write as _;

use unicode_normalization::UnicodeNormalization as _;

/// `text` with everything made visible that a terminal would act on or that would hide its true order: control
/// characters (escape sequences, `\r`, newlines), bidirectional overrides and zero-width characters.
///
/// Each such character becomes `\u{…}`; a text without any is returned as it is.
pub fn printable(text: &str) -> Cow<'_, str> {
    if !text.chars().any(is_hostile) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if is_hostile(c) {
            // Writing to a String cannot fail.
            let _ = write!(out, "\\u{{{:x}}}", u32::from(c));
        } else {
            out.push(c);
        }
    }
    Cow::Owned(out)
}

/// A device name as this device would say it: one line, no control or direction characters, no more than `max` bytes
/// of UTF-8, and never empty.
pub fn device_name(raw: &str, max: usize) -> String {
    let clean: String = raw.chars().filter(|c| !is_hostile(*c)).collect();
    let mut name = String::new();
    for c in clean.trim().chars() {
        if name.len() + c.len_utf8() > max {
            break;
        }
        name.push(c);
    }
    if name.is_empty() { "device".to_owned() } else { name.trim_end().to_owned() }
}

/// At most `max` bytes of `text`, cut between characters.
pub fn cut(text: &str, max: usize) -> &str {
    let end = (0..=max.min(text.len())).rev().find(|at| text.is_char_boundary(*at)).unwrap_or_default();
    text.get(..end).unwrap_or_default()
}

/// A key that two names share if they differ only by case or by Unicode form. For comparing only, never a name.
pub fn fold(name: &str) -> String {
    if name.is_ascii() {
        return name.to_ascii_lowercase();
    }
    // By way of upper case, which joins what lower case alone keeps apart (ς and σ, ſ and s, ß and ss).
    let lower = name.nfd().flat_map(char::to_lowercase);
    lower.flat_map(char::to_uppercase).flat_map(char::to_lowercase).nfc().collect()
}

/// Characters that change how the text around them is shown.
pub fn is_hostile(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{00ad}' | '\u{061c}' | '\u{115f}' | '\u{1160}' | '\u{180e}' | '\u{200b}'..='\u{200f}'
            | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{3164}' | '\u{feff}' | '\u{ffa0}'
            | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn b14_nothing_from_outside_acts_on_a_terminal() {
        for (input, shown) in [
            ("plain name.txt", "plain name.txt"),
            ("größe 写真", "größe 写真"),
            ("\x1b[2Jboo", "\\u{1b}[2Jboo"),
            ("\x1b]8;;http://x\x07", "\\u{1b}]8;;http://x\\u{7}"),
            ("a\r\nb", "a\\u{d}\\u{a}b"),
            ("\u{9b}31m", "\\u{9b}31m"),
            ("exe.\u{202e}gpj", "exe.\\u{202e}gpj"),
            ("a\u{200b}b", "a\\u{200b}b"),
            ("%s <b>", "%s <b>"),
        ] {
            assert_eq!(printable(input), shown, "{input:?}");
        }
    }

    #[test]
    fn device_names_are_short_single_lines() {
        for (input, name) in [
            ("nas", "nas"),
            ("  nas\n", "nas"),
            ("\u{202e}\u{200b}", "device"),
            ("", "device"),
            ("ééééé", "éé"),
            ("Ken's Mac\x1b[0m", "Ken's"),
        ] {
            let max = if input.starts_with('K') { 5 } else { 4 };
            assert_eq!(device_name(input, max), name, "{input:?}");
        }
    }
}
