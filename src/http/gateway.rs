//! The gateway as a reverse proxy: asks for payment, admits, serves, meters, settles.
//!
//! | route | what |
//! | --- | --- |
//! | `GET /.well-known/halometer/directory` | the issuer's signed directory |
//! | `POST /.well-known/halometer/settlement` | the settlement of a spend, for whoever holds its session key |
//! | `POST /.well-known/halometer/cancel` | the bytes of a [`Cancellation`](crate::protocol::Cancellation), to its settlement |
//! | `POST /.well-known/halometer/transfer` | the bytes of a [`Transfer`](crate::protocol::Transfer), to both settlements |
//! | `POST /.well-known/halometer/rollover` | the bytes of an [`Opening`](crate::protocol::Opening) that rolls over, to its settlement |
//! | `POST /.well-known/halometer/session` | the bytes of an [`Opening`](crate::protocol::Opening), to a [`SessionAnswer`] |
//! | `POST /.well-known/halometer/close` | the settlement of a session, which ends with it, for whoever holds its session key |
//! | `GET /.well-known/halometer/openapi.json` | the [description](super::openapi) of these routes |
//! | `GET /.well-known/halometer/spent/..` | which notes are spent: [`spent`](super::spent) |
//! | anything else | the service behind it, for a payment |
//!
//! The way of a paid request: its credential is read; its body is read whole, within limits, for its digest is signed; then, in a task
//! of its own that goes on when the caller hangs up, it is screened and its proof is verified and admitted by worker threads, it is sent
//! on, its answer is metered, and its spend is settled. So whatever the caller does, a spend that was admitted is settled.
//!
//! A short answer is kept until it is whole and settled, and has its receipt in a header. A stream, or what is long or takes long, is
//! passed on as it comes: it has its receipt in a trailer for who takes trailers, and its settlement can be fetched. Who hangs up on it
//! stops it. [`layer`](super::layer) does the same around any other service.

mod adopt;
mod cancel;
mod decide;
mod fetch;
mod forward;
mod here;
mod ledger;
mod limits;
mod metering;
mod observer;
mod open;
mod received;
mod refresh;
mod rollover;
mod running;
mod serve;
mod session;
mod stream;
mod there;
mod transfer;
mod upkeep;
mod work;

pub(in crate::http) use adopt::Shared;
use adopt::Terms;
pub use adopt::{AdoptError, Adoption};
pub(in crate::http) use decide::{Asked, Decided, HeldCall, HeldSettled, HoldTerms};
pub use fetch::SettlementAnswer;
pub(in crate::http) use forward::Next;
#[cfg(feature = "envoy")]
pub(in crate::http) use forward::OF_CALLERS;
pub use limits::GatewayLimits;
pub use observer::{NoObserver, Observer};
pub use received::authorities;
pub(in crate::http) use received::{Signed, authority, read_body, read_credential};
pub use session::SessionAnswer;
pub use transfer::TransferAnswer;
pub use upkeep::UpkeepTask;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{Request as HttpRequest, State};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use http::StatusCode;
use http::header;
use tokio::sync::Semaphore;
use tower::Layer as _;

use super::layer::{PaymentLayer, PaymentLayerParts};
use super::openapi::{OPENAPI_PATH, openapi};
use super::pattern::RoutePattern;
use super::payment;
use super::pricing::{Call, Meter, NotSold, Pricing};
use super::problem::ProblemDetails;
use super::remote::RemoteLayerParts;
use super::spent::SPENT_PATH;
use super::upstream::Upstream;
use crate::clearing::RemoteGateway;
use crate::gateway::Gateway;
use crate::issuer::Issuer;
use crate::pipeline::{Current, WorkError};
use crate::protocol::{Directory, GatewayId, GatewaySigningKey, Problem, Settlement};
use here::Here;
use ledger::Ledger;
pub(in crate::http) use ledger::there_lease;
use running::Running;
use session::Sessions;
use there::There;

