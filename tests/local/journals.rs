//! Journals as an app has them: over the control socket, and nothing assumed about when devices sync.

use std::collections::BTreeMap;

use data_encoding::BASE64;
use kith_proto::limits;
use kith_tests::door::Door;
use kith_tests::host::{self, Host};
use kith_tests::{PATIENCE, wait};
use serde_json::{Value, json};

/// The journal that every device has.
pub const DEFAULT: &str = "default";

/// What is compared between devices: every entry by its id, deletions too, without what is a device's own affair.
pub type State = BTreeMap<String, Value>;

/// One journal of a device, over a connection of its own.
pub struct App {
    pub door: Door,
    pub journal: String,
}

impl App {
    #[track_caller]
    pub fn of(host: &Host, journal: &str) -> Self {
        Self { door: host.door(), journal: journal.to_owned() }
    }

    fn params(&self, mut params: Value) -> Value {
        params["journal"] = json!(self.journal);
        params
    }

    #[track_caller]
    pub fn call(&mut self, method: &str, params: Value) -> Value {
        let params = self.params(params);
        let mut result = self.door.call(method, params);
        // Debug builds add a field now and then, for clients to pass over.
        if let Some(object) = result.as_object_mut() {
            object.remove("x_unknown");
        }
        result
    }

    #[track_caller]
    pub fn refused(&mut self, method: &str, params: Value) -> String {
        let params = self.params(params);
        self.door.refused(method, params)
    }

    /// Writes an entry; `more` has whatever else `entries.put` takes.
    #[track_caller]
    pub fn put_with(&mut self, id: &str, body: &[u8], mut more: Value) -> Value {
        more["id"] = json!(id);
        if body.len() > limits::FEED_CHUNK {
            more["staged"] = json!(self.stage(body));
        } else {
            more["body"] = json!(BASE64.encode(body));
        }
        self.call("entries.put", more)
    }

    #[track_caller]
    pub fn put(&mut self, id: &str, body: impl AsRef<[u8]>) -> Value {
        self.put_with(id, body.as_ref(), json!({}))
    }

    /// Hands a long body over; what it is called.
    #[track_caller]
    pub fn stage(&mut self, body: &[u8]) -> String {
        let mut staged = Value::Null;
        for piece in body.chunks(limits::FEED_CHUNK) {
            let mut params = json!({ "data": BASE64.encode(piece) });
            if !staged.is_null() {
                params["staged"] = staged;
            }
            staged = self.door.call("entries.stage", params)["staged"].take();
        }
        staged.as_str().expect("a name").to_owned()
    }

    #[track_caller]
    pub fn delete(&mut self, id: &str) -> Value {
        self.call("entries.delete", json!({ "id": id }))
    }

    /// An entry and its whole body, if it is there.
    #[track_caller]
    pub fn get(&mut self, id: &str) -> Option<(Value, Vec<u8>)> {
        self.get_version(json!({ "id": id }))
    }

    /// The same of the version that `params` name.
    #[track_caller]
    pub fn get_version(&mut self, params: Value) -> Option<(Value, Vec<u8>)> {
        let mut params = self.params(params);
        let mut body = Vec::new();
        loop {
            let mut result = match self.door.try_call("entries.get", params.clone()) {
                Ok(result) => result,
                Err(error) if error["data"]["code"] == "entry_not_found" => return None,
                Err(error) => panic!("entries.get {params}: {error}"),
            };
            body.extend(BASE64.decode(result["body"].as_str().expect("a text").as_bytes()).expect("base64"));
            if result["next"].is_null() {
                return Some((result["entry"].take(), body));
            }
            assert_eq!(result["next"], body.len(), "the next piece follows this one");
            params["offset"] = result["next"].take();
        }
    }

    /// The body of a live entry as a text.
    #[track_caller]
    pub fn text(&mut self, id: &str) -> Option<String> {
        let (entry, body) = self.get(id)?;
        (entry["deleted"] == false).then(|| String::from_utf8(body).expect("UTF-8"))
    }

    /// Every page of `entries.list`, by `params`: its entries, in their order.
    #[track_caller]
    pub fn list(&mut self, mut params: Value) -> Vec<Value> {
        let mut all = Vec::new();
        loop {
            let mut page = self.call("entries.list", params.clone());
            all.append(page["entries"].as_array_mut().expect("a list"));
            if page["next"].is_null() {
                return all;
            }
            params["after"] = page["next"].take();
        }
    }

    /// Everything that has to be the same on every device.
    #[track_caller]
    pub fn state(&mut self) -> State {
        let entries = self.list(json!({ "deleted": true }));
        let shared = |mut entry: Value| {
            let id = entry["id"].as_str().expect("an id").to_owned();
            entry.as_object_mut().expect("an object").remove("seq");
            (id, entry)
        };
        entries.into_iter().map(shared).collect()
    }

    /// The ids of what is live.
    #[track_caller]
    pub fn ids(&mut self) -> Vec<String> {
        let entries = self.list(json!({}));
        let mut ids: Vec<String> = entries.iter().filter_map(|it| it["id"].as_str().map(str::to_owned)).collect();
        ids.sort();
        ids
    }

