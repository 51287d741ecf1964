//! What the operator of a gateway looks at: numbers, health, a status page. On an address of its own, which callers do not reach.
//!
//! | route | what |
//! | --- | --- |
//! | `GET /` | the status page: one document without scripts and without anything from elsewhere |
//! | `GET /status.json` | the same numbers: [`StatusReport`] |
//! | `GET /metrics` | the same numbers for Prometheus, as OpenMetrics text |
//! | `GET /healthz` | 200 as long as the process answers |
//! | `GET /readyz` | 200 while calls are taken: not while it starts or drains, and not while the store fails, an issuer elsewhere does not answer or does not clear for this gateway, or no epoch issues |
//!
//! **Numbers are taken at intervals, and never in between.** Exact sums, read twice within a second, reveal when a call was
//! made and what it cost; who may see the numbers, and where they are kept for how long, is decided by others than who may see the
//! calls. So all who ask within an interval ([`OperateParts::every`], a minute) are given one and the same set of numbers, and sums
//! over all callers are all there is: nothing has a label for a caller, a path or a size.

mod database;
mod health;
mod latency;
mod metrics;
mod page;
mod replicas;
mod status;
mod tally;

pub use database::DatabaseStatus;
pub use health::ServingState;
pub use replicas::{ReplicaStatus, ReplicasStatus};
pub use status::{
    CallsStatus, CreditsStatus, EpochStatus, EpochSums, GatewayStatus, LoadStatus, ProofsStatus, StatusReport,
    UpkeepStatus,
};
pub use tally::Tally;

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::{Request, State};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use http::header::{self, HeaderName};
use http::{HeaderMap, StatusCode, Uri};
use tokio::runtime::Handle;

use super::clock::now;
use super::layer::PaymentLayer;
use super::observer::Observer;
use super::problem::ProblemDetails;
use crate::pipeline::Current;
use crate::workers::TaskPool;
use health::Health;

/// How many past numbers are kept for the page's picture of them.
const HISTORY: usize = 60;
/// How often it is looked whether calls can be taken.
const LOOK: Duration = Duration::from_secs(2);

/// What an operator's service is made of.
#[non_exhaustive]
pub struct OperateParts {
    /// The gateway that is looked at.
    pub layer: PaymentLayer,
    /// What it has told: the [`Observer`] of that gateway.
    pub tally: Arc<Tally>,
    /// How often the numbers are taken; a minute is right, and a second is the least.
    pub every: Duration,
    /// Names by which the address may be asked for, besides `localhost` and addresses in figures. A page of somebody else's, opened in
    /// the operator's browser, can give its own name this address, and would be answered as if it were here.
    pub hosts: Vec<String>,
    /// What is told of the database, where gateways share one.
    pub database: Option<Arc<dyn Fn() -> DatabaseStatus + Send + Sync>>,
}

impl OperateParts {
    /// Numbers every minute, and no further host names.
    pub fn new(layer: PaymentLayer, tally: Arc<Tally>) -> Self {
        Self { layer, tally, every: Duration::from_secs(60), hosts: Vec::new(), database: None }
    }

    /// The same with this [`every`](Self::every).
    #[must_use]
    pub fn with_every(self, every: Duration) -> Self {
        Self { every, ..self }
    }

    /// The same with this [`hosts`](Self::hosts).
    #[must_use]
    pub fn with_hosts(self, hosts: Vec<String>) -> Self {
        Self { hosts, ..self }
    }

    /// The same with this [`database`](Self::database).
    #[must_use]
    pub fn with_database(self, database: Option<Arc<dyn Fn() -> DatabaseStatus + Send + Sync>>) -> Self {
        Self { database, ..self }
    }
}

impl core::fmt::Debug for OperateParts {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("OperateParts").field("every", &self.every).finish_non_exhaustive()
    }
}

/// The operator's view of a gateway. Cheap to clone. It is [`ServingState::Starting`] until it is told otherwise.
#[derive(Clone)]
pub struct Operations(Arc<Board>);

