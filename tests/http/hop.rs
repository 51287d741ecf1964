//! What passes between a caller's program and the service: the bytes that were signed, and nothing that nobody said.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::Request as HttpRequest;
use axum::response::Response;
use bytes::Bytes;
use halometer::http::upstream::{Upstream, UpstreamConfigError, UpstreamError, UpstreamLimits};
use halometer::testing::stack::StackOptions;
use http::Request;
use http_body_util::BodyExt as _;
use hyper::body::Frame;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tower::ServiceExt as _;

use crate::proxy::Proxied;
use crate::world::World;

fn free(service: Router) -> (Router, StackOptions) {
    let free = ["GET /free", "POST /free", "HEAD /free"].iter().map(|route| route.parse().unwrap()).collect();
    (service, StackOptions { free, ..StackOptions::default() })
}

async fn talk(address: &str, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(bytes).await.unwrap();
    let mut read = Vec::new();
    let _ = tokio::time::timeout(Duration::from_secs(60), stream.read_to_end(&mut read)).await;
    String::from_utf8_lossy(&read).into_owned()
}

fn any_call() -> Option<Box<dyn halometer::http::pricing::Pricing>> {
    Some(Box::new(Anything))
}

/// Sells whatever is asked for, at no count: what is tried here is the hop.
struct Anything;

