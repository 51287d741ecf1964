//! The routes of the gateway's own.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Request as HttpRequest, State};
use axum::middleware::from_fn;
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use http::header;

use super::engine::Engine;
use super::{Exchange, errands, session};
use crate::http::openapi::openapi;
use crate::http::problem::ProblemDetails;
use crate::http::wire::{
    CANCEL_PATH, CLOSE_PATH, DIRECTORY_PATH, OPENAPI_PATH, RESTORE_CHANGE_PATH, RESTORE_MEMO_PATH, ROLLOVER_PATH,
    SESSION_PATH, SETTLEMENT_PATH, SPENT_PATH, TRANSFER_PATH, pad_answer,
};

impl Engine {
    /// The routes of the gateway's own.
    pub(in crate::http) fn own_routes(self: &Arc<Self>) -> Router {
        Router::new()
            .route(DIRECTORY_PATH, get(directory))
            .route(OPENAPI_PATH, get(openapi))
            .route(SETTLEMENT_PATH, post(|State(engine), request| answer(engine, request, errands::fetch)))
            .route(CANCEL_PATH, post(|State(engine), request| answer(engine, request, errands::cancel)))
            .route(TRANSFER_PATH, post(|State(engine), request| answer(engine, request, errands::transfer)))
            .route(ROLLOVER_PATH, post(|State(engine), request| answer(engine, request, errands::rollover)))
            .route(SESSION_PATH, post(|State(engine), request| answer(engine, request, session::open)))
            .route(CLOSE_PATH, post(|State(engine), request| answer(engine, request, session::close)))
            .with_state(Arc::clone(self))
            .merge(self.now().ledger.spent_router())
            .method_not_allowed_fallback(ProblemDetails::method_not_allowed)
            .layer(from_fn(pad_answer))
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
        RESTORE_MEMO_PATH,
        RESTORE_CHANGE_PATH,
    ];
    // An epoch, or a bucket of one.
    let spent = path.strip_prefix(SPENT_PATH).is_some_and(|rest| matches!(rest.matches('/').count(), 1 | 3));
    own.contains(&path) || (spent && !path.ends_with('/'))
}

async fn directory(State(engine): State<Arc<Engine>>) -> Response {
    let exchange = engine.now();
    let headers = [(header::CONTENT_TYPE, "application/octet-stream"), (header::CACHE_CONTROL, "no-cache")];
    (headers, exchange.terms.directory.clone()).into_response()
}

/// Has the exchange of the moment answer.
async fn answer<F>(
    engine: Arc<Engine>,
    request: HttpRequest,
    answering: impl FnOnce(Arc<Exchange>, HttpRequest) -> F,
) -> Response
where
    F: Future<Output = Result<Response, ProblemDetails>>,
{
    let exchange = engine.now();
    let outcome = answering(Arc::clone(&exchange), request).await;
    outcome.unwrap_or_else(|problem| exchange.refuse(problem))
}
