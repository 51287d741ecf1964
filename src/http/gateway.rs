//! The gateway as a reverse proxy: asks for payment, admits, serves, meters, settles.
//!
//! | route | what |
//! | --- | --- |
//! | `GET /.well-known/halometer/directory` | the issuer's signed directory |
//! | `POST /.well-known/halometer/settlement` | the settlement of a spend, for whoever holds its session key |
//! | `POST /.well-known/halometer/cancel` | the bytes of a [`Cancellation`](crate::protocol::Cancellation), to its settlement |
//! | `POST /.well-known/halometer/transfer` | the bytes of a [`Transfer`](crate::protocol::Transfer), to both settlements |
//! | `POST /.well-known/halometer/rollover` | the bytes of an [`Opening`](crate::protocol::Opening) that rolls over, to its settlement |
//! | `GET /.well-known/halometer/spent/..` | which notes are spent: [`spent`](super::spent) |
//! | anything else | the service behind it, for a payment |
//!
//! The way of a paid request: its credential is read; its body is read, within limits; then, in a task of its own that goes on
//! when the caller hangs up, it is screened and its proof is verified and admitted by worker threads, it is sent on, its answer
//! is metered, and its spend is settled. So whatever the caller does, a spend that was admitted is settled.

mod cancel;
mod fetch;
mod limits;
mod observer;
mod open;
mod received;
mod rollover;
mod running;
mod transfer;
mod upkeep;
mod work;

pub use fetch::SettlementAnswer;
pub use limits::GatewayLimits;
pub use observer::{NoObserver, Observer};
pub(crate) use received::authorities;
pub use transfer::TransferAnswer;
pub use upkeep::UpkeepTask;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{Request as HttpRequest, State};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use bytes::Bytes;
use http::StatusCode;
use http::header::{self, HeaderValue};
use tokio::sync::Semaphore;
use tokio::task::AbortHandle;

use super::payment::{self, Challenge};
use super::pricing::Pricing;
use super::problem::ProblemDetails;
use super::spent::SpentBuckets;
use super::upstream::Upstream;
use crate::gateway::Gateway;
use crate::http::clock::now;
use crate::issuer::Issuer;
use crate::lifecycle::{AdmittedSpend, SettledSpend};
use crate::pipeline::{Pipeline, PipelineParts, TaskPool, WorkError};
use crate::protocol::{GatewaySigningKey, Problem};
use running::Running;

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

/// What a call may take besides the upstream's time: to be queued, and to be settled, a few tries included.
const SETTLING: Duration = Duration::from_secs(30);
/// Transfers that wait to be verified; one more is answered `busy`.
const TRANSFERS: usize = 64;

/// A gateway as an HTTP service. Cheap to clone.
#[derive(Clone)]
pub struct GatewayService(Arc<Inner>);

struct Inner {
    gateway: Arc<Gateway>,
    issuer: Arc<Issuer>,
    upstream: Upstream,
    pricing: Box<dyn Pricing>,
    observer: Arc<dyn Observer>,
    limits: GatewayLimits,
    challenge: HeaderValue,
    directory: Bytes,
    /// The authorities of the gateway's origins, and each with its scheme's default port.
    authorities: Vec<(String, String)>,
    pipeline: Pipeline,
    /// Settles. Its queue has no bound of its own: what was admitted is bounded, and must be settled.
    back: TaskPool,
    places: Arc<Semaphore>,
    running: Arc<Running>,
    /// Verifies and stores transfers.
    transfers: TaskPool,
    spent: SpentBuckets,
    key: GatewaySigningKey,
    upkeep: Option<AbortHandle>,
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.upkeep.iter().for_each(AbortHandle::abort);
    }
}

impl core::fmt::Debug for GatewayService {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("GatewayService").field("gateway", &self.0.gateway).finish_non_exhaustive()
    }
}

