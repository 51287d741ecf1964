//! Any request: a free one goes through, another is paid for.

use core::pin::Pin;
use core::task::{Context, Poll};
use std::sync::Arc;

use axum::body::Body;
use axum::extract::Request as HttpRequest;
use axum::response::Response;
use bytes::Bytes;
use http::StatusCode;
use hyper::body::{Frame, SizeHint};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::timeout;

use super::forward::{self, Next};
use super::received::read_body;
use super::work::upstream_problem;
use super::{Inner, busy};
use crate::http::problem::ProblemDetails;
use crate::http::upstream::UpstreamError;

impl Inner {
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
        let place = Arc::clone(&self.places).try_acquire_owned().map_err(|_| busy())?;
        let (parts, body) = request.into_parts();
        let body = read_body(body, self.limits.max_body, self.limits.body_timeout).await?;
        let request = forward::request(forward::head(parts), body);
        let answered = match timeout(self.call_timeout, next(request)).await {
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
        let body = Body::new(Placed { body, _place: place });
        match parts.status {
            // A challenge of the service's own would be taken for the gateway's.
            StatusCode::PAYMENT_REQUIRED | StatusCode::PROXY_AUTHENTICATION_REQUIRED => {
                Err(ProblemDetails::plain(StatusCode::BAD_GATEWAY, "the upstream refuses the gateway"))
            }
            _ => Ok(Response::from_parts(parts, body)),
        }
    }
}

/// The body of an answer, and the place that it holds. Its length stays known.
struct Placed {
    body: Body,
    _place: OwnedSemaphorePermit,
}

impl hyper::body::Body for Placed {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
