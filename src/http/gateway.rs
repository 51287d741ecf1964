//! The gateway as a reverse proxy: asks for payment, admits, serves, meters, settles.
//!
//! | route | what |
//! | --- | --- |
//! | `GET /.well-known/halometer/directory` | the issuer's signed directory |
//! | `POST /.well-known/halometer/settlement` | the settlement of a spend, for whoever holds its session key |
//! | anything else | the service behind it, for a payment |
//!
//! The way of a paid request: its credential is read; its body is read, within limits; then, in a task of its own that goes on
//! when the caller hangs up, it is screened and its proof is verified and admitted by worker threads, it is sent on, its answer
//! is metered, and its spend is settled. So whatever the caller does, a spend that was admitted is settled.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Body;
use axum::extract::{Request as HttpRequest, State};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderValue};
use http::request::Parts;
use http::{Method, StatusCode};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use serde::{Deserialize, Serialize};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::clock::now;
use super::payment::{self, Challenge, Credential, CredentialError, Payload, RECEIPT_HEADER, Receipt};
use super::pricing::{Call, Outcome, Pricing};
use super::problem::ProblemDetails;
use super::server::Connection;
use super::upstream::{Upstream, UpstreamAnswer, UpstreamError};
use super::workers::{Limits, TaskPool, WorkError, WorkerPool};
use crate::gateway::{AdmitError, Fetched, Gateway, Opened, Screened};
use crate::issuer::{Issuer, SettleError};
use crate::lifecycle::{AdmittedSpend, AuthenticSpend, Evidence, SettledSpend, VerifyError, verify_batch};
use crate::protocol::{
    ContentDigest, Credits, Digest, Directory, Following, Opening, Problem, Request, Settlement, Tariff,
};

/// Where the signed directory is found.
pub const DIRECTORY_PATH: &str = "/.well-known/halometer/directory";
/// Where settlements are asked for.
pub const SETTLEMENT_PATH: &str = "/.well-known/halometer/settlement";

/// Limits of a gateway.
#[derive(Clone, Copy, Debug)]
pub struct GatewayLimits {
    /// Longest request body, bytes.
    pub max_body: usize,
    /// How long a request body may take to arrive.
    pub body_timeout: Duration,
    /// Requests that are worked on at a time; one more is answered `busy`.
    pub requests: usize,
    /// Spends that wait to be verified; one more is answered `busy`.
    pub verify_queue: usize,
    /// Spends that are verified together, at most.
    pub verify_batch: usize,
    /// Threads that verify.
    pub verify_threads: usize,
}

impl Default for GatewayLimits {
    /// 4 MiB in 20 s, 1024 requests, 1024 spends waiting, 64 together, a thread for every core.
    fn default() -> Self {
        Self {
            max_body: 4 << 20,
            body_timeout: Duration::from_secs(20),
            requests: 1024,
            verify_queue: 1024,
            verify_batch: 64,
            verify_threads: std::thread::available_parallelism().map_or(1, usize::from),
        }
    }
}

/// Is told what happens at a gateway. Nothing that it is told may be logged with a time or address beside it, but for sums.
pub trait Observer: Send + Sync {
    /// So many spends were verified together in this time.
    fn verified(&self, spends: usize, elapsed: Duration) {
        let _ = (spends, elapsed);
    }

    /// Somebody spent a note twice, and here is the proof of it.
    fn double_spend(&self, evidence: Evidence) {
        let _ = evidence;
    }
}

/// An observer that does not care.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoObserver;

impl Observer for NoObserver {}

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
}

impl core::fmt::Debug for GatewayServiceParts {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("GatewayServiceParts").field("gateway", &self.gateway).finish_non_exhaustive()
    }
}

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
    /// Screens and fetches: a look into the set and a session signature.
    front: TaskPool,
    verifier: WorkerPool<AuthenticSpend, Result<Opened, AdmitError>>,
    /// Settles. Its queue has no bound of its own: what was admitted is bounded, and must be settled.
    back: TaskPool,
    places: Arc<Semaphore>,
}

impl core::fmt::Debug for GatewayService {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("GatewayService").field("gateway", &self.0.gateway).finish_non_exhaustive()
    }
}