/// Where the signed directory is found.
pub const DIRECTORY_PATH: &str = "/.well-known/halometer/directory";
/// Where settlements are asked for.
pub const SETTLEMENT_PATH: &str = "/.well-known/halometer/settlement";
/// Where spends are cancelled.
pub const CANCEL_PATH: &str = "/.well-known/halometer/cancel";

/// Where credit is moved between lanes.
pub const TRANSFER_PATH: &str = "/.well-known/halometer/transfer";
/// Where notes are rolled over to the epoch that issues.
pub const ROLLOVER_PATH: &str = "/.well-known/halometer/rollover";

/// Where sessions of several calls are opened.
pub const SESSION_PATH: &str = "/.well-known/halometer/session";
/// Where they are closed.
pub const CLOSE_PATH: &str = "/.well-known/halometer/close";

/// What a gateway service is made of.
pub struct GatewayServiceParts {
    /// The gateway.
    pub gateway: Arc<Gateway>,
    /// The issuer that settles, which shares the gateway's directory.
    pub issuer: Arc<Issuer>,
    /// What is behind the gateway.
    pub upstream: Upstream,
    /// What calls cost.
    pub pricing: Box<dyn Pricing>,
    /// Requests that cost nothing; none is right, but for health checks and the like.
    pub free: Vec<RoutePattern>,
    /// Who is told.
    pub observer: Arc<dyn Observer>,
    /// Limits.
    pub limits: GatewayLimits,
    /// The key that the directory names for the gateway: it signs receipts.
    pub key: GatewaySigningKey,
    /// Upkeep, if this service is to see to it.
    pub upkeep: Option<UpkeepTask>,
}

impl core::fmt::Debug for GatewayServiceParts {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("GatewayServiceParts").field("gateway", &self.gateway).finish_non_exhaustive()
    }
}

/// What a call may take besides the service's time: to be queued, and to be settled, a few tries included.
const SETTLING: Duration = Duration::from_secs(30);

/// A gateway as an HTTP service: the [`PaymentLayer`] around a reverse proxy. Cheap to clone.
#[derive(Clone, Debug)]
pub struct GatewayService {
    layer: PaymentLayer,
    upstream: Upstream,
}

/// How busy a gateway is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Load {
    /// Requests that are worked on.
    pub requests: usize,
    /// Sessions of several calls that are open.
    pub sessions: usize,
    /// Spends and transfers that wait to be verified.
    pub waiting: usize,
    /// Spends that wait to be settled.
    pub settling: usize,
}

/// What a call is worked on by, from its beginning to its end. What depends on the directory is one piece and is exchanged with it;
/// all that holds a state (threads, places, who is running) is shared with the one before and the one after.
pub(in crate::http) struct Inner {
    ledger: Ledger,
    pricing: Arc<dyn Pricing>,
    free: Arc<[RoutePattern]>,
    /// As it was asked for: see [`timeout`](Self::timeout).
    call_timeout: Duration,
    observer: Arc<dyn Observer>,
    limits: GatewayLimits,
    terms: Terms,
    places: Arc<Semaphore>,
    running: Arc<Running>,
    sessions: Arc<Sessions>,
    key: Arc<GatewaySigningKey>,
}

impl core::fmt::Debug for Inner {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Inner").field("gateway", &self.ledger.id()).finish_non_exhaustive()
    }
}

impl GatewayService {
    /// Starts the worker threads, and upkeep where it is given, for which it has to be called within a runtime. Upkeep ends with the
    /// last clone of the service, routers included.
    ///
    /// # Errors
    /// Those of [`PaymentLayer::start`]; the time that a call may take is the upstream's.
    pub fn start(parts: GatewayServiceParts) -> io::Result<Self> {
        let GatewayServiceParts { gateway, issuer, upstream, pricing, free, observer, limits, key, upkeep } = parts;
        let call_timeout = upstream.timeout();
        let pricing = Box::new(Reachable { pricing, upstream: upstream.clone() });
        let parts = PaymentLayerParts { gateway, issuer, pricing, free, observer, limits, call_timeout, key, upkeep };
        Ok(Self { layer: PaymentLayer::start(parts)?, upstream })
    }

