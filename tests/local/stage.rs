//! A paired device whose key is in our hands, before one that takes whatever it offers.

use std::path::PathBuf;

use kith_tests::host::Host;
use serde_json::{Value, json};

use crate::raw::{Key, Wire};
use crate::support::{giver_and_taker, names};

/// The unit in which content travels.
pub const CHUNK: usize = kith_proto::limits::CHUNK;

/// Bert, who takes what Anna offers; and Anna's key, with which somebody else speaks.
pub struct Stage {
    pub bert: Host,
    _anna: Host,
    pub into: PathBuf,
    pub key: Key,
    offers: u32,
}

impl Stage {
    #[track_caller]
    pub fn new() -> Self {
        let (mut anna, bert, into) = giver_and_taker();
        anna.stop();
        let key = Key::taken_from(&anna);
        Self { bert, _anna: anna, into, key, offers: 0 }
    }

    pub fn id(&mut self) -> String {
        self.offers += 1;
        format!("0192aaaa-0000-7000-8000-{:012x}", self.offers)
    }

    /// Offers `items` on a new connection; the connection and the transfer's id.
    #[track_caller]
    pub fn offer(&mut self, items: &[Value]) -> (Wire, String) {
        let id = self.id();
        (self.offer_as(&id, items), id)
    }

    #[track_caller]
    pub fn offer_as(&self, id: &str, items: &[Value]) -> Wire {
        let mut wire = Wire::send(&self.bert, &self.key);
        let bytes: u64 = items.iter().filter_map(|item| item["size"].as_u64()).fold(0, u64::saturating_add);
        let bytes = bytes.min(1 << 40);
        wire.say(&json!({"type": "offer", "v": 1, "transfer": id, "title": "t", "files": items.len(), "bytes": bytes}));
        wire.say(&json!({"type": "manifest", "items": items}));
        wire
    }

    /// Offers one file and gets it accepted.
    #[track_caller]
    pub fn accepted(&mut self, name: &str, size: usize) -> (Wire, String) {
        let (mut wire, id) = self.offer(&[item(0, name, size)]);
        let answer = wire.answer().expect("an answer");
        assert_eq!(answer["type"], "accept", "{answer}");
        (wire, id)
    }

    /// Nothing has a name in the target, and the daemon goes on.
    #[track_caller]
    pub fn assert_nothing(&self, what: &str) {
        let found: Vec<String> = names(&self.into).into_iter().filter(|name| !name.starts_with(".kith-")).collect();
        assert!(found.is_empty(), "{what}: {found:?}");
        assert!(self.bert.status()["id"].is_string(), "{what}");
    }
}

/// A file of a manifest.
pub fn item(index: u64, path: &str, size: usize) -> Value {
    json!({"index": index, "path": path, "kind": "file", "size": size, "mtime_ns": 1_600_000_000_000_000_000_i64, "mode": 420})
}

/// The digest of a file that consists of these chunks.
pub fn digest(chunks: &[&[u8]]) -> String {
    let mut state = [0; 32];
    for chunk in chunks {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&state).update(blake3::hash(chunk).as_bytes());
        state = *hasher.finalize().as_bytes();
    }
    blake3::Hash::from(state).to_hex().to_string()
}
