//! What services really say, through the running gateway: requests that may be read in two ways, answers of many kinds, connections that
//! a service closed. What each dialect's answers cost is in `src/http/pricing/tokens/vectors.rs`.

use std::io::Write as _;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::Request as HttpRequest;
use axum::response::Response;
use halometer::http::clock::now;
use halometer::protocol::*;
use halometer::testing::stack::{StackOptions, UpstreamOptions};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use crate::world::{Answer, CLASS, TARGET, World};

const ASKING: &str = r#"{"stream":true,"messages":[]}"#;
const SAID: &str = "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"Because.\"}}]}\n\n";
const USED: &str = "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":10,\"completion_tokens\":200}}\n\n";
const WHOLE: &str =
    r#"{"choices":[{"message":{"content":"Because."}}],"usage":{"prompt_tokens":10,"completion_tokens":200}}"#;
/// Of the two of them.
const COST: u64 = 2 * 10 + 8 * 200;

/// A service that answers one thing, and what it was asked.
fn service(
    status: u16,
    headers: &'static [(&'static str, &'static str)],
    body: Vec<u8>,
) -> (Router, Arc<Mutex<Vec<Bytes>>>) {
    let asked = Arc::<Mutex<Vec<Bytes>>>::default();
    let seen = asked.clone();
    let service = Router::new().fallback(move |request: HttpRequest| {
        let (seen, body) = (seen.clone(), body.clone());
        async move {
            assert!(!request.headers().contains_key("content-encoding"));
            let asked = axum::body::to_bytes(request.into_body(), 1 << 20).await.unwrap();
            seen.lock().unwrap().push(asked);
            let answer = headers
                .iter()
                .fold(Response::builder().status(status), |answer, (name, value)| answer.header(*name, *value));
            answer.body(Body::from(body)).unwrap()
        }
    });
    (service, asked)
}

/// Pays for a request that is sent as it stands; the answer, and what it cost. None if nothing was spent.
async fn send(world: &World, target: &str, headers: &str, body: &[u8]) -> (Answer, Option<u64>) {
    let mut caller = world.caller();
    let host = world.host();
    let request = Request::new(&host, "POST", target, ContentDigest::of(body)).unwrap();
    let (key, opening) = caller.pay_request(world, &request);
    let authorization = world.opening(&opening);
    let length = body.len();
    let head = format!(
        "POST {target} HTTP/1.1\r\nHost: {host}\r\nContent-Length: {length}\r\nConnection: close\r\nAuthorization: {authorization}\r\n{headers}\r\n"
    );
    let answer = world.raw(&[head.as_bytes(), body].concat()).await.expect("an answer");
    crate::world::until(|| world.held() == 0).await;
    let fetched = world.fetch(&mut caller, &key).await;
    let cost =
        (fetched.status == 200).then(|| caller.wallet.accept(&key, &fetched.fetched(), now()).unwrap().cost.micro());
    (answer, cost)
}