    /// The same without a set: see [`PaymentLayer::start_remote`]. The time that a call may take is the upstream's, whatever `parts`
    /// say.
    ///
    /// # Errors
    /// Those of [`PaymentLayer::start_remote`].
    pub fn start_remote(parts: RemoteLayerParts, upstream: Upstream) -> io::Result<Self> {
        let pricing = Box::new(Reachable { pricing: parts.pricing, upstream: upstream.clone() });
        let parts = RemoteLayerParts { pricing, call_timeout: upstream.timeout(), ..parts };
        Ok(Self { layer: PaymentLayer::start_remote(parts)?, upstream })
    }

    /// The payment layer inside.
    pub fn layer(&self) -> &PaymentLayer {
        &self.layer
    }

    /// The routes.
    pub fn router(&self) -> Router {
        Router::new().fallback_service(self.layer.layer(self.upstream.clone()))
    }

    /// Goes on under a newer directory: [`PaymentLayer::adopt`].
    ///
    /// # Errors
    /// [`AdoptError`]; nothing has changed then.
    pub fn adopt(&self, next: Adoption) -> Result<(), AdoptError> {
        self.layer.adopt(Adoption { pricing: next.pricing.map(|pricing| self.reachable(pricing)), ..next })
    }

    /// Goes on with other prices: [`PaymentLayer::reprice`].
    pub fn reprice(&self, pricing: Box<dyn Pricing>, free: Vec<RoutePattern>) {
        self.layer.reprice(self.reachable(pricing), free);
    }

    fn reachable(&self, pricing: Box<dyn Pricing>) -> Box<dyn Pricing> {
        Box::new(Reachable { pricing, upstream: self.upstream.clone() })
    }

    /// Waits until no admitted call is worked on any more: [`PaymentLayer::drain`].
    pub async fn drain(&self) -> usize {
        self.layer.drain().await
    }
}

/// Whether a lease is long enough for a call of this length to be settled in it.
fn outlasts(lease: Duration, call: Duration) -> bool {
    call.saturating_add(SETTLING) < lease
}

/// The longest call that such a lease is long enough for.
pub(in crate::http) fn longest(lease: Duration) -> Duration {
    lease.saturating_sub(SETTLING + Duration::from_nanos(1))
}

/// Sells what the upstream has a path for.
struct Reachable {
    pricing: Box<dyn Pricing>,
    upstream: Upstream,
}

impl Pricing for Reachable {
    fn meter(&self, call: &Call<'_>) -> Result<Box<dyn Meter>, NotSold> {
        if self.upstream.accepts(call.target) { self.pricing.meter(call) } else { Err(NotSold) }
    }
}

