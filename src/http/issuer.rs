//! The issuer over HTTP: its directory, and minting.
//!
//! | route | request | answer |
//! | --- | --- | --- |
//! | `GET /.well-known/halometer/directory` | | the bytes of a [`SignedDirectory`](crate::protocol::SignedDirectory) |
//! | `POST /.well-known/halometer/mint` | the bytes of a [`MintRequest`] | the bytes of a [`MintResponse`](crate::protocol::MintResponse) |
//! | `GET /.well-known/halometer/spent/..` | | which notes are spent, where the set is at hand: [`spent`](super::spent) |
//!
//! A mint request holds secrets between the payer and the issuer: outside of one machine it travels over TLS.

use std::io;
use std::sync::Arc;

use axum::Router;
use axum::extract::rejection::BytesRejection;
use axum::extract::{DefaultBodyLimit, State};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use bytes::Bytes;
use http::{StatusCode, header};

use super::clock::now;
use super::gateway::DIRECTORY_PATH;
use super::problem::ProblemDetails;
use super::spent::SpentBuckets;
use crate::gateway::Rate;
use crate::issuer::{Issuer, MintError};
use crate::pipeline::TaskPool;
use crate::protocol::{MintRequest, Problem};
use crate::store::SpentSet;

/// Where payments are minted.
pub const MINT_PATH: &str = "/.well-known/halometer/mint";
/// Mints that wait; one more is answered `busy`.
const QUEUE: usize = 256;

const BYTES: (header::HeaderName, &str) = (header::CONTENT_TYPE, "application/octet-stream");

/// An issuer as an HTTP service. Cheap to clone.
#[derive(Clone, Debug)]
pub struct IssuerService {
    issuer: Arc<Issuer>,
    workers: Arc<TaskPool>,
    spent: Option<Arc<SpentBuckets>>,
}

impl IssuerService {
    /// Starts the worker thread.
    ///
    /// # Errors
    /// The system's, if it cannot be started.
    pub fn start(issuer: Arc<Issuer>) -> io::Result<Self> {
        Ok(Self { issuer, workers: Arc::new(TaskPool::start("mint", 1, QUEUE)?), spent: None })
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
            .route(MINT_PATH, post(mint))
            .layer(DefaultBodyLimit::max(MintRequest::LENGTH))
            .with_state(self.clone())
            .merge(spent)
    }
}

async fn directory(State(service): State<IssuerService>) -> Response {
    let bytes = service.issuer.signed_directory().to_bytes();
    ([BYTES, (header::CACHE_CONTROL, "no-cache")], bytes).into_response()
}

async fn mint(State(service): State<IssuerService>, body: Result<Bytes, BytesRejection>) -> Response {
    match service.mint(body).await {
        Ok(response) => ([BYTES, (header::CACHE_CONTROL, "no-store")], response).into_response(),
        Err(problem) => problem.into_response(),
    }
}

impl IssuerService {
    async fn mint(&self, body: Result<Bytes, BytesRejection>) -> Result<Vec<u8>, ProblemDetails> {
        let body = body.map_err(|rejection| ProblemDetails::plain(rejection.status(), rejection.body_text()))?;
        let request = MintRequest::from_bytes(&body).map_err(|error| {
            ProblemDetails::new(Problem::Malformed, error.to_string()).with_status(StatusCode::BAD_REQUEST)
        })?;
        let issuer = Arc::clone(&self.issuer);
        let minted = self.workers.run(move || issuer.mint(&request, now())).await;
        let minted = minted.map_err(|error| ProblemDetails::new(Problem::Busy, error.to_string()))?;
        minted.map(|response| response.to_bytes()).map_err(|error| mint_problem(&error))
    }
}

/// An issuer has no challenge to put beside a 402, so that what is wrong with a request has other statuses here.
fn mint_problem(error: &MintError) -> ProblemDetails {
    let details = ProblemDetails::new(error.problem(), error.to_string());
    match error.problem() {
        Problem::Unpaid => details.with_status(StatusCode::NOT_FOUND),
        Problem::Malformed => details.with_status(StatusCode::BAD_REQUEST),
        _ => details,
    }
}
