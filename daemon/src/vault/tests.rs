use std::collections::BTreeMap;

use kith_proto::control::credential::{
    Action, DatabaseAddParams, ImportParams, Resolve, SavedResult, SecretAddParams, SecretChoice, SecretEditParams,
    SecretParams, ShareKind, ShareSaveParams, ShareSendParams, VaultMode, VaultState,
};
use kith_proto::credential::payload::Payload;
use kith_proto::credential::{DatabaseFields, NamedSecret, SecretType, Slot};
use kith_proto::limits;
use kith_proto::secret_text::SecretText;
use proptest::prelude::*;
use tokio::time::{advance, pause};

use super::*;

/// An Ed25519 key of no use (RFC 8410 §10.3).
const PEM: &str = "-----BEGIN PRIVATE KEY-----\n\
    MC4CAQAwBQYDK2VwBCIEINTuctv5E1hK1bbY8fdp+K06/nwoy/HU++CXqI9EdVhC\n\
    -----END PRIVATE KEY-----\n";

async fn vault(dir: &std::path::Path, idle: Option<Duration>) -> Vault {
    let store = Store::open(&dir.join("kith.db")).unwrap();
    let (events, tasks) = (Events::default(), Tasks::default());
    Vault::open(Parts { data: dir.to_owned(), credential: None, idle, store, events, tasks }).await.unwrap()
}

fn text(text: &str) -> SecretText {
    SecretText::new(text.to_owned())
}

fn plain(name: &str, value: &str) -> SecretAddParams {
    SecretAddParams { name: name.to_owned(), kind: SecretType::Plain, value: text(value) }
}

async fn value(vault: &Vault, name: &str) -> Result<String, Code> {
    let view = vault.secret(SecretParams { name: name.to_owned() }).await.map_err(|error| error.code)?;
    Ok(view.value.expose().to_owned())
}

fn passphrases(current: Option<&str>, new: Option<&str>) -> PassphraseParams {
    PassphraseParams { current: current.map(text), new: new.map(text) }
}

fn with(passphrase: &str) -> UnlockParams {
    UnlockParams { passphrase: Some(text(passphrase)) }
}

/// The clock stands still, except where a test moves it: a runtime that waits for the database would move it, too.
fn stand_still() -> std::sync::mpsc::SyncSender<()> {
    let (over, wait) = std::sync::mpsc::sync_channel::<()>(0);
    drop(tokio::task::spawn_blocking(move || wait.recv()));
    pause();
    over
}

#[tokio::test]
async fn a_vault_that_is_not_used_locks_itself() {
    let dir = tempfile::tempdir().unwrap();
    let vault = vault(dir.path(), Some(Duration::from_secs(900))).await;
    vault.add_secret(plain("a", "x")).await.unwrap();
    let _over = stand_still();
    let minutes = |n: u64| Duration::from_secs(60 * n);

    advance(minutes(60)).await;
    assert_eq!(vault.status().await.unwrap().state, VaultState::Unlocked, "a key file protects from nobody nearby");
    let status = vault.passphrase(passphrases(None, Some("p"))).await.unwrap();
    assert_eq!((status.state, status.idle_minutes), (VaultState::Unlocked, Some(15)));
    for _ in 0..3 {
        advance(minutes(14)).await;
        assert_eq!(value(&vault, "a").await.unwrap(), "x", "each use puts it off");
    }
    let mut facts = vault.lock.events().reader(vault.lock.events().cursor());
    advance(minutes(14)).await;
    vault.status().await.unwrap();
    vault.secrets().await.unwrap();
    advance(minutes(1) + Duration::from_secs(1)).await;
    let crate::event::Read::Fact(event) = facts.next().await else { panic!("a fact") };
    assert_eq!((event.kind.as_str(), &event.data["state"]), ("vault:updated", &"locked".into()));
    assert_eq!(value(&vault, "a").await, Err(Code::VaultLocked), "looking at its state is no use of it");

    vault.unlock(with("p")).await.unwrap();
    vault.lock().await.unwrap();
    vault.unlock(with("p")).await.unwrap();
    advance(minutes(14)).await;
    assert_eq!(value(&vault, "a").await.unwrap(), "x");
    vault.passphrase(passphrases(Some("p"), None)).await.unwrap();
    advance(minutes(60)).await;
    assert_eq!(vault.status().await.unwrap().state, VaultState::Unlocked);
}