struct Board {
    layer: PaymentLayer,
    tally: Arc<Tally>,
    every: Duration,
    hosts: Vec<String>,
    database: Option<Arc<dyn Fn() -> DatabaseStatus + Send + Sync>>,
    health: Arc<Health>,
    /// What was taken last; none before the first time.
    status: Current<Option<StatusReport>>,
    /// Calls of each interval, the last one at the end.
    history: Mutex<VecDeque<u64>>,
    started: Instant,
    thread: TaskPool,
}

impl core::fmt::Debug for Operations {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Operations").field("every", &self.0.every).finish_non_exhaustive()
    }
}

impl Operations {
    /// Begins to look, on a thread of its own; within a runtime. It ends with the last clone, routers included.
    ///
    /// # Errors
    /// The system's, if a thread cannot be started.
    pub fn start(parts: OperateParts) -> io::Result<Self> {
        let runtime = Handle::try_current().map_err(io::Error::other)?;
        let OperateParts { layer, tally, every, hosts, database } = parts;
        let every = every.max(Duration::from_secs(1));
        let inner = Arc::new(Board {
            layer,
            tally,
            every,
            hosts: hosts.into_iter().map(|host| host.to_ascii_lowercase()).collect(),
            database,
            health: Arc::new(Health::new()),
            status: Current::new(Arc::new(None)),
            history: Mutex::default(),
            started: Instant::now(),
            thread: TaskPool::start("operate", 1, 4)?,
        });
        let weak = Arc::downgrade(&inner);
        runtime.spawn(async move {
            let mut next_numbers = Instant::now();
            while let Some(inner) = weak.upgrade() {
                let numbers = next_numbers <= Instant::now();
                if numbers {
                    next_numbers = Instant::now() + inner.every;
                }
                let looker = Arc::clone(&inner);
                let _ = inner.thread.run(move || looker.look(numbers)).await;
                let pause = LOOK.min(next_numbers.saturating_duration_since(Instant::now()));
                drop(inner);
                tokio::time::sleep(pause).await;
            }
        });
        Ok(Self(inner))
    }

    /// Says how the program stands.
    pub fn set_state(&self, standing: ServingState) {
        self.0.health.set_state(standing);
    }

    /// Whether calls are taken, or why not.
    ///
    /// # Errors
    /// The reason, in a few words without anything of a caller.
    pub fn ready(&self) -> Result<(), String> {
        self.0.health.ready()
    }

    /// The numbers as they were last taken; none before the first time.
    pub fn status(&self) -> Option<StatusReport> {
        Option::clone(&self.0.status.get())
    }

    /// The routes.
    pub fn router(&self) -> Router {
        self.router_with(Router::new())
    }

    /// The routes, and others beside them, which are asked for by the same names only.
    pub fn router_with(&self, others: Router) -> Router {
        Router::new()
            .route("/", get(page))
            .route("/status.json", get(status))
            .route("/metrics", get(metrics))
            .route("/healthz", get(|| async { "alive\n" }))
            .route("/readyz", get(ready))
            .with_state(self.clone())
            .merge(others)
            .layer(middleware::from_fn_with_state(self.clone(), guard))
    }
}

impl Board {
    /// On a thread: stores are asked.
    fn look(&self, numbers: bool) {
        let (inner, now) = (self.layer.now(), now());
        let parties = inner.parties();
        let trouble = match &parties {
            Some((gateway, _)) => health::trouble_here(gateway.set(), inner.directory(), now),
            None => health::trouble_there(inner.issuer_trouble(), inner.directory(), now),
        };
        if self.health.set_trouble(trouble.clone()) {
            Observer::trouble(&*self.tally, trouble.as_deref());
        }
        if !numbers {
            return;
        }
        let before = self.status.get();
        let status = StatusReport::take(status::Sources {
            id: inner.id(),
            directory: inner.directory(),
            books: parties.as_ref().map(|(gateway, issuer)| (gateway.set(), &**issuer)),
            load: inner.load(),
            tally: &self.tally,
            before: before.as_ref().as_ref(),
            every: self.every,
            running: self.started.elapsed(),
            ready: self.health.ready(),
            database: self.database.as_ref().map(|database| database()),
            peers: self.layer.peers(),
        });
        let calls = status.calls.admitted - before.as_ref().as_ref().map_or(0, |before| before.calls.admitted);
        let mut history = self.history.lock().unwrap_or_else(PoisonError::into_inner);
        history.push_back(calls);
        if history.len() > HISTORY {
            history.pop_front();
        }
        drop(history);
        self.status.set(Arc::new(Some(status)));
    }
}

