//! The issuer over HTTP.
//!
//! | route | request | answer |
//! | --- | --- | --- |
//! | `GET /.well-known/halometer/directory` | | the bytes of a [`SignedDirectory`](crate::protocol::SignedDirectory) |
//! | `POST /.well-known/halometer/mint` | the bytes of a [`MintRequest`](crate::protocol::MintRequest) | the bytes of a [`MintResponse`](crate::protocol::MintResponse) |
//! | `POST /.well-known/halometer/notice` | a payment notice: [`PaymentNotices`] | a [`NoticeAnswer`] |
//! | `GET /.well-known/halometer/spent/..` | | which notes are spent, where the set is at hand: [`spent`](super::spent) |
//!
//! A mint request holds secrets between the payer and the issuer: outside of one machine it travels over TLS.

mod mint;
mod notices;
mod observer;

use notices::Notices;
pub use notices::{NOTICE_SIGNATURE, NoticeAnswer, NoticeResult};
pub use observer::IssuerObserver;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{Request as HttpRequest, State};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use bytes::Bytes;
use http::header;
use http::request::Parts;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::gateway::{DIRECTORY_PATH, NoObserver, read_body};
use super::problem::ProblemDetails;
use super::spent::SpentBuckets;
use crate::gateway::Rate;
use crate::issuer::{Issuer, PaymentNotices};
use crate::pipeline::{TaskPool, WorkError};
use crate::protocol::Problem;
use crate::store::SpentSet;

/// Where payments are minted.
pub const MINT_PATH: &str = "/.well-known/halometer/mint";
/// Where it is told that somebody has paid.
pub const NOTICE_PATH: &str = "/.well-known/halometer/notice";

/// Mints that wait, and notices; one more is answered `busy`.
const QUEUE: usize = 256;
/// Requests of anybody that are read or worked on at a time; one more is answered `busy`.
const PLACES: usize = 512;
/// How long a request's body may take to arrive. The longest is 64 KiB.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);

const BYTES: (header::HeaderName, &str) = (header::CONTENT_TYPE, "application/octet-stream");

/// An issuer as an HTTP service. Cheap to clone.
#[derive(Clone)]
pub struct IssuerService {
    issuer: Arc<Issuer>,
    observer: Arc<dyn IssuerObserver>,
    notices: Option<Arc<Notices>>,
    workers: Arc<TaskPool>,
    places: Arc<Semaphore>,
    spent: Option<Arc<SpentBuckets>>,
}

impl core::fmt::Debug for IssuerService {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("IssuerService").field("issuer", &self.issuer).finish_non_exhaustive()
    }
}

impl IssuerService {
    /// Starts the worker thread.
    ///
    /// # Errors
    /// The system's, if it cannot be started.
    pub fn start(issuer: Arc<Issuer>) -> io::Result<Self> {
        Ok(Self {
            issuer,
            observer: Arc::new(NoObserver),
            notices: None,
            workers: Arc::new(TaskPool::start("mint", 1, QUEUE)?),
            places: Arc::new(Semaphore::new(PLACES)),
            spent: None,
        })
    }

    /// Tells this one what happens.
    #[must_use]
    pub fn with_observer(self, observer: Arc<dyn IssuerObserver>) -> Self {
        Self { observer, ..self }
    }

    /// Takes payment notices as well: what feeds the issuer's [`PaymentSource`](crate::issuer::PaymentSource), which should be
    /// these. Without them the route is 404.
    ///
    /// # Errors
    /// The system's, if the thread that reads them cannot be started.
    pub fn with_notices(self, notices: Arc<PaymentNotices>) -> io::Result<Self> {
        Ok(Self { notices: Some(Arc::new(Notices::start(notices)?)), ..self })
    }

    /// Tells as well which notes are spent, out of the set that the issuer settles in. `rate` is for all who ask.
    ///
    /// # Errors
    /// The system's, if the thread that reads cannot be started.
    pub fn with_spent_set(self, set: Arc<dyn SpentSet>, rate: Rate) -> io::Result<Self> {
        let spent = SpentBuckets::start(set, self.issuer.directory(), rate)?;
        Ok(Self { spent: Some(Arc::new(spent)), ..self })
    }

    /// The routes.
    pub fn router(&self) -> Router {
        let spent = self.spent.as_ref().map(|spent| spent.router()).unwrap_or_default();
        Router::new()
            .route(DIRECTORY_PATH, get(directory))
            .route(MINT_PATH, post(mint::mint))
            .route(NOTICE_PATH, post(notices::notice))
            .with_state(self.clone())
            .merge(spent)
    }

    /// Takes a place and reads the body, which is not longer than `max`. The place is kept until the request is answered.
    async fn receive(
        &self,
        request: HttpRequest,
        max: usize,
    ) -> Result<(Parts, Bytes, OwnedSemaphorePermit), ProblemDetails> {
        let place = Arc::clone(&self.places).try_acquire_owned().map_err(|_| work_problem(WorkError::Busy))?;
        let (parts, body) = request.into_parts();
        Ok((parts, read_body(body, max, BODY_TIMEOUT).await?, place))
    }
}

fn answered(outcome: Result<Response, ProblemDetails>) -> Response {
    outcome.unwrap_or_else(IntoResponse::into_response)
}

async fn directory(State(service): State<IssuerService>) -> Response {
    let bytes = service.issuer.signed_directory().to_bytes();
    ([BYTES, (header::CACHE_CONTROL, "no-cache")], bytes).into_response()
}

fn bytes_answer(bytes: Vec<u8>) -> Response {
    ([BYTES, (header::CACHE_CONTROL, "no-store")], bytes).into_response()
}

fn work_problem(error: WorkError) -> ProblemDetails {
    match error {
        WorkError::Busy => ProblemDetails::new(Problem::Busy, "too much is waiting already; nothing was done"),
        WorkError::Gone => ProblemDetails::new(Problem::StoreUnavailable, "the issuer could not finish this"),
    }
}