#[tokio::test]
async fn h81_a_passphrase_that_was_changed_half_way_opens_with_one_of_the_two() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("vault.key");
    let again = || async { vault(dir.path(), None).await };
    let first = again().await;
    first.add_secret(plain("a", "x")).await.unwrap();
    let key = std::fs::read(&file).unwrap();

    // To a passphrase: written, the file not yet removed.
    first.passphrase(passphrases(None, Some("one"))).await.unwrap();
    assert!(!file.exists());
    drop(first);
    crate::files::create_private(&file, &key).unwrap();
    let second = again().await;
    assert!(!file.exists(), "the old key is removed");
    assert_eq!(second.status().await.unwrap().state, VaultState::Locked, "a restart keeps it locked");
    assert_eq!(value(&second, "a").await, Err(Code::VaultLocked));
    assert_eq!(second.unlock(with("two")).await.unwrap_err().code, Code::WrongPassphrase);
    assert_eq!(second.unlock(UnlockParams::default()).await.unwrap_err().code, Code::InvalidParam);
    drop(second);

    // Back to a file: the new key is there, the row is not yet written. To whoever starts, it may as well be the key of
    // another database, which is put back later.
    crate::files::create_private(&file, &[7; 32]).unwrap();
    let third = again().await;
    third.unlock(with("one")).await.unwrap();
    assert_eq!(value(&third, "a").await.unwrap(), "x");
    let back = third.passphrase(passphrases(Some("one"), None)).await.unwrap();
    assert_eq!((back.state, back.mode), (VaultState::Unlocked, Some(VaultMode::File)));
    assert_eq!(std::fs::read(&file).unwrap(), [7; 32], "no key is ever overwritten");
    drop(third);
    assert_eq!(value(&again().await, "a").await.unwrap(), "x");
}

#[tokio::test]
async fn h79_of_a_key_that_was_replaced_nothing_is_left() {
    let dir = tempfile::tempdir().unwrap();
    let vault = vault(dir.path(), None).await;
    vault.add_secret(plain("a", "x")).await.unwrap();
    let found = |wanted: &[u8]| {
        let files = std::fs::read_dir(dir.path()).unwrap().map(|entry| std::fs::read(entry.unwrap().path()).unwrap());
        files.filter(|bytes| bytes.windows(wanted.len()).any(|window| window == wanted)).count()
    };
    let wrapped = || vault.store.read(|c| c.query_row("SELECT wrapped FROM vault", [], |row| row.get::<_, Vec<u8>>(0)));
    let mut old = wrapped().await.unwrap();
    assert!(found(&old) > 0, "it is where it is looked for");
    for (current, new) in [(None, Some("one")), (Some("one"), Some("two")), (Some("two"), None)] {
        vault.passphrase(passphrases(current, new)).await.unwrap();
        assert_eq!(found(&old), 0, "{new:?}");
        old = wrapped().await.unwrap();
    }
}

#[tokio::test]
async fn a_credential_of_the_service_manager_goes_before_a_file() {
    let dir = tempfile::tempdir().unwrap();
    let credential = dir.path().join("kith-vault-key");
    let given = |length: usize| {
        let _ = std::fs::remove_file(&credential);
        crate::files::create_private(&credential, &vec![7; length]).unwrap();
    };
    let open = |path: Option<PathBuf>| async {
        let store = Store::open(&dir.path().join("kith.db")).unwrap();
        let (events, tasks, data) = (Events::default(), Tasks::default(), dir.path().to_owned());
        Vault::open(Parts { data, credential: path, idle: None, store, events, tasks }).await.unwrap()
    };
    given(32);
    let vault = open(Some(credential.clone())).await;
    vault.add_secret(plain("a", "x")).await.unwrap();
    assert_eq!(vault.status().await.unwrap().mode, Some(VaultMode::Credential));
    assert!(!dir.path().join("vault.key").exists());
    for length in [31, 33, 0] {
        given(length);
        assert_eq!(value(&open(Some(credential.clone())).await, "a").await, Err(Code::VaultUnusable), "{length} bytes");
    }
    let without = open(None).await;
    assert_eq!(value(&without, "a").await, Err(Code::VaultUnusable));
    assert_eq!(without.add_secret(plain("b", "x")).await.unwrap_err().code, Code::VaultUnusable);
    let status = without.status().await.unwrap();
    assert_eq!((status.state, status.reason.unwrap().code.as_str()), (VaultState::Unusable, "vault_unusable"));
    given(32);
    let vault = open(Some(credential.clone())).await;
    vault.passphrase(passphrases(None, Some("p"))).await.unwrap();
    vault.passphrase(passphrases(Some("p"), None)).await.unwrap();
    assert_eq!(vault.status().await.unwrap().mode, Some(VaultMode::Credential));
    assert_eq!(value(&open(Some(credential.clone())).await, "a").await.unwrap(), "x");
}

