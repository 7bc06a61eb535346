//! What every hello store answers, whatever it lies on: one suite for all.

use std::sync::Arc;

use kith_proto::guest::hello::{Lookup, OwnerHash, OwnerToken};
use kith_proto::limits;
use tokio::sync::mpsc;

use super::*;
use crate::clock;
use crate::task::Tasks;

const HOUR: u64 = 3_600_000;
const DAY: u64 = limits::HELLO_TOMBSTONE_MS;
/// More than the suite needs, but for one source.
const BOUNDS: Bounds = Bounds { blobs: 10_000, bytes: 1 << 20, per_source: 4 };

/// Whether a store counts what is live to the last one, or only bounds it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Counts {
    Exactly,
    Roughly,
}

fn now() -> u64 {
    u64::try_from(clock::now_ms()).unwrap()
}

/// A name of its own for each letter and number.
fn name(letter: u8, number: u8) -> Lookup {
    let mut name = [letter; 32];
    name[0] = number;
    Lookup(name)
}

fn token(n: u8) -> OwnerToken {
    OwnerToken::from_random(&[n; 32])
}

fn owner(n: u8) -> OwnerHash {
    token(n).hash()
}

fn source(letter: u8, number: u8) -> Source {
    Source::of([10, letter, 0, number].into())
}

/// A deposit of owner 1, for an hour, from a source of its own.
fn deposit(lookup: Lookup, blob: &[u8]) -> Deposit {
    let [number, letter, ..] = lookup.0;
    let expires_ms = now() + HOUR;
    Deposit { lookup, blob: blob.to_vec(), owner: owner(1), expires_ms, source: source(letter, number) }
}

/// Everything that does not depend on how much there may be.
async fn conforms(store: Arc<dyn HelloStore>) {
    answers(&*store).await;
    stays_until_the_later_time(&*store).await;
    tells_of_what_expired(&*store).await;
    makes_way_for_its_owner(&*store).await;
    withdraws_for_good(&*store).await;
    bounds_a_source(&*store).await;
    one_of_many_is_first(store.clone()).await;
}

async fn found(store: &dyn HelloStore, lookup: Lookup, now_ms: u64) -> Found {
    store.get(lookup, now_ms).await.unwrap()
}

async fn put(store: &dyn HelloStore, deposit: &Deposit, now_ms: u64) -> Deposited {
    store.put(deposit.clone(), now_ms).await.unwrap()
}

async fn answers(store: &dyn HelloStore) {
    let now = now();
    let blobs: [&[u8]; 4] = [b"", b"x", b"\0\xff\r\n", &[0xa5; limits::HELLO_BLOB]];
    for (i, blob) in (0..).zip(blobs) {
        let it = deposit(name(b'a', i), blob);
        assert_eq!(found(store, it.lookup, now).await, Found::Nothing);
        assert_eq!(put(store, &it, now).await, Deposited::Created);
        assert_eq!(put(store, &it, now).await, Deposited::Same);
        let stranger = Deposit { owner: owner(2), source: source(b'a', 99), ..it.clone() };
        assert_eq!(put(store, &stranger, now).await, Deposited::Same, "whoever has the bytes may know that");
        for other in [&b"other"[..], &[0xa6; limits::HELLO_BLOB]] {
            assert_eq!(put(store, &Deposit { blob: other.to_vec(), ..it.clone() }, now).await, Deposited::Other);
        }
        let kept = Found::Blob { blob: blob.to_vec(), expires_ms: it.expires_ms };
        assert_eq!(found(store, it.lookup, now).await, kept);
    }
}

async fn stays_until_the_later_time(store: &dyn HelloStore) {
    let now = now();
    let it = deposit(name(b'b', 1), b"blob");
    let until = |expires_ms| Found::Blob { blob: b"blob".to_vec(), expires_ms };
    assert_eq!(put(store, &it, now).await, Deposited::Created);
    let later = Deposit { expires_ms: it.expires_ms + HOUR, ..it.clone() };
    assert_eq!(put(store, &Deposit { owner: owner(2), ..later.clone() }, now).await, Deposited::Same);
    assert_eq!(found(store, it.lookup, now).await, until(it.expires_ms), "a stranger prolongs nothing");
    assert_eq!(put(store, &later, now).await, Deposited::Same);
    assert_eq!(found(store, it.lookup, now).await, until(later.expires_ms));
    assert_eq!(put(store, &it, now).await, Deposited::Same);
    assert_eq!(found(store, it.lookup, it.expires_ms).await, until(later.expires_ms), "and nothing shortens it");
    let other = Deposit { blob: b"other".to_vec(), expires_ms: later.expires_ms + HOUR, ..it.clone() };
    assert_eq!(put(store, &other, now).await, Deposited::Other);
    assert_eq!(found(store, it.lookup, now).await, until(later.expires_ms), "other bytes prolong nothing");
    // Prolonged from elsewhere, it is still there, and may be withdrawn.
    let moved = Deposit { source: source(b'b', 9), expires_ms: later.expires_ms + HOUR, ..it.clone() };
    assert_eq!(put(store, &moved, now).await, Deposited::Same);
    assert_eq!(found(store, it.lookup, now).await, until(moved.expires_ms));
    assert!(store.withdraw(it.lookup, &token(1), now).await.unwrap());
}