    /// The texts of versions that are kept of an entry, sorted.
    #[track_caller]
    pub fn history(&mut self, id: &str) -> Vec<String> {
        let kept = self.call("entries.history", json!({ "id": id }));
        let hashes = kept["versions"].as_array().expect("a list").iter().map(|it| it["hash"].clone());
        let mut texts: Vec<String> = hashes
            .map(|hash| {
                let (entry, body) = self.get_version(json!({ "id": id, "version": hash })).expect("it is kept");
                if entry["deleted"] == true { "(deleted)".to_owned() } else { String::from_utf8_lossy(&body).into() }
            })
            .collect();
        texts.sort();
        texts
    }

    /// Waits until the live entry `id` has this text.
    #[track_caller]
    pub fn wait_text(&mut self, id: &str, text: &str) {
        let mut last = None;
        let there = wait::attempt(2 * PATIENCE, || {
            last = self.text(id);
            (last.as_deref() == Some(text)).then_some(())
        });
        assert!(there.is_some(), "{id} never became {text:?}; last: {last:?}");
    }

    /// Waits until the entry `id` is deleted.
    #[track_caller]
    pub fn wait_deleted(&mut self, id: &str) {
        wait::until_true("a deletion to arrive", 2 * PATIENCE, || {
            self.get(id).is_some_and(|(entry, _)| entry["deleted"] == true)
        });
    }
}

/// The journal's object; nothing where it is not listed.
#[track_caller]
pub fn journal(host: &Host, name: &str) -> Option<Value> {
    let list = host.door().call("journals.list", json!({}));
    list["journals"].as_array().expect("a list").iter().find(|it| it["name"] == name || it["id"] == name).cloned()
}

/// Waits until the journal is listed and `wanted` holds for it.
#[track_caller]
pub fn wait_journal(host: &Host, name: &str, wanted: impl Fn(&Value) -> bool) -> Value {
    let mut last = None;
    let found = wait::attempt(2 * PATIENCE, || {
        last = journal(host, name);
        last.clone().filter(|it| wanted(it))
    });
    found.unwrap_or_else(|| panic!("{}: {name} never became so; last: {last:?}", host.name()))
}

/// Waits until the journal has `state`.
#[track_caller]
pub fn wait_state(host: &Host, name: &str, state: &str) -> Value {
    wait_journal(host, name, |it| it["state"] == state)
}

/// `kithctl sync PEER`: when this returns, a session has ended that began after the call.
#[track_caller]
pub fn sync(host: &Host, peer: &Host) {
    let done = wait::attempt(2 * PATIENCE, || {
        // A session that was cut or called off before is tried again.
        let output = host.ctl(&["sync", peer.name(), "--json"]);
        (output.status == 0).then_some(())
    });
    assert!(done.is_some(), "{} never synced with {}", host.name(), peer.name());
}

/// Waits until all of them have the same in `journal`, and `count` entries that live; what that is.
#[track_caller]
pub fn wait_same(hosts: &[&Host], journal: &str, count: usize) -> State {
    let mut apps: Vec<App> = hosts.iter().map(|host| App::of(host, journal)).collect();
    let mut last = Vec::new();
    let same = wait::attempt(3 * PATIENCE, || {
        last = apps.iter_mut().map(App::state).collect();
        let live = last[0].values().filter(|entry| entry["deleted"] == false).count();
        (live == count && last.iter().all(|state| *state == last[0])).then(|| last[0].clone())
    });
    same.unwrap_or_else(|| {
        let live = |state: &State| state.values().filter(|entry| entry["deleted"] == false).count();
        let differ = last[0].iter().find(|(id, entry)| last.iter().any(|other| other.get(*id) != Some(*entry)));
        let lives: Vec<usize> = last.iter().map(live).collect();
        panic!("{journal} never became the same with {count} entries: {lives:?} live, for example {differ:?}")
    })
}

/// What `kithctl entries export` says, sorted.
#[track_caller]
pub fn export(host: &Host, journal: &str) -> Vec<String> {
    let output = host.ctl(&["entries", "export", journal, "--json"]).ok();
    let mut lines: Vec<String> = output.stdout.lines().map(str::to_owned).collect();
    lines.sort();
    lines
}

/// Three devices: Anna, paired with both others, who are paired with each other only if `all`.
#[track_caller]
pub fn three(all: bool) -> (Host, Host, Host) {
    let (anna, bert, carl) = (Host::running("anna"), Host::running("bert"), Host::running("carl"));
    host::pair(&bert, &anna);
    host::pair(&carl, &anna);
    if all {
        host::pair(&carl, &bert);
    }
    (anna, bert, carl)
}

/// Each of the two does something while the other one does not run; then both run.
#[track_caller]
pub fn apart(anna: &mut Host, bert: &mut Host, by_anna: impl FnOnce(&Host), by_bert: impl FnOnce(&Host)) {
    bert.stop();
    by_anna(anna);
    anna.stop();
    bert.start();
    by_bert(bert);
    anna.start();
}
