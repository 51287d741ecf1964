//! What of a request reaches the service, and what of its answer the caller.

use core::pin::Pin;

use axum::BoxError;
use axum::body::Body;
use axum::extract::Request as HttpRequest;
use axum::response::Response;
use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{request, response};

use crate::http::payment::RECEIPT_HEADER;
use crate::http::upstream::end_to_end;
use crate::pipeline::Source;

/// The service behind, asked once.
pub(crate) type Next = Box<dyn FnOnce(HttpRequest) -> Answering + Send>;
/// Its answer to come.
pub(crate) type Answering = Pin<Box<dyn Future<Output = Result<Response, BoxError>> + Send>>;

/// What says who a caller is, or where he is. Proxies in front add some of it.
pub(in crate::http) const OF_CALLERS: [HeaderName; 9] = [
    header::AUTHORIZATION,
    header::PROXY_AUTHORIZATION,
    header::COOKIE,
    header::EXPECT,
    header::FORWARDED,
    HeaderName::from_static("x-forwarded-for"),
    HeaderName::from_static("x-real-ip"),
    HeaderName::from_static("true-client-ip"),
    HeaderName::from_static("cf-connecting-ip"),
];

/// The head of a request as the service gets it.
pub(super) fn head(mut parts: request::Parts) -> request::Parts {
    parts.headers = end_to_end(&parts.headers);
    OF_CALLERS.iter().for_each(|name| drop(parts.headers.remove(name)));
    // It tells the calls of one connection from others.
    parts.extensions.remove::<Source>();
    parts
}

/// A request whose body is whole.
pub(super) fn request(mut parts: request::Parts, body: Bytes) -> HttpRequest {
    if parts.headers.remove(header::CONTENT_LENGTH).is_some() || !body.is_empty() {
        parts.headers.insert(header::CONTENT_LENGTH, HeaderValue::from(body.len()));
    }
    HttpRequest::from_parts(parts, Body::from(body))
}

/// The head of an answer as the caller gets it.
pub(super) fn answer(parts: &mut response::Parts) {
    parts.headers = end_to_end(&parts.headers);
    // The length is set again where it is known.
    parts.headers.remove(header::CONTENT_LENGTH);
    strip(&mut parts.headers);
}

/// Trailers as the caller gets them.
pub(super) fn trailers(trailers: &mut HeaderMap) {
    *trailers = end_to_end(trailers);
    strip(trailers);
}

fn strip(headers: &mut HeaderMap) {
    // A cookie would tell a caller's next call from the others.
    for name in [header::SET_COOKIE, RECEIPT_HEADER] {
        headers.remove(name);
    }
}

/// Whether the caller takes trailers.
pub(super) fn takes_trailers(headers: &HeaderMap) -> bool {
    let values = headers.get_all(header::TE).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).any(|coding| {
        let name = coding.split(';').next().unwrap_or_default();
        name.trim().eq_ignore_ascii_case("trailers")
    })
}