#[tokio::test]
async fn what_was_handed_over_waits_sealed() {
    let dir = tempfile::tempdir().unwrap();
    let vault = vault(dir.path(), None).await;
    let (anna, bert) = (PublicKey([1; 32]), PublicKey([2; 32]));
    let secret = |name: &str| {
        Arc::new(Payload::Secret(NamedSecret { name: name.to_owned(), kind: SecretType::Plain, value: text("v") }))
    };
    for i in 0..limits::SHARES_WAITING {
        vault.keep_offered(&format!("s{i}"), anna, &secret(&format!("n{i}"))).await.unwrap();
    }
    assert_eq!(vault.keep_offered("more", anna, &secret("n")).await.unwrap_err().code, Code::Quota);
    vault.keep_offered("more", bert, &secret("n")).await.unwrap();
    assert_eq!(vault.keep_offered("more", bert, &secret("n")).await.unwrap_err().code, Code::WrongState);
    vault.lock().await.unwrap();
    let waiting = vault.offered().await.unwrap();
    assert_eq!(waiting.len(), limits::SHARES_WAITING + 1);
    assert_eq!((waiting[0].id.as_str(), waiting[0].peer, waiting[0].kind), ("s0", anna, ShareKind::Secret));
    assert_eq!(vault.open_offered("s0").await.unwrap_err().code, Code::VaultLocked);
    assert_eq!(vault.keep_offered("x", bert, &secret("n")).await.unwrap_err().code, Code::VaultLocked);
    vault.unlock(UnlockParams::default()).await.unwrap();

    let payload = vault.open_offered("s0").await.unwrap();
    vault.save(&payload, &ShareSaveParams::default(), Some("s0")).await.unwrap();
    assert_eq!(value(&vault, "n0").await.unwrap(), "v");
    assert_eq!(vault.open_offered("s0").await.unwrap_err().code, Code::ShareNotFound);
    let twice = vault.save(&payload, &ShareSaveParams::default(), Some("s0")).await;
    assert_eq!(twice.unwrap_err().code, Code::ShareNotFound);
    // What fails leaves it where it is.
    let other = Payload::Secret(NamedSecret { name: "n1".into(), kind: SecretType::Plain, value: text("other") });
    assert_eq!(
        vault.save(&Arc::new(other), &ShareSaveParams::default(), Some("s1")).await.map(|_| ()).map_err(|e| e.code),
        Ok(()),
    );
    let error = vault.save(&secret("n1"), &ShareSaveParams::default(), Some("s2")).await.unwrap_err();
    assert_eq!(error.code, Code::NameTaken);
    assert!(vault.open_offered("s2").await.is_ok());
    assert!(vault.drop_offered("s2").await.unwrap());
    assert!(!vault.drop_offered("s2").await.unwrap());

    // Swapped payloads do not open.
    vault.store.write(|tx| tx.execute("UPDATE share_inbox SET peer = ?1 WHERE id = 's3'", [[2u8; 32]])).await.unwrap();
    assert_eq!(vault.open_offered("s3").await.unwrap_err().code, Code::VaultUnusable);
}

