//! A request that costs nothing.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::Request as HttpRequest;
use axum::response::Response;
use http::StatusCode;
use tokio::time::timeout;

use super::Exchange;
use super::forward::{self, Next};
use super::problems::{busy, upstream_problem};
use crate::http::kept::Kept;
use crate::http::problem::ProblemDetails;
use crate::http::requests::read_body;
use crate::http::upstream::UpstreamError;

/// Sends a request on that costs nothing.
pub(super) async fn pass(exchange: &Exchange, request: HttpRequest, next: Next) -> Result<Response, ProblemDetails> {
    let place = Arc::clone(&exchange.places).try_acquire_owned().map_err(|_| busy())?;
    let (parts, body) = request.into_parts();
    let body = read_body(body, exchange.limits.max_body, exchange.limits.body_timeout).await?;
    let request = forward::request(forward::head(parts), body);
    let answered = match timeout(exchange.timeout(), next(request)).await {
        Ok(answered) => answered.map_err(UpstreamError::from_service),
        Err(_) => Err(UpstreamError::Timeout),
    };
    let (mut parts, body) = match answered {
        Ok(answer) => answer.into_parts(),
        Err(error) => {
            exchange.observer.upstream_failed(&error);
            return Err(upstream_problem(&error));
        }
    };
    forward::answer(&mut parts);
    // A body holds its place as long as it lasts.
    let body = Body::new(Kept { body, _kept: place });
    match parts.status {
        // A challenge of the service's own would be taken for the gateway's.
        StatusCode::PAYMENT_REQUIRED | StatusCode::PROXY_AUTHENTICATION_REQUIRED => {
            Err(ProblemDetails::plain(StatusCode::BAD_GATEWAY, "the upstream refuses the gateway"))
        }
        _ => Ok(Response::from_parts(parts, body)),
    }
}
