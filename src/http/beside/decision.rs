//! Yes or no, and what the proxy has to take off and put on.

use std::sync::Arc;

use axum::body::Body;
use http::header::{HeaderMap, HeaderName, HeaderValue};
use http::uri::PathAndQuery;
use http::{Method, Request, StatusCode, Uri, header};
use tokio::sync::oneshot;

use super::Door;
use super::held::{Handle, Said};
use crate::http::exchange::{Asked, Decided, Exchange, decide};
use crate::http::pricing::Metered;
use crate::http::problem::ProblemDetails;

/// The header by which a call is reported. The proxy sets it for the service, and takes out what a caller sent under this
/// name.
pub const CALL_HEADER: HeaderName = HeaderName::from_static("halometer-call");

/// A request that a proxy asks about, as its caller sent it.
pub(super) struct Check {
    pub(super) method: Method,
    pub(super) authority: String,
    /// Path and query.
    pub(super) target: String,
    pub(super) headers: HeaderMap,
    /// None if the proxy does not bring it.
    pub(super) body: Option<Body>,
}

/// What the proxy may send on.
#[derive(Debug, Default)]
pub(super) struct Allowed {
    /// For the service, to report the call.
    pub(super) call: Option<HeaderValue>,
    /// For the caller.
    pub(super) receipt: Option<HeaderValue>,
}

impl Check {
    fn into_asked(self) -> Result<Asked, ProblemDetails> {
        let Self { method, authority, target, mut headers, body } = self;
        let bad = |detail: &str| ProblemDetails::plain(StatusCode::BAD_REQUEST, detail);
        let path = PathAndQuery::try_from(target.as_str()).map_err(|_| bad("the request's target is no path"))?;
        // What would be read as another target than the one that is served.
        if !target.starts_with('/') || path.as_str() != target {
            return Err(bad("the request's target is no path"));
        }
        let host = HeaderValue::from_str(&authority).map_err(|_| bad("the request's host is none"))?;
        headers.insert(header::HOST, host);
        let has_body = body.is_some();
        let mut request = Request::new(body.unwrap_or_default());
        (*request.method_mut(), *request.uri_mut(), *request.headers_mut()) = (method, Uri::from(path), headers);
        Ok(Asked { request, has_body })
    }
}

impl Door {
    /// Decides. In a task of its own: a caller that does not wait for it is not charged.
    pub(super) async fn decide(
        self: &Arc<Self>,
        exchange: &Arc<Exchange>,
        check: Check,
    ) -> Result<Allowed, ProblemDetails> {
        let asked = check.into_asked()?;
        let (shared, exchange) = (Arc::clone(self), Arc::clone(exchange));
        let (send, decision) = oneshot::channel();
        tokio::spawn(async move {
            let decided = decide(exchange, asked, &shared.terms, &|| send.is_closed()).await;
            let (decision, held) = match decided {
                Err(problem) => (Err(problem), None),
                Ok(Decided::Free) => (Ok(Allowed::default()), None),
                Ok(Decided::Settled(receipt)) => (Ok(Allowed { call: None, receipt }), None),
                Ok(Decided::Held(call)) => {
                    let handle = shared.held.take_in(*call);
                    let call = HeaderValue::from_str(&handle.to_string()).ok();
                    (Ok(Allowed { call, receipt: None }), Some(handle))
                }
            };
            if send.send(decision).is_err() {
                shared.let_go(held).await;
            }
        });
        decision
            .await
            .unwrap_or_else(|_| Err(ProblemDetails::plain(StatusCode::INTERNAL_SERVER_ERROR, "the gateway failed")))
    }

    /// A call that was let through to nobody.
    async fn let_go(&self, held: Option<Handle>) {
        if let Some(handle) = held {
            // If it fails it is settled as one of which nothing is said.
            let _ = self.held.report(handle, &Said::Metered(Metered::NOTHING)).await;
        }
    }
}
