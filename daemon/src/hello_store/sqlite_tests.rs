use std::os::unix::fs::PermissionsExt;

use kith_proto::guest::hello::OwnerToken;

use super::*;

const NOW: u64 = 1_800_000_000_000;
const WEEK: u64 = NOW + 7 * 86_400_000;
const BOUNDS: Bounds = Bounds { blobs: 1_000, bytes: 1 << 20, per_source: 64 };

fn token(n: u8) -> OwnerToken {
    OwnerToken::from_random(&[n; 32])
}

fn lookup(n: u32) -> Lookup {
    let mut id = [0; 32];
    id[..4].copy_from_slice(&n.to_be_bytes());
    Lookup(id)
}

fn deposit(n: u32, expires_ms: u64) -> Deposit {
    Deposit { lookup: lookup(n), blob: vec![7; 512], owner: token(1).hash(), expires_ms, source: Source::OWN }
}

fn blob(expires_ms: u64) -> Found {
    Found::Blob { blob: vec![7; 512], expires_ms }
}

fn from(n: u8) -> Source {
    Source::of([10, 0, 0, n].into())
}

#[tokio::test]
async fn a_restart_keeps_everything_and_counts_it_again() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("hello.db");
    let store = Sqlite::open(&path, BOUNDS).unwrap();
    for n in 0..8 {
        let deposit = Deposit { source: from(1), ..deposit(n, WEEK + u64::from(n)) };
        assert_eq!(store.put(deposit, NOW).await.unwrap(), Deposited::Created);
    }
    assert!(store.withdraw(lookup(0), &token(1), NOW).await.unwrap());
    store.put(deposit(8, NOW + 60_000), NOW).await.unwrap();
    assert!(!store.sweep(NOW + 60_000, 100).await.unwrap());
    drop(store);

    // Narrower bounds throw nothing out, and let nothing more in.
    let now = NOW + 60_000;
    let narrow = Sqlite::open(&path, Bounds { blobs: 5, bytes: 512, per_source: 7 }).unwrap();
    assert_eq!(narrow.fill(now).await.unwrap(), Fill { blobs: 7, bytes: 7 * 512 });
    assert_eq!(narrow.get(lookup(0), now).await.unwrap(), Found::Withdrawn);
    assert_eq!(narrow.get(lookup(8), now).await.unwrap(), Found::Expired);
    assert_eq!(narrow.get(lookup(7), now).await.unwrap(), blob(WEEK + 7));
    assert_eq!(narrow.put(deposit(9, WEEK), now).await.unwrap(), Deposited::Full);
    let more = Deposit { source: from(1), ..deposit(9, WEEK) };
    assert_eq!(narrow.put(more, now).await.unwrap(), Deposited::SourceFull);
    drop(narrow);
    let store = Sqlite::open(&path, BOUNDS).unwrap();
    assert_eq!(store.put(deposit(9, WEEK), now).await.unwrap(), Deposited::Created);
    for file in ["hello.db", "hello.db-wal", "hello.db-shm"] {
        let mode = std::fs::metadata(dir.path().join(file)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{file}");
    }
}

#[tokio::test]
async fn what_was_answered_is_in_the_file() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("hello.db");
    let store = Sqlite::open(&path, BOUNDS).unwrap();
    // Many at once, which share transactions: each is there when its answer is.
    let puts = (0..300).map(|n| {
        let (store, path) = (&store, &path);
        async move {
            assert_eq!(store.put(deposit(n, WEEK), NOW).await.unwrap(), Deposited::Created);
            if n % 100 != 0 {
                return;
            }
            // As after a kill: another process finds what lies in the file and its log.
            let other = Connection::open(path).unwrap();
            let there = find(&other, &lookup(n), NOW).unwrap();
            assert_eq!(there, blob(WEEK));
        }
    });
    join_all(puts).await;
    assert_eq!(store.fill(NOW).await.unwrap().blobs, 300);
}

