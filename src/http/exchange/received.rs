//! A request that is here, body and all.

use std::sync::Arc;

use axum::extract::Request as HttpRequest;
use bytes::Bytes;
use http::StatusCode;
use http::request::Parts;
use tokio::sync::OwnedSemaphorePermit;

use super::{Exchange, busy};
use crate::http::problem::ProblemDetails;
use crate::http::requests::{Signed, authority, read_body};
use crate::protocol::Problem;

/// A request whose body is here, and the place among those that are worked on.
pub(super) struct Received {
    pub(super) parts: Parts,
    pub(super) body: Bytes,
    pub(super) target: String,
    authority: String,
    pub(super) place: OwnedSemaphorePermit,
}

impl Received {
    /// What a session signature covers of it.
    pub(super) fn signed(&self) -> Signed {
        Signed::new(self.authority.clone(), self.parts.method.clone(), self.target.clone(), self.body.clone())
    }

    /// For a request whose body is a credential: the signature is in it, and covers the digest of an empty body.
    pub(super) fn signed_bare(&self) -> Signed {
        Signed::new(self.authority.clone(), self.parts.method.clone(), self.target.clone(), Bytes::new())
    }
}

impl Exchange {
    /// Takes a place, finds out what is asked for and where, and reads the body.
    pub(super) async fn receive(&self, request: HttpRequest, max_body: usize) -> Result<Received, ProblemDetails> {
        let place = Arc::clone(&self.places).try_acquire_owned().map_err(|_| busy())?;
        let (parts, body) = request.into_parts();
        let authority = authority(&self.terms.authorities, &parts).ok_or_else(|| {
            ProblemDetails::new(Problem::WrongGateway, "the request is for a host that is not this gateway's")
        })?;
        let target = parts.uri.path_and_query().map(|target| target.as_str().to_owned());
        let target = target.ok_or_else(|| ProblemDetails::plain(StatusCode::BAD_REQUEST, "the request has no path"))?;
        let body = read_body(body, max_body, self.limits.body_timeout).await?;
        Ok(Received { parts, body, target, authority, place })
    }
}
