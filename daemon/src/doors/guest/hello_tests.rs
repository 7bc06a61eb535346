use hyper::service::Service;
use hyper_util::service::TowerToHyperService;

use super::*;
use crate::hello_store::{Bounds, Rates, Sqlite};

struct Served {
    router: Router,
    store: Arc<Sqlite>,
    tasks: Tasks,
    _dir: tempfile::TempDir,
}

fn served(bounds: Bounds, strangers: bool) -> Served {
    let dir = tempfile::tempdir().unwrap();
    let store = Arc::new(Sqlite::open(&dir.path().join("hello.db"), bounds).unwrap());
    let tasks = Tasks::default();
    let gate = Arc::new(Mutex::new(Gate::new(Rates::default())));
    let router = router(store.clone(), gate, Rules { strangers }, tasks.clone());
    Served { router, store, tasks, _dir: dir }
}

const WIDE: Bounds = Bounds { blobs: 1_000, bytes: 1 << 20, per_source: 64 };

impl Served {
    async fn ask(&self, from: &str, method: &str, name: u8, body: &'static [u8]) -> Response {
        let visitor = Visitor { address: from.parse().unwrap(), certificate: None };
        let path = format!("{PATH}{}", Lookup([name; 32]).to_text());
        let request = Request::builder().method(method).uri(path).header(OWNER, "ab".repeat(32)).extension(visitor);
        let request = request.body(Body::from(body)).unwrap();
        let service = TowerToHyperService::new(self.router.clone());
        service.call(request).await.unwrap()
    }

    async fn status(&self, from: &str, method: &str, name: u8, body: &'static [u8]) -> u16 {
        self.ask(from, method, name, body).await.status().as_u16()
    }
}

#[tokio::test]
async fn a_device_that_serves_only_its_own_takes_nothing_from_strangers() {
    let served = served(WIDE, false);
    let deposit = Deposit {
        lookup: Lookup([1; 32]),
        blob: b"sealed".to_vec(),
        owner: OwnerHash([0xab; 32]),
        expires_ms: now_ms() + 60_000,
        source: Source::OWN,
    };
    served.store.put(deposit, now_ms()).await.unwrap();
    assert_eq!(served.status("10.0.0.1", "GET", 1, b"").await, 200);
    for method in ["PUT", "DELETE", "HEAD", "POST"] {
        let answer = served.ask("10.0.0.1", method, 1, b"").await;
        assert_eq!((answer.status().as_u16(), answer.headers()[ALLOW].to_str().unwrap()), (405, "GET"), "{method}");
    }
    assert_eq!(served.status("10.0.0.1", "GET", 1, b"").await, 200);
}

#[tokio::test]
async fn what_is_full_throws_nothing_out() {
    let served = served(Bounds { blobs: 4, bytes: 1 << 20, per_source: 2 }, true);
    for (from, name) in [("10.0.0.1", 1), ("10.0.0.1", 2), ("10.0.0.2", 3)] {
        assert_eq!(served.status(from, "PUT", name, b"sealed").await, 201);
    }
    let refused = served.ask("10.0.0.1", "PUT", 4, b"sealed").await;
    assert_eq!(refused.status().as_u16(), 429);
    assert_eq!(refused.headers()[RETRY_AFTER], "3600");
    assert_eq!(served.status("10.0.0.2", "PUT", 4, b"sealed").await, 201);
    assert_eq!(served.status("10.0.0.3", "PUT", 5, b"sealed").await, 507);
    for name in 1..5 {
        assert_eq!(served.status("10.0.0.3", "GET", name, b"").await, 200);
        assert_eq!(served.status("10.0.0.3", "PUT", name, b"sealed").await, 200, "the same bytes need no room");
    }
    assert_eq!(served.status("10.0.0.3", "HEAD", 1, b"").await, 405);
}

#[tokio::test]
async fn a_source_is_an_ipv4_address_or_64_bits_of_an_ipv6_address() {
    let served = served(WIDE, true);
    for n in 0..limits::HELLO_MISSES {
        let from = format!("2001:db8:1:2::{n}");
        assert_eq!(served.status(&from, "GET", 9, b"").await, 404);
    }
    assert_eq!(served.status("2001:db8:1:2:ffff::1", "GET", 9, b"").await, 429);
    assert_eq!(served.status("2001:db8:1:3::1", "GET", 9, b"").await, 404);
    for _ in 0..limits::HELLO_MISSES {
        served.status("10.0.0.1", "DELETE", 9, b"").await;
    }
    assert_eq!(served.status("::ffff:10.0.0.1", "GET", 9, b"").await, 429, "guesses at owners are guesses");
    assert_eq!(served.status("10.0.0.2", "GET", 9, b"").await, 404);
    assert!(served.tasks.end(Duration::from_secs(60)).await);
    assert_eq!(served.tasks.broken(), None);
}