/// All of `futures`, side by side.
async fn join_all<F: Future<Output = ()>>(futures: impl Iterator<Item = F>) {
    let mut all: Vec<_> = futures.map(Box::pin).collect();
    std::future::poll_fn(|cx| {
        all.retain_mut(|future| future.as_mut().poll(cx).is_pending());
        if all.is_empty() { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
    })
    .await;
}

#[tokio::test]
async fn c23_a_full_disk_is_told_and_changes_no_count() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("hello.db");
    let store = Sqlite::open(&path, BOUNDS).unwrap();
    store.put(deposit(0, WEEK), NOW).await.unwrap();
    store.change(|table| table.connection.pragma_update(None, "max_page_count", 12)).await.unwrap();
    let mut kept = 1;
    let full = loop {
        match store.put(deposit(kept, WEEK), NOW).await {
            Ok(deposited) => assert_eq!(deposited, Deposited::Created),
            Err(error) => break error,
        }
        kept += 1;
    };
    assert!(full.is_full(), "{full}");
    assert_eq!(store.fill(NOW).await.unwrap().blobs, u64::from(kept));
    // One that fails takes nobody with it: what finds room is kept.
    let puts = [kept, 0].map(|n| store.put(deposit(n, WEEK), NOW));
    let [first, second] = puts;
    let (first, second) = tokio::join!(first, second);
    assert!(first.unwrap_err().is_full());
    assert_eq!(second.unwrap(), Deposited::Same);
    assert!(store.withdraw(lookup(0), &token(1), NOW).await.unwrap());
    store.change(|table| table.connection.pragma_update(None, "max_page_count", 1 << 20)).await.unwrap();
    assert_eq!(store.put(deposit(kept, WEEK), NOW).await.unwrap(), Deposited::Created);
    assert_eq!(store.fill(NOW).await.unwrap().blobs, u64::from(kept));
}

#[tokio::test]
async fn sweeping_goes_by_expiry_in_chunks() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("hello.db");
    let store = Sqlite::open(&path, BOUNDS).unwrap();
    for n in 0..100 {
        store.put(deposit(n, NOW + 60_000 + u64::from(n)), NOW).await.unwrap();
    }
    let rows = async |table: &str| {
        let sql = format!("SELECT count(*) FROM {table}");
        store.change(move |table| table.connection.query_row(&sql, [], |row| row.get::<_, u64>(0))).await.unwrap()
    };
    let later = NOW + 60_000 + 89;
    assert_eq!(store.fill(later).await.unwrap().blobs, 10, "what expired does not count, swept or not");
    assert!(store.sweep(later, 40).await.unwrap());
    assert_eq!((rows("blob").await, rows("gone").await), (60, 40));
    assert!(store.sweep(later, 40).await.unwrap());
    assert!(!store.sweep(later, 40).await.unwrap());
    assert_eq!((rows("blob").await, rows("gone").await), (10, 90));
    assert_eq!(store.get(lookup(0), later).await.unwrap(), Found::Expired);
    assert_eq!(store.get(lookup(99), later).await.unwrap(), blob(NOW + 60_099));
    // A day later all of it is forgotten; before that, to the millisecond, it is not.
    let day = limits::HELLO_TOMBSTONE_MS;
    assert_eq!(store.get(lookup(0), NOW + 60_000 + day - 1).await.unwrap(), Found::Expired);
    assert_eq!(store.get(lookup(0), NOW + 60_000 + day).await.unwrap(), Found::Nothing);
    assert_eq!(store.get(lookup(99), NOW + 60_099 + day).await.unwrap(), Found::Nothing);
    while store.sweep(later + 2 * day, 40).await.unwrap() {}
    assert_eq!((rows("blob").await, rows("gone").await), (0, 0));
}

#[tokio::test]
async fn the_bounds_count_only_what_lives() {
    let dir = tempfile::tempdir().unwrap();
    let bounds = Bounds { blobs: 4, bytes: 4 * 512, per_source: 2 };
    let store = Sqlite::open(&dir.path().join("hello.db"), bounds).unwrap();
    for n in 0..4 {
        let source = from(u8::try_from(n / 2).unwrap());
        let deposit = Deposit { source, ..deposit(n, NOW + 60_000) };
        assert_eq!(store.put(deposit, NOW).await.unwrap(), Deposited::Created);
    }
    let next = Deposit { source: from(0), ..deposit(4, WEEK) };
    assert_eq!(store.put(next.clone(), NOW).await.unwrap(), Deposited::SourceFull);
    assert_eq!(store.put(deposit(4, WEEK), NOW).await.unwrap(), Deposited::Full);
    // Nothing was swept, and yet there is room.
    assert_eq!(store.put(next, NOW + 60_000).await.unwrap(), Deposited::Created);
    assert_eq!(store.fill(NOW + 60_000).await.unwrap(), Fill { blobs: 1, bytes: 512 });
}

#[tokio::test]
async fn a_file_from_the_future_and_one_that_is_none_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("hello.db");
    drop(Sqlite::open(&path, BOUNDS).unwrap());
    let raw = Connection::open(&path).unwrap();
    raw.pragma_update(None, "user_version", 99).unwrap();
    drop(raw);
    assert!(matches!(Sqlite::open(&path, BOUNDS), Err(Error::Future(99))));
    let other = dir.path().join("other.db");
    crate::files::write_atomic(&other, &[b'x'; 8192], 0o600).unwrap();
    assert!(matches!(Sqlite::open(&other, BOUNDS), Err(Error::Sqlite(_))));
}
