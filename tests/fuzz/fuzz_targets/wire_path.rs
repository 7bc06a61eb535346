//! A file name from a peer.
#![no_main]

use kith_proto::limits;
use kith_proto::path::WirePath;

libfuzzer_sys::fuzz_target!(|text: &str| {
    let Ok(path) = text.parse::<WirePath>() else { return };
    assert_eq!(path.as_str(), text);
    assert!(text.len() <= limits::PATH && path.depth() <= limits::PATH_DEPTH && !text.starts_with('/'));
    for name in path.components() {
        assert!(!name.is_empty() && name != "." && name != ".." && !name.contains(['\\', ':', '\0', '\n']));
    }
    let key = path.fold_key();
    if let Ok(folded) = WirePath::parse(&key) {
        assert_eq!(folded.fold_key(), key);
    }
    if let Some(parent) = path.parent() {
        assert!(path.starts_with(&parent));
        assert_eq!(parent.join(path.file_name()).as_ref(), Ok(&path));
    }
});