async fn tells_of_what_expired(store: &dyn HelloStore) {
    let it = deposit(name(b'c', 1), b"blob");
    assert_eq!(put(store, &it, now()).await, Deposited::Created);
    let over = it.expires_ms;
    assert!(matches!(found(store, it.lookup, over - 1).await, Found::Blob { .. }));
    assert_eq!(found(store, it.lookup, over).await, Found::Expired);
    assert_eq!(found(store, it.lookup, over + DAY - 1).await, Found::Expired);
    assert_eq!(found(store, it.lookup, over + DAY).await, Found::Nothing);
    // Behind that day the name is anybody's.
    let stranger = Deposit { owner: owner(2), expires_ms: over + 2 * DAY, blob: b"new".to_vec(), ..it.clone() };
    assert_eq!(put(store, &stranger, over + DAY).await, Deposited::Created);
    let kept = Found::Blob { blob: b"new".to_vec(), expires_ms: stranger.expires_ms };
    assert_eq!(found(store, it.lookup, over + DAY).await, kept);
}

async fn makes_way_for_its_owner(store: &dyn HelloStore) {
    let it = deposit(name(b'd', 1), b"blob");
    assert_eq!(put(store, &it, now()).await, Deposited::Created);
    let late = it.expires_ms + HOUR;
    let again = Deposit { expires_ms: late + HOUR, ..it.clone() };
    for blob in [&b"blob"[..], b"other"] {
        let stranger = Deposit { owner: owner(2), blob: blob.to_vec(), ..again.clone() };
        assert_eq!(put(store, &stranger, late).await, Deposited::Other);
        assert_eq!(found(store, it.lookup, late).await, Found::Expired);
    }
    assert_eq!(put(store, &Deposit { blob: b"renewed".to_vec(), ..again.clone() }, late).await, Deposited::Created);
    let kept = Found::Blob { blob: b"renewed".to_vec(), expires_ms: again.expires_ms };
    assert_eq!(found(store, it.lookup, late).await, kept);
}

async fn withdraws_for_good(store: &dyn HelloStore) {
    let now = now();
    let it = deposit(name(b'e', 1), b"blob");
    assert!(!store.withdraw(it.lookup, &token(1), now).await.unwrap(), "there is nothing yet");
    assert_eq!(put(store, &it, now).await, Deposited::Created);
    assert!(!store.withdraw(it.lookup, &token(2), now).await.unwrap());
    assert!(matches!(found(store, it.lookup, now).await, Found::Blob { .. }), "only its owner takes it away");
    assert!(store.withdraw(it.lookup, &token(1), now).await.unwrap());
    assert_eq!(found(store, it.lookup, now).await, Found::Withdrawn);
    for owner in [owner(1), owner(2)] {
        assert_eq!(put(store, &Deposit { owner, ..it.clone() }, now).await, Deposited::Other);
    }
    // Also behind the time at which it would have expired.
    assert_eq!(found(store, it.lookup, now + DAY - 1).await, Found::Withdrawn);
    assert_eq!(found(store, it.lookup, now + DAY).await, Found::Nothing);
    let again = Deposit { expires_ms: now + 2 * DAY, owner: owner(2), ..it };
    assert_eq!(put(store, &again, now + DAY).await, Deposited::Created);
}