fn gzip(content: &[u8]) -> Vec<u8> {
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    gzip.write_all(content).unwrap();
    gzip.finish().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_may_be_read_in_two_ways_spends_nothing() {
    let (service, asked) = service(200, &[("content-type", "text/event-stream")], [SAID, USED].concat().into_bytes());
    let world = World::selling(service).await;
    let json = "Content-Type: application/json\r\n";
    let wide: Vec<u8> = ASKING.encode_utf16().flat_map(u16::to_le_bytes).collect();
    let marked = [b"\xef\xbb\xbf", ASKING.as_bytes()].concat();
    for (target, headers, body, status) in [
        (TARGET, json, &br#"{"stream":"true","messages":[]}"#[..], 400),
        (TARGET, json, br#"{"stream":1,"messages":[]}"#, 400),
        (TARGET, json, br#"{"stream":true,"Stream":false}"#, 400),
        (TARGET, json, &marked, 400),
        (TARGET, json, &wide, 400),
        (TARGET, "Content-Type: application/json; charset=utf-16\r\n", &wide, 415),
        (TARGET, "Content-Encoding: br\r\n", ASKING.as_bytes(), 415),
        (TARGET, "Content-Encoding: gzip\r\n", ASKING.as_bytes(), 400),
        ("/v1/chat/completions/", json, ASKING.as_bytes(), 404),
        ("/v1//chat/completions", json, ASKING.as_bytes(), 404),
        ("/v1/Chat/Completions", json, ASKING.as_bytes(), 404),
        ("/v1/chat/completions;x=1", json, ASKING.as_bytes(), 404),
        ("/v1/batches", json, b"{}", 404),
    ] {
        let (answer, cost) = send(&world, target, headers, body).await;
        assert_eq!((answer.status, cost), (status, None), "{target} {headers}{}", String::from_utf8_lossy(body));
    }
    assert_eq!((asked.lock().unwrap().len(), world.charged()), (0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_compressed_request_is_signed_as_sent_and_passed_on_decoded() {
    let (service, asked) = service(200, &[("content-type", "text/event-stream")], [SAID, USED].concat().into_bytes());
    let world = World::selling(service).await;
    let headers = "Content-Type: application/json\r\nContent-Encoding: gzip\r\n";
    let (answer, cost) = send(&world, TARGET, headers, &gzip(ASKING.as_bytes())).await;
    assert_eq!((answer.status, cost), (200, Some(COST)));
    assert!(
        String::from_utf8_lossy(&answer.body).contains("Because.")
            && !String::from_utf8_lossy(&answer.body).contains("usage")
    );
    let asked = asked.lock().unwrap().clone();
    assert_eq!(asked, [r#"{"stream":true,"messages":[],"stream_options":{"include_usage":true}}"#]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_is_metered_whatever_it_is_said_to_be() {
    let stream = [SAID, USED, "data: [DONE]\n\n"].concat();
    for (headers, body) in [
        (&[("content-type", "application/json")][..], stream.clone().into_bytes()),
        (&[], stream.clone().into_bytes()),
        (&[("content-type", "text/plain")], stream.into_bytes()),
        (&[("content-type", "application/json"), ("content-encoding", "gzip")], gzip(WHOLE.as_bytes())),
        (
            &[("content-type", "text/event-stream"), ("content-encoding", "gzip")],
            gzip([SAID, USED].concat().as_bytes()),
        ),
    ] {
        let (service, _) = service(200, headers, body);
        let world = World::selling(service).await;
        let (answer, cost) = send(&world, TARGET, "", ASKING.as_bytes()).await;
        assert_eq!((answer.status, cost), (200, Some(COST)), "{headers:?}");
        let body = String::from_utf8_lossy(&answer.body).into_owned();
        assert!(body.contains("Because.") && answer.header("content-encoding").is_none(), "{headers:?} {body}");
        assert!(body.starts_with('{') || !body.contains("usage"), "{headers:?} {body}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_priced_is_withheld_and_given_back() {
    let dear = WHOLE.replace("200}", "4000}");
    for (headers, body, status, expected) in [
        (&[("content-type", "application/json"), ("content-encoding", "br")][..], WHOLE.as_bytes().to_vec(), 502, 0),
        (
            &[("content-type", "application/json"), ("content-encoding", "gzip")],
            gzip(dear.as_bytes()),
            402,
            CLASS.micro(),
        ),
        (&[("content-type", "application/json; charset=utf-16")], WHOLE.as_bytes().to_vec(), 502, 0),
        (&[("content-type", "audio/mpeg")], vec![0; 5_000], 502, 0),
    ] {
        let (service, _) = service(200, headers, body);
        let world = World::selling(service).await;
        let (answer, cost) = send(&world, TARGET, "", ASKING.as_bytes()).await;
        assert_eq!((answer.status, cost), (status, Some(expected)), "{headers:?}");
        assert!(!String::from_utf8_lossy(&answer.body).contains("Because."));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_paid_for_nothing() {
    let error = r#"{"error":{"message":"overloaded"}}"#;
    for (status, headers, body) in [
        (200, &[][..], String::new()),
        (200, &[("content-type", "text/event-stream")], String::new()),
        (204, &[], String::new()),
        (200, &[("content-type", "application/json")], error.to_owned()),
        (200, &[("content-type", "text/event-stream")], format!("data: {error}\n\n")),
    ] {
        let (service, _) = service(status, headers, body.clone().into_bytes());
        let world = World::selling(service).await;
        let (answer, cost) = send(&world, TARGET, "", ASKING.as_bytes()).await;
        assert_eq!((answer.status, cost), (status, Some(0)), "{headers:?}");
        assert_eq!(
            String::from_utf8_lossy(&answer.body).replace("\r\n", "").contains("overloaded"),
            body.contains("overloaded")
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kept_connection_that_was_closed_is_tried_once_more() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let connections = Arc::new(AtomicUsize::new(0));
    let counted = connections.clone();
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let connection = counted.fetch_add(1, Ordering::SeqCst);
            tokio::spawn(async move {
                // One answer for each connection; the next request on it is read, and the connection closed.
                for answered in 0..2 {
                    let mut read = vec![0; 64 << 10];
                    let mut request = Vec::new();
                    while !request.ends_with(b"}") {
                        let size = stream.read(&mut read).await.unwrap_or(0);
                        if size == 0 {
                            return;
                        }
                        request.extend_from_slice(&read[..size]);
                    }
                    // From the fourth connection on, not even that.
                    if answered == 1 || connection >= 3 {
                        return;
                    }
                    let answer = format!(
                        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{WHOLE}",
                        WHOLE.len()
                    );
                    stream.write_all(answer.as_bytes()).await.unwrap();
                }
            });
        }
    });
    let upstream = Some(UpstreamOptions { url, api_key: None });
    let world = World::with(StackOptions { upstream, ..StackOptions::default() }).await;
    for (status, cost, made) in [(200, COST, 1), (200, COST, 2)] {
        let (answer, paid) = send(&world, TARGET, "", br#"{"messages":[]}"#).await;
        assert_eq!((answer.status, paid, connections.load(Ordering::SeqCst)), (status, Some(cost), made));
    }
    // A fresh connection that is closed is no reason to try again, and costs nothing.
    connections.store(3, Ordering::SeqCst);
    let (answer, paid) = send(&world, TARGET, "", br#"{"messages":[]}"#).await;
    assert_eq!((answer.status, paid, connections.load(Ordering::SeqCst)), (502, Some(0), 4));
}
