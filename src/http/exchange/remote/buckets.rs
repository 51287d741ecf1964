//! Which notes are spent, as the issuer says it.

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request as HttpRequest, State};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use bytes::Bytes;
use http::{Method, StatusCode, header};
use http_body_util::BodyExt as _;
use tokio::sync::Semaphore;

use crate::http::issuer_client::IssuerClient;
use crate::http::problem::ProblemDetails;
use crate::http::requests::sender;
use crate::http::wire::{RESTORE_CHANGE_PATH, RESTORE_MEMO_PATH, SPENT_PATH};
use crate::protocol::{Problem, Sender};
use crate::quota::Shares;

/// Answers that are passed on at a time; one more is refused as busy.
const PLACES: usize = 64;
/// Of one sender.
const PLACES_EACH: usize = 16;

/// Passes questions on to the issuer, and its answers back as they come. An answer that breaks off there breaks off here.
pub(super) struct Buckets {
    issuer: IssuerClient,
    places: Arc<Semaphore>,
    shares: Arc<Shares>,
}

impl Buckets {
    pub(super) fn new(issuer: IssuerClient) -> Self {
        let (places, shares) = (Arc::new(Semaphore::new(PLACES)), Arc::new(Shares::new(PLACES_EACH)));
        Self { issuer, places, shares }
    }

    pub(super) fn router(buckets: &Arc<Self>) -> Router {
        Router::new()
            .route(&format!("{SPENT_PATH}/{{epoch}}"), get(pass))
            .route(&format!("{SPENT_PATH}/{{epoch}}/{{bits}}/{{value}}"), get(pass))
            // A wallet that is being restored asks the issuer itself.
            .route(RESTORE_MEMO_PATH, post(ProblemDetails::not_found))
            .route(RESTORE_CHANGE_PATH, post(ProblemDetails::not_found))
            .with_state(Arc::clone(buckets))
    }
}

async fn pass(State(buckets): State<Arc<Buckets>>, request: HttpRequest) -> Response {
    let sender = sender(request.extensions());
    buckets.answer(request.uri().path(), sender).await.unwrap_or_else(|problem| problem.into_response())
}

impl Buckets {
    async fn answer(&self, path: &str, sender: Sender) -> Result<Response, ProblemDetails> {
        let busy = || ProblemDetails::new(Problem::Busy, "too many ask which notes are spent");
        let place = Arc::clone(&self.places).try_acquire_owned().map_err(|_| busy())?;
        let share = self.shares.take(sender).ok_or_else(busy)?;
        // Nothing of the request but its path, and of that nothing that a server could read in two ways.
        if !path.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"/.-_".contains(&byte)) || path.contains("..") {
            let detail = "there is no such epoch or prefix";
            return Err(ProblemDetails::new(Problem::Malformed, detail).with_status(StatusCode::NOT_FOUND));
        }
        let unsaid = || ProblemDetails::new(Problem::StoreUnavailable, "the issuer does not say which notes are spent");
        let answer = self.issuer.pass(Method::GET, path, Bytes::new()).await.map_err(|_| unsaid())?;
        // What would ask for a payment, or lead elsewhere, is not the issuer's to say here.
        if !matches!(answer.status().as_u16(), 200 | 400 | 404 | 503) {
            return Err(unsaid());
        }
        let (parts, body) = answer.into_parts();
        let passed = body.map_frame(move |frame| {
            // It is held as long as the answer lasts.
            let _ = (&place, &share);
            frame
        });
        let mut response = Response::new(Body::new(passed));
        *response.status_mut() = parts.status;
        for name in [header::CONTENT_TYPE, header::CACHE_CONTROL, header::RETRY_AFTER] {
            response.headers_mut().extend(parts.headers.get(&name).cloned().map(|value| (name, value)));
        }
        Ok(response)
    }
}