impl halometer::http::pricing::Pricing for Anything {
    fn meter(
        &self,
        call: &halometer::http::pricing::Call<'_>,
    ) -> Result<Box<dyn halometer::http::pricing::Meter>, halometer::http::pricing::NotSold> {
        let pricing = halometer::http::pricing::BytePricing::new().request(halometer::http::pricing::INPUT_TOKEN);
        pricing.meter(call)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_service_gets_the_target_that_was_signed() {
    let echo = Router::new().fallback(|request: HttpRequest| async move {
        request.uri().path_and_query().map(|target| target.as_str().to_owned()).unwrap_or_default()
    });
    let world = World::selling_with(echo, StackOptions { pricing: any_call(), ..StackOptions::default() }).await;
    let proxied = Proxied::new(&world).await;
    let address = proxied.server.address().to_string();
    let get = async |target: &str| {
        talk(&address, format!("GET {target} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n").as_bytes())
            .await
    };
    for target in [
        "/it's",
        "/{a}?b={c}",
        "/a/../b",
        "/./a",
        "/a\\b\\..\\c",
        "/a%2Fb%2f",
        "//a//b/",
        "/a?",
        "/a/?",
        "/caf\u{e9}?\u{65e5}",
        "/%zz?a=%",
    ] {
        let answer = get(target).await;
        assert!(
            answer.starts_with("HTTP/1.1 200") && answer.ends_with(&format!("\r\n\r\n{target}")),
            "{target}\n{answer}"
        );
    }
    // What cannot be sent as it is costs nothing.
    let before = world.charged();
    for target in ["/a\u{1}b", "/<a>`"] {
        let answer = get(target).await;
        let kept = answer.starts_with("HTTP/1.1 200") && answer.ends_with(&format!("\r\n\r\n{target}"));
        assert!(answer.starts_with("HTTP/1.1 400") || kept || answer.is_empty(), "{target}\n{answer}");
    }
    assert!(world.charged() >= before && world.held() == 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn lengths_types_and_ends_are_kept() {
    let service = Router::new().fallback(|request: HttpRequest| async move {
        let response = Response::builder();
        match request.uri().path() {
            "/head" => response.header("content-length", "1234").body(Body::empty()).unwrap(),
            "/204" => response.status(204).body(Body::empty()).unwrap(),
            "/304" => response.status(304).header("etag", "\"a\"").body(Body::empty()).unwrap(),
            "/untyped" => response.body(Body::from("x")).unwrap(),
            _ => {
                let mut trailers = http::HeaderMap::new();
                trailers.insert("grpc-status", "0".parse().unwrap());
                let body = Frames(vec![Frame::data(Bytes::from_static(b"said")), Frame::trailers(trailers)]);
                response.header("trailer", "grpc-status").body(Body::new(body)).unwrap()
            }
        }
    });
    let (service, options) = free(service);
    let world = World::selling_with(service, StackOptions { pricing: any_call(), ..options }).await;
    let proxied = Proxied::new(&world).await;
    let address = proxied.server.address().to_string();
    let ask = async |line: &str| {
        let request = format!("{line} HTTP/1.1\r\nhost: {address}\r\nte: trailers\r\nconnection: close, te\r\n\r\n");
        talk(&address, request.as_bytes()).await.to_ascii_lowercase()
    };
    assert!(ask("HEAD /head").await.contains("content-length: 1234"));
    for target in ["/204", "/304", "/untyped"] {
        let answer = ask(&format!("GET {target}")).await;
        assert!(!answer.contains("content-type"), "{answer}");
    }
    // Straight from the gateway: a service's trailers go to callers that take them.
    let host = world.host();
    let request = format!("GET /free HTTP/1.1\r\nhost: {host}\r\nte: trailers\r\nconnection: close, te\r\n\r\n");
    let answer = talk(&host, request.as_bytes()).await.to_ascii_lowercase();
    assert!(answer.ends_with("grpc-status: 0\r\n\r\n"), "{answer}");
}

/// Frames, one after the other.
struct Frames(Vec<Frame<Bytes>>);

impl hyper::body::Body for Frames {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        std::task::Poll::Ready((!self.0.is_empty()).then(|| Ok(self.0.remove(0))))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_writes_first_reads_the_refusal() {
    let (service, options) = free(Router::new().fallback(|| async { "here" }));
    let world = World::selling_with(service, options).await;
    let host = world.host();
    let body = vec![b'x'; 12 << 20];
    for (target, status) in [("/free", "413"), ("/v1/chat/completions", "402")] {
        for framing in ["content-length", "chunked"] {
            let mut bytes = match framing {
                "chunked" => format!(
                    "POST {target} HTTP/1.1\r\nhost: {host}\r\ntransfer-encoding: chunked\r\n\r\n{:x}\r\n",
                    body.len()
                ),
                _ => format!(
                    "POST {target} HTTP/1.1\r\nhost: {host}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
                    body.len()
                ),
            }
            .into_bytes();
            bytes.extend_from_slice(&body);
            if framing == "chunked" {
                bytes.extend_from_slice(b"\r\n0\r\n\r\n");
            }
            let mut stream = TcpStream::connect(&host).await.unwrap();
            stream.write_all(&bytes).await.unwrap_or_else(|error| panic!("{target} {framing}: {error}"));
            let mut head = [0; 12];
            stream.read_exact(&mut head).await.unwrap();
            assert_eq!(String::from_utf8_lossy(&head), format!("HTTP/1.1 {status}"), "{framing}");
        }
    }
    assert_eq!((world.charged(), world.held()), (0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upgrade_is_answered_426_and_never_served() {
    let served = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&served);
    let (service, options) = free(Router::new().fallback(move || {
        count.fetch_add(1, Ordering::SeqCst);
        async { "here" }
    }));
    let world = World::selling_with(service, options).await;
    let host = world.host();
    let ask = async |upgrade: &str| {
        let connection = if upgrade.is_empty() { "close" } else { "close, upgrade" };
        let line = if upgrade.is_empty() { String::new() } else { format!("upgrade: {upgrade}\r\n") };
        talk(&host, format!("GET /free HTTP/1.1\r\nhost: {host}\r\nconnection: {connection}\r\n{line}\r\n").as_bytes())
            .await
    };
    for upgrade in ["websocket", "WebSocket", "h2c, websocket", "foo/2"] {
        let answer = ask(upgrade).await;
        assert!(answer.starts_with("HTTP/1.1 426"), "{upgrade}\n{answer}");
    }
    assert_eq!(served.load(Ordering::SeqCst), 0);
    for upgrade in ["", "h2c"] {
        assert!(ask(upgrade).await.starts_with("HTTP/1.1 200"), "{upgrade}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn web_pages_may_ask_the_gateways_own_paths() {
    let world = World::new().await;
    let host = world.host();
    let own = "/.well-known/halometer/directory";
    let ask = async |method: &str, more: &str| {
        let head =
            format!("{method} {own} HTTP/1.1\r\nhost: {host}\r\norigin: https://a\r\nconnection: close\r\n{more}\r\n");
        talk(&host, head.as_bytes()).await.to_ascii_lowercase()
    };
    let answer = ask("GET", "").await;
    assert!(answer.contains("access-control-allow-origin: *") && answer.contains("payment-receipt"), "{answer}");
    let asked = "access-control-request-method: POST\r\naccess-control-request-headers: authorization\r\n";
    assert!(ask("OPTIONS", asked).await.starts_with("http/1.1 200"));
}

/// A service that closes each connection after its first answer without saying so. How many connections there were.
async fn closing() -> (String, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (url, connections) = (format!("http://{}", listener.local_addr().unwrap()), Arc::new(AtomicUsize::new(0)));
    let count = Arc::clone(&connections);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            count.fetch_add(1, Ordering::SeqCst);
            tokio::spawn(async move {
                let mut bytes = [0; 4096];
                let _ = stream.read(&mut bytes).await;
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await;
                // The next request is read, and nothing answered.
                let _ = stream.read(&mut bytes).await;
            });
        }
    });
    (url, connections)
}

#[tokio::test]
async fn a_closed_kept_connection_is_tried_once_more() {
    let (url, connections) = closing().await;
    let upstream = Upstream::new(&url, None, UpstreamLimits::default()).unwrap();
    for expected in 1..=3 {
        let request = Request::post("/x").body(Body::from("question")).unwrap();
        let answer = upstream.clone().oneshot(request).await.unwrap();
        assert_eq!(answer.into_body().collect().await.unwrap().to_bytes(), "ok");
        assert!(connections.load(Ordering::SeqCst) <= expected);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn a_new_connection_that_gives_nothing_is_not_tried_again() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let connections = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&connections);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            count.fetch_add(1, Ordering::SeqCst);
            let _ = stream.read(&mut [0; 4096]).await;
        }
    });
    let upstream = Upstream::new(&url, None, UpstreamLimits::default()).unwrap();
    let answer = upstream.oneshot(Request::post("/x").body(Body::from("question")).unwrap()).await;
    assert!(matches!(answer, Err(UpstreamError::Broken(_))), "{answer:?}");
    assert_eq!(connections.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_wrong_certificate_is_told_with_its_reason() {
    // What speaks no TLS at all.
    let (url, _) = closing().await;
    let url = url.replace("http://", "https://");
    let upstream = Upstream::new(&url, None, UpstreamLimits::default()).unwrap();
    let error = upstream.oneshot(Request::get("/").body(Body::empty()).unwrap()).await.unwrap_err();
    assert!(matches!(error, UpstreamError::Unreachable(_)), "{error:?}");
    assert!(error.to_string().contains("InvalidContentType") || error.to_string().contains("corrupt"), "{error}");
    let none = Upstream::trusting("https://a", None, UpstreamLimits::default(), b"no certificate");
    assert!(matches!(none, Err(UpstreamConfigError::Authorities)));
}
