//! A request that is here, body and all.

use std::time::Duration;

use axum::extract::Request as HttpRequest;
use bytes::Bytes;
use http::StatusCode;
use http::request::Parts;
use tokio::sync::OwnedSemaphorePermit;

use crate::http::peers::{FromReplica, Passing};
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
    place: Place,
}

/// A place among the requests that are worked on, and the sender's share of them.
pub(super) type Place = (OwnedSemaphorePermit, Share);

/// The request is for another host.
pub(super) fn other_host() -> ProblemDetails {
    ProblemDetails::new(Problem::WrongGateway, "the request is for a host that is not this gateway's")
}

impl Received {
    /// Finds out what is asked for and where, and reads the body. Keeps its place.
    pub(super) async fn read(
        request: HttpRequest,
        authorities: &[(String, String)],
        max_body: usize,
        body_timeout: Duration,
        place: Place,
    ) -> Result<Self, ProblemDetails> {
        let (parts, body) = request.into_parts();
        let authority = authority(authorities, &parts).ok_or_else(other_host)?;
        let target = parts.uri.path_and_query().map(|target| target.as_str().to_owned());
        let target = target.ok_or_else(|| ProblemDetails::plain(StatusCode::BAD_REQUEST, "the request has no path"))?;
        let body = read_body(body, max_body, body_timeout).await?;
        Ok(Self { parts, body, target, authority, place })
    }

    /// What a session signature covers of it.
    pub(super) fn signed(&self) -> Signed {
        Signed::new(self.authority.clone(), self.parts.method.clone(), self.target.clone(), self.body.clone())
            .sent_by(sender(&self.parts.extensions))
    }

    /// Whether another replica passed it on.
    pub(super) fn is_from_replica(&self) -> bool {
        self.parts.extensions.get::<FromReplica>().is_some()
    }

    /// What another replica must get of it, and its place among those that are worked on.
    pub(super) fn into_passing(self, within: Duration) -> (Passing, Place) {
        let Self { parts, body, authority, place, .. } = self;
        let sender = sender(&parts.extensions);
        (Passing { parts, authority, body, sender, within }, place)
    }

    /// What is served, and its place among those that are worked on.
    pub(super) fn into_parts(self) -> (Parts, Bytes, Place) {
        (self.parts, self.body, self.place)
    }

    /// For a request whose body is a credential: the signature is in it, and covers the digest of an empty body.
    pub(super) fn signed_bare(&self) -> Signed {
        Signed::new(self.authority.clone(), self.parts.method.clone(), self.target.clone(), Bytes::new())
            .sent_by(sender(&self.parts.extensions))
    }
}