async fn bounds_a_source(store: &dyn HelloStore) {
    let now = now();
    let home = source(b'f', 0);
    let most = u8::try_from(BOUNDS.per_source).unwrap();
    let at = |number| Deposit { source: home, ..deposit(name(b'f', number), b"blob") };
    // The first goes soon, the others after an hour.
    let soon = Deposit { expires_ms: now + HOUR / 2, ..at(0) };
    assert_eq!(put(store, &soon, now).await, Deposited::Created);
    for number in 1..most {
        assert_eq!(put(store, &at(number), now).await, Deposited::Created);
    }
    let next = at(most);
    assert_eq!(put(store, &next, now).await, Deposited::SourceFull);
    assert_eq!(found(store, next.lookup, now).await, Found::Nothing);
    assert_eq!(put(store, &at(1), now).await, Deposited::Same, "what is there may be said again");
    assert_eq!(put(store, &Deposit { blob: b"x".to_vec(), ..at(1) }, now).await, Deposited::Other);
    assert_eq!(put(store, &Deposit { source: source(b'f', 1), ..next.clone() }, now).await, Deposited::Created);
    assert_eq!(put(store, &Deposit { source: home, ..next }, now).await, Deposited::Same);
    // One expires: there is room for one.
    let later = now + HOUR / 2;
    let until = |it: Deposit| Deposit { expires_ms: later + 2 * HOUR, ..it };
    assert_eq!(put(store, &until(at(10)), later).await, Deposited::Created);
    assert_eq!(put(store, &until(at(11)), later).await, Deposited::SourceFull);
    // One is withdrawn: there is room for one.
    assert!(store.withdraw(at(1).lookup, &token(1), later).await.unwrap());
    assert_eq!(put(store, &until(at(11)), later).await, Deposited::Created);
    assert_eq!(put(store, &until(at(12)), later).await, Deposited::SourceFull);
    // What stays longer is counted for longer.
    assert_eq!(put(store, &until(at(2)), later).await, Deposited::Same);
    let over = now + HOUR + HOUR / 2;
    for number in 12..most + 9 {
        assert_eq!(put(store, &until(at(number)), over).await, Deposited::Created, "{number}");
    }
    assert_eq!(put(store, &until(at(20)), over).await, Deposited::SourceFull);
    // This device itself has no such bound.
    for number in 30..30 + 2 * most {
        let own = Deposit { source: Source::OWN, ..deposit(name(b'f', number), b"blob") };
        assert_eq!(put(store, &own, now).await, Deposited::Created);
    }
}

async fn one_of_many_is_first(store: Arc<dyn HelloStore>) {
    const MANY: u8 = 64;
    let tasks = Tasks::default();
    let (say, mut heard) = mpsc::channel(MANY.into());
    for n in 0..MANY {
        let (store, say) = (store.clone(), say.clone());
        // Half of them bring the same, a quarter from the same place.
        let blob = if n % 2 == 0 { vec![b'x'] } else { vec![n] };
        let from = if n % 4 == 0 { source(b'g', 0) } else { source(b'g', n) };
        let it = Deposit { owner: owner(n), source: from, ..deposit(name(b'g', 1), &blob) };
        tasks.spawn("one of many", async move {
            let answer = store.put(it.clone(), now()).await.unwrap();
            say.send((it.blob, answer)).await.unwrap();
        });
    }
    drop(say);
    let mut all = Vec::new();
    while let Some(one) = heard.recv().await {
        all.push(one);
    }
    assert_eq!(all.len(), usize::from(MANY));
    let created: Vec<_> = all.iter().filter(|(_, answer)| *answer == Deposited::Created).collect();
    let [(winner, _)] = created[..] else { panic!("{created:?}") };
    for (blob, answer) in &all {
        let lost = if blob == winner { Deposited::Same } else { Deposited::Other };
        assert!(*answer == Deposited::Created || *answer == lost, "{answer:?}");
    }
    assert!(matches!(found(&*store, name(b'g', 1), now()).await, Found::Blob { blob, .. } if blob == *winner));
    // Those who were too late are counted nowhere: their sources have all their room.
    let most = u8::try_from(BOUNDS.per_source).unwrap();
    let busy = (0..MANY).find(|n| n % 4 != 0 && *winner != vec![*n] && *winner != [b'x']).unwrap_or(1);
    if winner.as_slice() != [b'x'] {
        for number in 0..most {
            let it = Deposit { source: source(b'g', busy), ..deposit(name(b'h', number), b"blob") };
            assert_eq!(put(&*store, &it, now()).await, Deposited::Created);
        }
    }
}

