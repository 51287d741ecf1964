//! Envoy's external authorisation, over gRPC: `envoy.service.auth.v3.Authorization`.

use std::sync::Arc;

use axum::body::Body;
use axum::http::header::{AUTHORIZATION, CACHE_CONTROL};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use envoy_types::ext_authz::v3::pb::{
    Authorization, AuthorizationServer, CheckRequest, CheckResponse, DeniedHttpResponse, HeaderAppendAction,
    HeaderValue as EnvoyHeader, HeaderValueOption, HttpResponse, HttpStatus, OkHttpResponse,
};
use envoy_types::pb::envoy::service::auth::v3::attribute_context::HttpRequest;
use envoy_types::pb::google::rpc::Status as RpcStatus;
use tonic::{Code, Request, Response, Status};

use super::Door;
use super::decision::{Allowed, CALL_HEADER, Check};
use super::secret::SECRET_HEADER;
use crate::http::exchange::{Exchange, PASSED};
use crate::http::payment::RECEIPT_HEADER;
use crate::http::problem::ProblemDetails;

/// Metadata by which Envoy's configuration says that it sends every body whole; its value is `whole`.
const BODY: &str = "halometer-body";
/// What Envoy says of a body that it sends a part of.
const PARTIAL: &str = "x-envoy-auth-partial-body";
/// The caller's, as Envoy sees it.
const EXTERNAL_ADDRESS: HeaderName = HeaderName::from_static("x-envoy-external-address");
/// Room beside the body in a message, bytes.
const REST: usize = 256 << 10;

/// Answers Envoy.
#[derive(Clone)]
pub(super) struct ExtAuthz(Arc<Door>);

impl ExtAuthz {
    pub(super) fn server(shared: Arc<Door>) -> AuthorizationServer<Self> {
        let longest = shared.layer.now().max_body().saturating_add(REST);
        AuthorizationServer::new(Self(shared)).max_decoding_message_size(longest)
    }

    async fn decide(
        &self,
        exchange: &Arc<Exchange>,
        request: Request<CheckRequest>,
    ) -> Result<Allowed, ProblemDetails> {
        let whole = request.metadata().get(BODY).is_some_and(|value| value.as_bytes() == b"whole");
        let asked = request.into_inner().attributes.and_then(|attributes| attributes.request?.http);
        let asked = asked.ok_or_else(|| {
            ProblemDetails::plain(StatusCode::INTERNAL_SERVER_ERROR, "the proxy asks about no HTTP request")
        })?;
        self.0.decide(exchange, read(asked, whole)?).await
    }
}

fn read(asked: HttpRequest, whole: bool) -> Result<Check, ProblemDetails> {
    let bad = |detail: &str| ProblemDetails::plain(StatusCode::BAD_REQUEST, detail);
    let HttpRequest { method, host, path, headers, header_map, body, raw_body, .. } = asked;
    let method = Method::from_bytes(method.as_bytes()).map_err(|_| bad("the request's method is none"))?;
    let lines: Vec<(String, Vec<u8>)> = match header_map {
        Some(map) => map.headers.into_iter().map(|line| (line.key, line.raw_value)).collect(),
        None => headers.into_iter().map(|(name, value)| (name, value.into_bytes())).collect(),
    };
    let mut headers = HeaderMap::with_capacity(lines.len());
    // Method, path and authority come by themselves.
    for (name, value) in lines.into_iter().filter(|(name, _)| !name.starts_with(':')) {
        let name = HeaderName::try_from(name).map_err(|_| bad("the request has a header that is none"))?;
        headers.append(name, HeaderValue::try_from(value).map_err(|_| bad("the request has a header that is none"))?);
    }
    if headers.get(PARTIAL).is_some_and(|partial| partial == "true") {
        return Err(ProblemDetails::plain(StatusCode::PAYLOAD_TOO_LARGE, "the body is longer than the proxy reads"));
    }
    let body = if raw_body.is_empty() { body.into_bytes() } else { raw_body };
    let body = (whole || !body.is_empty()).then(|| Body::from(body));
    Ok(Check { method, authority: host, target: path, headers, body })
}

#[tonic::async_trait]
impl Authorization for ExtAuthz {
    /// A refusal is an answer too. Envoy refuses by itself whatever is none.
    async fn check(&self, request: Request<CheckRequest>) -> Result<Response<CheckResponse>, Status> {
        let exchange = self.0.layer.now();
        let telling = telling(request.get_ref());
        let answer = match self.decide(&exchange, request).await {
            Ok(allowed) => answer(Code::Ok, HttpResponse::OkResponse(ok(allowed, telling))),
            Err(problem) => answer(Code::PermissionDenied, HttpResponse::DeniedResponse(denied(&exchange, problem))),
        };
        Ok(Response::new(answer))
    }
}

fn answer(code: Code, response: HttpResponse) -> CheckResponse {
    let status = RpcStatus { code: code as i32, ..RpcStatus::default() };
    CheckResponse { status: Some(status), http_response: Some(response), ..CheckResponse::default() }
}

/// The headers of a request that the service does not get: all but those that it needs.
fn telling(request: &CheckRequest) -> Vec<String> {
    let http = request.attributes.as_ref().and_then(|attributes| attributes.request.as_ref()?.http.as_ref());
    let Some(http) = http else { return Vec::new() };
    let lines = http.header_map.iter().flat_map(|map| map.headers.iter().map(|line| &line.key));
    let kept = |name: &str| {
        // Those belong to Envoy and its connection.
        let its_own = name.starts_with(':') || ["host", "te", "transfer-encoding"].contains(&name);
        its_own || PASSED.iter().any(|passed| *passed == name)
    };
    let mut names: Vec<String> =
        lines.chain(http.headers.keys()).map(|name| name.to_ascii_lowercase()).filter(|name| !kept(name)).collect();
    names.sort();
    names.dedup();
    names
}