/// A request must mean this address.
async fn guard(State(operations): State<Operations>, request: Request, next: Next) -> Response {
    // Some balancers ask over HTTP/1.0 and name no host. A browser always does, so that this answers no page of another site.
    let probed = ["/healthz", "/readyz"].contains(&request.uri().path())
        && request.uri().authority().is_none()
        && !request.headers().contains_key(header::HOST);
    if !probed && !is_meant(request.uri(), request.headers(), &operations.0.hosts) {
        let detail = "this address is not to be asked for by that name: see `hosts` of the configuration";
        return ProblemDetails::plain(StatusCode::MISDIRECTED_REQUEST, detail).into_response();
    }
    let mut answer = next.run(request).await;
    let headers = answer.headers_mut();
    for (name, value) in [
        (header::CACHE_CONTROL, "no-store"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    ] {
        headers.insert(name, http::HeaderValue::from_static(value));
    }
    answer
}

fn is_meant(uri: &Uri, headers: &HeaderMap, hosts: &[String]) -> bool {
    let named = headers.get(header::HOST).and_then(|host| host.to_str().ok());
    let Some(host) = uri.authority().map(http::uri::Authority::as_str).or(named) else { return false };
    let Ok(authority) = host.parse::<http::uri::Authority>() else { return false };
    let host = authority.host().to_ascii_lowercase();
    let figures = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || figures.parse::<std::net::IpAddr>().is_ok() || hosts.contains(&host)
}

async fn page(State(operations): State<Operations>) -> Response {
    let history: Vec<u64> =
        operations.0.history.lock().unwrap_or_else(PoisonError::into_inner).iter().copied().collect();
    page::answer(operations.status().as_ref(), operations.ready(), &history, operations.0.every)
}

async fn status(State(operations): State<Operations>) -> Response {
    match operations.status() {
        Some(status) => axum::Json(status).into_response(),
        None => not_yet(),
    }
}

async fn metrics(State(operations): State<Operations>) -> Response {
    match operations.status().map(|status| metrics::text(&status, &operations.ready())) {
        Some(Ok(text)) => ([(header::CONTENT_TYPE, metrics::CONTENT_TYPE)], text).into_response(),
        Some(Err(_)) => {
            ProblemDetails::plain(StatusCode::INTERNAL_SERVER_ERROR, "the numbers cannot be written").into_response()
        }
        None => not_yet(),
    }
}

fn not_yet() -> Response {
    ProblemDetails::plain(StatusCode::SERVICE_UNAVAILABLE, "the numbers were not taken yet").into_response()
}

async fn ready(State(operations): State<Operations>) -> Response {
    match operations.ready() {
        Ok(()) => "ready\n".into_response(),
        Err(why) => (StatusCode::SERVICE_UNAVAILABLE, format!("not ready: {why}\n")).into_response(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_others_are_not_answered() {
        let meant = |host: &str| {
            let headers = HeaderMap::from_iter([(header::HOST, host.parse().unwrap())]);
            is_meant(&Uri::from_static("/"), &headers, &["ops.example".to_owned()])
        };
        for host in ["localhost", "LOCALHOST:8401", "127.0.0.1:8401", "[::1]:8401", "10.0.0.7", "ops.example:1"] {
            assert!(meant(host), "{host}");
        }
        for host in ["evil.example", "localhost.evil.example", "127.0.0.1.evil.example", "ops.example.evil", "", "@"] {
            assert!(!meant(host), "{host}");
        }
        assert!(!is_meant(&Uri::from_static("/"), &HeaderMap::new(), &[]));
    }
}