/// A store that may hold few.
async fn throws_nothing_out(store: &dyn HelloStore, few: Bounds, counts: Counts) {
    let now = now();
    let mut kept = Vec::new();
    let full = loop {
        let number = u8::try_from(kept.len()).unwrap();
        let it = deposit(name(b'i', number), &[number; 100]);
        match put(store, &it, now).await {
            Deposited::Created => kept.push(it),
            Deposited::Full => break it,
            other => panic!("{other:?}"),
        }
    };
    let count = u64::try_from(kept.len()).unwrap();
    assert!((1..=few.blobs).contains(&count) && count * 100 <= few.bytes, "{count} fit");
    for it in &kept {
        assert!(matches!(found(store, it.lookup, now).await, Found::Blob { .. }), "nothing is thrown out");
        assert_eq!(put(store, it, now).await, Deposited::Same, "what is there may be said again");
    }
    assert_eq!(found(store, full.lookup, now).await, Found::Nothing);
    assert_eq!(put(store, &Deposit { blob: Vec::new(), ..kept[0].clone() }, now).await, Deposited::Other);
    assert!(store.withdraw(kept[0].lookup, &token(1), now).await.unwrap(), "also when it is full");
    assert_eq!(found(store, kept[0].lookup, now).await, Found::Withdrawn);
    if counts == Counts::Roughly {
        return;
    }
    assert_eq!(count, few.blobs.min(few.bytes / 100));
    let there = Fill { blobs: count - 1, bytes: (count - 1) * 100 };
    assert_eq!(store.fill(now).await.unwrap(), there);
    assert_eq!(put(store, &full, now).await, Deposited::Created, "what was withdrawn makes room");
    let again = deposit(name(b'j', 0), &[0; 100]);
    assert_eq!(put(store, &again, now).await, Deposited::Full);
    // What expired makes room, swept or not.
    let late = now + 2 * HOUR;
    assert_eq!(put(store, &Deposit { expires_ms: late + HOUR, ..again }, late).await, Deposited::Created);
    assert_eq!(store.fill(late).await.unwrap(), Fill { blobs: 1, bytes: 100 });
}

/// Sweeping changes no answer, and comes to an end.
async fn sweeps(store: &dyn HelloStore) {
    let now = now();
    for number in 0..20 {
        // A third expired two days ago, as seen from then; a third an hour ago; the others stay.
        let ahead = [HOUR, 2 * DAY, 4 * DAY][usize::from(number % 3)];
        let it = Deposit { expires_ms: now + ahead, ..deposit(name(b'k', number), b"blob") };
        assert_eq!(put(store, &it, now).await, Deposited::Created);
    }
    let then = now + 2 * DAY + HOUR;
    let mut chunks = 0;
    while store.sweep(then, 3).await.unwrap() {
        chunks += 1;
        assert!(chunks < 20, "it has an end");
    }
    for number in 0..20 {
        let answer = found(store, name(b'k', number), then).await;
        match number % 3 {
            0 => assert_eq!(answer, Found::Nothing),
            1 => assert_eq!(answer, Found::Expired),
            _ => assert!(matches!(answer, Found::Blob { .. }), "{answer:?}"),
        }
    }
}

mod on_sqlite {
    use std::path::PathBuf;

    use super::*;