#[tokio::test]
async fn a_database_is_handed_over_as_the_sender_wants_it() {
    let dir = tempfile::tempdir().unwrap();
    let vault = vault(dir.path(), None).await;
    let import = ImportParams {
        secrets: vec![
            SecretAddParams { name: "key".into(), kind: SecretType::EncryptionKey, value: text(PEM) },
            SecretAddParams { name: "geo".into(), kind: SecretType::ApiKey, value: text("GK") },
        ],
        databases: vec![DatabaseAddParams {
            name: "Photos".into(),
            description: "ours".into(),
            path: "/photos".into(),
            encryption: Some("KEY".into()),
            geocoding: Some("geo".into()),
            ..DatabaseAddParams::default()
        }],
        on_conflict: Resolve::Fail,
    };
    vault.import(import).await.unwrap();
    let send = |secrets: Option<Vec<Slot>>| ShareSendParams {
        kind: ShareKind::Database,
        name: "photos".into(),
        to: None,
        rename: Some("Theirs".into()),
        description: None,
        path: Some("/theirs".into()),
        secrets,
        compat: false,
        detach: false,
    };
    let json = |payload: Payload| serde_json::from_slice::<serde_json::Value>(&payload.encode()).unwrap();
    let all = json(vault.payload(&send(None)).await.unwrap());
    assert_eq!(all["name"], "Theirs");
    assert_eq!((&all["description"], &all["path"]), (&"ours".into(), &"/theirs".into()));
    assert_eq!((&all["encryptionKey"]["privateKeyPem"], &all["geocodingKey"]["apiKey"]), (&PEM.into(), &"GK".into()));
    let some = json(vault.payload(&send(Some(vec![Slot::Geocoding]))).await.unwrap());
    assert!(some.get("encryptionKey").is_none() && some.get("geocodingKey").is_some());
    assert_eq!(vault.payload(&send(Some(vec![Slot::S3]))).await.unwrap_err().code, Code::InvalidParam);
    let nameless = ShareSendParams { name: "x".into(), ..send(None) };
    assert_eq!(vault.payload(&nameless).await.unwrap_err().code, Code::DatabaseNotFound);
    let secret = ShareSendParams { kind: ShareKind::Secret, name: "GEO".into(), path: None, ..send(None) };
    assert_eq!(json(vault.payload(&secret).await.unwrap())["name"], "Theirs");
    let secret = ShareSendParams { path: Some("/x".into()), ..secret };
    assert_eq!(vault.payload(&secret).await.unwrap_err().code, Code::InvalidParam);
    vault.lock().await.unwrap();
    assert_eq!(vault.payload(&send(None)).await.unwrap_err().code, Code::VaultLocked);
    vault.payload(&send(Some(Vec::new()))).await.unwrap();
}

#[tokio::test]
async fn h81_a_row_that_was_changed_does_not_open_and_the_others_do() {
    let dir = tempfile::tempdir().unwrap();
    let vault = vault(dir.path(), None).await;
    for name in ["a", "b", "c", "d", "e"] {
        vault.add_secret(plain(name, name)).await.unwrap();
    }
    let sql = "UPDATE secret SET sealed = (SELECT sealed FROM secret WHERE name = 'b') WHERE name = 'a';
        UPDATE secret SET type = 'api-key' WHERE name = 'b';
        UPDATE secret SET name = 'x', folded = 'x' WHERE name = 'c';
        UPDATE secret SET revision = 2 WHERE name = 'd';";
    vault.store.write(|tx| tx.execute_batch(sql)).await.unwrap();
    for name in ["a", "b", "x", "d"] {
        let error = vault.secret(SecretParams { name: name.to_owned() }).await.unwrap_err();
        assert_eq!(error.code, Code::VaultUnusable);
        assert!(error.message.contains(&format!(" {name} ")), "{error}");
    }
    assert_eq!(value(&vault, "e").await.unwrap(), "e");
    let edit = |name: &str, new: Option<&str>| SecretEditParams {
        name: name.to_owned(),
        rename: Some(format!("{name}{name}")),
        kind: None,
        value: new.map(text),
    };
    assert_eq!(vault.edit_secret(edit("a", None)).await.unwrap_err().code, Code::VaultUnusable);
    vault.edit_secret(edit("a", Some("new"))).await.unwrap();
    assert_eq!(value(&vault, "aa").await.unwrap(), "new", "a value given anew heals it");
    let arrives = |value: &str| {
        Arc::new(Payload::Secret(NamedSecret { name: "d".into(), kind: SecretType::Plain, value: text(value) }))
    };
    let how = |on_conflict| ShareSaveParams { on_conflict, ..ShareSaveParams::default() };
    let reused = vault.save(&arrives("d"), &how(Resolve::Reuse), None).await;
    assert_eq!(reused.unwrap_err().code, Code::VaultUnusable);
    vault.save(&arrives("d"), &how(Resolve::Replace), None).await.unwrap();
    assert_eq!(value(&vault, "d").await.unwrap(), "d");
}

