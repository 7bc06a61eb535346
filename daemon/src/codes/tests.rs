//! An issuer with a real database, and joiners with real keys.

mod decisions;
mod door;
mod people;
mod stores;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Mutex;

use ed25519_dalek::SigningKey;
use kith_proto::control::code::{CodeApproval, CodeIssueParams, CodeIssueResult, IssuedCode};
use kith_proto::control::{ApiError, Code as ErrorCode};
use kith_proto::id::PublicKey;
use kith_proto::peer::join::{Join, JoinResult, Payload, Reason, SharingCode};
use kith_proto::peer::journal::version::JournalId;
use rusqlite::Connection;

use super::accept::{Ground, Knock};
use super::publish::{Answer, Pace, Parcel, Setback, Stores, Work};
use super::*;
use crate::discovery::tests::{PATIENCE, settings};
use crate::tls::Tls;
use crate::{hello_store, sync};

/// A store, and a name there.
type Place = (String, [u8; 32]);

/// An hour is half a second here.
const HASTE: Pace = Pace {
    again: Duration::from_millis(500),
    setback: Duration::from_millis(20),
    spread: Duration::from_millis(20),
    look: Duration::from_millis(5),
};

/// What the fake stores have, and how they answer.
#[derive(Default)]
pub struct Fake {
    kept: Mutex<BTreeMap<Place, Vec<u8>>>,
    /// What a store says instead of doing anything.
    setbacks: Mutex<BTreeMap<String, ErrorCode>>,
    /// Every question.
    asked: Mutex<Vec<(String, Work)>>,
}

impl Stores for Fake {
    fn ask<'a>(&'a self, store: &'a str, work: Work, parcel: &'a Parcel) -> Answer<'a> {
        self.asked.lock().unwrap().push((store.to_owned(), work));
        let outcome = match self.setbacks.lock().unwrap().get(store) {
            Some(code) => Err(Setback { why: ApiError::new(*code, "on purpose"), retry_after: None }),
            None => {
                let (mut kept, key) = (self.kept.lock().unwrap(), (store.to_owned(), parcel.lookup.0));
                match work {
                    Work::Put => drop(kept.insert(key, parcel.blob.clone())),
                    Work::Withdraw => drop(kept.remove(&key)),
                }
                Ok(())
            }
        };
        Box::pin(async move { outcome })
    }
}

struct Host {
    codes: Codes,
    sync: Sync,
    trust: Trust,
    store: Store,
    hello: Hello,
    events: Events,
    tasks: Tasks,
    identity: Arc<Identity>,
    tls: Tls,
    fake: Arc<Fake>,
    database: PathBuf,
    _dir: tempfile::TempDir,
}

/// An issuer that has the journal `trip`.
async fn host(stores: &[&str]) -> Host {
    let dir = tempfile::tempdir().unwrap();
    let (tasks, events) = (Tasks::default(), Events::default());
    let database = dir.path().join("kith.db");
    let identity = Identity::open(dir.path(), &database, "issuer", false).unwrap();
    let store = Store::open(&database).unwrap();
    let trust = Trust::open(store.clone(), dir.path().join("generation")).await.unwrap();
    let tls = Tls::new(&identity, &trust).unwrap();
    let mut settings = settings(dir.path(), false);
    settings.config.hello.stores = stores.iter().map(|store| (*store).to_owned()).collect();
    let discovery = Discovery::start(&tasks, &events, &trust, &settings, &identity, 44_000);
    let dial = Dial::start(&tasks, tls.clone(), &trust, &discovery, &identity, 44_000);
    let sync = Sync::start(sync::Parts {
        data: dir.path().to_owned(),
        identity: identity.clone(),
        trust: trust.clone(),
        discovery: discovery.clone(),
        dial: dial.clone(),
        events: events.clone(),
        store: store.clone(),
        tasks: tasks.clone(),
    })
    .await
    .unwrap();
    sync.create("trip".to_owned()).await.unwrap();
    let config = settings.config.hello.clone();
    let hello = Hello::open(hello_store::Parts { data: dir.path().to_owned(), config, tasks: tasks.clone() }).unwrap();
    let fake = Arc::new(Fake::default());
    let parts = Parts {
        settings,
        identity: identity.clone(),
        trust: trust.clone(),
        discovery,
        dial,
        hello: hello.clone(),
        sync: sync.clone(),
        events: events.clone(),
        store: store.clone(),
        tasks: tasks.clone(),
        peer_port: 44_000,
    };
    let codes = Codes::begin(parts, fake.clone(), HASTE);
    Host { codes, sync, trust, store, hello, events, tasks, identity, tls, fake, database, _dir: dir }
}

