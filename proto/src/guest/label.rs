//! From the name that a guest gave a file to one that is safe here.

use crate::limits::PATH_COMPONENT;
use crate::path::WirePath;
use crate::text;

/// Extensions for types that apps name without one. Only what people send; anything else keeps the name it has.
const EXTENSIONS: &[(&str, &str)] = &[
    ("application/json", "json"),
    ("application/msword", "doc"),
    ("application/pdf", "pdf"),
    ("application/vnd.ms-excel", "xls"),
    ("application/vnd.ms-powerpoint", "ppt"),
    ("application/vnd.openxmlformats-officedocument.presentationml.presentation", "pptx"),
    ("application/vnd.openxmlformats-officedocument.spreadsheetml.sheet", "xlsx"),
    ("application/vnd.openxmlformats-officedocument.wordprocessingml.document", "docx"),
    ("application/zip", "zip"),
    ("audio/aac", "aac"),
    ("audio/m4a", "m4a"),
    ("audio/mp4", "m4a"),
    ("audio/mpeg", "mp3"),
    ("audio/ogg", "ogg"),
    ("audio/wav", "wav"),
    ("audio/x-m4a", "m4a"),
    ("audio/x-wav", "wav"),
    ("image/gif", "gif"),
    ("image/heic", "heic"),
    ("image/jpeg", "jpg"),
    ("image/jpg", "jpg"),
    ("image/png", "png"),
    ("image/webp", "webp"),
    ("text/csv", "csv"),
    ("text/html", "html"),
    ("text/plain", "txt"),
    ("video/3gpp", "3gp"),
    ("video/mp4", "mp4"),
    ("video/quicktime", "mov"),
    ("video/webm", "webm"),
];

/// The name to keep a file under: the last component of what the guest says, whichever way its separators lean;
/// without control and direction characters; never hidden, never reserved by a system, never too long; with an
/// extension that follows from `media_type` if it has none. Never fails: a name is a label, not a reason to lose a
/// file.
pub fn file_name(label: &str, media_type: Option<&str>) -> WirePath {
    let last = label.trim_end_matches(['/', '\\']).rsplit(['/', '\\']).next().unwrap_or_default();
    let clean: String = last.chars().filter(|c| !text::is_hostile(*c)).map(plain).collect();
    // A leading dot would hide the file, a trailing one is lost on some systems.
    let clean = clean.trim_matches(|c: char| c.is_whitespace() || c == '.');
    let nameless = WirePath::nameless();
    let clean = if clean.is_empty() { nameless.as_str() } else { clean };
    let (stem, extension) = match clean.rsplit_once('.') {
        Some((stem, extension)) if !stem.is_empty() && is_extension(extension) => (stem, Some(extension)),
        _ => (clean, media_type.and_then(extension_of)),
    };
    let suffix = extension.map(|extension| format!(".{extension}")).unwrap_or_default();
    let fit = |mark: &str| {
        let kept = text::cut(stem, PATH_COMPONENT.saturating_sub(mark.len() + suffix.len()));
        // What a cut laid bare; other blanks belong to the name.
        let bare = kept.len() < stem.len();
        let kept = if bare { kept.trim_end_matches(|c: char| c.is_whitespace() || c == '.') } else { kept };
        WirePath::parse(&format!("{mark}{kept}{suffix}"))
    };
    // What is still refused is reserved on some system, as "con.txt" is; with a mark in front it is not.
    fit("").or_else(|_| fit("_")).unwrap_or_else(|_| WirePath::nameless())
}

/// Characters that a system reserves become a dash.
fn plain(c: char) -> char {
    if matches!(c, ':' | '*' | '?' | '"' | '<' | '>' | '|') { '-' } else { c }
}

fn is_extension(text: &str) -> bool {
    (1..=16).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric())
}

fn extension_of(media_type: &str) -> Option<&'static str> {
    let essence = media_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    EXTENSIONS.iter().find(|(known, _)| *known == essence).map(|(_, extension)| *extension)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a1_names_are_labels_and_nothing_more() {
        let long = "é".repeat(200);
        let cut_at_blank = format!("com1.x{}y", " ".repeat(300));
        let kept_long = format!("{}.jpg", "é".repeat(125));
        for (label, media_type, name) in [
            ("photo.jpg", Some("image/png"), "photo.jpg"),
            ("../../etc/passwd", None, "passwd"),
            ("..\\..\\x.txt", None, "x.txt"),
            ("C:\\Users\\a\\b.doc", None, "b.doc"),
            ("a:stream", None, "a-stream"),
            ("dir/", None, "dir"),
            ("", None, "file"),
            ("..", None, "file"),
            (" . ", Some("text/plain"), "file.txt"),
            (".bashrc", None, "bashrc"),
            (".ssh/authorized_keys", None, "authorized_keys"),
            ("a\r\nb\u{202e}gpj.exe", None, "abgpj.exe"),
            ("a\0.txt", None, "a.txt"),
            ("CON", None, "_CON"),
            ("com1.txt", None, "_com1.txt"),
            ("name.", None, "name"),
            ("IMG_0001", Some("image/jpeg"), "IMG_0001.jpg"),
            ("IMG_0001", Some("IMAGE/JPEG; charset=binary"), "IMG_0001.jpg"),
            ("IMG_0001", Some("application/x-unheard-of"), "IMG_0001"),
            ("12:30 report v1.2 final", Some("application/pdf"), "12-30 report v1.2 final.pdf"),
            ("archive.tar.gz", None, "archive.tar.gz"),
            (&long, Some("image/jpeg"), &kept_long),
            (&cut_at_blank, Some("text/plain"), "_com1.x.txt"),
            ("blank .txt", None, "blank .txt"),
            (".kith-0123456789abcdef.part", None, "kith-0123456789abcdef.part"),
        ] {
            assert_eq!(file_name(label, media_type).as_str(), name, "{label:?}");
        }
    }

    proptest! {
        #[test]
        fn whatever_a_guest_says_is_one_visible_name(label in ".{0,300}", media_type in proptest::option::of(".{0,40}")) {
            let name = file_name(&label, media_type.as_deref());
            prop_assert_eq!(name.depth(), 1);
            prop_assert!(!name.is_hidden_at_top());
            prop_assert!(!name.as_str().chars().any(text::is_hostile));
            // Once safe, it stays as it is.
            prop_assert_eq!(file_name(name.as_str(), None), name);
        }
    }
}
