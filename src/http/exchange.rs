//! The engine that carries one paid exchange: a request is read, priced, screened and admitted, then served, metered, settled and
//! answered.
//!
//! [`gateway`](super::gateway), [`layer`](super::layer) and [`beside`](super::beside) are ways to put it around a service.

mod adopt;
mod cancel;
mod decide;
mod engine;
mod fetch;
mod forward;
mod lease;
mod ledger;
mod limits;
mod local;
mod metering;
mod open;
mod parts;
mod received;
mod refresh;
mod remote;
mod rollover;
mod routes;
mod running;
mod serve;
mod session;
mod stream;
mod transfer;
mod upkeep;
mod work;

pub use adopt::{AdoptError, Adoption};
pub(in crate::http) use decide::{Asked, Decided, HeldCall, HeldSettled, HoldTerms};
pub(in crate::http) use engine::Engine;
pub(in crate::http) use forward::Next;
#[cfg(feature = "envoy")]
pub(in crate::http) use forward::OF_CALLERS;
pub use lease::longest_call;
pub use limits::GatewayLimits;
pub use parts::{PaymentLayerParts, RemoteLayerParts};
pub(in crate::http) use routes::is_own;
pub use upkeep::UpkeepTask;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::response::{IntoResponse as _, Response};
use http::{StatusCode, header};
use tokio::sync::Semaphore;

use super::pattern::RoutePattern;
use super::pricing::Pricing;
use super::problem::ProblemDetails;
use crate::clearing::RemoteGateway;
use crate::gateway::Gateway;
use crate::http::observer::Observer;
use crate::issuer::Issuer;
use crate::pipeline::{Current, WorkError};
use crate::protocol::{Directory, GatewayId, GatewaySigningKey, Problem};
use crate::quota::Shares;
use adopt::Terms;
use lease::{longest, outlasts};
use ledger::Ledger;
use local::Local;
use remote::Remote;
use running::Running;
use session::Sessions;

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
pub(in crate::http) struct Exchange {
    ledger: Ledger,
    pricing: Arc<dyn Pricing>,
    free: Arc<[RoutePattern]>,
    /// As it was asked for: see [`timeout`](Self::timeout).
    call_timeout: Duration,
    observer: Arc<dyn Observer>,
    limits: GatewayLimits,
    terms: Terms,
    places: Arc<Semaphore>,
    shares: Arc<Shares>,
    running: Arc<Running>,
    sessions: Arc<Sessions>,
    key: Arc<GatewaySigningKey>,
}

impl core::fmt::Debug for Exchange {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Exchange").field("gateway", &self.ledger.id()).finish_non_exhaustive()
    }
}

impl Exchange {
    /// Starts the threads. `current` is the issuer of the time, for what belongs to no request.
    fn start(parts: PaymentLayerParts, current: &Arc<Current<Issuer>>) -> io::Result<Self> {
        let PaymentLayerParts { gateway, issuer, pricing, free, observer, limits, call_timeout, key, upkeep: _ } =
            parts;
        if !outlasts(Duration::from_secs(gateway.lease_seconds().into()), call_timeout) {
            let what = "the lease of a spend must outlast the time-out of a call";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, what));
        }
        let terms = Terms::local(&gateway, &issuer, &key).map_err(io::Error::from)?;
        let local = Local::start(gateway, issuer, Arc::clone(&observer), &limits, current)?;
        Ok(Self {
            terms,
            ledger: Ledger::Local(local),
            places: Arc::new(Semaphore::new(limits.requests)),
            shares: Arc::new(Shares::new(limits.requests.div_ceil(2))),
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
        let ledger = Ledger::Remote(Remote::start(gateway, issuer, Arc::clone(&observer), &limits)?);
        if !outlasts(ledger.lease(), call_timeout) {
            let what =
                "the lease of a spend must outlast the time-out of a call, which is to be shorter than a session";
            return Err(invalid(&what));
        }
        Ok(Self {
            terms,
            ledger,
            places: Arc::new(Semaphore::new(limits.requests)),
            shares: Arc::new(Shares::new(limits.requests.div_ceil(2))),
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

    /// What keeps an issuer elsewhere from admitting; none where the issuer is local.
    pub(in crate::http) fn issuer_trouble(&self) -> Option<&'static str> {
        self.ledger.trouble()
    }

    pub(in crate::http) fn parties(&self) -> Option<(Arc<Gateway>, Arc<Issuer>)> {
        match &self.ledger {
            Ledger::Local(local) => Some((Arc::clone(&local.gateway), Arc::clone(&local.issuer))),
            Ledger::Remote(_) => None,
        }
    }

    /// Waits until nobody has a place, and closes the sessions that are open then. How many spends an issuer elsewhere has not settled.
    async fn drain(&self) -> usize {
        let all = u32::try_from(self.limits.requests).unwrap_or(u32::MAX);
        let _ = self.places.acquire_many(all).await;
        self.sessions.drain().await;
        match &self.ledger {
            Ledger::Local(_) => 0,
            Ledger::Remote(remote) => remote.drain().await,
        }
    }
}

impl Exchange {
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

fn busy() -> ProblemDetails {
    ProblemDetails::new(Problem::Busy, "too much is waiting already; nothing was done")
}

fn work_problem(error: WorkError) -> ProblemDetails {
    match error {
        WorkError::Busy => busy(),
        WorkError::Gone => ProblemDetails::new(Problem::StoreUnavailable, "the gateway could not finish this"),
    }
}
