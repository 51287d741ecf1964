//! The dialects of HTTP forward-auth: nginx's `auth_request`, Caddy's `forward_auth`, Traefik's ForwardAuth.

use std::sync::Arc;

use axum::extract::Request;
use axum::response::{IntoResponse as _, Response};
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Method, StatusCode};

use super::Door;
use super::decision::{Allowed, CALL_HEADER, Check};
use crate::http::exchange::Exchange;
use crate::http::payment::RECEIPT_HEADER;
use crate::http::problem::ProblemDetails;

/// The status that nginx cannot pass on.
const STATUS_HEADER: HeaderName = HeaderName::from_static("halometer-status");
/// The problem, whose body nginx cannot pass on.
const PROBLEM_HEADER: HeaderName = HeaderName::from_static("halometer-problem");

/// How a proxy says what it asks about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Dialect {
    /// By headers that its configuration sets. It takes 2xx, 401 and 403, and no body.
    Nginx,
    /// By headers that Caddy and Traefik set by themselves. They pass a refusal on as it is.
    Forwarded {
        /// Whether the body comes along.
        body: bool,
    },
}

impl Dialect {
    /// Method, target, authority; and the length of the body, where there is a header for it.
    const fn names(self) -> ([HeaderName; 3], Option<HeaderName>) {
        match self {
            Self::Nginx => (
                [
                    HeaderName::from_static("x-original-method"),
                    HeaderName::from_static("x-original-uri"),
                    HeaderName::from_static("x-original-host"),
                ],
                Some(HeaderName::from_static("x-original-content-length")),
            ),
            Self::Forwarded { .. } => (
                [
                    HeaderName::from_static("x-forwarded-method"),
                    HeaderName::from_static("x-forwarded-uri"),
                    HeaderName::from_static("x-forwarded-host"),
                ],
                None,
            ),
        }
    }

    fn read(self, mut headers: HeaderMap) -> Result<Check, ProblemDetails> {
        let (names, length) = self.names();
        let mut parts = names.into_iter().map(|name| single(&mut headers, &name));
        let (method, target, authority) = (next(&mut parts)?, next(&mut parts)?, next(&mut parts)?);
        drop(parts);
        let method = Method::from_bytes(method.as_bytes())
            .map_err(|_| ProblemDetails::plain(StatusCode::BAD_REQUEST, "the request's method is none"))?;
        if let Some(name) = length {
            // Of the request that is asked about, not of the question.
            headers.remove(header::CONTENT_LENGTH);
            let value = headers.remove(&name).filter(|value| !value.is_empty());
            headers.extend(value.map(|value| (header::CONTENT_LENGTH, value)));
        }
        Ok(Check { method, authority, target, headers, body: None })
    }

    fn allowed(allowed: Allowed) -> Response {
        let Allowed { call, receipt } = allowed;
        let mut response = StatusCode::OK.into_response();
        let headers = response.headers_mut();
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        headers.extend(call.map(|call| (CALL_HEADER, call)));
        headers.extend(receipt.map(|receipt| (RECEIPT_HEADER, receipt)));
        response
    }

    fn refused(self, exchange: &Exchange, problem: ProblemDetails) -> Response {
        if self != Self::Nginx {
            return exchange.refuse(problem);
        }
        let (status, in_header) = (problem.status(), ascii(&problem));
        let mut response = exchange.refuse(problem);
        *response.status_mut() = match status {
            StatusCode::PAYMENT_REQUIRED => StatusCode::UNAUTHORIZED,
            _ => StatusCode::FORBIDDEN,
        };
        let headers = response.headers_mut();
        headers.insert(STATUS_HEADER, HeaderValue::from(status.as_u16()));
        headers.extend(in_header.map(|problem| (PROBLEM_HEADER, problem)));
        response
    }
}

