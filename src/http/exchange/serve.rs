//! Any request: a free one goes through, another is paid for.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::Request as HttpRequest;
use axum::response::Response;
use http::StatusCode;
use tokio::time::timeout;

use super::Exchange;
use super::forward::{self, Next};
use super::received::other_host;
use super::work::upstream_problem;
use crate::http::kept::Kept;
use crate::http::problem::ProblemDetails;
use crate::http::requests::{authority, read_body};
use crate::http::upstream::UpstreamError;

impl Exchange {
    /// Answers a request for the service.
    pub(crate) async fn serve(self: Arc<Self>, request: HttpRequest, next: Next) -> Response {
        let free = self.free.iter().any(|route| route.matches(request.method(), request.uri().path()));
        let outcome = match free {
            true => self.pass(request, next).await,
            false => Arc::clone(&self).call(request, next).await,
        };
        outcome.unwrap_or_else(|problem| self.refuse(problem))
    }

    /// Sends a request on that costs nothing.
    async fn pass(&self, request: HttpRequest, next: Next) -> Result<Response, ProblemDetails> {
        let place = self.place(&request)?;
        let (parts, body) = request.into_parts();
        // What is free is free at this gateway's addresses, and at no other name that leads here.
        authority(&self.terms.authorities, &parts).ok_or_else(other_host)?;
        let body = read_body(body, self.limits.max_body, self.limits.body_timeout).await?;
        let request = forward::request(forward::head(parts), body);
        let answered = match timeout(self.timeout(), next(request)).await {
            Ok(answered) => answered.map_err(UpstreamError::from_service),
            Err(_) => Err(UpstreamError::Timeout),
        };
        let (mut parts, body) = match answered {
            Ok(answer) => answer.into_parts(),
            Err(error) => {
                self.observer.upstream_failed(&error);
                return Err(upstream_problem(&error));
            }
        };
        forward::answer(&mut parts);
        // A body holds its place as long as it lasts.
        let body = Body::new(Kept { body, _kept: place });
        match parts.status {
            // A challenge of the service's own would be taken for the gateway's.
            StatusCode::PAYMENT_REQUIRED
            | StatusCode::PROXY_AUTHENTICATION_REQUIRED
            // Nothing here goes on in another protocol.
            | StatusCode::SWITCHING_PROTOCOLS => {
                Err(ProblemDetails::plain(StatusCode::BAD_GATEWAY, "the upstream refuses the gateway"))
            }
            _ => Ok(Response::from_parts(parts, body)),
        }
    }
}
