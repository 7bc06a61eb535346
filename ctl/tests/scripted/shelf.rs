//! A daemon that keeps journals, in memory: as much of one as the commands need.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::{Arc, Mutex};

use data_encoding::BASE64;
use kith_proto::limits::FEED_CHUNK;
use serde_json::{Value, json};

use crate::fake::Fake;
use crate::fake::Say::{self, Error, Result};

pub const JOURNAL: &str = "0123456789abcdef0123456789abcdef";
/// Entries in a page.
const PAGE: usize = 2;

#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    pub id: String,
    pub seq: u64,
    pub meta: Value,
    pub body: Vec<u8>,
    pub deleted: bool,
}

impl Row {
    pub fn hash(&self) -> String {
        let mut hasher = DefaultHasher::new();
        (self.meta.to_string(), &self.body, self.deleted).hash(&mut hasher);
        format!("{:064x}", hasher.finish())
    }

    pub fn entry(&self) -> Value {
        json!({
            "id": self.id, "seq": self.seq, "hash": self.hash(), "stamp": format!("{:016x}", self.seq), "device": "9a4f0b2c00000000",
            "updated_at": format!("2026-01-01T00:00:{:02}Z", self.seq), "deleted": self.deleted, "meta": self.meta,
            "size": self.body.len(), "newer": 1,
        })
    }
}

/// What is in the journal, in the order of changes.
#[derive(Default)]
pub struct Shelf {
    pub rows: Vec<Row>,
    staged: HashMap<String, Vec<u8>>,
    seq: u64,
}

impl Shelf {
    pub fn add(&mut self, id: &str, meta: Value, body: &[u8]) -> Row {
        self.seq += 1;
        let row = Row { id: id.to_owned(), seq: self.seq, meta, body: body.to_owned(), deleted: false };
        self.rows.retain(|row| row.id != id);
        self.rows.push(row.clone());
        row
    }

    pub fn delete(&mut self, id: &str) {
        let mut row = self.add(id, json!({}), b"");
        row.deleted = true;
        *self.rows.last_mut().unwrap() = row;
    }

    pub fn row(&self, id: &str) -> Option<&Row> {
        self.rows.iter().find(|row| row.id == id)
    }

    pub fn answer(&mut self, method: &str, params: &Value) -> Vec<Say> {
        vec![match method {
            "journals.show" => Result(journal(&json!({}))),
            "entries.stage" => self.stage(params),
            "entries.put" => self.put(params),
            "entries.get" => self.get(params),
            "entries.list" => self.list(params),
            _ => Error(-32601, "unknown_method"),
        }]
    }

    fn stage(&mut self, params: &Value) -> Say {
        let data = BASE64.decode(params["data"].as_str().unwrap().as_bytes()).unwrap();
        if data.len() > FEED_CHUNK {
            return Error(-32602, "invalid_param");
        }
        let name = params["staged"].as_str().unwrap_or("s1").to_owned();
        if params.get("staged").is_none() {
            self.staged.insert(name.clone(), Vec::new());
        }
        let staged = self.staged.get_mut(&name).unwrap();
        staged.extend(data);
        Result(json!({"staged": name, "bytes": staged.len()}))
    }

    fn put(&mut self, params: &Value) -> Say {
        assert!(params.get("body").is_none() || params.get("staged").is_none(), "{params}");
        let body = match (params["body"].as_str(), params["staged"].as_str()) {
            (Some(body), _) => BASE64.decode(body.as_bytes()).unwrap(),
            (_, Some(staged)) => self.staged.remove(staged).unwrap(),
            _ => Vec::new(),
        };
        let id = params["id"].as_str().unwrap_or("made-up").to_owned();
        // What was deleted is not there.
        let there = self.row(&id).filter(|row| !row.deleted).map(Row::hash);
        let expected = params["expected"].as_str();
        if expected.is_some_and(|expected| expected != there.as_deref().unwrap_or("none")) {
            return Error(1003, "version_mismatch");
        }
        Result(self.add(&id, params["meta"].clone(), &body).entry())
    }

    fn get(&self, params: &Value) -> Say {
        let Some(row) = self.row(params["id"].as_str().unwrap()) else { return Error(1002, "entry_not_found") };
        let from = params["offset"].as_u64().unwrap() as usize;
        let Some(rest) = row.body.get(from..) else { return Error(-32602, "invalid_param") };
        let piece = &rest[..rest.len().min(FEED_CHUNK)];
        let mut result = json!({"entry": row.entry(), "body": BASE64.encode(piece)});
        if piece.len() < rest.len() {
            result["next"] = json!(from + piece.len());
        }
        Result(result)
    }

    fn list(&self, params: &Value) -> Say {
        let after: u64 = params["after"].as_str().map_or(0, |after| after.parse().unwrap());
        let limit = params["limit"].as_u64().map_or(PAGE, |limit| PAGE.min(limit as usize));
        let deleted = params["deleted"] == true;
        let rest: Vec<&Row> = self.rows.iter().filter(|row| row.seq > after && (deleted || !row.deleted)).collect();
        let page = &rest[..rest.len().min(limit)];
        let cursor = page.last().map_or(after, |row| row.seq).to_string();
        let entries: Vec<Value> = page.iter().map(|row| row.entry()).collect();
        let mut result = json!({"entries": entries, "cursor": cursor});
        if page.len() < rest.len() {
            result["next"] = json!(cursor);
        }
        Result(result)
    }
}

/// A daemon with this shelf.
pub fn keeping(shelf: Shelf) -> (Fake, Arc<Mutex<Shelf>>) {
    let shelf = Arc::new(Mutex::new(shelf));
    let kept = shelf.clone();
    (Fake::new(move |method, params| kept.lock().unwrap().answer(method, params)), shelf)
}

/// A journal called `notes`, with `changes` on top.
pub fn journal(changes: &Value) -> Value {
    let mut journal = json!({
        "id": JOURNAL, "name": "notes", "state": "active", "creator": {"id": "0000000000000001", "name": "laptop"},
        "may_share": true, "entries": 12, "tombstones": 0, "history": 0, "recovered": 0, "members": [], "known_by": 0,
        "cursor": "c9", "newer": {},
    });
    for (key, value) in changes.as_object().unwrap() {
        journal[key] = value.clone();
    }
    journal
}