/// Answers a question.
pub(super) async fn check(shared: Arc<Door>, dialect: Dialect, request: Request) -> Response {
    let exchange = shared.layer.now();
    match decide(&shared, &exchange, dialect, request).await {
        Ok(allowed) => Dialect::allowed(allowed),
        Err(problem) => dialect.refused(&exchange, problem),
    }
}

async fn decide(
    shared: &Arc<Door>,
    exchange: &Arc<Exchange>,
    dialect: Dialect,
    request: Request,
) -> Result<Allowed, ProblemDetails> {
    let (parts, body) = request.into_parts();
    let mut check = dialect.read(parts.headers)?;
    check.body = Some(body).filter(|_| dialect == (Dialect::Forwarded { body: true }));
    shared.decide(exchange, check).await
}

/// A header that the proxy sets, taken out.
fn single(headers: &mut HeaderMap, name: &HeaderName) -> Result<String, ProblemDetails> {
    let mut values = headers.get_all(name).iter();
    let value = match (values.next(), values.next()) {
        (Some(value), None) => value.to_str().ok().map(str::to_owned),
        _ => None,
    };
    while headers.remove(name).is_some() {}
    value.ok_or_else(|| {
        let detail = format!("the proxy does not say {name}, or not once");
        ProblemDetails::plain(StatusCode::INTERNAL_SERVER_ERROR, detail)
    })
}

fn next(parts: &mut impl Iterator<Item = Result<String, ProblemDetails>>) -> Result<String, ProblemDetails> {
    parts.next().unwrap_or_else(|| Err(ProblemDetails::plain(StatusCode::INTERNAL_SERVER_ERROR, "the gateway failed")))
}

/// A problem in a header: JSON in ASCII.
fn ascii(problem: &ProblemDetails) -> Option<HeaderValue> {
    let json = serde_json::to_string(problem).ok()?;
    let mut text = String::with_capacity(json.len());
    for unit in json.chars() {
        match unit {
            ' '..='~' => text.push(unit),
            _ => unit.encode_utf16(&mut [0; 2]).iter().for_each(|half| text.push_str(&format!("\\u{half:04x}"))),
        }
    }
    HeaderValue::from_str(&text).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(lines: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(*name, value.parse().unwrap());
        }
        headers
    }

    #[test]
    fn what_is_asked_about_is_what_the_proxy_says() {
        let own = [("x-original-method", "POST"), ("x-original-uri", "/a?b"), ("x-original-host", "h:1")];
        let read = |more: &[(&'static str, &str)]| Dialect::Nginx.read(headers(&[&own, more].concat()));
        let check = read(&[("content-length", "9"), ("x-original-content-length", "3"), ("host", "exchange")]).unwrap();
        assert_eq!((check.method, check.target.as_str(), check.authority.as_str()), (Method::POST, "/a?b", "h:1"));
        assert_eq!(check.headers.get("content-length").unwrap(), "3");
        assert!(!check.headers.contains_key("x-original-uri"));
        // nginx sends no header for an empty value, and an empty one where it is made to.
        assert!(!read(&[("x-original-content-length", "")]).unwrap().headers.contains_key("content-length"));
        // Twice: the caller's beside the proxy's.
        assert_eq!(read(&[("x-original-uri", "/cheap")]).err().unwrap().status, 500);
        for missing in 0..3 {
            let rest: Vec<_> = (0..3).filter(|index| *index != missing).map(|index| own[index]).collect();
            assert_eq!(Dialect::Nginx.read(headers(&rest)).err().unwrap().status, 500);
            assert_eq!((Dialect::Forwarded { body: false }).read(headers(&own)).err().unwrap().status, 500);
        }
    }

    #[test]
    fn a_problem_in_a_header_is_the_same_problem() {
        let problem = ProblemDetails::plain(StatusCode::NOT_FOUND, "\u{e9} \u{1f600} \"x\"\n");
        let value = ascii(&problem).unwrap();
        assert_eq!(serde_json::from_str::<ProblemDetails>(value.to_str().unwrap()).unwrap(), problem);
    }
}
