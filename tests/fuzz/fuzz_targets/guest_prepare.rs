//! What a guest offers.
#![no_main]

use std::collections::BTreeSet;

use kith_proto::guest::{Prepare, PrepareBody, PrepareFile, file_name};
use kith_proto::limits;

libfuzzer_sys::fuzz_target!(|body: &[u8]| {
    let Ok(read) = Prepare::parse(body) else { return };
    assert!(!read.session.is_empty() && !read.files.is_empty() && read.nonce.as_deref() != Some(""));
    assert_eq!(format!("{read:?}"), "Prepare(…)");
    let ids: BTreeSet<&str> = read.files.iter().map(|file| file.id.as_str()).collect();
    assert_eq!(ids.len(), read.files.len(), "an id that comes twice");
    for file in &read.files {
        assert!(!file.id.is_empty() && file.size <= limits::FILE_SIZE);
        assert_eq!(file_name(&file.label, file.media_type.as_deref()).depth(), 1);
    }
    let files = read.files.iter().map(|file| PrepareFile {
        id: file.id.clone(),
        file_name: file.label.clone(),
        size: file.size,
        file_type: file.media_type.clone().unwrap_or_default(),
        sha256: file.sha256.map(|hash| hash.iter().map(|byte| format!("{byte:02x}")).collect()).unwrap_or_default(),
    });
    let files: Vec<PrepareFile> = files.collect();
    let nonce = read.nonce.as_deref().unwrap_or("n");
    let written = PrepareBody { title: &read.title, session_id: &read.session, nonce, files: &files };
    let again = Prepare::parse(&serde_json::to_vec(&written).expect("plain data")).expect("our own words");
    assert_eq!((again.session, again.title), (read.session, read.title));
    assert!(
        again
            .files
            .iter()
            .zip(&read.files)
            .all(|(a, b)| (&a.id, &a.label, a.size, a.sha256) == (&b.id, &b.label, b.size, b.sha256))
    );
});