impl Inner {
    /// Starts the threads. `current` is the issuer of the time, for what belongs to no request.
    fn start(parts: PaymentLayerParts, current: &Arc<Current<Issuer>>) -> io::Result<Self> {
        let PaymentLayerParts { gateway, issuer, pricing, free, observer, limits, call_timeout, key, upkeep: _ } =
            parts;
        if !outlasts(Duration::from_secs(gateway.lease_seconds().into()), call_timeout) {
            let what = "the lease of a spend must outlast the time-out of a call";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, what));
        }
        let terms = Terms::here(&gateway, &issuer, &key).map_err(io::Error::from)?;
        let here = Here::start(gateway, issuer, Arc::clone(&observer), &limits, current)?;
        Ok(Self {
            terms,
            ledger: Ledger::Here(here),
            places: Arc::new(Semaphore::new(limits.requests)),
            running: Arc::default(),
            sessions: Arc::new(Sessions::new(limits.sessions)),
            key: Arc::new(key),
            pricing: pricing.into(),
            free: free.into(),
            call_timeout,
            observer,
            limits,
        })
    }

    /// Starts the threads of a gateway without a set.
    fn start_remote(parts: RemoteLayerParts) -> io::Result<Self> {
        let RemoteLayerParts { id, key, root, directory: signed, issuer, refresh: _, .. } = parts;
        let RemoteLayerParts { pricing, free, observer, limits, call_timeout, .. } = parts;
        let invalid = |error: &dyn core::fmt::Display| io::Error::new(io::ErrorKind::InvalidInput, error.to_string());
        let directory = signed.verify(&root).map_err(|error| invalid(&error))?;
        let key = Arc::new(key);
        let gateway = RemoteGateway::new(id, directory, Arc::clone(&key)).map_err(|error| invalid(&error))?;
        let terms = Terms::of(gateway.directory(), &signed, &id, &key).map_err(io::Error::from)?;
        let ledger = Ledger::There(There::start(gateway, issuer, Arc::clone(&observer), &limits)?);
        if !outlasts(ledger.lease(), call_timeout) {
            let what =
                "the lease of a spend must outlast the time-out of a call, which is to be shorter than a session";
            return Err(invalid(&what));
        }
        Ok(Self {
            terms,
            ledger,
            places: Arc::new(Semaphore::new(limits.requests)),
            running: Arc::default(),
            sessions: Arc::new(Sessions::new(limits.sessions)),
            key,
            pricing: pricing.into(),
            free: free.into(),
            call_timeout,
            observer,
            limits,
        })
    }

    pub(in crate::http) fn load(&self) -> Load {
        let (waiting, settling) = self.ledger.waiting();
        Load {
            requests: self.limits.requests.saturating_sub(self.places.available_permits()),
            sessions: self.sessions.open(),
            waiting,
            settling,
        }
    }

    /// How long a call may take; less than was asked for where a directory of an issuer elsewhere leaves it less.
    fn timeout(&self) -> Duration {
        self.call_timeout.min(longest(self.ledger.lease()))
    }

    pub(in crate::http) fn id(&self) -> GatewayId {
        self.ledger.id()
    }

    pub(in crate::http) fn directory(&self) -> &Directory {
        self.ledger.directory()
    }

    /// What keeps an issuer elsewhere from admitting; none where he is here.
    pub(in crate::http) fn issuer_trouble(&self) -> Option<&'static str> {
        self.ledger.trouble()
    }

    pub(in crate::http) fn parties(&self) -> Option<(Arc<Gateway>, Arc<Issuer>)> {
        match &self.ledger {
            Ledger::Here(here) => Some((Arc::clone(&here.gateway), Arc::clone(&here.issuer))),
            Ledger::There(_) => None,
        }
    }

    /// Waits until nobody has a place, and closes the sessions that are open then. How many spends an issuer elsewhere has not settled.
    async fn drain(&self) -> usize {
        let all = u32::try_from(self.limits.requests).unwrap_or(u32::MAX);
        let _ = self.places.acquire_many(all).await;
        self.sessions.drain().await;
        match &self.ledger {
            Ledger::Here(_) => 0,
            Ledger::There(there) => there.drain().await,
        }
    }
}

impl Shared {
    /// The routes of the gateway's own.
    pub(in crate::http) fn own_routes(self: &Arc<Self>) -> Router {
        Router::new()
            .route(DIRECTORY_PATH, get(directory))
            .route(OPENAPI_PATH, get(openapi))
            .route(SETTLEMENT_PATH, post(settlement))
            .route(CANCEL_PATH, post(cancel))
            .route(TRANSFER_PATH, post(transfer))
            .route(ROLLOVER_PATH, post(rollover))
            .route(SESSION_PATH, post(open_session))
            .route(CLOSE_PATH, post(close_session))
            .with_state(Arc::clone(self))
            .merge(self.now().ledger.spent_router())
            .method_not_allowed_fallback(ProblemDetails::method_not_allowed)
    }

    /// Waits until no call is worked on, whatever it began under, and closes the sessions that are open then.
    pub(in crate::http) async fn drain(&self) -> usize {
        self.now().drain().await
    }
}

