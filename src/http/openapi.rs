//! The description of the HTTP interface, as gateways and issuers serve it.
//!
//! Its source is `docs/openapi.yaml`; tests compare it with the routes and with real answers.

use axum::response::{IntoResponse as _, Response};
use http::header;

/// OpenAPI 3.1, in JSON.
pub const OPENAPI: &str = include_str!("../../docs/openapi.json");

pub(in crate::http) async fn openapi() -> Response {
    let headers = [(header::CONTENT_TYPE, "application/json"), (header::CACHE_CONTROL, "no-cache")];
    (headers, OPENAPI).into_response()
}
