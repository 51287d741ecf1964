//! What of a request reaches the service, and what of its answer the caller.

use core::pin::Pin;
use std::sync::Arc;

use axum::BoxError;
use axum::body::Body;
use axum::extract::Request as HttpRequest;
use axum::response::Response;
use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Method, request, response};
use hyper::body::Frame;

use crate::http::payment::RECEIPT_HEADER;
use crate::http::upstream::end_to_end;
use crate::pipeline::Source;

/// The service behind, asked once.
pub(crate) type Next = Box<dyn FnOnce(HttpRequest) -> Answering + Send>;
/// Its answer to come.
pub(crate) type Answering = Pin<Box<dyn Future<Output = Result<Response, BoxError>> + Send>>;

/// The headers of a request that reach the service: what it needs to read the body and to choose an answer. Of all others each caller has
/// its own, and proxies in front add where a caller is; so that no list of bad names could be whole.
pub(in crate::http) const PASSED: [HeaderName; 14] = [
    header::ACCEPT,
    header::CONTENT_TYPE,
    header::CONTENT_ENCODING,
    header::CONTENT_LENGTH,
    header::RANGE,
    // OpenAI's, Anthropic's, Google's and the Model Context Protocol's: which revision of the interface is spoken.
    HeaderName::from_static("openai-beta"),
    HeaderName::from_static("openai-version"),
    HeaderName::from_static("anthropic-version"),
    HeaderName::from_static("anthropic-beta"),
    HeaderName::from_static("mcp-protocol-version"),
    // gRPC's.
    HeaderName::from_static("grpc-encoding"),
    HeaderName::from_static("grpc-accept-encoding"),
    HeaderName::from_static("grpc-timeout"),
    HeaderName::from_static("grpc-message-type"),
];

/// Headers that no setting passes on: they pay, name the caller by what they are, belong to a connection, or are made anew.
const NEVER: [HeaderName; 16] = [
    header::AUTHORIZATION,
    header::PROXY_AUTHORIZATION,
    header::PROXY_AUTHENTICATE,
    header::COOKIE,
    header::CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    header::HOST,
    header::EXPECT,
    header::FORWARDED,
    header::VIA,
    HeaderName::from_static("content-digest"),
];

/// The further headers that the operator passes on: part of a request's extensions.
#[derive(Clone, Debug, Default)]
pub(in crate::http) struct AlsoPassed(pub(in crate::http) Arc<[HeaderName]>);

/// Whether a setting may pass a header on.
pub(in crate::http) fn may_pass(name: &HeaderName) -> bool {
    !NEVER.contains(name)
}

/// The head of a request as the service gets it.
pub(super) fn head(mut parts: request::Parts) -> request::Parts {
    let also = parts.extensions.remove::<AlsoPassed>().unwrap_or_default();
    let mut passed = HeaderMap::new();
    let sent = end_to_end(&parts.headers);
    for name in PASSED.iter().chain(also.0.iter().filter(|name| may_pass(name))) {
        if !passed.contains_key(name) {
            sent.get_all(name).iter().for_each(|value| {
                passed.append(name.clone(), value.clone());
            });
        }
    }
    // A price may be said there, and gRPC says its status there.
    passed.insert(header::TE, HeaderValue::from_static("trailers"));
    parts.headers = passed;
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

/// The head of an answer as the caller gets it. The length is set again where it is known; that of the body which a `HEAD` asks about is
/// known to the service only.
pub(super) fn answer(method: &Method, parts: &mut response::Parts) {
    let length = parts.headers.get(header::CONTENT_LENGTH).cloned().filter(|_| *method == Method::HEAD);
    parts.headers = end_to_end(&parts.headers);
    parts.headers.remove(header::CONTENT_LENGTH);
    parts.headers.extend(length.map(|length| (header::CONTENT_LENGTH, length)));
    strip(&mut parts.headers);
}

/// The trailers that an answer says beforehand. Over HTTP/1.1 no others can be sent.
pub(super) fn declared(headers: &HeaderMap) -> Vec<HeaderName> {
    let values = headers.get_all(header::TRAILER).iter().filter_map(|value| value.to_str().ok());
    let names = values.flat_map(|value| value.split(',')).filter_map(|name| name.trim().parse::<HeaderName>().ok());
    names.filter(|name| may_pass(name) && *name != RECEIPT_HEADER && *name != header::CONTENT_LENGTH).collect()
}

/// Says which trailers will come.
pub(super) fn declare<'a>(headers: &mut HeaderMap, names: impl IntoIterator<Item = &'a HeaderName>) {
    for name in names {
        headers.append(header::TRAILER, HeaderValue::from_name(name.clone()));
    }
}