    fn path(dir: &tempfile::TempDir) -> PathBuf {
        dir.path().join("hello.db")
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn it_conforms() {
        let dir = tempfile::tempdir().unwrap();
        conforms(Arc::new(Sqlite::open(&path(&dir), BOUNDS).unwrap())).await;
        sweeps(&Sqlite::open(&dir.path().join("swept.db"), BOUNDS).unwrap()).await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn its_blobs_and_bytes_are_bounded() {
        for few in [Bounds { blobs: 7, ..BOUNDS }, Bounds { bytes: 1099, ..BOUNDS }] {
            let dir = tempfile::tempdir().unwrap();
            throws_nothing_out(&Sqlite::open(&path(&dir), few).unwrap(), few, Counts::Exactly).await;
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn what_it_answered_is_there_when_it_is_opened_again() {
        let (dir, now) = (tempfile::tempdir().unwrap(), now());
        let kept = deposit(name(b'o', 1), b"kept");
        let gone = deposit(name(b'o', 2), b"gone");
        let store = Sqlite::open(&path(&dir), BOUNDS).unwrap();
        for it in [&kept, &gone] {
            assert_eq!(put(&store, it, now).await, Deposited::Created);
        }
        assert!(store.withdraw(gone.lookup, &token(1), now).await.unwrap());
        drop(store);
        let store = Sqlite::open(&path(&dir), BOUNDS).unwrap();
        assert!(matches!(found(&store, kept.lookup, now).await, Found::Blob { blob, .. } if blob == b"kept"));
        assert_eq!(found(&store, gone.lookup, now).await, Found::Withdrawn);
        assert_eq!(put(&store, &kept, now).await, Deposited::Same);
    }
}

#[cfg(feature = "redis")]
mod on_redis {
    use kith_tests::redis::Redis as Server;
    use kith_tests::wait;

    use super::*;
    use crate::hello_store::Redis;

    async fn open(server: &Server, bounds: Bounds) -> Redis {
        Redis::open(&server.url(), bounds).await.unwrap()
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn it_conforms() {
        let Some(server) = Server::start(&[]) else { return };
        conforms(Arc::new(open(&server, BOUNDS).await)).await;
        sweeps(&open(&server, BOUNDS).await).await;
        let fill = open(&server, BOUNDS).await.fill(now()).await.unwrap();
        assert!(fill.blobs > 20 && fill.bytes > 100_000, "{fill:?}");
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn its_keys_are_bounded() {
        let Some(server) = Server::start(&[]) else { return };
        let few = Bounds { blobs: 16, ..BOUNDS };
        throws_nothing_out(&open(&server, few).await, few, Counts::Roughly).await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn its_memory_is_bounded() {
        let Some(server) = Server::start(&["--maxmemory", "4mb"]) else { return };
        let store = open(&server, Bounds { per_source: 1_000_000, ..BOUNDS }).await;
        let at = |number: u32| {
            let mut name = [0; 32];
            name[..4].copy_from_slice(&number.to_be_bytes());
            Deposit { source: Source::OWN, ..deposit(Lookup(name), &[7; limits::HELLO_BLOB]) }
        };
        let mut count = 0;
        while put(&store, &at(count), now()).await == Deposited::Created {
            count += 1;
            assert!(count < 1000, "4 MiB hold fewer");
        }
        assert_eq!(put(&store, &at(count), now()).await, Deposited::Full);
        for number in 0..count {
            assert!(
                matches!(found(&store, at(number).lookup, now()).await, Found::Blob { .. }),
                "nothing is thrown out"
            );
        }
        let longer = Deposit { expires_ms: now() + 3 * HOUR, ..at(0) };
        assert_eq!(put(&store, &longer, now()).await, Deposited::Same);
        let Found::Blob { expires_ms, .. } = found(&store, longer.lookup, now()).await else { panic!("it is there") };
        assert_eq!(expires_ms, longer.expires_ms, "what takes no room is done");
        for number in 0..count / 2 {
            assert!(store.withdraw(at(number).lookup, &token(1), now()).await.unwrap());
        }
        assert_eq!(put(&store, &at(count), now()).await, Deposited::Created, "what was withdrawn makes room");
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_server_that_evicts_is_refused() {
        let Some(server) = Server::start(&["--maxmemory-policy", "volatile-ttl"]) else { return };
        let Err(error) = Redis::open(&server.url(), BOUNDS).await else { panic!("it evicts") };
        assert!(matches!(&error, Error::Evicts { policy } if policy == "volatile-ttl"), "{error}");
        assert!(error.to_string().contains("noeviction"), "{error}");
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn passwords_are_used_and_not_told() {
        let Some(server) = Server::start(&["--requirepass", "open-sesame-7"]) else { return };
        let with = |password: &str| server.url().replace("//", &format!("//:{password}@"));
        let store = Redis::open(&with("open-sesame-7"), BOUNDS).await.unwrap();
        assert_eq!(put(&store, &deposit(name(b'l', 1), b"x"), now()).await, Deposited::Created);
        for url in [with("wrong-sesame-8"), server.url(), "redis://:open-sesame-9@[".to_owned()] {
            let Err(error) = Redis::open(&url, BOUNDS).await else { panic!("not without the password") };
            assert!(!format!("{error} {error:?}").contains("sesame"), "{error:?}");
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn it_comes_back_when_the_server_does() {
        let Some(mut server) = Server::start(&[]) else { return };
        let store = open(&server, BOUNDS).await;
        let it = deposit(name(b'm', 1), b"x");
        assert_eq!(put(&store, &it, now()).await, Deposited::Created);
        server.freeze();
        assert!(matches!(store.get(it.lookup, now()).await, Err(Error::Unreachable(_))));
        server.thaw();
        server.kill();
        assert!(matches!(store.get(it.lookup, now()).await, Err(Error::Unreachable(_))));
        server.revive();
        let handle = tokio::runtime::Handle::current();
        tokio::task::block_in_place(|| {
            wait::until_true("the connection to be back", kith_tests::PATIENCE, || {
                handle.block_on(store.put(it.clone(), now())).is_ok()
            });
        });
        assert!(matches!(found(&store, it.lookup, now()).await, Found::Blob { .. }));
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn what_is_not_ours_is_no_blob() {
        let Some(server) = Server::start(&[]) else { return };
        let store = open(&server, BOUNDS).await;
        let lookup = name(b'n', 1);
        assert_eq!(server.ask(&format!("SET kith:hello:{} nonsense", lookup.to_text())), "+OK\r\n+OK\r\n");
        assert!(matches!(store.get(lookup, now()).await, Err(Error::Foreign)));
        assert!(matches!(store.put(deposit(lookup, b"x"), now()).await, Err(Error::Foreign)));
    }
}
