//! What of a client's request reaches the gateway.

use std::net::IpAddr;

use axum::extract::Request;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::request::Parts;
use http::{Method, StatusCode};

use super::refusal::Refusal;

/// The headers that the service may need to understand the body, or to answer what was asked. Of all others, each client has its own.
const PASSED: [HeaderName; 3] = [header::CONTENT_TYPE, header::CONTENT_ENCODING, header::RANGE];
/// Headers that nobody can ask to be passed on: they pay, or are of a connection, or are made anew.
const NEVER: [HeaderName; 14] = [
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
    header::CONTENT_LENGTH,
    header::HOST,
    header::EXPECT,
];
/// What begins the gateway's own paths, which nobody pays for.
const GATEWAYS_OWN: &str = "/.well-known/halometer/";

/// A request as the gateway gets it, but for its body.
pub(super) struct Outgoing {
    pub(super) method: Method,
    pub(super) target: String,
    pub(super) headers: HeaderMap,
}

impl Outgoing {
    /// Its path, as it was sent.
    pub(super) fn path(&self) -> &str {
        self.target.split('?').next().unwrap_or_default()
    }
}

pub(super) fn may_pass(name: &HeaderName) -> bool {
    !NEVER.contains(name)
}

pub(super) fn read(parts: Parts, pass: &[HeaderName]) -> Result<Outgoing, Refusal> {
    let Parts { method, uri, headers, .. } = parts;
    let target = uri.path_and_query().map(|target| target.as_str()).filter(|target| target.starts_with('/'));
    let Some(target) = target.filter(|_| method != Method::CONNECT) else {
        return Err(Refusal::request(
            StatusCode::BAD_REQUEST,
            "no_path",
            "the request's target is no path of the service",
            "use the proxy's address as the base URL of the API, and not as an HTTP proxy",
        ));
    };
    if uri.path().starts_with(GATEWAYS_OWN) {
        return Err(Refusal::request(
            StatusCode::NOT_FOUND,
            "not_for_sale",
            "this path is of the payment itself",
            "call the service's paths",
        ));
    }
    let upgrade = headers.get(header::UPGRADE).map(HeaderValue::as_bytes).unwrap_or_default();
    if upgrade.to_ascii_lowercase().starts_with(b"websocket") {
        return Err(Refusal::request(
            StatusCode::NOT_IMPLEMENTED,
            "no_websockets",
            "WebSockets cannot be paid for",
            "use the API over plain requests",
        ));
    }
    let mut passed = HeaderMap::new();
    for name in PASSED.iter().chain(pass) {
        if passed.contains_key(name) {
            continue;
        }
        for value in headers.get_all(name) {
            passed.append(name.clone(), canonical(name, value));
        }
    }
    Ok(Outgoing { method, target: target.to_owned(), headers: passed })
}

/// Clients write one and the same type of content in several ways.
fn canonical(name: &HeaderName, value: &HeaderValue) -> HeaderValue {
    let text = value.to_str().unwrap_or_default().to_ascii_lowercase();
    let mut parts = text.split(';').map(str::trim);
    let json = parts.next() == Some("application/json");
    match *name == header::CONTENT_TYPE && json && parts.all(|part| matches!(part, "" | "charset=utf-8")) {
        true => HeaderValue::from_static("application/json"),
        false => value.clone(),
    }
}

/// Whether a request is a web page's, or was led here by a name. A page that a browser shows can have it send requests to this machine; they
/// name the page, or come under the page's own host name.
pub(super) fn is_foreign(request: &Request, any_host: bool) -> bool {
    let headers = request.headers();
    if headers.contains_key(header::ORIGIN) {
        return true;
    }
    let site = headers.get("sec-fetch-site").map(HeaderValue::as_bytes);
    if site.is_some_and(|site| site != b"none" && site != b"same-origin") {
        return true;
    }
    let mut named = headers.get_all(header::HOST).iter().map(|host| host.to_str().unwrap_or_default());
    let authority = request.uri().authority().map(|authority| authority.as_str());
    let here = named.all(is_here) && authority.is_none_or(is_here);
    !(any_host || here)
}

/// Whether a host, with or without a port, is an address or this machine.
fn is_here(host: &str) -> bool {
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => host.rsplit_once(':').map_or(host, |(name, _)| name),
    };
    name.eq_ignore_ascii_case("localhost") || name.parse::<IpAddr>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_and_this_machine_are_here_and_names_are_not() {
        for host in ["127.0.0.1", "127.0.0.1:80", "[::1]:80", "[::1]", "localhost:8402", "LOCALHOST", "10.0.0.7:1"] {
            assert!(is_here(host), "{host}");
        }
        for host in ["evil.example", "evil.example:8402", "localhost.evil.example", "127.0.0.1.evil.example", "", "[x]"]
        {
            assert!(!is_here(host), "{host}");
        }
    }

    #[test]
    fn one_type_of_content_has_one_name() {
        let written = |value: &'static str| canonical(&header::CONTENT_TYPE, &HeaderValue::from_static(value));
        for value in ["application/json", "application/json; charset=utf-8", "Application/JSON;charset=UTF-8"] {
            assert_eq!(written(value), "application/json");
        }
        for value in ["application/json; charset=latin1", "multipart/form-data; boundary=x", "text/plain", ""] {
            assert_eq!(written(value), value);
        }
    }

    #[test]
    fn what_pays_and_what_is_of_a_connection_is_never_passed_on() {
        for name in ["authorization", "cookie", "te", "host", "connection", "transfer-encoding"] {
            assert!(!may_pass(&HeaderName::from_static(name)), "{name}");
        }
        assert!(may_pass(&HeaderName::from_static("openai-beta")));
    }
}