// ---- saving, against what must hold

const NAMES: [&str; 4] = ["a", "A", "b", "a (2)"];

fn secret_of(kind: SecretType, name: usize, value: usize) -> NamedSecret {
    let other = value == 1;
    let value = match kind {
        SecretType::S3Credentials => {
            format!(r#"{{"region":"r{value}","accessKeyId":"a","secretAccessKey":"s"}}"#)
        }
        SecretType::EncryptionKey if other => PEM.replace("E1hK", "E1hL"),
        SecretType::EncryptionKey => PEM.to_owned(),
        _ => format!("v{value}"),
    };
    NamedSecret { name: NAMES[name].to_owned(), kind, value: SecretText::new(value) }
}

prop_compose! {
    fn arrives()(
        kind in 0usize..6, name in 0usize..4, path in 0usize..2,
        slots in prop::collection::vec((any::<bool>(), 0usize..4, 0usize..2), 3), value in 0usize..2,
    ) -> Payload {
        if let Some(kind) = SecretType::ALL.get(kind) {
            return Payload::Secret(secret_of(*kind, name, value));
        }
        let fields = DatabaseFields {
            name: NAMES[name].to_owned(), description: String::new(), path: format!("/{path}"), origin: None,
        };
        let secrets = Slot::ALL.into_iter().zip(slots).filter(|(_, (there, _, _))| *there);
        let secrets = secrets.map(|(slot, (_, name, value))| (slot, secret_of(slot.secret_type(), name, value)));
        Payload::Database { fields, secrets: secrets.collect() }
    }
}

fn resolve() -> impl Strategy<Value = Resolve> {
    prop::sample::select(vec![Resolve::Reuse, Resolve::Replace, Resolve::Rename, Resolve::Fail])
}

prop_compose! {
    fn choices()(
        name in prop::option::of(0usize..4), on_conflict in resolve(),
        secrets in prop::collection::vec(prop::option::of((any::<bool>(), prop::option::of(0usize..4),
            prop::option::of(resolve()))), 3),
    ) -> ShareSaveParams {
        let named = |at: usize| NAMES[at].to_owned();
        let secrets = Slot::ALL.into_iter().zip(secrets).filter_map(|(slot, choice)| {
            let (include, name, on_conflict) = choice?;
            Some(SecretChoice { slot, include, name: name.map(named), on_conflict })
        });
        ShareSaveParams { name: name.map(named), on_conflict, secrets: secrets.collect(), ..Default::default() }
    }
}

/// Everything that is there: by folded name, type and value; and fields and links.
type Secrets = BTreeMap<String, (SecretType, String)>;
type Databases = BTreeMap<String, kith_proto::control::credential::Database>;

async fn all(vault: &Vault) -> (Secrets, Databases) {
    let mut secrets = BTreeMap::new();
    for secret in vault.secrets().await.unwrap().secrets {
        let value = value(vault, &secret.name).await.unwrap();
        secrets.insert(text::fold(&secret.name), (secret.kind, value));
    }
    let databases = vault.databases().await.unwrap().databases;
    (secrets, databases.into_iter().map(|it| (text::fold(&it.name), it)).collect())
}

fn holds(
    payload: &Payload,
    choices: &ShareSaveParams,
    saved: &SavedResult,
    before: &(Secrets, Databases),
    after: &(Secrets, Databases),
) {
    let fold = text::fold;
    let choice = |slot: &Slot| choices.secrets.iter().find(|choice| choice.slot == *slot);
    let came: Vec<(Option<Slot>, &NamedSecret)> = match payload {
        Payload::Secret(secret) => vec![(None, secret)],
        Payload::Database { secrets, .. } => secrets
            .iter()
            .filter(|(slot, _)| choice(slot).is_none_or(|choice| choice.include))
            .map(|(slot, secret)| (Some(*slot), secret))
            .collect(),
    };
    assert_eq!(saved.secrets.len(), came.len());
    let mut replaced = Vec::new();
    let mut added = 0;
    for ((slot, secret), outcome) in came.iter().zip(&saved.secrets) {
        let now = &after.0[&fold(&outcome.name)];
        let own = slot.as_ref().and_then(|slot| choice(slot)?.on_conflict);
        match outcome.action {
            Action::Reused => {
                assert_eq!(Some(now), before.0.get(&fold(&outcome.name)));
                assert_eq!(now.0, secret.kind);
            }
            _ => assert_eq!((now.0, now.1.as_str()), (secret.kind, secret.value.expose())),
        }
        match outcome.action {
            Action::Saved | Action::Renamed => {
                added += 1;
                assert!(!before.0.contains_key(&fold(&outcome.name)));
            }
            Action::Replaced => {
                replaced.push(fold(&outcome.name));
                assert_eq!(own.unwrap_or(choices.on_conflict), Resolve::Replace);
            }
            Action::Reused => assert_eq!(own.unwrap_or(choices.on_conflict), Resolve::Reuse),
            Action::Equal | Action::Unknown => {}
        }
        if let Some(slot) = slot {
            let database = &after.1[&fold(&saved.databases[0].name)];
            assert_eq!(database.secret(*slot), Some(outcome.name.as_str()), "linked under the name that it got");
        }
    }
    assert_eq!(after.0.len(), before.0.len() + added);
    for (name, secret) in before.0.iter().filter(|(name, _)| !replaced.contains(name)) {
        assert_eq!(after.0.get(name), Some(secret), "{name} is lost");
    }
    for database in after.1.values() {
        for slot in Slot::ALL {
            let linked = database.secret(slot).map(|name| after.0[&fold(name)].0);
            assert!(linked.is_none_or(|kind| kind == slot.secret_type()), "a link that does not fit");
        }
    }
    let Payload::Database { fields, secrets } = payload else {
        assert!(saved.databases.is_empty() && before.1.len() == after.1.len());
        return;
    };
    let [outcome] = saved.databases.as_slice() else { panic!("one database") };
    let database = &after.1[&fold(&outcome.name)];
    assert_eq!(database.path, fields.path);
    let linked = Slot::ALL.into_iter().filter(|slot| database.secret(*slot).is_some()).count();
    assert!(linked == came.len() && linked <= secrets.len());
    for (name, database) in &before.1 {
        let renamed = |it: &kith_proto::control::credential::Database| (it.path.clone(), it.created.clone());
        if outcome.action != Action::Replaced || *name != fold(&outcome.name) {
            assert_eq!(after.1.get(name).map(renamed), Some(renamed(database)), "{name} is lost");
        }
    }
    let new = matches!(outcome.action, Action::Saved | Action::Renamed);
    assert_eq!(after.1.len(), before.1.len() + usize::from(new));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn whatever_is_saved_nothing_is_lost_and_nothing_is_half(saves in prop::collection::vec((arrives(), choices()), 1..12)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(async {
            let dir = tempfile::tempdir().unwrap();
            let vault = vault(dir.path(), None).await;
            for (payload, mut choices) in saves {
                if let Payload::Database { secrets, .. } = &payload {
                    choices.secrets.retain(|choice| secrets.iter().any(|(slot, _)| *slot == choice.slot));
                } else {
                    choices.secrets.clear();
                }
                let payload = Arc::new(payload);
                let before = all(&vault).await;
                let meets = vault.meets(&payload).await.unwrap();
                assert_eq!(meets.1.len(), payload.secrets().count());
                let saved = vault.save(&payload, &choices, None).await;
                let after = all(&vault).await;
                match saved {
                    Ok(saved) => holds(&payload, &choices, &saved, &before, &after),
                    Err(error) => {
                        assert!(matches!(error.code, Code::NameTaken | Code::SecretInUse), "{error}");
                        let own = choices.secrets.iter().filter_map(|choice| choice.on_conflict);
                        let mut all = own.chain([choices.on_conflict]);
                        assert!(!all.all(|resolve| resolve == Resolve::Rename), "{error}");
                        assert_eq!(before, after);
                    }
                }
            }
        });
    }
}