/// A code for `trip` that asks nobody.
fn terms(uses: u32) -> CodeIssueParams {
    CodeIssueParams {
        kind: "journal".to_owned(),
        resource: "trip".to_owned(),
        uses: Some(uses),
        seconds: None,
        approval: Some(CodeApproval::Auto),
        label: None,
    }
}

impl Host {
    async fn issue(&self, uses: u32) -> Code {
        self.issued(terms(uses)).await
    }

    async fn issued(&self, params: CodeIssueParams) -> Code {
        Code::read(self.codes.issue(params).await.unwrap())
    }

    /// As if a device came over a connection of its own.
    async fn join(&self, code: &Code, joiner: &Joiner) -> JoinResult {
        self.codes.0.knock(joiner.knock(self, code)).await.expect("there is room")
    }

    async fn reason(&self, code: &Code, joiner: &Joiner) -> Reason {
        self.join(code, joiner).await.reason
    }

    /// What is decided on all of them together, at another time.
    async fn decide_at(&self, now_ms: i64, knocks: Vec<Knock>) -> Vec<JoinResult> {
        let sync = self.sync.clone();
        let decided = self
            .trust
            .write(move |tx, changes| Ground { tx, changes, sync: &sync, now_ms }.decide(&knocks))
            .await
            .unwrap();
        decided.into_iter().map(|verdict| verdict.result).collect()
    }

    async fn reason_at(&self, now_ms: i64, code: &Code, joiner: &Joiner) -> Reason {
        self.decide_at(now_ms, vec![joiner.knock(self, code)]).await[0].reason
    }

    async fn shown(&self, code: &Code) -> IssuedCode {
        self.codes.show(code.id.clone()).await.unwrap().issued
    }

    /// Counted in the file, by somebody who was not there when it was written.
    fn count(&self, sql: &str) -> u32 {
        Connection::open(&self.database).unwrap().query_row(sql, [], |row| row.get(0)).unwrap()
    }

    /// Redemptions, uses, members, and trusted devices.
    fn totals(&self) -> [u32; 4] {
        [
            self.count("SELECT count(*) FROM redemption"),
            self.count("SELECT coalesce(sum(used), 0) FROM code"),
            self.count("SELECT count(*) FROM journal_member"),
            self.count("SELECT count(*) FROM device WHERE revoked_ms IS NULL"),
        ]
    }

    async fn end(self) {
        assert!(self.tasks.end(PATIENCE).await);
        assert_eq!(self.tasks.broken(), None);
    }
}

/// A code, as whoever was given it has it.
struct Code {
    id: String,
    secret: SharingCode,
    payload: Payload,
    blob: Vec<u8>,
}

impl Code {
    fn read(result: CodeIssueResult) -> Self {
        let (secret, blob) = kith_proto::peer::join::payload::parse(result.ticket.expose()).unwrap();
        let (typed, _) = kith_proto::peer::join::payload::parse(result.code.expose()).unwrap();
        assert_eq!(typed.keys().lookup, secret.keys().lookup);
        let blob = blob.unwrap();
        let payload = Payload::open(&blob, &secret.keys()).unwrap().0;
        Self { id: result.issued.id, secret, payload, blob }
    }

    fn resource(&self) -> JournalId {
        self.payload.resource.id()
    }
}

/// A device that joins.
struct Joiner {
    key: PublicKey,
    name: String,
}

fn joiner(number: u32) -> Joiner {
    let mut seed = [7; 32];
    seed[..4].copy_from_slice(&number.to_be_bytes());
    let key = PublicKey(SigningKey::from_bytes(&seed).verifying_key().to_bytes());
    Joiner { key, name: format!("joiner {number}") }
}

impl Joiner {
    fn knock(&self, host: &Host, code: &Code) -> Knock {
        let (issuer, exporter) = (host.identity.public(), [3; 32]);
        let proof = code.secret.keys().proof;
        let join = Join::new(&proof, code.resource(), &issuer, &self.key, &exporter, self.name.clone(), 44_001);
        Knock {
            device: self.key,
            address: Some("127.0.0.1:44001".parse().unwrap()),
            name: join.name.clone(),
            resource: join.resource,
            proof: join.proof.0,
            proven: join.is_proven(&issuer, &self.key, &exporter),
        }
    }
}