impl GatewayService {
    /// Starts the worker threads, and upkeep where it is given, for which it has to be called within a runtime. Upkeep ends with the
    /// last clone of the service, routers included.
    ///
    /// # Errors
    /// The system's, if a thread cannot be started. [`io::ErrorKind::InvalidInput`] if a call to the upstream may take so long that
    /// the lease of its spend can run out meanwhile: a retry would then settle it at nothing; or if the key is not the one that the
    /// directory names: nobody would believe its receipts.
    pub fn start(parts: GatewayServiceParts) -> io::Result<Self> {
        let GatewayServiceParts { gateway, issuer, upstream, pricing, observer, limits, key, upkeep } = parts;
        if upstream.timeout() + SETTLING >= Duration::from_secs(gateway.lease_seconds().into()) {
            let what = "the lease of a spend must outlast the time-out of the upstream";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, what));
        }
        let directory = gateway.directory();
        let challenge = Challenge::of(directory, &gateway.id()).to_header_value();
        let entry = directory.gateway(&gateway.id());
        if entry.is_none_or(|entry| entry.key != key.public_key()) {
            let what = "the key is not the one that the directory names for the gateway";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, what));
        }
        let origins = entry.map(|entry| entry.origins.as_slice()).unwrap_or_default();
        let (told, settling, settler) = (Arc::clone(&observer), Arc::clone(&gateway), Arc::clone(&issuer));
        let pipeline = Pipeline::start(PipelineParts {
            gateway: Arc::clone(&gateway),
            clock: Arc::new(now),
            // If it fails, the lease sees to it.
            abandoned: Arc::new(move |spend: AdmittedSpend| {
                let cost = spend.lapsed_cost(settling.directory().quantum());
                drop(settler.settle(settling.set(), &spend, cost, now()));
            }),
            verified: Arc::new(move |spends, elapsed| told.verified(spends, elapsed)),
            limits: limits.pipeline,
        })?;
        Ok(Self(Arc::new(Inner {
            challenge: HeaderValue::from_str(&challenge).map_err(io::Error::other)?,
            directory: issuer.signed_directory().to_bytes().into(),
            authorities: origins.iter().filter_map(|origin| authorities(origin)).collect(),
            pipeline,
            back: TaskPool::start("settle", 1, usize::MAX)?,
            places: Arc::new(Semaphore::new(limits.requests)),
            running: Arc::default(),
            transfers: TaskPool::start("transfer", 1, TRANSFERS)?,
            spent: SpentBuckets::start(gateway.shared_set(), directory, limits.spent)?,
            key,
            // Last, as nothing would stop it if the rest failed.
            upkeep: upkeep
                .map(|task| upkeep::start(task, Arc::clone(&gateway), Arc::clone(&issuer), Arc::clone(&observer)))
                .transpose()?,
            gateway,
            issuer,
            upstream,
            pricing,
            observer,
            limits,
        })))
    }

    /// The routes.
    pub fn router(&self) -> Router {
        Router::new()
            .route(DIRECTORY_PATH, get(directory))
            .route(SETTLEMENT_PATH, post(settlement))
            .route(CANCEL_PATH, post(cancel))
            .route(TRANSFER_PATH, post(transfer))
            .route(ROLLOVER_PATH, post(rollover))
            .fallback(serve)
            .with_state(self.clone())
            .merge(self.0.spent.router())
    }

    /// Waits until no admitted call is worked on any more. To be called after the server took its last request.
    pub async fn drain(&self) {
        let all = u32::try_from(self.0.limits.requests).unwrap_or(u32::MAX);
        let _ = self.0.places.acquire_many(all).await;
    }
}

async fn directory(State(service): State<GatewayService>) -> Response {
    let headers = [(header::CONTENT_TYPE, "application/octet-stream"), (header::CACHE_CONTROL, "no-cache")];
    (headers, service.0.directory.clone()).into_response()
}

async fn settlement(State(service): State<GatewayService>, request: HttpRequest) -> Response {
    let outcome = service.0.clone().fetch(request).await;
    outcome.unwrap_or_else(|problem| service.0.refuse(problem))
}

async fn cancel(State(service): State<GatewayService>, request: HttpRequest) -> Response {
    let outcome = service.0.clone().cancel(request).await;
    outcome.unwrap_or_else(|problem| service.0.refuse(problem))
}

async fn transfer(State(service): State<GatewayService>, request: HttpRequest) -> Response {
    let outcome = service.0.clone().transfer(request).await;
    outcome.unwrap_or_else(|problem| service.0.refuse(problem))
}

async fn rollover(State(service): State<GatewayService>, request: HttpRequest) -> Response {
    let outcome = service.0.clone().rollover(request).await;
    outcome.unwrap_or_else(|problem| service.0.refuse(problem))
}

async fn serve(State(service): State<GatewayService>, request: HttpRequest) -> Response {
    let outcome = service.0.clone().call(request).await;
    outcome.unwrap_or_else(|problem| service.0.refuse(problem))
}

impl Inner {
    fn refuse(&self, problem: ProblemDetails) -> Response {
        let mut response = problem.into_response();
        if response.status() == StatusCode::PAYMENT_REQUIRED {
            response.headers_mut().insert(header::WWW_AUTHENTICATE, self.challenge.clone());
        }
        response
    }

    /// Goes on in a task of its own: a caller who hangs up does not stop what has to be settled.
    async fn apart<F>(self: Arc<Self>, work: impl FnOnce(Arc<Self>) -> F) -> Result<Response, ProblemDetails>
    where
        F: Future<Output = Result<Response, ProblemDetails>> + Send + 'static,
    {
        let failed = || ProblemDetails::plain(StatusCode::INTERNAL_SERVER_ERROR, "the gateway failed");
        tokio::spawn(work(self)).await.unwrap_or_else(|_| Err(failed()))
    }
}

/// A settlement for whoever asked for it.
fn settled_answer(settled: &SettledSpend) -> Response {
    let settlement = payment::encode(&settled.settlement().to_bytes());
    ([(header::CACHE_CONTROL, "no-store")], axum::Json(SettlementAnswer { settlement })).into_response()
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
