//! The caller's side as a proxy: clients that know nothing of payments.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use axum::response::IntoResponse as _;
use bytes::Bytes;
use halometer::http::payer::{Payer, PayerParts};
use halometer::http::pricing::{BytePricing, FixedPricing, INPUT_TOKEN, OUTPUT_TOKEN};
use halometer::http::proxy::{HEALTH_PATH, Proxy, ProxyOptions, STATUS_PATH};
use halometer::http::server::{Listener, Server};
use halometer::protocol::*;
use halometer::testing::stack::StackOptions;
use halometer::wallet::{MemoryJournal, Policy};
use http::{HeaderMap, Method, StatusCode};
use serde_json::Value;

use crate::payer_hostile::{TestPayer, impatient, started, until};
use crate::world::{PAID, QUESTION, TARGET, World};

const USAGE: &str = r#"{"usage":{"prompt_tokens":10,"completion_tokens":10}}"#;

/// A proxy with a wallet of its own.
pub(crate) struct Proxied {
    pub(crate) payer: TestPayer,
    pub(crate) proxy: Proxy<MemoryJournal>,
    pub(crate) server: Server,
    pub(crate) client: reqwest::Client,
}

impl Proxied {
    pub(crate) async fn new(world: &World) -> Self {
        Self::with(world, impatient(world), ProxyOptions::default()).await
    }

    pub(crate) async fn with(world: &World, parts: PayerParts, options: ProxyOptions) -> Self {
        let payer = started(world.caller().wallet, parts).await;
        let proxy = Proxy::new(payer.clone(), options).unwrap();
        let server = Listener::bind(([127, 0, 0, 1], 0).into()).await.unwrap().serve(proxy.router());
        let client = reqwest::Client::builder().no_proxy().tls_certs_only([]).build().unwrap();
        Self { payer, proxy, server, client }
    }

    pub(crate) fn request(&self, method: Method, target: &str) -> reqwest::RequestBuilder {
        self.client.request(method, format!("{}{target}", self.server.url()))
    }

    /// A request whose body says that it is JSON.
    pub(crate) fn json(&self, body: &'static str) -> reqwest::RequestBuilder {
        self.request(Method::POST, TARGET).header("content-type", "application/json").body(body)
    }

    pub(crate) fn question(&self) -> reqwest::RequestBuilder {
        self.json(QUESTION)
    }

    async fn get(&self, target: &str) -> (StatusCode, Value) {
        read(self.request(Method::GET, target).send().await.unwrap()).await
    }
}

/// What a request of the payer's says of its body.
pub(crate) fn json() -> HeaderMap {
    HeaderMap::from_iter([(http::header::CONTENT_TYPE, http::HeaderValue::from_static("application/json"))])
}

pub(crate) async fn read(answer: reqwest::Response) -> (StatusCode, Value) {
    let status = answer.status();
    (status, serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap())
}

/// An error as clients of OpenAI's API expect it; its code, its type and what it says of the credit.
async fn refused(answer: reqwest::Response) -> (u16, String, String, String) {
    let (status, body) = read(answer).await;
    let text = |name: &str| body["error"][name].as_str().unwrap_or_else(|| panic!("{name}: {body}")).to_owned();
    assert!(text("message").contains(&text("next")) && !text("fault").is_empty(), "{body}");
    (status.as_u16(), text("code"), text("type"), text("credit"))
}

