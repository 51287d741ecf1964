//! A request that costs nothing.

use axum::body::Body;
use axum::extract::Request as HttpRequest;
use axum::response::Response;
use http::StatusCode;
use tokio::time::timeout;

use super::Exchange;
use super::forward::{self, Next};
use super::problems::upstream_problem;
use super::received::other_host;
use crate::http::kept::Kept;
use crate::http::problem::ProblemDetails;
use crate::http::requests::{authority, read_body};
use crate::http::upstream::UpstreamError;

/// Sends a request on that costs nothing.
pub(super) async fn pass(exchange: &Exchange, request: HttpRequest, next: Next) -> Result<Response, ProblemDetails> {
    let place = exchange.place(&request)?;
    let (parts, body) = request.into_parts();
    // What is free is free at this gateway's addresses, and at no other name that leads here.
    authority(&exchange.terms.authorities, &parts).ok_or_else(other_host)?;
    let body = read_body(body, exchange.limits.max_body, exchange.limits.body_timeout).await?;
    let method = parts.method.clone();
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
    let declared = forward::declared(&parts.headers);
    forward::answer(&method, &mut parts);
    forward::declare(&mut parts.headers, &declared);
    // A body holds its place as long as it lasts.
    let body = Body::new(Kept { body, _kept: place });
    match parts.status {
        // A challenge of the service's own would be taken for the gateway's.
        // Nothing here goes on in another protocol.
        StatusCode::PAYMENT_REQUIRED | StatusCode::PROXY_AUTHENTICATION_REQUIRED | StatusCode::SWITCHING_PROTOCOLS => {
            Err(ProblemDetails::plain(StatusCode::BAD_GATEWAY, "the upstream refuses the gateway"))
        }
        _ => Ok(Response::from_parts(parts, body)),
    }
}
