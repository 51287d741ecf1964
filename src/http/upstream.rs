//! The service behind the gateway: where paid requests go, and what is taken off them on the way.

use core::pin::Pin;
use core::task::{Context, Poll};
use std::sync::Arc;
use std::time::Duration;

use axum::BoxError;
use axum::body::Body;
use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Request, Response};
use http_body_util::BodyExt as _;
use hyper::body::{Frame, SizeHint};

use super::hop::{self, Base, Hop, HopBody, HopError, Keep, Way};

/// Headers that belong to one connection and are never passed on (RFC 9110, section 7.6.1), beside those that `Connection` names.
const HOP_BY_HOP: [HeaderName; 8] = [
    header::CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    header::PROXY_AUTHENTICATE,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
];

/// A service that is reached over HTTP or HTTPS.
#[derive(Clone)]
pub struct Upstream {
    client: Hop,
    base: Base,
    url: String,
    /// `Authorization` for the service: the operator's, never a caller's.
    authorization: Option<HeaderValue>,
    max_response: usize,
    timeout: Duration,
}

/// Limits on what an upstream may do.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct UpstreamLimits {
    /// To get a connection, TLS included.
    pub connect_timeout: Duration,
    /// From the request to the last byte of the answer, streams included.
    pub timeout: Duration,
    /// Longest answer, bytes.
    pub max_response: usize,
}

impl UpstreamLimits {
    /// The same with this [`connect_timeout`](Self::connect_timeout).
    #[must_use]
    pub fn with_connect_timeout(self, connect_timeout: Duration) -> Self {
        Self { connect_timeout, ..self }
    }

    /// The same with this [`timeout`](Self::timeout).
    #[must_use]
    pub fn with_timeout(self, timeout: Duration) -> Self {
        Self { timeout, ..self }
    }

    /// The same with this [`max_response`](Self::max_response).
    #[must_use]
    pub fn with_max_response(self, max_response: usize) -> Self {
        Self { max_response, ..self }
    }
}

impl Default for UpstreamLimits {
    /// 10 s, 5 min, 32 MiB.
    fn default() -> Self {
        Self { connect_timeout: Duration::from_secs(10), timeout: Duration::from_secs(300), max_response: 32 << 20 }
    }
}

/// Why an [`Upstream`] cannot be made. The operator is at fault.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum UpstreamConfigError {
    /// Not a URL.
    #[error("`{0}` is not a URL")]
    Url(String),
    /// A URL that is not of the form `http(s)://host[:port][/path]`.
    #[error("`{0}` must begin with http:// or https:// and have no user name, password, query or fragment")]
    Form(String),
    /// The API key has characters that a header cannot carry.
    #[error("the upstream's API key holds characters that no HTTP header can carry")]
    Key,
    /// TLS cannot be set up.
    #[error("cannot set up TLS for the upstream: {0}")]
    Tls(#[source] rustls::Error),
    /// What was given as certificate authorities is no PEM of certificates.
    #[error("the upstream's certificate authorities must be one or more certificates in PEM")]
    Authorities,
}

