//! The engine that carries one paid exchange: a request is read, priced, screened and admitted, then served, metered, settled and
//! answered.
//!
//! [`gateway`](super::gateway), [`layer`](super::layer) and [`beside`](super::beside) are ways to put it around a service.

mod adopt;
mod answer;
mod bill;
mod call;
mod decide;
mod engine;
mod errands;
mod forward;
mod found;
mod free;
mod inflow;
mod lease;
mod ledger;
mod limits;
mod local;
mod outflow;
mod parts;
mod pass;
mod problems;
mod received;
mod remote;
mod reply;
mod routes;
mod running;
mod session;

pub use adopt::{AdoptError, Adoption};
pub(in crate::http) use decide::{Asked, Decided, HeldCall, HeldSettled, HoldTerms, decide};
pub(in crate::http) use engine::Engine;
pub(in crate::http) use forward::Next;
#[cfg(feature = "envoy")]
pub(in crate::http) use forward::PASSED;
pub(in crate::http) use forward::{AlsoPassed, may_pass};
pub use lease::longest_call;
pub use limits::GatewayLimits;
pub use local::UpkeepTask;
pub use parts::{ExchangeParts, PaymentLayerParts, RemoteLayerParts};
pub(in crate::http) use routes::is_own;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::Request as HttpRequest;
use axum::response::{IntoResponse as _, Response};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use tokio::sync::Semaphore;

use super::observer::Observer;
use super::pattern::RoutePattern;
use super::peers::Peers;
use super::pricing::{Call, Meter, NotSold, Pricing, Rates};
use super::problem::ProblemDetails;
use super::requests::sender;
use crate::clearing::RemoteGateway;
use crate::gateway::Gateway;
use crate::issuer::Issuer;
use crate::pipeline::Current;
use crate::protocol::{
    ContentDigest, Credits, Digest, Directory, GatewayId, GatewaySigningKey, Receipt as SignedReceipt, ReceiptSubject,
    SpendKey,
};
use crate::quota::Shares;
use adopt::Terms;
use lease::{longest, outlasts};
use ledger::Ledger;
use local::Local;
use problems::{busy, failed};
use received::{Place, Received};
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
    /// The other processes over the same set, if there may be some.
    peers: Option<Peers>,
}

impl core::fmt::Debug for Exchange {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Exchange").field("gateway", &self.ledger.id()).finish_non_exhaustive()
    }
}