/// Whether a path is one of the gateway's own.
pub(in crate::http) fn is_own(path: &str) -> bool {
    let own = [
        DIRECTORY_PATH,
        OPENAPI_PATH,
        SETTLEMENT_PATH,
        CANCEL_PATH,
        TRANSFER_PATH,
        ROLLOVER_PATH,
        SESSION_PATH,
        CLOSE_PATH,
    ];
    // An epoch, or a bucket of one.
    let spent = path.strip_prefix(SPENT_PATH).is_some_and(|rest| matches!(rest.matches('/').count(), 1 | 3));
    own.contains(&path) || (spent && !path.ends_with('/'))
}

async fn directory(State(shared): State<Arc<Shared>>) -> Response {
    let inner = shared.now();
    let headers = [(header::CONTENT_TYPE, "application/octet-stream"), (header::CACHE_CONTROL, "no-cache")];
    (headers, inner.terms.directory.clone()).into_response()
}

async fn settlement(State(shared): State<Arc<Shared>>, request: HttpRequest) -> Response {
    let inner = shared.now();
    let outcome = Arc::clone(&inner).fetch(request).await;
    outcome.unwrap_or_else(|problem| inner.refuse(problem))
}

async fn cancel(State(shared): State<Arc<Shared>>, request: HttpRequest) -> Response {
    let inner = shared.now();
    let outcome = Arc::clone(&inner).cancel(request).await;
    outcome.unwrap_or_else(|problem| inner.refuse(problem))
}

async fn transfer(State(shared): State<Arc<Shared>>, request: HttpRequest) -> Response {
    let inner = shared.now();
    let outcome = Arc::clone(&inner).transfer(request).await;
    outcome.unwrap_or_else(|problem| inner.refuse(problem))
}

async fn rollover(State(shared): State<Arc<Shared>>, request: HttpRequest) -> Response {
    let inner = shared.now();
    let outcome = Arc::clone(&inner).rollover(request).await;
    outcome.unwrap_or_else(|problem| inner.refuse(problem))
}

async fn open_session(State(shared): State<Arc<Shared>>, request: HttpRequest) -> Response {
    let inner = shared.now();
    let outcome = Arc::clone(&inner).open_session(request).await;
    outcome.unwrap_or_else(|problem| inner.refuse(problem))
}

async fn close_session(State(shared): State<Arc<Shared>>, request: HttpRequest) -> Response {
    let inner = shared.now();
    let outcome = Arc::clone(&inner).close_session(request).await;
    outcome.unwrap_or_else(|problem| inner.refuse(problem))
}

impl Inner {
    pub(in crate::http) fn refuse(&self, problem: ProblemDetails) -> Response {
        let kind = problem.kind();
        let mut response = problem.into_response();
        self.observer.refused(kind, response.status());
        if response.status() == StatusCode::PAYMENT_REQUIRED {
            response.headers_mut().insert(header::WWW_AUTHENTICATE, self.terms.challenge.clone());
        }
        response
    }

    /// Goes on in a task of its own: a caller who hangs up does not stop what has to be settled.
    async fn apart<F>(self: Arc<Self>, work: impl FnOnce(Arc<Self>) -> F) -> Result<Response, ProblemDetails>
    where
        F: Future<Output = Result<Response, ProblemDetails>> + Send + 'static,
    {
        tokio::spawn(work(self)).await.unwrap_or_else(|_| Err(failed()))
    }
}

fn failed() -> ProblemDetails {
    ProblemDetails::plain(StatusCode::INTERNAL_SERVER_ERROR, "the gateway failed")
}

/// A settlement for whoever asked for it.
pub(in crate::http) fn settled_answer(settlement: &Settlement, receipt: Option<&[u8]>) -> Response {
    let settlement = payment::encode(&settlement.to_bytes());
    let receipt = receipt.map(payment::encode);
    ([(header::CACHE_CONTROL, "no-store")], axum::Json(SettlementAnswer { settlement, receipt })).into_response()
}

fn busy() -> ProblemDetails {
    ProblemDetails::new(Problem::Busy, "too much is waiting already; nothing was done")
}

fn work_problem(error: WorkError) -> ProblemDetails {
    match error {
        WorkError::Busy => busy(),
        WorkError::Gone => ProblemDetails::new(Problem::StoreUnavailable, "the gateway could not finish this"),
    }
}
