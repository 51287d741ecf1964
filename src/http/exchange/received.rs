//! A request that is here, body and all.

use std::sync::Arc;

use axum::extract::Request as HttpRequest;
use bytes::Bytes;
use http::StatusCode;
use http::request::Parts;
use tokio::sync::OwnedSemaphorePermit;

use super::{Exchange, busy};
use crate::http::problem::ProblemDetails;
use crate::http::requests::{Signed, authority, read_body, sender};
use crate::protocol::Problem;
use crate::quota::Share;

/// A request whose body is here, and the place among those that are worked on.
pub(super) struct Received {
    pub(super) parts: Parts,
    pub(super) body: Bytes,
    pub(super) target: String,
    authority: String,
    pub(super) place: Place,
}

impl Received {
    /// What a session signature covers of it.
    pub(super) fn signed(&self) -> Signed {
        Signed::new(self.authority.clone(), self.parts.method.clone(), self.target.clone(), self.body.clone())
            .sent_by(sender(&self.parts.extensions))
    }

    /// For a request whose body is a credential: the signature is in it, and covers the digest of an empty body.
    pub(super) fn signed_bare(&self) -> Signed {
        Signed::new(self.authority.clone(), self.parts.method.clone(), self.target.clone(), Bytes::new())
            .sent_by(sender(&self.parts.extensions))
    }
}

pub(super) fn other_host() -> ProblemDetails {
    ProblemDetails::new(Problem::WrongGateway, "the request is for a host that is not this gateway's")
}

/// A place among the requests that are worked on, and the sender's share of them.
pub(super) struct Place {
    _place: OwnedSemaphorePermit,
    _share: Share,
}

impl Exchange {
    /// Takes a place for a request. One sender has half of them at most.
    pub(super) fn place(&self, request: &HttpRequest) -> Result<Place, ProblemDetails> {
        let share = self.shares.take(sender(request.extensions())).ok_or_else(busy)?;
        let place = Arc::clone(&self.places).try_acquire_owned().map_err(|_| busy())?;
        Ok(Place { _place: place, _share: share })
    }

    /// Takes a place, finds out what is asked for and where, and reads the body.
    pub(super) async fn receive(&self, request: HttpRequest, max_body: usize) -> Result<Received, ProblemDetails> {
        let place = self.place(&request)?;
        let (parts, body) = request.into_parts();
        let authority = authority(&self.terms.authorities, &parts).ok_or_else(other_host)?;
        let target = parts.uri.path_and_query().map(|target| target.as_str().to_owned());
        let target = target.ok_or_else(|| ProblemDetails::plain(StatusCode::BAD_REQUEST, "the request has no path"))?;
        let body = read_body(body, max_body, self.limits.body_timeout).await?;
        Ok(Received { parts, body, target, authority, place })
    }
}
