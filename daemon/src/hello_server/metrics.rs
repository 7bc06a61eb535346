//! What the server tells of itself, to this machine alone: `/healthz`, and `/metrics` as Prometheus reads them. No
//! label comes from outside: a method is one of four, a status one of the door's own.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::{Request, State};
use axum::http::header::CONTENT_TYPE;
use axum::http::{Method, StatusCode};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use kith_proto::limits;
use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};
use tokio::net::TcpListener;

use crate::clock;
use crate::crowd::Crowd;
use crate::hello_store::{Error, Fill, HelloStore};
use crate::task::Tasks;

/// Who asks for metrics at once.
const PLACES: usize = 8;
const HEAD: Duration = Duration::from_secs(limits::GUEST_HEAD_SECONDS);
/// How long to wait after an accept that failed.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// How long the store may take to say how full it is.
const PATIENCE: Duration = Duration::from_secs(5);
/// As <https://github.com/prometheus/OpenMetrics> names its text.
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// What is counted. Cloned freely.
#[derive(Clone)]
pub struct Metrics(Arc<Inner>);

struct Inner {
    store: Arc<dyn HelloStore>,
    registry: Registry,
    requests: Family<Labels, Counter>,
    seconds: Histogram,
    blobs: Gauge<u64, AtomicU64>,
    bytes: Gauge<u64, AtomicU64>,
    up: Gauge,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Labels {
    method: Verb,
    status: u16,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EncodeLabelValue)]
enum Verb {
    Get,
    Put,
    Delete,
    Other,
}

impl Metrics {
    /// Nothing was asked yet.
    pub fn new(store: Arc<dyn HelloStore>) -> Self {
        let mut registry = Registry::with_prefix("kith_hello");
        // From 0.1 ms to 1.6 s.
        let seconds = Histogram::new(exponential_buckets(0.0001, 2.0, 15));
        let requests = Family::default();
        let (blobs, bytes, up) = (Gauge::default(), Gauge::default(), Gauge::default());
        registry.register("requests", "Requests that were answered", requests.clone());
        registry.register_with_unit("request_duration", "Time to the answer", Unit::Seconds, seconds.clone());
        registry.register("blobs", "Blobs, on Redis keys", blobs.clone());
        registry.register_with_unit("size", "Their size, on Redis its memory", Unit::Bytes, bytes.clone());
        registry.register("store_up", "Whether the store answers", up.clone());
        Self(Arc::new(Inner { store, registry, requests, seconds, blobs, bytes, up }))
    }

    /// The same router, with what it answers counted.
    pub fn count(&self, router: Router) -> Router {
        router.layer(middleware::from_fn_with_state(self.clone(), count))
    }

    /// Answers whoever asks at `listener`, until the server stops.
    pub fn serve(&self, listener: TcpListener, tasks: &Tasks) {
        let router =
            Router::new().route("/healthz", get(health)).route("/metrics", get(metrics)).with_state(self.clone());
        let crowd = Crowd::new(PLACES, PLACES);
        let tasks = tasks.clone();
        tasks.clone().spawn("hello metrics", async move {
            let stop = tasks.stopping().clone();
            while let Some(accepted) = stop.run_until_cancelled(listener.accept()).await {
                let Ok((tcp, remote)) = accepted else {
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                };
                let Some(place) = crowd.enter(remote.ip()) else { continue };
                let (service, stop) = (TowerToHyperService::new(router.clone()), stop.clone());
                tasks.spawn("hello metrics connection", async move {
                    let serving = http1::Builder::new()
                        .timer(TokioTimer::new())
                        .header_read_timeout(HEAD)
                        .serve_connection(TokioIo::new(tcp), service);
                    let _ = stop.run_until_cancelled(serving).await;
                    drop(place);
                });
            }
        });
    }

    async fn fill(&self) -> Result<Fill, Error> {
        let fill = self.0.store.fill(clock::now_ms().unsigned_abs());
        let late = || Error::Unreachable("it takes too long".to_owned());
        tokio::time::timeout(PATIENCE, fill).await.unwrap_or_else(|_| Err(late()))
    }
}

async fn count(State(Metrics(inner)): State<Metrics>, request: Request, next: Next) -> Result<Response, Infallible> {
    let begun = Instant::now();
    let method = match *request.method() {
        Method::GET => Verb::Get,
        Method::PUT => Verb::Put,
        Method::DELETE => Verb::Delete,
        _ => Verb::Other,
    };
    let answer = next.run(request).await;
    inner.requests.get_or_create(&Labels { method, status: answer.status().as_u16() }).inc();
    inner.seconds.observe(begun.elapsed().as_secs_f64());
    Ok(answer)
}

async fn health(State(metrics): State<Metrics>) -> Response {
    match metrics.fill().await {
        Ok(_) => "ok\n".into_response(),
        Err(_) => (StatusCode::SERVICE_UNAVAILABLE, "the store does not answer\n").into_response(),
    }
}

async fn metrics(State(metrics): State<Metrics>) -> Response {
    let fill = metrics.fill().await;
    let Metrics(inner) = metrics;
    inner.up.set(i64::from(fill.is_ok()));
    // Of a store that is away, what was known last.
    if let Ok(fill) = fill {
        inner.blobs.set(fill.blobs);
        inner.bytes.set(fill.bytes);
    }
    let mut text = String::new();
    match encode(&mut text, &inner.registry) {
        Ok(()) => ([(CONTENT_TYPE, OPEN_METRICS)], text).into_response(),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}