impl Exchange {
    /// Starts the threads. `current` is the issuer of the time, for what belongs to no request.
    fn start(parts: PaymentLayerParts, current: &Arc<Current<Issuer>>) -> io::Result<Self> {
        let PaymentLayerParts { gateway, issuer, key, exchange, upkeep: _, peers } = parts;
        let ExchangeParts { pricing, free, observer, limits, call_timeout } = exchange;
        if !outlasts(Duration::from_secs(gateway.lease_seconds().into()), call_timeout) {
            let what = "the lease of a spend must outlast the time-out of a call";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, what));
        }
        if peers.as_ref().is_some_and(|peers| peers.owner() != gateway.owner()) {
            let what = "the replicas would pass requests on to another owner than the gateway's";
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
            peers,
        })
    }

    /// Starts the threads of a gateway without a set.
    fn start_remote(parts: RemoteLayerParts) -> io::Result<Self> {
        let RemoteLayerParts { id, key, root, directory: signed, issuer, refresh: _, exchange } = parts;
        let ExchangeParts { pricing, free, observer, limits, call_timeout } = exchange;
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
            peers: None,
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

    /// The other replicas; none if this gateway is alone.
    pub(in crate::http) fn peers(&self) -> Option<&Peers> {
        self.peers.as_ref()
    }

    pub(in crate::http) fn parties(&self) -> Option<(Arc<Gateway>, Arc<Issuer>)> {
        self.ledger.parties()
    }

    /// Waits until nobody has a place, and closes the sessions that are open then. How many spends an issuer elsewhere has not settled.
    async fn drain(&self) -> usize {
        let all = u32::try_from(self.limits.requests).unwrap_or(u32::MAX);
        let _ = self.places.acquire_many(all).await;
        self.sessions.drain().await;
        self.ledger.drain().await
    }

    /// Answers a request for the service.
    pub(in crate::http) async fn serve(self: Arc<Self>, request: HttpRequest, next: Next) -> Response {
        if wants_upgrade(request.headers()) {
            return self.refuse_upgrade();
        }
        let outcome = match self.is_free(&request) {
            true => free::pass(&self, request, next).await,
            false => call::pay(Arc::clone(&self), request, next).await,
        };
        outcome.unwrap_or_else(|problem| self.refuse(problem))
    }

    /// What goes on in another protocol cannot be metered, and a plain `GET` is not what was asked for.
    fn refuse_upgrade(&self) -> Response {
        let detail = "calls are paid for one by one, over plain requests: send it without `Upgrade`";
        let mut response = self.refuse(ProblemDetails::plain(StatusCode::UPGRADE_REQUIRED, detail));
        response.headers_mut().insert(header::UPGRADE, HeaderValue::from_static("HTTP/1.1"));
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
        response
    }

    /// Whether a request costs nothing.
    fn is_free(&self, request: &HttpRequest) -> bool {
        self.free.iter().any(|route| route.matches(request.method(), request.uri().path()))
    }

    /// Takes a place for a request. One sender has half of them at most.
    fn place(&self, request: &HttpRequest) -> Result<Place, ProblemDetails> {
        let share = self.shares.take(sender(request.extensions())).ok_or_else(busy)?;
        let place = Arc::clone(&self.places).try_acquire_owned().map_err(|_| busy())?;
        Ok((place, share))
    }

    /// Takes a place, and reads a request.
    async fn receive(&self, request: HttpRequest, max_body: usize) -> Result<Received, ProblemDetails> {
        let place = self.place(&request)?;
        Received::read(request, &self.terms.authorities, max_body, self.limits.body_timeout, place).await
    }

    /// What meters a request.
    fn meter(&self, received: &Received) -> Result<Box<dyn Meter>, ProblemDetails> {
        let Parts { method, headers, .. } = &received.parts;
        let call = Call { method, target: &received.target, headers, body: &received.body };
        let meter = self.pricing.meter(&call);
        meter.map_err(|error| {
            let status = match error {
                NotSold::Path => StatusCode::NOT_FOUND,
                NotSold::Malformed(_) => StatusCode::BAD_REQUEST,
                NotSold::Unsupported(_) => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            };
            ProblemDetails::plain(status, error.to_string())
        })
    }

    /// What a charge is spent by.
    fn rates(&self, tariff: &Digest, charge: Credits) -> Rates {
        let directory = self.ledger.directory();
        // The one that the caller agreed to. It was valid when the spend was admitted; by now it may be gone from `accepted_tariff`.
        let tariff = directory.parts().tariffs.iter().find(|known| known.digest() == *tariff);
        Rates::new(tariff.cloned(), directory.quantum(), charge)
    }

    /// The signed receipt. None where the pricing reports a usage that no receipt can have.
    fn receipt(
        &self,
        spend: SpendKey,
        content: ContentDigest,
        usage: Vec<(String, u64)>,
        cost: Credits,
    ) -> Option<Vec<u8>> {
        let (issuer, gateway) = (self.directory().issuer(), self.id());
        let subject = ReceiptSubject { issuer, gateway, spend, content };
        let receipt = SignedReceipt::sign(&self.key, &subject, usage, cost, rand::random());
        receipt.ok().map(|receipt| receipt.to_bytes())
    }

    /// Length of the longest body, bytes.
    #[cfg(feature = "envoy")]
    pub(in crate::http) fn max_body(&self) -> usize {
        self.limits.max_body
    }

    /// Whether a call may be held for so long, and still be settled by the ledger that admitted it.
    pub(in crate::http) fn outlasts(&self, hold: Duration) -> bool {
        outlasts(self.ledger.lease(), hold)
    }

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

    fn succeed(&self, next: Adoption) -> Result<Self, AdoptError> {
        let Adoption { gateway, issuer, pricing, free } = next;
        let Ledger::Local(local) = &self.ledger else { return Err(AdoptError::OtherGateway) };
        let same_set = Arc::ptr_eq(&gateway.shared_set(), &local.gateway.shared_set());
        if gateway.id() != local.gateway.id() || gateway.owner() != local.gateway.owner() || !same_set {
            return Err(AdoptError::OtherGateway);
        }
        gateway.directory().check_follows(local.gateway.directory())?;
        let terms = Terms::local(&gateway, &issuer, &self.key)?;
        Ok(self.with(Ledger::Local(local.succeed(gateway, issuer)), terms, pricing, free))
    }

    /// The same with what depends on the directory.
    fn with(
        &self,
        ledger: Ledger,
        terms: Terms,
        pricing: Option<Box<dyn Pricing>>,
        free: Option<Vec<RoutePattern>>,
    ) -> Self {
        Self {
            terms,
            ledger,
            pricing: pricing.map_or_else(|| Arc::clone(&self.pricing), Arc::from),
            free: free.map_or_else(|| Arc::clone(&self.free), Arc::from),
            call_timeout: self.call_timeout,
            observer: Arc::clone(&self.observer),
            limits: self.limits,
            places: Arc::clone(&self.places),
            shares: Arc::clone(&self.shares),
            running: Arc::clone(&self.running),
            sessions: Arc::clone(&self.sessions),
            key: Arc::clone(&self.key),
            peers: self.peers.clone(),
        }
    }
}

/// Whether a request asks for another protocol. Some clients offer HTTP/2 with each request, and go on without it.
fn wants_upgrade(headers: &HeaderMap) -> bool {
    let offered =
        headers.get_all(header::UPGRADE).iter().flat_map(|value| value.as_bytes().split(|byte| *byte == b','));
    offered.map(<[u8]>::trim_ascii).any(|name| {
        let name = name.to_ascii_lowercase();
        !name.is_empty() && name != b"h2c" && !name.starts_with(b"http/") && !name.starts_with(b"tls/")
    })
}