fn expected(status: u16, code: &str, kind: &str, credit: &str) -> (u16, String, String, String) {
    (status, code.to_owned(), kind.to_owned(), credit.to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_and_answers_pass_through_unchanged() {
    let service = Router::new().fallback(|request: Request| async {
        let (parts, body) = request.into_parts();
        let body = axum::body::to_bytes(body, 1 << 20).await.unwrap();
        let what = format!("{} {} {}", parts.method, parts.uri, String::from_utf8_lossy(&body));
        let headers =
            [("content-type", "text/plain"), ("x-of-the-service", "yes"), ("connection", "x-hop"), ("x-hop", "1")];
        (StatusCode::ACCEPTED, headers, what)
    });
    // By bytes, as by tokens not every path is sold.
    let pricing = Some(Box::new(BytePricing::new().request(INPUT_TOKEN).answer(OUTPUT_TOKEN)) as _);
    let world = World::selling_with(service, StackOptions { pricing, ..StackOptions::default() }).await;
    let proxied = Proxied::new(&world).await;
    for (method, target, body) in [
        (Method::GET, "/v1/models", ""),
        (Method::DELETE, "/v1/files/a%2Fb?x=1&y=%20&key", ""),
        (Method::POST, "/anything//at/all?", "\0\u{ff}{"),
        (Method::from_bytes(b"PROPFIND").unwrap(), "/dav", "<x/>"),
    ] {
        let sent = proxied.request(method.clone(), target).body(body).send().await.unwrap();
        assert_eq!(
            (sent.status(), &sent.headers()["x-of-the-service"]),
            (StatusCode::ACCEPTED, &"yes".parse().unwrap())
        );
        assert!(sent.headers().contains_key("halometer-cost"), "{:?}", sent.headers());
        for name in ["payment-receipt", "x-hop", "connection"] {
            assert!(!sent.headers().contains_key(name), "{name}");
        }
        assert_eq!(sent.text().await.unwrap(), format!("{method} {target} {body}"));
    }
    let head = proxied.request(Method::HEAD, "/v1/models").send().await.unwrap();
    assert_eq!((head.status(), head.bytes().await.unwrap().len()), (StatusCode::ACCEPTED, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn failures_of_the_service_are_its_own_and_say_what_they_cost() {
    let body = r#"{"error":{"message":"no such model","type":"invalid_request_error","param":null,"code":"x"}}"#;
    let service = Router::new().fallback(move || async move { (StatusCode::NOT_FOUND, body) });
    let world = World::selling(service).await;
    let answer = Proxied::new(&world).await.question().send().await.unwrap();
    assert_eq!((answer.status(), &answer.headers()["halometer-cost"]), (StatusCode::NOT_FOUND, &"0".parse().unwrap()));
    assert_eq!(answer.text().await.unwrap(), body);
}

/// What a gateway gets, header for header in its order, but for what pays.
async fn watched() -> (World, Arc<Mutex<Vec<String>>>, Server) {
    let listener = Listener::bind(([127, 0, 0, 1], 0).into()).await.unwrap();
    let origin = format!("http://{}", listener.address());
    let adjust = move |parts: &mut DirectoryParts| parts.gateways[0].origins.insert(0, origin);
    let world = World::with(StackOptions { adjust: Some(Box::new(adjust)), ..StackOptions::default() }).await;
    let (gateway, seen) = (world.stack.gateway_url(), Arc::new(Mutex::new(Vec::new())));
    let kept = Arc::clone(&seen);
    let pass = move |request: Request| {
        let (gateway, kept) = (gateway.clone(), Arc::clone(&kept));
        async move {
            let (parts, body) = request.into_parts();
            let body = axum::body::to_bytes(body, 1 << 20).await.unwrap();
            if parts.headers.contains_key("authorization") {
                let line = |(name, value): (&http::HeaderName, &http::HeaderValue)| match name.as_str() {
                    "authorization" => format!("{name}: {} of {}", &value.to_str().unwrap()[..8], value.len()),
                    _ => format!("{name}: {}", value.to_str().unwrap()),
                };
                let headers: Vec<_> = parts.headers.iter().map(line).collect();
                let text = String::from_utf8_lossy(&body);
                kept.lock().unwrap().push(format!("{} {} {headers:?} {text}", parts.method, parts.uri));
            }
            let client = reqwest::Client::builder().no_proxy().tls_certs_only([]).build().unwrap();
            let sent =
                client.request(parts.method, format!("{gateway}{}", parts.uri)).headers(parts.headers).body(body);
            let answer = sent.send().await.unwrap();
            let (status, mut headers) = (answer.status(), answer.headers().clone());
            headers.remove("transfer-encoding");
            (status, headers, answer.bytes().await.unwrap()).into_response()
        }
    };
    let server = listener.serve(Router::new().fallback(pass));
    (world, seen, server)
}

#[tokio::test(flavor = "multi_thread")]
async fn no_client_header_reaches_the_gateway_and_all_look_alike() {
    let (world, seen, _server) = watched().await;
    let clients: [&[(&str, &str)]; 3] = [
        &[
            ("authorization", "Bearer sk-secret-of-the-caller"),
            ("user-agent", "OpenAI/Python 2.8.0"),
            ("x-stainless-lang", "python"),
            ("x-stainless-retry-count", "1"),
            ("openai-organization", "org-mine"),
            ("accept", "application/json"),
            ("accept-encoding", "gzip, deflate"),
            ("idempotency-key", "stainless-python-retry-7"),
            ("content-type", "application/json"),
        ],
        &[
            ("content-type", "application/json; charset=utf-8"),
            ("x-api-key", "sk-secret-of-the-caller"),
            ("api-key", "sk-secret-of-the-caller"),
            ("cookie", "session=secret-of-the-caller"),
            ("accept-language", "de-CH"),
            ("sec-ch-ua", "browser"),
            ("x-request-id", "17"),
            ("traceparent", "00-secret-of-the-caller"),
            ("forwarded", "for=10.0.0.1"),
            ("x-forwarded-for", "10.0.0.1"),
            ("te", "gzip"),
            ("referer", "http://mine.example"),
        ],
        &[("content-type", "application/JSON;charset=UTF-8"), ("proxy-authorization", "Basic secret-of-the-caller")],
    ];
    for headers in clients {
        // Each has its own wallet and connection.
        let proxied = Proxied::new(&world).await;
        let mut request = proxied.request(Method::POST, TARGET).body(QUESTION);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        assert_eq!(request.send().await.unwrap().status(), 200);
        proxied.payer.shutdown().await;
    }
    let seen = seen.lock().unwrap();
    assert_eq!(seen.len(), 3);
    assert!(seen.iter().all(|request| request == &seen[0]), "{seen:#?}");
    let lower = seen[0].to_lowercase();
    for word in ["secret", "sk-", "openai", "stainless", "python", "user-agent", "cookie", "gzip", "charset"] {
        assert!(!lower.contains(word), "{word}: {}", seen[0]);
    }
    assert!(lower.contains("authorization: payment  of") || lower.contains("authorization: payment "), "{lower}");
}

#[tokio::test(flavor = "multi_thread")]
async fn only_allowed_headers_are_passed_on_and_paying_ones_never() {
    let (world, seen, _server) = watched().await;
    let pass =
        |name: &'static str| ProxyOptions::default().with_pass_headers(vec![http::HeaderName::from_static(name)]);
    let proxied = Proxied::with(&world, impatient(&world), pass("openai-beta")).await;
    let sent = proxied.question().header("openai-beta", "assistants=v2").header("openai-project", "mine").send().await;
    assert_eq!(sent.unwrap().status(), 200);
    let seen = seen.lock().unwrap();
    assert!(seen[0].contains("openai-beta: assistants=v2") && !seen[0].contains("openai-project"), "{}", seen[0]);
    for name in ["authorization", "cookie", "host", "te", "content-length"] {
        assert!(Proxy::new(proxied.payer.clone(), pass(name)).is_err(), "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn all_of_100_requests_are_answered_and_the_balance_is_exact() {
    let service = Router::new().fallback(|body: Bytes| async move {
        tokio::time::sleep(Duration::from_millis(5)).await;
        let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
        let number = &body["number"];
        format!(r#"{{"number":{number},"usage":{{"prompt_tokens":10,"completion_tokens":10}}}}"#)
    });
    let world = World::selling(service).await;
    let parts = impatient(&world).with_answer_timeout(Duration::from_secs(60));
    let proxied = Arc::new(Proxied::with(&world, parts, ProxyOptions::default()).await);
    let calls: Vec<_> = (0..100_u64)
        .map(|number| {
            let proxied = Arc::clone(&proxied);
            tokio::spawn(async move {
                let sent = proxied
                    .request(Method::POST, TARGET)
                    .body(format!(r#"{{"number":{number}}}"#))
                    .send()
                    .await
                    .unwrap();
                assert_eq!(sent.headers()["halometer-cost"], "100");
                read(sent).await
            })
        })
        .collect();
    for (number, call) in calls.into_iter().enumerate() {
        let (status, body) = call.await.unwrap();
        assert_eq!((status, &body["number"]), (StatusCode::OK, &number.into()), "{body}");
    }
    assert_eq!(world.charged(), 10_000);
    let (_, status) = proxied.get(STATUS_PATH).await;
    assert_eq!(status["balance"]["total"], (PAID - 10_000).to_string());
    assert_eq!(status["requests"]["under_way"], 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wallet_that_cannot_pay_says_so_as_clients_expect_it() {
    let world = World::new().await;
    let class = Credits::from_micro(64_000);
    for (gather, code) in [(false, "out_of_credit"), (true, "credit_spread")] {
        let policy = Policy { gather, ..Policy::agent(class, 2) };
        let parts = impatient(&world).with_policy(policy);
        let proxied = Proxied::with(&world, parts, ProxyOptions::default()).await;
        let answer = proxied.question().send().await.unwrap();
        // No client may try again by itself.
        assert_eq!(
            (&answer.headers()["x-should-retry"], answer.headers().get("retry-after")),
            (&"false".parse().unwrap(), None)
        );
        let (status, got, kind, credit) = refused(answer).await;
        assert_eq!((status, kind.as_str(), credit.as_str()), (402, "insufficient_quota", "untouched"));
        // Without gathering, credit that is spread is no credit.
        assert!(got == code || got == "credit_spread", "{got}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_above_its_class_names_the_setting_to_change() {
    // Two micro-credits a byte.
    let pricing = Some(Box::new(BytePricing::new().request(INPUT_TOKEN)) as _);
    let world = World::with(StackOptions { pricing, ..StackOptions::default() }).await;
    let proxied = Proxied::new(&world).await;
    let answer = proxied.request(Method::POST, TARGET).body("x".repeat(2_001)).send().await.unwrap();
    assert_eq!(answer.headers()["halometer-cost"], "0");
    let (status, body) = read(answer).await;
    assert_eq!(
        (status.as_u16(), &body["error"]["code"], &body["error"]["cost"]),
        (402, &"cap_reached".into(), &"0".into())
    );
    assert!(body["error"]["next"].as_str().unwrap().contains("--class"), "{body}");
    assert_eq!((world.charged(), world.held()), (0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_gateway_does_not_sell_is_not_found_and_costs_nothing() {
    let pricing = FixedPricing::new().route("POST /v1/images".parse().unwrap(), OUTPUT_TOKEN);
    let world = World::with(StackOptions { pricing: Some(Box::new(pricing)), ..StackOptions::default() }).await;
    let proxied = Proxied::new(&world).await;
    let answer = refused(proxied.question().send().await.unwrap()).await;
    assert_eq!(answer, expected(404, "gateway_refuses", "invalid_request_error", "safe"));
    let status = until(&proxied.payer, "spends are in flight", |status| status.in_flight == 0).await;
    assert_eq!((status.balance.total(), world.charged()), (u128::from(PAID), 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn credit_is_safe_and_the_proxy_goes_on_without_its_gateway() {
    let (world, _, server) = watched().await;
    let proxied = Proxied::new(&world).await;
    assert_eq!(proxied.question().send().await.unwrap().status(), 200);
    let total = proxied.payer.status().await.unwrap().balance.total();
    proxied.payer.wait_ready(2).await.unwrap();
    server.shutdown().await;
    let answer = refused(proxied.question().send().await.unwrap()).await;
    assert_eq!(answer, expected(502, "gateway_unreachable", "server_error", "safe"));
    assert_eq!(proxied.get(HEALTH_PATH).await.0, StatusCode::OK);
    let status = proxied.get(STATUS_PATH).await.1;
    assert_eq!((&status["lanes"]["in_flight"], &status["balance"]["total"]), (&1.into(), &total.to_string().into()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hanging_gateway_and_a_failed_service_have_own_statuses() {
    let service = Router::new().fallback(|| async {
        tokio::time::sleep(Duration::from_secs(20)).await;
        USAGE
    });
    let world = World::selling(service).await;
    let proxied = Proxied::new(&world).await;
    let answer = refused(proxied.question().send().await.unwrap()).await;
    assert_eq!(answer, expected(504, "gateway_timeout", "server_error", "safe"));

    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let url = format!("http://127.0.0.1:{port}");
    let upstream = Some(halometer::testing::stack::UpstreamOptions { url, api_key: None });
    let world = World::with(StackOptions { upstream, ..StackOptions::default() }).await;
    let answer = Proxied::new(&world).await.question().send().await.unwrap();
    assert_eq!(
        (&answer.headers()["halometer-cost"], &answer.headers()["x-should-retry"]),
        (&"0".parse().unwrap(), &"false".parse().unwrap())
    );
    assert_eq!(refused(answer).await, expected(502, "service_failed", "server_error", "spent"));
}

/// A page that a browser shows can have it send requests here. It gets nothing and spends nothing.
#[tokio::test(flavor = "multi_thread")]
async fn web_pages_and_names_that_lead_here_are_refused() {
    let world = World::new().await;
    let proxied = Proxied::new(&world).await;
    for (name, value) in [
        ("origin", "https://evil.example"),
        ("origin", "null"),
        ("sec-fetch-site", "cross-site"),
        ("sec-fetch-site", "same-site"),
        ("host", "evil.example"),
        ("host", "evil.example:8402"),
        ("host", "127.0.0.1.evil.example"),
    ] {
        for target in [TARGET, STATUS_PATH, HEALTH_PATH] {
            let answer = proxied.request(Method::GET, target).header(name, value).send().await.unwrap();
            assert_eq!(answer.headers().get("access-control-allow-origin"), None);
            let refusal = refused(answer).await;
            assert_eq!(
                refusal,
                expected(403, "not_from_here", "invalid_request_error", "untouched"),
                "{name}: {value}"
            );
        }
    }
    assert_eq!((world.charged(), world.held()), (0, 0));
    let here = proxied.question().header("host", "localhost:1").header("sec-fetch-site", "none").send().await;
    assert_eq!(here.unwrap().status(), 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_paid_for_is_refused_before_anything_is_spent() {
    let world = World::new().await;
    let options = ProxyOptions::default().with_max_body(64).with_max_requests(1);
    let proxied = Proxied::with(&world, impatient(&world), options).await;
    let long = proxied.question().body("x".repeat(65)).send().await.unwrap();
    assert_eq!(refused(long).await, expected(413, "body_too_long", "invalid_request_error", "untouched"));
    let own = proxied.request(Method::POST, "/.well-known/halometer/cancel").send().await.unwrap();
    assert_eq!(refused(own).await.1, "not_for_sale");
    let socket = proxied.request(Method::GET, "/v1/realtime").header("upgrade", "websocket").send().await.unwrap();
    assert_eq!(refused(socket).await.0, 501);
    for (method, target, status) in
        [(Method::GET, "/.halometer/else", 404), (Method::POST, STATUS_PATH, 405), (Method::DELETE, HEALTH_PATH, 405)]
    {
        assert_eq!(refused(proxied.request(method, target).send().await.unwrap()).await.0, status, "{target}");
    }
    // Used as an HTTP proxy, for another host.
    let through =
        reqwest::Client::builder().proxy(reqwest::Proxy::http(proxied.server.url()).unwrap()).tls_certs_only([]);
    let elsewhere = through.build().unwrap().get("http://other.example/").send().await.unwrap();
    assert_eq!(elsewhere.status(), 403);
    assert_eq!((world.charged(), world.held()), (0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_proxy_is_busy_and_finishes_its_calls_before_ending() {
    // Works until it is let go.
    let gate = Arc::new(tokio::sync::Semaphore::new(0));
    let held = Arc::clone(&gate);
    let service = Router::new().fallback(move || {
        let held = Arc::clone(&held);
        async move { held.acquire().await.map(|_| USAGE).unwrap_or(USAGE) }
    });
    let world = World::selling(service).await;
    let options = ProxyOptions::default().with_max_requests(2);
    let parts = impatient(&world).with_answer_timeout(Duration::from_secs(30));
    let Proxied { payer, proxy, server, client } = Proxied::with(&world, parts, options).await;
    payer.wait_ready(2).await.unwrap();
    let url = format!("{}{TARGET}", server.url());
    let calls = [(); 2].map(|()| tokio::spawn(client.post(&url).body(QUESTION).send()));
    until(&payer, "nothing is sent", |status| status.in_flight == 2).await;
    let busy = client.post(&url).body(QUESTION).send().await.unwrap();
    assert_eq!(
        (&busy.headers()["x-should-retry"], busy.headers().contains_key("retry-after")),
        (&"true".parse().unwrap(), true)
    );
    assert_eq!(refused(busy).await, expected(503, "busy", "server_error", "untouched"));
    gate.add_permits(2);
    server.shutdown().await;
    assert!(proxy.drain(Duration::from_secs(5)).await);
    for call in calls {
        assert_eq!(call.await.unwrap().unwrap().status(), 200);
    }
    assert!(client.post(&url).send().await.is_err(), "nobody listens any more");
    let wallet = payer.shutdown().await.unwrap();
    assert_eq!(wallet.balance().total(), u128::from(PAID - 200));
}

/// A client of this repository: a program that embeds the payer gets the same.
#[tokio::test(flavor = "multi_thread")]
async fn a_stream_of_a_whole_answer_is_the_answer() {
    let world = World::new().await;
    let payer: Payer<MemoryJournal> = started(world.caller().wallet, impatient(&world)).await;
    let streamed = payer.stream(Method::POST, TARGET, json(), QUESTION.into()).await.unwrap();
    let mut body = streamed.body;
    let mut read = Vec::new();
    while let Some(chunk) = body.chunk().await {
        read.extend_from_slice(&chunk.unwrap());
    }
    let answer: Value = serde_json::from_slice(&read).unwrap();
    assert_eq!(answer["object"], "chat.completion");
    let settled = body.settled().await.unwrap();
    assert_eq!((streamed.settled, settled.accepted.cost.micro()), (Some(settled), world.charged()));
}
