//! A file name that a guest chose, and a media type after the first line.
#![no_main]

use kith_proto::guest::file_name;
use kith_proto::limits;
use kith_proto::path::WirePath;
use kith_proto::text::is_hostile;

libfuzzer_sys::fuzz_target!(|text: &str| {
    let (label, media_type) = match text.split_once('\n') {
        Some((label, media_type)) => (label, Some(media_type)),
        None => (text, None),
    };
    let path = file_name(label, media_type);
    let name = path.as_str();
    assert_eq!(WirePath::parse(name).as_ref(), Ok(&path));
    assert!(path.depth() == 1 && name.len() <= limits::PATH_COMPONENT && !name.starts_with('.'), "{name:?}");
    assert!(!name.contains(is_hostile) && !name.contains(['/', '\\', ':', '*', '?', '"', '<', '>', '|']), "{name:?}");
    // A safe name is kept as it is.
    assert_eq!(file_name(name, None), path);
});