/// What Envoy adds by itself after it asked.
const FORWARDED_FOR: [&str; 3] = ["x-forwarded-for", "x-forwarded-proto", "x-request-id"];

fn ok(allowed: Allowed, telling: Vec<String>) -> OkHttpResponse {
    let Allowed { call, receipt } = allowed;
    // What a caller sent under the name of what is set goes by that; what is set must not be taken out again.
    let unset = Some(CALL_HEADER).filter(|_| call.is_none());
    let mut to_answer: Vec<_> = receipt.iter().filter_map(|receipt| set(&RECEIPT_HEADER, receipt)).collect();
    if receipt.is_some() {
        // Beside what the service says.
        let append = HeaderAppendAction::AppendIfExistsOrAdd as i32;
        let private = set(&CACHE_CONTROL, &HeaderValue::from_static("private"));
        to_answer.extend(private.map(|option| HeaderValueOption { append_action: append, ..option }));
    }
    OkHttpResponse {
        headers: call.iter().filter_map(|call| set(&CALL_HEADER, call)).collect(),
        headers_to_remove: telling
            .into_iter()
            .chain([AUTHORIZATION, SECRET_HEADER, EXTERNAL_ADDRESS].map(|name| name.as_str().to_owned()))
            .chain(FORWARDED_FOR.map(str::to_owned))
            .filter(|name| call.is_none() || *name != CALL_HEADER.as_str())
            .chain(unset.map(|name| name.as_str().to_owned()))
            .collect(),
        response_headers_to_add: to_answer,
        ..OkHttpResponse::default()
    }
}

fn denied(exchange: &Exchange, problem: ProblemDetails) -> DeniedHttpResponse {
    // Strings in memory.
    let body = serde_json::to_string(&problem).unwrap_or_default();
    let response = exchange.refuse(problem);
    let headers = response.headers().iter().filter(|(name, _)| *name != http::header::CONTENT_LENGTH);
    DeniedHttpResponse {
        status: Some(HttpStatus { code: response.status().as_u16().into() }),
        headers: headers.filter_map(|(name, value)| set(name, value)).collect(),
        body,
    }
}

fn set(name: &HeaderName, value: &HeaderValue) -> Option<HeaderValueOption> {
    let header =
        EnvoyHeader { key: name.as_str().to_owned(), value: value.to_str().ok()?.to_owned(), ..EnvoyHeader::default() };
    Some(HeaderValueOption {
        header: Some(header),
        append_action: HeaderAppendAction::OverwriteIfExistsOrAdd as i32,
        ..HeaderValueOption::default()
    })
}

#[cfg(test)]
mod tests {
    use envoy_types::pb::envoy::config::core::v3::HeaderMap as EnvoyHeaders;

    use super::*;

    fn asked(headers: &[(&str, &str)]) -> HttpRequest {
        HttpRequest {
            method: "POST".into(),
            host: "h:1".into(),
            path: "/a?b".into(),
            headers: headers.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect(),
            ..HttpRequest::default()
        }
    }

    #[test]
    fn a_body_is_that_of_the_request_only_where_envoy_says_so() {
        let has_body = |asked, whole| read(asked, whole).unwrap().body.is_some();
        assert!(!has_body(asked(&[]), false) && has_body(asked(&[]), true));
        assert!(has_body(HttpRequest { raw_body: vec![0xff], ..asked(&[]) }, false));
        assert!(has_body(HttpRequest { body: "x".into(), ..asked(&[]) }, false));
        let partial = read(HttpRequest { raw_body: vec![1], ..asked(&[(PARTIAL, "true")]) }, true);
        assert_eq!(partial.err().unwrap().status, 413);
    }

    #[test]
    fn headers_come_in_either_form() {
        let check = read(asked(&[(":path", "/other"), ("accept", "x")]), false).unwrap();
        assert_eq!((check.target.as_str(), check.headers.len()), ("/a?b", 1));
        let line =
            |key: &str, raw: &[u8]| EnvoyHeader { key: key.into(), raw_value: raw.into(), ..EnvoyHeader::default() };
        let raw =
            |lines: Vec<EnvoyHeader>| HttpRequest { header_map: Some(EnvoyHeaders { headers: lines }), ..asked(&[]) };
        let check =
            read(raw(vec![line("authorization", b"a"), line("authorization", b"b"), line(":method", b"GET")]), false);
        assert_eq!(check.unwrap().headers.get_all("authorization").iter().count(), 2);
        for (name, value) in [("", &b"x"[..]), ("a b", b"x"), ("a", b"\n")] {
            assert_eq!(read(raw(vec![line(name, value)]), false).err().unwrap().status, 400);
        }
        assert_eq!(read(HttpRequest { method: "a b".into(), ..asked(&[]) }, false).err().unwrap().status, 400);
    }

    #[test]
    fn what_names_a_call_is_set_or_taken_out() {
        let call = Some(HeaderValue::from_static("x"));
        let held = ok(Allowed { call, receipt: None }, Vec::new());
        let gone = |ok: &OkHttpResponse, name: &str| ok.headers_to_remove.iter().any(|own| own == name);
        assert!(held.headers.len() == 1 && !gone(&held, "halometer-call") && gone(&held, "authorization"));
        let settled =
            ok(Allowed { call: None, receipt: Some(HeaderValue::from_static("y")) }, vec!["cookie".to_owned()]);
        assert!(settled.headers.is_empty() && gone(&settled, "halometer-call") && gone(&settled, "cookie"));
        assert_eq!(settled.response_headers_to_add.len(), 2);
    }
}
