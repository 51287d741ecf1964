//! Reading a request: its credential, where it is for, its body, and what of it a session signature covers.

use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderValue};
use http::request::Parts;
use http::{Method, StatusCode};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use hyper::body::Body as _;

use super::payment::{Credential, CredentialError, Payload};
use super::problem::ProblemDetails;
use crate::pipeline::Source;
use crate::protocol::{ContentDigest, Problem, Request, Sender};

/// Bodies up to this long are digested where they arrive; longer ones where they hold nobody up. Bytes.
const SHORT: usize = 64 << 10;

/// The authority that a request is for, in the form that session signatures use; none if it is not one of these.
pub(super) fn authority(authorities: &[(String, String)], parts: &Parts) -> Option<String> {
    let mut hosts = parts.headers.get_all(header::HOST).iter();
    let host = hosts.next().and_then(|host| host.to_str().ok());
    // A proxy in front might look at the other one.
    if hosts.next().is_some() {
        return None;
    }
    let asked = parts.uri.authority().map(http::uri::Authority::as_str).or(host)?.to_ascii_lowercase();
    let found = authorities.iter().find(|(short, long)| *short == asked || *long == asked);
    found.map(|(short, _)| short.clone())
}

/// The parts of a request that session signatures cover, owned, so that the digest is computed where it blocks nobody.
pub(super) struct Signed {
    authority: String,
    method: Method,
    target: String,
    body: Bytes,
    /// The digest of a body that is elsewhere.
    content: Option<ContentDigest>,
    sender: Sender,
}

/// Where a request came from.
pub(super) fn sender(extensions: &http::Extensions) -> Sender {
    extensions.get::<Source>().map(Source::sender).unwrap_or_default()
}

impl Signed {
    pub(super) fn new(authority: String, method: Method, target: String, body: Bytes) -> Self {
        Self { authority, method, target, body, content: None, sender: Sender::UNKNOWN }
    }

    /// For a request without a body, or whose body is a credential, that did not come to the gateway.
    pub(super) fn empty(authority: String, parts: &Parts) -> Self {
        let target = parts.uri.path_and_query().map(|target| target.as_str().to_owned()).unwrap_or_default();
        let sender = sender(&parts.extensions);
        Self { authority, method: parts.method.clone(), target, body: Bytes::new(), content: None, sender }
    }

    /// The same, sent from there.
    pub(super) fn sent_by(self, sender: Sender) -> Self {
        Self { sender, ..self }
    }

    /// The same where the body does not come here.
    pub(super) fn with_content(self, content: ContentDigest) -> Self {
        Self { content: Some(content), body: Bytes::new(), ..self }
    }

    /// Where it came from.
    pub(super) fn sender(&self) -> Sender {
        self.sender
    }

    /// Whether its digest is known, or computed before anybody notices.
    pub(super) fn is_short(&self) -> bool {
        self.content.is_some() || self.body.len() <= SHORT
    }

    pub(super) fn with<T>(&self, action: impl FnOnce(&Request<'_>) -> T) -> Result<T, ProblemDetails> {
        let content = self.content.unwrap_or_else(|| ContentDigest::of(&self.body));
        let request = Request::new(&self.authority, self.method.as_str(), &self.target, content)
            .map_err(|error| ProblemDetails::plain(StatusCode::URI_TOO_LONG, error.to_string()))?;
        Ok(action(&request.sent_by(self.sender)))
    }
}

pub(super) fn read_credential(headers: &HeaderMap) -> Result<Payload, ProblemDetails> {
    let values = headers.get_all(header::AUTHORIZATION).iter().map(HeaderValue::as_bytes);
    match Credential::from_header_values(values) {
        Ok(credential) => Ok(credential.payload),
        Err(CredentialError::Absent) => {
            let detail = "this service is paid for with halometer credit; see the challenge";
            Err(ProblemDetails::new(Problem::Unpaid, detail))
        }
        Err(error) => Err(ProblemDetails::new(Problem::Malformed, error.to_string())),
    }
}

pub(super) async fn read_body(body: Body, max: usize, timeout: Duration) -> Result<Bytes, ProblemDetails> {
    let too_long = || {
        let detail = format!("the body is longer than {max} bytes");
        ProblemDetails::plain(StatusCode::PAYLOAD_TOO_LARGE, detail)
    };
    // What says beforehand that it is too long is not read at all.
    if body.size_hint().lower() > max as u64 {
        return Err(too_long());
    }
    let read = tokio::time::timeout(timeout, Limited::new(body, max).collect()).await;
    match read {
        Err(_) => Err(ProblemDetails::plain(StatusCode::REQUEST_TIMEOUT, "the body did not arrive in time")),
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(too_long()),
        Ok(Err(_)) => Err(ProblemDetails::plain(StatusCode::BAD_REQUEST, "the body broke off")),
    }
}
