//! A joiner, and issuers that answer as a test says, over real TLS.

use std::net::SocketAddr;
use std::sync::Mutex;

use kith_proto::control::types::Relation;
use kith_proto::id::PublicKey;
use kith_proto::limits;
use kith_proto::peer::Alpn;
use kith_proto::peer::join::payload::ticket;
use kith_proto::peer::join::{Join, JoinResult, Reason, SharingCode};
use kith_proto::peer::journal::member::{Introduction, Members, Resource};
use kith_proto::peer::journal::version::JournalId;
use kith_proto::secret_text::SecretText;
use tokio::net::TcpListener;
use tokio::time::timeout;

use super::*;
use crate::discovery::tests::{PATIENCE, settings};
use crate::sync;
use crate::tls::{Channel, Tls, channel};

/// A device that joins.
struct Joiner {
    joins: Joins,
    tasks: Tasks,
    trust: Trust,
    store: Store,
    sync: Sync,
    parts: Box<dyn Fn() -> Parts>,
    _dir: tempfile::TempDir,
}

impl Joiner {
    async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let home = dir.path();
        let (tasks, events, settings) = (Tasks::default(), Events::default(), settings(home, false));
        let identity = Identity::open(home, &home.join("kith.db"), "joiner", false).unwrap();
        let store = Store::open(&home.join("kith.db")).unwrap();
        let trust = Trust::open(store.clone(), home.join("generation")).await.unwrap();
        let tls = Tls::new(&identity, &trust).unwrap();
        let discovery = Discovery::start(&tasks, &events, &trust, &settings, &identity, 4_711);
        let dial = Dial::start(&tasks, tls, &trust, &discovery, &identity, 4_711);
        let sync = Sync::start(sync::Parts {
            data: home.to_owned(),
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
        let parts = {
            let (trust, store, sync, tasks) = (trust.clone(), store.clone(), sync.clone(), tasks.clone());
            move || Parts {
                settings: settings.clone(),
                identity: identity.clone(),
                trust: trust.clone(),
                discovery: discovery.clone(),
                dial: dial.clone(),
                sync: sync.clone(),
                events: events.clone(),
                store: store.clone(),
                tasks: tasks.clone(),
                peer_port: 4_711,
            }
        };
        let joins = Joins::start(parts()).await.unwrap();
        Self { joins, tasks, trust, store, sync, parts: Box::new(parts), _dir: dir }
    }

    fn key(&self) -> PublicKey {
        self.joins.0.identity.public()
    }

    fn begin(&self, code: &str, owner: &CancellationToken) -> Result<CodeJoin, ApiError> {
        self.joins.begin(&JoinBeginParams { code: SecretText::new(code.to_owned()) }, owner.clone())
    }

    /// Begins with a ticket, and waits until it is known what it is for.
    async fn found(&self, ticket: &str) -> String {
        let begun = self.begin(ticket, &CancellationToken::new()).unwrap();
        assert_eq!(begun.state, JoinState::Looking);
        self.becomes(&begun.join, |it| it.state == JoinState::Found).await.join
    }

    async fn confirm(&self, id: &str) -> Result<CodeJoin, ApiError> {
        self.joins.confirm(JoinConfirmParams { join: id.to_owned(), path: None }).await
    }

    /// The same, and says yes.
    async fn join(&self, ticket: &str) -> String {
        let id = self.found(ticket).await;
        assert_eq!(self.confirm(&id).await.unwrap().join, id);
        id
    }

    fn shown(&self, id: &str) -> CodeJoin {
        self.joins.list().into_iter().find(|it| it.join == id).expect("it is listed")
    }

    async fn becomes(&self, id: &str, wanted: impl Fn(&CodeJoin) -> bool) -> CodeJoin {
        let waiting = async {
            while !wanted(&self.shown(id)) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        assert!(timeout(PATIENCE, waiting).await.is_ok(), "{:?}", self.shown(id));
        self.shown(id)
    }

    async fn seeds(&self) -> usize {
        let count = |c: &rusqlite::Connection| {
            c.query_row("SELECT count(seed) FROM pending_join", [], |row| row.get::<_, usize>(0))
        };
        self.store.read(count).await.unwrap()
    }

    /// Nobody is trusted, and nothing came but what every device has.
    async fn is_untouched(&self) -> bool {
        self.trust.snapshot().devices.is_empty() && self.sync.journals().await.unwrap().len() == 1
    }

    /// Like a daemon that was killed at this moment: what is written down goes on.
    async fn restart(&mut self) {
        self.joins.0.shown.list().iter().for_each(|it| {
            self.joins.0.shown.resume(&it.join, &CancellationToken::new()).unwrap().0.cancel();
        });
        self.joins = Joins::start((self.parts)()).await.unwrap();
    }

    async fn end(self) {
        assert!(self.tasks.end(PATIENCE).await);
        assert_eq!(self.tasks.broken(), None);
    }
}

/// What an issuer answers to a device.
trait Reply: Fn(&Issuing, &PublicKey) -> Option<Vec<u8>> + Send + std::marker::Sync {}
impl<T: Fn(&Issuing, &PublicKey) -> Option<Vec<u8>> + Send + std::marker::Sync> Reply for T {}

/// A device that issued a code.
struct Issuer {
    what: Arc<Issuing>,
    tasks: Tasks,
    door: SocketAddr,
    _dir: tempfile::TempDir,
}

struct Issuing {
    identity: Arc<Identity>,
    resource: Resource,
    code: SharingCode,
    answer: Mutex<Arc<dyn Reply>>,
    /// Proven requests, and those that were not.
    asked: Mutex<(usize, usize)>,
}

impl Issuer {
    async fn new(answer: impl Reply + 'static) -> Self {
        Self::of(None, answer).await
    }

    /// Of a journal that somebody else made.
    async fn of(creator: Option<PublicKey>, answer: impl Reply + 'static) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let tasks = Tasks::default();
        let identity = Identity::open(dir.path(), &dir.path().join("kith.db"), "hub", false).unwrap();
        let store = Store::open(&dir.path().join("kith.db")).unwrap();
        let trust = Trust::open(store, dir.path().join("generation")).await.unwrap();
        let tls = Tls::new(&identity, &trust).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let door = listener.local_addr().unwrap();
        let resource = Resource {
            kind: Kind::Journal,
            name: "notes".to_owned(),
            creator: creator.unwrap_or(identity.public()),
            nonce: JournalId([4; 16]),
        };
        let answer: Arc<dyn Reply> = Arc::new(answer);
        let what = Arc::new(Issuing {
            identity,
            resource,
            code: SharingCode::from_random([5; 16]),
            answer: Mutex::new(answer),
            asked: Mutex::default(),
        });
        let (issuing, stop) = (what.clone(), tasks.stopping().clone());
        tasks.spawn("issuer", async move {
            while let Some(Ok((tcp, remote))) = stop.run_until_cancelled(listener.accept()).await {
                let Ok((_, channel)) = channel::accept(&tls, tcp, remote, |alpn| alpn == Alpn::Join).await else {
                    continue;
                };
                let _ = timeout(PATIENCE, issuing.serve(channel)).await;
            }
        });
        Self { what, tasks, door, _dir: dir }
    }

    fn payload(&self) -> Payload {
        Payload {
            addresses: vec![self.door],
            resource: self.what.resource.clone(),
            ..book::tests::payload(self.what.identity.public())
        }
    }

    fn ticket_of(&self, payload: &Payload) -> String {
        let code = &self.what.code;
        let blob = payload.seal(&code.keys(), 1_900_000_000_000, [0; 12]).unwrap();
        ticket(code, &blob).expose().clone()
    }

    fn ticket(&self) -> String {
        self.ticket_of(&self.payload())
    }

    fn answers(&self, answer: impl Reply + 'static) {
        *self.what.answer.lock().unwrap() = Arc::new(answer);
    }

    fn asked(&self) -> (usize, usize) {
        *self.what.asked.lock().unwrap()
    }

    async fn end(self) {
        self.tasks.end(PATIENCE).await;
    }
}

impl Issuing {
    async fn serve(&self, mut channel: Channel) {
        let Ok(frame) = channel.reader.frame(limits::FRAME_UNAUTHENTICATED).await else { return };
        let join = Join::decode(&frame).unwrap();
        let proven = join.is_proven(&self.identity.public(), &channel.peer, &channel.binding.exporter)
            && join.proof.0 == self.code.keys().proof.public();
        let at = if proven { 0 } else { 1 };
        {
            let mut asked = self.asked.lock().unwrap();
            if at == 0 { asked.0 += 1 } else { asked.1 += 1 }
        }
        assert_eq!((join.name.as_str(), join.port, join.resource), ("joiner", 4_711, self.resource.id()));
        let answer = self.answer.lock().unwrap().clone();
        if let Some(frame) = answer(self, &channel.peer) {
            let _ = channel.writer.send_frame(&frame).await;
        }
        channel.close().await;
    }

    /// What makes `device` a member.
    fn introduction(&self, device: &PublicKey) -> Introduction {
        let own = self.identity.public();
        let members = Members::new(self.resource.clone());
        let record = members.change(device, "joiner", false, true, &own).unwrap();
        let signature = self.identity.sign(&record.message(&self.resource.id()));
        Introduction { resource: self.resource.clone(), records: vec![record.signed(&signature)] }
    }

    fn yes(&self, reason: Reason, device: &PublicKey) -> JoinResult {
        JoinResult { introduction: Some(self.introduction(device)), ..reason.into() }
    }
}

fn ok(issuing: &Issuing, device: &PublicKey) -> Option<Vec<u8>> {
    Some(issuing.yes(Reason::Ok, device).encode())
}

#[tokio::test]
async fn a_code_leads_to_a_journal_that_is_here_and_an_issuer_that_is_a_guest() {
    let (joiner, hub) = (Joiner::new().await, Issuer::new(ok).await);
    let id = joiner.found(&hub.ticket()).await;
    let found = joiner.shown(&id);
    let (issuer, resource) = (found.issuer.clone().unwrap(), found.resource.clone().unwrap());
    assert_eq!((issuer.id, issuer.name.as_str(), issuer.trusted), (hub.what.identity.id(), "hub", false));
    assert_eq!((resource.kind.as_str(), resource.name.as_str(), resource.here), ("journal", "notes", false));
    assert_eq!((resource.label.as_str(), resource.permission.as_str()), ("notes for all", "read-write"));
    assert_eq!((found.seems_expired, found.expires.as_deref()), (false, Some("2030-03-17T17:46:40.000Z")));
    assert!(joiner.is_untouched().await && hub.asked() == (0, 0), "nobody said yes yet");

    assert!(matches!(joiner.confirm(&id).await.unwrap().state, JoinState::Joining | JoinState::Joined));
    let joined = joiner.becomes(&id, |it| it.state.is_final()).await;
    assert_eq!((joined.state, joined.result.as_deref(), &joined.reason), (JoinState::Joined, Some("ok"), &None));
    assert!(joined.resource.unwrap().here && joined.issuer.unwrap().trusted);
    assert_eq!(hub.asked(), (1, 0));
    let trust = joiner.trust.snapshot();
    let device = trust.trusted(&hub.what.identity.public()).unwrap();
    assert_eq!((device.relation, device.addresses.first()), (Relation::Guest, Some(&hub.door)));
    assert_eq!(joiner.sync.name_of(&hub.what.resource.id()).await.unwrap().as_deref(), Some("notes"));
    assert_eq!(joiner.seeds().await, 0);
    assert_eq!(joiner.joins.cancel(&id).await.unwrap_err().code, Code::WrongState);
    assert_eq!(joiner.confirm(&id).await.unwrap_err().code, Code::WrongState);
    joiner.end().await;
    hub.end().await;
}

#[tokio::test]
async fn an_impostor_gets_nothing_and_the_join_waits() {
    let (joiner, hub, other) = (Joiner::new().await, Issuer::new(ok).await, Issuer::new(ok).await);
    let id = joiner.join(&hub.ticket_of(&Payload { addresses: vec![other.door], ..hub.payload() })).await;
    let pending = joiner.becomes(&id, |it| it.result.is_some()).await;
    assert_eq!((pending.state, pending.result.as_deref()), (JoinState::Pending, Some("issuer_changed")));
    assert_eq!((pending.reason.unwrap().code.as_str(), pending.retry_at.is_some()), ("wrong_key", true));
    assert_eq!(other.asked(), (0, 0), "not a frame");
    assert!(joiner.is_untouched().await && joiner.seeds().await == 1);
    // Beside an address where nobody is, it is not known to be another device.
    let nobody = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let addresses = vec![other.door, nobody];
    joiner.joins.cancel(&id).await.unwrap();
    let id = joiner.join(&hub.ticket_of(&Payload { addresses, ..hub.payload() })).await;
    let pending = joiner.becomes(&id, |it| it.result.is_some()).await;
    assert_eq!(pending.result.as_deref(), Some("issuer_unreachable"));
    joiner.end().await;
}

#[tokio::test]
async fn what_an_issuer_says_that_does_not_hold_changes_nothing() {
    let hub = Issuer::new(ok).await;
    type Lie = fn(&Issuing, &PublicKey) -> Option<Vec<u8>>;
    let replies: [(&str, Lie); 9] = [
        ("nothing", |_, _| None),
        ("rubbish", |_, _| Some(b"\xff\x00 rubbish".to_vec())),
        ("a huge frame", |_, _| Some(vec![b' '; 1 << 20])),
        ("a reason of the future", |_, _| Some(br#"{"type":"result","reason":"tuesday"}"#.to_vec())),
        ("a yes alone", |_, _| Some(JoinResult::from(Reason::Ok).encode())),
        ("another resource", |it, device| {
            let mut yes = it.yes(Reason::Ok, device);
            yes.introduction.as_mut().unwrap().resource.name = "other".to_owned();
            Some(yes.encode())
        }),
        ("another member", |it, _| Some(it.yes(Reason::Ok, &PublicKey([3; 32])).encode())),
        ("a record that is not signed", |it, device| {
            let mut yes = it.yes(Reason::AlreadyMember, device);
            yes.introduction.as_mut().unwrap().records[0].name = "changed".to_owned();
            Some(yes.encode())
        }),
        ("a record that nobody may sign", |it, device| {
            let mut yes = it.yes(Reason::Ok, device);
            yes.introduction.as_mut().unwrap().records[0].by = *device;
            Some(yes.encode())
        }),
    ];
    for (what, reply) in replies {
        let joiner = Joiner::new().await;
        hub.answers(reply);
        let id = joiner.join(&hub.ticket()).await;
        let pending = joiner.becomes(&id, |it| it.result.is_some()).await;
        let expected = if what == "nothing" { "issuer_unreachable" } else { "unreadable" };
        assert_eq!((pending.state, pending.result.as_deref()), (JoinState::Pending, Some(expected)), "{what}");
        assert!(joiner.is_untouched().await && joiner.seeds().await == 1, "{what}");
        // It is asked again; what is right then counts.
        hub.answers(ok);
        joiner.becomes(&id, |it| it.state == JoinState::Joined).await;
        joiner.end().await;
    }
    hub.end().await;
}

#[tokio::test]
async fn an_issuer_who_may_not_let_in_lets_nobody_in() {
    // Somebody else made the journal, and named nobody.
    let (joiner, hub) = (Joiner::new().await, Issuer::of(Some(PublicKey([8; 32])), ok).await);
    let id = joiner.join(&hub.ticket()).await;
    let pending = joiner.becomes(&id, |it| it.result.is_some()).await;
    assert_eq!((pending.state, pending.result.as_deref()), (JoinState::Pending, Some("unreadable")));
    assert!(joiner.is_untouched().await);
    joiner.end().await;
    hub.end().await;
}

#[tokio::test]
async fn g75_each_refusal_is_told_exactly_and_ends_or_waits() {
    let hub = Issuer::new(ok).await;
    let joiner = Joiner::new().await;
    for reason in Reason::ALL.into_iter().filter(|reason| !reason.is_in()) {
        let at_ms = Some(1_772_496_000_000);
        let said = JoinResult { at_ms, by: Some("nas".to_owned()), retry_after: Some(600), ..reason.into() };
        let frame = said.encode();
        hub.answers(move |_, _| Some(frame.clone()));
        let id = joiner.join(&hub.ticket()).await;
        let now = joiner.becomes(&id, |it| it.result.is_some()).await;
        let expected = words::refusal(&said, "hub");
        assert_eq!((now.result.as_deref(), now.reason), (Some(reason.as_str()), Some(expected.error.into())));
        let state = if reason.is_transient() { JoinState::Pending } else { JoinState::Failed };
        assert_eq!((now.state, now.retry_at.is_some()), (state, reason.is_transient()), "{reason:?}");
        assert_eq!(joiner.seeds().await, usize::from(reason.is_transient()), "{reason:?}");
        if reason.is_transient() {
            joiner.joins.cancel(&id).await.unwrap();
        }
    }
    assert!(joiner.is_untouched().await);
    joiner.end().await;
    hub.end().await;
}

#[tokio::test]
async fn a_yes_is_trust_again_in_a_revoked_issuer_and_takes_nothing_from_an_own_device() {
    let (joiner, hub) = (Joiner::new().await, Issuer::new(ok).await);
    let key = hub.what.identity.public();
    joiner.trust.pair(key, "mine".to_owned(), Relation::Own, None).await.unwrap();
    let id = joiner.join(&hub.ticket()).await;
    joiner.becomes(&id, |it| it.state == JoinState::Joined).await;
    assert_eq!(joiner.trust.snapshot().trusted(&key).unwrap().relation, Relation::Own);
    joiner.trust.revoke(key).await.unwrap();
    hub.answers(|it, device| Some(it.yes(Reason::AlreadyMember, device).encode()));
    let id = joiner.join(&hub.ticket()).await;
    let joined = joiner.becomes(&id, |it| it.state == JoinState::Joined).await;
    assert_eq!(joined.result.as_deref(), Some("already_member"));
    assert_eq!(joiner.trust.snapshot().trusted(&key).unwrap().relation, Relation::Guest);
    joiner.end().await;
}

#[tokio::test]
async fn an_issuer_that_was_revoked_after_the_yes_is_not_trusted_again_by_it() {
    let (joiner, hub) = (Joiner::new().await, Issuer::new(|_, _| Some(JoinResult::from(Reason::Busy).encode())).await);
    let key = hub.what.identity.public();
    joiner.trust.pair(key, "mine".to_owned(), Relation::Own, None).await.unwrap();
    let id = joiner.join(&hub.ticket()).await;
    joiner.becomes(&id, |it| it.state == JoinState::Pending).await;
    joiner.trust.revoke(key).await.unwrap();
    hub.answers(ok);
    let refused = joiner.becomes(&id, |it| it.result.as_deref() == Some("ok")).await;
    assert_eq!((refused.state, refused.reason.unwrap().code.as_str()), (JoinState::Pending, "not_trusted"));
    assert!(joiner.trust.snapshot().trusted(&key).is_none());
    assert_eq!(joiner.sync.journals().await.unwrap().len(), 1, "nothing came");
    // Whoever pairs again means it.
    joiner.trust.pair(key, "mine".to_owned(), Relation::Own, None).await.unwrap();
    joiner.becomes(&id, |it| it.state == JoinState::Joined).await;
    joiner.end().await;
    hub.end().await;
}

#[tokio::test]
async fn a_pending_join_goes_on_after_a_restart_and_one_that_was_called_off_does_not() {
    let (mut joiner, hub) =
        (Joiner::new().await, Issuer::new(|_, _| Some(JoinResult::from(Reason::Busy).encode())).await);
    let id = joiner.join(&hub.ticket()).await;
    joiner.becomes(&id, |it| it.state == JoinState::Pending).await;
    joiner.restart().await;
    let kept = joiner.shown(&id);
    assert_eq!((kept.state, kept.result.as_deref()), (JoinState::Pending, Some("busy")));
    assert_eq!(kept.resource.unwrap().name, "notes");
    hub.answers(ok);
    joiner.becomes(&id, |it| it.state == JoinState::Joined).await;
    joiner.restart().await;
    let kept = joiner.shown(&id);
    assert_eq!((kept.state, kept.resource.unwrap().here), (JoinState::Joined, true));

    hub.answers(|_, _| Some(JoinResult::from(Reason::Busy).encode()));
    let id = joiner.join(&hub.ticket()).await;
    joiner.becomes(&id, |it| it.state == JoinState::Pending).await;
    let canceled = joiner.joins.cancel(&id[..6]).await.unwrap();
    assert_eq!((canceled.state, canceled.result.as_deref()), (JoinState::Canceled, Some("canceled")));
    joiner.restart().await;
    assert_eq!((joiner.shown(&id).state, joiner.seeds().await), (JoinState::Canceled, 0));
    joiner.end().await;
    hub.end().await;
}

#[tokio::test]
async fn nobody_is_asked_for_longer_than_a_day_after_the_end() {
    let mut joiner = Joiner::new().await;
    let hub = Issuer::new(|_, _| Some(JoinResult::from(Reason::ApprovalPending).encode())).await;
    let mut row = book::tests::row("0123abcd", 1);
    (row.payload, row.expires_ms) = (hub.payload(), 2);
    row.proof = Some(hub.what.code.keys().proof);
    joiner.store.write(move |tx| book::insert(tx, &row)).await.unwrap();
    joiner.restart().await;
    let over = joiner.becomes("0123abcd", |it| it.state.is_final()).await;
    assert_eq!((over.state, over.result.as_deref()), (JoinState::Failed, Some("approval_pending")));
    assert_eq!((hub.asked(), joiner.seeds().await), ((1, 0), 0), "once more, and no more");
    assert!(over.reason.unwrap().message.contains("a day after"));
    joiner.end().await;
}

#[tokio::test]
async fn the_same_code_again_goes_on_with_the_first_join() {
    let (joiner, hub) = (Joiner::new().await, Issuer::new(|_, _| None).await);
    let (first, second) = (joiner.found(&hub.ticket()).await, joiner.found(&hub.ticket()).await);
    assert_eq!(joiner.confirm(&first).await.unwrap().join, first);
    assert_eq!(joiner.confirm(&second).await.unwrap().join, first, "one asks for both");
    assert_eq!(joiner.shown(&second).state, JoinState::Canceled);
    joiner.becomes(&first, |it| it.state == JoinState::Pending).await;
    hub.answers(ok);
    let again = joiner.begin(&hub.ticket(), &CancellationToken::new()).unwrap();
    assert_eq!((again.join.as_str(), joiner.joins.list().len()), (first.as_str(), 2));
    joiner.becomes(&first, |it| it.state == JoinState::Joined).await;
    joiner.end().await;
}

#[tokio::test]
async fn what_cannot_be_joined_says_why_and_waits_for_nobody() {
    let (joiner, hub) = (Joiner::new().await, Issuer::new(ok).await);
    let owner = CancellationToken::new();
    for typo in ["", "23A0", "23A0-AJAR-58JG-K4EJ-190Y-XXVW-B80E", "kith:join/?"] {
        let error = joiner.begin(typo, &owner).unwrap_err();
        assert_eq!((error.code, parse(typo).err().map(|it| it.to_string())), (Code::InvalidParam, Some(error.message)));
    }
    assert!(joiner.joins.list().is_empty());

    let mut folder = hub.payload();
    folder.resource.kind = Kind::Unknown;
    let own = Payload { issuer: joiner.key(), ..hub.payload() };
    let permission = Payload { permission: Permission::Unknown, ..hub.payload() };
    for (payload, result, code) in [
        (folder, "unsupported", Code::ProtocolVersion),
        (permission, "unsupported", Code::ProtocolVersion),
        (own, "is_self", Code::IsSelf),
    ] {
        let begun = joiner.begin(&hub.ticket_of(&payload), &owner).unwrap();
        let failed = joiner.becomes(&begun.join, |it| it.state.is_final()).await;
        assert_eq!((failed.state, failed.result.as_deref()), (JoinState::Failed, Some(result)));
        assert_eq!(failed.reason.unwrap().code, code.as_str());
        assert_eq!(joiner.confirm(&begun.join).await.unwrap_err().code, Code::WrongState);
    }
    // A code without its payload, which this device issued: nobody has to be asked for it.
    let issued = SharingCode::from_random([9; 16]);
    let proof = issued.keys().proof.public();
    let insert = "INSERT INTO code (id, lookup, proof, owner_token, blob, label, kind, resource, name, permission, ask,
                                    created_ms, expires_ms)
                  VALUES ('0a1b2c3d', zeroblob(32), ?1, '', x'', '', 'journal', zeroblob(16), '', 'read-write', 0, 0, 0)";
    joiner.store.write(move |tx| tx.execute(insert, [proof])).await.unwrap();
    let begun = joiner.begin(issued.to_text().expose(), &owner).unwrap();
    let failed = joiner.becomes(&begun.join, |it| it.state.is_final()).await;
    assert_eq!(failed.result.as_deref(), Some("is_self"));
    // Whoever began it is gone.
    let begun = joiner.begin(&hub.ticket(), &owner).unwrap();
    joiner.becomes(&begun.join, |it| it.state == JoinState::Found).await;
    owner.cancel();
    let over = joiner.becomes(&begun.join, |it| it.state.is_final()).await;
    assert_eq!((over.state, joiner.seeds().await), (JoinState::Canceled, 0));
    // What was said yes to goes on without it.
    let owner = CancellationToken::new();
    let begun = joiner.begin(&hub.ticket(), &owner).unwrap();
    joiner.becomes(&begun.join, |it| it.state == JoinState::Found).await;
    let path = JoinConfirmParams { join: begun.join.clone(), path: Some("/tmp".to_owned()) };
    assert_eq!(joiner.joins.confirm(path).await.unwrap_err().code, Code::InvalidParam);
    hub.answers(|_, _| None);
    joiner.confirm(&begun.join).await.unwrap();
    owner.cancel();
    hub.answers(ok);
    joiner.becomes(&begun.join, |it| it.state == JoinState::Joined).await;
    joiner.end().await;
    hub.end().await;
}