/// What [`SETTLEMENT_PATH`] answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SettlementAnswer {
    /// The settlement, base64url.
    pub settlement: String,
}

impl GatewayService {
    /// Starts the worker threads.
    ///
    /// # Errors
    /// The system's, if a thread cannot be started.
    pub fn start(parts: GatewayServiceParts) -> io::Result<Self> {
        let GatewayServiceParts { gateway, issuer, upstream, pricing, observer, limits } = parts;
        let directory = gateway.directory();
        let challenge = Challenge::of(directory, &gateway.id()).to_header_value();
        let entry = directory.gateway(&gateway.id());
        let origins = entry.map(|entry| entry.origins.as_slice()).unwrap_or_default();
        let (verifying, told) = (Arc::clone(&gateway), Arc::clone(&observer));
        let verifier = WorkerPool::start(
            "verify",
            Limits { threads: limits.verify_threads, queue: limits.verify_queue, batch: limits.verify_batch },
            move |spends| verify_and_admit(&verifying, &*told, spends),
        )?;
        Ok(Self(Arc::new(Inner {
            challenge: HeaderValue::from_str(&challenge).map_err(io::Error::other)?,
            directory: issuer.signed_directory().to_bytes().into(),
            authorities: origins.iter().filter_map(|origin| authorities(origin)).collect(),
            front: TaskPool::start("screen", 1, limits.requests)?,
            verifier,
            back: TaskPool::start("settle", 1, usize::MAX)?,
            places: Arc::new(Semaphore::new(limits.requests)),
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
            .fallback(serve)
            .with_state(self.clone())
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

async fn serve(State(service): State<GatewayService>, request: HttpRequest) -> Response {
    let outcome = service.0.clone().call(request).await;
    outcome.unwrap_or_else(|problem| service.0.refuse(problem))
}

/// A request whose body is here, and the place among those that are worked on.
struct Received {
    parts: Parts,
    body: Bytes,
    target: String,
    authority: String,
    place: OwnedSemaphorePermit,
}

impl Inner {
    fn refuse(&self, problem: ProblemDetails) -> Response {
        let mut response = problem.into_response();
        if response.status() == StatusCode::PAYMENT_REQUIRED {
            response.headers_mut().insert(header::WWW_AUTHENTICATE, self.challenge.clone());
        }
        response
    }

    async fn call(self: Arc<Self>, request: HttpRequest) -> Result<Response, ProblemDetails> {
        let Payload::Opening(opening) = read_credential(request.headers())? else {
            return Err(ProblemDetails::new(Problem::Malformed, "this credential opens no session"));
        };
        // Before the body is read: a caller who cannot even get the length right does not get to send one.
        if opening.len() != Opening::LENGTH {
            return Err(ProblemDetails::new(Problem::Malformed, "the spend has the wrong length"));
        }
        let connection = request.extensions().get::<Connection>().cloned().unwrap_or_default();
        let received = self.receive(request, self.limits.max_body).await?;
        if !self.upstream.accepts(&received.target) {
            return Err(ProblemDetails::plain(StatusCode::NOT_FOUND, "there is no such path"));
        }
        // From here on in a task of its own: a caller who hangs up does not stop what has to be settled.
        let work = tokio::spawn(async move { self.open(opening, received, connection).await });
        work.await.unwrap_or_else(|_| {
            Err(ProblemDetails::plain(StatusCode::INTERNAL_SERVER_ERROR, "the gateway failed"))
        })
    }

    /// Takes a place, finds out what is asked for and where, and reads the body.
    async fn receive(&self, request: HttpRequest, max_body: usize) -> Result<Received, ProblemDetails> {
        let place = Arc::clone(&self.places).try_acquire_owned().map_err(|_| busy())?;
        let (parts, body) = request.into_parts();
        let authority = self.authority(&parts).ok_or_else(|| {
            ProblemDetails::new(Problem::WrongGateway, "the request is for a host that is not this gateway's")
        })?;
        let target = parts.uri.path_and_query().map(|target| target.as_str().to_owned());
        let target = target.ok_or_else(|| ProblemDetails::plain(StatusCode::BAD_REQUEST, "the request has no path"))?;
        let body = read_body(body, max_body, self.limits.body_timeout).await?;
        Ok(Received { parts, body, target, authority, place })
    }

    /// The authority that the request is for, in the form that session signatures use; none if it is not one of the gateway's.
    fn authority(&self, parts: &Parts) -> Option<String> {
        let host = parts.headers.get(header::HOST).and_then(|host| host.to_str().ok());
        let asked = parts.uri.authority().map(http::uri::Authority::as_str).or(host)?.to_ascii_lowercase();
        let found = self.authorities.iter().find(|(short, long)| *short == asked || *long == asked);
        found.map(|(short, _)| short.clone())
    }

    async fn open(
        self: Arc<Self>,
        opening: Vec<u8>,
        received: Received,
        connection: Connection,
    ) -> Result<Response, ProblemDetails> {
        let screened = {
            let gateway = Arc::clone(&self.gateway);
            let signed = Signed::of(&received);
            let screen = move || signed.with(|request| gateway.screen(&opening, request, now()));
            self.front.run(screen).await.map_err(work_problem)?
        };
        let spend = match screened?.map_err(|error| self.refusal(error))? {
            Screened::Known(opened) => return self.known(opened).await,
            Screened::Unknown(spend) | Screened::Conflict(spend) => spend,
        };
        let tariff = spend.spend().tariff;
        // A bad proof makes its whole batch be looked through, so that whoever sent one is verified alone from then on.
        let verdict = match connection.is_suspect() {
            true => self.verifier.submit_alone(spend).await,
            false => self.verifier.submit(spend).await,
        };
        match verdict.map_err(work_problem)? {
            Ok(Opened::Admitted(spend)) => self.work(spend, &tariff, received).await,
            Ok(opened) => self.known(opened).await,
            Err(error) => {
                if error.problem() == Problem::ProofInvalid {
                    connection.suspect();
                }
                Err(self.refusal(error))
            }
        }
    }

    /// Answers a spend that is in the set already. It is never served again.
    async fn known(&self, opened: Opened) -> Result<Response, ProblemDetails> {
        let settled = match opened {
            Opened::Settled(settled) => settled,
            // Nothing is metered before a call is over, so that a process that died had metered nothing.
            Opened::Lapsed(spend) | Opened::Admitted(spend) => self.settle(spend, Credits::ZERO).await?,
            Opened::InProgress => {
                return Err(ProblemDetails::new(Problem::InProgress, "this very spend is being worked on"));
            }
        };
        let detail = "this very spend was settled; its settlement is attached, and nothing more was charged";
        Err(ProblemDetails::new(Problem::AlreadySpent, detail).with_settlement(&settled.settlement().to_bytes()))
    }

    fn refusal(&self, error: AdmitError) -> ProblemDetails {
        let details = ProblemDetails::new(error.problem(), error.to_string());
        if let AdmitError::DoubleSpend(evidence) = error {
            self.observer.double_spend(*evidence);
        }
        details
    }

    /// Serves, meters and settles an admitted spend.
    async fn work(&self, spend: AdmittedSpend, tariff: &Digest, received: Received) -> Result<Response, ProblemDetails> {
        let Received { parts, body, target, place, .. } = received;
        let Parts { method, headers, .. } = parts;
        let answer = self.upstream.send(method, &target, &headers, body.clone()).await;
        let cost = self.cost(&body, &answer, tariff, spend.charge());
        let settled = self.settle(spend, cost).await?;
        drop(place);
        match answer {
            Ok(answer) => Ok(paid_response(answer, settled.settlement(), cost)),
            Err(error) => Err(upstream_problem(&error).with_settlement(&settled.settlement().to_bytes())),
        }
    }

    fn cost(
        &self,
        request: &Bytes,
        answer: &Result<UpstreamAnswer, UpstreamError>,
        tariff: &Digest,
        charge: Credits,
    ) -> Credits {
        let outcome = match answer {
            Ok(answer) => Outcome::Answered { status: answer.status, body: &answer.body },
            Err(error) => Outcome::Failed(error),
        };
        let directory = self.gateway.directory();
        let quantum = directory.quantum();
        let cost = find_tariff(directory, tariff)
            .and_then(|tariff| self.pricing.cost(&Call { request, outcome }, tariff, quantum))
            .and_then(|cost| cost.round_up(quantum));
        // The charge is a class of the directory, and so a multiple of the quantum.
        cost.map_or(charge, |cost| cost.min(charge))
    }

    async fn settle(&self, spend: AdmittedSpend, cost: Credits) -> Result<SettledSpend, ProblemDetails> {
        let spend = Arc::new(spend);
        let mut pause = Duration::from_millis(50);
        for _ in 0..5 {
            let (gateway, issuer, spend) = (Arc::clone(&self.gateway), Arc::clone(&self.issuer), Arc::clone(&spend));
            let settle = move || issuer.settle(gateway.set(), &spend, cost, now());
            match self.back.run(settle).await {
                Ok(Ok(settled)) => return Ok(settled),
                Ok(Err(SettleError::Store(_))) => {}
                Ok(Err(error)) => return Err(ProblemDetails::new(error.problem(), error.to_string())),
                Err(error) => return Err(work_problem(error)),
            }
            // The set is what makes it happen once, so that a store that failed may be asked again.
            tokio::time::sleep(pause).await;
            pause *= 2;
        }
        let detail = "the call was served and is not settled yet: ask for its settlement later";
        Err(ProblemDetails::new(Problem::StoreUnavailable, detail))
    }

    async fn fetch(self: Arc<Self>, request: HttpRequest) -> Result<Response, ProblemDetails> {
        let Payload::Following(following) = read_credential(request.headers())? else {
            return Err(ProblemDetails::new(Problem::Malformed, "this credential asks for no settlement"));
        };
        if following.len() != Following::LENGTH {
            return Err(ProblemDetails::new(Problem::Malformed, "the credential has the wrong length"));
        }
        let received = self.receive(request, 1024).await?;
        let gateway = Arc::clone(&self.gateway);
        let signed = Signed::of(&received);
        let fetch = move || signed.with(|request| gateway.fetch(&following, request));
        match self.front.run(fetch).await.map_err(work_problem)?? {
            Ok(Fetched::Settled(settled)) => {
                let settlement = payment::encode(&settled.settlement().to_bytes());
                Ok(([(header::CACHE_CONTROL, "no-store")], axum::Json(SettlementAnswer { settlement })).into_response())
            }
            Ok(Fetched::InProgress) => {
                Err(ProblemDetails::new(Problem::InProgress, "this very spend is being worked on"))
            }
            Err(error) => Err(ProblemDetails::new(error.problem(), error.to_string())),
        }
    }
}

/// The tariff that the caller agreed to. It was valid when the spend was admitted; by now it may be gone from `accepted_tariff`.
fn find_tariff<'a>(directory: &'a Directory, digest: &Digest) -> Option<&'a Tariff> {
    directory.parts().tariffs.iter().find(|tariff| tariff.digest() == *digest)
}

/// The parts of a request that session signatures cover, owned, so that the digest is computed where it blocks nobody.
struct Signed {
    authority: String,
    method: Method,
    target: String,
    body: Bytes,
}

impl Signed {
    fn of(received: &Received) -> Self {
        Self {
            authority: received.authority.clone(),
            method: received.parts.method.clone(),
            target: received.target.clone(),
            body: received.body.clone(),
        }
    }

    fn with<T>(&self, action: impl FnOnce(&Request<'_>) -> T) -> Result<T, ProblemDetails> {
        let content = ContentDigest::of(&self.body);
        let request = Request::new(&self.authority, self.method.as_str(), &self.target, content)
            .map_err(|error| ProblemDetails::plain(StatusCode::URI_TOO_LONG, error.to_string()))?;
        Ok(action(&request))
    }
}

/// Runs on the verifying threads.
fn verify_and_admit(
    gateway: &Gateway,
    observer: &dyn Observer,
    spends: Vec<AuthenticSpend>,
) -> Vec<Result<Opened, AdmitError>> {
    let count = spends.len();
    let started = Instant::now();
    let mut keyed = Vec::with_capacity(count);
    let mut keyless = vec![false; count];
    for (index, spend) in spends.into_iter().enumerate() {
        match gateway.verifying_key(spend.key().epoch) {
            Some(key) => keyed.push((spend, key)),
            None => keyless[index] = true,
        }
    }
    let mut verdicts = verify_batch(keyed, &mut rand::rng()).into_iter();
    observer.verified(count, started.elapsed());
    keyless
        .into_iter()
        .map(|keyless| match keyless {
            true => Err(VerifyError::OtherEpochKey.into()),
            // There is a verdict for every spend; if there were none, it would not be a good one.
            false => gateway.admit(verdicts.next().unwrap_or(Err(VerifyError::OtherEpochKey))?, now()),
        })
        .collect()
}

fn read_credential(headers: &HeaderMap) -> Result<Payload, ProblemDetails> {
    let values = headers.get_all(header::AUTHORIZATION).iter().map(HeaderValue::as_bytes);
    match Credential::from_header_values(values) {
        Ok(credential) => Ok(credential.payload),
        Err(CredentialError::Absent) => {
            let detail = "this service is paid for with halometer credit; see the challenge";
            Err(ProblemDetails::new(Problem::Unpaid, detail))
        }
        Err(error) => Err(ProblemDetails::new(Problem::Malformed, error.to_string())),
    }
}

async fn read_body(body: Body, max: usize, timeout: Duration) -> Result<Bytes, ProblemDetails> {
    let read = tokio::time::timeout(timeout, Limited::new(body, max).collect()).await;
    match read {
        Err(_) => Err(ProblemDetails::plain(StatusCode::REQUEST_TIMEOUT, "the body did not arrive in time")),
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => {
            let detail = format!("the body is longer than {max} bytes");
            Err(ProblemDetails::plain(StatusCode::PAYLOAD_TOO_LARGE, detail))
        }
        Ok(Err(_)) => Err(ProblemDetails::plain(StatusCode::BAD_REQUEST, "the body broke off")),
    }
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

/// What the service answered, with the receipt if it was a success (the scheme allows it nowhere else; after a failure the
/// settlement is asked for).
fn paid_response(answer: UpstreamAnswer, settlement: &Settlement, cost: Credits) -> Response {
    let UpstreamAnswer { status, mut headers, body } = answer;
    // These would tell the caller that *he* lacks a permission, when it is the gateway's that the service refused.
    let ours = [StatusCode::UNAUTHORIZED, StatusCode::PAYMENT_REQUIRED, StatusCode::PROXY_AUTHENTICATION_REQUIRED];
    if ours.contains(&status) {
        let problem = ProblemDetails::plain(StatusCode::BAD_GATEWAY, "the upstream refused the gateway");
        return problem.with_settlement(&settlement.to_bytes()).into_response();
    }
    if status.is_success() {
        let receipt = Receipt::new(&settlement.to_bytes(), cost.micro(), now().seconds());
        if let Ok(value) = HeaderValue::from_str(&receipt.to_header_value()) {
            headers.insert(RECEIPT_HEADER, value);
        }
        headers.append(header::CACHE_CONTROL, HeaderValue::from_static("private"));
    }
    (status, headers, body).into_response()
}

fn upstream_problem(error: &UpstreamError) -> ProblemDetails {
    let status = match error {
        UpstreamError::Timeout => StatusCode::GATEWAY_TIMEOUT,
        _ => StatusCode::BAD_GATEWAY,
    };
    ProblemDetails::plain(status, error.to_string())
}

/// The authority of an origin as session signatures have it, and with the port always.
pub(crate) fn authorities(origin: &str) -> Option<(String, String)> {
    let url = reqwest::Url::parse(origin).ok()?;
    let host = url.host_str()?.to_ascii_lowercase();
    let long = format!("{host}:{}", url.port_or_known_default()?);
    let short = url.port().map_or(host, |_| long.clone());
    Some((short, long))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn authorities_of_origins() {
        let of = |origin| authorities(origin).unwrap();
        assert_eq!(of("https://API.example.org"), ("api.example.org".into(), "api.example.org:443".into()));
        assert_eq!(of("http://127.0.0.1:8080/"), ("127.0.0.1:8080".into(), "127.0.0.1:8080".into()));
        assert_eq!(of("http://[::1]:80"), ("[::1]".into(), "[::1]:80".into()));
        assert_eq!(authorities("nonsense"), None);
    }
}
