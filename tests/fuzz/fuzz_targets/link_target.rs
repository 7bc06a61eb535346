//! Where a peer says that a symbolic link points to.
#![no_main]

use kith_proto::path::{WirePath, link_lands_at, link_stays_inside};

libfuzzer_sys::fuzz_target!(|text: &str| {
    // The link on the first line, its target on the second: neither may hold a newline.
    let Some((link, target)) = text.split_once('\n') else { return };
    let Ok(link) = WirePath::parse(link) else { return };
    let landing = link_lands_at(&link, target);
    assert_eq!(landing.is_some(), link_stays_inside(&link, target));
    let Some(landing) = landing else { return };
    assert!(!landing.starts_with('/') && !landing.split('/').any(|name| name == ".." || name == "."), "{landing:?}");

    // Walked name by name from where the link lies, one never stands above the root.
    let mut depth = link.depth() - 1;
    for name in target.split('/') {
        match name {
            "" | "." => {}
            ".." => depth = depth.checked_sub(1).expect("below the root"),
            _ => depth += 1,
        }
    }
    assert_eq!(depth, landing.split('/').filter(|name| !name.is_empty()).count());
});