/// The end of a whole answer, with the service's trailers.
pub(super) struct Ending(pub(super) Option<Bytes>, pub(super) Option<HeaderMap>);

impl hyper::body::Body for Ending {
    type Data = Bytes;
    type Error = core::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut core::task::Context<'_>,
    ) -> core::task::Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let frame = self.0.take().map(Frame::data).or_else(|| self.1.take().map(Frame::trailers));
        core::task::Poll::Ready(frame.map(Ok))
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_none() && self.1.is_none()
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    /// What proxies, browsers and programs say of an address, a place, a device or a trace.
    const TELLING: [&str; 60] = [
        "x-forwarded-for",
        "x-forwarded-host",
        "x-forwarded-proto",
        "x-forwarded-port",
        "x-forwarded-server",
        "x-original-forwarded-for",
        "forwarded",
        "via",
        "x-real-ip",
        "true-client-ip",
        "x-client-ip",
        "x-cluster-client-ip",
        "cf-connecting-ip",
        "cf-connecting-ipv6",
        "cf-ipcountry",
        "cf-ipcity",
        "cf-iplongitude",
        "cf-ray",
        "cf-visitor",
        "fastly-client-ip",
        "x-azure-clientip",
        "x-envoy-external-address",
        "x-appengine-user-ip",
        "x-appengine-country",
        "fly-client-ip",
        "x-vercel-ip-city",
        "cloudfront-viewer-address",
        "x-amzn-trace-id",
        "x-cloud-trace-context",
        "traceparent",
        "tracestate",
        "baggage",
        "b3",
        "x-b3-traceid",
        "uber-trace-id",
        "x-request-id",
        "x-correlation-id",
        "x-device-id",
        "x-session-id",
        "sec-ch-ua",
        "sec-ch-ua-platform",
        "sec-ch-ua-model",
        "sec-fetch-site",
        "dnt",
        "sec-gpc",
        "save-data",
        "viewport-width",
        "from",
        "referer",
        "origin",
        "cookie",
        "user-agent",
        "accept-language",
        "authorization",
        "proxy-authorization",
        "if-none-match",
        "x-stainless-os",
        "openai-organization",
        "x-api-key",
        "priority",
    ];

    fn passed(names: &[&str], also: &[&str]) -> Vec<String> {
        let mut request = http::Request::new(());
        for name in names {
            request
                .headers_mut()
                .append(HeaderName::from_bytes(name.as_bytes()).unwrap(), HeaderValue::from_static("x"));
        }
        let also: Vec<HeaderName> = also.iter().map(|name| name.parse().unwrap()).collect();
        request.extensions_mut().insert(AlsoPassed(also.into()));
        let mut names: Vec<_> = head(request.into_parts().0).headers.keys().map(|name| name.to_string()).collect();
        names.sort();
        names
    }

    #[test]
    fn no_header_of_place_device_or_trace_reaches_the_service() {
        assert_eq!(passed(&TELLING, &[]), ["te"]);
        assert_eq!(
            passed(&["content-type", "accept", "anthropic-version"], &[]),
            ["accept", "anthropic-version", "content-type", "te"]
        );
    }

    #[test]
    fn a_setting_passes_more_but_nothing_that_pays_or_names_a_hop() {
        assert_eq!(
            passed(&["x-mine", "x-other", "via", "cookie", "authorization"], &["x-mine", "via", "cookie"]),
            ["te", "x-mine"]
        );
        assert!(may_pass(&HeaderName::from_static("x-mine")) && !may_pass(&header::FORWARDED));
    }

    #[test]
    fn only_what_is_asked_by_head_keeps_a_length_that_is_not_here() {
        for (method, kept) in [(Method::HEAD, true), (Method::GET, false)] {
            let answered = http::Response::builder().header("content-length", "7").body(()).unwrap();
            let mut parts = answered.into_parts().0;
            answer(&method, &mut parts);
            assert_eq!(parts.headers.contains_key(header::CONTENT_LENGTH), kept);
        }
    }
}