/// Why there is no answer from the upstream. The upstream, or the network to it, is at fault.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum UpstreamError {
    /// No connection: the request was never sent, and no work was done.
    #[error("the upstream cannot be reached: {0}")]
    Unreachable(#[source] HopError),
    /// The target is no path within the service. The request was never sent.
    #[error("the request's target is not one of the upstream's")]
    Target,
    /// It did not answer in time. It may have worked.
    #[error("the upstream did not answer in time")]
    Timeout,
    /// The connection broke, or what came was no HTTP. It may have worked.
    #[error("the upstream's answer broke off")]
    Broken(#[source] HopError),
    /// The answer is longer than the limit. It worked.
    #[error("the upstream's answer is longer than {0} bytes")]
    TooLong(usize),
    /// A service of another kind, in this process, failed. It may have worked.
    #[error("the service failed")]
    Service(#[source] BoxError),
}

impl UpstreamError {
    /// The error in what a service, or the body of its answer, failed with.
    pub(crate) fn from_service(error: BoxError) -> Self {
        // The body of an axum response wraps the error of the body that was put into it.
        let error = match error.downcast::<axum::Error>() {
            Ok(wrapped) => wrapped.into_inner(),
            Err(error) => error,
        };
        error.downcast::<Self>().map_or_else(Self::Service, |error| *error)
    }

    /// Whether nothing can have been done.
    pub(crate) fn is_unreached(&self) -> bool {
        matches!(self, Self::Unreachable(_) | Self::Target)
    }
}

impl Upstream {
    /// The service at `url`; targets of requests are appended to its path, byte for byte. `api_key`, if there is one, goes to it as a
    /// bearer token.
    ///
    /// TLS is checked against the system's certificate authorities.
    ///
    /// # Errors
    /// [`UpstreamConfigError`].
    pub fn new(url: &str, api_key: Option<&str>, limits: UpstreamLimits) -> Result<Self, UpstreamConfigError> {
        Self::with_tls(url, api_key, limits, || hop::trusting_platform().map_err(UpstreamConfigError::Tls))
    }

    /// The same for a service whose certificate these authorities, and no others, vouch for: one or more certificates in PEM.
    ///
    /// # Errors
    /// [`UpstreamConfigError`].
    pub fn trusting(
        url: &str,
        api_key: Option<&str>,
        limits: UpstreamLimits,
        authorities: &[u8],
    ) -> Result<Self, UpstreamConfigError> {
        let authorities = hop::read_authorities(authorities).ok_or(UpstreamConfigError::Authorities)?;
        Self::with_tls(url, api_key, limits, || hop::trusting_only(authorities).map_err(UpstreamConfigError::Tls))
    }

    fn with_tls(
        url: &str,
        api_key: Option<&str>,
        limits: UpstreamLimits,
        tls: impl FnOnce() -> Result<rustls::ClientConfig, UpstreamConfigError>,
    ) -> Result<Self, UpstreamConfigError> {
        if !url.contains("://") {
            return Err(UpstreamConfigError::Url(redact(url)));
        }
        let base = Base::read(url).ok_or_else(|| UpstreamConfigError::Form(redact(url)))?;
        let authorization = match api_key {
            None => None,
            Some(key) => {
                let mut value =
                    HeaderValue::from_str(&format!("Bearer {key}")).map_err(|_| UpstreamConfigError::Key)?;
                value.set_sensitive(true);
                Some(value)
            }
        };
        // A client that only ever speaks plain HTTP needs no certificate authorities: it also starts on machines without any.
        let tls = if base.is_https() { Some(tls()?) } else { None };
        let client =
            Hop::new(Way::Straight, tls.map(Arc::new), Keep::IdleAgain, limits.connect_timeout, limits.timeout);
        let url = base.to_string();
        Ok(Self { client, base, url, authorization, max_response: limits.max_response, timeout: limits.timeout })
    }

    /// How long a call may take.
    pub fn timeout(&self) -> Duration {
        self.timeout
    }

    /// The service's URL.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Whether a request with this target (path and query) can be sent on.
    pub fn accepts(&self, target: &str) -> bool {
        self.base.place(target).is_some()
    }

    /// Sends a request on, whose body is read whole first.
    async fn forward(self, request: Request<Body>) -> Result<Response<Body>, UpstreamError> {
        let (parts, body) = request.into_parts();
        let target = parts.uri.path_and_query().map_or("", |target| target.as_str());
        let address = self.base.place(target).ok_or(UpstreamError::Target)?;
        let mut headers = end_to_end(&parts.headers);
        for name in [header::HOST, header::CONTENT_LENGTH, header::AUTHORIZATION, header::COOKIE, header::EXPECT] {
            headers.remove(name);
        }
        if let Some(authorization) = &self.authorization {
            headers.insert(header::AUTHORIZATION, authorization.clone());
        }
        // A price may be said there, and over HTTP/1.1 servers keep to themselves what nobody said to take. `Connection` should name it
        // there, but which version it will be is not known yet, and over HTTP/2 what `Connection` names is taken out.
        headers.insert(header::TE, HeaderValue::from_static("trailers"));
        let body = body.collect().await.map_err(|error| UpstreamError::from_service(error.into()))?.to_bytes();
        let sent = self.client.send(address, parts.method, headers, body, None).await;
        let (mut parts, body) = sent.map_err(classify)?.into_parts();
        // Which trailers come is said again on the next connection, by those that know it from here.
        let said: Vec<HeaderValue> = parts.headers.get_all(header::TRAILER).iter().cloned().collect();
        parts.headers = end_to_end(&parts.headers);
        said.into_iter().for_each(|names| {
            parts.headers.append(header::TRAILER, names);
        });
        Ok(Response::from_parts(parts, Body::new(Answer { body, read: 0, max: self.max_response })))
    }
}

/// An upstream takes requests as they are to be sent, but for what is of a connection, of its own host or of a caller's authority; its
/// answers come as the service gives them, up to the limit on their length.
impl tower::Service<Request<Body>> for Upstream {
    type Response = Response<Body>;
    type Error = UpstreamError;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, UpstreamError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), UpstreamError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        Box::pin(self.clone().forward(request))
    }
}

/// The body of an answer.
struct Answer {
    body: HopBody,
    read: usize,
    max: usize,
}

impl hyper::body::Body for Answer {
    type Data = Bytes;
    type Error = UpstreamError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, UpstreamError>>> {
        let frame = core::task::ready!(Pin::new(&mut self.body).poll_frame(cx));
        Poll::Ready(frame.map(|frame| {
            let frame = frame.map_err(classify)?;
            self.read = self.read.saturating_add(frame.data_ref().map_or(0, Bytes::len));
            if self.read > self.max { Err(UpstreamError::TooLong(self.max)) } else { Ok(frame) }
        }))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl core::fmt::Debug for Upstream {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Upstream").field("url", &self.url()).finish_non_exhaustive()
    }
}

/// The headers of a message that are meant for its receiver.
pub(crate) fn end_to_end(headers: &HeaderMap) -> HeaderMap {
    let named: Vec<HeaderName> = headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| name.trim().parse().ok())
        .collect();
    let mut kept = headers.clone();
    for name in HOP_BY_HOP.iter().chain(&named) {
        kept.remove(name);
    }
    kept
}

fn classify(error: HopError) -> UpstreamError {
    if error.is_unsent() {
        UpstreamError::Unreachable(error)
    } else if error.is_timeout() {
        UpstreamError::Timeout
    } else {
        UpstreamError::Broken(error)
    }
}

/// A URL for messages: a password that was put in by mistake does not belong on a screen.
fn redact(url: &str) -> String {
    let url = url.split('?').next().unwrap_or_default();
    let (scheme, rest) = url.split_once("://").map_or(("", url), |(scheme, rest)| (scheme, rest));
    let rest = rest.rsplit_once('@').map_or(rest, |(_, host)| host);
    if scheme.is_empty() { rest.to_owned() } else { format!("{scheme}://{rest}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls() {
        let upstream = |url| Upstream::new(url, None, UpstreamLimits::default());
        assert_eq!(upstream("http://127.0.0.1:80/base/").unwrap().url(), "http://127.0.0.1/base");
        for url in ["127.0.0.1:80", "ftp://x", "http://a:secret@b", "http://a?b", "http://a#b", "", "http://"] {
            let error = upstream(url).unwrap_err().to_string();
            assert!(!error.contains("secret"), "{error}");
        }
        let broken = Upstream::new("http://a", Some("a\nb"), UpstreamLimits::default());
        assert!(matches!(broken, Err(UpstreamConfigError::Key)));
    }

    #[test]
    fn a_target_stays_within_the_service() {
        let upstream = Upstream::new("http://a/base", None, UpstreamLimits::default()).unwrap();
        for target in ["/", "/v1/chat?x=1", "//evil.example/", "/x/../y"] {
            assert!(upstream.accepts(target), "{target}");
        }
        for target in ["", "*", "x", "@evil.example/", "/../x", "/%2e%2e/x", ":80/", "http://evil.example/"] {
            assert!(!upstream.accepts(target), "{target}");
        }
        let root = Upstream::new("http://a", None, UpstreamLimits::default()).unwrap();
        assert!(root.accepts("/v1/models"));
    }

    #[test]
    fn headers_of_the_connection_stay_there() {
        let mut headers = HeaderMap::new();
        for (name, value) in
            [("connection", "x-mine, Keep-Alive"), ("x-mine", "1"), ("te", "trailers"), ("accept", "*/*")]
        {
            headers.append(name, value.parse().unwrap());
        }
        let kept = end_to_end(&headers);
        assert_eq!(kept.keys().map(HeaderName::as_str).collect::<Vec<_>>(), ["accept"]);
    }
}
